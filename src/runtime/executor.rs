//! THE EFFECT: the one place from which the world is changed.
//!
//! It is told what to do only after the intent is durable, does that one thing, and reports back. It decides nothing:
//! retries, order and deadlines are the domain's.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::control::Message;
use crate::domain::autonomy::Autonomy;
use crate::domain::decide::Input;
use crate::domain::gates::{Found, Preflight};
use crate::domain::model::{AppName, Direction};
use crate::domain::moving;
use crate::domain::plan::{Plan, PlannedStep};
use crate::domain::report::Report;
use crate::ports::{ErrorClass, Inspection, Step, StepContext, StepError, Verification};

/// Builds a step from what a plan stored.
pub type Builder = Arc<dyn Fn(&PlannedStep) -> Result<Arc<dyn Step>, StepError> + Send + Sync>;

/// What is asked of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Is it so already; could it be done?
    Inspect,
    /// Ask for it.
    Apply,
    /// Read it back until it is so.
    Verify,
    /// Put back what stood there.
    Undo,
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    /// The app.
    pub app: AppName,
    /// The takeover that sends it.
    pub epoch: u64,
    /// What is asked.
    pub action: Action,
    /// Of which step.
    pub step: PlannedStep,
    /// With what in mind.
    pub context: StepContext,
    /// How long the step has been running.
    pub running: Duration,
    /// Steps behind this one that must not be certain to fail if it is to be asked for.
    pub ahead: Vec<PlannedStep>,
}

type Key = (AppName, String);

/// How long a preflight may take for one question to one step.
const PREFLIGHT_PATIENCE: Duration = Duration::from_secs(6);
/// Preflights of that many steps at once: an app's plan is asked in parallel, a thousand apps are not.
const PREFLIGHTS_AT_ONCE: usize = 16;

/// Runs jobs.
pub struct Executor {
    build: Builder,
    clock: Clock,
    epoch: Arc<AtomicU64>,
    back: mpsc::Sender<Message>,
    tasks: TaskTracker,
    on: Handle,
    stop: CancellationToken,
    running: Mutex<HashMap<Key, CancellationToken>>,
    steps: Mutex<HashMap<(String, String), Arc<dyn Step>>>,
    preflights: Arc<tokio::sync::Semaphore>,
}

impl Executor {
    /// Jobs run on the runtime `on`, whichever thread sends them. Reports go to `back`; `epoch` is the takeover in force, read right before every change.
    pub fn new(
        build: Builder,
        clock: Clock,
        epoch: Arc<AtomicU64>,
        back: mpsc::Sender<Message>,
        tasks: TaskTracker,
        on: Handle,
        stop: CancellationToken,
    ) -> Arc<Executor> {
        Arc::new(Executor {
            build,
            clock,
            epoch,
            back,
            tasks,
            on,
            stop,
            running: Mutex::default(),
            steps: Mutex::default(),
            preflights: Arc::new(tokio::sync::Semaphore::new(PREFLIGHTS_AT_ONCE)),
        })
    }

    /// Starts a job; whatever ran for the same step is stopped first.
    pub fn start(self: &Arc<Executor>, job: Job) {
        let key = (job.app.clone(), job.step.name.clone());
        let token = self.stop.child_token();
        if let Some(old) = lock(&self.running).insert(key.clone(), token.clone()) {
            old.cancel();
        }
        let this = Arc::clone(self);
        let work = async move {
            let report = tokio::select! {
                // First: a job that was cancelled before its first poll changes nothing.
                biased;
                () = token.cancelled() => None,
                report = this.run(&job, &token) => Some(report),
            };
            let Some(report) = report else { return };
            if !token.is_cancelled() {
                lock(&this.running).remove(&key);
            }
            this.report(&job, report).await;
        };
        self.tasks.spawn_on(work, &self.on);
    }

    /// Stops whatever runs for a step. What was sent to the world stays sent; the journal knows.
    pub fn cancel(&self, app: &AppName, step: &str) {
        if let Some(token) = lock(&self.running).remove(&(app.clone(), step.to_owned())) {
            token.cancel();
        }
    }

    /// Forgets the built steps of an incident that is over.
    pub fn forget(&self, incident: &str) {
        lock(&self.steps).retain(|(of, _), _| of != incident);
    }

    async fn run(&self, job: &Job, token: &CancellationToken) -> Report {
        let step = match self.step(job) {
            Ok(step) => step,
            Err(error) => return failed(job.action, error),
        };
        let limit = Instant::now() + job.context.time_left;
        let overdue = || StepError::new(ErrorClass::Retry, "timeout", format!("{}: no answer before the step's deadline", job.step.name));
        let changes = matches!(job.action, Action::Apply | Action::Undo);
        // The last look at the number before the world is touched: an older takeover does nothing.
        if changes && self.epoch.load(Ordering::SeqCst) != job.epoch {
            let words = format!("{}: dropped, it carries epoch {} and a newer takeover is in force", job.step.name, job.epoch);
            return failed(job.action, StepError::new(ErrorClass::Refused, "stale-epoch", words));
        }
        match job.action {
            Action::Inspect => {
                let found = bounded(limit, step.inspect(&job.context)).await.unwrap_or_else(|| Err(overdue()));
                let possible = matches!(found, Ok(Inspection::Possible(_) | Inspection::CannotTell));
                let vain = if possible { self.in_vain(job).await } else { None };
                Report::Inspected(vain.map_or(found, Err))
            }
            Action::Apply => Report::Applied(bounded(limit, step.apply(&job.context)).await.unwrap_or_else(|| Err(overdue()))),
            Action::Verify => self.verify(job, step.as_ref(), limit, token).await,
            Action::Undo => Report::Undone(bounded(limit, step.undo(&job.context)).await.unwrap_or_else(|| Err(overdue()))),
        }
    }

    /// Why a step would be asked for in vain: one of those ahead says already now that it would be refused. Preflights do not
    /// know what kind of move they are for, and some refuse only in a planned one. What cannot be told now is no refusal.
    async fn in_vain(&self, job: &Job) -> Option<StepError> {
        for step in &job.ahead {
            let context = StepContext {
                step_id: format!("{}/{}", job.context.incident, step.name),
                time_left: PREFLIGHT_PATIENCE,
                facts: BTreeMap::new(),
                before: serde_json::Value::Null,
                ..job.context.clone()
            };
            // Built anew: what the step itself will have seen and asked for is none of this look's business.
            let found = match (self.build)(step) {
                Ok(built) => patiently(built.inspect(&context)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = found
                && matches!(error.class, ErrorClass::Refused | ErrorClass::NeedsPerson)
            {
                let words = format!("not asked for, as {} would be refused: {}", step.name, error.message);
                return Some(StepError::new(error.class, error.code, words));
            }
        }
        None
    }

    /// Reads back until it is so; how often follows from how long it has taken.
    async fn verify(&self, job: &Job, step: &dyn Step, limit: Instant, token: &CancellationToken) -> Report {
        let began = Instant::now();
        let mut said = String::new();
        loop {
            let context = StepContext {
                now: self.clock.now().wall,
                time_left: limit.saturating_duration_since(Instant::now()),
                ..job.context.clone()
            };
            match bounded(limit, step.verify(&context)).await {
                Some(Ok(Verification::So(facts))) => return Report::Verified(Ok(facts)),
                Some(Ok(Verification::NotYet(words))) => {
                    if words != said {
                        said.clone_from(&words);
                        self.report(job, Report::Progress(words)).await;
                    }
                }
                Some(Err(error)) => return Report::Verified(Err(error)),
                None => {
                    let words = format!("{}: not so before the step's deadline; last seen: {said}", job.step.name);
                    return Report::Verified(Err(StepError::new(ErrorClass::Retry, "timeout", words)));
                }
            }
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = tokio::time::sleep(moving::pace(job.running + began.elapsed())) => {}
            }
        }
    }

    fn step(&self, job: &Job) -> Result<Arc<dyn Step>, StepError> {
        let key = (job.context.incident.clone(), job.step.name.clone());
        if let Some(step) = lock(&self.steps).get(&key) {
            return Ok(Arc::clone(step));
        }
        let step = (self.build)(&job.step)?;
        lock(&self.steps).insert(key, Arc::clone(&step));
        Ok(step)
    }

    async fn report(&self, job: &Job, report: Report) {
        let input = Input::Step { incident: job.context.incident.clone(), epoch: job.epoch, step: job.step.name.clone(), report };
        // A closed channel means that the control is gone: nobody is left to tell, and the journal knows how to go on.
        if self.back.send(Message::Seen(job.app.clone(), input)).await.is_err() {
            tracing::debug!(step = job.step.name, "a report came after the end");
        }
    }

    /// Inspects every step of a plan, in parallel, and changes nothing.
    pub fn preflight(self: &Arc<Executor>, app: AppName, plan: Plan) {
        let this = Arc::clone(self);
        let whole = async move {
            let work = async {
                let (mut steps, mut autonomy) = (BTreeMap::new(), BTreeMap::new());
                for (name, found, others) in this.inspect_all(&app, &plan).await {
                    autonomy.extend(others.map(|others| (name.clone(), others)));
                    steps.insert(name, judged(found));
                }
                let preflight = Preflight { at: this.clock.now(), direction: plan.direction, steps, autonomy };
                if this.back.send(Message::Seen(app.clone(), Input::Preflight(preflight))).await.is_err() {
                    tracing::debug!(%app, "a preflight came after the end");
                }
            };
            tokio::select! {
                biased;
                () = this.stop.cancelled() => {}
                () = work => {}
            }
        };
        self.tasks.spawn_on(whole, &self.on);
    }

    async fn inspect_all(&self, app: &AppName, plan: &Plan) -> Vec<(String, Result<Inspection, StepError>, Option<Autonomy>)> {
        let looks = plan.steps.iter().map(|step| async {
            let permit = self.preflights.acquire().await;
            let context = preflight_context(app, plan.direction, step, self.clock.now().wall);
            let (found, others) = match (self.build)(step) {
                Ok(built) => {
                    let found = match patiently(built.inspect(&context)).await {
                        Ok(found) => match patiently(built.preflight(&context, found.clone())).await {
                            // What could not be looked at is no refusal, and takes nothing from what was seen: a permission
                            // that is missing keeps nobody from learning which site is active. `check` tells of it.
                            Err(error) if error.class == ErrorClass::Retry => Ok(found),
                            last => last,
                        },
                        Err(error) => Err(error),
                    };
                    (found, autonomy(built.as_ref(), &context).await)
                }
                Err(error) => (Err(error), None),
            };
            drop(permit);
            (step.name.clone(), found, others)
        });
        futures_util::future::join_all(looks).await
    }
}

/// Whether others can move the traffic of a step, if its kind can tell.
pub async fn autonomy(step: &dyn Step, context: &StepContext) -> Option<Autonomy> {
    match patiently(step.autonomy(context)).await {
        Ok(read) => read.map(Autonomy::Read),
        Err(error) => Some(Autonomy::Unread(error.message)),
    }
}

/// One question of a preflight, cut off when its time is over.
pub async fn patiently<T>(question: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    let late = |_| Err(StepError::new(ErrorClass::Retry, "timeout", "no answer in time"));
    tokio::time::timeout(PREFLIGHT_PATIENCE, question).await.unwrap_or_else(late)
}

/// The context in which a plan's steps are only looked at.
pub fn preflight_context(app: &AppName, direction: Direction, step: &PlannedStep, now: i64) -> StepContext {
    StepContext {
        incident: format!("preflight of {app}"),
        step_id: format!("preflight/{}", step.name),
        direction,
        now,
        time_left: PREFLIGHT_PATIENCE,
        facts: BTreeMap::new(),
        before: serde_json::Value::Null,
        graceful: false,
    }
}

fn judged(found: Result<Inspection, StepError>) -> Found {
    match found {
        Ok(Inspection::AlreadySo(_)) => Found::AlreadySo,
        // Being under way without us is for the executor to find out in the move, not a reason to refuse one.
        Ok(Inspection::Possible(_) | Inspection::UnderWay(_) | Inspection::Asks(_)) => Found::Possible,
        Ok(Inspection::NotYet(words)) => Found::Unknown(words),
        // It speaks for no site: which one is active must not be learnt from it.
        Ok(Inspection::CannotTell) => Found::Unknown("it cannot be inspected".into()),
        Err(error) if matches!(error.class, ErrorClass::Refused | ErrorClass::NeedsPerson) => Found::Refused(error.message),
        Err(error) => Found::Unknown(error.message),
    }
}

fn failed(action: Action, error: StepError) -> Report {
    match action {
        Action::Inspect => Report::Inspected(Err(error)),
        Action::Apply => Report::Applied(Err(error)),
        Action::Verify => Report::Verified(Err(error)),
        Action::Undo => Report::Undone(Err(error)),
    }
}

async fn bounded<T>(limit: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(limit, work).await.ok()
}

/// A lock whose holder cannot have left a half-done state: the maps are changed by single calls.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
