//! A DNS server for tests: UDP on loopback, records that the test changes while it runs.
#![cfg(test)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What a name answers.
#[derive(Clone)]
pub enum Says {
    /// Addresses with a TTL in seconds.
    At(Vec<IpAddr>, u32),
    /// Another name.
    Alias(&'static str, u32),
    /// The name exists, and that is all.
    Nothing,
    /// SERVFAIL.
    Broken,
    /// No answer at all.
    Silence,
}

/// The server; it ends with the test's runtime.
#[derive(Clone, Default)]
pub struct Fake {
    names: Arc<Mutex<HashMap<String, Says>>>,
    /// Questions for A records so far.
    pub asked: Arc<AtomicUsize>,
    /// Answers carry no authority.
    pub lame: Arc<AtomicBool>,
    /// Some question desired recursion.
    pub recursion: Arc<AtomicBool>,
}

/// `127.0.1.N` for each `N`.
pub fn at(hosts: &[u8], ttl: u32) -> Says {
    Says::At(hosts.iter().map(|host| IpAddr::from([127, 0, 1, *host])).collect(), ttl)
}

impl Fake {
    /// Starts it and says where it listens.
    pub async fn start() -> (Fake, SocketAddr) {
        let fake = Fake::default();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = fake.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4_096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                if let Ok(question) = Message::from_vec(&buffer[..length])
                    && let Some(answer) = server.answer(&question)
                {
                    socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
                }
            }
        });
        (fake, address)
    }

    /// Sets what a name answers from now on.
    pub fn set(&self, name: &str, says: Says) {
        self.names.lock().unwrap().insert(format!("{name}."), says);
    }

    fn answer(&self, question: &Message) -> Option<Message> {
        let query = question.queries.first()?;
        if query.query_type() == RecordType::A {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        self.recursion.fetch_or(question.recursion_desired, Ordering::Relaxed);
        let mut answer = Message::response(question.id, OpCode::Query);
        answer.add_query(query.clone());
        answer.metadata.authoritative = !self.lame.load(Ordering::Relaxed);
        let names = self.names.lock().unwrap();
        let record = |ttl: u32, data: RData| Record::from_rdata(query.name().clone(), ttl, data);
        match names.get(&query.name().to_lowercase().to_string()) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Says::Silence) => return None,
            Some(Says::Nothing) => {}
            Some(Says::Broken) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Says::Alias(target, ttl)) => {
                answer.add_answer(record(*ttl, RData::CNAME(CNAME(Name::from_ascii(format!("{target}.")).unwrap()))));
            }
            Some(Says::At(addresses, ttl)) => {
                for address in addresses {
                    match (address, query.query_type()) {
                        (IpAddr::V4(_), RecordType::A) | (IpAddr::V6(_), RecordType::AAAA) => {
                            answer.add_answer(record(*ttl, RData::from(*address)));
                        }
                        _ => {}
                    }
                }
            }
        }
        Some(answer)
    }
}
