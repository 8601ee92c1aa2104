//! All incidents in a table; and one incident's gates as they were decided.

use serde::Serialize;

use super::lines::span;
use super::report::ruling;
use super::{Decided, Story};
use crate::cli::page::{self, Block, Cell};
use crate::domain::model::{Direction, Trigger};
use crate::domain::rpo::Exposure;

/// The incidents as a table, the newest last.
pub fn history_text(stories: &[Story], colour: bool) -> String {
    if stories.is_empty() {
        return "No incidents in the journal.\n".to_owned();
    }
    let row = |story: &Story| {
        let rpo = story.rpo().map_or_else(|| "–".to_owned(), |rpo| rpo.seconds.map_or_else(|| "unknown".to_owned(), span));
        let rto = story.figures.as_ref().and_then(|figures| figures.rto_seconds).map_or_else(|| "–".to_owned(), span);
        let opened = story.opened.wall.as_str();
        let words = [story.id.as_str(), story.app.as_str(), opened, story.trigger.as_str(), story.direction.as_str()];
        let mut cells: Vec<Cell> = words.into_iter().map(Cell::from).collect();
        cells.extend([story.standing(), rto.into(), rpo.into()]);
        cells
    };
    let heads = vec!["INCIDENT", "APP", "OPENED", "TRIGGER", "DIRECTION", "OUTCOME", "RTO", "RPO"];
    page::text(&[Block::Table(heads, stories.iter().map(row).collect())], colour)
}

#[derive(Serialize)]
struct History<'a> {
    schema_version: u32,
    incidents: Vec<Summary<'a>>,
    /// There are older ones; `--before` takes this.
    older_than: Option<&'a str>,
}

#[derive(Serialize)]
struct Summary<'a> {
    id: &'a str,
    app: &'a str,
    opened: &'a str,
    closed: Option<&'a str>,
    trigger: Trigger,
    direction: Direction,
    state: &'a str,
    outcome: Option<&'a str>,
    rto_seconds: Option<f64>,
    rpo: Option<&'a Exposure>,
}

/// The same as one JSON document. `older_than`: the oldest of these, if there are older ones.
///
/// # Errors
/// None with the types as they are; serde's signature has one.
pub fn history_json(stories: &[Story], older_than: Option<&str>) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&History { schema_version: 1, incidents: stories.iter().map(summary).collect(), older_than })
}

fn summary(story: &Story) -> Summary<'_> {
    Summary {
        id: &story.id,
        app: &story.app,
        opened: &story.opened.wall,
        closed: story.closed.as_ref().map(|at| at.wall.as_str()),
        trigger: story.trigger,
        direction: story.direction,
        state: story.state.as_str(),
        outcome: story.outcome.map(|outcome| outcome.as_str()),
        rto_seconds: story.figures.as_ref().and_then(|figures| figures.rto_seconds),
        rpo: story.rpo(),
    }
}

/// Every gate with its figures, for every ruling of the incident.
pub fn explain_text(story: &Story, colour: bool) -> String {
    let mut blocks = vec![Block::Heading(1, story.title()), Block::Para(story.words.clone())];
    blocks.extend(story.moved_by_others_words().map(|words| Block::Para(format!("Traffic: {words}."))));
    blocks.extend(story.waits_for.as_ref().map(|words| Block::Para(format!("Waits for a person: {words}."))));
    for one in &story.decided {
        ruling(&mut blocks, &(one, one, 1));
    }
    if story.decided.is_empty() {
        blocks.push(Block::Para("No gate was asked: the outage was never confirmed, and nobody asked for a move.".into()));
    }
    page::text(&blocks, colour)
}

#[derive(Serialize)]
struct Explained<'a> {
    schema_version: u32,
    id: &'a str,
    outcome: Option<&'a str>,
    moved_by_others: Option<&'a super::When>,
    waits_for: Option<&'a str>,
    decided: &'a [Decided],
}

/// The same as one JSON document.
///
/// # Errors
/// None with the types as they are; serde's signature has one.
pub fn explain_json(story: &Story) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&explanation(story))
}

/// Several incidents, as one JSON document.
///
/// # Errors
/// As [`explain_json`].
pub fn explain_all_json(stories: &[Story]) -> serde_json::Result<String> {
    let incidents: Vec<Explained<'_>> = stories.iter().map(explanation).collect();
    serde_json::to_string_pretty(&serde_json::json!({"schema_version": 1, "incidents": incidents}))
}

fn explanation(story: &Story) -> Explained<'_> {
    let outcome = story.outcome.map(|outcome| outcome.as_str());
    let moved_by_others = story.moved_by_others.as_ref();
    Explained { schema_version: 1, id: &story.id, outcome, moved_by_others, waits_for: story.waits_for.as_deref(), decided: &story.decided }
}
