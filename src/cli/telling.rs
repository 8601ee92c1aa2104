//! The receivers of messages, as `check` and `iam-policy` ask for them.

use std::collections::BTreeSet;

use crate::adapters::{Adapters, notify};
use crate::config::{Config, NotifyConfig};
use crate::ports::Permission;

/// Whether each receiver could be told, without telling it: subject, whether it is well, words.
pub(super) async fn findings(config: &Config, adapters: &Adapters) -> Vec<(String, bool, String)> {
    let built = match notify::build(&config.notify, adapters) {
        Ok(built) => built,
        Err(faults) => return faults.into_iter().map(|words| ("notify".to_owned(), false, words)).collect(),
    };
    let mut findings = Vec::new();
    for (receiver, notifier) in built {
        let (ok, words) = match tokio::time::timeout(receiver.timeout, notifier.check()).await {
            Ok(Ok(words)) => (true, words),
            Ok(Err(words)) => (false, words),
            Err(_) => (false, "no answer in time".to_owned()),
        };
        findings.push((format!("notify.{}", receiver.name), ok, words));
    }
    findings
}

/// What the receivers need to be allowed.
pub(super) fn permissions(config: &Config) -> BTreeSet<Permission> {
    let of = |receiver: &NotifyConfig| notify::kind(&receiver.kind).map(|kind| (kind.permissions)(receiver)).unwrap_or_default();
    config.notify.iter().flat_map(of).collect()
}
