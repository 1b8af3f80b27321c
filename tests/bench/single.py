"""One node: throughput, latency, memory, recovery."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = 10000
MILLION = 1000000
RAW_BYTES_PER_KEY = 16 + 128


def wrk(server, kind, connections, seconds):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
               "-s", os.path.join(HERE, "requests.lua"), f"http://127.0.0.1:{server.port}",
               "--", kind, str(KEYS)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = re.search(r"^RESULT (.*)$", out, re.M)
    if line is None:
        sys.exit(f"bench: wrk said nothing: {out}")
    values = {k: int(v) for k, v in (pair.split("=") for pair in line.group(1).split())}
    if values["errors"] > 0:
        sys.exit(f"bench: {server.name}: {values['errors']} of {values['requests']} {kind} failed")
    return values["requests"] / (values["duration_us"] / 1e6), values["p50_us"], values["p99_us"]


def throughput(results, servers, args):
    metastore, etcd, bare = servers
    running = [s for s in servers if s is not None]
    for server in running:
        server.start()
    try:
        for server in (metastore, etcd):
            if server is not None:
                wrk(server, server.put, 64, max(1, args.seconds // 2))  # all keys exist, all is warm
        for _ in range(args.rounds):
            for server in running:
                measure_server(results, server, args.seconds)
            probe = subprocess.run([os.path.join(args.build, "tests/bench/disk_probe"),
                                    metastore.dir, "500"],
                                   capture_output=True, text=True, check=True).stdout
            results.add("PUT p50, 1 connection", "disk", json.loads(probe)["p50_us"])
    finally:
        for server in running:
            server.stop()


def measure_server(results, server, seconds):
    if hasattr(server, "put"):
        rate, _, p99 = wrk(server, server.put, 64, seconds)
        results.add("PUT/s, 64 connections", server.name, rate)
        results.add("PUT p99, 64 connections", server.name, p99)
        _, p50, _ = wrk(server, server.put, 1, max(1, seconds // 2))
        results.add("PUT p50, 1 connection", server.name, p50)
    rate, _, p99 = wrk(server, server.get, 64, seconds)
    results.add("GET/s, 64 connections", server.name, rate)
    results.add("GET p99, 64 connections", server.name, p99)
    _, p50, _ = wrk(server, server.get, 1, max(1, seconds // 2))
    results.add("GET p50, 1 connection", server.name, p50)


def memory(results, servers, _args):
    for server in servers[:2]:
        if server is None:
            continue
        server.start()
        time.sleep(3)  # idle is a state that lasts; there is no event at its start
        results.add("idle PSS", server.name, server.pss_mb())
        server.stop()


def put_until_acknowledged(server):
    """One PUT on a connection of its own: the time until its answer is there, in ms."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as s:
        s.sendall(b"PUT /bench/again HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
        answer = s.recv(4096)
    if not answer.startswith(b"HTTP/1.1 204"):
        sys.exit(f"bench: PUT was answered with {answer[:60]!r}")
    return (time.monotonic() - began) * 1000


def million(results, servers, args):
    metastore = servers[0]
    metastore.start()
    out = subprocess.run([os.path.join(args.build, "tests/bench/load"), str(metastore.port),
                          str(args.keys), "128"], capture_output=True, text=True, check=True).stdout
    results.add("load PUT/s, distinct keys", "metastore", json.loads(out)["per_second"])
    raw = args.keys * RAW_BYTES_PER_KEY
    results.add("memory engine / raw bytes", "metastore",
                metastore.metric("metastore_store_bytes") / raw)
    for _ in range(args.rounds):
        pid = metastore.worker("storaged")
        os.kill(pid, signal.SIGKILL)
        results.add("kill -9 storaged to PUT", "metastore", put_until_acknowledged(metastore))
    results.add("PSS with the keys", "metastore", metastore.pss_mb())
    metastore.stop()


def start(results, servers, args):
    """Needs what million left in the data dir; without it the starts are those of a small store."""
    metastore = servers[0]
    for _ in range(min(args.rounds, 3)):
        began = time.monotonic()
        metastore.start()
        results.add("start after a stop", "metastore", (time.monotonic() - began) * 1000)
        metastore.kill()
        metastore.lose_memory()
        began = time.monotonic()
        metastore.start()
        results.add("start after a power cut", "metastore", (time.monotonic() - began) * 1000)
        metastore.stop()


# As report.rows_of reads them.
GOALS = {
    "PUT/s, 64 connections": ("/s", None, ">= 4 x etcd, >= 30000",
                              lambda m, e, y: m >= 30000 and (e is None or m >= 4 * e)),
    "PUT p99, 64 connections": ("us", None, "", None),
    "PUT p50, 1 connection": ("us", "disk", "<= 2.5 x disk", lambda m, e, y: m <= 2.5 * y),
    "GET/s, 64 connections": ("/s", "bare h2o", ">= 10 x etcd, >= 0.7 x bare",
                              lambda m, e, y: (e is None or m >= 10 * e)
                              and (y is None or m >= 0.7 * y)),
    "GET p99, 64 connections": ("us", "bare h2o", "", None),
    "GET p50, 1 connection": ("us", "bare h2o", "", None),
    "idle PSS": ("MB", None, "< 40 MB", lambda m, e, y: m < 40),
    "load PUT/s, distinct keys": ("/s", None, "", None),
    "memory engine / raw bytes": ("x", None, "<= 2.2", lambda m, e, y: m <= 2.2),
    "PSS with the keys": ("MB", None, "", None),
    "kill -9 storaged to PUT": ("ms", None, "< 100 ms", lambda m, e, y: m < 100),
    "start after a stop": ("ms", None, "< 3000 ms", lambda m, e, y: m < 3000),
    "start after a power cut": ("ms", None, "< 3000 ms", lambda m, e, y: m < 3000),
}

PARTS = {"throughput": throughput, "memory": memory, "million": million, "start": start}
