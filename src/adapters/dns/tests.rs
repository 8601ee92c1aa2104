use std::sync::atomic::Ordering;

use super::fake::{Fake, Says, at};
use super::*;

fn dns(resolver: SocketAddr, zones: &[(&str, SocketAddr)]) -> Dns {
    Dns::new(&DnsSpec {
        resolvers: vec![resolver.to_string()],
        authoritative: zones.iter().map(|(zone, server)| ((*zone).to_owned(), vec![*server])).collect(),
    })
    .unwrap()
}

#[tokio::test]
async fn the_cache_keeps_to_the_ttl_and_not_longer() {
    let (fake, server) = Fake::start().await;
    let dns = dns(server, &[]);
    fake.set("shop.example.com", at(&[1, 2], 1));
    let first = dns.addresses("shop.example.com").await.unwrap();
    assert_eq!(first.addresses.len(), 2);
    fake.set("shop.example.com", at(&[3], 1));
    assert_eq!(dns.addresses("SHOP.example.com").await.unwrap(), first, "within the TTL, whatever the case");
    assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
    tokio::time::sleep_until(first.expires).await;
    assert_eq!(dns.addresses("shop.example.com").await.unwrap().addresses, vec![IpAddr::from([127, 0, 1, 3])]);
}

#[tokio::test]
async fn a_ttl_of_zero_is_asked_every_time_and_many_looks_ask_once() {
    let (fake, server) = Fake::start().await;
    let dns = dns(server, &[]);
    fake.set("zero.example.com", at(&[1], 0));
    dns.addresses("zero.example.com").await.unwrap();
    dns.addresses("zero.example.com").await.unwrap();
    assert_eq!(fake.asked.load(Ordering::Relaxed), 2);
    fake.set("many.example.com", at(&[1], 60));
    futures_util::future::join_all((0..20).map(|_| dns.addresses("many.example.com"))).await;
    assert_eq!(fake.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_shortest_ttl_of_a_chain_counts() {
    let (fake, server) = Fake::start().await;
    let dns = dns(server, &[]);
    fake.set("www.example.com", Says::Alias("lb.example.net", 5));
    fake.set("lb.example.net", at(&[1], 300));
    let before = Instant::now();
    let answer = dns.addresses("www.example.com").await.unwrap();
    assert!(answer.expires <= before + Duration::from_millis(5_500), "{:?}", answer.expires - before);
}

#[tokio::test]
async fn every_failure_has_its_own_verdict() {
    let (fake, server) = Fake::start().await;
    let dns = dns(server, &[]);
    fake.set("nothing.example.com", Says::Nothing);
    fake.set("broken.example.com", Says::Broken);
    fake.set("silent.example.com", Says::Silence);
    let verdict = async |name| dns.addresses(name).await.unwrap_err().verdict();
    assert_eq!(verdict("missing.example.com").await, Verdict::Down(Cause::NxDomain));
    assert_eq!(verdict("nothing.example.com").await, Verdict::Down(Cause::NoData));
    assert_eq!(verdict("broken.example.com").await, Verdict::Unknown(Cause::ResolverFailed));
    let before = Instant::now();
    assert_eq!(verdict("silent.example.com").await, Verdict::Unknown(Cause::ResolverTimeout));
    assert!(before.elapsed() < CALL_TIMEOUT + Duration::from_millis(500));
    assert_eq!(verdict("not a name..").await, Verdict::Unknown(Cause::ResolverFailed));
}

#[tokio::test]
async fn a_negative_answer_is_forgotten_after_a_second() {
    let (fake, server) = Fake::start().await;
    let dns = dns(server, &[]);
    assert_eq!(dns.addresses("new.example.com").await, Err(DnsError::NxDomain));
    fake.set("new.example.com", at(&[9], 60));
    assert_eq!(dns.addresses("new.example.com").await, Err(DnsError::NxDomain));
    tokio::time::sleep(NEGATIVE).await;
    assert!(dns.addresses("new.example.com").await.is_ok());
}

#[tokio::test]
async fn literals_and_ipv6_only_names() {
    let (fake, server) = Fake::start().await;
    let dns = dns(server, &[]);
    assert_eq!(dns.addresses("192.0.2.7").await.unwrap().addresses, vec![IpAddr::from([192, 0, 2, 7])]);
    assert_eq!(dns.addresses("[::1]").await.unwrap().addresses, vec!["::1".parse::<IpAddr>().unwrap()]);
    fake.set("six.example.com", Says::At(vec!["::1".parse().unwrap()], 60));
    assert_eq!(dns.addresses("six.example.com").await.unwrap().addresses, vec!["::1".parse::<IpAddr>().unwrap()]);
    fake.set("both.example.com", Says::At(vec!["::1".parse().unwrap(), IpAddr::from([127, 0, 0, 1])], 60));
    assert_eq!(dns.addresses("both.example.com").await.unwrap().addresses, vec![IpAddr::from([127, 0, 0, 1])]);
}

#[tokio::test]
async fn the_zones_own_servers_are_asked_past_the_cache() {
    let (resolver, at_resolver) = Fake::start().await;
    let (zone, at_zone) = Fake::start().await;
    let dns = dns(at_resolver, &[("example.com", at_zone), ("com", at_resolver)]);
    resolver.set("shop.example.com", at(&[1], 60));
    zone.set("shop.example.com", at(&[1], 60));
    assert_eq!(dns.authoritative("shop.example.com").await.unwrap(), vec![IpAddr::from([127, 0, 1, 1])]);
    zone.set("shop.example.com", at(&[2], 60));
    assert_eq!(dns.authoritative("shop.example.com").await.unwrap(), vec![IpAddr::from([127, 0, 1, 2])]);
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 0, "the longest zone wins");
    assert!(!zone.recursion.load(Ordering::Relaxed), "recursion is not desired");
}

#[tokio::test]
async fn cnames_are_followed_in_the_zone_and_out_of_it() {
    let (resolver, at_resolver) = Fake::start().await;
    let (zone, at_zone) = Fake::start().await;
    let dns = dns(at_resolver, &[("example.com", at_zone)]);
    zone.set("www.example.com", Says::Alias("shop.example.com", 60));
    zone.set("shop.example.com", Says::Alias("lb.elb.example.net", 60));
    resolver.set("lb.elb.example.net", at(&[5], 60));
    assert_eq!(dns.authoritative("www.example.com").await.unwrap(), vec![IpAddr::from([127, 0, 1, 5])]);
    zone.set("loop.example.com", Says::Alias("loop2.example.com", 60));
    zone.set("loop2.example.com", Says::Alias("loop.example.com", 60));
    assert!(matches!(dns.authoritative("loop.example.com").await, Err(DnsError::Failed(_))));
}

#[tokio::test]
async fn an_answer_without_authority_does_not_count_and_a_dead_server_is_passed_over() {
    let (zone, at_zone) = Fake::start().await;
    let (dead, at_dead) = Fake::start().await;
    dead.set("shop.example.com", Says::Silence);
    zone.set("shop.example.com", at(&[1], 60));
    let dns = Dns::new(&DnsSpec {
        resolvers: vec![at_zone.to_string()],
        authoritative: [("example.com".to_owned(), vec![at_dead, at_zone])].into(),
    })
    .unwrap();
    for _ in 0..2 {
        assert!(dns.authoritative("shop.example.com").await.is_ok());
    }
    assert_eq!(dns.authoritative("none.example.com").await, Err(DnsError::NxDomain));
    zone.lame.store(true, Ordering::Relaxed);
    assert!(matches!(dns.authoritative("shop.example.com").await, Err(DnsError::Failed(_) | DnsError::Timeout)));
}

#[test]
fn resolvers_are_addresses_or_the_system() {
    assert_eq!(resolver_address("192.0.2.1"), Some("192.0.2.1:53".parse().unwrap()));
    assert_eq!(resolver_address("[2001:db8::1]:5353"), Some("[2001:db8::1]:5353".parse().unwrap()));
    assert_eq!(resolver_address("2001:db8::1"), Some("[2001:db8::1]:53".parse().unwrap()));
    assert_eq!(resolver_address("dns.example.com"), None);
    let broken = DnsSpec { resolvers: vec!["dns.example.com".to_owned()], ..DnsSpec::default() };
    assert!(Dns::new(&broken).unwrap_err().to_string().contains("neither \"system\" nor an address"));
    let none = DnsSpec { resolvers: Vec::new(), ..DnsSpec::default() };
    assert!(Dns::new(&none).is_err());
    let no_servers = DnsSpec { authoritative: [("example.com".to_owned(), Vec::new())].into(), ..DnsSpec::default() };
    assert!(Dns::new(&DnsSpec { resolvers: vec!["127.0.0.1".to_owned()], ..no_servers }).is_err());
}
