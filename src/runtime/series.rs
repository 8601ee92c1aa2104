//! Which series a config has, before anything happens: what a dashboard shows as zero rather than as missing.

use std::collections::BTreeSet;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec};

use super::families::Families;
use crate::domain::gates;
use crate::domain::model::{Direction, Health, Outcome, ReplicaState, SiteName, State, Trigger};
use crate::domain::policy::{AppPolicy, SignalPolicy};
use crate::domain::report::{THROTTLES, is_no_attempt};
use crate::ports::{BAD_CREDENTIALS, DENIALS};

pub(super) const RTO_PHASES: &[&str] = &["detect", "hold", "approve", "execute", "prove", "total"];
pub(super) const LOOK_PHASES: &[&str] = &["resolve", "connect", "tls", "wait", "body"];
/// Why a step fails: each has its series before it ever happens, and there is no other. The first are our own, the second
/// are what a person can act on in what the world says.
pub(super) const REASONS: &[&str] = &[
    "deadline",
    "attempts",
    "cannot-tell",
    "data-loss",
    "declined",
    "exit-code",
    "stale-epoch",
    "AccessDenied",
    "no-credentials",
    "throttled",
    "invalid-state",
    "not-found",
    "timeout",
    "no-answer",
    "server-error",
    "malformed-answer",
    OTHER,
];
/// Where users are, or were seen to be, and what is said while nobody knows.
pub(super) const SITES: [&str; 3] = ["primary", "standby", "unknown"];
/// What has no label of its own.
pub(super) const OTHER: &str = "other";

/// The reason that a step's error code stands for. The services have hundreds of codes, and may have new ones tomorrow.
pub(super) fn reason(code: &str) -> &'static str {
    if let Some(own) = REASONS.iter().find(|known| **known == code) {
        return own;
    }
    // What has no code of its own goes by its status.
    let status: u16 = code.strip_prefix("http-").and_then(|status| status.parse().ok()).unwrap_or_default();
    match code {
        _ if DENIALS.contains(&code) || status == 403 => "AccessDenied",
        _ if BAD_CREDENTIALS.contains(&code) => "no-credentials",
        _ if THROTTLES.contains(&code) => "throttled",
        "RequestTimeout" | "RequestTimeoutException" | "timed-out" => "timeout",
        _ if is_no_attempt(code) || code == "instance-status" => "invalid-state",
        _ if status >= 500 || code.starts_with("Internal") || code.starts_with("ServiceUnavailable") => "server-error",
        _ if status == 404 || code.contains("NotFound") || code.starts_with("NoSuch") || code.ends_with("-not-found") => "not-found",
        _ if code.starts_with("exit-") => "exit-code",
        _ => OTHER,
    }
}
/// One series: its family's name without the prefix, and its label values.
pub(super) type Series = (&'static str, Vec<String>);

/// The calls that an IAM action stands for, under the names that the AWS room gives them. Where the two differ: the
/// service's prefix, S3's reads, and actions that no call of ours is named after.
pub(super) fn calls_of(action: &str) -> Vec<(&str, &str)> {
    match action.split_once(':') {
        Some(("s3", "GetObject")) => vec![("s3", "HeadObject")],
        // Whoever writes an object looks at it first; being publicly readable, that needs no permission.
        Some(("s3", "PutObject")) => vec![("s3", "PutObject"), ("s3", "HeadObject")],
        Some(("s3", "GetBucketPublicAccessBlock")) => vec![("s3", "GetPublicAccessBlock")],
        Some(("s3", "ListBucket")) | None => Vec::new(),
        Some(("elasticloadbalancing", operation)) => vec![("elbv2", operation)],
        Some(call) => vec![call],
    }
}

/// Makes the series of the config, and notes them.
pub(super) struct Wanted<'a> {
    pub families: &'a Families,
    pub kept: &'a BTreeSet<Series>,
    pub series: BTreeSet<Series>,
}

impl Wanted<'_> {
    /// Notes a series; true if it is new.
    fn note(&mut self, name: &'static str, labels: &[&str]) -> bool {
        let series = (name, labels.iter().map(|label| (*label).to_owned()).collect());
        let new = !self.kept.contains(&series);
        self.series.insert(series) && new
    }

    fn gauge(&mut self, name: &'static str, family: &GaugeVec, labels: &[&str], value: f64) {
        if self.note(name, labels) {
            set(family, labels, value);
        }
    }

    fn one_hot(&mut self, name: &'static str, family: &GaugeVec, labels: &[&str], words: impl Iterator<Item = &'static str>, on: &str) {
        for word in words {
            let labels: Vec<&str> = labels.iter().copied().chain([word]).collect();
            self.gauge(name, family, &labels, flag(word == on));
        }
    }

    fn counter(&mut self, name: &'static str, family: &IntCounterVec, labels: &[&str]) {
        self.note(name, labels);
        count(family, labels, 0);
    }

    fn histogram(&mut self, name: &'static str, family: &HistogramVec, labels: &[&str]) {
        self.note(name, labels);
        touch(family, labels);
    }

    pub fn app(&mut self, policy: &AppPolicy) {
        let (all, app) = (self.families, policy.name.as_ref());
        for site in SiteName::ALL {
            self.one_hot("site_state", &all.site_state, &[app, site.as_str()], Health::ALL.iter().map(|one| one.as_str()), "unknown");
            for signal in &policy.site(*site).signals {
                self.signal([app, site.as_str(), &signal.name], signal);
            }
        }
        self.note("rpo_objective_seconds", &[app]);
        set(&all.rpo_objective, &[app], policy.rpo_objective.as_secs_f64());
        self.note("rto_objective_seconds", &[app]);
        set(&all.rto_objective, &[app], policy.rto_objective.as_secs_f64());
        self.gauge("rpo_exposure_seconds", &all.rpo_exposure, &[app], f64::NAN);
        self.one_hot("app_state", &all.app_state, &[app], State::ALL.iter().map(|one| one.as_str()), State::Watching.as_str());
        self.one_hot("active_site", &all.active_site, &[app], SITES.into_iter(), "unknown");
        self.one_hot("front_door", &all.front_door, &[app], Health::ALL.iter().map(|one| one.as_str()), "unknown");
        self.one_hot("front_door_site", &all.front_door_site, &[app], SITES.into_iter(), "unknown");
        for gate in gates::NAMES {
            self.gauge("gate_open", &all.gate_open, &[app, gate], 0.0);
        }
        self.gauge("paused", &all.paused, &[app], 0.0);
        self.gauge("incident_active", &all.incident_active, &[app], 0.0);
        self.gauge("incident_elapsed_seconds", &all.incident_elapsed, &[app], 0.0);
        for direction in Direction::ALL {
            for trigger in Trigger::ALL {
                self.incident([app, direction.as_str(), trigger.as_str()]);
            }
        }
        for step in policy.failover.steps.iter().chain(&policy.failback.steps) {
            self.histogram("step_duration_seconds", &all.step_duration, &[app, &step.name, &step.kind]);
            for reason in REASONS {
                self.counter("step_failures_total", &all.step_failures, &[app, &step.name, &step.kind, reason]);
            }
        }
    }

    fn signal(&mut self, [app, site, signal]: [&str; 3], policy: &SignalPolicy) {
        let all = self.families;
        self.one_hot("signal_verdict", &all.signal_verdict, &[app, site, signal], Health::ALL.iter().map(|one| one.as_str()), "unknown");
        for verdict in Health::ALL {
            self.counter("probes_total", &all.probes, &[app, site, signal, verdict.as_str()]);
        }
        for phase in LOOK_PHASES {
            self.histogram("probe_duration_seconds", &all.probe_duration, &[app, site, signal, phase]);
        }
        // The one kind that speaks TLS; others have no certificate to show.
        if policy.kind == "http" {
            self.gauge("certificate_expiry_timestamp_seconds", &all.certificate_expiry, &[app, site, signal], f64::NAN);
        }
        if policy.replica {
            self.gauge("replication_lag_seconds", &all.replication_lag, &[app, signal], f64::NAN);
            self.gauge("replication_lag_sample_age_seconds", &all.replication_age, &[app, signal], f64::NAN);
            self.one_hot(
                "replication_state",
                &all.replication_state,
                &[app, signal],
                ReplicaState::ALL.iter().map(|one| one.as_str()),
                "unknown",
            );
        }
    }

    fn incident(&mut self, [app, direction, trigger]: [&str; 3]) {
        let all = self.families;
        for outcome in Outcome::ALL {
            self.counter("incidents_total", &all.incidents, &[app, direction, trigger, outcome.as_str()]);
        }
        for phase in RTO_PHASES {
            self.histogram("rto_seconds", &all.rto, &[app, direction, trigger, phase]);
            self.gauge("last_incident_rto_seconds", &all.last_rto, &[app, direction, trigger, phase], f64::NAN);
        }
        self.gauge("last_incident_rpo_seconds", &all.last_rpo, &[app, direction, trigger], f64::NAN);
    }
}

pub(super) fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

// The number of labels is wrong in none of these: the families and their users stand side by side, and a test uses them all.

pub(super) fn set(family: &GaugeVec, labels: &[&str], value: f64) {
    if let Ok(gauge) = family.get_metric_with_label_values(labels) {
        gauge.set(value);
    }
}

pub(super) fn count(family: &IntCounterVec, labels: &[&str], by: u64) {
    if let Ok(counter) = family.get_metric_with_label_values(labels) {
        counter.inc_by(by);
    }
}

pub(super) fn observe(family: &HistogramVec, labels: &[&str], seconds: f64) {
    if let Ok(histogram) = family.get_metric_with_label_values(labels) {
        histogram.observe(seconds);
    }
}

pub(super) fn touch(family: &HistogramVec, labels: &[&str]) {
    drop(family.get_metric_with_label_values(labels));
}

pub(super) fn one_hot(family: &GaugeVec, labels: &[&str], words: impl Iterator<Item = &'static str>, on: &str) {
    for word in words {
        let labels: Vec<&str> = labels.iter().copied().chain([word]).collect();
        set(family, &labels, flag(word == on));
    }
}
