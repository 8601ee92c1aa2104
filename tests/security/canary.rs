//! A secret of its own in every place where a secret may stand, and then a search for each in everything that can be read:
//! a whole move with failing receivers, and every wrong way to write a secret into the config.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use watchover::lab::{SESSION_SECRET, SESSION_TOKEN};

use crate::real::{Daemon, LONG, Said, World, append, until, watchover};
use crate::{request, say, status, tcp};

/// The secret of one place. No text of the program's holds it by chance.
fn secret(place: &str) -> String {
    format!("hush{place}Q7xZ9")
}

/// Every secret that is planted, or given by STS for a role, with what else it looks like on its way.
fn forms() -> Vec<(&'static str, Vec<String>)> {
    let planted = PLACES.iter().map(|place| (*place, secret(place)));
    let given = [("RoleSecretKey", SESSION_SECRET), ("RoleSessionToken", SESSION_TOKEN)];
    planted
        .chain(given.map(|(place, text)| (place, text.to_owned())))
        .map(|(place, text)| {
            let pair = format!("watch:{text}");
            (place, vec![aws_smithy_types::base64::encode(&text), aws_smithy_types::base64::encode(pair), hex(&text), text])
        })
        .collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

const PLACES: &[&str] = &[
    "AwsSecretKey",
    "AwsSessionToken",
    "ExternalId",
    "DeadMan",
    "StepUrl",
    "StepVariable",
    "ChatUrl",
    "RelayUrl",
    "ProxiedUrl",
    "ProxyPassword",
    "DeskVariable",
];

/// Fails if a secret stands in the text; the text must be one that was really read, and hold what it must hold.
fn holds_none(place: &str, bytes: &[u8], must: &[&str]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!bytes.is_empty(), "{place} is empty: nothing was searched");
    for word in must {
        assert!(text.contains(word), "{place} was not what it should be, {word:?} is missing: {text}");
    }
    for (planted, forms) in forms() {
        for form in forms {
            if let Some(at) = text.find(&form) {
                let around = text.floor_char_boundary(at.saturating_sub(300))..text.ceil_char_boundary(at + form.len() + 100);
                panic!("the secret of {planted} stands in {place}: …{}…", &text[around]);
            }
        }
    }
}

/// Answers everything with a refusal that repeats the whole question wherever an answer can hold it.
struct Echo {
    address: String,
    heard: Arc<Mutex<String>>,
}

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard: Arc<Mutex<String>> = Arc::default();
        let note = Arc::clone(&heard);
        // It ends with the process, as it waits for the next question.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                drop(stream.set_read_timeout(Some(LONG)));
                let (mut asked, mut part) = (Vec::new(), [0; 4096]);
                while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut part) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => asked.extend_from_slice(&part[..count]),
                    }
                }
                let asked = String::from_utf8_lossy(&asked).into_owned();
                note.lock().unwrap().push_str(&asked);
                let path = asked.split(' ').nth(1).unwrap_or("/").to_owned();
                let code = if path.contains("relay") { "503" } else { "404" };
                let answer = format!(
                    "HTTP/1.1 {code} no such {path}\r\nlocation: {path}\r\nx-echo: {path}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{asked}",
                    asked.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Echo { address, heard }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

/// The environment of the daemon and of every command: where the SDK, programs and proxies get their secrets.
fn environment() -> Vec<(&'static str, String)> {
    vec![
        ("AWS_SECRET_ACCESS_KEY", secret("AwsSecretKey")),
        ("AWS_SESSION_TOKEN", secret("AwsSessionToken")),
        ("STEP_TOKEN", secret("StepVariable")),
        ("DESK_TOKEN", secret("DeskVariable")),
        ("HTTPS_PROXY", format!("http://watch:{}@127.0.0.1:9", secret("ProxyPassword"))),
    ]
}

fn with_secrets() -> Command {
    let mut command = watchover();
    command.envs(environment());
    command
}

fn run(config: &Path, args: &[&str]) -> Said {
    with_secrets().arg("--config").arg(config).args(args).output().unwrap().into()
}

/// A world whose config has a secret in every place that takes one, and receivers that all fail.
fn world(echo: &Echo) -> World {
    let world = World::start();
    let dir = world.dir.path();
    let file = |name: &str, url: String| {
        let path = dir.join(name);
        fs::write(&path, url + "\n").unwrap();
        path.display().to_string()
    };
    let at = &echo.address;
    let step_url = file("step-url", format!("http://{at}/step/{}", secret("StepUrl")));
    let chat_url = file("chat-url", format!("http://{at}/services/T0/{}", secret("ChatUrl")));
    let relay_url = file("relay-url", format!("http://watch:{0}@{at}/relay/{0}?token={0}", secret("RelayUrl")));
    let proxied_url = file("proxied-url", format!("https://hooks.example.net/{}", secret("ProxiedUrl")));
    world.edit(&[
        (
            "[aws]\n",
            &format!(
                "dead_man = {{ url = \"http://{at}/ping/{}\", every = \"1s\" }}\nlog = {{ filter = \"trace\" }}\n[aws]\n",
                secret("DeadMan")
            ),
        ),
        ("kind = \"autoscaling-capacity\"\n", "kind = \"autoscaling-capacity\"\naccount = \"network\"\n"),
    ]);
    let more = format!(
        r#"
[[app.failover]]
name = "says"
kind = "command"
after = []
argv = ["/bin/sh", "-c", "echo the token is $STEP_TOKEN; echo $STEP_TOKEN >&2"]
pass_env = ["STEP_TOKEN"]
[[app.failover]]
name = "fails"
kind = "command"
after = []
argv = ["/bin/sh", "-c", "echo refused for $STEP_TOKEN; exit 3"]
pass_env = ["STEP_TOKEN"]
on_failure = "continue"
[[app.failover]]
name = "tells"
kind = "webhook"
after = []
url_file = "{step_url}"
on_failure = "continue"

[account.network]
role_arn = "arn:aws:iam::123456789012:role/watchover"
external_id = "{external}"

[[notify]]
name = "chat"
kind = "slack"
url_file = "{chat_url}"
[[notify]]
name = "relay"
kind = "webhook"
url_file = "{relay_url}"
[[notify]]
name = "proxied"
kind = "webhook"
url_file = "{proxied_url}"
[[notify]]
name = "desk"
kind = "command"
argv = ["/bin/sh", "-c", "echo nobody at $DESK_TOKEN; exit 2"]
pass_env = ["DESK_TOKEN"]
"#,
        external = secret("ExternalId"),
    );
    append(&world.config, &more);
    world
}

#[test]
fn no_secret_stands_in_anything_that_a_move_leaves() {
    let echo = Echo::start();
    let world = world(&echo);
    let notify = world.dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let words: Arc<Mutex<Vec<u8>>> = Arc::default();
    let heard = Arc::clone(&words);
    // It ends with the process, as it waits for the next word.
    std::thread::spawn(move || {
        let mut part = [0; 65_536];
        while let Ok(count) = manager.recv(&mut part) {
            heard.lock().unwrap().extend_from_slice(&part[..count]);
        }
    });
    let mut start = with_secrets();
    start.env("NOTIFY_SOCKET", &notify);
    let daemon = Daemon::by(start, &world.config);
    daemon.settles();

    // Everything that happens, as a page hears it.
    let stream: Arc<Mutex<Vec<u8>>> = Arc::default();
    let listener = {
        let (mut from, to) = (tcp(&daemon), Arc::clone(&stream));
        from.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                to.lock().unwrap().extend_from_slice(&part[..count]);
            }
        })
    };
    until("the stream is open", || (!stream.lock().unwrap().is_empty()).then_some(()));

    let mut found: BTreeMap<String, (Vec<u8>, Vec<&str>)> = BTreeMap::new();
    let mut keep = |place: &str, bytes: &[u8], must: &[&'static str]| {
        found.insert(place.to_owned(), (bytes.to_vec(), must.to_vec()));
    };
    let both = |said: &Said| format!("{}{}", said.out, said.err).into_bytes();
    for (args, must) in [
        (&["check"][..], &["notify.relay", "127.0.0.1"][..]),
        (&["check", "--json"], &["findings"]),
        (&["check", "--offline"], &["0 warnings"]),
        (&["plan", "shop"], &["tells", "fails", "promote"]),
        (&["plan", "shop", "--format", "json"], &["\"tells\"", "url_file", "pass_env"]),
        (&["plan", "shop", "--format", "aws-cli"], &["#!/usr/bin/env bash", "step-url", "STEP_TOKEN"]),
        (&["iam-policy"], &["2012-10-17", "sts:AssumeRole"]),
        (&["explain", "shop"], &["data-loss"]),
        (&["explain", "shop", "--json"], &["data-loss"]),
        (&["failover", "shop", "--reason", "drill", "--accept-data-loss", "any"], &["step-failed", "tells", "moved"]),
    ] {
        let said = run(&world.config, args);
        keep(&format!("watchover {}", args.join(" ")), &both(&said), must);
    }
    until("the move is over", || (daemon.app()["active_site"] == "standby" && daemon.app()["incident"].is_null()).then_some(()));
    // Every receiver has failed for good, or been asked again, and every place was really used.
    let failed = |receiver: &str| {
        let labels = [("receiver", receiver), ("outcome", "failed")];
        until("every receiver fails", || (daemon.metrics().value("watchover_messages_total", &labels) >= 1.0).then_some(()));
    };
    ["chat", "desk", "relay", "proxied"].into_iter().for_each(failed);
    let heard = echo.heard();
    for place in ["DeadMan", "StepUrl", "ChatUrl", "RelayUrl"] {
        assert!(heard.contains(&secret(place)), "{place} was not used: {heard}");
    }
    assert!(world.calls("AssumeRole") >= 1, "the external id was not used, and no session's secrets were given");

    let history = run(&world.config, &["history", "--json"]);
    let id = history.json()["incidents"][0]["id"].as_str().unwrap().to_owned();
    for (path, must) in [
        ("/", &["<!doctype html>"][..]),
        ("/metrics", &["watchover_step_failures_total{", "watchover_messages_total{"]),
        ("/livez", &["ok"]),
        ("/readyz", &["ok"]),
        ("/api/v1/status", &["\"shop\""]),
        ("/api/v1/status?app=shop", &["\"shop\""]),
        ("/api/v1/incidents", &["\"moved\""]),
        (&format!("/api/v1/incidents/{id}?limit=1000"), &["step-failed", "the token is …", "127.0.0.1"]),
    ] {
        let answer = say(tcp(&daemon), request("GET", path, &[("host", "localhost")], "").as_bytes());
        assert_eq!(status(&answer), 200, "{path}: {answer}");
        keep(path, answer.as_bytes(), must);
    }
    let commands: [(&[&str], &[&str]); 9] = [
        (&["status"], &["shop"]),
        (&["status", "--json"], &["\"shop\""]),
        (&["explain", &id], &["data-loss"]),
        (&["explain", &id, "--json"], &["data-loss"]),
        (&["history"], &["moved"]),
        (&["history", "--json"], &["moved"]),
        (&["report", &id], &["tells", "404"]),
        (&["report", &id, "--format", "html"], &["<html", "tells", "404"]),
        (&["report", &id, "--format", "json"], &["tells", "404"]),
    ];
    for (args, must) in commands {
        let said = run(&world.config, args);
        assert_eq!(said.code, Some(0), "{args:?}: {}{}", said.out, said.err);
        let must: Vec<&'static str> = must.iter().map(|word| &*String::leak((*word).to_owned())).collect();
        keep(&format!("watchover {} ", args.join(" ")), &both(&said), &must);
    }
    let state = world.dir.path().join("state");
    let files = || -> Vec<u8> {
        let each = fs::read_dir(&state).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        each.flatten().collect()
    };
    let written = &["SQLite format 3", "step-failed", "the token is …", "url_file"];
    keep("the journal's files, while it runs", &files(), written);
    daemon.process.signal(rustix::process::Signal::HUP);
    until("the reload is over", || daemon.said().contains("reload").then_some(()));
    let log = daemon.log.clone();
    daemon.stop();
    listener.join().unwrap();
    keep("the journal's files, afterwards", &files(), written);
    keep("the log", &fs::read(log).unwrap(), &["TRACE", "dead man", "relay", "proxied", "desk", "step"]);
    keep("the stream of events", &stream.lock().unwrap(), &["event: step-failed", "the token is …"]);
    keep("what systemd is told", &words.lock().unwrap(), &["READY=1", "STATUS="]);

    assert!(found.len() >= 28, "{:?}", found.keys());
    for (place, (bytes, must)) in &found {
        holds_none(place, bytes, must);
    }
    // The search finds what is there.
    let planted = std::panic::catch_unwind(|| holds_none("a text", secret("StepUrl").as_bytes(), &[]));
    assert!(planted.is_err());
}

/// Wrong ways to write a secret: the part of a config that stands for it, and the key that must be named.
const MISWRITTEN: &[(&str, &str, &str)] = &[
    ("daemon", "dead_man = \"https://hc.example.net/ping/SECRET\"", "daemon.dead_man"),
    ("daemon", "dead_man = { url = [\"https://hc.example.net/ping/SECRET\"] }", "daemon.dead_man.url"),
    ("daemon", "dead_man = { url = \"hc.example.net/ping/SECRET\" }", "daemon.dead_man.url"),
    ("daemon", "dead_man = { url = \"ftp://hc.example.net/SECRET\" }", "daemon.dead_man.url"),
    ("daemon", "dead_man = { url = 8812345566 }", "daemon.dead_man.url"),
    ("daemon", "dead_man = [\"SECRET\"]", "daemon.dead_man"),
    ("daemon", "dead_man = { url = \"SECRET }", "line "),
    ("daemon", "dead_man = { url = https://hc.example.net/SECRET }", "line "),
    (
        "end",
        "[account.network]\nrole_arn = \"arn:aws:iam::123456789012:role/w\"\nexternal_id = 8812345566\n",
        "account.network.external_id",
    ),
    (
        "end",
        "[account.network]\nrole_arn = \"arn:aws:iam::123456789012:role/w\"\nexternal_id = [\"SECRET\"]\n",
        "account.network.external_id",
    ),
    ("end", "[account.network]\nrole_arn = \"arn:aws:iam::123456789012:role/w\"\nexternalid = \"SECRET\"\n", "account.network.externalid"),
    ("end", "[account]\nnetwork = \"SECRET\"\n", "account.network"),
    ("end", "[[notify]]\nname = \"c\"\nkind = \"slack\"\nurl = \"https://hooks.slack.com/services/T0/B0/SECRET\"\n", "notify.c.url"),
    ("end", "[[notify]]\nname = \"c\"\nkind = \"webhook\"\nurl = \"https://u:SECRET@example.net/\"\n", "notify.c.url"),
    ("end", "[[notify]]\nname = \"c\"\nkind = \"webhook\"\nurl = [\"https://example.net/SECRET\"]\n", "notify.c.url"),
    ("end", "[[notify]]\nname = \"c\"\nkind = \"webhook\"\nurl_file = \"https://example.net/SECRET\"\n", "notify.c.url_file"),
    ("end", "[[notify]]\nname = \"c\"\nkind = \"command\"\nargv = [\"/bin/true\"]\npass_env = [\"TOKEN=SECRET\"]\n", "notify.c.pass_env"),
    (
        "end",
        "[[notify]]\nname = \"c\"\nkind = \"command\"\nargv = [\"/bin/true\"]\npass_env = { TOKEN = \"SECRET\" }\n",
        "notify.c.pass_env",
    ),
    ("end", "[[notify]]\nname = \"c\"\nkind = \"command\"\nargv = \"/bin/tell SECRET\"\n", "notify.c.argv"),
    ("end", "notify = \"https://hooks.slack.com/services/SECRET\"\n", "notify"),
    ("step", "kind = \"webhook\"\nurl = \"https://example.net/hook?key=SECRET\"\n", "url"),
    ("step", "kind = \"webhook\"\nurl = \"example.net/SECRET\"\n", "url"),
    ("step", "kind = \"webhook\"\nurl_file = \"SECRET\"\n", "url_file"),
    ("step", "kind = \"command\"\nargv = [\"/bin/true\"]\npass_env = [\"TOKEN=SECRET\"]\n", "pass_env"),
    ("step", "kind = \"command\"\nargv = [\"/bin/true\"]\npass_env = \"TOKEN=SECRET\"\n", "pass_env"),
    ("step", "kind = \"command\"\nargv = [\"/bin/true\"]\nenv = \"TOKEN=SECRET\"\n", "env"),
    ("step", "kind = \"command\"\nargv = [\"/bin/true\"]\nenv = { TOKEN = [\"SECRET\"] }\n", "env.TOKEN"),
    ("step", "kind = \"command\"\nargv = [\"/bin/true\"]\nenv = [\"TOKEN=SECRET\"]\n", "env"),
    ("witness", "\"htps://u:SECRET@example.net/\"", "witness.urls"),
    ("witness", "\"https://u:SECRET@example.net/\"", "witness.urls"),
    ("witness", "\"u:SECRET@example.net\"", "witness.urls"),
    ("signal", "url = \"htp://u:SECRET@shop.example.com/\"", "url"),
    ("signal", "url = \"http://u:SECRET@shop.example.com/\"", "url"),
    ("door", "url = \"http://u:SECRET@shop.example.com/\"", "front_door.url"),
    ("endpoint", "endpoint_url = \"htp://u:SECRET@127.0.0.1:9\"", "aws.endpoint_url"),
    ("endpoint", "endpoint_url = \"http://u:SECRET@127.0.0.1:9\"", "aws.endpoint_url"),
];

/// A config that is well, but for one place.
fn miswritten(place: &str, text: &str, dir: &Path) -> String {
    let at = |which: &str, well: &str| if place == which { text.to_owned() } else { well.to_owned() };
    // Keys of the root stand before the first table.
    let (root, end) = match (place, text.starts_with('[')) {
        ("end", true) => ("", text),
        ("end", false) => (text, ""),
        _ => ("", ""),
    };
    let url = "url = \"http://shop.example.com/healthz\"";
    let step = if place == "step" { format!("[[app.failover]]\nname = \"tell\"\n{text}") } else { String::new() };
    format!(
        r#"{root}
[daemon]
listen = "127.0.0.1:0"
admin_socket = "{dir}/admin.sock"
state_dir = "{dir}/state"
{daemon}
[aws]
{endpoint}
[witness]
urls = [{witness}]
[[app]]
name = "shop"
[app.front_door]
{door}
[app.primary]
region = "ap-south-1"
load_balancer = "p.example.com"
[[app.primary.signal]]
name = "alb"
kind = "http"
{signal}
connect_to = "127.0.0.1:9"
[app.standby]
region = "us-east-1"
load_balancer = "s.example.com"
[[app.standby.signal]]
name = "alb"
kind = "http"
{url}
connect_to = "127.0.0.1:9"
[[app.standby.signal]]
name = "replica"
kind = "rds-replica"
db_instance = "shop-replica"
{step}
[[app.failover]]
name = "promote"
kind = "rds-promote-replica"
db_instance = "shop-replica"
[[app.failover]]
name = "traffic"
kind = "route53-records"
zone_id = "Z1"
records = [{{ name = "shop.example.com", type = "A", set_identifier = "standby", weight = 100 }}]
{end}
"#,
        dir = dir.display(),
        daemon = at("daemon", ""),
        endpoint = at("endpoint", "endpoint_url = \"http://127.0.0.1:9\""),
        witness = at("witness", "\"http://127.0.0.1:9/one\""),
        door = at("door", url),
        signal = at("signal", url),
    )
}

#[test]
fn a_secret_that_is_miswritten_is_named_by_its_key_and_never_quoted() {
    let dir = tempfile::TempDir::new().unwrap();
    let config = dir.path().join("config.toml");
    fs::write(&config, miswritten("", "", dir.path())).unwrap();
    let well = run(&config, &["check", "--offline"]);
    assert_eq!(well.code, Some(0), "each of them is the only fault: {}{}", well.out, well.err);
    let mut wrong = Vec::new();
    let hidden = secret("Miswritten");
    let mut judge = |what: &str, said: &Said, key: &str| {
        let all = format!("{}{}", said.out, said.err);
        let leaks = all.contains(&hidden) || all.contains("8812345566");
        if said.code != Some(2) || !all.contains(key) || leaks {
            wrong.push(format!("{what}\n  exit {:?}, {}: {all}", said.code, if leaks { "IT LEAKS" } else { "no leak" }));
        }
    };
    for (place, text, key) in MISWRITTEN {
        fs::write(&config, miswritten(place, &text.replace("SECRET", &hidden), dir.path())).unwrap();
        for args in [&["check", "--offline"][..], &["check", "--offline", "--json"], &["run"]] {
            let said = run(&config, args);
            judge(&format!("{args:?} {text}"), &said, key);
            if said.code != Some(2) {
                // A config that is taken for well is one that `run` runs with.
                break;
            }
        }
    }
    fs::write(&config, miswritten("", "", dir.path())).unwrap();
    for (name, value, key) in [
        ("WATCHOVER__DAEMON__DEAD_MAN__URL", hidden.as_str(), "daemon.dead_man.url"),
        ("WATCHOVER__DAEMON__DEAD_MAN", hidden.as_str(), "daemon.dead_man"),
        ("WATCHOVER__ACCOUNT__NETWORK__EXTERNAL_ID", hidden.as_str(), "account.network.role_arn"),
        ("WATCHOVER__NOTIFY__CHAT__URL", hidden.as_str(), "notify"),
    ] {
        let said = with_secrets().arg("--config").arg(&config).args(["check", "--offline"]).env(name, value).output().unwrap().into();
        judge(name, &said, key);
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// What `check` says when the SDK's own sources of credentials are broken, and when an address's file holds something else.
#[test]
fn broken_credentials_and_files_are_not_quoted() {
    let echo = Echo::start();
    let dir = tempfile::TempDir::new().unwrap();
    let config = dir.path().join("config.toml");
    let hidden = secret("Broken");
    let address = dir.path().join("url");
    fs::write(&address, format!("not an address {hidden}")).unwrap();
    let receiver = format!("[[notify]]\nname = \"chat\"\nkind = \"slack\"\nurl_file = \"{}\"\n", address.display());
    fs::write(&config, miswritten("end", &receiver, dir.path())).unwrap();
    let profile = dir.path().join("credentials");
    fs::write(&profile, format!("[default]\naws_access_key_id = AKIA\naws_secret_access_key {hidden}\n  {hidden}\n[unclosed {hidden}\n"))
        .unwrap();
    let uri = format!("http://{}/credentials", echo.address);
    let broken_line = format!("{hidden}\n");
    let sources: [(&str, &[(&str, &str)]); 3] = [
        ("a variable", &[("AWS_ACCESS_KEY_ID", &broken_line), ("AWS_SECRET_ACCESS_KEY", &hidden)]),
        ("a profile", &[("AWS_SHARED_CREDENTIALS_FILE", profile.to_str().unwrap()), ("AWS_CONFIG_FILE", "/dev/null")]),
        (
            "a container",
            &[
                ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
                ("AWS_CONFIG_FILE", "/dev/null"),
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", &hidden),
            ],
        ),
    ];
    for (source, environment) in sources {
        for args in [&["check"][..], &["check", "--json"]] {
            let mut command = watchover();
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").envs(environment.iter().copied());
            let said: Said = command.arg("--config").arg(&config).args(args).output().unwrap().into();
            let all = format!("{}{}", said.out, said.err);
            assert_eq!(said.code, Some(3), "{source}: {all}");
            assert!(all.contains("credentials") && all.contains("the text is not shown"), "{source}: {all}");
            assert!(!all.contains(&hidden), "{source}: {all}");
        }
    }
    assert!(echo.heard().contains(&hidden), "the container's token was used: {}", echo.heard());
    let document: Value = run(&config, &["check", "--offline", "--json"]).json();
    assert_eq!(document["ok"], true, "the file's text is looked at by a check that asks, not by the judge: {document}");
}
