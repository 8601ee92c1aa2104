//! The real daemon, moving, while clients rush its open door: against the same world with the same seed and nobody there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::{Deaf, Listener, Scraper};
use crate::real::{Daemon, until};
use crate::stage::{Stage, journal};
use crate::{memory_of, number};

/// Listeners that never read: so many are let in, and some more.
const LISTENERS: usize = 64;
const TOO_MANY: usize = 6;
/// Who asks in haste, each over one connection.
const SCRAPERS: usize = 4;
/// Requests, and clients that never read, of a plain `cargo test`: an unoptimised daemon takes a while to answer one.
const USUAL: (usize, usize) = (500, 20);
/// The daemon's pace in this world.
const INTERVAL: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(250);
/// Anonymous memory of the daemon, at the most: some 270 clients, each with its buffers and an answer under way.
const MEMORY: u64 = 256 << 20;

/// A witness of ours that notes when it is looked at: evidence from outside.
struct Ear(Arc<Mutex<Vec<Instant>>>);

impl Ear {
    fn listen() -> (Ear, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, heard) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<Instant>>>::default());
        let ear = Ear(Arc::clone(&heard));
        // It ends with the process: nobody connects to it any more once its daemon has ended.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || answer(stream, &heard));
            }
        });
        (ear, port)
    }

    /// How much later than the fast interval any look came, within that time.
    fn latest(&self, from: Instant, to: Instant) -> (usize, Duration) {
        let heard = self.0.lock().unwrap();
        let within: Vec<Instant> = heard.iter().copied().filter(|at| (from..=to).contains(at)).collect();
        let late = within.windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(FAST)).max();
        (within.len(), late.unwrap())
    }
}

fn answer(mut stream: TcpStream, heard: &Mutex<Vec<Instant>>) {
    let (mut got, mut part) = (Vec::new(), [0; 1_024]);
    while let Ok(count) = stream.read(&mut part) {
        if count == 0 {
            return;
        }
        got.extend_from_slice(&part[..count]);
        if got.ends_with(b"\r\n\r\n") {
            heard.lock().unwrap().push(Instant::now());
            got.clear();
            if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

/// What one move was like.
struct Played {
    outcome: String,
    rto: f64,
    detect: f64,
    execute: f64,
    prove: f64,
    /// Looks heard from the first doubt to the end, and how late the latest came.
    looks: usize,
    late: Duration,
    /// Mean lateness of the decision's pulse, and the first bound below which all of them lay; seconds.
    lag: (f64, f64),
    memory: u64,
    answers: usize,
    refused: usize,
    took: Duration,
}

/// What the journal says of the only move.
fn closed(stage: &Stage) -> Value {
    let text: String = journal(&stage.state()).query_row("SELECT json FROM entries WHERE kind = 'closed'", [], |row| row.get(0)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Mean lateness of the pulse, and the first bound of the histogram that holds all of them.
pub fn lag(daemon: &Daemon) -> (f64, f64) {
    let metrics = daemon.metrics();
    let name = "watchover_loop_lag_seconds";
    let count = metrics.value(&format!("{name}_count"), &[]);
    let all = metrics.samples.iter().filter(|one| one.0 == format!("{name}_bucket") && one.2 >= count);
    let bound = all.filter_map(|one| one.1["le"].parse().ok()).fold(f64::INFINITY, f64::min);
    (metrics.value(&format!("{name}_sum"), &[]) / count, bound)
}

/// The primary's app dies, and the daemon moves it: with or without a rush at its door.
fn play(requests: usize, deaf: usize) -> Played {
    let stage = Stage::new();
    let (ear, port) = Ear::listen();
    stage.edit(&[
        ("interval = \"300ms\"\nfast_interval = \"60ms\"", "interval = \"1s\"\nfast_interval = \"250ms\""),
        ("urls = [", &format!("interval = \"1s\"\nfast_interval = \"250ms\"\nurls = [\"http://127.0.0.1:{port}/\", ")),
    ]);
    let daemon = Daemon::steady(&stage.config);
    let pid = daemon.process.0.id();
    let (moved, memory) = (AtomicBool::new(false), AtomicU64::new(0));
    let (answers, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    let (broken, over, refused) = std::thread::scope(|scope| {
        let rush = requests > 0;
        // Those who read come first: places are as many as the deaf will take.
        for mut scraper in (0..SCRAPERS * usize::from(rush)).map(|_| Scraper::new(&daemon.listen)) {
            let (moved, answers, good) = (&moved, &answers, &good);
            scope.spawn(move || {
                while answers.fetch_add(1, Ordering::SeqCst) < requests || !moved.load(Ordering::SeqCst) {
                    let (status, length) = scraper.ask();
                    good.fetch_add(usize::from(status == 200 && length > 0), Ordering::SeqCst);
                }
                // The one that was counted and not asked any more.
                answers.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            while !moved.load(Ordering::SeqCst) {
                // It may be gone between two readings.
                memory.fetch_max(memory_of(pid, "smaps_rollup", "Anonymous").unwrap_or(0), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let listeners: Vec<Listener> = (0..(LISTENERS + TOO_MANY) * usize::from(rush)).map(|_| Listener::new(&daemon.listen)).collect();
        let deaf: Vec<Deaf> = (0..deaf).map(|_| Deaf::new(&daemon.listen)).collect();
        if rush {
            until("the rush is on", || (answers.load(Ordering::SeqCst) > requests / 20).then_some(()));
        }
        stage.break_primary();
        let broken = Instant::now();
        // Past the door: it is full.
        until("the move is over", || stage.rows().iter().any(|row| row.name == "closed").then_some(()));
        let over = Instant::now();
        moved.store(true, Ordering::SeqCst);
        until("the deaf are let go", || deaf.iter().all(Deaf::is_let_go).then_some(()));
        let statuses: Vec<u16> = listeners.into_iter().map(Listener::status).collect();
        let refused = statuses.iter().filter(|status| **status == 503).count();
        assert_eq!(statuses.len() - refused, statuses.iter().filter(|status| **status == 200).count(), "{statuses:?}");
        (broken, over, refused)
    });
    assert_eq!(good.load(Ordering::SeqCst), answers.load(Ordering::SeqCst), "every request was answered");
    let took = begun.elapsed();
    stage.moved(&daemon);
    stage.one_effect_each();
    let (looks, late) = ear.latest(broken + INTERVAL + FAST, over);
    let (closed, lag) = (closed(&stage), lag(&daemon));
    let phase = |name: &str| closed["figures"]["phases"][name].as_f64().unwrap();
    let outcome = closed["outcome"].as_str().unwrap().to_owned();
    let (rto, detect, execute, prove) =
        (closed["figures"]["rto_seconds"].as_f64().unwrap(), phase("detect"), phase("execute"), phase("prove"));
    daemon.stop();
    let (memory, answers) = (memory.load(Ordering::SeqCst), answers.load(Ordering::SeqCst));
    Played { outcome, rto, detect, execute, prove, looks, late, lag, memory, answers, refused, took }
}

fn tell(name: &str, played: &Played) {
    println!(
        "{name}: RTO {:.2} s (detect {:.2}, execute {:.2}, prove {:.2}); {} looks, the latest {} ms late; pulse {:.1} ms late on average, all below {:.0} ms; {} MB; {} answers in {:.1} s",
        played.rto,
        played.detect,
        played.execute,
        played.prove,
        played.looks,
        played.late.as_millis(),
        played.lag.0 * 1e3,
        played.lag.1 * 1e3,
        played.memory >> 20,
        played.answers,
        played.took.as_secs_f64()
    );
}

#[test]
fn a_rush_at_the_door_changes_nothing_of_a_move() {
    let (requests, deaf) = (number("REQUESTS", USUAL.0), number("DEAF", USUAL.1));
    let rush = play(requests, deaf);
    tell("a rush at the door", &rush);
    assert_eq!(rush.outcome, "moved");
    assert!(rush.answers >= requests);
    assert_eq!(rush.refused, TOO_MANY, "listeners beyond the bound are told so");
    assert!(rush.memory < MEMORY, "{} bytes", rush.memory);
}

#[test]
#[ignore = "prints figures: make load"]
fn figures_of_a_rush() {
    for pair in 0..number("PAIRS", 1) {
        println!("pair {}", pair + 1);
        tell("  nobody at the door", &play(0, 0));
        tell("  a rush at the door", &play(number("REQUESTS", 10_000), number("DEAF", 200)));
    }
}
