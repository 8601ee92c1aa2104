//! How a record is changed: in place, or, where its failover role changes, taken away and made anew.
//!
//! A name and type has one PRIMARY and one SECONDARY. Two UPSERTs that swap them pass through two of one role, and whether
//! Route 53 minds is not documented; people report that it does (boto/boto3 issue 1347). What is documented is that one
//! batch deletes a record and creates another in its place in a single operation (API reference of
//! `ChangeResourceRecordSets`), so roles change that way, with every DELETE of the batch before its first CREATE.

use aws_sdk_route53::types::ChangeAction;
use serde_json::{Value, json};

use super::record::{Pick, Record};
use crate::adapters::aws::Failure;
use crate::ports::{ErrorClass, StepError};

/// A batch that is refused for its content; nothing of it was done.
pub(super) const INVALID_BATCH: &str = "InvalidChangeBatch";
/// What Route 53 says of a DELETE of a record that is not, or no longer, as it was read.
const STALE: &[&str] = &["but the values provided do not match the current values", "but it was not found"];
/// Where facts hold what goes for the records that shall stand.
const REPLACES: &str = "replaces";

/// The change of one record.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// What stands there exactly as it was read, if it goes first.
    replaces: Option<Record>,
    becomes: Record,
}

impl Edit {
    /// From what was read to what shall stand.
    pub fn new(was: &Record, becomes: Record) -> Edit {
        let replaces = (was.failover != becomes.failover).then(|| was.clone());
        Edit { replaces, becomes }
    }

    /// What shall stand.
    pub fn becomes(&self) -> &Record {
        &self.becomes
    }

    /// Whether what stands goes first: such a change, sent a second time, is refused.
    pub fn replaces(&self) -> bool {
        self.replaces.is_some()
    }

    /// What names the record within its zone.
    pub fn pick(&self) -> Pick {
        self.becomes.pick()
    }

    /// What it counts towards a batch's limits, before the doubling: a DELETE and a CREATE are the two that an UPSERT counts
    /// as. Where the old record is the larger one, as if the new one were as large.
    pub fn cost(&self) -> (usize, usize) {
        let (old, new) = (self.replaces.as_ref().map_or((0, 0), Record::cost), self.becomes.cost());
        (old.0.max(new.0), old.1.max(new.1))
    }

    /// Writes changes into a step's facts, what shall stand under `key`.
    pub fn note(facts: &mut Value, key: &str, edits: &[Edit]) {
        facts[key] = json!(edits.iter().map(Edit::becomes).collect::<Vec<_>>());
        let replaced: Vec<&Record> = edits.iter().filter_map(|edit| edit.replaces.as_ref()).collect();
        if !replaced.is_empty() {
            facts[REPLACES] = json!(replaced);
        }
    }

    /// What [`Edit::note`] wrote.
    pub fn noted(facts: &Value, key: &str) -> Option<Vec<Edit>> {
        let records = |key: &str| facts.get(key).and_then(|value| serde_json::from_value::<Vec<Record>>(value.clone()).ok());
        let replaced = records(REPLACES).unwrap_or_default();
        let edit = |becomes: Record| Edit { replaces: replaced.iter().find(|was| was.pick() == becomes.pick()).cloned(), becomes };
        Some(records(key)?.into_iter().map(edit).collect())
    }
}

/// The lines of a batch: every DELETE first, whosever it is, as another's CREATE may need its place.
pub fn lines<'a>(edits: impl IntoIterator<Item = &'a Edit>) -> Vec<(ChangeAction, &'a Record)> {
    let (mut lines, mut rest) = (Vec::new(), Vec::new());
    for edit in edits {
        lines.extend(edit.replaces.as_ref().map(|was| (ChangeAction::Delete, was)));
        let action = if edit.replaces() { ChangeAction::Create } else { ChangeAction::Upsert };
        rest.push((action, &edit.becomes));
    }
    lines.extend(rest);
    lines
}

/// What a change's failure means for a step. Where a record is not as it was read, nothing was done, and reading it anew
/// tells what to ask for: somebody changed it meanwhile, or it is our own change, whose answer was lost.
pub fn failed(failure: &Failure) -> StepError {
    let stale = failure.code == INVALID_BATCH && STALE.iter().any(|words| failure.message.contains(words));
    if stale { failure.step_as(ErrorClass::Retry) } else { failure.step() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, role: &str, values: usize) -> Record {
        let values: Vec<_> = (0..values).map(|n| json!({"Value": format!("192.0.2.{n}")})).collect();
        let record =
            json!({"Name": "shop.example.com.", "Type": "A", "SetIdentifier": id, "Failover": role, "TTL": 60, "ResourceRecords": values});
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn only_a_record_whose_role_changes_goes_first_and_all_that_go_go_first() {
        let swapped = |id: &str, from: &str, to: &str| Edit::new(&record(id, from, 1), record(id, to, 1));
        let edits = [
            swapped("a", "PRIMARY", "SECONDARY"),
            Edit::new(&record("x", "PRIMARY", 1), record("x", "PRIMARY", 2)),
            swapped("b", "SECONDARY", "PRIMARY"),
        ];
        let said = |edits: &[Edit]| -> Vec<String> {
            let word = |(action, record): (ChangeAction, &Record)| {
                format!("{} {} {}", action.as_str(), record.set_identifier.as_deref().unwrap(), record.failover.as_deref().unwrap())
            };
            lines(edits).into_iter().map(word).collect()
        };
        let wanted = ["DELETE a PRIMARY", "DELETE b SECONDARY", "CREATE a SECONDARY", "UPSERT x PRIMARY", "CREATE b PRIMARY"];
        assert_eq!(said(&edits), wanted);
        // Through a step's facts they come as they went.
        let mut facts = json!({});
        Edit::note(&mut facts, "becomes", &edits);
        assert_eq!(Edit::noted(&facts, "becomes").unwrap(), edits);
        Edit::note(&mut facts, "none", &[]);
        assert_eq!((Edit::noted(&facts, "none"), Edit::noted(&facts, "other")), (Some(Vec::new()), None));
    }

    #[test]
    fn a_role_that_changes_counts_like_an_upsert_of_the_larger_record() {
        assert_eq!(Edit::new(&record("a", "PRIMARY", 1), record("a", "PRIMARY", 3)).cost().0, 3);
        assert_eq!(Edit::new(&record("a", "PRIMARY", 1), record("a", "SECONDARY", 1)).cost(), (1, 9));
        assert_eq!(Edit::new(&record("a", "PRIMARY", 5), record("a", "SECONDARY", 1)).cost().0, 5);
    }
}
