//! A journal's rows, right and then changed: one by one, and with the chain mended behind the change.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use watchover::adapters::sqlite::FILE;
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::Moment;

use super::edit::{Edit, edited, edits};
use super::ground;

/// A whole move, and what stands around it.
fn rows() -> Vec<Value> {
    let at = |second: i64| json!({"mono": second * 1_000_000, "wall": ground::NOW + second * 1_000_000});
    let by = json!({"who": "uid 0 (root)", "reason": "drill"});
    let exposure = json!({"seconds": 42.5, "sample": {"at": ground::NOW, "period": 60_000_000, "seconds": 2.0}, "end_of_writes": ground::NOW, "assumption": "writes-until-now"});
    let gates = json!([{"name": "data-loss", "state": "open", "words": "42 s"}]);
    let step = json!({
        "name": "promote", "kind": "rds-promote-replica", "class": "data", "reversibility": "forward-only", "repeat": "inspectable",
        "after": [], "deadline_seconds": 900, "attempts": 3, "on_failure": "halt", "region": "us-east-1", "keys": {"db_instance": "x"}
    });
    let figures =
        json!({"rto_seconds": 9.0, "phases": {"detect": 1.0}, "rpo": exposure, "authority_seconds": 3.0, "uncertainty_seconds": 0.0});
    vec![
        json!({"kind": "started", "version": "1", "observer": "here", "config": "c"}),
        json!({"kind": "active", "site": "primary", "by": by}),
        json!({"kind": "paused", "until": ground::NOW, "by": by}),
        json!({"kind": "resumed", "by": by}),
        json!({"kind": "autonomous", "found": {"traffic": ["a health check"]}}),
        json!({"kind": "gap", "seconds": 4.0}),
        json!({"kind": "clock-stepped", "seconds": -4.0}),
        json!({"kind": "opened", "trigger": "outage", "direction": "to-standby", "first_failed": at(10), "words": "alb down"}),
        json!({"kind": "confirmed", "first_failed": at(10), "words": "alb down for 3 s"}),
        json!({"kind": "front-door-lost", "at": at(11)}),
        json!({"kind": "gated", "ruling": "ask", "gates": gates, "exposure": exposure}),
        json!({"kind": "approved", "wish": {"by": by, "accept_loss": 60.0, "shown": 42.5}}),
        json!({"kind": "planned", "plan": {"direction": "to-standby", "steps": [step]}}),
        json!({"kind": "step-started", "step": "promote"}),
        json!({"kind": "step-permitted", "step": "promote", "gates": gates}),
        json!({"kind": "step-intent", "step": "promote", "attempt": 1, "found": {"status": "available"}}),
        json!({"kind": "step-asked", "step": "promote", "facts": {}}),
        json!({"kind": "step-trouble", "step": "promote", "code": "Throttling", "words": "slow down"}),
        json!({"kind": "step-progress", "step": "promote", "words": "backing up"}),
        json!({"kind": "step-verified", "step": "promote", "already": false, "facts": {"old_writer": {"at": ground::NOW, "words": "wrote"}, "proven": true, "at": ground::NOW}}),
        json!({"kind": "executed"}),
        json!({"kind": "authority-moved", "at": at(40)}),
        json!({"kind": "proven", "first": at(42)}),
        json!({"kind": "old-site-seen", "incident": "shop-1", "site": "primary", "at": at(43), "words": "alive"}),
        json!({"kind": "closed", "outcome": "moved", "active": "standby", "figures": figures, "by": null}),
    ]
}

/// The rows as records.
pub fn records() -> Vec<Record> {
    let rows = rows().into_iter().enumerate();
    rows.map(|(turn, value)| {
        let said = value.to_string();
        let entry: Entry = serde_json::from_value(value).unwrap_or_else(|cause| panic!("{cause}: {said}"));
        let (turn, kind) = (i64::try_from(turn).unwrap(), entry.kind());
        let at = Moment { mono: turn * 1_000_000, wall: ground::NOW + turn * 1_000_000 };
        let app = (!matches!(kind, "started" | "gap" | "clock-stepped")).then(|| "shop".to_owned());
        let incident = (turn >= 7).then(|| "shop-1".to_owned());
        Record { seq: turn + 1, at, boot_id: "boot".into(), app, incident, epoch: 1, entry }
    })
    .collect()
}

/// What becomes of one row.
#[derive(Debug, Clone)]
pub enum Change {
    /// The value at a place within the JSON (by its number in reading order) becomes that one.
    Value(u16, Value),
    /// The key or the item at a place is missing.
    Without(u16),
    /// The text, byte by byte.
    Text(Vec<Edit>),
    /// A number beside the JSON: wall, mono, epoch, schema.
    Number(u8, i64),
    /// A text beside the JSON: boot_id, app, incident, kind.
    Word(u8, Option<String>),
}

/// Everything that may become of a row.
pub fn changes() -> impl Strategy<Value = Change> {
    let extremes = select(vec![0, 1, -1, i64::MIN, i64::MAX, i64::MIN + 1, i64::MAX - 1, 1 << 53, ground::NOW, -62_135_596_800_000_000]);
    let deep = (0..300).fold(json!(1), |inner, _| json!([inner]));
    let values = prop_oneof![
        6 => extremes.clone().prop_map(|number| json!(number)),
        1 => any::<u64>().prop_map(|number| json!(number)),
        2 => select(vec![1e308, -1e308, 5e-324, 0.5, 9.3e18]).prop_map(|number| json!(number)),
        2 => select(vec![json!(null), json!(true), json!(""), json!("unbounded"), json!("infinite"), json!([]), json!({}), json!("primary"), deep]),
        1 => any::<String>().prop_map(Value::String),
    ];
    prop_oneof![
        8 => (any::<u16>(), values).prop_map(|(at, value)| Change::Value(at, value)),
        2 => any::<u16>().prop_map(Change::Without),
        3 => edits(3).prop_map(Change::Text),
        3 => (any::<u8>(), extremes).prop_map(|(which, number)| Change::Number(which, number)),
        2 => (any::<u8>(), prop::option::of(select(vec!["", "shop", "till", "shop-2", "closed", "\u{0}", "…"]))).prop_map(|(which, word)| Change::Word(which, word.map(str::to_owned))),
    ]
}

/// Every place within a value, outermost first.
fn places(value: &mut Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter_mut().map(places).sum(),
        Value::Object(map) => map.values_mut().map(places).sum(),
        _ => 0,
    }
}

/// Does `change` to the place of that number; false: it lies beyond.
fn at_place(value: &mut Value, at: &mut usize, change: &dyn Fn(&mut Value)) -> bool {
    if *at == 0 {
        change(value);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| at_place(item, at, change)),
        Value::Object(map) => map.values_mut().any(|item| at_place(item, at, change)),
        _ => false,
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    seq: i64,
    numbers: [i64; 4], // schema, wall, mono, epoch
    boot_id: String,
    app: Option<String>,
    incident: Option<String>,
    kind: String,
    json: String,
    prev_hash: String,
}

impl Row {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Value(..) | Change::Without(_) => {
                let Ok(mut value) = serde_json::from_str::<Value>(&self.json) else { return };
                let count = places(&mut value);
                match change {
                    Change::Value(at, new) => {
                        at_place(&mut value, &mut (usize::from(*at) % count), &|place| *place = new.clone());
                    }
                    Change::Without(at) => {
                        at_place(&mut value, &mut (usize::from(*at) % count), &|place| match place {
                            Value::Object(map) => drop(map.keys().next().cloned().and_then(|key| map.remove(&key))),
                            Value::Array(items) => drop(items.pop()),
                            other => *other = Value::Null,
                        });
                    }
                    _ => {}
                }
                self.json = value.to_string();
            }
            Change::Text(edits) => self.json = String::from_utf8_lossy(&edited(self.json.as_bytes(), edits)).replace('\0', "\u{1}"),
            Change::Number(which, number) => self.numbers[usize::from(*which) % 4] = *number,
            Change::Word(which, word) => match which % 4 {
                0 => self.boot_id = word.clone().unwrap_or_default(),
                1 => self.app = word.clone(),
                2 => self.incident = word.clone(),
                _ => self.kind = word.clone().unwrap_or_default(),
            },
        }
    }

    /// The chain's own hash, written a second time: over every column, lengths before texts.
    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let [schema, wall, mono, epoch] = self.numbers;
        for number in [self.seq, schema, wall, mono, epoch] {
            hash.update(number.to_be_bytes());
        }
        for text in
            [Some(&self.boot_id), self.app.as_ref(), self.incident.as_ref(), Some(&self.kind), Some(&self.json), Some(&self.prev_hash)]
        {
            hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
            hash.update(text.map_or("", String::as_str).as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Changes the rows of a closed journal; `mended`: and the chain with them. The numbers of the rows that really changed.
pub fn spoil(dir: &Path, changes: &[(u8, Change)], mended: bool) -> rusqlite::Result<BTreeSet<i64>> {
    let mut db = Connection::open(dir.join(FILE))?;
    db.pragma_update(None, "synchronous", "OFF")?;
    let write = db.transaction()?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            seq: row.get(0)?,
            numbers: [row.get(1)?, row.get(2)?, row.get(4)?, row.get(7)?],
            boot_id: row.get(3)?,
            app: row.get(5)?,
            incident: row.get(6)?,
            kind: row.get(8)?,
            json: row.get(9)?,
            prev_hash: row.get(10)?,
        })
    };
    let found: rusqlite::Result<Vec<Row>> = write
        .prepare("SELECT seq, schema, wall, boot_id, mono, app, incident, epoch, kind, json, prev_hash FROM entries ORDER BY seq")?
        .query_map([], read)?
        .collect();
    let before = found?;
    let mut rows = before.clone();
    let count = rows.len();
    for (which, change) in changes {
        rows[usize::from(*which) % count].change(change);
    }
    let changed = rows.iter().zip(&before).filter(|(now, then)| now != then).map(|(row, _)| row.seq).collect();
    let mut last = rows[0].prev_hash.clone();
    for row in &mut rows {
        if mended {
            row.prev_hash = last;
        }
        last = row.hash();
        let [schema, wall, mono, epoch] = row.numbers;
        write.execute(
            "UPDATE entries SET schema=?2, wall=?3, boot_id=?4, mono=?5, app=?6, incident=?7, epoch=?8, kind=?9, json=?10, prev_hash=?11 WHERE seq=?1",
            params![row.seq, schema, wall, row.boot_id, mono, row.app, row.incident, epoch, row.kind, row.json, row.prev_hash],
        )?;
    }
    if mended {
        write.execute("UPDATE head SET hash = ?1", [last])?;
    }
    write.commit()?;
    Ok(changed)
}
