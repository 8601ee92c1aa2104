//! Who else moves the app's traffic: what could do it without us, and that somebody has done it.
//!
//! A record whose own health check, or whose alias target's health, decides what is answered moves users without us: past
//! every gate on the way over, and back to a stale site as soon as that looks well. So an `automatic` app whose traffic is
//! not ours alone asks a person, unless its config says that this is known.

use std::collections::BTreeMap;

use super::app::{App, Decision};
use super::gates::{Preflight, View};
use super::ledger::{Entry, GateState, Incident};
use super::model::{Direction, State};
use super::plan::Class;

/// What can move the traffic of a step without us, by the names of the steps that have any, in words.
pub type Others = BTreeMap<String, Vec<String>>;

/// What one step of a plan reads of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Autonomy {
    /// What can move its traffic without us; empty: nothing can.
    Read(Vec<String>),
    /// It could not be read, with the reason.
    Unread(String),
}

/// What is known after a preflight: what it read, and of what it could not read the last that was known.
pub fn known_after(before: &Others, preflight: &Preflight) -> Others {
    let known = |(step, autonomy): (&String, &Autonomy)| {
        let words = match autonomy {
            Autonomy::Read(words) => words.clone(),
            Autonomy::Unread(_) => before.get(step).cloned().unwrap_or_default(),
        };
        (!words.is_empty()).then(|| (step.clone(), words))
    };
    preflight.autonomy.iter().filter_map(known).collect()
}

/// All of it in one line: the first in full, and how many more there are.
pub fn words(others: &Others) -> String {
    let mut all = others.iter().flat_map(|(step, words)| words.iter().map(move |words| (step, words)));
    let Some((step, first)) = all.next() else { return "nothing".to_owned() };
    match all.count() {
        0 => format!("{step}: {first}"),
        more => format!("{step}: {first} (and {more} more)"),
    }
}

impl View<'_> {
    /// What the gate `mode` says of an automatic app that nobody commands.
    pub(super) fn automatic(&self) -> (GateState, String) {
        let others = &self.ledger.others;
        // Only a failover is ever automatic; what the way back would meet binds nobody here.
        let preflight = self.preflight.filter(|preflight| preflight.direction == Direction::ToStandby);
        let unread = preflight.iter().flat_map(|preflight| &preflight.autonomy).find_map(|(step, autonomy)| match autonomy {
            Autonomy::Unread(why) => Some(format!("{step}: {why}")),
            Autonomy::Read(_) => None,
        });
        let open = |words: String| (GateState::Open, words);
        match (others.is_empty(), self.policy.traffic_is_autonomous) {
            (false, false) => self
                .asks("mode", || format!("automatic, capped at approval: others can move its traffic (R53-AUTONOMOUS): {}", words(others))),
            (false, true) => open(format!("automatic; others can move its traffic, and the config knows it: {}", words(others))),
            (true, false) => match unread {
                Some(why) => open(format!("automatic; whether others can move its traffic could not be read: {why}")),
                None => open("automatic".to_owned()),
            },
            (true, true) => open("automatic; the config says that others move its traffic too".to_owned()),
        }
    }
}

impl App {
    /// Keeps what the latest preflight of the way over read: a restart must not act on less than was known before it.
    pub(super) fn autonomy_read(&self) -> Option<Decision> {
        let preflight = self.preflights.get(&Direction::ToStandby)?;
        let found = known_after(&self.ledger.others, preflight);
        (found != self.ledger.others).then(|| Decision::entry(Entry::Autonomous { found }))
    }

    /// Says, once an incident, that the zone's own servers answer with the target though we have not moved traffic.
    pub(super) fn moved_by_others(&self) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        if self.ledger.state == State::Watching || incident.moved_by_others.is_some() || asked_for_traffic(incident) {
            return None;
        }
        // Seen within the incident: an older word may be of a time when this site was the active one.
        let answered = self.front.authority.filter(|answered| answered.seen.mono >= incident.opened.mono)?;
        (answered.site == incident.direction.target()).then(|| Decision::entry(Entry::MovedByOthers { at: answered.since }))
    }
}

/// True once a step of ours that moves traffic may have been asked for.
fn asked_for_traffic(incident: &Incident) -> bool {
    let steps = incident.plan.iter().flat_map(|plan| &plan.steps);
    steps.filter(|step| step.class == Class::Traffic).any(|step| incident.steps.get(&step.name).is_some_and(|run| run.touched))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::Moment;

    fn preflight(autonomy: &[(&str, Autonomy)]) -> Preflight {
        let autonomy = autonomy.iter().map(|(step, autonomy)| ((*step).to_owned(), autonomy.clone())).collect();
        Preflight { at: Moment::default(), direction: Direction::ToStandby, steps: BTreeMap::new(), autonomy }
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_was_known() {
        let read = |words: &[&str]| Autonomy::Read(words.iter().map(|word| (*word).to_owned()).collect());
        let unread = Autonomy::Unread("no answer in time".into());
        let none = Others::new();
        let one = known_after(&none, &preflight(&[("traffic", read(&["a check"])), ("database", read(&[]))]));
        assert_eq!(one, Others::from([("traffic".into(), vec!["a check".into()])]));
        assert_eq!(known_after(&one, &preflight(&[("traffic", unread.clone())])), one);
        assert_eq!(known_after(&none, &preflight(&[("traffic", unread)])), none);
        assert_eq!(known_after(&one, &preflight(&[("traffic", read(&[]))])), none);
        assert_eq!(known_after(&one, &preflight(&[("renamed", read(&[]))])), none, "a step that is gone from the plan says nothing");
    }

    #[test]
    fn words_name_the_first_and_count_the_rest() {
        let mut others = Others::from([("traffic".to_owned(), vec!["a".to_owned()])]);
        assert_eq!(words(&others), "traffic: a");
        others.insert("users".to_owned(), vec!["b".to_owned(), "c".to_owned()]);
        assert_eq!(words(&others), "traffic: a (and 2 more)");
    }
}
