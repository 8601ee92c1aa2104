//! Whose turn it is when several groups are lost at once: who moves, and who waits with which priority.
//!
//! Kept up to date app by app: a thousand apps that decide in one pulse do not each look at all the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::decide::App;
use crate::domain::ledger::{Gate, GateState};
use crate::domain::model::{AppName, Health, Mode, Moment, State};

/// A group's place among those that wait: the highest priority first, then by name.
type Place = (Reverse<i64>, String);

/// One app's part in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Moves(String),
    Waits(Place),
}

/// Who moves and who waits.
#[derive(Debug, Default)]
pub struct Turns {
    parts: BTreeMap<AppName, Part>,
    moving: BTreeMap<String, usize>,
    waiting: BTreeMap<Place, BTreeSet<AppName>>,
}

impl Turns {
    /// Begins anew with these apps.
    pub fn rebuild<'a>(&mut self, apps: impl Iterator<Item = &'a App>, now: Moment) {
        *self = Turns::default();
        apps.for_each(|app| self.update(app, now));
    }

    /// What this app does now.
    pub fn update(&mut self, app: &App, now: Moment) {
        let name = &app.policy().name;
        let part = part(app, now);
        if self.parts.get(name) == part.as_ref() {
            return;
        }
        match self.parts.remove(name) {
            Some(Part::Moves(group)) => {
                if let Some(count) = self.moving.get_mut(&group) {
                    *count -= 1;
                }
                self.moving.retain(|_, count| *count > 0);
            }
            Some(Part::Waits(place)) => {
                if let Some(names) = self.waiting.get_mut(&place) {
                    names.remove(name);
                }
                self.waiting.retain(|_, names| !names.is_empty());
            }
            None => {}
        }
        let Some(part) = part else { return };
        match &part {
            Part::Moves(group) => *self.moving.entry(group.clone()).or_default() += 1,
            Part::Waits(place) => {
                self.waiting.entry(place.clone()).or_default().insert(name.clone());
            }
        }
        self.parts.insert(name.clone(), part);
    }

    /// The groups that move.
    pub fn moving(&self) -> Vec<String> {
        self.moving.keys().cloned().collect()
    }

    /// Another group that waits with a higher priority than this app's.
    pub fn ahead(&self, app: &App) -> Option<String> {
        let higher = self.waiting.keys().take_while(|(Reverse(priority), _)| *priority > app.policy().priority);
        higher.map(|(_, group)| group).find(|group| **group != app.policy().group).cloned()
    }
}

fn part(app: &App, now: Moment) -> Option<Part> {
    let policy = app.policy();
    let state = app.ledger().state;
    let open = app.ledger().incident.as_ref()?;
    if matches!(state, State::Moving | State::Proving) {
        return Some(Part::Moves(policy.group.clone()));
    }
    // One that is down and about to be confirmed counts: who fails together is not ordered by whose look came first.
    let source = open.direction.source();
    let soon = state == State::Suspect && policy.mode == Mode::Automatic && app.is_about_to_be_confirmed(now);
    // One that could not go even if it were its turn keeps nobody waiting.
    let could = |gate: &Gate| gate.name == "blast-radius" || gate.state == GateState::Open;
    let waits = (soon || matches!(state, State::Confirmed | State::Held))
        && open.gates.iter().all(could)
        && app.site(source, now).health == Health::Down;
    waits.then(|| Part::Waits((Reverse(policy.priority), policy.group.clone())))
}
