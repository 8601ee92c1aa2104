//! Clients of the daemon's open door, over sockets of our own: those who ask in haste, and those who never read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::real::LONG;

/// Requests that a client sends who reads none of the answers: far more than the system keeps for it.
const UNREAD: usize = 200;

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn request(address: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")
}

/// One that asks again and again over one connection.
pub struct Scraper {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Scraper {
    pub fn new(address: &str) -> Scraper {
        Scraper { address: address.to_owned(), stream: BufReader::new(connect(address)) }
    }

    /// Asks once, and takes the whole answer: its status, and how many bytes it had.
    pub fn ask(&mut self) -> (u16, usize) {
        self.stream.get_mut().write_all(request(&self.address, "/metrics").as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the answer ended within its head");
            let line = line.trim_end().to_lowercase();
            if line.is_empty() {
                break;
            } else if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap().parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
        }
        self.stream.read_exact(&mut vec![0; length]).unwrap();
        (status, length)
    }
}

/// One that asks for the figures again and again, and reads nothing of what it gets. The system keeps little for it.
pub struct Deaf {
    /// Ours, and theirs.
    ports: [u16; 2],
    _stream: TcpStream,
}

impl Deaf {
    pub fn new(address: &str) -> Deaf {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(request(address, "/metrics").repeat(UNREAD).as_bytes()).unwrap();
        let ports = [stream.local_addr().unwrap().port(), stream.peer_addr().unwrap().port()];
        Deaf { ports, _stream: stream }
    }

    /// True if nobody at the other end holds the connection any more. What the system still has for us it keeps by itself.
    pub fn is_let_go(&self) -> bool {
        let [ours, theirs] = self.ports;
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // Local address, remote address, and at the tenth place the inode: 0 once no process has it open.
        let held = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        !held.into_iter().any(|row| port(row[1]) == theirs && port(row[2]) == ours && row[9] != "0")
    }
}

/// The port of an address as the system's table has it: hexadecimal, after a colon.
fn port(address: &str) -> u16 {
    u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap()
}

/// One that asks for the live rows, and reads none.
pub struct Listener(TcpStream);

impl Listener {
    pub fn new(address: &str) -> Listener {
        let mut stream = connect(address);
        stream.write_all(request(address, "/api/v1/events").as_bytes()).unwrap();
        Listener(stream)
    }

    /// The status that it was answered with at the time.
    pub fn status(self) -> u16 {
        self.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut line = String::new();
        BufReader::new(self.0).read_line(&mut line).unwrap();
        line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"))
    }
}
