//! `[app.probe]` and `[[app.SITE.signal]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::check::{Judge, shown, small};
use super::judge::{Table, nearest};
use super::{AwsConfig, SignalPlace, SignalSpec, SignalTraits};
use crate::domain::model::SiteName;
use crate::domain::policy::{Required, SignalPolicy, Window};

/// Faster than this no look says more: one connection is not answered yet when the next is opened.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// Slower than this is no watching.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// How often one looks, and how much it takes to believe it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Looks {
    pub interval: Duration,
    pub fast_interval: Duration,
    pub timeout: Duration,
    pub fall: u32,
    pub rise: u32,
    pub window: Option<Window>,
}

impl Looks {
    /// The reference's values for looks of our own.
    pub fn reference() -> Looks {
        Looks {
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(250),
            timeout: Duration::from_millis(800),
            fall: 3,
            rise: 5,
            window: Some(Window { span: Duration::from_secs(90), down_rate: 0.5, min_looks: 20 }),
        }
    }

    /// Values for kinds that ask AWS. Haste gains nothing, as AWS renews its answers once a minute; two bad
    /// answers in a row are asked for because one may be AWS's own slip, and one good answer is believed because
    /// a status that AWS keeps does not flap as a path over the network does.
    pub fn of_aws(aws: &AwsConfig) -> Looks {
        let interval = Duration::from_secs(15);
        Looks { interval, fast_interval: interval, timeout: aws.call_timeout, fall: 2, rise: 1, window: None }
    }

    /// These values with what `table` overrides.
    pub fn overridden(self, judge: &Judge<'_>, table: &Table, hasty: bool) -> Looks {
        let mut found = self;
        found.interval = pace(judge, table, "interval", self.interval);
        if hasty {
            found.fast_interval = pace(judge, table, "fast_interval", self.fast_interval.min(found.interval));
            judge_haste(table, found.fast_interval, found.interval);
        } else {
            found.fast_interval = found.interval;
            if table.has("fast_interval") {
                table.fault(
                    "fast_interval",
                    "does not exist for this kind: AWS renews what it reads once a minute, and haste only costs calls; leave it out",
                );
            }
        }
        found.timeout = pace(judge, table, "timeout", self.timeout);
        found.fall = small(table, "fall", self.fall, 1000);
        found.rise = small(table, "rise", self.rise, 1000);
        found.window = window(judge, table, self.window, found.interval);
        // What is inherited is warned of where it stands.
        let own = !hasty || table.has("timeout") || table.has("interval");
        if own && found.timeout > found.interval {
            let (timeout, interval) = (shown(found.timeout), shown(found.interval));
            judge.warnings.add(
                table.at("timeout"),
                format!("\"{timeout}\" is longer than the interval of \"{interval}\": a look that hangs delays the next one"),
            );
        }
        found
    }
}

fn pace(judge: &Judge<'_>, table: &Table, key: &str, default: Duration) -> Duration {
    judge.bounded(table, key, &shown(default), LEAST_INTERVAL, LONGEST_INTERVAL)
}

/// Notes looks in doubt that would be slower than those while all is well.
pub(super) fn judge_haste(table: &Table, fast: Duration, slow: Duration) {
    if fast > slow {
        let (fast, slow) = (shown(fast), shown(slow));
        table.fault("fast_interval", format!("\"{fast}\" is slower than the interval of \"{slow}\"; in doubt one looks faster"));
    }
}

fn window(judge: &Judge<'_>, table: &Table, default: Option<Window>, interval: Duration) -> Option<Window> {
    if table.raw("window").and_then(Value::as_bool) == Some(false) {
        return None;
    }
    let own = table.has("window");
    if !own && default.is_none() {
        return None;
    }
    let inner = table.table("window");
    let base = default.unwrap_or(Window { span: interval * 10, down_rate: 0.5, min_looks: 5 });
    let span = judge.bounded(&inner, "span", &shown(base.span), Duration::from_secs(1), Duration::from_secs(86_400));
    let down_rate = inner.number("down_rate", 0.0, 1.0, base.down_rate);
    if down_rate == 0.0 && inner.has("down_rate") {
        inner.fault("down_rate", "0 trips without a single bad look; give a share above 0 and up to 1, like 0.5");
    }
    let min_looks = usize::try_from(inner.whole("min_looks", 1, base.min_looks as u64)).unwrap_or(usize::MAX);
    // While in doubt one looks faster, but the window must also be able to speak before doubt has begun.
    let possible = (span.as_secs_f64() / interval.as_secs_f64()).floor() as usize;
    // What is inherited is judged where it stands, unless this table changed the interval below it.
    if min_looks > possible && (own || table.has("interval")) {
        let message = format!(
            "{min_looks} looks never fit: a span of \"{}\" at the interval of \"{}\" holds {possible}; lower min_looks or lengthen the span",
            shown(span),
            shown(interval)
        );
        // The problem belongs to whoever wrote a figure that does not fit.
        if own {
            inner.fault("min_looks", message)
        } else {
            table.fault("interval", format!("the window's min_looks: {message}, or write window = false"))
        }
    }
    inner.finish();
    Some(Window { span, down_rate, min_looks })
}

/// A site's signals: the decision's side and the adapter's side at the same places, and what could not be judged.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub policies: Vec<SignalPolicy>,
    pub specs: Vec<SignalSpec>,
    /// Signals that are left out above; counting them as absent would blame the wrong line.
    pub doubtful: usize,
}

pub(super) fn signals(judge: &Judge<'_>, site: &Table, name: SiteName, place: &SignalPlace, probe: &Looks, aws: &AwsConfig) -> Signals {
    let mut found = Signals::default();
    let mut names = BTreeSet::new();
    for table in site.tables("signal") {
        let label = label(&table, "a signal's name");
        if label.as_ref().is_some_and(|label| !names.insert(label.clone())) {
            table.fault("name", "another signal of this site has this name; names must differ, as they label metrics");
        }
        match signal(judge, &table, label.unwrap_or_default(), name, place, probe, aws) {
            Some((policy, spec)) => {
                found.policies.push(policy);
                found.specs.push(spec);
            }
            None => found.doubtful += 1,
        }
    }
    found
}

fn signal(
    judge: &Judge<'_>,
    table: &Table,
    name: String,
    site: SiteName,
    place: &SignalPlace,
    probe: &Looks,
    aws: &AwsConfig,
) -> Option<(SignalPolicy, SignalSpec)> {
    let kind = known_kind(table, "signal", &judge.catalogue.signal_kinds());
    let Some((kind, SignalTraits { aws: paced_by_aws, replica })) =
        kind.and_then(|kind| Some((kind.clone(), judge.catalogue.signal(&kind)?)))
    else {
        // The keys that every kind has are judged all the same, so that they are not the next run's problems.
        probe.overridden(judge, table, true);
        table.word("required", Required::ALL, Required::as_str, Required::Start);
        judge.account(table);
        region(table, "region");
        return None;
    };
    let base = if paced_by_aws { Looks::of_aws(aws) } else { *probe };
    let looks = base.overridden(judge, table, !paced_by_aws);
    let required = table.word("required", Required::ALL, Required::as_str, Required::Start);
    let account = judge.account(table);
    let region = region(table, "region").unwrap_or_else(|| place.region.clone());
    let place = SignalPlace { region: region.clone(), ..place.clone() };
    let before = judge.problems.len();
    let keys = judge.catalogue.judge_signal(&kind, table, &place);
    if keys.is_none() && judge.problems.len() == before {
        table.fault("kind", format!("its keys do not make a signal of kind {kind:?}; see `watchover steps`"));
    }
    table.finish();
    let policy = SignalPolicy {
        name: name.clone(),
        kind: kind.clone(),
        interval: looks.interval,
        fast_interval: looks.fast_interval,
        timeout: looks.timeout,
        fall: looks.fall,
        rise: looks.rise,
        window: looks.window,
        required,
        replica,
        counts: !replica,
    };
    // Wrong keys are noted above; the signal itself counts, so that its site is not called blind as well.
    Some((policy, SignalSpec { app: place.app, site, name, kind, account, region, keys: keys.unwrap_or_default() }))
}

/// The table's `kind`, if this build knows it.
pub(super) fn known_kind(table: &Table, what: &str, kinds: &[&'static str]) -> Option<String> {
    let kind = table.need_string("kind", &format!("one of {}", kinds.join(", ")))?;
    if kinds.contains(&kind.as_str()) {
        return Some(kind);
    }
    let hint = nearest(&kind, kinds.iter().copied()).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
    table.fault("kind", format!("{kind:?} is not a kind of {what}; {hint}this build knows {}", kinds.join(", ")));
    None
}

/// The table's `name`, if it can label a metric.
pub(super) fn label(table: &Table, what: &str) -> Option<String> {
    let name = table.need_string("name", what)?;
    judge_label(table, "name", &name, what).then_some(name)
}

/// True if `name` can label a metric; else a problem at `key`, or at the table itself where `key` is empty.
pub(super) fn judge_label(table: &Table, key: &str, name: &str, what: &str) -> bool {
    let good =
        (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if !good {
        let path = if key.is_empty() { table.path().to_owned() } else { table.at(key) };
        table.problems().add(path, format!("{name:?} cannot be {what}: it must be 1 to 64 of a-z, 0-9, - and _"));
    }
    good
}

/// A region's name, such as `eu-west-1` or `us-gov-east-1`; `None` if it is missing, or wrong and noted.
pub(super) fn region(table: &Table, key: &str) -> Option<String> {
    let text = table.string(key)?;
    let parts: Vec<&str> = text.split('-').collect();
    let words = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    if parts.len() >= 3 && words && parts.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Some(text);
    }
    table.fault(key, format!("{text:?} is not a region's name; write it like \"eu-west-1\""));
    None
}
