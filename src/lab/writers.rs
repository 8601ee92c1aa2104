//! Users: they resolve the front door, honour its TTL, and write all the time.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::cloud::{Cloud, USER_ADDRESS};
use super::serve::Room;
use super::world::{Millis, SiteName};

/// How often each user writes.
const EVERY: Duration = Duration::from_millis(50);
/// How long a user waits for anything.
const PATIENCE: Duration = Duration::from_millis(800);

/// A stretch of time in which users were all served, or all not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// First request of it, in milliseconds of the world.
    pub from_ms: Millis,
    /// Last request of it.
    pub to_ms: Millis,
    /// The region that answered; `None` when nobody did.
    pub region: Option<String>,
    /// Requests in it.
    pub requests: u64,
}

/// What users saw, in stretches, so that an hour of it stays small.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Log {
    /// Requests that were served.
    pub served: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Stretches, oldest first.
    pub stretches: Vec<Stretch>,
}

impl Log {
    /// Notes one request by when it was answered, or given up.
    pub fn note(&mut self, at: Millis, region: Option<String>) {
        match region {
            Some(_) => self.served += 1,
            None => self.failed += 1,
        }
        match self.stretches.last_mut() {
            Some(last) if last.region == region => {
                last.to_ms = last.to_ms.max(at);
                last.requests += 1;
            }
            _ => self.stretches.push(Stretch { from_ms: at, to_ms: at, region, requests: 1 }),
        }
    }

    /// When users began to be served by this region for good, if they are.
    pub fn served_again_at(&self, region: &str) -> Option<Millis> {
        let good = |s: &&Stretch| s.region.as_deref() == Some(region);
        self.stretches.iter().rev().take_while(good).last().map(|s| s.from_ms)
    }
}

/// Who uses the apps, and how.
#[derive(Clone, Copy, Debug)]
pub struct Users {
    /// How many; at least one for each app, if there are any.
    pub count: usize,
    /// The name server.
    pub dns: SocketAddr,
    /// The port of both sites.
    pub port: u16,
    /// They read instead of writing.
    pub read: bool,
}

/// Starts the users, spread over the apps. The more they are, the less often each comes: all together stay the same.
pub fn start(room: &Room, cloud: &Arc<Cloud>, users: &Users) {
    let names: Vec<String> = cloud.world().tenants().iter().map(|tenant| tenant.front_door.clone()).collect();
    let count = if users.count == 0 { 0 } else { users.count.max(names.len()) };
    let every = EVERY.mul_f64(count as f64 / users.count.max(1) as f64);
    for name in names.iter().cycle().take(count) {
        let (token, cloud, name, users) = (room.token.clone(), cloud.clone(), name.clone(), *users);
        room.tasks.spawn(async move {
            token.run_until_cancelled(call_for_ever(cloud, users, name, every)).await;
        });
    }
}

/// Starts this many writers who reach the primary's database past the front door: batch jobs, a forgotten host.
pub fn start_past(room: &Room, cloud: &Arc<Cloud>, count: usize) {
    for _ in 0..count {
        let (token, cloud) = (room.token.clone(), cloud.clone());
        room.tasks.spawn(async move {
            let work = async {
                let mut clock = interval(EVERY);
                clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
                loop {
                    clock.tick().await;
                    let now = cloud.now();
                    // Whether it was taken is the world's business; a job that fails comes again.
                    let _taken = cloud.world().write(SiteName::Primary, now);
                }
            };
            token.run_until_cancelled(work).await;
        });
    }
}

async fn call_for_ever(cloud: Arc<Cloud>, users: Users, name: String, every: Duration) {
    let Users { dns, port, .. } = users;
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut cached: Option<(Vec<Ipv4Addr>, Instant)> = None;
    let mut turn: usize = 0;
    loop {
        clock.tick().await;
        if cached.as_ref().is_none_or(|(_, until)| Instant::now() >= *until) {
            cached = resolve(dns, &name).await.map(|(addresses, ttl)| (addresses, Instant::now() + ttl));
        }
        let region = match &cached {
            Some((addresses, _)) if !addresses.is_empty() => {
                turn = turn.wrapping_add(1);
                let to = SocketAddr::from((addresses[turn % addresses.len()], port));
                timeout(PATIENCE, call(to, &name, users.read)).await.ok().flatten()
            }
            _ => None,
        };
        cloud.users().note(cloud.now(), region);
    }
}

async fn resolve(dns: SocketAddr, name: &str) -> Option<(Vec<Ipv4Addr>, Duration)> {
    let socket = UdpSocket::bind((Ipv4Addr::from(USER_ADDRESS), 0)).await.ok()?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(&format!("{name}.")).ok()?, RecordType::A));
    socket.send_to(&message.to_vec().ok()?, dns).await.ok()?;
    let mut buffer = vec![0; 4_096];
    let (length, _) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.ok()?.ok()?;
    let answer = Message::from_vec(&buffer[..length]).ok()?;
    let address = |record: &hickory_proto::rr::Record| match &record.data {
        RData::A(a) => Some(a.0),
        _ => None,
    };
    let ttl = answer.answers.iter().map(|r| r.ttl).min()?;
    Some((answer.answers.iter().filter_map(address).collect(), Duration::from_secs(u64::from(ttl))))
}

/// One write, or one read; the region that answered it well.
async fn call(to: SocketAddr, host: &str, read: bool) -> Option<String> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((Ipv4Addr::from(USER_ADDRESS), 0).into()).ok()?;
    let mut stream = socket.connect(to).await.ok()?;
    let what = if read { "GET /healthz" } else { "POST /write" };
    let request = format!("{what} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    if !answer.starts_with("HTTP/1.1 200") {
        return None;
    }
    let marker = answer.lines().find_map(|line| line.strip_prefix("x-region: "));
    Some(marker.unwrap_or("unknown").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_since_when_users_are_served_again() {
        let mut log = Log::default();
        for (at, region) in
            [(0, Some("a")), (50, Some("a")), (100, None), (150, Some("b")), (200, None), (250, Some("b")), (300, Some("b"))]
        {
            log.note(at, region.map(str::to_owned));
        }
        assert_eq!(log.served_again_at("b"), Some(250));
        assert_eq!(log.served_again_at("a"), None);
        assert_eq!((log.served, log.failed), (5, 2));
    }
}
