//! Clients of the daemon's open door, over sockets of our own: those who ask in haste, and those who never read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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

/// One that asks for the figures again and again, and reads nothing of what it gets.
pub struct Deaf(TcpStream);

impl Deaf {
    pub fn new(address: &str) -> Deaf {
        let mut stream = connect(address);
        stream.write_all(request(address, "/metrics").repeat(UNREAD).as_bytes()).unwrap();
        Deaf(stream)
    }

    /// Reads what is still there: true if the other end had not answered everything before it let go.
    pub fn was_cut_off(mut self) -> bool {
        let mut got = Vec::new();
        // A reset is an end, too.
        drop(self.0.read_to_end(&mut got));
        got.windows(12).filter(|window| *window == b"HTTP/1.1 200").count() < UNREAD
    }
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
