//! `alarm`: the state of a CloudWatch alarm, metric or composite: a judgement that somebody else has already debounced.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudwatch::types::{AlarmType, StateValue};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::{Aws, Failure, Op, Purpose};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, Verdict, words};
use crate::ports::{ErrorClass, Permission, Probe, StepError};

/// CloudWatch's own limit on an alarm's name.
const LONGEST_NAME: usize = 255;

/// The kind's entry in the registry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "alarm",
    doc: "A CloudWatch alarm, metric or composite: OK is up, ALARM is down. Its own periods come before ours: an alarm over five minutes is five minutes late.",
    keys: &[
        KeyDoc { name: "alarm", form: "string", default: "", doc: "The alarm's name (not its ARN), in the signal's region and account." },
        KeyDoc {
            name: "insufficient",
            form: "\"unknown\" | \"up\" | \"down\"",
            default: "\"unknown\"",
            doc: "What INSUFFICIENT_DATA means. \"down\" only where the data's absence proves the fault, such as a heartbeat.",
        },
    ],
    aws: true,
    replica: false,
    judge,
    build,
    permissions,
};

words! {
    /// What `INSUFFICIENT_DATA` means.
    Insufficient { Unknown = "unknown", Up = "up", Down = "down" }
}

fn judge(table: &Table, _: &SignalPlace) -> Option<Value> {
    let before = table.problems().len();
    let alarm = table.need_string("alarm", "the alarm's name");
    if let Some(name) = &alarm {
        if name.starts_with("arn:") {
            table.fault("alarm", "is an ARN; give the alarm's name, and its region and account as keys of their own");
        } else if name.chars().count() > LONGEST_NAME {
            table.fault("alarm", format!("is longer than {LONGEST_NAME} characters, which no alarm's name is"));
        }
    }
    let insufficient = table.word("insufficient", Insufficient::ALL, Insufficient::as_str, Insufficient::Unknown);
    if table.problems().len() > before {
        return None;
    }
    Some(json!({ "alarm": alarm?, "insufficient": insufficient }))
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let bad = |key: &str| StepError::new(ErrorClass::Refused, "bad-keys", format!("signal {}: its stored keys lack {key}", spec.name));
    Ok(Arc::new(Alarm {
        aws: adapters.aws.clone(),
        account: spec.account.clone(),
        region: spec.region.clone(),
        name: spec.keys["alarm"].as_str().ok_or_else(|| bad("alarm"))?.to_owned(),
        insufficient: spec.keys["insufficient"].as_str().and_then(Insufficient::parse).ok_or_else(|| bad("insufficient"))?,
    }))
}

fn permissions(spec: &SignalSpec) -> Vec<Permission> {
    // Composite alarms are only told to those whose permission is not narrowed (CloudWatch API reference, DescribeAlarms).
    vec![Permission { action: "cloudwatch:DescribeAlarms".into(), resource: "*".into(), account: spec.account.clone() }]
}

struct Alarm {
    aws: Aws,
    account: Option<String>,
    region: String,
    name: String,
    insufficient: Insufficient,
}

/// An alarm's state and the reason that CloudWatch gives for it.
type State = (StateValue, String);

#[async_trait]
impl Probe for Alarm {
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        let op = Op::new("cloudwatch", "DescribeAlarms", "cloudwatch:DescribeAlarms", &self.region, format!("alarm {}", self.name));
        match tokio::time::timeout(timeout, self.state(&op)).await.unwrap_or_else(|_| Err(Failure::late(&op, timeout))) {
            Ok(state) => said(&self.name, &self.region, state, self.insufficient),
            Err(failure) => Finding::new(failure.verdict(), failure.message),
        }
    }
}

impl Alarm {
    async fn state(&self, op: &Op) -> Result<Option<State>, Failure> {
        let client = self.aws.cloudwatch(self.account.as_deref(), &self.region, Purpose::Look).await?;
        // Without the types, composite alarms are left out.
        let call =
            client.describe_alarms().alarm_names(&self.name).alarm_types(AlarmType::MetricAlarm).alarm_types(AlarmType::CompositeAlarm);
        let answer = self.aws.call(op, call.send()).await?;
        let metric = answer.metric_alarms().iter().map(|one| (one.alarm_name(), one.state_value(), one.state_reason()));
        let composite = answer.composite_alarms().iter().map(|one| (one.alarm_name(), one.state_value(), one.state_reason()));
        // An emulator that ignores the filter must not lend us another alarm's state.
        let found = metric.chain(composite).find(|(name, ..)| *name == Some(&self.name));
        Ok(found.and_then(|(_, state, reason)| Some((state?.clone(), reason.unwrap_or_default().to_owned()))))
    }
}

fn said(name: &str, region: &str, state: Option<State>, insufficient: Insufficient) -> Finding {
    let Some((state, reason)) = state else {
        // A slip in the name must not look like an outage.
        return Finding::new(
            Verdict::Unknown(Cause::NotFound),
            format!("there is no alarm {name} in {region}; look at the name, the region and the account"),
        );
    };
    let verdict = match (&state, insufficient) {
        (StateValue::Ok, _) | (StateValue::InsufficientData, Insufficient::Up) => Verdict::Up,
        (StateValue::Alarm, _) => Verdict::Down(Cause::Alarm),
        (StateValue::InsufficientData, Insufficient::Down) => Verdict::Down(Cause::Insufficient),
        (StateValue::InsufficientData, Insufficient::Unknown) => Verdict::Unknown(Cause::Insufficient),
        _ => Verdict::Unknown(Cause::Unclassified),
    };
    let between = if reason.is_empty() { "" } else { ": " };
    Finding::new(verdict, format!("alarm {name} is {}{between}{}", state.as_str(), reason.chars().take(160).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::judge::Problems;

    #[test]
    fn every_state_has_its_verdict() {
        let verdict = |state: StateValue, insufficient| said("a", "r", Some((state, "why".into())), insufficient).verdict;
        use Insufficient::{Down, Unknown, Up};
        for policy in [Unknown, Up, Down] {
            assert_eq!(verdict(StateValue::Ok, policy), Verdict::Up);
            assert_eq!(verdict(StateValue::Alarm, policy), Verdict::Down(Cause::Alarm));
            assert_eq!(verdict(StateValue::from("NEW"), policy), Verdict::Unknown(Cause::Unclassified));
            assert_eq!(said("a", "r", None, policy).verdict, Verdict::Unknown(Cause::NotFound));
        }
        assert_eq!(verdict(StateValue::InsufficientData, Unknown), Verdict::Unknown(Cause::Insufficient));
        assert_eq!(verdict(StateValue::InsufficientData, Up), Verdict::Up);
        assert_eq!(verdict(StateValue::InsufficientData, Down), Verdict::Down(Cause::Insufficient));
    }

    #[test]
    fn a_name_is_asked_for_and_nothing_else() {
        for (keys, part) in [
            (json!({}), "alarm: is missing"),
            (json!({"alarm": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"}), "alarm: is an ARN"),
            (json!({"alarm": "x".repeat(256)}), "alarm: is longer"),
            (json!({"alarm": "a", "insufficient": "ok"}), "insufficient: \"ok\" is not one of"),
        ] {
            let problems = Problems::default();
            let Value::Object(map) = keys else { unreachable!() };
            assert!(judge(&Table::new("", map, &problems), &SignalPlace::default()).is_none());
            let said: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
            assert!(said.len() == 1 && said[0].contains(part), "{part}: {said:?}");
        }
    }
}
