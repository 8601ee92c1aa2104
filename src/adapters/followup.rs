//! Work after the critical path: asked for by a step that is done, bounded, and never able to delay or fail it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Follow-ups that run or wait at the same time; more are refused and say so.
const MAX_RUNNING: usize = 256;
/// Results kept for who asks later.
const MAX_KEPT: usize = 64;

/// How a follow-up ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// `INCIDENT/STEP` that asked for it.
    pub step_id: String,
    /// `multi-az of shop-replica`.
    pub what: String,
    /// What was reached.
    pub ok: bool,
    /// Words for a person.
    pub detail: String,
}

/// Runs follow-ups. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Followups {
    tracker: TaskTracker,
    cancel: CancellationToken,
    places: Arc<Semaphore>,
    ended: Arc<Mutex<VecDeque<Ended>>>,
    held: Holds,
}

type Holds = Arc<Mutex<HashMap<String, Arc<Hold>>>>;

/// One at a time tries, or calls off.
#[derive(Debug, Default)]
struct Hold {
    off: CancellationToken,
    turn: tokio::sync::Mutex<()>,
}

/// A follow-up's hold on the thing that it changes, until it is dropped. A later one on the same thing calls it off.
#[derive(Debug)]
pub struct Held {
    thing: String,
    hold: Arc<Hold>,
    all: Holds,
}

impl Held {
    /// One try; `None`: it was called off before.
    pub async fn attempt<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let _turn = self.hold.turn.lock().await;
        if self.hold.off.is_cancelled() { None } else { Some(work.await) }
    }

    /// A pause between two tries; it ends early if the follow-up is called off.
    pub async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = self.hold.off.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.thing).is_some_and(|hold| Arc::ptr_eq(hold, &self.hold)) {
            all.remove(&self.thing);
        }
    }
}

impl Followups {
    /// Follow-ups run under `tracker` and end with `cancel`.
    pub fn new(tracker: TaskTracker, cancel: CancellationToken) -> Followups {
        Followups { tracker, cancel, places: Arc::new(Semaphore::new(MAX_RUNNING)), ended: Arc::default(), held: Arc::default() }
    }

    /// Starts one and returns at once with a word for the step's facts.
    pub fn start<F>(&self, step_id: &str, what: &str, limit: Duration, work: F) -> &'static str
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.note(Ended {
                step_id: step_id.to_owned(),
                what: what.to_owned(),
                ok: false,
                detail: "too many follow-ups run already".to_owned(),
            });
            return "not started: too many follow-ups run already";
        };
        let (this, step_id, what) = (self.clone(), step_id.to_owned(), what.to_owned());
        self.tracker.spawn(async move {
            let result = tokio::select! {
                () = this.cancel.cancelled() => Err("the daemon stopped first".to_owned()),
                result = tokio::time::timeout(limit, work) => result.unwrap_or_else(|_| Err(format!("not done within {limit:?}"))),
            };
            drop(place);
            let (ok, detail) = result.map_or_else(|why| (false, why), |words| (true, words));
            this.note(Ended { step_id, what, ok, detail });
        });
        "started in the background"
    }

    /// Takes hold of a thing for a follow-up that changes it.
    pub fn hold(&self, thing: &str) -> Held {
        let hold = Arc::new(Hold::default());
        let old = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(thing.to_owned(), Arc::clone(&hold));
        if let Some(old) = old {
            old.off.cancel();
        }
        Held { thing: thing.to_owned(), hold, all: Arc::clone(&self.held) }
    }

    /// Whether a follow-up holds that thing.
    pub fn hold_on(&self, thing: &str) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains_key(thing)
    }

    /// Calls off the follow-up that holds that thing, and waits for the end of a try that is on its way: what it has asked
    /// for is then to be seen.
    pub async fn call_off(&self, thing: &str) {
        let Some(hold) = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(thing).cloned() else { return };
        hold.off.cancel();
        drop(hold.turn.lock().await);
    }

    /// The newest results, oldest first.
    pub fn ended(&self) -> Vec<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, ended: Ended) {
        if ended.ok {
            tracing::info!(step = ended.step_id, what = ended.what, detail = ended.detail, "follow-up done");
        } else {
            tracing::warn!(
                step = ended.step_id,
                what = ended.what,
                detail = ended.detail,
                "follow-up failed; the move itself is not affected"
            );
        }
        let mut kept = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back(ended);
    }
}
