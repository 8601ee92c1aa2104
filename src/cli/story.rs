//! The story of an incident, told from the journal alone: daemon up or not, the same words.

mod chapter;
mod lines;
mod overview;
mod report;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use self::chapter::{Chapter, between, chapters};
pub use self::overview::{explain_all_json, explain_json, explain_text, history_json, history_text};
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
    /// Since when the zone's own servers answered with the target before we had asked for it, if they did.
    pub moved_by_others: Option<When>,
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
    /// For what an open incident waits that a person does, as the messages say it; until when only a running daemon knows.
    pub waits_for: Option<String>,
    /// Who did what, and why.
    pub people: Vec<Deed>,
    /// Everything, in order.
    pub timeline: Vec<Line>,
    /// Entries that could not have followed what stood before them; a daemon refuses such a journal.
    pub faults: Vec<String>,
}

/// All incidents of all apps, in the order in which they were opened.
pub fn stories(records: &[Record]) -> Vec<Story> {
    chapters(records).iter().filter_map(Chapter::tell).collect()
}

/// The incident of that id, if the records hold it.
pub fn story(records: &[Record], id: &str) -> Option<Story> {
    chapters(records).iter().find(|chapter| chapter.id == id).and_then(Chapter::tell)
}

#[cfg(test)]
mod tests;
