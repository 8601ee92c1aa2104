//! The gates between "the active site is down" and "move": each open, asking or shut, always with its figures.
//!
//! All are evaluated every time, so that a report shows not only what stopped a move but how near the rest was.

use std::time::Duration;

use super::front::Front;
use super::health::{Last, SignalHealth};
use super::ledger::{Gate, GateState, Incident, Ledger, Ruling};
use super::model::{Direction, Mode, Moment, SiteName, Verdict};
use super::plan::{Class, Plan};
use super::policy::{AppPolicy, OnRpoExceeded};
pub use super::preflight::{Found, Preflight};
use super::quorum::{self, Point};
use super::rpo::{Assumption, Exposure, Lags};

/// Every gate, in the order they are shown.
pub const NAMES: &[&str] = &[
    "active-known",
    "direction",
    "not-paused",
    "mode",
    "startup-grace",
    "not-isolated",
    "target-healthy",
    "data-loss",
    "cooldown",
    "blast-radius",
    "lease",
    "preflight",
];

/// What surrounds one app's decision.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// When this daemon started.
    pub started: Moment,
    /// Since when it runs without having stood still: its start, or the end of its last gap.
    pub awake: Moment,
    /// The latest look at each witness.
    pub witnesses: Vec<Option<Last>>,
    /// How many must be known up.
    pub need_up: usize,
    /// Groups that move right now.
    pub moving: Vec<String>,
    /// How many may.
    pub max_groups: usize,
    /// A waiting group with a higher priority.
    pub ahead: Option<String>,
    /// Why the journal cannot be written, if it cannot.
    pub journal_fault: Option<String>,
}

/// Everything that a gate may look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The app's policy.
    pub policy: &'a AppPolicy,
    /// Its durable state.
    pub ledger: &'a Ledger,
    /// Health of the signals, primary first.
    pub signals: [&'a [SignalHealth]; 2],
    /// Remembered lag, for each replica signal.
    pub lags: &'a Lags,
    /// What this process has seen of the front door.
    pub front: &'a Front,
    /// The latest preflight of the direction in question.
    pub preflight: Option<&'a Preflight>,
    /// What surrounds it.
    pub around: &'a Around,
    /// Now.
    pub now: Moment,
    /// Whether gates say why. They are asked with every event, and their words are read once in a while.
    pub telling: bool,
}

impl View<'_> {
    pub(super) fn open(&self, words: impl FnOnce() -> String) -> (GateState, String) {
        (GateState::Open, self.say(words))
    }

    /// The gate of that name asks a person, unless it has and nobody answered.
    pub(super) fn asks(&self, gate: &str, words: impl FnOnce() -> String) -> (GateState, String) {
        if self.ledger.incident.as_ref().is_some_and(|incident| incident.unanswered.contains(gate)) {
            return self.shut(|| format!("{}; nobody answered in time, and it is not asked again", words()));
        }
        (GateState::Asks, self.say(words))
    }

    pub(super) fn shut(&self, words: impl FnOnce() -> String) -> (GateState, String) {
        (GateState::Shut, self.say(words))
    }

    fn say(&self, words: impl FnOnce() -> String) -> String {
        if self.telling { words() } else { String::new() }
    }

    /// A site's signals.
    pub fn signals(&self, site: SiteName) -> &[SignalHealth] {
        match site {
            SiteName::Primary => self.signals[0],
            SiteName::Standby => self.signals[1],
        }
    }

    /// The site as its own rule judges it.
    pub fn site(&self, site: SiteName) -> quorum::SiteView {
        quorum::site(self.policy.site(site), self.signals(site), self.now)
    }

    /// Evaluates every gate for a move in this direction.
    pub fn gates(&self, direction: Direction, point: Point) -> (Ruling, Vec<Gate>, Exposure) {
        let exposure = self.exposure(direction);
        let evaluated = self.evaluate(direction, point, &exposure);
        let gates: Vec<Gate> =
            NAMES.iter().zip(evaluated).map(|(name, (state, words))| Gate { name: (*name).to_owned(), state, words }).collect();
        (ruling(gates.iter().map(|gate| gate.state)), gates, exposure)
    }

    /// The same without a word: what a decision needs that will mostly be none.
    pub fn states(&self, direction: Direction, point: Point) -> (Ruling, Vec<GateState>) {
        let quiet = View { telling: false, ..*self };
        let states: Vec<GateState> = quiet.evaluate(direction, point, &self.exposure(direction)).map(|(state, _)| state).collect();
        (ruling(states.iter().copied()), states)
    }

    fn evaluate<'a>(
        &'a self,
        direction: Direction,
        point: Point,
        exposure: &'a Exposure,
    ) -> impl Iterator<Item = (GateState, String)> + 'a {
        NAMES.iter().map(move |name| match *name {
            "active-known" => self.active_known(),
            "direction" => self.direction(direction),
            "not-paused" => self.not_paused(),
            "mode" => self.mode(),
            "startup-grace" => self.startup_grace(),
            "not-isolated" => self.not_isolated(direction),
            "target-healthy" => self.target_healthy(direction, point),
            "data-loss" => self.data_loss(exposure),
            "cooldown" => self.cooldown(),
            "blast-radius" => self.blast_radius(),
            "lease" => self.open(|| "no lease is configured: this observer is the only one".to_owned()),
            _ => self.preflight(direction),
        })
    }

    fn commanded(&self) -> bool {
        self.ledger.incident.as_ref().is_some_and(Incident::commanded)
    }

    fn forced(&self) -> bool {
        self.ledger.incident.as_ref().and_then(|incident| incident.wish.as_ref()).is_some_and(|wish| wish.force)
    }

    fn approved(&self) -> bool {
        self.ledger.incident.as_ref().is_some_and(|incident| incident.approved && incident.wish.is_some())
    }

    fn active_known(&self) -> (GateState, String) {
        match self.ledger.active {
            Some(site) => self.open(|| format!("{site} is active")),
            None => self.shut(|| {
                "nobody has said which site is active, and the plan's own inspections do not agree on one: `watchover adopt`".to_owned()
            }),
        }
    }

    fn direction(&self, direction: Direction) -> (GateState, String) {
        match direction {
            Direction::ToStandby => self.open(|| "towards the standby".to_owned()),
            Direction::ToPrimary if self.commanded() => self.open(|| "towards the primary, by a person's command".to_owned()),
            Direction::ToPrimary => self.shut(|| "a way back is never automatic: `watchover failback`".to_owned()),
        }
    }

    fn not_paused(&self) -> (GateState, String) {
        match &self.ledger.paused {
            Some(pause) if pause.until <= self.now.wall => self.open(|| "not paused any more".to_owned()),
            Some(pause) if self.commanded() => self.open(|| format!("paused by {}, but a person commands this move", pause.by.who)),
            Some(pause) => {
                self.shut(|| format!("paused until {} by {} ({})", super::model::rfc3339(pause.until), pause.by.who, pause.by.reason))
            }
            None => self.open(|| "not paused".to_owned()),
        }
    }

    fn mode(&self) -> (GateState, String) {
        let declined = self.ledger.incident.as_ref().is_some_and(|incident| incident.declined);
        match self.policy.mode {
            mode if self.commanded() => self.open(|| format!("{mode}, and a person commands this move")),
            _ if self.approved() => self.open(|| "approved".to_owned()),
            _ if declined => self.shut(|| "declined, until a new outage".to_owned()),
            Mode::Automatic => self.automatic(),
            Mode::Approval => self.asks("mode", || "approval: a person must say yes".to_owned()),
            Mode::Observe => self.shut(|| "observe: nothing is moved without a command".to_owned()),
        }
    }

    fn startup_grace(&self) -> (GateState, String) {
        let up = self.now.since(self.around.started);
        let words = || format!("running for {:.1}s of {:.0}s", up.as_secs_f64(), self.policy.startup_grace.as_secs_f64());
        if up >= self.policy.startup_grace || self.forced() { self.open(words) } else { self.shut(words) }
    }

    fn not_isolated(&self, direction: Direction) -> (GateState, String) {
        let since = self.ledger.incident.as_ref().and_then(|incident| incident.first_failed);
        let proves = |last: &Last| {
            last.verdict == Verdict::Up
                && since.is_none_or(|since| last.sent.mono >= since.mono)
                && self.now.since(last.done) < Duration::from_secs(15)
        };
        let witnesses = self.around.witnesses.iter().flatten().filter(|last| proves(last)).count();
        let target = self.signals(direction.target());
        let policies = &self.policy.site(direction.target()).signals;
        let other_site = policies.iter().zip(target).any(|(policy, signal)| policy.counts && signal.last().is_some_and(proves));
        let known = witnesses + usize::from(other_site);
        let words = || {
            format!(
                "{witnesses} of {} witnesses up, the other site {}; {known} of {} needed",
                self.around.witnesses.len(),
                if other_site { "answers" } else { "does not answer" },
                self.around.need_up
            )
        };
        if known >= self.around.need_up.max(1) {
            self.open(words)
        } else {
            self.shut(|| format!("{}: we may be the ones cut off", words()))
        }
    }

    fn target_healthy(&self, direction: Direction, point: Point) -> (GateState, String) {
        let target = direction.target();
        let site = self.policy.site(target);
        let outage = self.ledger.incident.as_ref().and_then(|incident| incident.first_failed);
        let told = |at: usize| outage.is_some_and(|outage| self.told(target, at, outage));
        let missing = quorum::missing(site, self.signals(target), point, outage, told, self.now);
        if !missing.is_empty() {
            return self.shut(|| format!("{target}: {}", missing.join(", ")));
        }
        // Once the old writers are being fenced off the source is down by our own hand.
        let begun = self.ledger.incident.as_ref().is_some_and(|incident| incident.steps.values().any(|run| run.touched));
        let graceful = self.ledger.incident.as_ref().is_some_and(Incident::graceful) && !begun;
        let source = self.site(direction.source());
        if graceful && source.health != super::model::Health::Up {
            return self.shut(|| {
                format!(
                    "a graceful move needs a well source, but {} is {}: {}",
                    direction.source(),
                    source.health,
                    quorum::words(self.policy.site(direction.source()), self.signals(direction.source()), self.now).join(", ")
                )
            });
        }
        self.open(|| format!("{target}: every required signal is up"))
    }

    fn data_loss(&self, exposure: &Exposure) -> (GateState, String) {
        let objective = self.policy.rpo_objective.as_secs_f64();
        let words = || format!("{}; objective {objective:.0}s", exposure.words());
        let incident = self.ledger.incident.as_ref();
        // A program may move the data without waiting for the last of it: what that loses is judged as for any move.
        let by_program = |plan: &Plan| plan.steps.iter().any(|step| step.class == Class::Data && step.kind == "command");
        let drains = |incident: &Incident| incident.graceful() && !by_program(self.policy.plan_to(incident.direction.target()));
        if incident.is_some_and(drains) && exposure.assumption != Assumption::DataStays {
            return self.open(|| format!("graceful: fenced and drained before the promotion; now {}", words()));
        }
        // A person who says how much may be lost means it, be it less than the objective.
        let stated = incident.and_then(|incident| incident.wish.as_ref()).and_then(|wish| wish.accept_loss);
        if let Some(limit) = stated.filter(|limit| limit.is_finite() && exposure.seconds.is_none_or(|seconds| seconds > *limit)) {
            let words = || format!("{}; no more than {limit:.1}s was accepted: name a larger --accept-data-loss", exposure.words());
            let holds = self.policy.on_rpo_exceeded == OnRpoExceeded::Hold;
            return if holds { self.shut(words) } else { self.asks("data-loss", words) };
        }
        if exposure.seconds.is_some_and(|seconds| seconds <= objective) {
            return self.open(words);
        }
        if let Some(wish) = incident.and_then(|incident| incident.wish.as_ref()) {
            let limit = wish.accept_loss.or(if self.approved() { wish.shown } else { None });
            let accepted = match (exposure.seconds, limit) {
                (Some(seconds), Some(limit)) => seconds <= limit,
                (None, Some(limit)) => limit.is_infinite(),
                (_, None) => false,
            };
            if accepted {
                return self.open(|| format!("{}; accepted by {} ({})", words(), wish.by.who, wish.by.reason));
            }
        }
        match self.policy.on_rpo_exceeded {
            OnRpoExceeded::Proceed => self.open(|| format!("{}; the config says proceed", words())),
            OnRpoExceeded::Approve => self.asks("data-loss", || format!("{}; a person must accept the loss", words())),
            OnRpoExceeded::Hold => self.shut(words),
        }
    }

    fn cooldown(&self) -> (GateState, String) {
        let Some(last) = self.ledger.last_move else { return self.open(|| "no move so far".to_owned()) };
        let ago = self.now.since(last);
        let words = || format!("the last move ended {:.0}s ago, cooldown {:.0}s", ago.as_secs_f64(), self.policy.cooldown.as_secs_f64());
        if ago >= self.policy.cooldown || self.forced() || self.approved() {
            self.open(words)
        } else if self.commanded() {
            self.shut(|| format!("{}; --force overrides", words()))
        } else {
            self.asks("cooldown", words)
        }
    }

    fn blast_radius(&self) -> (GateState, String) {
        let others = self.around.moving.iter().filter(|group| **group != self.policy.group).count();
        let words = || format!("{others} other group(s) moving, {} allowed at once", self.around.max_groups);
        if self.forced() {
            return self.open(words);
        }
        match &self.around.ahead {
            _ if others >= self.around.max_groups => self.shut(words),
            Some(group) if !self.around.moving.contains(&self.policy.group) => self.shut(|| format!("{}; {group} goes first", words())),
            _ => self.open(words),
        }
    }
}

/// What all gates together say.
pub fn ruling(states: impl Iterator<Item = GateState> + Clone) -> Ruling {
    if states.clone().any(|state| state == GateState::Shut) {
        Ruling::Hold
    } else if states.clone().any(|state| state == GateState::Asks) {
        Ruling::Ask
    } else {
        Ruling::Go
    }
}

/// The gates that are not open, in words.
pub fn closed_words(gates: &[Gate]) -> String {
    let closed: Vec<String> = gates
        .iter()
        .filter(|gate| gate.state != GateState::Open)
        .map(|gate| format!("{} {} ({})", gate.name, gate.state, gate.words))
        .collect();
    closed.join("; ")
}
