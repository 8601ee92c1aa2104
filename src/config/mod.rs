//! The config file: its shape, its documentation, and the judge that turns it into domain values.
//!
//! Reading is lenient and judging strict: [`load`] reports every problem of the file in one go, each with its key
//! path and what would be right. What it returns is complete, and nothing further down judges again.
//!
//! The environment overrides single values: `WATCHOVER__SECTION__KEY`, e.g. `WATCHOVER__DAEMON__LISTEN` or
//! `WATCHOVER__DAEMON__LOG__FORMAT`; lists of plain strings as one comma-separated value. Lists of tables, that is
//! everything below `[[app]]`, have no stable name in the environment and are out of its reach; so are keys that
//! hold dots, such as the zones of `dns.authoritative`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::domain::model::{SiteName, words};
use crate::domain::policy::{AppPolicy, FleetPolicy, Pace};

mod aims;
mod app;
mod check;
mod depth;
mod ends;
pub mod judge;
mod kinds;
mod notify;
mod plans;
mod problems;
mod read;
mod secret;
mod sense;
mod signals;

pub use judge::Problem;
pub use kinds::{Catalogue, Place, SignalPlace, SignalSpec, SignalTraits, StepTraits};
pub use notify::NotifyConfig;
pub use read::{locate, places};
pub use secret::Secret;

/// A judged config: nothing in it is left to choose.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The daemon itself.
    pub daemon: DaemonConfig,
    /// How AWS is called.
    pub aws: AwsConfig,
    /// Accounts by the names that steps and signals use.
    pub accounts: BTreeMap<String, AccountConfig>,
    /// The neutral places.
    pub witness: WitnessConfig,
    /// How names are resolved.
    pub dns: DnsConfig,
    /// Who is told of what.
    pub notify: Vec<NotifyConfig>,
    /// What holds for all apps together.
    pub fleet: FleetPolicy,
    /// The apps, in the order of the file.
    pub apps: Vec<AppConfig>,
    /// What is allowed and yet likely not meant.
    pub warnings: Vec<Problem>,
}

/// `[daemon]`.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Who speaks, in messages and the journal.
    pub observer: String,
    /// Where metrics, health, the read-only API and the page are served.
    pub listen: SocketAddr,
    /// The Unix socket of everything that changes anything.
    pub admin_socket: PathBuf,
    /// Where the journal lies.
    pub state_dir: PathBuf,
    /// The log.
    pub log: LogConfig,
    /// Whom we tell that we live.
    pub dead_man: Option<DeadManConfig>,
}

words! {
    /// How log lines are written.
    LogFormat { Text = "text", Json = "json" }
}

/// `daemon.log`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// `tracing`'s filter directives, judged: `info`, `watchover=debug,info`.
    pub filter: String,
}

/// `daemon.dead_man`.
#[derive(Debug, Clone)]
pub struct DeadManConfig {
    /// An `http` or `https` URL; its path is the secret.
    pub url: Secret,
    /// Time between two pings.
    pub every: Duration,
}

/// `[aws]`.
#[derive(Debug, Clone)]
pub struct AwsConfig {
    /// All services at this address, instead of AWS: an emulator or the lab.
    pub endpoint_url: Option<Url>,
    /// How long one call may take, with everything in it.
    pub call_timeout: Duration,
    /// How often a changing call is sent at most; looks are sent once.
    pub attempts: u32,
}

/// `[account.NAME]`.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// The role to assume there.
    pub role_arn: String,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<Secret>,
}

/// `[witness]`.
#[derive(Debug, Clone)]
pub struct WitnessConfig {
    /// Neutral addresses: `http` or `https`.
    pub urls: Vec<Url>,
    /// Known up at least that many, the other site answering counted as one; fewer, and we are the lonely one.
    pub need_up: usize,
    /// How they are looked at.
    pub pace: Pace,
}

/// `[dns]`.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// `system`, or addresses with or without a port.
    pub resolvers: Vec<String>,
    /// Servers of zones, by the zone's name in lower case without the trailing dot; other zones: their own NS.
    pub authoritative: BTreeMap<String, Vec<SocketAddr>>,
}

/// One `[[app]]`.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// What the decision works with.
    pub policy: AppPolicy,
    /// The public name.
    pub front_door: FrontDoorConfig,
    /// What the decision does not need to know of the primary site.
    pub primary: SiteConfig,
    /// The same of the standby site.
    pub standby: SiteConfig,
}

impl AppConfig {
    /// The site of that name.
    pub fn site(&self, name: SiteName) -> &SiteConfig {
        match name {
            SiteName::Primary => &self.primary,
            SiteName::Standby => &self.standby,
        }
    }
}

/// `[app.front_door]`. Its pace is `policy.front_door`.
#[derive(Debug, Clone)]
pub struct FrontDoorConfig {
    /// What users call.
    pub url: Url,
    /// Roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The complete keys of an `http` signal at this URL: `expect`, `verify_tls`, … as that kind judged them.
    pub keys: Value,
}

/// What a site says besides its policy.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// Proof by address: an answer from what this name resolves to comes from this site.
    pub load_balancer: Option<String>,
    /// Proof by marker: an answer with this header comes from this site.
    pub marker: Option<Marker>,
    /// The signals, in the order of the file: the same places as in `policy`'s list.
    pub signals: Vec<SignalSpec>,
}

/// A response header that only one site sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Its name, lower case.
    pub header: String,
    /// Its value, exactly.
    pub value: String,
}

/// Where a daemon is reached and its journal lies: all that is needed of a file to steer the one and to read the other.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The Unix socket of everything that changes anything.
    pub admin_socket: PathBuf,
    /// Where the journal lies.
    pub state_dir: PathBuf,
    /// The apps' names as far as they can be read, in the order of the file.
    pub apps: Vec<String>,
    /// How many problems the file has.
    pub problems: usize,
    /// What keeps the file from being read at all; the two places are then those of the environment, else the defaults, and
    /// no app is known.
    pub broken: Option<ConfigErrors>,
}

/// Everything that is wrong with a file.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// Every problem, in the order of the file as far as it goes.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, noun) = (self.problems.len(), if self.problems.len() == 1 { "problem" } else { "problems" });
        write!(f, "{}: {count} {noun}", self.file.display())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads and judges the file at `path` under this process's environment.
///
/// # Errors
/// Every problem at once; a file that cannot be read or parsed is the only problem of its kind, named with the line.
pub fn load(path: &Path, catalogue: &dyn Catalogue) -> Result<Config, ConfigErrors> {
    let text = read::text(path)?;
    judge_text(path, &text, read::environment(), catalogue)
}

/// Judges `text` as if it stood at `path`, under the overrides `environment` (`WATCHOVER__…` names to values).
///
/// # Errors
/// As [`load`].
pub fn judge_text(path: &Path, text: &str, environment: Vec<(String, String)>, catalogue: &dyn Catalogue) -> Result<Config, ConfigErrors> {
    let tree = read::tree(path, text, &environment)?;
    let (config, mut problems) = check::config(path, tree, catalogue);
    read::name_overrides(&mut problems, &environment);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigErrors { file: path.to_owned(), problems }),
    }
}

/// Reads of the file at `flag`, or where else it lies, where its daemon is reached, however much is wrong with the rest of
/// it: a daemon that runs goes by an older state of the file, and whoever steers it in need must not first have to mend the
/// newer one. A file that cannot be read or parsed names no place; then the environment does, else the defaults do; of a
/// file that is named and not there, the environment alone.
///
/// # Errors
/// An admin socket or a state directory that is none; then every problem, as [`load`].
pub fn reach(flag: Option<&Path>, catalogue: &dyn Catalogue) -> Result<Reach, ConfigErrors> {
    let located = locate(flag);
    // Of the usual places only one that is there is taken.
    let is_gone = located.as_ref().is_ok_and(|named| !named.exists());
    let found = located.and_then(|path| Ok((read::text(&path)?, path)));
    let environment = read::environment();
    // A name that was mistyped must not lead to whichever daemon the defaults name.
    if is_gone && !environment.iter().any(|(name, _)| read::names_a_place(name)) {
        found.as_ref().map_err(Clone::clone)?;
    }
    reach_text(found, environment, catalogue)
}

type Found = Result<(String, PathBuf), ConfigErrors>;

fn reach_text(found: Found, environment: Vec<(String, String)>, catalogue: &dyn Catalogue) -> Result<Reach, ConfigErrors> {
    let parsed = found.and_then(|(text, path)| Ok((read::tree(&path, &text, &environment)?, path)));
    let (tree, path) = match parsed {
        Ok(parsed) => parsed,
        Err(broken) => return reach_without(broken, &environment),
    };
    let path = path.as_path();
    let places = check::reach(&tree);
    let names = tree.get("app").and_then(Value::as_array).into_iter().flatten().filter_map(|app| app.get("name")?.as_str());
    let apps: Vec<String> = names.map(str::to_owned).collect();
    let (_, mut problems) = check::config(path, tree, catalogue);
    if let Ok((admin_socket, state_dir)) = places {
        return Ok(Reach { path: path.to_owned(), admin_socket, state_dir, apps, problems: problems.len(), broken: None });
    }
    read::name_overrides(&mut problems, &environment);
    Err(ConfigErrors { file: path.to_owned(), problems })
}

/// The same without a file. Whatever else the environment overrides says nothing of where the daemon is.
fn reach_without(broken: ConfigErrors, environment: &[(String, String)]) -> Result<Reach, ConfigErrors> {
    let places: Vec<(String, String)> = environment.iter().filter(|(name, _)| read::names_a_place(name)).cloned().collect();
    let tree = read::tree(&broken.file, "", &places)?;
    let ConfigErrors { file, mut problems } = broken;
    match check::reach(&tree) {
        Ok((admin_socket, state_dir)) => {
            let (path, count) = (file.clone(), problems.len());
            let broken = Some(ConfigErrors { file, problems });
            Ok(Reach { path, admin_socket, state_dir, apps: Vec::new(), problems: count, broken })
        }
        Err(wrong) => {
            problems.extend(wrong);
            read::name_overrides(&mut problems, environment);
            Err(ConfigErrors { file, problems })
        }
    }
}

#[cfg(test)]
mod tests;
