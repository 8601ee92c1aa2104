//! The daemon as its operators reach it: over the admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::exit;

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("the daemon is not reachable at {socket}: {cause}. Does it run, and are you in the group watchover?")]
    Unreachable {
        /// Where.
        socket: String,
        /// What the system said.
        cause: String,
    },
    /// It will not.
    #[error("{error}")]
    Refused {
        /// In its words.
        error: String,
        /// With the gates, if one refused.
        body: Value,
    },
    /// It did not understand: what was asked for is not there, or not sound.
    #[error("{0}")]
    Invalid(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl ClientError {
    /// The exit code that says the same.
    pub fn exit(&self) -> u8 {
        match self {
            ClientError::Unreachable { .. } => exit::UNREACHABLE,
            ClientError::Refused { .. } => exit::REFUSED,
            ClientError::Invalid(_) => exit::USAGE,
            ClientError::Failed(_) => exit::FAILED,
        }
    }
}

/// Answers are whole documents; a journal of years stays below this.
const MAX_ANSWER: usize = 256 << 20;
/// The daemon answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(15);

/// One daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon behind that socket.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask("GET", path, None).await
    }

    /// Gives an order.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask("POST", path, Some(body.to_string())).await
    }

    async fn ask(&self, method: &str, path: &str, body: Option<String>) -> Result<Value, ClientError> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(self.unreachable("no answer within 15s")),
        }
    }

    fn unreachable(&self, cause: impl ToString) -> ClientError {
        ClientError::Unreachable { socket: self.socket.display().to_string(), cause: cause.to_string() }
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<String>) -> Result<Value, ClientError> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.map_err(|cause| self.unreachable(cause))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|cause| self.unreachable(cause))?;
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|cause| ClientError::Failed(cause.to_string()))?;
        let work = async {
            let answer = sender.send_request(request).await.map_err(|cause| self.unreachable(cause))?;
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|cause| self.unreachable(cause))?.to_bytes();
            Ok((status, bytes))
        };
        // The connection is driven beside the request, and dropped with it.
        let (status, bytes) = tokio::select! {
            result = work => result?,
            ended = connection => return Err(self.unreachable(ended.err().map_or_else(|| "the connection ended".to_owned(), |cause| cause.to_string()))),
        };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        let error = || value.get("error").and_then(Value::as_str).map_or_else(|| value.to_string(), str::to_owned);
        match status.as_u16() {
            200..=299 => Ok(value),
            400 => Err(ClientError::Invalid(error())),
            409 => Err(ClientError::Refused { error: error(), body: value.clone() }),
            _ => Err(ClientError::Failed(format!("{status}: {}", error()))),
        }
    }
}
