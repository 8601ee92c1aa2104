//! Reading by incident: what the surface and the commands ask for, by index and bounded, never the whole journal.
//!
//! The chain is not checked here: the daemon has checked it when it started, and commands that stand alone check it
//! first ([`Pages::checked`]). Every answer is one snapshot.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, ToSql, Transaction};

use super::chain::Row;
use super::{FILE, SCHEMA, damaged, place, trouble, walk};
use crate::domain::ledger::{Entry, Record};
use crate::ports::JournalError;

/// Made with the journal, and at the next start for one that has none yet. They vouch for nothing and can be made anew
/// from the rows, so they are no part of the layout's version.
pub(super) const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS by_incident ON entries (incident, seq) WHERE incident IS NOT NULL;
    CREATE INDEX IF NOT EXISTS openings ON entries (seq, app, incident) WHERE kind = 'opened';
    CREATE INDEX IF NOT EXISTS sites ON entries (app, seq) WHERE kind IN ('active', 'closed');
";

const COLUMNS: &str = "SELECT seq, schema, wall, boot_id, mono, app, incident, epoch, kind, json, prev_hash FROM entries";

/// Which incidents are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Only of this app.
    pub app: Option<String>,
    /// Only those that have a row after this one; 0: all.
    pub since: i64,
    /// Only those that were opened before this row; `None`: the newest.
    pub before: Option<i64>,
    /// So many at most.
    pub limit: usize,
}

/// Where an incident stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: String,
    /// The row that opened it.
    pub first: i64,
    /// Its last row so far.
    pub last: i64,
}

/// A journal opened for reading by pages.
pub struct Pages {
    db: Connection,
    file: PathBuf,
    _copy: Option<place::Copy>,
}

impl Pages {
    /// Opens the journal of `state_dir` for reading, whoever writes, without checking the chain. What the daemon itself may
    /// use: past SQLite no file is opened, which would cost it its locks.
    ///
    /// # Errors
    /// A journal that does not exist or cannot be read is `Unwritable` with that cause.
    pub fn open(state_dir: &Path) -> Result<Pages, JournalError> {
        let file = state_dir.join(FILE);
        let db = place::open_for_reading(&file)?;
        Ok(Pages { db, file, _copy: None })
    }

    /// The same for a command, with the whole chain checked first: row by row, and none of them is kept. What stands on a
    /// read-only medium is copied before it is read, so the process that writes the journal must not call it.
    ///
    /// # Errors
    /// As [`Pages::open`]; `Tampered` with the entry that was changed.
    pub fn checked(state_dir: &Path) -> Result<Pages, JournalError> {
        let file = state_dir.join(FILE);
        let (db, copy) = place::open_or_copy(&file)?;
        let pages = Pages { db, file, _copy: copy };
        let snapshot = pages.snapshot()?;
        walk(&snapshot, &pages.file, |_| {})?;
        drop(snapshot);
        Ok(pages)
    }

    /// The newest incidents that fit, the newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn incidents(&self, page: &Page) -> Result<Vec<Place>, JournalError> {
        let failed = |cause: rusqlite::Error| trouble(&self.file, "reading", &cause).plain();
        let sql = "SELECT incident, seq, (SELECT max(e.seq) FROM entries e WHERE e.incident = o.incident) AS last FROM entries o
            WHERE kind = 'opened' AND incident IS NOT NULL AND seq < ?1 AND (?2 IS NULL OR app = ?2) AND (?3 <= 0 OR last > ?3)
            ORDER BY seq DESC LIMIT ?4";
        let mut select = self.db.prepare_cached(sql).map_err(failed)?;
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let place = |row: &rusqlite::Row<'_>| Ok(Place { id: row.get(0)?, first: row.get(1)?, last: row.get(2)? });
        let rows = select.query_map((page.before.unwrap_or(i64::MAX), &page.app, page.since, limit), place).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    /// The apps that have had an incident, the first to have one first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn apps(&self) -> Result<Vec<String>, JournalError> {
        let failed = |cause: rusqlite::Error| trouble(&self.file, "reading", &cause).plain();
        let sql = "SELECT app FROM entries WHERE kind = 'opened' AND app IS NOT NULL GROUP BY app ORDER BY min(seq)";
        let mut select = self.db.prepare_cached(sql).map_err(failed)?;
        let rows = select.query_map([], |row| row.get(0)).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    /// Where that incident stands, if the journal has it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn place(&self, id: &str) -> Result<Option<Place>, JournalError> {
        let failed = |cause: rusqlite::Error| trouble(&self.file, "reading", &cause).plain();
        let sql = "SELECT min(seq), max(seq) FROM entries WHERE incident = ?1 HAVING count(*) > 0";
        let place = |row: &rusqlite::Row<'_>| Ok(Place { id: id.to_owned(), first: row.get(0)?, last: row.get(1)? });
        self.db.query_row(sql, [id], place).optional().map_err(failed)
    }

    /// An incident's own rows after `since`, in order, so many at most.
    ///
    /// # Errors
    /// What SQLite says; a row that this version cannot read.
    pub fn rows(&self, id: &str, since: i64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.records("WHERE incident = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3", &[&id, &since, &limit])
    }

    /// The few rows that say what an incident was, how it ended, and what is known of its loss since.
    ///
    /// # Errors
    /// As [`Pages::rows`].
    pub fn outline(&self, id: &str) -> Result<Vec<Record>, JournalError> {
        self.records("WHERE incident = ?1 AND kind IN ('opened', 'commanded', 'closed', 'old-site-seen') ORDER BY seq", &[&id])
    }

    /// Everything that the story of an incident needs: which site was active before it, its own rows, and what happened
    /// to its app and to the daemon while it was open. Its own have no end: what takes the bound off its loss is seen after
    /// it was closed.
    ///
    /// # Errors
    /// As [`Pages::rows`].
    pub fn chapter(&self, id: &str) -> Result<Vec<Record>, JournalError> {
        let _one_picture = self.snapshot()?;
        let own = self.records("WHERE incident = ?1 AND kind IN ('opened', 'closed') ORDER BY seq", &[&id])?;
        let (Some(first), Some(app)) = (own.first(), own.first().and_then(|record| record.app.clone())) else { return Ok(Vec::new()) };
        let end = own.iter().find(|record| matches!(record.entry, Entry::Closed { .. })).map_or(i64::MAX, |record| record.seq);
        let mut all: Vec<Record> = self.active_before(&app, first.seq)?.into_iter().collect();
        // Two questions, each with its index: as one with an "or" it would be answered from the whole rest of the journal.
        let within = "WHERE seq BETWEEN ?1 AND ?2 AND incident IS NULL AND (app IS NULL OR app = ?3)";
        all.extend(self.records(within, &[&first.seq, &end, &app])?);
        all.extend(self.records("WHERE incident = ?1", &[&id])?);
        all.sort_by_key(|record| record.seq);
        Ok(all)
    }

    /// The last row before `seq` that says which site of the app is active.
    fn active_before(&self, app: &str, seq: i64) -> Result<Option<Record>, JournalError> {
        let mut before = seq;
        loop {
            let rows =
                self.records("WHERE app = ?1 AND seq < ?2 AND kind IN ('active', 'closed') ORDER BY seq DESC LIMIT 16", &[&app, &before])?;
            let Some(last) = rows.last().map(|record| record.seq) else { return Ok(None) };
            let says = |record: &Record| matches!(record.entry, Entry::Active { .. } | Entry::Closed { active: Some(_), .. });
            if let Some(found) = rows.into_iter().find(says) {
                return Ok(Some(found));
            }
            before = last;
        }
    }

    /// One picture for several questions, as long as it is held.
    fn snapshot(&self) -> Result<Transaction<'_>, JournalError> {
        self.db.unchecked_transaction().map_err(|cause| trouble(&self.file, "reading", &cause).plain())
    }

    fn records(&self, which: &str, values: &[&dyn ToSql]) -> Result<Vec<Record>, JournalError> {
        let failed = |cause: rusqlite::Error| damaged(&self.file, 0, &cause);
        let mut select = self.db.prepare_cached(&format!("{COLUMNS} {which}")).map_err(failed)?;
        let mut rows = select.query(values).map_err(failed)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            records.push(Row::read(row).map_err(failed)?.record(&self.file, SCHEMA)?);
        }
        Ok(records)
    }
}
