//! From signals to sites: is this one down by its rule, and is that one good enough to go to?

use super::health::{SignalHealth, Trip};
use super::model::{Cause, Health, Moment, Verdict};
use super::policy::{DownWhen, Required, SignalPolicy, SitePolicy};

/// What a site amounts to, with the figures behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteView {
    /// By `down_when` over the signals that know something.
    pub health: Health,
    /// Counting signals that are up or down.
    pub known: usize,
    /// Counting signals that are down.
    pub down: usize,
    /// The earliest failed look of the runs that brought it down (or cast doubt).
    pub first_failed: Option<Moment>,
    /// `alb down (refused)`, one for each counting signal.
    pub words: Vec<String>,
}

/// Judges a site by its own rule.
pub fn site(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> SiteView {
    let counting = || policy.signals.iter().zip(signals).filter(|(policy, _)| policy.counts);
    let of = |health: Health| counting().filter(move |(policy, signal)| signal.health(policy, now) == health);
    let (down, up) = (of(Health::Down).count(), of(Health::Up).count());
    let known = down + up;
    let tripped = match policy.down_when {
        DownWhen::All => down == known,
        DownWhen::Any => true,
        DownWhen::AtLeast(least) => down >= least,
    };
    let health = if known < policy.min_known.max(1) {
        Health::Unknown
    } else if down > 0 && tripped {
        Health::Down
    } else {
        Health::Up
    };
    let earliest = |health: Health| of(health).filter_map(|(_, signal)| signal.first_failed()).min_by_key(|at| at.mono);
    let first_failed = earliest(Health::Down).or_else(|| counting().filter_map(|(_, signal)| signal.first_failed()).min_by_key(|at| at.mono));
    let words = counting().map(|(policy, signal)| said(policy, signal, now)).collect();
    SiteView { health, known, down, first_failed, words }
}

/// True while any counting signal of the site has a bad look that was not outweighed yet.
pub fn in_doubt(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> bool {
    policy.signals.iter().zip(signals).any(|(policy, signal)| policy.counts && signal.in_doubt(policy, now))
}

/// The point of a move at which a target is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before anything moves, and before each forward-only step.
    Start,
    /// Before traffic moves: the replica has become a primary, so its signal has nothing left to say.
    Traffic,
}

/// Every signal that the target requires at this point and that is not good enough, in words. Empty: good to go.
///
/// `outage` is when the other site was first seen failing. A replica loses its source with it: that its link or its lag
/// says so is the outage seen from the other side, and no reason to stay. What it was worth before is the data-loss gate's.
pub fn missing(policy: &SitePolicy, signals: &[SignalHealth], point: Point, outage: Option<Moment>, now: Moment) -> Vec<String> {
    let good = |policy: &SignalPolicy, signal: &SignalHealth| {
        signal.health(policy, now) == Health::Up || (policy.replica && outage.is_some_and(|at| orphaned(policy, signal, at)))
    };
    let required = required_at(policy, point).into_iter().map(|at| (&policy.signals[at], &signals[at]));
    required.filter(|(policy, signal)| !good(policy, signal)).map(|(policy, signal)| said(policy, signal, now)).collect()
}

/// Well until the outage, and since then wanting nothing but its source.
fn orphaned(policy: &SignalPolicy, signal: &SignalHealth, outage: Moment) -> bool {
    let wants = |verdict: Verdict| {
        matches!(verdict, Verdict::Up | Verdict::Unknown(Cause::LagUnknown | Cause::Stale | Cause::NoData) | Verdict::Down(Cause::ReplicaError))
    };
    signal.was_up_until(policy, outage) && signal.last().is_some_and(|last| wants(last.verdict))
}

/// Places of the signals that are judged at this point.
pub fn required_at(policy: &SitePolicy, point: Point) -> Vec<usize> {
    let judged = |signal: &SignalPolicy| match (point, signal.required) {
        (_, Required::Never) => false,
        (Point::Start, required) => required == Required::Start,
        (Point::Traffic, _) => !signal.replica,
    };
    (0..policy.signals.len()).filter(|at| judged(&policy.signals[*at])).collect()
}

/// What a second look says of the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Still there, seen again.
    Persists,
    /// Contradicted by a good look, not yet outweighed: look on.
    Wavers,
    /// Gone, by the same rule that brought it.
    Gone,
    /// We do not know any more.
    Unclear,
}

/// Judges the problem by looks sent at or after `since`. `None`: some are still out.
pub fn second_look(policy: &SitePolicy, signals: &[SignalHealth], since: Moment, now: Moment) -> Option<Problem> {
    let counting = || policy.signals.iter().zip(signals).filter(|(policy, _)| policy.counts);
    if counting().any(|(policy, signal)| signal.fresh(since).is_none() && now.since(since) < policy.timeout * 2 + policy.fast_interval) {
        return None;
    }
    Some(match site(policy, signals, now).health {
        Health::Up => Problem::Gone,
        Health::Unknown => Problem::Unclear,
        Health::Down => {
            let contradicted = counting().any(|(_, signal)| {
                signal.trip() == Some(Trip::Run) && signal.last().is_some_and(|last| last.verdict == Verdict::Up)
            });
            if contradicted { Problem::Wavers } else { Problem::Persists }
        }
    })
}

/// `alb down (refused)`, from the settled health and the latest look.
fn said(policy: &SignalPolicy, signal: &SignalHealth, now: Moment) -> String {
    let health = signal.health(policy, now);
    match signal.last() {
        None => format!("{} {health} (not looked at yet)", policy.name),
        Some(last) if last.detail.is_empty() || last.verdict.cause().is_none() => format!("{} {health}", policy.name),
        Some(last) => {
            let cause = last.verdict.cause().map(|cause| cause.as_str()).unwrap_or_default();
            format!("{} {health} ({cause}: {})", policy.name, last.detail)
        }
    }
}
