//! Many apps, each a group of its own, lose their primary in one second.

use std::collections::BTreeMap;

use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{Outcome, State};

use crate::crowd::{Crowd, INTERVAL, PULSE, TURN, Unusual, priority};
use crate::number;
use crate::sim::{MILLI, SECOND};

/// Apps of a plain `cargo test`, unoptimised; `make load` takes a thousand.
const USUAL: usize = 30;
/// Apps of a plain `cargo test` on a slow disk: their writes one after the other would take longer than our loop may stand.
const WRITERS: usize = 100;
/// What a write to a slow disk takes.
const SLOW: i64 = 40 * MILLI;

/// Lets everybody fail at once, and waits until everybody has moved.
fn all_at_once(apps: usize, limit: usize, disk: i64) -> Vec<Record> {
    let mut crowd = Crowd::new(apps, limit, Unusual { disk, ..Unusual::default() });
    crowd.run(20.0);
    assert_eq!(crowd.in_state(State::Watching), apps);
    crowd.down(true);
    crowd.run_until(10.0, "somebody is lost", |crowd| crowd.in_state(State::Watching) == 0);
    // A move takes a quarter of a minute where nothing goes wrong.
    let enough = 60.0 + 20.0 * apps.div_ceil(limit) as f64;
    crowd.run_until(enough, "everybody has moved", |crowd| crowd.in_state(State::Watching) == apps);
    crowd.rows.lock().unwrap().clone()
}

/// One move each, to the end.
pub fn one_move_each(apps: usize, rows: &[Record]) {
    let mut of: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for row in rows {
        let app = row.app.as_deref().unwrap_or_default();
        match &row.entry {
            Entry::Planned { .. } => of.entry(app).or_default().0 += 1,
            Entry::Closed { outcome: Outcome::Moved, .. } => of.entry(app).or_default().1 += 1,
            _ => {}
        }
    }
    assert_eq!(of.len(), apps);
    assert!(of.values().all(|counts| *counts == (1, 1)), "{of:?}");
}

/// How many groups were moving side by side, at the most.
pub fn most_at_once(rows: &[Record]) -> usize {
    let (mut moving, mut most) = (0_usize, 0);
    for row in rows {
        match &row.entry {
            Entry::Planned { .. } => moving += 1,
            Entry::Closed { outcome: Outcome::Moved, .. } => moving -= 1,
            _ => {}
        }
        most = most.max(moving);
    }
    most
}

/// One move each, to the end, and no doubt besides: each look here is answered at once.
fn everybody_moved_once(apps: usize, rows: &[Record]) {
    for row in rows {
        if let Entry::Closed { outcome, .. } = &row.entry {
            assert_eq!(*outcome, Outcome::Moved, "{:?}", row.app);
        }
    }
    one_move_each(apps, rows);
}

/// The moves in their order: app, and the moments of its decision and of its end.
fn moves(rows: &[Record]) -> Vec<(&str, i64, i64)> {
    let at = |app: &str, meant: fn(&Entry) -> bool| {
        rows.iter().find(|row| row.app.as_deref() == Some(app) && meant(&row.entry)).map(|row| row.at.mono).unwrap()
    };
    let planned = rows.iter().filter(|row| matches!(row.entry, Entry::Planned { .. }));
    planned
        .map(|row| {
            let app = row.app.as_deref().unwrap();
            (app, row.at.mono, at(app, |entry| matches!(entry, Entry::Closed { .. })))
        })
        .collect()
}

/// Never more at once than may; the higher priority first; and nobody kept waiting when it is their turn.
fn in_turn(limit: usize, rows: &[Record]) -> i64 {
    assert_eq!(most_at_once(rows), limit, "groups moving at once");
    let moves = moves(rows);
    assert!(moves.iter().map(|one| priority(one.0)).is_sorted_by(|a, b| a >= b), "the higher priority goes first");
    let mut ends: Vec<i64> = moves.iter().map(|one| one.2).collect();
    ends.sort_unstable();
    // A place is free when an earlier move ended; and whoever has a higher priority has to have gone.
    let late = moves.iter().enumerate().skip(limit).map(|(at, (app, planned, _))| {
        let higher = moves[..at].iter().rev().find(|one| priority(one.0) > priority(app)).map_or(0, |one| one.1);
        planned - ends[at - limit].max(higher)
    });
    late.max().unwrap_or(0)
}

/// The pulse after the place is free asks for fresh looks, which are seen with the next turn: the decision follows at once.
const IN_TIME: i64 = PULSE + 2 * TURN;

fn moves_in_turn(apps: usize, limit: usize) {
    let rows = all_at_once(apps, limit, 0);
    everybody_moved_once(apps, &rows);
    let late = in_turn(limit, &rows);
    println!("{apps} apps, {limit} at once: every decision within {} ms of its turn, virtual time", late / MILLI);
    assert!(late <= IN_TIME, "a decision came {late} us after its turn");
}

#[test]
fn all_at_once_one_after_the_other() {
    // Four hours of a thousand would tell no more.
    moves_in_turn(number("APPS", USUAL).min(100), 1);
}

#[test]
fn all_at_once_twenty_side_by_side() {
    moves_in_turn(number("APPS", USUAL), 20);
}

/// A transaction of a network disk can take long. One for each app, one after the other, would be a standstill of ours that
/// makes what was counted worthless; so what is decided at once is written at once.
#[test]
fn a_slow_disk_does_not_stop_the_decision_of_many() {
    let apps = number("APPS", WRITERS);
    let rows = all_at_once(apps, 20, SLOW);
    everybody_moved_once(apps, &rows);
    in_turn(20, &rows);
    let stood: Vec<&Record> = rows.iter().filter(|row| matches!(row.entry, Entry::Gap { .. } | Entry::ClockStepped { .. })).collect();
    assert!(stood.is_empty(), "our own loop stood still: {:?}", stood.first());
    let first = |meant: fn(&Entry) -> bool| rows.iter().find(|row| meant(&row.entry)).map(|row| row.at.mono).unwrap();
    let decided = first(|entry| matches!(entry, Entry::Planned { .. })) - first(|entry| matches!(entry, Entry::Opened { .. }));
    println!(
        "{apps} apps on a disk of {} ms a write: the first decision {} ms after the first doubt, virtual time",
        SLOW / MILLI,
        decided / MILLI
    );
    // Three looks confirm, and the outage must be old enough; an interval more for everything that had to be written.
    assert!(decided <= 3 * SECOND + INTERVAL, "the first decision came {decided} us after the first doubt");
}
