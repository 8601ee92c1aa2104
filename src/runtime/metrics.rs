//! The one room for figures: what is exported, under which labels, with which words.
//!
//! Base units; label sets closed; every series present from the start; NaN means unknown, +Inf unbounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use serde::Serialize;

use super::control::Fleet;
use crate::domain::gates;
use crate::domain::ledger::{Entry, Figures, GateState, Incident, Record};
use crate::domain::model::{AppName, Direction, Health, Moment, Outcome, Phases, ReplicaState, SiteName, State, Trigger, Verdict};
use crate::domain::plan::PlannedStep;
use crate::domain::policy::AppPolicy;

/// One metric, as the reference prints it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MetricDoc {
    /// With the prefix.
    pub name: &'static str,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// In the order of the label values.
    pub labels: &'static [&'static str],
    /// What it says, and its unit.
    pub help: &'static str,
}

const fn doc(name: &'static str, kind: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricDoc {
    MetricDoc { name, kind, labels, help }
}

const ALL: &[MetricDoc] = &[
    doc("watchover_build_info", "gauge", &["version", "revision"], "Always 1; which build this is."),
    doc("watchover_probes_total", "counter", &["app", "site", "signal", "verdict"], "Looks done, by what they said."),
    doc("watchover_probe_duration_seconds", "histogram", &["app", "site", "signal", "phase"], "How long each phase of a look took."),
    doc("watchover_signal_verdict", "gauge", &["app", "site", "signal", "verdict"], "One-hot: what the latest look at the signal said."),
    doc("watchover_site_state", "gauge", &["app", "site", "state"], "One-hot: the site by its own rule."),
    doc("watchover_replication_lag_seconds", "gauge", &["app", "signal"], "Replication lag of the newest datapoint; NaN: unknown."),
    doc("watchover_replication_lag_sample_age_seconds", "gauge", &["app", "signal"], "Age of that datapoint; NaN: there is none."),
    doc("watchover_replication_state", "gauge", &["app", "signal", "state"], "One-hot: the replication link as AWS names it."),
    doc("watchover_rpo_exposure_seconds", "gauge", &["app"], "What a move right now would lose, at most; NaN: nobody knows."),
    doc("watchover_rpo_objective_seconds", "gauge", &["app"], "The configured objective."),
    doc("watchover_rto_objective_seconds", "gauge", &["app"], "The configured objective."),
    doc("watchover_app_state", "gauge", &["app", "state"], "One-hot: where the app is."),
    doc("watchover_active_site", "gauge", &["app", "site"], "One-hot: which site serves; unknown: nobody has said."),
    doc("watchover_gate_open", "gauge", &["app", "gate"], "1: the gate is open, as of now."),
    doc("watchover_paused", "gauge", &["app"], "1: nothing new is started by itself."),
    doc("watchover_incident_active", "gauge", &["app"], "1: an incident is open."),
    doc("watchover_incident_elapsed_seconds", "gauge", &["app"], "The running RTO clock; 0 while no incident is open."),
    doc("watchover_incidents_total", "counter", &["app", "direction", "trigger", "outcome"], "Incidents by how they ended; stuck ones when they got stuck."),
    doc("watchover_rto_seconds", "histogram", &["app", "direction", "trigger"], "RTO of moves that were proven."),
    doc("watchover_last_incident_rto_seconds", "gauge", &["app", "direction", "trigger", "phase"], "RTO of the last proven move, by phase; NaN: none yet."),
    doc("watchover_last_incident_rpo_seconds", "gauge", &["app", "direction", "trigger"], "Loss of the last proven move, at most; NaN: none yet, or unknown."),
    doc("watchover_step_duration_seconds", "histogram", &["app", "step", "kind"], "From a step's start to its verification."),
    doc("watchover_step_failures_total", "counter", &["app", "step", "kind", "reason"], "Steps that failed, by reason."),
    doc("watchover_aws_calls_total", "counter", &["service", "operation", "outcome"], "Calls to AWS, by how they ended."),
    doc("watchover_aws_call_duration_seconds", "histogram", &["service", "operation"], "How long calls to AWS took, all attempts together."),
    doc("watchover_loop_lag_seconds", "histogram", &[], "How late the decision loop's pulse was."),
    doc("watchover_journal_write_seconds", "histogram", &[], "How long a durable write took."),
    doc("watchover_config_last_reload_successful", "gauge", &[], "1: the config in force is the one in the file."),
    doc("watchover_config_last_reload_timestamp_seconds", "gauge", &[], "When the config was last taken over."),
];

/// Buckets that move time: 5 ms to 4 h.
const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
    14400.0,
];
/// Reasons of failures that have a series; AWS's own codes go under `other`, so that nobody else decides how many there are.
const REASONS: &[&str] = &["deadline", "attempts", "refused", "data-loss", "cannot-tell", "stale-epoch", "other"];
const PHASES: &[&str] = &["detect", "hold", "approve", "execute", "prove", "total"];
const PROBE_PHASES: &[&str] = &["resolve", "connect", "tls", "wait", "body"];

/// All metrics, for the reference.
pub fn reference() -> Vec<MetricDoc> {
    ALL.to_vec()
}

/// The figures.
pub struct Metrics {
    registry: Registry,
    gauges: BTreeMap<&'static str, GaugeVec>,
    counters: BTreeMap<&'static str, IntCounterVec>,
    histograms: BTreeMap<&'static str, HistogramVec>,
    /// Running steps: what a row that only names a step needs.
    steps: Mutex<BTreeMap<(String, String), (PlannedStep, Option<Moment>)>>,
    /// Open incidents: direction and trigger.
    open: Mutex<BTreeMap<String, (Direction, Trigger)>>,
    installed: Mutex<Vec<Arc<AppPolicy>>>,
}

impl Metrics {
    /// All families, with the series that need no config.
    pub fn new(revision: &str) -> Metrics {
        let registry = Registry::new();
        let (mut gauges, mut counters, mut histograms) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for doc in ALL {
            // Names and labels stand above, so neither the making nor the registering can fail; a test makes them all.
            match doc.kind {
                "gauge" => {
                    if let Ok(family) = GaugeVec::new(Opts::new(doc.name, doc.help), doc.labels) {
                        registry.register(Box::new(family.clone())).unwrap_or_default();
                        gauges.insert(doc.name, family);
                    }
                }
                "counter" => {
                    if let Ok(family) = IntCounterVec::new(Opts::new(doc.name, doc.help), doc.labels) {
                        registry.register(Box::new(family.clone())).unwrap_or_default();
                        counters.insert(doc.name, family);
                    }
                }
                _ => {
                    if let Ok(family) = HistogramVec::new(HistogramOpts::new(doc.name, doc.help).buckets(BUCKETS.to_vec()), doc.labels) {
                        registry.register(Box::new(family.clone())).unwrap_or_default();
                        histograms.insert(doc.name, family);
                    }
                }
            }
        }
        let metrics = Metrics { registry, gauges, counters, histograms, steps: Mutex::default(), open: Mutex::default(), installed: Mutex::default() };
        metrics.set("watchover_build_info", &[env!("CARGO_PKG_VERSION"), revision], 1.0);
        metrics.set("watchover_config_last_reload_successful", &[], 1.0);
        metrics.set("watchover_config_last_reload_timestamp_seconds", &[], jiff::Timestamp::now().as_microsecond() as f64 / 1e6);
        metrics.touch("watchover_loop_lag_seconds", &[]);
        metrics.touch("watchover_journal_write_seconds", &[]);
        for (service, operation) in [("sts", "GetCallerIdentity")] {
            metrics.touch("watchover_aws_call_duration_seconds", &[service, operation]);
            for outcome in ["ok", "error", "timeout", "throttled"] {
                metrics.count("watchover_aws_calls_total", &[service, operation, outcome], 0);
            }
        }
        metrics
    }

    fn set(&self, name: &str, labels: &[&str], value: f64) {
        if let Some(gauge) = self.gauges.get(name).and_then(|family| family.get_metric_with_label_values(labels).ok()) {
            gauge.set(value);
        }
    }

    fn count(&self, name: &str, labels: &[&str], by: u64) {
        if let Some(counter) = self.counters.get(name).and_then(|family| family.get_metric_with_label_values(labels).ok()) {
            counter.inc_by(by);
        }
    }

    fn time(&self, name: &str, labels: &[&str], seconds: f64) {
        if let Some(histogram) = self.histograms.get(name).and_then(|family| family.get_metric_with_label_values(labels).ok()) {
            histogram.observe(seconds);
        }
    }

    fn touch(&self, name: &str, labels: &[&str]) {
        if let Some(family) = self.histograms.get(name) {
            drop(family.get_metric_with_label_values(labels));
        }
    }

    /// Makes every series of these apps. After a reload, series of what vanished go.
    pub fn install(&self, policies: &[Arc<AppPolicy>]) {
        let mut installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        if !installed.is_empty() {
            for doc in ALL.iter().filter(|doc| doc.labels.first() == Some(&"app") && doc.kind == "gauge") {
                if let Some(family) = self.gauges.get(doc.name) {
                    family.reset();
                }
            }
        }
        *installed = policies.to_vec();
        drop(installed);
        for policy in policies {
            self.install_app(policy);
        }
    }

    fn install_app(&self, policy: &AppPolicy) {
        let app = policy.name.as_ref();
        self.set("watchover_rpo_objective_seconds", &[app], policy.rpo_objective.as_secs_f64());
        self.set("watchover_rto_objective_seconds", &[app], policy.rto_objective.as_secs_f64());
        for site in SiteName::ALL {
            for signal in &policy.site(*site).signals {
                let labels = [app, site.as_str(), signal.name.as_str()];
                for verdict in Health::ALL {
                    self.count("watchover_probes_total", &[labels[0], labels[1], labels[2], verdict.as_str()], 0);
                }
                for phase in PROBE_PHASES {
                    self.touch("watchover_probe_duration_seconds", &[labels[0], labels[1], labels[2], phase]);
                }
                if signal.replica {
                    self.set("watchover_replication_lag_seconds", &[app, &signal.name], f64::NAN);
                    self.set("watchover_replication_lag_sample_age_seconds", &[app, &signal.name], f64::NAN);
                }
            }
        }
        for direction in Direction::ALL {
            for trigger in Trigger::ALL {
                let labels = [app, direction.as_str(), trigger.as_str()];
                for outcome in Outcome::ALL {
                    self.count("watchover_incidents_total", &[labels[0], labels[1], labels[2], outcome.as_str()], 0);
                }
                self.touch("watchover_rto_seconds", &labels);
                for phase in PHASES {
                    self.set("watchover_last_incident_rto_seconds", &[labels[0], labels[1], labels[2], phase], f64::NAN);
                }
                self.set("watchover_last_incident_rpo_seconds", &labels, f64::NAN);
            }
        }
        for step in policy.failover.steps.iter().chain(&policy.failback.steps) {
            self.touch("watchover_step_duration_seconds", &[app, &step.name, &step.kind]);
            for reason in REASONS {
                self.count("watchover_step_failures_total", &[app, &step.name, &step.kind, reason], 0);
            }
        }
    }

    /// Sets all gauges from the state.
    pub fn refresh(&self, fleet: &Fleet, now: Moment) {
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        for (name, app) in &fleet.apps {
            let name: &str = name;
            let ledger = app.ledger();
            for site in SiteName::ALL {
                let view = app.site(*site, now);
                for state in Health::ALL {
                    self.set("watchover_site_state", &[name, site.as_str(), state.as_str()], flag(view.health == *state));
                }
                for (at, (policy, signal)) in app.policy().site(*site).signals.iter().zip(app.signals(*site)).enumerate() {
                    let verdict = signal.last().map_or(Health::Unknown, |last| last.verdict.health());
                    for one in Health::ALL {
                        self.set("watchover_signal_verdict", &[name, site.as_str(), &policy.name, one.as_str()], flag(verdict == *one));
                    }
                    if policy.replica {
                        let state = app.replica_state(*site, at).unwrap_or(ReplicaState::Unknown);
                        for one in ReplicaState::ALL {
                            self.set("watchover_replication_state", &[name, &policy.name, one.as_str()], flag(state == *one));
                        }
                        let newest = app.samples().last();
                        self.set("watchover_replication_lag_seconds", &[name, &policy.name], newest.map_or(f64::NAN, |sample| sample.seconds));
                        let age = newest.map_or(f64::NAN, |sample| (now.wall - sample.at) as f64 / 1e6);
                        self.set("watchover_replication_lag_sample_age_seconds", &[name, &policy.name], age);
                    }
                }
            }
            let direction = app.direction();
            let (_, gates, exposure) = app.view(&fleet.around, now).gates(direction, crate::domain::quorum::Point::Start);
            self.set("watchover_rpo_exposure_seconds", &[name], exposure.seconds.unwrap_or(f64::NAN));
            for gate in &gates {
                self.set("watchover_gate_open", &[name, &gate.name], flag(gate.state == GateState::Open));
            }
            debug_assert_eq!(gates.len(), gates::NAMES.len(), "every gate is evaluated every time");
            for state in State::ALL {
                self.set("watchover_app_state", &[name, state.as_str()], flag(ledger.state == *state));
            }
            for site in SiteName::ALL {
                self.set("watchover_active_site", &[name, site.as_str()], flag(ledger.active == Some(*site)));
            }
            self.set("watchover_active_site", &[name, "unknown"], flag(ledger.active.is_none()));
            self.set("watchover_paused", &[name], flag(ledger.paused.is_some()));
            self.set("watchover_incident_active", &[name], flag(ledger.incident.is_some()));
            let elapsed = ledger.incident.as_ref().map_or(0.0, |incident| now.since(incident.clock_start()).as_secs_f64());
            self.set("watchover_incident_elapsed_seconds", &[name], elapsed);
            if let Some(incident) = &ledger.incident {
                self.remember(incident);
            }
            if let Some((direction, trigger, figures)) = &ledger.last_figures {
                self.last_figures(name, *direction, *trigger, figures);
            }
        }
    }

    /// Takes in an incident whose beginning we did not see, as after a restart: its end is counted all the same.
    fn remember(&self, incident: &Incident) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.contains_key(&incident.id) {
            return;
        }
        open.insert(incident.id.clone(), (incident.direction, incident.trigger));
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        for step in incident.plan.iter().flat_map(|plan| &plan.steps) {
            let started = incident.steps.get(&step.name).and_then(|run| run.started);
            steps.insert((incident.id.clone(), step.name.clone()), (step.clone(), started));
        }
    }

    fn last_figures(&self, app: &str, direction: Direction, trigger: Trigger, figures: &Figures) {
        let labels = [app, direction.as_str(), trigger.as_str()];
        for (phase, seconds) in &figures.phases {
            self.set("watchover_last_incident_rto_seconds", &[labels[0], labels[1], labels[2], phase], *seconds);
        }
        self.set("watchover_last_incident_rto_seconds", &[labels[0], labels[1], labels[2], "total"], figures.rto_seconds.unwrap_or(f64::NAN));
        let rpo = figures.rpo.as_ref().and_then(|rpo| rpo.seconds).unwrap_or(f64::NAN);
        self.set("watchover_last_incident_rpo_seconds", &labels, rpo);
    }

    /// Counts what became durable.
    pub fn record(&self, records: &[Record]) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let (Some(app), Some(incident)) = (&record.app, &record.incident) else { continue };
            let ended = |open: &BTreeMap<String, (Direction, Trigger)>, outcome: Outcome| {
                if let Some((direction, trigger)) = open.get(incident) {
                    self.count("watchover_incidents_total", &[app, direction.as_str(), trigger.as_str(), outcome.as_str()], 1);
                }
            };
            match &record.entry {
                Entry::Opened { trigger, direction, .. } => {
                    open.insert(incident.clone(), (*direction, *trigger));
                }
                Entry::Commanded { .. } => {
                    if let Some(found) = open.get_mut(incident) {
                        found.1 = Trigger::Operator;
                    }
                }
                Entry::Planned { plan } => {
                    for step in &plan.steps {
                        steps.insert((incident.clone(), step.name.clone()), (step.clone(), None));
                    }
                }
                Entry::StepStarted { step } => {
                    if let Some(found) = steps.get_mut(&(incident.clone(), step.clone())) {
                        found.1 = Some(record.at);
                    }
                }
                Entry::StepVerified { step, .. } => {
                    if let Some((step, Some(since))) = steps.get(&(incident.clone(), step.clone())) {
                        self.time("watchover_step_duration_seconds", &[app, &step.name, &step.kind], record.at.since(*since).as_secs_f64());
                    }
                }
                Entry::StepFailed { step, code, .. } => {
                    if let Some((step, _)) = steps.get(&(incident.clone(), step.clone())) {
                        let reason = REASONS.iter().find(|reason| *reason == code).unwrap_or(&"other");
                        self.count("watchover_step_failures_total", &[app, &step.name, &step.kind, reason], 1);
                    }
                }
                Entry::Stuck { .. } => ended(&open, Outcome::Stuck),
                Entry::Closed { outcome, figures, .. } => {
                    ended(&open, *outcome);
                    if let (Some((direction, trigger)), Some(seconds)) = (open.remove(incident), figures.rto_seconds) {
                        self.time("watchover_rto_seconds", &[app, direction.as_str(), trigger.as_str()], seconds);
                    }
                    steps.retain(|(of, _), _| of != incident);
                }
                _ => {}
            }
        }
    }

    /// One look.
    pub fn look(&self, app: &AppName, site: SiteName, signal: &str, verdict: Verdict, phases: &Phases) {
        self.count("watchover_probes_total", &[app, site.as_str(), signal, verdict.health().as_str()], 1);
        for (phase, took) in PROBE_PHASES.iter().zip([phases.resolve, phases.connect, phases.tls, phases.wait, phases.body]) {
            if let Some(took) = took {
                self.time("watchover_probe_duration_seconds", &[app, site.as_str(), signal, phase], took.as_secs_f64());
            }
        }
    }

    /// One call to AWS.
    pub fn aws_call(&self, service: &str, operation: &str, outcome: &str, seconds: f64) {
        self.count("watchover_aws_calls_total", &[service, operation, outcome], 1);
        self.time("watchover_aws_call_duration_seconds", &[service, operation], seconds);
    }

    /// How late a pulse was.
    pub fn loop_lag(&self, seconds: f64) {
        self.time("watchover_loop_lag_seconds", &[], seconds);
    }

    /// How long a durable write took.
    pub fn journal_write(&self, seconds: f64) {
        self.time("watchover_journal_write_seconds", &[], seconds);
    }

    /// A config was taken over, or refused. `at`: seconds since 1970.
    pub fn reloaded(&self, ok: bool, at: f64) {
        self.set("watchover_config_last_reload_successful", &[], if ok { 1.0 } else { 0.0 });
        if ok {
            self.set("watchover_config_last_reload_timestamp_seconds", &[], at);
        }
    }

    /// The text format 0.0.4.
    pub fn render(&self) -> String {
        let mut bytes = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut bytes) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("# metrics could not be rendered: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_reference_can_be_made() {
        let metrics = Metrics::new("test");
        assert_eq!(metrics.gauges.len() + metrics.counters.len() + metrics.histograms.len(), ALL.len());
        let text = metrics.render();
        assert!(text.contains("watchover_build_info{revision=\"test\",version="), "{text}");
    }
}
