//! S3 buckets and SNS topics: things that keep what they are given.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ACCOUNT, ApiError, Cause, Millis, World};

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Content.
    #[serde(skip)]
    pub body: Vec<u8>,
    /// Media type.
    pub content_type: String,
    /// Entity tag, without quotes.
    pub etag: String,
    /// When it was put.
    pub modified: Millis,
}

/// Block Public Access, as the bucket has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublicAccess {
    /// `BlockPublicAcls`.
    pub block_acls: bool,
    /// `IgnorePublicAcls`.
    pub ignore_acls: bool,
    /// `BlockPublicPolicy`.
    pub block_policy: bool,
    /// `RestrictPublicBuckets`.
    pub restrict: bool,
}

/// A bucket.
#[derive(Clone, Debug, Serialize)]
pub struct Bucket {
    /// Name.
    pub name: String,
    /// Where.
    pub region: String,
    /// Content.
    pub objects: BTreeMap<String, Object>,
    /// Block Public Access.
    pub public_access: PublicAccess,
    /// Keys that its policy lets everybody read.
    pub public_keys: Vec<String>,
}

/// A message that was published.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Identifier.
    pub id: String,
    /// Subject.
    pub subject: Option<String>,
    /// Text.
    pub body: String,
    /// When.
    pub at_ms: Millis,
}

/// An SNS topic.
#[derive(Clone, Debug, Serialize)]
pub struct Topic {
    /// ARN.
    pub arn: String,
    /// Where.
    pub region: String,
    /// Protocol, endpoint and ARN of each subscription.
    pub subscriptions: Vec<(String, String, String)>,
    /// What was published.
    pub messages: Vec<Message>,
}

impl World {
    /// One bucket.
    pub fn bucket(&self, name: &str) -> Result<&Bucket, ApiError> {
        self.buckets.iter().find(|b| b.name == name).ok_or_else(no_bucket)
    }

    /// `PutObject`; answers the entity tag.
    pub fn put_object(&mut self, bucket: &str, key: &str, body: Vec<u8>, kind: &str, now: Millis) -> Result<String, ApiError> {
        self.advance(now);
        // AWS's tag is an MD5 sum; nobody may rely on that, so any stable one does.
        let etag = format!("{:016x}{:016x}", fnv(&body, 0), fnv(&body, 0x5bd1_e995));
        let object = Object { body, content_type: kind.to_owned(), etag: etag.clone(), modified: self.now };
        let bucket = self.bucket_mut(bucket)?;
        let same = |before: &Object| before.etag == etag && before.content_type == kind;
        let effective = !bucket.objects.get(key).is_some_and(same);
        bucket.objects.insert(key.to_owned(), object);
        let (region, subject) = (bucket.region.clone(), format!("{}/{key}", bucket.name));
        if effective {
            self.record("object-put", Cause::Api, &region, &subject, "");
        }
        Ok(etag)
    }

    /// `DeleteObject`; one that is not there is no error.
    pub fn delete_object(&mut self, bucket: &str, key: &str, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let bucket = self.bucket_mut(bucket)?;
        if bucket.objects.remove(key).is_some() {
            let (region, subject) = (bucket.region.clone(), format!("{}/{key}", bucket.name));
            self.record("object-deleted", Cause::Api, &region, &subject, "");
        }
        Ok(())
    }

    /// `PutPublicAccessBlock`.
    pub fn set_public_access(&mut self, bucket: &str, access: PublicAccess, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let found = self.bucket_mut(bucket)?;
        if found.public_access != access {
            found.public_access = access;
            let region = found.region.clone();
            self.record("public-access", Cause::Api, &region, bucket, format!("{access:?}"));
        }
        Ok(())
    }

    /// What somebody without credentials gets. An object that is not there is a 403 too, unless listing is
    /// public, which it never is here.
    pub fn public_object(&self, bucket: &str, key: &str) -> Result<&Object, ApiError> {
        let bucket = self.bucket(bucket)?;
        let denied = || ApiError::new(403, "AccessDenied", "Access Denied");
        let open = bucket.public_keys.iter().any(|k| k == key) && !bucket.public_access.restrict;
        if self.dark.contains(&bucket.region) || !open {
            return Err(denied());
        }
        bucket.objects.get(key).ok_or_else(denied)
    }

    fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket, ApiError> {
        self.buckets.iter_mut().find(|b| b.name == name).ok_or_else(no_bucket)
    }

    /// `CreateTopic`; answers the ARN, also of one that is there.
    pub fn create_topic(&mut self, region: &str, name: &str, now: Millis) -> String {
        self.advance(now);
        let arn = format!("arn:aws:sns:{region}:{ACCOUNT}:{name}");
        if !self.topics.iter().any(|t| t.arn == arn) {
            let topic = Topic { arn: arn.clone(), region: region.to_owned(), subscriptions: Vec::new(), messages: Vec::new() };
            self.topics.push(topic);
            self.record("topic-created", Cause::Api, region, &arn, "");
        }
        arn
    }

    /// `Publish`; answers the message's identifier.
    pub fn publish(&mut self, region: &str, arn: &str, subject: Option<String>, body: String, now: Millis) -> Result<String, ApiError> {
        self.advance(now);
        let id = self.hex_id(32);
        let at_ms = self.now;
        let topic = self.topic_mut(region, arn)?;
        topic.messages.push(Message { id: id.clone(), subject, body, at_ms });
        self.record("published", Cause::Api, region, arn, id.clone());
        Ok(id)
    }

    /// `Subscribe`; answers the subscription's ARN.
    pub fn subscribe(&mut self, region: &str, arn: &str, protocol: &str, endpoint: &str, now: Millis) -> Result<String, ApiError> {
        self.advance(now);
        let id = self.hex_id(32);
        let topic = self.topic_mut(region, arn)?;
        let subscription = format!("{arn}:{id}");
        topic.subscriptions.push((protocol.to_owned(), endpoint.to_owned(), subscription.clone()));
        self.record("subscribed", Cause::Api, region, arn, endpoint.to_owned());
        Ok(subscription)
    }

    fn topic_mut(&mut self, region: &str, arn: &str) -> Result<&mut Topic, ApiError> {
        let missing = || ApiError::new(404, "NotFound", "Topic does not exist");
        self.topics.iter_mut().find(|t| t.arn == arn && t.region == region).ok_or_else(missing)
    }
}

fn no_bucket() -> ApiError {
    ApiError::new(404, "NoSuchBucket", "The specified bucket does not exist")
}

fn fnv(bytes: &[u8], salt: u64) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
