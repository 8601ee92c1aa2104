#!/usr/bin/env python3
"""Runs every scenario of the lab several times with different seeds, some side by side, and prints a table.

Exit code 0 only if every run ended as its scenario expects. Standard library alone.
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import time

# A scenario takes under a minute alone; side by side with others, on few cores, somewhat more.
LONGEST_SECONDS = 240


def scenarios(binary):
    """Every scenario that the binary lists."""
    listed = subprocess.run([str(binary), "lab", "--list", "--json"], stdout=subprocess.PIPE, check=True)
    return [one["name"] for one in json.loads(listed.stdout)["scenarios"]]


def run(binary, scenario, seed, logs):
    """One run: the summary, and why it is wrong (empty if it is right)."""
    log = logs / f"{scenario}-{seed}.log"
    command = [str(binary), "lab", scenario, "--json", "--seed", str(seed)]
    with open(log, "wb") as errors:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired as late:
            (logs / f"{scenario}-{seed}.json").write_bytes(late.stdout or b"")
            return {}, f"no end within {LONGEST_SECONDS} s"
    (logs / f"{scenario}-{seed}.json").write_bytes(done.stdout)
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        summary = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {}, f"exit {done.returncode} and no summary; see {log}"
    return summary, "; ".join(faults(summary, done.returncode))


def faults(summary, code):
    """Everything that is wrong with a run."""
    found = []
    if summary.get("event") != "summary":
        return [f"exit {code}, the last line is no summary but {summary.get('event')!r}"]
    if code != 0:
        found.append(f"exit {code}")
    if summary.get("outcome") != summary.get("expected"):
        found.append(f"expected {summary.get('expected')}")
    if summary.get("violations"):
        found.append("violations: " + ", ".join(map(str, summary["violations"])))
    reported, true = number(summary.get("rpo_reported_seconds")), number(summary.get("rpo_true_seconds"))
    if true is not None and true > 0 and (reported is None or reported < true):
        found.append(f"reported loss {reported} below the true {true}")
    return found


def number(value):
    """A figure of the summary; JSON has no infinity, so it comes as a text."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return float("inf") if str(value) == "unbounded" else None


def figure(value):
    found = number(value)
    return "-" if found is None else f"{found:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; runs count up from it")
    parser.add_argument("--only", action="append", metavar="SCENARIO", help="this scenario alone; may be repeated")
    args = parser.parse_args()
    known = scenarios(args.binary.resolve())
    unknown = sorted(set(args.only or []) - set(known))
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there is {', '.join(known)}")
    logs = pathlib.Path(tempfile.mkdtemp(prefix="watchover-lab-all-"))
    started = time.monotonic()
    row = "{:<22} {:>5} {:<10} {:>9} {:>9} {:>9} {:>9}  {}".format
    print(row("scenario", "seed", "outcome", "rto", "rpo said", "rpo true", "overhead", "wrong"), flush=True)
    failed = ran = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        # One seed after the other, so that neighbours are different scenarios.
        wanted = [(name, args.seed + turn) for turn in range(args.runs) for name in args.only or known]
        runs = {pool.submit(run, args.binary.resolve(), name, seed, logs): (name, seed) for name, seed in wanted}
        for done in concurrent.futures.as_completed(runs):
            name, seed = runs[done]
            summary, wrong = done.result()
            ran += 1
            failed += bool(wrong)
            keys = ("rto_seconds", "rpo_reported_seconds", "rpo_true_seconds", "own_overhead_seconds")
            print(row(name, seed, summary.get("outcome") or "-", *(figure(summary.get(key)) for key in keys), wrong), flush=True)
    print(f"{ran - failed} passed, {failed} failed")
    print(f"in {time.monotonic() - started:.0f} s; every run's events and log: {logs}")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
