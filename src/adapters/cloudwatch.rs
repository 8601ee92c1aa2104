//! CloudWatch's figures, as signals read them: one call, every page, every series judged for what it is.
//!
//! A replica's lag is asked for in the replica's own region, which keeps serving it when the primary's is gone.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy, StatusCode};
use aws_smithy_types::DateTime;

use super::aws::{Aws, Failure, Kind, Op, Purpose};
use crate::domain::model::LagSample;

/// How far back the lag's history goes.
const SPAN_SECONDS: i64 = 15 * 60;
/// The lag's grain: RDS publishes once a minute.
const PERIOD_SECONDS: i64 = 60;
/// Pages of one answer; one is enough for the few datapoints that are asked for, so more means that something is wrong.
const MAX_PAGES: usize = 4;

/// One metric's datapoints: what is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// `AWS/ApplicationELB`.
    pub namespace: String,
    /// `HTTPCode_ELB_5XX_Count`.
    pub metric: String,
    /// Every dimension that the metric is published under; CloudWatch knows no other combination.
    pub dimensions: BTreeMap<String, String>,
    /// Seconds that one datapoint covers.
    pub period: i64,
    /// `Sum`, `p99` …
    pub statistic: String,
}

/// When a datapoint's period began (seconds since 1970), and its value.
pub type Point = (i64, f64);

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
    data_op(region, format!("ReplicaLag of {db_instance}"))
}

/// The call that [`read`] makes, about `subject`.
pub fn data_op(region: &str, subject: String) -> Op {
    Op::new("cloudwatch", "GetMetricData", "cloudwatch:GetMetricData", region, subject)
}

/// `ReplicaLag` of the last 15 minutes, the maximum of each minute. `now`: wall clock, microseconds.
///
/// Minutes without datapoint are simply absent; `-1` means that replication is broken or the lag unknown
/// (MySQL, MariaDB, SQL Server) and never counts as a number.
pub async fn lag(aws: &Aws, account: Option<&str>, region: &str, db_instance: &str, now: i64) -> Result<LagHistory, Failure> {
    let series = Series {
        namespace: "AWS/RDS".to_owned(),
        metric: "ReplicaLag".to_owned(),
        dimensions: BTreeMap::from([("DBInstanceIdentifier".to_owned(), db_instance.to_owned())]),
        period: PERIOD_SECONDS,
        statistic: "Maximum".to_owned(),
    };
    let minute = now.div_euclid(1_000_000).div_euclid(PERIOD_SECONDS) * PERIOD_SECONDS;
    let span = (minute - SPAN_SECONDS, minute + PERIOD_SECONDS);
    let mut found = read(aws, account, &lag_op(region, db_instance), &[&series], span).await?;
    Ok(history(found.pop().unwrap_or_default()))
}

/// The datapoints of each series within `[from, to)` (seconds since 1970), oldest first; in one call, as one moment saw
/// them. A period without a datapoint is absent, which is neither zero nor an error.
///
/// # Errors
/// The call failed, or CloudWatch says of a series that it may not or could not be read.
pub async fn read(
    aws: &Aws,
    account: Option<&str>,
    op: &Op,
    series: &[&Series],
    (from, to): (i64, i64),
) -> Result<Vec<Vec<Point>>, Failure> {
    let client = aws.cloudwatch(account, &op.region, Purpose::Look).await?;
    let queries: Vec<MetricDataQuery> = series.iter().enumerate().map(|(at, series)| query(&id(at), series)).collect();
    let mut points: Vec<Vec<Point>> = vec![Vec::new(); series.len()];
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let call = client
            .get_metric_data()
            .set_metric_data_queries(Some(queries.clone()))
            .start_time(DateTime::from_secs(from))
            .end_time(DateTime::from_secs(to))
            .scan_by(ScanBy::TimestampDescending)
            .set_next_token(next.take());
        let answer = aws.call(op, call.send()).await?;
        for result in answer.metric_data_results() {
            let Some(at) = (0..series.len()).find(|at| result.id() == Some(&id(*at))) else { continue };
            readable(op, result)?;
            points[at].extend(result.timestamps().iter().zip(result.values()).map(|(at, value)| (at.secs(), *value)));
        }
        next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    for points in &mut points {
        points.sort_by_key(|(at, _)| *at);
        points.dedup_by_key(|(at, _)| *at);
    }
    Ok(points)
}

/// A query's name; it must begin with a small letter.
fn id(at: usize) -> String {
    format!("m{at}")
}

fn query(id: &str, series: &Series) -> MetricDataQuery {
    let dimensions = series.dimensions.iter().map(|(name, value)| Dimension::builder().name(name).value(value).build()).collect();
    let metric = Metric::builder().namespace(&series.namespace).metric_name(&series.metric).set_dimensions(Some(dimensions)).build();
    let period = i32::try_from(series.period).unwrap_or(i32::MAX);
    let stat = MetricStat::builder().metric(metric).period(period).stat(&series.statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).return_data(true).build()
}

/// The status stands beside each series, and the call is a success whatever it says.
fn readable(op: &Op, result: &MetricDataResult) -> Result<(), Failure> {
    match result.status_code() {
        None | Some(StatusCode::Complete | StatusCode::PartialData) => Ok(()),
        Some(StatusCode::Forbidden) => {
            Err(Failure::before(op, Kind::AccessDenied, "Forbidden", "the series says Forbidden; allow cloudwatch:GetMetricData"))
        }
        Some(other) => Err(Failure::before(op, Kind::Server, other.as_str(), &format!("the series says {}", other.as_str()))),
    }
}

fn history(points: Vec<Point>) -> LagHistory {
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
        let found = history(vec![(60, 2.0), (120, -1.0), (180, -1.0)]);
        assert!(found.newest_unknown);
        assert_eq!(found.samples.iter().map(|one| (one.at, one.seconds)).collect::<Vec<_>>(), [(60_000_000, 2.0)]);
        let found = history(vec![(60, -1.0), (120, f64::NAN), (180, 0.0)]);
        assert!(!found.newest_unknown);
        assert_eq!(found.samples.len(), 1);
        assert_eq!(history(Vec::new()), LagHistory::default());
    }
}
