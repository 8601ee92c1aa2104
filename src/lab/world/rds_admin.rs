//! RDS: making replicas, and what the hand that breaks does to databases.

use std::net::Ipv4Addr;

use super::model::MetricMode;
use super::model::Step;
use super::replication::signed;
use super::{ACCOUNT, ApiError, Cause, Database, Millis, NewReplica, Replication, World};

impl World {
    /// `CreateDBInstanceReadReplica`.
    pub fn create_replica(&mut self, region: &str, new: &NewReplica, now: Millis) -> Result<Database, ApiError> {
        self.advance(now);
        if self.database(region, &new.id).is_some() {
            return Err(ApiError::new(400, "DBInstanceAlreadyExists", format!("DB instance already exists: {}", new.id)));
        }
        let (source_region, source_id) = parse_source(region, &new.source)?;
        let Some(source) = self.database(&source_region, &source_id).cloned() else {
            return Err(ApiError::new(404, "DBInstanceNotFound", format!("DBInstance {} not found.", new.source)));
        };
        if source.backup_retention == 0 {
            return Err(super::rds::invalid(format!("Automated backups are not enabled for this database instance: {source_id}")));
        }
        let endpoint = format!("{}.c0lab.{region}.rds.amazonaws.com", new.id);
        self.databases.push(Database {
            region: region.to_owned(),
            id: new.id.clone(),
            engine: source.engine.clone(),
            status: "creating".to_owned(),
            source: Some((source_region, source_id)),
            was_replica_of: None,
            promotion: None,
            promotions: 0,
            replication: Replication::Ok,
            extra_lag_ms: 0,
            applied_ms: signed(self.now) - 60_000,
            endpoint,
            address: Ipv4Addr::new(127, 0, 4, 99),
            multi_az: new.multi_az,
            backup_retention: 0,
            class: new.class.clone().unwrap_or_else(|| source.class.clone()),
            metric: MetricMode::Truth,
            plan: Vec::new(),
            epoch: 0,
        });
        self.record("replica-created", Cause::Api, region, &new.id, new.source.clone());
        let index = self.databases.len() - 1;
        let creation = self.profile.replica_creation;
        self.start_plan(index, vec![(creation, Step::Status("available"))]);
        Ok(self.databases[index].clone())
    }

    /// Puts a database into a state by hand, as a backup window would.
    pub fn set_database_status(&mut self, id: &str, status: &str, now: Millis) -> bool {
        self.advance(now);
        let Some(database) = self.databases.iter_mut().find(|d| d.id == id) else {
            return false;
        };
        database.status = status.to_owned();
        let region = database.region.clone();
        self.record("database-status", Cause::Hand, &region, id, status.to_owned());
        true
    }

    /// Bends what a replica's lag metric says from now on.
    pub fn set_lag_metric(&mut self, id: &str, mode: MetricMode, now: Millis) -> bool {
        self.advance(now);
        let Some(database) = self.databases.iter_mut().find(|d| d.id == id) else {
            return false;
        };
        database.metric = mode;
        let region = database.region.clone();
        self.record("metric", Cause::Hand, &region, id, mode.to_string());
        true
    }
}

fn parse_source(region: &str, source: &str) -> Result<(String, String), ApiError> {
    if !source.starts_with("arn:") {
        return Ok((region.to_owned(), source.to_owned()));
    }
    let parts: Vec<&str> = source.splitn(7, ':').collect();
    match parts.as_slice() {
        ["arn", "aws", "rds", region, account, "db", id] if *account == ACCOUNT => Ok(((*region).to_owned(), (*id).to_owned())),
        _ => Err(ApiError::new(400, "InvalidParameterValue", format!("Invalid source identifier: {source}"))),
    }
}
