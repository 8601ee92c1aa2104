//! The lab's scenarios through the real binary: what `watchover lab SCENARIO --json` promises to whoever reads it.
//!
//! How long things take is printed and measured elsewhere; a test on a busy machine asserts what happened.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here must fail the test")]

use std::process::{Command, Stdio};

use serde_json::Value;

/// Every key of the summary line; scripts hang on them.
const KEYS: &[&str] = &[
    "event",
    "schema_version",
    "scenario",
    "seed",
    "outcome",
    "expected",
    "rto_seconds",
    "rto_phases",
    "rpo_reported_seconds",
    "rpo_true_seconds",
    "rpo_assumption",
    "own_overhead_seconds",
    "first_effect_seconds",
    "aws_calls",
    "violations",
];

/// Plays a scenario and asserts what holds in every one; answers the summary.
fn play(scenario: &str, seed: u64) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_watchover"))
        .args(["lab", scenario, "--json", "--seed", &seed.to_string()])
        .env_remove("WATCHOVER_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("events are UTF-8");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|cause| panic!("{scenario}: no JSON ({cause}): {line}")))
        .collect();
    let (summary, before) = lines.split_last().unwrap_or_else(|| panic!("{scenario} said nothing: {said}"));
    assert!(output.status.success(), "{scenario}: {}: {said}\n{summary:#}", output.status);
    assert!(!before.is_empty());
    for line in before {
        assert!(line.is_object() && line["event"].is_string() && line["event"] != "summary", "{scenario}: {line}");
    }
    for key in KEYS {
        assert!(summary.get(key).is_some(), "{scenario}: {key} is missing: {summary:#}");
    }
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["schema_version"], 1);
    assert_eq!(summary["scenario"], scenario);
    assert_eq!(summary["seed"], seed);
    assert_eq!(summary["outcome"], summary["expected"], "{summary:#}");
    assert_eq!(summary["violations"], serde_json::json!([]), "{summary:#}");
    for call in summary["aws_calls"].as_array().expect("a list") {
        assert!(call["service"].is_string() && call["region"].is_string() && call["operation"].is_string(), "{call}");
        assert!(call["count"].as_u64().is_some_and(|count| count > 0), "{call}");
    }
    summary.clone()
}

/// How often that operation was called, all regions together.
fn calls(summary: &Value, operation: &str) -> u64 {
    let all = summary["aws_calls"].as_array().expect("a list");
    all.iter().filter(|call| call["operation"] == operation).filter_map(|call| call["count"].as_u64()).sum()
}

/// What holds of every move that lost the primary for good.
fn moved(summary: &Value) {
    assert_eq!(summary["outcome"], "moved");
    let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("{key} is no number: {summary:#}"));
    let (reported, truth) = (number("rpo_reported_seconds"), number("rpo_true_seconds"));
    assert!(reported >= truth, "reported {reported}, true {truth}");
    assert!(summary["rpo_assumption"].as_str().is_some_and(|words| !words.is_empty()), "{summary:#}");
    let rto = number("rto_seconds");
    let phases = summary["rto_phases"].as_object().expect("phases");
    for phase in ["detect", "hold", "approve", "execute", "prove"] {
        assert!(phases.contains_key(phase), "{phase} is missing: {summary:#}");
    }
    let sum: f64 = phases.values().filter_map(Value::as_f64).sum();
    assert!((sum - rto).abs() < 0.001, "phases sum to {sum}, the RTO is {rto}");
    assert!(number("first_effect_seconds") > 0.0);
    assert!(summary["own_overhead_seconds"].is_number(), "{summary:#}");
    assert_eq!(calls(summary, "PromoteReadReplica"), 1);
}

#[test]
fn region_loss_moves_once_and_reports_no_less_than_was_lost() {
    let summary = play("region-loss", 7);
    moved(&summary);
    assert_eq!(calls(&summary, "ChangeResourceRecordSets"), 1);
}

#[test]
fn instance_terminated_heals_by_itself() {
    let summary = play("instance-terminated", 8);
    assert_eq!(summary["outcome"], "no-action");
    for key in ["rto_seconds", "rpo_reported_seconds", "first_effect_seconds"] {
        assert!(summary[key].is_null(), "{key}: {summary:#}");
    }
    for operation in ["PromoteReadReplica", "UpdateAutoScalingGroup", "ChangeResourceRecordSets"] {
        assert_eq!(calls(&summary, operation), 0, "{operation}");
    }
}

#[test]
fn control_plane_down_still_moves_users_by_the_switch() {
    let summary = play("control-plane-down", 9);
    moved(&summary);
    assert_eq!(calls(&summary, "PutObject"), 1);
}

#[test]
fn crash_mid_failover_ends_as_if_there_had_been_none() {
    let summary = play("crash-mid-failover", 10);
    moved(&summary);
}

#[test]
fn api_throttled_gets_there_by_asking_again() {
    let summary = play("api-throttled", 11);
    assert_eq!(summary["outcome"], "moved");
    assert_eq!(calls(&summary, "PromoteReadReplica"), 4, "three were turned away: {summary:#}");
    assert!(calls(&summary, "ChangeResourceRecordSets") > 1, "{summary:#}");
}

#[test]
fn writers_survive_and_the_loss_has_no_bound() {
    let summary = play("writers-survive", 12);
    assert_eq!(summary["outcome"], "moved");
    assert_eq!(summary["rpo_reported_seconds"], "unbounded");
    assert_eq!(summary["rpo_assumption"], "old-site-seen-alive");
    assert!(summary["rpo_true_seconds"].as_f64().is_some_and(|seconds| seconds > 1.0), "{summary:#}");
}

#[test]
fn dns_validation_goes_there_and_back_and_nobody_notices() {
    let summary = play("dns-validation", 13);
    assert_eq!(summary["outcome"], "returned");
    assert_eq!(calls(&summary, "ChangeResourceRecordSets"), 2);
    assert_eq!(calls(&summary, "PromoteReadReplica"), 0);
}

#[test]
fn every_scenario_is_listed_with_its_end_and_an_unknown_one_is_refused() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_watchover")).args(args).output().expect("the binary runs");
    let output = run(&["lab", "--list", "--json"]);
    assert!(output.status.success());
    let list: Value = serde_json::from_slice(&output.stdout).expect("one document");
    let names: Vec<&str> = list["scenarios"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    for name in [
        "region-loss",
        "app-stopped",
        "instance-terminated",
        "bastion-isolated",
        "standby-down",
        "control-plane-down",
        "crash-mid-failover",
        "instance-stopped",
        "promote-only",
        "dns-validation",
        "flapping",
        "lag-over-objective",
        "replication-broken",
        "api-throttled",
        "brown-out",
        "writers-survive",
        "primary-returns",
        "both-regions-down",
        "approval-needed",
        "many-apps",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let output = run(&["lab", "none-such"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("region-loss"), "it names what there is");
}
