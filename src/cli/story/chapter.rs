//! From rows to the story: one incident's records, read twice.

use super::*;

/// The records of one incident, with what happened to its app and to the daemon meanwhile.
pub(super) struct Chapter<'a> {
    pub(super) id: &'a str,
    app: &'a str,
    active_before: Option<SiteName>,
    records: Vec<&'a Record>,
}

pub(super) fn chapters(records: &[Record]) -> Vec<Chapter<'_>> {
    let mut chapters: Vec<Chapter<'_>> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut active: BTreeMap<&str, SiteName> = BTreeMap::new();
    for record in records {
        let Some(app) = record.app.as_deref() else {
            open.values().for_each(|place| chapters[*place].records.push(record));
            continue;
        };
        if matches!(record.entry, Entry::Opened { .. }) {
            open.insert(app, chapters.len());
            let id = record.incident.as_deref().unwrap_or_default();
            chapters.push(Chapter { id, app, active_before: active.get(app).copied(), records: Vec::new() });
        }
        if let Entry::OldSiteSeen { incident, .. } = &record.entry
            && let Some(chapter) = chapters.iter_mut().find(|chapter| chapter.id == incident.as_str())
        {
            // It may come after the end of its incident, even within another one.
            chapter.records.push(record);
            continue;
        }
        if let Some(chapter) = open.get(app).map(|place| &mut chapters[*place])
            && record.incident.as_deref().is_none_or(|id| id == chapter.id)
        {
            chapter.records.push(record);
        }
        match &record.entry {
            Entry::Active { site, .. } => {
                active.insert(app, *site);
            }
            Entry::Closed { active: now, .. } => {
                now.map(|site| active.insert(app, site));
                open.remove(app);
            }
            _ => {}
        }
    }
    chapters
}

/// The clock of an incident: where it starts, and in which boot.
pub(super) struct Clock<'a> {
    start: Moment,
    boot: &'a str,
}

impl Clock<'_> {
    fn when(&self, at: Moment, boot: &str) -> When {
        When {
            wall: rfc3339(at.wall),
            boot_clock_seconds: (boot == self.boot).then(|| micros(at.mono.saturating_sub(self.start.mono))),
            wall_clock_seconds: micros(at.wall.saturating_sub(self.start.wall)),
        }
    }

    fn of(&self, record: &Record) -> When {
        self.when(record.at, &record.boot_id)
    }
}

pub(super) fn micros(span: i64) -> f64 {
    span as f64 / 1e6
}

/// From one moment of the incident to another: by the boot clock where both have it.
pub(super) fn between(from: &When, to: &When) -> f64 {
    match (from.boot_clock_seconds, to.boot_clock_seconds) {
        (Some(from), Some(to)) => (to - from).max(0.0),
        _ => (to.wall_clock_seconds - from.wall_clock_seconds).max(0.0),
    }
}

impl Chapter<'_> {
    /// Two passes: where the clock starts is known only at the end.
    pub(super) fn tell(&self) -> Option<Story> {
        let opening = self.records.first()?;
        let Entry::Opened { words, .. } = &opening.entry else { return None };
        let mut ledger = Ledger { active: self.active_before, ..Ledger::default() };
        let (mut states, mut faults, mut incident) = (Vec::with_capacity(self.records.len()), Vec::new(), None);
        for record in &self.records {
            if let Err(fault) = ledger.apply(record) {
                faults.push(format!("entry {}: {fault}", record.seq));
            }
            incident = ledger.incident.clone().or(incident);
            states.push(ledger.state);
        }
        let incident: Incident = incident?;
        let start = incident.clock_start();
        let confirming = self.records.iter().find(|record| matches!(record.entry, Entry::Confirmed { .. }));
        let anchor = if start == incident.opened { opening } else { confirming.unwrap_or(opening) };
        let clock = Clock { start, boot: &anchor.boot_id };

        let closing = self.records.iter().find(|record| matches!(record.entry, Entry::Closed { .. }));
        let (outcome, figures) = match closing.map(|record| &record.entry) {
            Some(Entry::Closed { outcome, figures, .. }) => (Some(*outcome), Some((**figures).clone())),
            _ => (None, None),
        };
        // What was seen after the end changes the figures, not the end.
        let figures = ledger.last_figures.pop().map(|(_, _, figures)| figures).or(figures);
        // Nor does it belong to what the incident went through: the daemon may have been restarted since.
        let within = || self.records.iter().take_while(|record| closing.is_none_or(|closing| record.seq <= closing.seq));
        let mut epochs: Vec<u64> = within().map(|record| record.epoch).collect();
        epochs.dedup();
        let first_failed = incident.first_failed.map(|at| clock.when(at, &anchor.boot_id));
        let first_line =
            first_failed.clone().map(|at| Line { seq: 0, at, kind: "first-failed", words: "First failed look of the run".into() });
        let line = |record: &&Record| Line {
            seq: record.seq,
            at: clock.of(record),
            kind: record.entry.kind(),
            words: lines::words(&record.entry),
        };
        Some(Story {
            schema_version: 1,
            id: self.id.to_owned(),
            app: self.app.to_owned(),
            trigger: incident.trigger,
            direction: incident.direction,
            state: ledger.state,
            outcome,
            words: words.clone(),
            active_before: self.active_before,
            active_after: ledger.active,
            first_failed,
            opened: clock.of(opening),
            confirmed: confirming.map(|record| clock.of(record)),
            closed: closing.map(|record| clock.of(record)),
            epochs,
            crossed_boot: within().any(|record| record.boot_id != opening.boot_id),
            moved_by_others: incident.moved_by_others.map(|at| clock.when(at, &anchor.boot_id)),
            figures,
            decided: self.decided(&clock),
            steps: self.steps(&clock, &incident),
            waits: self.waits(&clock, &states),
            waits_for: crate::domain::notice::waiting(self.app, &ledger).and_then(|notice| notice.waits_for),
            people: self.records.iter().filter_map(|record| deed(record, &clock)).collect(),
            timeline: first_line.into_iter().chain(self.records.iter().map(line)).collect(),
            exposure: incident.exposure,
            faults,
        })
    }

    fn decided(&self, clock: &Clock<'_>) -> Vec<Decided> {
        let told = |record: &&Record| {
            let at = clock.of(record);
            match &record.entry {
                Entry::Gated { ruling, gates, exposure } => {
                    Some(Decided { at, ruling: Some(*ruling), before_step: None, gates: gates.clone(), exposure: Some(exposure.clone()) })
                }
                Entry::StepPermitted { step, gates } => {
                    Some(Decided { at, ruling: None, before_step: Some(step.clone()), gates: gates.clone(), exposure: None })
                }
                _ => None,
            }
        };
        self.records.iter().filter_map(told).collect()
    }

    fn steps(&self, clock: &Clock<'_>, incident: &Incident) -> Vec<StepTold> {
        let mut steps: Vec<StepTold> = incident
            .plan
            .iter()
            .flat_map(|plan: &Plan| &plan.steps)
            .map(|step| {
                let state = incident.steps.get(&step.name).map_or(StepState::Waiting, |run| run.state);
                StepTold {
                    name: step.name.clone(),
                    kind: step.kind.clone(),
                    class: step.class,
                    reversibility: step.reversibility,
                    state: state.as_str(),
                    started: None,
                    asked: None,
                    ended: None,
                    seconds: None,
                    attempts: 0,
                    already: false,
                    found: Value::Null,
                    facts: Value::Null,
                    remark: None,
                    trouble: Vec::new(),
                }
            })
            .collect();
        for record in &self.records {
            let named = crate::domain::ledger::step_of(&record.entry);
            if let Some(step) = named.and_then(|name| steps.iter_mut().find(|step| step.name == name)) {
                step.take(&record.entry, clock.of(record));
            }
        }
        for step in &mut steps {
            step.seconds = step.started.as_ref().zip(step.ended.as_ref()).map(|(from, to)| between(from, to));
        }
        steps
    }

    fn waits(&self, clock: &Clock<'_>, states: &[State]) -> Vec<Wait> {
        let mut waits: Vec<Wait> = Vec::new();
        let mut on: Vec<String> = Vec::new();
        // What distinguishes one wait from the next: the names, as the figures beside them change all the time.
        let (mut names, mut running): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut waiting = false;
        for (record, state) in self.records.iter().zip(states) {
            match &record.entry {
                Entry::Gated { gates, .. } => {
                    let shut: Vec<&Gate> = gates.iter().filter(|gate| gate.state != GateState::Open).collect();
                    on = shut.iter().map(|gate| format!("{} ({}): {}", gate.name, gate.state, gate.words)).collect();
                    names = shut.iter().map(|gate| gate.name.clone()).collect();
                }
                Entry::Declined { by, .. } => (on, names) = one(format!("a new outage, or a command: {} declined ({})", by.who, by.reason)),
                Entry::Stuck { words, waits_for } => (on, names) = one(format!("{waits_for}: {words}")),
                Entry::AbortedBy { by } => (on, names) = one(format!("`watchover adopt`: {} aborted it ({})", by.who, by.reason)),
                _ => {}
            }
            let waits_now = matches!(state, State::Held | State::AwaitingApproval | State::Stuck);
            let same = waiting && waits_now && names == running && waits.last().is_some_and(|wait| wait.state == *state);
            if same {
                continue;
            }
            let now = clock.of(record);
            if let Some(wait) = waits.last_mut().filter(|_| waiting) {
                wait.seconds = Some(between(&wait.from, &now));
                wait.to = Some(now.clone());
            }
            waiting = waits_now;
            if waiting {
                running.clone_from(&names);
                waits.push(Wait { state: *state, from: now, to: None, seconds: None, on: on.clone() });
            }
        }
        waits
    }
}

fn one(line: String) -> (Vec<String>, Vec<String>) {
    (vec![line.clone()], vec![line])
}

impl StepTold {
    fn take(&mut self, entry: &Entry, at: When) {
        match entry {
            Entry::StepStarted { .. } => {
                self.started.get_or_insert(at);
                self.ended = None;
            }
            Entry::StepIntent { found, .. } => {
                if self.attempts == 0 {
                    self.found.clone_from(found);
                }
                self.attempts += 1;
            }
            Entry::StepAsked { .. } => self.asked = Some(at),
            Entry::StepTrouble { code, words, .. } => self.trouble.push(Hitch { at, code: code.clone(), words: words.clone() }),
            Entry::StepFailed { code, words, .. } => {
                self.trouble.push(Hitch { at: at.clone(), code: code.clone(), words: words.clone() });
                self.ended = Some(at);
            }
            Entry::StepVerified { already, facts, .. } => {
                self.already = *already;
                self.facts.clone_from(facts);
                self.ended = Some(at);
            }
            Entry::StepSkipped { by, .. } => {
                self.remark = Some(format!("skipped by {}: {}", by.who, by.reason));
                self.ended = Some(at);
            }
            Entry::StepUndone { words, .. } => {
                self.remark = Some(words.clone());
                self.ended = Some(at);
            }
            _ => {}
        }
    }
}

/// What a person did with this entry, if one did.
fn deed(record: &Record, clock: &Clock<'_>) -> Option<Deed> {
    let by = |by: &Actor, what: String| Some(Deed { at: clock.of(record), who: by.who.clone(), what, why: by.reason.clone() });
    match &record.entry {
        Entry::Commanded { wish, .. } => by(&wish.by, format!("asked for this move{}", lines::terms(wish))),
        Entry::Approved { wish } => by(&wish.by, format!("approved{}", lines::terms(wish))),
        Entry::Declined { by: actor, .. } => by(actor, "declined".into()),
        Entry::StepSkipped { step, by: actor } => by(actor, format!("skipped the step {step}")),
        Entry::Retried { by: actor } => by(actor, "had the failed steps tried again".into()),
        Entry::AbortedBy { by: actor } => by(actor, "aborted the move".into()),
        Entry::Active { site, by: actor } => by(actor, format!("said that {site} is active")),
        Entry::Paused { until, by: actor } => by(actor, format!("paused until {}", rfc3339(*until))),
        Entry::Resumed { by: actor } => by(actor, "resumed".into()),
        Entry::Closed { outcome, active, by: Some(actor), .. } => {
            let site = active.map(|site| format!(", with {site} active")).unwrap_or_default();
            by(actor, format!("closed it as {outcome}{site}"))
        }
        _ => None,
    }
}
