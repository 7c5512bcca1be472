#!/usr/bin/env bash
# The arm64 kernels: their encodings, the count of their loops, and every kernel test under qemu-user on a processor of each level. Half
# a minute on two cores that are free. Where qemu is missing it says so and ends well. UP=1: `up` answers a click there as well.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
go test -C kernels/gen ./...
for os in darwin windows; do GOOS=$os GOARCH=arm64 go vet ./kernels/...; done

qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
if [ "$(uname -m)" = aarch64 ]; then
  echo "this is an arm64 machine: go test runs the kernels as they are, and no other processor is played"
  exit 0
fi
if [ -z "$qemu" ]; then
  echo "NOT TESTED: the arm64 kernels (qemu-aarch64-static is missing; fix: apt-get install qemu-user-static)"
  exit 0
fi
dir=$(mktemp -d)
up=
end() {
  if [ -n "$up" ]; then
    kill "$up" 2>/dev/null || true
    wait "$up" 2>/dev/null || true
  fi
  rm -rf "$dir"
}
trap end EXIT
GOARCH=arm64 go test -c -o "$dir/kernels.test" ./kernels
GOARCH=arm64 go test -c -o "$dir/llm.test" ./serve/llm

run() { # NAME FOLDER COMMAND...: prints what the command printed only if it failed
  local name=$1 folder=$2 log
  shift 2
  log=$(mktemp -p "$dir")
  if (cd "$folder" && "$@") >"$log" 2>&1; then
    echo "ok    arm64: $name"
  else
    cat "$log"
    echo "FAIL  arm64: $name"
    return 1
  fi
}
kernels() { # CPU LEVEL FLAGS...
  local cpu=$1 level=$2
  shift 2
  run "kernels on $cpu ($level)" kernels env CORASTREAM_EXPECT_LEVEL="$level" "$qemu" -cpu "$cpu" "$dir/kernels.test" -test.timeout 15m "$@"
}
rc=0
# The longest tests of generic Go need no more than one processor.
once=(-test.skip 'TestKQuants|Test(Nothing|Mul|ARow|Attend).*/generic')
{ kernels cortex-a57 neon "${once[@]}" && kernels neoverse-n1 dotprod "${once[@]}"; } &
first=$!
kernels max i8mmbf16 || rc=1
run "scores of the tiny model on every level" serve/llm "$qemu" -cpu max "$dir/llm.test" -test.timeout 15m \
  -test.run 'TestScoresOfTheTinyModel|TestAutoNumerics' || rc=1
wait $first || rc=1
[ "${UP:-}" = 1 ] || exit $rc

# The whole program, with the language model of `make fetch` in its 8-bit form and the demo's checkpoint.
address=127.0.0.1:18742
printf 'llm: {file: %s, numerics: int8}\ncheckpoint: %s\nhttp: {listen: "%s", request_timeout_ms: 600000}\n' \
  "$root/.cache/smollm2-135m-instruct-q4_1.gguf" "$root/configs/demo.safetensors" $address >"$dir/up.yaml"
GOARCH=arm64 go build -o "$dir/corastream" ./cmd/corastream
"$qemu" -cpu max "$dir/corastream" up -c "$dir/up.yaml" --data "$dir/data" >"$dir/up.log" 2>&1 &
up=$!
send() { curl -sSf -m 600 -H 'content-type: application/json' -d "$2" "http://$address$1"; }
for _ in $(seq 300); do curl -so /dev/null "http://$address/v1/status" && break || sleep 1; done
send /v1/items '{"item_id":"1","title":"Heat (1995)"}' >"$dir/answer"
send /v1/items '{"item_id":"2","title":"Fargo (1996)"}' >"$dir/answer"
send '/v1/events?wait=learnt' '{"user_id":"ann","item_id":"1","type":"like"}' >"$dir/answer"
send /v1/score '{"user_id":"ann","items":["2"]}' >"$dir/answer"
if grep -q '"degraded":""' "$dir/answer" && grep -q '"llm":"' "$dir/answer" && grep -q '"score":0\.' "$dir/answer"; then
  echo "ok    arm64: up learns a click and scores an item with the language model: $(grep -o '"score":[0-9.]*' "$dir/answer")"
else
  cat "$dir/up.log" "$dir/answer"
  echo "FAIL  arm64: up"
  rc=1
fi
exit $rc
