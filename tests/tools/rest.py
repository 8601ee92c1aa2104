#!/usr/bin/env python3
"""Measures the daemon at rest: it watches the lab's world for a while, and nothing happens.

Prints the share of one core that it used, and its anonymous memory. Standard library alone.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def anonymous_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("rest: /proc says nothing of anonymous memory")


def wait_for(what, ready, limit=60):
    until = time.monotonic() + limit
    while time.monotonic() < until:
        found = ready()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"rest: {what} within {limit} s did not happen")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    binary = args.binary.resolve()
    with tempfile.TemporaryDirectory(prefix="watchover-rest-") as name:
        home = pathlib.Path(name)
        log = open(home / "log", "wb")
        world = subprocess.Popen([binary, "lab", "--world-only", "--dir", home], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        daemon = None
        try:
            wait_for("the world's start", lambda: (home / "world.json").exists() and (home / "config.toml").exists())
            command = [binary, "--config", home / "config.toml", "run"]
            environment = os.environ | json.loads((home / "world.json").read_text()).get("environment", {})
            daemon = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

            def listening():
                found = subprocess.run([binary, "--config", home / "config.toml", "status", "--json"], capture_output=True, env=environment)
                return json.loads(found.stdout) if found.stdout.strip().startswith(b"{") else None

            wait_for("the daemon's start", listening)
            time.sleep(10)  # what a start costs is not rest
            before, began = cpu_seconds(daemon.pid), time.monotonic()
            time.sleep(args.seconds)
            used, took = cpu_seconds(daemon.pid) - before, time.monotonic() - began
            if daemon.poll() is not None:
                raise SystemExit(f"rest: the daemon ended: {(home / 'log').read_text()[-2000:]}")
            share = 100 * used / took
            memory = anonymous_bytes(daemon.pid)
            print(f"at rest for {took:.0f} s: {share:.2f} % of a core, {memory / 2**20:.1f} MiB of anonymous memory")
        finally:
            for process in (daemon, world):
                if process:
                    process.terminate()
                    process.wait(20)
    return 0


if __name__ == "__main__":
    sys.exit(main())
