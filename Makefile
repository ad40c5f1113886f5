# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each makes its own .venv on first use and brings it up to date when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What pip takes for torch, with options if you like: TORCH="torch==2.13.0 --index-url ...". On Linux
# the plain name brings the CUDA build, several GB; a CPU build is enough for demo and tests.
TORCH ?= torch==2.13.0

.PHONY: help demo test bench check format clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: $(VENV)/.installed  ## Walk the whole road on the embedded corpus (ten minutes on two cores)
	$(BIN)/miniplm demo

# The page is tested in a browser where there is one, and the tests that need it are skipped, saying
# so, where there is none. To install one: `apt-get install chromium` (Debian), `brew install --cask
# chromium` (macOS), or anything built on Chromium, named in MINIPLM_BROWSER.
test: check  ## Lint, format, types, and all tests
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

# What the benchmarks take, such as BENCH="--data DATA --run runs/demo --size full"
BENCH ?=
bench: $(VENV)/.installed  ## Data path against the authors' way and the machine's limit (under ten minutes)
	$(BIN)/python -m benchmarks $(BENCH)

check: $(VENV)/.installed-dev  ## Lint, format and types only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Put the code in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "miniplm needs Python 3.11 or later; set PYTHON=... to one"; exit 1; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

clean:  ## Remove .venv and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
