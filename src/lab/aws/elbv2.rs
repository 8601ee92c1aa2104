//! Elastic Load Balancing v2 over the query protocol; it only tells.

use super::wire::{Call, iso, query};
use super::{Answer, unknown};
use crate::lab::world::{ApiError, Site, Target, World};

const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

/// Answers a call.
pub fn handle(world: &World, call: &Call) -> Result<Answer, ApiError> {
    let here: Vec<&Site> = world.sites().iter().filter(|s| s.region == call.region).collect();
    match call.operation.as_str() {
        "DescribeLoadBalancers" => balancers(world, call, here),
        "DescribeTargetGroups" => target_groups(call, here),
        "DescribeTargetHealth" => target_health(world, call, &here),
        _ => Err(unknown(call)),
    }
}

fn balancers(world: &World, call: &Call, mut here: Vec<&Site>) -> Result<Answer, ApiError> {
    let (names, arns) = (call.form.list("Names"), call.form.list("LoadBalancerArns"));
    if !names.is_empty() || !arns.is_empty() {
        here.retain(|s| names.contains(&s.balancer.name) || arns.contains(&s.balancer.arn));
        if here.is_empty() {
            return Err(ApiError::new(400, "LoadBalancerNotFound", "One or more load balancers not found"));
        }
    }
    Ok(query(call, NAMESPACE, |x| {
        x.each("LoadBalancers", "member", here, |x, site| {
            let b = &site.balancer;
            x.leaf("LoadBalancerArn", &b.arn).leaf("DNSName", &b.dns_name).leaf("CanonicalHostedZoneId", &b.zone_id);
            x.leaf("CreatedTime", iso(world.unix_ms(0).saturating_sub(86_400_000 * 90))).leaf("LoadBalancerName", &b.name);
            x.leaf("Scheme", "internet-facing").leaf("VpcId", "vpc-0lab").leaf("Type", "application").leaf("IpAddressType", "ipv4");
            x.node("State", |x| {
                x.leaf("Code", "active");
            });
        });
    }))
}

fn target_groups(call: &Call, mut here: Vec<&Site>) -> Result<Answer, ApiError> {
    let (names, arns) = (call.form.list("Names"), call.form.list("TargetGroupArns"));
    let balancer = call.form.get("LoadBalancerArn");
    if !names.is_empty() || !arns.is_empty() || balancer.is_some() {
        let fits = |s: &&Site| {
            let b = &s.balancer;
            names.contains(&b.target_group) || arns.contains(&b.target_group_arn) || balancer == Some(b.arn.as_str())
        };
        here.retain(fits);
        if here.is_empty() {
            return Err(ApiError::new(400, "TargetGroupNotFound", "One or more target groups not found"));
        }
    }
    Ok(query(call, NAMESPACE, |x| {
        x.each("TargetGroups", "member", here, |x, site| {
            let b = &site.balancer;
            x.leaf("TargetGroupArn", &b.target_group_arn).leaf("TargetGroupName", &b.target_group);
            x.leaf("Protocol", "HTTP").leaf("Port", 8_080).leaf("VpcId", "vpc-0lab").leaf("TargetType", "instance");
            x.leaf("HealthCheckProtocol", "HTTP").leaf("HealthCheckPath", "/healthz").leaf("HealthCheckEnabled", true);
            x.leaf("HealthCheckIntervalSeconds", 10).leaf("HealthCheckTimeoutSeconds", 5);
            x.leaf("HealthyThresholdCount", 2).leaf("UnhealthyThresholdCount", 2);
            x.node("LoadBalancerArns", |x| {
                x.leaf("member", &b.arn);
            });
        });
    }))
}

fn target_health(world: &World, call: &Call, here: &[&Site]) -> Result<Answer, ApiError> {
    let arn = call.form.need("TargetGroupArn")?;
    let Some(site) = here.iter().find(|s| s.balancer.target_group_arn == arn) else {
        return Err(ApiError::new(400, "TargetGroupNotFound", "One or more target groups not found"));
    };
    let wanted: Vec<&str> = (1..=100).map_while(|n| call.form.get(&format!("Targets.member.{n}.Id"))).collect();
    let instances = world
        .groups()
        .iter()
        .filter(|g| g.site == Some(site.name))
        .flat_map(|g| &g.instances)
        .filter(|i| wanted.is_empty() || wanted.contains(&i.id.as_str()));
    Ok(query(call, NAMESPACE, |x| {
        x.each("TargetHealthDescriptions", "member", instances, |x, i| {
            x.node("Target", |x| {
                x.leaf("Id", &i.id).leaf("Port", 8_080);
            });
            x.leaf("HealthCheckPort", 8_080);
            let (state, reason) = match i.target {
                Target::Initial => ("initial", Some("Elb.RegistrationInProgress")),
                Target::Healthy => ("healthy", None),
                Target::Unhealthy => ("unhealthy", Some("Target.FailedHealthChecks")),
                Target::Draining => ("draining", Some("Target.DeregistrationInProgress")),
            };
            x.node("TargetHealth", |x| {
                x.leaf("State", state).maybe("Reason", reason);
            });
        });
    }))
}
