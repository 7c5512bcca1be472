#!/usr/bin/env bash
# The doses of docs/develop/reliability.md's middle column that are more than `make test` gives: kills, flipped bits, outages,
# simulated worlds, fuzzing, overload. Seeds are fixed, so that a run can be repeated; `make crash` and the others draw new ones.
set -euo pipefail
cd "$(dirname "$0")/.."
export CORASTREAM_SEED="${CORASTREAM_SEED:-1}"
jars="$PWD/${CACHE:-.cache}/kafka-test"
[ ! -d "$jars/libs" ] || export CORASTREAM_KAFKA_DIR="$jars" # `make test` left them; without, Apache Kafka is not killed here
CORASTREAM_CYCLES=20 CORASTREAM_FLIPS=20 CORASTREAM_BROKER=1 go test -tags app ./cmd/apptest -count=1 -timeout 30m -run 'TestKillInMidStream|TestFlippedBits|TestABroker'
unset CORASTREAM_SEED # of the simulation it means one world alone
make simulate SEEDS=20 EVENTS=5000 | tail -n 3
make overload DURATION=30s
parsers='Decode|Produced|Cluster|Unpack|Answers|Parse|ReadTensors|ReadCheckpoint|New|Encode|Title|CacheFile|Bodies|ReadEvents|ReadItems|Record|Snapshot|Config'
fresh=$(mktemp -d) # from the seeds on: what an earlier run on this machine found interesting is not CI's
trap 'rm -rf "$fresh"' EXIT
FUZZ_CACHE="$fresh" bash .ci/fuzz.sh 20s "Fuzz($parsers)" | grep -E '^==|elapsed: 2|panic|FAIL|--- '
