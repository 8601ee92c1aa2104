//! One Auto Scaling group with its target groups, for the fence and for the capacity.
#![cfg(test)]

use super::{Answer, Heard, World, element, query, refusal};

/// The group.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// There is none.
    pub missing: bool,
    /// Minimum, maximum, desired.
    pub sizes: (i32, i32, i32),
    /// `(id, LifecycleState, HealthStatus, ProtectedFromScaleIn)`.
    pub members: Vec<(&'static str, &'static str, &'static str, bool)>,
    /// What instances weigh, by their ids; with any, the group weighs its instance types.
    pub weights: Vec<(&'static str, u32)>,
    /// `DesiredCapacityType`, if it says one.
    pub measure: Option<&'static str>,
    /// Suspended processes.
    pub suspended: Vec<&'static str>,
    /// The warm pool, if there is one: `(id, LifecycleState)`.
    pub pool: Option<Vec<(&'static str, &'static str)>>,
    /// Target groups with their targets: `(id, state)`.
    pub targets: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
}

impl Fleet {
    /// Members in service and healthy, by their ids.
    pub fn serving(ids: &[&'static str]) -> Vec<(&'static str, &'static str, &'static str, bool)> {
        ids.iter().map(|id| (*id, "InService", "Healthy", false)).collect()
    }
}

impl World for Fleet {
    fn answer(&mut self, heard: &Heard) -> Answer {
        let number = |name: &str| heard.get(name).parse::<i32>().unwrap();
        match heard.operation.as_str() {
            "UpdateAutoScalingGroup" => {
                assert_eq!(heard.get("AutoScalingGroupName"), "shop-group");
                let (min, max, desired) = self.sizes;
                // What is left out stays as it is.
                let size = |name: &str, now: i32| if heard.get(name).is_empty() { now } else { number(name) };
                self.sizes = (size("MinSize", min), size("MaxSize", max), size("DesiredCapacity", desired));
                query(heard, "")
            }
            "DescribeAutoScalingGroups" => {
                assert_eq!(heard.get("AutoScalingGroupNames.member.1"), "shop-group");
                let group = if self.missing { String::new() } else { element("member", self.group()) };
                query(heard, &element("AutoScalingGroups", group))
            }
            "DescribeWarmPool" => {
                assert_eq!(heard.get("AutoScalingGroupName"), "shop-group");
                // One instance a page.
                let at: usize = heard.get("NextToken").parse().unwrap_or(0);
                let pool = self.pool.as_deref().unwrap_or_default();
                let one = |(id, state): &(&str, &str)| element("member", element("InstanceId", id) + &element("LifecycleState", state));
                let instances = element("Instances", pool.get(at).map_or_else(String::new, one));
                let next = if at + 1 < pool.len() { element("NextToken", at + 1) } else { String::new() };
                query(heard, &(instances + &next))
            }
            "DescribeTargetHealth" => {
                let targets = self.targets.iter().find(|(arn, _)| *arn == heard.get("TargetGroupArn"));
                let Some((_, targets)) = targets else { return refusal(heard, 400, "TargetGroupNotFound", "no such target group") };
                let all: String = targets
                    .iter()
                    .map(|(id, state)| {
                        element("member", element("Target", element("Id", id)) + &element("TargetHealth", element("State", state)))
                    })
                    .collect();
                query(heard, &element("TargetHealthDescriptions", all))
            }
            other => refusal(heard, 400, "InvalidAction", other),
        }
    }
}

impl Fleet {
    fn group(&self) -> String {
        let (min, max, desired) = self.sizes;
        let each = |all: Vec<String>| all.into_iter().map(|inside| element("member", inside)).collect::<String>();
        let weight = |units: &u32| element("WeightedCapacity", units);
        let members = self.members.iter().map(|(id, state, health, protected)| {
            let weight = self.weights.iter().find(|(of, _)| of == id).map_or_else(String::new, |(_, units)| weight(units));
            weight
                + &element("InstanceId", id)
                + &element("LifecycleState", state)
                + &element("HealthStatus", health)
                + &element("ProtectedFromScaleIn", protected)
        });
        let suspended = self.suspended.iter().map(|name| element("ProcessName", name) + &element("SuspensionReason", "User suspended"));
        let arns = self.targets.iter().map(|(arn, _)| (*arn).to_owned());
        let overrides = each(self.weights.iter().map(|(_, units)| weight(units)).collect());
        let policy = element("MixedInstancesPolicy", element("LaunchTemplate", element("Overrides", overrides)));
        element("AutoScalingGroupName", "shop-group")
            + &element("MinSize", min)
            + &element("MaxSize", max)
            + &element("DesiredCapacity", desired)
            + &self.measure.map_or_else(String::new, |kind| element("DesiredCapacityType", kind))
            + &policy
            + &element("Instances", each(members.collect()))
            + &element("SuspendedProcesses", each(suspended.collect()))
            + &self.pool.as_ref().map_or_else(String::new, |pool| {
                element("WarmPoolConfiguration", element("PoolState", "Running")) + &element("WarmPoolSize", pool.len())
            })
            + &element("TargetGroupARNs", each(arns.collect()))
    }
}
