//! How the daemon is asked and steered: a read-only surface on TCP, and orders on the Unix socket alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State as Held};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::control::Message;
use super::metrics::Metrics;
use super::order::{self, Ordered};
use crate::domain::ledger::Record;

/// Reads the whole journal; the error is a line for a person.
pub type Reader = Arc<dyn Fn() -> Result<Vec<Record>, String> + Send + Sync>;

/// What the surface shows and whom it tells.
#[derive(Clone)]
pub struct State {
    /// The latest status document.
    pub status: watch::Receiver<Arc<Value>>,
    /// What is not ready yet.
    pub pending: watch::Receiver<Vec<String>>,
    /// Rows as they become durable.
    pub events: broadcast::Sender<Arc<Record>>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Where orders go.
    pub orders: mpsc::Sender<Message>,
    /// Where wishes for a reload go.
    pub reload: mpsc::Sender<oneshot::Sender<Result<(), String>>>,
    /// The decision loop's last beat, microseconds of the boot clock.
    pub beat: Arc<AtomicI64>,
    /// The clocks.
    pub clock: Clock,
    /// The journal.
    pub journal: Reader,
}

/// A loop later than this is not alive, microseconds.
const LATE: i64 = 5_000_000;
/// An order is a few words.
const MAX_BODY: usize = 64 << 10;
/// Listeners to the event stream at the same time.
const MAX_LISTENERS: usize = 64;
/// How long the decision may take to answer an order.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is at the other end of the Unix socket.
#[derive(Debug, Clone)]
pub struct Peer(pub String);

impl axum::extract::connect_info::Connected<IncomingStream<'_, tokio::net::UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, tokio::net::UnixListener>) -> Peer {
        Peer(match stream.io().peer_cred() {
            Ok(credentials) => order::who(credentials.uid()),
            Err(_) => "unknown peer".to_owned(),
        })
    }
}

/// Binds the admin socket: a stale file is replaced, a live one is not.
///
/// The file gets its mode before anybody can be let in: connections are accepted only after `listen` was handed on,
/// and the directory (systemd's RuntimeDirectory) keeps strangers out in between.
///
/// # Errors
/// Somebody listens there already, or the system refuses.
pub fn bind_unix(path: &FilePath) -> std::io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::{UnixListener, UnixStream};
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "another watchover listens there; stop it first"));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves both surfaces until `stop`.
///
/// # Errors
/// A listener that cannot be taken over by this runtime.
pub async fn serve(state: State, tcp: std::net::TcpListener, unix: std::os::unix::net::UnixListener, stop: CancellationToken) -> std::io::Result<()> {
    tcp.set_nonblocking(true)?;
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let unix = tokio::net::UnixListener::from_std(unix)?;
    let open = read_routes(state.clone()).layer(axum::middleware::from_fn(guard));
    let admin = read_routes(state.clone())
        .merge(Router::new().route("/api/v1/orders", post(orders)).route("/api/v1/reload", post(reload)).with_state(state))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let outer = axum::serve(tcp, open.into_make_service());
    let inner = axum::serve(unix, admin.into_make_service_with_connect_info::<Peer>());
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = outer => ended,
        ended = inner => ended,
    }
}

fn read_routes(state: State) -> Router {
    let listeners = Arc::new(Semaphore::new(MAX_LISTENERS));
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/metrics", get(|Held(state): Held<State>| async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render()) }))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/v1/status", get(status))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route("/api/v1/events", get(move |held: Held<State>| events(held, Arc::clone(&listeners))))
        .with_state(state)
}

/// Only requests that name this host by address or as localhost: a page elsewhere must not read us through a name of its own.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = bare.trim_start_matches('[').trim_end_matches(']');
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !(bare.is_empty() || bare == "localhost" || bare == own || bare.parse::<std::net::IpAddr>().is_ok()) {
        return (StatusCode::MISDIRECTED_REQUEST, "ask by address, as localhost, or by this host's own name\n").into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"),
    );
    response
}

fn late(state: &State) -> Option<f64> {
    let late = state.clock.now().mono - state.beat.load(Ordering::SeqCst);
    (late > LATE).then_some(late as f64 / 1e6)
}

async fn livez(Held(state): Held<State>) -> Response {
    match late(&state) {
        None => "ok\n".into_response(),
        Some(seconds) => (StatusCode::SERVICE_UNAVAILABLE, format!("the decision loop is {seconds:.1}s late\n")).into_response(),
    }
}

async fn readyz(Held(state): Held<State>) -> Response {
    let mut pending = state.pending.borrow().clone();
    pending.extend(late(&state).map(|seconds| format!("the decision loop is {seconds:.1}s late")));
    if pending.is_empty() { "ok\n".into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, pending.join("\n") + "\n").into_response() }
}

#[derive(Deserialize)]
struct Which {
    app: Option<String>,
    since: Option<i64>,
}

async fn status(Held(state): Held<State>, Query(which): Query<Which>) -> Response {
    let document = Arc::clone(&state.status.borrow());
    let Some(app) = which.app else { return axum::Json(document.as_ref()).into_response() };
    let mut one = document.as_ref().clone();
    if let Some(apps) = one["apps"].as_array_mut() {
        apps.retain(|found| found["name"] == app.as_str());
        if apps.is_empty() {
            return problem(StatusCode::NOT_FOUND, format!("no app {app:?} is configured"));
        }
    }
    axum::Json(one).into_response()
}

async fn read(state: &State) -> Result<Vec<Record>, Response> {
    let journal = Arc::clone(&state.journal);
    match tokio::task::spawn_blocking(move || journal()).await {
        Ok(Ok(records)) => Ok(records),
        Ok(Err(words)) => Err(problem(StatusCode::SERVICE_UNAVAILABLE, words)),
        Err(error) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

async fn incidents(Held(state): Held<State>, Query(which): Query<Which>) -> Response {
    let records = match read(&state).await {
        Ok(records) => records,
        Err(response) => return response,
    };
    let mut all: Vec<Value> = Vec::new();
    for record in records.iter().filter(|record| which.app.is_none() || record.app == which.app) {
        let Some(id) = &record.incident else { continue };
        match all.iter_mut().rev().find(|one| one["id"] == id.as_str()) {
            Some(one) => {
                if let crate::domain::ledger::Entry::Closed { outcome, figures, .. } = &record.entry {
                    one["outcome"] = json!(outcome);
                    one["figures"] = json!(figures);
                    one["closed"] = json!(record.at.rfc3339());
                }
            }
            None => all.push(json!({"id": id, "app": record.app, "opened": record.at.rfc3339(), "outcome": null})),
        }
    }
    axum::Json(json!({"schema_version": 1, "incidents": all})).into_response()
}

async fn incident(Held(state): Held<State>, Path(id): Path<String>, Query(which): Query<Which>) -> Response {
    let records = match read(&state).await {
        Ok(records) => records,
        Err(response) => return response,
    };
    let since = which.since.unwrap_or(0);
    let of: Vec<Record> = records.into_iter().filter(|record| record.incident.as_deref() == Some(id.as_str())).collect();
    if of.is_empty() {
        return problem(StatusCode::NOT_FOUND, format!("no incident {id:?} is in the journal"));
    }
    let rows: Vec<&Record> = of.iter().filter(|record| record.seq > since).collect();
    axum::Json(json!({"schema_version": 1, "id": id, "records": rows})).into_response()
}

/// A listener that is too slow is told how much it missed; nobody waits for it.
async fn events(Held(state): Held<State>, listeners: Arc<Semaphore>) -> Response {
    let Ok(place) = listeners.try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_LISTENERS} listeners are connected already"));
    };
    let stream = BroadcastStream::new(state.events.subscribe()).map(move |item| {
        let _kept = &place;
        Ok::<Event, std::convert::Infallible>(match item {
            Ok(record) => {
                let event = Event::default().event(record.entry.kind()).id(record.seq.to_string());
                event.json_data(record.as_ref()).unwrap_or_else(|error| Event::default().event("error").data(error.to_string()))
            }
            Err(missed) => Event::default().event("lagged").data(missed.to_string()),
        })
    });
    sse(stream)
}

fn sse(stream: impl Stream<Item = Result<Event, std::convert::Infallible>> + Send + 'static) -> Response {
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

fn problem(status: StatusCode, words: String) -> Response {
    (status, axum::Json(json!({"error": words}))).into_response()
}

async fn orders(Held(state): Held<State>, ConnectInfo(Peer(who)): ConnectInfo<Peer>, headers: HeaderMap, body: String) -> Response {
    if headers.contains_key(header::ORIGIN) {
        return problem(StatusCode::FORBIDDEN, "orders are not taken from web pages".to_owned());
    }
    let known: Vec<String> =
        state.status.borrow()["apps"].as_array().into_iter().flatten().filter_map(|app| app["name"].as_str().map(str::to_owned)).collect();
    let ordered = match order::read(&body, &who, &known) {
        Ok(ordered) => ordered,
        Err(problems) => return problem(StatusCode::BAD_REQUEST, problems.join("; ")),
    };
    let mut last = None;
    for Ordered { app, order } in ordered {
        let (answer, answered) = oneshot::channel();
        if state.orders.send(Message::Order(app.as_str().into(), order, answer)).await.is_err() {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "the decision loop is gone".to_owned());
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(Ok(followed))) => last = Some(followed),
            Ok(Ok(Err(refusal))) => return (StatusCode::CONFLICT, axum::Json(json!({"error": refusal.words, "gates": refusal.gates}))).into_response(),
            Ok(Err(_)) | Err(_) => {
                return problem(StatusCode::SERVICE_UNAVAILABLE, "the decision loop did not answer in time; ask for the status before you order again".to_owned());
            }
        }
    }
    axum::Json(json!({"schema_version": 1, "incident": last.as_ref().and_then(|followed| followed.incident.clone()), "seq": last.map(|followed| followed.seq)}))
        .into_response()
}

async fn reload(Held(state): Held<State>) -> Response {
    let (answer, answered) = oneshot::channel();
    if state.reload.send(answer).await.is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping".to_owned());
    }
    match answered.await {
        Ok(Ok(())) => axum::Json(json!({"schema_version": 1, "reloaded": true})).into_response(),
        Ok(Err(words)) => problem(StatusCode::CONFLICT, words),
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping".to_owned()),
    }
}
