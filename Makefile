# The commands of the README. Needs Rust, Python 3.11 or later with pip, and a C linker; all else it brings itself.

CARGO  ?= cargo
PYTHON ?= python3

RUNTIME := .runtime
VENV    := $(RUNTIME)/venv/bin/python
EXPORT  := encoder-svc/export
TESTER  := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python up models default-model lint clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: models ## set up all that is needed, start both services, classify a film, stop
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	@deploy/demo.sh target/release

up: models ## the same services in the foreground until Ctrl-C
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	@deploy/up.sh target/release

models: ## runtime library and encoder bundle only
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME)

test: test-rust test-python ## set up all that is needed, run every test

test-rust: models
	$(CARGO) build --locked --workspace --bins
	$(CARGO) $(TESTER) --locked --workspace

test-python:
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --with-requirements $(EXPORT)/requirements-test.txt
	$(CARGO) build --locked --workspace --bins
	cd $(EXPORT) && $(abspath $(VENV)) -m pytest -q tests
	$(VENV) -m pytest -q tests

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

DATA ?= ../shared/data/movies_metadata.csv
WORK ?= $(RUNTIME)/default-model

default-model: models ## fit models/default.safetensors and its report again from DATA=movies_metadata.csv
	$(CARGO) build --release --locked -p trainer
	@deploy/default_model.sh target/release '$(DATA)' '$(WORK)'

clean: ## remove what was built and downloaded
	$(CARGO) clean
	rm -rf $(RUNTIME)
