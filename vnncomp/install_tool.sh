#!/bin/bash
# install_tool.sh v1
# Install corgi into a virtual environment beside this folder.
set -euo pipefail

if [ "${1:-}" != v1 ]; then
    echo "install_tool.sh: expected the version 'v1' as first argument, got '${1:-}'" >&2
    exit 1
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
"$python" -m venv "$root/.venv"
"$root/.venv/bin/pip" install --quiet -c "$root/constraints.txt" -e "$root"
"$root/.venv/bin/pip" install --quiet --no-deps -c "$root/constraints.txt" auto-LiRPA
"$root/.venv/bin/corgi" --version
