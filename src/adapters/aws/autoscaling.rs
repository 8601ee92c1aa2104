//! What Auto Scaling says of one group; read and sized by the fence and by the capacity step.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Aws, Failure, Op, Purpose};
use crate::adapters::shell::shell_word;
use crate::ports::{Call, ErrorClass, Permission, StepError};

/// The three sizes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Never fewer.
    pub min: i32,
    /// Never more.
    pub max: i32,
    /// As many as there should be now.
    pub desired: i32,
}

/// Sizes to be set; those that are left out stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Change {
    pub min: Option<i32>,
    pub max: Option<i32>,
    pub desired: Option<i32>,
}

impl Sizes {
    /// True if no instance is wanted.
    pub fn are_nothing(&self) -> bool {
        self.min == 0 && self.desired == 0
    }
}

impl From<Sizes> for Change {
    fn from(all: Sizes) -> Change {
        Change { min: Some(all.min), max: Some(all.max), desired: Some(all.desired) }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "min {}, max {}, desired {}", self.min, self.max, self.desired)
    }
}

/// One instance of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `i-…`.
    pub id: String,
    /// `InService`, `Pending:Wait`, `Terminating` …
    pub state: String,
    /// Auto Scaling's own judgement.
    pub healthy: bool,
    /// Scale-in passes it by.
    pub protected: bool,
    /// What it counts towards the group's sizes: one, unless the group weighs its instance types.
    pub units: usize,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its sizes now, in instances or, where these have weights, in units.
    pub sizes: Sizes,
    /// What the sizes count if it is neither: `vcpu` or `memory-mib`.
    pub measure: Option<String>,
    /// The group weighs its instance types.
    pub weighted: bool,
    /// Everything in it, whatever its state.
    pub members: Vec<Member>,
    /// Suspended processes with AWS's reason.
    pub suspended: Vec<(String, String)>,
    /// ARNs of the target groups that its instances are registered with.
    pub target_groups: Vec<String>,
    /// It has a warm pool, whose instances are none of its members.
    pub warm_pool: bool,
}

impl Group {
    /// What the members that fit count towards the sizes.
    pub fn units(&self, fits: impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|one| fits(one)).map(|one| one.units).sum()
    }

    /// Units in service and healthy by Auto Scaling's own judgement: as many as instances, unless these have weights.
    pub fn in_service(&self) -> usize {
        self.units(|one| one.state == "InService" && one.healthy)
    }

    /// The reason for the suspension of a process, if it is suspended.
    pub fn suspended(&self, process: &str) -> Option<&str> {
        self.suspended.iter().find(|(name, _)| name == process).map(|(_, why)| why.as_str())
    }
}

/// States of a warm pool's instances that do not run.
const ASLEEP: [&str; 2] = ["Warmed:Stopped", "Warmed:Hibernated"];

/// Pages of 50 instances that a warm pool may have.
const POOL_PAGES: usize = 100;

/// Where a group is.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    /// Account of the config; `None`: our own.
    pub account: Option<String>,
    /// Its region.
    pub region: String,
    /// Its name.
    pub group: String,
}

impl Whereabouts {
    fn op(&self, operation: &'static str, action: &'static str) -> Op {
        Op::new("autoscaling", operation, action, &self.region, format!("group {}", self.group))
    }

    /// Reads the group; `None`: there is none of that name.
    pub async fn read(&self, aws: &Aws) -> Result<Option<Group>, Failure> {
        let op = self.op("DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingGroups");
        let client = aws.autoscaling(self.account.as_deref(), &self.region, Purpose::Look).await?;
        let answer = aws.call(&op, client.describe_auto_scaling_groups().auto_scaling_group_names(&self.group).send()).await?;
        let found = answer.auto_scaling_groups().iter().find(|one| one.auto_scaling_group_name() == Some(&self.group));
        Ok(found.map(|one| {
            let mut target_groups: Vec<String> = one.target_group_arns().to_vec();
            for source in one.traffic_sources().iter().filter(|source| source.r#type() == Some("elbv2")) {
                if let Some(arn) = source.identifier().filter(|arn| !target_groups.iter().any(|known| known == arn)) {
                    target_groups.push(arn.to_owned());
                }
            }
            let policy = one.mixed_instances_policy().and_then(|policy| policy.launch_template());
            Group {
                sizes: Sizes {
                    min: one.min_size().unwrap_or(0),
                    max: one.max_size().unwrap_or(0),
                    desired: one.desired_capacity().unwrap_or(0),
                },
                measure: one.desired_capacity_type().filter(|kind| !kind.is_empty() && *kind != "units").map(str::to_owned),
                weighted: policy.is_some_and(|template| template.overrides().iter().any(|one| one.weighted_capacity().is_some())),
                members: one
                    .instances()
                    .iter()
                    .map(|member| Member {
                        id: member.instance_id().unwrap_or_default().to_owned(),
                        state: member.lifecycle_state().map_or_else(String::new, |state| state.as_str().to_owned()),
                        healthy: member.health_status().is_some_and(|health| health.eq_ignore_ascii_case("healthy")),
                        protected: member.protected_from_scale_in().unwrap_or(false),
                        units: member.weighted_capacity().and_then(|weight| weight.parse().ok()).unwrap_or(1),
                    })
                    .collect(),
                suspended: one
                    .suspended_processes()
                    .iter()
                    .map(|process| {
                        (process.process_name().unwrap_or_default().to_owned(), process.suspension_reason().unwrap_or_default().to_owned())
                    })
                    .collect(),
                target_groups,
                warm_pool: one.warm_pool_configuration().is_some() || one.warm_pool_size().is_some_and(|size| size > 0),
            }
        }))
    }

    /// Reads the group for a step, which cannot do without it.
    ///
    /// # Errors
    /// Refused, `group-not-found`: there is none of that name; else what the failed call means for a step.
    pub async fn group(&self, aws: &Aws) -> Result<Group, StepError> {
        let found = self.read(aws).await.map_err(|failure| failure.step())?;
        found.ok_or_else(|| {
            let message = format!(
                "autoscaling: there is no group {} in {}; mend `group`, `region` or `account` of the step",
                self.group, self.region
            );
            StepError::new(ErrorClass::Refused, "group-not-found", message)
        })
    }

    /// What of the group's warm pool may run and write, each with its state: all but what is stopped or hibernated.
    ///
    /// API reference, DescribeAutoScalingGroups: "To retrieve information about the instances in a warm pool, you must call
    /// the DescribeWarmPool API".
    ///
    /// # Errors
    /// What the failed call means for a step; refused, `warm-pool-without-end`: more pages than a pool can have.
    pub async fn awake_in_warm_pool(&self, aws: &Aws) -> Result<Vec<String>, StepError> {
        let op = self.op("DescribeWarmPool", "autoscaling:DescribeWarmPool");
        let client = aws.autoscaling(self.account.as_deref(), &self.region, Purpose::Look).await.map_err(|failure| failure.step())?;
        let (mut awake, mut token) = (Vec::new(), None::<String>);
        for _ in 0..POOL_PAGES {
            let call = client.describe_warm_pool().auto_scaling_group_name(&self.group).set_next_token(token.take());
            let answer = aws.call(&op, call.send()).await.map_err(|failure| failure.step())?;
            for one in answer.instances() {
                let state = one.lifecycle_state().map_or("in no known state", |state| state.as_str());
                if !ASLEEP.contains(&state) {
                    awake.push(format!("{} {state}", one.instance_id().unwrap_or_default()));
                }
            }
            token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(awake);
            }
        }
        let message = format!("autoscaling: the warm pool of group {} in {} has no end of pages", self.group, self.region);
        Err(StepError::new(ErrorClass::Refused, "warm-pool-without-end", message))
    }

    /// Sets sizes in one call, so that desired never lies outside of min and max in between.
    ///
    /// # Errors
    /// Retry: the group is in the middle of something, which passes; else what the failed call means for a step.
    pub async fn resize(&self, aws: &Aws, to: Change, purpose: Purpose) -> Result<(), StepError> {
        let op = self.op("UpdateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup");
        let client = aws.autoscaling(self.account.as_deref(), &self.region, purpose).await.map_err(|failure| failure.step())?;
        let call = client.update_auto_scaling_group().auto_scaling_group_name(&self.group);
        let call = call.set_min_size(to.min).set_max_size(to.max).set_desired_capacity(to.desired).send();
        aws.call(&op, call).await.map_err(|failure| match failure.code.as_str() {
            // The errors of the API reference's UpdateAutoScalingGroup: it scales, or has a pending change.
            "ScalingActivityInProgress" | "ResourceContention" => failure.step_as(ErrorClass::Retry),
            _ => failure.step(),
        })?;
        Ok(())
    }

    /// The call that [`Whereabouts::resize`] makes, as a person could make it.
    pub fn resize_call(&self, to: Change) -> Call {
        let mut parameters = serde_json::json!({ "AutoScalingGroupName": self.group });
        let mut shell = format!(
            "aws autoscaling update-auto-scaling-group --region {} --auto-scaling-group-name {}",
            shell_word(&self.region),
            shell_word(&self.group)
        );
        let sizes =
            [("DesiredCapacity", "--desired-capacity", to.desired), ("MinSize", "--min-size", to.min), ("MaxSize", "--max-size", to.max)];
        for (key, flag, size) in sizes {
            if let Some(size) = size {
                parameters[key] = size.into();
                shell.push_str(&format!(" {flag} {size}"));
            }
        }
        Call {
            service: "autoscaling".into(),
            operation: "UpdateAutoScalingGroup".into(),
            region: self.region.clone(),
            parameters,
            shell,
            afterwards: false,
        }
    }

    /// A line of a person's script: waits until a figure of the group is so.
    pub fn wait_line(&self, limit: Duration, how: &str, wanted: usize, query: &str) -> String {
        format!(
            "wait_for {} {how} {wanted} aws autoscaling describe-auto-scaling-groups --region {} --auto-scaling-group-names {} --query {} --output text",
            limit.as_secs(),
            shell_word(&self.region),
            shell_word(&self.group),
            shell_word(query)
        )
    }

    /// A line of a person's script: waits until nothing of the warm pool may run.
    pub fn pool_wait_line(&self, limit: Duration) -> String {
        let awake = ASLEEP.map(|state| format!("LifecycleState!='{state}'")).join(" && ");
        // As JSON: as text the command line answers the query once for each page.
        format!(
            "wait_for {} is 0 aws autoscaling describe-warm-pool --region {} --auto-scaling-group-name {} --query \"length(Instances[?{awake}])\" --output json",
            limit.as_secs(),
            shell_word(&self.region),
            shell_word(&self.group),
        )
    }

    /// Permissions to read and to size the group. Describe calls take no resource.
    pub fn permissions(&self) -> Vec<Permission> {
        let arn = format!(
            "arn:{}:autoscaling:{}:*:autoScalingGroup:*:autoScalingGroupName/{}",
            super::partition(&self.region),
            self.region,
            self.group
        );
        let of =
            |action: &str, resource: &str| Permission { action: action.into(), resource: resource.into(), account: self.account.clone() };
        vec![of("autoscaling:DescribeAutoScalingGroups", "*"), of("autoscaling:UpdateAutoScalingGroup", &arn)]
    }
}
