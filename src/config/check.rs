//! Shape to values: the whole file, and the sections that are not about one app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use super::judge::{Problem, Problems, Table, nearest};
use super::{
    AccountConfig, AwsConfig, Catalogue, Config, DaemonConfig, DeadManConfig, DnsConfig, LogConfig, LogFormat, Secret, WitnessConfig, aims,
    app, notify, sense, signals,
};
use crate::domain::policy::{FleetPolicy, Pace};

/// What every part of the judge needs.
pub(super) struct Judge<'a> {
    /// The kinds.
    pub catalogue: &'a dyn Catalogue,
    /// What is wrong.
    pub problems: Problems,
    /// What is likely not meant.
    pub warnings: Problems,
    /// Names of the configured accounts.
    pub accounts: BTreeSet<String>,
}

impl Judge<'_> {
    /// A duration within bounds; the upper one catches slips such as `"1M"` (a month) for `"1m"`.
    pub fn bounded(&self, table: &Table, key: &str, default: &str, least: Duration, most: Duration) -> Duration {
        let default = parsed(default);
        let Some(found) = table.maybe_duration(key) else { return default };
        if found < least && found.is_zero() {
            table.fault(key, format!("is zero; it must be at least \"{}\"", shown(least)));
        } else if found < least {
            table.fault(key, format!("\"{}\" is too short; it must be at least \"{}\"", shown(found), shown(least)));
        } else if found > most {
            table.fault(key, format!("\"{}\" is too long; it may be at most \"{}\"", shown(found), shown(most)));
        } else {
            return found;
        }
        default
    }

    /// The `account` of a step or signal; `None`: our own, or a problem.
    pub fn account(&self, table: &Table) -> Option<String> {
        let name = table.string("account")?;
        if self.accounts.contains(&name) {
            return Some(name);
        }
        let hint = match nearest(&name, self.accounts.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None if self.accounts.is_empty() => format!("no account is configured; write [account.{name}] with its role_arn"),
            None => format!("configured are {}", self.accounts.iter().cloned().collect::<Vec<_>>().join(", ")),
        };
        table.fault("account", format!("{name:?} is not a configured account; {hint}"));
        None
    }
}

/// Judges the tree. Every problem is in the list, whether or not a config comes with it.
pub(super) fn config(path: &Path, tree: Map<String, Value>, catalogue: &dyn Catalogue) -> (Option<Config>, Vec<Problem>) {
    let problems = Problems::default();
    let root = Table::new("", tree, &problems).of_one_line();
    let accounts = accounts(&root);
    let judge =
        Judge { catalogue, problems: problems.clone(), warnings: Problems::default(), accounts: accounts.keys().cloned().collect() };
    let daemon = daemon(&judge, &root.table("daemon"));
    let aws = aws(&judge, &root.table("aws"));
    let witness = witness(&judge, &root.table("witness"));
    let dns = dns(&root.table("dns"));
    let notify = notify::receivers(&judge, &root);
    let max_concurrent_groups = limits(&root.table("limits"));
    let tables = root.tables("app");
    if root.raw("app").is_none_or(|apps| apps.as_array().is_some_and(Vec::is_empty)) {
        root.fault("app", "there is no app at all; write [[app]] with a name, a front door and two sites");
    }
    let mut names = BTreeSet::new();
    let mut apps = Vec::new();
    for table in &tables {
        let found = app::app(&judge, table, &aws);
        if !found.policy.name.is_empty() && !names.insert(found.policy.name.clone()) {
            table.fault("name", "another app has this name; names must differ, as they label metrics and commands");
        }
        apps.push(found);
    }
    sense::witness(&judge, &witness, apps.iter().map(|app| &app.policy));
    aims::witness(&judge, &root, &witness, &aws, &tables);
    root.finish();
    let fleet = FleetPolicy { need_up: witness.need_up, witnesses: witness.urls.len(), max_concurrent_groups };
    let apps: Option<Vec<_>> = apps.into_iter().map(app::Judged::complete).collect();
    let mut noted: Vec<Problem> = Vec::new();
    for problem in problems.take() {
        // Two judges that read one key say the same twice.
        if !noted.contains(&problem) {
            noted.push(problem);
        }
    }
    let warnings = judge.warnings.take();
    let config = daemon.zip(apps).map(|(daemon, apps)| Config {
        path: path.to_owned(),
        daemon,
        aws,
        accounts,
        witness,
        dns,
        notify,
        fleet,
        apps,
        warnings,
    });
    (config, noted)
}

/// The admin socket and the journal's directory, or what is wrong with these two.
pub(super) fn reach(tree: &Map<String, Value>) -> Result<(PathBuf, PathBuf), Vec<Problem>> {
    let problems = Problems::default();
    let table = Table::new("", tree.clone(), &problems).of_one_line().table("daemon");
    let found = (admin_socket(&table), state_dir(&table));
    let problems = problems.take();
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn daemon(judge: &Judge<'_>, table: &Table) -> Option<DaemonConfig> {
    let observer = match table.string("observer") {
        Some(name) if name.trim().is_empty() => {
            table.fault("observer", "is empty; give a name, or leave it out for the host's");
            String::new()
        }
        Some(name) => name,
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let listen = address(table, "listen", table.string("listen").as_deref().unwrap_or("127.0.0.1:9750"));
    let (admin_socket, state_dir) = (admin_socket(table), state_dir(table));
    let log = table.table("log");
    let format = log.word("format", LogFormat::ALL, LogFormat::as_str, LogFormat::Text);
    let filter = log.string("filter").unwrap_or_else(|| "info".to_owned());
    if let Err(cause) = tracing_subscriber::EnvFilter::try_new(&filter) {
        log.fault("filter", format!("{filter:?} is not a filter ({cause}); write \"info\", \"debug\" or \"watchover=debug,info\""));
    } else if let Some(word) = filter.split(',').map(str::trim).find(|word| is_stray(word)) {
        let hint = nearest(word, LEVELS.into_iter()).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        log.fault("filter", format!("{word:?} is not a level, and alone it would silence all but a part of that name; {hint}write a part with its level, like \"watchover=debug\""));
    }
    log.finish();
    let dead_man = table.has("dead_man").then(|| dead_man(judge, &table.table("dead_man"))).flatten();
    table.finish();
    Some(DaemonConfig { observer, listen: listen?, admin_socket, state_dir, log: LogConfig { format, filter }, dead_man })
}

/// The levels of a log's filter.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A word of a filter that is neither a level nor a part of this program: most likely a level mistyped, which would silence the log.
fn is_stray(word: &str) -> bool {
    let is_level = word.is_empty() || word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let is_directive = word.contains(['=', '[', ']', '{', '}']) || word == "watchover" || word.starts_with("watchover::");
    !is_level && !is_directive
}

fn admin_socket(table: &Table) -> PathBuf {
    let found = file(table, "admin_socket", "/run/watchover/admin.sock");
    // sockaddr_un holds 108 bytes with the closing zero (unix(7)).
    if found.as_os_str().len() > 107 {
        table.fault("admin_socket", "is longer than the 107 bytes that the system takes for a socket's path");
    }
    found
}

fn state_dir(table: &Table) -> PathBuf {
    file(table, "state_dir", "/var/lib/watchover")
}

fn dead_man(judge: &Judge<'_>, table: &Table) -> Option<DeadManConfig> {
    let every = judge.bounded(table, "every", "1m", Duration::from_secs(1), Duration::from_secs(86_400));
    let text = table.need_string("url", "the address that is told while we live");
    table.finish();
    let text = text?;
    // The problem must not quote the text: it is a secret.
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => {}
        _ => {
            table.fault("url", "is not an absolute http or https URL (its text is a secret and not shown); write it like \"https://hc.example.net/ping/…\"");
            return None;
        }
    }
    Some(DeadManConfig { url: Secret::new(text), every })
}

fn aws(judge: &Judge<'_>, table: &Table) -> AwsConfig {
    let found = AwsConfig {
        endpoint_url: table.url("endpoint_url", &["http", "https"]),
        call_timeout: judge.bounded(table, "call_timeout", "5s", Duration::from_millis(100), Duration::from_secs(60)),
        attempts: small(table, "attempts", 3, 10),
    };
    table.finish();
    found
}

fn accounts(root: &Table) -> BTreeMap<String, AccountConfig> {
    let table = root.table("account");
    let mut found = BTreeMap::new();
    for (name, _) in table.entries() {
        let account = table.table(&name);
        signals::judge_label(&account, "", &name, "an account's name");
        let role_arn = account
            .need_string("role_arn", "the role to assume there, like \"arn:aws:iam::123456789012:role/watchover\"")
            .unwrap_or_default();
        if !role_arn.is_empty() && !is_role(&role_arn) {
            account
                .fault("role_arn", format!("{role_arn:?} is not a role's ARN; write it like \"arn:aws:iam::123456789012:role/watchover\""));
        }
        let external_id = account.string("external_id").map(Secret::new);
        account.finish();
        // Known even if its keys are wrong, so that its users are not called wrong too.
        found.insert(name, AccountConfig { role_arn, external_id });
    }
    found
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    matches!(parts[..], ["arn", partition, "iam", "", account, role]
        if partition.starts_with("aws") && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && role.len() > 5 && role.starts_with("role/"))
}

fn witness(judge: &Judge<'_>, table: &Table) -> WitnessConfig {
    let texts = table.strings("urls").unwrap_or_default();
    let urls: Vec<_> = texts.iter().filter_map(|text| table.judge_url("urls", text, &["http", "https"])).collect();
    for (at, url) in urls.iter().enumerate().filter(|(at, url)| urls[..*at].contains(url)) {
        table.fault("urls", format!("names {url} twice (place {}): one witness is one witness, however often it is asked", at + 1));
    }
    let need_up = usize::try_from(table.whole("need_up", 0, 1)).unwrap_or(usize::MAX);
    // A count that includes refused texts, so that one bad URL is one problem.
    if need_up > texts.len() + 1 {
        table.fault(
            "need_up",
            format!("{need_up} is more than can ever be up: {} urls and the other site make {}", texts.len(), texts.len() + 1),
        );
    }
    let least = Duration::from_millis(10);
    let interval = judge.bounded(table, "interval", "5s", least, Duration::from_secs(60));
    let fast_interval = judge.bounded(table, "fast_interval", "500ms", least, Duration::from_secs(60)).min(interval);
    let timeout = judge.bounded(table, "timeout", "1s", least, Duration::from_secs(60));
    table.finish();
    WitnessConfig { urls, need_up, pace: Pace { interval, fast_interval, timeout } }
}

fn dns(table: &Table) -> DnsConfig {
    let resolvers = table.strings("resolvers").unwrap_or_else(|| vec!["system".to_owned()]);
    if resolvers.is_empty() {
        table.fault("resolvers", "is an empty list; give \"system\" or addresses");
    }
    for text in resolvers.iter().filter(|text| *text != "system" && server(text).is_none()) {
        table.fault("resolvers", format!("{text:?} is neither \"system\" nor an address such as \"192.0.2.53\" or \"192.0.2.53:53\""));
    }
    let zones = table.table("authoritative");
    let mut authoritative = BTreeMap::new();
    for (zone, _) in zones.entries() {
        let texts = zones.strings(&zone).unwrap_or_default();
        let servers: Vec<SocketAddr> = texts.iter().filter_map(|text| server(text)).collect();
        if texts.is_empty() {
            zones.fault(&zone, "names no server; give addresses, or leave the zone out to ask its own NS");
        }
        for text in texts.iter().filter(|text| server(text).is_none()) {
            zones.fault(&zone, format!("{text:?} is not an address such as \"192.0.2.1:53\""));
        }
        authoritative.insert(zone.trim_end_matches('.').to_lowercase(), servers);
    }
    table.finish();
    DnsConfig { resolvers, authoritative }
}

fn limits(table: &Table) -> usize {
    let found = table.whole("max_concurrent_groups", 1, 1);
    table.finish();
    usize::try_from(found).unwrap_or(usize::MAX)
}

/// A DNS server: an address, with port 53 where none is given.
fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)))
}

fn address(table: &Table, key: &str, text: &str) -> Option<SocketAddr> {
    let found = text.parse().ok();
    if found.is_none() {
        table.fault(key, format!("{text:?} is not an address with a port; write it like \"127.0.0.1:9750\" or \"[::1]:9750\""));
    }
    found
}

fn file(table: &Table, key: &str, default: &str) -> PathBuf {
    match table.string(key) {
        Some(text) if text.trim().is_empty() => {
            table.fault(key, format!("is empty; give a path, like {default:?}"));
            PathBuf::from(default)
        }
        Some(text) => PathBuf::from(text),
        None => PathBuf::from(default),
    }
}

/// A count from 1 to `most`.
pub(super) fn small(table: &Table, key: &str, default: u32, most: u32) -> u32 {
    let found = table.whole(key, 1, u64::from(default));
    if found > u64::from(most) {
        table.fault(key, format!("{found} is too many; it may be at most {most}"));
        return default;
    }
    u32::try_from(found).unwrap_or(default)
}

/// A duration written in this crate; its form is a test's matter.
pub(super) fn parsed(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or_default()
}

/// A duration as the file would write it.
pub(super) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
