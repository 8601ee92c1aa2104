//! An order given, and its move followed to the end: what goes on without whoever followed it, and how long a daemon that is
//! away is waited for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, ClientError};
use super::operate::{fail, word};
use super::out::{complain, remark, say};
use super::{Look, exit};
use crate::domain::ledger::{Entry, Record};
use crate::domain::model::Outcome;

/// How often a followed move is asked for news.
const FOLLOW: Duration = Duration::from_millis(200);
/// How long a daemon that does not answer is waited for: it may be restarting, or its disk may hang, and it takes the move up.
const ABSENT: Duration = Duration::from_secs(60);

/// After that long without a row a followed move says what its steps wait for; and no more often.
const QUIET: Duration = Duration::from_secs(10);

/// What is said of a move that writes no rows: a drain may last for minutes, and its figures stand in the status alone.
struct Quiet {
    /// When something was printed last.
    since: Instant,
    /// What was said last.
    told: String,
}

impl Quiet {
    fn new(now: Instant) -> Quiet {
        Quiet { since: now, told: String::new() }
    }

    /// Rows came: they tell more.
    fn heard(&mut self, now: Instant) {
        self.since = now;
    }

    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= QUIET
    }

    /// The line to print: only if it is another than the one before.
    fn news(&mut self, words: Option<String>, now: Instant) -> Option<String> {
        self.since = now;
        let words = words.filter(|words| *words != self.told)?;
        self.told.clone_from(&words);
        Some(words)
    }
}

/// The steps under way of that incident, and what each of them waits for. Without its clock, which always changes.
fn under_way(status: &Value, incident: &str) -> Option<String> {
    let app = status["apps"].as_array()?.iter().find(|app| app["incident"]["id"] == incident)?;
    let steps = app["incident"]["steps"].as_array()?.iter();
    let under_way = steps.filter(|step| matches!(step["state"].as_str(), Some("running" | "intended" | "asked")));
    let said: Vec<String> = under_way
        .map(|step| {
            let news = step["progress"].as_str().or(step["trouble"].as_str()).map(|words| format!(": {words}")).unwrap_or_default();
            format!("{} {}{news}", word(&step["name"]), word(&step["state"]))
        })
        .collect();
    Some(if said.is_empty() { word(&app["state"]).to_owned() } else { said.join("; ") })
}

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
    let (mut since, mut silent, mut quiet) = (0, None, Quiet::new(Instant::now()));
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
            quiet.heard(Instant::now());
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
        // Beside the rows, which stay a stream of their own. That the status has no answer is seen by the next round.
        if quiet.is_due(Instant::now())
            && let Ok(status) = client.get("/api/v1/status").await
            && let Some(words) = quiet.news(under_way(&status, incident), Instant::now())
        {
            remark!("{incident}: {words}");
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_move_without_rows_says_what_it_waits_for_once_and_not_too_often() {
        let step =
            |name: &str, state: &str, progress: Option<&str>| json!({"name": name, "state": state, "progress": progress, "trouble": null});
        let status = |steps: Vec<Value>| json!({"apps": [{"state": "moving", "incident": {"id": "shop-1", "steps": steps}}, {"state": "watching", "incident": null}]});
        let drains = |words: &str| {
            under_way(&status(vec![step("fence", "verified", Some("old")), step("promote", "running", Some(words))]), "shop-1")
        };
        assert_eq!(drains("12s behind").as_deref(), Some("promote running: 12s behind"));
        assert_eq!(under_way(&status(Vec::new()), "shop-1").as_deref(), Some("moving"));
        assert_eq!(under_way(&status(Vec::new()), "shop-2"), None);

        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::new(start);
        assert!(!quiet.is_due(at(9)) && quiet.is_due(at(10)));
        assert_eq!(quiet.news(drains("12s behind"), at(10)).as_deref(), Some("promote running: 12s behind"));
        assert!(!quiet.is_due(at(19)) && quiet.is_due(at(20)));
        assert_eq!(quiet.news(drains("12s behind"), at(20)), None, "the same is no news");
        assert_eq!(quiet.news(drains("9s behind"), at(30)).as_deref(), Some("promote running: 9s behind"));
        quiet.heard(at(35));
        assert!(!quiet.is_due(at(44)) && quiet.is_due(at(45)));
        assert_eq!(quiet.news(None, at(45)), None);
    }
}
