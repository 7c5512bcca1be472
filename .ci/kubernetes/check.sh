#!/usr/bin/env bash
# check.sh CACHE: renders docs/deploy/kubernetes with kustomize (go.mod here pins it) and holds the result against the API's schemas
# (check.py) and the Prometheus operator's types (operator.go).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
manifests="$(cd "$here/../../docs/deploy/kubernetes" && pwd)"
mkdir -p "$1"
cache="$(cd "$1" && pwd)"
if ! python=$(bash "$here/../clients/venv.sh" "$cache/kubernetes" "$here/requirements.txt"); then
  echo "NOT CHECKED: docs/deploy/kubernetes against Kubernetes' schemas (python3 with venv and pip, and a package index, are needed)"
  exit 0
fi
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
cd "$here"
go vet .
for file in "$manifests"/*/kustomization.yaml; do
  folder=$(dirname "$file")
  ! grep -q '^kind: Component$' "$file" || continue # rendered with the overlay that names it
  go tool kustomize build "$folder" >"$rendered"
  "$python" check.py "docs/deploy/kubernetes/$(basename "$folder")" <"$rendered"
  go run . "docs/deploy/kubernetes/$(basename "$folder")" <"$rendered"
done
