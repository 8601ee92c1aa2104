//! The story of an incident, told from the journal alone: daemon up or not, the same words.

mod lines;
mod overview;
mod report;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

pub use self::overview::{explain_json, explain_text, history_json, history_text};
use crate::domain::ledger::{Entry, Figures, Gate, GateState, Incident, Ledger, Record, Ruling, StepState};
use crate::domain::model::{Actor, Direction, Moment, Outcome, SiteName, State, Trigger, rfc3339};
use crate::domain::plan::{Class, Plan, Reversibility};
use crate::domain::rpo::Exposure;

/// A moment as a reader needs it: the clock on the wall, and how far into the incident by both clocks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct When {
    /// RFC 3339, UTC.
    pub wall: String,
    /// Seconds since the incident's clock started, by the boot clock; `None` where another boot lies between.
    pub boot_clock_seconds: Option<f64>,
    /// The same by the wall clock, which may have been set meanwhile.
    pub wall_clock_seconds: f64,
}

/// All gates, as they were decided on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    /// When.
    pub at: When,
    /// What they said together; `None` for the second look before a step that cannot be taken back.
    pub ruling: Option<Ruling>,
    /// The step that was permitted by that second look.
    pub before_step: Option<String>,
    /// Each gate with its figures of then.
    pub gates: Vec<Gate>,
    /// What a move would have lost.
    pub exposure: Option<Exposure>,
}

/// One thing that went wrong on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hitch {
    /// When.
    pub at: When,
    /// The world's code.
    pub code: String,
    /// What happened.
    pub words: String,
}

/// One step of the stored plan, as it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTold {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its class.
    pub class: Class,
    /// Whether it can be taken back.
    pub reversibility: Reversibility,
    /// Where it ended, or is.
    pub state: &'static str,
    /// When its turn came first.
    pub started: Option<When>,
    /// When the world last took the request.
    pub asked: Option<When>,
    /// When it reached its end.
    pub ended: Option<When>,
    /// From the first to the last of these.
    pub seconds: Option<f64>,
    /// Calls of `apply`, over all retries.
    pub attempts: u32,
    /// It was so already; nothing was asked for.
    pub already: bool,
    /// What stood there before the first request.
    pub found: Value,
    /// What it left.
    pub facts: Value,
    /// Why it was undone or skipped.
    pub remark: Option<String>,
    /// What went wrong on the way.
    pub trouble: Vec<Hitch>,
}

/// What a person did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deed {
    /// When.
    pub at: When,
    /// Who.
    pub who: String,
    /// What.
    pub what: String,
    /// Why, in their words.
    pub why: String,
}

/// A time in which nothing went on, and what for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wait {
    /// `held`, `awaiting-approval` or `stuck`.
    pub state: State,
    /// Since when.
    pub from: When,
    /// Until when; `None`: still.
    pub to: Option<When>,
    /// How long.
    pub seconds: Option<f64>,
    /// What for.
    pub on: Vec<String>,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The journal's entry; 0 for the first failed look, which stands within one.
    pub seq: i64,
    /// When.
    pub at: When,
    /// The entry's kind.
    pub kind: &'static str,
    /// What it says.
    pub words: String,
}

/// An incident from its first failed look to its end, or to where it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// Of this document's form.
    pub schema_version: u32,
    /// `shop-20261121T034512Z-7`.
    pub id: String,
    /// The app.
    pub app: String,
    /// What opened it; a command that overtakes an outage makes it the operator's.
    pub trigger: Trigger,
    /// Which way.
    pub direction: Direction,
    /// Where it stands; `watching` once it is closed.
    pub state: State,
    /// How it ended; `None`: it has not.
    pub outcome: Option<Outcome>,
    /// What was seen when it was opened.
    pub words: String,
    /// Which site served before.
    pub active_before: Option<SiteName>,
    /// Which one serves after.
    pub active_after: Option<SiteName>,
    /// The first failed look.
    pub first_failed: Option<When>,
    /// When it was opened.
    pub opened: When,
    /// When the outage was confirmed.
    pub confirmed: Option<When>,
    /// When it ended.
    pub closed: Option<When>,
    /// The takeovers under which it was written: more than one, and the daemon was restarted within.
    pub epochs: Vec<u64>,
    /// The machine's boot changed within: durations across it rest on the wall clock.
    pub crossed_boot: bool,
    /// The last evaluation of the loss.
    pub exposure: Option<Exposure>,
    /// The figures of its end.
    pub figures: Option<Figures>,
    /// Every evaluation of the gates.
    pub decided: Vec<Decided>,
    /// The plan's steps in the order of the plan.
    pub steps: Vec<StepTold>,
    /// What was waited for.
    pub waits: Vec<Wait>,
    /// Who did what, and why.
    pub people: Vec<Deed>,
    /// Everything, in order.
    pub timeline: Vec<Line>,
    /// Entries that could not have followed what stood before them; a daemon refuses such a journal.
    pub faults: Vec<String>,
}

/// No such incident.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no incident {id:?} in the journal; {hint}")]
pub struct NoSuchIncident {
    id: String,
    hint: String,
}

/// All incidents of all apps, in the order in which they were opened.
pub fn stories(records: &[Record]) -> Vec<Story> {
    chapters(records).iter().filter_map(Chapter::tell).collect()
}

/// The incident of that id.
///
/// # Errors
/// If the journal has none, with the nearest id or the way to list them.
pub fn story(records: &[Record], id: &str) -> Result<Story, NoSuchIncident> {
    let chapters = chapters(records);
    let found = chapters.iter().find(|chapter| chapter.id == id).and_then(Chapter::tell);
    found.ok_or_else(|| {
        let near = crate::config::judge::nearest(id, chapters.iter().map(|chapter| chapter.id));
        let hint = near.map_or_else(|| "`watchover history` lists them".to_owned(), |near| format!("did you mean {near:?}?"));
        NoSuchIncident { id: id.to_owned(), hint }
    })
}

/// The records of one incident, with what happened to its app and to the daemon meanwhile.
struct Chapter<'a> {
    id: &'a str,
    app: &'a str,
    active_before: Option<SiteName>,
    records: Vec<&'a Record>,
}

fn chapters(records: &[Record]) -> Vec<Chapter<'_>> {
    let mut chapters: Vec<Chapter<'_>> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut active: BTreeMap<&str, SiteName> = BTreeMap::new();
    for record in records {
        let Some(app) = record.app.as_deref() else {
            open.values().for_each(|place| chapters[*place].records.push(record));
            continue;
        };
        if matches!(record.entry, Entry::Opened { .. }) {
            open.insert(app, chapters.len());
            let id = record.incident.as_deref().unwrap_or_default();
            chapters.push(Chapter { id, app, active_before: active.get(app).copied(), records: Vec::new() });
        }
        if let Some(chapter) = open.get(app).map(|place| &mut chapters[*place])
            && record.incident.as_deref().is_none_or(|id| id == chapter.id)
        {
            chapter.records.push(record);
        }
        match &record.entry {
            Entry::Active { site, .. } => {
                active.insert(app, *site);
            }
            Entry::Closed { active: now, .. } => {
                now.map(|site| active.insert(app, site));
                open.remove(app);
            }
            _ => {}
        }
    }
    chapters
}

/// The clock of an incident: where it starts, and in which boot.
struct Clock<'a> {
    start: Moment,
    boot: &'a str,
}

impl Clock<'_> {
    fn when(&self, at: Moment, boot: &str) -> When {
        When {
            wall: rfc3339(at.wall),
            boot_clock_seconds: (boot == self.boot).then(|| micros(at.mono - self.start.mono)),
            wall_clock_seconds: micros(at.wall - self.start.wall),
        }
    }

    fn of(&self, record: &Record) -> When {
        self.when(record.at, &record.boot_id)
    }
}

fn micros(span: i64) -> f64 {
    span as f64 / 1e6
}

/// From one moment of the incident to another: by the boot clock where both have it.
fn between(from: &When, to: &When) -> f64 {
    match (from.boot_clock_seconds, to.boot_clock_seconds) {
        (Some(from), Some(to)) => (to - from).max(0.0),
        _ => (to.wall_clock_seconds - from.wall_clock_seconds).max(0.0),
    }
}

impl Chapter<'_> {
    /// Two passes: where the clock starts is known only at the end.
    fn tell(&self) -> Option<Story> {
        let opening = self.records.first()?;
        let Entry::Opened { words, .. } = &opening.entry else { return None };
        let mut ledger = Ledger { active: self.active_before, ..Ledger::default() };
        let (mut states, mut faults, mut incident) = (Vec::with_capacity(self.records.len()), Vec::new(), None);
        for record in &self.records {
            if let Err(fault) = ledger.apply(record) {
                faults.push(format!("entry {}: {fault}", record.seq));
            }
            incident = ledger.incident.clone().or(incident);
            states.push(ledger.state);
        }
        let incident: Incident = incident?;
        let start = incident.clock_start();
        let confirming = self.records.iter().find(|record| matches!(record.entry, Entry::Confirmed { .. }));
        let anchor = if start == incident.opened { opening } else { confirming.unwrap_or(opening) };
        let clock = Clock { start, boot: &anchor.boot_id };

        let closing = self.records.iter().find(|record| matches!(record.entry, Entry::Closed { .. }));
        let (outcome, figures) = match closing.map(|record| &record.entry) {
            Some(Entry::Closed { outcome, figures, .. }) => (Some(*outcome), Some((**figures).clone())),
            _ => (None, None),
        };
        let mut epochs: Vec<u64> = self.records.iter().map(|record| record.epoch).collect();
        epochs.dedup();
        let first_failed = incident.first_failed.map(|at| clock.when(at, &anchor.boot_id));
        let first_line = first_failed.clone().map(|at| Line { seq: 0, at, kind: "first-failed", words: "First failed look of the run".into() });
        let line = |record: &&Record| Line { seq: record.seq, at: clock.of(record), kind: record.entry.kind(), words: lines::words(&record.entry) };
        Some(Story {
            schema_version: 1,
            id: self.id.to_owned(), app: self.app.to_owned(), trigger: incident.trigger, direction: incident.direction, state: ledger.state,
            outcome, words: words.clone(), active_before: self.active_before, active_after: ledger.active, first_failed,
            opened: clock.of(opening), confirmed: confirming.map(|record| clock.of(record)), closed: closing.map(|record| clock.of(record)),
            epochs, crossed_boot: self.records.iter().any(|record| record.boot_id != opening.boot_id),
            figures, decided: self.decided(&clock), steps: self.steps(&clock, &incident), waits: self.waits(&clock, &states),
            people: self.records.iter().filter_map(|record| deed(record, &clock)).collect(),
            timeline: first_line.into_iter().chain(self.records.iter().map(line)).collect(),
            exposure: incident.exposure, faults,
        })
    }

    fn decided(&self, clock: &Clock<'_>) -> Vec<Decided> {
        let told = |record: &&Record| {
            let at = clock.of(record);
            match &record.entry {
                Entry::Gated { ruling, gates, exposure } => {
                    Some(Decided { at, ruling: Some(*ruling), before_step: None, gates: gates.clone(), exposure: Some(exposure.clone()) })
                }
                Entry::StepPermitted { step, gates } => {
                    Some(Decided { at, ruling: None, before_step: Some(step.clone()), gates: gates.clone(), exposure: None })
                }
                _ => None,
            }
        };
        self.records.iter().filter_map(told).collect()
    }

    fn steps(&self, clock: &Clock<'_>, incident: &Incident) -> Vec<StepTold> {
        let mut steps: Vec<StepTold> = incident.plan.iter().flat_map(|plan: &Plan| &plan.steps).map(|step| {
            let state = incident.steps.get(&step.name).map_or(StepState::Waiting, |run| run.state);
            StepTold {
                name: step.name.clone(), kind: step.kind.clone(), class: step.class, reversibility: step.reversibility, state: state.as_str(),
                started: None, asked: None, ended: None, seconds: None, attempts: 0, already: false, found: Value::Null, facts: Value::Null,
                remark: None, trouble: Vec::new(),
            }
        }).collect();
        for record in &self.records {
            let named = crate::domain::ledger::step_of(&record.entry);
            if let Some(step) = named.and_then(|name| steps.iter_mut().find(|step| step.name == name)) {
                step.take(&record.entry, clock.of(record));
            }
        }
        for step in &mut steps {
            step.seconds = step.started.as_ref().zip(step.ended.as_ref()).map(|(from, to)| between(from, to));
        }
        steps
    }

    fn waits(&self, clock: &Clock<'_>, states: &[State]) -> Vec<Wait> {
        let mut waits: Vec<Wait> = Vec::new();
        let mut on: Vec<String> = Vec::new();
        // What distinguishes one wait from the next: the names, as the figures beside them change all the time.
        let (mut names, mut running): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut waiting = false;
        for (record, state) in self.records.iter().zip(states) {
            match &record.entry {
                Entry::Gated { gates, .. } => {
                    let shut: Vec<&Gate> = gates.iter().filter(|gate| gate.state != GateState::Open).collect();
                    on = shut.iter().map(|gate| format!("{} ({}): {}", gate.name, gate.state, gate.words)).collect();
                    names = shut.iter().map(|gate| gate.name.clone()).collect();
                }
                Entry::Declined { by } => (on, names) = one(format!("a new outage, or a command: {} declined ({})", by.who, by.reason)),
                Entry::Stuck { words, waits_for } => (on, names) = one(format!("{waits_for}: {words}")),
                Entry::AbortedBy { by } => (on, names) = one(format!("`watchover adopt`: {} aborted it ({})", by.who, by.reason)),
                _ => {}
            }
            let waits_now = matches!(state, State::Held | State::AwaitingApproval | State::Stuck);
            let same = waiting && waits_now && names == running && waits.last().is_some_and(|wait| wait.state == *state);
            if same {
                continue;
            }
            let now = clock.of(record);
            if let Some(wait) = waits.last_mut().filter(|_| waiting) {
                wait.seconds = Some(between(&wait.from, &now));
                wait.to = Some(now.clone());
            }
            waiting = waits_now;
            if waiting {
                running.clone_from(&names);
                waits.push(Wait { state: *state, from: now, to: None, seconds: None, on: on.clone() });
            }
        }
        waits
    }
}

fn one(line: String) -> (Vec<String>, Vec<String>) {
    (vec![line.clone()], vec![line])
}

impl StepTold {
    fn take(&mut self, entry: &Entry, at: When) {
        match entry {
            Entry::StepStarted { .. } => {
                self.started.get_or_insert(at);
                self.ended = None;
            }
            Entry::StepIntent { found, .. } => {
                if self.attempts == 0 {
                    self.found.clone_from(found);
                }
                self.attempts += 1;
            }
            Entry::StepAsked { .. } => self.asked = Some(at),
            Entry::StepTrouble { code, words, .. } => self.trouble.push(Hitch { at, code: code.clone(), words: words.clone() }),
            Entry::StepFailed { code, words, .. } => {
                self.trouble.push(Hitch { at: at.clone(), code: code.clone(), words: words.clone() });
                self.ended = Some(at);
            }
            Entry::StepVerified { already, facts, .. } => {
                self.already = *already;
                self.facts.clone_from(facts);
                self.ended = Some(at);
            }
            Entry::StepSkipped { by, .. } => {
                self.remark = Some(format!("skipped by {}: {}", by.who, by.reason));
                self.ended = Some(at);
            }
            Entry::StepUndone { words, .. } => {
                self.remark = Some(words.clone());
                self.ended = Some(at);
            }
            _ => {}
        }
    }
}

/// What a person did with this entry, if one did.
fn deed(record: &Record, clock: &Clock<'_>) -> Option<Deed> {
    let by = |by: &Actor, what: String| Some(Deed { at: clock.of(record), who: by.who.clone(), what, why: by.reason.clone() });
    match &record.entry {
        Entry::Commanded { wish } => by(&wish.by, format!("asked for this move{}", lines::terms(wish))),
        Entry::Approved { wish } => by(&wish.by, format!("approved{}", lines::terms(wish))),
        Entry::Declined { by: actor } => by(actor, "declined".into()),
        Entry::StepSkipped { step, by: actor } => by(actor, format!("skipped the step {step}")),
        Entry::Retried { by: actor } => by(actor, "had the failed steps tried again".into()),
        Entry::AbortedBy { by: actor } => by(actor, "aborted the move".into()),
        Entry::Active { site, by: actor } => by(actor, format!("said that {site} is active")),
        Entry::Paused { until, by: actor } => by(actor, format!("paused until {}", rfc3339(*until))),
        Entry::Resumed { by: actor } => by(actor, "resumed".into()),
        Entry::Closed { outcome, active, by: Some(actor), .. } => {
            let site = active.map(|site| format!(", with {site} active")).unwrap_or_default();
            by(actor, format!("closed it as {outcome}{site}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
