//! `plan --format aws-cli`: the move as a bash script that a person runs without us.
//!
//! What is asked, waited for and read back, each kind of step says itself ([`crate::ports::Step::script`]); here they
//! are put in the order of the plan. Steps that the plan lets run side by side follow one another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::inspect::{Inspected, said};
use crate::adapters::shell::{PRELUDE, joined, one_line, shell_word};
use crate::config::{AccountConfig, Config};
use crate::domain::plan::{OnFailure, Plan, PlannedStep};
use crate::domain::policy::AppPolicy;
use crate::ports::ScriptContext;

/// A step's wait in the script, at least: a deadline that suits a daemon is short for a command line that takes a second
/// for each call.
const LEAST_WAIT: Duration = Duration::from_secs(60);

/// The steps that could not be inspected, each with why: what the script says of them is written without a look at what
/// stands there, and may ask for nothing, or for too much.
pub(super) fn lacks(found: &[Inspected<'_>]) -> Vec<String> {
    found
        .iter()
        .filter_map(|one| one.found.as_ref().err().map(|error| one_line(&format!("step {}: {}", one.step.name, error.message))))
        .collect()
}

/// The whole script for the plan as it stands now. `now`: when it was written, for a person.
pub(super) fn script(config: &Config, app: &AppPolicy, plan: &Plan, found: &[Inspected<'_>], now: &str) -> String {
    let target = plan.direction.target();
    let (region, app) = (&app.site(target).region, &app.name);
    let lacks = lacks(found);
    let warning = if lacks.is_empty() {
        String::new()
    } else {
        let each: String = lacks.iter().map(|words| format!("#   {words}\n")).collect();
        format!(
            "# NOT WHOLE: what stands there could not be seen when this was written, so these steps may do nothing, or the wrong thing:\n{each}"
        )
    };
    let mut out = format!(
        "#!/usr/bin/env bash\n{warning}# Moves {} {} without watchover: the calls that it would make, with what it waits for and reads back.\n\
         # Written {now}; what stands there may have changed since. Stop the daemon first, or pause it: one mover at a time.\n\
         # Needs the aws command and credentials that may do what `watchover iam-policy` lists.\n{PRELUDE}",
        one_line(app),
        plan.direction
    );
    // The command line wants one for global services too, where it is given an endpoint.
    out.push_str(&format!("home={}\nexport AWS_DEFAULT_REGION=\"${{AWS_DEFAULT_REGION:-${{AWS_REGION:-$home}}}}\"\n", shell_word(region)));
    if let Some(endpoint) = &config.aws.endpoint_url {
        let endpoint = shell_word(endpoint.as_str().trim_end_matches('/'));
        out.push_str(&format!("[[ -n ${{AWS_ENDPOINT_URL:-}} ]] || AWS_ENDPOINT_URL={endpoint}\nexport AWS_ENDPOINT_URL\n"));
    }
    out.push_str(&external_ids(&config.accounts, plan));
    // The date of the run, not of the writing: each move is one of its own, and told so to the programs that it runs.
    out.push_str(&format!(
        "WATCHOVER_APP={} WATCHOVER_DIRECTION={} WATCHOVER_TARGET={target} WATCHOVER_GRACEFUL=false\n\
         # Whoever runs this again for the same move gives it the first run's name.\n\
         WATCHOVER_INCIDENT=\"${{WATCHOVER_INCIDENT:-break-glass-$(date -u +%Y%m%dT%H%M%SZ)}}\"\n\
         say \"this run is WATCHOVER_INCIDENT=$WATCHOVER_INCIDENT\"\n",
        shell_word(app),
        plan.direction
    ));
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let ready = |one: &&Inspected<'_>, done: &BTreeSet<&str>| {
        !done.contains(one.step.name.as_str()) && one.step.after.iter().all(|name| done.contains(name.as_str()))
    };
    while let Some(one) = found.iter().find(|one| ready(one, &done)) {
        let cx = ScriptContext { direction: plan.direction, limit: one.step.deadline.max(LEAST_WAIT) };
        out.push_str(&section(&config.accounts, region, one.step, &said(&one.found).1, &one.script(&cx)));
        done.insert(&one.step.name);
    }
    for (one, lines) in found.iter().map(|one| (one, one.afterwards())).filter(|(_, lines)| !lines.is_empty()) {
        // Users are served by now, and what is refused at this moment can be asked for again by hand.
        let step = PlannedStep { name: format!("{} afterwards", one.step.name), on_failure: OnFailure::Continue, ..one.step.clone() };
        out.push_str(&section(&config.accounts, region, &step, "this could wait until users are served", &lines));
    }
    let last = format!(
        "every step is done; look at the front door of {app}, then tell the daemon: watchover adopt {app} --active {target} --reason TEXT"
    );
    out.push_str(&format!("\nsay {}\n", shell_word(&last)));
    out
}

/// The variable in which the account's external id is given: a secret, which the script does not hold.
fn external_id(account: &str) -> String {
    format!("EXTERNAL_ID_{}", account.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// Asks for every external id before anything is changed: without one the first step of that account would end the move in
/// its middle.
fn external_ids(accounts: &BTreeMap<String, AccountConfig>, plan: &Plan) -> String {
    let used: BTreeSet<&String> = plan.steps.iter().filter_map(|step| step.account.as_ref()).collect();
    let asks = |name: &&&String| accounts.get(**name).is_some_and(|account| account.external_id.is_some());
    used.iter()
        .filter(asks)
        .map(|name| format!(": \"${{{}:?is not set: the external id that the role of this account asks for}}\"\n", external_id(name)))
        .collect()
}

/// One step. Its lines are joined by `&&`, so that the first that fails ends the step, whatever bash makes of `set -e`.
fn section(accounts: &BTreeMap<String, AccountConfig>, region: &str, step: &PlannedStep, seen: &str, lines: &[String]) -> String {
    let heading = one_line(&format!("{} ({}, {}): when this was written, {seen}", step.name, step.kind, step.class));
    let mut out = format!("\n# {heading}\n");
    if lines.iter().all(|line| line.trim().is_empty()) {
        return out + "# nothing to ask for\n";
    }
    let name = format!("step_{}", step.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    out.push_str(&format!("{name}() {{\n"));
    // A region that is gone answers nothing, three attempts long: what the move goes on without must not hold it up.
    if step.on_failure == OnFailure::Continue {
        out.push_str("  local patience=5\n");
    }
    out.push_str(&joined(lines));
    out.push_str(&format!("}}\nsay {}\n", shell_word(&step.name)));
    let call = match step.account.as_ref().and_then(|account| Some((account, accounts.get(account)?))) {
        // In a subshell: the keys of the other account end with it.
        Some((account, spec)) => {
            let id = external_id(account);
            format!("(as_role {} {} \"${{{id}:-}}\" {name})", shell_word(region), shell_word(&spec.role_arn))
        }
        None => name,
    };
    let not_done = |what: &str| shell_word(&format!("{}: not done; {what}", step.name));
    let failed = match step.on_failure {
        OnFailure::Continue => format!("say {}", not_done("the plan goes on without it")),
        OnFailure::Halt => format!("{{ say {}; exit 1; }}", not_done("nothing after it was started")),
    };
    out + &format!("{call} || {failed}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::adapters::Adapters;
    use crate::adapters::shell::bench::Bench;
    use crate::domain::fixtures;
    use crate::domain::model::Direction;
    use crate::domain::plan::Class;

    fn step(name: &str, on_failure: OnFailure) -> PlannedStep {
        PlannedStep { kind: "route53-records".into(), on_failure, ..fixtures::step(name, Class::Traffic, None, &[]) }
    }

    /// Runs the sections in bash, with an `aws` that always answers 3; answers the exit code and what was said.
    fn run(sections: &[(PlannedStep, &[&str])]) -> (Option<i32>, String) {
        let mut text = PRELUDE.to_owned();
        for (step, lines) in sections {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            text.push_str(&section(&BTreeMap::new(), "us-east-1", step, "it can\nbe done", &lines));
        }
        let ran = Bench::new(&[("aws", "echo 3")]).script(&text, &[]);
        (ran.code, ran.said)
    }

    /// The committed config with these steps for its failover, none of them inspected, and its script.
    fn printed(accounts: &[(&str, Option<&str>)], steps: Vec<PlannedStep>, endpoint: Option<&str>) -> String {
        let mut config = crate::config::load(Path::new("config.toml"), &crate::adapters::Kinds).unwrap();
        for (name, id) in accounts {
            let account =
                AccountConfig { role_arn: "arn:aws:iam::123456789012:role/r".into(), external_id: id.map(crate::config::Secret::new) };
            config.accounts.insert((*name).to_owned(), account);
        }
        config.aws.endpoint_url = endpoint.map(|url| url.parse().unwrap());
        let plan = Plan { direction: Direction::ToStandby, steps };
        let found: Vec<Inspected<'_>> = plan.steps.iter().map(|step| Inspected::unseen(step, &Adapters::for_tests())).collect();
        script(&config, &config.apps[0].policy, &plan, &found, "now")
    }

    fn told(name: &str, account: Option<&str>) -> PlannedStep {
        let keys = serde_json::json!({ "topic_arn": "arn:aws:sns:us-east-1:123456789012:moves" });
        PlannedStep { kind: "sns".into(), account: account.map(Into::into), keys, ..fixtures::step(name, Class::Other, None, &[]) }
    }

    #[tokio::test]
    async fn external_ids_are_asked_for_before_anything_is_called() {
        let accounts = [("net-work", Some("hush")), ("plain", None), ("unused", Some("hush"))];
        let text = printed(&accounts, vec![told("ours", None), told("far", Some("net-work")), told("near", Some("plain"))], None);
        assert!(!text.contains("hush") && !text.contains("EXTERNAL_ID_UNUSED") && !text.contains(":?EXTERNAL_ID_PLAIN"), "{text}");
        let aws = r#"echo "$* by ${AWS_ACCESS_KEY_ID:-us}" >>"$LOG"; echo key secret token"#;
        let ran = Bench::new(&[("aws", aws)]).script(&text, &[]);
        assert!(ran.code != Some(0) && ran.said.contains("EXTERNAL_ID_NET_WORK") && ran.log.is_empty(), "{} {}", ran.said, ran.log);
        let ran = Bench::new(&[("aws", aws)]).script(&text, &[("EXTERNAL_ID_NET_WORK", "it's me")]);
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        let calls: Vec<&str> = ran.log.lines().map(|line| line.split_once(" 20 ").unwrap().1).collect();
        assert!(calls[0].starts_with("sns publish") && calls[0].ends_with("by us"), "{calls:?}");
        let assumed = "sts assume-role --region us-east-1 --role-arn arn:aws:iam::123456789012:role/r --role-session-name break-glass";
        assert!(calls[1].starts_with(&format!("{assumed} --external-id it's me --query")), "{calls:?}");
        assert!(calls[2].starts_with("sns publish") && calls[2].ends_with("by key"), "{calls:?}");
        assert!(calls[3].starts_with(&format!("{assumed} --query")), "{calls:?}");
    }

    #[tokio::test]
    async fn what_users_need_not_wait_for_comes_last_and_fails_nothing() {
        let keys = serde_json::json!({ "db_instance": "shop-replica", "drain_seconds": 0.0, "backup_retention": 7, "multi_az": true });
        let promote = PlannedStep { kind: "rds-promote-replica".into(), keys, ..fixtures::step("promote", Class::Data, None, &[]) };
        let text = printed(&[("plain", None)], vec![PlannedStep { account: Some("plain".into()), ..promote }, told("ours", None)], None);
        let aws = r#"
            echo "$* by ${AWS_ACCESS_KEY_ID:-us}" >>"$LOG"
            case "$*" in
              *assume-role*) echo key secret token ;;
              *modify-db-instance*) echo "An error (InvalidDBInstanceState)" >&2; exit 254 ;;
              *contains*) echo True ;;
              *) echo None ;;
            esac"#;
        let ran = Bench::new(&[("aws", aws)]).script(&text, &[]);
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert!(ran.said.contains("promote afterwards: not done; the plan goes on without it"), "{}", ran.said);
        let call = |line| str::split_once(line, "--cli-read-timeout ").and_then(|(_, rest)| rest.split_once(' ')).unwrap().1;
        let last: Vec<&str> = ran.log.lines().map(call).collect();
        let asked = last.iter().position(|call| call.starts_with("rds modify-db-instance")).unwrap();
        assert!(last[asked].ends_with("--db-instance-identifier shop-replica --multi-az --apply-immediately by key"), "{last:?}");
        assert!(last.iter().position(|call| call.starts_with("sns publish")).unwrap() < asked && asked == last.len() - 1, "{last:?}");
    }

    #[tokio::test]
    async fn a_program_is_told_as_much_as_by_the_daemon() {
        let keys = serde_json::json!({ "argv": ["/usr/bin/env"], "phase": "main", "idempotent": false, "class": "other" });
        let hook = |name: &str| PlannedStep { kind: "command".into(), keys: keys.clone(), ..told(name, None) };
        let text = printed(&[], vec![hook("warm"), hook("it's")], None);
        let ran = Bench::new(&[("aws", "exit 1")]).script(&text, &[]);
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        let said =
            |name: &str| -> Vec<&str> { ran.said.lines().filter_map(|line| line.strip_prefix(&format!("WATCHOVER_{name}="))).collect() };
        for (name, value) in
            [("ACTION", "apply"), ("APP", "shop"), ("DIRECTION", "to-standby"), ("TARGET", "standby"), ("GRACEFUL", "false")]
        {
            assert_eq!(said(name), [value, value], "{name}");
        }
        assert_eq!((said("STEP"), said("REGION")), (vec!["warm", "it's"], vec!["us-east-1", "us-east-1"]));
        let incident = said("INCIDENT")[0];
        assert!(incident.starts_with("break-glass-20") && said("INCIDENT")[1] == incident, "{incident}");
        assert_eq!(said("STEP_ID"), [format!("{incident}/warm"), format!("{incident}/it's")]);
        let again = Bench::new(&[("aws", "exit 1")]).script(&text, &[("WATCHOVER_INCIDENT", incident)]);
        assert!(again.said.contains(&format!("WATCHOVER_STEP_ID={incident}/warm\n")), "{}", again.said);
    }

    #[tokio::test]
    async fn nothing_of_the_config_is_run() {
        let name = "a'; touch taken; '\ntouch taken $(touch taken)";
        let mut step = told(name, Some(name));
        step.keys["topic_arn"] = "arn:aws:sns:us-east-1;touch${IFS}taken:123456789012:moves\ntouch taken".into();
        for endpoint in ["http://h/$(touch${IFS}taken)", "http://h/`touch${IFS}taken`", "http://h/'\";touch${IFS}taken;\""] {
            let text = printed(&[(name, Some("hush"))], vec![step.clone()], Some(endpoint));
            let bench = Bench::new(&[("aws", "echo key secret token")]);
            let id = external_id(name);
            let ran = bench.script(&text, &[(&id, "id")]);
            assert!(!bench.path().join("taken").exists(), "{text}");
            assert_eq!(ran.code, Some(0), "{}", ran.said);
        }
    }

    #[test]
    fn a_step_ends_with_its_first_failure_and_the_plan_says_what_follows() {
        let fence: &[&str] = &["echo asked", "# a word", "false", "echo never"];
        let (code, said) =
            run(&[(step("fence", OnFailure::Continue), fence), (step("traffic", OnFailure::Halt), &["echo moved", "# end"])]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("asked") && said.contains("moved") && !said.contains("never"), "{said}");
        assert!(said.contains("fence: not done; the plan goes on without it"), "{said}");
        let asked: &[&str] = &["aws x", "echo \"waits ${patience:-as ever}\""];
        let (_, said) = run(&[(step("fence", OnFailure::Continue), asked), (step("traffic", OnFailure::Halt), asked)]);
        assert!(said.contains("waits 5\n") && said.contains("waits as ever\n"), "{said}");
        let (code, said) = run(&[(step("promote", OnFailure::Halt), fence), (step("traffic", OnFailure::Halt), &["echo moved"])]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("promote: not done; nothing after it was started") && !said.contains("moved"), "{said}");
    }

    #[test]
    fn waits_end_with_the_answer_or_with_their_time() {
        let lines: &[&str] = &["wait_for 9 ge 3 aws x", "wait_for 9 is 3 aws x", "wait_for 0 is 4 aws x", "echo never"];
        let (code, said) = run(&[(step("capacity", OnFailure::Halt), lines)]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("not in time: wanted is 4, last seen 3: aws x") && !said.contains("never"), "{said}");
        let (code, said) = run(&[(step("none", OnFailure::Halt), &["# only words"]), (step("empty", OnFailure::Halt), &[])]);
        assert_eq!(code, Some(0), "{said}");
    }
}
