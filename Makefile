# `make help` lists the targets. Everything runs from .venv, which `make setup` fills.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO_BIN := .venv-proto/bin
PROTOS := $(wildcard proto/tidegate/*/*.proto)
SERVICE_PROTOS := proto/tidegate/v1/model.proto proto/tidegate/v1/session.proto proto/tidegate/oip/open_inference.proto
PYTEST_OPTIONS ?=
# Tests wait for processes about half of the time. Those of a file share what it sets up, so they stay together.
PARALLEL := -n 3 --dist loadfile

.PHONY: help setup demo test test-fast test-node check bench bench-full proto proto-check docs image clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

# Installing is slow, so each set of extras leaves a stamp that is redone when its inputs change.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve-stamp: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,plot]'
	@touch $@

$(VENV)/.dev-stamp: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,plot,train,dev]'
	@touch $@ $(VENV)/.serve-stamp

.venv-proto/.stamp: proto/requirements.txt
	$(PYTHON) -m venv .venv-proto
	$(PROTO_BIN)/python -m pip install --quiet --disable-pip-version-check -r proto/requirements.txt
	@touch $@

.venv-interop/.stamp: tests/interop/requirements.txt
	$(PYTHON) -m venv .venv-interop
	.venv-interop/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

setup: $(VENV)/.dev-stamp .venv-interop/.stamp ## Install everything for development into .venv

demo: $(VENV)/.serve-stamp ## Start a server, stream a real series through it, draw the forecast
	$(BIN)/python examples/demo.py

test: check test-node .venv-interop/.stamp ## Everything: the checks, then all tests
	$(BIN)/python -m pytest -m 'not node' $(PARALLEL) $(PYTEST_OPTIONS)

test-fast: $(VENV)/.dev-stamp ## The tests for daily work: no slow ones, no foreign clients, no trials of whole servers
	$(BIN)/python -m pytest -m 'not slow and not node' $(addprefix --ignore=tests/,bench interop system) $(PARALLEL) $(PYTEST_OPTIONS)

test-node: $(VENV)/.dev-stamp ## What node's gRPC and buf make of the server (skips without node and npm)
	$(BIN)/python -m pytest -m node tests/interop/node $(PYTEST_OPTIONS)

check: $(VENV)/.dev-stamp proto-check ## Format, lint, types, import floors, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=service $(BIN)/lint-imports
	$(BIN)/python -m tidegate.cli.configuration_page --check docs/configuration.md
	$(BIN)/python -m tidegate.cli.recipe_page --check docs/recipe.md

bench: $(VENV)/.dev-stamp ## Measure against what this machine can do (10 minutes)
	$(BIN)/python -m bench

bench-full: $(VENV)/.dev-stamp ## The same, other models, and a sweep with a plot
	$(BIN)/python -m bench --full

# $(1): the folder that the generated package is written to.
define generate
	PYTHONWARNINGS=ignore PATH=$(CURDIR)/$(PROTO_BIN):$$PATH $(PROTO_BIN)/python -m grpc_tools.protoc -Iproto \
	  --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS)
	PYTHONWARNINGS=ignore PATH=$(CURDIR)/$(PROTO_BIN):$$PATH $(PROTO_BIN)/python -m grpc_tools.protoc -Iproto \
	  --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICE_PROTOS)
endef

proto: .venv-proto/.stamp ## Regenerate service/tidegate/v1 and oip from proto/
	$(call generate,service)

proto-check: .venv-proto/.stamp
	@rm -rf build/proto && mkdir -p build/proto
	@$(call generate,build/proto)
	diff -r -x __pycache__ -x __init__.py build/proto/tidegate/v1 service/tidegate/v1
	diff -r -x __pycache__ -x __init__.py build/proto/tidegate/oip service/tidegate/oip

docs: $(VENV)/.dev-stamp ## Regenerate the pages that come from the code
	$(BIN)/python -m tidegate.cli.configuration_page docs/configuration.md
	$(BIN)/python -m tidegate.cli.recipe_page docs/recipe.md

image: ## Build the container image
	docker build --tag tidegate --build-arg REVISION=$$(git rev-parse HEAD) \
	  --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' service/tidegate/__init__.py) .

clean: ## Remove what the targets made
	rm -rf $(VENV) .venv-proto .venv-interop build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis
