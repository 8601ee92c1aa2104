"""`aws`, the real command line, drives the lab's wire: in the documents' own examples, and as the break-glass script."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from worlds import BINARY, ENVIRONMENT, PRIMARY, ROOT, STANDBY, Daemon, World, need, until


@pytest.fixture
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.stop()


def folder_of(world):
    return pathlib.Path(world.log.name).parent


@pytest.fixture
def shell(tmp_path):
    """Runs a script as somebody would who has `aws` and `watchover` in the path and nothing else set."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/watchover").symlink_to(BINARY)
    (tmp_path / "bin/aws").symlink_to(pathlib.Path(sys.executable).parent / "aws")
    assert (tmp_path / "bin/aws").exists(), "the virtual environment has no aws; `make test` installs it"
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    bare = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("AWS_", "WATCHOVER_"))} | {"PATH": path}
    # The machine's own settings stay out of it; the rest is the examples' own business.
    bare |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}

    def run(script, **variables):
        return subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=bare | variables, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=420)

    return run


def blocks(document, marker):
    """The indented and fenced blocks of a document that mention this, in order."""
    found, block, fenced = [], [], False
    for line in [*(ROOT / document).read_text().splitlines(), ""]:
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            block.append(line if fenced else line[4:])
            continue
        found.append("\n".join(block))
        block = []
    return [block for block in found if marker in block]


def runnable(block):
    """What ends by itself: the world and the daemon are started by the test, which must see them end."""
    lines = [re.sub(r"\s+#.*$", "", line) for line in block.splitlines()]
    return "\n".join(line for line in lines if not re.search(r"--world-only|watchover --config \S+ run$", line))


def documents(text):
    """The JSON documents that stand one after another in an output, whatever stands between them."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while (start := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, start)
            found.append(value)
        except ValueError:
            at = start + 1
    return found


@pytest.mark.parametrize(("document", "named"), [("README.md", "/tmp/world"), ("docs/lab.md", "DIR/")])
def test_the_examples_of_the_documents_work_as_they_stand(world, shell, document, named):
    need("jq", "jq"), need("curl", "curl")
    place = str(folder_of(world))
    found = blocks(document, "watchover --config " + named) + blocks(document, "aws_endpoint_url " + named)
    found = list(dict.fromkeys(found))
    script = "\n".join(runnable(block) for block in found).replace(named.rstrip("/"), place)
    assert "aws --endpoint-url" in script and "curl -X POST" in script and "export AWS_ACCESS_KEY_ID" in script, script
    # The third terminal of README asks the daemon that the second one started.
    daemon = Daemon(folder_of(world) / "config.toml")
    try:
        done = shell(script)
        assert done.returncode == 0, f"{script}\n--\n{done.stdout}\n{done.stderr}"
        answers = documents(done.stdout)
        databases = [one for one in answers if "DBInstances" in one]
        assert databases and databases[0]["DBInstances"][0]["DBInstanceIdentifier"] == "shop-replica", done.stdout
        assert {"ok": True} in answers, done.stdout
        assert any(event["kind"] == "region-dark" for event in json.loads(world.control("/events", method="GET")))
        if document == "README.md":
            sets = next(one for one in answers if "ResourceRecordSets" in one)["ResourceRecordSets"]
            assert {one["Name"] for one in sets} >= {"shop.example.com.", "db.shop.example.com."}
            assert "0 findings" in done.stdout and "shop " in done.stdout, done.stdout
    finally:
        daemon.stop()


def test_the_break_glass_script_does_the_move(world, shell):
    """What a person would run without us: printed beforehand, run while nothing of ours is there to help."""
    config = folder_of(world) / "config.toml"
    printed = shell(f"watchover --config {shlex.quote(str(config))} plan shop --format aws-cli", AWS_ACCESS_KEY_ID="lab", AWS_SECRET_ACCESS_KEY="lab")
    assert printed.returncode == 0, printed.stderr
    script = printed.stdout
    assert script.startswith("#!"), script
    world.control("/region", {"region": PRIMARY, "dark": True})

    ran = shell(script, AWS_ENDPOINT_URL=world.endpoint, AWS_ACCESS_KEY_ID="lab", AWS_SECRET_ACCESS_KEY="lab", AWS_EC2_METADATA_DISABLED="true")
    assert ran.returncode == 0, f"{script}\n--\n{ran.stdout}\n{ran.stderr}"

    rds, scaling, route53 = world.client("rds", STANDBY), world.client("autoscaling", STANDBY), world.client("route53")

    def promoted():
        found = rds.describe_db_instances(DBInstanceIdentifier="shop-replica")["DBInstances"][0]
        return not found.get("ReadReplicaSourceDBInstanceIdentifier") and found["DBInstanceStatus"] in ("available", "backing-up")

    until("the replica is promoted", promoted)

    def large_enough():
        group = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["shop-standby"])["AutoScalingGroups"][0]
        return group["DesiredCapacity"] == 4 and len([one for one in group["Instances"] if one["LifecycleState"] == "InService"]) == 4

    until("the standby is large enough", large_enough)
    zone = world.tree["zone_id"]
    sets = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    weights = {one["SetIdentifier"]: one["Weight"] for one in sets if one["Name"] == "shop.example.com." and "SetIdentifier" in one}
    assert weights == {"primary": 0, "standby": 100}
    database = next(one for one in sets if one["Name"] == "db.shop.example.com.")
    assert "shop-replica" in database["ResourceRecords"][0]["Value"]
    events = json.loads(world.control("/events", method="GET"))
    kinds = [event["kind"] for event in events]
    assert kinds.count("promotion-accepted") == 1
    # Data before traffic, by the hand of a person too.
    assert kinds.index("promoted") < kinds.index("records-changed"), kinds
    assert json.loads(world.control("/violations", method="GET")) == []
