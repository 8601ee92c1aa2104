//! The promotion as lines of a person's script.

use super::Keys;
use crate::adapters::aws::rds;
use crate::adapters::shell::shell_word;
use crate::ports::ScriptContext;

/// What replicates from a DB cluster has no source instance before its promotion either.
const SOURCE: &str = "DBInstances[0].ReadReplicaSourceDBInstanceIdentifier || DBInstances[0].ReadReplicaSourceDBClusterIdentifier";

fn place(region: &str, keys: &Keys) -> String {
    format!("--region {} --db-instance-identifier {}", shell_word(region), shell_word(&keys.db_instance))
}

/// The call itself.
pub(super) fn promotion(region: &str, keys: &Keys) -> String {
    format!("aws rds promote-read-replica {} --backup-retention-period {}", place(region, keys), keys.backup_retention)
}

/// What is asked for once users are served again.
pub(super) fn standby(region: &str, keys: &Keys) -> String {
    format!("aws rds modify-db-instance {} --multi-az --apply-immediately", place(region, keys))
}

/// Asks first what the instance is: promoted already, by a first run of the script, it would be refused, and the move end
/// there.
pub(super) fn lines(region: &str, keys: &Keys, cx: &ScriptContext) -> Vec<String> {
    let (at, limit) = (place(region, keys), cx.limit.as_secs());
    let source = format!("aws rds describe-db-instances {at} --query '{SOURCE}' --output text");
    let settled: Vec<String> = rds::SETTLED.iter().map(|status| format!("'{status}'")).collect();
    let settled = shell_word(&format!("contains([{}], DBInstances[0].DBInstanceStatus)", settled.join(",")));
    vec![
        format!("source=$({source})"),
        "# Time for the replica to take over what the fenced writers left; what it lacks after that is lost.".to_owned(),
        "if [[ $source == None ]]; then say 'it is no replica any more'; else".to_owned()
            + &format!(" say \"it replicates from $source\" && sleep {} &&", keys.drain.as_secs())
            // Under way already or busy: the waits tell.
            + &format!(" {{ told=$({} 2>&1) || {{ say \"$told\"; [[ $told == *InvalidDBInstanceState* ]]; }}; }}; fi", promotion(region, keys)),
        // The status alone would be the one of before the promotion. AWS's own waiters ask twice a minute: here seconds count.
        format!("wait_for {limit} is None {source}"),
        format!("wait_for {limit} is True aws rds describe-db-instances {at} --query {settled} --output text"),
        format!(
            "aws rds describe-db-instances {at} --query 'DBInstances[0].[DBInstanceIdentifier,DBInstanceStatus,ReadReplicaSourceDBInstanceIdentifier,ReadReplicaSourceDBClusterIdentifier]' --output text"
        ),
    ]
}
