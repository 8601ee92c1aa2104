//! The second look: before what cannot be taken back, and before users are sent elsewhere, everything that speaks for it
//! is looked at again.

use std::time::Duration;

use serde_json::Value;

use super::decide::{App, Decision, Effect};
use super::gates::{self, Around};
use super::health::SignalHealth;
use super::ledger::{Entry, Gate, GateState, Incident, Ruling, StepRun};
use super::left;
use super::model::{Health, Moment, Trigger};
use super::moving::{Work, intend, is_paused};
use super::plan::{Class, PlannedStep};
use super::policy::SitePolicy;
use super::quorum::{self, Point, Problem};
use super::rpo::{Assumption, Exposure};

/// The gates that bind each final step, not only the start.
const BINDING: &[&str] = &["not-isolated", "target-healthy", "data-loss", "lease"];

/// What cannot be taken back, and what sends users elsewhere, is looked at again right before it; the rest, where what it
/// rests on is old.
pub(super) fn needs_permit(app: &App, incident: &Incident, step: &PlannedStep, now: Moment) -> bool {
    step.is_final() || step.class == Class::Traffic || rests_on_old_looks(app, incident, step, now)
}

/// How long a decision is fresh: as long as its own looks were on their way, and a bit.
const FRESH: Duration = Duration::from_secs(2);

/// How soon a look that did not do is repeated.
const AGAIN: Duration = Duration::from_secs(1);

/// True of a step at the site that is left, when what was seen of that site is old: the move waited for a hook or a
/// person, was paused, or we were not running; or when what was seen since is no longer what was decided on. A site that
/// came back meanwhile must not be taken down by our own fence, nor seem lost because of it.
fn rests_on_old_looks(app: &App, incident: &Incident, step: &PlannedStep, now: Moment) -> bool {
    let left = app.policy.site(incident.direction.source());
    if step.region != left.region || incident.is_committed() {
        return false;
    }
    let signals = app.signals(incident.direction.source());
    let planned = incident.planned.unwrap_or(incident.opened);
    let holds = || match quorum::second_look(left, signals, planned, now) {
        Some(problem) => problem == Problem::Persists,
        // Whoever has just started has the word of its last life, and has seen nothing.
        None => signals.iter().any(|signal| signal.last().is_some()),
    };
    now.since(planned) > FRESH || incident.trigger == Trigger::Outage && !holds()
}

#[expect(clippy::too_many_arguments, reason = "the whole situation of one step; a struct would only rename it")]
pub(super) fn permit(
    app: &App,
    around: &Around,
    incident: &Incident,
    step: &PlannedStep,
    run: &StepRun,
    asked: Moment,
    found: &Value,
    now: Moment,
) -> Option<Decision> {
    let name = &step.name;
    let direction = incident.direction;
    let committed = incident.is_committed_besides(name);
    let point = match step.class {
        Class::Traffic => Point::Traffic,
        _ if committed => Point::Moved,
        _ => Point::Start,
    };
    let target = app.policy.site(direction.target());
    let signals = app.signals(direction.target());
    let required = quorum::required_at(target, point);
    // A look that does not come back counts as unknown when its time is over: some answer there will be.
    if required.iter().any(|at| signals[*at].fresh(asked).is_none()) {
        return None;
    }
    if !committed && incident.trigger == Trigger::Outage {
        let source = app.policy.site(direction.source());
        match quorum::second_look(source, app.signals(direction.source()), asked, now) {
            None | Some(Problem::Wavers | Problem::Unclear) => return None,
            Some(Problem::Persists) if app.is_taken_by_blindness(direction.source(), now) => return None,
            Some(Problem::Gone) => {
                let words = format!("the {} is up again: {}", direction.source(), app.site_words(direction.source(), now));
                return Some(stop(incident, name, &words));
            }
            Some(Problem::Persists) => {}
        }
    }
    if let Some(fenced) = incident.fence_ended().filter(|_| incident.graceful() && !committed && step.class == Class::Data) {
        let source = direction.source();
        quorum::second_look(app.policy.site(source), app.signals(source), asked, now)?;
        // Behind its fence nobody should answer there: what is written by whoever does, the new one lacks.
        if let Some((_, seen)) = left::alive(app, source, fenced) {
            let words = format!("the writers of the {source} are fenced off, and it is alive: {seen}");
            return Some(stop(incident, name, &words));
        }
    }
    let (_, gates, exposure) = app.view(around, now).gates(direction, point);
    // The others bound the start of the move; these bind every step that is final.
    let binds = |gate: &Gate| BINDING.contains(&gate.name.as_str()) && !(committed && gate.name == "data-loss");
    let binding: Vec<Gate> = gates.into_iter().filter(binds).collect();
    let passed = at_work(incident, app.ledger.since.max(around.awake), now).min(app.policy.move_timeout);
    let binding = binding.into_iter().map(|gate| tolerate(incident, &exposure, gate, passed)).collect::<Vec<Gate>>();
    let again = || Decision::default().and(Effect::LookNow).doing(name, Work::Permit { asked: now, found: found.clone() });
    match gates::ruling(binding.iter().map(|gate| gate.state)) {
        Ruling::Go if is_paused(app, incident) => None,
        // Up by count, and its last look failed: before it is left to that alone it is looked at once more.
        Ruling::Go if !committed && required.iter().any(|at| is_failing(target, signals, *at)) => (now.since(asked) > AGAIN).then(again),
        Ruling::Go => {
            let permitted = Entry::StepPermitted { step: name.clone(), gates: binding };
            let mut decision = intend(step, run, found, now);
            decision.entries.insert(0, permitted);
            Some(decision)
        }
        Ruling::Ask | Ruling::Hold => {
            let loss = binding.iter().any(|gate| gate.name == "data-loss" && gate.state != GateState::Open);
            if loss {
                let words = format!("before {name}: {}", exposure.words());
                let waits_for = format!("`watchover approve {0} --accept-data-loss D` or `watchover abort {0}`", incident.id);
                let failed = Entry::StepFailed { step: name.clone(), code: "data-loss".into(), words: words.clone(), needs_person: true };
                return Some(Decision::entry(failed).then(Entry::Stuck { words, waits_for }).doing(name, Work::default()));
            }
            let words = format!("held before {name}: {}", gates::closed_words(&binding));
            if now.since(asked) <= AGAIN {
                return None;
            }
            // Its figures change with every look: one row says it.
            Some(if run.trouble.as_deref().is_some_and(|trouble| trouble.starts_with("held before")) {
                again()
            } else {
                again().then(Entry::StepTrouble { step: name.clone(), code: "gate".into(), words })
            })
        }
    }
}

/// What speaks for the step is gone: what was done is put back, unless the step was asked for already. If that came true unseen,
/// putting the old writers back would be worse than asking a person.
fn stop(incident: &Incident, name: &str, why: &str) -> Decision {
    let words = format!("before {name}: {why}");
    let entry = if incident.is_committed() {
        let words = format!("{words}; and {name} was asked for already, without a sign that it came true");
        let id = &incident.id;
        let waits_for = format!("a look whether it has; then `watchover retry {id} --reason TEXT` or `watchover abort {id} --reason TEXT`");
        Entry::Stuck { words, waits_for }
    } else {
        Entry::CallingOff { words }
    };
    Decision::entry(entry).doing(name, Work::default())
}

/// True of a signal whose latest look failed. A replica whose source is gone may say so all the while.
fn is_failing(site: &SitePolicy, signals: &[SignalHealth], at: usize) -> bool {
    !site.signals[at].replica && signals[at].last().is_some_and(|last| last.verdict.health() == Health::Down)
}

/// How long the move's steps have been at work since its plan, the last pause, and `since`: when it was last set going by
/// somebody, or we began to watch it.
fn at_work(incident: &Incident, since: Moment, now: Moment) -> Duration {
    now.since(incident.resumed.or(incident.planned).unwrap_or(incident.opened).max(since))
}

/// The loss was judged when the move was decided; that it has grown since by the time that its steps have taken is no worse
/// evidence; what a pause or our own absence has added is. To stop here, with the old writers fenced off, would only make the outage longer.
fn tolerate(incident: &Incident, exposure: &Exposure, gate: Gate, passed: Duration) -> Gate {
    let judged = incident.exposure.as_ref().and_then(|judged| judged.seconds);
    // Where writes go on, what is added is no older evidence: it is more loss.
    let passed = if exposure.assumption == Assumption::WritesUntilNow { passed.min(FRESH) } else { passed };
    let passed = passed.as_secs_f64();
    let since_lost = incident
        .front_door_lost
        .zip(incident.fenced_at())
        .map_or(0.0, |(lost, fenced)| (fenced.saturating_sub(lost.wall).max(0) as f64) / 1e6);
    let grown = judged.zip(exposure.seconds).is_some_and(|(judged, seconds)| seconds <= judged + passed.max(since_lost));
    let unknown_accepted = incident.exposure.is_some() && judged.is_none() && exposure.seconds.is_none();
    if gate.name != "data-loss" || gate.state == GateState::Open || !(grown || unknown_accepted) {
        return gate;
    }
    Gate { state: GateState::Open, words: format!("{}; as judged when the move was decided, grown by the time since", gate.words), ..gate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{self, at, opened, record, step};
    use crate::domain::ledger::{Ledger, StepState};
    use crate::domain::model::{Direction, State};
    use crate::domain::plan::Plan;

    /// Opened at 10 s and planned at 20 s, when the loss was judged so.
    fn incident(judged: Option<f64>) -> Incident {
        let mut ledger = Ledger::default();
        let fence = PlannedStep { kind: "fence-primary".into(), ..step("fence", Class::Other, None, &[]) };
        let plan = Plan { direction: Direction::ToStandby, steps: vec![fence] };
        let gated = Entry::Gated { ruling: Ruling::Go, gates: Vec::new(), exposure: fixtures::exposure(judged) };
        for (entry, seconds) in [(opened(None), 10), (gated, 20), (Entry::Planned { plan }, 20)] {
            ledger.apply(&record(entry, seconds)).unwrap();
        }
        assert_eq!(ledger.state, State::Moving);
        ledger.incident.unwrap()
    }

    fn exposure(seconds: Option<f64>) -> Exposure {
        Exposure { assumption: Assumption::NoWritesPastFrontDoor, ..fixtures::exposure(seconds) }
    }

    fn tolerated(incident: &Incident, seconds: Option<f64>, now: i64) -> bool {
        let shut = || Gate { name: "data-loss".into(), state: GateState::Shut, words: "more than 60s".into() };
        let other = Gate { name: "lease".into(), ..shut() };
        let passed = at_work(incident, at(0), at(now));
        assert_eq!(tolerate(incident, &exposure(seconds), other.clone(), passed), other, "nothing else is tolerated");
        let gate = tolerate(incident, &exposure(seconds), shut(), passed);
        let words = "more than 60s; as judged when the move was decided, grown by the time since";
        assert_eq!(gate.words, if gate.state == GateState::Open { words } else { "more than 60s" });
        gate.state == GateState::Open
    }

    #[test]
    fn a_loss_that_grew_with_the_time_since_it_was_judged_is_tolerated_and_no_other() {
        let judged = incident(Some(100.0));
        assert!(tolerated(&judged, Some(107.0), 27));
        assert!(!tolerated(&judged, Some(107.1), 27));
        assert!(!tolerated(&judged, None, 27), "a figure that is gone is worse than one that grew");
        let resumed = Incident { resumed: Some(at(25)), ..judged.clone() };
        assert!(tolerated(&resumed, Some(102.0), 27) && !tolerated(&resumed, Some(107.0), 27), "a pause is no time at work");
        assert_eq!(at_work(&judged, at(25), at(27)), Duration::from_secs(2), "nor is what went before a retry, or our own absence");
        // Writes went on from the loss of the front door until the fence, however little has passed since the decision.
        let mut fenced = judged.clone();
        fenced.front_door_lost = Some(at(5));
        let facts = serde_json::json!({ "fence": "proven", "at": 25_500_000 });
        fenced.steps.insert("fence".into(), StepRun { state: StepState::Verified, facts, ..StepRun::default() });
        assert!(tolerated(&fenced, Some(120.5), 27));
        assert!(!tolerated(&fenced, Some(120.6), 27));
        assert!(tolerated(&fenced, Some(121.0), 41));
    }

    #[test]
    fn while_writes_go_on_what_is_added_is_lost_and_no_older_evidence() {
        let judged = incident(Some(100.0));
        let gate = || Gate { name: "data-loss".into(), state: GateState::Shut, words: "more than 60s".into() };
        let is_open = |seconds| {
            let passed = Duration::from_secs(600);
            tolerate(&judged, &fixtures::exposure(Some(seconds)), gate(), passed).state == GateState::Open
        };
        assert!(is_open(102.0), "the looks that permit it have taken so long themselves");
        assert!(!is_open(102.1));
        assert!(tolerated(&judged, Some(160.0), 80));
    }

    #[test]
    fn a_loss_that_nobody_could_tell_is_tolerated_only_if_it_was_accepted_so() {
        assert!(tolerated(&incident(None), None, 27));
        assert!(!tolerated(&incident(None), Some(1.0), 27));
        let unjudged = Incident { exposure: None, ..incident(None) };
        assert!(!tolerated(&unjudged, None, 27));
    }
}
