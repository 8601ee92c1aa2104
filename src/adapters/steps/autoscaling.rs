//! `autoscaling-capacity`: raises a group's sizes, and is done when enough of it serves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::Aws;
use crate::adapters::aws::autoscaling::{Group, Sizes, Whereabouts};
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::config::judge::Table;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, Step, StepContext, StepError, Verification};

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
            doc: "Instances there shall be at least. Raising it costs their price and, where capacity is short, time.",
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

    /// Instances that must serve for the step to be done.
    fn needed(&self) -> usize {
        (f64::from(self.desired) * self.min_success).ceil().max(1.0) as usize
    }

    /// Healthy targets in each of the group's target groups.
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
            // Only this group's own instances: another group's targets say nothing about ours.
            let ours = |id: &str| group.members.iter().any(|member| member.id == id);
            let healthy = answer.target_health_descriptions().iter().filter(|one| {
                one.target_health().and_then(|health| health.state()) == Some(&TargetHealthStateEnum::Healthy)
                    && one.target().and_then(|target| target.id()).is_some_and(ours)
            });
            found.push((arn.clone(), healthy.count()));
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
        if serving < needed {
            return Ok(Some(format!(
                "{serving} of {needed} needed instances in service and healthy ({} in the group)",
                group.members.len()
            )));
        }
        let short = self.healthy(group).await?.into_iter().find(|(_, healthy)| *healthy < needed);
        Ok(short
            .map(|(arn, healthy)| format!("{healthy} of {needed} needed targets healthy in {}", arn.rsplit(':').next().unwrap_or(&arn))))
    }

    fn facts(&self, group: &Group) -> Value {
        let suspended: Vec<&str> = group.suspended.iter().map(|(name, _)| name.as_str()).collect();
        json!({ "was": group.sizes, "in_service": group.in_service(), "needed": self.needed(), "target_groups": group.target_groups, "suspended": suspended })
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
            crate::adapters::aws::shell_word(&self.place.group)
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
        let wanted = was.map(|was| self.wanted(was));
        vec![self.place.resize_call(
            Some(wanted.map_or(self.desired, |s| s.min)),
            wanted.map(|s| s.max),
            wanted.map_or(self.desired, |s| s.desired),
        )]
    }

    fn script(&self, found: &Inspection, limit: Duration) -> Vec<String> {
        let Whereabouts { region, group, .. } = &self.place;
        let mut lines: Vec<String> = self.describe(found).into_iter().map(|call| call.shell).collect();
        let in_service = "length(AutoScalingGroups[0].Instances[?LifecycleState=='InService'])";
        lines.push(self.place.wait_line(limit, "ge", self.needed(), in_service));
        let group = crate::adapters::aws::shell_word(group);
        lines.push(format!("wait_for {} ge {} healthy {region} {group}", limit.as_secs(), self.needed()));
        lines
    }

    async fn inspect(&self, _cx: &StepContext) -> Result<Inspection, StepError> {
        let group = self.place.group(&self.aws).await?;
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
        let wanted = self.wanted(self.place.group(&self.aws).await?.sizes);
        self.place.resize(&self.aws, wanted).await.map_err(|failure| match failure.code.as_str() {
            "ScalingActivityInProgress" | "ResourceContention" => failure.step_as(ErrorClass::Retry),
            _ => failure.step(),
        })?;
        Ok(json!({ "asked": wanted }))
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
