//! The real binary as processes: a world, daemons in it, and commands; and a plain HTTP client of our own, so that
//! nothing of the program is tested by itself. Whatever is started ends with its value, by its own id.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here takes a tenth of it; a busy machine may be slow, and is not wrong.
pub const LONG: Duration = Duration::from_secs(60);

/// Asks until there is an answer, or fails with what was waited for.
pub fn until<T>(what: &str, question: impl FnMut() -> Option<T>) -> T {
    until_or(what, String::new, question)
}

/// The same; a failure also says what `more` knows.
fn until_or<T>(what: &str, more: impl Fn() -> String, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < LONG, "not within {}s: {what}{}", LONG.as_secs(), more());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Changes the config's text; each change must apply.
pub fn edit(config: &Path, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(config).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in the config");
        text = text.replacen(from, to, 1);
    }
    std::fs::write(config, text).unwrap();
}

/// Writes more at its end.
pub fn append(config: &Path, more: &str) {
    std::fs::write(config, std::fs::read_to_string(config).unwrap() + more).unwrap();
}

/// The change after which the promotion waits for the step `go` too.
pub const GO_FIRST: (&str, &str) = ("kind = \"rds-promote-replica\"\n", "kind = \"rds-promote-replica\"\nafter = [\"fence\", \"go\"]\n");

/// This program, in an environment without settings of the machine's.
pub fn watchover() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchover"));
    let foreign =
        |name: &str| name.starts_with("AWS_") || name.starts_with("WATCHOVER_") || name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC";
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    command.env("AWS_ACCESS_KEY_ID", "lab").env("AWS_SECRET_ACCESS_KEY", "lab").env("AWS_EC2_METADATA_DISABLED", "true");
    command.stdin(Stdio::null());
    command
}

/// Says that something cannot be tested here, for want of what; under `CI=true` nothing missing is skipped.
pub fn untested(want: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "under CI=true nothing is skipped: {want}");
    println!("skipped: {want}");
}

/// A child that does not outlive its value.
pub struct Process(pub Child);

impl Process {
    /// Starts it; what it says goes into that file.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let file = File::create(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Process(command.spawn().unwrap())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits for its end, and says how long that took.
    pub fn end(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        (until("the process ends", || self.ended()), start.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a command said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// Its standard output as one document, after it ended well.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|cause| panic!("{cause}: {}", self.out))
    }
}

/// Runs a command with that config; it must end by itself.
pub fn command(config: &Path, args: &[&str]) -> Said {
    watchover().arg("--config").arg(config).args(args).output().unwrap().into()
}

/// One request, one answer: status, headers and body as they came.
pub fn http(address: &str, method: &str, path: &str, host: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
    (status, head.to_lowercase(), body.to_owned())
}

/// A running `lab --world-only`.
pub struct World {
    // Declared first: it ends before its directory goes.
    _process: Process,
    control: String,
    pub config: PathBuf,
    pub dir: TempDir,
}

impl World {
    pub fn start() -> World {
        World::of("region-loss")
    }

    /// The world in which that scenario plays, with nothing of it begun.
    pub fn of(scenario: &str) -> World {
        let dir = TempDir::new().unwrap();
        let mut start = watchover();
        start.args(["lab", scenario, "--world-only", "--dir"]).arg(dir.path());
        let log = dir.path().join("lab.log");
        let mut process = Process::start(start, &log);
        let tree: Value = until("world.json is written", || {
            assert!(process.ended().is_none(), "the lab ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            serde_json::from_slice(&std::fs::read(dir.path().join("world.json")).ok()?).ok()
        });
        let control = tree["control_url"].as_str().unwrap().trim_start_matches("http://").to_owned();
        World { _process: process, control, config: dir.path().join("config.toml"), dir }
    }

    /// A page of the control server.
    pub fn read(&self, path: &str) -> Value {
        let (status, _, body) = http(&self.control, "GET", path, &self.control, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Breaks or mends.
    pub fn act(&self, path: &str, what: &Value) {
        let (status, _, body) = http(&self.control, "POST", path, &self.control, &what.to_string());
        assert_eq!(status, 200, "{path}: {body}");
    }

    /// How often that happened.
    pub fn count(&self, kind: &str) -> usize {
        self.read("/events").as_array().unwrap().iter().filter(|event| event["kind"] == kind).count()
    }

    /// How often that operation was called.
    pub fn calls(&self, operation: &str) -> u64 {
        self.read("/calls")
            .as_array()
            .unwrap()
            .iter()
            .filter(|call| call["operation"] == operation)
            .filter_map(|call| call["count"].as_u64())
            .sum()
    }

    /// The referee has nothing to say.
    pub fn is_as_it_should_be(&self) {
        assert_eq!(self.read("/violations"), json!([]));
    }

    /// A command with the world's own config.
    pub fn command(&self, args: &[&str]) -> Said {
        command(&self.config, args)
    }

    /// Changes the config's text; each change must apply.
    pub fn edit(&self, changes: &[(&str, &str)]) {
        edit(&self.config, changes);
    }
}

/// A running daemon.
pub struct Daemon {
    pub process: Process,
    pub listen: String,
    pub log: PathBuf,
}

impl Daemon {
    /// Starts one and waits until it listens.
    pub fn start(config: &Path) -> Daemon {
        Daemon::by(watchover(), config)
    }

    /// The same by a command of the caller's, which has its own environment.
    pub fn by(mut start: Command, config: &Path) -> Daemon {
        start.arg("--config").arg(config).arg("run");
        Daemon::launch(config, start)
    }

    /// The same by a command of the caller's, which becomes the daemon.
    pub fn launch(config: &Path, start: Command) -> Daemon {
        // Each start has a log of its own, so that no old address is read for the new one.
        let log = (0..).map(|turn| config.with_file_name(format!("daemon-{turn}.log"))).find(|path| !path.exists()).unwrap();
        let mut process = Process::start(start, &log);
        let listen = until("the daemon listens", || {
            let said = std::fs::read_to_string(&log).unwrap();
            assert!(process.ended().is_none(), "the daemon ended: {said}");
            said.split_once("listen=")?.1.split_once(char::is_whitespace).map(|(address, _)| address.to_owned())
        });
        Daemon { process, listen, log }
    }

    /// Starts one, and waits until it would move if it had to.
    pub fn steady(config: &Path) -> Daemon {
        Daemon::start(config).until_steady()
    }

    /// The same of one that was started otherwise.
    pub fn until_steady(self) -> Daemon {
        self.settles();
        self
    }

    /// Waits until it would move if it had to.
    pub fn settles(&self) {
        until("the daemon is ready", || (self.get("/readyz").0 == 200).then_some(()));
        self.shows("every gate is open", |app| app["ruling"] == "go");
    }

    /// Waits until it only watches. On a machine that is full a look of well things may be late, and is doubted for a while.
    pub fn calms(&self) {
        self.shows("it only watches", |app| app["state"] == "watching");
    }

    /// Waits until the app's status is like that.
    pub fn shows(&self, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        let last = RefCell::new(Value::Null);
        until_or(
            what,
            || format!(": {:#}\n{}", last.borrow(), self.said()),
            || {
                let app = self.app();
                last.replace(app.clone());
                like(&app).then_some(app)
            },
        )
    }

    /// Waits until it waits for a person: for what.
    pub fn waits_for(&self) -> String {
        let app = self.shows("it waits for a person", |app| app["state"] == "stuck" && app["incident"]["waits_for"].is_string());
        app["incident"]["waits_for"].as_str().unwrap().to_owned()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = http(&self.listen, "GET", path, &self.listen, "");
        (status, body)
    }

    /// The app's status.
    pub fn app(&self) -> Value {
        let (status, body) = self.get("/api/v1/status");
        assert_eq!(status, 200, "{body}");
        // Null until the first picture is drawn.
        let document: Value = serde_json::from_str(&body).unwrap();
        document["apps"][0].clone()
    }

    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200);
        Metrics::read(&body)
    }

    /// What it logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let (status, _) = self.process.end();
        assert_eq!(status.code(), Some(0), "{}", self.said());
    }
}

/// A scrape.
pub struct Metrics {
    /// Families and what they are.
    pub kinds: BTreeMap<String, String>,
    /// Samples: name, labels, value.
    pub samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    fn read(text: &str) -> Metrics {
        let mut metrics = Metrics { kinds: BTreeMap::new(), samples: Vec::new() };
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                metrics.kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| {
                    let (key, value) = label.split_once("=\"")?;
                    Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
                });
                metrics.samples.push((name.to_owned(), labels.collect(), value.parse().unwrap()));
            }
        }
        metrics
    }

    /// The one sample that has these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &BTreeMap<String, String>| labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value));
        let found: Vec<f64> = self.samples.iter().filter(|one| one.0 == name && fits(&one.1)).map(|one| one.2).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }
}
