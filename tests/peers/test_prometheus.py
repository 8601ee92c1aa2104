"""A Prometheus that we did not write scrapes a daemon of the lab through a whole move, and is asked what it saw."""

import json
import re
import subprocess
import urllib.parse

import pytest

from worlds import BINARY, PRIMARY, ROOT, Daemon, World, fetch, free_port, moved, need, until

# Finer than deploy/prometheus.yml says, so that states of seconds are seen. A scrape must be over by the next.
EVERY = "1s"


class Prometheus:
    """A running Prometheus with the committed rules, pointed at that daemon."""

    def __init__(self, folder, address):
        program = need("prometheus", "prometheus")
        committed = (ROOT / "deploy/prometheus.yml").read_text()
        changed = committed.replace("127.0.0.1:9750", address).replace("scrape_interval: 5s", f"scrape_interval: {EVERY}")
        changed = changed.replace("evaluation_interval: 15s", f"evaluation_interval: {EVERY}").replace("- alerts.yml", f"- {ROOT}/deploy/alerts.yml")
        assert address in changed and changed.count(EVERY) == 2 and str(ROOT) in changed, changed
        (folder / "prometheus.yml").write_text(changed)
        listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{listen}"
        self.path = folder / "prometheus.log"
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={listen}", "--log.level=warn"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        try:
            until("Prometheus scrapes", lambda: self.answers() and self.value("up{job='watchover'}") == 1)
        except BaseException:
            self.stop()
            raise

    def answers(self):
        assert self.process.poll() is None, f"Prometheus ended:\n{self.path.read_text()}"
        try:
            return fetch(f"{self.url}/-/ready")
        except OSError:
            return None

    def get(self, path, **query):
        answer = json.loads(fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"))
        assert answer["status"] == "success" and not answer.get("warnings"), answer
        return answer["data"]

    def ask(self, expression):
        """The samples of an instant query: their labels and values."""
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=expression)["result"]]

    def value(self, expression):
        found = self.ask(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return found[0][1] if found else None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def after_a_move(tmp_path_factory):
    """A Prometheus that has watched a move from before its first failed look to after its end; and the daemon."""
    folder = tmp_path_factory.mktemp("prometheus")
    world = World(tmp_path_factory.mktemp("world"))
    daemon = prometheus = None
    try:
        daemon = Daemon(world.log.name.removesuffix("log") + "config.toml")
        prometheus = Prometheus(folder, daemon.address)
        world.control("/region", {"region": PRIMARY, "dark": True})
        moved(daemon)
        until("the end is scraped", lambda: prometheus.value("watchover_active_site{site='standby'}") == 1 and prometheus.value("watchover_app_state{state='watching'}") == 1)
        yield prometheus, daemon
    finally:
        for one in (prometheus, daemon, world):
            if one:
                one.stop()


def test_every_scrape_was_good(after_a_move):
    prometheus, _ = after_a_move
    assert prometheus.value("min_over_time(up{job='watchover'}[10m])") == 1
    assert prometheus.value("count_over_time(up{job='watchover'}[10m])") > 10
    assert prometheus.value("min_over_time(scrape_samples_scraped{job='watchover'}[10m])") > 100
    for target in prometheus.get("targets")["activeTargets"]:
        assert target["health"] == "up" and target["lastError"] == "", target
    assert prometheus.path.read_text() == "", "at level warn it has nothing to say"


def test_every_series_was_there_from_the_start(after_a_move):
    """A counter that appears with its first count is one that `rate` never saw rise."""
    prometheus, _ = after_a_move
    start = prometheus.value("min_over_time(timestamp(up{job='watchover'} == 1)[10m:500ms])")
    match = '{job="watchover",__name__=~"watchover_.*"}'
    names = lambda found: {json.dumps(labels, sort_keys=True) for labels, _ in found}
    late = names(prometheus.ask(match)) - names(prometheus.ask(f"{match} @ {start + 2}"))
    assert not late, sorted(late)[:20]


def test_states_went_by_and_are_one_hot(after_a_move):
    prometheus, _ = after_a_move
    # Proving may be over between two scrapes.
    for state in ("watching", "suspect", "moving"):
        assert prometheus.value(f"max_over_time(watchover_app_state{{state='{state}'}}[10m])") == 1, state
    for state in ("stuck", "held", "awaiting-approval"):
        assert prometheus.value(f"max_over_time(watchover_app_state{{state='{state}'}}[10m])") == 0, state
    for family in ("app_state", "active_site", "front_door", "front_door_site"):
        for edge in ("min", "max"):
            assert prometheus.value(f"{edge}_over_time((sum(watchover_{family}))[10m:500ms])") == 1, f"{edge} of {family}"
    assert prometheus.value("changes(watchover_active_site{site='standby'}[10m])") == 1
    for site in ("primary", "standby"):
        assert prometheus.value(f"max_over_time(watchover_front_door_site{{site='{site}'}}[10m])") == 1, site
    assert prometheus.value("watchover_front_door_site{site='standby'}") == 1
    assert prometheus.value("max_over_time(watchover_front_door{verdict='down'}[10m])") == 1
    assert prometheus.value("min_over_time(watchover_journal_writable[10m])") == 1
    assert prometheus.value("changes(watchover_start_time_seconds[10m])") == 0
    assert prometheus.value("max_over_time(watchover_incident_elapsed_seconds[10m])") > 3
    assert prometheus.value("watchover_incident_active") == 0


def test_figures_are_those_of_the_journal(after_a_move):
    prometheus, daemon = after_a_move
    status = daemon.app()["last_move"]
    figures = status["figures"]
    labels = "direction='to-standby',trigger='outage'"
    assert prometheus.value(f"watchover_last_incident_rto_seconds{{{labels},phase='total'}}") == pytest.approx(figures["rto_seconds"], abs=1e-6)
    for phase, seconds in figures["phases"].items():
        assert prometheus.value(f"watchover_last_incident_rto_seconds{{{labels},phase='{phase}'}}") == pytest.approx(seconds, abs=1e-6), phase
    parts = prometheus.value(f"sum(watchover_last_incident_rto_seconds{{{labels},phase!='total'}})")
    assert parts == pytest.approx(figures["rto_seconds"], abs=1e-3)
    assert prometheus.value(f"watchover_last_incident_rpo_seconds{{{labels}}}") == pytest.approx(figures["rpo"]["seconds"], abs=1e-6)
    assert prometheus.value(f"watchover_rto_seconds_sum{{{labels},phase='total'}}") == pytest.approx(figures["rto_seconds"], abs=1e-6)
    assert prometheus.value(f"watchover_rto_seconds_count{{{labels},phase='total'}}") == 1
    assert prometheus.value(f"watchover_incidents_total{{{labels},outcome='moved'}}") == 1
    assert prometheus.value("sum(watchover_incidents_total)") == 1


def test_steps_took_their_time(after_a_move):
    prometheus, _ = after_a_move
    for step, kind in (("promote", "rds-promote-replica"), ("capacity", "autoscaling-capacity"), ("traffic", "route53-records")):
        labels = f"step='{step}',kind='{kind}'"
        assert prometheus.value(f"watchover_step_duration_seconds_count{{{labels}}}") == 1, step
        # The lab's promotion takes seconds, and so does a launch; nothing of either is done within one.
        assert 1 < prometheus.value(f"watchover_step_duration_seconds_sum{{{labels}}}") < 120, step
    assert prometheus.value("sum(watchover_step_failures_total{step='fence'})") == 1
    assert prometheus.value("sum(watchover_step_failures_total{step!='fence'})") == 0
    assert prometheus.value("sum(watchover_aws_calls_total{service='rds',operation='PromoteReadReplica',outcome='ok'})") == 1
    assert prometheus.value("histogram_quantile(0.99, sum by (le) (watchover_loop_lag_seconds_bucket))") < 5


def test_the_committed_alerts_say_it_and_no_others(after_a_move):
    prometheus, _ = after_a_move
    groups = prometheus.get("rules")["groups"]
    assert groups and all(rule["health"] == "ok" and not rule.get("lastError") for group in groups for rule in group["rules"]), groups
    fired = {labels["alertname"] for labels, _ in prometheus.ask("count by (alertname) (count_over_time(ALERTS{alertstate='firing'}[10m]))")}
    assert "WatchoverMoving" in fired
    assert not fired & {"WatchoverGone", "WatchoverStuck", "WatchoverAwaitingApproval", "WatchoverConfigReloadFailed", "WatchoverActiveSiteUnknown"}, fired


def panels():
    """The board's panels: title, and for each query its expression without variables, and its legend."""
    board = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())

    def plain(expression):
        for name, value in (("$__rate_interval", "1m"), ("$__interval", "1m"), ("$__range", "10m")):
            expression = expression.replace(name, value)
        for variable in board.get("templating", {}).get("list", []):
            expression = expression.replace(f"${{{variable['name']}}}", ".*").replace(f"${variable['name']}", ".*")
        assert "$" not in expression, expression
        return expression

    return [(one["title"], [(plain(target["expr"]), target["legendFormat"]) for target in one["targets"]]) for one in board["panels"]]


def test_what_a_panel_shows_has_names_of_its_own_and_is_known(after_a_move):
    prometheus, _ = after_a_move
    for title, targets in panels():
        names = []
        for expression, legend in targets:
            for labels, value in prometheus.ask(expression):
                names.append(re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""), legend))
                assert value == value or not title.startswith("Last"), f"{title}: {names[-1]} is NaN"
        assert len(set(names)) == len(names), f"{title}: {sorted(names)}"


def test_every_panel_of_the_board_has_data(after_a_move):
    prometheus, _ = after_a_move
    found = [expression for _, targets in panels() for expression, _ in targets]
    assert len(found) > 10
    empty = []
    for expression in found:
        # Some have something to show only while an incident is open: any moment of the move counts, and some only from its end
        # on, which may be younger than the latest whole half second.
        if not prometheus.ask(expression) and not prometheus.ask(f"count_over_time(({expression})[10m:500ms])"):
            empty.append(expression)
    assert not empty, empty


def test_promtool_finds_nothing_to_say(after_a_move):
    promtool = need("promtool", "prometheus")
    _, daemon = after_a_move
    checked = subprocess.run([promtool, "check", "metrics"], input=daemon.get("/metrics"), capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_reference_of_metrics_names_what_is_scraped(after_a_move):
    prometheus, _ = after_a_move
    listed = json.loads(subprocess.run([BINARY, "metrics", "--json"], capture_output=True, check=True, timeout=60).stdout)["metrics"]
    documented = {one["name"] for one in listed}
    scraped = {name for name in prometheus.get("metadata") if name.startswith("watchover_")}
    # Labelled by the receiver of messages: this config has none.
    documented -= {"watchover_messages_total", "watchover_messages_dropped_total"}
    assert scraped == documented
