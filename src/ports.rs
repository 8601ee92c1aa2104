//! The doors between the decision and the world.
//!
//! Adapters implement them for the real world, the simulation for a pretend one; nothing above this file
//! knows which it talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::domain::ledger::Record;
use crate::domain::model::{Direction, Finding};
use crate::domain::notice::{Event, Notice};
pub use crate::domain::report::{ErrorClass, Inspection, StepError};
use crate::domain::run::proven_fence;

/// The codes by which services say that we are known and not allowed.
///
/// These and the next are from the services' "common errors" pages.
pub const DENIALS: &[&str] =
    &["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "Forbidden", "AllAccessDisabled"];

/// The codes by which services do not take our credentials: expired, unknown, or signed with a wrong clock.
pub const BAD_CREDENTIALS: &[&str] = &[
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "IncompleteSignature",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "AuthFailure",
];

/// Looks at one thing.
#[async_trait]
pub trait Probe: Send + Sync {
    /// One look, bounded by `timeout` (the caller also cuts it off there). `now` is the wall clock, microseconds.
    ///
    /// Never fails: what cannot be told is a finding of its own, `unknown` with its cause.
    async fn look(&self, timeout: Duration, now: i64) -> Finding;
}

/// What a step needs to know about the move it is part of.
#[derive(Debug, Clone, PartialEq)]
pub struct StepContext {
    /// The incident; `plan` and preflight use the app's name.
    pub incident: String,
    /// `INCIDENT/STEP`: stable over attempts and restarts; receivers use it to drop repetitions.
    pub step_id: String,
    /// Which way the move goes.
    pub direction: Direction,
    /// Wall clock at the call, microseconds.
    pub now: i64,
    /// How long this call may take.
    pub time_left: Duration,
    /// What the steps before this one found, by their names. `fence-primary` leaves `{"fence": "proven", "at": micros}`,
    /// which is here once every fence of the plan is proven.
    pub facts: BTreeMap<String, Value>,
    /// What this step found at its own `inspect` before it was applied, if it was. For `undo` and `verify`.
    pub before: Value,
    /// The move is a planned one, off a well site.
    pub graceful: bool,
}

impl StepContext {
    /// The app's name: an incident's id begins with it, and its last part holds no `-`.
    pub fn app(&self) -> &str {
        let named = self.incident.strip_prefix("preflight of ");
        named.unwrap_or_else(|| self.incident.rsplit_once('-').map_or(self.incident.as_str(), |(app, _)| app))
    }

    /// When the last of the old writers were proven gone, if the fences among the steps so far proved it (wall,
    /// microseconds).
    pub fn fenced_at(&self) -> Option<i64> {
        self.facts.values().filter_map(proven_fence).max()
    }
}

/// What `verify` read back.
#[derive(Debug, Clone, PartialEq)]
pub enum Verification {
    /// It is so now. With facts for the record.
    So(Value),
    /// Not yet; words for the progress line.
    NotYet(String),
}

/// One call that a step would make, as a person could make it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    /// AWS service (`rds`) or protocol (`https`).
    pub service: String,
    /// `PromoteReadReplica`.
    pub operation: String,
    /// Region, empty for global services.
    pub region: String,
    /// The parameters that matter.
    pub parameters: Value,
    /// One shell line that does the same (`aws rds promote-read-replica …`); never a secret.
    pub shell: String,
    /// It is made when the step is done, beside what follows, and can fail nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub afterwards: bool,
}

/// One permission that a part needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permission {
    /// `rds:PromoteReadReplica`.
    pub action: String,
    /// ARN or pattern, as narrow as the service allows.
    pub resource: String,
    /// Account name of the config; `None`: our own.
    pub account: Option<String>,
}

/// What a person's script is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptContext {
    /// Where the plan leads.
    pub direction: Direction,
    /// What a wait may take, at most.
    pub limit: Duration,
}

/// One change in the world.
#[async_trait]
pub trait Step: Send + Sync {
    /// The exact calls that `apply` would make, given what `inspect` found; and those that follow once it is verified.
    fn describe(&self, found: &Inspection) -> Vec<Call>;

    /// The same for a person's bash script: one line each to ask for it, to wait until it is so, and to read it back. It is
    /// run later than it is written, and perhaps twice: what can be asked for then is asked for then. Lines that begin with
    /// `#` are comments; `wait_for` and its like are the script's own (`adapters/shell.rs`).
    ///
    /// The default is for kinds that cannot read back what they did: they have nothing to wait for.
    fn script(&self, found: &Inspection, _cx: &ScriptContext) -> Vec<String> {
        self.describe(found).into_iter().map(|call| call.shell).collect()
    }

    /// Is it so already; could it be done? Changes nothing.
    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError>;

    /// The last word on what `inspect` found, where the step is only asked whether it could be done. Looks also where a
    /// move must not: at a control plane in another region, say. Asked in `check`, `plan` and preflights, never in a move.
    ///
    /// # Errors
    /// Refused: it is certain that the step would not do what it is for. What could not be looked at is no refusal.
    async fn preflight(&self, _cx: &StepContext, found: Inspection) -> Result<Inspection, StepError> {
        Ok(found)
    }

    /// What could move the traffic that this step moves without us, each in words with what to do about it; `None`: the
    /// kind moves none, or cannot tell. Reads on its own time: asked in `check` and in preflights, never in a move.
    ///
    /// # Errors
    /// It could not be read.
    async fn autonomy(&self, _cx: &StepContext) -> Result<Option<Vec<String>>, StepError> {
        Ok(None)
    }

    /// Asks for it. `Ok` carries facts for the record and proves nothing.
    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError>;

    /// Reads back whether it is so now. Changes nothing.
    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError>;

    /// Puts back what `cx.before` says stood there. Called only for reversible steps of a move that is called off.
    /// The words say what was put back, or why leaving it is right.
    async fn undo(&self, cx: &StepContext) -> Result<String, StepError>;
}

/// One receiver of messages, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifyConfig {
    /// Its name: a metric label.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What it is told of.
    pub events: BTreeSet<Event>,
    /// How often it is reminded while a person is waited for; `None`: never.
    pub remind_every: Option<Duration>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Account of the config; `None`: our own.
    pub account: Option<String>,
    /// The kind's own keys, complete. They hold no secrets: these are in files.
    pub keys: Value,
}

/// A receiver: what its config says, and the way to it.
pub type Receiver = (NotifyConfig, std::sync::Arc<dyn Notifier>);

/// Tells one receiver of messages.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Tells it once, within `limit`; the caller cuts it off there and decides about repetitions, which bear the same id.
    ///
    /// # Errors
    /// It was not told, as far as anybody knows.
    async fn send(&self, notice: &Notice, limit: Duration) -> Result<(), NotifyError>;

    /// Whether it could be told, as far as that shows without telling it; in words.
    ///
    /// # Errors
    /// What is in the way, and what to do.
    async fn check(&self) -> Result<String, String>;
}

/// Why a receiver was not told. Never carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct NotifyError {
    /// The same may go through later.
    pub again: bool,
    /// Where, and what came back.
    pub words: String,
}

impl NotifyError {
    /// One that may pass.
    pub fn later(words: impl Into<String>) -> NotifyError {
        NotifyError { again: true, words: words.into() }
    }
}

/// Why the journal refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The place cannot be written (full, read-only, gone).
    #[error("journal {path}: {operation} failed: {cause}")]
    Unwritable {
        /// The file.
        path: String,
        /// What was tried.
        operation: &'static str,
        /// What the system said, and what to do.
        cause: String,
    },
    /// What is written there is not what we wrote.
    #[error(
        "journal {path}: entry {seq} was changed within: {cause}. Move the file away and state the active site with `watchover adopt`, or restore it"
    )]
    Tampered {
        /// The file.
        path: String,
        /// The first entry that does not fit.
        seq: i64,
        /// Which check failed.
        cause: String,
    },
    /// Somebody else has it.
    #[error("journal {path}: another watchover holds it ({holder}); one state_dir serves one daemon")]
    Held {
        /// The file.
        path: String,
        /// What is known of the holder.
        holder: String,
    },
    /// Written by a newer watchover.
    #[error("journal {path}: entry {seq} has schema {schema}, this watchover knows up to {known}; run the newer version")]
    Newer {
        /// The file.
        path: String,
        /// The entry.
        seq: i64,
        /// Its schema.
        schema: i64,
        /// The newest that we read.
        known: i64,
    },
}

/// The durable record. What it has not taken has not happened.
pub trait Journal: Send {
    /// Writes the records as one transaction, and returns when they are durable: the place of the first of them.
    fn append(&mut self, records: &[Record]) -> Result<i64, JournalError>;
    /// Everything written so far, in order, checked.
    fn replay(&mut self) -> Result<Vec<Record>, JournalError>;
}

/// Says a line for a person in their log; part of every error that is handled rather than returned.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = next.source();
    }
    line
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.afterwards { "afterwards, in the background: " } else { "" };
        write!(f, "{when}{}:{}", self.service, self.operation)?;
        if !self.region.is_empty() {
            write!(f, " in {}", self.region)?;
        }
        write!(f, " {}", self.parameters)
    }
}
