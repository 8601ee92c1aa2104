//! Asking a zone's own servers: past every cache, without recursion.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::NameServerPool;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use super::{Dns, DnsError, classed, pool};

/// One server gets this long, repetitions included: a dead one must leave room for the next within a look's timeout.
const SERVER_TIMEOUT: Duration = Duration::from_millis(400);

/// Servers asked in turn in one call.
const SERVERS_ASKED: usize = 4;

/// A zone's NS records are looked up again after this; they change with a migration, not with a failover.
const ZONE_KEPT: Duration = Duration::from_secs(300);

/// Zones kept; there is one a front door.
const KEPT_ZONES: usize = 256;

/// Links of a CNAME chain; more is a circle or as good as one.
const CHAIN: usize = 8;

/// A zone and its servers.
pub struct Zone {
    name: Name,
    servers: Vec<NameServerPool<TokioRuntimeProvider>>,
    next: AtomicUsize,
}

/// The zones whose servers were found through the resolvers, by the name that was asked.
#[derive(Default)]
pub struct Authority(Mutex<HashMap<String, (Instant, Arc<Zone>)>>);

impl Zone {
    /// Asks nothing yet.
    pub fn new(name: Name, servers: &[SocketAddr]) -> Zone {
        let pool = |server: &SocketAddr| pool(*server, SERVER_TIMEOUT, false);
        Zone { name, servers: servers.iter().filter_map(pool).collect(), next: AtomicUsize::new(0) }
    }

    /// How specific the zone is.
    pub fn labels(&self) -> u8 {
        self.name.num_labels()
    }

    /// The first answer with authority, server by server; each call starts at the next one, so that a dead server costs
    /// one call out of several and not each.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = DnsError::Failed(format!("zone {} has no servers", self.name));
        for turn in 0..self.servers.len().min(SERVERS_ASKED) {
            let server = &self.servers[start.wrapping_add(turn) % self.servers.len()];
            let mut how = DnsRequestOptions::default();
            how.recursion_desired = false;
            how.use_edns = true;
            match server.lookup(Query::query(name.clone(), kind), how).first_answer().await.map_err(classed) {
                Ok(answer) if answer.authoritative => return Ok(answer.into()),
                Ok(_) => last = DnsError::Failed(format!("a server of zone {} answered without authority", self.name)),
                Err(DnsError::NxDomain) => return Err(DnsError::NxDomain),
                Err(DnsError::NoData) => return Err(DnsError::NoData),
                Err(other) => last = other,
            }
        }
        Err(last)
    }
}

/// The records of one type that stand at `name` itself, from its zone's servers.
pub async fn records(dns: &Dns, name: &Name, kind: RecordType) -> Result<Vec<Record>, DnsError> {
    let mut answer = zone_of(dns, name).await?.ask(name, kind).await?;
    answer.answers.retain(|record| record.name == *name && record.record_type() == kind);
    Ok(answer.answers)
}

/// The addresses of `name` from its zone's servers: of the first of `kinds` that it has.
pub async fn resolve(dns: &Dns, mut name: Name, kinds: &[RecordType]) -> Result<Vec<IpAddr>, DnsError> {
    let mut zone = zone_of(dns, &name).await?;
    for _ in 0..CHAIN {
        let mut asked = Err(DnsError::NoData);
        for kind in kinds {
            asked = zone.ask(&name, *kind).await;
            if !matches!(asked, Err(DnsError::NoData)) {
                break;
            }
        }
        let answer = asked?;
        let (end, addresses) = walk(&zone.name, name.clone(), &answer);
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        if end == name {
            return Err(DnsError::NoData);
        }
        if !zone.name.zone_of(&end) {
            match configured(dns, &end) {
                Some(other) => zone = other,
                None => {
                    let found = match kinds {
                        [only] => dns.ask_for(&end, *only, Instant::now()).await,
                        _ => dns.addresses(&end.to_string()).await,
                    };
                    return found.map(|found| found.addresses);
                }
            }
        }
        name = end;
    }
    Err(DnsError::Failed(format!("{name} ends a chain of more than {CHAIN} CNAMEs")))
}

/// Follows the CNAMEs within the answer as far as they stay in the zone: beyond it, the server is no authority.
fn walk(zone: &Name, mut name: Name, answer: &Message) -> (Name, Vec<IpAddr>) {
    for _ in 0..CHAIN {
        let addresses: Vec<IpAddr> =
            answer.answers.iter().filter(|record| record.name == name).filter_map(|record| record.data.ip_addr()).collect();
        if !addresses.is_empty() {
            return (name, addresses);
        }
        let next = answer.answers.iter().filter(|record| record.name == name).find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        match next {
            Some(next) if zone.zone_of(&next) => name = next,
            Some(next) => return (next, Vec::new()),
            None => break,
        }
    }
    (name, Vec::new())
}

fn configured(dns: &Dns, name: &Name) -> Option<Arc<Zone>> {
    dns.inner.configured.iter().find(|zone| zone.name.zone_of(name)).cloned()
}

async fn zone_of(dns: &Dns, name: &Name) -> Result<Arc<Zone>, DnsError> {
    if let Some(zone) = configured(dns, name) {
        return Ok(zone);
    }
    let key = name.to_lowercase().to_string();
    let found = |kept: &HashMap<String, (Instant, Arc<Zone>)>| {
        kept.get(&key).filter(|(until, _)| Instant::now() < *until).map(|(_, zone)| zone.clone())
    };
    if let Some(zone) = found(&dns.inner.found.0.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(zone);
    }
    let zone = Arc::new(look_up(dns, name).await?);
    let mut kept = dns.inner.found.0.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= KEPT_ZONES {
        kept.clear();
    }
    kept.insert(key, (Instant::now() + ZONE_KEPT, zone.clone()));
    Ok(zone)
}

/// Walks up from the name to the first zone cut and resolves its servers.
async fn look_up(dns: &Dns, name: &Name) -> Result<Zone, DnsError> {
    let mut cut = name.clone();
    while !cut.is_root() {
        if let Some(servers) = dns.name_servers(&cut).await? {
            let asked = servers.iter().take(SERVERS_ASKED).map(|server| dns.addresses(server));
            let answers = futures_util::future::join_all(asked).await;
            let addresses: Vec<SocketAddr> =
                answers.iter().flatten().filter_map(|answer| answer.addresses.first()).map(|ip| SocketAddr::new(*ip, 53)).collect();
            if addresses.is_empty() {
                return Err(answers
                    .into_iter()
                    .find_map(Result::err)
                    .unwrap_or_else(|| DnsError::Failed(format!("no server of zone {cut} has an address"))));
            }
            return Ok(Zone::new(cut, &addresses));
        }
        cut = cut.base_name();
    }
    Err(DnsError::Failed(format!("no zone was found for {name}")))
}
