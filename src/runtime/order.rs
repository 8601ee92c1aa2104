//! An order as it comes over the socket, judged: every problem at once, the actor from the peer's credentials.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::judge::{Problems, Table};
use crate::domain::ledger::Wish;
use crate::domain::model::{Actor, SiteName};
use crate::domain::orders::Order;

/// One order to one app.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered {
    /// The app.
    pub app: String,
    /// The order.
    pub order: Order,
}

const VERBS: &[&str] = &["failover", "failback", "approve", "decline", "retry", "skip", "abort", "adopt", "pause", "resume"];
/// A reason is a sentence or two, not a log.
const MAX_REASON: usize = 500;
/// A pause longer than this is forgotten by everybody.
const MAX_PAUSE: Duration = Duration::from_secs(30 * 24 * 3600);

/// `uid 1000 (alice)`.
pub fn who(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.map_or_else(|| format!("uid {uid}"), |name| format!("uid {uid} ({name})"))
}

/// Reads an order for the apps that are known.
///
/// # Errors
/// Everything that is wrong with it, each with its key.
pub fn read(body: &str, who: &str, known: &[String]) -> Result<Vec<Ordered>, Vec<String>> {
    let map: Map<String, Value> = match serde_json::from_str(body) {
        Ok(Value::Object(map)) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        Ok(_) => return Err(vec!["the body is not a JSON object".to_owned()]),
        Err(error) => return Err(vec![format!("the body is not JSON: {error}")]),
    };
    let problems = Problems::default();
    let table = Table::new("", map, &problems);
    let found = judge(&table, who, known);
    table.finish();
    match found {
        Some(found) if problems.is_empty() => Ok(found),
        _ => Err(problems.take().iter().map(ToString::to_string).collect()),
    }
}

fn judge(table: &Table, who: &str, known: &[String]) -> Option<Vec<Ordered>> {
    let verb = table.word("order", VERBS, |verb| verb, "");
    if !table.has("order") {
        table.fault("order", format!("is missing; one of {}", VERBS.join(", ")));
    }
    let reason = table.need_string("reason", "why, in a sentence").unwrap_or_default();
    if reason.chars().count() > MAX_REASON {
        table.fault("reason", format!("is longer than {MAX_REASON} characters"));
    }
    let by = Actor { who: who.to_owned(), reason };
    let incident = table.string("incident");
    let app = apps(table, verb, incident.as_deref(), known);
    let accept_loss = accepted(table);
    let (force, graceful) = (table.boolean("force", false), table.boolean("graceful", false));
    let step = table.string("step");
    let site = table.string("site");
    let length = table.number("for_seconds", 1.0, MAX_PAUSE.as_secs_f64(), 0.0);
    let need = |given: bool, key: &str, what: &str| {
        if !given {
            table.fault(key, format!("is missing; give {what}"));
        }
    };
    if matches!(verb, "approve" | "decline" | "retry" | "skip" | "abort") {
        need(incident.is_some(), "incident", "the incident's id, as `watchover status` shows it");
    }
    let id = incident.unwrap_or_default();
    let order = match verb {
        "failover" | "failback" => {
            let to = if verb == "failover" { SiteName::Standby } else { SiteName::Primary };
            Order::Move { to, wish: Wish { by, accept_loss, shown: None, force, graceful } }
        }
        "approve" => Order::Approve { incident: id, by, accept_loss },
        "decline" => Order::Decline { incident: id, by },
        "retry" => Order::Retry { incident: id, by },
        "skip" => {
            need(step.is_some(), "step", "the step's name");
            Order::Skip { incident: id, step: step.unwrap_or_default(), by }
        }
        "abort" => Order::Abort { incident: id, by },
        "adopt" => {
            let site = site.as_deref().and_then(SiteName::parse);
            need(site.is_some(), "site", "\"primary\" or \"standby\"");
            Order::Adopt { site: site.unwrap_or(SiteName::Primary), by }
        }
        "pause" => {
            need(length > 0.0, "for_seconds", "how long, in seconds");
            Order::Pause { length: Duration::from_secs_f64(length.max(0.0)), by }
        }
        "resume" => Order::Resume { by },
        _ => return None,
    };
    Some(app?.into_iter().map(|app| Ordered { app, order: order.clone() }).collect())
}

/// The named app, the incident's app, or for pause and resume all of them.
fn apps(table: &Table, verb: &str, incident: Option<&str>, known: &[String]) -> Option<Vec<String>> {
    let unknown = |name: &str| {
        table.fault("app", format!("{name:?} is not configured; known: {}", known.join(", ")));
        None
    };
    match (table.string("app"), incident) {
        (Some(name), _) if known.contains(&name) => Some(vec![name]),
        (Some(name), _) => unknown(&name),
        // The longest name that fits: one app's name may begin another's.
        (None, Some(id)) => match known.iter().filter(|name| id.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'))).max_by_key(|name| name.len()) {
            Some(name) => Some(vec![name.clone()]),
            None => {
                table.fault("incident", format!("{id:?} belongs to no configured app"));
                None
            }
        },
        (None, None) if matches!(verb, "pause" | "resume") => Some(known.to_vec()),
        (None, None) => {
            table.fault("app", format!("is missing; known: {}", known.join(", ")));
            None
        }
    }
}

/// Seconds, or `"any"`.
fn accepted(table: &Table) -> Option<f64> {
    match table.raw("accept_data_loss") {
        Some(Value::String(word)) if word == "any" => Some(f64::INFINITY),
        Some(Value::Number(number)) if number.as_f64().is_some_and(|seconds| seconds >= 0.0) => number.as_f64(),
        Some(_) => {
            table.fault("accept_data_loss", "is not a number of seconds, nor \"any\"");
            None
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_an_order_is_named_at_once() {
        let problems = read(r#"{"order":"failovr","app":"shp","forse":true}"#, "uid 0", &["shop".to_owned()]).unwrap_err().join("\n");
        for part in ["did you mean \"failover\"", "reason: is missing", "\"shp\" is not configured", "forse: unknown key"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn an_incident_finds_its_app() {
        let known = ["shop".to_owned(), "shop-eu".to_owned()];
        let found = read(r#"{"order":"decline","incident":"shop-eu-20261121","reason":"no"}"#, "uid 0", &known).unwrap();
        assert_eq!(found[0].app, "shop-eu");
    }
}
