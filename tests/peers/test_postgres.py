"""PostgreSQL as the lab's database: one loss of a region, and who else may get at the servers while they run.

Twenty in a row, on lag samples of the servers' own, are `make lab-postgres`; docs/postgres.md holds their figures.
"""

import json
import os
import pathlib
import pwd
import subprocess
import tempfile

import pytest

from worlds import BINARY, ENVIRONMENT, until


def servers(lab):
    """The command lines and users of the PostgreSQL servers of this lab."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"/postgres") and f"watchover-postgres-{lab}-".encode() in b" ".join(command):
                found.append((b" ".join(command).decode(), entry.stat().st_uid))
        except (OSError, ValueError):
            continue
    return found


@pytest.fixture(autouse=True)
def postgresql():
    if not list(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")) and subprocess.run(["which", "initdb"], capture_output=True).returncode:
        word = "PostgreSQL is missing; `make test` installs it where apt-get may (package postgresql)"
        pytest.fail(word) if os.environ.get("CI") == "true" else pytest.skip(word)


def start(tmp_path, *more):
    log = open(tmp_path / "lab.log", "wb")
    return subprocess.Popen([BINARY, "lab", "region-loss", "--database", "postgres", "--json", *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT, text=True), tmp_path / "lab.log"


def test_a_region_is_lost_and_the_report_bounds_what_is_gone(tmp_path):
    # Users write for a while before the light goes out, so that what is on its way then is the smaller part on a slow machine, too.
    lab, log = start(tmp_path, "--seed", "5", "--warm-up", "10s")
    try:
        said, _ = lab.communicate(timeout=240)
    finally:
        lab.kill()
    lines = said.splitlines()
    assert lab.returncode == 0, f"{lines[-1:]}\n{log.read_text()}"
    summary = json.loads(lines[-1])
    database = summary["database"]
    assert summary["outcome"] == "moved" and summary["violations"] == []
    # Rows, counted in the promoted server: some were on their way when the light went out, and most were not.
    assert 0 < database["lost"] < database["survived"] and database["lost"] + database["survived"] == database["acknowledged_by_primary"], database
    assert summary["writes_lost"] == database["lost"]
    assert 0 < summary["rpo_true_seconds"] <= summary["rpo_reported_seconds"]
    assert database["engine"] == "postgres" and database["version"][0].isdigit()
    assert servers(lab.pid) == [] and not list(pathlib.Path(tempfile.gettempdir()).glob(f"watchover-postgres-{lab.pid}-*"))


def test_the_servers_are_nobodys_else_and_go_with_the_lab(tmp_path):
    lab, log = start(tmp_path, "--warm-up", "10m")
    try:
        until("both servers run", lambda: len(servers(lab.pid)) >= 2 or (lab.poll() is not None and pytest.fail(log.read_text())), 120)
        for command, user in servers(lab.pid):
            assert user != 0, f"a server runs as root: {command}"
            assert user == os.getuid() or os.getuid() == 0, pwd.getpwuid(user)
            assert "listen_addresses=127.0.0.1" in command and "unix_socket_directories=" in command, command
            # Its password stands in no command line.
            assert "password" not in command, command
        place = next(pathlib.Path(tempfile.gettempdir()).glob(f"watchover-postgres-{lab.pid}-*"))
        assert place.stat().st_mode & 0o077 == 0
        port = servers(lab.pid)[0][0].split(" -p ")[1].split()[0]
        refused = subprocess.run(["psql", "-X", "-w", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-c", "SELECT 1"], capture_output=True, text=True, env=os.environ | {"PGPASSFILE": os.devnull}, timeout=60)
        assert refused.returncode != 0 and "password" in refused.stderr, refused
    finally:
        # As hard as it goes: the kernel ends the servers then.
        lab.kill()
        lab.wait()
    until("the servers ended with their lab", lambda: servers(lab.pid) == [])
    subprocess.run(["rm", "-rf", *map(str, pathlib.Path(tempfile.gettempdir()).glob(f"watchover-postgres-{lab.pid}-*"))], check=True)
