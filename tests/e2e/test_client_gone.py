"""Clients that go away, stay silent, speak slowly or never listen: what they began ends within a bounded time, what others run goes on, and nothing piles up."""

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import tarfile
import time

import pytest

from conftest import program_directory
from inputs import busybox_root

TIMES = 20
SPARE = 3  # idle threads and spare shims that pools keep, with two descriptors each; less than any leak in TIMES requests
CLIENTS = ["docker", "tare"]


@pytest.fixture(scope="module")
def bb(engine):
    engine.tare("import", str(busybox_root()), "bb")
    return "bb"


def until(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)


class Holdings:
    """What the engine holds: threads, file descriptors, child processes, containers, files of layers and containers, temporary files."""

    def __init__(self, engine):
        self.engine = engine
        self.settle_first()
        self.before = self.now()

    def settle_first(self):
        """Pools fill in the background after their first use."""
        last, since = None, time.monotonic()
        while time.monotonic() < since + 0.5:
            now = self.now()
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.05)

    def now(self):
        pid = self.engine.process.pid
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            threads = int(re.search(r"Threads:\s*(\d+)", file.read()).group(1))
        fds = {}
        for number in os.listdir(f"/proc/{pid}/fd"):
            try:
                fds[number] = os.readlink(f"/proc/{pid}/fd/{number}")
            except OSError:
                pass
        children = subprocess.run(["pgrep", "-P", str(pid), "-a"], capture_output=True, text=True, check=False).stdout.count("\n")
        files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.engine.data_root) for name in names if not name.startswith("tare.db"))
        containers = sorted((one["Id"], one["State"]) for one in self.engine.api("GET", "/containers/json?all=1").json)
        return {"threads": threads, "fds": fds, "children": children, "files": files, "containers": containers}

    def more(self):
        """What there is now and was not before: counts that grew, names that differ."""
        now = self.now()
        found = {key: (self.before[key], now[key]) for key in ("threads", "children") if now[key] > self.before[key] + SPARE}
        if len(now["fds"]) > len(self.before["fds"]) + 2 * SPARE:
            found["fds"] = (self.before["fds"], now["fds"])
        found.update({key: set(now[key]) ^ set(self.before[key]) for key in ("files", "containers") if now[key] != self.before[key]})
        return found

    def check(self):
        until(lambda: not self.more(), lambda: f"left behind: {self.more()}")
        assert self.engine.docker("run", "--rm", "bb", "echo", "next").stdout == "next\n"


@pytest.fixture
def holdings(engine, bb):
    return Holdings(engine)


def connect(engine, data, timeout=10):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    connection.connect(engine.socket)
    connection.sendall(data)
    return connection


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def receive(connection, marker):
    received = b""
    while marker not in received:
        piece = connection.recv(4096)
        assert piece, f"ended without {marker}: {received}"
        received += piece
    return received


def context(dockerfile):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        tar.addfile(info, io.BytesIO(dockerfile.encode()))
    return out.getvalue()


def start(engine, *command, **config):
    body = {"Image": "bb", "Cmd": list(command), **config}
    identifier = engine.api("POST", "/containers/create", body).json["Id"]
    assert engine.api("POST", f"/containers/{identifier}/start").status == 204
    return identifier


def remove(engine, identifier):
    assert engine.api("DELETE", f"/containers/{identifier}?force=1").status == 204


def is_running(engine, identifier):
    answer = engine.api("GET", f"/containers/{identifier}/json")
    return answer.status == 200 and answer.json["State"]["Running"]


# ---- uploads ----


@pytest.mark.parametrize("path", ["/build", "/images/create?fromSrc=-&repo=half", "/images/load"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_upload_that_stops_in_the_middle(engine, holdings, path, framing):
    data = busybox_root().read_bytes()
    images = engine.docker("image", "ls", "-aq").stdout
    for number in range(TIMES):
        part = data[: 1 + number * len(data) // (TIMES + 1)]
        if framing == "length":
            request = head("POST", path, f"Content-Length: {len(data)}") + part
        else:
            request = head("POST", path, "Transfer-Encoding: chunked") + b"%x\r\n" % (len(part) + 1) + part
        connect(engine, request).close()
    holdings.check()
    assert engine.docker("image", "ls", "-aq").stdout == images


def test_upload_that_is_half_closed(engine, holdings):
    """Who stops sending may still read: he is told."""
    data = busybox_root().read_bytes()
    connection = connect(engine, head("POST", "/images/create?fromSrc=-&repo=half", f"Content-Length: {len(data)}") + data[:100000])
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while piece := connection.recv(4096):
        received += piece
    connection.close()
    assert b"200 OK" not in received
    holdings.check()


def test_commit_and_copy_that_are_left(engine, holdings, bb):
    """The image of a commit is whole or absent, and what was copied in half leaves nothing in the store."""
    container = start(engine, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; sleep 1000", HostConfig={"NetworkMode": "none"})
    while engine.tare("exec", container, "sh", "-c", "test $(stat -c %s /big) = 8388608", check=False).returncode:
        assert is_running(engine, container)
    for number in range(TIMES):
        connection = connect(engine, head("POST", f"/commit?container={container}&repo=left&tag={number}", "Content-Length: 0"))
        if number % 2:
            connection.settimeout(0.01 * number)
            with contextlib.suppress(TimeoutError):
                connection.recv(1)
        connection.close()
        data = busybox_root().read_bytes()
        connect(engine, head("PUT", f"/containers/{container}/archive?path=/tmp", f"Content-Length: {len(data)}") + data[: number * len(data) // TIMES]).close()
    assert is_running(engine, container)
    remove(engine, container)
    for tag in engine.docker("image", "ls", "left", "--format", "{{.Tag}}").stdout.split():
        assert engine.docker("run", "--rm", "--network", "none", f"left:{tag}", "stat", "-c", "%s", "/big").stdout == "8388608\n"
        engine.docker("image", "rm", f"left:{tag}")
    holdings.check()


# ---- builds ----


def test_build_in_its_run_step(engine, holdings):
    for number in range(TIMES // 2):
        body = context(f"FROM bb\nRUN echo begun {number}; sleep 300\n")
        connection = connect(engine, head("POST", "/build?nocache=1&rm=1&forcerm=1", f"Content-Length: {len(body)}") + body)
        receive(connection, b"begun %d\\n" % number)
        connection.close()
    holdings.check()


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_build_client_is_killed(engine, holdings, tmp_path, name, sent):
    (tmp_path / "Dockerfile").write_text("FROM bb\nRUN echo begun; sleep 300\n", encoding="utf-8")
    client = popen(engine, name, "build", "--no-cache", "--force-rm", str(tmp_path))
    while client.stdout.readline() != b"begun\n":
        assert client.poll() is None
    client.send_signal(sent)
    client.wait(timeout=10)
    client.stdout.close()
    assert client.returncode != 0 or name == "docker"  # 28.2 was seen to end with 0 after an interrupt
    holdings.check()


# ---- downloads ----


@pytest.mark.parametrize("path", ["/images/bb/get", "/containers/ID/export", "/containers/ID/archive?path=/"])
def test_download_that_nobody_finishes(engine, bb, path):
    identifier = engine.api("POST", "/containers/create", {"Image": "bb", "Cmd": ["true"]}).json["Id"]
    holdings = Holdings(engine)
    for _ in range(TIMES):
        connection = connect(engine, head("GET", path.replace("ID", identifier)))
        receive(connection, b"200 OK")
        connection.close()
    holdings.check()
    remove(engine, identifier)


def test_clients_that_never_read(engine, holdings):
    waiting = [connect(engine, head("GET", "/images/bb/get")) for _ in range(TIMES)]
    begun = time.monotonic()
    assert engine.docker("run", "--rm", "bb", "echo", "hi").stdout == "hi\n"
    assert time.monotonic() - begun < 5
    for connection in waiting:
        connection.close()
    holdings.check()


# ---- streams of a running container ----

STREAMS = {
    "logs": ("GET", "/containers/ID/logs?follow=1&stdout=1"), "wait": ("POST", "/containers/ID/wait"), "stats": ("GET", "/containers/ID/stats"),
    "attach": ("POST", "/containers/ID/attach?stream=1&stdout=1&stdin=1"), "events": ("GET", "/events"), "top": ("GET", "/containers/ID/top"),
}


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
@pytest.mark.parametrize("stream", STREAMS)
def test_stream_that_is_left(engine, bb, stream, end):
    method, path = STREAMS[stream]
    identifier = start(engine, "sh", "-c", "echo first; exec sleep 1000", OpenStdin=True)
    until(lambda: b"first" in engine.api("GET", f"/containers/{identifier}/logs?stdout=1").body, "no output")
    holdings = Holdings(engine)
    lines = ["Connection: Upgrade", "Upgrade: tcp"] if stream == "attach" else []
    open_still = []
    for number in range(TIMES):
        connection = connect(engine, head(method, path.replace("ID", identifier), *lines))
        if number % 2:
            receive(connection, b"HTTP/1.1")
        if end == "half-close":
            connection.shutdown(socket.SHUT_WR)
            open_still.append(connection)
            continue
        elif end == "reset":
            connection.sendall(b"x" * 1000)  # unread bytes make the close a reset
        connection.close()
    for connection in open_still:
        connection.close()
    holdings.check()
    assert is_running(engine, identifier)
    remove(engine, identifier)


def test_exec_that_is_left(engine, bb):
    """Its process finds the end of its input; one that does not read goes on, as in docker, and ends with the container."""
    identifier = start(engine, "sleep", "1000")
    holdings = Holdings(engine)
    for number in range(TIMES):
        made = engine.api("POST", f"/containers/{identifier}/exec", {"Cmd": ["sleep", "1001"] if number % 2 else ["cat"], "AttachStdin": True, "AttachStdout": True}).json["Id"]
        body = b"{}"
        connection = connect(engine, head("POST", f"/exec/{made}/start", "Content-Type: application/json", "Connection: Upgrade", "Upgrade: tcp", f"Content-Length: {len(body)}") + body)
        receive(connection, b"101 UPGRADED")
        connection.close()
    until(lambda: not holdings.more(), lambda: f"left behind: {holdings.more()}")
    assert is_running(engine, identifier)
    running = lambda: engine.api("GET", f"/containers/{identifier}/top?ps_args=-o%20pid,args").json["Processes"]
    until(lambda: len(running()) == 1 + TIMES // 2, running)
    remove(engine, identifier)


# ---- clients on the command line ----


def popen(engine, name, *arguments, **options):
    program = os.path.join(program_directory(), "tare") if name == "tare" else name
    environment = {**os.environ, "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "DOCKER_BUILDKIT": "0", "HOME": engine.directory}
    return subprocess.Popen([program, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **{"stdin": subprocess.DEVNULL, **options})


@pytest.mark.parametrize("name", CLIENTS)
def test_run_goes_on_without_its_client(engine, holdings, name):
    client = popen(engine, name, "run", "--rm", "--name", "alone", "bb", "sh", "-c", "echo begun; sleep 1000")
    assert client.stdout.readline() == b"begun\n"
    client.kill()
    client.wait()
    client.stdout.close()
    time.sleep(0.3)
    assert is_running(engine, "alone")
    engine.docker("kill", "alone")
    holdings.check()


@pytest.mark.parametrize("name", CLIENTS)
def test_interactive_run_ends_with_its_input(engine, holdings, name):
    """docker closes the standard input of -i when its client goes: a shell ends, and with --rm its container."""
    client = popen(engine, name, "run", "--rm", "-i", "--name", "shell", "bb", "sh", stdin=subprocess.PIPE)
    client.stdin.write(b"echo begun\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"begun\n"
    client.kill()
    client.wait()
    client.stdin.close()
    client.stdout.close()
    until(lambda: engine.api("GET", "/containers/shell/json").status == 404, "the container is still there")
    holdings.check()


@pytest.mark.parametrize("name", CLIENTS)
def test_attached_client_is_killed(engine, holdings, name):
    engine.docker("run", "-d", "--name", "server", "bb", "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    for _ in range(3):
        client = popen(engine, name, "attach", "--sig-proxy=false", "server")
        assert client.stdout.readline() == b"tick\n"
        client.kill()
        client.wait()
        client.stdout.close()
    assert is_running(engine, "server")
    engine.docker("rm", "-f", "server")
    holdings.check()


# ---- protocol ----


def test_two_hundred_requests_are_left(engine, bb):
    """At every byte of a request, and right behind it."""
    request = head("POST", "/containers/create?name=never", "Content-Type: application/json", "Content-Length: 100") + b'{"Image":"bb"'
    holdings = Holdings(engine)
    for number in range(200):
        connect(engine, request[: number % len(request)]).close()
    holdings.check()
    assert engine.api("GET", "/containers/never/json").status == 404


def test_slow_headers_keep_nobody_waiting(engine, holdings):
    slow = [connect(engine, b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(200)]
    for connection in slow:
        connection.sendall(b"a")
    begun = time.monotonic()
    assert engine.api("GET", "/_ping").status == 200
    assert time.monotonic() - begun < 2
    slow[0].sendall(b"\r\n\r\n")
    receive(slow[0], b"\r\n\r\nOK")
    for connection in slow:
        connection.close()
    holdings.check()


def test_half_closed_connection_is_answered(engine, holdings):
    for _ in range(TIMES):
        connection = connect(engine, head("GET", "/version"))
        connection.shutdown(socket.SHUT_WR)
        assert b"ApiVersion" in receive(connection, b"ApiVersion")
        connection.close()
    holdings.check()


def test_pipelined_requests_are_answered_in_order(engine, holdings):
    body = b'{"Image":"bb","Cmd":["true"]}'
    create = head("POST", "/containers/create?name=piped", "Content-Type: application/json", f"Content-Length: {len(body)}") + body
    text = engine.raw(head("GET", "/_ping") + create + head("GET", "/containers/piped/json") + head("DELETE", "/containers/piped") + head("GET", "/containers/piped/json", "Connection: close"))
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", text)] == [200, 201, 200, 204, 404]
    holdings.check()
