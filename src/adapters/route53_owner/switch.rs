//! Whether a switch, thrown, takes users off a name: the rules, on records and the check as they were read. No I/O.
//!
//! Sources: the API reference of `HealthCheckConfig` (`Inverted`, `Disabled`: a disabled check says the same whatever
//! happens) and "How Amazon Route 53 chooses records when health checking is configured" (PRIMARY answers while its check
//! is healthy, and always if it has none).

use std::collections::BTreeSet;

use super::autonomy::{Known, TYPES};
use super::record::Record;

/// Why the switch `id` would not move the users of `name`, each with what to do about it; empty: it would.
pub fn useless(name: &str, records: &[Record], id: &str, check: &Known) -> Vec<String> {
    let mut found = Vec::new();
    match check {
        Known::Missing => found.push(format!("health check {id} does not exist; name the inverted check on the object, made long before")),
        Known::Is(check) if check.disabled => {
            found.push(format!("health check {id} is disabled and does not look for the object; enable it"))
        }
        Known::Is(check) if !check.inverted => {
            found.push(format!("health check {id} is not inverted: it takes the record away while the object is absent; invert it"))
        }
        Known::Is(_) | Known::Hidden => {}
    }
    let of = |set: &[&Record]| -> BTreeSet<String> { set.iter().map(|record| record.kind.clone()).collect() };
    let sending: Vec<&Record> = records.iter().filter(|record| TYPES.contains(&record.kind.as_str())).collect();
    let roles: Vec<&Record> = sending.iter().copied().filter(|record| record.failover.is_some()).collect();
    let bears = |record: &Record| record.health_check_id.as_deref() == Some(id);
    // Weights and the like: whichever bears it goes, and nobody can say beforehand that this is too few.
    if roles.is_empty() && !sending.iter().any(|record| bears(record)) {
        found.push(format!("no record {name} bears health check {id}; attach it to the PRIMARY of a failover pair"));
    }
    for kind in of(&roles) {
        let with =
            |role: &str| roles.iter().filter(|one| one.kind == kind && one.failover.as_deref() == Some(role)).copied().collect::<Vec<_>>();
        let (first, second) = (with("PRIMARY"), with("SECONDARY"));
        for (role, missing) in [("PRIMARY", first.is_empty()), ("SECONDARY", second.is_empty())] {
            if missing {
                found.push(format!("record {name} {kind} has no {role}; it takes a pair to fail over"));
            }
        }
        for record in first.into_iter().filter(|record| !bears(record)) {
            let (other, mend) = match record.health_check_id.as_deref() {
                Some(other) => (format!("health check {other}"), "attach that"),
                // So a pin leaves it, whose object was lost since.
                None => ("no health check".to_owned(), "attach that, or fail back first, if this is what a move has pinned"),
            };
            found.push(format!("record {} is PRIMARY and bears {other} instead of {id}; {mend}", record.pick()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::autonomy::Check;
    use super::*;

    fn record(id: &str, kind: &str, more: &Value) -> Record {
        let mut value =
            json!({"Name": "shop.example.com.", "Type": kind, "SetIdentifier": id, "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.1"}]});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn told(records: &[Record], check: &Known) -> String {
        useless("shop.example.com", records, "hc", check).join("; ")
    }

    #[test]
    fn what_a_thrown_switch_would_not_move() {
        let works = Known::Is(Check { kind: "HTTP".into(), inverted: true, ..Check::default() });
        let first = |check: Value| record("p", "A", &json!({"Failover": "PRIMARY", "HealthCheckId": check}));
        let second = || record("s", "A", &json!({"Failover": "SECONDARY"}));
        let good = [first(json!("hc")), second()];
        assert_eq!(told(&good, &works), "");
        assert_eq!(told(&good, &Known::Hidden), "", "what we may not read is no refusal");
        for (check, wanted) in [
            (Known::Missing, "health check hc does not exist"),
            (Known::Is(Check::default()), "health check hc is not inverted"),
            (Known::Is(Check { inverted: true, disabled: true, ..Check::default() }), "health check hc is disabled"),
        ] {
            assert!(told(&good, &check).starts_with(wanted), "{}", told(&good, &check));
        }
        for (records, wanted) in [
            (vec![first(json!("other")), second()], "record shop.example.com A [p] is PRIMARY and bears health check other instead of hc"),
            (
                vec![first(Value::Null), second()],
                "record shop.example.com A [p] is PRIMARY and bears no health check instead of hc; attach that, or fail back first",
            ),
            (vec![first(json!("hc"))], "record shop.example.com A has no SECONDARY"),
            (vec![second()], "record shop.example.com A has no PRIMARY"),
            (vec![], "no record shop.example.com bears health check hc"),
            (vec![record("t", "TXT", &json!({"HealthCheckId": "hc"}))], "no record shop.example.com bears health check hc"),
            (vec![record("w", "A", &json!({"Weight": 1}))], "no record shop.example.com bears health check hc"),
            // Users by IPv6 would stay.
            (
                vec![good[0].clone(), good[1].clone(), record("6", "AAAA", &json!({"Failover": "PRIMARY"}))],
                "record shop.example.com AAAA has no SECONDARY; it takes a pair to fail over; record shop.example.com AAAA [6] is PRIMARY",
            ),
        ] {
            assert!(told(&records, &works).starts_with(wanted), "{}", told(&records, &works));
        }
        let weights = [record("w", "A", &json!({"Weight": 1, "HealthCheckId": "hc"})), record("v", "A", &json!({"Weight": 0}))];
        assert_eq!(told(&weights, &works), "");
    }
}
