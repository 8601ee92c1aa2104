//! What the plan's steps said when they were asked whether they could be done, and the gate over it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::app::App;
use super::autonomy::Autonomy;
use super::gates::View;
use super::ledger::{GateState, Incident};
use super::model::{Direction, Moment};
use super::plan::{OnFailure, Plan};

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
    /// What each step of such a move would say without which it cannot go on.
    fn needed<'a>(&'a self, plan: &'a Plan, graceful: bool) -> impl Iterator<Item = (&'a str, &'a Found)> {
        let needed = plan.steps.iter().filter(move |step| step.takes_part(graceful) && step.on_failure == OnFailure::Halt);
        needed.filter_map(|step| Some((step.name.as_str(), self.steps.get(&step.name)?)))
    }
}

impl App {
    /// True if the latest inspection refuses such a move that way.
    pub(super) fn is_refused(&self, direction: Direction, graceful: bool) -> bool {
        let plan = self.policy.plan_to(direction.target());
        let refuses = |latest: &Preflight| latest.needed(plan, graceful).any(|(_, found)| matches!(found, Found::Refused(_)));
        self.preflights.get(&direction).is_some_and(refuses)
    }

    /// Who commands what the last inspection refuses has mended it, or will: the plan is inspected anew, though not faster
    /// than answers come. True if it is due now.
    pub fn reconsider(&mut self, now: Moment) -> bool {
        let refused = [false, true].iter().any(|graceful| self.is_refused(self.direction(), *graceful));
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
        let graceful = self.ledger.incident.as_ref().is_some_and(Incident::graceful);
        if let Some(words) = plan.leads_nowhere(&self.policy.name, graceful) {
            return self.shut(|| words);
        }
        let Some(preflight) = self.preflight else { return self.shut(|| "the plan was not inspected yet".to_owned()) };
        let (mut refused, mut unknown) = (Vec::new(), Vec::new());
        for (step, found) in preflight.needed(plan, graceful) {
            match found {
                Found::Refused(why) => refused.push(format!("{step}: {why}")),
                Found::Unknown(why) => unknown.push(format!("{step}: {why}")),
                Found::AlreadySo | Found::Possible => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::app::Input;
    use crate::domain::fixtures::{at, policy, step};
    use crate::domain::ledger::Ledger;
    use crate::domain::plan::{Class, Only, PlannedStep};

    #[test]
    fn what_the_move_can_go_without_refuses_no_move() {
        let fence = PlannedStep { on_failure: OnFailure::Continue, ..step("fence", Class::Other, None, &[]) };
        let quiesce = step("quiesce", Class::Other, Some(Only::Graceful), &[]);
        let hurry = step("hurry", Class::Other, Some(Only::Forced), &[]);
        let plan = Plan { direction: Direction::ToStandby, steps: vec![fence, step("promote", Class::Data, None, &[]), quiesce, hurry] };
        let refused = |name: &str| (name.to_owned(), Found::Refused("AccessDenied".into()));
        let steps = ["fence", "promote", "quiesce", "hurry", "gone"].map(refused).into();
        let latest = Preflight { at: at(1), direction: Direction::ToStandby, steps, autonomy: BTreeMap::new() };
        let needed = |graceful: bool| latest.needed(&plan, graceful).map(|(step, _)| step).collect::<Vec<_>>();
        assert_eq!((needed(false), needed(true)), (vec!["promote", "hurry"], vec!["promote", "quiesce"]), "of that move alone");
    }

    #[test]
    fn what_is_refused_is_inspected_anew_and_not_all_the_time() {
        let after = |found: Found, asked: Option<i64>, now: i64| {
            let mut app = App::new(policy("shop"), Ledger::default(), 1);
            let steps = BTreeMap::from([("promote".to_owned(), found)]);
            app.observe(Input::Preflight(Preflight { at: at(1), direction: Direction::ToStandby, steps, autonomy: BTreeMap::new() }));
            app.preflight_asked = asked.map(at);
            app.reconsider(at(now))
        };
        let refused = || Found::Refused("AccessDenied".into());
        assert!(after(refused(), None, 10) && after(refused(), Some(1), 3) && after(refused(), Some(1), 10));
        assert!(!after(refused(), Some(1), 2), "its answer may be on the way");
        assert!(!after(Found::Possible, None, 10) && !after(Found::Possible, Some(1), 10), "what can be done was not refused for that");
    }
}
