//! Requests to the daemon's two doors, each to both: orders with everything wrong, paths, heads and bodies of every shape.
//! What comes in by TCP changes nothing, whatever it is.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use watchover::adapters::sqlite::SqliteJournal;
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{Direction, Moment, Trigger};
use watchover::domain::orders::Order;
use watchover::ports::Journal;
use watchover::runtime::admin::{self, State};
use watchover::runtime::clock::Clock;
use watchover::runtime::control::{Followed, Message};
use watchover::runtime::metrics::Metrics;
use watchover::runtime::past;

use super::edit::{Edit, edited, edits};
use super::hostile::KERNEL;
use super::tally::tried;

/// From the last byte of a request to the last of its answer.
const ANSWER: Duration = Duration::from_secs(4);
/// A server that says nothing for that long to half a request is told that there is no more.
const IDLE: Duration = Duration::from_millis(200);
const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
/// An order has at most so many bytes; what is read along with the last of them is little more.
const BODY: u64 = 64 << 10;

/// Where a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    /// For looks alone.
    Tcp,
    /// For orders, too.
    Unix,
}

const DOORS: [Door; 2] = [Door::Tcp, Door::Unix];

/// The real doors, and behind them an owner who follows every order that reaches it and keeps them.
struct Daemon {
    socket: PathBuf,
    listen: SocketAddr,
    orders: Arc<Mutex<Vec<(String, Order)>>>,
    /// How often it was told to read its config again.
    reloads: Arc<AtomicU64>,
    /// How often each door gave which status; `None`: it closed without a word.
    answered: Mutex<BTreeMap<(Door, Option<u16>), u64>>,
    _stop: tokio_util::sync::DropGuard,
    _dir: tempfile::TempDir,
}

fn daemon() -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = SqliteJournal::open(dir.path(), "bastion").unwrap();
    let opened = Entry::Opened { trigger: Trigger::Outage, direction: Direction::ToStandby, first_failed: None, words: "w".into() };
    let record = Record {
        seq: 0,
        at: Moment::default(),
        boot_id: "b".into(),
        app: Some("shop".into()),
        incident: Some("shop-1".into()),
        epoch: 1,
        entry: opened,
    };
    journal.append(&[record]).unwrap();
    drop(journal);
    let (orders_to, mut orders) = mpsc::channel(4);
    let (reload, mut reloads) = mpsc::channel::<oneshot::Sender<Result<(), String>>>(1);
    let (clock, stop, place) = (Clock::system(), CancellationToken::new(), dir.path().to_owned());
    let beat = Arc::new(AtomicI64::new(clock.now().mono));
    let state = State {
        status: watch::channel(Arc::new(json!({"schema_version": 1, "apps": [{"name": "shop"}, {"name": "till"}]}))).1,
        pending: watch::channel(Vec::new()).1,
        events: broadcast::Sender::new(16),
        metrics: Arc::new(Metrics::new("fuzz")),
        orders: orders_to,
        reload,
        beat,
        clock,
        journal: Arc::new(move |asked| past::read(&place, asked)),
        hosts: Vec::new(),
    };
    let socket = dir.path().join("admin.sock");
    let unix = admin::bind_unix(&socket).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = tcp.local_addr().unwrap();
    let token = stop.clone();
    let kept: Arc<Mutex<Vec<(String, Order)>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let reloaded: Arc<AtomicU64> = Arc::default();
    let count = Arc::clone(&reloaded);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let owner = async {
                loop {
                    tokio::select! {
                        Some(message) = orders.recv() => if let Message::Order(app, order, answer) = message {
                            keep.lock().unwrap_or_else(PoisonError::into_inner).push((app.to_string(), order));
                            drop(answer.send(Ok(Followed { incident: None, seq: 7 })));
                        },
                        Some(answer) = reloads.recv() => {
                            count.fetch_add(1, Ordering::SeqCst);
                            drop(answer.send(Err("refused".to_owned())));
                        },
                        else => break,
                    }
                }
            };
            let served = async { admin::serve(state, tcp, unix, token).await.unwrap() };
            tokio::select! { () = owner => {}, () = served => {} }
        });
    });
    Daemon { socket, listen, orders: kept, reloads: reloaded, answered: Mutex::default(), _stop: stop.drop_guard(), _dir: dir }
}

impl Daemon {
    /// A client at that door. The send buffer is small, so that what was written was also taken, save [`KERNEL`].
    fn client(&self, door: Door) -> std::io::Result<Socket> {
        let (domain, address) = match door {
            Door::Tcp => (Domain::IPV4, SockAddr::from(self.listen)),
            Door::Unix => (Domain::UNIX, SockAddr::unix(&self.socket)?),
        };
        let client = Socket::new(domain, Type::STREAM, None)?;
        client.set_send_buffer_size(8 << 10)?;
        client.set_write_timeout(Some(ANSWER))?;
        client.set_read_timeout(Some(ANSWER))?;
        client.connect(&address)?;
        Ok(client)
    }

    /// The same request to both doors, that for looks first; what `judge` says of each answer, and that only the other one
    /// can change anything.
    fn both(&self, request: &[u8], idle: Duration, judge: impl Fn(Door, &[u8]) -> Result<(), String>) -> Result<(), String> {
        for door in DOORS {
            self.orders.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let reloads = self.reloads.load(Ordering::SeqCst);
            let told = self.answer(door, request, idle)?;
            *self.answered.lock().unwrap_or_else(PoisonError::into_inner).entry((door, status(&told))).or_default() += 1;
            judge(door, &told).map_err(|why| format!("{door:?}: {why}"))?;
            let orders = self.orders();
            if door == Door::Tcp && (!orders.is_empty() || self.reloads.load(Ordering::SeqCst) > reloads) {
                return Err(format!("an order came in by the door for looks: {orders:?}"));
            }
        }
        Ok(())
    }

    fn orders(&self) -> Vec<(String, Order)> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Each door was asked so often.
    fn was_asked(&self, what: &str, times: u64) {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        println!("admin: {what} by door and status: {answered:?}");
        for door in DOORS {
            let count: u64 = answered.iter().filter(|(key, _)| key.0 == door).map(|(_, count)| count).sum();
            assert_eq!(count, times, "{what} at {door:?}");
        }
    }

    /// An answer as far as it came; reading ends with a stream of events, which has no end of its own. A request that may be
    /// half of one has its end shown after `idle`; a whole one is waited for as long as it takes, because a server lets go of
    /// a client that shut its side.
    fn answer(&self, door: Door, request: &[u8], idle: Duration) -> Result<Vec<u8>, String> {
        let mut stream = self.client(door).map_err(|cause| format!("{door:?} is shut: {cause}"))?;
        stream.set_read_timeout(Some(idle)).map_err(|cause| cause.to_string())?;
        // A server that has heard enough answers and closes while we still write.
        drop(stream.write_all(request));
        let (mut bytes, mut part, began) = (Vec::new(), [0; 16_384], Instant::now());
        loop {
            match stream.read(&mut part) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend_from_slice(&part[..count]),
                Err(cause) if matches!(cause.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if String::from_utf8_lossy(&bytes).contains("text/event-stream") {
                        return Ok(bytes);
                    }
                    // It waits for more, which does not come.
                    drop(stream.shutdown(std::net::Shutdown::Write));
                }
                // Reset after its answer: it did not read all that we sent.
                Err(_) => return Ok(bytes),
            }
            if began.elapsed() > ANSWER {
                return Err(format!("no end of the answer of {door:?} after {ANSWER:?}: {:?}", String::from_utf8_lossy(&bytes)));
            }
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    String::from_utf8_lossy(answer.get(..12)?).strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

/// What holds for every answer: a status that is not our own fault; and that door answers others as before.
fn sane(daemon: &Daemon, door: Door, told: &[u8]) -> Result<(), String> {
    match status(told) {
        // Nothing that was a request: closed without a word.
        None if told.is_empty() => {}
        None => return Err(format!("not HTTP: {:?}", String::from_utf8_lossy(told))),
        Some(500) => return Err(format!("our own fault: {:?}", String::from_utf8_lossy(told))),
        Some(_) => {}
    }
    let alive = daemon.answer(door, LIVEZ, ANSWER)?;
    // The beat stands still here, so it is late after some seconds; that it answers is the point.
    if matches!(status(&alive), Some(200 | 503)) { Ok(()) } else { Err("it answers nobody any more".to_owned()) }
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.to_vec()].concat()
}

/// Orders that are right, to be spoilt.
fn orders() -> Vec<Value> {
    vec![
        json!({"order": "failover", "app": "shop", "reason": "drill", "accept_data_loss": 60, "force": true}),
        json!({"order": "failback", "app": "till", "reason": "drill", "graceful": true}),
        json!({"order": "approve", "incident": "shop-1", "reason": "yes", "accept_data_loss": "any"}),
        json!({"order": "decline", "incident": "shop-1", "reason": "no"}),
        json!({"order": "retry", "incident": "shop-1", "reason": "again"}),
        json!({"order": "skip", "incident": "shop-1", "step": "promote", "reason": "by hand"}),
        json!({"order": "abort", "incident": "till-1", "reason": "stop"}),
        json!({"order": "adopt", "app": "shop", "site": "standby", "reason": "lost"}),
        json!({"order": "pause", "for_seconds": 60, "reason": "patching"}),
        json!({"order": "resume", "reason": "done"}),
    ]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let values = prop_oneof![
        select(vec![
            json!(null),
            json!(-1),
            json!(0),
            json!(1e308),
            json!(5e-324),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(true),
            json!(""),
            json!("shop-"),
            json!([]),
            json!({}),
            json!("any"),
            json!("\u{0}")
        ]),
        any::<String>().prop_map(Value::String),
        any::<f64>().prop_map(|number| json!(number)),
    ];
    let keys =
        select(vec!["order", "app", "incident", "reason", "step", "site", "for_seconds", "accept_data_loss", "force", "graceful", "x", ""]);
    let changed = (select(orders()), vec((keys, prop::option::weighted(0.8, values)), 0..3)).prop_map(|(mut order, changes)| {
        for (key, value) in changes {
            match value {
                Some(value) => order[key] = value,
                None => drop(order.as_object_mut().and_then(|map| map.remove(key))),
            }
        }
        order.to_string().into_bytes()
    });
    let deep = select(vec!["[".repeat(30_000), "{\"a\":".repeat(9_000), format!("{{\"order\":{}}}", "[".repeat(200) + &"]".repeat(200))]);
    prop_oneof![
        8 => (changed, edits(2)).prop_map(|(body, edits)| edited(&body, &edits)),
        1 => deep.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..300),
    ]
}

#[test]
fn order_bodies() {
    let daemon = daemon();
    let times = tried("admin::order_bodies", 80, 1, bodies(), |body| {
        daemon.both(&post("/api/v1/orders", body), ANSWER, |door, told| match (door, status(told)) {
            (Door::Unix, _) => ordered(body, told, &daemon.orders()),
            // There is no such path.
            (Door::Tcp, Some(404)) => Ok(()),
            (Door::Tcp, other) => Err(format!("{other:?}: {:?}", String::from_utf8_lossy(told))),
        })
    });
    daemon.was_asked("orders", times);
}

/// What holds for the answer to an order, and for what was heard of it.
fn ordered(body: &[u8], told: &[u8], heard: &[(String, Order)]) -> Result<(), String> {
    let text = String::from_utf8_lossy(told).into_owned();
    let document: Value =
        serde_json::from_str(text.split_once("\r\n\r\n").map_or("", |(_, body)| body)).map_err(|cause| format!("{cause}: {text:?}"))?;
    match status(told) {
        Some(200) if heard.is_empty() => Err("followed, and nobody was told".to_owned()),
        Some(200) => {
            // What came through is an object with a reason, of an app that is known, and a span that a clock can hold.
            let asked: Value = serde_json::from_slice(body).map_err(|cause| format!("followed, and no JSON: {cause}"))?;
            let reason = asked["reason"].as_str().is_some_and(|reason| !reason.trim().is_empty());
            let known = heard.iter().all(|(app, order)| {
                let span =
                    !matches!(order, Order::Pause { length, .. } if length.is_zero() || *length > Duration::from_secs(31 * 24 * 3600));
                matches!(app.as_str(), "shop" | "till") && span
            });
            if reason && known { Ok(()) } else { Err(format!("followed: {heard:?}")) }
        }
        Some(400 | 413) if !heard.is_empty() => Err(format!("refused, and yet: {heard:?}")),
        Some(400) if document["problems"].as_array().is_none_or(Vec::is_empty) => Err(format!("no problem is named: {document}")),
        Some(413) if body.len() as u64 <= BODY => Err("too large for a body within its bound".to_owned()),
        Some(400 | 413) if document["error"].as_str().is_none_or(str::is_empty) => Err(format!("no words: {document}")),
        Some(400 | 413) => Ok(()),
        other => Err(format!("{other:?}: {text}")),
    }
}

#[test]
fn requests() {
    let daemon = daemon();
    let paths = select(vec![
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/status?app=shop",
        "/api/v1/incidents?limit=18446744073709551615&since=-9223372036854775808&before=9223372036854775807",
        "/api/v1/incidents?app=%00&limit=0",
        "/api/v1/incidents/shop-1?since=9223372036854775807",
        "/api/v1/incidents/%ff%fe%00",
        "/api/v1/incidents/..%2f..%2fetc%2fpasswd",
        "/api/v1/orders",
        "/api/v1/reload",
        "*",
        "http://evil.example.com/api/v1/status",
        "/api/v1/incidents/'%20OR%201=1--",
    ]);
    let methods = select(vec!["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "G\u{0}T", ""]);
    let headers = select(vec![
        "content-length: 5",
        "content-length: -5",
        "content-length: 99999999999999999999",
        "transfer-encoding: chunked",
        "expect: 100-continue",
        "upgrade: websocket\r\nconnection: upgrade",
        "origin: http://evil.example.com",
        "content-encoding: gzip",
        "host: a\r\nhost: b",
        "x: \u{0}",
        "range: bytes=0-0",
    ]);
    let raw = (methods, paths, vec(headers, 0..4), bodies(), edits(3)).prop_map(
        |(method, path, headers, body, edits): (_, _, _, _, Vec<Edit>)| {
            let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{lines}\r\n");
            edited(&[head.into_bytes(), body].concat(), &edits)
        },
    );
    let inputs = prop_oneof![8 => raw, 1 => vec(any::<u8>(), 0..600)];
    let times = tried("admin::requests", 80, 1, inputs, |request| daemon.both(request, IDLE, |door, told| sane(&daemon, door, told)));
    daemon.was_asked("requests", times);
}

#[test]
fn what_never_ends_is_taken_to_its_bound() {
    let daemon = daemon();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunked = "POST /api/v1/orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let long = "POST /api/v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000000000000000\r\n\r\n";
    for (first, again, by_tcp, by_unix) in [
        (chunked, chunk.as_str(), Some(404), Some(413)),
        (long, chunk.as_str(), Some(404), Some(413)),
        ("GET / HTTP/1.1\r\n", "x-header: y\r\n", Some(431), Some(431)),
        ("GET / HTTP/1.1\r\nx: ", "yyyyyyyyyyyyyyyy", Some(431), Some(431)),
        ("GET /", "ppppppppppppppppp", None, None),
    ] {
        for (door, expected) in [(Door::Tcp, by_tcp), (Door::Unix, by_unix)] {
            let (told, taken) = pour(&daemon, door, first, again);
            println!("admin: {taken} bytes were taken by {door:?}, answered {:?}", status(&told));
            assert!(expected.is_none() || status(&told) == expected, "{door:?}: {:?}", String::from_utf8_lossy(&told));
            assert!(taken <= 2 * BODY + KERNEL, "{taken} bytes were taken by {door:?}");
        }
    }
    for door in DOORS {
        let alive = daemon.answer(door, LIVEZ, ANSWER).unwrap();
        assert!(status(&alive).is_some(), "{door:?}");
    }
}

/// Sends the first piece, then the second for as long as it is taken; the answer, and how much was taken.
fn pour(daemon: &Daemon, door: Door, first: &str, again: &str) -> (Vec<u8>, u64) {
    let taken = Arc::new(AtomicU64::new(0));
    let mut stream = daemon.client(door).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let counted = Arc::clone(&taken);
    let (first, again) = (first.as_bytes().to_vec(), again.as_bytes().to_vec());
    let writer = std::thread::spawn(move || {
        let mut sent = stream.write_all(&first);
        while sent.is_ok() {
            counted.fetch_add(again.len() as u64, Ordering::SeqCst);
            sent = stream.write_all(&again);
        }
    });
    let mut told = Vec::new();
    let mut part = [0; 4_096];
    while let Ok(count) = reader.read(&mut part) {
        if count == 0 {
            break;
        }
        told.extend_from_slice(&part[..count]);
    }
    drop(reader);
    writer.join().unwrap();
    (told, taken.load(Ordering::SeqCst))
}
