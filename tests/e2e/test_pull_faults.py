"""Pulls from a registry that misbehaves: each fault ends with a message that names host, repository and what was wrong, or is overcome, and
nothing is half-stored."""

import base64
import contextlib
import concurrent.futures
import gzip
import json
import os
import random
import re
import sqlite3
import subprocess
import threading
import time

import pytest

import bad_registry
from bad_registry import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Registry, cut, digest_of, make_tar
from conftest import finish, make_engine
from terminals import on_a_terminal

ROUNDS = int(os.environ.get("TARE_TEST_ROUNDS", "4"))
BIG = random.Random(1).randbytes(6 << 20)


@pytest.fixture(scope="module")
def engine():
    running = make_engine("--registry-timeout", "1", "--max-download-attempts", "3").start()
    yield running
    finish(running)


@pytest.fixture
def registry():
    running = Registry()
    yield running
    running.close()


def big_image(registry, name="app", seed=0):
    return registry.image(name, [make_tar({"small": b"x"}), make_tar({"big": BIG, "seed": b"%d" % seed})], compress=lambda tar: gzip.compress(tar, 1))


def big_digest(registry):
    return max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))


def blob_fault(registry, function):
    """function(handler, request, data) → True, for the big blob."""
    digest = big_digest(registry)
    registry.faults.append(lambda handler, request: digest in request.path and function(handler, request, registry.blobs[digest]))


def pull(engine, name, check=False, program="docker", **options):
    return getattr(engine, program)("pull", name, check=check, **options)


def stored(engine):
    layers = os.path.join(engine.data_root, "layers", "sha256")
    return sorted(os.listdir(layers)), [image["Id"] for image in engine.api("GET", "/images/json?all=1").json]


def partial_bytes(engine, registry):
    """Of the blobs that the registry has."""
    directory = os.path.join(engine.data_root, "downloads")
    return sum(os.stat(os.path.join(directory, name)).st_blocks * 512 for name in os.listdir(directory) if "sha256:" + name in registry.blobs)


def fails(engine, registry, name, *parts, programs=("docker", "tare")):
    """The pull fails with host, repository and all of this in its message, and leaves nothing behind; by each client."""
    before = stored(engine)[1]
    repository = re.sub("[:@].*", "", name)
    for program in programs:
        result = pull(engine, f"{registry.host}/{name}", program=program, timeout=60)
        assert result.returncode == 1, result.stdout
        for part in (registry.host, repository, *parts):
            assert part in result.stderr, program
        assert stored(engine)[1] == before
    return result


def drop(engine, registry, name="app:1"):
    engine.docker("rmi", f"{registry.host}/{name}")


def test_a_pull_and_its_messages(engine, registry):
    digest = big_image(registry)
    answer = engine.api("POST", f"/images/create?fromImage={registry.host}/app&tag=1")
    messages = answer.messages
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    assert messages[0] == {"status": "Pulling from app", "id": "1"}
    big = big_digest(registry)[7:19]
    own = [message["status"] for message in messages if message.get("id") == big]
    assert own[0] == "Pulling fs layer" and own[-1] == "Pull complete"
    assert own.index("Verifying Checksum") + 1 == own.index("Download complete")
    bars = [message for message in messages if message["status"] in ("Downloading", "Extracting")]
    size = len(registry.blobs[big_digest(registry)])
    assert bars and all(0 < bar["progressDetail"]["current"] <= bar["progressDetail"]["total"] <= size and bar["progress"].startswith("[") for bar in bars)
    assert messages[-2:] == [{"status": f"Digest: {digest}"}, {"status": f"Status: Downloaded newer image for {registry.host}/app:1"}]
    image = engine.api("GET", f"/images/{registry.host}/app@{digest}/json").json
    assert image["RepoDigests"] == [f"{registry.host}/app@{digest}"] and image["RepoTags"] == [f"{registry.host}/app:1"]
    asked = len(registry.requests)
    again = engine.api("POST", f"/images/create?fromImage={registry.host}/app&tag=1").messages
    assert again[-1] == {"status": f"Status: Image is up to date for {registry.host}/app:1"} and len(again) == 3
    assert len(registry.requests) == asked + 1
    drop(engine, registry)
    assert stored(engine) == ([], [])


# ---- manifests ----

GARBAGE = {
    "no JSON": (OCI_MANIFEST, b"<html>502</html>", "invalid manifest"),
    "empty": (OCI_MANIFEST, b"", "invalid manifest"),
    "an array": (OCI_MANIFEST, b"[1]", "it is not a JSON object"),
    "another type inside": (OCI_MANIFEST, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode(), "is not the Content-Type"),
    "both at once": (OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": [], "layers": [], "config": {}}).encode(), "a manifest and an index at once"),
    "an index called a manifest": (OCI_MANIFEST, json.dumps({"schemaVersion": 2, "manifests": []}).encode(), "a manifest and an index at once"),
    "schema 1": ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion": 1}', "schema 1 support has been removed"),
    "something else": ("application/vnd.example+json", b'{"schemaVersion": 2}', "unsupported media type application/vnd.example+json"),
    "a bad digest": (OCI_MANIFEST, json.dumps({"schemaVersion": 2, "config": {"mediaType": bad_registry.OCI_CONFIG, "digest": "sha256:../../x", "size": 1}, "layers": []}).encode(), "a digest in it is not valid"),
    "deep": (OCI_MANIFEST, b"[" * 100000, "invalid manifest"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_manifests_that_are_none(engine, registry, what):
    media_type, body, message = GARBAGE[what]
    registry.manifest("some/app", "1", media_type, body)
    fails(engine, registry, "some/app:1", message)


def test_a_gigantic_manifest(engine, registry):
    registry.manifest("app", "1", OCI_MANIFEST, b'{"schemaVersion":2,"x":"' + b"y" * (64 << 20) + b'"}')
    fails(engine, registry, "app:1", f"manifest 1 of {registry.host}/app: the answer is larger than 4194304 bytes")
    with open(f"/proc/{engine.process.pid}/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert os.environ.get("TARE_BUILD") != "release" or peak < 60 << 10


def test_a_manifest_of_another_digest(engine, registry):
    digest = big_image(registry)
    registry.manifests["app", digest] = (OCI_MANIFEST, registry.manifests["app", digest][1] + b" ")
    fails(engine, registry, f"app@{digest}", f"{registry.host}/app", f"manifest verification failed for digest {digest}")


def test_nested_indexes(engine, registry):
    platform = {"os": "linux", "architecture": "amd64"}
    inner = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    digest = registry.manifest("app", "inner", OCI_INDEX, inner)
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"mediaType": OCI_INDEX, "digest": digest, "size": len(inner), "platform": platform}]}).encode()
    registry.manifest("app", "1", OCI_INDEX, outer)
    fails(engine, registry, "app:1", f"{registry.host}/app: manifest {digest} is an index within an index")


def test_no_manifest_for_this_platform(engine, registry):
    registry.manifest("app", "1", OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest_of(b""), "size": 1, "platform": {"os": "linux", "architecture": "s390x"}}]}).encode())
    fails(engine, registry, "app:1", "no matching manifest for linux/amd64 in the manifest list entries")


SPOILED = {
    "foreign layer": (lambda manifest: manifest["layers"][0].update(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "foreign layers"),
    "unknown layer type": (lambda manifest: manifest["layers"][0].update(mediaType="application/vnd.erofs"), "unsupported media type application/vnd.erofs"),
    "an artifact": (lambda manifest: manifest["config"].update(mediaType="application/vnd.cncf.helm.config.v1+json"), 'Encountered remote "application/vnd.cncf.helm.config.v1+json"(unknown) when fetching'),
    "more layers than the config": (lambda manifest: manifest["layers"].append(manifest["layers"][0]), "layers from manifest don't match image configuration"),
    "too many layers": (lambda manifest: manifest["layers"].extend(manifest["layers"] * 200), "max depth exceeded"),
    "negative size": (lambda manifest: manifest["layers"][0].update(size=-1), "is not valid"),
    "a longer layer": (lambda manifest: manifest["layers"][0].update(size=manifest["layers"][0]["size"] + 10), "that its manifest says"),
    "a shorter layer": (lambda manifest: manifest["layers"][0].update(size=manifest["layers"][0]["size"] - 10), "that its manifest says"),
    "a missing layer": (lambda manifest: manifest["layers"][0].update(digest=digest_of(b"nowhere")), "blob unknown"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_manifests_that_lie(engine, registry, what):
    change, message = SPOILED[what]
    registry.image("app", [make_tar({"a": what.encode()})], change=change)
    fails(engine, registry, "app:1", message)


# ---- blobs ----

def test_a_layer_of_another_digest(engine, registry):
    registry.image("app", [make_tar({"a": b"good"})])
    layer = next(iter(registry.blobs))
    registry.blobs[layer] = registry.blobs[layer][:-8] + b"12345678"
    fails(engine, registry, "app:1", f"{registry.host}/app: layer {layer}: ")
    plain = gzip.compress(make_tar({"a": b"evil"}), 0)
    registry.image("app", [make_tar({"a": b"evil"})], tag="2", compress=lambda _: plain)
    registry.blobs[digest_of(plain)] = gzip.compress(make_tar({"a": b"EVIL"}), 0)
    assert len(registry.blobs[digest_of(plain)]) == len(plain)
    fails(engine, registry, "app:2", "filesystem layer verification failed for digest")
    assert stored(engine) == ([], [])


def test_a_config_of_another_digest(engine, registry):
    registry.image("app", [make_tar({"a": b"a"})])
    config = next(digest for digest, data in registry.blobs.items() if data.startswith(b"{"))
    registry.blobs[config] = registry.blobs[config].replace(b"true", b"evil")
    fails(engine, registry, "app:1", f"{registry.host}/app: image config verification failed for digest {config}")


def test_a_layer_that_is_not_what_the_config_says(engine, registry):
    registry.image("app", [make_tar({"a": b"a"})], config={"rootfs": {"type": "layers", "diff_ids": [digest_of(b"other")]}})
    fails(engine, registry, "app:1", f"{registry.host}/app: layer ", "its content has the digest")
    assert stored(engine) == ([], [])


def test_a_bomb(engine, registry):
    bomb = gzip.compress(bytes(64 << 20), 9) * 8  # half a GB of zeros in half a MB: no tar, and no memory is spent on it
    digest = registry.blob(bomb)
    registry.image("app", [b""], compress=lambda _: bomb, config={"rootfs": {"type": "layers", "diff_ids": [digest_of(b"zeros")]}})
    full = fails(engine, registry, "app:1", f"{registry.host}/app: layer {digest}: ")
    assert "its content has the digest" in full.stderr
    assert partial_bytes(engine, registry) == 0


def test_hostile_entries(engine, registry):
    """Those of test_hostile_layers.py in a layer from a registry; here what its message looks like."""
    registry.image("app", [make_tar({"../../etc/cron.d/evil": b"* * * * * root true\n", "ok": b"ok"})])
    fails(engine, registry, "app:1", f"{registry.host}/app: layer ")
    assert not os.path.exists("/etc/cron.d/evil") and stored(engine) == ([], [])


# ---- the way ----

def count(registry, n, fault):
    """The first n requests for the big blob fail."""
    left = [n]

    def apply(handler, request, data):
        if left[0] == 0:
            return False
        left[0] -= 1
        fault(handler, request, data)
        return True

    blob_fault(registry, apply)


OVERCOME = {
    "truncated": lambda registry: count(registry, 2, lambda handler, request, data: registry.send_blob(handler, request, data, stop_at=1 << 20)),
    "reset": lambda registry: count(registry, 2, lambda handler, request, data: registry.send_blob(handler, request, data, stop_at=1 << 20, reset=True)),
    "500 then fine": lambda registry: count(registry, 2, lambda handler, request, data: registry.send(handler, 500, b"oops", "text/plain")),
    "429 then fine": lambda registry: count(registry, 1, lambda handler, request, data: registry.send(handler, 429, b"", "text/plain", {"Retry-After": "1"})),
    "no answer": lambda registry: count(registry, 2, lambda handler, request, data: cut(handler)),
    "stalled": lambda registry: count(registry, 1, lambda handler, request, data: registry.send_blob(handler, request, data, pace=lambda sent: time.sleep(4 if sent > 2 << 20 else 0))),
    "no ranges": lambda registry: (count(registry, 2, lambda handler, request, data: registry.send_blob(handler, request, data, stop_at=1 << 20, ranges=False)), blob_fault(registry, lambda handler, request, data: registry.send_blob(handler, request, data, ranges=False) or True)),
}


@pytest.mark.parametrize("what", OVERCOME)
def test_faults_that_are_overcome(engine, registry, what):
    big_image(registry)
    OVERCOME[what](registry)
    result = pull(engine, f"{registry.host}/app:1", check=True)
    assert "Status: Downloaded newer image" in result.stdout
    if what in ("truncated", "reset", "stalled"):  # each try goes on where the last one stopped
        starts = [int(request.headers.get("range", "bytes=0-")[6:].split("-")[0]) for request in registry.asked(big_digest(registry))]
        assert len(starts) >= 2 and starts == sorted(starts) and starts[1] > 0
    drop(engine, registry)
    assert stored(engine) == ([], []) and partial_bytes(engine, registry) == 0


def test_a_server_that_ends_every_answer(engine, registry):
    big_image(registry)
    blob_fault(registry, lambda handler, request, data: registry.send_blob(handler, request, data, stop_at=0) or True)
    fails(engine, registry, "app:1", f"{registry.host}/app: layer {big_digest(registry)}: ")
    assert len(registry.asked(big_digest(registry))) == 6  # --max-download-attempts, for each client


FOR_GOOD = {
    "500": (lambda registry, handler: registry.send(handler, 500, b"<html>", "text/html", {"Retry-After": "0"}), "received unexpected HTTP status: 500 Internal Server Error"),
    "429": (lambda registry, handler: registry.send(handler, 429, b"", "text/plain", {"Retry-After": "0"}), "toomanyrequests: "),
    "429 and when": (lambda registry, handler: registry.error(handler, 429, "TOOMANYREQUESTS", "You have reached your pull rate limit", {"Retry-After": "3600"}), "toomanyrequests: You have reached your pull rate limit"),
    "403": (lambda registry, handler: registry.error(handler, 403, "DENIED", "requested access to the resource is denied"), "denied: requested access to the resource is denied"),
    "a token server's garbage": (lambda registry, handler: registry.send(handler, *((200, b"<html>") if handler.path.startswith("/token") else (401, b"")), "text/html",
                                                                         {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token",service="s"'}), "invalid answer of the token server"),
}


@pytest.mark.parametrize("what", FOR_GOOD)
@pytest.mark.parametrize("part", ["manifests", "blobs"])
def test_faults_that_stay(engine, registry, what, part):
    big_image(registry)
    answer, message = FOR_GOOD[what]
    registry.faults.append(lambda handler, request: (part in request.path or "/token" in request.path) and (answer(registry, handler), True)[1])
    fails(engine, registry, "app:1", message)


def test_as_many_at_a_time_as_said(new_engine, registry):
    """--max-concurrent-downloads is for layers that need bandwidth; small ones wait for round trips, and three times as many go at once."""
    engine = new_engine("--max-concurrent-downloads", "2").start()
    registry.image("app", [make_tar({"big": BIG, "n": b"%d" % number}) for number in range(5)], compress=lambda tar: gzip.compress(tar, 0))
    lock, now, most = threading.Lock(), [0], [0]

    def counted(handler, request):
        data = registry.blobs.get(request.path.rsplit("/", 1)[1], b"")
        if len(data) < 1 << 20:
            return False
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:  # before the end of the answer, after which the next one may come
            now[0] -= 1
        registry.send_blob(handler, request, data)
        return True

    registry.faults.append(counted)
    assert "Waiting" in pull(engine, f"{registry.host}/app:1", check=True, program="tare").stdout
    assert most[0] == 2
    drop(engine, registry)


@pytest.mark.parametrize("program", ["tare", "docker"])
def test_bars_on_a_terminal(engine, registry, program):
    """Each layer has its line, and on it a bar with sizes while it comes and while it is unpacked."""
    registry.image("app", [make_tar({"for": program.encode()}), make_tar({"big": BIG, "for": program.encode()})], compress=lambda tar: gzip.compress(tar, 1))
    blob_fault(registry, lambda handler, request, data: registry.send_blob(handler, request, data, pace=lambda sent: time.sleep(0.01)) or True)
    shown = on_a_terminal(engine, program, "pull", f"{registry.host}/app:1")
    big, other = big_digest(registry)[7:19], next(digest for digest in registry.blobs if digest != big_digest(registry) and not registry.blobs[digest].startswith(b"{"))[7:19]
    size = r"[0-9.]+[kM]?B/6\.\d+MB"
    assert re.search(rf"\x1b\[2K\r{big}: Downloading \[=*> *\] +{size}\r", shown), shown
    assert re.search(rf"{big}: (Extracting \[=*>? *\] +{size}|Download complete )", shown)
    assert f"\x1b[2K\r{other}: Pull complete " in shown and f"\x1b[2K\r{big}: Pull complete " in shown
    assert re.search(r"\x1b\[\dA.*\x1b\[\dB", shown)  # up to a layer's line, and down again
    assert f"Status: Downloaded newer image for {registry.host}/app:1" in shown
    drop(engine, registry)


def test_slow_drip(engine, registry):
    big_image(registry)

    def drip(handler, request, data):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for byte in data[:30]:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.1)
        cut(handler)
        return True

    blob_fault(registry, drip)
    fails(engine, registry, "app:1", "the server stalled", programs=("tare",))


def test_a_redirect_loop(engine, registry):
    big_image(registry)
    blob_fault(registry, lambda handler, request, data: registry.send(handler, 302, b"", "text/plain", {"Location": request.path}) or True)
    fails(engine, registry, "app:1", "stopped after 10 redirects")


def test_credentials_follow_to_no_other_host(engine, registry):
    other = Registry("127.0.0.2")
    big_image(registry)
    other.blobs = registry.blobs

    def challenge(handler, request):
        if "authorization" in request.headers:
            return False
        registry.send(handler, 401, b"", "text/plain", {"WWW-Authenticate": 'Basic realm="r"'})
        return True

    registry.faults.append(challenge)
    blob_fault(registry, lambda handler, request, data: registry.send(handler, 307, b"", "text/plain", {"Location": f"http://{other.host}{request.path}"}) or True)
    auth = bad_registry_auth("user", "secret")
    answer = engine.api("POST", f"/images/create?fromImage={registry.host}/app&tag=1", headers={"X-Registry-Auth": auth})
    assert "Downloaded newer image" in answer.messages[-1]["status"]
    assert other.requests and all("authorization" not in request.headers for request in other.requests)
    assert len([request for request in registry.requests if "authorization" not in request.headers]) == 1  # asked for once, then known
    other.close()
    drop(engine, registry)


def bad_registry_auth(user, password):
    return base64.urlsafe_b64encode(json.dumps({"username": user, "password": password}).encode()).decode()


def test_a_storm_of_401(engine, registry):
    big_image(registry)

    def refuse(handler, request):
        if request.path.startswith("/token"):
            registry.send(handler, 200, json.dumps({"token": f"t{len(registry.requests)}", "expires_in": 300}).encode(), "application/json")
        else:
            registry.error(handler, 401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token",service="s",scope="repository:app:pull"'})
        return True

    registry.faults.append(refuse)
    fails(engine, registry, "app:1", f"{registry.host}/app: unauthorized: authentication required")
    assert len(registry.requests) < 20


def test_a_token_that_expires_in_the_middle(engine, registry):
    big_image(registry)
    current = [0]
    used = [0]

    def guard(handler, request):
        if request.path.startswith("/token"):
            assert "scope=repository%3Aapp%3Apull" in request.path and "service=s" in request.path
            current[0] += 1
            used[0] = 0
            registry.send(handler, 200, json.dumps({"token": f"t{current[0]}", "expires_in": 300}).encode(), "application/json")
            return True
        used[0] += 1
        if request.headers.get("authorization") == f"Bearer t{current[0]}" and used[0] <= 2:
            return False
        registry.error(handler, 401, "UNAUTHORIZED", "token expired", {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token",service="s",scope="repository:app:pull",error="invalid_token"'})
        return True

    registry.faults.append(guard)
    assert "Status: Downloaded newer" in pull(engine, f"{registry.host}/app:1", check=True).stdout
    assert current[0] >= 2
    drop(engine, registry)


# ---- resuming, sharing, ending ----

def held(registry, at):
    """Lets the big blob through up to so many bytes; → the event that lets the rest through."""
    go, there = threading.Event(), threading.Event()

    def pace(sent):
        if sent >= at:
            there.set()
            go.wait(20)

    blob_fault(registry, lambda handler, request, data: registry.send_blob(handler, request, data, pace=pace) or True)
    return go, there


def stop_client(engine, client):
    """Ends a client in the middle of its pull, and waits until the engine has noticed."""
    ended = engine.log.count("/images/create took=")
    client.terminate()
    client.wait()
    deadline = time.monotonic() + 10
    while engine.log.count("/images/create took=") == ended and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_cancelled_pull_keeps_its_bytes(engine, registry):
    big_image(registry)
    go, there = held(registry, 3 << 20)
    client = subprocess.Popen(["docker", "-H", engine.host, "pull", f"{registry.host}/app:1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert there.wait(20)
    deadline = time.monotonic() + 10
    while (partial_bytes(engine, registry) < 2 << 20 or not stored(engine)[0]) and time.monotonic() < deadline:
        time.sleep(0.02)
    stop_client(engine, client)
    registry.faults.clear()
    go.set()
    pull(engine, f"{registry.host}/app:1", check=True)
    ranges = [request.headers.get("range") for request in registry.asked(big_digest(registry))]
    assert ranges[0] is None and int(ranges[-1][6:].split("-")[0]) >= 2 << 20
    small = next(digest for digest in registry.blobs if digest != big_digest(registry) and not registry.blobs[digest].startswith(b"{"))
    assert len(registry.asked(small)) == 1  # whole layers stay as well
    drop(engine, registry)
    assert stored(engine) == ([], []) and partial_bytes(engine, registry) == 0


def test_two_pulls_fetch_a_layer_once_and_end_alone(engine, registry):
    big_image(registry)
    go, there = held(registry, 1 << 20)
    first = subprocess.Popen(["docker", "-H", engine.host, "pull", f"{registry.host}/app:1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert there.wait(20)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        others = [pool.submit(pull, engine, f"{registry.host}/app:1", check=True) for _ in range(3)]
        while len(registry.asked("manifests")) < 4:
            time.sleep(0.02)
        time.sleep(0.3)
        stop_client(engine, first)
        go.set()
        assert all("Pull complete" in other.result().stdout for other in others)
    assert len(registry.asked(big_digest(registry))) == 1
    drop(engine, registry)


def test_parallel_ranges_of_one_slow_layer(engine, registry):
    data = random.Random(3).randbytes(40 << 20)
    registry.image("fat", [make_tar({"big": data})], compress=lambda tar: gzip.compress(tar, 0))
    blob_fault(registry, lambda handler, request, data: registry.send_blob(handler, request, data, pace=lambda sent: time.sleep(0.002)) or True)
    pull(engine, f"{registry.host}/fat:1", check=True)
    ranges = [request.headers.get("range") for request in registry.asked(big_digest(registry))]
    assert ranges[0] is None and len(ranges) > 1 and all(ranges[1:])
    drop(engine, registry, "fat:1")


def test_partials_expire(engine, registry):
    big_image(registry)
    count(registry, 9, lambda handler, request, data: registry.send_blob(handler, request, data, stop_at=0 if "range" in request.headers else 3 << 20))
    pull(engine, f"{registry.host}/app:1")
    assert partial_bytes(engine, registry) > 0
    directory = os.path.join(engine.data_root, "downloads")
    for name in os.listdir(directory):
        os.utime(os.path.join(directory, name), (0, 0))
    engine.stop()
    with contextlib.closing(sqlite3.connect(os.path.join(engine.data_root, "tare.db"))) as database, database:
        database.execute("UPDATE pulled_layer SET at = 0")
    engine.start()
    fails(engine, registry, "nothing:1", "manifest unknown")
    assert partial_bytes(engine, registry) == 0 and stored(engine) == ([], [])


def test_killed_at_any_instant(new_engine, registry):
    """kill -9 of the engine in the middle of a pull: after its restart the pull finishes with the bytes that were there."""
    engine = new_engine().start()
    dice = random.Random(5)
    sent = [0]

    def pace(_):
        sent[0] += 65536
        time.sleep(0.002)

    for number in range(ROUNDS):
        registry.faults.clear()
        big_image(registry, f"app{number}", seed=number)
        blob_fault(registry, lambda handler, request, data: registry.send_blob(handler, request, data, pace=pace) or True)
        name = f"{registry.host}/app{number}:1"
        with concurrent.futures.ThreadPoolExecutor() as pool:
            client = pool.submit(pull, engine, name)
            time.sleep(dice.uniform(0, 0.4))
            engine.kill()
            client.result()
        engine.start()
        kept = partial_bytes(engine, registry)
        images = stored(engine)[1]
        registry.requests.clear()
        pull(engine, name, check=True)
        asked = registry.asked(big_digest(registry))
        if kept > 1 << 20 and not images and asked:  # none is asked for where all of it was there
            assert int(asked[0].headers["range"][6:].split("-")[0]) > kept - (1 << 20)
        assert partial_bytes(engine, registry) == 0
        engine.docker("rmi", name)
        assert stored(engine) == ([], [])
        registry.blobs.clear()
