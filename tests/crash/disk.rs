//! The disk of the journal full, read-only, or gone beneath the running daemon: named everywhere, watching goes on,
//! nothing is done without a durable row; and once it is mended, the move is made.
//!
//! Disks of their own need a mount namespace, and a journal that turns read-only a file system that heeds `chattr +i`. Where
//! one is missing, its tests say so and end; under `CI=true` they fail.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;
use watchover::lab::world::Traffic;

use crate::real::{Daemon, Said, command, http, untested, until, watchover};
use crate::stage::{PROMOTE, RECORDS, Stage};

/// A mount namespace in which a command was run, held open by a process that ends with this value or with the test.
struct Namespace(Child);

impl Namespace {
    /// Runs that script of the shell, with `state` as `$1`, as root of a new namespace.
    fn new(state: &Path, script: &str) -> Option<Namespace> {
        let mut unshare = Command::new("unshare");
        if !geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        let held = format!("{script} && echo ready && exec cat");
        unshare.args(["--mount", "sh", "-ec", &held, "sh"]).arg(state).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = unshare.spawn().map_err(|cause| untested(&format!("unshare does not start: {cause}"))).ok()?;
        let mut namespace = Namespace(child);
        let mut line = String::new();
        BufReader::new(namespace.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line == "ready\n" {
            return Some(namespace);
        }
        let mut said = String::new();
        namespace.0.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        untested(&format!("no mount namespace is granted here: {said}"));
        None
    }

    /// This program with these arguments in it.
    fn command(&self, config: &Path, args: &[&str]) -> Command {
        let plain = watchover();
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.0.id().to_string(), "--mount"]);
        if !geteuid().is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(plain.get_program()).arg("--config").arg(config).args(args).stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// A path as it is seen in it.
    fn path(&self, path: &Path) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join("root").join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A small disk for the state alone, which can be filled.
struct Disk {
    inside: Namespace,
    state: PathBuf,
}

impl Disk {
    fn of(stage: &Stage) -> Option<Disk> {
        fs::create_dir(stage.state()).unwrap();
        let inside = Namespace::new(&stage.state(), "mount -t tmpfs -o size=8m none \"$1\"")?;
        let state = inside.path(&stage.state());
        Some(Disk { inside, state })
    }

    fn daemon(&self, stage: &Stage) -> Daemon {
        Daemon::launch(&stage.config, self.inside.command(&stage.config, &["run"])).until_steady()
    }

    /// Takes what is left, to the last block.
    fn fill(&self) {
        let mut ballast = File::create(self.state.join("ballast")).unwrap();
        let block = [0xA5_u8; 4096];
        while ballast.write_all(&block).is_ok() {}
    }

    fn take_reserve(&self) {
        fs::remove_file(self.state.join("reserve")).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.state.join("ballast")).unwrap();
    }
}

/// All looks so far.
fn looks(daemon: &Daemon) -> f64 {
    daemon.metrics().samples.iter().filter(|one| one.0 == "watchover_probes_total").map(|one| one.2).sum()
}

/// The fault is named with these words wherever somebody may look; looking goes on; answers the effects meanwhile.
fn named(stage: &Stage, daemon: &Daemon, words: &[&str]) {
    let fault = until("the journal's fault shows", || {
        let status: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/status").1).unwrap();
        status["journal_fault"].as_str().map(str::to_owned)
    });
    let (code, ready) = daemon.get("/readyz");
    assert_eq!(code, 503, "{ready}");
    until("the metrics show it", || (daemon.metrics().value("watchover_gate_open", &[("gate", "preflight")]) == 0.0).then_some(()));
    assert_eq!(daemon.metrics().value("watchover_journal_writable", &[]), 0.0);
    for (place, text) in [("status", &fault), ("readyz", &ready), ("the log", &daemon.said())] {
        for word in words.iter().chain(&["journal.sqlite"]) {
            assert!(text.contains(word), "{word:?} is not in {place}: {text}");
        }
    }
    let (before, effects) = (looks(daemon), stage.effects());
    until("looking goes on", || (looks(daemon) > before + 30.0).then_some(()));
    assert_eq!(stage.effects(), effects, "nothing is done that is not written");
    assert_eq!(daemon.get("/livez").0, 200);
}

fn says(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
    for word in words {
        assert!(said.out.contains(word) || said.err.contains(word), "{word:?} is not in {}{}", said.out, said.err);
    }
}

/// As [`Stage::ends_well`], where the journal is out of sight: the daemon shows it.
fn ends_well(stage: &Stage, daemon: Daemon) {
    stage.moved(&daemon);
    stage.one_effect_each();
    let (status, _, body) = http(&daemon.listen, "GET", "/api/v1/incidents", &daemon.listen, "");
    let incidents: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, incidents["incidents"].as_array().map(Vec::len)), (200, Some(1)), "{body}");
    assert_eq!(incidents["incidents"][0]["outcome"], "moved", "{body}");
    assert_eq!(daemon.get("/readyz").0, 200);
    assert_eq!(daemon.metrics().value("watchover_journal_writable", &[]), 1.0);
    daemon.stop();
}

#[test]
fn a_disk_that_fills_during_a_move_does_not_stop_it() {
    let stage = Stage::of(Traffic::Route53, 1_500);
    let Some(disk) = Disk::of(&stage) else { return };
    let daemon = disk.daemon(&stage);
    stage.break_primary();
    until("the promotion is accepted", || (stage.effect(PROMOTE) == 1).then_some(()));
    disk.fill();
    ends_well(&stage, daemon);
    assert!(!disk.state.join("reserve").exists(), "it lived on what was kept for it");
}

#[test]
fn a_full_disk_is_named_and_nothing_is_begun_until_there_is_room() {
    let stage = Stage::new();
    let Some(disk) = Disk::of(&stage) else { return };
    let daemon = disk.daemon(&stage);
    disk.take_reserve();
    disk.fill();
    stage.break_primary();
    named(&stage, &daemon, &["disk is full", "free some space"]);
    assert!(stage.effects().is_empty());
    disk.empty();
    ends_well(&stage, daemon);
}

#[test]
fn a_disk_full_to_the_last_block_within_a_move_halts_it_there() {
    let stage = Stage::of(Traffic::Route53, 1_500);
    let Some(disk) = Disk::of(&stage) else { return };
    let daemon = disk.daemon(&stage);
    stage.break_primary();
    until("the promotion is accepted", || (stage.effect(PROMOTE) == 1).then_some(()));
    disk.take_reserve();
    disk.fill();
    until("the promotion is over", || (stage.happened("promoted") == 1).then_some(()));
    named(&stage, &daemon, &["disk is full"]);
    assert_eq!(stage.effect(RECORDS), 0);
    disk.empty();
    ends_well(&stage, daemon);
}

/// Files that nobody may write, not even who has them open already; freed with its value.
struct Immutable(Vec<PathBuf>);

impl Immutable {
    fn make(files: Vec<PathBuf>) -> Option<Immutable> {
        let done = Command::new("chattr").arg("+i").args(&files).output();
        let done = done.is_ok_and(|output| output.status.success());
        // Some file systems take the mark and do not heed it.
        let held = Immutable(files);
        if done && fs::OpenOptions::new().append(true).open(&held.0[0]).is_err() {
            return Some(held);
        }
        untested("files cannot be made immutable here: chattr +i fails or is not heeded");
        None
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        drop(Command::new("chattr").arg("-i").args(&self.0).output());
    }
}

#[test]
fn a_journal_that_turns_read_only_is_named_and_goes_on_when_it_is_mended() {
    let stage = Stage::new();
    let daemon = Daemon::steady(&stage.config);
    let files = ["journal.sqlite-wal", "journal.sqlite"].map(|name| stage.state().join(name)).to_vec();
    let Some(held) = Immutable::make(files) else { return };
    stage.break_primary();
    named(&stage, &daemon, &["writing failed"]);
    assert!(stage.effects().is_empty());
    drop(held);
    stage.ends_well(daemon);
}

#[test]
fn a_read_only_state_dir_is_refused_by_name_and_can_still_be_read() {
    let stage = Stage::new();
    Daemon::steady(&stage.config).stop();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let Some(inside) = Namespace::new(&stage.state(), script) else { return };
    let run = |args: &[&str]| -> Said { inside.command(&stage.config, args).output().unwrap().into() };
    says(&run(&["run"]), 1, &["journal.sqlite", "read-only", "daemon.state_dir"]);
    says(&run(&["history"]), 0, &["No incidents"]);
    let daemon = Daemon::steady(&stage.config);
    stage.break_primary();
    stage.ends_well(daemon);
}

#[test]
fn a_state_dir_moved_away_beneath_the_daemon_is_missed_and_moved_back_it_goes_on() {
    let stage = Stage::new();
    let daemon = Daemon::steady(&stage.config);
    let away = stage.dir.path().join("away");
    fs::rename(stage.state(), &away).unwrap();
    stage.break_primary();
    named(&stage, &daemon, &["removed or replaced"]);
    assert!(stage.effects().is_empty());
    fs::rename(&away, stage.state()).unwrap();
    stage.ends_well(daemon);
}

#[test]
fn a_state_dir_deleted_beneath_the_daemon_is_missed_and_it_goes_on_after_a_restart() {
    let stage = Stage::new();
    let daemon = Daemon::steady(&stage.config);
    fs::remove_dir_all(stage.state()).unwrap();
    stage.break_primary();
    named(&stage, &daemon, &["removed or replaced", "start it again"]);
    // Whoever makes the directory anew does not make its journal.
    fs::create_dir(stage.state()).unwrap();
    named(&stage, &daemon, &["removed or replaced", "start it again"]);
    assert!(stage.effects().is_empty());
    says(&command(&stage.config, &["status"]), 6, &["the journal takes nothing", "removed or replaced"]);
    // No gate refused it: it failed.
    says(&command(&stage.config, &["failover", "shop", "--reason", "try", "--no-follow"]), 1, &["removed or replaced"]);
    assert!(stage.effects().is_empty());
    daemon.stop();

    // A new journal knows nothing; the inspections of the plan's steps agree on which site is active, and so it may act.
    stage.ends_well(Daemon::start(&stage.config));
}
