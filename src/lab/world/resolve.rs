//! What the name servers answer, from the Route 53 state that they know.

use std::collections::BTreeSet;

use rand::Rng;

use super::records::{Failover, RecordSet, Zone, normal};
use super::{Cause, Millis, World};

/// One answered record; the value is in presentation form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRecord {
    /// Name, with a dot at the end.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Type.
    pub kind: String,
    /// Value.
    pub value: String,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With records.
    Found,
    /// The name is there, the type is not.
    NoData,
    /// The name is not there.
    NxDomain,
    /// Not our name.
    Refused,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// Records, a CNAME chain first.
    pub records: Vec<AnswerRecord>,
    /// The zone's SOA, for negative answers.
    pub soa: Option<AnswerRecord>,
}

/// Longer chains are loops.
const MAX_CHAIN: usize = 8;

impl World {
    /// Answers a question: authoritative for the zones, recursive for AWS's own names.
    pub fn resolve(&mut self, name: &str, kind: &str, now: Millis) -> Answer {
        self.advance(now);
        let mut records = Vec::new();
        let mut current = normal(name);
        for _ in 0..MAX_CHAIN {
            match self.one_name(&current, kind) {
                Found::Values(values) => {
                    records.extend(values);
                    return Answer { outcome: Outcome::Found, records, soa: None };
                }
                Found::Chain(record) => {
                    current = normal(&record.value);
                    records.push(record);
                }
                Found::Nothing(outcome) => {
                    let soa = self.zone_of(&current).map(soa);
                    let outcome = if records.is_empty() { outcome } else { Outcome::Found };
                    return Answer { outcome, records, soa };
                }
            }
        }
        Answer { outcome: Outcome::Found, records, soa: None }
    }

    fn one_name(&mut self, name: &str, kind: &str) -> Found {
        if let Some(found) = self.amazon_name(name, kind) {
            return found;
        }
        let roll = self.rng.random::<u64>();
        let Some(zone) = self.zone_of(name) else {
            return Found::Nothing(Outcome::Refused);
        };
        for wanted in [kind, "CNAME"] {
            let sets = sets_of(zone, name, wanted);
            let candidates = self.candidates(&sets);
            let Some(set) = choose(&candidates, roll) else {
                continue;
            };
            if let Some(alias) = &set.alias {
                // An alias answers under its own name with what its target has.
                let (target, alias_type) = (alias.dns_name.clone(), wanted.to_owned());
                return self.alias(name, &target, &alias_type);
            }
            let ttl = set.ttl.unwrap_or(300);
            let record = |value: &String| AnswerRecord { name: name.to_owned(), ttl, kind: wanted.to_owned(), value: value.clone() };
            let mut values: Vec<AnswerRecord> = set.values.iter().map(record).collect();
            if wanted == "CNAME" && kind != "CNAME" {
                return values.pop().map_or(Found::Nothing(Outcome::NoData), Found::Chain);
            }
            return Found::Values(values);
        }
        let known = name == zone.name || zone.live.values().any(|r| r.name == name || r.name.ends_with(&format!(".{name}")));
        Found::Nothing(if known { Outcome::NoData } else { Outcome::NxDomain })
    }

    fn alias(&mut self, name: &str, target: &str, kind: &str) -> Found {
        let answer = self.resolve(target, kind, self.now);
        let own = |mut record: AnswerRecord| {
            record.name = name.to_owned();
            record
        };
        let values: Vec<AnswerRecord> = answer.records.into_iter().filter(|r| r.kind == kind).map(own).collect();
        if values.is_empty() { Found::Nothing(Outcome::NoData) } else { Found::Values(values) }
    }

    /// Load balancers and database endpoints, which live in AWS's own zones.
    fn amazon_name(&self, name: &str, kind: &str) -> Option<Found> {
        let host = name.trim_end_matches('.');
        let record = |ttl: u32, address: &std::net::Ipv4Addr| AnswerRecord {
            name: name.to_owned(),
            ttl,
            kind: "A".to_owned(),
            value: address.to_string(),
        };
        if let Some(site) = self.site_at(host).filter(|_| host.ends_with(".amazonaws.com")) {
            let balancer = &self.site(site).balancer;
            let values = balancer.addresses.iter().map(|a| record(self.profile.balancer_ttl_s, a)).collect();
            return Some(if kind == "A" { Found::Values(values) } else { Found::Nothing(Outcome::NoData) });
        }
        if let Some(database) = self.databases.iter().find(|d| d.endpoint.eq_ignore_ascii_case(host)) {
            let values = vec![record(5, &database.address)];
            return Some(if kind == "A" { Found::Values(values) } else { Found::Nothing(Outcome::NoData) });
        }
        host.ends_with(".amazonaws.com").then_some(Found::Nothing(Outcome::NxDomain))
    }

    fn zone_of(&self, name: &str) -> Option<&Zone> {
        let fits = |z: &&Zone| name == z.name || name.ends_with(&format!(".{}", z.name));
        self.zones.iter().filter(fits).max_by_key(|z| z.name.len())
    }

    /// The record sets that may be answered, each with its weight.
    fn candidates<'a>(&self, sets: &[&'a RecordSet]) -> Vec<(&'a RecordSet, u64)> {
        let healthy: Vec<&RecordSet> = sets.iter().copied().filter(|s| self.set_healthy(s)).collect();
        if sets.iter().any(|s| s.failover.is_some()) {
            let place = |all: &[&'a RecordSet], place| all.iter().copied().find(|s| s.failover == Some(place));
            let chosen = place(&healthy, Failover::Primary)
                .or_else(|| place(&healthy, Failover::Secondary))
                .or_else(|| place(sets, Failover::Primary))
                .or_else(|| place(sets, Failover::Secondary));
            return chosen.map(|s| (s, 1)).into_iter().collect();
        }
        if sets.iter().any(|s| s.weight.is_some()) {
            // Nothing healthy: everything counts as healthy. All weights 0: equal shares.
            let pool = if healthy.is_empty() { sets.to_vec() } else { healthy };
            let weighty: Vec<_> = pool.iter().filter_map(|s| s.weight.filter(|w| *w > 0).map(|w| (*s, w))).collect();
            return if weighty.is_empty() { pool.into_iter().map(|s| (s, 1)).collect() } else { weighty };
        }
        sets.first().map(|s| (*s, 1)).into_iter().collect()
    }

    fn set_healthy(&self, set: &RecordSet) -> bool {
        let check = set.health_check.as_ref().is_none_or(|id| self.check_healthy(id));
        let target = set.alias.as_ref().filter(|a| a.evaluate).is_none_or(|alias| match self.site_at(&alias.dns_name) {
            Some(site) => self.healthy_targets(site) > 0 && !self.dark.contains(&self.site(site).region),
            None => self.zone_of(&alias.dns_name).is_none_or(|zone| {
                // One level is enough for what Route 53 lets people build in one zone here.
                let sets = sets_of(zone, &alias.dns_name, &set.kind);
                sets.is_empty() || sets.iter().any(|s| s.health_check.as_ref().is_none_or(|id| self.check_healthy(id)))
            }),
        });
        check && target
    }

    /// Which sites a user of this app may be sent to right now by its front door.
    pub fn front_door_sites(&self, app: usize) -> BTreeSet<&'static str> {
        let name = self.tenants.get(app).map(|one| normal(&one.front_door)).unwrap_or_default();
        let Some(zone) = self.zone_of(&name) else {
            return BTreeSet::new();
        };
        let mut sites = BTreeSet::new();
        for kind in ["A", "CNAME"] {
            for (set, _) in self.candidates(&sets_of(zone, &name, kind)) {
                let hosts = set.alias.iter().map(|a| &a.dns_name).chain(&set.values);
                sites.extend(hosts.filter_map(|h| self.site_at(h)).map(super::SiteName::word));
            }
        }
        sites
    }

    /// Notes when a front door begins to point elsewhere.
    pub(super) fn look_at_front_door(&mut self) {
        for app in 0..self.front_door_points.len() {
            let sites = self.front_door_sites(app);
            if sites == self.front_door_points[app] {
                continue;
            }
            let words: Vec<&str> = sites.iter().copied().collect();
            let words = if words.is_empty() { "nowhere".to_owned() } else { words.join("+") };
            self.front_door_points[app] = sites;
            let name = self.tenants[app].front_door.clone();
            self.record("front-door", Cause::World, "global", &name, words);
        }
    }
}

enum Found {
    Values(Vec<AnswerRecord>),
    Chain(AnswerRecord),
    Nothing(Outcome),
}

fn sets_of<'a>(zone: &'a Zone, name: &str, kind: &str) -> Vec<&'a RecordSet> {
    zone.live.values().filter(|r| r.name == name && r.kind == kind).collect()
}

fn choose<'a>(candidates: &[(&'a RecordSet, u64)], roll: u64) -> Option<&'a RecordSet> {
    let total: u64 = candidates.iter().map(|(_, w)| w).sum();
    let mut left = roll.checked_rem(total)?;
    for (set, weight) in candidates {
        if left < *weight {
            return Some(set);
        }
        left -= weight;
    }
    None
}

fn soa(zone: &Zone) -> AnswerRecord {
    let value = zone.live.values().find(|r| r.name == zone.name && r.kind == "SOA").and_then(|r| r.values.first()).cloned();
    AnswerRecord { name: zone.name.clone(), ttl: 60, kind: "SOA".to_owned(), value: value.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{ChangeAction, STANDBY_REGION, Traffic, WorldSpec, names};

    fn addresses(world: &mut World, name: &str, now: Millis) -> Vec<String> {
        world.resolve(name, "A", now).records.into_iter().filter(|r| r.kind == "A").map(|r| r.value).collect()
    }

    #[test]
    fn weights_decide_and_zero_everywhere_is_equal() {
        let mut world = World::new(&WorldSpec::lab(1));
        for at in 0..50 {
            assert_eq!(addresses(&mut world, "SHOP.example.com", at), ["127.0.1.11", "127.0.1.12"]);
        }
        let mut primary = world.zones()[0].records.values().find(|r| r.weight == Some(100)).unwrap().clone();
        primary.weight = Some(0);
        world.change_records(names::ZONE_ID, &[(ChangeAction::Upsert, primary)], 100).unwrap();
        let seen: BTreeSet<_> = (2_000..2_100).map(|at| addresses(&mut world, "shop.example.com.", at)).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(world.front_door_sites(0).len(), 2);
    }

    #[test]
    fn failover_follows_the_check_and_both_sick_is_primary() {
        let mut spec = WorldSpec::lab(1);
        spec.traffic = Traffic::S3Switch;
        let mut world = World::new(&spec);
        assert_eq!(addresses(&mut world, "shop.example.com", 10)[0], "127.0.1.11");
        world.put_object(names::BUCKET, names::KEY, Vec::new(), "text/plain", 20).unwrap();
        assert_eq!(addresses(&mut world, "shop.example.com", 1_500)[0], "127.0.2.11");
        let mut secondary = world.zones()[0].records.values().find(|r| r.failover == Some(Failover::Secondary)).unwrap().clone();
        secondary.alias.as_mut().unwrap().evaluate = true;
        world.change_records(names::ZONE_ID, &[(ChangeAction::Upsert, secondary)], 2_000).unwrap();
        assert_eq!(addresses(&mut world, "shop.example.com", 4_000)[0], "127.0.2.11");
        world.set_dark(STANDBY_REGION, true, 5_000);
        assert_eq!(addresses(&mut world, "shop.example.com", 5_001)[0], "127.0.1.11");
    }

    #[test]
    fn chains_and_negative_answers() {
        let mut world = World::new(&WorldSpec::lab(1));
        let answer = world.resolve("db.shop.example.com", "A", 1);
        assert_eq!((answer.records.len(), answer.records[0].kind.as_str()), (2, "CNAME"));
        let none = world.resolve("nothing.example.com", "A", 1);
        assert_eq!((none.outcome, none.soa.is_some()), (Outcome::NxDomain, true));
        assert_eq!(world.resolve("shop.example.com", "AAAA", 1).outcome, Outcome::NoData);
        assert_eq!(world.resolve("example.com", "NS", 1).records.len(), 4);
        assert_eq!(world.resolve("elsewhere.test", "A", 1).outcome, Outcome::Refused);
    }
}
