//! `sns`: publishes to a topic that the move has come this far.
//!
//! Whether a message was taken cannot be read back, so it may be published twice, always under the same id: the
//! attribute `step_id`, by which a receiver drops the second; a FIFO topic drops it by itself within five minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::Aws;
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::adapters::sns_topic::{self, Publication, Topic};
use crate::config::judge::Table;
use crate::domain::model::rfc3339;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
///
/// Reversible, because it keeps no move from being called off: what was said stays said, and binds nobody.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "sns",
    doc: "Publishes to an SNS topic how far the move has come, with the message attributes incident, app, step, step_id and direction; may arrive twice, under one step_id (a FIFO topic drops the second). The call goes to the topic's own region: take one that is not left.",
    class: Class::Other,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::AtLeastOnce,
    default_deadline: "30s",
    at_source: false,
    refine: None,
    keys: &[
        KeyDoc { name: "topic_arn", form: "string", default: "", doc: "The topic; its ARN says the region of the call." },
        KeyDoc {
            name: "message",
            form: "string",
            default: "what is known of the move, as JSON",
            doc: "A text of your own instead. Stored in the journal: no secrets.",
        },
    ],
    judge,
    build,
    permissions: |step: &PlannedStep| -> Vec<Permission> { topic(step).map(|topic| topic.permissions()).unwrap_or_default() },
};

/// How long the look at the topic may take: it must not hold the move up, as the answer decides little.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Keys {
    topic_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

fn judge(table: &Table, _: &Place) -> Option<Value> {
    let before = table.problems().len();
    let topic_arn = table.need_string("topic_arn", "the topic's ARN, like \"arn:aws:sns:eu-west-1:123456789012:moves\"");
    if let Some(Err(wrong)) = topic_arn.as_deref().map(sns_topic::region) {
        table.fault("topic_arn", wrong);
    }
    let message = table.prose("message");
    if message.as_ref().is_some_and(|text| text.trim().is_empty()) {
        table.fault("message", "is empty, which SNS does not take; leave it out for what is known of the move");
    }
    (table.problems().len() == before).then_some(())?;
    serde_json::to_value(Keys { topic_arn: topic_arn?, message }).ok()
}

fn topic(step: &PlannedStep) -> Result<Topic, StepError> {
    let keys: Keys = super::stored(step)?;
    Ok(Topic { account: step.account.clone(), arn: keys.topic_arn })
}

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    Ok(Arc::new(Sns { aws: adapters.aws.clone(), name: step.name.clone(), topic: topic(step)?, message: keys.message }))
}

struct Sns {
    aws: Aws,
    name: String,
    topic: Topic,
    message: Option<String>,
}

impl Sns {
    fn publication(&self, cx: &StepContext) -> Publication {
        let how = if cx.graceful { "planned move" } else { "move" };
        let text = format!("{how} {} has come to step {} at {}", cx.direction, self.name, rfc3339(cx.now));
        let told = json!({
            "schema_version": 1,
            "event": "step",
            "app": cx.app(),
            "incident": cx.incident,
            "step": self.name,
            "step_id": cx.step_id,
            "direction": cx.direction,
            "graceful": cx.graceful,
            "at": rfc3339(cx.now),
            "text": text,
        });
        Publication {
            subject: format!("watchover: {} {}: step {}", cx.app(), cx.direction, self.name),
            message: self.message.clone().unwrap_or_else(|| told.to_string()),
            attributes: BTreeMap::from([
                ("app", cx.app().to_owned()),
                ("incident", cx.incident.clone()),
                ("step", self.name.clone()),
                ("step_id", cx.step_id.clone()),
                ("direction", cx.direction.to_string()),
            ]),
            id: cx.step_id.clone(),
            group: cx.app().to_owned(),
        }
    }
}

#[async_trait]
impl Step for Sns {
    fn describe(&self, _: &Inspection) -> Vec<Call> {
        vec![self.topic.call(self.message.as_deref().unwrap_or(&format!("watchover: {} by hand", self.name)))]
    }

    /// A topic that is not there is found before anything moves; that nobody can tell is no reason not to publish.
    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        match tokio::time::timeout(LOOK.min(cx.time_left), self.topic.exists(&self.aws)).await {
            Ok(Ok(false)) => {
                let words = format!("sns {}: there is no topic {}; mend `topic_arn` or `account` of the step", self.name, self.topic.arn);
                Err(StepError::new(ErrorClass::Refused, "topic-not-found", words))
            }
            Ok(Ok(true) | Err(_)) | Err(_) => Ok(Inspection::CannotTell),
        }
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        let id = self.topic.publish(&self.aws, &self.publication(cx)).await.map_err(|failure| failure.step())?;
        Ok(json!({ "message_id": id }))
    }

    /// That SNS took it is all the proof there is.
    async fn verify(&self, _: &StepContext) -> Result<Verification, StepError> {
        Ok(Verification::So(json!({})))
    }

    async fn undo(&self, _: &StepContext) -> Result<String, StepError> {
        Ok("a message that was sent stays sent; it changed nothing".to_owned())
    }
}

#[cfg(test)]
mod tests;
