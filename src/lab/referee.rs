//! The referee: which invariants the world saw broken. Pure over the world's log.

use serde::Serialize;

use super::world::{Cause, Event, SiteName, World};

/// What a run was expected to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it likes; only the invariants count.
    Anything,
    /// Nothing at all may have been changed.
    NoMove,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which: a word from a closed set.
    pub name: &'static str,
    /// What was seen.
    pub detail: String,
}

/// Every invariant that the world saw broken.
pub fn violations(world: &World, expect: Expect) -> Vec<Violation> {
    let events = world.events();
    let mut found = order(world, events);
    found.extend(one_writer(world, events));
    found.extend(never_empty(events));
    found.extend(never_both(events));
    if expect == Expect::NoMove {
        found.extend(no_move(events));
    }
    found
}

fn seen(name: &'static str, detail: String) -> Violation {
    Violation { name, detail }
}

/// No promotion twice, and no writes at the old primary once the new one takes them.
fn one_writer(world: &World, events: &[Event]) -> Vec<Violation> {
    let mut found = Vec::new();
    for database in world.databases().iter().filter(|d| d.promotions > 1) {
        found.push(seen("one-writer", format!("{} was promoted {} times", database.id, database.promotions)));
    }
    let apps = world.tenants().len();
    let accepted = events.iter().filter(|e| e.kind == "promotion-accepted").count();
    if accepted > apps && found.is_empty() {
        found.push(seen("one-writer", format!("{accepted} promotions of {apps} apps took effect")));
    }
    if world.rules().past_writers {
        // Somebody writes on at the old primary on purpose: nothing that a failover could stop there.
        return found;
    }
    for (app, tenant) in world.tenants().iter().enumerate() {
        let at = |site: SiteName| world.acks().iter().filter(move |a| a.app == app && a.site == site).map(|a| a.at_ms);
        let Some(from) = at(SiteName::Standby).next() else { continue };
        let late: Vec<u64> = at(SiteName::Primary).filter(|at| *at > from).collect();
        if let (Some(first), count) = (late.first(), late.len()) {
            let name = &tenant.name;
            let detail =
                format!("{name}: {count} writes at the primary after the standby took its first at {from} ms, the first at {first} ms");
            found.push(seen("one-writer", detail));
        }
    }
    found
}

/// Users who write are not sent to a site whose database does not take writes; unless others than the daemon send them.
fn order(world: &World, events: &[Event]) -> Vec<Violation> {
    let mut found = Vec::new();
    if !world.rules().writes || world.rules().autonomous {
        return found;
    }
    for tenant in world.tenants() {
        let [_, standby] = &tenant.databases;
        let promoted = events.iter().find(|e| e.kind == "promoted" && e.subject == *standby).map_or(usize::MAX, |e| e.seq);
        let sent = events.iter().filter(|e| e.kind == "front-door" && e.subject == tenant.front_door && e.detail.contains("standby"));
        found.extend(
            sent.filter(|e| e.seq < promoted)
                .map(|e| seen("order", format!("{} pointed to {} at {} ms, before {standby} was writable", e.subject, e.detail, e.at_ms))),
        );
    }
    found
}

fn never_empty(events: &[Event]) -> Vec<Violation> {
    let empty = events.iter().filter(|e| e.kind == "front-door" && e.detail == "nowhere");
    empty.map(|e| seen("dns-never-empty", format!("the front door pointed nowhere at {} ms", e.at_ms))).collect()
}

/// Some users here and some there is two apps on one set of data.
fn never_both(events: &[Event]) -> Vec<Violation> {
    let both = events.iter().filter(|e| e.kind == "front-door" && e.detail.contains('+'));
    both.map(|e| seen("dns-never-both", format!("{} pointed to {} at {} ms", e.subject, e.detail, e.at_ms))).collect()
}

fn no_move(events: &[Event]) -> Vec<Violation> {
    let made = events.iter().filter(|e| e.by == Cause::Api);
    made.map(|e| seen("no-move", format!("{} of {} at {} ms", e.kind, e.subject, e.at_ms))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{ChangeAction, STANDBY_REGION, WorldSpec, names};

    fn names_of(world: &World, expect: Expect) -> Vec<&'static str> {
        violations(world, expect).into_iter().map(|v| v.name).collect()
    }

    fn to_standby(world: &mut World, now: u64) {
        let turned = |weight: u64, to: u64| {
            let set = world.zones()[0].records.values().find(|r| r.weight == Some(weight)).unwrap().clone();
            (ChangeAction::Upsert, crate::lab::world::RecordSet { weight: Some(to), ..set })
        };
        let batch = [turned(100, 0), turned(0, 100)];
        world.change_records(names::ZONE_ID, &batch, now).unwrap();
    }

    #[test]
    fn a_proper_move_is_clean() {
        let mut world = World::new(&WorldSpec::lab(1));
        world.write(SiteName::Primary, 10).unwrap();
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 2_000).unwrap();
        to_standby(&mut world, 9_000);
        world.advance(12_000);
        world.write(SiteName::Standby, 12_000).unwrap();
        assert!(violations(&world, Expect::Anything).is_empty());
        assert!(names_of(&world, Expect::NoMove).contains(&"no-move"));
    }

    #[test]
    fn traffic_before_data_and_two_writers_are_seen() {
        let mut world = World::new(&WorldSpec::lab(1));
        to_standby(&mut world, 10);
        world.promote_read_replica(STANDBY_REGION, "shop-replica", None, 2_000).unwrap();
        world.advance(9_000);
        world.write(SiteName::Standby, 9_000).unwrap();
        world.write(SiteName::Primary, 9_001).unwrap();
        assert_eq!(names_of(&world, Expect::Anything), ["order", "one-writer"]);
    }
}
