//! The owner of the state: everything else sends it events; what it decides is first written, then done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::Clock;
pub use super::message::{Fleet, Followed, Hands, Message, NotDone};
pub use super::replay::fold;
use super::turns::Turns;
use crate::domain::decide::{App, Decision, Effect, Input, Tempo};
use crate::domain::gates::Around;
use crate::domain::health::Last;
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::{AppName, Moment, State};
use crate::domain::orders::{Order, Refusal};
use crate::domain::policy::{AppPolicy, FleetPolicy};
use crate::ports::{Journal, JournalError};

/// No decision takes that many rounds; one that does is a fault of ours, and must not spin.
pub const ROUNDS: usize = 256;
/// The loop's pulse at rest: later than this by `GAP`, and what was counted across it proves nothing.
const PULSE: Duration = Duration::from_secs(1);
/// The pulse while anything is open: deadlines are met within it. What a move waits for has a wake of its own.
const FAST_PULSE: Duration = Duration::from_millis(100);
/// How late the pulse may be.
pub(super) const GAP: Duration = Duration::from_secs(3);

/// The control.
pub struct Control<H: Hands> {
    pub(super) fleet: Fleet,
    pub(super) journal: Box<dyn Journal>,
    pub(super) hands: H,
    pub(super) clock: Clock,
    pub(super) boot_id: String,
    pub(super) epoch: Arc<AtomicU64>,
    beat: Option<Moment>,
    /// Apps of which something was seen since they last decided.
    stirred: BTreeSet<AppName>,
    /// The first moment at which time alone has something decided.
    wake: Option<Moment>,
    pub(super) turns: Turns,
    /// Apps that the config no longer names, and whose open incident goes on until it ends.
    pub(super) leaving: BTreeSet<AppName>,
    /// The latest entry of the daemon itself that the journal did not take, when it happened, and when that was last tried.
    unnoted: Option<(Entry, Moment, Moment)>,
}

impl<H: Hands> Control<H> {
    /// Replays the journal, raises the epoch and writes that this takeover began.
    ///
    /// # Errors
    /// The journal cannot be read or written, or holds what cannot have happened: then nothing is done at all.
    #[expect(clippy::too_many_arguments, reason = "all that a control is made of; the wiring names each once")]
    pub fn open(
        mut journal: Box<dyn Journal>,
        policies: &[Arc<AppPolicy>],
        fleet: &FleetPolicy,
        started: Entry,
        hands: H,
        clock: Clock,
        boot_id: String,
        epoch: Arc<AtomicU64>,
    ) -> Result<Control<H>, JournalError> {
        let now = clock.now();
        let records = journal.replay()?;
        let last_epoch = records.iter().map(|record| record.epoch).max().unwrap_or(0);
        epoch.store(last_epoch + 1, Ordering::SeqCst);
        let mut ledgers = fold(&records, &boot_id, now)?;
        let around = Around {
            started: now,
            awake: now,
            witnesses: vec![None; fleet.witnesses],
            need_up: fleet.need_up,
            moving: Vec::new(),
            max_groups: fleet.max_concurrent_groups,
            ahead: None,
            journal_fault: None,
        };
        let apps: BTreeMap<AppName, App> = policies
            .iter()
            .map(|policy| {
                let ledger = ledgers.remove(policy.name.as_ref()).unwrap_or_default();
                (policy.name.clone(), App::new(Arc::clone(policy), ledger, last_epoch + 1))
            })
            .collect();
        let open = ledgers.into_iter().filter_map(|(app, ledger)| Some((app, ledger.incident?.id, ledger.state)));
        let unnamed: Vec<(String, String, State)> = open.collect();
        for (app, id, _) in &unnamed {
            tracing::warn!(%app, "incident {id} is open in the journal, but the config does not name its app, so nobody goes on with it; name it again");
        }
        let fleet = Fleet { apps, unnamed, around };
        let (stirred, leaving, turns) = (BTreeSet::new(), BTreeSet::new(), Turns::default());
        let mut control =
            Control { fleet, journal, hands, clock, boot_id, epoch, beat: None, stirred, wake: None, turns, leaving, unnoted: None };
        // What an earlier life left open is looked at as fast as it was then.
        for (name, app) in control.fleet.apps.iter().filter(|(_, app)| app.tempo() > Tempo::Calm) {
            control.hands.pace(name, app.tempo());
        }
        let mut record = control.record(None, None, started, now);
        record.seq = control.journal.append(std::slice::from_ref(&record))?;
        control.hands.written(&[record]);
        control.settle_all(now);
        Ok(control)
    }

    /// The state, for whoever shows it.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What carries out the effects.
    pub fn hands(&mut self) -> &mut H {
        &mut self.hands
    }

    /// Takes messages until the channel closes or `stop` resolves. The pulse is told to `alive` each time.
    pub async fn run(&mut self, mut messages: mpsc::Receiver<Message>, stop: impl Future<Output = ()>, mut alive: impl FnMut(Duration)) {
        tokio::pin!(stop);
        let mut due = tokio::time::Instant::now();
        loop {
            let pulse = if self.is_busy() { FAST_PULSE } else { PULSE };
            let wait = self.wake.map_or(pulse, |at| at.since(self.clock.now()).min(pulse));
            // A busy loop shortens the wait; a stream of messages never puts the pulse off.
            due = due.min(tokio::time::Instant::now() + wait);
            tokio::select! {
                // In this order, so that a history replays as it ran; the pulse is due by the clock, and cannot be put off.
                biased;
                () = &mut stop => return,
                message = messages.recv() => {
                    let Some(message) = message else { return };
                    self.handle(message);
                    // What has queued up meanwhile is one picture: it is taken in before anything is decided on it.
                    while let Ok(message) = messages.try_recv() {
                        self.handle(message);
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            let now = tokio::time::Instant::now();
            let pulsed = now >= due;
            if pulsed {
                alive(now - due);
                due = now + pulse;
            }
            self.tick(pulsed);
        }
    }

    fn is_busy(&self) -> bool {
        self.fleet.apps.values().any(|app| app.ledger().state != State::Watching && app.ledger().state != State::Stuck)
    }

    /// Takes one message in. Decisions follow with the next tick; orders are answered at once.
    pub fn handle(&mut self, message: Message) {
        let now = self.clock.now();
        match message {
            Message::Seen(name, input) => {
                if let Some(app) = self.fleet.apps.get_mut(&name) {
                    app.observe(input);
                    self.stirred.insert(name);
                }
            }
            Message::Witness(place, look) => {
                if let Some(slot) = self.fleet.around.witnesses.get_mut(place) {
                    *slot = Some(Last { sent: look.sent, done: look.done, verdict: look.finding.verdict, detail: look.finding.detail });
                }
            }
            Message::Order(name, order, answer) => {
                let result = self.order(&name, order, now);
                if answer.send(result).is_err() {
                    tracing::warn!(app = %name, "whoever gave an order did not wait for the answer");
                }
            }
            Message::Reload(policies, fleet, done) => {
                self.reload(policies, &fleet, now);
                if done.send(()).is_err() {
                    tracing::debug!("nobody waited for the reload");
                }
            }
            Message::ReloadRefused(words) => self.note(Entry::Reloaded { ok: false, words }, now),
        }
    }

    /// Sees gaps of our own, then lets the apps decide: those of which something was seen, or every one.
    pub fn tick(&mut self, all: bool) {
        let now = self.clock.now();
        if let Some(gap) = self.beat.map(|beat| now.since(beat)).filter(|gap| *gap > GAP) {
            tracing::warn!(seconds = gap.as_secs_f64(), "our own loop stood still; what was counted across the gap is forgotten");
            self.forget(gap, now);
            self.note(Entry::Gap { seconds: gap.as_secs_f64() }, now);
        }
        // A machine that was paused whole does not see its own clock stand still: it sees the world's clock jump.
        let step = self.beat.map_or(0, |beat| (now.wall - beat.wall) - (now.mono - beat.mono));
        if Duration::from_micros(step.unsigned_abs()) > GAP {
            let seconds = step as f64 / 1e6;
            tracing::warn!(seconds, "the wall clock moved against our own; what was counted across it is forgotten");
            self.forget(Duration::from_micros(step.unsigned_abs()), now);
            self.note(Entry::ClockStepped { seconds }, now);
        }
        self.beat = Some(now);
        if all {
            // On a quiet day nothing else would tell that the disk takes something again.
            if let Some((entry, at, _)) = self.unnoted.take_if(|(.., tried)| now.since(*tried) >= PULSE) {
                self.note(entry, at);
            }
            self.settle_all(now);
        } else {
            let stirred = std::mem::take(&mut self.stirred);
            self.settle(stirred, now);
        }
    }

    /// What was counted across a gap of ours proves nothing.
    fn forget(&mut self, gap: Duration, now: Moment) {
        self.fleet.around.awake = now;
        self.fleet.apps.values_mut().for_each(|app| app.observe(Input::Gap(gap)));
        // Who is in doubt is looked at by all its eyes at once: the slowest must not come last.
        for app in self.fleet.apps.values().filter(|app| app.ledger().incident.is_some()) {
            self.hands.carry_out(app, &Effect::LookNow, now);
        }
        self.fleet.around.witnesses.iter_mut().for_each(|last| *last = None);
    }

    pub(super) fn settle_all(&mut self, now: Moment) {
        self.stirred.clear();
        self.wake = None;
        self.turns.rebuild(self.fleet.apps.values(), now);
        self.settle(self.fleet.apps.keys().cloned().collect(), now);
    }

    /// Rounds in which everybody says what is next for them, until nobody has anything to say. What is said in one round is
    /// written as one; who begins to move changes what surrounds the others, and goes alone, once the others have been heard.
    fn settle(&mut self, names: BTreeSet<AppName>, now: Moment) {
        let mut open = names.clone();
        for round in 0.. {
            if round == ROUNDS {
                for name in &open {
                    tracing::error!(app = %name, "the decision did not come to rest; it goes on with the next pulse");
                }
                break;
            }
            let (mut together, mut going) = (Vec::new(), BTreeSet::new());
            for name in std::mem::take(&mut open) {
                match self.decide(&name, now) {
                    Some(decision) if begins(&decision) => drop(going.insert(name)),
                    Some(decision) => together.push((name, decision)),
                    None => {}
                }
            }
            if !together.is_empty() {
                open = self.carry_all(together, now);
                open.append(&mut going);
            }
            for name in going {
                let decision = self.decide(&name, now).filter(begins);
                // It moves, or another one went before it: in either case it says what is next.
                if decision.is_none_or(|decision| self.carry(&name, decision, None, now).is_ok()) {
                    open.insert(name);
                }
            }
            if open.is_empty() {
                break;
            }
        }
        for name in &names {
            let wakes = self.fleet.apps.get(name).and_then(|app| app.wakes(&self.fleet.around, now));
            self.wake = self.wake.into_iter().chain(wakes).min_by_key(|at| at.mono);
        }
        self.let_go();
        self.hands.show(&self.fleet, now);
    }

    /// What this app would do next, with what surrounds it right now.
    fn decide(&mut self, name: &AppName, now: Moment) -> Option<Decision> {
        self.survey(name, now);
        self.fleet.apps.get(name)?.next(&self.fleet.around, now)
    }

    /// What surrounds this app right now: who moves, and who would go first.
    fn survey(&mut self, name: &AppName, now: Moment) {
        let Some(app) = self.fleet.apps.get(name) else { return };
        self.turns.update(app, now);
        self.fleet.around.moving = self.turns.moving();
        self.fleet.around.ahead = self.turns.ahead(app);
    }

    fn order(&mut self, name: &AppName, order: Order, now: Moment) -> Result<Followed, NotDone> {
        self.survey(name, now);
        let id = self.incident_id(name, now);
        let unknown = || NotDone::Refused(Refusal { words: format!("no app {name} is configured"), gates: Vec::new() });
        let app = self.fleet.apps.get(name).ok_or_else(unknown)?;
        // What the journal refused earlier says nothing of now: the order's own row will tell, before anything is done.
        let fault = self.fleet.around.journal_fault.take();
        let open = app.ledger().incident.as_ref().map(|open| open.id.clone());
        let decision = match app.order(order, &id, &self.fleet.around, now) {
            Ok(decision) => decision,
            Err(refusal) => {
                // Nothing was written, so nothing is known anew.
                self.fleet.around.journal_fault = fault;
                self.reconsider(name, now);
                return Err(NotDone::Refused(refusal));
            }
        };
        let opens = decision.entries.iter().any(|entry| matches!(entry, Entry::Opened { .. }));
        let written = self.carry(name, decision, Some(&id), now).map_err(|()| {
            let fault = self.fleet.around.journal_fault.clone().unwrap_or_else(|| "see the log".to_owned());
            NotDone::Unwritten(format!("not done: it could not be written to the journal ({fault})"))
        })?;
        self.settle_all(now);
        Ok(Followed { incident: if opens { Some(id) } else { open }, seq: written.unwrap_or(0) })
    }

    fn reconsider(&mut self, name: &AppName, now: Moment) {
        if self.fleet.apps.get_mut(name).is_some_and(|app| app.reconsider(now)) {
            self.settle_all(now);
        }
    }

    /// Writes an entry of the daemon itself, as of when it happened. That it cannot be written is seen by the gates; there is
    /// nothing to undo, and the latest is tried again.
    pub fn note(&mut self, entry: Entry, at: Moment) {
        let mut record = self.record(None, None, entry, at);
        match self.journal.append(std::slice::from_ref(&record)) {
            Ok(seq) => {
                self.fleet.around.journal_fault = None;
                record.seq = seq;
                self.hands.written(&[record]);
            }
            Err(error) => {
                self.refused(&error);
                self.unnoted = Some((record.entry, at, self.clock.now()));
            }
        }
    }

    pub(super) fn record(&self, app: Option<&AppName>, incident: Option<String>, entry: Entry, now: Moment) -> Record {
        Record {
            seq: 0,
            at: now,
            boot_id: self.boot_id.clone(),
            app: app.map(ToString::to_string),
            incident,
            epoch: self.epoch.load(Ordering::SeqCst),
            entry,
        }
    }

    /// Readable, sortable, unique: one app opens at most one incident a millisecond.
    pub(super) fn incident_id(&self, app: &AppName, now: Moment) -> String {
        let stamp: String = now.rfc3339().chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{app}-{stamp}")
    }
}

/// True for a decision by which a group begins to move.
fn begins(decision: &Decision) -> bool {
    decision.entries.iter().any(|entry| matches!(entry, Entry::Planned { .. }))
}
