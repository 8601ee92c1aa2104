//! What happened, as entries; and the one function that says which entry may follow which state.
//!
//! The live daemon and the recovery after a crash fold the same entries through the same [`Ledger::apply`]: a journal
//! that could not have been written live is refused when it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{Actor, Direction, Moment, Outcome, SiteName, State, Trigger, words};
use super::plan::Plan;
use super::rpo::Exposure;

/// One durable row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the journal; 0 until it is written.
    #[serde(default)]
    pub seq: i64,
    /// When.
    pub at: Moment,
    /// Which boot of the machine `at.mono` belongs to.
    pub boot_id: String,
    /// The app it concerns; `None`: the daemon itself.
    pub app: Option<String>,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// The takeover under which it was written.
    pub epoch: u64,
    /// What happened.
    pub entry: Entry,
}

words! {
    /// What a gate says.
    GateState { Open = "open", Asks = "asks", Shut = "shut" }
}

/// One gate, with its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The name, from the closed set in [`super::gates::NAMES`].
    pub name: String,
    /// What it says.
    pub state: GateState,
    /// Its figures and its reason, in words.
    pub words: String,
}

words! {
    /// What all gates together say.
    Ruling { Go = "go", Ask = "ask", Hold = "hold" }
}

/// A person's wish to move, or to go on moving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Who, and why.
    pub by: Actor,
    /// The loss they accept, seconds; infinite: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "infinite")]
    pub accept_loss: Option<f64>,
    /// The loss they were shown, seconds; `None`: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<f64>,
    /// Overrides mode, cooldown, startup grace and blast radius.
    #[serde(default)]
    pub force: bool,
    /// Off a well site, losing nothing.
    #[serde(default)]
    pub graceful: bool,
}

/// The figures of a finished move. Seconds throughout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Figures {
    /// From the first failed look (or the command) to the first of the proving answers.
    pub rto_seconds: Option<f64>,
    /// Its partition: detect, hold, approve, execute, prove.
    pub phases: BTreeMap<String, f64>,
    /// The loss, at most, with its evidence; `None` where nothing moved.
    pub rpo: Option<Exposure>,
    /// From the first failed look to the zone's own servers answering with the target.
    pub authority_seconds: Option<f64>,
    /// What the clocks may be off by, because the machine's boot changed within the incident.
    pub uncertainty_seconds: f64,
}

/// Everything that can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// The daemon took over; the epoch has risen.
    Started { version: String, observer: String, config: String },
    /// The daemon left in order.
    Stopped { reason: String },
    /// The daemon's own loop stood still.
    Gap { seconds: f64 },
    /// The config was read anew, or refused.
    Reloaded { ok: bool, words: String },
    /// Which site is active became known, or a person said so.
    Active { site: SiteName, by: Actor },
    /// No automatic moves until then (wall clock, microseconds).
    Paused { until: i64, by: Actor },
    /// The pause ended: by a person or by its time.
    Resumed { by: Actor },
    /// A signal's health flipped.
    Flipped { site: SiteName, signal: String, to: String, words: String },

    /// An incident began.
    Opened { trigger: Trigger, direction: Direction, first_failed: Option<Moment>, words: String },
    /// A person asked for this move.
    Commanded { wish: Wish },
    /// The outage is one: by rule, and for long enough. Carries the first look of the run that confirmed it.
    Confirmed { first_failed: Moment, words: String },
    /// All gates, evaluated.
    Gated { ruling: Ruling, gates: Vec<Gate>, exposure: Exposure },
    /// A person said yes to the figures shown.
    Approved { wish: Wish },
    /// A person said no, or nobody answered in time.
    Declined { by: Actor },
    /// The front door stopped answering from the old site (the end of its first failed look).
    FrontDoorLost { at: Moment },
    /// It answers from the old site again.
    FrontDoorBack { at: Moment },

    /// The move starts: the plan as it will run.
    Planned { plan: Plan },
    /// A step's turn came; its deadline counts from here.
    StepStarted { step: String },
    /// The second look before it that cannot be taken back: all gates again.
    StepPermitted { step: String, gates: Vec<Gate> },
    /// We are about to ask for it. `found` is what stood there.
    StepIntent { step: String, attempt: u32, found: Value },
    /// The world took the request. Proves nothing.
    StepAsked { step: String, facts: Value },
    /// A call failed; the step is looked at again.
    StepTrouble { step: String, code: String, words: String },
    /// Read back: it is so.
    StepVerified { step: String, already: bool, facts: Value },
    /// It will not be so without a person, or not at all.
    StepFailed { step: String, code: String, words: String, needs_person: bool },
    /// A person went on without it.
    StepSkipped { step: String, by: Actor },
    /// The problem was gone before anything final: what was done is being undone.
    CallingOff { words: String },
    /// Put back, or left with a reason.
    StepUndone { step: String, words: String },
    /// Every step is verified; the proof begins.
    Executed,
    /// The zone's own servers answer with the target.
    AuthorityMoved { at: Moment },
    /// The first of the consecutive front-door answers that prove it.
    Proven { first: Moment },
    /// Nothing goes on without a person.
    Stuck { words: String, waits_for: String },
    /// A person wants the failed steps tried again.
    Retried { by: Actor },
    /// No new apply; stays stuck until `adopt`.
    AbortedBy { by: Actor },
    /// The end of the incident.
    Closed { outcome: Outcome, active: Option<SiteName>, figures: Box<Figures>, by: Option<Actor> },
}

words! {
    /// Where a step is. The order of declaration is the order of life.
    StepState {
        Waiting = "waiting", Running = "running", Intended = "intended", Asked = "asked", Verified = "verified",
        Failed = "failed", Skipped = "skipped", Undone = "undone",
    }
}

/// A step of the running plan.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRun {
    /// Where it is.
    pub state: StepState,
    /// When its turn came.
    pub started: Option<Moment>,
    /// When it was permitted, if it needed that.
    pub permitted: Option<Moment>,
    /// When it reached its end.
    pub ended: Option<Moment>,
    /// Calls of `apply` so far.
    pub attempts: u32,
    /// Ever intended: only then is there something to undo.
    pub touched: bool,
    /// What stood there before the first `apply`.
    pub before: Value,
    /// What it left for the record and for the steps after it.
    pub facts: Value,
    /// The latest trouble, in words.
    pub trouble: Option<String>,
    /// Its failure asks for a person rather than being final.
    pub needs_person: bool,
}

impl Default for StepRun {
    fn default() -> Self {
        StepRun {
            state: StepState::Waiting, started: None, permitted: None, ended: None, attempts: 0, touched: false,
            before: Value::Null, facts: Value::Null, trouble: None, needs_person: false,
        }
    }
}

/// One episode, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// `shop-20261121T034512Z-7`.
    pub id: String,
    /// What opened it.
    pub trigger: Trigger,
    /// Which way it would go.
    pub direction: Direction,
    /// When it was opened.
    pub opened: Moment,
    /// The first failed look of the run that confirmed the outage; before that, of the run in doubt.
    pub first_failed: Option<Moment>,
    /// When the outage was confirmed.
    pub confirmed: Option<Moment>,
    /// The person's wish, if one started or approved it.
    pub wish: Option<Wish>,
    /// True if the wish is an approval rather than a command.
    pub approved: bool,
    /// Someone said no; until a new outage.
    pub declined: bool,
    /// The latest evaluation of all gates.
    pub gates: Vec<Gate>,
    /// The latest evaluation of the loss.
    pub exposure: Option<Exposure>,
    /// When the front door stopped answering from the old site, unless it came back since.
    pub front_door_lost: Option<Moment>,
    /// What is run.
    pub plan: Option<Plan>,
    /// Since when.
    pub planned: Option<Moment>,
    /// Its steps by name.
    pub steps: BTreeMap<String, StepRun>,
    /// The problem was gone in time: undoing.
    pub calling_off: bool,
    /// A person aborted it.
    pub aborted: bool,
    /// Why it is stuck, and for whom it waits.
    pub stuck: Option<(String, String)>,
    /// When the zone's own servers were seen to answer with the target.
    pub authority_moved: Option<Moment>,
    /// Time spent in each state so far, by the states' names.
    pub spent: BTreeMap<State, Duration>,
    /// The machine's boot changed within it: durations rest on the wall clock.
    pub crossed_boot: bool,
}

impl Incident {
    fn open(id: String, trigger: Trigger, direction: Direction, opened: Moment, first_failed: Option<Moment>) -> Incident {
        Incident {
            id, trigger, direction, opened, first_failed, confirmed: None, wish: None, approved: false, declined: false,
            gates: Vec::new(), exposure: None, front_door_lost: None, plan: None, planned: None, steps: BTreeMap::new(), calling_off: false,
            aborted: false, stuck: None, authority_moved: None, spent: BTreeMap::new(), crossed_boot: false,
        }
    }

    /// True if a person asked for this move, rather than approving ours.
    pub fn commanded(&self) -> bool {
        self.wish.is_some() && !self.approved
    }

    /// True for a planned move off a well site.
    pub fn graceful(&self) -> bool {
        self.wish.as_ref().is_some_and(|wish| wish.graceful)
    }

    /// Where RTO starts: the first failed look, or the command.
    pub fn clock_start(&self) -> Moment {
        self.first_failed.filter(|_| !self.graceful()).unwrap_or(self.opened)
    }

    /// When the old writers were proven gone (wall, microseconds).
    pub fn fenced_at(&self) -> Option<i64> {
        let proven = |run: &StepRun| (run.facts.get("fence")?.as_str()? == "proven").then(|| run.facts.get("at")?.as_i64()).flatten();
        self.steps.values().find_map(proven)
    }

    /// True once anything final may have been asked for.
    pub fn is_committed(&self) -> bool {
        self.plan.iter().flat_map(|plan| &plan.steps).any(|step| {
            step.reversibility != super::plan::Reversibility::Reversible && self.steps.get(&step.name).is_some_and(|run| run.touched)
        })
    }
}

/// An entry that cannot follow what stands before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry} cannot follow the state {state}{detail}")]
pub struct Illegal {
    /// The entry's kind.
    pub entry: &'static str,
    /// The state it met.
    pub state: State,
    /// More, where there is more to say.
    pub detail: String,
}

/// No new automatic work.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// Until when, wall clock in microseconds.
    pub until: i64,
    /// Since when.
    pub since: Moment,
    /// Who, and why.
    pub by: Actor,
}

/// An app's durable state: the fold of its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Moment,
    /// Which site serves; `None`: nobody has said, and we do not act.
    pub active: Option<SiteName>,
    /// The pause, if one stands.
    pub paused: Option<Pause>,
    /// When the last move ended: cooldown counts from here.
    pub last_move: Option<Moment>,
    /// The open incident.
    pub incident: Option<Incident>,
    /// The last closed move: direction, trigger, figures.
    pub last_figures: Option<(Direction, Trigger, Figures)>,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { state: State::Watching, since: Moment::default(), active: None, paused: None, last_move: None, incident: None, last_figures: None }
    }
}

impl Entry {
    /// The kind, as it stands in the journal's column.
    pub fn kind(&self) -> &'static str {
        match self {
            Entry::Started { .. } => "started",
            Entry::Stopped { .. } => "stopped",
            Entry::Gap { .. } => "gap",
            Entry::Reloaded { .. } => "reloaded",
            Entry::Active { .. } => "active",
            Entry::Paused { .. } => "paused",
            Entry::Resumed { .. } => "resumed",
            Entry::Flipped { .. } => "flipped",
            Entry::Opened { .. } => "opened",
            Entry::Commanded { .. } => "commanded",
            Entry::Confirmed { .. } => "confirmed",
            Entry::Gated { .. } => "gated",
            Entry::Approved { .. } => "approved",
            Entry::Declined { .. } => "declined",
            Entry::FrontDoorLost { .. } => "front-door-lost",
            Entry::FrontDoorBack { .. } => "front-door-back",
            Entry::Planned { .. } => "planned",
            Entry::StepStarted { .. } => "step-started",
            Entry::StepPermitted { .. } => "step-permitted",
            Entry::StepIntent { .. } => "step-intent",
            Entry::StepAsked { .. } => "step-asked",
            Entry::StepTrouble { .. } => "step-trouble",
            Entry::StepVerified { .. } => "step-verified",
            Entry::StepFailed { .. } => "step-failed",
            Entry::StepSkipped { .. } => "step-skipped",
            Entry::CallingOff { .. } => "calling-off",
            Entry::StepUndone { .. } => "step-undone",
            Entry::Executed => "executed",
            Entry::AuthorityMoved { .. } => "authority-moved",
            Entry::Proven { .. } => "proven",
            Entry::Stuck { .. } => "stuck",
            Entry::Retried { .. } => "retried",
            Entry::AbortedBy { .. } => "aborted-by",
            Entry::Closed { .. } => "closed",
        }
    }

    /// The state that this entry leads to from `state`; `None`: it cannot follow it. The whole state diagram stands here.
    pub fn leads(&self, state: State) -> Option<State> {
        use State::{AwaitingApproval, Confirmed, Held, Moving, Proving, Stuck, Suspect, Watching};
        let deciding = matches!(state, Suspect | Confirmed | Held | AwaitingApproval);
        let open = state != Watching;
        match self {
            Entry::Started { .. } | Entry::Stopped { .. } | Entry::Gap { .. } | Entry::Reloaded { .. } | Entry::Paused { .. }
            | Entry::Resumed { .. } | Entry::Flipped { .. } => Some(state),
            Entry::Active { .. } => (!matches!(state, Moving | Proving)).then_some(state),
            Entry::Opened { .. } => (state == Watching).then_some(Suspect),
            Entry::Commanded { .. } => deciding.then_some(state),
            Entry::Confirmed { .. } => (state == Suspect).then_some(Confirmed),
            Entry::Gated { ruling, .. } => deciding.then_some(match ruling {
                // `Planned` follows at once, in the same transaction.
                Ruling::Go => state,
                Ruling::Ask => AwaitingApproval,
                Ruling::Hold => Held,
            }),
            Entry::Approved { .. } => (deciding || matches!(state, Moving | Stuck)).then_some(state),
            Entry::Declined { .. } => deciding.then_some(Held),
            Entry::FrontDoorLost { .. } | Entry::FrontDoorBack { .. } | Entry::AuthorityMoved { .. } => open.then_some(state),
            Entry::Planned { .. } => deciding.then_some(Moving),
            Entry::StepStarted { .. } | Entry::StepPermitted { .. } | Entry::StepIntent { .. } | Entry::CallingOff { .. } => {
                (state == Moving).then_some(Moving)
            }
            // What was asked for may still answer after the incident got stuck.
            Entry::StepAsked { .. } | Entry::StepTrouble { .. } | Entry::StepVerified { .. } | Entry::StepFailed { .. } | Entry::StepUndone { .. } => {
                matches!(state, Moving | Stuck).then_some(state)
            }
            Entry::StepSkipped { .. } | Entry::Retried { .. } => (state == Stuck).then_some(Moving),
            Entry::Executed => (state == Moving).then_some(Proving),
            Entry::Proven { .. } => (state == Proving).then_some(Proving),
            Entry::Stuck { .. } => matches!(state, Moving | Proving).then_some(Stuck),
            Entry::AbortedBy { .. } => match state {
                Moving | Proving | Stuck => Some(Stuck),
                Watching | Suspect | Confirmed | Held | AwaitingApproval => None,
            },
            Entry::Closed { .. } => open.then_some(Watching),
        }
    }
}

impl Ledger {
    /// Folds one record in, or says why it cannot have happened.
    pub fn apply(&mut self, record: &Record) -> Result<(), Illegal> {
        let entry = &record.entry;
        let illegal = |detail: &str| Illegal { entry: entry.kind(), state: self.state, detail: detail.to_owned() };
        let next = entry.leads(self.state).ok_or_else(|| illegal(""))?;
        if let Some(incident) = &self.incident {
            if matches!(entry, Entry::Opened { .. }) {
                return Err(illegal(": an incident is open already"));
            }
            let named = step_of(entry);
            if named.is_some_and(|name| !incident.steps.contains_key(name)) {
                return Err(illegal(": it names a step that the stored plan does not have"));
            }
        } else if needs_incident(entry) {
            return Err(illegal(": no incident is open"));
        }
        self.fold(record);
        if next != self.state {
            let (left, since) = (self.state, self.since);
            if let Some(incident) = &mut self.incident {
                *incident.spent.entry(left).or_default() += record.at.since(since.max(incident.opened));
            }
            self.state = next;
            self.since = record.at;
        }
        Ok(())
    }

    fn fold(&mut self, record: &Record) {
        let at = record.at;
        match &record.entry {
            Entry::Active { site, .. } => self.active = Some(*site),
            Entry::Paused { until, by } => self.paused = Some(Pause { until: *until, since: at, by: by.clone() }),
            Entry::Resumed { .. } => self.paused = None,
            Entry::Opened { trigger, direction, first_failed, .. } => {
                let id = record.incident.clone().unwrap_or_default();
                self.incident = Some(Incident::open(id, *trigger, *direction, at, *first_failed));
                self.since = at;
            }
            Entry::Closed { outcome, active, figures, .. } => {
                let incident = self.incident.take();
                if active.is_some() {
                    self.active = *active;
                }
                if let Some(incident) = incident.filter(|incident| incident.plan.is_some()) {
                    self.last_move = Some(at);
                    if matches!(outcome, Outcome::Moved | Outcome::Returned) {
                        self.last_figures = Some((incident.direction, incident.trigger, (**figures).clone()));
                    }
                }
            }
            other => {
                if let Some(incident) = &mut self.incident {
                    fold_incident(incident, other, at);
                }
            }
        }
    }
}

/// The part of the fold that concerns the open incident alone.
fn fold_incident(incident: &mut Incident, entry: &Entry, at: Moment) {
    match entry {
        Entry::Commanded { wish } => {
            incident.wish = Some(wish.clone());
            incident.approved = false;
            incident.trigger = Trigger::Operator;
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
        }
        Entry::Declined { .. } => incident.declined = true,
        Entry::FrontDoorLost { at } => incident.front_door_lost = Some(*at),
        Entry::FrontDoorBack { .. } => incident.front_door_lost = None,
        Entry::Planned { plan } => {
            incident.steps = plan.steps.iter().map(|step| (step.name.clone(), StepRun::default())).collect();
            incident.plan = Some(plan.clone());
            incident.planned = Some(at);
        }
        Entry::CallingOff { .. } => incident.calling_off = true,
        Entry::AuthorityMoved { at } => incident.authority_moved = Some(*at),
        Entry::Stuck { words, waits_for } => incident.stuck = Some((words.clone(), waits_for.clone())),
        Entry::AbortedBy { by } => {
            incident.aborted = true;
            incident.stuck = Some((format!("aborted: {}", by.reason), "`watchover adopt`".to_owned()));
        }
        Entry::Retried { .. } => {
            incident.stuck = None;
            for run in incident.steps.values_mut().filter(|run| run.state != StepState::Verified && run.state != StepState::Skipped) {
                let touched = StepRun { touched: run.touched, before: run.before.clone(), ..StepRun::default() };
                *run = touched;
            }
        }
        other => {
            if let Some(run) = step_of(other).and_then(|name| incident.steps.get_mut(name)) {
                fold_step(run, other, at);
            }
            if matches!(other, Entry::StepSkipped { .. }) {
                incident.stuck = None;
            }
        }
    }
}

/// The part of the fold that concerns one step.
fn fold_step(run: &mut StepRun, entry: &Entry, at: Moment) {
    match entry {
        Entry::StepStarted { .. } => {
            run.state = StepState::Running;
            run.started = Some(at);
        }
        Entry::StepPermitted { .. } => run.permitted = Some(at),
        Entry::StepIntent { attempt, found, .. } => {
            run.state = StepState::Intended;
            run.attempts = *attempt;
            if !run.touched {
                run.before = found.clone();
            }
            run.touched = true;
        }
        Entry::StepAsked { .. } => run.state = StepState::Asked,
        Entry::StepTrouble { words, .. } => run.trouble = Some(words.clone()),
        Entry::StepVerified { facts, .. } => {
            run.state = StepState::Verified;
            run.facts = facts.clone();
            run.ended = Some(at);
        }
        Entry::StepFailed { words, needs_person, .. } => {
            run.state = StepState::Failed;
            run.trouble = Some(words.clone());
            run.needs_person = *needs_person;
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

/// The step that an entry names.
pub fn step_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::StepStarted { step } | Entry::StepPermitted { step, .. } | Entry::StepIntent { step, .. } | Entry::StepAsked { step, .. }
        | Entry::StepTrouble { step, .. } | Entry::StepVerified { step, .. } | Entry::StepFailed { step, .. }
        | Entry::StepSkipped { step, .. } | Entry::StepUndone { step, .. } => Some(step),
        _ => None,
    }
}

fn needs_incident(entry: &Entry) -> bool {
    !matches!(
        entry,
        Entry::Started { .. } | Entry::Stopped { .. } | Entry::Gap { .. } | Entry::Reloaded { .. } | Entry::Active { .. }
            | Entry::Paused { .. } | Entry::Resumed { .. } | Entry::Flipped { .. } | Entry::Opened { .. }
    )
}

/// JSON has no infinity; the word stands for it.
mod infinite {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Seconds(f64),
        Word(serde::de::IgnoredAny),
    }

    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(seconds) if seconds.is_finite() => to.serialize_f64(*seconds),
            Some(_) => to.serialize_str("any"),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Form>::deserialize(from)?.map(|form| match form {
            Form::Seconds(seconds) => seconds,
            Form::Word(_) => f64::INFINITY,
        }))
    }
}
