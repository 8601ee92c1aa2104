//! The kinds of steps: one file each, one line each in [`kinds`].

pub mod approval;
#[cfg(feature = "autoscaling")]
pub mod autoscaling;
pub mod command;
#[cfg(feature = "autoscaling")]
pub mod fence;
pub mod http_check;
#[cfg(all(feature = "rds", feature = "cloudwatch"))]
pub mod rds;
#[cfg(feature = "route53")]
pub mod route53;
#[cfg(all(feature = "s3", feature = "route53"))]
pub mod s3_switch;
#[cfg(feature = "sns")]
pub mod sns;
pub mod webhook;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::Adapters;
use super::registry::StepKind;
use crate::domain::plan::PlannedStep;
use crate::ports::{ErrorClass, Step, StepError};

/// Who answers for a zone: the seam to the resolver, so that steps can be tried without one.
#[async_trait]
pub trait Authority: Send + Sync {
    /// What the zone's own servers answer for `name` now, uncached; nothing, if they say that it has no address. The error
    /// is a line for a person: they could not be asked.
    async fn authoritative(&self, name: &str) -> Result<Vec<IpAddr>, String>;
}

/// Every kind of step, in the order of the reference.
pub fn kinds() -> Vec<&'static StepKind<Adapters>> {
    vec![
        #[cfg(feature = "autoscaling")]
        &fence::KIND,
        #[cfg(all(feature = "rds", feature = "cloudwatch"))]
        &rds::KIND,
        #[cfg(feature = "autoscaling")]
        &autoscaling::KIND,
        #[cfg(feature = "route53")]
        &route53::KIND,
        #[cfg(all(feature = "s3", feature = "route53"))]
        &s3_switch::KIND,
        &webhook::KIND,
        #[cfg(feature = "sns")]
        &sns::KIND,
        &approval::KIND,
        &http_check::KIND,
        &command::KIND,
    ]
}

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static StepKind<Adapters>> {
    kinds().into_iter().find(|kind| kind.name == name)
}

/// Builds a step from what a plan stored.
///
/// # Errors
/// A kind that this build does not know, or what the kind says.
pub fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let kind = kind(&step.kind).ok_or_else(|| {
        StepError::new(
            ErrorClass::Refused,
            "unknown-kind",
            format!("step {}: this build does not know the kind {:?}", step.name, step.kind),
        )
    })?;
    (kind.build)(step, adapters)
}

/// Keys as a plan stored them, read back into a kind's own struct.
///
/// # Errors
/// Refused, `bad-keys`: they are not what this version of the kind writes.
pub fn stored<T: serde::de::DeserializeOwned>(step: &PlannedStep) -> Result<T, StepError> {
    serde_json::from_value(step.keys.clone()).map_err(|cause| {
        StepError::new(
            ErrorClass::Refused,
            "bad-keys",
            format!("step {}: its stored keys do not fit kind {}: {cause}", step.name, step.kind),
        )
    })
}
