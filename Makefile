# The two commands that a new user needs: `make run` and `make test`. Everything is installed into .venv; what is never
# imported isn't compiled to bytecode, which halves the time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Real data where it is at hand, else the seeded synthetic engines.
TURBOFAN := $(if $(wildcard $(QANAS_DATA)/cmapss/train_FD001.txt),$(abspath $(QANAS_DATA)/cmapss),synthetic)

# Processes start again and again, and modules with assertions are rewritten: what is compiled is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test browser cluster check coverage lint format types layers docs wheel firmware emulator clean

run: $(STAMP)
	@echo "turbofan data: $(TURBOFAN)"
	@$(BIN)/qanas run recipes/turbofan_quick.toml --set task.data=$(TURBOFAN) --out runs/turbofan_quick

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

# Reports in Chromium, 390 and 1280 pixels wide; skipped where there is none. The pictures are where pytest says.
browser: $(STAMP)
	$(BIN)/pytest -m browser tests/reporting/test_in_a_browser.py -rs --basetemp=build/browser

# Several machines: a real PostgreSQL (Debian: apt-get install postgresql) and a real Ray of two nodes on this one; what
# lacks is said. The extras are installed first: Ray takes 300 MB.
cluster: $(STAMP)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[postgres,ray]'
	$(BIN)/pytest -m cluster -ra tests/cluster

# Everything that has to hold; what takes one core runs two at a time.
check: $(STAMP)
	$(MAKE) -j 2 lint types layers docs wheel
	$(MAKE) test

# The tests, and which lines they reach; fails below the share in pyproject.toml. To be looked at takes as long again.
coverage: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal --cov --cov-report=term

# Firmware folders on emulated Cortex-M and in TFLite Micro; what that needs is in the test file.
firmware: $(STAMP)
	$(BIN)/pytest -m toolchain -ra tests/deployment/test_firmware_targets.py

# The same, and networks that are counted there; what the emulated boards need is installed first, which takes root.
# Arm's program for a Cortex-M55, TFLite Micro with CMSIS-NN, is fetched as well: export QANAS_CMSIS_NN=$(RUNNER).
RUNNER := build/cmsis_nn/mlia/resources/backends/applications/$\
	inference_runner-sse-300-26.03.0-tflm-ethos-U65-Default-noTA/mlek_inference_runner.axf
EMULATOR_PACKAGES := gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
emulator: $(STAMP)
	@{ command -v arm-none-eabi-gcc && command -v qemu-system-arm; } > /dev/null || { \
		test "$$(id -u)" = 0 || { echo "as root: apt-get install --no-install-recommends $(EMULATOR_PACKAGES)"; exit 1; }; \
		apt-get update -qq && apt-get install -qq --yes --no-install-recommends $(EMULATOR_PACKAGES); }
	test -f $(RUNNER) || { $(BIN)/pip download --quiet --no-deps --dest build/cmsis_nn mlia-ethos-u==0.1.0 && \
		$(BIN)/python -m zipfile -e build/cmsis_nn/mlia_ethos_u-*.whl build/cmsis_nn; }
	QANAS_CMSIS_NN=$(CURDIR)/$(RUNNER) $(BIN)/pytest -m toolchain -ra tests/deployment/test_firmware_targets.py \
		tests/deployment/test_conformance.py tests/hardware tests/contracts/test_costs.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/docstring_shapes.py src/qanas

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

# The API pages, from the docstrings; a warning is an error.
docs: $(STAMP)
	rm -rf build/docs
	$(BIN)/python tools/api_pages.py build/docs

# The wheel must import in an environment that holds only its own dependencies.
wheel: $(STAMP)
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip install --quiet --no-compile --constraint constraints.txt build/wheel/*.whl
	cd build/wheel && venv/bin/python -c "import qanas, qanas.cli; print('wheel imports, version', qanas.__version__)" && venv/bin/qanas --help > /dev/null

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
