//! The stage: the pretend cloud's truth, what lies between it and the daemon, and what both have left behind.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;
use watchover::domain::ledger::Record;
use watchover::domain::model::{SiteName, Subject, Verdict};
use watchover::lab::faults::{Fault, FaultRules};
use watchover::lab::world::{ApiError, STANDBY_REGION, World, WorldSpec};
use watchover::ports::{ErrorClass, StepError};

use crate::coverage::Coverage;
use crate::deeds::of_api;

/// How long a call into silence is waited for: the reference's `call_timeout`.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that reached the cloud and may have changed it.
pub struct Request {
    /// The life that sent it.
    pub life: u64,
    /// The step that sent it.
    pub step: &'static str,
    /// Milliseconds of the world.
    pub at: u64,
    /// Rows that were durable by then.
    pub rows: usize,
    /// The standby's database took writes by then.
    pub promoted: bool,
    /// That life had inspected the step before, for that incident.
    pub inspected: bool,
    /// AWS had accepted the same from this life: once asked, a promotion goes on by itself.
    pub again: bool,
}

/// A look as it came back to the daemon.
pub struct Seen {
    /// The life that looked.
    pub life: u64,
    /// The machine's boot, whose timeline it is on.
    pub boot: Arc<str>,
    pub subject: Option<Subject>,
    /// Rows that were durable when it came back.
    pub rows: i64,
    /// Monotonic microseconds at which it was sent.
    pub sent: i64,
    /// And at which it was over.
    pub done: i64,
    pub verdict: Verdict,
    /// Which site answered, where that was proven.
    pub from: Option<SiteName>,
}

impl Seen {
    /// True of a look at that subject, in the boot that wrote the row.
    pub fn is_of(&self, subject: Option<Subject>, row: &Record) -> bool {
        self.subject == subject && *self.boot == *row.boot_id
    }

    /// True if it says how its subject is.
    pub fn tells(&self) -> bool {
        !matches!(self.verdict, Verdict::Unknown(_))
    }
}

/// What the disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Well,
    /// Takes nothing.
    Full,
}

/// Everything.
pub struct Stage {
    pub world: World,
    pub faults: FaultRules,
    start: Instant,
    /// Peers that cannot be reached: packets vanish.
    pub cut: BTreeSet<&'static str>,
    /// Added to each way, milliseconds.
    pub slow: u64,
    /// The life that may still do something; every earlier one is a ghost.
    pub life: u64,
    /// Crossings of a door so far, and the one at which the process dies.
    pub doors: u64,
    pub dies_at: Option<u64>,
    pub died: Arc<Notify>,
    pub rows: Vec<Record>,
    pub disk: Disk,
    pub requests: Vec<Request>,
    pub seen: Vec<Seen>,
    /// What each life has inspected: incident and step.
    pub inspected: BTreeSet<(u64, String, &'static str)>,
    /// Where resolvers that honour the TTL still send users, and until when.
    cached: Option<(&'static str, u64)>,
    pub coverage: Coverage,
    pub rng: SmallRng,
}

/// The stage as the doors hold it.
pub type Shared = Arc<Mutex<Stage>>;

pub fn lock(stage: &Shared) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a call on its way.
enum Fate {
    Silence,
    Goes(Option<Fault>),
}

impl Stage {
    pub fn new(seed: u64) -> Stage {
        Stage {
            world: World::new(&WorldSpec::lab(seed)),
            faults: FaultRules::default(),
            start: Instant::now(),
            cut: BTreeSet::new(),
            slow: 0,
            life: 0,
            doors: 0,
            dies_at: None,
            died: Arc::new(Notify::new()),
            rows: Vec::new(),
            disk: Disk::Well,
            requests: Vec::new(),
            seen: Vec::new(),
            inspected: BTreeSet::new(),
            cached: None,
            coverage: Coverage::default(),
            rng: SmallRng::seed_from_u64(seed ^ 0x5eed),
        }
    }

    /// Milliseconds since the world's birth.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Wall clock of the world's birth, microseconds.
    pub fn birth(&self) -> i64 {
        i64::try_from(self.world.unix_ms(0)).unwrap_or(i64::MAX) * 1_000
    }

    /// True if packets to this peer vanish.
    pub fn is_silent(&mut self, peer: &str) -> bool {
        self.is_cut(peer) || self.world.is_isolated()
    }

    /// True if the way to this peer alone is cut.
    pub fn is_cut(&mut self, peer: &str) -> bool {
        let cut = self.cut.contains(peer);
        if cut {
            self.coverage.cut(peer);
        }
        cut
    }

    /// The way to a peer, once.
    pub fn way(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(1..12) + self.slow)
    }

    /// Where a user's resolver sends them now, by the zone's answers and the TTL.
    pub fn users_go(&mut self) -> Option<&'static str> {
        let now = self.now();
        self.world.advance(now);
        if let Some((site, until)) = self.cached
            && now < until
        {
            return Some(site);
        }
        let sites: Vec<&'static str> = self.world.front_door_sites(0).into_iter().collect();
        let site = match sites.as_slice() {
            [] => return None,
            all => all[self.rng.random_range(0..all.len())],
        };
        let ttl = u64::from(self.world.profile().record_ttl_s) * 1_000;
        self.cached = Some((site, now + ttl));
        Some(site)
    }

    /// The process is dead from here on: nothing of this life does anything any more.
    pub fn kill(&mut self) {
        self.life += 1;
        self.dies_at = None;
    }

    /// One crossing of a door. False: the process is dead.
    pub fn cross(&mut self, life: u64) -> bool {
        if self.life != life {
            return false;
        }
        self.doors += 1;
        if self.dies_at == Some(self.doors) {
            self.coverage.fault("killed-at-a-door");
            self.kill();
            self.died.notify_one();
            return false;
        }
        true
    }

    fn fate(&mut self, peer: &str, service: &str, region: &str, operation: &str) -> Fate {
        let now = self.now();
        if self.is_silent(peer) || self.world.is_dark(region) {
            return Fate::Silence;
        }
        let fault = self.faults.next(service, region, operation, now);
        if let Some(fault) = &fault {
            self.coverage.fault(of_api(fault));
        }
        match fault {
            Some(Fault::Hang) => Fate::Silence,
            other => Fate::Goes(other),
        }
    }
}

/// One life of the daemon, as the doors know it.
#[derive(Clone)]
pub struct Life {
    pub stage: Shared,
    pub number: u64,
}

impl Life {
    /// Crosses a door; a dead process never comes back from it.
    pub async fn door(&self) {
        let alive = lock(&self.stage).cross(self.number);
        if !alive {
            std::future::pending::<()>().await;
        }
    }

    /// A call to one of AWS's APIs. `step` names the step that changes something by it, and the incident.
    pub async fn call<T: Send>(
        &self,
        (service, region, operation): (&str, &str, &str),
        time_left: Duration,
        step: Option<(&'static str, &str)>,
        act: impl FnOnce(&mut World, u64) -> Result<T, ApiError> + Send,
    ) -> Result<T, StepError> {
        self.door().await;
        let peer = format!("{service}/{region}");
        let (way, fate) = {
            let mut stage = lock(&self.stage);
            let way = stage.way();
            (way, stage.fate(&peer, service, region, operation))
        };
        let retry = |code: &str| Err(StepError::new(ErrorClass::Retry, code, format!("{service} {operation} in {region}: {code}")));
        let patience = CALL_TIMEOUT.min(time_left);
        let fault = match fate {
            Fate::Silence => {
                tokio::time::sleep(patience).await;
                return retry("timeout");
            }
            Fate::Goes(fault) => fault,
        };
        tokio::time::sleep(way).await;
        match &fault {
            Some(Fault::Answer { code, .. }) => {
                let class = match code.as_str() {
                    "AccessDenied" => ErrorClass::Refused,
                    _ => ErrorClass::Retry,
                };
                return Err(StepError::new(class, code.clone(), format!("{service} {operation} in {region}: {code}")));
            }
            Some(Fault::DropBefore) => return retry("lost"),
            _ => {}
        }
        let result = {
            let mut stage = lock(&self.stage);
            if let Some((step, incident)) = step {
                // Of itself: whether its region just went dark nobody can know before the next look.
                let there = || stage.world.databases().iter().filter(|database| database.region == STANDBY_REGION);
                let promoted = there().any(|database| database.writable());
                let accepted = there().any(|database| database.promotions > 0 || database.promotion.is_some());
                let asked = stage.requests.iter().any(|request| request.step == step && request.life == self.number);
                let again = step == "promote" && accepted && asked;
                let inspected = stage.inspected.contains(&(self.number, incident.to_owned(), step));
                let request = Request { life: self.number, step, at: stage.now(), rows: stage.rows.len(), promoted, inspected, again };
                stage.requests.push(request);
            }
            let now = stage.now();
            act(&mut stage.world, now)
        };
        // Here the process may die with its request done and the answer lost.
        self.door().await;
        match fault {
            Some(Fault::DropAfter) => return retry("lost"),
            Some(Fault::Latency { millis }) => tokio::time::sleep(Duration::from_millis(millis).min(patience)).await,
            _ => {}
        }
        let back = lock(&self.stage).way();
        tokio::time::sleep(back).await;
        result.map_err(|error| {
            let class = match error.code {
                "Throttling" | "PriorRequestNotComplete" | "InvalidDBInstanceState" => ErrorClass::Retry,
                _ => ErrorClass::Refused,
            };
            StepError::new(class, error.code, format!("{service} {operation} in {region}: {error}"))
        })
    }
}
