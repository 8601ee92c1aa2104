//! A bound on what one answer may take on the wire.
//!
//! Head and body are bounded where they are read, but not all of an answer is either: chunk sizes of zeros without end,
//! interim answers without end. Nothing of those is kept, yet whoever reads them does nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::HEAD;

/// What an answer may take for each byte of its body, chunked: only chunks of one or two bytes would take more.
const WIRE: u64 = 4;

/// Bytes that an answer with that much of a body may take: its head, what is read along with it, and the body.
pub fn on_the_wire(max_body: u64) -> u64 {
    (2 * HEAD as u64).saturating_add(max_body.saturating_mul(WIRE))
}

/// What may still be read.
pub struct Allowance {
    most: u64,
    left: Arc<AtomicU64>,
}

impl Allowance {
    /// Another answer begins.
    pub fn renew(&self) {
        self.left.store(self.most, Ordering::Relaxed);
    }
}

/// A stream whose reads fail once an answer has taken all that it may.
pub struct Bounded<S> {
    inner: S,
    left: Arc<AtomicU64>,
}

impl<S> Bounded<S> {
    /// Bounds the stream, and says how its allowance is renewed.
    pub fn new(inner: S, most: u64) -> (Bounded<S>, Allowance) {
        let left = Arc::new(AtomicU64::new(most));
        (Bounded { inner, left: Arc::clone(&left) }, Allowance { most, left })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, "it goes on beyond all that it may take")));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, into))?;
        let count = (into.filled().len() - before) as u64;
        self.left.store(left.saturating_sub(count), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
