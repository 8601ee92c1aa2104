use super::*;
use crate::domain::fixtures;
use crate::domain::model::Direction;
use crate::domain::plan::OnFailure;

const ARN: &str = "arn:aws:sns:eu-west-1:123456789012:moves.fifo";

fn judged(keys: Value) -> Result<Value, Vec<String>> {
    let (found, said) = KIND.judged(keys);
    if said.is_empty() { Ok(found.unwrap()) } else { Err(said) }
}

fn planned(keys: Value) -> PlannedStep {
    PlannedStep {
        kind: KIND.name.into(),
        reversibility: KIND.reversibility,
        repeat: KIND.repeat,
        on_failure: OnFailure::Continue,
        account: Some("ops".into()),
        keys: judged(keys).unwrap(),
        ..fixtures::step("tell", KIND.class, None, &[])
    }
}

fn sns(message: Option<&str>) -> Sns {
    Sns {
        aws: Adapters::for_tests().aws,
        name: "tell".into(),
        topic: topic(&planned(json!({ "topic_arn": ARN }))).unwrap(),
        message: message.map(str::to_owned),
    }
}

fn context() -> StepContext {
    StepContext {
        incident: "shop-eu-20261121T034512Z".into(),
        step_id: "shop-eu-20261121T034512Z/tell".into(),
        direction: Direction::ToStandby,
        now: 1_700_000_000_000_000,
        time_left: Duration::from_secs(5),
        facts: BTreeMap::new(),
        before: Value::Null,
        graceful: false,
    }
}

#[tokio::test]
async fn every_repetition_is_the_same_message_under_the_same_id() {
    let step = sns(None);
    let (one, two) = (step.publication(&context()), step.publication(&context()));
    assert_eq!((&one.id, &one.message, &one.group), (&two.id, &two.message, &two.group));
    assert_eq!((one.id.as_str(), one.group.as_str()), ("shop-eu-20261121T034512Z/tell", "shop-eu"));
    for (name, value) in [("app", "shop-eu"), ("incident", "shop-eu-20261121T034512Z"), ("step", "tell"), ("step_id", one.id.as_str())] {
        assert_eq!(one.attributes.get(name).map(String::as_str), Some(value));
    }
    let told: Value = serde_json::from_str(&one.message).unwrap();
    assert_eq!((&told["app"], &told["step_id"]), (&json!("shop-eu"), &json!(one.id)));
    assert_eq!(sns(Some("ours")).publication(&context()).message, "ours");
}

#[tokio::test]
async fn the_call_and_the_permissions_name_the_topic_and_its_region() {
    let call = sns(None).describe(&Inspection::CannotTell).remove(0);
    assert_eq!((call.region.as_str(), call.operation.as_str()), ("eu-west-1", "Publish"));
    assert!(call.shell.starts_with("aws sns publish --region eu-west-1 --topic-arn arn:aws:sns:eu-west-1:123456789012:moves.fifo "));
    assert!(call.shell.contains("--message-group-id"), "{}", call.shell);
    let needed = (KIND.permissions)(&planned(json!({ "topic_arn": ARN })));
    assert!(needed.iter().all(|one| one.resource == ARN && one.account.as_deref() == Some("ops")));
    assert!(needed.iter().any(|one| one.action == "sns:Publish"));
}

#[test]
fn wrong_keys_are_named() {
    for (keys, part) in [
        (json!({}), "s.topic_arn: is missing"),
        (json!({ "topic_arn": "moves" }), "not the ARN of a topic"),
        (json!({ "topic_arn": ARN, "message": " " }), "s.message: is empty"),
        (json!({ "topic_arn": ARN, "subject": "x" }), "unknown key"),
    ] {
        let said = judged(keys).unwrap_err();
        assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
    }
}
