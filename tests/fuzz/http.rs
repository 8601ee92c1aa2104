//! Looks and messages over HTTP, against servers that answer anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use url::Url;
use watchover::adapters::dns::{Dns, DnsSpec};
use watchover::adapters::http::{Dialer, HttpSpec, Seen};
use watchover::config::Config;
use watchover::domain::model::{Cause, Verdict};

use super::answers::{answers, bomb, lasting};
use super::ground;
use super::hostile::{Answer, KERNEL, converse, listen};
use super::tally::{each, in_time, tried, within};

/// One look.
const TIMEOUT: Duration = Duration::from_millis(200);
/// What a look may be late: this machine has others to serve.
const MARGIN: Duration = Duration::from_secs(1);
/// Bytes of the head that are taken at most, and as much twice that was read along with its end.
const HEAD: u64 = 3 * 64 * 1024;
/// What a body may be on the wire for each byte of it, chunked.
const WIRE: u64 = 4;

/// A server whose answer is set case by case; it counts what it could write on the connections of a case.
struct Server {
    address: SocketAddr,
    says: Arc<Mutex<(Answer, Arc<AtomicU64>)>>,
}

impl Server {
    fn start() -> Server {
        let says = Arc::new(Mutex::new((Answer::Whole(Vec::new(), true), Arc::default())));
        let held = Arc::clone(&says);
        let serve = move |stream| {
            let (answer, written) = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
            converse(stream, &answer, &written);
        };
        Server { address: listen("127.0.0.1:0".parse().unwrap(), serve).unwrap(), says }
    }

    /// From now on; the count of what is written of it.
    fn say(&self, answer: &Answer) -> Arc<AtomicU64> {
        let written = Arc::new(AtomicU64::new(0));
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = (answer.clone(), Arc::clone(&written));
        written
    }

    fn url(&self, scheme: &str) -> Url {
        Url::parse(&format!("{scheme}://{}/healthz", self.address)).unwrap()
    }
}

fn dialer() -> Dialer {
    Dialer::new(Dns::new(&DnsSpec { resolvers: vec!["127.0.0.1:1".into()], ..DnsSpec::default() }).unwrap())
}

/// How it is looked.
#[derive(Debug, Clone)]
struct How {
    follow: u32,
    max_body: u64,
    needle: Option<&'static str>,
    keep: bool,
    tls: bool,
}

fn hows() -> impl Strategy<Value = How> {
    let needles = select(vec![None, Some("is well"), Some("\u{1}never\u{1}")]);
    (select(vec![0, 1, 5, 10]), select(vec![1, 100, 64 * 1024]), needles, any::<bool>(), prop::bool::weighted(0.1))
        .prop_map(|(follow, max_body, needle, keep, tls)| How { follow, max_body, needle, keep, tls })
}

/// What a look may say of an answer that came from the address that it asked.
fn sane(seen: &Seen) -> Result<(), String> {
    match seen.verdict {
        Verdict::Up if seen.detail.starts_with("HTTP ") => Ok(()),
        Verdict::Down(_) if !seen.detail.is_empty() => Ok(()),
        // Led elsewhere: what that name or place says is not the server's word; and a starved machine knows nothing.
        Verdict::Unknown(Cause::LoopLate | Cause::ResolverTimeout | Cause::ResolverFailed | Cause::NoRoute) => Ok(()),
        _ => Err(format!("{:?}: {:?}", seen.verdict, seen.detail)),
    }
}

/// What was seen of that answer, within all bounds; each look once, or twice over a connection that is kept.
fn looked(server: &Server, dialer: &Dialer, answer: &Answer, how: &How) -> Result<Vec<Seen>, String> {
    let (written, runtime) = (server.say(answer), ground::runtime());
    let mut spec = HttpSpec::get(server.url(if how.tls { "https" } else { "http" }));
    (spec.follow_redirects, spec.max_body, spec.keep_alive, spec.verify_tls) = (how.follow, how.max_body, how.keep, false);
    spec.expect.body_contains = how.needle.map(str::to_owned);
    let client = dialer.client(spec)?;
    let rounds = if how.keep { 2 } else { 1 };
    let mut all = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let seen = runtime.block_on(client.look(TIMEOUT));
        in_time(began.elapsed(), TIMEOUT, MARGIN)?;
        sane(&seen)?;
        all.push(seen);
    }
    // A kept connection that is closed under us is replaced once a hop.
    let hops = u64::from(how.follow + 1) * rounds * 2;
    within(&written, hops * (HEAD + WIRE * how.max_body + KERNEL))?;
    Ok(all)
}

#[test]
fn looks() {
    let (server, dialer) = (Server::start(), dialer());
    let verdicts: Mutex<BTreeMap<String, u64>> = Mutex::default();
    tried("http::looks", 100, 4, (answers(), hows()), |(answer, how)| {
        for seen in looked(&server, &dialer, answer, how)? {
            *verdicts.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{:?}", seen.verdict)).or_default() += 1;
        }
        Ok(())
    });
    println!("http: looks by verdict: {:?}", verdicts.lock().unwrap_or_else(PoisonError::into_inner));
}

#[test]
fn looks_at_what_lasts() {
    let brief = How { follow: 0, max_body: 64 * 1024, needle: None, keep: false, tls: false };
    let whole = How { follow: 5, needle: Some("\u{1}never\u{1}"), keep: true, ..brief.clone() };
    let all: Vec<(Answer, How)> =
        lasting().into_iter().flat_map(|answer| [(answer.clone(), brief.clone()), (answer, whole.clone())]).collect();
    each("http::looks_at_what_lasts", &all, |(answer, how)| {
        let well = |seen: &Seen| seen.verdict == Verdict::Up;
        match looked(&Server::start(), &dialer(), answer, how)?.into_iter().find(well) {
            Some(seen) if how.needle.is_some() => Err(format!("found in it what is not there: {}", seen.detail)),
            _ => Ok(()),
        }
    });
}

#[test]
fn an_answer_without_end_is_taken_as_far_as_it_is_needed() {
    let (server, runtime) = (Server::start(), ground::runtime());
    let dialer = dialer();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).into_bytes();
    let zeros = vec![b'0'; 1 << 14];
    for (first, again) in [(chunked.as_slice(), zeros.as_slice()), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")] {
        let written = server.say(&Answer::Endless(first.to_vec(), again.to_vec()));
        let mut spec = HttpSpec::get(server.url("http"));
        spec.expect.body_contains = Some("y".to_owned());
        let seen = runtime.block_on(dialer.client(spec).unwrap().look(Duration::from_secs(5)));
        assert_eq!(seen.verdict, Verdict::Down(Cause::TooLarge), "{}", seen.detail);
        let taken = within(&written, HEAD + WIRE * (1 << 16) + KERNEL).unwrap();
        println!("http: of {:?}… without end {taken} bytes were taken: {}", String::from_utf8_lossy(&again[..8]), seen.detail);
    }
    for (needle, max_body, cause) in
        [(None, 1 << 16, None), (Some("y"), 1 << 16, Some(Cause::TooLarge)), (Some("y"), 1, Some(Cause::TooLarge))]
    {
        let written = server.say(&Answer::Endless(chunked.clone(), chunk.clone()));
        let mut spec = HttpSpec::get(server.url("http"));
        (spec.max_body, spec.expect.body_contains) = (max_body, needle.map(str::to_owned));
        let seen = runtime.block_on(dialer.client(spec).unwrap().look(Duration::from_secs(5)));
        assert_eq!(seen.verdict, cause.map_or(Verdict::Up, Verdict::Down), "{}", seen.detail);
        let taken = within(&written, HEAD + max_body + KERNEL).unwrap();
        println!("http: of a body without end, max_body {max_body}, {taken} bytes were taken");
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    let (server, runtime) = (Server::start(), ground::runtime());
    let packed = bomb(600_000);
    assert!(packed.len() < 1 << 20 && packed.len() > 900_000, "{}", packed.len());
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len()).into_bytes();
    answer.extend(packed);
    let written = server.say(&Answer::Whole(answer, true));
    let mut spec = HttpSpec::get(server.url("http"));
    spec.expect.body_contains = Some("\0".repeat(40));
    let before = super::tally::peak();
    let seen = runtime.block_on(dialer().client(spec).unwrap().look(Duration::from_secs(5)));
    assert_eq!(seen.verdict, Verdict::Down(Cause::TooLarge), "unpacked it begins with zeros: {}", seen.detail);
    within(&written, HEAD + (1 << 16) + KERNEL).unwrap();
    // 600,000 times 258 zeros would be 148 MiB; other tests run beside this one.
    assert!(super::tally::peak() - before < 100 << 20, "the peak rose from {before}");
}

/// Sends a message to a receiver that answers so.
fn told(server: &Server, config: &Config, answer: &Answer) -> Result<(), String> {
    let written = server.say(answer);
    ground::runtime().block_on(async {
        let ground = ground::adapters(config);
        let step = ground::step(config, &ground, "tell");
        let began = Instant::now();
        let cx = ground::context(TIMEOUT);
        let told = tokio::time::timeout(TIMEOUT + MARGIN, step.apply(&cx)).await;
        in_time(began.elapsed(), TIMEOUT, MARGIN)?;
        match told {
            Err(_) => Err("it did not end".to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.to_string().is_empty() => Err("an error without words".to_owned()),
            Ok(Err(_)) => Ok(()),
        }
    })?;
    within(&written, 1 << 21).map(drop)
}

fn telling(server: &Server) -> Config {
    let url = server.url("http");
    ground::config("", "", &format!("[[app.failover]]\nname = \"tell\"\nkind = \"webhook\"\nurl = \"{url}\"\n"))
}

#[test]
fn messages() {
    let server = Server::start();
    let config = telling(&server);
    tried("http::messages", 40, 8, answers(), |answer| told(&server, &config, answer));
}

#[test]
fn messages_to_what_lasts() {
    each("http::messages_to_what_lasts", &lasting(), |answer| {
        let server = Server::start();
        told(&server, &telling(&server), answer)
    });
}
