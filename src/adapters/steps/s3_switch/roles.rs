//! The roles of a failover pair: what a pin swaps, and a failback swaps back.

use std::collections::BTreeSet;

use crate::adapters::route53_owner::{Edit, Record};

/// The records' roles as the swap leaves them, or that they have them already.
#[derive(Debug, PartialEq)]
pub(super) enum Swap {
    Done,
    Needed(Vec<Edit>),
}

/// Pinned: the standby's record is PRIMARY and has no check, so that nothing can take traffic off it. Not pinned: the
/// record with our check is PRIMARY. The roles tell which it is, so that a failback needs no memory.
///
/// A swap in one batch that Route 53 might refuse does no harm. Disabling the check, the other way, would: if we were
/// wrong about what a disabled inverted check means, users would be sent back to a stale primary.
pub(super) fn swapped(records: &[Record], check: &str, pin: bool) -> Result<Swap, String> {
    let kinds: BTreeSet<&str> = records.iter().filter(|record| record.failover.is_some()).map(|record| record.kind.as_str()).collect();
    if kinds.is_empty() {
        return Err("has no failover records".to_owned());
    }
    let mut changed = Vec::new();
    for kind in kinds {
        let with = |role: &str| {
            let mut found = records.iter().filter(|record| record.kind == kind && record.failover.as_deref() == Some(role));
            match (found.next(), found.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(format!("type {kind} has not exactly one {role}")),
            }
        };
        let (first, second) = (with("PRIMARY")?, with("SECONDARY")?);
        let pinned = match (first.health_check_id.as_deref(), second.health_check_id.as_deref()) {
            (Some(id), None) if id == check => false,
            (None, None) => true,
            _ => {
                return Err(format!(
                    "type {kind}: the checks are not as expected (PRIMARY with {check}, SECONDARY with none); nothing is swapped"
                ));
            }
        };
        if pinned == pin {
            continue;
        }
        let (mut down, mut up) = (first.clone(), second.clone());
        (down.failover, down.health_check_id) = (Some("SECONDARY".to_owned()), None);
        (up.failover, up.health_check_id) = (Some("PRIMARY".to_owned()), (!pin).then(|| check.to_owned()));
        // With it the target's own health could move traffic without us.
        for alias in [&mut down, &mut up].into_iter().filter_map(|record| record.alias_target.as_mut()) {
            alias.evaluate_target_health = false;
        }
        changed.extend([Edit::new(first, down), Edit::new(second, up)]);
    }
    Ok(if changed.is_empty() { Swap::Done } else { Swap::Needed(changed) })
}
