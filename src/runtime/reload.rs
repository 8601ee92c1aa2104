//! A new config under a running daemon: taken over whole, or refused whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::control::Message;
use super::daemon::policies;
use super::metrics::Metrics;
use super::post::Post;
use super::probing::Beat;
use super::watch::{Lookers, Watchers};
use crate::adapters::{Adapters, Kinds, notify};
use crate::config::{self, Config};
use crate::domain::model::AppName;

/// Reads the config anew. A bad file keeps the old one, and says so in a metric.
#[expect(clippy::too_many_arguments, reason = "all that a new config changes; the wiring names each once")]
pub(super) async fn reload(
    old: &Config,
    adapters: &Arc<Adapters>,
    to: &mpsc::Sender<Message>,
    watchers: &mut Watchers,
    ears: &mut BTreeMap<AppName, watch::Receiver<Beat>>,
    witness: &watch::Receiver<Beat>,
    metrics: &Metrics,
    post: &Post,
) -> Result<Config, String> {
    super::systemd::reloading();
    let path = old.path.clone();
    let read = tokio::task::spawn_blocking(move || config::load(&path, &Kinds).map_err(|errors| errors.to_string()))
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
    let judged = read.and_then(|new| {
        fixed_parts(old, &new)?;
        let lookers = Lookers::build(&new, adapters).map_err(|faults| faults.join("; "))?;
        let receivers = notify::build(&new.notify, adapters).map_err(|faults| faults.join("; "))?;
        Ok((new, lookers, receivers))
    });
    let now = jiff::Timestamp::now().as_microsecond() as f64 / 1e6;
    let result = match judged {
        Ok((new, lookers, receivers)) => {
            let policies = policies(&new);
            metrics.install(&policies);
            let (done, taken) = oneshot::channel();
            let message = Message::Reload(policies, new.fleet.clone(), done);
            if to.send(message).await.is_err() || taken.await.is_err() {
                return Err("the decision loop is gone".to_owned());
            }
            for app in &new.apps {
                // New apps look at a calm pace; their beats come with the next start.
                ears.entry(app.policy.name.clone()).or_insert_with(|| watch::Sender::<Beat>::default().subscribe());
            }
            watchers.start(lookers, ears, witness);
            post.install(receivers);
            tracing::info!("the new config is in force");
            Ok(new)
        }
        Err(words) => {
            if to.send(Message::ReloadRefused(words.clone())).await.is_err() {
                tracing::debug!("the decision loop is gone");
            }
            Err(words)
        }
    };
    metrics.reloaded(result.is_ok(), now);
    super::systemd::ready();
    result
}

/// What a running daemon cannot change is refused rather than half done.
fn fixed_parts(old: &Config, new: &Config) -> Result<(), String> {
    let mut changed = Vec::new();
    let mut check = |same: bool, what: &str| {
        if !same {
            changed.push(what.to_owned());
        }
    };
    check(old.daemon.listen == new.daemon.listen, "daemon.listen");
    check(old.daemon.admin_socket == new.daemon.admin_socket, "daemon.admin_socket");
    check(old.daemon.state_dir == new.daemon.state_dir, "daemon.state_dir");
    check(old.aws.endpoint_url == new.aws.endpoint_url, "aws.endpoint_url");
    check(old.dns.resolvers == new.dns.resolvers && old.dns.authoritative == new.dns.authoritative, "dns");
    check(old.accounts.keys().eq(new.accounts.keys()), "account");
    let names = |config: &Config| config.apps.iter().map(|app| app.policy.name.to_string()).collect::<std::collections::BTreeSet<_>>();
    check(names(new).is_subset(&names(old)), "app (a new app)");
    if changed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} cannot change while running; restart the daemon (an open incident goes on)", changed.join(", ")))
    }
}
