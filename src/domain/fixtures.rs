//! What the unit tests of several files begin with.

#![cfg(test)]

use std::time::Duration;

use serde_json::Value;

use super::entry::{Entry, Record};
use super::model::{Actor, Direction, Moment, Trigger};
use super::plan::{Class, OnFailure, Only, PlannedStep, Repeat, Reversibility};
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
