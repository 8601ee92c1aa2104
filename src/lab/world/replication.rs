//! Writes, how far replicas hold them, and what is truly lost.

use serde::Serialize;

use super::{Cause, Millis, Replication, SiteName, World};

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// Number, from 1; what the user was told.
    pub seq: u64,
    /// When it was acknowledged.
    pub at_ms: Millis,
    /// Of which app.
    pub app: usize,
    /// Where.
    pub site: SiteName,
}

/// What the surviving database lacks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrueLoss {
    /// From the moment up to which the survivor holds all, to the last acknowledged write that it lacks.
    pub seconds: f64,
    /// Acknowledged writes that it lacks.
    pub writes: usize,
    /// The survivor holds all up to here, in milliseconds since birth.
    pub held_until_ms: i64,
}

/// How often the lag of a healthy link takes a new value; between these it changes evenly.
const LAG_KNOT_MS: i64 = 2_000;

impl World {
    /// The app at this site writes. `None` when its database takes no writes.
    pub fn write(&mut self, site: SiteName, now: Millis) -> Option<u64> {
        self.write_of(0, site, now)
    }

    /// The same for one of several apps.
    pub fn write_of(&mut self, app: usize, site: SiteName, now: Millis) -> Option<u64> {
        self.advance(now);
        if !self.writable_of(app, site) {
            return None;
        }
        let seq = self.acks.len() as u64 + 1;
        self.acks.push(Ack { seq, at_ms: self.now, app, site });
        Some(seq)
    }

    /// Whether the database of a site takes writes.
    pub fn site_writable(&self, site: SiteName) -> bool {
        self.writable_of(0, site)
    }

    /// The same for one of several apps.
    pub fn writable_of(&self, app: usize, site: SiteName) -> bool {
        !self.dark.contains(&self.site(site).region) && self.database_of(app, site).is_some_and(super::Database::writable)
    }

    /// What a promotion lost, if there was one: of several, the worst.
    pub fn true_loss(&self) -> Option<TrueLoss> {
        (0..self.tenants.len()).filter_map(|app| self.true_loss_of(app)).max_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }

    /// What the promotion of an app's database lost, against its former source.
    pub fn true_loss_of(&self, app: usize) -> Option<TrueLoss> {
        SiteName::BOTH
            .into_iter()
            .find(|site| self.database_of(app, *site).is_some_and(|d| d.promotions > 0))
            .and_then(|site| self.lacks(app, site))
    }

    /// What the standby of an app lacks right now: what a move would lose, or has lost.
    pub fn standby_lacks(&self, app: usize) -> Option<TrueLoss> {
        self.lacks(app, SiteName::Standby)
    }

    fn lacks(&self, app: usize, site: SiteName) -> Option<TrueLoss> {
        let survivor = self.database_of(app, site)?;
        let (region, _) = survivor.was_replica_of.as_ref().or(survivor.source.as_ref())?;
        let old = self.sites.iter().find(|s| s.region == *region)?.name;
        if self.is_real() {
            return self.real_loss(old);
        }
        let held = survivor.applied_ms;
        let mut missing = self.acks.iter().filter(|a| a.app == app && a.site == old && signed(a.at_ms) > held).peekable();
        if missing.peek().is_none() {
            return Some(TrueLoss { seconds: 0.0, writes: 0, held_until_ms: held });
        }
        let (writes, last) = missing.fold((0, 0), |(count, _), ack| (count + 1, signed(ack.at_ms)));
        Some(TrueLoss { seconds: (last - held) as f64 / 1_000.0, writes, held_until_ms: held })
    }

    /// Breaks, pauses or mends a replica's link; `extra_lag_ms` makes it run late.
    pub fn set_replication(&mut self, id: &str, state: Option<Replication>, extra_lag_ms: Option<u64>, now: Millis) -> bool {
        self.advance(now);
        self.settle_replicas();
        let Some(database) = self.databases.iter_mut().find(|d| d.id == id) else {
            return false;
        };
        if let Some(state) = state {
            database.replication = state;
        }
        if let Some(extra) = extra_lag_ms {
            database.extra_lag_ms = extra;
        }
        let (region, detail) = (
            database.region.clone(),
            format!("{}, {} ms late", format!("{:?}", database.replication).to_lowercase(), database.extra_lag_ms),
        );
        self.record("replication", Cause::Hand, &region, id, detail);
        true
    }

    /// The lag of a healthy link at this time: between 0.2 and 1.5 s, wandering, from the seed alone.
    pub(super) fn natural_lag(&self, at: i64) -> i64 {
        let knot = at.div_euclid(LAG_KNOT_MS);
        let within = at.rem_euclid(LAG_KNOT_MS);
        let (from, to) = (self.lag_at_knot(knot), self.lag_at_knot(knot + 1));
        from + (to - from) * within / LAG_KNOT_MS
    }

    fn lag_at_knot(&self, knot: i64) -> i64 {
        // SplitMix64: a number from seed and position without state, so that history costs nothing.
        let mut z = self.seed.wrapping_add((knot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        200 + ((z ^ (z >> 31)) % 1_301) as i64
    }

    /// Brings every flowing replica to where it stands now.
    pub(super) fn settle_replicas(&mut self) {
        for index in 0..self.databases.len() {
            if !self.is_real() && self.link_flows(index) {
                let now = signed(self.now);
                let lag = self.natural_lag(now) + signed(self.databases[index].extra_lag_ms);
                let database = &mut self.databases[index];
                database.applied_ms = database.applied_ms.max(now - lag);
            }
        }
    }

    pub(super) fn link_flows(&self, index: usize) -> bool {
        let database = &self.databases[index];
        let Some((region, id)) = &database.source else {
            return false;
        };
        let source_there = self.database(region, id).is_some_and(|s| s.status != "stopped" && s.status != "deleting");
        database.promotion.is_none()
            && database.replication == Replication::Ok
            && !self.dark.contains(region)
            && !self.dark.contains(&database.region)
            && database.status != "stopped"
            && source_there
    }

    /// The last transaction of a source that is no later than this. A busy history has one at every
    /// moment; an idle PostgreSQL has one whenever it switches its log, about every five minutes.
    pub(super) fn last_transaction(&self, app: usize, until: i64) -> i64 {
        const SWITCH: i64 = 300_000;
        let phase = (self.seed % 300) as i64 * 1_000;
        let idle = (until - phase).div_euclid(SWITCH) * SWITCH + phase;
        let history = if self.busy_history() { until.min(0) } else { idle };
        let written = self.acks.partition_point(|a| signed(a.at_ms) <= until);
        let last_ack = self.acks[..written].iter().rfind(|a| a.app == app).map_or(i64::MIN, |a| signed(a.at_ms));
        history.max(idle).max(last_ack)
    }
}

pub(super) fn signed(millis: Millis) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, STANDBY_REGION, WorldSpec};

    fn writing(until: Millis) -> World {
        let mut world = World::new(&WorldSpec::lab(3));
        for at in (0..until).step_by(50) {
            assert!(world.write(SiteName::Primary, at).is_some());
        }
        world
    }

    #[test]
    fn a_dark_primary_loses_what_was_under_way() {
        let mut world = writing(10_000);
        world.set_dark(PRIMARY_REGION, true, 10_000);
        assert!(world.write(SiteName::Primary, 10_050).is_none());
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 15_000).unwrap();
        world.advance(30_000);
        let loss = world.true_loss().unwrap();
        assert!(loss.seconds > 0.1 && loss.seconds < 1.5, "{loss:?}");
        assert!(loss.writes >= 3, "{loss:?}");
        assert!(world.write(SiteName::Standby, 30_000).is_some());
    }

    #[test]
    fn a_living_region_that_stopped_writing_loses_nothing() {
        let mut world = writing(10_000);
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 12_000).unwrap();
        assert_eq!(world.true_loss().unwrap().writes, 0);
    }

    #[test]
    fn writes_past_the_promotion_count_as_lost() {
        let mut world = writing(10_000);
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 12_000).unwrap();
        world.write(SiteName::Primary, 40_000).unwrap();
        let loss = world.true_loss().unwrap();
        assert_eq!(loss.writes, 1);
        assert!(loss.seconds > 27.9 && loss.seconds < 29.6, "{loss:?}");
    }

    #[test]
    fn the_position_never_goes_back() {
        let mut world = World::new(&WorldSpec::lab(11));
        let mut last = i64::MIN;
        for at in (0..60_000).step_by(100) {
            world.advance(at);
            world.settle_replicas();
            let applied = world.databases()[1].applied_ms;
            assert!(applied >= last && applied < at as i64);
            last = applied;
        }
    }
}
