//! Route 53's one owner: every call to Route 53 goes through here.
//!
//! The service takes five calls a second from the whole account and one change at a time per zone, so a hundred apps
//! that move at once must share: changes and reads of one zone that come within [`WINDOW`] become one call.

pub mod autonomy;
pub mod batch;
pub mod by_hand;
mod calls;
pub mod edit;
mod pace;
pub mod record;
mod survey;
mod switch;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_route53::types::{Change, ChangeBatch, ChangeStatus, RrType};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::autonomy::Switch;
use self::calls::{change_op, zone_op};
pub use self::edit::Edit;
use self::pace::{For, Pace};
pub use self::record::{Alias, Pick, Record, RecordValue, canonical};
pub use self::survey::Survey;
use super::aws::{Aws, Failure, Kind, Op, Purpose};

/// How long the first request of an idle zone waits for company. A lone move pays it for each of its reads and
/// changes, so it stays far below what a person or a budget notices.
const WINDOW: Duration = Duration::from_millis(20);
/// Requests that wait for the owner, and per zone; more are refused as throttled.
const MAX_WAITING: usize = 1_024;
/// Pause after a throttled call; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two tries, and between two questions whether a change is everywhere.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Tries of a change whose answer was lost. Repeating an UPSERT changes nothing more, and a DELETE of what is gone is refused,
/// which its asker meets by reading anew.
const LOST_TRIES: u32 = 3;
/// Changes whose progress is remembered.
const MAX_CHANGES: usize = 512;
/// Where the control plane is, for errors and metrics.
const HOME: &str = "us-east-1";

/// A hosted zone and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Account name of the config; `None`: our own.
    pub account: Option<String>,
    /// A region whose STS gives the credentials: the one that the move goes to. Route 53 itself has none; the SDK
    /// signs for the partition's home by itself.
    pub region: String,
    /// `Z…`.
    pub id: String,
}

impl Zone {
    fn key(&self) -> Key {
        (self.account.clone(), self.id.clone())
    }
}

/// What a read found for one [`Pick`].
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The record.
    Record(Box<Record>),
    /// No such record; the records of that name that there are.
    Missing(Vec<Pick>),
}

type Key = (Option<String>, String);

struct ReadJob {
    picks: Vec<Pick>,
    reply: oneshot::Sender<Result<Vec<Found>, Failure>>,
}

struct ChangeJob {
    edits: Vec<Edit>,
    until: Instant,
    reply: oneshot::Sender<Result<String, Failure>>,
}

enum Job {
    Read(ReadJob),
    Change(ChangeJob),
}

/// Requests of one sort for one zone: at most one call of the sort is in flight.
struct Lane<J> {
    zone: Zone,
    pending: VecDeque<J>,
    busy: bool,
}

/// How far a change has come.
#[derive(Debug)]
struct Progress {
    synced: bool,
    next: Instant,
    pause: Duration,
}

/// Changes by their ids, oldest first.
type Changes = VecDeque<(String, Arc<tokio::sync::Mutex<Progress>>)>;

struct Shared {
    aws: Aws,
    pace: Pace,
    changes: Mutex<Changes>,
    last_page: tokio::sync::Mutex<survey::LastPage>,
    checks: survey::KeptChecks,
}

/// The handle to the owner. Cheap to clone.
#[derive(Clone)]
pub struct Owner {
    shared: Arc<Shared>,
    inbox: mpsc::Sender<(Zone, Job)>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Owner")
    }
}

impl Owner {
    /// Starts the owner's task under `tracker`; it ends with `stop`, or when the last handle is gone. What waits then
    /// is answered with a failure. One per process, else the account's pace is not kept.
    pub fn new(aws: Aws, tracker: &TaskTracker, stop: CancellationToken) -> Owner {
        let (inbox, jobs) = mpsc::channel(MAX_WAITING);
        let shared = Shared {
            aws,
            pace: Pace::default(),
            changes: Mutex::default(),
            last_page: tokio::sync::Mutex::default(),
            checks: survey::KeptChecks::default(),
        };
        let shared = Arc::new(shared);
        let serving = serve(Arc::clone(&shared), jobs);
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serving => {}
            }
        });
        Owner { shared, inbox }
    }

    /// Reads the records, in the order asked for. Errors: [`Failure`] of `ListResourceRecordSets`.
    pub async fn read(&self, zone: &Zone, picks: Vec<Pick>) -> Result<Vec<Found>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.ask(zone, Job::Read(ReadJob { picks, reply }), answer).await
    }

    /// Reads every record of one name, all types.
    pub async fn named(&self, zone: &Zone, name: &str) -> Result<Vec<Record>, Failure> {
        self.shared.named(zone, name, 100, For::Move).await
    }

    /// Changes the records together and returns the change's id once Route 53 has accepted it; [`Owner::synced`] says
    /// when it is everywhere. Throttling and lost answers are tried again for as long as `within`.
    ///
    /// Errors: [`Failure`] of `ChangeResourceRecordSets`; [`edit::failed`] says what it means for a step.
    /// `InvalidChangeBatch` is this request's own fault: a batch refused because of another's is split until the culprit
    /// stands alone.
    pub async fn change(&self, zone: &Zone, edits: Vec<Edit>, within: Duration) -> Result<String, Failure> {
        if !batch::fits(&edits) {
            let why = format!(
                "one step may change up to {} values of {} characters together; split the step",
                batch::MAX_UPSERTS,
                batch::MAX_CHARACTERS
            );
            return Err(Failure::before(&change_op(zone, &edits), Kind::Rejected, "batch-too-large", &why));
        }
        let (reply, answer) = oneshot::channel();
        self.ask(zone, Job::Change(ChangeJob { edits, until: Instant::now() + within, reply }), answer).await
    }

    /// True once the change is on all of Route 53's servers (`INSYNC`). Ask as often as you like: the owner asks
    /// Route 53 at growing intervals, once for all who wait for the same change.
    ///
    /// Errors: `NoSuchChange` when the change was lost (accelerated recovery strands those in flight): ask for it again.
    pub async fn synced(&self, zone: &Zone, change: &str) -> Result<bool, Failure> {
        let progress = self.shared.progress(change);
        let mut progress = progress.lock().await;
        if progress.synced || Instant::now() < progress.next {
            return Ok(progress.synced);
        }
        let op = Op::new("route53", "GetChange", "route53:GetChange", HOME, format!("change {change}"));
        let client = self.shared.aws.route53(zone.account.as_deref(), &zone.region, Purpose::Look).await?;
        self.shared.pace.turn(zone.account.as_deref(), For::Move).await;
        let answer = self.shared.aws.call(&op, client.get_change().id(change).send()).await;
        progress.next = Instant::now() + progress.pause;
        progress.pause = (progress.pause * 2).min(LAST_PAUSE);
        progress.synced = answer?.change_info().is_some_and(|info| *info.status() == ChangeStatus::Insync);
        Ok(progress.synced)
    }

    async fn ask<T>(&self, zone: &Zone, job: Job, answer: oneshot::Receiver<Result<T, Failure>>) -> Result<T, Failure> {
        let gone = || Failure::before(&zone_op(zone), Kind::NoAnswer, "stopping", "the daemon is stopping");
        self.inbox.send((zone.clone(), job)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The owner's task: sorts requests into lanes, and runs one call per lane.
async fn serve(shared: Arc<Shared>, mut jobs: mpsc::Receiver<(Zone, Job)>) {
    let mut reads: HashMap<Key, Lane<ReadJob>> = HashMap::new();
    let mut changes: HashMap<Key, Lane<ChangeJob>> = HashMap::new();
    // Finished windows and calls: which lane, and whether it is one of changes.
    let mut running: FuturesUnordered<BoxFuture<'static, (Key, bool)>> = FuturesUnordered::new();
    let window = |key: Key, change: bool| -> BoxFuture<'static, (Key, bool)> {
        Box::pin(async move {
            tokio::time::sleep(WINDOW).await;
            (key, change)
        })
    };
    loop {
        tokio::select! {
            job = jobs.recv() => {
                let Some((zone, job)) = job else { return };
                let key = zone.key();
                match job {
                    Job::Read(job) => if let Err(job) = enter(&mut reads, zone, job, || running.push(window(key, false))) {
                        refuse(job.1.reply, &job.0);
                    },
                    Job::Change(job) => if let Err(job) = enter(&mut changes, zone, job, || running.push(window(key, true))) {
                        refuse(job.1.reply, &job.0);
                    },
                }
            }
            Some((key, change)) = running.next() => {
                let shared = Arc::clone(&shared);
                if change {
                    let Some(lane) = changes.get_mut(&key) else { continue };
                    lane.pending.retain(|job| !job.reply.is_closed());
                    let count = batch::first_batch(lane.pending.iter().map(|job| job.edits.as_slice()));
                    let work: Vec<ChangeJob> = lane.pending.drain(..count).collect();
                    if work.is_empty() {
                        changes.remove(&key);
                        continue;
                    }
                    let zone = lane.zone.clone();
                    running.push(Box::pin(async move {
                        shared.change_all(&zone, work).await;
                        (key, true)
                    }));
                } else {
                    let Some(lane) = reads.get_mut(&key) else { continue };
                    let work: Vec<ReadJob> = lane.pending.drain(..).filter(|job| !job.reply.is_closed()).collect();
                    if work.is_empty() {
                        reads.remove(&key);
                        continue;
                    }
                    let zone = lane.zone.clone();
                    running.push(Box::pin(async move {
                        shared.read_all(&zone, work).await;
                        (key, false)
                    }));
                }
            }
        }
    }
}

/// Puts a request into its zone's lane, and opens the window if the lane was idle.
fn enter<J>(lanes: &mut HashMap<Key, Lane<J>>, zone: Zone, job: J, open: impl FnOnce()) -> Result<(), (Zone, J)> {
    let lane = lanes.entry(zone.key()).or_insert_with(|| Lane { zone: zone.clone(), pending: VecDeque::new(), busy: false });
    if lane.pending.len() >= MAX_WAITING {
        return Err((zone, job));
    }
    lane.pending.push_back(job);
    if !lane.busy {
        lane.busy = true;
        open();
    }
    Ok(())
}

fn refuse<T>(reply: oneshot::Sender<Result<T, Failure>>, zone: &Zone) {
    answer(reply, Err(Failure::before(&zone_op(zone), Kind::Throttled, "owner-full", "too many requests wait for this zone")));
}

/// Who asked may have gone: their deadline passed, and nobody is left to tell.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::debug!("an answer of Route 53 came after its asker's deadline");
    }
}
