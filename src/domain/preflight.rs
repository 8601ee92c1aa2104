//! What the plan's steps said when they were asked whether they could be done, and the gate over it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::app::App;
use super::autonomy::Autonomy;
use super::gates::View;
use super::ledger::GateState;
use super::model::{Direction, Moment};
use super::plan::OnFailure;

/// A plan is not inspected again at a person's word within this time.
const ANEW: Duration = Duration::from_secs(2);

/// What the latest inspection of a plan's steps said.
#[derive(Debug, Clone, PartialEq)]
pub struct Preflight {
    /// When it was done.
    pub at: Moment,
    /// Which way the plan goes.
    pub direction: Direction,
    /// By step.
    pub steps: BTreeMap<String, Found>,
    /// Whether others can move the traffic of the steps that can tell, by step.
    pub autonomy: BTreeMap<String, Autonomy>,
}

/// One step's part in a preflight.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It is so already.
    AlreadySo,
    /// It could be done.
    Possible,
    /// It would be refused, with the reason.
    Refused(String),
    /// The world did not answer, or nobody can tell.
    Unknown(String),
}

impl Preflight {
    /// True if a step would be refused.
    pub(super) fn refuses(&self) -> bool {
        self.steps.values().any(|found| matches!(found, Found::Refused(_)))
    }
}

impl App {
    /// Who commands what the last inspection refuses has mended it, or will: the plan is inspected anew, though not faster
    /// than answers come. True if it is due now.
    pub fn reconsider(&mut self, now: Moment) -> bool {
        let refused = self.preflights.get(&self.direction()).is_some_and(Preflight::refuses);
        let due = refused && self.preflight_asked.is_none_or(|asked| now.since(asked) >= ANEW);
        if due {
            self.preflight_asked = None;
        }
        due
    }
}

impl View<'_> {
    /// The gate: no step that the move needs was refused, and the journal takes what will be written.
    pub(super) fn preflight(&self, direction: Direction) -> (GateState, String) {
        if let Some(fault) = &self.around.journal_fault {
            return self.shut(|| format!("the journal takes nothing, so nothing is done: {fault}"));
        }
        let plan = self.policy.plan_to(direction.target());
        if plan.steps.is_empty() {
            return self.shut(|| format!("no steps are configured {direction}"));
        }
        let Some(preflight) = self.preflight else { return self.shut(|| "the plan was not inspected yet".to_owned()) };
        let (mut refused, mut unknown) = (Vec::new(), Vec::new());
        for step in plan.steps.iter().filter(|step| step.on_failure == OnFailure::Halt) {
            match preflight.steps.get(&step.name) {
                Some(Found::Refused(why)) => refused.push(format!("{}: {why}", step.name)),
                Some(Found::Unknown(why)) => unknown.push(format!("{}: {why}", step.name)),
                Some(Found::AlreadySo | Found::Possible) | None => {}
            }
        }
        let age = self.now.since(preflight.at).as_secs_f64();
        if !refused.is_empty() {
            self.shut(|| format!("inspected {age:.0}s ago; {}", refused.join("; ")))
        } else if !unknown.is_empty() {
            self.open(|| format!("inspected {age:.0}s ago; nothing refused, but not everything answered: {}", unknown.join("; ")))
        } else {
            self.open(|| format!("inspected {age:.0}s ago; every step can be done"))
        }
    }
}
