"""Three nodes on one machine: throughput, latency, failover, a new node catching up."""
import base64
import http.client
import json
import os
import signal
import shutil
import subprocess
import sys
import threading
import time
import urllib.error

from servers import Etcd, Metastore, free_port
from single import KEYS, wrk

NODES = 3
FAILOVERS = 10
CATCH_UP_CONNECTIONS = 16
CATCH_UP_DEADLINE_S = 300
GIVE_UP_S = 30


class MetastoreNode(Metastore):
    """Node id of a cluster whose peers' ports are in the list they share."""

    def __init__(self, directory, binary, node_id, peer_ports):
        super().__init__(directory, binary)
        self.node_id, self.peer_ports = node_id, peer_ports
        self.extra = []

    def command(self):
        urls = ",".join(f"http://127.0.0.1:{port}" for port in self.peer_ports)
        return super().command() + ["--id", str(self.node_id), "--cluster", urls] + self.extra

    def log_path(self):
        return os.path.join(self.dir, f"{self.name}-{self.node_id}.log")

    def status(self):
        ctl = os.path.join(os.path.dirname(self.binary), "metastorectl")
        socket_path = os.path.join(self.data_dir(), str(self.node_id), "admin.sock")
        out = subprocess.run([ctl, "-S", socket_path, "--json", "status"], capture_output=True,
                             text=True, check=True).stdout
        return json.loads(out)["node"]

    def leads(self):
        return self.status()["state"] == "leader"


class EtcdNode(Etcd):
    def __init__(self, directory, node_id, peer_ports):
        super().__init__(directory)
        self.node_id, self.peer_ports = node_id, peer_ports

    def data_dir(self):
        return super().data_dir() + f"-{self.node_id}"

    def log_path(self):
        return os.path.join(self.dir, f"{self.name}-{self.node_id}.log")

    def command(self):
        client = f"http://127.0.0.1:{self.port}"
        peer = f"http://127.0.0.1:{self.peer_ports[self.node_id - 1]}"
        members = ",".join(f"n{i + 1}=http://127.0.0.1:{port}"
                           for i, port in enumerate(self.peer_ports))
        return ["etcd", "--name", f"n{self.node_id}", "--data-dir", self.data_dir(),
                "--log-level", "error", "--enable-v2=false",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", members]

    def leads(self):
        with self.request("POST", "/v3/maintenance/status", b"{}") as answer:
            status = json.load(answer)
        return status["leader"] == status["header"]["member_id"]


class Cluster:
    """Nodes of one kind, started and stopped together."""

    def __init__(self, name, make_node):
        peer_ports = [free_port() for _ in range(NODES)]
        self.name = name
        self.nodes = [make_node(i + 1, peer_ports) for i in range(NODES)]
        self.peer_ports = peer_ports

    def start(self, data):
        for node in self.nodes:
            node.data = data
            node.launch()
        for node in self.nodes:
            node.wait_served()

    def leader(self):
        """The node that leads; asking is the only way that both kinds share."""
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            for node in self.nodes:
                try:
                    if node.process is not None and node.leads():
                        return node
                except (OSError, subprocess.CalledProcessError, urllib.error.URLError):
                    pass
            time.sleep(0.01)
        sys.exit(f"bench: no leader among the nodes of {self.name}")

    def clean(self):
        for node in self.nodes:
            node.clean()


def clusters(directory, args):
    binary = os.path.join(args.build, "metastore")
    made = [Cluster("metastore", lambda i, ports: MetastoreNode(directory, binary, i, ports))]
    if shutil.which("etcd"):
        made.append(Cluster("etcd", lambda i, ports: EtcdNode(directory, i, ports)))
    return made


def throughput(results, directory, args):
    made = clusters(directory, args)
    try:
        for cluster in made:
            cluster.start("cluster")
            leader = cluster.leader()
            wrk(leader, leader.put, 64, max(1, args.seconds // 2))  # all keys exist, all is warm
        for _ in range(args.rounds):
            for cluster in made:
                measure(results, cluster, args.seconds)
    finally:
        for cluster in made:
            cluster.clean()


def measure(results, cluster, seconds):
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes if node is not leader)
    rate, _, p99 = wrk(leader, leader.put, 64, seconds)
    results.add("3 nodes: PUT/s at the leader", cluster.name, rate)
    results.add("3 nodes: PUT p99 at the leader", cluster.name, p99)
    _, p50, _ = wrk(leader, leader.put, 1, max(1, seconds // 2))
    results.add("3 nodes: PUT p50, 1 connection", cluster.name, p50)
    rate, _, _ = wrk(leader, leader.get, 64, seconds)
    results.add("3 nodes: GET/s at the leader", cluster.name, rate)
    rate, _, _ = wrk(follower, follower.put, 64, seconds)
    results.add("3 nodes: PUT/s through a follower", cluster.name, rate)


# ---- failover -------------------------------------------------------------------------------


def put_once(node, timeout_s):
    """True when the PUT was acknowledged."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=timeout_s)
    try:
        if isinstance(node, Etcd):
            body = json.dumps({"key": base64.b64encode(b"failover").decode(),
                               "value": base64.b64encode(b"x").decode()})
            connection.request("POST", "/v3/kv/put", body)
        else:
            connection.request("PUT", "/bench/failover", b"x")
        return connection.getresponse().status in (200, 204)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ms_until_acknowledged(nodes, began):
    """Asks all of them at the same time, again and again; the first success counts."""
    done = threading.Event()
    times = []

    def ask(node):
        while not done.is_set() and time.monotonic() - began < GIVE_UP_S:
            if put_once(node, 1.0):
                times.append((time.monotonic() - began) * 1000)
                done.set()
                return
            time.sleep(0.002)

    threads = [threading.Thread(target=ask, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not times:
        sys.exit(f"bench: no PUT acknowledged within {GIVE_UP_S} s")
    return min(times)


def failover(results, directory, args):
    made = clusters(directory, args)
    try:
        for cluster in made:
            cluster.start("failover")
        for _ in range(FAILOVERS):
            for cluster in made:
                leader = cluster.leader()
                others = [node for node in cluster.nodes if node is not leader]
                began = time.monotonic()
                leader.kill_at_once()
                results.add("kill -9 the leader's node to PUT", cluster.name,
                            ms_until_acknowledged(others, began))
                leader.kill()
                leader.start()
        for _ in range(FAILOVERS):
            kill_workers_of_leader(results, made[0])
    finally:
        for cluster in made:
            cluster.clean()


def kill_workers_of_leader(results, cluster):
    leader = cluster.leader()
    began = time.monotonic()
    os.kill(leader.worker("raftd"), signal.SIGKILL)
    results.add("kill -9 the leader's raftd to PUT", cluster.name,
                ms_until_acknowledged(cluster.nodes, began))
    leader = cluster.leader()
    term = leader.status()["term"]
    began = time.monotonic()
    os.kill(leader.worker("storaged"), signal.SIGKILL)
    results.add("kill -9 the leader's storaged to PUT", cluster.name,
                ms_until_acknowledged([leader], began))
    results.add("terms that cost", cluster.name, cluster.leader().status()["term"] - term)


# ---- a new node -----------------------------------------------------------------------------


def catch_up(results, directory, args):
    cluster = clusters(directory, args)[0]
    try:
        cluster.start("catchup")
        leader = cluster.leader()
        subprocess.run([os.path.join(args.build, "tests/bench/load"), str(leader.port),
                        str(args.keys), "128"], capture_output=True, check=True)
        _, _, p99 = wrk(leader, leader.put, CATCH_UP_CONNECTIONS, 2 * args.seconds)
        results.add("PUT p99 while a node catches up", "before", p99)
        add_node(results, directory, cluster, leader)
    finally:
        cluster.clean()


def add_node(results, directory, cluster, leader):
    new_id = NODES + 1
    cluster.peer_ports.append(free_port())
    node = MetastoreNode(directory, leader.binary, new_id, cluster.peer_ports)
    node.data = "catchup"
    node.extra = ["--join"]
    cluster.nodes.append(node)
    with leader.request("POST", f"/{new_id}",
                        f"http://127.0.0.1:{cluster.peer_ports[-1]}".encode()) as answer:
        if answer.status != 204:
            sys.exit(f"bench: adding a member was answered with {answer.status}")
    began = time.monotonic()
    node.launch()
    worst = 0
    while True:
        _, _, p99 = wrk(leader, leader.put, CATCH_UP_CONNECTIONS, 1)
        worst = max(worst, p99)
        results.add("PUT p99 while a node catches up", cluster.name, p99)
        if has_caught_up(node, leader):
            break
        if time.monotonic() - began > CATCH_UP_DEADLINE_S:
            sys.exit("bench: the new node does not catch up")
    results.add("a new node catches up", cluster.name, time.monotonic() - began)
    results.add("PUT p99 in the worst second of it", cluster.name, worst)


def has_caught_up(node, leader):
    try:
        target = leader.status()["commit"]
        return node.status()["applied"] + KEYS > target
    except (OSError, subprocess.CalledProcessError):
        return False


def at_most(limit):
    return lambda m, e, y: m <= limit


# As report.rows_of reads them; etcd's column holds its value in the same run.
GOALS = {
    "3 nodes: PUT/s at the leader": ("/s", None, ">= 4 x etcd",
                                     lambda m, e, y: e is None or m >= 4 * e),
    "3 nodes: PUT p99 at the leader": ("us", None, "", None),
    "3 nodes: PUT p50, 1 connection": ("us", None, "<= 0.5 x etcd",
                                       lambda m, e, y: e is None or m <= e / 2),
    "3 nodes: GET/s at the leader": ("/s", None, ">= 6 x etcd",
                                     lambda m, e, y: e is None or m >= 6 * e),
    "3 nodes: PUT/s through a follower": ("/s", None, ">= 3 x etcd",
                                          lambda m, e, y: e is None or m >= 3 * e),
    "kill -9 the leader's node to PUT": ("ms", None, "<= etcd",
                                         lambda m, e, y: e is None or m <= e),
    "kill -9 the leader's raftd to PUT": ("ms", None, "< 300 ms", at_most(300)),
    "kill -9 the leader's storaged to PUT": ("ms", None, "", None),
    "terms that cost": ("", None, "0", at_most(0)),
    "PUT p99 while a node catches up": ("us", "before", "<= 3 x before",
                                        lambda m, e, y: m <= 3 * y),
    "PUT p99 in the worst second of it": ("us", None, "", None),
    "a new node catches up": ("s", None, "", None),
}

PARTS = {"cluster": throughput, "failover": failover, "catchup": catch_up}
