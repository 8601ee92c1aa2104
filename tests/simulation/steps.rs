//! The steps of the plan, onto the pretend cloud.

use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::{Value, json};
use watchover::domain::plan::PlannedStep;
use watchover::lab::world::{ApiError, ChangeAction, Lifecycle, PRIMARY_REGION, Promotion, RecordSet, STANDBY_REGION, Sizes, World, names};
use watchover::ports::{Call, ErrorClass, Inspection, Step, StepContext, StepError, Verification};

use crate::stage::{Life, lock};

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
