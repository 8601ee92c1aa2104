//! An order given, and its move followed to the end: what goes on without whoever followed it, and how long a daemon that is
//! away is waited for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, ClientError};
use super::operate::{fail, word};
use super::out::{complain, say};
use super::{Look, exit};
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::Outcome;

/// How often a followed move is asked for news.
const FOLLOW: Duration = Duration::from_millis(200);
/// How long a daemon that does not answer is waited for: it may be restarting, or its disk may hang, and it takes the move up.
const ABSENT: Duration = Duration::from_secs(60);

/// Gives the order, and follows what comes of it if that is wanted.
pub(super) async fn give(client: &Client, body: &Value, follow: bool, look: Look) -> u8 {
    if !follow {
        return ask(client, body, &Mutex::default(), false, look).await;
    }
    let followed = Mutex::default();
    // Both are waited for: an answer that comes with the signal is no longer told.
    tokio::select! {
        biased;
        pressed = tokio::signal::ctrl_c() => match pressed {
            Ok(()) => interrupted(word(&body["app"]), followed.lock().unwrap_or_else(PoisonError::into_inner).as_deref()),
            Err(cause) => {
                complain!("watchover: Ctrl-C cannot be listened for: {cause}");
                exit::FAILED
            }
        },
        code = ask(client, body, &followed, true, look) => code,
    }
}

/// Says what goes on without whoever followed it, and how it is followed or stopped.
fn interrupted(app: &str, incident: Option<&str>) -> u8 {
    match incident {
        Some(id) => complain!(
            "watchover: interrupted; the move goes on in the daemon. Follow it with `watchover status {app}` and `watchover report {id}`, or stop it with `watchover abort {id} --reason TEXT`"
        ),
        None => complain!("watchover: interrupted before the daemon answered; it may move all the same: look at `watchover status {app}`"),
    }
    exit::INTERRUPTED
}

/// Gives the order, and notes in `followed` which incident came of it.
async fn ask(client: &Client, body: &Value, followed: &Mutex<Option<String>>, follow: bool, look: Look) -> u8 {
    let answer = match client.post("/api/v1/orders", body).await {
        Ok(answer) => answer,
        Err(error) => return fail(&error, look),
    };
    let (Some(incident), true) = (answer["incident"].as_str(), follow) else {
        if look.json {
            say!("{answer}");
        } else {
            say!("done: {}", answer["incident"].as_str().unwrap_or(word(&body["order"])));
        }
        return exit::DONE;
    };
    *followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(incident.to_owned());
    self::follow(client, incident, look).await
}

/// Prints a move's entries until it ends, or until it waits for a person. That the daemon does not answer for a while says
/// nothing of the move, and it has failed by that never.
async fn follow(client: &Client, incident: &str, look: Look) -> u8 {
    let (mut since, mut silent) = (0, None);
    loop {
        let document = match client.get(&format!("/api/v1/incidents/{incident}?since={since}")).await {
            Ok(document) => {
                silent = None;
                document
            }
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Failed(_))) => {
                let begun: &mut Instant = silent.get_or_insert_with(|| {
                    complain!(
                        "watchover: the daemon does not answer; waiting up to {} for it to go on",
                        humantime::format_duration(ABSENT)
                    );
                    Instant::now()
                });
                if begun.elapsed() >= ABSENT {
                    fail(&error, look);
                    complain!("watchover: how {incident} stands is not known; look at it with `watchover report {incident}`");
                    return exit::UNREACHABLE;
                }
                tokio::time::sleep(FOLLOW).await;
                continue;
            }
            Err(error) => return fail(&error, look),
        };
        for row in document["records"].as_array().into_iter().flatten() {
            if look.json {
                say!("{row}");
            }
            let Ok(record) = serde_json::from_value::<Record>(row.clone()) else { continue };
            since = since.max(record.seq);
            if !look.json {
                say!("{}  {:15} {}", record.at.rfc3339(), record.entry.kind(), record.entry.words());
            }
            match record.entry {
                Entry::Closed { outcome: Outcome::Moved | Outcome::Returned, .. } => return exit::DONE,
                Entry::Closed { .. } => return exit::FAILED,
                Entry::Stuck { .. } | Entry::AbortedBy { .. } | Entry::StepWaits { .. } => return exit::WAITING,
                _ => {}
            }
        }
        tokio::time::sleep(FOLLOW).await;
    }
}
