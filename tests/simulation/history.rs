//! One history: a world, a daemon in it, and everything that goes wrong, from one seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use watchover::domain::ledger::{Entry, Ledger, Record};
use watchover::domain::model::{Direction, Mode, SiteName, State};
use watchover::domain::plan::{Class, Plan};
use watchover::domain::policy::{AppPolicy, OnRpoExceeded, Window};
use watchover::lab::world::{Ask, SiteName as Site, SiteReply};
use watchover::runtime::metrics::Metrics;

use crate::coverage::Coverage;
use crate::deeds::{Deed, HALF_DEAD, script};
use crate::doors::lag_is_whole;
use crate::invariants;
use crate::life::{Daemon, Machine};
use crate::panics;
use crate::stage::{Disk, Shared, Stage, lock};

/// The plan's steps.
pub const STEPS: &[&str] = &["fence", "promote", "capacity", "traffic", "back"];
/// Within this time after everything is mended, an app is at rest, or waits for a person and says so.
pub const SETTLES: Duration = Duration::from_secs(120);
/// Until the newest sample of a metric that fell silent is too old.
const METRIC_IS_OLD: Duration = Duration::from_secs(330);
/// Until a metric that is mended has a datapoint that one can read: one a minute, two minutes late.
const DATAPOINT: Duration = Duration::from_secs(200);
/// Until a rate tells for long that a site is half dead: two windows, and time to decide.
const HALF_DEAD_FOR: Duration = Duration::from_secs(80);
/// How often users write.
const WRITES_EVERY: Duration = Duration::from_millis(400);
/// How often the state is judged while nothing is written: requests alone can break something, too.
const JUDGED_EVERY: Duration = Duration::from_millis(250);
/// How often in a row an app may be judged undecided: what a disk kept back is decided soon after.
const UNDECIDED: u32 = 20;

/// What came of a history.
pub struct End {
    pub coverage: Coverage,
    /// Simulated time.
    pub took: Duration,
    /// Incidents that were opened in it.
    pub incidents: u64,
    /// Its journal.
    pub rows: Vec<Record>,
    /// What was done in it.
    pub told: Vec<String>,
}

/// Rows in words, with the seconds at which they were written and the takeover that wrote them.
pub fn said(rows: &[Record]) -> Vec<String> {
    let line = |row: &Record| format!("{:>9.3} {} {}: {}", row.at.mono as f64 / 1e6, row.epoch, row.entry.kind(), row.entry.words());
    rows.iter().map(line).collect()
}

/// The reference's policy with deadlines that fit into a history.
fn policy(rng: &mut SmallRng) -> AppPolicy {
    let seconds = Duration::from_secs;
    let mut policy = crate::sim::policy();
    policy.mode =
        *[Mode::Automatic, Mode::Automatic, Mode::Automatic, Mode::Approval, Mode::Observe].choose(rng).unwrap_or(&Mode::Automatic);
    policy.on_rpo_exceeded = *OnRpoExceeded::ALL.choose(rng).unwrap_or(&OnRpoExceeded::Hold);
    policy.rpo_objective = seconds(*[60, 300, 300].choose(rng).unwrap_or(&300));
    (policy.startup_grace, policy.cooldown, policy.approval_timeout) = (seconds(5), seconds(30), seconds(30));
    (policy.move_timeout, policy.prove_timeout) = (seconds(60), seconds(20));
    for (step, deadline) in policy.failover.steps.iter_mut().zip([5, 30, 20, 15]) {
        step.deadline = seconds(deadline);
    }
    for signal in policy.primary.signals.iter_mut().chain(&mut policy.standby.signals) {
        signal.window = signal.window.map(|window| Window { span: seconds(30), ..window });
    }
    let mut back = policy.failover.steps[3].clone();
    (back.name, back.after, back.class) = ("back".into(), Vec::new(), Class::Traffic);
    policy.failback = Plan { direction: Direction::ToPrimary, steps: vec![back] };
    policy
}

/// A running history.
pub struct History {
    pub stage: Shared,
    machine: Machine,
    step: Arc<AtomicI64>,
    pub daemon: Option<Daemon>,
    policy: AppPolicy,
    metrics: Arc<Metrics>,
    pub rng: SmallRng,
    judged: (usize, usize),
    undecided: u32,
    pub told: Vec<String>,
}

/// Plays one history. `Err`: what was violated, with the history's words.
pub async fn play(seed: u64, keep: Option<&[usize]>, metrics: &Arc<Metrics>) -> Result<End, (String, Vec<String>)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let policy = policy(&mut rng);
    let calm = Duration::from_millis(rng.random_range(1_000..9_000));
    let deeds = script(&mut rng);
    let stage: Shared = Arc::new(std::sync::Mutex::new(Stage::new(seed)));
    let step: Arc<AtomicI64> = Arc::default();
    let machine = Machine::new(&stage, &step);
    let mut history = History {
        stage,
        machine,
        step,
        daemon: None,
        policy,
        metrics: Arc::clone(metrics),
        rng,
        judged: (0, 0),
        undecided: 0,
        told: Vec::new(),
    };
    match history.run(calm, deeds, keep).await {
        Ok(()) => Ok(history.end()),
        Err(words) => {
            let mut told = std::mem::take(&mut history.told);
            told.extend(said(&lock(&history.stage).rows));
            history.bury();
            Err((words, told))
        }
    }
}

impl History {
    async fn run(&mut self, calm: Duration, deeds: Vec<(Duration, Deed)>, keep: Option<&[usize]>) -> Result<(), String> {
        self.boot(false)?;
        self.pass(calm).await?;
        for (at, (wait, deed)) in deeds.into_iter().enumerate() {
            self.pass(wait).await?;
            // A shrunk history keeps the times of what is left.
            if keep.is_none_or(|keep| keep.contains(&at)) {
                self.told.push(format!("{:>9.3} #{at} {deed:?}", self.now()));
                self.act(deed).await?;
            }
        }
        self.pass(Duration::from_secs(5)).await?;
        lock(&self.stage).mend();
        self.told.push(format!("{:>9.3} everything is mended", self.now()));
        // Somebody sets the clock right, too: by one that is minutes ahead every datapoint is old.
        self.step.store(0, Ordering::SeqCst);
        // A metric that lied or was silent is whole with its next datapoint.
        let whole = {
            let mut stage = lock(&self.stage);
            let now = stage.now();
            lag_is_whole(&mut stage.world, now)
        };
        if !whole {
            self.boot(false)?;
            self.pass(DATAPOINT).await?;
        }
        let rest = self.settle().await?;
        // What is at home again by a person's command came home whole.
        if rest.state == State::Watching && rest.active == Some(SiteName::Standby) && self.rng.random_bool(0.3) {
            self.go_home().await?;
        }
        Ok(())
    }

    pub fn now(&self) -> f64 {
        lock(&self.stage).now() as f64 / 1e3
    }

    fn end(mut self) -> End {
        self.bury();
        let mut stage = lock(&self.stage);
        let (incidents, rows) = (stage.coverage.count("entry opened"), std::mem::take(&mut stage.rows));
        let (coverage, took) = (stage.coverage.clone(), Duration::from_millis(stage.now()));
        drop(stage);
        End { coverage, took, incidents, rows, told: self.told }
    }

    fn bury(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            lock(&self.stage).kill();
            daemon.bury();
        }
    }

    /// Lets time pass: users write, and every change is judged.
    pub async fn pass(&mut self, wait: Duration) -> Result<(), String> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let now = tokio::time::Instant::now();
            if now >= until {
                return Ok(());
            }
            panics::heard()?;
            if self.daemon.as_ref().is_some_and(Daemon::is_over) {
                return Err("died: the control ended by itself".into());
            }
            let died = Arc::clone(&lock(&self.stage).died);
            let next = until.min(now + JUDGED_EVERY.min(WRITES_EVERY));
            tokio::select! {
                biased;
                () = died.notified() => {
                    self.told.push(format!("{:>9.3} the process died", self.now()));
                    self.check_journal()?;
                    if let Some(daemon) = self.daemon.take() {
                        daemon.bury();
                    }
                }
                () = tokio::time::sleep_until(next) => {}
            }
            self.write();
            self.judge()?;
        }
    }

    fn write(&self) {
        let mut stage = lock(&self.stage);
        let now = stage.now();
        if now % 400 < 250
            && let Some(word) = stage.users_go()
        {
            let site = if word == "primary" { Site::Primary } else { Site::Standby };
            drop(stage.world.site_request(site, Ask::Write, now));
        }
    }

    fn judge(&mut self) -> Result<(), String> {
        let stage = lock(&self.stage);
        // Where a disk takes nothing, nothing is decided.
        let undecided = self.daemon.is_some() && stage.disk == Disk::Well;
        let words = invariants::undecided(&stage, &self.policy, self.machine.clock.now().mono).filter(|_| undecided);
        self.undecided = if words.is_some() { self.undecided + 1 } else { 0 };
        if let Some(words) = words.filter(|_| self.undecided > UNDECIDED) {
            return Err(format!("decides: {words}"));
        }
        let seen = (stage.rows.len(), stage.requests.len());
        if self.judged == seen {
            return Ok(());
        }
        let from = std::mem::replace(&mut self.judged, seen).0;
        invariants::running(&stage, &self.policy, from)
    }

    fn check_journal(&self) -> Result<(), String> {
        let stage = lock(&self.stage);
        invariants::journal_is_the_state(&stage, &self.machine.boot_id(), self.machine.clock.now(), None)
    }

    fn boot(&mut self, reboot: bool) -> Result<(), String> {
        if self.daemon.is_some() {
            return Ok(());
        }
        if reboot {
            let boots = self.machine.boots + 1;
            self.machine = Machine { boots, ..Machine::new(&self.stage, &self.step) };
            lock(&self.stage).coverage.fault("machine-rebooted");
        }
        let life = lock(&self.stage).life;
        match Daemon::start(&self.stage, &self.machine, &self.policy, &self.metrics) {
            Ok(daemon) => self.daemon = Some(daemon),
            Err(words) => {
                let stage = lock(&self.stage);
                // It may meet its death on the way up as well.
                let excused = stage.disk == Disk::Full || stage.life != life;
                drop(stage);
                self.told.push(format!("{:>9.3} it does not start: {words}", self.now()));
                if !excused {
                    return Err(format!("start: refused with a well disk: {words}"));
                }
            }
        }
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let mut stage = lock(&self.stage);
            stage.kill();
            stage.coverage.fault("killed");
            drop(stage);
            daemon.bury();
        }
    }

    async fn act(&mut self, deed: Deed) -> Result<(), String> {
        match deed {
            Deed::Kill => self.kill(),
            Deed::Boot { reboot } => {
                if self.daemon.is_none() {
                    lock(&self.stage).coverage.fault("restarted");
                    self.boot(reboot)?;
                }
            }
            Deed::JournalLost => {
                self.kill();
                let mut stage = lock(&self.stage);
                stage.rows.clear();
                stage.requests.clear();
                stage.coverage.fault("journal-lost");
                stage.coverage.begin();
                drop(stage);
                self.judged = (0, 0);
                self.boot(false)?;
            }
            Deed::Paused(length) => {
                lock(&self.stage).coverage.fault("process-paused");
                // Every timer of the process fires late by this; the world goes on meanwhile.
                tokio::time::advance(length).await;
            }
            Deed::ClockStep(by) => {
                self.step.fetch_add(by, Ordering::SeqCst);
                lock(&self.stage).coverage.fault("clock-step");
            }
            Deed::Reload(change) => {
                change.made(&mut self.policy);
                if let Some(daemon) = &self.daemon {
                    lock(&self.stage).coverage.fault(change.name());
                    daemon.reload(&self.policy).await;
                }
            }
            Deed::MetricForLong(mode) => {
                lock(&self.stage).undergo(Deed::Metric(mode));
                self.pass(METRIC_IS_OLD).await?;
            }
            Deed::HalfDead(site) => {
                lock(&self.stage).undergo(Deed::Mode(site, HALF_DEAD));
                lock(&self.stage).coverage.fault("site-half-dead");
                self.pass(HALF_DEAD_FOR).await?;
            }
            Deed::Person(which) => self.person(which).await,
            other => lock(&self.stage).undergo(other),
        }
        Ok(())
    }

    /// With everything mended, and a person who answers where one is waited for, the app comes to rest.
    pub async fn settle(&mut self) -> Result<Ledger, String> {
        self.boot(false)?;
        let until = tokio::time::Instant::now() + SETTLES;
        let (mut at_rest, mut tries) = (0, 0);
        while tokio::time::Instant::now() < until {
            self.pass(Duration::from_secs(3)).await?;
            let Some(daemon) = &self.daemon else { return Err("settles: the daemon died of nothing".into()) };
            let ledger = daemon.ledger();
            at_rest = if self.is_rest(&ledger) { at_rest + 1 } else { 0 };
            if at_rest >= 3 {
                let mut stage = lock(&self.stage);
                invariants::journal_is_the_state(&stage, &self.machine.boot_id(), daemon.born, Some(&ledger))?;
                invariants::strays_are_told(&stage)?;
                right_for_the_world(&mut stage, &ledger)?;
                return Ok(ledger);
            }
            self.answer(&ledger, &mut tries).await?;
        }
        let ledger = self.daemon.as_ref().map(Daemon::ledger).unwrap_or_default();
        Err(format!("settles: {} since {:.1}s, with everything mended", ledger.state, ledger.since.mono as f64 / 1e6))
    }

    /// Watching; or held off a site that truly serves nobody, as its machines are gone by somebody's order: that is a
    /// person's to mend, and the gates say so.
    fn is_rest(&self, ledger: &Ledger) -> bool {
        let site = if ledger.active == Some(SiteName::Standby) { Site::Standby } else { Site::Primary };
        let gone = lock(&self.stage).world.healthy_targets(site) == 0;
        ledger.state == State::Watching || (matches!(ledger.state, State::Held | State::AwaitingApproval) && gone)
    }
}

/// At rest, what the daemon believes is so; unless a person told it otherwise.
fn right_for_the_world(stage: &mut Stage, ledger: &Ledger) -> Result<(), String> {
    let followed = ["adopt", "skip", "abort"].iter().any(|order| stage.coverage.count(&format!("order {order} followed")) > 0);
    // An order may stand in the journal although the process died before it could say so.
    let written = stage.rows.iter().any(|row| matches!(row.entry, Entry::StepSkipped { .. } | Entry::AbortedBy { .. }));
    if followed || written {
        return Ok(());
    }
    let adopted = stage.rows.iter().any(|row| matches!(&row.entry, Entry::Active { by, .. } if by.who != "watchover"));
    let front: Vec<&str> = stage.world.front_door_sites(0).into_iter().collect();
    let active = ledger.active.map(|site| if site == SiteName::Primary { "primary" } else { "standby" });
    if !adopted && active.is_some_and(|active| front != [active]) {
        return Err(format!("settles: at rest with {active:?} active, and users are sent to {front:?}"));
    }
    if adopted || ledger.state != State::Watching {
        return Ok(());
    }
    let now = stage.now();
    let site = if front == ["standby"] { Site::Standby } else { Site::Primary };
    match stage.world.site_request(site, Ask::Write, now) {
        SiteReply::Answer { status: 200, .. } => Ok(()),
        reply => Err(format!("settles: at rest, and a user who writes to the {} gets {reply:?}", site.word())),
    }
}
