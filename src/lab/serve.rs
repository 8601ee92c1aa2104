//! The one HTTP/1.1 server under every listener of the lab: it can also stay silent, drop and reset.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request with its whole body.
pub type Whole = Request<Bytes>;

/// What a handler does with a request.
#[derive(Debug)]
pub enum Reply {
    /// Answers.
    Answer(Response<Full<Bytes>>),
    /// Answers late.
    Late(Duration, Response<Full<Bytes>>),
    /// Stays silent until the client gives up.
    Hang,
    /// Closes the connection without an answer.
    Drop,
}

/// What happens to a connection before anything is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// It is served.
    Open,
    /// It is accepted, and that is all.
    Silent,
    /// It is reset.
    Reset,
}

/// Where servers live and how they end.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Ends everything.
    pub token: CancellationToken,
    /// Knows who has not ended yet.
    pub tasks: TaskTracker,
}

/// Serves a listener until the room closes.
pub fn serve<D, H, F>(room: &Room, listener: TcpListener, door: D, handler: H)
where
    D: Fn(SocketAddr) -> Door + Send + Sync + 'static,
    H: Fn(Whole, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let (token, tasks, handler) = (room.token.clone(), room.tasks.clone(), Arc::new(handler));
    room.tasks.spawn(async move {
        while let Some(accepted) = token.run_until_cancelled(listener.accept()).await {
            let Ok((stream, peer)) = accepted else {
                continue;
            };
            match door(peer) {
                Door::Open => {
                    let (token, handler) = (token.clone(), handler.clone());
                    tasks.spawn(async move {
                        token.run_until_cancelled(connection(stream, peer, handler)).await;
                    });
                }
                Door::Silent => {
                    let token = token.clone();
                    tasks.spawn(async move {
                        token.run_until_cancelled(swallow(stream)).await;
                    });
                }
                Door::Reset => reset(stream),
            }
        }
    });
}

async fn connection<H, F>(stream: TcpStream, peer: SocketAddr, handler: Arc<H>)
where
    H: Fn(Whole, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            match handler(Request::from_parts(parts, body), peer).await {
                Reply::Answer(response) => Ok(response),
                Reply::Late(delay, response) => {
                    tokio::time::sleep(delay).await;
                    Ok(response)
                }
                Reply::Hang => std::future::pending().await,
                Reply::Drop => Err(std::io::Error::other("dropped on purpose")),
            }
        }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::trace!(%peer, %error, "a connection of the lab ended early");
    }
}

/// Reads and forgets, until the client has had enough.
async fn swallow(mut stream: TcpStream) {
    let mut sink = tokio::io::sink();
    if let Err(error) = tokio::io::copy(&mut stream, &mut sink).await {
        tracing::trace!(%error, "a silent connection ended");
    }
}

fn reset(stream: TcpStream) {
    // Lingering for no time at all turns the close into a reset.
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "could not reset a connection of the lab");
    }
}

/// A plain answer.
pub fn text(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    if let Ok(status) = hyper::StatusCode::from_u16(status) {
        *response.status_mut() = status;
    }
    header(&mut response, "content-type", kind);
    response
}

/// Sets a header, if name and value are fit to be one.
pub fn header(response: &mut Response<Full<Bytes>>, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.parse()) {
        response.headers_mut().insert(name, value);
    }
}
