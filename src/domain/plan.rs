//! A plan: the complete, ordered, printable list of steps of one direction.
//!
//! It is resolved once, stored when a move starts and never changed after: `watchover plan` prints the very
//! value that the executor runs, and a restart or a reload runs what was stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{Direction, SiteName, words};

words! {
    /// What a step changes; it decides what must have happened before.
    Class { Data = "data", Capacity = "capacity", Traffic = "traffic", Other = "other" }
}

words! {
    /// Whether a step can be taken back.
    Reversibility { Reversible = "reversible", ForwardOnly = "forward-only", NeedsPerson = "needs-person" }
}

words! {
    /// What a crash between asking and reading back means for a step.
    Repeat {
        /// `inspect` tells whether it is done: after a crash we look, and never ask twice.
        Inspectable = "inspectable",
        /// It cannot be inspected, but bears repetition under a stable `WATCHOVER_STEP_ID`.
        AtLeastOnce = "at-least-once",
    }
}

words! {
    /// What the failure of a step means for the move.
    OnFailure { Halt = "halt", Continue = "continue" }
}

words! {
    /// Moves in which alone a step takes part.
    Only { Graceful = "graceful", Forced = "forced" }
}

/// One step, resolved: nothing about it is left to choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Unique within its plan.
    pub name: String,
    /// The kind, as the registry knows it.
    pub kind: String,
    /// What it changes.
    pub class: Class,
    /// Whether it can be taken back.
    pub reversibility: Reversibility,
    /// What a crash in its middle means.
    pub repeat: Repeat,
    /// Names of the steps that must be done first.
    pub after: Vec<String>,
    /// How long the step may take from its start to its verification.
    #[serde(with = "seconds", rename = "deadline_seconds")]
    pub deadline: Duration,
    /// How often `apply` may be called.
    pub attempts: u32,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// In which moves it takes part; `None`: in every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
    /// Account name of the config; `None`: our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The region that its calls go to.
    pub region: String,
    /// The kind's own keys, complete with their defaults.
    pub keys: Value,
}

/// How long instances that are well may take to leave: their load balancer lets go of them after 300 s by default, and
/// what ends them in order takes its minutes besides
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html>).
pub const IN_ORDER: Duration = Duration::from_secs(600);

impl PlannedStep {
    /// True if it is a step of such a move: some are only for those that were planned, some only for the others.
    pub fn takes_part(&self, graceful: bool) -> bool {
        match self.only {
            None => true,
            Some(Only::Graceful) => graceful,
            Some(Only::Forced) => !graceful,
        }
    }

    /// True of the kinds that hold the old writers back: their names begin so.
    pub fn is_fence(&self) -> bool {
        self.kind.starts_with("fence")
    }

    /// How long its undoing may take: the time of the step itself is long used up when a move is called off.
    pub fn undo_time(&self) -> Duration {
        self.deadline.max(Duration::from_secs(30))
    }

    /// True if nothing of ours takes it back.
    pub fn is_final(&self) -> bool {
        self.reversibility != Reversibility::Reversible
    }
}

/// All steps of one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Which way.
    pub direction: Direction,
    /// In the order of the file; `after` says what really waits for what.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// The step of that name.
    pub fn step(&self, name: &str) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The site the plan moves to.
    pub fn target(&self) -> SiteName {
        self.direction.target()
    }

    /// The plan without the steps that sit this kind of move out. What waited for such a step waits for what it waited for.
    ///
    /// In a planned move off a well site the writers have to be gone before the data moves. A fence there has [`IN_ORDER`]
    /// at least, and its failure ends the move while it can still be put back.
    pub fn for_move(&self, graceful: bool) -> Plan {
        let mut steps = self.steps.clone();
        while let Some(at) = steps.iter().position(|step| !step.takes_part(graceful)) {
            let gone = steps.remove(at);
            for step in &mut steps {
                if let Some(place) = step.after.iter().position(|name| *name == gone.name) {
                    step.after.remove(place);
                    for name in &gone.after {
                        if !step.after.contains(name) {
                            step.after.push(name.clone());
                        }
                    }
                }
            }
        }
        for step in steps.iter_mut().filter(|step| graceful && step.is_fence()) {
            step.deadline = step.deadline.max(IN_ORDER);
            step.on_failure = OnFailure::Halt;
        }
        Plan { direction: self.direction, steps }
    }

    /// Why an app without steps this way, or with none for such a move, cannot go it; else `None`.
    pub fn leads_nowhere(&self, app: &str, graceful: bool) -> Option<String> {
        if self.steps.iter().any(|step| step.takes_part(graceful)) {
            return None;
        }
        let (to, list) = (self.direction, self.list());
        let (this, other) = if graceful { ("graceful", "forced") } else { ("forced", "graceful") };
        Some(if self.steps.is_empty() {
            format!("no steps lead {to}: the config has no [[app.{list}]] for {app}")
        } else {
            format!("no steps lead {to} in a {this} move: every [[app.{list}]] of {app} is only for {other} moves")
        })
    }

    /// The key of the config that lists its steps.
    pub fn list(&self) -> &'static str {
        match self.direction {
            Direction::ToStandby => "failover",
            Direction::ToPrimary => "failback",
        }
    }

    /// Every fault of the order: unknown names, circles, traffic that could overtake data. `(step, what)`.
    pub fn order_faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for step in &self.steps {
            for name in &step.after {
                if name == &step.name {
                    faults.push((step.name.clone(), format!("waits for itself (`after` names {name:?})")));
                } else if self.step(name).is_none() {
                    let known: Vec<&str> = self.steps.iter().map(|s| s.name.as_str()).collect();
                    faults.push((step.name.clone(), format!("`after` names {name:?}, but the steps here are {}", known.join(", "))));
                }
            }
        }
        let circle = self.circle().unwrap_or_default();
        if let Some(first) = circle.first() {
            faults.push((first.clone(), format!("`after` runs in a circle: {}", circle.join(" -> "))));
        }
        // Of a step within a circle, or behind a name that is none, nobody can say what it comes after.
        let is_unsettled = |name: &str| self.step(name).is_some_and(|step| step.after.iter().any(|name| self.step(name).is_none()));
        for traffic in self.steps.iter().filter(|step| step.class == Class::Traffic && !circle.contains(&step.name)) {
            let before = self.all_before(&traffic.name);
            if is_unsettled(&traffic.name) || before.iter().any(|name| is_unsettled(name)) {
                continue;
            }
            for data in self.steps.iter().filter(|step| step.class == Class::Data) {
                let together = match (data.only, traffic.only) {
                    (Some(a), Some(b)) => a == b,
                    _ => true,
                };
                if together && !before.contains(&data.name.as_str()) {
                    faults.push((
                        traffic.name.clone(),
                        format!("moves traffic before the data: add {:?} to its `after`, so that users never reach a database that cannot take their writes", data.name),
                    ));
                }
            }
        }
        faults
    }

    /// Names of all steps that `name` waits for, directly or not.
    fn all_before(&self, name: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let mut open: Vec<&str> = vec![name];
        while let Some(step) = open.pop().and_then(|name| self.step(name)) {
            for before in step.after.iter().map(String::as_str) {
                if !found.contains(&before) && self.step(before).is_some() {
                    found.push(before);
                    open.push(before);
                }
            }
        }
        found
    }

    /// One circle of `after`, if there is any, its first name repeated at the end.
    fn circle(&self) -> Option<Vec<String>> {
        fn walk<'a>(plan: &'a Plan, name: &'a str, path: &mut Vec<&'a str>, clean: &mut Vec<&'a str>) -> Option<Vec<String>> {
            if clean.contains(&name) {
                return None;
            }
            if let Some(start) = path.iter().position(|seen| *seen == name) {
                let mut circle: Vec<String> = path[start..].iter().map(|s| (*s).to_owned()).collect();
                circle.push(name.to_owned());
                return Some(circle);
            }
            path.push(name);
            if let Some(step) = plan.step(name) {
                for before in step.after.iter().filter(|before| *before != name) {
                    if let Some(circle) = walk(plan, before, path, clean) {
                        return Some(circle);
                    }
                }
            }
            path.pop();
            clean.push(name);
            None
        }
        let mut clean = Vec::new();
        self.steps.iter().find_map(|step| walk(self, &step.name, &mut Vec::new(), &mut clean))
    }
}

/// Durations as seconds: the base unit, in JSON as in metrics.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Seconds with fraction.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    /// Refuses negative and non-finite figures.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::step;

    fn plan(steps: Vec<PlannedStep>) -> Plan {
        Plan { direction: Direction::ToStandby, steps }
    }

    fn faulty(steps: Vec<PlannedStep>) -> Vec<(String, String)> {
        plan(steps).order_faults()
    }

    #[test]
    fn a_plan_without_steps_names_the_key_that_would_hold_them() {
        let back = Plan { direction: Direction::ToPrimary, steps: Vec::new() };
        assert_eq!(back.leads_nowhere("shop", false).unwrap(), "no steps lead to-primary: the config has no [[app.failback]] for shop");
        assert_eq!(
            plan(Vec::new()).leads_nowhere("shop", true).unwrap(),
            "no steps lead to-standby: the config has no [[app.failover]] for shop"
        );
    }

    #[test]
    fn traffic_behind_a_circle_comes_after_all_of_it() {
        let faults = faulty(vec![
            step("a", Class::Data, None, &["b"]),
            step("b", Class::Other, None, &["gone", "a"]),
            step("traffic", Class::Traffic, None, &["b"]),
        ]);
        let of: Vec<&str> = faults.iter().map(|(step, _)| step.as_str()).collect();
        assert_eq!(of, ["b", "a"], "an unknown name and the circle, and no traffic before data: {faults:?}");
    }

    #[test]
    fn a_sound_order_has_no_faults() {
        let steps = vec![
            step("fence", Class::Other, None, &[]),
            step("promote", Class::Data, None, &["fence"]),
            step("capacity", Class::Capacity, None, &[]),
            step("settle", Class::Other, None, &["promote"]),
            // Behind the data by way of another step.
            step("traffic", Class::Traffic, None, &["settle", "capacity"]),
        ];
        assert_eq!(faulty(steps), []);
    }

    #[test]
    fn an_unknown_name_is_named_with_those_that_exist() {
        let found = faulty(vec![step("promote", Class::Data, None, &["fnce"]), step("fence", Class::Other, None, &[])]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "promote");
        assert!(found[0].1.contains("\"fnce\"") && found[0].1.contains("promote, fence"), "{}", found[0].1);
    }

    #[test]
    fn a_step_cannot_wait_for_itself() {
        let found = faulty(vec![step("fence", Class::Other, None, &["fence"])]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.contains("waits for itself"));
    }

    #[test]
    fn a_circle_is_shown_whole() {
        let found = faulty(vec![
            step("start", Class::Other, None, &[]),
            step("a", Class::Other, None, &["start", "c"]),
            step("b", Class::Other, None, &["a"]),
            step("c", Class::Other, None, &["b"]),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.ends_with("a -> c -> b -> a"), "{}", found[0].1);
    }

    #[test]
    fn traffic_never_overtakes_data() {
        let found = faulty(vec![step("promote", Class::Data, None, &[]), step("traffic", Class::Traffic, None, &[])]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "traffic");
        assert!(found[0].1.contains("before the data") && found[0].1.contains("\"promote\""));
    }

    #[test]
    fn traffic_behind_a_name_that_is_none_is_not_compared_and_other_traffic_is() {
        let behind = |after: &[&str]| {
            let steps = vec![
                step("promote", Class::Data, None, &["nobody"]),
                step("between", Class::Other, None, &["nobody"]),
                step("traffic", Class::Traffic, None, after),
            ];
            faulty(steps).into_iter().filter(|(step, what)| step == "traffic" && what.contains("before the data")).count()
        };
        assert_eq!([behind(&[]), behind(&["between"]), behind(&["nobody"])], [1, 0, 0]);
    }

    #[test]
    fn data_and_traffic_that_never_meet_need_no_order() {
        let apart = [Some(Only::Graceful), Some(Only::Forced)];
        let found = faulty(vec![step("switch", Class::Data, apart[0], &[]), step("traffic", Class::Traffic, apart[1], &[])]);
        assert_eq!(found, []);
        let found = faulty(vec![step("switch", Class::Data, apart[0], &[]), step("traffic", Class::Traffic, None, &[])]);
        assert_eq!(found.len(), 1, "in a graceful move they meet");
    }

    #[test]
    fn who_waited_for_a_step_that_sits_out_waits_for_what_it_waited_for() {
        let plan = plan(vec![
            step("fence", Class::Other, None, &[]),
            step("drain", Class::Other, Some(Only::Graceful), &["fence"]),
            step("settle", Class::Other, Some(Only::Graceful), &["drain", "fence"]),
            step("promote", Class::Data, None, &["settle"]),
            step("force", Class::Other, Some(Only::Forced), &["promote"]),
            step("traffic", Class::Traffic, None, &["promote", "force"]),
        ]);
        let shape = |graceful: bool| -> Vec<(String, Vec<String>)> {
            plan.for_move(graceful).steps.into_iter().map(|step| (step.name, step.after)).collect()
        };
        let row = |name: &str, after: &[&str]| (name.to_owned(), after.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let forced = [row("fence", &[]), row("promote", &["fence"]), row("force", &["promote"]), row("traffic", &["promote", "force"])];
        assert_eq!(shape(false), forced);
        let graceful = [
            row("fence", &[]),
            row("drain", &["fence"]),
            row("settle", &["drain", "fence"]),
            row("promote", &["settle"]),
            row("traffic", &["promote"]),
        ];
        assert_eq!(shape(true), graceful);
        assert_eq!(plan.for_move(false).order_faults(), []);
        assert_eq!(plan.for_move(true).order_faults(), []);
    }
}
