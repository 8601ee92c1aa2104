//! The lab on the command line: the world, the unmodified daemon in it, and what became of both.

mod checks;
mod follow;
mod judge;
mod script;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use self::follow::Teller;
use self::script::Script;
use super::client::Client;
use super::out::{complain, remark, say};
use super::{Look, exit, inspect};
use crate::domain::model::Outcome;
use crate::lab::profile::Profile;
use crate::lab::scenarios::{self, Expected, Scenario};
use crate::lab::{Engine, Lab, LabSpec};

/// The arguments of `lab`.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    /// What happens; default: region-loss.
    scenario: Option<String>,
    /// The scenarios, and how each has to end.
    #[arg(long)]
    list: bool,
    /// Decides on everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// AWS's own durations instead of short ones: takes minutes.
    #[arg(long)]
    realistic: bool,
    /// Leaves everything up at the end and prints the addresses; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// What stands behind the databases: the world's own reckoning, or a real PostgreSQL primary and its replica.
    #[arg(long, value_enum, default_value_t)]
    database: Engine,
    /// How long users write before anything breaks. From about 3m30s on, the lag that the daemon goes by is the
    /// database's own and no longer the history that every world is born with.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Only the world: writes DIR/config.toml and DIR/world.json, and runs until Ctrl-C.
    #[arg(long, requires = "dir")]
    world_only: bool,
    /// Where the world's files are written; default: a directory of its own that goes with the lab.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// How long the daemon may take until it watches and its gates say what they should.
const STEADY: Duration = Duration::from_secs(120);
/// How often the journal and the world are asked for news.
const NEWS: Duration = Duration::from_millis(50);

/// `lab`.
pub(super) fn lab(args: &LabArgs, look: Look) -> u8 {
    if args.list {
        return list(look);
    }
    let name = args.scenario.as_deref().unwrap_or("region-loss");
    let Some(scenario) = scenarios::find(name) else {
        let known: Vec<&str> = scenarios::all().iter().map(|one| one.name).collect();
        complain!("watchover: no scenario {name:?}; there is {}", known.join(", "));
        return exit::USAGE;
    };
    inspect::on_many(async {
        let work = async {
            match if args.world_only { world_only(args, &scenario).await } else { play(args, &scenario, look).await } {
                Ok(code) => code,
                Err(words) => {
                    complain!("watchover: lab: {words}");
                    exit::FAILED
                }
            }
        };
        tokio::select! {
            code = work => code,
            // The daemon is killed with its handle, the world ends with its token.
            _ = tokio::signal::ctrl_c() => if args.world_only || args.keep { exit::DONE } else { exit::FAILED },
        }
    })
}

fn list(look: Look) -> u8 {
    let all = scenarios::all();
    if look.json {
        let rows: Vec<Value> = all.iter().map(|one| json!({"name": one.name, "expected": one.expected, "summary": one.summary})).collect();
        say!("{}", json!({"schema_version": 1, "scenarios": rows}));
    } else {
        for one in &all {
            say!("{:20} {:18} {}", one.name, one.expected.word(), one.summary);
        }
    }
    exit::DONE
}

fn spec(args: &LabArgs, scenario: &Scenario) -> LabSpec {
    let profile = if args.realistic { Profile::realistic() } else { Profile::lab() };
    let (traffic, setting) = (scenario.traffic, scenario.setting.clone());
    LabSpec { seed: args.seed, profile, traffic, setting, engine: args.database, ..LabSpec::default() }
}

/// A directory that goes with the lab, unless it was named.
struct Place {
    path: PathBuf,
    own: bool,
}

impl Place {
    fn new(args: &LabArgs) -> Result<Place, String> {
        let (path, own) = match &args.dir {
            Some(dir) => (dir.clone(), false),
            None => (std::env::temp_dir().join(format!("watchover-lab-{}-{}", std::process::id(), args.seed)), !args.keep),
        };
        std::fs::create_dir_all(&path).map_err(|cause| format!("create {}: {cause}", path.display()))?;
        let path = path.canonicalize().map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(Place { path, own })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.path.join(name);
        std::fs::write(&file, text).map_err(|cause| format!("write {}: {cause}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.own && std::fs::remove_dir_all(&self.path).is_err() {
            tracing::debug!(dir = %self.path.display(), "left behind");
        }
    }
}

async fn start_world(args: &LabArgs, scenario: &Scenario, place: &Place) -> Result<(Lab, PathBuf), String> {
    let lab = Lab::start(spec(args, scenario)).await.map_err(|cause| format!("the world does not start: {cause}"))?;
    let config = place.write("config.toml", &lab.daemon_config(&place.path, &scenario.options))?;
    let world = serde_json::to_string_pretty(lab.addresses()).map_err(|cause| cause.to_string())?;
    place.write("world.json", &world)?;
    Ok((lab, config))
}

async fn world_only(args: &LabArgs, scenario: &Scenario) -> Result<u8, String> {
    let place = Place::new(args)?;
    let (lab, config) = start_world(args, scenario, &place).await?;
    let addresses = lab.addresses();
    say!("world    {}", place.path.join("world.json").display());
    say!("config   {}", config.display());
    say!("control  {}", addresses.control_url);
    say!("aws      {}", addresses.aws_endpoint_url);
    say!("users    {}", addresses.front_door_url);
    // Any will do, but the SDK and the `aws` command ask nobody without some.
    say!("first    export AWS_ACCESS_KEY_ID=lab AWS_SECRET_ACCESS_KEY=lab AWS_EC2_METADATA_DISABLED=true");
    say!("ready; Ctrl-C ends it");
    wait_for_end().await;
    lab.shutdown().await;
    Ok(exit::DONE)
}

/// Until SIGINT or SIGTERM.
async fn wait_for_end() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut term) => tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// The daemon as anybody would run it: this very program, its own process, its log in a file.
fn start_daemon(config: &Path) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|cause| format!("find ourselves: {cause}"))?;
    let log = config.with_file_name("daemon.log");
    let file =
        std::fs::OpenOptions::new().create(true).append(true).open(&log).map_err(|cause| format!("write {}: {cause}", log.display()))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config).arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", "lab").env("AWS_SECRET_ACCESS_KEY", "lab").env("AWS_EC2_METADATA_DISABLED", "true");
    command.spawn().map_err(|cause| format!("start the daemon: {cause}"))
}

/// Until the daemon watches and its gates say what this scenario wants: most often that it would move if it had to.
async fn steady(client: &Client, child: &mut Child, log: &Path, ruling: &str) -> Result<(), String> {
    let start = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            return Err(format!("the daemon ended ({status}): {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")));
        }
        let status = client.get("/api/v1/status").await.unwrap_or_default();
        let ready = client.text("/readyz").await.is_ok();
        if ready && status["apps"].as_array().is_some_and(|apps| !apps.is_empty() && apps.iter().all(|app| is_steady(app, ruling))) {
            return Ok(());
        }
        if start.elapsed() > STEADY {
            let late = status["apps"].as_array().into_iter().flatten().find(|app| !is_steady(app, ruling)).unwrap_or(&Value::Null);
            return Err(format!("the daemon is not steady after {}s: {} {}", STEADY.as_secs(), late["name"], late["gates"]));
        }
        tokio::time::sleep(NEWS).await;
    }
}

/// Past the start, when gates are shut for want of a first look, and ruled as wanted.
fn is_steady(app: &Value, ruling: &str) -> bool {
    let open = |name: &str| app["gates"].as_array().into_iter().flatten().any(|gate| gate["name"] == name && gate["state"] == "open");
    app["ruling"] == ruling
        && app["sites"]["primary"]["health"] == "up"
        && ["startup-grace", "active-known", "not-isolated"].into_iter().all(open)
}

async fn play(args: &LabArgs, scenario: &Scenario, look: Look) -> Result<u8, String> {
    let place = Place::new(args)?;
    let (lab, config) = start_world(args, scenario, &place).await?;
    let mut tell = Teller::new(look, &place.path.join("state"));
    tell.start(scenario, args.seed, if args.realistic { Vec::new() } else { Profile::lab().describe() });
    let client = Client::new(&place.path.join("admin.sock"));
    let mut child = start_daemon(&config)?;
    steady(&client, &mut child, &place.path.join("daemon.log"), scenario.steady).await?;
    if !args.warm_up.is_zero() {
        tell.say("lab", &format!("users write for {} before anything breaks", humantime::format_duration(args.warm_up)));
        tokio::time::sleep(args.warm_up).await;
    }
    tell.steady(&lab);

    let began = Instant::now();
    let mut script = Script::new(scenario, &config);
    let mut crash = scenario.crash;
    let patience = if args.realistic { scenario.watch * 20 } else { scenario.watch };
    let mut settled: Option<Instant> = None;
    loop {
        script.play(&lab, &mut tell).await?;
        tell.news(&lab);
        if let Some(plan) = crash
            && tell.saw_event(plan.after_event)
        {
            crash = None;
            child.kill().await.map_err(|cause| format!("kill the daemon: {cause}"))?;
            tell.say("lab", "the daemon is killed (SIGKILL)");
            tokio::time::sleep(plan.away).await;
            child = start_daemon(&config)?;
            tell.say("lab", "the daemon is started again");
        }
        // A move has ended when it is closed and users were seen at their new place; what must not happen is watched for to the end.
        if script.is_done() && has_ended(scenario, &tell) {
            settled.get_or_insert_with(Instant::now);
        }
        if settled.is_some_and(|at| at.elapsed() > scenario.linger) || began.elapsed() > patience {
            break;
        }
        tokio::time::sleep(NEWS).await;
    }
    tell.news(&lab);
    let last = judge::Last {
        memory: follow::resident(child.id()),
        status: client.get("/api/v1/status").await.unwrap_or_default(),
        metrics: client.text("/metrics").await.unwrap_or_default(),
    };
    let verdict = judge::judge(&lab, scenario, args.seed, &tell, &last);
    tell.end(&verdict, &lab);
    let code = if verdict.good { exit::DONE } else { exit::FAILED };
    if args.keep {
        keep(&lab, &place, &config);
        wait_for_end().await;
    }
    stop(child).await;
    lab.shutdown().await;
    Ok(code)
}

fn has_ended(scenario: &Scenario, tell: &Teller) -> bool {
    let wanted = match scenario.expected {
        Expected::Moved => Outcome::Moved,
        Expected::Returned => Outcome::Returned,
        Expected::NoAction | Expected::Held | Expected::AwaitingApproval => return false,
    };
    tell.ended(wanted) >= scenario.setting.apps.max(1)
}

fn keep(lab: &Lab, place: &Place, config: &Path) {
    let addresses = lab.addresses();
    remark!(
        "all is left up; Ctrl-C ends it\n  directory {}\n  config    {}\n  control   {}\n  aws       {}\n  users     {}\n  try       watchover --config {} status",
        place.path.display(),
        config.display(),
        addresses.control_url,
        addresses.aws_endpoint_url,
        addresses.front_door_url,
        config.display()
    );
}

/// In order, by SIGTERM; by force if that takes too long.
async fn stop(mut child: Child) {
    let told = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = told
        && rustix::process::kill_process(id, rustix::process::Signal::TERM).is_ok()
        && tokio::time::timeout(Duration::from_secs(6), child.wait()).await.is_ok()
    {
        return;
    }
    if let Err(cause) = child.kill().await {
        tracing::debug!(%cause, "the daemon was gone already");
    }
}
