//! A step of the running plan, as its entries leave it.

use std::time::Duration;

use serde_json::Value;

use super::model::{Moment, words};
use super::plan::OnFailure;

words! {
    /// Where a step is. The order of declaration is the order of life.
    StepState {
        Waiting = "waiting", Running = "running", Intended = "intended", Asked = "asked", Verified = "verified",
        Failed = "failed", Skipped = "skipped", Undone = "undone",
    }
}

/// The longest wait after a trouble.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A step of the running plan.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRun {
    /// Where it is.
    pub state: StepState,
    /// When its turn came.
    pub started: Option<Moment>,
    /// When it was permitted, if it needed that.
    pub permitted: Option<Moment>,
    /// When it reached its end.
    pub ended: Option<Moment>,
    /// Calls of `apply` so far.
    pub attempts: u32,
    /// How many of these were turned away for their rate, unheard.
    pub turned_away: u32,
    /// The takeover whose latest `apply` has not come back yet.
    pub applying: Option<u64>,
    /// When the latest `apply` was sent, or came back in vain.
    pub requested: Option<Moment>,
    /// For how long after that nothing of it may be to be seen.
    pub unseen: Duration,
    /// An attempt may have been taken, or is on its way: only then is there something to undo.
    pub touched: bool,
    /// An attempt that has come back may have been taken.
    pub heard: bool,
    /// A person has it tried again, knowing what became of it before.
    pub retried: bool,
    /// What stood there before the first `apply`.
    pub before: Value,
    /// What it left for the record and for the steps after it.
    pub facts: Value,
    /// The latest trouble, in words.
    pub trouble: Option<String>,
    /// What it first waited for before it could be asked for, in words; what it waits for now, `App::progress` knows.
    pub progress: Option<String>,
    /// Its failure asks for a person rather than being final.
    pub needs_person: bool,
    /// What it asked a person, and how that is answered.
    pub asks: Option<(String, String)>,
}

impl StepRun {
    /// True if what waits for the step may go on.
    pub fn is_passed(&self, on_failure: OnFailure) -> bool {
        match self.state {
            StepState::Verified | StepState::Skipped => true,
            StepState::Failed => on_failure == OnFailure::Continue && !self.needs_person,
            StepState::Waiting | StepState::Running | StepState::Intended | StepState::Asked | StepState::Undone => false,
        }
    }

    /// True if its turn has come, and nothing of it is on its way, being read back, or asked of a person: a pause holds it here.
    pub fn is_between(&self) -> bool {
        matches!(self.state, StepState::Running | StepState::Intended) && self.applying.is_none() && self.asks.is_none()
    }

    /// The wait after a trouble: doubles with each attempt.
    pub fn backoff(&self) -> Duration {
        Duration::from_millis(250 << self.attempts.min(5)).min(LONGEST_WAIT)
    }

    /// The end of the wait since its latest `apply`, which is not over.
    pub fn rests_until(&self, now: Moment) -> Option<Moment> {
        self.requested.map(|at| at + self.unseen).filter(|until| now.mono < until.mono)
    }
}

/// When a fence that left these facts had read its writers back as gone (wall, microseconds).
pub fn proven_fence(facts: &Value) -> Option<i64> {
    (facts.get("fence")?.as_str()? == "proven").then(|| facts.get("at")?.as_i64()).flatten()
}

impl Default for StepRun {
    fn default() -> Self {
        StepRun {
            state: StepState::Waiting,
            started: None,
            permitted: None,
            ended: None,
            attempts: 0,
            turned_away: 0,
            applying: None,
            requested: None,
            unseen: Duration::ZERO,
            touched: false,
            heard: false,
            retried: false,
            before: Value::Null,
            facts: Value::Null,
            trouble: None,
            progress: None,
            needs_person: false,
            asks: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::at;

    #[test]
    fn what_was_asked_for_rests_until_its_wait_is_over() {
        let run = StepRun { unseen: Duration::from_secs(1), requested: Some(at(10)), ..StepRun::default() };
        assert_eq!(run.rests_until(at(10)), Some(at(11)));
        assert_eq!(run.rests_until(at(11)), None);
        assert_eq!(StepRun::default().rests_until(at(0)), None, "it was never asked for");
    }
}
