//! One connection and one exchange on it; what each failure there means.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::bound::{Allowance, Bounded};
use super::certificate::not_after;
use super::{Bad, HttpSpec, Phase, Trace, tls};
use crate::domain::model::{Cause, Verdict};
use crate::ports::chain;

/// Bytes of an answer's head; an honest one has a tenth of it.
pub(super) const HEAD: usize = 64 * 1024;

/// Header lines of an answer.
const HEADERS: usize = 100;

/// An open connection. Nothing drives it but the look that uses it: there is no task to forget.
pub struct Open {
    sender: SendRequest<Empty<Bytes>>,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    allowance: Allowance,
    certificate: Option<i64>,
}

impl Open {
    /// When the certificate that the other side showed ends (wall, microseconds); `None` without TLS.
    pub fn certificate(&self) -> Option<i64> {
        self.certificate
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects, and does the TLS handshake if settings for it are given. Each answer may take `most` bytes on the wire.
pub async fn open(
    address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    most: u64,
    trace: &mut Trace,
) -> Result<Open, Bad> {
    trace.enter(Phase::Connect);
    let tcp = TcpStream::connect(address).await.map_err(|cause| io_classed(&cause, "connecting"))?;
    // Only a delay would come of it if this failed.
    if let Err(cause) = tcp.set_nodelay(true) {
        tracing::debug!(%address, %cause, "TCP_NODELAY not set");
    }
    let mut certificate = None;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some((config, name)) => {
            trace.enter(Phase::Tls);
            let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(|cause| io_classed(&cause, "the TLS handshake"))?;
            certificate = stream.get_ref().1.peer_certificates().and_then(|chain| not_after(chain.first()?));
            Box::new(stream)
        }
    };
    trace.enter(Phase::Wait);
    let (bounded, allowance) = Bounded::new(stream, most);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD).max_header_size(HEAD).max_headers(HEADERS);
    let (sender, connection) = builder.handshake(TokioIo::new(bounded)).await.map_err(|cause| classed(&cause))?;
    // The connection's own error reaches the look through its request or body, so nothing is lost here.
    let driver = Box::pin(async move { connection.await.unwrap_or_else(|cause| tracing::trace!(%cause, "connection ended")) });
    Ok(Open { sender, driver, allowance, certificate })
}

/// Sends the request, and hands the answer to `judge`. Gives the connection back if it can carry another request.
pub async fn exchange<T>(
    open: Open,
    request: Request<Empty<Bytes>>,
    judge: impl AsyncFnOnce(Response<Incoming>) -> Result<(T, bool), Bad>,
) -> Result<(T, Option<Open>), Bad> {
    let Open { mut sender, mut driver, allowance, certificate } = open;
    allowance.renew();
    let mut alive = true;
    let (found, whole) = {
        let talk = async {
            sender.ready().await.map_err(|cause| classed(&cause))?;
            let response = sender.send_request(request).await.map_err(|cause| classed(&cause))?;
            judge(response).await
        };
        tokio::pin!(talk);
        tokio::select! {
            biased;
            found = &mut talk => found,
            // The peer closed, and what it sent before lies ready.
            () = &mut driver => {
                alive = false;
                talk.await
            }
        }?
    };
    Ok((found, (alive && whole && !sender.is_closed()).then_some(Open { sender, driver, allowance, certificate })))
}

/// Reads the body as far as the expectations and `max_body` ask for it; `true` if it was read to its end.
pub async fn read(mut body: Incoming, spec: &HttpSpec) -> Result<bool, Bad> {
    let needle = spec.expect.body_contains.as_deref().map(str::as_bytes).filter(|needle| !needle.is_empty());
    let limit = usize::try_from(spec.max_body).unwrap_or(usize::MAX);
    let (mut seen, mut kept) = (0_usize, Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| classed(&cause))?;
        let Some(data) = frame.data_ref() else { continue };
        let part = &data[..data.len().min(limit - seen)];
        seen += part.len();
        if let Some(needle) = needle {
            // Only a needle's length before the new part can hold the beginning of a match.
            kept.drain(..kept.len().saturating_sub(needle.len() - 1));
            kept.extend_from_slice(part);
            if kept.windows(needle.len()).any(|window| window == needle) {
                return Ok(false);
            }
        }
        if part.len() < data.len() || seen >= limit {
            return match needle {
                Some(_) if part.len() < data.len() || !body.is_ended() => Err((
                    Verdict::Down(Cause::TooLarge),
                    format!("the first {limit} bytes of the body lack the expected text, and there is more"),
                )),
                Some(_) => Err(lacks()),
                None => Ok(false),
            };
        }
    }
    match needle {
        Some(_) => Err(lacks()),
        None => Ok(true),
    }
}

fn lacks() -> Bad {
    (Verdict::Down(Cause::Body), "the body lacks the expected text".to_owned())
}

trait Ended {
    fn is_ended(&self) -> bool;
}

impl Ended for Incoming {
    fn is_ended(&self) -> bool {
        hyper::body::Body::is_end_stream(self)
    }
}

/// What a failed exchange means.
fn classed(error: &hyper::Error) -> Bad {
    if error.is_parse_too_large() {
        return (Verdict::Down(Cause::TooLarge), format!("the answer's head is larger than {HEAD} bytes or {HEADERS} lines"));
    }
    if error.is_parse() {
        return (Verdict::Down(Cause::Malformed), format!("the answer is not HTTP: {}", chain(error)));
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return (Verdict::Down(Cause::Reset), "the connection was closed before the answer was complete".to_owned());
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return io_classed(cause, "reading the answer");
        }
        source = cause.source();
    }
    (Verdict::Unknown(Cause::Unclassified), chain(error))
}

/// What a failed system call means: the other side's refusal counts, our own stack's trouble does not.
pub fn io_classed(error: &io::Error, doing: &str) -> Bad {
    if let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let (verdict, words) = tls::classed(cause);
        return (verdict, format!("TLS: {words}"));
    }
    let too_many = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS, rustix::io::Errno::NOMEM];
    if error.raw_os_error().is_some_and(|code| too_many.iter().any(|known| known.raw_os_error() == code)) {
        return (Verdict::Unknown(Cause::FileLimit), format!("{doing}: {error}; this machine is out of files or buffers"));
    }
    use io::ErrorKind as Kind;
    let verdict = match error.kind() {
        Kind::ConnectionRefused => Verdict::Down(Cause::Refused),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof | Kind::NotConnected => {
            Verdict::Down(Cause::Reset)
        }
        Kind::TimedOut => Verdict::Down(Cause::TimedOut),
        Kind::FileTooLarge => Verdict::Down(Cause::TooLarge),
        Kind::InvalidData | Kind::InvalidInput => Verdict::Down(Cause::Malformed),
        // No way out of this machine: no route, no source address or port, or a firewall of our own.
        Kind::NetworkUnreachable
        | Kind::HostUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable
        | Kind::AddrInUse
        | Kind::PermissionDenied => Verdict::Unknown(Cause::NoRoute),
        _ => Verdict::Unknown(Cause::Unclassified),
    };
    (verdict, format!("{doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_own_machine_cannot_do_is_unknown() {
        let verdict = |errno: rustix::io::Errno| io_classed(&io::Error::from_raw_os_error(errno.raw_os_error()), "connecting").0;
        use rustix::io::Errno;
        for errno in [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::NETDOWN, Errno::ADDRNOTAVAIL, Errno::PERM, Errno::ACCESS] {
            assert_eq!(verdict(errno), Verdict::Unknown(Cause::NoRoute), "{errno:?}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS] {
            assert_eq!(verdict(errno), Verdict::Unknown(Cause::FileLimit), "{errno:?}");
        }
        assert_eq!(verdict(Errno::CONNREFUSED), Verdict::Down(Cause::Refused));
        assert_eq!(verdict(Errno::CONNRESET), Verdict::Down(Cause::Reset));
        assert_eq!(verdict(Errno::TIMEDOUT), Verdict::Down(Cause::TimedOut));
        assert_eq!(verdict(Errno::IO), Verdict::Unknown(Cause::Unclassified));
    }
}
