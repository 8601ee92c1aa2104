//! The post: messages to people, off the failover's path.
//!
//! Whoever decides hands a message over and goes on. Each receiver has a bounded queue and a task of its own, so that
//! one that is slow, gone or hanging delays nobody: neither a look nor a step, nor another receiver. What does not fit
//! is dropped and counted; what cannot be told after all attempts is given up, counted and logged.
//!
//! A message that waits when the process ends is lost. For what still waits for a person, a reminder follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::message::Fleet;
use super::metrics::Metrics;
use super::supervisor::Supervisor;
use crate::domain::ledger::Record;
use crate::domain::model::Moment;
use crate::domain::notice::{self, Notice, Notices};
use crate::ports::{Notifier, NotifyConfig, NotifyError, Receiver};

/// Messages that wait for a receiver at the most. An incident has a dozen; beyond it the receiver is of no use anyway.
const QUEUE: usize = 64;
/// How often one message is sent.
const ATTEMPTS: u32 = 5;
/// The pause after the first failed attempt; doubled after each.
const PAUSE: Duration = Duration::from_secs(1);

/// The post office of a daemon.
pub struct Post {
    supervisor: Supervisor,
    metrics: Arc<Metrics>,
    observer: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    notices: Notices,
    lines: Vec<Line>,
}

/// The way to one receiver.
struct Line {
    config: NotifyConfig,
    queue: mpsc::Sender<Notice>,
    shown: Arc<Mutex<Shown>>,
    stop: CancellationToken,
    /// By app: what it waits for, when that was last told, and how often.
    reminded: BTreeMap<String, (String, Moment, u32)>,
}

/// How a receiver does, for the status.
#[derive(Default)]
struct Shown {
    sent: u64,
    failed: u64,
    dropped: u64,
    last_error: Option<String>,
}

impl Post {
    /// Without receivers yet.
    pub fn new(supervisor: Supervisor, metrics: Arc<Metrics>, observer: String) -> Arc<Post> {
        Arc::new(Post { supervisor, metrics, observer, kept: Mutex::default() })
    }

    /// The receivers from now on. Those that stay as they are keep their queue and their counts.
    pub fn install(&self, receivers: Vec<Receiver>) {
        let mut kept = self.kept();
        let mut old = std::mem::take(&mut kept.lines);
        for (config, notifier) in receivers {
            let same = old.iter().position(|line| line.config == config);
            kept.lines.push(same.map_or_else(|| self.line(config, notifier), |at| old.swap_remove(at)));
        }
        old.iter().for_each(|line| line.stop.cancel());
        let names: Vec<&str> = kept.lines.iter().map(|line| line.config.name.as_str()).collect();
        self.metrics.expect_receivers(&names);
    }

    fn line(&self, config: NotifyConfig, notifier: Arc<dyn Notifier>) -> Line {
        let (queue, letters) = mpsc::channel(QUEUE);
        let shown: Arc<Mutex<Shown>> = Arc::default();
        let stop = self.supervisor.stop().child_token();
        let carrier = Carrier {
            name: config.name.clone(),
            timeout: config.timeout,
            notifier,
            shown: Arc::clone(&shown),
            metrics: Arc::clone(&self.metrics),
        };
        self.supervisor.vital(format!("notify {}", config.name), stop.clone(), carrier.run(letters, stop.clone()));
        Line { config, queue, shown, stop, reminded: BTreeMap::new() }
    }

    /// Tells what just became durable. Returns at once.
    pub fn written(&self, records: &[Record]) {
        let mut kept = self.kept();
        for record in records {
            if let Some(notice) = kept.notices.news(record) {
                self.tell(&mut kept.lines, &notice, record.at);
            }
        }
    }

    /// Tells of the journal, and reminds of what waits for a person. Returns at once.
    pub fn remind(&self, fleet: &Fleet, now: Moment) {
        let mut kept = self.kept();
        if let Some(notice) = kept.notices.journal(fleet.around.journal_fault.as_deref(), now) {
            self.tell(&mut kept.lines, &notice, now);
        }
        for (name, app) in &fleet.apps {
            let waiting = notice::waiting(name, app.ledger());
            for line in &mut kept.lines {
                if let Some(reminder) = line.due(name, waiting.as_ref(), now) {
                    self.post(line, reminder);
                }
            }
        }
    }

    fn tell(&self, lines: &mut [Line], notice: &Notice, now: Moment) {
        for line in lines.iter_mut().filter(|line| line.config.events.contains(&notice.event)) {
            if let (Some(app), true) = (&notice.app, notice.waits_for.is_some()) {
                // News is as good as a reminder: the next one is due after a whole pause.
                line.reminded.insert(app.clone(), (String::new(), now, 0));
            }
            self.post(line, notice.clone());
        }
    }

    fn post(&self, line: &Line, notice: Notice) {
        let notice = Notice { observer: self.observer.clone(), ..notice };
        if let Err(mpsc::error::TrySendError::Full(notice)) = line.queue.try_send(notice) {
            self.metrics.message_dropped(&line.config.name);
            let mut shown = lock(&line.shown);
            shown.dropped += 1;
            // Once for each receiver that is full: the metric counts the others.
            if shown.dropped == 1 || shown.dropped.is_multiple_of(100) {
                tracing::error!(
                    receiver = line.config.name,
                    dropped = shown.dropped,
                    "its queue is full, so it is not told: {}",
                    notice.subject()
                );
            }
        }
    }

    /// How each receiver does, for the status document.
    pub fn status(&self) -> Value {
        let one = |line: &Line| {
            let shown = lock(&line.shown);
            json!({
                "name": line.config.name, "kind": line.config.kind, "waiting": QUEUE - line.queue.capacity(),
                "sent": shown.sent, "failed": shown.failed, "dropped": shown.dropped, "last_error": shown.last_error,
            })
        };
        self.kept().lines.iter().map(one).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Held for lookups and `try_send` alone; never across a wait.
        lock(&self.kept)
    }
}

impl Line {
    /// The reminder that is due for an app, if one is.
    fn due(&mut self, app: &str, waiting: Option<&Notice>, now: Moment) -> Option<Notice> {
        let Some(waiting) = waiting else {
            self.reminded.remove(app);
            return None;
        };
        let every = self.config.remind_every.filter(|_| self.config.events.contains(&waiting.event))?;
        let (id, at, count) = self.reminded.entry(app.to_owned()).or_insert_with(|| (waiting.id.clone(), now, 0));
        if id.is_empty() {
            id.clone_from(&waiting.id);
        } else if *id != waiting.id {
            // It waits for something else; that was told as news, or will be reminded of in its time.
            (*id, *at, *count) = (waiting.id.clone(), now, 0);
        }
        if now.since(*at) < every {
            return None;
        }
        (*at, *count) = (now, *count + 1);
        Some(Notice { id: format!("{}/r{count}", waiting.id), reminder: *count, ..waiting.clone() })
    }
}

/// Carries the letters of one receiver, one after the other.
struct Carrier {
    name: String,
    timeout: Duration,
    notifier: Arc<dyn Notifier>,
    shown: Arc<Mutex<Shown>>,
    metrics: Arc<Metrics>,
}

impl Carrier {
    async fn run(self, mut letters: mpsc::Receiver<Notice>, stop: CancellationToken) {
        let work = async {
            while let Some(notice) = letters.recv().await {
                self.deliver(&notice).await;
            }
            // The line is gone from the post: nobody will write again.
            stop.cancelled().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        let left = letters.len();
        if left > 0 {
            tracing::warn!(receiver = self.name, left, "messages were not sent before the end");
        }
    }

    async fn deliver(&self, notice: &Notice) {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let sent = tokio::time::timeout(self.timeout, self.notifier.send(notice, self.timeout)).await;
            let error = match sent {
                Ok(Ok(())) => {
                    self.metrics.message(&self.name, "sent");
                    let mut shown = lock(&self.shown);
                    (shown.sent, shown.last_error) = (shown.sent + 1, None);
                    return;
                }
                Ok(Err(error)) => error,
                Err(_) => NotifyError::later(format!("no answer within {}", humantime::format_duration(self.timeout))),
            };
            lock(&self.shown).last_error = Some(error.words.clone());
            if !error.again || attempt >= ATTEMPTS {
                self.metrics.message(&self.name, "failed");
                lock(&self.shown).failed += 1;
                tracing::error!(receiver = self.name, attempt, "it could not be told of {:?}: {}", notice.subject(), error.words);
                return;
            }
            tracing::warn!(receiver = self.name, attempt, "it could not be told yet: {}", error.words);
            // The caller ends this wait with the receiver: it is dropped there.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

/// Counts and texts, changed by single statements: no holder leaves a half-done state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(feature = "daemon")]
mod tests;
