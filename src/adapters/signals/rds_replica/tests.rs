use std::time::Instant;

use super::*;
use crate::adapters::aws::scripted::db::Db;
use crate::adapters::aws::scripted::{NOW, Script, TARGET, Trouble};
use crate::domain::model::SiteName;

const NOW_SECONDS: i64 = NOW / 1_000_000;

async fn signal(db: Db) -> (Script<Db>, Arc<dyn Probe>) {
    let script = Script::start(db).await;
    let spec = SignalSpec {
        app: "shop".into(),
        site: SiteName::Standby,
        name: "replica".into(),
        kind: KIND.name.into(),
        account: None,
        region: TARGET.into(),
        keys: json!({ "db_instance": "shop-replica", "stale_after_seconds": 300.0 }),
    };
    let probe = (KIND.build)(&spec, &script.ground().await).unwrap();
    (script, probe)
}

async fn look(probe: &Arc<dyn Probe>) -> Finding {
    probe.look(Duration::from_secs(20), NOW).await
}

/// A well lag: two minutes late, as AWS shows it.
fn well() -> Vec<(i64, f64)> {
    (2..10).map(|minute| (NOW_SECONDS - minute * 60, 1.0)).collect()
}

#[test]
fn an_identifier_is_written_as_rds_keeps_it() {
    let problems = crate::config::judge::Problems::default();
    let Value::Object(map) = json!({ "db_instance": "Shop-Replica" }) else { unreachable!() };
    let keys = judge(&Table::new("s", map, &problems), &SignalPlace::default()).unwrap();
    assert_eq!(keys["db_instance"], "shop-replica", "CloudWatch's dimensions and IAM's ARNs know no other case");
}

#[tokio::test]
async fn every_status_of_the_link_is_a_state_and_a_cause_of_its_own() {
    let (script, probe) = signal(Db { points: well(), ..Db::default() }).await;
    for (link, state, verdict) in [
        (None, ReplicaState::Replicating, Verdict::Up),
        (Some((true, "replicating", "")), ReplicaState::Replicating, Verdict::Up),
        (Some((false, "replicating", "")), ReplicaState::Degraded, Verdict::Up),
        (Some((false, "replication degraded", "")), ReplicaState::Degraded, Verdict::Up),
        (Some((false, "error", "Fatal error 1236")), ReplicaState::Error, Verdict::Down(Cause::ReplicaError)),
        (Some((false, "stopped", "")), ReplicaState::Stopped, Verdict::Down(Cause::ReplicaStopped)),
        (Some((false, "terminated", "")), ReplicaState::Terminated, Verdict::Down(Cause::ReplicaTerminated)),
        (Some((true, "replication stop point set", "")), ReplicaState::StopPointSet, Verdict::Down(Cause::ReplicaStopped)),
        (Some((false, "replication stop point reached", "")), ReplicaState::StopPointReached, Verdict::Down(Cause::ReplicaStopped)),
        (Some((true, "connecting", "")), ReplicaState::Unknown, Verdict::Unknown(Cause::Unclassified)),
    ] {
        script.world(|db| db.link = link);
        let finding = look(&probe).await;
        assert_eq!(finding.verdict, verdict, "{link:?}: {}", finding.detail);
        let reading = finding.replica.unwrap();
        assert_eq!((reading.state, reading.samples.len()), (state, 8), "{link:?}");
        if let Some((_, status, message)) = link {
            assert!(finding.detail.contains(status) && finding.detail.contains(message), "{}", finding.detail);
        }
    }
    script.world(|db| (db.source, db.link) = (None, None));
    let finding = look(&probe).await;
    assert_eq!(finding.verdict, Verdict::Down(Cause::NotAReplica));
    assert_eq!(finding.replica.unwrap().state, ReplicaState::NotAReplica);
    script.world(|db| db.exists = false);
    assert_eq!(look(&probe).await.verdict, Verdict::Down(Cause::NotFound));
}

#[tokio::test]
async fn the_instances_own_status_decides_whether_it_could_be_promoted() {
    let (script, probe) = signal(Db { points: well(), ..Db::default() }).await;
    for (status, verdict) in [
        ("available", Verdict::Up),
        ("backing-up", Verdict::Up),
        ("modifying", Verdict::Up),
        ("configuring-enhanced-monitoring", Verdict::Up),
        ("rebooting", Verdict::Down(Cause::InstanceStatus)),
        ("storage-full", Verdict::Down(Cause::InstanceStatus)),
        ("incompatible-parameters", Verdict::Down(Cause::InstanceStatus)),
        ("dreaming", Verdict::Unknown(Cause::Unclassified)),
    ] {
        script.world(|db| db.status = status);
        let finding = look(&probe).await;
        assert_eq!(finding.verdict, verdict, "{status}");
        assert!(finding.detail.starts_with(status), "{}", finding.detail);
    }
}

#[tokio::test]
async fn every_way_of_the_lag_is_a_value_of_its_own() {
    let minutes = |values: &[f64]| values.iter().enumerate().map(|(at, value)| (NOW_SECONDS - 120 - at as i64 * 60, *value)).collect();
    let idle: Vec<(i64, f64)> = minutes(&[0.0; 12]);
    // PostgreSQL without writes: the clock since the last one, reset every five minutes.
    let sawtooth: Vec<(i64, f64)> = minutes(&[240.0, 180.0, 120.0, 60.0, 0.0, 300.0]);
    use ReplicaState::{Idle, LagUnknown, NoData, Replicating, Stale};
    for (points, verdict, state, samples, words) in [
        (idle, Verdict::Up, Replicating, 12, "lag 0s as of 120s ago"),
        (sawtooth, Verdict::Up, Idle, 6, "lag 240s as of 120s ago"),
        (minutes(&[-1.0, 2.0, 3.0]), Verdict::Unknown(Cause::LagUnknown), LagUnknown, 2, "unknown (a negative number)"),
        (minutes(&[2.0, -1.0, 3.0]), Verdict::Up, Replicating, 2, "lag 2s as of 120s ago"),
        (minutes(&[-1.0, -1.0]), Verdict::Unknown(Cause::LagUnknown), LagUnknown, 0, "unknown (a negative number)"),
        (Vec::new(), Verdict::Unknown(Cause::NoData), NoData, 0, "no lag datapoint in the last 15 minutes"),
        (vec![(NOW_SECONDS - 301, 0.0)], Verdict::Unknown(Cause::Stale), Stale, 1, "older than 300s"),
        (vec![(NOW_SECONDS - 300, 0.0)], Verdict::Up, Replicating, 1, "as of 300s ago"),
    ] {
        let (_script, probe) = signal(Db { points: points.clone(), ..Db::default() }).await;
        let finding = look(&probe).await;
        assert_eq!(finding.verdict, verdict, "{points:?}");
        assert!(finding.detail.contains(words), "{}", finding.detail);
        let reading = finding.replica.unwrap();
        assert_eq!((reading.state, reading.samples.len()), (state, samples), "{points:?}");
        assert!(reading.samples.is_sorted_by_key(|sample| sample.at), "oldest first");
    }
}

#[tokio::test]
async fn a_broken_link_is_not_hidden_by_a_lag_that_did_not_come() {
    let (script, probe) = signal(Db { link: Some((false, "error", "")), ..Db::default() }).await;
    assert_eq!(look(&probe).await.verdict, Verdict::Down(Cause::ReplicaError));
    script.trouble("GetMetricData", Trouble::Refused(400, "Throttling"));
    assert_eq!(look(&probe).await.verdict, Verdict::Down(Cause::ReplicaError));
}

#[tokio::test]
async fn each_failing_call_is_unknown_with_its_cause_and_asked_once() {
    for (status, code, cause) in [
        (400, "Throttling", Cause::Throttled),
        (403, "AccessDenied", Cause::AccessDenied),
        (403, "ExpiredToken", Cause::NoCredentials),
        (503, "ServiceUnavailable", Cause::ApiUnavailable),
        (400, "InvalidParameterValue", Cause::Unclassified),
    ] {
        for (operation, state, samples) in
            [("DescribeDBInstances", ReplicaState::Unknown, 8), ("GetMetricData", ReplicaState::Replicating, 0)]
        {
            let (script, probe) = signal(Db { points: well(), ..Db::default() }).await;
            script.trouble(operation, Trouble::Refused(status, code));
            let finding = look(&probe).await;
            assert_eq!(finding.verdict, Verdict::Unknown(cause), "{operation} {code}: {}", finding.detail);
            assert!(finding.detail.contains(operation) && finding.detail.contains(code), "{}", finding.detail);
            let reading = finding.replica.unwrap();
            assert_eq!((reading.state, reading.samples.len()), (state, samples), "{operation} {code}");
            assert_eq!(script.calls(operation).len(), 1, "a look is never sent twice");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_with_the_looks_time_and_the_other_reading_is_kept() {
    for (operation, state, samples) in [("DescribeDBInstances", ReplicaState::Unknown, 8), ("GetMetricData", ReplicaState::Replicating, 0)]
    {
        let (script, probe) = signal(Db { points: well(), ..Db::default() }).await;
        // Clients and connections stand, so that the time is the call's alone.
        look(&probe).await;
        script.trouble(operation, Trouble::Silence);
        let start = Instant::now();
        let finding = probe.look(Duration::from_secs(1), NOW).await;
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(finding.verdict, Verdict::Unknown(Cause::ApiUnavailable));
        assert!(
            finding.detail.contains(&format!("{operation} of ")) && finding.detail.contains("no answer within 1s"),
            "{}",
            finding.detail
        );
        let reading = finding.replica.unwrap();
        assert_eq!((reading.state, reading.samples.len()), (state, samples), "{operation}");
    }
}

#[tokio::test]
async fn a_series_that_cloudwatch_does_not_give_is_not_taken_for_an_empty_one() {
    for (series, cause) in [("Forbidden", Cause::AccessDenied), ("InternalError", Cause::ApiUnavailable)] {
        let (_script, probe) = signal(Db { points: well(), series, ..Db::default() }).await;
        let finding = look(&probe).await;
        assert_eq!(finding.verdict, Verdict::Unknown(cause), "{}", finding.detail);
        assert!(finding.detail.contains(&format!("the series says {series}")), "{}", finding.detail);
    }
}
