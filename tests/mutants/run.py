#!/usr/bin/env python3
"""Plants each fault of faults.toml, and says what found it.

Those that the core's own tests have to find are woven into one build (weave.py); the others, and what a weave cannot hold,
are planted one by one. Exit code 0 only if every fault was found by what has to find it. Standard library alone.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import time
import tomllib

import weave
from weave import ROOT

# What needs the core alone, and an optimiser.
CORE = ["simulation", "walk", "scenarios", "acceptance"]


def edits(fault):
    """From where to where in which file, and what is planted there. A text that is not there exactly once is out of date, and says so."""
    for edit in fault["edits"]:
        text = (ROOT / edit["file"]).read_text()
        times = text.count(edit["find"])
        if times != 1:
            raise SystemExit(f"mutants: {edit['file']}: {times} times instead of once: {edit['find']!r}")
        begin = text.index(edit["find"])
        yield edit["file"], begin, begin + len(edit["find"]), edit["plant"]


def cargo(place, environment, command):
    """What it prints."""
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"mutants: it does not compile:\n{done.stderr[-3000:]}")
    return done.stdout


def run(place, environment, command, number, seeds):
    """Runs what has to find it: exit code and output."""
    told = {"SEEDS": str(seeds), "MUTANT": str(number), "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, cwd=place, env=environment | told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def finder(by, output):
    """What found it, in one line."""
    if by != "simulation":
        failed = re.findall(r"^    (\w\S*)$", output, re.M)
        return ", ".join(sorted(set(failed))[:3])
    replay = re.search(r"replay: (SEED=\d+)", output)
    before = output[: replay.start()].strip().splitlines() if replay else output.strip().splitlines()
    return f"{before[-1]} ({replay.group(1)})" if replay and before else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="where the copy and its build lie")
    parser.add_argument("--seeds", type=int, default=3000, help="histories that are played at most for each fault")
    parser.add_argument("--only", metavar="TEXT", help="faults whose name holds this text")
    parser.add_argument("--target", type=pathlib.Path, help="build there instead, for instance where dependencies are built already")
    args = parser.parse_args()
    faults = tomllib.loads((ROOT / "tests/mutants/faults.toml").read_text())["fault"]
    place, build = args.build.resolve() / "tree", (args.target or args.build / "target").resolve()
    wanted = [fault for fault in faults if not args.only or args.only in fault["name"]]
    missed, began = 0, time.monotonic()
    # Planted code may be unreachable or unused; that is not what is to find it, and no more than a warning.
    environment = weave.environment(build, RUSTFLAGS="")

    def passes_alone(by, command):
        # What fails by itself would find everything; that it does not is seen in fewer histories than a fault may take.
        code, output = run(place, environment, command, 0, min(args.seeds, 1_000))
        if code != 0:
            raise SystemExit(f"mutants: {by} fails without any:\n{output[-3000:]}")

    def judged(fault, command, number):
        nonlocal missed
        by, start = fault.get("by", "simulation"), time.monotonic()
        code, output = run(place, environment, command, number, args.seeds)
        found = finder(by, output) if code != 0 else ""
        missed += not found
        nothing = "nothing" + (f" in {args.seeds} histories" if by == "simulation" else "")
        print(f"{'found ' if found else 'MISSED'}  {fault['name']}\n        {by}: {found or nothing}  [{time.monotonic() - start:.0f} s]", flush=True)

    core = [(number, fault) for number, fault in enumerate(wanted, 1) if fault.get("by", "simulation") in CORE]
    if core:
        weave.weave(place, [(number, list(edits(fault))) for number, fault in core])
        needed = sorted({fault.get("by", "simulation") for _, fault in core})
        built = cargo(place, environment, [place / "tests/tools/optimised", *needed]).split()
        programs = {pathlib.Path(path).name.rpartition("-")[0]: path for path in built}
        print(f"{len(core)} of {len(wanted)} faults in one build, {time.monotonic() - began:.0f} s", flush=True)
        for by in needed:
            passes_alone(by, [programs[by]])
    for number, fault in core:
        judged(fault, [programs[fault.get("by", "simulation")], "--nocapture"], number)
    others = [fault for fault in wanted if fault.get("by", "simulation") not in CORE]
    commands = {by: ["cargo", "test", "--locked", "--quiet", *(["--lib"] if by == "unit" else ["--test", by])] for by in {fault["by"] for fault in others}}
    weave.copy(place)
    for by, command in commands.items():
        passes_alone(by, command)
    for fault in others:
        command = commands[fault["by"]]
        weave.plant_alone(place, edits(fault))
        cargo(place, environment, [*command, "--no-run"])
        judged(fault, command, 0)
    weave.copy(place)
    print(f"{len(wanted) - missed} of {len(wanted)} faults found in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
