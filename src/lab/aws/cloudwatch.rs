//! CloudWatch in its three protocols.

use super::alarms;
use super::value::Value;
use super::wire::{Call, Style};
use super::{Answer, unknown};
use crate::lab::serve::text;
use crate::lab::world::{ApiError, MetricKey, Millis, World};

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    let body = body(call)?;
    let input = Value::read(call.style, &body, &call.form)?;
    let output = match call.operation.as_str() {
        "GetMetricData" => data(world, call, &input, now)?,
        "GetMetricStatistics" => statistics(world, call, &input, now)?,
        "PutMetricData" => {
            put(world, call, &input, now)?;
            if call.style == Style::Json {
                return Ok(text(200, "application/x-amz-json-1.0", "{}"));
            }
            Value::Map(Vec::new())
        }
        "ListMetrics" => list(world, call, &input),
        "DescribeAlarms" => alarms::describe(world, call, &input),
        "PutMetricAlarm" | "PutCompositeAlarm" | "DeleteAlarms" | "SetAlarmState" => {
            alarms::change(world, call, &input, now)?;
            Value::Map(Vec::new())
        }
        _ => return Err(unknown(call)),
    };
    Ok(output.answer(call.style, &call.operation, 200))
}

/// Newer SDKs compress large metric bodies; the lab has no use for that and says so.
fn body(call: &Call) -> Result<Vec<u8>, ApiError> {
    if call.header("content-encoding").contains("gzip") {
        let message = "the lab takes no compressed bodies: set AWS_DISABLE_REQUEST_COMPRESSION=true";
        return Err(ApiError::new(400, "InvalidParameterValue", message));
    }
    Ok(call.body.to_vec())
}

pub(super) fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

pub(super) fn key(region: &str, from: &Value) -> Result<MetricKey, ApiError> {
    let need =
        |name: &str| from.word(name).ok_or_else(|| ApiError::new(400, "MissingParameter", format!("The parameter {name} is required.")));
    let pair = |d: &Value| Some((d.word("Name")?, d.word("Value")?));
    let mut dimensions: Vec<_> = from.items("Dimensions").iter().filter_map(pair).collect();
    dimensions.sort();
    Ok(MetricKey { region: region.to_owned(), namespace: need("Namespace")?, name: need("MetricName")?, dimensions })
}

fn span(input: &Value) -> Result<(u64, u64), ApiError> {
    let need = |name: &str| {
        input.unix_ms(name).ok_or_else(|| ApiError::new(400, "MissingParameter", format!("The parameter {name} is required.")))
    };
    let (from, to) = (need("StartTime")?, need("EndTime")?);
    if from >= to {
        return Err(ApiError::validation("The parameter StartTime must be less than the parameter EndTime."));
    }
    Ok((from, to))
}

pub(super) fn period(from: &Value) -> Result<u64, ApiError> {
    let seconds = from.number("Period").unwrap_or(60.0) as u64;
    if seconds == 0 || (seconds > 30 && !seconds.is_multiple_of(60)) {
        return Err(ApiError::validation("The parameter Period must be a multiple of 60."));
    }
    Ok(seconds * 1_000)
}

fn data(world: &World, call: &Call, input: &Value, now: Millis) -> Result<Value, ApiError> {
    let (from, to) = span(input)?;
    let ascending = input.word("ScanBy").as_deref() == Some("TimestampAscending");
    let mut results = Vec::new();
    for query in input.items("MetricDataQueries") {
        let id = query.word("Id").unwrap_or_default();
        let Some(stat) = query.get("MetricStat") else {
            return Err(ApiError::validation(format!("the lab has no metric math: query {id} needs a MetricStat")));
        };
        let empty = Value::Map(Vec::new());
        let key = key(&call.region, stat.get("Metric").unwrap_or(&empty))?;
        let name = stat.word("Stat").unwrap_or_default();
        let mut points = world.points(&key, &name, period(stat)?, (from, to), now)?;
        if !ascending {
            points.reverse();
        }
        results.push(map([
            ("Id", Value::text(id)),
            ("Label", Value::text(query.word("Label").unwrap_or(key.name))),
            ("Timestamps", Value::List(points.iter().map(|(at, _)| Value::Time(*at as f64 / 1_000.0)).collect())),
            ("Values", Value::List(points.iter().map(|(_, value)| Value::Number(*value)).collect())),
            ("StatusCode", Value::text("Complete")),
        ]));
    }
    Ok(map([("MetricDataResults", Value::List(results)), ("Messages", Value::List(Vec::new()))]))
}

fn statistics(world: &World, call: &Call, input: &Value, now: Millis) -> Result<Value, ApiError> {
    let (from, to) = span(input)?;
    let key = key(&call.region, input)?;
    let period = period(input)?;
    let mut rows: Vec<(u64, Vec<(String, Value)>)> = Vec::new();
    for name in input.items("Statistics").iter().filter_map(|s| if let Value::Text(t) = s { Some(t) } else { None }) {
        // Every statistic has the same periods.
        for (place, (at, value)) in world.points(&key, name, period, (from, to), now)?.into_iter().enumerate() {
            if rows.len() <= place {
                let unit = if key.name == "ReplicaLag" { "Seconds" } else { "None" };
                rows.push((at, vec![("Timestamp".to_owned(), Value::Time(at as f64 / 1_000.0)), ("Unit".to_owned(), Value::text(unit))]));
            }
            rows[place].1.push((name.clone(), Value::Number(value)));
        }
    }
    let points = rows.into_iter().map(|(_, fields)| Value::Map(fields)).collect();
    Ok(map([("Label", Value::text(key.name.clone())), ("Datapoints", Value::List(points))]))
}

fn put(world: &mut World, call: &Call, input: &Value, now: Millis) -> Result<(), ApiError> {
    let namespace = input.get("Namespace").cloned().unwrap_or(Value::Null);
    for datum in input.items("MetricData") {
        let mut named = datum.clone();
        if let Value::Map(fields) = &mut named {
            fields.push(("Namespace".to_owned(), namespace.clone()));
        }
        let key = key(&call.region, &named)?;
        let at = datum.unix_ms("Timestamp").unwrap_or_else(|| world.unix_ms(now));
        let listed = datum.items("Values").iter().filter_map(|v| map([("v", v.clone())]).number("v"));
        for value in datum.number("Value").into_iter().chain(listed) {
            world.put_metric(key.clone(), at, value, now);
        }
    }
    Ok(())
}

fn list(world: &World, call: &Call, input: &Value) -> Value {
    let fits = |wanted: Option<String>, have: &str| wanted.is_none_or(|w| w == have);
    let found =
        world.metric_keys(&call.region).filter(|k| fits(input.word("Namespace"), &k.namespace) && fits(input.word("MetricName"), &k.name));
    let metric = |k: &MetricKey| {
        let dimension = |(name, value): &(String, String)| map([("Name", Value::text(name)), ("Value", Value::text(value))]);
        map([
            ("Namespace", Value::text(&k.namespace)),
            ("MetricName", Value::text(&k.name)),
            ("Dimensions", Value::List(k.dimensions.iter().map(dimension).collect())),
        ])
    };
    map([("Metrics", Value::List(found.map(metric).collect()))])
}
