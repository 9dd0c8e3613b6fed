PYTHON ?= python3
BIN := .venv/bin
.DELETE_ON_ERROR:
.PHONY: demo test test-slow lint clean

demo: .venv/installed ## a real search on scikit-learn's handwritten digits
	$(BIN)/distilnas search

test: lint ## lint, types and every test that is not slow
	$(BIN)/pytest -m "not slow and not gpu"

test-slow: .venv/installed-test ## the tests that take minutes
	$(BIN)/pytest -m "slow and not gpu"

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@ .venv/installed

clean:
	rm -rf .venv runs studies.db studies.db-wal studies.db-shm
