//! The switch as lines of a person's script.

use super::Keys;
use crate::adapters::route53_owner::{Edit, by_hand};
use crate::adapters::shell::shell_word;
use crate::domain::model::Direction;
use crate::ports::{Inspection, ScriptContext};

fn place(keys: &Keys) -> String {
    format!("--region {} --bucket {} --key {}", shell_word(&keys.region), shell_word(&keys.bucket), shell_word(&keys.key))
}

/// Puts the object, or removes it.
pub(super) fn object(keys: &Keys, put: bool) -> String {
    format!("aws s3api {} {}", if put { "put-object" } else { "delete-object" }, place(keys))
}

/// The records whose roles a pin has swapped, as they shall be again.
pub(super) fn roles(found: &Inspection) -> Option<Vec<Edit>> {
    match found {
        Inspection::Possible(facts) => Edit::noted(facts, "roles"),
        _ => None,
    }
}

/// By the plan's direction alone: when this is written nothing has moved yet, and an object that is put or removed twice
/// is put or removed.
pub(super) fn lines(keys: &Keys, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
    let put = cx.direction == Direction::ToStandby;
    let head = format!("aws s3api head-object {} --query ContentLength --output text", place(keys));
    let mut lines = if put || !keys.pin { Vec::new() } else { unpinned(keys, found, cx) };
    lines.push(object(keys, put));
    lines.push(if put { head } else { format!("if {head} 2>/dev/null; then say 'the object is still there'; false; fi") });
    lines.push(format!(
        "# Users move once health check {} sees it: its interval times its threshold, and then the TTL. Watch: dig +short {}",
        keys.health_check_id, keys.record
    ));
    lines
}

/// Swaps the roles back, if they were swapped when this was written, and goes on only with the primary's record PRIMARY:
/// while the standby's is, the object's removal moves nobody. Roles first, as the daemon has it.
fn unpinned(keys: &Keys, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
    // Nothing to wait for: what was asked for is done by now.
    let ask = |how: &str, wanted: u8, with: bool| {
        format!("wait_for 0 {how} {wanted} {}", by_hand::primaries(&keys.zone_id, &keys.record, &keys.health_check_id, with))
    };
    let words = format!(
        "a PRIMARY record of {} has not check {}: a pin has swapped the roles since this was written, and it cannot swap them back; print it anew, or swap them by hand",
        keys.record, keys.health_check_id
    );
    let (with, without) = (ask("ge", 1, true), ask("is", 0, false));
    let mut lines = Vec::new();
    if let Some(edits) = roles(found) {
        lines.push(by_hand::ask_unless(&[with.clone(), without.clone()], &by_hand::change(&keys.zone_id, &edits).1, cx.limit));
    }
    lines.push(format!("{{ {{ {with} && {without}; }} || {{ say {}; false; }}; }}", shell_word(&words)));
    lines
}
