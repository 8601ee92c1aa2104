//! `rds-replica`: is the standby's database a live replica, and how far behind is it?
//!
//! Two readings in the replica's own region, side by side: the instance's status and link (they show breakage that
//! the lag hides), and the lag's history.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::rds::{self, Instance};
use crate::adapters::aws::{Aws, Failure};
use crate::adapters::cloudwatch::{self, LagHistory};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, LagSample, ReplicaReading, ReplicaState, Verdict};
use crate::ports::{ErrorClass, Permission, Probe, StepError};

/// The kind's entry in the registry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "rds-replica",
    doc: "an RDS read replica: its own status, its link to the source, and ReplicaLag of the last 15 minutes",
    keys: &[
        KeyDoc { name: "db_instance", form: "string", default: "", doc: "The replica's identifier, in the signal's region." },
        KeyDoc {
            name: "stale_after",
            form: "duration",
            default: "\"5m\"",
            doc: "A newest lag sample older than this says nothing. AWS shows minute-grained samples about two minutes late: below \"3m\" a well replica is often unknown; raising it lets older figures decide.",
        },
    ],
    aws: true,
    replica: true,
    judge,
    build,
    permissions,
};

fn judge(table: &Table, _place: &SignalPlace) -> Option<Value> {
    let db_instance = rds::identifier(table);
    let stale_after = table.some_duration("stale_after", Duration::from_secs(300));
    if stale_after < Duration::from_secs(120) {
        table.fault("stale_after", "is under two minutes, but CloudWatch shows this metric about two minutes late; give \"3m\" or more");
    }
    Some(json!({ "db_instance": db_instance?, "stale_after_seconds": stale_after.as_secs_f64() }))
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let bad = |key: &str| StepError::new(ErrorClass::Refused, "bad-keys", format!("signal {}: its stored keys lack {key}", spec.name));
    Ok(Arc::new(RdsReplica {
        aws: adapters.aws.clone(),
        account: spec.account.clone(),
        region: spec.region.clone(),
        db_instance: spec.keys["db_instance"].as_str().ok_or_else(|| bad("db_instance"))?.to_owned(),
        stale_after: spec.keys["stale_after_seconds"]
            .as_f64()
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .ok_or_else(|| bad("stale_after_seconds"))?,
    }))
}

fn permissions(spec: &SignalSpec) -> Vec<Permission> {
    let id = spec.keys["db_instance"].as_str().unwrap_or("*");
    let of = |action: &str, resource: String| Permission { action: action.into(), resource, account: spec.account.clone() };
    // GetMetricData takes no resource.
    vec![of("rds:DescribeDBInstances", rds::arn(&spec.region, id)), of("cloudwatch:GetMetricData", "*".into())]
}

struct RdsReplica {
    aws: Aws,
    account: Option<String>,
    region: String,
    db_instance: String,
    stale_after: Duration,
}

#[async_trait]
impl Probe for RdsReplica {
    async fn look(&self, timeout: Duration, now: i64) -> Finding {
        let account = self.account.as_deref();
        let instance = tokio::time::timeout(timeout, rds::describe(&self.aws, account, &self.region, &self.db_instance));
        let lag = tokio::time::timeout(timeout, cloudwatch::lag(&self.aws, account, &self.region, &self.db_instance, now));
        // Side by side, each cut off by itself: one reading that came is better than none.
        let (instance, lag) = tokio::join!(instance, lag);
        let instance = instance.unwrap_or_else(|_| Err(Failure::late(&rds::describe_op(&self.region, &self.db_instance), timeout)));
        let lag = lag.unwrap_or_else(|_| Err(Failure::late(&cloudwatch::lag_op(&self.region, &self.db_instance), timeout)));
        judge_reading(&self.db_instance, instance, lag, now, self.stale_after)
    }
}

/// The verdict over both readings.
///
/// The instance decides first: a replica that cannot be promoted is down whatever its lag says. `modifying`,
/// `configuring-…` and `backing-up` count as well: replication goes on, they pass by themselves, and the promotion
/// waits them out. States in which nothing can be promoted (`rebooting`, `stopped`, `failed` …) are down; states that
/// we do not know say nothing. `replication degraded` is up: data still flows, and by how much it lags is the
/// data-loss gate's business.
fn judge_reading(
    id: &str,
    instance: Result<Option<Instance>, Failure>,
    lag: Result<LagHistory, Failure>,
    now: i64,
    stale_after: Duration,
) -> Finding {
    let instance = match instance {
        Ok(Some(instance)) => instance,
        Ok(None) => return Finding::new(Verdict::Down(Cause::NotFound), format!("there is no DB instance {id}")),
        Err(failure) => {
            // Without its status nobody may call it well; its lag is still worth keeping.
            let mut finding = Finding::new(failure.verdict(), failure.message);
            finding.replica = lag.ok().map(|history| ReplicaReading { state: ReplicaState::Unknown, samples: history.samples });
            return finding;
        }
    };
    let (mut state, link_verdict, words) = link(&instance);
    let status_verdict = status(&instance.status);
    let (samples, lag_verdict, lag_words) = match lag {
        Ok(history) => {
            let (verdict, words) = freshness(&history, now, stale_after);
            // Where the link flows, the lag says more of it than the link's own word.
            if state == ReplicaState::Replicating {
                state = lag_state(&instance, &history, verdict);
            }
            let climbs =
                if state == ReplicaState::Idle { ", climbing a second a second: nothing is written, or nothing arrives" } else { "" };
            (history.samples, verdict, format!("{words}{climbs}"))
        }
        Err(failure) => (Vec::new(), failure.verdict(), failure.message),
    };
    let verdict = [link_verdict, status_verdict, lag_verdict].into_iter().find(|verdict| *verdict != Verdict::Up).unwrap_or(Verdict::Up);
    // Down beats unknown: a proven fault is not hidden by a reading that did not come.
    let verdict = [link_verdict, status_verdict].into_iter().find(|verdict| matches!(verdict, Verdict::Down(_))).unwrap_or(verdict);
    let mut finding = Finding::new(verdict, format!("{}, {words}, {lag_words}", instance.status));
    finding.replica = Some(ReplicaReading { state, samples });
    finding
}

/// The link's state, what it means, and words.
fn link(instance: &Instance) -> (ReplicaState, Verdict, String) {
    if instance.source.is_none() {
        return (ReplicaState::NotAReplica, Verdict::Down(Cause::NotAReplica), "stands alone: it replicates from nothing".to_owned());
    }
    let Some(link) = &instance.link else {
        return (ReplicaState::Replicating, Verdict::Up, "replicating (RDS reports no link status; the source is set)".to_owned());
    };
    let said = if link.message.is_empty() {
        link.status.clone()
    } else {
        format!("{}: {}", link.status, link.message.chars().take(160).collect::<String>())
    };
    let (state, verdict) = match link.status.as_str() {
        "replicating" if link.normal => (ReplicaState::Replicating, Verdict::Up),
        "replicating" | "replication degraded" => (ReplicaState::Degraded, Verdict::Up),
        "error" => (ReplicaState::Error, Verdict::Down(Cause::ReplicaError)),
        "stopped" => (ReplicaState::Stopped, Verdict::Down(Cause::ReplicaStopped)),
        "terminated" => (ReplicaState::Terminated, Verdict::Down(Cause::ReplicaTerminated)),
        "replication stop point set" => (ReplicaState::StopPointSet, Verdict::Down(Cause::ReplicaStopped)),
        "replication stop point reached" => (ReplicaState::StopPointReached, Verdict::Down(Cause::ReplicaStopped)),
        _ => (ReplicaState::Unknown, Verdict::Unknown(Cause::Unclassified)),
    };
    (state, verdict, said)
}

/// What the instance's own status means for a promotion.
fn status(status: &str) -> Verdict {
    match status {
        "available"
        | "backing-up"
        | "storage-optimization"
        | "modifying"
        | "storage-config-upgrade"
        | "storage-initialization"
        | "resetting-master-credentials" => Verdict::Up,
        other if other.starts_with("configuring-") => Verdict::Up,
        "creating"
        | "deleting"
        | "delete-precheck"
        | "failed"
        | "inaccessible-encryption-credentials"
        | "inaccessible-encryption-credentials-recoverable"
        | "insufficient-capacity"
        | "maintenance"
        | "moving-to-vpc"
        | "converting-to-vpc"
        | "rebooting"
        | "renaming"
        | "restore-error"
        | "starting"
        | "stopped"
        | "stopping"
        | "storage-full"
        | "upgrading"
        | "upgrade-failed" => Verdict::Down(Cause::InstanceStatus),
        other if other.starts_with("incompatible-") => Verdict::Down(Cause::InstanceStatus),
        _ => Verdict::Unknown(Cause::Unclassified),
    }
}

/// What the newest datapoint is worth.
fn freshness(history: &LagHistory, now: i64, stale_after: Duration) -> (Verdict, String) {
    if history.newest_unknown {
        return (Verdict::Unknown(Cause::LagUnknown), "RDS reports its lag as unknown (a negative number)".to_owned());
    }
    let Some(newest) = history.samples.last() else {
        return (Verdict::Unknown(Cause::NoData), "no lag datapoint in the last 15 minutes".to_owned());
    };
    let age = Duration::from_micros(u64::try_from(now - newest.at).unwrap_or(0));
    let words = format!("lag {}s as of {}s ago", newest.seconds, age.as_secs());
    if age > stale_after {
        return (Verdict::Unknown(Cause::Stale), format!("{words}: older than {}s", stale_after.as_secs()));
    }
    (Verdict::Up, words)
}

/// PostgreSQL switches its log at least every five minutes on RDS, which ends an idle climb; the rest is the metric's grain.
const LONGEST_IDLE: f64 = 360.0;

/// What the lag says of a link that flows. An idle climb keeps its number for the data-loss gate: for five minutes nobody
/// can tell it from a source that is gone (`now() - pg_last_xact_replay_timestamp()` grows either way).
fn lag_state(instance: &Instance, history: &LagHistory, verdict: Verdict) -> ReplicaState {
    match verdict {
        Verdict::Unknown(Cause::LagUnknown) => ReplicaState::LagUnknown,
        Verdict::Unknown(Cause::NoData) => ReplicaState::NoData,
        Verdict::Unknown(Cause::Stale) => ReplicaState::Stale,
        _ if instance.engine.starts_with("postgres") && climbs(&history.samples) => ReplicaState::Idle,
        _ => ReplicaState::Replicating,
    }
}

/// The newest two datapoints follow each other, and the lag grew by the time between them.
fn climbs(samples: &[LagSample]) -> bool {
    let [.., before, last] = samples else { return false };
    let apart = (last.at - before.at) as f64 / 1e6;
    let grew = last.seconds - before.seconds;
    last.at - before.at <= last.period && (grew - apart).abs() <= apart * 0.05 && last.seconds <= LONGEST_IDLE
}

#[cfg(test)]
mod readings;
#[cfg(test)]
mod tests;
