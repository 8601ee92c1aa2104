//! `rds-promote-replica`: makes the replica a database of its own. The one door that opens one way only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::rds::{self, Instance};
use crate::adapters::aws::{Aws, Op, Purpose};
use crate::adapters::followup::Followups;
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::config::judge::Table;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility, seconds};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

/// How long Multi-AZ is tried for after the promotion, and how often: a promoted instance may first make a backup.
const FOLLOWUP_LIMIT: Duration = Duration::from_secs(20 * 60);
const FOLLOWUP_PACE: Duration = Duration::from_secs(20);

mod drain;
mod script;
mod source;
mod status;
use drain::Reading;
use source::Source;
use status::{Looked, is_usable, lost};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "rds-promote-replica",
    doc: "promotes an RDS read replica to a database of its own; it never becomes a replica again. A planned move refuses an instance that stands alone already: nothing was replicated to it",
    class: Class::Data,
    reversibility: Reversibility::ForwardOnly,
    repeat: Repeat::Inspectable,
    default_deadline: "15m",
    at_source: false,
    refine: None,
    keys: &[
        KeyDoc {
            name: "db_instance",
            form: "string",
            default: "",
            doc: "The replica's identifier. Not one of Aurora, which fails over by other calls.",
        },
        KeyDoc {
            name: "drain",
            form: "duration",
            default: "\"20s\"",
            doc: "After a proven fence: how long to wait for a lag sample that shows every write replicated (of MySQL and MariaDB two in a row: their lag, Seconds_Behind_Source in the MySQL manual, is measured against what the replica has received, and is 0 for up to a minute of a stalled link too); a planned move waits for it up to the deadline. Raising it can save data (AWS shows samples up to three minutes late) and costs that time.",
        },
        KeyDoc {
            name: "backup_retention",
            form: "whole number of days, 0 to 35",
            default: "7",
            doc: "Automated backups of the promoted instance.",
        },
        KeyDoc {
            name: "multi_az",
            form: "boolean",
            default: "true",
            doc: "Ask for a standby in another zone afterwards, off the critical path.",
        },
    ],
    judge,
    build,
    permissions,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Keys {
    db_instance: String,
    #[serde(with = "seconds", rename = "drain_seconds")]
    drain: Duration,
    backup_retention: i32,
    multi_az: bool,
}

fn judge(table: &Table, _place: &Place) -> Option<Value> {
    let db_instance = rds::identifier(table);
    let drain = table.duration("drain", Duration::from_secs(20));
    let deadline = KIND.deadline(table);
    if drain >= deadline {
        table.fault(
            "drain",
            format!("is as long as the step's deadline of {deadline:?}, which would end before the promotion is asked for"),
        );
        return None;
    }
    let days = table.whole("backup_retention", 0, 7);
    let multi_az = table.boolean("multi_az", true);
    let backup_retention = i32::try_from(days).ok().filter(|days| *days <= 35);
    if backup_retention.is_none() {
        table.fault("backup_retention", format!("{days} is more than RDS keeps; give 0 to 35 days"));
    }
    Some(json!(Keys { db_instance: db_instance?, drain, backup_retention: backup_retention?, multi_az }))
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    Ok(Arc::new(Promote {
        aws: adapters.aws.clone(),
        followups: adapters.followups.clone(),
        account: step.account.clone(),
        region: step.region.clone(),
        keys: super::stored(step)?,
        seen: Mutex::default(),
        reading: Mutex::default(),
        looked: Mutex::default(),
        source: Arc::default(),
    }))
}

fn permissions(step: &PlannedStep) -> Vec<Permission> {
    let arn = rds::arn(&step.region, step.keys["db_instance"].as_str().unwrap_or("*"));
    let of = |action: &str, resource: &str| Permission { action: action.into(), resource: resource.into(), account: step.account.clone() };
    // The source is known only from what RDS says of the replica: any instance of the regions that the plan may leave.
    let sources = format!("arn:{}:rds:*:*:db:*", crate::adapters::aws::partition(&step.region));
    let mut needed = vec![
        of("rds:DescribeDBInstances", &arn),
        of("rds:DescribeDBInstances", &sources),
        of("rds:PromoteReadReplica", &arn),
        of("cloudwatch:GetMetricData", "*"),
    ];
    if step.keys["multi_az"].as_bool() == Some(true) {
        needed.push(of("rds:ModifyDBInstance", &arn));
    }
    needed
}

/// What the polls of one promotion have seen. The executor keeps the step for as long as it verifies it.
#[derive(Debug, Default)]
struct Seen {
    /// `modifying` or `rebooting` was seen: the promotion really passed through.
    passed: bool,
    /// Reads in a row that show it settled without source.
    agreeing: u32,
}

struct Promote {
    aws: Aws,
    followups: Followups,
    account: Option<String>,
    region: String,
    keys: Keys,
    seen: Mutex<Seen>,
    /// The newest reading of the lag, with the wall clock (microseconds) at which it was asked for.
    reading: Mutex<Option<(i64, Reading)>>,
    looked: Mutex<Looked>,
    source: Arc<Mutex<Source>>,
}

impl Promote {
    fn heading(&self) -> String {
        format!("rds: DB instance {} in {}", self.keys.db_instance, self.region)
    }

    async fn instance(&self) -> Result<Instance, StepError> {
        let found = rds::describe(&self.aws, self.account.as_deref(), &self.region, &self.keys.db_instance)
            .await
            .map_err(|failure| failure.step())?;
        let instance = found.ok_or_else(|| {
            StepError::new(
                ErrorClass::NeedsPerson,
                "DBInstanceNotFound",
                format!("{}: there is none; mend `db_instance`, `region` or `account` of the step, or rebuild the replica", self.heading()),
            )
        })?;
        // It has no source of its own, and would pass for one that is promoted already. API reference, PromoteReadReplica:
        // "This command doesn't apply to Aurora MySQL, Aurora PostgreSQL".
        if instance.engine.starts_with("aurora") {
            let message = format!(
                "{}: its engine is {}, and PromoteReadReplica does not apply to Aurora, which has a failover of its own for global databases; use a `command` step that calls `aws rds failover-global-cluster`",
                self.heading(),
                instance.engine
            );
            return Err(StepError::new(ErrorClass::Refused, "aurora", message));
        }
        // API reference, DescribeDBInstances: "This operation can also return information for Amazon Neptune DB instances and
        // Amazon DocumentDB instances". They replicate as clusters, and so does a Multi-AZ DB cluster.
        if let Some(cluster) = &instance.cluster {
            let message = format!(
                "{}: it is a member of the DB cluster {cluster} (engine {}), which replicates as a whole, and PromoteReadReplica does not apply to its members; use a `command` step that promotes the cluster",
                self.heading(),
                instance.engine
            );
            return Err(StepError::new(ErrorClass::Refused, "cluster-member", message));
        }
        if lost(&instance.status) {
            let message = format!(
                "{}: its status is {}; no promotion can mend that: restore from a backup or repair it, then `watchover retry`",
                self.heading(),
                instance.status
            );
            return Err(StepError::new(ErrorClass::NeedsPerson, "instance-status", message));
        }
        Ok(instance)
    }

    fn start_multi_az(&self, cx: &StepContext) -> &'static str {
        let (aws, account, region, id) = (self.aws.clone(), self.account.clone(), self.region.clone(), self.keys.db_instance.clone());
        self.followups.start(&cx.step_id, &format!("multi-az of {id}"), FOLLOWUP_LIMIT, async move {
            let op = Op::new("rds", "ModifyDBInstance", "rds:ModifyDBInstance", &region, format!("DB instance {id}"));
            loop {
                let client = aws.rds(account.as_deref(), &region, Purpose::Once).await.map_err(|failure| failure.message)?;
                let call = client.modify_db_instance().db_instance_identifier(&id).multi_az(true).apply_immediately(true);
                match aws.call(&op, call.send()).await {
                    Ok(_) => return Ok("asked for Multi-AZ; RDS builds the second instance in the background".to_owned()),
                    // Refused while it is still busy with the promotion's backup; that passes.
                    Err(failure) if failure.code.starts_with("InvalidDBInstanceState") || failure.step().class == ErrorClass::Retry => {}
                    Err(failure) => return Err(failure.message),
                }
                tokio::time::sleep(FOLLOWUP_PACE).await;
            }
        })
    }
}

#[async_trait]
impl Step for Promote {
    fn describe(&self, found: &Inspection) -> Vec<Call> {
        if matches!(found, Inspection::AlreadySo(_) | Inspection::UnderWay(_)) {
            return Vec::new();
        }
        let (id, retention) = (&self.keys.db_instance, self.keys.backup_retention);
        let call = |operation: &str, parameters: Value, shell: String, afterwards: bool| {
            let (service, operation, region) = ("rds".to_owned(), operation.to_owned(), self.region.clone());
            Call { service, operation, region, parameters, shell, afterwards }
        };
        let promotion = json!({ "DBInstanceIdentifier": id, "BackupRetentionPeriod": retention });
        let mut calls = vec![call("PromoteReadReplica", promotion, script::promotion(&self.region, &self.keys), false)];
        // Whether it has a standby already is known only where it was looked at.
        let has = matches!(found, Inspection::Possible(facts) if facts["multi_az"] == true);
        if self.keys.multi_az && !has {
            let standby = json!({ "DBInstanceIdentifier": id, "MultiAZ": true, "ApplyImmediately": true });
            calls.push(call("ModifyDBInstance", standby, script::standby(&self.region, &self.keys), true));
        }
        calls
    }

    fn script(&self, _: &Inspection, cx: &ScriptContext) -> Vec<String> {
        script::lines(&self.region, &self.keys, cx)
    }

    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        let instance = self.instance().await?;
        let mut facts = json!({ "status": instance.status, "source": instance.source, "multi_az": instance.multi_az, "backup_retention": instance.backup_retention, "engine": instance.engine });
        match (&instance.source, instance.status.as_str()) {
            // Promoted before this move, or the old source of an earlier one that came back as it was: a planned move drains
            // into nothing that nothing replicates to. Only what this move asked to be promoted stands alone by its doing.
            (None, _) if cx.graceful && cx.before.is_null() => Err(self.stands_alone()),
            (None, _) if instance.settled() && cx.before.is_null() => Ok(Inspection::AlreadySo(facts)),
            // Without source: promoted. Busy it is on its way to settle; asked for by us it is read back, once more than here.
            (None, _) => Ok(Inspection::UnderWay(facts)),
            (Some(_), status) if self.is_refused(status) => Ok(Inspection::NotYet(format!(
                "RDS refused to promote while the replica is {status}; it is asked again when that has passed"
            ))),
            (Some(_), status) if is_usable(status) => match self.drained(cx, &instance.engine).await {
                Ok(drain) => {
                    facts["drain"] = drain;
                    Ok(Inspection::Possible(facts))
                }
                Err(words) => Ok(Inspection::NotYet(format!("draining: {words}"))),
            },
            (Some(_), "backing-up") => {
                Ok(Inspection::NotYet("RDS refuses to promote while the replica is backing-up; it passes by itself".to_owned()))
            }
            // With source and busy: ours if we asked for it already, else somebody else's change that passes.
            // `rebooting` and `modifying` are what a promotion passes through, so after our own call they are it.
            (Some(_), "modifying" | "rebooting") if !cx.before.is_null() => Ok(Inspection::UnderWay(facts)),
            (Some(_), other) => Ok(Inspection::NotYet(format!("its status is {other}; a promotion waits until that has passed"))),
        }
    }

    async fn apply(&self, _cx: &StepContext) -> Result<Value, StepError> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
        let id = &self.keys.db_instance;
        let op = Op::new("rds", "PromoteReadReplica", "rds:PromoteReadReplica", &self.region, format!("DB instance {id}"));
        // One attempt: after a lost answer the executor inspects before it asks again, so that nothing is promoted twice unseen.
        let client = self.aws.rds(self.account.as_deref(), &self.region, Purpose::Once).await.map_err(|failure| failure.step())?;
        let call = client.promote_read_replica().db_instance_identifier(id).backup_retention_period(self.keys.backup_retention);
        self.aws.call(&op, call.send()).await.map_err(|failure| match failure.code.as_str() {
            // Backing up, busy, under way or already promoted: inspect tells which.
            "InvalidDBInstanceState" | "InvalidDBInstanceStateFault" => self.refused(failure.step_as(ErrorClass::Retry)),
            _ if rds::is_not_found(&failure) => failure.step_as(ErrorClass::NeedsPerson),
            _ => failure.step(),
        })?;
        Ok(json!({ "asked": "PromoteReadReplica" }))
    }

    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError> {
        self.watch_source(cx);
        let instance = self.instance().await?;
        let (passed, agreeing) = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.passed |= matches!(instance.status.as_str(), "modifying" | "rebooting");
            // One early `available` is not to be trusted: the source must be gone, and either the way there was seen or two reads agree.
            seen.agreeing = if instance.source.is_none() && instance.settled() { seen.agreeing + 1 } else { 0 };
            (seen.passed, seen.agreeing)
        };
        if agreeing == 0 {
            let link = if instance.source.is_some() { "still linked to its source" } else { "no source any more" };
            return Ok(Verification::NotYet(format!("{}, {link}", instance.status)));
        }
        if !passed && agreeing < 2 {
            return Ok(Verification::NotYet(format!("{} without source; one more read must agree", instance.status)));
        }
        let mut facts = json!({ "status": instance.status, "source": null, "multi_az": instance.multi_az, "backup_retention": instance.backup_retention, "drain": cx.before["drain"] });
        if let Source::Writable(at, words) = &*self.source.lock().unwrap_or_else(PoisonError::into_inner) {
            facts["old_writer"] = json!({ "at": at, "words": words });
        }
        if self.keys.multi_az && !instance.multi_az {
            facts["multi_az_followup"] = self.start_multi_az(cx).into();
        }
        Ok(Verification::So(facts))
    }

    async fn undo(&self, _cx: &StepContext) -> Result<String, StepError> {
        let message = format!("{}: a promotion cannot be taken back; build a new replica", self.heading());
        Err(StepError::new(ErrorClass::Refused, "forward-only", message))
    }
}

#[cfg(test)]
mod tests;
