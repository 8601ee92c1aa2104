#!/usr/bin/env python3
"""Plants each fault of faults.toml into a copy of the tree, and says what found it.

Exit code 0 only if every fault was found by what has to find it. Standard library alone.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = ["Cargo.toml", "Cargo.lock", "config.toml", "src", "tests", "docs", "deploy", "systemd", "README.md"]


def copy(place):
    """The tree, apart from what is built; only what changed is touched, so that little is compiled anew."""
    place.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        for file in [source] if source.is_file() else sorted(source.rglob("*")):
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            there = place / file.relative_to(ROOT)
            if not there.exists() or there.read_bytes() != file.read_bytes():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, there)


def plant(place, edits):
    """Puts the fault in. An edit whose text is not there exactly once is out of date, and says so."""
    for edit in edits:
        path = place / edit["file"]
        text = path.read_text()
        times = text.count(edit["find"])
        if times != 1:
            raise SystemExit(f"mutants: {edit['file']}: {times} times instead of once: {edit['find']!r}")
        path.write_text(text.replace(edit["find"], edit["plant"]))


def run(place, build, by, seeds):
    """Runs what has to find it: exit code and output."""
    # Planted code may be unreachable or unused; that is not what is to find it.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(build), SEEDS=str(seeds), RUST_BACKTRACE="0", RUSTFLAGS="")
    if by in ("simulation", "walk"):
        built = subprocess.run([place / "tests/tools/optimised", by], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        command, words = [built.stdout.strip(), "--nocapture"], built.stderr
    else:
        command = ["cargo", "test", "--locked", "--quiet", *(["--lib"] if by == "unit" else ["--test", by])]
        built = subprocess.run([*command, "--no-run"], cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        words = built.stdout
    if built.returncode != 0:
        raise SystemExit(f"mutants: it does not compile:\n{words[-3000:]}")
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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
    missed = 0
    wanted = [fault for fault in faults if not args.only or args.only in fault["name"]]
    for fault in wanted:
        copy(place)
        plant(place, fault["edits"])
        by, began = fault.get("by", "simulation"), time.monotonic()
        code, output = run(place, build, by, args.seeds)
        found = finder(by, output) if code != 0 else ""
        missed += not found
        print(f"{'found ' if found else 'MISSED'}  {fault['name']}\n        {by}: {found or f'nothing' + (f' in {args.seeds} histories' if by == 'simulation' else '')}  [{time.monotonic() - began:.0f} s]", flush=True)
    copy(place)
    print(f"{len(wanted) - missed} of {len(wanted)} faults found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
