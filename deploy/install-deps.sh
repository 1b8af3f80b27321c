#!/bin/sh
# Installs the Debian packages that building, testing and benchmarking need. Asks nothing, and does
# nothing when they are all there. `install-deps.sh --print` only lists what is missing. ROCKSDB=0 in
# the environment does without RocksDB.
set -eu

build="gcc make pkg-config libc6-dev libuv1-dev libh2o-evloop-dev libh2o-dev-common liblmdb-dev
libsodium-dev libjansson-dev libxxhash-dev libinih-dev libsystemd-dev libssl-dev"
test="libcriterion-dev libcurl4-openssl-dev curl openssl iproute2 socat procps util-linux python3"
[ "${ROCKSDB:-1}" = 0 ] || build="$build librocksdb-dev"
want="$build $test"
if [ "${MS_DEPS:-}" = all ]; then
    want="$want clang libclang-rt-14-dev clang-format clang-tidy cppcheck wrk etcd-server systemd"
fi

missing=""
for package in $want; do
    # "install ok installed" and nothing less: a removed package keeps its configuration.
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done

if [ "${1:-}" = --print ]; then
    echo "${missing# }"
    exit 0
fi
[ -n "$missing" ] || exit 0

echo "installing:$missing" >&2
run=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "install-deps: not root and no sudo; install by hand:$missing" >&2
        exit 1
    }
    run="sudo"
fi
# A package list that was never fetched is the usual reason for "unable to locate package".
$run env DEBIAN_FRONTEND=noninteractive apt-get -qq update
# shellcheck disable=SC2086 # the list is meant to be split
$run env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
