//! RDS: what the API does to databases, and what these go through by themselves.

use super::model::Step;
use super::{ApiError, Cause, Database, Millis, Promotion, Tick, World};

/// What `ModifyDBInstance` changes; `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modify {
    /// Days that backups are kept.
    pub backup_retention: Option<u32>,
    /// Two availability zones.
    pub multi_az: Option<bool>,
}

/// What `CreateDBInstanceReadReplica` makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReplica {
    /// Identifier of the new replica.
    pub id: String,
    /// Identifier of the source, or its ARN when that is elsewhere.
    pub source: String,
    /// Class; the source's when `None`.
    pub class: Option<String>,
    /// Two availability zones.
    pub multi_az: bool,
}

/// How often a promotion looks whether the real server behind it is through, in milliseconds.
const SERVER_PACE_MS: u64 = 20;

impl World {
    /// One database, in its region.
    pub fn database(&self, region: &str, id: &str) -> Option<&Database> {
        self.databases.iter().find(|d| d.region == region && d.id.eq_ignore_ascii_case(id))
    }

    /// `PromoteReadReplica`: effective once, irreversible, refused in every state but `available`.
    pub fn promote_read_replica(&mut self, region: &str, id: &str, retention: Option<u32>, now: Millis) -> Result<Database, ApiError> {
        self.advance(now);
        self.settle_replicas();
        let index = self.database_index(region, id)?;
        let database = &self.databases[index];
        if database.source.is_none() {
            return Err(invalid(format!("DB Instance {id} is not a read replica.")));
        }
        if database.status != "available" || database.promotion.is_some() {
            return Err(invalid(format!("Instance {id} is not in available state.")));
        }
        if retention.is_some_and(|days| days > 35) {
            return Err(ApiError::new(400, "InvalidParameterValue", "Backup retention period must be between 0 and 35."));
        }
        let retention = retention.unwrap_or(1);
        let backs_up = database.backup_retention == 0 && retention > 0;
        let p = &self.profile;
        let mut plan = vec![
            (p.promote_delay, Step::Promote(Promotion::Modifying, "modifying")),
            (p.promote_modifying, Step::Promote(Promotion::Rebooting, "rebooting")),
            (p.promote_rebooting, Step::Promoted),
        ];
        if backs_up && p.promote_backing_up > 0 {
            plan.push((0, Step::Status("backing-up")));
            plan.push((p.promote_backing_up, Step::Status("available")));
        }
        let database = &mut self.databases[index];
        database.promotion = Some(Promotion::Accepted);
        database.promotions += 1;
        database.backup_retention = retention;
        let detail = format!("applied up to {} ms", database.applied_ms);
        self.record("promotion-accepted", Cause::Api, region, id, detail);
        self.start_plan(index, plan);
        Ok(self.databases[index].clone())
    }

    /// `ModifyDBInstance`.
    pub fn modify_database(&mut self, region: &str, id: &str, modify: Modify, now: Millis) -> Result<Database, ApiError> {
        self.advance(now);
        let index = self.available_index(region, id)?;
        let database = &self.databases[index];
        let Modify { backup_retention: retention, multi_az } = modify;
        let changes = retention.is_some_and(|r| r != database.backup_retention) || multi_az.is_some_and(|m| m != database.multi_az);
        if changes {
            let change = self.profile.database_change;
            self.record("database-modified", Cause::Api, region, id, modify.to_string());
            let plan = vec![(0, Step::Status("modifying")), (change, Step::Settle { multi_az, retention }), (0, Step::Status("available"))];
            self.start_plan(index, plan);
        }
        Ok(self.databases[index].clone())
    }

    /// `RebootDBInstance`.
    pub fn reboot_database(&mut self, region: &str, id: &str, now: Millis) -> Result<Database, ApiError> {
        self.cycle(region, id, "database-rebooted", &["available"], "rebooting", "available", now)
    }

    /// `StopDBInstance`; refused while it has a replica or is one.
    pub fn stop_database(&mut self, region: &str, id: &str, now: Millis) -> Result<Database, ApiError> {
        self.advance(now);
        let index = self.database_index(region, id)?;
        if self.databases[index].source.is_some() || !self.replicas_of(region, id).is_empty() {
            return Err(invalid(format!("Cannot stop or start a DB instance that has a read replica or is one: {id}")));
        }
        self.cycle(region, id, "database-stopped", &["available"], "stopping", "stopped", now)
    }

    /// `StartDBInstance`.
    pub fn start_database(&mut self, region: &str, id: &str, now: Millis) -> Result<Database, ApiError> {
        self.cycle(region, id, "database-started", &["stopped"], "starting", "available", now)
    }

    /// `DeleteDBInstance`.
    pub fn delete_database(&mut self, region: &str, id: &str, now: Millis) -> Result<Database, ApiError> {
        self.advance(now);
        let index = self.database_index(region, id)?;
        if self.databases[index].status == "deleting" {
            return Err(invalid(format!("Instance {id} is already being deleted.")));
        }
        self.record("database-deleted", Cause::Api, region, id, "");
        let change = self.profile.database_change;
        self.start_plan(index, vec![(0, Step::Status("deleting")), (change, Step::Delete)]);
        Ok(self.databases[index].clone())
    }

    /// Region and identifier of every replica of a database.
    pub fn replicas_of(&self, region: &str, id: &str) -> Vec<(String, String)> {
        let is_ours = |d: &&Database| d.source.as_ref().is_some_and(|(r, i)| r == region && i == id);
        self.databases.iter().filter(is_ours).map(|d| (d.region.clone(), d.id.clone())).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "one private helper for three calls that differ in words alone")]
    fn cycle(
        &mut self,
        region: &str,
        id: &str,
        kind: &'static str,
        from: &[&str],
        via: &'static str,
        to: &'static str,
        now: Millis,
    ) -> Result<Database, ApiError> {
        self.advance(now);
        let index = self.database_index(region, id)?;
        let status = self.databases[index].status.clone();
        if !from.contains(&status.as_str()) || self.promoting(index) {
            return Err(invalid(format!("Instance {id} is not in {} state.", from.join(" or "))));
        }
        self.record(kind, Cause::Api, region, id, "");
        let change = self.profile.database_change;
        self.start_plan(index, vec![(0, Step::Status(via)), (change, Step::Status(to))]);
        Ok(self.databases[index].clone())
    }

    pub(super) fn promoting(&self, index: usize) -> bool {
        self.databases[index].promotion.is_some_and(|p| p != Promotion::Done)
    }

    pub(super) fn database_index(&self, region: &str, id: &str) -> Result<usize, ApiError> {
        self.databases
            .iter()
            .position(|d| d.region == region && d.id.eq_ignore_ascii_case(id))
            .ok_or_else(|| ApiError::new(404, "DBInstanceNotFound", format!("DBInstance {id} not found.")))
    }

    fn available_index(&self, region: &str, id: &str) -> Result<usize, ApiError> {
        let index = self.database_index(region, id)?;
        if self.databases[index].status != "available" || self.promoting(index) {
            return Err(invalid(format!("Database instance is not in available state: {id}")));
        }
        Ok(index)
    }

    pub(super) fn start_plan(&mut self, index: usize, plan: Vec<(u64, Step)>) {
        let database = &mut self.databases[index];
        database.epoch += 1;
        database.plan = plan;
        self.next_step(index);
    }

    /// Does what is due at once and queues the first thing that is not.
    fn next_step(&mut self, index: usize) {
        while let Some((delay, step)) = self.databases[index].plan.first().cloned() {
            if delay > 0 {
                let database = &self.databases[index];
                let (region, id, epoch) = (database.region.clone(), database.id.clone(), database.epoch);
                self.later(delay, Tick::Database { region, id, epoch });
                return;
            }
            self.databases[index].plan.remove(0);
            if self.take_step(index, step) {
                return;
            }
        }
    }

    pub(super) fn database_tick(&mut self, region: &str, id: &str, epoch: u64) {
        let Ok(index) = self.database_index(region, id) else {
            return;
        };
        if self.databases[index].epoch == epoch && !self.databases[index].plan.is_empty() {
            let (_, step) = self.databases[index].plan.remove(0);
            if !self.take_step(index, step) {
                self.next_step(index);
            }
        }
    }

    /// Whether the database is gone afterwards.
    fn take_step(&mut self, index: usize, step: Step) -> bool {
        let waits = self.waits_for_server(&self.databases[index].id);
        let database = &mut self.databases[index];
        let (region, id) = (database.region.clone(), database.id.clone());
        match step {
            Step::Status(status) => {
                database.status = status.to_owned();
                self.record("database-status", Cause::World, &region, &id, status);
            }
            Step::Promote(promotion, status) => {
                database.promotion = Some(promotion);
                database.status = status.to_owned();
                self.record("database-status", Cause::World, &region, &id, status);
            }
            // Real servers take the time they take; the world asks again until they are through.
            Step::Promoted if waits => database.plan.insert(0, (SERVER_PACE_MS, Step::Promoted)),
            Step::Promoted => {
                database.promotion = Some(Promotion::Done);
                database.was_replica_of = database.source.take();
                database.status = "available".to_owned();
                self.record("promoted", Cause::World, &region, &id, "writable");
            }
            Step::Settle { multi_az, retention } => {
                database.multi_az = multi_az.unwrap_or(database.multi_az);
                database.backup_retention = retention.unwrap_or(database.backup_retention);
            }
            Step::Delete => {
                self.databases.remove(index);
                self.record("database-gone", Cause::World, &region, &id, "");
                return true;
            }
        }
        false
    }
}

pub(super) fn invalid(message: String) -> ApiError {
    ApiError::new(400, "InvalidDBInstanceState", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, STANDBY_REGION, SiteName, WorldSpec};

    #[test]
    fn a_promotion_passes_its_states_and_takes_effect_once() {
        let mut world = World::new(&WorldSpec::lab(1));
        let start = world.promote_read_replica(STANDBY_REGION, "shop-replica", Some(7), 1_000).unwrap();
        assert_eq!((start.status.as_str(), start.source.is_some()), ("available", true));
        assert_eq!(world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 1_001).unwrap_err().code, "InvalidDBInstanceState");
        let mut seen = Vec::new();
        for at in (1_000..9_000).step_by(50) {
            world.advance(at);
            let d = world.database(STANDBY_REGION, "shop-replica").unwrap();
            let now = (d.status.clone(), d.source.is_some());
            assert_eq!(d.source.is_none(), world.site_writable(SiteName::Standby));
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        let words: Vec<(&str, bool)> = seen.iter().map(|(s, l)| (s.as_str(), *l)).collect();
        assert_eq!(words, [("available", true), ("modifying", true), ("rebooting", true), ("backing-up", false), ("available", false)]);
        let again = world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 9_000).unwrap_err();
        assert_eq!((again.status, again.code), (400, "InvalidDBInstanceState"));
        assert_eq!(world.events().iter().filter(|e| e.kind == "promoted").count(), 1);
    }

    #[test]
    fn a_source_cannot_be_stopped() {
        let mut world = World::new(&WorldSpec::lab(1));
        assert_eq!(world.stop_database(PRIMARY_REGION, "shop-primary", 1).unwrap_err().code, "InvalidDBInstanceState");
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 2).unwrap();
        world.advance(10_000);
        assert_eq!(world.stop_database(PRIMARY_REGION, "shop-primary", 10_000).unwrap().status, "stopping");
        assert!(!world.site_writable(SiteName::Primary));
    }

    #[test]
    fn a_replica_that_is_backing_up_is_not_promoted() {
        let mut world = World::new(&WorldSpec::lab(1));
        assert!(world.set_database_status("shop-replica", "backing-up", 5));
        assert!(world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 6).is_err());
        assert!(world.first_effect().is_none());
    }
}
