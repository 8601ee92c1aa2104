//! Metrics: a datapoint a minute, visible two minutes late, with a quarter of an hour of history.

use std::collections::BTreeMap;

use super::replication::signed;
use super::{ApiError, CheckKind, Lifecycle, MetricMode, Millis, Replication, SiteName, SiteReply, Target, Tick, World};

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

impl MetricKey {
    /// A series by its parts; dimensions in any order.
    pub fn new(region: &str, namespace: &str, name: &str, mut dimensions: Vec<(String, String)>) -> MetricKey {
        dimensions.sort();
        MetricKey { region: region.to_owned(), namespace: namespace.to_owned(), name: name.to_owned(), dimensions }
    }
}

/// A dimension whose value is the end of an ARN: `app/alb/123` and `targetgroup/shop/123` as AWS has them.
pub(super) fn dimension(name: &str, arn: &str, after: &str) -> (String, String) {
    (name.to_owned(), arn.rsplit(after).next().unwrap_or(arn).to_owned())
}

/// A statistic over the values of one period; `None` for one that does not exist.
fn statistic_of(name: &str, mut values: Vec<f64>) -> Option<f64> {
    let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
    match name {
        "Average" => Some(sum / count),
        "Sum" => Some(sum),
        "SampleCount" => Some(count),
        "Minimum" => values.into_iter().reduce(f64::min),
        "Maximum" => values.into_iter().reduce(f64::max),
        _ => {
            let share = name.strip_prefix('p')?.parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share))?;
            values.sort_by(f64::total_cmp);
            // The nearest rank; AWS interpolates between them.
            let rank = (share / 100.0 * count).ceil().max(1.0) as usize;
            values.get(rank - 1).copied()
        }
    }
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

/// What a load balancer counted since the last minute began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    all: u64,
    elb_5xx: u64,
    target_5xx: u64,
}

const MINUTE: u64 = 60_000;
/// Requests a minute in the history before birth, where users wrote.
const BUSY: u64 = 600;
/// Where Route 53 publishes, wherever the checked thing is.
const ROUTE53_REGION: &str = "us-east-1";
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
        self.push_sample(key.clone(), Sample { unix_ms, visible_ms: unix_ms.min(self.unix_ms(now)), value });
        // AWS would look at its alarms within a minute; here it is at once, so that a test need not wait.
        self.evaluate_alarms(Some(&key));
    }

    /// Counts a request at a site's load balancer, as far as one answered.
    pub(super) fn count_request(&mut self, site: SiteName, reply: &SiteReply) {
        let SiteReply::Answer { status, .. } = reply else { return };
        let counted = &mut self.requests[site.index()];
        counted.all += 1;
        match status {
            // These two the load balancer makes itself; the rest comes from behind it.
            502 | 503 => counted.elb_5xx += 1,
            500.. => counted.target_5xx += 1,
            _ => {}
        }
    }

    /// What load balancers, machines and Route 53 publish of the minute that has just begun, and of the one that has ended.
    fn sample_sites(&mut self, unix_ms: u64) {
        for site in SiteName::BOTH {
            let counted = std::mem::take(&mut self.requests[site.index()]);
            let place = self.site(site);
            if self.dark.contains(&place.region) {
                continue;
            }
            let (region, group) = (place.region.clone(), place.group.clone());
            let balancer = dimension("LoadBalancer", &place.balancer.arn, "loadbalancer/");
            let both = vec![balancer.clone(), dimension("TargetGroup", &place.balancer.target_group_arn, ":")];
            let targets: Vec<Target> = self.targets(site).map(|(_, target)| target).collect();
            let of = |state: Target| targets.iter().filter(|target| **target == state).count() as f64;
            let mut put = |name: &str, dimensions: &[(String, String)], at: u64, value: f64| {
                let key = MetricKey::new(&region, "AWS/ApplicationELB", name, dimensions.to_vec());
                self.push_sample(key, Sample { unix_ms: at, visible_ms: unix_ms + LATE, value });
            };
            put("HealthyHostCount", &both, unix_ms, of(Target::Healthy));
            put("UnHealthyHostCount", &both, unix_ms, of(Target::Unhealthy));
            // AWS leaves counts of zero out.
            let counts = [
                ("RequestCount", counted.all),
                ("HTTPCode_ELB_5XX_Count", counted.elb_5xx),
                ("HTTPCode_Target_5XX_Count", counted.target_5xx),
            ];
            for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                put(name, std::slice::from_ref(&balancer), unix_ms - MINUTE, count as f64);
            }
            self.sample_machines(&region, &group, unix_ms);
        }
        self.sample_checks(unix_ms);
    }

    fn sample_machines(&mut self, region: &str, group: &str, unix_ms: u64) {
        let machines = self.group(region, group).map(|group| group.instances.clone()).unwrap_or_default();
        for machine in machines.iter().filter(|machine| machine.lifecycle == Lifecycle::InService) {
            for (name, value) in [("InstanceId", machine.id.as_str()), ("AutoScalingGroupName", group)] {
                let key = MetricKey::new(region, "AWS/EC2", "StatusCheckFailed", vec![(name.to_owned(), value.to_owned())]);
                self.push_sample(key, Sample { unix_ms, visible_ms: unix_ms + LATE, value: f64::from(u8::from(!machine.alive)) });
            }
        }
    }

    fn sample_checks(&mut self, unix_ms: u64) {
        if self.dark.contains(ROUTE53_REGION) {
            return;
        }
        let looked = self.checks.iter().filter(|check| !check.config.disabled && check.config.kind != CheckKind::Calculated);
        let found: Vec<_> = looked.map(|check| (check.id.clone(), check.healthy, check.config.inverted)).collect();
        for (id, healthy, inverted) in found {
            // The checkers' share is of what they saw; inverting comes after them.
            let share = if healthy != inverted { 100.0 } else { 0.0 };
            for (name, value) in [("HealthCheckPercentageHealthy", share), ("HealthCheckStatus", f64::from(u8::from(healthy)))] {
                let key = MetricKey::new(ROUTE53_REGION, "AWS/Route53", name, vec![("HealthCheckId".to_owned(), id.clone())]);
                self.push_sample(key, Sample { unix_ms, visible_ms: unix_ms + LATE, value });
            }
        }
    }

    /// What a statistic makes of each period within `[from, to)` that has samples, by when the period began.
    pub fn points(
        &self,
        key: &MetricKey,
        statistic: &str,
        period_ms: u64,
        (from, to): (u64, u64),
        now: Millis,
    ) -> Result<Vec<(u64, f64)>, ApiError> {
        let mut periods: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for sample in self.samples(key, from, to, now) {
            periods.entry(sample.unix_ms / period_ms * period_ms).or_default().push(sample.value);
        }
        let refused = || ApiError::validation(format!("The value {statistic} for parameter Stat is not supported."));
        periods.into_iter().map(|(at, values)| Ok((at, statistic_of(statistic, values).ok_or_else(refused)?))).collect()
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
            if self.busy_history() {
                self.requests = [Requests { all: BUSY, ..Requests::default() }; 2];
            }
            self.sample_sites(at);
        }
        self.alarms_at_birth();
        self.later(first - self.base_unix_ms, Tick::Minute);
    }

    pub(super) fn minute(&mut self) {
        self.settle_replicas();
        self.sample_all(self.unix_ms(self.now), signed(self.now));
        self.sample_sites(self.unix_ms(self.now));
        self.evaluate_alarms(None);
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
        if let Some(replayed) = self.real_replayed(&database.id).filter(|_| at >= 0) {
            return replayed.map(|until| ((at - until) as f64 / 1_000.0).max(0.0));
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

    /// The values of one metric that has been visible for long, oldest first.
    fn values(world: &World, region: &str, name: &str) -> Vec<f64> {
        let key = world.metric_keys(region).find(|key| key.name == name).unwrap_or_else(|| panic!("{name} in {region}"));
        world.samples(key, 0, u64::MAX, world.now()).iter().map(|sample| sample.value).collect()
    }

    #[test]
    fn load_balancers_count_what_happened() {
        let mut world = World::new(&WorldSpec::lab(5));
        assert!(values(&world, PRIMARY_REGION, "RequestCount").iter().all(|count| *count == 600.0));
        assert!(world.metric_keys(PRIMARY_REGION).all(|key| key.name != "HTTPCode_ELB_5XX_Count"), "zero is left out");
        world.set_app(SiteName::Primary, false, 1_000);
        for at in (60_000..120_000).step_by(1_000) {
            world.site_request(SiteName::Primary, crate::lab::world::Ask::Health, at);
        }
        world.advance(400_000);
        assert_eq!(values(&world, PRIMARY_REGION, "HTTPCode_ELB_5XX_Count").iter().sum::<f64>(), 60.0);
        assert_eq!(values(&world, PRIMARY_REGION, "HealthyHostCount").last(), Some(&0.0));
        assert_eq!(values(&world, PRIMARY_REGION, "UnHealthyHostCount").last(), Some(&4.0));
        assert_eq!(values(&world, STANDBY_REGION, "HealthyHostCount").last(), Some(&2.0));
        assert_eq!(values(&world, PRIMARY_REGION, "StatusCheckFailed").last(), Some(&0.0), "the machines are well");
    }

    #[test]
    fn a_dark_region_publishes_nothing_and_route53_sees_the_switch() {
        let mut spec = WorldSpec::lab(5);
        spec.traffic = crate::lab::world::Traffic::S3Switch;
        let mut world = World::new(&spec);
        let before = values(&world, PRIMARY_REGION, "HealthyHostCount").len();
        world.set_dark(PRIMARY_REGION, true, 1_000);
        world.advance(600_000);
        // Two minutes that were sampled before became visible after.
        assert!(values(&world, PRIMARY_REGION, "HealthyHostCount").len() <= before + 3);
        assert_eq!(values(&world, "us-east-1", "HealthCheckPercentageHealthy").last(), Some(&0.0), "no object, seen before inverting");
        assert_eq!(values(&world, "us-east-1", "HealthCheckStatus").last(), Some(&1.0));
    }

    #[test]
    fn statistics_are_of_their_period() {
        let of = |name: &str| statistic_of(name, vec![3.0, 1.0, 2.0, 10.0]);
        let found = ["Average", "Sum", "SampleCount", "Minimum", "Maximum", "p50", "p99"].map(of);
        assert_eq!(found, [4.0, 16.0, 4.0, 1.0, 10.0, 2.0, 10.0].map(Some));
        assert_eq!([of("p101"), of("Median")], [None, None]);
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
