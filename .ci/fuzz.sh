#!/usr/bin/env bash
# Runs every fuzz target for the given time each (default 20s).
set -euo pipefail
cd "$(dirname "$0")/.."
t="${1:-20s}"
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
  for f in $(grep -h --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | cut -d' ' -f2); do
    echo "== $dir $f"
    go test "$dir" -run '^$' -fuzz "^$f\$" -fuzztime "$t" -fuzzminimizetime 10x
  done
done
