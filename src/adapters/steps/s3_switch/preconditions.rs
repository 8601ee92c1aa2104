//! What must hold for the switch to move anybody, looked at beforehand: a move asks neither Route 53's control plane nor
//! anything in us-east-1, and an object that is not there looks the same to the world for every reason.

use super::Core;
use super::policy::{Readable, readable};
use crate::adapters::aws::{Failure, Kind, Op, Purpose};
use crate::ports::{ErrorClass, StepError};

impl Core {
    /// Refuses what is certain not to work. What cannot be looked at (denied, silent) is no refusal, but passing.
    pub(super) async fn preconditions(&self) -> Result<(), StepError> {
        let switch = self.switch();
        let useless = self.owner.useless(&self.zone, &self.keys.record, &switch);
        let (blocked, unreadable, useless) = tokio::join!(self.blocked(), self.unreadable(), useless);
        let (mut wrong, mut unread, mut gone) = (Vec::new(), Vec::new(), None);
        for looked in [blocked, unreadable, useless] {
            match looked {
                Ok(words) => wrong.extend(words),
                // Of a bucket that is not there every look at it says so.
                Err(failure) if gone.as_ref() == Some(&failure.code) => {}
                Err(failure) if matches!(failure.code.as_str(), "NoSuchBucket" | "NoSuchHostedZone") => {
                    gone = Some(failure.code);
                    wrong.push(failure.message);
                }
                Err(failure) => unread.push(failure),
            }
        }
        wrong.extend(self.slow());
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
        let none = |failure: &Failure| failure.code == "NoSuchPublicAccessBlockConfiguration";
        let restricts = match self.aws.call_expecting(&op, none, client.get_public_access_block().bucket(bucket).send()).await {
            Ok(answer) => answer.public_access_block_configuration().and_then(|block| block.restrict_public_buckets()).unwrap_or(false),
            Err(failure) if none(&failure) => false,
            Err(failure) => return Err(failure),
        };
        let words = format!(
            "Block Public Access of bucket {bucket} (RestrictPublicBuckets) hides object {} from Route 53's checkers; take it off this bucket",
            self.keys.key
        );
        Ok(restricts.then_some(words).into_iter().collect())
    }

    /// Whether the bucket's policy lets the world read the object. What S3 itself says of a policy, `GetBucketPolicyStatus`,
    /// is of the bucket: one that is public by another of its keys hides this one.
    async fn unreadable(&self) -> Result<Vec<String>, Failure> {
        let (bucket, region, object) = (&self.keys.bucket, &self.keys.region, self.keys.arn());
        let op = Op::new("s3", "GetBucketPolicy", "s3:GetBucketPolicy", region, format!("bucket {bucket}"));
        let client = self.aws.s3(self.zone.account.as_deref(), region, Purpose::Look).await?;
        let text = match self.aws.call(&op, client.get_bucket_policy().bucket(bucket).send()).await {
            Ok(answer) => answer.policy().unwrap_or_default().to_owned(),
            Err(failure) if failure.code == "NoSuchBucketPolicy" => "{}".to_owned(),
            Err(failure) => return Err(failure),
        };
        let found = readable(&text, &object).map_err(|why| Failure::before(&op, Kind::Malformed, "malformed-policy", &why))?;
        let hidden = format!("object {} is hidden from Route 53's checkers, there or not", self.keys.key);
        Ok(match found {
            Readable::Yes | Readable::Perhaps => Vec::new(),
            Readable::Denied => {
                vec![format!("the policy of bucket {bucket} denies s3:GetObject on {object} to everybody, so {hidden}; take that off")]
            }
            Readable::No => vec![format!(
                "no policy of bucket {bucket} allows s3:GetObject on {object} to everybody, so {hidden}; add a statement with Effect Allow, Principal \"*\", Action s3:GetObject and this Resource"
            )],
        })
    }

    /// Whether the check is still turning when the step's time is over, as far as it could be read.
    fn slow(&self) -> Option<String> {
        let takes = self.owner.takes(&self.zone, &self.keys.health_check_id)?;
        (takes >= self.deadline).then(|| {
            format!(
                "health check {} takes up to {} to turn (its interval times its threshold, and one more interval), and the step's deadline is {}; raise `deadline` above that, or lower the check's interval or threshold",
                self.keys.health_check_id,
                humantime::format_duration(takes),
                humantime::format_duration(self.deadline)
            )
        })
    }
}
