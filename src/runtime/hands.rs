//! What the control has done by others: jobs to the executor, beats to the probers, rows to whoever listens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::beats::Beats;
use super::control::{Fleet, Hands};
use super::executor::{Action, Executor, Job};
use super::metrics::Metrics;
use super::post::Post;
use super::status;
use crate::domain::decide::{App, Effect, Tempo};
use crate::domain::ledger::{Entry, Incident, Record};
use crate::domain::model::{AppName, Moment, State};
use crate::domain::moving::LAST_LOOK;
use crate::domain::plan::{Class, OnFailure, PlannedStep};
use crate::domain::run::proven_fence;
use crate::ports::StepContext;

/// How often what is shown is made anew, at most: nobody reads faster, and the decision must not pay for readers.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// The daemon's hands.
pub struct DaemonHands {
    /// Runs the steps.
    pub executor: Arc<Executor>,
    /// How fast apps and witnesses are looked at.
    pub beats: Beats,
    /// Durable rows, for the live listeners.
    pub events: broadcast::Sender<Arc<Record>>,
    /// The latest status document.
    pub status: watch::Sender<Arc<serde_json::Value>>,
    /// What is not ready yet, in words.
    pub pending: watch::Sender<Vec<String>>,
    /// One line on how things are, for systemd.
    pub summary: watch::Sender<String>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Messages to people.
    pub post: Arc<Post>,
    /// Who speaks.
    pub observer: String,
    /// When status was last made, and of how many apps.
    pub shown: Option<(Moment, usize)>,
}

impl Hands for DaemonHands {
    fn carry_out(&mut self, app: &App, effect: &Effect, now: Moment) {
        let name = &app.policy().name;
        let (step, action) = match effect {
            Effect::Inspect { step } => (step, Action::Inspect),
            Effect::Apply { step } => (step, Action::Apply),
            Effect::Verify { step } => (step, Action::Verify),
            Effect::Undo { step } => (step, Action::Undo),
            Effect::Cancel { step } => return self.executor.cancel(name, step),
            Effect::LookNow => {
                return self.beats.nudge(name);
            }
            Effect::Preflight(direction) => {
                let plan = app.policy().plan_to(direction.target());
                return self.executor.preflight(name.clone(), plan.clone());
            }
        };
        if let Some(job) = job(app, step, action, now) {
            self.executor.start(job);
        }
    }

    fn pace(&mut self, app: &AppName, tempo: Tempo) {
        self.beats.pace(app, tempo);
    }

    fn let_go(&mut self, app: &AppName) {
        self.beats.end(app);
    }

    fn written(&mut self, records: &[Record]) {
        self.metrics.record(records);
        self.post.written(records);
        for record in records {
            log(record);
            if matches!(record.entry, Entry::Closed { .. })
                && let Some(incident) = &record.incident
            {
                self.executor.forget(incident);
            }
            // No listener is no fault.
            drop(self.events.send(Arc::new(record.clone())));
        }
        // Rows are shown at once, unless there are so many apps that in an outage of all the decision would do nothing else.
        if !records.is_empty() && self.shown.is_some_and(|(_, apps)| status::rest(apps).is_zero()) {
            self.shown = None;
        }
    }

    fn show(&mut self, fleet: &Fleet, now: Moment) {
        let apps = fleet.apps.len();
        if self.shown.is_some_and(|(at, _)| now.since(at) < SHOW_EVERY.max(status::rest(apps))) {
            return;
        }
        self.shown = Some((now, apps));
        let judged = status::judge(fleet, now);
        self.metrics.refresh(fleet, &judged, now);
        self.post.remind(fleet, now);
        self.pending.send_if_modified(|old| {
            let new = status::pending(fleet);
            std::mem::replace(old, new.clone()) != new
        });
        self.summary.send_if_modified(|old| {
            let new = status::summary(fleet);
            std::mem::replace(old, new.clone()) != new
        });
        // Last: whoever reads a fault in the status finds `/readyz` and the metrics agree.
        let mut document = status::fleet(fleet, &judged, &self.observer, now);
        document["notify"] = self.post.status();
        self.status.send_replace(Arc::new(document));
    }
}

/// The job of one step of the running plan.
fn job(app: &App, step: &str, action: Action, now: Moment) -> Option<Job> {
    let incident = app.ledger().incident.as_ref()?;
    let planned: &PlannedStep = incident.plan.as_ref()?.step(step)?;
    let run = incident.steps.get(step)?;
    let running = run.started.map(|at| now.since(at)).unwrap_or_default();
    // A fence that is proven says nothing while another of the plan is not: some writers may still be there.
    let fenced = incident.fenced_at().is_some();
    let known = incident.steps.iter().filter(|(_, run)| !run.facts.is_null() && (fenced || proven_fence(&run.facts).is_none()));
    let facts = known.map(|(name, run)| (name.clone(), run.facts.clone())).collect();
    // A step whose deadline passed while we were not running is looked at once more.
    let time_left = match action {
        Action::Undo => planned.undo_time(),
        // What was asked for and is final is read back instead of inspected: that look is its last one.
        Action::Inspect | Action::Verify => planned.deadline.saturating_sub(running).max(LAST_LOOK),
        Action::Apply => planned.deadline.saturating_sub(running),
    };
    Some(Job {
        app: app.policy().name.clone(),
        epoch: app.epoch(),
        action,
        step: planned.clone(),
        context: StepContext {
            incident: incident.id.clone(),
            step_id: format!("{}/{step}", incident.id),
            direction: incident.direction,
            now: now.wall,
            time_left,
            facts,
            before: run.before.clone(),
            graceful: incident.graceful(),
        },
        running,
        ahead: ahead(incident, planned),
    })
}

/// The data steps of a planned move that its fence is looked ahead to: what refuses to move the data behind it would have
/// taken the writers off for nothing, until the move is called off.
fn ahead(incident: &Incident, planned: &PlannedStep) -> Vec<PlannedStep> {
    if !incident.graceful() || !planned.is_fence() || incident.is_committed() {
        return Vec::new();
    }
    let halts = |step: &&PlannedStep| step.class == Class::Data && step.on_failure == OnFailure::Halt;
    incident.plan.iter().flat_map(|plan| plan.steps.iter()).filter(halts).cloned().collect()
}

/// One line a row; what needs a person is louder.
fn log(record: &Record) {
    let (app, incident) = (record.app.as_deref().unwrap_or("-"), record.incident.as_deref().unwrap_or("-"));
    let words = record.entry.words();
    match &record.entry {
        Entry::Stuck { .. } | Entry::StepFailed { .. } => {
            tracing::error!(app, incident, seq = record.seq, "{}: {words}", record.entry.kind())
        }
        Entry::Confirmed { .. }
        | Entry::Gap { .. }
        | Entry::ClockStepped { .. }
        | Entry::StepTrouble { .. }
        | Entry::MovedByOthers { .. } => {
            tracing::warn!(app, incident, seq = record.seq, "{}: {words}", record.entry.kind())
        }
        Entry::Autonomous { found } if !found.is_empty() => {
            tracing::warn!(app, incident, seq = record.seq, "{}: {words}", record.entry.kind())
        }
        _ => tracing::info!(app, incident, seq = record.seq, "{}: {words}", record.entry.kind()),
    }
}

/// True while something goes on that SIGTERM would interrupt.
pub fn is_moving(fleet: &Fleet) -> bool {
    fleet.apps.values().any(|app| matches!(app.ledger().state, State::Moving | State::Proving))
}
