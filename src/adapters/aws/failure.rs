//! What a failed AWS call means: classed once, here, for steps and looks alike.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::domain::model::{Cause, Verdict};
use crate::domain::report::THROTTLES;
use crate::ports::{BAD_CREDENTIALS, DENIALS, ErrorClass, StepError, chain};

/// There was nothing to sign a call with, so that none was sent.
pub(super) const NO_CREDENTIALS: &str = "no-credentials";

/// One call, as an error or a metric names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// `rds`: one name for each service, that of its client.
    pub service: &'static str,
    /// `PromoteReadReplica`.
    pub operation: &'static str,
    /// The IAM action that allows it; differs from `service:operation` for some (`HeadObject` needs `s3:GetObject`).
    pub action: &'static str,
    /// The region that the call goes to.
    pub region: String,
    /// What it is about: `DB instance shop-replica`.
    pub subject: String,
}

impl Op {
    /// A call named by its parts.
    pub fn new(service: &'static str, operation: &'static str, action: &'static str, region: &str, subject: impl Into<String>) -> Op {
        Op { service, operation, action, region: region.to_owned(), subject: subject.into() }
    }
}

/// Why a call failed, in the few ways that make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// We have no credentials, or AWS does not take them.
    NoCredentials,
    /// We are known and not allowed.
    AccessDenied,
    /// Too many calls, ours or others'. Nothing was done.
    Throttled,
    /// No answer in time: it may have been done.
    Timeout,
    /// No connection, or it broke: it may have been done.
    NoAnswer,
    /// The service failed (5xx): it may have been done.
    Server,
    /// An answer that makes no sense: it may have been done.
    Malformed,
    /// The service understood and refused; `code` says why. Nothing was done.
    Rejected,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// In which way.
    pub kind: Kind,
    /// AWS's own code, or a word of ours where there was no answer.
    pub code: String,
    /// Operation, subject, region, code, AWS's words, and what to do.
    pub message: String,
}

impl Failure {
    /// What it means for a step. A refusal by code is final here; steps that know better ask [`Failure::code`] first.
    pub fn step(&self) -> StepError {
        let class = match self.kind {
            Kind::AccessDenied => ErrorClass::NeedsPerson,
            Kind::Rejected => ErrorClass::Refused,
            // Credentials come back by themselves too (instance metadata, a role's session): try until the deadline.
            Kind::NoCredentials | Kind::Throttled | Kind::Timeout | Kind::NoAnswer | Kind::Server | Kind::Malformed => ErrorClass::Retry,
        };
        self.step_as(class)
    }

    /// The same with a class that the caller knows better.
    pub fn step_as(&self, class: ErrorClass) -> StepError {
        StepError::new(class, self.code.clone(), self.message.clone())
    }

    /// What it means for a look: never `down`, as our own call failing says nothing about the subject.
    pub fn verdict(&self) -> Verdict {
        Verdict::Unknown(match self.kind {
            Kind::NoCredentials => Cause::NoCredentials,
            Kind::AccessDenied => Cause::AccessDenied,
            Kind::Throttled => Cause::Throttled,
            Kind::Timeout | Kind::NoAnswer | Kind::Server => Cause::ApiUnavailable,
            Kind::Malformed | Kind::Rejected => Cause::Unclassified,
        })
    }

    /// The call's outcome as the metric says it: `ok` is said elsewhere.
    pub fn outcome(&self) -> &'static str {
        match self.kind {
            Kind::Throttled => "throttled",
            Kind::Timeout => "timeout",
            _ => "error",
        }
    }

    /// A look's call that its caller cut off.
    pub fn late(op: &Op, timeout: std::time::Duration) -> Failure {
        Failure::before(op, Kind::Timeout, "timeout", &format!("no answer within {timeout:?}"))
    }

    /// A failure that came before any call.
    pub fn before(op: &Op, kind: Kind, code: &str, why: &str) -> Failure {
        Failure { kind, code: code.to_owned(), message: format!("{}: {why}", heading(op)) }
    }
}

/// Classes one failed call.
///
/// Codes: the services' "common errors" pages; HTTP status decides where there is none (`HeadObject` has no body).
pub fn classify<E>(op: &Op, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let said = |kind: Kind, code: &str, words: &str| {
        let hint = hint(op, kind);
        let words = words.trim().trim_end_matches('.');
        let between = if words.is_empty() { "" } else { ": " };
        Failure { kind, code: code.to_owned(), message: format!("{}: {code}{between}{words}{hint}", heading(op)) }
    };
    if let Some(cause) = credentials_error(error) {
        return said(Kind::NoCredentials, NO_CREDENTIALS, &chain(cause));
    }
    match error {
        SdkError::TimeoutError(_) => said(Kind::Timeout, "timeout", "no answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => said(Kind::Timeout, "timeout", "no answer in time"),
        SdkError::DispatchFailure(failure) => {
            let words = failure.as_connector_error().map_or_else(String::new, |cause| chain(cause));
            said(Kind::NoAnswer, "no-answer", &words)
        }
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let fallback = format!("http-{status}");
            // Accepted, and the answer is cut off or somebody else's: what was asked for may well have been done.
            if context.err().code().is_none() && (200..300).contains(&status) {
                return said(Kind::Malformed, "malformed-answer", &chain(context.err()));
            }
            let code = context.err().code().unwrap_or(&fallback);
            said(kind_of(code, status), code, context.err().message().unwrap_or_default())
        }
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            if status >= 500 {
                return said(Kind::Server, &format!("http-{status}"), "an answer without AWS's error document");
            }
            said(Kind::Malformed, "malformed-answer", &chain(error))
        }
        SdkError::ConstructionFailure(_) => said(Kind::Rejected, "bad-request", &chain(error)),
        _ => said(Kind::Malformed, "unclassified", &chain(error)),
    }
}

fn heading(op: &Op) -> String {
    format!("{}:{} of {} in {}", op.service, op.operation, op.subject, op.region)
}

fn hint(op: &Op, kind: Kind) -> String {
    match kind {
        Kind::AccessDenied => format!("; allow {} (`watchover iam-policy` prints the whole policy)", op.action),
        Kind::NoCredentials => {
            "; give the daemon credentials (instance role, profile or environment) and look at `watchover check`".to_owned()
        }
        Kind::Throttled => "; others share this account's rate".to_owned(),
        Kind::Timeout | Kind::NoAnswer | Kind::Server | Kind::Malformed | Kind::Rejected => String::new(),
    }
}

fn kind_of(code: &str, status: u16) -> Kind {
    match code {
        code if DENIALS.contains(&code) => Kind::AccessDenied,
        code if BAD_CREDENTIALS.contains(&code) => Kind::NoCredentials,
        code if THROTTLES.contains(&code) => Kind::Throttled,
        "RequestTimeout" | "RequestTimeoutException" => Kind::Timeout,
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 => Kind::Server,
        _ if status == 403 => Kind::AccessDenied,
        _ => Kind::Rejected,
    }
}

/// The credentials chain's own error, wherever the SDK wrapped it.
fn credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let mut at = Some(error);
    while let Some(cause) = at {
        if cause.is::<CredentialsError>() {
            return Some(cause);
        }
        at = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_class_as_the_services_mean_them() {
        for (code, status, kind) in [
            ("AccessDenied", 403, Kind::AccessDenied),
            ("Throttling", 400, Kind::Throttled),
            ("PriorRequestNotComplete", 400, Kind::Throttled),
            ("SlowDown", 503, Kind::Throttled),
            ("ExpiredToken", 403, Kind::NoCredentials),
            ("InternalFailure", 500, Kind::Server),
            ("http-403", 403, Kind::AccessDenied),
            ("DBInstanceNotFound", 404, Kind::Rejected),
        ] {
            assert_eq!(kind_of(code, status), kind, "{code} {status}");
        }
    }

    #[test]
    fn a_denial_names_the_action_that_is_missing() {
        let op = Op::new("s3", "HeadObject", "s3:GetObject", "eu-west-1", "object b/k");
        assert!(hint(&op, Kind::AccessDenied).contains("allow s3:GetObject"));
        assert_eq!(Failure::before(&op, Kind::AccessDenied, "AccessDenied", "no").step().class, ErrorClass::NeedsPerson);
    }
}
