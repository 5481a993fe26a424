PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: install test lint types demo bench clean

install: $(VENV)/installed

# torch first and by its exact version: another one would bring gigabytes of CUDA
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

demo: install
	$(BIN)/featcache demo

bench: install
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) featcache-demo
