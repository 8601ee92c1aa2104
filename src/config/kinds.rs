//! What the config knows of signal and step kinds: a door that the registries above fill.
//!
//! The config lies below the adapters, so it cannot see their registries; it asks through [`Catalogue`].

use std::time::Duration;

use serde_json::Value;

use super::judge::Table;
use crate::domain::model::{Direction, SiteName};
use crate::domain::plan::{Class, Repeat, Reversibility};

/// Where a step's table stands: what its keys may default to.
#[derive(Debug, Clone)]
pub struct Place {
    /// The app's name.
    pub app: String,
    /// The plan's direction.
    pub direction: Direction,
    /// Region of the site that the move leaves.
    pub source_region: String,
    /// Region of the site that the move goes to.
    pub target_region: String,
}

/// Where a signal's table stands: what its keys may default to.
#[derive(Debug, Clone, Default)]
pub struct SignalPlace {
    /// The app's name.
    pub app: String,
    /// Where its calls go: its own `region`, else its site's. Empty if neither is given or sound, which is noted elsewhere.
    pub region: String,
    /// The host that users call, as far as the front door names one.
    pub front_door: Option<String>,
    /// The DNS name (or address) of its site's load balancer.
    pub load_balancer: Option<String>,
}

/// A signal of the config, judged.
#[derive(Debug, Clone)]
pub struct SignalSpec {
    /// The app's name.
    pub app: String,
    /// The site that it belongs to.
    pub site: SiteName,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Account of the config; `None`: our own.
    pub account: Option<String>,
    /// Region of its calls.
    pub region: String,
    /// The kind's own keys, complete.
    pub keys: Value,
}

/// What the judge must know of a kind of signal besides its own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalTraits {
    /// Paced by AWS's own clocks: no fast interval, no `[app.probe]` defaults.
    pub aws: bool,
    /// Reads a replica: carries the lag, and says nothing about users.
    pub replica: bool,
}

/// What the judge must know of a kind of step besides its own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTraits {
    /// What it changes.
    pub class: Class,
    /// Whether it can be taken back.
    pub reversibility: Reversibility,
    /// What a crash in its middle means.
    pub repeat: Repeat,
    /// Its deadline where the config gives none.
    pub default_deadline: Duration,
    /// Its calls go to the site that is left.
    pub at_source: bool,
    /// It comes before every step of its plan that is not so, whatever their `after` says: while it fails, nothing is changed.
    pub first: bool,
}

/// The kinds that this build knows. The registries of the adapters implement it.
pub trait Catalogue {
    /// Names of all signal kinds.
    fn signal_kinds(&self) -> Vec<&'static str>;

    /// Names of all step kinds.
    fn step_kinds(&self) -> Vec<&'static str>;

    /// What kind of signal `kind` is; `None` if this build does not know it.
    fn signal(&self, kind: &str) -> Option<SignalTraits>;

    /// What kind of step `kind` is; `None` if this build does not know it.
    fn step(&self, kind: &str) -> Option<StepTraits>;

    /// Judges and completes a signal's own keys; `None` if it noted a problem. Leaves `finish` to the caller.
    fn judge_signal(&self, kind: &str, table: &Table, place: &SignalPlace) -> Option<Value>;

    /// Judges and completes a step's own keys; `None` if it noted a problem. Leaves `finish` to the caller.
    fn judge_step(&self, kind: &str, table: &Table, place: &Place) -> Option<Value>;

    /// The traits of a step under its judged keys, for kinds whose keys decide what they are.
    fn refine(&self, _kind: &str, _keys: &Value, traits: StepTraits) -> StepTraits {
        traits
    }

    /// Names of all kinds of receivers of messages.
    fn notify_kinds(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Judges and completes a receiver's own keys; `None` if it noted a problem. Leaves `finish` to the caller.
    fn judge_notify(&self, _kind: &str, _table: &Table) -> Option<Value> {
        None
    }
}
