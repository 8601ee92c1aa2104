//! Orders to the daemon, and what it says of itself.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::choose::{self, For};
use super::client::{Client, ClientError};
use super::follow::give;
use super::out::{self, complain, put, remark, say};
use super::story::Story;
use super::{Command, Look, Why, WishArgs, exit, inspect, journal, story};
use crate::adapters::sqlite::Pages;

/// `status` and everything that steers.
pub(super) fn command(command: Command, config: Option<&Path>, look: Look) -> u8 {
    let client = match inspect::reach(config) {
        Ok(reach) => Client::new(&reach.admin_socket),
        Err(code) => return code,
    };
    inspect::on_runtime(async {
        match command {
            Command::Status { app } => status(&client, app.as_deref(), look).await,
            command => match order(&client, command).await {
                Ok((body, follow)) => give(&client, &body, follow, look).await,
                Err(code) => code,
            },
        }
    })
}

pub(super) fn fail(error: &ClientError, look: Look) -> u8 {
    complain!("watchover: {error}");
    match error {
        // The daemon's own document says more than the words.
        ClientError::Refused { body, .. } if look.json => {
            say!("{body}");
            drop(out::told());
        }
        ClientError::Refused { body, .. } => gates(&body["gates"]).iter().for_each(|line| remark!("{line}")),
        _ => {}
    }
    error.exit()
}

/// Each gate with its figures, one a line.
fn gates(all: &Value) -> Vec<String> {
    let line = |gate: &Value| format!("  {:15} {:5} {}", word(&gate["name"]), word(&gate["state"]), word(&gate["words"]));
    all.as_array().into_iter().flatten().map(line).collect()
}

async fn status(client: &Client, app: Option<&str>, look: Look) -> u8 {
    let document = match client.get("/api/v1/status").await {
        Ok(document) => document,
        Err(error) => return fail(&error, look),
    };
    let apps = match meant_apps(&document, app) {
        Ok(apps) => apps,
        Err(code) => return code,
    };
    if look.json {
        let mut one = document.clone();
        one["apps"] = apps.iter().map(|app| (*app).clone()).collect();
        say!("{one}");
    } else {
        apps.iter().for_each(|app| tell(app));
        if let Some(fault) = document["journal_fault"].as_str() {
            say!("the journal takes nothing, so nothing is done until somebody mends it: {fault}");
        }
        for one in document["unconfigured"].as_array().into_iter().flatten() {
            say!(
                "{}  {} in incident {}, which nobody goes on with, as the config does not name the app: name it again and reload",
                word(&one["name"]),
                word(&one["state"]),
                word(&one["incident"])
            );
        }
        for receiver in document["notify"].as_array().into_iter().flatten().filter(|one| one["last_error"].is_string()) {
            say!("messages to {} fail: {}", word(&receiver["name"]), word(&receiver["last_error"]));
        }
    }
    if choose::waiting(&document, apps) { exit::WAITING } else { exit::DONE }
}

/// The apps of the status document, or the one that is named; or the exit code after the reason was said.
fn meant_apps<'a>(document: &'a Value, named: Option<&str>) -> Result<Vec<&'a Value>, u8> {
    let all = document["apps"].as_array().into_iter().flatten();
    let apps: Vec<&Value> = all.filter(|found| named.is_none_or(|name| found["name"] == name)).collect();
    match named {
        Some(name) if apps.is_empty() => {
            complain!("watchover: {name:?} is not in the running config; reload the daemon, or see `watchover status`");
            Err(exit::USAGE)
        }
        _ => Ok(apps),
    }
}

pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn tell(app: &Value) {
    // An app that never left its first state has no moment of its own in the journal.
    let since = app["since"].as_str().filter(|at| !at.starts_with("1970-01-01")).map(|at| format!(" since {at}")).unwrap_or_default();
    say!("{}  {}{since}, {} active, mode {}", word(&app["name"]), word(&app["state"]), word(&app["active_site"]), word(&app["mode"]));
    if let Some(words) = waits(app) {
        say!("  {words}");
    }
    if let Some(site) = app["returned_site"].as_str() {
        say!("  the {site} answers again; it gets no users until a person says so: fence it, mend it, then `watchover failback`");
    }
    let loss = &app["last_move"]["figures"]["rpo"];
    if loss["assumption"] == "old-site-seen-alive" {
        say!("  the loss of the last move has no bound: the site that was left was seen alive without a proven fence");
    }
    if let Some(paused) = app["paused"].as_object() {
        say!("  paused until {} by {}", word(&paused["until"]), word(&paused["by"]["who"]));
    }
    for site in ["primary", "standby"] {
        let found = &app["sites"][site];
        let signals: Vec<String> = found["signals"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|signal| {
                let cause = signal["last"]["cause"]
                    .as_str()
                    .map(|cause| format!(" ({cause}: {})", word(&signal["last"]["detail"])))
                    .unwrap_or_default();
                format!("{} {}{cause}", word(&signal["name"]), word(&signal["health"]))
            })
            .collect();
        say!("  {site:8} {} {}: {}", word(&found["region"]), word(&found["health"]), signals.join(", "));
    }
    say!("  front door {} from {}", word(&app["front_door"]["verdict"]), word(&app["front_door"]["from"]));
    say!("  exposure {}", word(&app["rpo_exposure"]["words"]));
    let closed: Vec<String> = app["gates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|gate| gate["state"] != "open")
        .map(|gate| format!("{} {} ({})", word(&gate["name"]), word(&gate["state"]), word(&gate["words"])))
        .collect();
    say!("  gates {}", if closed.is_empty() { "all open".to_owned() } else { closed.join("; ") });
    let Some(incident) = app["incident"].as_object() else { return };
    say!("  incident {} for {:.1}s", word(&incident["id"]), incident["elapsed_seconds"].as_f64().unwrap_or(0.0));
    for step in incident["steps"].as_array().into_iter().flatten() {
        let news = if step["state"] == "verified" { None } else { step["progress"].as_str().or(step["trouble"].as_str()) };
        let note = step["asks"]["words"].as_str().or(news).map(|words| format!(": {words}")).unwrap_or_default();
        say!("    {:16} {} {:.1}s{note}", word(&step["name"]), word(&step["state"]), step["seconds"].as_f64().unwrap_or(0.0));
    }
    if let Some(stuck) = incident["stuck"].as_object() {
        say!("    stuck: {}", word(&stuck["words"]));
    }
}

/// For what an app waits that a person does, and until when if that ends.
fn waits(app: &Value) -> Option<String> {
    let until = app["incident"]["answer_by"].as_str().map(|at| format!("; until {at}")).unwrap_or_default();
    app["waits_for"].as_str().map(|what| format!("waits for a person: {what}{until}"))
}

/// `explain`: an incident from the journal, else the gates as they stand.
pub(super) fn explain(config: Option<&Path>, subject: Option<&str>, look: Look) -> u8 {
    let reach = match inspect::reach(config) {
        Ok(reach) => reach,
        Err(code) => return code,
    };
    let client = Client::new(&reach.admin_socket);
    let mut apps = reach.apps;
    // An app that the file no longer names goes on until its incident ends, and has a name all the same.
    if reach.broken.is_some() || subject.is_some_and(|name| !apps.iter().any(|app| app == name)) {
        apps.extend(apps_without_config(&client, &reach.state_dir));
    }
    let is_app = |name: &str| apps.iter().any(|app| app == name);
    if let Some(incident) = subject.filter(|name| !is_app(name)) {
        return match journal::story_of(&reach.state_dir, incident) {
            Ok(told) => explained(&told, look),
            Err(code) => code,
        };
    }
    inspect::on_runtime(async {
        let document = match client.get("/api/v1/status").await {
            Ok(document) => document,
            Err(error @ ClientError::Unreachable { .. }) => {
                let names = apps.iter().map(String::as_str).filter(|name| subject.is_none_or(|app| app == *name));
                return as_decided(&reach.state_dir, names, &error, look);
            }
            Err(error) => return fail(&error, look),
        };
        let apps = match meant_apps(&document, subject) {
            Ok(apps) => apps,
            Err(code) => return code,
        };
        let judged = apps.iter().map(|app| json!({"app": app["name"], "state": app["state"], "direction": app["direction"], "ruling": app["ruling"], "gates": app["gates"], "waits_for": app["waits_for"], "answer_by": app["incident"]["answer_by"]}));
        if look.json {
            say!("{}", json!({"schema_version": 1, "apps": judged.collect::<Vec<_>>()}));
            return exit::DONE;
        }
        for app in apps {
            say!("{} {} {}: {}", word(&app["name"]), word(&app["state"]), word(&app["direction"]), word(&app["ruling"]));
            gates(&app["gates"]).iter().for_each(|line| say!("{line}"));
            if let Some(words) = waits(app) {
                say!("  {words}");
            }
        }
        exit::DONE
    })
}

/// The apps by the word of the daemon, or of the journal where none answers.
fn apps_without_config(client: &Client, state_dir: &Path) -> Vec<String> {
    let mut apps = Vec::new();
    inspect::on_runtime(async {
        let document = client.get("/api/v1/status").await.unwrap_or_default();
        apps = document["apps"].as_array().into_iter().flatten().filter_map(|app| Some(app["name"].as_str()?.to_owned())).collect();
        exit::DONE
    });
    if apps.is_empty() {
        // A journal that cannot be read says so where it is told from.
        apps = Pages::open(state_dir).and_then(|pages| pages.apps()).unwrap_or_default();
    }
    apps
}

fn explained(told: &Story, look: Look) -> u8 {
    if look.json {
        return journal::print_json(story::explain_json(told));
    }
    put!("{}", story::explain_text(told, look.colour));
    exit::DONE
}

/// Without a daemon nobody evaluates gates: each app's newest incident is told as it was decided.
fn as_decided<'a>(state_dir: &Path, apps: impl Iterator<Item = &'a str>, why: &ClientError, look: Look) -> u8 {
    let Ok(pages) = journal::open(state_dir) else {
        // That the journal cannot stand in is said by now; what was asked is the daemon.
        complain!("watchover: {why}");
        return why.exit();
    };
    let mut told = Vec::new();
    for app in apps {
        match journal::newest(&pages, app) {
            Ok(Some(story)) => told.push(story),
            Ok(None) => remark!("{app}: no incident is in the journal"),
            Err(code) => return code,
        }
    }
    if told.is_empty() {
        complain!("watchover: {why}");
        return why.exit();
    }
    remark!("watchover: {why} Shown is what was decided last, from the journal.");
    if look.json {
        return journal::print_json(story::explain_all_json(&told));
    }
    for story in &told {
        explained(story, look);
    }
    exit::DONE
}

/// The order's body, and whether the move is followed; or the exit code after the reason was said.
async fn order(client: &Client, command: Command) -> Result<(Value, bool), u8> {
    let loss = |value: Option<f64>| value.map(|seconds| if seconds.is_finite() { json!(seconds) } else { json!("any") });
    let body = |order: &str, why: &Why, more: Value| {
        let mut map = Map::new();
        map.insert("order".into(), order.into());
        map.insert("reason".into(), why.reason.clone().into());
        if let Value::Object(more) = more {
            map.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Value::Object(map)
    };
    let wished = |order: &str, app: String, wish: WishArgs, graceful: bool| {
        let more = json!({"app": app, "accept_data_loss": loss(wish.accept_data_loss), "force": wish.force, "graceful": graceful});
        Ok((body(order, &wish.why, more), !wish.no_follow))
    };
    match command {
        Command::Failover { app, wish, graceful } => wished("failover", app, wish, graceful),
        Command::Failback { app, wish, graceful } => wished("failback", app, wish, graceful),
        Command::Approve { incident, why, accept_data_loss } => {
            let incident = meant(client, incident, For::Answer).await?;
            Ok((body("approve", &why, json!({"incident": incident, "accept_data_loss": loss(accept_data_loss)})), false))
        }
        Command::Decline { incident, why } => {
            let incident = meant(client, incident, For::Answer).await?;
            Ok((body("decline", &why, json!({"incident": incident})), false))
        }
        Command::Retry { incident, why } => {
            let incident = meant(client, incident, For::Mend).await?;
            Ok((body("retry", &why, json!({"incident": incident})), false))
        }
        Command::Skip { step, incident, why } => {
            let incident = meant(client, incident, For::Mend).await?;
            Ok((body("skip", &why, json!({"incident": incident, "step": step})), false))
        }
        Command::Abort { incident, why } => {
            let incident = meant(client, incident, For::End).await?;
            Ok((body("abort", &why, json!({"incident": incident})), false))
        }
        Command::Adopt { app, active, why } => Ok((body("adopt", &why, json!({"app": app, "site": active})), false)),
        Command::Pause { app, length, why } => Ok((body("pause", &why, json!({"app": app, "for_seconds": length.as_secs_f64()})), false)),
        Command::Resume { app, reason } => Ok((body("resume", &Why { reason }, json!({"app": app})), false)),
        _ => Err(exit::USAGE),
    }
}

/// The named incident, or the one that can only be meant; or the exit code after the reason was said.
async fn meant(client: &Client, named: Option<String>, wanted: For) -> Result<String, u8> {
    if let Some(named) = named {
        return Ok(named);
    }
    let found = match client.get("/api/v1/status").await {
        Ok(document) => choose::choose(&document, wanted),
        Err(error) => Err((error.exit(), error.to_string())),
    };
    found.map_err(|(code, words)| {
        complain!("watchover: {words}");
        code
    })
}
