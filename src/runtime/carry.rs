//! What was decided is written, then folded, then done: of one app, or of many in one transaction.

use std::collections::BTreeSet;

use super::control::{Control, GAP};
use super::message::Hands;
use crate::domain::decide::{App, Decision, Effect, Tempo};
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::{AppName, Moment};
use crate::domain::moving::Work;
use crate::ports::JournalError;

/// A decision as it is written, and what is done once it is.
struct Draft {
    name: AppName,
    was: Tempo,
    records: Vec<Record>,
    effects: Vec<Effect>,
    work: Vec<(String, Work)>,
}

impl<H: Hands> Control<H> {
    /// Writes, then folds, then has it done. An error leaves the app as it was.
    pub(super) fn carry(&mut self, name: &AppName, decision: Decision, id: Option<&str>, now: Moment) -> Result<Option<i64>, ()> {
        let draft = self.draft(name, decision, id, now).ok_or(())?;
        self.alone(draft, now)
    }

    /// The same for decisions of several apps, none of which is another's business; says whose are carried out.
    ///
    /// They are one transaction: a thousand apps that are lost in one second would else wait for a thousand writes to reach
    /// the disk, one after the other, and our own standstill would make worthless what was counted.
    pub(super) fn carry_all(&mut self, decisions: Vec<(AppName, Decision)>, now: Moment) -> BTreeSet<AppName> {
        let mut drafts: Vec<Draft> = decisions.into_iter().filter_map(|(name, decision)| self.draft(&name, decision, None, now)).collect();
        let together = drafts.len() > 1 && self.write(&mut drafts).is_ok();
        let carried = drafts.into_iter().filter_map(|draft| {
            let name = draft.name.clone();
            // A row that cannot be written keeps its own app waiting, and nobody else.
            let done = if together { self.fulfil(draft, now) } else { self.alone(draft, now) };
            done.is_ok().then_some(name)
        });
        carried.collect()
    }

    fn alone(&mut self, mut draft: Draft, now: Moment) -> Result<Option<i64>, ()> {
        if let Err(error) = self.write(std::slice::from_mut(&mut draft)) {
            self.refused(&error);
            return Err(());
        }
        self.fulfil(draft, now)
    }

    fn draft(&self, name: &AppName, decision: Decision, id: Option<&str>, now: Moment) -> Option<Draft> {
        let app = self.fleet.apps.get(name)?;
        let mut incident = app.ledger().incident.as_ref().map(|open| open.id.clone());
        let mut records = Vec::with_capacity(decision.entries.len());
        for entry in decision.entries {
            if matches!(entry, Entry::Opened { .. }) {
                incident = Some(id.map_or_else(|| self.incident_id(name, now), str::to_owned));
            }
            let closes = matches!(entry, Entry::Closed { .. });
            // It belongs to the move that left the site, be it over or not.
            let of = if let Entry::OldSiteSeen { incident, .. } = &entry { Some(incident.clone()) } else { incident.clone() };
            records.push(self.record(Some(name), of, entry, now));
            if closes {
                incident = None;
            }
        }
        Some(Draft { name: name.clone(), was: app.tempo(), records, effects: decision.effects, work: decision.work })
    }

    /// All rows as one transaction; each learns its place.
    fn write(&mut self, drafts: &mut [Draft]) -> Result<(), JournalError> {
        let rows: Vec<Record> = drafts.iter().flat_map(|draft| &draft.records).cloned().collect();
        if rows.is_empty() {
            return Ok(());
        }
        let first = self.journal.append(&rows)?;
        self.fleet.around.journal_fault = None;
        (first..).zip(drafts.iter_mut().flat_map(|draft| &mut draft.records)).for_each(|(seq, record)| record.seq = seq);
        Ok(())
    }

    pub(super) fn refused(&mut self, error: &JournalError) {
        if self.fleet.around.journal_fault.is_none() {
            tracing::error!(%error, "nothing is done until the journal takes it; watching goes on");
        }
        self.fleet.around.journal_fault = Some(error.to_string());
    }

    /// Folds what is durable, and has it done.
    fn fulfil(&mut self, draft: Draft, now: Moment) -> Result<Option<i64>, ()> {
        let Draft { name, was, records, mut effects, mut work } = draft;
        let took = self.clock.now().since(now);
        if took > GAP {
            tracing::warn!(app = %name, seconds = took.as_secs_f64(), "the journal was slow; what was decided before is looked at again before it is done");
            stale(&mut effects, &mut work);
        }
        let Some(app) = self.fleet.apps.get_mut(&name) else { return Err(()) };
        if let Err(illegal) = app.commit(&records, work) {
            // Written and yet impossible: a fault in the decision itself. Acting on it would make it worse.
            tracing::error!(app = %name, %illegal, "a decision contradicts its own state; it is not carried out");
            return Err(());
        }
        // Whoever decides next must know that this one moves.
        self.turns.update(app, now);
        self.hands.written(&records);
        for effect in &effects {
            if let (Effect::Preflight(_), Some(app)) = (effect, self.fleet.apps.get_mut(&name)) {
                app.preflight_sent(now);
            }
            if let Some(app) = self.fleet.apps.get(&name) {
                self.hands.carry_out(app, effect, now);
            }
        }
        let tempo = self.fleet.apps.get(&name).map_or(was, App::tempo);
        if tempo != was {
            self.hands.pace(&name, tempo);
        }
        Ok(records.first().map(|record| record.seq))
    }
}

/// What was decided too long ago to be done now: its rows stand, as after a crash, and the steps are inspected again.
fn stale(effects: &mut Vec<Effect>, work: &mut [(String, Work)]) {
    effects.retain(|effect| {
        let (Effect::Apply { step } | Effect::Undo { step }) = effect else { return true };
        work.iter_mut().filter(|(name, _)| name == step).for_each(|(_, work)| *work = Work::default());
        false
    });
}
