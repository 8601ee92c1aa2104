//! The daemon as its operators reach it: over the admin socket.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::exit;
use super::out::remark;

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error(
        "the daemon is not reachable at {socket}: {cause}. Does it run (`systemctl status watchover`), and are you in the group watchover?"
    )]
    Unreachable {
        /// Where.
        socket: String,
        /// What the system said.
        cause: String,
    },
    /// It will not.
    #[error("{error}")]
    Refused {
        /// In its words.
        error: String,
        /// The whole answer; `gates` stand in it if one refused.
        body: Value,
    },
    /// It was asked wrongly: every problem, in its words.
    #[error("{0}")]
    Invalid(String),
    /// It could not.
    #[error("{0}")]
    Failed(String),
}

impl ClientError {
    /// The exit code that says the same.
    pub fn exit(&self) -> u8 {
        match self {
            ClientError::Unreachable { .. } => exit::UNREACHABLE,
            ClientError::Refused { .. } => exit::REFUSED,
            ClientError::Invalid(_) => exit::USAGE,
            ClientError::Failed(_) => exit::FAILED,
        }
    }
}

/// Answers are whole documents; the daemon bounds its rows far below this.
const MAX_ANSWER: usize = 64 << 20;
/// One event is one row.
const MAX_EVENT: usize = 8 << 20;
/// To be let in: a local socket answers at once, or its queue is full.
const CONNECT: Duration = Duration::from_secs(3);
/// To a question: it is answered from memory or from an index, and who asks stands and waits.
const ANSWER: Duration = Duration::from_secs(5);
/// The daemon answers orders within 5 s and reloads within 30 s, or says that it cannot.
const PATIENCE: Duration = Duration::from_secs(35);
/// After that much silence whoever gave an order is told that it is on its way: an answer takes milliseconds.
const HINT: Duration = Duration::from_secs(2);
/// The stream says something every 10 s, and be it that there is nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// One daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection and the work that keeps it going; whoever waits for an answer drives it.
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
}

impl Line {
    /// Waits for `work` while the connection is driven. When that ends first, what it had delivered is still taken.
    async fn drive<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let Some(running) = driver else { return work.await };
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = running => *driver = None,
            }
        }
    }

    async fn send(&mut self, request: hyper::Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        Line::drive(&mut self.driver, self.sender.send_request(request)).await
    }
}

impl Client {
    /// The daemon behind that socket.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.document(self.ask("GET", path, None).await?)
    }

    /// Reads what is no document: the metrics, or that it is ready.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        Ok(self.ask("GET", path, None).await?.as_str().unwrap_or_default().to_owned())
    }

    /// Gives an order. Not sent twice: after a silence the caller must look at the status first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let asked = self.ask("POST", path, Some(body.to_string()));
        tokio::pin!(asked);
        let answer = match tokio::time::timeout(HINT, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => {
                remark!("watchover: waiting for the daemon to answer, up to {}s …", PATIENCE.as_secs());
                asked.await
            }
        };
        self.document(answer?)
    }

    /// Listens to rows as they become durable, from now on. What was before stands in `/api/v1/incidents/ID`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self) -> Result<Events, ClientError> {
        let opened = async {
            let mut line = self.connect().await?;
            let answer = line.send(self.request("GET", "/api/v1/events", None)?).await.map_err(|cause| self.unreachable(cause))?;
            if answer.status().is_success() {
                return Ok(Events { client: self.clone(), body: answer.into_body(), line, buffer: Vec::new() });
            }
            Err(match self.take(&mut line, answer).await {
                Ok(document) => ClientError::Failed(format!("the stream did not begin: {document}")),
                Err(error) => error,
            })
        };
        tokio::time::timeout(ANSWER, opened).await.unwrap_or_else(|_| Err(self.silent(ANSWER)))
    }

    fn unreachable(&self, cause: impl ToString) -> ClientError {
        ClientError::Unreachable { socket: self.socket.display().to_string(), cause: cause.to_string() }
    }

    fn silent(&self, patience: Duration) -> ClientError {
        self.unreachable(format!("no answer within {}s", patience.as_secs()))
    }

    /// Whatever listens there may say yes to anything; only what answers as ours does is taken at its word.
    fn document(&self, answer: Value) -> Result<Value, ClientError> {
        if answer.is_object() {
            return Ok(answer);
        }
        Err(ClientError::Failed(format!("what answers at {} is no watchover: its answer is no document of one", self.socket.display())))
    }

    fn request(&self, method: &str, path: &str, body: Option<String>) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        let request =
            hyper::Request::builder().method(method).uri(path).header("host", "localhost").header("content-type", "application/json");
        request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|cause| ClientError::Invalid(format!("{path:?} cannot be asked for: {cause}")))
    }

    async fn connect(&self) -> Result<Line, ClientError> {
        let opened = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|cause| self.unreachable(cause))?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|cause| self.unreachable(cause))
        };
        let (sender, driver) =
            tokio::time::timeout(CONNECT, opened).await.unwrap_or_else(|_| Err(self.unreachable("it lets nobody in")))?;
        Ok(Line { sender, driver: Some(Box::pin(driver)) })
    }

    async fn ask(&self, method: &str, path: &str, body: Option<String>) -> Result<Value, ClientError> {
        let exchange = async {
            let request = self.request(method, path, body)?;
            let mut line = self.connect().await?;
            let answer = line.send(request).await.map_err(|cause| self.unreachable(cause))?;
            self.take(&mut line, answer).await
        };
        let patience = if method == "GET" { ANSWER } else { PATIENCE };
        tokio::time::timeout(patience, exchange).await.unwrap_or_else(|_| Err(self.silent(patience)))
    }

    /// The whole answer, judged by its status.
    async fn take(&self, line: &mut Line, answer: Response<Incoming>) -> Result<Value, ClientError> {
        let status = answer.status();
        let whole = Line::drive(&mut line.driver, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        let bytes = whole.map_err(|cause| ClientError::Failed(format!("the answer could not be read: {cause}")))?.to_bytes();
        let value: Value =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).trim().to_owned()));
        let error = value
            .get("error")
            .or(Some(&value))
            .map(|words| words.as_str().map_or_else(|| words.to_string(), str::to_owned))
            .unwrap_or_default();
        match status.as_u16() {
            200..=299 => Ok(value),
            400 | 413 => Err(ClientError::Invalid(error)),
            409 => Err(ClientError::Refused { error, body: value }),
            _ => Err(ClientError::Failed(format!("{status}: {error}"))),
        }
    }
}

/// One event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerEvent {
    /// The entry's kind; `lagged`: rows were missed, and the stream ends.
    pub kind: String,
    /// The row's place in the journal, if it is a row.
    pub seq: Option<i64>,
    /// The row.
    pub data: Value,
}

/// Rows as they become durable.
pub struct Events {
    client: Client,
    body: Incoming,
    line: Line,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None`: the daemon ended the stream.
    ///
    /// # Errors
    /// The connection broke, or the daemon has said nothing for too long.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ClientError> {
        loop {
            if let Some(event) = self.parse() {
                return Ok(Some(event));
            }
            let frame = tokio::time::timeout(SILENCE, Line::drive(&mut self.line.driver, self.body.frame())).await;
            match frame {
                Err(_) => return Err(self.client.unreachable("the stream fell silent")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(cause))) => return Err(self.client.unreachable(cause)),
                Ok(Some(Ok(frame))) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(ClientError::Failed("an event of the stream is too large".to_owned()));
            }
        }
    }

    /// Takes one whole event off the buffer; comments alone are none.
    fn parse(&mut self) -> Option<ServerEvent> {
        loop {
            let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            let (mut kind, mut data) = (String::new(), String::new());
            for line in text.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "event" => value.clone_into(&mut kind),
                    "data" => data.push_str(value),
                    _ => {}
                }
            }
            if !kind.is_empty() || !data.is_empty() {
                let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
                return Some(ServerEvent { kind, seq: data["seq"].as_i64(), data });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;

    use serde_json::json;
    use tokio::sync::{broadcast, mpsc, oneshot, watch};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::ledger::{Entry, Gate, GateState, Record};
    use crate::domain::model::{Moment, SiteName};
    use crate::domain::orders::{Order, Refusal};
    use crate::runtime::admin::{self, State};
    use crate::runtime::clock::Clock;
    use crate::runtime::control::{Followed, Message, NotDone};
    use crate::runtime::metrics::Metrics;

    struct Daemon {
        client: Client,
        orders: mpsc::Receiver<Message>,
        reloads: mpsc::Receiver<oneshot::Sender<Result<(), String>>>,
        events: broadcast::Sender<Arc<Record>>,
        _stop: tokio_util::sync::DropGuard,
        _dir: tempfile::TempDir,
    }

    /// The real doors, and nobody behind them but the test.
    fn daemon() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (orders_to, orders) = mpsc::channel(4);
        let (reload, reloads) = mpsc::channel(1);
        let (events, clock, stop) = (broadcast::Sender::new(16), Clock::system(), CancellationToken::new());
        let state = State {
            status: watch::channel(Arc::new(json!({"apps": [{"name": "shop"}, {"name": "till"}]}))).1,
            pending: watch::channel(Vec::new()).1,
            events: events.clone(),
            metrics: Arc::new(Metrics::new("test")),
            orders: orders_to,
            reload,
            beat: Arc::new(AtomicI64::new(clock.now().mono)),
            clock,
            journal: Arc::new(|_| Err("the journal is away".to_owned())),
            hosts: Vec::new(),
        };
        let unix = admin::bind_unix(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let token = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(admin::serve(state, tcp, unix, token)).unwrap();
        });
        Daemon { client: Client::new(&path), orders, reloads, events, _stop: stop.drop_guard(), _dir: dir }
    }

    impl Daemon {
        /// Takes the next order and answers it.
        async fn answer(&mut self, with: Result<Followed, NotDone>) -> (String, Order) {
            let Some(Message::Order(app, order, answer)) = self.orders.recv().await else { panic!("no order came") };
            answer.send(with).unwrap();
            (app.to_string(), order)
        }
    }

    #[tokio::test]
    async fn an_order_carries_the_peer_as_its_actor() {
        let mut daemon = daemon();
        let client = daemon.client.clone();
        let body = json!({"order": "adopt", "app": "shop", "site": "standby", "reason": "lost journal"});
        let (said, (app, order)) =
            tokio::join!(client.post("/api/v1/orders", &body), daemon.answer(Ok(Followed { incident: None, seq: 7 })));
        assert_eq!(said.unwrap(), json!({"schema_version": 1, "incident": null, "seq": 7}));
        let Order::Adopt { site, by } = order else { panic!("{order:?}") };
        let uid = rustix::process::getuid().as_raw();
        assert_eq!((app.as_str(), site), ("shop", SiteName::Standby));
        assert!(by.who.starts_with(&format!("uid {uid}")) && by.reason == "lost journal", "{by:?}");
    }

    #[tokio::test]
    async fn a_refusal_carries_its_gates_and_exits_with_4() {
        let mut daemon = daemon();
        let client = daemon.client.clone();
        let gates = vec![Gate { name: "data-loss".into(), state: GateState::Asks, words: "unknown".into() }];
        let body = json!({"order": "failover", "app": "shop", "reason": "drill"});
        let refusal = Refusal { words: "refused, and nothing was changed".into(), gates };
        let (said, _) = tokio::join!(client.post("/api/v1/orders", &body), daemon.answer(Err(NotDone::Refused(refusal))));
        let error = said.unwrap_err();
        assert_eq!(error.exit(), 4);
        let ClientError::Refused { error, body } = error else { panic!("{error}") };
        assert_eq!((error.as_str(), &body["gates"][0]["name"]), ("refused, and nothing was changed", &json!("data-loss")));
    }

    fn refused(words: &str) -> Result<Followed, NotDone> {
        Err(NotDone::Refused(Refusal { words: words.into(), gates: Vec::new() }))
    }

    #[tokio::test]
    async fn what_the_journal_did_not_take_has_failed_and_was_refused_by_nobody() {
        let mut daemon = daemon();
        let client = daemon.client.clone();
        let unwritten = || Err(NotDone::Unwritten("not done: the disk is full".into()));
        let one = json!({"order": "resume", "app": "shop", "reason": "done"});
        let (said, _) = tokio::join!(client.post("/api/v1/orders", &one), daemon.answer(unwritten()));
        let error = said.unwrap_err();
        assert!(error.exit() == 1 && error.to_string().contains("shop: not done: the disk is full"), "{error}");
        // Nor has an order for all been followed while one of them was not.
        let all = json!({"order": "resume", "app": null, "reason": "done"});
        let answers = async {
            daemon.answer(Ok(Followed { incident: None, seq: 9 })).await;
            daemon.answer(unwritten()).await;
        };
        let error = tokio::join!(client.post("/api/v1/orders", &all), answers).0.unwrap_err();
        assert!(error.exit() == 1 && error.to_string().contains("till: not done") && error.to_string().contains("shop: done"), "{error}");
    }

    /// A web server that stands where the daemon's socket was, and is content with everything.
    #[tokio::test]
    async fn a_yes_of_something_else_is_no_yes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let door = tokio::net::UnixListener::bind(&path).unwrap();
        let words = ["hi", "\"done\"", "[]"];
        let stranger = async {
            for words in words.iter().flat_map(|words| [words; 2]) {
                let (mut stream, _) = door.accept().await.unwrap();
                let mut asked = vec![0; 4096];
                assert!(tokio::io::AsyncReadExt::read(&mut stream, &mut asked).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{words}", words.len());
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            }
        };
        let client = Client::new(&path);
        let asks = async {
            for words in words {
                for said in [client.get("/api/v1/status").await, client.post("/api/v1/orders", &json!({"order": "resume"})).await] {
                    let error = said.unwrap_err();
                    let named = error.to_string().contains("is no watchover") && error.to_string().contains("admin.sock");
                    assert!(error.exit() == 1 && named, "{words}: {error}");
                }
            }
        };
        tokio::join!(stranger, asks);
    }

    #[tokio::test]
    async fn a_pause_without_an_app_reaches_all() {
        let mut daemon = daemon();
        let client = daemon.client.clone();
        let body = json!({"order": "resume", "app": null, "reason": "done"});
        let answers = async {
            let first = daemon.answer(refused("shop is not paused")).await;
            let second = daemon.answer(Ok(Followed { incident: None, seq: 9 })).await;
            (first.0, second.0)
        };
        let (said, names) = tokio::join!(client.post("/api/v1/orders", &body), answers);
        let said = said.unwrap();
        assert_eq!((names.0.as_str(), names.1.as_str()), ("shop", "till"));
        assert_eq!((&said["seq"], &said["refused"][0]["app"]), (&json!(9), &json!("shop")));
    }

    #[tokio::test]
    async fn what_is_wrong_or_too_large_exits_with_2_and_reaches_nobody() {
        let mut daemon = daemon();
        let error = daemon.client.post("/api/v1/orders", &json!({"order": "pause", "forr": 1})).await.unwrap_err();
        assert_eq!(error.exit(), 2);
        let words = error.to_string();
        assert!(
            words.contains("reason: is missing") && words.contains("for_seconds: is missing") && words.contains("forr: unknown key"),
            "{words}"
        );
        let large = json!({"order": "pause", "reason": "x".repeat(70_000)});
        let error = daemon.client.post("/api/v1/orders", &large).await.unwrap_err();
        assert!(error.to_string().contains("at most 65536 bytes"), "{error}");
        assert!(daemon.orders.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_control_that_does_not_answer_is_said_to_be_silent() {
        let mut daemon = daemon();
        let client = daemon.client.clone();
        let body = json!({"order": "resume", "app": "shop", "reason": "done"});
        let keep = async { daemon.orders.recv().await };
        let (said, kept) = tokio::join!(client.post("/api/v1/orders", &body), keep);
        let words = said.unwrap_err().to_string();
        assert!(words.contains("503") && words.contains("may still be followed"), "{words}");
        drop(kept);
    }

    #[tokio::test]
    async fn reading_reloading_and_listening_go_over_the_same_socket() {
        let mut daemon = daemon();
        let client = daemon.client.clone();
        assert_eq!(client.get("/api/v1/status?app=till").await.unwrap()["apps"][0]["name"], "till");
        assert!(client.get("/api/v1/incidents").await.unwrap_err().to_string().contains("the journal is away"));
        let refuse = async { daemon.reloads.recv().await.unwrap().send(Err("app.shop: fall = 0".into())) };
        let empty = json!({});
        let (said, _) = tokio::join!(client.post("/api/v1/reload", &empty), refuse);
        assert_eq!(said.unwrap_err().exit(), 2);
        let mut events = client.events().await.unwrap();
        let record = Record {
            seq: 5,
            at: Moment::default(),
            boot_id: "b".into(),
            app: None,
            incident: None,
            epoch: 1,
            entry: Entry::Gap { seconds: 4.0 },
        };
        daemon.events.send(Arc::new(record.clone())).unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind.as_str(), event.seq), ("gap", Some(5)));
        assert_eq!(serde_json::from_value::<Record>(event.data).unwrap(), record);
    }

    #[tokio::test]
    async fn nobody_there_exits_with_5_and_says_what_to_look_at() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::new(&dir.path().join("none.sock")).get("/api/v1/status").await.unwrap_err();
        assert_eq!(error.exit(), 5);
        let words = error.to_string();
        assert!(words.contains("none.sock") && words.contains("group watchover"), "{words}");
    }
}
