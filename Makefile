# Everything a newcomer or CI needs; `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# CUDA=1 adds the NVIDIA build of JAX to the environment.
CUDA ?=
STAMP := $(VENV)/.installed$(if $(CUDA),-cuda)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
# The first interpreter that starts and has a version we support.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python; do \
  $$p -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)
ARGS ?=
WORKERS ?= 3

.PHONY: help venv train test test-all test-lowest lint type format build docs lock clean

help:
	@echo 'make train      learn cartpole-swingup with two seeds (ARGS="--task=... --num_seeds=4")'
	@echo 'make test       lint, types and the fast tests'
	@echo 'make test-all   the slow checks too'
	@echo 'make test-lowest  train, draw and export with the oldest versions promised (needs uv)'
	@echo 'make format     rewrite the code in the house style'
	@echo 'make build      build the wheel and smoke-test it in a clean environment'
	@echo 'make docs       build the documentation in site/ (installs the extra docs)'
	@echo 'make lock       resolve the locks anew (needs uv)'
	@echo 'CUDA=1          with any of them: install the NVIDIA build of JAX'

$(STAMP): requirements.lock requirements-cuda.lock pyproject.toml
	@test -n '$(PYTHON)' && $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || \
	  { echo 'Needs Python 3.11 or 3.12 on the PATH, or: make PYTHON=/path/to/python'; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --require-hashes --only-binary :all: \
	  -r $(if $(CUDA),requirements-cuda.lock,requirements.lock)
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	touch $@

venv: $(STAMP)

train: venv
	$(BIN)/python -m launch.train --preset=quickstart $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/mutations --list | sed -n '/STALE/p'

type: venv
	$(BIN)/basedpyright

# A file's tests share what they compile, so a worker takes whole files; those
# that take longest come first (tests/conftest.py).
define pytest
@status=0; $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
  --no-loadscope-reorder --durations=10 $(1) $(ARGS) || status=$$?; \
  echo "the tests took $$((SECONDS / 60)) min $$((SECONDS % 60)) s"; exit $$status
endef

test: lint type
	$(call pytest,-m 'not slow')

# Slow tests are compiled with other flags than the fast ones, so they are runs
# of their own. Files whose tests share no program are spread over all workers;
# Warp's have workers of their own, since it keeps the buffers of each
# environment until the process ends.
SPREAD := tests/envs/test_warp.py tests/learner/test_learning.py

test-all: test
	$(call pytest,-m slow --dist load $(SPREAD))
	$(call pytest,-m slow $(SPREAD:%=--ignore=%))
	$(MAKE) build

test-lowest:
	.ci/lowest

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: venv
	PYTHON=$(BIN)/python .ci/smoke_wheel

docs: venv
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict

lock:
	.ci/lock

clean:
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache
