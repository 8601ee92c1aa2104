//! What can be asked without a daemon: the config, the plans, the permissions, the references.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::print_json;
use super::reference::{KindDoc, Reference};
use super::{Look, PlanFormat, autonomy, exit, script, telling};
use crate::adapters::{Adapters, Kinds, notify, registry, signals, steps};
use crate::config::{self, AppConfig, Config};
use crate::domain::model::{Health, SiteName, counted};
use crate::domain::plan::{Plan, PlannedStep};
use crate::ports::{Call, Inspection, Step, StepError};
use crate::runtime::{daemon, executor, metrics};

/// The judged config, or the exit code after every problem was said.
pub(super) fn load(flag: Option<&Path>) -> Result<Config, u8> {
    let read = config::locate(flag).and_then(|path| config::load(&path, &Kinds));
    read.map_err(|errors| {
        anstream::eprintln!("watchover: {errors}");
        exit::USAGE
    })
}

/// Runs something short on a runtime of its own.
pub(super) fn on_runtime(work: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            anstream::eprintln!("watchover: the runtime does not start: {error}");
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
            anstream::eprintln!("watchover: the runtime does not start: {error}");
            exit::FAILED
        }
    }
}

/// `run`.
pub(super) fn run(flag: Option<&Path>) -> u8 {
    let path = match config::locate(flag) {
        Ok(path) => path,
        Err(errors) => {
            anstream::eprintln!("watchover: {errors}");
            return exit::USAGE;
        }
    };
    match daemon::run(&path) {
        Ok(()) => exit::DONE,
        Err(error) => {
            anstream::eprintln!("watchover: {error}");
            if matches!(error, daemon::DaemonError::Config(_) | daemon::DaemonError::Build { .. }) { exit::USAGE } else { exit::FAILED }
        }
    }
}

/// What an online check found.
#[derive(serde::Serialize)]
struct Finding {
    subject: String,
    ok: bool,
    words: String,
}

/// `check`.
pub(super) fn check(flag: Option<&Path>, offline: bool, look: Look) -> u8 {
    let read = config::locate(flag).and_then(|path| config::load(&path, &Kinds));
    let config = match read {
        Ok(config) => config,
        Err(errors) => {
            if look.json {
                anstream::println!("{}", json!({"schema_version": 1, "file": errors.file, "ok": false, "problems": errors.problems}));
            } else {
                anstream::eprintln!("watchover: {errors}");
            }
            return exit::USAGE;
        }
    };
    let findings = if offline { Vec::new() } else { online(&config) };
    let bad = findings.iter().filter(|finding| !finding.ok).count();
    if look.json {
        anstream::println!(
            "{}",
            json!({"schema_version": 1, "file": config.path, "ok": bad == 0, "problems": [], "warnings": config.warnings, "findings": findings})
        );
    } else {
        for warning in &config.warnings {
            anstream::println!("warning  {warning}");
        }
        for finding in &findings {
            anstream::println!("{}  {}: {}", if finding.ok { "ok     " } else { "FINDING" }, finding.subject, finding.words);
        }
        let (apps, warnings) = (counted(config.apps.len(), "app"), counted(config.warnings.len(), "warning"));
        anstream::println!("{}: {apps}, {warnings}, {}", config.path.display(), counted(bad, "finding"));
    }
    if bad > 0 { exit::FINDINGS } else { exit::DONE }
}

fn online(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    on_runtime(async {
        let adapters = match adapters(config) {
            Ok(adapters) => adapters,
            Err(words) => {
                findings.push(Finding { subject: "config".into(), ok: false, words });
                return exit::FINDINGS;
            }
        };
        let receivers = telling::findings(config, &adapters).await;
        findings.extend(receivers.into_iter().map(|(subject, ok, words)| Finding { subject, ok, words }));
        for app in &config.apps {
            let name = &app.policy.name;
            let region = &app.policy.standby.region;
            match adapters.aws.identity(region).await {
                Ok(identity) => findings.push(Finding { subject: format!("{name}: credentials in {region}"), ok: true, words: identity }),
                Err(failure) => {
                    findings.push(Finding { subject: format!("{name}: credentials in {region}"), ok: false, words: failure.to_string() })
                }
            }
            for site in SiteName::ALL {
                for (spec, policy) in app.site(*site).signals.iter().zip(&app.policy.site(*site).signals) {
                    let found = match signals::build(spec, &adapters) {
                        Ok(probe) => probe.look(policy.timeout, wall()).await,
                        Err(error) => crate::domain::model::Finding::new(
                            crate::domain::model::Verdict::Unknown(crate::domain::model::Cause::Unclassified),
                            error.to_string(),
                        ),
                    };
                    let ok = found.verdict.health() == Health::Up;
                    findings.push(Finding {
                        subject: format!("{name}.{site}.{}", spec.name),
                        ok,
                        words: format!("{} {}", found.verdict, found.detail),
                    });
                }
            }
            for plan in [&app.policy.failover, &app.policy.failback] {
                for Inspected { step, found, .. } in inspected(app, plan, &adapters).await {
                    let (ok, words) = said(&found);
                    findings.push(Finding { subject: format!("{name} {} step {}", plan.direction, step.name), ok, words });
                }
            }
            let others = autonomy::finding(app, &adapters, wall()).await;
            findings.extend(others.map(|(ok, words)| Finding { subject: format!("{name}: {}", autonomy::NAME), ok, words }));
        }
        exit::DONE
    });
    findings
}

fn wall() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn adapters(config: &Config) -> Result<Adapters, String> {
    Adapters::new(config, Arc::new(|_| {}), &TaskTracker::new(), &CancellationToken::new())
}

/// A step, and what stands there now.
pub(super) struct Inspected<'a> {
    pub step: &'a PlannedStep,
    pub found: Result<(Inspection, Vec<Call>), StepError>,
    built: Option<Arc<dyn Step>>,
}

impl Inspected<'_> {
    /// Its part of a person's script; where nothing could be seen, as it would be without a look.
    pub fn script(&self, limit: Duration) -> Vec<String> {
        match (&self.built, &self.found) {
            (Some(built), Ok((found, _))) => built.script(found, limit),
            (Some(built), Err(_)) => built.script(&Inspection::CannotTell, limit),
            (None, _) => vec!["false".to_owned()],
        }
    }
}

async fn inspected<'a>(app: &AppConfig, plan: &'a Plan, adapters: &Adapters) -> Vec<Inspected<'a>> {
    let mut all = Vec::new();
    for step in &plan.steps {
        let context = executor::preflight_context(&app.policy.name, plan.direction, step, wall());
        let built = steps::build(step, adapters);
        let found = match &built {
            Ok(built) => match tokio::time::timeout(context.time_left, built.inspect(&context)).await {
                Ok(Ok(found)) => {
                    let calls = built.describe(&found);
                    Ok((found, calls))
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(StepError::new(crate::ports::ErrorClass::Retry, "timeout", "no answer in time")),
            },
            Err(error) => Err(error.clone()),
        };
        all.push(Inspected { step, found, built: built.ok() });
    }
    all
}

pub(super) fn said(found: &Result<(Inspection, Vec<Call>), StepError>) -> (bool, String) {
    match found {
        Ok((Inspection::AlreadySo(_), _)) => (true, "it is so already".into()),
        Ok((Inspection::UnderWay(_), _)) => (true, "it is under way".into()),
        Ok((Inspection::Possible(_), _)) => (true, "it can be done".into()),
        Ok((Inspection::NotYet(words), _)) => (false, format!("not now: {words}")),
        Ok((Inspection::Asks(words), _)) => (true, format!("it asks a person: {words}")),
        Ok((Inspection::CannotTell, _)) => (true, "it cannot be inspected".into()),
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
        anstream::eprintln!("watchover: no app {app:?} is configured; there is {}", known.join(", "));
        return exit::USAGE;
    };
    let plan = app.policy.plan_to(to.unwrap_or(SiteName::Standby));
    // Whoever needs the script has lost the site: the steps of a planned move sit it out.
    let plan = &if matches!(format, PlanFormat::AwsCli) { plan.for_move(false) } else { plan.clone() };
    on_runtime(async {
        let adapters = match adapters(&config) {
            Ok(adapters) => adapters,
            Err(words) => {
                anstream::eprintln!("watchover: {words}");
                return exit::FAILED;
            }
        };
        let found = inspected(app, plan, &adapters).await;
        match format {
            PlanFormat::AwsCli => {
                let now = crate::domain::model::rfc3339(wall());
                anstream::print!("{}", script::script(&config, &app.policy, plan, &found, &now));
            }
            PlanFormat::Json => document(plan, &found),
            PlanFormat::Table if look.json => document(plan, &found),
            PlanFormat::Table => table(plan, &found),
        }
        exit::DONE
    })
}

fn table(plan: &Plan, found: &[Inspected<'_>]) {
    anstream::println!("{}: {} steps", plan.direction, plan.steps.len());
    for Inspected { step, found, .. } in found {
        let after = if step.after.is_empty() { "at once".to_owned() } else { format!("after {}", step.after.join(", ")) };
        anstream::println!(
            "{}  {} ({}, {}), {after}, deadline {}, on failure {}",
            step.name,
            step.kind,
            step.class,
            step.reversibility,
            humantime::format_duration(step.deadline),
            step.on_failure
        );
        anstream::println!("    now: {}", said(found).1);
        for call in found.iter().flat_map(|(_, calls)| calls) {
            anstream::println!("    {call}");
        }
    }
}

fn document(plan: &Plan, found: &[Inspected<'_>]) {
    let steps: Vec<Value> = found
        .iter()
        .map(|Inspected { step, found, .. }| {
            let facts = match found {
                Ok((Inspection::AlreadySo(facts) | Inspection::UnderWay(facts) | Inspection::Possible(facts), _)) => facts.clone(),
                _ => Value::Null,
            };
            let (ok, words) = said(found);
            json!({"step": step, "inspect": {"ok": ok, "words": words, "facts": facts}, "calls": found.as_ref().map(|(_, calls)| calls).unwrap_or(&Vec::new())})
        })
        .collect();
    anstream::println!("{}", json!({"schema_version": 1, "direction": plan.direction, "steps": steps}));
}

/// `iam-policy`.
pub(super) fn iam_policy(flag: Option<&Path>) -> u8 {
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
    anstream::print!("{}", if look.colour { reference.text(true) } else { reference.markdown() });
    exit::DONE
}

/// `metrics`.
pub(super) fn metrics(look: Look) -> u8 {
    let all = metrics::reference();
    if look.json {
        return print_json(serde_json::to_string(&json!({"schema_version": 1, "metrics": all})));
    }
    anstream::println!("# Metrics\n\n| metric | kind | labels | help |\n|---|---|---|---|");
    for metric in all {
        let labels = if metric.labels.is_empty() {
            "–".to_owned()
        } else {
            metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
        };
        anstream::println!("| `{}` | {} | {labels} | {} |", metric.name, metric.kind, metric.help);
    }
    exit::DONE
}
