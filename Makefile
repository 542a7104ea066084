# make test    sets up, then runs everything that this machine can run (docker tests where a daemon answers)
# make check   before every commit: format, lint, types, layers, unit tests
# make bench   our figures beside the floors
VENV ?= .venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin/

.PHONY: check format test bench venv

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

check: venv
	$(BIN)ruff format --check -q .
	$(BIN)ruff check -q .
	$(BIN)mypy
	$(BIN)lint-imports --no-logo
	$(BIN)codespell -q 3 README.md docs reflow
	$(PY) -m pytest tests/unit -q -n auto

format: venv
	$(BIN)ruff check --fix-only -q .
	$(BIN)ruff format -q .

test: check
	$(PY) -m pytest tests -q -n auto --ignore tests/unit

bench: venv
	$(PY) bench/run.py
