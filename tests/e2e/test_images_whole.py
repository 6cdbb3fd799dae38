"""Images are whole or absent where the disk fills up, or the client goes away, in the middle of what makes or removes them."""

import hashlib
import os
import random
import signal
import tarfile
import time

import pytest

from archives import docker_archive, entry, layer
from inputs import busybox_root
from test_disk_full import Disk
from test_recovery import spawn, wait_until

ROUNDS = int(os.environ.get("TARE_TEST_ROUNDS", "4"))  # for each operation
MAKES = {"load": ["loaded:1", "loaded:2"], "import": ["imported:latest"], "commit": ["committed:latest"]}
TAKES = {"rm": ["loaded:1", "loaded:2"], "prune": ["unused:0", "unused:1", "unused:2"]}
COMMANDS = {
    "load": ["load", "-i", "archive.tar"], "import": ["import", "payload.tar", "imported"], "commit": ["commit", "-m", "第一", "it", "committed"],
    "rm": ["image", "rm", "loaded:1", "loaded:2"], "prune": ["image", "prune", "-af", "--filter", "label=unused"],
}


@pytest.fixture(scope="module")
def disk():
    """A small one with an engine, a running container that has written 3 MB, and what is loaded and imported."""
    small = Disk(64)
    engine, chance = small.engine, random.Random(7)
    with open(busybox_root(), "rb") as file:
        base = file.read()
    below, above = (layer(entry(name, chance.randbytes(1_500_000))) for name in ("below", "above"))
    with open(f"{engine.directory}/archive.tar", "wb") as file:
        file.write(docker_archive({"loaded:1": [base, below], "loaded:2": [base, below, above]}))
    os.makedirs(f"{engine.directory}/payload")
    with open(f"{engine.directory}/payload/file", "wb") as file:
        file.write(chance.randbytes(3_000_000))
    with tarfile.open(f"{engine.directory}/payload.tar", "w") as tar:
        tar.add(f"{engine.directory}/payload/file", "file")
    engine.tare("run", "-d", "--name", "it", "--network", "none", "bb", "sh", "-c", "head -c 3000000 /dev/urandom > /big; touch /ready; exec sleep 1000")
    wait_until(lambda: engine.tare("exec", "it", "test", "-e", "/ready", check=False).returncode == 0, "the container has written")
    yield small
    small.close()


def run(disk, name):
    """The command to its end."""
    client = spawn(disk.engine, *COMMANDS[name], cwd=disk.engine.directory)
    _, error = client.communicate(timeout=60)
    return client.returncode, error.decode()


def prepare(disk, name):
    if name == "rm":
        assert run(disk, "load") == (0, "")
    for number in range(3 if name == "prune" else 0):
        disk.engine.tare("import", "-c", f"LABEL unused={number}", f"{disk.engine.directory}/payload.tar", f"unused:{number}")


def names(disk):
    return {tag for image in disk.engine.api("GET", "/images/json").json for tag in image["RepoTags"]} - {"bb:latest"}


def clean(disk):
    for name in sorted(names(disk)):
        disk.engine.tare("image", "rm", name)
    disk.engine.tare("image", "prune", "-f")  # an import or commit that was repeated took the name from the first
    assert disk.engine.tare("image", "ls", "-aq").stdout.count("\n") == 1


def strange(disk):
    """Files of layers that no image has, and those that are missing."""
    images = disk.engine.api("GET", "/images/json?all=1").json
    layers = {one[7:] for image in images for one in disk.engine.api("GET", f"/images/{image['Id']}/json").json["RootFS"]["Layers"]}
    return set(os.listdir(f"{disk.root}/layers/sha256")) ^ {f"{one}.{suffix}" for one in layers for suffix in ("tar", "erofs", "facts")}


def check_whole(disk):
    wait_until(lambda: not strange(disk), lambda: f"{strange(disk)}\n{disk.engine.log[-4000:]}")
    for name in os.listdir(f"{disk.root}/layers/sha256"):
        if name.endswith(".tar"):
            with open(f"{disk.root}/layers/sha256/{name}", "rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == name[:64]
    assert disk.engine.api("GET", "/containers/it/json").json["State"]["Status"] == "running"


def check_again(disk, name, free, files):
    """The same command succeeds, and then all is as it was."""
    check_whole(disk)
    assert disk.engine.tare("image", "ls", "-q", "-f", "dangling=true").stdout == ""
    status, error = run(disk, name)
    assert status == 0 or (name == "rm" and error.count("No such image") == error.count("\n")), error
    check_whole(disk)
    assert names(disk) == set(MAKES.get(name, ()))
    clean(disk)
    disk.settle(free, files)


@pytest.mark.parametrize("name", COMMANDS)
def test_disk_that_fills_up(disk, name):
    """With less and less room a command fails with the disk's reason and leaves nothing, or is whole; a removal needs none at all."""
    chance = random.Random(f"full {name}")
    free, files = disk.free, disk.files_at_rest()
    room = (10 << 20) if name in MAKES else (64 << 10)
    failed = 0
    for number in range(ROUNDS):
        prepare(disk, name)
        disk.files_at_rest()
        disk.fill()
        filler = f"{disk.root}/filler"
        os.truncate(filler, os.path.getsize(filler) - int(room * (number + chance.random()) / ROUNDS))
        status, error = run(disk, name)
        failed += status != 0
        made = names(disk)
        if name in TAKES:
            assert (status, made) == (0, set()), error
        else:
            assert made == set(MAKES[name]) if status == 0 else made < set(MAKES[name]), (status, made, error)
            assert status == 0 or "no space left on device" in error or "disk is full" in error, error
        os.unlink(filler)
        check_again(disk, name, free, files)
    assert failed or name in TAKES, "it never was full"
    print(f"{name}: {failed} of {ROUNDS} failed")


@pytest.mark.parametrize("name", COMMANDS)
def test_client_that_vanishes(disk, monkeypatch, name):
    """Killed at any instant: what it began is done whole or not at all, and nobody is kept waiting."""
    chance = random.Random(f"gone {name}")
    free, files = disk.free, disk.files_at_rest()
    prepare(disk, name)
    begun = time.monotonic()
    assert run(disk, name)[0] == 0
    took = time.monotonic() - begun
    clean(disk)
    disk.settle(free, files)
    done = 0
    # A client that is killed while it looks for leaks at its end leaves a report that says only this.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
    for number in range(ROUNDS):
        prepare(disk, name)
        client = spawn(disk.engine, *COMMANDS[name], cwd=disk.engine.directory)
        time.sleep(took * (number + chance.random()) / ROUNDS)
        client.send_signal(signal.SIGKILL)
        client.communicate(timeout=20)
        made = names(disk)
        assert made <= set(MAKES.get(name, TAKES.get(name)))
        done += made == set(MAKES.get(name, ()))
        check_again(disk, name, free, files)
    print(f"{name}: {done} of {ROUNDS} were done all the same")
