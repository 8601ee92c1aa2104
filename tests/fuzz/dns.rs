//! Looks at names, against name servers that answer anything, by UDP and TCP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use watchover::adapters::dns::{Dns, DnsSpec};
use watchover::domain::model::Verdict;

use super::edit::{Edit, edited, edits};
use super::ground;
use super::hostile::listen;
use super::tally::{in_time, tried};

const TIMEOUT: Duration = Duration::from_millis(150);
const MARGIN: Duration = Duration::from_secs(1);

/// One record of an answer.
#[derive(Debug, Clone)]
enum Given {
    Address(u8),
    Alias(&'static str),
    Text(u8),
    Server(&'static str),
    Start,
}

/// What the server makes of a question.
#[derive(Debug, Clone)]
enum Said {
    /// An answer with these records, with that code, and what has happened to its bytes behind the id.
    Records { given: Vec<Given>, code: u8, authority: bool, ttl: u32, edits: Vec<Edit>, truncated: bool },
    /// The right id and noise behind it.
    Noise(Vec<u8>),
    /// The question itself, sent back.
    Echo,
}

/// A case: what is said to each question, how often, and by TCP without end.
#[derive(Debug, Clone)]
struct Case {
    said: Said,
    copies: u8,
    endless: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let names = select(vec!["shop.example.com.", "www.example.com.", "lb.example.net.", ".", "a.shop.example.com.", "example.com."]);
    let given = prop_oneof![
        4 => any::<u8>().prop_map(Given::Address),
        3 => names.clone().prop_map(Given::Alias),
        1 => any::<u8>().prop_map(Given::Text),
        1 => names.prop_map(Given::Server),
        1 => Just(Given::Start),
    ];
    let code = prop_oneof![6 => Just(0_u8), 2 => Just(3_u8), 1 => 0..16_u8];
    let ttl = select(vec![0_u32, 1, 60, u32::MAX, 0x8000_0000]);
    let records = (vec(given, 0..30), code, any::<bool>(), ttl, edits(3), prop::bool::weighted(0.15))
        .prop_map(|(given, code, authority, ttl, edits, truncated)| Said::Records { given, code, authority, ttl, edits, truncated });
    let said = prop_oneof![8 => records, 3 => vec(any::<u8>(), 0..600).prop_map(Said::Noise), 1 => Just(Said::Echo)];
    (said, 1..4_u8, any::<bool>()).prop_map(|(said, copies, endless)| Case { said, copies, endless })
}

impl Said {
    /// The answer to the question, if it can be written at all.
    fn to(&self, question: &[u8]) -> Vec<u8> {
        let id = question.get(..2).unwrap_or(&[0, 0]).to_vec();
        match self {
            Said::Echo => question.to_vec(),
            Said::Noise(noise) => [id, noise.clone()].concat(),
            Said::Records { given, code, authority, ttl, edits, truncated } => {
                let Ok(asked) = Message::from_vec(question) else { return Vec::new() };
                let Some(query) = asked.queries.first() else { return Vec::new() };
                let mut answer = Message::response(asked.id, OpCode::Query);
                answer.add_query(query.clone());
                answer.metadata.authoritative = *authority;
                answer.metadata.truncation = *truncated;
                answer.metadata.response_code = ResponseCode::from(0, *code);
                let mut owner = query.name().clone();
                for one in given {
                    let name = |text: &str| Name::from_str(text).unwrap();
                    let data = match one {
                        Given::Address(last) => RData::A(A(Ipv4Addr::new(127, 0, 9, *last))),
                        Given::Alias(to) => RData::CNAME(CNAME(name(to))),
                        Given::Text(length) => RData::TXT(TXT::new(vec!["t".repeat(usize::from(*length))])),
                        Given::Server(at) => RData::NS(NS(name(at))),
                        Given::Start => RData::SOA(SOA::new(name("a."), name("b."), 1, 1, 1, 1, u32::MAX)),
                    };
                    let record = Record::from_rdata(owner.clone(), *ttl, data);
                    if let RData::CNAME(to) = &record.data {
                        owner = to.0.clone();
                    }
                    if matches!(one, Given::Start) {
                        answer.add_authority(record)
                    } else {
                        answer.add_answer(record)
                    };
                }
                let bytes = answer.to_vec().unwrap_or_default();
                // A wrong id is passed over unread, which is no test of what reads it: mostly it stays.
                let behind = edited(bytes.get(2..).unwrap_or_default(), edits);
                [id, behind].concat()
            }
        }
    }
}

struct Server {
    address: SocketAddr,
    case: Arc<Mutex<Option<Case>>>,
    /// What was read as an answer to its question by the same library, so far, in this case.
    readable: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Server {
        let case: Arc<Mutex<Option<Case>>> = Arc::default();
        let readable: Arc<AtomicU64> = Arc::default();
        // A port that is free for UDP may be some other test's for TCP: then another one.
        let (socket, address) = (0..64)
            .find_map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                let address = socket.local_addr().unwrap();
                let (held, counted) = (Arc::clone(&case), Arc::clone(&readable));
                listen(address, move |stream| by_tcp(stream, &held, &counted)).ok().map(|_| (socket, address))
            })
            .unwrap();
        let (held, counted) = (Arc::clone(&case), Arc::clone(&readable));
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let Some(case) = held.lock().unwrap_or_else(PoisonError::into_inner).clone() else { continue };
                let answer = case.said.to(&buffer[..length]);
                count(&answer, &counted);
                for _ in 0..case.copies {
                    // Longer than a datagram can be: nothing is sent, which is an answer too.
                    drop(socket.send_to(&answer, peer));
                }
            }
        });
        Server { address, case, readable }
    }

    fn say(&self, case: &Case) {
        *self.case.lock().unwrap_or_else(PoisonError::into_inner) = Some(case.clone());
        self.readable.store(0, Ordering::SeqCst);
    }
}

fn count(answer: &[u8], readable: &AtomicU64) {
    if Message::from_vec(answer).is_ok() {
        readable.fetch_add(1, Ordering::SeqCst);
    }
}

fn by_tcp(mut stream: TcpStream, case: &Mutex<Option<Case>>, readable: &AtomicU64) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(case) = case.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let answer = case.said.to(&question);
        count(&answer, readable);
        let said = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        let mut sent = stream.write_all(&[said.to_be_bytes().as_slice(), &answer].concat());
        while case.endless && sent.is_ok() {
            // Answers to nothing that was asked: each is read and dropped, so it is the time that bounds them, and the peak of
            // the memory that is judged.
            sent = stream.write_all(&[0xff; 4_096]);
        }
    }
}

#[test]
fn looks() {
    let (server, runtime) = (Server::start(), ground::runtime());
    let at = server.address;
    let head = format!("[dns]\nresolvers = [\"{at}\"]\nauthoritative = {{ \"example.com\" = [\"{at}\"] }}");
    let ways =
        [("authoritative", "\"authoritative\"".to_owned()), ("resolvers", "\"resolvers\"".to_owned()), ("servers", format!("[\"{at}\"]"))];
    let mut names = Vec::new();
    let mut signals = String::new();
    for (way, value) in &ways {
        for kind in ["A", "AAAA", "CNAME", "TXT"] {
            let name = format!("{way}-{}", kind.to_lowercase());
            signals += &format!("[[app.standby.signal]]\nname = \"{name}\"\nkind = \"dns\"\nat = {value}\ntype = \"{kind}\"\n");
            names.push(name);
        }
    }
    let config = ground::config(&head, &signals, &[["[[app.failover]]", "name = \"go\"", "kind = \"approval\""].join("\n")].concat());
    let kinds: [AtomicU64; 3] = Default::default();
    tried("dns::looks", 100, 4, (cases(), select(names)), |(case, name)| {
        server.say(case);
        let began = Instant::now();
        let found = runtime.block_on(async {
            let ground = ground::adapters(&config);
            ground::probe(&config, &ground, name).look(TIMEOUT, ground::NOW).await
        });
        in_time(began.elapsed(), TIMEOUT, MARGIN)?;
        if found.detail.is_empty() {
            return Err("a finding without words".to_owned());
        }
        let kind = match found.verdict {
            Verdict::Up => 0,
            Verdict::Down(_) => 1,
            Verdict::Unknown(_) => 2,
        };
        kinds[kind].fetch_add(1, Ordering::SeqCst);
        // What nobody can read is ignorance, and never the site's fault.
        let unread = server.readable.load(Ordering::SeqCst) == 0;
        match found.verdict {
            Verdict::Unknown(_) => Ok(()),
            verdict if unread => Err(format!("no answer could be read, and yet: {verdict:?} {:?}", found.detail)),
            _ => Ok(()),
        }
    });
    println!("dns: up, down, unknown: {kinds:?}");
}

#[test]
fn questions_that_nobody_else_bounds_end_by_themselves() {
    let (server, runtime) = (Server::start(), ground::runtime());
    let resolvers = vec![server.address.to_string()];
    let spec = DnsSpec { resolvers, authoritative: [("example.com".to_owned(), vec![server.address])].into() };
    tried("dns::questions_that_nobody_else_bounds_end_by_themselves", 4, 200, cases(), |case| {
        server.say(case);
        runtime.block_on(async {
            let dns = Dns::new(&spec).map_err(|cause| cause.to_string())?;
            let began = Instant::now();
            let asked = futures_util::future::join(dns.addresses("shop.example.com"), dns.authoritative("shop.example.com")).await;
            let took = began.elapsed();
            in_time(took, Duration::from_secs(3), MARGIN).map_err(|why| format!("{why}: {asked:?}"))
        })
    });
}
