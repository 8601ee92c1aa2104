//! `s3-switch`: moves traffic by an object that Route 53's checkers look for; nothing but data planes on its path.
//!
//! Object present → the inverted check is unhealthy → the PRIMARY record leaves. Absent → PRIMARY serves.

mod pin;
mod policy;
mod preconditions;
mod proof;
mod roles;
mod script;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::pin::{Answers, PIN_LIMIT};
use self::proof::{Settling, addresses, moved};
use self::roles::Swap;
use super::Authority;
use crate::adapters::Adapters;
use crate::adapters::aws::{Aws, Failure, Kind, Op, Purpose, partition};
use crate::adapters::followup::Followups;
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::adapters::route53_owner::{self, Edit, Owner, Record, Survey, Zone, by_hand};
use crate::config::judge::Table;
use crate::domain::model::Direction;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "s3-switch",
    doc: "puts (failover) or removes (failback) the object that an inverted Route 53 health check looks for; needs no control plane",
    class: Class::Traffic,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::Inspectable,
    default_deadline: "5m",
    at_source: false,
    refine: None,
    keys: &[
        KeyDoc { name: "bucket", form: "string", default: "", doc: "The bucket; in neither site's region." },
        KeyDoc {
            name: "key",
            form: "string",
            default: "",
            doc: "The object; this one key must be publicly readable, by a policy that Block Public Access does not restrict.",
        },
        KeyDoc { name: "region", form: "string", default: "", doc: "The bucket's region." },
        KeyDoc {
            name: "health_check_id",
            form: "string",
            default: "",
            doc: "The inverted check on the object, attached to the PRIMARY record.",
        },
        KeyDoc { name: "zone_id", form: "string", default: "", doc: "The hosted zone of the record." },
        KeyDoc { name: "record", form: "string", default: "", doc: "The failover record's name." },
        KeyDoc {
            name: "pin",
            form: "boolean",
            default: "true",
            doc: "After the switch, swap the records' roles in the background, so that losing the bucket later does not send users back. \
                  The failback then needs Route 53's API once, to swap them back.",
        },
    ],
    judge,
    build,
    permissions,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Keys {
    bucket: String,
    key: String,
    region: String,
    health_check_id: String,
    zone_id: String,
    record: String,
    pin: bool,
}

impl Keys {
    /// The object's name in policies.
    fn arn(&self) -> String {
        format!("arn:{}:s3:::{}/{}", partition(&self.region), self.bucket, self.key)
    }
}

fn judge(table: &Table, place: &Place) -> Option<Value> {
    let bucket = table.need_string("bucket", "the bucket's name");
    let key = table.need_string("key", "the object's key, e.g. \"shop/failed-over\"");
    let region = table.need_string("region", "the bucket's region, e.g. \"eu-west-1\"");
    let health_check_id = table.need_string("health_check_id", "the id of the inverted check on the object");
    let zone_id = table.need_string("zone_id", "the hosted zone's id, e.g. \"Z0123456789ABC\"");
    let record = table.need_string("record", "the failover record's name, e.g. \"shop.example.com\"");
    let pin = table.boolean("pin", true);
    if region.as_ref().is_some_and(|region| *region == place.source_region || *region == place.target_region) {
        table.fault("region", "is a site's own region; the bucket must outlive both, so put it in a third one");
        return None;
    }
    let zone_id = zone_id?.trim_start_matches("/hostedzone/").to_owned();
    Some(json!(Keys { bucket: bucket?, key: key?, region: region?, health_check_id: health_check_id?, zone_id, record: record?, pin }))
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    let zone = Zone { account: step.account.clone(), region: keys.region.clone(), id: keys.zone_id.clone() };
    let (aws, owner, authority) = (adapters.aws.clone(), adapters.route53.clone(), Arc::clone(&adapters.authority));
    let core = Core { aws, owner, authority, zone, deadline: step.deadline, keys };
    Ok(Arc::new(Switch {
        core: Arc::new(core),
        followups: adapters.followups.clone(),
        pinning: AtomicBool::new(false),
        settling: Settling::default(),
    }))
}

fn permissions(step: &PlannedStep) -> Vec<Permission> {
    let Ok(keys) = super::stored::<Keys>(step) else { return Vec::new() };
    let arn = partition(&keys.region);
    let may = |action: &str, resource: String| Permission { action: action.to_owned(), resource, account: step.account.clone() };
    let mut all = vec![may("s3:PutObject", keys.arn()), may("s3:DeleteObject", keys.arn())];
    let zone = format!("arn:{arn}:route53:::hostedzone/{}", keys.zone_id);
    // Read beforehand alone, to say whether the switch would work and whether others move the record; which checks that
    // has, nobody knows.
    for action in ["s3:GetBucketPublicAccessBlock", "s3:GetBucketPolicy"] {
        all.push(may(action, format!("arn:{arn}:s3:::{}", keys.bucket)));
    }
    all.push(may("route53:ListResourceRecordSets", zone.clone()));
    all.push(may("route53:GetHealthCheck", format!("arn:{arn}:route53:::healthcheck/*")));
    if keys.pin {
        all.push(may("route53:ChangeResourceRecordSets", zone));
    }
    all
}

/// What the switch and its follow-up share.
struct Core {
    aws: Aws,
    owner: Owner,
    authority: Arc<dyn Authority>,
    zone: Zone,
    /// The step's.
    deadline: Duration,
    keys: Keys,
}

struct Switch {
    core: Arc<Core>,
    followups: Followups,
    /// The follow-up was started.
    pinning: AtomicBool,
    /// For want of an answer from before the switch.
    settling: Settling,
}

impl Core {
    fn op(&self, operation: &'static str, action: &'static str) -> Op {
        Op::new("s3", operation, action, &self.keys.region, format!("object {}/{}", self.keys.bucket, self.keys.key))
    }

    /// Whether the object is there for the world at large: Route 53's checkers ask without credentials too.
    async fn present(&self) -> Result<bool, StepError> {
        let client = self.aws.s3_anonymous(&self.keys.region).await.map_err(|failure| failure.step())?;
        let call = client.head_object().bucket(&self.keys.bucket).key(&self.keys.key).send();
        // A missing object is 403 to who may not list the bucket; the check cannot tell these apart either.
        let absent = |failure: &Failure| {
            failure.kind == Kind::AccessDenied || matches!(failure.code.as_str(), "NotFound" | "NoSuchKey" | "http-404")
        };
        match self.aws.call_expecting(&self.op("HeadObject", "s3:GetObject"), absent, call).await {
            Ok(_) => Ok(true),
            Err(failure) if absent(&failure) => Ok(false),
            Err(failure) => Err(failure.step()),
        }
    }

    async fn answered(&self) -> Result<BTreeSet<IpAddr>, String> {
        Ok(self.authority.authoritative(&self.keys.record).await?.into_iter().collect())
    }

    async fn set(&self, present: bool) -> Result<(), StepError> {
        let client =
            self.aws.s3(self.zone.account.as_deref(), &self.keys.region, Purpose::Change).await.map_err(|failure| failure.step())?;
        let (bucket, key) = (&self.keys.bucket, &self.keys.key);
        if present {
            let body = ByteStream::from_static(b"traffic is on the standby site\n");
            let call = client.put_object().bucket(bucket).key(key).content_type("text/plain").cache_control("no-store").body(body).send();
            self.aws.call(&self.op("PutObject", "s3:PutObject"), call).await.map_err(|failure| failure.step())?;
        } else {
            let call = client.delete_object().bucket(bucket).key(key).send();
            self.aws.call(&self.op("DeleteObject", "s3:DeleteObject"), call).await.map_err(|failure| failure.step())?;
        }
        Ok(())
    }

    fn switch(&self) -> route53_owner::Switch {
        let Keys { bucket, key, health_check_id, .. } = &self.keys;
        route53_owner::Switch { check: health_check_id.clone(), bucket: bucket.clone(), key: key.clone() }
    }
}

#[async_trait]
impl Step for Switch {
    fn describe(&self, found: &Inspection) -> Vec<Call> {
        let wanted = match found {
            Inspection::AlreadySo(_) | Inspection::UnderWay(_) => return Vec::new(),
            Inspection::Possible(facts) => facts.get("becomes").and_then(Value::as_bool).unwrap_or(true),
            Inspection::NotYet(_) | Inspection::Asks(_) | Inspection::CannotTell => true,
        };
        let Keys { bucket, key, region, zone_id, .. } = &self.core.keys;
        let operation = if wanted { "PutObject" } else { "DeleteObject" };
        let parameters = json!({ "Bucket": bucket, "Key": key });
        let shell = script::object(&self.core.keys, wanted);
        let object = Call {
            service: "s3".to_owned(),
            operation: operation.to_owned(),
            region: region.clone(),
            parameters,
            shell,
            afterwards: false,
        };
        let roles = script::roles(found).map(|edits| {
            let (batch, shell) = by_hand::change(zone_id, &edits);
            let parameters = json!({ "HostedZoneId": zone_id, "ChangeBatch": batch });
            let (service, operation) = ("route53".to_owned(), "ChangeResourceRecordSets".to_owned());
            Call { service, operation, region: String::new(), parameters, shell, afterwards: false }
        });
        roles.into_iter().chain([object]).collect()
    }

    fn script(&self, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
        script::lines(&self.core.keys, found, cx)
    }

    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        let wanted = cx.direction == Direction::ToStandby;
        let (present, answered) = tokio::join!(self.core.present(), self.core.answered());
        let present = present?;
        // Only on the way back, which a person starts, and only if the switch may have been pinned.
        let roles = match !wanted && self.core.keys.pin {
            true => Some(self.core.swap(false).await?),
            false => None,
        };
        let pinned = matches!(roles, Some(Swap::Needed(_)));
        // One that is still to come must be called off, whatever else is so already.
        let pinning = !wanted && self.followups.hold_on(&self.core.place());
        let done = present == wanted && !pinned && !pinning;
        let silent = match &answered {
            Ok(now) if !now.is_empty() => None,
            Ok(_) => Some("it has no address"),
            Err(why) => Some(why.as_str()),
        };
        // The dead side's name may have no address, and the zone's servers may be out of our reach: the switch needs neither,
        // only its proof does.
        if let Some(why) = silent.filter(|_| done) {
            let message = format!("the zone's own servers do not say where {} points: {why}", self.core.keys.record);
            return Err(StepError::new(ErrorClass::Retry, "no-authority", message));
        }
        // After a restart: what was answered before the switch, not after it.
        let asked = !cx.before.is_null();
        let before = match &answered {
            _ if asked => cx.before.get("addresses").cloned().unwrap_or_default(),
            // The object is gone already: whether this is what was answered before, nobody knows.
            _ if pinning && present == wanted => Value::Null,
            Ok(now) => json!(now),
            Err(_) => Value::Null,
        };
        let mut facts = json!({ "present": present, "becomes": wanted, "addresses": before, "answered": answered.as_ref().ok() });
        if let Some(Swap::Needed(edits)) = roles {
            Edit::note(&mut facts, "roles", &edits);
        }
        let proven = addresses(&facts).zip(answered.ok()).is_some_and(|(before, now)| moved(&before, &now));
        Ok(match done {
            true if asked && !proven => Inspection::UnderWay(facts),
            // Put before us, or by us before a restart: nobody pins it but `verify`.
            true if wanted && self.core.keys.pin => Inspection::UnderWay(facts),
            true => Inspection::AlreadySo(facts),
            false => Inspection::Possible(facts),
        })
    }

    async fn preflight(&self, cx: &StepContext, found: Inspection) -> Result<Inspection, StepError> {
        Ok(match found {
            // On the way back the object's absence is all it takes, and what stands there already has shown that it works.
            Inspection::Possible(_) if cx.direction == Direction::ToStandby => {
                self.core.preconditions().await?;
                found
            }
            // Under way it is for a move, which would pin it yet: by what users see the switch is thrown.
            Inspection::UnderWay(facts) => Inspection::AlreadySo(facts),
            found => found,
        })
    }

    async fn autonomy(&self, _cx: &StepContext) -> Result<Option<Vec<String>>, StepError> {
        // The switch and its pin leave roles and checks as they are, or none that could decide.
        let (names, switch) = (vec![self.core.keys.record.clone()], Some(self.core.switch()));
        let survey = Survey { names, switch, after: &<[Record]>::to_vec };
        self.core.owner.survey(&self.core.zone, &survey).await.map(Some).map_err(|failure| failure.step())
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        if cx.direction == Direction::ToStandby {
            self.core.set(true).await?;
            return Ok(json!({ "object": "put" }));
        }
        // Before it is looked at, lest it comes in between. Roles first: with the object still there the standby goes on serving, whichever of the two is seen first.
        self.followups.call_off(&self.core.place()).await;
        let roles = if self.core.keys.pin { self.core.pin(false, cx.time_left).await? } else { "not ours".to_owned() };
        self.core.set(false).await?;
        Ok(json!({ "object": "removed", "roles": roles }))
    }

    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError> {
        let wanted = cx.direction == Direction::ToStandby;
        let (present, answered) = tokio::join!(self.core.present(), self.core.answered());
        if present? != wanted {
            self.settling.begin_anew();
            let what =
                if wanted { "is not there for the world: look at Block Public Access and the bucket policy" } else { "is still there" };
            return Ok(Verification::NotYet(format!("object {}/{} {what}", self.core.keys.bucket, self.core.keys.key)));
        }
        let now = match answered {
            Ok(now) => now,
            Err(why) => {
                return Ok(Verification::NotYet(format!(
                    "the zone's own servers do not say where {} points: {why}",
                    self.core.keys.record
                )));
            }
        };
        if now.is_empty() {
            return Ok(Verification::NotYet(format!("the zone's own servers say that {} has no address", self.core.keys.record)));
        }
        match addresses(&cx.before) {
            Some(before) if !moved(&before, &now) => {
                return Ok(Verification::NotYet(format!("the zone's own servers still answer {} as before", self.core.keys.record)));
            }
            // It was asked for without knowing what they answered until then.
            None if !cx.before.is_null() => {
                let takes = self.core.owner.takes(&self.core.zone, &self.core.keys.health_check_id);
                if let Some(words) = self.settling.unsettled(&now, takes) {
                    return Ok(Verification::NotYet(format!("{}: {words}", self.core.keys.record)));
                }
            }
            _ => {}
        }
        let mut facts = json!({ "present": wanted, "answered": now });
        if wanted && self.core.keys.pin && !self.pinning.swap(true, Ordering::SeqCst) {
            let answers = Answers { before: addresses(&cx.before), after: now };
            let work = Arc::clone(&self.core).keep(self.followups.hold(&self.core.place()), answers);
            let what = format!("pin of {}", self.core.keys.record);
            facts["pin"] = json!(self.followups.start(&cx.step_id, &what, PIN_LIMIT, work));
        }
        Ok(Verification::So(facts))
    }

    async fn undo(&self, cx: &StepContext) -> Result<String, StepError> {
        let Some(was) = cx.before.get("present").and_then(Value::as_bool) else {
            let message =
                format!("s3: nothing is recorded of object {}/{}; put it back by hand", self.core.keys.bucket, self.core.keys.key);
            return Err(StepError::new(ErrorClass::NeedsPerson, "no-record", message));
        };
        self.followups.call_off(&self.core.place()).await;
        // A pin may have happened only if this very run started it.
        if !was && self.pinning.load(Ordering::SeqCst) {
            self.core.pin(false, cx.time_left).await?;
        }
        self.core.set(was).await?;
        Ok(format!("object {}/{} is {} again", self.core.keys.bucket, self.core.keys.key, if was { "there" } else { "gone" }))
    }
}

#[cfg(test)]
mod tests;
