#!/bin/bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB
# Nothing is converted ahead of time; a file that is not there is said before the clock runs.
set -euo pipefail

if [ "${1:-}" != v1 ]; then
    echo "prepare_instance.sh: expected the version 'v1' as first argument, got '${1:-}'" >&2
    exit 1
fi
if [ $# -ne 4 ]; then
    echo "prepare_instance.sh: expected v1 CATEGORY ONNX VNNLIB, got $# arguments" >&2
    exit 1
fi
for file in "$3" "$4"; do
    if [ ! -r "$file" ]; then
        echo "prepare_instance.sh: cannot read '$file'" >&2
        exit 1
    fi
done
