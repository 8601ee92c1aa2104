//! Receivers of messages: one file a way, one line a kind in [`kinds`].
//!
//! A receiver is told off the failover's path and may be slow, gone or full: nothing waits for it.

mod command;
#[cfg(feature = "sns")]
mod sns;
mod webhook;

use super::Adapters;
use super::registry::NotifyKind;
use crate::config::NotifyConfig;

/// Every kind of receiver, in the order of the reference.
pub fn kinds() -> Vec<&'static NotifyKind<Adapters>> {
    vec![
        &webhook::WEBHOOK,
        &webhook::SLACK,
        #[cfg(feature = "sns")]
        &sns::KIND,
        &command::KIND,
    ]
}

/// The kind of that name.
pub fn kind(name: &str) -> Option<&'static NotifyKind<Adapters>> {
    kinds().into_iter().find(|kind| kind.name == name)
}

pub use crate::ports::Receiver;

/// Builds the receivers of a config.
///
/// # Errors
/// Everything that cannot be built, each with its receiver.
pub fn build(receivers: &[NotifyConfig], adapters: &Adapters) -> Result<Vec<Receiver>, Vec<String>> {
    let (mut built, mut faults) = (Vec::new(), Vec::new());
    for receiver in receivers {
        let known = kind(&receiver.kind).ok_or_else(|| format!("this build does not know the kind {:?}", receiver.kind));
        match known.and_then(|kind| (kind.build)(receiver, adapters)) {
            Ok(notifier) => built.push((receiver.clone(), notifier)),
            Err(fault) => faults.push(format!("notify.{}: {fault}", receiver.name)),
        }
    }
    if faults.is_empty() { Ok(built) } else { Err(faults) }
}

/// Keys as the judge left them, read back into a kind's own struct.
fn kept<T: serde::de::DeserializeOwned>(receiver: &NotifyConfig) -> Result<T, String> {
    serde_json::from_value(receiver.keys.clone()).map_err(|cause| format!("its keys do not fit kind {}: {cause}", receiver.kind))
}
