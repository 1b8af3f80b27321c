#!/usr/bin/env bash
# A cluster of three or five nodes on this machine, for trying things out.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: local-cluster.sh COMMAND [--nodes 3|5] [--data-dir DIR] [-- OPTION...]

  start        start all nodes that do not run, and wait until they are ready
  start N      the same with node N alone
  kill N       kill -9 every process of node N
  stop         stop all nodes in an orderly way
  stop N       the same with node N alone
  status       show the nodes

  --nodes      members of a new cluster (3); one that exists keeps its number
  --data-dir   where their data, logs and sockets are kept (./data/cluster)
  OPTION...    for every node that is started; see `metastore --help`

Node N serves http://127.0.0.1:912N and talks to its peers at port N2379. The
program is taken from $METASTORE, else from build/ next to this folder.
EOF
}

ready_seconds=30
stop_seconds=20

fail() {
    echo "local-cluster: $1" >&2
    exit "${2:-1}"
}

api_url() { echo "http://127.0.0.1:$((9120 + $1))"; }
peer_url() { echo "http://127.0.0.1:$(($1 * 10000 + 2379))"; }

cluster_urls() {
    local urls="" n
    for ((n = 1; n <= nodes; n++)); do
        urls+="${urls:+,}$(peer_url "$n")"
    done
    echo "$urls"
}

# The pid of a running node's supervisor, which keeps it in the data dir's lock file; else nothing.
# A file that a dead node left behind may name somebody else by now.
node_pid() {
    local pid
    pid=$(cat "$dir/$1/lock" 2>/dev/null) || return 0
    runs "$pid" || return 0
    case " $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") " in
        *metastore*" --id $1 "*) echo "$pid" ;;
    esac
}

# Whether a process runs; one that ended and was not waited for by its parent does not.
runs() {
    case $(cut -d ')' -f 2 2>/dev/null <"/proc/$1/stat") in
        "" | " Z"* | " X"*) return 1 ;;
    esac
}

ask() { # node, then the command for it
    local node=$1
    shift
    "$metastorectl" -S "$dir/$node/admin.sock" "$@" 2>/dev/null
}

spawn() {
    local log=$dir/$1.log
    [ -z "$(node_pid "$1")" ] || return 0
    # A session of its own: what is typed at this terminal is not meant for the nodes.
    setsid -f "$metastore" --id "$1" --cluster "$(cluster_urls)" --port $((9120 + $1)) \
        --data-dir "$dir" "${options[@]}" >>"$log" 2>&1 </dev/null
}

# Waits until the node says that it can commit and is caught up.
wait_ready() {
    local seen="" deadline=$((SECONDS + ready_seconds))
    until curl -fs -o /dev/null --max-time 2 "$(api_url "$1")/readyz"; do
        if [ -n "$(node_pid "$1")" ]; then
            seen=yes
        elif [ -n "$seen" ] || ((SECONDS > deadline - ready_seconds + 3)); then
            tail -n 5 "$dir/$1.log" >&2
            fail "node $1 ended; see $dir/$1.log"
        fi
        ((SECONDS < deadline)) || fail "node $1 is not ready after $ready_seconds s; see $dir/$1.log"
        sleep 0.1
    done
}

# Waits until none of the given processes is left.
wait_gone() { # node, pids
    local node=$1 pid deadline=$((SECONDS + stop_seconds))
    shift
    for pid in "$@"; do
        while runs "$pid"; do
            ((SECONDS < deadline)) || fail "node $node (pid $pid) does not end"
            sleep 0.05
        done
    done
}

start() { # nodes
    local n
    for n in "$@"; do
        spawn "$n"
    done
    for n in "$@"; do
        wait_ready "$n"
    done
    status
}

stop() { # nodes
    local n pid
    local -A pids=()
    for n in "$@"; do
        pid=$(node_pid "$n")
        [ -n "$pid" ] || continue
        pids[$n]=$pid
        kill -TERM "$pid"
    done
    for n in "${!pids[@]}"; do
        wait_gone "$n" "${pids[$n]}"
    done
}

kill_node() {
    local pid
    local -a workers
    pid=$(node_pid "$1")
    [ -n "$pid" ] || fail "node $1 does not run"
    mapfile -t workers < <(pgrep -P "$pid")
    kill -KILL "$pid" "${workers[@]}" 2>/dev/null || true
    wait_gone "$1" "$pid" "${workers[@]}"
    echo "node $1: killed pid $pid and its workers ${workers[*]}"
}

status() {
    local n pid state leader
    printf '%-5s %-8s %-22s %-24s %-14s %s\n' NODE PID API "PEER URL" STATE LEADER
    for ((n = 1; n <= nodes; n++)); do
        pid=$(node_pid "$n")
        state=stopped
        leader=-
        if [ -n "$pid" ]; then
            read -r state leader < <(ask "$n" status | awk '
                $1 == "state" { state = $2 } $1 == "leader" { leader = $2 }
                END { print (state ? state : "starting"), (leader ? leader : "-") }') || true
        fi
        printf '%-5s %-8s %-22s %-24s %-14s %s\n' "$n" "${pid:--}" "$(api_url "$n")" \
            "$(peer_url "$n")" "$state" "$leader"
    done
}

# ---- the command line ------------------------------------------------------------------------

command=""
node=""
wanted=""
dir=./data/cluster
options=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --nodes) wanted=${2:-} && shift ;;
        --nodes=*) wanted=${1#*=} ;;
        --data-dir) dir=${2:-} && shift ;;
        --data-dir=*) dir=${1#*=} ;;
        --) shift && options=("$@") && break ;;
        -*) usage >&2 && exit 2 ;;
        *)
            if [ -z "$command" ]; then
                command=$1
            elif [ -z "$node" ]; then
                node=$1
            else
                usage >&2 && exit 2
            fi
            ;;
    esac
    shift || true
done
if [ -z "$command" ] || [ -z "$dir" ]; then
    usage >&2
    exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
metastore=${METASTORE:-$here/../build/metastore}
metastorectl=$(dirname "$metastore")/metastorectl
[ -x "$metastore" ] || fail "$metastore is not there: run make first"

# How many nodes it has was decided when the cluster was made.
nodes=$(cat "$dir/nodes" 2>/dev/null || echo "${wanted:-3}")
case $nodes in
    3 | 5) ;;
    *) fail "a local cluster has 3 or 5 nodes, not \"$nodes\"" 2 ;;
esac
[ -z "$wanted" ] || [ "$wanted" = "$nodes" ] ||
    fail "the cluster in $dir has $nodes nodes; choose another --data-dir for one of $wanted" 2
if [ -n "$node" ]; then
    if [[ ! $node =~ ^[1-9]$ ]] || ((node > nodes)); then
        fail "there is no node \"$node\"" 2
    fi
    which=("$node")
else
    mapfile -t which < <(seq "$nodes")
fi

case $command in
    start)
        mkdir -p "$dir"
        echo "$nodes" >"$dir/nodes"
        start "${which[@]}"
        ;;
    stop) stop "${which[@]}" ;;
    kill)
        [ -n "$node" ] || fail "kill which node?" 2
        kill_node "$node"
        ;;
    status) status ;;
    *) usage >&2 && exit 2 ;;
esac
