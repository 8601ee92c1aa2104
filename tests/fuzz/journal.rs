//! Rows of the journal: changed behind the chain's back, and by somebody who mends the chain.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::collection::vec;
use proptest::prelude::*;
use watchover::adapters::sqlite::{FILE, Pages, SqliteJournal};
use watchover::cli::story;
use watchover::config::Config;
use watchover::domain::decide::{App, Effect, Tempo};
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{AppName, Moment};
use watchover::domain::notice::{Notices, waiting};
use watchover::ports::{Journal, JournalError};
use watchover::runtime::clock::Clock;
use watchover::runtime::control::{Control, Fleet, Hands};
use watchover::runtime::metrics::Metrics;
use watchover::runtime::past::{Asked, read};
use watchover::runtime::status;

use super::edit::{edited, edits};
use super::ground;
use super::rows::{changes, records, spoil};
use super::tally::tried;

/// A journal as the daemon left it, to be copied and spoilt.
struct Base {
    dir: tempfile::TempDir,
    config: Config,
}

impl Base {
    fn new() -> Base {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = SqliteJournal::open(dir.path(), "bastion").unwrap();
        journal.append(&records()).unwrap();
        drop(journal);
        assert!(!dir.path().join(format!("{FILE}-wal")).exists(), "all of it stands in the one file");
        let text = include_str!("../../config.toml");
        Base { dir, config: ground::judged(text) }
    }

    fn copy(&self) -> Result<tempfile::TempDir, String> {
        let dir = tempfile::tempdir().map_err(|cause| cause.to_string())?;
        std::fs::copy(self.dir.path().join(FILE), dir.path().join(FILE)).map_err(|cause| cause.to_string())?;
        Ok(dir)
    }
}

/// The row that an error names.
fn named(error: &JournalError) -> Option<i64> {
    match error {
        JournalError::Tampered { seq, .. } | JournalError::Newer { seq, .. } => Some(*seq),
        JournalError::Unwritable { cause, .. } => cause.strip_prefix("entry ")?.split(' ').next()?.parse().ok(),
        JournalError::Held { .. } => None,
    }
}

struct Still;

impl Hands for Still {
    fn carry_out(&mut self, _: &App, _: &Effect, _: Moment) {}
    fn pace(&mut self, _: &AppName, _: Tempo) {}
    fn let_go(&mut self, _: &AppName) {}
    fn written(&mut self, _: &[Record]) {}
    fn show(&mut self, _: &Fleet, _: Moment) {}
}

/// Everything that is made of rows that were taken: none of it may mind what stands in them.
fn tell(records: &[Record]) {
    let mut notices = Notices::default();
    for record in records {
        let said = [record.at.rfc3339(), record.entry.words()];
        assert!(said.iter().all(|text| text.len() < 1 << 20));
        notices.news(record).into_iter().for_each(|notice| drop((notice.subject(), notice.text())));
    }
    let stories = story::stories(records);
    for story in &stories {
        drop((
            story.text(false),
            story.markdown(),
            story.html(),
            story.json(),
            story::explain_text(story, true),
            story::explain_json(story),
        ));
    }
    drop((story::history_text(&stories, false), story::history_json(&stories, None)));
    let metrics = Metrics::new("fuzz");
    metrics.record(records);
    drop(metrics.render());
}

/// A daemon that starts on it, decides once and shows itself.
fn start(dir: &Path, config: &Config, boot: &str) -> Result<(), JournalError> {
    let journal = SqliteJournal::open(dir, "bastion")?;
    let policies: Vec<_> = config.apps.iter().map(|app| Arc::new(app.policy.clone())).collect();
    let started = Entry::Started { version: "2".into(), observer: "here".into(), config: "c".into() };
    let (clock, epoch) = (Clock::following(ground::NOW + 60_000_000), Arc::new(AtomicU64::new(0)));
    let mut control = Control::open(Box::new(journal), &policies, &config.fleet, started, Still, clock.clone(), boot.into(), epoch)?;
    control.tick(true);
    let now = clock.now();
    let judged = status::judge(control.fleet(), now);
    drop((status::fleet(control.fleet(), &judged, "here", now), status::summary(control.fleet()), status::pending(control.fleet())));
    for app in control.fleet().apps.values() {
        drop(waiting(app.policy().name.as_ref(), app.ledger()));
    }
    let metrics = Metrics::new("fuzz");
    metrics.install(&policies);
    metrics.refresh(control.fleet(), &judged, now);
    drop(metrics.render());
    Ok(())
}

#[test]
fn rows_changed_behind_the_chain() {
    let base = Base::new();
    let inputs = vec((any::<u8>(), changes()), 1..3);
    tried("journal::rows_changed_behind_the_chain", 30, 4, inputs, |changes| {
        let dir = base.copy()?;
        let changed = spoil(dir.path(), changes, false).map_err(|cause| format!("the test's own write: {cause}"))?;
        match SqliteJournal::read(dir.path()) {
            Ok(_) if changed.is_empty() => Ok(()),
            Err(JournalError::Tampered { seq, .. }) if changed.first() == Some(&seq) => Ok(()),
            found => Err(format!(
                "rows {changed:?} were changed, and reading says {:?}",
                found.map(|rows| rows.len()).map_err(|error| error.to_string())
            )),
        }
    });
}

#[test]
fn rows_changed_with_the_chain() {
    let base = Base::new();
    // Folding runs within the daemon's own runtime, where the clock is.
    let runtime = ground::runtime();
    let inputs = (vec((any::<u8>(), changes()), 1..3), any::<bool>());
    tried("journal::rows_changed_with_the_chain", 80, 2, inputs, |(changes, same_boot)| {
        let dir = base.copy()?;
        let changed = spoil(dir.path(), changes, true).map_err(|cause| format!("the test's own write: {cause}"))?;
        let within = |error: &JournalError| match named(error) {
            Some(seq) if changed.contains(&seq) => Ok(()),
            _ => Err(format!("rows {changed:?} were changed, and the error names another or none: {error}")),
        };
        match SqliteJournal::read(dir.path()) {
            Err(error) => return within(&error),
            Ok(records) => tell(&records),
        }
        let pages = Pages::checked(dir.path()).map_err(|error| error.to_string())?;
        pages.chapter("shop-1").map_err(|error| error.to_string())?;
        for asked in [Asked::incidents(None, 0, None, None), Asked::incident("shop-1".into(), 0, None)] {
            read(dir.path(), &asked)?;
        }
        drop(pages);
        let _inside = runtime.enter();
        match start(dir.path(), &base.config, if *same_boot { "boot" } else { "another" }) {
            Ok(()) => Ok(()),
            // What cannot follow is named where it stands, which is at the changed row or behind it.
            Err(error) => match (named(&error), changed.first()) {
                (Some(seq), Some(first)) if seq >= *first => Ok(()),
                // Every row can be read; but no takeover can come after the last one that there is a number for.
                (None, Some(_)) if error.to_string().contains("epoch 9223372036854775808 is beyond") => Ok(()),
                _ => Err(format!("rows {changed:?} were changed, and the start says: {error}")),
            },
        }
    });
}

#[test]
fn files() {
    let base = Base::new();
    tried("journal::files", 30, 4, edits(4), |edits| {
        let dir = base.copy()?;
        let file = dir.path().join(FILE);
        let bytes = std::fs::read(&file).map_err(|cause| cause.to_string())?;
        std::fs::write(&file, edited(&bytes, edits)).map_err(|cause| cause.to_string())?;
        let named =
            |error: JournalError| if error.to_string().contains(FILE) { Ok(()) } else { Err(format!("the file is not named: {error}")) };
        match SqliteJournal::read(dir.path()) {
            Ok(records) => tell(&records),
            Err(error) => named(error)?,
        }
        match SqliteJournal::open(dir.path(), "bastion").and_then(|mut journal| journal.replay()) {
            Ok(_) => Ok(()),
            Err(error) => named(error),
        }
    });
}
