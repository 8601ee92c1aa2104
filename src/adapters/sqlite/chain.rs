//! A row of the journal, its hash, and the way between a row and a record.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::place::unwritable;
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::Moment;
use crate::ports::JournalError;

/// What the first row names as the hash before it.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One row, column by column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub seq: i64,
    pub schema: i64,
    pub wall: i64,
    pub boot_id: String,
    pub mono: i64,
    pub app: Option<String>,
    pub incident: Option<String>,
    pub epoch: i64,
    pub kind: String,
    pub json: String,
    pub prev_hash: String,
}

impl Row {
    /// The row of a record. Words on failure.
    pub(super) fn of(record: &Record, seq: i64, schema: i64, prev_hash: String) -> Result<Row, String> {
        let kind = record.entry.kind();
        let json = serde_json::to_string(&record.entry).map_err(|cause| format!("entry {seq} ({kind}) has no JSON form: {cause}"))?;
        // A figure that JSON cannot hold (NaN) would be written as null and stop every later start: refused while the
        // one who wrote it is still there to hear it.
        serde_json::from_str::<Entry>(&json).map_err(|cause| format!("entry {seq} ({kind}) would not read back: {cause}"))?;
        let epoch = i64::try_from(record.epoch).map_err(|_| format!("epoch {} is beyond what the journal holds", record.epoch))?;
        Ok(Row {
            seq,
            schema,
            wall: record.at.wall,
            boot_id: record.boot_id.clone(),
            mono: record.at.mono,
            app: record.app.clone(),
            incident: record.incident.clone(),
            epoch,
            kind: kind.to_owned(),
            json,
            prev_hash,
        })
    }

    /// A row as it stands in the table.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        Ok(Row {
            seq: row.get(0)?,
            schema: row.get(1)?,
            wall: row.get(2)?,
            boot_id: row.get(3)?,
            mono: row.get(4)?,
            app: row.get(5)?,
            incident: row.get(6)?,
            epoch: row.get(7)?,
            kind: row.get(8)?,
            json: row.get(9)?,
            prev_hash: row.get(10)?,
        })
    }

    /// SHA-256 over every column, hexadecimal. Lengths stand before texts, so that no two rows share one image.
    pub(super) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for number in [self.seq, self.schema, self.wall, self.mono, self.epoch] {
            hash.update(number.to_be_bytes());
        }
        let texts =
            [Some(&self.boot_id), self.app.as_ref(), self.incident.as_ref(), Some(&self.kind), Some(&self.json), Some(&self.prev_hash)];
        for text in texts {
            match text {
                Some(text) => {
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text.as_bytes());
                }
                None => hash.update(u64::MAX.to_be_bytes()),
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The record that the row holds, or why this version cannot read it.
    pub(super) fn record(self, file: &Path, known: i64) -> Result<Record, JournalError> {
        if self.schema > known {
            return Err(JournalError::Newer { path: file.display().to_string(), seq: self.seq, schema: self.schema, known });
        }
        // The chain holds, so this is what was written: by a version that knew more, or less.
        let foreign = |cause: String| {
            unwritable(file, "reading", format!("entry {} (kind {:?}) {cause}; run the version that wrote it", self.seq, self.kind))
        };
        let entry: Entry =
            serde_json::from_str(&self.json).map_err(|cause| foreign(format!("is none that this watchover knows: {cause}")))?;
        if entry.kind() != self.kind {
            return Err(foreign(format!("holds the kind {:?}", entry.kind())));
        }
        let epoch = u64::try_from(self.epoch).map_err(|_| foreign(format!("has the epoch {}", self.epoch)))?;
        Ok(Record {
            seq: self.seq,
            at: Moment { mono: self.mono, wall: self.wall },
            boot_id: self.boot_id,
            app: self.app,
            incident: self.incident,
            epoch,
            entry,
        })
    }
}
