#!/bin/sh
# Packs an installed tree as a Debian package: make-deb.sh ROOT VERSION OUTPUT.deb
# The dependencies are the packages that own the libraries the program is linked with. The one that
# it loads when it needs it (ROCKSDB_LIBRARY in the environment, if any) is recommended.
set -eu
root=$1
version=$2
output=$3

# The package that owns a library; nothing when there is none.
owner() {
    path=$(ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }')
    # dpkg records the path behind the /lib -> /usr/lib link, or the one before it.
    dpkg-query -S "$(readlink -f "$path")" "$path" 2>/dev/null | head -n 1 | cut -d: -f1
}

needed=$(objdump -p "$root/usr/bin/metastore" | awk '$1 == "NEEDED" { print $2 }')
depends=""
for library in $needed; do
    package=$(owner "$library")
    [ -n "$package" ] || {
        echo "make-deb: no package owns $library" >&2
        exit 1
    }
    case " $depends " in *" $package, "*) ;; *) depends="$depends$package, " ;; esac
done

recommends=""
[ -z "${ROCKSDB_LIBRARY:-}" ] || recommends=$(owner "$ROCKSDB_LIBRARY")

mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: metastore
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: The metastore maintainers <metastore@localhost>
Depends: ${depends%, }${recommends:+
Recommends: $recommends}
Section: database
Priority: optional
Description: Raft-replicated key-value store for metadata
 One executable that runs as a supervisor with isolated workers for consensus, HTTP and storage, so
 that the crash of a worker is never a client's problem.
CONTROL
echo /etc/metastore/metastore.ini >"$root/DEBIAN/conffiles"
dpkg-deb --root-owner-group --build "$root" "$output"
