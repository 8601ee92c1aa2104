//! Much at once: a thousand apps that lose their primary in one second, and clients by the hundred while a move runs.
//!
//! The tests assert what does not depend on the machine: counts, order, and bounds of whole intervals. `make load` prints
//! the figures, each beside its baseline of the same run. `APPS`, `REQUESTS` and `PAIRS` set the size.
#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

mod clients;
mod crowd;
mod fleet;
mod outage;
mod pulse;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../real/mod.rs"]
mod real;
mod rush;
#[path = "../sim/mod.rs"]
mod sim;
mod sites;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../crash/stage.rs"]
mod stage;

/// A size from the environment, or the usual one.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
