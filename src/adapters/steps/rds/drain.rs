//! Whether the replica holds what was written before the fence, by CloudWatch's word.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};

use super::Promote;
use crate::adapters::cloudwatch::{self, LagHistory};
use crate::domain::model::LagSample;
use crate::ports::StepContext;

/// How long (microseconds) a reading of the lag is good enough while draining. The step is looked at several times a
/// second, the metric has one datapoint a minute, and GetMetricData has a rate that the account shares.
const LAG_PACE: i64 = 2_000_000;
/// What a reading at the drain's very end may still take; a silent CloudWatch costs no more than this on top of `drain`.
const LAST_READING: Duration = Duration::from_secs(1);
/// What CloudWatch said of the lag, or why it did not, in words.
pub(super) type Reading = Result<LagHistory, String>;

/// The datapoint that shows every write of before the fence replicated.
///
/// What MySQL and MariaDB call their lag is how far the applier is behind the receiver, not behind the source (MySQL manual,
/// `SHOW REPLICA STATUS`, on `Seconds_Behind_Source`): while the link is stalled and nobody has noticed, it is 0 although
/// writes are missing. The receiver notices within `replica_net_timeout`, a minute by default; then the figure is NULL, for
/// which RDS publishes -1. So one 0 proves nothing there, and no figure dates what it was taken behind; a second one in the
/// next minute says that the first hid no stall.
fn proof<'h>(history: &'h LagHistory, engine: &str, fenced: i64) -> Option<&'h LagSample> {
    let behind = |sample: &LagSample| sample.at >= fenced;
    if !measures_the_applier(engine) {
        return history
            .samples
            .iter()
            .rev()
            .find(|sample| behind(sample) && (sample.seconds == 0.0 || sample.replicated_until() >= fenced));
    }
    // With nothing in between: neither a -1, which is no sample, nor a minute that nobody knows.
    let clear = |pair: &&[LagSample]| pair[1].at - pair[0].at == pair[1].period && pair.iter().all(|one| behind(one) && one.seconds == 0.0);
    history.samples.windows(2).rev().find(clear).map(|pair| &pair[1])
}

/// True of the engines whose lag is that of the applier behind the receiver.
fn measures_the_applier(engine: &str) -> bool {
    engine.starts_with("mysql") || engine.starts_with("mariadb")
}

impl Promote {
    /// Is everything that was written before the fence on the replica? `Ok(facts)`: go; `Err(words)`: wait a little.
    pub(super) async fn drained(&self, cx: &StepContext, engine: &str) -> Result<Value, String> {
        let Some(fenced) = cx.fenced_at() else {
            if cx.graceful {
                return Err("a planned move promotes only behind a proven fence, and none is proven".to_owned());
            }
            return Ok(json!({ "drained": false, "evidence": "no fence is proven, so there is nothing to wait for" }));
        };
        let until = fenced + i64::try_from(self.keys.drain.as_micros()).unwrap_or(i64::MAX / 4);
        let words = match &self.lag(cx, until).await {
            Err(why) => format!("the lag is not known: {why}"),
            Ok(history) => {
                if let Some(sample) = proof(history, engine, fenced) {
                    return Ok(json!({ "drained": true, "fenced_at": fenced, "evidence": sample }));
                }
                let newest = match history.samples.last() {
                    _ if history.newest_unknown => "RDS reports its lag as unknown (a negative number)".to_owned(),
                    None => "no lag sample".to_owned(),
                    Some(sample) => format!("newest lag sample {}s as of {}s ago", sample.seconds, (cx.now - sample.at) / 1_000_000),
                };
                let none = match measures_the_applier(engine) {
                    true => "no two in a row yet from after the fence that show lag 0",
                    false => "none yet from after the fence that shows lag 0",
                };
                format!("{newest}; {none}")
            }
        };
        // In an outage the wait is bounded; a planned move loses nothing, and would rather not go.
        if cx.graceful || cx.now < until { Err(words) } else { Ok(json!({ "drained": false, "fenced_at": fenced, "evidence": words })) }
    }

    /// The lag as CloudWatch shows it, asked for no more often than [`LAG_PACE`] and not waited for beyond the drain.
    async fn lag(&self, cx: &StepContext, until: i64) -> Reading {
        let kept = self.reading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, reading)) = kept.filter(|(at, _)| (0..LAG_PACE).contains(&(cx.now - at))) {
            return reading;
        }
        let left = Duration::from_micros(u64::try_from(until - cx.now).unwrap_or(0)).max(LAST_READING).min(cx.time_left);
        let asked = cloudwatch::lag(&self.aws, self.account.as_deref(), &self.region, &self.keys.db_instance, cx.now);
        let reading = match tokio::time::timeout(left, asked).await {
            Ok(answer) => answer.map_err(|failure| failure.message),
            Err(_) => Err(format!("cloudwatch:GetMetricData in {}: no answer within {left:?}", self.region)),
        };
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Some((cx.now, reading.clone()));
        reading
    }
}
