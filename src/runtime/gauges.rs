//! The gauges: what is true now, set from the state.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::control::Fleet;
use super::metrics::{Metrics, Open, rto_phases};
use super::series::{SITES, flag, one_hot, set};
use super::status::{self, Judged};
use crate::domain::decide::App;
use crate::domain::ledger::{Figures, GateState};
use crate::domain::model::{AppName, Health, Moment, ReplicaState, SiteName, State};
use crate::domain::policy::AppPolicy;

impl Metrics {
    /// The right to change or to gather the gauges; `None`: somebody else has it, and it is not waited for.
    pub(super) fn picture(&self, wait: bool) -> Option<MutexGuard<'_, ()>> {
        match self.picture.try_lock() {
            Err(TryLockError::WouldBlock) if wait => Some(self.picture.lock().unwrap_or_else(PoisonError::into_inner)),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Ok(picture) => Some(picture),
        }
    }

    /// Sets all gauges from the state, unless a scrape of many apps is under way: they are set soon again. Apps that came or
    /// went since the last time are taken up by themselves.
    pub fn refresh(&self, fleet: &Fleet, judged: &BTreeMap<AppName, Judged>, now: Moment) {
        let Some(_whole) = self.picture(status::rest(fleet.apps.len()).is_zero()) else { return };
        self.take_up(fleet);
        set(&self.families.journal_writable, &[], flag(fleet.around.journal_fault.is_none()));
        set(&self.families.start_time, &[], fleet.around.started.wall as f64 / 1e6);
        for (name, app) in &fleet.apps {
            if let Some(judged) = judged.get(name) {
                self.refresh_app(name, app, judged, now);
            }
        }
    }

    /// Apps and incidents that are not known yet.
    fn take_up(&self, fleet: &Fleet) {
        let mut kept = self.kept();
        let same = |(app, policy): (&App, &Arc<AppPolicy>)| Arc::ptr_eq(app.policy(), policy);
        if kept.policies.len() != fleet.apps.len() || !fleet.apps.values().zip(kept.policies.values()).all(same) {
            self.install_into(&mut kept, fleet.apps.values().map(App::policy));
        }
        if !kept.reloaded {
            set(&self.families.reload_timestamp, &[], fleet.around.started.wall as f64 / 1e6);
        }
        for app in fleet.apps.values() {
            if let Some(incident) = &app.ledger().incident
                && !kept.open.contains_key(&incident.id)
            {
                // Opened before this process: its rows were counted by the one before us.
                let steps = incident.plan.iter().flat_map(|plan| &plan.steps);
                let started = |name: &str| incident.steps.get(name).and_then(|run| run.started);
                let steps = steps.map(|step| (step.name.clone(), (step.kind.clone(), started(&step.name)))).collect();
                let open = Open { direction: incident.direction, trigger: incident.trigger, steps, stuck: incident.stuck.is_some() };
                kept.open.insert(incident.id.clone(), open);
            }
        }
    }

    fn refresh_app(&self, name: &str, app: &App, judged: &Judged, now: Moment) {
        let (all, policy, ledger) = (&self.families, app.policy(), app.ledger());
        let direction = app.direction();
        for site in SiteName::ALL {
            one_hot(
                &all.site_state,
                &[name, site.as_str()],
                Health::ALL.iter().map(|one| one.as_str()),
                app.site(*site, now).health.as_str(),
            );
            for (signal, health) in policy.site(*site).signals.iter().zip(app.signals(*site)) {
                let verdict = health.last().map_or(Health::Unknown, |last| last.verdict.health());
                let verdicts = Health::ALL.iter().map(|one| one.as_str());
                one_hot(&all.signal_verdict, &[name, site.as_str(), &signal.name], verdicts, verdict.as_str());
            }
        }
        // The target last: where both sites name a replica signal alike, the one that a move would rest on is shown.
        for site in [direction.source(), direction.target()] {
            for (at, signal) in policy.site(site).signals.iter().enumerate().filter(|(_, signal)| signal.replica) {
                let link = app.replica_state(site, at).unwrap_or(ReplicaState::Unknown);
                one_hot(&all.replication_state, &[name, &signal.name], ReplicaState::ALL.iter().map(|one| one.as_str()), link.as_str());
                // A signal that lies dormant has no lag, and its old one must not be called stale.
                let newest = app.lag(site, at).filter(|_| link != ReplicaState::Dormant);
                let lag = newest.filter(|_| link.has_lag()).map_or(f64::NAN, |sample| sample.seconds);
                let age = newest.map_or(f64::NAN, |sample| now.wall.saturating_sub(sample.at) as f64 / 1e6);
                set(&all.replication_lag, &[name, &signal.name], lag);
                set(&all.replication_age, &[name, &signal.name], age);
            }
        }
        set(&all.rpo_exposure, &[name], judged.exposure.seconds.unwrap_or(f64::NAN));
        for gate in &judged.gates {
            set(&all.gate_open, &[name, &gate.name], flag(gate.state == GateState::Open));
        }
        one_hot(&all.app_state, &[name], State::ALL.iter().map(|one| one.as_str()), ledger.state.as_str());
        one_hot(&all.active_site, &[name], SITES.into_iter(), ledger.active.map_or("unknown", SiteName::as_str));
        let seen = app.front().last.as_ref().map(|look| &look.finding);
        let verdict = seen.map_or(Health::Unknown, |seen| seen.verdict.health());
        one_hot(&all.front_door, &[name], Health::ALL.iter().map(|one| one.as_str()), verdict.as_str());
        let from = seen.and_then(|seen| seen.from).map_or("unknown", SiteName::as_str);
        one_hot(&all.front_door_site, &[name], SITES.into_iter(), from);
        set(&all.paused, &[name], flag(ledger.paused.as_ref().is_some_and(|pause| pause.until > now.wall)));
        set(&all.incident_active, &[name], flag(ledger.incident.is_some()));
        let elapsed = ledger.incident.as_ref().map_or(0.0, |incident| now.since(incident.clock_start()).as_secs_f64());
        set(&all.incident_elapsed, &[name], elapsed);
        for (direction, trigger, figures) in &ledger.last_figures {
            self.show_last(&[name, direction.as_str(), trigger.as_str()], figures);
        }
    }

    pub(super) fn show_last(&self, labels: &[&str; 3], figures: &Figures) {
        for (phase, seconds) in rto_phases(figures) {
            set(&self.families.last_rto, &[labels[0], labels[1], labels[2], phase], seconds.unwrap_or(f64::NAN));
        }
        let rpo = figures.rpo.as_ref().and_then(|rpo| rpo.seconds).unwrap_or(f64::NAN);
        set(&self.families.last_rpo, labels, rpo);
    }
}
