# The index of commands; `make` alone lists them.
.DEFAULT_GOAL := help

PYTHON ?= python3
PROJECTS ?= digits penguins
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --quiet --no-input
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock'

.PHONY: help install install-dev up test soak lint format lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/run.stamp ## Create .venv with the timonel command and all that serving and training need

install-dev: $(VENV)/dev.stamp ## The same, and what the tests and checks need

up: install ## Serve digits and penguins, training what has no version yet (PROJECTS=…, ARGS=…)
	@exec $(BIN)/timonel up $(PROJECTS) $(ARGS)

test: install install-dev ## Run the tests; writes report.xml (ARGS=… goes to pytest)
	$(BIN)/python -m pytest --junitxml=report.xml $(ARGS)

soak: install-dev ## Run the tests that take minutes; writes report-soak.xml
	$(BIN)/python -m pytest -m soak --junitxml=report-soak.xml $(ARGS)

lint: install-dev ## Check format, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: install-dev ## Write requirements/*.lock anew (ARGS=--upgrade takes newer versions)
	$(COMPILE) $(ARGS) --extra train --extra redis --extra notebooks --extra dev \
		pyproject.toml requirements/build.in -o requirements/dev.lock
	$(COMPILE) $(ARGS) --extra train --constraint requirements/dev.lock \
		pyproject.toml requirements/build.in -o requirements/run.lock

clean: ## Remove the environment and what the tools left; keeps the home (.timonel)
	rm -rf $(VENV) build dist report.xml report-soak.xml .coverage .coverage.* coverage.xml
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +

# pip is the last thing that venv writes, so half an environment is made anew.
$(BIN)/pip:
	@command -v $(PYTHON) > /dev/null || { \
		echo "Expected Python 3.11 or newer, found no '$(PYTHON)'. Install it, or name it: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1). Name another: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "'$(PYTHON)' comes without venv. On Debian and Ubuntu install it with: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.lock pyproject.toml | $(BIN)/pip
	@echo "Installing what serving and training need into $(VENV); a minute or two the first time."
	@$(INSTALL) --require-hashes --no-deps -r requirements/run.lock
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock $(VENV)/run.stamp
	@echo "Installing what the tests and checks need into $(VENV)."
	@$(INSTALL) --require-hashes --no-deps -r requirements/dev.lock
	@touch $@
