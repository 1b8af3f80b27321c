#!/usr/bin/env bash
# Does the simulation notice a broken core? Breaks it in one place after the other and runs seeds.
#
#   run.sh --cc "COMPILE" --link "LINK" [--libs "LIBS"] [--seeds N] [--timeout S] [--only "NAME..."]
#          OBJECT...
#
# OBJECTs make up the simulation; that of the changed file is compiled anew with COMPILE, the others
# are linked as they are. Each *.mutation here is a sentence for the reader, "--- FILE", the text to
# find (exactly once), "+++", and what takes its place. Prints a table; exits 1 if a mutation is not
# noticed, does not apply, or does not compile. A seed counts only if the unchanged core passes it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cc="" link="" libs="" seeds=2000 timeout=120 only=""
while [ $# -gt 0 ]; do
    case $1 in
    --cc) cc=$2; shift 2 ;;
    --link) link=$2; shift 2 ;;
    --libs) libs=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --timeout) timeout=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    *) break ;;
    esac
done
objects=("$@")
if [ -z "$cc" ] || [ -z "$link" ] || [ ${#objects[@]} -eq 0 ]; then
    echo "usage: run.sh --cc COMPILE --link LINK [--libs LIBS] [--seeds N] [--timeout S] [--only NAMES] OBJECT..." >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root" || exit 2
first=${MS_SEED:-1} # the same seeds every time, unless told otherwise

# Writes the changed source to $2 and prints the name of the file it is of.
mutate() {
    local text rest file find replace content tail
    text=$(cat "$1")
    rest=${text#*$'\n--- '}
    file=${rest%%$'\n'*}
    rest=${rest#*$'\n'}
    find=${rest%%$'\n+++\n'*}
    replace=${rest#*$'\n+++\n'}
    [ -f "$file" ] && [ -n "$find" ] && [ "$replace" != "$rest" ] || return 1
    content=$(cat "$file")
    tail=${content#*"$find"}
    [ "$tail" != "$content" ] && [ "${tail#*"$find"}" = "$tail" ] || return 1
    printf '%s\n' "${content%%"$find"*}$replace$tail" >"$2"
    echo "$file"
}

# One mutation from text to verdict; the verdict is one line: state invariant seed seconds.
examine() {
    local name=$1 dir=$work/$1 file object program_objects=() began status last state
    mkdir -p "$dir"
    if ! file=$(mutate "$here/$name.mutation" "$dir/mutated.c"); then
        echo "stale - - 0" >"$dir/verdict"
        return
    fi
    if ! $cc -c -o "$dir/mutated.o" "$dir/mutated.c" >"$dir/output" 2>&1; then
        echo "uncompilable - - 0" >"$dir/verdict"
        return
    fi
    for object in "${objects[@]}"; do
        case $object in
        *"${file%.c}.o") program_objects+=("$dir/mutated.o") ;;
        *) program_objects+=("$object") ;;
        esac
    done
    # shellcheck disable=SC2086
    if ! $link -o "$dir/sim" "${program_objects[@]}" $libs >"$dir/output" 2>&1; then
        echo "unlinkable - - 0" >"$dir/verdict"
        return
    fi
    began=$(date +%s%N)
    MS_SEED=$first timeout -k 5 "$timeout" "$dir/sim" --seeds "$seeds" >"$dir/output" 2>&1
    status=$?
    last=$(grep -a '^invariant=' "$dir/output" | tail -n 1)
    began=$((($(date +%s%N) - began) / 100000000))
    if [ $status -eq 1 ] && [ -n "$last" ]; then
        last=${last#invariant=}
        state=caught
        "$work/unchanged" --seed "${last##*seed=}" >"$dir/output" 2>&1 || state=always
        echo "$state ${last%% *} ${last##*seed=} $((began / 10)).$((began % 10))" >"$dir/verdict"
    elif [ $status -eq 0 ] || [ $status -eq 124 ]; then
        echo "missed - - $((began / 10)).$((began % 10))" >"$dir/verdict"
    else
        echo "strange status-$status - $((began / 10)).$((began % 10))" >"$dir/verdict"
    fi
}

names=()
for path in "$here"/*.mutation; do
    name=$(basename "$path" .mutation)
    case " ${only:-$name} " in *" $name "*) names+=("$name") ;; esac
done
for name in $only; do
    [ -f "$here/$name.mutation" ] || { echo "run.sh: no mutation $name" >&2; exit 2; }
done

# Without a change, what a seed shows must not be there.
# shellcheck disable=SC2086 # the words of a command
if ! $link -o "$work/unchanged" "${objects[@]}" $libs; then
    echo "run.sh: the simulation does not link" >&2
    exit 1
fi

jobs_max=$(nproc)
for name in "${names[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs_max" ]; do
        wait -n
    done
    examine "$name" &
done
wait

failures=0
printf '%-32s %-28s %-20s %8s\n' mutation "invariant broken" seed seconds
for name in "${names[@]}"; do
    read -r state invariant seed seconds <"$work/$name/verdict"
    if [ "$state" = caught ]; then
        printf '%-32s %-28s %-20s %8s\n' "$name" "$invariant" "$seed" "$seconds"
        continue
    fi
    failures=$((failures + 1))
    case $state in
    missed) printf '%-32s %-28s %-20s %8s\n' "$name" "NOT NOTICED" "-" "$seconds" ;;
    always) printf '%-32s %s\n' "$name" "PROVES NOTHING: seed $seed fails without it, too ($invariant)" ;;
    stale) printf '%-32s %s\n' "$name" "DOES NOT APPLY: its text is not in the file exactly once" ;;
    *) printf '%-32s %s\n' "$name" "FAILED ($state $invariant)"; tail -n 20 "$work/$name/output" ;;
    esac
done
echo "${#names[@]} mutations, $((${#names[@]} - failures)) noticed"
[ $failures -eq 0 ]
