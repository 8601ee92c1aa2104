//! The doors of `ports.rs` onto the stage: probes that look at the pretend cloud, steps that change it, a disk.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use watchover::domain::ledger::Record;
use watchover::domain::model::{Cause, Finding, LagSample, ReplicaReading, ReplicaState, SiteName, Subject, Verdict};
use watchover::domain::plan::PlannedStep;
use watchover::lab::world::{
    ApiError, Ask, ChangeAction, Lifecycle, MetricKey, PRIMARY_REGION, Promotion, RecordSet, Replication, STANDBY_REGION, SiteName as Site,
    SiteReply, Sizes, World, names,
};
use watchover::ports::{Call, ErrorClass, Inspection, Journal, JournalError, Probe, Step, StepContext, StepError, Verification};

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

/// The last quarter of an hour of `ReplicaLag`, as it is visible now.
fn lag_history(world: &mut World, at: u64) -> Result<Vec<LagSample>, ApiError> {
    world.advance(at);
    let key = MetricKey {
        region: STANDBY_REGION.into(),
        namespace: "AWS/RDS".into(),
        name: "ReplicaLag".into(),
        dimensions: vec![("DBInstanceIdentifier".into(), "shop-replica".into())],
    };
    let now = world.unix_ms(at);
    let found = world.samples(&key, now - 15 * 60_000, now, at);
    Ok(found
        .into_iter()
        .map(|sample| LagSample { at: i64::try_from(sample.unix_ms).unwrap_or(0) * 1_000, period: 60_000_000, seconds: sample.value })
        .collect())
}

/// A step of the plan, by its name.
pub struct SimStep {
    pub life: Life,
    pub name: &'static str,
    /// What the polls of one promotion saw: passed through `modifying`, reads that agree.
    seen: Mutex<(bool, u32)>,
}

impl SimStep {
    pub fn new(life: Life, step: &PlannedStep) -> SimStep {
        let name = crate::history::STEPS.iter().find(|name| **name == step.name).copied().unwrap_or("back");
        SimStep { life, name, seen: Mutex::new((false, 0)) }
    }

    async fn group(&self, region: &str, group: &str, cx: &StepContext) -> Result<(Sizes, usize), StepError> {
        let read = |world: &mut World, at: u64| {
            world.advance(at);
            let found = world.group(region, group).ok_or_else(|| ApiError::validation("no such group"))?;
            let serving = found.instances.iter().filter(|one| one.lifecycle == Lifecycle::InService && one.alive).count();
            let sizes = Sizes { min: Some(found.min), desired: Some(found.desired), max: Some(found.max) };
            Ok((sizes, if region == PRIMARY_REGION { found.instances.len() } else { serving }))
        };
        self.life.call(("autoscaling", region, "DescribeAutoScalingGroups"), cx.time_left, None, read).await
    }

    async fn resize(&self, region: &str, group: &str, sizes: Sizes, cx: &StepContext) -> Result<(), StepError> {
        let set = |world: &mut World, at: u64| world.update_group(region, group, sizes, at);
        self.life.call(("autoscaling", region, "UpdateAutoScalingGroup"), cx.time_left, Some((self.name, &cx.incident)), set).await
    }

    /// Weights of the front door's two records: primary, standby; and whether every change is in sync.
    async fn weights(&self, cx: &StepContext) -> Result<((u64, u64), bool), StepError> {
        let read = |world: &mut World, at: u64| {
            world.route53_pace(at)?;
            world.advance(at);
            let zone = world.zone(names::ZONE_ID)?;
            let weight = |of: &str| zone.records.values().find(|set| set.set_id.as_deref() == Some(of)).and_then(|set| set.weight);
            let live = zone.live == zone.records;
            Ok(((weight("primary").unwrap_or(0), weight("standby").unwrap_or(0)), live))
        };
        self.life.call(("route53", "global", "ListResourceRecordSets"), cx.time_left, None, read).await
    }

    async fn weigh(&self, (primary, standby): (u64, u64), cx: &StepContext) -> Result<(), StepError> {
        let set = |world: &mut World, at: u64| {
            world.route53_pace(at)?;
            let zone = world.zone(names::ZONE_ID)?;
            let batch: Vec<(ChangeAction, RecordSet)> = zone
                .records
                .values()
                .filter_map(|set| {
                    let weight = match set.set_id.as_deref() {
                        Some("primary") => primary,
                        Some("standby") => standby,
                        _ => return None,
                    };
                    Some((ChangeAction::Upsert, RecordSet { weight: Some(weight), ..set.clone() }))
                })
                .collect();
            world.change_records(names::ZONE_ID, &batch, at).map(|_| ())
        };
        self.life.call(("route53", "global", "ChangeResourceRecordSets"), cx.time_left, Some((self.name, &cx.incident)), set).await
    }

    fn wanted(&self) -> (u64, u64) {
        if self.name == "back" { (100, 0) } else { (0, 100) }
    }

    async fn replica(&self, cx: &StepContext) -> Result<(String, bool, Option<Promotion>), StepError> {
        let read = |world: &mut World, at: u64| {
            world.advance(at);
            let found = world.database(STANDBY_REGION, "shop-replica").ok_or_else(|| ApiError::validation("no such database"))?;
            Ok((found.status.clone(), found.source.is_some(), found.promotion))
        };
        self.life.call(("rds", STANDBY_REGION, "DescribeDBInstances"), cx.time_left, None, read).await
    }
}

fn settled(status: &str) -> bool {
    matches!(status, "available" | "backing-up" | "storage-optimization")
}

fn sizes(value: &Value) -> Option<Sizes> {
    let number = |key: &str| value.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    Some(Sizes { min: Some(number("min")?), desired: Some(number("desired")?), max: Some(number("max")?) })
}

fn facts(sizes: Sizes) -> Value {
    json!({ "min": sizes.min, "desired": sizes.desired, "max": sizes.max })
}

#[async_trait]
impl Step for SimStep {
    fn describe(&self, _found: &Inspection) -> Vec<Call> {
        Vec::new()
    }

    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        let found = match self.name {
            "fence" => {
                let (now, left) = self.group(PRIMARY_REGION, "shop-primary", cx).await?;
                if left == 0 && now.desired == Some(0) {
                    Inspection::AlreadySo(json!({ "fence": "proven", "at": cx.now }))
                } else {
                    Inspection::Possible(facts(now))
                }
            }
            "capacity" => {
                let (now, serving) = self.group(STANDBY_REGION, "shop-standby", cx).await?;
                if serving >= 3 && now.desired >= Some(4) { Inspection::AlreadySo(facts(now)) } else { Inspection::Possible(facts(now)) }
            }
            "promote" => {
                let (status, linked, _) = self.replica(cx).await?;
                match (linked, status.as_str()) {
                    (false, status) if settled(status) => Inspection::AlreadySo(json!({ "status": status })),
                    (false, status) => Inspection::UnderWay(json!({ "status": status })),
                    (true, "available") => Inspection::Possible(json!({ "status": "available" })),
                    (true, "modifying" | "rebooting") if !cx.before.is_null() => Inspection::UnderWay(json!({ "status": status })),
                    (true, other) => Inspection::NotYet(format!("its status is {other}")),
                }
            }
            _ => {
                let (now, _) = self.weights(cx).await?;
                if now == self.wanted() {
                    Inspection::AlreadySo(json!({ "weights": [now.0, now.1] }))
                } else {
                    Inspection::Possible(json!({ "weights": [now.0, now.1] }))
                }
            }
        };
        lock(&self.life.stage).inspected.insert((self.life.number, cx.incident.clone(), self.name));
        Ok(found)
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        match self.name {
            "fence" => {
                let none = Sizes { min: Some(0), desired: Some(0), max: None };
                self.resize(PRIMARY_REGION, "shop-primary", none, cx).await?;
            }
            "capacity" => {
                let (now, _) = self.group(STANDBY_REGION, "shop-standby", cx).await?;
                let four = Sizes { min: now.min.max(Some(4)), desired: now.desired.max(Some(4)), max: now.max.max(Some(4)) };
                self.resize(STANDBY_REGION, "shop-standby", four, cx).await?;
            }
            "promote" => {
                *self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (false, 0);
                let ask = |world: &mut World, at: u64| world.promote_read_replica(STANDBY_REGION, "shop-replica", Some(7), at).map(|_| ());
                self.life.call(("rds", STANDBY_REGION, "PromoteReadReplica"), cx.time_left, Some((self.name, &cx.incident)), ask).await?;
            }
            _ => self.weigh(self.wanted(), cx).await?,
        }
        Ok(json!({ "asked": true }))
    }

    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError> {
        Ok(match self.name {
            "fence" => match self.group(PRIMARY_REGION, "shop-primary", cx).await? {
                (_, 0) => Verification::So(json!({ "fence": "proven", "at": cx.now })),
                (_, left) => Verification::NotYet(format!("{left} instances left")),
            },
            "capacity" => match self.group(STANDBY_REGION, "shop-standby", cx).await? {
                (_, serving) if serving >= 3 => Verification::So(json!({ "in_service": serving })),
                (_, serving) => Verification::NotYet(format!("{serving} in service")),
            },
            "promote" => {
                let (status, linked, _) = self.replica(cx).await?;
                let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                seen.0 |= matches!(status.as_str(), "modifying" | "rebooting");
                seen.1 = if !linked && settled(&status) { seen.1 + 1 } else { 0 };
                if seen.1 > 1 || (seen.1 == 1 && seen.0) {
                    Verification::So(json!({ "status": status }))
                } else {
                    Verification::NotYet(format!("{status}, linked: {linked}"))
                }
            }
            _ => match self.weights(cx).await? {
                (now, true) if now == self.wanted() => Verification::So(json!({ "weights": [now.0, now.1] })),
                (now, live) => Verification::NotYet(format!("weights {now:?}, live: {live}")),
            },
        })
    }

    async fn undo(&self, cx: &StepContext) -> Result<String, StepError> {
        match self.name {
            "fence" => {
                let Some(was) = sizes(&cx.before) else { return Ok("nothing is known of before".into()) };
                self.resize(PRIMARY_REGION, "shop-primary", was, cx).await?;
                Ok("sized as before".into())
            }
            "capacity" => Ok("left: more capacity does no harm".into()),
            "promote" => Err(StepError::new(ErrorClass::Refused, "forward-only", "a promotion cannot be taken back")),
            _ => {
                let weight = |at: usize| cx.before["weights"][at].as_u64();
                let Some(was) = weight(0).zip(weight(1)) else { return Ok("nothing is known of before".into()) };
                self.weigh(was, cx).await?;
                Ok("weighed as before".into())
            }
        }
    }
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
