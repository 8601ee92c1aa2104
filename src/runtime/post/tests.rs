use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::domain::decide::App;
use crate::domain::fixtures::at;
use crate::domain::gates::Around;
use crate::domain::ledger::{Entry, Ledger};
use crate::domain::model::{Direction, Trigger};
use crate::domain::notice::Event;

/// What a receiver does with what it is told.
enum Receiver {
    Takes,
    Hangs,
    /// Refuses that often, and takes the next.
    Fails(u32, bool),
}

struct Fake {
    receiver: Receiver,
    told: Mutex<Vec<Notice>>,
    asked: Mutex<u32>,
}

impl Fake {
    fn new(receiver: Receiver) -> Arc<Fake> {
        Arc::new(Fake { receiver, told: Mutex::default(), asked: Mutex::default() })
    }

    fn told(&self) -> Vec<Notice> {
        lock(&self.told).clone()
    }
}

#[async_trait]
impl Notifier for Fake {
    async fn send(&self, notice: &Notice, _: Duration) -> Result<(), NotifyError> {
        *lock(&self.asked) += 1;
        match self.receiver {
            Receiver::Hangs => std::future::pending().await,
            Receiver::Fails(times, again) if *lock(&self.asked) <= times => Err(NotifyError { again, words: "refused".into() }),
            Receiver::Takes | Receiver::Fails(..) => {
                lock(&self.told).push(notice.clone());
                Ok(())
            }
        }
    }

    async fn check(&self) -> Result<String, String> {
        Ok(String::new())
    }
}

fn config(name: &str) -> NotifyConfig {
    NotifyConfig {
        name: name.into(),
        kind: "fake".into(),
        events: Event::usual().into_iter().collect(),
        remind_every: Some(Duration::from_secs(600)),
        timeout: Duration::from_secs(10),
        account: None,
        keys: Value::Null,
    }
}

fn post() -> (Arc<Post>, Arc<Metrics>, CancellationToken) {
    let stop = CancellationToken::new();
    let metrics = Arc::new(Metrics::new("test"));
    (Post::new(Supervisor::new(Handle::current(), stop.clone()), Arc::clone(&metrics), "bastion".into()), metrics, stop)
}

fn record(seconds: i64, incident: &str, entry: Entry) -> Record {
    Record {
        seq: seconds,
        at: at(seconds),
        boot_id: "boot".into(),
        app: Some("shop".into()),
        incident: Some(incident.into()),
        epoch: 1,
        entry,
    }
}

fn stuck(incident: &str) -> Record {
    record(1, incident, Entry::Stuck { words: "step promote failed".into(), waits_for: "`watchover retry`".into() })
}

fn series(metrics: &Metrics, line: &str) -> Option<String> {
    metrics.render().lines().find_map(|one| one.strip_prefix(&format!("watchover_{line} ")).map(str::to_owned))
}

/// A34: a receiver that hangs takes nobody's time, neither the teller's nor another receiver's nor a look's.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_delays_nobody() {
    let (post, metrics, stop) = post();
    let (hangs, takes) = (Fake::new(Receiver::Hangs), Fake::new(Receiver::Takes));
    post.install(vec![(config("hangs"), hangs), (config("takes"), Arc::clone(&takes) as Arc<dyn Notifier>)]);
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    let (start, began) = (Instant::now(), std::time::Instant::now());
    let mut late = Duration::ZERO;
    for number in 0..200_u32 {
        // Telling does not await: whoever decides could not be held up if they wanted.
        post.written(&[stuck(&format!("shop-{number}"))]);
        let due = looks.tick().await;
        late = late.max(due.elapsed());
    }
    assert!(late < Duration::from_millis(5) && began.elapsed() < Duration::from_secs(20), "{late:?} {:?}", began.elapsed());
    assert_eq!(takes.told().len(), 200, "the other receiver has everything, in order");
    assert_eq!(takes.told()[7].incident.as_deref(), Some("shop-7"));
    // The first is given up after five attempts of ten seconds and their pauses; the rest is bounded by the queue.
    assert!(start.elapsed() < Duration::from_secs(55));
    let dropped: usize = series(&metrics, "messages_dropped_total{receiver=\"hangs\"}").unwrap().parse().unwrap();
    assert_eq!(dropped, 200 - QUEUE - 1, "what does not fit is counted");
    assert_eq!(post.status()[0]["dropped"], dropped);
    assert_eq!(series(&metrics, "messages_total{outcome=\"sent\",receiver=\"takes\"}").as_deref(), Some("200"));
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(series(&metrics, "messages_total{outcome=\"failed\",receiver=\"hangs\"}").as_deref(), Some("1"));
    assert!(post.status()[0]["last_error"].as_str().unwrap().contains("no answer within 10s"));
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_is_final_is_not() {
    let (post, metrics, stop) = post();
    let (passes, final_) = (Fake::new(Receiver::Fails(3, true)), Fake::new(Receiver::Fails(1, false)));
    post.install(vec![
        (config("passes"), Arc::clone(&passes) as Arc<dyn Notifier>),
        (config("final"), Arc::clone(&final_) as Arc<dyn Notifier>),
    ]);
    assert_eq!(series(&metrics, "messages_total{outcome=\"failed\",receiver=\"final\"}").as_deref(), Some("0"), "present from the start");
    assert_eq!(series(&metrics, "messages_dropped_total{receiver=\"final\"}").as_deref(), Some("0"));
    post.written(&[stuck("shop-1")]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((passes.told().len(), *lock(&passes.asked)), (1, 4));
    assert_eq!((final_.told().len(), *lock(&final_.asked)), (0, 1));
    assert_eq!(passes.told()[0].observer, "bastion");
    let status = post.status();
    assert_eq!((&status[0]["last_error"], &status[1]["last_error"]), (&Value::Null, &json!("refused")));
    assert_eq!(series(&metrics, "messages_total{outcome=\"failed\",receiver=\"final\"}").as_deref(), Some("1"));
    stop.cancel();
}

/// A fleet whose app is stuck.
fn fleet(journal_fault: Option<&str>, waits: bool) -> Fleet {
    let mut ledger = Ledger::default();
    if waits {
        ledger
            .apply(&record(
                1,
                "shop-1",
                Entry::Opened { trigger: Trigger::Outage, direction: Direction::ToStandby, first_failed: None, words: String::new() },
            ))
            .unwrap();
        let plan = crate::domain::plan::Plan { direction: Direction::ToStandby, steps: Vec::new() };
        ledger.apply(&record(2, "shop-1", Entry::Planned { plan })).unwrap();
        ledger.apply(&stuck("shop-1")).unwrap();
    }
    let config = crate::config::judge_text(
        std::path::Path::new("config.toml"),
        include_str!("../../../config.toml"),
        Vec::new(),
        &crate::adapters::Kinds,
    )
    .unwrap();
    let policy = Arc::new(config.apps[0].policy.clone());
    let around = Around {
        started: at(0),
        awake: at(0),
        witnesses: Vec::new(),
        need_up: 1,
        moving: Vec::new(),
        max_groups: 1,
        ahead: None,
        journal_fault: journal_fault.map(str::to_owned),
    };
    Fleet { apps: BTreeMap::from([(policy.name.clone(), App::new(policy, ledger, 1))]), unnamed: Vec::new(), around }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_reminded_of_and_a_refusing_journal_is_told() {
    let (post, _, stop) = post();
    let takes = Fake::new(Receiver::Takes);
    let mut quiet = config("quiet");
    quiet.remind_every = None;
    let silent = Fake::new(Receiver::Takes);
    post.install(vec![(config("takes"), Arc::clone(&takes) as Arc<dyn Notifier>), (quiet, Arc::clone(&silent) as Arc<dyn Notifier>)]);
    post.written(&[stuck("shop-1")]);
    for second in (0..1_900).step_by(10) {
        post.remind(&fleet(None, true), at(second));
    }
    post.remind(&fleet(Some("disk full"), false), at(1_901));
    post.remind(&fleet(Some("disk full"), false), at(1_902));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told: Vec<(Event, u32)> = takes.told().iter().map(|notice| (notice.event, notice.reminder)).collect();
    assert_eq!(told, [(Event::Stuck, 0), (Event::Stuck, 1), (Event::Stuck, 2), (Event::Stuck, 3), (Event::JournalUnwritable, 0)]);
    let ids: std::collections::BTreeSet<String> = takes.told().into_iter().map(|notice| notice.id).collect();
    assert_eq!(ids.len(), 5, "no two messages share an id");
    assert_eq!(silent.told().len(), 2);
    // A new life knows nothing of what was told, and reminds after a whole pause.
    let (again, _, end) = self::post();
    let later = Fake::new(Receiver::Takes);
    again.install(vec![(config("takes"), Arc::clone(&later) as Arc<dyn Notifier>)]);
    for second in [2_000, 2_500, 2_600] {
        again.remind(&fleet(None, true), at(second));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(later.told().iter().map(|notice| notice.reminder).collect::<Vec<_>>(), [1]);
    stop.cancel();
    end.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_told_only_of_its_events_and_a_reload_keeps_those_that_stay() {
    let (post, _, stop) = post();
    let (all, few) = (Fake::new(Receiver::Takes), Fake::new(Receiver::Takes));
    let mut picky = config("picky");
    picky.events = [Event::Moved].into();
    post.install(vec![(config("all"), Arc::clone(&all) as Arc<dyn Notifier>), (picky, Arc::clone(&few) as Arc<dyn Notifier>)]);
    post.written(&[stuck("shop-1")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((all.told().len(), few.told().len()), (1, 0));
    let new = Fake::new(Receiver::Takes);
    post.install(vec![(config("all"), Fake::new(Receiver::Takes)), (config("new"), Arc::clone(&new) as Arc<dyn Notifier>)]);
    post.written(&[stuck("shop-2")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((all.told().len(), few.told().len(), new.told().len()), (2, 0, 1), "the line that stays has its old receiver");
    assert_eq!(post.status().as_array().unwrap().len(), 2);
    assert!(!stop.is_cancelled(), "a receiver that goes takes nobody with it");
    stop.cancel();
}
