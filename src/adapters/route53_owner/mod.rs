//! Route 53's one owner: every call to Route 53 goes through here.
//!
//! The service takes five calls a second from the whole account and one change at a time per zone, so a hundred apps
//! that move at once must share: changes and reads of one zone that come within [`WINDOW`] become one call.

pub mod batch;
mod pace;
pub mod record;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ChangeStatus, RrType};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pace::Pace;
pub use self::record::{Alias, Pick, Record, RecordValue, canonical};
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
/// Tries of a change whose answer was lost. Repeating an UPSERT changes nothing more.
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
    records: Vec<Record>,
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
        let shared = Arc::new(Shared { aws, pace: Pace::default(), changes: Mutex::default() });
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
        self.shared.named(zone, name, 100).await
    }

    /// UPSERTs the records together and returns the change's id once Route 53 has accepted it; [`Owner::synced`] says
    /// when it is everywhere. Throttling and lost answers are tried again for as long as `within`.
    ///
    /// Errors: [`Failure`] of `ChangeResourceRecordSets`. `InvalidChangeBatch` is this request's own fault: a batch
    /// refused because of another's is split until the culprit stands alone.
    pub async fn change(&self, zone: &Zone, records: Vec<Record>, within: Duration) -> Result<String, Failure> {
        if !batch::fits(&records) {
            let why = format!("one step may change up to {} values of {} characters together; split the step", batch::MAX_UPSERTS, batch::MAX_CHARACTERS);
            return Err(Failure::before(&change_op(zone, &records), Kind::Rejected, "batch-too-large", &why));
        }
        let (reply, answer) = oneshot::channel();
        self.ask(zone, Job::Change(ChangeJob { records, until: Instant::now() + within, reply }), answer).await
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
        self.shared.pace.turn(zone.account.as_deref()).await;
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
                    let count = batch::first_batch(lane.pending.iter().map(|job| job.records.as_slice()));
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

impl Shared {
    /// Reads for all, sharing pages: records that stand together come together.
    async fn read_all(&self, zone: &Zone, jobs: Vec<ReadJob>) {
        let mut open: Vec<Pick> = jobs.iter().flat_map(|job| job.picks.iter().map(Pick::canonical)).collect();
        open.sort();
        open.dedup();
        let mut known: HashMap<Pick, Found> = HashMap::new();
        let mut failed = None;
        while let Some(first) = open.first().cloned() {
            match self.page(zone, &first, if open.len() > 1 { 300 } else { 10 }).await {
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
                Ok(page) => {
                    for record in page {
                        let pick = record.pick();
                        if let Some(at) = open.iter().position(|one| *one == pick) {
                            known.insert(open.remove(at), Found::Record(Box::new(record)));
                        }
                    }
                }
            }
            // The page began where the record would stand: it is not there. Say what is.
            if open.first() == Some(&first) {
                open.remove(0);
                match self.named(zone, &first.name, 100).await {
                    Ok(there) => match there.iter().find(|record| record.pick() == first) {
                        Some(record) => known.insert(first, Found::Record(Box::new(record.clone()))),
                        None => known.insert(first, Found::Missing(there.iter().map(Record::pick).collect())),
                    },
                    Err(failure) => {
                        failed = Some(failure);
                        break;
                    }
                };
            }
        }
        for job in jobs {
            let found: Option<Vec<Found>> = job.picks.iter().map(|pick| known.get(&pick.canonical()).cloned()).collect();
            let result = match (found, &failed) {
                (Some(found), _) => Ok(found),
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Err(Failure::before(&zone_op(zone), Kind::Malformed, "malformed-answer", "the records did not come back")),
            };
            answer(job.reply, result);
        }
    }

    /// One page of records from `from` on.
    async fn page(&self, zone: &Zone, from: &Pick, most: i32) -> Result<Vec<Record>, Failure> {
        let op = Op::new("route53", "ListResourceRecordSets", "route53:ListResourceRecordSets", HOME, format!("record {from} of zone {}", zone.id));
        let client = self.aws.route53(zone.account.as_deref(), &zone.region, Purpose::Look).await?;
        self.pace.turn(zone.account.as_deref()).await;
        let call = client.list_resource_record_sets().hosted_zone_id(&zone.id).start_record_name(&from.name);
        let kind = (!from.kind.is_empty()).then(|| RrType::from(from.kind.as_str()));
        let call = call.set_start_record_type(kind).set_start_record_identifier(from.set_identifier.clone()).max_items(most);
        let answer = self.aws.call(&op, call.send()).await?;
        Ok(answer.resource_record_sets().iter().map(Record::read).collect())
    }

    /// Every record of one name: pages until the name ends.
    async fn named(&self, zone: &Zone, name: &str, most: i32) -> Result<Vec<Record>, Failure> {
        let name = canonical(name);
        let mut from = Pick { name: name.clone(), kind: String::new(), set_identifier: None };
        let mut found: Vec<Record> = Vec::new();
        loop {
            let page = self.page(zone, &from, most).await?;
            let full = page.len() >= usize::try_from(most).unwrap_or(usize::MAX);
            let ours: Vec<Record> = page.into_iter().filter(|record| canonical(&record.name) == name).collect();
            let more = full && ours.len() >= usize::try_from(most).unwrap_or(usize::MAX);
            let before = found.len();
            for record in ours {
                if !found.iter().any(|one| one.pick() == record.pick()) {
                    found.push(record);
                }
            }
            // The next page begins with the last record of this one: no need to trust a marker. No news: the end.
            match found.last() {
                Some(last) if more && found.len() > before => from = last.pick(),
                _ => return Ok(found),
            }
        }
    }

    /// Sends a batch; one that is refused for a member is split until the culprit stands alone.
    async fn change_all(&self, zone: &Zone, jobs: Vec<ChangeJob>) {
        let mut open = vec![jobs];
        while let Some(mut jobs) = open.pop() {
            match self.submit(zone, &jobs).await {
                Err(failure) if failure.code == "InvalidChangeBatch" && jobs.len() > 1 => {
                    let second = jobs.split_off(jobs.len() / 2);
                    open.push(second);
                    open.push(jobs);
                }
                result => {
                    for job in jobs {
                        answer(job.reply, result.clone());
                    }
                }
            }
        }
    }

    /// One batch, as a whole, until it is answered for good or the last deadline passes.
    async fn submit(&self, zone: &Zone, jobs: &[ChangeJob]) -> Result<String, Failure> {
        let records: Vec<Record> = jobs.iter().flat_map(|job| job.records.iter().cloned()).collect();
        let op = change_op(zone, &records);
        let bad = |cause: &dyn std::error::Error| Failure::before(&op, Kind::Rejected, "bad-request", &crate::ports::chain(cause));
        let mut changes = Vec::with_capacity(records.len());
        for record in &records {
            let set = record.written().map_err(|cause| bad(&cause))?;
            changes.push(Change::builder().action(ChangeAction::Upsert).resource_record_set(set).build().map_err(|cause| bad(&cause))?);
        }
        let batch = ChangeBatch::builder().comment("watchover").set_changes(Some(changes)).build().map_err(|cause| bad(&cause))?;
        let until = jobs.iter().map(|job| job.until).max().unwrap_or_else(Instant::now);
        let (mut lost, mut pause) = (0, FIRST_PAUSE);
        loop {
            let client = self.aws.route53(zone.account.as_deref(), &zone.region, Purpose::Once).await?;
            self.pace.turn(zone.account.as_deref()).await;
            let call = client.change_resource_record_sets().hosted_zone_id(&zone.id).change_batch(batch.clone());
            let mut said = String::new();
            let sent = async {
                let result = call.send().await;
                // Why a batch is refused stands in a list of its own, which the error's message may lack.
                if let Some(messages) = result.as_ref().err().and_then(|e| e.as_service_error()).and_then(invalid_batch) {
                    said = messages.join("; ");
                }
                result
            };
            let mut failure = match self.aws.call(&op, sent).await {
                Ok(answer) => {
                    let id = answer.change_info().map(|info| info.id().trim_start_matches("/change/").to_owned());
                    return id.ok_or_else(|| Failure::before(&op, Kind::Malformed, "malformed-answer", "accepted without a change id"));
                }
                Err(failure) => failure,
            };
            if !said.is_empty() && !failure.message.contains(&said) {
                failure.message = format!("{}: {said}", failure.message);
            }
            let again = match failure.kind {
                Kind::Throttled => true,
                Kind::Timeout | Kind::NoAnswer | Kind::Server | Kind::Malformed => {
                    lost += 1;
                    lost < LOST_TRIES
                }
                Kind::NoCredentials | Kind::AccessDenied | Kind::Rejected => false,
            };
            if !again || Instant::now() + pause >= until {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn progress(&self, change: &str) -> Arc<tokio::sync::Mutex<Progress>> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, progress)) = changes.iter().find(|(id, _)| id == change) {
            return Arc::clone(progress);
        }
        if changes.len() >= MAX_CHANGES {
            changes.pop_front();
        }
        let progress = Arc::new(tokio::sync::Mutex::new(Progress { synced: false, next: Instant::now(), pause: FIRST_PAUSE }));
        changes.push_back((change.to_owned(), Arc::clone(&progress)));
        progress
    }
}

fn invalid_batch(error: &aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError) -> Option<&[String]> {
    use aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError as E;
    match error {
        E::InvalidChangeBatch(invalid) => Some(invalid.messages()),
        _ => None,
    }
}

fn zone_op(zone: &Zone) -> Op {
    Op::new("route53", "any call", "route53:ListResourceRecordSets", HOME, format!("zone {}", zone.id))
}

fn change_op(zone: &Zone, records: &[Record]) -> Op {
    let first = records.first().map_or_else(|| "nothing".to_owned(), |record| record.pick().to_string());
    let more = if records.len() > 1 { format!(" and {} more", records.len() - 1) } else { String::new() };
    Op::new("route53", "ChangeResourceRecordSets", "route53:ChangeResourceRecordSets", HOME, format!("{first}{more} in zone {}", zone.id))
}
