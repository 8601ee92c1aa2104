//! What a person sees: commands in, words out.

mod autonomy;
mod check;
mod choose;
pub mod client;
pub mod exit;
mod follow;
pub mod inspect;
pub mod journal;
pub mod operate;
pub mod page;
pub mod reference;
pub mod story;
mod telling;

mod lab;
mod manual;
mod out;
mod script;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::domain::model::SiteName;
use crate::runtime::order::{MAX_PAUSE, MIN_PAUSE};

/// Watches two AWS regions, decides with evidence that the primary is lost, and moves the application over.
#[derive(Debug, Parser)]
#[command(name = "watchover", version, about, disable_help_subcommand = true, after_help = exit::HELP)]
struct Cli {
    /// Config file; else $WATCHOVER_CONFIG, ./config.toml, /etc/watchover/config.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON document (streams: one object a line) instead of words.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon.
    Run,
    /// Every problem of the config at once; then every precondition of every plan.
    Check {
        /// The file alone: asks nobody.
        #[arg(long)]
        offline: bool,
    },
    /// State, health, gates, active site, exposure, running step. Exits 6 while anything waits for a person.
    Status {
        /// Only this app.
        app: Option<String>,
    },
    /// Every gate with its figures: now (without a daemon: as last decided), or as decided in an incident.
    Explain {
        /// An app, or an incident's id.
        subject: Option<String>,
    },
    /// The exact steps, what stands there now, and the calls they would make. Changes nothing.
    Plan {
        /// The app.
        app: String,
        /// The site to move to; default: the standby.
        #[arg(long, value_parser = site)]
        to: Option<SiteName>,
        /// How it is printed; `aws-cli` is the break-glass script.
        #[arg(long, value_enum, default_value = "table")]
        format: PlanFormat,
    },
    /// Starts a move to the standby and follows it to its end.
    Failover {
        /// The app.
        app: String,
        #[command(flatten)]
        wish: WishArgs,
        /// Planned: off a well primary, fenced and drained first.
        #[arg(long)]
        graceful: bool,
    },
    /// Starts the move back to the primary and follows it to its end.
    Failback {
        /// The app.
        app: String,
        #[command(flatten)]
        wish: WishArgs,
        /// Planned: off a well standby, fenced and drained first.
        #[arg(long)]
        graceful: bool,
    },
    /// Says yes to an incident and the figures it shows.
    Approve {
        /// The incident; default: the only open one, or the only one that awaits an approval.
        incident: Option<String>,
        #[command(flatten)]
        why: Why,
        /// The loss that is accepted ("5m"), or "any" where nobody knows.
        #[arg(long, value_name = "DURATION", value_parser = loss)]
        accept_data_loss: Option<f64>,
    },
    /// Says no to it, until a new outage.
    Decline {
        /// The incident; default: the only open one, or the only one that awaits an approval.
        incident: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Tries the failed steps of a stuck incident again.
    Retry {
        /// The incident; default: the only open one, or the only stuck one.
        incident: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Goes on without a step.
    Skip {
        /// The step's name.
        step: String,
        /// The incident; default: the only open one, or the only stuck one.
        #[arg(long)]
        incident: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// No new step; nothing is undone; the incident stays stuck until `adopt`.
    Abort {
        /// The incident; default: the only open one.
        incident: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Says which site is active: after a lost journal, or to close an aborted move.
    Adopt {
        /// The app.
        app: String,
        /// The site that serves.
        #[arg(long, value_parser = site)]
        active: SiteName,
        #[command(flatten)]
        why: Why,
    },
    /// Watching goes on, nothing new is started by itself, the running step ends.
    Pause {
        /// The app; default: all.
        app: Option<String>,
        /// How long.
        #[arg(long = "for", value_name = "DURATION", value_parser = pause)]
        length: Duration,
        #[command(flatten)]
        why: Why,
    },
    /// The pause is over.
    Resume {
        /// The app; default: all.
        app: Option<String>,
        /// Why.
        #[arg(long, default_value = "resumed")]
        reason: String,
    },
    /// The incidents of the journal, the newest last, the daemon up or not.
    History {
        /// So many at most.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = count)]
        limit: usize,
        /// Only those that were opened before this one.
        #[arg(long, value_name = "INCIDENT")]
        before: Option<String>,
    },
    /// One incident, told whole.
    Report {
        /// The incident.
        incident: String,
        /// How it is printed.
        #[arg(long, value_enum, default_value = "md")]
        format: ReportFormat,
    },
    /// A two-region world on this machine, and a failover in it.
    Lab(lab::LabArgs),
    /// The least-privilege policy for this very config.
    IamPolicy,
    /// The reference of step and signal kinds.
    Steps,
    /// The reference of metrics.
    Metrics,
    /// Completions for a shell, on standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The man page on standard output, or every page into a directory.
    Man {
        /// Where the pages are written; made if it is missing.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PlanFormat {
    Table,
    Json,
    AwsCli,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReportFormat {
    Md,
    Html,
    Json,
}

/// Why: it goes into the journal.
#[derive(Debug, Args)]
struct Why {
    /// Why; it is written beside your name.
    #[arg(long)]
    reason: String,
}

/// How a person wishes to move.
#[derive(Debug, Args)]
struct WishArgs {
    #[command(flatten)]
    why: Why,
    /// The loss that is accepted ("5m"), or "any" where nobody knows.
    #[arg(long, value_name = "DURATION", value_parser = loss)]
    accept_data_loss: Option<f64>,
    /// Overrides mode, cooldown, startup grace and blast radius; never isolation, lease, data loss or the target's health.
    #[arg(long)]
    force: bool,
    /// Returns once the move has started.
    #[arg(long)]
    no_follow: bool,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=100_000).contains(count)).ok_or_else(|| "a number from 1 to 100000".to_owned())
}

fn site(text: &str) -> Result<SiteName, String> {
    SiteName::parse(text).ok_or_else(|| "a site is \"primary\" or \"standby\"".to_owned())
}

/// A length beyond the daemon's bounds is said of the option that was typed, and not of a key on the wire.
fn pause(text: &str) -> Result<Duration, String> {
    let form = "write it like \"30m\" or \"2h\", from 1s to 31d";
    let length = humantime::parse_duration(text).map_err(|cause| format!("{cause}; {form}"))?;
    if (MIN_PAUSE..=MAX_PAUSE).contains(&length) { Ok(length) } else { Err(form.to_owned()) }
}

fn loss(text: &str) -> Result<f64, String> {
    if text == "any" {
        return Ok(f64::INFINITY);
    }
    humantime::parse_duration(text)
        .map(|length| length.as_secs_f64())
        .map_err(|cause| format!("{cause}; write \"5m\", or \"any\" where nobody knows"))
}

/// How things are printed.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// JSON instead of words.
    pub json: bool,
    /// Standard output is a terminal: a person reads, and no file is made of it.
    pub terminal: bool,
    /// Colour: it is a terminal, and nobody said `NO_COLOR`.
    pub colour: bool,
}

/// Parses, runs, and says how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // Where standard error takes nothing, the exit code alone is left to say it.
            drop(error.print());
            out::misunderstood(error.render().to_string());
            let json = std::env::args_os().any(|word| word == "--json");
            return ExitCode::from(out::finish(exit::USAGE, json));
        }
        Err(help) => {
            out::keep(help.print());
            return ExitCode::from(out::finish(exit::DONE, false));
        }
    };
    let terminal = std::io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let code = dispatch(cli.command, cli.config.as_deref(), Look { json: cli.json, terminal, colour });
    ExitCode::from(out::finish(code, cli.json))
}

fn dispatch(command: Command, config: Option<&std::path::Path>, look: Look) -> u8 {
    match command {
        Command::Run => inspect::run(config),
        Command::Check { offline } => check::check(config, offline, look),
        Command::Plan { app, to, format } => inspect::plan(config, &app, to, format, look),
        Command::IamPolicy => inspect::iam_policy(config, look),
        Command::Steps => inspect::steps(look),
        Command::Metrics => inspect::metrics(look),
        Command::History { limit, before } => journal::history(config, limit, before.as_deref(), look),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { dir } => manual::man(dir.as_deref()),
        Command::Report { incident, format } => journal::report(config, &incident, format, look),
        Command::Lab(args) => lab::lab(&args, look),
        Command::Explain { subject } => operate::explain(config, subject.as_deref(), look),
        command => operate::command(command, config, look),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_is_too_short_or_too_long_is_said_of_its_option() {
        for length in ["900ms", "32d", "10", "a while"] {
            let error = Cli::try_parse_from(["watchover", "pause", "--for", length, "--reason", "works"]).unwrap_err();
            let words = error.to_string();
            assert!(words.contains("--for <DURATION>") && words.contains("from 1s to 31d"), "{words}");
        }
        assert_eq!(pause("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(pause("31d"), Ok(Duration::from_secs(31 * 86_400)));
    }
}
