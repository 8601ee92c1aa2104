//! A quick world, a configuration with short thresholds for it, and a look into the journal past the daemon.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use watchover::adapters::sqlite::SqliteJournal;
use watchover::lab::faults::Fault;
use watchover::lab::profile::Profile;
use watchover::lab::referee::Expect;
use watchover::lab::world::{Cause, ChangeAction, PRIMARY_REGION, STANDBY_REGION, SWITCH_REGION, SiteName, Target, Traffic, names};
use watchover::lab::{Action, Addresses, ConfigOptions, Lab, LabSpec};

use crate::real::{Daemon, command, edit, until};

/// One kind of change at AWS that a plan makes: its call, and the event by which the world counts it.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub step: &'static str,
    pub service: &'static str,
    pub region: &'static str,
    pub operation: &'static str,
    pub event: &'static str,
}

pub const FENCE: Change = Change {
    step: "fence",
    service: "autoscaling",
    region: PRIMARY_REGION,
    operation: "UpdateAutoScalingGroup",
    event: "group-size shop-primary",
};
pub const PROMOTE: Change = Change {
    step: "promote",
    service: "rds",
    region: STANDBY_REGION,
    operation: "PromoteReadReplica",
    event: "promotion-accepted shop-replica",
};
pub const CAPACITY: Change = Change {
    step: "capacity",
    service: "autoscaling",
    region: STANDBY_REGION,
    operation: "UpdateAutoScalingGroup",
    event: "group-size shop-standby",
};
pub const RECORDS: Change =
    Change { step: "traffic", service: "route53", region: "*", operation: "ChangeResourceRecordSets", event: "records-changed zone" };
pub const SWITCH: Change =
    Change { step: "traffic", service: "s3", region: SWITCH_REGION, operation: "PutObject", event: "object-put switch" };

/// One row, as far as these tests look.
#[derive(Clone, Debug)]
pub struct Row {
    pub seq: i64,
    pub epoch: i64,
    /// The moment of its decision: rows of one transaction share it.
    pub mono: i64,
    pub incident: Option<String>,
    /// Its kind, and behind a space its step if it has one.
    pub name: String,
}

/// A world in this process and the daemon's configuration for it. The daemon itself is the real binary.
pub struct Stage {
    // Declared before its runtime: it ends on it.
    lab: Lab,
    _runtime: Runtime,
    pub traffic: Traffic,
    pub config: PathBuf,
    pub dir: TempDir,
    /// What was so when a daemon ended, and how often it had been asked for by then.
    found_done: RefCell<BTreeMap<&'static str, (Change, u64)>>,
}

impl Stage {
    pub fn new() -> Stage {
        Stage::of(Traffic::Route53, 400)
    }

    /// `modifying` is how long a promotion shows that status, milliseconds.
    pub fn of(traffic: Traffic, modifying: u64) -> Stage {
        let dir = TempDir::new().unwrap();
        let profile = Profile {
            record_ttl_s: 1,
            balancer_ttl_s: 1,
            insync: 300,
            promote_delay: 100,
            promote_modifying: modifying,
            promote_rebooting: 200,
            promote_backing_up: 200,
            database_change: 200,
            launch: 300,
            target_register: 100,
            target_eject: 100,
            terminate: 300,
            ..Profile::lab()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let lab = runtime.block_on(Lab::start(LabSpec { profile, traffic, ..LabSpec::default() })).unwrap();
        let text = str::to_owned;
        let options = ConfigOptions {
            startup_grace: text("300ms"),
            interval: (text("300ms"), text("60ms")),
            drain: text("300ms"),
            ..ConfigOptions::default()
        };
        let config = dir.path().join("config.toml");
        std::fs::write(&config, lab.daemon_config(dir.path(), &options)).unwrap();
        let stage = Stage { lab, _runtime: runtime, traffic, config, dir, found_done: RefCell::default() };
        // The fence keeps its deadline over a restart: a slow one must not cost it.
        stage.edit(&[
            ("min_outage = \"3s\"", "min_outage = \"200ms\""),
            ("rise = 5", "rise = 2"),
            ("deadline = \"5s\"", "deadline = \"40s\""),
        ]);
        stage
    }

    /// Changes the config's text; each change must apply.
    pub fn edit(&self, changes: &[(&str, &str)]) {
        edit(&self.config, changes);
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// What the plan changes, in its order.
    pub fn changes(&self) -> [Change; 4] {
        [FENCE, PROMOTE, CAPACITY, if self.traffic == Traffic::S3Switch { SWITCH } else { RECORDS }]
    }

    // The world.

    pub fn act(&self, action: &Action) {
        self.lab.act(action).unwrap();
    }

    /// The app dies on every machine of the primary; its region lives, so that the fence is one.
    pub fn break_primary(&self) {
        self.primary(false);
    }

    /// The app on every machine of the primary dies, or runs again.
    pub fn primary(&self, running: bool) {
        self.act(&Action::App { site: SiteName::Primary, running });
    }

    /// Somebody lets the primary's record follow its target's health: Route 53 can move users by itself.
    pub fn let_others_move(&self) {
        let cloud = self.lab.cloud();
        let (now, mut world) = (cloud.now(), cloud.world());
        let mut set = world.zone(names::ZONE_ID).unwrap().records.values().find(|set| set.alias.is_some()).unwrap().clone();
        set.alias.as_mut().unwrap().evaluate = true;
        world.change_records(names::ZONE_ID, &[(ChangeAction::Upsert, set)], now).unwrap();
    }

    pub fn fault(&self, change: Change, fault: Fault, times: Option<u32>) {
        let [service, region, operation] = [change.service, change.region, change.operation].map(str::to_owned);
        self.act(&Action::Fault { service, region, operation, fault, times, for_ms: None });
    }

    /// Every change that somebody made through an API: how often each took effect.
    pub fn effects(&self) -> BTreeMap<String, usize> {
        let mut effects = BTreeMap::new();
        for event in self.lab.events_since(0).into_iter().filter(|event| event.by == Cause::Api) {
            let subject = match event.kind {
                "records-changed" if event.subject == names::ZONE_ID => "zone",
                "object-put" => "switch",
                _ => event.subject.as_str(),
            };
            *effects.entry(format!("{} {subject}", event.kind)).or_default() += 1;
        }
        effects
    }

    pub fn effect(&self, change: Change) -> usize {
        self.effects().get(change.event).copied().unwrap_or(0)
    }

    /// Whether it took effect and has come true since: none of them is so at once.
    pub fn is_so(&self, change: Change) -> bool {
        if self.effect(change) == 0 {
            return false;
        }
        // Locked only where it is looked into: `happened` takes the same lock, and would wait for ever.
        let world = || self.lab.cloud().world();
        match (change.step, change.service) {
            ("fence", _) => world().group(PRIMARY_REGION, "shop-primary").unwrap().instances.is_empty(),
            ("promote", _) => self.happened("promoted") > 0,
            ("capacity", _) => {
                let world = world();
                let standby = world.group(STANDBY_REGION, "shop-standby").unwrap();
                standby.instances.iter().filter(|one| one.target == Target::Healthy).count() == standby.desired as usize
            }
            (_, "s3") => world().front_door_sites(0) == BTreeSet::from(["standby"]),
            _ => self.happened("change-insync") > 0,
        }
    }

    /// How often that was called, whatever became of it.
    pub fn calls(&self, change: Change) -> u64 {
        let fits = |region: &str| change.region == "*" || change.region == region;
        self.lab.calls().into_iter().filter(|call| call.operation == change.operation && fits(&call.region)).map(|call| call.count).sum()
    }

    /// Where it is.
    pub fn addresses(&self) -> &Addresses {
        self.lab.addresses()
    }

    /// How often the world did that.
    pub fn happened(&self, kind: &str) -> usize {
        self.lab.events_since(0).iter().filter(|event| event.kind == kind).count()
    }

    // The journal.

    /// Every row.
    pub fn rows(&self) -> Vec<Row> {
        let db = journal(&self.state());
        let mut select = db.prepare(&format!("SELECT seq, epoch, mono, incident, {NAME} FROM entries ORDER BY seq")).unwrap();
        let rows = select.query_map([], |row| {
            Ok(Row { seq: row.get(0)?, epoch: row.get(1)?, mono: row.get(2)?, incident: row.get(3)?, name: row.get(4)? })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// How often it was written down that it would be asked for.
    pub fn intents(&self, step: &str) -> usize {
        self.rows().iter().filter(|row| row.name == format!("step-intent {step}")).count()
    }

    /// The takeover that wrote last; 0 in a journal that nobody has written to.
    pub fn epoch(&self) -> i64 {
        self.rows().last().map_or(0, |row| row.epoch)
    }

    /// Refuses every transaction of that takeover behind the first row for which the SQL `condition` holds. Later takeovers
    /// are not bound, so that nothing needs to be undone before the restart, and the log stays as the crash left it.
    pub fn hold(&self, epoch: i64, condition: &str) {
        let db = Connection::open(self.state().join("journal.sqlite")).unwrap();
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        db.busy_timeout(crate::real::LONG).unwrap();
        // Only the first row of a transaction follows the recorded head: the rest of the one that is held on to passes.
        let trigger = format!(
            "BEGIN IMMEDIATE; DROP TRIGGER IF EXISTS hold;
             CREATE TRIGGER hold BEFORE INSERT ON entries
             WHEN NEW.epoch = {epoch} AND NEW.prev_hash = (SELECT hash FROM head) AND EXISTS (
                 SELECT 1 FROM entries WHERE epoch = {epoch} AND ({condition}))
             BEGIN SELECT RAISE(ABORT, 'held by the test'); END; COMMIT;"
        );
        db.execute_batch(&trigger).unwrap();
    }

    /// The same behind the row of that name.
    pub fn hold_behind(&self, epoch: i64, name: &str) {
        self.hold(epoch, &format!("{NAME} = '{name}'"));
    }

    // The end.

    /// Ends the daemon as the power would.
    pub fn kill(&self, mut daemon: Daemon) {
        daemon.process.signal(Signal::KILL);
        let (status, _) = daemon.process.end();
        assert_eq!(status.code(), None, "it ended by itself: {}", daemon.said());
        self.leaves_done();
    }

    /// Notes what had taken effect when a daemon ended: whoever comes next has to look, and finds it so.
    pub fn leaves_done(&self) {
        for change in self.changes().into_iter().filter(|change| self.effect(*change) > 0) {
            if self.shows(change) {
                self.found_done.borrow_mut().entry(change.event).or_insert_with(|| (change, self.calls(change)));
            }
        }
    }

    /// Whether the next daemon can know that it was done. Right behind its request an instance under promotion looks as it
    /// did before: who looks just then, and has no answer in the journal, may ask once more and is refused.
    fn shows(&self, change: Change) -> bool {
        let is_answered = || self.rows().iter().any(|row| row.name == format!("step-asked {}", change.step));
        change.event != PROMOTE.event || self.happened("database-status") > 0 || is_answered()
    }

    /// Waits until its request is on its way: not done, or done and to be seen by whoever looks.
    pub fn is_on_its_way(&self, change: Change, effect: usize) {
        let is_there = || self.calls(change) > 0 && self.effect(change) == effect && (effect == 0 || self.shows(change));
        until("the request is on its way", || is_there().then_some(()));
    }

    /// What had been done by a daemon that ended was asked for by none after it. The effects do not tell: the world refuses
    /// a second promotion, and what is so already it takes without a change.
    pub fn asked_for_nothing_again(&self) {
        for (change, calls) in self.found_done.borrow().values() {
            assert_eq!(self.calls(*change), *calls, "{change:?} was done, and was asked for again: {:#?}", self.rows());
        }
    }

    /// Kills the daemon of that takeover behind its first row of that name, which was held on to before.
    pub fn killed_behind(&self, daemon: Daemon, epoch: i64, name: &str) {
        let row = until(name, || self.rows().into_iter().find(|row| row.epoch == epoch && row.name == name));
        self.kill(daemon);
        let later: Vec<_> = self.rows().into_iter().filter(|later| later.seq > row.seq).collect();
        assert!(later.iter().all(|later| later.mono == row.mono), "{name} was the last transaction: {later:?}");
    }

    /// Waits for the end of the only move.
    pub fn moved(&self, daemon: &Daemon) {
        daemon.shows("the move is over", |app| {
            assert_ne!(app["state"], "stuck", "{app:#}\n{}", daemon.said());
            app["active_site"] == "standby" && app["incident"].is_null()
        });
    }

    /// Every step of the plan took effect once, and nothing else did; the referee has nothing to say, and no daemon asked
    /// for what it found done.
    pub fn one_effect_each(&self) {
        self.asked_for_nothing_again();
        let mut effects = self.effects();
        // Follow-ups: nothing waits for them, and they are lost with the process.
        let mut follow_ups = vec!["database-modified shop-replica"];
        if self.traffic == Traffic::S3Switch {
            follow_ups.push(RECORDS.event);
        }
        for event in follow_ups {
            assert!(effects.remove(event).unwrap_or(0) <= 1, "{:#?}", self.effects());
        }
        // What is told may be told twice, under one id.
        effects.retain(|event, _| !event.starts_with("published "));
        let wanted: BTreeMap<String, usize> = self.changes().iter().map(|change| (change.event.to_owned(), 1)).collect();
        assert_eq!(effects, wanted, "{:#?}", self.lab.events_since(0));
        assert_eq!(self.lab.violations(Expect::Anything), []);
    }

    /// The move ends as every one has to: the standby serves, one effect a step, one incident, a whole journal.
    pub fn ends_well(&self, daemon: Daemon) {
        self.moved(&daemon);
        self.one_effect_each();
        daemon.stop();
        let history = command(&self.config, &["history", "--json"]).json();
        let outcomes: Vec<_> = history["incidents"].as_array().unwrap().iter().map(|incident| &incident["outcome"]).collect();
        assert_eq!(outcomes, ["moved"], "{history:#}");
        SqliteJournal::read(&self.state()).unwrap();
    }
}

/// The journal, past the daemon and for reading alone.
pub fn journal(state: &Path) -> Connection {
    Connection::open_with_flags(state.join("journal.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// A row's name in SQL, as [`Row::name`] has it.
pub const NAME: &str = "kind || coalesce(' ' || json_extract(json, '$.step'), '')";
