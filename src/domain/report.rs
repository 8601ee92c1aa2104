//! What a step's calls come back with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::words;

/// What `inspect` found.
#[derive(Debug, Clone, PartialEq)]
pub enum Inspection {
    /// It is so already; nothing to do. With facts for the record.
    AlreadySo(Value),
    /// It was asked for, by us or another, and is under way: only `verify` is left.
    UnderWay(Value),
    /// It can be done. The facts say what stands there now, so that it can be put back.
    Possible(Value),
    /// Not yet: something passes by itself (a backup, a drain). Looked at again until the deadline.
    NotYet(String),
    /// A person must say yes first: the question, and for whom it is. Nothing is asked of the world, whatever the answer.
    Asks(String),
    /// Kinds without inspectable state: nobody can tell.
    CannotTell,
}

words! {
    /// What an error of a step means, classed once, where it is understood.
    ErrorClass {
        /// Passing: the same call may go through later. Inspect first.
        Retry = "retry",
        /// The world says that it is so already: read it back.
        AlreadySo = "already-so",
        /// Final: the world will not do this.
        Refused = "refused",
        /// A person must look: what stands there is not what any step expects.
        NeedsPerson = "needs-person",
    }
}

/// The codes by which services turn a call away for its rate, unheard: nothing was done.
///
/// From the services' "common errors" pages, and the SDKs' own list of throttling codes.
pub const THROTTLES: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "LimitExceededException",
    "http-429",
];

/// The codes by which services turn a call away because something else is under way there, unheard as well: the thing is
/// busy for as long as that takes, which the deadline of the step bounds.
const BUSY: &[&str] = &["InvalidDBInstanceState", "InvalidDBInstanceStateFault", "ScalingActivityInProgress", "ResourceContention"];

/// True if a call that came back with that code was no attempt: nothing was done.
pub fn is_no_attempt(code: &str) -> bool {
    THROTTLES.contains(&code) || BUSY.contains(&code)
}

/// Why a step's call failed. Names operation and subject; never carries a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What it means.
    pub class: ErrorClass,
    /// Operation, subject, cause, and what to do.
    pub message: String,
    /// The world's own code, e.g. `AccessDenied`, for the metric's `reason`; short and from a closed set of the service.
    pub code: String,
}

impl StepError {
    /// An error of that class.
    pub fn new(class: ErrorClass, code: impl Into<String>, message: impl Into<String>) -> StepError {
        StepError { class, code: code.into(), message: message.into() }
    }
}

/// What an executor reports of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// `inspect` came back.
    Inspected(Result<Inspection, StepError>),
    /// `apply` came back.
    Applied(Result<Value, StepError>),
    /// `verify` came back with an end, or failed.
    Verified(Result<Value, StepError>),
    /// `verify` is not through yet; words for whoever watches.
    Progress(String),
    /// `undo` came back.
    Undone(Result<String, StepError>),
}
