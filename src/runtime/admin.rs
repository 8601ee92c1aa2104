//! How the daemon is asked and steered: a read-only surface on TCP, and orders on the Unix socket alone.
//!
//! No handler waits for the decision, save an order for its answer, and nothing here is waited for by it: documents come
//! ready-made through watches, rows through a broadcast that drops the slow.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State as Held};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::control::Message;
use super::listen;
pub use super::listen::bind_unix;
use super::metrics::Metrics;
pub use super::past::{Asked, read};
use super::question::Which;
use super::steer;
use crate::domain::ledger::Record;
use crate::domain::model::Moment;

/// Answers a question to the journal: the document, or `None` if there is no such incident; the error is a line for a
/// person. Called off the surface's own thread.
pub type Reader = Arc<dyn Fn(&Asked) -> Result<Option<Value>, String> + Send + Sync>;

/// What the surface shows and whom it tells.
#[derive(Clone)]
pub struct State {
    /// The latest status document.
    pub status: watch::Receiver<Arc<Value>>,
    /// What has not let go yet: ready when it is empty.
    pub pending: watch::Receiver<Vec<String>>,
    /// Rows as they become durable.
    pub events: broadcast::Sender<Arc<Record>>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Where orders go.
    pub orders: mpsc::Sender<Message>,
    /// Where wishes for a reload go; the answer is sent once the new config is in force, or refused.
    pub reload: mpsc::Sender<oneshot::Sender<Result<(), String>>>,
    /// The decision loop's last beat, microseconds of the boot clock.
    pub beat: Arc<AtomicI64>,
    /// The clocks.
    pub clock: Clock,
    /// The journal.
    pub journal: Reader,
    /// Names besides `localhost`, this machine's and plain addresses under which TCP clients may ask.
    pub hosts: Vec<String>,
}

/// A loop later than this is not alive, microseconds.
const LATE: i64 = 5_000_000;
/// Listeners to the event stream at one door.
const MAX_LISTENERS: usize = 64;
/// Readings of the journal at the same time: each holds a page of it in memory.
const MAX_READINGS: usize = 2;
/// How long a reader of the journal waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// A listener that is gone is noticed by then.
const ALIVE: Duration = Duration::from_secs(10);
const PAGE: &str = include_str!("page.html");

/// Serves both doors until `stop`. Meant for a runtime and thread of its own.
///
/// # Errors
/// A listener that this runtime cannot take over.
pub async fn serve(
    state: State,
    tcp: std::net::TcpListener,
    unix: std::os::unix::net::UnixListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    tcp.set_nonblocking(true)?;
    unix.set_nonblocking(true)?;
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let unix = tokio::net::UnixListener::from_std(unix)?;
    let open = listen::serve_tcp(tcp, read_only(&state, &stop), stop.clone());
    let admin = listen::serve_unix(unix, steering(&state, &stop), stop.clone());
    tokio::join!(open, admin);
    Ok(())
}

/// The router for TCP: looks only, under this machine's own names only.
pub fn read_only(state: &State, stop: &CancellationToken) -> Router {
    let hosts: Vec<String> = own_names().chain(state.hosts.iter().map(|name| name.to_lowercase())).collect();
    closed(routes(state, stop)).layer(from_fn_with_state(Arc::new(hosts), guard)).layer(from_fn(harden))
}

/// The router for the Unix socket: the same, and orders.
pub fn steering(state: &State, stop: &CancellationToken) -> Router {
    let orders = ORDERS.iter().fold(Router::new(), |router, (path, way)| router.route(path, way()));
    closed(routes(state, stop).merge(orders.with_state(state.clone()))).layer(from_fn(harden))
}

/// A path and what is done there.
type Way<S> = (&'static str, fn() -> MethodRouter<S>);

/// What stands at both doors: looks.
const LOOKS: &[Way<Shared>] = &[
    ("/", || get(page)),
    ("/metrics", || get(metrics)),
    ("/livez", || get(livez)),
    ("/readyz", || get(readyz)),
    ("/api/v1/status", || get(status)),
    ("/api/v1/incidents", || get(incidents)),
    ("/api/v1/incidents/{id}", || get(incident)),
    ("/api/v1/events", || get(events)),
];

/// What changes something, and stands on the Unix socket alone.
const ORDERS: &[Way<State>] = &[("/api/v1/orders", || post(steer::orders)), ("/api/v1/reload", || post(steer::reload))];

/// Every path that only looks, and every path that changes something: the very tables that the doors are made of.
pub fn paths() -> (Vec<&'static str>, Vec<&'static str>) {
    (LOOKS.iter().map(|way| way.0).collect(), ORDERS.iter().map(|way| way.0).collect())
}

/// What handlers share besides the state.
#[derive(Clone)]
struct Shared {
    state: State,
    stop: CancellationToken,
    listeners: Arc<Semaphore>,
    readings: Arc<Semaphore>,
    /// The latest scrape of many apps, and when it was done: whoever asks meanwhile gets the same one, and no copy of it.
    scrape: Arc<Mutex<Option<(Moment, Bytes)>>>,
}

fn routes(state: &State, stop: &CancellationToken) -> Router {
    let shared = Shared {
        state: state.clone(),
        stop: stop.clone(),
        listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
        readings: Arc::new(Semaphore::new(MAX_READINGS)),
        scrape: Arc::default(),
    };
    LOOKS.iter().fold(Router::new(), |router, (path, way)| router.route(path, way())).with_state(shared)
}

/// What no path of a door answers. Under the API that is told as every other fault is.
fn closed(router: Router) -> Router {
    let told = |status: StatusCode, uri: &Uri, words: String| {
        if uri.path().starts_with("/api/") { problem(status, words) } else { status.into_response() }
    };
    let unknown = move |uri: Uri| async move { told(StatusCode::NOT_FOUND, &uri, format!("nothing is at {} here", uri.path())) };
    let otherwise = move |method: Method, uri: Uri| async move {
        told(StatusCode::METHOD_NOT_ALLOWED, &uri, format!("{} does not take {method}; the header Allow says what it takes", uri.path()))
    };
    router.method_not_allowed_fallback(otherwise).fallback(unknown)
}

fn own_names() -> impl Iterator<Item = String> {
    let node = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    ["localhost".to_owned(), node].into_iter()
}

/// A page elsewhere that points a name of its own at this address (DNS rebinding) must not read us: names are answered
/// only if they are ours. An address cannot be rebound.
async fn guard(Held(hosts): Held<Arc<Vec<String>>>, request: Request, next: Next) -> Response {
    // All of them: whoever stands before us may go by another one than we do.
    let headers = request.headers().get_all(header::HOST).into_iter().map(|host| host.to_str().unwrap_or("?"));
    let mut asked = headers.chain(request.uri().authority().map(|authority| authority.as_str()));
    // A client without a Host header (HTTP/1.0, a hand-written probe) is no browser.
    let ours = asked.all(|host| is_ours(host, &hosts));
    if !ours {
        return (StatusCode::MISDIRECTED_REQUEST, "ask by address, as localhost, or by this machine's own name\n").into_response();
    }
    if is_from_elsewhere(request.headers()) {
        return (StatusCode::FORBIDDEN, "pages of other sites are not answered\n").into_response();
    }
    next.run(request).await
}

/// What browsers say of a request that a page made; nobody else says it.
const FETCH_SITE: &str = "sec-fetch-site";

/// True for what a browser asks on behalf of a page of another origin. That page could not read the answer, but it could
/// have us work, and tell by time or size what we hold. A link that a person follows is answered: nothing is behind it that
/// the page they come from could see.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_link = || text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
    match (text(FETCH_SITE), text("origin")) {
        (Some("same-origin" | "none"), _) => false,
        (Some(_), _) => !is_link(),
        // Browsers leave the other headers out where neither end of a plain connection is this machine.
        (None, Some(origin)) => {
            let from = origin.split_once("://").map(|(_, host)| host.to_lowercase());
            from.is_none() || from != text("host").map(str::to_lowercase)
        }
        (None, None) => false,
    }
}

/// True for what a browser asks on behalf of any page, our own included.
pub(super) fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(FETCH_SITE)
}

fn is_ours(host: &str, hosts: &[String]) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
    let name = bare.trim_end_matches('.').to_lowercase();
    address.parse::<IpAddr>().is_ok() || hosts.contains(&name)
}

/// What holds for every answer. No CORS header stands here, so no other page may read one.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 5] = [
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

/// The page's own style and script, by their hashes, and nothing else.
static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |from: &str, to: &str| {
        let inner = PAGE.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map_or("", |(inner, _)| inner);
        aws_smithy_types::base64::encode(Sha256::digest(inner))
    };
    let (style, script) = (hash("<style>", "</style>"), hash("<script>", "</script>"));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

async fn page() -> Response {
    let mut response = Html(PAGE).into_response();
    if let Ok(policy) = HeaderValue::from_str(&PAGE_POLICY) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn metrics(Held(shared): Held<Shared>) -> Response {
    let State { metrics, clock, .. } = &shared.state;
    let rest = metrics.rest();
    // Replaced whole: no holder leaves it half done.
    let mut kept = shared.scrape.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = kept.as_ref().filter(|(at, _)| clock.now().since(*at) < rest).map(|(_, text)| text.clone());
    let text = fresh.unwrap_or_else(|| {
        let text = Bytes::from(metrics.render());
        *kept = (!rest.is_zero()).then(|| (clock.now(), text.clone()));
        text
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// In words, how late the decision loop is, if it is.
fn late(state: &State) -> Option<String> {
    let late = state.clock.now().mono - state.beat.load(Ordering::SeqCst);
    (late > LATE).then(|| format!("the decision loop is {:.1}s late", late as f64 / 1e6))
}

fn plain(faults: &[String]) -> Response {
    if faults.is_empty() { "ok\n".into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n").into_response() }
}

async fn livez(Held(shared): Held<Shared>) -> Response {
    plain(late(&shared.state).as_slice())
}

async fn readyz(Held(shared): Held<Shared>) -> Response {
    let mut pending = shared.state.pending.borrow().clone();
    pending.extend(late(&shared.state));
    plain(&pending)
}

async fn status(Held(shared): Held<Shared>, which: Which) -> Response {
    let document = Arc::clone(&shared.state.status.borrow());
    let Some(app) = which.app else { return Json(document.as_ref()).into_response() };
    let found = document["apps"].as_array().into_iter().flatten().find(|one| one["name"] == app.as_str());
    let Some(found) = found else {
        return problem(StatusCode::NOT_FOUND, format!("no app {app:?} is configured; known: {}", apps(&document).join(", ")));
    };
    let rest =
        document.as_object().into_iter().flatten().filter(|(key, _)| *key != "apps").map(|(key, value)| (key.clone(), value.clone()));
    Json(Value::Object(rest.chain([("apps".to_owned(), json!([found]))]).collect())).into_response()
}

pub(super) fn apps(document: &Value) -> Vec<String> {
    document["apps"].as_array().into_iter().flatten().filter_map(|app| app["name"].as_str().map(str::to_owned)).collect()
}

/// Asks the journal off this thread, bounded in number.
async fn journal(shared: &Shared, asked: Asked) -> Response {
    let Ok(Ok(place)) = tokio::time::timeout(PATIENCE, Arc::clone(&shared.readings).acquire_owned()).await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "others are reading the journal; try again");
    };
    let reader = Arc::clone(&shared.state.journal);
    let reading = tokio::task::spawn_blocking(move || {
        // The place is held until the work is done, even if whoever asked has gone.
        let _place = place;
        match reader(&asked) {
            Ok(Some(document)) => Json(document).into_response(),
            Ok(None) => problem(StatusCode::NOT_FOUND, asked.missing()),
            Err(words) => problem(StatusCode::SERVICE_UNAVAILABLE, words),
        }
    });
    reading.await.unwrap_or_else(|_| problem(StatusCode::INTERNAL_SERVER_ERROR, "the journal could not be read; see the log"))
}

/// A page of incidents, oldest first: the newest, or those opened before the row `before`.
async fn incidents(Held(shared): Held<Shared>, which: Which) -> Response {
    journal(&shared, Asked::incidents(which.app, which.since, which.before, which.limit)).await
}

/// One incident's rows after `since`; `next` is the place to go on from if there are more.
async fn incident(Held(shared): Held<Shared>, id: Result<Path<String>, PathRejection>, which: Which) -> Response {
    let Ok(Path(id)) = id else { return problem(StatusCode::BAD_REQUEST, "the incident's id is not UTF-8") };
    journal(&shared, Asked::incident(id, which.since, which.limit)).await
}

/// One listener: nobody waits for it. When it has fallen behind it is told how many rows it missed, and the stream ends;
/// it may come back, and read what it missed under `/api/v1/incidents`.
struct Listener {
    rows: broadcast::Receiver<Arc<Record>>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

async fn events(Held(shared): Held<Shared>) -> Response {
    let Ok(place) = Arc::clone(&shared.listeners).try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_LISTENERS} listeners are connected already"));
    };
    let listener = Listener { rows: shared.state.events.subscribe(), stop: shared.stop.clone(), _place: place };
    let stream = stream::unfold(Some(listener), |listener| async {
        let mut listener = listener?;
        let heard = tokio::select! {
            () = listener.stop.cancelled() => return None,
            heard = listener.rows.recv() => heard,
        };
        match heard {
            Ok(record) => Some((Ok::<Event, Infallible>(event(&record)), Some(listener))),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                let words = json!({"missed": missed}).to_string();
                Some((Ok(Event::default().event("lagged").data(words)), None))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

fn event(record: &Record) -> Event {
    // Without `id`: it promises whoever comes back with it what they missed, and nothing is kept here. Its place is in the row.
    let event = Event::default().event(record.entry.kind());
    event.json_data(record).unwrap_or_else(|error| Event::default().event("error").data(error.to_string()))
}

/// Why a request is not answered as it wished.
pub(super) struct Fault(StatusCode, String);

pub(super) fn fault(status: StatusCode, words: impl Into<String>) -> Fault {
    Fault(status, words.into())
}

impl From<Fault> for Response {
    fn from(fault: Fault) -> Response {
        problem(fault.0, fault.1)
    }
}

pub(super) fn problem(status: StatusCode, words: impl Into<String>) -> Response {
    (status, Json(json!({"schema_version": 1, "error": words.into()}))).into_response()
}

#[cfg(test)]
mod tests;
