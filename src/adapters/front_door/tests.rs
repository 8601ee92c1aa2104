use std::net::SocketAddr;

use super::super::dns::DnsSpec;
use super::super::dns::fake::{Fake, Says, at};
use super::super::http::server::Server;
use super::*;

const SOON: Duration = Duration::from_millis(600);

struct World {
    dns: Fake,
    dialer: Dialer,
}

async fn world() -> World {
    let (dns, address) = Fake::start().await;
    let spec = DnsSpec { resolvers: vec![address.to_string()], authoritative: [("example.com".to_owned(), vec![address])].into() };
    dns.set("primary-alb.example.net", at(&[21], 60));
    dns.set("standby-alb.example.net", at(&[22], 60));
    World { dns, dialer: Dialer::new(Dns::new(&spec).unwrap()) }
}

fn spec(port: u16) -> FrontDoorSpec {
    let proof = |site: &str| ProofSpec { load_balancer: Some(format!("{site}-alb.example.net")), marker: None };
    FrontDoorSpec {
        url: Url::parse(&format!("http://shop.example.com:{port}/healthz")).unwrap(),
        ca_file: None,
        expect: Expect::default(),
        primary: proof("primary"),
        standby: proof("standby"),
    }
}

async fn server(at: &str, answer: &str) -> SocketAddr {
    let says = super::super::http::server::Says::This(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").into_bytes());
    Server::start(at, says, None).await.address
}

#[tokio::test]
async fn the_address_proves_the_site_and_the_move_is_seen_when_the_ttl_ends() {
    let world = world().await;
    let port = server("127.0.1.21:0", "200 OK").await.port();
    server(&format!("127.0.1.22:{port}"), "200 OK").await;
    let probe = FrontDoorProbe::new(spec(port), &world.dialer).unwrap();
    world.dns.set("shop.example.com", at(&[21], 1));
    let first = probe.look(SOON, 0).await;
    assert_eq!((first.verdict, first.from), (Verdict::Up, Some(SiteName::Primary)), "{}", first.detail);
    world.dns.set("shop.example.com", at(&[22], 1));
    assert_eq!(probe.look(SOON, 0).await.from, Some(SiteName::Primary), "users still have the old answer");
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    assert_eq!(probe.look(SOON, 0).await.from, Some(SiteName::Standby));
}

#[tokio::test]
async fn an_error_page_of_the_right_site_proves_nothing() {
    let world = world().await;
    let port = server("127.0.1.22:0", "503 No").await.port();
    world.dns.set("shop.example.com", at(&[22], 60));
    let found = FrontDoorProbe::new(spec(port), &world.dialer).unwrap().look(SOON, 0).await;
    assert_eq!((found.verdict, found.from), (Verdict::Down(Cause::Status), None));
    assert!(found.detail.contains("standby"), "{}", found.detail);
}

#[tokio::test]
async fn markers_prove_behind_a_proxy_and_contradictions_do_not() {
    let world = world().await;
    let port = server("127.0.1.30:0", "200 OK\r\nx-region: us-east-1").await.port();
    world.dns.set("shop.example.com", at(&[30], 0));
    let mut spec = spec(port);
    let silent = FrontDoorProbe::new(spec.clone(), &world.dialer).unwrap().look(SOON, 0).await;
    assert!(silent.from.is_none() && silent.detail.contains("not proven: neither"), "{}", silent.detail);
    spec.primary.marker = Some(("x-region".into(), "ap-south-1".into()));
    spec.standby.marker = Some(("x-region".into(), "us-east-1".into()));
    let probe = FrontDoorProbe::new(spec, &world.dialer).unwrap();
    assert_eq!(probe.look(SOON, 0).await.from, Some(SiteName::Standby));
    server(&format!("127.0.1.21:{port}"), "200 OK\r\nx-region: us-east-1").await;
    world.dns.set("shop.example.com", at(&[21], 0));
    let both = probe.look(SOON, 0).await;
    assert!(both.from.is_none() && both.detail.contains("fits both"), "{}", both.detail);
}

#[tokio::test]
async fn the_lost_sites_name_does_not_hold_up_the_proof() {
    let world = world().await;
    let port = server("127.0.1.22:0", "200 OK").await.port();
    world.dns.set("shop.example.com", at(&[22], 60));
    for gone in [Says::Silence, Says::Broken] {
        world.dns.set("primary-alb.example.net", gone);
        let found = FrontDoorProbe::new(spec(port), &world.dialer).unwrap().look(SOON, 0).await;
        assert_eq!((found.verdict, found.from), (Verdict::Up, Some(SiteName::Standby)), "{}", found.detail);
    }
}

#[tokio::test]
async fn an_address_of_both_sites_proves_neither() {
    let world = world().await;
    let port = server("127.0.1.22:0", "200 OK").await.port();
    world.dns.set("shop.example.com", at(&[22], 60));
    world.dns.set("primary-alb.example.net", at(&[21, 22], 60));
    assert_eq!(FrontDoorProbe::new(spec(port), &world.dialer).unwrap().look(SOON, 0).await.from, None);
}

#[tokio::test]
async fn an_address_that_the_balancer_gave_a_moment_ago_still_proves_its_site() {
    let world = world().await;
    let port = server("127.0.1.22:0", "200 OK").await.port();
    world.dns.set("shop.example.com", at(&[22], 60));
    world.dns.set("standby-alb.example.net", at(&[22, 23], 0));
    let probe = FrontDoorProbe::new(spec(port), &world.dialer).unwrap();
    assert_eq!(probe.look(SOON, 0).await.from, Some(SiteName::Standby));
    // Another draw of its addresses, and then none: users still have one of the first.
    for says in [at(&[23, 24], 0), Says::Broken] {
        world.dns.set("standby-alb.example.net", says);
        let found = probe.look(SOON, 0).await;
        assert_eq!((found.verdict, found.from), (Verdict::Up, Some(SiteName::Standby)), "{}", found.detail);
    }
    let fresh = FrontDoorProbe::new(spec(port), &world.dialer).unwrap();
    assert_eq!(fresh.look(SOON, 0).await.from, None, "nobody told this one");
}

#[test]
fn a_balancers_addresses_are_kept_for_their_time() {
    let (start, address) = (Instant::now(), |at: u32| IpAddr::from(at.to_be_bytes()));
    let memory = Memory::default();
    let claimed = |answers: [&[u32]; 2], asked: &[u32], seconds: u64| {
        let [primary, standby] = answers.map(|answer| Some(Ok(answer.iter().copied().map(address).collect::<Vec<_>>())));
        let mut claims = Claims::default();
        let asked: Vec<IpAddr> = asked.iter().copied().map(address).collect();
        let balancers = Balancers([(SiteName::Primary, primary), (SiteName::Standby, standby)]);
        balancers.claim(&asked, &memory, start + Duration::from_secs(seconds), &mut claims);
        claims.sites
    };
    assert_eq!(claimed([&[1, 2], &[11]], &[1], 0), [SiteName::Primary]);
    // All that were seen with one balancer, though no answer ever had them together.
    assert_eq!(claimed([&[3], &[12]], &[1, 3], 200), [SiteName::Primary]);
    assert_eq!(claimed([&[3], &[12]], &[11, 12], 299), [SiteName::Standby]);
    assert!(claimed([&[3], &[12]], &[1], 301).is_empty(), "five minutes after the last answer that had it");
    assert_eq!(claimed([&[3], &[3]], &[3], 302), [SiteName::Primary, SiteName::Standby], "of both: proves neither");
    assert_eq!(claimed([&[4], &[12]], &[3, 4], 303), [SiteName::Primary, SiteName::Standby], "seen at both a moment ago");
    assert!(claimed([&[4], &[12]], &[], 304).is_empty());
}

#[tokio::test]
async fn the_authority_says_whose_addresses_it_gives() {
    let world = world().await;
    let probe = AuthorityProbe::new(spec(80), world.dialer.dns());
    for (says, from) in [
        (at(&[21], 60), Some(SiteName::Primary)),
        (at(&[22], 60), Some(SiteName::Standby)),
        (at(&[21, 22], 60), None),
        (at(&[99], 60), None),
        (Says::Alias("standby-alb.example.net", 60), Some(SiteName::Standby)),
    ] {
        world.dns.set("shop.example.com", says);
        let found = probe.look(SOON, 0).await;
        assert_eq!((found.verdict, found.from), (Verdict::Up, from), "{}", found.detail);
    }
    world.dns.set("shop.example.com", Says::Silence);
    assert_eq!(probe.look(SOON, 0).await.verdict, Verdict::Unknown(Cause::ResolverTimeout));
}

#[test]
fn proofs_are_judged() {
    let problems = crate::config::judge::Problems::default();
    let serde_json::Value::Object(map) =
        serde_json::json!({"load_balancer": "http://alb/", "marker": {"header": "a b", "value": "x", "valeu": 1}})
    else {
        unreachable!()
    };
    ProofSpec::judge(&Table::new("primary", map, &problems));
    let said: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
}
