# Every target that needs .venv makes it on first use, and again only after pyproject.toml or constraints.txt changed.
#   make search ARGS="--space smoke"        more options for the command behind a target
#   make setup PYTHON=python3.12            another interpreter, 3.11 or newer

PYTHON ?= $(shell command -v python3.11 || echo python3)
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.ferray-stamp

.DEFAULT_GOAL := help
.PHONY: help setup search test test-slow test-hosts test-all test-ray fuzz check format bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## make .venv with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ferray needs Python 3.11 or newer: make PYTHON=...")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "setting up .venv (once; some minutes and gigabytes, most of it torch)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

search: $(STAMP) ## search the shipped grid on faces drawn by code
	$(BIN)/python -m ferray.search --space grid $(ARGS)

test: $(STAMP) ## the tests, but for the slow ones
	@# The searches in one process, the rest in another; modules are compiled once for all processes that tests start.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: $(STAMP) ## the slow tests only
	$(BIN)/python -m pytest -m slow $(ARGS)

test-hosts: $(STAMP) ## a search on simulated machines with a bucket, whose head is lost; needs root and hosts.sh
	$(BIN)/python -m pytest -m slow tests/cluster/test_machines_and_a_bucket.py $(ARGS)

test-all: $(STAMP) ## every test
	$(BIN)/python -m pytest -m "" $(ARGS)

test-ray: $(STAMP) ## the tests of a search with the lowest and the pinned version of ray; ARGS=2.61.0 for another
	$(BIN)/python tests/ray_versions.py $(ARGS)

fuzz: $(STAMP) ## a million hostile files for every reader; ARGS="--scale 0.01" for fewer
	PYTHONPATH=tests:. $(BIN)/python tests/hostile/fuzz.py $(ARGS)

check: $(STAMP) ## all that is not a test: format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code in its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## run every benchmark but that of a GPU; each prints what it measures
	@set -e; for script in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

clean: ## remove caches and build folders; .venv, data and runs stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find ferray tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
