# One word per habit. `make demo` and `make test` need nothing but python3 and make.
PYTHON ?= python3
BIN := .venv/bin

setup: .venv/.ready

.venv/.ready: requirements/dev.txt pyproject.toml
	@echo "setting up .venv (once; about a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit("expected python3 >= 3.11, got %s; set PYTHON=..." % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Everything CI runs besides the tests, in the same order.
check: lint types layers

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

fix: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup
	$(BIN)/mypy
	$(BIN)/basedpyright

layers: setup
	$(BIN)/lint-imports

test: setup
	$(BIN)/pytest

demo: setup
	@$(BIN)/antiphon demo

.PHONY: setup check lint fix types layers test demo
