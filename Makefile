# Two commands for a newcomer:  make demo   and   make test
# They need Python >= 3.11 with pip and venv; everything else goes into $(VENV).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip --quiet --disable-pip-version-check install -c constraints.txt
CODE   := cryonb tests $(wildcard benchmarks notebooks)

# What `make demo` runs with; `make demo DEMO_ARGS="--help"` hands arguments on.
DEMO_ARGS ?=
PYTEST_ARGS ?=

.PHONY: help demo test test-slow lint lab bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       predict and judge an example map; the first call installs into $(VENV)"
	@echo "make test       style, floors and tests"
	@echo "make test-slow  the tests marked slow"
	@echo "make lint       style and floors only"
	@echo "make lab        JupyterLab on the notebooks"
	@echo "make bench      the benchmarks (CRYONB_DATA names the folder of maps and models)"
	@echo "make clean      remove $(VENV), caches and outputs of the demo"

# One environment in two steps: the demo needs the package and its notebook extra, tests more.
# A stamp is older than pyproject.toml or constraints.txt only when it has to be made again.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "cryonb needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	       "name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "cryonb: making the environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "cryonb could not make a virtual environment; on Debian and Ubuntu install the" \
	       "package python3-venv, then run make again" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	@echo "cryonb: installing the package (the first time takes a few minutes, mostly torch)"
	@$(PIP) -e ".[notebook]"
	@touch $@

$(VENV)/.full: $(VENV)/.demo
	@echo "cryonb: installing the tools for tests"
	@$(PIP) -e ".[notebook,test]"
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/cryonb demo $(DEMO_ARGS)

lint: $(VENV)/.full
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/lint-imports --no-logo

test: lint
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS)

# pytest's exit code 5 means that no test carries the mark, which is no failure.
test-slow: $(VENV)/.full
	@$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS) || [ $$? -eq 5 ]

lab: $(VENV)/.full
	@$(BIN)/jupyter lab --notebook-dir=notebooks

bench: $(VENV)/.full
	@set -e; for script in benchmarks/bench_*.py; do \
	  echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf $(VENV) build dist *.egg-info out runs demo-output
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find cryonb tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
