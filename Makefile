# Everything the project does, and what CI runs. Each target installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/installed-demo
DEV := $(VENV)/installed-dev
PYTEST := $(BIN)/python -m pytest
# One thread a worker: the tests run side by side, and threads of several processes on the same
# cores wait for one another.
SERIAL := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

# torch comes by its exact version: anything that asks for a range of it would bring the
# newest build, with several gigabytes of CUDA. Python compiles a module when it first imports it;
# compiling all 13,000 beforehand, as pip does one by one, takes longer than the demo itself.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt \
		$(shell grep '^torch==' constraints.txt) --editable '.[mesh,report]'
	@touch $@

$(DEV): $(DEMO)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	-$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1
	@touch $@

.PHONY: setup
setup: $(DEV) ## Install everything for development into .venv

.PHONY: demo
demo: $(DEMO) ## Train two networks on real digits, measure both, write demo/report.html
	$(BIN)/levelset demo --out demo

.PHONY: test
test: $(DEV) ## Run the fast tests
	$(SERIAL) $(PYTEST) -n $(WORKERS) -m 'not slow and not gpu'

.PHONY: test-slow
test-slow: $(DEV) ## Run the slow tests
	$(SERIAL) $(PYTEST) -n $(WORKERS) -m 'slow and not exhaustive and not gpu'

.PHONY: test-exhaustive
test-exhaustive: $(DEV) ## Run every case of what the other tests sample
	$(SERIAL) $(PYTEST) -n $(WORKERS) -m exhaustive

.PHONY: test-gpu
test-gpu: $(DEV) ## Run the tests that need a CUDA device
	$(PYTEST) -m gpu

SECONDS ?= 600
.PHONY: fuzz
fuzz: $(DEV) ## Mutate files, looking for an exception that is not ours, SECONDS=600 long
	$(SERIAL) $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

.PHONY: shapes
shapes: $(DEV) ## Run the fast tests, some cases of each, with the shapes in signatures checked
	$(SERIAL) $(PYTEST) -n $(WORKERS) \
		-m 'not slow and not gpu and not data and not messages and not same_shapes' --most-cases 2 \
		--jaxtyping-packages=levelset,beartype.beartype

.PHONY: doctest
doctest: $(DEV) ## Run the examples in docstrings, README and docs
	$(SERIAL) $(PYTEST) -n $(WORKERS) --doctest-modules --doctest-glob='*.md' src README.md docs

.PHONY: lint
lint: $(DEV) ## Check style, and that layers import downwards only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

.PHONY: types
types: $(DEV) ## Check types
	$(BIN)/mypy

.PHONY: docs
docs: $(DEV) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: smoke
smoke: $(DEV) ## Run every experiment in its quick form
	@for script in experiments/[a-z]*.py; do echo "$$script"; $(BIN)/python $$script --quick || exit 1; done

.PHONY: check
check: lint types shapes doctest docs ## Everything CI checks beside the tests

.PHONY: bench
bench: $(DEV) ## Run the benchmarks that compare speeds
	@for script in $(filter-out benchmarks/faults.py benchmarks/soak.py,$(wildcard benchmarks/[a-z]*.py)); do echo "$$script"; $(BIN)/python $$script || exit 1; done

.PHONY: format
format: $(DEV) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove what was made, the environment included
	rm -rf $(VENV) site dist build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
