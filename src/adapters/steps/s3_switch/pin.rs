//! The pin: the records' roles swapped behind the switch, so that losing the object later sends nobody back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::proof::moved;
use super::roles::{Swap, swapped};
use crate::adapters::followup::Held;
use crate::adapters::route53_owner::edit;
use crate::ports::{ErrorClass, StepError};

/// How long the follow-up tries. A control plane that is gone for longer leaves the record unpinned, and the follow-up says so.
pub(super) const PIN_LIMIT: Duration = Duration::from_secs(1_800);
/// Pause between its tries.
const PIN_PAUSE: Duration = Duration::from_secs(15);

/// What the zone's own servers answered: before the switch, if that is known, and once it was proven.
pub(super) struct Answers {
    pub(super) before: Option<BTreeSet<IpAddr>>,
    pub(super) after: BTreeSet<IpAddr>,
}

impl Core {
    /// What a follow-up holds while it pins; whoever takes the switch back calls it off by that name.
    pub(super) fn place(&self) -> String {
        format!("roles of {} in zone {}", self.keys.record, self.zone.id)
    }

    /// What a swap of roles would write.
    pub(super) async fn swap(&self, pin: bool) -> Result<Swap, StepError> {
        let records = self.owner.named(&self.zone, &self.keys.record).await.map_err(|failure| failure.step())?;
        swapped(&records, &self.keys.health_check_id, pin).map_err(|why| {
            let message = format!("route53: record {} of zone {}: {why}", self.keys.record, self.zone.id);
            StepError::new(ErrorClass::Refused, "not-a-failover-pair", message)
        })
    }

    /// One try of the swap. The words say what came of it.
    pub(super) async fn pin(&self, pin: bool, within: Duration) -> Result<String, StepError> {
        match self.swap(pin).await? {
            Swap::Done => Ok("the records have these roles already".to_owned()),
            Swap::Needed(edits) => {
                let change = self.owner.change(&self.zone, edits, within).await.map_err(|failure| edit::failed(&failure))?;
                Ok(format!("roles of {} swapped (change {change})", self.keys.record))
            }
        }
    }

    /// The follow-up: tries until the roles are swapped, or the switch has gone back.
    pub(super) async fn keep(self: Arc<Core>, held: Held, answers: Answers) -> Result<String, String> {
        loop {
            let Some(tried) = held.attempt(self.keep_once(&answers)).await else {
                return Ok("not pinned: the switch goes back".to_owned());
            };
            match tried {
                Err(error) if error.class == ErrorClass::Retry => held.rest(PIN_PAUSE).await,
                result => return result.map_err(|error| error.message),
            }
        }
    }

    /// An object that is gone is the very loss that the pin is against: users stay where they are if the roles are swapped
    /// before Route 53's checkers notice. Once they are back, to swap would move them, past every gate: that is a person's
    /// to decide. Whoever deletes the object by hand is pinned like that too; the site that we hold for active is what the
    /// records then say, and a failback leads back.
    async fn keep_once(&self, answers: &Answers) -> Result<String, StepError> {
        if matches!(self.present().await, Ok(false)) && self.are_back(answers).await {
            let message = format!(
                "not pinned: object {}/{} is gone and the zone's own servers answer {} as before the switch",
                self.keys.bucket, self.keys.key, self.keys.record
            );
            return Err(StepError::new(ErrorClass::Refused, "traffic-is-back", message));
        }
        self.pin(true, PIN_PAUSE).await
    }

    /// Whether users are sent where they were sent before the switch; what nobody answers is no sign of it.
    async fn are_back(&self, answers: &Answers) -> bool {
        let Ok(now) = self.answered().await else { return false };
        match &answers.before {
            Some(before) if !before.is_empty() => !before.is_disjoint(&now),
            _ => moved(&answers.after, &now),
        }
    }
}
