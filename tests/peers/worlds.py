"""What the peers stand on: a world of the lab, a daemon in it, and patience with a deadline."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config

PRIMARY, STANDBY, THIRD = "ap-south-1", "us-east-1", "eu-west-1"
ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ["WATCHOVER_BIN"]
# The lab verifies no signature, but SDKs ask nobody without some.
ENVIRONMENT = os.environ | {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}


def need(program, package):
    """The path of a program that a distribution's package brings; without it a test is skipped, under CI=true it fails."""
    found = shutil.which(program)
    if not found:
        word = f"{program} is missing; `make test` installs it where apt-get may (package {package})"
        pytest.fail(word) if os.environ.get("CI") == "true" else pytest.skip(word)
    return found


def free_port():
    """A port that is free now, for programs that take no 0; who loses the race fails by name."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def fetch(url, data=None, method=None, timeout=10):
    """One request's body; an error status raises."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


def until(what, question, seconds=30.0):
    """Asks until the answer is true; a deadline, never a fixed sleep."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def find(tree, *names):
    """The first text under one of these keys, anywhere in world.json; names are tried in order."""
    def walk(node, name):
        if isinstance(node, dict):
            if isinstance(node.get(name), str):
                return node[name]
            node = list(node.values())
        if isinstance(node, list):
            return next((found for found in (walk(item, name) for item in node) if found), None)
        return None

    found = next((text for text in (walk(tree, name) for name in names) if text), None)
    assert found, f"world.json names none of {names}"
    return found


class World:
    """A running `watchover lab --world-only`."""

    def __init__(self, folder):
        self.log = open(folder / "log", "wb")
        command = [os.environ["WATCHOVER_BIN"], "lab", "--world-only", "--dir", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        path = folder / "world.json"

        def written():
            assert self.process.poll() is None, f"the lab ended:\n{(folder / 'log').read_text()}"
            try:
                return json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                return None

        try:
            self.tree = until("world.json is written", written, 60)
        except BaseException:
            self.stop()
            raise
        self.endpoint = find(self.tree, "endpoint_url", "aws_endpoint_url", "aws")
        self.next_route53 = 0.0
        self.control_url = find(self.tree, "control_url", "control").rstrip("/")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def client(self, service, region=STANDBY, paced=True, **settings):
        settings = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}} | settings
        client = boto3.client(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(**settings),
        )
        if service == "route53" and paced:
            client.meta.events.register("before-send.route53", self.pace)
        return client

    def pace(self, **_):
        """Route 53 takes five requests a second from an account, at AWS and here."""
        time.sleep(max(0.0, self.next_route53 - time.monotonic()))
        self.next_route53 = time.monotonic() + 0.21

    def control(self, path, body=None, method="POST"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control_url + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()


class Daemon:
    """A running `watchover run`."""

    def __init__(self, config, ready=True):
        self.config = pathlib.Path(config)
        self.path = self.config.parent / "daemon.log"
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen([BINARY, "--config", str(config), "run"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=ENVIRONMENT)
        try:
            self.address = until("the daemon listens", self.listens, 60)
            if ready:
                until("every gate is open", lambda: self.ready() and self.app()["ruling"] == "go", 90)
        except BaseException:
            self.stop()
            raise

    def said(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", self.path.read_text())

    def listens(self):
        assert self.process.poll() is None, f"the daemon ended:\n{self.said()}"
        found = re.search(r"listen=(\S+)", self.said())
        return found and found.group(1)

    def get(self, path):
        return fetch(f"http://{self.address}{path}").decode()

    def ready(self):
        try:
            return bool(self.get("/readyz"))
        except urllib.error.HTTPError:
            return False

    def app(self):
        apps = (json.loads(self.get("/api/v1/status")) or {}).get("apps") or [{}]
        return apps[0] or {"ruling": None}

    def command(self, *args):
        """A command beside it, with the same config."""
        return subprocess.run([BINARY, "--config", str(self.config), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT, timeout=240)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def moved(daemon, seconds=90):
    """Waits until the app is at the standby and all is quiet again."""
    def there():
        app = daemon.app()
        return app.get("active_site") == "standby" and app.get("state") == "watching"

    until("the app has moved to the standby", there, seconds)
