//! What the journal tells, the daemon up or not: the chain is checked first, then incidents are read by index.

use std::path::Path;

use super::story::{self, Story};
use super::{Look, ReportFormat, exit, inspect};
use crate::adapters::sqlite::{Page, Pages};
use crate::config::judge::nearest;
use crate::ports::JournalError;

/// Incidents among which the nearest name is looked for.
const NEAR: usize = 1_000;

/// Why there is no story to tell, in words.
fn fail(words: impl std::fmt::Display) -> u8 {
    anstream::eprintln!("watchover: {words}");
    exit::FAILED
}

/// The journal of the config, its chain checked; or the exit code after the reason was said.
fn open(config: Option<&Path>) -> Result<Pages, u8> {
    let config = inspect::load(config)?;
    Pages::checked(&config.daemon.state_dir).map_err(fail)
}

fn tell(pages: &Pages, id: &str) -> Result<Option<Story>, JournalError> {
    Ok(story::story(&pages.chapter(id)?, id))
}

/// The story of that incident; or the exit code after the reason was said.
pub(super) fn story_of(config: Option<&Path>, id: &str) -> Result<Story, u8> {
    let pages = open(config)?;
    if let Some(told) = tell(&pages, id).map_err(fail)? {
        return Ok(told);
    }
    let known = pages.incidents(&Page { limit: NEAR, ..Page::default() }).map_err(fail)?;
    let near = nearest(id, known.iter().map(|place| place.id.as_str()));
    let hint = near.map_or_else(|| "`watchover history` lists them".to_owned(), |near| format!("did you mean {near:?}?"));
    Err(fail(format!("no incident {id:?} in the journal; {hint}")))
}

/// The newest incident of an app, if it had one; or the exit code after the reason was said.
pub(super) fn newest(config: Option<&Path>, app: &str) -> Result<Option<Story>, u8> {
    let pages = open(config)?;
    let found = pages.incidents(&Page { app: Some(app.to_owned()), limit: 1, ..Page::default() }).map_err(fail)?;
    found.first().map_or(Ok(None), |place| tell(&pages, &place.id)).map_err(fail)
}

/// `history`: a page of incidents, the newest last.
pub(super) fn history(config: Option<&Path>, limit: usize, before: Option<&str>, look: Look) -> u8 {
    let pages = match open(config) {
        Ok(pages) => pages,
        Err(code) => return code,
    };
    let read = || -> Result<(Vec<Story>, Option<String>), String> {
        let words = |error: JournalError| error.to_string();
        let before = match before {
            None => None,
            Some(id) => Some(pages.place(id).map_err(words)?.ok_or_else(|| format!("no incident {id:?} in the journal"))?.first),
        };
        let mut places = pages.incidents(&Page { before, limit: limit + 1, ..Page::default() }).map_err(words)?;
        let more = places.len() > limit;
        places.truncate(limit);
        let oldest = places.last().filter(|_| more).map(|place| place.id.clone());
        let told = places.iter().rev().map(|place| tell(&pages, &place.id)).collect::<Result<Vec<_>, _>>().map_err(words)?;
        Ok((told.into_iter().flatten().collect(), oldest))
    };
    let (stories, older) = match read() {
        Ok(read) => read,
        Err(error) => return fail(error),
    };
    if look.json {
        return print_json(story::history_json(&stories, older.as_deref()));
    }
    anstream::print!("{}", story::history_text(&stories, look.colour));
    if let Some(oldest) = older {
        anstream::eprintln!("older ones: watchover history --before {oldest}");
    }
    exit::DONE
}

/// `report`.
pub(super) fn report(config: Option<&Path>, incident: &str, format: ReportFormat, look: Look) -> u8 {
    let told = match story_of(config, incident) {
        Ok(told) => told,
        Err(code) => return code,
    };
    match format {
        _ if look.json => return print_json(told.json()),
        ReportFormat::Json => return print_json(told.json()),
        ReportFormat::Md => anstream::print!("{}", told.markdown()),
        ReportFormat::Html => anstream::print!("{}", told.html()),
    }
    exit::DONE
}

/// One document on standard output.
pub(super) fn print_json(text: serde_json::Result<String>) -> u8 {
    match text {
        Ok(text) => {
            anstream::println!("{}", text.trim_end());
            exit::DONE
        }
        Err(error) => fail(format!("the document cannot be written: {error}")),
    }
}
