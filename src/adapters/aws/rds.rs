//! What RDS says of one instance; read by the replica's signal and by its promotion.

use super::{Aws, Failure, Op, Purpose};
use crate::config::judge::Table;

/// How the replication link is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// RDS's own judgement.
    pub normal: bool,
    /// `replicating`, `replication degraded`, `error`, `stopped`, `terminated`, `replication stop point set` …
    pub status: String,
    /// Its words on an error; may be empty.
    pub message: String,
}

/// One instance, as far as a failover cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `available`, `modifying` …
    pub status: String,
    /// What it replicates from: the id of an instance or of a DB cluster, or an ARN for another region. `None`: it stands alone.
    pub source: Option<String>,
    /// The DB cluster that it is a member of: whether that replicates its members do not say.
    pub cluster: Option<String>,
    /// The entry `read replication` of `StatusInfos`, if there is one.
    pub link: Option<Link>,
    /// A standby in another zone exists.
    pub multi_az: bool,
    /// Days that automated backups are kept.
    pub backup_retention: i32,
    /// `postgres`, `mysql` …
    pub engine: String,
}

/// States in which an instance serves and nothing about its role is about to change: where promotions end.
pub const SETTLED: &[&str] = &["available", "backing-up", "storage-optimization", "storage-initialization", "storage-config-upgrade"];

impl Instance {
    /// One of [`SETTLED`].
    pub fn settled(&self) -> bool {
        SETTLED.contains(&self.status.as_str())
    }
}

/// The key `db_instance` of a table. RDS keeps identifiers in lower case: it finds one in any case, CloudWatch's dimensions and
/// IAM's ARNs do not.
pub fn identifier(table: &Table) -> Option<String> {
    table.need_string("db_instance", "the replica's identifier, e.g. \"shop-replica\"").map(|id| id.to_ascii_lowercase())
}

/// The call that [`describe`] makes.
pub fn describe_op(region: &str, id: &str) -> Op {
    Op::new("rds", "DescribeDBInstances", "rds:DescribeDBInstances", region, format!("DB instance {id}"))
}

/// ARN pattern of an instance. The account stays open: the daemon does not know its number when it prints the policy.
pub fn arn(region: &str, id: &str) -> String {
    format!("arn:{}:rds:{region}:*:db:{id}", super::partition(region))
}

/// True for the code that RDS uses for an instance that does not exist (the wire says it without `Fault`, the model with it).
pub fn is_not_found(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "DBInstanceNotFound" | "DBInstanceNotFoundFault")
}

/// Reads one instance in its own region; `None`: there is none of that name.
pub async fn describe(aws: &Aws, account: Option<&str>, region: &str, id: &str) -> Result<Option<Instance>, Failure> {
    let op = describe_op(region, id);
    let client = aws.rds(account, region, Purpose::Look).await?;
    let answer = match aws.call(&op, client.describe_db_instances().db_instance_identifier(id).send()).await {
        Ok(answer) => answer,
        Err(failure) if is_not_found(&failure) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    // The filter is exact and without case; an emulator that ignores it must not make us promote another instance.
    let found = answer.db_instances().iter().find(|one| one.db_instance_identifier().is_some_and(|name| name.eq_ignore_ascii_case(id)));
    Ok(found.map(|one| Instance {
        status: one.db_instance_status().unwrap_or_default().to_owned(),
        // Some emulators answer an empty element instead of none.
        source: [one.read_replica_source_db_instance_identifier(), one.read_replica_source_db_cluster_identifier()]
            .into_iter()
            .flatten()
            .find(|source| !source.is_empty())
            .map(str::to_owned),
        cluster: one.db_cluster_identifier().filter(|cluster| !cluster.is_empty()).map(str::to_owned),
        link: one.status_infos().iter().find(|info| info.status_type() == Some("read replication")).map(|info| Link {
            normal: info.normal().unwrap_or(false),
            status: info.status().unwrap_or_default().to_owned(),
            message: info.message().unwrap_or_default().to_owned(),
        }),
        multi_az: one.multi_az().unwrap_or(false),
        backup_retention: one.backup_retention_period().unwrap_or(0),
        engine: one.engine().unwrap_or_default().to_owned(),
    }))
}
