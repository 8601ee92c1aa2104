//! From looks to health: runs, a windowed rate, and what we no longer know.
//!
//! A run trips fast on a dead site; the rate trips on a half-dead one, which a run never would. `unknown` moves
//! neither; enough of it in a row says that the signal itself is blind.

use std::collections::VecDeque;
use std::time::Duration;

use super::model::{Finding, Health, Look, Moment, Verdict};
use super::policy::{SignalPolicy, Window};

/// Which of the two ways a signal went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trip {
    Run,
    Rate,
}

/// How long a signal without a window of its own remembers a single bad look.
const DOUBT: Duration = Duration::from_secs(60);

/// One signal's debounced health.
#[derive(Debug, Clone)]
pub struct SignalHealth {
    settled: Health,
    trip: Option<Trip>,
    downs: u32,
    ups: u32,
    unknowns: u32,
    /// Looks since the last good one.
    unwell: u32,
    /// The first failed look of the window in which the rate tripped: that window moves on, and the outage does not.
    rated_since: Option<Moment>,
    /// When the last outage that was one run was over: single bad looks behind it are not weighed with those of before.
    well_since: Option<Moment>,
    run_started: Option<Moment>,
    last_down: Option<Moment>,
    doubted: bool,
    window: VecDeque<Weighted>,
    last: Option<Last>,
    last_up: Option<Moment>,
    /// The first look that told after a time in which none did.
    sees_since: Option<Moment>,
    /// The dated evidence that counted last, and what it said.
    evidence: Option<(i64, Health)>,
}

/// A counted look in the window. Its weight is the time it stands for, so that fast looks do not outvote slow ones.
#[derive(Debug, Clone, Copy)]
struct Weighted {
    sent: Moment,
    /// When the run was begun that it belongs to, which may lie before the window.
    run: Moment,
    down: bool,
    weight: Duration,
}

/// The latest look of any verdict.
#[derive(Debug, Clone)]
pub struct Last {
    /// When it was sent.
    pub sent: Moment,
    /// When its answer was known.
    pub done: Moment,
    /// What it said.
    pub verdict: Verdict,
    /// In words.
    pub detail: String,
}

impl Default for SignalHealth {
    fn default() -> Self {
        SignalHealth {
            settled: Health::Unknown,
            trip: None,
            downs: 0,
            ups: 0,
            unknowns: 0,
            unwell: 0,
            rated_since: None,
            well_since: None,
            run_started: None,
            last_down: None,
            doubted: false,
            window: VecDeque::new(),
            last: None,
            last_up: None,
            sees_since: None,
            evidence: None,
        }
    }
}

impl SignalHealth {
    /// Takes one look in, and counts it unless it read the very evidence that the last counted one rested on.
    ///
    /// Reading a datapoint again proves neither that it was right nor that it is over; it only shows that we still see, and
    /// keeps the doubt alive that a bad one has cast.
    pub fn take(&mut self, policy: &SignalPolicy, look: &Look) {
        let Finding { verdict, detail, evidence, .. } = &look.finding;
        let said = evidence.map(|at| (at, verdict.health())).filter(|(_, health)| *health != Health::Unknown);
        let repeats = matches!((self.evidence, said), (Some((old, was)), Some((new, is))) if new <= old && is == was);
        if !repeats {
            if !self.overtaken(look.sent) {
                self.evidence = said.or(self.evidence);
            }
            return self.observe(policy, look.sent, look.done, *verdict, detail);
        }
        if self.overtaken(look.sent) {
            return;
        }
        match verdict.health() {
            Health::Down => {
                // The same datapoint again is no look more; but of the time in which nothing was read nobody knows.
                if self.stale(policy, look.sent) {
                    self.unwell = policy.fall;
                }
                self.last_down = Some(look.sent);
            }
            Health::Up => {
                self.unwell = 0;
                self.last_up = Some(look.sent);
            }
            Health::Unknown => {}
        }
        self.unknowns = 0;
        self.last = Some(Last { sent: look.sent, done: look.done, verdict: *verdict, detail: detail.clone() });
    }

    /// True if a look that was sent later is already in.
    fn overtaken(&self, sent: Moment) -> bool {
        self.last.as_ref().is_some_and(|last| sent.mono < last.sent.mono)
    }

    /// Takes one look in. Looks must come in the order they were sent; an older one than the last is dropped.
    pub fn observe(&mut self, policy: &SignalPolicy, sent: Moment, done: Moment, verdict: Verdict, detail: &str) {
        if self.overtaken(sent) {
            return;
        }
        self.weigh(policy, sent, verdict);
        if verdict.health() != Health::Unknown && (self.unknowns >= policy.fall.max(1) || self.stale(policy, sent)) {
            self.sees_since = Some(sent);
        }
        self.unwell = match verdict {
            Verdict::Up => 0,
            _ if self.stale(policy, sent) => policy.fall,
            _ => self.unwell.saturating_add(1),
        };
        self.last = Some(Last { sent, done, verdict, detail: detail.to_owned() });
        match verdict {
            Verdict::Unknown(_) => self.unknowns = self.unknowns.saturating_add(1),
            Verdict::Down(_) => self.count_down(policy, sent),
            Verdict::Up => self.count_up(policy),
        }
    }

    /// True if it was not looked at for so long that nothing is known of it any more.
    fn stale(&self, policy: &SignalPolicy, now: Moment) -> bool {
        let patience = policy.interval * 3 + policy.timeout;
        self.last.as_ref().is_none_or(|last| now.since(last.done) > patience)
    }

    fn count_down(&mut self, policy: &SignalPolicy, sent: Moment) {
        self.unknowns = 0;
        self.ups = 0;
        self.downs = self.downs.saturating_add(1);
        self.run_started.get_or_insert(sent);
        self.last_down = Some(sent);
        self.doubted = true;
        // A site that goes on failing between good looks is lost by its rate, though each of its runs is broken before an
        // outage is old enough; a run that nothing breaks is over with its first `rise` good looks. One that comes back soon
        // is weighed with those before it, whatever was good in between.
        let again = self.downs == policy.fall && self.trip.is_none() && self.rate_trips(policy.window, None);
        let broken = self.downs < policy.fall && self.rate_trips(policy.window, self.well_since);
        let tripped = if self.trip == Some(Trip::Rate) || again || broken {
            Some(Trip::Rate)
        } else {
            Some(Trip::Run).filter(|_| self.downs >= policy.fall)
        };
        if tripped == Some(Trip::Rate) && self.trip != tripped {
            let since = self.well_since.filter(|_| !again);
            let rated = self.weighed(since).find(|look| look.down).map(|look| look.run);
            self.rated_since = rated.into_iter().chain(self.run_started).min_by_key(|at| at.mono);
        }
        if tripped.is_some() {
            self.settled = Health::Down;
            self.trip = tripped;
        }
    }

    fn count_up(&mut self, policy: &SignalPolicy) {
        self.last_up = self.last.as_ref().map(|last| last.sent);
        self.unknowns = 0;
        self.downs = 0;
        self.run_started = None;
        self.ups = self.ups.saturating_add(1);
        if self.settled == Health::Unknown && !self.doubted {
            self.settled = Health::Up;
        }
        if self.ups < policy.rise {
            return;
        }
        match self.trip {
            // A rate is only outvoted by time: a lucky run of good looks is what a half-dead site shows, too.
            Some(Trip::Rate) if self.rate_trips(policy.window, None) => {}
            Some(Trip::Run) => {
                self.well_since = self.last_up;
                self.recover();
            }
            Some(Trip::Rate) | None => self.recover(),
        }
    }

    fn recover(&mut self) {
        self.rated_since = None;
        self.settled = Health::Up;
        self.trip = None;
        self.doubted = false;
    }

    fn weigh(&mut self, policy: &SignalPolicy, sent: Moment, verdict: Verdict) {
        let Some(window) = policy.window else { return };
        let longest = policy.interval + policy.timeout;
        let weight = self.last.as_ref().map_or(policy.interval, |last| sent.since(last.sent)).min(longest);
        if verdict.health() != Health::Unknown {
            let run = self.run_started.unwrap_or(sent);
            self.window.push_back(Weighted { sent, run, down: verdict.health() == Health::Down, weight });
        }
        while self.window.front().is_some_and(|old| sent.since(old.sent) > window.span) {
            self.window.pop_front();
        }
    }

    /// The looks of the window that were sent behind that moment.
    fn weighed(&self, since: Option<Moment>) -> impl Iterator<Item = &Weighted> {
        self.window.iter().filter(move |look| since.is_none_or(|since| look.sent.mono > since.mono))
    }

    fn rate_trips(&self, window: Option<Window>, since: Option<Moment>) -> bool {
        window.is_some_and(|window| self.weighed(since).count() >= window.min_looks && self.rate_since(since) >= window.down_rate)
    }

    /// Share of the looked-at time within the window that was down, 0 to 1.
    pub fn rate(&self) -> f64 {
        self.rate_since(None)
    }

    fn rate_since(&self, since: Option<Moment>) -> f64 {
        let all: f64 = self.weighed(since).map(|look| look.weight.as_secs_f64()).sum();
        let down: f64 = self.weighed(since).filter(|look| look.down).map(|look| look.weight.as_secs_f64()).sum();
        if all > 0.0 { down / all } else { 0.0 }
    }

    /// The health as of `now`: what is settled, unless we have gone blind since. What was well and has not answered well for
    /// `fall` looks, some ill and some unknown, is not known to be well any more.
    pub fn health(&self, policy: &SignalPolicy, now: Moment) -> Health {
        let fall = policy.fall.max(1);
        let blind = self.unknowns >= fall || (self.settled == Health::Up && self.unwell >= fall);
        if blind || self.stale(policy, now) { Health::Unknown } else { self.settled }
    }

    /// When the first failed look of what brought the signal down was sent.
    pub fn first_failed(&self) -> Option<Moment> {
        match self.trip {
            None => self.run_started,
            Some(Trip::Run) => self.run_started.or(self.last_down),
            Some(Trip::Rate) => self.rated_since,
        }
    }

    /// True from a counted `down` until `rise` good looks in a row, or until the bad look is too old to mean anything.
    pub fn in_doubt(&self, policy: &SignalPolicy, now: Moment) -> bool {
        let memory = policy.window.map_or(DOUBT, |window| window.span.max(DOUBT));
        self.health(policy, now) == Health::Down || (self.doubted && self.last_down.is_some_and(|at| now.since(at) < memory))
    }

    /// True if it was well when it was last seen, and what brought it down is contradicted by that: a run, or a rate that has
    /// faded meanwhile, or lost its floor of evidence, or has had `rise` good looks since: a whole outage stands in the window
    /// for long after it is over. What was not seen since outvotes nothing.
    pub fn wavers(&self, policy: &SignalPolicy) -> bool {
        let contradicted = match self.trip {
            None => false,
            Some(Trip::Run) => true,
            Some(Trip::Rate) => self.ups >= policy.rise || !self.rate_trips(policy.window, None),
        };
        contradicted && self.run_started.is_none()
    }

    /// Consecutive `down`, `up` and `unknown` looks.
    pub fn counts(&self) -> (u32, u32, u32) {
        (self.downs, self.ups, self.unknowns)
    }

    /// The latest look.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// True if for less than so long a time its looks have told anything, after a time in which none did: what it says now is
    /// as new as if it had just begun to look.
    pub fn has_just_seen(&self, length: Duration, now: Moment) -> bool {
        self.sees_since.is_some_and(|at| now.since(at) < length)
    }

    /// When the latest good look was sent.
    pub fn last_up(&self) -> Option<Moment> {
        self.last_up
    }

    /// True of one that was down when it was last known.
    pub fn was_ill(&self) -> bool {
        self.settled == Health::Down
    }

    /// True of one that was well, and has not failed often enough since to be down: behind a standstill of ours, if its last
    /// look that told anything was good.
    pub fn was_well(&self) -> bool {
        let good = || self.last_up.is_some_and(|up| self.last_down.is_none_or(|down| down.mono < up.mono));
        self.settled == Health::Up || (self.settled == Health::Unknown && good())
    }

    /// True if the last look before `at` was good: what went wrong since may be what went wrong there.
    pub fn was_up_until(&self, policy: &SignalPolicy, at: Moment) -> bool {
        self.last_up.is_some_and(|up| up.mono >= at.mono || at.since(up) <= policy.interval * 2 + policy.timeout)
    }

    /// The latest look, if it was sent at or after `since`.
    pub fn fresh(&self, since: Moment) -> Option<&Last> {
        self.last.as_ref().filter(|last| last.sent.mono >= since.mono)
    }

    /// Our own loop had a gap: what was counted across it proves nothing. What was settled must be earned again.
    pub fn forget(&mut self) {
        *self = SignalHealth { last: self.last.take(), last_up: self.last_up, ..SignalHealth::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::signal;
    use crate::domain::model::Cause;

    fn policy() -> SignalPolicy {
        let window = Window { span: Duration::from_secs(90), down_rate: 0.5, min_looks: 20 };
        SignalPolicy { window: Some(window), ..signal("alb", false) }
    }

    fn at(millis: i64) -> Moment {
        Moment { mono: millis * 1000, wall: millis * 1000 }
    }

    /// Feeds looks a second apart: `.` up, `x` down, `?` unknown. Returns the health after the last.
    fn feed(signal: &mut SignalHealth, from: i64, looks: &str) -> (Health, i64) {
        let mut now = from;
        for look in looks.chars() {
            let verdict = match look {
                '.' => Verdict::Up,
                'x' => Verdict::Down(Cause::Refused),
                _ => Verdict::Unknown(Cause::NoRoute),
            };
            signal.observe(&policy(), at(now), at(now + 10), verdict, "");
            now += 1000;
        }
        (signal.health(&policy(), at(now - 900)), now)
    }

    #[test]
    fn fall_downs_in_a_row_trip_and_rise_ups_bring_it_back() {
        let mut signal = SignalHealth::default();
        assert_eq!(feed(&mut signal, 0, ".....xx").0, Health::Up);
        assert_eq!(feed(&mut signal, 7000, "x").0, Health::Down);
        assert_eq!(signal.first_failed(), Some(at(5000)));
        assert_eq!(feed(&mut signal, 8000, "....").0, Health::Down);
        assert_eq!(feed(&mut signal, 12_000, ".").0, Health::Up);
        assert!(!signal.in_doubt(&policy(), at(12_100)));
    }

    #[test]
    fn unknown_counts_for_nothing_and_a_run_of_it_is_blindness() {
        let mut signal = SignalHealth::default();
        assert_eq!(feed(&mut signal, 0, "..x?").0, Health::Up);
        assert_eq!(feed(&mut signal, 4000, "x").0, Health::Unknown, "not lost yet, and not well for three looks");
        assert_eq!(feed(&mut signal, 5000, "x").0, Health::Down);
        assert_eq!(feed(&mut signal, 6000, "???").0, Health::Unknown);
        assert_eq!(feed(&mut signal, 9000, "x").0, Health::Down);
    }

    #[test]
    fn whoever_was_blind_does_not_know_it_well_by_a_bad_look() {
        for (looks, health) in [
            ("..???x", Health::Unknown),
            ("..???x.", Health::Up),
            ("..x??", Health::Unknown),
            ("..x??.", Health::Up),
            ("..?x?", Health::Unknown),
            ("..???xxx", Health::Down),
            ("..???.", Health::Up),
            ("..?x", Health::Up),
            ("xxx???.", Health::Down),
        ] {
            assert_eq!(feed(&mut SignalHealth::default(), 0, looks).0, health, "{looks}");
        }
        let mut signal = SignalHealth::default();
        feed(&mut signal, 0, "..");
        assert_eq!(feed(&mut signal, 60_000, "x").0, Health::Unknown, "nothing was seen for a minute");
    }

    #[test]
    fn a_brown_out_trips_by_rate_and_only_with_enough_evidence() {
        let mut signal = SignalHealth::default();
        let (health, now) = feed(&mut signal, 0, "xx.xx.xx.xx.xx.xx.");
        assert_eq!(health, Health::Unknown, "a cold start in a brown-out says nothing yet");
        let (health, now) = feed(&mut signal, now, "xx.xx.");
        assert_eq!((health, signal.trip), (Health::Down, Some(Trip::Rate)));
        let (health, _) = feed(&mut signal, now, ".....");
        assert_eq!(health, Health::Down, "a lucky run does not outvote the rate: {}", signal.rate());
    }

    #[test]
    fn what_outlasts_the_window_of_its_rate_keeps_its_start() {
        let mut signal = SignalHealth::default();
        let (_, now) = feed(&mut signal, 0, "xx.xx.xx.xx.xx.xx.xx.xx.");
        assert_eq!((signal.trip, signal.first_failed()), (Some(Trip::Rate), Some(at(0))));
        feed(&mut signal, now, &"x".repeat(120));
        assert_eq!((signal.trip, signal.first_failed()), (Some(Trip::Rate), Some(at(0))), "though its window began later");
    }

    #[test]
    fn a_brown_out_ends_when_the_rate_has_fallen_and_looks_are_good() {
        let mut signal = SignalHealth::default();
        let (health, now) = feed(&mut signal, 0, "xx.xx.xx.xx.xx.xx.xx.xx.");
        assert_eq!((health, signal.trip), (Health::Down, Some(Trip::Rate)));
        let (health, _) = feed(&mut signal, now, &".".repeat(30));
        assert_eq!((health, signal.trip), (Health::Up, None), "{}", signal.rate());
    }

    #[test]
    fn a_rate_is_contradicted_by_a_good_look_once_its_evidence_has_gone() {
        let mut signal = SignalHealth::default();
        let (health, now) = feed(&mut signal, 0, "xx.xx.xx.xx.xx.xx.xx.");
        assert_eq!((health, signal.trip, signal.wavers(&policy())), (Health::Down, Some(Trip::Rate), false), "the rate stands");
        // A resolver is silent for a minute and a half: nothing of the window is left, and nothing has told since.
        let (_, now) = feed(&mut signal, now, &"?".repeat(95));
        assert!(signal.wavers(&policy()), "it was well when it was last seen");
        let (health, now) = feed(&mut signal, now, ".");
        assert_eq!((health, signal.wavers(&policy())), (Health::Down, true), "one good look is no recovery, and no outage");
        let (_, now) = feed(&mut signal, now, "x");
        assert!(!signal.wavers(&policy()), "it fails again");
        let (health, _) = feed(&mut signal, now, ".....");
        assert_eq!(health, Health::Up);
    }

    #[test]
    fn a_run_that_is_broken_again_and_again_trips_by_its_rate() {
        let mut signal = SignalHealth::default();
        let (_, now) = feed(&mut signal, 0, "..........");
        let (health, now) = feed(&mut signal, now, "xxx.xxx.");
        assert_eq!((health, signal.trip, signal.wavers(&policy())), (Health::Down, Some(Trip::Run), true));
        let (health, now) = feed(&mut signal, now, "xxx.xxx.xxx.xxx.");
        assert_eq!((health, signal.trip, signal.wavers(&policy())), (Health::Down, Some(Trip::Rate), false));
        // Then it is dead as a whole, which no run makes a run of again.
        let (_, now) = feed(&mut signal, now, "xxxxx");
        assert_eq!(signal.trip, Some(Trip::Rate));
        assert_eq!(feed(&mut signal, now, &".".repeat(80)).0, Health::Up);
    }

    #[test]
    fn runs_that_come_back_again_and_again_are_weighed_together_and_a_blip_behind_an_outage_is_not() {
        let mut signal = SignalHealth::default();
        let (_, mut now) = feed(&mut signal, 0, &".".repeat(30));
        let mut trips = Vec::new();
        for _ in 0..5 {
            now = feed(&mut signal, now, "xxxxxxxxxxxx").1;
            trips.push((signal.trip, signal.first_failed()));
            now = feed(&mut signal, now, ".....").1;
        }
        let run = |second: i64| (Some(Trip::Run), Some(at(second * 1000)));
        let rate = (Some(Trip::Rate), Some(at(30_000)));
        assert_eq!(trips, [run(30), run(47), run(64), run(81), rate], "and the last is as old as the first");
        assert_eq!(signal.health(&policy(), at(now - 900)), Health::Down, "five good looks do not outvote a rate");

        let mut signal = SignalHealth::default();
        let (_, now) = feed(&mut signal, 0, &"x".repeat(60));
        let (health, now) = feed(&mut signal, now, &".".repeat(22));
        assert_eq!(health, Health::Up, "a run is over with its good looks");
        assert_eq!(feed(&mut signal, now, "xx").0, Health::Up, "though most of the window was down");
        let (health, now) = feed(&mut signal, now + 2000, "x");
        assert_eq!((health, signal.trip, signal.first_failed()), (Health::Down, Some(Trip::Rate), Some(at(0))));
        assert_eq!(feed(&mut signal, now, &".".repeat(60)).0, Health::Up);
    }

    #[test]
    fn a_rate_begins_with_the_run_in_whose_middle_its_window_does() {
        let mut signal = SignalHealth::default();
        let (_, now) = feed(&mut signal, 0, &format!("..{}.....xxx", "x".repeat(85)));
        assert_eq!((signal.trip, now), (Some(Trip::Rate), 95_000));
        assert_eq!(signal.first_failed(), Some(at(2000)), "two of its looks are older than the window");
    }

    #[test]
    fn behind_an_outage_single_bad_looks_are_weighed_by_themselves() {
        let mut signal = SignalHealth::default();
        let (_, now) = feed(&mut signal, 0, &format!("{}.....", "x".repeat(40)));
        let (health, now) = feed(&mut signal, now, &"xx.".repeat(6));
        assert_eq!((health, signal.trip), (Health::Up, None), "eighteen looks are too few, whatever was before");
        feed(&mut signal, now, "xx.");
        assert_eq!((signal.trip, signal.first_failed()), (Some(Trip::Rate), Some(at(45_000))), "and the outage before is another");
    }

    #[test]
    fn it_was_well_if_it_was_up_and_has_not_failed_often_enough_or_was_good_when_it_was_last_seen() {
        for (looks, well) in [("...", true), ("..xx", true), ("..xxx", false), ("xxx..", false), ("x.", true), ("x.x", false), ("?", false)]
        {
            let mut signal = SignalHealth::default();
            feed(&mut signal, 0, looks);
            assert_eq!(signal.was_well(), well, "{looks}");
        }
        let mut signal = SignalHealth::default();
        feed(&mut signal, 0, "..xxx");
        signal.forget();
        assert!(signal.was_well(), "what was counted is forgotten, and when it was last good is not");
    }

    #[test]
    fn a_look_that_was_overtaken_counts_for_nothing_and_one_sent_as_late_does() {
        let mut signal = SignalHealth::default();
        let (_, now) = feed(&mut signal, 0, "..xx");
        let last = at(now - 1000);
        signal.observe(&policy(), at(now - 1001), at(now), Verdict::Up, "late");
        assert_eq!((signal.counts(), signal.last().unwrap().sent), ((2, 0, 0), last));
        signal.observe(&policy(), last, at(now), Verdict::Down(Cause::Refused), "in time");
        assert_eq!((signal.counts(), signal.health(&policy(), at(now))), ((3, 0, 0), Health::Down));
    }

    #[test]
    fn silence_is_not_health() {
        let mut signal = SignalHealth::default();
        feed(&mut signal, 0, ".....");
        // Three intervals and a timeout from the last answer on.
        assert_eq!(signal.health(&policy(), at(4010 + 3800)), Health::Up);
        assert_eq!(signal.health(&policy(), at(4010 + 3801)), Health::Unknown);
    }

    #[test]
    fn it_was_well_until_then_if_its_last_good_look_is_not_older_than_two_intervals_and_a_timeout() {
        let mut signal = SignalHealth::default();
        assert!(signal.rate() == 0.0 && !signal.was_up_until(&policy(), at(0)), "nothing was seen yet");
        feed(&mut signal, 0, "...");
        assert!(signal.was_up_until(&policy(), at(2000)) && signal.was_up_until(&policy(), at(2000 + 2800)));
        assert!(!signal.was_up_until(&policy(), at(2000 + 2801)));
    }

    #[test]
    fn what_went_down_and_is_not_seen_any_more_is_doubted_for_a_while_only() {
        let mut signal = SignalHealth::default();
        feed(&mut signal, 0, ".....xxx");
        assert!(signal.in_doubt(&policy(), at(7500)));
        // Blind by now; the memory is that of the window.
        assert!(signal.in_doubt(&policy(), at(7000 + 89_999)));
        assert!(!signal.in_doubt(&policy(), at(7000 + 90_000)));
        // Down for good and seen so: as long as it is.
        let steady = SignalPolicy { window: None, ..policy() };
        feed(&mut signal, 8000, &"x".repeat(400));
        assert!(signal.in_doubt(&steady, at(408_000)));
    }

    #[test]
    fn what_is_down_is_doubted_until_it_is_up_again_however_long_that_takes() {
        let slow = SignalPolicy { rise: 200, window: None, ..policy() };
        let mut signal = SignalHealth::default();
        for second in 0..150 {
            let verdict = if second < 3 { Verdict::Down(Cause::Refused) } else { Verdict::Up };
            signal.observe(&slow, at(second * 1000), at(second * 1000), verdict, "");
        }
        assert_eq!(signal.health(&slow, at(150_000)), Health::Down);
        assert!(signal.in_doubt(&slow, at(150_000)));
    }

    #[test]
    fn a_look_counts_in_the_rate_until_it_is_older_than_the_window() {
        let mut signal = SignalHealth::default();
        feed(&mut signal, 0, "x");
        feed(&mut signal, 90_000, ".");
        assert!(signal.rate() > 0.3, "{}", signal.rate());
        feed(&mut signal, 90_001, ".");
        assert!(signal.rate() < 0.001, "{}", signal.rate());
    }

    #[test]
    fn a_datapoint_counts_once_however_often_it_is_read() {
        use crate::domain::model::{SiteName, Subject};
        let policy = SignalPolicy { interval: Duration::from_secs(15), fall: 2, rise: 1, window: None, ..policy() };
        let mut signal = SignalHealth::default();
        let mut read = |second: i64, evidence: i64, verdict: Verdict| {
            let finding = Finding { evidence: Some(evidence), ..Finding::new(verdict, "") };
            let look = Look { subject: Subject::Signal(SiteName::Primary, 0), sent: at(second * 1000), done: at(second * 1000), finding };
            signal.take(&policy, &look);
            (signal.health(&policy, at(second * 1000)), signal.counts().0, signal.in_doubt(&policy, at(second * 1000 + 14_000)))
        };
        let down = Verdict::Down(Cause::Threshold);
        assert_eq!(read(0, 60, Verdict::Up), (Health::Up, 0, false));
        assert_eq!(read(15, 120, down), (Health::Up, 1, true));
        for second in [30, 45, 60, 75, 90, 105, 120] {
            assert_eq!(read(second, 120, down), (Health::Up, 1, true), "the same minute, read again at {second}");
        }
        assert_eq!(read(135, 180, down), (Health::Down, 2, true));
        assert_eq!(read(150, 180, Verdict::Up), (Health::Up, 0, false), "the minute was revised");
        assert_eq!(read(165, 180, Verdict::Unknown(Cause::Throttled)).0, Health::Up);
        assert_eq!(read(180, 180, Verdict::Unknown(Cause::Throttled)).0, Health::Unknown, "we are blind");
        assert_eq!(read(195, 180, Verdict::Up), (Health::Up, 0, false), "we see again, even if nothing new");
        assert_eq!(read(210, 240, down).0, Health::Up);
        assert_eq!(read(270, 240, down).0, Health::Unknown, "nothing was seen for a minute, and then the same bad one");
    }

    #[test]
    fn doubt_passes_when_nothing_bad_follows() {
        let mut signal = SignalHealth::default();
        feed(&mut signal, 0, ".....x");
        assert!(signal.in_doubt(&policy(), at(5500)));
        assert!(!signal.in_doubt(&policy(), at(200_000)), "a state must have a timed exit even if looks stop");
    }
}
