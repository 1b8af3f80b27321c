#!/bin/sh
# Runs each fuzz target for some seconds on its corpus: run.sh SECONDS WORKDIR TARGET...
# New inputs stay in WORKDIR; a crashing one is printed with the command that replays it.
set -eu
seconds=$1
work=$2
shift 2
failed=0
for target in "$@"; do
    name=$(basename "$target")
    corpus="$work/corpus/$name"
    mkdir -p "$corpus" "$work/crashes"
    seeds="tests/fuzz/corpus/$name"
    [ -d "$seeds" ] || seeds=""
    log="$work/$name.log"
    # shellcheck disable=SC2086 # $seeds is one word or none
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$work/crashes/$name-" "$corpus" $seeds >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz $name: ${runs:-?} runs in $seconds s, no finding"
    else
        failed=1
        echo "fuzz $name: FINDING"
        grep -E 'ERROR|SUMMARY|Test unit written' "$log" || tail -5 "$log"
        echo "replay: $target $work/crashes/$name-..."
    fi
done
exit $failed
