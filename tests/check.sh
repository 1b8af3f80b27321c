#!/usr/bin/env bash
# The rules between rooms: check.sh BUILD COMPILER-COMMAND
#  - a worker includes only its own folder and common/; common/ includes no worker
#  - raftd/core/ includes itself, common/types.h and common/err.h, and calls nothing but mem* and the
#    assertion handler
#  - every header compiles alone
#  - h2o's, LMDB's and RocksDB's types stay in the files that own them
set -u
build=$1
compile=$2
bad=0
complain() { echo "check: $*"; bad=1; }

for room in supervisor raftd storaged apid common; do
    allowed="^($room|common)/"
    [ $room = common ] && allowed='^common/'
    while IFS=: read -r file _ line; do
        header=$(printf '%s' "$line" | sed 's/.*"\(.*\)".*/\1/')
        printf '%s' "$header" | grep -Eq "$allowed" || complain "$file includes $header"
    done < <(grep -rnE '^#include "' --include='*.c' --include='*.h' $room)
done

while IFS=: read -r file _ line; do
    header=$(printf '%s' "$line" | sed 's/.*[<"]\(.*\)[>"].*/\1/')
    case $header in
    raftd/core/*.h | common/types.h | common/err.h) ;;
    assert.h | stdbool.h | stddef.h | stdint.h | string.h | limits.h | inttypes.h | stdarg.h) ;;
    *) complain "$file includes $header" ;;
    esac
done < <(grep -rnE '^#include' raftd/core)

# Sanitizers and fortification add calls of their own: their names start with two underscores.
undefined=$(nm -u "$build"/obj/raftd/core/*.o | awk '{print $2}' | sort -u)
defined=$(nm --defined-only "$build"/obj/raftd/core/*.o | awk 'NF==3{print $3}' | sort -u)
for symbol in $(comm -23 <(echo "$undefined") <(echo "$defined")); do
    case $symbol in
    mem* | __mem* | strlen | __assert_fail | __stack_chk_fail | _GLOBAL_OFFSET_TABLE_) ;;
    __asan* | __ubsan* | __tsan* | __sanitizer*) ;;
    *) complain "raftd/core calls $symbol" ;;
    esac
done

for header in */*.h raftd/core/*.h; do
    case $header in build*) continue ;; esac
    case "$header $compile" in storaged/rocks*-DMS_ROCKSDB=0*) continue ;; esac
    printf '#include "%s"\n' "$header" | $compile -x c -fsyntax-only - || complain "$header does not compile alone"
done

others=$(grep -rlE '\bh2o_[a-z]' --include='*.c' --include='*.h' supervisor raftd storaged common apid | grep -vE '^apid/http[a-z_]*\.c$|^apid/http_private\.h$')
[ -z "$others" ] || complain "h2o types outside apid/http*.c: $others"
others=$(grep -rlE '\bmdb_[a-z]' --include='*.c' --include='*.h' supervisor raftd apid)
[ -z "$others" ] || complain "LMDB outside storaged/ and common/memdb: $others"
others=$(grep -rlE '\brocksdb_[a-z]|rocksdb/c\.h' --include='*.c' --include='*.h' supervisor raftd storaged common apid | grep -vE '^storaged/rocks(_read\.c|_library\.[ch]|\.c)$')
[ -z "$others" ] || complain "RocksDB outside storaged/rocks.c, rocks_read.c and rocks_library.*: $others"

[ $bad -eq 0 ] && echo "rules between rooms hold"
exit $bad
