//! What happened, and what an operation answers when it refuses.

use serde::Serialize;

use super::{Millis, World};

/// Who made an event happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A call through an API.
    Api,
    /// The cloud by itself, as a consequence.
    World,
    /// The hand that breaks and mends.
    Hand,
}

/// One effective change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Position in the log, from 0.
    pub seq: usize,
    /// When, in milliseconds of the world.
    pub at_ms: Millis,
    /// When, as Unix milliseconds.
    pub unix_ms: u64,
    /// What: a word from a closed set, such as `promoted`.
    pub kind: &'static str,
    /// Who made it happen.
    pub by: Cause,
    /// Where.
    pub region: String,
    /// To what: an identifier.
    pub subject: String,
    /// Figures, for people and for the referee.
    pub detail: String,
}

/// A refusal, as AWS words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// AWS's error code.
    pub code: &'static str,
    /// Message for people.
    pub message: String,
}

impl ApiError {
    /// A refusal with this status, code and message.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The caller asked for something that is not right in itself.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationError", message)
    }
}

impl World {
    pub(super) fn record(&mut self, kind: &'static str, by: Cause, region: &str, subject: &str, detail: impl Into<String>) {
        if by == Cause::Api && self.first_effect.is_none() {
            self.first_effect = Some(self.now);
        }
        let event = Event {
            seq: self.events.len(),
            at_ms: self.now,
            unix_ms: self.base_unix_ms + self.now,
            kind,
            by,
            region: region.to_owned(),
            subject: subject.to_owned(),
            detail: detail.into(),
        };
        self.events.push(event);
    }
}
