//! SNS over the query protocol.

use super::wire::{Call, query};
use super::{Answer, unknown};
use crate::lab::world::{ACCOUNT, ApiError, Millis, World};

const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    let (form, region) = (&call.form, call.region.as_str());
    match call.operation.as_str() {
        "CreateTopic" => {
            let arn = world.create_topic(region, form.need("Name")?, now);
            Ok(query(call, NAMESPACE, |x| {
                x.leaf("TopicArn", arn);
            }))
        }
        "ListTopics" => Ok(query(call, NAMESPACE, |x| {
            x.each("Topics", "member", world.topics().iter().filter(|t| t.region == region), |x, topic| {
                x.leaf("TopicArn", &topic.arn);
            });
        })),
        "GetTopicAttributes" => {
            let arn = form.need("TopicArn")?;
            let missing = || ApiError::new(404, "NotFound", "Topic does not exist");
            world.topics().iter().find(|t| t.arn == arn && t.region == region).ok_or_else(missing)?;
            Ok(query(call, NAMESPACE, |x| {
                x.each("Attributes", "entry", [("TopicArn", arn), ("Owner", ACCOUNT)], |x, (key, value)| {
                    x.leaf("key", key).leaf("value", value);
                });
            }))
        }
        "Publish" => {
            let arn = form.get("TopicArn").map_or_else(|| form.need("TargetArn"), Ok)?;
            let subject = form.get("Subject").map(str::to_owned);
            let id = world.publish(region, arn, subject, form.need("Message")?.to_owned(), now)?;
            Ok(query(call, NAMESPACE, |x| {
                x.leaf("MessageId", id);
            }))
        }
        "Subscribe" => {
            let endpoint = form.get("Endpoint").unwrap_or_default();
            let arn = world.subscribe(region, form.need("TopicArn")?, form.need("Protocol")?, endpoint, now)?;
            Ok(query(call, NAMESPACE, |x| {
                x.leaf("SubscriptionArn", arn);
            }))
        }
        "ListSubscriptionsByTopic" => {
            let arn = form.need("TopicArn")?;
            let missing = || ApiError::new(404, "NotFound", "Topic does not exist");
            let topic = world.topics().iter().find(|t| t.arn == arn && t.region == region).ok_or_else(missing)?;
            Ok(query(call, NAMESPACE, |x| {
                x.each("Subscriptions", "member", &topic.subscriptions, |x, (protocol, endpoint, subscription)| {
                    x.leaf("TopicArn", arn).leaf("Protocol", protocol).leaf("Endpoint", endpoint);
                    x.leaf("SubscriptionArn", subscription).leaf("Owner", ACCOUNT);
                });
            }))
        }
        _ => Err(unknown(call)),
    }
}
