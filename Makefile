# Two commands matter: `make demo` and `make test`. Both do all their own set-up, in .venv and .cache.
.DEFAULT_GOAL := help
SHELL := /bin/bash
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of Pythons, which need not compile the bridge each

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
RELEASE := .cache/release
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps

.PHONY: help demo test check simulate chaos bench fuzz format reference recordings chart image test-image test-cluster sbom audit locks clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN) ## broker, publisher and bridge on this machine: watch messages come out as events, until Ctrl-C
	@exec $(BIN)/bridge demo

test: check ## every check: lint, format, types, tests
	@PYTHONPATH=tests $(BIN)/python -m sdks.install
	@$(BIN)/pytest -n auto --dist loadgroup

check: $(DEV) ## the checks that run nothing: lint, format, types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

simulate: $(DEV) ## the delivery in 100,000 simulated worlds, each from a seed (WORLDS=…)
	@PYTHONPATH=tests $(BIN)/python -m simulation --worlds $(or $(WORLDS),100000)

chaos: $(DEV) ## ten minutes of misfortunes upon real processes; then the books must balance
	@PYTHONPATH=tests $(BIN)/python -m chaos --seconds 600

bench: $(DEV) ## what a message costs, beside the official SDKs and the floor, into bench/RESULTS.md (ONLY=floor,kafka)
	@PYTHONPATH=tests $(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

TARGET ?= poll neighbours growth ack publish event roundtrip properties date management settings
LENGTH ?= 60
fuzz: $(DEV) .cache/atheris/.made ## look for hostile input that does harm (TARGET=poll LENGTH=1200)
	@for target in $(TARGET); do PYTHONPATH=tests:.cache/atheris $(BIN)/python -m fuzz $$target --seconds $(LENGTH) || exit 1; done

format: $(DEV) ## mend what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

reference: $(DEV) ## write the tables of docs/ anew, from the code
	@$(BIN)/python docs/generate.py
	@$(BIN)/python helm/reference.py
	@$(BIN)/python helm/dashboard.py

recordings: $(DEV) ## run the states that fire alerts, and record their metrics anew
	@PYTHONPATH=tests $(BIN)/python -m monitoring.record

chart: $(DEV) ## pack the Helm chart into dist/
	@mkdir -p dist
	@$(BIN)/python -c 'import helm_python; print(helm_python.package("helm/rocketmq-bridge", destination="dist"))'

image: ## build the image with docker, podman or buildah (IMAGE=name, BUILD="further options")
	@ops/image.sh $(BUILD)

test-image: $(DEV) ## build the image, run it confined, and look into it
	@$(BIN)/pytest tests/image/built.py

test-cluster: $(DEV) ## the chart's releases on a real API server (needs Go and etcd; the first time builds for some ten minutes)
	@PYTHONPATH=tests $(BIN)/python -m cluster.programs
	@$(BIN)/pytest -n 2 tests/cluster

sbom: $(RUN) $(RELEASE)/.made ## the bill of materials of the image's Python side, into dist/
	@ops/sbom.sh $(RELEASE)/bin/cyclonedx-py

audit: $(RELEASE)/.made ## ask PyPI whether a locked version is known to be vulnerable
	@for lock in run build; do $(RELEASE)/bin/pip-audit --strict --disable-pip --require-hashes -r locks/$$lock.txt || exit 1; done

$(RELEASE)/.made: locks/release.txt | $(VENV)/.made
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r $<
	@touch $@

locks: $(DEV) ## resolve the dependencies anew, into locks/
	$(PIP) uv
	$(COMPILE) pyproject.toml --extra compression --extra credentials --extra management --extra otel --extra redis --extra webhook -o locks/run.txt
	$(COMPILE) --group build -o locks/build.txt
	$(COMPILE) pyproject.toml --extra testing --group dev -c locks/run.txt -c locks/build.txt -o locks/dev.txt
	$(COMPILE) --group fuzz -o locks/fuzz.txt
	$(COMPILE) --group release -c locks/run.txt -o locks/release.txt
	$(COMPILE) examples/nats-sink/requirements.in -c locks/run.txt -c locks/dev.txt -o examples/nats-sink/requirements.txt

# Atheris is for campaigns alone, and has wheels for few platforms: it stays out of the environment.
.cache/atheris/.made: locks/fuzz.txt | $(RUN)
	@rm -rf $(@D)
	@$(PIP) --require-hashes --target $(@D) -r $<
	@touch $@

clean: ## forget everything that was set up
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, and {sys.executable} is {sys.version.split()[0]}: name another with make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The project itself is installed editable: sinks are found by entry point, so its metadata must be there.
$(RUN): locks/build.txt locks/run.txt pyproject.toml | $(VENV)/.made
	@echo "setting up $(VENV) …" >&2
	@$(PIP) --require-hashes -r locks/build.txt
	@$(PIP) --require-hashes --no-build-isolation -r locks/run.txt
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUN) locks/dev.txt
	@echo "setting up $(VENV) for the tests …" >&2
	@$(PIP) --require-hashes -r locks/dev.txt
	@touch $@
