# The commands of the README. Needs Rust, Python 3.11 or later with pip, and a C linker; all else it brings itself.

CARGO  ?= cargo
PYTHON ?= python3

RUNTIME := .runtime
VENV    := $(RUNTIME)/venv/bin/python
EXPORT  := encoder-svc/export
TESTER  := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python up models default-model bench lint clean

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
	$(CARGO) $(TESTER) --locked --workspace

# It builds with --tests for the features of the Rust tests, whose build it then finds done; the binaries come with them.
test-python:
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --bundle minilm-512 --bundle minilm-512-fp32 \
	    --with-requirements $(EXPORT)/requirements-test.txt
	$(CARGO) build --locked --workspace --tests
	cd $(EXPORT) && $(abspath $(VENV)) -m pytest -q tests
	$(VENV) -m pytest -q tests

bench: ## texts per second and core of each encoder bundle, as ratios to the fp32 one
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --bundle minilm-512 --bundle minilm-512-fp32
	$(CARGO) bench --locked -p encoder-svc --bench bundles -- \
	    $(RUNTIME)/bundles/minilm-512-fp32 $(RUNTIME)/bundles/minilm-512

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
