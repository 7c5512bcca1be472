#!/usr/bin/env bash
# All tests, then the ones that assembly touches again without assembly, then the broker tests against Apache Kafka.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -timeout 20m ./...
go test -timeout 20m -tags purego ./kernels/... ./cfstream/... ./serve/llm/... ./generator/...
GOARCH=arm64 go vet ./kernels/... ./cmd/...
if command -v java >/dev/null && command -v mvn >/dev/null; then
  dir="${CACHE:-.cache}/kafka-test"
  trap 'bash .ci/kafka/kafka.sh stop "$dir" >/dev/null 2>&1 || true' EXIT
  bash .ci/kafka/kafka.sh start "$dir"
  CORASTREAM_KAFKA="$(bash .ci/kafka/kafka.sh address "$dir")" go test -count=1 -timeout 15m ./ingest/... ./cmd/...
else
  echo "java or mvn is missing: the tests against Apache Kafka were left out"
fi
