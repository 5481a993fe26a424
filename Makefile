PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
# versions of transformers, such as 4.48 for the oldest one that featcache accepts
PARITY = 4 5

.PHONY: install test parity lint types docs demo bench results clean

install: $(VENV)/installed

# torch first and by its exact version: another one would bring gigabytes of CUDA
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: install
	$(BIN)/python -m pytest --numprocesses auto

# the same features of every family under the newest transformers 4 and 5, each compared with Hugging Face's own;
# a family that a version does not have is skipped, and the reason names the version
parity:
	for major in $(PARITY); do \
		python=.venv-transformers$$major/bin/python; \
		test -x $$python || $(PYTHON) -m venv .venv-transformers$$major; \
		$$python -m pip install --quiet --constraint constraints.txt torch && \
		$$python -m pip install --quiet --editable '.[dev]' "transformers==$$major.*" && \
		$$python -m pytest tests/extractors tests/fetching tests/transcription || exit 1; \
	done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

demo: install
	$(BIN)/featcache demo

bench: install
	$(BIN)/python -m tests.benchmarks

# real speech and trained models, see tests/results; interrupted work is continued
results: install
	test -n "$(CORPORA)" && test -n "$(MODELS)" || { echo "usage: make results CORPORA=FOLDER MODELS=FOLDER"; exit 2; }
	$(BIN)/python -m tests.results "$(CORPORA)" "$(MODELS)" $(OPTIONS)

clean:
	rm -rf $(VENV) .venv-transformers* featcache-demo site
