//! How a scenario ended: the daemon's figures beside the world's truth.

use serde_json::{Value, json};

use super::checks::Remains;
use super::follow::Teller;
use crate::domain::ledger::{Entry, Figures, Record, Ruling};
use crate::domain::model::Outcome;
use crate::domain::rpo;
use crate::lab::referee::Expect;
use crate::lab::scenarios::Scenario;
use crate::lab::world::SiteName;
use crate::lab::{ConfigOptions, Lab};

/// The end.
pub struct Verdict {
    /// Outcome and invariants are right.
    pub good: bool,
    /// The summary line.
    pub summary: Value,
}

/// The daemon at the end, as an outsider sees it.
pub struct Last {
    /// Its status document.
    pub status: Value,
    /// Its figures, as Prometheus reads them.
    pub metrics: String,
    /// Its anonymous memory, bytes.
    pub memory: Option<u64>,
}

/// One app's end.
struct Told {
    outcome: &'static str,
    figures: Option<Figures>,
    lost: f64,
}

impl Told {
    /// The reported loss, seconds; infinite without a bound.
    fn reported(&self) -> Option<f64> {
        self.figures.as_ref()?.rpo.as_ref()?.seconds
    }
}

/// The reference config's thresholds that the overhead is net of, seconds.
struct Demands {
    min_outage: f64,
    look_timeout: f64,
    fence_deadline: f64,
}

const DEMANDS: Demands = Demands { min_outage: 3.0, look_timeout: 0.8, fence_deadline: 5.0 };

/// Judges a run.
pub fn judge(lab: &Lab, scenario: &Scenario, seed: u64, tell: &Teller, last: &Last) -> Verdict {
    let rows = tell.since_steady();
    let apps: Vec<Told> = lab.addresses().apps.iter().enumerate().map(|(at, app)| told(lab, at, &app.name, rows, &last.status)).collect();
    let expected = scenario.expected.word();
    // Of several, the one that stands out.
    let outcome = apps.iter().map(|app| app.outcome).find(|outcome| *outcome != expected).unwrap_or(expected);
    let expect = if scenario.expected.acts() { Expect::Anything } else { Expect::NoMove };
    let mut violations: Vec<Value> =
        lab.violations(expect).into_iter().map(|found| json!({"name": found.name, "detail": found.detail})).collect();
    for (app, names) in apps.iter().zip(&lab.addresses().apps) {
        let (reported, lost) = (app.reported(), app.lost);
        if lost > 0.0 && reported.is_none_or(|reported| reported < lost) {
            let detail = format!("{}: reported loss {reported:?} below the true {lost}", names.name);
            violations.push(json!({"name": "figures-true", "detail": detail}));
        }
    }
    let truth = lab.true_loss();
    let lost = truth.as_ref().map_or(0.0, |truth| truth.seconds);
    if scenario.loses_nothing && lost > 0.0 {
        violations.push(json!({"name": "loses-nothing", "detail": format!("{lost}s of writes are gone")}));
    }
    let worst = apps.iter().filter_map(Told::reported).max_by(f64::total_cmp);
    let remains = Remains { lab, tell, status: &last.status, metrics: &last.metrics, reported: worst };
    violations.extend(scenario.checks.iter().filter_map(|check| remains.broken(*check)));
    // The slowest speaks for all.
    let figures = apps.iter().filter_map(|app| app.figures.as_ref()).max_by(|a, b| {
        let total = |figures: &Figures| figures.rto_seconds.unwrap_or_default();
        total(a).total_cmp(&total(b))
    });
    let first_failed = rows.iter().find_map(|record| match &record.entry {
        Entry::Confirmed { first_failed, .. } => Some(first_failed.wall),
        _ => None,
    });
    let first_effect = lab.first_effect().zip(first_failed).map(|(at, failed)| lab.unix_ms(at) as f64 / 1e3 - failed as f64 / 1e6);
    // Of several apps none is alone, and where the rate of failures has to show the outage its window is what takes long.
    let plain = apps.len() == 1 && scenario.options.fall == ConfigOptions::default().fall;
    let overhead = figures.filter(|_| plain).and_then(|figures| overhead(lab, tell, figures, first_failed?));
    let good = violations.is_empty() && outcome == expected;
    let phases = figures.map(|figures| json!(figures.phases)).unwrap_or_else(|| json!({}));
    let calls = lab.calls();
    let summary = json!({
        "event": "summary", "schema_version": 1, "scenario": scenario.name, "seed": seed, "outcome": outcome, "expected": expected,
        "apps": apps.len(),
        "rto_seconds": figures.and_then(|figures| figures.rto_seconds),
        "rto_phases": phases,
        "rpo_reported_seconds": rpo::unbounded::value(worst),
        "rpo_true_seconds": truth.as_ref().map(|truth| truth.seconds),
        "rpo_assumption": figures.and_then(|figures| figures.rpo.as_ref()).map(|rpo| rpo.assumption),
        "writes_lost": truth.as_ref().map_or(0, |truth| truth.writes),
        "database": lab.postgres_version().map(|version| database(lab, version, figures)),
        "own_overhead_seconds": overhead,
        "first_effect_seconds": first_effect,
        "daemon_anonymous_bytes": last.memory,
        "aws_calls": calls.iter().map(|call| json!({"service": call.service, "region": call.region, "operation": call.operation, "count": call.count})).collect::<Vec<_>>(),
        "violations": violations,
    });
    Verdict { good, summary }
}

/// What the real servers behind the databases counted, where there are any.
fn database(lab: &Lab, version: &str, figures: Option<&Figures>) -> Value {
    let acknowledged = lab.acknowledged(SiteName::Primary);
    let lost = lab.true_loss().map(|loss| loss.writes);
    let birth = i64::try_from(lab.unix_ms(0)).unwrap_or(i64::MAX).saturating_mul(1_000);
    let sample = figures.and_then(|figures| figures.rpo.as_ref()).and_then(|rpo| rpo.sample);
    json!({
        "engine": "postgres", "version": version,
        "acknowledged_by_primary": acknowledged, "survived": lost.map(|lost| acknowledged.saturating_sub(lost)), "lost": lost,
        // Older samples are the history that every world is born with.
        "lag_sample_seconds": sample.map(|sample| sample.seconds), "lag_sample_is_the_servers": sample.map(|sample| sample.at >= birth),
    })
}

fn told(lab: &Lab, at: usize, name: &str, rows: &[Record], status: &Value) -> Told {
    let own: Vec<&Record> = rows.iter().filter(|record| record.app.as_deref().is_none_or(|app| app == name)).collect();
    let shown = status["apps"].as_array().into_iter().flatten().find(|app| app["name"] == name);
    let holds = shown.is_some_and(|app| app["ruling"] == "hold");
    let mut figures = own.iter().rev().find_map(|record| match &record.entry {
        Entry::Closed { figures, .. } if figures.rto_seconds.is_some() => Some(figures.as_ref().clone()),
        _ => None,
    });
    // What was seen after the end of a move takes the bound off its loss, too.
    let seen = own.iter().find_map(|record| if let Entry::OldSiteSeen { at, .. } = &record.entry { Some(at.wall) } else { None });
    if let (Some(figures), Some(seen)) = (&mut figures, seen) {
        figures.unbound(seen);
    }
    Told { outcome: outcome(&own, holds), figures, lost: lab.true_loss_of(at).map_or(0.0, |truth| truth.seconds) }
}

/// How the incident ended, or where it stands.
fn outcome(rows: &[&Record], holds: bool) -> &'static str {
    let mut outcome = "no-action";
    let mut gated = false;
    for record in rows {
        gated |= matches!(&record.entry, Entry::Gated { ruling: Ruling::Hold, .. });
        match &record.entry {
            // A doubt about the new site, held or not, leaves the move what it was once it has ended.
            Entry::Gated { .. } | Entry::Closed { outcome: Outcome::NoAction | Outcome::CalledOff, .. }
                if outcome == Outcome::Moved.as_str() => {}
            Entry::Gated { ruling: Ruling::Hold, .. } => outcome = "held",
            Entry::Gated { ruling: Ruling::Ask, .. } => outcome = "awaiting-approval",
            Entry::Planned { .. } => outcome = "moving",
            Entry::Stuck { .. } => outcome = "stuck",
            // Held and then called off is how a held outage ends well; it stays what it was.
            Entry::Closed { outcome: Outcome::CalledOff, .. } if gated => {}
            // A doubt that passed does not undo a move that was before it.
            Entry::Closed { outcome: Outcome::NoAction, .. } if matches!(outcome, "moved" | "returned") => {}
            Entry::Closed { outcome: ended, .. } => outcome = ended.as_str(),
            _ => {}
        }
    }
    // Whether an outage was confirmed or not even that could be known: a shut gate holds whatever would come.
    if outcome == "no-action" && holds { "held" } else { outcome }
}

/// The whole move less what AWS took, what a person took and what the thresholds demand, seconds.
///
/// Demanded: `min_outage`; the fence's deadline where the fence was not to be had, else the time that its group took to
/// empty; the second look, at most one look's timeout (or, behind a fence, the drain). AWS's: the promotion from the
/// request's arrival to its end, and the change of the zone's answers plus what was left of the TTL. `None` where the plan
/// has no such steps.
fn overhead(lab: &Lab, tell: &Teller, figures: &Figures, first_failed: i64) -> Option<f64> {
    let rows = tell.since_steady();
    let at = |wanted: &dyn Fn(&Entry) -> bool| rows.iter().find(|record| wanted(&record.entry)).map(|record| record.at.wall as f64 / 1e6);
    let world = |kinds: &[&str]| tell.events.iter().find(|event| kinds.contains(&event.kind)).map(|event| event.unix_ms as f64 / 1e3);
    let start = |name: &'static str| at(&move |entry| matches!(entry, Entry::StepStarted { step } if step == name));
    let total = figures.rto_seconds?;
    let proven = first_failed as f64 / 1e6 + total;
    let person = figures.phases.get("approve").copied().unwrap_or_default();
    let fence = {
        let began = start("fence")?;
        let failed = at(&|entry| matches!(entry, Entry::StepFailed { step, .. } if step == "fence"));
        let gone = tell.events.iter().filter(|event| event.kind == "instance-gone").map(|event| event.unix_ms as f64 / 1e3);
        let emptied = gone.filter(|at| *at > began).fold(began, f64::max);
        if failed.is_some() { DEMANDS.fence_deadline } else { (emptied - began).max(0.0) }
    };
    let promote = start("promote")?;
    let permitted = at(&|entry| matches!(entry, Entry::StepPermitted { step, .. } if step == "promote"))?;
    let fenced = at(&|entry| matches!(entry, Entry::StepVerified { step, .. } if step == "fence")).is_some();
    let looked = if fenced { permitted - promote } else { (permitted - promote).min(DEMANDS.look_timeout) };
    let promotion = world(&["promoted"])? - world(&["promotion-accepted"])?;
    let asked = world(&["records-changed", "object-put"])?;
    let answers = world(&["front-door"]).unwrap_or(asked);
    let ttl = f64::from(lab.addresses().record_ttl_s);
    let switched = (answers - asked).max(0.0) + (proven - answers).clamp(0.0, ttl);
    Some(total - DEMANDS.min_outage - person - fence - looked - promotion - switched)
}
