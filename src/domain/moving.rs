//! A move under way: which step goes next, what its reports mean, and the second look before what cannot be undone.
//!
//! Every pass through a step is inspect, (permit,) intent, apply, verify. After any trouble, and after any restart, it
//! starts at inspect again: what is so already is never asked for twice.

use std::time::Duration;

use serde_json::Value;

use super::calling_off::{alone, call_off, is_harmless_to_leave};
use super::decide::{App, Decision, Effect};
use super::gates::Around;
use super::ledger::{Entry, Incident, StepRun, StepState};
use super::model::Moment;
use super::permit::{needs_permit, permit};
use super::plan::{OnFailure, Plan, PlannedStep, Repeat, Reversibility};
use super::report::{ErrorClass, Inspection, Report, StepError};

/// How long a step is still looked at whose deadline passed while we were not running.
pub const LAST_LOOK: Duration = Duration::from_secs(5);

/// What a step is doing in this process. Lost with it; the ledger knows how to go on without.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Nothing before that moment.
    Idle { until: Moment },
    /// With the executor, since then and for that.
    Out { since: Moment, on: Doing },
    /// The executor came back.
    Back(Report),
    /// Waiting for looks sent after `asked`.
    Permit { asked: Moment, found: Value },
}

/// What the executor was sent out to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// To look whether it is so, or could be.
    Inspect,
    /// To ask for it.
    Apply,
    /// To read it back.
    Verify,
    /// To put it back.
    Undo,
}

impl Default for Work {
    fn default() -> Self {
        Work::Idle { until: Moment { mono: i64::MIN, wall: i64::MIN } }
    }
}

impl Work {
    /// True if the executor was sent out for just this report. One that was on its way from an earlier errand is none: the
    /// late answer of an inspection, taken for that of a request, would have the step asked for twice.
    pub fn awaits(&self, report: &Report) -> bool {
        let Work::Out { on, .. } = self else { return false };
        match report {
            Report::Inspected(_) => *on == Doing::Inspect,
            Report::Applied(_) => *on == Doing::Apply,
            Report::Verified(_) => *on == Doing::Verify,
            Report::Undone(_) => *on == Doing::Undo,
            Report::Progress(_) => false,
        }
    }

    /// True while a request that changes something is on its way, or its answer has just come.
    pub fn is_of_a_change(&self) -> bool {
        matches!(self, Work::Out { on: Doing::Apply | Doing::Undo, .. } | Work::Back(Report::Applied(_) | Report::Undone(_)))
    }

    /// The end of a wait that is not over.
    pub fn idle_until(&self, now: Moment) -> Option<Moment> {
        if let Work::Idle { until } = self { Some(*until).filter(|until| until.mono > now.mono) } else { None }
    }
}

/// The wait before the next look at something under way: short at first, then a fiftieth of the time it has taken, so
/// that the delay we add stays near one percent while the calls stay few.
pub fn pace(running: Duration) -> Duration {
    (running / 50).clamp(Duration::from_millis(100), Duration::from_secs(2))
}

/// What a moving incident should do now.
pub(super) fn next(app: &App, around: &Around, now: Moment) -> Option<Decision> {
    let incident = app.ledger.incident.as_ref()?;
    let plan = incident.plan.as_ref()?;
    if let Some(called_off) = incident.calling_off {
        return call_off(app, incident, plan, called_off, now);
    }
    for step in &plan.steps {
        let Some(run) = incident.steps.get(&step.name) else { continue };
        let decision = match run.state {
            StepState::Waiting => start(app, incident, plan, step, now),
            StepState::Running | StepState::Intended | StepState::Asked => drive(app, around, incident, step, run, now),
            StepState::Verified | StepState::Failed | StepState::Skipped | StepState::Undone => None,
        };
        if decision.is_some() {
            return decision;
        }
    }
    let ended = |step: &PlannedStep| incident.steps.get(&step.name).is_some_and(|run| run.is_passed(step.on_failure));
    if plan.steps.iter().all(ended) {
        return Some(Decision::entry(Entry::Executed));
    }
    let active = |run: &StepRun| matches!(run.state, StepState::Running | StepState::Intended | StepState::Asked);
    let goes_on = |run: &StepRun| active(run) && !is_held(app, incident, run);
    if let Some((step, run)) = halted(incident, plan)
        && !incident.steps.values().any(goes_on)
    {
        let words =
            format!("step {} failed: {}{}", step.name, run.trouble.as_deref().unwrap_or("no reason given"), alone(incident, &step.name));
        if is_harmless_to_leave(incident) {
            return Some(Decision::entry(Entry::CallingOff { words }));
        }
        let waits_for = format!(
            "`watchover retry {0} --reason TEXT`, `watchover skip {1} --incident {0} --reason TEXT` or `watchover abort {0} --reason TEXT`",
            incident.id, step.name
        );
        return Some(Decision::entry(Entry::Stuck { words, waits_for }));
    }
    if is_over(app, incident, now) {
        let waiting: Vec<&str> = plan.steps.iter().filter(|step| !ended(step)).map(|step| step.name.as_str()).collect();
        let words = format!(
            "not done within move_timeout {}; still open: {}",
            humantime::format_duration(app.policy.move_timeout),
            waiting.join(", ")
        );
        let entry = if is_harmless_to_leave(incident) {
            Entry::CallingOff { words }
        } else {
            let waits_for = format!("`watchover retry {0} --reason TEXT` or `watchover abort {0} --reason TEXT`", incident.id);
            Entry::Stuck { words, waits_for }
        };
        let stuck = matches!(entry, Entry::Stuck { .. });
        let mut decision = Decision::entry(entry);
        for step in incident.steps.iter().filter(|(_, run)| active(run)).map(|(name, _)| name) {
            // An undo waits for the answer to what was asked for, so that it overtakes nothing: who stops the asking waits in
            // vain. Whoever retries a stuck step waits for nothing.
            if stuck {
                decision = decision.doing(step, Work::default());
            } else if app.work.get(step).is_some_and(Work::is_of_a_change) {
                continue;
            }
            decision = decision.and(Effect::Cancel { step: step.clone() });
        }
        return Some(decision);
    }
    None
}

/// Nothing new is started while stuck; what was out may still report, and is taken down.
pub(super) fn settle_stuck(app: &App) -> Option<Decision> {
    let incident = app.ledger.incident.as_ref()?;
    incident.steps.iter().find_map(|(name, run)| {
        let Some(Work::Back(report)) = app.work.get(name) else { return None };
        let decision = Decision::default().doing(name, Work::default());
        // A step that came to its end, by failing or by a person's `skip`, is not brought back by an answer that was on its way.
        if !matches!(run.state, StepState::Running | StepState::Intended | StepState::Asked) {
            return Some(decision);
        }
        Some(match report {
            Report::Verified(Ok(facts)) => decision.then(Entry::StepVerified { step: name.clone(), already: false, facts: facts.clone() }),
            Report::Applied(Ok(facts)) => decision.then(Entry::StepAsked { step: name.clone(), facts: facts.clone() }),
            _ => decision,
        })
    })
}

fn halted<'a>(incident: &'a Incident, plan: &'a Plan) -> Option<(&'a PlannedStep, &'a StepRun)> {
    plan.steps.iter().find_map(|step| {
        let run = incident.steps.get(&step.name)?;
        (run.state == StepState::Failed && !run.is_passed(step.on_failure)).then_some((step, run))
    })
}

/// True while nothing new may be started.
pub(super) fn is_paused(app: &App, incident: &Incident) -> bool {
    app.ledger.paused.is_some() && !incident.despite_pause
}

/// True while a pause holds the move and costs it none of its time.
fn stands_still(app: &App, incident: &Incident) -> bool {
    app.ledger.paused.is_some() && incident.heeds_pause()
}

/// True once the time of the whole move has passed: nothing new is asked for.
fn is_over(app: &App, incident: &Incident, now: Moment) -> bool {
    // Counted from the plan, and anew from a person's `retry` or `skip`: else a late one would be stuck again at once.
    let since = incident.resumed.map_or(app.ledger.since, |resumed| resumed.max(app.ledger.since));
    !stands_still(app, incident) && now.since(since) >= app.policy.move_timeout
}

/// True of a step that a pause holds back, and whose time does not run.
fn is_held(app: &App, incident: &Incident, run: &StepRun) -> bool {
    stands_still(app, incident) && run.is_between()
}

fn start(app: &App, incident: &Incident, plan: &Plan, step: &PlannedStep, now: Moment) -> Option<Decision> {
    if is_paused(app, incident) || halted(incident, plan).is_some() {
        return None;
    }
    let passed = |name: &String| plan.step(name).zip(incident.steps.get(name)).is_some_and(|(step, run)| run.is_passed(step.on_failure));
    if !step.after.iter().all(passed) {
        return None;
    }
    // Retried while its request is on the way: a look that overtakes the request would have it asked for twice.
    if matches!(app.work.get(&step.name), Some(Work::Out { on: Doing::Apply | Doing::Undo, .. })) {
        return None;
    }
    let name = step.name.clone();
    Some(
        Decision::entry(Entry::StepStarted { step: name.clone() })
            .and(Effect::Inspect { step: name.clone() })
            .doing(&name, Work::Out { since: now, on: Doing::Inspect }),
    )
}

/// One step that has started and is not done.
fn drive(app: &App, around: &Around, incident: &Incident, step: &PlannedStep, run: &StepRun, now: Moment) -> Option<Decision> {
    let name = &step.name;
    let since = run.started.unwrap_or(now);
    let idle = Work::default();
    let work = app.work.get(name).unwrap_or(&idle);
    // What a pause holds back does not fail by that: its time begins when the pause is over.
    let late = now.since(since) >= step.deadline && !is_held(app, incident, run);
    if let Some((asked, _)) = &run.asks {
        // Nothing is looked at meanwhile: only a person's word ends it, or its time.
        let words = || format!("nobody answered within {}; it asked: {asked}", humantime::format_duration(step.deadline));
        let failed = || Entry::StepFailed { step: name.clone(), code: "no-answer".into(), words: words(), needs_person: false };
        return late.then(|| Decision::entry(failed()).doing(name, Work::default()));
    }
    // Its time may have run out while nobody watched: then it is looked at until one look tells, and not asked for again.
    let waking = since.mono < around.awake.mono && now.since(around.awake) < LAST_LOOK;
    let answered = match work {
        Work::Back(Report::Verified(Ok(_)) | Report::Inspected(Ok(Inspection::AlreadySo(_)))) => true,
        Work::Back(Report::Verified(Err(_)) | Report::Inspected(Err(_)) | Report::Applied(_)) => waking,
        // Nothing of it was seen in this process: it may have come true meanwhile.
        Work::Idle { .. } => waking || !app.work.contains_key(name),
        Work::Out { since: sent, .. } => waking || (sent.since(since) >= step.deadline && now.since(*sent) < LAST_LOOK),
        Work::Back(_) | Work::Permit { .. } => false,
    };
    if late && !answered {
        return Some(
            overdue(step, run, app.progress(name).or(run.progress.as_deref()))
                .and(Effect::Cancel { step: name.clone() })
                .doing(name, Work::default()),
        );
    }
    match work {
        Work::Out { .. } => None,
        Work::Idle { until } if now.mono < until.mono => None,
        Work::Permit { .. } if is_over(app, incident, now) => None,
        // Its request was taken, so it is not asked for again while a sight of it is not to be had: right after the request
        // an instance under promotion looks as it did before. Read back it is, until it is so or the deadline passes.
        Work::Idle { .. } if run.state == StepState::Asked && step.reversibility == Reversibility::ForwardOnly => {
            Some(Decision::default().and(Effect::Verify { step: name.clone() }).doing(name, Work::Out { since: now, on: Doing::Verify }))
        }
        Work::Idle { .. } => {
            Some(Decision::default().and(Effect::Inspect { step: name.clone() }).doing(name, Work::Out { since: now, on: Doing::Inspect }))
        }
        Work::Permit { asked, found } => permit(app, around, incident, step, run, *asked, found, now),
        Work::Back(Report::Inspected(Ok(inspection))) => Some(inspected(app, around, incident, step, run, inspection, now)),
        Work::Back(Report::Applied(Ok(facts))) => {
            let asked = Entry::StepAsked { step: name.clone(), facts: facts.clone() };
            Some(Decision::entry(asked).and(Effect::Verify { step: name.clone() }).doing(name, Work::Out { since: now, on: Doing::Verify }))
        }
        Work::Back(Report::Verified(Ok(facts))) => {
            let verified = Entry::StepVerified { step: name.clone(), already: !run.touched, facts: facts.clone() };
            Some(Decision::entry(verified).doing(name, Work::default()))
        }
        Work::Back(Report::Inspected(Err(error)) | Report::Applied(Err(error)) | Report::Verified(Err(error))) => {
            Some(troubled(step, run, error, now))
        }
        Work::Back(Report::Progress(_) | Report::Undone(_)) => Some(Decision::default().doing(name, Work::default())),
    }
}

fn overdue(step: &PlannedStep, run: &StepRun, progress: Option<&str>) -> Decision {
    let last = run.trouble.as_deref().or(progress).map(|words| format!("; last seen: {words}")).unwrap_or_default();
    let words = format!("not done within its deadline of {}{last}", humantime::format_duration(step.deadline));
    let needs_person = is_open_for_good(step, run);
    Decision::entry(Entry::StepFailed { step: step.name.clone(), code: "deadline".into(), words, needs_person })
}

/// Asked for and not read back, and nothing takes it back: a machine must not guess whether it will still happen.
fn is_open_for_good(step: &PlannedStep, run: &StepRun) -> bool {
    run.touched && step.is_final()
}

fn inspected(
    app: &App,
    around: &Around,
    incident: &Incident,
    step: &PlannedStep,
    run: &StepRun,
    inspection: &Inspection,
    now: Moment,
) -> Decision {
    let name = &step.name;
    match inspection {
        Inspection::AlreadySo(facts) => {
            let verified = Entry::StepVerified { step: name.clone(), already: !run.touched, facts: facts.clone() };
            Decision::entry(verified).doing(name, Work::default())
        }
        Inspection::UnderWay(facts) => {
            let verify =
                Decision::default().and(Effect::Verify { step: name.clone() }).doing(name, Work::Out { since: now, on: Doing::Verify });
            if run.state == StepState::Asked { verify } else { verify.then(Entry::StepAsked { step: name.clone(), facts: facts.clone() }) }
        }
        Inspection::NotYet(words) => {
            let running = now.since(run.started.unwrap_or(now));
            let waits = Decision::default().doing(name, Work::Idle { until: now + pace(running) });
            // Once a turn: how far it has come since is shown, and not worth a durable row for each look.
            if run.progress.is_some() { waits } else { waits.then(Entry::StepProgress { step: name.clone(), words: words.clone() }) }
        }
        Inspection::Asks(words) => {
            let waits_for = format!("`watchover approve {0} --reason TEXT` or `watchover decline {0} --reason TEXT`", incident.id);
            let exposure = app.exposure_of(incident, around, now);
            Decision::entry(Entry::StepWaits { step: name.clone(), words: words.clone(), waits_for, exposure }).doing(name, Work::default())
        }
        // It came back well before the crash: what cannot be inspected is not asked for again after that.
        Inspection::CannotTell if run.state == StepState::Asked => {
            Decision::default().and(Effect::Verify { step: name.clone() }).doing(name, Work::Out { since: now, on: Doing::Verify })
        }
        Inspection::CannotTell if run.touched && !run.retried && step.repeat == Repeat::Inspectable => {
            let words = "a crash or a lost answer leaves open whether it was done, and it cannot be inspected".to_owned();
            Decision::entry(Entry::StepFailed { step: name.clone(), code: "cannot-tell".into(), words, needs_person: true })
                .doing(name, Work::default())
        }
        Inspection::CannotTell => ask(app, incident, step, run, &Value::Null, now),
        Inspection::Possible(found) => ask(app, incident, step, run, found, now),
    }
}

/// It can be done: at once, or after a second look at everything that speaks for it.
fn ask(app: &App, incident: &Incident, step: &PlannedStep, run: &StepRun, found: &Value, now: Moment) -> Decision {
    let name = &step.name;
    // A request that was lost on its way may have been taken, and for a moment nothing of it is to be seen: whatever happens
    // to us in that moment, it gets as long as it would have got. It is looked for meanwhile.
    if let Some(until) = run.rests_until(now).filter(|_| step.is_final()) {
        let until = [until, now + Duration::from_secs(1)].into_iter().min_by_key(|at| at.mono).unwrap_or(until);
        return Decision::default().doing(name, Work::Idle { until });
    }
    // A call that was turned away for its rate is no attempt: nothing was done, and only the deadline bounds it.
    let made = run.attempts.saturating_sub(run.turned_away);
    if made >= step.attempts {
        let last = run.trouble.clone().unwrap_or_else(|| "it was asked for, and is not so".into());
        let words = format!("{made} of {} attempts made: {last}", step.attempts);
        let needs_person = is_open_for_good(step, run);
        return Decision::entry(Entry::StepFailed { step: name.clone(), code: "attempts".into(), words, needs_person })
            .doing(name, Work::default());
    }
    if is_paused(app, incident) || is_over(app, incident, now) {
        return Decision::default().doing(name, Work::Idle { until: now + Duration::from_secs(1) });
    }
    if needs_permit(app, incident, step, now) {
        return Decision::default().and(Effect::LookNow).doing(name, Work::Permit { asked: now, found: found.clone() });
    }
    intend(step, run, found, now)
}

pub(super) fn intend(step: &PlannedStep, run: &StepRun, found: &Value, now: Moment) -> Decision {
    let intent = Entry::StepIntent { step: step.name.clone(), attempt: run.attempts + 1, found: found.clone() };
    Decision::entry(intent).and(Effect::Apply { step: step.name.clone() }).doing(&step.name, Work::Out { since: now, on: Doing::Apply })
}

fn troubled(step: &PlannedStep, run: &StepRun, error: &StepError, now: Moment) -> Decision {
    let name = &step.name;
    let trouble = || Entry::StepTrouble { step: name.clone(), code: error.code.clone(), words: error.message.clone() };
    match error.class {
        ErrorClass::Retry => {
            let wait = Decision::default().doing(name, Work::Idle { until: now + run.backoff() });
            let said = run.trouble.as_deref() == Some(error.message.as_str());
            // What became of an attempt stands in the journal, so that nobody forgets it after a restart.
            if said && run.applying.is_none() { wait } else { wait.then(trouble()) }
        }
        ErrorClass::AlreadySo => {
            Decision::entry(trouble()).and(Effect::Verify { step: name.clone() }).doing(name, Work::Out { since: now, on: Doing::Verify })
        }
        ErrorClass::Refused | ErrorClass::NeedsPerson => {
            // Whoever wrote `continue` wants the move to go on without it; unless that may still happen and stay.
            let needs_person =
                error.class == ErrorClass::NeedsPerson && (step.on_failure == OnFailure::Halt || is_open_for_good(step, run));
            let failed = Entry::StepFailed { step: name.clone(), code: error.code.clone(), words: error.message.clone(), needs_person };
            Decision::entry(failed).doing(name, Work::default())
        }
    }
}
