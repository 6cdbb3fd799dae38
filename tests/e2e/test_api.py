"""The API as bytes on a socket and as SDKs see it; the engine's options, start and end."""

import json
import os
import re
import socket
import subprocess
import threading
import time

import docker
import pytest

from conftest import program_directory


def test_ping_names_engine_and_versions(engine):
    for method in ("GET", "HEAD"):
        answer = engine.api(method, "/_ping")
        assert answer.status == 200
        assert answer.body == (b"OK" if method == "GET" else b"")
        assert answer.headers["Api-Version"] == "1.51"
        assert answer.headers["Builder-Version"] == "1"
        assert answer.headers["Ostype"] == "linux"
        assert answer.headers["Docker-Experimental"] == "false"
        assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert answer.headers["Server"].startswith("Tare/")


def test_version_and_info_by_sdk(engine):
    client = docker.APIClient(base_url=engine.host, version="auto")
    version = client.version()
    assert (version["ApiVersion"], version["MinAPIVersion"], version["Os"]) == ("1.51", "1.24", "linux")
    info = client.info()
    assert info["OSType"] == "linux"
    assert info["DockerRootDir"] == engine.data_root
    assert info["NCPU"] == os.cpu_count()
    client.close()


@pytest.mark.parametrize("program", ["/usr/local/bin/docker", "/usr/bin/docker"])
def test_stock_clients_show_version_and_info(engine, program):
    if not os.path.exists(program):
        program = "docker"
    assert "API version:      1.51 (minimum version 1.24)" in engine.client(program, "version").stdout
    assert "Docker Root Dir: " + engine.data_root in engine.client(program, "info").stdout


@pytest.mark.parametrize(
    "path, status, message",
    [
        ("/v1.12/info", 400, "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"),
        ("/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("/nowhere", 404, "page not found"),
        ("/v1.41/nowhere", 404, "page not found"),
        ("/events?filters=%7B", 400, "invalid filter"),
        ("/events?filters=%5B1%5D", 400, "invalid filter"),
        ("/events?since=yesterday", 400, 'invalid value for "since": value is not a valid time: yesterday'),
        ("/v1.41/images/search?term=x&limit=101", 400, "Limit 101 is outside the range of [1, 100]"),
    ],
)
def test_errors_have_status_and_message(engine, path, status, message):
    answer = engine.api("GET", path)
    assert (answer.status, answer.message) == (status, message)
    assert answer.headers["Content-Type"] == "application/json"


def test_every_supported_version_answers(engine):
    for minor in range(24, 52):
        assert engine.api("GET", f"/v1.{minor}/info").status == 200


def test_requests_follow_one_another_on_a_connection(engine):
    text = engine.raw(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert text.count(b"HTTP/1.1 200 OK") == 3
    assert text.count(b"\r\n\r\nOK") == 3


def test_request_smuggling_is_refused(engine):
    for head in (b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: 1\r\nTransfer-Encoding: chunked"):
        text = engine.raw(b"POST /auth HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n0\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert text.startswith(b"HTTP/1.1 400 Bad Request")
        assert text.count(b"HTTP/1.1") == 1


def test_slow_client_does_not_keep_others_waiting(engine):
    slow = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    slow.connect(engine.socket)
    slow.sendall(b"GET /_pi")
    begun = time.monotonic()
    assert engine.api("GET", "/_ping").status == 200
    assert time.monotonic() - begun < 1
    slow.sendall(b"ng HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in slow.recv(4096)
    slow.close()


def test_two_hundred_clients_at_once(engine):
    clients = []
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(20)
        client.connect(engine.socket)
        clients.append(client)
    for client in clients:
        client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for client in clients:
        assert b"200 OK" in client.recv(4096)
        client.close()


def test_a_client_that_leaves_ends_its_request(engine):
    watcher = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    watcher.connect(engine.socket)
    watcher.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in watcher.recv(4096)
    assert engine.api("GET", "/info").json["NEventsListener"] == 1
    watcher.close()
    deadline = time.monotonic() + 5
    while engine.api("GET", "/info").json["NEventsListener"] != 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_events_until_now_end(engine):
    answer = engine.api("GET", f"/events?since=0&until={int(time.time())}")
    assert answer.status == 200


def test_socket_belongs_to_its_group_only(engine):
    assert os.stat(engine.socket).st_mode & 0o777 == 0o660
    assert os.stat(engine.data_root).st_mode & 0o777 == 0o700


def test_two_engines_do_not_share_a_root(engine, tmp_path):
    result = subprocess.run(
        [os.path.join(program_directory(), "tared"), "--data-root", engine.data_root, "--run-root", str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == 1
    assert result.stderr.endswith(f"tared: another tared uses {engine.data_root}\n")


# ---- options, start, end ----


def run_tared(*arguments):
    return subprocess.run([os.path.join(program_directory(), "tared"), *arguments], capture_output=True, text=True, timeout=20, check=False)


def test_help_lists_the_options():
    result = run_tared("--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage:\ttared [OPTIONS]\n")
    for flag in ("--data-root", "--host", "--config-file", "--tlsverify", "--storage-backend", "--no-openat2", "--bip", "--default-ulimit", "--log-opt"):
        assert flag in result.stdout


def test_version_flag():
    assert re.fullmatch(r"tare version \d+\.\d+\.\d+\n", run_tared("--version").stdout)


@pytest.mark.parametrize(
    "config, flags, message",
    [
        ('{"one": 1, "two": 2}', [], "the following directives don't match any configuration option: one, two"),
        ('{"debug": false}', ["-D"], "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"),
        ("{", [], "invalid JSON"),
        ("{}", ["--log-level", "loud"], "unable to parse logging level: loud"),
        ("{}", ["--storage-backend", "zfs"], 'invalid storage backend "zfs"'),
        ("{}", ["--nope"], "unknown flag: --nope"),
        ("{}", ["-H", "tcp://127.0.0.1:0"], "refusing to listen on tcp://127.0.0.1:0 without verified clients"),
        ("{}", ["-H", "npipe://x"], "invalid bind address format: npipe://x"),
        ("{}", ["--tlsverify"], "TLS needs --tlscert and --tlskey"),
        ("{}", ["-G", "nosuchgroup"], "group nosuchgroup not found"),
    ],
)
def test_wrong_configuration_is_named(tmp_path, config, flags, message):
    path = tmp_path / "daemon.json"
    path.write_text(config)
    result = run_tared("--config-file", str(path), "--data-root", str(tmp_path / "data"), "--run-root", str(tmp_path / "run"), *flags)
    assert result.returncode == 1
    assert message in result.stderr


def test_stop_ends_streams_and_removes_the_socket(new_engine):
    engine = new_engine().start()
    watcher = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    watcher.connect(engine.socket)
    watcher.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in watcher.recv(4096)
    begun = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - begun < 3
    assert not os.path.exists(engine.socket)
    watcher.close()


def test_stop_does_not_wait_for_a_client_that_does_not_read(new_engine):
    engine = new_engine().start()
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(engine.socket)
    deaf.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    time.sleep(0.3)
    begun = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - begun < 6
    assert "requests did not end" not in engine.log
    deaf.close()


def test_pidfile_and_notification(new_engine, tmp_path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    engine = new_engine("--pidfile", str(tmp_path / "pid")).start()
    assert listener.recv(100) == b"READY=1"
    assert (tmp_path / "pid").read_text() == str(engine.process.pid)
    engine.stop()
    assert listener.recv(100) == b"STOPPING=1"
    assert not (tmp_path / "pid").exists()
    listener.close()


def test_restart_after_kill_finds_its_identity(new_engine):
    engine = new_engine().start()
    identity = engine.api("GET", "/info").json["ID"]
    engine.restart(hard=True)
    assert engine.api("GET", "/info").json["ID"] == identity


# ---- TCP ----


def certificates(directory):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "1", "-subj", "/CN=test ca")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth"), ("client", "extendedKeyUsage=clientAuth")):
        (directory / f"{name}.ext").write_text(extension)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-out", f"{name}.pem", "-days", "1", "-extfile", f"{name}.ext")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_tls_needs_the_right_client(new_engine, tmp_path):
    certificates(tmp_path)
    port = free_port()
    engine = new_engine("--tlsverify", "--tlscacert", str(tmp_path / "ca.pem"), "--tlscert", str(tmp_path / "server.pem"), "--tlskey", str(tmp_path / "server-key.pem"),
                        "-H", f"tcp://127.0.0.1:{port}")
    engine.flags += ["-H", engine.host]
    engine.start()
    tls = ["--tlsverify", "--tlscacert", str(tmp_path / "ca.pem"), "--tlscert", str(tmp_path / "client.pem"), "--tlskey", str(tmp_path / "client-key.pem")]
    assert "API version:      1.51" in engine.docker("-H", f"tcp://127.0.0.1:{port}", *tls, "version").stdout
    result = engine.docker("-H", f"tcp://127.0.0.1:{port}", "--tls", "--tlscacert", str(tmp_path / "ca.pem"), "version", check=False)
    assert result.returncode == 1
    assert "certificate required" in result.stderr or "bad certificate" in result.stderr or "handshake" in result.stderr


def test_plain_tcp_when_asked_for(new_engine):
    port = free_port()
    engine = new_engine("--tls=false", "-H", f"tcp://127.0.0.1:{port}")
    engine.flags += ["-H", engine.host]
    engine.start()
    assert engine.docker("-H", f"tcp://127.0.0.1:{port}", "version").returncode == 0
    assert "anybody who reaches this address is root" in engine.log


# ---- bodies ----


def test_bodies_are_bounded_and_checked(engine):
    large = b'{"x": "' + b"a" * (5 << 20) + b'"}'
    cases = [
        (b"{", "application/json", 400, "invalid JSON"),
        (b"[]", "application/json", 400, "invalid JSON: an object was expected"),
        (b'{"a": 1, "a": 2}', "application/json", 400, "invalid JSON"),
        (b"{}{}", "application/json", 400, "invalid JSON"),
        (b"{}", "text/plain", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (large, "application/json", 413, "request body is larger than 4194304 bytes"),
    ]
    for body, content_type, status, message in cases:
        answer = engine.api("POST", "/v1.41/volumes/create", body=body, headers={"Content-Type": content_type})
        assert answer.status == status, answer.body
        assert message in answer.message


def test_many_threads_of_requests_leave_nothing_open(engine):
    def fds():
        return len(os.listdir(f"/proc/{engine.process.pid}/fd"))

    before = fds()

    def work():
        for _ in range(50):
            assert engine.api("GET", "/version").status == 200

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 5
    while fds() > before + 2:
        assert time.monotonic() < deadline, fds() - before
        time.sleep(0.05)


def test_json_of_version_is_json(engine):
    assert json.loads(engine.api("GET", "/version").body)["Components"][0]["Name"] == "Engine"
