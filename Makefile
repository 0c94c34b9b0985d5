# The commands of the README. Needs Rust, Python 3.11 or later with pip, and a C linker; all else it brings itself.

CARGO  ?= cargo
PYTHON ?= python3

RUNTIME := .runtime
VENV    := $(RUNTIME)/venv/bin/python
EXPORT  := encoder-svc/export
TESTER  := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.DEFAULT_GOAL := help
.PHONY: help demo test test-rust test-python test-api test-s3 test-abuse simulate simulate-mutants test-deploy test-use-large \
    test-docker test-gpu up models default-model bench bench-encoder bench-gpu bench-trainer cuda soak lint fuzz supply-chain sbom clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: models ## set up all that is needed, start both services, classify a movie, stop
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	@tools/scripts/demo.sh target/release

up: models ## the same services in the foreground until Ctrl-C
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	@tools/scripts/up.sh target/release

models: ## runtime library and encoder bundle only
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME)

test: test-rust test-python test-api test-s3 test-deploy ## set up all that is needed, run every test

test-rust: models
	$(CARGO) $(TESTER) --locked --workspace

# It builds with --tests for the features of the Rust tests, whose build it then finds done; the binaries come with them.
test-python:
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --bundle minilm-512 --bundle minilm-512-fp32 \
	    --with-requirements $(EXPORT)/requirements-test.txt --with-requirements tests/requirements.txt
	$(CARGO) build --locked --workspace --tests
	cd $(EXPORT) && $(abspath $(VENV)) -m pytest -q tests
	$(VENV) -m pytest -q tests --ignore tests/abuse

test-abuse: ## attacks and mishaps on the real binaries: floods, slow clients, 10,000 connections (1 minute)
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --with-requirements $(EXPORT)/requirements-test.txt \
	    --with-requirements tests/requirements.txt
	$(CARGO) build --locked --workspace --tests
	$(VENV) -m pytest -q tests/abuse

# Each seed is a process of its own; two of them take a core each.
SEEDS ?= 50
FIRST ?= 1
simulate: ## the services over a simulated network, broken in SEEDS=50 ways (nightly: 1000), or once as SEED=7 tells, in full
	$(CARGO) build --release --locked -p simulation
	@target/release/simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST)) $(if $(JOBS),--jobs $(JOBS))

simulate-mutants: ## defects in the sources, one at a time, that the simulation must notice (15 minutes)
	$(PYTHON) tools/simulation/mutants/run.py

soak: models ## both services for 30 minutes at 80 % load, with model reloads and encoder restarts: errors, latency, memory
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --with-requirements $(EXPORT)/requirements-test.txt \
	    --with-requirements tests/requirements.txt
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc -p trainer
	$(VENV) tests/soak/soak.py

# A virtual environment of exactly what the first prerequisite pins; the target is the stamp inside it.
define hashed_venv
@$(PYTHON) -m venv --clear $(@D)
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
@touch $@
endef

# An environment of its own: the closure of schemathesis has other versions of what our own tests use.
API_VENV := $(RUNTIME)/api-venv
$(API_VENV)/.stamp: tests/api/requirements.txt
	$(hashed_venv)

test-api: models $(API_VENV)/.stamp ## hold the REST API against its own description, with schemathesis
	$(CARGO) build --locked --workspace --tests
	@tools/scripts/test_api.sh target/debug $(API_VENV)/bin/schemathesis

bench: bench-trainer bench-encoder ## speed as ratios: the encoder to ONNX Runtime alone, its bundles, the classifier over it, and bench-trainer
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --bundle minilm-512 --bundle minilm-512-fp32
	$(CARGO) bench --locked -p load-generator --bench bundles -- \
	    $(RUNTIME)/bundles/minilm-512-fp32 $(RUNTIME)/bundles/minilm-512
	$(CARGO) bench --locked -p classifier-svc --bench overhead

bench-encoder: models ## the encoder under load, as ratios to ONNX Runtime alone on the same texts (4 minutes)
	$(CARGO) build --release --locked -p encoder-svc -p load-generator
	target/release/load-generator

# An environment of its own: ONNX Runtime with CUDA and CUDA's libraries (a download of 750 MB). The driver is the machine's.
CUDA_VENV := $(RUNTIME)/cuda-venv
$(CUDA_VENV)/.stamp: $(EXPORT)/requirements-cuda.txt
	$(hashed_venv)
	ln -sf "$$(cd $(@D) && echo "$$PWD"/lib/python3.*/site-packages/onnxruntime/capi)"/libonnxruntime.so.* $(@D)/libonnxruntime.so

with_cuda = ORT_DYLIB_PATH="$$(readlink -f $(CUDA_VENV)/libonnxruntime.so)" \
    LD_LIBRARY_PATH="$$(cd $(CUDA_VENV) && echo "$$PWD"/lib/python3.*/site-packages/nvidia/cu13/lib)$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"

cuda: $(CUDA_VENV)/.stamp ## ONNX Runtime with CUDA, for test-gpu, bench-gpu and `encoder-svc serve` on a GPU
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --bundle minilm-512-fp32
	@echo export $(with_cuda)

test-gpu: cuda ## the encoder's vectors on the GPU of this machine against those of the CPU
	$(with_cuda) $(CARGO) test --locked -p encoder-svc --test cuda -- --ignored

bench-gpu: cuda ## the encoder on the GPU of this machine, as ratios to ONNX Runtime alone (3 minutes)
	$(CARGO) build --release --locked -p encoder-svc -p load-generator
	$(with_cuda) target/release/gpu

# An environment of its own: moto brings half of AWS.
S3_VENV := $(RUNTIME)/s3-venv
$(S3_VENV)/.stamp: tests/s3/requirements.txt $(EXPORT)/requirements-test.txt
	$(hashed_venv)

test-s3: models $(S3_VENV)/.stamp ## the trainer's shards on an S3 server (moto)
	$(CARGO) build --locked --workspace --tests
	$(S3_VENV)/bin/python -m pytest -q --confcutdir=tests/s3 -p no:cacheprovider tests/s3

# An environment of its own: TensorFlow (a download of 300 MB), without which the committed fixtures are what is tested.
USE_VENV := $(RUNTIME)/use-venv
$(USE_VENV)/.stamp: $(EXPORT)/requirements-use.txt
	$(hashed_venv)

test-use-large: models ## convert the stand-in of Universal Sentence Encoder large again, and hold the service against TensorFlow
	@if $(MAKE) --no-print-directory $(USE_VENV)/.stamp >$(RUNTIME)/use-venv.log 2>&1; then \
	    tools/scripts/test_use_large.sh $(USE_VENV)/bin/python $(RUNTIME)/use-large '$(DATA)'; \
	else \
	    echo "TensorFlow cannot be installed here ($(RUNTIME)/use-venv.log): the conversion was not run again"; \
	fi

# An environment of its own: Kubernetes' schemas and kubectl are of use to nothing else.
K8S_VENV := $(RUNTIME)/kubernetes-venv
$(K8S_VENV)/.stamp: tests/kubernetes/requirements.txt
	$(hashed_venv)

test-deploy: $(K8S_VENV)/.stamp ## the manifests for Kubernetes: schemas, policy, and settings that the services take
	$(CARGO) build --locked --workspace --tests
	$(K8S_VENV)/bin/python -m pytest -q --confcutdir=tests/kubernetes -p no:cacheprovider tests/kubernetes

test-docker: ## build the images and run them and the Compose file, where a Docker engine is or can be started (15 minutes)
	@$(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME) --with-requirements $(EXPORT)/requirements-test.txt
	DOCKER_TESTS=1 $(VENV) -m pytest -q -s -p no:cacheprovider tests/docker

# PyTorch is what it is held against; nothing else here needs it. The environment that trains the adapter has it.
BENCH_VENV := $(RUNTIME)/bench-venv
$(RUNTIME)/bench-python:
	@if $(RUNTIME)/adapt-venv/bin/python -c 'import numpy, torch' 2>/dev/null; then \
	    echo $(RUNTIME)/adapt-venv/bin/python > $@; \
	else \
	    $(PYTHON) -m venv --clear $(BENCH_VENV) && \
	    $(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6 && \
	    echo $(BENCH_VENV)/bin/python > $@; \
	fi

bench-trainer: $(RUNTIME)/bench-python ## an epoch as a ratio to PyTorch's, a search on two cores as a ratio to one
	$(CARGO) build --release --locked -p trainer --bin trainer
	$(CARGO) build --release --locked -p trainer --bench epoch --message-format=json | \
	    $(PYTHON) trainer/benches/built.py > $(RUNTIME)/epoch-bench
	$$(cat $(RUNTIME)/bench-python) trainer/benches/against_pytorch.py --trainer target/release/trainer \
	    --bench "$$(cat $(RUNTIME)/epoch-bench)"

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?=

fuzz: models ## libFuzzer on every reader of bytes from outside, FUZZ_SECONDS=600 each, two at a time; needs nightly and cargo-fuzz (1 hour)
	@tools/scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

supply-chain: ## licences, sources, duplicates, known weaknesses, unused dependencies, the Rust that is needed; says what it cannot check
	@PYTHON='$(PYTHON)' tools/scripts/supply_chain.sh

sbom: ## a CycloneDX list of what each shipped program is made of, in sbom/; needs cargo-cyclonedx
	@tools/scripts/sbom.sh

DATA ?= ../shared/data/movies_metadata.csv
WORK ?= $(RUNTIME)/default-model

default-model: models ## fit models/default.safetensors and its report again from DATA=movies_metadata.csv
	$(CARGO) build --release --locked -p trainer
	@tools/scripts/default_model.sh target/release '$(DATA)' '$(WORK)'

clean: ## remove what was built and downloaded
	$(CARGO) clean
	rm -rf $(RUNTIME)
