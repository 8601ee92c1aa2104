//! Listeners on loopback that nobody should meet. Each connection has a thread of its own, which ends with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What the kernel keeps of a stream that nobody reads: our small send buffer, and the other side's receive buffer as it
/// is before it grows. It was measured, with a reader that reads nothing, as less than half of this.
pub const KERNEL: u64 = 1 << 20;

/// A peer that says or takes nothing for that long is left; no look here has so much time.
const PATIENCE: Duration = Duration::from_secs(4);

/// Serves `at` until the process ends. The send buffer is small, so that what was written was also taken, save [`KERNEL`].
pub fn listen(at: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> std::io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_send_buffer_size(8 << 10)?;
        socket.bind(at)?;
        socket.listen(64)?.into_std()
    })?;
    listener.set_nonblocking(false)?;
    let address = listener.local_addr()?;
    thread::spawn(move || accept(&listener, &Arc::new(serve)));
    Ok(address)
}

fn accept(listener: &TcpListener, serve: &Arc<impl Fn(TcpStream) + Send + Sync + 'static>) {
    for stream in listener.incoming().flatten() {
        let bounded = stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE))).and(stream.set_nodelay(true));
        if bounded.is_ok() {
            let serve = Arc::clone(serve);
            thread::spawn(move || serve(stream));
        }
    }
}

/// How an answer is sent.
#[derive(Debug, Clone)]
pub enum Answer {
    /// As it is; then the connection is closed, or the next request awaited.
    Whole(Vec<u8>, bool),
    /// One byte after the other.
    Drip(Vec<u8>),
    /// The first piece, then the second for as long as it is taken.
    Endless(Vec<u8>, Vec<u8>),
}

/// Answers whatever is asked on that connection; false: the connection is over.
pub fn answer(stream: &mut TcpStream, answer: &Answer, written: &AtomicU64) -> bool {
    let mut write = |bytes: &[u8]| match stream.write(bytes) {
        Ok(count) if count > 0 => {
            written.fetch_add(count as u64, Ordering::SeqCst);
            Some(count)
        }
        _ => None,
    };
    let mut all = |bytes: &[u8], at_once: usize| {
        let mut rest = bytes;
        while !rest.is_empty() {
            match write(&rest[..rest.len().min(at_once)]) {
                Some(count) => rest = &rest[count..],
                None => return false,
            }
            if at_once == 1 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        true
    };
    match answer {
        Answer::Whole(bytes, close) => all(bytes, usize::MAX) && !close,
        Answer::Drip(bytes) => all(bytes, 1),
        Answer::Endless(first, again) => {
            let mut going = all(first, usize::MAX);
            while going && !again.is_empty() {
                going = all(again, usize::MAX);
            }
            false
        }
    }
}

/// Reads once and answers, until the connection is over.
pub fn converse(mut stream: TcpStream, said: &Answer, written: &AtomicU64) {
    let mut heard = [0; 4_096];
    while matches!(stream.read(&mut heard), Ok(count) if count > 0) {
        if !answer(&mut stream, said, written) {
            return;
        }
    }
}
