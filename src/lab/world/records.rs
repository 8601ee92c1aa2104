//! Route 53's nouns: zones, record sets, changes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Millis;

/// What an alias points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alias {
    /// The target's zone.
    pub zone_id: String,
    /// The target's name, with a dot at the end.
    pub dns_name: String,
    /// Whether the target's own health counts.
    pub evaluate: bool,
}

/// Place in a failover pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Failover {
    /// Serves while healthy.
    Primary,
    /// Serves else.
    Secondary,
}

/// One resource record set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordSet {
    /// Name, lower case, with a dot at the end.
    pub name: String,
    /// Type, such as `A`.
    pub kind: String,
    /// Tells apart sets of one name and type.
    pub set_id: Option<String>,
    /// Share among weighted ones.
    pub weight: Option<u64>,
    /// Place in a failover pair.
    pub failover: Option<Failover>,
    /// TTL in seconds; none for an alias.
    pub ttl: Option<u32>,
    /// Values; none for an alias.
    pub values: Vec<String>,
    /// What it points to, for an alias.
    pub alias: Option<Alias>,
    /// The check that decides on it.
    pub health_check: Option<String>,
}

impl RecordSet {
    /// What tells it apart within its zone.
    pub fn key(&self) -> RecordKey {
        (reversed(&self.name), self.kind.clone(), self.set_id.clone().unwrap_or_default())
    }
}

/// Reversed labels, type, identifier: also the order in which Route 53 lists.
pub type RecordKey = (Vec<String>, String, String);

/// A name's labels from the root on.
pub fn reversed(name: &str) -> Vec<String> {
    name.trim_end_matches('.').split('.').rev().map(str::to_owned).collect()
}

/// A name as Route 53 keeps it: lower case, a dot at the end.
pub fn normal(name: &str) -> String {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    format!("{lower}.")
}

/// One batch line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ChangeAction {
    /// Must not be there yet.
    Create,
    /// Must be there exactly so.
    Delete,
    /// Either.
    Upsert,
}

/// A hosted zone: what the API says, and what the name servers answer.
#[derive(Clone, Debug, Serialize)]
pub struct Zone {
    /// Identifier, without `/hostedzone/`.
    pub id: String,
    /// Name, with a dot at the end.
    pub name: String,
    /// What the API says.
    #[serde(serialize_with = "values")]
    pub records: BTreeMap<RecordKey, RecordSet>,
    /// What the name servers answer.
    #[serde(skip)]
    pub live: BTreeMap<RecordKey, RecordSet>,
    #[serde(skip)]
    pub(super) version: u64,
    #[serde(skip)]
    pub(super) live_version: u64,
    #[serde(skip)]
    pub(super) busy_until: Millis,
}

fn values<S: serde::Serializer>(map: &BTreeMap<RecordKey, RecordSet>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(map.values())
}

/// A batch on its way to the name servers.
#[derive(Clone, Debug)]
pub struct Change {
    /// Identifier, without `/change/`.
    pub id: String,
    /// Whether every name server knows.
    pub in_sync: bool,
    /// When it was asked for.
    pub submitted: Millis,
    pub(super) zone: String,
    pub(super) version: u64,
    pub(super) snapshot: BTreeMap<RecordKey, RecordSet>,
}
