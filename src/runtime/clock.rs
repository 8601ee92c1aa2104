//! The only place that reads clocks: below it, `now` is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::model::Moment;

/// Both clocks, anchored at the process's start.
///
/// Monotonic time is tokio's, so that a test can hold it; it is placed on the boot clock, so that figures from
/// before a restart of the process (not of the machine) stay comparable. Wall time is read anew at each call: a step of
/// the clock shows in what is printed, and never in what is measured.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    base: i64,
    wall: Wall,
    hand: Option<Hand>,
}

#[derive(Debug, Clone)]
enum Wall {
    System,
    /// For tests in virtual time: advances with it, and is stepped by whoever holds the other end, microseconds.
    From(i64, Arc<AtomicI64>),
}

/// A clock that only its owner moves: monotonic and wall, in microseconds. For simulation.
pub type Hand = Arc<(AtomicI64, AtomicI64)>;

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Clock {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let base = boot.tv_sec * 1_000_000 + boot.tv_nsec / 1_000;
        Clock { start: Instant::now(), base, wall: Wall::System, hand: None }
    }

    /// A clock that follows tokio's, virtual or not, from `wall` microseconds on.
    pub fn following(wall: i64) -> Clock {
        Clock::stepped(wall, Arc::default())
    }

    /// The same; `step` is added to its wall time, in microseconds, as a clock that is set by hand or by the network.
    pub fn stepped(wall: i64, step: Arc<AtomicI64>) -> Clock {
        Clock { start: Instant::now(), base: 0, wall: Wall::From(wall, step), hand: None }
    }

    /// A clock that stands still until `hand` is moved.
    pub fn held(hand: Hand) -> Clock {
        Clock { start: Instant::now(), base: 0, wall: Wall::System, hand: Some(hand) }
    }

    /// Now, on both clocks.
    pub fn now(&self) -> Moment {
        if let Some(hand) = &self.hand {
            return Moment { mono: hand.0.load(Ordering::SeqCst), wall: hand.1.load(Ordering::SeqCst) };
        }
        let since = i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX);
        let wall = match &self.wall {
            Wall::System => jiff::Timestamp::now().as_microsecond(),
            Wall::From(start, step) => start + since + step.load(Ordering::SeqCst),
        };
        Moment { mono: self.base + since, wall }
    }

    /// The tokio instant of a moment of this clock, for sleeping until it.
    pub fn instant(&self, at: Moment) -> Instant {
        let ahead = at.mono - self.now().mono;
        Instant::now() + Duration::from_micros(u64::try_from(ahead).unwrap_or(0))
    }
}

/// Which boot of the machine this is; monotonic figures of another one are not comparable.
pub fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => text.trim().to_owned(),
        // Without it every start counts as a new boot: durations then rest on the wall clock, and say so.
        Err(_) => format!("unknown-{}", jiff::Timestamp::now().as_microsecond()),
    }
}
