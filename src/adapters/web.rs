//! Messages to other people's services: one client for all, made at the first use, and errors that never carry an
//! address.
//!
//! The path of such an address is often its whole secret, so an error here names the place (scheme, host, port)
//! and nothing below it.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use url::Url;

use super::http::{Dialer, trusting_nobody};
use crate::ports::chain;

/// One message, from the first question to the last byte that is read of the answer. A receiver that needs longer is
/// asked again rather than waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A file with an address is not longer; what is longer is another file.
const FILE_LIMIT: u64 = 8 * 1024;

/// The way to receivers of messages.
#[derive(Debug, Clone)]
pub struct Web {
    dialer: Dialer,
    plain: Arc<OnceLock<Result<Client, String>>>,
    secure: Arc<OnceLock<Result<Client, String>>>,
}

impl Web {
    /// Makes nothing yet. The machine's root certificates are the dialer's: held once, and only if somebody needs them.
    pub fn new(dialer: Dialer) -> Web {
        Web { dialer, plain: Arc::default(), secure: Arc::default() }
    }

    /// The client for that URL's scheme. Redirects are not followed: they would carry a message, and its secret URL's
    /// headers, to whomever the answer names, or turn the POST into a GET that answers 200 and has told nobody.
    ///
    /// # Errors
    /// The machine has no readable root certificates.
    pub fn client(&self, url: &Url) -> Result<Client, String> {
        let made = match url.scheme() {
            "https" => self.secure.get_or_init(|| made(&self.dialer.native_tls()?)),
            _ => self.plain.get_or_init(|| made(&trusting_nobody()?)),
        };
        made.clone()
    }
}

/// No connection is kept: messages are rare, and one that was kept is closed when it is needed. A proxy of the
/// environment (`HTTPS_PROXY`) is used.
fn made(tls: &Arc<ClientConfig>) -> Result<Client, String> {
    Client::builder()
        .tls_backend_preconfigured(ClientConfig::clone(tls))
        .user_agent(concat!("watchover/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(5))
        .timeout(PATIENCE)
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| format!("the client for messages cannot be made: {}", chain(&error)))
}

/// Where a message goes, as far as it may be told: scheme, host and port.
pub fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or("?"))
}

/// An absolute http or https URL, or what is wrong with it, in words that never quote it.
///
/// # Errors
/// What is wrong, and the right form.
pub fn address(text: &str) -> Result<Url, String> {
    let form = "give an absolute URL like \"https://hooks.example.net/…\" (the text is not shown, it may hold a secret)";
    match Url::parse(text) {
        Err(cause) => Err(format!("is not a URL ({cause}); {form}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Err(format!("is not an http or https URL; {form}")),
        Ok(url) if url.host_str().is_none_or(str::is_empty) => Err(format!("names no host; {form}")),
        Ok(url) => Ok(url),
    }
}

/// The part of a URL that may be a secret. Errs towards secrets: a false alarm costs a file, a miss is in the journal for good.
pub fn secret_part(url: &Url) -> Option<&'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        Some("a user or password")
    } else if url.query().is_some() {
        Some("a query")
    } else if url.fragment().is_some() {
        Some("a fragment")
    } else if url.path_segments().is_some_and(|mut parts| parts.any(looks_random)) {
        Some("a path with what looks like a token")
    } else {
        None
    }
}

/// True for what may be a token. People's path segments are short, or words of one case; tokens are long, or mix digits and cases.
pub fn looks_random(segment: &str) -> bool {
    let mixed = |text: &str| text.bytes().filter(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || *byte == b'%').count();
    let long_word = |word: &str| word.len() > 16 || (word.len() >= 8 && mixed(word) > 0);
    segment.split(['-', '_', '.', '~']).any(long_word) || (segment.len() >= 12 && mixed(segment) >= 4) || segment.len() > 48
}

/// A small plain file, such as one that holds an address: opening anything else may wait for good.
///
/// # Errors
/// It cannot be read, is not a plain file, or is too long for an address.
pub async fn read(path: &Path) -> io::Result<String> {
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut text = String::new();
    tokio::fs::File::open(path).await?.take(FILE_LIMIT + 1).read_to_string(&mut text).await?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other("it is too long for a URL"));
    }
    Ok(text)
}

/// Slack's three control characters, escaped.
pub fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// `timed-out`, `connect` or `broken`: for the metric's `reason`.
    pub code: &'static str,
    /// For a person; without the address.
    pub words: String,
}

/// Reads a transport error, and leaves the address out.
pub fn unanswered(error: reqwest::Error) -> Unanswered {
    // The order matters: a handshake that hangs is a timeout first.
    let code = if error.is_timeout() {
        "timed-out"
    } else if error.is_connect() {
        "connect"
    } else {
        "broken"
    };
    Unanswered { code, words: chain(&error.without_url()) }
}

/// A receiver for tests: answers each connection with the next text, and hands out what it was asked.
#[cfg(test)]
pub mod fake {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use url::Url;

    use crate::adapters::dns::{Dns, DnsSpec};
    use crate::adapters::http::Dialer;
    use crate::adapters::web::Web;

    /// The way there, as the daemon has it.
    pub fn web() -> Web {
        Web::new(Dialer::new(Dns::new(&DnsSpec::default()).unwrap()))
    }

    /// Listens on a port of its own. An empty answer keeps the connection open and says nothing.
    pub fn receiver(answers: &[&str]) -> (Url, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (tell, told) = channel();
        let answers: Vec<String> = answers.iter().map(|text| (*text).to_owned()).collect();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = Vec::new();
                let mut part = [0; 4096];
                while !whole(&asked) {
                    match stream.read(&mut part) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => asked.extend_from_slice(&part[..count]),
                    }
                }
                // The test may be over; then nobody wants to know.
                drop(tell.send(String::from_utf8_lossy(&asked).into_owned()));
                if answer.is_empty() {
                    drop(stream.read_to_end(&mut asked));
                } else {
                    drop(stream.write_all(answer.as_bytes()));
                }
            }
        });
        (url, told)
    }

    /// An answer without a body.
    pub fn status(line: &str) -> String {
        format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    fn whole(asked: &[u8]) -> bool {
        let text = String::from_utf8_lossy(asked).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok()).unwrap_or(0);
        body.len() >= length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &Url) -> Client {
        fake::web().client(url).unwrap()
    }

    #[test]
    fn a_place_says_nothing_below_the_host() {
        let url = Url::parse("https://user:hush@hooks.example.net:8443/hush?key=hush#hush").unwrap();
        assert_eq!(place(&url), "https://hooks.example.net:8443");
        assert_eq!(place(&Url::parse("http://[::1]/hush").unwrap()), "http://[::1]");
    }

    #[test]
    fn a_bad_address_is_not_quoted() {
        for text in ["hush", "ftp://example.net/hush", "https://", "mailto:hush@example.net", "unix:/run/hush", "https://a b/hush"] {
            let said = address(text).unwrap_err();
            assert!(!said.contains("hush") && said.contains("https://hooks.example.net/"), "{text}: {said}");
        }
        assert!(address("https://hooks.example.net/hush").is_ok());
    }

    #[tokio::test]
    async fn redirects_are_answers_not_ways() {
        let (url, told) =
            fake::receiver(&["HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", &fake::status("200 OK")]);
        let answer = client(&url).post(url).body("x").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 302);
        assert!(told.recv().unwrap().starts_with("POST / "));
        assert!(told.try_recv().is_err(), "asked once");
    }

    #[tokio::test]
    async fn an_error_leaves_the_address_out() {
        let gone = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        let url = Url::parse(&format!("http://u:hush@{gone}/hush?hush")).unwrap();
        let error = client(&url).get(url).send().await.unwrap_err();
        let said = unanswered(error);
        assert_eq!(said.code, "connect");
        assert!(!said.words.contains("hush") && said.words.contains("refused"), "{said:?}");
    }
}
