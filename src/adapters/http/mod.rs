//! The look over HTTP: one bounded request, its phases timed, its failure named.
//!
//! Everything that asks HTTP questions about health stands on this file: the `http` signal, the front door, witnesses.
//! Bodies are never decompressed, nothing outlives the look but kept-alive connections, and no look owns a task.

mod bound;
mod certificate;
mod exchange;
mod expect;
#[cfg(test)]
pub mod server;
mod spec;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, Response, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::dns::Dns;
use crate::domain::model::{Cause, Finding, Phases, Verdict};
use crate::ports::Probe;
use exchange::Open;
pub use exchange::io_classed;
pub use expect::{Expect, StatusSet, has, judge_header};
pub use spec::{HttpSpec, Target, check_ca_file};
pub use tls::{Roots, trusting_nobody};

/// A verdict other than up, with words for a person.
pub type Bad = (Verdict, String);

/// A look that ends this much after its timeout says more about us (stopped, starved) than about the other side.
const LATE: Duration = Duration::from_millis(250);

/// The ground of all looks over HTTP: names, and the machine's root certificates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer {
    dns: Dns,
    roots: Arc<Roots>,
}

impl Dialer {
    /// Reads no certificates yet: plain http never needs them.
    pub fn new(dns: Dns) -> Dialer {
        Dialer { dns, roots: Arc::default() }
    }

    /// The names it stands on.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// TLS settings with the machine's roots, shared by all.
    ///
    /// # Errors
    /// The machine has no readable roots.
    pub fn native_tls(&self) -> Result<Arc<ClientConfig>, String> {
        self.roots.native()
    }

    /// A client for looks of that kind. Reads `ca_file`, or for https the machine's roots, here and not at the first look.
    ///
    /// # Errors
    /// Certificates that cannot be read; a method or a TLS name that is none.
    pub fn client(&self, spec: HttpSpec) -> Result<Client, String> {
        let method = Method::from_bytes(spec.method.as_bytes()).map_err(|_| format!("{:?} is not an HTTP method", spec.method))?;
        let client = Client { dialer: self.clone(), method, tls: OnceLock::new(), turn: AtomicUsize::new(0), idle: Mutex::default(), spec };
        if client.spec.url.scheme() == "https" || client.spec.ca_file.is_some() {
            client.tls()?;
        }
        Ok(client)
    }
}

/// What a look saw, before anyone asks what it proves.
#[derive(Debug)]
pub struct Seen {
    /// The verdict.
    pub verdict: Verdict,
    /// A line for a person; never the URL's path or query.
    pub detail: String,
    /// Durations; summed over redirects.
    pub phases: Phases,
    /// The address last connected to.
    pub address: Option<SocketAddr>,
    /// The headers of the last answer, if there was one.
    pub headers: Option<HeaderMap>,
    /// When the certificate last shown ends (wall, microseconds); `None` without TLS.
    pub certificate: Option<i64>,
}

/// Looks at one URL, each time at the next of its addresses.
pub struct Client {
    spec: HttpSpec,
    dialer: Dialer,
    method: Method,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    turn: AtomicUsize,
    idle: Mutex<HashMap<SocketAddr, Open>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Resolve,
    Connect,
    Tls,
    Wait,
    Body,
}

/// What a look has done so far; it outlives the look's cancellation.
struct Trace {
    phase: Phase,
    since: Instant,
    phases: Phases,
    address: Option<SocketAddr>,
    headers: Option<HeaderMap>,
    certificate: Option<i64>,
}

impl Trace {
    /// Ends the running phase and begins the next.
    fn enter(&mut self, next: Phase) {
        let now = Instant::now();
        let slot = match self.phase {
            Phase::Resolve => &mut self.phases.resolve,
            Phase::Connect => &mut self.phases.connect,
            Phase::Tls => &mut self.phases.tls,
            Phase::Wait => &mut self.phases.wait,
            Phase::Body => &mut self.phases.body,
        };
        *slot = Some(slot.unwrap_or_default() + (now - self.since));
        self.phase = next;
        self.since = now;
    }
}

/// Where one hop ends.
enum Hop {
    There(String),
    Redirect(Url, Method),
}

impl Client {
    /// One look, bounded by `timeout` from its first question to its last byte.
    pub async fn look(&self, timeout: Duration) -> Seen {
        let start = Instant::now();
        let mut trace =
            Trace { phase: Phase::Resolve, since: start, phases: Phases::default(), address: None, headers: None, certificate: None };
        let ended = timeout_at(start + timeout, self.walk(&mut trace)).await;
        let (phase, late) = (trace.phase, start.elapsed() > timeout + LATE);
        trace.enter(phase);
        let whom = trace.address.map_or_else(String::new, |address| format!("{address}: "));
        let (verdict, detail) = match ended {
            Ok(Ok(words)) => (Verdict::Up, words),
            _ if late => {
                (Verdict::Unknown(Cause::LoopLate), format!("our own clock jumped: the look took {:.1?} of {timeout:?}", start.elapsed()))
            }
            Ok(Err((verdict, words))) => (verdict, format!("{whom}{words}")),
            Err(_) if phase == Phase::Resolve => {
                (Verdict::Unknown(Cause::ResolverTimeout), format!("the name was not resolved within {timeout:?}"))
            }
            Err(_) => (Verdict::Down(Cause::TimedOut), format!("{whom}no answer within {timeout:?}, waiting {}", waiting(phase))),
        };
        Seen { verdict, detail, phases: trace.phases, address: trace.address, headers: trace.headers, certificate: trace.certificate }
    }

    async fn walk(&self, trace: &mut Trace) -> Result<String, Bad> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (mut url, mut method, mut followed) = (self.spec.url.clone(), self.method.clone(), 0);
        loop {
            match self.hop(&url, &method, turn, followed, trace).await? {
                Hop::There(words) => return Ok(words),
                Hop::Redirect(next, how) => (url, method, followed) = (next, how, followed + 1),
            }
        }
    }

    async fn hop(&self, url: &Url, method: &Method, turn: usize, followed: u32, trace: &mut Trace) -> Result<Hop, Bad> {
        let ours = url.host_str() == self.spec.url.host_str();
        let (host, port) = match (&self.spec.connect_to, url.port_or_known_default()) {
            // A redirect to another port of the same host stays with the site that is looked at.
            (Some(target), Some(port)) if ours && url.port_or_known_default() != self.spec.url.port_or_known_default() => {
                (target.host.as_str(), port)
            }
            (Some(target), _) if ours => (target.host.as_str(), target.port),
            (_, Some(port)) => (url.host_str().unwrap_or_default(), port),
            (_, None) => return Err((Verdict::Down(Cause::Malformed), format!("the redirect leads to a {} address", url.scheme()))),
        };
        trace.enter(Phase::Resolve);
        let mut ips = self.dialer.dns.addresses(host).await.map_err(|cause| (cause.verdict(), format!("{host}: {cause}")))?.addresses;
        // Servers shuffle their answers; the round must not depend on it.
        ips.sort_unstable();
        let address = SocketAddr::new(ips[turn % ips.len()], port);
        trace.address = Some(address);
        let (found, open) = match self.kept(address, &ips) {
            Some(open) => {
                trace.enter(Phase::Wait);
                match self.ask(open, url, method, followed, trace).await {
                    // Closed while nobody looked: the server's right, and no evidence. A new connection tells.
                    Err((Verdict::Down(Cause::Reset), _)) if trace.phase == Phase::Wait => {
                        self.fresh(address, url, method, ours, followed, trace).await?
                    }
                    other => other?,
                }
            }
            None => self.fresh(address, url, method, ours, followed, trace).await?,
        };
        if let Some(open) = open
            && self.spec.keep_alive
            && ours
        {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).insert(address, open);
        }
        Ok(found)
    }

    async fn fresh(
        &self,
        address: SocketAddr,
        url: &Url,
        method: &Method,
        ours: bool,
        followed: u32,
        trace: &mut Trace,
    ) -> Result<(Hop, Option<Open>), Bad> {
        let tls = match url.scheme() {
            "https" => {
                let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                let name = self.spec.server_name.as_deref().filter(|_| ours).unwrap_or(host).to_owned();
                let name =
                    ServerName::try_from(name).map_err(|cause| (Verdict::Down(Cause::Tls), format!("the TLS name is none: {cause}")))?;
                Some((self.tls().map_err(|cause| (Verdict::Unknown(Cause::Unclassified), cause))?, name))
            }
            _ => None,
        };
        let open = exchange::open(address, tls, bound::on_the_wire(self.spec.max_body), trace).await?;
        self.ask(open, url, method, followed, trace).await
    }

    async fn ask(&self, open: Open, url: &Url, method: &Method, followed: u32, trace: &mut Trace) -> Result<(Hop, Option<Open>), Bad> {
        trace.certificate = open.certificate();
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("watchover/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "identity");
        if !self.spec.keep_alive {
            request = request.header(header::CONNECTION, "close");
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|cause| (Verdict::Unknown(Cause::Unclassified), format!("the request cannot be built: {cause}")))?;
        exchange::exchange(open, request, async |response| self.judge(response, url, method, followed, trace).await).await
    }

    async fn judge(
        &self,
        response: Response<Incoming>,
        url: &Url,
        method: &Method,
        followed: u32,
        trace: &mut Trace,
    ) -> Result<(Hop, bool), Bad> {
        trace.enter(Phase::Body);
        let (head, body) = response.into_parts();
        let (status, expect) = (head.status, &self.spec.expect);
        let location = head.headers.get(header::LOCATION).filter(|_| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)).cloned();
        let headers = trace.headers.insert(head.headers);
        if let Some(location) = location
            && self.spec.follow_redirects > 0
        {
            if followed >= self.spec.follow_redirects {
                return Err((Verdict::Down(Cause::Redirects), format!("HTTP {status} after {followed} redirects")));
            }
            let next = location.to_str().ok().and_then(|text| url.join(text).ok()).filter(|next| matches!(next.scheme(), "http" | "https"));
            let next =
                next.ok_or_else(|| (Verdict::Down(Cause::Malformed), format!("HTTP {status} with a Location that leads nowhere")))?;
            let method = if status.as_u16() == 303 && method != Method::HEAD { Method::GET } else { method.clone() };
            return Ok((Hop::Redirect(next, method), false));
        }
        if !expect.status.holds(status.as_u16()) {
            return Err((Verdict::Down(Cause::Status), format!("HTTP {status}, expected {}", expect.status)));
        }
        if let Some(name) = expect.missing_header(headers) {
            return Err((Verdict::Down(Cause::Header), format!("HTTP {status}, but the header {name} is missing or has another value")));
        }
        let whole = exchange::read(body, &self.spec).await.map_err(|(verdict, words)| (verdict, format!("HTTP {status}, but {words}")))?;
        let from = trace.address.map_or_else(String::new, |address| format!(" from {address}"));
        Ok((Hop::There(format!("HTTP {status}{from}")), whole))
    }

    /// The kept connection to that address; connections to addresses that the name no longer has are closed.
    fn kept(&self, address: SocketAddr, ips: &[std::net::IpAddr]) -> Option<Open> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept, _| ips.contains(&kept.ip()));
        idle.remove(&address)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        self.tls
            .get_or_init(|| match &self.spec.ca_file {
                _ if !self.spec.verify_tls => tls::unverified(),
                Some(file) => tls::from_file(file),
                None => self.dialer.native_tls(),
            })
            .clone()
    }
}

fn waiting(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "for the name",
        Phase::Connect => "to connect",
        Phase::Tls => "for the TLS handshake",
        Phase::Wait => "for the answer",
        Phase::Body => "for the rest of the body",
    }
}

#[async_trait]
impl Probe for Client {
    async fn look(&self, timeout: Duration, now: i64) -> Finding {
        let seen = Client::look(self, timeout).await;
        let left = seen.certificate.map(|ends| format!("; {}", certificate::left(ends, now))).unwrap_or_default();
        Finding { phases: seen.phases, certificate: seen.certificate, ..Finding::new(seen.verdict, format!("{}{left}", seen.detail)) }
    }
}

#[cfg(test)]
mod tests;
