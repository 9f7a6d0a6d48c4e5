# Two commands do everything: `make book` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11) and \
  "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + \
  ": make PYTHON=python3.12 …")
# Tests and pages run in so many processes, each with one thread and 1 GB.
PROCESSES ?= 2
export TABLE PROCESSES
# Threads that wait asleep: seven times faster when the cores are shared.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup book test floors lab bench sync check clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | \
	  awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## Make the environment in .venv (about 3 minutes)

$(READY): requirements.lock requirements-torch.txt pyproject.toml
	@$(PYTHON) -c '$(NEW_ENOUGH)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements-torch.txt
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

book: $(READY) ## Run the notebooks and build the book; TABLE=path.csv: on real occurrences
	$(BIN)/python book/build.py

test: $(READY) ## Run the test suite
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile \
	  --no-loadscope-reorder --durations=10

floors: $(READY) ## Test models, loader, chapter 09 with oldest and newest versions
	$(BIN)/python .ci/floors.py oldest
	$(BIN)/python .ci/floors.py newest

lab: $(READY) ## Open the notebooks in JupyterLab
	GEOTREE_DATA="$(CURDIR)/data/lab" $(BIN)/jupyter lab notebooks

bench: $(READY) ## Measure every stage, keep the figures in results/ (30 minutes)
	$(BIN)/python -m benchmarks all growth --save

sync: $(READY) ## Write each .ipynb from its .py, without outputs
	$(BIN)/jupytext --quiet --to ipynb --update notebooks/*.py
	$(BIN)/nbstripout --keep-id notebooks/*.ipynb

check: $(READY) ## Check style, notebook pairs and versions (seconds)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q tests/test_project.py

clean: ## Remove pages and the data of the book and the lab; keeps .venv
	rm -rf _build data/book data/lab
