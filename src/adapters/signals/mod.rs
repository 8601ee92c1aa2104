//! Kinds of signals: one file and one line here each.

#[cfg(feature = "cloudwatch")]
pub mod alarm;
#[cfg(feature = "cloudwatch")]
pub mod cloudwatch;
pub mod dns;
#[cfg(feature = "elbv2")]
pub mod elb_target_health;
pub mod http;
#[cfg(all(feature = "rds", feature = "cloudwatch"))]
pub mod rds_replica;
pub mod tcp;

use std::sync::Arc;

use super::Adapters;
use super::registry::{SignalKind, SignalSpec};
use crate::ports::{ErrorClass, Probe, StepError};

/// Every kind, in the order of the reference.
pub fn kinds() -> Vec<&'static SignalKind<Adapters>> {
    vec![
        &http::KIND,
        &dns::KIND,
        &tcp::KIND,
        #[cfg(feature = "cloudwatch")]
        &cloudwatch::KIND,
        #[cfg(feature = "cloudwatch")]
        &alarm::KIND,
        #[cfg(feature = "elbv2")]
        &elb_target_health::KIND,
        #[cfg(all(feature = "rds", feature = "cloudwatch"))]
        &rds_replica::KIND,
    ]
}

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static SignalKind<Adapters>> {
    kinds().into_iter().find(|kind| kind.name == name)
}

/// Builds a signal's probe.
///
/// # Errors
/// A kind that this build does not know, or what the kind says.
pub fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let kind = kind(&spec.kind).ok_or_else(|| {
        StepError::new(
            ErrorClass::Refused,
            "unknown-kind",
            format!("signal {}: this build does not know the kind {:?}", spec.name, spec.kind),
        )
    })?;
    (kind.build)(spec, adapters)
}
