//! `[[app]]`: one app with its front door, its two sites and its plans.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::check::Judge;
use super::judge::Table;
use super::signals::{Looks, judge_haste, label, region, signals};
use super::{AppConfig, AwsConfig, FrontDoorConfig, Marker, Place, SignalPlace, SiteConfig, plans, sense};
use crate::domain::model::{AppName, Direction, Mode, SiteName};
use crate::domain::policy::{AppPolicy, DownWhen, OnRpoExceeded, Pace, SitePolicy};

/// Longer than a month is a slip of the unit.
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// An app as far as it could be judged.
pub(super) struct Judged {
    pub policy: AppPolicy,
    front_door: Option<FrontDoorConfig>,
    primary: SiteConfig,
    standby: SiteConfig,
}

impl Judged {
    /// The app, if nothing of it is missing.
    pub fn complete(self) -> Option<AppConfig> {
        Some(AppConfig { policy: self.policy, front_door: self.front_door?, primary: self.primary, standby: self.standby })
    }
}

/// One site while it is judged.
pub(super) struct Site {
    pub table: Table,
    pub policy: SitePolicy,
    pub config: SiteConfig,
    pub doubtful: usize,
}

/// Judges one app.
pub(super) fn app(judge: &Judge<'_>, table: &Table, aws: &AwsConfig) -> Judged {
    let name: AppName = label(table, "an app's name").unwrap_or_default().into();
    let group = match table.string("group") {
        Some(text) if text.trim().is_empty() => {
            table.fault("group", "is empty; give a name, or leave it out for a group of the app's own");
            name.to_string()
        }
        Some(text) => text,
        None => name.to_string(),
    };
    let probe_table = table.table("probe");
    let probe = Looks::reference().overridden(judge, &probe_table, true);
    probe_table.finish();

    let regions = [SiteName::Primary, SiteName::Standby]
        .map(|site| table.raw(site.as_str()).and_then(|site| site.get("region")).and_then(Value::as_str).unwrap_or_default().to_owned());
    let place = |direction: Direction| {
        let [primary, standby] = regions.clone();
        let (source_region, target_region) = match direction {
            Direction::ToStandby => (primary, standby),
            Direction::ToPrimary => (standby, primary),
        };
        Place { app: name.to_string(), direction, source_region, target_region }
    };
    let door = table.raw("front_door").and_then(|door| door.get("url")?.as_str()?.parse::<Url>().ok()?.host_str().map(str::to_owned));
    let here =
        |region: &String| SignalPlace { app: name.to_string(), region: region.clone(), front_door: door.clone(), load_balancer: None };
    let primary = site(judge, table, SiteName::Primary, here(&regions[0]), &probe, aws);
    let standby = site(judge, table, SiteName::Standby, here(&regions[1]), &probe, aws);
    let (front_door, pace) = front_door(judge, table, &here(&String::new()), &probe);
    let failover = plans::plan(judge, table, "failover", &place(Direction::ToStandby));
    let failback = plans::plan(judge, table, "failback", &place(Direction::ToPrimary));

    let zero = Duration::ZERO;
    let some = Duration::from_secs(1);
    let policy = AppPolicy {
        name,
        group,
        priority: priority(table),
        mode: table.word("mode", Mode::ALL, Mode::as_str, Mode::Automatic),
        rto_objective: judge.bounded(table, "rto_objective", "5m", some, MONTH),
        rpo_objective: judge.bounded(table, "rpo_objective", "5m", zero, MONTH),
        on_rpo_exceeded: table.word("on_rpo_exceeded", OnRpoExceeded::ALL, OnRpoExceeded::as_str, OnRpoExceeded::Approve),
        min_outage: judge.bounded(table, "min_outage", "3s", zero, MONTH),
        startup_grace: judge.bounded(table, "startup_grace", "30s", zero, MONTH),
        cooldown: judge.bounded(table, "cooldown", "1h", some, MONTH),
        approval_timeout: judge.bounded(table, "approval_timeout", "30m", some, MONTH),
        move_timeout: judge.bounded(table, "move_timeout", "30m", some, MONTH),
        prove_timeout: judge.bounded(table, "prove_timeout", "5m", some, MONTH),
        traffic_is_autonomous: table.boolean("traffic_is_autonomous", false),
        front_door: pace,
        primary: primary.policy.clone(),
        standby: standby.policy.clone(),
        failover,
        failback,
    };
    sense::app(judge, table, &policy, &primary, &standby);
    table.finish();
    Judged { policy, front_door, primary: primary.config, standby: standby.config }
}

fn priority(table: &Table) -> i64 {
    let Some(value) = table.raw("priority") else { return 10 };
    value.as_i64().unwrap_or_else(|| {
        table.fault("priority", "is not a whole number; groups with a higher one go first");
        10
    })
}

/// The front door takes the keys of an `http` signal, save those that would look elsewhere than users do.
fn front_door(judge: &Judge<'_>, app: &Table, place: &SignalPlace, probe: &Looks) -> (Option<FrontDoorConfig>, Pace) {
    let mut pace = Pace { interval: probe.interval, fast_interval: probe.fast_interval, timeout: probe.timeout };
    if !app.has("front_door") {
        app.fault(
            "front_door",
            format!("is missing; without the address that users call no move can be proven. Write [{}] with its url", app.at("front_door")),
        );
        return (None, pace);
    }
    let table = app.table("front_door");
    let looks = Looks { window: None, ..*probe };
    let bounded = |key: &str, default: Duration| {
        judge.bounded(&table, key, &super::check::shown(default), Duration::from_millis(10), Duration::from_secs(3600))
    };
    pace.interval = bounded("interval", looks.interval);
    pace.fast_interval = bounded("fast_interval", looks.fast_interval.min(pace.interval));
    judge_haste(&table, pace.fast_interval, pace.interval);
    pace.timeout = bounded("timeout", looks.timeout);
    for key in ["connect_to", "server_name"] {
        if table.has(key) {
            table.fault(key, "does not belong here: the front door is looked at as users see it; put it into a site's signal");
        }
    }
    let ca_file = table.string("ca_file").map(Into::into);
    let keys = match judge.catalogue.signal("http") {
        Some(_) => judge.catalogue.judge_signal("http", &table, place),
        None => Some(Value::Object(serde_json::Map::new())),
    };
    let judged = keys.as_ref().and_then(|keys| keys.get("url")?.as_str()?.parse::<Url>().ok());
    let url = match (&keys, judged) {
        (None, _) => None,
        (Some(_), Some(url)) => Some(url),
        (Some(_), None) => {
            if !table.has("url") {
                table.fault("url", "is missing; give the address that users call");
            }
            table.url("url", &["http", "https"])
        }
    };
    table.finish();
    (url.zip(keys).map(|(url, keys)| FrontDoorConfig { url, ca_file, keys }), pace)
}

fn site(judge: &Judge<'_>, app: &Table, name: SiteName, place: SignalPlace, probe: &Looks, aws: &AwsConfig) -> Site {
    let key = name.as_str();
    if !app.has(key) {
        app.fault(key, format!("is missing; write [{}] with its region and its signals", app.at(key)));
        let policy = SitePolicy { region: String::new(), down_when: DownWhen::All, min_known: 1, signals: Vec::new() };
        // Doubtful, so that what hangs on it is not blamed as well.
        return Site {
            table: app.table(key),
            policy,
            config: SiteConfig { load_balancer: None, marker: None, signals: Vec::new() },
            doubtful: 1,
        };
    }
    let table = app.table(key);
    if !table.has("region") {
        table.fault("region", "is missing; give the site's AWS region, like \"eu-west-1\"");
    }
    let region = region(&table, "region").unwrap_or_default();
    let load_balancer = load_balancer(&table);
    let marker = marker(&table);
    let place = SignalPlace { load_balancer: load_balancer.clone(), ..place };
    let found = signals(judge, &table, name, &place, probe, aws);
    let policy = SitePolicy {
        region,
        down_when: down_when(&table),
        min_known: usize::try_from(table.whole("min_known", 1, 1)).unwrap_or(usize::MAX),
        signals: found.policies,
    };
    table.finish();
    Site { table, policy, config: SiteConfig { load_balancer, marker, signals: found.specs }, doubtful: found.doubtful }
}

fn load_balancer(table: &Table) -> Option<String> {
    let text = table.string("load_balancer")?;
    let name = text.trim_end_matches('.').to_lowercase();
    let good = !name.is_empty() && name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !good && name.parse::<std::net::IpAddr>().is_err() {
        table
            .fault("load_balancer", format!("{text:?} is not a host name; write the load balancer's own DNS name, without scheme or port"));
        return None;
    }
    Some(name)
}

fn marker(table: &Table) -> Option<Marker> {
    if !table.has("marker") {
        return None;
    }
    let inner = table.table("marker");
    let header = inner.need_string("header", "the header's name, like \"x-region\"");
    let value = inner.need_string("value", "what only this site sends in it");
    inner.finish();
    let header = header?.to_lowercase();
    if !header.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        inner.fault("header", format!("{header:?} is not a header's name"));
        return None;
    }
    Some(Marker { header, value: value?.trim().to_owned() })
}

fn down_when(table: &Table) -> DownWhen {
    let Some(value) = table.raw("down_when") else { return DownWhen::All };
    match (value.as_str(), value.as_u64()) {
        (Some("all"), _) => DownWhen::All,
        (Some("any"), _) => DownWhen::Any,
        (_, Some(count)) if count > 0 => DownWhen::AtLeast(usize::try_from(count).unwrap_or(usize::MAX)),
        _ => {
            table.fault("down_when", format!("{value} is not \"all\", \"any\" or a number of signals of at least 1"));
            DownWhen::All
        }
    }
}
