//! The registries, as the config asks them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{notify, signals, steps};
use crate::config::judge::Table;
use crate::config::{Catalogue, Config, Place, SignalPlace, SignalTraits, StepTraits};
use crate::domain::model::SiteName;
use crate::ports::Permission;

/// The kinds of this build.
#[derive(Debug, Clone, Copy)]
pub struct Kinds;

impl Kinds {
    /// Everything that the parts of this config need to be allowed: `iam-policy` prints it, and the metrics know by it
    /// which calls may come.
    pub fn permissions(config: &Config) -> BTreeSet<Permission> {
        let mut all = BTreeSet::new();
        for app in &config.apps {
            for spec in SiteName::ALL.iter().flat_map(|site| &app.site(*site).signals) {
                all.extend(signals::kind(&spec.kind).into_iter().flat_map(|kind| (kind.permissions)(spec)));
            }
            for step in app.policy.failover.steps.iter().chain(&app.policy.failback.steps) {
                all.extend(steps::kind(&step.kind).into_iter().flat_map(|kind| (kind.permissions)(step)));
            }
        }
        for receiver in &config.notify {
            all.extend(notify::kind(&receiver.kind).into_iter().flat_map(|kind| (kind.permissions)(receiver)));
        }
        all
    }
}

impl Catalogue for Kinds {
    fn signal_kinds(&self) -> Vec<&'static str> {
        signals::kinds().iter().map(|kind| kind.name).collect()
    }

    fn step_kinds(&self) -> Vec<&'static str> {
        steps::kinds().iter().map(|kind| kind.name).collect()
    }

    fn signal(&self, kind: &str) -> Option<SignalTraits> {
        signals::kind(kind).map(|kind| SignalTraits { aws: kind.aws, replica: kind.replica })
    }

    fn step(&self, kind: &str) -> Option<StepTraits> {
        steps::kind(kind).map(|kind| StepTraits {
            class: kind.class,
            reversibility: kind.reversibility,
            repeat: kind.repeat,
            // Written by us, read by a test: the fallback is never taken.
            default_deadline: humantime::parse_duration(kind.default_deadline).unwrap_or(Duration::from_secs(60)),
            at_source: kind.at_source,
            first: false,
        })
    }

    fn judge_signal(&self, kind: &str, table: &Table, place: &SignalPlace) -> Option<Value> {
        (signals::kind(kind)?.judge)(table, place)
    }

    fn judge_step(&self, kind: &str, table: &Table, place: &Place) -> Option<Value> {
        (steps::kind(kind)?.judge)(table, place)
    }

    fn refine(&self, kind: &str, keys: &Value, traits: StepTraits) -> StepTraits {
        steps::kind(kind).and_then(|kind| kind.refine).map_or(traits, |refine| refine(keys, traits))
    }

    fn notify_kinds(&self) -> Vec<&'static str> {
        notify::kinds().iter().map(|kind| kind.name).collect()
    }

    fn judge_notify(&self, kind: &str, table: &Table) -> Option<Value> {
        (notify::kind(kind)?.judge)(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_deadline_is_a_duration() {
        for kind in steps::kinds() {
            assert!(humantime::parse_duration(kind.default_deadline).is_ok(), "{}: {:?}", kind.name, kind.default_deadline);
        }
    }
}
