# Two commands do all the set-up: `make demo` and `make test`. Both need Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Public data sets that some tests read; those tests are skipped where it is not there.
DATA ?= $(or $(FAIRLEAD_DATA),../shared/data)

# How many processes share the tests; with 0 there is one, as a debugger needs it.
WORKERS ?= 0

# Where the package lies whose gateway is compiled (`make compiled`).
COMPILED := build/compiled

# uv trusts what the system trusts, as pip does where it is set up so.
export UV_SYSTEM_CERTS := 1
export UV_NATIVE_TLS := 1

.PHONY: demo test compiled test-compiled vllm lint bench bench-rollout bench-strata bench-changes bench-gateway bench-prefix bench-live-rollouts bench-telemetry soak soak-honest docs format clean bench-monitoring bench-monitors
.DEFAULT_GOAL := help

help:
	@echo "make demo    ship four releases of an example service under live traffic, and watch"
	@echo "make test    run the tests; ARGS=\"-k registry\", WORKERS=2"
	@echo "make compiled  compile the gateway's request path into build/compiled (takes a C compiler)"
	@echo "make test-compiled   the gateway's tests on that; WORKERS=2"
	@echo "make vllm    set up vLLM for the CPU, which some tests then use (1.6 GB)"
	@echo "make lint    ruff, mypy --strict, import contracts, generated pages"
	@echo "make bench   run the benchmarks"
	@echo "make bench-rollout   the judge in every world, beside other rules; ARGS=--quick"
	@echo "make bench-strata    what telling requests apart by their risk spares; ARGS=--quick"
	@echo "make bench-changes   how soon a provider's change is found; counted events in clusters"
	@echo "make bench-gateway   the gateway beside its peers (installs them; half an hour)"
	@echo "make bench-live-rollouts   200 rollouts of equal releases and 30 of bad ones, live"
	@echo "make bench-telemetry   the telemetry store: taking in, questions over 10 million records, size"
	@echo "make bench-monitoring   drift detection beside its peers (installs them); ARGS=\"--seconds 100\""
	@echo "make bench-monitors  standing tests of quality, bias and latency beside river; ARGS=--quick"
	@echo "make soak    an hour of load, kills and restarts; ARGS=\"--minutes 60\""
	@echo "make soak-honest     an hour of honest traffic with all monitors on: no alert; ARGS=\"--minutes 60\""
	@echo "make docs    write the generated pages of docs/"

# The environment is what uv.lock says, whichever package index the machine uses.
$(VENV)/.uv: 
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fairlead needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@touch $@

$(VENV)/.demo: $(VENV)/.uv pyproject.toml uv.lock
	@echo "setting up $(VENV) ..."
	@$(BIN)/uv sync --quiet --frozen --inexact --no-dev --extra demo
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml uv.lock
	@echo "setting up $(VENV) ..."
	@$(BIN)/uv sync --quiet --frozen --inexact --extra demo
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/fairlead demo $(ARGS)

test: $(VENV)/.dev
	@FAIRLEAD_DATA="$(abspath $(DATA))" $(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

compiled: $(COMPILED)/.ready

$(COMPILED)/.ready: $(VENV)/.dev hatch_build.py pyproject.toml $(shell find src -name '*.py')
	@echo "compiling the gateway into $(COMPILED) ..."
	@rm -rf $(COMPILED)
	@FAIRLEAD_COMPILE=1 $(BIN)/uv build --quiet --wheel --python $(BIN)/python --out-dir $(COMPILED)/wheel
	@$(BIN)/python -m zipfile -e $(COMPILED)/wheel/*.whl $(COMPILED)
	@touch $@

# Without the tests that put doubles or patches in the place of parts that are bound once compiled.
test-compiled: compiled
	@FAIRLEAD_COMPILED="$(abspath $(COMPILED))" PYTHONPATH="$(abspath $(COMPILED))" FAIRLEAD_DATA="$(abspath $(DATA))" \
		$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not interpreted and not vllm" \
		tests/test_compiled_modules.py tests/gateway tests/wire tests/observer tests/standalone tests/clients tests/live/test_soak.py $(ARGS)

vllm: $(VENV)/.dev
	@PYTHONPATH=tests $(BIN)/python -m support.vllm.environment $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	@$(BIN)/python benchmarks/serving.py
	@$(BIN)/python -m benchmarks.gateway --micro

bench-rollout: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.rollout $(ARGS)

bench-strata: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.strata $(ARGS)

bench-changes: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.changes $(ARGS)

bench-gateway: $(VENV)/.dev
	@$(MAKE) --no-print-directory compiled || echo "without a compiled gateway"
	@$(BIN)/python -m benchmarks.gateway $(ARGS)

bench-prefix: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.prefix $(ARGS)

bench-live-rollouts: $(VENV)/.dev
	@$(BIN)/python benchmarks/live_rollouts.py $(ARGS)

bench-telemetry: $(VENV)/.dev
	@$(BIN)/python benchmarks/telemetry.py $(ARGS)

bench-monitoring: $(VENV)/.dev
	@FAIRLEAD_DATA="$(abspath $(DATA))" OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.monitoring $(ARGS)

bench-monitors: $(VENV)/.dev
	@FAIRLEAD_DATA="$(abspath $(DATA))" PYTHONPATH=tests $(BIN)/python -m benchmarks.monitors $(ARGS)

soak: $(VENV)/.dev
	@$(BIN)/python benchmarks/soak.py $(ARGS)

soak-honest: $(VENV)/.dev
	@FAIRLEAD_DATA="$(abspath $(DATA))" $(BIN)/python benchmarks/honest.py $(ARGS)

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate.py

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
