//! What happened, folded: an app's durable state.
//!
//! The live daemon and the recovery after a crash fold the same entries through the same [`Ledger::apply`]: a journal
//! that could not have been written live is refused when it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::autonomy::Others;
use super::model::{Actor, Direction, LagSample, Moment, SiteName, State, Trigger};
use super::plan::{Class, Plan, PlannedStep};
use super::rpo::Exposure;
use super::run::proven_fence;

pub use super::entry::{Entry, Figures, Gate, GateState, Record, Ruling, Wish, step_of};
use super::model::Outcome;
pub use super::run::{StepRun, StepState};

/// One episode, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// `shop-20261121T034512Z-7`.
    pub id: String,
    /// What opened it.
    pub trigger: Trigger,
    /// Which way it would go.
    pub direction: Direction,
    /// When it was opened.
    pub opened: Moment,
    /// The first failed look of the run that confirmed the outage; before that, of the run in doubt.
    pub first_failed: Option<Moment>,
    /// When the outage was confirmed.
    pub confirmed: Option<Moment>,
    /// The person's wish, if one started or approved it.
    pub wish: Option<Wish>,
    /// True if the wish is an approval rather than a command.
    pub approved: bool,
    /// Someone said no; until a new outage.
    pub declined: bool,
    /// Gates that asked, and nobody answered: they do not ask again, and once nothing else is in its way it goes on.
    pub unanswered: BTreeSet<String>,
    /// The latest evaluation of all gates.
    pub gates: Vec<Gate>,
    /// The latest evaluation of the loss.
    pub exposure: Option<Exposure>,
    /// When the front door stopped answering from the old site, unless it came back since.
    pub front_door_lost: Option<Moment>,
    /// When a person commanded it.
    pub commanded: Option<Moment>,
    /// What is run.
    pub plan: Option<Plan>,
    /// Since when.
    pub planned: Option<Moment>,
    /// A person commanded it, or had it go on, while a pause stood: it goes on in spite of that. A pause that is set since holds it.
    pub despite_pause: bool,
    /// When the last pause that held it was over: its time counts from here.
    pub resumed: Option<Moment>,
    /// Its steps by name.
    pub steps: BTreeMap<String, StepRun>,
    /// Since when what was done is put back: the problem was gone in time, or a planned move cannot be done.
    pub calling_off: Option<Moment>,
    /// A person aborted it.
    pub aborted: bool,
    /// Why it is stuck, and for whom it waits.
    pub stuck: Option<(String, String)>,
    /// Since when the zone's own servers answer with the target, though we had not moved traffic.
    pub moved_by_others: Option<Moment>,
    /// When the zone's own servers were seen to answer with the target.
    pub authority_moved: Option<Moment>,
    /// When the old site was seen alive, unfenced, after its data had moved.
    pub old_site_seen: Option<Moment>,
    /// Time spent in each state so far, by the states' names.
    pub spent: BTreeMap<State, Duration>,
    /// The machine's boot changed within it: durations rest on the wall clock.
    pub crossed_boot: bool,
}

impl Incident {
    fn open(id: String, trigger: Trigger, direction: Direction, opened: Moment, first_failed: Option<Moment>) -> Incident {
        Incident {
            id,
            trigger,
            direction,
            opened,
            first_failed,
            confirmed: None,
            wish: None,
            approved: false,
            declined: false,
            unanswered: BTreeSet::new(),
            gates: Vec::new(),
            exposure: None,
            front_door_lost: None,
            commanded: None,
            plan: None,
            planned: None,
            despite_pause: false,
            resumed: None,
            steps: BTreeMap::new(),
            calling_off: None,
            aborted: false,
            stuck: None,
            moved_by_others: None,
            authority_moved: None,
            old_site_seen: None,
            spent: BTreeMap::new(),
            crossed_boot: false,
        }
    }

    /// True if a person asked for this move, rather than approving ours.
    pub fn commanded(&self) -> bool {
        self.wish.is_some() && !self.approved
    }

    /// True for a planned move off a well site.
    pub fn graceful(&self) -> bool {
        self.wish.as_ref().is_some_and(|wish| wish.graceful)
    }

    /// True if a pause holds it and costs it none of its time. A planned move has its time all the same: behind its own fence
    /// nobody is served, and when its time is over everything is put back.
    pub fn heeds_pause(&self) -> bool {
        !self.despite_pause && !self.graceful()
    }

    /// Where RTO starts: the first failed look, or the command.
    pub fn clock_start(&self) -> Moment {
        self.first_failed.filter(|_| !self.graceful()).or(self.commanded).unwrap_or(self.opened)
    }

    /// When the last of the old writers were proven gone (wall, microseconds): by every fence of the plan.
    pub fn fenced_at(&self) -> Option<i64> {
        let fences = self.runs(PlannedStep::is_fence).map(|run| proven_fence(&run.facts));
        fences.collect::<Option<Vec<i64>>>()?.into_iter().max()
    }

    /// When the last of its fences was read back as proven, if every one of them was.
    pub fn fence_ended(&self) -> Option<Moment> {
        self.fenced_at().and_then(|_| self.runs(PlannedStep::is_fence).filter_map(|run| run.ended).max_by_key(|at| at.mono))
    }

    /// What became of those of the plan's steps.
    fn runs(&self, which: impl Fn(&PlannedStep) -> bool) -> impl Iterator<Item = &StepRun> {
        let steps = self.plan.iter().flat_map(|plan| &plan.steps);
        steps.filter(move |step| which(step)).filter_map(|step| self.steps.get(&step.name))
    }

    /// The lag samples by which the data steps saw, behind the fence, that nothing was left to replicate: the latest, if
    /// every one of them saw it.
    pub fn drained(&self) -> Option<LagSample> {
        let drained = self.runs(|step| step.class == Class::Data).map(|run| {
            let drain = run.facts.get("drain")?;
            (drain.get("drained")? == true).then(|| serde_json::from_value(drain.get("evidence")?.clone()).ok()).flatten()
        });
        drained.collect::<Option<Vec<LagSample>>>()?.into_iter().max_by_key(|sample| sample.at)
    }

    /// The steps that wait for a person's yes, in the order of their names.
    pub fn asking(&self) -> impl Iterator<Item = (&String, &StepRun)> {
        self.steps.iter().filter(|(_, run)| run.state == StepState::Running && run.asks.is_some())
    }

    /// From when on an old site that is seen alive may take writes that the new one lacks, unless it was seen already:
    /// since the first data step was permitted, or, if its writers were proven gone, since that was read back. A fence
    /// proves what was; a person or a policy may start writers again behind it.
    pub fn strays_since(&self) -> Option<Moment> {
        if self.old_site_seen.is_some() {
            return None;
        }
        let fence = self.fence_ended();
        // One that was skipped a person may have done by hand.
        let data = self.runs(|step| step.class == Class::Data).filter(|run| run.touched || run.state == StepState::Skipped);
        let moved = data.filter_map(|run| run.permitted.or(run.started).or(run.ended)).min_by_key(|at| at.mono)?;
        Some(fence.filter(|fence| fence.mono > moved.mono).unwrap_or(moved))
    }

    /// When a data step saw the old writer itself take writes, by what it left on record (wall, microseconds).
    pub fn old_writer_seen(&self) -> Option<(i64, &str)> {
        self.steps.values().find_map(|run| {
            let seen = run.facts.get("old_writer")?;
            Some((seen.get("at")?.as_i64()?, seen.get("words")?.as_str()?))
        })
    }

    /// A final step that may be on its way in the world: asked for, and not read back.
    pub fn asked_for_good(&self) -> Option<&str> {
        let steps = self.plan.iter().flat_map(|plan| &plan.steps).filter(|step| step.is_final());
        let open = |run: &StepRun| run.touched && run.state != StepState::Verified;
        steps.map(|step| step.name.as_str()).find(|name| self.steps.get(*name).is_some_and(open))
    }

    /// The steps that came to their end without being so, in words: ` (fence failed, traffic skipped)`.
    pub fn left_undone(&self) -> String {
        let short = |run: &StepRun| matches!(run.state, StepState::Failed | StepState::Skipped);
        let names: Vec<String> =
            self.steps.iter().filter(|(_, run)| short(run)).map(|(name, run)| format!("{name} {}", run.state)).collect();
        if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
    }

    /// True once data or users may have moved for good: a final step of theirs was asked for. What else is final, such as a
    /// program that tells somebody, leaves the problem and the loss to be looked at as before.
    pub fn is_committed(&self) -> bool {
        self.is_committed_besides("")
    }

    /// The same, save for the step of that name: it is looked at because nothing of it came true.
    pub fn is_committed_besides(&self, name: &str) -> bool {
        let moves = |step: &PlannedStep| step.is_final() && matches!(step.class, Class::Data | Class::Traffic) && step.name != name;
        self.runs(moves).any(|run| run.touched)
    }
}

/// A site that a move has left with its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// The move's incident.
    pub incident: String,
    /// The site.
    pub site: SiteName,
    /// Seen alive from here on, it may take writes that the new one lacks.
    pub since: Moment,
    /// When the move ended.
    pub closed: Moment,
}

/// An entry that cannot follow what stands before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry} cannot follow the state {state}{detail}")]
pub struct Illegal {
    /// The entry's kind.
    pub entry: &'static str,
    /// The state it met.
    pub state: State,
    /// More, where there is more to say.
    pub detail: String,
}

/// No new automatic work.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// Until when, wall clock in microseconds.
    pub until: i64,
    /// Who, and why.
    pub by: Actor,
}

/// An app's durable state: the fold of its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Moment,
    /// Which site serves; `None`: nobody has said, and we do not act.
    pub active: Option<SiteName>,
    /// The pause, if one stands.
    pub paused: Option<Pause>,
    /// What can move its traffic without us, as last read.
    pub others: Others,
    /// When the last move ended: cooldown counts from here.
    pub last_move: Option<Moment>,
    /// The open incident.
    pub incident: Option<Incident>,
    /// The figures of the last finished move of each direction and trigger, the latest last.
    pub last_figures: Vec<(Direction, Trigger, Figures)>,
    /// The site that the last move left unfenced, until it is seen alive or another move ends.
    pub left: Option<Left>,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            state: State::Watching,
            since: Moment::default(),
            active: None,
            paused: None,
            others: Others::new(),
            last_move: None,
            incident: None,
            last_figures: Vec::new(),
            left: None,
        }
    }
}

impl Ledger {
    /// Folds one record in, or says why it cannot have happened.
    pub fn apply(&mut self, record: &Record) -> Result<(), Illegal> {
        let entry = &record.entry;
        let illegal = |detail: &str| Illegal { entry: entry.kind(), state: self.state, detail: detail.to_owned() };
        let next = entry.leads(self.state).ok_or_else(|| illegal(""))?;
        if let Some(incident) = &self.incident {
            if matches!(entry, Entry::Opened { .. }) {
                return Err(illegal(": an incident is open already"));
            }
            let named = step_of(entry);
            if named.is_some_and(|name| !incident.steps.contains_key(name)) {
                return Err(illegal(": it names a step that the stored plan does not have"));
            }
        }
        self.fold(record);
        if next != self.state {
            let (left, since) = (self.state, self.since);
            if let Some(incident) = &mut self.incident {
                let from = since.max(incident.opened).max(incident.clock_start());
                *incident.spent.entry(left).or_default() += record.at.since(from);
            }
            self.state = next;
            self.since = record.at;
        }
        Ok(())
    }

    fn fold(&mut self, record: &Record) {
        let at = record.at;
        match &record.entry {
            Entry::Active { site, .. } => {
                self.active = Some(*site);
                // A person says that it serves: that it answers from here on is as it should be.
                self.left.take_if(|left| left.site == *site);
            }
            Entry::Paused { until, by } => {
                self.paused = Some(Pause { until: *until, by: by.clone() });
                self.incident.iter_mut().for_each(|incident| incident.despite_pause = false);
            }
            Entry::Resumed { .. } => {
                self.paused = None;
                self.incident.iter_mut().for_each(|incident| super::fold::resumed(incident, at));
            }
            Entry::Autonomous { found } => self.others.clone_from(found),
            Entry::Opened { trigger, direction, first_failed, .. } => {
                let id = record.incident.clone().unwrap_or_default();
                self.incident = Some(Incident::open(id, *trigger, *direction, at, *first_failed));
                self.since = at;
            }
            Entry::Closed { outcome, active, figures, .. } => {
                let incident = self.incident.take();
                if active.is_some() {
                    self.active = *active;
                }
                if let Some(incident) = incident.filter(|incident| incident.plan.is_some()) {
                    let moved = matches!(outcome, Outcome::Moved | Outcome::Returned);
                    // What was called off before anything was asked for has cooled nothing.
                    if moved || incident.steps.values().any(|run| run.requested.is_some()) {
                        self.last_move = Some(at);
                    }
                    if moved {
                        let site = incident.direction.source();
                        let since = incident.strays_since();
                        self.left = since.map(|since| Left { incident: incident.id.clone(), site, since, closed: at });
                        let of = (incident.direction, incident.trigger);
                        self.last_figures.retain(|(direction, trigger, _)| (*direction, *trigger) != of);
                        self.last_figures.push((of.0, of.1, (**figures).clone()));
                    }
                }
            }
            Entry::OldSiteSeen { incident, at, .. } => {
                if let Some(open) = self.incident.as_mut().filter(|open| open.id == *incident) {
                    open.old_site_seen = Some(*at);
                } else if self.left.take_if(|left| left.incident == *incident).is_some()
                    && let Some((_, _, figures)) = self.last_figures.last_mut()
                {
                    figures.unbound(at.wall);
                }
            }
            other => {
                if let Some(incident) = &mut self.incident {
                    match other {
                        Entry::Planned { .. } => incident.despite_pause = self.paused.is_some() && incident.commanded(),
                        Entry::Retried { .. } | Entry::StepSkipped { .. } if self.paused.is_some() => {
                            super::fold::resumed(incident, at);
                            incident.despite_pause = true;
                        }
                        _ => {}
                    }
                    super::fold::incident(incident, record);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::fixtures::{by, exposure, opened, record};

    /// One entry of every kind, and `gated` with every ruling.
    fn every_entry() -> Vec<Entry> {
        let wish = || Wish { by: by(), accept_loss: Some(f64::INFINITY), shown: None, force: false, graceful: false };
        let at = Moment::default();
        let step = || "promote".to_owned();
        let words = || "words".to_owned();
        let plan = Plan { direction: Direction::ToStandby, steps: Vec::new() };
        let mut entries = vec![
            Entry::Started { version: words(), observer: words(), config: words() },
            Entry::Stopped { reason: words() },
            Entry::Gap { seconds: 4.0 },
            Entry::ClockStepped { seconds: -4.0 },
            Entry::Reloaded { ok: true, words: words() },
            Entry::Active { site: SiteName::Primary, by: by() },
            Entry::Paused { until: 1, by: by() },
            Entry::Resumed { by: by() },
            opened(Some(at)),
            Entry::Commanded { wish: wish(), first_failed: None },
            Entry::Confirmed { first_failed: at, words: words() },
            Entry::Approved { wish: wish() },
            Entry::Declined { by: by(), unanswered: Vec::new() },
            Entry::FrontDoorLost { at },
            Entry::FrontDoorBack { at },
            Entry::Autonomous { found: Others::from([(step(), vec![words()])]) },
            Entry::MovedByOthers { at },
            Entry::Planned { plan },
            Entry::StepStarted { step: step() },
            Entry::StepPermitted { step: step(), gates: Vec::new() },
            Entry::StepWaits { step: step(), words: words(), waits_for: words(), exposure: exposure(None) },
            Entry::StepIntent { step: step(), attempt: 1, found: Value::Null },
            Entry::StepAsked { step: step(), facts: Value::Null },
            Entry::StepTrouble { step: step(), code: words(), words: words() },
            Entry::StepProgress { step: step(), words: words() },
            Entry::StepVerified { step: step(), already: false, facts: Value::Null },
            Entry::StepFailed { step: step(), code: words(), words: words(), needs_person: false },
            Entry::StepSkipped { step: step(), by: by() },
            Entry::CallingOff { words: words() },
            Entry::StepUndone { step: step(), words: words() },
            Entry::Executed,
            Entry::AuthorityMoved { at },
            Entry::Proven { first: at },
            Entry::Stuck { words: words(), waits_for: words() },
            Entry::Retried { by: by() },
            Entry::AbortedBy { by: by() },
            Entry::OldSiteSeen { incident: words(), site: SiteName::Primary, at, words: words() },
            Entry::Closed { outcome: Outcome::Aborted, active: None, figures: Box::default(), by: None },
        ];
        entries.extend(Ruling::ALL.iter().map(|ruling| Entry::Gated { ruling: *ruling, gates: Vec::new(), exposure: exposure(None) }));
        entries
    }

    #[test]
    fn the_list_above_has_every_kind() {
        // serde names all kinds that it would have taken; ours are the words between its backquotes, after the unknown one.
        let error = serde_json::from_str::<Entry>(r#"{"kind":"?"}"#).unwrap_err().to_string();
        let known: BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
        let listed: BTreeSet<&str> = every_entry().iter().map(Entry::kind).collect();
        assert_eq!(known, listed);
    }

    #[test]
    fn the_state_diagram_is_this_one() {
        let mut diagram = BTreeMap::new();
        for state in State::ALL {
            let mut leaves = BTreeSet::new();
            for entry in every_entry() {
                if let Some(next) = entry.leads(*state).filter(|next| next != state) {
                    leaves.insert(format!("{} > {next}", entry.kind()));
                }
            }
            diagram.insert(state.as_str(), leaves.into_iter().collect::<Vec<_>>().join(", "));
        }
        let expected = BTreeMap::from([
            ("watching", "opened > suspect"),
            (
                "suspect",
                "closed > watching, confirmed > confirmed, declined > held, gated > awaiting-approval, gated > held, planned > moving",
            ),
            ("confirmed", "closed > watching, declined > held, gated > awaiting-approval, gated > held, planned > moving"),
            ("held", "closed > watching, gated > awaiting-approval, planned > moving"),
            ("awaiting-approval", "closed > watching, declined > held, gated > held, planned > moving"),
            ("moving", "aborted-by > stuck, closed > watching, executed > proving, stuck > stuck"),
            ("proving", "aborted-by > stuck, closed > watching, stuck > stuck"),
            ("stuck", "closed > watching, retried > moving, step-skipped > moving"),
        ]);
        assert_eq!(diagram, expected.into_iter().map(|(state, leaves)| (state, leaves.to_owned())).collect());
    }

    /// `docs/states.md` as the code has it.
    fn states_document() -> String {
        let mut arrows: BTreeMap<(State, State), Vec<&str>> = BTreeMap::new();
        for entry in every_entry() {
            for state in State::ALL {
                if let Some(next) = entry.leads(*state).filter(|next| next != state) {
                    let kinds = arrows.entry((*state, next)).or_default();
                    if !kinds.contains(&entry.kind()) {
                        kinds.push(entry.kind());
                    }
                }
            }
        }
        let id = |state: &State| state.as_str().replace('-', "_");
        let mut text = String::from(
            "# States\n\nWritten by a test of `src/domain/ledger.rs` from `Entry::leads`, which the live daemon and the replay of a journal \
             both obey. A pause is a flag beside the state.\n\n```mermaid\nstateDiagram-v2\n    [*] --> watching\n",
        );
        for ((from, to), kinds) in &arrows {
            text += &format!("    {} --> {}: {}\n", id(from), id(to), kinds.join(", "));
        }
        text +=
            "```\n\nWhat each entry of the journal does in each state: `=` stays, a name is where it leads, blank is refused.\n\n| entry |";
        State::ALL.iter().for_each(|state| text += &format!(" {state} |"));
        text += &format!("\n|---|{}\n", "---|".repeat(State::ALL.len()));
        let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
        for entry in every_entry() {
            let cells: Vec<String> = State::ALL
                .iter()
                .map(|state| match entry.leads(*state) {
                    None => String::new(),
                    Some(next) if next == *state => "=".to_owned(),
                    Some(next) => next.to_string(),
                })
                .collect();
            match rows.iter_mut().find(|(kind, _)| *kind == entry.kind()) {
                // One kind with several contents, such as the rulings of `gated`.
                Some((_, known)) => {
                    known.iter_mut().zip(cells).filter(|(old, new)| !old.split(" or ").any(|one| one == new)).for_each(|(old, new)| {
                        old.push_str(" or ");
                        old.push_str(&new);
                    })
                }
                None => rows.push((entry.kind(), cells)),
            }
        }
        for (kind, cells) in rows {
            text += &format!("| `{kind}` | {} |\n", cells.join(" | "));
        }
        text
    }

    #[test]
    fn the_document_of_states_says_what_the_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");
        let text = states_document();
        if std::env::var_os("RECORD").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == text, "docs/states.md is out of step; run RECORD=1 cargo nextest run --lib document_of_states");
    }

    #[test]
    fn a35_every_state_is_reached_and_every_state_leaves() {
        let mut reached = BTreeSet::from([State::Watching]);
        let mut open = vec![State::Watching];
        while let Some(state) = open.pop() {
            for next in every_entry().iter().filter_map(|entry| entry.leads(state)) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        assert_eq!(reached, State::ALL.iter().copied().collect());
        for state in State::ALL {
            assert!(every_entry().iter().any(|entry| entry.leads(*state).is_some_and(|next| next != *state)), "nothing leaves {state}");
        }
    }

    /// An app that came to that state, with an incident open unless it is at rest.
    fn ledger_in(state: State) -> Ledger {
        let mut ledger = Ledger::default();
        if state != State::Watching {
            ledger.apply(&record(opened(Some(Moment::default())), 1)).unwrap();
        }
        ledger.state = state;
        ledger
    }

    #[test]
    fn a35_every_entry_in_every_state_leads_where_it_says_or_changes_nothing() {
        for state in State::ALL {
            for entry in every_entry() {
                let was = ledger_in(*state);
                let mut ledger = was.clone();
                let kind = entry.kind();
                let leads = entry.leads(*state);
                match ledger.apply(&record(entry, 2)) {
                    Ok(()) => assert_eq!(Some(ledger.state), leads, "{kind} in {state}"),
                    Err(illegal) => {
                        assert_eq!(ledger, was, "{kind} in {state} was refused and yet left a trace");
                        assert_eq!((illegal.entry, illegal.state), (kind, *state));
                        assert!(leads.is_none() || illegal.detail.contains("a step that the stored plan does not have"), "{illegal}");
                    }
                }
                assert_eq!(ledger.incident.is_none(), ledger.state == State::Watching, "{kind} in {state}");
            }
        }
    }

    #[test]
    fn a12_a_command_given_in_a_pause_goes_on_in_spite_of_it_and_not_of_the_next() {
        let wish = Wish { by: by(), accept_loss: None, shown: None, force: false, graceful: false };
        let paused = || Entry::Paused { until: 1, by: by() };
        let planned = || Entry::Planned { plan: Plan { direction: Direction::ToStandby, steps: Vec::new() } };
        let despite = |entries: Vec<Entry>| {
            let mut ledger = Ledger::default();
            // All of them in one instant: their order tells which came first.
            entries.into_iter().for_each(|entry| ledger.apply(&record(entry, 1)).unwrap());
            ledger.incident.unwrap().despite_pause
        };
        let commanded = || vec![opened(None), Entry::Commanded { wish: wish.clone(), first_failed: None }, planned()];
        assert!(despite([vec![paused()], commanded()].concat()));
        assert!(!despite([commanded(), vec![paused()]].concat()));
        assert!(!despite([vec![paused()], commanded(), vec![paused()]].concat()));
        assert!(!despite([vec![paused(), opened(None)], vec![planned()]].concat()), "nobody commanded it");
    }

    #[test]
    fn the_last_figures_of_each_direction_and_trigger_are_kept() {
        let mut ledger = Ledger::default();
        let moves = [
            (Direction::ToStandby, Trigger::Outage, 1.0),
            (Direction::ToPrimary, Trigger::Operator, 2.0),
            (Direction::ToStandby, Trigger::Operator, 3.0),
            (Direction::ToStandby, Trigger::Outage, 4.0),
        ];
        for (direction, trigger, rto) in moves {
            let opened = Entry::Opened { trigger, direction, first_failed: None, words: String::new() };
            let planned = Entry::Planned { plan: Plan { direction, steps: Vec::new() } };
            let figures = Box::new(Figures { rto_seconds: Some(rto), ..Figures::default() });
            let closed = Entry::Closed { outcome: Outcome::Moved, active: None, figures, by: None };
            [opened, planned, closed].into_iter().for_each(|entry| ledger.apply(&record(entry, 1)).unwrap());
        }
        let kept: Vec<_> = ledger.last_figures.iter().map(|(way, by, figures)| (*way, *by, figures.rto_seconds.unwrap())).collect();
        assert_eq!(kept, moves[1..]);
    }

    #[test]
    fn what_nobody_answered_is_no_persons_no_and_a_yes_or_a_command_ends_it() {
        let wish = Wish { by: by(), accept_loss: None, shown: None, force: false, graceful: false };
        let after = |entries: Vec<Entry>| {
            let mut ledger = ledger_in(State::AwaitingApproval);
            entries.into_iter().for_each(|entry| ledger.apply(&record(entry, 2)).unwrap());
            ledger.incident.map(|incident| (incident.declined, !incident.unanswered.is_empty())).unwrap()
        };
        let ran_out = || Entry::Declined { by: by(), unanswered: vec!["cooldown".into()] };
        let no = || Entry::Declined { by: by(), unanswered: Vec::new() };
        assert_eq!(after(vec![ran_out()]), (false, true));
        assert_eq!(after(vec![no(), ran_out()]), (true, true));
        assert_eq!(after(vec![ran_out(), no()]), (true, true));
        assert_eq!(after(vec![ran_out(), no(), Entry::Approved { wish: wish.clone() }]), (false, false));
        assert_eq!(after(vec![ran_out(), Entry::Commanded { wish, first_failed: None }]), (false, false));
        // A journal of before tells them apart by nothing, and a no stands.
        let of_old = r#"{"kind":"declined","by":{"who":"watchover","reason":"nobody answered within 1m"}}"#;
        assert_eq!(after(vec![serde_json::from_str(of_old).unwrap()]), (true, false));
    }

    #[test]
    fn a_no_takes_back_a_yes_and_leaves_a_command() {
        let wish = Wish { by: by(), accept_loss: None, shown: Some(1.0), force: false, graceful: false };
        let mut ledger = ledger_in(State::Held);
        ledger.apply(&record(Entry::Approved { wish: wish.clone() }, 2)).unwrap();
        ledger.apply(&record(Entry::Declined { by: by(), unanswered: Vec::new() }, 3)).unwrap();
        let incident = ledger.incident.as_ref().unwrap();
        assert!(incident.declined && !incident.approved && incident.wish.is_none());
        ledger.apply(&record(Entry::Commanded { wish: wish.clone(), first_failed: None }, 4)).unwrap();
        ledger.apply(&record(Entry::Declined { by: by(), unanswered: Vec::new() }, 5)).unwrap();
        assert_eq!(ledger.incident.unwrap().wish, Some(wish));
    }
}
