//! Requests and answers that get lost, without a crash: the daemon cannot know which of the two it was.

use watchover::lab::faults::Fault;
use watchover::lab::world::Traffic;

use crate::real::Daemon;
use crate::stage::Stage;

/// Loses the first call of every change that the plan makes, and the first two; a step has three attempts.
fn lost(fault: &Fault, traffic: Traffic) {
    for (times, sent) in [(1, 2), (2, 3)] {
        let stage = Stage::of(traffic, 400);
        let daemon = Daemon::steady(&stage.config);
        for change in stage.changes() {
            stage.fault(change, fault.clone(), Some(times));
        }
        stage.break_primary();
        stage.ends_well(daemon);
        for change in stage.changes() {
            let calls_and_intents = match (change.step, fault) {
                // One call a decision, and a look before the next: it finds the promotion, or the launches, under way.
                ("promote" | "capacity", Fault::DropAfter) => (1, 1),
                ("promote" | "capacity", _) => (sent, sent),
                // What comes to the same however often it is asked for is sent again below the decision, without a look
                // between: by AWS's client, and the records by their owner. It is decided once.
                _ => (sent, 1),
            };
            let calls = usize::try_from(stage.calls(change)).unwrap();
            assert_eq!((calls, stage.intents(change.step)), calls_and_intents, "{change:?} {fault:?} {times}");
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

#[test]
fn every_request_of_the_switch_lost_has_one_effect() {
    lost(&Fault::DropBefore, Traffic::S3Switch);
}
