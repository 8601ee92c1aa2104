//! The things in the world: sites with their load balancers, groups with their instances, databases.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Millis;

/// One of the two sites of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteName {
    /// Where the app normally lives.
    Primary,
    /// Where it goes.
    Standby,
}

impl SiteName {
    /// Both, in the order in which the world holds them.
    pub const BOTH: [Self; 2] = [Self::Primary, Self::Standby];

    /// The word in configurations, events and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Standby => 1,
        }
    }
}

/// How a site's front behaves, as far as it is broken by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum SiteMode {
    /// As it should.
    Ok,
    /// Nothing listens: a connection is torn down at once.
    Refuse,
    /// The connection is reset.
    Reset,
    /// The connection is accepted, and nothing comes.
    Hang,
    /// Every answer is a 500.
    Error,
    /// Every answer comes late.
    Slow {
        /// By how much, in milliseconds.
        millis: u64,
    },
    /// The answer is a 200 with a body and without a marker, from somebody else.
    WrongBody,
    /// This share of the requests fails.
    Share {
        /// From 0 to 1.
        fraction: f64,
    },
}

/// A load balancer with real addresses on loopback.
#[derive(Clone, Debug, Serialize)]
pub struct Balancer {
    /// AWS's name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Public DNS name, without a dot at the end.
    pub dns_name: String,
    /// The zone that an alias to it names.
    pub zone_id: String,
    /// Where its listeners are.
    pub addresses: Vec<Ipv4Addr>,
    /// ARN of its target group.
    pub target_group_arn: String,
    /// Name of its target group.
    pub target_group: String,
}

/// One region's half of the app.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    /// Which one.
    pub name: SiteName,
    /// Where it is.
    pub region: String,
    /// Name of its Auto Scaling group.
    pub group: String,
    /// Identifier of its database.
    pub database: String,
    /// Its front.
    pub balancer: Balancer,
    /// How the front is broken.
    pub mode: SiteMode,
    /// Whether the app runs on its instances.
    pub app_running: bool,
    #[serde(skip)]
    pub(super) turn: usize,
    #[serde(skip)]
    pub(super) share: f64,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Lifecycle {
    /// Launching.
    Pending,
    /// Working.
    InService,
    /// On its way out.
    Terminating,
}

/// What the load balancer thinks of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Not yet looked at often enough.
    Initial,
    /// Gets requests.
    Healthy,
    /// Gets none.
    Unhealthy,
    /// Leaving.
    Draining,
}

/// One machine.
#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    /// Identifier.
    pub id: String,
    /// Availability zone.
    pub zone: String,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Whether the machine is alive; its group learns of a death later.
    pub alive: bool,
    /// What the load balancer thinks of it.
    pub target: Target,
    /// When it was launched.
    pub launched: Millis,
    #[serde(skip)]
    pub(super) in_service_since: Millis,
}

/// An Auto Scaling group.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Where.
    pub region: String,
    /// Name.
    pub name: String,
    /// Smallest size.
    pub min: u32,
    /// Size it strives for.
    pub desired: u32,
    /// Largest size.
    pub max: u32,
    /// Suspended processes.
    pub suspended: BTreeSet<String>,
    /// Its machines.
    pub instances: Vec<Instance>,
    /// The site that it serves, if any.
    pub site: Option<SiteName>,
    /// Launches are refused for want of machines.
    pub no_capacity: bool,
}

/// One line of a group's history.
#[derive(Clone, Debug, Serialize)]
pub struct Activity {
    /// Identifier.
    pub id: String,
    /// Where.
    pub region: String,
    /// Whose.
    pub group: String,
    /// What was done.
    pub description: String,
    /// Why.
    pub cause: String,
    /// When it began.
    pub start: Millis,
    /// When it ended.
    pub end: Option<Millis>,
    /// AWS's status word.
    pub status: &'static str,
    pub(super) instance: String,
}

/// What the link of a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replication {
    /// Flowing.
    Ok,
    /// Stopped with an error.
    Broken,
    /// Stopped by a person.
    Paused,
}

/// How far a promotion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// Asked for; the status still says `available`.
    Accepted,
    /// `modifying`.
    Modifying,
    /// `rebooting`.
    Rebooting,
    /// Done: standalone and writable.
    Done,
}

/// An RDS database.
#[derive(Clone, Debug, Serialize)]
pub struct Database {
    /// Where.
    pub region: String,
    /// Identifier.
    pub id: String,
    /// Engine.
    pub engine: String,
    /// AWS's status word.
    pub status: String,
    /// Region and identifier of the source, while it is a replica.
    pub source: Option<(String, String)>,
    /// What it was a replica of, after a promotion.
    pub was_replica_of: Option<(String, String)>,
    /// How far its promotion has come.
    pub promotion: Option<Promotion>,
    /// Promotions that took effect.
    pub promotions: u32,
    /// Its link, while it is a replica.
    pub replication: Replication,
    /// Seconds by which the link runs behind beyond its usual lag.
    pub extra_lag_ms: u64,
    /// It holds every write of its source up to here, in milliseconds since birth; negative is history.
    pub applied_ms: i64,
    /// Endpoint.
    pub endpoint: String,
    /// Address of the endpoint on loopback.
    pub address: Ipv4Addr,
    /// Two availability zones.
    pub multi_az: bool,
    /// Days that backups are kept.
    pub backup_retention: u32,
    /// Class.
    pub class: String,
    /// What its lag metric says instead of the truth.
    pub metric: MetricMode,
    #[serde(skip)]
    pub(super) plan: Vec<(u64, Step)>,
    #[serde(skip)]
    pub(super) epoch: u64,
}

/// A lag metric bent by hand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricMode {
    /// The truth.
    Truth,
    /// No datapoints at all.
    Missing,
    /// Always this number.
    Fixed(f64),
}

/// One step of what a database goes through by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Status(&'static str),
    Promote(Promotion, &'static str),
    Promoted,
    Delete,
    Settle { multi_az: Option<bool>, retention: Option<u32> },
}

impl Database {
    /// ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:rds:{}:{}:db:{}", self.region, super::ACCOUNT, self.id)
    }

    /// Whether it takes writes, as far as the database itself is concerned.
    pub fn writable(&self) -> bool {
        self.source.is_none() && matches!(self.status.as_str(), "available" | "backing-up" | "modifying" | "storage-optimization")
    }
}
