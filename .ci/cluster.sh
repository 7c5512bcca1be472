#!/usr/bin/env bash
# make cluster: Apache Kafka, two shards and two replicas as processes of this machine, real ratings through them with the frozen LLM; then members
# are killed, stopped, added and taken away (STRIKES of them) while a stream flows, and what is left is held against what was sent.
# Ends with a summary. Needs java and mvn. PARTS=learning,answers,freshness,move chooses figures, VECTORS how many users move.
set -euo pipefail
cd "$(dirname "$0")/.."
dir="$PWD/${CACHE:-.cache}/kafka-cluster"
jars="$PWD/${CACHE:-.cache}/kafka-test"
mkdir -p "$dir"
for f in libs libs.of; do # fetched once for all brokers
  [ -e "$dir/$f" ] || [ ! -e "$jars/$f" ] || ln -s "$jars/$f" "$dir/$f"
done
trap 'bash .ci/kafka/kafka.sh stop "$dir" >/dev/null 2>&1 || true' EXIT
rm -rf "$dir/data"
address=$(KAFKA_PORT=${KAFKA_PORT:-19392} bash .ci/kafka/kafka.sh start "$dir")
export CORASTREAM_KAFKA="$address" CORASTREAM_KAFKA_DIR="$dir"
out=$(mktemp)
code=0
CORASTREAM_CLUSTER=${PARTS:-all} CORASTREAM_VECTORS=${VECTORS:-1000000} \
  go test -tags app ./cmd/apptest -count=1 -timeout 60m -v -run 'TestMeasureCluster$' | tee "$out" || code=$?
CORASTREAM_STRIKES=${STRIKES:-5} CORASTREAM_CYCLES=1 \
  go test -tags app ./cmd/apptest -count=1 -timeout 180m -v -run 'TestAClusterSurvivesItsMembers$/kafka' | tee -a "$out" || code=$?
echo
echo "summary"
grep -h '^{"' "$out" | grep '"figure"' || true
grep -hE 'strike [0-9]+:|shard [0-9]+: map|state: |recommendations: |^(---|    ---) ' "$out" | sed 's/^ *[a-z_]*test.go:[0-9]*: //' || true
rm -f "$out"
exit $code
