//! Fault rules: what goes wrong with which call, how often and for how long. Pure; the wire asks and obeys.

use serde::{Deserialize, Serialize};

/// What happens to a call that a rule catches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Answer an error at once; nothing is done.
    Answer {
        /// HTTP status.
        status: u16,
        /// AWS's error code.
        code: String,
        /// The message for people.
        message: String,
    },
    /// Do it, but answer late.
    Latency {
        /// How much later, in milliseconds.
        millis: u64,
    },
    /// Do nothing and never answer.
    Hang,
    /// Close the connection without doing anything.
    DropBefore,
    /// Do it, then close the connection without an answer: the caller cannot know.
    DropAfter,
}

/// One rule; `*` in a selector matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Signing name of the service, such as `rds`.
    pub service: String,
    /// Region of the credential scope.
    pub region: String,
    /// Operation, such as `PromoteReadReplica`.
    pub operation: String,
    /// What happens.
    pub fault: Fault,
    /// How many calls it still catches; `None` is no limit.
    pub times: Option<u32>,
    /// Until when it holds, in milliseconds of the world; `None` is for good.
    pub until: Option<u64>,
}

/// All rules, in the order in which they were given; the first that matches counts.
#[derive(Clone, Debug, Default)]
pub struct FaultRules {
    rules: Vec<Rule>,
}

impl FaultRules {
    /// Adds a rule behind the others.
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Forgets every rule.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// The rules that still hold something.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The fault for this call, if any; counts the rule down.
    pub fn next(&mut self, service: &str, region: &str, operation: &str, now: u64) -> Option<Fault> {
        self.rules.retain(|rule| rule.until.is_none_or(|until| now < until) && rule.times != Some(0));
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| fits(&rule.service, service) && fits(&rule.region, region) && fits(&rule.operation, operation))?;
        if let Some(times) = rule.times.as_mut() {
            *times -= 1;
        }
        Some(rule.fault.clone())
    }
}

fn fits(pattern: &str, value: &str) -> bool {
    pattern == "*" || pattern.eq_ignore_ascii_case(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(operation: &str, times: Option<u32>, until: Option<u64>) -> Rule {
        let text = |s: &str| s.to_owned();
        Rule { service: text("rds"), region: text("*"), operation: text(operation), fault: Fault::Hang, times, until }
    }

    #[test]
    fn counts_down_and_leaves_others_alone() {
        let mut rules = FaultRules::default();
        rules.add(rule("PromoteReadReplica", Some(2), None));
        assert_eq!(rules.next("rds", "us-east-1", "DescribeDBInstances", 0), None);
        assert_eq!(rules.next("route53", "us-east-1", "PromoteReadReplica", 0), None);
        assert_eq!(rules.next("rds", "us-east-1", "PromoteReadReplica", 0), Some(Fault::Hang));
        assert_eq!(rules.next("rds", "eu-west-1", "PromoteReadReplica", 0), Some(Fault::Hang));
        assert_eq!(rules.next("rds", "us-east-1", "PromoteReadReplica", 0), None);
    }

    #[test]
    fn ends_by_time() {
        let mut rules = FaultRules::default();
        rules.add(rule("*", None, Some(100)));
        assert!(rules.next("rds", "x", "A", 99).is_some());
        assert!(rules.next("rds", "x", "A", 100).is_none());
        assert!(rules.rules().is_empty());
    }
}
