//! What the journal tells, the daemon up or not: the chain is checked first, then incidents are read by index.

use std::path::Path;

use super::out::{complain, put, remark, say};
use super::story::{self, Story};
use super::{Look, ReportFormat, exit, inspect};
use crate::adapters::sqlite::{Page, Pages};
use crate::config::judge::nearest;
use crate::ports::JournalError;

/// Incidents among which the nearest name is looked for.
const NEAR: usize = 1_000;

/// Why there is no story to tell, in words.
fn fail(words: impl std::fmt::Display) -> u8 {
    complain!("watchover: {words}");
    exit::FAILED
}

/// The journal, its chain checked; or the exit code after the reason was said.
pub(super) fn open(state_dir: &Path) -> Result<Pages, u8> {
    Pages::checked(state_dir).map_err(fail)
}

fn tell(pages: &Pages, id: &str) -> Result<Option<Story>, JournalError> {
    Ok(story::story(&pages.chapter(id)?, id))
}

/// The story of that incident; or the exit code after the reason was said.
pub(super) fn story_of(state_dir: &Path, id: &str) -> Result<Story, u8> {
    let pages = open(state_dir)?;
    if let Some(told) = tell(&pages, id).map_err(fail)? {
        return Ok(told);
    }
    let known = pages.incidents(&Page { limit: NEAR, ..Page::default() }).map_err(fail)?;
    let near = nearest(id, known.iter().map(|place| place.id.as_str()));
    let hint = near.map_or_else(|| "`watchover history` lists them".to_owned(), |near| format!("did you mean {near:?}?"));
    complain!("watchover: no incident {id:?} in the journal; {hint}");
    Err(exit::USAGE)
}

/// The newest incident of an app, if it had one; or the exit code after the reason was said.
pub(super) fn newest(pages: &Pages, app: &str) -> Result<Option<Story>, u8> {
    let found = pages.incidents(&Page { app: Some(app.to_owned()), limit: 1, ..Page::default() }).map_err(fail)?;
    found.first().map_or(Ok(None), |place| tell(pages, &place.id)).map_err(fail)
}

/// `history`: a page of incidents, the newest last.
pub(super) fn history(config: Option<&Path>, limit: usize, before: Option<&str>, look: Look) -> u8 {
    let pages = match inspect::reach(config).and_then(|reach| open(&reach.state_dir)) {
        Ok(pages) => pages,
        Err(code) => return code,
    };
    let before = match before.map(|id| (id, pages.place(id))) {
        None => None,
        Some((_, Ok(Some(place)))) => Some(place.first),
        Some((id, Ok(None))) => {
            complain!("watchover: --before: no incident {id:?} in the journal; `watchover history` lists them");
            return exit::USAGE;
        }
        Some((_, Err(error))) => return fail(error),
    };
    let read = || -> Result<(Vec<Story>, Option<String>), JournalError> {
        let mut places = pages.incidents(&Page { before, limit: limit + 1, ..Page::default() })?;
        let more = places.len() > limit;
        places.truncate(limit);
        let oldest = places.last().filter(|_| more).map(|place| place.id.clone());
        let told = places.iter().rev().map(|place| tell(&pages, &place.id)).collect::<Result<Vec<_>, _>>()?;
        Ok((told.into_iter().flatten().collect(), oldest))
    };
    let (stories, older) = match read() {
        Ok(read) => read,
        Err(error) => return fail(error),
    };
    if look.json {
        return print_json(story::history_json(&stories, older.as_deref()));
    }
    put!("{}", story::history_text(&stories, look.colour));
    if let Some(oldest) = older {
        remark!("older ones: watchover history --before {oldest}");
    }
    exit::DONE
}

/// `report`.
pub(super) fn report(config: Option<&Path>, incident: &str, format: ReportFormat, look: Look) -> u8 {
    let told = match inspect::reach(config).and_then(|reach| story_of(&reach.state_dir, incident)) {
        Ok(told) => told,
        Err(code) => return code,
    };
    match format {
        _ if look.json => return print_json(told.json()),
        ReportFormat::Json => return print_json(told.json()),
        ReportFormat::Md => put!("{}", told.markdown()),
        ReportFormat::Html => put!("{}", told.html()),
    }
    exit::DONE
}

/// One document on standard output.
pub(super) fn print_json(text: serde_json::Result<String>) -> u8 {
    match text {
        Ok(text) => {
            say!("{}", text.trim_end());
            exit::DONE
        }
        Err(error) => fail(format!("the document cannot be written: {error}")),
    }
}
