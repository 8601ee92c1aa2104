//! An app's policy as most tests mean it, and the parts it is made of.
#![allow(dead_code, reason = "each test file uses its part of the harness")]

use std::time::Duration;

use serde_json::Value;
use watchover::domain::model::{Direction, Mode};
use watchover::domain::plan::{Class, OnFailure, Plan, PlannedStep, Repeat, Reversibility};
use watchover::domain::policy::{AppPolicy, DownWhen, OnRpoExceeded, Pace, Required, SignalPolicy, SitePolicy, Window};

const PACE: Pace =
    Pace { interval: Duration::from_secs(1), fast_interval: Duration::from_millis(250), timeout: Duration::from_millis(800) };

/// A signal that counts, by runs and by a window.
pub fn signal(name: &str, kind: &str, required: Required) -> SignalPolicy {
    SignalPolicy {
        name: name.into(),
        kind: kind.into(),
        interval: PACE.interval,
        fast_interval: PACE.fast_interval,
        timeout: PACE.timeout,
        fall: 3,
        rise: 5,
        window: Some(Window { span: Duration::from_secs(90), down_rate: 0.5, min_looks: 20 }),
        required,
        replica: false,
        counts: true,
    }
}

/// What tells of the replica, and counts for no site's health.
pub fn replica() -> SignalPolicy {
    SignalPolicy {
        interval: Duration::from_secs(15),
        fast_interval: Duration::from_secs(15),
        timeout: Duration::from_secs(5),
        fall: 2,
        rise: 1,
        window: None,
        replica: true,
        counts: false,
        ..signal("replica", "rds-replica", Required::Start)
    }
}

/// A step that can be looked at, and halts the move when it fails.
pub fn step(name: &str, class: Class, reversibility: Reversibility, after: &[&str], deadline: Duration) -> PlannedStep {
    PlannedStep {
        name: name.into(),
        kind: name.into(),
        class,
        reversibility,
        repeat: Repeat::Inspectable,
        after: after.iter().map(|name| (*name).to_owned()).collect(),
        deadline,
        attempts: 3,
        on_failure: OnFailure::Halt,
        only: None,
        account: None,
        region: "us-east-1".into(),
        keys: Value::Null,
    }
}

/// A site that is down when all its signals are.
pub fn site(region: &str, signals: Vec<SignalPolicy>) -> SitePolicy {
    SitePolicy { region: region.into(), down_when: DownWhen::All, min_known: 1, signals }
}

/// The reference profile of the lab, with the thresholds of the committed config: fence, promote, raise capacity beside it, move the traffic; no way back.
pub fn policy() -> AppPolicy {
    let alb = |required: Required| signal("alb", "http", required);
    let fence = step("fence", Class::Other, Reversibility::Reversible, &[], Duration::from_secs(5));
    let failover = Plan {
        direction: Direction::ToStandby,
        steps: vec![
            PlannedStep { on_failure: OnFailure::Continue, region: "ap-south-1".into(), ..fence },
            step("promote", Class::Data, Reversibility::ForwardOnly, &["fence"], Duration::from_secs(900)),
            step("capacity", Class::Capacity, Reversibility::Reversible, &[], Duration::from_secs(600)),
            step("traffic", Class::Traffic, Reversibility::Reversible, &["promote", "capacity"], Duration::from_secs(300)),
        ],
    };
    AppPolicy {
        name: "shop".into(),
        group: "shop".into(),
        priority: 10,
        mode: Mode::Automatic,
        rto_objective: Duration::from_secs(300),
        rpo_objective: Duration::from_secs(300),
        on_rpo_exceeded: OnRpoExceeded::Approve,
        min_outage: Duration::from_secs(3),
        startup_grace: Duration::from_secs(10),
        cooldown: Duration::from_secs(3600),
        approval_timeout: Duration::from_secs(1800),
        move_timeout: Duration::from_secs(1800),
        prove_timeout: Duration::from_secs(300),
        traffic_is_autonomous: false,
        front_door: PACE,
        primary: site("ap-south-1", vec![alb(Required::Start)]),
        standby: site("us-east-1", vec![alb(Required::Traffic), replica()]),
        failover,
        failback: Plan { direction: Direction::ToPrimary, steps: Vec::new() },
    }
}
