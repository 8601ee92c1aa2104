//! How inputs are drawn, counted and replayed: each case has a seed of its own, made of SEED, the test's name and its
//! number, so that one line replays one case whatever came before it.

use std::fmt::{Debug, Write as _};
use std::panic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use sha2::{Digest, Sha256};

/// The seed of `make test`: it stands still, so that what is found there was brought by the change.
const SEED: u64 = 1;

/// What this process may hold at its peak, all readers side by side. An answer without end, kept, passes it within a second.
const MEMORY: u64 = 640 << 20;

/// Of what is tried once each, so many at a time.
const SIDE_BY_SIDE: usize = 6;

static PANICS: AtomicU64 = AtomicU64::new(0);
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());
static HOOK: Once = Once::new();

/// Tries `usual` inputs, or those of CASES: one in `share` of them where an input is dear (it takes a connection, a file).
/// Answers how many were tried.
pub fn tried<S: Strategy>(name: &str, usual: u64, share: u64, inputs: S, test: impl Fn(&S::Value) -> Result<(), String>) -> u64 {
    count_panics();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")));
    let seed = number("SEED").unwrap_or(SEED);
    let count = number("CASES").map_or(usual, |cases| (cases / share).max(1));
    let cases = number("CASE").map_or(0..count, |case| case..case + 1);
    let replayed = number("CASE").is_some();
    let (mut tried, first) = (0_u64, cases.start);
    for case in cases {
        tried += 1;
        let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 500, max_shrink_time: 20_000, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_of(seed, name, case));
        let outcome = TestRunner::new_with_rng(config, rng).run(&inputs, |input| {
            if replayed {
                println!("{name}: case {case}: {}", short(&input));
            }
            let before = PANICS.load(Ordering::SeqCst);
            test(&input).map_err(TestCaseError::fail)?;
            panicked_since(before).map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, smallest)) => panic!(
                "{name}: {why}\nthe smallest input that fails: {}\nreplay: SEED={seed} CASE={case} cargo test --test fuzz {name} -- --exact --nocapture",
                short(&smallest)
            ),
            Err(TestError::Abort(why)) => panic!("{name}: {why}"),
        }
    }
    let peak = within_memory(&format!("{name}, SEED={seed}"));
    println!("{name}: {tried} inputs tried from case {first}, seed {seed}, peak memory {} MiB", peak >> 20);
    tried
}

/// Tries every one of these, some side by side, because they mostly wait.
pub fn each<T: Debug + Sync>(name: &str, inputs: &[T], test: impl Fn(&T) -> Result<(), String> + Sync) {
    count_panics();
    let (before, began) = (PANICS.load(Ordering::SeqCst), Instant::now());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let one_by_one = || {
        while let Some(input) = inputs.get(next.fetch_add(1, Ordering::SeqCst)) {
            if let Err(why) = test(input) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{why}: {}", short(input)));
            }
        }
    };
    std::thread::scope(|scope| (0..SIDE_BY_SIDE).for_each(|_| drop(scope.spawn(one_by_one))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{name}: {} of {} failed:\n{}", failed.len(), inputs.len(), failed.join("\n"));
    panicked_since(before).unwrap_or_else(|why| panic!("{name}: {why}"));
    let took = began.elapsed().as_secs_f64();
    println!("{name}: each of {} tried within {took:.1} s, peak memory {} MiB", inputs.len(), within_memory(name) >> 20);
}

/// What this process held at its peak, which is not too much.
fn within_memory(name: &str) -> u64 {
    let peak = peak();
    assert!(peak < MEMORY, "{name}: this process held {peak} bytes at its peak, {MEMORY} are allowed");
    peak
}

fn seed_of(seed: u64, name: &str, case: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(case.to_be_bytes());
    hash.update(name.as_bytes());
    hash.finalize().into()
}

/// A panic in a task or a thread does not reach the test by itself.
fn count_panics() {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // The tests beside this one may fail for reasons of their own.
            if info.location().is_none_or(|place| !place.file().starts_with("tests/fuzz/")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
                *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
            }
            usual(info);
        }));
    });
}

/// Fails if more panics were counted than there had been before.
fn panicked_since(before: u64) -> Result<(), String> {
    if PANICS.load(Ordering::SeqCst) == before {
        return Ok(());
    }
    let last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Err(format!("a task or a thread beside it panicked: {last}"))
}

/// The most memory that this process ever held, bytes.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// An input as far as a person reads it.
fn short(input: &impl Debug) -> String {
    let mut text = String::new();
    write!(text, "{input:?}").unwrap();
    let end = text.char_indices().nth(4_000).map_or(text.len(), |(at, _)| at);
    if end < text.len() {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// How many bytes of an answer were taken, which are not too many.
pub fn within(written: &AtomicU64, bound: u64) -> Result<u64, String> {
    let taken = written.load(Ordering::SeqCst);
    if taken <= bound { Ok(taken) } else { Err(format!("{taken} bytes were taken, at most {bound} may be")) }
}

/// Whether it kept its time; by the margin it may be late.
pub fn in_time(took: Duration, allowed: Duration, margin: Duration) -> Result<(), String> {
    if took <= allowed + margin { Ok(()) } else { Err(format!("it took {took:?}, {allowed:?} are allowed")) }
}

/// Processor time of this thread so far: a bound on it holds on a machine that is busy with others, too.
pub fn worked() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap(), u32::try_from(spent.tv_nsec).unwrap())
}
