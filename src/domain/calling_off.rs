//! A move that is called off: what was done is put back, last first.

use std::time::Duration;

use super::decide::{App, Decision, Effect};
use super::ledger::{Entry, Incident, StepState};
use super::model::{Moment, Outcome};
use super::moving::{Doing, Work};
use super::plan::{Plan, PlannedStep};
use super::report::{ErrorClass, Report};

/// Whom an undo waits for that did not succeed.
fn put_back(app: &App) -> String {
    format!("a person to put it back, then `watchover adopt {} --active SITE --reason TEXT`", app.policy.name)
}

/// Nothing final was asked for, and the problem is gone or a planned move cannot be done: put back what was done, last first.
pub(super) fn call_off(app: &App, incident: &Incident, plan: &Plan, now: Moment) -> Option<Decision> {
    let open = |step: &&PlannedStep| incident.steps.get(&step.name).is_some_and(|run| run.touched && run.state != StepState::Undone);
    let Some(step) = plan.steps.iter().rev().find(open) else {
        return Some(app.close(Outcome::CalledOff, None));
    };
    let name = &step.name;
    let idle = Work::default();
    let undo = || {
        Some(
            Decision::default()
                .and(Effect::Cancel { step: name.clone() })
                .and(Effect::Undo { step: name.clone() })
                .doing(name, Work::Out { since: now, on: Doing::Undo }),
        )
    };
    match app.work.get(name).unwrap_or(&idle) {
        Work::Back(Report::Undone(Ok(words))) => {
            Some(Decision::entry(Entry::StepUndone { step: name.clone(), words: words.clone() }).doing(name, Work::default()))
        }
        Work::Back(Report::Undone(Err(error))) if error.class != ErrorClass::Retry => {
            let words = format!("called off, but {name} could not be undone: {}", error.message);
            Some(Decision::entry(Entry::Stuck { words, waits_for: put_back(app) }).doing(name, Work::default()))
        }
        Work::Back(Report::Undone(Err(_))) => Some(Decision::default().doing(name, Work::Idle { until: now + Duration::from_secs(1) })),
        // What was in the middle of its apply is waited for, so that undo does not overtake it; its deadline bounds that. A
        // look is not: it changes nothing, and reading back a fence may have minutes left.
        Work::Out { since, on: Doing::Apply } if now.since(*since) < step.deadline => None,
        Work::Out { since, on: Doing::Undo } if now.since(*since) < step.undo_time() => None,
        Work::Idle { until } if now.mono < until.mono => None,
        Work::Out { .. } | Work::Idle { .. } | Work::Back(_) | Work::Permit { .. } => {
            // Undoing has as long as the move had: it may begin only when that time is over.
            if now.since(app.ledger.since) >= app.policy.move_timeout * 2 {
                let words = format!("called off, but {name} could not be undone within move_timeout");
                return Some(Decision::entry(Entry::Stuck { words, waits_for: put_back(app) }));
            }
            undo()
        }
    }
}
