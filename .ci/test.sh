#!/usr/bin/env bash
# All tests, then the ones that assembly touches again without assembly, then the broker tests against Apache Kafka.
set -euo pipefail
cd "$(dirname "$0")/.."
# What clients people have are asked through; pictures of the dashboard stay in CORASTREAM_SCREENSHOTS.
if CORASTREAM_CLIENTS=$(bash .ci/clients/venv.sh "${CACHE:-.cache}/clients"); then
  export CORASTREAM_CLIENTS
else
  echo "NOT TESTED: OpenAI's, Cohere's and Gorse's clients and schemathesis (python3 with venv and pip, and a package index, are needed)"
  unset CORASTREAM_CLIENTS
fi
if command -v node >/dev/null && CORASTREAM_NODE=$(bash .ci/clients/npm.sh "${CACHE:-.cache}/clients-npm"); then
  export CORASTREAM_NODE
else
  echo "NOT TESTED: Gorse's client for Node (node, npm and a package index are needed)"
  unset CORASTREAM_NODE
fi
export CORASTREAM_SCREENSHOTS="${CORASTREAM_SCREENSHOTS:-$PWD/bin/screenshots}"
mkdir -p "$CORASTREAM_SCREENSHOTS"
go test -timeout 20m ./...
go test -timeout 20m -tags purego ./kernels/... ./cfstream/... ./serve/llm/... ./generator/...
GOARCH=arm64 go vet ./kernels/... ./cmd/...
if command -v java >/dev/null && command -v mvn >/dev/null; then
  dir="$PWD/${CACHE:-.cache}/kafka-test"
  trap 'bash .ci/kafka/kafka.sh stop "$dir" >/dev/null 2>&1 || true' EXIT
  export KAFKA_USER=ann KAFKA_PASSWORD=s3cret
  address=$(KAFKA_PORT=${KAFKA_PORT:-19192} bash .ci/kafka/kafka.sh start "$dir")
  port=${address##*:}
  export CORASTREAM_KAFKA_SASL="ann:s3cret@127.0.0.1:$((port + 2))"
  [ ! -s "$dir/tls.pem" ] || export CORASTREAM_KAFKA_TLS="ann:s3cret@127.0.0.1:$((port + 3))" CORASTREAM_KAFKA_CA="$dir/tls.pem"
  CORASTREAM_KAFKA="$address" CORASTREAM_KAFKA_DIR="$dir" KAFKA_PORT="${address##*:}" go test -count=1 -timeout 15m ./ingest/ ./cmd/...
else
  echo "java or mvn is missing: the tests against Apache Kafka were left out"
fi
