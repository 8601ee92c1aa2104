//! Every metric family, declared once: the doc line is the HELP text, the reference and the exposition alike.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use serde::Serialize;

/// One metric, as the reference prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

/// Where a phase of minutes and a phase of milliseconds share a histogram: 5 ms to 4 h. The steps are finest around
/// the times that users notice and objectives name.
const MOVES: &[f64] =
    &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 14400.0];
/// Single calls and looks: their timeouts end them long before the last of these.
const CALLS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What gauges, counters and histograms have in common here.
pub(super) trait Family: Sized {
    const KIND: &'static str;
    fn make(doc: &MetricDoc, buckets: &[f64], registry: &Registry) -> prometheus::Result<Self>;
    fn forget(&self, labels: &[&str]);
}

fn registered<C: Collector + Clone + 'static>(family: C, registry: &Registry) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

impl Family for GaugeVec {
    const KIND: &'static str = "gauge";
    fn make(doc: &MetricDoc, _: &[f64], registry: &Registry) -> prometheus::Result<Self> {
        registered(GaugeVec::new(Opts::new(doc.name, doc.help), doc.labels)?, registry)
    }
    fn forget(&self, labels: &[&str]) {
        // What is not there need not go.
        drop(self.remove_label_values(labels));
    }
}

impl Family for IntCounterVec {
    const KIND: &'static str = "counter";
    fn make(doc: &MetricDoc, _: &[f64], registry: &Registry) -> prometheus::Result<Self> {
        registered(IntCounterVec::new(Opts::new(doc.name, doc.help), doc.labels)?, registry)
    }
    fn forget(&self, labels: &[&str]) {
        drop(self.remove_label_values(labels));
    }
}

impl Family for HistogramVec {
    const KIND: &'static str = "histogram";
    fn make(doc: &MetricDoc, buckets: &[f64], registry: &Registry) -> prometheus::Result<Self> {
        registered(HistogramVec::new(HistogramOpts::new(doc.name, doc.help).buckets(buckets.to_vec()), doc.labels)?, registry)
    }
    fn forget(&self, labels: &[&str]) {
        drop(self.remove_label_values(labels));
    }
}

/// Declares the families: a doc line, a field, its name and labels, and buckets where it counts time.
macro_rules! families {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal [$($label:literal),*] $(in $buckets:ident)?;)+) => {
        /// All families.
        pub(super) struct Families { $($(#[doc = $help])+ pub $field: $kind,)+ }

        /// The same, for the reference.
        pub(super) const DOCS: &[MetricDoc] = &[$(MetricDoc {
            name: concat!("watchover_", $name), kind: <$kind as Family>::KIND, labels: &[$($label),*], help: concat!($($help),+).trim_ascii(),
        }),+];

        impl Families {
            pub fn new(registry: &Registry) -> prometheus::Result<Families> {
                let mut docs = DOCS.iter();
                Ok(Families { $($field: {
                    // Only families that count time name buckets.
                    let buckets: &[f64] = [&[][..], $($buckets)?].last().copied().unwrap_or_default();
                    // Both lists are made of the same lines, in the same order.
                    let doc = docs.next().ok_or_else(|| prometheus::Error::Msg(concat!($name, " has no documentation").to_owned()))?;
                    <$kind as Family>::make(doc, buckets, registry)?
                },)+ })
            }

            /// Takes one series of the family called `name` away.
            pub fn forget(&self, name: &str, labels: &[&str]) {
                match name {
                    $($name => Family::forget(&self.$field, labels),)+
                    _ => {}
                }
            }
        }
    };
}

families! {
    /// Always 1; the labels say which build this is.
    build_info: GaugeVec = "build_info" ["version", "revision"];
    /// Looks done at a signal, by what they said.
    probes: IntCounterVec = "probes_total" ["app", "site", "signal", "verdict"];
    /// How long each phase of a look took, as far as it got.
    probe_duration: HistogramVec = "probe_duration_seconds" ["app", "site", "signal", "phase"] in CALLS;
    /// When the certificate that the signal was last shown ends, seconds since 1970; NaN while none was shown.
    certificate_expiry: GaugeVec = "certificate_expiry_timestamp_seconds" ["app", "site", "signal"];
    /// One-hot: what the latest look at the signal said.
    signal_verdict: GaugeVec = "signal_verdict" ["app", "site", "signal", "verdict"];
    /// One-hot: the site by its own rule, after debouncing.
    site_state: GaugeVec = "site_state" ["app", "site", "state"];
    /// One-hot: what the latest look at the front door, which is what users get, said.
    front_door: GaugeVec = "front_door" ["app", "verdict"];
    /// One-hot: the site that is proven to have answered the latest look at the front door; unknown while none is.
    front_door_site: GaugeVec = "front_door_site" ["app", "site"];
    /// Replication lag of the newest datapoint; NaN while the link does not replicate or nothing is known.
    replication_lag: GaugeVec = "replication_lag_seconds" ["app", "signal"];
    /// Age of the newest datapoint of the lag; NaN while there is none.
    replication_age: GaugeVec = "replication_lag_sample_age_seconds" ["app", "signal"];
    /// One-hot: the replication link in the field's own words.
    replication_state: GaugeVec = "replication_state" ["app", "signal", "state"];
    /// What a move right now would lose, at most; NaN while nobody knows, +Inf if there is no bound.
    rpo_exposure: GaugeVec = "rpo_exposure_seconds" ["app"];
    /// The configured RPO objective: the data-loss gate.
    rpo_objective: GaugeVec = "rpo_objective_seconds" ["app"];
    /// The configured RTO objective.
    rto_objective: GaugeVec = "rto_objective_seconds" ["app"];
    /// One-hot: where the app is in its life.
    app_state: GaugeVec = "app_state" ["app", "state"];
    /// One-hot: which site serves; unknown while nobody has said.
    active_site: GaugeVec = "active_site" ["app", "site"];
    /// 1 if the gate would let a move through as of now; 0 if it is shut or asks for a person.
    gate_open: GaugeVec = "gate_open" ["app", "gate"];
    /// 1 while nothing new is started by itself.
    paused: GaugeVec = "paused" ["app"];
    /// 1 while an incident is open.
    incident_active: GaugeVec = "incident_active" ["app"];
    /// The running RTO clock; 0 while no incident is open.
    incident_elapsed: GaugeVec = "incident_elapsed_seconds" ["app"];
    /// Incidents by how they ended. One that gets stuck counts as stuck at once, and again under its outcome when it is closed.
    incidents: IntCounterVec = "incidents_total" ["app", "direction", "trigger", "outcome"];
    /// RTO of proven moves, by phase; the phases add up to total.
    rto: HistogramVec = "rto_seconds" ["app", "direction", "trigger", "phase"] in MOVES;
    /// RTO of the last proven move, by phase; NaN while there is none.
    last_rto: GaugeVec = "last_incident_rto_seconds" ["app", "direction", "trigger", "phase"];
    /// Loss of the last proven move, at most; NaN while there is none or nobody knows, +Inf if there is no bound.
    last_rpo: GaugeVec = "last_incident_rpo_seconds" ["app", "direction", "trigger"];
    /// From a step's start to its verification or failure.
    step_duration: HistogramVec = "step_duration_seconds" ["app", "step", "kind"] in MOVES;
    /// Steps that failed, by reason. Of our own: deadline, attempts, cannot-tell, data-loss, declined, exit-code,
    /// stale-epoch; of the world: AccessDenied, no-credentials, throttled, invalid-state, not-found, timeout, no-answer,
    /// server-error, malformed-answer; all else is other.
    step_failures: IntCounterVec = "step_failures_total" ["app", "step", "kind", "reason"];
    /// Calls to AWS, by how they ended.
    aws_calls: IntCounterVec = "aws_calls_total" ["service", "operation", "outcome"];
    /// How long calls to AWS took, all attempts together.
    aws_call_duration: HistogramVec = "aws_call_duration_seconds" ["service", "operation"] in CALLS;
    /// Messages by how they ended: sent, or failed after all attempts.
    messages: IntCounterVec = "messages_total" ["receiver", "outcome"];
    /// Messages that did not fit into the queue of their receiver.
    messages_dropped: IntCounterVec = "messages_dropped_total" ["receiver"];
    /// How late the decision loop's pulse was.
    loop_lag: HistogramVec = "loop_lag_seconds" [] in CALLS;
    /// 1 if the journal took the last row that it was given; 0 if it refused it, and nothing is done until it takes one.
    journal_writable: GaugeVec = "journal_writable" [];
    /// How long a durable write to the journal took.
    journal_write: HistogramVec = "journal_write_seconds" [] in CALLS;
    /// When this process began to watch, seconds since 1970.
    start_time: GaugeVec = "start_time_seconds" [];
    /// 1 if the last reading of the config was taken over; 0 if it was refused and the old one stays.
    reload_successful: GaugeVec = "config_last_reload_successful" [];
    /// When the config in force was taken over, seconds since 1970.
    reload_timestamp: GaugeVec = "config_last_reload_timestamp_seconds" [];
}
