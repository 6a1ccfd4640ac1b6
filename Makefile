# Everything a newcomer needs: `make demo` and `make test` set themselves up on a bare machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
# The tests start the program many times: what was compiled once is kept, whatever is set outside.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test lint format bench screenshots docs clean

help: ## List what make can do
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "qcowtui needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "Setting up $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@$(PIP) install --editable '.[dev]'
	@touch $@

demo: $(VENV)/.runtime ## Set up, build sample images and open the app on one of them
	@$(BIN)/qcowtui demo

test: $(VENV)/.dev ## Set up, install the qemu-utils oracle if missing, run all tests
	@./tests/ensure-oracle
	@$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev ## ruff, ruff format, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## Let ruff fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## Print the ratios against qemu-img
	@./tests/ensure-oracle
	@$(BIN)/python -m benchmarks

screenshots: $(VENV)/.dev ## Draw the pictures of the README anew
	@$(BIN)/python -m screenshots

docs: $(VENV)/.dev ## Write the generated pages in docs/
	@$(BIN)/python -m qcowtui.commands.docs docs

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
