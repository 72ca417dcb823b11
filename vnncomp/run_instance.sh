#!/bin/bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT
# RESULTS gets sat, unsat, timeout, unknown or error in its first line, and the witness of sat below it.
# $CORGI is the command to run; without it, the one install_tool.sh installed.
set -euo pipefail

if [ "${1:-}" != v1 ]; then
    echo "run_instance.sh: expected the version 'v1' as first argument, got '${1:-}'" >&2
    exit 1
fi
if [ $# -ne 6 ]; then
    echo "run_instance.sh: expected v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT, got $# arguments" >&2
    exit 1
fi
onnx="$3" vnnlib="$4" results="$5" timeout="$6"

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
corgi="${CORGI:-$root/.venv/bin/corgi}"

rm -f -- "$results"
code=0
"$corgi" vnn solve "$onnx" "$vnnlib" --timeout "$timeout" --results "$results" || code=$?
# 0 unsat, 1 sat, 2 unknown, 3 timeout, 4 error: all of them results. Where none was written, that is an error.
if [ ! -s "$results" ]; then
    echo "run_instance.sh: corgi ended with $code and no result" >&2
    echo error > "$results"
fi
