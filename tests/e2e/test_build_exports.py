"""What leaves a build beside its image: one squashed layer, images for several platforms, pushes, metadata, and caches in registries and directories."""

import io
import json
import os
import tarfile
import warnings

import pytest

from conftest import finish, make_engine, program_directory
from inputs import busybox_root
from local_registry import Registry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import docker


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def engine():
    running = make_engine("--experimental").start()
    running.tare("import", str(busybox_root()), "bb:1")
    yield running
    finish(running)


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def build(engine, context, *flags, client="tare", **options):
    return getattr(engine, client)("build", "--network", "none", *flags, str(context), **options)


def inspect(engine, image):
    return json.loads(engine.tare("image", "inspect", image).stdout)[0]


def listing(engine, image):
    """path → everything that a container would see."""
    answer = engine.api("GET", f"/build/files?image={image}")
    assert answer.status == 200, answer.body
    found = {}
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        for info in tar:
            found[info.name] = (info.type, info.mode, info.uid, info.gid, info.mtime, info.linkname, tar.extractfile(info).read() if info.isreg() else b"")
    return found


# ---- --squash ----

SQUASHED = """FROM bb:1 AS below
RUN mkdir -p /old/kept /old/gone /swap && echo a > /old/kept/a && echo b > /old/gone/b && echo f > /file && ln -s /old /link && echo s > /swap/s
FROM below
RUN echo large > /large; rm -rf /old/gone; echo c > /old/kept/c; chmod 700 /old/kept
RUN rm /large /file; mkdir /file; echo in > /file/in; rm -rf /swap; ln -s /etc /swap; ln /file/in /file/hard; chown 5:6 /old
COPY --chmod=600 x /old/kept/
RUN rm -rf /old/kept && mkdir /old/kept && echo new > /old/kept/new
ENV e=v
"""


@pytest.mark.parametrize("client", ["tare", "docker", "sdk"])
def test_squash(engine, tmp_path, client):
    context = write(tmp_path / "context", Dockerfile=SQUASHED, x="x")
    build(engine, context, "-t", "whole")
    build(engine, context, "-t", "below", "--target", "below")
    if client == "sdk":
        docker.DockerClient(base_url=engine.host).images.build(path=str(context), squash=True, network_mode="none", tag="squashed")
    else:
        out = build(engine, context, "-t", "squashed", "--squash", client=client).stdout
        assert "Successfully tagged squashed:latest" in out
    below, whole, squashed = (inspect(engine, name) for name in ("below", "whole", "squashed"))
    assert squashed["RootFS"]["Layers"][:-1] == below["RootFS"]["Layers"], "one layer upon the base"
    assert squashed["Config"] == whole["Config"] and squashed["Parent"] == below["Id"] and squashed["Id"] != whole["Id"]
    assert listing(engine, "squashed") == listing(engine, "whole")
    assert engine.tare("history", "--format", "{{.Comment}}", "--no-trunc", "squashed").stdout.splitlines()[0] == f"merge {whole['Id']} to {below['Id']}"
    sizes = engine.tare("history", "--human=false", "--format", "{{.Size}}", "squashed").stdout.splitlines()
    assert sizes[1:6] == ["0"] * 5 and sizes[0] != "0"
    engine.tare("save", "-o", tmp_path / "s.tar", "squashed")
    with tarfile.open(tmp_path / "s.tar") as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]
        with tarfile.open(fileobj=tar.extractfile(manifest["Layers"][-1])) as layer:
            names = {name.rstrip("/") for name in layer.getnames()}
    assert {"old/.wh.gone", "old/kept/.wh.a", "swap", "file/in"} <= names and not names & {".wh.large", ".wh.swap", ".wh.file"}, names
    assert not any(name.startswith(("bin", "swap/")) for name in names), names


def test_squash_upon_scratch_and_of_little(engine, tmp_path):
    context = write(tmp_path / "context", Dockerfile="FROM scratch\nCOPY x /a/\nCOPY x /b/\n", x="x")
    build(engine, context, "-t", "small", "--squash")
    assert len(inspect(engine, "small")["RootFS"]["Layers"]) == 1 and {"a/x", "b/x"} <= set(listing(engine, "small"))
    write(context, Dockerfile="FROM bb:1\nENV a=b\n")
    build(engine, context, "-t", "little", "--squash")
    assert inspect(engine, "little")["RootFS"]["Layers"] == inspect(engine, "bb:1")["RootFS"]["Layers"]
