#!/usr/bin/env bash
# make check: everything a reviewer would ask for before reading, and the unit tests. `check.sh lint` leaves the tests out.
# The tools are those of go.mod's tool lines, in the versions that go.sum pins.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=$(go tool gofumpt -l $(git ls-files '*.go'))
[ -z "$bad" ] || { echo "not formatted (run go tool gofumpt -w FILE):" $bad; exit 1; }
go vet ./...
go vet -tags app ./cmd/apptest
go vet -tags purego ./...
go tool staticcheck ./...
go tool staticcheck -tags app ./cmd/apptest
go mod verify
go mod tidy -diff
# Generated code: what the generators write now is what was there. (kernels/cuda/ptx needs NVIDIA's compiler: `make cuda-ptx`.)
made=(docs/reference/configuration.md docs/reference/events.md kernels/*_amd64.s kernels/*_arm64.s kernels/stubs_amd64.go kernels/stubs_arm64.go)
before=$(sha256sum "${made[@]}")
go generate ./cmd/corastream ./kernels
[ "$before" = "$(sha256sum "${made[@]}")" ] || { echo "generated files were not up to date, and are now: commit" "${made[@]}"; exit 1; }
bash .ci/kubernetes/check.sh "${CACHE:-.cache}"
[ "${1:-}" != lint ] || exit 0
go test ./...
go test -tags purego ./...
