//! Apps that come and go with the config, under a daemon that runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::control::Control;
use super::message::Hands;
use super::replay::fold;
use crate::domain::decide::{App, Decision};
use crate::domain::ledger::{Entry, Ledger};
use crate::domain::model::{Actor, AppName, Moment, Outcome, counted};
use crate::domain::policy::{AppPolicy, FleetPolicy};

impl<H: Hands> Control<H> {
    /// Takes the new config over: what stays keeps its counters and its open incident with the plan it began with, what is
    /// new starts from what the journal remembers, what is gone leaves once nothing of it moves.
    pub(super) fn reload(&mut self, policies: Vec<Arc<AppPolicy>>, fleet: &FleetPolicy, now: Moment) {
        let mut apps = BTreeMap::new();
        for policy in policies {
            let app = match self.fleet.apps.remove(&policy.name) {
                Some(mut app) => {
                    app.reload(Arc::clone(&policy));
                    app
                }
                None => App::new(Arc::clone(&policy), self.remembered(&policy.name, now), self.epoch.load(Ordering::SeqCst)),
            };
            apps.insert(policy.name.clone(), app);
        }
        self.leaving = self.fleet.apps.keys().cloned().collect();
        apps.append(&mut self.fleet.apps);
        for (name, _) in apps.iter().filter(|(name, app)| self.leaving.contains(*name) && app.ledger().incident.is_some()) {
            tracing::warn!(app = %name, "the new config does not name this app; its open incident goes on until it ends");
        }
        self.fleet.unnamed.retain(|(app, ..)| !apps.contains_key(app.as_str()));
        self.fleet.apps = apps;
        self.close_what_only_asks(now);
        self.let_go();
        // Its looks begin with the tempo that it has, new or known.
        for (name, app) in &self.fleet.apps {
            self.hands.pace(name, app.tempo());
        }
        self.fleet.around.need_up = fleet.need_up;
        self.fleet.around.max_groups = fleet.max_concurrent_groups;
        self.fleet.around.witnesses.resize(fleet.witnesses, None);
        self.note(Entry::Reloaded { ok: true, words: counted(self.fleet.apps.len(), "app") }, now);
        self.settle_all(now);
    }

    /// A move that has begun is brought to its end; of an app that the config no longer names, none begins.
    fn close_what_only_asks(&mut self, now: Moment) {
        let unmoved = |name: &&AppName| {
            let open = self.fleet.apps.get(*name).and_then(|app| app.ledger().incident.as_ref());
            open.is_some_and(|incident| incident.plan.is_none())
        };
        for name in self.leaving.iter().filter(unmoved).cloned().collect::<Vec<_>>() {
            let by = Actor { who: "watchover".into(), reason: "the config does not name this app any more".into() };
            let closed = Entry::Closed { outcome: Outcome::NoAction, active: None, figures: Box::default(), by: Some(by) };
            // A journal that takes nothing keeps the app, and with it the alarm.
            if self.carry(&name, Decision::entry(closed), None, now).is_err() {
                tracing::warn!(app = %name, "the app's open incident could not be closed in the journal, so the app stays");
            }
        }
    }

    /// The durable state of an app that was not configured until now.
    fn remembered(&mut self, name: &AppName, now: Moment) -> Ledger {
        let folded = self.journal.replay().and_then(|records| fold(&records, &self.boot_id, now));
        match folded {
            Ok(mut ledgers) => ledgers.remove(name.as_ref()).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, app = %name, "the journal could not be read for a new app; its active site is unknown");
                Ledger::default()
            }
        }
    }

    /// Forgets the apps that the config no longer names, once they have nothing open. Their rows stay in the journal.
    pub(super) fn let_go(&mut self) {
        let fleet = &mut self.fleet;
        let hands = &mut self.hands;
        self.leaving.retain(|name| {
            let busy = fleet.apps.get(name).is_some_and(|app| app.ledger().incident.is_some());
            if !busy && fleet.apps.remove(name).is_some() {
                tracing::info!(app = %name, "the config does not name this app any more, and nothing of it is open: it is let go");
                hands.let_go(name);
            }
            busy
        });
    }
}
