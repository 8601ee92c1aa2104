//! What was hit, and how often: nothing that counts may stay at zero.

use std::collections::BTreeMap;

use watchover::domain::gates;
use watchover::domain::ledger::{Entry, GateState, Record};
use watchover::domain::model::{Outcome, State};

use crate::deeds::PEERS;

/// Counters by name.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    counts: BTreeMap<String, u64>,
    /// Where the rows so far have led.
    state: Option<State>,
}

/// Every fault that a history can hold, by the names under which they are counted.
pub const FAULTS: &[&str] = &[
    "region-dark",
    "region-lit",
    "site-refuses",
    "site-resets",
    "site-hangs",
    "site-errors",
    "site-wrong-body",
    "site-slow",
    "site-brown-out",
    "site-half-dead",
    "site-mended",
    "app-stopped",
    "app-started",
    "instance-dies",
    "isolated",
    "connected",
    "slow-network",
    "quick-network",
    "api-throttles",
    "api-fails",
    "api-denies",
    "api-hangs",
    "api-late",
    "api-loses-request",
    "api-loses-answer",
    "replication-broken",
    "replication-paused",
    "replication-late",
    "replication-mended",
    "lag-told",
    "lag-missing",
    "lag-stale",
    "lag-minus-one",
    "database-busy",
    "database-idle",
    "clock-step",
    "process-paused",
    "killed",
    "killed-at-a-door",
    "restarted",
    "machine-rebooted",
    "disk-full",
    "disk-mended",
    "write-torn",
    "reload-mode",
    "reload-limits",
    "reload-plan",
    "journal-lost",
    "no-capacity",
    "group-refilled",
];

/// Every order that a person can give.
pub const ORDERS: &[&str] = &["move", "approve", "decline", "retry", "skip", "abort", "adopt", "pause", "resume"];

/// What can become of a step.
pub const STEP_ENDS: &[&str] = &["verified", "verified-already", "failed", "failed-needs-person", "skipped", "undone", "trouble"];

impl Coverage {
    fn hit(&mut self, name: String) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub fn fault(&mut self, name: &str) {
        debug_assert!(FAULTS.contains(&name), "{name} is not in the list of faults");
        self.hit(format!("fault {name}"));
    }

    pub fn had_fault(&self, name: &str) -> bool {
        debug_assert!(FAULTS.contains(&name), "{name} is not in the list of faults");
        self.count(&format!("fault {name}")) > 0
    }

    /// Somebody was not heard because the way is cut.
    pub fn cut(&mut self, peer: &str) {
        self.hit(format!("fault cut {peer}"));
    }

    pub fn order(&mut self, name: &str, followed: bool) {
        self.hit(format!("order {name} {}", if followed { "followed" } else { "refused" }));
    }

    /// The journal begins anew.
    pub fn begin(&mut self) {
        self.state = None;
    }

    fn edge(&mut self, record: &Record) {
        let from = self.state.unwrap_or(State::Watching);
        let Some(to) = record.entry.leads(from) else { return };
        if from != to {
            self.hit(edge(from, to, record.entry.kind()));
        }
        if from != to || self.state.is_none() {
            self.hit(format!("state {to}"));
        }
        self.state = Some(to);
    }

    pub fn row(&mut self, record: &Record) {
        self.hit(format!("entry {}", record.entry.kind()));
        self.edge(record);
        match &record.entry {
            Entry::Gated { gates, .. } | Entry::StepPermitted { gates, .. } => {
                for gate in gates {
                    self.hit(format!("gate {} {}", gate.name, gate.state));
                }
            }
            Entry::StepVerified { already, .. } => self.hit(format!("step {}", if *already { "verified-already" } else { "verified" })),
            Entry::StepFailed { needs_person, .. } => {
                self.hit(format!("step {}", if *needs_person { "failed-needs-person" } else { "failed" }));
            }
            Entry::StepSkipped { .. } => self.hit("step skipped".into()),
            Entry::StepUndone { .. } => self.hit("step undone".into()),
            Entry::StepTrouble { .. } => self.hit("step trouble".into()),
            Entry::Closed { outcome, .. } => self.hit(format!("outcome {outcome}")),
            _ => {}
        }
    }

    pub fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Everything that must be hit by a soak, whether it was or not.
    pub fn wanted() -> Vec<String> {
        let mut names: Vec<String> = State::ALL.iter().map(|state| format!("state {state}")).collect();
        names.extend(edges().into_iter().filter(|edge| !UNHIT.iter().any(|(known, _)| known == edge)));
        names
            .extend(kinds().into_iter().filter(|kind| !FOREIGN.iter().any(|(known, _)| known == kind)).map(|kind| format!("entry {kind}")));
        names.extend(FAULTS.iter().map(|name| format!("fault {name}")));
        names.extend(PEERS.iter().map(|peer| format!("fault cut {peer}")));
        names.extend(ASKS.iter().map(|name| format!("gate {name} {}", GateState::Asks)));
        names.extend(ORDERS.iter().map(|name| format!("order {name} followed")));
        names.extend(STEP_ENDS.iter().map(|name| format!("step {name}")));
        names.extend(
            Outcome::ALL
                .iter()
                // No incident ends stuck.
                .filter(|outcome| !matches!(outcome, Outcome::Stuck))
                .map(|outcome| format!("outcome {outcome}")),
        );
        for name in gates::NAMES {
            names.push(format!("gate {name} {}", GateState::Open));
            if SHUTS.contains(name) {
                names.push(format!("gate {name} {}", GateState::Shut));
            }
        }
        names
    }

    /// What a soak has to hit and did not.
    pub fn missing(&self) -> Vec<String> {
        Coverage::wanted().into_iter().filter(|name| self.count(name) == 0).collect()
    }

    pub fn lines(&self) -> Vec<String> {
        self.counts.iter().map(|(name, count)| format!("{count:>12}  {name}")).collect()
    }
}

fn edge(from: State, to: State, kind: &str) -> String {
    format!("edge {from} -> {to} by {kind}")
}

/// Every edge of the diagram, as the document that is written from the code has it.
fn edges() -> Vec<String> {
    let plain = |word: &str| word.replace('_', "-");
    let mut found = Vec::new();
    for line in include_str!("../../docs/states.md").lines() {
        let Some((from, (to, kinds))) = line.trim().split_once(" --> ").and_then(|(from, rest)| Some((from, rest.split_once(": ")?)))
        else {
            continue;
        };
        found.extend(kinds.split(", ").map(|kind| format!("edge {} -> {} by {kind}", plain(from), plain(to))));
    }
    found
}

/// Every kind of entry, as the same document has them.
fn kinds() -> Vec<&'static str> {
    let rows = include_str!("../../docs/states.md").lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0)).collect()
}

/// Entries that no history writes, and why.
const FOREIGN: &[(&str, &str)] = &[
    ("stopped", "a life ends here by dying; in order it ends in the tests of the real binary"),
    ("autonomous", "no record here can be moved by others for good; the scenarios have some"),
    ("step-waits", "no step of the plan asks a person; the scenarios and the walk have some"),
];

/// Edges that no history takes, and why: the diagram allows them, and nothing that decides asks for them.
const UNHIT: &[(&str, &str)] = &[
    ("edge suspect -> held by declined", "a no is for what was confirmed; in suspicion an order to abort closes the incident"),
    ("edge suspect -> held by gated", "in suspicion only a command is gated, and one that is not let go is refused and leaves no row"),
    ("edge suspect -> awaiting-approval by gated", "the same"),
    ("edge confirmed -> watching by closed", "confirmed is left in the turn that enters it: its gates are asked at once"),
    ("edge confirmed -> held by declined", "the same: nobody can say no in between"),
];

/// Gates that one daemon with one app can shut; the others need a second group or a lease.
const SHUTS: &[&str] =
    &["active-known", "direction", "not-paused", "mode", "startup-grace", "not-isolated", "target-healthy", "data-loss", "preflight"];

/// Gates that ask a person.
const ASKS: &[&str] = &["mode", "data-loss", "cooldown"];
