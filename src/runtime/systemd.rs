//! What systemd is told. Outside systemd nobody listens, and nothing is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;

/// A decision loop later than this is not kept alive: systemd shall start it again.
const LATE: i64 = 5_000_000;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(states) {
        tracing::debug!(%cause, "systemd was not reached");
    }
}

/// Watching.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reading the config anew; `READY=1` follows. Debian 12's systemd wants the moment as well.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Leaving.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says how things are, and kicks the watchdog while the decision loop itself beats.
pub async fn keep(mut summary: watch::Receiver<String>, beat: Arc<AtomicI64>, clock: Clock, stop: CancellationToken) {
    let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(5), |limit| (limit / 3).max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = summary.changed() => {
                if changed.is_err() {
                    // The decision is gone, and ends the daemon; there is nothing left to say.
                    return stop.cancelled().await;
                }
                let words = summary.borrow_and_update().clone();
                tell(&[NotifyState::Status(&words)]);
            }
            () = tokio::time::sleep(every) => {}
        }
        if clock.now().mono - beat.load(Ordering::SeqCst) < LATE {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
