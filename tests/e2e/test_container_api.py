"""Containers through the API as clients of all ages use it: hijacked streams, waits, statuses, events; with python3-docker and with bytes."""

import json
import os
import socket
import struct
import subprocess
import threading
import time

import docker
import pytest

from test_api import certificates, free_port
from test_build import small_root


@pytest.fixture(scope="module")
def image(engine):
    answer = engine.api("POST", "/images/create?fromSrc=-&repo=small&tag=1", body=small_root())
    assert answer.status == 200, answer.body
    return "small:1"


@pytest.fixture(scope="module")
def sdk(engine):
    client = docker.DockerClient(base_url=engine.host, version="1.41", timeout=30)
    yield client
    client.close()


def create(engine, image, *command, version="1.41", name=None, **config):
    body = {"Image": image, "Cmd": list(command), **config}
    answer = engine.api("POST", f"/v{version}/containers/create" + (f"?name={name}" if name else ""), body=body)
    assert answer.status == 201, answer.body
    return answer.json["Id"]


def hijack(engine, path, body=b"", upgrade=True, extra=b""):
    """The connection, the head of the answer, and what came after it already."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(15)
    connection.connect(engine.socket)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if upgrade:
        head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    connection.sendall(head.encode() + b"\r\n" + body + extra)
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(1)
        assert piece, received
        received += piece
    return connection, received.decode()


def read_all(connection):
    received = b""
    while piece := connection.recv(65536):
        received += piece
    connection.close()
    return received


def frames(data):
    """(stream, bytes) of the 8-byte-header format."""
    found = []
    while data:
        stream, length = struct.unpack(">BxxxI", data[:8])
        found.append((stream, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


def joined(data, stream):
    return b"".join(text for number, text in frames(data) if number == stream)


def test_sdk_runs_and_collects(sdk, image):
    assert sdk.containers.run(image, ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as failure:
        sdk.containers.run(image, ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    assert failure.value.exit_status == 3
    assert failure.value.stderr == b"no\n"


def test_no_output_is_lost_by_short_containers(engine, image):
    for _ in range(20):
        result = engine.docker("run", "--rm", "--network", "none", image, "echo", "hello")
        assert result.stdout == "hello\n"


@pytest.mark.parametrize("version, content_type", [("1.41", "application/vnd.docker.raw-stream"), ("1.42", "application/vnd.docker.multiplexed-stream")])
def test_attach_upgrades(engine, image, version, content_type):
    container = create(engine, image, "sh", "-c", "cat; echo done >&2", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    connection, head = hijack(engine, f"/v{version}/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert head.startswith("HTTP/1.1 101 UPGRADED\r\n")
    assert f"Content-Type: {content_type}\r\n" in head
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    connection.sendall(b"some input")
    connection.shutdown(socket.SHUT_WR)
    output = read_all(connection)
    assert joined(output, 1) == b"some input"
    assert joined(output, 2) == b"done\n"
    assert engine.api("DELETE", f"/containers/{container}?force=1").status == 204


def test_attach_of_old_clients_is_a_raw_200_and_takes_bytes_sent_ahead(engine, image):
    container = create(engine, image, "cat", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    connection, head = hijack(engine, f"/containers/{container}/attach?stream=1&stdin=1&stdout=1", upgrade=False, extra=b"ahead")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: application/vnd.docker.raw-stream\r\n" in head
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    connection.shutdown(socket.SHUT_WR)
    assert joined(read_all(connection), 1) == b"ahead"
    assert engine.api("DELETE", f"/containers/{container}?force=1").status == 204


def test_attach_to_nothing_has_a_status(engine):
    answer = engine.api("POST", "/containers/nosuch/attach?stream=1&stdout=1")
    assert (answer.status, answer.message) == (404, "No such container: nosuch")


def test_wait_answers_before_the_end(engine, image):
    container = create(engine, image, "sh", "-c", "exit 5")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(engine.socket)
    connection.sendall(f"POST /v1.41/containers/{container}/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head = connection.recv(4096)
    assert b"HTTP/1.1 200 OK" in head
    assert b"StatusCode" not in head
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    assert b'"StatusCode":5}' in read_all(connection)
    assert engine.api("DELETE", f"/containers/{container}").status == 204


def test_statuses_of_a_life(engine, image):
    container = create(engine, image, "sleep", "100", name="life")
    path = f"/containers/{container}"
    assert engine.api("POST", path + "/start").status == 204
    assert engine.api("POST", path + "/start").status == 304
    conflict = engine.api("POST", "/containers/create?name=life", body={"Image": image, "Cmd": ["true"]})
    assert conflict.status == 409
    assert conflict.message.startswith(f'Conflict. The container name "/life" is already in use by container "{container}".')
    running = engine.api("DELETE", path)
    assert running.status == 409
    assert engine.api("POST", path + "/stop?t=0").status == 204
    assert engine.api("POST", path + "/stop?t=0").status == 304
    assert engine.api("POST", path + "/kill").status == 409
    assert engine.api("POST", path + "/rename?name=other").status == 204
    assert engine.api("GET", "/containers/other/json").json["Name"] == "/other"
    assert engine.api("DELETE", "/containers/other").status == 204
    assert engine.api("GET", path + "/json").status == 404


def test_missing_image_is_named(engine):
    answer = engine.api("POST", "/containers/create", body={"Image": "nosuch"})
    assert (answer.status, answer.message) == (404, "No such image: nosuch:latest")
    result = engine.docker("run", "127.0.0.1:1/nosuch", check=False)
    assert result.returncode == 125
    assert result.stderr.startswith("Unable to find image '127.0.0.1:1/nosuch:latest' locally\n")
    assert 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused' in result.stderr


@pytest.mark.parametrize(
    "path, body, status, message",
    [
        ("/containers/create", None, 400, "config cannot be empty in order to create a container"),
        ("/containers/create?name=!", {"Image": "small:1"}, 400, "Invalid container name (!), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("/containers/nosuch/exec", {"Cmd": ["true"]}, 404, "No such container: nosuch"),
        ("/containers/nosuch/exec", {}, 400, "No exec command specified"),
        ("/containers/nosuch/resize?h=x&w=1", None, 400, 'invalid resize height "x": invalid syntax'),
        ("/containers/nosuch/wait?condition=never", None, 400, 'invalid condition: "never"'),
        ("/exec/nosuch/start", {}, 404, "No such exec instance: nosuch"),
    ],
)
def test_wrong_requests_are_answered(engine, image, path, body, status, message):
    answer = engine.api("POST", path, body=body)
    assert (answer.status, answer.message) == (status, message)


def test_logs_need_a_stream(engine, image):
    container = create(engine, image, "true")
    answer = engine.api("GET", f"/containers/{container}/logs")
    assert (answer.status, answer.message) == (400, "Bad parameters: you must choose at least one stream")
    assert engine.api("DELETE", f"/containers/{container}").status == 204


def test_logs_follow_until_the_end(engine, image):
    container = create(engine, image, "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.1; done")
    engine.api("POST", f"/containers/{container}/start")
    answer = engine.api("GET", f"/v1.42/containers/{container}/logs?follow=1&stdout=1")
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert joined(answer.body, 1) == b"line 1\nline 2\nline 3\n"
    assert engine.api("DELETE", f"/containers/{container}").status == 204


def test_exec_streams_and_reports(engine, image):
    container = create(engine, image, "sleep", "100")
    engine.api("POST", f"/containers/{container}/start")
    made = engine.api("POST", f"/containers/{container}/exec", body={"Cmd": ["sh", "-c", "cat; echo err >&2; exit 4"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True})
    assert made.status == 201
    identity = made.json["Id"]
    connection, head = hijack(engine, f"/exec/{identity}/start", json.dumps({"Detach": False, "Tty": False}).encode())
    assert head.startswith("HTTP/1.1 101 UPGRADED\r\n")
    connection.sendall(b"in")
    connection.shutdown(socket.SHUT_WR)
    output = read_all(connection)
    assert (joined(output, 1), joined(output, 2)) == (b"in", b"err\n")
    state = engine.api("GET", f"/exec/{identity}/json").json
    assert (state["Running"], state["ExitCode"]) == (False, 4)
    result = engine.docker("exec", container, "nosuch", check=False)
    assert result.returncode == 126  # as dockerd 20.10 has it; newer ones say 127
    assert 'exec: "nosuch": executable file not found in $PATH' in result.stderr + result.stdout
    assert engine.api("DELETE", f"/containers/{container}?force=1").status == 204


def test_a_session_outlives_the_engine(engine, image):
    container = create(engine, image, "cat", OpenStdin=True)
    engine.api("POST", f"/containers/{container}/start")
    connection, _ = hijack(engine, f"/containers/{container}/attach?stream=1&stdin=1&stdout=1")
    connection.sendall(b"before\n")
    assert joined(connection.recv(100), 1) == b"before\n"
    engine.restart()
    connection.sendall(b"after\n")
    assert joined(connection.recv(100), 1) == b"after\n"
    engine.restart(hard=True)
    connection.sendall(b"at last\n")
    assert joined(connection.recv(100), 1) == b"at last\n"
    connection.close()
    assert engine.api("GET", f"/containers/{container}/json").json["State"]["Running"] is True
    assert engine.api("DELETE", f"/containers/{container}?force=1").status == 204


def test_events_of_a_run(engine, image):
    begun = time.time()
    container = create(engine, image, "true", name="eventful")
    engine.api("POST", f"/containers/{container}/start")
    engine.api("POST", f"/containers/{container}/wait")
    engine.api("DELETE", f"/containers/{container}?force=1")
    time.sleep(0.05)
    answer = engine.api("GET", f"/events?since={begun:.6f}&until={time.time():.6f}&filters=" + json.dumps({"container": ["eventful"]}).replace('"', "%22").replace(" ", ""))
    actions = [event["Action"] for event in answer.messages]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]
    start = next(event for event in answer.messages if event["Action"] == "start")
    assert (start["Type"], start["status"], start["from"], start["id"]) == ("container", "start", image, container)
    assert start["Actor"]["Attributes"]["name"] == "eventful"


def test_events_reach_several_listeners(engine, image):
    listeners = []
    for _ in range(3):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.settimeout(10)
        listener.connect(engine.socket)
        listener.sendall(b"GET /events?filters=%7B%22event%22%3A%7B%22create%22%3Atrue%7D%7D HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in listener.recv(4096)
        listeners.append(listener)
    container = create(engine, image, "true")
    for listener in listeners:
        assert container.encode() in listener.recv(4096)
        listener.close()
    engine.api("DELETE", f"/containers/{container}")


def test_client_that_leaves_an_import_leaves_nothing(engine):
    before = engine.api("GET", "/images/json").json
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(engine.socket)
    connection.sendall(b"POST /images/create?fromSrc=-&repo=half HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + bytes(0x400) + b"\r\n")
    time.sleep(0.1)
    connection.close()
    time.sleep(0.3)
    assert engine.api("GET", "/images/json").json == before
    assert [name for name in os.listdir(os.path.join(engine.data_root, "layers")) if name.startswith(".tmp-")] == []


def test_import_from_a_url(engine, tmp_path):
    (tmp_path / "root.tar").write_bytes(small_root())
    port = free_port()
    server = subprocess.Popen(["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        result = engine.docker("import", "-m", "from the net", f"http://127.0.0.1:{port}/root.tar", "fromnet:1")
        assert f"Downloading from http://127.0.0.1:{port}/root.tar" in result.stdout
        assert engine.docker("run", "--rm", "fromnet:1", "echo", "netted").stdout == "netted\n"
        result = engine.docker("import", f"http://127.0.0.1:{port}/nosuch.tar", check=False)
        assert result.returncode == 1
        assert "with status 404" in result.stderr
    finally:
        server.kill()
        server.wait()
    engine.docker("rmi", "fromnet:1")


def test_exec_over_tls(new_engine, tmp_path):
    certificates(tmp_path)
    port = free_port()
    engine = new_engine("--tlsverify", "--tlscacert", str(tmp_path / "ca.pem"), "--tlscert", str(tmp_path / "server.pem"), "--tlskey", str(tmp_path / "server-key.pem"),
                        "-H", f"tcp://127.0.0.1:{port}")
    engine.flags += ["-H", engine.host]
    engine.start()
    assert engine.api("POST", "/images/create?fromSrc=-&repo=small&tag=1", body=small_root()).status == 200
    tls = ["-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(tmp_path / "ca.pem"), "--tlscert", str(tmp_path / "client.pem"), "--tlskey", str(tmp_path / "client-key.pem")]
    text = "line of text\n" * 20000
    assert engine.docker(*tls, "run", "--rm", "-i", "small:1", "cat", input=text).stdout == text
    engine.docker(*tls, "run", "-d", "--name", "long", "small:1", "sleep", "100")
    assert engine.docker(*tls, "exec", "-i", "long", "cat", input=text).stdout == text
    assert engine.docker(*tls, "exec", "long", "sh", "-c", "exit 9", check=False).returncode == 9


def test_many_runs_at_once(engine, image):
    results = []

    def work(number):
        results.append(engine.docker("run", "--rm", "--network", "none", image, "echo", str(number), check=False))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(result.stdout or -1) for result in results) == list(range(12)), [result.stderr for result in results]
    assert engine.api("GET", "/containers/json?all=1").json == []
