//! What the replica's status means for its promotion, and what RDS itself said of it.

use std::sync::PoisonError;

use super::Promote;
use crate::adapters::aws::rds::SETTLED;
use crate::ports::{ErrorClass, StepError};

/// States that nothing leads out of by itself.
pub(super) fn lost(status: &str) -> bool {
    matches!(
        status,
        "deleting"
            | "delete-precheck"
            | "failed"
            | "restore-error"
            | "stopped"
            | "stopping"
            | "inaccessible-encryption-credentials"
            | "inaccessible-encryption-credentials-recoverable"
            | "insufficient-capacity"
            | "storage-full"
    ) || status.starts_with("incompatible-")
}

/// States in which a promotion is asked for. The API reference (PromoteReadReplica) rules out `backing-up` alone, and in
/// these the instance is in full use (user guide, "DB instance status"), in those of its storage for hours or days. Whether
/// RDS promotes there is for RDS to say.
pub(super) fn is_usable(status: &str) -> bool {
    (SETTLED.contains(&status) && status != "backing-up") || status.starts_with("configuring-")
}

/// The status at the last inspection.
#[derive(Debug, Default)]
pub(super) struct Looked {
    status: String,
    /// RDS refused to promote from it.
    refused: bool,
}

impl Promote {
    /// Remembers the status, and says whether RDS refused to promote from it: asked again there, it would refuse until the
    /// attempts are spent. `available` is always worth another call: it was something else when it was refused.
    pub(super) fn is_refused(&self, status: &str) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.status != status {
            *looked = Looked { status: status.to_owned(), refused: false };
        }
        looked.refused && status != "available"
    }

    /// Why a planned move does not take an instance without source for a promoted one.
    pub(super) fn stands_alone(&self) -> StepError {
        let message = format!(
            "{}: it stands alone, and this move did not promote it: nothing was replicated to it, so what was written since is not there; build it anew as a replica of the database that is in use, then order the move again",
            self.heading()
        );
        StepError::new(ErrorClass::NeedsPerson, "stands-alone", message)
    }

    /// The refusal of a promotion for the instance's state, with the status that it was asked in.
    pub(super) fn refused(&self, mut error: StepError) -> StepError {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.refused = true;
        if !looked.status.is_empty() {
            error.message.push_str(&format!("; its status was {} when it was looked at", looked.status));
        }
        error
    }
}
