//! When looks happen: at their pace, faster while in doubt, and at once when asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::control::Message;
use crate::domain::decide::{Input, Tempo};
use crate::domain::model::{AppName, Cause, Finding, Look, Subject, Verdict};
use crate::domain::policy::Pace;
use crate::ports::Probe;

/// How one app's looks are paced; a raised `nudge` asks for looks at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beat {
    /// How fast.
    pub tempo: Tempo,
    /// Rises with every wish for looks sent from now on.
    pub nudge: u64,
}

/// How much later than its timeout a look may end before the lateness is taken for our own fault.
const SLACK: Duration = Duration::from_millis(500);

/// How much faster than fast the front door is looked at while a move runs.
const URGENT: u32 = 4;

/// Whose looks these are.
#[derive(Debug, Clone)]
pub enum Whose {
    /// An app's signal or front door.
    App(AppName, Subject),
    /// A witness, by its place in the config.
    Witness(usize),
}

/// One thing that is looked at again and again.
pub struct Prober {
    /// Whose looks.
    pub whose: Whose,
    /// Who looks.
    pub probe: Arc<dyn Probe>,
    /// How often and how long.
    pub pace: Pace,
    /// The app's beat.
    pub beat: watch::Receiver<Beat>,
    /// Where findings go.
    pub to: mpsc::Sender<Message>,
    /// The clocks.
    pub clock: Clock,
    /// Sees every look, for the metrics.
    pub seen: Option<Seen>,
}

/// Sees looks as they are done.
pub type Seen = Arc<dyn Fn(&Whose, &Look) + Send + Sync>;

impl Prober {
    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let heard = *self.beat.borrow_and_update();
            let mut wishes = self.beat.clone();
            let look = tokio::select! {
                () = stop.cancelled() => return,
                look = self.look() => Some(look),
                // A look sent before the wish does not fulfil it: it is dropped, and a new one is sent.
                () = nudged(&mut wishes, heard.nudge) => None,
            };
            let Some(look) = look else { continue };
            let sent = look.sent;
            if let Some(seen) = &self.seen {
                seen(&self.whose, &look);
            }
            if self.to.send(self.message(look)).await.is_err() {
                return;
            }
            loop {
                let beat = *self.beat.borrow();
                if beat.nudge != heard.nudge {
                    break;
                }
                let due = self.clock.instant(sent + self.interval(beat.tempo));
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(due) => break,
                    changed = self.beat.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    fn interval(&self, tempo: Tempo) -> Duration {
        let front = matches!(self.whose, Whose::App(_, Subject::FrontDoor | Subject::Authority));
        match tempo {
            Tempo::Calm => self.pace.interval,
            Tempo::Urgent if front => self.pace.fast_interval / URGENT,
            Tempo::Fast | Tempo::Urgent => self.pace.fast_interval,
        }
    }

    async fn look(&self) -> Look {
        let sent = self.clock.now();
        let longest = self.pace.timeout + SLACK;
        let finding = match tokio::time::timeout(longest, self.probe.look(self.pace.timeout, sent.wall)).await {
            Ok(finding) => finding,
            Err(_) => Finding::new(Verdict::Unknown(Cause::LoopLate), "the look did not keep its own time"),
        };
        let done = self.clock.now();
        // Measured again from outside: after a stop of our process the timeout fires late, and blames the wrong one.
        let finding = if done.since(sent) > longest + SLACK && finding.verdict != Verdict::Up {
            Finding { verdict: Verdict::Unknown(Cause::LoopLate), detail: format!("ours: the look took {:.1}s", done.since(sent).as_secs_f64()), ..finding }
        } else {
            finding
        };
        let subject = match &self.whose {
            Whose::App(_, subject) => *subject,
            Whose::Witness(_) => Subject::FrontDoor,
        };
        Look { subject, sent, done, finding }
    }

    fn message(&self, look: Look) -> Message {
        match &self.whose {
            Whose::App(app, _) => Message::Seen(app.clone(), Input::Look(look)),
            Whose::Witness(place) => Message::Witness(*place, look),
        }
    }
}

async fn nudged(beat: &mut watch::Receiver<Beat>, heard: u64) {
    loop {
        if beat.changed().await.is_err() {
            // The control is gone; `stop` will say so.
            return std::future::pending().await;
        }
        if beat.borrow_and_update().nudge != heard {
            return;
        }
    }
}
