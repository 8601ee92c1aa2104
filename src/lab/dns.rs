//! The name server: authoritative for the zones, recursive for AWS's names, over UDP and TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::cloud::Cloud;
use super::serve::Room;
use super::world::{AnswerRecord, Outcome};

/// Where the name server is.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 53);

/// What fits into an answer over UDP for a client that says nothing else.
const UDP_LIMIT: usize = 1_232;

/// Binds and serves; answers the address, whose port is the same for UDP and TCP.
pub async fn start(room: &Room, cloud: &Arc<Cloud>) -> std::io::Result<SocketAddr> {
    let mut last = std::io::Error::other("no port for the name server");
    for _ in 0..50 {
        let udp = UdpSocket::bind((ADDRESS, 0)).await?;
        let address = udp.local_addr()?;
        match TcpListener::bind(address).await {
            Ok(tcp) => {
                let (token, cloud_udp) = (room.token.clone(), cloud.clone());
                room.tasks.spawn(async move {
                    token.run_until_cancelled(serve_udp(udp, cloud_udp)).await;
                });
                let (token, tasks, cloud) = (room.token.clone(), room.tasks.clone(), cloud.clone());
                room.tasks.spawn(async move {
                    while let Some(accepted) = token.run_until_cancelled(tcp.accept()).await {
                        let Ok((stream, peer)) = accepted else {
                            continue;
                        };
                        let (token, cloud) = (token.clone(), cloud.clone());
                        tasks.spawn(async move {
                            token.run_until_cancelled(serve_tcp(stream, peer, cloud)).await;
                        });
                    }
                });
                return Ok(address);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, cloud: Arc<Cloud>) {
    let mut buffer = vec![0; 4_096];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if cloud.cut_off(peer.ip()) {
            continue;
        }
        if let Some(answer) = answer(&cloud, &buffer[..length], true)
            && let Err(error) = socket.send_to(&answer, peer).await
        {
            tracing::debug!(%peer, %error, "a DNS answer did not leave");
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, peer: SocketAddr, cloud: Arc<Cloud>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; usize::from(length)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        if cloud.cut_off(peer.ip()) {
            return std::future::pending().await;
        }
        let Some(answer) = answer(&cloud, &question, false) else {
            return;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

/// The answer to one packet, or nothing where a name server keeps quiet.
fn answer(cloud: &Cloud, packet: &[u8], udp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(packet).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.queries.clone_from(&request.queries);
    match request.queries.first() {
        Some(question) if request.metadata.op_code == OpCode::Query => {
            let kind = question.query_type().to_string();
            let now = cloud.now();
            let answer = cloud.world().resolve(&question.name().to_ascii(), &kind, now);
            response.metadata.authoritative = answer.outcome != Outcome::Refused;
            response.metadata.response_code = match answer.outcome {
                Outcome::Found | Outcome::NoData => ResponseCode::NoError,
                Outcome::NxDomain => ResponseCode::NXDomain,
                Outcome::Refused => ResponseCode::Refused,
            };
            response.answers.extend(answer.records.iter().filter_map(record));
            response.authorities.extend(answer.soa.iter().filter_map(record));
        }
        _ => response.metadata.response_code = ResponseCode::NotImp,
    }
    if request.edns.is_some() {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(UDP_LIMIT as u16);
        response.set_edns(edns);
    }
    let bytes = response.to_vec().ok()?;
    if udp && bytes.len() > UDP_LIMIT { response.truncate().to_vec().ok() } else { Some(bytes) }
}

fn record(from: &AnswerRecord) -> Option<Record> {
    let name = |text: &str| Name::from_str(text).ok().map(absolute);
    let data = match from.kind.as_str() {
        "A" => RData::A(A(from.value.parse().ok()?)),
        "AAAA" => RData::AAAA(AAAA(from.value.parse().ok()?)),
        "CNAME" => RData::CNAME(CNAME(name(&from.value)?)),
        "NS" => RData::NS(NS(name(&from.value)?)),
        "TXT" => RData::TXT(TXT::new(vec![from.value.trim_matches('"').to_owned()])),
        "SOA" => {
            let fields: Vec<&str> = from.value.split_whitespace().collect();
            let number = |i: usize| fields.get(i).and_then(|f| f.parse::<i32>().ok()).unwrap_or_default();
            let serial = number(2).unsigned_abs();
            let minimum = number(6).unsigned_abs();
            RData::SOA(SOA::new(name(fields.first()?)?, name(fields.get(1)?)?, serial, number(3), number(4), number(5), minimum))
        }
        _ => return None,
    };
    Some(Record::from_rdata(name(&from.name)?, from.ttl, data))
}

fn absolute(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}
