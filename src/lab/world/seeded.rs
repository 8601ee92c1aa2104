//! What the world contains at birth: the app `shop` in two regions, its zone and its bucket.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::records::{Alias, normal};
use super::{
    Balancer, Bucket, Cause, CheckConfig, CheckKind, Database, Failover, Group, Instance, Lifecycle, MetricMode, PublicAccess, RecordSet,
    Replication, Site, SiteMode, SiteName, Target, Topic, World, Zone,
};
use crate::lab::profile::Profile;

/// The pretend account.
pub const ACCOUNT: &str = "123456789012";
/// Where the app normally lives.
pub const PRIMARY_REGION: &str = "ap-south-1";
/// Where it goes.
pub const STANDBY_REGION: &str = "us-east-1";
/// Where the switch lies, and where the bastion stands.
pub const SWITCH_REGION: &str = "eu-west-1";

/// Names of what is there.
pub mod names {
    /// The hosted zone.
    pub const ZONE_ID: &str = "Z0SHOPEXAMPLE00000000";
    /// Its name.
    pub const ZONE: &str = "example.com";
    /// The name that users call.
    pub const FRONT_DOOR: &str = "shop.example.com";
    /// The name under which the app finds its database.
    pub const DATABASE_NAME: &str = "db.shop.example.com";
    /// The bucket of the switch.
    pub const BUCKET: &str = "shop-failover-switch";
    /// The object of the switch.
    pub const KEY: &str = "shop/failed-over";
    /// The topic for messages.
    pub const TOPIC: &str = "shop-alerts";
}

/// How the app's traffic is moved, which decides what records there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// Weighted records, edited.
    Route53,
    /// A failover pair whose check watches an object.
    S3Switch,
    /// A failover pair that looks at its targets itself: Route 53 moves users, whoever fails over the rest.
    Autonomous,
}

/// What the referee must know of how a world was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Users write: where they are sent the database must take writes.
    pub writes: bool,
    /// Others than the daemon move users.
    pub autonomous: bool,
    /// Somebody writes to the old database past everything, on purpose.
    pub past_writers: bool,
}

/// From what a world is born.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// Decides on everything that is left to chance.
    pub seed: u64,
    /// How long things take.
    pub profile: Profile,
    /// How traffic is moved.
    pub traffic: Traffic,
    /// Whether users wrote all through the history.
    pub busy_history: bool,
    /// Wall clock at birth, in Unix milliseconds.
    pub base_unix_ms: u64,
    /// How many apps live in it; 0 counts as 1.
    pub apps: usize,
    /// The primary is one machine that nothing replaces.
    pub single_machine: bool,
    /// By how much every replica runs late, throughout the history too, in milliseconds.
    pub late_ms: u64,
    /// For how long before birth every replica's link has been broken, in milliseconds; 0: it flows.
    pub broken_ms: u64,
    /// Users read instead of writing.
    pub readers: bool,
    /// Somebody writes to the old database past everything.
    pub past_writers: bool,
}

impl WorldSpec {
    pub(super) fn rules(&self) -> Rules {
        Rules { writes: !self.readers, autonomous: self.traffic == Traffic::Autonomous, past_writers: self.past_writers }
    }
}

impl Default for WorldSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            profile: Profile::lab(),
            traffic: Traffic::Route53,
            busy_history: true,
            base_unix_ms: 0,
            apps: 1,
            single_machine: false,
            late_ms: 0,
            broken_ms: 0,
            readers: false,
            past_writers: false,
        }
    }
}

impl WorldSpec {
    /// A lab world with this seed, at a fixed wall clock; for tests and for virtual time.
    pub fn lab(seed: u64) -> Self {
        Self { seed, base_unix_ms: 1_795_000_020_000, ..Self::default() }
    }
}

impl World {
    pub(super) fn busy_history(&self) -> bool {
        self.busy
    }
}

pub(super) fn sites() -> [Site; 2] {
    [
        site(SiteName::Primary, PRIMARY_REGION, "shop-primary", "shop-primary", "primary-alb", "123", "ZP97RAFLXTNZK", 1),
        site(SiteName::Standby, STANDBY_REGION, "shop-standby", "shop-replica", "standby-alb", "456", "Z35SXDOTRQ7X7K", 2),
    ]
}

#[expect(clippy::too_many_arguments, reason = "a table row of names, used twice, right above")]
fn site(name: SiteName, region: &str, group: &str, database: &str, alb: &str, number: &str, zone_id: &str, net: u8) -> Site {
    let elb = format!("arn:aws:elasticloadbalancing:{region}:{ACCOUNT}");
    Site {
        name,
        region: region.to_owned(),
        group: group.to_owned(),
        database: database.to_owned(),
        balancer: Balancer {
            name: alb.to_owned(),
            arn: format!("{elb}:loadbalancer/app/{alb}/{number:0>16}"),
            dns_name: format!("{alb}-{number}.{region}.elb.amazonaws.com"),
            zone_id: zone_id.to_owned(),
            addresses: vec![Ipv4Addr::new(127, 0, net, 11), Ipv4Addr::new(127, 0, net, 12)],
            target_group_arn: format!("{elb}:targetgroup/{group}/{number:0>16}"),
            target_group: group.to_owned(),
        },
        mode: SiteMode::Ok,
        app_running: true,
        turn: 0,
        share: 0.0,
    }
}

pub(super) fn furnish(world: &mut World, spec: &WorldSpec) {
    world.busy = spec.busy_history;
    for app in 0..world.tenants.len() {
        own(world, app, spec);
    }
    world.buckets.push(Bucket {
        name: names::BUCKET.to_owned(),
        region: SWITCH_REGION.to_owned(),
        objects: BTreeMap::new(),
        public_access: PublicAccess { block_acls: true, ignore_acls: true, ..PublicAccess::default() },
        public_keys: vec![names::KEY.to_owned()],
    });
    let arn = format!("arn:aws:sns:{SWITCH_REGION}:{ACCOUNT}:{}", names::TOPIC);
    world.topics.push(Topic { arn, region: SWITCH_REGION.to_owned(), subscriptions: Vec::new(), messages: Vec::new() });
    zone(world, spec);
    world.start_metrics(15);
    world.front_door_points = (0..world.tenants.len()).map(|app| world.front_door_sites(app)).collect();
    // What was there at birth is not something that happened.
    world.events.clear();
}

/// What one app has for itself. The load balancers are common to all; their targets are the first app's machines.
fn own(world: &mut World, app: usize, spec: &WorldSpec) {
    let tenant = world.tenants[app].clone();
    let [primary_group, standby_group] = &tenant.groups;
    if spec.single_machine {
        group(world, app, SiteName::Primary, primary_group, [1, 1, 1]);
    } else {
        group(world, app, SiteName::Primary, primary_group, [4, 4, 8]);
    }
    group(world, app, SiteName::Standby, standby_group, [1, 2, 4]);
    if spec.single_machine {
        let processes = ["HealthCheck", "ReplaceUnhealthy"].map(str::to_owned);
        let found = world.groups.iter_mut().find(|one| one.name == *primary_group);
        found.into_iter().for_each(|one| one.suspended.extend(processes.clone()));
    }
    let host = u8::try_from(31 + app * 2).unwrap_or(u8::MAX);
    let primary = database(PRIMARY_REGION, &tenant.databases[0], host);
    let mut replica = database(STANDBY_REGION, &tenant.databases[1], host.saturating_add(1));
    replica.source = Some((primary.region.clone(), primary.id.clone()));
    replica.backup_retention = 0;
    replica.multi_az = false;
    let (late, broken) = (super::replication::signed(spec.late_ms), super::replication::signed(spec.broken_ms));
    replica.extra_lag_ms = spec.late_ms;
    replica.applied_ms = -world.natural_lag(-broken) - late - broken;
    if broken > 0 {
        replica.replication = Replication::Broken;
    }
    world.databases.extend([primary, replica]);
}

fn group(world: &mut World, app: usize, site: SiteName, name: &str, [min, desired, max]: [u32; 3]) {
    let place = world.site(site).clone();
    let instances = (0..desired)
        .map(|n| Instance {
            id: format!("i-{}", world.hex_id(17)),
            zone: format!("{}{}", place.region, ["a", "b", "c"][n as usize % 3]),
            lifecycle: Lifecycle::InService,
            alive: true,
            target: Target::Healthy,
            launched: 0,
            in_service_since: 0,
        })
        .collect();
    world.groups.push(Group {
        region: place.region,
        name: name.to_owned(),
        min,
        desired,
        max,
        suspended: std::collections::BTreeSet::new(),
        instances,
        site: (app == 0).then_some(site),
        no_capacity: false,
    });
}

fn database(region: &str, id: &str, host: u8) -> Database {
    Database {
        region: region.to_owned(),
        id: id.to_owned(),
        engine: "postgres".to_owned(),
        status: "available".to_owned(),
        source: None,
        was_replica_of: None,
        promotion: None,
        promotions: 0,
        replication: Replication::Ok,
        extra_lag_ms: 0,
        applied_ms: 0,
        endpoint: format!("{id}.c0lab.{region}.rds.amazonaws.com"),
        address: Ipv4Addr::new(127, 0, 4, host),
        multi_az: true,
        backup_retention: 7,
        class: "db.r6g.large".to_owned(),
        metric: MetricMode::Truth,
        plan: Vec::new(),
        epoch: 0,
    }
}

fn zone(world: &mut World, spec: &WorldSpec) {
    let servers = (0..4)
        .map(|n| format!("ns-{}.awsdns-{n:02}.{}.", world.rng.random_range(1..2_000), ["com", "net", "org", "co.uk"][n]))
        .collect::<Vec<_>>();
    let soa = format!("{} awsdns-hostmaster.amazon.com. 1 7200 900 1209600 60", servers[0]);
    let ttl = spec.profile.record_ttl_s;
    let mut sets = vec![plain(names::ZONE, "NS", 172_800, servers), plain(names::ZONE, "SOA", 900, vec![soa])];
    for tenant in world.tenants.clone() {
        let endpoint = world.database(PRIMARY_REGION, &tenant.databases[0]).map(|found| found.endpoint.clone());
        sets.push(plain(&tenant.database_name, "CNAME", ttl, endpoint.into_iter().collect()));
        for site in SiteName::BOTH {
            let mut set = plain(&tenant.front_door, "A", 0, Vec::new());
            let balancer = &world.site(site).balancer;
            set.ttl = None;
            set.set_id = Some(site.word().to_owned());
            // The secondary is never judged: were both called sick, users would be sent back to a primary that is dead.
            let evaluate = spec.traffic == Traffic::Autonomous && site == SiteName::Primary;
            set.alias = Some(Alias { zone_id: balancer.zone_id.clone(), dns_name: normal(&balancer.dns_name), evaluate });
            match (spec.traffic, site) {
                (Traffic::Route53, SiteName::Primary) => set.weight = Some(100),
                (Traffic::Route53, SiteName::Standby) => set.weight = Some(0),
                (Traffic::S3Switch, SiteName::Primary) => {
                    set.failover = Some(Failover::Primary);
                    set.health_check = Some(switch_check(world));
                }
                (Traffic::Autonomous, SiteName::Primary) => set.failover = Some(Failover::Primary),
                (Traffic::S3Switch | Traffic::Autonomous, SiteName::Standby) => set.failover = Some(Failover::Secondary),
            }
            sets.push(set);
        }
    }
    let records: BTreeMap<_, _> = sets.into_iter().map(|s| (s.key(), s)).collect();
    world.zones.push(Zone {
        id: names::ZONE_ID.to_owned(),
        name: normal(names::ZONE),
        live: records.clone(),
        records,
        version: 0,
        live_version: 0,
        busy_until: 0,
    });
}

fn switch_check(world: &mut World) -> String {
    let config = CheckConfig {
        kind: CheckKind::Http,
        ip: None,
        port: Some(80),
        fqdn: Some(format!("{}.s3.{SWITCH_REGION}.amazonaws.com", names::BUCKET)),
        path: Some(format!("/{}", names::KEY)),
        interval_s: 10,
        threshold: 1,
        inverted: true,
        disabled: false,
        health_threshold: 0,
        children: Vec::new(),
    };
    let id = world.create_check("shop-switch", config, Cause::Hand, 0).id;
    // It was made long ago, and so has looked: no object, and inverted that is healthy.
    if let Some(check) = world.checks.iter_mut().find(|c| c.id == id) {
        check.healthy = true;
    }
    id
}

fn plain(name: &str, kind: &str, ttl: u32, values: Vec<String>) -> RecordSet {
    RecordSet {
        name: normal(name),
        kind: kind.to_owned(),
        set_id: None,
        weight: None,
        failover: None,
        ttl: Some(ttl),
        values,
        alias: None,
        health_check: None,
    }
}
