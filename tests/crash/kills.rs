//! SIGKILL behind every kind of row that a move writes, and between inspect, apply and verify of every step.

use std::collections::BTreeSet;

use watchover::lab::faults::Fault;
use watchover::lab::world::Traffic;

use crate::real::{Daemon, until};
use crate::stage::{CAPACITY, Change, FENCE, NAME, PROMOTE, RECORDS, SWITCH, Stage};

/// Rows of the decision, each the end of a life in the chain of `survives_a_kill_behind_every_row`, as the next two.
pub const DECIDING: &[&str] = &["opened", "confirmed", "gated", "planned"];
/// Rows of a step. Only what is final, and traffic, is looked at again and permitted.
pub const STEP: &[&str] = &["step-started", "step-permitted", "step-intent", "step-verified"];
/// Rows of the proof.
pub const PROVING: &[&str] = &["executed", "authority-moved", "proven", "closed"];

/// What the chain need not write, and has worlds of its own: who never saw the front door up misses nothing there.
pub const LOST: &[&str] = &["front-door-lost"];
/// The same: who is killed behind an intent may have asked, so that the next finds it done.
pub const ASKED: &[&str] = &["step-asked fence", "step-asked promote", "step-asked capacity", "step-asked traffic"];
/// The same of a step that does not go smoothly. Behind its proven fence the promotion waits for the lag that shows no
/// writes any more; the other two are refused at first.
pub const TROUBLE: &[&str] = &["step-trouble promote", "step-trouble capacity", "step-progress promote"];

/// The steps of the plan.
const STEPS: [&str; 4] = ["fence", "promote", "capacity", "traffic"];

fn rows_of(step: &str) -> impl Iterator<Item = String> {
    let permitted = matches!(step, "promote" | "traffic");
    STEP.iter().filter(move |kind| permitted || **kind != "step-permitted").map(move |kind| format!("{kind} {step}"))
}

/// The kind of a row of that name.
pub fn kind_of(name: &str) -> &str {
    name.split_once(' ').map_or(name, |(kind, _)| kind)
}

/// Kills the daemon behind that row, which `prepare` may have to provoke, and starts it again.
fn killed_behind(name: &str, traffic: Traffic, prepare: impl FnOnce(&Stage)) {
    let stage = Stage::of(traffic, 400);
    let daemon = Daemon::steady(&stage.config);
    let epoch = stage.epoch();
    prepare(&stage);
    stage.hold_behind(epoch, name);
    stage.break_primary();
    stage.killed_behind(daemon, epoch, name);
    stage.ends_well(Daemon::start(&stage.config));
    // A restarted daemon goes on with what was open, and opens nothing twice.
    let incidents: BTreeSet<_> = stage.rows().into_iter().filter_map(|row| row.incident).collect();
    assert_eq!(incidents.len(), 1, "{name}: {incidents:?}");
}

#[test]
fn killed_behind_the_loss_of_the_front_door() {
    for name in LOST {
        killed_behind(name, Traffic::Route53, |_| ());
    }
}

#[test]
fn killed_behind_what_was_asked_for() {
    for name in ASKED {
        killed_behind(name, Traffic::Route53, |_| ());
    }
    killed_behind("step-asked traffic", Traffic::S3Switch, |_| ());
}

#[test]
fn killed_at_the_rows_of_a_step_that_does_not_go_smoothly() {
    let (code, message) = ("Throttling".to_owned(), "not now".to_owned());
    let refused = Fault::Answer { status: 400, code, message };
    for name in TROUBLE {
        killed_behind(name, Traffic::Route53, |stage| {
            for change in stage.changes().into_iter().filter(|change| *name == format!("step-trouble {}", change.step)) {
                stage.fault(change, refused.clone(), Some(3));
            }
        });
    }
}

/// Kills one daemon after the other, each behind its first row of a name that no earlier one wrote, until the move is over.
/// `people` do meanwhile what a move asks of them. The names, and how many daemons there were.
pub fn lives(stage: &Stage, people: impl Fn(&BTreeSet<String>)) -> (BTreeSet<String>, u32) {
    // Each life may ask once more, and a step's attempts count over restarts: the usual three are for calls that fail.
    let text = std::fs::read_to_string(&stage.config).unwrap();
    std::fs::write(&stage.config, text.replace("[[app.failover]]\n", "[[app.failover]]\nattempts = 20\n")).unwrap();
    let mut daemon = Daemon::steady(&stage.config);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut lives = 0;
    while !seen.contains("closed") {
        let epoch = stage.epoch();
        if lives == 0 {
            stage.hold(epoch, "incident IS NOT NULL");
            stage.break_primary();
        }
        let fresh = || -> BTreeSet<String> {
            let own = |row: &crate::stage::Row| row.epoch == epoch && row.incident.is_some() && !seen.contains(&row.name);
            stage.rows().into_iter().filter(own).map(|row| row.name).collect()
        };
        until("a row of a new name", || {
            people(&seen);
            (!fresh().is_empty()).then_some(())
        });
        stage.kill(daemon);
        let fresh = fresh();
        seen.extend(fresh);
        lives += 1;
        assert!(lives < 64 && !seen.contains("stuck"), "it does not come to an end: {seen:?}");
        let names: Vec<String> = seen.iter().map(|name| format!("'{name}'")).collect();
        stage.hold(epoch + 1, &format!("incident IS NOT NULL AND {NAME} NOT IN ({})", names.join(", ")));
        daemon = Daemon::start(&stage.config);
    }
    stage.ends_well(daemon);
    (seen, lives)
}

/// Every row of a smooth move, one life each.
fn survives_a_kill_behind_every_row(traffic: Traffic) {
    let (mut seen, lives) = lives(&Stage::of(traffic, 400), |_| ());
    let smooth: BTreeSet<String> =
        DECIDING.iter().chain(PROVING).map(|kind| (*kind).to_owned()).chain(STEPS.into_iter().flat_map(rows_of)).collect();
    let missed: Vec<&String> = smooth.difference(&seen).collect();
    assert!(missed.is_empty(), "{missed:?} of {seen:?}");
    // Trouble of a step comes and goes with the machine's pace, and who starts again within a move looks before it fences.
    let may_be = |name: &str| [LOST, ASKED, TROUBLE].concat().iter().any(|row| kind_of(row) == kind_of(name));
    seen.retain(|name| !may_be(name) && name != "step-permitted fence");
    assert!(seen.is_subset(&smooth), "{seen:?}");
    assert!(lives > 15, "{lives} lives");
}

#[test]
fn one_move_survives_a_kill_behind_every_one_of_its_rows() {
    survives_a_kill_behind_every_row(Traffic::Route53);
}

#[test]
fn one_move_by_the_switch_survives_a_kill_behind_every_one_of_its_rows() {
    survives_a_kill_behind_every_row(Traffic::S3Switch);
}

/// Kills the daemon while its request is on the way: never done, or done and unanswered.
fn killed_within(change: Change, traffic: Traffic) {
    for (fault, effect) in [(Fault::Hang, 0), (Fault::Latency { millis: 600_000 }, 1)] {
        let stage = Stage::of(traffic, 400);
        let daemon = Daemon::steady(&stage.config);
        stage.fault(change, fault.clone(), None);
        stage.break_primary();
        stage.is_on_its_way(change, effect);
        stage.kill(daemon);
        let calls = stage.calls(change);
        assert_eq!(stage.effect(change), effect, "{change:?} {fault:?}");
        let rows = stage.rows();
        let of_step: Vec<&str> = rows.iter().filter_map(|row| row.name.strip_suffix(change.step)).map(str::trim_end).collect();
        assert_eq!(of_step.last(), Some(&"step-intent"), "{change:?} {fault:?}: written before done: {of_step:?}");
        stage.act(&watchover::lab::Action::ClearFaults);
        stage.ends_well(Daemon::start(&stage.config));
        // What was done is found so by whoever looks, and is not asked for again.
        assert_eq!(stage.calls(change) > calls, effect == 0, "{change:?} {fault:?}");
    }
}

#[test]
fn killed_within_the_request_of_the_fence() {
    killed_within(FENCE, Traffic::Route53);
}

#[test]
fn killed_within_the_request_of_the_promotion() {
    killed_within(PROMOTE, Traffic::Route53);
}

#[test]
fn killed_within_the_request_of_the_capacity() {
    killed_within(CAPACITY, Traffic::Route53);
}

#[test]
fn killed_within_the_request_of_the_records() {
    killed_within(RECORDS, Traffic::Route53);
}

#[test]
fn killed_within_the_request_of_the_switch() {
    killed_within(SWITCH, Traffic::S3Switch);
}

/// It was asked for and has come true, and the row that says so is not durable.
fn killed_between(changes: &[Change], traffic: Traffic) {
    for change in changes {
        let stage = Stage::of(traffic, 400);
        let daemon = Daemon::steady(&stage.config);
        stage.hold_behind(stage.epoch(), &format!("step-asked {}", change.step));
        stage.break_primary();
        until("it has come true", || stage.is_so(*change).then_some(()));
        stage.kill(daemon);
        assert!(!stage.rows().iter().any(|row| row.name == format!("step-verified {}", change.step)), "{change:?}");
        stage.ends_well(Daemon::start(&stage.config));
    }
}

#[test]
fn killed_between_what_came_true_and_its_row() {
    killed_between(&[FENCE, PROMOTE, CAPACITY, RECORDS], Traffic::Route53);
}

#[test]
fn killed_between_the_switch_that_came_true_and_its_row() {
    killed_between(&[SWITCH], Traffic::S3Switch);
}
