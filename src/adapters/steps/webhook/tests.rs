use std::collections::BTreeMap;

use serde_json::Map;

use super::*;
use crate::adapters::web::fake;
use crate::config::judge::Problems;
use crate::domain::fixtures;
use crate::domain::model::Direction;
use crate::domain::plan::OnFailure;

fn judge_keys(keys: Value) -> Result<Value, Vec<String>> {
    let problems = Problems::default();
    let map: Map<String, Value> = keys.as_object().unwrap().clone();
    let table = Table::new("app.shop.failover.tell", map, &problems);
    let place = Place { app: "shop".into(), direction: Direction::ToStandby, source_region: "a".into(), target_region: "b".into() };
    let judged = judge(&table, &place);
    table.finish();
    let said: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
    assert_eq!(judged.is_none(), !said.is_empty(), "a problem and no value, or a value and no problem: {said:?}");
    judged.ok_or(said)
}

fn planned(keys: Value) -> PlannedStep {
    PlannedStep {
        kind: KIND.name.into(),
        reversibility: KIND.reversibility,
        repeat: KIND.repeat,
        on_failure: OnFailure::Continue,
        keys,
        ..fixtures::step("tell", KIND.class, None, &[])
    }
}

fn step(keys: Value) -> Webhook {
    let address = match keys.get("url_file") {
        Some(path) => Address::In(PathBuf::from(path.as_str().unwrap())),
        None => Address::Given(Url::parse(keys["url"].as_str().unwrap()).unwrap()),
    };
    Webhook { name: "tell".into(), address, format: Format::parse(keys["format"].as_str().unwrap()).unwrap(), web: fake::web() }
}

fn context() -> StepContext {
    StepContext {
        incident: "shop-7".into(),
        step_id: "shop-7/tell".into(),
        direction: Direction::ToStandby,
        now: 1_700_000_000_000_000,
        time_left: Duration::from_secs(5),
        facts: BTreeMap::from([("fence".to_owned(), json!({ "fence": "proven" }))]),
        before: Value::Null,
        graceful: false,
    }
}

/// A file with that text, and the directory that keeps it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhook-url");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn plain_urls_are_taken_and_completed() {
    for url in ["https://relay.example.net/hooks/watchover-notifications", "http://10.0.0.7:8080/v1/tell", "https://relay.example.net/"] {
        assert_eq!(judge_keys(json!({ "url": url })), Ok(json!({ "url": url, "format": "json" })));
    }
    let keys = json!({ "url_file": "/run/credentials/watchover.service/webhook-url", "format": "slack" });
    assert_eq!(judge_keys(keys.clone()), Ok(keys));
}

#[test]
fn urls_that_may_hold_a_secret_belong_into_a_file_and_are_not_quoted() {
    for (url, part) in [
        ("https://hooks.slack.com/services/T0HUSH000/B0HUSH000/hUshhUshhUshhUshhUshhUsh", "token"),
        ("https://hc.example.net/ping/deadbeef-cafe-4bad-8f00-d00dhush0001", "token"),
        ("https://example.net/hushhushhushhushhush", "token"),
        ("https://example.net/hush%20HUSH1", "token"),
        ("https://user:hush@example.net/", "user or password"),
        ("https://hush@example.net/", "user or password"),
        ("https://example.net/tell?key=hush", "query"),
        ("https://example.net/tell#hush", "fragment"),
    ] {
        let said = judge_keys(json!({ "url": url })).unwrap_err().join("\n");
        assert!(said.contains(part) && said.contains("`url_file`") && said.contains("app.shop.failover.tell.url"), "{url}: {said}");
        assert!(!said.to_lowercase().contains("hush"), "{url}: {said}");
    }
}

#[test]
fn bad_keys_say_what_would_be_right() {
    for (keys, word) in [
        (json!({}), "is missing; give `url`, or `url_file`"),
        (json!({ "url": "https://a.example/", "url_file": "/x" }), "give one of the two"),
        (json!({ "url": "hush" }), "is not a URL"),
        (json!({ "url": "ftp://hush.example/" }), "not an http or https URL"),
        (json!({ "url": 7 }), "not a string"),
        (json!({ "url_file": "https://example.net/hush" }), "not an absolute path"),
        (json!({ "url_file": "" }), "is empty"),
        (json!({ "url": "https://a.example/", "format": "slak" }), "did you mean \"slack\"?"),
        (json!({ "url_fil": "/x", "url": "https://a.example/" }), "did you mean"),
    ] {
        let said = KIND.judged(keys.clone()).1.join("\n");
        assert!(said.contains(word) && !said.contains("hush"), "{keys}: {said}");
    }
}

#[test]
fn every_key_that_is_judged_is_documented() {
    let documented: Vec<&str> = KIND.keys.iter().map(|key| key.name).collect();
    assert_eq!(documented, ["url", "url_file", "format"]);
    assert!(humantime::parse_duration(KIND.default_deadline).is_ok());
}

#[tokio::test]
async fn a_stored_plan_of_another_making_needs_a_person() {
    let adapters = Adapters::for_tests();
    for keys in [
        json!({}),
        json!({ "format": "json" }),
        json!({ "url": "hush", "format": "json" }),
        json!({ "url": "https://a.example/", "format": "carrier-pigeon" }),
    ] {
        let Err(error) = build(&planned(keys.clone()), &adapters) else { panic!("{keys} was built") };
        assert_eq!(error.class, ErrorClass::NeedsPerson);
        assert!(!error.message.contains("hush"), "{error}");
    }
    assert!(build(&planned(json!({ "url_file": "/nowhere", "format": "json" })), &adapters).is_ok(), "a lost file spoils no plan");
}

#[tokio::test]
async fn a_message_carries_the_step_id_and_what_happened() {
    let (url, told) = fake::receiver(&[&fake::status("204 No Content"), &fake::status("200 OK")]);
    let webhook = step(json!({ "url": url.as_str(), "format": "json" }));
    assert_eq!(webhook.inspect(&context()).await, Ok(Inspection::CannotTell));
    for status in [204, 200] {
        let facts = webhook.apply(&context()).await.unwrap();
        assert_eq!(facts["status"], status);
        let asked = told.recv().unwrap();
        assert!(asked.starts_with("POST / HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("x-watchover-step-id: shop-7/tell\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("content-type: application/json\r\n"), "{asked}");
        let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["incident"], "shop-7");
        assert_eq!(body["direction"], "to-standby");
        assert_eq!(body["at"], "2023-11-14T22:13:20.000Z");
        assert_eq!(body["facts"]["fence"]["fence"], "proven");
    }
    assert_eq!(webhook.verify(&context()).await, Ok(Verification::So(json!({}))));
    assert!(webhook.undo(&context()).await.unwrap().contains("stays sent"));
}

#[tokio::test]
async fn slack_reads_text_and_no_markup() {
    let webhook = step(json!({ "url": "https://a.example/", "format": "slack" }));
    let body = webhook.body(&StepContext { incident: "<!channel> & co".into(), ..context() });
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt; &amp; co") && !text.contains('<'), "{text}");
}

#[tokio::test]
async fn answers_are_classed_and_the_secret_stays_out() {
    let lines = [
        "408 Request Timeout",
        "429 Too Many Requests",
        "500 Oops",
        "503 Busy",
        "400 Bad Request",
        "403 Forbidden",
        "404 Not Found",
        "410 Gone",
        "302 Found",
    ];
    let answers: Vec<String> = lines.iter().map(|line| fake::status(line)).collect();
    let (url, _told) = fake::receiver(&answers.iter().map(String::as_str).collect::<Vec<_>>());
    let (_dir, path) = file(&format!("{}\n", url.join("/services/hush?hush").unwrap()));
    let webhook = step(json!({ "url_file": path, "format": "slack" }));
    for line in lines {
        let error = webhook.apply(&context()).await.unwrap_err();
        let code: u16 = line[..3].parse().unwrap();
        let class = if matches!(code, 408 | 429 | 500..) { ErrorClass::Retry } else { ErrorClass::Refused };
        assert_eq!((error.class, error.code.as_str()), (class, format!("http-{code}").as_str()), "{error}");
        assert!(
            error.message.contains("webhook tell") && error.message.contains("127.0.0.1") && !error.message.contains("hush"),
            "{error}"
        );
    }
    let error = webhook.apply(&context()).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "connect"));
    assert!(!error.message.contains("hush"), "{error}");
}

/// A34: a receiver that hangs holds its own step, and no longer than its time.
#[tokio::test]
async fn a_receiver_that_hangs_is_left() {
    let (url, _told) = fake::receiver(&[""]);
    let webhook = step(json!({ "url": url.as_str(), "format": "json" }));
    let error = webhook.apply(&StepContext { time_left: Duration::from_millis(200), ..context() }).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retry, "timed-out"));
}

#[tokio::test]
async fn a_file_is_named_when_it_is_wrong_and_read_again_when_it_is_right() {
    let (dir, path) = file("hush\n");
    let webhook = step(json!({ "url_file": path, "format": "json" }));
    let failed = async |word: &str| {
        let error = webhook.inspect(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::NeedsPerson, "url-file"));
        assert!(error.message.contains(word) && error.message.contains(&path) && !error.message.contains("hush"), "{error}");
    };
    failed("is not a URL").await;
    std::fs::write(&path, "h".repeat(9_000)).unwrap();
    failed("too long").await;
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    failed("cannot be read").await;
    std::fs::remove_file(&path).unwrap();
    failed("cannot be read").await;
    std::fs::create_dir(&path).unwrap();
    failed("not a plain file").await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "  https://hooks.example.net/hush \n").unwrap();
    assert_eq!(webhook.inspect(&context()).await, Ok(Inspection::CannotTell));
    drop(dir);
}

#[tokio::test]
async fn the_shell_line_bears_any_path_and_shows_no_secret() {
    let webhook = step(json!({ "url_file": "/etc/it's here", "format": "slack" }));
    let calls = webhook.describe(&Inspection::CannotTell);
    assert_eq!(calls.len(), 1);
    assert!(calls[0].shell.contains(r#""$(cat '/etc/it'\''s here')" | curl"#) && calls[0].shell.ends_with("-K -"), "{}", calls[0].shell);
    let webhook = step(json!({ "url": "https://relay.example.net/v1/tell", "format": "json" }));
    let call = &webhook.describe(&Inspection::CannotTell)[0];
    assert_eq!(call.parameters, json!({ "to": "https://relay.example.net", "format": "json" }));
    assert!(call.shell.ends_with("'https://relay.example.net/v1/tell'"), "{}", call.shell);
}

/// The line does what it says, in a real shell with a real curl, if there is one.
#[tokio::test]
async fn the_shell_line_runs() {
    let (url, told) = fake::receiver(&[&fake::status("200 OK")]);
    let (_dir, path) = file(&format!("{}\n", url.join("/services/token").unwrap()));
    let call = step(json!({ "url_file": path, "format": "slack" })).describe(&Inspection::CannotTell).remove(0);
    match std::process::Command::new("curl").arg("--version").output() {
        Ok(found) if found.status.success() => {}
        _ => {
            assert!(std::env::var_os("CI").is_none(), "curl is missing");
            eprintln!("skipped: curl is missing");
            return;
        }
    }
    let ran = std::process::Command::new("sh").args(["-c", &call.shell]).env("no_proxy", "127.0.0.1").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let asked = told.recv().unwrap();
    assert!(asked.starts_with("POST /services/token ") && asked.contains("INCIDENT/tell"), "{asked}");
}

#[tokio::test]
async fn the_script_does_not_wait_for_a_receiver_that_says_nothing() {
    use crate::adapters::shell::bench::Bench;
    let lines =
        [step(json!({ "url": "https://relay.example.net/v1/tell", "format": "json" })).describe(&Inspection::CannotTell).remove(0).shell];
    let ran = Bench::new(&[("aws", "exit 1"), ("curl", "printf '<%s>' \"$@\" >>\"$LOG\"")]).lines(&lines);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.log.contains("<--max-time><10>") && ran.log.contains(": INCIDENT/tell>"), "{}", ran.log);
}
