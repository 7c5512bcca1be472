#!/usr/bin/env bash
# check.sh CACHE: renders docs/deploy/kubernetes with kustomize (go.mod here pins it) and holds the result against the API's schemas.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
manifests="$(cd "$here/../../docs/deploy/kubernetes" && pwd)"
mkdir -p "$1"
if ! python=$(bash "$here/../clients/venv.sh" "$1/kubernetes" "$here/requirements.txt"); then
  echo "NOT CHECKED: docs/deploy/kubernetes against Kubernetes' schemas (python3 with venv and pip, and a package index, are needed)"
  exit 0
fi
for file in "$manifests"/*/kustomization.yaml; do
  folder=$(dirname "$file")
  ! grep -q '^kind: Component$' "$file" || continue # rendered with the overlay that names it
  (cd "$here" && go tool kustomize build "$folder") | "$python" "$here/check.py" "docs/deploy/kubernetes/$(basename "$folder")"
done
