//! What a history is made of: everything that somebody or something does to the world, to the daemon or to its config.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use watchover::domain::model::Mode;
use watchover::domain::policy::{AppPolicy, OnRpoExceeded};
use watchover::lab::faults::{Fault, Rule};
use watchover::lab::world::{MetricMode, PRIMARY_REGION, Replication, STANDBY_REGION, SiteMode, SiteName as Site, Sizes};

use crate::stage::{Disk, Stage};

/// Whom we can be cut off from.
pub const PEERS: &[&str] = &[
    "primary",
    "standby",
    "witness",
    "dns",
    "rds/us-east-1",
    "cloudwatch/us-east-1",
    "autoscaling/us-east-1",
    "autoscaling/ap-south-1",
    "route53/global",
];

/// All addresses of a load balancer but one are dead.
pub const HALF_DEAD: SiteMode = SiteMode::Share { fraction: 0.75 };

/// What a new config says otherwise.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    Mode(Mode),
    /// The objective for the loss, in seconds, and what is done beyond it.
    Limits {
        objective: u64,
        on_exceeded: OnRpoExceeded,
    },
    /// Whether the promotion waits for the fence, and how many seconds it may take.
    Plan {
        fenced: bool,
        deadline: u64,
    },
}

impl Change {
    pub fn made(self, policy: &mut AppPolicy) {
        match self {
            Change::Mode(mode) => policy.mode = mode,
            Change::Limits { objective, on_exceeded } => {
                (policy.rpo_objective, policy.on_rpo_exceeded) = (Duration::from_secs(objective), on_exceeded);
            }
            Change::Plan { fenced, deadline } => {
                for step in policy.failover.steps.iter_mut().filter(|step| step.name == "promote") {
                    step.after = if fenced { vec!["fence".to_owned()] } else { Vec::new() };
                    step.deadline = Duration::from_secs(deadline);
                }
            }
        }
    }

    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Change::Mode(_) => "reload-mode",
            Change::Limits { .. } => "reload-limits",
            Change::Plan { .. } => "reload-plan",
        }
    }
}

/// Something that is done to the world, or to the daemon.
#[derive(Debug, Clone)]
pub enum Deed {
    Dark(&'static str, bool),
    Mode(Site, SiteMode),
    /// Its addresses die but for one, and nothing else happens for long: three looks of four fail, in no run that lasts.
    HalfDead(Site),
    App(Site, bool),
    InstanceDies,
    NoCapacity(bool),
    /// A person starts the primary's group again.
    Refill,
    Isolated(bool),
    Cut(&'static str, bool),
    Slow(u64),
    Api(&'static str, &'static str, &'static str, Fault, Option<u32>),
    Replication(Replication, u64),
    Metric(MetricMode),
    /// The metric, and nothing else until that is all one reads of it: a datapoint a minute, two minutes late.
    MetricForLong(MetricMode),
    Busy(&'static str),
    ClockStep(i64),
    Paused(Duration),
    Kill,
    KillAt(u64),
    Boot {
        reboot: bool,
    },
    /// The daemon is killed, its journal is gone, and it starts again.
    JournalLost,
    Disk(Disk),
    Reload(Change),
    Person(u32),
}

/// Everything that goes wrong in a history, with the time before each.
pub fn script(rng: &mut SmallRng) -> Vec<(Duration, Deed)> {
    let mut deeds = Vec::new();
    // Most histories hold a real outage early; the rest is left to chance.
    if rng.random_bool(0.7) {
        let wait = Duration::from_millis(rng.random_range(0..4_000));
        deeds.push((wait, if rng.random_bool(0.6) { Deed::Dark(PRIMARY_REGION, true) } else { Deed::App(Site::Primary, false) }));
    }
    for _ in 0..rng.random_range(3..14) {
        let wait = match rng.random_range(0..10) {
            0..5 => rng.random_range(1..600),
            5..9 => rng.random_range(600..5_000),
            _ => rng.random_range(5_000..20_000),
        };
        deeds.push((Duration::from_millis(wait), deed(rng)));
    }
    deeds
}

fn change(rng: &mut SmallRng) -> Change {
    match rng.random_range(0..4) {
        0 => Change::Limits {
            objective: rng.random_range(30..600),
            on_exceeded: *OnRpoExceeded::ALL.choose(rng).unwrap_or(&OnRpoExceeded::Hold),
        },
        1 => Change::Plan { fenced: rng.random_bool(0.5), deadline: rng.random_range(5..60) },
        _ => Change::Mode(*Mode::ALL.choose(rng).unwrap_or(&Mode::Automatic)),
    }
}

fn fault(rng: &mut SmallRng) -> Fault {
    let answer = |status, code: &str| Fault::Answer { status, code: code.to_owned(), message: code.to_owned() };
    match rng.random_range(0..10) {
        0..2 => answer(400, "Throttling"),
        2 => answer(503, "ServiceUnavailable"),
        3 => answer(403, "AccessDenied"),
        4 => Fault::Hang,
        5 => Fault::Latency { millis: rng.random_range(100..6_000) },
        6..8 => Fault::DropBefore,
        _ => Fault::DropAfter,
    }
}

fn deed(rng: &mut SmallRng) -> Deed {
    let site = if rng.random_bool(0.8) { Site::Primary } else { Site::Standby };
    match rng.random_range(0..100) {
        0..6 => Deed::Dark(if rng.random_bool(0.8) { PRIMARY_REGION } else { STANDBY_REGION }, true),
        6..12 => Deed::Dark(if rng.random_bool(0.8) { PRIMARY_REGION } else { STANDBY_REGION }, false),
        12..20 => {
            let modes = [
                SiteMode::Refuse,
                SiteMode::Reset,
                SiteMode::Hang,
                SiteMode::Error,
                SiteMode::WrongBody,
                SiteMode::Slow { millis: 1_000 },
                SiteMode::Share { fraction: 0.5 },
                HALF_DEAD,
                SiteMode::Ok,
                SiteMode::Ok,
            ];
            Deed::Mode(site, modes.choose(rng).cloned().unwrap_or(SiteMode::Ok))
        }
        20..25 => Deed::App(site, rng.random_bool(0.4)),
        25 if rng.random_bool(0.4) => Deed::HalfDead(site),
        25..27 => Deed::InstanceDies,
        27 => Deed::NoCapacity(rng.random_bool(0.6)),
        28 => Deed::Refill,
        29..33 => Deed::Isolated(rng.random_bool(0.6)),
        33..40 => Deed::Cut(PEERS.choose(rng).copied().unwrap_or("primary"), rng.random_bool(0.6)),
        40..42 => Deed::Slow(*[0, 50, 400].choose(rng).unwrap_or(&0)),
        42..58 => {
            let calls = [
                ("rds", "PromoteReadReplica"),
                ("rds", "PromoteReadReplica"),
                ("rds", "DescribeDBInstances"),
                ("autoscaling", "UpdateAutoScalingGroup"),
                ("autoscaling", "DescribeAutoScalingGroups"),
                ("route53", "ChangeResourceRecordSets"),
                ("route53", "ListResourceRecordSets"),
                ("cloudwatch", "GetMetricData"),
                ("*", "*"),
            ];
            let (service, operation) = *calls.choose(rng).unwrap_or(&("*", "*"));
            Deed::Api(service, "*", operation, fault(rng), rng.random_bool(0.7).then(|| rng.random_range(1..4)))
        }
        58..62 => {
            let state = *[Replication::Ok, Replication::Broken, Replication::Paused].choose(rng).unwrap_or(&Replication::Ok);
            Deed::Replication(state, *[0, 0, 40_000, 400_000].choose(rng).unwrap_or(&0))
        }
        62 if rng.random_bool(0.4) => Deed::MetricForLong(if rng.random_bool(0.5) { MetricMode::Missing } else { MetricMode::Fixed(-1.0) }),
        62..64 => {
            Deed::Metric(*[MetricMode::Truth, MetricMode::Missing, MetricMode::Fixed(-1.0)].choose(rng).unwrap_or(&MetricMode::Truth))
        }
        64..66 => Deed::Busy(["backing-up", "modifying", "available"].choose(rng).copied().unwrap_or("available")),
        66..68 => Deed::ClockStep(rng.random_range(-120_000_000..120_000_000)),
        68..71 => Deed::Paused(Duration::from_millis(rng.random_range(500..15_000))),
        71..74 => Deed::Kill,
        74..79 => Deed::KillAt(rng.random_range(1..60)),
        79..84 => Deed::Boot { reboot: rng.random_bool(0.2) },
        84..86 => Deed::Disk(if rng.random_bool(0.5) { Disk::Full } else { Disk::Well }),
        86 => Deed::JournalLost,
        87 => Deed::Reload(change(rng)),
        _ => Deed::Person(rng.random_range(0..14)),
    }
}

/// The name under which a fault of an API is counted, where it hits.
pub fn of_api(fault: &Fault) -> &'static str {
    match fault {
        Fault::Answer { code, .. } if code == "Throttling" => "api-throttles",
        Fault::Answer { code, .. } if code == "AccessDenied" => "api-denies",
        Fault::Answer { .. } => "api-fails",
        Fault::Hang => "api-hangs",
        Fault::Latency { .. } => "api-late",
        Fault::DropBefore => "api-loses-request",
        Fault::DropAfter => "api-loses-answer",
    }
}

impl Stage {
    /// What is done to the world, the network or the disk; what is done to the daemon is not the stage's.
    pub fn undergo(&mut self, deed: Deed) {
        let now = self.now();
        let name = match deed {
            Deed::Dark(region, dark) => {
                self.world.set_dark(region, dark, now);
                if dark { "region-dark" } else { "region-lit" }
            }
            Deed::Mode(site, mode) => {
                let name = match &mode {
                    SiteMode::Ok => "site-mended",
                    SiteMode::Refuse => "site-refuses",
                    SiteMode::Reset => "site-resets",
                    SiteMode::Hang => "site-hangs",
                    SiteMode::Error => "site-errors",
                    SiteMode::WrongBody => "site-wrong-body",
                    SiteMode::Slow { .. } => "site-slow",
                    SiteMode::Share { .. } => "site-brown-out",
                };
                self.world.set_site_mode(site, mode, now);
                name
            }
            Deed::App(site, running) => {
                self.world.set_app(site, running, now);
                if running { "app-started" } else { "app-stopped" }
            }
            Deed::InstanceDies => {
                let found = self.world.groups().iter().flat_map(|group| &group.instances).map(|one| one.id.clone()).next();
                if let Some(id) = found {
                    drop(self.world.kill_instance(&id, now));
                }
                "instance-dies"
            }
            Deed::NoCapacity(on) => {
                drop(self.world.set_no_capacity("shop-standby", on, now));
                "no-capacity"
            }
            Deed::Refill => {
                drop(self.world.update_group(PRIMARY_REGION, "shop-primary", Sizes { min: Some(2), desired: Some(2), max: Some(4) }, now));
                "group-refilled"
            }
            Deed::Isolated(on) => {
                self.world.set_isolated(on, now);
                if on { "isolated" } else { "connected" }
            }
            Deed::Cut(peer, on) => {
                // Counted where somebody is not heard because of it.
                if on {
                    self.cut.insert(peer);
                } else {
                    self.cut.remove(peer);
                }
                return;
            }
            Deed::Slow(by) => {
                self.slow = by;
                if by == 0 { "quick-network" } else { "slow-network" }
            }
            Deed::Api(service, region, operation, fault, times) => {
                let (service, region, operation) = (service.to_owned(), region.to_owned(), operation.to_owned());
                self.faults.add(Rule { service, region, operation, fault, times, until: Some(now + 20_000) });
                // Counted where it hits.
                return;
            }
            Deed::Replication(state, extra) => {
                self.world.set_replication("shop-replica", Some(state), Some(extra), now);
                match (state, extra) {
                    (Replication::Broken, _) => "replication-broken",
                    (Replication::Paused, _) => "replication-paused",
                    (Replication::Ok, 0) => "replication-mended",
                    (Replication::Ok, _) => "replication-late",
                }
            }
            Deed::Metric(mode) => {
                self.world.set_lag_metric("shop-replica", mode, now);
                match mode {
                    MetricMode::Truth => "lag-told",
                    MetricMode::Missing => "lag-missing",
                    // Counted where it is read.
                    MetricMode::Fixed(_) => return,
                }
            }
            Deed::Busy(status) => {
                // Only a replica that nobody asked anything of is busy with something of its own.
                let idle = self.world.database(STANDBY_REGION, "shop-replica").is_some_and(|found| found.promotion.is_none());
                if !idle {
                    return;
                }
                self.world.set_database_status("shop-replica", status, now);
                if status == "available" { "database-idle" } else { "database-busy" }
            }
            Deed::KillAt(doors) => {
                self.dies_at = Some(self.doors + doors);
                return;
            }
            Deed::Disk(disk) => {
                self.disk = disk;
                if disk == Disk::Full { "disk-full" } else { "disk-mended" }
            }
            Deed::ClockStep(_)
            | Deed::Paused(_)
            | Deed::Kill
            | Deed::JournalLost
            | Deed::Boot { .. }
            | Deed::Reload(_)
            | Deed::MetricForLong(_)
            | Deed::HalfDead(_)
            | Deed::Person(_) => return,
        };
        self.coverage.fault(name);
    }

    /// The world is whole again; what the daemon has done to it stays.
    pub fn mend(&mut self) {
        let now = self.now();
        for region in [PRIMARY_REGION, STANDBY_REGION] {
            self.world.set_dark(region, false, now);
        }
        for site in [Site::Primary, Site::Standby] {
            self.world.set_site_mode(site, SiteMode::Ok, now);
            self.world.set_app(site, true, now);
        }
        self.world.set_isolated(false, now);
        drop(self.world.set_no_capacity("shop-standby", false, now));
        if self.world.database(STANDBY_REGION, "shop-replica").is_some_and(|found| found.promotion.is_none()) {
            self.world.set_database_status("shop-replica", "available", now);
        }
        self.world.set_replication("shop-replica", Some(Replication::Ok), Some(0), now);
        self.world.set_lag_metric("shop-replica", MetricMode::Truth, now);
        self.cut.clear();
        self.faults.clear();
        (self.slow, self.disk, self.dies_at) = (0, Disk::Well, None);
    }
}
