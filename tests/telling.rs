//! The real binary telling people: steps that run programs, publish, look and wait for a yes; receivers of messages,
//! one of which hangs.

#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]
#![allow(dead_code, reason = "each test file uses its part of the harness")]

mod real;

use std::net::TcpListener;

use real::{Daemon, GO_FIRST, World, append, until};
use serde_json::Value;

/// Takes connections and never answers; it ends with the process.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    address
}

/// A world whose plan asks, tells, runs and looks besides; and two receivers of messages.
fn world() -> World {
    let world = World::start();
    let dir = world.dir.path().to_str().unwrap().to_owned();
    let tree: Value = serde_json::from_slice(&std::fs::read(world.dir.path().join("world.json")).unwrap()).unwrap();
    let topic = tree["topic_arn"].as_str().unwrap();
    let text = std::fs::read_to_string(&world.config).unwrap();
    let standby = text.split_once("[app.standby]").unwrap().1;
    let of = |key: &str| standby.split_once(&format!("\n{key} = \"")).unwrap().1.split_once('"').unwrap().0.to_owned();
    let (url, connect_to) = (of("url"), of("connect_to"));
    world.edit(&[GO_FIRST]);
    let more = format!(
        r#"
[[app.failover]]
name = "hook"
kind = "command"
phase = "pre"
idempotent = true
argv = ["/bin/sh", "-c", "env | sort > {dir}/hook.env; echo ready"]
[[app.failover]]
name = "go"
kind = "approval"
after = []
ask = "promote the replica?"
who = "the database on-call"
timeout = "5m"
[[app.failover]]
name = "looks"
kind = "http-check"
after = ["promote"]
url = "{url}"
connect_to = "{connect_to}"
times = 2
interval = "100ms"
[[app.failover]]
name = "told"
kind = "sns"
after = ["looks", "traffic"]
topic_arn = "{topic}"

[[notify]]
name = "hangs"
kind = "webhook"
url = "http://{silent}/tell"
[[notify]]
name = "desk"
kind = "command"
argv = ["/bin/sh", "-c", "cat >> {dir}/desk.log; echo >> {dir}/desk.log"]
remind_every = "1s"
"#,
        silent = silent()
    );
    append(&world.config, &more);
    world
}

fn desk(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.dir.path().join("desk.log")).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A33, A34 and the steps that need no cloud: one move from the outage to its proof, through a hook, a person, a crash.
#[test]
fn a_move_asks_and_tells_and_a_receiver_that_hangs_delays_nothing() {
    let world = world();
    let said = world.command(&["check"]);
    assert!(
        said.out.contains("notify.hangs") && said.out.contains("notify.desk") && said.out.contains("it asks a person"),
        "{}{}",
        said.out,
        said.err
    );
    let daemon = Daemon::steady(&world.config);
    let said = world.command(&["failover", "shop", "--reason", "drill", "--accept-data-loss", "any"]);
    assert_eq!(said.code, Some(6), "it waits for a person: {}{}", said.out, said.err);
    let incident = daemon.app()["incident"]["id"].as_str().unwrap().to_owned();
    assert!(daemon.app()["incident"]["waits_for"].as_str().unwrap().contains(&format!("watchover approve {incident}")));
    let environment = std::fs::read_to_string(world.dir.path().join("hook.env")).unwrap();
    assert!(
        environment.contains(&format!("WATCHOVER_STEP_ID={incident}/hook\n")) && environment.contains("WATCHOVER_APP=shop\n"),
        "{environment}"
    );
    assert!(!environment.contains("AWS_"), "no secret reaches it: {environment}");
    assert_eq!(world.calls("PromoteReadReplica"), 0, "nothing final before the yes");
    until("a reminder is told", || desk(&world).iter().any(|one| one["reminder"].as_u64() > Some(0)).then_some(()));

    // The question outlives the process.
    drop(daemon);
    let daemon = Daemon::start(&world.config);
    until("it waits again", || daemon.app()["incident"]["waits_for"].is_string().then_some(()));
    let said = world.command(&["approve", &incident, "--reason", "seen the figures", "--accept-data-loss", "any"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    until("it has moved", || (daemon.app()["state"] == "watching" && daemon.app()["active_site"] == "standby").then_some(()));
    assert_eq!(world.calls("PromoteReadReplica"), 1);
    assert_eq!(world.calls("Publish"), 1);
    until("the end is told", || desk(&world).iter().any(|one| one["event"] == "moved").then_some(()));
    let events: Vec<String> = desk(&world).iter().map(|one| one["event"].as_str().unwrap().to_owned()).collect();
    assert!(events.contains(&"moving".to_owned()) && events.contains(&"awaiting-approval".to_owned()), "{events:?}");
    let ids: Vec<String> = desk(&world).iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<std::collections::BTreeSet<_>>().len(), "each message once: {ids:?}");
    let metrics = daemon.metrics();
    assert_eq!(metrics.value("watchover_messages_total", &[("receiver", "hangs"), ("outcome", "sent")]), 0.0);
    assert!(metrics.value("watchover_messages_total", &[("receiver", "desk"), ("outcome", "sent")]) >= 1.0);
    assert_eq!(metrics.value("watchover_messages_dropped_total", &[("receiver", "hangs")]), 0.0);
    // It hangs for ten seconds an attempt, and the loop was never late by half of that.
    let late = metrics.value("watchover_loop_lag_seconds_bucket", &[("le", "5")]);
    assert!((late - metrics.value("watchover_loop_lag_seconds_count", &[])).abs() < 0.5, "{late}");
    world.is_as_it_should_be();
    daemon.stop();
}

/// A33: what comes before everything says no, and nothing is changed.
#[test]
fn a_pre_hook_that_says_no_leaves_the_world_as_it_was() {
    let world = world();
    let hook = world.dir.path().join("hook.sh");
    world.edit(&[("argv = [\"/bin/sh\", \"-c\", \"env | sort >", &format!("argv = [\"/bin/sh\", \"{}\"] #", hook.display()))]);
    std::fs::write(&hook, "echo the freeze is on; exit 3\n").unwrap();
    let daemon = Daemon::steady(&world.config);
    let said = world.command(&["failover", "shop", "--reason", "drill", "--accept-data-loss", "any"]);
    assert_eq!(said.code, Some(6), "{}{}", said.out, said.err);
    let stuck = daemon.app()["incident"]["stuck"]["words"].as_str().unwrap().to_owned();
    assert!(
        stuck.contains("exit code 3") && stuck.contains("the freeze is on") && stuck.contains("no other step was asked for"),
        "{stuck}"
    );
    for operation in ["UpdateAutoScalingGroup", "SetDesiredCapacity", "PromoteReadReplica", "ChangeResourceRecordSets", "Publish"] {
        assert_eq!(world.calls(operation), 0, "{operation}");
    }
    daemon.stop();
}
