//! The live view: the journal's entries and the world's events on one clock, as lines or as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::judge::Verdict;
use crate::adapters::sqlite::SqliteJournal;
use crate::cli::Look;
use crate::cli::out::say;
use crate::domain::ledger::{Entry, Record, Ruling};
use crate::domain::model::Outcome;
use crate::lab::scenarios::Scenario;
use crate::lab::{Action, Lab};

/// Tells what happens.
pub struct Teller {
    look: Look,
    state_dir: PathBuf,
    /// Everything that the journal holds so far.
    pub records: Vec<Record>,
    /// Everything that the world saw so far.
    pub events: Vec<crate::lab::world::Event>,
    /// When the world was broken first (Unix, microseconds).
    pub broken_at: Option<i64>,
    /// Rows before this belong to the daemon's start.
    pub steady_at: usize,
    /// Requests of users that had failed by then.
    pub failed_before: u64,
    quiet: usize,
}

impl Teller {
    /// Nothing has happened yet.
    pub fn new(look: Look, state_dir: &Path) -> Teller {
        Teller {
            look,
            state_dir: state_dir.to_owned(),
            records: Vec::new(),
            events: Vec::new(),
            broken_at: None,
            steady_at: 0,
            failed_before: 0,
            quiet: 0,
        }
    }

    /// The first words.
    pub fn start(&self, scenario: &Scenario, seed: u64, shortened: Vec<String>) {
        if self.look.json {
            self.line(&json!({"event": "start", "schema_version": 1, "scenario": scenario.name, "seed": seed, "expected": scenario.expected, "shortened": shortened}));
            return;
        }
        say!("{} (seed {seed}): {}", scenario.name, scenario.summary);
        say!("expected: {}", scenario.expected.word());
        for words in shortened {
            say!("  shortened: {words}");
        }
    }

    /// The daemon watches, and every gate is open.
    pub fn steady(&mut self, lab: &Lab) {
        self.read(lab);
        self.steady_at = self.records.len();
        self.quiet = self.events.len();
        self.failed_before = lab.users().failed;
        self.say("lab", "the daemon watches, its gates say what they should, and users come");
    }

    /// The hand broke something.
    pub fn broken(&mut self, action: &Action) {
        self.broken_at.get_or_insert_with(|| jiff::Timestamp::now().as_microsecond());
        self.say("break", &action.to_string());
    }

    /// A line of the lab itself.
    pub fn say(&self, who: &str, words: &str) {
        let now = jiff::Timestamp::now().as_microsecond();
        if self.look.json {
            self.line(&json!({"event": who, "at": crate::domain::model::rfc3339(now), "words": words}));
        } else {
            self.row(now, who, words, Style::new());
        }
    }

    fn read(&mut self, lab: &Lab) {
        // While the daemon is being started again the file may be locked for a moment; the next round reads it.
        if let Ok(records) = SqliteJournal::read(&self.state_dir) {
            self.records = records;
        }
        let new = lab.events_since(self.events.len());
        self.events.extend(new);
    }

    /// Prints what is new.
    pub fn news(&mut self, lab: &Lab) {
        let (rows, events) = (self.records.len(), self.quiet);
        self.read(lab);
        self.quiet = self.events.len();
        let mut lines: Vec<(i64, String, String, Style, Value)> = Vec::new();
        for record in self.records.get(rows..).unwrap_or_default() {
            let kind = record.entry.kind();
            let value = json!({"event": "journal", "at": record.at.rfc3339(), "record": record});
            lines.push((record.at.wall, kind.to_owned(), record.entry.words(), style(&record.entry), value));
            if let Entry::Gated { gates, .. } = &record.entry {
                for gate in gates {
                    lines.push((
                        record.at.wall,
                        String::new(),
                        format!("  {:15} {:5} {}", gate.name, gate.state, gate.words),
                        Style::new().dimmed(),
                        Value::Null,
                    ));
                }
            }
        }
        for event in self.events.get(events..).unwrap_or_default() {
            let at = i64::try_from(event.unix_ms).unwrap_or(i64::MAX / 1000) * 1000;
            let parts = [event.kind, &event.region, &event.subject, &event.detail];
            let words = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
            lines.push((
                at,
                "  world".to_owned(),
                words,
                Style::new().fg_color(Some(AnsiColor::Cyan.into())),
                json!({"event": "world", "world": event}),
            ));
        }
        lines.sort_by_key(|line| line.0);
        for (at, kind, words, style, value) in lines {
            if !self.look.json {
                self.row(at, &kind, &words, style);
            } else if !value.is_null() {
                self.line(&value);
            }
        }
    }

    /// The app's rows since the daemon was steady.
    pub fn since_steady(&self) -> &[Record] {
        self.records.get(self.steady_at..).unwrap_or_default()
    }

    /// True once the world saw such an event after the daemon was steady.
    pub fn saw_event(&self, kind: &str) -> bool {
        self.events.iter().any(|event| event.kind == kind)
    }

    /// How many apps have had an incident that ended so.
    pub fn ended(&self, wanted: Outcome) -> usize {
        let ended = |record: &&Record| matches!(record.entry, Entry::Closed { outcome, .. } if outcome == wanted);
        self.since_steady().iter().filter(ended).filter_map(|record| record.app.as_deref()).collect::<BTreeSet<&str>>().len()
    }

    /// The incident for which a person was asked last.
    pub fn asked(&self) -> Option<String> {
        let asks = |record: &&Record| matches!(record.entry, Entry::Gated { ruling: Ruling::Ask, .. });
        self.since_steady().iter().rev().find(asks).and_then(|record| record.incident.clone())
    }

    fn row(&self, at: i64, kind: &str, words: &str, style: Style) {
        let clock = match self.broken_at {
            Some(start) => format!("{:+9.3}s", since(start, at)),
            None => " ".repeat(10),
        };
        let style = if self.look.colour { style } else { Style::new() };
        say!("{clock}  {style}{kind:16} {words}{style:#}");
    }

    fn line(&self, value: &Value) {
        say!("{value}");
    }

    /// The last words.
    pub fn end(&self, verdict: &Verdict, lab: &Lab) {
        if self.look.json {
            self.line(&verdict.summary);
            return;
        }
        let number = |key: &str| match &verdict.summary[key] {
            Value::String(word) => word.clone(),
            value => value.as_f64().map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}s")),
        };
        say!("\ntimeline");
        for record in self.since_steady().iter().filter(|record| record.incident.is_some()) {
            if matches!(
                record.entry,
                Entry::Opened { .. }
                    | Entry::Confirmed { .. }
                    | Entry::Planned { .. }
                    | Entry::StepIntent { .. }
                    | Entry::StepVerified { .. }
                    | Entry::StepFailed { .. }
                    | Entry::Executed
                    | Entry::Proven { .. }
                    | Entry::Closed { .. }
                    | Entry::Stuck { .. }
                    | Entry::OldSiteSeen { .. }
            ) {
                self.row(record.at.wall, record.entry.kind(), &record.entry.words(), style(&record.entry));
            }
        }
        let users = lab.users();
        say!("\nusers           {} requests served, {} failed", users.served, users.failed);
        say!("RTO             {}", number("rto_seconds"));
        // In the order of life; the map's own order is the alphabet's.
        for phase in ["detect", "hold", "approve", "execute", "prove"] {
            if let Some(seconds) = verdict.summary["rto_phases"][phase].as_f64() {
                say!("  {phase:13} {seconds:.3}s");
            }
        }
        say!(
            "RPO reported    {} ({})",
            if verdict.summary["rpo_reported_seconds"] == "unbounded" { "unbounded".to_owned() } else { number("rpo_reported_seconds") },
            verdict.summary["rpo_assumption"].as_str().unwrap_or("-")
        );
        say!("RPO true        {} ({} writes lost)", number("rpo_true_seconds"), verdict.summary["writes_lost"]);
        say!("first effect    {} after the first failed look", number("first_effect_seconds"));
        say!("own overhead    {}", number("own_overhead_seconds"));
        let mut calls: BTreeMap<String, u64> = BTreeMap::new();
        lab.calls().into_iter().for_each(|call| *calls.entry(call.operation).or_default() += call.count);
        let all: u64 = calls.values().sum();
        let words: Vec<String> = calls.iter().map(|(operation, count)| format!("{operation} {count}")).collect();
        say!("AWS calls       {all}: {}", words.join(", "));
        say!(
            "memory          {} anonymous",
            verdict.summary["daemon_anonymous_bytes"]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes / 1_048_576.0))
        );
        for violation in verdict.summary["violations"].as_array().into_iter().flatten() {
            say!("VIOLATION       {violation}");
        }
        let ended = format!(
            "{} (expected {})",
            verdict.summary["outcome"].as_str().unwrap_or("-"),
            verdict.summary["expected"].as_str().unwrap_or("-")
        );
        say!("outcome         {ended}: {}", if verdict.good { "as it should be; every invariant held" } else { "NOT as it should be" });
    }
}

/// Seconds since the world was broken. The clock starts when that was said, and the world, which counts milliseconds,
/// has noted it a moment before: that is the same moment.
fn since(start: i64, at: i64) -> f64 {
    const SAME: i64 = 10_000;
    if (-SAME..0).contains(&(at - start)) { 0.0 } else { (at - start) as f64 / 1e6 }
}

fn style(entry: &Entry) -> Style {
    let colour = match entry {
        Entry::Confirmed { .. } | Entry::StepFailed { .. } | Entry::Stuck { .. } | Entry::OldSiteSeen { .. } => AnsiColor::Red,
        Entry::Opened { .. } | Entry::StepTrouble { .. } | Entry::FrontDoorLost { .. } => AnsiColor::Yellow,
        Entry::StepVerified { .. } | Entry::Proven { .. } | Entry::Closed { .. } => AnsiColor::Green,
        _ => return Style::new(),
    };
    Style::new().fg_color(Some(colour.into()))
}

/// Anonymous resident memory of a process, bytes.
pub fn resident(id: Option<u32>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", id?)).ok()?;
    let line = text.lines().find(|line| line.starts_with("RssAnon:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hand_broke_happened_at_zero_and_not_before() {
        assert_eq!(format!("{:+.3}", since(1_000_000, 999_400)), "+0.000");
        assert_eq!(since(1_000_000, 1_500_000), 0.5);
        assert_eq!(since(1_000_000, 0), -1.0, "what was before it stays before it");
    }
}
