//! Credentials before they are used.

use std::fmt;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use hyper::header::HeaderValue;

/// A source that gives only what a request can carry. The SDK's signer panics on a key id that no header may hold, and a
/// variable or a mounted secret with the end of a line is enough for that.
///
/// The SDK logs every client's parts by their `Debug`, and that of a role's own source tells the external id.
pub(super) struct Sendable<P>(pub P);

impl<P> fmt::Debug for Sendable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sendable(…)")
    }
}

impl<P: ProvideCredentials> ProvideCredentials for Sendable<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { sendable(self.0.provide_credentials().await?) })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.0.fallback_on_interrupt().and_then(|found| sendable(found).ok())
    }
}

fn sendable(found: Credentials) -> Result<Credentials, CredentialsError> {
    for (name, text) in [("access key id", Some(found.access_key_id())), ("session token", found.session_token())] {
        if text.is_some_and(|text| HeaderValue::from_str(text).is_err()) {
            let words = format!("the {name} holds what no request can carry, such as the end of a line (the text is not shown)");
            return Err(CredentialsError::invalid_configuration(words));
        }
    }
    Ok(found)
}
