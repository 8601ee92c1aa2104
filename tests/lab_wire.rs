//! The Rust SDK that the daemon uses, unmodified, against the lab's wire; boto3 does the same in the peers.
#![expect(clippy::unwrap_used, reason = "helpers of a test, where a panic is the report")]

use std::str::FromStr;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use watchover::lab::world::{PRIMARY_REGION, STANDBY_REGION};
use watchover::lab::{Action, Lab, LabSpec};

async fn sdk(lab: &Lab, region: &'static str) -> SdkConfig {
    let timeouts = aws_smithy_types::timeout::TimeoutConfig::builder().operation_timeout(Duration::from_millis(700)).build();
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(&lab.addresses().aws_endpoint_url)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .timeout_config(timeouts)
        .load()
        .await
}

async fn ask(lab: &Lab, name: &str, tcp: bool) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    let (bytes, to) = (message.to_vec().unwrap(), &lab.addresses().dns);
    if tcp {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        return Message::from_vec(&answer).unwrap();
    }
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&bytes, to).await.unwrap();
    let mut answer = vec![0; 2_048];
    let (length, _) = socket.recv_from(&mut answer).await.unwrap();
    Message::from_vec(&answer[..length]).unwrap()
}

#[tokio::test]
async fn the_rust_sdk_understands_every_service() {
    let lab = Lab::start(LabSpec { writers: 1, ..LabSpec::default() }).await.unwrap();
    let a = lab.addresses();
    let config = sdk(&lab, STANDBY_REGION).await;

    let route53 = aws_sdk_route53::Client::new(&config);
    let sets = route53.list_resource_record_sets().hosted_zone_id(&a.zone_id).send().await.unwrap();
    assert_eq!(sets.resource_record_sets().len(), 5);
    let gone = route53.get_change().id("CNONE").send().await.unwrap_err().into_service_error();
    assert!(gone.is_no_such_change(), "{gone:?}");

    let rds = aws_sdk_rds::Client::new(&config);
    let missing = rds.describe_db_instances().db_instance_identifier("none").send().await.unwrap_err().into_service_error();
    assert!(missing.is_db_instance_not_found_fault(), "{missing:?}");
    let found = rds.describe_db_instances().db_instance_identifier("shop-replica").send().await.unwrap();
    let replica = &found.db_instances()[0];
    assert_eq!(replica.read_replica_source_db_instance_identifier(), Some("arn:aws:rds:ap-south-1:123456789012:db:shop-primary"));
    assert_eq!(replica.status_infos()[0].status(), Some("replicating"));

    let groups = aws_sdk_autoscaling::Client::new(&config).describe_auto_scaling_groups().send().await.unwrap();
    assert_eq!(groups.auto_scaling_groups()[0].instances().len(), 2);
    let elb = aws_sdk_elasticloadbalancingv2::Client::new(&config);
    let health = elb.describe_target_health().target_group_arn(&a.standby.target_group_arn).send().await.unwrap();
    assert_eq!(health.target_health_descriptions().len(), 2);
    let who = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.unwrap();
    assert_eq!(who.account(), Some("123456789012"));

    let cloudwatch = aws_sdk_cloudwatch::Client::new(&config);
    use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
    let dimension = Dimension::builder().name("DBInstanceIdentifier").value("shop-replica").build();
    let metric = Metric::builder().namespace("AWS/RDS").metric_name("ReplicaLag").dimensions(dimension).build();
    let stat = MetricStat::builder().metric(metric).period(60).stat("Average").build();
    let now = aws_smithy_types::DateTime::from(std::time::SystemTime::now());
    let then = aws_smithy_types::DateTime::from_secs(now.secs() - 900);
    let query = MetricDataQuery::builder().id("lag").metric_stat(stat).build();
    let data = cloudwatch.get_metric_data().metric_data_queries(query).start_time(then).end_time(now).send().await.unwrap();
    let series = &data.metric_data_results()[0];
    assert!(series.values().len() >= 11 && series.values()[0] < 2.0, "{series:?}");
    assert!(now.secs() - series.timestamps()[0].secs() >= 120);

    let mut s3 = aws_sdk_s3::config::Builder::from(&sdk(&lab, "eu-west-1").await);
    s3.set_force_path_style(Some(true));
    let s3 = aws_sdk_s3::Client::from_conf(s3.build());
    s3.put_object().bucket(&a.bucket).key(&a.key).body(b"on".to_vec().into()).send().await.unwrap();
    let object = s3.get_object().bucket(&a.bucket).key(&a.key).send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), b"on");
    s3.delete_object().bucket(&a.bucket).key(&a.key).send().await.unwrap();
    let absent = s3.head_object().bucket(&a.bucket).key(&a.key).send().await.unwrap_err().into_service_error();
    assert!(absent.is_not_found(), "{absent:?}");

    lab.act(&Action::Region { region: PRIMARY_REGION.to_owned(), dark: true }).unwrap();
    let dark = aws_sdk_rds::Client::new(&sdk(&lab, PRIMARY_REGION).await);
    let silent = dark.describe_db_instances().send().await.unwrap_err();
    assert!(matches!(silent, aws_sdk_rds::error::SdkError::TimeoutError(_)), "{silent:?}");
    rds.promote_read_replica().db_instance_identifier("shop-replica").send().await.unwrap();
    let twice = rds.promote_read_replica().db_instance_identifier("shop-replica").send().await.unwrap_err().into_service_error();
    assert!(twice.is_invalid_db_instance_state_fault(), "{twice:?}");
    lab.shutdown().await;
}

#[tokio::test]
async fn the_name_server_answers_over_udp_and_tcp() {
    let lab = Lab::start(LabSpec { writers: 0, ..LabSpec::default() }).await.unwrap();
    for tcp in [false, true] {
        let answer = ask(&lab, "SHOP.example.com.", tcp).await;
        let addresses: Vec<String> =
            answer.answers.iter().filter_map(|r| if let RData::A(a) = &r.data { Some(a.0.to_string()) } else { None }).collect();
        assert_eq!(addresses, ["127.0.1.11", "127.0.1.12"]);
        assert_eq!(answer.answers[0].ttl, 2);
        let none = ask(&lab, "none.example.com.", tcp).await;
        assert_eq!((none.metadata.response_code, none.authorities.len()), (ResponseCode::NXDomain, 1));
    }
    let alias = ask(&lab, "primary-alb-123.ap-south-1.elb.amazonaws.com.", false).await;
    assert_eq!(alias.answers.len(), 2);
    lab.shutdown().await;
}
