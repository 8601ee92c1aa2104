"""A real browser looks at the live page while a move runs: what it shows, what it loads, and what it refuses to run.

chromedriver is spoken to in the W3C WebDriver protocol, which is plain HTTP: no client library is needed.
"""

import json
import subprocess
import time
import urllib.error
from urllib.parse import urlsplit

import pytest

from worlds import BINARY, PRIMARY, Daemon, World, fetch, free_port, moved, need, until

# What would run if a name or a message were put in as markup. No quotes: it also stands in a TOML text.
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=2</script>"


class Browser:
    """A headless Chromium with a page in it."""

    def __init__(self, folder):
        driver, program = need("chromedriver", "chromium-driver"), need("chromium", "chromium")
        port = free_port()
        self.log = open(folder / "chromedriver.log", "wb")
        self.process = subprocess.Popen([driver, f"--port={port}"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.session = None
        try:
            url = f"http://127.0.0.1:{port}"
            until("chromedriver is ready", lambda: self.is_ready(url), 60)
            options = {
                "binary": program,
                # No sandbox of its own as root; no network of its own for updates, translations and the like.
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}/profile"],
            }
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            made = json.loads(fetch(f"{url}/session", {"capabilities": {"alwaysMatch": wanted}}, timeout=120))
            self.session = f"{url}/session/{made['value']['sessionId']}"
        except BaseException:
            self.stop()
            raise

    def is_ready(self, url):
        assert self.process.poll() is None, "chromedriver ended"
        try:
            return json.loads(fetch(f"{url}/status"))["value"]["ready"]
        except OSError:
            return False

    def call(self, path, data):
        return json.loads(fetch(f"{self.session}{path}", data, timeout=60))["value"]

    def open(self, url):
        self.call("/url", {"url": url})

    def run(self, script):
        return self.call("/execute/sync", {"script": script, "args": []})

    def text(self):
        """What somebody would read, and not what the source says."""
        return self.run("return document.body.innerText")

    def complaints(self):
        """What stands on the console: errors of scripts, refused requests, violations of the page's policy."""
        return self.call("/se/log", {"type": "browser"})

    def requests(self):
        """Every URL that a page from somewhere asked for; the browser's own first page comes from nowhere."""
        events = [json.loads(entry["message"])["message"] for entry in self.call("/se/log", {"type": "performance"})]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent if not one["documentURL"].startswith("chrome:")]

    def stop(self):
        if self.session:
            try:
                fetch(self.session, method="DELETE", timeout=30)
            except (OSError, urllib.error.HTTPError):
                pass
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path)
    yield browser
    browser.stop()


@pytest.fixture
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.stop()


def config_of(world):
    return world.log.name.removesuffix("log") + "config.toml"


def only_the_daemon(browser, address):
    """Nothing was loaded from anywhere else, and the console is silent."""
    asked = browser.requests()
    foreign = [url for url in asked if urlsplit(url).scheme != "data" and urlsplit(url).netloc != address]
    assert len(asked) > 2 and not foreign, foreign
    assert browser.complaints() == []


def test_the_page_follows_a_move(browser, world):
    daemon = Daemon(config_of(world))
    try:
        browser.open(f"http://{daemon.address}/")
        until("the page shows the app", lambda: "shop" in browser.text() and "watching" in browser.text())
        text = browser.text()
        for words in ("bastion-lab", "active: primary", "mode automatic", "ap-south-1", "us-east-1", "replica", "front door", "RPO exposure"):
            assert words in text, f"{words!r} is not on the page:\n{text}"
        gates = ("active-known", "not-isolated", "target-healthy", "data-loss", "cooldown", "blast-radius", "preflight")
        assert all(gate in text for gate in gates), text
        # Not reloaded while it follows: a mark that a reload would wipe.
        browser.run("window.mark = 1")
        world.control("/region", {"region": PRIMARY, "dark": True})
        seen = set()
        deadline = time.monotonic() + 90
        while not ({"suspect", "moving", "steps", "back"} <= seen) and time.monotonic() < deadline:
            title, text = browser.run("return [document.title, document.body.innerText]")
            seen |= {state for state in ("suspect", "moving") if f"shop {state}" in title}
            if all(step in text for step in ("promote (rds-promote-replica)", "traffic (route53-records)", "Incident shop-")) and "verified" in text:
                seen.add("steps")
            if "moving" in seen and "active: standby" in text and title == "watchover":
                seen.add("back")
        assert seen == {"suspect", "moving", "steps", "back"}, f"saw {seen}:\n{browser.text()}"
        moved(daemon)
        last = daemon.app()["last_move"]["figures"]
        shown = f"RTO {last['rto_seconds']:.1f} s"
        until(f"the page says {shown!r}", lambda: shown in browser.text())
        assert browser.run("return window.mark") == 1
        only_the_daemon(browser, daemon.address)
    finally:
        daemon.stop()
    # Without the daemon the page says so, instead of showing what is no longer true as if it were.
    until("the page says that it is old", lambda: "what stands here is old" in browser.text())


def replaced(path, *changes):
    text = open(path, encoding="utf-8").read()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    open(path, "w", encoding="utf-8").write(text)


def test_hostile_names_are_refused_at_the_door(world):
    path = config_of(world)
    replaced(path, ('name = "shop"', f'name = "{HOSTILE}"'), ('name = "promote"', f'name = "{HOSTILE}"'))
    checked = subprocess.run([BINARY, "--config", path, "check", "--offline"], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 2
    assert checked.stderr.count("cannot be an app's name") == 1 and checked.stderr.count("cannot be a step's name") == 1, checked.stderr


def test_what_the_world_says_is_text_and_never_markup(browser, world):
    """The observer's name is free, and what AWS answers is anybody's: neither gets to run a script."""
    path = config_of(world)
    replaced(path, ('observer = "bastion-lab"', f'observer = "{HOSTILE}"'))
    daemon = Daemon(path)
    try:
        browser.open(f"http://{daemon.address}/")
        until("the page shows the observer as text", lambda: HOSTILE in browser.text())
        world.control("/fault", {"service": "rds", "operation": "DescribeDBInstances", "action": "answer", "status": 400, "code": "AccessDenied", "message": HOSTILE})
        until("the page shows AWS's message as text", lambda: browser.text().count("onerror=window.pwned") > 1, 90)
        assert browser.run("return [window.pwned ?? null, document.images.length, document.scripts.length]") == [None, 0, 1]
        only_the_daemon(browser, daemon.address)
    finally:
        daemon.stop()
