//! `dns`: what a name answers, at its zone's own servers, at resolvers, or at servers that the config names.
//!
//! What an authority says counts: no such name, no such record, another address than expected. That nobody answers may be
//! our own resolver's fault and is unknown.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::adapters::Adapters;
use crate::adapters::dns::{Dns, DnsError, FULL_PART, Lately, RecordKind, Servers, Whom, resolver_address};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, Phases, Verdict};
use crate::ports::{ErrorClass, Probe, StepError};

/// The kind's entry in the registry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "dns",
    doc: "What a name answers: NXDOMAIN, no record of the type, or another value than expected is down; silence is unknown. Never from our own cache.",
    keys: &[
        KeyDoc { name: "host", form: "host name", default: "the front door's", doc: "The name that is asked for." },
        KeyDoc {
            name: "type",
            form: "\"A\", \"AAAA\", \"CNAME\" or \"TXT\"",
            default: "\"A\"",
            doc: "The records that are asked for. CNAMEs on the way to an address are followed.",
        },
        KeyDoc {
            name: "at",
            form: "\"authoritative\" | \"resolvers\" | list of addresses",
            default: "\"authoritative\"",
            doc: "Who is asked: the zone's own servers (as [dns] finds them), the resolvers of [dns], or these servers (\"192.0.2.53\", \"192.0.2.53:5353\"), each look the next.",
        },
        KeyDoc {
            name: "expect",
            form: "\"any\" | \"load-balancer\" | list of values",
            default: "\"any\"",
            doc: "\"any\": at least one record. \"load-balancer\": an address of the site's load_balancer, so the signal is up on the site that the name leads to: give it required = \"never\", as no move could begin if the target needed it. A list: these values and no others.",
        },
    ],
    aws: false,
    replica: false,
    judge,
    build,
    permissions: |_| Vec::new(),
};

/// What must be answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Expect {
    Any,
    LoadBalancer(String),
    Values(Vec<String>),
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum At {
    Authoritative,
    Resolvers,
    Servers(Vec<SocketAddr>),
}

/// The kind's keys, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Keys {
    host: String,
    kind: RecordKind,
    at: At,
    expect: Expect,
}

fn judge(table: &Table, place: &SignalPlace) -> Option<Value> {
    let before = table.problems().len();
    let host = match table.string("host") {
        Some(text) => Some(text),
        None if table.has("host") => None,
        None => {
            if place.front_door.is_none() {
                table.fault("host", "is missing, and the front door names no host to take instead; give the name to ask for");
            }
            place.front_door.clone()
        }
    };
    if let Some(text) = &host
        && (!is_name(text) || text.parse::<IpAddr>().is_ok())
    {
        table.fault("host", format!("{text:?} is not a DNS name; give one like \"shop.example.com\", without scheme or port"));
    }
    let kind = table.word("type", RecordKind::ALL, RecordKind::as_str, RecordKind::A);
    let at = at(table);
    let expect = expect(table, place, kind);
    if table.problems().len() > before {
        return None;
    }
    serde_json::to_value(Keys { host: host?, kind, at: at?, expect: expect? }).ok()
}

fn is_name(text: &str) -> bool {
    let bare = text.trim_end_matches('.');
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    bare.len() <= 253 && bare.split('.').all(label)
}

fn at(table: &Table) -> Option<At> {
    match table.raw("at").map(|value| value.as_str()) {
        None | Some(Some("authoritative")) => return Some(At::Authoritative),
        Some(Some("resolvers")) => return Some(At::Resolvers),
        Some(_) => {}
    }
    let mut servers = Vec::new();
    for text in table.strings("at")? {
        match resolver_address(&text) {
            Some(address) => servers.push(address),
            None => table.fault(
                "at",
                format!("{text:?} is neither \"authoritative\" nor \"resolvers\" nor a server's address like \"192.0.2.53:53\""),
            ),
        }
    }
    if servers.is_empty() {
        table.fault("at", "names nobody to ask; write \"authoritative\", \"resolvers\" or addresses");
    }
    Some(At::Servers(servers))
}

fn expect(table: &Table, place: &SignalPlace, kind: RecordKind) -> Option<Expect> {
    match table.raw("expect") {
        None => return Some(Expect::Any),
        Some(Value::String(word)) if word == "any" => return Some(Expect::Any),
        Some(Value::String(word)) if word == "load-balancer" => {
            if !matches!(kind, RecordKind::A | RecordKind::Aaaa) {
                table.fault("expect", "\"load-balancer\" compares addresses; use it with type \"A\" or \"AAAA\"");
            }
            if place.load_balancer.is_none() {
                table.fault("expect", "\"load-balancer\" needs the site's load_balancer, which is not given; add it, or list the values");
            }
            return place.load_balancer.clone().map(Expect::LoadBalancer);
        }
        Some(Value::Array(_)) => {}
        Some(other) => {
            table.fault("expect", format!("{other} is not \"any\", \"load-balancer\" or a list of values"));
            return None;
        }
    }
    let values = table.strings("expect")?;
    if values.is_empty() {
        table.fault("expect", "is an empty list, which nothing can fulfil; write \"any\", or give the values");
    }
    let values = values.into_iter().map(|text| match kind {
        RecordKind::A | RecordKind::Aaaa => {
            let right = text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == (kind == RecordKind::A));
            if right.is_none() {
                table.fault("expect", format!("{text:?} is not an address of type {kind}"));
            }
            right.map_or(text, |address| address.to_string())
        }
        RecordKind::Cname => text.trim_end_matches('.').to_lowercase(),
        RecordKind::Txt => text,
    });
    Some(Expect::Values(values.collect()))
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let keys: Keys = serde_json::from_value(spec.keys.clone()).map_err(|cause| {
        StepError::new(ErrorClass::Refused, "bad-keys", format!("signal {}: its stored keys do not make a dns signal: {cause}", spec.name))
    })?;
    Ok(Arc::new(Named::new(keys, adapters.dns.clone())))
}

struct Named {
    keys: Keys,
    whom: Whom,
    dns: Dns,
    turn: AtomicUsize,
    /// What the load balancer answered lately.
    lately: Mutex<Lately>,
}

impl Named {
    fn new(keys: Keys, dns: Dns) -> Named {
        let whom = match &keys.at {
            At::Authoritative => Whom::Authority,
            At::Resolvers => Whom::Resolvers,
            At::Servers(servers) => Whom::Servers(Servers::new(servers)),
        };
        Named { keys, whom, dns, turn: AtomicUsize::new(0), lately: Mutex::default() }
    }

    /// The verdict over what was answered.
    async fn judge(&self, values: &[String], until: Instant) -> (Verdict, String) {
        let shown = values.join(", ");
        let wrong = |lacks: String| (Verdict::Down(Cause::Address), format!("is {shown}, {lacks}"));
        match &self.keys.expect {
            Expect::Any => (Verdict::Up, format!("is {shown}")),
            Expect::Values(expected) => match values.iter().find(|value| !expected.contains(value)) {
                Some(other) => wrong(format!("and {other} is not expected")),
                None => match expected.iter().find(|value| !values.contains(value)) {
                    Some(missing) => wrong(format!("and {missing} is missing")),
                    None => (Verdict::Up, format!("is {shown}")),
                },
            },
            Expect::LoadBalancer(name) => {
                let known = timeout_at(until, self.balancer(name)).await.unwrap_or(Err(DnsError::Timeout));
                let theirs = self.has_lately(values, known.as_ref().map_or(&[], Vec::as_slice), Instant::now());
                match known {
                    // A large load balancer answers a part of its addresses each time; sites have none in common.
                    _ if theirs => (Verdict::Up, format!("is {shown}, of {name}")),
                    // Two full parts may be of one load balancer and have nothing in common. A smaller answer is no part: it
                    // is all that somebody has, and not what this one has.
                    Ok(known) if known.len() >= FULL_PART && values.len() >= FULL_PART => {
                        let words = format!("is {shown}, and {name} has more addresses than it told ({})", known.join(", "));
                        (Verdict::Unknown(Cause::Insufficient), words)
                    }
                    Ok(known) => wrong(format!("not {name} ({})", known.join(", "))),
                    // What the name answers proves nothing as long as nobody can say what it should.
                    Err(cause) => (Verdict::Unknown(Cause::ResolverFailed), format!("is {shown}; {name}: {cause}")),
                }
            }
        }
    }

    /// Keeps what the load balancer answers now, and says whether it has, or lately had, one of the values.
    fn has_lately(&self, values: &[String], known: &[String], now: Instant) -> bool {
        let addresses = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<IpAddr>>();
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.forget_old(now);
        lately.add(&addresses(known), now);
        addresses(values).iter().any(|address| lately.has(address))
    }

    /// What the load balancer's name answers now, by the type that is compared.
    async fn balancer(&self, name: &str) -> Result<Vec<String>, DnsError> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![address.to_string()]);
        }
        self.dns.values(name, self.keys.kind, &Whom::Resolvers, 0).await
    }
}

#[async_trait]
impl Probe for Named {
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        let start = Instant::now();
        let until = start + timeout;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Keys { host, kind, .. } = &self.keys;
        let who = match &self.whom {
            Whom::Authority => "its zone's servers".to_owned(),
            Whom::Resolvers => "the resolvers".to_owned(),
            Whom::Servers(servers) => servers.at(turn).map_or_else(|| "nobody".to_owned(), |address| address.to_string()),
        };
        let answer = timeout_at(until, self.dns.values(host, *kind, &self.whom, turn)).await.unwrap_or(Err(DnsError::Timeout));
        let phases = Phases { resolve: Some(start.elapsed()), ..Phases::default() };
        let (verdict, words) = match answer {
            Ok(values) => {
                let (verdict, words) = self.judge(&values, until).await;
                (verdict, format!("{host} {kind} {words} at {who}"))
            }
            Err(DnsError::NoData) => (DnsError::NoData.verdict(), format!("{host} has no {kind} record at {who}")),
            Err(cause) => (cause.verdict(), format!("{host} {kind} at {who}: {cause}")),
        };
        Finding { phases, ..Finding::new(verdict, words) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::dns::DnsSpec;
    use crate::adapters::dns::fake::{Fake, Says, at as addresses};
    use crate::config::judge::Problems;

    const SOON: Duration = Duration::from_millis(500);

    fn judged(keys: Value, place: &SignalPlace) -> (Option<Keys>, Vec<String>) {
        let problems = Problems::default();
        let Value::Object(map) = keys else { unreachable!() };
        let table = Table::new("signal.name", map, &problems);
        let found = judge(&table, place);
        table.finish();
        (found.map(|keys| serde_json::from_value(keys).unwrap()), problems.take().iter().map(ToString::to_string).collect())
    }

    fn place() -> SignalPlace {
        let (door, balancer) = (Some("shop.example.com".to_owned()), Some("lb.example.net".to_owned()));
        SignalPlace { front_door: door, load_balancer: balancer, ..SignalPlace::default() }
    }

    async fn probe(keys: Value) -> (Fake, Named) {
        let (fake, server) = Fake::start().await;
        let spec = DnsSpec { resolvers: vec![server.to_string()], authoritative: [("example.com".to_owned(), vec![server])].into() };
        let (found, said) = judged(keys, &place());
        assert!(said.is_empty(), "{said:?}");
        (fake, Named::new(found.unwrap(), Dns::new(&spec).unwrap()))
    }

    #[tokio::test]
    async fn what_an_authority_says_counts_and_silence_does_not() {
        for at in ["authoritative", "resolvers"] {
            let (fake, probe) = probe(json!({"at": at})).await;
            let look = async || probe.look(SOON, 0).await;
            assert_eq!(look().await.verdict, Verdict::Down(Cause::NxDomain));
            fake.set("shop.example.com", addresses(&[1], 60));
            let found = look().await;
            assert!(
                found.verdict == Verdict::Up && found.detail.contains("127.0.1.1") && found.phases.resolve.is_some(),
                "{}",
                found.detail
            );
            fake.set("shop.example.com", Says::Nothing);
            assert_eq!(look().await.verdict, Verdict::Down(Cause::NoData));
            fake.set("shop.example.com", Says::Broken);
            assert_eq!(look().await.verdict, Verdict::Unknown(Cause::ResolverFailed));
            fake.set("shop.example.com", Says::Silence);
            assert_eq!(look().await.verdict, Verdict::Unknown(Cause::ResolverTimeout));
        }
    }

    #[tokio::test]
    async fn it_leads_to_the_site_or_to_another() {
        let (fake, probe) = probe(json!({"expect": "load-balancer"})).await;
        let look = async || probe.look(SOON, 0).await;
        fake.set("shop.example.com", addresses(&[1, 2], 60));
        assert_eq!(look().await.verdict, Verdict::Unknown(Cause::ResolverFailed), "nobody says where the load balancer is");
        fake.set("lb.example.net", addresses(&[2, 1, 3], 60));
        assert_eq!(look().await.verdict, Verdict::Up);
        fake.set("lb.example.net", addresses(&[2, 4], 60));
        assert_eq!(look().await.verdict, Verdict::Up, "another part of it");
        fake.set("lb.example.net", Says::Broken);
        assert_eq!(look().await.verdict, Verdict::Up, "it had these a moment ago");
        fake.set("shop.example.com", addresses(&[8, 9], 60));
        assert_eq!(look().await.verdict, Verdict::Unknown(Cause::ResolverFailed), "and these never");
        fake.set("lb.example.net", addresses(&[7], 60));
        let found = look().await;
        assert!(found.verdict == Verdict::Down(Cause::Address) && found.detail.contains("127.0.1.7"), "{}", found.detail);
    }

    #[tokio::test]
    async fn a_part_that_has_nothing_in_common_with_another_proves_nothing() {
        let (fake, probe) = probe(json!({"expect": "load-balancer"})).await;
        let look = async || probe.look(SOON, 0).await;
        let part = |from: u8| (from..from + 8).collect::<Vec<u8>>();
        fake.set("lb.example.net", addresses(&part(1), 60));
        fake.set("shop.example.com", addresses(&part(11), 60));
        let found = look().await;
        assert!(
            found.verdict == Verdict::Unknown(Cause::Insufficient) && found.detail.contains("has more addresses than it told"),
            "{}",
            found.detail
        );
        fake.set("lb.example.net", addresses(&part(18), 60));
        assert_eq!(look().await.verdict, Verdict::Up, "the parts touch");
        fake.set("lb.example.net", addresses(&part(31), 60));
        assert_eq!(look().await.verdict, Verdict::Up, "it had one of them a moment ago");
        fake.set("shop.example.com", addresses(&[41, 42], 60));
        assert_eq!(look().await.verdict, Verdict::Down(Cause::Address), "two are no part of more than eight");
        fake.set("shop.example.com", addresses(&part(41), 60));
        assert_eq!(look().await.verdict, Verdict::Unknown(Cause::Insufficient));
        fake.set("lb.example.net", addresses(&[31, 32], 60));
        assert_eq!(look().await.verdict, Verdict::Down(Cause::Address), "two are all that it has");
    }

    #[tokio::test]
    async fn listed_values_are_all_and_the_only_ones() {
        let (fake, probe) = probe(json!({"expect": ["127.0.1.1", "127.0.1.2"]})).await;
        for (hosts, verdict) in
            [(&[2_u8, 1][..], Verdict::Up), (&[1], Verdict::Down(Cause::Address)), (&[1, 2, 3], Verdict::Down(Cause::Address))]
        {
            fake.set("shop.example.com", addresses(hosts, 0));
            assert_eq!(probe.look(SOON, 0).await.verdict, verdict, "{hosts:?}");
        }
    }

    #[tokio::test]
    async fn named_servers_are_asked_in_turn() {
        let (one, first) = Fake::start().await;
        let (_silent, second) = Fake::start().await;
        one.set("shop.example.com", addresses(&[1], 60));
        let (found, said) = judged(json!({"at": [first.to_string(), second.to_string()]}), &place());
        assert!(said.is_empty(), "{said:?}");
        let dns = Dns::new(&DnsSpec { resolvers: vec!["127.0.0.1:1".into()], ..DnsSpec::default() }).unwrap();
        let probe = Named::new(found.unwrap(), dns);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(probe.look(SOON, 0).await.verdict);
        }
        let missing = Verdict::Down(Cause::NxDomain);
        assert_eq!(seen, [Verdict::Up, missing, Verdict::Up, missing]);
    }

    #[test]
    fn every_problem_of_the_keys_is_named() {
        for (keys, part) in [
            (json!({"host": "https://shop"}), "host: \"https://shop\" is not a DNS name"),
            (json!({"host": "192.0.2.1"}), "is not a DNS name"),
            (json!({"type": "MX"}), "type: \"MX\" is not one of"),
            (json!({"at": "authority"}), "at: \"authority\" is neither"),
            (json!({"at": []}), "at: names nobody"),
            (json!({"expect": "some"}), "expect: \"some\" is not"),
            (json!({"expect": []}), "expect: is an empty list"),
            (json!({"expect": ["::1"]}), "\"::1\" is not an address of type A"),
            (json!({"expect": "load-balancer", "type": "TXT"}), "compares addresses"),
            (json!({"hosts": "x"}), "did you mean \"host\"?"),
        ] {
            let (_, said) = judged(keys, &place());
            assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
        }
        let (found, said) = judged(json!({"expect": "load-balancer"}), &SignalPlace::default());
        assert!(found.is_none() && said.len() == 2, "no front door and no load balancer: {said:?}");
        let (found, _) = judged(json!({"host": "x.example.com", "type": "CNAME", "expect": ["LB.example.net."]}), &SignalPlace::default());
        assert_eq!(found.unwrap().expect, Expect::Values(vec!["lb.example.net".into()]));
    }
}
