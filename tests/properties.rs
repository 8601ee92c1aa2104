//! Generated histories against the invariants of the design: seeded, so that one number replays one history.
//!
//! `SEEDS=500 cargo test --test properties` tries that many; `SEED=7` replays one and prints what happened in it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails here must fail the test")]

mod sim;

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sim::{Answer, MILLI, SECOND, Sim, World, by};
use watchover::domain::gates;
use watchover::domain::ledger::{Entry, GateState, Record, Ruling, Wish};
use watchover::domain::model::{Cause, Direction, Mode, Moment, SiteName, State, Trigger, Verdict};
use watchover::domain::orders::Order;
use watchover::domain::plan::{Class, Plan};
use watchover::domain::policy::{AppPolicy, OnRpoExceeded};
use watchover::runtime::control::fold;

/// As many as take some seconds unoptimised.
const SEEDS: u64 = 40;
/// Within this time after everything is mended, simulated seconds, an app is at rest again.
const SETTLES: i64 = 120;
const STEPS: [&str; 4] = ["fence", "promote", "capacity", "traffic"];

#[test]
fn a44_generated_incidents_keep_every_invariant() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")));
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    for seed in seeds {
        let mut told = Vec::new();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| history(seed, &mut told)));
        if let Err(cause) = result {
            eprintln!("{}\n\nreplay: SEED={seed} cargo test --test properties", told.join("\n"));
            std::panic::resume_unwind(cause);
        } else if number("SEED").is_some() {
            println!("{}", told.join("\n"));
        }
    }
}

/// The sim's policy with deadlines that fit into a history, and a way back that nothing may take by itself.
fn policy(rng: &mut SmallRng) -> AppPolicy {
    let seconds = Duration::from_secs;
    let mut policy = sim::policy();
    policy.mode = *[Mode::Automatic, Mode::Automatic, Mode::Approval, Mode::Observe].choose(rng).unwrap();
    policy.on_rpo_exceeded = *OnRpoExceeded::ALL.choose(rng).unwrap();
    policy.rpo_objective = seconds(*[60, 300, 300].choose(rng).unwrap());
    (policy.startup_grace, policy.cooldown, policy.approval_timeout) = (seconds(5), seconds(20), seconds(30));
    (policy.move_timeout, policy.prove_timeout) = (seconds(60), seconds(20));
    for (step, deadline) in policy.failover.steps.iter_mut().zip([5, 30, 20, 15]) {
        step.deadline = seconds(deadline);
    }
    for signal in policy.primary.signals.iter_mut().chain(&mut policy.standby.signals) {
        signal.window = signal.window.map(|window| watchover::domain::policy::Window { span: seconds(30), ..window });
    }
    let mut back = policy.failover.steps[3].clone();
    (back.name, back.after, back.class) = ("back".into(), Vec::new(), Class::Traffic);
    policy.failback = Plan { direction: Direction::ToPrimary, steps: vec![back] };
    policy
}

fn history(seed: u64, told: &mut Vec<String>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sim = Sim::new(policy(&mut rng));
    sim.world.steps.insert("back".into(), World::step(SECOND));
    let judged = Rc::new(Cell::new((0, 0)));
    sim.after = Some(Box::new(move |sim| {
        // Rows and requests alone can break anything; between them there is nothing new to judge.
        let seen = (sim.records_len(), sim.applied.len());
        if judged.replace(seen) != seen {
            invariants(sim);
        }
    }));
    sim.run_until(rng.random_range(2..16) * SECOND);
    for _ in 0..rng.random_range(8..24) {
        let event = event(&mut rng);
        told.push(format!("at {:.3} {}", sim.now() as f64 / 1e6, act(&mut sim, &event, &mut rng)));
        let wait = match rng.random_range(0..10) {
            0..4 => rng.random_range(1..300) * MILLI,
            4..8 => rng.random_range(300..4_000) * MILLI,
            _ => rng.random_range(4..20) * SECOND,
        };
        sim.run_for(wait as f64 / 1e6);
    }
    told.push(format!("at {:.3} everything is mended", sim.now() as f64 / 1e6));
    let settled = std::panic::catch_unwind(AssertUnwindSafe(|| every_state_has_a_timed_exit(&mut sim)));
    told.extend(sim.log());
    if let Err(cause) = settled {
        std::panic::resume_unwind(cause);
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Primary,
    Standby,
    Witness,
    Replica,
    Lag,
    Step,
    Journal,
    Kill,
    Boot,
    Stop,
    Order,
    Reload,
}

fn event(rng: &mut SmallRng) -> Event {
    use Event::{Boot, Journal, Kill, Lag, Order, Primary, Reload, Replica, Standby, Step, Stop, Witness};
    let weighted = [
        (Primary, 10),
        (Standby, 3),
        (Witness, 2),
        (Replica, 1),
        (Lag, 1),
        (Step, 6),
        (Journal, 2),
        (Kill, 3),
        (Boot, 4),
        (Stop, 1),
        (Order, 9),
        (Reload, 1),
    ];
    weighted.choose_weighted(rng, |(_, weight)| *weight).unwrap().0
}

fn answer(rng: &mut SmallRng, bad: f64) -> Answer {
    let ours = [Cause::NoRoute, Cause::ResolverTimeout, Cause::FileLimit];
    let theirs = [Cause::Refused, Cause::TimedOut, Cause::Status];
    match rng.random_range(0.0..1.0) {
        share if share > bad => Answer::Up,
        share if share > bad * 0.3 => Answer::Down(*theirs.choose(rng).unwrap()),
        share if share > bad * 0.1 => Answer::Unknown(*ours.choose(rng).unwrap()),
        _ => Answer::Half,
    }
}

/// Makes it happen, and says what it was in a scenario's words.
fn act(sim: &mut Sim, event: &Event, rng: &mut SmallRng) -> String {
    match event {
        Event::Primary => {
            sim.world.primary = answer(rng, 0.8);
            format!("primary {:?}", sim.world.primary)
        }
        Event::Standby => {
            sim.world.standby = answer(rng, 0.4);
            format!("standby {:?}", sim.world.standby)
        }
        Event::Witness => {
            sim.world.witness = answer(rng, 0.5);
            format!("witness {:?}", sim.world.witness)
        }
        Event::Replica => {
            sim.world.replica = answer(rng, 0.4);
            format!("replica {:?}", sim.world.replica)
        }
        Event::Lag => {
            sim.world.lag = *[0.0, 1.0, 40.0, 400.0].choose(rng).unwrap();
            sim.world.lag_stops = rng.random_bool(0.3);
            format!("lag {} stops {}", sim.world.lag, sim.world.lag_stops)
        }
        Event::Step => {
            let name = *STEPS.choose(rng).unwrap();
            let step = sim.world.steps.get_mut(name).unwrap();
            let what = rng.random_range(0..6);
            match what {
                0 => step.silent = true,
                1 => step.refuse = true,
                2 => step.lose_answers = rng.random_range(1..3),
                3 => step.drop_requests = rng.random_range(1..3),
                4 => step.takes = rng.random_range(0..8_000) * MILLI,
                _ => (step.silent, step.refuse) = (false, false),
            }
            format!("step {name} {}", ["silent", "refuses", "loses-answers", "drops-requests", "takes", "mended"][what])
        }
        Event::Journal => {
            let full = rng.random_bool(0.5);
            sim.journal.full.store(full, Ordering::SeqCst);
            format!("journal {}", if full { "full" } else { "mended" })
        }
        Event::Kill => {
            sim.kill();
            "kill".into()
        }
        Event::Boot if sim.is_running() => "-".into(),
        // With a full journal it does not start, and does nothing at all.
        Event::Boot => format!("boot {}", if sim.try_boot().is_ok() { "" } else { "refused" }),
        Event::Stop => {
            let seconds = rng.random_range(1.0..12.0);
            sim.stand_still(seconds);
            format!("stop-for {seconds:.1}")
        }
        Event::Order if sim.is_running() => {
            let order = order(sim, rng);
            let words = format!("{order:?}");
            let answer = sim.order(order);
            format!("{words}: {}", answer.map_or_else(|refusal| refusal.words, |_| "followed".into()))
        }
        Event::Reload if sim.is_running() => {
            sim.policy.mode = *Mode::ALL.choose(rng).unwrap();
            sim.reload();
            format!("reload mode {}", sim.policy.mode)
        }
        Event::Order | Event::Reload => "-".into(),
    }
}

fn order(sim: &Sim, rng: &mut SmallRng) -> Order {
    let incident = sim.app().ledger().incident.as_ref().map(|open| open.id.clone()).unwrap_or_default();
    let accept_loss = *[None, Some(200.0), Some(f64::INFINITY)].choose(rng).unwrap();
    match rng.random_range(0..12) {
        0..2 => {
            let wish = Wish { by: by("drill"), accept_loss, shown: None, force: rng.random_bool(0.5), graceful: rng.random_bool(0.3) };
            Order::Move { to: SiteName::Standby, wish }
        }
        2..5 => Order::Approve { incident, by: by("go"), accept_loss },
        5 => Order::Decline { incident, by: by("no") },
        6 => Order::Retry { incident, by: by("again") },
        7 => Order::Skip { incident, step: (*STEPS.choose(rng).unwrap()).into(), by: by("without it") },
        8 => Order::Abort { incident, by: by("stop") },
        9 => Order::Adopt { site: *SiteName::ALL.choose(rng).unwrap(), by: by("it is so") },
        10 => Order::Pause { length: Duration::from_secs(rng.random_range(1..30)), by: by("maintenance") },
        _ => Order::Resume { by: by("done") },
    }
}

fn invariants(sim: &Sim) {
    let rows = sim.records();
    one_writer(sim);
    order_of_steps(sim, &rows);
    written_before_done(sim, &rows);
    never_on_ignorance(sim, &rows);
    no_way_back(sim, &rows);
    a_no_holds(&rows);
    all_gates_open(&rows);
    figures_partition(&rows);
    stuck_says_for_whom(&rows);
    illegal_rows_never(sim, &rows);
}

/// 1. The promotion takes effect once, and is not even asked for again while it is so.
fn one_writer(sim: &Sim) {
    let promote = &sim.world.steps["promote"];
    assert!(promote.effects <= 1, "one-writer: promoted {} times", promote.effects);
    assert_eq!(promote.repeats, 0, "one-writer: asked for a promotion that was done or under way");
}

/// 4. Users follow the data; unless a person said to go on without it.
fn order_of_steps(sim: &Sim, rows: &[Record]) {
    for applied in sim.applied.iter().filter(|applied| applied.step == "traffic" && !applied.promoted) {
        let skipped = rows[..applied.rows].iter().any(|row| matches!(&row.entry, Entry::StepSkipped { step, .. } if step == "promote"));
        assert!(skipped, "order: traffic was asked to move before the promotion was through");
    }
}

/// 5. Each request that reaches the world has its own row before it.
fn written_before_done(sim: &Sim, rows: &[Record]) {
    for (at, applied) in sim.applied.iter().enumerate() {
        let asked = sim.applied[..=at].iter().filter(|other| other.step == applied.step).count();
        let written =
            rows[..applied.rows].iter().filter(|row| matches!(&row.entry, Entry::StepIntent { step, .. } if *step == applied.step)).count();
        assert!(asked <= written, "written-before-done: request {asked} for {} with {written} intents", applied.step);
    }
}

/// 2. An outage starts with a look that failed, and moves only if someone else answered us since.
fn never_on_ignorance(sim: &Sim, rows: &[Record]) {
    let was = |targets: &[usize], good: fn(&Verdict) -> bool, from: i64, to: i64| {
        sim.seen.iter().any(|(target, sent, verdict)| targets.contains(target) && good(verdict) && (from..=to).contains(sent))
    };
    let source = |direction: Direction| if direction == Direction::ToStandby { 0 } else { 1 };
    let down: fn(&Verdict) -> bool = |verdict| matches!(verdict, Verdict::Down(_));
    let up: fn(&Verdict) -> bool = |verdict| *verdict == Verdict::Up;
    let mut open: Option<(Trigger, Direction, Option<Moment>)> = None;
    for row in rows {
        match &row.entry {
            Entry::Opened { trigger: Trigger::Outage, direction, first_failed, .. } => {
                let from = first_failed.map_or(row.at.mono - 90 * SECOND, |at| at.mono);
                let to = first_failed.map_or(row.at.mono, |at| at.mono);
                assert!(was(&[source(*direction)], down, from, to), "never-on-ignorance: an outage without a failed look");
                open = Some((Trigger::Outage, *direction, *first_failed));
            }
            Entry::Confirmed { first_failed, .. } => {
                if let Some((_, direction, at)) = &mut open {
                    assert!(
                        was(&[source(*direction)], down, first_failed.mono, first_failed.mono),
                        "never-on-ignorance: confirmed by no look"
                    );
                    *at = Some(*first_failed);
                }
            }
            Entry::Commanded { .. } | Entry::Closed { .. } => open = None,
            Entry::Planned { .. } => {
                if let Some((_, _, first_failed)) = open {
                    let from = first_failed.expect("a confirmed outage has a first failed look").mono;
                    assert!(was(&[1, 4], up, from, row.at.mono), "never-on-ignorance: moved while nobody at all answered us");
                }
            }
            _ => {}
        }
    }
}

/// 7. No history commands a way back, so there is none.
fn no_way_back(sim: &Sim, rows: &[Record]) {
    let back = rows.iter().any(|row| matches!(&row.entry, Entry::Planned { plan } if plan.direction == Direction::ToPrimary));
    assert!(!back && sim.world.steps["back"].applies == 0, "no-way-back: a way back that nobody asked for");
}

/// A no stands until a person says yes, or the outage is another.
fn a_no_holds(rows: &[Record]) {
    let mut declined = false;
    for row in rows {
        match &row.entry {
            Entry::Declined { unanswered, .. } => declined |= unanswered.is_empty(),
            Entry::Approved { .. } | Entry::Commanded { .. } | Entry::Closed { .. } => declined = false,
            Entry::Planned { .. } => assert!(!declined, "a-no-holds: a declined move went on"),
            _ => {}
        }
    }
}

/// 3. Right before each plan stands the evaluation that let it go, with every gate in it, open.
fn all_gates_open(rows: &[Record]) {
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| matches!(row.entry, Entry::Planned { .. })) {
        let before = &rows[at - 1];
        let Entry::Gated { ruling: Ruling::Go, gates, .. } = &before.entry else { panic!("gates: planned after {}", before.entry.kind()) };
        assert_eq!(before.at, row.at, "gates: evaluated in another instant");
        assert!(gates.iter().map(|gate| gate.name.as_str()).eq(gates::NAMES.iter().copied()), "gates: not all of them");
        assert!(gates.iter().all(|gate| gate.state == GateState::Open), "gates: went with {gates:?}");
    }
}

/// 10. The phases are the whole, and none is negative.
fn figures_partition(rows: &[Record]) {
    for row in rows {
        let Entry::Closed { figures, .. } = &row.entry else { continue };
        let Some(total) = figures.rto_seconds else { continue };
        let sum: f64 = figures.phases.values().sum();
        assert!(
            (sum - total).abs() < 1e-6 && figures.phases.values().all(|seconds| *seconds >= 0.0),
            "figures: {total} is not {:?}",
            figures.phases
        );
    }
}

/// 8. A stuck incident names what is wrong and what would help.
fn stuck_says_for_whom(rows: &[Record]) {
    for row in rows {
        if let Entry::Stuck { words, waits_for } = &row.entry {
            assert!(!words.is_empty() && !waits_for.is_empty(), "stuck: without a word");
        }
    }
}

/// The journal, read from scratch, is the state that lives: nothing is known that is not written, and nothing is written
/// that could not have happened.
fn illegal_rows_never(sim: &Sim, rows: &[Record]) {
    let now = Moment { mono: sim.now(), wall: sim.now() };
    let folded = fold(rows, "boot-1", now).unwrap_or_else(|error| panic!("illegal-rows-never: {error}"));
    if sim.is_running() {
        assert_eq!(
            folded.get("shop").cloned().unwrap_or_default(),
            *sim.app().ledger(),
            "illegal-rows-never: the journal says something else"
        );
    }
}

/// 8. With everything mended, and a person who answers, an app comes to rest.
fn every_state_has_a_timed_exit(sim: &mut Sim) {
    (sim.world.primary, sim.world.standby, sim.world.witness, sim.world.replica) = (Answer::Up, Answer::Up, Answer::Up, Answer::Up);
    (sim.world.lag, sim.world.lag_stops) = (1.0, false);
    for step in sim.world.steps.values_mut() {
        (step.silent, step.refuse, step.lose_answers, step.drop_requests) = (false, false, 0, 0);
    }
    sim.journal.full.store(false, Ordering::SeqCst);
    if !sim.is_running() {
        sim.boot();
    }
    let (end, mut retries, mut at_rest) = (sim.now() + SETTLES * SECOND, 0, 0);
    while sim.now() < end && at_rest < 3 {
        sim.run_for(3.0);
        let ledger = sim.app().ledger();
        at_rest = if ledger.state == State::Watching { at_rest + 1 } else { 0 };
        let paused = ledger.paused.is_some();
        if let (State::Stuck, Some(open)) = (ledger.state, &ledger.incident) {
            let (incident, lost) = (open.id.clone(), open.aborted || open.calling_off.is_some() || retries > 2);
            assert!(open.stuck.as_ref().is_some_and(|(_, waits_for)| !waits_for.is_empty()), "timed-exit: stuck, and waits for nobody");
            retries += 1;
            let site = if sim.world.steps["traffic"].on { SiteName::Standby } else { SiteName::Primary };
            let order = if lost { Order::Adopt { site, by: by("it is so") } } else { Order::Retry { incident, by: by("mended") } };
            sim.order(order).unwrap_or_else(|refusal| panic!("timed-exit: a stuck incident takes no answer: {refusal}"));
        }
        if paused {
            sim.order(Order::Resume { by: by("done") }).unwrap_or_else(|refusal| panic!("timed-exit: {refusal}"));
        }
    }
    let ledger = sim.app().ledger();
    assert!(at_rest >= 3, "timed-exit: {} since {}, with everything mended", ledger.state, ledger.since.mono as f64 / 1e6);
}
