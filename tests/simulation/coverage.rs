//! What was hit, and how often: nothing that counts may stay at zero.

use std::collections::BTreeMap;

use watchover::domain::gates;
use watchover::domain::ledger::{Entry, GateState, Record};
use watchover::domain::model::{Outcome, State};

/// Counters by name.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    counts: BTreeMap<String, u64>,
    last: Option<State>,
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
    "site-mended",
    "app-stopped",
    "app-started",
    "instance-dies",
    "isolated",
    "connected",
    "cut",
    "joined",
    "slow-network",
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
    "lag-missing",
    "lag-minus-one",
    "database-busy",
    "clock-step",
    "process-paused",
    "killed",
    "killed-at-a-door",
    "restarted",
    "machine-rebooted",
    "disk-full",
    "disk-mended",
    "write-torn",
    "reload",
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

    pub fn order(&mut self, name: &str, followed: bool) {
        self.hit(format!("order {name} {}", if followed { "followed" } else { "refused" }));
    }

    pub fn state(&mut self, state: State) {
        if self.last != Some(state) {
            self.hit(format!("state {state}"));
            if let Some(last) = self.last {
                self.hit(format!("edge {last} -> {state}"));
            }
            self.last = Some(state);
        }
    }

    pub fn row(&mut self, record: &Record) {
        self.hit(format!("entry {}", record.entry.kind()));
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
        // `confirmed` is passed through within one decision, no incident ends stuck, and nobody here refills the primary.
        let lasting = State::ALL.iter().filter(|state| **state != State::Confirmed);
        let mut names: Vec<String> = lasting.map(|state| format!("state {state}")).collect();
        names.extend(FAULTS.iter().map(|name| format!("fault {name}")));
        names.extend(ORDERS.iter().map(|name| format!("order {name} followed")));
        names.extend(STEP_ENDS.iter().map(|name| format!("step {name}")));
        names.extend(
            Outcome::ALL
                .iter()
                .filter(|outcome| !matches!(outcome, Outcome::Stuck | Outcome::Returned))
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

/// Gates that one daemon with one app can shut; the others need a second group or a lease.
const SHUTS: &[&str] =
    &["active-known", "direction", "not-paused", "mode", "startup-grace", "not-isolated", "target-healthy", "data-loss", "preflight"];
