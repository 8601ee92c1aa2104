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
    format!("a person to see to it, then `watchover adopt {} --active SITE --reason TEXT`", app.policy.name)
}

/// A planned move off a well site, before anything final: to put everything back serves users at once, while a stuck one
/// would leave them before a fence that we set ourselves.
pub(super) fn is_harmless_to_leave(incident: &Incident) -> bool {
    incident.graceful() && !incident.is_committed()
}

/// What a failure before everything else means: a person must not have to guess whether anything is half moved.
pub(super) fn alone(incident: &Incident, failed: &str) -> &'static str {
    let others = incident.steps.iter().any(|(name, run)| name != failed && run.touched);
    match incident.steps.get(failed) {
        _ if others => "",
        Some(run) if run.touched => "; no other step was asked for",
        _ => "; nothing was changed",
    }
}

/// Nothing final was asked for, and the problem is gone or a planned move cannot be done: put back what was done, last first.
pub(super) fn call_off(app: &App, incident: &Incident, plan: &Plan, called_off: Moment, now: Moment) -> Option<Decision> {
    let open = |step: &&PlannedStep| incident.steps.get(&step.name).is_some_and(|run| run.touched && run.state != StepState::Undone);
    let mut left = plan.steps.iter().rev().filter(open);
    // What nothing takes back comes last: by then at least the rest is as it was.
    let Some(step) = left.clone().find(|step| !step.is_final()).or_else(|| left.next()) else {
        return Some(app.close(Outcome::CalledOff, None));
    };
    if step.is_final() {
        let words = format!("called off, but {} was asked for, and nothing takes that back", step.name);
        return Some(Decision::entry(Entry::Stuck { words, waits_for: put_back(app) }));
    }
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
        work => {
            // Undoing has as long as the move had, and begins when that was called off, be it late. Whatever the clock says,
            // nobody is told that it could not be done before it was tried.
            let tried = matches!(work, Work::Out { on: Doing::Undo, .. } | Work::Idle { .. }) && *work != idle;
            let called_off = called_off.max(app.ledger.since + app.policy.move_timeout);
            if tried && now.since(called_off) >= app.policy.move_timeout {
                let words = format!("called off, but {name} could not be undone within move_timeout");
                return Some(Decision::entry(Entry::Stuck { words, waits_for: put_back(app) }));
            }
            undo()
        }
    }
}
