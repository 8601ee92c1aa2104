//! What is seen of the front door: when it was lost and came back, and from which site it answers.

use std::time::Duration;

use super::model::{Look, Moment, SiteName, Verdict};

/// Consecutive front-door answers from the target that prove a move.
pub const PROOF: usize = 3;

/// After so many looks that tell nothing, nothing is known of it.
const BLIND: u32 = 3;

/// What is seen of the front door.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// The latest answer.
    pub last: Option<Look>,
    /// The end of the first failed look since it last answered from the site that is left.
    pub lost: Option<Moment>,
    /// Since when it answers from the site that is left (or does not say from where), after it had been lost.
    pub back: Option<Moment>,
    /// Looks since the last that told anything.
    unseen: u32,
    /// Consecutive answers proven to come from one site, and when they were known.
    pub run: Vec<(SiteName, Moment, Moment)>,
    /// What the zone's own servers answer, as last proven.
    pub authority: Option<Answered>,
}

/// Whose addresses the zone's own servers give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Whose.
    pub site: SiteName,
    /// Since when, as far as this process saw.
    pub since: Moment,
    /// The latest look that said so.
    pub seen: Moment,
    /// This process saw them turn to it from the other site.
    pub turned: bool,
}

impl Front {
    /// The zone's own servers gave this site's addresses.
    pub(super) fn answered(&mut self, site: SiteName, at: Moment) {
        self.authority = Some(match self.authority {
            Some(last) if last.site == site => Answered { seen: at, ..last },
            last => Answered { site, since: at, seen: at, turned: last.is_some() },
        });
    }

    /// True if what it does has not been seen for a while.
    pub(super) fn is_blind(&self) -> bool {
        self.unseen >= BLIND
    }

    /// True if it is seen, and has not answered from this site for so long, or answers from the other.
    pub(super) fn is_lost_to(&self, site: SiteName, length: Duration, now: Moment) -> bool {
        let elsewhere = || self.run.last().is_some_and(|(from, ..)| *from != site);
        !self.is_blind() && (self.lost.is_some_and(|lost| now.since(lost) >= length) || elsewhere())
    }

    /// Our own loop had a gap: whether it answered meanwhile nobody knows.
    pub(super) fn forget(&mut self) {
        self.run.clear();
        (self.lost, self.back) = (None, None);
    }

    fn returned(&mut self, at: Moment) {
        if self.lost.take().is_some() || self.back.is_none() {
            self.back = Some(at);
        }
    }

    /// One look at the public name; `leaving`: the site that a move would leave.
    pub(super) fn observe(&mut self, look: Look, leaving: SiteName) {
        if self.last.as_ref().is_some_and(|last| look.sent.mono < last.sent.mono) {
            return;
        }
        let blind = self.is_blind();
        self.unseen = if matches!(look.finding.verdict, Verdict::Unknown(_)) { self.unseen.saturating_add(1) } else { 0 };
        match (look.finding.verdict, look.finding.from) {
            (Verdict::Up, Some(site)) => {
                if self.run.last().is_some_and(|(last, ..)| *last != site) {
                    self.run.clear();
                }
                if self.run.len() >= PROOF * 4 {
                    // The oldest stay: they are the proof, however long a last step takes after it.
                    self.run.remove(PROOF);
                }
                self.run.push((site, look.sent, look.done));
                // An answer from the target says nothing about the old site's writers.
                if site == leaving {
                    self.returned(look.done);
                }
            }
            (Verdict::Up, None) => {
                self.run.clear();
                self.returned(look.done);
            }
            (Verdict::Down(_), _) => {
                self.run.clear();
                // Whether it answered while nobody saw it nobody knows.
                self.lost = self.lost.filter(|_| !blind).or(Some(look.done));
                self.back = None;
            }
            (Verdict::Unknown(_), _) => {}
        }
        self.last = Some(look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::{Cause, Finding, Subject};

    fn at(seconds: i64) -> Moment {
        Moment { mono: seconds, wall: seconds }
    }

    fn look(sent: i64, verdict: Verdict, from: Option<SiteName>) -> Look {
        Look { subject: Subject::FrontDoor, sent: at(sent), done: at(sent + 1), finding: Finding { from, ..Finding::new(verdict, "") } }
    }

    fn front(looks: &[Look]) -> Front {
        let mut front = Front::default();
        looks.iter().for_each(|one| front.observe(one.clone(), SiteName::Primary));
        front
    }

    #[test]
    fn it_is_back_since_its_first_answer_from_the_site_that_is_left() {
        let (up, down) = (Verdict::Up, Verdict::Down(Cause::Refused));
        let primary = Some(SiteName::Primary);
        // Who has just started does not know that it was ever lost.
        assert_eq!(front(&[look(0, up, primary), look(5, up, primary)]).back, Some(at(1)));
        let seen = [look(0, up, primary), look(10, down, None), look(20, down, None)];
        assert_eq!((front(&seen).lost, front(&seen).back), (Some(at(11)), None));
        let mut seen = seen.to_vec();
        // From the other site, or from nobody knows where: the one says nothing of the old writers, the other may be they.
        seen.push(look(30, up, Some(SiteName::Standby)));
        assert_eq!((front(&seen).lost, front(&seen).back), (Some(at(11)), None));
        seen.push(look(40, up, None));
        assert_eq!((front(&seen).lost, front(&seen).back), (None, Some(at(41))));
        seen.push(look(50, up, primary));
        assert_eq!((front(&seen).lost, front(&seen).back), (None, Some(at(41))), "since its first");
        seen.extend([look(60, down, None), look(70, up, primary)]);
        assert_eq!((front(&seen).lost, front(&seen).back), (None, Some(at(71))));
    }

    #[test]
    fn what_nobody_saw_for_a_while_is_lost_anew() {
        let (down, blind) = (Verdict::Down(Cause::Refused), Verdict::Unknown(Cause::ResolverTimeout));
        let seen = |unknown: i64| {
            let mut seen = vec![look(10, down, None)];
            seen.extend((0..unknown).map(|more| look(11 + more, blind, None)));
            let is_blind = front(&seen).is_blind();
            seen.push(look(30, down, None));
            (is_blind, front(&seen).lost, front(&seen).is_blind())
        };
        assert_eq!(seen(2), (false, Some(at(11)), false));
        assert_eq!(seen(3), (true, Some(at(31)), false));
    }

    #[test]
    fn it_is_lost_to_a_site_once_it_has_failed_for_so_long_or_answers_from_the_other() {
        let (up, down, blind) = (Verdict::Up, Verdict::Down(Cause::Refused), Verdict::Unknown(Cause::ResolverTimeout));
        let (primary, standby) = (SiteName::Primary, SiteName::Standby);
        let lost = |looks: &[Look], now: i64| front(looks).is_lost_to(primary, Duration::from_micros(5), at(now));
        assert!(!lost(&[look(10, up, Some(primary))], 20));
        assert!(!lost(&[look(10, down, None)], 15) && lost(&[look(10, down, None)], 16));
        assert!(lost(&[look(10, up, Some(standby))], 11));
        assert!(!lost(&[look(10, up, None)], 20), "it answers, and nobody says from where");
        let unseen = [look(10, down, None), look(11, blind, None), look(12, blind, None), look(13, blind, None)];
        assert!(lost(&unseen[..3], 20) && !lost(&unseen, 20), "what is not seen says nothing");
    }

    #[test]
    fn an_answer_that_was_overtaken_says_nothing_and_one_sent_as_late_does() {
        let (up, down) = (Verdict::Up, Verdict::Down(Cause::Refused));
        let standby = Some(SiteName::Standby);
        let seen = [look(10, up, standby), look(9, down, None)];
        assert_eq!((front(&seen).run.len(), front(&seen).lost), (1, None));
        let seen = [look(10, up, standby), look(10, down, None)];
        assert_eq!((front(&seen).run.len(), front(&seen).lost), (0, Some(at(11))));
    }

    #[test]
    fn the_first_answers_of_a_run_stay_however_long_it_gets() {
        let seen: Vec<Look> = (0..40).map(|second| look(second, Verdict::Up, Some(SiteName::Standby))).collect();
        let run = front(&seen).run;
        assert_eq!(run[..PROOF].iter().map(|(_, sent, _)| sent.mono).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((run.len(), run.last().unwrap().1), (PROOF * 4, at(39)));
    }

    #[test]
    fn the_authority_is_remembered_since_it_turned_and_until_it_was_seen() {
        let mut front = Front::default();
        for (site, second) in [(SiteName::Primary, 1), (SiteName::Primary, 2), (SiteName::Standby, 3), (SiteName::Standby, 4)] {
            front.answered(site, at(second));
        }
        assert_eq!(front.authority, Some(Answered { site: SiteName::Standby, since: at(3), seen: at(4), turned: true }));
        let mut front = Front::default();
        front.answered(SiteName::Standby, at(1));
        assert!(!front.authority.unwrap().turned, "its first word is no turn");
    }
}
