//! The real binary against the pretend cloud, ended, stopped, deafened and robbed of its disk at every point of a move.
//! In each case the end is the same, and every step took effect once, as counted by the world and not by us.
//!
//! A row of the journal is held on to by a trigger in the database that refuses the row behind it: so the daemon is
//! certainly between the two when it is killed, however fast the machine.
#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

mod answers;
mod disk;
mod hooks;
mod kills;
mod pages;
mod people;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../real/mod.rs"]
mod real;
mod signals;
mod stage;

use std::collections::BTreeSet;

/// Every kind of row, as the journal names it, is one that a daemon was killed behind; or it is said why not. A row stands
/// in none of these tables without a kill: each is what a loop kills behind, or a test that kills behind less fails.
#[test]
fn every_kind_of_row_is_killed_behind() {
    // Behind `stopped` nothing comes: `signals` starts again after it. A machine's clock is not ours to set: the simulation
    // steps it, and kills there.
    let elsewhere = ["stopped", "clock-stepped"];
    let source = include_str!("../../src/domain/entry.rs");
    let named = source.split_once("pub fn kind(&self)").unwrap().1.split_once("\n    }\n").unwrap().0;
    let kinds: Vec<&str> = named.lines().filter_map(|line| line.split_once("=> \"")?.1.split_once('"')).map(|(kind, _)| kind).collect();
    assert!(kinds.len() > 30, "{kinds:?}");
    let own = [kills::DECIDING, kills::STEP, kills::PROVING, kills::LOST, kills::ASKED, kills::TROUBLE, hooks::ROWS, &elsewhere];
    let rows = own.iter().chain(people::ROWS).flat_map(|table| table.iter());
    let killed: BTreeSet<&str> = rows.map(|name| kills::kind_of(name)).collect();
    let missed: Vec<_> = kinds.into_iter().filter(|kind| !killed.contains(kind)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
