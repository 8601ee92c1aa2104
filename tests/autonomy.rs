//! Records as people make them, against the lab: those that can move traffic without us are found, and pairs by role move.

#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod real;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_route53::Client;
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, HealthCheckConfig, HealthCheckType, ResourceRecordSet, ResourceRecordSetFailover as Role,
};
use aws_sdk_s3::types::PublicAccessBlockConfiguration;
use real::{Daemon, World, until};
use serde_json::{Value, json};

/// A person at Route 53's API, who does not ask us.
struct Hand {
    runtime: tokio::runtime::Runtime,
    route53: Client,
    s3: aws_sdk_s3::Client,
    zone: String,
    bucket: String,
}

impl Hand {
    fn new(world: &World) -> Hand {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let addresses: Value = serde_json::from_slice(&std::fs::read(world.dir.path().join("world.json")).unwrap()).unwrap();
        let text = |key: &str| addresses[key].as_str().unwrap().to_owned();
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(text("aws_endpoint_url"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()));
        let config = runtime.block_on(loader.load());
        let s3 = aws_sdk_s3::config::Builder::from(&config).region(Region::new(text("bucket_region"))).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(s3);
        Hand { route53: Client::new(&config), s3, zone: text("zone_id"), bucket: text("bucket"), runtime }
    }

    /// The front door's record of that site.
    fn record(&self, site: &str) -> ResourceRecordSet {
        let all = self.runtime.block_on(self.route53.list_resource_record_sets().hosted_zone_id(&self.zone).send()).unwrap();
        all.resource_record_sets().iter().find(|set| set.set_identifier() == Some(site)).unwrap().clone()
    }

    fn write(&self, set: ResourceRecordSet) {
        self.send(vec![(ChangeAction::Upsert, set)]);
    }

    fn send(&self, lines: Vec<(ChangeAction, ResourceRecordSet)>) {
        let change = |(action, set)| Change::builder().action(action).resource_record_set(set).build().unwrap();
        let batch = ChangeBatch::builder().set_changes(Some(lines.into_iter().map(change).collect())).build().unwrap();
        let call = self.route53.change_resource_record_sets().hosted_zone_id(&self.zone).change_batch(batch);
        self.runtime.block_on(call.send()).unwrap();
    }

    /// The front door's weighted records become a failover pair.
    fn pair(&self) {
        let weighted = ["primary", "standby"].map(|site| self.record(site));
        let roles = [Role::Primary, Role::Secondary].into_iter();
        let paired = weighted.clone().into_iter().zip(roles).map(|(mut set, role)| {
            (set.weight, set.failover) = (None, Some(role));
            (ChangeAction::Create, set)
        });
        let gone = weighted.into_iter().map(|set| (ChangeAction::Delete, set));
        self.send(gone.chain(paired).collect());
    }

    /// Hides the bucket's objects from the world.
    fn restrict(&self) {
        let block = PublicAccessBlockConfiguration::builder().restrict_public_buckets(true).build();
        let call = self.s3.put_public_access_block().bucket(&self.bucket).public_access_block_configuration(block);
        self.runtime.block_on(call.send()).unwrap();
    }

    /// An ordinary check of the primary's own endpoint.
    fn endpoint_check(&self) -> String {
        let config = HealthCheckConfig::builder().r#type(HealthCheckType::Http).ip_address("127.0.1.11").port(80).resource_path("/healthz");
        let call = self.route53.create_health_check().caller_reference("endpoint").health_check_config(config.build().unwrap());
        self.runtime.block_on(call.send()).unwrap().health_check().unwrap().id().to_owned()
    }

    fn evaluate(&self, site: &str, evaluate: bool) {
        let mut set = self.record(site);
        set.alias_target.as_mut().unwrap().evaluate_target_health = evaluate;
        self.write(set);
    }
}

/// The one finding of that name: whether it is well, and its words.
fn finding(world: &World, code: i32) -> (bool, String) {
    // The hand and each command share the account's few calls a second, and none knows of the others.
    let said =
        until("the account is not throttled", || Some(world.command(&["check", "--json"])).filter(|said| !said.out.contains("Throttling")));
    assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let all: Vec<&Value> = document["findings"].as_array().unwrap().iter().filter(|one| one["subject"] == "shop: R53-AUTONOMOUS").collect();
    assert_eq!(all.len(), 1, "{document:#}");
    // The step itself asks for its switch's check too, and then it says so as well.
    let told = |one: &Value| one["subject"] == all[0]["subject"] || one["words"].as_str().unwrap().contains("would work could not be read");
    let others = document["findings"].as_array().unwrap().iter().filter(|one| one["ok"] == false && !told(one));
    assert_eq!(others.count(), 0, "{document:#}");
    (all[0]["ok"].as_bool().unwrap(), all[0]["words"].as_str().unwrap().to_owned())
}

fn mode_gate(daemon: &Daemon) -> Value {
    let app = daemon.app();
    app["gates"].as_array().unwrap().iter().find(|gate| gate["name"] == "mode").unwrap().clone()
}

#[test]
fn a_check_on_the_record_that_answers_is_found_and_caps_the_mode() {
    let world = World::start();
    let hand = Hand::new(&world);
    assert_eq!(finding(&world, 0), (true, "nothing but watchover moves the records of its plans".into()));

    let check = hand.endpoint_check();
    let mut set = hand.record("primary");
    set.health_check_id = Some(check.clone());
    hand.write(set);
    let (ok, words) = finding(&world, 3);
    assert!(!ok);
    for word in
        ["\"automatic\" is capped at \"approval\"", "[primary]", &check, "HTTP at 127.0.1.11/healthz", "then [standby] answers instead"]
    {
        assert!(words.contains(word), "{word:?} is not in {words}");
    }

    let daemon = Daemon::start(&world.config);
    until("the mode is capped", || (daemon.app()["ruling"] == "ask").then_some(()));
    let gate = mode_gate(&daemon);
    assert_eq!(gate["state"], "asks");
    assert!(gate["words"].as_str().unwrap().starts_with("automatic, capped at approval: "), "{gate}");
    until("the gate is exported", || (daemon.metrics().value("watchover_gate_open", &[("gate", "mode")]) == 0.0).then_some(()));
    assert!(daemon.said().contains("autonomous"), "the log says it");
    daemon.stop();

    // Restarted without Route 53's API it knows what it knew.
    world.act("/fault", &json!({"service": "route53", "action": "answer", "status": 503, "code": "ServiceUnavailable", "message": "gone"}));
    let daemon = Daemon::start(&world.config);
    until("the plan was inspected", || {
        let app = daemon.app();
        let gates = app["gates"].as_array()?;
        let words = gates.iter().find(|gate| gate["name"] == "preflight")?["words"].as_str()?.to_owned();
        words.contains("not everything answered").then_some(())
    });
    assert_eq!(mode_gate(&daemon)["state"], "asks");
    daemon.stop();

    world.edit(&[("mode = \"automatic\"", "mode = \"automatic\"\ntraffic_is_autonomous = true")]);
    let daemon = Daemon::steady(&world.config);
    assert!(mode_gate(&daemon)["words"].as_str().unwrap().contains("the config knows it"), "{}", mode_gate(&daemon));
    daemon.stop();
}

#[test]
fn records_that_follow_their_targets_are_found_before_and_after_the_move() {
    let world = World::start();
    let hand = Hand::new(&world);
    hand.evaluate("standby", true);
    let (ok, words) = finding(&world, 3);
    assert!(!ok && words.contains("after the move, record") && words.contains("[standby]: EvaluateTargetHealth = true"), "{words}");
    world.edit(&[("mode = \"automatic\"", "mode = \"automatic\"\ntraffic_is_autonomous = true")]);
    let (ok, words) = finding(&world, 0);
    assert!(ok && words.contains("the config knows it"), "{words}");
}

#[test]
fn the_switch_is_ours_only_while_nothing_else_decides() {
    let world = World::of("control-plane-down");
    let hand = Hand::new(&world);
    assert_eq!(finding(&world, 0), (true, "nothing but watchover moves the records of its plans".into()));

    hand.evaluate("standby", true);
    let (ok, words) = finding(&world, 3);
    assert!(!ok && words.contains("with the switch thrown, [primary] then answers again"), "{words}");
    hand.evaluate("standby", false);

    let check = hand.record("primary").health_check_id().unwrap().to_owned();
    world.act(
        "/fault",
        &json!({"service": "route53", "operation": "GetHealthCheck", "action": "answer", "status": 403, "code": "AccessDenied", "message": "no", "times": 2}),
    );
    let (ok, words) = finding(&world, 3);
    assert!(!ok && words.contains("could not be read") && words.contains(&check) && words.contains("route53:GetHealthCheck"), "{words}");
    let call = hand.route53.update_health_check().health_check_id(&check).resource_path("/other");
    hand.runtime.block_on(call.send()).unwrap();
    let (ok, words) = finding(&world, 3);
    assert!(!ok && words.contains("is named as the switch, but asks") && words.contains("/other"), "{words}");
}

#[test]
fn a_switch_that_would_move_nobody_is_found_and_shuts_the_gate() {
    let world = World::of("control-plane-down");
    let hand = Hand::new(&world);
    let step = || {
        let said = until("the account is not throttled", || {
            Some(world.command(&["check", "--json"])).filter(|said| !said.out.contains("Throttling"))
        });
        let document: Value = serde_json::from_str(&said.out).unwrap();
        let all = document["findings"].as_array().unwrap().clone();
        let one = all.into_iter().find(|one| one["subject"] == "shop to-standby step traffic").unwrap();
        (said.code, one["ok"].as_bool().unwrap(), one["words"].as_str().unwrap().to_owned())
    };
    assert_eq!(step(), (Some(0), true, "it can be done".into()));

    hand.restrict();
    let check = hand.record("primary").health_check_id().unwrap().to_owned();
    let call = hand.route53.update_health_check().health_check_id(&check).inverted(false);
    hand.runtime.block_on(call.send()).unwrap();
    let (code, ok, words) = step();
    assert_eq!((code, ok), (Some(3), false), "{words}");
    assert!(words.starts_with("refused: Block Public Access of bucket") && words.contains(&format!("{check} is not inverted")), "{words}");
    let plan = world.command(&["plan", "shop"]).out;
    assert!(plan.contains("is not inverted") && plan.contains("s3:PutObject"), "what it would call is shown all the same: {plan}");

    let daemon = Daemon::start(&world.config);
    until("the gate is shut", || {
        let app = daemon.app();
        let gate = app["gates"].as_array()?.iter().find(|gate| gate["name"] == "preflight")?.clone();
        (gate["state"] == "shut" && gate["words"].as_str()?.contains("traffic: Block Public Access of bucket")).then_some(())
    });
    daemon.stop();
}

/// A role without the permission for a look beforehand: `check` says so, and the daemon acts as before there was that look.
#[test]
fn a_look_beforehand_that_is_denied_keeps_nobody_from_learning_the_active_site() {
    let world = World::of("control-plane-down");
    world.act(
        "/fault",
        &json!({"service": "s3", "operation": "GetPublicAccessBlock", "action": "answer", "status": 403, "code": "AccessDenied", "message": "no"}),
    );
    let said = world.command(&["check", "--json"]);
    assert_eq!(said.code, Some(3), "{}{}", said.out, said.err);
    assert!(said.out.contains("could not be read") && said.out.contains("s3:GetBucketPublicAccessBlock"), "{}", said.out);
    let daemon = Daemon::start(&world.config);
    until("the active site is known", || (daemon.app()["active_site"] == "primary").then_some(()));
    daemon.stop();
}

/// As the reference has it for failover records: the lab refuses whatever passes through two records of one role.
#[test]
fn failover_roles_are_swapped_in_a_move_and_back_in_the_next() {
    let world = World::of("dns-validation");
    let hand = Hand::new(&world);
    hand.pair();
    let change = |weight: &str, role: &str| (format!("weight = {weight} }}"), format!("failover = \"{role}\" }}"));
    // There, and back.
    for (from, to) in
        [("0", "SECONDARY"), ("100", "PRIMARY"), ("100", "PRIMARY"), ("0", "SECONDARY")].map(|(weight, role)| change(weight, role))
    {
        world.edit(&[(&from, &to)]);
    }
    let planned = until("the plan is seen", || Some(world.command(&["plan", "shop"]).out).filter(|out| !out.contains("Throttling")));
    assert!(planned.contains("\"Action\":\"DELETE\"") && planned.contains("\"Action\":\"CREATE\""), "{planned}");
    let daemon = Daemon::steady(&world.config);
    let roles = || ["primary", "standby"].map(|site| hand.record(site).failover().unwrap().clone());
    for (order, active, wanted) in
        [("failover", "standby", [Role::Secondary, Role::Primary]), ("failback", "primary", [Role::Primary, Role::Secondary])]
    {
        // The plan of the way back is inspected by and by.
        until("the order is taken", || (world.command(&[order, "shop", "--reason", "roles", "--force"]).code == Some(0)).then_some(()));
        daemon.shows("it moved", |app| app["active_site"] == active && app["incident"].is_null());
        assert_eq!(roles(), wanted);
    }
    daemon.stop();
}
