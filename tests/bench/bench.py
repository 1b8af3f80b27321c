#!/usr/bin/env python3
"""The benchmark: metastore side by side with etcd, a bare libh2o handler and the raw disk.

    bench.py --build DIR [--parts LIST] [--rounds N] [--seconds S]

Parts: throughput, memory, million, start (one node); cluster, failover, catchup (three nodes on
this machine). Rounds of all servers are interleaved, so that a machine that gets slower hits all
alike; the table shows medians and the spread. Writes DIR/bench.json and DIR/bench.svg. Python's
standard library, wrk, and etcd if it is installed.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile

import cluster
import single
from report import Results, machine, print_table, rows_of, write_picture
from servers import BareH2o, Etcd, Metastore

GOALS = {**single.GOALS, **cluster.GOALS}


def run_single(results, wanted, directory, args):
    bare_path = os.path.join(args.build, "tests/bench/bare_h2o")
    servers = [Metastore(directory, os.path.join(args.build, "metastore")),
               Etcd(directory) if shutil.which("etcd") else None,
               BareH2o(directory, bare_path) if os.path.exists(bare_path) else None]
    try:
        for name, part in single.PARTS.items():
            if name in wanted:
                for server in filter(None, servers):
                    server.data = "million" if name == "start" else name
                part(results, servers, args)
    finally:
        for server in filter(None, servers):
            server.clean()


def main():
    names = list(single.PARTS) + list(cluster.PARTS)
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--parts", default=",".join(names), help="of " + ",".join(names))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="per measurement")
    parser.add_argument("--keys", type=int, default=single.MILLION,
                        help="of the parts million and catchup")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    wanted = args.parts.split(",")
    if not set(wanted) <= set(names) or args.rounds < 1 or args.seconds < 1 or args.keys < 1:
        parser.error("unknown part or impossible number")

    subtitle = f"{machine()}; medians of {args.rounds} rounds, {args.seconds} s each"
    print(subtitle)
    print("wrk -t1 -c64 and -c1, 16 B keys, 128 B values; etcd through its JSON gateway"
          if shutil.which("etcd") else "etcd is not installed: its columns stay empty", flush=True)
    results = Results()
    # Beside the build: the disk that is measured is one of the machine's, not a tmpfs.
    directory = tempfile.mkdtemp(prefix="bench-data-", dir=args.build)
    try:
        run_single(results, wanted, directory, args)
        for name, part in cluster.PARTS.items():
            if name in wanted:
                part(results, directory, args)
    finally:
        shutil.rmtree(directory, ignore_errors=True)

    rows = rows_of(results, GOALS)
    print_table(rows)
    with open(os.path.join(args.build, "bench.json"), "w", encoding="utf-8") as f:
        json.dump({"machine": machine(), "command": sys.argv, "rounds": args.rounds,
                   "seconds": args.seconds, "rows": rows, "samples": results.samples}, f, indent=1)
    write_picture(rows, os.path.join(args.build, "bench.svg"), subtitle)


if __name__ == "__main__":
    main()
