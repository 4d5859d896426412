# `make` alone lists the targets. Everything installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
# One thread per worker: two workers with many threads each are slower than one.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help install reproduce test test-quick test-slow test-wheel test-faults bench mutants pictures house docs docs-serve lint clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: .venv/installed ## the package and its tools, in .venv

.venv/installed: pyproject.toml constraints/cpu.txt constraints/install.sh
	PYTHON=$(PYTHON) sh constraints/install.sh
	@touch $@

# Corpora that are not there are synthetic twins; FETCH=1 downloads those that anyone may have.
reproduce: .venv/installed ## train, test and report; FETCH=1 downloads real corpora before
	$(if $(FETCH),$(foreach corpus,mosi meld,$(BIN)/mer-lightning data fetch $(corpus) --yes &&)) $(BIN)/mer-lightning reproduce

test: .venv/installed ## style, types and the quick tests
	@$(MAKE) --no-print-directory -j2 lint test-quick

test-quick: .venv/installed ## the quick tests alone
	$(THREADS) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: .venv/installed ## the tests that take minutes
	$(BIN)/pip install -q -c constraints/cpu.txt -e '.[ray]'
	$(THREADS) $(BIN)/python -m pytest -m slow -rs

test-wheel: ## the wheel in an empty environment, used as a person would
	PYTHON=$(PYTHON) sh tests/wheel.sh $$(mktemp -u -d)

test-faults: .venv/installed ## damaged files and commands that are ended; writes docs/reliability.md
	$(THREADS) $(BIN)/python -m tests.faults

bench: .venv/installed ## speed, side by side with peers; writes benchmarks/RESULTS.md
	$(BIN)/pip install -q --no-deps MMSA==2.2.1
	$(THREADS) $(BIN)/python -m benchmarks

pictures: .venv/installed ## those of the README, after make reproduce; needs Chromium
	$(THREADS) $(BIN)/python -m docs.pictures

house: .venv/installed ## draw the picture of the imports in docs/architecture.md
	$(BIN)/python -m docs.house

# Cells of the tutorials call the program. The warning that is left out is of tqdm, which would like to draw in notebooks.
MKDOCS := NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONWARNINGS="ignore:IProgress" $(THREADS) $(BIN)/mkdocs

docs: .venv/installed ## the site of docs/, in site/; a broken link and a cell of a tutorial that fails are errors
	$(BIN)/pip install -q -c constraints/cpu.txt -e '.[docs]'
	$(MKDOCS) build

docs-serve: docs ## the same on a local server, made anew when a page changes; tutorials without their outputs
	EXECUTE_TUTORIALS=false $(MKDOCS) serve

mutants: .venv/installed ## small defects put into losses, evaluation, methods and masks: which would no test notice?
	$(BIN)/python -m benchmarks.mutants $(MUTANTS)

lint: .venv/installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove what make and the tools have made, except runs and data
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info build dist site
