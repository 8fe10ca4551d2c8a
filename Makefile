# `make run` and `make test` need python3 (3.11 or newer) and make; they set everything else up in .venv/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 2# processes that tests run in, by file, one thread each

.PHONY: help install run test test-slow bench lint format lock build clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(STAMP) ## make .venv from the hash-pinned lock (done once, again when the lock changes)

# The stamp carries the environment's promise: exactly the lock, plus this checkout. A failed step leaves no stamp.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "clif_exp needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 install"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	@echo "Installing the locked environment into $(VENV) (about 6 GB; once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@cp $(BIN)/uv $(VENV)/.uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/.uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/.uv pip install --quiet --no-deps --editable .
	@touch $(STAMP)

run: $(STAMP) ## the whole method on the embedded default (ARGS="seed=1 dataset.size=6" to change it)
	@if test -e src/clif_exp/toonworld/weights/pipeline/model_index.json; then $(BIN)/python -m clif_exp $(ARGS); else \
	  echo "No trained ToonWorld weights in this checkout yet (README, Two commands): walking with untrained ones. The images will be noise."; \
	  test -e .cache/untrained/oracle || $(BIN)/python -c "from pathlib import Path; from clif_exp.toonworld.architectures import write_random_weights; write_random_weights(Path('.cache/untrained'))"; \
	  $(BIN)/python -m clif_exp debug=fast model.path=.cache/untrained $(ARGS); fi

test: $(STAMP) ## every promise, at small budgets (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder --durations=20 $(ARGS)

test-slow: $(STAMP) ## the README's commands in full, models of full size, kills in every stage (about half an hour)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow" -n $(WORKERS) --dist loadgroup $(ARGS)

bench: $(STAMP) ## what things cost beside what a user would run instead (quality.py and tuning.py train for hours)
	@for b in $(filter-out %/quality.py %/score_agreement.py %/stock_exports.py %/tuning.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$b"; $(BIN)/python $$b || exit 1; done

lint: $(STAMP) ## style, types, which room may import which, dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

format: $(STAMP) ## fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

lock: ## resolve the dependencies again (needs .venv/.uv)
	@$(VENV)/.uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --extra dev --extra joblib --extra optuna --extra ray --extra slurm --custom-compile-command "make lock" --quiet -o requirements.lock pyproject.toml

build: $(STAMP) ## the wheel, into dist/
	@$(BIN)/hatchling build -t wheel

clean: ## remove caches and builds (runs/, artifacts/ and .venv/ stay)
	@rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
