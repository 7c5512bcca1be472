#!/usr/bin/env bash
# venv.sh DIR [REQUIREMENTS]: a virtual environment in DIR with what the file lists (default: requirements.txt beside this script), made
# once; prints its Python. What pip says goes to standard error.
set -euo pipefail
dir=$1
requirements=${2:-"$(cd "$(dirname "$0")" && pwd)/requirements.txt"}
want=$(python3 - "$requirements" <<'PY'
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest())
PY
)
if [ "$(cat "$dir/made" 2>/dev/null || true)" != "$want" ]; then
  rm -rf "$dir"
  python3 -m venv "$dir" >&2
  "$dir/bin/pip" install --quiet --no-compile --disable-pip-version-check -r "$requirements" >&2
  echo "$want" > "$dir/made"
fi
echo "$(cd "$dir" && pwd)/bin/python"
