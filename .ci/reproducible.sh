#!/usr/bin/env bash
# Builds HEAD twice, in two folders of different names, and compares. FRESH=1 gives the second build a cache of its own, so
# that every package is compiled again.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
sums=()
for name in a a-second-and-longer-folder; do
  git clone -q --shared . "$tmp/$name"
  [ "$name" = a ] || [ -z "${FRESH:-}" ] || export GOCACHE="$tmp/cache"
  make -s -C "$tmp/$name" build
  sums+=("$(sha256sum "$tmp/$name/bin/corastream" | cut -d' ' -f1)")
done
echo "${sums[0]}"
[ "${sums[0]}" = "${sums[1]}" ] || { echo "the second build differs: ${sums[1]}" >&2; exit 1; }
