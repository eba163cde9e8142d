# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PATHS := src tests benchmarks

# Threads that wait asleep: on a busy machine others would slow everything down several times.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-slow ffmpeg benchmarks check format lint types clean

demo: $(INSTALLED)
	$(BIN)/uprnet demo --output demo-output --overwrite

test: $(INSTALLED) ffmpeg
	$(BIN)/python -m pytest

test-slow: $(INSTALLED) ffmpeg
	$(BIN)/python -m pytest -m slow

benchmarks: $(INSTALLED)
	$(BIN)/python benchmarks/operators.py
	$(BIN)/python benchmarks/network.py

# The tests read what the package writes with Debian's ffmpeg and ffprobe: an independent reader.
ffmpeg:
	@{ command -v ffmpeg && command -v ffprobe; } >/dev/null || (apt-get update --quiet && apt-get install --yes --quiet ffmpeg)

check: lint types test

format: $(INSTALLED)
	$(BIN)/ruff format $(PATHS)
	$(BIN)/ruff check --fix $(PATHS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)

types: $(INSTALLED)
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	test -d $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[eval,fast,train]" --group dev
	touch $@

clean:
	rm -rf $(VENV) demo-output build dist .mypy_cache .ruff_cache .pytest_cache
