//! Tasks under names: what each one's death means, and who is waited for at the end.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns what the daemon consists of. A task that ends before it is told to takes the daemon with it: a watcher that
/// watches only half is worse than one that systemd starts again.
#[derive(Clone)]
pub struct Supervisor {
    tracker: TaskTracker,
    on: Handle,
    stop: CancellationToken,
}

impl Supervisor {
    /// Tasks run on `on` until `stop`.
    pub fn new(on: Handle, stop: CancellationToken) -> Supervisor {
        Supervisor { tracker: TaskTracker::new(), on, stop }
    }

    /// The token that ends everything.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Where loose jobs are counted.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// A task that must live as long as `until`.
    pub fn vital(&self, name: String, until: CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        let all = self.stop.clone();
        let watched = async move {
            // A panic unwinds through here: the guard sees it and ends the daemon.
            let guard = Ends { name, all, until };
            task.await;
            drop(guard);
        };
        self.tracker.spawn_on(watched, &self.on);
    }

    /// Waits for what still runs, at most that long; says whether all had ended.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

struct Ends {
    name: String,
    all: CancellationToken,
    until: CancellationToken,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.until.is_cancelled() && !self.all.is_cancelled() {
            tracing::error!(task = self.name, "a part of the daemon ended by itself; it stops, to be started again whole");
            self.all.cancel();
        }
    }
}
