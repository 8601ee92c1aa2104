//! Route 53's verbs: judged batches, all or nothing, and their way to the name servers.

use rand::Rng;

use super::records::normal;
use super::{ApiError, Cause, Change, ChangeAction, Millis, RecordSet, Tick, World, Zone};

const MAX_RECORDS: usize = 1_000;
const MAX_CHARACTERS: usize = 32_000;

impl World {
    /// One zone by its identifier.
    pub fn zone(&self, id: &str) -> Result<&Zone, ApiError> {
        self.zones
            .iter()
            .find(|z| z.id == id)
            .ok_or_else(|| ApiError::new(404, "NoSuchHostedZone", format!("No hosted zone found with ID: {id}")))
    }

    /// Takes one of the account's requests a second; `Err` is the throttle.
    pub fn route53_pace(&mut self, now: Millis) -> Result<(), ApiError> {
        let (tokens, since) = self.route53_tokens;
        let grown = now.saturating_sub(since) as f64 / 1_000.0 * self.profile.route53_rate as f64;
        let tokens = (tokens + grown).min(self.profile.route53_burst as f64);
        let enough = tokens >= 1.0;
        self.route53_tokens = (if enough { tokens - 1.0 } else { tokens }, now.max(since));
        self.route53_too_fast += u64::from(!enough);
        if enough { Ok(()) } else { Err(ApiError::new(400, "Throttling", "Rate exceeded")) }
    }

    /// `ChangeResourceRecordSets`.
    pub fn change_records(&mut self, zone_id: &str, batch: &[(ChangeAction, RecordSet)], now: Millis) -> Result<Change, ApiError> {
        self.advance(now);
        let zone = self.zone(zone_id)?;
        if self.now < zone.busy_until {
            let message = "The request was rejected because Route 53 was still processing a prior request.";
            return Err(ApiError::new(400, "PriorRequestNotComplete", message));
        }
        let mut complaints = limits(batch);
        let mut records = zone.records.clone();
        for (action, set) in batch {
            if let Err(complaint) = apply(zone, &mut records, *action, set, &self.checks) {
                complaints.push(complaint);
            }
        }
        if !complaints.is_empty() {
            return Err(ApiError::new(400, "InvalidChangeBatch", complaints.join("\n")));
        }
        let effective = records != zone.records;
        let id = format!("C{}", self.hex_id(20).to_ascii_uppercase());
        let (insync, processing) = (self.profile.insync, self.profile.route53_processing);
        // At some moment between the call and INSYNC the name servers begin to answer the new way.
        let live_after = self.rng.random_range(insync / 5..=insync.max(1) * 9 / 10);
        let busy_until = self.now + processing;
        let Some(zone) = self.zones.iter_mut().find(|z| z.id == zone_id) else {
            return Err(ApiError::new(404, "NoSuchHostedZone", zone_id));
        };
        zone.version += 1;
        zone.records = records.clone();
        zone.busy_until = busy_until;
        let change = Change {
            id: id.clone(),
            in_sync: false,
            submitted: self.now,
            zone: zone_id.to_owned(),
            version: zone.version,
            snapshot: records,
        };
        self.changes.push(change.clone());
        if effective {
            let words: Vec<String> = batch
                .iter()
                .map(|(action, set)| {
                    let id = set.set_id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
                    let weight = set.weight.map(|weight| format!(", weight {weight}")).unwrap_or_default();
                    format!("{} {} {}{id}{weight}", format!("{action:?}").to_lowercase(), set.name, set.kind)
                })
                .collect();
            self.record("records-changed", Cause::Api, "global", zone_id, words.join("; "));
        }
        self.later(live_after, Tick::Propagate(id.clone()));
        self.later(insync, Tick::InSync(id));
        Ok(change)
    }

    /// `GetChange`.
    pub fn change(&mut self, id: &str, now: Millis) -> Result<Change, ApiError> {
        self.advance(now);
        self.changes
            .iter()
            .find(|c| c.id == id)
            .cloned()
            .ok_or_else(|| ApiError::new(404, "NoSuchChange", format!("Could not find resource with ID: {id}")))
    }

    pub(super) fn propagate(&mut self, id: &str) {
        let Some(change) = self.changes.iter_mut().find(|c| c.id == id) else {
            return;
        };
        let (zone_id, version, snapshot) = (change.zone.clone(), change.version, std::mem::take(&mut change.snapshot));
        if let Some(zone) = self.zones.iter_mut().find(|z| z.id == zone_id)
            && zone.live_version < version
        {
            zone.live = snapshot;
            zone.live_version = version;
            self.record("records-live", Cause::World, "global", &zone_id, id.to_owned());
            self.look_at_front_door();
        }
    }

    pub(super) fn change_in_sync(&mut self, id: &str) {
        if let Some(change) = self.changes.iter_mut().find(|c| c.id == id) {
            change.in_sync = true;
            let zone = change.zone.clone();
            self.record("change-insync", Cause::World, "global", &zone, id.to_owned());
        }
    }
}

fn limits(batch: &[(ChangeAction, RecordSet)]) -> Vec<String> {
    // An UPSERT is a delete and a create, and counts as both.
    let twice = |a: ChangeAction| if a == ChangeAction::Upsert { 2 } else { 1 };
    let records: usize = batch.iter().map(|(a, r)| twice(*a) * r.values.len().max(1)).sum();
    let characters: usize = batch.iter().map(|(a, r)| twice(*a) * r.values.iter().map(String::len).sum::<usize>()).sum();
    let mut complaints = Vec::new();
    if batch.is_empty() {
        complaints.push("The request must contain at least one change.".to_owned());
    }
    if records > MAX_RECORDS {
        complaints.push(format!("Number of records limit of {MAX_RECORDS} exceeded."));
    }
    if characters > MAX_CHARACTERS {
        complaints.push(format!("Number of characters limit of {MAX_CHARACTERS} exceeded."));
    }
    complaints
}

fn apply(
    zone: &Zone,
    records: &mut std::collections::BTreeMap<super::records::RecordKey, RecordSet>,
    action: ChangeAction,
    set: &RecordSet,
    checks: &[super::HealthCheck],
) -> Result<(), String> {
    let named = format!(
        "[name='{}', type='{}'{}]",
        set.name,
        set.kind,
        set.set_id.as_ref().map_or_else(String::new, |s| format!(", set identifier='{s}'"))
    );
    let key = set.key();
    if set.name != zone.name && !set.name.ends_with(&format!(".{}", zone.name)) {
        return Err(format!("RRSet with DNS name {} is not permitted in zone {}", set.name, zone.name));
    }
    if action == ChangeAction::Delete {
        return match records.get(&key) {
            None => Err(format!("Tried to delete resource record set {named} but it was not found")),
            Some(there) if there != set => {
                Err(format!("Tried to delete resource record set {named} but the values provided do not match the current values"))
            }
            Some(_) if set.name == zone.name && matches!(set.kind.as_str(), "NS" | "SOA") => {
                Err(format!("A HostedZone must contain at least one NS record and exactly one SOA record: {named}"))
            }
            Some(_) => {
                records.remove(&key);
                Ok(())
            }
        };
    }
    if set.alias.is_some() && (set.ttl.is_some() || !set.values.is_empty()) {
        return Err(format!("Invalid request: an alias {named} must not specify TTL or resource records"));
    }
    if set.alias.is_none() && (set.ttl.is_none() || set.values.is_empty()) {
        return Err(format!(
            "Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found none in Change with {named}"
        ));
    }
    let routed = set.weight.is_some() || set.failover.is_some();
    if routed != set.set_id.is_some() {
        return Err(format!("Invalid request: SetIdentifier and a routing policy go together: {named}"));
    }
    if set.weight.is_some_and(|w| w > 255) {
        return Err(format!("Invalid weight in {named}: must be between 0 and 255"));
    }
    if let Some(check) = &set.health_check
        && !checks.iter().any(|c| c.id == *check)
    {
        return Err(format!("The specified health check {check} does not exist: {named}"));
    }
    if let Some(bad) = set.values.iter().find(|v| !value_fits(&set.kind, v)) {
        return Err(format!(
            "Invalid Resource Record: FATAL problem: InvalidValue (Value is not a valid {}) encountered with '{bad}'",
            set.kind
        ));
    }
    let others: Vec<&RecordSet> = records.values().filter(|r| r.name == set.name && r.key() != key).collect();
    let same_kind = || others.iter().filter(|r| r.kind == set.kind);
    if others.iter().any(|r| (r.kind == "CNAME") != (set.kind == "CNAME")) {
        return Err(format!(
            "RRSet of type {} with DNS name {} is not permitted as it conflicts with other records with the same DNS name in zone {}",
            set.kind, set.name, zone.name
        ));
    }
    if set.kind == "CNAME" && set.name == zone.name {
        return Err(format!("RRSet of type CNAME with DNS name {} is not permitted at apex in zone {}", set.name, zone.name));
    }
    let mixes = |r: &&RecordSet| r.weight.is_some() != set.weight.is_some() || r.failover.is_some() != set.failover.is_some();
    if same_kind().copied().any(|r| mixes(&r)) {
        return Err(format!(
            "RRSet with DNS name {}, type {} cannot be created as a different routing policy exists with the same name and type",
            set.name, set.kind
        ));
    }
    if set.failover.is_some() && same_kind().any(|r| r.failover == set.failover) {
        return Err(format!("Failover record sets of the same role already exist for {named}"));
    }
    if action == ChangeAction::Create && records.contains_key(&key) {
        return Err(format!("Tried to create resource record set {named} but it already exists"));
    }
    records.insert(key, RecordSet { name: normal(&set.name), ..set.clone() });
    Ok(())
}

fn value_fits(kind: &str, value: &str) -> bool {
    match kind {
        "A" => value.parse::<std::net::Ipv4Addr>().is_ok(),
        "AAAA" => value.parse::<std::net::Ipv6Addr>().is_ok(),
        "CNAME" | "NS" => !value.is_empty() && !value.contains(char::is_whitespace),
        "TXT" => value.starts_with('"') && value.ends_with('"'),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{WorldSpec, names};

    fn text(name: &str, value: &str) -> RecordSet {
        RecordSet {
            name: normal(name),
            kind: "TXT".to_owned(),
            set_id: None,
            weight: None,
            failover: None,
            ttl: Some(60),
            values: vec![format!("\"{value}\"")],
            alias: None,
            health_check: None,
        }
    }

    #[test]
    fn a_batch_is_all_or_nothing() {
        let mut world = World::new(&WorldSpec::lab(1));
        let batch = [(ChangeAction::Create, text("a.example.com", "1")), (ChangeAction::Delete, text("none.example.com", "1"))];
        let refused = world.change_records(names::ZONE_ID, &batch, 10).unwrap_err();
        assert_eq!(refused.code, "InvalidChangeBatch");
        assert!(refused.message.contains("but it was not found"));
        assert!(world.zones()[0].records.values().all(|r| r.name != "a.example.com."));
        world.change_records(names::ZONE_ID, &batch[..1], 20).unwrap();
        assert_eq!(world.change_records(names::ZONE_ID, &batch[..1], 21).unwrap_err().code, "PriorRequestNotComplete");
        assert!(world.change_records(names::ZONE_ID, &batch[..1], 500).unwrap_err().message.contains("already exists"));
    }

    #[test]
    fn an_upsert_counts_double() {
        let mut world = World::new(&WorldSpec::lab(1));
        let many = |n: usize| -> Vec<_> { (0..n).map(|i| (ChangeAction::Upsert, text(&format!("n{i}.example.com"), "x"))).collect() };
        assert!(world.change_records(names::ZONE_ID, &many(501), 10).is_err());
        assert!(world.change_records(names::ZONE_ID, &many(500), 10).is_ok());
    }

    #[test]
    fn a_change_is_pending_then_answered_then_in_sync() {
        let mut world = World::new(&WorldSpec::lab(1));
        let id = world.change_records(names::ZONE_ID, &[(ChangeAction::Create, text("a.example.com", "1"))], 10).unwrap().id;
        let live = |w: &World| w.zones()[0].live.values().any(|r| r.name == "a.example.com.");
        assert!(!live(&world) && !world.change(&id, 11).unwrap().in_sync);
        assert!(world.change(&id, 1_511).unwrap().in_sync && live(&world));
        assert_eq!(world.change("CNONE", 12).unwrap_err().code, "NoSuchChange");
    }

    #[test]
    fn the_account_has_a_pace() {
        let mut world = World::new(&WorldSpec::lab(1));
        let passed = (0..40).filter(|_| world.route53_pace(5_000).is_ok()).count();
        assert_eq!(passed, 10);
        assert!(world.route53_pace(5_200).is_ok());
        assert_eq!(world.route53_pace(5_200).unwrap_err().code, "Throttling");
        assert_eq!(world.route53_too_fast(), 31);
    }
}
