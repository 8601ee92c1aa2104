//! CloudWatch's alarms on the wire.

use super::cloudwatch::{key, map, period};
use super::value::Value;
use super::wire::Call;
use crate::lab::world::{ACCOUNT, Alarm, AlarmConfig, AlarmState, ApiError, Comparison, MetricAlarm, Millis, Missing, World};

/// `DescribeAlarms`: metric alarms, unless other types are asked for; all on one page.
pub fn describe(world: &World, call: &Call, input: &Value) -> Value {
    let texts = |name: &str| -> Vec<&str> {
        input.items(name).iter().filter_map(|item| if let Value::Text(text) = item { Some(text.as_str()) } else { None }).collect()
    };
    let (names, types) = (texts("AlarmNames"), texts("AlarmTypes"));
    let wants = |kind: &str| types.contains(&kind) || (types.is_empty() && kind == "MetricAlarm");
    let (prefix, state) = (input.word("AlarmNamePrefix").unwrap_or_default(), input.word("StateValue"));
    let fits = |alarm: &&Alarm| {
        (names.is_empty() || names.contains(&alarm.name.as_str()))
            && alarm.name.starts_with(&prefix)
            && state.as_ref().is_none_or(|state| alarm.state.word() == state)
    };
    let (mut metric, mut composite) = (Vec::new(), Vec::new());
    for alarm in world.alarms(&call.region).filter(fits) {
        match &alarm.config {
            AlarmConfig::Metric(config) if wants("MetricAlarm") => metric.push(shown(world, alarm, measured(config))),
            AlarmConfig::Composite(rule) if wants("CompositeAlarm") => {
                composite.push(shown(world, alarm, vec![("AlarmRule".to_owned(), Value::text(rule))]));
            }
            AlarmConfig::Metric(_) | AlarmConfig::Composite(_) => {}
        }
    }
    map([("MetricAlarms", Value::List(metric)), ("CompositeAlarms", Value::List(composite))])
}

/// `PutMetricAlarm`, `PutCompositeAlarm`, `DeleteAlarms`, `SetAlarmState`.
pub fn change(world: &mut World, call: &Call, input: &Value, now: Millis) -> Result<(), ApiError> {
    let region = &call.region;
    if call.operation == "DeleteAlarms" {
        let names =
            input.items("AlarmNames").iter().filter_map(|item| if let Value::Text(text) = item { Some(text.clone()) } else { None });
        return world.delete_alarms(region, &names.collect::<Vec<_>>(), now);
    }
    let name = need(input, "AlarmName")?;
    match call.operation.as_str() {
        "PutCompositeAlarm" => world.put_alarm(region, &name, AlarmConfig::Composite(need(input, "AlarmRule")?), now),
        "SetAlarmState" => {
            let state = need(input, "StateValue")?;
            let state = AlarmState::parse(&state).ok_or_else(|| invalid("StateValue", &state))?;
            world.set_alarm_state(region, &name, state, &need(input, "StateReason")?, now)
        }
        _ => world.put_alarm(region, &name, AlarmConfig::Metric(metric(region, input)?), now),
    }
}

fn metric(region: &str, input: &Value) -> Result<MetricAlarm, ApiError> {
    if input.get("Metrics").is_some() {
        return Err(ApiError::validation("the lab has no alarms on metric math"));
    }
    let number = |name: &str| input.number(name).ok_or_else(|| missing(name));
    let periods = number("EvaluationPeriods")? as u64;
    let comparison = need(input, "ComparisonOperator")?;
    let treat = input.word("TreatMissingData").unwrap_or_else(|| "missing".to_owned());
    let to_alarm = input.number("DatapointsToAlarm").map_or(periods, |count| count as u64);
    if periods == 0 || to_alarm == 0 || to_alarm > periods {
        return Err(ApiError::validation("DatapointsToAlarm must be from 1 to EvaluationPeriods"));
    }
    Ok(MetricAlarm {
        key: key(region, input)?,
        statistic: input.word("Statistic").or_else(|| input.word("ExtendedStatistic")).ok_or_else(|| missing("Statistic"))?,
        period_ms: period(input)?,
        periods,
        to_alarm,
        threshold: number("Threshold")?,
        comparison: Comparison::parse(&comparison).ok_or_else(|| invalid("ComparisonOperator", &comparison))?,
        missing: Missing::parse(&treat).ok_or_else(|| invalid("TreatMissingData", &treat))?,
    })
}

fn shown(world: &World, alarm: &Alarm, more: Vec<(String, Value)>) -> Value {
    let arn = format!("arn:aws:cloudwatch:{}:{ACCOUNT}:alarm:{}", alarm.region, alarm.name);
    let updated = Value::Time(world.unix_ms(alarm.updated) as f64 / 1_000.0);
    let Value::Map(mut fields) = map([
        ("AlarmName", Value::text(&alarm.name)),
        ("AlarmArn", Value::text(arn)),
        ("ActionsEnabled", Value::Bool(true)),
        ("StateValue", Value::text(alarm.state.word())),
        ("StateReason", Value::text(&alarm.reason)),
        ("StateUpdatedTimestamp", updated),
    ]) else {
        return Value::Null;
    };
    fields.extend(more);
    Value::Map(fields)
}

fn measured(config: &MetricAlarm) -> Vec<(String, Value)> {
    let whole = |number: u64| Value::Whole(i64::try_from(number).unwrap_or(i64::MAX));
    let dimension = |(name, value): &(String, String)| map([("Name", Value::text(name)), ("Value", Value::text(value))]);
    let statistic = if config.statistic.starts_with('p') { "ExtendedStatistic" } else { "Statistic" };
    [
        ("Namespace", Value::text(&config.key.namespace)),
        ("MetricName", Value::text(&config.key.name)),
        ("Dimensions", Value::List(config.key.dimensions.iter().map(dimension).collect())),
        (statistic, Value::text(&config.statistic)),
        ("Period", whole(config.period_ms / 1_000)),
        ("EvaluationPeriods", whole(config.periods)),
        ("DatapointsToAlarm", whole(config.to_alarm)),
        ("Threshold", Value::Number(config.threshold)),
        ("ComparisonOperator", Value::text(config.comparison.word())),
        ("TreatMissingData", Value::text(config.missing.word())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn need(input: &Value, name: &str) -> Result<String, ApiError> {
    input.word(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::new(400, "MissingParameter", format!("The parameter {name} is required."))
}

fn invalid(name: &str, value: &str) -> ApiError {
    ApiError::new(400, "InvalidParameterValue", format!("The value {value} for parameter {name} is invalid."))
}
