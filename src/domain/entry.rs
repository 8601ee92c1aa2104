//! Everything that can happen, as durable rows; and which of them may follow which state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::autonomy::Others;
use super::model::{Actor, Direction, Moment, Outcome, SiteName, State, Trigger, words};
use super::plan::Plan;
use super::rpo::{self, Exposure};

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
    /// The loss they were shown, seconds; `None`: unknown; infinite: without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::rpo::unbounded")]
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

impl Figures {
    /// The site that was left was seen alive then (wall, microseconds): the loss has no bound.
    pub fn unbound(&mut self, seen: i64) {
        self.rpo = Some(rpo::no_bound(self.rpo.as_ref().and_then(|rpo| rpo.sample), seen));
    }
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
    /// The wall clock moved by that much against our own: somebody set it, or the machine was paused.
    ClockStepped { seconds: f64 },
    /// The config was read anew, or refused.
    Reloaded { ok: bool, words: String },
    /// Which site is active became known, or a person said so.
    Active { site: SiteName, by: Actor },
    /// No automatic moves until then (wall clock, microseconds).
    Paused { until: i64, by: Actor },
    /// The pause ended: by a person or by its time.
    Resumed { by: Actor },
    /// What can move the app's traffic without us changed, as the plan's steps read it; empty: nothing can.
    Autonomous { found: Others },

    /// An incident began.
    Opened { trigger: Trigger, direction: Direction, first_failed: Option<Moment>, words: String },
    /// A person asked for this move.
    Commanded {
        wish: Wish,
        /// The first failed look, if the site failed by its rule when it was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_failed: Option<Moment>,
    },
    /// The outage is one: by rule, and for long enough. Carries the first look of the run that confirmed it.
    Confirmed { first_failed: Moment, words: String },
    /// All gates, evaluated.
    Gated { ruling: Ruling, gates: Vec<Gate>, exposure: Exposure },
    /// A person said yes to the figures shown.
    Approved { wish: Wish },
    /// A person said no, or nobody answered in time.
    Declined {
        by: Actor,
        /// Nobody answered: the gates that asked. A no to them, and to nothing else; empty: a person's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unanswered: Vec<String>,
    },
    /// The front door stopped answering from the old site (the end of its first failed look).
    FrontDoorLost { at: Moment },
    /// It answers from the old site again.
    FrontDoorBack { at: Moment },
    /// The zone's own servers answer with the target, and we have not asked for it.
    MovedByOthers { at: Moment },

    /// The move starts: the plan as it will run.
    Planned { plan: Plan },
    /// A step's turn came; its deadline counts from here.
    StepStarted { step: String },
    /// The second look before it that cannot be taken back: all gates again.
    StepPermitted { step: String, gates: Vec<Gate> },
    /// The step waits for a person: what it asks, how it is answered, and the loss as the move stands.
    StepWaits { step: String, words: String, waits_for: String, exposure: Exposure },
    /// We are about to ask for it. `found` is what stood there.
    StepIntent { step: String, attempt: u32, found: Value },
    /// The world took the request. Proves nothing.
    StepAsked { step: String, facts: Value },
    /// A call failed; the step is looked at again.
    StepTrouble { step: String, code: String, words: String },
    /// It cannot be asked for yet, because something passes by itself (a backup, a drain): no trouble, and waited for.
    StepProgress { step: String, words: String },
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
    /// Unfenced, the site that was left is alive although its data has moved: the loss of that incident has no bound.
    /// Also written after its end.
    OldSiteSeen { incident: String, site: SiteName, at: Moment, words: String },
    /// The end of the incident.
    Closed { outcome: Outcome, active: Option<SiteName>, figures: Box<Figures>, by: Option<Actor> },
}

impl Entry {
    /// The kind, as it stands in the journal's column.
    pub fn kind(&self) -> &'static str {
        match self {
            Entry::Started { .. } => "started",
            Entry::Stopped { .. } => "stopped",
            Entry::Gap { .. } => "gap",
            Entry::ClockStepped { .. } => "clock-stepped",
            Entry::Reloaded { .. } => "reloaded",
            Entry::Active { .. } => "active",
            Entry::Paused { .. } => "paused",
            Entry::Resumed { .. } => "resumed",
            Entry::Autonomous { .. } => "autonomous",
            Entry::Opened { .. } => "opened",
            Entry::Commanded { .. } => "commanded",
            Entry::Confirmed { .. } => "confirmed",
            Entry::Gated { .. } => "gated",
            Entry::Approved { .. } => "approved",
            Entry::Declined { .. } => "declined",
            Entry::FrontDoorLost { .. } => "front-door-lost",
            Entry::FrontDoorBack { .. } => "front-door-back",
            Entry::MovedByOthers { .. } => "moved-by-others",
            Entry::Planned { .. } => "planned",
            Entry::StepStarted { .. } => "step-started",
            Entry::StepPermitted { .. } => "step-permitted",
            Entry::StepWaits { .. } => "step-waits",
            Entry::StepIntent { .. } => "step-intent",
            Entry::StepAsked { .. } => "step-asked",
            Entry::StepTrouble { .. } => "step-trouble",
            Entry::StepProgress { .. } => "step-progress",
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
            Entry::OldSiteSeen { .. } => "old-site-seen",
            Entry::Closed { .. } => "closed",
        }
    }

    /// The state that this entry leads to from `state`; `None`: it cannot follow it. The whole state diagram stands here.
    pub fn leads(&self, state: State) -> Option<State> {
        use State::{AwaitingApproval, Confirmed, Held, Moving, Proving, Stuck, Suspect, Watching};
        let deciding = matches!(state, Suspect | Confirmed | Held | AwaitingApproval);
        let open = state != Watching;
        match self {
            Entry::Started { .. }
            | Entry::Stopped { .. }
            | Entry::Gap { .. }
            | Entry::ClockStepped { .. }
            | Entry::Reloaded { .. }
            | Entry::Paused { .. }
            | Entry::Resumed { .. }
            | Entry::Autonomous { .. }
            | Entry::OldSiteSeen { .. } => Some(state),
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
            Entry::FrontDoorLost { .. } | Entry::FrontDoorBack { .. } | Entry::MovedByOthers { .. } | Entry::AuthorityMoved { .. } => {
                open.then_some(state)
            }
            Entry::Planned { .. } => deciding.then_some(Moving),
            Entry::StepStarted { .. }
            | Entry::StepPermitted { .. }
            | Entry::StepWaits { .. }
            | Entry::StepIntent { .. }
            | Entry::CallingOff { .. } => (state == Moving).then_some(Moving),
            // What was asked for may still answer after the incident got stuck.
            Entry::StepAsked { .. }
            | Entry::StepTrouble { .. }
            | Entry::StepProgress { .. }
            | Entry::StepVerified { .. }
            | Entry::StepFailed { .. }
            | Entry::StepUndone { .. } => matches!(state, Moving | Stuck).then_some(state),
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

/// The step that an entry names.
pub fn step_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::StepStarted { step }
        | Entry::StepPermitted { step, .. }
        | Entry::StepWaits { step, .. }
        | Entry::StepIntent { step, .. }
        | Entry::StepAsked { step, .. }
        | Entry::StepTrouble { step, .. }
        | Entry::StepProgress { step, .. }
        | Entry::StepVerified { step, .. }
        | Entry::StepFailed { step, .. }
        | Entry::StepSkipped { step, .. }
        | Entry::StepUndone { step, .. } => Some(step),
        _ => None,
    }
}

/// JSON has no infinity; the word stands for it.
pub(super) mod infinite {
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
