//! Answers of AWS through the real SDK and the real kinds: what the lab's cloud answered once, spoilt, and what no cloud
//! would ever answer.
//!
//! The credentials of the SDK's own chain come from the environment, which a test cannot set for itself: it runs itself
//! once more with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use url::Url;
use watchover::adapters::Adapters;
use watchover::config::{AwsConfig, Config};
use watchover::domain::model::Verdict;
use watchover::lab::{Lab, LabSpec, SESSION_SECRET, SESSION_TOKEN};
use watchover::ports::{Inspection, ScriptContext, StepError, Verification};

use super::answers::lasting;
use super::between::{Between, Recorded, Spoilt, replaced, serve, spoilt};
use super::ground;
use super::hostile::{Answer, listen};
use super::tally::{each, in_time, tried, within};

const KEY: &str = "AKIAFUZZFUZZFUZZFUZZ";
/// What must never be seen in any words.
const SECRET: &str = "hushhushhushhushhushhushhushhushhushhush";
/// The call by which a role's keys are got.
const ROLE: &str = "AssumeRole";
/// Texts in the answer to it: the keys, when they end, and who they are for.
const ROLE_TEXTS: usize = 7;
/// One call, all in all, as the config says it.
const CALL: Duration = Duration::from_millis(400);
/// What one part may ask one after the other: the owner of the records reads and pages, the switch asks three services.
const CALLS: u32 = 12;
const MARGIN: Duration = Duration::from_secs(2);
/// An answer's body is read up to 8 MiB, and no further. The kernel lets a quick reader's buffer grow with what was read: as
/// much again twice may lie there unread. Without a bound it was more than a gigabyte.
const TAKEN: u64 = 3 * (8 << 20);

/// Which part is asked, and how.
#[derive(Debug, Clone)]
struct Case {
    part: &'static str,
    verb: Verb,
    spoilt: Spoilt,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Look,
    Inspect,
    Apply,
    Verify,
    Undo,
    Preflight,
    Autonomy,
}

/// In another account: STS is asked for a role first, and only its answers are spoilt.
const LENT: &str = "lent";
const SIGNALS: &[&str] = &["replica", "errors", "alarm", "targets", LENT];
const STEPS: &[&str] = &["fence", "promote", "capacity", "traffic", "publish", "switch"];

fn cases() -> impl Strategy<Value = Case> {
    let verbs =
        select(vec![Verb::Inspect, Verb::Inspect, Verb::Apply, Verb::Verify, Verb::Verify, Verb::Undo, Verb::Preflight, Verb::Autonomy]);
    let parts = prop_oneof![select(SIGNALS.to_vec()).prop_map(|part| (part, Verb::Look)), (select(STEPS.to_vec()), verbs),];
    (parts, spoilt()).prop_map(|((part, verb), spoilt)| Case { part, verb, spoilt })
}

/// The lab's own config, led through us, with every kind that asks AWS.
fn config(lab: &Lab, at: SocketAddr) -> Config {
    let a = lab.addresses();
    let dir = tempfile::tempdir().unwrap();
    let text = lab.daemon_config(dir.path(), &watchover::lab::ConfigOptions::default());
    let text = text
        .replace(&a.aws_endpoint_url, &format!("http://{at}"))
        .replace("call_timeout = \"5s\"\nattempts = 3", "call_timeout = \"400ms\"\nattempts = 1");
    assert!(text.contains("attempts = 1") && text.contains(&at.to_string()), "{text}");
    let more = format!(
        r#"
[[app.failover]]
name = "publish"
kind = "sns"
topic_arn = "{topic}"
[[app.failover]]
name = "switch"
kind = "s3-switch"
after = ["promote", "capacity"]
bucket = "{bucket}"
key = "{key}"
region = "{region}"
health_check_id = "{check}"
zone_id = "{zone}"
record = "{record}"
[[app.standby.signal]]
name = "errors"
kind = "cloudwatch"
namespace = "AWS/RDS"
metric = "ReplicaLag"
dimensions = {{ DBInstanceIdentifier = "shop-replica" }}
down_when = "> 100"
[[app.standby.signal]]
name = "alarm"
kind = "alarm"
alarm = "shop-primary-unhealthy"
[[app.standby.signal]]
name = "targets"
kind = "elb-target-health"
target_groups = ["{group}"]
[[app.standby.signal]]
name = "{LENT}"
kind = "elb-target-health"
target_groups = ["{group}"]
account = "network"
[account.network]
role_arn = "arn:aws:iam::123456789012:role/watchover"
external_id = "fuzz"
"#,
        topic = a.topic_arn,
        bucket = a.bucket,
        key = a.key,
        region = a.bucket_region,
        check = a.health_check_ids.first().map_or("01234567-89ab-cdef-0123-456789abcdef", String::as_str),
        zone = a.zone_id,
        record = a.front_door_name,
        group = a.standby.target_group_arn,
    );
    ground::judged(&(text + &more))
}

/// What a part said: words, and whether it called the thing well, down or done.
#[derive(Debug)]
struct Told {
    words: String,
    /// It holds that it knows.
    knows: bool,
}

fn told<T: std::fmt::Debug>(found: Result<T, StepError>, knows: impl FnOnce(&T) -> bool) -> Told {
    match found {
        Ok(found) => Told { knows: knows(&found), words: format!("{found:?}") },
        Err(error) => Told { knows: false, words: format!("{} {}", error.code, error.message) },
    }
}

async fn ask(config: &Config, ground: &Adapters, part: &str, verb: Verb) -> Told {
    if verb == Verb::Look {
        let found = ground::probe(config, ground, part).look(config.aws.call_timeout, ground::NOW).await;
        return Told { knows: !matches!(found.verdict, Verdict::Unknown(_)), words: found.detail };
    }
    let (step, mut cx) = (ground::step(config, ground, part), ground::context(CALL));
    cx.before = serde_json::json!({"min_size": 1, "desired": 2, "max_size": 4});
    match verb {
        Verb::Look | Verb::Inspect => {
            let found = step.inspect(&cx).await;
            if let Ok(found) = &found {
                drop((step.describe(found), step.script(found, &ScriptContext { direction: cx.direction, limit: CALL })));
            }
            told(found, |_| true)
        }
        // What it lets pass it knows from the inspection.
        Verb::Preflight => told(step.preflight(&cx, Inspection::Possible(serde_json::Value::Null)).await, |_| false),
        Verb::Apply => told(step.apply(&cx).await, |_| true),
        Verb::Verify => told(step.verify(&cx).await, |found| matches!(found, Verification::So(_))),
        Verb::Undo => told(step.undo(&cx).await, |_| true),
        Verb::Autonomy => told(step.autonomy(&cx).await, |found| found.is_some()),
    }
}

/// Asks every part everything once, and keeps what came back.
fn record(config: &Config, runtime: &tokio::runtime::Runtime) {
    runtime.block_on(async {
        let ground = ground::adapters(config);
        for part in SIGNALS {
            let said = ask(config, &ground, part, Verb::Look).await;
            println!("aws: {part} looks: {} {}", said.knows, said.words);
        }
        for verb in [Verb::Inspect, Verb::Preflight, Verb::Autonomy, Verb::Apply, Verb::Verify, Verb::Undo] {
            for part in STEPS {
                let said = ask(config, &ground, part, verb).await;
                println!("aws: {part} {verb:?}: {} {}", said.knows, said.words.chars().take(160).collect::<String>());
            }
        }
    });
}

#[test]
fn answers_through_the_sdk() {
    let name = "aws::answers_through_the_sdk";
    if std::env::var("AWS_ACCESS_KEY_ID").as_deref() != Ok(KEY) {
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")])
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        said.lines().filter(|line| line.starts_with(name)).for_each(|line| println!("{line}"));
        assert!(again.status.success(), "{said}\n{}", String::from_utf8_lossy(&again.stderr));
        assert!(said.contains("inputs tried"), "{said}");
        return;
    }
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lab = servers.block_on(Lab::start(LabSpec { writers: 0, ..LabSpec::default() })).unwrap();
    let cloud = lab.addresses().aws_endpoint_url.trim_start_matches("http://").parse().unwrap();
    let (recorded, spoils, written) = (Recorded::new(), BTreeMap::new(), Arc::default());
    let hostile = Hostile::new(Between { cloud, recorded, spoilt: None, only: "", spoils, written });
    let (config, runtime) = (config(&lab, hostile.at), ground::runtime());
    record(&config, &runtime);
    let recorded = hostile.held().recorded.clone();
    let calls: Vec<&String> = recorded.keys().collect();
    println!("aws: recorded {calls:?}");
    assert!(calls.len() >= 13 && calls.iter().any(|call| call.ends_with(ROLE)), "{calls:?}");
    servers.block_on(lab.shutdown());

    endless(&config, &runtime, &hostile);
    lasts(&config, &hostile, name);
    roles(&config, &hostile, name);
    let before = hostile.spoils(ROLE);
    let times = tried(name, 100, 4, cases(), |case| hostile.tries(&config, case).map(drop));
    let asked = hostile.spoils(ROLE) - before;
    println!("{name}: {asked} answers of STS spoilt");
    // Every tenth case asks for a role. Few, as for a replay, may have none.
    assert!(asked > 0 || times < 100, "STS was never asked");
}

/// What stands before the cloud, and where.
struct Hostile {
    between: Arc<Mutex<Between>>,
    at: SocketAddr,
}

impl Hostile {
    fn new(between: Between) -> Hostile {
        let between = Arc::new(Mutex::new(between));
        let held = Arc::clone(&between);
        let at = listen("127.0.0.1:0".parse().unwrap(), move |stream| serve(stream, &held)).unwrap();
        Hostile { between, at }
    }

    fn held(&self) -> MutexGuard<'_, Between> {
        self.between.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, to whoever asks for that part; the count of what is written of it.
    fn say(&self, part: &str, spoilt: &Spoilt) -> Arc<AtomicU64> {
        let (written, mut between) = (Arc::default(), self.held());
        (between.spoilt, between.written) = (Some(spoilt.clone()), Arc::clone(&written));
        between.only = if part == LENT { ROLE } else { "" };
        written
    }

    /// How often the answer to that call was spoilt.
    fn spoils(&self, call: &str) -> u64 {
        self.held().spoils.iter().filter(|(name, _)| name.ends_with(call)).map(|(_, count)| count).sum()
    }

    /// The same at a place of its own, and a config that leads there.
    fn another(&self, config: &Config) -> (Hostile, Config) {
        let own = Hostile::new(Between { spoils: BTreeMap::new(), ..self.held().clone() });
        let aws = AwsConfig { endpoint_url: Some(Url::parse(&format!("http://{}", own.at)).unwrap()), ..config.aws.clone() };
        (own, Config { aws, ..config.clone() })
    }

    /// Asks by a config that leads here, within all bounds.
    fn tries(&self, config: &Config, case: &Case) -> Result<Told, String> {
        let written = self.say(case.part, &case.spoilt);
        let began = Instant::now();
        let said = ground::runtime().block_on(async { ask(config, &ground::adapters(config), case.part, case.verb).await });
        let took = began.elapsed();
        let allowed = if case.verb == Verb::Look { CALL } else { CALL * CALLS };
        in_time(took, allowed, MARGIN).map_err(|why| format!("{why}: {said:?}"))?;
        if said.words.is_empty() || [SECRET, SESSION_SECRET, SESSION_TOKEN].iter().any(|secret| said.words.contains(secret)) {
            return Err(format!("bad words: {said:?}"));
        }
        within(&written, u64::from(CALLS) * TAKEN)?;
        // A document that answers another question is no evidence of anything. A HEAD of S3 has no document.
        let foreign = matches!(case.spoilt, Spoilt::Foreign(..))
            && !matches!(case.verb, Verb::Apply | Verb::Undo)
            && case.part != "switch"
            && case.part != "publish";
        if foreign && said.knows { Err(format!("it knows by a document that says nothing: {said:?}")) } else { Ok(said) }
    }
}

/// Every answer that lasts, to a look at two services, to what is inspected, to a change and to the question for a role: nothing
/// is known or done by any.
fn lasts(config: &Config, hostile: &Hostile, name: &str) {
    let asked = [("replica", Verb::Look), ("traffic", Verb::Inspect), ("publish", Verb::Apply), (LENT, Verb::Look)];
    let cases =
        lasting().into_iter().flat_map(|answer| asked.map(|(part, verb)| Case { part, verb, spoilt: Spoilt::Http(answer.clone()) }));
    each(name, &cases.collect::<Vec<_>>(), |case| {
        let (own, config) = hostile.another(config);
        let said = own.tries(&config, case)?;
        if said.knows { Err(format!("it knows by an answer without end: {said:?}")) } else { Ok(()) }
    });
}

/// Keys that no STS gives, each text of its answer replaced: some are taken, and sign what is asked with them.
fn roles(config: &Config, hostile: &Hostile, name: &str) {
    let cases: Vec<Case> = replaced(ROLE_TEXTS).map(|spoilt| Case { part: LENT, verb: Verb::Look, spoilt }).collect();
    let known = AtomicU64::new(0);
    each(name, &cases, |case| {
        let (own, config) = hostile.another(config);
        let said = own.tries(&config, case)?;
        known.fetch_add(u64::from(said.knows), Ordering::SeqCst);
        if own.spoils(ROLE) > 0 { Ok(()) } else { Err(format!("STS was not asked: {said:?}")) }
    });
    let known = known.into_inner();
    println!("{name}: of {} roles with odd keys {known} were lent", cases.len());
    assert!(known > 0 && known < cases.len() as u64, "{known} of {}", cases.len());
}

/// Bodies without end: each service's parser gets no more than its share.
fn endless(config: &Config, runtime: &tokio::runtime::Runtime, hostile: &Hostile) {
    let piece = vec![b'x'; 64 << 10];
    let heads =
        ["HTTP/1.1 200 OK\r\n\r\n<a>", "HTTP/1.1 500 No\r\n\r\n<a>", "HTTP/1.1 200 OK\r\ncontent-length: 9000000000000000000\r\n\r\n"];
    for (part, verb) in [
        ("replica", Verb::Look),
        ("targets", Verb::Look),
        ("alarm", Verb::Look),
        ("traffic", Verb::Inspect),
        ("publish", Verb::Apply),
        (LENT, Verb::Look),
    ] {
        // STS is asked three times, with pauses in between that are waited for.
        let heads = if part == LENT { &heads[..1] } else { &heads[..] };
        for head in heads {
            let written = hostile.say(part, &Spoilt::Http(Answer::Endless(head.as_bytes().to_vec(), piece.clone())));
            let slow = Config { aws: AwsConfig { call_timeout: Duration::from_secs(10), ..config.aws.clone() }, ..config.clone() };
            let said = runtime.block_on(async { ask(&slow, &ground::adapters(&slow), part, verb).await });
            assert!(!said.knows, "{said:?}");
            // The signal of the replica asks two services, that of another account STS three times.
            let taken = within(&written, 2 * TAKEN).unwrap_or_else(|why| panic!("{part}: {why}: {said:?}"));
            println!("aws: {part} took {taken} bytes of a body without end: {}", said.words.chars().take(120).collect::<String>());
        }
    }
}
