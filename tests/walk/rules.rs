//! What the hands and the executor can carry out, and what may be asked of them: what these refuse would silently be
//! nothing, or would be done at the wrong time.

use std::time::Duration;

use watchover::domain::decide::{Decision, Effect};
use watchover::domain::ledger::{Entry, Incident, Ledger, StepRun, StepState};
use watchover::domain::model::State;
use watchover::domain::moving::{Doing, Work};
use watchover::domain::plan::{Class, PlannedStep};

use super::spot::Spot;

/// An effect's name.
pub fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Inspect { .. } => "inspect",
        Effect::Apply { .. } => "apply",
        Effect::Verify { .. } => "verify",
        Effect::Undo { .. } => "undo",
        Effect::Cancel { .. } => "cancel",
        Effect::LookNow => "look-now",
        Effect::Preflight(_) => "preflight",
    }
}

/// What is left of a step's deadline.
pub fn time_left(spot: &Spot, step: &str) -> Option<Duration> {
    let incident = spot.app.ledger().incident.as_ref()?;
    let started = incident.steps.get(step)?.started;
    let running = started.map(|at| spot.now.since(at)).unwrap_or_default();
    Some(incident.plan.as_ref()?.step(step)?.deadline.saturating_sub(running))
}

fn must(holds: bool, effect: &Effect, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{effect:?} was decided, but {what}")) }
}

/// A step that is sent out is sent by an effect, and what an effect sends out is waited for.
pub fn work(decision: &Decision) -> Result<(), String> {
    let sent = |effect: &Effect| match effect {
        Effect::Inspect { step } => Some((step.clone(), Doing::Inspect)),
        Effect::Apply { step } => Some((step.clone(), Doing::Apply)),
        Effect::Verify { step } => Some((step.clone(), Doing::Verify)),
        Effect::Undo { step } => Some((step.clone(), Doing::Undo)),
        Effect::Cancel { .. } | Effect::LookNow | Effect::Preflight(_) => None,
    };
    let sent: Vec<(String, Doing)> = decision.effects.iter().filter_map(sent).collect();
    let out = |(step, work): &(String, Work)| if let Work::Out { on, .. } = work { Some((step.clone(), *on)) } else { None };
    let awaited: Vec<(String, Doing)> = decision.work.iter().filter_map(out).collect();
    if sent == awaited { Ok(()) } else { Err(format!("sent out for {sent:?}, and waiting for {awaited:?}")) }
}

/// The rules of one effect. `before` is the ledger without the entries beside it.
pub fn effect(spot: &Spot, before: &Ledger, decision: &Decision, effect: &Effect) -> Result<(), String> {
    let ledger = spot.app.ledger();
    let must = |holds: bool, what: &str| must(holds, effect, what);
    let step = match effect {
        Effect::LookNow => return Ok(()),
        Effect::Preflight(direction) => {
            must(!matches!(ledger.state, State::Moving | State::Proving | State::Stuck), "a move is under way")?;
            return must(*direction == spot.app.direction(), "it inspects the plan that would not run");
        }
        Effect::Inspect { step } | Effect::Apply { step } | Effect::Verify { step } | Effect::Undo { step } | Effect::Cancel { step } => {
            step
        }
    };
    // Where the hands find none of these they have nothing done.
    let incident = ledger.incident.as_ref().ok_or_else(|| format!("{effect:?} was decided without an incident"))?;
    let planned = incident.plan.as_ref().and_then(|plan| plan.step(step)).ok_or_else(|| format!("{effect:?}: not in the plan"))?;
    let run = incident.steps.get(step).ok_or_else(|| format!("{effect:?}: the incident does not know it"))?;
    let goes_on = matches!(run.state, StepState::Running | StepState::Intended | StepState::Asked);
    let busy = spot.jobs.get(step).map(|job| job.on);
    match effect {
        Effect::Cancel { .. } => return Ok(()),
        Effect::Undo { .. } => {
            must(incident.calling_off.is_some(), "nothing is called off")?;
            must(run.touched && run.state != StepState::Undone, "there is nothing to put back")?;
            must(!planned.is_final(), "it cannot be put back")?;
            must(!incident.is_committed(), "something final was asked for")?;
        }
        Effect::Inspect { .. } => {
            must(incident.calling_off.is_none() && goes_on, "it is not its turn")?;
            must(run.asks.is_none(), "a person is asked")?;
            must(busy != Some(Doing::Apply), "it is being asked for, and its answer is waited for")?;
        }
        Effect::Verify { .. } => {
            let said_so = decision.entries.iter().any(|entry| matches!(entry, Entry::StepTrouble { .. }));
            must(incident.calling_off.is_none() && goes_on, "it is not its turn")?;
            must(run.state == StepState::Asked || said_so, "it was not asked for")?;
        }
        _ => apply(spot, before, decision, effect, incident, planned, run, busy)?,
    }
    must(ledger.state == State::Moving, "nothing moves")
}

#[expect(clippy::too_many_arguments, reason = "the whole situation of one step; a struct would only rename it")]
fn apply(
    spot: &Spot,
    before: &Ledger,
    decision: &Decision,
    effect: &Effect,
    incident: &Incident,
    planned: &PlannedStep,
    run: &StepRun,
    busy: Option<Doing>,
) -> Result<(), String> {
    let must = |holds: bool, what: &str| must(holds, effect, what);
    let name = &planned.name;
    let intent = decision.entries.iter().position(|entry| matches!(entry, Entry::StepIntent { step, .. } if step == name));
    let permit = decision.entries.iter().position(|entry| matches!(entry, Entry::StepPermitted { step, .. } if step == name));
    must(intent.is_some() && run.state == StepState::Intended && run.applying.is_some(), "no intent of it is durable")?;
    must(incident.calling_off.is_none() && !incident.aborted, "the move is called off or aborted")?;
    let final_or_traffic = planned.is_final() || planned.class == Class::Traffic;
    must(!final_or_traffic || permit.is_some_and(|permit| Some(permit) < intent), "there was no second look before it")?;
    must(run.attempts.saturating_sub(run.turned_away) <= planned.attempts, "its attempts are used up")?;
    must(time_left(spot, name).is_some_and(|left| !left.is_zero()), "its deadline is over")?;
    must(busy.is_none(), "the executor is out for it already")?;
    let passed = |name: &String| {
        let on_failure = incident.plan.as_ref().and_then(|plan| plan.step(name)).map(|step| step.on_failure);
        incident.steps.get(name).is_some_and(|run| match run.state {
            StepState::Verified | StepState::Skipped => true,
            StepState::Failed => on_failure == Some(watchover::domain::plan::OnFailure::Continue) && !run.needs_person,
            _ => false,
        })
    };
    must(planned.after.iter().all(passed), "what it waits for is not done")?;
    let touched = before.incident.as_ref().and_then(|old| old.steps.get(name)).is_some_and(|run| run.touched);
    must(before.paused.is_none() || incident.despite_pause || (touched && !final_or_traffic), "the app is paused")
}
