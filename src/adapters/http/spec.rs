//! What a look is made of, as the config's judge leaves it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Expect, tls};

/// A host and a port to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Target {
    /// Reads `host:port`; the port must be there, because guessing it from the URL's scheme hides a mistake.
    ///
    /// # Errors
    /// Says what is wrong and how it is written.
    pub fn parse(text: &str) -> Result<Target, String> {
        let form = "write host:port, like \"alb-123.eu-west-1.elb.amazonaws.com:443\"";
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(|| format!("{text:?} has no port; {form}"))?;
        if host.starts_with('[') != host.ends_with(']') || (host.contains(':') && !host.starts_with('[')) {
            return Err(format!("{text:?} has no port, or an IPv6 address without brackets; {form} or \"[2001:db8::1]:443\""));
        }
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("{text:?} has {port:?} for a port; {form}")),
        };
        if url::Host::parse(host).is_err() {
            return Err(format!("{text:?} names no host; {form}"));
        }
        Ok(Target { host: host.to_owned(), port })
    }
}

/// Whether `file` can be read as `ca_file`; for judges, which run before anything is built.
///
/// # Errors
/// Why it cannot.
pub fn check_ca_file(file: &std::path::Path) -> Result<(), String> {
    tls::from_file(file).map(drop)
}

/// Everything about one kind of look; the URL carries no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSpec {
    /// What is asked for; its host is the `Host` header and the TLS name.
    #[serde(with = "as_text")]
    pub url: Url,
    /// Where it is connected, if not to the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_to: Option<Target>,
    /// The TLS name, if not the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// `GET`, `HEAD` or `OPTIONS`.
    pub method: String,
    /// What the answer must be.
    pub expect: Expect,
    /// Trust these certificates instead of the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// False: any certificate will do.
    pub verify_tls: bool,
    /// Redirects followed; 0: a redirect is judged by its status.
    pub follow_redirects: u32,
    /// Bytes of the body that are read at most.
    pub max_body: u64,
    /// Keep connections between looks.
    pub keep_alive: bool,
}

impl HttpSpec {
    /// A GET of `url` with every default.
    pub fn get(url: Url) -> HttpSpec {
        HttpSpec {
            url,
            connect_to: None,
            server_name: None,
            method: "GET".to_owned(),
            expect: Expect::default(),
            ca_file: None,
            verify_tls: true,
            follow_redirects: 0,
            max_body: 64 * 1024,
            keep_alive: false,
        }
    }
}

/// URLs as their text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use url::Url;

    pub fn serialize<S: Serializer>(url: &Url, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(url.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
        Url::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
