//! The journal cut at every byte of its last page, and every byte of it garbled: an intact prefix, or refused by name. The
//! library is asked for every byte, and the program for some.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use watchover::adapters::sqlite::{FILE, SqliteJournal};
use watchover::domain::ledger::{Entry, Figures, Record};
use watchover::domain::model::{Direction, Moment, Outcome, Trigger};
use watchover::ports::{Journal, JournalError};

use crate::real::{Process, command, until, watchover};
use crate::stage::Stage;

const PAGE: usize = 4096;
/// A frame of the log is a page behind a header.
const FRAME: usize = PAGE + 24;
const HEADER: usize = 32;

fn record(turn: i64) -> Record {
    Record {
        seq: turn,
        at: Moment { mono: turn, wall: 1_000 + turn },
        boot_id: "boot".into(),
        app: None,
        incident: None,
        epoch: 1,
        entry: Entry::Stopped { reason: format!("row {turn} {}", "x".repeat(200)) },
    }
}

/// The same of an app that the program knows: incidents of two rows each.
fn told(turn: i64) -> Record {
    let words = format!("row {turn} {}", "x".repeat(200));
    let entry = if turn % 2 == 1 {
        Entry::Opened { trigger: Trigger::Outage, direction: Direction::ToStandby, first_failed: None, words }
    } else {
        Entry::Closed { outcome: Outcome::NoAction, active: None, figures: Box::new(Figures::default()), by: None }
    };
    Record { app: Some("shop".into()), incident: Some(format!("shop-{}", (turn + 1) / 2)), entry, ..record(turn) }
}

/// A journal of so many rows, and the files of it as they are while it is open: the database and its log.
fn written(rows: i64, row: fn(i64) -> Record) -> (Vec<Record>, Vec<u8>, Vec<u8>, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(FILE);
    let mut journal = SqliteJournal::open(dir.path(), "bastion").unwrap();
    let all: Vec<Record> = (1..=rows).map(row).collect();
    for one in &all {
        journal.append(std::slice::from_ref(one)).unwrap();
    }
    let (open, log) = (fs::read(&file).unwrap(), fs::read(file.with_extension("sqlite-wal")).unwrap());
    drop(journal);
    let closed = fs::read(&file).unwrap();
    assert!(!file.with_extension("sqlite-wal").exists(), "the log was folded into the file");
    (all, open, log, closed)
}

/// A place whose files are replaced again and again.
struct Place {
    _dir: TempDir,
    state: PathBuf,
}

/// Replaces the files of a journal.
fn put(state: &Path, file: &[u8], log: &[u8]) {
    let path = state.join(FILE);
    for end in ["sqlite-wal", "sqlite-shm"] {
        let beside = path.with_extension(end);
        if beside.exists() {
            fs::remove_file(beside).unwrap();
        }
    }
    fs::write(&path, file).unwrap();
    if !log.is_empty() {
        fs::write(path.with_extension("sqlite-wal"), log).unwrap();
    }
}

impl Place {
    fn new() -> Place {
        // Thousands of files, each synced: in memory if there is such a place.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        Place { state: dir.path().to_owned(), _dir: dir }
    }

    /// What the daemon and what the commands make of it: how many rows, or none. Fails on anything but a prefix.
    fn judged(&self, all: &[Record], what: &str) -> Option<usize> {
        let daemon = until("nobody holds the lock", || {
            match SqliteJournal::open(&self.state, "bastion").and_then(|mut journal| journal.replay()) {
                // A test beside this one starts a process: between fork and exec that has our lock open too.
                Err(JournalError::Held { .. }) => None,
                found => Some(found),
            }
        });
        let command = SqliteJournal::read(&self.state);
        let counts = [("the daemon", daemon), ("a command", command)].map(|(who, found)| match found {
            Ok(rows) => {
                assert_eq!(rows, all[..rows.len().min(all.len())], "{what}: {who} made up a row");
                Some(rows.len())
            }
            Err(error) => {
                assert!(error.to_string().contains(&path_of(&self.state)), "{what}: {who} does not name the file: {error}");
                None
            }
        });
        counts[0]
    }
}

fn path_of(state: &Path) -> String {
    state.join(FILE).display().to_string()
}

#[test]
fn cut_within_the_last_page_of_the_file() {
    let (all, _, _, closed) = written(16, record);
    let place = Place::new();
    for length in closed.len() - PAGE..=closed.len() {
        put(&place.state, &closed[..length], &[]);
        let found = place.judged(&all, &format!("cut at {length}"));
        if length == closed.len() {
            assert_eq!(found, Some(all.len()));
        }
    }
}

#[test]
fn cut_within_the_last_frame_of_the_log() {
    let (all, open, log, _) = written(12, record);
    assert_eq!((log.len() - HEADER) % FRAME, 0);
    let place = Place::new();
    for length in log.len() - FRAME..=log.len() {
        put(&place.state, &open, &log[..length]);
        let found = place.judged(&all, &format!("cut at {length}"));
        // A torn commit equals an earlier crash: its row is lost, and no other.
        let wanted = if length == log.len() { all.len() } else { all.len() - 1 };
        assert_eq!(found, Some(wanted), "cut at {length}");
    }
}

#[test]
fn garbled_within_the_last_page_and_elsewhere() {
    let (all, open, log, closed) = written(16, record);
    let place = Place::new();
    let mut refused = 0;
    for at in (closed.len() - PAGE..closed.len()).step_by(7).chain((0..closed.len()).step_by(131)) {
        for flip in [0xFF, 0x01] {
            let mut file = closed.clone();
            file[at] ^= flip;
            put(&place.state, &file, &[]);
            let found = place.judged(&all, &format!("byte {at} ^ {flip:#x}"));
            refused += usize::from(found.is_none());
            // No row of a folded file can be lost without a trace: whatever is read is the whole.
            assert!(matches!(found, None | Some(16)), "byte {at} ^ {flip:#x}: {found:?}");
        }
    }
    assert!(refused > 100, "most bytes of a row count: {refused}");
    for at in (log.len() - FRAME..log.len()).step_by(5) {
        let mut log = log.clone();
        log[at] ^= 0xFF;
        put(&place.state, &open, &log);
        assert_eq!(place.judged(&all, &format!("byte {at} of the log")), Some(all.len() - 1));
    }
}

/// What the program makes of it: how many of the rows it goes on from, or none, with words for a person.
fn judged_by_the_program(stage: &Stage, all: &[Record], what: &str) -> Option<usize> {
    let refuses = |code: Option<i32>, said: &str| {
        let is_told = said.contains(&path_of(&stage.state())) && said.contains("restore it");
        assert!(code == Some(1) && is_told && !said.contains("panicked"), "{what}: {code:?} {said}");
    };
    let history = command(&stage.config, &["history", "--json"]);
    let listed = (history.code == Some(0)).then(|| {
        let document = history.json();
        let ids = document["incidents"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<String>>()
    });
    if listed.is_none() {
        refuses(history.code, &history.err);
    }

    let log = stage.dir.path().join("cut.log");
    let mut run = watchover();
    run.arg("--config").arg(&stage.config).arg("run");
    let mut process = Process::start(run, &log);
    let said = || fs::read_to_string(&log).unwrap();
    // It says where it listens once its own first row is written.
    let ended = until("it goes on or ends", || process.ended().map(Some).or_else(|| said().contains("listen=").then_some(None)));
    drop(process);
    let found = if let Some(status) = ended {
        refuses(status.code(), &said());
        None
    } else {
        let rows = SqliteJournal::read(&stage.state()).unwrap();
        let (old, own): (Vec<Record>, Vec<Record>) = rows.into_iter().partition(|row| row.epoch == 1);
        assert_eq!(old, all[..old.len().min(all.len())], "{what}: a row was made up");
        assert!(own.first().is_some_and(|row| row.entry.kind() == "started"), "{what}: {own:?}");
        Some(old.len())
    };
    let wanted = found.map(|rows| all[..rows].iter().step_by(2).filter_map(|row| row.incident.clone()).collect::<Vec<String>>());
    assert_eq!(listed, wanted, "{what}: the command and the daemon agree");
    found
}

#[test]
fn cut_within_its_last_page_the_program_goes_on_from_a_prefix_or_refuses_it_by_name() {
    let (all, open, log, closed) = written(16, told);
    let stage = Stage::new();
    fs::create_dir_all(stage.state()).unwrap();
    // Eight through a page, from before its first byte to before its last.
    let cuts = |whole: usize, page: usize| (0..8).map(move |turn| whole - page + turn * (page - 1) / 7);
    let mut refused = 0;
    for length in cuts(closed.len(), PAGE) {
        put(&stage.state(), &closed[..length], &[]);
        let found = judged_by_the_program(&stage, &all, &format!("file cut at {length}"));
        refused += usize::from(found.is_none());
        // As in the library: no row of a folded file can be lost without a trace.
        assert!(matches!(found, None | Some(16)), "file cut at {length}: {found:?}");
    }
    assert!(refused > 4, "most bytes of a row count: {refused}");
    for length in cuts(log.len(), FRAME).chain([log.len()]) {
        put(&stage.state(), &open, &log[..length]);
        let found = judged_by_the_program(&stage, &all, &format!("log cut at {length}"));
        let wanted = if length == log.len() { all.len() } else { all.len() - 1 };
        assert_eq!(found, Some(wanted), "log cut at {length}");
    }
}
