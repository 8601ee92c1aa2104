use super::*;
use crate::adapters::aws::scripted::fleet::Fleet;
use crate::adapters::aws::scripted::{Script, TARGET, Trouble, context, scripting, step};
use crate::adapters::shell::bench::Bench;

const ARN: &str = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/shop/1";

/// Four wanted, and three of them enough.
async fn capacity(fleet: Fleet) -> (Script<Fleet>, Arc<dyn Step>) {
    let script = Script::start(fleet).await;
    let step = step(&KIND, json!({ "group": "shop-group", "desired": 4 }), &script.ground().await);
    (script, step)
}

async fn missing(step: &Arc<dyn Step>) -> String {
    match step.verify(&context()).await.unwrap() {
        Verification::So(facts) => format!("so: {facts}"),
        Verification::NotYet(words) => words,
    }
}

#[tokio::test]
async fn sizes_are_raised_and_never_lowered() {
    for (is, becomes) in [((0, 0, 0), (4, 4, 4)), ((1, 10, 2), (4, 10, 4)), ((2, 10, 8), (4, 10, 8)), ((6, 12, 6), (6, 12, 6))] {
        let (script, step) = capacity(Fleet { sizes: is, ..Fleet::default() }).await;
        let found = step.inspect(&context()).await.unwrap();
        let (min, max, desired) = becomes;
        if is == becomes {
            assert!(matches!(found, Inspection::UnderWay(_)), "sized, and nothing serves yet: {found:?}");
        } else {
            let Inspection::Possible(facts) = &found else { panic!("{found:?}") };
            assert_eq!(facts["was"], json!({ "min": is.0, "max": is.1, "desired": is.2 }));
            let described = step.describe(&found);
            let mut parameters = json!({ "AutoScalingGroupName": "shop-group" });
            for (name, to, now) in [("MinSize", min, is.0), ("MaxSize", max, is.1), ("DesiredCapacity", desired, is.2)] {
                if to > now {
                    parameters[name] = to.into();
                }
            }
            assert_eq!(described[0].parameters, parameters, "only what has to rise");
        }
        step.apply(&context()).await.unwrap();
        assert_eq!(script.world(|fleet| fleet.sizes), becomes);
        assert_eq!(script.calls("UpdateAutoScalingGroup")[0].region, TARGET);
    }
}

#[tokio::test]
async fn what_another_raised_since_the_inspection_stays_raised() {
    let (script, step) = capacity(Fleet { sizes: (0, 4, 0), ..Fleet::default() }).await;
    step.inspect(&context()).await.unwrap();
    script.world(|fleet| fleet.sizes = (5, 9, 7));
    step.apply(&context()).await.unwrap();
    assert_eq!(script.world(|fleet| fleet.sizes), (5, 9, 7));
}

#[tokio::test]
async fn what_another_raises_while_an_answer_is_lost_stays_raised() {
    let (script, step) = capacity(Fleet { sizes: (2, 20, 10), ..Fleet::default() }).await;
    script.trouble("UpdateAutoScalingGroup", Trouble::LostAnswer);
    assert_eq!(step.apply(&context()).await.unwrap_err().class, ErrorClass::Retry);
    assert_eq!(script.calls("UpdateAutoScalingGroup").len(), 1, "nobody sends it again unread");
    script.world(|fleet| fleet.sizes.2 = 14);
    step.apply(&context()).await.unwrap();
    assert_eq!(script.world(|fleet| fleet.sizes), (4, 20, 14));
}

#[tokio::test]
async fn it_is_done_when_enough_serves() {
    let (script, step) = capacity(Fleet { sizes: (4, 4, 4), ..Fleet::default() }).await;
    let mut pending = Fleet::serving(&["i-1", "i-2"]);
    pending.extend([("i-3", "Pending", "Healthy", false), ("i-4", "InService", "Unhealthy", false)]);
    script.world(|fleet| fleet.members = pending);
    assert_eq!(missing(&step).await, "2 of 3 needed instances in service and healthy (4 in the group)");
    script.world(|fleet| fleet.members = Fleet::serving(&["i-1", "i-2", "i-3"]));
    assert!(missing(&step).await.starts_with("so: "), "three of four are three quarters");
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)));
    script.world(|fleet| fleet.sizes = (4, 4, 2));
    assert!(missing(&step).await.contains("sized to 2, not 4"));
}

#[tokio::test]
async fn targets_of_its_own_must_be_healthy_in_every_target_group() {
    let all = ["i-1", "i-2", "i-3"];
    let healthy = |ids: &[&'static str]| ids.iter().map(|id| (*id, "healthy")).collect::<Vec<_>>();
    let other = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/api/2";
    let fleet = Fleet { sizes: (4, 4, 4), members: Fleet::serving(&all), ..Fleet::default() };
    let (script, step) = capacity(fleet).await;
    for (targets, words) in [
        (
            vec![(ARN, vec![("i-1", "healthy"), ("i-2", "initial"), ("i-3", "healthy")])],
            "2 of 3 needed targets healthy in targetgroup/shop/1",
        ),
        // Another group's targets say nothing about ours.
        (vec![(ARN, healthy(&["i-1", "i-2", "i-8", "i-9"]))], "2 of 3 needed targets healthy in targetgroup/shop/1"),
        (vec![(ARN, healthy(&all)), (other, Vec::new())], "0 of 3 needed targets healthy in targetgroup/api/2"),
        (vec![(ARN, healthy(&all)), (other, healthy(&all))], "so: "),
    ] {
        script.world(|fleet| fleet.targets = targets);
        let said = missing(&step).await;
        assert!(said.starts_with(words), "{said}");
    }
    let asked = script.calls("DescribeTargetHealth");
    assert!(asked.iter().all(|one| one.region == TARGET && one.service == "elasticloadbalancing"));
    assert_eq!((asked[asked.len() - 2].get("TargetGroupArn"), asked[asked.len() - 1].get("TargetGroupArn")), (ARN, other));
}

#[tokio::test]
async fn instances_with_weights_count_by_their_units() {
    let fleet = Fleet { sizes: (24, 24, 24), weights: vec![("i-1", 8), ("i-2", 8), ("i-3", 2)], ..Fleet::default() };
    let script = Script::start(fleet).await;
    // Eighteen units are three quarters.
    let step = step(&KIND, json!({ "group": "shop-group", "desired": 24 }), &script.ground().await);
    script.world(|fleet| fleet.members = Fleet::serving(&["i-1", "i-2"]));
    assert_eq!(missing(&step).await, "16 of 18 needed units in service and healthy (16 in the group)");
    script.world(|fleet| fleet.members = Fleet::serving(&["i-1", "i-2", "i-3"]));
    let Verification::So(facts) = step.verify(&context()).await.unwrap() else { panic!("three instances weigh eighteen units") };
    assert_eq!((&facts["in_service"], &facts["needed"]), (&json!(18), &json!(18)));
    // Each target is an instance of the group, with that instance's weight.
    script.world(|fleet| fleet.targets = vec![(ARN, vec![("i-1", "healthy"), ("i-2", "healthy"), ("i-3", "initial")])]);
    assert_eq!(missing(&step).await, "16 of 18 needed units of targets healthy in targetgroup/shop/1");
    script.world(|fleet| fleet.targets[0].1[2].1 = "healthy");
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)));
    // A person's script counts the same way, with nothing in the group yet.
    script.world(|fleet| (fleet.sizes, fleet.members) = ((0, 24, 0), Vec::new()));
    let found = step.inspect(&context()).await.unwrap();
    let lines = step.script(&found, &scripting(9)).join("\n");
    assert!(lines.contains("wait_for 9 ge 18 aws") && lines.contains(".to_number(WeightedCapacity || "), "{lines}");
    assert!(lines.contains("wait_for 9 ge 1 healthy us-east-1 shop-group"), "{lines}");
}

#[tokio::test]
async fn sizes_in_another_measure_than_units_are_refused_before_anything_moves() {
    let (script, step) = capacity(Fleet { sizes: (0, 64, 0), ..Fleet::default() }).await;
    for kind in ["vcpu", "memory-mib"] {
        script.world(|fleet| fleet.measure = Some(kind));
        let error = step.inspect(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "desired-capacity-type"));
        assert!(error.message.contains(&format!("group shop-group in us-east-1 counts its sizes in {kind}")), "{error}");
        assert!(error.message.contains("set the group's DesiredCapacityType to units"), "{error}");
    }
    script.world(|fleet| fleet.measure = Some("units"));
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::Possible(_)));
}

#[tokio::test]
async fn a_suspended_process_that_makes_it_impossible_is_seen_before_anything_moves() {
    let (script, step) = capacity(Fleet { sizes: (0, 4, 0), ..Fleet::default() }).await;
    for (process, targets, stops) in [
        ("Launch", false, true),
        ("AddToLoadBalancer", true, true),
        ("AddToLoadBalancer", false, false),
        ("AlarmNotification", true, false),
    ] {
        script.world(|fleet| {
            fleet.suspended = vec![process];
            fleet.targets = if targets { vec![(ARN, Vec::new())] } else { Vec::new() };
        });
        match step.inspect(&context()).await {
            Ok(found) => assert!(!stops && matches!(found, Inspection::Possible(_)), "{process}: {found:?}"),
            Err(error) => {
                assert!(stops, "{process}: {error}");
                assert_eq!((error.class, error.code.as_str()), (ErrorClass::NeedsPerson, "process-suspended"));
                let command = format!(
                    "aws autoscaling resume-processes --region us-east-1 --auto-scaling-group-name shop-group --scaling-processes {process}"
                );
                assert!(error.message.contains(&command) && error.message.contains("User suspended"), "{error}");
            }
        }
    }
    // What serves already needs no launch.
    script.world(|fleet| {
        *fleet = Fleet { sizes: (4, 4, 4), members: Fleet::serving(&["1", "2", "3", "4"]), suspended: vec!["Launch"], ..Fleet::default() }
    });
    assert!(matches!(step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)));
}

#[tokio::test]
async fn refusals_are_classed() {
    let (script, step) = capacity(Fleet { sizes: (0, 4, 0), targets: vec![(ARN, Vec::new())], ..Fleet::default() }).await;
    for (status, code, class) in [
        (400, "ScalingActivityInProgress", ErrorClass::Retry),
        (400, "ResourceContention", ErrorClass::Retry),
        (400, "ValidationError", ErrorClass::Refused),
        (403, "AccessDenied", ErrorClass::NeedsPerson),
    ] {
        for _ in 0..3 {
            script.trouble("UpdateAutoScalingGroup", Trouble::Refused(status, code));
        }
        let error = step.apply(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, code), "{error}");
        // What is left over was not sent: a refusal that is final is asked once.
        script.world(|fleet| fleet.sizes = (0, 4, 0));
        while step.apply(&context()).await.is_err() {}
        script.world(|fleet| fleet.sizes = (0, 4, 0));
    }
    script.world(|fleet| (fleet.sizes, fleet.members) = ((4, 4, 4), Fleet::serving(&["1", "2", "3", "4"])));
    script.trouble("DescribeTargetHealth", Trouble::Refused(403, "AccessDenied"));
    let error = step.verify(&context()).await.unwrap_err();
    assert!(error.message.contains("allow elasticloadbalancing:DescribeTargetHealth"), "{error}");
    script.world(|fleet| fleet.missing = true);
    let error = step.inspect(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "group-not-found"));
    assert!(error.message.contains("there is no group shop-group in us-east-1; mend `group`"), "{error}");
}

#[tokio::test]
async fn a_move_that_is_called_off_leaves_the_capacity() {
    let (script, step) = capacity(Fleet { sizes: (4, 4, 4), ..Fleet::default() }).await;
    let words = step.undo(&context()).await.unwrap();
    assert!(words.contains("was left as it is"), "{words}");
    assert_eq!(script.heard().len(), 0);
}

#[tokio::test]
async fn the_script_raises_the_sizes_of_then_and_lowers_none() {
    let (script, step) = capacity(Fleet { sizes: (4, 4, 4), members: Fleet::serving(&["a", "b", "c", "d"]), ..Fleet::default() }).await;
    let so = step.inspect(&context()).await.unwrap();
    assert!(matches!(so, Inspection::AlreadySo(_)));
    script.world(|fleet| (fleet.sizes, fleet.members) = ((0, 4, 0), Vec::new()));
    let possible = step.inspect(&context()).await.unwrap();
    let aws = r#"case "$*" in
        *update-auto-scaling-group*) all="$*"; echo "${all#*--auto-scaling-group-name }" >>"$LOG" ;;
        *MinSize*) cat sizes ;;
        *TargetGroupARNs*) echo None ;;
        *) echo 4 ;;
    esac"#;
    for (sizes, code, asked) in [
        ("0\t2\t0", 0, "shop-group --min-size 4 --max-size 4 --desired-capacity 4\n"),
        ("0\t9\t8", 0, "shop-group --min-size 4\n"),
        ("6\t9\t8", 0, ""),
        ("None", 1, ""),
        ("", 1, ""),
    ] {
        for found in [&so, &possible, &Inspection::CannotTell] {
            let bench = Bench::new(&[("aws", aws)]);
            std::fs::write(bench.path().join("sizes"), format!("{sizes}\n")).unwrap();
            let ran = bench.lines(&step.script(found, &scripting(9)));
            assert_eq!((ran.code, ran.log.as_str()), (Some(code), asked), "{sizes}: {}", ran.said);
        }
    }
}

#[test]
fn more_than_a_group_can_have_is_named_at_its_key() {
    let (found, said) = KIND.judged(json!({ "group": "g", "desired": 3_000_000_000_u64 }));
    assert!(found.is_none());
    assert_eq!(said, ["s.desired: 3000000000 is more than a group can have"]);
}
