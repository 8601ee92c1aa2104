//! What all servers of one lab share: the world, the clock, the faults and the count of calls.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::faults::FaultRules;
use super::postgres::Postgres;
use super::world::{Millis, World, WorldSpec};
use super::writers::Log;

/// Connections from here are users; everything else is the bastion.
pub const USER_ADDRESS: [u8; 4] = [127, 0, 9, 9];

/// How often an operation was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Service.
    pub service: String,
    /// Region.
    pub region: String,
    /// Operation.
    pub operation: String,
    /// Whether it changes something.
    pub mutation: bool,
    /// How often.
    pub count: u64,
}

/// Service, region and operation.
type Operation = (String, String, String);

/// The shared state of one lab.
#[derive(Debug)]
pub struct Cloud {
    world: Mutex<World>,
    faults: Mutex<FaultRules>,
    calls: Mutex<BTreeMap<Operation, (bool, u64)>>,
    users: Mutex<Log>,
    postgres: OnceLock<Arc<Postgres>>,
    born: Instant,
}

impl Cloud {
    /// A world that is born now.
    pub fn new(mut spec: WorldSpec) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        spec.base_unix_ms = u64::try_from(unix.as_millis()).unwrap_or_default();
        Self {
            world: Mutex::new(World::new(&spec)),
            faults: Mutex::default(),
            calls: Mutex::default(),
            users: Mutex::default(),
            postgres: OnceLock::new(),
            born: Instant::now(),
        }
    }

    /// Milliseconds since birth.
    pub fn now(&self) -> Millis {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The world, up to date.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.world);
        world.advance(self.now());
        world
    }

    /// The fault rules.
    pub fn faults(&self) -> MutexGuard<'_, FaultRules> {
        lock(&self.faults)
    }

    /// What users saw.
    pub fn users(&self) -> MutexGuard<'_, Log> {
        lock(&self.users)
    }

    /// The real servers behind the databases, if there are any.
    pub fn postgres(&self) -> Option<&Arc<Postgres>> {
        self.postgres.get()
    }

    /// Puts real servers behind the databases, before any user writes; later ones than the first are ignored.
    pub fn set_postgres(&self, servers: Option<Arc<Postgres>>) {
        if let Some(servers) = servers {
            self.postgres.get_or_init(|| servers);
        }
    }

    /// Counts a call.
    pub fn count(&self, service: &str, region: &str, operation: &str, mutation: bool) {
        let key = (service.to_owned(), region.to_owned(), operation.to_owned());
        lock(&self.calls).entry(key).or_insert((mutation, 0)).1 += 1;
    }

    /// All counts.
    pub fn calls(&self) -> Vec<Calls> {
        let row = |((service, region, operation), (mutation, count)): (&Operation, &(bool, u64))| Calls {
            service: service.clone(),
            region: region.clone(),
            operation: operation.clone(),
            mutation: *mutation,
            count: *count,
        };
        lock(&self.calls).iter().map(row).collect()
    }

    /// Whether somebody at this address is cut off.
    pub fn cut_off(&self, peer: IpAddr) -> bool {
        peer != IpAddr::from(USER_ADDRESS) && self.world().is_isolated()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not turn into a second one here; the truth is still the best there is.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
