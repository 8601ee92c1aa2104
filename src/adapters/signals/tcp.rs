//! `tcp`: does a port take connections? The look that is left where nothing speaks HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::adapters::Adapters;
use crate::adapters::dns::Dns;
use crate::adapters::http::{Target, io_classed};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, Phases, Verdict};
use crate::ports::{ErrorClass, Probe, StepError};

/// A look that ends this much after its timeout says more about us (stopped, starved) than about the other side.
const LATE: Duration = Duration::from_millis(250);

/// The kind's entry in the registry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "tcp",
    doc: "One TCP port: taken is up; refused, reset or silent is down. It says nothing of what answers behind it. Each look goes to the next address.",
    keys: &[KeyDoc {
        name: "connect_to",
        form: "host:port",
        default: "",
        doc: "What is connected to. Looks go round all addresses of that name, so that a half-dead set is seen.",
    }],
    aws: false,
    replica: false,
    judge,
    build,
    permissions: |_| Vec::new(),
};

fn judge(table: &Table, _: &SignalPlace) -> Option<Value> {
    let text = table.need_string("connect_to", "host:port, like \"db.example.com:5432\"")?;
    let target = Target::parse(&text).map_err(|problem| table.fault("connect_to", problem)).ok()?;
    Some(json!({ "connect_to": target }))
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let target: Target = serde_json::from_value(spec.keys["connect_to"].clone()).map_err(|cause| {
        StepError::new(ErrorClass::Refused, "bad-keys", format!("signal {}: its stored connect_to cannot be read: {cause}", spec.name))
    })?;
    Ok(Arc::new(Tcp { target, dns: adapters.dns.clone(), turn: AtomicUsize::new(0) }))
}

struct Tcp {
    target: Target,
    dns: Dns,
    turn: AtomicUsize,
}

#[async_trait]
impl Probe for Tcp {
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        let start = Instant::now();
        let until = start + timeout;
        let mut phases = Phases::default();
        let (verdict, words) = self.connect(timeout, until, &mut phases).await;
        let took = start.elapsed();
        if took > timeout + LATE && verdict != Verdict::Up {
            return Finding::new(
                Verdict::Unknown(Cause::LoopLate),
                format!("our own clock jumped: the look took {took:.1?} of {timeout:?}"),
            );
        }
        Finding { phases, ..Finding::new(verdict, words) }
    }
}

impl Tcp {
    async fn connect(&self, timeout: Duration, until: Instant, phases: &mut Phases) -> (Verdict, String) {
        let host = &self.target.host;
        let begun = Instant::now();
        let resolved = timeout_at(until, self.dns.addresses(host)).await;
        phases.resolve = Some(begun.elapsed());
        let mut ips = match resolved {
            Ok(Ok(found)) => found.addresses,
            Ok(Err(cause)) => return (cause.verdict(), format!("{host}: {cause}")),
            Err(_) => return (Verdict::Unknown(Cause::ResolverTimeout), format!("{host} was not resolved within {timeout:?}")),
        };
        // Servers shuffle their answers; the round must not depend on it.
        ips.sort_unstable();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::new(ips[turn % ips.len()], self.target.port);
        let begun = Instant::now();
        let connected = timeout_at(until, TcpStream::connect(address)).await;
        phases.connect = Some(begun.elapsed());
        match connected {
            Ok(Ok(_)) => (Verdict::Up, format!("connected to {address}")),
            Ok(Err(cause)) => {
                let (verdict, words) = io_classed(&cause, "connecting");
                (verdict, format!("{address}: {words}"))
            }
            Err(_) => (Verdict::Down(Cause::TimedOut), format!("{address}: no connection within {timeout:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::dns::DnsSpec;
    use crate::adapters::dns::fake::{Fake, Says, at};
    use crate::config::judge::Problems;

    const SOON: Duration = Duration::from_millis(400);

    fn probe(target: &str, resolver: SocketAddr) -> Tcp {
        let dns = Dns::new(&DnsSpec { resolvers: vec![resolver.to_string()], ..DnsSpec::default() }).unwrap();
        Tcp { target: Target::parse(target).unwrap(), dns, turn: AtomicUsize::new(0) }
    }

    #[tokio::test]
    async fn what_takes_connections_is_up_and_looks_go_round() {
        let (fake, resolver) = Fake::start().await;
        let listener = tokio::net::TcpListener::bind("127.0.1.11:0").await.unwrap();
        fake.set("db.example.com", at(&[11, 12], 60));
        let probe = probe(&format!("db.example.com:{}", listener.local_addr().unwrap().port()), resolver);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let found = probe.look(SOON, 0).await;
            assert!(found.phases.resolve.is_some() && found.phases.connect.is_some() && found.phases.wait.is_none());
            seen.push(found.verdict);
        }
        let refused = Verdict::Down(Cause::Refused);
        assert_eq!(seen, [Verdict::Up, refused, Verdict::Up, refused], "half of it is dead, and that shows");
    }

    #[tokio::test]
    async fn what_never_answers_is_down_and_what_we_cannot_reach_is_unknown() {
        let (fake, resolver) = Fake::start().await;
        // A listener whose backlog is full drops what comes: the kernel repeats, and nothing comes back.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream);
            assert!(waiting.len() < 64, "the backlog never fills");
        }
        let found = probe(&address.to_string(), resolver).look(SOON, 0).await;
        assert_eq!(found.verdict, Verdict::Down(Cause::TimedOut), "{}", found.detail);
        // An address of a family that cannot be routed from here: the broadcast address is refused by our own stack.
        let found = probe("255.255.255.255:80", resolver).look(SOON, 0).await;
        assert_eq!(found.verdict, Verdict::Unknown(Cause::NoRoute), "{}", found.detail);
        fake.set("silent.example.com", Says::Silence);
        assert_eq!(probe("silent.example.com:1", resolver).look(SOON, 0).await.verdict, Verdict::Unknown(Cause::ResolverTimeout));
        assert_eq!(probe("missing.example.com:1", resolver).look(SOON, 0).await.verdict, Verdict::Down(Cause::NxDomain));
    }

    #[test]
    fn a_port_must_be_named() {
        for (keys, part) in [(json!({}), "is missing"), (json!({"connect_to": "db.example.com"}), "has no port")] {
            let problems = Problems::default();
            let Value::Object(map) = keys else { unreachable!() };
            assert!(judge(&Table::new("", map, &problems), &SignalPlace::default()).is_none());
            assert!(problems.take()[0].message.contains(part), "{part}");
        }
    }
}
