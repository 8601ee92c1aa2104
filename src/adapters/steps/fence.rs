//! `fence-primary`: takes the old writers away, by sizing their group to nothing, while its region still listens.
//!
//! A fence is proven only when no instance is left in whatever state: a terminating one may still write. Nor may any of a
//! warm pool run: scale-in can put the old writers there, and they are none of the group's members.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::adapters::Adapters;
use crate::adapters::aws::autoscaling::{Change, Group, Member, Sizes, Whereabouts};
use crate::adapters::aws::{Aws, Purpose};
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::adapters::shell::shell_word;
use crate::config::judge::Table;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "fence-primary",
    doc: "sizes the old writers' Auto Scaling group to nothing, so that the site that is left can take no write",
    class: Class::Other,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::Inspectable,
    default_deadline: "5s",
    at_source: true,
    refine: None,
    keys: &[KeyDoc {
        name: "group",
        form: "string",
        default: "",
        doc: "The writers' Auto Scaling group, in the region that is left unless the step names another.",
    }],
    judge,
    build,
    permissions,
};

#[derive(Serialize, Deserialize)]
struct Keys {
    group: String,
}

fn judge(table: &Table, _place: &Place) -> Option<Value> {
    let group = table.need_string("group", "the writers' Auto Scaling group, e.g. \"shop-primary\"")?;
    Some(json!(Keys { group }))
}

fn whereabouts(step: &PlannedStep, group: String) -> Whereabouts {
    Whereabouts { account: step.account.clone(), region: step.region.clone(), group }
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    Ok(Arc::new(Fence { aws: adapters.aws.clone(), place: whereabouts(step, keys.group) }))
}

fn permissions(step: &PlannedStep) -> Vec<Permission> {
    let place = whereabouts(step, step.keys["group"].as_str().unwrap_or("*").to_owned());
    let pool = Permission { action: "autoscaling:DescribeWarmPool".into(), resource: "*".into(), account: step.account.clone() };
    place.permissions().into_iter().chain([pool]).collect()
}

struct Fence {
    aws: Aws,
    place: Whereabouts,
}

impl Fence {
    /// Ends by the call's own time: the region that is left may be silent, and a call may take as long as the whole
    /// step. Who cuts it off from outside could not say what was asked.
    async fn within<T>(&self, cx: &StepContext, work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
        tokio::time::timeout(cx.time_left, work).await.unwrap_or_else(|_| {
            let (group, region, time) = (&self.place.group, &self.place.region, cx.time_left);
            let message = format!("autoscaling: group {group} in {region}: no answer within {time:?}; the fence is not proven");
            Err(StepError::new(ErrorClass::Retry, "timeout", message))
        })
    }

    /// The group, and what of it may still write, each with its state.
    async fn look(&self) -> Result<(Group, Vec<String>), StepError> {
        let group = self.place.group(&self.aws).await?;
        let member = |one: &Member| format!("{} {}{}", one.id, one.state, if one.protected { " (scale-in protected)" } else { "" });
        let mut writers: Vec<String> = group.members.iter().map(member).collect();
        // What is not sized to nothing is no fence, whatever its pool: one that may not be read must not keep it from being sized.
        if group.warm_pool && writers.is_empty() && group.sizes.are_nothing() {
            writers = self.place.awake_in_warm_pool(&self.aws).await?;
        }
        Ok((group, writers))
    }
}

/// What the fence asks for. The maximum stays: it is what undo needs least and what others hang alarms on.
const NOTHING: Change = Change { min: Some(0), max: None, desired: Some(0) };

/// Facts of a proven fence. `at` is when the answer that proves it was in: the last moment at which a write can have
/// been taken is not later, and a fence must never be dated too early.
fn proven(cx: &StepContext, start: Instant, was: Sizes) -> Value {
    let at = cx.now + i64::try_from(start.elapsed().as_micros()).unwrap_or(0);
    json!({ "fence": "proven", "at": at, "was": was, "min": was.min, "max": was.max, "desired": was.desired })
}

fn sizes_of(value: &Value) -> Option<Sizes> {
    serde_json::from_value(value.get("was").unwrap_or(value).clone()).ok()
}

#[async_trait]
impl Step for Fence {
    fn describe(&self, _found: &Inspection) -> Vec<Call> {
        vec![self.place.resize_call(NOTHING)]
    }

    fn script(&self, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
        let limit = cx.limit;
        let mut lines: Vec<String> = self.describe(found).into_iter().map(|call| call.shell).collect();
        lines.push(self.place.wait_line(limit, "is", 0, "length(AutoScalingGroups[0].Instances)"));
        if let Inspection::Possible(facts) | Inspection::UnderWay(facts) = found
            && facts["warm_pool"] == true
        {
            lines.push(self.place.pool_wait_line(limit));
        }
        lines
    }

    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        let start = Instant::now();
        let (group, writers) = self.within(cx, self.look()).await?;
        // After a restart the sizes are ours already: what stood there before is what the first inspection found.
        let was = sizes_of(&cx.before).unwrap_or(group.sizes);
        let down = group.sizes.are_nothing();
        if down && writers.is_empty() {
            return Ok(Inspection::AlreadySo(proven(cx, start, was)));
        }
        let suspended: Vec<&str> = group.suspended.iter().map(|(name, _)| name.as_str()).collect();
        let mut facts = json!({ "was": was, "min": was.min, "max": was.max, "desired": was.desired, "instances": writers.len(), "suspended": suspended });
        if group.warm_pool {
            facts["warm_pool"] = true.into();
        }
        Ok(if down { Inspection::UnderWay(facts) } else { Inspection::Possible(facts) })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        self.within(cx, self.place.resize(&self.aws, NOTHING, Purpose::Change)).await?;
        Ok(json!({ "asked": { "min": 0, "desired": 0 } }))
    }

    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError> {
        let start = Instant::now();
        let (group, writers) = self.within(cx, self.look()).await?;
        let was = sizes_of(&cx.before).unwrap_or(group.sizes);
        if !group.sizes.are_nothing() {
            return Ok(Verification::NotYet(format!("group {} is sized to {} again or still", self.place.group, group.sizes.desired)));
        }
        if writers.is_empty() {
            return Ok(Verification::So(proven(cx, start, was)));
        }
        let some = writers.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        if group.members.is_empty() {
            let count = writers.len();
            return Ok(Verification::NotYet(format!(
                "{count} instances of the warm pool that may still write: {some}; `aws autoscaling delete-warm-pool --force-delete --region {} --auto-scaling-group-name {}` takes them away",
                self.place.region,
                shell_word(&self.place.group)
            )));
        }
        let why = group.suspended("Terminate").map(|why| format!("; the process Terminate is suspended ({why})")).unwrap_or_default();
        Ok(Verification::NotYet(format!("{} instances left that may still write: {some}{why}", writers.len())))
    }

    async fn undo(&self, cx: &StepContext) -> Result<String, StepError> {
        let Some(was) = sizes_of(&cx.before) else {
            return Ok(format!("the sizes of {} before the fence are not known; nothing was put back", self.place.group));
        };
        let group = &self.place.group;
        self.within(cx, async {
            let now = self.place.group(&self.aws).await?.sizes;
            // A fence that never took has nothing to put back, and older sizes might be smaller than what is needed now.
            if now.desired > 0 && now.min >= was.min {
                return Ok(format!("group {group} is not fenced: left at {now}"));
            }
            let again = Sizes { min: was.min.max(now.min), max: was.max.max(now.max), desired: was.desired.max(now.desired) };
            self.place.resize(&self.aws, again.into(), Purpose::Change).await?;
            Ok(format!("group {group} is sized to {again} again"))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
