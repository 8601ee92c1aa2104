//! What is seen of the front door: when it was lost and came back, and from which site it answers.

use super::model::{Look, Moment, SiteName, Verdict};

/// Consecutive front-door answers from the target that prove a move.
pub const PROOF: usize = 3;

/// What is seen of the front door.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// The latest answer.
    pub last: Option<Look>,
    /// The end of the first failed look since it last answered from the site that is left.
    pub lost: Option<Moment>,
    /// Since when it answers from the site that is left (or does not say from where), after it had been lost.
    pub back: Option<Moment>,
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
                self.lost.get_or_insert(look.done);
                self.back = None;
            }
            (Verdict::Unknown(_), _) => {}
        }
        self.last = Some(look);
    }
}
