//! The front door: what users get, and the proof of which site they get it from.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::dns::{Dns, DnsError, Lately};
use super::http::{Client, Dialer, Expect, HttpSpec, has, judge_header};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, Phases, SiteName, Verdict};
use crate::ports::Probe;

/// How an answer is known to come from a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProofSpec {
    /// The answer came from an address that this name resolves to, now or a little while ago.
    pub load_balancer: Option<String>,
    /// The answer carries this header with this value.
    pub marker: Option<(String, String)>,
}

impl ProofSpec {
    /// Judges `load_balancer` and `marker = { header, value }` of a site's table.
    pub fn judge(site: &Table) -> ProofSpec {
        let load_balancer = site.string("load_balancer").filter(|name| {
            let well = url::Host::parse(name).is_ok();
            if !well {
                site.fault(
                    "load_balancer",
                    format!("{name:?} is not a host name; give the load balancer's DNS name, without scheme or port"),
                );
            }
            well
        });
        if !site.has("marker") {
            return ProofSpec { load_balancer, marker: None };
        }
        let table = site.table("marker");
        let header = table.need_string("header", "the header's name, like \"x-region\"");
        let value = table.need_string("value", "the value that this site sends");
        table.finish();
        let marker = header.zip(value).and_then(|(header, value)| judge_header(&table, &header, &value.into()));
        ProofSpec { load_balancer, marker }
    }
}

/// One app's front door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontDoorSpec {
    /// What users call.
    pub url: Url,
    /// Trust these certificates instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// What an answer must be.
    pub expect: Expect,
    /// How the primary is recognised.
    pub primary: ProofSpec,
    /// How the standby is recognised.
    pub standby: ProofSpec,
}

impl FrontDoorSpec {
    fn proof(&self, site: SiteName) -> &ProofSpec {
        match site {
            SiteName::Primary => &self.primary,
            SiteName::Standby => &self.standby,
        }
    }
}

/// The sites by which an answer is claimed, and words on what was not to be had.
#[derive(Debug, Default)]
struct Claims {
    sites: Vec<SiteName>,
    trouble: Vec<String>,
}

impl Claims {
    fn claim(&mut self, site: SiteName) {
        if !self.sites.contains(&site) {
            self.sites.push(site);
        }
    }

    /// The one site that everything points to, with words for a person.
    fn judge(self) -> (Option<SiteName>, String) {
        let (from, mut words) = match self.sites.as_slice() {
            [one] => (Some(*one), format!("proven to come from {one}")),
            [] => (None, "not proven: neither site's load balancer or marker fits".to_owned()),
            _ => (None, "not proven: it fits both sites".to_owned()),
        };
        for trouble in self.trouble {
            words.push_str("; ");
            words.push_str(&trouble);
        }
        (from, words)
    }
}

/// What the two load balancers had lately, primary first.
type Memory = Mutex<[Lately; 2]>;

/// What a load balancer resolves to now; `None`: the site names none.
type Resolved = Option<Result<Vec<IpAddr>, DnsError>>;

/// What the two load balancers resolve to now.
struct Balancers([(SiteName, Resolved); 2]);

impl Balancers {
    /// Both at once and cut off at `until`: the name of a site that is gone must not hold up the proof of the other.
    async fn resolve(dns: &Dns, spec: &FrontDoorSpec, until: Instant) -> Balancers {
        let one = async |site| match &spec.proof(site).load_balancer {
            None => None,
            Some(name) => Some(timeout_at(until, dns.addresses(name)).await.unwrap_or(Err(DnsError::Timeout)).map(|found| found.addresses)),
        };
        let (primary, standby) = tokio::join!(one(SiteName::Primary), one(SiteName::Standby));
        Balancers([(SiteName::Primary, primary), (SiteName::Standby, standby)])
    }

    /// Claims for the site whose load balancer has, or lately had, every one of `addresses`; for both, if both had one of
    /// them, which proves neither.
    fn claim(&self, addresses: &[IpAddr], memory: &Memory, now: Instant, claims: &mut Claims) {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        for ((site, answer), lately) in self.0.iter().zip(memory.iter_mut()) {
            lately.forget_old(now);
            match answer {
                Some(Ok(addresses)) => lately.add(addresses, now),
                Some(Err(cause)) => claims.trouble.push(format!("{site}'s load balancer: {cause}")),
                None => {}
            }
        }
        let shared = addresses.iter().any(|address| memory.iter().all(|lately| lately.has(address)));
        for ((site, _), lately) in self.0.iter().zip(memory.iter()) {
            if shared || (!addresses.is_empty() && addresses.iter().all(|address| lately.has(address))) {
                claims.claim(*site);
            }
        }
    }
}

/// The last share of a look's time that is left for the verdict when a load balancer's name hangs.
fn cut_off(start: Instant, timeout: Duration) -> Instant {
    start + timeout.mul_f64(0.9)
}

/// Looks at the front door as a user does, and says which site answered.
pub struct FrontDoorProbe {
    spec: FrontDoorSpec,
    client: Client,
    dns: Dns,
    memory: Memory,
}

impl FrontDoorProbe {
    /// A probe for that front door.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(spec: FrontDoorSpec, dialer: &Dialer) -> Result<FrontDoorProbe, String> {
        let look = HttpSpec { ca_file: spec.ca_file.clone(), expect: spec.expect.clone(), ..HttpSpec::get(spec.url.clone()) };
        Ok(FrontDoorProbe { client: dialer.client(look)?, dns: dialer.dns().clone(), memory: Memory::default(), spec })
    }
}

#[async_trait]
impl Probe for FrontDoorProbe {
    /// `from` is set only if the answer is up *and* proven: an error page of the target serves nobody.
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        let until = cut_off(Instant::now(), timeout);
        let (seen, balancers) = tokio::join!(self.client.look(timeout), Balancers::resolve(&self.dns, &self.spec, until));
        let (Some(headers), Some(address)) = (&seen.headers, seen.address) else {
            return Finding { phases: seen.phases, ..Finding::new(seen.verdict, seen.detail) };
        };
        let mut claims = Claims::default();
        balancers.claim(&[address.ip()], &self.memory, Instant::now(), &mut claims);
        for site in SiteName::ALL {
            if let Some((name, value)) = &self.spec.proof(*site).marker
                && has(headers, name, value)
            {
                claims.claim(*site);
            }
        }
        let (from, words) = claims.judge();
        let from = from.filter(|_| seen.verdict == Verdict::Up);
        Finding { phases: seen.phases, from, ..Finding::new(seen.verdict, format!("{}; {words}", seen.detail)) }
    }
}

/// Asks the zone's own servers for the front door's name, past every cache, and says whose load balancer they answer with.
pub struct AuthorityProbe {
    spec: FrontDoorSpec,
    dns: Dns,
    memory: Memory,
}

impl AuthorityProbe {
    /// A probe for that front door's name.
    pub fn new(spec: FrontDoorSpec, dns: &Dns) -> Arc<AuthorityProbe> {
        Arc::new(AuthorityProbe { spec, dns: dns.clone(), memory: Memory::default() })
    }
}

#[async_trait]
impl Probe for AuthorityProbe {
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        let start = Instant::now();
        let host = self.spec.url.host_str().unwrap_or_default();
        let asked = async {
            let answer = timeout_at(start + timeout, self.dns.authoritative(host)).await.unwrap_or(Err(DnsError::Timeout));
            (answer, start.elapsed())
        };
        let ((answer, took), balancers) = tokio::join!(asked, Balancers::resolve(&self.dns, &self.spec, cut_off(start, timeout)));
        let phases = Phases { resolve: Some(took), ..Phases::default() };
        let addresses = match answer {
            Ok(addresses) => addresses,
            // Out of time, these servers are as silent as any other peer; but our own uplink may be what is slow.
            Err(DnsError::Timeout) => {
                return Finding {
                    phases,
                    ..Finding::new(Verdict::Unknown(Cause::ResolverTimeout), format!("{host}: its zone's servers did not answer in time"))
                };
            }
            Err(cause) => return Finding { phases, ..Finding::new(cause.verdict(), format!("{host} at its zone's servers: {cause}")) },
        };
        let mut claims = Claims::default();
        balancers.claim(&addresses, &self.memory, Instant::now(), &mut claims);
        let (from, words) = claims.judge();
        let shown = addresses.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Finding { phases, from, ..Finding::new(Verdict::Up, format!("{host} is {shown} at its zone's servers; {words}")) }
    }
}

#[cfg(test)]
mod tests;
