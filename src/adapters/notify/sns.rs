//! `sns`: one publication a message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapters::Adapters;
use crate::adapters::aws::Aws;
use crate::adapters::registry::{KeyDoc, NotifyKind};
use crate::adapters::sns_topic::{self, Publication, Topic};
use crate::config::NotifyConfig;
use crate::config::judge::Table;
use crate::domain::notice::Notice;
use crate::ports::{Notifier, NotifyError};

/// The registry's entry.
pub static KIND: NotifyKind<Adapters> = NotifyKind {
    name: "sns",
    doc: "Publishes to an SNS topic, with the attributes event, app, incident and message_id. The call goes to the topic's own region: take one that is not left.",
    keys: &[KeyDoc { name: "topic_arn", form: "string", default: "", doc: "The topic; its ARN says the region of the call." }],
    judge,
    build,
    permissions: |receiver| topic(receiver).map(|topic| topic.permissions()).unwrap_or_default(),
};

#[derive(Serialize, Deserialize)]
struct Keys {
    topic_arn: String,
}

fn judge(table: &Table) -> Option<Value> {
    let topic_arn = table.need_string("topic_arn", "the topic's ARN, like \"arn:aws:sns:eu-west-1:123456789012:alarms\"")?;
    if let Err(wrong) = sns_topic::region(&topic_arn) {
        table.fault("topic_arn", wrong);
        return None;
    }
    serde_json::to_value(Keys { topic_arn }).ok()
}

fn topic(receiver: &NotifyConfig) -> Result<Topic, String> {
    let keys: Keys = super::kept(receiver)?;
    Ok(Topic { account: receiver.account.clone(), arn: keys.topic_arn })
}

fn build(receiver: &NotifyConfig, adapters: &Adapters) -> Result<Arc<dyn Notifier>, String> {
    Ok(Arc::new(Sns { aws: adapters.aws.clone(), topic: topic(receiver)? }))
}

struct Sns {
    aws: Aws,
    topic: Topic,
}

fn publication(notice: &Notice) -> Publication {
    let app = notice.app.clone().unwrap_or_default();
    Publication {
        subject: notice.subject(),
        message: notice.text(),
        attributes: BTreeMap::from([
            ("event", notice.event.to_string()),
            ("app", app.clone()),
            ("incident", notice.incident.clone().unwrap_or_default()),
            ("message_id", notice.id.clone()),
        ]),
        id: notice.id.clone(),
        group: if app.is_empty() { "watchover".to_owned() } else { app },
    }
}

#[async_trait]
impl Notifier for Sns {
    async fn send(&self, notice: &Notice, _: Duration) -> Result<(), NotifyError> {
        let sent = self.topic.publish(&self.aws, &publication(notice)).await;
        sent.map(drop)
            .map_err(|failure| NotifyError { again: failure.step().class == crate::ports::ErrorClass::Retry, words: failure.message })
    }

    async fn check(&self) -> Result<String, String> {
        match self.topic.exists(&self.aws).await {
            Ok(true) => Ok(format!("topic {} is there", self.topic.arn)),
            Ok(false) => Err(format!("there is no topic {}; mend `topic_arn` or `account`", self.topic.arn)),
            Err(failure) => Err(failure.message),
        }
    }
}
