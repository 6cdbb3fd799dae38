"""An engine that comes back with another storage backend: what the one before it made goes when nobody can need it."""

import os

from archives import docker_archive, entry, layer
from inputs import busybox_root


def unpacked(engine):
    folder = f"{engine.data_root}/layers/unpacked"
    return {name for name in os.listdir(folder) if len(name) == 64} if os.path.isdir(folder) else None


def restart(engine, backend):
    engine.stop()
    engine.flags = ["--storage-backend", backend]
    engine.start()


def at_rest(engine, wanted):
    """What is removed in the background has ended when the engine has."""
    engine.stop()
    found = unpacked(engine)
    engine.start()
    assert found == wanted, found


def test_what_another_backend_left(new_engine):
    with open(busybox_root(), "rb") as file:
        base = file.read()
    engine = new_engine("--storage-backend", "unpacked").start()
    engine.tare("load", input=docker_archive({"stays:1": [base, layer(entry("a", "1"))], "goes:1": [base, layer(entry("b", "2"))]}))
    layers = {name: [one[7:] for one in engine.api("GET", f"/images/{name}/json").json["RootFS"]["Layers"]] for name in ("stays:1", "goes:1")}
    for name, file in (("stays:1", "/a"), ("goes:1", "/b")):
        engine.tare("run", "--rm", "--network", "none", name, "cat", file)
    running = engine.tare("run", "-d", "--network", "none", "stays:1", "sleep", "1000").stdout.strip()
    every = set(layers["stays:1"] + layers["goes:1"])
    assert unpacked(engine) == every
    # a container that runs over the directories keeps them
    restart(engine, "detached")
    assert unpacked(engine) == every
    assert engine.docker("exec", running, "cat", "/a").stdout == "1"
    # a layer that goes meanwhile is gone for the backend that comes back
    engine.tare("image", "rm", "goes:1")
    restart(engine, "unpacked")
    assert unpacked(engine) == set(layers["stays:1"])
    assert engine.docker("exec", running, "cat", "/a").stdout == "1"
    restart(engine, "detached")
    # with nobody over them they go, also for an engine that was killed
    engine.tare("rm", "-f", running)
    engine.kill()
    engine.start()
    at_rest(engine, None)
    assert not os.path.exists(f"{engine.data_root}/layers/unpacked")
    assert engine.tare("run", "--rm", "--network", "none", "stays:1", "cat", "/a").stdout == "1"
    # and the other way round nothing is lost
    restart(engine, "unpacked")
    assert engine.tare("run", "--rm", "--network", "none", "stays:1", "cat", "/a").stdout == "1"
