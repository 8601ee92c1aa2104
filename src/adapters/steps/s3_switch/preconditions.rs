//! What must hold for the switch to move anybody, looked at beforehand: a move asks neither Route 53's control plane nor
//! anything in us-east-1, and an object that is not there looks the same to the world for every reason.

use super::Core;
use crate::adapters::aws::{Failure, Op, Purpose};
use crate::ports::{ErrorClass, StepError};

impl Core {
    /// Refuses what is certain not to work. What cannot be looked at (denied, silent) is no refusal, but passing.
    pub(super) async fn preconditions(&self) -> Result<(), StepError> {
        let switch = self.switch();
        let (blocked, useless) = tokio::join!(self.blocked(), self.owner.useless(&self.zone, &self.keys.record, &switch));
        let (mut wrong, mut unread) = (Vec::new(), Vec::new());
        for looked in [blocked, useless] {
            match looked {
                Ok(words) => wrong.extend(words),
                Err(failure) if matches!(failure.code.as_str(), "NoSuchBucket" | "NoSuchHostedZone") => wrong.push(failure.message),
                Err(failure) => unread.push(failure),
            }
        }
        if !wrong.is_empty() {
            return Err(StepError::new(ErrorClass::Refused, "switch-moves-nobody", wrong.join("; ")));
        }
        let Some(first) = unread.first() else { return Ok(()) };
        let all: Vec<&str> = unread.iter().map(|failure| failure.message.as_str()).collect();
        let message = format!("whether the switch would work could not be read: {}", all.join("; "));
        Err(StepError::new(ErrorClass::Retry, first.code.clone(), message))
    }

    /// Whether the bucket lets the world see the object, which is put without an ACL and so is public by policy alone.
    ///
    /// Only `RestrictPublicBuckets` takes a policy's effect away: `BlockPublicPolicy` turns new policies away and leaves
    /// one that stands, the other two are about ACLs. The account's own setting adds to this one and cannot be read here:
    /// it is another service's (S3 Control), which we have no client of.
    async fn blocked(&self) -> Result<Vec<String>, Failure> {
        let (bucket, region) = (&self.keys.bucket, &self.keys.region);
        let op = Op::new("s3", "GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock", region, format!("bucket {bucket}"));
        let client = self.aws.s3(self.zone.account.as_deref(), region, Purpose::Look).await?;
        let restricts = match self.aws.call(&op, client.get_public_access_block().bucket(bucket).send()).await {
            Ok(answer) => answer.public_access_block_configuration().and_then(|block| block.restrict_public_buckets()).unwrap_or(false),
            Err(failure) if failure.code == "NoSuchPublicAccessBlockConfiguration" => false,
            Err(failure) => return Err(failure),
        };
        let words = format!(
            "Block Public Access of bucket {bucket} (RestrictPublicBuckets) hides object {} from Route 53's checkers; take it off this bucket",
            self.keys.key
        );
        Ok(restricts.then_some(words).into_iter().collect())
    }
}
