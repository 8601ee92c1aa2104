//! The journal cut at every byte of its last page, and every byte of it garbled: an intact prefix, or refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use watchover::adapters::sqlite::{FILE, SqliteJournal};
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::Moment;
use watchover::ports::{Journal, JournalError};

use crate::real::until;

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

/// A journal of so many rows, and the files of it as they are while it is open: the database and its log.
fn written(rows: i64) -> (Vec<Record>, Vec<u8>, Vec<u8>, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(FILE);
    let mut journal = SqliteJournal::open(dir.path(), "bastion").unwrap();
    let all: Vec<Record> = (1..=rows).map(record).collect();
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

impl Place {
    fn new() -> Place {
        // Thousands of files, each synced: in memory if there is such a place.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        Place { state: dir.path().to_owned(), _dir: dir }
    }

    fn put(&self, file: &[u8], log: &[u8]) {
        let path = self.state.join(FILE);
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
    let (all, _, _, closed) = written(16);
    let place = Place::new();
    for length in closed.len() - PAGE..=closed.len() {
        place.put(&closed[..length], &[]);
        let found = place.judged(&all, &format!("cut at {length}"));
        if length == closed.len() {
            assert_eq!(found, Some(all.len()));
        }
    }
}

#[test]
fn cut_within_the_last_frame_of_the_log() {
    let (all, open, log, _) = written(12);
    assert_eq!((log.len() - HEADER) % FRAME, 0);
    let place = Place::new();
    for length in log.len() - FRAME..=log.len() {
        place.put(&open, &log[..length]);
        let found = place.judged(&all, &format!("cut at {length}"));
        // A torn commit equals an earlier crash: its row is lost, and no other.
        let wanted = if length == log.len() { all.len() } else { all.len() - 1 };
        assert_eq!(found, Some(wanted), "cut at {length}");
    }
}

#[test]
fn garbled_within_the_last_page_and_elsewhere() {
    let (all, open, log, closed) = written(16);
    let place = Place::new();
    let mut refused = 0;
    for at in (closed.len() - PAGE..closed.len()).step_by(7).chain((0..closed.len()).step_by(131)) {
        for flip in [0xFF, 0x01] {
            let mut file = closed.clone();
            file[at] ^= flip;
            place.put(&file, &[]);
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
        place.put(&open, &log);
        assert_eq!(place.judged(&all, &format!("byte {at} of the log")), Some(all.len() - 1));
    }
}
