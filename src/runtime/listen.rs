//! Two doors, TCP and Unix: bounded in connections, in patience and in what a slow client can hold.
//!
//! Each door has its own bound, so that whoever floods the open one never shuts out an operator at the other.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// Connections at one door. A scraper, a few pages and scripts need a handful.
const MAX_CONNECTIONS: usize = 256;
/// A client that says nothing for that long is let go: its place may be needed.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for that long is let go.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Requests and their headers are small here.
const BUFFER: usize = 32 << 10;
/// How long answers may be finished after `stop`.
const GRACE: Duration = Duration::from_secs(1);

/// Who is at the other end of the Unix socket: the kernel's word, not theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Their user id; `None` if the kernel would not say.
    pub uid: Option<u32>,
}

/// Binds the admin socket, mode 0660, for the process's own group.
///
/// It is bound within a new directory that only we may enter, gets its mode there, and is then renamed to its place:
/// whatever the umask, nobody can connect while the mode is not yet right, and a stale file is replaced in one step.
/// The alternatives leave a gap (chmod after bind) or change the whole process (umask).
///
/// # Errors
/// Somebody listens there already; the path is something other than a socket; the system refuses. Each names the path.
pub fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::UnixListener;
    let named = |what: &str, cause: io::Error| io::Error::new(cause.kind(), format!("{}: {what}: {cause}", path.display()));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whoever may write there may put a socket of their own in this one's place; so not by the umask's leave.
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|cause| named("its directory cannot be made", cause))?;
    must_be_free(path)?;
    // Short, as a socket's path may have 107 bytes; two daemons in one directory differ by process.
    let hidden = dir.join(format!(".wo{}", std::process::id()));
    match std::fs::remove_dir_all(&hidden) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            return Err(named("what an earlier run left beside it cannot be removed", cause));
        }
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(&hidden).map_err(|cause| named("nothing can be made beside it", cause))?;
    let inner = hidden.join("s");
    let bound = UnixListener::bind(&inner).and_then(|listener| {
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o660))?;
        std::fs::rename(&inner, path)?;
        Ok(listener)
    });
    let cleared = std::fs::remove_dir_all(&hidden);
    let listener = bound.map_err(|cause| named("cannot be bound", cause))?;
    cleared.map_err(|cause| named("what was made beside it cannot be removed", cause))?;
    Ok(listener)
}

/// Nothing there, or a socket on which nobody listens any more.
fn must_be_free(path: &Path) -> io::Result<()> {
    let taken = |words: &str| Err(io::Error::new(ErrorKind::AddrInUse, format!("{}: {words}", path.display())));
    match std::fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(io::Error::new(cause.kind(), format!("{}: {cause}", path.display()))),
        Ok(found) if !found.file_type().is_socket() => return taken("is not a socket; move it away, or set daemon.admin_socket"),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(cause) if cause.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        Err(cause) => taken(&format!("it cannot be told whether somebody listens there ({cause}); it is not replaced")),
        Ok(_) => taken("another watchover listens there; stop it first, or set daemon.admin_socket"),
    }
}

/// Serves TCP clients until `stop`; then answers under way are finished, shortly.
pub async fn serve_tcp(listener: TcpListener, router: Router, stop: CancellationToken) {
    let accept = async || listener.accept().await.map(|(stream, _)| (stream, None));
    serve(accept, router, stop).await;
}

/// The same for the Unix socket; every request carries its [`Peer`].
pub async fn serve_unix(listener: UnixListener, router: Router, stop: CancellationToken) {
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
        Ok((stream, Some(Peer { uid })))
    };
    serve(accept, router, stop).await;
}

async fn serve<S>(accept: impl AsyncFn() -> io::Result<(S, Option<Peer>)>, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this future, and everybody in it.
    let mut clients = JoinSet::new();
    let mut quiet = false;
    loop {
        // Beyond the bound, clients wait in the system's own queue.
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = clients.join_next(), if !clients.is_empty() => continue,
            accepted = accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                quiet = false;
                let (router, stop) = (router.clone(), stop.clone());
                clients.spawn(async move {
                    converse(stream, peer, router, stop).await;
                    drop(place);
                });
            }
            Err(cause) => {
                // Out of files, mostly: it passes, and spinning or dying would make it worse. Said once a spell.
                if !std::mem::replace(&mut quiet, true) {
                    tracing::warn!(%cause, "a client could not be let in");
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        }
    }
    while clients.join_next().await.is_some() {}
}

async fn converse<S>(stream: S, peer: Option<Peer>, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        routes.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).max_buf_size(BUFFER);
    let connection = builder.serve_connection(TokioIo::new(Patient::new(stream, WRITE_PATIENCE)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "a client went away");
    }
}

/// A stream whose writes fail once nothing of them was taken for a while: hyper itself waits for ever.
struct Patient<S> {
    inner: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(inner: S, patience: Duration) -> Patient<S> {
        Patient { inner, patience, waiting: None }
    }

    fn bounded<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.bounded(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.bounded(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bounded(cx, polled)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.bounded(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/admin.sock");
        let first = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another watchover listens there") && error.contains("admin.sock"), "{error}");
        drop(first);
        let again = bind_unix(&path).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        drop(again);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("is not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut patient = Patient::new(ours, Duration::from_secs(10));
        let error = patient.write_all(b"more than four bytes").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
