use std::collections::BTreeMap;

use super::*;
use crate::adapters::http::server::Server;
use crate::adapters::shell::bench::Bench;
use crate::domain::fixtures;
use crate::domain::model::Direction;

fn judged(keys: Value) -> Result<Value, Vec<String>> {
    let (found, said) = KIND.judged(keys);
    found.ok_or(said)
}

fn step(keys: Value) -> Arc<dyn Step> {
    let planned = PlannedStep {
        kind: KIND.name.into(),
        reversibility: KIND.reversibility,
        repeat: KIND.repeat,
        keys: judged(keys).unwrap(),
        ..fixtures::step("warm", KIND.class, None, &[])
    };
    build(&planned, &Adapters::for_tests()).unwrap()
}

fn context() -> StepContext {
    StepContext {
        incident: "shop-7".into(),
        step_id: "shop-7/warm".into(),
        direction: Direction::ToStandby,
        now: 0,
        time_left: Duration::from_secs(20),
        facts: BTreeMap::new(),
        before: Value::Null,
        graceful: false,
    }
}

#[tokio::test]
async fn it_takes_a_full_row() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    let step = step(json!({"url": format!("http://{}/ready", server.address), "times": 3, "interval": "50ms", "class": "capacity"}));
    assert_eq!(step.inspect(&context()).await.unwrap(), Inspection::UnderWay(Value::Null));
    for good in 1..=2 {
        let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("too early") };
        assert!(words.starts_with(&format!("{good} of 3 good answers in a row")), "{words}");
    }
    let Verification::So(facts) = step.verify(&context()).await.unwrap() else { panic!("a full row") };
    assert_eq!(facts["in_a_row"], 3);
    // A new life begins its row anew.
    step.inspect(&context()).await.unwrap();
    assert!(matches!(step.verify(&context()).await.unwrap(), Verification::NotYet(_)));
}

#[tokio::test]
async fn anything_else_begins_the_row_anew() {
    let good = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let step = step(
        json!({"url": format!("http://{}/ready", good.address), "times": 2, "interval": "50ms", "timeout": "200ms", "expect": {"body_contains": "ready"}}),
    );
    for _ in 0..3 {
        let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("not as expected, and yet done") };
        assert!(words.starts_with("0 of 2"), "{words}");
    }
    let silent = Server::silent().await;
    let step = self::step(json!({"url": format!("http://{}/", silent.address), "timeout": "100ms"}));
    let Verification::NotYet(words) = step.verify(&context()).await.unwrap() else { panic!("silence is no answer") };
    assert!(words.contains("no answer within"), "{words}");
}

#[test]
fn wrong_keys_are_named() {
    for (keys, part) in [
        (json!({}), "s.url: is missing"),
        (json!({"url": "https://u:p@h/"}), "carries a user name"),
        (json!({"url": "https://h/?key=a8d7f6a8d7f6a8d7f6"}), "looks like a token"),
        (json!({"url": "https://h/", "times": 0}), "s.times"),
        (json!({"url": "https://h/", "times": 101}), "at most 100"),
        (json!({"url": "https://h/", "interval": "10m"}), "between \"50ms\" and \"1m\""),
        (json!({"url": "https://h/", "times": 11, "interval": "30s"}), "s.times: 11 answers at that interval take 300s"),
        (json!({"url": "https://h/", "deadline": "2s"}), "deadline is 2s"),
        (json!({"url": "https://h/", "class": "data"}), "s.class"),
        (json!({"url": "https://h/", "connect_to": "h"}), "s.connect_to"),
    ] {
        let said = judged(keys).unwrap_err();
        assert!(said.len() == 1 && said[0].contains(part) && !said[0].contains("a8d7"), "{part}: {said:?}");
    }
    assert!(judged(json!({"url": "https://h/", "times": 11, "interval": "30s", "deadline": "6m"})).is_ok());
    let keys = judged(json!({"url": "https://h/ready?deep=true", "class": "capacity"})).unwrap();
    let traits = StepTraits {
        class: Class::Other,
        reversibility: KIND.reversibility,
        repeat: KIND.repeat,
        default_deadline: Duration::from_secs(1),
        at_source: false,
        first: false,
    };
    assert_eq!(refine(&keys, traits).class, Class::Capacity);
}

/// The lines of the script, with a curl that answers so: the first line of each answer is its status.
fn scripted(keys: Value, answers: &[&str], limit: u64) -> crate::adapters::shell::bench::Ran {
    let cx = ScriptContext { direction: Direction::ToStandby, limit: Duration::from_secs(limit) };
    let lines = step(keys).script(&Inspection::UnderWay(Value::Null), &cx);
    let curl = "echo \"$*\" >>\"$LOG\"; file=answer-$(wc -l <\"$LOG\"); [[ -f $file ]] || file=answer-last; \
        [[ $(head -1 $file) != gone ]] || exit 7; printf 'HTTP/1.1 %s x\\r\\n' \"$(head -1 $file)\"; tail -n +2 $file; \
        printf '\\n%s' \"$(head -1 $file)\"";
    let bench = Bench::new(&[("aws", "exit 1"), ("curl", curl)]);
    for (at, answer) in answers.iter().enumerate() {
        std::fs::write(bench.path().join(format!("answer-{}", at + 1)), answer).unwrap();
        std::fs::write(bench.path().join("answer-last"), answer).unwrap();
    }
    bench.lines(&lines)
}

#[tokio::test]
async fn the_script_waits_for_a_full_row_and_fails_without_one() {
    let keys = json!({"url": "https://h/it's", "connect_to": "alb:443", "times": 3, "interval": "50ms", "timeout": "1500ms"});
    let good = "200\r\n\r\nok";
    let ran = scripted(keys.clone(), &[good, "500\r\n\r\n", good, "gone", good], 60);
    assert_eq!((ran.code, ran.log.lines().count()), (Some(0), 7), "{}", ran.said);
    assert!(ran.log.lines().all(|line| line.ends_with("--max-time 1.5 --connect-to ::alb:443 https://h/it's")), "{}", ran.log);
    for bad in ["gone", "500\r\n\r\n", "404\r\n\r\nok"] {
        let ran = scripted(keys.clone(), &[good, good, bad], 0);
        assert_eq!(ran.code, Some(1), "a dead site is no good one: {}", ran.said);
    }
}

#[tokio::test]
async fn the_script_expects_what_the_step_expects() {
    let expect = json!({"status": "200,204-206", "body_contains": "it's $ready", "header": {"X-Role": "Primary"}});
    let keys = json!({"url": "https://h/", "times": 1, "expect": expect});
    for (answer, code) in [
        ("205\r\nx-role:  Primary \r\n\r\n<it's $ready>", 0),
        ("200\r\nA: b\r\nX-ROLE: Primary\r\n\r\n\n\nit's $ready", 0),
        ("203\r\nx-role: Primary\r\n\r\nit's $ready", 1),
        ("200\r\nx-role: Primary\r\n\r\nis ready", 1),
        ("200\r\nx-role: primary\r\n\r\nit's $ready", 1),
        ("200\r\nx-role2: Primary\r\n\r\nx-role: Primary\nit's $ready", 1),
        ("200\r\nx-also: it's $ready\r\nx-role: Primary\r\n\r\n", 1),
    ] {
        let ran = scripted(keys.clone(), &[answer], 0);
        assert_eq!(ran.code, Some(code), "{answer:?}: {}", ran.said);
    }
}
