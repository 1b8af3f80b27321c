#!/bin/sh
# The benchmark: bench.sh BUILD [options of bench.py]
set -eu
exec python3 "$(dirname "$0")/bench.py" --build "$@"
