use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::domain::model::SiteName;

/// The first look hangs until its timeout, each later one is answered at once.
#[derive(Default)]
struct HangsOnce(AtomicU32);

#[async_trait]
impl Probe for HangsOnce {
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            tokio::time::sleep(timeout).await;
            return Finding::new(Verdict::Down(Cause::TimedOut), "hung");
        }
        Finding::new(Verdict::Up, "answered")
    }
}

const TIMEOUT: Duration = Duration::from_millis(800);

fn prober(subject: Subject, beat: watch::Receiver<Beat>) -> (Prober, mpsc::Receiver<Message>) {
    let (to, from) = mpsc::channel(64);
    let pace = Pace { interval: Duration::from_secs(1), fast_interval: Duration::from_millis(250), timeout: TIMEOUT };
    let whose = Whose::App("shop".into(), subject);
    (Prober { whose, probe: Arc::new(HangsOnce::default()), pace, beat, to, clock: Clock::following(0), seen: None }, from)
}

async fn next(from: &mut mpsc::Receiver<Message>) -> Look {
    match from.recv().await.unwrap() {
        Message::Seen(_, Input::Look(look)) => look,
        _ => panic!("a look was expected"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_look_hides_no_news_of_the_front_door_while_a_move_runs() {
    let (_beat, heard) = watch::channel(Beat { tempo: Tempo::Urgent, nudge: 0 });
    let (prober, mut from) = prober(Subject::FrontDoor, heard);
    let stop = CancellationToken::new();
    let run = prober.run(stop.clone());
    let read = async {
        let first = next(&mut from).await;
        assert_eq!(first.finding.verdict, Verdict::Up);
        assert!(first.done.mono < 100_000, "the news came at {} microseconds", first.done.mono);
        let mut last = first;
        // Beyond the time at which the hanging look gives up: what it says is history.
        while last.done.mono < 2_000_000 {
            let look = next(&mut from).await;
            assert_eq!(look.finding.verdict, Verdict::Up);
            assert!(look.sent.mono > last.sent.mono);
            last = look;
        }
        stop.cancel();
    };
    tokio::join!(run, read);
}

#[tokio::test(start_paused = true)]
async fn any_other_look_is_waited_for() {
    for (subject, tempo) in [(Subject::Signal(SiteName::Primary, 0), Tempo::Urgent), (Subject::FrontDoor, Tempo::Fast)] {
        let (_beat, heard) = watch::channel(Beat { tempo, nudge: 0 });
        let (prober, mut from) = prober(subject, heard);
        let stop = CancellationToken::new();
        let run = prober.run(stop.clone());
        let read = async {
            let first = next(&mut from).await;
            assert_eq!((first.finding.verdict, first.done.since(first.sent)), (Verdict::Down(Cause::TimedOut), TIMEOUT));
            let second = next(&mut from).await;
            assert_eq!(second.sent.mono, first.done.mono);
            stop.cancel();
        };
        tokio::join!(run, read);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_drops_what_was_sent_before_it() {
    let (beat, heard) = watch::channel(Beat::default());
    let (prober, mut from) = prober(Subject::Signal(SiteName::Primary, 0), heard);
    let stop = CancellationToken::new();
    let run = prober.run(stop.clone());
    let read = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        beat.send_modify(|beat| beat.nudge += 1);
        let look = next(&mut from).await;
        assert_eq!((look.finding.verdict, look.sent.mono / 1000), (Verdict::Up, 300));
        stop.cancel();
    };
    tokio::join!(run, read);
}
