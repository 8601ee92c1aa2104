//! The doors of `ports.rs` onto the stage: probes that look at the pretend cloud, and a disk.

use std::time::Duration;

use async_trait::async_trait;
use watchover::domain::ledger::Record;
use watchover::domain::model::{Cause, Finding, LagSample, ReplicaReading, ReplicaState, SiteName, Subject, Verdict};
use watchover::lab::world::{ApiError, Ask, MetricKey, Replication, STANDBY_REGION, SiteName as Site, SiteReply, World};
use watchover::ports::{Journal, JournalError, Probe};

use crate::stage::{Disk, Life, lock};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eye {
    Site(Site),
    Replica,
    FrontDoor,
    Authority,
    Witness,
}

pub struct SimProbe {
    pub life: Life,
    pub eye: Eye,
}

pub fn ours(site: Site) -> SiteName {
    if site == Site::Primary { SiteName::Primary } else { SiteName::Standby }
}

fn named(word: &str) -> Site {
    if word == "primary" { Site::Primary } else { Site::Standby }
}

#[async_trait]
impl Probe for SimProbe {
    async fn look(&self, timeout: Duration, now: i64) -> Finding {
        self.life.door().await;
        match self.eye {
            Eye::Site(site) => self.site(site, timeout).await,
            Eye::Witness => {
                let (silent, way) = self.way("witness");
                if silent { quiet(timeout).await } else { arrive(way, Finding::new(Verdict::Up, "witness")).await }
            }
            Eye::FrontDoor => {
                let site = lock(&self.life.stage).users_go();
                match site {
                    None => Finding::new(Verdict::Down(Cause::NxDomain), "the name leads nowhere"),
                    Some(word) => {
                        let mut finding = self.site(named(word), timeout).await;
                        finding.from = (finding.verdict == Verdict::Up).then(|| ours(named(word)));
                        finding
                    }
                }
            }
            Eye::Authority => {
                let (silent, way) = self.way("dns");
                if silent {
                    tokio::time::sleep(timeout).await;
                    return Finding::new(Verdict::Unknown(Cause::ResolverTimeout), "no answer");
                }
                let sites: Vec<&str> = {
                    let mut stage = lock(&self.life.stage);
                    let now = stage.now();
                    stage.world.advance(now);
                    stage.world.front_door_sites(0).into_iter().collect()
                };
                let mut finding = Finding::new(Verdict::Up, "zone");
                if let [one] = sites.as_slice() {
                    finding.from = Some(ours(named(one)));
                }
                arrive(way, finding).await
            }
            Eye::Replica => self.replica(timeout, now).await,
        }
    }
}

async fn quiet(timeout: Duration) -> Finding {
    tokio::time::sleep(timeout).await;
    Finding::new(Verdict::Down(Cause::TimedOut), "no answer")
}

async fn arrive(way: Duration, finding: Finding) -> Finding {
    tokio::time::sleep(way).await;
    finding
}

impl SimProbe {
    fn way(&self, peer: &str) -> (bool, Duration) {
        let mut stage = lock(&self.life.stage);
        let way = stage.way() * 2;
        (stage.is_silent(peer), way)
    }

    async fn site(&self, site: Site, timeout: Duration) -> Finding {
        if lock(&self.life.stage).is_cut("dns") {
            // The name of its load balancer leads nowhere that anybody could tell us: that says nothing of the site.
            tokio::time::sleep(timeout).await;
            return Finding::new(Verdict::Unknown(Cause::ResolverTimeout), "no answer from the resolver");
        }
        let (silent, way) = self.way(site.word());
        if silent {
            return quiet(timeout).await;
        }
        let reply = {
            let mut stage = lock(&self.life.stage);
            let now = stage.now();
            stage.world.site_request(site, Ask::Health, now)
        };
        let found = |verdict| Finding::new(verdict, "site");
        match reply {
            // No history has a database of its own: the pretend one never leaves an answer to another.
            SiteReply::Hang | SiteReply::Database { .. } => quiet(timeout).await,
            SiteReply::Reset => arrive(way, found(Verdict::Down(Cause::Reset))).await,
            SiteReply::Answer { delay, .. } if way + Duration::from_millis(delay) >= timeout => quiet(timeout).await,
            SiteReply::Answer { status, marker, delay, .. } => {
                let verdict = match (status, marker) {
                    (200, Some(_)) => Verdict::Up,
                    (200, None) => Verdict::Down(Cause::Body),
                    _ => Verdict::Down(Cause::Status),
                };
                arrive(way + Duration::from_millis(delay), found(verdict)).await
            }
        }
    }

    async fn replica(&self, timeout: Duration, now: i64) -> Finding {
        let read = |world: &mut World, at: u64| {
            world.advance(at);
            Ok(world.database(STANDBY_REGION, "shop-replica").cloned())
        };
        let database = self.life.call(("rds", STANDBY_REGION, "DescribeDBInstances"), timeout, None, read).await;
        let lag = self.life.call(("cloudwatch", STANDBY_REGION, "GetMetricData"), timeout, None, lag_history).await;
        let (state, mut verdict) = match &database {
            Err(_) => (ReplicaState::Unknown, Verdict::Unknown(Cause::TimedOut)),
            Ok(None) => (ReplicaState::Unknown, Verdict::Down(Cause::NotFound)),
            Ok(Some(found)) if found.source.is_none() => (ReplicaState::NotAReplica, Verdict::Down(Cause::NotAReplica)),
            Ok(Some(found)) => match found.replication {
                Replication::Broken => (ReplicaState::Error, Verdict::Down(Cause::ReplicaError)),
                Replication::Paused => (ReplicaState::Stopped, Verdict::Down(Cause::ReplicaStopped)),
                Replication::Ok if found.status == "rebooting" => (ReplicaState::Replicating, Verdict::Down(Cause::InstanceStatus)),
                Replication::Ok => (ReplicaState::Replicating, Verdict::Up),
            },
        };
        let samples = match lag {
            Err(_) => {
                verdict = if verdict == Verdict::Up { Verdict::Unknown(Cause::TimedOut) } else { verdict };
                Vec::new()
            }
            Ok(samples) => {
                let newest = samples.last().copied();
                let told = match newest {
                    None => Some(Cause::NoData),
                    Some(sample) if sample.seconds < 0.0 => Some(Cause::LagUnknown),
                    Some(sample) if now - sample.at > 300_000_000 => Some(Cause::Stale),
                    Some(_) => None,
                };
                match told {
                    Some(Cause::Stale) => lock(&self.life.stage).coverage.fault("lag-stale"),
                    Some(Cause::LagUnknown) => lock(&self.life.stage).coverage.fault("lag-minus-one"),
                    _ => {}
                }
                if let (Verdict::Up, Some(cause)) = (verdict, told) {
                    verdict = Verdict::Unknown(cause);
                }
                samples.into_iter().filter(|sample| sample.seconds >= 0.0).collect()
            }
        };
        let mut finding = Finding::new(verdict, "replica");
        finding.replica = Some(ReplicaReading { state, samples });
        finding
    }
}

fn replica_lag() -> MetricKey {
    MetricKey {
        region: STANDBY_REGION.into(),
        namespace: "AWS/RDS".into(),
        name: "ReplicaLag".into(),
        dimensions: vec![("DBInstanceIdentifier".into(), "shop-replica".into())],
    }
}

/// True if what was measured in the last minutes is true, so that one who reads it two minutes late will never miss it.
pub fn lag_is_whole(world: &mut World, at: u64) -> bool {
    world.advance(at);
    let now = world.unix_ms(at);
    let last = world.samples(&replica_lag(), now - 200_000, now, at + 200_000);
    last.iter().all(|sample| sample.value >= 0.0) && last.last().is_some_and(|sample| now - sample.unix_ms <= 90_000)
}

/// The last quarter of an hour of `ReplicaLag`, as it is visible now.
fn lag_history(world: &mut World, at: u64) -> Result<Vec<LagSample>, ApiError> {
    world.advance(at);
    let now = world.unix_ms(at);
    let found = world.samples(&replica_lag(), now - 15 * 60_000, now, at);
    Ok(found
        .into_iter()
        .map(|sample| LagSample { at: i64::try_from(sample.unix_ms).unwrap_or(0) * 1_000, period: 60_000_000, seconds: sample.value })
        .collect())
}

/// The disk: rows through JSON and back, as the real one keeps them; full, or torn from us by a death in the middle.
pub struct SimJournal {
    pub life: Life,
}

impl SimJournal {
    fn refused(&self, cause: &str) -> JournalError {
        JournalError::Unwritable { path: "simulated".into(), operation: "append", cause: cause.into() }
    }
}

impl Journal for SimJournal {
    fn append(&mut self, records: &[Record]) -> Result<i64, JournalError> {
        let mut stage = lock(&self.life.stage);
        // Died before the commit: the rows are lost, as a torn transaction is.
        let alive = stage.life == self.life.number;
        if !stage.cross(self.life.number) {
            if alive {
                stage.coverage.fault("write-torn");
            }
            return Err(self.refused("the process is dead"));
        }
        if stage.disk == Disk::Full {
            return Err(self.refused("no space left on device"));
        }
        let first = stage.rows.len() as i64 + 1;
        for record in records {
            let text = serde_json::to_string(record).map_err(|error| self.refused(&error.to_string()))?;
            let mut back: Record = serde_json::from_str(&text).map_err(|error| self.refused(&format!("{error}: {text}")))?;
            back.seq = stage.rows.len() as i64 + 1;
            stage.coverage.row(&back);
            stage.rows.push(back);
        }
        // Died after the commit: the rows stand, and nobody acts on them.
        if !stage.cross(self.life.number) {
            return Err(self.refused("the process is dead"));
        }
        Ok(first)
    }

    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        Ok(lock(&self.life.stage).rows.clone())
    }
}

/// Which subject a probe speaks of.
pub fn subject(eye: Eye) -> Option<Subject> {
    match eye {
        Eye::Site(site) => Some(Subject::Signal(ours(site), 0)),
        Eye::Replica => Some(Subject::Signal(SiteName::Standby, 1)),
        Eye::FrontDoor => Some(Subject::FrontDoor),
        Eye::Authority => Some(Subject::Authority),
        Eye::Witness => None,
    }
}
