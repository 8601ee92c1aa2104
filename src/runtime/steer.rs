//! Orders and reloads over the Unix socket: who asks is the kernel's word, what they ask is judged whole, and the
//! decision's answer is waited for a bounded time.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Request, State as Held};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::admin::{Fault, State, apps, fault, is_from_page, problem};
use super::control::{Followed, Message, NotDone};
use super::listen::Peer;
use super::order::{self, Ordered};
use crate::domain::orders::Refusal;

/// An order is a few words.
const MAX_BODY: usize = 64 << 10;
/// How long the decision may take to answer an order, and a client to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// A reload judges the file, and builds every probe.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// A whole body within size and time.
async fn body(request: Request) -> Result<Vec<u8>, Fault> {
    let reading = axum::body::to_bytes(request.into_body(), MAX_BODY);
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(error)) if std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>()) => {
            Err(fault(StatusCode::PAYLOAD_TOO_LARGE, format!("an order has at most {MAX_BODY} bytes")))
        }
        Ok(Err(error)) => Err(fault(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))),
        Err(_) => Err(fault(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// Who asks, as the journal will say it.
async fn actor(peer: Peer, from_page: bool) -> Result<String, Fault> {
    if from_page {
        return Err(fault(StatusCode::FORBIDDEN, "orders are not taken from web pages"));
    }
    let Some(uid) = peer.uid else {
        return Err(fault(StatusCode::FORBIDDEN, "the system does not say who asks, so nothing is done"));
    };
    // Without the file the number alone stands there: still the kernel's word.
    let passwd = tokio::fs::read_to_string("/etc/passwd").await.unwrap_or_default();
    Ok(order::who(uid, &passwd))
}

pub(super) async fn orders(Held(state): Held<State>, Extension(peer): Extension<Peer>, request: Request) -> Response {
    let who = match actor(peer, is_from_page(request.headers())).await {
        Ok(who) => who,
        Err(fault) => return fault.into(),
    };
    let body = match body(request).await {
        Ok(body) => body,
        Err(fault) => return fault.into(),
    };
    let known = apps(&state.status.borrow());
    let orders = match order::read(&body, &who, &known) {
        Ok(orders) => orders,
        Err(problems) => {
            return (StatusCode::BAD_REQUEST, Json(json!({"schema_version": 1, "error": problems.join("; "), "problems": problems})))
                .into_response();
        }
    };
    let (mut followed, mut refused, mut unwritten) = (Vec::new(), Vec::new(), Vec::new());
    for Ordered { app, order } in orders.each {
        match give(&state, &app, order).await {
            Ok(Ok(done)) => followed.push((app, done)),
            Ok(Err(NotDone::Refused(refusal))) => refused.push((app, refusal)),
            Ok(Err(NotDone::Unwritten(words))) => unwritten.push((app, words)),
            Err(fault) => return fault.into(),
        }
    }
    if !unwritten.is_empty() {
        return failed(&followed, &unwritten);
    }
    answer(orders.all, &followed, &refused)
}

/// What was wanted could not be done, and nobody refused it: a fault of ours, however many of the others were done before.
fn failed(followed: &[(String, Followed)], unwritten: &[(String, String)]) -> Response {
    let mut said: Vec<String> = unwritten.iter().map(|(app, words)| format!("{app}: {words}")).collect();
    said.extend(followed.iter().map(|(app, _)| format!("{app}: done")));
    problem(StatusCode::SERVICE_UNAVAILABLE, said.join("; "))
}

/// The last order's place stands for all; of many, some may have had nothing to do.
fn answer(all: bool, followed: &[(String, Followed)], refused: &[(String, Refusal)]) -> Response {
    if let (Some((_, last)), true) = (followed.last(), all || refused.is_empty()) {
        let mut document = json!({"schema_version": 1, "incident": last.incident, "seq": last.seq});
        if all {
            document["incident"] = Value::Null;
            document["apps"] = followed.iter().map(|(app, done)| json!({"app": app, "seq": done.seq})).collect();
            document["refused"] = refused.iter().map(|(app, refusal)| json!({"app": app, "error": refusal.words})).collect();
        }
        return Json(document).into_response();
    }
    let words: Vec<&str> = refused.iter().map(|(_, refusal)| refusal.words.as_str()).collect();
    let error = if words.is_empty() { "no app is configured".to_owned() } else { words.join("; ") };
    let gates = refused.last().map(|(_, refusal)| refusal.gates.clone()).unwrap_or_default();
    (StatusCode::CONFLICT, Json(json!({"schema_version": 1, "error": error, "gates": gates}))).into_response()
}

/// Gives one order to the control, and waits a bounded time for its word.
async fn give(state: &State, app: &str, order: crate::domain::orders::Order) -> Result<Result<Followed, NotDone>, Fault> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        state.orders.send(Message::Order(app.into(), order, answer)).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(fault(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping; nothing was done")),
        Err(_) => {
            let words = format!(
                "{app}: the decision loop did not answer within {}s; the order may still be followed: look at the status before you give it again",
                PATIENCE.as_secs()
            );
            Err(fault(StatusCode::SERVICE_UNAVAILABLE, words))
        }
    }
}

pub(super) async fn reload(Held(state): Held<State>, Extension(peer): Extension<Peer>, request: Request) -> Response {
    match actor(peer, is_from_page(request.headers())).await {
        Ok(who) => tracing::info!(who, "asked to read the config anew"),
        Err(fault) => return fault.into(),
    }
    let (answer, answered) = oneshot::channel();
    let asked = async {
        state.reload.send(answer).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(RELOAD_PATIENCE, asked).await {
        Ok(Some(Ok(()))) => Json(json!({"schema_version": 1, "reloaded": true})).into_response(),
        Ok(Some(Err(words))) => problem(StatusCode::BAD_REQUEST, words),
        Ok(None) => problem(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the reload takes too long; see the log and config_last_reload_successful"),
    }
}
