//! A world in which what is asked for comes true at once: for crowds, whose single moves are not what is looked at.
#![allow(dead_code, reason = "each test file uses its part of the harness")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use watchover::domain::decide::{Effect, Input};
use watchover::domain::gates::{Found, Preflight};
use watchover::domain::model::{Finding, LagSample, Moment, ReplicaReading, ReplicaState, Verdict};
use watchover::domain::report::{Inspection, Report};

use super::SECOND;

/// The steps of a plan that are done.
#[derive(Default)]
pub struct Done(BTreeSet<String>);

impl Done {
    pub fn contains(&self, step: &str) -> bool {
        self.0.contains(step)
    }

    /// Does what hands are asked to do in a move, and says what came of it; `None` where nothing comes of it.
    ///
    /// # Panics
    /// A step is asked for that is done.
    pub fn carry_out(&mut self, effect: &Effect, incident: String, epoch: u64, now: Moment) -> Option<Input> {
        let (step, report) = match effect {
            Effect::Preflight(direction) => {
                let found = |step: &str| if self.contains(step) { Found::AlreadySo } else { Found::Possible };
                let steps = ["fence", "promote", "capacity", "traffic"].map(|step| (step.to_owned(), found(step)));
                let seen = Preflight { at: now, direction: *direction, steps: steps.into(), autonomy: Default::default() };
                return Some(Input::Preflight(seen));
            }
            Effect::Inspect { step } => {
                let found = if self.contains(step) { Inspection::AlreadySo(json!({})) } else { Inspection::Possible(Value::Null) };
                (step, Report::Inspected(Ok(found)))
            }
            Effect::Apply { step } => {
                assert!(self.0.insert(step.clone()), "{incident}: {step} was asked for twice");
                (step, Report::Applied(Ok(Value::Null)))
            }
            Effect::Verify { step } => (step, Report::Verified(Ok(json!({})))),
            Effect::Undo { step } => {
                self.0.remove(step);
                (step, Report::Undone(Ok("put back".into())))
            }
            Effect::Cancel { .. } | Effect::LookNow => return None,
        };
        Some(Input::Step { incident, epoch, step: step.clone(), report })
    }
}

/// A replica that follows a second behind, as a metric tells of it that has a value a minute.
pub fn follows(wall: i64) -> Finding {
    let minute = 60 * SECOND;
    let samples = (2..14).rev().map(|back| LagSample { at: (wall / minute - back) * minute, period: minute, seconds: 1.0 }).collect();
    let mut replica = Finding::new(Verdict::Up, "scripted");
    replica.replica = Some(ReplicaReading { state: ReplicaState::Replicating, samples });
    replica
}
