//! One life of the daemon: the real control, executor and probers, wired to the stage instead of the world.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchover::domain::decide::{App, Effect, Tempo};
use watchover::domain::ledger::{Entry, Ledger, Record};
use watchover::domain::model::{AppName, Moment, Subject};
use watchover::domain::orders::Order;
use watchover::domain::policy::{AppPolicy, FleetPolicy, Pace};
use watchover::lab::world::SiteName as Site;
use watchover::ports::{Probe, Step};
use watchover::runtime::beats::Beats;
use watchover::runtime::clock::Clock;
use watchover::runtime::control::{Control, Fleet, Followed, Hands, Message, NotDone};
use watchover::runtime::executor::Executor;
use watchover::runtime::hands::DaemonHands;
use watchover::runtime::metrics::Metrics;
use watchover::runtime::post::Post;
use watchover::runtime::probing::{Prober, Seen as SeenHook, Whose};
use watchover::runtime::supervisor::Supervisor;

use crate::doors::{Eye, SimJournal, SimProbe, subject};
use crate::stage::{Life, Seen, Shared, lock};
use crate::steps::SimStep;

/// The daemon's own hands, but for what only readers need; a dead process's hands do nothing.
struct SimHands {
    inner: DaemonHands,
    life: Life,
    ledger: Arc<std::sync::Mutex<Ledger>>,
}

impl SimHands {
    fn is_alive(&self) -> bool {
        lock(&self.life.stage).life == self.life.number
    }
}

impl Hands for SimHands {
    fn carry_out(&mut self, app: &App, effect: &Effect, now: Moment) {
        if self.is_alive() {
            self.inner.carry_out(app, effect, now);
        }
    }
    fn pace(&mut self, app: &AppName, tempo: Tempo) {
        self.inner.pace(app, tempo);
    }
    fn let_go(&mut self, app: &AppName) {
        self.inner.let_go(app);
    }
    fn written(&mut self, records: &[Record]) {
        self.inner.written(records);
    }
    fn show(&mut self, fleet: &Fleet, _now: Moment) {
        if !self.is_alive() {
            return;
        }
        if let Some(app) = fleet.apps.values().next() {
            let mut kept = self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *kept != *app.ledger() {
                *kept = app.ledger().clone();
            }
        }
    }
}

/// A running daemon.
pub struct Daemon {
    to: mpsc::Sender<Message>,
    stop: CancellationToken,
    control: JoinHandle<()>,
    ledger: Arc<std::sync::Mutex<Ledger>>,
    name: AppName,
    /// When it read its journal: what was written before the machine's last boot lies on its timeline as the wall clock had
    /// it then.
    pub born: Moment,
}

/// What a machine keeps from one life to the next.
#[derive(Clone)]
pub struct Machine {
    pub clock: Clock,
    pub boots: u32,
}

impl Machine {
    pub fn new(stage: &Shared, step: &Arc<AtomicI64>) -> Machine {
        let stage = lock(stage);
        let wall = stage.birth() + i64::try_from(stage.now()).unwrap_or(0) * 1_000;
        Machine { clock: Clock::stepped(wall, Arc::clone(step)), boots: 1 }
    }

    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.boots)
    }
}

impl Daemon {
    /// Starts a life. `Err`: it refused to start, in words.
    pub fn start(stage: &Shared, machine: &Machine, policy: &AppPolicy, metrics: &Arc<Metrics>) -> Result<Daemon, String> {
        let life = Life { stage: Arc::clone(stage), number: lock(stage).life };
        let (to, messages) = mpsc::channel::<Message>(4_096);
        let (stop, tasks, epoch) = (CancellationToken::new(), TaskTracker::new(), Arc::new(AtomicU64::new(0)));
        let builder = {
            let life = life.clone();
            Arc::new(move |step: &_| Ok(Arc::new(SimStep::new(life.clone(), step)) as Arc<dyn Step>))
        };
        let clock = machine.clock.clone();
        let executor =
            Executor::new(builder, clock.clone(), Arc::clone(&epoch), to.clone(), tasks.clone(), Handle::current(), stop.clone());
        let beats = Beats::new(stop.clone());
        let ears = beats.clone();
        let ledger: Arc<std::sync::Mutex<Ledger>> = Arc::default();
        let inner = DaemonHands {
            executor,
            beats,
            events: broadcast::Sender::new(16),
            status: watch::Sender::new(Arc::new(serde_json::Value::Null)),
            pending: watch::Sender::default(),
            summary: watch::Sender::default(),
            metrics: Arc::clone(metrics),
            // Nobody is told: the simulation has no receivers.
            post: Post::new(Supervisor::new(Handle::current(), stop.clone()), Arc::clone(metrics), "simulated".to_owned()),
            observer: "simulated".to_owned(),
            shown: None,
        };
        let hands = SimHands { inner, life: life.clone(), ledger: Arc::clone(&ledger) };
        let fleet = FleetPolicy { need_up: 1, witnesses: 1, max_concurrent_groups: 1 };
        let started = Entry::Started { version: "test".into(), observer: "simulated".into(), config: String::new() };
        let journal = Box::new(SimJournal { life: life.clone() });
        let policies = [Arc::new(policy.clone())];
        let mut control = Control::open(journal, &policies, &fleet, started, hands, clock.clone(), machine.boot_id(), epoch)
            .map_err(|error| error.to_string())?;
        let seen: SeenHook = {
            let (life, boot) = (life.clone(), Arc::<str>::from(machine.boot_id()));
            Arc::new(move |whose, look| {
                let subject = if let Whose::App(_, subject) = whose { Some(*subject) } else { None };
                let (sent, done, verdict) = (look.sent.mono, look.done.mono, look.finding.verdict);
                let boot = Arc::clone(&boot);
                let mut stage = lock(&life.stage);
                let rows = stage.rows.len() as i64;
                let from = look.finding.from;
                stage.seen.push(Seen { life: life.number, boot, subject, rows, sent, done, verdict, from });
            })
        };
        for eye in [Eye::Site(Site::Primary), Eye::Site(Site::Standby), Eye::Replica, Eye::FrontDoor, Eye::Authority, Eye::Witness] {
            let probe: Arc<dyn Probe> = Arc::new(SimProbe { life: life.clone(), eye });
            let front = policy.front_door;
            let pace = match subject(eye) {
                Some(Subject::Signal(site, at)) => {
                    let signal = &policy.site(site).signals[at];
                    Pace { interval: signal.interval, fast_interval: signal.fast_interval, timeout: signal.timeout }
                }
                Some(Subject::Authority) => Pace { interval: front.interval * 5, ..front },
                _ => front,
            };
            let whose = subject(eye).map_or(Whose::Witness(0), |subject| Whose::App(policy.name.clone(), subject));
            let beat = ears.hear(&whose);
            let prober = Prober { whose, probe, pace, beat, to: to.clone(), clock: clock.clone(), seen: Some(Arc::clone(&seen)) };
            tasks.spawn(prober.run(stop.clone()));
        }
        let control = {
            let stop = stop.clone();
            tasks.spawn(async move { control.run(messages, stop.cancelled(), |_| {}).await })
        };
        Ok(Daemon { to, stop, control, ledger, name: policy.name.clone(), born: machine.clock.now() })
    }

    /// True if its control is gone, which nobody told it to be.
    pub fn is_over(&self) -> bool {
        self.control.is_finished()
    }

    /// The state as the control last left it.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A person's word. `None`: the daemon died over it.
    pub async fn order(&self, order: Order) -> Option<Result<Followed, NotDone>> {
        let (tx, rx) = oneshot::channel();
        self.to.send(Message::Order(self.name.clone(), order, tx)).await.ok()?;
        // Beyond that the daemon is dead, and this is its operator giving up.
        tokio::time::timeout(std::time::Duration::from_secs(5), rx).await.ok()?.ok()
    }

    /// SIGHUP.
    pub async fn reload(&self, policy: &AppPolicy) {
        let (tx, rx) = oneshot::channel();
        let fleet = FleetPolicy { need_up: 1, witnesses: 1, max_concurrent_groups: 1 };
        if self.to.send(Message::Reload(vec![Arc::new(policy.clone())], fleet, tx)).await.is_ok() {
            drop(tokio::time::timeout(std::time::Duration::from_secs(5), rx).await);
        }
    }

    /// SIGKILL. The stage has been told already.
    pub fn bury(self) {
        self.control.abort();
        self.stop.cancel();
    }
}
