#!/usr/bin/env bash
# Runs steps and Criterion binaries one after the other and closes with one summary:
#   run.sh --reports DIR [--step NAME COMMAND]... BINARY...
# Shows a line per binary; a failing one's whole output. Exits non-zero if anything failed, crashed,
# hung, or left a sanitizer report in DIR.
set -u
reports=""
steps=()
while [ $# -gt 0 ]; do
    case $1 in
    --reports) reports=$2; shift 2 ;;
    --step) steps+=("$2" "$3"); shift 3 ;;
    *) break ;;
    esac
done
limit=${MS_TEST_TIMEOUT_S:-400}
output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed_names=()
step_failures=0
tested=0 passed=0 failing=0 crashing=0

for ((i = 0; i < ${#steps[@]}; i += 2)); do
    name=${steps[i]}
    began=$SECONDS
    if timeout -k 10 "$limit" bash -c "${steps[i + 1]}" >"$output" 2>&1; then
        printf '  ok    %-44s %4ds   %s\n' "$name" $((SECONDS - began)) "$(tail -n 1 "$output" | cut -c1-80)"
        # What these two measured is worth reading even when all is well.
        case $name in *crash*) sed 's/^/        /' "$output" ;; esac
    else
        printf '  FAIL  %-44s %4ds\n' "$name" $((SECONDS - began))
        cat "$output"
        step_failures=$((step_failures + 1))
        failed_names+=("$name")
    fi
done

number() { sed 's/\x1b\[[0-9;]*m//g' "$output" | sed -n "s/.*Synthesis:.*$1: *\([0-9]*\).*/\1/p" | tail -n 1; }
for binary in "$@"; do
    name=${binary#*/tests/}
    began=$SECONDS
    timeout -k 10 "$limit" "$binary" --color=never >"$output" 2>&1
    status=$?
    t=$(number Tested) p=$(number Passing) f=$(number Failing) c=$(number Crashing)
    tested=$((tested + ${t:-0})) passed=$((passed + ${p:-0}))
    failing=$((failing + ${f:-0})) crashing=$((crashing + ${c:-0}))
    if [ $status -eq 0 ] && [ "${t:-0}" -gt 0 ]; then
        printf '  ok    %-44s %4ds   %s tests\n' "$name" $((SECONDS - began)) "$t"
    else
        printf '  FAIL  %-44s %4ds   exit status %d\n' "$name" $((SECONDS - began)) $status
        cat "$output"
        failed_names+=("$name")
        # A binary that died before its summary counts as one crash.
        if [ -z "$t" ] || [ "${t:-0}" -eq 0 ]; then
            tested=$((tested + 1)) crashing=$((crashing + 1))
        elif [ "${f:-0}" -eq 0 ] && [ "${c:-0}" -eq 0 ]; then
            crashing=$((crashing + 1))
        fi
    fi
done

report_count=0
if [ -n "$reports" ]; then
    for report in "$reports"/*; do
        [ -s "$report" ] || continue
        report_count=$((report_count + 1))
        echo "sanitizer report $report:"
        head -n 60 "$report"
    done
fi
if [ ${#failed_names[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed_names[@]}"
fi
if [ $((step_failures + report_count)) -gt 0 ]; then
    echo "steps failed: $step_failures, sanitizer reports: $report_count"
fi
echo "[====] Synthesis: Tested: $tested | Passing: $passed | Failing: $failing | Crashing: $crashing"
[ $tested -gt 0 ] && [ $((failing + crashing + step_failures + report_count)) -eq 0 ]
