//! Auto Scaling: groups keep their desired size by themselves, and say what they did.

use super::{Activity, ApiError, Cause, Group, Instance, Lifecycle, Millis, Target, Tick, World};

/// Sizes to set; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Smallest size.
    pub min: Option<u32>,
    /// Size to strive for.
    pub desired: Option<u32>,
    /// Largest size.
    pub max: Option<u32>,
}

/// The processes that a group can suspend.
pub const PROCESSES: [&str; 9] = [
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
];

impl World {
    /// `UpdateAutoScalingGroup`.
    pub fn update_group(&mut self, region: &str, name: &str, sizes: Sizes, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let index = self.group_index(region, name)?;
        let group = &self.groups[index];
        let min = sizes.min.unwrap_or(group.min);
        let max = sizes.max.unwrap_or(group.max);
        if min > max {
            return Err(ApiError::validation(format!("Max bound, {max}, must be greater than or equal to min bound, {min}")));
        }
        // AWS moves a desired size that nobody named into the new bounds, and refuses a named one outside.
        let desired = match sizes.desired {
            Some(desired) if desired < min || desired > max => {
                return Err(ApiError::validation(format!(
                    "Desired capacity:{desired} must be between the specified min size:{min} and max size:{max}"
                )));
            }
            Some(desired) => desired,
            None => group.desired.clamp(min, max),
        };
        self.set_sizes(index, min, desired, max);
        Ok(())
    }

    /// `SetDesiredCapacity`.
    pub fn set_desired(&mut self, region: &str, name: &str, desired: u32, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let index = self.group_index(region, name)?;
        let (min, max) = (self.groups[index].min, self.groups[index].max);
        if desired > max {
            let message = format!("New SetDesiredCapacity value {desired} is above max value {max} for the AutoScalingGroup.");
            return Err(ApiError::validation(message));
        }
        if desired < min {
            let message = format!("New SetDesiredCapacity value {desired} is below min value {min} for the AutoScalingGroup.");
            return Err(ApiError::validation(message));
        }
        self.set_sizes(index, min, desired, max);
        Ok(())
    }

    /// `SuspendProcesses` and `ResumeProcesses`; no names means all.
    pub fn suspend(&mut self, region: &str, name: &str, processes: &[String], on: bool, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let index = self.group_index(region, name)?;
        if let Some(unknown) = processes.iter().find(|p| !PROCESSES.contains(&p.as_str())) {
            return Err(ApiError::validation(format!("Invalid process name: {unknown}")));
        }
        let all: Vec<String> = PROCESSES.iter().map(|p| (*p).to_owned()).collect();
        let chosen = if processes.is_empty() { &all } else { processes };
        let before = self.groups[index].suspended.clone();
        for process in chosen {
            if on {
                self.groups[index].suspended.insert(process.clone());
            } else {
                self.groups[index].suspended.remove(process);
            }
        }
        if before != self.groups[index].suspended {
            let kind = if on { "processes-suspended" } else { "processes-resumed" };
            self.record(kind, Cause::Api, region, name, chosen.join(","));
            self.reconcile(index);
        }
        Ok(())
    }

    /// `TerminateInstanceInAutoScalingGroup`.
    pub fn terminate_in_group(&mut self, region: &str, id: &str, decrement: bool, now: Millis) -> Result<Activity, ApiError> {
        self.advance(now);
        let found = self.groups.iter().position(|g| g.region == region && g.instances.iter().any(|i| i.id == id));
        let Some(index) = found else {
            return Err(ApiError::validation(format!("Instance Id not found - No managed instance found for instance ID: {id}")));
        };
        if decrement {
            if self.groups[index].desired <= self.groups[index].min {
                let message = "Currently, desiredSize equals minSize. Terminating instance without replacement will violate group's min size constraint.";
                return Err(ApiError::validation(message));
            }
            self.groups[index].desired -= 1;
        }
        self.record("instance-terminated", Cause::Api, region, id, format!("decrement={decrement}"));
        self.end_instance(index, id, "user request");
        self.reconcile(index);
        self.activities.last().cloned().ok_or_else(|| ApiError::new(500, "InternalFailure", "no activity"))
    }

    /// The machine dies, as machines do: nobody asked, and its group learns of it later.
    pub fn kill_instance(&mut self, id: &str, now: Millis) -> Result<(), ApiError> {
        self.machine_off(id, "instance-died", now)
    }

    /// Somebody stops the machine in EC2: to its load balancer and its group the same as a death.
    pub fn stop_instance(&mut self, id: &str, now: Millis) -> Result<(), ApiError> {
        self.machine_off(id, "instance-stopped", now)
    }

    fn machine_off(&mut self, id: &str, kind: &'static str, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let replace = self.profile.replace;
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if let Some(instance) = group.instances.iter_mut().find(|i| i.id == id) {
                instance.alive = false;
                let (region, site) = (group.region.clone(), group.site);
                self.record(kind, Cause::Hand, &region, id, "");
                self.later(replace, Tick::Replace(id.to_owned()));
                if let Some(site) = site {
                    self.later(self.profile.target_eject, Tick::Targets(site));
                }
                return Ok(());
            }
        }
        Err(ApiError::validation(format!("no instance {id}")))
    }

    /// The machines of a group by its name, wherever it is.
    pub fn group(&self, region: &str, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.region == region && g.name == name)
    }

    /// History of the groups of a region, newest first.
    pub fn activities(&self, region: &str, group: Option<&str>) -> Vec<Activity> {
        let fits = |a: &&Activity| a.region == region && group.is_none_or(|g| g == a.group);
        self.activities.iter().rev().filter(fits).cloned().collect()
    }

    /// No machines are to be had for a group, or they are again.
    pub fn set_no_capacity(&mut self, group: &str, on: bool, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let Some(index) = self.groups.iter().position(|g| g.name == group) else {
            return Err(ApiError::validation(format!("no group {group}")));
        };
        self.groups[index].no_capacity = on;
        let region = self.groups[index].region.clone();
        self.record("capacity", Cause::Hand, &region, group, if on { "none to be had" } else { "to be had" });
        self.reconcile(index);
        Ok(())
    }

    fn group_index(&self, region: &str, name: &str) -> Result<usize, ApiError> {
        self.groups
            .iter()
            .position(|g| g.region == region && g.name == name)
            .ok_or_else(|| ApiError::validation(format!("AutoScalingGroup name not found - AutoScalingGroup {name} not found")))
    }

    fn set_sizes(&mut self, index: usize, min: u32, desired: u32, max: u32) {
        let group = &mut self.groups[index];
        let before = (group.min, group.desired, group.max);
        if before == (min, desired, max) {
            return;
        }
        (group.min, group.desired, group.max) = (min, desired, max);
        let (region, name) = (group.region.clone(), group.name.clone());
        let detail = format!("min {}→{min} desired {}→{desired} max {}→{max}", before.0, before.1, before.2);
        self.record("group-size", Cause::Api, &region, &name, detail);
        self.reconcile(index);
    }

    /// Launches and ends machines until the group has the size it strives for.
    pub(super) fn reconcile(&mut self, index: usize) {
        let group = &self.groups[index];
        let staying: Vec<String> = group.instances.iter().filter(|i| i.lifecycle != Lifecycle::Terminating).map(|i| i.id.clone()).collect();
        let (have, want) = (staying.len(), group.desired as usize);
        if have < want && !group.suspended.contains("Launch") {
            if group.no_capacity {
                self.activity(index, "", "Launching a new EC2 instance. Status Reason: We currently do not have sufficient capacity in the Availability Zone you requested.", "Failed");
                return;
            }
            for _ in have..want {
                self.launch(index);
            }
        } else if have > want && !group.suspended.contains("Terminate") {
            for id in staying.iter().take(have - want) {
                self.end_instance(index, id, "the group shrinks");
            }
        }
    }

    fn launch(&mut self, index: usize) {
        let id = format!("i-{}", self.hex_id(17));
        let zone = format!("{}{}", self.groups[index].region, ["a", "b", "c"][self.groups[index].instances.len() % 3]);
        let launched = self.now;
        self.groups[index].instances.push(Instance {
            id: id.clone(),
            zone,
            lifecycle: Lifecycle::Pending,
            alive: true,
            target: Target::Initial,
            launched,
            in_service_since: launched,
        });
        self.activity(index, &id, &format!("Launching a new EC2 instance: {id}"), "InProgress");
        self.later(self.profile.launch, Tick::Launched(id));
    }

    fn end_instance(&mut self, index: usize, id: &str, cause: &str) {
        if let Some(instance) = self.groups[index].instances.iter_mut().find(|i| i.id == id) {
            instance.lifecycle = Lifecycle::Terminating;
            instance.target = Target::Draining;
        }
        self.activity(index, id, &format!("Terminating EC2 instance: {id} ({cause})"), "InProgress");
        self.later(self.profile.terminate, Tick::Gone(id.to_owned()));
    }

    fn activity(&mut self, index: usize, instance: &str, description: &str, status: &'static str) {
        let id = self.hex_id(32);
        let group = &self.groups[index];
        self.activities.push(Activity {
            id,
            region: group.region.clone(),
            group: group.name.clone(),
            description: description.to_owned(),
            cause: "a difference between desired and actual capacity".to_owned(),
            start: self.now,
            end: (status == "Failed").then_some(self.now),
            status,
            instance: instance.to_owned(),
        });
    }

    pub(super) fn finish_activity(&mut self, instance: &str) {
        let now = self.now;
        for activity in self.activities.iter_mut().filter(|a| a.instance == instance && a.status == "InProgress") {
            activity.status = "Successful";
            activity.end = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, STANDBY_REGION, SiteName, WorldSpec};

    #[test]
    fn a_dead_machine_is_ejected_and_replaced() {
        let mut world = World::new(&WorldSpec::lab(7));
        let id = world.groups()[0].instances[0].id.clone();
        world.kill_instance(&id, 1_000).unwrap();
        assert_eq!(world.healthy_targets(SiteName::Primary), 4, "the load balancer has not noticed yet");
        world.advance(2_100);
        assert_eq!(world.healthy_targets(SiteName::Primary), 3);
        world.advance(8_000);
        assert_eq!(world.healthy_targets(SiteName::Primary), 4);
        let group = world.group(PRIMARY_REGION, "shop-primary").unwrap();
        assert!(group.instances.iter().all(|i| i.id != id));
        assert!(world.first_effect().is_none());
    }

    #[test]
    fn sizes_are_judged_and_take_effect_once() {
        let mut world = World::new(&WorldSpec::lab(7));
        let over = Sizes { desired: Some(9), ..Sizes::default() };
        assert!(world.update_group(STANDBY_REGION, "shop-standby", over, 10).is_err());
        let four = Sizes { min: Some(4), desired: Some(4), max: Some(4) };
        world.update_group(STANDBY_REGION, "shop-standby", four, 20).unwrap();
        world.update_group(STANDBY_REGION, "shop-standby", four, 30).unwrap();
        assert_eq!(world.events().iter().filter(|e| e.kind == "group-size").count(), 1);
        world.advance(20 + 2_000);
        let group = world.group(STANDBY_REGION, "shop-standby").unwrap();
        assert_eq!(group.instances.iter().filter(|i| i.lifecycle == Lifecycle::InService).count(), 4);
    }

    #[test]
    fn a_group_at_zero_takes_its_site_out_of_service() {
        let mut world = World::new(&WorldSpec::lab(7));
        let zero = Sizes { min: Some(0), desired: Some(0), max: None };
        world.update_group(PRIMARY_REGION, "shop-primary", zero, 10).unwrap();
        assert_eq!(world.healthy_targets(SiteName::Primary), 0);
        world.advance(3_000);
        assert!(world.group(PRIMARY_REGION, "shop-primary").unwrap().instances.is_empty());
    }
}
