//! When looks happen: at their pace, faster while in doubt, and at once when asked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::control::Message;
use crate::domain::decide::{Input, Tempo};
use crate::domain::model::{AppName, Cause, Finding, Look, Moment, Subject, Verdict};
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
/// So many looks at the front door may then be out at once: more than fit into the reference's timeout.
const MOST_AT_ONCE: usize = 16;

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
    pub async fn run(self, stop: CancellationToken) {
        let mut wishes = self.beat.clone();
        let mut heard = *wishes.borrow_and_update();
        let mut flight = FuturesUnordered::new();
        let mut last: Option<Moment> = None;
        let mut told: Option<Moment> = None;
        loop {
            let due = last.map_or_else(Instant::now, |sent| self.clock.instant(sent + self.interval(heard.tempo)));
            tokio::select! {
                // In this order, so that a history replays as it ran.
                biased;
                () = stop.cancelled() => return,
                changed = wishes.changed() => {
                    if changed.is_err() {
                        // The control is gone.
                        return;
                    }
                    let beat = *wishes.borrow_and_update();
                    if beat.nudge != heard.nudge {
                        // A look sent before the wish does not fulfil it: it is dropped, and a new one is sent.
                        flight.clear();
                        last = None;
                    }
                    heard = beat;
                }
                Some(look) = flight.next() => {
                    let look: Look = look;
                    // An answer to a later question has come already: this one is history, and would undo the news.
                    if told.is_some_and(|told| look.sent.mono < told.mono) {
                        continue;
                    }
                    told = Some(look.sent);
                    if let Some(seen) = &self.seen {
                        seen(&self.whose, &look);
                    }
                    if self.to.send(self.message(look)).await.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(due), if flight.len() < self.at_once(heard.tempo) => {
                    let sent = self.clock.now();
                    last = Some(sent);
                    flight.push(self.look(sent));
                }
            }
        }
    }

    /// How many looks may be out at once. While a move runs, the front door is asked again although the last answer has
    /// not come: a look that hangs at the dead site must not hide that the name already leads to the living one.
    fn at_once(&self, tempo: Tempo) -> usize {
        match (&self.whose, tempo) {
            (Whose::App(_, Subject::FrontDoor), Tempo::Urgent) => MOST_AT_ONCE,
            _ => 1,
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

    async fn look(&self, sent: Moment) -> Look {
        let longest = self.pace.timeout + SLACK;
        let finding = match tokio::time::timeout(longest, self.probe.look(self.pace.timeout, sent.wall)).await {
            Ok(finding) => finding,
            Err(_) => Finding::new(Verdict::Unknown(Cause::LoopLate), "the look did not keep its own time"),
        };
        let done = self.clock.now();
        // Measured again from outside: after a stop of our process the timeout fires late, and blames the wrong one.
        let finding = if done.since(sent) > longest + SLACK && finding.verdict != Verdict::Up {
            Finding {
                verdict: Verdict::Unknown(Cause::LoopLate),
                detail: format!("ours: the look took {:.1}s", done.since(sent).as_secs_f64()),
                ..finding
            }
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

#[cfg(test)]
mod tests;
