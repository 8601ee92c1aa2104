//! `webhook`: tells somebody that the move has come this far.
//!
//! Nobody can read back whether a message arrived, so it may be sent twice: after a crash or a lost answer, always
//! under the same `X-Watchover-Step-Id`, by which a receiver drops the second.
//!
//! A plan is stored in the journal, and a secret must not be. `url` is therefore taken only if nothing in it looks
//! like a secret; else the plan stores the path in `url_file`, which is read each time the address is needed: a file
//! that is put right during a move counts at the next attempt.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::adapters::Adapters;
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::adapters::web::{self, Web};
use crate::config::judge::Table;
use crate::domain::model::{rfc3339, words};
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, Step, StepContext, StepError, Verification};

/// Header that is the same for every repetition of one message.
pub const STEP_ID: &str = "X-Watchover-Step-Id";

words! {
    /// What the receiver reads.
    Format {
        /// An object with the incident, the step and what the steps before it found.
        Json = "json",
        /// `{"text": …}`, as Slack, Mattermost and their like take it.
        Slack = "slack",
    }
}

/// The kind's entry in the registry.
///
/// Reversible, because it keeps no move from being called off: what was said stays said, and binds nobody.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "webhook",
    doc: "Tells a receiver by an HTTP POST how far the move has come; may arrive twice, under one X-Watchover-Step-Id.",
    class: Class::Other,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::AtLeastOnce,
    default_deadline: "30s",
    at_source: false,
    refine: None,
    keys: &[
        KeyDoc {
            name: "url",
            form: "URL",
            default: "",
            doc: "Where to. Stored in the journal, so it is refused if it holds what may be a secret: user or password, a query, a token in the path. One of `url` and `url_file` must be given.",
        },
        KeyDoc {
            name: "url_file",
            form: "absolute path",
            default: "",
            doc: "A file that holds the URL and nothing else, for URLs that are secrets; read at every attempt. With systemd: /run/credentials/watchover.service/NAME by LoadCredential.",
        },
        KeyDoc {
            name: "format",
            form: "\"json\" or \"slack\"",
            default: "\"json\"",
            doc: "\"json\": an object with schema_version, incident, step and facts. \"slack\": {\"text\": …}, for Slack, Mattermost and their like.",
        },
    ],
    judge,
    build,
    permissions: |_: &PlannedStep| -> Vec<Permission> { Vec::new() },
};

fn judge(table: &Table, _: &Place) -> Option<Value> {
    let before = table.problems().len();
    let format = table.word("format", Format::ALL, Format::as_str, Format::Json);
    let (key, address) = match (table.has("url"), table.has("url_file")) {
        (true, true) => {
            table.fault("url_file", "stands beside `url`; give one of the two");
            return None;
        }
        (false, false) => {
            table.fault("url", "is missing; give `url`, or `url_file` if the URL is a secret");
            return None;
        }
        (true, false) => ("url", judged_url(table)?),
        (false, true) => ("url_file", judged_file(table)?),
    };
    (table.problems().len() == before).then(|| json!({ key: address, "format": format }))
}

/// The problem must not quote the text: problems are printed, and the text may be a secret.
fn judged_url(table: &Table) -> Option<String> {
    let text = table.string("url")?;
    let wrong = match web::address(text.trim()) {
        Err(wrong) => wrong,
        Ok(url) => match web::secret_part(&url) {
            None => return Some(url.into()),
            Some(part) => format!(
                "has {part}, which may be a secret, and a plan is stored in the journal; put the URL into a file that only watchover reads, and give its path as `url_file`"
            ),
        },
    };
    table.fault("url", wrong);
    None
}

fn judged_file(table: &Table) -> Option<String> {
    let path = table.need_string("url_file", "the absolute path of a file that holds the URL")?;
    if Path::new(&path).is_absolute() {
        return Some(path);
    }
    // Not quoted: whoever takes the one key for the other writes the secret here.
    table.fault(
        "url_file",
        "is not an absolute path; give that of a file that holds the URL, like \"/run/credentials/watchover.service/webhook-url\"",
    );
    None
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let foreign = |what: &str| {
        StepError::new(
            ErrorClass::NeedsPerson,
            "bad-plan",
            format!("webhook {}: the stored plan has {what}; start the move anew", step.name),
        )
    };
    let text = |key: &str| step.keys.get(key).and_then(Value::as_str);
    let format = text("format").and_then(Format::parse).ok_or_else(|| foreign("no format that this version knows"))?;
    let address = match (text("url"), text("url_file")) {
        (Some(url), None) => Address::Given(web::address(url).map_err(|wrong| foreign(&format!("a `url` that {wrong}")))?),
        (None, Some(path)) => Address::In(PathBuf::from(path)),
        _ => return Err(foreign("not one of `url` and `url_file`")),
    };
    Ok(Arc::new(Webhook { name: step.name.clone(), address, format, web: adapters.web.clone() }))
}

enum Address {
    Given(Url),
    In(PathBuf),
}

struct Webhook {
    name: String,
    address: Address,
    format: Format,
    web: Web,
}

impl Webhook {
    async fn url(&self) -> Result<Url, StepError> {
        let path = match &self.address {
            Address::Given(url) => return Ok(url.clone()),
            Address::In(path) => path,
        };
        let fault = |wrong: String| {
            let words = format!("webhook {}: the file {} {wrong}", self.name, path.display());
            StepError::new(ErrorClass::NeedsPerson, "url-file", words)
        };
        let text =
            web::read(path).await.map_err(|cause| fault(format!("cannot be read: {cause}; put the URL there, readable for watchover")))?;
        web::address(text.trim()).map_err(fault)
    }

    fn body(&self, cx: &StepContext) -> Value {
        let how = if cx.graceful { "planned move" } else { "move" };
        let text =
            format!("watchover: {how} {} (incident {}) has come to step {} at {}", cx.direction, cx.incident, self.name, rfc3339(cx.now));
        match self.format {
            Format::Slack => json!({ "text": web::slack(&text) }),
            Format::Json => json!({
                "schema_version": 1,
                "event": "step",
                "incident": cx.incident,
                "step": self.name,
                "step_id": cx.step_id,
                "direction": cx.direction,
                "graceful": cx.graceful,
                "at": rfc3339(cx.now),
                "facts": cx.facts,
                "text": text,
            }),
        }
    }
}

#[async_trait]
impl Step for Webhook {
    fn describe(&self, _: &Inspection) -> Vec<Call> {
        let post = format!(
            "curl -fsS --max-time {} -X POST -H 'Content-Type: application/json' -H \"{STEP_ID}: ${{WATCHOVER_INCIDENT-INCIDENT}}/\"{}",
            web::PATIENCE.as_secs(),
            quoted(&self.name)
        );
        let data = quoted(&json!({ "text": format!("watchover: {} by hand", self.name) }).to_string());
        let (to, shell) = match &self.address {
            Address::Given(url) => (web::place(url), format!("{post} --data {data} {}", quoted(url.as_str()))),
            // By curl's standard input, because arguments stand in everybody's list of processes.
            Address::In(path) => {
                let path = path.display().to_string();
                let shell = format!("printf 'url = \"%s\"\\n' \"$(cat {})\" | {post} --data {data} -K -", quoted(&path));
                (format!("the URL in {path}"), shell)
            }
        };
        vec![Call {
            service: "https".to_owned(),
            operation: "POST".to_owned(),
            region: String::new(),
            parameters: json!({ "to": to, "format": self.format }),
            shell,
            afterwards: false,
        }]
    }

    /// Whether it was told already, nobody can tell; that the address can be had, we can.
    async fn inspect(&self, _: &StepContext) -> Result<Inspection, StepError> {
        self.url().await.map(|_| Inspection::CannotTell)
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        let url = self.url().await?;
        let place = web::place(&url);
        let limit: Duration = cx.time_left.min(web::PATIENCE);
        let client = self
            .web
            .client(&url)
            .map_err(|error| StepError::new(ErrorClass::NeedsPerson, "no-client", format!("webhook {}: {error}", self.name)))?;
        let sent = client.post(url).timeout(limit).header(STEP_ID, &cx.step_id).json(&self.body(cx)).send().await;
        let answer = sent.map_err(|error| {
            let class = if error.is_builder() { ErrorClass::Refused } else { ErrorClass::Retry };
            let web::Unanswered { code, words } = web::unanswered(error);
            StepError::new(class, code, format!("webhook {}: POST to {place} got no answer ({code}): {words}", self.name))
        })?;
        // The body stays unread: it proves nothing, and may repeat the secret.
        judged(answer.status()).map_err(|(class, advice)| {
            let status = answer.status();
            StepError::new(
                class,
                format!("http-{}", status.as_u16()),
                format!("webhook {}: POST to {place} was answered {status}; {advice}", self.name),
            )
        })?;
        Ok(json!({ "to": place, "status": answer.status().as_u16() }))
    }

    /// The answer to the POST is all the proof there is.
    async fn verify(&self, _: &StepContext) -> Result<Verification, StepError> {
        Ok(Verification::So(json!({})))
    }

    async fn undo(&self, _: &StepContext) -> Result<String, StepError> {
        Ok("a message that was sent stays sent; it changed nothing".to_owned())
    }
}

fn judged(status: StatusCode) -> Result<(), (ErrorClass, &'static str)> {
    if status.is_success() {
        Ok(())
    } else if status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) {
        Err((ErrorClass::Retry, "it may take it later"))
    } else if status.is_redirection() {
        Err((ErrorClass::Refused, "redirects are not followed: give the URL that it points to"))
    } else {
        Err((ErrorClass::Refused, "check that the URL is right and not withdrawn, and that `format` is what it takes"))
    }
}

/// One word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
