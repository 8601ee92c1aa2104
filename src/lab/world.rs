//! The truth of the pretend cloud: pure, seeded, and time is an argument.
//!
//! Nothing in here sleeps, reads a clock or opens a socket. Whatever changes by itself (a promotion, a
//! launch, a health check, a datapoint) waits in a queue of ticks, and [`World::advance`] plays them in
//! order of their time. Two worlds with the same seed that are asked the same things at the same times are
//! the same. The wire faces only translate; simulated incidents call the same operations directly.

mod alarms;
mod autoscaling;
mod boxes;
mod dynamics;
mod events;
mod health;
mod metrics;
mod model;
mod rds;
mod rds_admin;
mod real;
mod records;
mod replication;
mod resolve;
mod route53;
mod seeded;
mod sites;
mod snapshot;
mod tenants;
mod words;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

pub use alarms::{Alarm, AlarmConfig, AlarmState, Comparison, MetricAlarm, Missing};
pub use autoscaling::Sizes;
pub use boxes::{Bucket, Message, Object, PublicAccess, Topic};
pub use events::{ApiError, Cause, Event};
pub use health::{CheckConfig, CheckKind, HealthCheck};
pub use metrics::{MetricKey, Sample};
pub use model::{
    Activity, Balancer, Database, Group, Instance, Lifecycle, MetricMode, Promotion, Replication, Site, SiteMode, SiteName, Target,
};
pub use rds::{Modify, NewReplica};
pub use real::Line;
pub use records::{Alias, Change, ChangeAction, Failover, RecordSet, Zone, normal as normal_name, reversed as reversed_labels};
pub use replication::{Ack, TrueLoss};
pub use resolve::{Answer, AnswerRecord, Outcome};
pub use seeded::Rules;
pub use seeded::{ACCOUNT, PRIMARY_REGION, STANDBY_REGION, SWITCH_REGION, Traffic, WorldSpec, names};
pub use sites::{Ask, SiteReply};
pub use tenants::Tenant;
pub use words::mode_words;

use super::profile::Profile;

/// Milliseconds since the world's birth.
pub type Millis = u64;

/// The whole truth.
#[derive(Clone, Debug)]
pub struct World {
    profile: Profile,
    seed: u64,
    rng: SmallRng,
    base_unix_ms: u64,
    now: Millis,
    queue: BinaryHeap<Reverse<(Millis, u64, Tick)>>,
    ticks: u64,
    dark: BTreeSet<String>,
    isolated: bool,
    sites: [Site; 2],
    groups: Vec<Group>,
    activities: Vec<Activity>,
    databases: Vec<Database>,
    zones: Vec<Zone>,
    changes: Vec<Change>,
    checks: Vec<HealthCheck>,
    buckets: Vec<Bucket>,
    topics: Vec<Topic>,
    metrics: BTreeMap<MetricKey, Vec<Sample>>,
    requests: [metrics::Requests; 2],
    alarms: Vec<Alarm>,
    acks: Vec<Ack>,
    events: Vec<Event>,
    first_effect: Option<Millis>,
    busy: bool,
    rules: Rules,
    tenants: Vec<Tenant>,
    front_door_points: Vec<BTreeSet<&'static str>>,
    real: Option<real::Real>,
    route53_tokens: (f64, Millis),
    route53_too_fast: u64,
}

/// What waits in the queue. The order of the variants breaks ties, so it is part of the determinism.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tick {
    Launched(String),
    Gone(String),
    Replace(String),
    Targets(SiteName),
    Database { region: String, id: String, epoch: u64 },
    Propagate(String),
    InSync(String),
    HealthCheck(String),
    Minute,
}

impl World {
    /// The world's birth: two regions with the app in them, and a quarter of an hour of history.
    pub fn new(spec: &WorldSpec) -> Self {
        let mut world = Self {
            profile: spec.profile.clone(),
            seed: spec.seed,
            rng: SmallRng::seed_from_u64(spec.seed),
            base_unix_ms: spec.base_unix_ms,
            now: 0,
            queue: BinaryHeap::new(),
            ticks: 0,
            dark: BTreeSet::new(),
            isolated: false,
            sites: seeded::sites(),
            groups: Vec::new(),
            activities: Vec::new(),
            databases: Vec::new(),
            zones: Vec::new(),
            changes: Vec::new(),
            checks: Vec::new(),
            buckets: Vec::new(),
            topics: Vec::new(),
            metrics: BTreeMap::new(),
            requests: Default::default(),
            alarms: Vec::new(),
            acks: Vec::new(),
            events: Vec::new(),
            first_effect: None,
            busy: false,
            rules: spec.rules(),
            tenants: (0..spec.apps.max(1)).map(Tenant::numbered).collect(),
            front_door_points: Vec::new(),
            real: None,
            route53_tokens: (spec.profile.route53_burst as f64, 0),
            route53_too_fast: 0,
        };
        seeded::furnish(&mut world, spec);
        world
    }

    /// Plays everything that happens by itself up to `now`. Going back is ignored: callers on several
    /// threads read their clocks before they get the lock.
    pub fn advance(&mut self, now: Millis) {
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > now {
                break;
            }
            if let Some(Reverse((at, _, tick))) = self.queue.pop() {
                self.now = self.now.max(at);
                self.play(tick);
            }
        }
        self.now = self.now.max(now);
    }

    /// When the next thing happens by itself, for a caller with virtual time.
    pub fn next_tick(&self) -> Option<Millis> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The world's time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Wall clock in Unix milliseconds at this time of the world.
    pub fn unix_ms(&self, at: Millis) -> u64 {
        self.base_unix_ms + at
    }

    /// The seed it was born from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How long things take in it.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Whether a region is dark: it accepts, and stays silent.
    pub fn is_dark(&self, region: &str) -> bool {
        self.dark.contains(region)
    }

    /// Whether the bastion is cut off from everything, users being unaffected.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// What the referee must know of how this world was born.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Both sites.
    pub fn sites(&self) -> &[Site; 2] {
        &self.sites
    }

    /// One site.
    pub fn site(&self, name: SiteName) -> &Site {
        &self.sites[name.index()]
    }

    /// All Auto Scaling groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// All databases.
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// All hosted zones.
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// All health checks.
    pub fn checks(&self) -> &[HealthCheck] {
        &self.checks
    }

    /// All buckets.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// All topics.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Everything that effectively happened, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Every acknowledged write, in order.
    pub fn acks(&self) -> &[Ack] {
        &self.acks
    }

    /// When the first API call took effect.
    pub fn first_effect(&self) -> Option<Millis> {
        self.first_effect
    }

    /// Requests that Route 53 refused because the account was above its pace.
    pub fn route53_too_fast(&self) -> u64 {
        self.route53_too_fast
    }

    fn later(&mut self, delay: u64, tick: Tick) {
        self.ticks += 1;
        self.queue.push(Reverse((self.now + delay, self.ticks, tick)));
    }

    fn play(&mut self, tick: Tick) {
        match tick {
            Tick::Launched(id) => self.instance_launched(&id),
            Tick::Gone(id) => self.instance_gone(&id),
            Tick::Replace(id) => self.replace_instance(&id),
            Tick::Targets(site) => self.evaluate_targets(site),
            Tick::Database { region, id, epoch } => self.database_tick(&region, &id, epoch),
            Tick::Propagate(change) => self.propagate(&change),
            Tick::InSync(change) => self.change_in_sync(&change),
            Tick::HealthCheck(id) => self.evaluate_check(&id),
            Tick::Minute => self.minute(),
        }
    }

    /// A hexadecimal identifier of this length; AWS's ids are such.
    fn hex_id(&mut self, length: usize) -> String {
        let mut text = String::new();
        while text.len() < length {
            text.push_str(&format!("{:016x}", self.rng.next_u64()));
        }
        text.truncate(length);
        text
    }
}
