#!/usr/bin/env python3
"""The benchmark: metastore side by side with etcd, a bare libh2o handler and the raw disk.

    bench.py --build DIR [--parts LIST] [--rounds N] [--seconds S]

Parts: throughput, memory, million, start (default: all). Rounds of all servers are interleaved, so
that a machine that gets slower hits all alike; the table shows medians and the spread. Writes
DIR/bench.json and DIR/bench.svg. Python's standard library, wrk, and etcd if it is installed.
"""
import argparse
import base64
import json
import os
import platform
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = 10000
VALUE = b"v" * 128
MILLION = 1000000
RAW_BYTES_PER_KEY = 16 + 128
START_DEADLINE_S = 60
PARTS = ["throughput", "memory", "million", "start"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One process under test, listening on self.port, with its data in self.dir."""

    name = ""

    def __init__(self, directory):
        self.dir = directory
        self.data = "data"
        self.port = free_port()
        self.process = None

    def command(self):
        raise NotImplementedError

    def data_dir(self):
        """Of the part that runs: what one left behind must not weigh on the next."""
        return os.path.join(self.dir, self.name + "-" + self.data)

    def start(self):
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL,
            stderr=open(self.log_path(), "ab"), start_new_session=True)
        self.wait_served()

    def serves(self):
        raise NotImplementedError

    def wait_served(self):
        """Returns once a request is answered; asking is the only way that all servers share."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                status, self.process = self.process.returncode, None
                self.fail(f"ended with {status}")
            try:
                if self.serves():
                    return
            except OSError:
                pass
            time.sleep(0.001)
        self.fail("does not answer")

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def kill(self):
        """All of it, and until all of it is gone: a worker holds the port as long as it lives."""
        watched = [os.pidfd_open(pid) for pid in self.pids()]
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        for fd in watched:
            select.select([fd], [], [])
            os.close(fd)

    def fail(self, what):
        """Ends the benchmark with the last lines of the server's log."""
        with open(self.log_path(), encoding="utf-8", errors="replace") as f:
            sys.exit(f"bench: {self.name} {what}; its log ends:\n" + "".join(f.readlines()[-20:]))

    def log_path(self):
        return os.path.join(self.dir, self.name + ".log")

    def pids(self):
        """The process and its children."""
        found = [self.process.pid]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == self.process.pid:
                found.append(int(pid))
        return found

    def pss_mb(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                total += int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M).group(1))
        return total / 1024

    def request(self, method, path, body=None, headers=None):
        url = f"http://127.0.0.1:{self.port}{path}"
        return urllib.request.urlopen(
            urllib.request.Request(url, body, headers or {}, method=method), timeout=30)


class Metastore(Server):
    name = "metastore"
    put, get = "put", "get"

    def __init__(self, directory, binary):
        super().__init__(directory)
        self.binary = binary
        self.memory_dir = tempfile.mkdtemp(prefix="ms-bench-", dir="/dev/shm")

    def command(self):
        return [self.binary, "--port", str(self.port), "--log-level", "warn",
                "--data-dir", self.data_dir(), "--memory-dir", self.memory_dir]

    def serves(self):
        try:
            with self.request("PUT", "/bench/ready", b"x") as answer:
                return answer.status == 204
        except urllib.error.HTTPError:
            return False

    def metric(self, name):
        with self.request("GET", "/metrics") as answer:
            text = answer.read().decode()
        return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))

    def worker(self, name):
        for pid in self.pids():
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read().strip() == name:
                    return pid
        sys.exit(f"bench: no worker {name}")

    def lose_memory(self):
        """What a power cut does to the memory engine."""
        shutil.rmtree(self.memory_dir)
        os.mkdir(self.memory_dir, 0o700)

    def clean(self):
        shutil.rmtree(self.memory_dir, ignore_errors=True)


class Etcd(Server):
    name = "etcd"
    put, get = "etcd-put", "etcd-get"

    def command(self):
        peer = free_port()
        return ["etcd", "--name", "bench", "--data-dir", self.data_dir(),
                "--log-level", "error", "--enable-v2=false",
                "--listen-client-urls", f"http://127.0.0.1:{self.port}",
                "--advertise-client-urls", f"http://127.0.0.1:{self.port}",
                "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-cluster", f"bench=http://127.0.0.1:{peer}"]

    def serves(self):
        body = json.dumps({"key": base64.b64encode(b"ready").decode(),
                           "value": base64.b64encode(b"x").decode()}).encode()
        try:
            with self.request("POST", "/v3/kv/put", body) as answer:
                return answer.status == 200
        except urllib.error.HTTPError:
            return False


class BareH2o(Server):
    name = "bare h2o"
    get = "get"

    def __init__(self, directory, binary):
        super().__init__(directory)
        self.binary = binary

    def command(self):
        return [self.binary, str(self.port)]

    def serves(self):
        with self.request("GET", "/bench/000000001") as answer:
            return answer.status == 200


class Results:
    """Samples by metric and server."""

    def __init__(self):
        self.samples = {}

    def add(self, metric, server, value):
        self.samples.setdefault(metric, {}).setdefault(server, []).append(value)

    def median(self, metric, server):
        values = self.samples.get(metric, {}).get(server)
        return statistics.median(values) if values else None

    def spread(self, metric, server):
        """Half of the range, in percent of the median."""
        values = self.samples.get(metric, {}).get(server, [])
        middle = statistics.median(values) if values else 0
        return (max(values) - min(values)) / 2 / middle * 100 if middle and len(values) > 1 else None


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


# metric: unit, yardstick (server, what the ratio must be), goal as text, test of (metastore, etcd,
# yardstick)
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


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def rows_of(results):
    rows = []
    for metric, (unit, yardstick, goal, test) in GOALS.items():
        ours = results.median(metric, "metastore")
        if ours is None:
            continue
        theirs = results.median(metric, "etcd")
        measure = results.median(metric, yardstick) if yardstick else None
        rows.append({
            "metric": metric, "unit": unit, "metastore": ours, "etcd": theirs,
            "ratio": ours / theirs if theirs else None,
            "yardstick": yardstick, "yardstick_value": measure,
            "yardstick_ratio": ours / measure if measure else None,
            "spread_percent": results.spread(metric, "metastore"),
            "goal": goal,
            "met": None if test is None or (yardstick == "disk" and measure is None)
            else bool(test(ours, theirs, measure)),
        })
    return rows


def print_table(rows):
    head = ["metric", "metastore", "etcd", "ratio", "yardstick", "ratio", "spread", "goal", ""]
    lines = [head]
    for r in rows:
        lines.append([
            r["metric"], f"{number(r['metastore'])} {r['unit']}",
            f"{number(r['etcd'])} {r['unit']}" if r["etcd"] is not None else "-",
            number(r["ratio"]),
            f"{r['yardstick']} {number(r['yardstick_value'])}" if r["yardstick_value"] else "-",
            number(r["yardstick_ratio"]),
            f"+-{r['spread_percent']:.0f}%" if r["spread_percent"] is not None else "-",
            r["goal"], {True: "met", False: "MISSED", None: ""}[r["met"]]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) if i in (0, 7) else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def write_picture(rows, path, subtitle):
    """Bars for metastore, etcd and yardstick, each metric on a scale of its own."""
    colours = {"metastore": "#2a6fbb", "etcd": "#999999", "yardstick": "#d9a441"}
    left, width, bar, gap = 220, 520, 14, 16
    parts, y = [], 60
    for r in rows:
        bars = [("metastore", r["metastore"], "metastore")]
        if r["etcd"] is not None:
            bars.append(("etcd", r["etcd"], "etcd"))
        if r["yardstick_value"] is not None:
            bars.append((r["yardstick"], r["yardstick_value"], "yardstick"))
        largest = max(value for _, value, _ in bars)
        parts.append(f'<text x="{left - 10}" y="{y + 11}" text-anchor="end">{r["metric"]}</text>')
        for name, value, colour in bars:
            length = max(1, width * value / largest)
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar}" '
                         f'fill="{colours[colour]}"/>')
            parts.append(f'<text x="{left + length + 6:.0f}" y="{y + 11}" fill="#444">'
                         f'{name} {number(value)} {r["unit"]}</text>')
            y += bar + 2
        y += gap
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{y}" '
                'font-family="sans-serif" font-size="12">\n'
                '<rect width="100%" height="100%" fill="white"/>\n'
                '<text x="20" y="24" font-size="16">metastore beside etcd</text>\n'
                f'<text x="20" y="42" fill="#444">{subtitle}</text>\n'
                + "\n".join(parts) + "\n</svg>\n")


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        model = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, "
            f"Linux {platform.release()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="per measurement")
    parser.add_argument("--keys", type=int, default=MILLION, help="of the part million")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    parts = args.parts.split(",")
    if not set(parts) <= set(PARTS) or args.rounds < 1 or args.seconds < 1 or args.keys < 1:
        parser.error("unknown part or impossible number")

    # Beside the build: the disk that is measured is one of the machine's, not a tmpfs.
    directory = tempfile.mkdtemp(prefix="bench-data-", dir=args.build)
    metastore = Metastore(directory, os.path.join(args.build, "metastore"))
    bare_path = os.path.join(args.build, "tests/bench/bare_h2o")
    servers = [metastore,
               Etcd(directory) if shutil.which("etcd") else None,
               BareH2o(directory, bare_path) if os.path.exists(bare_path) else None]
    results = Results()
    subtitle = f"{machine()}; medians of {args.rounds} rounds, {args.seconds} s each"
    print(subtitle)
    print("wrk -t1 -c64 and -c1, 16 B keys, 128 B values; etcd through its JSON gateway"
          if servers[1] else "etcd is not installed: its columns stay empty")
    try:
        for part in PARTS:
            if part in parts:
                for server in filter(None, servers):
                    server.data = "million" if part == "start" else part
                {"throughput": throughput, "memory": memory,
                 "million": million, "start": start}[part](results, servers, args)
    finally:
        for server in filter(None, servers):
            if server.process is not None:
                server.kill()
        metastore.clean()
        shutil.rmtree(directory, ignore_errors=True)

    rows = rows_of(results)
    print_table(rows)
    with open(os.path.join(args.build, "bench.json"), "w", encoding="utf-8") as f:
        json.dump({"machine": machine(), "command": sys.argv, "rounds": args.rounds,
                   "seconds": args.seconds, "rows": rows, "samples": results.samples}, f, indent=1)
    write_picture(rows, os.path.join(args.build, "bench.svg"), subtitle)


if __name__ == "__main__":
    main()
