use std::time::Duration;

use super::roles::swapped;
use super::*;
use crate::adapters::aws::CallRecord;
use crate::adapters::aws::scripted::zone::{Zone as World, text};
use crate::adapters::aws::scripted::{KEY, Script, Trouble, context, element, keys as own_keys, planned, scripting, step};
use crate::adapters::shell::bench::Bench as Shell;

fn record(id: &str, role: &str, check: Option<&str>) -> Record {
    let mut value = json!({"Name": "shop.example.com.", "Type": "A", "SetIdentifier": id, "Failover": role, "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.1"}]});
    if let Some(check) = check {
        value["HealthCheckId"] = json!(check);
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_pin_swaps_the_roles_and_its_undoing_gives_the_same_records_back() {
    let plain = vec![record("a", "PRIMARY", Some("hc")), record("b", "SECONDARY", None)];
    assert_eq!(swapped(&plain, "hc", false), Ok(Swap::Done));
    let needed = |records: &[Record], pin: bool| -> Vec<Record> {
        let Ok(Swap::Needed(edits)) = swapped(records, "hc", pin) else { panic!("no swap") };
        edits.iter().map(|edit| edit.becomes().clone()).collect()
    };
    let pinned = needed(&plain, true);
    assert_eq!(pinned, [record("a", "SECONDARY", None), record("b", "PRIMARY", None)]);
    let mut back = needed(&pinned, false);
    back.reverse();
    assert_eq!(back, plain);
}

#[test]
fn a_pair_with_other_checks_is_left_alone() {
    let odd = [record("a", "PRIMARY", Some("other")), record("b", "SECONDARY", None)];
    assert!(swapped(&odd, "hc", true).is_err());
    assert!(swapped(&odd[..1], "hc", true).is_err());
}

/// The zone's own servers: PRIMARY's address while the object is away, SECONDARY's while it is there.
struct Servers(std::sync::Mutex<Result<Vec<IpAddr>, String>>);

#[async_trait]
impl Authority for Servers {
    async fn authoritative(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        assert_eq!(name, "shop.example.com");
        self.0.lock().unwrap().clone()
    }
}

struct Bench {
    script: Script<World>,
    servers: Arc<Servers>,
    followups: Followups,
    step: Arc<dyn Step>,
    /// The same of another incident.
    another: Arc<dyn Step>,
}

impl Bench {
    fn answers(&self, address: &str) {
        *self.servers.0.lock().unwrap() = Ok(vec![address.parse().unwrap()]);
    }

    fn services(&self) -> BTreeSet<String> {
        self.script.heard().into_iter().map(|one| one.service).collect()
    }

    /// The follow-up's end.
    async fn ended(&self) -> crate::adapters::followup::Ended {
        loop {
            if let Some(ended) = self.followups.ended().pop() {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn roles(&self) -> Vec<(String, String, String)> {
        let mut roles: Vec<_> = self.script.world(|world| {
            let three = |inside: &String| ["SetIdentifier", "Failover", "HealthCheckId"].map(|name| text(inside, name).to_owned());
            world.records.iter().map(three).map(|[id, role, check]| (id, role, check)).collect()
        });
        roles.sort();
        roles
    }
}

fn inside(id: &str, role: &str, check: &str) -> String {
    let check = if check.is_empty() { String::new() } else { element("HealthCheckId", check) };
    element("Name", "shop.example.com.")
        + "<Type>A</Type>"
        + &element("SetIdentifier", id)
        + &element("Failover", role)
        + "<TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>"
        + &check
}

fn roles(first: (&str, &str, &str), second: (&str, &str, &str)) -> Vec<(String, String, String)> {
    [first, second].map(|(id, role, check)| (id.to_owned(), role.to_owned(), check.to_owned())).to_vec()
}

/// The policy that a switch needs, changed.
fn policy(more: &Value) -> String {
    let object = "arn:aws:s3:::switches/shop/failed-over";
    let mut statement = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": object});
    statement.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn keys(pin: bool) -> Value {
    json!({
        "bucket": "switches", "key": "shop/failed-over", "region": "eu-west-1", "health_check_id": "hc-1", "zone_id": "Z1",
        "record": "shop.example.com", "pin": pin,
    })
}

async fn bench(pin: bool) -> Bench {
    let world = World {
        records: vec![inside("p", "PRIMARY", "hc-1"), inside("s", "SECONDARY", "")],
        absent: 403,
        inverted: Some(true),
        policy: Some(policy(&json!({}))),
        ..World::default()
    };
    let script = Script::start(world).await;
    let servers = Arc::new(Servers(std::sync::Mutex::new(Ok(vec!["192.0.2.1".parse().unwrap()]))));
    let mut ground = script.ground().await;
    ground.authority = Arc::<Servers>::clone(&servers);
    let plan = PlannedStep { deadline: Duration::from_secs(300), ..planned(&KIND, keys(pin)) };
    let (step, another) = ((KIND.build)(&plan, &ground).unwrap(), (KIND.build)(&plan, &ground).unwrap());
    Bench { script, servers, followups: ground.followups, step, another }
}

fn back() -> StepContext {
    StepContext { direction: Direction::ToPrimary, ..context() }
}

#[tokio::test]
async fn a_failover_asks_nobody_but_the_bucket_and_the_zones_servers() {
    let bench = bench(false).await;
    let found = bench.step.inspect(&context()).await.unwrap();
    let Inspection::Possible(facts) = &found else { panic!("{found:?}") };
    assert_eq!((&facts["present"], &facts["becomes"]), (&json!(false), &json!(true)));
    let described = bench.step.describe(&found);
    assert_eq!((described[0].operation.as_str(), described[0].region.as_str()), ("PutObject", "eu-west-1"));
    let cx = StepContext { before: facts.clone(), ..context() };
    bench.step.apply(&cx).await.unwrap();
    assert!(bench.script.world(|world| world.object));
    let Verification::NotYet(words) = bench.step.verify(&cx).await.unwrap() else { panic!("the servers answer as before") };
    assert!(words.contains("still answer shop.example.com as before"), "{words}");
    // After a restart in between: it was asked for and is under way.
    assert!(matches!(bench.step.inspect(&cx).await.unwrap(), Inspection::UnderWay(_)));
    bench.answers("192.0.2.2");
    let Verification::So(facts) = bench.step.verify(&cx).await.unwrap() else { panic!("not so") };
    assert_eq!((&facts["present"], facts.get("pin")), (&json!(true), None));
    assert_eq!(bench.services(), BTreeSet::from(["s3".to_owned()]), "no control plane on the path");
    let heard = bench.script.heard();
    assert!(heard.iter().all(|one| one.path == "/switches/shop/failed-over"));
    assert!(heard.iter().filter(|one| one.operation == "HeadObject").all(|one| one.key.is_empty()), "asked as the world asks");
    let put = &bench.script.calls("PutObject")[0];
    assert_eq!((put.key.as_str(), put.region.as_str(), put.headers["cache-control"].as_str()), (KEY, "eu-west-1", "no-store"));
}

#[tokio::test]
async fn absent_is_absent_in_both_of_its_words_and_a_failing_bucket_is_neither() {
    let bench = bench(false).await;
    for status in [403, 404] {
        bench.script.world(|world| world.absent = status);
        let found = bench.step.inspect(&context()).await.unwrap();
        assert!(matches!(found, Inspection::Possible(_)), "{status}: {found:?}");
        let Verification::NotYet(words) = bench.step.verify(&context()).await.unwrap() else { panic!("{status}: not there") };
        assert!(words.contains("is not there for the world: look at Block Public Access"), "{words}");
    }
    for status in [500, 503] {
        bench.script.trouble("HeadObject", Trouble::Refused(status, "SlowDown"));
        let error = bench.step.inspect(&context()).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Retry, "{error}");
        assert!(error.message.contains("s3:HeadObject of object switches/shop/failed-over in eu-west-1"), "{error}");
    }
    bench.script.world(|world| world.object = true);
    bench.answers("192.0.2.2");
    assert!(matches!(bench.step.inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)));
}

#[tokio::test]
async fn a_primary_whose_name_does_not_resolve_holds_up_no_switch() {
    let bench = bench(false).await;
    *bench.servers.0.lock().unwrap() = Ok(Vec::new());
    let found = bench.step.inspect(&context()).await.unwrap();
    let Inspection::Possible(facts) = &found else { panic!("{found:?}") };
    assert_eq!((&facts["becomes"], &facts["addresses"]), (&json!(true), &json!([])));
    assert_eq!(bench.step.describe(&found)[0].operation, "PutObject");
    let cx = StepContext { before: facts.clone(), ..context() };
    bench.step.apply(&cx).await.unwrap();
    assert!(bench.script.world(|world| world.object));
    let Verification::NotYet(words) = bench.step.verify(&cx).await.unwrap() else { panic!("proven by nobody") };
    assert!(words.contains("say that shop.example.com has no address"), "{words}");
    bench.answers("192.0.2.2");
    assert!(matches!(bench.step.verify(&cx).await.unwrap(), Verification::So(_)));
}

#[tokio::test]
async fn servers_that_do_not_answer_prove_nothing() {
    let bench = bench(false).await;
    *bench.servers.0.lock().unwrap() = Err("no answer from ns-1".to_owned());
    bench.script.world(|world| world.object = true);
    let error = bench.step.inspect(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "no-authority"));
    let Verification::NotYet(words) = bench.step.verify(&context()).await.unwrap() else { panic!("proven by nobody") };
    assert!(words.contains("no answer from ns-1"), "{words}");
}

#[tokio::test]
async fn the_pin_follows_the_step_and_a_failback_swaps_it_back() {
    let bench = bench(true).await;
    let Inspection::Possible(facts) = bench.step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
    let cx = StepContext { before: facts, ..context() };
    bench.step.apply(&cx).await.unwrap();
    bench.answers("192.0.2.2");
    assert_eq!(bench.services(), BTreeSet::from(["s3".to_owned()]), "not before the step is done");
    let Verification::So(facts) = bench.step.verify(&cx).await.unwrap() else { panic!("not so") };
    assert_eq!(facts["pin"], "started in the background");
    let ended = bench.ended().await;
    assert!(ended.ok && ended.step_id == "shop-7/it" && ended.what == "pin of shop.example.com", "{ended:?}");
    assert_eq!(bench.roles(), roles(("p", "SECONDARY", ""), ("s", "PRIMARY", "")));
    // A second read starts no second follow-up.
    let Verification::So(facts) = bench.step.verify(&cx).await.unwrap() else { panic!("not so") };
    assert_eq!(facts.get("pin"), None);
    // The way back.
    let Inspection::Possible(facts) = bench.step.inspect(&back()).await.unwrap() else { panic!("pinned, so there is something to do") };
    let cx = StepContext { before: facts, ..back() };
    let done = bench.step.apply(&cx).await.unwrap();
    assert_eq!(done["object"], "removed");
    assert_eq!(bench.roles(), roles(("p", "PRIMARY", "hc-1"), ("s", "SECONDARY", "")));
    assert!(!bench.script.world(|world| world.object));
    let order: Vec<_> = bench.script.heard().into_iter().map(|one| one.operation).collect();
    let at = |name: &str| order.iter().rposition(|one| one == name).unwrap();
    assert!(at("ChangeResourceRecordSets") < at("DeleteObject"), "{order:?}");
    bench.answers("192.0.2.1");
    assert!(matches!(bench.step.verify(&cx).await.unwrap(), Verification::So(_)));
}

#[tokio::test]
async fn a_failback_that_meets_a_record_that_changed_meanwhile_reads_it_anew() {
    let bench = bench(true).await;
    bench.script.world(|world| (world.object, world.records) = (true, vec![inside("p", "SECONDARY", ""), inside("s", "PRIMARY", "")]));
    bench.script.trouble("ChangeResourceRecordSets", Trouble::LostAnswer);
    // The second sending meets what the first has done.
    let error = bench.step.apply(&back()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "InvalidChangeBatch"), "{error}");
    assert!(bench.script.world(|world| world.object), "roles first");
    assert_eq!(bench.step.apply(&back()).await.unwrap()["roles"], "the records have these roles already");
    assert_eq!(bench.roles(), roles(("p", "PRIMARY", "hc-1"), ("s", "SECONDARY", "")));
}

#[tokio::test]
async fn a_pin_that_is_refused_is_told_and_fails_no_step() {
    let bench = bench(true).await;
    bench.script.trouble("ListResourceRecordSets", Trouble::Refused(403, "AccessDenied"));
    bench.script.world(|world| world.object = true);
    bench.answers("192.0.2.2");
    assert!(matches!(bench.step.verify(&context()).await.unwrap(), Verification::So(_)));
    let ended = bench.ended().await;
    assert!(!ended.ok && ended.detail.contains("allow route53:ListResourceRecordSets"), "{ended:?}");
    assert!(matches!(bench.step.verify(&context()).await.unwrap(), Verification::So(_)));
    assert_eq!(bench.roles(), roles(("p", "PRIMARY", "hc-1"), ("s", "SECONDARY", "")));
}

#[tokio::test]
async fn undo_puts_the_object_and_the_roles_back() {
    for pin in [false, true] {
        let bench = bench(pin).await;
        let Inspection::Possible(facts) = bench.step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
        let cx = StepContext { before: facts, ..context() };
        bench.step.apply(&cx).await.unwrap();
        bench.answers("192.0.2.2");
        bench.step.verify(&cx).await.unwrap();
        if pin {
            assert!(bench.ended().await.ok);
        }
        let words = bench.step.undo(&cx).await.unwrap();
        assert_eq!(words, "object switches/shop/failed-over is gone again");
        assert!(!bench.script.world(|world| world.object));
        assert_eq!(bench.roles(), roles(("p", "PRIMARY", "hc-1"), ("s", "SECONDARY", "")));
        assert_eq!(bench.services().contains("route53"), pin);
    }
    let error = bench(false).await.step.undo(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::NeedsPerson, "no-record"));
}

#[tokio::test]
async fn refusals_name_the_permission() {
    let bench = bench(false).await;
    bench.script.trouble("PutObject", Trouble::Refused(403, "AccessDenied"));
    let error = bench.step.apply(&context()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NeedsPerson);
    assert!(error.message.contains("allow s3:PutObject"), "{error}");
    bench.script.trouble("DeleteObject", Trouble::Refused(403, "AccessDenied"));
    let error = bench.step.apply(&back()).await.unwrap_err();
    assert!(error.message.contains("allow s3:DeleteObject"), "{error}");
}

impl Bench {
    /// What `check` and the daemon's preflights say.
    async fn foreseen(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        let found = self.step.inspect(cx).await?;
        self.step.preflight(cx, found).await
    }
}

#[tokio::test]
async fn a_policy_that_may_do_is_no_refusal_and_one_that_cannot_be_read_is_told() {
    let bench = bench(false).await;
    bench.script.world(|world| world.policy = Some(policy(&json!({"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}))));
    assert!(matches!(bench.foreseen(&context()).await.unwrap(), Inspection::Possible(_)));
    bench.script.trouble("GetBucketPolicy", Trouble::Refused(403, "AccessDenied"));
    let error = bench.foreseen(&context()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Retry);
    assert!(
        error.message.starts_with("whether the switch would work could not be read: ")
            && error.message.contains("allow s3:GetBucketPolicy")
    );
    bench.script.world(|world| world.policy = Some("<html>".into()));
    let error = bench.foreseen(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "malformed-policy"), "{error}");
}

#[tokio::test]
async fn a_check_that_is_slower_than_the_step_is_refused_beforehand() {
    // Three looks ten seconds apart, and one such pause more.
    for (seconds, slow) in [(39, true), (40, true), (41, false)] {
        let bench = bench(false).await;
        let plan = PlannedStep { deadline: Duration::from_secs(seconds), ..planned(&KIND, keys(false)) };
        let mut ground = bench.script.ground().await;
        ground.authority = Arc::<Servers>::clone(&bench.servers);
        let step = (KIND.build)(&plan, &ground).unwrap();
        let found = step.inspect(&context()).await.unwrap();
        match step.preflight(&context(), found).await {
            Err(error) => {
                assert!(slow, "{seconds}s: {error}");
                assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "switch-moves-nobody"));
                let words = format!(
                    "health check hc-1 takes up to 40s to turn (its interval times its threshold, and one more interval), and the step's deadline is {seconds}s; raise `deadline`"
                );
                assert!(error.message.starts_with(&words), "{error}");
            }
            Ok(found) => assert!(!slow && matches!(found, Inspection::Possible(_)), "{seconds}s: {found:?}"),
        }
    }
}

#[tokio::test]
async fn an_object_that_is_not_there_is_no_error_of_a_call() {
    let world = World { inverted: Some(true), policy: Some(policy(&json!({}))), ..World::default() };
    let script = Script::start(world).await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let hook = Arc::new(move |call: &CallRecord<'_>| noted.lock().unwrap().push((call.operation, call.outcome)));
    let mut ground = Adapters::for_tests_on(Aws::with_keys(&script.spec(), hook, own_keys()).await);
    ground.authority = Arc::new(Servers(std::sync::Mutex::new(Ok(vec!["192.0.2.1".parse().unwrap()]))));
    let step = step(&KIND, keys(false), &ground);
    for absent in [403, 404] {
        script.world(|world| world.absent = absent);
        step.inspect(&context()).await.unwrap();
    }
    script.trouble("HeadObject", Trouble::Refused(500, "InternalError"));
    step.inspect(&context()).await.unwrap_err();
    let outcomes: Vec<&str> = seen.lock().unwrap().iter().filter(|(name, _)| *name == "HeadObject").map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, ["ok", "ok", "error"]);
}

#[tokio::test]
async fn a_switch_that_would_move_nobody_is_refused_beforehand() {
    type Spoil = fn(&mut World);
    let table: [(&str, Spoil); 9] = [
        ("Block Public Access of bucket switches (RestrictPublicBuckets)", |world| world.restricts = Some(true)),
        ("s3:GetPublicAccessBlock of bucket switches in eu-west-1: NoSuchBucket", |world| world.no_bucket = true),
        ("no policy of bucket switches allows s3:GetObject on arn:aws:s3:::switches/shop/failed-over to everybody", |world| {
            world.policy = None;
        }),
        ("no policy of bucket switches allows s3:GetObject", |world| {
            world.policy = Some(policy(&json!({"Resource": "arn:aws:s3:::switches/other"})));
        }),
        ("the policy of bucket switches denies s3:GetObject", |world| world.policy = Some(policy(&json!({"Effect": "Deny"})))),
        ("health check hc-1 does not exist", |world| world.inverted = None),
        ("health check hc-1 is not inverted", |world| world.inverted = Some(false)),
        ("record shop.example.com A [p] is PRIMARY and bears health check hc-2 instead of hc-1", |world| {
            world.records[0] = inside("p", "PRIMARY", "hc-2");
        }),
        ("no record shop.example.com bears health check hc-1", |world| world.records.clear()),
    ];
    for (wanted, spoil) in table {
        let bench = bench(false).await;
        bench.script.world(spoil);
        let error = bench.foreseen(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "switch-moves-nobody"), "{error}");
        assert!(error.message.starts_with(wanted), "{error}");
        // In a move it is too late to ask.
        assert!(matches!(bench.step.inspect(&context()).await.unwrap(), Inspection::Possible(_)), "{wanted}");
    }
    let bench = bench(false).await;
    bench.script.world(|world| (world.restricts, world.inverted) = (Some(true), None));
    let error = bench.foreseen(&context()).await.unwrap_err();
    assert!(error.message.contains("Block Public Access") && error.message.contains("does not exist"), "all at once: {error}");
}

#[tokio::test]
async fn a_switch_that_works_can_be_thrown_and_what_cannot_be_looked_at_refuses_nothing() {
    let bench = bench(false).await;
    for restricts in [None, Some(false)] {
        bench.script.world(|world| world.restricts = restricts);
        assert!(matches!(bench.foreseen(&context()).await.unwrap(), Inspection::Possible(_)), "{restricts:?}");
    }
    let asked = bench.script.calls("GetPublicAccessBlock");
    assert_eq!((asked[0].key.as_str(), asked[0].region.as_str(), asked[0].path.as_str()), (KEY, "eu-west-1", "/switches/"));
    // Who asks next what the same check is, be it for who else moves the record, is told what was just read.
    assert_eq!(bench.step.autonomy(&context()).await.unwrap(), Some(Vec::new()));
    assert_eq!(bench.script.calls("GetHealthCheck").len(), 1);
    bench.script.trouble("GetPublicAccessBlock", Trouble::Refused(403, "AccessDenied"));
    let error = bench.foreseen(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "AccessDenied"), "{error}");
    assert!(error.message.contains("allow s3:GetBucketPublicAccessBlock"), "{error}");
    // The way back needs nothing of it, and what stands there has shown that it works.
    bench.script.world(|world| (world.restricts, world.inverted) = (Some(true), None));
    assert!(matches!(bench.foreseen(&back()).await.unwrap(), Inspection::AlreadySo(_)));
    bench.script.world(|world| world.object = true);
    assert!(matches!(bench.foreseen(&context()).await.unwrap(), Inspection::AlreadySo(_)));
}

#[tokio::test]
async fn a_control_plane_that_fails_refuses_no_switch() {
    for operation in ["ListResourceRecordSets", "GetHealthCheck"] {
        for (status, code) in [(503, "ServiceUnavailable"), (403, "AccessDenied")] {
            let bench = bench(false).await;
            bench.script.trouble(operation, Trouble::Refused(status, code));
            let error = bench.foreseen(&context()).await.unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, code), "{error}");
            assert!(error.message.contains(&format!("route53:{operation}")), "{error}");
        }
    }
    let bench = bench(false).await;
    bench.script.trouble("ListResourceRecordSets", Trouble::Refused(404, "NoSuchHostedZone"));
    assert_eq!(bench.foreseen(&context()).await.unwrap_err().class, ErrorClass::Refused);
}

#[tokio::test]
async fn an_object_that_was_there_already_is_pinned_too() {
    let bench = bench(true).await;
    bench.script.world(|world| world.object = true);
    bench.answers("192.0.2.2");
    // Asked whether it could be done, it is done: by that the active site is learnt.
    assert!(matches!(bench.foreseen(&context()).await.unwrap(), Inspection::AlreadySo(_)));
    assert!(matches!(bench.step.inspect(&context()).await.unwrap(), Inspection::UnderWay(_)));
    let Verification::So(facts) = bench.step.verify(&context()).await.unwrap() else { panic!("not so") };
    assert_eq!(facts["pin"], "started in the background");
    assert!(bench.ended().await.ok);
    assert_eq!(bench.roles(), roles(("p", "SECONDARY", ""), ("s", "PRIMARY", "")));
}

/// A switch that is thrown and proven, its pin just started.
async fn thrown() -> Bench {
    let bench = bench(true).await;
    let Inspection::Possible(facts) = bench.step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
    let cx = StepContext { before: facts, ..context() };
    bench.step.apply(&cx).await.unwrap();
    bench.answers("192.0.2.2");
    assert!(matches!(bench.step.verify(&cx).await.unwrap(), Verification::So(_)));
    bench
}

#[tokio::test]
async fn an_object_that_vanishes_is_what_the_pin_is_against() {
    let bench = thrown().await;
    bench.script.world(|world| world.object = false);
    let ended = bench.ended().await;
    assert!(ended.ok, "{ended:?}");
    assert_eq!(bench.roles(), roles(("p", "SECONDARY", ""), ("s", "PRIMARY", "")));
}

#[tokio::test]
async fn users_that_are_back_are_not_moved_by_a_pin() {
    let bench = thrown().await;
    bench.script.world(|world| world.object = false);
    bench.answers("192.0.2.1");
    let ended = bench.ended().await;
    assert!(!ended.ok && ended.detail.contains("answer shop.example.com as before the switch"), "{ended:?}");
    assert_eq!(bench.roles(), roles(("p", "PRIMARY", "hc-1"), ("s", "SECONDARY", "")));
}

#[tokio::test]
async fn a_failback_calls_off_the_pin_that_is_still_to_come() {
    for vanished in [false, true] {
        let bench = thrown().await;
        bench.script.trouble("ListResourceRecordSets", Trouble::Refused(503, "ServiceUnavailable"));
        while bench.script.calls("ListResourceRecordSets").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench.script.world(|world| world.object = !vanished);
        let failback = &bench.another;
        let found = failback.inspect(&back()).await.unwrap();
        let Inspection::Possible(facts) = found else { panic!("the pin is still to come: {found:?}") };
        failback.apply(&StepContext { before: facts, ..back() }).await.unwrap();
        let ended = bench.ended().await;
        assert!(ended.ok && ended.detail == "not pinned: the switch goes back", "{ended:?}");
        assert_eq!(bench.roles(), roles(("p", "PRIMARY", "hc-1"), ("s", "SECONDARY", "")));
        assert!(!bench.script.world(|world| world.object));
        assert!(matches!(failback.inspect(&back()).await.unwrap(), Inspection::AlreadySo(_)));
    }
}

impl Bench {
    /// A switch that was thrown while the zone's servers were silent, and what its inspection found.
    async fn thrown_blindly(&self) -> StepContext {
        *self.servers.0.lock().unwrap() = Err("no answer from ns-1".to_owned());
        let Inspection::Possible(facts) = self.step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
        assert_eq!((&facts["addresses"], &facts["answered"]), (&Value::Null, &Value::Null));
        let cx = StepContext { before: facts, ..context() };
        self.step.apply(&cx).await.unwrap();
        cx
    }

    async fn waits(&self, cx: &StepContext) -> bool {
        match self.step.verify(cx).await.unwrap() {
            Verification::So(_) => false,
            Verification::NotYet(words) => {
                assert!(words.contains("before the switch is not known"), "{words}");
                true
            }
        }
    }
}

async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_first_answer_after_a_silence_may_still_be_the_old_one() {
    let bench = bench(false).await;
    let cx = bench.thrown_blindly().await;
    bench.answers("192.0.2.1");
    assert!(bench.waits(&cx).await, "the primary's own address proves nothing");
    // Nor after a restart in between.
    let found = bench.another.inspect(&cx).await.unwrap();
    let Inspection::UnderWay(facts) = &found else { panic!("{found:?}") };
    assert_eq!(facts["addresses"], Value::Null, "what was not known stays so");
    assert!(bench.waits(&cx).await);
    bench.answers("192.0.2.2");
    assert!(!bench.waits(&cx).await);
}

#[tokio::test]
async fn a_move_that_was_over_before_the_first_answer_waits_for_the_check_and_no_longer() {
    for (read, seconds) in [(false, 120), (true, 40)] {
        let bench = bench(false).await;
        if read {
            // A preflight read the check: three looks, ten seconds apart.
            bench.foreseen(&context()).await.unwrap();
        }
        let cx = bench.thrown_blindly().await;
        let heard = bench.script.calls("GetHealthCheck").len();
        bench.answers("192.0.2.2");
        assert!(bench.waits(&cx).await, "it may be the old one");
        pass(seconds - 2).await;
        assert!(bench.waits(&cx).await, "{seconds}");
        // An object that was away meanwhile has to be seen as long again.
        bench.script.world(|world| world.object = false);
        assert!(matches!(bench.step.verify(&cx).await.unwrap(), Verification::NotYet(_)));
        bench.script.world(|world| world.object = true);
        assert!(bench.waits(&cx).await);
        pass(seconds - 2).await;
        assert!(bench.waits(&cx).await, "{seconds}");
        pass(3).await;
        assert!(!bench.waits(&cx).await, "{seconds}");
        assert_eq!(bench.script.calls("GetHealthCheck").len(), heard, "a move asks no control plane");
    }
}

/// A bucket and a zone: what is put is there, and a batch of roles makes them right. `pinned` is a file.
const AWS: &str = r#"
    case "$*" in
      *put-object*) echo put >>"$LOG"; touch object; echo '{}' ;;
      *delete-object*) echo delete >>"$LOG"; rm -f object ;;
      *head-object*) [[ -f object ]] || { echo "404" >&2; exit 254; }; echo 30 ;;
      *change-resource-record-sets*) echo roles >>"$LOG"; rm -f pinned; echo /change/C1 ;;
      *get-change*) echo INSYNC ;;
      *'HealthCheckId=='*) if [[ -f pinned ]]; then echo 0; else echo 1; fi ;;
      *'HealthCheckId!='*) if [[ -f pinned ]]; then echo 1; else echo 0; fi ;;
      *) exit 2 ;;
    esac"#;

#[tokio::test]
async fn the_script_goes_where_the_plan_goes_whatever_was_seen() {
    let bench = bench(true).await;
    let there = bench.step.inspect(&context()).await.unwrap();
    for found in [Inspection::CannotTell, Inspection::AlreadySo(Value::Null), there] {
        for (direction, log, left) in [(Direction::ToStandby, "put\n", true), (Direction::ToPrimary, "delete\n", false)] {
            let lines = bench.step.script(&found, &ScriptContext { direction, ..scripting(0) });
            let shell = Shell::new(&[("aws", AWS)]);
            std::fs::write(shell.path().join("object"), "").unwrap();
            let ran = shell.lines(&lines);
            assert_eq!((ran.code, ran.log.as_str()), (Some(0), log), "{found:?}: {}", ran.said);
            assert_eq!(shell.path().join("object").exists(), left);
        }
    }
}

#[tokio::test]
async fn the_script_swaps_pinned_roles_back_or_says_that_it_cannot() {
    let bench = bench(true).await;
    let cx = ScriptContext { direction: Direction::ToPrimary, ..scripting(0) };
    let before = bench.step.script(&bench.step.inspect(&back()).await.unwrap_or(Inspection::CannotTell), &cx);
    bench.script.world(|world| (world.object, world.records) = (true, vec![inside("p", "SECONDARY", ""), inside("s", "PRIMARY", "")]));
    let found = bench.step.inspect(&back()).await.unwrap();
    let described: Vec<String> = bench.step.describe(&found).into_iter().map(|call| call.operation).collect();
    assert_eq!(described, ["ChangeResourceRecordSets", "DeleteObject"]);
    let batch = &bench.step.describe(&found)[0].parameters["ChangeBatch"]["Changes"];
    let actions: Vec<&str> = batch.as_array().unwrap().iter().map(|one| one["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["DELETE", "DELETE", "CREATE", "CREATE"]);
    for (lines, code, log) in [(bench.step.script(&found, &cx), 0, "roles\ndelete\n"), (before, 1, "")] {
        let shell = Shell::new(&[("aws", AWS)]);
        for file in ["object", "pinned"] {
            std::fs::write(shell.path().join(file), "").unwrap();
        }
        let ran = shell.lines(&lines);
        assert_eq!((ran.code, ran.log.as_str()), (Some(code), log), "{}", ran.said);
        assert_eq!(ran.said.contains("a pin has swapped the roles since this was written"), code == 1, "{}", ran.said);
        // A second time nothing is deleted that stands no more.
        let again = shell.lines(&lines);
        let log = if code == 0 { "roles\ndelete\ndelete\n" } else { "" };
        assert_eq!((again.code, again.log.as_str()), (Some(code), log), "{}", again.said);
    }
}

#[tokio::test]
async fn a_record_with_a_command_in_its_name_runs_none() {
    let bench = Script::start(World::default()).await;
    let keys = json!({
        "bucket": "a'b $(touch taken)", "key": "k\ntouch taken", "region": "eu-west-1;touch taken", "health_check_id": "hc\ntouch taken\n#",
        "zone_id": "Z`touch taken`", "record": "shop\ntouch taken\n# $(touch taken).example.com", "pin": true,
    });
    let step = step(&KIND, keys, &bench.ground().await);
    for direction in [Direction::ToStandby, Direction::ToPrimary] {
        let shell = Shell::new(&[("aws", AWS)]);
        let ran = shell.lines(&step.script(&Inspection::CannotTell, &ScriptContext { direction, ..scripting(0) }));
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert!(!shell.path().join("taken").exists(), "{}", ran.said);
    }
}
