use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::domain::ledger::Entry;
use crate::domain::model::{Actor, Direction, Moment, Outcome, SiteName, Trigger};

const PLACE: &str = "WATCHOVER_TEST_STATE_DIR";

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn record(turn: i64) -> Record {
    let entry = match turn % 3 {
        0 => Entry::Started { version: "1".into(), observer: "here".into(), config: "config.toml".into() },
        1 => Entry::Opened { trigger: Trigger::Outage, direction: Direction::ToStandby, first_failed: None, words: "alb down".into() },
        _ => Entry::Paused { until: turn, by: Actor { who: "uid 0 (root)".into(), reason: "maintenance".into() } },
    };
    let app = (turn % 3 != 0).then(|| "shop".to_owned());
    Record {
        seq: 0,
        at: Moment { mono: turn, wall: 1_000 + turn },
        boot_id: "boot".into(),
        app,
        incident: Some(format!("shop-{turn}")),
        epoch: 3,
        entry,
    }
}

fn numbered(count: i64) -> Vec<Record> {
    (1..=count).map(|turn| Record { seq: turn, ..record(turn) }).collect()
}

fn filled(state: &Path, count: i64) -> SqliteJournal {
    let mut journal = SqliteJournal::open(state, "bastion").unwrap();
    for turn in 1..=count {
        journal.append(&[record(turn)]).unwrap();
    }
    journal
}

/// Changes the closed file behind the journal's back.
fn edit(state: &Path, sql: &str) {
    let db = Connection::open(state.join(FILE)).unwrap();
    db.execute_batch(sql).unwrap();
}

fn replayed(state: &Path) -> Result<Vec<Record>, JournalError> {
    SqliteJournal::open(state, "bastion").and_then(|mut journal| journal.replay())
}

/// The sequence number that both ways of reading name as changed.
fn tampered_at(state: &Path) -> i64 {
    let seqs = [SqliteJournal::read(state), replayed(state)].map(|found| match found {
        Err(JournalError::Tampered { seq, .. }) => seq,
        other => panic!("not refused: {other:?}"),
    });
    assert_eq!(seqs[0], seqs[1]);
    seqs[0]
}

fn unwritable(found: Result<impl Sized, JournalError>) -> String {
    match found {
        Err(error @ JournalError::Unwritable { .. }) => error.to_string(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn what_is_appended_is_replayed_in_order_and_over_restarts() {
    let home = dir();
    let state = home.path().join("var/lib/watchover");
    drop(filled(&state, 3));
    let mut again = SqliteJournal::open(&state, "bastion").unwrap();
    again.append(&[record(4), record(5)]).unwrap();
    assert_eq!(again.replay().unwrap(), numbered(5));
    again.append(&[]).unwrap();
    assert_eq!(SqliteJournal::read(&state).unwrap(), numbered(5), "while the writer is there");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state) & !0o750, 0);
    assert_eq!(mode(&state.join(FILE)) & !0o640, 0);
}

#[test]
fn the_place_serves_one() {
    let state = dir();
    let first = filled(state.path(), 1);
    match SqliteJournal::open(state.path(), "second") {
        Err(JournalError::Held { holder, .. }) => {
            assert_eq!(holder, format!("pid {}, observer bastion", std::process::id()));
        }
        other => panic!("not refused: {:?}", other.map(|_| ())),
    }
    drop(first);
    SqliteJournal::open(state.path(), "second").unwrap();
}

#[test]
fn the_place_serves_one_process() {
    let state = dir();
    let _first = filled(state.path(), 1);
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adapters::sqlite::tests::another_process", "--nocapture"])
        .env(PLACE, state.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(said.contains(&format!("refused: pid {}, observer bastion", std::process::id())), "{said}");
}

/// The other half of the test above; by itself it has nothing to do.
#[test]
fn another_process() {
    let Some(state) = std::env::var_os(PLACE) else { return };
    match SqliteJournal::open(Path::new(&state), "other") {
        Err(JournalError::Held { holder, .. }) => println!("refused: {holder}"),
        other => println!("not refused: {:?}", other.map(|_| ())),
    }
}

#[test]
fn a_cut_of_the_log_at_any_byte_leaves_a_prefix() {
    let (state, cut) = (dir(), dir());
    let journal = filled(state.path(), 6);
    let log = fs::read(place::beside(&state.path().join(FILE), "-wal")).unwrap();
    let mut longest = 0;
    for length in (0..=log.len()).step_by(997).chain([log.len() - 1, log.len()]) {
        let place = cut.path().join(length.to_string());
        fs::create_dir(&place).unwrap();
        fs::copy(state.path().join(FILE), place.join(FILE)).unwrap();
        fs::write(place::beside(&place.join(FILE), "-wal"), &log[..length]).unwrap();
        let mut found = SqliteJournal::open(&place, "bastion").unwrap();
        let records = found.replay().unwrap();
        assert_eq!(records, numbered(records.len() as i64), "cut at {length}");
        assert!(records.len() >= longest || length < log.len(), "a longer log holds no less");
        longest = longest.max(records.len());
        found.append(&[record(records.len() as i64 + 1)]).unwrap();
        assert_eq!(found.replay().unwrap().len(), records.len() + 1);
    }
    assert_eq!(longest, 6);
    drop(journal);
}

#[test]
fn a_change_within_is_refused_by_its_number() {
    let faults = [
        ("UPDATE entries SET json = replace(json, 'alb', 'alB') WHERE seq = 4", 4),
        ("UPDATE entries SET wall = wall + 1 WHERE seq = 5", 5),
        ("UPDATE entries SET app = NULL WHERE seq = 2", 2),
        ("UPDATE entries SET boot_id = 'other' WHERE seq = 1", 1),
        ("UPDATE entries SET prev_hash = '00' WHERE seq = 1", 1),
        ("DELETE FROM entries WHERE seq = 3", 3),
        ("DELETE FROM entries WHERE seq = 1", 1),
        ("DELETE FROM entries WHERE seq = 7", 7),
        ("DELETE FROM entries", 1),
        (
            "UPDATE entries SET seq = 100 WHERE seq = 3; UPDATE entries SET seq = 3 WHERE seq = 4; UPDATE entries SET seq = 4 WHERE seq = 100",
            2,
        ),
        ("UPDATE entries SET epoch = 9 WHERE seq = 7", 7),
        ("UPDATE entries SET schema = 9 WHERE seq = 7", 7),
        ("UPDATE head SET seq = 6", 7),
        ("UPDATE head SET hash = 'x'", 7),
        ("DELETE FROM head", 7),
        (
            "INSERT INTO entries SELECT 8, schema, wall, boot_id, mono, app, incident, epoch, kind, json, prev_hash FROM entries WHERE seq = 7",
            7,
        ),
    ];
    for (sql, seq) in faults {
        let state = dir();
        drop(filled(state.path(), 7));
        edit(state.path(), sql);
        assert_eq!(tampered_at(state.path()), seq, "{sql}");
        let mut journal = SqliteJournal::open(state.path(), "bastion").unwrap();
        let appended = journal.append(&[record(8)]);
        assert!(matches!(appended, Err(JournalError::Tampered { .. })), "nothing is appended to a journal nobody replayed: {appended:?}");
    }
}

#[test]
fn a_second_writer_behind_our_back_is_noticed() {
    let state = dir();
    let mut journal = filled(state.path(), 3);
    edit(state.path(), "UPDATE head SET hash = 'x'");
    let error = journal.append(&[record(4)]).unwrap_err();
    assert!(error.to_string().contains("somebody else writes"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A byte that flips anywhere in the file is refused by name, or lies where nothing is kept.
    #[test]
    fn a_flipped_byte_never_yields_another_story(at in 0.0_f64..1.0, bit in 0_u8..8) {
        let state = dir();
        drop(filled(state.path(), 12));
        let file = state.path().join(FILE);
        let mut bytes = fs::read(&file).unwrap();
        let place = (at * bytes.len() as f64) as usize;
        bytes[place] ^= 1 << bit;
        fs::write(&file, bytes).unwrap();
        if let Ok(records) = replayed(state.path()) {
            prop_assert_eq!(records, numbered(12), "byte {}", place);
        }
    }
}

#[test]
fn a_newer_journal_is_named_and_left_alone() {
    let state = dir();
    drop(filled(state.path(), 2));
    edit(state.path(), "PRAGMA user_version = 2; UPDATE entries SET schema = 2 WHERE seq = 2");
    for found in [SqliteJournal::read(state.path()), replayed(state.path())] {
        assert!(matches!(found, Err(JournalError::Newer { seq: 2, schema: 2, known: 1, .. })), "{found:?}");
    }
}

/// A row as another version would have written it: the chain holds.
fn append_foreign(state: &Path, change: impl FnOnce(&mut Row)) {
    let mut journal = SqliteJournal::open(state, "other version").unwrap();
    let before = journal.checked_head().unwrap();
    let mut row = Row::of(&record(1), before.seq + 1, SCHEMA, before.hash.clone()).unwrap();
    change(&mut row);
    let after = Head { seq: row.seq, hash: row.hash() };
    assert!(journal.write(&[row], &before, &after).is_ok());
}

#[test]
fn entries_of_another_version_are_named() {
    let state = dir();
    drop(filled(state.path(), 2));
    append_foreign(state.path(), |row| {
        row.kind = "teleported".into();
        row.json = r#"{"kind":"teleported"}"#.into();
    });
    let said = unwritable(SqliteJournal::read(state.path()));
    assert!(said.contains("entry 3 (kind \"teleported\") is none that this watchover knows"), "{said}");

    let state = dir();
    append_foreign(state.path(), |row| row.schema = 7);
    let found = replayed(state.path());
    assert!(matches!(found, Err(JournalError::Newer { seq: 1, schema: 7, known: 1, .. })), "{found:?}");
}

#[test]
fn a_full_disk_takes_the_reserve_once_and_is_then_named() {
    let state = dir();
    let mut journal = filled(state.path(), 1);
    let long = || Record { entry: Entry::Stopped { reason: "x".repeat(40_000) }, ..record(3) };
    let pages: u32 = journal.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |journal: &SqliteJournal, pages: u32| journal.db.pragma_update(None, "max_page_count", pages).unwrap();
    assert!(journal.has_reserve());
    assert!(fs::metadata(state.path().join("reserve")).unwrap().len() >= 1 << 20);

    limit(&journal, pages);
    journal.pages_after_release = Some(pages + 20);
    journal.append(&[long()]).unwrap();
    assert!(journal.has_reserve(), "taken again, as this disk has room");

    limit(&journal, pages);
    journal.pages_after_release = None;
    let said = unwritable(journal.append(&[long()]));
    assert!(said.contains("writing failed") && said.contains("the disk is full"), "{said}");
    assert!(!journal.has_reserve());
    assert!(!state.path().join("reserve").exists());
    assert_eq!(journal.replay().unwrap().len(), 2, "what failed left nothing");

    limit(&journal, pages + 1000);
    journal.append(&[long()]).unwrap();
    assert!(journal.has_reserve());
    assert_eq!(SqliteJournal::read(state.path()).unwrap().len(), 3);
}

#[test]
fn a_file_that_is_gone_beneath_us_takes_nothing_until_it_is_back() {
    for name in [FILE, "journal.sqlite-wal", "lock"] {
        let state = dir();
        let mut journal = filled(state.path(), 2);
        let (file, away) = (state.path().join(name), state.path().join("away"));
        fs::rename(&file, &away).unwrap();
        let said = unwritable(journal.append(&[record(3)]));
        assert!(said.contains("removed or replaced") && said.contains(name), "{said}");
        fs::copy(&away, &file).unwrap();
        let said = unwritable(journal.append(&[record(3)]));
        assert!(said.contains("removed or replaced"), "a copy is another file: {said}");
        fs::rename(&away, &file).unwrap();
        journal.append(&[record(3)]).unwrap();
        assert_eq!(SqliteJournal::read(state.path()).unwrap(), numbered(3));
    }
}

#[test]
fn a_figure_that_would_not_read_back_is_refused_when_it_is_written() {
    let state = dir();
    let mut journal = filled(state.path(), 1);
    let said = unwritable(journal.append(&[Record { entry: Entry::Gap { seconds: f64::NAN }, ..record(2) }]));
    assert!(said.contains("entry 2 (gap) would not read back"), "{said}");
    journal.append(&[record(2)]).unwrap();
    assert_eq!(journal.replay().unwrap(), numbered(2));
}

#[test]
fn places_that_cannot_hold_a_journal_are_named() {
    let home = dir();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    let said = unwritable(SqliteJournal::open(&file.join("state"), "bastion"));
    assert!(said.contains("making state_dir failed") && said.contains("a file stands where"), "{said}");
    unwritable(SqliteJournal::open(Path::new("/proc/watchover"), "bastion"));

    let said = unwritable(SqliteJournal::read(home.path()));
    assert!(said.contains("opening for reading failed") && said.contains("has a daemon ever run there?"), "{said}");

    fs::write(home.path().join(FILE), "This is a letter to my aunt, and by no means a database.\n".repeat(100)).unwrap();
    for said in [unwritable(SqliteJournal::open(home.path(), "bastion")), unwritable(SqliteJournal::read(home.path()))] {
        assert!(said.contains("it is not a journal"), "{said}");
    }
    assert!(fs::read(home.path().join(FILE)).unwrap().starts_with(b"This is a letter"), "left alone");

    let other = dir();
    edit(other.path(), "CREATE TABLE recipes (name TEXT)");
    let said = unwritable(SqliteJournal::open(other.path(), "bastion"));
    assert!(said.contains("a database of another program") || said.contains("database of another program"), "{said}");

    let empty = dir();
    fs::write(empty.path().join(FILE), "").unwrap();
    assert!(unwritable(SqliteJournal::read(empty.path())).contains("nothing was ever recorded"));
    assert_eq!(replayed(empty.path()).unwrap(), []);
}

#[test]
fn a_medium_that_takes_no_index_is_read_from_a_copy() {
    let (state, medium) = (dir(), dir());
    let journal = filled(state.path(), 4);
    let (from, to) = (state.path().join(FILE), medium.path().join(FILE));
    fs::copy(&from, &to).unwrap();
    fs::copy(place::beside(&from, "-wal"), place::beside(&to, "-wal")).unwrap();
    // Stands for a read-only medium, whoever runs this: SQLite does not follow links there.
    std::os::unix::fs::symlink("/nonexistent/index", place::beside(&to, "-shm")).unwrap();
    assert_eq!(SqliteJournal::read(medium.path()).unwrap(), numbered(4));
    drop(journal);
    fs::copy(&from, &to).unwrap();
    fs::remove_file(place::beside(&to, "-wal")).unwrap();
    assert_eq!(SqliteJournal::read(medium.path()).unwrap(), numbered(4));
}

fn told(seq: i64, app: Option<&str>, incident: Option<&str>, entry: Entry) -> Record {
    Record { app: app.map(str::to_owned), incident: incident.map(str::to_owned), entry, ..record(seq) }
}

fn opened() -> Entry {
    Entry::Opened { trigger: Trigger::Outage, direction: Direction::ToStandby, first_failed: None, words: "alb down".into() }
}

fn closed(active: Option<SiteName>) -> Entry {
    Entry::Closed { outcome: Outcome::NoAction, active, figures: Box::default(), by: None }
}

fn says_active(site: SiteName) -> Entry {
    Entry::Active { site, by: Actor { who: "uid 0 (root)".into(), reason: "told".into() } }
}

fn gap() -> Entry {
    Entry::Gap { seconds: 4.0 }
}

/// Two apps, three incidents, the daemon's own rows between them.
fn shelf(state: &Path) -> SqliteJournal {
    let mut journal = SqliteJournal::open(state, "bastion").unwrap();
    let rows = [
        told(1, Some("shop"), None, says_active(SiteName::Standby)),
        told(2, Some("shop"), Some("shop-a"), opened()),
        told(3, Some("shop"), Some("shop-a"), closed(None)),
        told(4, None, None, gap()),
        told(5, Some("till"), Some("till-a"), opened()),
        told(6, Some("shop"), Some("shop-b"), opened()),
        told(7, Some("till"), None, says_active(SiteName::Primary)),
        told(8, None, None, gap()),
        told(9, Some("till"), Some("till-a"), closed(None)),
        told(10, Some("shop"), None, says_active(SiteName::Primary)),
    ];
    journal.append(&rows).unwrap();
    journal
}

fn seqs(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.seq).collect()
}

#[test]
fn incidents_are_read_by_pages_with_what_belongs_to_them() {
    let state = dir();
    let _writer = shelf(state.path());
    let pages = Pages::open(state.path()).unwrap();
    let ids = |page: Page| -> Vec<String> { pages.incidents(&page).unwrap().into_iter().map(|one| one.id).collect() };
    let all = Page { limit: 9, ..Page::default() };
    assert_eq!(ids(all.clone()), ["shop-b", "till-a", "shop-a"]);
    assert_eq!(ids(Page { limit: 1, ..all.clone() }), ["shop-b"]);
    assert_eq!(ids(Page { before: Some(6), limit: 1, ..all.clone() }), ["till-a"]);
    assert_eq!(ids(Page { app: Some("shop".into()), ..all.clone() }), ["shop-b", "shop-a"]);
    assert_eq!(ids(Page { since: 6, ..all }), ["till-a"], "shop-b has no row after 6");
    assert_eq!(pages.place("till-a").unwrap(), Some(Place { id: "till-a".into(), first: 5, last: 9 }));
    assert_eq!(pages.place("till-b").unwrap(), None);

    assert_eq!(seqs(&pages.rows("till-a", 5, 9).unwrap()), [9]);
    assert_eq!(seqs(&pages.chapter("shop-a").unwrap()), [1, 2, 3]);
    assert_eq!(seqs(&pages.chapter("shop-b").unwrap()), [1, 6, 8, 10], "open: to the end, past a close that names no site");
    assert_eq!(seqs(&pages.chapter("till-a").unwrap()), [5, 7, 8, 9]);
    assert!(pages.chapter("till-b").unwrap().is_empty());
}

#[test]
fn what_is_seen_after_the_end_of_an_incident_belongs_to_it_and_nothing_else_of_later_does() {
    let state = dir();
    let mut writer = shelf(state.path());
    let seen = Entry::OldSiteSeen { incident: "shop-a".into(), site: SiteName::Primary, at: Moment::default(), words: "it answers".into() };
    writer.append(&[Record { app: Some("shop".into()), incident: Some("shop-a".into()), entry: seen, ..record(11) }]).unwrap();
    let pages = Pages::open(state.path()).unwrap();
    assert_eq!(seqs(&pages.chapter("shop-a").unwrap()), [1, 2, 3, 11]);
    assert_eq!(pages.outline("shop-a").unwrap().last().map(|row| row.seq), Some(11));
    assert_eq!(seqs(&pages.chapter("shop-b").unwrap()), [1, 6, 8, 10]);
}

/// Each question goes by an index: none of them reads the table from its first row to its last.
#[test]
fn no_question_reads_the_whole_journal() {
    let state = dir();
    let _writer = shelf(state.path());
    let db = Connection::open(state.path().join(FILE)).unwrap();
    let way = |sql: &str| -> String {
        let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN SELECT * FROM entries {sql}")).unwrap();
        let lines = explained.query_map([], |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let own = way("WHERE incident = 'a' AND seq > 3 ORDER BY seq LIMIT 5");
    assert!(own.contains("SEARCH entries USING INDEX by_incident"), "{own}");
    let whole = way("WHERE incident = 'a'");
    assert!(whole.contains("SEARCH entries USING INDEX by_incident"), "{whole}");
    let within = way("WHERE seq BETWEEN 3 AND 9 AND incident IS NULL AND (app IS NULL OR app = 'shop')");
    assert!(within.contains("SEARCH entries USING INTEGER PRIMARY KEY"), "{within}");
    let openings = way("WHERE kind = 'opened' AND incident IS NOT NULL AND seq < 9 ORDER BY seq DESC LIMIT 5");
    assert!(openings.contains("USING INDEX openings") && !openings.contains("TEMP B-TREE"), "{openings}");
    let sites = way("WHERE app = 'shop' AND seq < 9 AND kind IN ('active', 'closed') ORDER BY seq DESC LIMIT 16");
    assert!(sites.contains("USING INDEX sites") && !sites.contains("TEMP B-TREE"), "{sites}");
}

#[test]
fn a_journal_without_indexes_is_read_and_gets_them_with_its_next_start() {
    let state = dir();
    drop(shelf(state.path()));
    edit(state.path(), "DROP INDEX by_incident; DROP INDEX openings; DROP INDEX sites;");
    let names = || -> i64 {
        let db = Connection::open(state.path().join(FILE)).unwrap();
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(seqs(&Pages::checked(state.path()).unwrap().chapter("till-a").unwrap()), [5, 7, 8, 9]);
    assert_eq!(names(), 0);
    SqliteJournal::open(state.path(), "bastion").unwrap();
    assert_eq!(names(), 3);
}

#[test]
fn a_reader_that_stands_alone_checks_the_chain_first() {
    let state = dir();
    drop(shelf(state.path()));
    edit(state.path(), "UPDATE entries SET app = 'till' WHERE seq = 2");
    assert!(matches!(Pages::checked(state.path()), Err(JournalError::Tampered { seq: 2, .. })));
}
