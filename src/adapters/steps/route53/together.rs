//! The step's records among the others of their name and type, looked at beforehand: Route 53 judges a batch by what stands
//! around it, and what it refuses, or answers otherwise than meant, must not show behind a promotion.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What would be wrong with all records of one name, as the step leaves them, in words with what to mend. The config alone
/// shows it where every record is named (`judge_sets`); this is for those that are not.
///
/// Only what the step itself names is judged: weights that somebody else has set to 0 are no reason to hold up another change.
pub(super) fn wrong(after: &[Record], wishes: &[Wish]) -> Vec<String> {
    let mut sets: BTreeMap<(String, &str), Vec<&Record>> = BTreeMap::new();
    for record in after {
        sets.entry((canonical(&record.name), record.kind.as_str())).or_default().push(record);
    }
    let mut found = Vec::new();
    for ((name, kind), set) in sets {
        let of_set = |wish: &&Wish| canonical(&wish.pick.name) == name && wish.pick.kind == kind;
        let named = |wished: fn(&Wish) -> bool| wishes.iter().filter(of_set).any(wished);
        let ids = |some: &[&Record]| {
            let ids: Vec<String> =
                some.iter().map(|record| format!("[{}]", record.set_identifier.as_deref().unwrap_or_default())).collect();
            ids.join(", ")
        };
        for role in ["PRIMARY", "SECONDARY"] {
            let with: Vec<&Record> = set.iter().copied().filter(|record| record.failover.as_deref() == Some(role)).collect();
            if with.len() > 1 && named(|wish| wish.failover.is_some()) {
                found.push(format!(
                    "records {} of {name} {kind} would all be {role}, and Route 53 takes one of each; name each of them in `records` with its `failover`",
                    ids(&with)
                ));
            }
        }
        let weights: Vec<&Record> = set.iter().copied().filter(|record| record.weight.is_some()).collect();
        if weights.len() > 1 && weights.iter().all(|record| record.weight == Some(0)) && named(|wish| wish.weight.is_some()) {
            found.push(format!(
                "records {} of {name} {kind} would all have weight 0, and then Route 53 answers with all of them alike, with those of both sites; name the one that users shall reach in `records` with a `weight` above 0",
                ids(&weights)
            ));
        }
    }
    found
}

impl Records {
    /// The records as the step leaves them, of all records of a name as they are.
    pub(super) fn after(&self, records: &[Record]) -> Vec<Record> {
        let wished = |record: &Record| self.wishes.iter().find(|wish| wish.pick.canonical() == record.pick());
        records.iter().map(|record| wished(record).map_or_else(|| record.clone(), |wish| wish.on(record))).collect()
    }

    /// Refuses what is certain to be wrong. What cannot be read is no refusal, but passing.
    pub(super) async fn among_others(&self) -> Result<(), StepError> {
        let names: BTreeSet<String> = self.wishes.iter().map(|wish| canonical(&wish.pick.name)).collect();
        let mut found = Vec::new();
        for name in names {
            let records = self.owner.every(&self.zone, &name).await.map_err(|failure| failure.step_as(ErrorClass::Retry))?;
            found.extend(wrong(&self.after(&records), &self.wishes));
        }
        if found.is_empty() {
            return Ok(());
        }
        let message = format!("route53: zone {}: after the step, {}", self.zone.id, found.join("; "));
        Err(StepError::new(ErrorClass::Refused, "records-at-odds", message))
    }
}
