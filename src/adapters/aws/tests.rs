use super::scripted::db::Db;
use super::scripted::{Answer, Heard, KEY, SECRET, Script, TARGET, Trouble, World, element, keys, query, xml};
use super::*;
use crate::ports::ErrorClass;

/// STS, and one instance behind it.
#[derive(Default)]
struct Sts(Db);

impl World for Sts {
    fn answer(&mut self, heard: &Heard) -> Answer {
        match heard.operation.as_str() {
            "AssumeRole" => {
                let keys =
                    element("AccessKeyId", "ASIAROLE") + &element("SecretAccessKey", SECRET) + &element("SessionToken", "hush-session");
                query(heard, &element("Credentials", keys + &element("Expiration", "2099-01-01T00:00:00Z")))
            }
            "GetCallerIdentity" => query(heard, &element("Arn", "arn:aws:iam::123456789012:user/watchover")),
            _ => self.0.answer(heard),
        }
    }
}

async fn way(script: &Script<Sts>, change: impl FnOnce(&mut AwsSpec)) -> (Aws, Arc<Mutex<Vec<String>>>) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let hook: Hook = {
        let told = Arc::clone(&told);
        Arc::new(move |call: &CallRecord<'_>| told.lock().unwrap().push(format!("{} {} {}", call.operation, call.region, call.outcome)))
    };
    let mut spec = script.spec();
    change(&mut spec);
    (Aws::with_keys(&spec, hook, keys()).await, told)
}

async fn describe(aws: &Aws, account: Option<&str>) -> Result<Option<rds::Instance>, Failure> {
    rds::describe(aws, account, TARGET, "shop-replica").await
}

async fn modify(aws: &Aws, purpose: Purpose) -> Result<(), Failure> {
    let op = Op::new("rds", "ModifyDBInstance", "rds:ModifyDBInstance", TARGET, "DB instance shop-replica");
    let client = aws.rds(None, TARGET, purpose).await?;
    aws.call(&op, client.modify_db_instance().db_instance_identifier("shop-replica").send()).await.map(|_| ())
}

#[tokio::test]
async fn the_endpoint_of_the_config_is_asked_in_the_region_and_with_the_keys_given() {
    let script = Script::start(Sts::default()).await;
    let (aws, told) = way(&script, |_| {}).await;
    assert_eq!(aws.identity("eu-central-1").await, Ok("arn:aws:iam::123456789012:user/watchover".to_owned()));
    assert!(describe(&aws, None).await.unwrap().is_some());
    let heard: Vec<_> = script.heard().into_iter().map(|one| (one.service, one.region, one.key)).collect();
    let own = |service: &str, region: &str| (service.to_owned(), region.to_owned(), KEY.to_owned());
    assert_eq!(heard, [own("sts", "eu-central-1"), own("rds", TARGET)]);
    assert_eq!(*told.lock().unwrap(), ["GetCallerIdentity eu-central-1 ok", "DescribeDBInstances us-east-1 ok"]);
}

#[tokio::test]
async fn another_account_is_reached_by_its_role_with_the_external_id_at_the_regions_own_sts() {
    let script = Script::start(Sts::default()).await;
    let (aws, told) = way(&script, |_| {}).await;
    for _ in 0..2 {
        describe(&aws, Some("network")).await.unwrap();
    }
    let described = "DescribeDBInstances us-east-1 ok";
    assert_eq!(*told.lock().unwrap(), ["AssumeRole us-east-1 ok", described, described], "each call that was made, and no other");
    let heard = script.heard();
    let operations: Vec<_> = heard.iter().map(|one| one.operation.as_str()).collect();
    assert_eq!(operations, ["AssumeRole", "DescribeDBInstances", "DescribeDBInstances"], "the session is kept");
    assert_eq!(heard[0].get("RoleArn"), "arn:aws:iam::123456789012:role/watchover");
    assert_eq!((heard[0].get("ExternalId"), heard[0].get("RoleSessionName")), (SECRET, "watchover"));
    assert_eq!((heard[0].region.as_str(), heard[0].key.as_str()), (TARGET, KEY));
    assert_eq!((heard[1].key.as_str(), heard[1].headers["x-amz-security-token"].as_str()), ("ASIAROLE", "hush-session"));
}

#[tokio::test]
async fn an_account_that_cannot_be_reached_is_named_and_nothing_secret_is() {
    let script = Script::start(Sts::default()).await;
    let (aws, _) = way(&script, |_| {}).await;
    let failure = describe(&aws, Some("netwrok")).await.unwrap_err();
    assert!(failure.message.contains("no [account.netwrok] in the config; known: network"), "{failure}");
    assert_eq!(script.heard().len(), 0);
    script.trouble("AssumeRole", Trouble::Refused(403, "AccessDenied"));
    let failure = describe(&aws, Some("network")).await.unwrap_err();
    assert_eq!((failure.kind, failure.step().class), (Kind::NoCredentials, ErrorClass::Retry));
    assert!(failure.message.contains("AccessDenied"), "{failure}");
    silent_about_secrets(&[&format!("{failure} {failure:?}")]);
}

#[tokio::test]
async fn taking_a_role_is_counted_by_how_it_ended() {
    let long = Duration::from_secs(30);
    for (trouble, outcome, limit) in [
        (Trouble::Refused(403, "AccessDenied"), "error", long),
        (Trouble::Refused(400, "Throttling"), "throttled", long),
        (Trouble::Silence, "timeout", Duration::from_millis(150)),
    ] {
        let script = Script::start(Sts::default()).await;
        let (aws, told) = way(&script, |spec| spec.call_timeout = limit).await;
        for _ in 0..9 {
            script.trouble("AssumeRole", trouble.clone());
        }
        describe(&aws, Some("network")).await.unwrap_err();
        let told: Vec<String> = told.lock().unwrap().iter().filter(|call| call.starts_with("AssumeRole")).cloned().collect();
        assert_eq!(told, [format!("AssumeRole us-east-1 {outcome}")], "{trouble:?}");
    }
}

#[tokio::test]
async fn keys_that_no_request_can_carry_are_refused_before_they_are_used_and_not_shown() {
    for (id, token, name) in [("AKIAhush\n", None, "access key id"), ("AKIA", Some("hush\r\nx: y"), "session token")] {
        let script = Script::start(Sts::default()).await;
        let odd = aws_credential_types::Credentials::new(id, SECRET, token.map(str::to_owned), None, "script");
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = Arc::clone(&told);
        let hook: Hook = Arc::new(move |call: &CallRecord<'_>| all.lock().unwrap().push(call.operation.to_owned()));
        let aws = Aws::with_keys(&script.spec(), hook, odd).await;
        for account in [None, Some("network")] {
            let failure = describe(&aws, account).await.unwrap_err();
            assert_eq!((failure.kind, failure.step().class), (Kind::NoCredentials, ErrorClass::Retry), "{failure}");
            assert!(!told.lock().unwrap().iter().any(|call| call.starts_with("AssumeRole")), "no role was asked for");
            assert!(failure.message.contains(name) && failure.message.contains("the end of a line"), "{failure}");
            silent_about_secrets(&[&format!("{failure} {failure:?}")]);
        }
        assert_eq!(script.heard().len(), 0);
    }
    struct Odd;
    impl World for Odd {
        fn answer(&mut self, heard: &Heard) -> Answer {
            let keys = element("AccessKeyId", "ASIAhush&#10;") + &element("SecretAccessKey", SECRET) + &element("SessionToken", "hush");
            query(heard, &element("Credentials", keys + &element("Expiration", "2099-01-01T00:00:00Z")))
        }
    }
    let script = Script::start(Odd).await;
    let aws = Aws::with_keys(&script.spec(), Arc::new(|_| {}), keys()).await;
    let failure = describe(&aws, Some("network")).await.unwrap_err();
    assert_eq!(failure.kind, Kind::NoCredentials, "{failure}");
    assert!(failure.message.contains("access key id"), "{failure}");
    silent_about_secrets(&[&format!("{failure} {failure:?}")]);
    assert!(script.calls("DescribeDBInstances").is_empty());
}

#[tokio::test]
async fn how_often_a_call_is_sent_follows_from_its_purpose() {
    for (purpose, sent) in [(Purpose::Look, 1), (Purpose::Once, 1), (Purpose::Change, 3)] {
        for trouble in [Trouble::Refused(400, "Throttling"), Trouble::Refused(503, "ServiceUnavailable"), Trouble::LostAnswer] {
            let script = Script::start(Sts::default()).await;
            let (aws, _) = way(&script, |_| {}).await;
            for _ in 0..4 {
                script.trouble("ModifyDBInstance", trouble.clone());
            }
            // On a connection that was used before too: where a client might think that a repetition is harmless.
            describe(&aws, None).await.unwrap();
            assert!(modify(&aws, purpose).await.is_err());
            assert_eq!(script.calls("ModifyDBInstance").len(), sent, "{purpose:?} {trouble:?}");
        }
    }
}

#[tokio::test]
async fn looks_that_fail_do_not_use_up_the_attempts_of_changes() {
    let script = Script::start(Sts::default()).await;
    let (aws, _) = way(&script, |_| {}).await;
    for _ in 0..120 {
        script.trouble("DescribeDBInstances", Trouble::Refused(503, "ServiceUnavailable"));
        describe(&aws, None).await.unwrap_err();
    }
    script.trouble("ModifyDBInstance", Trouble::Refused(503, "ServiceUnavailable"));
    assert_eq!(modify(&aws, Purpose::Change).await, Ok(()));
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_left_after_the_configs_time() {
    let script = Script::start(Sts::default()).await;
    let (aws, told) = way(&script, |spec| spec.call_timeout = Duration::from_millis(150)).await;
    script.trouble("DescribeDBInstances", Trouble::Silence);
    let start = Instant::now();
    let failure = describe(&aws, None).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!((failure.kind, failure.code.as_str()), (Kind::Timeout, "timeout"));
    assert_eq!(*told.lock().unwrap(), ["DescribeDBInstances us-east-1 timeout"]);
}

#[tokio::test]
async fn every_failure_has_its_kind_and_names_what_was_asked() {
    let script = Script::start(Sts::default()).await;
    let (aws, _) = way(&script, |_| {}).await;
    for (status, code, kind, part) in [
        (400, "Throttling", Kind::Throttled, "others share this account's rate"),
        (503, "ServiceUnavailable", Kind::Server, "ServiceUnavailable"),
        (403, "AccessDenied", Kind::AccessDenied, "allow rds:DescribeDBInstances"),
        (403, "InvalidClientTokenId", Kind::NoCredentials, "give the daemon credentials"),
        (403, "SignatureDoesNotMatch", Kind::NoCredentials, "give the daemon credentials"),
        (400, "InvalidParameterValue", Kind::Rejected, "the script says so"),
    ] {
        script.trouble("DescribeDBInstances", Trouble::Refused(status, code));
        let failure = describe(&aws, None).await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (kind, code));
        let heading = format!("rds:DescribeDBInstances of DB instance shop-replica in {TARGET}: {code}");
        assert!(failure.message.starts_with(&heading) && failure.message.contains(part), "{failure}");
        silent_about_secrets(&[&format!("{failure} {failure:?}")]);
    }
    script.trouble("DescribeDBInstances", Trouble::LostAnswer);
    assert_eq!(describe(&aws, None).await.unwrap_err().kind, Kind::NoAnswer);
    drop(script);
}

#[tokio::test]
async fn an_answer_that_is_no_answer_of_aws_is_classed_by_its_status() {
    struct Proxy(u16);
    impl World for Proxy {
        fn answer(&mut self, _heard: &Heard) -> Answer {
            xml(self.0, "<html>some proxy</html")
        }
    }
    for (status, kind) in [(200, Kind::Malformed), (502, Kind::Server)] {
        let script = Script::start(Proxy(status)).await;
        let aws = Aws::with_keys(&script.spec(), Arc::new(|_| {}), keys()).await;
        assert_eq!(describe(&aws, None).await.unwrap_err().kind, kind, "{status}");
    }
}

#[tokio::test]
async fn nobody_listening_is_no_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = AwsSpec { endpoint_url: Some(format!("http://{}", listener.local_addr().unwrap())), ..AwsSpec::default() };
    drop(listener);
    let aws = Aws::with_keys(&spec, Arc::new(|_| {}), keys()).await;
    let failure = describe(&aws, None).await.unwrap_err();
    assert_eq!((failure.kind, failure.step().class), (Kind::NoAnswer, ErrorClass::Retry), "{failure}");
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let script = Script::start(Sts::default()).await;
    let (aws, _) = way(&script, |_| {}).await;
    describe(&aws, Some("network")).await.unwrap();
    silent_about_secrets(&[&format!("{aws:?}"), &format!("{:?}", script.spec().accounts), &format!("{:?}", script.ground().await.aws)]);
}

/// Neither key, session nor external id.
fn silent_about_secrets(said: &[&str]) {
    for line in said {
        assert!(!line.contains("hush"), "{line}");
    }
}

#[test]
fn the_partition_follows_from_the_region() {
    for (region, named) in [
        ("eu-west-1", "aws"),
        ("us-east-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eu-isoe-west-1", "aws-iso-e"),
    ] {
        assert_eq!(partition(region), named, "{region}");
    }
}
