//! What one entry changes in the open incident, and in the step that it names.

use std::time::Duration;

use serde_json::Value;

use super::entry::{Entry, step_of};
use super::ledger::{Incident, Record, StepRun, StepState};
use super::model::{Moment, Trigger};
use super::plan::{OnFailure, PlannedStep};
use super::report::is_no_attempt;
use super::run::LONGEST_WAIT;

/// Within that a request that was taken can be seen: a replica under promotion is `available` until replication has stopped.
const TAKEN: Duration = Duration::from_secs(30);

/// The part of the fold that concerns the open incident alone.
pub(super) fn incident(incident: &mut Incident, record: &Record) {
    let (entry, at) = (&record.entry, record.at);
    match entry {
        Entry::Commanded { wish, first_failed } => {
            // What put the site in doubt may have begun long before, and users were served.
            if incident.confirmed.is_none() {
                incident.first_failed = *first_failed;
            }
            incident.commanded = Some(at);
            incident.wish = Some(wish.clone());
            incident.approved = false;
            incident.unanswered.clear();
            incident.trigger = Trigger::Operator;
            // What went before the clock is no phase of it.
            if incident.graceful() || incident.confirmed.is_none() {
                incident.spent.clear();
            }
        }
        Entry::Confirmed { first_failed, .. } => {
            incident.first_failed = Some(*first_failed);
            incident.confirmed = Some(at);
        }
        Entry::Gated { gates, exposure, .. } => {
            incident.gates.clone_from(gates);
            incident.exposure = Some(exposure.clone());
        }
        Entry::Approved { wish } => {
            incident.approved = !incident.commanded();
            incident.wish = Some(wish.clone());
            incident.declined = false;
            incident.unanswered.clear();
        }
        Entry::Declined { unanswered, .. } => {
            incident.declined |= unanswered.is_empty();
            incident.unanswered.extend(unanswered.iter().cloned());
            // A no takes back the yes before it; a command is not a yes, and stands.
            if std::mem::take(&mut incident.approved) {
                incident.wish = None;
            }
        }
        Entry::FrontDoorLost { at } => incident.front_door_lost = Some(*at),
        Entry::FrontDoorBack { .. } => incident.front_door_lost = None,
        Entry::MovedByOthers { at } => incident.moved_by_others = Some(*at),
        Entry::Planned { plan } => {
            incident.steps = plan.steps.iter().map(|step| (step.name.clone(), StepRun::default())).collect();
            incident.plan = Some(plan.clone());
            (incident.planned, incident.resumed) = (Some(at), None);
        }
        Entry::CallingOff { .. } => incident.calling_off = Some(at),
        Entry::AuthorityMoved { at } => incident.authority_moved = Some(*at),
        Entry::Stuck { words, waits_for } => incident.stuck = Some((words.clone(), waits_for.clone())),
        Entry::AbortedBy { by } => {
            incident.aborted = true;
            // What was asked for goes on in the world, and nobody of us looks any more.
            let open = incident.asked_for_good().map_or_else(String::new, |step| {
                format!("; {step} was asked for and not read back: look whether it came true before you say which site is active")
            });
            let waits_for = format!("`watchover adopt {} --active SITE --reason TEXT`", record.app.as_deref().unwrap_or("APP"));
            incident.stuck = Some((format!("aborted: {}{open}", by.reason), waits_for));
        }
        Entry::Retried { .. } => {
            incident.stuck = None;
            let plan = incident.plan.as_ref();
            let on_failure = |name: &str| plan.and_then(|plan| plan.step(name)).map_or(OnFailure::Halt, |step| step.on_failure);
            let passed = |name: &str, run: &StepRun| run.is_passed(on_failure(name));
            for (_, run) in incident.steps.iter_mut().filter(|(name, run)| run.state != StepState::Undone && !passed(name, run)) {
                // What is put back already stays so: it is not undone a second time.
                // Its attempts begin anew; how soon the one before can be seen is no matter of a person's word.
                let StepRun { touched, requested, permitted, .. } = *run;
                let (unseen, before) = (run.unseen.max(LONGEST_WAIT), run.before.take());
                *run = StepRun { touched, heard: touched, retried: true, requested, unseen, permitted, before, ..StepRun::default() };
            }
        }
        other => {
            let name = step_of(other);
            let is_final = name.zip(incident.plan.as_ref()).and_then(|(name, plan)| plan.step(name)).is_some_and(PlannedStep::is_final);
            if let Some(run) = name.and_then(|name| incident.steps.get_mut(name)) {
                step(run, is_final, other, record.epoch, at);
            }
            if matches!(other, Entry::StepSkipped { .. }) {
                incident.stuck = None;
            }
        }
    }
}

/// What the pause held back begins anew: it had none of its time.
pub(super) fn resumed(incident: &mut Incident, at: Moment) {
    if incident.heeds_pause() {
        incident.steps.values_mut().filter(|run| run.is_between()).for_each(|run| run.started = Some(at));
        incident.resumed = Some(at);
    }
}

/// The part of the fold that concerns one step, and whether it can be put back.
fn step(run: &mut StepRun, is_final: bool, entry: &Entry, epoch: u64, at: Moment) {
    match entry {
        Entry::StepStarted { .. } => {
            run.state = StepState::Running;
            run.started = Some(at);
        }
        Entry::StepPermitted { .. } => run.permitted = Some(at),
        Entry::StepWaits { words, waits_for, .. } => run.asks = Some((words.clone(), waits_for.clone())),
        Entry::StepProgress { words, .. } => run.progress = Some(words.clone()),
        Entry::StepIntent { attempt, found, .. } => {
            run.state = StepState::Intended;
            run.attempts = *attempt;
            // One before it that never came back may have been taken.
            run.heard |= run.applying.replace(epoch).is_some();
            (run.requested, run.unseen) = (Some(at), run.backoff());
            if !run.touched {
                run.before = found.clone();
            }
            run.touched = true;
        }
        Entry::StepAsked { .. } => {
            if run.applying.take().is_some() {
                (run.requested, run.unseen, run.heard) = (Some(at), TAKEN, true);
            }
            // An answer that was on its way brings back no step that came to its end.
            if matches!(run.state, StepState::Running | StepState::Intended) {
                run.state = StepState::Asked;
            }
        }
        Entry::StepTrouble { code, words, .. } => {
            run.trouble = Some(words.clone());
            if let Some(sent) = run.applying.take() {
                (run.requested, run.unseen) = (Some(at), run.backoff());
                // Only who sent it hears what became of it: behind a takeover this is the trouble of a look.
                let turned_away = sent == epoch && is_no_attempt(code);
                run.turned_away += u32::from(turned_away);
                run.heard |= !turned_away;
                // What nobody heard is as if it had never been asked for. Of a step that can be put back only its inspection
                // tells: its request may be sent several times, and the answer is that to the last.
                if is_final && !run.heard {
                    (run.touched, run.before) = (false, Value::Null);
                }
            }
        }
        Entry::StepVerified { facts, .. } => {
            run.state = StepState::Verified;
            run.facts = facts.clone();
            run.ended = Some(at);
        }
        Entry::StepFailed { words, needs_person, .. } => {
            run.state = StepState::Failed;
            run.trouble = Some(words.clone());
            run.needs_person = *needs_person;
            run.heard |= run.applying.take().is_some();
            run.ended = Some(at);
        }
        Entry::StepSkipped { .. } => {
            run.state = StepState::Skipped;
            run.ended = Some(at);
        }
        Entry::StepUndone { words, .. } => {
            run.state = StepState::Undone;
            run.trouble = Some(words.clone());
            run.ended = Some(at);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::fixtures::{at, by, opened, record};
    use crate::domain::ledger::{Ledger, Wish};
    use crate::domain::model::State;

    #[test]
    fn only_a_call_that_was_turned_away_for_its_rate_is_no_attempt() {
        let mut run = StepRun::default();
        let name = || "promote".to_owned();
        let asks = |attempt| Entry::StepIntent { step: name(), attempt, found: Value::Null };
        let trouble = |code: &str| Entry::StepTrouble { step: name(), code: code.to_owned(), words: String::new() };
        step(&mut run, false, &asks(1), 1, Moment::default());
        step(&mut run, false, &trouble("Throttling"), 1, Moment::default());
        // The look before the next try is throttled as well: no call of ours was out.
        step(&mut run, false, &trouble("Throttling"), 1, Moment::default());
        assert_eq!((run.attempts, run.turned_away), (1, 1));
        step(&mut run, false, &asks(2), 1, Moment::default());
        step(&mut run, false, &trouble("timeout"), 1, Moment::default());
        assert_eq!((run.attempts, run.turned_away), (2, 1), "what may have been done is an attempt");
    }

    #[test]
    fn a_final_step_that_nobody_heard_was_never_asked_for_and_behind_a_takeover_nobody_knows() {
        let name = || "promote".to_owned();
        let asks = |attempt| Entry::StepIntent { step: name(), attempt, found: "first".into() };
        let turned_away = Entry::StepTrouble { step: name(), code: "InvalidDBInstanceState".to_owned(), words: String::new() };
        let after = |entries: &[(&Entry, u64)]| {
            let mut run = StepRun::default();
            entries.iter().for_each(|(entry, epoch)| step(&mut run, true, entry, *epoch, Moment::default()));
            (run.touched, run.before == "first", run.turned_away)
        };
        assert_eq!(after(&[(&asks(1), 1), (&turned_away, 1)]), (false, false, 1));
        assert_eq!(after(&[(&asks(1), 1), (&turned_away, 2)]), (true, true, 0), "a look of who took over");
        assert_eq!(after(&[(&asks(1), 1), (&asks(2), 2), (&turned_away, 2)]), (true, true, 1), "the first never came back");
    }

    #[test]
    fn what_went_before_the_clock_of_a_command_is_no_phase_of_it() {
        let spent = |graceful: bool, confirmed: bool| {
            let mut ledger = Ledger::default();
            ledger.apply(&record(opened(None), 0)).unwrap();
            let mut open = ledger.incident.unwrap();
            open.spent.insert(State::Suspect, Duration::from_secs(7));
            open.confirmed = confirmed.then(|| at(3));
            let wish = Wish { by: by(), accept_loss: None, shown: None, force: false, graceful };
            incident(&mut open, &record(Entry::Commanded { wish, first_failed: None }, 9));
            !open.spent.is_empty()
        };
        assert!(spent(false, true), "its clock is that of the outage");
        assert_eq!([spent(false, false), spent(true, false), spent(true, true)], [false; 3]);
    }

    #[test]
    fn what_was_done_outlives_restarts_and_retries_and_what_stood_there_before_is_kept_once() {
        let name = || "promote".to_owned();
        let asks = |attempt, found: &str| Entry::StepIntent { step: name(), attempt, found: found.into() };
        let mut ledger = Ledger::default();
        ledger.apply(&record(opened(None), 0)).unwrap();
        let mut open = ledger.incident.unwrap();
        open.steps.insert(name(), StepRun::default());
        for (second, entry) in [
            Entry::StepStarted { step: name() },
            Entry::StepPermitted { step: name(), gates: Vec::new() },
            asks(1, "first"),
            asks(2, "ours by now"),
        ]
        .into_iter()
        .enumerate()
        {
            incident(&mut open, &record(entry, second as i64));
        }
        let run = &open.steps["promote"];
        assert_eq!((run.started, run.permitted, run.attempts), (Some(at(0)), Some(at(1)), 2));
        assert_eq!((run.touched, &run.before), (true, &Value::from("first")));

        let retried = Entry::Retried { by: by() };
        incident(&mut open, &record(Entry::Stuck { words: "it failed".into(), waits_for: "somebody".into() }, 5));
        incident(&mut open, &record(retried.clone(), 6));
        let run = &open.steps["promote"];
        assert_eq!((run.touched, &run.before, run.attempts, &open.stuck), (true, &Value::from("first"), 0, &None));
        assert_eq!((run.heard, run.retried, run.permitted), (true, true, Some(at(1))), "what may have been taken, and a person's word");
        assert_eq!((run.state, run.started), (StepState::Waiting, None));
        assert_eq!(run.requested, Some(at(3)), "what was on its way still is");
        // What has come to a good end is not asked for again.
        incident(&mut open, &record(Entry::StepVerified { step: name(), already: false, facts: Value::Null }, 7));
        incident(&mut open, &record(retried, 8));
        assert_eq!(open.steps["promote"].state, StepState::Verified);
        // Nor is what is put back put back again.
        incident(&mut open, &record(Entry::StepUndone { step: name(), words: String::new() }, 9));
        incident(&mut open, &record(Entry::Retried { by: by() }, 10));
        assert_eq!(open.steps["promote"].state, StepState::Undone);
    }
}
