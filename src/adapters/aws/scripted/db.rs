//! One database instance with its lag, for the promotion and for the replica's signal.
#![cfg(test)]

use super::{Answer, Heard, World, cbor, element, query, refusal};

/// The instance and its metric.
#[derive(Debug, Clone)]
pub struct Db {
    /// There is one of that name.
    pub exists: bool,
    /// `Engine`.
    pub engine: &'static str,
    /// `DBInstanceStatus`.
    pub status: &'static str,
    /// What it replicates from.
    pub source: Option<&'static str>,
    /// The DB cluster that it replicates from.
    pub source_cluster: Option<&'static str>,
    /// The DB cluster that it is a member of.
    pub cluster: Option<&'static str>,
    /// `(Normal, Status, Message)` of its `read replication` entry.
    pub link: Option<(bool, &'static str, &'static str)>,
    /// `MultiAZ`.
    pub multi_az: bool,
    /// Datapoints of `ReplicaLag`: `(seconds since 1970, value)`.
    pub points: Vec<(i64, f64)>,
    /// `StatusCode` of the series.
    pub series: &'static str,
}

impl Default for Db {
    /// A well replica of which no lag is known.
    fn default() -> Db {
        let source = Some("arn:aws:rds:ap-south-1:123456789012:db:shop");
        let (engine, status, series) = ("postgres", "available", "Complete");
        Db {
            exists: true,
            engine,
            status,
            source,
            source_cluster: None,
            cluster: None,
            link: None,
            multi_az: false,
            points: Vec::new(),
            series,
        }
    }
}

impl World for Db {
    fn answer(&mut self, heard: &Heard) -> Answer {
        match heard.operation.as_str() {
            "GetMetricData" => {
                assert!(heard.body.contains("shop-replica") && heard.body.contains("ReplicaLag"), "{}", heard.body);
                return cbor(200, &serde_json::json!({ "StatusCode": self.series }), &self.points);
            }
            _ if heard.get("DBInstanceIdentifier") != "shop-replica" || !self.exists => {
                return refusal(heard, 404, "DBInstanceNotFound", "DBInstance not found.");
            }
            "PromoteReadReplica" => self.status = "modifying",
            "ModifyDBInstance" | "DescribeDBInstances" => {}
            other => return refusal(heard, 400, "InvalidAction", other),
        }
        let mut inside = element("DBInstanceIdentifier", "shop-replica") + &element("DBInstanceStatus", self.status);
        inside += &(element("Engine", self.engine) + &element("MultiAZ", self.multi_az) + &element("BackupRetentionPeriod", 0));
        inside += &self.source.map_or_else(String::new, |source| element("ReadReplicaSourceDBInstanceIdentifier", source));
        inside += &self.source_cluster.map_or_else(String::new, |source| element("ReadReplicaSourceDBClusterIdentifier", source));
        inside += &self.cluster.map_or_else(String::new, |cluster| element("DBClusterIdentifier", cluster));
        if let Some((normal, status, message)) = self.link {
            let entry = element("StatusType", "read replication") + &element("Normal", normal) + &element("Status", status);
            inside += &element("StatusInfos", element("DBInstanceStatusInfo", entry + &element("Message", message)));
        }
        let inside = element("DBInstance", inside);
        if heard.operation == "DescribeDBInstances" { query(heard, &element("DBInstances", inside)) } else { query(heard, &inside) }
    }
}
