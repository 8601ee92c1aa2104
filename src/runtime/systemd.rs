//! What systemd is told. Outside systemd nobody listens, and nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
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
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let words: Vec<String> = states.iter().map(ToString::to_string).collect();
    if let Err(cause) = send(&place, &words.join("\n")) {
        tracing::debug!(%cause, "systemd was not reached");
    }
}

/// One datagram, without waiting: a manager that hangs, and lets its queue fill, must not hold up who watches. What is
/// lost then is said again soon, or is worth nothing to a manager that does not listen. (`sd_notify::notify` waits.)
fn send(place: &OsStr, words: &str) -> io::Result<()> {
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(words.as_bytes(), &address).map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_takes_nothing_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("notify");
        let manager = UnixDatagram::bind(&place).unwrap();
        send(place.as_os_str(), "READY=1").unwrap();
        let full = (0..100_000).find_map(|_| send(place.as_os_str(), "WATCHDOG=1").err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut heard = [0; 64];
        let count = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"READY=1");
    }

    #[test]
    fn an_abstract_name_is_reached() {
        let name = format!("watchover-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "READY=1\nSTATUS=well").unwrap();
        let mut heard = [0; 64];
        let count = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"READY=1\nSTATUS=well");
    }
}
