# Every target does its own set-up: a virtual environment in .venv with the pinned, hashed requirements and the checkout itself.
# Needed beforehand: Python 3.11+ with venv, git, make. `make PYTHON=/path/to/python3.12 test` picks another Python.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install --quiet --no-input --disable-pip-version-check
EDITABLE := $(INSTALL) --no-deps --no-build-isolation --editable .
# Where there is no Node, PyPI's builds the operator's pages; where they are built, none is needed.
NODE := $(PY) hatch_build.py has-node || $(INSTALL) --require-hashes -r requirements/node.txt
ARGS ?=

.PHONY: help demo test check bench campaign pages docs parts lock clean
.DEFAULT_GOAL := help

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: $(VENV)/.demo pages ## run a hive of scripted agents: no account, no network
	@$(VENV)/bin/hyperhive demo $(ARGS)

test: $(VENV)/.dev pages ## run the test suite (ARGS="tests/broker -x" for a part of it)
	$(PY) -m pytest --numprocesses=auto --maxprocesses=4 --max-worker-restart=0 --dist=loadfile $(ARGS)

check: $(VENV)/.dev ## format, lint, types, import contract, stale references
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) docs/generate.py --check
	$(PY) hatch_build.py npm run --silent check
	$(PY) hatch_build.py npm run --silent types:check

bench: $(VENV)/.bench pages ## print the speed table, as ratios with the baselines of the same run
	$(PY) -m tests.bench $(ARGS)

campaign: $(VENV)/.dev pages ## run the long tests (hours)
	$(PY) -m pytest -m campaign --timeout=0 $(ARGS)

pages: $(VENV)/.demo ## build the operator's pages, where their sources changed
	@$(PY) hatch_build.py pages

docs: $(VENV)/.dev ## write docs/reference/ anew from the code
	$(PY) docs/generate.py
	$(PY) docs/render_turns.py

parts: ## install the real parts that tests run (agent CLI, bubblewrap); as root also the packages
	tests/parts/install.sh

lock: $(VENV)/.dev ## resolve requirements/*.in anew into requirements/*.txt
	$(INSTALL) --require-hashes -r requirements/lock.txt
	for name in lock runtime build node dev bench; do \
		CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras \
			--allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header \
			--output-file requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

clean: ## remove what was installed into the checkout
	rm -rf $(VENV) src/hyperhive/web/static src/hyperhive/web/frontend/node_modules .parts build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# --- set-up: stamp files, so that a second run costs nothing ---------------------------------------------------------

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer with venv found; try: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/runtime.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(NODE)
	$(EDITABLE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(NODE)
	$(EDITABLE)
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	$(INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@
