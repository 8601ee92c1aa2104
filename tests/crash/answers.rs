//! Requests and answers that get lost, without a crash: the daemon cannot know which of the two it was.

use watchover::lab::faults::Fault;
use watchover::lab::world::Traffic;

use crate::real::Daemon;
use crate::stage::Stage;

/// Loses the first call of every change that the plan makes, and the first two; a step has three attempts.
fn lost(fault: &Fault, traffic: Traffic) {
    for times in [1, 2] {
        let stage = Stage::of(traffic, 400);
        let daemon = Daemon::steady(&stage.config);
        for change in stage.changes() {
            stage.fault(change, fault.clone(), Some(times));
        }
        stage.break_primary();
        stage.ends_well(daemon);
        for change in stage.changes() {
            assert!(stage.calls(change) >= 1, "{change:?} was not called");
        }
    }
}

#[test]
fn every_answer_lost_has_one_effect() {
    lost(&Fault::DropAfter, Traffic::Route53);
}

#[test]
fn every_answer_of_the_switch_lost_has_one_effect() {
    lost(&Fault::DropAfter, Traffic::S3Switch);
}

#[test]
fn every_request_lost_has_one_effect() {
    lost(&Fault::DropBefore, Traffic::Route53);
}
