//! Several apps under one control, in virtual time: every look is answered at once, every step when it is asked again.

#![expect(clippy::unwrap_used, reason = "a harness that fails must fail its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchover::domain::decide::{App, Effect, Input, Tempo};
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{AppName, Cause, Finding, Look, Mode, Moment, Outcome, SiteName, State, Subject, Verdict};
use watchover::domain::policy::{AppPolicy, FleetPolicy};
use watchover::domain::report::{Inspection, Report};
use watchover::runtime::clock::{Clock, Hand};
use watchover::runtime::control::{Control, Fleet, Hands, Message};

use super::sim::prompt::{self, Done};
use super::sim::{self, MILLI, MemJournal, SECOND, WALL};

const TICK: i64 = 250 * MILLI;

/// App, effect, incident and epoch of what is to be carried out; and who was let go.
#[derive(Default)]
struct Told {
    effects: Vec<(AppName, Effect, String, u64)>,
    gone: Vec<String>,
}

#[derive(Clone, Default)]
struct ManyHands(Arc<Mutex<Told>>);

impl Hands for ManyHands {
    fn carry_out(&mut self, app: &App, effect: &Effect, _now: Moment) {
        let incident = app.ledger().incident.as_ref().map(|open| open.id.clone()).unwrap_or_default();
        self.0.lock().unwrap().effects.push((app.policy().name.clone(), effect.clone(), incident, app.epoch()));
    }
    fn pace(&mut self, _app: &AppName, _tempo: Tempo) {}
    fn let_go(&mut self, app: &AppName) {
        self.0.lock().unwrap().gone.push(app.to_string());
    }
    fn written(&mut self, _records: &[Record]) {}
    fn show(&mut self, _fleet: &Fleet, _now: Moment) {}
}

/// What the world knows of one app.
#[derive(Default)]
struct Place {
    verdict: Option<Verdict>,
    done: Done,
    /// Until then no step can be done yet.
    slow_until: i64,
}

/// What of an app's policy is not as usual.
#[derive(Debug, Clone, Copy, Default)]
struct Tuned {
    mode: Option<Mode>,
    min_outage: Option<Duration>,
}

pub struct Many {
    control: Control<ManyHands>,
    hands: ManyHands,
    hand: Hand,
    journal: MemJournal,
    places: BTreeMap<String, Place>,
    tuned: BTreeMap<String, Tuned>,
    pub most_groups_at_once: usize,
}

type Named<'a> = (&'a str, &'a str, i64);

impl Many {
    /// Apps by name, group and priority; one group may move at a time.
    pub fn new(apps: &[Named<'_>]) -> Many {
        let hand: Hand = Arc::new((AtomicI64::new(0), AtomicI64::new(WALL)));
        let (hands, journal) = (ManyHands::default(), MemJournal::default());
        let started = Entry::Started { version: "test".into(), observer: "many".into(), config: String::new() };
        let tuned = BTreeMap::new();
        let control = Control::open(
            Box::new(journal.clone()),
            &policies(apps, &tuned),
            &fleet(),
            started,
            hands.clone(),
            Clock::held(Arc::clone(&hand)),
            "boot-1".into(),
            Arc::new(AtomicU64::new(0)),
        );
        let mut many = Many { control: control.unwrap(), hands, hand, journal, places: BTreeMap::new(), tuned, most_groups_at_once: 0 };
        many.work();
        many
    }

    pub fn reload(&mut self, apps: &[Named<'_>]) {
        let (done, _answer) = tokio::sync::oneshot::channel();
        self.control.handle(Message::Reload(policies(apps, &self.tuned), fleet(), done));
        self.work();
    }

    pub fn mode(&mut self, app: &str, mode: Mode) {
        self.tuned.entry(app.into()).or_default().mode = Some(mode);
        self.retune();
    }

    pub fn min_outage(&mut self, app: &str, length: Duration) {
        self.tuned.entry(app.into()).or_default().min_outage = Some(length);
        self.retune();
    }

    fn retune(&mut self) {
        let apps: Vec<(String, String, i64)> = self
            .control
            .fleet()
            .apps
            .values()
            .map(|app| (app.policy().name.to_string(), app.policy().group.clone(), app.policy().priority))
            .collect();
        let apps: Vec<Named<'_>> = apps.iter().map(|(name, group, priority)| (name.as_str(), group.as_str(), *priority)).collect();
        self.reload(&apps);
    }

    fn place(&mut self, app: &str) -> &mut Place {
        self.places.entry(app.into()).or_default()
    }

    /// The app's primary refuses, or answers again.
    pub fn down(&mut self, app: &str, down: bool) {
        self.place(app).verdict = down.then_some(Verdict::Down(Cause::Refused));
    }

    /// Nobody can tell how the app's primary is.
    pub fn blind(&mut self, app: &str) {
        self.place(app).verdict = Some(Verdict::Unknown(Cause::ResolverTimeout));
    }

    /// The app's steps cannot be done for that long.
    pub fn slow(&mut self, app: &str, seconds: i64) {
        let until = self.now() + seconds * SECOND;
        self.place(app).slow_until = until;
    }

    pub fn run(&mut self, seconds: f64) {
        let until = self.now() + (seconds * 1e6) as i64;
        while self.now() < until {
            self.hand.0.fetch_add(TICK, Ordering::SeqCst);
            self.hand.1.fetch_add(TICK, Ordering::SeqCst);
            self.look();
            self.control.tick(true);
            self.work();
            let moving = |app: &&App| matches!(app.ledger().state, State::Moving | State::Proving);
            let groups: BTreeSet<&str> = self.control.fleet().apps.values().filter(moving).map(|app| app.policy().group.as_str()).collect();
            self.most_groups_at_once = self.most_groups_at_once.max(groups.len());
        }
    }

    fn now(&self) -> i64 {
        self.hand.0.load(Ordering::SeqCst)
    }

    fn moment(&self) -> Moment {
        Moment { mono: self.now(), wall: WALL + self.now() }
    }

    fn look(&mut self) {
        let at = self.moment();
        let look = |subject: Subject, finding: Finding| Look { subject, sent: at, done: at, finding };
        for name in self.control.fleet().apps.keys().cloned().collect::<Vec<_>>() {
            let place = self.places.entry(name.to_string()).or_default();
            let primary = place.verdict.unwrap_or(Verdict::Up);
            let moved = place.done.contains("traffic");
            let mut front = Finding::new(if moved { Verdict::Up } else { primary }, "scripted");
            front.from = (front.verdict == Verdict::Up).then_some(if moved { SiteName::Standby } else { SiteName::Primary });
            for look in [
                look(Subject::Signal(SiteName::Primary, 0), Finding::new(primary, "scripted")),
                look(Subject::Signal(SiteName::Standby, 0), Finding::new(Verdict::Up, "scripted")),
                look(Subject::Signal(SiteName::Standby, 1), prompt::follows(at.wall)),
                look(Subject::FrontDoor, front),
            ] {
                self.control.handle(Message::Seen(name.clone(), Input::Look(look)));
            }
        }
        self.control.handle(Message::Witness(0, look(Subject::FrontDoor, Finding::new(Verdict::Up, "scripted"))));
    }

    /// Does what the hands were told; answers reach the control with the next tick.
    fn work(&mut self) {
        let told = std::mem::take(&mut self.hands.0.lock().unwrap().effects);
        let now = self.moment();
        for (app, effect, incident, epoch) in told {
            let place = self.places.entry(app.to_string()).or_default();
            let input = match &effect {
                Effect::Inspect { step } if now.mono < place.slow_until && !place.done.contains(step) => {
                    let report = Report::Inspected(Ok(Inspection::NotYet("slow".into())));
                    Some(Input::Step { incident, epoch, step: step.clone(), report })
                }
                _ => place.done.carry_out(&effect, incident, epoch, now),
            };
            if let Some(input) = input {
                self.control.handle(Message::Seen(app, input));
            }
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.control.fleet().apps.keys().map(ToString::to_string).collect()
    }

    /// Apps that were let go, sorted.
    pub fn let_go(&self) -> Vec<String> {
        let mut gone = self.hands.0.lock().unwrap().gone.clone();
        gone.sort();
        gone
    }

    pub fn state(&self, app: &str) -> State {
        self.control.fleet().apps[app].ledger().state
    }

    pub fn active(&self, app: &str) -> Option<SiteName> {
        self.control.fleet().apps[app].ledger().active
    }

    /// The apps of the rows that are meant, in their order.
    pub fn rows(&self, meant: impl Fn(&Entry) -> bool) -> Vec<String> {
        self.journal.rows.lock().unwrap().iter().filter(|row| meant(&row.entry)).filter_map(|row| row.app.clone()).collect()
    }

    pub fn outcomes(&self, app: &str) -> Vec<Outcome> {
        let rows = self.journal.rows.lock().unwrap();
        let of = rows.iter().filter(|row| row.app.as_deref() == Some(app));
        of.filter_map(|row| if let Entry::Closed { outcome, .. } = &row.entry { Some(*outcome) } else { None }).collect()
    }
}

fn fleet() -> FleetPolicy {
    FleetPolicy { need_up: 1, witnesses: 1, max_concurrent_groups: 1 }
}

fn policies(apps: &[Named<'_>], tuned: &BTreeMap<String, Tuned>) -> Vec<Arc<AppPolicy>> {
    let policy = |(name, group, priority): &Named<'_>| {
        let (tuned, usual) = (tuned.get(*name).copied().unwrap_or_default(), sim::policy());
        AppPolicy {
            name: (*name).into(),
            group: (*group).into(),
            priority: *priority,
            mode: tuned.mode.unwrap_or(Mode::Automatic),
            min_outage: tuned.min_outage.unwrap_or(usual.min_outage),
            ..usual
        }
    };
    apps.iter().map(|app| Arc::new(policy(app))).collect()
}
