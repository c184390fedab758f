PYTHON ?= python3
# Each Python named by PYTHON= has an environment of its own.
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: demo test check lint fuzz bench test-parity figures pages api package clean

demo: $(VENV)/installed  ## train, track and export a small network, then ask it
	run=runs/demo-$$(date +%Y%m%d-%H%M%S) && \
	  $(BIN)/keras-resnet train --folder $$run && \
	  $(BIN)/keras-resnet predict $$run/export/1 $$run/samples/*.png

test: lint  ## everything, the notebooks too
	$(PYTEST) --nbmake --nbmake-timeout=600 tests notebooks

check: lint  ## the quick part of `make test`
	$(PYTEST) -m "not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-bench  ## the short form of the comparisons
	$(BIN)/python -m benchmarks.training --short
	$(BIN)/python -m benchmarks.inference --batch 1 --repeats 3
	$(BIN)/python -m benchmarks.startup --case cifar_resnet20 --case cifar_resnet110 --repeats 1
	$(BIN)/python -m benchmarks.memory --case cifar_resnet110
	$(BIN)/python -m benchmarks.convolution
	$(BIN)/python -m benchmarks.stochastic_depth
	$(BIN)/python -m benchmarks.augmentation --steps 20 --repeats 2

fuzz: $(VENV)/installed-dev  ## every reader of foreign bytes, fed with damaged ones
	$(BIN)/python tests/fuzz.py

test-parity: $(VENV)/installed-parity  ## the networks of torchvision, timm and Keras beside ours
	$(BIN)/python -m benchmarks.checks.parity

figures: $(VENV)/installed  ## those of docs/analysis.md
	$(BIN)/keras-resnet compare --out docs/figures
	rm -f docs/figures/resnet18.svg
	$(BIN)/keras-resnet show resnet18 --diagram docs/figures/resnet18.svg
	run=runs/figures-$$(date +%Y%m%d-%H%M%S) && \
	  $(BIN)/keras-resnet train --no-track --folder $$run && \
	  $(BIN)/keras-resnet explain $$run --out docs/figures/digits

pages: $(VENV)/installed-docs  ## the notebooks, run and rendered
	rm -rf docs/notebooks/*_files
	$(BIN)/jupyter nbconvert --execute --to markdown \
	  --CoalesceStreamsPreprocessor.enabled=True --output-dir docs/notebooks notebooks/*.ipynb

api: $(VENV)/installed-docs  ## the reference of modules and functions
	$(BIN)/python -W ignore docs/api.py build/api

package: $(VENV)/installed-dev  ## wheel and source, tried in an empty environment
	rm -rf build/package
	$(BIN)/python -m build --outdir build/package
	$(PYTHON) -m venv build/package/empty
	build/package/empty/bin/pip install --quiet build/package/*.whl
	cd "$$(mktemp -d)" && PATH="$(CURDIR)/build/package/empty/bin:$$PATH" && \
	  keras-resnet train --epochs 1 --folder runs/mine && \
	  keras-resnet tune --trials 2 --epochs 1 --folder runs/search

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-parity: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[parity]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/installed
