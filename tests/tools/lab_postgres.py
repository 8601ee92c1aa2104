#!/usr/bin/env python3
"""Loses a region over a real PostgreSQL primary and replica, again and again, and prints what was said and what was true.

Exit code 0 only if every run ended as it should, on a lag sample of the servers' own, and no reported loss was below
the true one. Standard library alone.
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import time

# Beyond the warm-up; a run takes half a minute alone, and more beside others.
LONGEST_SECONDS = 300


def run(binary, seed, warm_up, logs):
    """One run: its summary, whether the bound held on facts, and everything that is wrong with it."""
    command = [str(binary), "lab", "region-loss", "--database", "postgres", "--warm-up", f"{warm_up}s", "--json", "--seed", str(seed)]
    log = logs / f"{seed}.log"
    with open(log, "wb") as errors:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, timeout=warm_up + LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            return {}, False, [f"no end within {warm_up + LONGEST_SECONDS} s; see {log}"]
    (logs / f"{seed}.json").write_bytes(done.stdout)
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        summary = json.loads(lines[-1])
        wrong = unbounded(summary, warm_up)
        ended = [] if done.returncode == 0 else [f"exit {done.returncode}: {summary['outcome']}, violations {summary['violations']}"]
        return summary, not wrong, wrong + ended
    except (IndexError, ValueError, KeyError, TypeError) as cause:
        return {}, False, [f"exit {done.returncode}, no summary ({cause!r}); see {log}"]


def unbounded(summary, warm_up):
    """Why the bound does not hold, or rests on nothing."""
    found = []
    database = summary["database"]
    if database["lost"] is None or database["acknowledged_by_primary"] < 100:
        found.append(f"nothing was counted: {database}")
    # With no warm-up the sample is from the history that a world is born with, and the bound rests on no fact.
    if warm_up and not database["lag_sample_is_the_servers"]:
        found.append("the lag sample is older than the servers")
    said, true = summary["rpo_reported_seconds"], summary["rpo_true_seconds"]
    if not isinstance(true, (int, float)) or not isinstance(said, (int, float)) or said < true:
        found.append(f"reported {said} does not bound the true {true}")
    return found


def cells(seed, summary, bounded, wrong):
    database = summary.get("database") or {}
    figure = lambda value: f"{value:.3f}" if isinstance(value, (int, float)) else "-"
    return [
        str(seed),
        str(database.get("acknowledged_by_primary", "-")),
        str(database.get("survived", "-")),
        str(database.get("lost", "-")),
        figure(summary.get("rpo_true_seconds")),
        figure(summary.get("rpo_reported_seconds")),
        figure(database.get("lag_sample_seconds")),
        figure(summary.get("rto_seconds")),
        "yes" if bounded else "NO",
        "; ".join(wrong),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; runs count up from it")
    parser.add_argument("--warm-up", type=int, default=210, help="seconds that users write before the region goes dark")
    args = parser.parse_args()
    logs = pathlib.Path(tempfile.mkdtemp(prefix="watchover-lab-postgres-"))
    started = time.monotonic()
    print("| seed | acknowledged | survived | lost | true loss, s | reported, s | lag sample, s | RTO, s | bounded | remarks |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---|---|", flush=True)
    failed, held, versions, closest = 0, 0, set(), []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        seeds = range(args.seed, args.seed + args.runs)
        # In the order of the seeds, whichever ends first: a table that is read from top to bottom.
        for seed, (summary, bounded, wrong) in zip(seeds, pool.map(lambda seed: run(args.binary.resolve(), seed, args.warm_up, logs), seeds)):
            failed += bool(wrong)
            held += bounded
            versions.add((summary.get("database") or {}).get("version"))
            if bounded:
                closest.append(summary["rpo_reported_seconds"] - summary["rpo_true_seconds"])
            print("| " + " | ".join(cells(seed, summary, bounded, wrong)) + " |", flush=True)
    words = ", ".join(sorted(filter(None, versions)))
    least = f"; the narrowest margin was {min(closest):.3f} s" if closest else ""
    print(f"\nPostgreSQL {words}: {held} of {args.runs} runs bounded, {failed} ended with something wrong{least}")
    print(f"in {time.monotonic() - started:.0f} s; every run's events and log: {logs}", file=sys.stderr)
    return 1 if failed or not args.runs else 0


if __name__ == "__main__":
    sys.exit(main())
