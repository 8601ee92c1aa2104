# The developer's commands. `make test` is what CI runs; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := $(TARGET)/venv
LAB_JOBS ?= 2
LAB_RUNS ?= 5
LAB_SEED ?= 1
RUNS ?= 20
SEEDS ?= 20000
CASES ?= 20000
JOBS ?= 2
# What a release says of its source. Asked of git only where one is built: tests need none, and a commit rebuilds nothing of
# theirs. Without git it is as the environment says, else unknown.
REVISION = $(or $(WATCHOVER_REVISION),$(shell git describe --always --dirty --abbrev=12 2>/dev/null))
RELEASE = WATCHOVER_REVISION="$(REVISION)" cargo build --release --locked

.PHONY: help release test fmt lint unit docs shell deny sbom lab-all lab-postgres rest soak mutants mutants-domain fuzz load

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

release: ## the binary to deploy, in target/release, which knows its revision
	$(RELEASE)

test: ## everything: format, clippy, tests, documents in step, unit files; installs what it needs below target/
	@mkdir -p "$(TARGET)"
	cargo fmt --check
	# What is fetched and unpacked comes in while the compiler works; what of it is imported is compiled once.
	unset PYTHONDONTWRITEBYTECODE
	tests/tools/setup "$(VENV)" & setup=$$!
	trap 'kill $$setup 2>/dev/null || true' EXIT
	# One build is both judged and tested: clippy's driver is the compiler with more lints, and `cargo clippy` beside
	# `cargo test` would build every dependency twice.
	export RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
	# What is built for the first time has nothing to gain from notes for the next, nor for a debugger.
	[[ -d "$(TARGET)/debug/incremental" ]] || export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
	cargo test --no-run --locked --all-targets
	wait $$setup
	# Which tests there are is asked before another build holds the lock.
	nextest=; ! cargo nextest --version >/dev/null 2>&1 || nextest=yes
	if [[ -n $$nextest ]]; then
	  cargo nextest list --locked --all-targets --list-type binaries-only --message-format json >"$(TARGET)/binaries.json"
	  cargo metadata --locked --format-version 1 >"$(TARGET)/metadata.json"
	fi
	# What calculates is built with an optimiser, and both take what the other tests leave: they mostly wait for their
	# worlds. With what an ordinary build links it shares all its dependencies. What builds nothing is checked meanwhile, too.
	SEEDS=$(SEEDS) JOBS=$(JOBS) nice -n 10 tests/tools/calculate >"$(TARGET)/calculated.txt" 2>&1 & calculating=$$!
	nice -n 10 $(MAKE) --no-print-directory unit shell deny sbom >"$(TARGET)/checked.txt" 2>&1 & checking=$$!
	trap 'kill "$$calculating" "$$checking" 2>/dev/null || true' EXIT
	export WATCHOVER_VENV="$$PWD/$(VENV)"; [[ "$(VENV)" != /* ]] || export WATCHOVER_VENV="$(VENV)"
	if [[ -n $$nextest ]]; then
	  cargo nextest run --binaries-metadata "$(TARGET)/binaries.json" --cargo-metadata "$(TARGET)/metadata.json" -E 'not binary(/^(simulation|walk)$$/)'
	else
	  cargo test --locked --all-targets
	fi
	wait "$$calculating" || { cat "$(TARGET)/calculated.txt"; exit 1; }
	grep -E ' histories, | situations|^test result:' "$(TARGET)/calculated.txt"
	wait "$$checking" || { cat "$(TARGET)/checked.txt"; exit 1; }
	cat "$(TARGET)/checked.txt"
	$(MAKE) --no-print-directory docs

fmt: ## lay the source out
	cargo fmt

lint: ## format and clippy alone
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

docs: ## documents in step with the code
	@tests/tools/docs-in-step "$(TARGET)/debug/watchover"

unit: ## the unit files: sound, and little exposed
	@tests/tools/unit "$(TARGET)"

shell: ## shell scripts
	@tests/tools/shell

deny: ## licences, bans and sources of every dependency
	@tests/tools/deny "$(TARGET)/audit"

sbom: ## what the binary is made of, as CycloneDX in target/
	@python="$(TARGET)/audit/bin/python"
	[[ -x $$python ]] || python=python3
	"$$python" tests/tools/sbom "$(TARGET)/watchover.cdx.json"

lab-all: ## every scenario of the lab, LAB_RUNS times with other seeds, LAB_JOBS side by side
	$(RELEASE)
	python3 tests/tools/lab_all.py --binary "$(TARGET)/release/watchover" --runs $(LAB_RUNS) --jobs $(LAB_JOBS) --seed $(LAB_SEED)

rest: ## what the daemon costs while nothing happens: share of a core, memory
	$(RELEASE)
	python3 tests/tools/rest.py --binary "$(TARGET)/release/watchover"

lab-postgres: ## the loss of a region over a real PostgreSQL, RUNS times, LAB_JOBS side by side: what was reported and what was true
	@cargo build --locked
	python3 tests/tools/lab_postgres.py --binary "$(TARGET)/debug/watchover" --runs $(RUNS) --jobs $(LAB_JOBS) --seed $(LAB_SEED)

soak: ## SEEDS histories against the pretend cloud in virtual time, from master seed SEED, on JOBS cores: every invariant, and what was hit
	@simulation=$$(tests/tools/optimised simulation)
	SEEDS=$(SEEDS) JOBS=$(JOBS) SEED=$(or $(SEED),0) "$$simulation" --nocapture

mutants: ## plants faults, and prints what found each
	@python3 tests/mutants/run.py --build "$(TARGET)/mutants" --seeds $(SEEDS)

mutants-domain: ## every mutant of cargo-mutants in domain/, planted into one build, and what found each; needs cargo-mutants
	@python3 tests/mutants/domain.py --build "$(TARGET)/mutants-domain" --jobs $(JOBS)

fuzz: ## CASES inputs for each reader of foreign bytes, from SEED on (default: the clock), and how many of each were tried
	@cargo test --locked --quiet --test fuzz --no-run
	export CASES=$(CASES) SEED=$(or $(SEED),$$(date +%s))
	cargo test --locked --quiet --test fuzz -- --nocapture | grep -E '^[a-z]+::|tried|passed|failed|taken|took|replay'

load: ## much at once: what an outage of APPS apps costs the decision, and PAIRS moves with and without REQUESTS at the door
	@optimised="--config profile.dev.package.watchover.opt-level=3"
	cargo test --locked --quiet $$optimised --test load --no-run
	export APPS=$(or $(APPS),1000) REQUESTS=$(or $(REQUESTS),10000) PAIRS=$(or $(PAIRS),1)
	cargo test --locked --quiet $$optimised --test load -- --include-ignored --nocapture --test-threads 1 | grep -vE '^$$|^running|^ok$$'
