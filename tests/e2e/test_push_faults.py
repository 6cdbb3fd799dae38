"""push against registries that misbehave, an engine that dies and clients that go: all of it or nothing, and clear words."""

import hashlib
import json
import os
import random
import re
import subprocess
import time

import pytest

from bad_registry import Registry, cut, once
from conftest import program_directory
from local_registry import Registry as RealRegistry
from terminals import on_a_terminal

TARE = os.path.join(program_directory(), "tare")


@pytest.fixture(scope="module")
def image(engine, tmp_path_factory):
    """One layer of noise, which stays as large as it is, and a small one."""
    context = tmp_path_factory.mktemp("context")
    (context / "noise").write_bytes(random.Random(1).randbytes(6 << 20))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY noise /noise\nCOPY Dockerfile /\n", encoding="utf-8")
    engine.tare("build", "-q", "-t", "noise", str(context))
    return "noise"


@pytest.fixture
def bad():
    registry = Registry()
    yield registry
    registry.close()


def push(engine, image, registry, check=True):
    name = f"{registry.host}/app:1"
    engine.tare("tag", image, name)
    result = engine.tare("push", name, check=check)
    engine.tare("rmi", name)
    return result


def check_whole(registry):
    """What the manifest names is there, and is what it is called."""
    manifest = json.loads(registry.manifests["app", "1"][1])
    for one in [manifest["config"], *manifest["layers"]]:
        assert len(registry.blobs[one["digest"]]) == one["size"] and "sha256:" + hashlib.sha256(registry.blobs[one["digest"]]).hexdigest() == one["digest"]


def test_good(engine, image, bad):
    push(engine, image, bad)
    check_whole(bad)


@pytest.mark.parametrize("program", ["tare", "docker"])
def test_bars_on_a_terminal(engine, image, bad, program):
    """Each layer has its line, and on it a bar with sizes while it is sent."""

    def slowly(handler, request):
        if request.method != "PATCH":
            return False
        name = request.path.split("?")[0].rsplit("/", 1)[1]
        while size := int(handler.rfile.readline(), 16):
            bad.uploads[name] += handler.rfile.read(size)
            handler.rfile.readline()
            time.sleep(size / (12 << 20))
        handler.rfile.readline()
        handler.reply(202, Location=request.path, Range=f"0-{len(bad.uploads[name]) - 1}")
        return True

    bad.faults.append(slowly)
    name = f"{bad.host}/bars:1"
    engine.tare("tag", image, name)
    shown = on_a_terminal(engine, program, "push", name)
    layers = json.loads(engine.tare("image", "inspect", "-f", "{{json .RootFS.Layers}}", name).stdout)
    assert re.search(rf"\x1b\[2K\r{layers[0][7:19]}: Pushing \[=*> *\] +[0-9.]+[kM]?B/6\.\d+MB\r", shown), shown
    assert all(f"\x1b[2K\r{layer[7:19]}: Pushed " in shown for layer in layers)
    assert re.search(r"1: digest: sha256:[0-9a-f]{64} size: \d+", shown)
    engine.tare("rmi", name)


def test_500_then_fine(engine, image, bad):
    bad.faults += [once(lambda request, wanted=wanted: request.method == wanted, lambda handler: (bad.body(handler), handler.reply(500))) for wanted in ("HEAD", "POST", "PATCH", "PUT")]
    push(engine, image, bad)
    check_whole(bad)


def test_goes_on_where_it_broke(engine, image, bad):
    """The registry says how far it has got: the rest is sent, and not the whole once more."""

    def break_off(handler):
        name = handler.path.split("?")[0].rsplit("/", 1)[1]
        bad.uploads[name] += bad.body(handler, limit=3 << 20)
        cut(handler, reset=True)

    bad.faults.append(once(lambda request: request.method == "PATCH" and request.headers.get("transfer-encoding") == "chunked", break_off))
    output = push(engine, image, bad).stdout
    check_whole(bad)
    assert "Retrying in 1 second" in output and bad.asked("/uploads/")


def test_upload_that_is_forgotten(engine, image, bad):
    """After a break the registry knows nothing of it: it is begun anew."""
    bad.faults.append(once(lambda request: request.method == "PATCH", lambda handler: (bad.uploads.clear(), bad.body(handler, limit=1 << 20), cut(handler, reset=True))))
    push(engine, image, bad)
    check_whole(bad)


@pytest.mark.parametrize("status", [411, 413])
def test_no_streams(engine, image, bad, status):
    def fault(handler, request):
        if request.method != "PATCH" or request.headers.get("transfer-encoding") != "chunked":
            return False
        bad.body(handler)
        handler.reply(status)
        return True

    bad.faults.append(fault)
    push(engine, image, bad)
    check_whole(bad)
    assert any(request.headers.get("content-range", "").startswith("0-") for request in bad.asked("", "PATCH"))


def test_clear_words(engine, image, bad):
    def answer(wanted, status, body):
        def fault(handler, request):
            if request.method != wanted:
                return False
            bad.body(handler)
            handler.reply(status, body)
            return True

        return fault

    for wanted, status, body, text in [
        ("POST", 403, b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}', "denied: requested access to the resource is denied"),
        ("POST", 401, b"", "unauthorized: authentication required"),
        ("POST", 400, b"garbage", f"{bad.host}/app: POST blob: received unexpected HTTP status: 400 Bad Request"),
        ("PATCH", 400, b'{"errors":[{"code":"SIZE_INVALID","message":"too much"}]}', "too much"),
        ("PUT", 400, b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}', "provided digest did not match uploaded content"),
    ]:
        bad.faults[:] = [answer(wanted, status, body)]
        failed = push(engine, image, bad, check=False)
        assert failed.returncode == 1 and text in failed.stderr, (wanted, status, failed.stderr)
        assert bad.manifests == {}
    # Nothing to answer a challenge with: that is no better after a while.
    bad.faults[:] = [lambda handler, request: request.method == "POST" and (handler.reply(401, WWW_Authenticate='Basic realm="r"'), True)[1]]
    failed = push(engine, image, bad, check=False)
    assert failed.returncode == 1 and f"{bad.host}/v2/app/blobs/uploads/" in failed.stderr and "no basic auth credentials" in failed.stderr and "Retrying" not in failed.stdout
    # A registry that stores something else than it was given.
    bad.faults[:] = [once(lambda request: request.method == "PUT" and "/manifests/" in request.path, lambda handler: (bad.body(handler), handler.reply(201, Docker_Content_Digest="sha256:" + "0" * 64)))]
    failed = push(engine, image, bad, check=False)
    assert failed.returncode == 1 and f"the registry has stored sha256:{'0' * 64} instead of" in failed.stderr
    # And one that is not there.
    bad.close()
    failed = push(engine, image, bad, check=False)
    assert failed.returncode == 1 and bad.host in failed.stderr and "connection refused" in failed.stderr.lower(), failed.stderr


def test_client_that_goes(engine, image, bad):
    """The push ends at once, and nothing is held afterwards."""
    bad.faults.append(lambda handler, request: request.method == "PATCH" and time.sleep(30))
    name = f"{bad.host}/app:1"
    engine.tare("tag", image, name)
    client = subprocess.Popen([TARE, "push", name], env={**os.environ, "DOCKER_HOST": engine.host}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not bad.asked("", "PATCH"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    client.kill()
    client.communicate()
    deadline = time.monotonic() + 20
    while f"/images/{bad.host}/app/push took=" not in engine.log:
        assert time.monotonic() < deadline, engine.log[-2000:]
        time.sleep(0.05)
    assert bad.manifests == {}
    engine.tare("rmi", name)


def test_kill_9(new_engine, image, engine, tmp_path):
    """At random instants: after the restart the same push comes to its end, and what arrived is not sent again."""
    registry = RealRegistry(tmp_path / "registry")
    victim = new_engine()
    victim.start()
    try:
        archive = tmp_path / "image.tar"
        engine.tare("save", "-o", str(archive), image)
        victim.tare("load", "-q", "-i", str(archive))
        random_source = random.Random(4)
        for attempt in range(int(os.environ.get("TARE_TEST_ROUNDS", "5"))):
            name = f"{registry.host}/app{attempt}:1"
            victim.tare("tag", image, name)
            client = subprocess.Popen([TARE, "push", name], env={**os.environ, "DOCKER_HOST": victim.host}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(random_source.uniform(0, 0.3))
            victim.kill()
            client.communicate(timeout=30)
            victim.start()
            assert "digest: sha256:" in victim.tare("push", name).stdout
            body, _ = registry.manifest(f"app{attempt}", "1")
            assert json.loads(body)["config"]["digest"] == victim.tare("image", "inspect", "-f", "{{.Id}}", image).stdout.strip()
    finally:
        registry.stop()
