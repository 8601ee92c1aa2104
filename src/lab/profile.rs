//! How long things take in the pretend cloud: AWS's own durations, or shortened ones.
//!
//! One struct holds them all, so that what the lab shortens can be printed instead of guessed. Metric
//! timing is deliberately not in here: a datapoint a minute, two minutes late, is what the data-loss gate
//! has to live with, and a lab that made it better would confirm the wrong belief.

use serde::Serialize;

/// Durations of the pretend cloud, in milliseconds unless a name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Name for people: `lab` or `realistic`.
    pub name: &'static str,
    /// TTL of ordinary records, in seconds.
    pub record_ttl_s: u32,
    /// TTL of a load balancer's own name and of aliases to it, in seconds.
    pub balancer_ttl_s: u32,
    /// From `ChangeResourceRecordSets` to `INSYNC`.
    pub insync: u64,
    /// How long Route 53 works on one batch; a second one for the zone meanwhile is refused.
    pub route53_processing: u64,
    /// Route 53's pace for the whole account, in requests a second.
    pub route53_rate: u64,
    /// Requests that Route 53 takes at once before the pace binds.
    pub route53_burst: u64,
    /// From accepting a promotion to the first status other than `available`.
    pub promote_delay: u64,
    /// `modifying` within a promotion.
    pub promote_modifying: u64,
    /// `rebooting` within a promotion.
    pub promote_rebooting: u64,
    /// `backing-up` after a promotion that switched backups on; 0 for none.
    pub promote_backing_up: u64,
    /// An ordinary modification, reboot, start or stop of a database.
    pub database_change: u64,
    /// Creation of a read replica.
    pub replica_creation: u64,
    /// Instance launch until `InService`.
    pub launch: u64,
    /// From `InService` until the load balancer calls the target healthy.
    pub target_register: u64,
    /// From a target's death until the load balancer ejects it.
    pub target_eject: u64,
    /// Instance termination.
    pub terminate: u64,
    /// From an instance's death until its group notices and replaces it.
    pub replace: u64,
    /// Interval of Route 53 health checks that overrides what their configuration says.
    pub health_interval: Option<u64>,
    /// Consecutive looks of a health check that override what its configuration says.
    pub health_threshold: Option<u32>,
}

impl Profile {
    /// AWS's durations shortened, so that a failover fits into a minute.
    pub fn lab() -> Self {
        Self {
            name: "lab",
            record_ttl_s: 2,
            balancer_ttl_s: 2,
            insync: 1_500,
            route53_processing: 30,
            route53_rate: 5,
            route53_burst: 10,
            promote_delay: 300,
            promote_modifying: 2_000,
            promote_rebooting: 1_500,
            promote_backing_up: 1_000,
            database_change: 1_000,
            replica_creation: 3_000,
            launch: 2_000,
            target_register: 1_000,
            target_eject: 1_000,
            terminate: 1_500,
            replace: 1_500,
            health_interval: Some(1_000),
            health_threshold: Some(1),
        }
    }

    /// Durations like AWS's own, as far as anybody publishes them.
    pub fn realistic() -> Self {
        Self {
            name: "realistic",
            record_ttl_s: 60,
            balancer_ttl_s: 60,
            insync: 30_000,
            route53_processing: 200,
            route53_rate: 5,
            route53_burst: 10,
            promote_delay: 10_000,
            promote_modifying: 200_000,
            promote_rebooting: 90_000,
            promote_backing_up: 120_000,
            database_change: 60_000,
            replica_creation: 1_200_000,
            launch: 90_000,
            target_register: 20_000,
            target_eject: 20_000,
            terminate: 60_000,
            replace: 60_000,
            health_interval: None,
            health_threshold: None,
        }
    }

    /// What is shortened, a line each: "what: lab value instead of AWS's value". Empty when nothing is.
    pub fn describe(&self) -> Vec<String> {
        let real = Self::realistic();
        let durations = [
            ("TTL of records", u64::from(self.record_ttl_s) * 1_000, u64::from(real.record_ttl_s) * 1_000),
            ("TTL of load balancer names", u64::from(self.balancer_ttl_s) * 1_000, u64::from(real.balancer_ttl_s) * 1_000),
            ("Route 53 change to INSYNC", self.insync, real.insync),
            ("promotion of a read replica", self.promotion(), real.promotion()),
            ("backup after a promotion", self.promote_backing_up, real.promote_backing_up),
            ("other database changes", self.database_change, real.database_change),
            ("creation of a read replica", self.replica_creation, real.replica_creation),
            ("instance launch to InService", self.launch, real.launch),
            ("new target to healthy", self.target_register, real.target_register),
            ("dead target to ejected", self.target_eject, real.target_eject),
            ("instance termination", self.terminate, real.terminate),
            ("dead instance to replaced", self.replace, real.replace),
        ];
        let mut lines: Vec<String> = durations
            .into_iter()
            .filter(|(_, ours, aws)| ours != aws)
            .map(|(what, ours, aws)| format!("{what}: {} instead of {}", seconds(ours), seconds(aws)))
            .collect();
        if let (Some(interval), Some(threshold)) = (self.health_interval, self.health_threshold) {
            lines.push(format!("Route 53 health checks: {} x {threshold} instead of 10 s x 3", seconds(interval)));
        }
        lines
    }

    /// The whole way of a promotion, from the call to a writable database.
    pub fn promotion(&self) -> u64 {
        self.promote_delay + self.promote_modifying + self.promote_rebooting
    }
}

fn seconds(millis: u64) -> String {
    let (whole, rest) = (millis / 1_000, millis % 1_000);
    if rest == 0 { format!("{whole} s") } else { format!("{whole}.{} s", format!("{rest:03}").trim_end_matches('0')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_shortens_and_nothing_when_it_does_not() {
        let lines = Profile::lab().describe();
        assert!(lines.iter().any(|l| l == "Route 53 change to INSYNC: 1.5 s instead of 30 s"), "{lines:?}");
        assert!(Profile::realistic().describe().is_empty());
    }
}
