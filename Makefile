# make demo | test | bench | lint | test-no-torch PYTHON=python3.12 | clean | distclean
#
# Needed on the machine: Python 3.11 or later with venv, git. Everything else comes into $(VENV), pinned by constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= train,workflow,dev,test
CORES  ?= all

BIN := $(VENV)/bin
# Targets call programs of the environment by name, and so do the workflow's rules.
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test bench lint test-no-torch venv clean distclean

demo: venv
	snakemake --profile workflow/profiles/local --cores $(CORES)
	snakemake --report results/report.html
	@echo "Open results/report.html (no network needed); the figures are in results/comparison.json."

# Two tests at a time, each on one thread: two cores are the smallest machine that this should be quick on.
test: lint
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadscope

bench: venv
	@python -m benchmarks

lint: venv
	ruff check
	ruff format --check
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

# The simulation side, on a Python that may have no torch: an environment of its own beside .venv.
test-no-torch: VENV := .venv-$(notdir $(PYTHON))
test-no-torch:
	@$(MAKE) --no-print-directory venv VENV=$(VENV) EXTRAS=workflow,dev
	! $(VENV)/bin/python -c 'import torch' 2>/dev/null
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadscope --ignore=tests/training --ignore=tests/e2e

venv: $(VENV)/installed

# Wheels are unpacked without compiling every module to bytecode: half of the time, for modules mostly never imported.
$(VENV)/installed: constraints.txt pyproject.toml
	@echo "Installing pinned packages into $(VENV) (a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --constraint constraints.txt pip setuptools
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --no-compile --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch $@
	@echo "Installed $$($(BIN)/python --version) and $$($(BIN)/python -m pip list 2>/dev/null | tail -n +3 | wc -l) packages."

clean:
	rm -rf results build bench .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find resim training tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
