//! What the unit tests of several files begin with.

#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::entry::{Entry, Record};
use super::model::{Actor, Direction, Mode, Moment, Trigger};
use super::plan::{Class, OnFailure, Only, Plan, PlannedStep, Repeat, Reversibility};
use super::policy::{AppPolicy, DownWhen, OnRpoExceeded, Pace, Required, SignalPolicy, SitePolicy};
use super::rpo::{Assumption, Exposure};

pub fn at(seconds: i64) -> Moment {
    Moment { mono: seconds * 1_000_000, wall: seconds * 1_000_000 }
}

/// A row of the app `shop` and of its only incident.
pub fn record(entry: Entry, seconds: i64) -> Record {
    let (app, incident) = (Some("shop".into()), Some("shop-1".into()));
    Record { seq: 0, at: at(seconds), boot_id: "boot".into(), app, incident, epoch: 1, entry }
}

pub fn by() -> Actor {
    Actor { who: "alice".into(), reason: "test".into() }
}

/// The outage of the active site.
pub fn opened(first_failed: Option<Moment>) -> Entry {
    Entry::Opened { trigger: Trigger::Outage, direction: Direction::ToStandby, first_failed, words: "alb".into() }
}

/// A loss of so many seconds, up to now.
pub fn exposure(seconds: Option<f64>) -> Exposure {
    Exposure { seconds, sample: None, end_of_writes: 0, assumption: Assumption::WritesUntilNow }
}

/// A step that can be put back.
pub fn step(name: &str, class: Class, only: Option<Only>, after: &[&str]) -> PlannedStep {
    PlannedStep {
        name: name.into(),
        kind: "test".into(),
        class,
        reversibility: Reversibility::Reversible,
        repeat: Repeat::Inspectable,
        after: after.iter().map(|name| (*name).to_owned()).collect(),
        deadline: Duration::from_secs(1),
        attempts: 1,
        on_failure: OnFailure::Halt,
        only,
        account: None,
        region: "us-east-1".into(),
        keys: Value::Null,
    }
}

/// Three bad looks in a row, a second apart, are down.
pub fn signal(name: &str, replica: bool) -> SignalPolicy {
    SignalPolicy {
        name: name.into(),
        kind: "http".into(),
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(250),
        timeout: Duration::from_millis(800),
        fall: 3,
        rise: 5,
        window: None,
        required: Required::Start,
        replica,
        counts: !replica,
    }
}

/// An app whose only step promotes the replica.
pub fn policy(name: &str) -> Arc<AppPolicy> {
    let site = |region: &str, signals| SitePolicy { region: region.into(), down_when: DownWhen::All, min_known: 1, signals };
    let time = Duration::from_secs(300);
    let promote = PlannedStep {
        kind: "rds-promote-replica".into(),
        reversibility: Reversibility::ForwardOnly,
        ..step("promote", Class::Data, None, &[])
    };
    Arc::new(AppPolicy {
        name: name.into(),
        group: name.into(),
        priority: 0,
        mode: Mode::Automatic,
        rto_objective: time,
        rpo_objective: time,
        on_rpo_exceeded: OnRpoExceeded::Approve,
        min_outage: time,
        startup_grace: time,
        cooldown: time,
        approval_timeout: time,
        move_timeout: time,
        prove_timeout: time,
        traffic_is_autonomous: false,
        front_door: Pace { interval: time, fast_interval: time, timeout: time },
        primary: site("ap-south-1", vec![signal("alb", false)]),
        standby: site("us-east-1", vec![signal("alb", false), signal("replica", true)]),
        failover: Plan { direction: Direction::ToStandby, steps: vec![promote] },
        failback: Plan { direction: Direction::ToPrimary, steps: Vec::new() },
    })
}
