# Each target makes its own virtual environment first, from constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
# Interpreters that `make release-check` installs the wheel under.
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: demo test test-slow lint format bench docs dist release-check clean

demo: $(READY)
	$(BIN)/scoutview demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: $(READY)
	$(BIN)/python -m mkdocs build --strict

# wheel, source distribution, bill of materials and licences (docs/release.md)
dist: $(READY)
	rm -rf dist build
	$(BIN)/python -m build --no-isolation
	$(BIN)/python tools/bill_of_materials.py --out dist

release-check: dist
	$(BIN)/python tools/try_wheel.py dist $(PYTHONS)

clean:
	rm -rf $(VENV) demo build dist site *.egg-info src/*.egg-info

# The marker is written last, so an interrupted installation is made again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("scoutview needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "installing into $(VENV): torch and some hundred packages, minutes on the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@
