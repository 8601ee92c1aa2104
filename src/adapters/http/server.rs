//! A server for tests: says on each connection exactly what it is told, well-formed or not.
#![cfg(test)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it does once it has the head of a request.
#[derive(Clone)]
pub enum Says {
    /// This, again for each request on the connection.
    This(Vec<u8>),
    /// This, and then the connection is closed.
    Once(Vec<u8>),
    /// The first, and then the second over and over with a pause.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// Nothing, with the connection open.
    Silence,
    /// A reset.
    Reset,
}

/// The server; it ends with the test's runtime.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// A plain one that gives that answer.
    pub async fn saying(answer: &str) -> Server {
        Server::start("127.0.0.1:0", Says::This(answer.as_bytes().to_vec()), None).await
    }

    /// A plain one that takes requests and never answers.
    pub async fn silent() -> Server {
        Server::start("127.0.0.1:0", Says::Silence, None).await
    }

    /// A server at `at`, with TLS if settings are given.
    pub async fn start(at: &str, says: Says, tls: Option<Arc<ServerConfig>>) -> Server {
        let listener = TcpListener::bind(at).await.unwrap();
        let server = Server { address: listener.local_addr().unwrap(), heard: Arc::default(), connections: Arc::default() };
        let (heard, connections) = (server.heard.clone(), server.connections.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tcp.set_nodelay(true).unwrap();
                let (says, heard, tls) = (says.clone(), heard.clone(), tls.clone());
                tokio::spawn(async move {
                    if matches!(says, Says::Reset) {
                        tcp.set_zero_linger().unwrap();
                    }
                    match tls {
                        None => serve(tcp, says, &heard).await,
                        Some(config) => {
                            if let Ok(stream) = TlsAcceptor::from(config).accept(tcp).await {
                                serve(stream, says, &heard).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    /// All that was sent to it so far.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: Says, heard: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = stream.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        heard.lock().unwrap().extend_from_slice(&buffer[..length]);
        let done = match &says {
            Says::This(answer) => stream.write_all(answer).await,
            Says::Once(answer) => {
                stream.write_all(answer).await.unwrap_or_default();
                stream.shutdown().await.unwrap_or_default();
                return;
            }
            Says::Drip(first, again, pause) => {
                let mut done = stream.write_all(first).await;
                while done.is_ok() {
                    tokio::time::sleep(*pause).await;
                    done = stream.write_all(again).await;
                }
                done
            }
            Says::Silence => Ok(()),
            Says::Reset => return,
        };
        if done.is_err() {
            return;
        }
    }
}

/// TLS settings for a server named `name` whose certificate ends in that year, with the PEM of the authority that signed it.
pub fn certified(name: &str, last_year: i32) -> (Arc<ServerConfig>, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(2000, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into()))
        .unwrap();
    (Arc::new(config), pem)
}
