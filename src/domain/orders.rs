//! What a person may ask for, and what the answer is.

use std::time::Duration;

use super::decide::{App, Decision, Effect};
use super::gates::{self, Around, View};
use super::ledger::{Entry, Figures, Gate, Illegal, Incident, Ledger, Record, Ruling, StepRun, StepState, Wish};
use super::model::{Actor, Direction, Moment, Outcome, SiteName, State, Trigger};
use super::quorum::{self, Point};
use super::rpo::Exposure;

/// An operator's word.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Move to that site.
    Move { to: SiteName, wish: Wish },
    /// Yes to an incident that asks.
    Approve { incident: String, by: Actor, accept_loss: Option<f64> },
    /// No to it.
    Decline { incident: String, by: Actor },
    /// Try the failed steps of a stuck incident again.
    Retry { incident: String, by: Actor },
    /// Go on without a step.
    Skip { incident: String, step: String, by: Actor },
    /// No new apply; stays stuck until adopted.
    Abort { incident: String, by: Actor },
    /// That site is active.
    Adopt { site: SiteName, by: Actor },
    /// Nothing new by itself for that long.
    Pause { length: Duration, by: Actor },
    /// The pause is over.
    Resume { by: Actor },
}

/// Why an order is not followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    /// The reason, and what to do.
    pub words: String,
    /// The gates, if one of them refused.
    pub gates: Vec<Gate>,
}

impl Refusal {
    fn new(words: impl Into<String>) -> Refusal {
        Refusal { words: words.into(), gates: Vec::new() }
    }
}

impl App {
    /// What following the order would write; nothing happens before that is durable. `id` names a new incident.
    pub fn order(&self, order: Order, id: &str, around: &Around, now: Moment) -> Result<Decision, Refusal> {
        match order {
            Order::Move { to, wish } => self.order_move(to, wish, id, around, now),
            Order::Approve { incident, by, accept_loss } => self.order_approval(&incident, by, accept_loss, around, now),
            Order::Decline { incident, by } => {
                let open = self.open_incident(&incident, &[State::AwaitingApproval, State::Held, State::Confirmed, State::Moving])?;
                if self.ledger.state == State::Moving {
                    return refuse_steps(open, &by);
                }
                Ok(Decision::entry(Entry::Declined { by, unanswered: Vec::new() }))
            }
            Order::Retry { incident, by } => {
                let open = self.open_incident(&incident, &[State::Stuck])?;
                if open.aborted {
                    return Err(Refusal::new(format!("{incident} was aborted; say which site is active with `watchover adopt`")));
                }
                Ok(Decision::entry(Entry::Retried { by }))
            }
            Order::Skip { incident, step, by } => {
                let open = self.open_incident(&incident, &[State::Stuck])?;
                match open.steps.get(&step) {
                    _ if open.aborted => Err(Refusal::new(format!("{incident} was aborted; nothing of it goes on"))),
                    Some(run)
                        if matches!(
                            run.state,
                            StepState::Failed | StepState::Waiting | StepState::Running | StepState::Intended | StepState::Asked
                        ) =>
                    {
                        let cancel = Effect::Cancel { step: step.clone() };
                        Ok(Decision::entry(Entry::StepSkipped { step, by }).and(cancel))
                    }
                    Some(run) => Err(Refusal::new(format!("step {step} is {}; only a step that is not done can be skipped", run.state))),
                    None => Err(Refusal::new(format!(
                        "{incident} has no step {step}; it has {}",
                        open.steps.keys().cloned().collect::<Vec<_>>().join(", ")
                    ))),
                }
            }
            Order::Abort { incident, by } => self.order_abort(&incident, by),
            Order::Adopt { site, by } => self.order_adopt(site, by),
            Order::Pause { length, by } => Ok(Decision::entry(Entry::Paused { until: (now + length).wall, by })),
            Order::Resume { by } => match self.ledger.paused {
                Some(_) => Ok(Decision::entry(Entry::Resumed { by }).and(Effect::LookNow)),
                None => Err(Refusal::new(format!("{} is not paused", self.policy.name))),
            },
        }
    }

    fn open_incident(&self, id: &str, states: &[State]) -> Result<&Incident, Refusal> {
        let Some(incident) = self.ledger.incident.as_ref().filter(|incident| incident.id == id) else {
            let open = self.ledger.incident.as_ref().map_or("none".to_owned(), |incident| incident.id.clone());
            return Err(Refusal::new(format!("{id} is not an open incident of {}; open: {open}", self.policy.name)));
        };
        if !states.contains(&self.ledger.state) {
            let fitting: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
            return Err(Refusal::new(format!("{id} is {}; this is for an incident that is {}", self.ledger.state, fitting.join(" or "))));
        }
        Ok(incident)
    }

    fn order_move(&self, to: SiteName, wish: Wish, id: &str, around: &Around, now: Moment) -> Result<Decision, Refusal> {
        let direction = Direction::towards(to);
        if let Some(incident) =
            self.ledger.incident.as_ref().filter(|_| matches!(self.ledger.state, State::Moving | State::Proving | State::Stuck))
        {
            return Err(Refusal::new(format!(
                "{} is {} in {}; steer that one with retry, skip or abort",
                self.policy.name, self.ledger.state, incident.id
            )));
        }
        if self.ledger.active == Some(to) {
            return Err(Refusal::new(format!("the {to} of {} is active already", self.policy.name)));
        }
        let plan = self.policy.plan_to(to);
        if let Some(words) = plan.leads_nowhere(&self.policy.name, wish.graceful) {
            return Err(Refusal::new(words));
        }
        if self.ledger.incident.as_ref().is_some_and(|incident| incident.direction != direction) {
            return Err(Refusal::new("the open incident goes the other way; decline or adopt first".to_owned()));
        }
        let mut decision = Decision::default();
        let first_failed = self.failing(direction.source(), around, now);
        if self.ledger.incident.is_none() {
            let words = format!("by command of {}: {}", wish.by.who, wish.by.reason);
            decision = decision.then(Entry::Opened { trigger: Trigger::Operator, direction, first_failed, words });
        }
        decision = decision.then(Entry::Commanded { wish, first_failed });
        // Judged as it would stand after these entries, before anything of it is written.
        let ledger = self.foresee(&decision.entries, id, now).map_err(|illegal| Refusal::new(illegal.to_string()))?;
        let graceful = ledger.incident.as_ref().is_some_and(Incident::graceful);
        let view = View { ledger: &ledger, ..self.view(around, now) };
        let (ruling, gates, exposure) = view.gates(direction, Point::Start);
        if ruling != Ruling::Go {
            let words = format!("refused, and nothing was changed: {}", gates::closed_words(&gates));
            let hint = if self.is_refused(direction, graceful) {
                "; the plan is being inspected anew: if that is mended, try again in a few seconds"
            } else {
                ""
            };
            return Err(Refusal { words: format!("{words}{hint}"), gates });
        }
        let plan = self.policy.plan_to(to).for_move(graceful);
        Ok(decision.then(Entry::Gated { ruling, gates, exposure }).then(Entry::Planned { plan }))
    }

    /// The first failed look of a site that fails now. Who has just started or stood still, and has seen nothing of it since, has
    /// the word of before.
    fn failing(&self, site: SiteName, around: &Around, now: Moment) -> Option<Moment> {
        let signals = self.signals(site);
        if let Some(seen) = quorum::failing(self.policy.site(site), signals, now) {
            return Some(self.since_before(seen, around, now));
        }
        let unseen = signals.iter().all(|signal| signal.fresh(around.awake).is_none());
        self.ledger.incident.as_ref().filter(|_| unseen)?.first_failed
    }

    /// The ledger as it would be after these entries.
    fn foresee(&self, entries: &[Entry], id: &str, now: Moment) -> Result<Ledger, Illegal> {
        let mut ledger = self.ledger.clone();
        for entry in entries {
            let incident = ledger.incident.as_ref().map_or_else(|| id.to_owned(), |incident| incident.id.clone());
            ledger.apply(&Record {
                seq: 0,
                at: now,
                boot_id: String::new(),
                app: Some(self.policy.name.to_string()),
                incident: Some(incident),
                epoch: self.epoch,
                entry: entry.clone(),
            })?;
        }
        Ok(ledger)
    }

    fn order_approval(&self, id: &str, by: Actor, accept_loss: Option<f64>, around: &Around, now: Moment) -> Result<Decision, Refusal> {
        let open = self.open_incident(id, &[State::AwaitingApproval, State::Held, State::Confirmed, State::Moving, State::Stuck])?;
        if self.ledger.state == State::Moving && open.asking().next().is_none() {
            return Err(Refusal::new(format!("{id} is moving, and none of its steps asks for a yes")));
        }
        let exposure = self.exposure_of(open, around, now);
        let lossy = exposure.seconds.is_none_or(|seconds| seconds > self.policy.rpo_objective.as_secs_f64());
        let covers = |limit: f64| exposure.seconds.map_or(limit.is_infinite(), |seconds| seconds <= limit);
        // A move under way carries what was accepted for it; what is committed cannot be lost a second time.
        let running = matches!(self.ledger.state, State::Moving | State::Stuck);
        let settled = self.ledger.state == State::Moving && (open.is_committed() || open.graceful());
        let before = open.wish.as_ref().filter(|_| running);
        let accept_loss = accept_loss.into_iter().chain(before.and_then(|wish| wish.accept_loss)).reduce(f64::max);
        // Whoever says how much may be lost means it, be it less than the objective.
        if (lossy || accept_loss.is_some()) && !settled && !accept_loss.is_some_and(covers) {
            return Err(Refusal::new(format!(
                "this would lose data: {}. Accept that in as many words with --accept-data-loss DURATION (or \"any\" where no figure can be given)",
                exposure.words()
            )));
        }
        // A yes to a commanded move leaves it the move that was commanded.
        let old = open.wish.as_ref();
        let (force, graceful) = (old.is_some_and(|wish| wish.force), open.graceful());
        let wish = Wish { by: by.clone(), accept_loss, shown: exposure.seconds, force, graceful };
        let approved = Decision::entry(Entry::Approved { wish });
        match self.ledger.state {
            State::Stuck if open.aborted => Err(Refusal::new(format!("{id} was aborted; nothing of it goes on"))),
            State::Stuck => {
                // A question that nobody answered in time is answered now, and not asked a second time.
                let asks = |run: &StepRun| matches!(run.state, StepState::Failed | StepState::Running) && run.asks.is_some();
                let mut asked = open.steps.iter().filter(|(_, run)| asks(run)).peekable();
                // To try again what failed for another reason is another word.
                let (words, waits_for) = open.stuck.as_ref().map_or(("", ""), |(words, waits_for)| (words, waits_for));
                if asked.peek().is_none() && !waits_for.contains("watchover approve") {
                    return Err(Refusal::new(format!("{id} does not wait for a yes: {words}; it waits for: {waits_for}")));
                }
                Ok(asked.fold(approved, |decision, (step, _)| decision.then(said_yes(step, &by, &exposure))).then(Entry::Retried { by }))
            }
            State::Moving => {
                let yes = open.asking().fold(approved, |decision, (step, _)| decision.then(said_yes(step, &by, &exposure)));
                Ok(yes.and(Effect::LookNow))
            }
            _ => Ok(approved.and(Effect::LookNow)),
        }
    }

    /// The loss of that incident as it stands; once anything final was asked for, the loss that it was asked for with.
    pub(super) fn exposure_of(&self, incident: &Incident, around: &Around, now: Moment) -> Exposure {
        let judged = incident.exposure.clone().filter(|_| incident.is_committed());
        judged.unwrap_or_else(|| self.view(around, now).exposure(incident.direction))
    }

    fn order_abort(&self, id: &str, by: Actor) -> Result<Decision, Refusal> {
        let open = self.open_incident(
            id,
            &[State::Suspect, State::Confirmed, State::Held, State::AwaitingApproval, State::Moving, State::Proving, State::Stuck],
        )?;
        if open.plan.is_none() {
            // Nothing was done yet: saying no is all there is to abort, and it holds for as long as this outage does.
            return Ok(Decision::entry(Entry::Declined { by, unanswered: Vec::new() }));
        }
        let mut decision = Decision::entry(Entry::AbortedBy { by });
        for step in open.steps.keys() {
            decision = decision.and(Effect::Cancel { step: step.clone() });
        }
        Ok(decision)
    }

    fn order_adopt(&self, site: SiteName, by: Actor) -> Result<Decision, Refusal> {
        match (&self.ledger.incident, self.ledger.state) {
            (Some(incident), State::Moving | State::Proving) => {
                Err(Refusal::new(format!("{} is {}; `watchover abort {}` first", self.policy.name, self.ledger.state, incident.id)))
            }
            // A stuck incident ends here. Of the others, one that leaves this very site goes on with what it now knows, and
            // one that goes to it has nothing left to do.
            (Some(incident), state) if state == State::Stuck || incident.direction.target() == site => {
                // Users of the target live with what its data lacks, however the move ended.
                let moved = incident.is_committed() && incident.direction.target() == site;
                let figures = Box::new(Figures { rpo: incident.exposure.clone().filter(|_| moved), ..Figures::default() });
                let closed = Entry::Closed { outcome: Outcome::Aborted, active: Some(site), figures, by: Some(by.clone()) };
                Ok(Decision::entry(closed).then(Entry::Active { site, by }))
            }
            _ => Ok(Decision::entry(Entry::Active { site, by })),
        }
    }
}

/// The step that asked is done: its facts say who said yes, why, and at which loss.
fn said_yes(step: &str, by: &Actor, exposure: &Exposure) -> Entry {
    let facts = serde_json::json!({ "approved_by": by.who, "reason": by.reason, "loss_seconds": exposure.seconds });
    Entry::StepVerified { step: step.to_owned(), already: false, facts }
}

/// A no within a move fails what asked, for good: whatever `on_failure` says, no step goes on against a person's word.
fn refuse_steps(open: &Incident, by: &Actor) -> Result<Decision, Refusal> {
    let no = |step: &String| Entry::StepFailed {
        step: step.clone(),
        code: "declined".into(),
        words: format!("{} said no: {}", by.who, by.reason),
        needs_person: true,
    };
    let mut steps = open.asking().map(|(step, _)| step).peekable();
    if steps.peek().is_none() {
        return Err(Refusal::new(format!("{} is moving, and none of its steps asks; stop it with `watchover abort {0}`", open.id)));
    }
    Ok(steps.fold(Decision::default(), |decision, step| decision.then(no(step))))
}
