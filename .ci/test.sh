#!/usr/bin/env bash
# All tests. Those that start real binaries wait for brokers, timeouts and disks most of the time, so the unit tests run beside them.
# Apache Kafka takes part where java and mvn are. CORASTREAM_CLIENTS and CORASTREAM_SCREENSHOTS are explained where they are set.
set -euo pipefail
cd "$(dirname "$0")/.."
dir="$PWD/${CACHE:-.cache}/kafka-test"
log=$(mktemp)
unit=
end() {
  [ -z "$unit" ] || kill "$unit" 2>/dev/null || true
  bash .ci/kafka/kafka.sh stop "$dir" >/dev/null 2>&1 || true
  rm -f "$log"
}
trap end EXIT

# A test that does not compile is told at once.
go vet ./...
go vet -tags app ./cmd/apptest
GOARCH=arm64 go vet ./kernels/... ./cmd/...

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

( # The unit tests, and then once more without assembly those that it touches.
  go test -vet=off -timeout 20m ./...
  go test -vet=off -timeout 20m -tags purego ./kernels/... ./cfstream/... ./serve/llm/... ./generator/...
  bash .ci/arm64.sh
) >"$log" 2>&1 &
unit=$!

if command -v java >/dev/null && command -v mvn >/dev/null; then
  export KAFKA_USER=ann KAFKA_PASSWORD=s3cret
  address=$(KAFKA_PORT=${KAFKA_PORT:-19192} bash .ci/kafka/kafka.sh start "$dir")
  port=${address##*:}
  export CORASTREAM_KAFKA_SASL="ann:s3cret@127.0.0.1:$((port + 2))"
  [ ! -s "$dir/tls.pem" ] || export CORASTREAM_KAFKA_TLS="ann:s3cret@127.0.0.1:$((port + 3))" CORASTREAM_KAFKA_CA="$dir/tls.pem"
  export CORASTREAM_KAFKA="$address" CORASTREAM_KAFKA_DIR="$dir" KAFKA_PORT="$port"
else
  echo "java or mvn is missing: the tests against Apache Kafka were left out"
fi
rc=0
# More tests at a time than cores, since they wait; the order of packages keeps a restart of the shared broker in ingest apart.
go test -vet=off -count=1 -timeout 20m -tags app -parallel 4 ./cmd/apptest || rc=$?
[ -z "${CORASTREAM_KAFKA:-}" ] || go test -vet=off -count=1 -timeout 15m ./ingest || rc=$?
wait "$unit" || rc=$?
unit=
cat "$log"
exit $rc
