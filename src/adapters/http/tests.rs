use std::io::Write;

use super::super::dns::DnsSpec;
use super::super::dns::fake::{Fake, Says as Dns1, at};
use super::server::{Says, Server, certified};
use super::*;

const SOON: Duration = Duration::from_millis(400);

fn dialer() -> Dialer {
    with_resolver("127.0.0.1:1".parse().unwrap())
}

fn with_resolver(resolver: SocketAddr) -> Dialer {
    Dialer::new(Dns::new(&DnsSpec { resolvers: vec![resolver.to_string()], ..DnsSpec::default() }).unwrap())
}

fn spec(address: SocketAddr) -> HttpSpec {
    HttpSpec::get(Url::parse(&format!("http://{address}/healthz?x=1")).unwrap())
}

async fn look(spec: HttpSpec) -> Seen {
    dialer().client(spec).unwrap().look(SOON).await
}

async fn verdict_of(says: Says, change: impl FnOnce(&mut HttpSpec)) -> Verdict {
    let server = Server::start("127.0.0.1:0", says, None).await;
    let mut spec = spec(server.address);
    change(&mut spec);
    let seen = look(spec).await;
    eprintln!("{:?}: {}", seen.verdict, seen.detail);
    assert!(!seen.detail.contains("healthz"), "{}", seen.detail);
    seen.verdict
}

fn ok(body: &str) -> Says {
    Says::This(format!("HTTP/1.1 200 OK\r\nx-role: primary\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn text(answer: &str) -> Says {
    Says::This(answer.as_bytes().to_vec())
}

#[tokio::test]
async fn a21_each_way_to_be_down_has_its_own_reason() {
    assert_eq!(look(spec("127.0.0.1:1".parse().unwrap())).await.verdict, Verdict::Down(Cause::Refused));
    assert_eq!(verdict_of(Says::Reset, |_| {}).await, Verdict::Down(Cause::Reset));
    assert_eq!(verdict_of(Says::Once(Vec::new()), |_| {}).await, Verdict::Down(Cause::Reset));
    assert_eq!(verdict_of(Says::Silence, |_| {}).await, Verdict::Down(Cause::TimedOut));
    assert_eq!(verdict_of(text("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), |_| {}).await, Verdict::Down(Cause::Status));
    assert_eq!(
        verdict_of(ok("all is lost"), |spec| spec.expect.body_contains = Some("all is well".into())).await,
        Verdict::Down(Cause::Body)
    );
    let role = |spec: &mut HttpSpec| {
        spec.expect.header.insert("x-role".into(), "standby".into());
    };
    assert_eq!(verdict_of(ok(""), role).await, Verdict::Down(Cause::Header));
    assert_eq!(verdict_of(text("SSH-2.0-OpenSSH_9.2\r\n"), |_| {}).await, Verdict::Down(Cause::Malformed));
    assert_eq!(
        verdict_of(text("HTTP/1.1 302 Go\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"), |spec| spec.follow_redirects = 3).await,
        Verdict::Down(Cause::Redirects)
    );
}

#[tokio::test]
async fn well_is_well() {
    assert_eq!(verdict_of(ok("all is well"), |spec| spec.expect.body_contains = Some("is we".into())).await, Verdict::Up);
    assert_eq!(verdict_of(text("HTTP/1.1 302 Go\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"), |_| {}).await, Verdict::Up);
    let close_delimited = Says::Once(b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec());
    assert_eq!(verdict_of(close_delimited, |spec| spec.expect.body_contains = Some("hello".into())).await, Verdict::Up);
    let seen = {
        let server = Server::start("127.0.0.1:0", ok("hi"), None).await;
        let seen = look(spec(server.address)).await;
        let heard = server.heard().to_lowercase();
        assert!(heard.starts_with("get /healthz?x=1 http/1.1\r\n") && heard.contains("connection: close"), "{heard}");
        seen
    };
    assert!(seen.phases.resolve.is_some() && seen.phases.connect.is_some() && seen.phases.wait.is_some() && seen.phases.body.is_some());
    assert_eq!(seen.phases.tls, None);
    assert_eq!(dialer().roots.native().is_ok(), dialer().native_tls().is_ok());
}

#[tokio::test]
async fn what_never_ends_is_bounded() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).into_bytes();
    let fast = Says::Drip(head.clone(), chunk, Duration::ZERO);
    let before = Instant::now();
    assert_eq!(verdict_of(fast.clone(), |_| {}).await, Verdict::Up, "nobody asked for the body");
    assert_eq!(verdict_of(fast, |spec| spec.expect.body_contains = Some("y".into())).await, Verdict::Down(Cause::TooLarge));
    let slow = Says::Drip(head, b"1\r\nx\r\n".to_vec(), Duration::from_millis(20));
    assert_eq!(verdict_of(slow, |_| {}).await, Verdict::Down(Cause::TimedOut));
    let loris = Says::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-a: b\r\n".to_vec(), Duration::from_millis(20));
    assert_eq!(verdict_of(loris, |_| {}).await, Verdict::Down(Cause::TimedOut));
    let giant = text(&format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "x".repeat(200_000)));
    assert_eq!(verdict_of(giant, |_| {}).await, Verdict::Down(Cause::TooLarge));
    let many = text(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: b\r\n".repeat(500)));
    assert_eq!(verdict_of(many, |_| {}).await, Verdict::Down(Cause::TooLarge));
    let short = Says::Once(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec());
    assert_eq!(verdict_of(short, |_| {}).await, Verdict::Down(Cause::Reset));
    let broken = text("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n");
    assert_eq!(verdict_of(broken, |_| {}).await, Verdict::Down(Cause::Malformed));
    assert!(before.elapsed() < SOON * 6);
}

#[tokio::test]
async fn a_needle_across_two_parts_is_found_and_only_within_max_body() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nall i\r\n".to_vec();
    let says = Says::Drip(head, b"6\r\ns well\r\n".to_vec(), Duration::from_millis(30));
    assert_eq!(verdict_of(says, |spec| spec.expect.body_contains = Some("is well".into())).await, Verdict::Up);
    let body = format!("{}end", "x".repeat(100));
    let limited = |max| move |spec: &mut HttpSpec| (spec.expect.body_contains, spec.max_body) = (Some("end".into()), max);
    assert_eq!(verdict_of(ok(&body), limited(103)).await, Verdict::Up);
    assert_eq!(verdict_of(ok(&body), limited(102)).await, Verdict::Down(Cause::TooLarge));
    assert_eq!(verdict_of(ok(&"x".repeat(100)), limited(100)).await, Verdict::Down(Cause::Body));
}

#[tokio::test]
async fn redirects_stay_with_the_site_that_is_looked_at() {
    let there = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let away = format!("HTTP/1.1 301 Go\r\nlocation: http://shop.example.com:{}/new\r\ncontent-length: 0\r\n\r\n", there.address.port());
    let door = Server::saying(&away).await;
    let mut spec = HttpSpec::get(Url::parse("http://shop.example.com/healthz").unwrap());
    spec.connect_to = Some(Target::parse(&door.address.to_string()).unwrap());
    spec.follow_redirects = 1;
    let seen = look(spec).await;
    assert_eq!(seen.verdict, Verdict::Up, "{}", seen.detail);
    assert!(door.heard().contains("host: shop.example.com\r\n"), "{}", door.heard());
    assert!(there.heard().starts_with("GET /new"), "{}", there.heard());
    assert_eq!(
        verdict_of(text("HTTP/1.1 302 Go\r\nlocation: ftp://x/\r\ncontent-length: 0\r\n\r\n"), |spec| spec.follow_redirects = 1).await,
        Verdict::Down(Cause::Malformed)
    );
}

#[tokio::test]
async fn tls_is_judged_by_name_issuer_and_date() {
    let (good, ca) = certified("shop.example.com", 2099);
    let (expired, expired_ca) = certified("shop.example.com", 2001);
    let (_, other_ca) = certified("shop.example.com", 2099);
    let look_at = async |config, ca: &str, name: &str, verify: bool, server_name: Option<&str>| {
        let server = Server::start("127.0.0.1:0", ok(""), Some(config)).await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(ca.as_bytes()).unwrap();
        let mut spec = HttpSpec::get(Url::parse(&format!("https://{name}/")).unwrap());
        spec.connect_to = Some(Target { host: "127.0.0.1".into(), port: server.address.port() });
        spec.ca_file = Some(file.path().to_owned());
        spec.verify_tls = verify;
        spec.server_name = server_name.map(str::to_owned);
        let seen = dialer().client(spec).unwrap().look(Duration::from_secs(2)).await;
        (seen.verdict, seen.detail, seen.phases.tls.is_some())
    };
    let tls = Verdict::Down(Cause::Tls);
    let (verdict, words, timed) = look_at(good.clone(), &ca, "shop.example.com", true, None).await;
    assert!(verdict == Verdict::Up && timed, "{words}");
    let (verdict, words, _) = look_at(expired.clone(), &expired_ca, "shop.example.com", true, None).await;
    assert!(verdict == tls && words.contains("has expired"), "{words}");
    let (verdict, words, _) = look_at(good.clone(), &other_ca, "shop.example.com", true, None).await;
    assert!(verdict == tls && words.contains("TLS"), "{words}");
    let (verdict, words, _) = look_at(good.clone(), &ca, "other.example.com", true, None).await;
    assert!(verdict == tls && words.contains("another name"), "{words}");
    let (verdict, words, _) = look_at(good.clone(), &ca, "other.example.com", true, Some("shop.example.com")).await;
    assert_eq!(verdict, Verdict::Up, "{words}");
    let (verdict, words, _) = look_at(expired, &other_ca, "other.example.com", false, None).await;
    assert_eq!(verdict, Verdict::Up, "{words}");
    let plain = Server::start("127.0.0.1:0", text("HTTP/1.1 400 Bad\r\n\r\n"), None).await;
    let mut spec = HttpSpec::get(Url::parse(&format!("https://{}/", plain.address)).unwrap());
    spec.verify_tls = false;
    assert_eq!(look(spec).await.verdict, tls, "plain http on a TLS port");
    let silent = Server::silent().await;
    let mut spec = HttpSpec::get(Url::parse(&format!("https://{}/", silent.address)).unwrap());
    spec.verify_tls = false;
    assert_eq!(look(spec).await.verdict, Verdict::Down(Cause::TimedOut), "a handshake that hangs");
}

#[tokio::test]
async fn the_end_of_the_certificate_is_told_on_kept_connections_too() {
    let (config, ca) = certified("shop.example.com", 2099);
    let server = Server::start("127.0.0.1:0", ok("hi"), Some(config)).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.as_bytes()).unwrap();
    let mut spec = HttpSpec::get(Url::parse("https://shop.example.com/").unwrap());
    (spec.connect_to, spec.keep_alive) = (Some(Target { host: "127.0.0.1".into(), port: server.address.port() }), true);
    spec.ca_file = Some(file.path().to_owned());
    let client = dialer().client(spec).unwrap();
    let ends = "2099-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond();
    for _ in 0..2 {
        let found = Probe::look(&client, Duration::from_secs(2), ends - 5 * 86_400_000_000).await;
        assert_eq!((found.verdict, found.certificate), (Verdict::Up, Some(ends)), "{}", found.detail);
        assert!(found.detail.ends_with("; certificate ends in 5 days"), "{}", found.detail);
    }
    assert_eq!(server.connections(), 1);
    let plain = Server::start("127.0.0.1:0", ok("hi"), None).await;
    assert_eq!(Probe::look(&dialer().client(self::spec(plain.address)).unwrap(), SOON, 0).await.certificate, None);
}

#[tokio::test]
async fn looks_go_round_all_addresses() {
    let (fake, resolver) = Fake::start().await;
    fake.set("alb.example.net", at(&[11, 12], 60));
    let one = Server::start("127.0.1.11:0", ok(""), None).await;
    let mut spec = HttpSpec::get(Url::parse("http://shop.example.com/").unwrap());
    spec.connect_to = Some(Target { host: "alb.example.net".into(), port: one.address.port() });
    let client = with_resolver(resolver).client(spec).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.look(SOON).await.verdict);
    }
    let (up, down) = (Verdict::Up, Verdict::Down(Cause::Refused));
    assert_eq!(seen, [up, down, up, down], "half of it is dead, and that shows");
    assert_eq!(one.connections(), 2);
}

#[tokio::test]
async fn names_that_do_not_resolve_are_told_apart() {
    let (fake, resolver) = Fake::start().await;
    fake.set("silent.example.net", Dns1::Silence);
    fake.set("broken.example.net", Dns1::Broken);
    for (name, verdict) in [
        ("silent.example.net", Verdict::Unknown(Cause::ResolverTimeout)),
        ("broken.example.net", Verdict::Unknown(Cause::ResolverFailed)),
        ("missing.example.net", Verdict::Down(Cause::NxDomain)),
    ] {
        let client = with_resolver(resolver).client(HttpSpec::get(Url::parse(&format!("http://{name}/")).unwrap())).unwrap();
        let seen = client.look(SOON).await;
        assert_eq!(seen.verdict, verdict, "{name}: {}", seen.detail);
        assert!(seen.phases.resolve.is_some() && seen.phases.connect.is_none());
    }
}

#[tokio::test]
async fn kept_connections_are_used_again_and_their_end_is_no_evidence() {
    let server = Server::start("127.0.0.1:0", ok("hi"), None).await;
    let client = dialer().client(HttpSpec { keep_alive: true, ..spec(server.address) }).unwrap();
    for _ in 0..3 {
        assert_eq!(client.look(SOON).await.verdict, Verdict::Up);
    }
    assert_eq!(server.connections(), 1);
    let closing = Server::start("127.0.0.1:0", Says::Once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec()), None).await;
    let client = dialer().client(HttpSpec { keep_alive: true, ..spec(closing.address) }).unwrap();
    for _ in 0..3 {
        assert_eq!(client.look(SOON).await.verdict, Verdict::Up);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(closing.connections(), 3);
}

#[tokio::test]
async fn a_look_that_ends_far_too_late_says_nothing() {
    let server = Server::silent().await;
    let client = dialer().client(spec(server.address)).unwrap();
    let stall = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        std::thread::sleep(Duration::from_millis(600));
    };
    let (seen, ()) = tokio::join!(client.look(Duration::from_millis(100)), stall);
    assert_eq!(seen.verdict, Verdict::Unknown(Cause::LoopLate), "{}", seen.detail);
}

#[test]
fn targets_need_a_port() {
    assert_eq!(Target::parse("[::1]:443").unwrap(), Target { host: "[::1]".into(), port: 443 });
    assert_eq!(Target::parse("alb.example.net:80").unwrap().port, 80);
    for text in ["alb.example.net", "alb.example.net:", "alb.example.net:0", "::1", ":80", "a b:80"] {
        assert!(Target::parse(text).is_err(), "{text}");
    }
}
