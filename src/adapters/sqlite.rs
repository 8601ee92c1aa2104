//! The journal on SQLite: one row an entry, each chained to the one before it.
//!
//! A lost tail equals an earlier crash and is taken as it stands; a change within is refused by name. The chain has no
//! key: it finds faults, mistakes and edits, not an adversary who rewrites the whole file.

mod chain;
mod pages;
mod place;
mod space;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use self::chain::{GENESIS, Row};
pub use self::pages::{Page, Pages, Place};
use crate::domain::ledger::Record;
use crate::ports::{Journal, JournalError};

/// Name of the journal within `state_dir`.
pub const FILE: &str = "journal.sqlite";

/// Layout and entries that this version writes; older ones are read.
const SCHEMA: i64 = 1;

/// "wtch": tells our file from any other program's.
const APPLICATION: i32 = 0x7774_6368;

const LAYOUT: &str = "
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, schema INTEGER NOT NULL, wall INTEGER NOT NULL, boot_id TEXT NOT NULL, mono INTEGER NOT NULL,
        app TEXT, incident TEXT, epoch INTEGER NOT NULL, kind TEXT NOT NULL, json TEXT NOT NULL, prev_hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
";

/// Where the chain ends. Written in the transaction of the last row, so that a crash loses both or neither, and the last
/// row, which no other row vouches for, is protected too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    seq: i64,
    hash: String,
}

/// The durable record of one daemon, held exclusively while it lives.
pub struct SqliteJournal {
    // Declared before the lock: the connection closes before another daemon may open.
    db: Connection,
    file: PathBuf,
    /// `None` until the whole chain was checked once; nothing is appended to an unchecked one.
    head: Option<Head>,
    reserve: space::Reserve,
    anchor: place::Anchor,
    _lock: File,
    /// Stands for a disk on which released space can be used.
    #[cfg(test)]
    pages_after_release: Option<u32>,
}

impl SqliteJournal {
    /// Takes `state_dir` (made if missing, mode 0750) and opens its journal for writing. `observer` names us to whoever
    /// finds the place held.
    ///
    /// # Errors
    /// `Held` by another daemon; `Newer`; else `Unwritable` with the operation and what to do. The chain itself is checked by
    /// `replay`, or by the first `append`.
    pub fn open(state_dir: &Path, observer: &str) -> Result<SqliteJournal, JournalError> {
        place::make_dir(state_dir)?;
        let file = state_dir.join(FILE);
        let lock = place::lock(state_dir, &file)?;
        let mut reserve = space::Reserve::find(state_dir);
        let opened = match Self::start(state_dir, &file, &lock, observer) {
            // A daemon that comes back while the disk is full needs the room as much as one that was running.
            Err(Trouble::Full(_)) if reserve.release(&file)? => Self::start(state_dir, &file, &lock, observer),
            other => other,
        };
        let db = opened.map_err(Trouble::plain)?;
        reserve.refill();
        let anchor = place::Anchor::drop_at(state_dir, &file)?;
        Ok(SqliteJournal {
            db,
            file,
            head: None,
            reserve,
            anchor,
            _lock: lock,
            #[cfg(test)]
            pages_after_release: None,
        })
    }

    /// Everything in the journal of `state_dir`, checked, without the lock and without changing it: for commands that work
    /// with the daemon up, down, or the medium read-only. Not for the daemon's own process: see [`Pages::checked`].
    ///
    /// # Errors
    /// As `replay`; a journal that does not exist is `Unwritable` with that cause.
    pub fn read(state_dir: &Path) -> Result<Vec<Record>, JournalError> {
        let file = state_dir.join(FILE);
        let (mut db, _copy) = place::open_or_copy(&file)?;
        let snapshot = db.transaction().map_err(|cause| trouble(&file, "reading", &cause).plain())?;
        Ok(check(&snapshot, &file)?.0)
    }

    /// True while the space kept for a full disk is there.
    pub fn has_reserve(&self) -> bool {
        self.reserve.is_held()
    }

    fn start(state_dir: &Path, file: &Path, lock: &File, observer: &str) -> Result<Connection, Trouble> {
        place::sign(lock, file, observer)?;
        place::make_file(file)?;
        let mut db = place::connect(file, false).map_err(|cause| trouble(file, "opening", &cause))?;
        let failed = |cause: rusqlite::Error| trouble(file, "opening", &cause);
        if db.is_readonly("main").map_err(failed)? {
            return Err(
                place::unwritable(file, "opening", "the file or its file system is read-only; make it writable for this user").into()
            );
        }
        match layout(&db, file)? {
            Layout::Empty => {
                let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
                if mode != "wal" {
                    let cause = format!(
                        "the file system gives no shared memory for a write-ahead log (mode {mode}); use a local disk for state_dir"
                    );
                    return Err(place::unwritable(file, "opening", cause).into());
                }
                let create = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
                create.execute_batch(LAYOUT).map_err(failed)?;
                create.execute_batch(pages::INDEXES).map_err(failed)?;
                create.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
                create.pragma_update(None, "user_version", SCHEMA).map_err(failed)?;
                create.execute("INSERT INTO head VALUES (1, 0, ?1)", [GENESIS]).map_err(failed)?;
                create.commit().map_err(failed)?;
                place::sync_dir(state_dir, file)?;
            }
            Layout::Ours => db.execute_batch(pages::INDEXES).map_err(failed)?,
        }
        // FULL syncs the log at every commit; NORMAL would lose the last ones with the power.
        db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        db.pragma_update(None, "wal_autocheckpoint", space::LOG_PAGES).map_err(failed)?;
        Ok(db)
    }

    fn checked_head(&mut self) -> Result<Head, JournalError> {
        if let Some(head) = &self.head {
            return Ok(head.clone());
        }
        self.replay()?;
        self.head.clone().ok_or_else(|| place::unwritable(&self.file, "reading", "the chain has no head after it was checked"))
    }

    fn write(&mut self, rows: &[Row], before: &Head, after: &Head) -> Result<(), Trouble> {
        let failed = |cause: rusqlite::Error| trouble(&self.file, "writing", &cause);
        let write = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        {
            let mut insert = write.prepare_cached("INSERT INTO entries VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)").map_err(failed)?;
            for row in rows {
                let columns = params![
                    row.seq,
                    row.schema,
                    row.wall,
                    row.boot_id,
                    row.mono,
                    row.app,
                    row.incident,
                    row.epoch,
                    row.kind,
                    row.json,
                    row.prev_hash
                ];
                insert.execute(columns).map_err(failed)?;
            }
        }
        let moved = write
            .execute(
                "UPDATE head SET seq = ?1, hash = ?2 WHERE seq = ?3 AND hash = ?4",
                params![after.seq, after.hash, before.seq, before.hash],
            )
            .map_err(failed)?;
        if moved != 1 {
            return Err(
                tampered(&self.file, before.seq, "the end of the chain moved while we held it: somebody else writes to this file").into()
            );
        }
        write.commit().map_err(failed)
    }

    /// Gives the reserved space to the journal. False if there was none left to give.
    fn make_room(&mut self) -> Result<bool, JournalError> {
        let released = self.reserve.release(&self.file)?;
        #[cfg(test)]
        if let Some(pages) = self.pages_after_release.filter(|_| released) {
            self.db.pragma_update(None, "max_page_count", pages).expect("the test's own disk");
        }
        Ok(released)
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, records: &[Record]) -> Result<i64, JournalError> {
        let before = self.checked_head()?;
        let first = before.seq + 1;
        if records.is_empty() {
            return Ok(first);
        }
        self.anchor.check(&self.file)?;
        let mut after = before.clone();
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let row =
                Row::of(record, after.seq + 1, SCHEMA, after.hash).map_err(|cause| place::unwritable(&self.file, "writing", cause))?;
            after = Head { seq: row.seq, hash: row.hash() };
            rows.push(row);
        }
        let written = match self.write(&rows, &before, &after) {
            Err(Trouble::Full(first)) => {
                if !self.make_room()? {
                    return Err(first);
                }
                self.write(&rows, &before, &after)
            }
            other => other,
        };
        written.map_err(Trouble::plain)?;
        self.head = Some(after);
        self.reserve.refill();
        Ok(first)
    }

    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        let snapshot = self.db.transaction().map_err(|cause| trouble(&self.file, "reading", &cause).plain())?;
        let (records, head) = check(&snapshot, &self.file)?;
        drop(snapshot);
        self.head = Some(head);
        Ok(records)
    }
}

/// A failure on its way out; only a lack of space is worth a second try.
enum Trouble {
    Full(JournalError),
    Other(JournalError),
}

impl Trouble {
    fn plain(self) -> JournalError {
        match self {
            Trouble::Full(error) | Trouble::Other(error) => error,
        }
    }
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Trouble {
        Trouble::Other(error)
    }
}

fn trouble(file: &Path, operation: &'static str, cause: &rusqlite::Error) -> Trouble {
    let error = place::unwritable(file, operation, place::explain(cause));
    if space::is_lack_of_space(cause) { Trouble::Full(error) } else { Trouble::Other(error) }
}

fn tampered(file: &Path, seq: i64, cause: impl Into<String>) -> JournalError {
    JournalError::Tampered { path: file.display().to_string(), seq, cause: cause.into() }
}

enum Layout {
    Empty,
    Ours,
}

/// Whose file it is, and of which version.
fn layout(db: &Connection, file: &Path) -> Result<Layout, Trouble> {
    let failed = |cause: rusqlite::Error| trouble(file, "opening", &cause);
    let number = |pragma: &str| db.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if application == i64::from(APPLICATION) && version > SCHEMA {
        // Best effort: a newer layout may have no such column, and 0 then says "the file itself".
        let first = db.query_row("SELECT min(seq) FROM entries WHERE schema > ?1", [SCHEMA], |row| row.get::<_, Option<i64>>(0));
        let seq = first.ok().flatten().unwrap_or(0);
        return Err(JournalError::Newer { path: file.display().to_string(), seq, schema: version, known: SCHEMA }.into());
    }
    if application == i64::from(APPLICATION) && version == SCHEMA {
        return Ok(Layout::Ours);
    }
    if application == 0 && version == 0 && tables == 0 {
        return Ok(Layout::Empty);
    }
    let cause = format!(
        "it is an SQLite database of another program (application_id {application}, user_version {version}); give watchover its own state_dir"
    );
    Err(place::unwritable(file, "opening", cause).into())
}

/// Reads and checks the whole chain within one snapshot.
fn check(snapshot: &Transaction<'_>, file: &Path) -> Result<(Vec<Record>, Head), JournalError> {
    let mut rows = Vec::new();
    let head = walk(snapshot, file, |row| rows.push(row))?;
    // The chain holds: only now is what a row says worth reading.
    let records = rows.into_iter().map(|row| row.record(file, SCHEMA)).collect::<Result<_, _>>()?;
    Ok((records, head))
}

/// Checks the whole chain within one snapshot, and shows each row that fits to `keep`.
fn walk(snapshot: &Transaction<'_>, file: &Path, mut keep: impl FnMut(Row)) -> Result<Head, JournalError> {
    if matches!(layout(snapshot, file).map_err(Trouble::plain)?, Layout::Empty) {
        return Err(place::unwritable(file, "reading", "the file is empty; nothing was ever recorded in it"));
    }
    let mut last = Head { seq: 0, hash: GENESIS.to_owned() };
    let failed = |seq: i64, cause: rusqlite::Error| damaged(file, seq, &cause);
    let mut select = snapshot
        .prepare("SELECT seq, schema, wall, boot_id, mono, app, incident, epoch, kind, json, prev_hash FROM entries ORDER BY seq")
        .map_err(|cause| failed(1, cause))?;
    let mut rows = select.query([]).map_err(|cause| failed(1, cause))?;
    // The content of the row before is vouched for by the row after it: a fault there names the row that changed.
    while let Some(row) = rows.next().map_err(|cause| failed(last.seq + 1, cause))? {
        let expected = last.seq + 1;
        let row = Row::read(row).map_err(|cause| failed(expected, cause))?;
        if row.seq != expected {
            return Err(tampered(file, expected, format!("it is missing: entry {} follows entry {}", row.seq, last.seq)));
        }
        if row.prev_hash != last.hash {
            // Either the row before was changed, or this row's own link.
            let seq = if last.seq == 0 { row.seq } else { last.seq };
            return Err(tampered(file, seq, format!("its content does not match what entry {} recorded of it", row.seq)));
        }
        last = Head { seq: row.seq, hash: row.hash() };
        keep(row);
    }
    let head = snapshot
        .query_row("SELECT seq, hash FROM head WHERE one = 1", [], |row| Ok(Head { seq: row.get(0)?, hash: row.get(1)? }))
        .optional()
        .map_err(|cause| failed(last.seq, cause))?
        .ok_or_else(|| tampered(file, last.seq, "the record of the end of the chain is missing"))?;
    if head.seq != last.seq {
        let seq = head.seq.min(last.seq) + 1;
        return Err(tampered(
            file,
            seq,
            format!("the chain was recorded to end at entry {}, but entry {} is the last", head.seq, last.seq),
        ));
    }
    if head.hash != last.hash {
        return Err(tampered(file, last.seq, "its content does not match what the end of the chain recorded of it"));
    }
    Ok(head)
}

/// A failed read of one row: damage of the file is a change within; anything else is what it is.
fn damaged(file: &Path, seq: i64, cause: &rusqlite::Error) -> JournalError {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    let corrupt = cause.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt);
    if corrupt || matches!(cause, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)) {
        return tampered(file, seq, format!("it cannot be read: {cause}"));
    }
    place::unwritable(file, "reading", place::explain(cause))
}

#[cfg(test)]
mod tests;
