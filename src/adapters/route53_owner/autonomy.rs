//! Whether Route 53 moves traffic by itself: the rules, on records and checks as they were read. No I/O.
//!
//! Sources: "How Amazon Route 53 chooses records when health checking is configured" and the API reference of
//! `ResourceRecordSet` (`EvaluateTargetHealth`, `HealthCheckId`, `Weight`): a record without a check and without
//! `EvaluateTargetHealth` always counts as healthy; of a failover pair PRIMARY answers while it is healthy, and again when
//! both are not; a weight of 0 is not "never": such records answer when all others are unhealthy; where nothing is healthy,
//! everything counts as healthy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::record::{Record, canonical};

/// Types by which users are sent somewhere.
pub(super) const TYPES: &[&str] = &["A", "AAAA", "CNAME", "HTTPS", "SVCB"];

/// A health check, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// `HTTP`, `CALCULATED`, …
    pub kind: String,
    /// Healthy means unhealthy.
    pub inverted: bool,
    /// Looks at nothing, and says the same all the time.
    pub disabled: bool,
    /// The host name or address that it asks; empty where it asks none.
    pub host: String,
    /// The path that it asks for.
    pub path: String,
    /// How long it takes at most until it has turned and the zone's servers know: its interval times its threshold, and one
    /// interval more.
    pub takes: Duration,
}

/// What is known of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was read.
    Is(Check),
    /// There is none of that id.
    Missing,
    /// We may not read it.
    Hidden,
}

/// The health checks of the records, by their ids.
pub type Checks = BTreeMap<String, Known>;

/// The switch that is ours to flip: a check that turns unhealthy when an object appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The check's id.
    pub check: String,
    /// The bucket that it looks into.
    pub bucket: String,
    /// The object that it looks for.
    pub key: String,
}

impl Switch {
    /// Why the check of that id is not the switch; `None`: it is.
    fn fault(&self, check: &Check) -> Option<String> {
        let path = check.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let whole = format!("{}/{}", self.bucket, self.key);
        let host = check.host.to_ascii_lowercase();
        let by_host = host.starts_with(&format!("{}.", self.bucket)) && path == self.key;
        let asks_s3 = host.contains(".amazonaws.") && (by_host || path == whole);
        if !check.kind.starts_with("HTTP") || !asks_s3 {
            return Some(format!("asks {} instead of for the switch's object {whole}", target(check)));
        }
        (!check.inverted).then(|| "is not inverted: it takes the record away while the switch's object is absent".to_owned())
    }
}

/// Why a record can go out of service.
enum Cause {
    /// Our own switch.
    Ours,
    /// Without us; with what to do about it.
    Others(String),
}

/// What can move the traffic of one name without us, in words that name the record, why, and what to do.
///
/// `records` are all records of the name; other types than those that send users somewhere say nothing.
pub fn judge(records: &[Record], checks: &Checks, switch: Option<&Switch>) -> Vec<String> {
    let kinds: BTreeSet<&str> = records.iter().map(|record| record.kind.as_str()).filter(|kind| TYPES.contains(kind)).collect();
    kinds
        .into_iter()
        .flat_map(|kind| {
            let set: Vec<&Record> = records.iter().filter(|record| record.kind == kind).collect();
            judge_set(&set, checks, switch)
        })
        .collect()
}

/// The records of one name and type.
fn judge_set(set: &[&Record], checks: &Checks, switch: Option<&Switch>) -> Vec<String> {
    // A record alone answers, well or not.
    if set.len() < 2 {
        return Vec::new();
    }
    let causes: Vec<Vec<Cause>> = set.iter().map(|record| causes(record, checks, switch)).collect();
    let ours = |place: usize| causes[place].iter().any(|cause| matches!(cause, Cause::Ours));
    let all = || (0..set.len()).collect::<Vec<usize>>();
    let (first, rest): (Vec<usize>, Vec<usize>) = if set.iter().any(|record| record.failover.is_some()) {
        all().into_iter().partition(|place| set[*place].failover.as_deref() == Some("PRIMARY"))
    } else if set.iter().any(|record| record.weight.is_some_and(|weight| weight > 0)) {
        all().into_iter().partition(|place| set[*place].weight.is_some_and(|weight| weight > 0))
    } else {
        // Latency, geography, multivalue, and weights that are all 0: whatever is unhealthy leaves its share to the others.
        (all(), Vec::new())
    };
    let named = |places: &[usize]| {
        let names: Vec<&str> = places.iter().map(|place| set[*place].set_identifier.as_deref().unwrap_or("?")).take(4).collect();
        let more = if places.len() > names.len() { " and others" } else { "" };
        format!("{}{more}", names.join(", "))
    };
    let mut found = Vec::new();
    let mut tell = |place: usize, then: &str| {
        let others = causes[place].iter().filter_map(|cause| match cause {
            Cause::Others(words) => Some(words),
            Cause::Ours => None,
        });
        found.extend(others.map(|words| format!("record {}: {}", set[place].pick(), words.replace("{then}", then))));
    };
    for place in &first {
        let others: Vec<usize> =
            if rest.is_empty() || first.len() > 1 { all().into_iter().filter(|other| other != place).collect() } else { rest.clone() };
        tell(*place, &format!("then [{}] answers instead", named(&others)));
    }
    // What stands by can send users back only once our switch has sent them there; nothing else takes the first away.
    if first.iter().any(|place| ours(*place)) {
        for place in &rest {
            tell(*place, &format!("with the switch thrown, [{}] then answers again", named(&first)));
        }
    }
    found
}

/// What can take one record out of service.
fn causes(record: &Record, checks: &Checks, switch: Option<&Switch>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(id) = record.health_check_id.as_deref().filter(|id| !id.is_empty()) {
        causes.extend(check_cause(id, checks.get(id).unwrap_or(&Known::Hidden), switch));
    }
    if let Some(alias) = record.alias_target.as_ref().filter(|alias| alias.evaluate_target_health) {
        causes.push(Cause::Others(format!(
            "EvaluateTargetHealth = true lets the health of {} take it out of service, and {{then}}, without watchover; set it to false, {OR_SAY}",
            canonical(&alias.dns_name)
        )));
    }
    causes
}

/// The other way out, at the end of every finding.
const OR_SAY: &str = "or say traffic_is_autonomous = true";

fn check_cause(id: &str, known: &Known, switch: Option<&Switch>) -> Option<Cause> {
    let mine = switch.filter(|switch| switch.check == id);
    let others = |words: String| {
        Some(Cause::Others(format!(
            "its health check {id} {words} can take it out of service, and {{then}}, without watchover; take the check off the record, {OR_SAY}"
        )))
    };
    match (known, mine) {
        (Known::Is(check), Some(switch)) => match switch.fault(check) {
            None => Some(Cause::Ours),
            Some(fault) => Some(Cause::Others(format!(
                "its health check {id} is named as the switch, but {fault}; with it {{then}}, without watchover; name the inverted check on the object, {OR_SAY}"
            ))),
        },
        // It never looks, so it never turns.
        (Known::Is(check), None) if check.disabled => None,
        // Somebody flips it by hand, as somebody may edit the record.
        (Known::Is(check), None) if check.kind == "RECOVERY_CONTROL" => None,
        (Known::Is(check), None) => others(format!("({})", target(check))),
        (Known::Missing, _) => others("(which does not exist any more)".to_owned()),
        (Known::Hidden, _) => others("(which we may not read)".to_owned()),
    }
}

/// What a check looks at.
fn target(check: &Check) -> String {
    let Check { kind, inverted, host, path, .. } = check;
    let not = if *inverted { "inverted " } else { "" };
    if host.is_empty() { format!("{not}{kind}") } else { format!("{not}{kind} at {host}{path}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn switch() -> Switch {
        Switch { check: "hc-switch".into(), bucket: "b".into(), key: "shop/on".into() }
    }

    fn checks() -> Checks {
        let check = |kind: &str, host: &str, path: &str, inverted: bool| {
            Known::Is(Check { kind: kind.into(), inverted, host: host.into(), path: path.into(), ..Check::default() })
        };
        Checks::from([
            ("hc-switch".into(), check("HTTP", "b.s3.eu-west-1.amazonaws.com", "/shop/on", true)),
            ("hc-upright".into(), check("HTTPS", "s3.eu-west-1.amazonaws.com", "/b/shop/on", false)),
            ("hc-end".into(), check("HTTPS", "192.0.2.7", "/healthz", false)),
            ("hc-sum".into(), check("CALCULATED", "", "", false)),
            ("hc-alarm".into(), check("CLOUDWATCH_METRIC", "", "", true)),
            ("hc-hand".into(), check("RECOVERY_CONTROL", "", "", false)),
            ("hc-off".into(), Known::Is(Check { kind: "HTTP".into(), disabled: true, ..Check::default() })),
            ("hc-gone".into(), Known::Missing),
        ])
    }

    /// A record of `set` with what tells it from the others, its check (`""`: none), and whether it follows its target.
    fn record(id: &str, policy: &Value, check: &str, evaluate: bool) -> Record {
        let mut value = json!({"Name": "shop.example.com.", "Type": "A", "SetIdentifier": id,
            "AliasTarget": {"HostedZoneId": "Z1", "DNSName": format!("{id}.example."), "EvaluateTargetHealth": evaluate}});
        value.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        if !check.is_empty() {
            value["HealthCheckId"] = json!(check);
        }
        serde_json::from_value(value).unwrap()
    }

    fn pair(kinds: [Value; 2], first: (&str, bool), second: (&str, bool)) -> [Record; 2] {
        [record("p", &kinds[0], first.0, first.1), record("s", &kinds[1], second.0, second.1)]
    }

    /// The records that are told of, in the order told.
    fn told(set: &[Record]) -> Vec<String> {
        judge(set, &checks(), Some(&switch()))
            .iter()
            .map(|words| words.split_once('[').unwrap().1.split_once(']').unwrap().0.to_owned())
            .collect()
    }

    #[test]
    fn the_rules() {
        let roles = || [json!({"Failover": "PRIMARY"}), json!({"Failover": "SECONDARY"})];
        let weights = |a: i64, b: i64| [json!({"Weight": a}), json!({"Weight": b})];
        let regions = || [json!({"Region": "ap-south-1"}), json!({"Region": "us-east-1"})];
        let multi = || [json!({"MultiValueAnswer": true}), json!({"MultiValueAnswer": true})];
        let places = || [json!({"GeoLocation": {"CountryCode": "IN"}}), json!({"GeoLocation": {"CountryCode": "*"}})];
        let none = ("", false);
        let follows = ("", true);
        type End<'a> = (&'a str, bool);
        type Row<'a> = (&'a str, [Value; 2], End<'a>, End<'a>, &'a [&'a str]);
        let table: Vec<Row> = vec![
            ("a failover pair without checks", roles(), none, none, &[]),
            ("our switch on PRIMARY alone", roles(), ("hc-switch", false), none, &[]),
            ("an endpoint check on PRIMARY", roles(), ("hc-end", false), none, &["p"]),
            ("PRIMARY follows its target", roles(), follows, none, &["p"]),
            ("our switch, and PRIMARY follows its target", roles(), ("hc-switch", true), none, &["p"]),
            ("our switch, and SECONDARY has a check: both unhealthy is PRIMARY", roles(), ("hc-switch", false), ("hc-end", false), &["s"]),
            ("our switch, and SECONDARY follows its target", roles(), ("hc-switch", false), follows, &["s"]),
            ("SECONDARY alone has a check: PRIMARY never leaves", roles(), none, ("hc-end", false), &[]),
            ("the named switch is not inverted", roles(), ("hc-upright", false), none, &["p"]),
            ("a calculated check", roles(), ("hc-sum", false), none, &["p"]),
            ("a check on an alarm", roles(), ("hc-alarm", false), none, &["p"]),
            ("a routing control is flipped by hand", roles(), ("hc-hand", false), none, &[]),
            ("a disabled check never turns", roles(), ("hc-off", false), none, &[]),
            ("a check that is gone", roles(), ("hc-gone", false), none, &["p"]),
            ("a check that we may not read", roles(), ("hc-hidden", false), none, &["p"]),
            ("weights without checks", weights(100, 0), none, none, &[]),
            ("a check on the one that answers", weights(100, 0), ("hc-end", false), none, &["p"]),
            ("the one that answers follows its target", weights(100, 0), follows, follows, &["p"]),
            ("a check on weight 0 alone: the other never leaves", weights(100, 0), none, ("hc-end", false), &[]),
            ("weights shared, one with a check", weights(50, 50), none, ("hc-end", false), &["s"]),
            ("weights shared, both with a check", weights(50, 50), ("hc-end", false), ("hc-end", false), &["p", "s"]),
            ("all weights 0, one with a check", weights(0, 0), ("hc-end", false), none, &["p"]),
            ("our switch on a weight, and weight 0 has a check", weights(100, 0), ("hc-switch", false), ("hc-end", false), &["s"]),
            ("latency without checks", regions(), none, none, &[]),
            ("latency with a check", regions(), none, ("hc-end", false), &["s"]),
            ("geography that follows its targets", places(), follows, follows, &["p", "s"]),
            ("multivalue with a check", multi(), ("hc-end", false), none, &["p"]),
        ];
        for (what, kinds, first, second, wanted) in table {
            assert_eq!(told(&pair(kinds, first, second)), wanted, "{what}");
        }
    }

    #[test]
    fn both_reasons_of_one_record_are_told() {
        let set = pair([json!({"Failover": "PRIMARY"}), json!({"Failover": "SECONDARY"})], ("hc-end", true), ("", false));
        assert_eq!(told(&set), ["p", "p"]);
    }

    #[test]
    fn a_record_alone_or_of_a_type_that_sends_nobody_says_nothing() {
        let [one, other] = pair([json!({"Weight": 1}), json!({"Weight": 0})], ("hc-end", true), ("", false));
        assert_eq!(told(std::slice::from_ref(&one)), Vec::<String>::new());
        let text = |record: Record| Record { kind: "TXT".into(), ..record };
        assert_eq!(told(&[text(one.clone()), text(other.clone())]), Vec::<String>::new());
        let six = Record { kind: "AAAA".into(), ..one };
        assert_eq!(told(&[six, other]), Vec::<String>::new(), "sets are by type");
    }

    #[test]
    fn the_switch_is_known_by_what_it_asks_for() {
        let check = |host: &str, path: &str| Check {
            kind: "HTTP".into(),
            inverted: true,
            host: host.into(),
            path: path.into(),
            ..Check::default()
        };
        for (host, path) in [
            ("b.s3.eu-west-1.amazonaws.com", "/shop/on"),
            ("b.s3.dualstack.eu-west-1.amazonaws.com", "/shop/on?x=1"),
            ("s3.eu-west-1.amazonaws.com", "/b/shop/on"),
            ("b.s3.cn-north-1.amazonaws.com.cn", "/shop/on"),
            ("b.s3.eusc-de-east-1.amazonaws.eu", "/shop/on"),
        ] {
            assert_eq!(switch().fault(&check(host, path)), None, "{host}{path}");
        }
        for (host, path) in [
            ("b.s3.eu-west-1.amazonaws.com", "/shop/off"),
            ("bb.s3.eu-west-1.amazonaws.com", "/shop/on"),
            ("shop.example.com", "/b/shop/on"),
            ("b.example.com", "/shop/on"),
        ] {
            assert!(switch().fault(&check(host, path)).is_some(), "{host}{path}");
        }
        assert!(switch().fault(&Check { kind: "TCP".into(), ..check("b.s3.eu-west-1.amazonaws.com", "/shop/on") }).is_some());
    }

    #[test]
    fn the_words_name_record_reason_and_remedy() {
        let set = pair([json!({"Weight": 100}), json!({"Weight": 0})], ("hc-end", false), ("", false));
        assert_eq!(
            judge(&set, &checks(), None),
            [
                "record shop.example.com A [p]: its health check hc-end (HTTPS at 192.0.2.7/healthz) can take it out of service, and then [s] \
              answers instead, without watchover; take the check off the record, or say traffic_is_autonomous = true"
            ]
        );
        let set = pair([json!({"Failover": "PRIMARY"}), json!({"Failover": "SECONDARY"})], ("hc-switch", false), ("", true));
        assert_eq!(
            judge(&set, &checks(), Some(&switch())),
            [
                "record shop.example.com A [s]: EvaluateTargetHealth = true lets the health of s.example take it out of service, and with the \
              switch thrown, [p] then answers again, without watchover; set it to false, or say traffic_is_autonomous = true"
            ]
        );
    }
}
