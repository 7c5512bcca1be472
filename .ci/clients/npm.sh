#!/usr/bin/env bash
# npm.sh DIR: what npm/package-lock.json names, in DIR/node_modules, made once; prints that folder. What npm says goes to standard error.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)/npm"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
if ! cmp -s "$here/package-lock.json" "$dir/made"; then
  cp "$here/package.json" "$here/package-lock.json" "$dir/"
  (cd "$dir" && npm ci --silent --no-audit --no-fund >&2)
  cp "$here/package-lock.json" "$dir/made"
fi
echo "$dir/node_modules"
