//! The keys of `route53-records`, judged.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::adapters::route53_owner::canonical;

const TYPES: &[&str] = &["A", "AAAA", "CNAME", "TXT", "MX", "SRV", "CAA", "HTTPS", "SVCB", "NAPTR", "PTR", "SPF", "DS", "TLSA", "SSHFP"];

/// What shall hold of one record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wish {
    #[serde(flatten)]
    pub(super) pick: Pick,
    pub(super) weight: Option<i64>,
    pub(super) failover: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) values: Option<Vec<String>>,
    pub(super) ttl: Option<i64>,
    pub(super) health_check_id: Option<String>,
}

impl Wish {
    /// The record with everything wished for that needs no question to AWS: all but the alias.
    pub(super) fn on(&self, record: &Record) -> Record {
        let mut next = record.clone();
        if let Some(weight) = self.weight {
            next.weight = Some(weight);
        }
        if let Some(role) = &self.failover {
            next.failover = Some(role.clone());
        }
        if let Some(check) = &self.health_check_id {
            next.health_check_id = Some(check.clone()).filter(|id| !id.is_empty());
        }
        if let Some(values) = &self.values {
            next.values = Some(values.iter().map(|value| RecordValue { value: value.clone() }).collect());
            next.alias_target = None;
            next.ttl = self.ttl.or(record.ttl).or(Some(DEFAULT_TTL));
        } else if self.ttl.is_some() {
            next.ttl = self.ttl;
        }
        next
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) zone_id: String,
    pub(super) records: Vec<Wish>,
}

pub(super) fn judge(table: &Table, _place: &Place) -> Option<Value> {
    let zone_id = table.need_string("zone_id", "the hosted zone's id, e.g. \"Z0123456789ABC\"");
    let before = table.problems().len();
    let tables = table.tables("records");
    if tables.is_empty() && table.problems().len() == before {
        table.fault("records", "is empty; name at least one record. An empty list never means all");
    }
    let mut records: Vec<Wish> = Vec::new();
    for entry in &tables {
        let Some(wish) = judge_record(entry) else { continue };
        if records.iter().any(|one| one.pick.canonical() == wish.pick.canonical()) {
            entry.fault("name", format!("{} stands here twice", wish.pick));
        }
        records.push(wish);
    }
    if table.problems().len() == before {
        judge_sets(table, &records);
    }
    let zone_id = zone_id?.trim_start_matches("/hostedzone/").to_owned();
    (table.problems().len() == before).then(|| json!(Keys { zone_id, records }))
}

/// What Route 53 would refuse of the records of one name and type, or answer otherwise than meant.
fn judge_sets(table: &Table, records: &[Wish]) {
    let set = |wish: &Wish| (canonical(&wish.pick.name), wish.pick.kind.clone());
    let sets: BTreeSet<_> = records.iter().map(set).collect();
    for (name, kind) in sets {
        let of: Vec<&Wish> = records.iter().filter(|wish| set(wish) == (name.clone(), kind.clone())).collect();
        for role in ["PRIMARY", "SECONDARY"] {
            if of.iter().filter(|wish| wish.failover.as_deref() == Some(role)).count() > 1 {
                table.fault("records", format!("two records of {name} {kind} are to be {role}; Route 53 takes one of each"));
            }
        }
        if of.len() > 1 && of.iter().all(|wish| wish.weight == Some(0)) {
            table.fault(
                "records",
                format!("every record of {name} {kind} gets weight 0, and then Route 53 answers with all of them alike; give the one that users shall reach more"),
            );
        }
    }
}

/// Values that are none of that type: Route 53 would refuse the whole batch for one. Source: "Supported DNS record types" of
/// the Route 53 guide; only what is certain there is judged.
fn judge_values(table: &Table, kind: &str, values: &[String]) {
    let (is_value, what, form): (fn(&str) -> bool, &str, &str) = match kind {
        "A" => (|text| text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address", "\"192.0.2.10\""),
        "AAAA" => (|text| text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address", "\"2001:db8::10\""),
        "TXT" | "SPF" => (
            |text| quoted(text).is_some_and(|lengths| lengths.iter().all(|length| *length <= 255)),
            "one string in double quotes, or several with spaces between them, each of up to 255 characters",
            r#"'"v=spf1 -all"'"#,
        ),
        "MX" => (|text| matches!(*fields(text), [first, _] if number(first)), "a priority and a mail server", "\"10 mail.example.com\""),
        "SRV" => (
            |text| matches!(*fields(text), [a, b, c, _] if [a, b, c].into_iter().all(number)),
            "a priority, a weight, a port and a host",
            "\"10 5 443 shop.example.com\"",
        ),
        "CAA" => (is_caa, "flags, a tag and a value in double quotes", r#"'0 issue "ca.example.com"'"#),
        _ => return judge_names(table, kind, values),
    };
    for text in values.iter().filter(|text| !is_value(text)) {
        table.fault("values", format!("{text:?} is not {what}, as type {kind:?} needs; write it like {form}"));
    }
}

fn fields(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn number(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_caa(text: &str) -> bool {
    let mut rest = text.trim().splitn(3, char::is_whitespace);
    let (flags, tag, value) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
    let is_tag = !tag.is_empty() && tag.chars().all(|c| c.is_ascii_alphanumeric());
    flags.parse::<u8>().is_ok() && is_tag && quoted(value).is_some_and(|lengths| lengths.len() == 1)
}

/// The lengths of the strings in double quotes that a text consists of; `None`: it does not, or has none. A backslash makes
/// one character of what follows, three digits or another character.
fn quoted(text: &str) -> Option<Vec<usize>> {
    let mut lengths = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut inside = rest.strip_prefix('"')?;
        let mut length = 0;
        loop {
            let first = inside.chars().next()?;
            inside = &inside[first.len_utf8()..];
            match first {
                '"' => break,
                '\\' => {
                    let octal = inside.get(..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
                    let taken = octal.map_or_else(|| inside.chars().next().map(char::len_utf8), |digits| Some(digits.len()))?;
                    inside = &inside[taken..];
                }
                _ => {}
            }
            length += 1;
        }
        lengths.push(length);
        // Also without a space between them, which Route 53 takes.
        rest = inside.trim_start();
    }
    Some(lengths).filter(|lengths| !lengths.is_empty())
}

fn judge_names(table: &Table, kind: &str, values: &[String]) {
    if kind == "CNAME" && values.len() > 1 {
        table.fault("values", format!("has {} names, but a CNAME has one", values.len()));
    }
}

fn judge_record(table: &Table) -> Option<Wish> {
    let before = table.problems().len();
    let name = table.need_string("name", "the record's name, e.g. \"shop.example.com\"");
    let kind = table.need_string("type", "the record's type, e.g. \"A\"").unwrap_or_default();
    if !kind.is_empty() && !TYPES.contains(&kind.as_str()) {
        table.fault("type", format!("{kind:?} is not one of {}", TYPES.join(", ")));
    }
    let whole = |key: &str, most: u64| {
        let found = table.has(key).then(|| table.whole(key, 0, 0))?;
        if found > most {
            table.fault(key, format!("{found} is above {most}"));
        }
        i64::try_from(found).ok()
    };
    let wish = Wish {
        pick: Pick { name: name.clone().unwrap_or_default(), kind, set_identifier: table.string("set_identifier") },
        weight: whole("weight", 255),
        failover: table.has("failover").then(|| table.word("failover", &["PRIMARY", "SECONDARY"], |word| word, "PRIMARY").to_owned()),
        alias: table.has("alias").then(|| table.need_string("alias", "a load balancer's DNS name")).flatten(),
        values: table.strings("values"),
        ttl: whole("ttl", 2_147_483_647),
        health_check_id: table.string("health_check_id"),
    };
    if wish.values.as_ref().is_some_and(Vec::is_empty) {
        table.fault("values", "is empty; a record has at least one value");
    }
    judge_values(table, &wish.pick.kind, wish.values.as_deref().unwrap_or_default());
    if wish.alias.is_some() && (wish.values.is_some() || wish.ttl.is_some()) {
        table.fault("alias", "an alias has neither `values` nor `ttl`; name one or the others");
    }
    if (wish.weight.is_some() || wish.failover.is_some()) && wish.pick.set_identifier.is_none() {
        table.fault("set_identifier", "is missing; weighted and failover records are told apart by it");
    }
    if wish.weight.is_some() && wish.failover.is_some() {
        table.fault("weight", "a record is weighted or failover, not both");
    }
    let nothing = wish.weight.is_none()
        && wish.failover.is_none()
        && wish.alias.is_none()
        && wish.values.is_none()
        && wish.ttl.is_none()
        && wish.health_check_id.is_none();
    if nothing && table.problems().len() == before {
        table.fault("name", "nothing shall change; name a weight, failover, alias, values, ttl or health_check_id");
    }
    table.finish();
    (table.problems().len() == before).then_some(wish)
}
