//! `http-check`: a URL must answer as expected, so many times in a row, before what comes after.
//!
//! It changes nothing, so there is nothing to ask for and nothing to take back: it is inspected as under way, and is
//! done when its row is full. Any other answer, and none at all, begins the row anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::adapters::Adapters;
use crate::adapters::http::{Client, Expect, HttpSpec, Target, check_ca_file};
use crate::adapters::registry::{KeyDoc, Place, StepKind, StepTraits};
use crate::adapters::shell::shell_word;
use crate::adapters::web::looks_random;
use crate::config::judge::Table;
use crate::domain::model::Verdict;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "http-check",
    doc: "Waits until a URL answers as expected so many times in a row; changes nothing. What it does not see in time has failed.",
    class: Class::Other,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::Inspectable,
    default_deadline: "5m",
    at_source: false,
    refine: Some(refine),
    keys: &[
        KeyDoc {
            name: "url",
            form: "URL (http or https)",
            default: "",
            doc: "What is asked for, by GET. Stored in the journal: it carries no credentials, neither as user and password nor in a query.",
        },
        KeyDoc {
            name: "connect_to",
            form: "host:port",
            default: "the URL's host and port",
            doc: "Where it is connected: the target's own load balancer, while the public name still leads to the other site. Looks go round all its addresses.",
        },
        KeyDoc {
            name: "expect",
            form: "{ status, body_contains, header }",
            default: "{ status = \"200-399\" }",
            doc: "What the answer must be, as for the `http` signal.",
        },
        KeyDoc {
            name: "ca_file",
            form: "path",
            default: "the machine's root certificates",
            doc: "PEM file of the only certificates to trust.",
        },
        KeyDoc {
            name: "times",
            form: "whole number, 1 to 100",
            default: "3",
            doc: "Good answers in a row. Raising it costs an `interval` each.",
        },
        KeyDoc { name: "interval", form: "duration", default: "\"1s\"", doc: "From one look to the next." },
        KeyDoc { name: "timeout", form: "duration", default: "\"2s\"", doc: "How long one look may take." },
        KeyDoc {
            name: "class",
            form: "\"other\" or \"capacity\"",
            default: "\"other\"",
            doc: "What the step counts as, in the plan and in reports.",
        },
    ],
    judge,
    build,
    permissions: |_: &PlannedStep| -> Vec<Permission> { Vec::new() },
};

#[derive(Serialize, Deserialize)]
struct Keys {
    http: HttpSpec,
    times: u32,
    interval_seconds: f64,
    timeout_seconds: f64,
    class: Class,
}

fn judge(table: &Table, _: &Place) -> Option<Value> {
    let before = table.problems().len();
    let url = table.need_string("url", "an absolute URL such as https://shop.example.com/healthz").and_then(|text| {
        let url = table.judge_url("url", &text, &["http", "https"])?;
        if url.query_pairs().any(|(_, value)| looks_random(&value)) {
            table.fault(
                "url",
                "has a query with what looks like a token, and a plan is stored in the journal; point it at a path that needs none",
            );
        }
        Some(url)
    });
    let connect_to =
        table.string("connect_to").and_then(|text| Target::parse(&text).map_err(|problem| table.fault("connect_to", problem)).ok());
    let expect = Expect::judge(&table.table("expect"));
    let ca_file = table.string("ca_file").map(PathBuf::from);
    if let Some(Err(problem)) = ca_file.as_deref().map(check_ca_file) {
        table.fault("ca_file", problem);
    }
    let times = table.whole("times", 1, 3);
    if times > 100 {
        table.fault("times", format!("{times} is too many; it may be at most 100"));
    }
    let interval = short(table, "interval", Duration::from_secs(1));
    let timeout = short(table, "timeout", Duration::from_secs(2));
    let (row, deadline) = (interval.saturating_mul(u32::try_from(times.saturating_sub(1)).unwrap_or(u32::MAX)), KIND.deadline(table));
    if table.problems().len() == before && row >= deadline {
        table.fault(
            "times",
            format!(
                "{times} answers at that interval take {row:?}, and the step's deadline is {deadline:?}; raise it, or lower one of them"
            ),
        );
    }
    let class = table.word("class", &[Class::Other, Class::Capacity], Class::as_str, Class::Other);
    if table.problems().len() > before {
        return None;
    }
    let http = HttpSpec { connect_to, expect, ca_file, ..HttpSpec::get(url?) };
    let times = u32::try_from(times).unwrap_or(100);
    let keys = Keys { http, times, interval_seconds: interval.as_secs_f64(), timeout_seconds: timeout.as_secs_f64(), class };
    serde_json::to_value(keys).ok()
}

/// A pause or a patience: long enough to mean something, short enough for a move.
fn short(table: &Table, key: &str, default: Duration) -> Duration {
    let found = table.duration(key, default);
    if found < Duration::from_millis(50) || found > Duration::from_secs(60) {
        table.fault(key, format!("\"{}\" is not between \"50ms\" and \"1m\"", humantime::format_duration(found)));
    }
    found
}

fn refine(keys: &Value, traits: StepTraits) -> StepTraits {
    let class = keys.get("class").and_then(Value::as_str).and_then(Class::parse);
    StepTraits { class: class.unwrap_or(traits.class), ..traits }
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    let fault = |cause: String| StepError::new(ErrorClass::NeedsPerson, "no-client", format!("http-check {}: {cause}", step.name));
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(|cause| fault(cause.to_string()));
    let spec = keys.http.clone();
    Ok(Arc::new(HttpCheck {
        client: adapters.http.client(keys.http).map_err(fault)?,
        spec,
        times: keys.times,
        interval: seconds(keys.interval_seconds)?,
        timeout: seconds(keys.timeout_seconds)?,
        row: Mutex::default(),
    }))
}

struct HttpCheck {
    client: Client,
    spec: HttpSpec,
    times: u32,
    interval: Duration,
    timeout: Duration,
    row: Mutex<Row>,
}

/// Good answers so far, and when the next look is due.
#[derive(Default)]
struct Row {
    good: u32,
    due: Option<Instant>,
}

impl HttpCheck {
    /// Of curl, for one look.
    fn arguments(&self) -> String {
        let to = self.spec.connect_to.as_ref().map(|to| format!("--connect-to {} ", shell_word(&format!("::{}:{}", to.host, to.port))));
        let ca = self.spec.ca_file.as_ref().map(|file| format!("--cacert {} ", shell_word(&file.display().to_string())));
        let (to, ca, url) = (to.unwrap_or_default(), ca.unwrap_or_default(), shell_word(self.spec.url.as_str()));
        format!("--max-time {} {to}{ca}{url}", self.timeout.as_secs_f64())
    }
}

#[async_trait]
impl Step for HttpCheck {
    fn describe(&self, _: &Inspection) -> Vec<Call> {
        let url = &self.spec.url;
        let to = self.spec.connect_to.as_ref().map(|to| format!("{}:{}", to.host, to.port));
        vec![Call {
            service: url.scheme().to_owned(),
            operation: "GET".to_owned(),
            region: String::new(),
            parameters: json!({ "url": url.as_str(), "connect_to": to, "times": self.times }),
            // A person's look is coarser: curl knows good statuses, and they see the body themselves.
            shell: format!("curl -fsS -o /dev/null {}", self.arguments()),
            afterwards: false,
        }]
    }

    fn script(&self, _: &Inspection, cx: &ScriptContext) -> Vec<String> {
        let Expect { status, body_contains, header } = &self.spec.expect;
        let headers: String = header.iter().map(|(name, value)| format!("{} {} ", shell_word(name), shell_word(value))).collect();
        vec![format!(
            "in_a_row {} {} {} answers {} {} {headers}-- {}",
            cx.limit.as_secs(),
            self.times,
            self.interval.as_secs_f64(),
            shell_word(&status.to_string()),
            shell_word(body_contains.as_deref().unwrap_or_default()),
            self.arguments()
        )]
    }

    async fn inspect(&self, _: &StepContext) -> Result<Inspection, StepError> {
        *self.row.lock().await = Row::default();
        Ok(Inspection::UnderWay(Value::Null))
    }

    /// Never asked for: there is nothing to do but to look.
    async fn apply(&self, _: &StepContext) -> Result<Value, StepError> {
        Ok(Value::Null)
    }

    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError> {
        let mut row = self.row.lock().await;
        let limit = Instant::now() + cx.time_left;
        if let Some(due) = row.due {
            // Who calls ends this wait with the step: it is dropped there.
            sleep_until(due.min(limit)).await;
        }
        row.due = Some(Instant::now() + self.interval);
        let seen = self.client.look(self.timeout.min(cx.time_left)).await;
        row.good = if seen.verdict == Verdict::Up { row.good + 1 } else { 0 };
        if row.good >= self.times {
            return Ok(Verification::So(json!({ "in_a_row": row.good, "last": seen.detail })));
        }
        Ok(Verification::NotYet(format!("{} of {} good answers in a row; last: {}", row.good, self.times, seen.detail)))
    }

    async fn undo(&self, _: &StepContext) -> Result<String, StepError> {
        Ok("a look changed nothing".to_owned())
    }
}

#[cfg(test)]
mod tests;
