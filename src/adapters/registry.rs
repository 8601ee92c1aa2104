//! The doors of a kind: what the registries in `signals` and `steps` list.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::config::judge::Table;
pub use crate::config::{NotifyConfig, Place, SignalPlace, SignalSpec, StepTraits};
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Notifier, Permission, Probe, Step, StepError};

/// One key of a kind, as the reference prints it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct KeyDoc {
    /// The key.
    pub name: &'static str,
    /// Its form: `string`, `duration`, `list of …`.
    pub form: &'static str,
    /// The default, in TOML; empty: it must be given.
    pub default: &'static str,
    /// What it does and what raising it costs.
    pub doc: &'static str,
}

/// Builds what looks or acts from what was judged, on the common ground `A`.
pub type Build<From, A, Made> = fn(&From, &A) -> Result<Arc<Made>, StepError>;

/// One kind of signal.
pub struct SignalKind<A: ?Sized + 'static> {
    /// `http`.
    pub name: &'static str,
    /// What it looks at, in one sentence.
    pub doc: &'static str,
    /// Its own keys.
    pub keys: &'static [KeyDoc],
    /// Paced by AWS's own clocks: interval 15 s, no fast interval.
    pub aws: bool,
    /// Reads a replica: carries the lag, ends with the promotion, and says nothing about users.
    pub replica: bool,
    /// Judges the kind's keys and completes them; `None` if a problem was noted.
    pub judge: fn(&Table, &SignalPlace) -> Option<Value>,
    /// Builds the probe.
    pub build: Build<SignalSpec, A, dyn Probe>,
    /// What it needs to be allowed.
    pub permissions: fn(&SignalSpec) -> Vec<Permission>,
}

/// One kind of step.
pub struct StepKind<A: ?Sized + 'static> {
    /// `rds-promote-replica`.
    pub name: &'static str,
    /// What it changes, in one sentence.
    pub doc: &'static str,
    /// Its class.
    pub class: Class,
    /// Whether it can be taken back.
    pub reversibility: Reversibility,
    /// What a crash in its middle means.
    pub repeat: Repeat,
    /// The deadline where the config gives none, in TOML's form.
    pub default_deadline: &'static str,
    /// Its calls go to the site that is left, not to the target.
    pub at_source: bool,
    /// Where the keys decide what the step is: its traits under these keys. `None`: they are the kind's.
    pub refine: Option<fn(&Value, StepTraits) -> StepTraits>,
    /// Its own keys.
    pub keys: &'static [KeyDoc],
    /// Judges the kind's keys and completes them; `None` if a problem was noted.
    pub judge: fn(&Table, &Place) -> Option<Value>,
    /// Builds the step from what a plan stored.
    pub build: Build<PlannedStep, A, dyn Step>,
    /// What it needs to be allowed.
    pub permissions: fn(&PlannedStep) -> Vec<Permission>,
}

impl<A: ?Sized> StepKind<A> {
    /// The deadline that a step of this kind will have, for keys that must fit into it. What is wrong with it is named elsewhere.
    pub fn deadline(&self, table: &Table) -> Duration {
        let read = |text: &str| humantime::parse_duration(text.trim()).ok();
        let own = table.raw("deadline").and_then(|value| read(value.as_str()?));
        own.or_else(|| read(self.default_deadline)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
impl<A: ?Sized> StepKind<A> {
    /// What its judge makes of these keys, in a failover of `shop`, and every problem.
    pub fn judged(&self, keys: Value) -> (Option<Value>, Vec<String>) {
        let problems = crate::config::judge::Problems::default();
        let Value::Object(map) = keys else { unreachable!("keys are a table") };
        let table = Table::new("s", map, &problems);
        let direction = crate::domain::model::Direction::ToStandby;
        let place = Place { app: "shop".into(), direction, source_region: "ap-south-1".into(), target_region: "us-east-1".into() };
        let found = (self.judge)(&table, &place);
        table.finish();
        (found, problems.take().iter().map(ToString::to_string).collect())
    }
}

/// Builds a receiver of messages from what was judged. The error is in words, and never carries a secret.
pub type BuildNotifier<A> = fn(&NotifyConfig, &A) -> Result<Arc<dyn Notifier>, String>;

/// One kind of receiver of messages.
pub struct NotifyKind<A: ?Sized + 'static> {
    /// `webhook`.
    pub name: &'static str,
    /// How it is told, in one sentence.
    pub doc: &'static str,
    /// Its own keys.
    pub keys: &'static [KeyDoc],
    /// Judges the kind's keys and completes them; `None` if a problem was noted. Secrets stay in files.
    pub judge: fn(&Table) -> Option<Value>,
    /// Builds what sends.
    pub build: BuildNotifier<A>,
    /// What it needs to be allowed.
    pub permissions: fn(&NotifyConfig) -> Vec<Permission>,
}

/// Keys that every receiver of messages takes besides its kind's own.
pub const NOTIFY_KEYS: &[KeyDoc] = &[
    KeyDoc { name: "name", form: "string", default: "", doc: "Unique among the receivers; a metric label: `a-z 0-9 - _`." },
    KeyDoc { name: "kind", form: "string", default: "", doc: "One of the kinds below." },
    KeyDoc {
        name: "events",
        form: "list of events",
        default: "all but \"opened\" and \"no-action\"",
        doc: "What it is told of: opened, confirmed, held, awaiting-approval, moving, stuck, moved, returned, aborted, called-off, declined, no-action, journal-unwritable, journal-writable. Each once an incident, until a person steers it.",
    },
    KeyDoc {
        name: "remind_every",
        form: "duration",
        default: "\"30m\"",
        doc: "How often it is told again while an incident waits for a person; \"0s\": never. Lower wakes more people.",
    },
    KeyDoc {
        name: "timeout",
        form: "duration",
        default: "\"10s\"",
        doc: "How long one attempt may take; there are five, with growing pauses. Nothing else waits for it.",
    },
    KeyDoc { name: "account", form: "string", default: "our own", doc: "An `[account.NAME]` of the config." },
];

/// Keys that every signal takes besides its kind's own.
pub const SIGNAL_KEYS: &[KeyDoc] = &[
    KeyDoc { name: "name", form: "string", default: "", doc: "Unique within its site; a metric label: `a-z 0-9 - _`." },
    KeyDoc { name: "kind", form: "string", default: "", doc: "One of the kinds below." },
    KeyDoc {
        name: "required",
        form: "\"start\" | \"traffic\" | \"never\"",
        default: "\"start\"",
        doc: "When it must be up if its site is the target.",
    },
    KeyDoc {
        name: "interval",
        form: "duration",
        default: "\"1s\" (AWS kinds: \"15s\")",
        doc: "From one look to the next while all is well. Longer: cheaper, and later.",
    },
    KeyDoc { name: "fast_interval", form: "duration", default: "\"250ms\"", doc: "The same while in doubt. AWS kinds have none." },
    KeyDoc {
        name: "timeout",
        form: "duration",
        default: "\"800ms\" (AWS kinds: `aws.call_timeout`)",
        doc: "How long one look may take. Longer: fewer false alarms, slower detection.",
    },
    KeyDoc { name: "fall", form: "number", default: "3 (AWS kinds: 2)", doc: "Consecutive bad looks to go down." },
    KeyDoc { name: "rise", form: "number", default: "5 (AWS kinds: 1)", doc: "Consecutive good looks to come back." },
    KeyDoc {
        name: "window",
        form: "{ span, down_rate, min_looks } | false",
        default: "{ span = \"90s\", down_rate = 0.5, min_looks = 20 } (AWS kinds: false)",
        doc: "The second way to trip: a share of bad time, with a floor of evidence.",
    },
    KeyDoc { name: "account", form: "string", default: "our own", doc: "An `[account.NAME]` of the config." },
    KeyDoc { name: "region", form: "string", default: "the site's", doc: "Where its calls go." },
];

/// Keys that every step takes besides its kind's own.
pub const STEP_KEYS: &[KeyDoc] = &[
    KeyDoc { name: "name", form: "string", default: "", doc: "Unique within its plan; a metric label: `a-z 0-9 - _`." },
    KeyDoc { name: "kind", form: "string", default: "", doc: "One of the kinds below." },
    KeyDoc { name: "after", form: "list of names", default: "the step above", doc: "What must be done first; `[]` starts at once." },
    KeyDoc { name: "deadline", form: "duration", default: "the kind's", doc: "From its start to its verification, at most." },
    KeyDoc { name: "attempts", form: "number", default: "3", doc: "How often it may be asked for; it is inspected before each." },
    KeyDoc {
        name: "on_failure",
        form: "\"halt\" | \"continue\"",
        default: "\"halt\"",
        doc: "Whether the move stops, for a person, or goes on. What was asked for, may still happen and cannot be taken back stops it either way.",
    },
    KeyDoc { name: "only", form: "\"graceful\" | \"forced\"", default: "both", doc: "In which moves alone it takes part." },
    KeyDoc { name: "account", form: "string", default: "our own", doc: "An `[account.NAME]` of the config." },
    KeyDoc { name: "region", form: "string", default: "the target's (fences: the region that is left)", doc: "Where its calls go." },
];
