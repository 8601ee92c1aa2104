"""A world that the lab has no part in: AWS is an emulator by others, names and sites are a few lines of Python.

What users reach follows from what stands in the emulator, read back by boto3, and from nothing else.
"""

import http.server
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from worlds import PRIMARY, STANDBY, THIRD, fetch, free_port, until

SITES = {"primary": (PRIMARY, "127.0.7.11"), "standby": (STANDBY, "127.0.7.12")}
BUCKET, KEY = "shop-failover-switch", "shop/failed-over"


def program(name):
    """A program of the emulators' own environment: ministack pins another botocore than ours."""
    found = os.environ.get("WATCHOVER_EMULATORS") or str(pathlib.Path(sys.prefix).parent / "emulators")
    path = pathlib.Path(found) / "bin" / name
    if not path.exists():
        word = f"{path} is missing; `make test` installs it"
        pytest.fail(word) if os.environ.get("CI") == "true" else pytest.skip(word)
    return str(path)


class Emulator:
    """A running emulator of AWS, on loopback alone."""

    def __init__(self, name, folder):
        port = free_port()
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        environment = os.environ | {"AWS_ACCESS_KEY_ID": "peers", "AWS_SECRET_ACCESS_KEY": "peers"}
        if name == "moto":
            command = [program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        else:
            command = [program("ministack")]
            # Without BIND_HOST it listens to the whole network.
            environment |= {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "PERSIST_STATE": "0"}
        self.path = folder / f"{name}.log"
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            until(f"{name} answers", self.answers, 90)
        except BaseException:
            self.stop()
            raise

    def answers(self):
        assert self.process.poll() is None, f"{self.name} ended:\n{self.path.read_text()[-2000:]}"
        try:
            return self.client("sts").get_caller_identity()["Account"]
        except Exception:  # noqa: BLE001 - whatever it is, it is asked again until the deadline
            return None

    def client(self, service, region=STANDBY):
        settings = Config(connect_timeout=5, read_timeout=90, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        return boto3.client(service, region_name=region, endpoint_url=self.url, aws_access_key_id="lab", aws_secret_access_key="lab", config=settings)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Site(http.server.BaseHTTPRequestHandler):
    """One site: it is well, and says where it is."""

    region = ""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.send_response(200)
        self.send_header("x-region", self.region)
        self.send_header("content-length", "3")
        self.end_headers()
        try:
            self.wfile.write(b"" if self.command == "HEAD" else b"ok\n")
        except OSError:
            # Whoever asked has left.
            pass

    def log_message(self, *_):
        pass


class Surroundings:
    """Two sites, a witness and a name server, around an emulator."""

    def __init__(self, emulator, switch):
        self.emulator, self.switch = emulator, switch
        self.servers, self.open = [], True
        self.port = self.listen("127.0.7.11", 0, PRIMARY)
        self.listen("127.0.7.12", self.port, STANDBY)
        self.witness = self.listen("127.0.0.1", 0, "witness")
        self.names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.names.bind(("127.0.0.1", 0))
        self.names.settimeout(0.2)
        self.dns = "127.0.0.1:%d" % self.names.getsockname()[1]
        self.thread = threading.Thread(target=self.answer_names, daemon=True)
        self.thread.start()

    def listen(self, address, port, region):
        server = http.server.ThreadingHTTPServer((address, port), type("Here", (Site,), {"region": region}))
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        self.servers.append(server)
        return server.server_address[1]

    def serves(self):
        """The site that users are sent to, as Route 53 would say by what the emulator holds."""
        if self.switch:
            try:
                self.emulator.client("s3", THIRD).head_object(Bucket=BUCKET, Key=KEY)
                return "standby"
            except ClientError:
                return "primary"
        weights = {one["SetIdentifier"]: one["Weight"] for one in self.records() if one["Name"] == "shop.example.com." and "Weight" in one}
        return max(weights, key=weights.get)

    def records(self):
        route53 = self.emulator.client("route53")
        return route53.list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]

    def answer_names(self):
        while self.open:
            try:
                asked, peer = self.names.recvfrom(512)
                self.names.sendto(self.answer(asked), peer)
            except TimeoutError:
                continue
            except OSError:
                return

    def answer(self, asked):
        """An A record that lives for a second; every other type has none."""
        at, labels = 12, []
        while asked[at]:
            labels.append(asked[at + 1 : at + 1 + asked[at]].decode().lower())
            at += 1 + asked[at]
        kind = struct.unpack("!H", asked[at + 1 : at + 3])[0]
        question, name = asked[12 : at + 5], ".".join(labels)
        site = self.serves() if name == "shop.example.com" else next((one for one in SITES if name.startswith(one + "-alb")), None)
        head = asked[:2] + struct.pack("!HHHHH", 0x8580 if site else 0x8583, 1, int(kind == 1 and site is not None), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(SITES[site][1]) if site and kind == 1 else b""
        return head + question + record

    def stop(self):
        self.open = False
        self.thread.join(5)
        self.names.close()
        for server in self.servers:
            server.shutdown()
            server.server_close()


def furnish(around):
    """What the app has in AWS, made by boto3."""
    emulator = around.emulator
    route53 = emulator.client("route53")
    around.zone = route53.create_hosted_zone(Name="example.com", CallerReference="peers")["HostedZone"]["Id"].removeprefix("/hostedzone/")
    check = None
    if around.switch:
        settings = {"Type": "HTTP", "FullyQualifiedDomainName": f"{BUCKET}.s3.{THIRD}.amazonaws.com", "Port": 80, "ResourcePath": f"/{KEY}", "RequestInterval": 10, "FailureThreshold": 1, "Inverted": True}
        check = route53.create_health_check(CallerReference="peers", HealthCheckConfig=settings)["HealthCheck"]["Id"]
        s3 = emulator.client("s3", THIRD)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": THIRD})
        policy = f'{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::{BUCKET}/{KEY}"}}]}}'
        s3.put_bucket_policy(Bucket=BUCKET, Policy=policy)
    around.check = check
    changes = []
    for name, (_, address) in SITES.items():
        record = {"Name": "shop.example.com.", "Type": "A", "SetIdentifier": name, "TTL": 1, "ResourceRecords": [{"Value": address}]}
        if around.switch:
            record["Failover"] = "PRIMARY" if name == "primary" else "SECONDARY"
            if name == "primary":
                record["HealthCheckId"] = check
        else:
            record["Weight"] = 100 if name == "primary" else 0
        # Not CREATE: moto refuses a second CREATE of the same record even behind a DELETE of it, as a failback's is.
        changes.append({"Action": "UPSERT", "ResourceRecordSet": record})
    route53.change_resource_record_sets(HostedZoneId=around.zone, ChangeBatch={"Changes": changes})
    for name, (region, _) in SITES.items():
        scaling = emulator.client("autoscaling", region)
        scaling.create_launch_configuration(LaunchConfigurationName="shop", ImageId="ami-12c6146b", InstanceType="t3.micro")
        size = 4 if name == "primary" else 2
        scaling.create_auto_scaling_group(AutoScalingGroupName=f"shop-{name}", LaunchConfigurationName="shop", MinSize=1, MaxSize=size, DesiredCapacity=size, AvailabilityZones=[region + "a"])
    around.account = emulator.client("sts").get_caller_identity()["Account"]


TRAFFIC = '''kind = "route53-records"
zone_id = "{zone}"
records = [
  {{ name = "shop.example.com", type = "A", set_identifier = "primary", weight = 0 }},
  {{ name = "shop.example.com", type = "A", set_identifier = "standby", weight = 100 }},
]
'''
SWITCH = '''kind = "s3-switch"
bucket = "{bucket}"
key = "{key}"
region = "{third}"
health_check_id = "{check}"
zone_id = "{zone}"
record = "shop.example.com"
pin = true
'''


def write_config(around, folder, extra_steps="", signals=""):
    """A config for a daemon in this world."""
    traffic = (SWITCH if around.switch else TRAFFIC).format(zone=around.zone, check=around.check, bucket=BUCKET, key=KEY, third=THIRD)
    after = ', "promote"' if 'name = "promote"' in extra_steps else ""
    text = f'''[daemon]
observer = "peers"
listen = "127.0.0.1:0"
admin_socket = "{folder}/admin.sock"
state_dir = "{folder}/state"
[aws]
endpoint_url = "{around.emulator.url}"
call_timeout = "10s"
[witness]
urls = ["http://127.0.0.1:{around.witness}/"]
[dns]
resolvers = ["{around.dns}"]
authoritative = {{ "example.com" = ["{around.dns}"] }}
[[app]]
name = "shop"
mode = "observe"
on_rpo_exceeded = "proceed"
startup_grace = "1s"
prove_timeout = "60s"
[app.front_door]
url = "http://shop.example.com:{around.port}/healthz"
'''
    # Sites of Python answer late on a busy machine.
    text += '[app.probe]\ntimeout = "5s"\n'
    for name, (region, _) in SITES.items():
        balancer = f"{name}-alb.{region}.elb.amazonaws.com"
        text += f'''[app.{name}]
region = "{region}"
load_balancer = "{balancer}"
marker = {{ header = "x-region", value = "{region}" }}
[[app.{name}.signal]]
name = "alb"
kind = "http"
url = "http://shop.example.com:{around.port}/healthz"
connect_to = "{balancer}:{around.port}"
'''
    text += f'''{signals}
[[app.failover]]
name = "fence"
kind = "fence-primary"
group = "shop-primary"
{extra_steps}
[[app.failover]]
name = "capacity"
kind = "autoscaling-capacity"
group = "shop-standby"
desired = 4
after = []
[[app.failover]]
name = "traffic"
after = ["fence", "capacity"{after}]
{traffic}
[[app.failback]]
name = "traffic"
{traffic.replace('weight = 100', 'weight = -1').replace('weight = 0', 'weight = 100').replace('weight = -1', 'weight = 0')}'''
    path = pathlib.Path(folder) / "config.toml"
    path.write_text(text)
    return path
