"""The processes under test: metastore, etcd, a bare libh2o handler."""
import base64
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

START_DEADLINE_S = 60


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

    def launch(self):
        with open(self.log_path(), "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL,
                                            stderr=log, start_new_session=True)

    def start(self):
        self.launch()
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

    def kill_at_once(self):
        """All processes; does not wait for their end."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self):
        """All of it, and until all of it is gone: a worker holds the port as long as it lives."""
        watched = [os.pidfd_open(pid) for pid in self.pids()]
        self.kill_at_once()
        self.process.wait()
        self.process = None
        for fd in watched:
            select.select([fd], [], [])
            os.close(fd)

    def clean(self):
        """The end of this server, whatever state it is in."""
        if self.process is not None:
            self.kill()

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
        super().clean()
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
