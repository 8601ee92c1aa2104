//! `autoscaling-capacity`: raises a group's sizes, and is done when enough of it serves.

#[cfg(feature = "elbv2")]
use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::autoscaling::{Change, Group, Sizes, Whereabouts};
use crate::adapters::aws::{Aws, Purpose};
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::adapters::shell::shell_word;
use crate::config::judge::Table;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "autoscaling-capacity",
    doc: "raises an Auto Scaling group to the size that carries all users; never lowers a size",
    class: Class::Capacity,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::Inspectable,
    default_deadline: "15m",
    at_source: false,
    refine: None,
    keys: &[
        KeyDoc { name: "group", form: "string", default: "", doc: "The Auto Scaling group." },
        KeyDoc {
            name: "desired",
            form: "whole number",
            default: "",
            doc: "Instances there shall be at least, or capacity units if the group weighs its instance types. Raising it costs their price and, where capacity is short, time.",
        },
        KeyDoc {
            name: "min_success",
            form: "percentage",
            default: "\"75%\"",
            doc: "Share of `desired` that must be in service before the step is done. Raising it waits for the slowest launches.",
        },
    ],
    judge,
    build,
    permissions,
};

#[derive(Serialize, Deserialize)]
struct Keys {
    group: String,
    desired: i32,
    min_success: f64,
}

fn judge(table: &Table, _place: &Place) -> Option<Value> {
    let group = table.need_string("group", "the standby's Auto Scaling group, e.g. \"shop-standby\"");
    let desired = table.whole("desired", 1, 0);
    if !table.has("desired") {
        table.fault("desired", "is missing; give the number of instances that carries all users");
    }
    if desired > u64::from(i32::MAX.unsigned_abs()) {
        table.fault("desired", format!("{desired} is more than a group can have"));
    }
    let desired = i32::try_from(desired).ok().filter(|number| *number > 0);
    let min_success = match table.string("min_success") {
        None => Some(0.75),
        Some(text) => {
            let share = text
                .trim()
                .strip_suffix('%')
                .and_then(|number| number.trim().parse::<f64>().ok())
                .filter(|number| *number > 0.0 && *number <= 100.0);
            if share.is_none() {
                table.fault("min_success", format!("{text:?} is not a percentage above 0; write \"75%\""));
            }
            share.map(|number| number / 100.0)
        }
    };
    Some(json!(Keys { group: group?, desired: desired?, min_success: min_success? }))
}

fn whereabouts(step: &PlannedStep, group: String) -> Whereabouts {
    Whereabouts { account: step.account.clone(), region: step.region.clone(), group }
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    Ok(Arc::new(Capacity {
        aws: adapters.aws.clone(),
        place: whereabouts(step, keys.group),
        desired: keys.desired,
        min_success: keys.min_success,
    }))
}

fn permissions(step: &PlannedStep) -> Vec<Permission> {
    let mut needed = whereabouts(step, step.keys["group"].as_str().unwrap_or("*").to_owned()).permissions();
    // DescribeTargetHealth takes no resource.
    needed.push(Permission {
        action: "elasticloadbalancing:DescribeTargetHealth".into(),
        resource: "*".into(),
        account: step.account.clone(),
    });
    needed
}

struct Capacity {
    aws: Aws,
    place: Whereabouts,
    desired: i32,
    min_success: f64,
}

impl Capacity {
    /// What the sizes shall be: never below what they are.
    fn wanted(&self, now: Sizes) -> Sizes {
        Sizes { min: now.min.max(self.desired), max: now.max.max(self.desired), desired: now.desired.max(self.desired) }
    }

    /// The sizes that have to rise. The others are not sent: what others raise meanwhile stays.
    fn rise(&self, now: Sizes) -> Change {
        let to = self.wanted(now);
        let rises = |to: i32, now: i32| Some(to).filter(|to| *to > now);
        Change { min: rises(to.min, now.min), max: rises(to.max, now.max), desired: rises(to.desired, now.desired) }
    }

    /// Instances, or units of them, that must serve for the step to be done.
    fn needed(&self) -> usize {
        (f64::from(self.desired) * self.min_success).ceil().max(1.0) as usize
    }

    /// What of the group has a healthy target, in each of its target groups.
    #[cfg(feature = "elbv2")]
    async fn healthy(&self, group: &Group) -> Result<Vec<(String, usize)>, StepError> {
        use crate::adapters::aws::{Op, Purpose};
        use aws_sdk_elasticloadbalancingv2::types::TargetHealthStateEnum;
        let client =
            self.aws.elbv2(self.place.account.as_deref(), &self.place.region, Purpose::Look).await.map_err(|failure| failure.step())?;
        let mut found = Vec::new();
        for arn in &group.target_groups {
            let op = Op::new(
                "elbv2",
                "DescribeTargetHealth",
                "elasticloadbalancing:DescribeTargetHealth",
                &self.place.region,
                format!("target group {arn}"),
            );
            let answer =
                self.aws.call(&op, client.describe_target_health().target_group_arn(arn).send()).await.map_err(|failure| failure.step())?;
            let healthy: BTreeSet<&str> = answer
                .target_health_descriptions()
                .iter()
                .filter(|one| one.target_health().and_then(|health| health.state()) == Some(&TargetHealthStateEnum::Healthy))
                .filter_map(|one| one.target().and_then(|target| target.id()))
                .collect();
            // Only this group's own instances: another group's targets say nothing about ours.
            found.push((arn.clone(), group.units(|member| healthy.contains(member.id.as_str()))));
        }
        Ok(found)
    }

    #[cfg(not(feature = "elbv2"))]
    async fn healthy(&self, group: &Group) -> Result<Vec<(String, usize)>, StepError> {
        if group.target_groups.is_empty() {
            return Ok(Vec::new());
        }
        Err(StepError::new(
            ErrorClass::Refused,
            "no-elbv2",
            format!("group {} has target groups, but this build cannot look at them; build with feature elbv2", self.place.group),
        ))
    }

    /// `None`: enough serves. Else what is missing, in words.
    async fn missing(&self, group: &Group) -> Result<Option<String>, StepError> {
        let (needed, serving) = (self.needed(), group.in_service());
        let (instances, targets) = if group.weighted { ("units", "units of targets") } else { ("instances", "targets") };
        if serving < needed {
            return Ok(Some(format!(
                "{serving} of {needed} needed {instances} in service and healthy ({} in the group)",
                group.units(|_| true)
            )));
        }
        let short = self.healthy(group).await?.into_iter().find(|(_, healthy)| *healthy < needed);
        Ok(short
            .map(|(arn, healthy)| format!("{healthy} of {needed} needed {targets} healthy in {}", arn.rsplit(':').next().unwrap_or(&arn))))
    }

    fn facts(&self, group: &Group) -> Value {
        let suspended: Vec<&str> = group.suspended.iter().map(|(name, _)| name.as_str()).collect();
        json!({ "was": group.sizes, "weighted": group.weighted, "in_service": group.in_service(), "needed": self.needed(), "target_groups": group.target_groups, "suspended": suspended })
    }

    /// Sizes that count something else than `desired` does can be neither compared with it nor set to it.
    fn other_measure(&self, group: &Group) -> Option<StepError> {
        let message = format!(
            "autoscaling: group {} in {} counts its sizes in {}, and `desired` of the step counts instances or their units; set the group's DesiredCapacityType to units and its sizes with it, or use a `command` step",
            self.place.group,
            self.place.region,
            group.measure.as_ref()?
        );
        Some(StepError::new(ErrorClass::Refused, "desired-capacity-type", message))
    }

    /// A suspended process that makes the step impossible, seen before anything moves.
    fn suspension(&self, group: &Group) -> Option<StepError> {
        let effect = |process: &str| match process {
            "Launch" => "no instance would be launched",
            _ => "instances launched meanwhile are never registered with the load balancer, not even after a resume",
        };
        let process = ["Launch", "AddToLoadBalancer"]
            .into_iter()
            .find(|process| group.suspended(process).is_some() && (*process == "Launch" || !group.target_groups.is_empty()))?;
        let message = format!(
            "autoscaling: group {} in {} has the process {process} suspended ({}): {}; run `aws autoscaling resume-processes --region {} --auto-scaling-group-name {} --scaling-processes {process}`",
            self.place.group,
            self.place.region,
            group.suspended(process).unwrap_or_default(),
            effect(process),
            self.place.region,
            shell_word(&self.place.group)
        );
        Some(StepError::new(ErrorClass::NeedsPerson, "process-suspended", message))
    }
}

#[async_trait]
impl Step for Capacity {
    fn describe(&self, found: &Inspection) -> Vec<Call> {
        let was: Option<Sizes> = match found {
            Inspection::AlreadySo(_) | Inspection::UnderWay(_) => return Vec::new(),
            Inspection::Possible(facts) => serde_json::from_value(facts["was"].clone()).ok(),
            Inspection::NotYet(_) | Inspection::Asks(_) | Inspection::CannotTell => None,
        };
        let unread = Change { min: Some(self.desired), max: None, desired: Some(self.desired) };
        vec![self.place.resize_call(was.map_or(unread, |was| self.rise(was)))]
    }

    fn script(&self, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
        let limit = cx.limit;
        let (region, group) = (shell_word(&self.place.region), shell_word(&self.place.group));
        // By the sizes of then: the group may have grown or shrunk since.
        let mut lines = vec![format!("grow {region} {group} {}", self.desired)];
        let weighted = match found {
            Inspection::AlreadySo(facts) | Inspection::UnderWay(facts) | Inspection::Possible(facts) => {
                facts["weighted"].as_bool() == Some(true)
            }
            Inspection::NotYet(_) | Inspection::Asks(_) | Inspection::CannotTell => false,
        };
        let in_service = if weighted {
            "sum(AutoScalingGroups[0].Instances[?LifecycleState=='InService'].to_number(WeightedCapacity || '1'))"
        } else {
            "length(AutoScalingGroups[0].Instances[?LifecycleState=='InService'])"
        };
        lines.push(self.place.wait_line(limit, "ge", self.needed(), in_service));
        // Targets are counted and have no weights.
        let targets = if weighted { 1 } else { self.needed() };
        if weighted {
            lines.push("# The group weighs its instances: see yourself that enough of its targets are healthy.".to_owned());
        }
        lines.push(format!("wait_for {} ge {targets} healthy {region} {group}", limit.as_secs()));
        lines
    }

    async fn inspect(&self, _cx: &StepContext) -> Result<Inspection, StepError> {
        let group = self.place.group(&self.aws).await?;
        if let Some(error) = self.other_measure(&group) {
            return Err(error);
        }
        let facts = self.facts(&group);
        let sized = self.wanted(group.sizes) == group.sizes;
        if sized && self.missing(&group).await?.is_none() {
            return Ok(Inspection::AlreadySo(facts));
        }
        if let Some(error) = self.suspension(&group) {
            return Err(error);
        }
        Ok(if sized { Inspection::UnderWay(facts) } else { Inspection::Possible(facts) })
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Value, StepError> {
        // Read again: another may have raised the sizes since, and they must not be lowered.
        let rise = self.rise(self.place.group(&self.aws).await?.sizes);
        // Sent once: a repetition would set again what others may have raised since.
        self.place.resize(&self.aws, rise, Purpose::Once).await?;
        Ok(json!({ "asked": rise }))
    }

    async fn verify(&self, _cx: &StepContext) -> Result<Verification, StepError> {
        let group = self.place.group(&self.aws).await?;
        if self.wanted(group.sizes) != group.sizes {
            return Ok(Verification::NotYet(format!(
                "group {} is sized to {}, not {}",
                self.place.group, group.sizes.desired, self.desired
            )));
        }
        Ok(match self.missing(&group).await? {
            Some(words) => Verification::NotYet(words),
            None => Verification::So(json!({ "sizes": group.sizes, "in_service": group.in_service(), "needed": self.needed() })),
        })
    }

    async fn undo(&self, _cx: &StepContext) -> Result<String, StepError> {
        Ok(format!(
            "the capacity of {} was left as it is: taking instances away from a site that may serve is a person's decision",
            self.place.group
        ))
    }
}

#[cfg(test)]
mod tests;
