//! `cloudwatch`: any metric with a threshold: error rate, healthy hosts, status checks, Route 53's own view.
//!
//! CloudWatch is late (two minutes are usual for AWS's own metrics) and grained (a minute at best), so this is a second
//! vantage and not a fast one. A datapoint counts once, however often it is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapters::Adapters;
use crate::adapters::aws::{Aws, Failure};
use crate::adapters::cloudwatch::{self, Point, Series};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::domain::model::{Cause, Finding, Verdict, words};
use crate::ports::{ErrorClass, Permission, Probe, StepError};

/// The statistics that have no figure in their name.
const STATISTICS: &[&str] = &["Average", "Sum", "Minimum", "Maximum", "SampleCount"];
/// Below a minute only these periods exist (CloudWatch API reference, `MetricStat`).
const SHORT_PERIODS: &[i64] = &[1, 5, 10, 20, 30];
/// A day is the longest period.
const LONGEST_PERIOD: i64 = 86_400;
/// How late CloudWatch shows AWS's own metrics as a rule
/// (<https://docs.datadoghq.com/integrations/guide/cloud-metric-delay/>).
const USUALLY_LATE: i64 = 120;
/// Where Route 53 publishes its metrics, wherever the daemon stands.
const ROUTE53_REGION: &str = "us-east-1";

/// The kind's entry in the registry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "cloudwatch",
    doc: "One CloudWatch metric against a threshold, in any region and account. Late and grained, so better a second vantage than the only one; a datapoint counts once.",
    keys: KEYS,
    aws: true,
    replica: false,
    judge,
    build,
    permissions,
};

const KEYS: &[KeyDoc] = &[
    KeyDoc { name: "namespace", form: "string", default: "", doc: "Such as `AWS/ApplicationELB`." },
    KeyDoc { name: "metric", form: "string", default: "", doc: "Such as `HealthyHostCount`." },
    KeyDoc {
        name: "dimensions",
        form: "{ Name = \"value\", … }",
        default: "{}",
        doc: "All that the metric is published under: CloudWatch knows no other combination, and answers a wrong one with nothing at all.",
    },
    KeyDoc {
        name: "statistic",
        form: "\"Average\", \"Sum\", \"Minimum\", \"Maximum\", \"SampleCount\" or \"p99\"",
        default: "\"Average\"",
        doc: "How a period's values become one.",
    },
    KeyDoc {
        name: "period",
        form: "duration: 1, 5, 10, 20 or 30 seconds, or whole minutes",
        default: "\"1m\"",
        doc: "What one datapoint covers. Longer: smoother, and later by as much. AWS's own metrics have a minute at best.",
    },
    KeyDoc {
        name: "per",
        form: "string",
        default: "none",
        doc: "Another metric of the same namespace, dimensions and statistic to divide by: `metric = \"HTTPCode_ELB_5XX_Count\"`, `per = \"RequestCount\"` is an error rate. A period in which only this one has a value counts as 0.",
    },
    KeyDoc {
        name: "down_when",
        form: "comparison and number: \"> 0.05\", \"< 1\", \">= 5\", \"<= 0\"",
        default: "",
        doc: "The datapoint says down when this holds, else up. `fall` and `rise` count datapoints.",
    },
    KeyDoc {
        name: "missing",
        form: "\"unknown\" | \"up\" | \"down\"",
        default: "\"unknown\"",
        doc: "What no datapoint (or only one older than stale_after) means. \"up\" for counts that AWS leaves out when they are zero, such as HTTPCode_ELB_5XX_Count: the last datapoint stands until stale_after, as the next may only be late, so the signal comes back up that long after the last bad period began, and a shorter pause between two bad periods is not seen; with `per` a period with requests and no errors is up as soon as it shows. \"down\" for a heartbeat of your own. A call that fails stays unknown.",
    },
    KeyDoc {
        name: "stale_after",
        form: "duration",
        default: "\"5m\", or three periods if that is more",
        doc: "A newest datapoint that began longer ago is missing. AWS shows its own metrics about two minutes late, and some later; raising it lets older figures decide. With `missing = \"up\"` it must outlast two periods and the delay: the default does up to a delay of three minutes.",
    },
];

words! {
    /// What the absence of a datapoint means.
    Missing { Unknown = "unknown", Up = "up", Down = "down" }
}

words! {
    /// How a datapoint is compared. Longer signs first, so that `>=` is not read as `>`.
    Comparison { AtLeast = ">=", AtMost = "<=", Above = ">", Below = "<" }
}

/// The comparison and the figure of `down_when`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Threshold {
    comparison: Comparison,
    figure: f64,
}

impl Threshold {
    fn parse(text: &str) -> Result<Threshold, String> {
        let form = "write a comparison and a number, like \"> 0.05\", \"< 1\", \">= 5\" or \"<= 0\"";
        let text = text.trim();
        let Some(comparison) = Comparison::ALL.iter().copied().find(|sign| text.starts_with(sign.as_str())) else {
            return Err(format!("{text:?} begins with no comparison; {form}"));
        };
        match text[comparison.as_str().len()..].trim().parse::<f64>() {
            Ok(figure) if figure.is_finite() => Ok(Threshold { comparison, figure }),
            _ => Err(format!("{text:?} has no number after {comparison}; {form}")),
        }
    }

    fn crossed(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::AtLeast => value >= self.figure,
            Comparison::AtMost => value <= self.figure,
            Comparison::Above => value > self.figure,
            Comparison::Below => value < self.figure,
        }
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;
    fn try_from(text: String) -> Result<Threshold, String> {
        Threshold::parse(&text)
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        threshold.to_string()
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.comparison, self.figure)
    }
}

/// The kind's keys, judged; times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Keys {
    namespace: String,
    metric: String,
    dimensions: BTreeMap<String, String>,
    statistic: String,
    period: i64,
    per: Option<String>,
    down_when: Threshold,
    missing: Missing,
    stale_after: i64,
}

fn judge(table: &Table, place: &SignalPlace) -> Option<Value> {
    let before = table.problems().len();
    let namespace = table.need_string("namespace", "such as \"AWS/ApplicationELB\"");
    let metric = table.need_string("metric", "such as \"HealthyHostCount\"");
    if namespace.as_deref() == Some("AWS/Route53") && place.region != ROUTE53_REGION && !place.region.is_empty() {
        table.fault("region", format!("Route 53 publishes its metrics in {ROUTE53_REGION} alone; write region = \"{ROUTE53_REGION}\""));
    }
    let mut dimensions = BTreeMap::new();
    if table.has("dimensions") {
        let inner = table.table("dimensions");
        for (name, value) in inner.entries() {
            match value.as_str() {
                Some(text) if !text.is_empty() => drop(dimensions.insert(name, text.to_owned())),
                _ => inner.fault(&name, "is not a dimension's value; give it as a string"),
            }
        }
        inner.finish();
    }
    let statistic = table.string("statistic").unwrap_or_else(|| "Average".to_owned());
    if !STATISTICS.contains(&statistic.as_str()) && !percentile(&statistic) {
        table.fault(
            "statistic",
            format!("{statistic:?} is not a statistic; give one of {} or a percentile like \"p99\" or \"p99.9\"", STATISTICS.join(", ")),
        );
    }
    let length = table.duration("period", Duration::from_secs(60));
    let period = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    if length.subsec_nanos() != 0 || !(SHORT_PERIODS.contains(&period) || (period > 0 && period % 60 == 0 && period <= LONGEST_PERIOD)) {
        table.fault("period", "CloudWatch has no such period; give 1s, 5s, 10s, 20s, 30s, or whole minutes up to a day");
    }
    let per = table.string("per").filter(|text| {
        !text.trim().is_empty() || {
            table.fault("per", "is empty; name the metric to divide by, or leave it out");
            false
        }
    });
    if per.is_some() && per == metric {
        table.fault("per", "is the metric itself, so the quotient is always 1; name another one");
    }
    let down_when = table
        .need_string("down_when", "a comparison and a number, like \"> 0.05\"")
        .and_then(|text| Threshold::parse(&text).map_err(|problem| table.fault("down_when", problem)).ok());
    let missing = table.word("missing", Missing::ALL, Missing::as_str, Missing::Unknown);
    let default = Duration::from_secs(u64::try_from(period.saturating_mul(3)).unwrap_or_default().max(300));
    let stale_after = i64::try_from(table.some_duration("stale_after", default).as_secs()).unwrap_or(i64::MAX);
    // Before the next datapoint shows, the newest has begun two periods and the delay ago: absence that is good must not be
    // said of it until then.
    let (periods, words) = match missing {
        Missing::Up => (
            2,
            "two periods and the two minutes by which CloudWatch is late: while all of them are bad, each would be taken back before the next shows",
        ),
        Missing::Unknown | Missing::Down => (1, "a period and the two minutes by which CloudWatch is late: every datapoint would be stale"),
    };
    let least = period.saturating_mul(periods).saturating_add(USUALLY_LATE);
    if stale_after < least && namespace.as_deref().is_some_and(|name| name.starts_with("AWS/")) {
        let shown = humantime::format_duration(Duration::from_secs(u64::try_from(least).unwrap_or_default()));
        table.fault("stale_after", format!("is less than {words}; give {shown} or more"));
    }
    if table.problems().len() > before {
        return None;
    }
    let keys =
        Keys { namespace: namespace?, metric: metric?, dimensions, statistic, period, per, down_when: down_when?, missing, stale_after };
    serde_json::to_value(keys).ok()
}

/// `p50`, `p99.9`.
fn percentile(text: &str) -> bool {
    let figure = text.strip_prefix('p').filter(|figure| figure.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    figure.and_then(|figure| figure.parse::<f64>().ok()).is_some_and(|figure| (0.0..=100.0).contains(&figure))
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let keys: Keys = serde_json::from_value(spec.keys.clone()).map_err(|cause| {
        StepError::new(
            ErrorClass::Refused,
            "bad-keys",
            format!("signal {}: its stored keys do not make a cloudwatch signal: {cause}", spec.name),
        )
    })?;
    let series = |metric: &str| Series {
        namespace: keys.namespace.clone(),
        metric: metric.to_owned(),
        dimensions: keys.dimensions.clone(),
        period: keys.period,
        statistic: keys.statistic.clone(),
    };
    let series = std::iter::once(&keys.metric).chain(&keys.per).map(|metric| series(metric)).collect();
    Ok(Arc::new(Watched { aws: adapters.aws.clone(), account: spec.account.clone(), region: spec.region.clone(), series, keys }))
}

fn permissions(spec: &SignalSpec) -> Vec<Permission> {
    // GetMetricData takes no resource.
    vec![Permission { action: "cloudwatch:GetMetricData".into(), resource: "*".into(), account: spec.account.clone() }]
}

struct Watched {
    aws: Aws,
    account: Option<String>,
    region: String,
    series: Vec<Series>,
    keys: Keys,
}

#[async_trait]
impl Probe for Watched {
    async fn look(&self, timeout: Duration, now: i64) -> Finding {
        let now = now.div_euclid(1_000_000);
        let op = cloudwatch::data_op(&self.region, format!("{} {}", self.keys.namespace, self.keys.metric));
        let period = self.keys.period;
        let from = (now - self.keys.stale_after.saturating_add(period)).div_euclid(period) * period;
        let series: Vec<&Series> = self.series.iter().collect();
        let call = cloudwatch::read(&self.aws, self.account.as_deref(), &op, &series, (from, now + period));
        match tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(Failure::late(&op, timeout))) {
            Ok(points) => said(&self.keys, points, now),
            Err(failure) => Finding::new(failure.verdict(), failure.message),
        }
    }
}

/// The verdict over the newest datapoint whose period is over: before that a sum still grows, and an average still moves.
fn said(keys: &Keys, mut points: Vec<Vec<Point>>, now: i64) -> Finding {
    let per = if keys.per.is_some() { points.pop() } else { None };
    let points = points.pop().unwrap_or_default();
    let name = match &keys.per {
        Some(per) => format!("{} per {per}", keys.metric),
        None => format!("{} {}", keys.metric, keys.statistic),
    };
    let over = |at: i64| at + keys.period <= now;
    let newest = match &per {
        None => points.iter().rev().copied().find(|(at, value)| over(*at) && value.is_finite()),
        Some(per) => per.iter().rev().filter(|(at, value)| over(*at) && *value > 0.0).find_map(|(at, whole)| {
            let part = points.iter().find(|(one, _)| one == at).map_or(0.0, |(_, value)| *value);
            Some((*at, part / whole)).filter(|(_, share)| share.is_finite())
        }),
    };
    // A datapoint that is not there yet is no word, wherever AWS leaves out what is zero: for minutes nobody can tell one that
    // is late from one that never comes. Taken for a good minute, each late one would take back the bad one before it, and a
    // lasting outage would be confirmed never. The last word stands, counted once, until it is stale.
    let fresh = newest.filter(|(at, _)| now - at <= keys.stale_after);
    let Some((at, value)) = fresh else {
        let words = match newest {
            Some((at, _)) => format!("the newest datapoint of {name} began {}s ago, longer than {}s", now - at, keys.stale_after),
            None => format!("no datapoint of {name} in {}s", keys.stale_after),
        };
        let cause = if newest.is_some() { Cause::Stale } else { Cause::NoData };
        let verdict = match keys.missing {
            Missing::Unknown => Verdict::Unknown(cause),
            Missing::Up => Verdict::Up,
            Missing::Down => Verdict::Down(cause),
        };
        // Its absence counts once a period, as its presence would.
        let evidence = now.div_euclid(keys.period) * keys.period;
        return Finding {
            evidence: Some(evidence * 1_000_000),
            ..Finding::new(verdict, format!("{words} (missing = \"{}\")", keys.missing))
        };
    };
    let verdict = if keys.down_when.crossed(value) { Verdict::Down(Cause::Threshold) } else { Verdict::Up };
    let shown = (value * 1e4).round() / 1e4;
    let words = format!("{name} {shown} in the {}s from {}s ago, down when {}", keys.period, now - at, keys.down_when);
    Finding { evidence: Some(at * 1_000_000), ..Finding::new(verdict, words) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::judge::Problems;
    use crate::domain::health::SignalHealth;
    use crate::domain::model::{Health, Look, SiteName, Subject};
    use crate::domain::policy::SignalPolicy;

    fn judged(value: Value, region: &str) -> (Option<Keys>, Vec<String>) {
        let problems = Problems::default();
        let Value::Object(map) = value else { unreachable!() };
        let table = Table::new("signal.errors", map, &problems);
        let found = judge(&table, &SignalPlace { region: region.into(), ..SignalPlace::default() });
        table.raw("region");
        table.finish();
        (found.map(|keys| serde_json::from_value(keys).unwrap()), problems.take().iter().map(ToString::to_string).collect())
    }

    fn keys(more: Value) -> Keys {
        let mut all = json!({"namespace": "AWS/ApplicationELB", "metric": "HTTPCode_ELB_5XX_Count", "down_when": "> 10",
            "dimensions": {"LoadBalancer": "app/a/1"}, "statistic": "Sum"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (found, said) = judged(all, "eu-west-1");
        assert!(said.is_empty(), "{said:?}");
        found.unwrap()
    }

    #[test]
    fn the_newest_period_that_is_over_decides_and_dates_the_verdict() {
        let keys = keys(json!({}));
        let found = said(&keys, vec![vec![(600, 3.0), (660, 11.0), (720, 2.0)]], 740);
        assert_eq!(
            (found.verdict, found.evidence),
            (Verdict::Down(Cause::Threshold), Some(660_000_000)),
            "720 still grows: {}",
            found.detail
        );
        let found = said(&keys, vec![vec![(600, 3.0), (660, 11.0), (720, 2.0)]], 780);
        assert_eq!((found.verdict, found.evidence), (Verdict::Up, Some(720_000_000)), "{}", found.detail);
        assert_eq!(said(&keys, vec![vec![(660, 10.0)]], 780).verdict, Verdict::Up, "ten is not above ten");
    }

    #[test]
    fn absence_is_what_the_config_says_and_counts_once_a_period() {
        for (word, verdict) in [("unknown", Verdict::Unknown(Cause::NoData)), ("up", Verdict::Up), ("down", Verdict::Down(Cause::NoData))] {
            let keys = keys(json!({"missing": word}));
            let found = said(&keys, vec![Vec::new()], 1_000);
            assert_eq!((found.verdict, found.evidence), (verdict, Some(960_000_000)), "{}", found.detail);
        }
        let keys = keys(json!({}));
        assert_eq!(said(&keys, vec![vec![(600, 99.0)]], 901).verdict, Verdict::Unknown(Cause::Stale));
        assert_eq!(said(&keys, vec![vec![(600, 99.0)]], 900).verdict, Verdict::Down(Cause::Threshold));
        assert_eq!(said(&keys, vec![vec![(600, f64::NAN)]], 700).verdict, Verdict::Unknown(Cause::NoData));
    }

    #[test]
    fn where_absence_is_good_it_ends_what_a_bad_minute_said_once_that_is_stale() {
        let up = keys(json!({"missing": "up"}));
        let at = |now: i64| said(&up, vec![vec![(600, 99.0)]], now);
        for now in [660, 840, 900] {
            let found = at(now);
            assert_eq!((found.verdict, found.evidence), (Verdict::Down(Cause::Threshold), Some(600_000_000)), "{}", found.detail);
        }
        let found = at(901);
        assert_eq!((found.verdict, found.evidence), (Verdict::Up, Some(900_000_000)), "{}", found.detail);
        // What is missing means nothing elsewhere.
        assert_eq!(said(&keys(json!({})), vec![vec![(600, 99.0)]], 901).verdict, Verdict::Unknown(Cause::Stale));
        // A period that had requests and no errors says so itself.
        let rate = keys(json!({"missing": "up", "per": "RequestCount", "down_when": ">= 0.05"}));
        let found = said(&rate, vec![vec![(600, 50.0)], vec![(600, 100.0), (660, 100.0)]], 840);
        assert_eq!((found.verdict, found.evidence), (Verdict::Up, Some(660_000_000)), "{}", found.detail);
        assert_eq!(said(&rate, vec![vec![(600, 50.0)], vec![(600, 100.0)]], 900).verdict, Verdict::Down(Cause::Threshold));
    }

    #[test]
    fn an_outage_whose_datapoints_are_late_goes_down_once_and_comes_back_in_time() {
        for late in [60, 120, 150, 180] {
            let up = keys(json!({"missing": "up"}));
            let (first, last) = (6_000, 6_600);
            let mut health = SignalHealth::default();
            let pace = Duration::from_secs(15);
            let usual = crate::domain::fixtures::signal("errors", false);
            let policy = SignalPolicy { fall: 2, rise: 1, window: None, interval: pace, fast_interval: pace, timeout: pace, ..usual };
            let mut turns = Vec::new();
            for now in (5_700..8_000).step_by(15) {
                let from = (now - up.stale_after - 60).div_euclid(60) * 60;
                let visible = (first..=last).step_by(60).filter(|at| at + 60 + late <= now && *at >= from).map(|at| (at, 500.0));
                let (at, finding) = (crate::domain::fixtures::at(now), said(&up, vec![visible.collect()], now));
                health.take(&policy, &Look { subject: Subject::Signal(SiteName::Primary, 0), sent: at, done: at, finding });
                let seen = health.health(&policy, at);
                if seen != Health::Unknown && turns.last().is_none_or(|(_, was)| *was != seen) {
                    turns.push((now, seen));
                }
            }
            let words: Vec<Health> = turns.iter().map(|(_, health)| *health).collect();
            assert_eq!(words, [Health::Up, Health::Down, Health::Up], "{late}s late: {turns:?}");
            assert!(turns[1].0 <= first + 120 + late + 15, "with its second datapoint: {turns:?}");
            assert!(turns[2].0 <= last + 300 + 15, "{turns:?}");
        }
    }

    #[test]
    fn a_rate_is_of_one_and_the_same_period() {
        let keys = keys(json!({"per": "RequestCount", "down_when": ">= 0.05"}));
        let found = said(&keys, vec![vec![(600, 50.0), (720, 9.0)], vec![(600, 100.0), (660, 100.0), (720, 100.0)]], 790);
        assert_eq!((found.verdict, found.evidence), (Verdict::Down(Cause::Threshold), Some(720_000_000)), "{}", found.detail);
        let found = said(&keys, vec![vec![(600, 50.0)], vec![(600, 100.0), (660, 100.0)]], 790);
        assert_eq!((found.verdict, found.evidence), (Verdict::Up, Some(660_000_000)), "no error is left out by AWS: {}", found.detail);
        let found = said(&keys, vec![vec![(600, 50.0)], Vec::new()], 700);
        assert_eq!(found.verdict, Verdict::Unknown(Cause::NoData), "nobody asked, so there is no rate");
    }

    #[test]
    fn every_problem_of_the_keys_is_named() {
        let (found, said) = judged(
            json!({"namespace": "AWS/Route53", "metric": "M", "per": "M", "dimensions": {"HealthCheckId": 5}, "statistic": "Avg", "period": "45s",
                "down_when": "5", "missing": "dwon", "stale_after": "1m", "treshold": 1}),
            "eu-west-1",
        );
        assert!(found.is_none());
        for part in [
            "region: Route 53 publishes its metrics in us-east-1 alone",
            "per: is the metric itself",
            "dimensions.HealthCheckId: is not a dimension's value",
            "statistic: \"Avg\" is not a statistic",
            "period: CloudWatch has no such period",
            "down_when: \"5\" begins with no comparison",
            "missing: \"dwon\" is not one of",
            "stale_after: is less than a period",
            "treshold: unknown key",
        ] {
            assert!(said.iter().any(|line| line.contains(part)), "{part}\n{said:#?}");
        }
        let short = |missing: &str| {
            let more = json!({"missing": missing, "stale_after": "3m", "namespace": "AWS/RDS", "metric": "M", "down_when": "> 1"});
            judged(more, "eu-west-1").1
        };
        assert_eq!((short("unknown"), short("down")), (Vec::new(), Vec::new()));
        assert!(short("up")[0].contains("is less than two periods and the two minutes") && short("up")[0].ends_with("give 4m or more"));
        for text in ["> ", "> x", ">> 1", "== 1", "> NaN", "> inf", ""] {
            assert!(Threshold::parse(text).is_err(), "{text}");
        }
        assert_eq!(Threshold::parse(">=-1.5").unwrap().to_string(), ">= -1.5");
        assert!(percentile("p99.9") && !percentile("p101") && !percentile("p") && !percentile("px"));
    }
}
