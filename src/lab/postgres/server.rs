//! One PostgreSQL server: made, started, killed, started again.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::Mutex;

use super::place::Place;
use super::psql::Psql;

/// Ports below those that the kernel gives out by itself, so that no other listener of a lab comes between.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How long a server may take until it answers; a busy machine makes it slow, not wrong.
const START: Duration = Duration::from_secs(60);
/// How long one answer may take where nobody waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server. It ends with its value.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    /// Settled once it has answered there.
    port: AtomicU16,
    answered: AtomicBool,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// A server that is not there yet.
    pub fn new(name: &'static str) -> Server {
        Server { name, port: AtomicU16::new(0), answered: AtomicBool::new(false), process: Mutex::new(None) }
    }

    /// Its port on 127.0.0.1, once it was started.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    fn data(&self, place: &Place) -> PathBuf {
        place.path(self.name)
    }

    /// Makes its data anew.
    pub async fn create(&self, place: &Place) -> Result<()> {
        let secret = place.path("password");
        place.write(&secret, place.password())?;
        let (data, secret) = (format!("--pgdata={}", self.data(place).display()), format!("--pwfile={}", secret.display()));
        let args = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"];
        place.run("initdb", &[&args[..], &[data.as_str(), secret.as_str()]].concat()).await
    }

    /// Makes its data as a streaming replica of `source`, which it will find at `line`.
    pub async fn copy(&self, place: &Place, source: &Server, line: u16) -> Result<()> {
        let (data, port) = (format!("--pgdata={}", self.data(place).display()), format!("--port={}", source.port()));
        let args = ["--host=127.0.0.1", "--username=postgres", "--checkpoint=fast", "--wal-method=stream", "--no-sync"];
        place.run("pg_basebackup", &[&args[..], &[data.as_str(), port.as_str()]].concat()).await?;
        place.write(&self.data(place).join("standby.signal"), "")?;
        let settings = format!(
            "primary_conninfo = 'host=127.0.0.1 port={line} user=postgres password={} application_name=replica'\n",
            place.password()
        );
        place.write(&self.data(place).join("postgresql.auto.conf"), &settings)
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&self, place: &Place) -> Result<()> {
        let mut process = self.process.lock().await;
        let log = place.path(&format!("{}.log", self.name));
        place.write(&log, "")?;
        let begun = Instant::now();
        loop {
            if process.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                // One that ended at once found its port taken, or the shared memory of the one before it still held.
                if !self.answered.load(Ordering::Relaxed) {
                    self.port.store(free_port()?, Ordering::Relaxed);
                }
                *process = Some(self.spawn(place, &log)?);
            }
            let answer = match Psql::open(place, self.port()) {
                Ok(mut psql) => psql.ask("SELECT 1;", Duration::from_secs(2)).await.unwrap_or_default(),
                Err(cause) => return Err(cause),
            };
            if answer == ["1"] {
                self.answered.store(true, Ordering::Relaxed);
                return Ok(());
            }
            if begun.elapsed() > START {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(4).collect();
                let words = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
                return Err(Error::other(format!("PostgreSQL {} does not answer within {}s: {words}", self.name, START.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn spawn(&self, place: &Place, log: &std::path::Path) -> Result<Child> {
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "wal_level=replica",
            "hot_standby=on",
            "max_wal_senders=4",
            "max_connections=30",
            "shared_buffers=16MB",
            // A replica whose line was cut looks for it at once, not every five seconds.
            "wal_retrieve_retry_interval=200ms",
            "wal_receiver_status_interval=1s",
        ];
        let file = std::fs::OpenOptions::new().append(true).open(log)?;
        let mut command = place.command("postgres");
        command.arg("-D").arg(self.data(place)).arg("-p").arg(self.port().to_string());
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command.stderr(Stdio::from(file));
        command.spawn().map_err(|cause| Error::new(cause.kind(), format!("start PostgreSQL {}: {cause}", self.name)))
    }

    /// Kills it without waiting for its end, where nobody can wait.
    pub fn end(&self) {
        if let Ok(mut process) = self.process.try_lock()
            && let Some(child) = process.as_mut()
            && let Err(cause) = child.start_kill()
        {
            tracing::debug!(name = self.name, %cause, "the server was gone already");
        }
    }

    /// Kills it as a power cut would: no farewell, no checkpoint. Its data stays.
    pub async fn kill(&self) {
        if let Some(mut child) = self.process.lock().await.take()
            && let Err(cause) = child.kill().await
        {
            tracing::debug!(name = self.name, %cause, "the server was gone already");
        }
    }
}

/// A port that is free now: PostgreSQL takes no port 0. Whoever takes it in between makes the next try take another.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Labs of other processes begin elsewhere.
    let span = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(61);
    for _ in PORTS {
        let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(first.wrapping_add(turn) % span).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::other(format!("no port between {} and {} is free on 127.0.0.1", PORTS.start, PORTS.end)))
}
