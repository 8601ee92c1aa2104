use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::adapters::aws::scripted::zone::{Zone as World, each, text};
use crate::adapters::aws::scripted::{KEY, Script, Trouble, context, element, planned, scripting, step};
use crate::adapters::shell::bench::Bench;
use crate::adapters::steps::Authority;

/// A weighted alias with everything that a record can carry beside.
fn weighted(id: &str, weight: u8) -> String {
    element("Name", "shop.example.com.")
        + "<Type>A</Type>"
        + &element("SetIdentifier", id)
        + &element("Weight", weight)
        + "<AliasTarget><HostedZoneId>ZOLD</HostedZoneId><DNSName>dualstack.primary-alb-123.ap-south-1.elb.amazonaws.com.</DNSName>"
        + "<EvaluateTargetHealth>true</EvaluateTargetHealth></AliasTarget>"
        + &element("HealthCheckId", format!("hc-{id}"))
}

fn world() -> World {
    let endpoint = element("Name", "db.example.com.")
        + "<Type>CNAME</Type><TTL>5</TTL><ResourceRecords><ResourceRecord><Value>old.rds.amazonaws.com</Value></ResourceRecord></ResourceRecords>";
    let located = element("Name", "\\052.example.com.")
        + "<Type>A</Type><SetIdentifier>de</SetIdentifier><GeoLocation><CountryCode>DE</CountryCode></GeoLocation><TTL>77</TTL>"
        + "<ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords><HealthCheckId>hc-de</HealthCheckId>";
    World { records: vec![weighted("primary", 100), weighted("standby", 0), endpoint, located], ..World::default() }
}

fn weights() -> Value {
    let one = |id: &str, weight: u8| json!({ "name": "shop.example.com", "type": "A", "set_identifier": id, "weight": weight });
    json!({ "zone_id": "/hostedzone/Z1", "records": [one("primary", 0), one("standby", 100)] })
}

async fn records(keys: Value) -> (Script<World>, Arc<dyn Step>) {
    let script = Script::start(world()).await;
    let step = step(&KIND, keys, &script.ground().await);
    (script, step)
}

/// Inspects, applies, and gives the records that were sent.
async fn sent(script: &Script<World>, step: &Arc<dyn Step>) -> Vec<String> {
    let Inspection::Possible(_) = step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
    step.apply(&context()).await.unwrap();
    let batches = script.calls("ChangeResourceRecordSets");
    assert_eq!(batches.len(), 1);
    each(&batches[0].body, "ResourceRecordSet").into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn attributes_that_are_not_named_go_back_as_they_were_read() {
    let (script, step) = records(weights()).await;
    let sent = sent(&script, &step).await;
    assert_eq!(sent.len(), 2);
    for (inside, id, weight) in [(&sent[0], "primary", "0"), (&sent[1], "standby", "100")] {
        let alias = text(inside, "AliasTarget");
        for (found, wanted) in [
            (text(inside, "Name"), "shop.example.com."),
            (text(inside, "SetIdentifier"), id),
            (text(inside, "Weight"), weight),
            (text(inside, "HealthCheckId"), &format!("hc-{id}")),
            (text(alias, "HostedZoneId"), "ZOLD"),
            (text(alias, "DNSName"), "dualstack.primary-alb-123.ap-south-1.elb.amazonaws.com."),
            (text(alias, "EvaluateTargetHealth"), "true"),
        ] {
            assert_eq!(found, wanted, "{inside}");
        }
        assert!(!inside.contains("<TTL>") && !inside.contains("<ResourceRecords>"), "{inside}");
    }
}

#[tokio::test]
async fn each_wish_changes_what_it_names() {
    let wish = |record: Value| json!({ "zone_id": "Z1", "records": [record] });
    for (record, has, has_not) in [
        (
            json!({ "name": "*.example.com", "type": "A", "set_identifier": "de", "ttl": 30 }),
            &["<Name>\\052.example.com.</Name>", "<TTL>30</TTL>", "<CountryCode>DE</CountryCode>", "<Value>192.0.2.1</Value>", "hc-de"][..],
            &[][..],
        ),
        (
            json!({ "name": "*.example.com", "type": "A", "set_identifier": "de", "health_check_id": "" }),
            &["<TTL>77</TTL>", "<CountryCode>DE</CountryCode>"],
            &["HealthCheckId"],
        ),
        (
            json!({ "name": "DB.example.com.", "type": "CNAME", "values": ["new.rds.amazonaws.com"] }),
            &["<Value>new.rds.amazonaws.com</Value>", "<TTL>5</TTL>"],
            &["old.rds"],
        ),
        (
            json!({ "name": "shop.example.com", "type": "A", "set_identifier": "primary", "alias": "standby-alb-456.us-east-1.elb.amazonaws.com" }),
            &[
                "<HostedZoneId>ZALB</HostedZoneId>",
                "<DNSName>standby-alb-456.us-east-1.elb.amazonaws.com</DNSName>",
                "<Weight>100</Weight>",
                ">true</E",
            ],
            &["primary-alb", "<TTL>"],
        ),
        (
            json!({ "name": "shop.example.com", "type": "A", "set_identifier": "primary", "values": ["192.0.2.7"] }),
            &["<Value>192.0.2.7</Value>", "<TTL>60</TTL>", "<Weight>100</Weight>", "hc-primary"],
            &["AliasTarget"],
        ),
    ] {
        let (script, step) = records(wish(record.clone())).await;
        let sent = sent(&script, &step).await;
        assert_eq!(sent.len(), 1, "{record}");
        for part in has {
            assert!(sent[0].contains(part), "{record}: {part} in {}", sent[0]);
        }
        for part in has_not {
            assert!(!sent[0].contains(part), "{record}: {part} in {}", sent[0]);
        }
    }
}

#[tokio::test]
async fn a_load_balancer_is_looked_for_in_the_steps_account_and_in_our_own() {
    let name = "standby-alb-456.us-east-1.elb.amazonaws.com";
    let keys =
        json!({ "zone_id": "Z1", "records": [{ "name": "shop.example.com", "type": "A", "set_identifier": "primary", "alias": name }] });
    for (account, holder, asked) in [
        (None, "", &[KEY][..]),
        (Some("network"), "", &["AKIANETWORK"]),
        (Some("network"), KEY, &["AKIANETWORK", KEY]),
        (None, "nobody", &[KEY]),
        (Some("network"), "nobody", &["AKIANETWORK", KEY]),
    ] {
        let script = Script::start(World { balancer_of: holder, ..world() }).await;
        let planned = PlannedStep { account: account.map(str::to_owned), ..planned(&KIND, keys.clone()) };
        let permitted: Vec<Option<String>> = (KIND.permissions)(&planned)
            .into_iter()
            .filter(|one| one.action == "elasticloadbalancing:DescribeLoadBalancers")
            .map(|one| one.account)
            .collect();
        let both = account.map(|name| Some(name.to_owned())).into_iter().chain([None]).collect::<Vec<_>>();
        assert_eq!(permitted, both, "whoever may be asked");
        let step = (KIND.build)(&planned, &script.ground().await).unwrap();
        let found = step.inspect(&context()).await;
        let heard: Vec<String> = script.calls("DescribeLoadBalancers").into_iter().map(|one| one.key).collect();
        assert_eq!(heard, asked, "{account:?} {holder}");
        if holder == "nobody" {
            let error = found.unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "load-balancer-not-found"));
            let words =
                if account.is_some() { "in account \"network\" or our own account; mend `alias`" } else { "in our own account; mend" };
            assert!(error.message.contains(words), "{error}");
        } else {
            assert!(matches!(found.unwrap(), Inspection::Possible(_)));
        }
    }
    // An account that does not let us look hides nothing of the other, and is told where neither has it.
    for (holder, wanted) in [(KEY, None), ("nobody", Some("account \"network\" in us-east-1: AccessDenied"))] {
        let script = Script::start(World { balancer_of: holder, ..world() }).await;
        script.trouble("DescribeLoadBalancers", Trouble::Refused(403, "AccessDenied"));
        let planned = PlannedStep { account: Some("network".to_owned()), ..planned(&KIND, keys.clone()) };
        let found = (KIND.build)(&planned, &script.ground().await).unwrap().inspect(&context()).await;
        match wanted {
            None => assert!(matches!(found.unwrap(), Inspection::Possible(_))),
            Some(words) => assert!(found.unwrap_err().message.contains(words)),
        }
    }
}

#[tokio::test]
async fn what_is_so_already_is_not_sent() {
    for record in [
        json!({ "name": "shop.example.com", "type": "A", "set_identifier": "primary", "weight": 100 }),
        // How the console spells the same load balancer.
        json!({ "name": "Shop.example.com.", "type": "A", "set_identifier": "primary", "alias": "primary-alb-123.ap-south-1.elb.amazonaws.com" }),
        json!({ "name": "db.example.com", "type": "CNAME", "values": ["OLD.rds.amazonaws.com."], "ttl": 5 }),
    ] {
        let (script, step) = records(json!({ "zone_id": "Z1", "records": [record] })).await;
        let found = step.inspect(&context()).await.unwrap();
        assert!(matches!(found, Inspection::AlreadySo(_)), "{record}: {found:?}");
        assert_eq!(step.apply(&context()).await, Ok(json!({ "change": null })));
        assert_eq!(script.calls("ChangeResourceRecordSets").len(), 0);
    }
}

fn placed(id: &str, role: &str) -> String {
    element("Name", "pair.example.com.")
        + "<Type>A</Type>"
        + &element("SetIdentifier", id)
        + &element("Failover", role)
        + "<AliasTarget><HostedZoneId>ZOLD</HostedZoneId><DNSName>dualstack."
        + id
        + ".elb.amazonaws.com.</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
}

/// As the reference has it.
fn roles() -> Value {
    let one = |id: &str, role: &str| json!({ "name": "pair.example.com", "type": "A", "set_identifier": id, "failover": role });
    json!({ "zone_id": "Z1", "records": [one("a", "SECONDARY"), one("b", "PRIMARY")] })
}

async fn pair() -> (Script<World>, Arc<dyn Step>) {
    let script = Script::start(World { records: vec![placed("a", "PRIMARY"), placed("b", "SECONDARY")], ..World::default() }).await;
    let step = step(&KIND, roles(), &script.ground().await);
    (script, step)
}

fn primary(script: &Script<World>) -> String {
    script
        .world(|world| world.records.iter().find(|one| one.contains(">PRIMARY<")).map(|one| text(one, "SetIdentifier").to_owned()))
        .unwrap()
}

#[tokio::test]
async fn failover_roles_are_swapped_and_put_back_by_records_taken_away_and_made_anew() {
    let (script, step) = pair().await;
    let found = step.inspect(&context()).await.unwrap();
    let Inspection::Possible(facts) = found.clone() else { panic!("nothing to do") };
    let cx = StepContext { before: facts, ..context() };
    step.apply(&cx).await.unwrap();
    assert_eq!(primary(&script), "b");
    assert!(matches!(step.verify(&cx).await.unwrap(), Verification::So(_)));
    step.undo(&cx).await.unwrap();
    assert_eq!(primary(&script), "a");
    let batches = script.calls("ChangeResourceRecordSets");
    let said = |batch: &str| -> Vec<String> {
        let sets =
            each(batch, "ResourceRecordSet").into_iter().map(|one| text(one, "SetIdentifier").to_owned() + " " + text(one, "Failover"));
        each(batch, "Action").into_iter().zip(sets).map(|(action, set)| format!("{action} {set}")).collect()
    };
    assert_eq!(said(&batches[0].body), ["DELETE a PRIMARY", "DELETE b SECONDARY", "CREATE a SECONDARY", "CREATE b PRIMARY"]);
    assert_eq!(said(&batches[1].body), ["DELETE a SECONDARY", "DELETE b PRIMARY", "CREATE a PRIMARY", "CREATE b SECONDARY"]);
    // A person sees, and sends, the same.
    let Call { parameters, .. } = step.describe(&found).remove(0);
    let changes = parameters["ChangeBatch"]["Changes"].as_array().unwrap();
    let told: Vec<String> = changes
        .iter()
        .map(|one| {
            let word = |of: &Value| of.as_str().unwrap().to_owned();
            let set = &one["ResourceRecordSet"];
            format!("{} {} {}", word(&one["Action"]), word(&set["SetIdentifier"]), word(&set["Failover"]))
        })
        .collect();
    assert_eq!(told, said(&batches[0].body));
}

#[tokio::test]
async fn roles_of_a_record_that_changed_meanwhile_are_read_anew_and_a_lost_answer_is_no_refusal() {
    let (script, step) = pair().await;
    step.inspect(&context()).await.unwrap();
    script.world(|world| world.records[0] = world.records[0].replace("ZOLD", "ZNEW"));
    let error = step.apply(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "InvalidChangeBatch"), "{error}");
    let Inspection::Possible(facts) = step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
    // Done, but its answer is lost: the second sending finds nothing that it could take away.
    script.trouble("ChangeResourceRecordSets", Trouble::LostAnswer);
    let cx = StepContext { before: facts, ..context() };
    assert_eq!(step.apply(&cx).await.unwrap_err().class, ErrorClass::Retry);
    assert!(matches!(step.inspect(&cx).await.unwrap(), Inspection::UnderWay(_)));
    assert_eq!(primary(&script), "b");
}

#[tokio::test]
async fn a_script_that_swaps_roles_can_be_run_twice() {
    let (_script, step) = pair().await;
    let lines = step.script(&step.inspect(&context()).await.unwrap(), &scripting(0));
    let aws = r#"case "$*" in
        *change-resource-record-sets*)
          if [[ -e swapped ]]; then echo refused >>"$LOG"; exit 254; fi
          touch swapped; echo "$*" >>"$LOG"; echo /change/C1 ;;
        *get-change*) echo INSYNC ;;
        *'Identifier==`"a"`'*) if [[ -e swapped ]]; then echo SECONDARY; else echo PRIMARY; fi ;;
        *) if [[ -e swapped ]]; then echo PRIMARY; else echo SECONDARY; fi ;;
    esac"#;
    let shell = Bench::new(&[("aws", aws)]);
    for _ in 0..2 {
        let ran = shell.lines(&lines);
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert_eq!((ran.log.lines().count(), ran.log.matches("\"DELETE\"").count()), (1, 2), "{}", ran.log);
    }
}

#[tokio::test]
async fn a_record_that_is_not_there_names_those_that_are() {
    let wish =
        |id: &str| json!({ "zone_id": "Z1", "records": [{ "name": "shop.example.com", "type": "A", "set_identifier": id, "weight": 1 }] });
    let (_script, step) = records(wish("stanby")).await;
    let error = step.inspect(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "record-not-found"));
    let words = "zone Z1 has no record shop.example.com A [stanby]; there is shop.example.com A [primary], shop.example.com A [standby]";
    assert!(error.message.contains(words), "{error}");
    let (_script, step) = records(json!({ "zone_id": "Z1", "records": [{ "name": "shpo.example.com", "type": "A", "ttl": 1 }] })).await;
    let error = step.inspect(&context()).await.unwrap_err();
    assert!(error.message.contains("there is nothing of that name"), "{error}");
}

#[tokio::test]
async fn a_change_is_done_when_it_is_everywhere_and_reads_back() {
    let (script, step) = records(weights()).await;
    script.world(|world| world.pending = 1);
    let Inspection::Possible(facts) = step.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
    let cx = StepContext { before: facts, ..context() };
    assert_eq!(step.apply(&cx).await, Ok(json!({ "change": "C1" })));
    assert_eq!(script.calls("ListResourceRecordSets").len(), 1, "what inspect read a moment ago is not read again");
    let Verification::NotYet(words) = step.verify(&cx).await.unwrap() else { panic!("not everywhere yet") };
    assert!(words.contains("change C1 is accepted"), "{words}");
    let facts = loop {
        match step.verify(&cx).await.unwrap() {
            Verification::So(facts) => break facts,
            Verification::NotYet(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!((&facts["change"], &facts["insync"]), (&json!("C1"), &json!("yes")));
    assert_eq!((&facts["now"][0]["Weight"], &facts["now"][1]["Weight"]), (&json!(0), &json!(100)));
    assert!(script.heard().iter().all(|one| one.service == "route53"));
    // Called off: as before, all of it.
    let before = script.world(|world| world.records.clone());
    let words = step.undo(&cx).await.unwrap();
    assert!(words.contains("put back shop.example.com A [primary], shop.example.com A [standby] as before (change C2)"), "{words}");
    let after = script.world(|world| world.records.clone());
    assert_ne!(before, after);
    let weight = |id: &str| after.iter().find(|inside| text(inside, "SetIdentifier") == id).map(|inside| text(inside, "Weight").to_owned());
    assert_eq!((weight("primary").unwrap().as_str(), weight("standby").unwrap().as_str()), ("100", "0"));
    assert_eq!(step.undo(&cx).await.unwrap(), "the records stand as they stood before");
}

/// The zone's own servers.
struct Servers(Mutex<Result<Vec<IpAddr>, String>>);

impl Servers {
    fn answer(&self, address: &str) {
        *self.0.lock().unwrap() = Ok(vec![address.parse().unwrap()]);
    }
}

#[async_trait]
impl Authority for Servers {
    async fn authoritative(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        assert_eq!(name, "shop.example.com");
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_change_whose_number_a_restart_lost_counts_when_the_zones_servers_answer_it() {
    let with = |id: &str, weight: u8, value: &str| {
        let values = element("ResourceRecords", element("ResourceRecord", element("Value", value)));
        let head = element("Name", "shop.example.com.") + "<Type>A</Type>" + &element("SetIdentifier", id);
        head + &element("Weight", weight) + "<TTL>60</TTL>" + &values
    };
    let world = World { records: vec![with("primary", 100, "192.0.2.1"), with("standby", 0, "192.0.2.9")], ..World::default() };
    let script = Script::start(world).await;
    let servers = Arc::new(Servers(Mutex::new(Err("refused".to_owned()))));
    let mut ground = script.ground().await;
    ground.authority = Arc::<Servers>::clone(&servers);
    let fresh = || step(&KIND, weights(), &ground);
    let first = fresh();
    let Inspection::Possible(facts) = first.inspect(&context()).await.unwrap() else { panic!("nothing to do") };
    first.apply(&context()).await.unwrap();
    // As a new process finds it, with the intent on record.
    let cx = StepContext { before: facts, ..context() };
    let second = fresh();
    let found = second.inspect(&cx).await.unwrap();
    let Inspection::UnderWay(facts) = &found else { panic!("{found:?}") };
    assert_eq!(facts["records"], cx.before["records"], "what stood there before, not what stands there now");
    servers.answer("192.0.2.1");
    let Verification::NotYet(words) = second.verify(&cx).await.unwrap() else { panic!("nobody answers it") };
    assert!(words.contains("do not answer shop.example.com with 192.0.2.9 yet"), "{words}");
    servers.answer("192.0.2.9");
    let Verification::So(facts) = second.verify(&cx).await.unwrap() else { panic!("they answer it") };
    assert_eq!((&facts["change"], &facts["insync"]), (&Value::Null, &json!("answered")));
    // Where they cannot tell, the usual time is waited out, but not beyond the step's own.
    *servers.0.lock().unwrap() = Err("refused".to_owned());
    let (third, later) = (fresh(), |micros: i64| StepContext { now: context().now + micros, ..cx.clone() });
    for micros in [0, 59_000_000] {
        let Verification::NotYet(words) = third.verify(&later(micros)).await.unwrap() else { panic!("{micros}") };
        assert!(words.contains("the number of their change is lost") && words.contains("refused"), "{words}");
    }
    let unknown = |found: Verification| matches!(found, Verification::So(facts) if facts["insync"] == json!("unknown"));
    assert!(unknown(third.verify(&later(60_000_000)).await.unwrap()));
    let hurried = StepContext { time_left: Duration::from_secs(5), ..cx.clone() };
    assert!(unknown(fresh().verify(&hurried).await.unwrap()));
    // What is so without us needs no proof of ours.
    assert!(matches!(fresh().inspect(&context()).await.unwrap(), Inspection::AlreadySo(_)));
    assert_eq!(script.calls("ChangeResourceRecordSets").len(), 1);
}

#[tokio::test]
async fn a_change_that_another_undid_or_that_was_lost_is_asked_for_again() {
    let (script, step) = records(weights()).await;
    step.inspect(&context()).await.unwrap();
    step.apply(&context()).await.unwrap();
    script.world(|world| world.records = self::world().records);
    let error = step.verify(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "changed-meanwhile"));
    assert!(error.message.contains("shop.example.com A [primary] of zone Z1"), "{error}");
    step.inspect(&context()).await.unwrap();
    step.apply(&context()).await.unwrap();
    script.trouble("GetChange", Trouble::Refused(404, "NoSuchChange"));
    let error = step.verify(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "NoSuchChange"));
    // The records stand; only the change's number is lost.
    let cx = StepContext { before: json!({}), ..context() };
    assert!(matches!(step.inspect(&cx).await.unwrap(), Inspection::UnderWay(_)));
}

#[tokio::test]
async fn an_old_reading_is_not_written_back() {
    let (script, step) = records(weights()).await;
    step.inspect(&context()).await.unwrap();
    // Somebody attaches another check between inspection and change.
    script.world(|world| world.records.iter_mut().for_each(|inside| *inside = inside.replace("hc-primary", "hc-new")));
    step.apply(&StepContext { now: context().now + FRESH, ..context() }).await.unwrap();
    assert!(script.world(|world| world.records.iter().any(|inside| inside.contains("hc-new"))));
}

#[tokio::test]
async fn a_record_of_a_traffic_policy_is_left_alone() {
    let (script, step) = records(weights()).await;
    script.world(|world| world.records[0].push_str("<TrafficPolicyInstanceId>t-1</TrafficPolicyInstanceId>"));
    let error = step.inspect(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "traffic-policy"));
}

#[tokio::test]
async fn refusals_name_the_permission() {
    let (script, step) = records(weights()).await;
    step.inspect(&context()).await.unwrap();
    script.trouble("ChangeResourceRecordSets", Trouble::Refused(403, "AccessDenied"));
    let error = step.apply(&context()).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NeedsPerson);
    assert!(error.message.contains("allow route53:ChangeResourceRecordSets"), "{error}");
}

#[tokio::test]
async fn the_script_reads_records_back_in_a_zone_of_many_pages() {
    let odd = element("Name", "\\052.example.com.")
        + "<Type>TXT</Type><SetIdentifier>it's a `b\\</SetIdentifier><Weight>1</Weight><TTL>5</TTL>"
        + "<ResourceRecords><ResourceRecord><Value>\"v=1; $(x)\"</Value></ResourceRecord></ResourceRecords>";
    let script = Script::start(World { records: vec![weighted("primary", 100), weighted("standby", 0), odd], ..World::default() }).await;
    let mut keys = weights();
    let odd = json!({ "name": "*.example.com", "type": "TXT", "set_identifier": "it's a `b\\", "weight": 7 });
    keys["records"].as_array_mut().unwrap().push(odd);
    let step = step(&KIND, keys, &script.ground().await);
    let lines = step.script(&step.inspect(&context()).await.unwrap(), &scripting(0));
    // A second page answers each query once more, where pages are followed.
    let aws = r#"case "$*" in
        *change-resource-record-sets*) echo /change/C1 ;;
        *get-change*) echo INSYNC ;;
        *list-resource-record-sets*)
          printf '%s\n' "${@: -5}" >>"$LOG"
          case "$*" in *'Identifier==`"primary"`'*) echo 0 ;; *'Identifier==`"standby"`'*) echo 100 ;; *) echo 7 ;; esac
          [[ "$*" == *--no-paginate*--start-record-name*--start-record-type*--start-record-identifier* ]] || echo None ;;
    esac"#;
    let ran = Bench::new(&[("aws", aws)]).lines(&lines);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    let query = r#"ResourceRecordSets[?Name==`"\\052.example.com."` && Type==`"TXT"` && SetIdentifier==`"it's a \`b\\"`] | [0].Weight"#;
    assert_eq!(ran.log.lines().skip(10).collect::<Vec<_>>(), ["it's a `b\\", "--query", query, "--output", "text"]);
}

#[tokio::test]
async fn a_batch_is_judged_beforehand_with_the_records_that_the_step_does_not_name() {
    let step_of = async |records: Vec<String>, wishes: Value| {
        let script = Script::start(World { records, ..World::default() }).await;
        let step = step(&KIND, json!({ "zone_id": "Z1", "records": wishes }), &script.ground().await);
        (script, step)
    };
    let foreseen = async |step: &Arc<dyn Step>| {
        let found = step.inspect(&context()).await.unwrap();
        step.preflight(&context(), found).await
    };
    let weight = |id: &str, weight: u8| json!({ "name": "Shop.example.com", "type": "A", "set_identifier": id, "weight": weight });
    let role = |id: &str, role: &str| json!({ "name": "pair.example.com", "type": "A", "set_identifier": id, "failover": role });
    let pair = || vec![placed("a", "PRIMARY"), placed("b", "SECONDARY")];
    let weights = || vec![weighted("primary", 100), weighted("standby", 0), weighted("third", 0)];
    // Another type of the name, with a weight above 0: a set of its own.
    let six = weighted("six", 7).replace("<Type>A<", "<Type>AAAA<");
    for (records, wishes, words) in [
        (pair(), json!([role("b", "PRIMARY")]), "records [a], [b] of pair.example.com A would all be PRIMARY"),
        (pair(), json!([role("a", "SECONDARY")]), "records [a], [b] of pair.example.com A would all be SECONDARY"),
        (
            [weights(), vec![six.clone()]].concat(),
            json!([weight("primary", 0)]),
            "records [primary], [standby], [third] of shop.example.com A would all have weight 0",
        ),
    ] {
        let (script, step) = step_of(records, wishes).await;
        let error = foreseen(&step).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Refused, "records-at-odds"));
        assert!(error.message.contains(&format!("zone Z1: after the step, {words}")) && error.message.contains("name "), "{error}");
        // Unreadable, it is no refusal.
        script.trouble("ListResourceRecordSets", Trouble::Refused(403, "AccessDenied"));
        let fresh = self::step(&KIND, json!({ "zone_id": "Z1", "records": [weight("primary", 0)] }), &script.ground().await);
        let error = fresh.preflight(&context(), Inspection::Possible(Value::Null)).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "AccessDenied"));
        assert_eq!(script.calls("ChangeResourceRecordSets").len(), 0);
    }
    let idle = vec![weighted("primary", 0), weighted("standby", 0)];
    for (records, wishes) in [
        (pair(), json!([role("a", "SECONDARY"), role("b", "PRIMARY")])),
        (weights(), json!([weight("primary", 0), weight("third", 1)])),
        // Alone it answers whatever its weight is.
        (vec![weighted("primary", 100)], json!([weight("primary", 0)])),
        // Weights that others have chosen, under another change.
        (idle, json!([{ "name": "shop.example.com", "type": "A", "set_identifier": "primary", "health_check_id": "" }])),
    ] {
        let (script, step) = step_of(records, wishes.clone()).await;
        assert!(matches!(foreseen(&step).await.unwrap(), Inspection::Possible(_)), "{wishes}");
        // The survey that follows in each round asks nothing more.
        let asked = script.calls("ListResourceRecordSets").len();
        step.autonomy(&context()).await.unwrap();
        assert_eq!(script.calls("ListResourceRecordSets").len(), asked, "{wishes}");
    }
}

#[test]
fn records_that_route53_would_refuse_are_named() {
    let said = |records: &[Value]| KIND.judged(json!({ "zone_id": "Z1", "records": records })).1;
    let one = |kind: &str, more: Value| {
        let mut record = json!({ "name": "shop.example.com", "type": kind });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let of = |id: &str, more: Value| {
        let mut record = one("A", more);
        record["set_identifier"] = json!(id);
        record
    };
    for (records, part) in [
        (vec![one("A", json!({"values": ["192.0.2.1", "shop.example.com"]}))], "\"shop.example.com\" is not an IPv4 address"),
        (vec![one("A", json!({"values": ["2001:db8::1"]}))], "is not an IPv4 address"),
        (vec![one("AAAA", json!({"values": ["192.0.2.1"]}))], "is not an IPv6 address"),
        (vec![one("CNAME", json!({"values": ["a.example.com", "b.example.com"]}))], "a CNAME has one"),
        (vec![one("TXT", json!({"values": ["v=spf1 -all"]}))], "as type \"TXT\" needs; write it like '\"v=spf1 -all\"'"),
        (vec![one("SPF", json!({"values": ["v=spf1 -all"]}))], "is not one string in double quotes"),
        (vec![one("TXT", json!({"values": ["\"a\" b"]}))], "is not one string in double quotes"),
        (vec![one("TXT", json!({"values": ["\"a\\\""]}))], "is not one string in double quotes"),
        (vec![one("TXT", json!({"values": [""]}))], "is not one string in double quotes"),
        (vec![one("TXT", json!({"values": [format!("\"{}\"", "x".repeat(256))]}))], "each of up to 255 characters"),
        (vec![one("MX", json!({"values": ["10 mail.example.com", "mail.example.com"]}))], "write it like \"10 mail.example.com\""),
        (vec![one("SRV", json!({"values": ["10 443 shop.example.com"]}))], "a priority, a weight, a port and a host"),
        (vec![one("CAA", json!({"values": ["0 issue ca.example.com"]}))], "a value in double quotes"),
        (vec![of("a", json!({"failover": "PRIMARY"})), of("b", json!({"failover": "PRIMARY"}))], "are to be PRIMARY"),
        (vec![of("a", json!({"failover": "SECONDARY"})), of("b", json!({"failover": "SECONDARY"}))], "are to be SECONDARY"),
        (vec![of("a", json!({"weight": 0})), of("b", json!({"weight": 0}))], "every record of shop.example.com A gets weight 0"),
        (vec![of("a", json!({"weight": 1, "failover": "PRIMARY"}))], "weighted or failover, not both"),
    ] {
        let said = said(&records);
        assert!(said.len() == 1 && said[0].contains(part), "{part}: {said:?}");
    }
    for records in [
        vec![one("A", json!({"values": ["192.0.2.1"]})), one("AAAA", json!({"values": ["2001:db8::1"]}))],
        vec![one("TXT", json!({"values": ["\"v=spf1 ip4:192.0.2.0/24 -all\"", "\"a\" \"b\"\"c\"", "\"\"", "\"a \\\"b\\\" \\052\""]}))],
        vec![one("TXT", json!({"values": [format!("\"{0}\" \"{0}\"", "\\052".repeat(255))]}))],
        vec![one("MX", json!({"values": ["10 mail.example.com"]})), one("SRV", json!({"values": ["10 5 443 shop.example.com"]}))],
        vec![one("CAA", json!({"values": ["0 issue \"ca.example.com; account=1\"", "128 iodef \"mailto:a@example.com\""]}))],
        vec![one("HTTPS", json!({"values": ["1 . alpn=h2"]}))],
        vec![of("a", json!({"failover": "PRIMARY"})), of("b", json!({"failover": "SECONDARY"}))],
        // The other record keeps the weight that it has.
        vec![of("a", json!({"weight": 0}))],
        vec![of("a", json!({"weight": 0})), of("b", json!({"weight": 100}))],
        vec![of("a", json!({"weight": 0})), of("b", json!({"health_check_id": "x"}))],
    ] {
        assert!(said(&records).is_empty(), "{records:?}: {:?}", said(&records));
    }
}
