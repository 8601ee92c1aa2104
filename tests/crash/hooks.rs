//! Steps that change nothing at AWS: a program, a person's yes, looks, messages. Killed behind every row of theirs, and while
//! what they asked for is on its way. What cannot be looked at is done again under one id, or a person is asked.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use watchover::lab::Action;
use watchover::lab::faults::Fault;

use crate::kills::lives;
use crate::real::{Daemon, GO_FIRST, LONG, append, command, until};
use crate::stage::Stage;

/// Rows of these steps that no other step writes.
pub const ROWS: &[&str] = &["step-waits"];

/// Who is told and looked at; it may take what comes and not answer.
struct Receiver {
    address: String,
    /// The first lines and step ids of what came.
    came: Arc<Mutex<Vec<(String, String)>>>,
    /// Answers nobody from now on.
    silent: Arc<AtomicBool>,
}

impl Receiver {
    fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver { address: listener.local_addr().unwrap().to_string(), came: Arc::default(), silent: Arc::default() };
        let (came, silent) = (Arc::clone(&receiver.came), Arc::clone(&receiver.silent));
        // They end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (came, silent) = (Arc::clone(&came), Arc::clone(&silent));
                std::thread::spawn(move || Receiver::take(stream.unwrap(), &came, &silent));
            }
        });
        receiver
    }

    /// One request of a connection; whoever is not answered keeps the connection until it goes.
    fn take(mut stream: TcpStream, came: &Mutex<Vec<(String, String)>>, silent: &AtomicBool) {
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !text.contains("\r\n\r\n") {
            match stream.read(&mut bytes) {
                Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&bytes[..read])),
                _ => return,
            }
        }
        let header = |name: &str| {
            let line = text.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
            line.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        came.lock().unwrap().push((text.lines().next().unwrap_or_default().to_owned(), header("x-watchover-step-id")));
        if silent.load(Ordering::SeqCst) {
            // Nothing more comes; it ends with the daemon's death.
            while matches!(stream.read(&mut bytes), Ok(read) if read > 0) {}
            return;
        }
        // Whoever was killed does not read it.
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"));
    }

    fn count(&self, method: &str) -> usize {
        self.came.lock().unwrap().iter().filter(|(line, _)| line.starts_with(method)).count()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.came.lock().unwrap().iter().filter(|(line, _)| line.starts_with("POST")).map(|(_, id)| id.clone()).collect()
    }
}

/// A stage whose plan runs a program, asks, looks and tells besides.
struct Hooks {
    stage: Stage,
    receiver: Receiver,
}

impl Hooks {
    fn new(idempotent: bool, asks: bool) -> Hooks {
        let (stage, receiver) = (Stage::new(), Receiver::start());
        let dir = stage.dir.path().display().to_string();
        let go = "[[app.failover]]\nname = \"go\"\nkind = \"approval\"\nafter = []\nask = \"promote?\"\ntimeout = \"5m\"\n";
        if asks {
            stage.edit(&[GO_FIRST]);
        }
        let more = format!(
            r#"
[[app.failover]]
name = "hook"
kind = "command"
phase = "pre"
idempotent = {idempotent}
argv = ["/bin/sh", "-c", "echo $WATCHOVER_STEP_ID >> {dir}/hook.log; while [ -e {dir}/wait ]; do sleep 0.05; done; echo done"]
{go}
[[app.failover]]
name = "looks"
kind = "http-check"
after = ["promote"]
url = "http://{receiver}/ok"
times = 2
interval = "50ms"
timeout = "30s"
[[app.failover]]
name = "called"
kind = "webhook"
after = ["looks"]
url = "http://{receiver}/tell"
[[app.failover]]
name = "told"
kind = "sns"
after = ["called", "traffic"]
topic_arn = "{topic}"
"#,
            go = if asks { go } else { "" },
            receiver = receiver.address,
            topic = stage.addresses().topic_arn,
        );
        append(&stage.config, &more);
        Hooks { stage, receiver }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stage.dir.path().join(name)
    }

    /// The step ids of the program's runs.
    fn runs(&self) -> Vec<String> {
        std::fs::read_to_string(self.path("hook.log")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Nothing was asked for more often than was written before, and whatever was asked for again bears one id.
    fn are_one(&self) {
        let incident = self.stage.rows().into_iter().find_map(|row| row.incident).unwrap();
        let (runs, posts, published) = (self.runs(), self.receiver.count("POST"), self.stage.happened("published"));
        assert!(!runs.is_empty() && runs.len() <= self.stage.intents("hook"), "{runs:?}");
        assert!(runs.iter().all(|id| *id == format!("{incident}/hook")), "{runs:?}");
        assert!((1..=self.stage.intents("called")).contains(&posts), "{posts} posts");
        assert_eq!(self.receiver.ids(), BTreeSet::from([format!("{incident}/called")]));
        assert!((1..=self.stage.intents("told")).contains(&published), "{published} published");
    }
}

#[test]
fn one_move_with_hooks_survives_a_kill_behind_every_one_of_its_rows() {
    let hooks = Hooks::new(true, true);
    let (seen, _) = lives(&hooks.stage, |seen| {
        // While the journal is held on to it is refused; it is said again to the next one.
        if seen.contains("step-waits go") && !seen.contains("step-verified go") {
            drop(command(&hooks.stage.config, &["approve", "--reason", "seen", "--accept-data-loss", "any"]));
        }
    });
    hooks.are_one();
    let of = |step: &str, kinds: &[&str]| -> Vec<String> { kinds.iter().map(|kind| format!("{kind} {step}")).collect() };
    let mut wanted = vec!["approved".to_owned()];
    wanted.extend(of("go", &["step-started", "step-verified"]));
    wanted.extend(of("go", ROWS));
    for step in ["hook", "called", "told"] {
        wanted.extend(of(step, &["step-started", "step-intent", "step-verified"]));
    }
    // Looking is asked of nobody.
    wanted.extend(of("looks", &["step-started", "step-asked", "step-verified"]));
    let missed: Vec<_> = wanted.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missed.is_empty(), "{missed:?} of {seen:?}");
}

#[test]
fn killed_while_a_program_a_look_and_messages_are_on_their_way() {
    let hooks = Hooks::new(true, false);
    let stage = &hooks.stage;
    let hangs = |daemon: Daemon, what: &str, on_its_way: &dyn Fn() -> bool| {
        until(what, || on_its_way().then_some(()));
        stage.kill(daemon);
    };
    std::fs::write(hooks.path("wait"), "").unwrap();
    let daemon = Daemon::steady(&stage.config);
    stage.break_primary();
    hangs(daemon, "the program runs", &|| hooks.runs().len() == 1);
    std::fs::remove_file(hooks.path("wait")).unwrap();

    hooks.receiver.silent.store(true, Ordering::SeqCst);
    hangs(Daemon::start(&stage.config), "it is looked", &|| hooks.receiver.count("GET") > 0);
    hooks.receiver.silent.store(false, Ordering::SeqCst);
    assert_eq!(hooks.receiver.count("POST"), 0, "first the look");

    // The two looks are answered, the message behind them is not.
    let daemon = {
        stage.hold_behind(stage.epoch() + 1, "step-intent called");
        Daemon::start(&stage.config)
    };
    hangs(daemon, "it is called", &|| hooks.receiver.count("POST") == 1);

    let [service, region, operation] = ["sns", "*", "Publish"].map(str::to_owned);
    let fault = Fault::Latency { millis: 600_000 };
    stage.act(&Action::Fault { service, region, operation, fault, times: None, for_ms: None });
    hangs(Daemon::start(&stage.config), "it is told", &|| stage.happened("published") == 1);
    stage.act(&Action::ClearFaults);

    stage.ends_well(Daemon::start(&stage.config));
    hooks.are_one();
    assert_eq!((hooks.runs().len(), hooks.receiver.count("POST"), stage.happened("published")), (2, 2, 2), "again, for nobody can tell");
}

#[test]
fn killed_while_a_program_runs_that_must_not_run_twice_a_person_is_asked() {
    let hooks = Hooks::new(false, false);
    let stage = &hooks.stage;
    std::fs::write(hooks.path("wait"), "").unwrap();
    let daemon = Daemon::steady(&stage.config);
    stage.break_primary();
    until("the program runs", || (hooks.runs().len() == 1).then_some(()));
    stage.kill(daemon);
    std::fs::remove_file(hooks.path("wait")).unwrap();

    let daemon = Daemon::start(&stage.config);
    let waits_for = daemon.waits_for();
    assert!(waits_for.contains("watchover skip"), "{waits_for}");
    assert_eq!(stage.happened("promotion-accepted"), 0);
    let said = command(&stage.config, &["skip", "hook", "--reason", "it did its work"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    stage.ends_well(daemon);
    assert_eq!(hooks.runs().len(), 1);
}
