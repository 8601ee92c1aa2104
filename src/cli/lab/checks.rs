//! What a scenario asks for besides its outcome: each a violation with figures, if it does not hold.

use serde_json::{Value, json};

use super::follow::Teller;
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::Outcome;
use crate::lab::Lab;
use crate::lab::scenarios::Check;
use crate::lab::world::Cause;

/// Batches of records that many apps may need: those that are ready together go together, and those of one moment are
/// many.
const BATCHES: u64 = 12;

/// What is left of a run to look at.
pub struct Remains<'a> {
    /// The world.
    pub lab: &'a Lab,
    /// The journal and the world's log.
    pub tell: &'a Teller,
    /// The daemon's last status.
    pub status: &'a Value,
    /// Its last figures, as Prometheus reads them.
    pub metrics: &'a str,
    /// The worst loss that it reported, seconds.
    pub reported: Option<f64>,
}

impl Remains<'_> {
    /// Why the check does not hold, if it does not.
    pub fn broken(&self, check: Check) -> Option<Value> {
        let (name, detail) = match check {
            Check::Unbounded => ("unbounded", self.unbounded()),
            Check::NothingBack => ("nothing-back", self.nothing_back()),
            Check::ReturnShows => ("return-shows", self.return_shows()),
            Check::NobodyNoticed => ("nobody-noticed", self.nobody_noticed()),
            Check::NeverConfirmed(most) => ("never-confirmed", self.never_confirmed(most)),
            Check::ApprovedFirst => ("approved-first", self.approved_first()),
            Check::LossStated => ("loss-stated", self.loss_stated()),
            Check::ThrottleMet(services) => ("throttle-met", self.throttle_met(services)),
            Check::OneEvent => ("one-event", self.one_event()),
        };
        detail.map(|detail| json!({"name": name, "detail": detail}))
    }

    fn rows(&self) -> &[Record] {
        self.tell.since_steady()
    }

    fn unbounded(&self) -> Option<String> {
        let shown = self.metrics.lines().any(|line| line.starts_with("watchover_last_incident_rpo_seconds{") && line.ends_with(" +Inf"));
        if self.reported == Some(f64::INFINITY) && shown {
            return None;
        }
        Some(format!(
            "the old database was alive and unfenced, but the loss was reported as {:?}, in the metric unbounded: {shown}",
            self.reported
        ))
    }

    fn nothing_back(&self) -> Option<String> {
        let moved = self.rows().iter().position(|record| matches!(record.entry, Entry::Closed { outcome: Outcome::Moved, .. }))?;
        let after = &self.rows()[moved..];
        if let Some(again) = after.iter().find(|record| matches!(record.entry, Entry::Planned { .. })) {
            return Some(format!("a second move was begun: {}", again.entry.words()));
        }
        let done = u64::try_from(after[0].at.wall / 1_000).unwrap_or(0);
        let later = || self.tell.events.iter().filter(|event| event.unix_ms > done);
        let back = later().find(|event| event.kind == "front-door" && event.detail.contains("primary"));
        let changed = later().find(|event| event.by == Cause::Api && event.kind == "records-changed");
        back.or(changed).map(|event| format!("{} of {} after the move: {}", event.kind, event.subject, event.detail))
    }

    fn return_shows(&self) -> Option<String> {
        let said = &self.status["apps"][0]["returned_site"];
        let figure = |name: &str| self.metrics.lines().any(|line| line == name);
        let up = figure("watchover_site_state{app=\"shop\",site=\"primary\",state=\"up\"} 1");
        let away = figure("watchover_active_site{app=\"shop\",site=\"standby\"} 1");
        (said != "primary" || !up || !away)
            .then(|| format!("the primary is back, but status says {said}, and the metrics: primary up {up}, standby active {away}"))
    }

    fn nobody_noticed(&self) -> Option<String> {
        let failed = self.lab.users().failed - self.tell.failed_before;
        (failed > 0).then(|| format!("{failed} requests of users failed, and nothing was broken"))
    }

    fn never_confirmed(&self, most: usize) -> Option<String> {
        let confirmed = self.rows().iter().find(|record| matches!(record.entry, Entry::Confirmed { .. }));
        if let Some(record) = confirmed {
            return Some(format!("an outage was confirmed: {}", record.entry.words()));
        }
        let opened = self.rows().iter().filter(|record| matches!(record.entry, Entry::Opened { .. })).count();
        (opened == 0 || opened > most).then(|| format!("{opened} incidents were opened; at least 1 and at most {most} were expected"))
    }

    fn approved_first(&self) -> Option<String> {
        let approved =
            self.rows().iter().find(|record| matches!(record.entry, Entry::Approved { .. })).map(|record| record.at.wall / 1_000);
        let effect = self.lab.first_effect().map(|at| i64::try_from(self.lab.unix_ms(at)).unwrap_or(i64::MAX));
        match (approved, effect) {
            (Some(approved), Some(effect)) if effect >= approved => None,
            _ => Some(format!("approved at {approved:?}, first changed at {effect:?} (Unix milliseconds)")),
        }
    }

    fn loss_stated(&self) -> Option<String> {
        let stated = self.rows().iter().rev().find_map(|record| match &record.entry {
            Entry::Gated { exposure, .. } => Some(exposure.seconds),
            _ => None,
        });
        let truth = self.lab.standby_lacks(0).map(|loss| loss.seconds);
        match (stated.flatten(), truth) {
            (Some(stated), Some(truth)) if stated >= truth => None,
            (stated, truth) => Some(format!("the gates stated a loss of {stated:?} s, a move would have lost {truth:?} s")),
        }
    }

    /// Calls of a service that were throttled for good, all attempts of the SDK included, by the daemon's own count.
    fn throttled(&self, service: &str) -> f64 {
        let lines = self.metrics.lines().filter(|line| line.starts_with("watchover_aws_calls_total{"));
        let ours = lines.filter(|line| line.contains(&format!("service=\"{service}\"")) && line.contains("outcome=\"throttled\""));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn throttle_met(&self, services: &[&str]) -> Option<String> {
        let spared: Vec<&str> = services.iter().copied().filter(|service| self.throttled(service) == 0.0).collect();
        (!spared.is_empty())
            .then(|| format!("no call of {} was throttled: the scenario did not show what it is there for", spared.join(", ")))
    }

    fn one_event(&self) -> Option<String> {
        let planned: Vec<i64> = self.rows().iter().filter(|r| matches!(r.entry, Entry::Planned { .. })).map(|r| r.at.wall).collect();
        let apps = self.lab.addresses().apps.len();
        if planned.len() != apps {
            return Some(format!("{} moves of {apps} apps were begun", planned.len()));
        }
        let first_done = self.rows().iter().find(|r| matches!(r.entry, Entry::Closed { .. })).map_or(i64::MAX, |r| r.at.wall);
        if let Some(late) = planned.iter().max().filter(|at| **at > first_done) {
            return Some(format!("one app began to move {:.3}s after the first had ended", (late - first_done) as f64 / 1e6));
        }
        let changes: u64 = self.lab.calls().iter().filter(|call| call.operation == "ChangeResourceRecordSets").map(|call| call.count).sum();
        // By the world's count: ours calls a batch refused while Route 53 works on the one before throttled as well,
        // and nobody can know beforehand how long it works.
        let too_fast = self.lab.route53_too_fast();
        (changes > BATCHES || too_fast > 0).then(|| {
            format!("{changes} batches of records for {apps} apps (at most {BATCHES}), and {too_fast} calls above Route 53's pace")
        })
    }
}
