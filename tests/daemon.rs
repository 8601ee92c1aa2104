//! The real binary against the lab: its surface, its commands and their exit codes, signals, bad input, moves and crashes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here must fail the test")]
#![expect(clippy::unwrap_used, reason = "a test's helper may end the test")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod real;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use real::{Daemon, Process, Said, World, append, command, http, until, watchover};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use watchover::adapters::sqlite::SqliteJournal;
use watchover::domain::ledger::Record;
use watchover::ports::Journal;

/// A config that is well and asks nobody who answers; `DIR` is filled in.
const ALONE: &str = r#"
[daemon]
observer = "bastion-test"
listen = "127.0.0.1:0"
admin_socket = "DIR/admin.sock"
state_dir = "DIR/state"
[aws]
endpoint_url = "http://127.0.0.1:9"
[witness]
urls = ["http://127.0.0.1:9/one"]
[dns]
resolvers = ["127.0.0.1:9"]
authoritative = { "example.com" = ["127.0.0.1:9"] }
[[app]]
name = "shop"
mode = "automatic"
[app.front_door]
url = "http://shop.example.com/healthz"
[app.primary]
region = "ap-south-1"
load_balancer = "p.example.com"
[[app.primary.signal]]
name = "alb"
kind = "http"
url = "http://shop.example.com/healthz"
connect_to = "127.0.0.1:9"
[app.standby]
region = "us-east-1"
load_balancer = "s.example.com"
[[app.standby.signal]]
name = "alb"
kind = "http"
url = "http://shop.example.com/healthz"
connect_to = "127.0.0.1:9"
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
records = [{ name = "shop.example.com", type = "A", set_identifier = "standby", weight = 100 }]
"#;

/// Writes `ALONE` with changes, each of which must apply, and answers the file.
fn alone(dir: &TempDir, changes: &[(&str, &str)]) -> std::path::PathBuf {
    let mut text = ALONE.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in the config");
        text = text.replacen(from, to, 1);
    }
    let file = dir.path().join("config.toml");
    std::fs::write(&file, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
    file
}

fn holds(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
    for word in words {
        assert!(said.out.contains(word) || said.err.contains(word), "{word:?} is not in {}{}", said.out, said.err);
    }
}

/// With `--json` a failure is one document on standard output, and the same words on standard error.
fn told_as_json(world: &World, failures: &[(&[&str], i32)]) {
    for (args, code) in failures {
        let said = world.command(&[args, &["--json"][..]].concat());
        holds(&said, *code, &[]);
        let told: Value = serde_json::from_str(&said.out).unwrap_or_else(|cause| panic!("{args:?}: {cause}: {}", said.out));
        assert_eq!(told["schema_version"], 1, "{args:?}: {told}");
        let words = told["error"].as_str().unwrap_or_else(|| panic!("{args:?}: {told}"));
        assert!(!words.is_empty() && said.err.contains(words), "{args:?}: {words:?} is not in {}", said.err);
    }
}

// The surface.

/// Families of which exactly one series of a group is 1, and the label that tells them apart.
const ONE_HOT: &[(&str, &str)] = &[
    ("watchover_signal_verdict", "verdict"),
    ("watchover_site_state", "state"),
    ("watchover_replication_state", "state"),
    ("watchover_app_state", "state"),
    ("watchover_active_site", "site"),
];

#[test]
fn the_surface_shows_everything_and_changes_nothing() {
    let world = World::start();
    // Families of receivers have series once there is one.
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, text + "\n[[notify]]\nname = \"desk\"\nkind = \"command\"\nargv = [\"/bin/true\"]\n").unwrap();
    let daemon = Daemon::steady(&world.config);

    let metrics = daemon.metrics();
    let reference = world.command(&["metrics", "--json"]).json();
    for family in reference["metrics"].as_array().unwrap() {
        let name = family["name"].as_str().unwrap();
        assert_eq!(metrics.kinds.get(name).map(String::as_str), family["kind"].as_str(), "{name}");
        let sample = if family["kind"] == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let series: Vec<_> = metrics.samples.iter().filter(|one| one.0 == sample).collect();
        assert!(!series.is_empty(), "{name} has no series");
        let wanted: Vec<&str> = family["labels"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for (_, labels, _) in series {
            let mut labels: Vec<&str> = labels.keys().map(String::as_str).collect();
            let mut wanted = wanted.clone();
            labels.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(labels, wanted, "{name}");
        }
    }
    for (name, hot) in ONE_HOT {
        let mut groups: BTreeMap<Vec<(&str, &str)>, f64> = BTreeMap::new();
        for (_, labels, value) in metrics.samples.iter().filter(|one| one.0 == *name) {
            let group = labels.iter().filter(|(key, _)| key.as_str() != *hot).map(|(key, value)| (key.as_str(), value.as_str())).collect();
            *groups.entry(group).or_default() += value;
        }
        assert!(!groups.is_empty() && groups.values().all(|sum| *sum == 1.0), "{name}: {groups:?}");
    }
    assert_eq!(metrics.value("watchover_active_site", &[("site", "primary")]), 1.0);
    assert_eq!(metrics.value("watchover_config_last_reload_successful", &[]), 1.0);
    // What the plan may call is there before it is called.
    let promotions = [("service", "rds"), ("operation", "PromoteReadReplica"), ("outcome", "ok")];
    assert_eq!(metrics.value("watchover_aws_calls_total", &promotions), 0.0);

    assert_eq!(daemon.get("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.get("/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.get("/api/v1/status?app=none").0, 404);
    assert_eq!(daemon.get("/api/v1/incidents").0, 200);
    assert_eq!(daemon.get("/api/v1/incidents/none").0, 404);
    let (status, head, page) = http(&daemon.listen, "GET", "/", &daemon.listen, "");
    assert!(status == 200 && page.starts_with("<!doctype html>") && head.contains("content-security-policy"), "{status} {head}");

    let order = json!({"order": "failover", "app": "shop", "reason": "over TCP"}).to_string();
    for (method, path) in
        [("POST", "/api/v1/orders"), ("POST", "/api/v1/reload"), ("POST", "/api/v1/status"), ("PUT", "/metrics"), ("DELETE", "/")]
    {
        let (status, _, body) = http(&daemon.listen, method, path, &daemon.listen, &order);
        assert!(matches!(status, 404 | 405), "{method} {path}: {status} {body}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:80", "evil.example:127"] {
        assert_eq!(http(&daemon.listen, "GET", "/metrics", host, "").0, 421, "{host}");
    }
    for host in ["localhost", "localhost:1", "[::1]:1", "192.0.2.1"] {
        assert_eq!(http(&daemon.listen, "GET", "/metrics", host, "").0, 200, "{host}");
    }
    daemon.calms();
    assert_eq!(world.calls("PromoteReadReplica"), 0);
    daemon.stop();
}

/// To close any file of the journal costs a process its locks on it. Whoever leaves next then takes the log along: today's
/// SQLite looks twice before it does, and the one of a stable distribution does not. So the lock itself is looked for.
#[test]
fn what_is_asked_of_the_journal_costs_the_daemon_none_of_its_locks() {
    let dir = TempDir::new().unwrap();
    let config = alone(&dir, &[]);
    let daemon = Daemon::start(&config);
    let state = dir.path().join("state");
    let inode = |name: &str| std::fs::metadata(state.join(name)).unwrap().ino();
    let (database, index) = (inode("journal.sqlite"), inode("journal.sqlite-shm"));
    let locked = || -> Vec<bool> {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        let on = |inode: u64| locks.lines().any(|line| line.contains("POSIX") && line.contains(&format!(":{inode} ")));
        vec![on(database), on(index)]
    };
    assert_eq!(locked(), [true, true]);
    for path in ["/api/v1/incidents", "/api/v1/incidents/none", "/api/v1/status", "/readyz", "/metrics"] {
        daemon.get(path);
    }
    assert_eq!(locked(), [true, true], "after it was read over the API");
    // As somebody's `sqlite3 journal.sqlite 'select ...'`, or a backup.
    let other = rusqlite::Connection::open(state.join("journal.sqlite")).unwrap();
    let rows: i64 = other.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap();
    assert!(rows > 0);
    drop(other);
    assert!(state.join("journal.sqlite-wal").exists(), "whoever leaves is not the last one");
    holds(&command(&config, &["pause", "shop", "--for", "1h", "--reason", "the journal takes it"]), 0, &["done: "]);
    holds(&command(&config, &["resume", "shop"]), 0, &["done: "]);
    assert_eq!(locked(), [true, true], "after it was written");
    daemon.stop();
}

/// A move that ended with a bound of ten seconds, and after whose end the site that was left was seen alive.
fn moved_and_seen_since(state: &Path) {
    let row = |second: i64, incident: Option<&str>, entry: Value| -> Record {
        let at = moment(second);
        let row =
            json!({"at": at, "boot_id": "an-earlier-boot", "app": "shop", "incident": incident, "epoch": 1 + second / 60, "entry": entry});
        serde_json::from_value(row).unwrap()
    };
    let by = json!({"who": "uid 1000 (alice)", "reason": "test"});
    let step = json!({
        "name": "promote", "kind": "rds-promote-replica", "class": "data", "reversibility": "forward-only", "repeat": "inspectable",
        "after": [], "deadline_seconds": 600.0, "attempts": 3, "on_failure": "halt", "region": "us-east-1", "keys": {},
    });
    let bound = json!({"seconds": 10.0, "end_of_writes": moment(2)["wall"], "assumption": "no-writes-past-the-front-door"});
    let figures = json!({"rto_seconds": 9.0, "phases": {}, "rpo": bound, "authority_seconds": null, "uncertainty_seconds": 0.0});
    let gates = json!([{"name": "lease", "state": "open", "words": "the only one"}]);
    let own = [
        json!({"kind": "opened", "trigger": "outage", "direction": "to-standby", "first_failed": moment(1), "words": "alb down"}),
        json!({"kind": "confirmed", "first_failed": moment(1), "words": "alb down"}),
        json!({"kind": "gated", "ruling": "go", "gates": gates, "exposure": bound}),
        json!({"kind": "planned", "plan": {"direction": "to-standby", "steps": [step]}}),
        json!({"kind": "step-started", "step": "promote"}),
        json!({"kind": "step-permitted", "step": "promote", "gates": gates}),
        json!({"kind": "step-intent", "step": "promote", "attempt": 1, "found": null}),
        json!({"kind": "step-asked", "step": "promote", "facts": null}),
        json!({"kind": "step-verified", "step": "promote", "already": false, "facts": null}),
        json!({"kind": "executed"}),
        json!({"kind": "proven", "first": moment(10)}),
        json!({"kind": "closed", "outcome": "moved", "active": "standby", "figures": figures, "by": null}),
    ];
    let mut rows = vec![row(0, None, json!({"kind": "active", "site": "primary", "by": by}))];
    rows.extend((2..).zip(own).map(|(second, entry)| row(second, Some("shop-1"), entry)));
    // The app's next episode, so that what comes then is no row of the last one.
    let blip = [
        json!({"kind": "opened", "trigger": "outage", "direction": "to-primary", "first_failed": null, "words": "a blip"}),
        json!({"kind": "closed", "outcome": "no-action", "active": null, "figures": {"rto_seconds": null, "phases": {}, "rpo": null, "authority_seconds": null, "uncertainty_seconds": 0.0}, "by": null}),
    ];
    rows.extend((20..).zip(blip).map(|(second, entry)| row(second, Some("shop-2"), entry)));
    let seen = json!({"kind": "old-site-seen", "incident": "shop-1", "site": "primary", "at": moment(99), "words": "primary.alb answers"});
    rows.push(row(100, Some("shop-1"), seen));
    let mut journal = SqliteJournal::open(state, "bastion").unwrap();
    journal.append(&rows).unwrap();
}

fn moment(second: i64) -> Value {
    json!({"mono": second * 1_000_000, "wall": 1_700_000_000_000_000_i64 + second * 1_000_000})
}

#[test]
fn a_loss_without_bound_is_told_the_same_by_whoever_tells_it() {
    let dir = TempDir::new().unwrap();
    let config = alone(&dir, &[]);
    moved_and_seen_since(&dir.path().join("state"));
    let rests = "the old site was seen alive after its data had moved";
    for form in ["md", "html"] {
        let said = command(&config, &["report", "shop-1", "--format", form]);
        holds(&said, 0, &["unbounded", rests, "old-site-seen"]);
        // What was bounded when it ended stands in the gates of then, and nowhere else; what came since is no part of it.
        for gone in ["Lost: at most", "which had stopped answering", "Restarts within", "restarted within"] {
            assert!(!said.out.contains(gone), "{gone:?} is in {}", said.out);
        }
    }
    let report = command(&config, &["report", "shop-1", "--format", "json"]).json();
    let history = command(&config, &["history", "--json"]).json();
    let table = command(&config, &["history"]);
    assert!(table.out.lines().any(|line| line.contains("shop-1") && line.ends_with("unbounded")), "{}", table.out);

    let daemon = Daemon::start(&config);
    let read = |path: &str| -> Value { serde_json::from_str(&daemon.get(path).1).unwrap() };
    let (all, one) = (read("/api/v1/incidents"), read("/api/v1/incidents/shop-1"));
    let status = daemon.app();
    for (whose, rpo) in [
        ("status", &status["last_move"]["figures"]["rpo"]),
        ("report", &report["figures"]["rpo"]),
        ("history", &history["incidents"][0]["rpo"]),
        ("incidents", &all["incidents"][0]["figures"]["rpo"]),
        ("the incident", &one["figures"]["rpo"]),
    ] {
        assert_eq!((&rpo["seconds"], &rpo["assumption"]), (&json!("unbounded"), &json!("old-site-seen-alive")), "{whose}: {rpo}");
    }
    assert_eq!(
        (&one["outcome"], &one["records"].as_array().unwrap().last().unwrap()["entry"]["kind"]),
        (&json!("moved"), &json!("old-site-seen"))
    );
    daemon.stop();
}

// Commands.

#[test]
fn commands_answer_with_their_exit_codes() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);

    let status = world.command(&["status", "--json"]).json();
    assert_eq!((&status["schema_version"], &status["apps"][0]["active_site"]), (&json!(1), &json!("primary")));
    assert!(!status["apps"][0]["since"].as_str().unwrap().starts_with("1970"), "{status}");
    holds(&world.command(&["status", "shop"]), 0, &["primary active", "gates all open"]);
    holds(&world.command(&["status", "none"]), 2, &["\"none\" is not in the running config", "reload the daemon"]);
    let explained = world.command(&["explain", "shop", "--json"]).json();
    let gates: Vec<&str> = explained["apps"][0]["gates"].as_array().unwrap().iter().filter_map(|gate| gate["name"].as_str()).collect();
    for gate in [
        "active-known",
        "direction",
        "not-paused",
        "mode",
        "startup-grace",
        "not-isolated",
        "target-healthy",
        "data-loss",
        "cooldown",
        "blast-radius",
        "lease",
        "preflight",
    ] {
        assert!(gates.contains(&gate), "{gate} is not in {gates:?}");
    }
    holds(&world.command(&["explain"]), 0, &["data-loss", "objective 300s"]);
    holds(&world.command(&["explain", "none"]), 2, &["none", "history"]);

    holds(&world.command(&["plan", "shop"]), 0, &["rds:PromoteReadReplica in us-east-1", "after promote, capacity"]);
    let plan = world.command(&["plan", "shop", "--format", "json"]).json();
    let steps: Vec<&str> = plan["steps"].as_array().unwrap().iter().filter_map(|step| step["step"]["name"].as_str()).collect();
    assert_eq!(steps, ["fence", "promote", "capacity", "traffic"]);
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["inspect"]["ok"] == true), "{plan:#}");
    let script = world.command(&["plan", "shop", "--format", "aws-cli"]);
    holds(
        &script,
        0,
        &[
            "#!/usr/bin/env bash",
            "aws rds promote-read-replica --region us-east-1",
            "is True aws rds describe-db-instances --region us-east-1",
        ],
    );
    holds(&script, 0, &["is INSYNC aws route53 get-change --id", "\"SetIdentifier\":\"standby\"", "AWS_ENDPOINT_URL=http://127.0.0.1"]);
    let file = world.dir.path().join("break-glass.sh");
    std::fs::write(&file, &script.out).unwrap();
    assert!(std::process::Command::new("bash").arg("-n").arg(&file).status().unwrap().success(), "{}", script.out);
    assert!(!script.out.contains("NOT WHOLE") && script.err.is_empty(), "{}", script.err);
    let wrapped = world.command(&["plan", "shop", "--format", "aws-cli", "--json"]).json();
    assert_eq!((&wrapped["schema_version"], &wrapped["format"]), (&json!(1), &json!("aws-cli")));
    assert!(wrapped["script"].as_str().unwrap().starts_with("#!/usr/bin/env bash"), "{wrapped:#}");
    holds(&world.command(&["plan", "none"]), 2, &["none", "shop"]);
    // Where no steps lead there is nothing to print, in any form.
    for format in ["table", "json", "aws-cli"] {
        let said = world.command(&["plan", "shop", "--to", "primary", "--format", format]);
        holds(&said, 2, &["no steps lead to-primary", "[[app.failback]]"]);
        assert_eq!(said.out, "");
    }
    // A script without what stands there is none to keep, and whoever redirects it over a good one has to know.
    let blind: Said = {
        let mut command = watchover();
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("HOME", world.dir.path());
        command.arg("--config").arg(&world.config).args(["plan", "shop", "--format", "aws-cli"]).output().unwrap().into()
    };
    assert_eq!(blind.code, Some(1), "{}{}", blind.out, blind.err);
    let head = blind.out.split_once("set -euo pipefail").unwrap().0;
    for (said, form) in [(blind.err.as_str(), "the script is not whole"), (head, "NOT WHOLE")] {
        assert!(said.contains(form), "{form}: {said}");
        assert!(["promote", "capacity", "traffic"].iter().all(|step| said.contains(&format!("step {step}: "))), "{said}");
    }
    std::fs::write(&file, &blind.out).unwrap();
    assert!(std::process::Command::new("bash").arg("-n").arg(&file).status().unwrap().success(), "{}", blind.out);
    holds(&world.command(&["check"]), 0, &["0 findings"]);
    holds(&world.command(&["iam-policy"]), 0, &["rds:PromoteReadReplica", "2012-10-17"]);
    let policy = world.command(&["iam-policy"]).json();
    assert_eq!(world.command(&["iam-policy", "--json"]).json(), json!({"schema_version": 1, "policy": policy}));

    holds(&world.command(&["failback", "shop", "--reason", "no"]), 4, &["primary of shop is active already"]);
    holds(&world.command(&["failover", "shop"]), 2, &["--reason"]);
    holds(&world.command(&["approve", "shop-none", "--reason", "no"]), 4, &["shop-none"]);
    holds(&world.command(&["abort", "--reason", "no"]), 4, &["no incident is open"]);
    holds(&world.command(&["resume"]), 4, &["not paused"]);
    for length in ["10", "900ms", "32d"] {
        holds(&world.command(&["pause", "shop", "--for", length, "--reason", "no"]), 2, &["--for", "from 1s to 31d"]);
    }
    holds(&world.command(&["pause", "shop", "--for", "10m", "--reason", "works on the line"]), 0, &[]);
    holds(&world.command(&["status"]), 0, &["paused until", "not-paused shut"]);
    until("the pause is exported", || (daemon.metrics().value("watchover_paused", &[]) == 1.0).then_some(()));
    holds(&world.command(&["resume", "shop"]), 0, &[]);
    until("the pause is over", || (daemon.metrics().value("watchover_paused", &[]) == 0.0).then_some(()));
    let said = daemon.said();
    assert!(said.contains("works on the line") && said.contains("uid "), "the actor and the reason are logged: {said}");
    assert_eq!(world.calls("PromoteReadReplica") + world.calls("UpdateAutoScalingGroup") + world.calls("ChangeResourceRecordSets"), 0);

    told_as_json(
        &world,
        &[
            (&["status", "nope"], 2),
            (&["explain", "nope"], 2),
            (&["report", "nope"], 2),
            (&["history", "--before", "nope"], 2),
            (&["plan", "nope"], 2),
            (&["plan", "shop", "--to", "primary", "--format", "aws-cli"], 2),
            (&["failover", "nope", "--reason", "r"], 2),
            (&["failback", "shop", "--reason", "r"], 4),
            (&["approve", "--reason", "r"], 4),
            (&["retry", "--reason", "r"], 4),
            (&["abort", "shop-none", "--reason", "r"], 4),
            (&["resume"], 4),
            (&["pause", "--for", "1ms", "--reason", "r"], 2),
        ],
    );

    // With nobody there, what needs the daemon says so and what does not works on.
    daemon.stop();
    told_as_json(
        &world,
        &[(&["status"], 5), (&["explain", "shop"], 5), (&["abort", "--reason", "r"], 5), (&["failover", "shop", "--reason", "r"], 5)],
    );
    for args in [
        &["status"][..],
        &["explain", "shop"],
        &["pause", "--for", "1m", "--reason", "r"],
        &["abort", "--reason", "r"],
        &["failover", "shop", "--reason", "r"],
        &["approve", "shop-1", "--reason", "r"],
    ] {
        holds(&world.command(args), 5, &["not reachable", "admin.sock"]);
    }
    holds(&world.command(&["history"]), 0, &["No incidents"]);
    holds(&world.command(&["history", "--before", "nope"]), 2, &["--before", "\"nope\""]);
    holds(&world.command(&["plan", "shop"]), 0, &["promote"]);
}

#[test]
fn a_site_that_need_not_be_up_yet_is_no_finding() {
    let world = World::start();
    // A pilot light: nothing runs there until capacity is raised.
    world.edit(&[("required = \"start\"", "required = \"traffic\"")]);
    let checked = |wanted: &str| {
        // One check after the other asks more of the account than it allows a second.
        let said = || Some(world.command(&["check"])).filter(|said| said.out.contains(wanted) && !said.out.contains("Throttling"));
        until("the site is seen as it is", said)
    };
    world.act("/app", &json!({"site": "standby", "running": false}));
    holds(&checked("shop.standby.alb: down"), 0, &["ok       shop.standby.alb: down", "before traffic moves", "0 findings"]);
    // Users are served by the other one.
    world.act("/app", &json!({"site": "primary", "running": false}));
    holds(&checked("shop.primary.alb: down"), 3, &["FINDING  shop.primary.alb: down", "ok       shop.standby.alb: down"]);
}

#[test]
fn a_full_disk_is_an_exit_code_with_its_reason() {
    for args in [&["steps"][..], &["metrics"], &["metrics", "--json"], &["completions", "bash"], &["lab", "--list"], &["--help"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let said: Said = watchover().args(args).stdout(full).output().unwrap().into();
        holds(&said, 1, &["watchover: writing to stdout: No space left on device"]);
        assert!(!said.err.contains("panicked"), "{args:?}: {}", said.err);
    }
}

#[test]
fn what_waits_for_a_person_is_an_exit_code_and_needs_no_name() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    world.edit(&[("mode = \"automatic\"", "mode = \"approval\"")]);
    daemon.process.signal(Signal::HUP);
    until("the new mode is in force", || (daemon.app()["mode"] == "approval").then_some(()));
    holds(&world.command(&["status"]), 0, &["primary active"]);
    world.act("/region", &json!({"region": "ap-south-1", "dark": true}));
    until("it asks", || (daemon.app()["state"] == "awaiting-approval").then_some(()));
    holds(&world.command(&["status"]), 6, &["awaiting-approval", "mode asks"]);
    // What to do, and until when: in the document, on the screen, in the story, and in the same words.
    let app = daemon.app();
    let id = app["incident"]["id"].as_str().unwrap();
    let [yes, no] = ["approve", "decline"].map(|word| format!("watchover {word} {id} --reason"));
    let until_when = app["incident"]["answer_by"].as_str().unwrap();
    assert!(until_when > app["since"].as_str().unwrap(), "{app:#}");
    for args in [&["status", "--json"][..], &["status"], &["explain", "shop"], &["explain", "--json"], &["explain", id], &["report", id]] {
        let said = world.command(args);
        assert_eq!(said.code, Some(if args[0] == "status" { 6 } else { 0 }), "{args:?}");
        assert!(said.out.contains(&yes) && said.out.contains(&no), "{args:?}: {}", said.out);
        assert!(said.out.contains(until_when) || args[1..].contains(&id), "{args:?}: {}", said.out);
    }
    holds(&world.command(&["decline", "--reason", "not yet"]), 0, &["done: shop-"]);
    until("it is held", || (daemon.app()["state"] == "held").then_some(()));
    // Somebody has answered.
    let said = world.command(&["status"]);
    holds(&said, 0, &["held"]);
    assert!(!said.out.contains("waits for a person") && daemon.app()["incident"]["answer_by"].is_null(), "{}", said.out);
    daemon.stop();
}

#[test]
fn what_is_held_until_a_person_comes_is_an_exit_code_too() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    world.edit(&[("mode = \"automatic\"", "mode = \"observe\"")]);
    daemon.process.signal(Signal::HUP);
    until("the new mode is in force", || (daemon.app()["mode"] == "observe").then_some(()));
    holds(&world.command(&["status"]), 0, &["mode observe", "mode shut"]);
    world.act("/region", &json!({"region": "ap-south-1", "dark": true}));
    until("it is held", || (daemon.app()["state"] == "held").then_some(()));
    holds(&world.command(&["status"]), 6, &["waits for a person: `watchover failover shop --reason TEXT`: mode (observe"]);
    holds(&world.command(&["pause", "shop", "--for", "1h", "--reason", "works"]), 0, &[]);
    until("the pause is shown", || daemon.app()["waits_for"].as_str().filter(|words| words.contains("`watchover resume shop`")).map(drop));
    daemon.stop();
}

/// Gone from the file, a move that has begun goes on, and its app is asked for by its name.
#[test]
fn an_app_that_still_moves_is_explained_although_the_file_does_not_name_it() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let away = json!({"service": "rds", "operation": "PromoteReadReplica", "action": "answer", "status": 503, "code": "ServiceUnavailable", "message": "gone"});
    world.act("/fault", &away);
    holds(&world.command(&["failover", "shop", "--reason", "drill", "--accept-data-loss", "any", "--no-follow"]), 0, &["done: shop-"]);
    until("the promotion is asked for", || (world.calls("PromoteReadReplica") > 0).then_some(()));
    let file = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, file.replace("name = \"shop\"", "name = \"till\"")).unwrap();
    daemon.process.signal(Signal::HUP);
    until("the new name is in force", || daemon.get("/api/v1/status").1.contains("\"name\":\"till\"").then_some(()));
    holds(&world.command(&["explain", "shop"]), 0, &["shop moving to-standby", "data-loss"]);
    assert!(world.command(&["explain"]).out.contains("shop moving"), "as without a name");
    holds(&world.command(&["explain", "shopp"]), 2, &["no incident \"shopp\" in the journal"]);

    // A restart has no policy to go on with: until the file names the app again a person is waited for.
    daemon.stop();
    let daemon = Daemon::start(&world.config);
    until("it answers", || (daemon.get("/livez").0 == 200).then_some(()));
    holds(&world.command(&["status"]), 6, &["shop  moving in incident shop-", "name it again and reload"]);
    std::fs::write(&world.config, file).unwrap();
    daemon.process.signal(Signal::HUP);
    until("somebody goes on with it", || (daemon.app()["state"] == "moving").then_some(()));
    let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").1).unwrap();
    assert_eq!(status["unconfigured"], json!([]));
}

/// A daemon that hangs is no reason to wait without a word.
#[test]
fn a_daemon_that_stands_still_is_told_of_before_patience_ends() {
    let dir = TempDir::new().unwrap();
    let config = alone(&dir, &[]);
    let daemon = Daemon::start(&config);
    until("it answers", || (daemon.get("/livez").0 == 200).then_some(()));
    daemon.process.signal(Signal::STOP);
    let begun = std::time::Instant::now();
    holds(&command(&config, &["status"]), 5, &["no answer within 5s"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // An order is given once, and waits for its answer.
    let log = dir.path().join("pause.log");
    let mut pause = watchover();
    pause.arg("--config").arg(&config).args(["pause", "shop", "--for", "1h", "--reason", "r"]);
    let mut pause = Process::start(pause, &log);
    let said = || std::fs::read_to_string(&log).unwrap();
    until("it says what it waits for", || said().contains("waiting for the daemon to answer").then_some(()));
    daemon.process.signal(Signal::CONT);
    assert_eq!(pause.end().0.code(), Some(0), "{}", said());
    daemon.stop();
}

/// Nothing is moved while nobody knows which site is active.
#[test]
fn an_active_site_that_nobody_knows_is_an_exit_code_too() {
    let dir = TempDir::new().unwrap();
    let config = alone(&dir, &[]);
    let daemon = Daemon::start(&config);
    until("the inspections have told nothing", || daemon.app()["waits_for"].is_string().then_some(()));
    holds(&command(&config, &["status"]), 6, &["unknown active", "waits for a person: `watchover adopt shop --active SITE"]);
    holds(&command(&config, &["adopt", "shop", "--active", "primary", "--reason", "I can see it"]), 0, &["done: "]);
    until("it is known", || (daemon.app()["active_site"] == "primary").then_some(()));
    holds(&command(&config, &["status"]), 0, &["primary active"]);
    daemon.stop();
}

// Signals and files.

#[test]
fn a40_a_reload_takes_a_good_file_and_keeps_the_old_one_before_a_bad_one() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let taken = |daemon: &Daemon| daemon.metrics().value("watchover_config_last_reload_successful", &[]);
    let reload = |wanted: f64| {
        daemon.process.signal(Signal::HUP);
        until("the reload is over", || (taken(&daemon) == wanted).then_some(()));
    };

    world.edit(&[("mode = \"automatic\"", "mode = \"automatik\"")]);
    reload(0.0);
    assert_eq!(daemon.app()["mode"], "automatic");
    // The file is for the next daemon; whoever steers this one is told of its problems, and not kept from it.
    let told = "has 1 problem; `watchover check --offline` names it";
    holds(&world.command(&["status"]), 0, &["mode automatic", told]);
    holds(&world.command(&["pause", "--for", "1h", "--reason", "the file is being mended"]), 0, &[told]);
    holds(&world.command(&["resume"]), 0, &[told]);
    holds(&world.command(&["explain", "shop"]), 0, &["data-loss", told]);
    holds(&world.command(&["history"]), 0, &[told]);
    holds(&world.command(&["plan", "shop"]), 2, &["automatik"]);
    until("the log names the fault", || daemon.said().contains("automatik").then_some(()));

    world.edit(&[("mode = \"automatik\"", "mode = \"observe\"")]);
    reload(1.0);
    until("the new mode is in force", || (daemon.app()["mode"] == "observe").then_some(()));

    // What cannot change while running is refused as a whole, and named.
    world.edit(&[("mode = \"observe\"", "mode = \"approval\""), ("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.2:0\"")]);
    reload(0.0);
    assert_eq!(daemon.app()["mode"], "observe");
    until("the log names it", || daemon.said().contains("daemon.listen").then_some(()));

    let file = std::fs::read_to_string(&world.config).unwrap();
    std::fs::remove_file(&world.config).unwrap();
    reload(0.0);
    std::fs::write(&world.config, file.replace("127.0.0.2:0", "127.0.0.1:0")).unwrap();
    reload(1.0);
    until("the new mode is in force", || (daemon.app()["mode"] == "approval").then_some(()));
    assert_eq!(daemon.get("/readyz").0, 200);
    daemon.stop();
}

#[test]
fn a40_a_reload_takes_an_app_up_and_lets_it_go_again() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let one = std::fs::read_to_string(&world.config).unwrap();
    let (head, shop) = one.split_once("[[app]]").unwrap();
    let till = shop.replace("\"shop\"", "\"till\"").replace("mode = \"automatic\"", "mode = \"observe\"");
    let apps = |daemon: &Daemon| -> Vec<Value> {
        let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").1).unwrap();
        status["apps"].as_array().unwrap().clone()
    };

    std::fs::write(&world.config, format!("{head}[[app]]{shop}\n[[app]]{till}")).unwrap();
    daemon.process.signal(Signal::HUP);
    until("the new app is watched, and known to the journal", || {
        let apps = apps(&daemon);
        let till = apps.iter().find(|app| app["name"] == "till")?;
        (till["active_site"] == "primary" && till["sites"]["primary"]["health"] == "up" && till["front_door"]["from"] == "primary")
            .then_some(())
    });
    assert_eq!(daemon.metrics().value("watchover_active_site", &[("app", "till"), ("site", "primary")]), 1.0);
    let looks = |daemon: &Daemon| {
        let labels = [("app", "till"), ("site", "primary"), ("signal", "alb"), ("verdict", "up")];
        daemon.metrics().value("watchover_probes_total", &labels)
    };
    until("its looks are counted", || (looks(&daemon) > 1.0).then_some(()));
    holds(&world.command(&["pause", "till", "--for", "1h", "--reason", "not yet"]), 0, &[]);

    std::fs::write(&world.config, &one).unwrap();
    daemon.process.signal(Signal::HUP);
    until("the app is let go", || (apps(&daemon).len() == 1).then_some(()));
    assert!(!daemon.get("/metrics").1.contains("app=\"till\""));
    daemon.calms();

    // Named again: what the journal holds of it is in force.
    std::fs::write(&world.config, format!("{head}[[app]]{shop}\n[[app]]{till}")).unwrap();
    daemon.process.signal(Signal::HUP);
    until("it is back, and still paused", || {
        apps(&daemon).iter().any(|app| app["name"] == "till" && app["active_site"] == "primary" && !app["paused"].is_null()).then_some(())
    });
    assert_eq!(daemon.get("/livez").0, 200);
    daemon.stop();
}

#[test]
fn it_ends_in_time_while_a_region_is_silent_and_a_second_daemon_is_refused() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);

    let second = world.command(&["run"]);

    holds(&second, 1, &["journal.sqlite", "another watchover holds it", "pid ", "observer bastion-lab"]);
    assert_eq!(daemon.get("/readyz").0, 200);

    // Looks and calls hang now; leaving does not wait for them.
    world.act("/region", &json!({"region": "ap-south-1", "dark": true}));
    until("the silence is seen", || (daemon.app()["state"] != "watching").then_some(()));
    daemon.stop();
    assert!(!world.dir.path().join("admin.sock").exists(), "the socket went with the daemon");
}

// Bad input.

#[test]
fn a_bad_config_names_all_its_faults_at_once() {
    let dir = TempDir::new().unwrap();
    let faults: &[(&str, &str, &[&str])] = &[
        ("mode = \"automatic\"", "mode = \"automatic\"\nmin_outag = \"3s\"", &["app.shop.min_outag", "did you mean \"min_outage\"?"]),
        ("[aws]", "[aws]\ncall_timeout = 5", &["aws.call_timeout", "no unit", "\"5s\""]),
        ("http://127.0.0.1:9/one", "nowhere at all", &["witness.urls", "nowhere at all"]),
        ("name = \"alb\"", "name = \"alb\"\nfall = 0", &["fall"]),
        ("region = \"us-east-1\"", "region = \"ap-south-1\"", &["app.shop.standby.region", "is the primary's region too"]),
        ("mode = \"automatic\"", "mode = \"automatic\"\nrpo_objective = \"30s\"", &["app.shop.rpo_objective", "can never be shown"]),
        (
            "name = \"promote\"",
            "name = \"one\"\nkind = \"fence-primary\"\ngroup = \"g\"\nafter = [\"two\"]\n[[app.failover]]\nname = \"two\"\nkind = \"fence-primary\"\ngroup = \"g\"\nafter = [\"one\"]\n[[app.failover]]\nname = \"three\"\nkind = \"fence-primary\"\ngroup = \"g\"\nafter = [\"nobody\"]\n[[app.failover]]\nname = \"promote\"\nafter = []",
            &["circle", "one", "two", "\"nobody\""],
        ),
        ("name = \"traffic\"", "name = \"traffic\"\nafter = []", &["moves traffic before the data", "\"promote\""]),
    ];
    let changes: Vec<(&str, &str)> = faults.iter().map(|fault| (fault.0, fault.1)).collect();
    let config = alone(&dir, &changes);
    for args in [&["run"][..], &["check", "--offline"], &["check"], &["plan", "shop"], &["iam-policy"]] {
        let said = command(&config, args);
        for (_, _, words) in faults {
            holds(&said, 2, words);
        }
        holds(&said, 2, &["config.toml: "]);
    }
    // What needs no more of it than where the daemon and its journal are goes on to look there.
    for (args, code, words) in [
        (&["status"][..], 5, "not reachable"),
        (&["pause", "--for", "1h", "--reason", "r"], 5, "not reachable"),
        (&["explain", "shop"], 5, "not reachable"),
        (&["history"], 1, "journal.sqlite"),
    ] {
        let said = command(&config, args);
        holds(&said, code, &[words, "config.toml has ", " problems; `watchover check --offline` names them"]);
        assert!(!said.err.contains("min_outag"), "they are counted, and not listed: {}", said.err);
    }
    let said = command(&config, &["check", "--offline", "--json"]);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &document["ok"]), (Some(2), &json!(false)));
    assert!(document["problems"].as_array().unwrap().len() >= faults.len(), "{document:#}");
    assert!(!dir.path().join("state").exists(), "nothing was begun");

    // The same file without its faults is well: each of them was one.
    holds(&command(&alone(&dir, &[]), &["check", "--offline"]), 0, &["0 warnings"]);
}

#[test]
fn a_config_that_cannot_be_read_is_named_and_nothing_is_guessed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("config.toml");
    for args in [&["run"][..], &["check", "--offline"], &["plan", "shop"], &["iam-policy"]] {
        holds(&command(&file, args), 2, &["config.toml", "cannot be read"]);
    }
    holds(&command(dir.path(), &["run"]), 2, &["cannot be read"]);
    std::fs::write(&file, b"[daemon]\nobserver = \"\xff\"\n").unwrap();
    holds(&command(&file, &["run"]), 2, &["line 2", "UTF-8"]);
    std::fs::write(&file, "[daemon]\nlisten = \n").unwrap();
    for args in [&["run"][..], &["plan", "shop"]] {
        holds(&command(&file, args), 2, &["line 2"]);
    }
    // None at all: the places that were tried.
    let said: Said = watchover()
        .args(["check", "--offline"])
        .current_dir(dir.path().join(".."))
        .env("WATCHOVER_CONFIG", file.with_extension("none"))
        .output()
        .unwrap()
        .into();
    holds(&said, 2, &["config.none", "cannot be read"]);
    // Nor does an order go to whichever daemon the defaults name.
    let said: Said = watchover().arg("status").env("WATCHOVER_CONFIG", file.with_extension("none")).output().unwrap().into();
    holds(&said, 2, &["config.none", "cannot be read"]);
}

#[test]
fn a_config_that_cannot_be_parsed_locks_nobody_out_of_the_daemon_that_runs() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let tree: toml::Table = std::fs::read_to_string(&world.config).unwrap().parse().unwrap();
    let (socket, state) = (tree["daemon"]["admin_socket"].as_str().unwrap(), tree["daemon"]["state_dir"].as_str().unwrap());
    let with = |config: &Path, args: &[&str]| -> Said {
        let mut command = watchover();
        command.env("WATCHOVER__DAEMON__ADMIN_SOCKET", socket).env("WATCHOVER__DAEMON__STATE_DIR", state);
        command.arg("--config").arg(config).args(args).output().unwrap().into()
    };
    let (broken, missing) = (world.dir.path().join("broken.toml"), world.dir.path().join("missing.toml"));
    std::fs::write(&broken, "[daemon]\nlisten = \n").unwrap();
    for (file, cause) in [(&broken, "line 2"), (&missing, "cannot be read")] {
        let named = file.file_name().unwrap().to_str().unwrap();
        for args in
            [&["status"][..], &["explain"], &["explain", "shop"], &["history"], &["pause", "--for", "1m", "--reason", "r"], &["resume"]]
        {
            let said = with(file, args);
            holds(&said, 0, &[]);
            assert_eq!(said.err.lines().count(), 1, "{}", said.err);
            assert!([named, cause, socket, state].iter().all(|part| said.err.contains(part)), "{}", said.err);
        }
        holds(&with(file, &["abort", "--reason", "r"]), 4, &["no incident is open"]);
        // Without the environment it is looked for where it is by default, unless the file was named and is not there: a name
        // that was mistyped leads to no daemon.
        let elsewhere = command(file, &["status"]);
        assert!(!elsewhere.err.contains(socket), "{}", elsewhere.err);
        assert_eq!(elsewhere.err.contains("/run/watchover/admin.sock"), file.exists(), "{}", elsewhere.err);
        assert_eq!(elsewhere.code == Some(2), !file.exists(), "{}", elsewhere.err);
        // What needs the file does without it as before.
        holds(&with(file, &["plan", "shop"]), 2, &[cause]);
    }
    daemon.stop();
    holds(&with(&broken, &["history"]), 0, &["No incidents"]);
    holds(&with(&broken, &["status"]), 5, &["is broken", "not reachable"]);
}

#[test]
fn a_place_that_cannot_hold_the_journal_is_named() {
    let dir = TempDir::new().unwrap();
    // A path below a regular file is unwritable for root too.
    std::fs::write(dir.path().join("file"), "").unwrap();
    let config = alone(&dir, &[("DIR/state", "DIR/file/state")]);
    holds(&command(&config, &["run"]), 1, &["making state_dir", "file/state", "choose another `daemon.state_dir`"]);
    holds(&command(&config, &["history"]), 1, &["journal.sqlite"]);

    // A foreign file is not overwritten.
    std::fs::create_dir(dir.path().join("foreign")).unwrap();
    let foreign = dir.path().join("foreign/journal.sqlite");
    std::fs::write(&foreign, "this is no database, but somebody's only copy of something").unwrap();
    let config = alone(&dir, &[("DIR/state", "DIR/foreign")]);
    holds(&command(&config, &["run"]), 1, &["foreign/journal.sqlite"]);
    assert!(std::fs::read_to_string(&foreign).unwrap().starts_with("this is no database"));

    // Where it would listen, somebody does.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = alone(&dir, &[("127.0.0.1:0", &address)]);
    holds(&command(&config, &["run"]), 1, &[&address]);
}

#[test]
fn a_journal_changed_within_is_refused_by_the_number_of_its_entry() {
    let dir = TempDir::new().unwrap();
    let config = alone(&dir, &[]);
    for _ in 0..2 {
        Daemon::start(&config).stop();
    }
    let file = dir.path().join("state/journal.sqlite");
    let change = |sql: &str| {
        let db = rusqlite::Connection::open(&file).unwrap();
        assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
    };
    // The second start's; how many rows the first left hangs on how long it ran.
    let number: i64 = rusqlite::Connection::open(&file)
        .and_then(|db| db.query_row("SELECT max(seq) FROM entries WHERE instr(json, 'bastion-test')", [], |row| row.get(0)))
        .unwrap();
    assert!(number > 2, "entry {number}");
    change(&format!("UPDATE entries SET json = replace(json, 'bastion-test', 'somebody-else') WHERE seq = {number}"));
    for args in [&["run"][..], &["history"]] {
        holds(&command(&config, args), 1, &["journal.sqlite", &format!("entry {number} was changed within")]);
    }
    change(&format!("UPDATE entries SET json = replace(json, 'somebody-else', 'bastion-test') WHERE seq = {number}"));
    holds(&command(&config, &["history"]), 0, &[]);
    change("DELETE FROM entries WHERE seq = 2");
    holds(&command(&config, &["run"]), 1, &["journal.sqlite", "entry 2"]);
}

#[test]
fn a_release_is_told_its_revision() {
    let said = |program: &str, args: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("WATCHOVER_REVISION").env_remove("MAKEFLAGS");
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let (Some(revision), Some(_)) = (said("git", &["describe", "--always", "--dirty", "--abbrev=12"]), said("make", &["--version"])) else {
        println!("skipped: no make, or no git to name the revision");
        return;
    };
    for target in ["release", "lab-all", "rest"] {
        let commands = said("make", &["--dry-run", target]).unwrap();
        let wanted = format!("WATCHOVER_REVISION=\"{revision}\" cargo build --release --locked");
        assert!(commands.contains(&wanted), "{wanted} is not in {commands}");
    }
}

// Moves.

/// Waits for the end of the only move: the standby serves, and nothing is open.
fn moved(daemon: &Daemon) {
    until("the move is over", || {
        let app = daemon.app();
        assert_ne!(app["state"], "stuck", "{app:#}");
        (app["active_site"] == "standby" && app["incident"].is_null()).then_some(())
    });
}

fn only_incident(config: &Path) -> Value {
    let history = command(config, &["history", "--json"]).json();
    let incidents = history["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{history:#}");
    incidents[0].clone()
}

#[test]
fn a_drill_moves_and_is_told_afterwards_without_the_daemon() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    holds(&world.command(&["failover", "shop", "--reason", "drill"]), 0, &["drill", "step-verified", "moved"]);
    moved(&daemon);
    let labels = [("direction", "to-standby"), ("trigger", "operator"), ("outcome", "moved")];
    until("it is counted", || (daemon.metrics().value("watchover_incidents_total", &labels) == 1.0).then_some(()));
    let metrics = daemon.metrics();
    assert_eq!(metrics.value("watchover_active_site", &[("site", "standby")]), 1.0);
    assert_eq!(metrics.value("watchover_incident_active", &[]), 0.0);
    assert_eq!(metrics.value("watchover_rto_seconds_count", &[labels[0], labels[1], ("phase", "total")]), 1.0);
    let total = metrics.value("watchover_last_incident_rto_seconds", &[labels[0], labels[1], ("phase", "total")]);
    assert!(total > 0.0 && total.is_finite(), "{total}");
    assert!(metrics.value("watchover_last_incident_rpo_seconds", &labels[..2]) >= 0.0);
    for step in ["fence", "promote", "capacity", "traffic"] {
        assert_eq!(metrics.value("watchover_step_duration_seconds_count", &[("step", step)]), 1.0, "{step}");
    }

    // The config has no way back, and the cooldown is not the reason that counts.
    holds(&world.command(&["failback", "shop", "--reason", "home"]), 4, &["no steps lead to-primary", "[[app.failback]]"]);
    holds(&world.command(&["failover", "shop", "--reason", "again"]), 4, &["standby of shop is active already"]);
    assert_eq!(world.count("promotion-accepted"), 1);
    world.is_as_it_should_be();
    daemon.stop();

    let incident = only_incident(&world.config);
    assert_eq!((&incident["outcome"], &incident["trigger"], &incident["app"]), (&json!("moved"), &json!("operator"), &json!("shop")));
    let id = incident["id"].as_str().unwrap();
    holds(&world.command(&["history"]), 0, &[id, "moved"]);
    holds(&world.command(&["report", id]), 0, &[id, "drill", "uid ", "promote", "RTO"]);
    holds(&world.command(&["report", id, "--format", "html"]), 0, &["<html", id]);
    let report = world.command(&["report", id, "--format", "json"]).json();
    assert_eq!((&report["schema_version"], &report["outcome"]), (&json!(1), &json!("moved")), "{report:#}");
    holds(&world.command(&["explain", id]), 0, &["data-loss", "cooldown"]);
    holds(&world.command(&["report", "none-such"]), 2, &["none-such", "watchover history"]);
    holds(&world.command(&["explain", "shop"]), 0, &[id, "data-loss", "not reachable", "decided last"]);
    holds(&world.command(&["history", "--limit", "1", "--before", id]), 0, &["No incidents"]);
    holds(&world.command(&["history", "--limit", "0"]), 2, &["from 1 to 100000"]);

    // A restart remembers which site is active, and does nothing about it.
    let daemon = Daemon::start(&world.config);
    until("the daemon is ready", || (daemon.get("/readyz").0 == 200).then_some(()));
    assert_eq!(daemon.app()["active_site"], "standby");
    assert_eq!(world.count("promotion-accepted"), 1);
    daemon.stop();
}

/// Somebody who starts a move, and follows it into that file.
fn follower(world: &World, log: &Path) -> Process {
    let mut start = watchover();
    start.arg("--config").arg(&world.config).args(["failover", "shop", "--reason", "drill", "--accept-data-loss", "any"]);
    Process::start(start, log)
}

#[test]
fn whoever_follows_a_move_and_leaves_is_told_that_it_goes_on() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let log = world.dir.path().join("follower.log");
    let mut follower = follower(&world, &log);
    let said = || std::fs::read_to_string(&log).unwrap();
    until("it follows", || said().contains("step-asked").then_some(()));
    follower.signal(Signal::INT);
    let (status, _) = follower.end();
    assert_eq!(status.code(), Some(130), "{}", said());
    let id = only_incident(&world.config)["id"].as_str().unwrap().to_owned();
    for words in
        ["goes on in the daemon", "watchover status shop", &format!("watchover report {id}"), &format!("watchover abort {id} --reason")]
    {
        assert!(said().contains(words), "{words:?} is not in {}", said());
    }
    moved(&daemon);
    daemon.stop();
}

/// Starts a move, ends the daemon by that signal once the promotion was accepted, and starts it again. Whoever follows the
/// move follows it to its end.
fn interrupted(signal: Signal) {
    let world = World::start();
    let mut daemon = Daemon::steady(&world.config);
    let log = world.dir.path().join("follower.log");
    let mut follower = follower(&world, &log);
    until("the promotion is accepted", || (world.count("promotion-accepted") == 1).then_some(()));
    daemon.process.signal(signal);
    let (status, took) = daemon.process.end();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    if signal == Signal::TERM {
        assert_eq!(status.code(), Some(0), "{}", daemon.said());
    }
    // The incident is open in the journal, for whoever looks while nobody works on it.
    let open = only_incident(&world.config);
    assert!(open["outcome"].is_null() && open["closed"].is_null(), "{open:#}");

    let said = || std::fs::read_to_string(&log).unwrap();
    until("whoever follows is told", || said().contains("the daemon does not answer").then_some(()));
    let daemon = Daemon::start(&world.config);
    moved(&daemon);
    let (status, _) = follower.end();
    assert_eq!(status.code(), Some(0), "{}", said());
    assert!(said().contains("closed"), "{}", said());
    let labels = [("direction", "to-standby"), ("trigger", "operator"), ("outcome", "moved")];
    until("it is counted after all", || (daemon.metrics().value("watchover_incidents_total", &labels) == 1.0).then_some(()));
    assert_eq!(world.count("promotion-accepted"), 1);
    // Killed between RDS's yes and the row that would have kept it, and back before RDS shows what it does: then it is asked
    // once more, and RDS refuses. What counts is that it took effect once.
    assert!((1..=2).contains(&world.calls("PromoteReadReplica")));
    assert_eq!(world.count("records-changed"), 1);
    world.is_as_it_should_be();
    let incident = only_incident(&world.config);
    assert_eq!((&incident["id"], &incident["outcome"]), (&open["id"], &json!("moved")), "{incident:#}");
    daemon.stop();
}

#[test]
fn killed_in_the_middle_it_resumes_and_moves_once() {
    interrupted(Signal::KILL);
}

#[test]
fn told_to_stop_in_the_middle_it_leaves_and_goes_on_later() {
    interrupted(Signal::TERM);
}

/// The way back of the lab's own config, and nobody who reads the primary's database.
fn way_back(world: &World) {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let (_, traffic) = text.split_once("[[app.failover]]\nname = \"traffic\"\n").unwrap();
    let records = traffic.replace("weight = 100", "weight = 1").replace("weight = 0", "weight = 100").replace("weight = 1 ", "weight = 0 ");
    let steps = r#"
[[app.failback]]
name = "fence"
kind = "fence-primary"
group = "shop-standby"
on_failure = "continue"
[[app.failback]]
name = "promote"
kind = "rds-promote-replica"
db_instance = "shop-primary"
[[app.failback]]
name = "traffic"
"#;
    append(&world.config, &format!("{steps}{}", records.replace("after = [\"promote\", \"capacity\"]\n", "")));
}

#[test]
fn a_planned_way_back_to_a_database_that_was_not_built_anew_is_called_off_before_anything_is_changed() {
    let world = World::start();
    way_back(&world);
    let daemon = Daemon::steady(&world.config);
    // Not fenced, so that the primary is well again as it was: alone, and without what is written from now on.
    let refused = json!({"service": "autoscaling", "region": "ap-south-1", "action": "answer", "status": 403, "code": "AccessDenied", "message": "no"});
    world.act("/fault", &refused);
    holds(&world.command(&["failover", "shop", "--reason", "drill", "--accept-data-loss", "any"]), 0, &["moved"]);
    moved(&daemon);
    let sizes = || {
        let state = world.read("/state");
        let groups = state["groups"].as_array().unwrap().iter().find(|group| group["name"] == "shop-standby").unwrap().clone();
        (groups["min"].clone(), groups["max"].clone(), groups["desired"].clone())
    };
    let (before, updates) = (sizes(), world.calls("UpdateAutoScalingGroup"));
    let said = until("the way back was inspected", || {
        let said = world.command(&["failback", "shop", "--reason", "home", "--graceful", "--force"]);
        (!said.err.contains("not inspected yet")).then_some(said)
    });
    let words = "it stands alone, and this move did not promote it";
    assert!(said.code != Some(0) && said.out.contains(words) && said.out.contains("nothing was changed"), "{} {}", said.out, said.err);
    let app = daemon.shows("it is called off", |app| app["incident"].is_null());
    assert_eq!(app["active_site"], "standby", "{app:#}");
    assert_eq!((sizes(), world.calls("UpdateAutoScalingGroup")), (before, updates), "the writers are left alone");
    let history = world.command(&["history", "--json"]).json();
    let outcomes: Vec<_> = history["incidents"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert!(outcomes.contains(&json!("called-off")), "{history:#}");
    daemon.stop();
}
