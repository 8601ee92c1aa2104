//! What a decision rests on and what it leaves on record, where a scenario's log does not show it.

#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

mod sim;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sim::{Answer, SECOND, Sim, by};
use watchover::domain::decide::{App, Front, Input};
use watchover::domain::gates::{Around, Found, Preflight, View};
use watchover::domain::health::SignalHealth;
use watchover::domain::ledger::{Entry, GateState, Ledger, Left, Pause, Record, Wish};
use watchover::domain::model::{
    Cause, Direction, Finding, LagSample, Look, Mode, Moment, ReplicaReading, ReplicaState, SiteName, State, Subject, Trigger, Verdict,
};
use watchover::domain::orders::Order;
use watchover::domain::plan::{Class, OnFailure, Plan, PlannedStep};
use watchover::domain::policy::AppPolicy;
use watchover::domain::quorum::Point;
use watchover::domain::report::Report;
use watchover::domain::rpo::{Assumption, Exposure, Lags};

fn at(seconds: i64) -> Moment {
    Moment { mono: seconds * SECOND, wall: seconds * SECOND }
}

/// Nothing of either site was looked at yet.
fn unseen(policy: &AppPolicy) -> [Vec<SignalHealth>; 2] {
    [SiteName::Primary, SiteName::Standby].map(|site| vec![SignalHealth::default(); policy.site(site).signals.len()])
}

/// A row of the app's only incident.
fn row(second: i64, entry: Entry) -> Record {
    Record { seq: 1, at: at(second), boot_id: "boot".into(), app: Some("shop".into()), incident: Some("shop-1".into()), epoch: 1, entry }
}

#[test]
fn a11_one_replica_of_two_that_was_never_read_leaves_the_loss_unknown() {
    let (mut policy, ledger, around) = (sim::policy(), Ledger::default(), Around::default());
    policy.standby.signals.push(policy.standby.signals[1].clone());
    let sample = |at: i64| LagSample { at: at * SECOND, period: 60 * SECOND, seconds: 2.0 };
    let loss = |read: &[(usize, i64)]| {
        let lags: Lags = read.iter().map(|&(signal, at)| ((SiteName::Standby, signal), vec![sample(at)])).collect();
        let (policy, ledger, around) = (&policy, &ledger, &around);
        View {
            policy,
            ledger,
            signals: [&[], &[]],
            lags: &lags,
            front: &Front::default(),
            preflight: None,
            around,
            now: at(600),
            telling: false,
        }
        .exposure(Direction::ToStandby)
        .seconds
    };
    assert_eq!(loss(&[(1, 540)]), None);
    assert_eq!(loss(&[(1, 540), (2, 480)]), Some(122.0));
    assert_eq!(loss(&[(1, 420), (2, 540)]), Some(182.0));
}

/// Only what the move cannot do without holds it back before it began, and what did not answer is said.
#[test]
fn a_step_that_would_be_refused_holds_the_move_back_unless_it_goes_on_without_it() {
    let mut policy = sim::policy();
    policy.failover.steps.retain(|step| matches!(step.name.as_str(), "capacity" | "traffic"));
    policy.failover.steps[0].on_failure = OnFailure::Continue;
    let gate = |capacity: Found, traffic: Found| {
        let steps = [("capacity".to_owned(), capacity), ("traffic".to_owned(), traffic)].into();
        let preflight = Preflight { direction: Direction::ToStandby, at: at(50), steps, autonomy: BTreeMap::new() };
        let (ledger, around, lags, unseen) = (&Ledger::default(), &Around::default(), &Lags::new(), unseen(&policy));
        let (signals, preflight) = (unseen.each_ref().map(Vec::as_slice), Some(&preflight));
        let view = View { policy: &policy, ledger, signals, lags, front: &Front::default(), preflight, around, now: at(60), telling: true };
        let gate = view.gates(Direction::ToStandby, Point::Start).1.into_iter().find(|gate| gate.name == "preflight").unwrap();
        (gate.state, gate.words)
    };
    let no = || Found::Refused("not allowed".into());
    let all = "inspected 10s ago; every step can be done".to_owned();
    assert_eq!(gate(Found::Possible, Found::AlreadySo), (GateState::Open, all.clone()));
    assert_eq!(gate(no(), Found::Possible), (GateState::Open, all));
    assert_eq!(gate(Found::Possible, no()), (GateState::Shut, "inspected 10s ago; traffic: not allowed".to_owned()));
    let (state, words) = gate(Found::Possible, Found::Unknown("no answer in time".into()));
    assert_eq!((state, words.contains("not everything answered: traffic: no answer in time")), (GateState::Open, true), "{words}");
}

/// A step whose turn came right before a pause is looked at once a second while it lasts, and not as fast as it answers.
#[test]
fn a12_a_step_that_is_held_back_by_a_pause_is_looked_at_once_a_second() {
    let mut sim = Sim::new(sim::policy());
    sim.run_for(60.0);
    sim.world.primary = Answer::Down(Cause::Refused);
    let begun = |sim: &Sim| sim.records().last().is_some_and(|row| row.entry.kind() == "step-started");
    assert!(sim.run_till(20.0, begun));
    sim.order(Order::Pause { length: Duration::from_secs(3600), by: by("maintenance") }).unwrap();
    sim.run_for(60.0);
    let capacity = &sim.world.steps["capacity"];
    assert_eq!(capacity.applies, 0);
    assert!((55..=65).contains(&capacity.looks), "{}", capacity.looks);
}

/// What a person's command opens, and what not even `--force` does.
#[test]
fn a10_a_command_opens_the_gates_that_stand_for_a_persons_word() {
    let gates = |direction: Direction, force: Option<bool>, change: fn(&mut Ledger, &mut AppPolicy, &mut Around)| {
        let (mut ledger, mut policy) = (Ledger { active: Some(direction.source()), ..Ledger::default() }, sim::policy());
        let mut around = Around { max_groups: 1, ..Around::default() };
        change(&mut ledger, &mut policy, &mut around);
        if let Some(force) = force {
            let opened = Entry::Opened { trigger: Trigger::Operator, direction, first_failed: None, words: String::new() };
            ledger.apply(&row(5, opened)).unwrap();
            let wish = Wish { by: by("drill"), accept_loss: None, shown: None, force, graceful: false };
            ledger.apply(&row(5, Entry::Commanded { wish, first_failed: None })).unwrap();
        }
        let (policy, ledger, around, lags, unseen) = (&policy, &ledger, &around, &Lags::new(), unseen(&policy));
        let signals = unseen.each_ref().map(Vec::as_slice);
        let view = View { policy, ledger, signals, lags, front: &Front::default(), preflight: None, around, now: at(5), telling: true };
        view.gates(direction, Point::Start).1
    };
    let shut = |direction: Direction, force: Option<bool>, change: fn(&mut Ledger, &mut AppPolicy, &mut Around)| {
        let judged = ["direction", "not-paused", "mode", "startup-grace", "cooldown", "blast-radius"];
        let closed = gates(direction, force, change)
            .into_iter()
            .filter(|gate| gate.state != GateState::Open && judged.contains(&gate.name.as_str()));
        closed.map(|gate| gate.name).collect::<Vec<_>>()
    };
    let (there, back) = (Direction::ToStandby, Direction::ToPrimary);
    let well: fn(&mut Ledger, &mut AppPolicy, &mut Around) = |_, policy, _| policy.startup_grace = Duration::ZERO;
    assert_eq!(shut(there, None, well), [""; 0]);
    assert_eq!(shut(back, None, well), ["direction"]);
    assert_eq!(shut(back, Some(false), well), [""; 0]);

    let all: fn(&mut Ledger, &mut AppPolicy, &mut Around) = |ledger, policy, around| {
        ledger.paused = Some(Pause { until: 6 * SECOND, by: by("maintenance") });
        ledger.last_move = Some(Moment::default());
        policy.mode = Mode::Observe;
        around.moving = vec!["another".into()];
    };
    assert_eq!(shut(there, None, all), ["not-paused", "mode", "startup-grace", "cooldown", "blast-radius"]);
    assert_eq!(shut(there, Some(false), all), ["startup-grace", "cooldown", "blast-radius"]);
    assert_eq!(shut(there, Some(true), all), [""; 0]);
    let of_pause = |change| gates(there, Some(false), change).into_iter().find(|gate| gate.name == "not-paused").unwrap().words;
    assert_eq!(of_pause(all), "paused by alice, but a person commands this move");

    // Whoever moves already waits for nobody of a higher priority, and a group that only waits does.
    let ahead: fn(&mut Ledger, &mut AppPolicy, &mut Around) = |_, policy, around| {
        policy.startup_grace = Duration::ZERO;
        (around.max_groups, around.ahead) = (2, Some("another".into()));
    };
    assert_eq!(shut(there, None, ahead), ["blast-radius"]);
    let moving: fn(&mut Ledger, &mut AppPolicy, &mut Around) = |_, policy, around| {
        policy.startup_grace = Duration::ZERO;
        (around.max_groups, around.ahead, around.moving) = (2, Some("another".into()), vec!["shop".into()]);
    };
    assert_eq!(shut(there, None, moving), [""; 0]);
    // A pause that is over is none.
    let over: fn(&mut Ledger, &mut AppPolicy, &mut Around) = |ledger, policy, _| {
        policy.startup_grace = Duration::ZERO;
        ledger.paused = Some(Pause { until: 5 * SECOND, by: by("maintenance") });
    };
    assert_eq!(shut(there, None, over), [""; 0]);
    assert_eq!(of_pause(over), "not paused any more");
}

/// Who says how much may be lost means it: less than the objective is less.
#[test]
fn a10_what_a_person_accepts_is_meant_be_it_less_than_the_objective() {
    let mut sim = Sim::new(AppPolicy { mode: Mode::Approval, ..sim::policy() });
    sim.run_until(60 * SECOND);
    let command = |accept| Order::Move {
        to: SiteName::Standby,
        wish: Wish { by: by("drill"), accept_loss: Some(accept), shown: None, force: false, graceful: false },
    };
    let refusal = sim.order(command(1.0)).unwrap_err();
    assert!(refusal.gates.iter().any(|gate| gate.name == "data-loss" && gate.words.contains("no more than 1.0s was accepted")));
    sim.world.primary = Answer::Down(Cause::Refused);
    assert!(sim.run_till(60.0, |sim| sim.state() == State::AwaitingApproval));
    let id = sim.app().ledger().incident.as_ref().unwrap().id.clone();
    let approve = |accept_loss| Order::Approve { incident: id.clone(), by: by("go"), accept_loss };
    let refusal = sim.order(approve(Some(1.0))).unwrap_err();
    assert!(refusal.words.contains("this would lose data: at most"), "{}", refusal.words);
    sim.order(approve(Some(250.0))).unwrap();
    assert!(sim.run_till(60.0, |sim| sim.state() == State::Watching));
    assert_eq!(sim.app().ledger().active, Some(SiteName::Standby));
}

/// What was asked for goes on in the world when nobody of us looks any more, and whoever adopts the target lives with the loss.
#[test]
fn an_aborted_promotion_is_named_and_its_loss_stays_on_record() {
    for (site, recorded) in [(SiteName::Standby, true), (SiteName::Primary, false)] {
        let mut sim = Sim::new(sim::policy());
        sim.run_until(60 * SECOND);
        sim.world.primary = Answer::Down(Cause::Refused);
        assert!(sim.run_till(60.0, |sim| sim.effects("promote") == 1));
        let id = sim.app().ledger().incident.as_ref().unwrap().id.clone();
        sim.order(Order::Abort { incident: id, by: by("stop") }).unwrap();
        let (words, waits_for) = sim.app().ledger().incident.as_ref().unwrap().stuck.clone().unwrap();
        assert!(words.starts_with("aborted: stop; promote was asked for and not read back"), "{words}");
        assert!(waits_for.contains("watchover adopt shop "), "{waits_for}");
        sim.order(Order::Adopt { site, by: by("by hand") }).unwrap();
        let rpo = sim.records().into_iter().find_map(|row| match row.entry {
            Entry::Closed { figures, .. } => Some(figures.rpo),
            _ => None,
        });
        assert_eq!(rpo.unwrap().is_some(), recorded, "{site}");
    }
}

/// Before anything final is asked for there is nothing to look for in the world.
#[test]
fn an_aborted_move_that_had_not_promoted_names_no_promotion() {
    let mut sim = Sim::new(sim::policy());
    sim.run_until(60 * SECOND);
    sim.world.steps.get_mut("fence").unwrap().takes = 3 * SECOND;
    sim.world.primary = Answer::Down(Cause::Refused);
    assert!(sim.run_till(60.0, |sim| sim.effects("fence") == 1));
    let id = sim.app().ledger().incident.as_ref().unwrap().id.clone();
    sim.order(Order::Abort { incident: id, by: by("stop") }).unwrap();
    assert_eq!(sim.app().ledger().incident.as_ref().unwrap().stuck.as_ref().unwrap().0, "aborted: stop");
}

/// Whom others wait for: who is down, is not contradicted, and will have been down for long enough soon.
#[test]
fn an_outage_is_about_to_be_confirmed_once_it_is_one_and_not_ten_minutes_ahead() {
    let said = |min_outage: u64, looks: f64, well: bool| {
        let mut sim = Sim::new(AppPolicy { mode: Mode::Observe, min_outage: Duration::from_secs(min_outage), ..sim::policy() });
        sim.run_until(60 * SECOND);
        sim.world.primary = Answer::Down(Cause::Refused);
        sim.run_for(looks);
        if well {
            sim.world.primary = Answer::Up;
            sim.run_for(0.5);
        }
        sim.app().is_about_to_be_confirmed(sim.moment_now())
    };
    assert!(!said(3, 1.1, false), "one failed look");
    assert!(said(3, 2.5, false));
    assert!(!said(3, 2.5, true), "contradicted");
    assert!(!said(600, 2.5, false), "not soon");
}

/// A planned move loses nothing, because the step that moves the data waits for the last of it; a program may not.
#[test]
fn a31_a_planned_move_opens_the_data_loss_gate_unless_a_program_moves_the_data() {
    let gate = |graceful: bool, class: Class| {
        let mut policy = AppPolicy { rpo_objective: Duration::from_secs(60), ..sim::policy() };
        policy.failover.steps.iter_mut().filter(|step| step.class == class).for_each(|step| step.kind = "command".into());
        let mut ledger = Ledger { active: Some(SiteName::Primary), ..Ledger::default() };
        let (trigger, direction) = (Trigger::Operator, Direction::ToStandby);
        ledger.apply(&row(5, Entry::Opened { trigger, direction, first_failed: None, words: String::new() })).unwrap();
        let wish = Wish { by: by("drill"), accept_loss: None, shown: None, force: false, graceful };
        ledger.apply(&row(5, Entry::Commanded { wish, first_failed: None })).unwrap();
        let (app, around) = (App::new(policy.into(), ledger, 1), Around::default());
        app.view(&around, at(5)).gates(direction, Point::Start).1.into_iter().find(|gate| gate.name == "data-loss").unwrap().state
    };
    assert_eq!(gate(true, Class::Other), GateState::Open, "a program that moves no data says nothing of it");
    assert_eq!(gate(true, Class::Data), GateState::Asks);
    assert_eq!(gate(false, Class::Other), GateState::Asks);
}

/// Our own failover has moved the data, and the way back does not: nobody can say what is lost with it, and nothing but a
/// person's word that names it opens the gate.
#[test]
fn a08_a_way_back_that_leaves_the_data_behind_has_no_figure_and_is_not_free() {
    let policy = AppPolicy { mode: Mode::Automatic, ..sim::policy() };
    let mut back = policy.failover.clone();
    back.steps.retain(|step| step.class == Class::Traffic);
    back.steps.iter_mut().for_each(|step| step.after.clear());
    let policy = AppPolicy { failback: Plan { direction: Direction::ToPrimary, ..back }, ..policy };
    let gate = |accept_loss, graceful| {
        let mut ledger = Ledger { active: Some(SiteName::Standby), ..Ledger::default() };
        let opened =
            Entry::Opened { trigger: Trigger::Operator, direction: Direction::ToPrimary, first_failed: None, words: String::new() };
        ledger.apply(&row(5, opened)).unwrap();
        let wish = Wish { by: by("back"), accept_loss, shown: None, force: true, graceful };
        ledger.apply(&row(5, Entry::Commanded { wish, first_failed: None })).unwrap();
        let (around, lags, unseen) = (Around { max_groups: 1, ..Around::default() }, Lags::new(), unseen(&policy));
        let signals = unseen.each_ref().map(Vec::as_slice);
        let view = View {
            policy: &policy,
            ledger: &ledger,
            signals,
            lags: &lags,
            front: &Front::default(),
            preflight: None,
            around: &around,
            now: at(5),
            telling: true,
        };
        let (_, gates, exposure) = view.gates(Direction::ToPrimary, Point::Start);
        assert_eq!((exposure.seconds, exposure.assumption), (None, Assumption::DataStays), "{}", exposure.words());
        assert!(exposure.words().ends_with("what was written since stays behind"), "{}", exposure.words());
        gates.into_iter().find(|gate| gate.name == "data-loss").unwrap().state
    };
    assert_eq!(gate(None, false), GateState::Asks);
    assert_eq!(gate(None, true), GateState::Asks, "in order or not: nothing is drained");
    assert_eq!(gate(Some(3600.0), false), GateState::Asks);
    assert_eq!(gate(Some(f64::INFINITY), false), GateState::Open);
}

#[test]
fn what_is_shown_of_an_app_is_what_was_read_and_reported() {
    let mut sim = Sim::new(sim::policy());
    sim.run_until(60 * SECOND);
    sim.world.primary = Answer::Down(Cause::Refused);
    assert!(sim.run_till(60.0, |sim| sim.state() == State::Moving), "{}", sim.log().join("\n"));
    let mut app = sim.app().clone();
    assert_eq!(app.lag(SiteName::Standby, 1).map(|sample| sample.seconds), Some(sim.world.lag));
    assert_eq!(app.replica_state(SiteName::Standby, 1), Some(ReplicaState::Replicating));
    assert_eq!((app.lag(SiteName::Standby, 0), app.replica_state(SiteName::Primary, 0)), (None, None));

    let incident = app.ledger().incident.as_ref().unwrap().id.clone();
    let mut says = |epoch, words: &str| {
        let (incident, step) = (incident.clone(), "promote".to_owned());
        app.observe(Input::Step { incident, epoch, step, report: Report::Progress(words.to_owned()) });
        app.progress("promote").map(str::to_owned)
    };
    let epoch = sim.app().epoch();
    assert_eq!(says(epoch, "modifying").as_deref(), Some("modifying"));
    assert_eq!(says(epoch - 1, "of an older takeover").as_deref(), Some("modifying"));
    assert_eq!(app.progress("capacity"), None);
}

#[test]
fn the_phases_say_where_the_time_went() {
    let phases = |mode: Mode, order: fn(&mut Sim)| {
        let mut sim = Sim::new(AppPolicy { mode, ..sim::policy() });
        sim.run_until(30 * SECOND);
        if mode == Mode::Automatic {
            sim.order(Order::Pause { length: Duration::from_secs(3600), by: by("maintenance") }).unwrap();
        }
        sim.run_until(60 * SECOND);
        sim.world.primary = Answer::Down(Cause::Refused);
        sim.run_until(100 * SECOND);
        order(&mut sim);
        assert!(sim.run_till(60.0, |sim| sim.state() == State::Watching), "{}", sim.log().join("\n"));
        let figures = sim.app().ledger().last_figures.last().unwrap().2.clone();
        let sum: f64 = figures.phases.values().sum();
        assert!((sum - figures.rto_seconds.unwrap()).abs() < 1e-6, "{figures:?}");
        figures.phases
    };
    let near = |seconds: f64, wanted: f64| (seconds - wanted).abs() < 1.0;
    let held = phases(Mode::Automatic, |sim| drop(sim.order(Order::Resume { by: by("done") })));
    // From the first failed look at 61 to the decision at 64, the word at 100, and a fence and a promotion of 5 s.
    assert!(near(held["detect"], 3.0) && near(held["hold"], 36.0) && held["approve"] < 0.001 && near(held["execute"], 5.0), "{held:?}");
    let approved = phases(Mode::Approval, |sim| {
        let incident = sim.app().ledger().incident.as_ref().unwrap().id.clone();
        sim.order(Order::Approve { incident, by: by("go"), accept_loss: Some(f64::INFINITY) }).unwrap();
    });
    assert!(near(approved["detect"], 3.0) && near(approved["approve"], 36.0) && approved["hold"] < 0.001, "{approved:?}");
    assert!(near(approved["execute"], 5.0) && near(approved["prove"], 2.0), "{approved:?}");
}

/// What a pulse would meet late.
#[test]
fn it_wakes_when_an_outage_is_old_enough_when_the_grace_is_over_and_when_a_wait_is() {
    let mut sim = Sim::new(sim::policy());
    sim.run_until(60 * SECOND);
    let wakes = |sim: &Sim, started: i64| {
        let started = Moment { mono: started, wall: started };
        sim.app().wakes(&Around { started, ..Around::default() }, sim.moment_now()).map(|at| at.mono)
    };
    assert_eq!(wakes(&sim, 0), None);
    sim.world.primary = Answer::Down(Cause::Refused);
    sim.world.steps.get_mut("promote").unwrap().throttles = 1;
    assert!(sim.run_till(10.0, |sim| sim.state() == State::Suspect && wakes(sim, 0).is_some()));
    let woken = wakes(&sim, 0).unwrap();
    assert!(sim.run_till(10.0, |sim| sim.state() == State::Moving));
    let confirmed = sim.records().into_iter().find_map(|row| match row.entry {
        Entry::Confirmed { first_failed, .. } => Some(first_failed.mono),
        _ => None,
    });
    assert_eq!(woken, confirmed.unwrap() + 3 * SECOND);
    // The promotion was turned away, and is asked for again after a while.
    assert!(sim.run_till(10.0, |sim| wakes(sim, 0).is_some()), "{}", sim.log().join("\n"));
    let waits = wakes(&sim, 0).unwrap() - sim.now();
    assert!((1..=SECOND).contains(&waits), "{waits}");

    let mut sim = Sim::new(sim::policy());
    sim.world.primary = Answer::Down(Cause::Refused);
    assert!(sim.run_till(9.0, |sim| sim.state() == State::Held), "{}", sim.log().join("\n"));
    assert_eq!(wakes(&sim, SECOND), Some(11 * SECOND));
    assert_eq!(wakes(&sim, -60 * SECOND), None, "long over");
}

/// A move over two databases and two fences, folded from rows: what each step left, and when.
fn two_of_each(facts: &[(&str, i64, Value)]) -> Ledger {
    let steps = sim::policy().failover.steps;
    let twice = |step: &PlannedStep| [step.clone(), PlannedStep { name: format!("{}-2", step.name), ..step.clone() }];
    let plan = Plan { direction: Direction::ToStandby, steps: steps.iter().take(2).flat_map(twice).collect() };
    let mut ledger = Ledger { active: Some(SiteName::Primary), ..Ledger::default() };
    let opened = Entry::Opened { trigger: Trigger::Outage, direction: plan.direction, first_failed: Some(at(60)), words: String::new() };
    let mut rows =
        vec![row(60, opened), row(64, Entry::Confirmed { first_failed: at(60), words: String::new() }), row(64, Entry::Planned { plan })];
    for (step, second, facts) in facts {
        let step = || (*step).to_owned();
        rows.push(row(*second - 1, Entry::StepStarted { step: step() }));
        rows.push(row(*second, Entry::StepIntent { step: step(), attempt: 1, found: Value::Null }));
        rows.push(row(*second + 5, Entry::StepVerified { step: step(), already: false, facts: facts.clone() }));
    }
    rows.iter().for_each(|row| ledger.apply(row).unwrap());
    ledger
}

#[test]
fn nothing_is_lost_only_if_every_database_was_seen_drained_behind_every_fence() {
    let sample = |second: i64| LagSample { at: second * SECOND, period: 60 * SECOND, seconds: 0.0 };
    let proven = |second: i64| json!({"fence": "proven", "at": second * SECOND});
    let drained = |second: i64| json!({"drain": {"drained": true, "evidence": sample(second)}});
    let undrained = json!({"drain": {"drained": false, "evidence": sample(90)}});
    let loss_of =
        |ledger: Ledger| App::new(sim::policy().into(), ledger, 1).view(&Around::default(), at(200)).exposure(Direction::ToStandby);
    let loss = |facts: &[(&str, i64, Value)]| loss_of(two_of_each(facts));
    let fences = [("fence", 66, proven(70)), ("fence-2", 66, proven(72))];
    let with = |more: &[(&'static str, i64, Value)]| [&fences[..], more].concat();
    let found = loss(&with(&[("promote", 80, drained(90)), ("promote-2", 80, drained(95))]));
    assert_eq!((found.seconds, found.assumption, found.sample), (Some(0.0), Assumption::Drained, Some(sample(95))));
    assert_eq!(found.end_of_writes, 72 * SECOND, "the later fence");
    for one in [vec![("promote", 80, drained(90))], vec![("promote", 80, drained(90)), ("promote-2", 80, undrained)]] {
        assert_eq!(loss(&with(&one)).seconds, None, "{one:?}");
    }
    let one_fence = [("fence", 66, proven(70)), ("promote", 80, drained(90)), ("promote-2", 80, drained(95))];
    assert_eq!(loss(&one_fence).seconds, None);
    // What answers behind its fence has not been drained.
    let seen = |second: i64| {
        let mut ledger = two_of_each(&with(&[("promote", 80, drained(90)), ("promote-2", 80, drained(95))]));
        let words = "primary.alb answers".to_owned();
        ledger.apply(&row(100, Entry::OldSiteSeen { incident: "shop-1".into(), site: SiteName::Primary, at: at(second), words })).unwrap();
        loss_of(ledger).assumption
    };
    assert_eq!((seen(71), seen(99)), (Assumption::Drained, Assumption::OldSiteSeen));
}

/// What is on record of the front door, and what was seen of it since: before the data has moved, and after.
#[test]
fn writes_end_where_the_front_door_was_last_seen_lost_and_not_before_anybody_watched() {
    let primary = Some(SiteName::Primary);
    let (up, down, blind) = (Verdict::Up, Verdict::Down(Cause::Refused), Verdict::Unknown(Cause::ResolverTimeout));
    let end_of_writes = |looks: &[(i64, Verdict, Option<SiteName>)], awake: i64, moved: bool| {
        let promoted = [("promote", 80, Value::Null), ("promote-2", 80, Value::Null)];
        let mut ledger = two_of_each(if moved { &promoted } else { &[] });
        ledger.apply(&row(90, Entry::FrontDoorLost { at: at(62) })).unwrap();
        let mut app = App::new(sim::policy().into(), ledger, 1);
        for (second, verdict, from) in looks {
            let finding = Finding { from: *from, ..Finding::new(*verdict, "") };
            app.observe(Input::Look(Look { subject: Subject::FrontDoor, sent: at(*second), done: at(*second), finding }));
        }
        let around = Around { awake: at(awake), ..Around::default() };
        app.view(&around, at(200)).exposure(Direction::ToStandby).end_of_writes / SECOND
    };
    assert_eq!(end_of_writes(&[], 0, false), 62);
    assert_eq!(end_of_writes(&[(61, down, None)], 0, false), 62, "what is on record is the later");
    assert_eq!(end_of_writes(&[(62, down, None), (100, up, primary), (110, down, None)], 0, false), 110, "it has answered since");
    assert_eq!(end_of_writes(&[(62, down, None), (100, up, primary)], 0, false), 200, "it answers");
    assert_eq!(end_of_writes(&[(62, down, None), (100, blind, None), (101, blind, None), (102, blind, None)], 0, false), 200, "unseen");
    assert_eq!(end_of_writes(&[], 70, false), 200, "nobody has watched it since");
    assert_eq!(end_of_writes(&[(110, down, None)], 70, false), 110);
    // Users may be elsewhere by now: the record stands, unless it was seen lost later.
    assert_eq!(end_of_writes(&[], 70, true), 62);
    assert_eq!(end_of_writes(&[(110, down, None)], 70, true), 110);
}

/// Of a replica that the outage found before us a sample from before it says that it was well.
#[test]
fn a_replica_that_the_outage_found_before_us_was_well_if_a_sample_says_so() {
    let is_missing = |sample: Option<(i64, f64)>, kept: bool, started: i64| {
        let mut policy = sim::policy();
        policy.standby.signals[0].required = watchover::domain::policy::Required::Never;
        let mut ledger = two_of_each(&[]);
        let sample = sample.map(|(at, seconds)| LagSample { at: at * SECOND, period: 60 * SECOND, seconds });
        if let (Some(incident), true) = (&mut ledger.incident, kept) {
            incident.exposure =
                Some(Exposure { seconds: Some(1.0), sample, end_of_writes: 0, assumption: Assumption::NoWritesPastFrontDoor });
        }
        let mut app = App::new(policy.into(), ledger, 1);
        let samples = sample.filter(|_| !kept).into_iter().collect();
        let mut finding = Finding::new(Verdict::Unknown(Cause::LagUnknown), "lag");
        finding.replica = Some(ReplicaReading { state: ReplicaState::Error, samples });
        app.observe(Input::Look(Look { subject: Subject::Signal(SiteName::Standby, 1), sent: at(300), done: at(300), finding }));
        let around = Around { started: at(started), awake: at(started), max_groups: 1, ..Around::default() };
        let (_, gates, _) = app.view(&around, at(300)).gates(Direction::ToStandby, Point::Start);
        gates.into_iter().find(|gate| gate.name == "target-healthy").unwrap().state != GateState::Open
    };
    assert!(is_missing(None, false, 290));
    for kept in [false, true] {
        assert!(!is_missing(Some((0, 1.0)), kept, 290), "kept: {kept}");
        assert!(is_missing(Some((61, 1.0)), kept, 290), "it is of the time since");
        assert!(is_missing(Some((0, 15.0 * 60.0)), kept, 290), "it was no replica any more by then");
        assert!(is_missing(Some((0, 1.0)), kept, 39), "this process could have seen it well itself");
        assert!(!is_missing(Some((0, 1.0)), kept, 40), "within an interval and a look's time");
    }
}

/// Our own way to the front door may have been cut long before: until one interval before its first failed look the site was
/// seen well, and by the end of that look it was gone.
#[test]
fn writes_end_with_the_site_where_only_we_had_lost_its_front_door() {
    let end_of_writes = |front_door_lost: i64| {
        let mut ledger = two_of_each(&[]);
        ledger.apply(&row(64, Entry::FrontDoorLost { at: Moment { mono: front_door_lost, wall: front_door_lost } })).unwrap();
        let app = App::new(sim::policy().into(), ledger, 1);
        app.view(&Around::default(), at(200)).exposure(Direction::ToStandby).end_of_writes
    };
    assert_eq!(end_of_writes(59 * SECOND), 59 * SECOND);
    assert_eq!(end_of_writes(59 * SECOND - 1), 60 * SECOND + 800_000, "the first failed look and its time limit");
}

#[test]
fn the_old_site_counts_as_astray_from_its_fence_or_from_the_first_promotion_on() {
    let proven = |second: i64| json!({"fence": "proven", "at": second * SECOND});
    let strays = |facts: &[(&str, i64, Value)]| two_of_each(facts).incident.unwrap().strays_since().map(|since| since.mono / SECOND);
    let promoted = [("promote", 80, Value::Null), ("promote-2", 90, Value::Null)];
    let with = |fences: &[(&'static str, i64, Value)]| [fences, &promoted[..]].concat();
    assert_eq!(strays(&[("fence", 66, proven(70))]), None, "nothing has moved");
    assert_eq!(strays(&promoted), Some(79), "unfenced: since the first of them");
    assert_eq!(strays(&with(&[("fence", 66, proven(70)), ("fence-2", 67, proven(71))])), Some(79), "fenced before");
    assert_eq!(strays(&with(&[("fence", 66, proven(70)), ("fence-2", 100, proven(104))])), Some(105), "read back after");
    assert_eq!(strays(&with(&[("fence", 100, proven(104))])), Some(79), "one fence of two is none");

    let seen =
        |facts: Value| two_of_each(&[("promote", 80, facts)]).incident.unwrap().old_writer_seen().map(|(at, words)| (at, words.to_owned()));
    assert_eq!(seen(Value::Null), None);
    assert_eq!(seen(json!({"old_writer": {"at": 7, "words": "it takes writes"}})), Some((7, "it takes writes".to_owned())));
}

#[test]
fn the_site_that_was_left_is_watched_for_a_day_by_what_speaks_with_it() {
    const DAY: i64 = 24 * 3600;
    let seen = |kind: &str, up: i64, counts: bool| {
        let mut policy = sim::policy();
        let signal = &mut policy.primary.signals[0];
        (signal.kind, signal.counts) = (kind.to_owned(), counts);
        let left = Left { incident: "shop-1".into(), site: SiteName::Primary, since: at(80), closed: at(100) };
        let ledger = Ledger { active: Some(SiteName::Standby), left: Some(left), ..Ledger::default() };
        let mut app = App::new(policy.into(), ledger, 1);
        let finding = Finding::new(Verdict::Up, "200");
        app.observe(Input::Look(Look { subject: Subject::Signal(SiteName::Primary, 0), sent: at(up), done: at(up), finding }));
        app.preflight_sent(at(up));
        let next = app.next(&Around::default(), at(up));
        next.is_some_and(|decision| matches!(decision.entries[..], [Entry::OldSiteSeen { .. }]))
    };
    assert!(seen("http", 101, true) && seen("tcp", 101, true));
    assert!(!seen("cloudwatch", 101, true), "what others say of it is no word of its own");
    assert!(!seen("http", 101, false), "nor is what counts for nothing");
    assert!(!seen("http", 79, true), "before its data had moved");
    assert!(seen("http", 80, true) && seen("http", 100 + DAY - 1, true));
    assert!(!seen("http", 100 + DAY, true));
}

/// A site whose database is a replica again answers by right; what cannot be read changes nothing.
#[test]
fn a_site_that_was_left_is_astray_while_its_database_stands_alone() {
    let seen = |readings: &[ReplicaState]| {
        let left = Left { incident: "shop-1".into(), site: SiteName::Standby, since: at(80), closed: at(100) };
        let ledger = Ledger { active: Some(SiteName::Primary), left: Some(left), ..Ledger::default() };
        let mut app = App::new(sim::policy().into(), ledger, 1);
        let mut look = |signal, finding| {
            let subject = Subject::Signal(SiteName::Standby, signal);
            app.observe(Input::Look(Look { subject, sent: at(101), done: at(101), finding }));
        };
        look(0, Finding::new(Verdict::Up, "200"));
        for state in readings {
            let mut finding = Finding::new(Verdict::Unknown(Cause::TimedOut), "replica");
            finding.replica = Some(ReplicaReading { state: *state, samples: Vec::new() });
            look(1, finding);
        }
        app.preflight_sent(at(101));
        let next = app.next(&Around::default(), at(101));
        next.is_some_and(|decision| matches!(decision.entries[..], [Entry::OldSiteSeen { .. }]))
    };
    assert!(!seen(&[]), "not read yet");
    assert!(seen(&[ReplicaState::NotAReplica]));
    assert!(seen(&[ReplicaState::NotAReplica, ReplicaState::Unknown]));
    assert!(!seen(&[ReplicaState::NotAReplica, ReplicaState::Replicating]));
    assert!(!seen(&[ReplicaState::Unknown]));
}
