# From a fresh clone, with nothing but Python >= 3.11:  make demo   make test
# Then: make bench (AGAINST=torch,numpy)   make lint   make oracles   make clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-numpy bench lint oracles clean

# The first interpreter on PATH that is new enough; override with `make PYTHON=/path/to/python test`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
RECIPE := pyproject.toml setup.py

DEMO_OUT ?= runs/demo
DEMO_ARGS ?=
AGAINST ?= numpy,torch,compile,autograd,mygrad
BENCH ?=
PYTEST_ARGS ?=
# processes that share the tests; 0 runs them in one
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

help:
	@echo "make demo        install, train a small model on real text, let it write, make a report (about five minutes)"
	@echo "make test        install and run the tests"
	@echo "make bench       side-by-side benchmarks; BENCH=\"rows overhead\" AGAINST=torch,numpy"
	@echo "make lint        ruff and mypy"
	@echo "make test-numpy  the same tests on the plain NumPy kernels"
	@echo "make oracles     the checks against PyTorch, transformers and TransformerLens (installs them)"
	@echo "make clean       remove .venv, caches and build leftovers"

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ]; then echo "tinygrad_llm needs Python 3.11 or newer on PATH; found none. Install it, or: make PYTHON=/path/to/python" >&2; exit 2; fi
	@"$(PYTHON)" -m venv $(VENV) || { echo "could not make $(VENV): '$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@touch $@

$(VENV)/.demo: $(VENV)/.made $(RECIPE)
	$(PIP) -e '.[viz]'
	@touch $@

$(VENV)/.test: $(VENV)/.made $(RECIPE)
	$(PIP) -e '.[test,text,viz]'
	@touch $@

$(VENV)/.lint: $(VENV)/.made $(RECIPE)
	$(PIP) -e '.[lint]'
	@touch $@

$(VENV)/.oracles: $(VENV)/.test
	$(PIP) -e '.[test,text,viz,oracles]'
	@touch $@

# --force: the demo's own folder, made anew at each run
demo: $(VENV)/.demo
	$(BIN)/tinygrad-llm train --out $(DEMO_OUT) --force $(DEMO_ARGS)
	$(BIN)/tinygrad-llm generate $(DEMO_OUT) --prompt "def " --tokens 200 --temperature 0.8 --seed 1
	$(BIN)/tinygrad-llm inspect $(DEMO_OUT) --text "def add(a, b):" --out $(DEMO_OUT)/inspect.html --force
	@echo "model and training report: $(DEMO_OUT)   a look inside: $(DEMO_OUT)/inspect.html"

test-numpy: export TINYGRAD_LLM_KERNELS = numpy
test test-numpy: $(VENV)/.test
	$(PYTEST) tests --ignore=tests/oracles $(PYTEST_ARGS)

bench: $(VENV)/.demo
	$(BIN)/tinygrad-llm bench $(BENCH) --against $(AGAINST) --json bench-results/latest.json --plots bench-results/plots

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/mypy

oracles: $(VENV)/.oracles
	$(PYTEST) tests/oracles $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
