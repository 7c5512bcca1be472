# corastream. `make` lists the targets.
SHELL   := /bin/bash
CACHE   := .cache
EVENTS  ?=
export CGO_ENABLED ?= 0
export GOTOOLCHAIN ?= local
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
LDFLAGS := -s -w -X main.version=$(VERSION)
GOFLAGS := -mod=readonly
export GOFLAGS
export CORASTREAM_LLM      ?= $(CURDIR)/$(CACHE)/smollm2-135m-instruct-q4_1.gguf
export CORASTREAM_ML100K   ?= $(CURDIR)/$(CACHE)/ml-100k

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: build
build: ## bin/corastream
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/corastream ./cmd/corastream

.PHONY: fetch
fetch: ## the language model and MovieLens-100K into .cache, SHA-256 checked
	@python3 .ci/fetch.py $(CACHE)

.PHONY: fetch-gemma
fetch-gemma: ## Gemma 3 270M into .cache (243 MB, under Google's Gemma terms of use), for configs/gemma3.yaml
	@python3 .ci/fetch.py $(CACHE) gemma

.PHONY: fetch-qwen
fetch-qwen: ## Qwen2.5-Coder 1.5B into .cache (1.1 GB, Apache-2.0), for configs/qwen.yaml
	@python3 .ci/fetch.py $(CACHE) qwen

.PHONY: run
run: fetch build ## stream real ratings through everything (EVENTS=n bounds the live part)
	@bin/corastream demo --cache $(CACHE) $(if $(EVENTS),--events $(EVENTS))

.PHONY: unit
unit: fetch ## the tests that start no binary: `go test ./...`, about a minute
	go test ./...

.PHONY: test
test: fetch ## every test that needs no GPU: unit tests, and real binaries on real brokers (Apache Kafka too, where java and mvn are)
	@bash .ci/test.sh

.PHONY: test-arm64
test-arm64: ## the arm64 kernels under qemu-user, on a processor of each level (part of `make test`; says so where qemu is missing); UP=1: `up` as well
	@bash .ci/arm64.sh

.PHONY: check
check: ## format, vet, static analysis, modules tidy, generated code up to date, unit tests (default and purego)
	@bash .ci/check.sh

.PHONY: lint
lint: ## the same without tests
	@bash .ci/check.sh lint

.PHONY: race
race: fetch ## the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

.PHONY: fuzz
T ?= 20s
fuzz: ## every fuzz target for T (20s, or executions: 5000000x) each, or those that match ONLY=
	@bash .ci/fuzz.sh $(T) '$(or $(ONLY),.)'

.PHONY: api-fuzz
N ?= 50
api-fuzz: fetch ## schemathesis makes up N (50) requests for each operation of the HTTP API, in every one of its phases
	CORASTREAM_CLIENTS=$$(bash .ci/clients/venv.sh $(CACHE)/clients) CORASTREAM_FUZZ_EXAMPLES=$(N) go test -tags app ./cmd/apptest -count=1 -timeout 60m -v -run TestRealClients

.PHONY: kafka kafka-stop
kafka: ## start Apache Kafka (one node, from Maven jars; needs java and mvn) and print its address
	@bash .ci/kafka/kafka.sh start $(CACHE)/kafka
kafka-stop: ## stop it
	@bash .ci/kafka/kafka.sh stop $(CACHE)/kafka

.PHONY: crash
CYCLES ?= 12
RUNS   ?= 4
FLIPS  ?= 40
DISK   ?= 3
BROKER ?= 3
POWER  ?= 5
RECOVERY ?= 0
crash: fetch ## faults against the running binary: CYCLES= kills, RUNS= of each failpoint, FLIPS= of bits per file kind, DISK= full disks, BROKER= restarts, POWER= losses (root), RECOVERY= events applied before one
	CORASTREAM_CYCLES=$(CYCLES) CORASTREAM_RUNS=$(RUNS) CORASTREAM_FLIPS=$(FLIPS) CORASTREAM_DISK=$(DISK) CORASTREAM_BROKER=$(BROKER) CORASTREAM_POWER=$(POWER) CORASTREAM_RECOVERY=$(RECOVERY) \
	go test -tags app ./cmd/apptest -count=1 -timeout 180m -v -run 'TestKill|Failpoint|TestFlipped|TestAFullDisk|TestABroker|TestASlow|TestADead|TestADisk|TestPower|TestRecovery'

.PHONY: faults
faults: fetch ## CI's doses of the faults below, with fixed seeds: 20 kills, 20 flips of each kind of file, outages, 20 worlds, 20 s of fuzzing a parser, overload
	@bash .ci/faults.sh

.PHONY: simulate
SEEDS ?= 20
FIRST ?= 1
simulate: ## SEEDS= simulated worlds from FIRST= on, of EVENTS= (5000) records each, every fault decided by the seed
	TMPDIR=$(firstword $(wildcard /dev/shm) /tmp) CORASTREAM_SEEDS=$(SEEDS) CORASTREAM_FIRST=$(FIRST) CORASTREAM_EVENTS=$(or $(EVENTS),5000) \
	go test ./cmd/simulation -count=1 -timeout 0 -v -run 'TestSimulation$$'

.PHONY: soak
DURATION ?= 1m
soak: ## run `up` at full rate for DURATION= (1m) and check that goroutines, descriptors and memory do not grow
	CORASTREAM_SOAK=$(DURATION) go test -tags app ./cmd/apptest -count=1 -timeout 0 -v -run 'TestSoak$$'

.PHONY: overload
overload: ## offer `up` ten times what it can answer for DURATION= (1m): refusals, memory, latency of what is accepted, recovery
	CORASTREAM_OVERLOAD=$(DURATION) go test -tags app ./cmd/apptest -count=1 -timeout 0 -v -run 'TestOverload$$'

.PHONY: cluster
STRIKES ?= 5
VECTORS ?= 1000000
cluster: fetch ## two shards and two replicas on Apache Kafka: figures, then STRIKES= (5) members killed, stopped, added or taken away; a summary
	STRIKES=$(STRIKES) VECTORS=$(VECTORS) PARTS=$(or $(PARTS),all) bash .ci/cluster.sh

.PHONY: sbom
sbom: build ## what the binary is made of, as SPDX JSON: bin/corastream.spdx.json
	go run ./.ci/sbom bin/corastream > bin/corastream.spdx.json

.PHONY: reproducible
reproducible: ## build HEAD twice in different folders and compare SHA-256 (FRESH=1: the second without a cache)
	@bash .ci/reproducible.sh

.PHONY: demo-checkpoint
demo-checkpoint: fetch build ## train the demo's checkpoint on the first 80 % of MovieLens-100K
	bin/corastream train -c configs/demo.yaml --train $(CACHE)/ml-100k/train.csv --items $(CACHE)/ml-100k/items.csv --out configs/demo.safetensors

.PHONY: bench-peers
bench-peers: fetch build ## time us and llama.cpp by turns, and print docs/measured/performance.md's table (builds llama.cpp the first time)
	@python3 .ci/peers/run.py

.PHONY: cuda cuda-ptx test-cuda gpu-check roofline
cuda: ## bin/corastream-gpu, on any machine: needs a C compiler, no GPU and no CUDA (headers come from PyPI)
	@. .ci/cuda/env.sh && set -x && go build -tags gpu -ldflags '$(LDFLAGS)' -o bin/corastream-gpu ./cmd/corastream
	@size=$$(wc -c < bin/corastream-gpu); [ $$size -le $$((60 << 20)) ] || { echo "bin/corastream-gpu has $$size bytes: a device machine takes 60 MiB" >&2; exit 1; }
cuda-ptx: ## kernels/cuda/ptx/*.ptx from src/*.cu, with nvcc from PyPI
	cd kernels/cuda && go generate
test-cuda: ## the GPU path without a GPU: kernels on the CPU behind an emulated driver, and ptxas (needs g++)
	@bash .ci/cuda/test.sh
roofline: ## count every kernel's operations and bytes, without a GPU, into docs/measured/performance.md
	@. .ci/cuda/env.sh && CORASTREAM_ROOFLINE=write go test -tags gpu -count=1 -run TestGPURooflineIsInTheDocs ./cmd/internal/gpucheck
gpu-check: ## on a machine with a GPU: parity and measurements as JSON lines, PyTorch's too where it is (bin/corastream-gpu is built when missing)
	@[ -x bin/corastream-gpu ] || $(MAKE) --no-print-directory cuda
	@set -o pipefail; rc=0; bin/corastream-gpu gpu-check | tee bin/gpu-check.jsonl || rc=$$?; \
	if python3 -c 'import torch; torch.cuda.init()' 2>/dev/null; then python3 .ci/cuda/torch_peer.py --ours bin/gpu-check.jsonl || rc=$$?; \
	else echo 'gpu-check: no PyTorch with CUDA here: the two goals beside it (prompts scored, W_A of the Q-Former) are not judged' >&2; fi; exit $$rc

.PHONY: clean
clean: ## remove what was built (not .cache)
	rm -rf bin data
