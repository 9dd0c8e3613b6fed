PYTHON ?= python3
BIN := .venv/bin
.DELETE_ON_ERROR:
.PHONY: demo test test-slow lint clean browser docs readme

demo: .venv/installed ## a real search on scikit-learn's handwritten digits
	$(BIN)/distilnas search

test: lint ## lint, types and every test that is not slow
	$(BIN)/pytest -n 2 --dist loadfile --durations 15 -m "not slow and not gpu"

test-slow: .venv/installed-test ## the tests that take minutes
	$(BIN)/pytest -n 2 --dist loadfile --durations 15 -m "slow and not gpu"

readme: .venv/installed-test ## README's sample output and docs/commands.md, written anew
	$(BIN)/python benchmarks/readme.py

docs: .venv/installed-docs ## the documentation's site, in site/
	$(BIN)/python -m benchmarks.site
	NO_COLOR=1 $(BIN)/zensical build --strict --clean

browser: ## Chromium for the tests of pages, where this machine may install it
	command -v chromium || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq -y chromium; } \
	  || echo "no chromium: the tests of pages will be skipped"

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

.venv/installed-docs: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet -e ".[docs]"
	touch $@ .venv/installed

clean:
	rm -rf .venv .docs site .cache runs studies.db studies.db-wal studies.db-shm
