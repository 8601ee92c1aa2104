//! From the journal back to the state.

use std::collections::BTreeMap;

use crate::domain::ledger::{Entry, Ledger, Record};
use crate::domain::model::Moment;
use crate::ports::JournalError;

/// Every app's ledger, from the journal. Within a boot the monotonic clock says how far its rows lie apart; where a boot of
/// another time lies on this one's timeline the wall clock says, by its last row: but before what was written after it. A
/// clock that was set back must not make of what was something that is still to come.
pub fn fold(records: &[Record], boot_id: &str, now: Moment) -> Result<BTreeMap<String, Ledger>, JournalError> {
    let mut ledgers: BTreeMap<String, Ledger> = BTreeMap::new();
    for (record, shift) in records.iter().zip(shifts(records, boot_id, now)) {
        let Some(app) = &record.app else { continue };
        let ledger = ledgers.entry(app.clone()).or_default();
        let mut placed = record.clone();
        rebase(&mut placed, shift);
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

/// By how many microseconds each row's monotonic clock lies off this boot's.
fn shifts(records: &[Record], boot_id: &str, now: Moment) -> Vec<i64> {
    // Each boot's last row comes first, and then what lies before it.
    let (mut next, mut boot, mut shift) = (now.mono, boot_id, 0);
    let mut shifts: Vec<i64> = records
        .iter()
        .rev()
        .map(|record| {
            if record.boot_id == boot_id {
                shift = 0;
            } else if record.boot_id != boot {
                shift = now.at_wall(record.at.wall).mono.min(next).saturating_sub(record.at.mono);
            }
            boot = &record.boot_id;
            next = next.min(record.at.mono.saturating_add(shift));
            shift
        })
        .collect();
    shifts.reverse();
    shifts
}

fn rebase(record: &mut Record, shift: i64) {
    let place = |at: &mut Moment| at.mono = at.mono.saturating_add(shift);
    place(&mut record.at);
    match &mut record.entry {
        Entry::Opened { first_failed: Some(at), .. }
        | Entry::Commanded { first_failed: Some(at), .. }
        | Entry::Confirmed { first_failed: at, .. } => place(at),
        Entry::OldSiteSeen { at, .. } | Entry::FrontDoorLost { at } | Entry::FrontDoorBack { at } => place(at),
        Entry::MovedByOthers { at } | Entry::AuthorityMoved { at } | Entry::Proven { first: at } => place(at),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{at, opened, record};

    #[test]
    fn a_boot_lies_where_its_last_row_says_and_before_what_was_written_after_it() {
        let row = |boot: &str, mono: i64, wall: i64| {
            let at = Moment { mono: at(mono).mono, wall: at(wall).wall };
            Record { at, boot_id: boot.into(), ..record(opened(None), 0) }
        };
        let placed = |rows: &[Record], now: Moment| -> Vec<i64> {
            rows.iter().zip(shifts(rows, "here", now)).map(|(row, shift)| (row.at.mono + shift) / 1_000_000).collect()
        };
        let now = Moment { mono: at(1_000).mono, wall: at(5_000).wall };
        let away = [row("away", 10, 4_900), row("away", 30, 4_920)];
        assert_eq!(placed(&away, now), [900, 920], "by the wall clock");
        // It was set by three minutes between the two: how far they lie apart the other clock knows.
        assert_eq!(placed(&[row("away", 10, 4_720), row("away", 30, 4_920)], now), [900, 920]);
        assert_eq!(placed(&[row("away", 10, 5_500), row("away", 30, 5_520)], now), [980, 1_000], "what was is not to come");
        let between = [row("here", 100, 4_100), row("away", 10, 5_500), row("away", 30, 5_520), row("here", 950, 4_950)];
        assert_eq!(placed(&between, now), [100, 930, 950, 950], "a directory that was elsewhere and came back");
        let two = [row("first", 7, 6_000), row("second", 1, 5_500), row("second", 3, 5_502), row("here", 990, 4_990)];
        assert_eq!(placed(&two, now), [988, 988, 990, 990]);
    }
}
