#!/bin/sh
# The benchmark: bench.sh BUILD [options of bench.py]
set -eu
export PYTHONDONTWRITEBYTECODE=1 # the source tree stays as it is
exec python3 "$(dirname "$0")/bench.py" --build "$@"
