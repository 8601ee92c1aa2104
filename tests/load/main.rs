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

/// What a file of `/proc` says of a process's memory, bytes; `None` where there is no such process or figure.
fn memory_of(pid: u32, file: &str, figure: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
    Some(rest.trim().split(' ').next()?.parse::<u64>().ok()? << 10)
}

/// A size from the environment, or the usual one.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
