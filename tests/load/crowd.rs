//! Many apps under one real control, in virtual time. It is driven as `Control::run` drives it: what was seen is taken in
//! and decided on at once, and everybody decides at each pulse. Looks are answered in the moment they are sent, steps a
//! while later, and a wish for looks is fulfilled with the next turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchover::domain::decide::{App, Effect, Input, Tempo};
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{AppName, Cause, Finding, Look, Moment, SiteName, State, Subject, Verdict};
use watchover::domain::policy::{AppPolicy, FleetPolicy, Pace};
use watchover::ports::{Journal, JournalError};
use watchover::runtime::clock::{Clock, Hand};
use watchover::runtime::control::{Control, Fleet, Hands, Message};
use watchover::runtime::hands::DaemonHands;

use crate::sim::prompt::{self, Done};
use crate::sim::{self, MILLI, MemJournal, SECOND, WALL};

/// The world moves in turns of that length.
pub const TURN: i64 = 20 * MILLI;
/// The control's pulse while anything is open.
pub const PULSE: i64 = 100 * MILLI;
/// A step's question is answered that much later.
const ANSWER: i64 = 60 * MILLI;
/// Time between an app's looks.
pub const INTERVAL: i64 = SECOND;
/// The same of its front door while it moves.
const URGENT: i64 = 60 * MILLI;
/// Lag is read that seldom.
const LAG: i64 = 15 * SECOND;

type Told = Arc<Mutex<Vec<(AppName, Wish)>>>;

/// What the hands were told of one app.
enum Wish {
    Effect(Effect, String, u64),
    Pace(Tempo),
}

/// Keeps what is to be carried out for the world; what is shown is shown by the daemon's own hands, if there are some.
pub struct CrowdHands {
    told: Told,
    shows: Option<DaemonHands>,
}

impl Hands for CrowdHands {
    fn carry_out(&mut self, app: &App, effect: &Effect, _now: Moment) {
        let incident = app.ledger().incident.as_ref().map(|open| open.id.clone()).unwrap_or_default();
        self.told.lock().unwrap().push((app.policy().name.clone(), Wish::Effect(effect.clone(), incident, app.epoch())));
    }
    fn pace(&mut self, app: &AppName, tempo: Tempo) {
        self.told.lock().unwrap().push((app.clone(), Wish::Pace(tempo)));
    }
    fn let_go(&mut self, _app: &AppName) {}
    fn written(&mut self, records: &[Record]) {
        if let Some(shows) = &mut self.shows {
            shows.written(records);
        }
    }
    fn show(&mut self, fleet: &Fleet, now: Moment) {
        if let Some(shows) = &mut self.shows {
            shows.show(fleet, now);
        }
    }
}

/// A journal whose every transaction takes a while on the world's clock, as on a disk.
struct Disk {
    inner: Box<dyn Journal>,
    hand: Hand,
    takes: i64,
    transactions: Arc<AtomicU64>,
}

impl Journal for Disk {
    fn append(&mut self, records: &[Record]) -> Result<i64, JournalError> {
        self.hand.0.fetch_add(self.takes, Ordering::SeqCst);
        self.hand.1.fetch_add(self.takes, Ordering::SeqCst);
        self.transactions.fetch_add(1, Ordering::SeqCst);
        self.inner.append(records)
    }
    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        self.inner.replay()
    }
}

/// What the world knows of one app.
#[derive(Default)]
struct Place {
    down: bool,
    done: Done,
    tempo: Tempo,
    look: i64,
    front: i64,
    lag: i64,
}

/// What is different from an ordinary crowd.
#[derive(Default)]
pub struct Unusual {
    /// What a transaction takes on the world's clock, microseconds.
    pub disk: i64,
    /// Who shows what is shown; nobody by default.
    pub shows: Option<DaemonHands>,
    /// Where rows go; memory by default.
    pub journal: Option<Box<dyn Journal>>,
    /// Steps are never answered.
    pub silent: bool,
}

pub struct Crowd {
    pub control: Control<CrowdHands>,
    pub rows: Arc<Mutex<Vec<Record>>>,
    /// Transactions that the journal took.
    pub transactions: Arc<AtomicU64>,
    told: Told,
    hand: Hand,
    places: BTreeMap<AppName, Place>,
    answers: BTreeMap<i64, Vec<(AppName, Input)>>,
    due: i64,
    silent: bool,
}

impl Crowd {
    /// So many apps, each a group of its own, of ten priorities; `limit` groups may move at once.
    pub fn new(apps: usize, limit: usize, unusual: Unusual) -> Crowd {
        let hand: Hand = Arc::new((AtomicI64::new(0), AtomicI64::new(WALL)));
        let (told, memory, transactions) = (Told::default(), MemJournal::default(), Arc::default());
        let inner = unusual.journal.unwrap_or_else(|| Box::new(memory.clone()));
        let disk = Disk { inner, hand: Arc::clone(&hand), takes: unusual.disk, transactions: Arc::clone(&transactions) };
        let fleet = FleetPolicy { need_up: 1, witnesses: 1, max_concurrent_groups: limit };
        let policies: Vec<Arc<AppPolicy>> = (0..apps).map(|at| Arc::new(policy(at))).collect();
        let control = Control::open(
            Box::new(disk),
            &policies,
            &fleet,
            Entry::Started { version: "test".into(), observer: "crowd".into(), config: String::new() },
            CrowdHands { told: Arc::clone(&told), shows: unusual.shows },
            Clock::held(Arc::clone(&hand)),
            "boot-1".into(),
            Arc::new(AtomicU64::new(0)),
        );
        let places = policies.iter().map(|policy| (policy.name.clone(), Place::default())).collect();
        let (control, silent) = (control.unwrap(), unusual.silent);
        let mut crowd = Crowd { control, rows: memory.rows, transactions, told, hand, places, answers: BTreeMap::new(), due: 0, silent };
        crowd.work();
        crowd
    }

    /// The primaries of all are gone, or are back.
    pub fn down(&mut self, down: bool) {
        self.places.values_mut().for_each(|place| place.down = down);
    }

    pub fn now(&self) -> i64 {
        self.hand.0.load(Ordering::SeqCst)
    }

    /// Apps in that state.
    pub fn in_state(&self, state: State) -> usize {
        self.control.fleet().apps.values().filter(|app| app.ledger().state == state).count()
    }

    /// Lets time pass.
    pub fn run(&mut self, seconds: f64) {
        let until = self.now() + (seconds * 1e6) as i64;
        while self.now() < until {
            self.turn();
        }
    }

    /// Lets time pass until it is so, at the most that long.
    pub fn run_until(&mut self, seconds: f64, what: &str, is_so: impl Fn(&Crowd) -> bool) {
        let until = self.now() + (seconds * 1e6) as i64;
        while !is_so(self) {
            assert!(
                self.now() < until,
                "not within {seconds}s: {what}; in each state: {:?}",
                State::ALL.iter().map(|state| (state, self.in_state(*state))).collect::<Vec<_>>()
            );
            self.turn();
        }
    }

    /// Time alone.
    pub fn pass(&mut self, micros: i64) {
        self.hand.0.fetch_add(micros, Ordering::SeqCst);
        self.hand.1.fetch_add(micros, Ordering::SeqCst);
    }

    /// One turn of the world: what is due is seen, and decided on. True if it was a pulse.
    pub fn turn(&mut self) -> bool {
        let at = (self.now() / TURN + 1) * TURN;
        self.hand.0.store(at, Ordering::SeqCst);
        self.hand.1.store(WALL + at, Ordering::SeqCst);
        let heard = self.see(at);
        let pulsed = at >= self.due;
        if pulsed {
            self.due = at + PULSE;
        }
        if heard || pulsed {
            self.control.tick(pulsed);
            self.work();
        }
        pulsed
    }

    /// Whatever is due by then reaches the control.
    fn see(&mut self, at: i64) -> bool {
        let now = Moment { mono: at, wall: WALL + at };
        let look = |subject: Subject, finding: Finding| Look { subject, sent: now, done: now, finding };
        let mut messages = Vec::new();
        for (name, place) in &mut self.places {
            let mut seen = |subject, finding| messages.push(Message::Seen(name.clone(), Input::Look(look(subject, finding))));
            let gone = if place.down { Verdict::Down(Cause::Refused) } else { Verdict::Up };
            if at >= place.look {
                place.look = at + INTERVAL;
                seen(Subject::Signal(SiteName::Primary, 0), Finding::new(gone, "scripted"));
                seen(Subject::Signal(SiteName::Standby, 0), Finding::new(Verdict::Up, "scripted"));
            }
            if at >= place.lag {
                place.lag = at + LAG;
                seen(Subject::Signal(SiteName::Standby, 1), prompt::follows(now.wall));
            }
            if at >= place.front {
                place.front = at + if place.tempo == Tempo::Urgent { URGENT } else { INTERVAL };
                let moved = place.done.contains("traffic");
                let mut front = Finding::new(if moved { Verdict::Up } else { gone }, "scripted");
                let from = if moved { SiteName::Standby } else { SiteName::Primary };
                front.from = (front.verdict == Verdict::Up).then_some(from);
                seen(Subject::FrontDoor, front);
            }
        }
        let later = self.answers.split_off(&(at + 1));
        let answers = std::mem::replace(&mut self.answers, later);
        messages.extend(answers.into_values().flatten().map(|(name, input)| Message::Seen(name, input)));
        let heard = !messages.is_empty();
        messages.into_iter().for_each(|message| self.control.handle(message));
        self.control.handle(Message::Witness(0, look(Subject::FrontDoor, Finding::new(Verdict::Up, "scripted"))));
        heard
    }

    /// Takes up what the hands were told.
    fn work(&mut self) {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let now = Moment { mono: self.now(), wall: WALL + self.now() };
        for (name, wish) in told {
            let Some(place) = self.places.get_mut(&name) else { continue };
            let (effect, incident, epoch) = match wish {
                Wish::Pace(tempo) => {
                    place.tempo = tempo;
                    place.front = place.front.min(now.mono + if tempo == Tempo::Urgent { URGENT } else { INTERVAL });
                    continue;
                }
                Wish::Effect(Effect::LookNow, ..) => {
                    (place.look, place.front) = (now.mono, now.mono);
                    continue;
                }
                Wish::Effect(effect, incident, epoch) => (effect, incident, epoch),
            };
            if self.silent && !matches!(effect, Effect::Preflight(_)) {
                continue;
            }
            let Some(input) = place.done.carry_out(&effect, incident, epoch, now) else { continue };
            self.answers.entry(now.mono + ANSWER).or_default().push((name, input));
        }
    }
}

fn policy(at: usize) -> AppPolicy {
    let name = format!("app-{at:04}");
    let interval = Duration::from_micros(INTERVAL.unsigned_abs());
    let mut policy = AppPolicy {
        name: name.as_str().into(),
        group: name,
        // Neighbours by name are none by priority.
        priority: (at as i64 * 7) % 10,
        front_door: Pace { interval, fast_interval: interval, timeout: interval },
        ..sim::policy()
    };
    for site in [&mut policy.primary, &mut policy.standby] {
        site.signals.iter_mut().filter(|signal| !signal.replica).for_each(|signal| signal.fast_interval = interval);
    }
    policy
}

/// The priority of an app of that name, as its policy has it.
pub fn priority(name: &str) -> i64 {
    policy(name.rsplit_once('-').and_then(|(_, at)| at.parse().ok()).unwrap()).priority
}
