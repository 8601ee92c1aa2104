//! The post-incident report: one page of blocks, shown as Markdown, HTML or text; and the story itself as JSON.

use super::lines::span;
use super::{Decided, StepTold, Story, When, between};
use crate::cli::page::{self, Block, Cell, Tone};
use crate::domain::ledger::{Figures, GateState, Ruling};
use crate::domain::model::{Outcome, SiteName};
use crate::domain::rpo::{Assumption, Exposure};

/// The parts of RTO in the order in which they pass.
const PHASES: [&str; 5] = ["detect", "hold", "approve", "execute", "prove"];

impl Story {
    /// As Markdown, to be pasted.
    pub fn markdown(&self) -> String {
        page::markdown(&self.blocks())
    }

    /// As one HTML document that loads nothing.
    pub fn html(&self) -> String {
        page::html(&self.title(), &self.blocks())
    }

    /// As text for a terminal.
    pub fn text(&self, colour: bool) -> String {
        page::text(&self.blocks(), colour)
    }

    /// As one JSON document.
    ///
    /// # Errors
    /// None with the types as they are; serde's signature has one.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The outcome, or where an open incident stands.
    pub(super) fn standing(&self) -> Cell {
        match self.outcome {
            Some(outcome) => Cell::toned(
                outcome.as_str(),
                match outcome {
                    Outcome::Moved | Outcome::Returned => Tone::Good,
                    Outcome::NoAction | Outcome::CalledOff => Tone::Plain,
                    Outcome::Declined => Tone::Warn,
                    Outcome::Aborted | Outcome::Stuck => Tone::Bad,
                },
            ),
            None => Cell::toned(format!("open: {}", self.state), Tone::Warn),
        }
    }

    pub(super) fn title(&self) -> String {
        format!("Incident {}: {}", self.id, self.standing().text)
    }

    /// The whole report.
    fn blocks(&self) -> Vec<Block> {
        let mut page = vec![Block::Heading(1, self.title()), self.summary()];
        if !self.faults.is_empty() {
            page.push(Block::Para(
                "The journal holds entries that could not have followed what stood before them; a daemon refuses it:".into(),
            ));
            page.push(Block::List(self.faults.clone()));
        }
        page.push(Block::Heading(2, "Timeline".into()));
        page.push(self.timeline_table());
        if !self.decided.is_empty() {
            page.push(Block::Heading(2, "Gates".into()));
            runs(&self.decided).iter().for_each(|run| ruling(&mut page, run));
        }
        if !self.steps.is_empty() {
            page.push(Block::Heading(2, "Steps".into()));
            page.push(self.steps_table());
        }
        if let Some(figures) = self.figures.as_ref().filter(|figures| figures.rto_seconds.is_some()) {
            page.push(Block::Heading(2, "RTO".into()));
            rto(&mut page, figures);
        }
        if let Some(rpo) = self.rpo() {
            page.push(Block::Heading(2, "RPO".into()));
            page.push(Block::Para(format!("Lost: {}.", rpo.words())));
            page.push(Block::Para(format!("It rests on this: {}.", assumption(rpo.assumption))));
        }
        if !self.waits.is_empty() {
            page.push(Block::Heading(2, "What watchover waited for".into()));
            page.push(self.waits_table());
        }
        if !self.people.is_empty() {
            page.push(Block::Heading(2, "People".into()));
            let row = |deed: &super::Deed| {
                vec![clock(&deed.at).into(), deed.who.as_str().into(), deed.what.as_str().into(), deed.why.as_str().into()]
            };
            page.push(Block::Table(vec!["time (UTC)", "who", "what", "why"], self.people.iter().map(row).collect()));
        }
        page
    }

    fn summary(&self) -> Block {
        let figure = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), span);
        let mut rows: Vec<Vec<Cell>> = vec![
            vec!["App".into(), self.app.as_str().into()],
            vec!["Outcome".into(), self.standing()],
            vec!["Trigger".into(), self.trigger.as_str().into()],
            vec!["Direction".into(), self.direction.as_str().into()],
            vec!["Active site".into(), format!("{} before, {} after", site(self.active_before), site(self.active_after)).into()],
            vec!["Opened".into(), self.opened.wall.as_str().into()],
        ];
        if let Some(closed) = &self.closed {
            rows.push(vec!["Closed".into(), format!("{}, after {}", closed.wall, span(between(&self.opened, closed))).into()]);
        }
        if let Some(waits_for) = &self.waits_for {
            rows.push(vec!["Waits for a person".into(), Cell::toned(waits_for.as_str(), Tone::Warn)]);
        }
        rows.push(vec!["Seen".into(), self.words.as_str().into()]);
        rows.push(vec!["RTO".into(), figure(self.figures.as_ref().and_then(|figures| figures.rto_seconds)).into()]);
        let rpo = self.rpo().map_or_else(
            || "–".to_owned(),
            |rpo| {
                rpo.seconds.map_or_else(|| "unknown".to_owned(), |s| if s.is_finite() { format!("at most {}", span(s)) } else { span(s) })
            },
        );
        rows.push(vec!["RPO".into(), rpo.into()]);
        if let Some(words) = self.moved_by_others_words() {
            rows.push(vec!["Traffic".into(), words.into()]);
        }
        if self.epochs.len() > 1 {
            let epochs: Vec<String> = self.epochs.iter().map(u64::to_string).collect();
            rows.push(vec!["Restarts within".into(), format!("{} (epochs {})", self.epochs.len() - 1, epochs.join(", ")).into()]);
        }
        if self.crossed_boot {
            rows.push(vec!["Clocks".into(), "the machine was restarted within; times across it rest on the wall clock".into()]);
        }
        Block::Table(vec![], rows)
    }

    /// That others moved traffic, if they did.
    pub(super) fn moved_by_others_words(&self) -> Option<String> {
        let at = self.moved_by_others.as_ref()?;
        Some(format!("others moved it before watchover did: the zone's own servers answered with the target since {}", at.wall))
    }

    /// The loss of a finished move; what a move would have lost is in the rulings.
    pub(super) fn rpo(&self) -> Option<&Exposure> {
        self.figures.as_ref().and_then(|figures| figures.rpo.as_ref())
    }

    fn timeline_table(&self) -> Block {
        let row = |line: &super::Line| {
            let boot = line.at.boot_clock_seconds.map_or_else(|| "–".to_owned(), offset);
            vec![clock(&line.at).into(), boot.into(), offset(line.at.wall_clock_seconds).into(), line.words.as_str().into()]
        };
        Block::Table(vec!["time (UTC)", "boot clock", "wall clock", "what"], self.timeline.iter().map(row).collect())
    }

    fn steps_table(&self) -> Block {
        let row = |step: &StepTold| {
            let tone = match step.state {
                "verified" => Tone::Good,
                "failed" => Tone::Bad,
                "waiting" => Tone::Dim,
                _ => Tone::Warn,
            };
            let started =
                step.started.as_ref().map_or_else(|| "–".to_owned(), |at| offset(at.boot_clock_seconds.unwrap_or(at.wall_clock_seconds)));
            vec![
                step.name.as_str().into(),
                step.kind.as_str().into(),
                step.class.as_str().into(),
                step.reversibility.as_str().into(),
                Cell::toned(step.state, tone),
                started.into(),
                step.seconds.map_or_else(|| "–".to_owned(), span).into(),
                step.attempts.to_string().into(),
                remarks(step).into(),
            ]
        };
        let heads = vec!["step", "kind", "class", "reversibility", "state", "started", "took", "attempts", "remarks"];
        Block::Table(heads, self.steps.iter().map(row).collect())
    }

    fn waits_table(&self) -> Block {
        let row = |wait: &super::Wait| {
            let took = wait.seconds.map_or_else(|| "still".to_owned(), span);
            vec![clock(&wait.from).into(), took.into(), Cell::toned(wait.state.as_str(), Tone::Warn), wait.on.join("; ").into()]
        };
        Block::Table(vec!["since (UTC)", "for", "state", "waiting for"], self.waits.iter().map(row).collect())
    }
}

/// Rulings that differ only in their figures, as one: the last of them, and how many there were.
fn runs(decided: &[Decided]) -> Vec<(&Decided, &Decided, usize)> {
    let alike = |a: &Decided, b: &Decided| {
        a.ruling.is_some()
            && a.ruling == b.ruling
            && a.gates.len() == b.gates.len()
            && a.gates.iter().zip(&b.gates).all(|(a, b)| a.name == b.name && a.state == b.state)
    };
    let mut runs: Vec<(&Decided, &Decided, usize)> = Vec::new();
    for one in decided {
        match runs.last_mut().filter(|(_, last, _)| alike(last, one)) {
            Some((_, last, times)) => (*last, *times) = (one, *times + 1),
            None => runs.push((one, one, 1)),
        }
    }
    runs
}

/// One ruling with all its gates.
pub(super) fn ruling(page: &mut Vec<Block>, (first, last, times): &(&Decided, &Decided, usize)) {
    let what = match (last.ruling, &last.before_step) {
        (Some(ruling), _) => format!("Ruling: {ruling}"),
        (None, Some(step)) => format!("Second look before {step}"),
        (None, None) => "Second look".to_owned(),
    };
    let at =
        if *times == 1 { first.at.wall.clone() } else { format!("{} to {}, {times} times alike; the last", first.at.wall, last.at.wall) };
    page.push(Block::Heading(3, format!("{what} ({at})")));
    let row = |gate: &crate::domain::ledger::Gate| {
        let tone = match gate.state {
            GateState::Open => Tone::Good,
            GateState::Asks => Tone::Warn,
            GateState::Shut => Tone::Bad,
        };
        vec![gate.name.as_str().into(), Cell::toned(gate.state.as_str(), tone), gate.words.as_str().into()]
    };
    page.push(Block::Table(vec!["gate", "state", "figures"], last.gates.iter().map(row).collect()));
    if let Some(exposure) = &last.exposure {
        let tense = if last.ruling == Some(Ruling::Go) { "A move now loses" } else { "A move then would have lost" };
        page.push(Block::Para(format!("{tense}: {}.", exposure.words())));
    }
}

fn rto(page: &mut Vec<Block>, figures: &Figures) {
    let total = figures.rto_seconds.unwrap_or_default();
    let known = PHASES.iter().filter_map(|phase| figures.phases.get_key_value(*phase));
    let other = figures.phases.iter().filter(|(phase, _)| !PHASES.contains(&phase.as_str()));
    let share = |seconds: f64| if total > 0.0 { format!("{:.0} %", seconds / total * 100.0) } else { "–".to_owned() };
    let row = |(phase, seconds): (&String, &f64)| vec![phase.as_str().into(), span(*seconds).into(), share(*seconds).into()];
    let mut rows: Vec<Vec<Cell>> = known.chain(other).map(row).collect();
    rows.push(vec!["total".into(), span(total).into(), share(total).into()]);
    page.push(Block::Table(vec!["phase", "time", "share"], rows));
    let mut notes = Vec::new();
    if let Some(seconds) = figures.authority_seconds {
        notes.push(format!("The zone's own servers answered with the target after {}.", span(seconds)));
    }
    if figures.uncertainty_seconds > 0.0 {
        notes.push(format!("The clocks may be off by {}: the machine was restarted within.", span(figures.uncertainty_seconds)));
    }
    if !notes.is_empty() {
        page.push(Block::Para(notes.join(" ")));
    }
}

fn remarks(step: &StepTold) -> String {
    let mut remarks: Vec<String> = Vec::new();
    if step.already {
        remarks.push("was so already".into());
    }
    if let Some((last, before)) = step.trouble.split_last() {
        let more = if before.is_empty() { String::new() } else { format!(" (and {} before it)", before.len()) };
        remarks.push(format!("{}: {}{more}", last.code, last.words));
    }
    remarks.extend(step.remark.clone());
    remarks.join("; ")
}

/// The assumption as a sentence's end.
fn assumption(word: Assumption) -> &'static str {
    match word {
        Assumption::FenceProven => "the old writers were read back as gone, and wrote nothing after that",
        Assumption::NoWritesPastFrontDoor => {
            "nobody wrote past the front door, which had stopped answering from the old site; the old writers were not proven gone"
        }
        Assumption::WritesUntilNow => "the old site may have taken writes until this was computed",
        Assumption::Drained => "the old writers were read back as gone, and the replica as caught up after that",
        Assumption::NoData => "no data changed hands",
        Assumption::DataStays => "nothing: the data stayed at the site that was left, and whatever was written there with it",
        Assumption::OldSiteSeen => {
            "nothing: the old site was seen alive after its data had moved, its writers were not proven gone, and each write it took since is lost to the new one"
        }
    }
}

fn site(site: Option<SiteName>) -> &'static str {
    site.map_or("unknown", SiteName::as_str)
}

/// The time of day; the date stands in the summary.
fn clock(at: &When) -> String {
    at.wall.split_once('T').map_or(at.wall.as_str(), |(_, time)| time.trim_end_matches('Z')).to_owned()
}

fn offset(seconds: f64) -> String {
    if seconds < 0.0 { span(seconds) } else { format!("+{}", span(seconds)) }
}
