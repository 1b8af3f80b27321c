#!/usr/bin/env bash
# Runs the simulation on all cores, each with its share of the seeds:  run.sh PROGRAM [OPTION]...
# The first line is the seed that all follow from; MS_SEED replays it. The first failure ends it.
set -u
program=$1
shift
seed=${MS_SEED:-$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')}
shares=$(nproc)
output=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    rm -rf "$output"
}
trap finish EXIT
echo "sim: MS_SEED=$seed"
for ((i = 1; i <= shares; i++)); do
    MS_SEED=$seed "$program" --shard "$i/$shares" "$@" >"$output/$i" 2>&1 &
    pids[i]=$!
done
while [ ${#pids[@]} -gt 0 ]; do
    wait -n -p ended "${pids[@]}"
    status=$?
    for i in "${!pids[@]}"; do
        [ "${pids[i]}" = "$ended" ] || continue
        unset "pids[i]"
        if [ $status -ne 0 ]; then
            tail -n +2 "$output/$i"
            exit 1
        fi
    done
done
for ((i = 1; i <= shares; i++)); do
    tail -n +2 "$output/$i"
done
awk '/ seeds, no invariant broken$/ { seeds += $1 } END { print seeds " seeds in all, no invariant broken" }' \
    "$output"/*
