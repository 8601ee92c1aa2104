//! Acceptance cases that no scenario file can tell: of several apps, of the executor, of every state. And the list itself.

#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

#[path = "sim/acceptance.rs"]
mod acceptance;
#[path = "sim/many.rs"]
mod many;
mod sim;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use many::Many;
use serde_json::Value;
use sim::{Answer, SECOND, Sim, by};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchover::domain::decide::Input;
use watchover::domain::gates::Around;
use watchover::domain::ledger::{Entry, GateState};
use watchover::domain::model::{Cause, Direction, Mode, Outcome, SiteName, State};
use watchover::domain::orders::Order;
use watchover::domain::quorum::Point;
use watchover::domain::report::Report;
use watchover::ports::{Call, Inspection, Step, StepContext, StepError, Verification};
use watchover::runtime::clock::Clock;
use watchover::runtime::control::Message;
use watchover::runtime::executor::{Action, Executor, Job, preflight_context};

// The list.

#[test]
fn every_case_is_proven_by_its_id() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests"] {
        walk(&root.join(dir), &mut files);
    }
    let scenario = |id: &str| files.iter().any(|path| name_of(path).starts_with(&format!("{id}-")) && name_of(path).ends_with(".txt"));
    let sources: Vec<String> =
        files.iter().filter(|path| name_of(path).ends_with(".rs")).map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let test = |id: &str| {
        let declared = format!("fn {}_", id.to_lowercase());
        sources.iter().any(|text| text.contains(&declared))
    };
    let unproven: Vec<&str> = acceptance::IDS.iter().copied().filter(|id| !scenario(id) && !test(id)).collect();
    assert!(unproven.is_empty(), "neither a scenario file nor a test is named with {unproven:?}");
}

fn walk(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

// One app.

/// The committed thresholds are the ones that every scenario runs with.
#[cfg(feature = "daemon")]
#[test]
fn the_scenarios_run_with_the_thresholds_of_the_committed_config() {
    let config = watchover::config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml"), &watchover::adapters::Kinds).unwrap();
    let (ours, theirs) = (sim::policy(), &config.apps[0].policy);
    let (one, other) = (&ours.primary.signals[0], &theirs.primary.signals[0]);
    assert_eq!((one.interval, one.fast_interval, one.timeout), (other.interval, other.fast_interval, other.timeout));
    assert_eq!((one.fall, one.rise, one.window), (other.fall, other.rise, other.window));
    assert_eq!((ours.min_outage, ours.rpo_objective, ours.cooldown), (theirs.min_outage, theirs.rpo_objective, theirs.cooldown));
    assert_eq!((ours.primary.down_when, ours.mode), (theirs.primary.down_when, theirs.mode));
}

#[test]
fn a06_a_standby_that_does_not_replicate_is_shown_as_no_target_before_anything_happens() {
    let mut sim = Sim::new(sim::policy());
    sim.run_until(30 * SECOND);
    let shut = |sim: &Sim| {
        let (around, now) = (Around { need_up: 1, ..Around::default() }, sim.moment_now());
        let (_, gates, _) = sim.app().view(&around, now).gates(Direction::ToStandby, Point::Start);
        gates.into_iter().any(|gate| gate.name == "target-healthy" && gate.state == GateState::Shut)
    };
    assert!(!shut(&sim));
    sim.world.replica = Answer::Down(Cause::ReplicaError);
    sim.run_until(120 * SECOND);
    assert!(shut(&sim));
    assert_eq!(sim.state(), State::Watching);
}

#[test]
fn a19_the_first_action_follows_the_first_failed_look_well_within_nine_and_a_half_seconds() {
    for cause in [Cause::Refused, Cause::TimedOut, Cause::Status] {
        // Wherever in the pace of the looks it dies.
        for tenth in 0..12 {
            let mut sim = Sim::new(sim::policy());
            sim.run_until(60 * SECOND + tenth * SECOND / 10);
            sim.world.primary = Answer::Down(cause);
            assert!(sim.run_till(20.0, |sim| !sim.applied.is_empty()), "{cause}: no action");
            let rows = sim.records();
            let first_failed =
                rows.iter().find_map(|row| if let Entry::Confirmed { first_failed, .. } = row.entry { Some(first_failed) } else { None });
            let took = (sim.now() - first_failed.unwrap().mono) as f64 / 1e6;
            assert!(took < 4.5, "{cause}, {tenth}: {took}s\n{}", sim.log().join("\n"));
        }
    }
}

// Every state.

/// The world says nothing at all any more.
fn silence(sim: &mut Sim) {
    let nothing = Answer::Unknown(Cause::NoRoute);
    (sim.world.primary, sim.world.standby, sim.world.witness, sim.world.replica) = (nothing, nothing, nothing, nothing);
    sim.world.steps.values_mut().for_each(|step| step.silent = true);
}

#[test]
fn a35_no_state_lasts_but_those_that_say_whom_they_wait_for() {
    let passing = [State::Suspect, State::AwaitingApproval, State::Moving, State::Proving];
    for state in passing {
        let mut policy = sim::policy();
        policy.mode = if state == State::AwaitingApproval { Mode::Approval } else { Mode::Automatic };
        let minute = Duration::from_secs(60);
        (policy.approval_timeout, policy.move_timeout, policy.prove_timeout) = (minute, minute, minute);
        let mut sim = Sim::new(policy);
        sim.run_until(60 * SECOND);
        sim.world.primary = Answer::Down(Cause::Refused);
        assert!(sim.run_till(60.0, |sim| sim.state() == state), "never {state}: {}", sim.log().join("\n"));
        silence(&mut sim);
        let left = sim.run_till(300.0, |sim| sim.state() != state);
        assert!(left, "{state} lasts\n{}", sim.log().join("\n"));
        sim.run_for(300.0);
        rests(&sim, state);
    }
}

/// After minutes of silence, longer than any timeout: at rest, or with words of what it waits for.
fn rests(sim: &Sim, from: State) {
    let ledger = sim.app().ledger();
    match sim.state() {
        State::Watching => assert!(ledger.incident.is_none(), "from {from}"),
        State::Stuck => {
            let (words, waits_for) = ledger.incident.as_ref().and_then(|open| open.stuck.clone()).unwrap();
            assert!(!words.is_empty() && waits_for.contains("watchover "), "from {from}: {words}; {waits_for}");
        }
        State::Held => {
            let gates = &ledger.incident.as_ref().unwrap().gates;
            assert!(gates.iter().any(|gate| gate.state != GateState::Open), "from {from}: held, and no gate says why");
        }
        other => panic!("from {from}: {other}\n{}", sim.log().join("\n")),
    }
}

#[test]
fn a35_a_person_ends_what_waits_for_one() {
    // Held and stuck, in a world that is silent for good.
    for state in [State::Held, State::Stuck] {
        let mut policy = sim::policy();
        policy.mode = if state == State::Held { Mode::Observe } else { Mode::Automatic };
        let mut sim = Sim::new(policy);
        sim.run_until(60 * SECOND);
        sim.world.steps.get_mut("promote").unwrap().refuse = state == State::Stuck;
        sim.world.primary = Answer::Down(Cause::Refused);
        // What would be refused is found before the move, too: it is asked to refuse only once it moves.
        if state == State::Stuck {
            sim.world.steps.get_mut("promote").unwrap().refuse = false;
            assert!(sim.run_till(60.0, |sim| sim.state() == State::Moving));
            sim.world.steps.get_mut("promote").unwrap().refuse = true;
        }
        assert!(sim.run_till(60.0, |sim| sim.state() == state), "never {state}: {}", sim.log().join("\n"));
        silence(&mut sim);
        sim.run_for(60.0);
        sim.order(Order::Adopt { site: SiteName::Standby, by: by("moved by hand") }).unwrap();
        assert_eq!((sim.app().ledger().active, sim.app().ledger().incident.is_none()), (Some(SiteName::Standby), true), "{state}");
    }
}

// The executor.

/// Counts how often the world was asked to change.
struct Counted(Arc<AtomicU32>);

#[async_trait::async_trait]
impl Step for Counted {
    fn describe(&self, _found: &Inspection) -> Vec<Call> {
        Vec::new()
    }
    async fn inspect(&self, _cx: &StepContext) -> Result<Inspection, StepError> {
        Ok(Inspection::Possible(Value::Null))
    }
    async fn apply(&self, _cx: &StepContext) -> Result<Value, StepError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Value::Null)
    }
    async fn verify(&self, _cx: &StepContext) -> Result<Verification, StepError> {
        Ok(Verification::So(Value::Null))
    }
    async fn undo(&self, _cx: &StepContext) -> Result<String, StepError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok("put back".into())
    }
}

#[tokio::test]
async fn a28_what_carries_an_older_epoch_changes_nothing() {
    let changes = Arc::new(AtomicU32::new(0));
    let built = Arc::clone(&changes);
    let epoch = Arc::new(AtomicU64::new(7));
    let (to, mut back) = tokio::sync::mpsc::channel(8);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let build = Arc::new(move |_: &_| Ok(Arc::new(Counted(Arc::clone(&built))) as Arc<dyn Step>));
    let executor = Executor::new(build, Clock::system(), Arc::clone(&epoch), to, tasks, tokio::runtime::Handle::current(), stop);
    let step = sim::policy().failover.steps[1].clone();
    let context = StepContext { time_left: Duration::from_secs(5), ..preflight_context(&"shop".into(), Direction::ToStandby, &step, 0) };
    for (action, ours, done) in
        [(Action::Apply, 6, 0), (Action::Undo, 6, 0), (Action::Apply, 8, 0), (Action::Apply, 7, 1), (Action::Undo, 7, 2)]
    {
        let job = Job {
            app: "shop".into(),
            epoch: ours,
            action,
            step: step.clone(),
            context: context.clone(),
            running: Duration::ZERO,
            ahead: Vec::new(),
        };
        executor.start(job);
        let Some(Message::Seen(_, Input::Step { report, epoch, .. })) = back.recv().await else { panic!("no report") };
        assert_eq!(epoch, ours);
        let refused = match report {
            Report::Applied(result) => result.err(),
            Report::Undone(result) => result.err(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused.map(|error| error.code), (ours != 7).then(|| "stale-epoch".to_owned()), "{action:?} under {ours}");
        assert_eq!(changes.load(Ordering::SeqCst), done, "{action:?} under {ours}");
    }
}

#[test]
fn a28_the_report_of_an_older_takeover_is_not_taken_for_ours() {
    let mut sim = Sim::new(sim::policy());
    sim.run_until(60 * SECOND);
    sim.world.steps.get_mut("fence").unwrap().silent = true;
    sim.world.primary = Answer::Down(Cause::Refused);
    assert!(sim.run_till(60.0, |sim| sim.state() == State::Moving));
    let incident = sim.app().ledger().incident.clone().unwrap();
    let report =
        |epoch: u64, incident: &str, report: Report| Input::Step { incident: incident.into(), epoch, step: "fence".into(), report };
    let (ours, done) = (sim.app().epoch(), || Report::Inspected(Ok(Inspection::AlreadySo(Value::Null))));
    let takes = |input: Input| {
        let mut app = sim.app().clone();
        app.observe(input);
        let decision = app.next(&Around::default(), sim.moment_now());
        decision.is_some_and(|decision| decision.entries.iter().any(|entry| matches!(entry, Entry::StepVerified { .. })))
    };
    assert!(!takes(report(ours - 1, &incident.id, done())), "of the takeover before");
    assert!(!takes(report(ours, "shop-of-yesterday", done())), "of another incident");
    // Late, from an errand that nobody waits for any more.
    assert!(!takes(report(ours, &incident.id, Report::Verified(Ok(Value::Null)))), "of another errand");
    assert!(takes(report(ours, &incident.id, done())));
}

// Several apps.

fn planned(many: &Many) -> Vec<String> {
    many.rows(|entry| matches!(entry, Entry::Planned { .. }))
}

#[test]
fn waiting_groups_go_one_after_the_other_by_priority() {
    // Named so that neither the names nor the order of the file is the order of the priorities.
    let mut many = Many::new(&[("a", "a", 1), ("b", "b", 5), ("c", "c", 3), ("d", "d", 9)]);
    many.run(15.0);
    for app in ["a", "b", "c", "d"] {
        many.down(app, true);
    }
    many.run(120.0);
    assert_eq!(planned(&many), ["d", "b", "c", "a"]);
    assert!(many.most_groups_at_once == 1 && ["a", "b", "c", "d"].iter().all(|app| many.active(app) == Some(SiteName::Standby)));
}

#[test]
fn one_group_is_one_event() {
    let mut many = Many::new(&[("a", "shop", 1), ("b", "shop", 1), ("c", "till", 5), ("d", "shop", 1)]);
    many.run(15.0);
    for app in ["a", "b", "d"] {
        many.down(app, true);
    }
    many.run(3.5);
    many.down("c", true);
    many.run(120.0);
    let order = planned(&many);
    assert_eq!(order[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert_eq!(order[3], "c", "a group that moves is not cut in two by a higher priority: {order:?}");
    assert_eq!(many.most_groups_at_once, 1);
}

#[test]
fn a_group_that_could_not_go_keeps_nobody_waiting() {
    let mut many = Many::new(&[("a", "a", 9), ("b", "b", 5), ("c", "c", 1)]);
    many.run(15.0);
    many.slow("b", 30);
    many.down("b", true);
    many.run(3.5);
    // `a` waits for `b`, and before its turn comes nobody can tell any more how it is.
    many.down("a", true);
    many.down("c", true);
    many.run(4.0);
    assert_eq!(many.state("a"), State::Held);
    many.blind("a");
    many.run(120.0);
    assert_eq!(planned(&many), ["b", "c"]);
    assert_eq!(many.state("a"), State::Held, "never on ignorance");
}

#[test]
fn a_group_whose_outage_is_long_from_confirmed_keeps_nobody_waiting() {
    let mut many = Many::new(&[("a", "a", 9), ("b", "b", 1)]);
    many.min_outage("a", Duration::from_secs(600));
    many.run(15.0);
    many.down("a", true);
    many.run(2.0);
    many.down("b", true);
    many.run(60.0);
    assert_eq!((planned(&many), many.state("a")), (vec!["b".to_owned()], State::Suspect));
    many.run(600.0);
    assert_eq!(planned(&many), ["b", "a"]);
}

#[test]
fn a40_an_app_that_a_reload_adds_is_watched_and_moved() {
    let mut many = Many::new(&[("a", "a", 1)]);
    many.run(15.0);
    many.reload(&[("a", "a", 1), ("b", "b", 1)]);
    many.run(5.0);
    assert_eq!(many.active("b"), Some(SiteName::Primary));
    many.down("b", true);
    many.run(60.0);
    assert_eq!((many.active("a"), many.active("b")), (Some(SiteName::Primary), Some(SiteName::Standby)));
}

#[test]
fn a40_an_app_that_a_reload_takes_away_leaves_when_nothing_of_it_moves() {
    let mut many = Many::new(&[("idle", "idle", 1), ("held", "held", 1), ("moving", "moving", 1), ("stays", "stays", 1)]);
    many.mode("held", Mode::Observe);
    many.run(15.0);
    many.down("held", true);
    many.run(10.0);
    many.slow("moving", 20);
    many.down("moving", true);
    many.run(6.0);
    assert_eq!((many.state("held"), many.state("moving")), (State::Held, State::Moving));

    many.reload(&[("stays", "stays", 1)]);
    assert_eq!(many.names(), ["moving", "stays"]);
    assert_eq!(many.let_go(), ["held", "idle"]);
    let closed = |many: &Many, app: &str| many.outcomes(app);
    assert_eq!(closed(&many, "held"), [Outcome::NoAction], "nothing of it had begun, and nobody would go on with it");
    // Its move is brought to its end, by looks that it still gets.
    many.run(120.0);
    assert_eq!(closed(&many, "moving"), [Outcome::Moved]);
    assert_eq!((many.names(), many.let_go()), (vec!["stays".to_owned()], vec!["held".to_owned(), "idle".to_owned(), "moving".to_owned()]));

    // Named again: the journal knows where it stands.
    many.reload(&[("stays", "stays", 1), ("moving", "moving", 1)]);
    assert_eq!(many.active("moving"), Some(SiteName::Standby));
}
