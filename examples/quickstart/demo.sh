#!/usr/bin/env bash
# The main job, for real: apply, use, apply again, look. Run by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."
bayplan=${BAYPLAN:-bayplan}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "\$ bayplan plan -f examples/quickstart"
"$bayplan" plan -f examples/quickstart
say "\$ bayplan apply -f examples/quickstart"
"$bayplan" apply -f examples/quickstart
say "\$ GET http://127.0.0.1:8080/"
python3 - <<'PY'
import urllib.request
with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=10) as answer:
    print(answer.read().decode(), end="")
PY
say "\$ bayplan apply -f examples/quickstart        (again)"
"$bayplan" apply -f examples/quickstart
say "\$ bayplan status -p quickstart"
"$bayplan" status -p quickstart
say "Remove it all with: make demo-clean"
