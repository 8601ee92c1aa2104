//! What a move would lose: since when nobody writes to the site that is left, and how far its replicas have come.

use super::gates::View;
use super::ledger::Incident;
use super::model::{Direction, LagSample, Moment, SiteName};
use super::plan::Class;
use super::rpo::{self, Assumption, Exposure, Lost, Writes};

impl View<'_> {
    /// What a move in this direction would lose, at most.
    pub fn exposure(&self, direction: Direction) -> Exposure {
        let incident = self.ledger.incident.as_ref();
        let moves_data = |to: SiteName| self.policy.plan_to(to).steps.iter().any(|step| step.class == Class::Data);
        if !moves_data(direction.target()) {
            let none = Exposure { seconds: Some(0.0), sample: None, end_of_writes: self.now.wall, assumption: Assumption::NoData };
            let stays = moves_data(direction.source());
            return if stays { Exposure { seconds: None, assumption: Assumption::DataStays, ..none } } else { none };
        }
        let lost = |at: Moment| {
            let counting = || self.policy.site(direction.source()).signals.iter().filter(|signal| signal.counts);
            let fastest = counting().map(|signal| signal.interval).min().unwrap_or_default();
            let slowest = counting().map(|signal| signal.timeout).max().unwrap_or_default();
            Lost { first_failed: at.wall, well: (at - fastest).wall, gone: (at + slowest).wall }
        };
        let writes = Writes {
            site: self.lost_since(direction).map(lost),
            fenced: incident.and_then(Incident::fenced_at),
            front_door_lost: incident.and_then(|incident| self.front_door_lost(incident)).map(|at| at.wall),
            old_site_seen: incident.and_then(|incident| incident.old_site_seen).map(|at| at.wall),
        };
        let held = |(_, fenced): &(LagSample, i64)| writes.old_site_seen.is_none_or(|seen| seen <= *fenced);
        if let Some((sample, fenced)) = incident.and_then(Incident::drained).zip(writes.fenced).filter(held) {
            return Exposure { seconds: Some(0.0), sample: Some(sample), end_of_writes: fenced, assumption: Assumption::Drained };
        }
        let found = self.worst(direction, writes);
        // After a restart the history may have scrolled away; what was recorded then still holds.
        match (found.sample, incident.and_then(|incident| incident.exposure.as_ref()).and_then(|old| old.sample)) {
            (None, Some(sample)) => rpo::exposure(&[sample], writes, self.now),
            _ => found,
        }
    }

    /// The first failed look of what takes the site that would be left. A site in doubt that is not down serves its users,
    /// whatever has been failing there, and since when.
    fn lost_since(&self, direction: Direction) -> Option<Moment> {
        let incident = self.ledger.incident.as_ref()?;
        if incident.confirmed.is_some() || incident.commanded() {
            return incident.first_failed;
        }
        let view = self.site(direction.source());
        view.first_failed.filter(|_| view.health == super::model::Health::Down)
    }

    /// True of a replica that the outage found before us: we started when it had begun, and a sample from before it, read back
    /// or kept with the decision, says that it replicated. How old that is the data-loss gate judges.
    pub(super) fn told(&self, site: SiteName, at: usize, outage: Moment) -> bool {
        let Some(signal) = self.policy.site(site).signals.get(at) else { return false };
        let kept =
            self.ledger.incident.as_ref().and_then(|incident| incident.exposure.as_ref()).and_then(|exposure| exposure.sample.as_ref());
        let mut samples = self.lags.get(&(site, at)).into_iter().flatten().chain(kept);
        let (until, from) = (outage.wall, (outage - rpo::HISTORY).wall);
        outage.mono <= (self.around.started + signal.interval + signal.timeout).mono
            && samples.any(|sample| sample.at <= until && sample.replicated_until() >= from)
    }

    /// Since when nobody writes to the old site through the front door: as it is on record, or later, if it has answered
    /// since. One that answers now takes writes now, and of a time that nobody watched nobody knows; once the data has moved
    /// the record stands.
    fn front_door_lost(&self, incident: &Incident) -> Option<Moment> {
        let recorded = incident.front_door_lost?;
        let committed = incident.is_committed();
        match self.front.lost.filter(|_| !self.front.is_blind()) {
            Some(lost) => Some(if lost.mono > recorded.mono { lost } else { recorded }),
            None if committed => Some(recorded),
            None => Some(recorded).filter(|at| self.front.back.is_none() && !self.front.is_blind() && at.mono >= self.around.awake.mono),
        }
    }

    /// Of several replicas at the target, the one that would lose most: each has its own samples, and one that has none
    /// that mean something leaves the loss unknown.
    fn worst(&self, direction: Direction, writes: Writes) -> Exposure {
        let target = direction.target();
        let replicas = self.policy.site(target).signals.iter().enumerate().filter(|(_, signal)| signal.replica);
        let read = |at: usize| self.lags.get(&(target, at)).map_or(&[][..], Vec::as_slice);
        let mut lags: Vec<&[LagSample]> = replicas.map(|(at, _)| read(at)).collect();
        // Where the target has no such signal, whatever else tells of the link.
        if lags.is_empty() {
            lags.extend(self.lags.values().map(Vec::as_slice));
        }
        let each = lags.into_iter().map(|samples| rpo::exposure(samples, writes, self.now));
        let loss = |found: &Exposure| found.seconds.unwrap_or(f64::INFINITY);
        each.max_by(|one, other| loss(one).total_cmp(&loss(other))).unwrap_or_else(|| rpo::exposure(&[], writes, self.now))
    }
}
