//! What a pulse over a thousand apps costs: figures, printed by `make load`, each beside its baseline of the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchover::adapters::sqlite::SqliteJournal;
use watchover::domain::model::State;
use watchover::runtime::beats::Beats;
use watchover::runtime::clock::Clock;
use watchover::runtime::executor::Executor;
use watchover::runtime::hands::DaemonHands;
use watchover::runtime::metrics::Metrics;
use watchover::runtime::post::Post;
use watchover::runtime::supervisor::Supervisor;

use crate::crowd::{Crowd, Unusual};
use crate::number;

/// Pulses that are measured; their median is printed.
const PULSES: usize = 15;

/// The processor time of this thread so far: others on the machine do not count.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// The daemon's own hands, as far as they show and count. Nothing is ever carried out by them.
fn hands(runtime: &Runtime, metrics: &Arc<Metrics>) -> DaemonHands {
    let stop = CancellationToken::new();
    let (back, _) = mpsc::channel(1);
    let handle = runtime.handle().clone();
    let never = Arc::new(|_: &_| unreachable!("the crowd carries out by itself"));
    DaemonHands {
        executor: Executor::new(
            never,
            Clock::system(),
            Arc::new(AtomicU64::new(0)),
            back,
            TaskTracker::new(),
            handle.clone(),
            stop.clone(),
        ),
        beats: Beats::new(stop.clone()),
        events: broadcast::Sender::new(1_024),
        status: watch::Sender::new(Arc::new(serde_json::Value::Null)),
        pending: watch::Sender::default(),
        summary: watch::Sender::default(),
        metrics: Arc::clone(metrics),
        post: Post::new(Supervisor::new(handle, stop), Arc::clone(metrics), "crowd".to_owned()),
        observer: "crowd".to_owned(),
        shown: None,
    }
}

/// The median of what a pulse costs in which everybody decides and, if somebody shows, everybody is shown.
fn pulse(crowd: &mut Crowd) -> Duration {
    let mut costs: Vec<Duration> = (0..PULSES)
        .map(|_| {
            crowd.run(0.1);
            crowd.pass(250_000);
            let begun = cpu();
            crowd.control.tick(true);
            cpu() - begun
        })
        .collect();
    costs.sort_unstable();
    costs[PULSES / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Nobody, or everybody is shown: what a pulse costs while all is well, and while all is lost.
fn calm_and_busy(apps: usize, shows: Option<DaemonHands>) -> [Duration; 2] {
    let mut crowd = Crowd::new(apps, 20, Unusual { shows, silent: true, ..Unusual::default() });
    crowd.run(20.0);
    let calm = pulse(&mut crowd);
    crowd.down(true);
    crowd.run_until(10.0, "everybody is lost", |crowd| crowd.in_state(State::Moving) == 20 && crowd.in_state(State::Held) == apps - 20);
    [calm, pulse(&mut crowd)]
}

#[test]
#[ignore = "prints figures: make load"]
fn figures_of_a_pulse() {
    let apps = number("APPS", 1_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let [calm, busy] = calm_and_busy(apps, None);
    println!("a pulse over {apps} apps, deciding alone: {:.1} ms calm, {:.1} ms all lost (20 moving)", millis(calm), millis(busy));
    let metrics = Arc::new(Metrics::new("crowd"));
    let [calm, busy] = calm_and_busy(apps, Some(hands(&runtime, &metrics)));
    println!("the same with status and metrics made anew: {:.1} ms calm, {:.1} ms all lost", millis(calm), millis(busy));
    let begun = cpu();
    let scrape = metrics.render().len();
    println!("a scrape of {apps} apps: {:.1} ms, {} kB", millis(cpu() - begun), scrape / 1_000);
}

#[test]
#[ignore = "prints figures: make load"]
fn figures_of_an_outage() {
    let apps = number("APPS", 1_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for shown in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&dir.path().join("state"), "crowd").unwrap();
        let shows = shown.then(|| hands(&runtime, &Arc::new(Metrics::new("crowd"))));
        let mut crowd = Crowd::new(apps, 20, Unusual { shows, journal: Some(Box::new(journal)), silent: true, ..Unusual::default() });
        crowd.run(20.0);
        let before = crowd.transactions.load(Ordering::SeqCst);
        crowd.down(true);
        let (mut longest, begun, used) = (Duration::ZERO, Instant::now(), cpu());
        for _ in 0..400 {
            let turn = Instant::now();
            crowd.turn();
            longest = longest.max(turn.elapsed());
        }
        println!(
            "8 s in which {apps} apps are lost, journal on this disk, {}: {} transactions, {:.0} ms of a core, {:.0} ms by the clock, longest turn {:.0} ms",
            if shown { "shown" } else { "not shown" },
            crowd.transactions.load(Ordering::SeqCst) - before,
            millis(cpu() - used),
            millis(begun.elapsed()),
            millis(longest)
        );
    }
}
