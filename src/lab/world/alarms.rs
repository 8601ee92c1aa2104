//! CloudWatch alarms: a metric against a threshold, or a rule over other alarms.

use super::metrics::dimension;
use super::{ApiError, MetricKey, Millis, SiteName, World};

/// Datapoints are late, so an alarm looks this many periods further back than it evaluates (AWS: "evaluation range").
const FURTHER: u64 = 3;
/// Parentheses of a rule within each other; AWS has a limit on its length instead.
const DEEPEST: usize = 32;

/// What an alarm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmState {
    /// The threshold is not crossed, or the rule is false.
    Ok,
    /// It is.
    Alarm,
    /// There is nothing to say it by.
    Insufficient,
}

impl AlarmState {
    /// AWS's word.
    pub fn word(self) -> &'static str {
        match self {
            AlarmState::Ok => "OK",
            AlarmState::Alarm => "ALARM",
            AlarmState::Insufficient => "INSUFFICIENT_DATA",
        }
    }

    /// The state of that word.
    pub fn parse(word: &str) -> Option<AlarmState> {
        [AlarmState::Ok, AlarmState::Alarm, AlarmState::Insufficient].into_iter().find(|state| state.word() == word)
    }
}

/// How a datapoint is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `GreaterThanThreshold`.
    Above,
    /// `GreaterThanOrEqualToThreshold`.
    AtLeast,
    /// `LessThanThreshold`.
    Below,
    /// `LessThanOrEqualToThreshold`.
    AtMost,
}

impl Comparison {
    /// All, with AWS's words.
    const WORDS: [(Comparison, &'static str); 4] = [
        (Comparison::Above, "GreaterThanThreshold"),
        (Comparison::AtLeast, "GreaterThanOrEqualToThreshold"),
        (Comparison::Below, "LessThanThreshold"),
        (Comparison::AtMost, "LessThanOrEqualToThreshold"),
    ];

    /// The comparison of that word.
    pub fn parse(word: &str) -> Option<Comparison> {
        Self::WORDS.into_iter().find(|(_, known)| *known == word).map(|(found, _)| found)
    }

    /// AWS's word.
    pub fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(known, _)| *known == self).map_or("", |(_, word)| word)
    }

    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Comparison::Above => value > threshold,
            Comparison::AtLeast => value >= threshold,
            Comparison::Below => value < threshold,
            Comparison::AtMost => value <= threshold,
        }
    }
}

/// `TreatMissingData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Without any datapoint there is nothing to say.
    Missing,
    /// As a good one.
    NotBreaching,
    /// As a bad one.
    Breaching,
    /// The state stays.
    Ignore,
}

impl Missing {
    const WORDS: [(Missing, &'static str); 4] = [
        (Missing::Missing, "missing"),
        (Missing::NotBreaching, "notBreaching"),
        (Missing::Breaching, "breaching"),
        (Missing::Ignore, "ignore"),
    ];

    /// The policy of that word.
    pub fn parse(word: &str) -> Option<Missing> {
        Self::WORDS.into_iter().find(|(_, known)| *known == word).map(|(found, _)| found)
    }

    /// AWS's word.
    pub fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(known, _)| *known == self).map_or("", |(_, word)| word)
    }
}

/// A metric alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricAlarm {
    /// What it watches.
    pub key: MetricKey,
    /// How a period's values become one.
    pub statistic: String,
    /// Milliseconds that a datapoint covers.
    pub period_ms: u64,
    /// Periods that are evaluated.
    pub periods: u64,
    /// Bad ones among them that make an alarm.
    pub to_alarm: u64,
    /// The figure.
    pub threshold: f64,
    /// What is bad.
    pub comparison: Comparison,
    /// What no datapoint means.
    pub missing: Missing,
}

/// What an alarm goes by.
#[derive(Clone, Debug, PartialEq)]
pub enum AlarmConfig {
    /// A metric.
    Metric(MetricAlarm),
    /// A rule over other alarms, in AWS's words: `ALARM("a") OR NOT OK("b")`.
    Composite(String),
}

/// An alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Where.
    pub region: String,
    /// Name, unique in its region.
    pub name: String,
    /// What it goes by.
    pub config: AlarmConfig,
    /// What it says.
    pub state: AlarmState,
    /// Why, for people.
    pub reason: String,
    /// Since when it says so.
    pub updated: Millis,
}

impl World {
    /// The alarms of a region.
    pub fn alarms(&self, region: &str) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter().filter(move |alarm| alarm.region == region)
    }

    /// `PutMetricAlarm` and `PutCompositeAlarm`: new, or in the place of one of that name.
    pub fn put_alarm(&mut self, region: &str, name: &str, config: AlarmConfig, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        if let AlarmConfig::Composite(rule) = &config {
            let known = |name: &str| self.alarms(region).find(|alarm| alarm.name == name).map(|alarm| alarm.state);
            Rule { text: rule, known: &known }.holds().map_err(ApiError::validation)?;
        }
        self.alarms.retain(|alarm| alarm.region != region || alarm.name != name);
        let reason = "Unchecked: Initial alarm creation".to_owned();
        let state = AlarmState::Insufficient;
        self.alarms.push(Alarm { region: region.to_owned(), name: name.to_owned(), config, state, reason, updated: self.now });
        self.evaluate_alarms(None);
        Ok(())
    }

    /// `DeleteAlarms`; nothing is deleted if one of them is not there.
    pub fn delete_alarms(&mut self, region: &str, names: &[String], now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        if names.iter().any(|name| !self.alarms(region).any(|alarm| alarm.name == *name)) {
            return Err(no_alarm());
        }
        self.alarms.retain(|alarm| alarm.region != region || !names.contains(&alarm.name));
        Ok(())
    }

    /// `SetAlarmState`: for the time until the alarm is evaluated again.
    pub fn set_alarm_state(&mut self, region: &str, name: &str, state: AlarmState, reason: &str, now: Millis) -> Result<(), ApiError> {
        self.advance(now);
        let at = self.now;
        let alarm = self.alarms.iter_mut().find(|alarm| alarm.region == region && alarm.name == name).ok_or_else(no_alarm)?;
        (alarm.state, alarm.reason, alarm.updated) = (state, reason.to_owned(), at);
        self.evaluate_composites();
        Ok(())
    }

    /// An alarm on each site's healthy targets, there since long before.
    pub(super) fn alarms_at_birth(&mut self) {
        for site in SiteName::BOTH {
            let place = self.site(site);
            let balancer = &place.balancer;
            let dimensions =
                vec![dimension("LoadBalancer", &balancer.arn, "loadbalancer/"), dimension("TargetGroup", &balancer.target_group_arn, ":")];
            let config = AlarmConfig::Metric(MetricAlarm {
                key: MetricKey::new(&place.region, "AWS/ApplicationELB", "HealthyHostCount", dimensions),
                statistic: "Minimum".to_owned(),
                period_ms: 60_000,
                periods: 1,
                to_alarm: 1,
                threshold: 1.0,
                comparison: Comparison::Below,
                missing: Missing::Missing,
            });
            let (region, name) = (place.region.clone(), format!("{}-healthy-hosts", place.group));
            let (state, reason) = (AlarmState::Insufficient, String::new());
            self.alarms.push(Alarm { region, name, config, state, reason, updated: self.now });
        }
        self.evaluate_alarms(None);
    }

    /// Evaluates the metric alarms (those of `only`, if a series is given), and then what hangs on them.
    pub(super) fn evaluate_alarms(&mut self, only: Option<&MetricKey>) {
        for at in 0..self.alarms.len() {
            let alarm = &self.alarms[at];
            let AlarmConfig::Metric(config) = &alarm.config else { continue };
            if only.is_some_and(|key| *key != config.key) || self.dark.contains(&alarm.region) {
                continue;
            }
            let found = self.evaluate(config, alarm.state);
            self.say(at, found);
        }
        self.evaluate_composites();
    }

    /// Composite alarms may hang on composite ones, so the round is repeated, and a circle ends with it.
    fn evaluate_composites(&mut self) {
        for _ in 0..self.alarms.len() {
            for at in 0..self.alarms.len() {
                let alarm = &self.alarms[at];
                let AlarmConfig::Composite(text) = &alarm.config else { continue };
                let known = |name: &str| self.alarms(&alarm.region).find(|one| one.name == name).map(|one| one.state);
                let found = match (Rule { text, known: &known }).holds() {
                    Ok(true) => (AlarmState::Alarm, format!("the rule holds: {text}")),
                    Ok(false) => (AlarmState::Ok, format!("the rule does not hold: {text}")),
                    Err(why) => (AlarmState::Insufficient, why),
                };
                self.say(at, found);
            }
        }
    }

    fn say(&mut self, at: usize, (state, reason): (AlarmState, String)) {
        let now = self.now;
        let alarm = &mut self.alarms[at];
        if alarm.state != state {
            (alarm.state, alarm.updated) = (state, now);
        }
        alarm.reason = reason;
    }

    fn evaluate(&self, config: &MetricAlarm, before: AlarmState) -> (AlarmState, String) {
        let to = self.unix_ms(self.now) / config.period_ms * config.period_ms + config.period_ms;
        let from = to.saturating_sub((config.periods + FURTHER) * config.period_ms);
        let points = self.points(&config.key, &config.statistic, config.period_ms, (from, to), self.now).unwrap_or_default();
        let newest: Vec<f64> = points.iter().rev().take(config.periods as usize).map(|(_, value)| *value).collect();
        let lacking = config.periods.saturating_sub(newest.len() as u64);
        if newest.is_empty() {
            match config.missing {
                Missing::Missing => return (AlarmState::Insufficient, "Insufficient Data: no datapoints were received".to_owned()),
                Missing::Ignore => return (before, "no datapoints were received; the state is kept".to_owned()),
                Missing::Breaching | Missing::NotBreaching => {}
            }
        }
        let bad = newest.iter().filter(|value| config.comparison.holds(**value, config.threshold)).count() as u64;
        let bad = if config.missing == Missing::Breaching { bad + lacking } else { bad };
        let state = if bad >= config.to_alarm { AlarmState::Alarm } else { AlarmState::Ok };
        let reason = format!(
            "Threshold Crossed: {bad} of the last {} datapoints {newest:?} against {} {}",
            config.periods,
            config.comparison.word(),
            config.threshold
        );
        (state, reason)
    }
}

fn no_alarm() -> ApiError {
    ApiError::new(404, "ResourceNotFound", "no such alarm")
}

/// A rule of a composite alarm, read and judged in one go.
struct Rule<'a> {
    text: &'a str,
    known: &'a dyn Fn(&str) -> Option<AlarmState>,
}

impl Rule<'_> {
    fn holds(&self) -> Result<bool, String> {
        let mut rest = self.text;
        let found = self.either(&mut rest, 0)?;
        if rest.trim_start().is_empty() { Ok(found) } else { Err(format!("AlarmRule: {rest:?} is left over")) }
    }

    fn either(&self, rest: &mut &str, depth: usize) -> Result<bool, String> {
        let mut found = self.both(rest, depth)?;
        while word(rest, "OR") {
            found |= self.both(rest, depth)?;
        }
        Ok(found)
    }

    fn both(&self, rest: &mut &str, depth: usize) -> Result<bool, String> {
        let mut found = self.one(rest, depth)?;
        while word(rest, "AND") {
            found &= self.one(rest, depth)?;
        }
        Ok(found)
    }

    fn one(&self, rest: &mut &str, depth: usize) -> Result<bool, String> {
        if depth > DEEPEST {
            return Err(format!("AlarmRule: more than {DEEPEST} parentheses within each other"));
        }
        if word(rest, "NOT") {
            return Ok(!self.one(rest, depth + 1)?);
        }
        if sign(rest, "(") {
            let found = self.either(rest, depth + 1)?;
            return if sign(rest, ")") { Ok(found) } else { Err("AlarmRule: a parenthesis is not closed".to_owned()) };
        }
        for (name, found) in [("TRUE", true), ("FALSE", false)] {
            if word(rest, name) {
                return Ok(found);
            }
        }
        for state in [AlarmState::Ok, AlarmState::Alarm, AlarmState::Insufficient] {
            if word(rest, state.word()) {
                let name = argument(rest).ok_or_else(|| format!("AlarmRule: {} names no alarm", state.word()))?;
                let said = (self.known)(name).ok_or_else(|| format!("AlarmRule: there is no alarm {name}"))?;
                return Ok(said == state);
            }
        }
        Err(format!("AlarmRule: {rest:?} is not understood"))
    }
}

/// Takes a word off the front, if it stands there by itself.
fn word(rest: &mut &str, wanted: &str) -> bool {
    let found = rest.trim_start().strip_prefix(wanted).filter(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    if let Some(after) = found {
        *rest = after;
    }
    found.is_some()
}

fn sign(rest: &mut &str, wanted: &str) -> bool {
    let found = rest.trim_start().strip_prefix(wanted);
    if let Some(after) = found {
        *rest = after;
    }
    found.is_some()
}

/// `("name")` or `(name)`; an ARN's name is its last part.
fn argument<'r>(rest: &mut &'r str) -> Option<&'r str> {
    let (inner, after) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    *rest = after;
    let name = inner.trim().trim_matches(['"', '\'']);
    Some(name.rsplit(":alarm:").next().unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, WorldSpec};

    fn state(world: &World, name: &str) -> AlarmState {
        world.alarms(PRIMARY_REGION).find(|alarm| alarm.name == name).unwrap().state
    }

    #[test]
    fn an_alarm_follows_its_metric_as_late_as_the_metric_is() {
        let mut world = World::new(&WorldSpec::lab(3));
        assert_eq!(state(&world, "shop-primary-healthy-hosts"), AlarmState::Ok);
        world.set_app(SiteName::Primary, false, 1_000);
        world.advance(100_000);
        assert_eq!(state(&world, "shop-primary-healthy-hosts"), AlarmState::Ok, "nothing of it is visible yet");
        world.advance(240_000);
        assert_eq!(state(&world, "shop-primary-healthy-hosts"), AlarmState::Alarm);
        world.set_app(SiteName::Primary, true, 241_000);
        world.advance(600_000);
        assert_eq!(state(&world, "shop-primary-healthy-hosts"), AlarmState::Ok);
    }

    #[test]
    fn missing_data_is_what_the_alarm_says() {
        for (missing, expected) in [
            (Missing::Missing, AlarmState::Insufficient),
            (Missing::NotBreaching, AlarmState::Ok),
            (Missing::Breaching, AlarmState::Alarm),
            (Missing::Ignore, AlarmState::Insufficient),
        ] {
            let mut world = World::new(&WorldSpec::lab(3));
            let key = MetricKey::new(PRIMARY_REGION, "Own", "beat", Vec::new());
            let config = MetricAlarm {
                key: key.clone(),
                statistic: "Sum".to_owned(),
                period_ms: 60_000,
                periods: 2,
                to_alarm: 2,
                threshold: 1.0,
                comparison: Comparison::Below,
                missing,
            };
            world.put_alarm(PRIMARY_REGION, "beat", AlarmConfig::Metric(config), 1_000).unwrap();
            assert_eq!(state(&world, "beat"), expected, "{missing:?}");
            world.put_metric(key, world.unix_ms(2_000), 5.0, 2_000);
            assert_eq!(state(&world, "beat"), AlarmState::Ok, "{missing:?}: one good datapoint of two");
        }
    }

    #[test]
    fn rules_are_read_as_written() {
        let known = |name: &str| match name {
            "a" => Some(AlarmState::Alarm),
            "b" => Some(AlarmState::Ok),
            "c" => Some(AlarmState::Insufficient),
            _ => None,
        };
        let holds = |text: &str| Rule { text, known: &known }.holds();
        for (text, expected) in [
            ("ALARM(\"a\")", true),
            ("ALARM(b) OR OK('b')", true),
            ("ALARM(a) AND NOT OK(b)", false),
            ("ALARM(b) AND ALARM(b) OR ALARM(a)", true),
            ("NOT (ALARM(a) AND OK(b)) OR FALSE", false),
            ("INSUFFICIENT_DATA(c) AND TRUE", true),
            ("ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a)", true),
        ] {
            assert_eq!(holds(text), Ok(expected), "{text}");
        }
        for text in ["", "ALARM", "ALARM(a", "ALARM(a) OK(b)", "(ALARM(a)", "ALARM(z)", "ALARMED(a)"] {
            assert!(holds(text).is_err(), "{text}");
        }
        assert!(holds(&"(".repeat(5_000)).is_err());
    }

    #[test]
    fn a_composite_alarm_hangs_on_others_and_a_set_state_lasts_until_the_next_minute() {
        let mut world = World::new(&WorldSpec::lab(3));
        let rule = AlarmConfig::Composite("ALARM(shop-primary-healthy-hosts)".to_owned());
        world.put_alarm(PRIMARY_REGION, "broken", rule, 1_000).unwrap();
        assert_eq!(state(&world, "broken"), AlarmState::Ok);
        world.set_alarm_state(PRIMARY_REGION, "shop-primary-healthy-hosts", AlarmState::Alarm, "drill", 2_000).unwrap();
        assert_eq!(state(&world, "broken"), AlarmState::Alarm);
        world.advance(70_000);
        assert_eq!(state(&world, "broken"), AlarmState::Ok);
        assert!(world.put_alarm(PRIMARY_REGION, "bad", AlarmConfig::Composite("ALARM(none)".to_owned()), 71_000).is_err());
        assert!(world.delete_alarms(PRIMARY_REGION, &["broken".to_owned(), "none".to_owned()], 72_000).is_err());
        world.delete_alarms(PRIMARY_REGION, &["broken".to_owned()], 73_000).unwrap();
        assert!(world.alarms(PRIMARY_REGION).all(|alarm| alarm.name != "broken"));
    }
}
