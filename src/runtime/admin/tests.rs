//! The open door over real sockets, and the rules that need none. The other door is tried where its client stands.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::domain::ledger::Entry;
use crate::domain::model::Moment;

struct Door {
    at: SocketAddr,
    state: State,
    pending: watch::Sender<Vec<String>>,
    _stop: tokio_util::sync::DropGuard,
    _dir: tempfile::TempDir,
}

fn record(seq: i64) -> Record {
    let entry = Entry::Opened {
        trigger: crate::domain::model::Trigger::Outage,
        direction: crate::domain::model::Direction::ToStandby,
        first_failed: None,
        words: "w".repeat(2000),
    };
    Record {
        seq,
        at: Moment::default(),
        boot_id: "b".into(),
        app: Some("shop".into()),
        incident: Some(format!("shop-{}", seq % 3)),
        epoch: 1,
        entry,
    }
}

/// Three incidents of three rows each, in a journal as the daemon writes it.
fn journal() -> (tempfile::TempDir, Reader) {
    use crate::ports::Journal;
    let dir = tempfile::tempdir().unwrap();
    let mut written = crate::adapters::sqlite::SqliteJournal::open(dir.path(), "bastion").unwrap();
    let rows: Vec<Record> =
        (1..=9).map(|seq| if seq <= 3 { record(seq) } else { Record { entry: Entry::Executed, ..record(seq) } }).collect();
    written.append(&rows).unwrap();
    let place = dir.path().to_owned();
    (dir, Arc::new(move |asked: &Asked| read(&place, asked)))
}

/// A surface without a daemon behind it, on its own thread as in life.
async fn door(rows: usize) -> Door {
    let (dir, journal) = journal();
    let clock = Clock::system();
    let (pending, pending_seen) = watch::channel(vec!["shop: primary.alb was not looked at yet".to_owned()]);
    let status = json!({"schema_version": 1, "apps": [{"name": "shop"}, {"name": "till"}]});
    let state = State {
        status: watch::channel(Arc::new(status)).1,
        pending: pending_seen,
        events: broadcast::Sender::new(rows),
        metrics: Arc::new(Metrics::new("test")),
        orders: mpsc::channel(1).0,
        reload: mpsc::channel(1).0,
        beat: Arc::new(AtomicI64::new(clock.now().mono)),
        clock,
        journal,
        hosts: vec!["Bastion.example.com".to_owned()],
    };
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let at = tcp.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (served, token) = (state.clone(), stop.clone());
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let router = read_only(&served, &token);
            listen::serve_tcp(tokio::net::TcpListener::from_std(tcp).unwrap(), router, token).await;
        });
    });
    Door { at, state, pending, _stop: stop.drop_guard(), _dir: dir }
}

impl Door {
    async fn say(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for the rows to come.
    async fn listen(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        stream
    }

    /// The same, and is let in.
    async fn heard(&self) -> TcpStream {
        let stream = self.listen().await;
        while self.state.events.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream
    }

    async fn ask(&self, method: &str, path: &str, host: &str) -> String {
        self.say(&format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask("GET", path, "127.0.0.1").await
    }
}

#[tokio::test]
async fn a_question_that_is_none_is_told_so_in_a_document_of_ours() {
    let door = door(8).await;
    for (path, words) in [
        ("/api/v1/incidents?limit=abc", "limit: \"abc\" is not a count"),
        ("/api/v1/incidents?before=nope&since=-", "since: \"-\" is not the number of a row"),
        ("/api/v1/incidents?before=nope", "take the `next_before` of a page"),
        ("/api/v1/incidents/shop-1?since=99999999999999999999", "since: "),
        ("/api/v1/status?limit=", "limit: \"\" is not a count"),
        ("/api/v1/incidents/%ff", "the incident's id is not UTF-8"),
    ] {
        let answer = door.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("content-type: application/json"), "{path}: {answer}");
        let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(document["schema_version"], 1);
        assert!(document["error"].as_str().unwrap().contains(words), "{path}: {document}");
    }
    assert!(door.get("/api/v1/incidents?limit=1&since=&x=y").await.starts_with("HTTP/1.1 400"));
    assert!(door.get("/api/v1/incidents?limit=1&x=y").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn nothing_that_changes_anything_stands_at_the_open_door() {
    let door = door(8).await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for path in
            ["/", "/metrics", "/livez", "/readyz", "/api/v1/status", "/api/v1/incidents", "/api/v1/incidents/shop-1", "/api/v1/events"]
        {
            let answer = door.ask(method, path, "localhost").await;
            assert!(answer.starts_with("HTTP/1.1 405"), "{method} {path}: {answer}");
        }
        for path in ["/api/v1/orders", "/api/v1/reload"] {
            let answer = door.ask(method, path, "localhost").await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{method} {path}: {answer}");
        }
    }
    assert!(door.ask("HEAD", "/livez", "localhost").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_not_answered() {
    let door = door(8).await;
    for host in ["evil.example.com", "evil.example.com:9750", "127.0.0.1.evil.example.com", "localhost.evil.example.com", ":80"] {
        assert!(door.ask("GET", "/api/v1/status", host).await.starts_with("HTTP/1.1 421"), "{host}");
    }
    let forged = door.say("GET http://evil.example.com/api/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(forged.starts_with("HTTP/1.1 421"), "{forged}");
    for host in ["localhost:9750", "LOCALHOST", "127.0.0.1:1", "[::1]:9750", "10.0.0.7", "bastion.example.com", "bastion.example.com.:9750"]
    {
        assert!(door.ask("GET", "/api/v1/status", host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
}

#[tokio::test]
async fn every_answer_is_hardened_and_the_page_runs_only_its_own_script() {
    let door = door(8).await;
    let page = door.get("/").await.to_lowercase();
    for part in
        ["x-content-type-options: nosniff", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(page.contains(part), "{part}");
    }
    let hosts = page.split("://").count() - 1;
    assert_eq!(hosts, 0, "the page names no other place");
    assert!(!page.contains("access-control-"), "{page}");
    let missing = door.get("/nowhere").await.to_lowercase();
    assert!(missing.starts_with("http/1.1 404") && missing.contains("nosniff") && missing.contains("default-src 'none'"), "{missing}");
    assert!(door.get("/metrics").await.contains("watchover_build_info{"));
}

#[tokio::test]
async fn alive_and_ready_are_told_apart_and_say_why_not() {
    let door = door(8).await;
    assert!(door.get("/livez").await.starts_with("HTTP/1.1 200"));
    let waiting = door.get("/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("primary.alb was not looked at yet"), "{waiting}");
    door.pending.send_replace(Vec::new());
    assert!(door.get("/readyz").await.starts_with("HTTP/1.1 200"));
    door.state.beat.store(door.state.clock.now().mono - 6_000_000, Ordering::SeqCst);
    for path in ["/livez", "/readyz"] {
        let late = door.get(path).await;
        assert!(late.starts_with("HTTP/1.1 503") && late.contains("the decision loop is 6."), "{late}");
    }
}

#[tokio::test]
async fn documents_are_cut_to_what_was_asked_for() {
    let door = door(8).await;
    let till = door.get("/api/v1/status?app=till").await;
    assert!(till.contains("\"till\"") && !till.contains("\"shop\""), "{till}");
    let missing = door.get("/api/v1/status?app=none").await;
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("known: shop, till"), "{missing}");
    let rows = door.get("/api/v1/incidents/shop-1?since=4").await;
    assert!(!rows.contains("\"seq\":4") && rows.contains("\"seq\":7") && !rows.contains("\"seq\":8"), "{rows}");
    assert!(door.get("/api/v1/incidents/shop-7").await.starts_with("HTTP/1.1 404"));
    let all = door.get("/api/v1/incidents?since=8").await;
    assert!(all.contains("\"shop-0\"") && !all.contains("\"shop-1\""), "{all}");
}

#[tokio::test]
async fn incidents_come_by_pages() {
    let door = door(8).await;
    let newest = door.get("/api/v1/incidents?limit=2").await;
    assert!(newest.contains("\"next_before\":2") && newest.contains("\"shop-2\"") && !newest.contains("\"shop-1\""), "{newest}");
    let rest = door.get("/api/v1/incidents?limit=2&before=2").await;
    assert!(rest.contains("\"next_before\":null") && rest.contains("\"shop-1\"") && !rest.contains("\"shop-2\""), "{rest}");
    let rows = door.get("/api/v1/incidents/shop-1?limit=2").await;
    assert!(rows.contains("\"next\":4") && !rows.contains("\"seq\":7"), "{rows}");
    let end = door.get("/api/v1/incidents/shop-1?since=4").await;
    assert!(end.contains("\"next\":null") && end.contains("\"seq\":7"), "{end}");
    assert!(door.get("/api/v1/incidents?limit=many").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_asked_otherwise_is_told_in_a_document_of_ours_under_the_api() {
    let door = door(8).await;
    for (method, path, status, words) in [
        ("GET", "/api/v1/nothing", 404, "nothing is at /api/v1/nothing here"),
        ("GET", "/api/v1/incidents/a/b", 404, "nothing is at /api/v1/incidents/a/b here"),
        ("POST", "/api/v1/orders", 404, "nothing is at /api/v1/orders here"),
        ("POST", "/api/v1/status", 405, "/api/v1/status does not take POST"),
        ("DELETE", "/api/v1/incidents/shop-1", 405, "does not take DELETE"),
    ] {
        let answer = door.ask(method, path, "127.0.0.1").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains("content-type: application/json"), "{path}: {answer}");
        assert_eq!(answer.contains("allow: GET,HEAD"), status == 405, "{path}: {answer}");
        let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(document["schema_version"], 1);
        assert!(document["error"].as_str().unwrap().contains(words), "{path}: {document}");
    }
    // Who asks for a page or for figures reads no JSON.
    for (method, path, status) in [("GET", "/nothing", 404), ("POST", "/metrics", 405)] {
        let answer = door.ask(method, path, "127.0.0.1").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with("\r\n\r\n"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_row_of_the_stream_promises_no_replay() {
    let door = door(4).await;
    let mut stream = door.heard().await;
    door.state.events.send(Arc::new(record(7))).unwrap();
    let mut answer = String::new();
    while !answer.contains("\n\n") {
        let mut part = vec![0; 65_536];
        let count = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut part)).await.unwrap().unwrap();
        assert_ne!(count, 0, "ended without a row: {answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    assert!(answer.contains("event: opened") && answer.contains("\"seq\":7") && !answer.contains("\nid:"), "{answer}");
}

#[tokio::test]
async fn a_slow_listener_is_cut_off_and_nobody_waits_for_it() {
    let door = door(4).await;
    let mut stream = door.heard().await;
    let began = tokio::time::Instant::now();
    for seq in 1..=20_000 {
        door.state.events.send(Arc::new(record(seq))).unwrap_or_default();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "sending never waits");
    let mut answer = Vec::new();
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        let mut part = vec![0; 65_536];
        while !String::from_utf8_lossy(&answer).contains("event: lagged") {
            let count = stream.read(&mut part).await.unwrap();
            assert_ne!(count, 0, "ended without a word");
            answer.extend_from_slice(&part[..count]);
        }
    });
    told.await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("\"missed\":"));
}

#[tokio::test]
async fn there_is_a_bound_on_listeners() {
    let door = door(4).await;
    let mut held = Vec::new();
    for _ in 0..MAX_LISTENERS {
        let mut stream = door.listen().await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert!(door.get("/api/v1/events").await.starts_with("HTTP/1.1 503"));
    assert!(door.get("/livez").await.starts_with("HTTP/1.1 200"), "and the rest goes on");
}
