//! One app's decision: looks and reports come in, entries to write and effects to have go out.
//!
//! [`App::observe`] takes in what is only seen; [`App::next`] says what should happen now, and changes nothing; the
//! caller makes the entries durable and hands them to [`App::commit`]. What was not committed has not happened, so a
//! journal that refuses stops the action and never the watching.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::gates::{Around, Found, Preflight, View};
use super::health::SignalHealth;
use super::ledger::{Entry, Figures, GateState, Illegal, Ledger, Record, Ruling};
use super::model::{
    Actor, Direction, Health, LagSample, Look, Moment, Outcome, ReplicaState, SiteName, State, Subject, Trigger, Verdict,
};
use super::moving::{self, Work};
use super::plan::{Class, Plan};
use super::policy::{AppPolicy, SitePolicy};
use super::quorum::{self, Point, Problem, SiteView};
use super::report::Report;
use super::rpo;

/// How far back lag samples are remembered: as far as CloudWatch is asked.
const HISTORY: Duration = Duration::from_secs(15 * 60);
/// Consecutive front-door answers from the target that prove a move.
pub const PROOF: usize = 3;
/// How long a preflight serves while all is well.
const PREFLIGHT_EVERY: Duration = Duration::from_secs(300);
/// How soon it is tried again while the active site is not known.
const PREFLIGHT_EAGER: Duration = Duration::from_secs(15);
/// Within this time, a held app's changing gates are written once.
const GATES_EVERY: Duration = Duration::from_secs(10);

/// How long the front door must stay as it is to be believed.
const STEADY: Duration = Duration::from_secs(1);
/// The move itself, where what the steps are doing is kept; no step can be called so.
const MOVE: &str = "";
/// How often an unclear problem is looked at again before a held move goes.
const RECHECK_EVERY: Duration = Duration::from_secs(2);

/// Something that was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A look is done.
    Look(Look),
    /// An executor reports; `epoch` is the one it was sent out under.
    Step { incident: String, epoch: u64, step: String, report: Report },
    /// All steps of a plan were inspected.
    Preflight(Preflight),
    /// Our own loop stood still for that long.
    Gap(Duration),
}

/// Something to have done in the world, once the entries beside it are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at a step: is it so already, could it be done?
    Inspect { step: String },
    /// Ask for it.
    Apply { step: String },
    /// Read it back until it is so.
    Verify { step: String },
    /// Put back what stood there.
    Undo { step: String },
    /// Stop whatever runs for the step.
    Cancel { step: String },
    /// Look at every signal and the front door at once.
    LookNow,
    /// Inspect every step of the plan that ends at the site.
    Preflight(Direction),
}

/// How fast the looks of an app go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tempo {
    /// At their interval.
    #[default]
    Calm,
    /// At their fast interval.
    Fast,
    /// The same; and the front door faster still, because each look that comes later is counted to users as downtime.
    Urgent,
}

/// What should happen now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// To be made durable, in this order, as one.
    pub entries: Vec<Entry>,
    /// To be done after that.
    pub effects: Vec<Effect>,
    /// What the steps are doing from now on.
    pub work: Vec<(String, Work)>,
}

impl Decision {
    /// One entry and nothing else.
    pub fn entry(entry: Entry) -> Decision {
        Decision { entries: vec![entry], ..Decision::default() }
    }

    /// The same with an effect.
    #[must_use]
    pub fn and(mut self, effect: Effect) -> Decision {
        self.effects.push(effect);
        self
    }

    /// The same with another entry.
    #[must_use]
    pub fn then(mut self, entry: Entry) -> Decision {
        self.entries.push(entry);
        self
    }

    /// The same with what a step does from now on.
    #[must_use]
    pub fn doing(mut self, step: &str, work: Work) -> Decision {
        self.work.push((step.to_owned(), work));
        self
    }
}

/// What is seen of the front door.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// The latest answer.
    pub last: Option<Look>,
    /// The end of the first failed look since it last answered from the site that is left.
    pub lost: Option<Moment>,
    /// Since when it answers from the site that is left (or does not say from where), after it had been lost.
    pub back: Option<Moment>,
    /// Consecutive answers proven to come from one site, and when they were known.
    pub run: Vec<(SiteName, Moment, Moment)>,
    /// The zone's own servers' latest word: which site's addresses they gave, and when.
    pub authority: Option<(SiteName, Moment)>,
}

impl Front {
    fn returned(&mut self, at: Moment) {
        if self.lost.take().is_some() || self.back.is_none() {
            self.back = Some(at);
        }
    }
}

/// One app.
#[derive(Debug, Clone)]
pub struct App {
    pub(super) policy: Arc<AppPolicy>,
    pub(super) ledger: Ledger,
    pub(super) signals: [Vec<SignalHealth>; 2],
    pub(super) samples: Vec<LagSample>,
    pub(super) replica: BTreeMap<(SiteName, usize), ReplicaState>,
    pub(super) front: Front,
    pub(super) preflights: BTreeMap<Direction, Preflight>,
    pub(super) preflight_asked: Option<Moment>,
    pub(super) work: BTreeMap<String, Work>,
    pub(super) progress: BTreeMap<String, String>,
    pub(super) gates_written: Option<Moment>,
    pub(super) epoch: u64,
}

impl App {
    /// An app as its folded journal left it. `epoch` is this takeover's.
    pub fn new(policy: Arc<AppPolicy>, ledger: Ledger, epoch: u64) -> App {
        let fresh = |site: &SitePolicy| vec![SignalHealth::default(); site.signals.len()];
        let signals = [fresh(&policy.primary), fresh(&policy.standby)];
        App {
            policy, ledger, signals, samples: Vec::new(), replica: BTreeMap::new(), front: Front::default(),
            preflights: BTreeMap::new(), preflight_asked: None, work: BTreeMap::new(), progress: BTreeMap::new(), gates_written: None, epoch,
        }
    }

    /// Takes a new policy: counters of signals that kept their names stay, the running incident keeps its stored plan.
    pub fn reload(&mut self, policy: Arc<AppPolicy>) {
        for (at, site) in [SiteName::Primary, SiteName::Standby].into_iter().enumerate() {
            let old: BTreeMap<&str, &SignalHealth> =
                self.policy.site(site).signals.iter().map(|signal| signal.name.as_str()).zip(&self.signals[at]).collect();
            let kept = |name: &str| old.get(name).map(|health| (*health).clone()).unwrap_or_default();
            let new = policy.site(site).signals.iter().map(|signal| kept(&signal.name)).collect();
            self.signals[at] = new;
        }
        self.replica.clear();
        self.preflights.clear();
        self.preflight_asked = None;
        self.policy = policy;
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<AppPolicy> {
        &self.policy
    }

    /// The durable state.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is seen of the front door.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Health of a site's signals, in the policy's order.
    pub fn signals(&self, site: SiteName) -> &[SignalHealth] {
        match site {
            SiteName::Primary => &self.signals[0],
            SiteName::Standby => &self.signals[1],
        }
    }

    /// Remembered lag, oldest first.
    pub fn samples(&self) -> &[LagSample] {
        &self.samples
    }

    /// The replication link as the signal at that place last read it.
    pub fn replica_state(&self, site: SiteName, at: usize) -> Option<ReplicaState> {
        self.replica.get(&(site, at)).copied()
    }

    /// The epoch under which effects of this app are valid.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What a running step last said of its progress.
    pub fn progress(&self, step: &str) -> Option<&str> {
        self.progress.get(step).map(String::as_str)
    }

    /// The way a move would go from here: off the active site; off the primary while nobody knows.
    pub fn direction(&self) -> Direction {
        match &self.ledger.incident {
            Some(incident) => incident.direction,
            None => Direction::towards(self.ledger.active.unwrap_or(SiteName::Primary).other()),
        }
    }

    /// How fast looks should be.
    pub fn tempo(&self) -> Tempo {
        match self.ledger.state {
            State::Watching | State::Stuck => Tempo::Calm,
            State::Suspect | State::Confirmed | State::Held | State::AwaitingApproval => Tempo::Fast,
            State::Moving | State::Proving => Tempo::Urgent,
        }
    }

    /// Everything the gates look at, as of now.
    pub fn view<'a>(&'a self, around: &'a Around, now: Moment) -> View<'a> {
        View {
            policy: &self.policy,
            ledger: &self.ledger,
            signals: [&self.signals[0], &self.signals[1]],
            samples: &self.samples,
            preflight: self.preflights.get(&self.direction()),
            around,
            now,
        }
    }

    /// A site by its own rule.
    pub fn site(&self, site: SiteName, now: Moment) -> SiteView {
        quorum::site(self.policy.site(site), self.signals(site), now)
    }

    /// Takes in what was seen. Writes nothing, decides nothing.
    pub fn observe(&mut self, input: Input) {
        match input {
            Input::Look(look) => self.observe_look(look),
            Input::Step { incident, epoch, step, report } => {
                let ours = self.ledger.incident.as_ref().is_some_and(|open| open.id == incident) && epoch == self.epoch;
                match report {
                    // An executor of an older takeover, or of an incident that is over, has nothing to say here.
                    _ if !ours => {}
                    Report::Progress(words) => {
                        self.progress.insert(step, words);
                    }
                    report => {
                        if self.work.get(&step).is_some_and(Work::is_out) {
                            self.work.insert(step, Work::Back(report));
                        }
                    }
                }
            }
            Input::Preflight(preflight) => {
                self.preflights.insert(preflight.direction, preflight);
            }
            Input::Gap(_) => {
                self.signals.iter_mut().flatten().for_each(SignalHealth::forget);
                self.front.run.clear();
                for work in self.work.values_mut().filter(|work| matches!(work, Work::Permit { .. })) {
                    *work = Work::default();
                }
            }
        }
    }

    fn observe_look(&mut self, look: Look) {
        match look.subject {
            Subject::Signal(site, at) => {
                let Some(policy) = self.policy.site(site).signals.get(at) else { return };
                if let Some(reading) = &look.finding.replica {
                    self.replica.insert((site, at), reading.state);
                    let anchor = self.ledger.incident.as_ref().and_then(|incident| incident.first_failed).unwrap_or(look.done);
                    let horizon = (anchor - HISTORY).wall.min((look.done - HISTORY).wall);
                    rpo::remember(&mut self.samples, &reading.samples, horizon);
                }
                let health = match site {
                    SiteName::Primary => &mut self.signals[0][at],
                    SiteName::Standby => &mut self.signals[1][at],
                };
                health.observe(policy, look.sent, look.done, look.finding.verdict, &look.finding.detail);
            }
            Subject::FrontDoor => self.observe_front(look),
            Subject::Authority => {
                if let Some(site) = look.finding.from {
                    self.front.authority = Some((site, look.done));
                }
            }
        }
    }

    fn observe_front(&mut self, look: Look) {
        if self.front.last.as_ref().is_some_and(|last| look.sent.mono < last.sent.mono) {
            return;
        }
        let leaving = self.direction().source();
        match (look.finding.verdict, look.finding.from) {
            (Verdict::Up, Some(site)) => {
                if self.front.run.last().is_some_and(|(last, ..)| *last != site) {
                    self.front.run.clear();
                }
                if self.front.run.len() >= PROOF * 4 {
                    self.front.run.remove(0);
                }
                self.front.run.push((site, look.sent, look.done));
                // An answer from the target says nothing about the old site's writers.
                if site == leaving {
                    self.front.returned(look.done);
                }
            }
            (Verdict::Up, None) => {
                self.front.run.clear();
                self.front.returned(look.done);
            }
            (Verdict::Down(_), _) => {
                self.front.run.clear();
                self.front.lost.get_or_insert(look.done);
                self.front.back = None;
            }
            (Verdict::Unknown(_), _) => {}
        }
        self.front.last = Some(look);
    }

    /// Folds in what is durable now, and takes up the work.
    pub fn commit(&mut self, records: &[Record], work: Vec<(String, Work)>) -> Result<(), Illegal> {
        for record in records {
            if matches!(record.entry, Entry::Gated { .. }) {
                self.gates_written = Some(record.at);
            }
            self.ledger.apply(record)?;
            match &record.entry {
                Entry::Closed { .. } | Entry::Planned { .. } | Entry::Retried { .. } => {
                    self.work.clear();
                    self.progress.clear();
                }
                _ => {}
            }
        }
        self.work.extend(work);
        Ok(())
    }

    /// A preflight was sent for.
    pub fn preflight_sent(&mut self, now: Moment) {
        self.preflight_asked = Some(now);
    }

    /// What should happen now; `None`: nothing. Call again after each commit until it says so.
    pub fn next(&self, around: &Around, now: Moment) -> Option<Decision> {
        if let Some(pause) = self.ledger.paused.as_ref().filter(|pause| pause.until <= now.wall) {
            let by = Actor { who: "watchover".into(), reason: format!("the pause by {} ended by its time", pause.by.who) };
            return Some(Decision::entry(Entry::Resumed { by }));
        }
        self.preflight_due(now).or_else(|| self.front_door_moved(now)).or_else(|| match self.ledger.state {
            State::Watching => self.watching(now),
            State::Suspect => self.suspect(around, now),
            State::Confirmed | State::Held | State::AwaitingApproval => self.deciding(around, now),
            State::Moving => moving::next(self, around, now),
            State::Proving => self.proving(now),
            State::Stuck => moving::settle_stuck(self),
        })
    }

    fn preflight_due(&self, now: Moment) -> Option<Decision> {
        if matches!(self.ledger.state, State::Moving | State::Proving | State::Stuck) {
            return None;
        }
        let direction = self.direction();
        let every = match (self.ledger.active, self.preflights.contains_key(&direction)) {
            (Some(_), true) => PREFLIGHT_EVERY,
            _ => PREFLIGHT_EAGER,
        };
        let due = self.preflight_asked.is_none_or(|asked| now.since(asked) >= every);
        due.then(|| Decision::default().and(Effect::Preflight(direction)))
    }

    /// Keeps the end of writes durable while an incident is open. A front door that flickers has not stopped taking
    /// writes, and is not worth a row for each flicker.
    fn front_door_moved(&self, now: Moment) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        match (incident.front_door_lost, self.front.lost) {
            (None, Some(at)) if now.since(at) >= STEADY => Some(Decision::entry(Entry::FrontDoorLost { at })),
            (Some(_), None) => {
                let at = self.front.back.filter(|at| now.since(*at) >= STEADY)?;
                Some(Decision::entry(Entry::FrontDoorBack { at }))
            }
            _ => None,
        }
    }

    fn watching(&self, now: Moment) -> Option<Decision> {
        if self.ledger.active.is_none()
            && let Some(site) = self.learned()
        {
            let by = Actor { who: "watchover".into(), reason: "the inspections of the plan's data and traffic steps agree".into() };
            return Some(Decision::entry(Entry::Active { site, by }));
        }
        let direction = self.direction();
        let source = direction.source();
        if !quorum::in_doubt(self.policy.site(source), self.signals(source), now) {
            return None;
        }
        let view = self.site(source, now);
        let opened = Entry::Opened { trigger: Trigger::Outage, direction, first_failed: view.first_failed, words: view.words.join(", ") };
        Some(Decision::entry(opened).and(Effect::LookNow))
    }

    /// The active site, if the inspections of every data and traffic step of the way over agree on it.
    fn learned(&self) -> Option<SiteName> {
        let plan: &Plan = &self.policy.failover;
        let preflight = self.preflights.get(&Direction::ToStandby)?;
        let decisive = plan.steps.iter().filter(|step| matches!(step.class, Class::Data | Class::Traffic));
        let found: Option<Vec<&Found>> = decisive.map(|step| preflight.steps.get(&step.name)).collect();
        let found = found.filter(|found| !found.is_empty())?;
        if found.iter().all(|one| matches!(one, Found::Possible)) {
            Some(SiteName::Primary)
        } else if found.iter().all(|one| matches!(one, Found::AlreadySo)) {
            Some(SiteName::Standby)
        } else {
            None
        }
    }

    fn suspect(&self, around: &Around, now: Moment) -> Option<Decision> {
        if self.ledger.incident.as_ref()?.commanded() {
            return self.deciding(around, now);
        }
        let source = self.direction().source();
        let view = self.site(source, now);
        if view.health == Health::Down
            && let Some(first_failed) = view.first_failed
            && now.since(first_failed) >= self.policy.min_outage
        {
            return Some(Decision::entry(Entry::Confirmed { first_failed, words: view.words.join(", ") }));
        }
        let doubt = quorum::in_doubt(self.policy.site(source), self.signals(source), now);
        (!doubt && view.health != Health::Down).then(|| self.close(Outcome::NoAction, None))
    }

    /// Confirmed, held or waiting for a person: all gates, on every event.
    fn deciding(&self, around: &Around, now: Moment) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        let source = incident.direction.source();
        let view = self.site(source, now);
        let state = self.ledger.state;
        if view.health == Health::Up && !incident.commanded() && !quorum::in_doubt(self.policy.site(source), self.signals(source), now) {
            let outcome = if incident.declined { Outcome::Declined } else { Outcome::CalledOff };
            return Some(self.close(outcome, None));
        }
        if state == State::AwaitingApproval && !incident.approved && now.since(self.ledger.since) >= self.policy.approval_timeout {
            let reason = format!("nobody answered within {}", humantime::format_duration(self.policy.approval_timeout));
            return Some(Decision::entry(Entry::Declined { by: Actor { who: "watchover".into(), reason } }));
        }
        let (mut ruling, gates, exposure) = self.view(around, now).gates(incident.direction, Point::Start);
        if view.health != Health::Down && !incident.commanded() && ruling != Ruling::Hold {
            // Confirmed once, but unknown now: never on ignorance.
            ruling = Ruling::Hold;
        }
        if ruling == Ruling::Go && matches!(state, State::Held | State::AwaitingApproval) && !incident.commanded() {
            // What was counted while a gate was shut may be stale, or have come from our own fault: the problem must show
            // itself once more, in looks sent after the last gate opened.
            match self.work.get(MOVE) {
                Some(Work::Permit { asked, .. }) => match quorum::second_look(self.policy.site(source), self.signals(source), *asked, now) {
                    Some(Problem::Persists) => {}
                    Some(Problem::Unclear) if now.since(*asked) > RECHECK_EVERY => return Some(self.recheck(now)),
                    None | Some(Problem::Wavers | Problem::Gone | Problem::Unclear) => return None,
                },
                _ => return Some(self.recheck(now)),
            }
        } else if self.work.contains_key(MOVE) && self.work.get(MOVE) != Some(&Work::default()) {
            return Some(Decision::default().doing(MOVE, Work::default()));
        }
        let gated = Entry::Gated { ruling, gates: gates.clone(), exposure };
        let entered = match (state, ruling) {
            (_, Ruling::Go) => true,
            (State::Held, Ruling::Ask) | (State::Suspect | State::Confirmed, _) => true,
            (State::AwaitingApproval, Ruling::Hold) => incident.approved,
            (State::AwaitingApproval, Ruling::Ask) => false,
            (State::Held, Ruling::Hold) => {
                let shut = |gates: &[super::ledger::Gate]| -> Vec<(String, GateState)> { gates.iter().map(|gate| (gate.name.clone(), gate.state)).collect() };
                shut(&gates) != shut(&incident.gates) && self.gates_written.is_none_or(|at| now.since(at) >= GATES_EVERY)
            }
            (State::Watching | State::Moving | State::Proving | State::Stuck, _) => false,
        };
        if !entered {
            return None;
        }
        let decision = Decision::entry(gated);
        Some(match ruling {
            Ruling::Go => {
                let plan = self.policy.plan_to(incident.direction.target()).for_move(incident.graceful());
                decision.then(Entry::Planned { plan })
            }
            Ruling::Ask | Ruling::Hold => decision,
        })
    }

    fn recheck(&self, now: Moment) -> Decision {
        Decision::default().and(Effect::LookNow).doing(MOVE, Work::Permit { asked: now, found: serde_json::Value::Null })
    }

    fn proving(&self, now: Moment) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        let target = incident.direction.target();
        if incident.authority_moved.is_none()
            && let Some((site, at)) = self.front.authority
            && site == target
        {
            return Some(Decision::entry(Entry::AuthorityMoved { at }));
        }
        let planned = incident.planned.unwrap_or(incident.opened);
        let answers: Vec<Moment> =
            self.front.run.iter().filter(|(site, sent, _)| *site == target && sent.mono >= planned.mono).map(|(.., done)| *done).collect();
        if answers.len() >= PROOF {
            let first = answers[0];
            let figures = self.figures(first);
            let outcome = match incident.direction {
                Direction::ToStandby => Outcome::Moved,
                Direction::ToPrimary => Outcome::Returned,
            };
            let closed = Entry::Closed { outcome, active: Some(target), figures: Box::new(figures), by: None };
            return Some(Decision::entry(Entry::Proven { first }).then(closed));
        }
        if now.since(self.ledger.since) >= self.policy.prove_timeout {
            let seen = self.front.last.as_ref().map_or_else(|| "no answer yet".to_owned(), |last| last.finding.detail.clone());
            let words = format!(
                "every step is verified, but the front door was not seen to answer from the {target} within {}: {seen}",
                humantime::format_duration(self.policy.prove_timeout)
            );
            return Some(Decision::entry(Entry::Stuck { words, waits_for: "`watchover retry` to look on, or `watchover adopt`".into() }));
        }
        None
    }

    /// RTO by phase and RPO, as of the first proving answer.
    fn figures(&self, first: Moment) -> Figures {
        let Some(incident) = &self.ledger.incident else { return Figures::default() };
        let seconds = |duration: Duration| duration.as_secs_f64();
        let spent = |state: State| incident.spent.get(&state).copied().map_or(0.0, seconds);
        let start = incident.clock_start();
        let total = seconds(first.since(start));
        let hold = spent(State::Confirmed) + spent(State::Held);
        let approve = spent(State::AwaitingApproval);
        let planned = seconds(incident.planned.unwrap_or(incident.opened).since(start));
        let detect = (planned - hold - approve).max(0.0);
        let prove = seconds(first.since(self.ledger.since)).min(total);
        let execute = (total - planned - prove).max(0.0);
        let phases = [("detect", detect), ("hold", hold), ("approve", approve), ("execute", execute), ("prove", total - detect - hold - approve - execute)];
        let view = View {
            policy: &self.policy, ledger: &self.ledger, signals: [&self.signals[0], &self.signals[1]], samples: &self.samples,
            preflight: None, around: &Around::default(), now: first,
        };
        Figures {
            rto_seconds: Some(total),
            phases: phases.into_iter().map(|(name, seconds)| (name.to_owned(), seconds.max(0.0))).collect(),
            rpo: Some(view.exposure(incident.direction)),
            authority_seconds: incident.authority_moved.map(|at| seconds(at.since(start))),
            // ntpd and chrony slew below their step threshold of 128 ms; on either side of a boot.
            uncertainty_seconds: if incident.crossed_boot { 0.256 } else { 0.0 },
        }
    }

    /// The end of the incident without a move.
    pub(super) fn close(&self, outcome: Outcome, by: Option<Actor>) -> Decision {
        Decision::entry(Entry::Closed { outcome, active: None, figures: Box::default(), by })
    }
}
