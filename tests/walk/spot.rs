//! One situation: the app, what surrounds it, what its executor is out for; composed as the control composes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use watchover::domain::decide::{App, Decision, Effect, Input, Tempo};
use watchover::domain::gates::{Around, Found, Preflight};
use watchover::domain::health::Last;
use watchover::domain::ledger::{Entry, Ledger, Record};
use watchover::domain::model::{
    Cause, Direction, Finding, LagSample, Look, Mode, Moment, ReplicaReading, ReplicaState, SiteName, State, Subject, Verdict,
};
use watchover::domain::moving::{Doing, LAST_LOOK, Work};
use watchover::domain::report::{ErrorClass, Report, StepError};
use watchover::runtime::control::ROUNDS;

use super::rules;
use super::stage::{FAST, INTERVAL, Stage, UNDO, policy};

/// The world's birth on the wall clock.
const WALL: i64 = 1_795_000_020_000_000;

/// How the replica's signal reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    Fresh,
    Behind,
    Broken,
    Promoted,
    Blind,
}

/// From where the front door answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    From(SiteName),
    Unsaid,
    Down,
    Unknown,
}

/// What every subject says, look for look.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// The primary's two signals, and the standby's web server.
    pub web: [Verdict; 3],
    pub replica: Replica,
    pub door: Door,
    pub authority: SiteName,
    pub witness: bool,
}

/// What the executor is out for.
#[derive(Debug, Clone)]
pub struct Job {
    pub on: Doing,
    pub until: Moment,
    pub incident: String,
    pub epoch: u64,
}

/// What a walk has met.
#[derive(Debug, Default)]
pub struct Tally {
    pub states: BTreeSet<State>,
    pub pairs: BTreeSet<(State, &'static str)>,
    pub effects: BTreeMap<&'static str, usize>,
    pub rounds: usize,
}

/// One situation.
#[derive(Clone)]
pub struct Spot {
    pub stage: Stage,
    pub app: App,
    pub around: Around,
    pub now: Moment,
    pub world: World,
    pub jobs: BTreeMap<String, Job>,
    /// What each step does, as the app was told: its own record of it is not shown.
    pub work: BTreeMap<String, &'static str>,
    pub others_move: bool,
    pub look_due: bool,
    pub preflight_due: Option<Direction>,
    /// So many decisions more the journal takes; `None`: it takes all.
    pub journal_takes: Option<usize>,
}

fn label(work: &Work) -> &'static str {
    match work {
        Work::Idle { .. } => "idle",
        Work::Out { on, .. } => errand(*on),
        Work::Back(_) => "back",
        Work::Permit { .. } => "permit",
    }
}

/// What the app is told to wait for; also where the executor was called back meanwhile.
pub fn errand(on: Doing) -> &'static str {
    match on {
        Doing::Inspect => "out-to-inspect",
        Doing::Apply => "out-to-apply",
        Doing::Verify => "out-to-verify",
        Doing::Undo => "out-to-undo",
    }
}

/// Whether a word of a step's work says that an errand is out for it.
pub fn is_out(work: &str) -> bool {
    work.starts_with("out-to-")
}

impl Spot {
    /// An empty ledger in a world where all is well and nothing was looked at yet.
    pub fn birth(stage: Stage, mode: Mode) -> Spot {
        let now = Moment { mono: 1_000_000_000, wall: WALL };
        let around = Around { started: now, awake: now, witnesses: vec![None], need_up: 1, max_groups: 1, ..Around::default() };
        Spot {
            stage,
            app: App::new(policy(stage, mode, false), Ledger::default(), 1),
            around,
            now,
            world: World {
                web: [Verdict::Up; 3],
                replica: Replica::Fresh,
                door: Door::From(SiteName::Primary),
                authority: SiteName::Primary,
                witness: true,
            },
            jobs: BTreeMap::new(),
            work: BTreeMap::new(),
            others_move: false,
            look_due: false,
            preflight_due: None,
            journal_takes: None,
        }
    }

    /// The name of the open incident.
    pub fn incident(&self) -> String {
        self.app.ledger().incident.as_ref().map_or_else(|| "none".to_owned(), |open| open.id.clone())
    }

    /// As the control names incidents: by the moment.
    pub fn new_id(&self) -> String {
        format!("shop-{}", self.now.mono)
    }

    fn look_at(&mut self, subject: Subject, finding: Finding) {
        self.app.observe(Input::Look(Look { subject, sent: self.now, done: self.now, finding }));
    }

    /// One look at one signal: the primary's two, the standby's, its replica.
    pub fn look_signal(&mut self, place: usize) {
        if let Some(verdict) = self.world.web.get(place).copied() {
            let (site, at) = if place == 2 { (SiteName::Standby, 0) } else { (SiteName::Primary, place) };
            return self.look_at(Subject::Signal(site, at), Finding::new(verdict, "as the world is"));
        }
        let (verdict, state, lag) = match self.world.replica {
            Replica::Fresh => (Verdict::Up, ReplicaState::Replicating, Some(1.0)),
            Replica::Behind => (Verdict::Up, ReplicaState::Degraded, Some(5_000.0)),
            Replica::Broken => (Verdict::Down(Cause::ReplicaError), ReplicaState::Error, None),
            Replica::Promoted => (Verdict::Down(Cause::NotAReplica), ReplicaState::NotAReplica, None),
            Replica::Blind => (Verdict::Unknown(Cause::LagUnknown), ReplicaState::LagUnknown, None),
        };
        // One datapoint a minute, dated like CloudWatch's: at the start of the last whole one.
        let at = self.now.wall.div_euclid(60_000_000) * 60_000_000 - 60_000_000;
        let samples = lag.map(|seconds| LagSample { at, period: 60_000_000, seconds }).into_iter().collect();
        let reading = Some(ReplicaReading { state, samples });
        self.look_at(Subject::Signal(SiteName::Standby, 1), Finding { replica: reading, ..Finding::new(verdict, "as the world is") });
    }

    /// One look at the front door.
    pub fn look_door(&mut self) {
        let (verdict, from) = match self.world.door {
            Door::From(site) => (Verdict::Up, Some(site)),
            Door::Unsaid => (Verdict::Up, None),
            Door::Down => (Verdict::Down(Cause::TimedOut), None),
            Door::Unknown => (Verdict::Unknown(Cause::ResolverTimeout), None),
        };
        self.look_at(Subject::FrontDoor, Finding { from, ..Finding::new(verdict, "as the world is") });
    }

    /// One look at what the zone's own servers say.
    pub fn look_authority(&mut self) {
        let from = Some(self.world.authority);
        self.look_at(Subject::Authority, Finding { from, ..Finding::new(Verdict::Up, "as the world is") });
    }

    /// One look at the witness.
    pub fn look_witness(&mut self) {
        let verdict = if self.world.witness { Verdict::Up } else { Verdict::Unknown(Cause::NoRoute) };
        self.around.witnesses = vec![Some(Last { sent: self.now, done: self.now, verdict, detail: "as the world is".into() })];
    }

    /// All of them at once.
    pub fn look_all(&mut self) {
        self.look_due = false;
        (0..4).for_each(|place| self.look_signal(place));
        self.look_door();
        self.look_authority();
        self.look_witness();
    }

    /// What a preflight found, the same of every step.
    pub fn preflight(&mut self, found: &Found, autonomy: BTreeMap<String, watchover::domain::autonomy::Autonomy>) {
        let direction = self.preflight_due.take().unwrap_or_else(|| self.app.direction());
        let plan = self.app.policy().plan_to(direction.target());
        let steps = plan.steps.iter().map(|step| (step.name.clone(), found.clone())).collect();
        self.app.observe(Input::Preflight(Preflight { at: self.now, direction, steps, autonomy }));
    }

    /// Our own loop stood still.
    pub fn gap(&mut self) {
        self.app.observe(Input::Gap(Duration::from_secs(10)));
        self.around.awake = self.now;
        self.around.witnesses = vec![None];
        self.forget_but_changes();
    }

    /// What was asked for is awaited.
    fn forget_but_changes(&mut self) {
        self.work.retain(|_, work| [errand(Doing::Apply), errand(Doing::Undo)].contains(work));
    }

    /// The process died and came back.
    pub fn restart(&mut self) {
        self.app = App::new(Arc::clone(self.app.policy()), self.app.ledger().clone(), self.app.epoch() + 1);
        self.around = Around { started: self.now, awake: self.now, witnesses: vec![None], ..self.around.clone() };
        self.jobs.clear();
        self.work.clear();
        (self.look_due, self.preflight_due) = (false, None);
    }

    /// Time passes and nothing changes: looks go on and say the same, what is out comes back as a timeout when its time is
    /// over. Until `done` says so; true if it did.
    pub fn pass(&mut self, length: Duration, tally: &mut Tally, done: impl Fn(&Spot) -> bool) -> Result<bool, String> {
        let end = self.now + length;
        while !done(self) {
            if self.now.mono >= end.mono {
                return Ok(false);
            }
            let usual = if self.app.tempo() == Tempo::Calm { INTERVAL } else { FAST };
            let step = if self.look_due { Duration::from_millis(300) } else { usual };
            self.now = self.now + step.min(end.since(self.now));
            self.look_all();
            self.time_out();
            self.settle(tally)?;
        }
        Ok(true)
    }

    fn time_out(&mut self) {
        if self.preflight_due.is_some() {
            self.preflight(&Found::Unknown("no answer in time".into()), BTreeMap::new());
        }
        let late: Vec<String> = self.jobs.iter().filter(|(_, job)| job.until.mono <= self.now.mono).map(|(step, _)| step.clone()).collect();
        for step in late {
            let error = || StepError::new(ErrorClass::Retry, "timeout", "no answer before the step's deadline");
            let report = match self.jobs[&step].on {
                Doing::Inspect => Report::Inspected(Err(error())),
                Doing::Apply => Report::Applied(Err(error())),
                Doing::Verify => Report::Verified(Err(error())),
                Doing::Undo => Report::Undone(Err(error())),
            };
            self.report(&step, report);
        }
    }

    /// The executor comes back from what it was out for.
    pub fn report(&mut self, step: &str, report: Report) {
        let over = !matches!(report, Report::Progress(_));
        let Some(job) = self.jobs.get(step).cloned() else { return };
        if over {
            self.jobs.remove(step);
            self.work.insert(step.to_owned(), "back");
        }
        self.app.observe(Input::Step { incident: job.incident, epoch: job.epoch, step: step.to_owned(), report });
    }

    /// Who moves, as the control surveys it.
    pub fn survey(&mut self) {
        let us = matches!(self.app.ledger().state, State::Moving | State::Proving).then(|| "shop".to_owned());
        self.around.moving = self.others_move.then(|| "other".to_owned()).into_iter().chain(us).collect();
    }

    /// Decides until nothing is left to decide.
    pub fn settle(&mut self, tally: &mut Tally) -> Result<(), String> {
        for round in 0..ROUNDS {
            self.survey();
            let Some(decision) = self.app.next(&self.around, self.now) else {
                tally.rounds = tally.rounds.max(round);
                return Ok(());
            };
            if !decision.entries.is_empty() && self.journal_takes.is_some() {
                if self.journal_takes == Some(0) {
                    self.around.journal_fault = Some("no space left".into());
                    return Ok(());
                }
                self.journal_takes = Some(0);
            }
            let id = self.new_id();
            self.carry(decision, &id, tally)?;
        }
        Err(format!("the decision did not come to rest within {ROUNDS} rounds"))
    }

    /// Writes, folds, has it done; and holds every entry and effect against the rules.
    pub fn carry(&mut self, decision: Decision, id: &str, tally: &mut Tally) -> Result<(), String> {
        let mut state = self.app.ledger().state;
        let mut incident = self.app.ledger().incident.as_ref().map(|open| open.id.clone());
        let mut records = Vec::new();
        for entry in &decision.entries {
            let kind = entry.kind();
            tally.pairs.insert((state, kind));
            state = entry.leads(state).ok_or_else(|| format!("{kind} was decided while {state}"))?;
            tally.states.insert(state);
            if matches!(entry, Entry::Opened { .. }) {
                incident = Some(id.to_owned());
            }
            let of = if let Entry::OldSiteSeen { incident, .. } = entry { Some(incident.clone()) } else { incident.clone() };
            if matches!(entry, Entry::Closed { .. }) {
                incident = None;
            }
            records.push(Record {
                seq: 1,
                at: self.now,
                boot_id: "boot".into(),
                app: Some("shop".into()),
                incident: of,
                epoch: self.app.epoch(),
                entry: entry.clone(),
            });
        }
        if !records.is_empty() {
            self.around.journal_fault = None;
        }
        // Only the rules of an apply look back.
        let applies = decision.effects.iter().any(|effect| matches!(effect, Effect::Apply { .. }));
        let before = if applies { self.app.ledger().clone() } else { Ledger::default() };
        self.app.commit(&records, decision.work.clone()).map_err(|illegal| format!("commit refused a decision: {illegal}"))?;
        if self.app.ledger().state != state {
            return Err(format!("the entries lead to {state}, and the ledger says {}", self.app.ledger().state));
        }
        self.follow(&decision);
        rules::work(&decision)?;
        for effect in &decision.effects {
            rules::effect(self, &before, &decision, effect)?;
            *tally.effects.entry(rules::name(effect)).or_default() += 1;
            self.have_done(effect);
        }
        self.awaits_nothing_in_vain()
    }

    /// Whoever waits for an answer has an errand out that will bring one. What is called off or aborted waits for what was
    /// stopped on its way, so that nothing overtakes it.
    fn awaits_nothing_in_vain(&self) -> Result<(), String> {
        let ended = self.app.ledger().incident.as_ref().is_none_or(|incident| incident.calling_off.is_some() || incident.aborted);
        let in_vain = |(step, work): &(&String, &&str)| is_out(work) && !self.jobs.contains_key(*step);
        match self.work.iter().find(in_vain).filter(|_| !ended) {
            Some((step, work)) => Err(format!("{step} is {work}, and nothing of it is out")),
            None => Ok(()),
        }
    }

    /// Keeps the record of what each step does as the app keeps its own.
    fn follow(&mut self, decision: &Decision) {
        for entry in &decision.entries {
            match entry {
                Entry::Closed { .. } => {
                    self.work.clear();
                    self.jobs.clear();
                }
                Entry::Planned { .. } => self.work.clear(),
                Entry::Retried { .. } => self.forget_but_changes(),
                Entry::StepSkipped { step, .. } => drop(self.work.remove(step)),
                Entry::Resumed { .. } => self.work.retain(|_, work| *work != "permit"),
                _ => {}
            }
        }
        self.work.extend(decision.work.iter().map(|(step, work)| (step.clone(), label(work))));
    }

    /// As the daemon's hands and its executor would: a new job stops the one that runs for the same step.
    fn have_done(&mut self, effect: &Effect) {
        let (step, on) = match effect {
            Effect::LookNow => return self.look_due = true,
            Effect::Preflight(direction) => {
                self.preflight_due = Some(*direction);
                return self.app.preflight_sent(self.now);
            }
            Effect::Cancel { step } => return drop(self.jobs.remove(step)),
            Effect::Inspect { step } => (step, Doing::Inspect),
            Effect::Apply { step } => (step, Doing::Apply),
            Effect::Verify { step } => (step, Doing::Verify),
            Effect::Undo { step } => (step, Doing::Undo),
        };
        let left = rules::time_left(self, step).unwrap_or_default();
        let time = match on {
            Doing::Undo => UNDO,
            Doing::Inspect | Doing::Verify => left.max(LAST_LOOK),
            Doing::Apply => left,
        };
        let job = Job { on, until: self.now + time, incident: self.incident(), epoch: self.app.epoch() };
        self.jobs.insert(step.clone(), job);
    }
}
