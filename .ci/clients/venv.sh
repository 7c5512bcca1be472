#!/usr/bin/env bash
# venv.sh DIR: a virtual environment with requirements.txt in DIR, made once; prints its Python. What pip says goes to standard error.
set -euo pipefail
dir=$1
here="$(cd "$(dirname "$0")" && pwd)"
want=$(python3 - "$here/requirements.txt" <<'PY'
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest())
PY
)
if [ "$(cat "$dir/made" 2>/dev/null || true)" != "$want" ]; then
  rm -rf "$dir"
  python3 -m venv "$dir" >&2
  "$dir/bin/pip" install --quiet --no-compile --disable-pip-version-check -r "$here/requirements.txt" >&2
  echo "$want" > "$dir/made"
fi
echo "$(cd "$dir" && pwd)/bin/python"
