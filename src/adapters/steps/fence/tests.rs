use super::*;
use std::time::Duration;

use crate::adapters::aws::scripted::fleet::Fleet;
use crate::adapters::aws::scripted::{NOW, SOURCE, Script, Trouble, context, scripting, step};

fn keys() -> Value {
    json!({ "group": "shop-group" })
}

async fn fence(fleet: Fleet) -> (Script<Fleet>, Arc<dyn Step>) {
    let script = Script::start(fleet).await;
    let step = step(&KIND, keys(), &script.ground().await);
    (script, step)
}

fn three() -> Fleet {
    Fleet { sizes: (2, 6, 3), members: Fleet::serving(&["i-1", "i-2", "i-3"]), ..Fleet::default() }
}

fn sizes(script: &Script<Fleet>) -> (i32, i32, i32) {
    script.world(|fleet| fleet.sizes)
}

#[tokio::test]
async fn an_empty_group_of_no_size_is_a_proven_fence() {
    let (script, step) = fence(Fleet { sizes: (0, 6, 0), ..Fleet::default() }).await;
    let Inspection::AlreadySo(facts) = step.inspect(&context()).await.unwrap() else { panic!("not proven") };
    assert_eq!(facts["fence"], "proven");
    let at = facts["at"].as_i64().unwrap();
    // Never before the answer that proves it; the test's own time bounds it above.
    assert!((NOW..NOW + 60_000_000).contains(&at), "{at}");
    assert_eq!(facts["was"], json!({ "min": 0, "max": 6, "desired": 0 }));
    assert_eq!(step.describe(&Inspection::Possible(facts)).len(), 1);
    assert_eq!(script.calls("UpdateAutoScalingGroup").len(), 0);
    assert_eq!(script.heard()[0].region, SOURCE, "the region that is left, not the target");
}

#[tokio::test]
async fn a_fence_sizes_to_nothing_waits_for_the_last_instance_and_can_be_put_back() {
    let (script, step) = fence(three()).await;
    let Inspection::Possible(facts) = step.inspect(&context()).await.unwrap() else { panic!("nothing to do?") };
    assert_eq!(facts["was"], json!({ "min": 2, "max": 6, "desired": 3 }));
    assert_eq!(facts["instances"], 3);
    let cx = StepContext { before: facts, ..context() };
    step.apply(&cx).await.unwrap();
    assert_eq!(sizes(&script), (0, 6, 0));
    // One that terminates may still write.
    script.world(|fleet| fleet.members = vec![("i-3", "Terminating", "Unhealthy", false)]);
    let Verification::NotYet(words) = step.verify(&cx).await.unwrap() else { panic!("proven too early") };
    assert!(words.contains("1 instances left that may still write: i-3 Terminating"), "{words}");
    // After a restart: ours, under way, and what stood there before is not forgotten.
    let Inspection::UnderWay(again) = step.inspect(&cx).await.unwrap() else { panic!("not under way") };
    assert_eq!(again["was"], cx.before["was"]);
    // It is one instance, whatever it weighs.
    script.world(|fleet| fleet.weights = vec![("i-3", 8)]);
    let Verification::NotYet(words) = step.verify(&cx).await.unwrap() else { panic!("proven too early") };
    assert!(words.starts_with("1 instances left"), "{words}");
    script.world(|fleet| fleet.members.clear());
    let Verification::So(facts) = step.verify(&cx).await.unwrap() else { panic!("not proven") };
    assert_eq!((&facts["fence"], &facts["was"]), (&json!("proven"), &cx.before["was"]));
    assert!(facts["at"].as_i64().unwrap() >= NOW);
    // Called off.
    let words = step.undo(&cx).await.unwrap();
    assert_eq!(sizes(&script), (2, 6, 3));
    assert!(words.contains("min 2, max 6, desired 3"), "{words}");
}

#[tokio::test]
async fn undo_puts_back_the_first_inspections_sizes_even_after_a_restart() {
    let (script, step) = fence(Fleet { sizes: (0, 6, 0), ..Fleet::default() }).await;
    let first = json!({ "was": { "min": 2, "max": 6, "desired": 3 } });
    let Inspection::AlreadySo(facts) = step.inspect(&StepContext { before: first, ..context() }).await.unwrap() else { panic!("not so") };
    step.undo(&StepContext { before: facts, ..context() }).await.unwrap();
    assert_eq!(sizes(&script), (2, 6, 3));
    let words = step.undo(&context()).await.unwrap();
    assert!(words.contains("not known; nothing was put back"), "{words}");
    assert_eq!(script.calls("UpdateAutoScalingGroup").len(), 1);
}

#[tokio::test]
async fn undo_of_a_fence_that_never_took_leaves_the_group_as_it_is() {
    let (script, step) = fence(Fleet { sizes: (2, 6, 5), ..Fleet::default() }).await;
    let cx = StepContext { before: json!({ "was": { "min": 2, "max": 6, "desired": 3 } }), ..context() };
    let words = step.undo(&cx).await.unwrap();
    assert!(words.contains("is not fenced: left at min 2, max 6, desired 5"), "{words}");
    assert_eq!(script.calls("UpdateAutoScalingGroup").len(), 0);
    // Scaled out again behind the fence by others: what they added stays.
    script.world(|fleet| fleet.sizes = (0, 6, 5));
    step.undo(&cx).await.unwrap();
    assert_eq!(sizes(&script), (2, 6, 5));
    // Nor is a maximum lowered that others have raised.
    script.world(|fleet| fleet.sizes = (0, 10, 8));
    step.undo(&cx).await.unwrap();
    assert_eq!(sizes(&script), (2, 10, 8));
    script.world(|fleet| fleet.sizes = (2, 10, 8));
    step.apply(&cx).await.unwrap();
    assert_eq!(sizes(&script), (0, 10, 0));
}

#[tokio::test]
async fn a_warm_pool_whose_instances_run_is_no_fence() {
    let running = vec![("i-7", "Warmed:Stopped"), ("i-8", "Warmed:Running"), ("i-9", "Warmed:Hibernated")];
    let (script, step) = fence(Fleet { sizes: (0, 6, 0), pool: Some(running), ..Fleet::default() }).await;
    let Inspection::UnderWay(facts) = step.inspect(&context()).await.unwrap() else { panic!("proven") };
    assert_eq!(facts["instances"], 1);
    let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("proven") };
    assert!(
        words.starts_with("1 instances of the warm pool that may still write: i-8 Warmed:Running; `aws autoscaling delete-warm-pool"),
        "{words}"
    );
    assert_eq!(script.calls("DescribeWarmPool").len(), 6, "three pages, twice");
    script.trouble("DescribeWarmPool", Trouble::Refused(403, "AccessDenied"));
    let error = step.verify(&context()).await.map(|_| ()).unwrap_err();
    assert!(error.message.contains("allow autoscaling:DescribeWarmPool"), "{error}");
    script.world(|fleet| fleet.pool = Some(vec![("i-7", "Warmed:Stopped"), ("i-9", "Warmed:Pending:Wait")]));
    assert!(matches!(step.verify(&context()).await.unwrap(), Verification::NotYet(_)), "it boots before it stops");
    script.world(|fleet| fleet.pool = Some(vec![("i-7", "Warmed:Stopped")]));
    assert!(matches!(step.verify(&context()).await.unwrap(), Verification::So(_)));
}

#[tokio::test]
async fn a_warm_pool_that_cannot_be_read_keeps_no_group_from_being_sized_to_nothing() {
    // No member for the moment, as where launches fail: the pool says nothing that the sizes do not.
    let (script, step) = fence(Fleet { sizes: (2, 6, 3), pool: Some(Vec::new()), ..Fleet::default() }).await;
    script.trouble("DescribeWarmPool", Trouble::Refused(403, "AccessDenied"));
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::Possible(_)));
    let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("proven") };
    assert!(words.contains("sized to 3 again or still"), "{words}");
    assert_eq!(script.calls("DescribeWarmPool").len(), 0);
}

#[tokio::test]
async fn the_script_waits_for_the_warm_pool_where_there_is_one() {
    let (script, step) = fence(three()).await;
    let lines = step.script(&step.inspect(&context()).await.unwrap(), &scripting(60));
    assert!(!lines.iter().any(|line| line.contains("warm-pool")), "{lines:#?}");
    script.world(|fleet| fleet.pool = Some(vec![("i-7", "Warmed:Running")]));
    for members in [Fleet::serving(&["i-1"]), Vec::new()] {
        script.world(|fleet| fleet.members = members);
        let lines = step.script(&step.inspect(&context()).await.unwrap(), &scripting(60));
        let line = lines.last().unwrap();
        assert!(line.starts_with("wait_for 60 is 0 aws autoscaling describe-warm-pool --region ap-south-1 "), "{line}");
        assert!(line.contains("Warmed:Stopped") && line.contains("Warmed:Hibernated"), "{line}");
    }
}

#[tokio::test]
async fn what_keeps_instances_alive_is_named() {
    let fleet =
        Fleet { sizes: (0, 6, 0), members: vec![("i-1", "InService", "Healthy", true)], suspended: vec!["Terminate"], ..Fleet::default() };
    let (script, step) = fence(fleet).await;
    let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("proven") };
    assert!(words.contains("i-1 InService (scale-in protected)"), "{words}");
    assert!(words.contains("the process Terminate is suspended (User suspended)"), "{words}");
    script.world(|fleet| fleet.sizes = (0, 6, 2));
    let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("proven") };
    assert!(words.contains("sized to 2 again or still"), "{words}");
    // Empty for the moment, and sized up again: not a fence.
    script.world(|fleet| fleet.members.clear());
    assert!(matches!(step.verify(&context()).await.unwrap(), Verification::NotYet(_)));
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::Possible(_)));
}

#[tokio::test]
async fn a_lost_answer_is_asked_again_as_the_sizes_are_absolute() {
    let (script, step) = fence(three()).await;
    script.trouble("UpdateAutoScalingGroup", Trouble::LostAnswer);
    step.apply(&context()).await.unwrap();
    let asked = script.calls("UpdateAutoScalingGroup");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].body, asked[1].body);
    assert_eq!(sizes(&script), (0, 6, 0));
    for _ in 0..3 {
        script.trouble("UpdateAutoScalingGroup", Trouble::LostAnswer);
    }
    assert_eq!(step.apply(&context()).await.unwrap_err().class, ErrorClass::Retry);
}

#[tokio::test]
async fn a_region_that_says_nothing_is_left_within_the_time_given() {
    let (script, step) = fence(three()).await;
    step.inspect(&context()).await.unwrap();
    let cx =
        StepContext { time_left: Duration::from_millis(200), before: json!({ "was": { "min": 2, "max": 6, "desired": 3 } }), ..context() };
    for operation in ["DescribeAutoScalingGroups", "UpdateAutoScalingGroup", "DescribeAutoScalingGroups", "DescribeAutoScalingGroups"] {
        script.trouble(operation, Trouble::Silence);
    }
    let start = Instant::now();
    let errors = [
        step.inspect(&cx).await.map(|_| ()).unwrap_err(),
        step.apply(&cx).await.map(|_| ()).unwrap_err(),
        step.verify(&cx).await.map(|_| ()).unwrap_err(),
        step.undo(&cx).await.map(|_| ()).unwrap_err(),
    ];
    // One call alone may take five seconds.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    for error in errors {
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "timeout"));
        assert!(error.message.contains("group shop-group in ap-south-1: no answer within 200ms"), "{error}");
    }
}

#[tokio::test]
async fn a_busy_group_is_asked_again_by_the_fence_and_by_its_undoing() {
    let (script, step) = fence(three()).await;
    let Inspection::Possible(facts) = step.inspect(&context()).await.unwrap() else { panic!("nothing to do?") };
    let cx = StepContext { before: facts, ..context() };
    for code in ["ScalingActivityInProgress", "ResourceContention"] {
        script.trouble("UpdateAutoScalingGroup", Trouble::Refused(400, code));
        let error = step.apply(&cx).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, code), "{error}");
        step.apply(&cx).await.unwrap();
        assert_eq!(sizes(&script), (0, 6, 0));
        script.trouble("UpdateAutoScalingGroup", Trouble::Refused(400, code));
        let error = step.undo(&cx).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, code), "{error}");
        step.undo(&cx).await.unwrap();
        assert_eq!(sizes(&script), (2, 6, 3), "what was taken away is there again");
    }
}

#[tokio::test]
async fn refusals_say_what_to_mend() {
    let (script, step) = fence(three()).await;
    script.trouble("UpdateAutoScalingGroup", Trouble::Refused(403, "AccessDenied"));
    let error = step.apply(&context()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NeedsPerson);
    assert!(error.message.contains("allow autoscaling:UpdateAutoScalingGroup"), "{error}");
    script.world(|fleet| fleet.missing = true);
    let error = step.inspect(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "group-not-found"));
    assert!(error.message.contains("there is no group shop-group in ap-south-1; mend `group`"), "{error}");
}
