# `make azure` runs the Azure experiment, `make test` all tests and checks; each sets up .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# No NVIDIA GPU here: take the CPU build of torch instead of gigabytes of CUDA.
# Tests of laws and of what is quick: `make check`.
FAST := tests/golden tests/policies tests/sim/base tests/sim/engine tests/sim/tables tests/sim/traces tests/topology/test_steps.py tests/ssim/test_expand.py tests/ssim/test_settings.py tests/test_packaging.py tests/test_names.py tests/test_words.py
TORCH_CONSTRAINT := $(if $(shell command -v nvidia-smi 2>/dev/null),,-c constraints/cpu.txt)

# Tests start hundreds of processes: each would compile the toolkit, and pytest rewrite all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install azure check test test-all package lint mypy pyright docs bench gpu clean
.DELETE_ON_ERROR:

install: $(VENV)/.installed-base

azure: $(VENV)/.installed-base
	$(BIN)/ssim run experiments/azure.yaml
	$(BIN)/ssim optimum experiments/azure.yaml

# The inner loop: under a minute when warm.
check: $(VENV)/.installed-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadgroup -q $(FAST)

test: lint
	$(BIN)/pytest -n auto --dist loadgroup -q --durations=5

test-all: lint
	$(BIN)/pytest -n auto --dist loadgroup -q -m "" --hypothesis-profile=thorough --durations=10

lint: $(VENV)/.installed-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory -j 2 -O mypy pyright

mypy pyright: $(VENV)/.installed-all
	$(BIN)/$@

# The wheel and the sdist, installed without extras into a clean environment.
package: $(VENV)/.installed-all
	$(BIN)/pytest -q -m "" tests/test_package.py

docs: $(VENV)/.installed-all
	$(BIN)/zensical build --strict --clean
	@echo build/site/index.html

bench: $(VENV)/.installed-all
	@mkdir -p results
	$(BIN)/pytest -c benchmarks/pytest.ini benchmarks --benchmark-json=results/bench.json
	$(BIN)/python benchmarks/report.py results/bench.json

# Eight minutes of a GPU, with the Python that has PyTorch: `make gpu WHEELS=folder` where packages are missing.
gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu_check $(if $(WHEELS),--wheels $(WHEELS))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ssim needs Python 3.11 or newer; $$($(PYTHON) --version) is what PYTHON=$(PYTHON) gives" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "No virtual environment could be made. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed-base: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) install -q -e .
	@touch $@

$(VENV)/.installed-all: setup.cfg pyproject.toml constraints/cpu.txt | $(BIN)/python
	$(PIP) install -q -e '.[dev,fast,torch,ray,dask,privacy,report,serve,docs]' $(TORCH_CONSTRAINT)
	@touch $@ $(VENV)/.installed-base

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
