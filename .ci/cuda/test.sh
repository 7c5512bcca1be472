#!/usr/bin/env bash
# make test-cuda: the GPU path on a machine without a GPU. The kernels' own source runs on the CPU behind an emulated driver, the engines
# run against it, and every .ptx goes through ptxas for sm_80, sm_90 and sm_100.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .ci/cuda/env.sh emulated
go vet -tags gpu ./kernels/cuda ./generator/... ./serve/llm ./cmd/corastream ./cmd/internal/gpucheck
go test -tags gpu -count=1 -timeout 15m ./kernels/cuda
# Threads in the opposite order: a result that changes is a missing barrier. Uploads as early as the rules allow, no longer as late.
CORASTREAM_SHIM_ORDER=reverse CORASTREAM_EMULATE=eager:1 go test -tags gpu -count=1 -timeout 15m ./kernels/cuda
go test -tags gpu -count=1 -timeout 15m -run 'Device|GPU|Half' ./generator/... ./serve/llm
CORASTREAM_EMULATE=eager:1 go test -tags gpu -count=1 -timeout 15m -run 'GPU' ./cmd/corastream ./cmd/internal/gpucheck
python3 .ci/cuda/toolchain.py ptxas
