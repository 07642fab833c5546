# The same commands as in the README, each in the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA_DIR ?= datasets

.PHONY: demo test lint slow-test reliability benchmark gpu-check reproduce report check-report optional clean

demo: $(VENV)/runtime
	$(BIN)/python train_cnn.py --dataset mnist-5k --epochs 30 --name demo --overwrite

# Two processes; a plain `python -m pytest` is one, which is quicker for a few tests.
test: $(VENV)/development
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

slow-test: $(VENV)/development
	MNIST_DIR=$(DATA_DIR) $(BIN)/python -m pytest -m slow

# Faults by the hundred: bad arguments, damaged files, kills; and all results bit for bit. Minutes.
reliability: $(VENV)/development
	$(BIN)/python -m pytest -m reliability -n 2 --dist worksteal

benchmark: $(VENV)/runtime
	$(BIN)/python benchmark.py --data-dir $(DATA_DIR)

# What a GPU has to show, in six minutes; ARGS="--device cpu --repeats 1 --results-dir tried" tries it without one.
gpu-check: $(VENV)/development
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python benchmark.py --only gpu --device cuda --repeats 3 --data-dir $(DATA_DIR) $(ARGS)

# ARGS=--list shows the commands and the time they take.
reproduce: $(VENV)/runtime
	$(BIN)/python reproduce.py --data-dir $(DATA_DIR) $(ARGS)

# make reproduce-cnn: the experiments of train_cnn.py.
reproduce-%: $(VENV)/runtime
	$(BIN)/python reproduce.py $* --data-dir $(DATA_DIR) $(ARGS)

report: $(VENV)/runtime
	$(BIN)/python report.py

check-report: $(VENV)/runtime
	$(BIN)/python report.py --check

# What the tests of exports need.
optional: $(VENV)/optional

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

$(VENV)/development: requirements-dev.txt $(VENV)/runtime
	$(BIN)/python -m pip install -r requirements-dev.txt
	touch $@

$(VENV)/optional: requirements-export.txt $(VENV)/development
	$(BIN)/python -m pip install -r requirements-export.txt
	touch $@
