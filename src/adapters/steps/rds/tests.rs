use std::time::Instant;

use super::*;
use crate::adapters::aws::scripted::db::Db;
use crate::adapters::aws::scripted::{NOW, Script, TARGET, Trouble, context, planned, scripting, step};
use crate::adapters::shell::bench::Bench;

const SECOND: i64 = 1_000_000;

fn keys() -> Value {
    json!({ "db_instance": "shop-replica", "drain": "20s", "multi_az": false })
}

async fn promotion(db: Db) -> (Script<Db>, Arc<dyn Step>) {
    let script = Script::start(db).await;
    let step = step(&KIND, keys(), &script.ground().await);
    (script, step)
}

/// A context in which the old writers were proven gone so many seconds before `now`.
fn fenced(before: i64, now: i64) -> StepContext {
    let facts = [("fence".to_owned(), json!({ "fence": "proven", "at": now - before * SECOND }))];
    StepContext { facts: facts.into(), now, ..context() }
}

/// After a first inspection of ours.
fn again() -> StepContext {
    StepContext { before: json!({ "status": "available" }), ..context() }
}

#[tokio::test]
async fn inspect_says_of_each_state_what_a_promotion_can_do_there() {
    let (script, step) = promotion(Db::default()).await;
    for (status, replica, cx, wanted) in [
        ("available", true, context(), "possible"),
        ("storage-optimization", true, context(), "possible"),
        ("storage-optimization", true, again(), "possible"),
        ("configuring-enhanced-monitoring", true, context(), "possible"),
        ("configuring-iam-database-auth", true, context(), "possible"),
        ("configuring-log-exports", true, context(), "possible"),
        ("backing-up", true, context(), "not-yet"),
        ("upgrading", true, context(), "not-yet"),
        ("modifying", true, context(), "not-yet"),
        ("modifying", true, again(), "under-way"),
        ("rebooting", true, again(), "under-way"),
        ("modifying", false, again(), "under-way"),
        ("rebooting", false, context(), "under-way"),
        ("available", false, context(), "already-so"),
        ("backing-up", false, context(), "already-so"),
        ("storage-optimization", false, again(), "under-way"),
    ] {
        script.world(|db| (db.status, db.source) = (status, replica.then_some("shop")));
        let found = match step.inspect(&cx).await.unwrap() {
            Inspection::Possible(facts) => {
                assert_eq!((&facts["source"], &facts["drain"]["drained"]), (&json!("shop"), &json!(false)));
                "possible"
            }
            Inspection::NotYet(words) => {
                assert!(words.contains(status), "{words}");
                "not-yet"
            }
            Inspection::UnderWay(_) => "under-way",
            Inspection::AlreadySo(_) => "already-so",
            Inspection::Asks(words) => panic!("a promotion asks nobody: {words}"),
            Inspection::CannotTell => "cannot-tell",
        };
        assert_eq!(found, wanted, "{status}, replica: {replica}");
    }
    assert_eq!(script.calls("PromoteReadReplica").len() + script.calls("GetMetricData").len(), 0, "inspecting changes nothing");
}

#[tokio::test]
async fn what_no_promotion_can_mend_needs_a_person() {
    let (script, step) = promotion(Db::default()).await;
    for status in
        ["failed", "stopped", "deleting", "storage-full", "incompatible-network", "inaccessible-encryption-credentials-recoverable"]
    {
        script.world(|db| db.status = status);
        let error = step.inspect(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::NeedsPerson, "instance-status"));
        assert!(error.message.contains(status) && error.message.contains("DB instance shop-replica in us-east-1"), "{error}");
    }
    script.world(|db| db.exists = false);
    for error in [step.inspect(&context()).await.map(|_| ()).unwrap_err(), step.verify(&again()).await.map(|_| ()).unwrap_err()] {
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::NeedsPerson, "DBInstanceNotFound"));
        assert!(error.message.contains("mend `db_instance`"), "{error}");
    }
}

#[tokio::test]
async fn what_rds_refuses_in_a_usable_state_is_asked_again_when_the_state_has_passed() {
    let (script, step) = promotion(Db { status: "storage-optimization", ..Db::default() }).await;
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::Possible(_)));
    script.trouble("PromoteReadReplica", Trouble::Refused(400, "InvalidDBInstanceState"));
    let error = step.apply(&again()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "InvalidDBInstanceState"));
    assert!(error.message.ends_with("; its status was storage-optimization when it was looked at"), "{error}");
    for _ in 0..3 {
        let Inspection::NotYet(words) = step.inspect(&again()).await.unwrap() else { panic!("each refusal costs an attempt") };
        assert!(words.contains("refused to promote while the replica is storage-optimization"), "{words}");
    }
    // Another state is another question, and `available` is one each time.
    for status in ["configuring-log-exports", "available", "available"] {
        script.world(|db| db.status = status);
        assert!(matches!(step.inspect(&again()).await.unwrap(), Inspection::Possible(_)), "{status}");
        script.trouble("PromoteReadReplica", Trouble::Refused(400, "InvalidDBInstanceState"));
        assert!(step.apply(&again()).await.unwrap_err().message.contains(&format!("its status was {status}")));
    }
    assert!(matches!(step.inspect(&again()).await.unwrap(), Inspection::Possible(_)));
    step.apply(&again()).await.unwrap();
    assert_eq!(script.calls("PromoteReadReplica").len(), 5);
}

#[tokio::test]
async fn a_planned_move_takes_no_instance_that_stands_alone_for_a_promoted_one() {
    for status in ["available", "backing-up", "modifying", "rebooting"] {
        let (script, step) = promotion(Db { source: None, status, ..Db::default() }).await;
        // The old primary, back as it was: behind a proven fence too nothing came to it.
        for cx in [context(), fenced(5, NOW)] {
            let error = step.inspect(&StepContext { graceful: true, ..cx }).await.unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::NeedsPerson, "stands-alone"), "{status}");
            let words = "DB instance shop-replica in us-east-1: it stands alone, and this move did not promote it";
            assert!(error.message.contains(words) && error.message.contains("build it anew as a replica"), "{error}");
        }
        // What this very move has asked for is read back, and where a site is lost a promoted one is what it takes.
        let ours = StepContext { graceful: true, ..again() };
        assert!(matches!(step.inspect(&ours).await.unwrap(), Inspection::UnderWay(_)), "{status}");
        assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_) | Inspection::UnderWay(_)), "{status}");
        assert_eq!(script.calls("PromoteReadReplica").len(), 0);
    }
}

#[tokio::test]
async fn an_aurora_instance_is_refused_and_does_not_pass_for_a_promoted_one() {
    for engine in ["aurora-postgresql", "aurora-mysql"] {
        let (script, step) = promotion(Db { engine, source: None, ..Db::default() }).await;
        for error in [step.inspect(&context()).await.map(|_| ()).unwrap_err(), step.verify(&again()).await.map(|_| ()).unwrap_err()] {
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "aurora"));
            assert!(error.message.contains(&format!("DB instance shop-replica in us-east-1: its engine is {engine}")), "{error}");
            assert!(error.message.contains("use a `command` step that calls `aws rds failover-global-cluster`"), "{error}");
        }
        assert_eq!(script.calls("PromoteReadReplica").len(), 0);
    }
    let (_script, step) = promotion(Db { source: None, ..Db::default() }).await;
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)), "alone: as a promoted one looks");
}

#[tokio::test]
async fn a_member_of_a_cluster_is_refused_and_what_replicates_from_one_is_a_replica() {
    for engine in ["docdb", "neptune", "mysql"] {
        let (script, step) = promotion(Db { engine, source: None, cluster: Some("shop-cluster"), ..Db::default() }).await;
        for error in [step.inspect(&context()).await.map(|_| ()).unwrap_err(), step.verify(&again()).await.map(|_| ()).unwrap_err()] {
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "cluster-member"));
            assert!(error.message.contains(&format!("a member of the DB cluster shop-cluster (engine {engine})")), "{error}");
        }
        assert_eq!(script.calls("PromoteReadReplica").len(), 0);
    }
    let (_script, step) = promotion(Db { source: None, source_cluster: Some("shop-cluster"), ..Db::default() }).await;
    let found = step.inspect(&context()).await.unwrap();
    assert!(matches!(found, Inspection::Possible(_)));
    // Such a one never has a source instance: a person's script must not take that for its promotion.
    let script = step.script(&found, &scripting(60)).join("\n");
    let both = "'DBInstances[0].ReadReplicaSourceDBInstanceIdentifier || DBInstances[0].ReadReplicaSourceDBClusterIdentifier'";
    assert!(script.contains(&format!("--query {both} --output text")), "{script}");
}

#[tokio::test]
async fn storage_that_is_at_work_for_days_keeps_no_promotion_waiting() {
    for status in ["storage-initialization", "storage-config-upgrade"] {
        let (script, step) = promotion(Db { status, ..Db::default() }).await;
        assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::Possible(_)), "{status}");
        script.world(|db| db.source = None);
        assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)), "{status}: where a promotion may end");
    }
}

#[tokio::test]
async fn one_promotion_is_asked_for_as_it_was_described() {
    let (script, step) = promotion(Db::default()).await;
    let found = step.inspect(&context()).await.unwrap();
    let described = step.describe(&found);
    step.apply(&context()).await.unwrap();
    let asked = script.calls("PromoteReadReplica");
    assert_eq!((described.len(), asked.len()), (1, 1));
    assert_eq!((asked[0].region.as_str(), described[0].region.as_str()), (TARGET, TARGET));
    assert_eq!((asked[0].get("DBInstanceIdentifier"), asked[0].get("BackupRetentionPeriod")), ("shop-replica", "7"));
    assert_eq!(described[0].parameters, json!({ "DBInstanceIdentifier": "shop-replica", "BackupRetentionPeriod": 7 }));
}

#[tokio::test]
async fn the_standby_that_is_asked_for_afterwards_is_described_as_that() {
    let script = Script::start(Db::default()).await;
    let step = step(&KIND, json!({ "db_instance": "shop-replica", "multi_az": true }), &script.ground().await);
    for found in [step.inspect(&context()).await.unwrap(), Inspection::CannotTell] {
        let calls = step.describe(&found);
        let of: Vec<(&str, bool)> = calls.iter().map(|call| (call.operation.as_str(), call.afterwards)).collect();
        assert_eq!(of, [("PromoteReadReplica", false), ("ModifyDBInstance", true)]);
        assert_eq!(calls[1].parameters, json!({ "DBInstanceIdentifier": "shop-replica", "MultiAZ": true, "ApplyImmediately": true }));
        assert!(calls[1].to_string().starts_with("afterwards, in the background: rds:ModifyDBInstance in us-east-1"), "{}", calls[1]);
        assert!(!step.script(&found, &scripting(60)).join("\n").contains("modify-db-instance"), "not before users are served");
    }
    script.world(|db| db.multi_az = true);
    assert_eq!(step.describe(&step.inspect(&context()).await.unwrap()).len(), 1, "it has one");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_and_then_found_under_way() {
    let (script, step) = promotion(Db::default()).await;
    step.inspect(&context()).await.unwrap();
    script.trouble("PromoteReadReplica", Trouble::LostAnswer);
    let error = step.apply(&context()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Retry, "{error}");
    assert_eq!(script.calls("PromoteReadReplica").len(), 1);
    assert!(matches!(step.inspect(&again()).await.unwrap(), Inspection::UnderWay(_)));
}

#[tokio::test]
async fn each_refusal_means_one_thing_and_is_not_sent_again_unseen() {
    for (status, code, class, part) in [
        (400, "InvalidDBInstanceState", ErrorClass::Retry, "InvalidDBInstanceState"),
        (403, "AccessDenied", ErrorClass::NeedsPerson, "allow rds:PromoteReadReplica"),
        (400, "Throttling", ErrorClass::Retry, "others share this account's rate"),
        (503, "ServiceUnavailable", ErrorClass::Retry, "ServiceUnavailable"),
        (404, "DBInstanceNotFound", ErrorClass::NeedsPerson, "DBInstanceNotFound"),
        (400, "InvalidParameterValue", ErrorClass::Refused, "InvalidParameterValue"),
    ] {
        let (script, step) = promotion(Db::default()).await;
        script.trouble("PromoteReadReplica", Trouble::Refused(status, code));
        let error = step.apply(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, code), "{error}");
        assert!(error.message.contains(part) && error.message.contains("DB instance shop-replica in us-east-1"), "{error}");
        assert_eq!(script.calls("PromoteReadReplica").len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_look_that_is_throttled_or_denied_says_so() {
    let (script, step) = promotion(Db::default()).await;
    script.trouble("DescribeDBInstances", Trouble::Refused(400, "Throttling"));
    assert_eq!(step.inspect(&context()).await.unwrap_err().class, ErrorClass::Retry);
    script.trouble("DescribeDBInstances", Trouble::Refused(403, "AccessDenied"));
    let error = step.verify(&again()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NeedsPerson);
    assert!(error.message.contains("allow rds:DescribeDBInstances"), "{error}");
}

/// What `verify` says at each state of the instance in turn: `true` is `So`.
async fn verified(script: &Script<Db>, step: &Arc<dyn Step>, states: &[(&'static str, bool)]) -> Vec<bool> {
    let mut said = Vec::new();
    for (status, replica) in states {
        script.world(|db| (db.status, db.source) = (*status, replica.then_some("shop")));
        said.push(matches!(step.verify(&again()).await.unwrap(), Verification::So(_)));
    }
    said
}

#[tokio::test]
async fn the_first_available_is_not_believed() {
    for (states, said) in [
        // The source still there: RDS has not begun, however often it is read.
        (&[("available", true), ("available", true), ("available", true)][..], &[false, false, false][..]),
        // The way through was seen: one settled read is enough.
        (&[("available", true), ("modifying", true), ("available", false)], &[false, false, true]),
        (&[("rebooting", false), ("backing-up", false)], &[false, true]),
        // It was not: two must agree.
        (&[("available", false), ("available", false)], &[false, true]),
        (&[("storage-optimization", false), ("available", true), ("available", false), ("available", false)], &[false, false, false, true]),
        // Without source and busy in another way is not settled.
        (&[("available", false), ("upgrading", false), ("available", false), ("backing-up", false)], &[false, false, false, true]),
    ] {
        let (script, step) = promotion(Db::default()).await;
        assert_eq!(verified(&script, &step, states).await, said, "{states:?}");
    }
}

#[tokio::test]
async fn a_new_attempt_does_not_trust_what_the_last_one_saw() {
    let (script, step) = promotion(Db::default()).await;
    assert_eq!(verified(&script, &step, &[("modifying", true)]).await, [false]);
    script.world(|db| db.status = "available");
    step.apply(&again()).await.unwrap();
    assert_eq!(verified(&script, &step, &[("available", false), ("available", false)]).await, [false, true]);
}

#[tokio::test]
async fn multi_az_is_asked_for_after_the_promotion_and_its_refusal_fails_nothing() {
    for refused in [false, true] {
        let script = Script::start(Db { source: None, ..Db::default() }).await;
        let ground = script.ground().await;
        let step = step(&KIND, json!({ "db_instance": "shop-replica" }), &ground);
        if refused {
            script.trouble("ModifyDBInstance", Trouble::Refused(403, "AccessDenied"));
        }
        assert!(matches!(step.verify(&again()).await.unwrap(), Verification::NotYet(_)));
        let Verification::So(facts) = step.verify(&again()).await.unwrap() else { panic!("two reads agree") };
        assert_eq!(facts["multi_az_followup"], "started in the background");
        while ground.followups.ended().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ended = ground.followups.ended();
        assert_eq!(ended[0].ok, !refused, "{ended:?}");
        let asked = script.calls("ModifyDBInstance");
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].get("MultiAZ"), asked[0].get("ApplyImmediately")), ("true", "true"));
    }
}

#[tokio::test]
async fn without_a_proven_fence_nothing_is_waited_for() {
    let (script, step) = promotion(Db::default()).await;
    let unproven = StepContext { facts: [("fence".to_owned(), json!({ "fence": "unproven", "at": NOW }))].into(), ..context() };
    for cx in [context(), unproven] {
        let Inspection::Possible(facts) = step.inspect(&cx).await.unwrap() else { panic!("it waits") };
        assert_eq!(facts["drain"]["drained"], false);
    }
    assert_eq!(script.calls("GetMetricData").len(), 0);
}

#[tokio::test]
async fn a_drain_waits_for_a_sample_from_after_the_fence_and_ends_by_its_time() {
    let fence = NOW / SECOND - 5;
    for (points, drained, words) in [
        (vec![], false, "no lag sample;"),
        (vec![(fence - 600, 0.0)], false, "newest lag sample 0s as of 605s ago"),
        (vec![(fence - 20, 0.0)], false, "newest lag sample 0s as of 25s ago"),
        (vec![(fence + 1, 30.0)], false, "newest lag sample 30s as of 4s ago"),
        (vec![(fence - 60, 0.0), (fence + 1, -1.0)], false, "unknown (a negative number)"),
        (vec![(fence + 1, 0.0)], true, ""),
        (vec![(fence + 3, 2.0)], true, ""),
        (vec![(fence + 1, 0.0), (fence + 3, -1.0)], true, ""),
    ] {
        let (script, step) = promotion(Db { points: points.clone(), ..Db::default() }).await;
        match step.inspect(&fenced(5, NOW)).await.unwrap() {
            Inspection::Possible(facts) => {
                assert!(drained, "{points:?}");
                assert_eq!(facts["drain"]["drained"], true);
            }
            Inspection::NotYet(said) => assert!(!drained && said.starts_with("draining: ") && said.contains(words), "{points:?}: {said}"),
            other => panic!("{other:?}"),
        }
        // The same long after the fence: it goes on, and says with what evidence.
        let Inspection::Possible(facts) = step.inspect(&fenced(20, NOW + 15 * SECOND)).await.unwrap() else { panic!("it still waits") };
        assert_eq!(facts["drain"]["drained"], drained);
        drop(script);
    }
}

#[tokio::test]
async fn a_lag_behind_the_receiver_proves_a_drain_by_two_zeros_in_a_row() {
    let fence = NOW / SECOND - 300;
    let minute = |number: i64, value: f64| (fence + 60 * number, value);
    for (points, drained) in [
        (vec![minute(0, 0.0)], false),
        (vec![minute(-1, 0.0), minute(0, 0.0)], false),
        // A stall that was noticed: -1, and the one zero is no proof any more, nor are two with it in between.
        (vec![minute(0, 0.0), minute(1, -1.0)], false),
        (vec![minute(0, 0.0), minute(1, -1.0), minute(2, 0.0)], false),
        (vec![minute(0, 0.0), minute(2, 0.0)], false),
        (vec![minute(0, 0.0), minute(1, 3.0), minute(2, 0.0)], false),
        // Long after the fence a small lag says as little of the source.
        (vec![minute(2, 1.0), minute(3, 1.0)], false),
        (vec![minute(0, 0.0), minute(1, 0.0)], true),
        (vec![minute(0, -1.0), minute(1, 0.0), minute(2, 0.0)], true),
        // By then all of it was there; what became of the link behind the fence does not matter.
        (vec![minute(0, 0.0), minute(1, 0.0), minute(2, -1.0)], true),
    ] {
        for engine in ["mysql", "mariadb"] {
            let (_script, step) = promotion(Db { engine, points: points.clone(), ..Db::default() }).await;
            let planned = StepContext { graceful: true, ..fenced(300, NOW) };
            match step.inspect(&planned).await.unwrap() {
                Inspection::Possible(facts) => assert!(drained && facts["drain"]["drained"] == true, "{engine} {points:?}"),
                Inspection::NotYet(words) => assert!(!drained && words.starts_with("draining: "), "{engine} {points:?}: {words}"),
                other => panic!("{other:?}"),
            }
        }
    }
    let (_script, step) = promotion(Db { engine: "mysql", points: vec![minute(0, 0.0)], ..Db::default() }).await;
    let planned = StepContext { graceful: true, ..fenced(300, NOW) };
    let Inspection::NotYet(words) = step.inspect(&planned).await.unwrap() else { panic!("one zero is no proof") };
    assert!(words.ends_with("no two in a row yet from after the fence that show lag 0"), "{words}");
    // An outage is waited for no longer than before, and says what it knows.
    let Inspection::Possible(facts) = step.inspect(&fenced(300, NOW)).await.unwrap() else { panic!("it still waits") };
    assert_eq!(facts["drain"]["drained"], false);
}

#[tokio::test]
async fn an_identifier_is_written_as_rds_keeps_it() {
    let script = Script::start(Db { points: vec![(NOW / SECOND - 4, 0.0)], ..Db::default() }).await;
    let step_of = planned(&KIND, json!({ "db_instance": "Shop-Replica", "multi_az": true }));
    let step = (KIND.build)(&step_of, &script.ground().await).unwrap();
    // CloudWatch knows no other case, and answers another one with nothing at all.
    let Inspection::Possible(facts) = step.inspect(&fenced(5, NOW)).await.unwrap() else { panic!("its lag is not found") };
    assert_eq!(facts["drain"]["drained"], true);
    let resources: Vec<String> = (KIND.permissions)(&step_of).into_iter().map(|may| may.resource).collect();
    assert!(resources.iter().all(|arn| !arn.contains("Shop")) && resources.iter().any(|arn| arn.ends_with(":db:shop-replica")));
}

#[tokio::test]
async fn a_drain_that_cannot_read_the_lag_says_why_and_ends_by_its_time() {
    for (code, part) in [("AccessDenied", "allow cloudwatch:GetMetricData"), ("Throttling", "others share this account's rate")] {
        let (script, step) = promotion(Db::default()).await;
        script.trouble("GetMetricData", Trouble::Refused(400, code));
        script.trouble("GetMetricData", Trouble::Refused(400, code));
        let Inspection::NotYet(words) = step.inspect(&fenced(5, NOW)).await.unwrap() else { panic!("it does not wait") };
        assert!(words.contains("the lag is not known") && words.contains(part), "{words}");
        let Inspection::Possible(facts) = step.inspect(&fenced(20, NOW + 15 * SECOND)).await.unwrap() else { panic!("it still waits") };
        assert!(facts["drain"]["evidence"].as_str().unwrap().contains(part), "{facts}");
    }
}

#[tokio::test]
async fn a_cloudwatch_that_says_nothing_holds_no_drain_beyond_its_time() {
    let (script, step) = promotion(Db::default()).await;
    script.trouble("GetMetricData", Trouble::Silence);
    let start = Instant::now();
    let Inspection::Possible(facts) = step.inspect(&fenced(20, NOW)).await.unwrap() else { panic!("it still waits") };
    // A call may take five seconds, and the drain is over: no more than the last reading's own time is spent.
    assert!(start.elapsed() < Duration::from_millis(4_500), "{:?}", start.elapsed());
    assert!(facts["drain"]["evidence"].as_str().unwrap().contains("no answer within"), "{facts}");
}

#[tokio::test]
async fn a_drain_asks_rds_each_time_and_cloudwatch_at_a_pace_of_its_own() {
    let (script, step) = promotion(Db::default()).await;
    let looks = 40;
    for look in 0..looks {
        let now = NOW + look * SECOND / 4;
        let fence = (now - NOW) / SECOND + 5;
        assert!(matches!(step.inspect(&fenced(fence, now)).await.unwrap(), Inspection::NotYet(_)));
    }
    assert_eq!(script.calls("DescribeDBInstances").len(), 40);
    assert_eq!(script.calls("GetMetricData").len(), 5, "ten seconds, one reading every two");
    // What the instance itself says counts at once.
    script.world(|db| db.status = "backing-up");
    let Inspection::NotYet(words) = step.inspect(&fenced(15, NOW + 10 * SECOND - 1)).await.unwrap() else { panic!("promoted") };
    assert!(words.contains("backing-up"), "{words}");
}

#[tokio::test]
async fn a_promotion_is_not_taken_back() {
    let (script, step) = promotion(Db::default()).await;
    let error = step.undo(&again()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "forward-only"));
    assert_eq!(script.heard().len(), 0);
}

/// A database that leaves its source once it is told to, unless it is busy at first.
const AWS: &str = r#"
    case "$*" in
      *promote-read-replica*)
        echo promote >>"$LOG"
        if [[ -f promoted || -f busy ]]; then rm -f busy; touch promoted; echo "An error (InvalidDBInstanceState)" >&2; exit 254; fi
        if [[ -f denied ]]; then echo "An error (AccessDenied)" >&2; exit 254; fi
        touch promoted; echo '{"DBInstance": {}}' ;;
      *contains*) echo True ;;
      *ReadReplicaSource*) [[ ! -f gone ]] || exit 254; if [[ -f promoted ]]; then echo None; else echo shop; fi ;;
      *) exit 2 ;;
    esac"#;

#[tokio::test]
async fn the_script_promotes_once_however_often_it_is_run() {
    let (_script, step) = promotion(Db::default()).await;
    // Written while it was none: it may have become a replica since.
    for found in [Inspection::CannotTell, step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(Value::Null)] {
        let lines = step.script(&found, &scripting(0));
        let bench = Bench::new(&[("aws", AWS)]);
        for run in 1..=2 {
            let ran = bench.lines(&lines);
            assert_eq!((ran.code, ran.log.as_str()), (Some(0), "promote\n"), "run {run}: {}", ran.said);
        }
        for (file, code, asked) in [("busy", 0, 1), ("denied", 1, 1), ("gone", 1, 0)] {
            let bench = Bench::new(&[("aws", AWS)]);
            std::fs::write(bench.path().join(file), "").unwrap();
            let ran = bench.lines(&lines);
            assert_eq!((ran.code, ran.log.lines().count()), (Some(code), asked), "{file}: {}", ran.said);
        }
    }
}

#[test]
fn a_drain_that_outlasts_its_step_is_refused() {
    let said = |more: Value| {
        let mut keys = json!({ "db_instance": "shop-replica" });
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        KIND.judged(keys).1
    };
    for keys in
        [json!({"drain": "15m"}), json!({"drain": "1000years"}), json!({"deadline": "20s"}), json!({"deadline": "1m", "drain": "60s"})]
    {
        let said = said(keys);
        assert!(said.len() == 1 && said[0].starts_with("s.drain: is as long as the step's deadline"), "{said:?}");
    }
    assert!(said(json!({"deadline": "20m", "drain": "15m"})).is_empty());
}
