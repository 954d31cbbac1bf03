# Each target sets up what it needs; a fresh clone needs nothing before it but python3 and make.

PYTHON := .venv/bin/python

# Data sets for the tests and figures that need them; without, those are skipped.
ifneq ($(wildcard ../shared/data),)
export LMAAS_DATASETS ?= $(abspath ../shared/data)
endif

# Containers often set it. Each of the some thousand processes that the tests start would then compile
# all that it imports: 9 s instead of 3 for TensorFlow, and half of a start of `lmaas`.
unexport PYTHONDONTWRITEBYTECODE

# Processes that test: each waits for a third of its time.
TESTERS := $(shell python3 -c "import os; print(min(6, os.cpu_count() + 1))")
# Files are begun in the order of collection: those of many small tests come last, and fill what
# the long ones leave.
TOGETHER := --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-secure test-matrix wheel-test image-test models-test fuzz coverage check audit \
	build bench chaos soak clean

help:
	@echo "make setup   install everything into .venv"
	@echo "make demo    classify example reviews through a private broker"
	@echo "make test    run the tests; PYTEST_ARGS goes to pytest"
	@echo "make test-secure"
	@echo "             the same with sealed payloads, and brokers that listen by TLS alone"
	@echo "make wheel-test"
	@echo "             the wheel in environments of its own, beside files with hostile names"
	@echo "make image-test"
	@echo "             the images of worker and gateway, built by buildah and run by podman (as root)"
	@echo "make models-test"
	@echo "             the figures of docs/models.md: models trained and imported on whole data sets"
	@echo "make fuzz    requests to the gateway, made up from its own description, for some minutes;"
	@echo "             SEED=7 makes others"
	@echo "make coverage"
	@echo "             the tests again, and how much of the package they run"
	@echo "make test-matrix"
	@echo "             the integration tests with other Pythons and brokers; MATRIX names them"
	@echo "make check   style and types"
	@echo "make audit   known vulnerabilities of what uv.lock has, by osv.dev; it says so when nobody answers"
	@echo "make build   the distributions in dist/, with a list of all they can need (CycloneDX)"
	@echo "make bench   measure the figures of docs/benchmarks.md"
	@echo "make chaos   a job under faults, nodes that die, restarts, malformed messages, and the tests"
	@echo "             that kill and flood for minutes; CHAOS_ARGS goes to the first"
	@echo "make soak    the first of these with 20 seeds in a row, an hour; SEEDS=7,21-30,"
	@echo "             SOAK_ARGS goes to it, LMAAS_RABBITMQ names another RabbitMQ's folder"
	@echo "make clean   remove what tools left, but not .venv"

setup:
	@scripts/setup all

demo:
	@scripts/setup demo
	@scripts/with-broker $(PYTHON) examples/demo.py

test: setup
	@scripts/with-broker $(PYTHON) -m pytest $(TOGETHER) $(PYTEST_ARGS)

test-secure: setup
	@LMAAS_TEST_PAYLOAD_KEYS=1 LMAAS_TEST_TLS=1 LMAAS_TEST_LEAKS=1 \
		scripts/with-broker $(PYTHON) -m pytest $(TOGETHER) $(PYTEST_ARGS)

wheel-test: setup
	@scripts/with-broker $(PYTHON) -m pytest -m wheel tests/wheel $(PYTEST_ARGS)

image-test: setup
	@scripts/image worker gateway
	@scripts/with-broker $(PYTHON) -m pytest -m image tests/image $(PYTEST_ARGS)

models-test: setup
	@scripts/with-broker $(PYTHON) -m pytest -m models tests/models $(PYTEST_ARGS)

SEED ?= 1

fuzz: setup
	@LMAAS_FUZZ_SEED=$(SEED) scripts/with-broker \
		$(PYTHON) -m pytest -s -m fuzz tests/gateway/test_fuzz.py $(PYTEST_ARGS)

coverage: setup
	@$(PYTHON) -m coverage erase
	@scripts/with-broker $(PYTHON) -m pytest $(TOGETHER) --cov --cov-report= $(PYTEST_ARGS)
	@$(PYTHON) -m coverage report

test-matrix:
	@scripts/test-matrix $(MATRIX)

check: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

audit: setup
	@scripts/audit

build: setup
	@uv=uv; $$uv --version >/dev/null 2>&1 || uv=.venv-uv/bin/uv; \
	$$uv build --quiet --out-dir dist && \
	$$uv export --quiet --frozen --no-dev --all-extras --format cyclonedx1.5 --preview-features sbom-export \
		--output-file dist/lmaas.cdx.json >/dev/null && ls dist/*

bench:
	@scripts/setup bench
	@scripts/with-broker $(PYTHON) -m benchmarks --json docs/benchmarks.json --page docs/benchmarks.md

# All are run, whatever the first ones find.
chaos:
	@scripts/setup bench
	@trap 'exit 130' INT; missed=0; \
	scripts/with-broker $(PYTHON) -m benchmarks.failures suite $(CHAOS_ARGS) || missed=1; \
	for name in cluster waiting fuzz hostile; do \
		scripts/with-broker $(PYTHON) -m benchmarks.failures $$name || missed=1; \
	done; \
	scripts/with-broker $(PYTHON) -m pytest -m chaos tests/integration || missed=1; \
	exit $$missed

SEEDS ?= 1-20

soak:
	@scripts/setup bench
	@scripts/with-broker $(PYTHON) -m benchmarks.failures soak --seeds $(SEEDS) $(SOAK_ARGS)

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* dist
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
