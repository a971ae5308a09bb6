# Everything that is done here by hand or by a machine has a target; `make` alone lists them.
# Variables: PYTHON= (setup), UPGRADE= (lock), TESTS= (unit), ACT= KEEP= JSON= (demo), NAME= ARGS= (bench), ARGS= (serve)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup lock check test unit coverage demo serve bench docs clean

BIN := .venv/bin
TESTS ?= tests

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the locked packages (about a minute, then nothing)
	@PYTHON="$(PYTHON)" .ci/setup

lock: setup ## Write requirements/*.txt again (UPGRADE=1 or UPGRADE=name to move versions)
	@UPGRADE="$(UPGRADE)" .ci/lock
	@.ci/setup

check: setup ## Format, lint, types, import contracts, dependencies, docs and lock files
	@$(BIN)/python .ci/check.py

test: setup ## All that CI runs: check, every test, the demo (about 13 minutes on two cores)
	@failed=""; \
	$(BIN)/python .ci/check.py || failed="$$failed check"; \
	$(BIN)/python -m pytest || failed="$$failed pytest"; \
	$(BIN)/python -m cattlegrid.app.demo || failed="$$failed demo"; \
	[ -z "$$failed" ] || { echo "test: failed:$$failed" >&2; exit 1; }

unit: setup ## The quick tests only (TESTS=path for some of them)
	@$(BIN)/python -m pytest --quiet $(if $(filter tests,$(TESTS)),tests/unit tests/contract tests/architecture,$(TESTS))

coverage: setup ## Every test, with a report of lines and branches that none reached
	@$(BIN)/python -m coverage run -m pytest --quiet
	@$(BIN)/python -m coverage report

demo: setup ## "That Friday night" (ACT=n plays one act, KEEP=1 leaves the server up, JSON=1 for machines)
	@$(BIN)/python -m cattlegrid.app.demo $(if $(ACT),--act $(ACT)) $(if $(KEEP),--keep) $(if $(JSON),--json)

serve: setup ## Serve the agents of this folder (ARGS="--port 8701")
	@$(BIN)/cattlegrid serve $(ARGS)

bench: BENCH = $(subst -,_,$(NAME))
bench: setup ## Run a benchmark, NAME=journal (its last line is one JSON object)
	@if [ -z "$(NAME)" ] || [ ! -e "benchmarks/$(BENCH).py" -a ! -e "benchmarks/$(BENCH)/__main__.py" ]; then \
	  echo "bench: $(if $(NAME),there is no benchmark '$(NAME)',NAME is missing). Choose one:" >&2; \
	  { find benchmarks -name '*.py' 2>/dev/null || true; } | sed -nE -e 's|^benchmarks/([^/]+)/__main__[.]py$$|\1|p' \
	    -e 's|^benchmarks/([^_/][^/]*)[.]py$$|\1|p' | sort | tr _ - | sed 's|^|  make bench NAME=|' >&2; \
	  exit 2; \
	fi
	@$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

docs: setup ## Check that every link in the documents leads somewhere
	@$(BIN)/python -m pytest --quiet tests/architecture/test_documents.py

clean: ## Remove what can be made again (.venv and caches)
	@rm -rf .venv .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* htmlcov build dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
