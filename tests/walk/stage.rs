//! The apps that are walked: small plans with every kind of step in them, and short times.

use std::sync::Arc;
use std::time::Duration;

use watchover::domain::model::{Direction, Mode};
use watchover::domain::plan::{Class, OnFailure, Plan, PlannedStep, Repeat, Reversibility};
use watchover::domain::policy::{AppPolicy, Pace, Required, SignalPolicy};

#[path = "../sim/policy.rs"]
mod policy;

/// How often it is looked while all is well.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// And in doubt.
pub const FAST: Duration = Duration::from_millis(2500);
/// How long the domain remembers a bad look, and how long it goes without any that tells.
const MEMORY: Duration = Duration::from_secs(60);
/// How long the executor gives an undo, at least.
pub const UNDO: Duration = Duration::from_secs(30);

/// What is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Fence, promote, move traffic, one after the other; and a way back.
    Serial,
    /// Two steps at once, one of which may fail and cannot be inspected; no data; no way back.
    Parallel,
}

fn signal(name: &str, kind: &str, required: Required) -> SignalPolicy {
    let timeout = Duration::from_secs(1);
    SignalPolicy {
        interval: INTERVAL,
        fast_interval: FAST,
        timeout,
        fall: 2,
        rise: 2,
        window: None,
        ..policy::signal(name, kind, required)
    }
}

fn step(name: &str, class: Class, reversibility: Reversibility, after: &[&str]) -> PlannedStep {
    PlannedStep { attempts: 1, ..policy::step(name, class, reversibility, after, Duration::from_secs(12)) }
}

fn plans(stage: Stage, short: bool) -> (Plan, Plan) {
    use Reversibility::{ForwardOnly, NeedsPerson, Reversible};
    let (mut over, back) = match stage {
        Stage::Serial => (
            vec![
                step("fence", Class::Other, Reversible, &[]),
                PlannedStep { attempts: 2, ..step("promote", Class::Data, ForwardOnly, &["fence"]) },
                step("traffic", Class::Traffic, Reversible, &["promote"]),
            ],
            vec![step("give-back", Class::Data, ForwardOnly, &[]), step("users", Class::Traffic, Reversible, &["give-back"])],
        ),
        Stage::Parallel => (
            vec![
                PlannedStep {
                    repeat: Repeat::AtLeastOnce,
                    on_failure: OnFailure::Continue,
                    ..step("warm", Class::Capacity, Reversible, &[])
                },
                step("users", Class::Traffic, NeedsPerson, &[]),
            ],
            Vec::new(),
        ),
    };
    if short {
        over.remove(0);
        over.iter_mut().for_each(|step| step.after.retain(|name| name != "fence"));
    }
    (Plan { direction: Direction::ToStandby, steps: over }, Plan { direction: Direction::ToPrimary, steps: back })
}

/// The app; `short`: without the first step of its way over.
pub fn policy(stage: Stage, mode: Mode, short: bool) -> Arc<AppPolicy> {
    let replica = SignalPolicy { replica: true, counts: false, fall: 1, rise: 1, ..signal("replica", "rds-replica", Required::Start) };
    let (failover, failback) = plans(stage, short);
    Arc::new(AppPolicy {
        mode,
        min_outage: Duration::from_secs(3),
        startup_grace: Duration::from_secs(3),
        cooldown: Duration::from_secs(50),
        approval_timeout: Duration::from_secs(20),
        move_timeout: Duration::from_secs(40),
        prove_timeout: Duration::from_secs(20),
        front_door: Pace { interval: INTERVAL, fast_interval: FAST, timeout: Duration::from_secs(1) },
        primary: policy::site("ap-south-1", vec![signal("web", "http", Required::Start), signal("deep", "http", Required::Never)]),
        standby: policy::site("us-east-1", vec![signal("web", "http", Required::Start), replica]),
        failover,
        failback,
        ..policy::policy()
    })
}

/// By then an app that nobody touches has moved on or says for whom it waits: every time limit, one after the other.
pub fn patience(policy: &AppPolicy) -> Duration {
    // Planned moves give their fences more time than the others do.
    let (over, back) = (policy.failover.for_move(true), policy.failback.for_move(true));
    let steps: Duration = over.steps.iter().chain(&back.steps).map(|step| step.deadline).sum();
    // Called off, a move has twice its time to begin the undoing of a step, and that undo has its own.
    MEMORY * 2
        + policy.min_outage
        + policy.startup_grace
        + policy.approval_timeout
        + policy.move_timeout * 2
        + steps
        + UNDO
        + policy.prove_timeout
}
