//! The daemon against the pretend cloud, in virtual time, from seeds: the real decision, executor, probers and journal
//! logic; regions that go dark, networks that split, calls that get lost, a process that dies at any of its doors, and
//! people who press every button. After every change the invariants of the design are judged.
//!
//! `SEEDS=5000 cargo test --test simulation` plays that many histories, others with another master seed in `SEED`;
//! `SEED=7` alone replays one and prints what happened (`-- --nocapture`). The first failure ends it; `FAILURES=9` goes on until there are nine.
//! `make soak` does it with an optimised build.
#![expect(clippy::expect_used, reason = "what fails here must fail the test")]

mod coverage;
mod deeds;
mod doors;
mod history;
mod invariants;
mod life;
mod panics;
mod people;
#[path = "../sim/mod.rs"]
mod sim;
mod stage;
mod steps;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coverage::Coverage;
use history::End;
use watchover::runtime::metrics::Metrics;

/// Histories of a plain `cargo test`.
const SEEDS: u64 = 200;
/// After so many a long run says how far it has come.
const FAR: u64 = 50_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seed of a history: histories of two master seeds have nothing in common, however near these are.
fn seed_of(master: u64, place: u64) -> u64 {
    // SplitMix64's finaliser, twice: it takes neighbours far apart.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(master.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn play(seed: u64, keep: Option<&[usize]>, metrics: &Arc<Metrics>) -> Result<End, (String, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    panics::told(|| runtime.block_on(history::play(seed, keep, metrics)))
}

/// Leaves out what the violation does not need, one deed after the other.
fn shrink(seed: u64, words: &str, metrics: &Arc<Metrics>) -> Vec<usize> {
    let name = words.split(':').next().unwrap_or(words);
    let mut keep: Vec<usize> = (0..32).collect();
    for at in 0..32 {
        let less: Vec<usize> = keep.iter().copied().filter(|kept| *kept != at).collect();
        if let Err((found, _)) = play(seed, Some(&less), metrics)
            && found.starts_with(name)
        {
            keep = less;
        }
    }
    keep
}

#[test]
fn histories_keep_every_invariant() {
    let (master, wanted) = (number("SEED"), number("SEEDS"));
    // One seed and no count: that one history.
    let replayed = master.filter(|_| wanted.is_none());
    let count = wanted.unwrap_or(if replayed.is_some() { 1 } else { SEEDS });
    let jobs = number("JOBS").unwrap_or(2).max(1);
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let enough = usize::try_from(number("FAILURES").unwrap_or(1)).unwrap_or(1);
    let began = Instant::now();
    // A soak takes its time: what it finds is told at once, and so is how far it has come.
    let long = count >= 2 * FAR;
    let worker = || {
        let metrics = Arc::new(Metrics::new("simulated"));
        let (mut coverage, mut took, mut incidents) = (Coverage::default(), Duration::ZERO, 0);
        loop {
            let place = next.fetch_add(1, Ordering::SeqCst);
            if place >= count {
                return (coverage, took, incidents);
            }
            if long && place > 0 && place % FAR == 0 {
                eprintln!("{place} of {count} histories begun after {:.0} s", began.elapsed().as_secs_f64());
            }
            let seed = replayed.unwrap_or_else(|| seed_of(master.unwrap_or(0), place));
            match play(seed, None, &metrics) {
                Ok(end) => {
                    if replayed.is_some() {
                        println!("{}\n{}", end.told.join("\n"), history::said(&end.rows).join("\n"));
                    }
                    coverage.add(&end.coverage);
                    took += end.took;
                    incidents += end.incidents;
                }
                Err((words, told)) => {
                    let keep = if number("SHRINK") == Some(0) { (0..32).collect() } else { shrink(seed, &words, &metrics) };
                    let (words, told) = play(seed, Some(&keep), &metrics).err().unwrap_or((words, told));
                    let mut found = found.lock().expect("nobody panics here");
                    if long {
                        eprintln!("found: {words} (SEED={seed})");
                    }
                    found.push(format!("{}\n\n{words}\n\nreplay: SEED={seed} cargo test --test simulation", told.join("\n")));
                    if found.len() >= enough {
                        next.store(count, Ordering::SeqCst);
                    }
                }
            }
        }
    };
    let mut all = Coverage::default();
    let (mut took, mut incidents) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let (coverage, time, opened) = worker.join().expect("a worker ends");
            all.add(&coverage);
            took += time;
            incidents += opened;
        }
    });
    let found = found.into_inner().expect("nobody panics here");
    assert!(found.is_empty(), "{}", found.join("\n\n"));
    let real = began.elapsed().as_secs_f64();
    println!(
        "{count} histories, {incidents} incidents, {:.3} simulated years in {real:.1} s: {:.0} incidents a second",
        took.as_secs_f64() / 31_557_600.0,
        incidents as f64 / real
    );
    if count >= 1_000 {
        println!("{}", all.lines().join("\n"));
    }
    // With fewer, the rare ones are a matter of luck.
    if count >= 20_000 {
        let missing = all.missing();
        assert!(missing.is_empty(), "never hit: {}", missing.join(", "));
    }
}

/// A failure that a seed does not bring back is no help.
#[test]
fn a_seed_plays_the_same_history_again() {
    let metrics = Arc::new(Metrics::new("simulated"));
    let rows = |seed| play(seed, None, &metrics).map(|end| format!("{:#?}", end.rows)).unwrap_or_else(|(words, _)| words);
    for place in 0..20 {
        let seed = seed_of(0, place);
        let first = rows(seed);
        for _ in 0..3 {
            assert!(rows(seed) == first, "SEED={seed} plays otherwise the second time");
        }
    }
}
