"""Images are what their names say: digests recomputed, damage found, named and healed."""

import hashlib
import os
import threading

import pytest

from archives import docker_archive, entry, layer
from conftest import finish, make_engine
from inputs import busybox_root

SIZE = 600_000
UPPER = layer(entry("data", b"x" * SIZE))


def busybox():
    with open(busybox_root(), "rb") as file:
        return file.read()


def diff_id(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module", params=("detached", "unpacked"))
def engine(request):
    running = make_engine("--storage-backend", request.param).start()
    yield running
    finish(running)


@pytest.fixture
def archive(engine):
    data = docker_archive({"whole:1": [busybox(), UPPER], "other:1": [busybox()]})
    engine.tare("load", input=data)
    return data


def flip(engine, name, at):
    path = os.path.join(engine.data_root, "layers", "sha256", name)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def lines(text):
    return sorted(line for line in text.splitlines() if line)


def test_whole_images(engine, archive):
    base, upper = diff_id(busybox()), diff_id(UPPER)
    assert lines(engine.tare("image", "verify", "whole:1").stdout) == sorted([f"{base}: OK", f"{upper}: OK"])
    assert lines(engine.tare("image", "verify").stdout) == sorted([f"{base}: OK", f"{upper}: OK"])
    missing = engine.tare("image", "verify", "no:such", "other:1", check=False)
    assert missing.returncode == 1 and missing.stdout == f"{base}: OK\n" and "No such image: no:such" in missing.stderr


def test_a_flipped_byte(engine, archive):
    base, upper = diff_id(busybox()), diff_id(UPPER)
    before = {name: os.stat(os.path.join(engine.data_root, "layers", "sha256", name)).st_ino for name in os.listdir(os.path.join(engine.data_root, "layers", "sha256"))}
    flip(engine, upper[7:] + ".tar", 300_000)
    changed = bytearray(UPPER)
    changed[300_000] ^= 1
    found = engine.tare("image", "verify", check=False)
    assert found.returncode == 1 and found.stderr == f"damaged: {upper}\n", found
    assert lines(found.stdout) == sorted([f"{base}: OK", f"{upper}: DAMAGED: its content has the digest {diff_id(bytes(changed))}"])
    assert engine.tare("image", "verify", "other:1").returncode == 0
    for client in (engine.tare, engine.docker):
        refused = client("run", "--rm", "--network", "none", "--security-opt", "verify=image", "whole:1", "true", check=False)
        assert refused.returncode == 125 and f"verification of image whole:1 failed: layer {upper} is damaged" in refused.stderr
        client("run", "--rm", "--network", "none", "--security-opt", "verify=image", "other:1", "true")
    # across a restart it is still known, and a load heals that layer alone
    engine.restart()
    assert engine.tare("load", input=archive).stdout == b"Loaded image: whole:1\nLoaded image: other:1\n"
    assert engine.tare("image", "verify").returncode == 0
    run = engine.tare("run", "--rm", "--network", "none", "--security-opt", "verify=image", "whole:1", "sha256sum", "/data")
    assert run.stdout.split()[0] == hashlib.sha256(b"x" * SIZE).hexdigest()
    after = {name: os.stat(os.path.join(engine.data_root, "layers", "sha256", name)).st_ino for name in os.listdir(os.path.join(engine.data_root, "layers", "sha256"))}
    assert {name for name in before if before[name] != after.get(name)} == {upper[7:] + suffix for suffix in (".tar", ".erofs", ".facts")}
    assert set(before) == set(after)


def test_a_damaged_index_is_made_again(engine, archive):
    base = diff_id(busybox())
    flip(engine, base[7:] + ".erofs", 5000)
    assert lines(engine.tare("image", "verify", "other:1").stdout) == [f"{base}: OK (its index was damaged and has been made again)"]
    assert lines(engine.tare("image", "verify", "other:1").stdout) == [f"{base}: OK"]
    engine.tare("run", "--rm", "--network", "none", "other:1", "true")


def test_a_damaged_fixup_is_made_again(engine):
    below = layer(entry("d", mode=0o2750, owner=(3, 4)), entry("d/file", "1"))
    above = layer(entry("d/more", "2"))  # its directory is implied
    engine.tare("load", input=docker_archive({"fixed:1": [busybox(), below, above]}))
    folder = os.path.join(engine.data_root, "layers", "fixups")
    (name,) = os.listdir(folder)
    with open(os.path.join(folder, name), "r+b") as file:
        file.seek(2000)
        file.write(b"damage")
    assert "fix-up index was damaged and has been made again" in engine.tare("image", "verify", "fixed:1").stdout
    assert "fix-up" not in engine.tare("image", "verify", "fixed:1").stdout
    assert engine.tare("run", "--rm", "--network", "none", "fixed:1", "stat", "-c", "%a %u %g", "/d").stdout == "2750 3 4\n"
    # it goes with its image, also where a container held layers in between
    container = engine.tare("create", "fixed:1", "true").stdout.strip()
    engine.tare("image", "rm", "-f", "fixed:1")
    engine.tare("rm", container)
    assert os.listdir(folder) == []


def test_an_engine_that_always_verifies(new_engine):
    engine = new_engine("--verify-images").start()
    engine.tare("load", input=docker_archive({"whole:1": [busybox(), UPPER]}))
    engine.tare("run", "--rm", "--network", "none", "whole:1", "true")
    flip(engine, diff_id(UPPER)[7:] + ".tar", 1000)
    refused = engine.docker("run", "--rm", "--network", "none", "whole:1", "true", check=False)
    assert refused.returncode == 125 and "verification of image whole:1 failed" in refused.stderr


def test_load_against_rm(engine):
    """Two clients that do contrary things to one image: a load never fails, a removal takes it or finds none."""
    archive = docker_archive({"contested:1": [busybox(), UPPER]})
    rounds = int(os.environ.get("TARE_TEST_ROUNDS", "10"))
    wrong = []

    def remove():
        while not stop.is_set():
            done = engine.tare("image", "rm", "contested:1", check=False)
            if done.returncode and "No such image: contested:1" not in done.stderr:
                wrong.append(done.stderr)

    stop = threading.Event()
    removing = [threading.Thread(target=remove) for _ in range(2)]
    for thread in removing:
        thread.start()
    loaded = [engine.tare("load", input=archive, check=False) for _ in range(rounds)]
    stop.set()
    for thread in removing:
        thread.join()
    assert [one for one in loaded if one.returncode or one.stdout != b"Loaded image: contested:1\n"] == []
    assert wrong == []
    engine.tare("load", input=archive)
    assert "DAMAGED" not in engine.tare("image", "verify").stdout
    engine.tare("run", "--rm", "--network", "none", "--security-opt", "verify=image", "contested:1", "true")
