//! What stands between the SDK and the lab's cloud: it records what the cloud answers, and later spoils it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::answers::{answers, bomb};
use super::edit::{Edit, edited, edits};
use super::hostile::{self, Answer};

/// What is done with an answer.
#[derive(Debug, Clone)]
pub enum Spoilt {
    /// The recorded one, its body edited and its head made to fit.
    Body(Vec<Edit>),
    /// The recorded one, edited as it goes over the wire.
    Wire(Vec<Edit>),
    /// The recorded one with every element's or key's value of a kind replaced.
    Values(u8, &'static str),
    /// The recorded one with one of its texts replaced.
    Text(usize, &'static str),
    /// The recorded one with another status.
    Status(u16),
    /// A whole document that has nothing to do with the question.
    Foreign(&'static str, Vec<u8>),
    /// Anything that HTTP allows, and what it does not.
    Http(Answer),
}

/// What stands where another value stood. The last two are line ends, which no header may hold.
const VALUES: &[&str] =
    &["", "-1", "NaN", "9999999999999999999999", "true", "\u{fffd}", "&lt;&amp;", "1e400", "0", "-2147483649", "&#10;", "x&#13;&#10;x: y"];

/// Each of an answer's first texts, replaced by each value.
pub fn replaced(texts: usize) -> impl Iterator<Item = Spoilt> {
    (0..texts).flat_map(|which| VALUES.iter().map(move |value| Spoilt::Text(which, value)))
}

/// Everything that may be done with one.
pub fn spoilt() -> impl Strategy<Value = Spoilt> {
    let values = select(VALUES);
    prop_oneof![
        6 => edits(4).prop_map(Spoilt::Body),
        2 => edits(3).prop_map(Spoilt::Wire),
        3 => (any::<u8>(), values).prop_map(|(which, value)| Spoilt::Values(which, value)),
        1 => select(vec![100, 201, 204, 301, 400, 403, 404, 429, 500, 503, 599]).prop_map(Spoilt::Status),
        3 => foreign(),
        // A chunk's size without end costs the SDK's client nothing but time, of which unoptimised code takes too much.
        1 => answers().prop_filter("see above", |answer| !matches!(answer, Answer::Endless(_, again) if again.starts_with(b"00"))).prop_map(Spoilt::Http),
    ]
}

fn foreign() -> impl Strategy<Value = Spoilt> {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(60_000), close.repeat(60_000)).into_bytes();
    let documents = vec![
        ("text/xml", b"<html>some proxy</html>".to_vec()),
        ("text/xml", b"<a><b/></a>".to_vec()),
        ("text/xml", deep("<a>", "</a>")),
        ("text/xml", deep("<a>", "")),
        ("text/xml", b"<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><a>&b;</a>".to_vec()),
        ("application/json", deep("[", "]")),
        ("application/json", b"{\"Error\":{\"Code\":5}}".to_vec()),
        ("application/cbor", vec![0x81; 60_000]),
        ("application/cbor", [b"\xa1\x61a".repeat(20_000), b"\x01".to_vec()].concat()),
        ("application/cbor", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ("application/cbor", b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xffx".to_vec()),
        ("application/cbor", b"\xbf\x71MetricDataResults\x9f\xbf".to_vec()),
        ("text/plain", bomb(1_000)),
    ];
    prop_oneof![
        2 => select(documents).prop_map(|(kind, body)| Spoilt::Foreign(kind, body)),
        1 => (select(vec!["text/xml", "application/cbor", "application/json"]), vec(any::<u8>(), 1..300)).prop_map(|(kind, body)| Spoilt::Foreign(kind, body)),
    ]
}

/// Answers by the call that they answered, whole as they went over the wire.
pub type Recorded = BTreeMap<String, Vec<u8>>;

/// A request's line and, where services name the operation within the body, that.
fn call_of(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let first: String = text.lines().next().unwrap_or_default().split(['?', ' ']).take(2).collect::<Vec<_>>().join(" ");
    let action = text.split_once("Action=").map_or("", |(_, rest)| rest.split('&').next().unwrap_or_default());
    format!("{first} {action}")
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// One whole message: its head, and as much body as it announces.
fn message(stream: &mut TcpStream, bodiless: bool) -> Option<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 16_384]);
    loop {
        if let Some(end) = head_end(&bytes) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
            if bodiless || bytes.len() >= end + length {
                return Some(bytes);
            }
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
            _ => return None,
        }
    }
}

/// What stands between us and the cloud.
#[derive(Clone)]
pub struct Between {
    pub cloud: SocketAddr,
    pub recorded: Recorded,
    /// `None`: everything is passed on, and the answer recorded.
    pub spoilt: Option<Spoilt>,
    /// How a call ends whose answer is spoilt; what was recorded is the answer to all others.
    pub only: &'static str,
    /// How often an answer was spoilt, by the call.
    pub spoils: BTreeMap<String, u64>,
    pub written: Arc<AtomicU64>,
}

impl Between {
    /// What is done with the answer to that call, counted.
    fn spoils(&mut self, call: &str) -> Option<Spoilt> {
        let spoilt = self.spoilt.clone()?;
        if !call.ends_with(self.only) {
            return Some(Spoilt::Body(Vec::new()));
        }
        *self.spoils.entry(call.to_owned()).or_default() += 1;
        Some(spoilt)
    }
}

/// Serves one connection: passes on and records, or spoils what was recorded.
pub fn serve(mut stream: TcpStream, between: &Mutex<Between>) {
    while let Some(request) = message(&mut stream, false) {
        let call = call_of(&request);
        let bodiless = request.starts_with(b"HEAD");
        let held = || between.lock().unwrap_or_else(PoisonError::into_inner);
        let (spoilt, recorded, written, cloud) = {
            let mut between = held();
            (between.spoils(&call), between.recorded.get(&call).cloned(), Arc::clone(&between.written), between.cloud)
        };
        let Some(spoilt) = spoilt else {
            let Ok(mut up) = TcpStream::connect(cloud) else { return };
            let answer = up.write_all(&request).ok().and_then(|()| message(&mut up, bodiless));
            let Some(answer) = answer else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
            held().recorded.insert(call, answer);
            continue;
        };
        let genuine = recorded.unwrap_or_else(|| b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec());
        if !hostile::answer(&mut stream, &spoil(&genuine, &spoilt), &written) {
            return;
        }
    }
}

fn spoil(genuine: &[u8], spoilt: &Spoilt) -> Answer {
    let end = head_end(genuine).unwrap_or(genuine.len());
    let (head, body) = (String::from_utf8_lossy(&genuine[..end]).into_owned(), &genuine[end..]);
    let fitted = |body: &[u8]| {
        let lines: String = head
            .lines()
            .filter(|line| !line.is_empty() && !line.to_lowercase().starts_with("content-length"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        [format!("{lines}content-length: {}\r\n\r\n", body.len()).into_bytes(), body.to_vec()].concat()
    };
    match spoilt {
        Spoilt::Body(edits) => Answer::Whole(fitted(&edited(body, edits)), false),
        Spoilt::Wire(edits) => Answer::Whole(edited(genuine, edits), true),
        Spoilt::Values(which, value) => {
            let nth = usize::from(which % 5) + 1;
            Answer::Whole(fitted(&revalued(body, value, |at, _| at % nth == 0)), false)
        }
        Spoilt::Text(which, value) => Answer::Whole(fitted(&revalued(body, value, |_, text| text == *which)), false),
        Spoilt::Status(status) => {
            let rest = head.split_once("\r\n").map_or("", |(_, rest)| rest);
            Answer::Whole([format!("HTTP/1.1 {status} X\r\n{rest}").into_bytes(), body.to_vec()].concat(), true)
        }
        Spoilt::Foreign(kind, body) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            Answer::Whole([head.into_bytes(), body.clone()].concat(), false)
        }
        Spoilt::Http(answer) => answer.clone(),
    }
}

/// Texts between two tags become that value, chosen by the number of the tag before each and by their own.
fn revalued(body: &[u8], value: &str, chosen: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let mut texts = 0..;
    let parts = text.split('>').enumerate().map(|(at, part)| match part.split_once('<') {
        Some((old, tag)) if at > 0 && !old.is_empty() && texts.next().is_some_and(|text| chosen(at, text)) => format!("{value}<{tag}"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(">").into_bytes()
}
