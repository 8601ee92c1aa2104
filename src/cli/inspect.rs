//! What can be asked without a daemon: the plans, the permissions, the references. And how a command reads its config.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::print_json;
use super::out::{self, complain, put, remark, say};
use super::reference::{KindDoc, Reference};
use super::{Look, PlanFormat, exit, script};
use crate::adapters::{Adapters, Kinds, notify, registry, signals, steps};
use crate::config::{self, AppConfig, Config, ConfigErrors, Reach};
use crate::domain::model::{SiteName, counted};
use crate::domain::plan::{Plan, PlannedStep};
use crate::ports::{Call, Inspection, ScriptContext, Step, StepError};
use crate::runtime::{daemon, executor, metrics};

/// The judged config, or the exit code after every problem was said.
pub(super) fn load(flag: Option<&Path>) -> Result<Config, u8> {
    config::locate(flag).and_then(|path| config::load(&path, &Kinds)).map_err(refused)
}

/// Where the daemon is reached and its journal lies, or the exit code after every problem was said. What is wrong with the
/// rest of the file concerns the next daemon, and must not lock anybody out of the one that runs.
pub(super) fn reach(flag: Option<&Path>) -> Result<Reach, u8> {
    let found = config::reach(flag, &Kinds).map_err(refused)?;
    if let Some(broken) = &found.broken {
        let cause = broken.problems.first().map(ToString::to_string).unwrap_or_default();
        let places = [("the daemon is looked for at", &found.admin_socket), ("its journal in", &found.state_dir)];
        let [daemon, journal] = places.map(|(words, place)| format!("{words} {}", place.display()));
        let origin = "by the environment, else by default";
        remark!("watchover: {} is broken ({cause}); {daemon}, {journal} ({origin})", found.path.display());
    } else if found.problems > 0 {
        let (problems, them) = (counted(found.problems, "problem"), if found.problems == 1 { "it" } else { "them" });
        remark!("watchover: {} has {problems}; `watchover check --offline` names {them}", found.path.display());
    }
    Ok(found)
}

fn refused(errors: ConfigErrors) -> u8 {
    complain!("watchover: {errors}");
    exit::USAGE
}

/// Runs something short on a runtime of its own.
pub(super) fn on_runtime(work: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            complain!("watchover: the runtime does not start: {error}");
            exit::FAILED
        }
    }
}

/// Runs the lab: a world of many servers wants more than one thread, so that its own load is not taken for the daemon's.
pub(super) fn on_many(work: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_timeout(std::time::Duration::from_millis(200));
            code
        }
        Err(error) => {
            complain!("watchover: the runtime does not start: {error}");
            exit::FAILED
        }
    }
}

/// `run`.
pub(super) fn run(flag: Option<&Path>) -> u8 {
    let path = match config::locate(flag) {
        Ok(path) => path,
        Err(errors) => return refused(errors),
    };
    match daemon::run(&path) {
        Ok(()) => exit::DONE,
        Err(error) => {
            complain!("watchover: {error}");
            if matches!(error, daemon::DaemonError::Config(_) | daemon::DaemonError::Build { .. }) { exit::USAGE } else { exit::FAILED }
        }
    }
}

pub(super) fn wall() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

pub(super) fn adapters(config: &Config) -> Result<Adapters, String> {
    Adapters::new(config, Arc::new(|_| {}), &TaskTracker::new(), &CancellationToken::new())
}

/// A step, and what stands there now.
pub(super) struct Inspected<'a> {
    pub step: &'a PlannedStep,
    pub found: Result<Inspection, StepError>,
    /// What it would call by what it sees, also where more than that stands in its way.
    calls: Vec<Call>,
    built: Option<Arc<dyn Step>>,
}

impl Inspected<'_> {
    /// Its part of a person's script; where nothing could be seen, as it would be without a look.
    pub fn script(&self, cx: &ScriptContext) -> Vec<String> {
        match (&self.built, &self.found) {
            (Some(built), Ok(found)) => built.script(found, cx),
            (Some(built), Err(_)) => built.script(&Inspection::CannotTell, cx),
            (None, _) => vec!["false".to_owned()],
        }
    }

    /// What its part of that script leaves for the end: nobody waits for it.
    pub fn afterwards(&self) -> Vec<String> {
        let Some(built) = &self.built else { return Vec::new() };
        let calls = match &self.found {
            // By the time that the script is run what was so already may not be.
            Ok(found @ Inspection::Possible(_)) => built.describe(found),
            _ => built.describe(&Inspection::CannotTell),
        };
        calls.into_iter().filter(|call| call.afterwards).map(|call| call.shell).collect()
    }
}

#[cfg(test)]
impl<'a> Inspected<'a> {
    /// A step that nothing is known of but what its plan says.
    pub fn unseen(step: &'a PlannedStep, adapters: &Adapters) -> Inspected<'a> {
        Inspected { step, found: Ok(Inspection::CannotTell), calls: Vec::new(), built: steps::build(step, adapters).ok() }
    }
}

pub(super) async fn inspected<'a>(app: &AppConfig, plan: &'a Plan, adapters: &Adapters) -> Vec<Inspected<'a>> {
    let mut all = Vec::new();
    for step in &plan.steps {
        let context = executor::preflight_context(&app.policy.name, plan.direction, step, wall());
        let built = steps::build(step, adapters);
        let mut calls = Vec::new();
        let found = match &built {
            Ok(built) => match executor::patiently(built.inspect(&context)).await {
                Ok(found) => {
                    calls = built.describe(&found);
                    executor::patiently(built.preflight(&context, found)).await
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error.clone()),
        };
        all.push(Inspected { step, found, calls, built: built.ok() });
    }
    all
}

pub(super) fn said(found: &Result<Inspection, StepError>) -> (bool, String) {
    match found {
        Ok(Inspection::AlreadySo(_)) => (true, "it is so already".into()),
        Ok(Inspection::UnderWay(_)) => (true, "it is under way".into()),
        Ok(Inspection::Possible(_)) => (true, "it can be done".into()),
        Ok(Inspection::NotYet(words)) => (false, format!("not now: {words}")),
        Ok(Inspection::Asks(words)) => (true, format!("it asks a person: {words}")),
        Ok(Inspection::CannotTell) => (true, "it cannot be inspected".into()),
        Err(error) => (false, format!("{}: {error}", error.class)),
    }
}

/// `plan`.
pub(super) fn plan(flag: Option<&Path>, app: &str, to: Option<SiteName>, format: PlanFormat, look: Look) -> u8 {
    let config = match load(flag) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(app) = config.apps.iter().find(|found| found.policy.name.as_ref() == app) else {
        let known: Vec<&str> = config.apps.iter().map(|found| found.policy.name.as_ref()).collect();
        complain!("watchover: no app {app:?} is configured; there is {}", known.join(", "));
        return exit::USAGE;
    };
    let whole = app.policy.plan_to(to.unwrap_or(SiteName::Standby));
    // Whoever needs the script has lost the site: the steps of a planned move sit it out.
    let plan = &if matches!(format, PlanFormat::AwsCli) { whole.for_move(false) } else { whole.clone() };
    // Whose steps are only for planned moves still has some to show.
    let nowhere = whole.leads_nowhere(&app.policy.name, false).filter(|_| plan.steps.is_empty());
    if let Some(words) = nowhere {
        complain!("watchover: {words}");
        return exit::USAGE;
    }
    on_runtime(async {
        let adapters = match adapters(&config) {
            Ok(adapters) => adapters,
            Err(words) => {
                complain!("watchover: {words}");
                return exit::FAILED;
            }
        };
        let found = inspected(app, plan, &adapters).await;
        match format {
            PlanFormat::AwsCli => {
                let now = crate::domain::model::rfc3339(wall());
                let script = script::script(&config, &app.policy, plan, &found, &now);
                let lacks = script::lacks(&found);
                if !lacks.is_empty() {
                    complain!("watchover: the script is not whole, as steps could not be inspected: {}", lacks.join("; "));
                }
                if look.json {
                    let mut document = json!({"schema_version": 1, "format": "aws-cli", "script": script});
                    if let Some(words) = out::told() {
                        document["error"] = words.into();
                    }
                    say!("{document}");
                } else {
                    put!("{script}");
                }
                // Whoever redirects it over a good one has to know.
                return if lacks.is_empty() { exit::DONE } else { exit::FAILED };
            }
            PlanFormat::Json => document(plan, &found),
            PlanFormat::Table if look.json => document(plan, &found),
            PlanFormat::Table => table(plan, &found),
        }
        exit::DONE
    })
}

fn table(plan: &Plan, found: &[Inspected<'_>]) {
    say!("{}: {}", plan.direction, counted(plan.steps.len(), "step"));
    for Inspected { step, found, calls, .. } in found {
        say!("{}", row(step));
        say!("    now: {}", said(found).1);
        for call in calls {
            say!("    {call}");
        }
    }
}

fn row(step: &PlannedStep) -> String {
    let after = if step.after.is_empty() { "at once".to_owned() } else { format!("after {}", step.after.join(", ")) };
    let only = step.only.map(|only| format!(", only {only} moves")).unwrap_or_default();
    format!(
        "{}  {} ({}, {}), {after}, deadline {}, on failure {}{only}",
        step.name,
        step.kind,
        step.class,
        step.reversibility,
        humantime::format_duration(step.deadline),
        step.on_failure
    )
}

fn document(plan: &Plan, found: &[Inspected<'_>]) {
    let steps: Vec<Value> = found
        .iter()
        .map(|Inspected { step, found, calls, .. }| {
            let facts = match found {
                Ok(Inspection::AlreadySo(facts) | Inspection::UnderWay(facts) | Inspection::Possible(facts)) => facts.clone(),
                _ => Value::Null,
            };
            let (ok, words) = said(found);
            json!({"step": step, "inspect": {"ok": ok, "words": words, "facts": facts}, "calls": calls})
        })
        .collect();
    say!("{}", json!({"schema_version": 1, "direction": plan.direction, "steps": steps}));
}

/// `iam-policy`.
pub(super) fn iam_policy(flag: Option<&Path>, look: Look) -> u8 {
    let config = match load(flag) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut accounts: BTreeMap<Option<String>, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    accounts.entry(None).or_default();
    for permission in Kinds::permissions(&config) {
        accounts.entry(permission.account).or_default().entry(permission.resource).or_default().push(permission.action);
    }
    let roles: Vec<&str> =
        accounts.keys().flatten().filter_map(|name| config.accounts.get(name)).map(|account| account.role_arn.as_str()).collect();
    let policy = |resources: &BTreeMap<String, Vec<String>>, roles: &[&str]| {
        let mut statements: Vec<Value> =
            resources.iter().map(|(resource, actions)| json!({"Effect": "Allow", "Action": actions, "Resource": resource})).collect();
        if !roles.is_empty() {
            statements.push(json!({"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": roles}));
        }
        json!({"Version": "2012-10-17", "Statement": statements})
    };
    let own = policy(accounts.get(&None).unwrap_or(&BTreeMap::new()), &roles);
    let document = if accounts.len() == 1 {
        own
    } else {
        let others: BTreeMap<&String, Value> =
            accounts.iter().filter_map(|(name, resources)| Some((name.as_ref()?, policy(resources, &[])))).collect();
        json!({"own": own, "accounts": others})
    };
    // Without --json it is what AWS takes, and a key of ours would make it none.
    if look.json {
        return print_json(serde_json::to_string(&json!({"schema_version": 1, "policy": document})));
    }
    print_json(serde_json::to_string_pretty(&document))
}

/// `steps`.
pub(super) fn steps(look: Look) -> u8 {
    let signals = signals::kinds().into_iter().map(KindDoc::from).collect();
    let steps = steps::kinds().into_iter().map(KindDoc::from).collect();
    let receivers = notify::kinds().into_iter().map(KindDoc::from).collect();
    let reference = Reference::new(registry::SIGNAL_KEYS, signals, registry::STEP_KEYS, steps).telling(registry::NOTIFY_KEYS, receivers);
    if look.json {
        return print_json(reference.json());
    }
    put!("{}", laid_out(&reference, look));
    exit::DONE
}

/// For a person at a terminal as text, coloured or not; for a file as the document that it becomes.
fn laid_out(reference: &Reference, look: Look) -> String {
    if look.terminal { reference.text(look.colour) } else { reference.markdown() }
}

/// `metrics`.
pub(super) fn metrics(look: Look) -> u8 {
    let all = metrics::reference();
    if look.json {
        return print_json(serde_json::to_string(&json!({"schema_version": 1, "metrics": all})));
    }
    say!("# Metrics\n\n| metric | kind | labels | help |\n|---|---|---|---|");
    for metric in all {
        let labels = if metric.labels.is_empty() {
            "–".to_owned()
        } else {
            metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
        };
        say!("| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help);
    }
    exit::DONE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::fixtures;
    use crate::domain::model::Direction;
    use crate::domain::plan::{Class, Only};

    fn step(only: Option<Only>) -> PlannedStep {
        let deadline = Duration::from_secs(60);
        PlannedStep { kind: "command".into(), deadline, ..fixtures::step("drain", Class::Other, only, &["fence"]) }
    }

    #[test]
    fn a_row_says_in_which_moves_its_step_takes_part() {
        let every = "drain  command (other, reversible), after fence, deadline 1m, on failure halt";
        assert_eq!(row(&step(None)), every);
        assert_eq!(row(&step(Some(Only::Graceful))), format!("{every}, only graceful moves"));
        assert_eq!(row(&step(Some(Only::Forced))), format!("{every}, only forced moves"));
    }

    #[test]
    fn a_plan_without_steps_says_what_is_missing() {
        let plan = |direction, steps| Plan { direction, steps };
        let words = plan(Direction::ToPrimary, Vec::new()).leads_nowhere("shop", false);
        assert_eq!(words.unwrap(), "no steps lead to-primary: the config has no [[app.failback]] for shop");
        let planned = plan(Direction::ToStandby, vec![step(Some(Only::Graceful))]);
        let words = planned.leads_nowhere("shop", false).unwrap();
        assert!(words.contains("to-standby") && words.contains("only for graceful moves"), "{words}");
        assert_eq!(planned.leads_nowhere("shop", true), None);
    }

    #[test]
    fn colour_is_no_matter_of_layout() {
        let reference = Reference::new(&[], Vec::new(), &[], Vec::new());
        let look = |terminal, colour| laid_out(&reference, Look { json: false, terminal, colour });
        assert!(look(false, false).starts_with("# "));
        assert!(!look(true, false).contains('#') && !look(true, false).contains('\u{1b}'));
        assert!(look(true, true).contains('\u{1b}'));
    }
}
