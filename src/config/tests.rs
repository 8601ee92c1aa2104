//! The judge against good files and bad ones; the kinds are a stand-in with the reference's key lists.

use super::judge::Table;
use super::*;
use crate::domain::model::Mode;
use crate::domain::plan::{Class, Repeat, Reversibility};

/// Key lists of the reference's kinds; `!` marks one that must be given.
const SIGNALS: &[(&str, bool, &[&str])] = &[
    (
        "http",
        false,
        &["!url", "connect_to", "server_name", "method", "expect", "ca_file", "verify_tls", "follow_redirects", "max_body", "keep_alive"],
    ),
    ("rds-replica", true, &["!db_instance", "stale_after"]),
    ("dns", false, &["host", "type", "at", "expect"]),
    ("tcp", false, &["!connect_to"]),
];
const STEPS: &[(&str, Class, bool, &str, &[&str])] = &[
    ("fence-primary", Class::Other, true, "5s", &["!group"]),
    ("rds-promote-replica", Class::Data, false, "15m", &["!db_instance", "drain", "backup_retention", "multi_az"]),
    ("autoscaling-capacity", Class::Capacity, false, "10m", &["!group", "!desired", "min_success"]),
    ("route53-records", Class::Traffic, false, "2m", &["!zone_id", "!records"]),
    ("s3-switch", Class::Traffic, false, "2m", &["!bucket", "!key", "!region", "!health_check_id", "!zone_id", "!record", "pin"]),
    ("webhook", Class::Other, false, "10s", &["url", "url_file", "format"]),
];

struct Stub;

fn judge(table: &Table, keys: &[&str]) -> Option<Value> {
    let mut found = serde_json::Map::new();
    let mut good = true;
    for key in keys {
        let name = key.trim_start_matches('!');
        match table.raw(name) {
            Some(value) => drop(found.insert(name.to_owned(), value.clone())),
            None if key.starts_with('!') => {
                table.fault(name, "is missing");
                good = false;
            }
            None => {}
        }
    }
    if keys.contains(&"!url") && table.has("url") {
        good &= table.url("url", &["http", "https"]).is_some();
    }
    good.then_some(Value::Object(found))
}

impl Catalogue for Stub {
    fn signal_kinds(&self) -> Vec<&'static str> {
        SIGNALS.iter().map(|kind| kind.0).collect()
    }
    fn step_kinds(&self) -> Vec<&'static str> {
        STEPS.iter().map(|kind| kind.0).collect()
    }
    fn signal(&self, kind: &str) -> Option<SignalTraits> {
        SIGNALS.iter().find(|one| one.0 == kind).map(|one| SignalTraits { aws: one.1, replica: one.1 })
    }
    fn step(&self, kind: &str) -> Option<StepTraits> {
        STEPS.iter().find(|one| one.0 == kind).map(|one| StepTraits {
            class: one.1,
            reversibility: if one.1 == Class::Data { Reversibility::ForwardOnly } else { Reversibility::Reversible },
            repeat: if one.0 == "webhook" { Repeat::AtLeastOnce } else { Repeat::Inspectable },
            default_deadline: humantime::parse_duration(one.3).unwrap(),
            at_source: one.2,
            first: false,
        })
    }
    fn judge_signal(&self, kind: &str, table: &Table, _: &SignalPlace) -> Option<Value> {
        judge(table, SIGNALS.iter().find(|one| one.0 == kind)?.2)
    }
    fn judge_step(&self, kind: &str, table: &Table, _: &Place) -> Option<Value> {
        judge(table, STEPS.iter().find(|one| one.0 == kind)?.4)
    }
}

const REFERENCE: &str = include_str!("../../config.toml");

/// A small file that is well; tests change single lines of it.
const SMALL: &str = r#"
[witness]
urls = ["https://one.example/"]
[[app]]
name = "shop"
[app.front_door]
url = "https://shop.example.com/"
[app.primary]
region = "ap-south-1"
load_balancer = "p.example.com"
[[app.primary.signal]]
name = "alb"
kind = "http"
url = "https://shop.example.com/"
connect_to = "p.example.com:443"
[app.standby]
region = "us-east-1"
load_balancer = "s.example.com"
[[app.standby.signal]]
name = "alb"
kind = "http"
url = "https://shop.example.com/"
connect_to = "s.example.com:443"
[[app.standby.signal]]
name = "replica"
kind = "rds-replica"
db_instance = "shop-replica"
[[app.failover]]
name = "promote"
kind = "rds-promote-replica"
db_instance = "shop-replica"
[[app.failover]]
name = "traffic"
kind = "route53-records"
zone_id = "Z1"
records = []
"#;

fn judged(text: &str) -> Result<Config, ConfigErrors> {
    judge_text(Path::new("config.toml"), text, Vec::new(), &Stub)
}

/// What is said of `SMALL` with the replacements made; each must apply.
fn said(changes: &[(&str, &str)]) -> String {
    let mut text = SMALL.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in the small file");
        text = text.replacen(from, to, 1);
    }
    judged(&text).map(|config| format!("{:?}", config.warnings)).unwrap_or_else(|errors| errors.to_string())
}

/// Asserts on the one problem that a change must bring, and that it brings no other.
fn only(changes: &[(&str, &str)], path: &str, words: &str) {
    let said = said(changes);
    assert!(said.starts_with("config.toml: 1 problem\n"), "{changes:?}: {said}");
    assert!(said.contains(&format!("\n  {path}: ")), "{path} is not in {said}");
    assert!(said.contains(words), "{words:?} is not in {said}");
}

#[test]
fn the_committed_reference_is_free_of_problems_and_warnings() {
    let config = judged(REFERENCE).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let shop = &config.apps[0];
    assert_eq!(shop.policy.failover.steps.len(), 5);
    assert_eq!(shop.policy.failover.step("fence").unwrap().region, "ap-south-1");
    assert_eq!(shop.policy.failover.step("promote").unwrap().region, "us-east-1");
    assert_eq!(shop.policy.failover.step("promote").unwrap().after, ["fence"]);
    assert!(shop.policy.failover.step("capacity").unwrap().after.is_empty());
    assert_eq!(shop.policy.standby.signals[1].interval, Duration::from_secs(15));
}

#[test]
fn the_reference_with_its_comments_taken_out_says_the_same_as_the_defaults() {
    let config = judged(REFERENCE).unwrap();
    let small = judged(SMALL).unwrap_or_else(|errors| panic!("{errors}"));
    let (full, bare) = (&config.apps[0].policy, &small.apps[0].policy);
    let times = |policy: &AppPolicy| {
        (
            [policy.rto_objective, policy.rpo_objective, policy.min_outage, policy.startup_grace, policy.cooldown],
            [policy.approval_timeout, policy.move_timeout, policy.prove_timeout],
            (policy.mode, policy.priority, policy.on_rpo_exceeded, policy.front_door, policy.traffic_is_autonomous),
        )
    };
    assert_eq!(times(full), times(bare));
    let looks = |policy: &AppPolicy| {
        let signal = &policy.primary.signals[0];
        (signal.interval, signal.fast_interval, signal.timeout, signal.fall, signal.rise, signal.window)
    };
    assert_eq!(looks(full), looks(bare));
    assert_eq!((config.daemon.listen, config.witness.pace), (small.daemon.listen, small.witness.pace));
    assert_eq!((config.aws.call_timeout, config.aws.attempts), (small.aws.call_timeout, small.aws.attempts));
}

#[test]
fn every_problem_is_named_at_once() {
    let said = said(&[
        ("[witness]", "[daemon]\nlisten = \"localhost\"\nlitsen = 1\n[witness]"),
        ("name = \"shop\"", "name = \"shop\"\nmin_outage = 3\ncooldown = \"0s\"\nmode = \"automatc\""),
        ("url = \"https://shop.example.com/\"", "url = \"shop.example.com\""),
        ("name = \"alb\"\nkind = \"http\"", "name = \"alb\"\nkind = \"http\"\nfall = 0\nintervall = \"1s\""),
        ("region = \"us-east-1\"", "region = \"ap-south-1\""),
        ("zone_id = \"Z1\"", "zone_id = \"Z1\"\nafter = [\"promot\"]"),
    ]);
    for line in [
        "daemon.listen: \"localhost\" is not an address with a port",
        "daemon.litsen: unknown key; did you mean \"listen\"?",
        "app.shop.min_outage: 3 has no unit",
        "app.shop.cooldown: is zero; it must be at least \"1s\"",
        "did you mean \"automatic\"?",
        "app.shop.front_door.url: \"shop.example.com\" is not a URL",
        "app.shop.primary.signal.alb.fall: 0 is not a whole number of at least 1",
        "app.shop.primary.signal.alb.intervall: unknown key; did you mean \"interval\"?",
        "app.shop.standby.region: \"ap-south-1\" is the primary's region too",
        "app.shop.failover.traffic.after: `after` names \"promot\", but the steps here are promote, traffic",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}

#[test]
fn single_faults_bring_single_problems() {
    only(&[("name = \"promote\"", "name = \"promote\"\nafter = [\"traffic\"]")], "app.shop.failover.promote.after", "runs in a circle");
    only(&[("name = \"promote\"", "name = \"promote\"\nonly = \"graceful\"")], "app.shop.failover", "send users on without their data");
    let planned = |name: &str| (format!("name = \"{name}\""), format!("name = \"{name}\"\nonly = \"graceful\""));
    let (promote, traffic) = (planned("promote"), planned("traffic"));
    let (promote, traffic) = ((promote.0.as_str(), promote.1.as_str()), (traffic.0.as_str(), traffic.1.as_str()));
    only(&[traffic], "app.shop.failover", "would move the data and leave the users");
    only(&[promote, traffic], "app.shop.failover", "every [[app.failover]] of shop is only for graceful moves");
    only(
        &[("urls = [\"https://one.example/\"]", "urls = [\"https://one.example/\", \"https://one.example\"]")],
        "witness.urls",
        "one witness is one witness",
    );
    only(&[("name = \"promote\"", "name = \"promote\"\nafter = [\"promote\"]")], "app.shop.failover.promote.after", "waits for itself");
    only(&[("zone_id = \"Z1\"", "zone_id = \"Z1\"\nafter = []")], "app.shop.failover.traffic.after", "moves traffic before the data");
    only(
        &[("kind = \"rds-promote-replica\"", "kind = \"rds-promote\"")],
        "app.shop.failover.promote.kind",
        "did you mean \"rds-promote-replica\"?",
    );
    only(&[("kind = \"http\"", "kind = \"htpp\"")], "app.shop.primary.signal.alb.kind", "did you mean \"http\"?");
    only(&[("zone_id", "account = \"net\"\nzone_id")], "app.shop.failover.traffic.account", "write [account.net]");
    only(
        &[("load_balancer = \"p.example.com\"\n", ""), ("load_balancer = \"s.example.com\"", "marker = { header = \"x\", value = \"s\" }")],
        "app.shop.primary.load_balancer",
        "nothing could prove",
    );
    only(&[("s.example.com", "P.example.com.")], "app.shop.standby.load_balancer", "is the primary's too");
    only(
        &[("load_balancer = \"p.example.com\"", "load_balancer = \"p.example.com\"\ndown_when = 2")],
        "app.shop.primary.down_when",
        "only 1 here count",
    );
    only(
        &[("load_balancer = \"p.example.com\"", "load_balancer = \"p.example.com\"\nmin_known = 2")],
        "app.shop.primary.min_known",
        "only 1 here count",
    );
    only(&[("name = \"shop\"", "name = \"shop\"\nrto_objective = \"2s\"")], "app.shop.rto_objective", "shorter than min_outage");
    only(&[("urls = [\"https://one.example/\"]", "urls = []")], "witness.urls", "our own uplink");
    only(&[("[witness]", "[witness]\nneed_up = 3")], "witness.need_up", "more than can ever be up");
    only(&[("[witness]", "[witness]\nneed_up = 0")], "witness.need_up", "switches the test");
    only(&[("name = \"replica\"", "name = \"alb\"")], "app.shop.standby.signal.alb[1].name", "another signal");
    only(&[("name = \"replica\"", "name = \"Replica 1\"")], "app.shop.standby.signal.Replica 1.name", "a-z, 0-9");
    only(
        &[("kind = \"rds-replica\"", "kind = \"rds-replica\"\nfast_interval = \"1s\"")],
        "app.shop.standby.signal.replica.fast_interval",
        "leave it out",
    );
    only(
        &[(
            "url = \"https://shop.example.com/\"\n[app.primary]",
            "url = \"https://shop.example.com/\"\nconnect_to = \"x:1\"\n[app.primary]",
        )],
        "app.shop.front_door.connect_to",
        "as users see it",
    );
    only(
        &[("name = \"shop\"", "name = \"shop\"\nprobe = { window = { down_rate = 0 } }")],
        "app.shop.probe.window.down_rate",
        "without a single bad look",
    );
    only(
        &[("name = \"shop\"", "name = \"shop\"\nprobe = { window = { span = \"10s\", min_looks = 11 } }")],
        "app.shop.probe.window.min_looks",
        "holds 10",
    );
    only(&[("name = \"shop\"", "name = \"shop\"\nprobe = { fast_interval = \"2s\" }")], "app.shop.probe.fast_interval", "looks faster");
    only(
        &[(
            "url = \"https://shop.example.com/\"\n[app.primary]",
            "url = \"https://shop.example.com/\"\ninterval = \"1s\"\nfast_interval = \"2s\"\n[app.primary]",
        )],
        "app.shop.front_door.fast_interval",
        "looks faster",
    );
    only(&[("region = \"us-east-1\"", "region = \"Virginia\"")], "app.shop.standby.region", "like \"eu-west-1\"");
    only(&[("[witness]", "[daemon]\nlog = { filter = \"a=b=c\" }\n[witness]")], "daemon.log.filter", "not a filter");
}

/// Asserts on the one warning that a change must bring, and that it brings no other and no problem.
fn warned(changes: &[(&str, &str)], path: &str, words: &str) {
    let said = said(changes);
    assert!(said.starts_with("[Problem {") && said.matches("Problem {").count() == 1, "{changes:?}: {said}");
    assert!(said.contains(&format!("path: {path:?}")), "{path} is not in {said}");
    assert!(said.contains(words), "{words:?} is not in {said}");
}

const FAILBACK: &str = "[[app.failback]]\nname = \"back\"\nkind = \"route53-records\"\nzone_id = \"Z1\"\nrecords = []\n[[app.failover]]";

#[test]
fn a_signal_that_is_up_only_once_users_have_moved_is_refused_where_a_move_would_wait_for_it() {
    let replica = "[[app.standby.signal]]\nname = \"replica\"";
    let dns =
        |site: &str, more: &str| format!("[[app.{site}.signal]]\nname = \"dns\"\nkind = \"dns\"\nexpect = \"load-balancer\"\n{more}\n");
    let standby = |more: &str| dns("standby", more) + replica;
    for required in ["", "required = \"start\"", "required = \"traffic\""] {
        only(&[(replica, &standby(required))], "app.shop.standby.signal.dns.required", "write required = \"never\"");
    }
    assert_eq!(said(&[(replica, &standby("required = \"never\""))]), "[]");
    assert_eq!(said(&[(replica, &(standby("").replace("load-balancer", "any")))]), "[]");
    // The primary is a target only where there is a way back.
    let primary = dns("primary", "") + "[app.standby]";
    assert_eq!(said(&[("[app.standby]", &primary)]), "[]");
    only(&[("[app.standby]", &primary), ("[[app.failover]]", FAILBACK)], "app.shop.primary.signal.dns.required", "only the move brings");
}

#[test]
fn a_signal_that_says_nothing_of_its_site_is_named() {
    let (p, s) = ("connect_to = \"p.example.com:443\"", "connect_to = \"s.example.com:443\"");
    let standby = "app.shop.standby.signal.alb";
    for door in ["", "connect_to = \"Shop.example.com.:8443\""] {
        let key = if door.is_empty() { "url" } else { "connect_to" };
        only(&[(s, door)], &format!("{standby}.{key}"), "leads to the front door");
        warned(&[(p, door)], &format!("app.shop.primary.signal.alb.{key}"), "leads to the front door");
        assert_eq!(said(&[(s, &format!("{door}\nrequired = \"never\""))]), "[]");
    }
    let tcp = "[[app.standby.signal]]\nname = \"port\"\nkind = \"tcp\"\nconnect_to = \"shop.example.com:443\"\n[[app.failover]]";
    only(&[("[[app.failover]]", tcp)], "app.shop.standby.signal.port.connect_to", "leads to the front door");
    only(&[(s, p)], &format!("{standby}.connect_to"), "the load_balancer of the other site");
    only(&[(p, s)], "app.shop.primary.signal.alb.connect_to", "the load_balancer of the other site");
    let never = format!("{p}\nrequired = \"never\"");
    only(&[(s, &never)], &format!("{standby}.connect_to"), "the load_balancer of the other site");
    let marked =
        |host: &str| (format!("load_balancer = \"{host}.example.com\""), format!("marker = {{ header = \"x\", value = \"{host}\" }}"));
    let (one, two) = (marked("p"), marked("s"));
    let marked = [(one.0.as_str(), one.1.as_str()), (two.0.as_str(), two.1.as_str()), (s, p)];
    only(&marked, &format!("{standby}.connect_to"), "the very look of a signal of the other site");
    // A place that both sites are asked of, in different words, may know the one from the other.
    let asked = format!("{p}\nexpect = {{ body_contains = \"us-east-1 ok\" }}");
    assert_eq!(said(&[marked[0], marked[1], (s, &asked)]), "[]");
    // One machine of many ports is a rehearsal.
    let here = "connect_to = \"127.0.0.1:9\"";
    assert_eq!(said(&[(p, here), (s, here)]), "[]");
}

#[test]
fn a_front_door_that_is_a_site_is_refused() {
    let door = ("url = \"https://shop.example.com/\"\n[app.primary]", "url = \"https://P.example.com/\"\n[app.primary]");
    only(&[door], "app.shop.front_door.url", "a site's own load_balancer");
}

#[test]
fn witnesses_are_neutral_places() {
    let with = |url: &'static str| ("https://one.example/", url);
    for url in
        ["http://localhost/", "http://127.0.0.1:80/", "http://169.254.169.254/", "http://[::1]/", "http://0.0.0.0/", "http://[fe80::1]/"]
    {
        only(&[with(url)], "witness.urls", "answered by this machine or its own link");
        let here = ("connect_to = \"p.example.com:443\"", "connect_to = \"127.0.0.1:9\"");
        assert_eq!(said(&[with(url), here]), "[]", "a rehearsal on one machine");
    }
    warned(&[with("https://p.example.com/x")], "witness.urls", "is the load_balancer of app.shop.primary");
    warned(&[with("https://shop.example.com/")], "witness.urls", "is the front door of app.shop");
    assert_eq!(said(&[with("http://10.0.0.1/")]), "[]");
}

#[test]
fn steps_that_work_on_the_wrong_side_are_named() {
    let promote = |more: &str| format!("kind = \"rds-promote-replica\"\n{more}");
    let kind = "kind = \"rds-promote-replica\"";
    only(&[(kind, &promote("region = \"ap-south-1\""))], "app.shop.failover.promote.region", "the move goes to, \"us-east-1\"");
    let more = |kind: &str, region: &str| {
        let own = if kind == "fence-primary" { "on_failure = \"continue\"" } else { "desired = 2" };
        format!("[[app.failover]]\nname = \"it\"\nkind = \"{kind}\"\ngroup = \"g\"\n{own}\nregion = \"{region}\"\n[[app.failover]]")
    };
    let at = "app.shop.failover.it.region";
    only(&[("[[app.failover]]", &more("fence-primary", "us-east-1"))], at, "the move leaves, \"ap-south-1\"");
    only(&[("[[app.failover]]", &more("autoscaling-capacity", "ap-south-1"))], at, "is the wrong side");
    for kind in ["fence-primary", "autoscaling-capacity"] {
        warned(&[("[[app.failover]]", &more(kind, "eu-west-1"))], at, "is neither site's region");
    }
    assert_eq!(said(&[("[[app.failover]]", &more("fence-primary", "ap-south-1"))]), "[]");
}

#[test]
fn the_loss_is_judged_by_the_database_that_is_promoted() {
    let at = "app.shop.failover.promote.db_instance";
    let kind = "kind = \"rds-promote-replica\"\ndb_instance = \"shop-replica\"";
    only(&[(kind, "kind = \"rds-promote-replica\"\ndb_instance = \"other\"")], at, "those there read shop-replica");
    let signal = "kind = \"rds-replica\"";
    only(&[(signal, "kind = \"rds-replica\"\nregion = \"eu-west-1\"")], at, "with the same region and account");
    let net = ("[witness]", "[account.net]\nrole_arn = \"arn:aws:iam::123456789012:role/w\"\n[witness]");
    only(&[net, (signal, "kind = \"rds-replica\"\naccount = \"net\"")], at, "with the same region and account");
    only(&[(signal, "kind = \"rds-replica\"\naccount = \"net\"")], "app.shop.standby.signal.replica.account", "write [account.net]");
    assert_eq!(said(&[(kind, "kind = \"rds-promote-replica\"\ndb_instance = \"Shop-Replica\"")]), "[]", "RDS keeps them in lower case");
}

#[test]
fn users_that_are_sent_on_without_their_data_are_warned_of() {
    let kind = ("kind = \"rds-promote-replica\"", "kind = \"rds-promote-replica\"\non_failure = \"continue\"");
    warned(&[kind], "app.shop.failover.promote.on_failure", "although their data did not come");
}

#[test]
fn an_objective_that_the_evidence_can_never_show_is_named_with_the_least_value() {
    let tight = ("name = \"shop\"", "name = \"shop\"\nrpo_objective = \"1m\"");
    only(&[tight], "app.shop.rpo_objective", "write at least \"3m\"");
    let proceed = ("name = \"shop\"", "name = \"shop\"\nrpo_objective = \"30s\"\non_rpo_exceeded = \"proceed\"");
    assert_eq!(said(&[proceed]), "[]");
    assert_eq!(said(&[("name = \"shop\"", "name = \"shop\"\nrpo_objective = \"3m\"")]), "[]");
}

#[test]
fn an_objective_that_the_evidence_shows_only_at_times_is_allowed_and_warned_of() {
    for objective in ["1m 1s", "2m 59s"] {
        let text = SMALL.replacen("name = \"shop\"", &format!("name = \"shop\"\nrpo_objective = \"{objective}\""), 1);
        let config = judged(&text).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("app.shop.rpo_objective: \"{objective}\" is shown only at times")), "{warnings:?}");
    }
}

#[test]
fn a_file_that_is_wrong_elsewhere_still_says_where_its_daemon_is_reached() {
    let reach = |text: &str| reach_text(Ok((text.to_owned(), "config.toml".into())), Vec::new(), &Stub);
    let well = reach(SMALL).unwrap();
    assert_eq!((well.problems, well.apps.as_slice()), (0, &["shop".to_owned()][..]));
    assert_eq!(well.admin_socket, Path::new("/run/watchover/admin.sock"));

    let places = "[daemon]\nadmin_socket = \"/a.sock\"\nstate_dir = \"/s\"\n";
    let bad = format!("{places}listen = \"nowhere\"\nlitsen = 1\n{}", SMALL.replacen("https://one.example/", "nowhere", 1));
    let found = reach(&bad).unwrap();
    assert_eq!((found.problems, found.admin_socket.as_path(), found.state_dir.as_path()), (3, Path::new("/a.sock"), Path::new("/s")));
    assert_eq!(found.apps, ["shop"]);

    for (text, words) in [
        (format!("{SMALL}[daemon]\nadmin_socket = \"\"\n"), "daemon.admin_socket: is empty"),
        (format!("{SMALL}[daemon]\nstate_dir = 5\nlitsen = 1\n"), "daemon.litsen: unknown key"),
        (format!("daemon = 5\n{SMALL}"), "daemon: a number is not a table"),
    ] {
        let said = reach(&text).unwrap_err().to_string();
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[test]
fn a_file_that_is_none_leaves_the_daemon_where_the_environment_or_the_default_says() {
    let missing = || -> Found { read::text(Path::new("/nowhere/config.toml")).map(|text| (text, PathBuf::new())) };
    let syntax = || -> Found { Ok((format!("{SMALL}[daemon\n"), "config.toml".into())) };
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
    for found in [&missing as &dyn Fn() -> Found, &syntax] {
        let told = reach_text(found(), Vec::new(), &Stub).unwrap();
        let places = |told: &Reach| (told.admin_socket.display().to_string(), told.state_dir.display().to_string());
        assert_eq!(places(&told), ("/run/watchover/admin.sock".to_owned(), "/var/lib/watchover".to_owned()));
        assert!(told.broken.is_some() && told.apps.is_empty() && told.problems == 1, "{told:?}");
        // What else the environment says, right or wrong, is no matter here.
        let set = env(&[
            ("WATCHOVER__DAEMON__ADMIN_SOCKET", "/a.sock"),
            ("WATCHOVER__DAEMON__STATE_DIR", "/s"),
            ("WATCHOVER__DAEMON__LISTEN", "nowhere"),
            ("WATCHOVER__APP__SHOP__MODE", "observe"),
        ]);
        assert_eq!(places(&reach_text(found(), set, &Stub).unwrap()), ("/a.sock".to_owned(), "/s".to_owned()));
        let said = reach_text(found(), env(&[("WATCHOVER__DAEMON__ADMIN_SOCKET", "")]), &Stub).unwrap_err().to_string();
        assert!(said.contains("daemon.admin_socket: is empty") && said.contains("(set by $WATCHOVER__DAEMON__ADMIN_SOCKET)"), "{said}");
    }
}

#[test]
fn data_steps_need_somebody_who_reads_the_replica() {
    let replica = "[[app.standby.signal]]\nname = \"replica\"\nkind = \"rds-replica\"\ndb_instance = \"shop-replica\"\n";
    only(&[(replica, "")], "app.shop.standby.signal", "reads the replica");
}

#[test]
fn an_app_without_steps_may_only_be_observed() {
    let (head, _) = SMALL.split_once("[[app.failover]]").unwrap();
    let errors = judged(head).unwrap_err().to_string();
    assert!(errors.contains("app.shop.failover: has no steps, but the mode is \"automatic\""), "{errors}");
    let config = judged(&head.replace("name = \"shop\"", "name = \"shop\"\nmode = \"observe\"")).unwrap();
    assert_eq!((config.apps[0].policy.mode, config.warnings.len()), (Mode::Observe, 1));
}

#[test]
fn missing_parts_are_named_once_each() {
    let errors = judged("[[app]]\nname = \"shop\"\nmode = \"observe\"\n").unwrap_err();
    let paths: Vec<&str> = errors.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["app.shop.primary", "app.shop.standby", "app.shop.front_door"], "{errors}");
    assert!(judged("").unwrap_err().to_string().contains("app: there is no app at all"));
    assert!(judged("app = []").unwrap_err().to_string().contains("there is no app at all"));
}

#[test]
fn doubled_apps_and_steps_are_named() {
    let (_, app) = SMALL.split_once("[[app]]").unwrap();
    let errors = judged(&format!("{SMALL}\n[[app]]{app}")).unwrap_err().to_string();
    assert!(errors.contains("app.shop[1].name: another app has this name"), "{errors}");
    only(&[("name = \"traffic\"", "name = \"promote\"")], "app.shop.failover.promote[1].name", "another step of this plan");
}

#[test]
fn what_is_likely_not_meant_is_a_warning() {
    let said = said(&[("name = \"shop\"", "name = \"shop\"\nmove_timeout = \"1m\"\nprobe = { timeout = \"2s\" }")]);
    assert!(said.contains("longest chain of deadlines in failover, \\\"17m\\\"") && said.contains("delays the next one"), "{said}");
}

#[test]
fn secrets_show_neither_in_debug_nor_in_problems() {
    let with = |url: &str| {
        SMALL.replacen("[witness]", &format!("[daemon]\ndead_man = {{ url = \"{url}\" }}\n[account.net]\nrole_arn = \"arn:aws:iam::123456789012:role/w\"\nexternal_id = \"hush\"\n[witness]"), 1)
    };
    let config = judged(&with("https://hc.example.net/hush")).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!format!("{config:?} {config:#?}").contains("hush"));
    assert_eq!(config.daemon.dead_man.unwrap().url.expose(), "https://hc.example.net/hush");
    let errors = judged(&with("hc.example.net/hush")).unwrap_err().to_string();
    assert!(errors.contains("daemon.dead_man.url") && !errors.contains("hush"), "{errors}");
}

#[test]
fn overrides_take_part_and_are_named_where_they_are_wrong() {
    let with = |name: &str, value: &str| judge_text(Path::new("config.toml"), SMALL, vec![(name.to_owned(), value.to_owned())], &Stub);
    assert_eq!(with("WATCHOVER__DAEMON__LISTEN", "127.0.0.1:0").unwrap().daemon.listen.port(), 0);
    assert_eq!(with("WATCHOVER__AWS__ATTEMPTS", "5").unwrap().aws.attempts, 5);
    assert_eq!(with("WATCHOVER__WITNESS__URLS", "https://a.example, https://b.example").unwrap().witness.urls.len(), 2);
    let errors = with("WATCHOVER__DAEMON__LISTEN", "nowhere").unwrap_err().to_string();
    assert!(errors.contains("(set by $WATCHOVER__DAEMON__LISTEN)"), "{errors}");
}

#[test]
fn one_mistake_is_one_problem_and_hides_no_other() {
    let said =
        said(&[("kind = \"http\"", "kind = \"htpp\"\nfall = 0\nrequired = \"neve\"\ntimeout = 3\naccount = \"net\"\nregion = \"x\"")]);
    for part in ["kind", "fall", "required", "timeout", "account", "region"] {
        assert!(said.contains(&format!("app.shop.primary.signal.alb.{part}: ")), "{part} is not in {said}");
    }
    let (head, _) = SMALL.split_once("[[app.failover]]").unwrap();
    let errors = judged(&format!("{head}[app.failover]\nname = \"promote\"\n")).unwrap_err();
    assert!(errors.problems.len() == 1 && errors.to_string().contains("a table is not a list of tables"), "{errors}");
    only(&[("[witness]", "[daemon]\ndead_man = \"https://hc.example.net/\"\n[witness]")], "daemon.dead_man", "a text is not a table");
    only(&[("zone_id = \"Z1\"", "zone_id = \"Z1\"\nafter = [\"promot\"]")], "app.shop.failover.traffic.after", "`after` names \"promot\"");
    warned(&[("name = \"shop\"", "name = \"shop\"\nprobe = { timeout = \"2s\" }")], "app.shop.probe.timeout", "delays the next one");
    let own = ("kind = \"http\"", "kind = \"http\"\ntimeout = \"2s\"");
    warned(&[own], "app.shop.primary.signal.alb.timeout", "delays the next one");
}

#[test]
fn a_filter_that_would_silence_the_log_is_refused() {
    let filter = |text: &str| format!("[daemon]\nlog = {{ filter = \"{text}\" }}\n[witness]");
    only(&[("[witness]", &filter("inof"))], "daemon.log.filter", "did you mean \"info\"?");
    only(&[("[witness]", &filter("watchover=debug, hyper"))], "daemon.log.filter", "\"hyper\" is not a level");
    for text in ["INFO", "off", "3", "watchover=debug,info", "watchover", "watchover::runtime,warn", "hyper=debug,[span]=trace", "info,"] {
        assert_eq!(said(&[("[witness]", &filter(text))]), "[]", "{text}");
    }
}

#[test]
fn a_name_with_a_control_character_is_refused() {
    only(&[("name = \"shop\"", "name = \"shop\"\ngroup = \"sh\\top\"")], "app.shop.group", "has a control character");
    only(&[("[witness]", "[daemon]\nstate_dir = \"/var/lib\\n\"\n[witness]")], "daemon.state_dir", "has a control character");
    only(&[("https://one.example/", "https://one.ex\\nample/")], "witness.urls", "has a control character");
}

#[test]
fn no_small_damage_makes_the_judge_panic() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for skip in 0..lines.len() {
        let text: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != skip).map(|(_, line)| *line).collect();
        drop(judged(&text.join("\n")));
    }
    for (from, to) in [("= \"", "= [\""), ("= ", "= -"), ("\"", "'"), ("s\"", "\""), ("= {", "= [{"), ("1", "0")] {
        drop(judged(&REFERENCE.replace(from, to)));
    }
}
