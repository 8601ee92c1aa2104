//! Names to addresses, as users' resolvers see them and as the zone's own servers answer them.
//!
//! Two ways to ask, because the proof of a move needs both: [`Dns::addresses`] through resolvers, kept for
//! exactly the TTL and not a moment longer, and [`Dns::authoritative`] past every cache.

mod authority;
#[cfg(test)]
pub mod fake;
mod lately;
mod question;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Semantic, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, TokioResolver, system_conf};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout, timeout_at};

use crate::domain::model::{Cause, Verdict};
use authority::{Authority, Zone};
pub use lately::{FULL_PART, Lately};
pub use question::{RecordKind, Servers, Whom};

/// One question through the resolvers, with its repetitions. A look's own timeout is usually shorter and cuts it off
/// first; this bounds the questions that nobody else bounds.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// All questions of one call together: A, then AAAA, then once more after a refusal.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// A negative answer is remembered this long at most: it only keeps many looks at one missing name from asking at once.
const NEGATIVE: Duration = Duration::from_secs(1);

/// Names kept. The config names a few dozen; redirects could name any number.
const KEPT_NAMES: usize = 1_024;

/// The lifetime of an address that no server gave: an IP literal.
const FOREVER: Duration = Duration::from_secs(86_400);

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSpec {
    /// `system` for the machine's own resolvers (and its hosts file), or addresses as [`resolver_address`] takes them.
    pub resolvers: Vec<String>,
    /// Zones whose servers are known; for all others the zone's NS records are looked up.
    pub authoritative: BTreeMap<String, Vec<SocketAddr>>,
}

impl Default for DnsSpec {
    fn default() -> DnsSpec {
        DnsSpec { resolvers: vec!["system".to_owned()], authoritative: BTreeMap::new() }
    }
}

/// An address of a name server: `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:53`; port 53 if none stands there.
pub fn resolver_address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))
    })
}

/// Why a [`DnsSpec`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dns: {0}")]
pub struct DnsSetupError(String);

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// An authority says that the name does not exist.
    #[error("the name does not exist (NXDOMAIN)")]
    NxDomain,
    /// The name exists and has no address.
    #[error("the name has no address (no A and no AAAA record)")]
    NoData,
    /// Nobody answered in time.
    #[error("no DNS server answered in time")]
    Timeout,
    /// Everything else: a refusal, a broken server, a name that is none.
    #[error("DNS failed: {0}")]
    Failed(String),
}

impl DnsError {
    /// What this means for a look: only what an authority said counts, the rest may be our own resolver's fault.
    pub fn verdict(&self) -> Verdict {
        match self {
            DnsError::NxDomain => Verdict::Down(Cause::NxDomain),
            DnsError::NoData => Verdict::Down(Cause::NoData),
            DnsError::Timeout => Verdict::Unknown(Cause::ResolverTimeout),
            DnsError::Failed(_) => Verdict::Unknown(Cause::ResolverFailed),
        }
    }
}

/// Addresses, and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In the order of the server; never empty. IPv4 where there is any.
    pub addresses: Vec<IpAddr>,
    /// When the shortest TTL of the chain ends, counted from the moment the question was sent.
    pub expires: Instant,
}

/// What is kept of one name: the lock lets one look ask while the others wait for its answer.
type Slot = Arc<AsyncMutex<Option<(Instant, Result<Answer, DnsError>)>>>;

/// The ground that everything with a host name stands on. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Dns {
    inner: Arc<Inner>,
}

struct Inner {
    resolver: TokioResolver,
    configured: Vec<Arc<Zone>>,
    found: Authority,
    kept: Mutex<HashMap<String, Slot>>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

impl Dns {
    /// Sets up the resolvers; asks nothing yet. The machine's resolver file is read here, once.
    ///
    /// # Errors
    /// A resolver that is no address, an unreadable system configuration, a zone that is no name or has no servers.
    pub fn new(spec: &DnsSpec) -> Result<Dns, DnsSetupError> {
        let (mut servers, mut hosts) = (Vec::new(), ResolveHosts::Never);
        for text in &spec.resolvers {
            if text.trim() == "system" {
                let (system, _) = system_conf::read_system_conf().map_err(|cause| {
                    DnsSetupError(format!(
                        "reading the system's resolvers (/etc/resolv.conf) failed: {cause}; mend it or name addresses in dns.resolvers"
                    ))
                })?;
                servers.extend(system.into_parts().2);
                hosts = ResolveHosts::Always;
            } else {
                let address = resolver_address(text).ok_or_else(|| {
                    DnsSetupError(format!("resolver {text:?} is neither \"system\" nor an address like \"192.0.2.1:53\""))
                })?;
                servers.push(name_server(address));
            }
        }
        if servers.is_empty() {
            return Err(DnsSetupError("there is no resolver; give \"system\" or addresses in dns.resolvers".to_owned()));
        }
        let mut builder = TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), TokioRuntimeProvider::default());
        *builder.options_mut() = options(QUERY_TIMEOUT);
        builder.options_mut().use_hosts_file = hosts;
        let resolver = builder.build().map_err(|cause| DnsSetupError(format!("setting up the resolvers failed: {cause}")))?;
        let mut configured = Vec::new();
        for (zone, servers) in &spec.authoritative {
            let name = parse(zone).map_err(|_| DnsSetupError(format!("zone {zone:?} is not a DNS name")))?;
            if servers.is_empty() {
                return Err(DnsSetupError(format!("zone {zone:?} has no servers; give addresses like \"192.0.2.1:53\"")));
            }
            configured.push(Arc::new(Zone::new(name, servers)));
        }
        // The longest suffix wins, so it comes first.
        configured.sort_by_key(|zone| std::cmp::Reverse(zone.labels()));
        Ok(Dns { inner: Arc::new(Inner { resolver, configured, found: Authority::default(), kept: Mutex::default() }) })
    }

    /// The addresses of `host` through the resolvers, from our own cache while every TTL of the chain lasts. IP literals pass
    /// through. IPv6 addresses are asked for only where there is no IPv4 one: a bastion without IPv6 would see half of
    /// its looks fail for a reason of its own.
    ///
    /// # Errors
    /// As [`DnsError`] says; remembered for a second at most, and only if an authority said so.
    pub async fn addresses(&self, host: &str) -> Result<Answer, DnsError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Answer { addresses: vec![ip], expires: Instant::now() + FOREVER });
        }
        let name = parse(host)?;
        let slot = self.slot(&name.to_lowercase().to_string());
        let asked = Instant::now();
        let mut kept = timeout_at(asked + CALL_TIMEOUT, slot.lock()).await.map_err(|_| DnsError::Timeout)?;
        if let Some((until, answer)) = kept.as_ref()
            && Instant::now() < *until
        {
            return answer.clone();
        }
        let asked = Instant::now();
        let answer = timeout(CALL_TIMEOUT, self.ask(&name, asked)).await.unwrap_or(Err(DnsError::Timeout));
        *kept = match &answer {
            Ok(found) => Some((found.expires, answer.clone())),
            Err(DnsError::NxDomain | DnsError::NoData) => Some((asked + NEGATIVE, answer.clone())),
            Err(DnsError::Timeout | DnsError::Failed(_)) => None,
        };
        answer
    }

    /// The addresses of `name` as the zone's own servers answer them now: never cached, recursion not desired. The servers
    /// are the configured ones of the longest matching zone, else those of the zone's NS records (looked up through the
    /// resolvers, kept five minutes). CNAMEs are followed; one that leaves the zone goes on through the resolvers.
    ///
    /// # Errors
    /// As [`DnsError`] says. A server that does not answer with authority is `Failed`.
    pub async fn authoritative(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = parse(name)?;
        timeout(CALL_TIMEOUT, authority::resolve(self, name, &[RecordType::A, RecordType::AAAA])).await.unwrap_or(Err(DnsError::Timeout))
    }

    async fn ask(&self, name: &Name, asked: Instant) -> Result<Answer, DnsError> {
        match self.ask_for(name, RecordType::A, asked).await {
            Err(DnsError::NoData) => self.ask_for(name, RecordType::AAAA, asked).await,
            answer => answer,
        }
    }

    async fn ask_for(&self, name: &Name, kind: RecordType, asked: Instant) -> Result<Answer, DnsError> {
        let lookup = self.inner.resolver.lookup(name.clone(), kind).await.map_err(classed)?;
        // The TTLs run from when the question was sent: the answer may have been made at any moment since.
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let addresses: Vec<IpAddr> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Err(DnsError::NoData);
        }
        Ok(Answer { addresses, expires: asked + Duration::from_secs(u64::from(ttl)) })
    }

    /// The servers that `name`'s NS records name, with their zone's apex. `None`: no records at this very name.
    async fn name_servers(&self, name: &Name) -> Result<Option<Vec<String>>, DnsError> {
        match self.inner.resolver.lookup(name.clone(), RecordType::NS).await.map_err(classed) {
            // At a CNAME the resolver answers with the NS records of where it leads: those are another zone's.
            Ok(lookup) => Ok(Some(
                lookup
                    .answers()
                    .iter()
                    .filter(|record| record.name == *name)
                    .filter_map(|record| match &record.data {
                        RData::NS(server) => Some(server.0.to_string()),
                        _ => None,
                    })
                    .collect::<Vec<_>>(),
            )
            .filter(|servers| !servers.is_empty())),
            Err(DnsError::NxDomain | DnsError::NoData) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn slot(&self, name: &str) -> Slot {
        let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_NAMES && !kept.contains_key(name) {
            // Only looks in flight hold a slot; the rest is forgotten and asked again.
            kept.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        kept.entry(name.to_owned()).or_default().clone()
    }
}

/// A name server reached by UDP, and by TCP where an answer does not fit.
fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::new(ProtocolConfig::Udp), ConnectionConfig::new(ProtocolConfig::Tcp)];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// A pool of one server. Hickory's TLS settings are empty as long as its TLS features are off, so there is nothing that
/// could fail.
fn pool(server: SocketAddr, timeout: Duration, recursion: bool) -> Option<NameServerPool<TokioRuntimeProvider>> {
    let mut options = options(timeout);
    options.recursion_desired = recursion;
    let context = PoolContext::new(options, TlsConfig::new().ok()?);
    Some(NameServerPool::from_config([name_server(server)], Arc::new(context), TokioRuntimeProvider::default()))
}

/// Options of every pool. Hickory's own cache is off: ours keeps the TTL to the moment, and forgets negatives sooner.
fn options(timeout: Duration) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options
}

/// Every name is taken as absolute: a search domain with a wildcard would make a missing name look alive.
fn parse(text: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(text).map_err(|cause| DnsError::Failed(format!("{text:?} is not a DNS name: {cause}")))?;
    if name.is_root() {
        return Err(DnsError::Failed("the name is empty".to_owned()));
    }
    name.set_fqdn(true);
    Ok(name)
}

/// The one place where hickory's errors get their meaning.
fn classed(error: NetError) -> DnsError {
    match error {
        NetError::Dns(Semantic::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NxDomain,
            // A referral without answer: the server knows somebody who may know.
            _ if none.ns.is_some() && none.soa.is_none() => DnsError::Failed("the server only refers to other servers".to_owned()),
            _ => DnsError::NoData,
        },
        NetError::Dns(Semantic::ResponseCode(code)) => DnsError::Failed(format!("the server answered {code}")),
        NetError::Timeout => DnsError::Timeout,
        other => DnsError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
