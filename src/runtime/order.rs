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

/// What a body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Orders {
    /// In the order of the apps; more than one only where `all`.
    pub each: Vec<Ordered>,
    /// `pause` and `resume` without an app: one that has nothing to do among many is no refusal.
    pub all: bool,
}

/// Every order, with the keys that belong to it besides `order`, `reason` and `app`.
const VERBS: &[(&str, &[&str])] = &[
    ("failover", &["accept_data_loss", "graceful", "force"]),
    ("failback", &["accept_data_loss", "graceful", "force"]),
    ("approve", &["incident", "accept_data_loss"]),
    ("decline", &["incident"]),
    ("retry", &["incident"]),
    ("skip", &["incident", "step"]),
    ("abort", &["incident"]),
    ("adopt", &["site"]),
    ("pause", &["for_seconds"]),
    ("resume", &[]),
];
/// A reason is a sentence or two, not a log.
const MAX_REASON: usize = 500;
/// A pause of less is over before anybody has seen it.
pub const MIN_PAUSE: Duration = Duration::from_secs(1);
/// A pause longer than a month is forgotten by everybody.
pub const MAX_PAUSE: Duration = Duration::from_secs(31 * 24 * 3600);

/// `uid 1000 (alice)`, by `passwd` in the form of /etc/passwd; without the name where it has none.
pub fn who(uid: u32, passwd: &str) -> String {
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.map_or_else(|| format!("uid {uid}"), |name| format!("uid {uid} ({name})"))
}

/// Reads an order of `who` for the apps that are known.
///
/// # Errors
/// Everything that is wrong with it, each with its key: missing, wrong and unknown ones alike.
pub fn read(body: &[u8], who: &str, known: &[String]) -> Result<Orders, Vec<String>> {
    let map: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        Ok(_) => return Err(vec!["the body is not a JSON object".to_owned()]),
        Err(error) => return Err(vec![format!("the body is not JSON: {error}")]),
    };
    let problems = Problems::default();
    let given: Vec<String> = map.keys().cloned().collect();
    let table = Table::new("", map, &problems);
    let found = judge(&table, &given, who, known);
    table.finish();
    match found {
        Some(found) if problems.is_empty() => Ok(found),
        _ => Err(problems.take().iter().map(ToString::to_string).collect()),
    }
}

fn judge(table: &Table, given: &[String], who: &str, known: &[String]) -> Option<Orders> {
    let verbs: Vec<&'static str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    if !table.has("order") {
        table.fault("order", format!("is missing; one of {}", verbs.join(", ")));
    }
    let verb = table.word("order", &verbs, |verb| verb, "");
    let keys = VERBS.iter().find(|(name, _)| *name == verb).map(|(_, keys)| *keys);
    // A key of another order is a misunderstanding worth words of its own.
    for key in VERBS.iter().flat_map(|(_, keys)| *keys).filter(|key| given.iter().any(|one| one == *key)) {
        if keys.is_some_and(|keys| !keys.contains(key)) && table.raw(key).is_some() && !table.problems().has_at(key) {
            table.fault(key, format!("does not belong to {verb:?}"));
        }
    }
    let belongs = |key: &str| keys.is_none_or(|keys| keys.contains(&key));
    let by = Actor { who: who.to_owned(), reason: reason(table) };
    let needed = |key: &str, form: &str| if keys.is_some() && belongs(key) { table.need_string(key, form) } else { table.string(key) };
    let incident = needed("incident", "the incident's id, as `watchover status` shows it");
    let step = needed("step", "the step's name");
    let site = if keys.is_some() && belongs("site") { site(table) } else { None };
    let accept_loss = if belongs("accept_data_loss") { accepted(table) } else { None };
    let (force, graceful) =
        if belongs("force") { (table.boolean("force", false), table.boolean("graceful", false)) } else { (false, false) };
    let length =
        if belongs("for_seconds") { table.number("for_seconds", MIN_PAUSE.as_secs_f64(), MAX_PAUSE.as_secs_f64(), 0.0) } else { 0.0 };
    if verb == "pause" && !table.has("for_seconds") {
        table.fault("for_seconds", "is missing; give how long, in seconds");
    }
    let apps = apps(table, verb, incident.as_deref(), known);
    let order = match verb {
        "failover" => Order::Move { to: SiteName::Standby, wish: Wish { by, accept_loss, shown: None, force, graceful } },
        "failback" => Order::Move { to: SiteName::Primary, wish: Wish { by, accept_loss, shown: None, force, graceful } },
        "approve" => Order::Approve { incident: incident?, by, accept_loss },
        "decline" => Order::Decline { incident: incident?, by },
        "retry" => Order::Retry { incident: incident?, by },
        "skip" => Order::Skip { incident: incident?, step: step?, by },
        "abort" => Order::Abort { incident: incident?, by },
        "adopt" => Order::Adopt { site: site?, by },
        "pause" => Order::Pause { length: Duration::from_secs_f64(length), by },
        "resume" => Order::Resume { by },
        _ => return None,
    };
    let (apps, all) = apps?;
    Some(Orders { each: apps.into_iter().map(|app| Ordered { app, order: order.clone() }).collect(), all })
}

fn reason(table: &Table) -> String {
    let reason = table.need_string("reason", "why, in a sentence: it stands in the journal beside your name").unwrap_or_default();
    let length = reason.chars().count();
    if length > MAX_REASON {
        table.fault("reason", format!("has {length} characters; at most {MAX_REASON}"));
    }
    if reason.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        table.fault("reason", "has control characters; give plain text");
    }
    reason.trim().to_owned()
}

fn site(table: &Table) -> Option<SiteName> {
    if !table.has("site") {
        table.fault("site", "is missing; give \"primary\" or \"standby\"");
        return None;
    }
    Some(table.word("site", SiteName::ALL, SiteName::as_str, SiteName::Primary))
}

/// The named app, the incident's app, or for pause and resume all of them; true for all.
fn apps(table: &Table, verb: &str, incident: Option<&str>, known: &[String]) -> Option<(Vec<String>, bool)> {
    let named = table.string("app");
    let list = || if known.is_empty() { "none is known yet".to_owned() } else { format!("known: {}", known.join(", ")) };
    // The longest name that fits: one app's name may begin another's.
    let of = |id: &str| {
        known.iter().filter(|name| id.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'))).max_by_key(|name| name.len())
    };
    match (named, incident) {
        (Some(name), _) if known.contains(&name) => Some((vec![name], false)),
        (Some(name), _) => {
            table.fault("app", format!("{name:?} is not configured; {}", list()));
            None
        }
        (None, Some(id)) if of(id).is_some() => Some((of(id).cloned().into_iter().collect(), false)),
        (None, Some(id)) => {
            table.fault("incident", format!("{id:?} belongs to no configured app; {}", list()));
            None
        }
        (None, None) if matches!(verb, "pause" | "resume") && !table.has("app") => Some((known.to_vec(), true)),
        (None, None) => {
            if matches!(verb, "failover" | "failback" | "adopt") && !table.has("app") {
                table.fault("app", format!("is missing; {}", list()));
            }
            None
        }
    }
}

/// Seconds, or `"any"`.
fn accepted(table: &Table) -> Option<f64> {
    match table.raw("accept_data_loss")? {
        Value::String(word) if word == "any" => Some(f64::INFINITY),
        Value::Number(number) if number.as_f64().is_some_and(|seconds| seconds >= 0.0) => number.as_f64(),
        _ => {
            table.fault("accept_data_loss", "is neither a number of seconds nor \"any\"");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        vec!["shop".to_owned(), "shop-eu".to_owned()]
    }

    fn problems(body: &str) -> String {
        read(body.as_bytes(), "uid 0", &known()).unwrap_err().join("\n")
    }

    #[test]
    fn every_problem_of_an_order_is_named_at_once() {
        let said = problems(r#"{"order":"failovr","app":"shp","forse":true}"#);
        for part in ["did you mean \"failover\"", "reason: is missing", "\"shp\" is not configured", "forse: unknown key"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = problems(r#"{"order":"skip","site":"standby","reason":"  ","accept_data_loss":-1}"#);
        for part in [
            "site: does not belong to \"skip\"",
            "accept_data_loss: does not belong",
            "reason: is empty",
            "incident: is missing",
            "step: is missing",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = problems(&format!(r#"{{"order":"pause","reason":"{}"}}"#, "x".repeat(501)));
        assert!(said.contains("501 characters") && said.contains("for_seconds: is missing"), "{said}");
        assert!(problems(r#"{"order":"adopt","app":"shop","reason":"x","site":"stand"}"#).contains("site: "));
        assert!(problems(r#"{"order":"failover","app":"shop","reason":"x","accept_data_loss":"all"}"#).contains("accept_data_loss: "));
        assert!(problems("[]").contains("not a JSON object"));
    }

    #[test]
    fn an_incident_finds_its_app_by_the_longest_name() {
        let found = read(br#"{"order":"decline","app":null,"incident":"shop-eu-20261121","reason":"no"}"#, "uid 0", &known()).unwrap();
        assert_eq!((found.each[0].app.as_str(), found.all), ("shop-eu", false));
        assert!(problems(r#"{"order":"decline","incident":"till-1","reason":"no"}"#).contains("belongs to no configured app"));
    }

    #[test]
    fn a_pause_without_an_app_is_for_all() {
        let found = read(br#"{"order":"pause","for_seconds":60,"reason":"patching"}"#, "uid 0", &known()).unwrap();
        assert_eq!((found.each.len(), found.all), (2, true));
    }

    #[test]
    fn a_failover_carries_the_whole_wish() {
        let body = br#"{"order":"failover","app":"shop","reason":"drill","accept_data_loss":"any","force":true}"#;
        let found = read(body, "uid 7 (eve)", &known()).unwrap();
        let Order::Move { to, wish } = &found.each[0].order else { panic!("{found:?}") };
        assert_eq!((*to, wish.force, wish.graceful, wish.accept_loss), (SiteName::Standby, true, false, Some(f64::INFINITY)));
        assert_eq!((wish.by.who.as_str(), wish.by.reason.as_str()), ("uid 7 (eve)", "drill"));
    }

    #[test]
    fn a_user_without_a_name_is_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!((who(1000, passwd), who(5, passwd)), ("uid 1000 (alice)".to_owned(), "uid 5".to_owned()));
    }
}
