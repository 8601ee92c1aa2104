//! The real binary against the pretend cloud, ended, stopped, deafened and robbed of its disk at every point of a move.
//! In each case the end is the same, and every step took effect once, as counted by the world and not by us.
//!
//! A row of the journal is held on to by a trigger in the database that refuses the row behind it: so the daemon is
//! certainly between the two when it is killed, however fast the machine.
#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

mod answers;
mod disk;
mod kills;
mod pages;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../real/mod.rs"]
mod real;
mod signals;
mod stage;
