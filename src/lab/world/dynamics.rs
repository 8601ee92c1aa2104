//! What machines and load balancers do by themselves, and what the hand that breaks does to regions.

use super::{Cause, Lifecycle, Millis, SiteMode, SiteName, Target, Tick, World};

impl World {
    /// A region goes dark, or lights up again.
    pub fn set_dark(&mut self, region: &str, dark: bool, now: Millis) {
        self.advance(now);
        // The link's position is settled before the change, so that it stands where the light went out.
        self.settle_replicas();
        let changed = if dark { self.dark.insert(region.to_owned()) } else { self.dark.remove(region) };
        if changed {
            self.record(if dark { "region-dark" } else { "region-lit" }, Cause::Hand, region, region, "");
            self.look_at_front_door();
        }
    }

    /// The bastion is cut off, or connected again.
    pub fn set_isolated(&mut self, on: bool, now: Millis) {
        self.advance(now);
        if self.isolated != on {
            self.isolated = on;
            self.record("bastion-isolated", Cause::Hand, "", "bastion", if on { "on" } else { "off" });
        }
    }

    /// A site's front is broken, or mended.
    pub fn set_site_mode(&mut self, site: SiteName, mode: SiteMode, now: Millis) {
        self.advance(now);
        let region = self.site(site).region.clone();
        let detail = super::mode_words(&mode);
        self.sites[site.index()].mode = mode;
        self.record("site-mode", Cause::Hand, &region, site.word(), detail);
    }

    /// The app stops on every machine of a site, or runs again.
    pub fn set_app(&mut self, site: SiteName, running: bool, now: Millis) {
        self.advance(now);
        if self.site(site).app_running == running {
            return;
        }
        self.sites[site.index()].app_running = running;
        let region = self.site(site).region.clone();
        self.record("app", Cause::Hand, &region, site.word(), if running { "running" } else { "stopped" });
        self.later(self.profile.target_eject, Tick::Targets(site));
    }

    /// How many targets of a site get requests.
    pub fn healthy_targets(&self, site: SiteName) -> usize {
        self.targets(site).filter(|(_, target)| *target == Target::Healthy).count()
    }

    pub(super) fn targets(&self, site: SiteName) -> impl Iterator<Item = (bool, Target)> + '_ {
        let alive = self.site(site).app_running;
        self.groups
            .iter()
            .filter(move |g| g.site == Some(site))
            .flat_map(|g| &g.instances)
            .filter(|i| i.lifecycle == Lifecycle::InService)
            .map(move |i| (i.alive && alive, i.target))
    }

    pub(super) fn instance_launched(&mut self, id: &str) {
        let now = self.now;
        let register = self.profile.target_register;
        let mut found = None;
        for group in &mut self.groups {
            let adds = !group.suspended.contains("AddToLoadBalancer");
            if let Some(instance) = group.instances.iter_mut().find(|i| i.id == id && i.lifecycle == Lifecycle::Pending) {
                instance.lifecycle = Lifecycle::InService;
                instance.in_service_since = now;
                found = Some((group.region.clone(), group.name.clone(), group.site.filter(|_| adds)));
            }
        }
        if let Some((region, group, site)) = found {
            self.finish_activity(id);
            self.record("instance-in-service", Cause::World, &region, id, group);
            if let Some(site) = site {
                self.later(register, Tick::Targets(site));
            }
        }
    }

    pub(super) fn instance_gone(&mut self, id: &str) {
        for index in 0..self.groups.len() {
            if self.groups[index].instances.iter().any(|i| i.id == id) {
                self.groups[index].instances.retain(|i| i.id != id);
                let (region, group) = (self.groups[index].region.clone(), self.groups[index].name.clone());
                self.finish_activity(id);
                self.record("instance-gone", Cause::World, &region, id, group);
                self.reconcile(index);
            }
        }
    }

    pub(super) fn replace_instance(&mut self, id: &str) {
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if group.suspended.contains("HealthCheck") || group.suspended.contains("ReplaceUnhealthy") {
                continue;
            }
            if group.instances.iter().any(|i| i.id == id) {
                group.instances.retain(|i| i.id != id);
                let (region, name) = (group.region.clone(), group.name.clone());
                self.record("instance-gone", Cause::World, &region, id, name);
                self.reconcile(index);
            }
        }
    }

    pub(super) fn evaluate_targets(&mut self, site: SiteName) {
        let (now, register) = (self.now, self.profile.target_register);
        let running = self.site(site).app_running;
        for instance in self.groups.iter_mut().filter(|g| g.site == Some(site)).flat_map(|g| &mut g.instances) {
            if instance.lifecycle != Lifecycle::InService {
                continue;
            }
            instance.target = if !(instance.alive && running) {
                Target::Unhealthy
            } else if now >= instance.in_service_since + register {
                Target::Healthy
            } else {
                instance.target
            };
        }
        self.look_at_front_door();
    }
}
