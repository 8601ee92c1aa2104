//! A new config under a running daemon: taken over whole, or refused whole.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::control::Message;
use super::daemon::{look_hook, policies};
use super::metrics::Metrics;
use super::post::Post;
use super::watch::{Lookers, Watchers};
use crate::adapters::{Adapters, Kinds, notify};
use crate::config::{self, Config};

/// Reads the config anew. A bad file keeps the old one, and says so in a metric.
pub(super) async fn reload(
    old: &Config,
    adapters: &Arc<Adapters>,
    to: &mpsc::Sender<Message>,
    watchers: &Watchers,
    metrics: &Arc<Metrics>,
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
            metrics.expect(&Kinds::permissions(&new));
            let (done, taken) = oneshot::channel();
            let message = Message::Reload(policies(&new), new.fleet.clone(), done);
            if to.send(message).await.is_err() || taken.await.is_err() {
                return Err("the decision loop is gone".to_owned());
            }
            // The decision knows every app by now, so that no first look is lost; it has also told the metrics.
            watchers.start(lookers, &look_hook(metrics, &new));
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
    check(old.daemon.observer == new.daemon.observer, "daemon.observer");
    let log = |config: &Config| (config.daemon.log.format, config.daemon.log.filter.clone());
    check(log(old) == log(new), "daemon.log");
    let dead_man = |config: &Config| config.daemon.dead_man.as_ref().map(|told| (told.url.clone(), told.every));
    check(dead_man(old) == dead_man(new), "daemon.dead_man");
    check(old.aws.endpoint_url == new.aws.endpoint_url, "aws.endpoint_url");
    check((old.aws.call_timeout, old.aws.attempts) == (new.aws.call_timeout, new.aws.attempts), "aws.call_timeout or aws.attempts");
    check(old.dns.resolvers == new.dns.resolvers && old.dns.authoritative == new.dns.authoritative, "dns");
    let account = |config: &Config| -> Vec<_> {
        config.accounts.iter().map(|(name, one)| (name.clone(), one.role_arn.clone(), one.external_id.clone())).collect()
    };
    check(account(old) == account(new), "account");
    if changed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} cannot change while running; restart the daemon (an open incident goes on)", changed.join(", ")))
    }
}
