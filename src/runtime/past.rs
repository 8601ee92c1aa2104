//! What the journal tells over HTTP: incidents by pages, and one incident's rows.

use std::path::Path;

use serde_json::{Value, json};

use crate::adapters::sqlite::{Page, Pages, Place};
use crate::domain::ledger::{Entry, Figures, Record};
use crate::ports::JournalError;

/// Incidents in one answer, if nobody says how many.
const INCIDENTS: usize = 100;
/// Incidents in one answer at the most.
const MAX_INCIDENTS: usize = 1_000;
/// Rows in one answer at the most: an incident has hundreds.
const MAX_ROWS: usize = 5_000;

/// A question to the journal, within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A page of incidents.
    Incidents(Page),
    /// One incident's rows.
    Incident {
        /// Its id.
        id: String,
        /// Only rows after this one.
        since: i64,
        /// So many at most.
        limit: usize,
    },
}

impl Asked {
    /// The newest incidents, or those opened before the row `before`; with a row after `since`.
    pub fn incidents(app: Option<String>, since: i64, before: Option<i64>, limit: Option<usize>) -> Asked {
        Asked::Incidents(Page { app, since, before, limit: limit.unwrap_or(INCIDENTS).clamp(1, MAX_INCIDENTS) })
    }

    /// One incident's rows after `since`.
    pub fn incident(id: String, since: i64, limit: Option<usize>) -> Asked {
        Asked::Incident { id, since, limit: limit.unwrap_or(MAX_ROWS).clamp(1, MAX_ROWS) }
    }

    /// What to say if there is no such thing.
    pub fn missing(&self) -> String {
        match self {
            Asked::Incidents(_) => "no incidents are in the journal".to_owned(),
            Asked::Incident { id, .. } => format!("no incident {id:?} is in the journal"),
        }
    }
}

/// Answers a question from the journal of `state_dir`; `None`: there is no such incident.
///
/// # Errors
/// The journal's own words.
pub fn read(state_dir: &Path, asked: &Asked) -> Result<Option<Value>, String> {
    let pages = Pages::open(state_dir).map_err(|error| error.to_string())?;
    let answer = match asked {
        Asked::Incidents(page) => incidents(&pages, page).map(Some),
        Asked::Incident { id, since, limit } => incident(&pages, id, *since, *limit),
    };
    answer.map_err(|error| error.to_string())
}

fn incidents(pages: &Pages, page: &Page) -> Result<Value, JournalError> {
    // One more than asked for tells whether there are older ones.
    let mut found = pages.incidents(&Page { limit: page.limit + 1, ..page.clone() })?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let next = found.last().filter(|_| more).map(|oldest| oldest.first);
    let told = found.iter().rev().map(|place| outline(pages, place)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"schema_version": 1, "incidents": told, "next_before": next}))
}

fn outline(pages: &Pages, place: &Place) -> Result<Value, JournalError> {
    let mut one = json!({"id": place.id, "seq": place.first, "last_seq": place.last, "outcome": null});
    let mut known: Option<Figures> = None;
    for record in pages.outline(&place.id)? {
        match &record.entry {
            Entry::Opened { trigger, direction, .. } => {
                one["app"] = json!(record.app);
                one["opened"] = record.at.rfc3339().into();
                one["trigger"] = json!(trigger);
                one["direction"] = json!(direction);
            }
            Entry::Commanded { .. } => one["trigger"] = "operator".into(),
            Entry::Closed { outcome, active, figures, .. } => {
                one["outcome"] = json!(outcome);
                one["active"] = json!(active);
                known = Some(Figures::clone(figures));
                one["closed"] = record.at.rfc3339().into();
            }
            // Seen before the end, it stands in the figures of the end.
            Entry::OldSiteSeen { at, .. } => known.iter_mut().for_each(|figures| figures.unbound(at.wall)),
            _ => {}
        }
    }
    if let Some(figures) = known {
        one["figures"] = json!(figures);
    }
    Ok(one)
}

/// One incident's rows, and what they come to: the row that ended it does not know what was seen of its loss since.
fn incident(pages: &Pages, id: &str, since: i64, limit: usize) -> Result<Option<Value>, JournalError> {
    let Some(place) = pages.place(id)? else { return Ok(None) };
    let rows = pages.rows(id, since, limit)?;
    let told = outline(pages, &place)?;
    let next = rows.last().map(|record: &Record| record.seq).filter(|last| *last < place.last);
    Ok(Some(json!({
        "schema_version": 1, "id": id, "app": told["app"], "outcome": told["outcome"], "figures": told["figures"],
        "records": rows, "next": next,
    })))
}
