//! Where the databases are real servers: what these report, and what the world therefore leaves to them.
//!
//! The world stays pure: a driver outside mirrors its events into the servers and reports back what they say. How far
//! a replica has come, when a promotion is through and what survived it are then facts, and no figures of the seed.

use std::collections::{BTreeMap, BTreeSet};

use super::replication::signed;
use super::{Ack, Millis, Replication, SiteName, TrueLoss, World};

/// What the servers have reported so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Real {
    /// Commit time of the last transaction that a replica has replayed, by its identifier, in milliseconds since birth.
    replayed: BTreeMap<String, i64>,
    /// Databases that have truly become writable.
    promoted: BTreeSet<String>,
    /// Numbers of the writes that the surviving database holds.
    survived: Option<BTreeSet<u64>>,
    /// Numbers given out to writes under way.
    numbers: u64,
}

/// What the line between a source and its replica does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It carries, so many milliseconds late.
    Flows {
        /// How late.
        delay_ms: u64,
    },
    /// It is stopped by hand; what is under way stays under way.
    Held,
    /// It is gone, and so is what was under way.
    Cut,
}

impl World {
    /// From now on real servers stand behind the databases of both sites.
    pub fn hand_to_servers(&mut self) {
        self.real = Some(Real::default());
    }

    /// Whether real servers stand behind the databases.
    pub fn is_real(&self) -> bool {
        self.real.is_some()
    }

    /// What the line of a replica does: late by the lag of the seed and of the hand, cut by darkness and by a promotion.
    pub fn line(&self, id: &str) -> Line {
        let Some(index) = self.databases.iter().position(|d| d.id == id && d.source.is_some()) else {
            return Line::Cut;
        };
        let database = &self.databases[index];
        if self.link_flows(index) {
            let delay = self.natural_lag(signed(self.now)) + signed(database.extra_lag_ms);
            return Line::Flows { delay_ms: u64::try_from(delay).unwrap_or(0) };
        }
        let lit = !self.dark.contains(&database.region) && database.source.as_ref().is_some_and(|(region, _)| !self.dark.contains(region));
        if lit && database.promotion.is_none() && database.replication == Replication::Paused { Line::Held } else { Line::Cut }
    }

    /// A number for a write that a server is about to be asked for. Never given twice, so that what survived can be
    /// told from what came later.
    pub fn number_write(&mut self) -> u64 {
        self.real.as_mut().map_or(0, |real| {
            real.numbers += 1;
            real.numbers
        })
    }

    /// A server has committed this write. Whether its answer gets out: out of a dark region none does.
    pub fn acknowledge(&mut self, site: SiteName, seq: u64, now: Millis) -> bool {
        self.advance(now);
        let out = !self.dark.contains(&self.site(site).region);
        if out {
            self.acks.push(Ack { app: 0, seq, at_ms: self.now, site });
        }
        out
    }

    /// A replica has replayed every transaction that was committed up to then (milliseconds since birth).
    pub fn report_replayed(&mut self, id: &str, until: i64, now: Millis) {
        self.advance(now);
        if let Some(real) = &mut self.real {
            real.replayed.insert(id.to_owned(), until);
        }
        if let Some(database) = self.databases.iter_mut().find(|d| d.id == id && d.promotion.is_none()) {
            database.applied_ms = until;
        }
    }

    /// A database has become writable, and of the writes before that it holds these.
    pub fn report_promoted(&mut self, id: &str, survived: BTreeSet<u64>, now: Millis) {
        self.advance(now);
        if let Some(real) = &mut self.real {
            real.survived = Some(survived);
            real.promoted.insert(id.to_owned());
        }
    }

    /// Whether the server behind a database has yet to become writable.
    pub(super) fn waits_for_server(&self, id: &str) -> bool {
        self.real.as_ref().is_some_and(|real| !real.promoted.contains(id))
    }

    /// Commit time of the last transaction that the server behind a replica has replayed.
    pub(super) fn real_replayed(&self, id: &str) -> Option<Option<i64>> {
        self.real.as_ref().map(|real| real.replayed.get(id).copied())
    }

    /// What was lost, counted in rows: acknowledged at the old site, and not in the surviving database.
    pub(super) fn real_loss(&self, old: SiteName) -> Option<TrueLoss> {
        let survived = self.real.as_ref()?.survived.as_ref()?;
        let written: Vec<&Ack> = self.acks.iter().filter(|ack| ack.site == old).collect();
        let Some(first) = written.iter().position(|ack| !survived.contains(&ack.seq)) else {
            let held = written.last().map_or(0, |ack| signed(ack.at_ms));
            return Some(TrueLoss { seconds: 0.0, writes: 0, held_until_ms: held });
        };
        // Whole up to the last write before the first one that is missing; what came through later fills no gap.
        let held = first.checked_sub(1).map_or(0, |before| signed(written[before].at_ms));
        let missing = || written.iter().filter(|ack| !survived.contains(&ack.seq));
        let last = missing().map(|ack| signed(ack.at_ms)).max().unwrap_or(held);
        Some(TrueLoss { seconds: (last - held) as f64 / 1_000.0, writes: missing().count(), held_until_ms: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, STANDBY_REGION, WorldSpec};

    fn real_world() -> World {
        let mut world = World::new(&WorldSpec::lab(3));
        world.hand_to_servers();
        world
    }

    fn write(world: &mut World, at: Millis) -> u64 {
        let seq = world.number_write();
        assert!(world.acknowledge(SiteName::Primary, seq, at));
        seq
    }

    #[test]
    fn the_loss_is_counted_in_rows() {
        let mut world = real_world();
        let all: Vec<u64> = (1..=5).map(|turn| write(&mut world, turn * 100)).collect();
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 1_000).unwrap();
        assert_eq!(world.true_loss(), None, "nobody has counted yet");
        // The third is missing although the fourth came through, and the fifth is missing too.
        world.report_promoted("shop-replica", BTreeSet::from([all[0], all[1], all[3]]), 2_000);
        assert_eq!(world.true_loss(), Some(TrueLoss { seconds: 0.3, writes: 2, held_until_ms: 200 }));
    }

    #[test]
    fn a_promotion_waits_for_its_server() {
        let mut world = real_world();
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 1_000).unwrap();
        world.advance(60_000);
        assert!(!world.site_writable(SiteName::Standby));
        world.report_promoted("shop-replica", BTreeSet::new(), 60_000);
        world.advance(61_000);
        assert!(world.site_writable(SiteName::Standby));
        assert_eq!(world.events().iter().filter(|e| e.kind == "promoted").count(), 1);
    }

    #[test]
    fn no_answer_leaves_a_dark_region_and_nothing_enters() {
        let mut world = real_world();
        assert!(matches!(world.line("shop-replica"), Line::Flows { delay_ms: 200..=1_500 }));
        world.set_replication("shop-replica", Some(Replication::Paused), None, 5);
        assert_eq!(world.line("shop-replica"), Line::Held);
        let seq = world.number_write();
        world.set_dark(PRIMARY_REGION, true, 10);
        assert_eq!(world.line("shop-replica"), Line::Cut);
        assert!(!world.acknowledge(SiteName::Primary, seq, 20));
        assert!(world.acks().is_empty());
    }

    #[test]
    fn the_metric_says_what_the_server_said() {
        let mut world = real_world();
        let replica = world.databases().iter().position(|d| d.id == "shop-replica").unwrap();
        assert_eq!(world.replica_lag(replica, 30_000), None, "nothing reported, no datapoint");
        world.report_replayed("shop-replica", 12_345, 20_000);
        assert_eq!(world.replica_lag(replica, 30_000), Some(17.655));
    }
}
