//! From signals to sites: is this one down by its rule, and is that one good enough to go to?

use std::time::Duration;

use super::health::SignalHealth;
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
    /// The earliest failed look of the runs that brought it down together (or cast doubt).
    pub first_failed: Option<Moment>,
}

/// The signals by which a site is judged.
fn counting<'a>(policy: &'a SitePolicy, signals: &'a [SignalHealth]) -> impl Iterator<Item = (&'a SignalPolicy, &'a SignalHealth)> {
    policy.signals.iter().zip(signals).filter(|(policy, _)| policy.counts)
}

/// Those of them whose health is this one.
fn of<'a>(
    policy: &'a SitePolicy,
    signals: &'a [SignalHealth],
    health: Health,
    now: Moment,
) -> impl Iterator<Item = (&'a SignalPolicy, &'a SignalHealth)> {
    counting(policy, signals).filter(move |(policy, signal)| signal.health(policy, now) == health)
}

/// What the site's rule makes of so many signals that are down and up.
fn ruled(policy: &SitePolicy, down: usize, up: usize) -> Health {
    let known = down + up;
    if known < policy.min_known.max(1) {
        Health::Unknown
    } else if trips(policy, down, known) {
        Health::Down
    } else {
        Health::Up
    }
}

/// Judges a site by its own rule.
pub fn site(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> SiteView {
    let down = || of(policy, signals, Health::Down, now);
    let up = of(policy, signals, Health::Up, now).count();
    let taken = took(policy, down().filter_map(|(_, signal)| signal.first_failed()).collect());
    let doubted = || counting(policy, signals).filter_map(|(_, signal)| signal.first_failed()).min_by_key(|at| at.mono);
    let count = down().count();
    // Who was down and tells nothing any more has not recovered by that.
    let gone = of(policy, signals, Health::Unknown, now).filter(|(_, signal)| signal.was_ill()).count();
    let health = match ruled(policy, count, up) {
        Health::Up if up == 0 || trips(policy, count + gone, count + gone + up) => Health::Unknown,
        health => health,
    };
    SiteView { health, known: count + up, down: count, first_failed: taken.or_else(doubted) }
}

/// True if the site is down by its rule for those signals as well that have seen it for so long: who was blind until a moment
/// ago says nothing of the time before.
pub fn is_down_as_seen(policy: &SitePolicy, signals: &[SignalHealth], length: Duration, now: Moment) -> bool {
    let down = of(policy, signals, Health::Down, now).filter(|(_, signal)| !signal.has_just_seen(length, now)).count();
    ruled(policy, down, of(policy, signals, Health::Up, now).count()) == Health::Down
}

/// True if the site is down by its rule only as long as those signals tell nothing that were well until then.
pub fn rests_on_blindness(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> bool {
    let (down, up) = (of(policy, signals, Health::Down, now).count(), of(policy, signals, Health::Up, now).count());
    let blind = of(policy, signals, Health::Unknown, now).filter(|(_, signal)| signal.was_well()).count();
    ruled(policy, down, up) == Health::Down && ruled(policy, down, up + blind) != Health::Down
}

/// True while a signal that counts was not heard since `awake`, and may yet be: what was known of it is forgotten, and a
/// site that needs all of its signals must not be down by the quickest of them alone.
pub fn is_unheard(policy: &SitePolicy, signals: &[SignalHealth], awake: Moment, now: Moment) -> bool {
    counting(policy, signals)
        .any(|(policy, signal)| signal.fresh(awake).is_none() && now.since(awake) < policy.interval + policy.timeout * 2)
}

/// True if so many signals of those that know something take the site.
fn trips(policy: &SitePolicy, down: usize, known: usize) -> bool {
    down > 0
        && match policy.down_when {
            DownWhen::All => down == known,
            DownWhen::Any => true,
            DownWhen::AtLeast(least) => down >= least,
        }
}

/// Since when the site fails by its rule, be it confirmed or not: what was down all the while that users were served is none
/// of it.
pub fn failing(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> Option<Moment> {
    let is_ill = |signal: &SignalPolicy, health: &SignalHealth| {
        health.health(signal, now) == Health::Down || health.last().is_some_and(|last| last.verdict.health() == Health::Down)
    };
    let ill: Vec<&SignalHealth> =
        counting(policy, signals).filter(|(signal, health)| is_ill(signal, health)).map(|(_, health)| health).collect();
    let up =
        counting(policy, signals).filter(|(signal, health)| !is_ill(signal, health) && health.health(signal, now) == Health::Up).count();
    let starts = ill.iter().filter_map(|health| health.first_failed()).collect();
    trips(policy, ill.len(), ill.len() + up).then(|| took(policy, starts)).flatten()
}

/// The first of the runs that took the site, of those that have brought a signal down. One signal of several that has been
/// down for days did not: what did is the run with which the rule held, and those that began within the time that the
/// slowest signal takes to notice.
fn took(policy: &SitePolicy, mut starts: Vec<Moment>) -> Option<Moment> {
    starts.sort_by_key(|at| at.mono);
    let last = starts.len().checked_sub(1)?;
    let held = starts[match policy.down_when {
        DownWhen::All => last,
        DownWhen::Any => 0,
        DownWhen::AtLeast(least) => least.saturating_sub(1).min(last),
    }];
    let slowest = slowest(policy);
    starts.into_iter().find(|at| held.since(*at) <= slowest)
}

/// The time that the slowest signal takes to notice an outage.
fn slowest(policy: &SitePolicy) -> Duration {
    let notices = |signal: &SignalPolicy| signal.interval * signal.fall.max(1) + signal.timeout;
    policy.signals.iter().filter(|signal| signal.counts).map(notices).max().unwrap_or_default()
}

/// The first failed look of what is down now, if users have not been served since `lost`: some eyes see an outage minutes
/// after the quickest has, and what that one saw was its beginning.
pub fn began(policy: &SitePolicy, signals: &[SignalHealth], lost: Moment, now: Moment) -> Option<Moment> {
    let starts = of(policy, signals, Health::Down, now).filter_map(|(_, signal)| signal.first_failed());
    starts.filter(|at| lost.since(*at) <= slowest(policy)).min_by_key(|at| at.mono)
}

/// `alb down (refused)`, one for each counting signal.
pub fn words(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> Vec<String> {
    counting(policy, signals).map(|(policy, signal)| said(policy, signal, now)).collect()
}

/// True while any counting signal of the site has a bad look that was not outweighed yet.
pub fn in_doubt(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> bool {
    counting(policy, signals).any(|(policy, signal)| signal.in_doubt(policy, now))
}

/// True once every counting signal that is up has had `rise` good looks in a row. What was counted may have been forgotten
/// since it went down, and one good look of a site that answers every other time is no recovery.
pub fn risen(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> bool {
    counting(policy, signals).all(|(policy, signal)| signal.health(policy, now) != Health::Up || signal.counts().1 >= policy.rise)
}

/// The point of a move at which a target is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before anything moves, and before each forward-only step until the data has.
    Start,
    /// The data has moved, the users have not: as at the start, but what tells of the replica has nothing left to say.
    Moved,
    /// Before traffic moves: the replica has become a primary, so its signal has nothing left to say.
    Traffic,
}

/// Every signal that the target requires at this point and that is not good enough, in words. Empty: good to go.
///
/// `outage` is when the other site was first seen failing. A replica loses its source with it: that its link or its lag
/// says so is the outage seen from the other side, and no reason to stay. What it was worth before is the data-loss gate's.
///
/// `told`: which of its signals were known to be well before the outage by what is on record, where this process has not
/// seen them so itself.
///
/// At the start of a move out of an outage, being up by count is not enough: what took the other site may have taken this
/// one as well, and a site that is failing is counted up until it has failed often enough.
pub fn missing(
    policy: &SitePolicy,
    signals: &[SignalHealth],
    point: Point,
    outage: Option<Moment>,
    told: impl Fn(usize) -> bool,
    now: Moment,
) -> Vec<String> {
    let good = |at: usize, policy: &SignalPolicy, signal: &SignalHealth| {
        let up = signal.health(policy, now) == Health::Up;
        let failing = point == Point::Start && !policy.replica && outage.is_some_and(|at| !answered_since(policy, signal, at));
        (up && !failing) || (policy.replica && outage.is_some_and(|outage| orphaned(policy, signal, outage, told(at))))
    };
    let required = required_at(policy, point).into_iter().map(|at| (at, &policy.signals[at], &signals[at]));
    required.filter(|(at, policy, signal)| !good(*at, policy, signal)).map(|(_, policy, signal)| said(policy, signal, now)).collect()
}

/// The latest look was good, and sent since then, or so shortly before that no other was due yet.
fn answered_since(policy: &SignalPolicy, signal: &SignalHealth, outage: Moment) -> bool {
    let soon_enough = |sent: Moment| sent.mono >= outage.mono || outage.since(sent) <= policy.interval;
    signal.last().is_some_and(|last| last.verdict == Verdict::Up && soon_enough(last.sent))
}

/// Well until the outage, as seen or as told by the record, and since then wanting nothing but its source.
fn orphaned(policy: &SignalPolicy, signal: &SignalHealth, outage: Moment, told: bool) -> bool {
    let wants = |verdict: Verdict| {
        matches!(
            verdict,
            Verdict::Up | Verdict::Unknown(Cause::LagUnknown | Cause::Stale | Cause::NoData) | Verdict::Down(Cause::ReplicaError)
        )
    };
    let well = signal.was_up_until(policy, outage) || (told && signal.last_up().is_none());
    well && signal.last().is_some_and(|last| wants(last.verdict))
}

/// Places of the signals that are judged at this point.
pub fn required_at(policy: &SitePolicy, point: Point) -> Vec<usize> {
    let judged = |signal: &SignalPolicy| match (point, signal.required) {
        (_, Required::Never) => false,
        (Point::Start, required) => required == Required::Start,
        (Point::Moved, required) => required == Required::Start && !signal.replica,
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
    let out = |policy: &SignalPolicy, signal: &SignalHealth| {
        signal.fresh(since).is_none() && now.since(since) < policy.timeout * 2 + policy.fast_interval
    };
    if counting(policy, signals).any(|(policy, signal)| out(policy, signal)) {
        return None;
    }
    Some(match site(policy, signals, now).health {
        Health::Up => Problem::Gone,
        Health::Unknown => Problem::Unclear,
        Health::Down if wavers(policy, signals, now) => Problem::Wavers,
        Health::Down => Problem::Persists,
    })
}

/// True if the latest look that told contradicts a run that has brought a counting signal down. A rate that still
/// stands is not contradicted by one look.
pub fn wavers(policy: &SitePolicy, signals: &[SignalHealth], now: Moment) -> bool {
    of(policy, signals, Health::Down, now).any(|(policy, signal)| signal.wavers(policy))
}

/// True if what is down now was seen up at `since` or after.
pub fn answered(policy: &SitePolicy, signals: &[SignalHealth], since: Moment, now: Moment) -> bool {
    of(policy, signals, Health::Down, now).any(|(_, signal)| signal.last_up().is_some_and(|up| up.mono >= since.mono))
}

/// `alb down (refused: …)`, or `alb up, last look down (timed-out: …)`: the settled health, and the latest look where it differs.
fn said(policy: &SignalPolicy, signal: &SignalHealth, now: Moment) -> String {
    let health = signal.health(policy, now);
    match signal.last() {
        None => format!("{} {health} (not looked at yet)", policy.name),
        Some(last) if last.detail.is_empty() || last.verdict.cause().is_none() => format!("{} {health}", policy.name),
        Some(last) => {
            let cause = last.verdict.cause().map(|cause| cause.as_str()).unwrap_or_default();
            let latest = last.verdict.health();
            // One bad look is no state: said as what it is, and not as the reason for the state that it contradicts.
            let of = if latest == health { String::new() } else { format!(", last look {latest}") };
            format!("{} {health}{of} ({cause}: {})", policy.name, last.detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{self, at};
    use crate::domain::model::Cause;

    const UP: Verdict = Verdict::Up;
    const DOWN: Verdict = Verdict::Down(Cause::Refused);
    const BLIND: Verdict = Verdict::Unknown(Cause::ResolverTimeout);

    fn signal(name: &str, required: Required) -> SignalPolicy {
        SignalPolicy { required, ..fixtures::signal(name, false) }
    }

    fn sites(down_when: DownWhen, min_known: usize) -> SitePolicy {
        let signals = ["a", "b", "c"].map(|name| signal(name, Required::Start)).to_vec();
        SitePolicy { region: "ap-south-1".into(), down_when, min_known, signals }
    }

    #[test]
    fn a_target_that_began_to_fail_with_the_outage_is_not_good_enough() {
        let policy = sites(DownWhen::All, 1);
        let with = |last: &[Verdict]| {
            let looks = [&[UP; 6], last].concat();
            policy.signals.iter().map(|policy| health(policy, &looks)).collect::<Vec<_>>()
        };
        let found = |signals: &[SignalHealth], point, outage| missing(&policy, signals, point, outage, |_| false, at(8)).len();
        let failing = with(&[DOWN, DOWN]);
        assert_eq!(found(&failing, Point::Start, Some(at(7))), 3, "counted up, and failing");
        assert_eq!(found(&failing, Point::Start, None), 0, "no outage: the count alone decides");
        assert_eq!(found(&with(&[UP, UP]), Point::Start, Some(at(7))), 0);
        assert_eq!(found(&with(&[]), Point::Start, Some(at(7))), 0, "no look was due since");
        assert_eq!(found(&with(&[]), Point::Start, Some(at(8))), 3, "one was due since, and is out");
    }

    /// One look of that kind a second, from second 1.
    fn health(policy: &SignalPolicy, verdicts: &[Verdict]) -> SignalHealth {
        let mut health = SignalHealth::default();
        for (second, verdict) in verdicts.iter().enumerate() {
            let sent = at(second as i64 + 1);
            health.observe(policy, sent, sent, *verdict, "test");
        }
        health
    }

    fn three(policy: &SitePolicy, verdicts: [Verdict; 3]) -> Vec<SignalHealth> {
        policy.signals.iter().zip(verdicts).map(|(policy, verdict)| health(policy, &[verdict; 6])).collect()
    }

    #[test]
    fn a_site_is_down_by_its_rule_over_the_signals_that_know_something() {
        let cases = [
            (DownWhen::All, 1, [DOWN, DOWN, DOWN], Health::Down),
            (DownWhen::All, 1, [DOWN, DOWN, UP], Health::Up),
            (DownWhen::All, 1, [DOWN, BLIND, BLIND], Health::Down),
            (DownWhen::All, 2, [DOWN, BLIND, BLIND], Health::Unknown),
            (DownWhen::Any, 1, [DOWN, UP, UP], Health::Down),
            (DownWhen::Any, 1, [BLIND, UP, UP], Health::Up),
            (DownWhen::AtLeast(2), 1, [DOWN, DOWN, UP], Health::Down),
            (DownWhen::AtLeast(2), 1, [DOWN, BLIND, UP], Health::Up),
            // A minimum of nothing known would be a verdict on ignorance.
            (DownWhen::Any, 0, [BLIND, BLIND, BLIND], Health::Unknown),
        ];
        for (rule, min_known, verdicts, expected) in cases {
            let policy = sites(rule, min_known);
            let view = site(&policy, &three(&policy, verdicts), at(6));
            assert_eq!(view.health, expected, "{rule:?} {min_known} {verdicts:?}: {view:?}");
        }
    }

    #[test]
    fn a_site_that_only_the_blindness_of_a_well_signal_takes_is_told_apart() {
        let went_blind = [UP, UP, BLIND, BLIND, BLIND, BLIND];
        let cases: [(DownWhen, [&[Verdict]; 3], bool); 6] = [
            (DownWhen::All, [&[DOWN; 6], &went_blind, &went_blind], true),
            (DownWhen::All, [&[DOWN; 6], &went_blind, &[DOWN; 6]], true),
            (DownWhen::All, [&[DOWN; 6], &[BLIND; 6], &[BLIND; 6]], false),
            (DownWhen::All, [&[DOWN; 6], &went_blind, &[UP; 6]], false),
            (DownWhen::Any, [&[DOWN; 6], &went_blind, &[UP; 6]], false),
            (DownWhen::AtLeast(2), [&[DOWN; 6], &went_blind, &[DOWN; 6]], false),
        ];
        for (rule, verdicts, expected) in cases {
            let policy = sites(rule, 1);
            let signals: Vec<SignalHealth> = policy.signals.iter().zip(verdicts).map(|(policy, looks)| health(policy, looks)).collect();
            assert_eq!(rests_on_blindness(&policy, &signals, at(6)), expected, "{rule:?} {verdicts:?}");
        }
        // One bad look more of what saw nothing for a while is not enough to count it among those that failed.
        let policy = sites(DownWhen::All, 1);
        let mut signals = three(&policy, [DOWN, DOWN, DOWN]);
        signals[2] = health(&policy.signals[2], &[UP, BLIND, BLIND, BLIND, BLIND, DOWN]);
        assert!(rests_on_blindness(&policy, &signals, at(6)));
        // Behind a standstill of ours what was settled is forgotten, and the last good look is not.
        let mut signals = three(&policy, [DOWN, UP, DOWN]);
        signals[1].forget();
        assert!(rests_on_blindness(&policy, &signals, at(6)));
        signals[1].observe(&policy.signals[1], at(7), at(7), DOWN, "test");
        assert!(!rests_on_blindness(&policy, &signals, at(7)));
    }

    #[test]
    fn the_earliest_failed_look_is_that_of_a_signal_that_is_down() {
        let policy = sites(DownWhen::Any, 1);
        let signals = vec![
            health(&policy.signals[0], &[UP, DOWN, DOWN, DOWN]),
            health(&policy.signals[1], &[DOWN, UP, UP, DOWN]),
            health(&policy.signals[2], &[UP; 4]),
        ];
        let view = site(&policy, &signals, at(4));
        assert_eq!((view.health, view.down, view.known), (Health::Down, 1, 2), "one wavers, and is not known yet: {view:?}");
        assert_eq!(view.first_failed, Some(at(2)));
    }

    #[test]
    fn the_clock_starts_with_the_runs_that_took_the_site_and_not_with_one_that_was_down_long_before() {
        let first_failed = |rule, starts: [i64; 3]| {
            let policy = sites(rule, 1);
            let looks = |start: i64| (1..=60).map(|second| if second < start { UP } else { DOWN }).collect::<Vec<_>>();
            let signals: Vec<_> = policy.signals.iter().zip(starts).map(|(policy, start)| health(policy, &looks(start))).collect();
            site(&policy, &signals, at(60)).first_failed
        };
        assert_eq!(first_failed(DownWhen::All, [5, 50, 52]), Some(at(50)), "the slowest notices within 3.8 s");
        assert_eq!(first_failed(DownWhen::All, [5, 49, 52]), Some(at(49)));
        assert_eq!(first_failed(DownWhen::All, [5, 48, 52]), Some(at(52)));
        assert_eq!(first_failed(DownWhen::All, [5, 40, 52]), Some(at(52)));
        assert_eq!(first_failed(DownWhen::AtLeast(2), [5, 52, 54]), Some(at(52)));
        assert_eq!(first_failed(DownWhen::Any, [5, 52, 54]), Some(at(5)));
    }

    #[test]
    fn a_site_fails_from_its_first_bad_look_on_by_the_signals_that_know_something() {
        let policy = sites(DownWhen::All, 1);
        let since = |looks: [&[Verdict]; 3]| {
            let signals: Vec<_> = policy.signals.iter().zip(looks).map(|(policy, looks)| health(policy, looks)).collect();
            failing(&policy, &signals, at(4))
        };
        assert_eq!(since([&[UP, UP, UP, DOWN]; 3]), Some(at(4)), "no run is long enough yet");
        assert_eq!(since([&[DOWN, DOWN, DOWN, BLIND]; 3]), Some(at(1)), "down, and unseen since");
        assert_eq!(since([&[UP, UP, UP, DOWN], &[BLIND; 4], &[BLIND; 4]]), Some(at(4)), "who sees nothing does not say that it is well");
        assert_eq!(since([&[UP, UP, UP, DOWN], &[UP; 4], &[BLIND; 4]]), None);
    }

    #[test]
    fn whoever_has_just_woken_hears_every_eye_first_as_long_as_its_look_may_take() {
        let policy = sites(DownWhen::All, 1);
        let signals: Vec<_> = policy.signals.iter().map(|policy| health(policy, &[DOWN; 4])).collect();
        let unheard = |signals: &[SignalHealth], awake: i64, now: i64| is_unheard(&policy, signals, at(awake), at(now));
        assert!(!unheard(&signals, 4, 4), "the look of this very moment");
        assert!(unheard(&signals, 5, 5));
        // A second between looks, and 800 ms each for two.
        assert!(unheard(&signals, 5, 7) && !unheard(&signals, 5, 8));
        let mut one = signals.clone();
        one[1] = health(&policy.signals[1], &[DOWN; 5]);
        one[2] = health(&policy.signals[2], &[DOWN; 5]);
        assert!(unheard(&one, 5, 6), "one of three is out");
        one[0] = one[1].clone();
        assert!(!unheard(&one, 5, 6));
    }

    #[test]
    fn who_was_blind_until_a_moment_ago_says_nothing_of_the_time_before() {
        let seen = |rule, looks: [&[Verdict]; 3], length: u64| {
            let policy = sites(rule, 1);
            let signals: Vec<_> = policy.signals.iter().zip(looks).map(|(policy, looks)| health(policy, looks)).collect();
            is_down_as_seen(&policy, &signals, Duration::from_secs(length), at(8))
        };
        let steady: &[Verdict] = &[UP, UP, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN];
        // Sees again since second 7.
        let blind: &[Verdict] = &[DOWN, DOWN, DOWN, BLIND, BLIND, BLIND, DOWN, DOWN];
        assert!(seen(DownWhen::All, [steady; 3], 3));
        assert!(!seen(DownWhen::All, [blind; 3], 2) && seen(DownWhen::All, [blind; 3], 1));
        assert!(seen(DownWhen::All, [steady, blind, blind], 3), "of two who know nothing nobody is asked");
        assert!(seen(DownWhen::AtLeast(1), [steady, blind, &[UP; 8]], 3));
        assert!(!seen(DownWhen::AtLeast(2), [steady, blind, &[UP; 8]], 3));
        assert!(!seen(DownWhen::Any, [&[UP; 8]; 3], 3));
        // Two blind looks are no blindness.
        assert!(seen(DownWhen::All, [&[UP, DOWN, DOWN, DOWN, BLIND, BLIND, DOWN, DOWN]; 3], 3));
    }

    #[test]
    fn an_outage_began_with_the_quickest_of_its_eyes_once_users_were_not_served() {
        let policy = sites(DownWhen::All, 1);
        let looks = |start: i64| (1..=60).map(|second| if second < start { UP } else { DOWN }).collect::<Vec<_>>();
        let since = |starts: [i64; 3], lost: i64| {
            let signals: Vec<_> = policy.signals.iter().zip(starts).map(|(policy, start)| health(policy, &looks(start))).collect();
            began(&policy, &signals, at(lost), at(60))
        };
        assert_eq!(since([20, 50, 61], 21), Some(at(20)));
        assert_eq!(since([20, 50, 61], 23), Some(at(20)), "the slowest notices within 3.8 s");
        assert_eq!(since([20, 50, 61], 24), Some(at(50)), "it was down long before users were not served");
        assert_eq!(since([61, 61, 61], 24), None);
    }

    #[test]
    fn a_signal_that_does_not_count_neither_trips_nor_casts_doubt() {
        let mut policy = sites(DownWhen::Any, 1);
        policy.signals[0].counts = false;
        let signals = three(&policy, [DOWN, UP, UP]);
        assert_eq!(site(&policy, &signals, at(6)).health, Health::Up);
        assert!(!in_doubt(&policy, &signals, at(6)));
    }

    #[test]
    fn silence_ends_what_is_known() {
        let policy = sites(DownWhen::All, 1);
        let signals = three(&policy, [DOWN, DOWN, DOWN]);
        assert_eq!(site(&policy, &signals, at(6)).health, Health::Down);
        assert_eq!(site(&policy, &signals, at(60)).health, Health::Unknown);
    }

    #[test]
    fn a_target_needs_every_signal_of_the_point() {
        let mut policy = sites(DownWhen::All, 1);
        policy.signals = vec![signal("app", Required::Traffic), signal("replica", Required::Start), signal("extra", Required::Never)];
        policy.signals[1].replica = true;
        assert_eq!(required_at(&policy, Point::Start), [1]);
        assert_eq!(required_at(&policy, Point::Traffic), [0]);
        let pilot_light = three(&policy, [DOWN, UP, DOWN]);
        assert!(missing(&policy, &pilot_light, Point::Start, None, |_| false, at(6)).is_empty());
        assert_eq!(missing(&policy, &pilot_light, Point::Traffic, None, |_| false, at(6)).len(), 1);
        let promoted = three(&policy, [UP, DOWN, DOWN]);
        assert!(
            missing(&policy, &promoted, Point::Traffic, None, |_| false, at(6)).is_empty(),
            "a replica that became a primary has nothing left to say"
        );
        let orphan = three(&policy, [UP, BLIND, UP]).into_iter().enumerate().map(|(at, one)| {
            let lag = [Verdict::Unknown(Cause::LagUnknown); 3];
            if at == 1 { health(&policy.signals[1], &lag) } else { one }
        });
        let orphan: Vec<_> = orphan.collect();
        let found = |told: bool, outage| missing(&policy, &orphan, Point::Start, outage, |at| told && at == 1, at(3)).len();
        assert_eq!((found(true, Some(at(1))), found(false, Some(at(1))), found(true, None)), (0, 1, 1), "told to have been well before");
        let blind = three(&policy, [UP, BLIND, UP]);
        assert_eq!(missing(&policy, &blind, Point::Start, None, |_| false, at(6)).len(), 1, "unknown is not good enough to go to");
    }

    #[test]
    fn a_second_look_waits_for_looks_sent_since_and_then_says_what_they_say() {
        let mut policy = sites(DownWhen::All, 1);
        policy.signals.truncate(1);
        let look =
            |verdicts: &[Verdict], since: i64, now: i64| second_look(&policy, &[health(&policy.signals[0], verdicts)], at(since), at(now));
        assert_eq!(look(&[DOWN; 4], 5, 5), None, "nothing was sent since");
        assert_eq!(look(&[DOWN; 4], 5, 6), None, "a look may take its time twice");
        assert_eq!(look(&[DOWN; 4], 4, 4), Some(Problem::Persists));
        assert_eq!(look(&[DOWN, DOWN, DOWN, UP], 4, 4), Some(Problem::Wavers));
        assert_eq!(look(&[DOWN, DOWN, DOWN, UP, UP, UP, UP, UP], 8, 8), Some(Problem::Gone));
        assert_eq!(look(&[DOWN, DOWN, DOWN, BLIND, BLIND, BLIND], 6, 6), Some(Problem::Unclear));
        assert_eq!(look(&[DOWN; 4], 5, 60), Some(Problem::Unclear), "looks that never come back are no reason to wait for ever");
    }
}
