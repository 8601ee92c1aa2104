//! One SNS topic: publishing to it, and asking whether it is there. What a step and a receiver of messages share.

use std::collections::BTreeMap;

use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::aws::{Aws, Failure, Op, Purpose};
use super::shell::shell_word;
use crate::ports::{Call, Permission};

/// What a deduplication or group id may hold at the most, and what a subject may.
///
/// Source: the SNS API reference, Publish.
const MOST_ID: usize = 128;
const MOST_SUBJECT: usize = 99;

/// A topic, and how it is called.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Account of the config; `None`: our own.
    pub account: Option<String>,
    /// Its ARN: `arn:aws:sns:REGION:ACCOUNT:NAME`.
    pub arn: String,
}

/// One message to it.
#[derive(Debug, Clone)]
pub struct Publication {
    /// One line, for mail.
    pub subject: String,
    /// The text.
    pub message: String,
    /// Attributes that subscriptions filter by; empty values are left out, as SNS refuses them.
    pub attributes: BTreeMap<&'static str, String>,
    /// The same for every repetition of this message: a FIFO topic drops the second within five minutes.
    pub id: String,
    /// What is kept in order in a FIFO topic.
    pub group: String,
}

/// The region of a topic's ARN; the error says what is wrong with it.
///
/// # Errors
/// It is not the ARN of a topic.
pub fn region(arn: &str) -> Result<&str, String> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts.as_slice() {
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && !name.is_empty() =>
        {
            Ok(region)
        }
        _ => Err(format!("{arn:?} is not the ARN of a topic; write it like \"arn:aws:sns:eu-west-1:123456789012:alarms\"")),
    }
}

impl Topic {
    fn region(&self) -> &str {
        region(&self.arn).unwrap_or_default()
    }

    fn is_fifo(&self) -> bool {
        self.arn.ends_with(".fifo")
    }

    fn op(&self, operation: &'static str, action: &'static str) -> Op {
        Op::new("sns", operation, action, self.region(), format!("topic {}", self.arn))
    }

    /// Publishes; a repetition bears the same id.
    ///
    /// # Errors
    /// What SNS, or the way there, says.
    pub async fn publish(&self, aws: &Aws, what: &Publication) -> Result<String, Failure> {
        let client = aws.sns(self.account.as_deref(), self.region(), Purpose::Change).await?;
        let mut call = client.publish().topic_arn(&self.arn).subject(subject(&what.subject)).message(&what.message);
        for (name, value) in what.attributes.iter().filter(|(_, value)| !value.is_empty()) {
            // Built of two texts, so what is missing cannot be: the error is for other types.
            if let Ok(attribute) = MessageAttributeValue::builder().data_type("String").string_value(value).build() {
                call = call.message_attributes(*name, attribute);
            }
        }
        if self.is_fifo() {
            call = call.message_group_id(id(&what.group)).message_deduplication_id(id(&what.id));
        }
        let answer = aws.call(&self.op("Publish", "sns:Publish"), call.send()).await?;
        Ok(answer.message_id().unwrap_or_default().to_owned())
    }

    /// Whether it is there: `Ok(false)` only where AWS says that it is not.
    ///
    /// # Errors
    /// Nobody can tell: no answer, or no right to ask.
    pub async fn exists(&self, aws: &Aws) -> Result<bool, Failure> {
        let client = aws.sns(self.account.as_deref(), self.region(), Purpose::Look).await?;
        let op = self.op("GetTopicAttributes", "sns:GetTopicAttributes");
        match aws.call(&op, client.get_topic_attributes().topic_arn(&self.arn).send()).await {
            Ok(_) => Ok(true),
            Err(failure) if matches!(failure.code.as_str(), "NotFound" | "NotFoundException") => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The call, as a person could make it. `text` stands for the message.
    pub fn call(&self, text: &str) -> Call {
        let fifo = if self.is_fifo() { " --message-group-id by-hand --message-deduplication-id \"$(date +%s)\"" } else { "" };
        Call {
            service: "sns".into(),
            operation: "Publish".into(),
            region: self.region().into(),
            parameters: json!({ "TopicArn": self.arn }) as Value,
            shell: format!(
                "aws sns publish --region {} --topic-arn {} --message {}{fifo}",
                shell_word(self.region()),
                shell_word(&self.arn),
                shell_word(text)
            ),
            afterwards: false,
        }
    }

    /// What it needs to be allowed.
    pub fn permissions(&self) -> Vec<Permission> {
        ["sns:Publish", "sns:GetTopicAttributes"]
            .map(|action| Permission { action: action.into(), resource: self.arn.clone(), account: self.account.clone() })
            .into()
    }
}

/// ASCII without control characters, as subjects must be.
fn subject(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(MOST_SUBJECT).collect()
}

/// A text as an id: letters, digits and punctuation; what does not fit stands there by its digest.
fn id(text: &str) -> String {
    if !text.is_empty() && text.len() <= MOST_ID && text.bytes().all(|b| b.is_ascii_graphic()) {
        return text.to_owned();
    }
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_knows_its_region() {
        assert_eq!(region("arn:aws:sns:eu-west-1:123456789012:alarms"), Ok("eu-west-1"));
        assert_eq!(region("arn:aws-cn:sns:cn-north-1:123456789012:a.fifo"), Ok("cn-north-1"));
        for wrong in ["alarms", "arn:aws:sqs:eu-west-1:123456789012:alarms", "arn:aws:sns::123456789012:a", "arn:aws:sns:eu-west-1:1:a"] {
            assert!(region(wrong).unwrap_err().contains("arn:aws:sns:eu-west-1"), "{wrong}");
        }
    }

    #[test]
    fn ids_and_subjects_fit() {
        assert_eq!(id("shop-20261121T034512Z/tell"), "shop-20261121T034512Z/tell");
        assert!(id(&"a".repeat(129)).len() == 64 && id("ä b").len() == 64 && !id("").is_empty());
        assert_eq!(id(&"a".repeat(129)), id(&"a".repeat(129)));
        assert_eq!(subject("shop: stück\nnow").as_str(), "shop: st?ck?now");
        assert_eq!(subject(&"x".repeat(200)).len(), MOST_SUBJECT);
    }
}
