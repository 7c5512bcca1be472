#!/usr/bin/env bash
# The arm64 kernels: their encodings, the count of their loops, builds for each system, and every kernel test under qemu-user on a
# processor of each level. About half a minute on two cores. Where qemu is missing it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -C kernels/gen ./...
for os in darwin windows; do GOOS=$os GOARCH=arm64 go vet ./kernels/... ; done

qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
if [ -z "$qemu" ]; then
  echo "NOT TESTED: the arm64 kernels (qemu-aarch64-static is missing; fix: apt-get install qemu-user-static)"
  exit 0
fi
if [ "$(uname -m)" = aarch64 ]; then echo "this is an arm64 machine: go test runs its kernels as they are"; fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
GOARCH=arm64 go test -c -o "$dir/kernels.test" ./kernels
GOARCH=arm64 go test -c -o "$dir/llm.test" ./serve/llm
run() { # NAME FOLDER COMMAND...: silent unless it fails
  local name=$1 folder=$2
  shift 2
  (cd "$folder" && "$@") >"$dir/$name.log" 2>&1 && echo "ok    arm64 $name" || { cat "$dir/$name.log"; echo "FAIL  arm64 $name"; return 1; }
}
kernels() { # CPU LEVEL
  run "kernels on $1 ($2)" kernels env CORASTREAM_EXPECT_LEVEL="$2" "$qemu" -cpu "$1" "$dir/kernels.test" -test.timeout 15m
}
pids=()
{ kernels cortex-a57 neon && kernels neoverse-n1 dotprod; } & pids+=($!)
{ kernels max i8mmbf16 && run "scores of the tiny model" serve/llm "$qemu" -cpu max "$dir/llm.test" -test.timeout 15m \
  -test.run 'TestScoresOfTheTinyModel|TestAutoNumerics'; } & pids+=($!)
rc=0
for p in "${pids[@]}"; do wait "$p" || rc=1; done
exit $rc
