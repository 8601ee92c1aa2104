//! The receivers of messages, as `check` asks for them.

use crate::adapters::{Adapters, notify};
use crate::config::Config;

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
