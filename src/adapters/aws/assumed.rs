//! A role's credentials, and what it took to get them: the SDK asks for them by itself, past [`super::Aws::call`].

use std::error::Error;
use std::fmt;

use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use tokio::time::Instant;

use super::failure::{Failure, NO_CREDENTIALS, Op, classify};
use super::{CallRecord, Hook};

/// The SDK's source of a role's credentials, each call of which is told to the hook.
pub(super) struct Assumed {
    /// Asks at each call; what it gave is kept by whoever asks us.
    pub role: AssumeRoleProvider,
    /// `AssumeRole` of that account.
    pub op: Op,
    pub hook: Hook,
}

impl fmt::Debug for Assumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assumed(…)")
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            // Whoever waits for credentials has a time limit of its own, and lets go of us when it is over.
            let mut call = Call { of: self, start: Instant::now(), outcome: Some("timeout") };
            let found = self.role.provide_credentials().await;
            call.outcome = found.as_ref().map_or_else(|error| outcome(&self.op, error), |_| Some("ok"));
            found
        })
    }
}

/// One call, told of when it ends, and be it that nobody waits for it any more.
struct Call<'a> {
    of: &'a Assumed,
    start: Instant,
    outcome: Option<&'static str>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome else { return };
        let (op, seconds) = (&self.of.op, self.start.elapsed().as_secs_f64());
        (self.of.hook)(&CallRecord { service: op.service, operation: op.operation, region: &op.region, outcome, seconds });
    }
}

/// How the call ended; `None` if there was none, because the keys to sign it with are missing.
fn outcome(op: &Op, error: &CredentialsError) -> Option<&'static str> {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = at {
        if let Some(error) = cause.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>() {
            return Some(classify(op, error)).filter(|failure| failure.code != NO_CREDENTIALS).as_ref().map(Failure::outcome);
        }
        at = cause.source();
    }
    Some(if matches!(error, CredentialsError::ProviderTimedOut(_)) { "timeout" } else { "error" })
}
