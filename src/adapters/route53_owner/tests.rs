use super::*;
use crate::adapters::aws::scripted::zone::{Zone as World, each, text};
use crate::adapters::aws::scripted::{Heard, Script, TARGET, Trouble, element};

const NAMES: &[&str] = &["a.example.com", "b.example.com", "c.example.com", "d.example.com"];
/// Long enough for whatever is not meant to run out.
const LONG: Duration = Duration::from_secs(20);

fn zone() -> Zone {
    Zone { account: None, region: TARGET.into(), id: "Z1".into() }
}

fn pick(name: &str, set_identifier: Option<&str>) -> Pick {
    Pick { name: name.into(), kind: "A".into(), set_identifier: set_identifier.map(str::to_owned) }
}

/// A simple record with that value.
fn record(name: &str, value: &str) -> Record {
    let values = serde_json::json!([{ "Value": value }]);
    serde_json::from_value(serde_json::json!({ "Name": name, "Type": "A", "TTL": 60, "ResourceRecords": values })).unwrap()
}

/// What stands inside a weighted record.
fn weighted(name: &str, id: &str) -> String {
    element("Name", name) + "<Type>A</Type>" + &element("SetIdentifier", id) + "<Weight>1</Weight><TTL>60</TTL>"
}

async fn owner(world: World) -> (Script<World>, Owner) {
    let script = Script::start(world).await;
    let owner = script.ground().await.route53;
    (script, owner)
}

/// The records, changed in place.
fn edits(records: &[Record]) -> Vec<Edit> {
    records.iter().map(|record| Edit::new(record, record.clone())).collect()
}

async fn change(owner: &Owner, records: &[Record]) -> Result<String, Failure> {
    owner.change(&zone(), edits(records), LONG).await
}

/// The names that one batch changes, in order.
fn changed(heard: &Heard) -> Vec<String> {
    each(&heard.body, "ResourceRecordSet").into_iter().map(|inside| text(inside, "Name").to_owned()).collect()
}

#[tokio::test]
async fn exact_records_are_found_on_any_page() {
    let names: Vec<String> = (0..700).map(|n| format!("r{n:03}.example.com")).collect();
    let (script, owner) = owner(World::of(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let picks = vec![pick("r699.example.com.", None), pick("R000.example.com", None), pick("r001.example.com", None)];
    let found = owner.read(&zone(), picks).await.unwrap();
    let names: Vec<_> = found.iter().map(|one| if let Found::Record(record) = one { record.name.as_str() } else { "missing" }).collect();
    assert_eq!(names, ["r699.example.com.", "r000.example.com.", "r001.example.com."], "in the order asked for");
    let pages: Vec<_> = script.heard().iter().map(|one| (one.get("name").to_owned(), one.get("maxitems").to_owned())).collect();
    let page = |name: &str, most: &str| (name.to_owned(), most.to_owned());
    assert_eq!(pages, [page("r000.example.com", "300"), page("r699.example.com", "10")], "two of them share a page");
    assert!(script.heard().iter().all(|one| one.path.starts_with("/2013-04-01/hostedzone/Z1/rrset")));
}

#[tokio::test]
async fn a_page_shorter_than_asked_for_is_not_the_end() {
    let world = World { page: 2, records: (0..7).map(|n| weighted("w.example.com.", &format!("s{n}"))).collect(), ..World::default() };
    let (script, owner) = owner(world).await;
    assert_eq!(owner.named(&zone(), "w.example.com").await.unwrap().len(), 7);
    script.world(|world| world.records.push(weighted("v.example.com.", "x")));
    let picks = vec![pick("v.example.com", Some("x")), pick("w.example.com", Some("s6")), pick("w.example.com", Some("s3"))];
    let found = owner.read(&zone(), picks).await.unwrap();
    assert!(found.iter().all(|one| matches!(one, Found::Record(_))), "{found:?}");
}

#[tokio::test]
async fn what_is_missing_names_what_exists() {
    let mut world = World::of(NAMES);
    world.records.extend([weighted("w.example.com.", "primary"), weighted("w.example.com.", "standby")]);
    let (_script, owner) = owner(world).await;
    let found = owner.read(&zone(), vec![pick("w.example.com", Some("stanby")), pick("x.example.com", None)]).await.unwrap();
    let there = vec![pick("w.example.com", Some("primary")), pick("w.example.com", Some("standby"))];
    assert_eq!(found, [Found::Missing(there), Found::Missing(Vec::new())]);
}

#[tokio::test]
async fn escaped_names_are_the_same_names_and_are_written_as_read() {
    let mut world = World::of(&["\\052.example.com"]);
    world.records.push(weighted("\\137http.example.com.", "x"));
    let (script, owner) = owner(world).await;
    let picks = vec![pick("*.Example.com", None)];
    let Found::Record(mut record) = owner.read(&zone(), picks).await.unwrap().remove(0) else { panic!("not found") };
    assert_eq!(record.name, "\\052.example.com.");
    record.ttl = Some(30);
    change(&owner, &[*record]).await.unwrap();
    assert_eq!(changed(&script.calls("ChangeResourceRecordSets")[0]), ["\\052.example.com."]);
    assert_eq!(script.world(|world| world.records.len()), 2, "the same record, not another one");
}

#[tokio::test]
async fn changes_that_come_together_are_one_batch_and_reads_one_call() {
    let (script, owner) = owner(World::of(NAMES)).await;
    let wishes: Vec<Vec<Record>> = NAMES[..3].iter().map(|name| vec![record(name, "192.0.2.9")]).collect();
    let ids = futures_util::future::join_all(wishes.iter().map(|records| change(&owner, records))).await;
    assert!(ids.iter().all(|id| *id == Ok("C1".to_owned())), "{ids:?}");
    let batches = script.calls("ChangeResourceRecordSets");
    assert_eq!(batches.iter().map(changed).collect::<Vec<_>>(), [&NAMES[..3]]);
    assert!(batches[0].body.matches("<Action>UPSERT</Action>").count() == 3, "{}", batches[0].body);
    let zone = zone();
    let reads = NAMES.iter().map(|name| owner.read(&zone, vec![pick(name, None)]));
    assert!(futures_util::future::join_all(reads).await.iter().all(Result::is_ok));
    assert_eq!(script.calls("ListResourceRecordSets").len(), 1);
}

#[tokio::test]
async fn two_wishes_for_one_record_go_one_after_the_other() {
    let (script, owner) = owner(World::of(NAMES)).await;
    let (first, second) = (vec![record(NAMES[0], "192.0.2.1")], vec![record(NAMES[0], "192.0.2.2"), record(NAMES[1], "192.0.2.2")]);
    let (one, two) = tokio::join!(change(&owner, &first), change(&owner, &second));
    assert_eq!((one, two), (Ok("C1".to_owned()), Ok("C2".to_owned())));
    let batches: Vec<_> = script.calls("ChangeResourceRecordSets").iter().map(changed).collect();
    assert_eq!(batches, [&NAMES[..1], &NAMES[..2]]);
}

#[tokio::test]
async fn a_batch_refused_for_one_member_is_split_until_it_stands_alone() {
    for older in [false, true] {
        let (script, owner) = owner(World { refused: vec!["c.example.com"], older, ..World::of(NAMES) }).await;
        let wishes: Vec<Vec<Record>> = NAMES.iter().map(|name| vec![record(name, "192.0.2.9")]).collect();
        let done = futures_util::future::join_all(wishes.iter().map(|records| change(&owner, records))).await;
        let said: Vec<_> = done.iter().map(|one| one.as_ref().map_or_else(|failure| failure.code.as_str(), |_| "done")).collect();
        assert_eq!(said, ["done", "done", "InvalidChangeBatch", "done"], "older: {older}");
        let failure = done[2].as_ref().unwrap_err();
        assert!(failure.message.contains("Tried to change c.example.com, but it is protected"), "{failure}");
        assert!(failure.message.contains("c.example.com A in zone Z1"), "only its own record is named: {failure}");
        let batches: Vec<_> = script.calls("ChangeResourceRecordSets").iter().map(changed).collect();
        let wanted: [&[&str]; 5] = [NAMES, &NAMES[..2], &NAMES[2..], &NAMES[2..3], &NAMES[3..]];
        assert_eq!(batches, wanted);
        let values = script.world(|world| world.records.iter().filter(|inside| inside.contains("192.0.2.9")).count());
        assert_eq!(values, 3);
    }
}

/// What stands inside a record of a failover pair.
fn placed(name: &str, id: &str, role: &str) -> String {
    element("Name", name)
        + "<Type>A</Type>"
        + &element("SetIdentifier", id)
        + &element("Failover", role)
        + "<TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>"
}

fn pair(name: &str) -> [String; 2] {
    [placed(name, "a", "PRIMARY"), placed(name, "b", "SECONDARY")]
}

/// The swap of the roles of those records of a name, as they stand.
async fn swap(owner: &Owner, name: &str, ids: &[&str]) -> Vec<Edit> {
    let swapped = |record: Record| {
        let role = if record.failover.as_deref() == Some("PRIMARY") { "SECONDARY" } else { "PRIMARY" };
        Edit::new(&record, Record { failover: Some(role.into()), ..record.clone() })
    };
    let records = owner.named(&zone(), name).await.unwrap();
    records.into_iter().filter(|record| ids.contains(&record.set_identifier.as_deref().unwrap())).map(swapped).collect()
}

/// The lines of one batch.
fn lines(heard: &Heard) -> Vec<String> {
    let sets = each(&heard.body, "ResourceRecordSet");
    let line = |(action, inside): (&str, &&str)| {
        let name = text(inside, "Name").split('.').next().unwrap();
        format!("{action} {name} {} {}", text(inside, "SetIdentifier"), text(inside, "Failover"))
    };
    each(&heard.body, "Action").into_iter().zip(&sets).map(line).collect()
}

#[tokio::test]
async fn roles_are_swapped_in_one_batch_whose_deletes_come_first_whosever_they_are() {
    let (script, owner) = owner(World { records: [pair("x.example.com."), pair("y.example.com.")].concat(), ..World::default() }).await;
    let zone = zone();
    // One asks for a whole swap, two for half of one each, and one for no swap at all.
    let wishes = [
        swap(&owner, "x.example.com", &["a", "b"]).await,
        swap(&owner, "y.example.com", &["a"]).await,
        swap(&owner, "y.example.com", &["b"]).await,
        edits(&[record("z.example.com", "192.0.2.9")]),
    ];
    let done = futures_util::future::join_all(wishes.into_iter().map(|edits| owner.change(&zone, edits, LONG))).await;
    assert!(done.iter().all(|id| *id == Ok("C1".to_owned())), "{done:?}");
    let batches: Vec<_> = script.calls("ChangeResourceRecordSets").iter().map(lines).collect();
    let wanted = [
        ["DELETE x a PRIMARY", "DELETE x b SECONDARY", "DELETE y a PRIMARY", "DELETE y b SECONDARY"],
        ["CREATE x a SECONDARY", "CREATE x b PRIMARY", "CREATE y a SECONDARY", "CREATE y b PRIMARY"],
    ];
    let wanted: Vec<&str> = wanted.into_iter().flatten().chain(["UPSERT z  "]).collect();
    assert_eq!(batches, [wanted]);
}

#[tokio::test]
async fn a_swap_stays_whole_when_its_batch_is_split_and_who_read_too_early_reads_anew() {
    let (script, owner) = owner(World { records: [pair("x.example.com."), pair("y.example.com.")].concat(), ..World::default() }).await;
    let (early, fine) = (swap(&owner, "x.example.com", &["a", "b"]).await, swap(&owner, "y.example.com", &["a", "b"]).await);
    // Somebody gives one of them another TTL meanwhile.
    script.world(|world| world.records[0] = world.records[0].replace("<TTL>60<", "<TTL>30<"));
    let zone = zone();
    let (stale, done) = tokio::join!(owner.change(&zone, early, LONG), owner.change(&zone, fine, LONG));
    assert_eq!(done, Ok("C1".to_owned()));
    let failure = stale.unwrap_err();
    assert!(failure.message.contains("do not match the current values"), "{failure}");
    assert_eq!((failure.step().class, edit::failed(&failure).class), (crate::ports::ErrorClass::Refused, crate::ports::ErrorClass::Retry));
    let counts: Vec<usize> = script.calls("ChangeResourceRecordSets").iter().map(|heard| lines(heard).len()).collect();
    assert_eq!(counts, [8, 4, 4], "no half of a swap is ever sent");
    // Read anew, it goes through, and what was changed meanwhile stays.
    let again = swap(&owner, "x.example.com", &["a", "b"]).await;
    assert_eq!(owner.change(&zone, again, LONG).await, Ok("C2".to_owned()));
    assert!(script.world(|world| world.records.iter().any(|one| one.contains("<TTL>30<") && one.contains("SECONDARY"))));
    // A record that is gone is read anew too; what is refused for itself is refused.
    let gone = swap(&owner, "x.example.com", &["a", "b"]).await;
    script.world(|world| world.records.retain(|one| !one.contains("x.example.com")));
    let failure = owner.change(&zone, gone, LONG).await.unwrap_err();
    assert!(failure.message.contains("but it was not found"), "{failure}");
    assert_eq!(edit::failed(&failure).class, crate::ports::ErrorClass::Retry);
    script.world(|world| world.refused = vec!["y.example.com"]);
    let failure = owner.change(&zone, swap(&owner, "y.example.com", &["a", "b"]).await, LONG).await.unwrap_err();
    assert_eq!(edit::failed(&failure).class, crate::ports::ErrorClass::Refused);
}

#[tokio::test]
async fn throttling_is_waited_out_with_the_batch_as_a_whole() {
    let (script, owner) = owner(World::of(NAMES)).await;
    for code in ["Throttling", "PriorRequestNotComplete"] {
        script.trouble("ChangeResourceRecordSets", Trouble::Refused(400, code));
    }
    let (first, second) = ([record(NAMES[0], "192.0.2.9")], [record(NAMES[1], "192.0.2.9")]);
    let (one, two) = tokio::join!(change(&owner, &first), change(&owner, &second));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let batches: Vec<_> = script.calls("ChangeResourceRecordSets").iter().map(changed).collect();
    assert_eq!(batches, [&NAMES[..2], &NAMES[..2], &NAMES[..2]]);
}

#[tokio::test]
async fn throttling_is_not_waited_out_beyond_the_askers_time() {
    let (script, owner) = owner(World::of(NAMES)).await;
    for _ in 0..9 {
        script.trouble("ChangeResourceRecordSets", Trouble::Refused(400, "PriorRequestNotComplete"));
    }
    let failure = owner.change(&zone(), edits(&[record(NAMES[0], "192.0.2.9")]), Duration::from_millis(600)).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Throttled, "PriorRequestNotComplete"));
    // A quarter of a second, then half of one: the third try would lie beyond.
    assert!(script.calls("ChangeResourceRecordSets").len() <= 2);
}

/// Waits until so many changes were heard.
async fn heard_changes(script: &Script<World>, count: usize) {
    while script.calls("ChangeResourceRecordSets").len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nothing_is_sent_again_for_who_is_gone() {
    let (script, owner) = owner(World::of(NAMES)).await;
    script.trouble("ChangeResourceRecordSets", Trouble::Refused(400, "Throttling"));
    let (alone, other) = ([record(NAMES[0], "192.0.2.9")], [record(NAMES[1], "192.0.2.9")]);
    tokio::select! {
        _ = change(&owner, &alone) => panic!("it was refused"),
        () = heard_changes(&script, 1) => {}
    }
    tokio::time::sleep(FIRST_PAUSE * 2).await;
    assert_eq!(script.calls("ChangeResourceRecordSets").len(), 1, "its asker was gone before the second try");
    // In company, the others go on without it.
    script.trouble("ChangeResourceRecordSets", Trouble::Refused(400, "Throttling"));
    let gone = async {
        tokio::select! {
            _ = change(&owner, &alone) => panic!("it was refused"),
            () = heard_changes(&script, 2) => {}
        }
    };
    let (done, ()) = tokio::join!(change(&owner, &other), gone);
    assert_eq!(done, Ok("C1".to_owned()));
    let batches: Vec<Vec<String>> = script.calls("ChangeResourceRecordSets").iter().skip(1).map(|heard| sorted(changed(heard))).collect();
    assert_eq!(batches, [&NAMES[..2], &NAMES[1..2]]);
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn a_half_of_a_refused_batch_is_not_sent_for_who_is_gone() {
    let (script, owner) = owner(World { refused: vec![NAMES[1]], ..World::of(NAMES) }).await;
    for name in NAMES {
        owner.named(&zone(), name).await.unwrap();
    }
    let (bad, good) = ([record(NAMES[1], "192.0.2.9")], [record(NAMES[0], "192.0.2.9")]);
    // The batch takes the last turn of this second: its halves wait for the next.
    tokio::select! {
        _ = async { tokio::join!(change(&owner, &bad), change(&owner, &good)) } => panic!("not both at once"),
        () = heard_changes(&script, 1) => {}
    }
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(script.calls("ChangeResourceRecordSets").len(), 1);
    assert!(!script.world(|world| world.records.iter().any(|inside| inside.contains("192.0.2.9"))));
}

#[tokio::test]
async fn each_asker_waits_for_as_long_as_it_has() {
    let (script, owner) = owner(World::of(NAMES)).await;
    script.trouble("ChangeResourceRecordSets", Trouble::Refused(400, "PriorRequestNotComplete"));
    let zone = zone();
    let short = owner.change(&zone, edits(&[record(NAMES[0], "192.0.2.9")]), FIRST_PAUSE - Duration::from_millis(50));
    let long = [record(NAMES[1], "192.0.2.9")];
    let (short, long) = tokio::join!(short, change(&owner, &long));
    assert_eq!(short.unwrap_err().code, "PriorRequestNotComplete");
    assert_eq!(long, Ok("C1".to_owned()));
    let batches: Vec<_> = script.calls("ChangeResourceRecordSets").iter().map(changed).collect();
    assert_eq!(batches, [&NAMES[..2], &NAMES[1..2]]);
}

#[tokio::test]
async fn a_lost_answer_is_asked_again_a_few_times_and_a_refusal_never() {
    let (script, owner) = owner(World::of(NAMES)).await;
    script.trouble("ChangeResourceRecordSets", Trouble::LostAnswer);
    assert!(change(&owner, &[record(NAMES[0], "192.0.2.9")]).await.is_ok());
    assert_eq!(script.calls("ChangeResourceRecordSets").len(), 2);
    for _ in 0..9 {
        script.trouble("ChangeResourceRecordSets", Trouble::LostAnswer);
    }
    let failure = change(&owner, &[record(NAMES[0], "192.0.2.9")]).await.unwrap_err();
    assert_eq!(failure.kind, Kind::NoAnswer);
    assert_eq!(script.calls("ChangeResourceRecordSets").len(), 2 + usize::try_from(LOST_TRIES).unwrap());
    for (status, code, kind) in [(403, "AccessDenied", Kind::AccessDenied), (404, "NoSuchHostedZone", Kind::Rejected)] {
        let (script, owner) = self::owner(World::of(NAMES)).await;
        script.trouble("ChangeResourceRecordSets", Trouble::Refused(status, code));
        assert_eq!(change(&owner, &[record(NAMES[0], "192.0.2.9")]).await.unwrap_err().kind, kind);
        assert_eq!(script.calls("ChangeResourceRecordSets").len(), 1);
    }
}

#[tokio::test]
async fn the_accounts_five_calls_a_second_are_kept_over_all_kinds_of_calls() {
    let (script, owner) = owner(World { pending: 99, ..World::of(NAMES) }).await;
    let start = Instant::now();
    for name in &NAMES[..2] {
        owner.named(&zone(), name).await.unwrap();
        assert_eq!(owner.synced(&zone(), &format!("change-of-{name}")).await, Ok(false));
    }
    change(&owner, &[record(NAMES[0], "192.0.2.9")]).await.unwrap();
    // The sixth turn comes a second after the first, and the first was not before the start.
    owner.read(&zone(), vec![pick(NAMES[0], None)]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(script.heard().len(), 6);
}

#[tokio::test]
async fn who_waits_for_one_change_shares_its_questions() {
    let (script, owner) = owner(World { pending: 1, ..World::of(NAMES) }).await;
    let id = change(&owner, &[record(NAMES[0], "192.0.2.9")]).await.unwrap();
    let waiting = (0..10).map(|_| async {
        while !owner.synced(&zone(), &id).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    futures_util::future::join_all(waiting).await;
    let asked = script.calls("GetChange");
    assert_eq!(asked.len(), 2);
    assert!(asked[0].path.ends_with("/change/C1"), "{}", asked[0].path);
    script.trouble("GetChange", Trouble::Refused(404, "NoSuchChange"));
    assert_eq!(owner.synced(&zone(), "C9").await.unwrap_err().code, "NoSuchChange");
}

#[tokio::test]
async fn a_fleet_whose_surveys_never_end_in_time_learns_its_checks_round_by_round() {
    const APPS: usize = 6;
    // Each app has a weighted pair with two checks of its own: with the pages, more than twelve calls.
    let names: Vec<String> = (0..APPS).map(|app| format!("app{app}.example.com")).collect();
    let mut world = World::of(NAMES);
    for name in &names {
        let with = |id: &str| weighted(&format!("{name}."), id) + &element("HealthCheckId", format!("hc-{name}-{id}"));
        world.records.extend([with("p"), with("s")]);
    }
    let (script, owner) = owner(world).await;
    let zone = zone();
    let round = async || {
        let surveys = names.iter().map(|name| async {
            let survey = Survey { names: vec![name.clone()], switch: None, after: &<[Record]>::to_vec };
            tokio::time::timeout(Duration::from_millis(1_500), owner.survey(&zone, &survey)).await
        });
        futures_util::future::join_all(surveys).await
    };
    let first = round().await;
    assert!(first.iter().any(Result::is_err), "there are not as many turns: {first:?}");
    let mut rounds = 1;
    while round().await.iter().any(Result::is_err) {
        rounds += 1;
        assert!(rounds < 8, "they never learn all of it");
    }
    let asked = script.calls("GetHealthCheck").len();
    assert!(asked <= 2 * APPS + 3 * rounds, "only what the end of a round cut off is read again: {asked} in {rounds} rounds");
    let found = round().await;
    assert!(found.iter().all(|one| one.as_ref().unwrap().as_ref().unwrap().len() == 2), "{found:?}");
    assert_eq!(script.calls("GetHealthCheck").len(), asked, "known by now");
    // What a move reads is what stands there.
    script.world(|world| world.records.iter_mut().for_each(|inside| *inside = inside.replace("<Weight>1<", "<Weight>7<")));
    let Found::Record(read) = owner.read(&zone, vec![pick(&names[0], Some("p"))]).await.unwrap().remove(0) else { panic!("not found") };
    assert_eq!(read.weight, Some(7));
    assert!(owner.named(&zone, &names[0]).await.unwrap().iter().all(|record| record.weight == Some(7)));
}

#[tokio::test]
async fn a_check_that_others_may_leave_unread_is_read_again_for_its_switch() {
    let mut world = World::of(NAMES);
    world.records.extend(["p", "s"].map(|id| weighted("w.example.com.", id) + &element("HealthCheckId", "hc")));
    let (script, owner) = owner(world).await;
    let zone = zone();
    let ask = async |switch: Option<Switch>| {
        let survey = Survey { names: vec!["w.example.com".into()], switch, after: &<[Record]>::to_vec };
        owner.survey(&zone, &survey).await
    };
    script.trouble("GetHealthCheck", Trouble::Refused(403, "AccessDenied"));
    for _ in 0..2 {
        assert!(ask(None).await.unwrap()[0].contains("which we may not read"));
    }
    assert_eq!(script.calls("GetHealthCheck").len(), 1);
    let switch = || Some(Switch { check: "hc".into(), bucket: "b".into(), key: "k".into() });
    script.trouble("GetHealthCheck", Trouble::Refused(403, "AccessDenied"));
    assert_eq!(ask(switch()).await.unwrap_err().kind, Kind::AccessDenied);
    assert!(ask(switch()).await.unwrap()[0].contains("is named as the switch, but asks HTTPS at shop.example.com"));
    assert_eq!(script.calls("GetHealthCheck").len(), 3);
}

#[tokio::test]
async fn more_than_one_batch_holds_is_refused_before_any_call() {
    let (script, owner) = owner(World::default()).await;
    let many: Vec<Record> = (0..501).map(|n| record(&format!("r{n}.example.com"), "192.0.2.1")).collect();
    let failure = change(&owner, &many).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Rejected, "batch-too-large"));
    assert!(failure.message.contains("split the step"), "{failure}");
    assert_eq!(script.heard().len(), 0);
}
