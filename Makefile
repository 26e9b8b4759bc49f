# One word per habit. All of it needs no more than python3 >= 3.11 and make; `make kafka` and
# the tests on Apache Kafka also need Java 17 and Maven, or Docker.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help

help: ## list these words
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r word what; do printf '  make %-9s %s\n' "$$word" "$$what"; done

setup: .venv/.ready ## make .venv with everything in it; nothing to do the second time
	@:

.venv/.ready: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "expected python3 >= 3.11, got no $(PYTHON); say which one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected python3 >= 3.11, got %s; say which one: make setup PYTHON=python3.12" % sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "expected $(PYTHON) to have venv and ensurepip, got neither or one; Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "setting up .venv (about a minute the first time) ..." >&2
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --no-deps --requirement requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

check: lint spelling locked layers types ## everything CI checks besides the tests

lint: setup ## ruff: form and mistakes
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .

spelling: setup ## codespell
	@$(BIN)/codespell

locked: setup ## what is asked for and what is pinned agree
	@$(BIN)/python requirements/check.py

layers: setup ## import-linter: which package may import which
	@$(BIN)/lint-imports --no-logo

types: setup ## mypy and basedpyright, both strict
	@$(BIN)/mypy
	@$(BIN)/basedpyright

fix: setup ## ruff: form, and what it can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: setup ## all tests, in three processes; ARGS="-k offsets" chooses
	@$(BIN)/pytest --numprocesses 3 --dist loadgroup $(ARGS)

docs: setup ## run what the documentation shows, follow its links
	@$(BIN)/pytest tests/docs $(ARGS)

demo: setup ## a mesh of five agents on real input; ARGS="--only rich"
	@$(BIN)/antiphon demo $(ARGS)

kafka: setup ## Apache Kafka on this machine until Ctrl-C; ARGS="--brokers 3"
	@$(BIN)/python tests/kafka/cluster.py $(ARGS)

mesh: setup ## what docker-compose.yml describes, as processes on Apache Kafka, until Ctrl-C; ARGS="--secure --check"
	@$(BIN)/python deploy/mesh.py $(ARGS)

soak: setup ## workers and brokers that fail, for long, and the audit; ARGS="--seed 7 --events 100000 --kills 40"
	@$(BIN)/python tests/kafka/soak.py $(ARGS)

fuzz: setup ## a million spoilt records to everything that reads bytes from outside; ARGS="--seed 7 --records 100000"
	@$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

wire: setup ## workers of an earlier state and of this one in one mesh, both directions; ARGS="--revision v0.1.0"
	@$(BIN)/python tests/wire/both.py $(ARGS)

golden: setup ## keep what this state writes on every topic, for later ones to read
	@$(BIN)/python tests/wire/keeping.py

truths: setup ## ten thousand workflows on workers that crash, and whether an index says of each what happened
	@ANTIPHON_TRUTHS=10000 $(BIN)/pytest tests/tracing/test_truth.py -q $(ARGS)

jostle: setup ## members that pause, come and go, with clients that take their time: half a million records, none passed over
	@ANTIPHON_JOSTLE=500000 $(BIN)/pytest tests/kafka/test_jostled.py -q $(ARGS)

interop: setup ## the demo's traces in Arize Phoenix, and back; INTEROP_PROTOCOL=grpc for the other protocol
	@$(BIN)/python tests/interop/against_phoenix.py $(ARGS)

bench: setup ## one table of ratios, measured side by side; ARGS="--only hop --rounds 5"
	@$(BIN)/python benchmarks/suite.py $(ARGS)

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links

lock: setup ## pin what is asked for: for development, peers, images; ARGS=--upgrade
	@$(PIP) install uv
	@$(LOCK) --all-extras --group dev pyproject.toml --output-file requirements/dev.txt $(ARGS)
	@$(LOCK) benchmarks/peers.in --output-file benchmarks/peers.txt $(ARGS)
	@$(LOCK) tests/interop/phoenix.in --output-file tests/interop/phoenix.txt $(ARGS)
	@$(LOCK) --constraint requirements/dev.txt --extra s3 --extra otlp --extra postgres pyproject.toml --output-file requirements/image.txt $(ARGS)
	@$(LOCK) --constraint requirements/dev.txt --extra s3 --extra otlp --extra postgres --extra dev pyproject.toml --output-file requirements/demo.txt $(ARGS)
	@$(LOCK) requirements/build.in --output-file requirements/build.txt $(ARGS)

clean: ## remove what was made here, .venv too
	@rm -rf .venv build dist tests/kafka/target benchmarks/.peers .interop .wire .*_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup check lint spelling locked layers types fix test docs demo kafka mesh soak fuzz wire golden truths jostle interop bench lock clean
