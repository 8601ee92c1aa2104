//! SIGKILL behind every row that does not belong to the smooth course of a move: what people order, what fails, what is
//! called off, what others do. Whoever comes back holds to it.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use watchover::adapters::sqlite::SqliteJournal;
use watchover::lab::Action;
use watchover::lab::faults::Fault;
use watchover::lab::world::{SiteMode, SiteName, Traffic};

use crate::real::{Daemon, command, until};
use crate::stage::{CAPACITY, Change, FENCE, PROMOTE, RECORDS, Stage};

/// The rows that this file kills behind, a test each: it fails if one of its rows is left.
pub const ROWS: &[&[&str]] = &[QUIET, DECIDED, COMMANDED, CALLED_OFF, MAY_MOVE, DID_MOVE];
const QUIET: &[&str] = &["started", "active", "paused", "resumed", "reloaded", "gap"];
const DECIDED: &[&str] = &["declined", "approved", "step-failed capacity", "stuck", "retried", "step-skipped capacity"];
const COMMANDED: &[&str] = &["commanded", "aborted-by", "active"];
const CALLED_OFF: &[&str] = &["front-door-back", "calling-off", "step-undone capacity", "old-site-seen"];
const MAY_MOVE: &[&str] = &["autonomous"];
const DID_MOVE: &[&str] = &["moved-by-others"];

/// A stage, and the daemons that live in it one after the other.
struct Lives {
    stage: Stage,
    daemon: Option<Daemon>,
    /// The rows behind which no daemon was killed yet.
    left: Vec<&'static str>,
}

impl Drop for Lives {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.left.is_empty(), "no daemon was killed behind {:?}", self.left);
    }
}

impl Lives {
    fn new(rows: &[&'static str], traffic: Traffic, mode: &str) -> Lives {
        let stage = Stage::of(traffic, 400);
        stage.edit(&[("mode = \"automatic\"", &format!("mode = \"{mode}\""))]);
        Lives { stage, daemon: None, left: rows.to_vec() }
    }

    /// The one that lives; it is started if there is none.
    fn daemon(&mut self) -> &Daemon {
        let config = &self.stage.config;
        self.daemon.get_or_insert_with(|| Daemon::start(config))
    }

    /// Waits until the app's status is like that.
    fn is(&mut self, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        self.daemon().shows(what, like)
    }

    fn in_state(&mut self, state: &str) -> Value {
        self.is(state, |app| app["state"] == state)
    }

    /// Kills the one that lives, or else a new one, behind the first row of that name that `act` leads to.
    fn killed_behind(&mut self, name: &str, act: impl FnOnce(&Stage, &Daemon)) {
        let place = self.left.iter().position(|row| *row == name).unwrap_or_else(|| panic!("{name} is not in the table"));
        self.left.remove(place);
        let epoch = self.stage.epoch() + i64::from(self.daemon.is_none());
        self.stage.hold_behind(epoch, name);
        self.daemon();
        let daemon = self.daemon.take().unwrap();
        act(&self.stage, &daemon);
        self.stage.killed_behind(daemon, epoch, name);
    }

    /// The same behind what a person orders.
    fn killed_behind_order(&mut self, name: &str, args: &[&str]) {
        self.killed_behind(name, |stage, _| {
            let said = command(&stage.config, args);
            assert_eq!(said.code, Some(0), "{args:?}: {}{}", said.out, said.err);
        });
    }

    fn refuses(&self, change: Change) {
        let (code, message) = ("AccessDenied".to_owned(), "not you".to_owned());
        self.stage.fault(change, Fault::Answer { status: 403, code, message }, None);
    }

    fn count(&self, name: &str) -> usize {
        self.stage.rows().iter().filter(|row| row.name == name).count()
    }
}

/// The balancer of the primary breaks or answers again, which needs no checks to believe it.
fn front(stage: &Stage, mode: SiteMode) {
    stage.act(&Action::Site { site: SiteName::Primary, mode });
}

/// Without a daemon, with a journal that it finds.
fn journal(lives: &Lives) {
    std::fs::create_dir_all(lives.stage.state()).unwrap();
    drop(SqliteJournal::open(&lives.stage.state(), "bastion-lab").unwrap());
}

#[test]
fn killed_at_every_row_of_a_quiet_life() {
    let mut lives = Lives::new(QUIET, Traffic::Route53, "automatic");
    journal(&lives);
    lives.killed_behind("started", |_, _| ());
    lives.killed_behind("active", |_, _| ());
    lives.is("every gate is open", |app| app["ruling"] == "go");
    assert_eq!(lives.count("active"), 1, "what is known is not learned again");

    lives.killed_behind_order("paused", &["pause", "shop", "--for", "1h", "--reason", "a release"]);
    lives.is("it is paused", |app| app["paused"]["by"]["reason"] == "a release");
    lives.killed_behind_order("resumed", &["resume", "shop"]);
    lives.is("it is not paused", |app| app["paused"].is_null() && app["ruling"] == "go");

    lives.killed_behind("reloaded", |_, daemon| daemon.process.signal(Signal::HUP));
    lives.is("every gate is open", |app| app["ruling"] == "go");
    lives.killed_behind("gap", |_, daemon| {
        daemon.process.signal(Signal::STOP);
        // The passing of time is what is tested: a gap is one from three seconds on.
        std::thread::sleep(Duration::from_secs(4));
        daemon.process.signal(Signal::CONT);
    });
    lives.is("every gate is open", |app| app["ruling"] == "go");

    lives.stage.break_primary();
    let daemon = lives.daemon.take().unwrap();
    lives.stage.ends_well(daemon);
}

#[test]
fn killed_at_every_row_of_a_move_that_people_decide() {
    let mut lives = Lives::new(DECIDED, Traffic::Route53, "approval");
    lives.is("only the mode asks", |app| app["ruling"] == "ask");
    lives.stage.break_primary();
    lives.in_state("awaiting-approval");
    lives.killed_behind_order("declined", &["decline", "--reason", "we look ourselves"]);
    lives.in_state("held");
    // A no holds over the restart: it is not asked again.
    assert_eq!(lives.count("declined"), 1);
    lives.stage.primary(true);
    lives.in_state("watching");
    lives.is("only the mode asks", |app| app["ruling"] == "ask");

    lives.refuses(CAPACITY);
    lives.stage.break_primary();
    lives.in_state("awaiting-approval");
    lives.killed_behind_order("approved", &["approve", "--reason", "go", "--accept-data-loss", "any"]);
    lives.killed_behind("step-failed capacity", |_, _| ());
    lives.killed_behind("stuck", |_, _| ());
    lives.in_state("stuck");
    lives.killed_behind_order("retried", &["retry", "--reason", "again"]);
    lives.in_state("stuck");
    lives.killed_behind_order("step-skipped capacity", &["skip", "capacity", "--reason", "there are enough"]);
    let daemon = Daemon::start(&lives.stage.config);
    lives.stage.moved(&daemon);
    let effects = [FENCE, PROMOTE, CAPACITY, RECORDS].map(|change| lives.stage.effect(change));
    assert_eq!(effects, [1, 1, 0, 1]);
    lives.stage.asked_for_nothing_again();
    for once in ["approved", "retried", "step-skipped capacity"] {
        assert_eq!(lives.count(once), 1, "{once}");
    }
    daemon.stop();
}

#[test]
fn killed_behind_a_command_and_behind_its_abort() {
    let mut lives = Lives::new(COMMANDED, Traffic::Route53, "automatic");
    lives.is("every gate is open", |app| app["ruling"] == "go");
    lives.stage.fault(PROMOTE, Fault::Hang, None);
    let drill = ["failover", "shop", "--reason", "drill", "--accept-data-loss", "any", "--no-follow"];
    lives.killed_behind_order("commanded", &drill);
    lives.in_state("moving");
    let stage = &lives.stage;
    until("the promotion is asked for", || (stage.calls(PROMOTE) > 0).then_some(()));
    lives.killed_behind_order("aborted-by", &["abort", "--reason", "not today"]);
    lives.stage.act(&Action::ClearFaults);
    lives.in_state("stuck");
    lives.killed_behind_order("active", &["adopt", "shop", "--active", "primary", "--reason", "nothing has moved"]);
    let app = lives.in_state("watching");
    assert_eq!(app["active_site"], "primary");
    assert_eq!((lives.stage.effect(PROMOTE), lives.stage.effect(RECORDS)), (0, 0), "nothing was asked for after the abort");
    assert_eq!((lives.count("commanded"), lives.count("aborted-by"), lives.count("closed")), (1, 1, 1));
    lives.daemon.take().unwrap().stop();
}

#[test]
fn killed_while_it_is_called_off_and_when_the_old_site_shows_itself() {
    let mut lives = Lives::new(CALLED_OFF, Traffic::Route53, "automatic");
    lives.stage.edit(&[("deadline = \"40s\"", "deadline = \"6s\""), ("cooldown = \"1h\"", "cooldown = \"1s\"")]);
    lives.is("every gate is open", |app| app["ruling"] == "go");
    // Unfenced the primary can come back; and it does while the fence is still tried.
    lives.stage.fault(FENCE, Fault::Hang, None);
    front(&lives.stage, SiteMode::Refuse);
    let stage = &lives.stage;
    until("the fence is asked for", || (stage.calls(FENCE) > 0 && stage.effect(CAPACITY) == 1).then_some(()));
    until("the front door is lost", || stage.rows().iter().find(|row| row.name == "front-door-lost").map(drop));
    lives.killed_behind("front-door-back", |stage, _| front(stage, SiteMode::Ok));
    // Whoever comes next is refused, and has nothing to put back there.
    lives.stage.act(&Action::ClearFaults);
    lives.refuses(FENCE);
    lives.killed_behind("calling-off", |_, _| ());
    lives.killed_behind("step-undone capacity", |_, _| ());
    lives.in_state("watching");
    let closed = lives.count("closed");
    assert_eq!((lives.stage.effect(PROMOTE), lives.stage.effect(RECORDS), closed), (0, 0, 1));

    lives.is("every gate is open", |app| app["ruling"] == "go");
    front(&lives.stage, SiteMode::Refuse);
    lives.is("it has moved", |app| app["state"] == "watching" && app["active_site"] == "standby");
    lives.killed_behind("old-site-seen", |stage, _| front(stage, SiteMode::Ok));
    lives.is("it watches the standby", |app| app["state"] == "watching" && app["active_site"] == "standby");
    let daemon = lives.daemon.take().unwrap();
    daemon.stop();
    assert_eq!((lives.count("old-site-seen"), lives.stage.effect(PROMOTE), lives.stage.effect(RECORDS)), (1, 1, 1));
    let history = command(&lives.stage.config, &["history", "--json"]).json();
    let outcomes: BTreeSet<_> = history["incidents"].as_array().unwrap().iter().filter_map(|one| one["outcome"].as_str()).collect();
    assert_eq!(outcomes, BTreeSet::from(["called-off", "moved"]), "{history:#}");
}

#[test]
fn killed_behind_what_others_may_do() {
    let mut lives = Lives::new(MAY_MOVE, Traffic::Route53, "automatic");
    lives.is("every gate is open", |app| app["ruling"] == "go");
    lives.daemon.take().unwrap().stop();
    lives.stage.let_others_move();
    lives.killed_behind("autonomous", |_, _| ());
    lives.is("the mode asks", |app| app["ruling"] == "ask");
    assert_eq!(lives.count("autonomous"), 1, "it is known");
    lives.daemon.take().unwrap().stop();
}

#[test]
fn killed_behind_what_others_did() {
    let mut lives = Lives::new(DID_MOVE, Traffic::Autonomous, "approval");
    lives.is("only the mode asks", |app| app["ruling"] == "ask");
    // Route 53 moves users by itself while we wait for a person.
    lives.killed_behind("moved-by-others", |stage, _| stage.break_primary());
    let said = lives.in_state("awaiting-approval");
    assert_eq!((lives.count("moved-by-others"), lives.stage.effect(PROMOTE)), (1, 0), "{said:#}");
    let said = command(&lives.stage.config, &["approve", "--reason", "users are there already", "--accept-data-loss", "any"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    lives.is("it has moved", |app| app["state"] == "watching" && app["active_site"] == "standby");
    assert_eq!((lives.stage.effect(PROMOTE), lives.count("closed")), (1, 1));
    lives.daemon.take().unwrap().stop();
}
