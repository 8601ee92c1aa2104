//! What the journal tells, the daemon up or not.

use std::path::Path;

use super::{Look, ReportFormat, exit, inspect, story};
use crate::adapters::sqlite::SqliteJournal;
use crate::domain::ledger::Record;

/// All rows, or the exit code after the reason was said.
pub(super) fn records(config: Option<&Path>) -> Result<Vec<Record>, u8> {
    let config = inspect::load(config)?;
    SqliteJournal::read(&config.daemon.state_dir).map_err(|error| {
        anstream::eprintln!("watchover: {error}");
        exit::FAILED
    })
}

/// `history`.
pub fn history(config: Option<&Path>, look: Look) -> u8 {
    let records = match records(config) {
        Ok(records) => records,
        Err(code) => return code,
    };
    let stories = story::stories(&records);
    if look.json {
        return print_json(story::history_json(&stories));
    }
    anstream::print!("{}", story::history_text(&stories, look.colour));
    exit::DONE
}

/// `report`.
pub(super) fn report(config: Option<&Path>, incident: &str, format: ReportFormat, look: Look) -> u8 {
    let records = match records(config) {
        Ok(records) => records,
        Err(code) => return code,
    };
    let told = match story::story(&records, incident) {
        Ok(told) => told,
        Err(error) => {
            anstream::eprintln!("watchover: {error}");
            return exit::FAILED;
        }
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
        Err(error) => {
            anstream::eprintln!("watchover: the document cannot be written: {error}");
            exit::FAILED
        }
    }
}
