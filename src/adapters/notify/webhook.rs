//! `webhook` and `slack`: one HTTP POST a message.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::adapters::Adapters;
use crate::adapters::registry::{KeyDoc, NotifyKind};
use crate::adapters::web::{self, Web};
use crate::config::NotifyConfig;
use crate::config::judge::Table;
use crate::domain::notice::Notice;
use crate::ports::{Notifier, NotifyError};

/// Header that is the same for every repetition of one message.
pub const MESSAGE_ID: &str = "X-Watchover-Message-Id";

const KEYS: &[KeyDoc] = &[
    KeyDoc {
        name: "url",
        form: "URL",
        default: "",
        doc: "Where to; refused if it holds what may be a secret: user or password, a query, a token in the path. One of `url` and `url_file` must be given.",
    },
    KeyDoc {
        name: "url_file",
        form: "absolute path",
        default: "",
        doc: "A file that holds the URL and nothing else, for URLs that are secrets; read for every message. With systemd: /run/credentials/watchover.service/NAME by LoadCredential.",
    },
];

/// The registry's entry for plain webhooks.
pub static WEBHOOK: NotifyKind<Adapters> = NotifyKind {
    name: "webhook",
    doc: "An HTTP POST of a JSON object: schema_version, id, event, app, incident, at, observer, words, waits_for, reminder, text. Repetitions bear the same X-Watchover-Message-Id.",
    keys: KEYS,
    judge: |table| judge(table, false),
    build,
    permissions: |_| Vec::new(),
};

/// The registry's entry for Slack and its like.
pub static SLACK: NotifyKind<Adapters> = NotifyKind {
    name: "slack",
    doc: "An HTTP POST of {\"text\": …}, as Slack, Mattermost and their like take it. Their URLs are secrets: give `url_file`.",
    keys: KEYS,
    judge: |table| judge(table, true),
    build,
    permissions: |_| Vec::new(),
};

#[derive(Serialize, Deserialize)]
struct Keys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url_file: Option<PathBuf>,
    slack: bool,
}

fn judge(table: &Table, slack: bool) -> Option<Value> {
    let (url, url_file) = match (table.has("url"), table.has("url_file")) {
        (true, true) => {
            table.fault("url_file", "stands beside `url`; give one of the two");
            return None;
        }
        (false, false) => {
            table.fault("url", "is missing; give `url`, or `url_file` if the URL is a secret");
            return None;
        }
        (true, false) => (Some(judged_url(table)?), None),
        (false, true) => (None, Some(judged_file(table)?)),
    };
    serde_json::to_value(Keys { url, url_file, slack }).ok()
}

/// The problem must not quote the text: problems are printed, and the text may be a secret.
fn judged_url(table: &Table) -> Option<String> {
    let wrong = match web::address(table.string("url")?.trim()) {
        Err(wrong) => wrong,
        Ok(url) => match web::secret_part(&url) {
            None => return Some(url.into()),
            Some(part) => {
                format!(
                    "has {part}, which may be a secret; put the URL into a file that only watchover reads, and give its path as `url_file`"
                )
            }
        },
    };
    table.fault("url", wrong);
    None
}

fn judged_file(table: &Table) -> Option<PathBuf> {
    let path = table.need_string("url_file", "the absolute path of a file that holds the URL")?;
    if Path::new(&path).is_absolute() {
        return Some(PathBuf::from(path));
    }
    // Not quoted: whoever takes the one key for the other writes the secret here.
    table.fault(
        "url_file",
        "is not an absolute path; give that of a file that holds the URL, like \"/run/credentials/watchover.service/slack-url\"",
    );
    None
}

fn build(receiver: &NotifyConfig, adapters: &Adapters) -> Result<Arc<dyn Notifier>, String> {
    Ok(Arc::new(Webhook { keys: super::kept(receiver)?, web: adapters.web.clone() }))
}

struct Webhook {
    keys: Keys,
    web: Web,
}

impl Webhook {
    async fn url(&self) -> Result<Url, String> {
        match (&self.keys.url, &self.keys.url_file) {
            (Some(url), _) => web::address(url).map_err(|wrong| format!("`url` {wrong}")),
            (None, Some(path)) => {
                let fault = |wrong: String| format!("the file {} {wrong}", path.display());
                let text = web::read(path).await.map_err(|cause| fault(format!("cannot be read: {cause}; put the URL there")))?;
                web::address(text.trim()).map_err(fault)
            }
            (None, None) => Err("has neither `url` nor `url_file`".to_owned()),
        }
    }

    fn body(&self, notice: &Notice) -> Value {
        if self.keys.slack {
            return json!({ "text": web::slack(&notice.text()) });
        }
        let mut body = json!({ "schema_version": 1, "text": notice.text() });
        if let (Value::Object(body), Ok(Value::Object(fields))) = (&mut body, serde_json::to_value(notice)) {
            body.extend(fields);
        }
        body
    }
}

#[async_trait]
impl Notifier for Webhook {
    async fn send(&self, notice: &Notice, limit: Duration) -> Result<(), NotifyError> {
        // A file that is put right counts at the next attempt.
        let url = self.url().await.map_err(NotifyError::later)?;
        let place = web::place(&url);
        let client = self.web.client(&url).map_err(NotifyError::later)?;
        let sent = client.post(url).timeout(limit).header(MESSAGE_ID, ascii(&notice.id)).json(&self.body(notice)).send().await;
        let status = match sent {
            Ok(answer) => answer.status(),
            Err(error) => {
                let web::Unanswered { code, words } = web::unanswered(error);
                return Err(NotifyError::later(format!("POST to {place} got no answer ({code}): {words}")));
            }
        };
        let again = status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if status.is_success() { Ok(()) } else { Err(NotifyError { again, words: format!("POST to {place} was answered {status}") }) }
    }

    async fn check(&self) -> Result<String, String> {
        self.url().await.map(|url| format!("would POST to {}; not asked, as asking is telling", web::place(&url)))
    }
}

/// A header's value: ids hold app names and digits, but this is no place to rely on it.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::web::fake;
    use crate::domain::notice::Event;

    fn notice() -> Notice {
        Notice {
            id: "shop-1/stuck/7".into(),
            event: Event::Stuck,
            app: Some("shop".into()),
            incident: Some("shop-1".into()),
            at: "2026-11-21T03:45:12Z".into(),
            observer: "bastion".into(),
            words: "step <promote> failed".into(),
            waits_for: Some("`watchover retry shop-1`".into()),
            reminder: 0,
        }
    }

    fn webhook(keys: Keys) -> Webhook {
        Webhook { keys, web: fake::web() }
    }

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_message_is_one_post_under_its_id() {
        let (url, told) = fake::receiver(&[&fake::status("200 OK"), &fake::status("200 OK")]);
        webhook(Keys { url: Some(url.to_string()), url_file: None, slack: false }).send(&notice(), LONG).await.unwrap();
        let asked = told.recv().unwrap();
        assert!(asked.starts_with("POST / ") && asked.to_lowercase().contains("x-watchover-message-id: shop-1/stuck/7"), "{asked}");
        let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!((&body["event"], &body["incident"], &body["schema_version"]), (&json!("stuck"), &json!("shop-1"), &json!(1)));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("url");
        std::fs::write(&file, format!("{url}\n")).unwrap();
        webhook(Keys { url: None, url_file: Some(file), slack: true }).send(&notice(), LONG).await.unwrap();
        let body: Value = serde_json::from_str(told.recv().unwrap().split_once("\r\n\r\n").unwrap().1).unwrap();
        assert!(body["text"].as_str().unwrap().contains("&lt;promote&gt;") && body.as_object().unwrap().len() == 1, "{body}");
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_nothing_shows_the_address() {
        let (url, _told) = fake::receiver(&[&fake::status("503 Busy"), &fake::status("404 Not Found"), ""]);
        let webhook = webhook(Keys { url: Some(url.join("/hush").unwrap().to_string()), url_file: None, slack: false });
        for (again, word) in [(true, "503"), (false, "404"), (true, "no answer")] {
            let error = webhook.send(&notice(), Duration::from_millis(300)).await.unwrap_err();
            assert!(error.again == again && error.words.contains(word) && !error.words.contains("hush"), "{error:?}");
        }
        assert!(webhook.check().await.unwrap().contains("127.0.0.1") && !webhook.check().await.unwrap().contains("hush"));
        let missing = self::webhook(Keys { url: None, url_file: Some("/nowhere/url".into()), slack: true });
        assert!(missing.check().await.unwrap_err().contains("/nowhere/url"));
    }
}
