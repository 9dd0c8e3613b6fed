PYTHON ?= python3
BIN := .venv/bin
.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-oldest coverage newest constraints lint clean browser docs readme

demo: .venv/installed ## a real search on scikit-learn's handwritten digits
	$(BIN)/distilnas search

test: lint ## lint, types and every test that is not slow
	$(BIN)/pytest -n 2 --dist loadfile --durations 15 -m "not slow and not gpu"

test-slow: .venv/installed-test ## the tests that take minutes
	$(BIN)/pytest -n 2 --dist loadfile --durations 15 -m "slow and not gpu"

coverage: .venv/installed-test ## lines that `make test` runs, by file; twice as slow
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not gpu" --cov --cov-report=term:skip-covered

test-oldest: .venv-oldest/installed ## the same tests on Python 3.11 and the lowest versions of pyproject.toml
	.venv-oldest/bin/pytest -n 2 --dist loadfile -m "not slow and not gpu"

newest: .venv/installed-test ## the newest version of everything, for `make test`; then `make constraints`
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager -e ".[test]"

constraints: ## the versions that are installed become those that `make` installs
	$(BIN)/pip freeze --exclude-editable > constraints.txt

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

.venv/installed: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test]"
	touch $@ .venv/installed

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@ .venv/installed

.venv-oldest/installed: pyproject.toml
	python3.11 -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-oldest .docs site .cache runs studies.db studies.db-wal studies.db-shm
