//! `elb-target-health`: how many targets the load balancer itself calls healthy, group by group.
//!
//! It says what stands behind the load balancer and nothing of the load balancer: look at that over `http` as well.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types::TargetHealthStateEnum as State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::{Aws, Failure, Op, Purpose};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, Verdict};
use crate::ports::{ErrorClass, Permission, Probe, StepError};

/// The kind's entry in the registry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "elb-target-health",
    doc: "Target groups of an Application, Network or Gateway Load Balancer: enough targets healthy in each is up. Where none is, the load balancer fails open and asks them all, so users may still be served: count it beside an http signal.",
    keys: &[
        KeyDoc {
            name: "target_groups",
            form: "list of ARNs",
            default: "",
            doc: "Each of them must have enough; one ARN may stand without a list.",
        },
        KeyDoc {
            name: "min_healthy",
            form: "number of at least 1 | \"50%\"",
            default: "1",
            doc: "Healthy targets that are enough: a number, or a share of those registered (draining ones left out). Higher: down sooner.",
        },
    ],
    aws: true,
    replica: false,
    judge,
    build,
    permissions,
};

/// How many are enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Enough {
    Number(usize),
    Percent(f64),
}

impl Enough {
    fn judge(table: &Table) -> Option<Enough> {
        let form = "write a number of at least 1, or a share above 0 and up to 100 like \"50%\"";
        let Some(value) = table.raw("min_healthy") else { return Some(Enough::Number(1)) };
        let found = match (value.as_u64(), value.as_str().map(str::trim)) {
            (Some(number), _) => usize::try_from(number).ok().map(Enough::Number),
            (_, Some(text)) => match text.strip_suffix('%') {
                Some(share) => share.trim().parse().ok().map(Enough::Percent),
                None => text.parse().ok().map(Enough::Number),
            },
            _ => None,
        };
        let sound = found.filter(|enough| match enough {
            Enough::Number(number) => *number > 0,
            Enough::Percent(share) => *share > 0.0 && *share <= 100.0,
        });
        if sound.is_none() {
            table.fault("min_healthy", format!("{value} is not enough of anything; {form}"));
        }
        sound
    }

    fn reached(self, healthy: usize, of: usize) -> bool {
        match self {
            Enough::Number(number) => healthy >= number,
            // A share of nothing is nothing: an empty group serves nobody.
            Enough::Percent(share) => healthy > 0 && healthy as f64 * 100.0 >= share * of as f64,
        }
    }
}

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Enough::Number(number) => write!(f, "{number}"),
            Enough::Percent(share) => write!(f, "{share}%"),
        }
    }
}

fn judge(table: &Table, place: &SignalPlace) -> Option<Value> {
    let before = table.problems().len();
    let groups = table.strings("target_groups").unwrap_or_default();
    if groups.is_empty() && table.problems().len() == before {
        table
            .fault("target_groups", "is missing; give the ARNs of the site's target groups (arn:aws:elasticloadbalancing:…:targetgroup/…)");
    }
    for arn in &groups {
        match arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", _, "elasticloadbalancing", region, _, resource] if resource.starts_with("targetgroup/") => {
                if region != place.region && !place.region.is_empty() {
                    table.fault("target_groups", format!("{arn:?} is in {region}, but the signal asks in {}; give each region a signal of its own, or set region", place.region));
                }
            }
            _ => table.fault("target_groups", format!("{arn:?} is not the ARN of a target group; it looks like arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/NAME/ID")),
        }
    }
    let enough = Enough::judge(table);
    if table.problems().len() > before {
        return None;
    }
    Some(json!({ "target_groups": groups, "min_healthy": enough? }))
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let bad = |key: &str, cause: serde_json::Error| {
        StepError::new(ErrorClass::Refused, "bad-keys", format!("signal {}: its stored {key} cannot be read: {cause}", spec.name))
    };
    Ok(Arc::new(TargetHealth {
        aws: adapters.aws.clone(),
        account: spec.account.clone(),
        region: spec.region.clone(),
        groups: serde_json::from_value(spec.keys["target_groups"].clone()).map_err(|cause| bad("target_groups", cause))?,
        enough: serde_json::from_value(spec.keys["min_healthy"].clone()).map_err(|cause| bad("min_healthy", cause))?,
    }))
}

fn permissions(spec: &SignalSpec) -> Vec<Permission> {
    // The service authorization reference lists no resource for DescribeTargetHealth.
    vec![Permission { action: "elasticloadbalancing:DescribeTargetHealth".into(), resource: "*".into(), account: spec.account.clone() }]
}

struct TargetHealth {
    aws: Aws,
    account: Option<String>,
    region: String,
    groups: Vec<String>,
    enough: Enough,
}

#[async_trait]
impl Probe for TargetHealth {
    async fn look(&self, timeout: Duration, _now: i64) -> Finding {
        // Side by side, each cut off by itself: what one group proves is not lost because another's call hangs.
        let each = self.groups.iter().map(async |arn| {
            let name = arn.rsplit('/').nth(1).unwrap_or(arn);
            let op = op(&self.region, name);
            match tokio::time::timeout(timeout, self.states(&op, arn)).await.unwrap_or_else(|_| Err(Failure::late(&op, timeout))) {
                Ok(states) => said(name, &states, self.enough),
                // A slip in the ARN must not look like an outage.
                Err(failure) if failure.code == "TargetGroupNotFound" => (Verdict::Unknown(Cause::NotFound), failure.message),
                Err(failure) => (failure.verdict(), failure.message),
            }
        });
        all(futures_util::future::join_all(each).await)
    }
}

fn op(region: &str, group: &str) -> Op {
    let action = "elasticloadbalancing:DescribeTargetHealth";
    Op::new("elbv2", "DescribeTargetHealth", action, region, format!("target group {group}"))
}

impl TargetHealth {
    async fn states(&self, op: &Op, arn: &str) -> Result<Vec<State>, Failure> {
        let client = self.aws.elbv2(self.account.as_deref(), &self.region, Purpose::Look).await?;
        let answer = self.aws.call(op, client.describe_target_health().target_group_arn(arn).send()).await?;
        let state = |one: &aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription| one.target_health()?.state().cloned();
        Ok(answer.target_health_descriptions().iter().map(|one| state(one).unwrap_or_else(|| State::from("none"))).collect())
    }
}

/// One group's verdict.
///
/// `draining` targets are on their way out and count nowhere. `unused` ones (their group is in no listener, their zone is
/// off, or the instance is stopped) get no requests and count as not healthy. `initial` may be healthy in a moment,
/// `unavailable` is not looked at: while these could still make up what lacks, nobody can tell.
fn said(name: &str, states: &[State], enough: Enough) -> (Verdict, String) {
    let (mut healthy, mut open, mut of) = (0, 0, 0);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for state in states {
        *counts.entry(state.as_str()).or_default() += 1;
        let (good, perhaps, registered) = match state {
            State::Healthy => (1, 0, 1),
            State::Draining => (0, 0, 0),
            State::Unhealthy | State::UnhealthyDraining | State::Unused => (0, 0, 1),
            // `initial`, `unavailable`, and what does not exist today.
            _ => (0, 1, 1),
        };
        (healthy, open, of) = (healthy + good, open + perhaps, of + registered);
    }
    let shown = counts.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
    let shown = if shown.is_empty() { "no targets".to_owned() } else { shown };
    if enough.reached(healthy, of) {
        return (Verdict::Up, format!("{name}: {shown}"));
    }
    let words = format!("{name}: {shown}; {enough} healthy wanted");
    if enough.reached(healthy + open, of) {
        return (Verdict::Unknown(Cause::Settling), words);
    }
    let fails_open = if healthy == 0 && of > 0 { "; the load balancer fails open and asks all of them" } else { "" };
    (Verdict::Down(Cause::FewTargets), format!("{words}{fails_open}"))
}

/// All groups together: down beats unknown, as a proven lack is not hidden by a call that failed.
fn all(groups: Vec<(Verdict, String)>) -> Finding {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Down(_) => 2,
        Verdict::Unknown(_) => 1,
        Verdict::Up => 0,
    };
    let worst = groups.iter().map(|(verdict, _)| *verdict).max_by_key(rank).unwrap_or(Verdict::Unknown(Cause::NoData));
    Finding::new(worst, groups.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::judge::Problems;

    fn states(words: &str) -> Vec<State> {
        words.split_whitespace().map(State::from).collect()
    }

    #[test]
    fn states_add_up_to_a_verdict() {
        let (one, half) = (Enough::Number(1), Enough::Percent(50.0));
        let down = Verdict::Down(Cause::FewTargets);
        let open = Verdict::Unknown(Cause::Settling);
        for (found, enough, verdict) in [
            ("healthy unhealthy unhealthy", one, Verdict::Up),
            ("healthy unhealthy unhealthy", half, down),
            ("healthy unhealthy", half, Verdict::Up),
            ("healthy draining draining draining", half, Verdict::Up),
            ("healthy unused unused", half, down),
            ("unhealthy unhealthy.draining unused", one, down),
            ("", one, down),
            ("", half, down),
            ("draining", half, down),
            ("initial initial", one, open),
            ("initial unhealthy", Enough::Number(2), down),
            ("unavailable unhealthy", half, open),
            ("healthy quarantined", Enough::Number(2), open),
            ("healthy healthy", Enough::Number(3), down),
        ] {
            assert_eq!(said("shop", &states(found), enough).0, verdict, "{found:?} {enough}");
        }
        let words = said("shop", &states("unhealthy unhealthy"), one).1;
        assert!(words.contains("2 unhealthy") && words.contains("fails open"), "{words}");
        assert!(!said("shop", &[], one).1.contains("fails open"));
    }

    #[test]
    fn a_look_is_counted_under_the_name_that_steps_give_the_service() {
        assert_eq!((op("eu-west-1", "shop").service, op("eu-west-1", "shop").operation), ("elbv2", "DescribeTargetHealth"));
    }

    #[test]
    fn the_worst_group_speaks_and_a_proven_lack_outweighs_a_failed_call() {
        let group = |verdict| (verdict, "x".to_owned());
        let (up, blind, down) = (group(Verdict::Up), group(Verdict::Unknown(Cause::Throttled)), group(Verdict::Down(Cause::FewTargets)));
        assert_eq!(all(vec![up.clone(), up.clone()]).verdict, Verdict::Up);
        assert_eq!(all(vec![up.clone(), blind.clone()]).verdict, blind.0);
        assert_eq!(all(vec![down.clone(), blind, up]).verdict, down.0);
    }

    #[test]
    fn every_problem_of_the_keys_is_named() {
        let arn = |region: &str| format!("arn:aws:elasticloadbalancing:{region}:123456789012:targetgroup/shop/0123");
        let judged = |keys: Value| {
            let problems = Problems::default();
            let Value::Object(map) = keys else { unreachable!() };
            let place = SignalPlace { region: "eu-west-1".into(), ..SignalPlace::default() };
            let found = judge(&Table::new("", map, &problems), &place);
            (found, problems.take().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        assert_eq!(judged(json!({"target_groups": arn("eu-west-1"), "min_healthy": "75%"})).1, "");
        assert_eq!(judged(json!({"target_groups": [arn("eu-west-1")]})).0.unwrap()["min_healthy"], json!({"number": 1}));
        for (keys, part) in [
            (json!({}), "target_groups: is missing"),
            (json!({"target_groups": ["shop"]}), "is not the ARN of a target group"),
            (json!({"target_groups": [arn("us-east-1")]}), "is in us-east-1, but the signal asks in eu-west-1"),
            (json!({"target_groups": [arn("eu-west-1")], "min_healthy": 0}), "min_healthy: 0 is not enough"),
            (json!({"target_groups": [arn("eu-west-1")], "min_healthy": "0%"}), "min_healthy:"),
            (json!({"target_groups": [arn("eu-west-1")], "min_healthy": "120%"}), "min_healthy:"),
            (json!({"target_groups": [arn("eu-west-1")], "min_healthy": "most"}), "min_healthy:"),
        ] {
            let (found, said) = judged(keys);
            assert!(found.is_none() && said.contains(part), "{part}: {said}");
        }
    }
}
