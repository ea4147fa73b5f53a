# make demo | demo-lartpc | test | faults | bench | lint | test-no-torch PYTHON=python3.12 | test-sherpa | test-cluster | clean | distclean
#
# Needed on the machine: Python 3.11 or later with venv, git. Everything else comes into $(VENV), pinned by constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= train,workflow,dask,dev,test
CORES  ?= all

BIN := $(VENV)/bin
# Targets call programs of the environment by name, and so do the workflow's rules.
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, every process compiles all modules that it loads anew: twice the time of a small job.
unexport PYTHONDONTWRITEBYTECODE
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo demo-lartpc test faults bench lint test-no-torch test-sherpa test-cluster venv compiled clean distclean

demo: venv
	snakemake --profile workflow/profiles/local --cores $(CORES)
	snakemake --report results/report.html
	@echo "Open results/report.html (no network needed); the figures are in results/comparison.json."

# The other lane, in a folder of its own: its results would lie where those of the first do.
LARTPC := snakemake --snakefile Snakefile --directory lartpc --configfile workflow/config/lartpc.yaml
demo-lartpc: venv
	@mkdir -p lartpc
	$(LARTPC) --profile workflow/profiles/local --cores $(CORES)
	$(LARTPC) --report results/report.html
	@echo "Open lartpc/results/report.html (no network needed); the figures are in lartpc/results/comparison.json."

# A test a core, each on one thread, and no more than four, for memory. While one core lints, another compiles what the
# tests' processes would each compile for themselves.
test: venv
	@$(MAKE) --no-print-directory -j 2 lint compiled
	OMP_NUM_THREADS=1 pytest -n auto --maxprocesses 4 --dist loadscope -m 'not faults' --ignore=tests/cluster --ignore=tests/scale/test_resume.py

compiled: venv
	resim simulate --config workflow/config/lartpc.yaml --sample electron --events 0:50 --out build/compiled

# Kills, full disks, flipped bits ... and what came of each: a table, and a line of JSON (docs/faults.md).
faults: venv
	OMP_NUM_THREADS=1 pytest -q -n auto --maxprocesses 4 --dist loadscope tests/faults tests/training/test_fit_processes.py \
	    tests/cluster/test_dask.py::test_a_worker_killed_at_half_a_part_costs_nothing_but_time tests/cluster/test_slurm.py

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
	@$(MAKE) --no-print-directory venv VENV=$(VENV) EXTRAS=workflow,dask,dev
	! $(VENV)/bin/python -c 'import torch' 2>/dev/null
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadscope -m 'not faults' --ignore=tests/training --ignore=tests/e2e --ignore=tests/cluster --ignore=tests/scale/test_resume.py

# Sherpa in an environment of its own, for its wheels are for Python 3.12 and 3.13; then its tests, integration included.
test-sherpa: venv .venv-sherpa/installed
	OMP_NUM_THREADS=1 RESIM_SHERPA_PYTHON=$(abspath .venv-sherpa/bin/python) python -m pytest tests/engines/test_sherpa.py

# Ten thousand parts, Dask, then the profiles on a Slurm of this machine alone that the tests start and end: as root, with
# Debian's packages slurmctld, slurmd, slurm-client and munge; without them it says so and passes. HTCondor's plugin warns
# in every run of Snakemake where it is found, so it lies in a folder of its own that one test looks into. Two at a time:
# there is one Slurm, whose tests mostly wait; the others are done meanwhile.
test-cluster: venv .venv-htcondor/installed
	OMP_NUM_THREADS=1 RESIM_HTCONDOR=$(abspath .venv-htcondor) pytest -n 2 --dist loadscope tests/scale/test_resume.py tests/cluster

.venv-htcondor/installed: constraints.txt | venv
	@echo "Installing HTCondor's plugin into .venv-htcondor ..."
	@rm -rf .venv-htcondor
	@python -m pip install -qq --constraint constraints.txt --no-deps --target .venv-htcondor htcondor snakemake-executor-plugin-htcondor
	@touch $@

.venv-sherpa/installed: envs/sherpa.yaml | venv
	@for python in python3.13 python3.12 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[23].*/bin/python none; do \
	    if "$$python" -c 'import venv' 2>/dev/null; then break; fi; \
	done; \
	if [ "$$python" = none ]; then echo "No Python 3.12 or 3.13 found in PATH or pyenv: Sherpa has wheels for these alone."; exit 1; fi; \
	echo "Installing Sherpa with $$python into .venv-sherpa ..."; \
	"$$python" -m venv --clear .venv-sherpa
	@.venv-sherpa/bin/python -m pip install -qq $$(python -c 'import yaml; print(*yaml.safe_load(open("$<"))["dependencies"][-1]["pip"])')
	@touch $@

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
	rm -rf results lartpc build bench .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find resim training tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
