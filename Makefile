# Each target makes its own .venv when it is missing. For the CPU build of torch:
#   make demo TORCH_INDEX_URL=https://...   (the address that pytorch.org gives for your platform)
PYTHON ?= python3
TORCH_INDEX_URL ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fault lint docs bench quality clean
.DEFAULT_GOAL := demo

$(VENV)/.ready: pyproject.toml
	@echo "Setting up $(VENV). This downloads torch, once: it may take many minutes, and shows nothing ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if [ -n "$(TORCH_INDEX_URL)" ]; then \
		$(BIN)/pip install --quiet --index-url "$(TORCH_INDEX_URL)" torch torchvision; fi
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.ready-%: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable ".[$*]"
	touch $@

demo: $(VENV)/.ready  ## the learning rate of a small CNN on real MNIST images
	$(BIN)/lrfind find configs/mnist_cnn.yaml

test: $(VENV)/.ready-dev lint  ## what CI runs
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-fault: $(VENV)/.ready-dev  ## kills, full disks, damaged files and lost workers: no lane is lost
	$(BIN)/python benchmarks/reliability/faults/suite.py

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.ready-docs  ## the documentation site: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

bench: $(VENV)/.ready-bench  ## speed beside the peers and the limits, into benchmarks/results/speed.txt
	$(BIN)/python benchmarks/speed/report.py

quality: $(VENV)/.ready-bench  ## suggestions beside the peers', on tasks whose truth is known
	$(BIN)/python benchmarks/quality/report.py

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
