//! A replica's lag, from CloudWatch in the replica's own region: it keeps serving when the primary's is gone.

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat, ScanBy, StatusCode};
use aws_smithy_types::DateTime;

use super::aws::{Aws, Failure, Kind, Op, Purpose};
use crate::domain::model::LagSample;

/// How far back the history goes.
const SPAN_SECONDS: i64 = 15 * 60;
/// The metric's grain: RDS publishes once a minute.
const PERIOD_SECONDS: i64 = 60;
/// Pages of one answer; one is enough for 15 datapoints, so more means that something is wrong.
const MAX_PAGES: usize = 4;

/// What the history says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LagHistory {
    /// The datapoints that mean something, oldest first.
    pub samples: Vec<LagSample>,
    /// The newest datapoint was negative: RDS itself does not know the lag (replication is broken, or it cannot tell).
    pub newest_unknown: bool,
}

/// The call that [`lag`] makes.
pub fn lag_op(region: &str, db_instance: &str) -> Op {
    Op::new("cloudwatch", "GetMetricData", "cloudwatch:GetMetricData", region, format!("ReplicaLag of {db_instance}"))
}

/// `ReplicaLag` of the last 15 minutes, the maximum of each minute. `now`: wall clock, microseconds.
///
/// Minutes without datapoint are simply absent; `-1` means that replication is broken or the lag unknown
/// (MySQL, MariaDB, SQL Server) and never counts as a number.
pub async fn lag(aws: &Aws, account: Option<&str>, region: &str, db_instance: &str, now: i64) -> Result<LagHistory, Failure> {
    let op = lag_op(region, db_instance);
    let client = aws.cloudwatch(account, region, Purpose::Look).await?;
    let minute = now.div_euclid(1_000_000).div_euclid(PERIOD_SECONDS) * PERIOD_SECONDS;
    let metric = Metric::builder()
        .namespace("AWS/RDS")
        .metric_name("ReplicaLag")
        .dimensions(Dimension::builder().name("DBInstanceIdentifier").value(db_instance).build())
        .build();
    let stat = MetricStat::builder().metric(metric).period(PERIOD_SECONDS as i32).stat("Maximum").build();
    let query = MetricDataQuery::builder().id("lag").metric_stat(stat).return_data(true).build();
    let mut points: Vec<(i64, f64)> = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let call = client
            .get_metric_data()
            .metric_data_queries(query.clone())
            .start_time(DateTime::from_secs(minute - SPAN_SECONDS))
            .end_time(DateTime::from_secs(minute + PERIOD_SECONDS))
            .scan_by(ScanBy::TimestampDescending)
            .set_next_token(next.take());
        let answer = aws.call(&op, call.send()).await?;
        for series in answer.metric_data_results().iter().filter(|series| series.id() == Some("lag")) {
            match series.status_code() {
                None | Some(StatusCode::Complete | StatusCode::PartialData) => {}
                Some(StatusCode::Forbidden) => {
                    return Err(Failure::before(
                        &op,
                        Kind::AccessDenied,
                        "Forbidden",
                        "the series says Forbidden; allow cloudwatch:GetMetricData",
                    ));
                }
                Some(other) => {
                    return Err(Failure::before(&op, Kind::Server, other.as_str(), &format!("the series says {}", other.as_str())));
                }
            }
            points.extend(series.timestamps().iter().zip(series.values()).map(|(at, value)| (at.secs(), *value)));
        }
        next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    Ok(history(points))
}

fn history(mut points: Vec<(i64, f64)>) -> LagHistory {
    points.sort_by_key(|(at, _)| *at);
    points.dedup_by_key(|(at, _)| *at);
    let good = |value: f64| value.is_finite() && value >= 0.0;
    LagHistory {
        newest_unknown: points.last().is_some_and(|(_, value)| !good(*value)),
        samples: points
            .into_iter()
            .filter(|(_, value)| good(*value))
            .map(|(at, seconds)| LagSample { at: at * 1_000_000, period: PERIOD_SECONDS * 1_000_000, seconds })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_points_are_no_numbers_and_the_newest_decides() {
        let found = history(vec![(180, -1.0), (60, 2.0), (120, -1.0)]);
        assert!(found.newest_unknown);
        assert_eq!(found.samples.iter().map(|one| (one.at, one.seconds)).collect::<Vec<_>>(), [(60_000_000, 2.0)]);
        let found = history(vec![(180, 0.0), (60, -1.0), (120, f64::NAN)]);
        assert!(!found.newest_unknown);
        assert_eq!(found.samples.len(), 1);
        assert_eq!(history(Vec::new()), LagHistory::default());
    }
}
