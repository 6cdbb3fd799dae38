"""Engines for the end-to-end tests: each with roots and a socket of its own, ended by pid, and looked after: what it leaves behind fails the test."""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from inputs import busybox_root
from local_registry import Registry
from registries import Authority

# A shell's background job ignores SIGINT, and so would every client that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# What a newer client than Debian 12's 20.10 says, or has: looked at where one is installed, and counted as left out where not.
newer_client = pytest.mark.newer_client


def docker_version(program):
    """(28, 2) of a docker client, (0, 0) of what is not there."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0, 0
    return tuple(int(part) for part in re.search(r"version (\d+)\.(\d+)", told).groups())


NEWER_DOCKER = next((program for program in ("/usr/local/bin/docker", "/usr/bin/docker") if docker_version(program) >= (28, 0)), None)


def pytest_configure(config):
    config.addinivalue_line("markers", "newer_client: compares with a docker client of 28 or newer")


def pytest_collection_modifyitems(config, items):
    left_out = [] if NEWER_DOCKER else [item for item in items if item.get_closest_marker("newer_client") or "named_docker" in item.fixturenames]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
        config.left_out = len(left_out)


def pytest_terminal_summary(terminalreporter):
    if getattr(terminalreporter.config, "left_out", 0):
        terminalreporter.write_line(f"{terminalreporter.config.left_out} comparisons with a docker client of 28 or newer were left out: none is installed, and Debian's own is older")


def program_directory():
    """$TARE_BIN, or where `make` puts the programs."""
    return os.environ.get("TARE_BIN") or os.path.join(TOP, "build", "bin")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json["message"]

    @property
    def messages(self):
        """The objects of a stream of JSON messages."""
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


class Engine:
    """A running tared."""

    def __init__(self, directory, *flags):
        self.directory = directory
        self.data_root = os.path.join(directory, "data")
        self.run_root = os.path.join(directory, "run")
        self.socket = os.path.join(directory, "run", "tare.sock")
        self.log_path = os.path.join(directory, "log")
        self.flags = list(flags)
        self.prefix = []  # a command that runs the engine
        self.process = None

    @property
    def host(self):
        return "unix://" + self.socket

    @property
    def mark(self):
        """What the names of bridge, nftables table and cgroups carry."""
        return hashlib.sha256(os.path.realpath(self.data_root).encode()).hexdigest()[:8]

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def configuration(self):
        """Docker Hub is nowhere: no test asks the world for an image."""
        if any(flag.startswith("--registry-") for flag in self.flags):
            return {}
        hub = os.path.join(self.directory, "registries", "docker.io")
        os.makedirs(hub, exist_ok=True)
        with open(os.path.join(hub, "hosts.toml"), "w", encoding="utf-8") as file:
            file.write('server = "http://127.0.0.1:1"\n')
        return {"registry-config-path": [os.path.dirname(hub)]}

    def start(self, expect_ready=True):
        config = os.path.join(self.directory, "daemon.json")
        if not os.path.exists(config):
            with open(config, "w", encoding="utf-8") as file:
                json.dump(self.configuration(), file)
        log = open(self.log_path, "ab")
        arguments = [os.path.join(program_directory(), "tared"), "--data-root", self.data_root, "--run-root", self.run_root, "--config-file", config, "-D"]
        self.process = subprocess.Popen(self.prefix + arguments + self.flags, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        if expect_ready:
            deadline = time.monotonic() + 30
            while not self.answers():
                assert self.process.poll() is None, f"tared ended with {self.process.returncode}:\n{self.log}"
                assert time.monotonic() < deadline, f"tared does not answer:\n{self.log}"
                time.sleep(0.01)
        return self

    def answers(self):
        try:
            return self.api("GET", "/_ping").status == 200
        except OSError:
            return False

    def stop(self):
        """SIGTERM, and its end. Containers run on."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        self.process.kill()
        return self.wait()

    def wait(self):
        status = self.process.wait(timeout=30)
        self.process = None
        return status

    def restart(self, hard=False):
        self.kill() if hard else self.stop()
        return self.start()

    # ---- clients ----

    def api(self, method, path, body=None, headers=None, timeout=60):
        connection = UnixConnection(self.socket, timeout)
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def raw(self, data, timeout=10):
        """Sends bytes on a connection of its own, and returns all that comes until its end or the timeout."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(self.socket)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while True:
            piece = connection.recv(65536)
            if not piece:
                connection.close()
                return received
            received += piece

    def client(self, program, *arguments, check=True, input=None, timeout=120, env=None):
        """Runs a command line client against this engine; text out, status in .returncode."""
        environment = {**os.environ, "DOCKER_HOST": self.host, "TARE_HOST": self.host, "DOCKER_BUILDKIT": "0", "HOME": self.directory, "DOCKER_CLI_HINTS": "false"}
        environment.pop("DOCKER_CONTEXT", None)
        environment.update(env or {})
        is_bytes = isinstance(input, bytes)
        result = subprocess.run([program, *arguments], input=input, capture_output=True, text=not is_bytes, timeout=timeout, env=environment, check=False)
        if check:
            assert result.returncode == 0, f"{program} {' '.join(arguments)}: {result.returncode}\n{result.stdout}\n{result.stderr}\n{self.log[-4000:]}"
        return result

    def docker(self, *arguments, **options):
        return self.client("docker", *arguments, **options)

    def tare(self, *arguments, **options):
        return self.client(os.path.join(program_directory(), "tare"), *arguments, **options)

    # ---- the end ----

    def clear(self):
        """Removes all containers, as a user does before he goes."""
        listed = self.api("GET", "/containers/json?all=1")
        if listed.status != 200:
            return
        for container in listed.json:
            answer = self.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            assert answer.status in (204, 404, 409), answer.body

    def remains(self):
        """What is left on the machine of a stopped engine without containers."""
        found, mark = [], self.mark
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            found += ["mount " + line.split()[4] for line in mounts if self.directory in line]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
                with open(f"/proc/{pid}/mountinfo", "rb") as file:
                    mounts = file.read()
            except OSError:
                continue
            if int(pid) != os.getpid() and (self.directory.encode() in line or self.directory.encode() in mounts):
                found.append(f"process {pid} {line.replace(bytes(1), b' ').decode(errors='replace')}")
        for root, directories, _ in os.walk("/sys/fs/cgroup"):
            found += ["cgroup " + os.path.join(root, name) for name in directories if mark in name]
            directories[:] = [name for name in directories if root.count("/") < 7]
        found += ["link " + name for name in os.listdir("/sys/class/net") if mark in name]
        if shutil.which("nft"):
            tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
            found += ["nftables " + line for line in tables.splitlines() if mark in line]
        return found


def make_engine(*flags):
    directory = tempfile.mkdtemp(prefix="tare-e2e-")
    os.chmod(directory, 0o755)
    return Engine(directory, *flags)


def finish(engine):
    if engine.process is None:
        engine.start()
    engine.clear()
    engine.stop()
    deadline = time.monotonic() + 5  # shims unmount after they have reported
    while (remains := engine.remains()) and time.monotonic() < deadline:
        time.sleep(0.05)
    log = engine.log
    if not remains:
        shutil.rmtree(engine.directory)
    assert not remains, "\n".join(remains) + "\n" + log[-4000:]
    assert "runtime error:" not in log and "AddressSanitizer" not in log, log[-8000:]


@pytest.fixture(scope="module")
def engine():
    """One engine for the module's tests."""
    running = make_engine().start()
    yield running
    finish(running)


@pytest.fixture(scope="module")
def bb(engine):
    """bb:1, a busybox, in the module's engine; its name."""
    engine.tare("import", str(busybox_root()), "bb:1")
    return "bb:1"


@pytest.fixture(params=["tare", "docker"])
def client(request, engine):
    """A function that runs a command of one client after the other; what it leaves running is removed."""
    yield getattr(engine, request.param)
    engine.clear()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Debian's registry on loopback, for the module's tests."""
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def authority():
    """A private CA, for the module's tests."""
    made = Authority()
    yield made
    made.close()


@pytest.fixture
def new_engine():
    """Makes engines with flags of the test's own."""
    made = []

    def make(*flags):
        made.append(make_engine(*flags))
        return made[-1]

    yield make
    for one in made:
        if os.path.exists(one.log_path):
            finish(one)
        else:
            shutil.rmtree(one.directory)
