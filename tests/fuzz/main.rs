//! Bad input: whatever a hostile hand or a broken peer can put before us, thrown at the real readers of it.
//!
//! `make fuzz CASES=20000 SEED=7` tries that many inputs a reader and says how many. Without CASES a few of each are tried,
//! from a seed that stands still. A failure prints the smallest input that still fails and the line that replays it:
//! `SEED=7 CASE=123 cargo test --test fuzz http::looks -- --exact`.
#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

mod admin;
mod answers;
mod aws;
mod between;
mod config;
mod dns;
mod edit;
mod ground;
mod hostile;
mod http;
mod journal;
mod rows;
mod tally;
