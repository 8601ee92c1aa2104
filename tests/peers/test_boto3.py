"""boto3 drives the lab's wire: every operation that it offers, in the words of a client that we did not write.

The world is read through AWS's own answers wherever AWS has one; world.json only says where the world is.
"""

import json
import pathlib
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError, ConnectionError as NoAnswer, HTTPClientError

from worlds import PRIMARY, STANDBY, THIRD, World, until


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One world for the tests that leave it as it was."""
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.stop()


@pytest.fixture
def own_world(tmp_path):
    """A world of its own, for a test that breaks or moves it for good."""
    world = World(tmp_path)
    yield world
    world.stop()


def refused(code, call, **parameters):
    """The call is refused with that code."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response
    assert error["Error"]["Code"] == code, error
    return error


# Route 53


def zone_of(route53):
    zones = route53.list_hosted_zones()["HostedZones"]
    return next(zone["Id"].removeprefix("/hostedzone/") for zone in zones if zone["Name"] == "example.com.")


def change(route53, zone, *changes):
    batch = {"Changes": [{"Action": action, "ResourceRecordSet": record} for action, record in changes]}
    return route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)["ChangeInfo"]


def in_sync(route53, info):
    until("the change is in sync", lambda: route53.get_change(Id=info["Id"])["ChangeInfo"]["Status"] == "INSYNC")


def text_record(name, value="one"):
    return {"Name": name, "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": f'"{value}"'}]}


def test_route53_zones(world):
    route53 = world.client("route53")
    zone = zone_of(route53)
    assert route53.get_hosted_zone(Id=zone)["HostedZone"]["Name"] == "example.com."
    assert route53.list_hosted_zones_by_name(DNSName="example.com")["HostedZones"][0]["Id"].endswith(zone)
    refused("NoSuchHostedZone", route53.get_hosted_zone, Id="ZNONE")


def test_route53_records_change_as_a_whole_and_page_in_order(world):
    route53 = world.client("route53")
    zone = zone_of(route53)
    records = [text_record(f"{letter}.peers.example.com.") for letter in "abc"]
    info = change(route53, zone, *[("CREATE", record) for record in records])
    assert info["Status"] in ("PENDING", "INSYNC")
    in_sync(route53, info)

    pages = route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone, PaginationConfig={"PageSize": 2})
    names = [record["Name"] for page in pages for record in page["ResourceRecordSets"]]
    assert [name for name in names if ".peers." in name] == [record["Name"] for record in records]
    first = route53.list_resource_record_sets(HostedZoneId=zone, StartRecordName="b.peers.example.com", StartRecordType="TXT", MaxItems="1")
    assert first["ResourceRecordSets"][0]["Name"] == "b.peers.example.com." and first["IsTruncated"]

    # All or nothing: the good half of a bad batch leaves no trace.
    bad = [("UPSERT", text_record("a.peers.example.com.", "two")), ("CREATE", records[1])]
    refused(
        "InvalidChangeBatch",
        route53.change_resource_record_sets,
        HostedZoneId=zone,
        ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record} for action, record in bad]},
    )
    read = route53.list_resource_record_sets(HostedZoneId=zone, StartRecordName="a.peers.example.com", StartRecordType="TXT", MaxItems="1")
    assert read["ResourceRecordSets"][0]["ResourceRecords"] == [{"Value": '"one"'}]

    in_sync(route53, change(route53, zone, *[("DELETE", record) for record in records]))
    missing = {"Changes": [{"Action": "DELETE", "ResourceRecordSet": records[0]}]}
    refused("InvalidChangeBatch", route53.change_resource_record_sets, HostedZoneId=zone, ChangeBatch=missing)
    refused("NoSuchChange", route53.get_change, Id="CNONE")


def test_route53_a_batch_has_a_limit_that_upserts_reach_twice_as_fast(world):
    route53 = world.client("route53")
    zone = zone_of(route53)
    changes = [{"Action": "UPSERT", "ResourceRecordSet": text_record(f"x{number}.peers.example.com.")} for number in range(501)]
    error = refused("InvalidChangeBatch", route53.change_resource_record_sets, HostedZoneId=zone, ChangeBatch={"Changes": changes})
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_route53_throttles_who_asks_faster_than_an_account_may(own_world):
    route53 = own_world.client("route53", paced=False)

    def throttled():
        try:
            route53.list_hosted_zones()
        except ClientError as error:
            return error.response["Error"]["Code"] == "Throttling" and error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return False

    until("a request is throttled", throttled)


def test_route53_weighted_records_keep_their_alias(world):
    route53 = world.client("route53")
    records = route53.list_resource_record_sets(HostedZoneId=zone_of(route53))["ResourceRecordSets"]
    pair = [record for record in records if record["Name"] == "shop.example.com." and record.get("SetIdentifier")]
    assert len(pair) == 2 and all("AliasTarget" in record for record in pair)


def test_route53_health_checks(world):
    route53 = world.client("route53")
    settings = {"Type": "HTTP", "IPAddress": "127.0.1.11", "Port": 9, "ResourcePath": "/healthz", "RequestInterval": 10, "FailureThreshold": 1}
    made = route53.create_health_check(CallerReference=str(uuid.uuid4()), HealthCheckConfig=settings)["HealthCheck"]
    assert made["HealthCheckConfig"]["ResourcePath"] == "/healthz"
    assert made["Id"] in [check["Id"] for check in route53.list_health_checks()["HealthChecks"]]
    changed = route53.update_health_check(HealthCheckId=made["Id"], Inverted=True)["HealthCheck"]["HealthCheckConfig"]
    # What is not named stays.
    assert changed["Inverted"] and changed["ResourcePath"] == "/healthz"
    assert route53.get_health_check(HealthCheckId=made["Id"])["HealthCheck"]["HealthCheckConfig"]["Inverted"]
    assert route53.get_health_check_status(HealthCheckId=made["Id"])["HealthCheckObservations"]
    refused("NoSuchHealthCheck", route53.get_health_check, HealthCheckId=str(uuid.uuid4()))


# RDS


def instance(rds, name):
    return rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]


def test_rds_replica_and_source_know_each_other(world):
    here, there = world.client("rds", STANDBY), world.client("rds", PRIMARY)
    replica, source = instance(here, "shop-replica"), instance(there, "shop-primary")
    assert replica["ReadReplicaSourceDBInstanceIdentifier"] == source["DBInstanceArn"]
    assert replica["StatusInfos"][0]["StatusType"] == "read replication" and replica["StatusInfos"][0]["Normal"]
    assert source["ReadReplicaDBInstanceIdentifiers"]
    assert "shop-replica" in [found["DBInstanceIdentifier"] for page in here.get_paginator("describe_db_instances").paginate() for found in page["DBInstances"]]
    refused("DBInstanceNotFound", here.describe_db_instances, DBInstanceIdentifier="none")
    refused("DBInstanceNotFound", here.promote_read_replica, DBInstanceIdentifier="none")
    refused("InvalidDBInstanceState", there.promote_read_replica, DBInstanceIdentifier="shop-primary")
    refused("InvalidDBInstanceState", there.stop_db_instance, DBInstanceIdentifier="shop-primary")


def test_rds_a_promotion_takes_its_time_and_happens_once(own_world):
    rds = own_world.client("rds", STANDBY)
    rds.promote_read_replica(DBInstanceIdentifier="shop-replica", BackupRetentionPeriod=7)
    refused("InvalidDBInstanceState", rds.promote_read_replica, DBInstanceIdentifier="shop-replica")
    seen = set()

    def promoted():
        found = instance(rds, "shop-replica")
        seen.add(found["DBInstanceStatus"])
        return not found.get("ReadReplicaSourceDBInstanceIdentifier") and found["DBInstanceStatus"] in ("available", "backing-up") and found

    found = until("the promotion is complete", promoted)
    assert seen & {"modifying", "rebooting"}, seen
    assert found["BackupRetentionPeriod"] == 7 and not found.get("StatusInfos")
    refused("InvalidDBInstanceState", rds.promote_read_replica, DBInstanceIdentifier="shop-replica")

    until("the first backup is over", lambda: instance(rds, "shop-replica")["DBInstanceStatus"] == "available")
    rds.modify_db_instance(DBInstanceIdentifier="shop-replica", MultiAZ=True, ApplyImmediately=True)
    until("it is available again", lambda: instance(rds, "shop-replica")["DBInstanceStatus"] == "available")
    rds.reboot_db_instance(DBInstanceIdentifier="shop-replica")
    until("it is available again", lambda: instance(rds, "shop-replica")["DBInstanceStatus"] == "available")

    # The way back: the old primary stops, and a new replica of the new one is made in its region.
    old = own_world.client("rds", PRIMARY)
    old.stop_db_instance(DBInstanceIdentifier="shop-primary")
    until("it has stopped", lambda: instance(old, "shop-primary")["DBInstanceStatus"] == "stopped")
    old.start_db_instance(DBInstanceIdentifier="shop-primary")
    until("it runs again", lambda: instance(old, "shop-primary")["DBInstanceStatus"] == "available")
    source = instance(rds, "shop-replica")["DBInstanceArn"]
    old.create_db_instance_read_replica(DBInstanceIdentifier="shop-back", SourceDBInstanceIdentifier=source)
    until("the new replica is available", lambda: instance(old, "shop-back")["DBInstanceStatus"] == "available")
    old.delete_db_instance(DBInstanceIdentifier="shop-back", SkipFinalSnapshot=True)

    def gone():
        try:
            instance(old, "shop-back")
        except ClientError as error:
            return error.response["Error"]["Code"] == "DBInstanceNotFound"
        return False

    until("it is deleted", gone)


# CloudWatch


LAG = {"Namespace": "AWS/RDS", "MetricName": "ReplicaLag", "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "shop-replica"}]}


def test_cloudwatch_lag_has_a_history_by_the_minute_and_comes_late(world):
    cloudwatch = world.client("cloudwatch")
    now = datetime.now(timezone.utc)
    query = {"Id": "lag", "MetricStat": {"Metric": LAG, "Period": 60, "Stat": "Maximum"}}
    found = cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=now - timedelta(minutes=15), EndTime=now, ScanBy="TimestampAscending")
    series = found["MetricDataResults"][0]
    assert series["StatusCode"] == "Complete" and len(series["Values"]) >= 10
    assert series["Timestamps"] == sorted(series["Timestamps"])
    assert all(at.second == 0 and at.microsecond == 0 for at in series["Timestamps"])
    assert now - series["Timestamps"][-1] >= timedelta(seconds=118)
    points = cloudwatch.get_metric_statistics(**LAG, StartTime=now - timedelta(minutes=15), EndTime=now, Period=60, Statistics=["Maximum"])
    assert len(points["Datapoints"]) >= 10
    assert any(metric["MetricName"] == "ReplicaLag" for metric in cloudwatch.list_metrics(Namespace="AWS/RDS")["Metrics"])


def test_cloudwatch_takes_metrics_and_lists_alarms(world):
    cloudwatch = world.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace="Peers", MetricData=[{"MetricName": "one", "Value": 1.0}])
    until("the metric is listed", lambda: cloudwatch.list_metrics(Namespace="Peers")["Metrics"])
    assert isinstance(cloudwatch.describe_alarms()["MetricAlarms"], list)


def test_cloudwatch_has_what_load_balancers_machines_and_route53_publish(world):
    cloudwatch, balancers = world.client("cloudwatch"), world.client("elbv2")
    group = balancers.describe_target_groups()["TargetGroups"][0]
    balancer = group["LoadBalancerArns"][0]
    dimensions = [
        {"Name": "TargetGroup", "Value": group["TargetGroupArn"].rsplit(":", 1)[1]},
        {"Name": "LoadBalancer", "Value": balancer.split("loadbalancer/")[1]},
    ]

    def newest(namespace, name, dimensions, stat):
        now = datetime.now(timezone.utc)
        query = {"Id": "m", "MetricStat": {"Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}, "Period": 60, "Stat": stat}}
        return cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=now - timedelta(minutes=15), EndTime=now)["MetricDataResults"][0]["Values"][:1]

    assert newest("AWS/ApplicationELB", "HealthyHostCount", dimensions, "Minimum") == [2.0]
    assert newest("AWS/ApplicationELB", "UnHealthyHostCount", dimensions, "Maximum") == [0.0]
    assert newest("AWS/ApplicationELB", "RequestCount", dimensions[1:], "Sum")[0] > 0
    assert newest("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", dimensions[1:], "Sum") == []
    # Not published under the target group alone, so there is nothing.
    assert newest("AWS/ApplicationELB", "HealthyHostCount", dimensions[:1], "Minimum") == []
    assert newest("AWS/EC2", "StatusCheckFailed", [{"Name": "AutoScalingGroupName", "Value": "shop-standby"}], "p99") == [0.0]


def test_cloudwatch_alarms(own_world):
    cloudwatch = own_world.client("cloudwatch")

    def state(name, kind="MetricAlarm"):
        found = cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=[kind])
        (alarm,) = found["MetricAlarms"] + found["CompositeAlarms"]
        return alarm["StateValue"]

    assert state("shop-standby-healthy-hosts") == "OK"
    cloudwatch.put_metric_alarm(
        AlarmName="own", Namespace="Peers", MetricName="errors", Statistic="Sum", Period=60, EvaluationPeriods=2, DatapointsToAlarm=1, Threshold=5, ComparisonOperator="GreaterThanThreshold"
    )
    assert state("own") == "INSUFFICIENT_DATA"
    cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule='ALARM("own") OR ALARM("shop-standby-healthy-hosts")')
    cloudwatch.put_metric_data(Namespace="Peers", MetricData=[{"MetricName": "errors", "Value": 9.0}])
    assert state("own") == "ALARM" and state("both", "CompositeAlarm") == "ALARM"
    # Composite alarms are left out unless they are asked for.
    assert cloudwatch.describe_alarms(AlarmNames=["both"])["CompositeAlarms"] == []
    assert [one["AlarmName"] for one in cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]] == ["own"]
    cloudwatch.set_alarm_state(AlarmName="own", StateValue="OK", StateReason="drill")
    refused("ResourceNotFound", cloudwatch.set_alarm_state, AlarmName="none", StateValue="OK", StateReason="drill")
    refused("ValidationError", cloudwatch.put_composite_alarm, AlarmName="bad", AlarmRule="ALARM(own")
    cloudwatch.delete_alarms(AlarmNames=["both", "own"])
    refused("ResourceNotFound", cloudwatch.delete_alarms, AlarmNames=["own"])


# Auto Scaling and load balancers


def group(scaling, name):
    return scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]


def in_service(scaling, name):
    return [one for one in group(scaling, name)["Instances"] if one["LifecycleState"] == "InService" and one["HealthStatus"] == "Healthy"]


def test_autoscaling_sizes(own_world):
    scaling = own_world.client("autoscaling")
    scaling.update_auto_scaling_group(AutoScalingGroupName="shop-standby", MinSize=3, MaxSize=5, DesiredCapacity=3)
    until("three are in service", lambda: len(in_service(scaling, "shop-standby")) == 3)
    scaling.set_desired_capacity(AutoScalingGroupName="shop-standby", DesiredCapacity=4)
    until("four are in service", lambda: len(in_service(scaling, "shop-standby")) == 4)
    refused("ValidationError", scaling.set_desired_capacity, AutoScalingGroupName="shop-standby", DesiredCapacity=6)
    refused("ValidationError", scaling.set_desired_capacity, AutoScalingGroupName="none", DesiredCapacity=1)
    assert scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["none"])["AutoScalingGroups"] == []
    assert scaling.describe_scaling_activities(AutoScalingGroupName="shop-standby")["Activities"]

    scaling.suspend_processes(AutoScalingGroupName="shop-standby", ScalingProcesses=["Launch"])
    assert [one["ProcessName"] for one in group(scaling, "shop-standby")["SuspendedProcesses"]] == ["Launch"]
    scaling.resume_processes(AutoScalingGroupName="shop-standby", ScalingProcesses=["Launch"])
    assert group(scaling, "shop-standby")["SuspendedProcesses"] == []

    victim = in_service(scaling, "shop-standby")[0]["InstanceId"]
    assert victim in [one["InstanceId"] for one in scaling.describe_auto_scaling_instances()["AutoScalingInstances"]]
    scaling.terminate_instance_in_auto_scaling_group(InstanceId=victim, ShouldDecrementDesiredCapacity=False)

    def replaced():
        names = [one["InstanceId"] for one in in_service(scaling, "shop-standby")]
        return len(names) == 4 and victim not in names

    until("the instance is replaced", replaced)


def test_load_balancers_and_their_targets(world):
    balancers = world.client("elbv2")
    found = balancers.describe_load_balancers()["LoadBalancers"]
    assert any("standby-alb" in one["DNSName"] for one in found)
    targets = balancers.describe_target_groups(LoadBalancerArn=found[0]["LoadBalancerArn"])["TargetGroups"]
    health = balancers.describe_target_health(TargetGroupArn=targets[0]["TargetGroupArn"])["TargetHealthDescriptions"]
    assert health and all(one["TargetHealth"]["State"] for one in health)
    own = world.client("elbv2", PRIMARY).describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    assert [one["TargetHealth"]["State"] for one in world.client("elbv2", PRIMARY).describe_target_health(TargetGroupArn=own)["TargetHealthDescriptions"]] == ["healthy"] * 4
    refused("TargetGroupNotFound", balancers.describe_target_health, TargetGroupArn=targets[0]["TargetGroupArn"] + "none")


# S3, SNS, STS


def anonymous(world, path, expected):
    try:
        with urllib.request.urlopen(f"{world.endpoint}{path}", timeout=10) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status in expected, f"{path}: {status}"


def test_s3_objects(world):
    s3 = world.client("s3", THIRD)
    bucket, key = "shop-failover-switch", f"peers/{uuid.uuid4()}"
    assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == THIRD
    s3.head_bucket(Bucket=bucket)
    refused("404", s3.head_object, Bucket=bucket, Key=key)
    refused("NoSuchKey", s3.get_object, Bucket=bucket, Key=key)
    # Newer SDKs send a checksum with every body; the object must be what was sent, not how it was sent.
    s3.put_object(Bucket=bucket, Key=key, Body=b"moved")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"moved"
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == 5
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix="peers/")["Contents"]] == [key]
    anonymous(world, f"/{bucket}/{key}", (200, 403))
    s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_object(Bucket=bucket, Key=key)
    refused("404", s3.head_object, Bucket=bucket, Key=key)
    anonymous(world, f"/{bucket}/{key}", (403, 404))
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="none-such-bucket")


def test_s3_public_access(world):
    s3 = world.client("s3", THIRD)
    bucket = "shop-failover-switch"
    before = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=before)
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == before
    statements = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert [(one["Effect"], one["Principal"], one["Action"]) for one in statements] == [("Allow", "*", "s3:GetObject")]
    assert isinstance(s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"], bool)


def test_sns_topics(world):
    sns = world.client("sns")
    topic = sns.create_topic(Name="peers")["TopicArn"]
    assert topic == sns.create_topic(Name="peers")["TopicArn"]
    assert topic in [one["TopicArn"] for one in sns.list_topics()["Topics"]]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.com")
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"][0]["Endpoint"] == "ops@example.com"
    assert sns.publish(TopicArn=topic, Message="moved")["MessageId"]
    refused("NotFound", sns.publish, TopicArn=topic + "none", Message="moved")


def test_sts_says_who_we_are(world):
    sts = world.client("sts")
    assert sts.get_caller_identity()["Account"].isdigit()
    taken = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/watchover", RoleSessionName="peers", ExternalId="peers")
    assert taken["Credentials"]["AccessKeyId"] and taken["AssumedRoleUser"]["Arn"].endswith("/peers")


# Faults


def test_an_unknown_operation_is_a_client_error(world):
    refused("InvalidAction", world.client("rds").describe_db_clusters)


def test_faults_answer_as_told_and_end(world):
    rds = world.client("rds")
    rule = {"service": "rds", "region": STANDBY, "operation": "DescribeDBInstances", "action": "answer", "status": 400, "code": "Throttling", "message": "Rate exceeded", "times": 1}
    world.control("/fault", rule)
    refused("Throttling", rds.describe_db_instances)
    rds.describe_db_instances()
    world.control("/faults", method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as caught:
        world.control("/region", {"region": STANDBY, "dark": False, "drak": True})
    assert caught.value.code == 400 and b"drak" in caught.value.read()


def test_a_dark_region_is_silent_and_the_others_are_not(own_world):
    impatient = own_world.client("rds", PRIMARY, read_timeout=1)
    instance(impatient, "shop-primary")
    own_world.control("/region", {"region": PRIMARY, "dark": True})
    with pytest.raises((NoAnswer, HTTPClientError)):
        instance(impatient, "shop-primary")
    instance(own_world.client("rds", STANDBY), "shop-replica")
    assert zone_of(own_world.client("route53"))
    own_world.control("/region", {"region": PRIMARY, "dark": False})
    instance(impatient, "shop-primary")


def test_the_config_beside_the_world_names_it(world):
    folder = pathlib.Path(world.log.name).parent
    assert world.endpoint in (folder / "config.toml").read_text()
