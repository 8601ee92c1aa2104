//! The state as it is shown: to `status`, to `explain`, to the API and the page.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::control::Fleet;
use super::waits;
use crate::domain::decide::App;
use crate::domain::gates::Around;
use crate::domain::ledger::{Gate, Ruling, StepState};
use crate::domain::model::{AppName, Moment, SiteName, State};
use crate::domain::quorum::Point;
use crate::domain::rpo::{self, Exposure};

/// What is shown of that many apps is made anew with every row, and for every reader.
const FEW: usize = 32;
/// What each app adds to the time between two pictures of more. What a picture costs grows with the apps; its share of the
/// time of whoever makes it must not.
const EACH: Duration = Duration::from_millis(1);

/// For how long a picture of that many apps is good enough; zero: until something changes.
pub fn rest(apps: usize) -> Duration {
    if apps <= FEW { Duration::ZERO } else { EACH.saturating_mul(u32::try_from(apps).unwrap_or(u32::MAX)) }
}

/// What an app's gates say now. Evaluated once for everything that shows it, so that page and metrics never disagree.
pub struct Judged {
    /// All of them together.
    pub ruling: Ruling,
    /// Each with its figures.
    pub gates: Vec<Gate>,
    /// What a move would lose.
    pub exposure: Exposure,
}

/// The gates of every app, for a move off its active site.
pub fn judge(fleet: &Fleet, now: Moment) -> BTreeMap<AppName, Judged> {
    let judged = |app: &App| {
        let (ruling, gates, exposure) = app.view(&fleet.around, now).gates(app.direction(), Point::Start);
        Judged { ruling, gates, exposure }
    };
    fleet.apps.iter().map(|(name, app)| (name.clone(), judged(app))).collect()
}

/// The whole fleet as one document. An app without a judgement is left out.
pub fn fleet(fleet: &Fleet, judged: &BTreeMap<AppName, Judged>, observer: &str, now: Moment) -> Value {
    let both = fleet.apps.iter().filter_map(|(name, app)| Some((app, judged.get(name)?)));
    let apps: Vec<Value> = both.map(|(app, judged)| self::app(app, judged, &fleet.around, now)).collect();
    let witnesses: Vec<Value> = fleet
        .around
        .witnesses
        .iter()
        .map(|last| match last {
            Some(last) => {
                json!({"verdict": last.verdict.health(), "cause": last.verdict.cause(), "at": last.done.rfc3339(), "detail": last.detail})
            }
            None => Value::Null,
        })
        .collect();
    json!({
        "schema_version": 1,
        "observer": observer,
        "version": env!("CARGO_PKG_VERSION"),
        "at": now.rfc3339(),
        "started": fleet.around.started.rfc3339(),
        "journal_fault": fleet.around.journal_fault,
        "witnesses": witnesses,
        "apps": apps,
        // Nobody goes on with these until the config names their apps again.
        "unconfigured": fleet.unnamed.iter().map(|(app, id, state)| json!({"name": app, "incident": id, "state": state})).collect::<Vec<_>>(),
    })
}

/// One app.
fn app(app: &App, Judged { ruling, gates, exposure }: &Judged, around: &Around, now: Moment) -> Value {
    let policy = app.policy();
    let ledger = app.ledger();
    let direction = app.direction();
    // An app of which nothing is recorded is watched since we started.
    let since = if ledger.since == Moment::default() { around.started } else { ledger.since };
    // Null while it waits for nobody.
    let waits_for = waits::waits_for(app, gates, around, now);
    let incident = ledger.incident.as_ref().map(|incident| {
        let steps: Vec<Value> = incident
            .plan
            .iter()
            .flat_map(|plan| &plan.steps)
            .filter_map(|step| Some((step, incident.steps.get(&step.name)?)))
            .map(|(step, run)| {
                // What a step was waiting for is no news once it is done, or once nobody looks any more.
                let goes_on =
                    ledger.state != State::Stuck && matches!(run.state, StepState::Running | StepState::Intended | StepState::Asked);
                let progress = app.progress(&step.name).or(run.progress.as_deref()).filter(|_| goes_on);
                json!({
                    "name": step.name, "kind": step.kind, "class": step.class, "state": run.state, "attempts": run.attempts,
                    "started": run.started.map(Moment::rfc3339), "ended": run.ended.map(Moment::rfc3339),
                    "seconds": run.started.map(|at| run.ended.unwrap_or(now).since(at).as_secs_f64()),
                    "trouble": run.trouble, "progress": progress, "facts": run.facts,
                    "asks": run.asks.as_ref().map(|(words, waits_for)| json!({"words": words, "waits_for": waits_for})),
                })
            })
            .collect();
        json!({
            "id": incident.id, "trigger": incident.trigger, "direction": incident.direction,
            "opened": incident.opened.rfc3339(), "first_failed": incident.first_failed.map(Moment::rfc3339),
            "confirmed": incident.confirmed.map(Moment::rfc3339),
            "elapsed_seconds": now.since(incident.clock_start()).as_secs_f64(),
            "stuck": incident.stuck.as_ref().map(|(words, waits_for)| json!({"words": words, "waits_for": waits_for})),
            "waits_for": waits_for, "answer_by": waits::answer_by(app, *ruling, now).map(Moment::rfc3339),
            "moved_by_others": incident.moved_by_others.map(Moment::rfc3339),
            "declined": incident.declined, "unanswered": incident.unanswered, "calling_off": incident.calling_off.is_some(), "steps": steps,
        })
    });
    // Alarming, not inviting: it gets users again only by a person's command.
    let returned = ledger.active.filter(|_| ledger.incident.is_none()).map(SiteName::other).filter(|site| {
        ledger.last_figures.last().is_some_and(|(last, ..)| last.source() == *site)
            && app.site(*site, now).health == crate::domain::model::Health::Up
    });
    json!({
        "name": policy.name.as_ref(), "group": policy.group, "mode": policy.mode, "state": ledger.state, "since": since.rfc3339(),
        "active_site": ledger.active, "direction": direction, "ruling": ruling, "gates": gates,
        "returned_site": returned, "waits_for": waits_for,
        "paused": ledger.paused.as_ref().map(|pause| json!({"until": crate::domain::model::rfc3339(pause.until), "by": pause.by})),
        "rpo_exposure": {"seconds": rpo::unbounded::value(exposure.seconds), "objective_seconds": policy.rpo_objective.as_secs_f64(), "words": exposure.words(), "assumption": exposure.assumption},
        "rto_objective_seconds": policy.rto_objective.as_secs_f64(),
        "sites": SiteName::ALL.iter().map(|site| (site.to_string(), self::site(app, *site, now))).collect::<serde_json::Map<_, _>>(),
        "front_door": app.front().last.as_ref().map(|look| json!({
            "verdict": look.finding.verdict.health(), "cause": look.finding.verdict.cause(), "from": look.finding.from,
            "at": look.done.rfc3339(), "detail": look.finding.detail,
        })),
        "incident": incident,
        "last_move": ledger.last_figures.last().map(|(direction, trigger, figures)| json!({"direction": direction, "trigger": trigger, "figures": figures})),
    })
}

fn site(app: &App, site: SiteName, now: Moment) -> Value {
    let view = app.site(site, now);
    let policy = app.policy().site(site);
    let signals: Vec<Value> = policy
        .signals
        .iter()
        .zip(app.signals(site))
        .enumerate()
        .map(|(at, (policy, signal))| {
            let (downs, ups, unknowns) = signal.counts();
            json!({
                "name": policy.name, "kind": policy.kind, "health": signal.health(policy, now), "required": policy.required,
                "downs": downs, "ups": ups, "unknowns": unknowns, "down_rate": signal.rate(),
                "replication": app.replica_state(site, at),
                "last": signal.last().map(|last| json!({
                    "verdict": last.verdict.health(), "cause": last.verdict.cause(), "sent": last.sent.rfc3339(),
                    "seconds": last.done.since(last.sent).as_secs_f64(), "detail": last.detail,
                })),
            })
        })
        .collect();
    json!({"region": policy.region, "health": view.health, "known": view.known, "down": view.down, "signals": signals})
}

/// What has not let go yet: the daemon is ready when nothing is left here.
pub fn pending(fleet: &Fleet) -> Vec<String> {
    let mut pending = Vec::new();
    if let Some(fault) = &fleet.around.journal_fault {
        pending.push(format!("journal: {fault}"));
    }
    for app in fleet.apps.values() {
        let name = &app.policy().name;
        for site in SiteName::ALL {
            let policies = &app.policy().site(*site).signals;
            let unseen = policies.iter().zip(app.signals(*site)).filter(|(_, signal)| signal.last().is_none());
            pending.extend(unseen.map(|(policy, _)| format!("{name}: {site}.{} was not looked at yet", policy.name)));
        }
        if app.front().last.is_none() {
            pending.push(format!("{name}: the front door was not looked at yet"));
        }
        if app.ledger().active.is_none() {
            pending.push(format!("{name}: the active site is not known"));
        }
    }
    pending
}

/// One line for `systemctl status`.
pub fn summary(fleet: &Fleet) -> String {
    let said: Vec<String> = fleet
        .apps
        .values()
        .take(5)
        .map(|app| {
            let active = app.ledger().active.map_or("unknown", SiteName::as_str);
            format!("{} {} ({active} active)", app.policy().name, app.ledger().state)
        })
        .collect();
    let more = fleet.apps.len().saturating_sub(said.len());
    if more > 0 { format!("{} and {more} more", said.join(", ")) } else { said.join(", ") }
}
