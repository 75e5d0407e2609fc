# The only door to the project. Logic lives in dev/; this file names what there is.
PYTHON ?= python3
BIN := .venv/bin
# each worker of the tests has servers of its own, or there is one worker for the servers that you name;
# files stay whole and in order, so that contracts come before stories
WORKERS ?= $(if $(CLUSTER)$(DATABASE_DSN)$(VAULT_ADDR),1,3)
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help init assets fmt lint types test e2e bench bench-tenants bench-ingest bench-query bench-predict bench-train fuzz faults crds up down status demo lock

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
	@$(BIN)/python -m pipewright.settings_schema --check
	@$(BIN)/python -m connectors.docs --check

types: init ## mypy, strict
	@$(BIN)/mypy
	@$(BIN)/mypy operator/main.py
	@$(BIN)/mypy examples/connector-acme/src/acme_connector

test: assets ## every test, on real servers (WORKERS=3 sets of them, started and stopped by the fixtures)
	@$(BIN)/python -m pytest $(PARALLEL)

e2e: assets ## only the stories on real servers
	@$(BIN)/python -m pytest $(PARALLEL) tests/e2e

bench: assets ## measurements; they print figures
	@$(BIN)/python -m pytest tests/bench

bench-tenants: assets ## provisioning beside a bare loop; N Tenants in each of ROUNDS rounds
	@PYTHONPATH=operator:. N=$(or $(N),60) ROUNDS=$(or $(ROUNDS),3) FIGURES="$(FIGURES)" $(BIN)/python -m tests.bench.tenants

bench-ingest: assets ## what the gateway takes in, beside loops that do less (minutes; ROUNDS=3, FIGURES="single batch mapping idle")
	@PYTHONPATH=operator:. ROUNDS=$(or $(ROUNDS),3) FIGURES="$(FIGURES)" $(BIN)/python -m tests.bench.ingest

fuzz: init ## mappings by coverage-guided fuzzing, from the fixtures on (CONNECTOR=github SECONDS=60), and by hypothesis
	@EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest -q tests/unit/connectors/test_mapping_catalogue.py -k spoiled
	@$(BIN)/python -m dev.fuzz $(CONNECTOR) -max_total_time=$(or $(SECONDS),60) -rss_limit_mb=2048

bench-query: assets ## dashboards and reports over N runs of one tenant, and over a tenth of them
	@PYTHONPATH=operator:. N=$(or $(N),1000000) $(BIN)/python -m tests.bench.query

bench-predict: init ## how good the prediction is on real histories, SEEDS=5, and what features and fits of SIZES runs take
	@PYTHONPATH=operator:. SEEDS=$(SEEDS) SIZES="$(SIZES)" FIGURES="$(FIGURES)" KEEP=$(KEEP) $(BIN)/python -m tests.bench.predict

bench-train: assets ## serving a model beside Ray Serve, and a training from due to promoted (FIGURES="compute batch endpoint ray_serve cycle")
	@PYTHONPATH=operator:. ROUNDS=$(or $(ROUNDS),3) FIGURES="$(FIGURES)" $(BIN)/python -m tests.bench.train

faults: assets ## every fault with every oracle (hours; ARGS="--slice 2/5 --resume", docs/faults.md)
	@PYTHONPATH=operator:. $(BIN)/python -m dev.faults $(ARGS)

crds: init ## write crds/, the settings' schema and the connectors' pages from what they describe
	@$(BIN)/python -m pipewright.api.crd
	@$(BIN)/python -m pipewright.settings_schema
	@$(BIN)/python -m connectors.docs

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
