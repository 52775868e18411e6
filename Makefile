# Every target works on a fresh checkout: the first one that needs it makes .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := emstore adapters schemas
CODE := $(PACKAGES) tests examples
MAX_LINES := 700
PYTEST_ARGS ?=
# Tests wait for servers and killed processes about as long as they compute.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench bench-memory manifest weights schemas wheel constraints clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("emstore needs Python 3.11 or newer; say which one: make PYTHON=python3.12 setup" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(STAMP)  ## make .venv and install emstore with all it needs, at the versions in constraints.txt

demo: setup  ## ingest sample scans, process one, verify, draw them and their lineage into demo-out/
	$(BIN)/python examples/demo.py demo-out

test: setup  ## run the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: setup  ## style, types, import contracts, module sizes
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find $(PACKAGES) -name '*.py' -exec wc -l {} + | awk '$$2 != "total" && $$1 > $(MAX_LINES) {print $$2 ": " $$1 " lines, more than $(MAX_LINES): split it"; bad = 1} END {exit bad}'

format: setup  ## sort imports and lay out the code
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

bench: setup  ## measure the figures in tests/bench/ (minutes, an idle machine)
	$(BIN)/python tests/bench/run.py

bench-memory: setup  ## measure the peak memory of 6 GB inputs in every format that streams (a quarter of an hour)
	$(BIN)/python tests/bench/run.py ingest_memory

manifest: setup  ## print what became of every real instrument file (EMSTORE_TEST_DATA says where they are)
	$(BIN)/python tests/support/manifest_table.py

weights: setup  ## put the trained models REFS among the weights that come with emstore
	$(BIN)/python -m emstore.trainers.shipping $(REFS)

schemas: setup  ## write the JSON Schemas anew from the models
	$(BIN)/python schemas/generate.py

wheel: setup  ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --outdir dist .

constraints:  ## pin anew, at the newest versions that fit together
	$(PYTHON) -m venv --clear build/resolve
	build/resolve/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	{ grep '^#' constraints.txt; build/resolve/bin/python -m pip freeze --exclude emstore | sed 's|+cpu||'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -r build/resolve

clean:  ## delete what was built, measured and drawn; .venv stays
	rm -rf dist build demo-out bench-out .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
