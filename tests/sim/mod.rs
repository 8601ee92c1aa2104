//! The real control, domain and journal logic against a small scripted world, in virtual time: no thread, no clock,
//! no I/O. What a crash loses is what was not in the journal.
#![allow(dead_code, reason = "each test file uses its part of the harness")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a harness that fails must fail its test")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use watchover::domain::autonomy::Autonomy;
use watchover::domain::decide::{App, Effect, Input, Tempo};
use watchover::domain::gates::{Found, Preflight};
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{
    Actor, Cause, Direction, Finding, LagSample, Look, Moment, ReplicaReading, ReplicaState, SiteName, State, Subject, Verdict,
};
use watchover::domain::orders::{Order, Refusal};
use watchover::domain::policy::{AppPolicy, FleetPolicy, SignalPolicy};
use watchover::domain::quorum::Point;
use watchover::domain::report::{ErrorClass, Inspection, Report, StepError};
use watchover::ports::{Journal, JournalError};
use watchover::runtime::clock::{Clock, Hand};
use watchover::runtime::control::{Control, Fleet, Hands, Message, NotDone};

mod policy;
pub mod prompt;

pub use policy::policy;

/// A person who says why.
pub fn by(reason: &str) -> Actor {
    Actor { who: "alice".into(), reason: reason.into() }
}

pub const SECOND: i64 = 1_000_000;
pub const MILLI: i64 = 1_000;
/// Birth of the world on the wall clock; a whole minute, so that datapoints align.
pub const WALL: i64 = 1_795_000_020 * SECOND;
const TTL: i64 = 2 * SECOND;

/// How something answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    Up,
    Down(Cause),
    Unknown(Cause),
    /// Alternating: every second look is down.
    Half,
    /// Two of three looks are down, never three in a row.
    Mostly,
    /// Up at every fourth look.
    Rarely,
}

/// One step as the world has it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldStep {
    pub on: bool,
    pub pending_until: Option<i64>,
    pub takes: i64,
    pub effects: u32,
    pub applies: u32,
    pub silent: bool,
    /// How long a look at it takes, and how many inspected it.
    pub look_takes: i64,
    pub looks: u32,
    /// Looks at it that are lost, of those to come.
    pub lose_looks: usize,
    /// How many inspections are turned away for their rate.
    pub throttle_looks: u32,
    pub lose_answers: u32,
    pub drop_requests: u32,
    pub refuse: bool,
    /// Its requests are denied for want of a permission, which a look at it does not show.
    pub denied: bool,
    /// So many attempts to undo it fail for now; the next succeeds.
    pub undo_fails: u32,
    /// A person must say yes first.
    pub asks: bool,
    /// Nobody can tell whether it is done; its own word counts.
    pub blind: bool,
    pub on_since: i64,
    /// Requests that reached it while it was so, or on its way, already.
    pub repeats: u32,
    /// Requests that the service refuses for now, as too many.
    pub throttles: u32,
    /// For that long after a request was taken, it looks as it did before.
    pub hidden: i64,
    pub taken: Option<i64>,
    /// The evidence that the replica had everything, as a planned promotion saw it.
    pub drain: Value,
}

/// The world's truth.
#[derive(Debug, Clone)]
pub struct World {
    pub primary: Answer,
    pub standby: Answer,
    pub witness: Answer,
    pub replica: Answer,
    /// The primary's second signal, if the policy has one.
    pub deep: Answer,
    /// How long an inspection of the whole plan takes, microseconds.
    pub preflight_takes: i64,
    pub lag: f64,
    pub lag_stops: bool,
    pub steps: BTreeMap<String, WorldStep>,
    pub looks: [u64; TARGETS],
    /// What others could do to the traffic, as the step `traffic` reads it; `Err`: it cannot be read.
    pub autonomous: Result<Vec<String>, String>,
    /// Where others point the public name, and since when; over what our own step did.
    pub others: Option<(SiteName, i64)>,
    /// How the primary answered when its fence took its machines.
    pub fenced_off: Option<Answer>,
}

impl World {
    /// A step that takes that long, microseconds.
    pub fn step(takes: i64) -> WorldStep {
        WorldStep {
            on: false,
            pending_until: None,
            takes,
            effects: 0,
            applies: 0,
            silent: false,
            look_takes: 10 * MILLI,
            looks: 0,
            lose_looks: 0,
            throttle_looks: 0,
            lose_answers: 0,
            drop_requests: 0,
            refuse: false,
            denied: false,
            undo_fails: 0,
            asks: false,
            blind: false,
            on_since: 0,
            repeats: 0,
            throttles: 0,
            hidden: 0,
            taken: None,
            drain: Value::Null,
        }
    }

    fn new() -> World {
        let steps = [("fence", 500 * MILLI), ("promote", 4 * SECOND), ("capacity", 2 * SECOND), ("traffic", 500 * MILLI)];
        World {
            primary: Answer::Up,
            standby: Answer::Up,
            witness: Answer::Up,
            replica: Answer::Up,
            deep: Answer::Up,
            preflight_takes: 20 * MILLI,
            lag: 1.0,
            lag_stops: false,
            steps: steps.into_iter().map(|(name, takes)| (name.to_owned(), World::step(takes))).collect(),
            looks: [0; TARGETS],
            autonomous: Ok(Vec::new()),
            others: None,
            fenced_off: None,
        }
    }

    fn settle(&mut self, now: i64) {
        for (name, step) in &mut self.steps {
            if let Some(until) = step.pending_until.filter(|until| *until <= now) {
                step.on = true;
                step.pending_until = None;
                step.on_since = until;
                // Its machines are gone with that: whoever answers there later was started again by somebody.
                if name == "fence" && matches!(self.primary, Answer::Up | Answer::Half | Answer::Mostly | Answer::Rarely) {
                    self.fenced_off = Some(std::mem::replace(&mut self.primary, Answer::Down(Cause::Status)));
                }
            }
        }
    }

    /// Where the public name leads resolvers that honour the TTL.
    fn front(&self, now: i64) -> SiteName {
        let traffic = &self.steps["traffic"];
        match self.others {
            Some((site, since)) if now - since >= TTL => site,
            _ if traffic.on && now - traffic.on_since >= TTL => SiteName::Standby,
            _ => SiteName::Primary,
        }
    }

    /// What the zone's own servers answer.
    fn authority(&self) -> SiteName {
        let ours = if self.steps["traffic"].on { SiteName::Standby } else { SiteName::Primary };
        self.others.map_or(ours, |(site, _)| site)
    }

    fn of(&self, site: SiteName) -> Answer {
        match site {
            SiteName::Primary => self.primary,
            SiteName::Standby => self.standby,
        }
    }
}

/// What the hands were told.
#[derive(Debug)]
enum Out {
    Effect(Effect, BTreeMap<String, Value>, String, u64),
    Pace(Tempo),
}

/// The second half is the journal's: a process that died at a row carries nothing out.
#[derive(Clone, Default)]
struct SimHands(Arc<Mutex<Vec<Out>>>, Arc<std::sync::atomic::AtomicBool>);

impl Hands for SimHands {
    fn carry_out(&mut self, app: &App, effect: &Effect, _now: Moment) {
        if self.1.load(Ordering::SeqCst) {
            return;
        }
        let incident = app.ledger().incident.as_ref();
        let facts =
            incident.map(|open| open.steps.iter().map(|(name, run)| (name.clone(), run.facts.clone())).collect()).unwrap_or_default();
        let id = incident.map(|open| open.id.clone()).unwrap_or_default();
        self.0.lock().unwrap().push(Out::Effect(effect.clone(), facts, id, app.epoch()));
    }
    fn pace(&mut self, _app: &watchover::domain::model::AppName, tempo: Tempo) {
        self.0.lock().unwrap().push(Out::Pace(tempo));
    }
    fn let_go(&mut self, _app: &watchover::domain::model::AppName) {}
    fn written(&mut self, _records: &[Record]) {}
    fn show(&mut self, _fleet: &Fleet, _now: Moment) {}
}

/// A journal in memory; `full` makes it refuse.
#[derive(Clone, Default)]
pub struct MemJournal {
    pub rows: Arc<Mutex<Vec<Record>>>,
    pub full: Arc<std::sync::atomic::AtomicBool>,
    /// With that many rows durable the process is dead, before it can do what they announce. 0: never.
    pub dies_at: Arc<std::sync::atomic::AtomicUsize>,
    pub dead: Arc<std::sync::atomic::AtomicBool>,
    /// The next write takes that long, microseconds, and blocks whoever asked for it.
    pub hangs: Arc<AtomicI64>,
    pub hand: Option<Hand>,
}

impl Journal for MemJournal {
    fn append(&mut self, records: &[Record]) -> Result<i64, JournalError> {
        if self.full.load(Ordering::SeqCst) || self.dead.load(Ordering::SeqCst) {
            return Err(JournalError::Unwritable { path: "memory".into(), operation: "append", cause: "no space left".into() });
        }
        let hangs = self.hangs.swap(0, Ordering::SeqCst);
        if let Some(hand) = self.hand.as_ref().filter(|_| hangs > 0) {
            hand.0.fetch_add(hangs, Ordering::SeqCst);
            hand.1.fetch_add(hangs, Ordering::SeqCst);
        }
        // Through JSON and back, as on disk: what does not survive that is not durable.
        let mut rows = self.rows.lock().unwrap();
        let first = rows.len() as i64 + 1;
        for record in records {
            let text = serde_json::to_string(record).unwrap();
            let mut back: Record = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            back.seq = rows.len() as i64 + 1;
            rows.push(back);
        }
        let dies_at = self.dies_at.load(Ordering::SeqCst);
        self.dead.fetch_or(dies_at > 0 && rows.len() >= dies_at, Ordering::SeqCst);
        Ok(first)
    }
    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        Ok(self.rows.lock().unwrap().clone())
    }
}

#[derive(Debug, PartialEq)]
enum Ev {
    Send(usize, u64),
    Done(usize, i64, Box<Finding>),
    Step { step: String, what: What, epoch: u64, incident: String, facts: BTreeMap<String, Value> },
    Preflight(Direction),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Inspect,
    ApplyArrives,
    ApplyAnswers,
    ApplyLost,
    ApplyThrottled,
    ApplyDenied,
    Verify,
    Undo,
}

struct Queued(i64, u64, Ev);
impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What is looked at: subject or witness, in a fixed order.
const TARGETS: usize = 7;
/// The zone's own servers: looked at only in scripts in which others move traffic.
const AUTHORITY: usize = 5;
/// The primary's second signal: looked at only if the policy has one.
const DEEP: usize = 6;

/// One request as it reached the world.
pub struct Applied {
    pub step: String,
    /// Rows that were durable by then.
    pub rows: usize,
    /// Whether the promotion was through by then.
    pub promoted: bool,
}

/// Looks at the sim after every event.
pub type After = Box<dyn Fn(&Sim)>;

pub struct Sim {
    pub world: World,
    pub journal: MemJournal,
    pub policy: AppPolicy,
    pub fleet: FleetPolicy,
    hand: Hand,
    control: Option<Control<SimHands>>,
    hands: SimHands,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    fast: bool,
    generation: [u64; TARGETS],
    pub front_log: Vec<(i64, SiteName)>,
    /// Requests as they reached the world.
    pub applied: Vec<Applied>,
    /// Looks as they came back: target, sent, verdict.
    pub seen: Vec<(usize, i64, Verdict)>,
    /// Called after every event; what it says is wrong ends the run.
    pub after: Option<After>,
    /// How much our wall clock is off, and how long the whole machine was paused so far: microseconds.
    skew: i64,
    slept: i64,
    /// The zone's own servers are looked at, too.
    asks_authority: bool,
    /// How often the machine was started.
    boots: u32,
}

impl Sim {
    pub fn new(policy: AppPolicy) -> Sim {
        let hand: Hand = Arc::new((AtomicI64::new(0), AtomicI64::new(WALL)));
        let mut sim = Sim {
            world: World::new(),
            journal: MemJournal { hand: Some(Arc::clone(&hand)), ..MemJournal::default() },
            policy,
            fleet: FleetPolicy { need_up: 1, witnesses: 1, max_concurrent_groups: 1 },
            hand,
            control: None,
            hands: SimHands::default(),
            queue: BinaryHeap::new(),
            order: 0,
            fast: false,
            generation: [0; TARGETS],
            front_log: Vec::new(),
            applied: Vec::new(),
            seen: Vec::new(),
            after: None,
            skew: 0,
            slept: 0,
            asks_authority: false,
            boots: 1,
        };
        sim.boot();
        sim
    }

    pub fn now(&self) -> i64 {
        self.hand.0.load(Ordering::SeqCst)
    }

    pub fn moment_now(&self) -> Moment {
        self.moment(self.now())
    }

    fn set_now(&self, at: i64) {
        self.hand.0.store(at, Ordering::SeqCst);
        self.hand.1.store(WALL + at + self.slept + self.skew, Ordering::SeqCst);
    }

    /// Starts the daemon: replay, then looks.
    pub fn boot(&mut self) {
        self.try_boot().unwrap_or_else(|error| panic!("the daemon does not start: {error}"));
    }

    pub fn try_boot(&mut self) -> Result<(), JournalError> {
        let started = Entry::Started { version: "test".into(), observer: "sim".into(), config: String::new() };
        self.journal.dies_at.store(0, Ordering::SeqCst);
        self.journal.dead.store(false, Ordering::SeqCst);
        self.hands = SimHands(Arc::default(), Arc::clone(&self.journal.dead));
        self.fast = false;
        let control = Control::open(
            Box::new(self.journal.clone()),
            &[Arc::new(self.policy.clone())],
            &self.fleet,
            started,
            self.hands.clone(),
            Clock::held(Arc::clone(&self.hand)),
            format!("boot-{}", self.boots),
            Arc::new(AtomicU64::new(0)),
        )?;
        self.fast = control.fleet().apps.values().any(|app| app.tempo() > Tempo::Calm);
        self.control = Some(control);
        for target in self.targets() {
            self.generation[target] += 1;
            self.push(self.now() + MILLI * target as i64, Ev::Send(target, self.generation[target]));
        }
        self.drain();
        Ok(())
    }

    fn targets(&self) -> std::ops::Range<usize> {
        0..if self.policy.primary.signals.len() > 1 { TARGETS } else { TARGETS - 1 }
    }

    /// Somebody sets our wall clock.
    pub fn step_clock(&mut self, seconds: f64) {
        self.skew += (seconds * 1e6) as i64;
        self.set_now(self.now());
    }

    /// The whole machine is paused: the world goes on, our own clock does not, and the wall clock is right again after it.
    pub fn pause_machine(&mut self, seconds: f64) {
        let micros = (seconds * 1e6) as i64;
        self.slept += micros;
        for until in self.world.steps.values_mut().filter_map(|step| step.pending_until.as_mut()) {
            *until -= micros;
        }
        self.set_now(self.now());
    }

    /// Kills the daemon: what it had in hand is gone, what it had sent to the world arrives all the same.
    pub fn kill(&mut self) {
        self.control = None;
        let kept: Vec<Reverse<Queued>> =
            self.queue.drain().filter(|Reverse(Queued(.., ev))| matches!(ev, Ev::Step { what: What::ApplyArrives, .. })).collect();
        self.queue.extend(kept);
        self.hands.0.lock().unwrap().clear();
    }

    /// Starts the machine anew. Its monotonic clock goes on, which says nothing: of another boot nothing is compared by it.
    pub fn reboot(&mut self) {
        self.kill();
        self.boots += 1;
        self.boot();
    }

    pub fn is_running(&self) -> bool {
        self.control.is_some()
    }

    pub fn app(&self) -> &App {
        self.control.as_ref().expect("the daemon runs").fleet().apps.values().next().expect("one app")
    }

    /// What a gate says now, with its words.
    pub fn gate(&self, name: &str) -> String {
        let around = &self.control.as_ref().expect("the daemon runs").fleet().around;
        let app = self.app();
        let (_, gates, _) = app.view(around, self.moment(self.now())).gates(app.direction(), Point::Start);
        let gate = gates.into_iter().find(|gate| gate.name == name).expect("a gate of that name");
        format!("{} {}: {}", gate.name, gate.state, gate.words)
    }

    pub fn state(&self) -> State {
        self.app().ledger().state
    }

    pub fn order(&mut self, order: Order) -> Result<Option<String>, Refusal> {
        let name = self.policy.name.clone();
        let (tx, mut rx) = tokio::sync::oneshot::channel();
        let control = self.control.as_mut().expect("the daemon runs");
        control.handle(Message::Order(name, order, tx));
        let answer = rx.try_recv().expect("orders are answered at once");
        self.drain();
        answer.map(|followed| followed.incident).map_err(|error| match error {
            NotDone::Refused(refusal) => refusal,
            // What is looked at here are the words.
            NotDone::Unwritten(words) => Refusal { words, gates: Vec::new() },
        })
    }

    /// SIGHUP with the policy as it stands in the sim now.
    pub fn reload(&mut self) {
        let (tx, _rx) = tokio::sync::oneshot::channel();
        let message = Message::Reload(vec![Arc::new(self.policy.clone())], self.fleet.clone(), tx);
        self.control.as_mut().expect("the daemon runs").handle(message);
        self.drain();
    }

    /// SIGHUP with a file that is refused.
    pub fn reload_refused(&mut self) {
        self.control.as_mut().expect("the daemon runs").handle(Message::ReloadRefused("no such mode".into()));
        self.drain();
    }

    /// The answer to a step's request, on its way for longer than anybody waited.
    pub fn late_answer(&mut self, step: &str) {
        let incident = self.app().ledger().incident.as_ref().map(|open| open.id.clone()).unwrap_or_default();
        let epoch = self.app().epoch();
        self.tell(Input::Step { incident, epoch, step: step.to_owned(), report: Report::Applied(Ok(Value::Null)) });
    }

    fn push(&mut self, at: i64, ev: Ev) {
        self.order += 1;
        self.queue.push(Reverse(Queued(at, self.order, ev)));
    }

    fn pace_of(&self, target: usize) -> i64 {
        let micros = |duration: Duration| duration.as_micros() as i64;
        let signal = |policy: &SignalPolicy| if self.fast { micros(policy.fast_interval) } else { micros(policy.interval) };
        match target {
            0 => signal(&self.policy.primary.signals[0]),
            1 => signal(&self.policy.standby.signals[0]),
            2 => signal(&self.policy.standby.signals[1]),
            DEEP => signal(&self.policy.primary.signals[1]),
            AUTHORITY if !self.fast => micros(self.policy.front_door.interval * 5),
            _ if self.fast => micros(self.policy.front_door.fast_interval),
            _ => micros(self.policy.front_door.interval),
        }
    }

    /// Runs until `until` (microseconds since birth).
    pub fn run_until(&mut self, until: i64) {
        loop {
            let pulse = if self.fast { 20 * MILLI } else { SECOND };
            let next_pulse = (self.now() / pulse + 1) * pulse;
            let next = self.queue.peek().map_or(i64::MAX, |Reverse(Queued(at, ..))| *at).min(next_pulse).max(self.now());
            if next > until {
                self.set_now(until);
                return;
            }
            self.set_now(next);
            self.world.settle(next);
            while self.queue.peek().is_some_and(|Reverse(Queued(at, ..))| *at <= next) {
                let Some(Reverse(Queued(.., ev))) = self.queue.pop() else { break };
                self.happen(ev);
            }
            if let Some(control) = &mut self.control {
                control.tick(next >= next_pulse);
            }
            self.drain();
            if let Some(after) = self.after.take() {
                after(self);
                self.after = Some(after);
            }
        }
    }

    pub fn run_for(&mut self, seconds: f64) {
        let until = self.now() + (seconds * 1e6) as i64;
        self.run_until(until);
    }

    /// Runs until the predicate holds, at most that long. Says whether it did.
    pub fn run_till(&mut self, seconds: f64, mut holds: impl FnMut(&Sim) -> bool) -> bool {
        let end = self.now() + (seconds * 1e6) as i64;
        while self.now() < end {
            if holds(self) {
                return true;
            }
            let next = (self.now() + 10 * MILLI).min(end);
            self.run_until(next);
        }
        holds(self)
    }

    fn happen(&mut self, ev: Ev) {
        let now = self.now();
        match ev {
            Ev::Send(AUTHORITY, _) if !self.asks_authority => {}
            Ev::Send(target, generation) if generation == self.generation[target] && self.control.is_some() => {
                let (latency, finding) = self.see(target);
                self.push(now + latency, Ev::Done(target, now, Box::new(finding)));
            }
            Ev::Send(..) => {}
            Ev::Done(target, sent, finding) => self.look_done(target, sent, *finding),
            Ev::Preflight(direction) => {
                let found = |step: &WorldStep| {
                    if step.on {
                        Found::AlreadySo
                    } else if step.refuse {
                        Found::Refused("no".into())
                    } else {
                        Found::Possible
                    }
                };
                let steps = self.world.steps.iter().map(|(name, step)| (name.clone(), found(step))).collect();
                let others = match &self.world.autonomous {
                    Ok(words) => Autonomy::Read(words.clone()),
                    Err(why) => Autonomy::Unread(why.clone()),
                };
                let autonomy = BTreeMap::from([("traffic".to_owned(), others)]);
                let preflight = Preflight { at: self.moment(now), direction, steps, autonomy };
                self.tell(Input::Preflight(preflight));
            }
            Ev::Step { step, what, epoch, incident, facts } => self.step_event(&step, what, epoch, incident, facts),
        }
    }

    fn moment(&self, mono: i64) -> Moment {
        Moment { mono, wall: WALL + mono + self.slept + self.skew }
    }

    fn tell(&mut self, input: Input) {
        let name = self.policy.name.clone();
        if let Some(control) = &mut self.control {
            control.handle(Message::Seen(name, input));
        }
    }

    fn see(&mut self, target: usize) -> (i64, Finding) {
        self.world.looks[target] += 1;
        let now = self.now();
        let site = match target {
            0 | DEEP => SiteName::Primary,
            1 | 2 => SiteName::Standby,
            AUTHORITY => self.world.authority(),
            _ => self.world.front(now),
        };
        let answer = match target {
            2 => self.world.replica,
            4 => self.world.witness,
            DEEP => self.world.deep,
            AUTHORITY => Answer::Up,
            _ => self.world.of(site),
        };
        let verdict = match answer {
            Answer::Up => Verdict::Up,
            Answer::Down(cause) => Verdict::Down(cause),
            Answer::Unknown(cause) => Verdict::Unknown(cause),
            Answer::Half if self.world.looks[target].is_multiple_of(2) => Verdict::Up,
            Answer::Mostly if self.world.looks[target].is_multiple_of(3) => Verdict::Up,
            Answer::Rarely if self.world.looks[target].is_multiple_of(4) => Verdict::Up,
            Answer::Half | Answer::Mostly | Answer::Rarely => Verdict::Down(Cause::Status),
        };
        let latency = if matches!(verdict, Verdict::Down(Cause::TimedOut)) { 800 * MILLI } else { 5 * MILLI };
        let mut finding = Finding::new(verdict, "scripted");
        if target == 3 && verdict == Verdict::Up {
            finding.from = Some(site);
            self.front_log.push((now, site));
        }
        if target == AUTHORITY {
            finding.from = Some(site);
        }
        if target == 2 {
            let samples = self.samples(now);
            let state = if verdict == Verdict::Up { ReplicaState::Replicating } else { ReplicaState::Error };
            finding.replica = Some(ReplicaReading { state, samples });
        }
        (latency, finding)
    }

    /// Datapoints of whole minutes, visible two minutes late, fifteen minutes deep.
    fn samples(&self, now: i64) -> Vec<LagSample> {
        if self.world.lag_stops {
            return Vec::new();
        }
        let minute = 60 * SECOND;
        let newest = (WALL + now + self.slept - 2 * minute).div_euclid(minute) * minute;
        (0..13).rev().map(|back| LagSample { at: newest - back * minute, period: minute, seconds: self.world.lag }).collect()
    }

    fn look_done(&mut self, target: usize, sent: i64, finding: Finding) {
        if self.control.is_none() {
            return;
        }
        let now = self.now();
        self.seen.push((target, sent, finding.verdict));
        let (sent_at, done) = (self.moment(sent), self.moment(now));
        let look = |subject: Subject| Look { subject, sent: sent_at, done, finding };
        match target {
            0 => self.tell(Input::Look(look(Subject::Signal(SiteName::Primary, 0)))),
            1 => self.tell(Input::Look(look(Subject::Signal(SiteName::Standby, 0)))),
            2 => self.tell(Input::Look(look(Subject::Signal(SiteName::Standby, 1)))),
            3 => self.tell(Input::Look(look(Subject::FrontDoor))),
            DEEP => self.tell(Input::Look(look(Subject::Signal(SiteName::Primary, 1)))),
            AUTHORITY => self.tell(Input::Look(look(Subject::Authority))),
            _ => {
                let look = look(Subject::FrontDoor);
                if let Some(control) = &mut self.control {
                    control.handle(Message::Witness(0, look));
                }
            }
        }
        let next = (sent + self.pace_of(target)).max(now);
        self.push(next, Ev::Send(target, self.generation[target]));
    }

    fn step_event(&mut self, name: &str, what: What, epoch: u64, incident: String, facts: BTreeMap<String, Value>) {
        let now = self.now();
        if what == What::ApplyArrives {
            let promoted = self.world.steps["promote"].on;
            self.applied.push(Applied { step: name.to_owned(), rows: self.journal.rows.lock().unwrap().len(), promoted });
        }
        let graceful = self.control.is_some() && self.app().ledger().incident.as_ref().is_some_and(|open| open.graceful());
        let fenced = self.world.steps.get("fence").filter(|fence| fence.on).map(|fence| WALL + self.slept + fence.on_since);
        let drained = fenced.and_then(|at| self.samples(now).into_iter().find(|sample| sample.at >= at && sample.seconds == 0.0));
        let step = self.world.steps.get_mut(name).expect("steps of the sim");
        let hidden = step.taken.is_some_and(|taken| now < taken + step.hidden);
        let throttled = || StepError::new(ErrorClass::Retry, "Throttling", "rate exceeded");
        let lost = || StepError::new(ErrorClass::Retry, "lost", "the answer was lost");
        let on_facts = if name.starts_with("fence") {
            json!({"fence": "proven", "at": WALL + self.slept + step.on_since})
        } else {
            json!({"done": true, "drain": step.drain})
        };
        let again = |sim: &mut Sim, at: i64, what: What| {
            let ev = Ev::Step { step: name.to_owned(), what, epoch, incident: incident.clone(), facts: facts.clone() };
            sim.push(at, ev);
        };
        step.looks += u32::from(what == What::Inspect);
        let report = match what {
            What::Inspect | What::Verify if step.lose_looks > 0 => {
                step.lose_looks -= 1;
                if what == What::Inspect { Report::Inspected(Err(lost())) } else { Report::Verified(Err(lost())) }
            }
            What::Inspect if step.throttle_looks > 0 => {
                step.throttle_looks -= 1;
                Report::Inspected(Err(throttled()))
            }
            What::Inspect if step.refuse => Report::Inspected(Err(StepError::new(ErrorClass::Refused, "refused", "the world will not"))),
            What::Inspect if step.asks => Report::Inspected(Ok(Inspection::Asks("go on? (asks the on-call)".into()))),
            What::Inspect if step.blind => Report::Inspected(Ok(Inspection::CannotTell)),
            What::Inspect if step.on && !hidden => Report::Inspected(Ok(Inspection::AlreadySo(on_facts))),
            What::Inspect if step.pending_until.is_some() && !hidden => Report::Inspected(Ok(Inspection::UnderWay(Value::Null))),
            What::Inspect if name == "promote" && graceful => match drained {
                None => Report::Inspected(Ok(Inspection::NotYet("draining".into()))),
                Some(sample) => {
                    step.drain = json!({"drained": true, "evidence": sample});
                    Report::Inspected(Ok(Inspection::Possible(json!({"was": "off"}))))
                }
            },
            What::Inspect => Report::Inspected(Ok(Inspection::Possible(json!({"was": "off"})))),
            What::ApplyArrives => {
                step.applies += 1;
                if step.denied {
                    return again(self, now + 10 * MILLI, What::ApplyDenied);
                }
                if step.throttles > 0 {
                    step.throttles -= 1;
                    return again(self, now + 10 * MILLI, What::ApplyThrottled);
                }
                if step.drop_requests > 0 {
                    step.drop_requests -= 1;
                    return again(self, now + 100 * MILLI, What::ApplyLost);
                }
                if !step.on && step.pending_until.is_none() {
                    step.effects += 1;
                    step.taken = Some(now);
                    step.pending_until = Some(now + step.takes);
                } else {
                    step.repeats += 1;
                }
                if step.lose_answers > 0 {
                    step.lose_answers -= 1;
                    return again(self, now + 100 * MILLI, What::ApplyLost);
                }
                return again(self, now + 10 * MILLI, What::ApplyAnswers);
            }
            // A program is done when it ends, and ends with its answer.
            What::ApplyAnswers if step.blind && !step.on => return again(self, now + 100 * MILLI, What::ApplyAnswers),
            What::ApplyAnswers => Report::Applied(Ok(Value::Null)),
            What::ApplyLost => Report::Applied(Err(lost())),
            What::ApplyThrottled => Report::Applied(Err(throttled())),
            What::ApplyDenied => Report::Applied(Err(StepError::new(ErrorClass::NeedsPerson, "AccessDenied", "not allowed"))),
            What::Verify if step.on || step.blind => Report::Verified(Ok(on_facts)),
            What::Verify => return again(self, now + 100 * MILLI, What::Verify),
            What::Undo if step.denied => Report::Undone(Err(StepError::new(ErrorClass::NeedsPerson, "AccessDenied", "not allowed"))),
            What::Undo if step.undo_fails > 0 => {
                step.undo_fails -= 1;
                Report::Undone(Err(StepError::new(ErrorClass::Retry, "ScalingActivityInProgress", "busy")))
            }
            What::Undo => {
                step.on = false;
                step.pending_until = None;
                if name == "fence"
                    && let Some(answer) = self.world.fenced_off.take()
                    && matches!(self.world.primary, Answer::Down(_))
                {
                    self.world.primary = answer;
                }
                Report::Undone(Ok("put back".into()))
            }
        };
        self.tell(Input::Step { incident, epoch, step: name.to_owned(), report });
    }

    fn drain(&mut self) {
        let outs: Vec<Out> = std::mem::take(&mut *self.hands.0.lock().unwrap());
        let now = self.now();
        for out in outs {
            match out {
                Out::Pace(tempo) => {
                    let was = std::mem::replace(&mut self.fast, tempo > Tempo::Calm);
                    if self.fast && !was {
                        self.nudge();
                    }
                }
                Out::Effect(Effect::LookNow, ..) => self.nudge(),
                Out::Effect(Effect::Preflight(direction), ..) => self.push(now + self.world.preflight_takes, Ev::Preflight(direction)),
                Out::Effect(Effect::Cancel { step }, ..) => self.forget_step(&step),
                Out::Effect(effect, facts, incident, epoch) => {
                    let look_takes = |step: &String| self.world.steps[step].look_takes;
                    let (latency, step, what) = match effect {
                        Effect::Inspect { step } => (look_takes(&step), step, What::Inspect),
                        Effect::Apply { step } => (10 * MILLI, step, What::ApplyArrives),
                        Effect::Verify { step } => (look_takes(&step), step, What::Verify),
                        Effect::Undo { step } => (10 * MILLI, step, What::Undo),
                        Effect::Cancel { .. } | Effect::LookNow | Effect::Preflight(_) => continue,
                    };
                    if !self.world.steps[&step].silent {
                        self.push(now + latency, Ev::Step { step, what, epoch, incident, facts });
                    }
                }
            }
        }
    }

    fn forget_step(&mut self, name: &str) {
        let keep = |ev: &Ev| !matches!(ev, Ev::Step { step, what, .. } if step == name && *what != What::ApplyArrives);
        let kept: Vec<Reverse<Queued>> = self.queue.drain().filter(|Reverse(Queued(.., ev))| keep(ev)).collect();
        self.queue.extend(kept);
    }

    /// Looks at everything now; looks under way are dropped.
    fn nudge(&mut self) {
        let now = self.now();
        let kept: Vec<Reverse<Queued>> = self.queue.drain().filter(|Reverse(Queued(.., ev))| !matches!(ev, Ev::Done(..))).collect();
        self.queue.extend(kept);
        for target in self.targets() {
            self.generation[target] += 1;
            self.push(now, Ev::Send(target, self.generation[target]));
        }
    }

    /// The zone's own servers are looked at from now on.
    pub fn ask_authority(&mut self) {
        self.asks_authority = true;
        self.push(self.now(), Ev::Send(AUTHORITY, self.generation[AUTHORITY]));
    }

    /// SIGSTOP: time passes, and neither loop nor look notices until it is over.
    pub fn stand_still(&mut self, seconds: f64) {
        let until = self.now() + (seconds * 1e6) as i64;
        self.set_now(until);
        self.world.settle(until);
    }

    pub fn records(&self) -> Vec<Record> {
        self.journal.rows.lock().unwrap().clone()
    }

    pub fn records_len(&self) -> usize {
        self.journal.rows.lock().unwrap().len()
    }

    /// The journal as lines: seconds since birth, what happened, in words.
    pub fn log(&self) -> Vec<String> {
        self.records().iter().filter_map(line).collect()
    }

    pub fn effects(&self, step: &str) -> u32 {
        self.world.steps[step].effects
    }
}

/// One journal row as a scenario's log shows it; rows that are only noise there say nothing.
fn line(record: &Record) -> Option<String> {
    let at = record.at.mono as f64 / 1e6;
    let words = match &record.entry {
        Entry::Started { .. } => return None,
        Entry::Opened { trigger, direction, .. } => format!("opened {trigger} {direction}"),
        Entry::Confirmed { first_failed, .. } => format!("confirmed, first failed look at {:.2}", first_failed.mono as f64 / 1e6),
        Entry::Gated { ruling, gates, exposure } => {
            let loss = exposure.seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.0}"));
            let closed: Vec<String> =
                gates.iter().filter(|gate| gate.state.as_str() != "open").map(|gate| format!("{} {}", gate.name, gate.state)).collect();
            let closed = if closed.is_empty() { String::new() } else { format!(": {}", closed.join(", ")) };
            format!("gated {ruling}{closed} (loss {loss})")
        }
        Entry::Closed { outcome, active, figures, .. } => {
            let rto = figures.rto_seconds.map(|seconds| format!(", rto {seconds:.1}")).unwrap_or_default();
            let rpo = figures
                .rpo
                .as_ref()
                .map(|rpo| format!(", rpo {:.0} ({})", rpo.seconds.unwrap_or(f64::NAN), rpo.assumption))
                .unwrap_or_default();
            let site = active.map(|site| format!(", {site} active")).unwrap_or_default();
            format!("closed {outcome}{site}{rto}{rpo}")
        }
        Entry::Active { site, by } => format!("active {site} ({})", by.who),
        Entry::StepFailed { step, code, needs_person, .. } => {
            format!("step-failed {step} {code}{}", if *needs_person { " needs-person" } else { "" })
        }
        Entry::StepVerified { step, already, .. } => format!("step-verified {step}{}", if *already { " already" } else { "" }),
        Entry::StepIntent { step, attempt, .. } => format!("step-intent {step} {attempt}"),
        Entry::Stuck { words, .. } => format!("stuck: {words}"),
        Entry::Commanded { wish, .. } | Entry::Approved { wish } => {
            let accepts = wish.accept_loss.map(|seconds| format!(", accepts a loss of {seconds:.0}")).unwrap_or_default();
            format!("{} by {} ({}){accepts}", entry_kind(record), wish.by.who, wish.by.reason)
        }
        Entry::Declined { by, .. } | Entry::Resumed { by } | Entry::Paused { by, .. } | Entry::Retried { by } | Entry::AbortedBy { by } => {
            format!("{} by {} ({})", entry_kind(record), by.who, by.reason)
        }
        Entry::StepSkipped { step, by } => format!("step-skipped {step} by {} ({})", by.who, by.reason),
        Entry::StepTrouble { step, code, .. } => format!("step-trouble {step} {code}"),
        Entry::CallingOff { words } => format!("calling-off: {words}"),
        Entry::Gap { seconds } => format!("gap {seconds:.0}s"),
        Entry::ClockStepped { seconds } => format!("clock-stepped {seconds:+.0}s"),
        Entry::Reloaded { ok, .. } => format!("reloaded {}", if *ok { "" } else { "refused" }).trim_end().to_owned(),
        Entry::Autonomous { found } => format!("autonomous {}", if found.is_empty() { "no more" } else { "traffic" }),
        Entry::MovedByOthers { at } => format!("moved-by-others, since {:.2}", at.mono as f64 / 1e6),
        Entry::AuthorityMoved { at } => format!("authority-moved, since {:.2}", at.mono as f64 / 1e6),
        entry => match watchover::domain::ledger::step_of(entry) {
            Some(step) => format!("{} {step}", entry.kind()),
            None => entry.kind().to_owned(),
        },
    };
    Some(format!("{at:8.2} {words}"))
}

fn entry_kind(record: &Record) -> &'static str {
    record.entry.kind()
}
