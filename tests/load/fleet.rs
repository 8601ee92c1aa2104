//! The real daemon with many apps, each a group of its own, that all lose their primary in one moment. Nothing of it needs
//! AWS: users are moved by a program, and looks and steps go to sites in this process.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::OptionalExtension;
use tempfile::TempDir;
use watchover::adapters::sqlite::SqliteJournal;
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{Actor, Moment, Outcome, SiteName};
use watchover::ports::Journal;

use crate::outage::{most_at_once, one_move_each};
use crate::real::Daemon;
use crate::rush::lag;
use crate::sites::{Heard, Pace, Role, Sites};
use crate::stage::journal;
use crate::{memory_of, number};

/// Apps of a plain `cargo test`.
const USUAL: usize = 20;
/// The reference's pace, which twenty apps can have anywhere.
const REFERENCE: Pace = Pace { interval: Duration::from_secs(1), fast: Duration::from_millis(250), outage: Duration::from_secs(3) };
/// The pace of the figures. Three looks an app, each with a connection of its own, are 300 a second while a thousand are
/// well and 600 while they are in doubt. What `make load` builds (others' code unoptimised) uses about a millisecond of a
/// core for each: at the reference's pace, 12,000 a second in doubt, two cores would be measured and not the daemon.
const WIDE: Pace = Pace { interval: Duration::from_secs(10), fast: Duration::from_secs(5), outage: Duration::from_secs(12) };
/// Resident memory of the daemon, at the most: it must not grow with what happens, only with how many are watched.
const MEMORY: u64 = 128 << 20;
const MEMORY_EACH: u64 = 512 << 10;
/// A full machine may be slow, and is not wrong.
const PATIENCE: Duration = Duration::from_secs(900);

fn config(sites: &Sites, dir: &Path, apps: usize, limit: usize, pace: Pace) -> String {
    let [primary, standby, front, witness] = [Role::Primary, Role::Standby, Role::Front, Role::Witness].map(|role| sites.address(role));
    let (interval, fast) = (humantime::format_duration(pace.interval), humantime::format_duration(pace.fast));
    let dir = dir.display();
    // Nobody is there to be asked for names, nor at AWS: all stands by address.
    let mut text = format!(
        r#"
[daemon]
observer = "bastion-load"
listen = "127.0.0.1:0"
admin_socket = "{dir}/admin.sock"
state_dir = "{dir}/state"
[aws]
endpoint_url = "http://127.0.0.1:9"
[witness]
urls = ["http://{witness}/"]
[dns]
resolvers = ["127.0.0.1:9"]
[limits]
max_concurrent_groups = {limit}
"#
    );
    for at in 0..apps {
        let site = |word: &str, region: &str, address: &str| {
            format!(
                r#"[app.{word}]
region = "{region}"
marker = {{ header = "x-region", value = "{word}" }}
[[app.{word}.signal]]
name = "web"
kind = "http"
url = "http://{address}/{at}"
"#
            )
        };
        write!(
            text,
            r#"
[[app]]
name = "app-{at}"
startup_grace = "1s"
min_outage = "{outage}s"
[app.front_door]
url = "http://{front}/{at}"
[app.probe]
interval = "{interval}"
fast_interval = "{fast}"
window = {{ span = "5m", down_rate = 0.5, min_looks = 20 }}
{}{}[[app.failover]]
name = "answers"
kind = "http-check"
class = "capacity"
url = "http://{standby}/check"
times = 2
interval = "250ms"
[[app.failover]]
name = "traffic"
kind = "command"
class = "traffic"
argv = ["/bin/mkdir", "{dir}/moved/{at}"]
"#,
            site("primary", "eu-west-1", primary),
            site("standby", "eu-central-1", standby),
            outage = pace.outage.as_secs(),
        )
        .unwrap();
    }
    text
}

/// An earlier life knew that every primary is active: a program cannot be asked where it has led the users.
fn seed(state: &Path, apps: usize) {
    let mut journal = SqliteJournal::open(state, "bastion-load").unwrap();
    journal.replay().unwrap();
    let by = Actor { who: "load".into(), reason: "nothing has moved".into() };
    let rows: Vec<Record> = (0..apps)
        .map(|at| Record {
            seq: 0,
            at: Moment { mono: 0, wall: wall() },
            boot_id: "an earlier boot".into(),
            app: Some(format!("app-{at}")),
            incident: None,
            epoch: 1,
            entry: Entry::Active { site: SiteName::Primary, by: by.clone() },
        })
        .collect();
    journal.append(&rows).unwrap();
}

fn wall() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn count(state: &Path, kind: &str) -> usize {
    let count: i64 = journal(state).query_row("SELECT count(*) FROM entries WHERE kind = ?1", [kind], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

/// What the first that is stuck waits for.
fn stuck(state: &Path) -> Option<String> {
    journal(state).query_row("SELECT json FROM entries WHERE kind = 'stuck'", [], |row| row.get(0)).optional().unwrap()
}

fn wait(what: &str, daemon: &Daemon, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {}s: {what}\n{}", PATIENCE.as_secs(), daemon.said());
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Processor time so far; the system counts it in hundredths of a second.
fn cpu(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name in brackets: user and system time are the twelfth and the thirteenth.
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// Never more at once than may, one move each, and all of them to their end.
fn in_turn(apps: usize, limit: usize, rows: &[Record]) {
    for row in rows {
        // A slow look was a doubt, and no more than that.
        if let Entry::Closed { outcome, .. } = &row.entry
            && !matches!(outcome, Outcome::Moved | Outcome::NoAction)
        {
            let story: Vec<_> =
                rows.iter().filter(|one| one.app == row.app).map(|one| format!("{} {:?}", one.at.mono, one.entry)).collect();
            panic!("it ended with {outcome:?}: {story:#?}");
        }
    }
    let most = most_at_once(rows);
    assert!(most <= limit, "{most} groups were moving at once");
    one_move_each(apps, rows);
}

fn tell(name: &str, heard: &Heard, seconds: f64) {
    let [mean, worst] = heard.late();
    println!(
        "  {name}: {} looks in {seconds:.1} s, {:.0} a second; {mean:.1} ms late on average, {worst:.0} at worst",
        heard.count(),
        heard.count() as f64 / seconds
    );
}

/// All primaries are lost at once, and everybody is moved; `rest` is how long all is well before.
fn play(apps: usize, limit: usize, pace: Pace, rest: Duration) {
    let dir = TempDir::new().unwrap();
    let (file, state, moved) = (dir.path().join("config.toml"), dir.path().join("state"), dir.path().join("moved"));
    std::fs::create_dir(&moved).unwrap();
    let sites = Sites::start(apps, pace, moved);
    std::fs::write(&file, config(&sites, dir.path(), apps, limit, pace)).unwrap();
    seed(&state, apps);
    let begun = Instant::now();
    let daemon = Daemon::start(&file);
    let pid = daemon.process.0.id();
    wait("it is ready", &daemon, || daemon.get("/readyz").0 == 200);
    let ready = begun.elapsed().as_secs_f64();
    // What was doubted while it started is well again, and every look has found its turn.
    std::thread::sleep(pace.interval * 2);
    let (rested, used) = (Instant::now(), cpu(pid));
    sites.measures(true);
    std::thread::sleep(rest);
    let lost = wall();
    sites.lose();
    let (rested, resting) = (rested.elapsed().as_secs_f64(), cpu(pid) - used);
    let before = cpu(pid);
    wait("everybody has moved", &daemon, || {
        assert_eq!(stuck(&state), None);
        count(&state, "executed") == apps && count(&state, "closed") == count(&state, "opened")
    });
    // The most that was resident at once.
    let (busy, memory) = (cpu(pid) - before, memory_of(pid, "status", "VmHWM").unwrap());
    let lag = lag(&daemon);
    let rows = SqliteJournal::read(&state).unwrap();
    daemon.stop();
    assert!(memory < MEMORY + MEMORY_EACH * apps as u64, "{memory} bytes");

    let seconds = |micros: i64| micros as f64 / 1e6;
    let last = |kind: &str| seconds(rows.iter().filter(|row| row.entry.kind() == kind).map(|row| row.at.wall).max().unwrap() - lost);
    let late = |row: &Record| match &row.entry {
        Entry::Confirmed { first_failed, .. } => Some(seconds(row.at.mono - first_failed.mono) - pace.outage.as_secs_f64()),
        _ => None,
    };
    let mut late: Vec<f64> = rows.iter().filter_map(late).collect();
    late.sort_unstable_by(f64::total_cmp);
    let doubts = rows.iter().filter(|row| row.entry.kind() == "opened").count() - apps;
    println!(
        "{apps} apps in one daemon, {limit} at once, looks every {:?}, in doubt {:?}; ready {ready:.1} s after its start",
        pace.interval, pace.fast
    );
    tell("at rest", sites.heard()[0], rested);
    tell("in doubt", sites.heard()[1], last("closed"));
    println!(
        "  decisions: {:.0} ms late at the median, {:.0} at worst; the last {:.2} s after the loss; {doubts} doubts besides",
        late[late.len() / 2] * 1e3,
        late[late.len() - 1] * 1e3,
        last("confirmed")
    );
    println!(
        "  all moved {:.1} s after the loss; pulse {:.1} ms late on average, all below {:.0} ms",
        last("closed"),
        lag.0 * 1e3,
        lag.1 * 1e3
    );
    println!(
        "  processor: {:.2} of a core at rest, {busy:.1} s for the outage ({:.2} of a core); {} MB at most",
        resting / rested,
        busy / last("closed"),
        memory >> 20
    );
    in_turn(apps, limit, &rows);
}

#[test]
fn a_daemon_with_many_apps_moves_each_once_and_in_turn() {
    play(USUAL, 5, REFERENCE, Duration::from_secs(1));
}

#[test]
#[ignore = "prints figures: make load"]
fn figures_of_a_daemon_with_many_apps() {
    let apps = number("APPS", 1_000);
    // The limit goes with the size, so that both wait for as many turns.
    for apps in [(apps / 10).max(1), apps] {
        play(apps, (apps / 20).max(1), WIDE, Duration::from_secs(20));
    }
}
