# Each target does all its own set-up in a fresh clone: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test coverage check lint types clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --no-deps -c constraints.txt auto-LiRPA
	touch $@

demo: $(VENV)/.installed
	mkdir -p out
	$(BIN)/corgi verify models/gtsrb.onnx models/demo/no_entry.png --picture out/demo.png

test: $(VENV)/.installed
	$(BIN)/pytest -n 2 --dist worksteal

# The suites of bounds and decisions again, with branch coverage and its gate (pyproject.toml), the same with and without real data.
# Not those that interrupt bounds at every line, by a tracer of their own.
coverage: $(VENV)/.installed
	CORGI_DATA=none $(BIN)/pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered \
	  tests/engines tests/decide tests/certify --ignore=tests/engines/test_whole.py

check: lint types
	$(BIN)/pytest -n 2 --dist worksteal -q -m "not slow and not data and not browser"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out
