//! RDS over the query protocol.

use super::wire::{Call, Xml, iso, page, query};
use super::{Answer, unknown};
use crate::lab::world::{ApiError, Database, Millis, Modify, NewReplica, Replication, World};

const NAMESPACE: &str = "http://rds.amazonaws.com/doc/2014-10-31/";

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    let (form, region) = (&call.form, call.region.as_str());
    let id = || form.need("DBInstanceIdentifier");
    let database = match call.operation.as_str() {
        "DescribeDBInstances" => return describe(world, call),
        "PromoteReadReplica" => world.promote_read_replica(region, id()?, form.parse("BackupRetentionPeriod")?, now)?,
        "ModifyDBInstance" => {
            let modify = Modify { backup_retention: form.parse("BackupRetentionPeriod")?, multi_az: form.parse("MultiAZ")? };
            world.modify_database(region, id()?, modify, now)?
        }
        "CreateDBInstanceReadReplica" => {
            let new = NewReplica {
                id: id()?.to_owned(),
                source: form.need("SourceDBInstanceIdentifier")?.to_owned(),
                class: form.get("DBInstanceClass").map(str::to_owned),
                multi_az: form.parse("MultiAZ")?.unwrap_or(false),
            };
            world.create_replica(region, &new, now)?
        }
        "StopDBInstance" => world.stop_database(region, id()?, now)?,
        "StartDBInstance" => world.start_database(region, id()?, now)?,
        "RebootDBInstance" => world.reboot_database(region, id()?, now)?,
        "DeleteDBInstance" => world.delete_database(region, id()?, now)?,
        _ => return Err(unknown(call)),
    };
    let world = &*world;
    Ok(query(call, NAMESPACE, |x| {
        x.node("DBInstance", |x| instance(x, world, &database));
    }))
}

fn describe(world: &World, call: &Call) -> Result<Answer, ApiError> {
    let form = &call.form;
    let mut all: Vec<&Database> = world.databases().iter().filter(|d| d.region == call.region).collect();
    if let Some(id) = form.get("DBInstanceIdentifier") {
        let bare = id.rsplit(':').next().unwrap_or(id);
        all.retain(|d| d.id.eq_ignore_ascii_case(bare));
        if all.is_empty() {
            return Err(ApiError::new(404, "DBInstanceNotFound", format!("DBInstance {id} not found.")));
        }
    }
    for number in 1.. {
        let Some(name) = form.get(&format!("Filters.Filter.{number}.Name")) else {
            break;
        };
        let values = form.list(&format!("Filters.Filter.{number}.Values"));
        match name {
            "db-instance-id" => all.retain(|d| values.iter().any(|v| v.rsplit(':').next() == Some(d.id.as_str()))),
            "engine" => all.retain(|d| values.contains(&d.engine)),
            other => {
                return Err(ApiError::new(400, "InvalidParameterValue", format!("Unrecognized filter name: {other}")));
            }
        }
    }
    let size = form.parse::<usize>("MaxRecords")?.unwrap_or(100).clamp(1, 100);
    let start = form
        .get("Marker")
        .map_or(Ok(0), |m| m.parse::<usize>().map_err(|_| ApiError::new(400, "InvalidParameterValue", "Invalid marker")))?;
    let (items, next) = page(&all, start, size);
    Ok(query(call, NAMESPACE, |x| {
        x.each("DBInstances", "DBInstance", items, |x, d| instance(x, world, d));
        x.maybe("Marker", next);
    }))
}

fn instance(x: &mut Xml, world: &World, d: &Database) {
    let in_region = |(region, id): &(String, String)| {
        if *region == d.region { id.clone() } else { format!("arn:aws:rds:{region}:{}:db:{id}", crate::lab::world::ACCOUNT) }
    };
    x.leaf("DBInstanceIdentifier", &d.id).leaf("DBInstanceClass", &d.class).leaf("Engine", &d.engine);
    x.leaf("EngineVersion", "16.4").leaf("DBInstanceStatus", &d.status).leaf("MasterUsername", "shop").leaf("DBName", "shop");
    if d.status != "creating" {
        x.node("Endpoint", |x| {
            x.leaf("Address", &d.endpoint).leaf("Port", 5_432).leaf("HostedZoneId", "Z00000000000LAB");
        });
    }
    x.leaf("AllocatedStorage", 100).leaf("StorageType", "gp3").leaf("StorageEncrypted", true);
    x.leaf("InstanceCreateTime", iso(world.unix_ms(0).saturating_sub(86_400_000 * 90)));
    x.leaf("PreferredBackupWindow", "03:00-03:30").leaf("BackupRetentionPeriod", d.backup_retention);
    x.leaf("PreferredMaintenanceWindow", "sun:05:00-sun:05:30").leaf("AvailabilityZone", format!("{}a", d.region));
    x.leaf("MultiAZ", d.multi_az).leaf("AutoMinorVersionUpgrade", true).leaf("PubliclyAccessible", false);
    x.leaf("DeletionProtection", false).leaf("DBInstanceArn", d.arn()).leaf("DbiResourceId", format!("db-{}", d.id.to_uppercase()));
    x.node("PendingModifiedValues", |_| {});
    let replicas = world.replicas_of(&d.region, &d.id);
    x.node("ReadReplicaDBInstanceIdentifiers", |x| {
        for replica in &replicas {
            x.leaf("ReadReplicaDBInstanceIdentifier", in_region(replica));
        }
    });
    x.maybe("ReadReplicaSourceDBInstanceIdentifier", d.source.as_ref().map(in_region));
    if d.source.is_some() {
        let (status, normal) = match d.replication {
            Replication::Broken => ("error", false),
            Replication::Paused => ("stopped", false),
            Replication::Ok if d.promotion.is_some() => ("stopped", false),

            Replication::Ok => ("replicating", true),
        };
        x.each("StatusInfos", "DBInstanceStatusInfo", [()], |x, ()| {
            x.leaf("StatusType", "read replication").leaf("Status", status).leaf("Normal", normal);
            x.maybe("Message", (!normal).then_some("Replication has stopped."));
        });
    }
}
