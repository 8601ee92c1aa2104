//! Auto Scaling over the query protocol.

use super::wire::{Call, Xml, iso, page, query};
use super::{Answer, unknown};
use crate::lab::world::{Activity, ApiError, Group, Instance, Lifecycle, Millis, Sizes, World};

const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    let (form, region) = (&call.form, call.region.as_str());
    let group = || form.need("AutoScalingGroupName");
    match call.operation.as_str() {
        "DescribeAutoScalingGroups" => return groups(world, call),
        "DescribeAutoScalingInstances" => return instances(world, call),
        "DescribeScalingActivities" => return activities(world, call),
        "UpdateAutoScalingGroup" => {
            let sizes = Sizes { min: form.parse("MinSize")?, desired: form.parse("DesiredCapacity")?, max: form.parse("MaxSize")? };
            world.update_group(region, group()?, sizes, now)?;
        }
        "SetDesiredCapacity" => {
            let desired = form.parse("DesiredCapacity")?.ok_or_else(|| ApiError::validation("DesiredCapacity is missing"))?;
            world.set_desired(region, group()?, desired, now)?;
        }
        "SuspendProcesses" => world.suspend(region, group()?, &form.list("ScalingProcesses"), true, now)?,
        "ResumeProcesses" => world.suspend(region, group()?, &form.list("ScalingProcesses"), false, now)?,
        "TerminateInstanceInAutoScalingGroup" => {
            let decrement = form.parse("ShouldDecrementDesiredCapacity")?.unwrap_or(false);
            let done = world.terminate_in_group(region, form.need("InstanceId")?, decrement, now)?;
            let world = &*world;
            return Ok(query(call, NAMESPACE, |x| {
                x.node("Activity", |x| activity(x, world, &done));
            }));
        }
        _ => return Err(unknown(call)),
    }
    Ok(query(call, NAMESPACE, |_| {}))
}

fn start(call: &Call) -> Result<(usize, usize), ApiError> {
    let size = call.form.parse::<usize>("MaxRecords")?.unwrap_or(50).clamp(1, 100);
    let bad = |_| ApiError::new(400, "InvalidNextToken", "The NextToken value is not valid.");
    let start = call.form.get("NextToken").map_or(Ok(0), str::parse::<usize>).map_err(bad)?;
    Ok((start, size))
}

fn groups(world: &World, call: &Call) -> Result<Answer, ApiError> {
    let wanted = call.form.list("AutoScalingGroupNames");
    let fits = |g: &&Group| g.region == call.region && (wanted.is_empty() || wanted.contains(&g.name));
    let all: Vec<&Group> = world.groups().iter().filter(fits).collect();
    let (from, size) = start(call)?;
    let (items, next) = page(&all, from, size);
    Ok(query(call, NAMESPACE, |x| {
        x.each("AutoScalingGroups", "member", items, |x, g| group(x, world, g));
        x.maybe("NextToken", next);
    }))
}

fn group(x: &mut Xml, world: &World, g: &Group) {
    let arn =
        format!("arn:aws:autoscaling:{}:{}:autoScalingGroup:lab:autoScalingGroupName/{}", g.region, crate::lab::world::ACCOUNT, g.name);
    x.leaf("AutoScalingGroupName", &g.name).leaf("AutoScalingGroupARN", arn);
    x.leaf("MinSize", g.min).leaf("MaxSize", g.max).leaf("DesiredCapacity", g.desired).leaf("DefaultCooldown", 300);
    x.node("AvailabilityZones", |x| {
        for zone in ["a", "b", "c"] {
            x.leaf("member", format!("{}{zone}", g.region));
        }
    });
    x.node("TargetGroupARNs", |x| {
        for site in world.sites().iter().filter(|s| g.site == Some(s.name)) {
            x.leaf("member", &site.balancer.target_group_arn);
        }
    });
    x.leaf("HealthCheckType", "EC2").leaf("HealthCheckGracePeriod", 0);
    x.each("Instances", "member", &g.instances, instance);
    x.leaf("CreatedTime", iso(world.unix_ms(0).saturating_sub(86_400_000 * 90)));
    x.each("SuspendedProcesses", "member", &g.suspended, |x, process| {
        x.leaf("ProcessName", process).leaf("SuspensionReason", "User suspended");
    });
    x.node("TerminationPolicies", |x| {
        x.leaf("member", "Default");
    });
    x.leaf("NewInstancesProtectedFromScaleIn", false);
}

fn instance(x: &mut Xml, i: &Instance) {
    let lifecycle = match i.lifecycle {
        Lifecycle::Pending => "Pending",
        Lifecycle::InService => "InService",
        Lifecycle::Terminating => "Terminating",
    };
    x.leaf("InstanceId", &i.id).leaf("InstanceType", "m6i.large").leaf("AvailabilityZone", &i.zone);
    x.leaf("LifecycleState", lifecycle).leaf("HealthStatus", "Healthy").leaf("ProtectedFromScaleIn", false);
}

fn instances(world: &World, call: &Call) -> Result<Answer, ApiError> {
    let wanted = call.form.list("InstanceIds");
    let in_region = world.groups().iter().filter(|g| g.region == call.region);
    let all: Vec<(&str, &Instance)> = in_region
        .flat_map(|g| g.instances.iter().map(|i| (g.name.as_str(), i)))
        .filter(|(_, i)| wanted.is_empty() || wanted.contains(&i.id))
        .collect();
    let (from, size) = start(call)?;
    let (items, next) = page(&all, from, size);
    Ok(query(call, NAMESPACE, |x| {
        x.each("AutoScalingInstances", "member", items, |x, (group, i)| {
            x.leaf("AutoScalingGroupName", group);
            instance(x, i);
        });
        x.maybe("NextToken", next);
    }))
}

fn activities(world: &World, call: &Call) -> Result<Answer, ApiError> {
    let all = world.activities(&call.region, call.form.get("AutoScalingGroupName"));
    let (from, size) = start(call)?;
    let (items, next) = page(&all, from, size);
    Ok(query(call, NAMESPACE, |x| {
        x.each("Activities", "member", &items, |x, a| activity(x, world, a));
        x.maybe("NextToken", next);
    }))
}

fn activity(x: &mut Xml, world: &World, a: &Activity) {
    x.leaf("ActivityId", &a.id).leaf("AutoScalingGroupName", &a.group).leaf("Description", &a.description);
    x.leaf("Cause", &a.cause).leaf("StartTime", iso(world.unix_ms(a.start)));
    x.maybe("EndTime", a.end.map(|end| iso(world.unix_ms(end))));
    x.leaf("StatusCode", a.status).leaf("Progress", if a.end.is_some() { 100 } else { 50 }).leaf("Details", "{}");
    x.maybe("StatusMessage", (a.status == "Failed").then_some(&a.description));
}
