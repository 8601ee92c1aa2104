//! The doors of a kind: what the registries in `signals` and `steps` list.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::config::judge::Table;
pub use crate::config::{Place, SignalSpec};
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Permission, Probe, Step, StepError};

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
    pub judge: fn(&Table, &Place) -> Option<Value>,
    /// Builds the probe.
    pub build: fn(&SignalSpec, &A) -> Result<Arc<dyn Probe>, StepError>,
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
    /// Its own keys.
    pub keys: &'static [KeyDoc],
    /// Judges the kind's keys and completes them; `None` if a problem was noted.
    pub judge: fn(&Table, &Place) -> Option<Value>,
    /// Builds the step from what a plan stored.
    pub build: fn(&PlannedStep, &A) -> Result<Arc<dyn Step>, StepError>,
    /// What it needs to be allowed.
    pub permissions: fn(&PlannedStep) -> Vec<Permission>,
}
