//! Every kind of signal, looked at by the real daemon in the lab: well, then broken, each with its own reason.
#![expect(clippy::unwrap_used, reason = "helpers of a test, where a panic is the report")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudwatch::types::{ComparisonOperator, MetricDatum, Statistic};
use serde_json::Value;
use tokio::process::{Child, Command};
use watchover::lab::world::{PRIMARY_REGION, SiteName, Traffic, names};
use watchover::lab::{Action, ConfigOptions, Lab, LabSpec};

/// A busy machine may be slow, and is not wrong.
const LONG: Duration = Duration::from_secs(90);

/// Signals of the primary, besides its `alb`; looked at every second, so that the test need not wait.
const SIGNALS: &str = r#"
[[app.primary.signal]]
name = "leads-here"
kind = "dns"
expect = "load-balancer"
required = "never"
[[app.primary.signal]]
name = "database-name"
kind = "dns"
host = "db.shop.example.com"
type = "CNAME"
at = ["DNS"]
expect = ["DATABASE"]
[[app.primary.signal]]
name = "port"
kind = "tcp"
connect_to = "BALANCER:PORT"
[[app.primary.signal]]
name = "targets"
kind = "elb-target-health"
target_groups = ["GROUP"]
min_healthy = "50%"
interval = "1s"
[[app.primary.signal]]
name = "hosts"
kind = "cloudwatch"
namespace = "AWS/ApplicationELB"
metric = "HealthyHostCount"
dimensions = { LoadBalancer = "LB", TargetGroup = "TG" }
statistic = "Minimum"
down_when = "< 1"
interval = "1s"
[[app.primary.signal]]
name = "error-rate"
kind = "cloudwatch"
namespace = "AWS/ApplicationELB"
metric = "HTTPCode_ELB_5XX_Count"
per = "RequestCount"
dimensions = { LoadBalancer = "LB" }
statistic = "Sum"
down_when = "> 0.05"
interval = "1s"
[[app.primary.signal]]
name = "machines"
kind = "cloudwatch"
namespace = "AWS/EC2"
metric = "StatusCheckFailed"
dimensions = { AutoScalingGroupName = "shop-primary" }
statistic = "Maximum"
down_when = ">= 1"
interval = "1s"
[[app.primary.signal]]
name = "second-vantage"
kind = "cloudwatch"
region = "us-east-1"
namespace = "AWS/Route53"
metric = "HealthCheckPercentageHealthy"
dimensions = { HealthCheckId = "CHECK" }
down_when = "> 50"
interval = "1s"
[[app.primary.signal]]
name = "own"
kind = "cloudwatch"
namespace = "Own"
metric = "errors"
statistic = "Sum"
down_when = "> 5"
interval = "1s"
[[app.primary.signal]]
name = "alarm"
kind = "alarm"
alarm = "shop-primary-healthy-hosts"
interval = "1s"
[[app.primary.signal]]
name = "composite"
kind = "alarm"
alarm = "broken"
interval = "1s"
[[app.primary.signal]]
name = "no-such-alarm"
kind = "alarm"
alarm = "none"
interval = "1s"
[[app.primary.signal]]
name = "waits"
kind = "rds-replica"
db_instance = "shop-primary"
required = "never"
interval = "1s"

[app.standby]
"#;

/// The daemon, and how to ask it.
struct Watching<'a> {
    _daemon: Child,
    config: &'a Path,
}

fn watchover(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchover"));
    command.env("AWS_ACCESS_KEY_ID", "lab").env("AWS_SECRET_ACCESS_KEY", "lab").env("AWS_EC2_METADATA_DISABLED", "true");
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Watching<'_> {
    /// The primary's signals by name; empty until the daemon listens.
    async fn signals(&self) -> BTreeMap<String, Value> {
        let said = watchover(self.config, &["status", "--json"]).output().await.unwrap();
        let document: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        let signals = document.pointer("/apps/0/sites/primary/signals").and_then(Value::as_array).cloned().unwrap_or_default();
        signals.into_iter().map(|signal| (signal["name"].as_str().unwrap().to_owned(), signal)).collect()
    }

    /// Waits until each of these says what is expected of it: `up`, or `down wrong-address`.
    async fn until(&self, expected: &[(&str, &str)]) -> BTreeMap<String, Value> {
        let start = tokio::time::Instant::now();
        loop {
            let found = self.signals().await;
            let said = |name: &str| {
                let last = &found.get(name)?["last"];
                Some(format!("{} {}", last["verdict"].as_str()?, last["cause"].as_str().unwrap_or_default()).trim().to_owned())
            };
            let wrong: Vec<_> = expected.iter().filter(|(name, words)| said(name).as_deref() != Some(*words)).collect();
            if wrong.is_empty() {
                return found;
            }
            let seen: Vec<_> = wrong.iter().map(|(name, _)| found.get(*name).map(|signal| &signal["last"])).collect();
            assert!(start.elapsed() < LONG, "not within {LONG:?}: {wrong:?}\n{seen:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn config(lab: &Lab, dir: &Path) -> String {
    let a = lab.addresses();
    let options = ConfigOptions { mode: "observe".to_owned(), ..ConfigOptions::default() };
    let arn_end = |arn: &str, after: &str| arn.rsplit(after).next().unwrap().to_owned();
    let balancer = lab.cloud().world().site(SiteName::Primary).balancer.clone();
    let port = a.front_door_port.to_string();
    let values = [
        ("DNS", a.dns.clone()),
        ("DATABASE", a.primary.database_endpoint.clone()),
        ("BALANCER:PORT", format!("{}:{port}", a.primary.load_balancer)),
        ("GROUP", a.primary.target_group_arn.clone()),
        ("LB", arn_end(&balancer.arn, "loadbalancer/")),
        ("TG", arn_end(&balancer.target_group_arn, ":")),
        ("CHECK", a.health_check_ids[0].clone()),
    ];
    let mut signals = SIGNALS.to_owned();
    for (name, value) in values {
        assert!(signals.contains(&format!("\"{name}\"")), "{name}");
        signals = signals.replace(&format!("\"{name}\""), &format!("{value:?}"));
    }
    let text = lab.daemon_config(dir, &options);
    assert_eq!(text.matches("\n[app.standby]\n").count(), 1);
    text.replace("\n[app.standby]\n", &signals)
}

async fn cloudwatch(lab: &Lab) -> aws_sdk_cloudwatch::Client {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(PRIMARY_REGION))
        .endpoint_url(&lab.addresses().aws_endpoint_url)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .load()
        .await;
    aws_sdk_cloudwatch::Client::new(&config)
}

/// A figure of our own, that many seconds ago.
async fn put(cloudwatch: &aws_sdk_cloudwatch::Client, ago: u64, value: f64) {
    let at = SystemTime::now() - Duration::from_secs(ago);
    let datum = MetricDatum::builder().metric_name("errors").value(value).timestamp(at.into()).build();
    cloudwatch.put_metric_data().namespace("Own").metric_data(datum).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_up_in_a_well_world_and_down_with_its_own_reason_in_a_broken_one() {
    let lab = Lab::start(LabSpec { writers: 1, traffic: Traffic::S3Switch, ..LabSpec::default() }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, config(&lab, dir.path())).unwrap();
    let check = watchover(&path, &["check", "--offline"]).output().await.unwrap();
    assert!(check.status.success(), "{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));

    let cloudwatch = cloudwatch(&lab).await;
    put(&cloudwatch, 200, 1.0).await;
    let alarm = cloudwatch.put_metric_alarm().alarm_name("own-errors").namespace("Own").metric_name("errors").statistic(Statistic::Sum);
    let alarm = alarm.period(60).evaluation_periods(1).threshold(5.0).comparison_operator(ComparisonOperator::GreaterThanThreshold);
    alarm.send().await.unwrap();
    let rule = "ALARM(\"own-errors\") AND NOT ALARM(\"shop-primary-healthy-hosts\")";
    cloudwatch.put_composite_alarm().alarm_name("broken").alarm_rule(rule).send().await.unwrap();

    let log = std::fs::File::create(dir.path().join("daemon.log")).unwrap();
    let daemon = watchover(&path, &["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let watching = Watching { _daemon: daemon, config: &path };
    let well = [
        ("leads-here", "up"),
        ("database-name", "up"),
        ("port", "up"),
        ("targets", "up"),
        ("hosts", "up"),
        ("error-rate", "up"),
        ("machines", "up"),
        // The switch's check is inverted: its checkers see no object while all is well.
        ("second-vantage", "up"),
        ("own", "up"),
        ("alarm", "up"),
        ("composite", "up"),
        ("no-such-alarm", "unknown not-found"),
        // On the active site a database that replicates from nothing is what it should be.
        ("waits", "unknown dormant"),
    ];
    let found = watching.until(&well).await;
    assert_eq!(found["waits"]["replication"], "dormant");

    put(&cloudwatch, 130, 9.0).await;
    let first = watching.until(&[("own", "down threshold-crossed"), ("composite", "down alarm")]).await;
    lab.act(&Action::App { site: SiteName::Primary, running: false }).unwrap();
    lab.cloud().world().put_object(names::BUCKET, names::KEY, b"moved".to_vec(), "text/plain", lab.now()).unwrap();
    let broken = watching.until(&[("targets", "down too-few-targets"), ("leads-here", "down wrong-address")]).await;
    let words = broken["targets"]["last"]["detail"].as_str().unwrap();
    assert!(words.contains("4 unhealthy") && words.contains("fails open"), "{words}");

    // It has been read again since, as its interval is a second and the targets alone took one to be ejected.
    assert_ne!(broken["own"]["last"]["sent"], first["own"]["last"]["sent"]);
    assert_eq!((&broken["own"]["downs"], &broken["own"]["health"]), (&1.into(), &"up".into()), "one datapoint is one datapoint");
    put(&cloudwatch, 65, 9.0).await;
    let start = tokio::time::Instant::now();
    while watching.signals().await["own"]["health"] != "down" {
        assert!(start.elapsed() < LONG, "a second datapoint brings it down");
    }
    lab.shutdown().await;
}
