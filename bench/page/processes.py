"""The processes of a fleet, each with what it takes of the machine: Redis, PostgreSQL, a registry, gateways and nodes."""

import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from server import BASE, Server
from sitting import Failed, run

TICKS = os.sysconf("SC_CLK_TCK")
READY_S = 60


class Process:
    """A process with a log. It is killed at the end."""

    def __init__(self, name, command, home, settings=None, says=None):
        self.name, self.command, self.log = name, [str(word) for word in command], Path(home) / f"{name}.log"
        self.settings, self.says = settings or {}, says
        self.start()

    def start(self):
        """Starts it, again too, and waits for the line that it is to say; `began` is when."""
        self.began = time.monotonic()
        with open(self.log, "w") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out, env=os.environ | self.settings)
        if self.says:
            self.said = self.until_it_says(self.says)

    def until_it_says(self, pattern):
        """The first match in its log."""
        while not (found := re.search(pattern, self.log.read_text(), re.M)):
            if self.process.poll() is not None or time.monotonic() - self.began > READY_S:
                raise Failed(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.005)
        return found

    def kill(self):
        """Ends it without a warning."""
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self):
        """Processor time that it and its children have taken so far."""
        ids = [self.process.pid, *(int(child) for child in children(self.process.pid))]
        return sum(cpu_seconds(one) for one in ids)

    def resident_kib(self):
        """KiB of main memory that it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.M)[1])


class Fleet(Server):
    """Redis, PostgreSQL, a registry and a gateway, each a process. Loads go to the gateway, `call` and `publish` to the registry."""

    def __init__(self, souk, settings=None):
        self.souk, self.home, self.parts = souk, tempfile.TemporaryDirectory(), []
        self.folder = Path(self.home.name)
        try:
            self.begin(settings or {})
        except BaseException:
            self.__exit__()
            raise

    def begin(self, settings):
        self.base = self.folder / "base.json"
        run([self.souk, "models", "describe", BASE, "--file", self.base])
        self.redis = self.part("redis", ["redis-server", "--bind", "127.0.0.1", "--port", port := free_port(), "--save", "",
                                         "--appendonly", "no"], says="Ready to accept connections")
        self.redis_url = f"redis://127.0.0.1:{port}"
        self.postgres, url = postgres(self)
        self.registry = self.part(
            "registry", [self.souk, "registry", "--listen", "127.0.0.1:0", "--base", self.base, "--data-dir", self.folder / "data",
                         "--admin-key-file", self.folder / "key"],
            {"SOUK_REGISTRY__DATABASE__URL": url, "SOUK_REGISTRY__DATABASE__SSLMODE": "disable"} | settings, LISTENING)
        self.registry_url, self.key = self.registry.said[1], (self.folder / "key").read_text().strip()
        self.url = self.registry_url
        address = f"127.0.0.1:{free_port()}"
        self.gateway = self.part(
            "gateway", [self.souk, "gateway", "--listen", address, "--base", self.base, "--data-dir", self.folder / "gateway"],
            {"SOUK_GATEWAY__REGISTRIES": self.registry_url, "SOUK_GATEWAY__REGISTRY_KEY": self.service("gateway"),
             "SOUK_GATEWAY__NODES": "apart", "SOUK_GATEWAY__ADVERTISE": f"http://{address}",
             "SOUK_REDIS__URL": self.redis_url} | settings, LISTENING)
        self.gateway_url = f"http://{address}"

    def part(self, name, command, settings=None, says=None):
        """Starts a process that ends with the fleet."""
        self.parts.append(Process(name, command, self.folder, {"SOUK_LOG__FILTER": "warn"} | (settings or {}), says))
        return self.parts[-1]

    def __exit__(self, *_):
        for part in reversed(self.parts):
            part.kill()
        if (self.folder / "postgres").is_symlink():
            shutil.rmtree((self.folder / "postgres").resolve(), ignore_errors=True)
        self.home.cleanup()

    def service(self, kind):
        """The secret of a new service's key."""
        name = f"{kind}-{secrets.token_hex(4)}"
        return run([self.souk, "services", "create", name, "--kind", kind],
                   env=os.environ | {"SOUK_URL": self.registry_url, "SOUK_API_KEY": self.key}).strip()

    def node(self, number, threads, settings=None, says="^listening on"):
        """Starts a node."""
        return self.part(
            f"node-{number}", [self.souk, "node", "--listen", "127.0.0.1:0", "--id", f"node-{number}", "--model", BASE,
                               "--threads", threads, "--data-dir", self.folder / f"node-{number}"],
            {"SOUK_NODE__REGISTRIES": self.registry_url, "SOUK_NODE__REGISTRY_KEY": self.service("node"),
             "SOUK_REDIS__URL": self.redis_url, "SOUK_LOG__FILTER": "info"} | (settings or {}), says)

    def scripted_node(self, program, step_ms):
        """Starts a node that runs no model."""
        digest = re.search(r'"digest":\s*"([^"]+)"', self.base.read_text())[1]
        return self.part("scripted node", [program, "node", "--id", "scripted", "--base", digest, "--redis", self.redis_url, "--registry",
                                           self.registry_url, "--key", self.service("node"), "--step-ms", step_ms], says="takes jobs")

    def until_nodes(self, number):
        """Waits until the gateway counts so many."""
        self.until("souk_gateway_nodes", lambda nodes: nodes == number)

    def until(self, figure, is_so):
        """Waits until a figure of the gateway is as wanted."""
        deadline = time.monotonic() + READY_S
        while not is_so(figure_of(self.metrics(), figure)):
            if time.monotonic() > deadline:
                raise Failed(f"{figure} stays {figure_of(self.metrics(), figure)}:\n{self.gateway.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def until_answered(self, key):
        """Waits until a tenant with limits is let in: a Redis that is new to the gateways has them tell it first what they hold."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with self.stream("word", 1, key) as answer:
                    return answer.wait_for_text()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def metrics(self):
        """What the gateway tells operators."""
        with urllib.request.urlopen(f"{self.gateway_url}/metrics") as response:
            return response.read().decode()

    def load(self, name, *flags):
        url, self.url = self.url, self.gateway_url
        try:
            return super().load(name, *flags)
        finally:
            self.url = url

    def stream(self, prompt, max_tokens, key, model=BASE):
        url, self.url = self.url, self.gateway_url
        try:
            return super().stream(prompt, max_tokens, key, model)
        finally:
            self.url = url


class Pings(threading.Thread):
    """Round trips to a Redis, each a PING and nothing else, while something else goes on: what any call to it takes at that time."""

    def __init__(self, redis_url):
        super().__init__(daemon=True)
        address, _, port = redis_url.removeprefix("redis://").rpartition(":")
        self.connection, self.ended, self.times_ms = socket.create_connection((address, int(port))), threading.Event(), []
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self):
        # No multiple of a node's step, so that they come at all places between two of them.
        while not self.ended.wait(0.013):
            began = time.perf_counter()
            self.connection.sendall(b"PING\r\n")
            self.connection.recv(64)
            self.times_ms.append((time.perf_counter() - began) * 1e3)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()
        self.connection.close()

    def quantiles(self):
        """Their median and 99th percentile, in milliseconds."""
        cuts = statistics.quantiles(self.times_ms, n=100)
        return cuts[49], cuts[98]


LISTENING = r"^listening on (\S+)"


def postgres(fleet):
    """A PostgreSQL that syncs as it does by default, and where its database is."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise Failed("PostgreSQL is not installed; run: make setup")
    folder = Path(tempfile.mkdtemp(prefix="souk-bench-postgres-", dir="/var/tmp"))
    (fleet.folder / "postgres").symlink_to(folder)
    # It does not run as root.
    as_nobody = []
    if os.geteuid() == 0:
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(folder, "nobody", "nogroup")
    run([*as_nobody, programs[-1] / "initdb", "-D", folder, "-U", "souk", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"])
    port = free_port()
    process = fleet.part("postgres", [*as_nobody, programs[-1] / "postgres", "-D", folder, "-c", "listen_addresses=127.0.0.1", "-c",
                                      f"port={port}", "-c", "unix_socket_directories="], says="ready to accept connections")
    run([programs[-1] / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "souk", "souk"])
    return process, f"postgres://souk:none@127.0.0.1:{port}/souk"


def free_port():
    """A port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def children(pid):
    """The processes that a process has begun."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += task.read_text().split()
    return found


def cpu_seconds(pid):
    """Processor time that a process has taken so far; its children's that have ended are in it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def figure_of(metrics, name):
    """The sum of a figure over its labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.M))


def stage_quantiles(before, after, stage):
    """Median and 99th percentile in milliseconds of what came into a histogram's buckets, straight between their bounds."""
    def counts(metrics):
        found = re.findall(rf'^souk_gateway_stage_seconds_bucket{{[^}}]*stage="{stage}"[^}}]*le="([^"]+)"[^}}]*}} (\d+)', metrics, re.M)
        return {float(bound): int(count) for bound, count in found}
    was = counts(before)
    came = [(bound, count - was.get(bound, 0)) for bound, count in sorted(counts(after).items())]
    total = came[-1][1] if came else 0
    def at(share):
        low, below = 0.0, 0
        for bound, count in came:
            if count >= share * total:
                return (low + (bound - low) * (share * total - below) / max(count - below, 1)) * 1e3
            low, below = bound, count
        return float("inf")
    return (at(0.5), at(0.99)) if total else (0.0, 0.0)
