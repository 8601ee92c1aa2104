//! The old source, looked for beside the promotion: unfenced and alive, it makes every bound of the loss void.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Promote;
use crate::adapters::aws::rds;
use crate::ports::StepContext;

/// How long and how often the old source is looked for while its replica is being promoted.
const SOURCE_LIMIT: Duration = Duration::from_secs(15 * 60);
const SOURCE_PACE: Duration = Duration::from_secs(5);

/// What is seen of the old source while its replica is promoted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Source {
    /// Nobody looks.
    #[default]
    Unwatched,
    /// No answer yet that means something.
    Watched,
    /// It takes writes: when it was seen (wall, microseconds), and in words.
    Writable(i64, String),
}

impl Promote {
    /// Looks for the old source beside the promotion, which never waits for it: the region may be gone. Unfenced and
    /// available, it can take writes that the promoted instance lacks.
    pub(super) fn watch_source(&self, cx: &StepContext) {
        let Some((region, id)) = cx.before["source"].as_str().and_then(|source| source_of(source, &self.region)) else { return };
        let mut known = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if cx.fenced_at().is_some() || *known != Source::Unwatched {
            return;
        }
        *known = Source::Watched;
        let (aws, account, found, start, now) = (self.aws.clone(), self.account.clone(), self.source.clone(), Instant::now(), cx.now);
        self.followups.start(&cx.step_id, &format!("look at the old source {id}"), SOURCE_LIMIT, async move {
            // Looked for until its replica is promoted and nobody holds the other end any more.
            while Arc::strong_count(&found) > 1 {
                let sent = now + i64::try_from(start.elapsed().as_micros()).unwrap_or(0);
                if let Ok(Some(instance)) = rds::describe(&aws, account.as_deref(), &region, &id).await
                    && instance.source.is_none()
                    && instance.settled()
                {
                    let words = format!("rds: {id} in {region} is {} and stands alone", instance.status);
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = Source::Writable(sent, words.clone());
                    return Ok(words);
                }
                tokio::time::sleep(SOURCE_PACE).await;
            }
            Ok("it was not seen to take writes".to_owned())
        });
    }
}

/// Region and identifier of a source: RDS names one elsewhere by its ARN, one in the replica's own region by its identifier.
fn source_of(source: &str, own: &str) -> Option<(String, String)> {
    match source.split(':').collect::<Vec<_>>().as_slice() {
        [id] if !id.is_empty() => Some((own.to_owned(), (*id).to_owned())),
        ["arn", _, "rds", region, _, "db", id] => Some(((*region).to_owned(), (*id).to_owned())),
        _ => None,
    }
}
