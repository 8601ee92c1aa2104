//! The real binary against people who mean no good: other users at its socket, pages of other sites at its open door,
//! clients that ask too much or too slowly, and everybody who reads what it prints.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails here must fail the test")]
#![allow(dead_code, reason = "each test file uses its part of the harness")]

#[path = "security/canary.rs"]
mod canary;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod real;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use real::{Daemon, LONG, Said, World, http, untested, until, watchover};
use serde_json::{Value, json};

/// An order that any watchover follows, and whose effect can be seen.
fn pause() -> String {
    json!({"order": "pause", "app": "shop", "for_seconds": 600, "reason": "by hand"}).to_string()
}

/// A whole request.
fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// Says it, and hears everything until the other side closes. Whoever is refused in the middle may be closed on while it
/// still writes, so that only the answer counts.
fn say(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn tcp(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(&daemon.listen).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

fn unix(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// The status of an answer; 0 for none.
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn socket(world: &World) -> PathBuf {
    let text = fs::read_to_string(&world.config).unwrap();
    PathBuf::from(text.split_once("admin_socket = \"").unwrap().1.split_once('"').unwrap().0)
}

fn is_paused(daemon: &Daemon) -> bool {
    daemon.metrics().value("watchover_paused", &[("app", "shop")]) == 1.0
}

/// Nothing was changed, in the daemon's mind or in the world.
fn nothing_was_done(world: &World, daemon: &Daemon) {
    assert!(!is_paused(daemon));
    daemon.calms();
    let (code, incidents) = daemon.get("/api/v1/incidents");
    let incidents: Value = serde_json::from_str(&incidents).unwrap();
    assert_eq!((code, &incidents["incidents"]), (200, &json!([])), "{incidents}");
    for operation in ["PromoteReadReplica", "UpdateAutoScalingGroup", "ChangeResourceRecordSets"] {
        assert_eq!(world.calls(operation), 0, "{operation}");
    }
}

// The socket.

/// A stranger to this machine's groups, by the number that every system has for nobody.
const NOBODY: &str = "65534";

/// Runs the program as nobody, in these groups besides.
fn as_nobody(program: &Path, groups: Option<u32>, args: &[&str]) -> Said {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}"));
    command.arg(groups.map_or("--clear-groups".to_owned(), |group| format!("--groups={group}")));
    // What it claims about itself counts for nothing.
    command.arg(program).args(args).env("USER", "root").env("LOGNAME", "root").env("SUDO_USER", "root");
    command.output().expect("setpriv runs; it is part of util-linux").into()
}

/// Only root may become another user.
fn may_become_another() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        untested("only root can ask as another user");
    }
    may
}

/// Everybody may come as far as the socket itself here: what refuses a stranger then is the socket.
fn open_world() -> World {
    let world = World::start();
    fs::set_permissions(world.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let inner = world.dir.path().join("run/deep/admin.sock");
    let old = socket(&world);
    world.edit(&[(&format!("admin_socket = \"{}\"", old.display()), &format!("admin_socket = \"{}\"", inner.display()))]);
    world
}

#[test]
fn under_the_units_umask_the_group_reads_the_journal_and_nobody_else_does() {
    if !may_become_another() {
        return;
    }
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/watchover.service")).unwrap();
    let umask = unit.lines().find_map(|line| line.strip_prefix("UMask=")).unwrap();
    let world = open_world();
    let mut start = Command::new("sh");
    start.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(env!("CARGO_BIN_EXE_watchover"));
    start.envs(watchover().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = Daemon::by(start, &world.config);
    daemon.settles();

    let state = world.dir.path().join("state");
    let group = Some(fs::metadata(&state).unwrap().gid());
    let program = world.dir.path().join("watchover");
    fs::copy(env!("CARGO_BIN_EXE_watchover"), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&world.config, Permissions::from_mode(0o644)).unwrap();
    let history = ["--config", world.config.to_str().unwrap(), "history"];
    let reads = || {
        let said = as_nobody(&program, group, &history);
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        let said = as_nobody(&program, None, &history);
        assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
        assert!(said.err.contains("Permission denied"), "{}", said.err);
    };
    reads();
    daemon.stop();
    // The daemon up or not.
    reads();
    for file in fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()) {
        let mode = fs::metadata(&file).unwrap().mode() & 0o7777;
        assert_eq!(mode & 0o027, 0, "{}: {mode:o}", file.display());
    }
}

#[test]
fn a_stranger_is_refused_by_the_socket_and_whoever_is_let_in_is_named_by_the_kernel() {
    if !may_become_another() {
        return;
    }
    let world = open_world();
    let socket = socket(&world);
    // The most careless of all surroundings.
    let mut start = Command::new("sh");
    start.args(["-c", "umask 000; exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_watchover"));
    start.envs(watchover().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = Daemon::by(start, &world.config);
    daemon.settles();

    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o7777, 0o660, "{:o}", found.mode());
    assert_eq!((found.uid(), found.gid()), (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    // Who may write into the directory may put another socket in its place, and hear every order.
    for place in ["run/deep", "run"] {
        let mode = fs::metadata(world.dir.path().join(place)).unwrap().mode() & 0o7777;
        assert_eq!(mode & 0o022, 0, "{place}: {mode:o}");
    }
    let beside = fs::read_dir(socket.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "nothing else lies beside it");
    let state = world.dir.path().join("state");
    for file in fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()) {
        let mode = fs::metadata(&file).unwrap().mode() & 0o7777;
        assert_eq!(mode & 0o027, 0, "{}: {mode:o}", file.display());
    }

    // A copy, because the build's own directory may be closed to others.
    let program = world.dir.path().join("watchover");
    fs::copy(env!("CARGO_BIN_EXE_watchover"), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&world.config, Permissions::from_mode(0o644)).unwrap();
    let config = world.config.to_str().unwrap();
    let order = ["--config", config, "pause", "shop", "--for", "10m", "--reason", "by a stranger"];

    // It comes as far as the socket, and no further.
    let seen = as_nobody(Path::new("/usr/bin/stat"), None, &["-c", "%a %F", socket.to_str().unwrap()]);
    assert_eq!(seen.out.trim(), "660 socket", "{}{}", seen.out, seen.err);
    for args in [&order[..], &["--config", config, "status"], &["--config", config, "failover", "shop", "--reason", "mine"]] {
        let said = as_nobody(&program, None, args);
        assert_eq!(said.code, Some(5), "{}{}", said.out, said.err);
        assert!(said.err.contains("Permission denied") && said.err.contains("group watchover"), "{}", said.err);
    }
    nothing_was_done(&world, &daemon);

    // In the socket's group it is let in, and stands under its own number, whatever it calls itself.
    let group = Some(found.gid());
    let said = as_nobody(&program, group, &["--config", config, "status"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let said = as_nobody(&program, group, &order);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    until("the pause is in force", || is_paused(&daemon).then_some(()));
    let mut actors = Vec::new();
    let db = rusqlite::Connection::open(state.join("journal.sqlite")).unwrap();
    let mut rows = db.prepare("SELECT json FROM entries WHERE json LIKE '%by a stranger%'").unwrap();
    for row in rows.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        actors.push(row.unwrap());
    }
    assert!(!actors.is_empty() && actors.iter().all(|row| row.contains(&format!("\"uid {NOBODY}"))), "{actors:?}");
    assert!(!actors.iter().any(|row| row.contains("uid 0") || row.contains("root")), "{actors:?}");

    // Nor can anybody write another name into the order itself.
    let forged = json!({"order": "resume", "app": "shop", "reason": "r", "who": "uid 0 (root)", "by": {"who": "uid 0 (root)"}}).to_string();
    let answer = say(unix(&socket), request("POST", "/api/v1/orders", &[("x-forwarded-user", "root")], &forged).as_bytes());
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.contains("who: unknown key") && answer.contains("by: unknown key"), "{answer}");
    assert!(is_paused(&daemon));
    daemon.stop();
}

#[test]
fn a_directory_that_others_closed_is_left_as_it_was() {
    let world = open_world();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(world.dir.path().join("run/deep")).unwrap();
    let daemon = Daemon::start(&world.config);
    let mode = fs::metadata(world.dir.path().join("run/deep")).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o700, "{mode:o}");
    assert_eq!(fs::metadata(socket(&world)).unwrap().mode() & 0o777, 0o660);
    daemon.stop();
}

// Who asks too much, or too slowly.

#[test]
fn what_is_too_large_or_too_slow_is_let_go_and_nobody_waits_for_it() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let socket = socket(&world);
    let began = Instant::now();

    // A head that never ends, and a client that falls silent after its answer: at both doors, from the start.
    let mut drips: Vec<(&str, Box<dyn Slow>)> = vec![("tcp", Box::new(tcp(&daemon))), ("unix", Box::new(unix(&socket)))];
    for (_, stream) in &mut drips {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-drip: ").unwrap();
    }
    let mut idle: Vec<(&str, Box<dyn Slow>)> = vec![("tcp", Box::new(tcp(&daemon))), ("unix", Box::new(unix(&socket)))];
    for (door, stream) in &mut idle {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200", "{door}");
    }
    // More silent clients than the open door has places.
    let crowd: Vec<TcpStream> = (0..300).map(|_| tcp(&daemon)).collect();

    // The operator's door does not notice.
    let asked = Instant::now();
    assert_eq!(world.command(&["status"]).code, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());

    // An order of a few words too many; one that has no end; one that is announced and never comes.
    let large = json!({"order": "pause", "app": "shop", "for_seconds": 600, "reason": "x".repeat(70_000)}).to_string();
    let answer = say(unix(&socket), request("POST", "/api/v1/orders", &[], &large).as_bytes());
    assert_eq!(status(&answer), 413, "{answer}");
    let mut endless = unix(&socket);
    endless
        .write_all(b"POST /api/v1/orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    // It takes a bounded part, and closes: some write then fails.
    let written = (0..100_000).take_while(|_| endless.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(written < 1_000, "{written} chunks were taken");
    let mut answer = Vec::new();
    let end = endless.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status(&answer), 413, "{answer}, {end:?}, after {written} chunks and {:?}", began.elapsed());
    let answer = say(
        unix(&socket),
        b"POST /api/v1/orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n{\"order\":",
    );
    assert!(matches!(status(&answer), 408 | 413), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());

    // Heads past every bound, at the operator's door; the crowd holds the other.
    let long = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20));
    let many: String = (0..5_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    let path = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(1 << 20));
    for (what, bytes) in [("a long header", long), ("many headers", many), ("a long path", path)] {
        let answer = say(unix(&socket), bytes.as_bytes());
        assert!(matches!(status(&answer), 414 | 431), "{what}: {answer}");
    }
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"POST /api/v1/orders HTTP/9.9\r\n\r\n"] {
        let answer = say(unix(&socket), garbage);
        assert!(matches!(status(&answer), 0 | 400 | 505), "{garbage:?}: {answer}");
    }

    // All of them are let go, though the dripping ones never stop to write.
    let patience = Duration::from_secs(45);
    for (door, mut stream) in drips {
        while stream.write_all(b"x").is_ok() {
            assert!(began.elapsed() < patience, "{door}: a head that never ends is heard for ever");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    for (door, stream) in idle {
        let rest = say(stream, b"");
        assert!(began.elapsed() < patience && rest.contains("ok"), "{door}: {:?} {rest}", began.elapsed());
    }
    for stream in crowd {
        drop(say(stream, b""));
        assert!(began.elapsed() < patience * 2, "a silent client is never let go");
    }
    assert_eq!(daemon.get("/livez").0, 200);
    nothing_was_done(&world, &daemon);
    daemon.stop();
}

trait Slow: Read + Write {}
impl<S: Read + Write> Slow for S {}

#[test]
fn a_manager_that_does_not_listen_holds_nobody_up() {
    let world = World::start();
    let place = world.dir.path().join("notify.sock");
    let _manager = UnixDatagram::bind(&place).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    let full = (0..100_000).find_map(|_| other.send_to(b"STATUS=full", &place).err()).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    let mut start = watchover();
    start.env("NOTIFY_SOCKET", &place);
    let daemon = Daemon::by(start, &world.config);
    daemon.settles();
    assert_eq!(world.command(&["pause", "shop", "--for", "10m", "--reason", "by hand"]).code, Some(0));
    until("the order is followed", || is_paused(&daemon).then_some(()));
    daemon.stop();
}

// The open door.

#[test]
fn the_open_door_has_no_verb_that_writes() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let (looks, orders) = watchover::runtime::admin::paths();
    assert!(looks.len() >= 8 && orders.len() >= 2, "{looks:?} {orders:?}");
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "BREW"];
    let ask = |method: &str, path: &str, more: &[(&str, &str)]| {
        let headers: Vec<(&str, &str)> =
            [("host", "localhost"), ("content-type", "application/json")].iter().chain(more).copied().collect();
        let answer = say(tcp(&daemon), request(method, path, &headers, &pause()).as_bytes());
        (status(&answer), answer)
    };
    for method in methods {
        for path in &orders {
            let (code, answer) = ask(method, path, &[]);
            assert_eq!(code, 404, "{method} {path}: {answer}");
        }
        for path in looks.iter().filter(|path| **path != "/api/v1/events") {
            let path = path.replace("{id}", "none-such");
            let (code, answer) = ask(method, &path, &[]);
            let wanted: &[u16] = if matches!(method, "GET" | "HEAD") { &[200, 404] } else { &[405] };
            assert!(wanted.contains(&code), "{method} {path}: {answer}");
        }
        if !matches!(method, "GET" | "HEAD") {
            assert_eq!(ask(method, "/api/v1/events", &[]).0, 405, "{method}");
        }
    }
    // Other spellings of the same.
    for path in [
        "//api/v1/orders",
        "/api/v1/orders/",
        "/api/v1/%6frders",
        "/metrics/../api/v1/orders",
        "/API/V1/ORDERS",
        "/api/v1/orders;x",
        "http://localhost/api/v1/orders",
    ] {
        let (code, answer) = ask("POST", path, &[]);
        assert_eq!(code, 404, "{path}: {answer}");
    }
    for name in ["x-http-method-override", "x-method-override", "x-http-method"] {
        let (code, answer) = ask("GET", "/api/v1/orders", &[(name, "POST")]);
        assert_eq!(code, 404, "{name}: {answer}");
    }
    nothing_was_done(&world, &daemon);

    // The same words at the other door are an order.
    for method in methods.iter().filter(|method| **method != "POST") {
        for path in &orders {
            let answer = say(unix(&socket(&world)), request(method, path, &[("host", "localhost")], &pause()).as_bytes());
            assert_eq!(status(&answer), 405, "{method} {path}: {answer}");
        }
    }
    nothing_was_done(&world, &daemon);
    let answer = say(unix(&socket(&world)), request("POST", "/api/v1/orders", &[("host", "localhost")], &pause()).as_bytes());
    assert_eq!(status(&answer), 200, "{answer}");
    until("the order is followed", || is_paused(&daemon).then_some(()));
    daemon.stop();
}

#[test]
fn a_page_of_another_site_reads_nothing_and_orders_nothing() {
    let world = World::start();
    let daemon = Daemon::steady(&world.config);
    let own = daemon.listen.clone();
    let own_origin = format!("http://{own}");
    let observer = {
        let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").1).unwrap();
        status["observer"].as_str().unwrap_or("localhost").to_owned()
    };

    // DNS rebinding: a name of theirs that points here.
    for host in ["evil.example", "evil.example:9750", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example", ""] {
        for path in ["/", "/metrics", "/api/v1/status", "/api/v1/events"] {
            let (code, _, body) = http(&own, "GET", path, host, "");
            assert!(code == 421 && !body.contains("shop"), "{host} {path}: {code} {body}");
        }
    }
    let two = "GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let answer = say(tcp(&daemon), two.as_bytes());
    assert!(matches!(status(&answer), 400 | 421), "{answer}");
    for host in [own.as_str(), "localhost", "[::1]:9750", observer.as_str()] {
        assert_eq!(http(&own, "GET", "/api/v1/status", host, "").0, 200, "{host}");
    }

    // Scripts, pictures and forms of other sites, by what browsers say of them.
    let foreign: &[&[(&str, &str)]] = &[
        &[("origin", "https://evil.example")],
        &[("origin", "http://localhost:1")],
        &[("origin", "null")],
        &[("origin", "evil")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        &[("sec-fetch-site", "cross-site")],
    ];
    let ours: &[&[(&str, &str)]] = &[
        &[],
        &[("origin", &own_origin)],
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        // A person follows a link in a chat.
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
    ];
    for path in ["/", "/metrics", "/api/v1/status", "/api/v1/incidents", "/livez"] {
        let ask = |more: &[(&str, &str)]| {
            let headers: Vec<(&str, &str)> = [("host", own.as_str())].iter().chain(more).copied().collect();
            say(tcp(&daemon), request("GET", path, &headers, "").as_bytes())
        };
        for headers in foreign {
            let answer = ask(headers);
            assert!(status(&answer) == 403 && !answer.contains("shop"), "{path} {headers:?}: {answer}");
        }
        for headers in ours {
            let answer = ask(headers).to_lowercase();
            assert_eq!(status(&answer), 200, "{path} {headers:?}: {answer}");
            assert!(!answer.contains("access-control-"), "{path}: {answer}");
            for wanted in ["cross-origin-resource-policy: same-origin", "x-frame-options: deny", "x-content-type-options: nosniff"] {
                assert!(answer.contains(wanted), "{path}: {wanted}: {answer}");
            }
        }
    }

    // Nor through a proxy that somebody put before the socket.
    for headers in foreign.iter().chain(&ours[1..]) {
        for path in watchover::runtime::admin::paths().1 {
            let answer = say(unix(&socket(&world)), request("POST", path, headers, &pause()).as_bytes());
            assert!(status(&answer) == 403 && answer.contains("not taken from web pages"), "{path} {headers:?}: {answer}");
        }
    }
    nothing_was_done(&world, &daemon);
    daemon.stop();
}

// The source.

#[test]
fn no_unsafe_code_can_be_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Value = toml::from_str(&fs::read_to_string(root.join("Cargo.toml")).unwrap()).unwrap();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"), "for tests, too");
    for file in ["src/lib.rs", "src/main.rs"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.lines().any(|line| line == "#![forbid(unsafe_code)]"), "{file}");
    }
}
