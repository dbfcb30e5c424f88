PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo test test-all check fmt docs bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engine,gpu,onnx,otlp,postgres,qlora,sign,traffic,train,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py demo

# Two processes at a time, of one thread each: there are two cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' -n 2 --dist loadgroup

docs: $(STAMP)
	$(BIN)/python scripts/reference.py

test-all: $(STAMP)
	$(BIN)/pytest

check: $(STAMP)
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/mypy
	MYPYPATH=src:bench $(BIN)/mypy --explicit-package-bases bench/*.py scripts/*.py

fmt: $(STAMP)
	$(BIN)/ruff format src tests bench scripts
	$(BIN)/ruff check --fix src tests bench scripts

bench: $(STAMP)
	$(BIN)/python bench/gateway.py

clean:
	rm -rf $(VENV) demo build dist
