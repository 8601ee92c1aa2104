//! The one room for figures: what is exported, under which labels, with which words.
//!
//! Gauges follow the state, counters and histograms follow the durable rows, so that a figure is never ahead of the
//! journal. Label sets are closed, and every series of the config is present before anything happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{Registry, TextEncoder};

pub use super::families::MetricDoc;
use super::families::{DOCS, Families};
use super::series::{LOOK_PHASES, OTHER, RTO_PHASES, Series, Wanted, calls_of, count, flag, observe, reason, set, touch};
use super::status;
use crate::domain::ledger::{Entry, Figures, Record};
use crate::domain::model::{AppName, Direction, Moment, Outcome, Phases, SiteName, Trigger, Verdict};
use crate::domain::policy::AppPolicy;
use crate::ports::Permission;

/// How the AWS room classes its calls.
const OUTCOMES: &[&str] = &["ok", "throttled", "timeout", "error"];
/// Our own code names its operations; far fewer than this.
const MAX_CALLS: usize = 200;
/// How a message can end.
const MESSAGES: &[&str] = &["sent", "failed"];

/// All metrics, for the reference.
pub fn reference() -> Vec<MetricDoc> {
    DOCS.to_vec()
}

/// The figures. Shared by the decision, the looks, the AWS clients and whoever scrapes.
pub struct Metrics {
    registry: Registry,
    pub(super) families: Families,
    kept: Mutex<Kept>,
    /// Held while the gauges are set, and while they are gathered. Looks and rows are counted without it: a scrape of many
    /// apps takes long, and nobody who watches or decides may wait for it.
    pub(super) picture: Mutex<()>,
}

/// What a row that only names a step or an incident needs to be counted.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) policies: BTreeMap<AppName, Arc<AppPolicy>>,
    series: BTreeSet<Series>,
    pub(super) open: BTreeMap<String, Open>,
    calls: BTreeSet<(String, String)>,
    receivers: BTreeSet<String>,
    pub(super) reloaded: bool,
}

pub(super) struct Open {
    pub(super) direction: Direction,
    pub(super) trigger: Trigger,
    /// By step: its kind, and when its turn came.
    pub(super) steps: BTreeMap<String, (String, Option<Moment>)>,
    pub(super) stuck: bool,
}

impl Metrics {
    /// All families, with the series that need no config. `revision` names the source that was built.
    pub fn new(revision: &str) -> Metrics {
        let registry = Registry::new();
        // Names and labels are literals of one file, and a test makes them all.
        let families = Families::new(&registry).unwrap_or_else(|error| unreachable!("a metric family is declared wrongly: {error}"));
        let metrics = Metrics { registry, families, kept: Mutex::default(), picture: Mutex::default() };
        let all = &metrics.families;
        set(&all.build_info, &[env!("CARGO_PKG_VERSION"), revision], 1.0);
        touch(&all.loop_lag, &[]);
        touch(&all.journal_write, &[]);
        // A daemon that runs has read its config, and opened its journal.
        set(&all.reload_successful, &[], 1.0);
        set(&all.journal_writable, &[], 1.0);
        set(&all.start_time, &[], f64::NAN);
        set(&all.reload_timestamp, &[], f64::NAN);
        metrics.expect_calls(&[("sts", "GetCallerIdentity")]);
        metrics
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        // The maps are changed by single calls: no holder leaves a half-done state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every series of these apps, and removes those of apps, signals and steps that are gone. Counts of what stays, stay.
    pub fn install(&self, policies: &[Arc<AppPolicy>]) {
        self.install_into(&mut self.kept(), policies.iter());
    }

    pub(super) fn install_into<'a>(&self, kept: &mut Kept, policies: impl Iterator<Item = &'a Arc<AppPolicy>>) {
        kept.policies = policies.map(|policy| (policy.name.clone(), Arc::clone(policy))).collect();
        let mut wanted = Wanted { families: &self.families, kept: &kept.series, series: BTreeSet::new() };
        for policy in kept.policies.values() {
            wanted.app(policy);
        }
        let new = wanted.series;
        for (name, labels) in kept.series.difference(&new) {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            self.families.forget(name, &labels);
        }
        kept.series = new;
    }

    /// Makes the series of these `(service, operation)` pairs, so that they are present before the first call.
    pub fn expect_calls(&self, calls: &[(&str, &str)]) {
        let mut kept = self.kept();
        for (service, operation) in calls {
            self.known_call(&mut kept, service, operation);
        }
    }

    /// The same for whatever a config's parts may call, by what they need to be allowed.
    pub fn expect<'a>(&self, permissions: impl IntoIterator<Item = &'a Permission>) {
        for permission in permissions {
            self.expect_calls(&calls_of(&permission.action));
        }
    }

    /// True if the pair has series; makes them while there is room.
    fn known_call(&self, kept: &mut Kept, service: &str, operation: &str) -> bool {
        let key = (service.to_owned(), operation.to_owned());
        if kept.calls.contains(&key) {
            return true;
        }
        if kept.calls.len() >= MAX_CALLS && service != OTHER {
            return false;
        }
        touch(&self.families.aws_call_duration, &[service, operation]);
        OUTCOMES.iter().for_each(|outcome| count(&self.families.aws_calls, &[service, operation, outcome], 0));
        kept.calls.insert(key)
    }

    /// For how long a scrape is good enough.
    pub fn rest(&self) -> Duration {
        status::rest(self.kept().policies.len())
    }

    /// Counts what became durable.
    pub fn record(&self, records: &[Record]) {
        let mut kept = self.kept();
        for record in records {
            if let (Some(app), Some(incident)) = (&record.app, &record.incident) {
                self.record_one(&mut kept, app, incident, record);
            }
        }
    }

    fn record_one(&self, kept: &mut Kept, app: &str, incident: &str, record: &Record) {
        let all = &self.families;
        if let Entry::Opened { trigger, direction, .. } = &record.entry {
            kept.open.insert(incident.to_owned(), Open { direction: *direction, trigger: *trigger, steps: BTreeMap::new(), stuck: false });
            return;
        }
        let Some(open) = kept.open.get_mut(incident) else { return };
        let ends = |open: &Open, outcome: Outcome| {
            count(&all.incidents, &[app, open.direction.as_str(), open.trigger.as_str(), outcome.as_str()], 1)
        };
        match &record.entry {
            Entry::Commanded { .. } => open.trigger = Trigger::Operator,
            Entry::Planned { plan } => open.steps = plan.steps.iter().map(|step| (step.name.clone(), (step.kind.clone(), None))).collect(),
            Entry::StepStarted { step } => {
                if let Some((_, started)) = open.steps.get_mut(step) {
                    *started = Some(record.at);
                }
            }
            Entry::StepVerified { step, .. } | Entry::StepFailed { step, .. } => {
                let Some((kind, started)) = open.steps.get_mut(step) else { return };
                if let Some(started) = started.take() {
                    observe(&all.step_duration, &[app, step, kind], record.at.since(started).as_secs_f64());
                    kept.series.insert(("step_duration_seconds", vec![app.to_owned(), step.clone(), kind.clone()]));
                }
                if let Entry::StepFailed { code, .. } = &record.entry {
                    let reason = reason(code);
                    count(&all.step_failures, &[app, step, kind, reason], 1);
                    kept.series.insert(("step_failures_total", vec![app.to_owned(), step.clone(), kind.clone(), reason.to_owned()]));
                }
            }
            Entry::Stuck { .. } if !open.stuck => {
                open.stuck = true;
                ends(open, Outcome::Stuck);
            }
            Entry::Closed { outcome, figures, .. } => {
                // One that closes as stuck was counted when it got stuck.
                if *outcome != Outcome::Stuck || !open.stuck {
                    ends(open, *outcome);
                }
                let labels = [app, open.direction.as_str(), open.trigger.as_str()];
                if figures.rto_seconds.is_some() {
                    for (phase, seconds) in rto_phases(figures) {
                        if let Some(seconds) = seconds {
                            observe(&all.rto, &[labels[0], labels[1], labels[2], phase], seconds);
                        }
                    }
                    self.show_last(&labels, figures);
                }
                kept.open.remove(incident);
            }
            _ => {}
        }
    }

    /// One look at a signal of the config in force; others (a look of the old config that ends late) are not counted.
    pub fn look(&self, app: &AppName, site: SiteName, signal: &str, verdict: Verdict, phases: &Phases) {
        let kept = self.kept();
        let known = kept.policies.get(app).is_some_and(|policy| policy.site(site).signals.iter().any(|one| one.name == signal));
        if !known {
            return;
        }
        count(&self.families.probes, &[app, site.as_str(), signal, verdict.health().as_str()], 1);
        for (phase, took) in LOOK_PHASES.iter().zip([phases.resolve, phases.connect, phases.tls, phases.wait, phases.body]) {
            if let Some(took) = took {
                observe(&self.families.probe_duration, &[app, site.as_str(), signal, phase], took.as_secs_f64());
            }
        }
    }

    /// When the certificate that a signal was shown ends (wall, microseconds).
    pub fn certificate(&self, app: &AppName, site: SiteName, signal: &str, ends: i64) {
        let kept = self.kept();
        let series = ("certificate_expiry_timestamp_seconds", vec![app.to_string(), site.as_str().to_owned(), signal.to_owned()]);
        if kept.series.contains(&series) {
            set(&self.families.certificate_expiry, &[app, site.as_str(), signal], ends as f64 / 1e6);
        }
    }

    /// One call to AWS, all its attempts together.
    pub fn aws_call(&self, service: &str, operation: &str, outcome: &str, seconds: f64) {
        let mut kept = self.kept();
        let (service, operation) = if self.known_call(&mut kept, service, operation) {
            (service, operation)
        } else {
            self.known_call(&mut kept, OTHER, OTHER);
            (OTHER, OTHER)
        };
        let outcome = OUTCOMES.iter().find(|known| **known == outcome).unwrap_or(&"error");
        count(&self.families.aws_calls, &[service, operation, outcome], 1);
        observe(&self.families.aws_call_duration, &[service, operation], seconds);
    }

    /// Makes the series of these receivers of messages, so that they are present before the first message, and removes those
    /// of receivers that are gone.
    pub fn expect_receivers(&self, names: &[&str]) {
        let mut kept = self.kept();
        let new: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        for gone in kept.receivers.difference(&new) {
            MESSAGES.iter().for_each(|outcome| self.families.forget("messages_total", &[gone, outcome]));
            self.families.forget("messages_dropped_total", &[gone]);
        }
        for name in &new {
            MESSAGES.iter().for_each(|outcome| count(&self.families.messages, &[name, outcome], 0));
            count(&self.families.messages_dropped, &[name], 0);
        }
        kept.receivers = new;
    }

    /// A message reached its end: `sent` or `failed`. One of a receiver that is gone may end late; it is not counted.
    pub fn message(&self, receiver: &str, outcome: &str) {
        if self.kept().receivers.contains(receiver) {
            count(&self.families.messages, &[receiver, outcome], 1);
        }
    }

    /// A message did not fit into its receiver's queue.
    pub fn message_dropped(&self, receiver: &str) {
        if self.kept().receivers.contains(receiver) {
            count(&self.families.messages_dropped, &[receiver], 1);
        }
    }

    /// How late a pulse of the decision loop was.
    pub fn loop_lag(&self, seconds: f64) {
        observe(&self.families.loop_lag, &[], seconds);
    }

    /// How long a durable write took.
    pub fn journal_write(&self, seconds: f64) {
        observe(&self.families.journal_write, &[], seconds);
    }

    /// A config was taken over, or refused. `at`: seconds since 1970.
    pub fn reloaded(&self, ok: bool, at: f64) {
        set(&self.families.reload_successful, &[], flag(ok));
        if ok {
            self.kept().reloaded = true;
            set(&self.families.reload_timestamp, &[], at);
        }
    }

    /// The text format 0.0.4. No scrape sees half of a refresh.
    pub fn render(&self) -> String {
        let gathered = {
            let _whole = self.picture(true);
            self.registry.gather()
        };
        let mut text = String::new();
        match TextEncoder::new().encode_utf8(&gathered, &mut text) {
            // The crate writes Rust's word for it.
            Ok(()) => text.replace(" inf\n", " +Inf\n").replace(" -inf\n", " -Inf\n"),
            Err(error) => format!("# the metrics could not be rendered: {error}\n"),
        }
    }
}

/// The phases and their total, each with its seconds if it is known.
pub(super) fn rto_phases(figures: &Figures) -> impl Iterator<Item = (&'static str, Option<f64>)> {
    RTO_PHASES.iter().map(|phase| (*phase, if *phase == "total" { figures.rto_seconds } else { figures.phases.get(*phase).copied() }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::time::Duration;

    use super::super::control::Fleet;
    use super::*;
    use crate::domain::app::Input;
    use crate::domain::decide::App;
    use crate::domain::fixtures::{at, opened, policy, record};
    use crate::domain::gates::Around;
    use crate::domain::ledger::Ledger;
    use crate::domain::model::{Cause, Finding, Look, Subject};
    use crate::domain::rpo::{Assumption, Exposure};

    fn fleet(policies: &[Arc<AppPolicy>]) -> Fleet {
        let apps = policies.iter().map(|policy| (policy.name.clone(), App::new(Arc::clone(policy), Ledger::default(), 1))).collect();
        Fleet { apps, unnamed: Vec::new(), around: Around::default() }
    }

    fn refresh(metrics: &Metrics, fleet: &Fleet) {
        metrics.refresh(fleet, &super::super::status::judge(fleet, at(1)), at(1));
    }

    fn row(seconds: i64, entry: Entry) -> Record {
        record(entry, seconds)
    }

    fn value(text: &str, series: &str) -> Option<f64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(&format!("watchover_{series} ")))?;
        rest.parse().ok()
    }

    #[test]
    fn every_family_and_label_is_present_from_the_start() {
        let metrics = Metrics::new("abc");
        metrics.install(&[policy("shop")]);
        metrics.expect_receivers(&["pager"]);
        let text = metrics.render();
        for doc in reference() {
            assert!(text.contains(&format!("# HELP {} {}\n", doc.name, doc.help)), "{}: {text}", doc.name);
            assert!(text.contains(&format!("# TYPE {} {}\n", doc.name, doc.kind)), "{}", doc.name);
            let suffix = if doc.kind == "histogram" { "_count" } else { "" };
            let series = text
                .lines()
                .find(|line| line.starts_with(&format!("{}{suffix}{{", doc.name)) || line.starts_with(&format!("{}{suffix} ", doc.name)));
            let series = series.unwrap_or_else(|| panic!("{} has no series", doc.name));
            for label in doc.labels {
                assert!(series.contains(&format!("{label}=\"")), "{series} lacks {label}");
            }
        }
        assert_eq!(reference().len(), 36);
        assert!(text.contains("watchover_rpo_exposure_seconds{app=\"shop\"} NaN"), "{text}");
    }

    #[test]
    fn one_hot_families_sum_to_one_before_and_after_a_refresh() {
        let (metrics, policies) = (Metrics::new("abc"), [policy("shop"), policy("till")]);
        metrics.install(&policies);
        for _ in 0..2 {
            let text = metrics.render();
            let mut sums: BTreeMap<String, f64> = BTreeMap::new();
            for family in ["signal_verdict", "site_state", "replication_state", "app_state", "active_site", "front_door", "front_door_site"]
            {
                for line in text.lines().filter(|line| line.starts_with(&format!("watchover_{family}{{"))) {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    // Labels are sorted by name: what varies is taken out.
                    let fixed: Vec<&str> = series
                        .split(['{', ',', '}'])
                        .filter(|label| {
                            let varies = label.starts_with("state=") || label.starts_with("verdict=");
                            let site = ["active_site", "front_door_site"].contains(&family) && label.starts_with("site=");
                            !(varies || site)
                        })
                        .collect();
                    *sums.entry(fixed.join(",")).or_default() += value.parse::<f64>().unwrap();
                }
            }
            assert_eq!(sums.len(), 2 * (3 + 2 + 1 + 1 + 1 + 1 + 1), "{sums:?}");
            assert!(sums.values().all(|sum| (*sum - 1.0).abs() < 1e-9), "{sums:?}");
            refresh(&metrics, &fleet(&policies));
        }
    }

    #[test]
    fn a_journal_that_takes_nothing_shows_until_it_takes_a_row() {
        let (metrics, mut fleet) = (Metrics::new("abc"), fleet(&[policy("shop")]));
        assert_eq!(value(&metrics.render(), "journal_writable"), Some(1.0));
        for (fault, shown) in [(Some("disk is full"), 0.0), (None, 1.0)] {
            fleet.around.journal_fault = fault.map(str::to_owned);
            refresh(&metrics, &fleet);
            assert_eq!(value(&metrics.render(), "journal_writable"), Some(shown), "{fault:?}");
        }
    }

    #[test]
    fn a_new_process_shows_by_when_it_began() {
        let (metrics, mut fleet) = (Metrics::new("abc"), fleet(&[]));
        fleet.around.started = at(7);
        refresh(&metrics, &fleet);
        metrics.reloaded(true, 9.0);
        refresh(&metrics, &fleet);
        assert_eq!(value(&metrics.render(), "start_time_seconds"), Some(at(7).wall as f64 / 1e6), "a reload is no start");
    }

    #[test]
    fn the_front_door_shows_what_users_get_and_from_where_until_its_app_is_gone() {
        let metrics = Metrics::new("abc");
        let mut fleet = fleet(&[policy("shop"), policy("till")]);
        let standby = Some(SiteName::Standby);
        let looks = [
            (Verdict::Up, standby, ["up", "standby"]),
            (Verdict::Down(Cause::Status), None, ["down", "unknown"]),
            (Verdict::Up, Some(SiteName::Primary), ["up", "primary"]),
            (Verdict::Unknown(Cause::ResolverTimeout), None, ["unknown", "unknown"]),
        ];
        for (second, (verdict, from, [shown, site])) in (1..).zip(looks) {
            let finding = Finding { from, ..Finding::new(verdict, "") };
            let look = Look { subject: Subject::FrontDoor, sent: at(second), done: at(second), finding };
            fleet.apps.get_mut("shop").unwrap().observe(Input::Look(look));
            refresh(&metrics, &fleet);
            let text = metrics.render();
            assert_eq!(value(&text, &format!("front_door{{app=\"shop\",verdict=\"{shown}\"}}")), Some(1.0), "{text}");
            assert_eq!(value(&text, &format!("front_door_site{{app=\"shop\",site=\"{site}\"}}")), Some(1.0), "{text}");
            assert_eq!(value(&text, "front_door{app=\"till\",verdict=\"unknown\"}"), Some(1.0), "{text}");
        }
        fleet.apps.retain(|name, _| name.as_ref() == "till");
        refresh(&metrics, &fleet);
        let text = metrics.render();
        assert!(text.contains("watchover_front_door_site{app=\"till\"") && !text.contains("\"shop\""), "{text}");
    }

    #[test]
    fn a_receiver_that_is_gone_takes_its_series_along() {
        let metrics = Metrics::new("abc");
        metrics.expect_receivers(&["pager", "mail"]);
        metrics.message("pager", "sent");
        metrics.expect_receivers(&["pager"]);
        // What was on its way to it ends late.
        metrics.message("mail", "failed");
        metrics.message_dropped("mail");
        let text = metrics.render();
        assert_eq!(value(&text, "messages_total{outcome=\"sent\",receiver=\"pager\"}"), Some(1.0), "{text}");
        assert_eq!(value(&text, "messages_dropped_total{receiver=\"pager\"}"), Some(0.0), "{text}");
        assert!(!text.contains("mail"), "{text}");
    }

    #[test]
    fn a_reload_removes_what_is_gone_and_keeps_the_counts_of_what_stays() {
        let (metrics, shop, till) = (Metrics::new("abc"), policy("shop"), policy("till"));
        metrics.install(&[Arc::clone(&shop), till]);
        metrics.look(
            &"shop".into(),
            SiteName::Primary,
            "alb",
            Verdict::Down(Cause::Refused),
            &Phases { connect: Some(Duration::from_millis(3)), ..Phases::default() },
        );
        metrics.look(&"shop".into(), SiteName::Primary, "nobody", Verdict::Up, &Phases::default());
        let certificate = "certificate_expiry_timestamp_seconds{app=\"shop\",signal=\"alb\",site=\"primary\"}";
        assert!(metrics.render().contains(&format!("watchover_{certificate} NaN")));
        metrics.certificate(&"shop".into(), SiteName::Primary, "alb", 4_000_000);
        metrics.certificate(&"shop".into(), SiteName::Primary, "nobody", 4_000_000);
        assert_eq!(value(&metrics.render(), certificate), Some(4.0));
        metrics.install(&[shop]);
        let text = metrics.render();
        assert!(!text.contains("\"till\"") && !text.contains("\"nobody\""), "{text}");
        assert_eq!(value(&text, "probes_total{app=\"shop\",signal=\"alb\",site=\"primary\",verdict=\"down\"}"), Some(1.0));
        assert_eq!(value(&text, "probe_duration_seconds_count{app=\"shop\",phase=\"connect\",signal=\"alb\",site=\"primary\"}"), Some(1.0));
    }

    #[test]
    fn a_move_is_counted_from_its_rows() {
        let metrics = Metrics::new("abc");
        metrics.install(&[policy("shop")]);
        let phases = [("detect", 3.0), ("hold", 0.0), ("approve", 0.0), ("execute", 40.0), ("prove", 2.0)]
            .map(|(name, seconds)| (name.to_owned(), seconds));
        let exposure = Exposure { seconds: Some(f64::INFINITY), sample: None, end_of_writes: 0, assumption: Assumption::WritesUntilNow };
        let figures = Figures { rto_seconds: Some(45.0), phases: phases.into(), rpo: Some(exposure), ..Figures::default() };
        let closed = Entry::Closed { outcome: Outcome::Moved, active: Some(SiteName::Standby), figures: Box::new(figures), by: None };
        metrics.record(&[
            row(0, opened(None)),
            row(3, Entry::Planned { plan: policy("shop").failover.clone() }),
            row(3, Entry::StepStarted { step: "promote".into() }),
            row(
                13,
                Entry::StepFailed {
                    step: "promote".into(),
                    code: "InvalidDBInstanceState".into(),
                    words: String::new(),
                    needs_person: false,
                },
            ),
            row(14, Entry::StepStarted { step: "promote".into() }),
            row(43, Entry::StepVerified { step: "promote".into(), already: false, facts: serde_json::Value::Null }),
            row(45, closed),
        ]);
        // Rows of an incident that is over are not counted twice.
        metrics.record(&[row(46, Entry::Stuck { words: String::new(), waits_for: String::new() })]);
        let text = metrics.render();
        let of = "app=\"shop\",direction=\"to-standby\"";
        assert_eq!(value(&text, &format!("incidents_total{{{of},outcome=\"moved\",trigger=\"outage\"}}")), Some(1.0), "{text}");
        assert_eq!(value(&text, &format!("incidents_total{{{of},outcome=\"stuck\",trigger=\"outage\"}}")), Some(0.0));
        assert_eq!(value(&text, &format!("rto_seconds_sum{{{of},phase=\"total\",trigger=\"outage\"}}")), Some(45.0));
        assert_eq!(value(&text, &format!("last_incident_rto_seconds{{{of},phase=\"execute\",trigger=\"outage\"}}")), Some(40.0));
        assert!(text.contains(&format!("last_incident_rpo_seconds{{{of},trigger=\"outage\"}} +Inf")), "{text}");
        let step = "app=\"shop\",kind=\"rds-promote-replica\"";
        assert_eq!(value(&text, &format!("step_duration_seconds_sum{{{step},step=\"promote\"}}")), Some(39.0));
        assert_eq!(value(&text, &format!("step_failures_total{{{step},reason=\"invalid-state\",step=\"promote\"}}")), Some(1.0));
    }

    #[test]
    fn a_step_that_fails_makes_no_series_and_its_reason_is_one_that_a_person_can_act_on() {
        let metrics = Metrics::new("abc");
        metrics.install(&[policy("shop")]);
        let series = || {
            let text = metrics.render();
            let of = |line: &&str| line.starts_with("watchover_step_failures_total{");
            text.lines().filter(of).map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<BTreeSet<_>>()
        };
        let before = series();
        let cases = [
            ("AccessDeniedException", "AccessDenied"),
            ("http-403", "AccessDenied"),
            ("ExpiredToken", "no-credentials"),
            ("no-credentials", "no-credentials"),
            ("RequestLimitExceeded", "throttled"),
            ("ScalingActivityInProgress", "invalid-state"),
            ("DBInstanceNotFoundFault", "not-found"),
            ("NoSuchBucket", "not-found"),
            ("topic-not-found", "not-found"),
            ("timed-out", "timeout"),
            ("timeout", "timeout"),
            ("InternalFailure", "server-error"),
            ("http-502", "server-error"),
            ("exit-7", "exit-code"),
            ("deadline", "deadline"),
            ("aurora", "other"),
            ("a sentence, not a code", "other"),
        ];
        let plan = policy("shop").failover.clone();
        metrics.record(&[row(0, opened(None)), row(1, Entry::Planned { plan })]);
        for (code, wanted) in cases {
            assert_eq!(reason(code), wanted, "{code}");
            let code = code.to_owned();
            metrics.record(&[row(2, Entry::StepFailed { step: "promote".into(), code, words: String::new(), needs_person: false })]);
        }
        assert_eq!(series(), before);
        let step = "app=\"shop\",kind=\"rds-promote-replica\"";
        let denied = format!("step_failures_total{{{step},reason=\"AccessDenied\",step=\"promote\"}}");
        assert_eq!(value(&metrics.render(), &denied), Some(2.0));
        let help = reference().into_iter().find(|doc| doc.name.ends_with("step_failures_total")).unwrap().help;
        assert!(super::super::series::REASONS.iter().all(|reason| help.contains(reason)), "{help}");
    }

    #[test]
    fn calls_that_the_config_may_make_have_their_series_before_the_first() {
        let metrics = Metrics::new("abc");
        let may = |action: &str| Permission { action: action.into(), resource: "*".into(), account: None };
        metrics.expect(
            &[
                "rds:PromoteReadReplica",
                "s3:PutObject",
                "s3:GetBucketPublicAccessBlock",
                "elasticloadbalancing:DescribeTargetHealth",
                "s3:ListBucket",
                "odd",
            ]
            .map(may),
        );
        let text = metrics.render();
        for call in [
            "operation=\"PromoteReadReplica\",outcome=\"throttled\",service=\"rds\"",
            "operation=\"HeadObject\",outcome=\"ok\",service=\"s3\"",
            "operation=\"GetPublicAccessBlock\",outcome=\"ok\",service=\"s3\"",
        ] {
            assert_eq!(value(&text, &format!("aws_calls_total{{{call}}}")), Some(0.0), "{text}");
        }
        let timed = "operation=\"DescribeTargetHealth\",service=\"elbv2\"";
        assert_eq!(value(&text, &format!("aws_call_duration_seconds_count{{{timed}}}")), Some(0.0), "{text}");
        assert!(!text.contains("ListBucket") && !text.contains("odd"), "{text}");
    }

    #[test]
    fn a_loss_without_bound_is_exported_as_infinite() {
        let (metrics, policies) = (Metrics::new("abc"), [policy("shop")]);
        let fleet = fleet(&policies);
        let mut judged = super::super::status::judge(&fleet, at(1));
        for one in judged.values_mut() {
            one.exposure.seconds = Some(f64::INFINITY);
        }
        metrics.refresh(&fleet, &judged, at(1));
        assert!(metrics.render().contains("watchover_rpo_exposure_seconds{app=\"shop\"} +Inf"));
        let shown = super::super::status::fleet(&fleet, &judged, "here", at(1));
        assert_eq!(shown["apps"][0]["rpo_exposure"]["seconds"], "unbounded");
    }

    #[test]
    fn nobody_else_decides_how_many_series_there_are() {
        let metrics = Metrics::new("abc");
        (0..500).for_each(|n| metrics.aws_call("rds", &format!("Op{n}"), "surprise", 0.1));
        let text = metrics.render();
        assert!(text.lines().filter(|line| line.starts_with("watchover_aws_call_duration_seconds_count{")).count() <= MAX_CALLS + 1);
        assert!(!text.contains("surprise"));
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let (metrics, policies) = (Metrics::new("abc"), [policy("shop")]);
        metrics.install(&policies);
        refresh(&metrics, &fleet(&policies));
        let child = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            assert!(std::env::var_os("CI").is_none(), "promtool is not on PATH");
            println!("skipped: promtool is not on PATH");
            return;
        };
        child.stdin.take().unwrap().write_all(metrics.render().as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success() && words.trim().is_empty(), "{words}");
    }
}
