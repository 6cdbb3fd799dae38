"""Requests that are not what they should be: bodies that are no JSON, or other JSON, on every endpoint that reads one; heads that are too long or never end."""

import json
import socket
import threading

import pytest

from conftest import finish, make_engine
from inputs import busybox_root

ENDPOINTS = ["/containers/create", "/containers/one/exec", "/containers/one/update", "/exec/{exec}/start", "/networks/create", "/networks/bridge/connect", "/networks/bridge/disconnect", "/volumes/create", "/auth", "/commit?container=one"]
# Go's decoder and ours name the place differently; that it is the client's mistake is what counts.
NO_JSON = [b"{", b"{]", b'{"a":}', b"\xff\xfe", b"nul", b'{"a":1}{"b":2', b"[" * 100000, b'{"a":' * 50000, b'{"Image":"\xc3\x28"}', b"<xml/>"]
OTHER_JSON = [b"[]", b'"text"', b"17", b"true", b'{"HostConfig":[]}', b'{"HostConfig":"x","Name":{},"Driver":[],"Container":7,"Cmd":{"a":1},"Memory":"x","Detach":"x","username":[]}']


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    running.tare("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    yield running
    finish(running)


def exec_id(engine):
    return engine.api("POST", "/containers/one/exec", {"Cmd": ["true"]}).json["Id"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_bodies_that_are_no_json(engine, path):
    before = len(engine.api("GET", "/containers/json?all=1").json), len(engine.api("GET", "/images/json?all=1").json)
    for body in NO_JSON:
        answer = engine.api("POST", path.format(exec=exec_id(engine)), body, {"Content-Type": "application/json"})
        assert answer.status in (400, 413) or (answer.status == 501 and path.startswith("/networks")), (path, body[:20], answer.status, answer.body[:200])
        assert answer.message
    for body in OTHER_JSON[:4] if path == "/auth" else OTHER_JSON:  # an object would make it ask a registry
        answer = engine.api("POST", path.format(exec=exec_id(engine)), body, {"Content-Type": "application/json"})
        assert answer.status < 500 or (answer.status == 501 and path.startswith("/networks")), (path, body[:40], answer.status, answer.body[:200])
        if answer.status == 201 and path.startswith("/volumes"):
            engine.api("DELETE", f"/volumes/{answer.json['Name']}")
        if answer.status == 201 and path.startswith("/commit"):
            engine.api("DELETE", f"/images/{answer.json['Id']}")
    assert (len(engine.api("GET", "/containers/json?all=1").json), len(engine.api("GET", "/images/json?all=1").json)) == before
    assert engine.process.poll() is None


def test_a_body_needs_its_type(engine):
    for kind, status in [("text/plain", 400), ("application/x-www-form-urlencoded", 400), ("application/json; charset=utf-8", 404), ("APPLICATION/JSON", 404)]:
        answer = engine.api("POST", "/containers/create", json.dumps({"Image": "absent", "Cmd": ["true"]}), {"Content-Type": kind})
        assert answer.status == status, (kind, answer.body)


@pytest.mark.parametrize("head", [
    b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (2 << 20) + b"\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20000)) + b"\r\n",
    b"GET /" + b"a" * (2 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /_ping\r\n" * 3, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 512, b"\x00" * 4096, b"GET /_ping HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
], ids=["long field", "many fields", "long target", "no version", "tls", "zeros", "version", "negative length", "huge length", "no chunk", "huge chunk"])  # fmt: skip
def test_heads_that_are_refused(engine, head):
    try:
        answer = engine.raw(head, timeout=20)
    except (BrokenPipeError, ConnectionResetError):  # it has heard enough
        answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505", b"HTTP/1.0 4")), answer[:200]
    assert engine.api("GET", "/_ping").status == 200


def test_two_hundred_slow_heads_keep_nobody_waiting(engine):
    slow = []
    for i in range(200):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(engine.socket)
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * (i % 7))
        slow.append(connection)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(engine.api("GET", "/containers/json").status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for connection in slow:
        connection.sendall(b"b")  # each byte a long time after the last
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 20
    for connection in slow[::2]:
        connection.sendall(b"\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
    for connection in slow:
        connection.close()
    assert engine.api("GET", "/_ping").status == 200
