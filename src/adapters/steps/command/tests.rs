use super::*;
use crate::adapters::shell::bench::Bench;
use crate::domain::fixtures;
use crate::domain::model::Direction;

fn judged(keys: Value) -> Result<Value, Vec<String>> {
    let (found, said) = KIND.judged(keys);
    found.ok_or(said)
}

fn traits() -> StepTraits {
    StepTraits {
        class: KIND.class,
        reversibility: KIND.reversibility,
        repeat: KIND.repeat,
        default_deadline: Duration::from_secs(60),
        at_source: false,
        first: false,
    }
}

fn step(keys: Value) -> Arc<dyn Step> {
    let planned = PlannedStep {
        kind: KIND.name.into(),
        reversibility: KIND.reversibility,
        repeat: KIND.repeat,
        keys: judged(keys).unwrap(),
        ..fixtures::step("hook", KIND.class, None, &[])
    };
    build(&planned, &Adapters::for_tests()).unwrap()
}

fn shell(script: &str) -> Value {
    json!({ "argv": ["/bin/sh", "-c", script] })
}

fn context() -> StepContext {
    StepContext {
        incident: "shop-eu-20261121T034512Z".into(),
        step_id: "shop-eu-20261121T034512Z/hook".into(),
        direction: Direction::ToStandby,
        now: 0,
        time_left: Duration::from_secs(20),
        facts: BTreeMap::new(),
        before: Value::Null,
        graceful: false,
    }
}

#[tokio::test]
async fn its_code_decides() {
    for (code, class, word) in [(1, ErrorClass::Retry, "exit-1"), (2, ErrorClass::Refused, "exit-2"), (75, ErrorClass::Refused, "exit-75")]
    {
        let error = step(shell(&format!("echo why; exit {code}"))).apply(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, word));
        assert!(error.message.contains("command hook") && error.message.contains("it said last: why"), "{}", error.message);
    }
    let step = step(shell("echo all well"));
    assert_eq!(step.inspect(&context()).await.unwrap(), Inspection::CannotTell);
    step.apply(&context()).await.unwrap();
    let Verification::So(facts) = step.verify(&context()).await.unwrap() else { panic!("0 is done") };
    assert_eq!((&facts["exit"], &facts["output"]), (&json!(0), &json!(["all well"])));
}

#[tokio::test]
async fn it_is_told_which_step_it_is() {
    let script = "echo $WATCHOVER_ACTION $WATCHOVER_STEP_ID $WATCHOVER_STEP $WATCHOVER_APP $WATCHOVER_INCIDENT $WATCHOVER_DIRECTION $WATCHOVER_TARGET $WATCHOVER_REGION $WATCHOVER_GRACEFUL $MORE";
    let mut keys = shell(script);
    keys["env"] = json!({ "MORE": "more" });
    let facts = step(keys).apply(&context()).await.unwrap();
    let told = "apply shop-eu-20261121T034512Z/hook hook shop-eu shop-eu-20261121T034512Z to-standby standby us-east-1 false more";
    assert_eq!(facts["output"], json!([told]));
}

#[tokio::test]
async fn after_a_one_it_may_be_asked_again_and_after_a_crash_it_may_not() {
    let again = step(shell("exit 1"));
    again.apply(&context()).await.unwrap_err();
    assert_eq!(again.inspect(&context()).await.unwrap(), Inspection::Possible(Value::Null));
    // A new process knows nothing of what the old one started.
    assert_eq!(step(shell("exit 1")).inspect(&context()).await.unwrap(), Inspection::CannotTell);
}

#[tokio::test]
async fn its_time_is_up_in_time() {
    for (idempotent, class) in [(false, ErrorClass::NeedsPerson), (true, ErrorClass::Retry)] {
        let mut keys = shell("echo begun; sleep 30");
        keys["timeout"] = json!("200ms");
        keys["idempotent"] = json!(idempotent);
        let error = step(keys).apply(&context()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, "timed-out"));
        assert!(error.message.contains("it said last: begun"), "{}", error.message);
    }
    let error = step(shell("sleep 30")).apply(&StepContext { time_left: Duration::from_millis(800), ..context() }).await.unwrap_err();
    assert_eq!(error.code, "timed-out");
}

#[tokio::test]
async fn what_cannot_be_run_is_said_before_anything_moves() {
    let error = step(json!({ "argv": ["/nowhere/hook"] })).inspect(&context()).await.unwrap_err();
    assert!(error.class == ErrorClass::NeedsPerson && error.message.contains("/nowhere/hook"), "{}", error.message);
    let error = step(json!({ "argv": ["/bin/true"], "undo": ["/nowhere/undo"] })).inspect(&context()).await.unwrap_err();
    assert!(error.message.contains("/nowhere/undo"), "{}", error.message);
}

#[tokio::test]
async fn it_is_taken_back_by_its_own_program() {
    let mut keys = shell("true");
    keys["undo"] = json!(["/bin/sh", "-c", "echo $WATCHOVER_ACTION; exit 0"]);
    assert_eq!(step(keys.clone()).undo(&context()).await.unwrap(), "taken back by /bin/sh; it said last: undo");
    keys["undo"] = json!(["/bin/sh", "-c", "exit 4"]);
    assert_eq!(step(keys).undo(&context()).await.unwrap_err().code, "exit-4");
}

#[test]
fn the_keys_decide_what_it_is() {
    let of = |keys: Value| refine(&judged(keys).unwrap(), traits());
    let plain = of(json!({ "argv": ["/bin/true"] }));
    assert_eq!((plain.reversibility, plain.repeat, plain.first), (Reversibility::ForwardOnly, Repeat::Inspectable, false));
    let pre = of(json!({ "argv": ["/bin/true"], "phase": "pre" }));
    assert_eq!((pre.reversibility, pre.repeat, pre.first), (Reversibility::Reversible, Repeat::Inspectable, true));
    let kind = of(json!({ "argv": ["/bin/true"], "idempotent": true, "class": "data", "undo": ["/bin/true"] }));
    assert_eq!((kind.class, kind.reversibility, kind.repeat), (Class::Data, Reversibility::Reversible, Repeat::AtLeastOnce));
}

#[test]
fn wrong_keys_are_named() {
    for (keys, part) in [
        (json!({}), "s.argv: is missing"),
        (json!({ "argv": "/bin/true --all" }), "is one text"),
        (json!({ "argv": ["true"] }), "not an absolute path"),
        (json!({ "argv": [] }), "is empty"),
        (json!({ "argv": ["/bin/true"], "undo": ["undo"] }), "s.undo"),
        (json!({ "argv": ["/bin/true"], "phase": "post" }), "s.phase"),
        (json!({ "argv": ["/bin/true"], "phase": "pre", "class": "data" }), "does not go with phase"),
        (json!({ "argv": ["/bin/true"], "timeout": "0s" }), "s.timeout"),
        (json!({ "argv": ["/bin/true"], "env": { "WATCHOVER_APP": "x" } }), "s.env.WATCHOVER_APP"),
        (json!({ "argv": ["/bin/true"], "env": { "A": 5 } }), "s.env.A"),
        (json!({ "argv": ["/bin/true"], "pass_env": ["A=hush"] }), "s.pass_env"),
    ] {
        let said = judged(keys).unwrap_err();
        assert!(said.len() == 1 && said[0].contains(part), "{part}: {said:?}");
    }
}

#[tokio::test]
async fn the_script_runs_the_same_words() {
    let mut keys = json!({ "argv": ["/bin/sh", "-c", "echo \"$1 $MORE $WATCHOVER_STEP\"", "sh", "it's so"] });
    keys["env"] = json!({ "MORE": "and 'more'" });
    let shell = step(keys).describe(&Inspection::CannotTell).remove(0).shell;
    let ran = std::process::Command::new("/bin/sh").args(["-c", &shell]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "it's so and 'more' hook\n", "{shell}");
}

fn scripted(keys: Value) -> Vec<String> {
    let cx = ScriptContext { direction: Direction::ToStandby, limit: Duration::from_secs(60) };
    step(keys).script(&Inspection::CannotTell, &cx)
}

#[tokio::test]
async fn the_script_ends_what_does_not_end() {
    let mut keys = shell("read -r line; echo begun; exec /bin/sleep 30");
    keys["timeout"] = json!("200ms");
    let start = std::time::Instant::now();
    let ran = Bench::new(&[("aws", "exit 1")]).lines(&scripted(keys));
    assert!(ran.code == Some(1) && ran.said.contains("begun") && start.elapsed().as_secs() < 20, "{}", ran.said);
    assert!(scripted(shell("true"))[0].starts_with("within 60 env -i "), "the step's deadline, where it has no time-out of its own");
}
