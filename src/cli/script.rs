//! `plan --format aws-cli`: the move as a bash script that a person runs without us.
//!
//! What is asked, waited for and read back, each kind of step says itself ([`crate::ports::Step::script`]); here they
//! are put in the order of the plan. Steps that the plan lets run side by side follow one another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::inspect::{Inspected, said};
use crate::adapters::aws::shell_word;
use crate::config::{AccountConfig, Config};
use crate::domain::plan::{OnFailure, Plan, PlannedStep};
use crate::domain::policy::AppPolicy;

/// A step's wait in the script, at least: a deadline that suits a daemon is short for a command line that takes a second
/// for each call.
const LEAST_WAIT: Duration = Duration::from_secs(60);

/// What every script begins with. Time limits stand on each call, because the region that is left may not answer.
const PRELUDE: &str = r#"set -euo pipefail
command -v aws >/dev/null || { echo "the aws command is not installed" >&2; exit 2; }
export AWS_PAGER= AWS_MAX_ATTEMPTS="${AWS_MAX_ATTEMPTS:-3}"
# By option too: for some services in us-east-1 the command line does not look at AWS_ENDPOINT_URL.
aws() { command aws --cli-connect-timeout 5 --cli-read-timeout "${patience:-20}" ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"; }
say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

# wait_for SECONDS is|ge WANTED COMMAND...: asks until the answer is WANTED, or at least that number.
wait_for() {
  local limit=$((SECONDS + $1)) how=$2 wanted=$3 answer=
  shift 3
  while true; do
    if answer=$("$@"); then
      case $how in
        is) if [[ $answer == "$wanted" ]]; then say "it is $answer"; return 0; fi ;;
        ge) if [[ $answer =~ ^[0-9]+$ ]] && ((answer >= wanted)); then say "it is $answer"; return 0; fi ;;
      esac
    fi
    if ((SECONDS >= limit)); then say "not in time: wanted $how $wanted, last seen ${answer:-no answer}: $*"; return 1; fi
    sleep 2
  done
}

# healthy REGION GROUP: the fewest healthy targets in any target group of an Auto Scaling group; a million if it has none.
healthy() {
  local arns arn count least=1000000
  arns=$(aws autoscaling describe-auto-scaling-groups --region "$1" --auto-scaling-group-names "$2" --query 'AutoScalingGroups[0].TargetGroupARNs' --output text) || return 1
  for arn in $arns; do
    [[ $arn == arn:* ]] || continue
    count=$(aws elbv2 describe-target-health --region "$1" --target-group-arn "$arn" --query "length(TargetHealthDescriptions[?TargetHealth.State=='healthy'])" --output text) || return 1
    ((count >= least)) || least=$count
  done
  echo "$least"
}

# as_role ARN EXTERNAL_ID COMMAND...: runs a command in another account.
as_role() {
  local arn=$1 id=$2 keys
  shift 2
  keys=$(aws sts assume-role --role-arn "$arn" --role-session-name break-glass ${id:+--external-id "$id"} --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text) || return 1
  read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN <<<"$keys"
  export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
  "$@"
}
"#;

/// The steps that could not be inspected, each with why: what the script says of them is written without a look at what
/// stands there, and may ask for nothing, or for too much.
pub(super) fn lacks(found: &[Inspected<'_>]) -> Vec<String> {
    found
        .iter()
        .filter_map(|one| one.found.as_ref().err().map(|error| format!("step {}: {}", one.step.name, line(&error.message))))
        .collect()
}

fn line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
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
        "#!/usr/bin/env bash\n{warning}# Moves {app} {} without watchover: the calls that it would make, with what it waits for and reads back.\n\
         # Written {now}; what stands there may have changed since. Stop the daemon first, or pause it: one mover at a time.\n\
         # Needs the aws command and credentials that may do what `watchover iam-policy` lists.\n{PRELUDE}",
        plan.direction
    );
    // The command line wants one for global services too, where it is given an endpoint.
    out.push_str(&format!("export AWS_DEFAULT_REGION=\"${{AWS_DEFAULT_REGION:-${{AWS_REGION:-{region}}}}}\"\n"));
    if let Some(endpoint) = &config.aws.endpoint_url {
        out.push_str(&format!(": \"${{AWS_ENDPOINT_URL:={}}}\"\nexport AWS_ENDPOINT_URL\n", endpoint.as_str().trim_end_matches('/')));
    }
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let ready = |one: &&Inspected<'_>, done: &BTreeSet<&str>| {
        !done.contains(one.step.name.as_str()) && one.step.after.iter().all(|name| done.contains(name.as_str()))
    };
    while let Some(one) = found.iter().find(|one| ready(one, &done)) {
        out.push_str(&section(&config.accounts, one.step, &said(&one.found).1, &one.script(one.step.deadline.max(LEAST_WAIT))));
        done.insert(&one.step.name);
    }
    out.push_str(&format!(
        "\nsay 'every step is done; look at the front door of {app}, then tell the daemon: watchover adopt {app} --active {target} --reason TEXT'\n"
    ));
    out
}

/// One step. Its lines are joined by `&&`, so that the first that fails ends the step, whatever bash makes of `set -e`.
fn section(accounts: &BTreeMap<String, AccountConfig>, step: &PlannedStep, seen: &str, lines: &[String]) -> String {
    let seen = line(seen);
    let mut out = format!("\n# {} ({}, {}): when this was written, {seen}\n", step.name, step.kind, step.class);
    let lines: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return out + "# nothing to ask for\n";
    }
    let name = format!("step_{}", step.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    out.push_str(&format!("{name}() {{\n"));
    // A region that is gone answers nothing, three attempts long: what the move goes on without must not hold it up.
    if step.on_failure == OnFailure::Continue {
        out.push_str("  local patience=5\n");
    }
    for (at, line) in lines.iter().enumerate() {
        // A comment takes no `&&`, and the last command none either.
        let more = !line.starts_with('#') && lines[at + 1..].iter().any(|line| !line.starts_with('#'));
        out.push_str(&format!("  {line}{}\n", if more { " &&" } else { "" }));
    }
    if lines.iter().all(|line| line.starts_with('#')) {
        out.push_str("  true\n");
    }
    out.push_str(&format!("}}\nsay '{}'\n", step.name));
    let call = match step.account.as_ref().and_then(|account| Some((account, accounts.get(account)?))) {
        // In a subshell: the keys of the other account end with it. The external id is a secret, and comes by environment.
        Some((account, spec)) => {
            let id = format!("EXTERNAL_ID_{}", account.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
            format!("(as_role {} \"${{{id}:-}}\" {name})", shell_word(&spec.role_arn))
        }
        None => name,
    };
    let failed = match step.on_failure {
        OnFailure::Continue => format!("say '{}: not done; the plan goes on without it'", step.name),
        OnFailure::Halt => format!("{{ say '{}: not done; nothing after it was started'; exit 1; }}", step.name),
    };
    out + &format!("{call} || {failed}\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::fixtures;
    use crate::domain::plan::Class;

    fn step(name: &str, on_failure: OnFailure) -> PlannedStep {
        PlannedStep { kind: "route53-records".into(), on_failure, ..fixtures::step(name, Class::Traffic, None, &[]) }
    }

    /// Runs the sections in bash, with an `aws` that always answers 3; answers the exit code and what was said.
    fn run(sections: &[(PlannedStep, &[&str])]) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let fake = dir.path().join("aws");
        std::fs::write(&fake, "#!/bin/sh\necho 3\n").unwrap();
        std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut text = PRELUDE.to_owned();
        for (step, lines) in sections {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            text.push_str(&section(&BTreeMap::new(), step, "it can\nbe done", &lines));
        }
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
        let said = std::process::Command::new("bash").args(["-c", &text]).env("PATH", path).output().unwrap();
        (said.status.code(), format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr)))
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
