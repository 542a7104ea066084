# make check   before every commit: format, lint, types, layers, unit tests
# make test    everything that this machine can run
PY ?= .venv/bin/python
BIN := $(dir $(PY))

.PHONY: venv check format test

venv:
	python3 -m venv .venv
	$(PY) -m pip install -q -e '.[dev]'

check:
	$(BIN)ruff format --check reflow tests bench
	$(BIN)ruff check reflow tests bench
	$(BIN)mypy
	$(BIN)lint-imports
	$(PY) -m pytest tests/unit -q -n auto

format:
	$(BIN)ruff format reflow tests bench
	$(BIN)ruff check --fix-only -q reflow tests bench

test:
	$(PY) -m pytest -n auto
