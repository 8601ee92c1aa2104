//! THE WIRING, straight down the page: what the daemon is made of, in the order in which it starts and stops.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::admin;
use super::beats::Beats;
use super::clock::{self, Clock};
use super::control::{Control, Message};
use super::executor::Executor;
use super::hands::DaemonHands;
use super::metrics::Metrics;
use super::post::Post;
use super::probing::{Seen, Whose};
use super::reload::reload;
use super::supervisor::Supervisor;
use super::watch::{Lookers, Watchers};
use crate::adapters::dead_man::DeadMan;
use crate::adapters::sqlite::SqliteJournal;
use crate::adapters::{Adapters, Kinds, notify, steps};
use crate::config::{self, Config, ConfigErrors};
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::{AppName, SiteName, Subject};
use crate::domain::policy::AppPolicy;
use crate::ports::{Journal, JournalError};

/// Why the daemon does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The config is not one.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The config asks for what cannot be built.
    #[error("{file}: {}", .faults.join("\n  "))]
    Build {
        /// The config.
        file: PathBuf,
        /// Everything that cannot be built.
        faults: Vec<String>,
    },
    /// The journal does not open.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// The system refuses something.
    #[error("{operation}: {cause}")]
    System {
        /// What was tried, and on what.
        operation: String,
        /// What the system said.
        cause: String,
    },
    /// It came to an end that nobody asked for.
    #[error(
        "a part of the daemon ended by itself, and so all of it; the log says which part, and the journal how to go on: start it again"
    )]
    Ended,
}

/// Messages that wait for the control at the most: beyond it, looks wait, and lateness shows in `loop_lag_seconds`.
const MESSAGES: usize = 4_096;
/// How long the end may take before it is forced.
const DRAIN: Duration = Duration::from_secs(4);
/// Rows that a slow listener may be behind.
const EVENTS: usize = 1_024;

/// Runs the daemon until a signal ends it. Must be called outside any runtime.
///
/// # Errors
/// What keeps it from starting, or a part of it that ended untold; either way it stops in order.
pub fn run(path: &Path) -> Result<(), DaemonError> {
    let config = config::load(path, &Kinds)?;
    let system = |operation: &str| {
        let operation = operation.to_owned();
        move |cause: std::io::Error| DaemonError::System { operation, cause: cause.to_string() }
    };
    super::logging::start(&config.daemon.log);
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    let work = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime of the looks"))?;
    let stop = CancellationToken::new();
    let result = work.block_on(serve(config, stop.clone()));
    stop.cancel();
    // What still waits for a silent peer is not waited for: the journal says how to go on.
    work.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(config: Config, stop: CancellationToken) -> Result<(), DaemonError> {
    let system = |operation: String| move |cause: std::io::Error| DaemonError::System { operation, cause: cause.to_string() };
    let mut signals = Signals::new().map_err(system("listen for signals".into()))?;
    let handle = tokio::runtime::Handle::current();
    let supervisor = Supervisor::new(handle.clone(), stop.clone());
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::new(option_env!("WATCHOVER_REVISION").filter(|revision| !revision.is_empty()).unwrap_or("unknown")));
    let policies = policies(&config);
    metrics.install(&policies);
    metrics.expect(&Kinds::permissions(&config));
    if !config.accounts.is_empty() {
        metrics.expect_calls(&[("sts", "AssumeRole")]);
    }

    // What is outside.
    let adapters =
        Arc::new(Adapters::new(&config, hook(&metrics), supervisor.tracker(), &stop).map_err(|cause| build_error(&config, vec![cause]))?);
    let lookers = Lookers::build(&config, &adapters).map_err(|faults| build_error(&config, faults))?;
    let post = Post::new(supervisor.clone(), Arc::clone(&metrics), config.daemon.observer.clone());
    post.install(notify::build(&config.notify, &adapters).map_err(|faults| build_error(&config, faults))?);
    let journal = SqliteJournal::open(&config.daemon.state_dir, &config.daemon.observer)?;
    let journal = Timed { inner: journal, metrics: Arc::clone(&metrics) };

    // What talks: bound before anything acts, so that a second daemon or a wrong address is found at once.
    let tcp = tokio::net::TcpListener::bind(config.daemon.listen).await.map_err(system(format!("listen on {}", config.daemon.listen)))?;
    let listen = tcp.local_addr().map_err(system("read the listening address".into()))?;
    let unix =
        admin::bind_unix(&config.daemon.admin_socket).map_err(system(format!("listen on {}", config.daemon.admin_socket.display())))?;

    // What decides.
    let (to, messages) = mpsc::channel::<Message>(MESSAGES);
    let epoch = Arc::new(AtomicU64::new(0));
    let builder = {
        let adapters = Arc::clone(&adapters);
        Arc::new(move |step: &crate::domain::plan::PlannedStep| steps::build(step, &adapters))
    };
    let executor =
        Executor::new(builder, clock.clone(), Arc::clone(&epoch), to.clone(), supervisor.tracker().clone(), handle.clone(), stop.clone());
    let beats = Beats::new(stop.clone());
    let hands = DaemonHands {
        executor: Arc::clone(&executor),
        beats: beats.clone(),
        events: broadcast::Sender::new(EVENTS),
        status: watch::Sender::new(Arc::new(serde_json::Value::Null)),
        pending: watch::Sender::new(vec!["starting".to_owned()]),
        summary: watch::Sender::new("starting".to_owned()),
        metrics: Arc::clone(&metrics),
        post: Arc::clone(&post),
        observer: config.daemon.observer.clone(),
        shown: None,
    };
    let (events, status, pending, summary) =
        (hands.events.clone(), hands.status.subscribe(), hands.pending.subscribe(), hands.summary.subscribe());
    let beat = Arc::new(AtomicI64::new(clock.now().mono));
    let started = Entry::Started {
        version: env!("CARGO_PKG_VERSION").into(),
        observer: config.daemon.observer.clone(),
        config: config.path.display().to_string(),
    };
    let control = Control::open(Box::new(journal), &policies, &config.fleet, started, hands, clock.clone(), clock::boot_id(), epoch)?;
    let decision =
        decision_thread(control, messages, &stop, &clock, &beat, &metrics).map_err(system("start the decision thread".into()))?;

    // What is shown, on a thread of its own: readers never slow the decision, nor the looks.
    let (reload_tx, mut reloads) = mpsc::channel::<oneshot::Sender<Result<(), String>>>(4);
    let state = admin::State {
        status,
        pending,
        events,
        metrics: Arc::clone(&metrics),
        orders: to.clone(),
        reload: reload_tx,
        beat: Arc::clone(&beat),
        clock: clock.clone(),
        hosts: vec![config.daemon.observer.clone()],
        journal: {
            let dir = config.daemon.state_dir.clone();
            Arc::new(move |asked: &admin::Asked| admin::read(&dir, asked))
        },
    };
    let surface = surface_thread(state, tcp, unix, &stop).map_err(system("start the surface thread".into()))?;

    // What looks.
    let watchers = Watchers::new(supervisor.clone(), to.clone(), clock.clone(), beats);
    watchers.start(lookers, &look_hook(&metrics, &config));
    identify(&supervisor, &adapters, &config);
    if let Some(dead_man) = &config.daemon.dead_man {
        let switch =
            DeadMan::new(adapters.web.clone(), dead_man.url.expose(), dead_man.every).map_err(|cause| build_error(&config, vec![cause]))?;
        supervisor.vital("dead-man".into(), stop.clone(), tell_that_we_live(switch, Arc::clone(&beat), clock.clone(), stop.clone()));
    }
    supervisor.vital("systemd".into(), stop.clone(), super::systemd::keep(summary, Arc::clone(&beat), clock.clone(), stop.clone()));
    super::systemd::ready();
    tracing::info!(%listen, admin = %config.daemon.admin_socket.display(), apps = config.apps.len(), "watching");

    // Until a signal.
    let mut config = config;
    let told = loop {
        tokio::select! {
            // Nobody else ends it: a thread or a vital task is gone.
            () = stop.cancelled() => break false,
            end = signals.next() => {
                if end {
                    tracing::info!("told to stop: nothing new is started; what runs in AWS is left open in the journal");
                    break true;
                }
                match reload(&config, &adapters, &to, &watchers, &metrics, &post).await {
                    Ok(new) => config = new,
                    Err(words) => tracing::error!("reload refused, the old config stays: {words}"),
                }
            }
            Some(answer) = reloads.recv() => {
                let result = reload(&config, &adapters, &to, &watchers, &metrics, &post).await;
                let told = result.map(|new| config = new);
                if answer.send(told).is_err() {
                    tracing::debug!("whoever asked for the reload did not wait");
                }
            }
        }
    };
    super::systemd::stopping();
    stop.cancel();
    let orderly = async {
        supervisor.drain(DRAIN).await
            && tokio::task::spawn_blocking(move || decision.join().is_ok() && surface.join().is_ok()).await.unwrap_or(false)
    };
    tokio::select! {
        _ = signals.next() => tracing::warn!("told twice: leaving at once"),
        done = tokio::time::timeout(DRAIN, orderly) => {
            if done != Ok(true) {
                tracing::warn!("not everything ended in time; the journal says how to go on");
            }
        }
    }
    std::fs::remove_file(&config.daemon.admin_socket)
        .unwrap_or_else(|cause| tracing::debug!(%cause, "the admin socket could not be removed"));
    if told { Ok(()) } else { Err(DaemonError::Ended) }
}

/// The decision on a thread and runtime of its own; its death ends the daemon.
fn decision_thread(
    mut control: Control<DaemonHands>,
    messages: mpsc::Receiver<Message>,
    stop: &CancellationToken,
    clock: &Clock,
    beat: &Arc<AtomicI64>,
    metrics: &Arc<Metrics>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let (stop, clock, beat, metrics) = (stop.clone(), clock.clone(), Arc::clone(beat), Arc::clone(metrics));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("decision".into()).spawn(move || {
        let end = stop.clone().drop_guard();
        runtime.block_on(async {
            let alive = |late: Duration| {
                beat.store(clock.now().mono, Ordering::SeqCst);
                metrics.loop_lag(late.as_secs_f64());
            };
            control.run(messages, stop.cancelled(), alive).await;
            let told = stop.is_cancelled();
            if !told {
                tracing::error!("the decision ended by itself; the daemon stops, to be started again whole");
            }
            let reason = if told { "told to stop" } else { "the decision ended by itself" };
            control.note(Entry::Stopped { reason: reason.into() }, clock.now());
        });
        drop(end);
    })
}

fn surface_thread(
    state: admin::State,
    tcp: tokio::net::TcpListener,
    unix: std::os::unix::net::UnixListener,
    stop: &CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let stop = stop.clone();
    let tcp = tcp.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("surface".into()).spawn(move || {
        let end = stop.clone().drop_guard();
        if let Err(cause) = runtime.block_on(admin::serve(state, tcp, unix, stop)) {
            tracing::error!(%cause, "the surface ended");
        }
        drop(end);
    })
}

pub(super) fn policies(config: &Config) -> Vec<Arc<AppPolicy>> {
    config.apps.iter().map(|app| Arc::new(app.policy.clone())).collect()
}

fn build_error(config: &Config, faults: Vec<String>) -> DaemonError {
    DaemonError::Build { file: config.path.clone(), faults }
}

fn hook(metrics: &Arc<Metrics>) -> crate::adapters::aws::Hook {
    let metrics = Arc::clone(metrics);
    Arc::new(move |call| metrics.aws_call(call.service, call.operation, call.outcome, call.seconds))
}

/// Counts looks under the names of the signals.
pub(super) fn look_hook(metrics: &Arc<Metrics>, config: &Config) -> Seen {
    let names: BTreeMap<(AppName, SiteName, usize), String> = config
        .apps
        .iter()
        .flat_map(|app| {
            SiteName::ALL.iter().flat_map(move |site| {
                app.policy
                    .site(*site)
                    .signals
                    .iter()
                    .enumerate()
                    .map(move |(at, signal)| ((app.policy.name.clone(), *site, at), signal.name.clone()))
            })
        })
        .collect();
    let metrics = Arc::clone(metrics);
    Arc::new(move |whose, look| {
        if let Whose::App(app, Subject::Signal(site, at)) = whose
            && let Some(signal) = names.get(&(app.clone(), *site, *at))
        {
            metrics.look(app, *site, signal, look.finding.verdict, &look.finding.phases);
            if let Some(ends) = look.finding.certificate {
                metrics.certificate(app, *site, signal, ends);
            }
        }
    })
}

/// Resolves the credentials once, before they are needed, and says who we are.
fn identify(supervisor: &Supervisor, adapters: &Arc<Adapters>, config: &Config) {
    let Some(region) = config.apps.first().map(|app| app.policy.standby.region.clone()) else { return };
    let adapters = Arc::clone(adapters);
    let task = async move {
        match adapters.aws.identity(&region).await {
            Ok(identity) => tracing::info!(identity, region, "known to AWS"),
            Err(failure) => tracing::error!("who we are is not known to AWS, so no step can be done: {failure}"),
        }
    };
    supervisor.tracker().spawn(task);
}

async fn tell_that_we_live(switch: DeadMan, beat: Arc<AtomicI64>, clock: Clock, stop: CancellationToken) {
    loop {
        // A process that runs but does not decide is dead to those who rely on it.
        let late = clock.now().mono - beat.load(Ordering::SeqCst);
        if late < 5_000_000
            && let Err(words) = switch.ping().await
        {
            tracing::warn!("the dead man's switch was not told that we live: {words}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(switch.every()) => {}
        }
    }
}

/// The signals that steer a daemon.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hup: signal(SignalKind::hangup())? })
    }

    /// The next signal; true: to end.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.term.recv() => true,
            _ = self.int.recv() => true,
            _ = self.hup.recv() => false,
        }
    }
}

/// A journal whose writes are timed.
struct Timed {
    inner: SqliteJournal,
    metrics: Arc<Metrics>,
}

impl Journal for Timed {
    fn append(&mut self, records: &[Record]) -> Result<i64, JournalError> {
        let start = tokio::time::Instant::now();
        let result = self.inner.append(records);
        self.metrics.journal_write(start.elapsed().as_secs_f64());
        result
    }

    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        self.inner.replay()
    }
}
