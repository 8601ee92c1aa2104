#!/usr/bin/env python3
"""Every mutant that cargo-mutants knows of `domain/`, and what finds it.

cargo-mutants builds once for each mutant, which takes hours. Here it only lists them: all are planted into one copy of the
tree (weave.py), and a variable of the environment chooses one. What does not compile is left out, as cargo-mutants would.
Those that cannot be chosen while the program runs are built one by one at the end.

Whatever no test finds has to stand in survivors.toml with a reason, and whatever stands there has to survive: exit code 0
only then. Standard library alone.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import tomllib

import weave
from weave import ROOT

SURVIVORS = pathlib.Path(__file__).with_name("survivors.toml")
# What judges, the quickest first, and what it is told: a failure must end it, not be made smaller.
JUDGES = ["unit", "properties", "acceptance", "evidence", "resume", "scenarios", "walk", "simulation"]
TOLD = {"PROPTEST_MAX_SHRINK_ITERS": "0", "RUST_BACKTRACE": "0", "JOBS": "1"}
EVERYTHING = ["--lib", *(part for name in JUDGES[1:] for part in ("--test", name))]
# What a loop without end takes, next to what the test takes by itself.
PATIENCE = 8


def listed():
    """The mutants, numbered, each with a name that outlives changes elsewhere in its file."""
    command = ["cargo", "mutants", "--list", "--json", "--no-config", "-f", "src/domain/**/*.rs"]
    mutants = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    times = collections.Counter()
    for number, mutant in enumerate(mutants, 1):
        name = re.sub(r"^(\S+?):\d+:\d+:", r"\1:", mutant["name"])
        times[name] += 1
        mutant.update(number=number, name=name if times[name] == 1 else f"{name} #{times[name]}")
    return mutants


def change(mutant, source):
    """A mutant as what is woven in."""
    return mutant["file"], *source.span(mutant["span"]), f" {mutant['replacement']} "


def plant(place, mutants):
    """Plants them all; which lines of which file are whose."""
    sources = {file: weave.Source(ROOT / file) for file in {mutant["file"] for mutant in mutants}}
    return weave.weave(place, [(mutant["number"], [change(mutant, sources[mutant["file"]])]) for mutant in mutants])


def build(place, target, what):
    """Builds; the programs by name, and the errors' places."""
    environment = weave.environment(target, RUSTFLAGS="--cap-lints=allow", CARGO_INCREMENTAL="1", CARGO_PROFILE_DEV_DEBUG="0")
    command = ["cargo", "test", "--locked", "--no-run", "--no-default-features", "--message-format=json", *what]
    command += ["--config", "profile.dev.package.watchover.opt-level=1"]
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    programs, errors = {}, []
    for line in done.stdout.splitlines():
        told = json.loads(line)
        if told["reason"] == "compiler-artifact" and told.get("executable"):
            kind = told["target"]
            programs["unit" if "lib" in kind["kind"] else kind["name"]] = told["executable"]
        elif told["reason"] == "compiler-message" and told["message"]["level"] == "error":
            errors.append(told["message"])
    if done.returncode != 0 and not errors:
        raise SystemExit(f"mutants: it does not build:\n{done.stderr[-3000:]}")
    return programs, errors


def viable(place, target, mutants):
    """Builds until all that is left compiles: the programs, and what had to be left out."""
    left_out = []
    while True:
        owners = plant(place, mutants)
        programs, errors = build(place, target, ["--lib"])
        if not errors:
            break
        bad = set()
        for error in errors:
            for span in error["spans"]:
                owned = owners.get(span["file_name"], [])
                bad |= {number for first, last, number in owned if first <= span["line_end"] and span["line_start"] <= last}
        if not bad:
            raise SystemExit("mutants: it does not build:\n" + "\n".join(error["rendered"] for error in errors[:5]))
        left_out += [mutant for mutant in mutants if mutant["number"] in bad]
        mutants = [mutant for mutant in mutants if mutant["number"] not in bad]
        print(f"{len(bad)} do not compile", flush=True)
    programs, errors = build(place, target, EVERYTHING)
    if errors:
        raise SystemExit("mutants: it does not build:\n" + errors[0]["rendered"])
    return programs, mutants, left_out


def judge(program, judge_name, number, place, seeds, limit):
    """Whether that test passes with that mutant; too long counts as found."""
    environment = dict(os.environ, **TOLD, MUTANT=str(number))
    if judge_name == "simulation":
        environment.update(SEEDS=str(seeds), SEED="0")
    process = subprocess.Popen([program], cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="where the copy and its builds go")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=100, help="the simulation's histories for each that nothing else found")
    parser.add_argument("--only", default="", help="those whose name this expression finds")
    options = parser.parse_args()
    place, target = pathlib.Path(options.build).resolve() / "tree", pathlib.Path(options.build).resolve() / "target"
    everything = [mutant for mutant in listed() if re.search(options.only, mutant["name"])]
    began = time.monotonic()
    programs, mutants, left_out = viable(place, target, [mutant for mutant in everything if mutant["function"]])
    # A constant has no body to be chosen in; and what a box cannot hold is no proof that it does not compile.
    unboxed = [mutant for mutant in left_out if "-> impl" in mutant["function"]["return_type"]]
    apart = [mutant for mutant in everything if not mutant["function"]] + unboxed
    left_out = [mutant for mutant in left_out if mutant not in unboxed]
    print(f"{len(everything)} mutants: {len(mutants)} at once, {len(apart)} one by one, {len(left_out)} do not compile; built in {time.monotonic() - began:.0f} s", flush=True)
    limits = {}
    for name in JUDGES:
        start = time.monotonic()
        if not judge(programs[name], name, 0, place, options.seeds, 600):
            raise SystemExit(f"mutants: {name} fails without any")
        limits[name] = 5 + PATIENCE * (time.monotonic() - start)
    found, missed, lock = collections.Counter(), [], threading.Lock()
    work = iter(mutants)

    def worker():
        while True:
            with lock:
                mutant = next(work, None)
            if mutant is None:
                return
            by = next((name for name in JUDGES if not judge(programs[name], name, mutant["number"], place, options.seeds, limits[name])), None)
            with lock:
                if by:
                    found[by] += 1
                else:
                    missed.append(mutant)
                    print(f"{mutant['name']} ({mutant['span']['start']['line']})", flush=True)

    def everyone():
        workers = [threading.Thread(target=worker) for _ in range(options.jobs)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()

    everyone()
    for mutant in apart:
        weave.plant_alone(place, [change(mutant, weave.Source(ROOT / mutant["file"]))])
        programs, errors = build(place, target, EVERYTHING)
        if errors:
            left_out.append(mutant)
            continue
        mutants.append(mutant)
        work = iter([mutant])
        everyone()
    argued = {entry["mutant"]: entry["why"] for entry in tomllib.loads(SURVIVORS.read_text()).get("survivor", [])} if SURVIVORS.exists() else {}
    names = {mutant["name"] for mutant in missed}
    fresh, stale = sorted(names - argued.keys()), sorted(name for name in argued.keys() - names if re.search(options.only, name))
    each = ", ".join(f"{found[name]} by {name}" for name in JUDGES)
    print(f"{len(left_out)} of {len(everything)} do not compile")
    print(f"{sum(found.values())} of {len(mutants)} found ({each}); {len(missed)} survive, {len(names) - len(fresh)} of them argued; {time.monotonic() - began:.0f} s")
    for name in stale:
        print(f"argued, and found or gone: {name}")
    for name in fresh:
        print(f"survives without a reason: {name}")
    sys.exit(1 if fresh or stale else 0)


if __name__ == "__main__":
    main()
