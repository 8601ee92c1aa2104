"""The daemon's own adapters against moto and ministack, where these are right; and where they are wrong, that we see it.

docs/peers.md lists the known differences. Each test says which of the two it runs against.
"""

import concurrent.futures
import json

import pytest
from botocore.exceptions import ClientError

from emulated import BUCKET, KEY, Emulator, Surroundings, furnish, write_config
from worlds import PRIMARY, STANDBY, THIRD, Daemon, until

BOTH = ("moto", "ministack")


@pytest.fixture
def around(request, tmp_path):
    """An emulator with the app in it; the parameter names it, and whether traffic hangs on the switch."""
    name, switch = request.param
    emulator = Emulator(name, tmp_path)
    try:
        surroundings = Surroundings(emulator, switch)
        try:
            furnish(surroundings)
            yield surroundings
        finally:
            surroundings.stop()
    finally:
        emulator.stop()


def cases(*names, switch=False):
    return pytest.mark.parametrize("around", [(name, switch) for name in names], indirect=True, ids=list(names))


@pytest.fixture
def daemons():
    """Starts daemons, and ends them however the test ends."""
    running = []

    def start(config):
        running.append(Daemon(config, ready=False))
        daemon = running[-1]
        until("the sites are known", lambda: daemon.ready(), 90)
        return daemon

    yield start
    for daemon in running:
        daemon.stop()


def steps_of(daemon):
    """The steps of the incident that is open, by name."""
    incident = daemon.app().get("incident") or {}
    return {step["name"]: step["state"] for step in incident.get("steps", [])}


def in_service(around, group, region):
    found = around.emulator.client("autoscaling", region).describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]
    return found, [one for one in found["Instances"] if one["LifecycleState"] == "InService"]


def moved_there(around, daemon):
    done = daemon.command("failover", "shop", "--reason", "peers", "--force", "--accept-data-loss", "any")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{daemon.app().get('incident')}\n{daemon.said()[-2000:]}"
    until("the move is closed", lambda: daemon.app().get("active_site") == "standby" and daemon.app().get("state") == "watching")
    assert around.serves() == "standby"
    # Capacity and fence, as a client that we did not write reads them.
    group, instances = in_service(around, "shop-standby", STANDBY)
    assert (group["DesiredCapacity"], group["MinSize"], group["MaxSize"], len(instances)) == (4, 4, 4, 4)
    group, instances = in_service(around, "shop-primary", PRIMARY)
    assert (group["DesiredCapacity"], len(instances)) == (0, 0)


@cases(*BOTH)
def test_records_capacity_and_fence(around, tmp_path, daemons):
    config = write_config(around, tmp_path)
    daemon = daemons(config)
    checked = daemon.command("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"arn:aws:" in checked.stdout and around.account in checked.stdout, checked.stdout
    for step in ("fence", "capacity", "traffic"):
        assert f"step {step}: it can be done" in checked.stdout, checked.stdout
    plan = json.loads(daemon.command("plan", "shop", "--json").stdout)
    words = json.dumps(plan)
    assert "ChangeResourceRecordSets" in words and "UpdateAutoScalingGroup" in words, words
    before = {one["SetIdentifier"]: one for one in around.records() if "SetIdentifier" in one}

    moved_there(around, daemon)
    after = {one["SetIdentifier"]: one for one in around.records() if "SetIdentifier" in one}
    # What was named has changed, and nothing else of the records.
    assert after == {"primary": before["primary"] | {"Weight": 0}, "standby": before["standby"] | {"Weight": 100}}


@cases(*BOTH, switch=True)
def test_the_switch_there_and_back(around, tmp_path, daemons):
    s3 = around.emulator.client("s3", THIRD)
    with pytest.raises(ClientError):
        s3.head_object(Bucket=BUCKET, Key=KEY)
    daemon = daemons(write_config(around, tmp_path))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        move = pool.submit(moved_there, around, daemon)
        if around.emulator.name == "moto":
            # moto knows the policy that opens the object to the world, and asks its ACL all the same.
            until("the object is put", lambda: move.done() or around.serves() == "standby", 180)
            s3.put_object_acl(Bucket=BUCKET, Key=KEY, ACL="public-read")
        move.result()
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"traffic is on the standby site\n"
    assert s3.head_object(Bucket=BUCKET, Key=KEY)["ContentType"] == "text/plain"
    roles = lambda: {one["SetIdentifier"]: (one["Failover"], one.get("HealthCheckId")) for one in around.records() if "Failover" in one}
    until("the records are pinned", lambda: roles() == {"primary": ("SECONDARY", None), "standby": ("PRIMARY", None)})

    # Its plan is inspected by and by; until then the gate says so.
    until("the way back is inspected", lambda: next(gate for gate in daemon.app()["gates"] if gate["name"] == "preflight")["state"] == "open")
    done = daemon.command("failback", "shop", "--reason", "peers", "--force")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{daemon.said()[-2000:]}"
    assert roles() == {"primary": ("PRIMARY", around.check), "standby": ("SECONDARY", None)}
    with pytest.raises(ClientError) as gone:
        s3.head_object(Bucket=BUCKET, Key=KEY)
    assert gone.value.response["Error"]["Code"] in ("404", "403")


def replica(around):
    """A database and its replica in the other region, as far as moto has them."""
    source = around.emulator.client("rds", PRIMARY).create_db_instance(
        DBInstanceIdentifier="shop-primary", Engine="postgres", DBInstanceClass="db.t3.medium", AllocatedStorage=20, MasterUsername="root", MasterUserPassword="hunter22"
    )["DBInstance"]["DBInstanceArn"]
    around.emulator.client("rds", STANDBY).create_db_instance_read_replica(DBInstanceIdentifier="shop-replica", SourceDBInstanceIdentifier=source, SourceRegion=PRIMARY)


PROMOTE = '''[[app.failover]]
name = "promote"
kind = "rds-promote-replica"
db_instance = "shop-replica"
drain = "1s"
deadline = "6s"
attempts = 1
'''


SIGNAL = '''[[app.standby.signal]]
name = "replica"
kind = "rds-replica"
db_instance = "shop-replica"
required = "never"
interval = "1s"
'''


@cases("moto")
def test_a_promotion_that_only_says_yes_is_not_believed(around, tmp_path, daemons):
    """moto answers 200 to PromoteReadReplica and leaves the link as it was: success is what is read back."""
    replica(around)
    daemon = daemons(write_config(around, tmp_path, PROMOTE, SIGNAL))
    plan = daemon.command("plan", "shop", "--json")
    assert "PromoteReadReplica" in plan.stdout, plan.stdout + plan.stderr
    done = daemon.command("failover", "shop", "--reason", "peers", "--force", "--accept-data-loss", "any")
    assert done.returncode != 0, done.stdout
    until("the move is stuck", lambda: daemon.app().get("state") == "stuck", 60)
    steps = steps_of(daemon)
    assert steps["promote"] == "failed" and steps["traffic"] not in ("verified", "asked"), steps
    # Users stay where their data is.
    assert around.serves() == "primary"
    metrics = daemon.get("/metrics")
    assert 'operation="PromoteReadReplica",outcome="ok",service="rds"} 1' in metrics, [line for line in metrics.splitlines() if "PromoteReadReplica" in line]


@cases("moto")
def test_a_lag_that_cannot_be_asked_for_is_unknown(around, tmp_path, daemons):
    """moto has no CBOR, which is what the SDK speaks to CloudWatch: that is ignorance, neither a lag nor an outage."""
    replica(around)
    daemon = daemons(write_config(around, tmp_path, signals=SIGNAL))
    signal = lambda: next(one for one in daemon.app()["sites"]["standby"]["signals"] if one["name"] == "replica")
    until("the signal was looked at", lambda: signal()["last"])
    assert signal()["last"]["verdict"] == "unknown", signal()
    assert daemon.app()["replication"] is None if "replication" in daemon.app() else True


@cases("ministack")
def test_cloudwatch_is_read_over_cbor(around, tmp_path, daemons):
    """ministack speaks CBOR. It has no replicas across regions, and says so of the instance: `not-a-replica`."""
    around.emulator.client("rds", STANDBY).create_db_instance(DBInstanceIdentifier="shop-replica", Engine="postgres", DBInstanceClass="db.t3.medium", AllocatedStorage=20, MasterUsername="root", MasterUserPassword="hunter22")
    daemon = daemons(write_config(around, tmp_path, signals=SIGNAL))
    signal = lambda: next(one for one in daemon.app()["sites"]["standby"]["signals"] if one["name"] == "replica")
    until("the signal was looked at", lambda: signal()["last"])
    until("CloudWatch has answered", lambda: 'operation="GetMetricData",outcome="ok",service="cloudwatch"}' in daemon.get("/metrics"))
    assert signal()["last"]["verdict"] != "up", signal()
