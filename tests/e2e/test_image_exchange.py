"""Images go to other engines and tools, and come back, as the same image."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile

import pytest

import trees
from archives import digest, entry, layer
from conftest import NEWER_DOCKER, UnixConnection, finish, make_engine
from dockerd import running_dockerd
from inputs import busybox_root

DOCKERFILE = """FROM bb:1
LABEL who="tare \\"quoted\\" & <others>"
COPY data /data
RUN rm /bin/vi; mkdir -p /a/b; echo hello > /a/b/c; ln /a/b/c /a/d; chown 5:6 /a/b; chmod 2755 /a; mv /etc/group /etc/gruppe
VOLUME /volume
EXPOSE 80/udp
ENV A="b c" D=e
USER user
WORKDIR /work
CMD ["cat", "/a/b/c"]
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    (folder / "data").write_text("data", encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def engine(context):
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "bb:1")
    running.tare("build", "--network", "none", "-t", "ours:1", context)
    yield running
    finish(running)


@pytest.fixture(scope="module")
def reference(context):
    with running_dockerd() as running:
        running.docker("import", str(busybox_root()), "bb:1")
        running.docker("build", "--network", "none", "-t", "theirs:1", context)
        yield running


@pytest.fixture(scope="module")
def saved(engine, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("saved") / "ours.tar")
    engine.tare("save", "-o", path, "ours:1")
    return path


def inspect(engine, image):
    found = json.loads(engine.tare("image", "inspect", image, env={"DOCKER_API_VERSION": "1.41"}).stdout)[0]
    return found["Id"], found["RootFS"]["Layers"], found["Config"]


def facts(reference, image):
    found = json.loads(reference.docker("image", "inspect", image).stdout)[0]
    return found["Id"], found["RootFS"]["Layers"], found["Config"]


def export(engine, image):
    container = engine.tare("create", image, "x").stdout.strip()
    data = engine.tare("export", container, input=b"").stdout
    engine.tare("rm", "-v", container)
    return trees.from_tar(data)


def tool(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"
    return done.stdout


def test_dockerd_builds_we_load(engine, reference, tmp_path):
    path = str(tmp_path / "theirs.tar")
    reference.docker("save", "-o", path, "theirs:1", "bb:1")
    engine.tare("load", "-i", path)
    assert inspect(engine, "theirs:1") == facts(reference, "theirs:1")
    assert trees.differences(export(engine, "theirs:1"), trees.from_tar(reference.export("theirs:1"))) == ""
    assert engine.tare("run", "--rm", "--network", "none", "theirs:1").stdout == "hello\n"
    history = engine.tare("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "theirs:1").stdout
    assert history == reference.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "theirs:1").stdout.decode()
    # and it goes back as the same image
    reference.docker("rmi", "theirs:1")
    reference.docker("load", input=engine.tare("save", "theirs:1", input=b"").stdout)
    assert inspect(engine, "theirs:1") == facts(reference, "theirs:1")


def test_we_build_dockerd_loads(engine, reference, saved):
    assert b"Loaded image: ours:1" in reference.docker("load", "-i", saved).stdout
    assert facts(reference, "ours:1") == inspect(engine, "ours:1")
    assert trees.differences(export(engine, "ours:1"), trees.from_tar(reference.export("ours:1"))) == ""
    back = reference.docker("save", "ours:1").stdout
    before = inspect(engine, "ours:1")
    engine.tare("tag", "ours:1", "ours:kept")
    engine.tare("image", "rm", "ours:1")
    engine.tare("load", input=back)
    assert inspect(engine, "ours:1") == before


def test_both_builders_make_the_same_tree(engine, reference):
    mine, other = export(engine, "ours:1"), trees.from_tar(reference.export("theirs:1"))
    assert trees.differences(mine, other, "kind", "mode", "owner", "content", "target", "device", "linked") == ""


@pytest.mark.parametrize("kind", ("docker-archive", "oci-archive"))
def test_skopeo_reads_and_writes(engine, saved, tmp_path, kind):
    identifier, layers, _ = inspect(engine, "ours:1")
    read = json.loads(tool("skopeo", "inspect", "--raw", f"{kind}:{saved}"))
    assert read["config"]["digest"] == identifier and len(read["layers"]) == len(layers)
    config = json.loads(tool("skopeo", "inspect", "--config", f"{kind}:{saved}"))
    assert config["rootfs"]["diff_ids"] == layers and config["config"]["Cmd"] == ["cat", "/a/b/c"]
    copy = str(tmp_path / "docker.tar")
    tool("skopeo", "--insecure-policy", "copy", f"{kind}:{saved}", f"docker-archive:{copy}:copied:1")
    assert engine.tare("load", "-i", copy).stdout == "Loaded image: copied:1\n"
    assert inspect(engine, "copied:1")[1] == layers
    engine.tare("image", "rm", "copied:1")
    # an OCI layout has compressed layers, and its name here is only a tag
    copy = str(tmp_path / "oci.tar")
    tool("skopeo", "--insecure-policy", "copy", f"{kind}:{saved}", f"oci-archive:{copy}:copied:2")
    loaded = engine.tare("load", "-i", copy).stdout.splitlines()[-1]
    assert loaded.startswith("Loaded image")
    assert inspect(engine, loaded.split(": ", 1)[1].strip())[1] == layers


def test_podman_loads_and_saves(engine, saved, tmp_path):
    directory = tempfile.mkdtemp(prefix="tare-podman-")  # short: podman takes 50 characters
    podman = ("--root", directory + "/root", "--runroot", directory + "/run", "--storage-driver", "vfs")
    assert "ours:1" in tool("podman", *podman, "load", "-i", saved)
    found = json.loads(tool("podman", *podman, "image", "inspect", "ours:1"))[0]
    assert ("sha256:" + found["Id"], found["RootFS"]["Layers"]) == inspect(engine, "ours:1")[:2]
    for kind in ("docker-archive", "oci-archive"):
        path = str(tmp_path / kind)
        tool("podman", *podman, "tag", "ours:1", f"example.org/podman:{kind}")
        tool("podman", *podman, "save", "--format", kind, "-o", path, f"example.org/podman:{kind}")
        assert engine.tare("load", "-i", path).stdout == f"Loaded image: example.org/podman:{kind}\n"
        assert inspect(engine, f"example.org/podman:{kind}")[1] == found["RootFS"]["Layers"]
        assert engine.tare("run", "--rm", "--network", "none", f"example.org/podman:{kind}").stdout == "hello\n"
        engine.tare("image", "rm", f"example.org/podman:{kind}")
    shutil.rmtree(directory)


def test_archives_of_buildah(engine, tmp_path):
    directory = tempfile.mkdtemp(prefix="tare-buildah-")
    buildah = ("--root", directory + "/root", "--runroot", directory + "/run", "--storage-driver", "vfs")
    made = tool("buildah", *buildah, "from", "scratch").strip()
    tool("buildah", *buildah, "add", made, str(busybox_root()), "/")
    tool("buildah", *buildah, "config", "--cmd", "echo hello", made)
    for kind in ("docker-archive", "oci-archive"):
        path = str(tmp_path / kind)
        tool("buildah", *buildah, "commit", made, f"example.org/buildah:{kind}")
        tool("buildah", *buildah, "push", f"example.org/buildah:{kind}", f"{kind}:{path}:example.org/buildah:{kind}")
        assert engine.tare("load", "-i", path).stdout == f"Loaded image: example.org/buildah:{kind}\n"
        assert engine.tare("run", "--rm", "--network", "none", f"example.org/buildah:{kind}").stdout == "hello\n"
        engine.docker("image", "rm", f"example.org/buildah:{kind}")
    tool("buildah", *buildah, "rm", "--all")
    shutil.rmtree(directory)


def test_save_compress_load(engine, saved, new_engine):
    other = new_engine("--storage-backend", "unpacked").start()
    for compress in (gzip.compress, lambda data: subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout):
        data = engine.tare("save", "ours:1", "bb:1", input=b"").stdout
        assert other.tare("load", input=compress(data)).stdout.decode().splitlines()[-2:] == ["Loaded image: ours:1", "Loaded image: bb:1"]
        for image in ("ours:1", "bb:1"):
            assert inspect(other, image) == inspect(engine, image)
            other.tare("image", "rm", image)
    with open(saved, "rb") as file:
        assert file.read() == engine.tare("save", "ours:1", input=b"").stdout


# ---- image inspect ----


def ask(path, target):
    connection = UnixConnection(path)
    connection.request("GET", target)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def few_fields():
    """What other builders write: nothing that need not be there."""
    data = layer(entry("file", "1"))
    config = {"architecture": "arm64", "variant": "v8", "os": "linux", "os.version": "1.2", "author": "A", "created": "2020-02-02T02:02:02.5Z", "config": {"Cmd": ["x"], "Labels": {"b": "1", "a": "2"}, "StopSignal": "SIGINT"},
              "rootfs": {"type": "layers", "diff_ids": [digest(data)]}, "history": [{"comment": "of the last step"}]}
    bare = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(data)]}}
    manifest = [{"Config": f"{name}.json", "RepoTags": [f"{name}:1"], "Layers": ["l.tar"]} for name in ("few", "bare")]
    return layer(entry("manifest.json", json.dumps(manifest)), entry("few.json", json.dumps(config)), entry("bare.json", json.dumps(bare)), entry("l.tar", data))


def test_every_field_of_inspect(engine, reference):
    """The same members in the same order with the same values, of what dockerd made and of what says little; storage and times are each engine's own."""
    reference.docker("load", input=few_fields())
    engine.tare("load", input=few_fields())
    engine.docker("load", input=reference.docker("save", "theirs:1").stdout)
    own = ("GraphDriver", "Metadata", "Parent")
    for name in ("theirs:1", "few:1", "bare:1"):
        theirs, mine = (ask(path, f"/v1.41/images/{name}/json") for path in (reference.host[7:], engine.socket))
        assert list(mine) == list(theirs)
        for member in set(theirs) - set(own):
            assert mine[member] == theirs[member], member
        assert list(mine["Config"] or []) == list(theirs["Config"] or []) and list(mine["ContainerConfig"]) == list(theirs["ContainerConfig"])
        assert re.match(r"20\d\d-", mine["Metadata"]["LastTagTime"]) and mine["Parent"] == ""
        # what the clients show is that
        for client in (engine.docker, engine.tare):
            shown = json.loads(client("image", "inspect", name, env={"DOCKER_API_VERSION": "1.41"}).stdout)[0]
            assert shown == mine
    few = engine.api("GET", "/v1.51/images/few:1/json").json
    assert (few["Variant"], few["OsVersion"], few["Comment"], few["Config"]) == ("v8", "1.2", "of the last step", {"User": "", "Env": None, "Cmd": ["x"], "Volumes": None, "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": {"a": "2", "b": "1"}, "StopSignal": "SIGINT"})
    assert "Hostname" in engine.api("GET", "/v1.49/images/few:1/json").json["Config"]
    bare = engine.api("GET", "/v1.51/images/bare:1/json").json
    assert (bare["Created"], bare["DockerVersion"], bare["Author"], bare["Comment"]) == ("0001-01-01T00:00:00Z", "", "", "")
    driver = engine.api("GET", "/images/theirs:1/json").json["GraphDriver"]
    paths = [driver["Data"]["Tar"], driver["Data"]["Index"], *driver["Data"]["LowerIndexes"].split(":")]
    assert driver["Name"] == "erofs" and all(os.path.isfile(path) for path in paths) and len(paths) == 1 + len(engine.api("GET", "/images/theirs:1/json").json["RootFS"]["Layers"])
    # made here: who made it, and a name that it never had
    engine.tare("import", str(busybox_root()), "named:1")
    nameless = engine.tare("import", "-m", "nameless", str(busybox_root())).stdout.strip()
    version = engine.api("GET", "/version").json["Version"]
    assert [engine.api("GET", f"/images/{name}/json").json["DockerVersion"] for name in ("named:1", nameless)] == [version] * 2
    assert engine.api("GET", f"/images/{nameless}/json").json["Metadata"] == {"LastTagTime": "0001-01-01T00:00:00Z"}
    engine.tare("tag", nameless, "late:1")
    assert engine.api("GET", "/images/late:1/json").json["Metadata"]["LastTagTime"] > engine.api("GET", "/images/named:1/json").json["Metadata"]["LastTagTime"]
    engine.tare("image", "rm", "named:1", "late:1", "few:1", "bare:1")


# ---- images and what they were made from ----

KIN = 'FROM kin-base:1\nLABEL a=b\nRUN echo x > /x\nCMD ["sh"]\n'


def kin_of(client):
    """A small family: kin:1 over three intermediate images, the base with a name. Ids, the youngest first."""
    client("build", "--network", "none", "-t", "kin:1", "-", input=KIN.encode())
    ids = client("history", "-q", "--no-trunc", "kin:1").split()
    assert len(ids) == 4 and "<missing>" not in ids
    return ids


def family(client, ids):
    """What tells relations: rows of history, parents, who is hidden, and in the end whom a removal takes along and whom it spares."""
    told = [client("history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}", "kin:1")]
    told += [client("image", "inspect", "-f", "{{.Parent}}", one) for one in ids]
    told += [[one in client("image", "ls", *flags, "-q", "--no-trunc").split() for one in ids] for flags in ([], ["-a"], ["-f", "dangling=true"])]
    told += [client("image", "rm", *flags, one) for one in ids[1:] for flags in ([], ["-f"])]
    client("tag", ids[1], "kin:older")
    told += [client("image", "rm", "kin:1"), client("image", "rm", "--no-prune", "kin:older"), client("image", "rm", ids[2]), client("image", "rm", "kin-base:1")]
    return told


def test_parents_go_along(engine, reference, new_engine, tmp_path):
    """Intermediate images that are saved with their child are its parents again after a load, as in Docker, here and there."""
    other = new_engine().start()
    base = shutil.copy(busybox_root(), tmp_path / "base.tar")
    with tarfile.open(base, "a") as archive:  # a layer that no other image has
        member(archive, "kin", b"kin")

    def teller(run, **options):
        def tell(*arguments, input=b""):
            done = run(*arguments, input=input, check=False, **options)
            return (done.stdout + done.stderr).decode()
        return tell

    ours, theirs, second = teller(engine.tare), teller(reference.docker), teller(other.docker)
    for source, save, targets in ((theirs, reference.docker, (second,)), (ours, engine.tare, (theirs, second))):
        source("import", str(base), "kin-base:1")
        ids = kin_of(source)
        data = save("save", "kin:1", *ids[1:3], "kin-base:1", input=b"").stdout
        alone = save("save", "kin:1", "kin-base:1", input=b"").stdout
        before = family(source, ids)
        assert f"conflict: unable to delete {ids[2][7:19]} (cannot be forced) - image has dependent child images" in before[11]
        for target in targets:
            assert "Loaded image: kin:1\n" in target("load", input=data)
            assert family(target, ids) == before
            # who is not in the archive is no parent
            target("load", input=alone)
            assert target("history", "-q", "--no-trunc", "kin:1").split() == [ids[0]] + ["<missing>"] * 3
            target("image", "rm", "kin:1", "kin-base:1")


def test_parents_in_our_archives(engine, tmp_path):
    """The same bytes each time, and an OCI layout like any."""
    engine.tare("import", str(busybox_root()), "kin-base:1")
    ids = kin_of(lambda *arguments, input=b"": engine.tare(*arguments, input=input).stdout.decode())
    path = tmp_path / "kin.tar"
    engine.tare("save", "-o", str(path), "kin:1", *ids[1:])
    assert engine.tare("save", "kin:1", *ids[1:], input=b"").stdout == path.read_bytes()
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))
        members = archive.getnames()
    assert [entry.get("Parent") for entry in manifest] == ids[1:] + [None]
    assert all(list(entry)[:3] == ["Config", "RepoTags", "Layers"] for entry in manifest) and len(members) == len(set(members))
    for source in (f"oci-archive:{path}:1", f"docker-archive:{path}:kin:1"):
        assert json.loads(tool("skopeo", "inspect", "--raw", source))["config"]["digest"] == ids[0]
    engine.tare("image", "rm", "kin:1", "kin-base:1")


def related(parents, **changes):
    """An archive of images, each one step over the one before, with these Parents: text, a number of one of them, or whatever it is."""
    documents, layers, manifest = [], [], []
    for number in range(3):
        layers.append(layer(entry(f"file{number}", str(number))))
        steps = [{"created": f"2020-01-0{one + 1}T00:00:00Z", "created_by": f"step {one}"} for one in range(number + 1)]
        documents.append({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]}, "history": steps, **changes.get(f"image{number}", {})})
    texts = [json.dumps(one) for one in documents]
    ids = [digest(one.encode()) for one in texts]
    for number, document in enumerate(documents):
        own = {"Config": f"{number}.json", "RepoTags": [f"related:{number}"], "Layers": [f"{one}.tar" for one in range(len(document["rootfs"]["diff_ids"]))]}
        if number in parents:
            own["Parent"] = ids[parents[number]] if type(parents[number]) is int else parents[number]
        manifest.append(own)
    members = [entry(f"{number}.json", text) for number, text in enumerate(texts)] + [entry(f"{number}.tar", data) for number, data in enumerate(layers)]
    return layer(entry("manifest.json", json.dumps(manifest)), *members), ids


def test_parents_that_cannot_be(engine, reference):
    """What Docker passes over is passed over; a parent from which the child cannot have been made is refused, and so is a circle, which Docker takes."""
    none = {"history": []}
    same = {"rootfs": {"type": "layers", "diff_ids": [digest(layer(entry("file0", "0")))]}}
    cases = (
        ({1: 0, 2: 1}, {}, ["", 0, 1]), ({0: "", 1: None}, {}, ["", "", ""]), ({1: 1, 0: 0}, {}, ["", "", ""]), ({1: "sha256:" + "1" * 64, 2: "x"}, {}, ["", "", ""]),
        ({2: 1, 1: 0}, {f"image{one}": none for one in range(3)}, ["", 0, 1]),
        ({2: 0}, {}, (2, 0)), ({0: 1}, {}, (0, 1)), ({1: 0}, {"image1": none}, (1, 0)), ({1: 0}, {"image1": {"history": [{"created_by": "another"}, {}]}}, (1, 0)),
    )
    ours = (  # a step that adds no layer; a circle; a child over fewer layers
        ({1: 0}, {"image0": {**none, **same}, "image1": {**none, "author": "b", **same}, "image2": none}, ["", 0, ""]),
        ({1: 0, 0: 1}, {"image0": {**none, "author": "a", **same}, "image1": {**none, "author": "b", **same}, "image2": none}, (1, 0)),
        ({0: 1}, {f"image{one}": none for one in range(3)}, (0, 1)),
    )
    names = [f"related:{number}" for number in (2, 1, 0)]
    for number, (parents, changes, expected) in enumerate(cases + ours):
        data, ids = related(parents, **changes)
        for client in [(engine.tare, engine.docker)[number % 2]] + [reference.docker] * (number < len(cases)):
            done = client("load", input=data, check=False)
            if type(expected) is list:
                assert done.returncode == 0 and done.stdout.decode() == "".join(f"Loaded image: {name}\n" for name in names[::-1]), (parents, done)
                found = client("image", "inspect", "-f", "{{.Parent}}", *names[::-1], input=b"").stdout.decode()
                assert found.splitlines() == [one if one == "" else ids[one] for one in expected]
            else:
                child, parent = expected
                assert done.returncode == 1 and f"image {ids[parent]} is not a valid parent for {ids[child]}\n" in done.stderr.decode(), (parents, done)
            client("image", "rm", "-f", *names, check=type(expected) is list)  # of what is refused all or some is there
    for value in (5.5, ["x"], {}):
        refused = engine.tare("load", input=related({1: value})[0], check=False)
        assert refused.returncode == 1 and b"invalid manifest.json: the Parent of image 1 is not a string\n" in refused.stderr
    assert "related" not in engine.tare("image", "ls", "-a").stdout


# ---- what Docker 1.9 and older wrote ----


def member(archive, name, content=None):
    info = tarfile.TarInfo(name)
    info.mtime = 1445472120
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    else:
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def old_layer(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member(archive, name, content)
    return out.getvalue()


def old_archive(names, **members):
    """Byte for byte what `docker save` of version 1.9.1 made of an image of three steps: each has a directory of its own. members: of the last one; the others have none of them."""
    steps = (
        (old_layer(first=b"1\n"), {"Cmd": ["/bin/sh", "-c", "#(nop) ADD file:a in /"]}, None),
        (old_layer(), {"Cmd": ["/bin/sh", "-c", '#(nop) CMD ["cat" "/second"]']}, "a <b> & \"c\""),
        (old_layer(second=b"2\n", first=b"1a\n"), {"Cmd": ["/bin/sh", "-c", "echo 2 > /second"]}, None),
    )
    out, parent = io.BytesIO(), None
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (data, container, comment) in enumerate(steps):
            own = hashlib.sha256(data + f"{number}{sorted(members.items()) or str()}".encode()).hexdigest()
            config = {"Hostname": "03cbb2b8e5e6", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False,
                      "Env": ["PATH=/bin"], "Cmd": ["cat", "/second"], "Image": parent or "", "Volumes": None, "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": {}}
            document = {"id": own, "parent": parent, "created": f"2015-10-22T00:0{number}:00.5Z", "comment": comment, "container": "9" * 64, "container_config": {**config, **container},
                        "docker_version": "1.9.1", "author": "Somebody <a@b.c>" if number else None, "config": config, "architecture": "amd64", "os": "linux", "Size": len(data)}
            document.update(members if number == len(steps) - 1 else dict.fromkeys(members))
            member(archive, f"{own}/")
            member(archive, f"{own}/VERSION", b"1.0")
            member(archive, f"{own}/json", json.dumps({k: v for k, v in document.items() if v is not None}, separators=(",", ":")).encode())
            member(archive, f"{own}/layer.tar", data)
            parent = own
        repositories = {}
        for name in names:
            repositories.setdefault(name.rsplit(":", 1)[0], {})[name.rsplit(":", 1)[1]] = parent
        member(archive, "repositories", json.dumps(repositories).encode() + b"\n")
    return out.getvalue()


def test_archives_of_docker_1_9(engine, reference):
    data = old_archive(["old:1", "example.org/old:x"])
    assert sorted(engine.tare("load", input=data).stdout.decode().splitlines()) == ["Loaded image: example.org/old:x", "Loaded image: old:1"]
    reference.docker("load", input=data)
    assert inspect(engine, "old:1") == facts(reference, "old:1")
    form = ("history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Comment}}|{{.Size}}", "old:1")
    assert engine.tare(*form).stdout == reference.docker(*form).stdout.decode()
    files = trees.from_tar(reference.export("old:1"))
    assert trees.differences(export(engine, "old:1"), files, "kind", "mode", "owner", "content") == ""
    # again is the same, and it goes on as a new one
    engine.tare("load", input=bz2.compress(data))
    engine.tare("image", "rm", "example.org/old:x")
    assert inspect(engine, "old:1") == facts(reference, "old:1")
    engine.tare("image", "rm", "old:1")
    assert "Somebody" not in json.dumps(engine.api("GET", "/images/json?all=1").json)
    bad = engine.tare("load", input=old_archive([]).replace(b"2015-10-22T00:00", b"{015-10-22T00:00", 1).replace(b'"linux"', b'"plan9"', 1), check=False)
    assert bad.returncode == 1 and b"cannot load plan9 image on linux" in bad.stderr


def test_platforms_of_docker_1_9(engine):
    """--platform chooses among these, too."""
    data = old_archive(["old:arm"], architecture="arm64", variant="v8")
    for program in (engine.tare, engine.docker) if NEWER_DOCKER else (engine.tare,):  # older ones have no such flag
        for given in ("linux/amd64", "linux/arm/v7"):
            refused = program("load", "--platform", given, input=data, check=False)
            assert (refused.returncode, refused.stderr.decode()) == (1, f"Error response from daemon: no images providing the requested platform(s) found: [{given}]\n")
        assert engine.tare("image", "ls", "-aq", "old").stdout == ""
        for given in ("linux/arm64", "arm64"):
            assert program("load", "--platform", given, input=data).stdout == b"Loaded image: old:arm\n"
        assert len(engine.tare("history", "-q", "old:arm").stdout.split()) == 3 and "<missing>" not in engine.tare("history", "-q", "old:arm").stdout
        engine.tare("image", "rm", "old:arm")
    # of two in one archive the one that is meant, with the layers below it, which need not say for what they are
    out, repositories = io.BytesIO(), {}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as both:
        for one in (data, old_archive(["old:here"])):
            with tarfile.open(fileobj=io.BytesIO(one)) as archive:
                repositories.update(json.load(archive.extractfile("repositories"))["old"])
                for info in archive.getmembers():
                    if info.name != "repositories":
                        member(both, info.name, archive.extractfile(info).read() if info.isfile() else None)
        member(both, "repositories", json.dumps({"old": repositories}).encode())
    for given, tag in (("linux/arm64", "arm"), ("linux/amd64", "here")):
        assert engine.tare("load", "--platform", given, input=out.getvalue()).stdout.decode() == f"Loaded image: old:{tag}\n"
        assert engine.tare("image", "ls", "old", "--format", "{{.Tag}}").stdout == f"{tag}\n"
        engine.tare("image", "rm", f"old:{tag}")
    assert sorted(engine.tare("load", input=out.getvalue()).stdout.decode().splitlines()) == ["Loaded image: old:arm", "Loaded image: old:here"]
    engine.tare("image", "rm", "old:arm", "old:here")


def test_names_move_and_it_is_said(engine, reference):
    one, two = old_archive(["moved:1"]), old_archive(["moved:1"]).replace(b"Somebody", b"Nobodies")
    for load, image in ((lambda data: engine.tare("load", input=data).stdout.decode(), lambda: inspect(engine, "moved:1")[0]), (lambda data: reference.docker("load", input=data).stdout.decode(), lambda: facts(reference, "moved:1")[0])):
        load(one)
        before = image()
        assert f"The image moved:1 already exists, renaming the old one with ID {before} to empty string\n" in load(two)
        assert image() != before
    for line in engine.tare("image", "ls", "-aq", "-f", "dangling=true").stdout.split():
        engine.tare("image", "rm", "-f", line, check=False)


def test_all_compressions(engine, saved):
    with open(saved, "rb") as file:
        plain = file.read()
    identifier = inspect(engine, "ours:1")[0]
    programs = {"gzip": gzip.compress(plain, 1), "bzip2": bz2.compress(plain, 1), "xz": lzma.compress(plain, preset=0), "zstd": subprocess.run(["zstd", "-c"], input=plain, capture_output=True, check=True).stdout}
    for name, data in {"none": plain, **programs}.items():
        engine.tare("image", "rm", "-f", "ours:1")
        assert engine.tare("load", input=data).stdout == b"Loaded image: ours:1\n", name
        assert inspect(engine, "ours:1")[0] == identifier


# ---- commit, diff, export ----

BEFORE = "mkdir -p /a/b/c /r/s /o/p; echo 1 > /a/b/c/f; echo 2 > /a/b/g; echo 3 > /o/p/q; echo 4 > /o/r; ln /a/b/g /a/h; touch -d 2001-01-01 /a/b /a; echo w > /same"
CHANGING = """echo changed > /a/b/c/f; rm /a/b/g; mkdir -p /new/x; echo 1 > /new/x/y; echo >> /etc/passwd; mkdir /a/b/c/d; mv /r /moved; rm -rf /o; mkdir -p /o/p; echo 5 > /o/p/new
: >> /same; touch /root; chmod 700 /tmp; ln /a/h /a/i; rm -rf /bin/vi; mkdir /bin/vi; mkfifo /fifo; ln -s x /link; rm -f /bin/awk; echo > /bin/awk; echo > /vol/x; echo > /bound/y
dd if=/dev/zero of=/sparse bs=1 count=1 seek=5G 2>/dev/null"""


def changed_container(run, folder):
    run("run", "--network", "none", "--name", "changing", "bb:1", "sh", "-c", BEFORE)
    run("commit", "changing", "changed:1")
    run("run", "--network", "none", "--name", "changed", "-v", "/vol", "-v", f"{folder}:/bound", "changed:1", "sh", "-c", CHANGING)


def test_diff_commit_and_export(engine, reference, tmp_path):
    """What a container changed, as docker sees it too; volumes, binds and the holes of a sparse file enter nothing."""
    ours = lambda *arguments: engine.tare(*arguments).stdout
    theirs = lambda *arguments: reference.docker(*arguments).stdout.decode()
    for run in (ours, theirs):
        changed_container(run, tmp_path)
    assert sorted(ours("diff", "changed").splitlines()) == sorted(theirs("diff", "changed").splitlines())
    assert sorted(engine.docker("diff", "changed").stdout.splitlines()) == sorted(ours("diff", "changed").splitlines())
    assert re.fullmatch("sha256:[0-9a-f]{64}\n", ours("commit", "-a", "A <a@b>", "-m", "第一", "-c", 'ENV X="y z"', "-c", 'CMD ["true"]', "-p", "changed", "changed:2"))
    found = json.loads(ours("image", "inspect", "changed:2"))[0]
    assert (found["Author"], found["Comment"], found["Config"]["Cmd"]) == ("A <a@b>", "第一", ["true"]) and "X=y z" in found["Config"]["Env"]
    layers = [json.loads(ours("image", "inspect", image))[0]["RootFS"]["Layers"] for image in ("changed:1", "changed:2")]
    assert layers[1][:-1] == layers[0]
    tar = os.path.join(engine.data_root, "layers", "sha256", layers[1][-1][7:] + ".tar")
    assert os.stat(tar).st_size < 1_000_000, "the holes of a sparse file are not in the layer"
    with tarfile.open(tar) as archive:
        names = set(archive.getnames())
    assert {"a/b/.wh.g", ".wh.r", "o/.wh..wh..opq", "sparse", "link", "fifo"} <= {name.removeprefix("./").replace("GNUSparseFile.0/", "") for name in names}
    assert {name for name in names if name.startswith(("vol/", "bound/"))} <= {"vol/.wh..wh..opq", "bound/.wh..wh..opq"}
    check = "stat -c %s /sparse; cat /o/p/new; ls /o /o/p /vol /bound; ls -d /r /a/b/g; stat -c %h /a/i"
    shown = engine.tare("run", "--rm", "--network", "none", "changed:2", "sh", "-c", check, check=False)
    assert shown.stdout.splitlines() == [str(5 * 1024**3 + 1), "5", "/bound:", "", "/o:", "p", "", "/o/p:", "new", "", "/vol:", "2"], shown.stdout
    engine.tare("rm", "changing", "changed")
    nameless = engine.tare("create", "changed:1", "true").stdout.strip()
    dangling = ours("commit", nameless).strip()
    assert dangling in ours("image", "ls", "-q", "--no-trunc", "-f", "dangling=true")
    engine.tare("rm", nameless)
    engine.tare("image", "rm", dangling, "changed:2", "changed:1")


def test_export_is_the_whole_tree(engine, reference, tmp_path):
    script = BEFORE + "; " + CHANGING.replace("seek=5G", "seek=5M")
    for run in (lambda *arguments: engine.tare(*arguments), lambda *arguments: reference.docker(*arguments)):
        run("run", "--network", "none", "--name", "whole", "-v", "/vol", "-v", f"{tmp_path}:/bound", "bb:1", "sh", "-c", script)
    path = str(tmp_path / "whole.tar")
    engine.tare("export", "-o", path, "whole")
    with open(path, "rb") as file:
        mine = trees.from_tar(file.read())
    other = trees.from_tar(reference.docker("export", "whole").stdout)
    assert trees.differences(mine, other, "kind", "mode", "owner", "content", "target", "linked") == ""
    assert engine.tare("export", "whole", input=b"").stdout == open(path, "rb").read()
    engine.tare("rm", "-v", "whole")
