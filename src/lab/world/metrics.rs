//! Metrics: a datapoint a minute, visible two minutes late, with a quarter of an hour of history.

use super::replication::signed;
use super::{MetricMode, Millis, Replication, Tick, World};

/// What names a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricKey {
    /// Where it is kept.
    pub region: String,
    /// Namespace, such as `AWS/RDS`.
    pub namespace: String,
    /// Name, such as `ReplicaLag`.
    pub name: String,
    /// Dimensions, sorted.
    pub dimensions: Vec<(String, String)>,
}

/// One datapoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its timestamp, as Unix milliseconds.
    pub unix_ms: u64,
    /// From when on it is seen, as Unix milliseconds.
    pub visible_ms: u64,
    /// Value.
    pub value: f64,
}

const MINUTE: u64 = 60_000;
/// How late a datapoint of AWS's own metrics becomes visible (aws-facts §4: about two minutes).
const LATE: u64 = 120_000;
/// How many datapoints of a series are kept: a day of minutes.
const KEEP: usize = 1_440;

impl World {
    /// Datapoints of a series within `[from, to)` that are visible at `now`, oldest first.
    pub fn samples(&self, key: &MetricKey, from_unix_ms: u64, to_unix_ms: u64, now: Millis) -> Vec<Sample> {
        let seen_at = self.unix_ms(now);
        let fits = |s: &&Sample| s.unix_ms >= from_unix_ms && s.unix_ms < to_unix_ms && s.visible_ms <= seen_at;
        self.metrics.get(key).map(|all| all.iter().filter(fits).copied().collect()).unwrap_or_default()
    }

    /// The series of a region.
    pub fn metric_keys(&self, region: &str) -> impl Iterator<Item = &MetricKey> {
        self.metrics.keys().filter(move |k| k.region == region)
    }

    /// `PutMetricData`: a custom datapoint, visible at once.
    pub fn put_metric(&mut self, key: MetricKey, unix_ms: u64, value: f64, now: Millis) {
        self.advance(now);
        self.push_sample(key, Sample { unix_ms, visible_ms: unix_ms.min(self.unix_ms(now)), value });
    }

    fn push_sample(&mut self, key: MetricKey, sample: Sample) {
        let series = self.metrics.entry(key).or_default();
        let place = series.partition_point(|s| s.unix_ms <= sample.unix_ms);
        series.insert(place, sample);
        if series.len() > KEEP {
            series.remove(0);
        }
    }

    /// Fills in the minutes before birth and queues the first one after it.
    pub(super) fn start_metrics(&mut self, minutes: u64) {
        let first = self.base_unix_ms.div_ceil(MINUTE) * MINUTE;
        for back in (1..=minutes).rev() {
            let at = first - back * MINUTE;
            self.sample_all(at, at as i64 - signed(self.base_unix_ms));
        }
        self.later(first - self.base_unix_ms, Tick::Minute);
    }

    pub(super) fn minute(&mut self) {
        self.settle_replicas();
        self.sample_all(self.unix_ms(self.now), signed(self.now));
        self.later(MINUTE, Tick::Minute);
    }

    fn sample_all(&mut self, unix_ms: u64, at: i64) {
        for index in 0..self.databases.len() {
            if let Some(value) = self.replica_lag(index, at) {
                let database = &self.databases[index];
                let key = MetricKey {
                    region: database.region.clone(),
                    namespace: "AWS/RDS".to_owned(),
                    name: "ReplicaLag".to_owned(),
                    dimensions: vec![("DBInstanceIdentifier".to_owned(), database.id.clone())],
                };
                self.push_sample(key, Sample { unix_ms, visible_ms: unix_ms + LATE, value });
            }
        }
    }

    /// What the replica publishes: PostgreSQL counts from its last replayed transaction, and so climbs when
    /// nothing comes; the others say -1 when they do not know (aws-facts §3.3).
    pub(super) fn replica_lag(&self, index: usize, at: i64) -> Option<f64> {
        let database = &self.databases[index];
        let (region, _) = database.source.as_ref()?;
        if self.dark.contains(&database.region) || database.status == "creating" {
            return None;
        }
        match database.metric {
            MetricMode::Missing => return None,
            MetricMode::Fixed(value) => return Some(value),
            MetricMode::Truth => {}
        }
        if database.engine != "postgres" && (self.dark.contains(region) || database.replication != Replication::Ok) {
            return Some(-1.0);
        }
        // History: a late link ran as late as it does at birth, and one that broke stood where it stands.
        let flowed = at - self.natural_lag(at) - signed(database.extra_lag_ms);
        let applied = match database.replication {
            _ if at >= 0 => database.applied_ms,
            Replication::Ok => flowed,
            Replication::Broken | Replication::Paused => flowed.min(database.applied_ms),
        };
        Some(((at - self.last_transaction(self.tenant_of(&database.id), applied)) as f64 / 1_000.0).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, STANDBY_REGION, SiteName, WorldSpec};

    fn lag(world: &World) -> MetricKey {
        world.metric_keys(STANDBY_REGION).find(|k| k.name == "ReplicaLag").unwrap().clone()
    }

    #[test]
    fn history_is_there_and_late() {
        let world = World::new(&WorldSpec::lab(5));
        let samples = world.samples(&lag(&world), 0, u64::MAX, 0);
        assert!((13..=15).contains(&samples.len()), "{}", samples.len());
        assert!(samples.iter().all(|s| s.unix_ms % MINUTE == 0 && s.visible_ms <= world.unix_ms(0)));
        assert!(samples.iter().all(|s| s.value > 0.1 && s.value < 2.0), "{samples:?}");
    }

    #[test]
    fn climbs_a_second_a_second_without_a_source() {
        let mut world = World::new(&WorldSpec::lab(5));
        for at in (0..30_000).step_by(100) {
            world.write(SiteName::Primary, at).unwrap();
        }
        world.set_dark(PRIMARY_REGION, true, 30_000);
        world.advance(600_000);
        let samples = world.samples(&lag(&world), world.unix_ms(60_000), u64::MAX, 600_000);
        let pairs: Vec<f64> = samples.windows(2).map(|w| w[1].value - w[0].value).collect();
        assert!(pairs.len() > 4 && pairs.iter().all(|d| (d - 60.0).abs() < 0.01), "{samples:?}");
    }

    #[test]
    fn idles_in_a_sawtooth() {
        let mut spec = WorldSpec::lab(5);
        spec.busy_history = false;
        let mut world = World::new(&spec);
        world.advance(1_200_000);
        let samples = world.samples(&lag(&world), 0, u64::MAX, 1_200_000);
        let highest = samples.iter().map(|s| s.value).fold(0.0, f64::max);
        assert!(highest > 200.0 && highest < 303.0, "{highest}");
    }
}
