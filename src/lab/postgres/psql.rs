//! One connection to a server: a `psql` that stays, one statement at a time.
//!
//! A client library would be a dozen more crates in the daemon's own binary for the sake of the lab; a `psql` that
//! stays connected costs a pipe, and is PostgreSQL's own word on what an answer means.

use std::io::{Error, Result};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::place::Place;

/// Stands alone on a line after each answer.
const END: &str = "-- end --";

/// A connection. Dropping it ends it, whatever it was doing.
#[derive(Debug)]
pub struct Psql {
    // Held for its end alone.
    _child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Psql {
    /// Starts one. Whether the server takes it shows with the first statement.
    pub fn open(place: &Place, port: u16) -> Result<Psql> {
        let mut command = place.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-p"]).arg(port.to_string());
        command.env("PGCONNECT_TIMEOUT", "2").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|cause| Error::new(cause.kind(), format!("start psql: {cause}")))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::other("psql started without its pipes"));
        };
        Ok(Psql { _child: child, to, from: BufReader::new(from).lines() })
    }

    /// Asks one statement (on one line, with its semicolon) and answers its rows; a refused statement has none. Fails
    /// when the connection is gone or the answer takes longer than `patience`; the connection is of no use then.
    pub async fn ask(&mut self, statement: &str, patience: Duration) -> Result<Vec<String>> {
        let asked = async {
            self.to.write_all(format!("{statement}\n\\echo '{END}'\n").as_bytes()).await?;
            self.to.flush().await?;
            let mut rows = Vec::new();
            while let Some(line) = self.from.next_line().await? {
                if line == END {
                    return Ok(rows);
                }
                rows.push(line);
            }
            Err(Error::other("the server closed the connection"))
        };
        tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(Error::other("no answer from the server in time")))
    }
}
