# Two commands do everything: `make book` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
export TABLE

.DEFAULT_GOAL := help
.PHONY: help setup book test lab sync check clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | \
	  awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## Make the environment in .venv

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

book: $(READY) ## Run every notebook and build the book; TABLE=path.csv for real occurrences
	$(BIN)/python book/build.py

test: $(READY) ## Run the test suite
	$(BIN)/python -m pytest

lab: $(READY) ## Open the notebooks in JupyterLab
	GEOTREE_DATA=$(CURDIR)/data/lab $(BIN)/jupyter lab notebooks

sync: $(READY) ## Write each .ipynb from its .py
	$(BIN)/jupytext --quiet --to ipynb --update notebooks/*.py
	$(BIN)/nbstripout --keep-id notebooks/*.ipynb

check: $(READY) ## Check style and notebook pairs (seconds)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q tests/test_project.py

clean: ## Remove built pages and data; keeps .venv
	rm -rf _build data geotree-data
