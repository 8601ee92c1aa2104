//! Which changes go together: whole requests, in order, within the limits of one batch.

use std::collections::HashSet;

use super::edit::Edit;

/// UPSERTs in one batch: half of the documented 1,000 elements, as an UPSERT counts twice.
pub const MAX_UPSERTS: usize = 500;
/// Characters of values in one batch: half of the documented 32,000, for the same reason.
pub const MAX_CHARACTERS: usize = 16_000;

/// What a request counts: `(elements, characters)`.
pub fn cost(edits: &[Edit]) -> (usize, usize) {
    edits.iter().map(Edit::cost).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// True if a request fits into a batch of its own.
pub fn fits(edits: &[Edit]) -> bool {
    let (elements, characters) = cost(edits);
    elements <= MAX_UPSERTS && characters <= MAX_CHARACTERS
}

/// How many of the first `requests` go into the next batch. A request is never torn: its records move together. One that
/// touches a record of an earlier one waits for the next batch, so that the later wish wins.
pub fn first_batch<'a>(requests: impl Iterator<Item = &'a [Edit]>) -> usize {
    let (mut elements, mut characters, mut count) = (0, 0, 0);
    let mut touched = HashSet::new();
    for edits in requests {
        let (more, longer) = cost(edits);
        let full = elements + more > MAX_UPSERTS || characters + longer > MAX_CHARACTERS;
        let picks: Vec<_> = edits.iter().map(Edit::pick).collect();
        if count > 0 && (full || picks.iter().any(|pick| touched.contains(pick))) {
            break;
        }
        (elements, characters, count) = (elements + more, characters + longer, count + 1);
        touched.extend(picks);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;

    fn edit(name: &str, values: usize) -> Edit {
        let values: Vec<_> = (0..values).map(|n| serde_json::json!({"Value": format!("192.0.2.{n}")})).collect();
        let record: Record =
            serde_json::from_value(serde_json::json!({"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": values})).unwrap();
        Edit::new(&record.clone(), record)
    }

    #[test]
    fn batches_keep_requests_whole_and_within_limits() {
        let requests: Vec<Vec<Edit>> = (0..300).map(|n| vec![edit(&format!("a{n}.x"), 1), edit(&format!("b{n}.x"), 1)]).collect();
        assert_eq!(first_batch(requests.iter().map(Vec::as_slice)), 250);
        let twice = [vec![edit("a.x", 1)], vec![edit("A.x.", 2)]];
        assert_eq!(first_batch(twice.iter().map(Vec::as_slice)), 1);
        assert!(!fits(&[edit("a.x", 501)]));
    }
}
