//! From the journal back to the state.

use std::collections::BTreeMap;

use crate::domain::ledger::{Entry, Ledger, Record};
use crate::domain::model::Moment;
use crate::ports::JournalError;

/// Every app's ledger, from the journal. Moments of another boot are placed on this one's timeline by the wall clock, and
/// before its first row: a clock that was set back must not make of what was something that is still to come.
pub fn fold(records: &[Record], boot_id: &str, now: Moment) -> Result<BTreeMap<String, Ledger>, JournalError> {
    let begun = records.iter().filter(|record| record.boot_id == boot_id).map(|record| record.at.mono).fold(now.mono, i64::min);
    let mut ledgers: BTreeMap<String, Ledger> = BTreeMap::new();
    for record in records {
        let Some(app) = &record.app else { continue };
        let ledger = ledgers.entry(app.clone()).or_default();
        let mut placed = record.clone();
        if record.boot_id != boot_id {
            rebase(&mut placed, now, begun);
        }
        let crossed = record.boot_id != boot_id;
        ledger.apply(&placed).map_err(|illegal| JournalError::Tampered {
            path: "journal".to_owned(),
            seq: record.seq,
            cause: format!("app {app}: {illegal}"),
        })?;
        if let Some(incident) = ledger.incident.as_mut().filter(|_| crossed) {
            incident.crossed_boot = true;
        }
    }
    Ok(ledgers)
}

fn rebase(record: &mut Record, now: Moment, begun: i64) {
    let place = |at: &mut Moment| {
        *at = now.at_wall(at.wall);
        at.mono = at.mono.min(begun);
    };
    place(&mut record.at);
    match &mut record.entry {
        Entry::Opened { first_failed: Some(at), .. } | Entry::Confirmed { first_failed: at, .. } => place(at),
        Entry::OldSiteSeen { at, .. } | Entry::FrontDoorLost { at } | Entry::FrontDoorBack { at } => place(at),
        Entry::MovedByOthers { at } | Entry::AuthorityMoved { at } | Entry::Proven { first: at } => place(at),
        _ => {}
    }
}
