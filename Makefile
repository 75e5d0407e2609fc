# The only door to the project. Logic lives in dev/; this file names what there is.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help init assets fmt lint types test e2e bench faults crds up down status demo lock

help: ## list these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

init: ## make .venv with the locked packages (seconds when nothing changed)
	@$(PYTHON) -m dev.bootstrap

assets: init ## build and install what the servers need (minutes, once; all checkouts share it)
	@$(BIN)/python -m dev assets

fmt: init ## format the code and fix what can be fixed mechanically
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: init ## style, import rules, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/python -m pipewright.api.crd --check

types: init ## mypy, strict
	@$(BIN)/mypy
	@$(BIN)/mypy operator/main.py

test: assets ## every test, on real servers (started and stopped by the fixtures)
	@$(BIN)/python -m pytest

e2e: assets ## only the stories on real servers
	@$(BIN)/python -m pytest tests/e2e

bench: assets ## measurements; they print figures
	@$(BIN)/python -m pytest tests/bench

faults: assets ## every fault with every oracle (hours; ARGS="--slice 2/5 --resume", docs/faults.md)
	@PYTHONPATH=operator:. $(BIN)/python -m dev.faults $(ARGS)

crds: init ## write crds/ from the types
	@$(BIN)/python -m pipewright.api.crd

up: init ## start the development stack and print how to reach it
	@$(BIN)/python -m dev up

down: init ## stop the stack and remove its data (logs stay)
	@$(BIN)/python -m dev down

status: init ## what runs, where it answers, where its log is
	@$(BIN)/python -m dev status

demo: init ## from nothing to a healed CI failure (KEEP=1 leaves it running)
	@KEEP=$(KEEP) $(BIN)/python -m dev.demo

lock: init ## resolve the requirements again and write requirements/*.txt
	@$(BIN)/python -m dev lock
