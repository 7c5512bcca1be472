#!/usr/bin/env bash
# Runs every fuzz target for the given time (20s) or so many executions (5000000x) each, or those alone whose names match a pattern:
#   fuzz.sh 5000000x 'FuzzConfig|FuzzDecode'
# Only our own packages and the parsers beneath them are instrumented: with all of a binary's packages, as `go test -fuzz` has
# it, each execution looks through megabytes of counters, and a target of the command's own package runs 200 times slower.
set -euo pipefail
cd "$(dirname "$0")/.."
t="${1:-20s}" only="${2:-.}"
module=$(go list -m)
flags=(-gcflags="$module/...=-d=libfuzzer")
for parser in encoding/json encoding/csv github.com/goccy/go-yaml/...; do flags+=(-gcflags="$parser=-d=libfuzzer"); done
cache="${FUZZ_CACHE:-$(go env GOCACHE)/fuzz-ours}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
  names=$(grep -h -o '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | cut -d' ' -f2 | grep -E "$only" || true)
  [ -n "$names" ] || continue
  go test -c -o "$work/fuzz.test" "${flags[@]}" "$dir"
  for f in $names; do
    echo "== $dir $f"
    (cd "$dir" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$f\$" -test.fuzztime "$t" -test.fuzzminimizetime 10x -test.fuzzcachedir "$cache/$dir")
  done
done
