//! What proves that users are sent elsewhere: the zone's own servers answer with nothing of what they answered before.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// How long a check takes to turn where no preflight of this process has read it: by Route 53's own defaults, three looks
/// half a minute apart, and one such pause for the servers to hear of it.
const USUAL: Duration = Duration::from_secs(120);

/// What was answered before the switch: nothing, if the name had no address; `None`, if nobody could be asked.
pub(super) fn addresses(facts: &Value) -> Option<BTreeSet<IpAddr>> {
    serde_json::from_value(facts.get("addresses")?.clone()).ok()
}

/// True if the answer is another site's: nothing of what was answered before is left.
pub(super) fn moved(before: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>) -> bool {
    !now.is_empty() && before.is_disjoint(now)
}

/// The proof for want of an answer from before: when the switch was first seen as it shall be, and what was answered then.
#[derive(Debug, Default)]
pub(super) struct Settling(Mutex<Option<(Instant, BTreeSet<IpAddr>)>>);

impl Settling {
    /// What it still waits for, in words; `None`: it is proven as far as it can be.
    ///
    /// The first answer may be the old site's, as the check needs some looks to turn, or already the new one's, as the
    /// servers may have been silent until then; the step knows neither site's addresses. A later answer with nothing of the
    /// first proves the move. Without one it counts as proven once the switch was seen for as long as the check takes to
    /// turn: answers that stay the same until then were the new site's from the first. Where that is wrong (a check slower
    /// than was read, or broken) no harm is done beyond this step: the move itself ends only when the front door is proven to
    /// answer from the target. To wait for another answer without end would leave a move stuck that has succeeded.
    pub(super) fn unsettled(&self, now: &BTreeSet<IpAddr>, takes: Option<Duration>) -> Option<String> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, first) = seen.get_or_insert_with(|| (Instant::now(), now.clone()));
        let limit = takes.unwrap_or(USUAL);
        (!moved(first, now) && since.elapsed() < limit).then(|| {
            format!(
                "what the zone's own servers answered before the switch is not known, so they must answer otherwise than at first, or {}s must pass",
                limit.as_secs()
            )
        })
    }

    /// The switch is not as it shall be: what was seen of it counts no more.
    pub(super) fn begin_anew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
