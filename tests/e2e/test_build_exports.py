"""What leaves a build beside its image: one squashed layer, images for several platforms, pushes, metadata, and caches in registries and directories."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import warnings

import pytest

from conftest import finish, make_engine, program_directory
from inputs import arm_busybox_root, busybox_root

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import docker


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


# ---- --platform ----

BINFMT = "/proc/sys/fs/binfmt_misc"
AARCH64 = "\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff"


@pytest.fixture(scope="module")
def emulator():
    """Debian's qemu for arm64, by a handler that only this process knows the name of."""
    if not os.path.exists(f"{BINFMT}/register"):
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
    name = f"tare-test-{os.environ['TARE_BUILD']}-{os.getpid()}"
    with open(f"{BINFMT}/register", "w", encoding="ascii") as file:
        file.write(f":{name}:M:0:{AARCH64}:/usr/bin/qemu-aarch64-static:POCF")
    yield
    with open(f"{BINFMT}/{name}", "w", encoding="ascii") as file:
        file.write("-1")


@pytest.fixture(scope="module")
def platforms(engine, tmp_path_factory):
    """mb:1 for amd64 and arm64, as a registry or an archive has it: one name here, the other by its id."""
    engine.tare("import", "--platform", "linux/arm64", str(arm_busybox_root()), "arm:1")
    context = write(tmp_path_factory.mktemp("platforms") / "context", Dockerfile=PLATFORMS, x="x")
    return context


PLATFORMS = """ARG TARGETARCH
FROM --platform=$BUILDPLATFORM bb:1 AS cross
ARG TARGETPLATFORM BUILDPLATFORM
RUN echo "$BUILDPLATFORM builds for $TARGETPLATFORM" > /cross
FROM bb:1 AS base-amd64
FROM arm:1 AS base-arm64
FROM base-${TARGETARCH}
COPY --from=cross /cross /
RUN uname -m > /machine
CMD cat /cross /machine
"""


@pytest.mark.parametrize("client", ["tare", "docker"])
def test_a_platform_that_is_emulated(engine, platforms, emulator, client):
    build(engine, platforms, "-t", "p:native", client=client)
    build(engine, platforms, "-t", "p:arm", "--platform", "linux/arm64", client=client)
    for tag, architecture, machine in (("native", "amd64", "x86_64"), ("arm", "arm64", "aarch64")):
        assert inspect(engine, f"p:{tag}")["Architecture"] == architecture
        assert engine.tare("run", "--rm", "--network", "none", f"p:{tag}").stdout == f"linux/amd64 builds for linux/{architecture}\n{machine}\n"


def test_a_base_for_another_platform_is_not_taken(engine, tmp_path):
    engine.tare("import", "--platform", "linux/arm64", str(arm_busybox_root()), "arm:1")
    context = write(tmp_path / "context", Dockerfile="FROM --platform=linux/arm64 bb:1\n")
    for client in ("tare", "docker"):
        refused = build(engine, context, client=client, check=False)
        assert refused.returncode == 1
        assert "image with reference bb:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64" in refused.stderr
    write(context, Dockerfile="FROM --platform=linux/arm64 arm:1\nFROM --platform=linux/amd64 bb:1\n")
    build(engine, context)


def test_programs_that_nothing_here_runs(engine, tmp_path):
    """No emulator is there for it: the text says what is missing."""
    with tarfile.open(busybox_root()) as root, tarfile.open(tmp_path / "other.tar", "w") as other:
        for info in root:
            data = bytearray(root.extractfile(info).read()) if info.isreg() else None
            if info.name == "./bin/busybox":
                data[18:20] = b"\x16\x00"  # EM_S390
            other.addfile(info, io.BytesIO(data) if data is not None else None)
    engine.tare("import", "--platform", "linux/s390x", str(tmp_path / "other.tar"), "other:1")
    context = write(tmp_path / "context", Dockerfile="FROM other:1\nRUN true\n")
    for client in ("tare", "docker"):
        failed = build(engine, context, client=client, check=False)
        assert failed.returncode != 0
        assert "exec format error" in failed.stderr + failed.stdout
        assert "the image is for linux/s390x and this machine for linux/amd64, and binfmt_misc has no emulator for it" in failed.stderr, failed.stderr


def archived(path):
    """(index.json, blobs by digest) of an OCI archive: a path, or its bytes."""
    with tarfile.open(fileobj=io.BytesIO(path)) if isinstance(path, bytes) else tarfile.open(path) as tar:
        blobs = {name.split("/")[-1]: tar.extractfile(name).read() for name in tar.getnames() if name.startswith("blobs/sha256/")}
        return json.load(tar.extractfile("index.json")), blobs


def test_one_image_for_several_platforms(engine, platforms, emulator, tmp_path):
    path = tmp_path / "multi.tar"
    build(engine, platforms, "--platform", "linux/amd64,linux/arm64", "-t", "multi:1", "--output", f"type=oci,dest={path}", "--iidfile", tmp_path / "id", "--metadata-file", tmp_path / "meta")
    index, blobs = archived(path)
    digest = index["manifests"][0]["digest"]  # as buildx: the index's, not one platform's
    assert (tmp_path / "id").read_text() == digest == json.loads((tmp_path / "meta").read_text())["containerimage.digest"]
    inner = json.loads(blobs[index["manifests"][0]["digest"][7:]])
    assert inner["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [manifest["platform"]["architecture"] for manifest in inner["manifests"]] == ["amd64", "arm64"]
    for manifest in inner["manifests"]:
        config = json.loads(blobs[json.loads(blobs[manifest["digest"][7:]])["config"]["digest"][7:]])
        assert config["architecture"] == manifest["platform"]["architecture"]
    # others read it, and we: each takes its platform's
    subprocess.run(["skopeo", "inspect", "--override-arch", "arm64", f"oci-archive:{path}"], check=True, capture_output=True)
    other = make_engine().start()
    try:
        assert "Loaded image: multi:1" in other.tare("load", "-i", str(path)).stdout
        assert inspect(other, "multi:1")["Architecture"] == "amd64"
    finally:
        finish(other)
    build(engine, platforms, "--platform", "linux/amd64,linux/arm64", "-o", tmp_path / "files")
    assert sorted(os.listdir(tmp_path / "files")) == ["linux_amd64", "linux_arm64"]
    assert (tmp_path / "files" / "linux_arm64" / "machine").read_text() == "aarch64\n"
    for flags, text in (([], "an image for several platforms needs a place to go"), (["-o", f"type=docker,dest={path}"], "docker exporter does not currently support exporting manifest lists"),
                        (["-o", f"type=tar,dest={path}"], "several platforms make no single tar")):
        assert text in build(engine, platforms, "--platform", "linux/amd64,linux/arm64", *flags, check=False).stderr
    from_stdin = engine.tare("build", "--network", "none", "--platform", "linux/amd64,linux/arm64", "-o", f"type=oci,dest={path}", "-", input="FROM scratch\nLABEL a=b\n", check=False)
    assert "several platforms need a context that can be read more than once" in from_stdin.stderr


def length_of(archive):
    """Where the last member ends, and the zeros after it."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    return end + len(archive[end:]) - len(archive[end:].lstrip(b"\0"))


FACES = {"by itself": ([], {}), "classic": ([], {"DOCKER_BUILDKIT": "0"}), "plain": (["--progress", "plain"], {}), "raw": (["--progress", "rawjson"], {}),
         "no face": (["--progress", "quiet"], {}), "quiet": (["-q"], {})}  # fmt: skip


@pytest.mark.parametrize("face", FACES)
def test_an_archive_on_stdout_and_nothing_else(engine, registry, platforms, emulator, tmp_path, face):
    """Whatever is told of a build, and of a base that is pulled for it: the archive alone goes to stdout."""
    flags, environment = FACES[face]
    base = f"{registry.host}/stdout/{face.replace(' ', '-')}:1"
    engine.tare("tag", "bb:1", base)
    engine.tare("push", "-q", base)
    context = write(tmp_path / "context", Dockerfile=PLATFORMS.replace("bb:1", base), x="x")

    def run(*arguments, status=0):
        engine.tare("rmi", base, check=False)
        command = [os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "none", "--no-cache", *flags, *map(str, arguments), context]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env={"PATH": os.environ["PATH"], "HOME": engine.directory, **environment})
        assert ran.returncode == status and ran.stderr, ran
        return ran.stdout, ran.stderr.decode()

    both = ["--platform", "linux/amd64,linux/arm64"]
    archive, said = run(*both, "-t", "stdout:1", "--iidfile", tmp_path / "id", "-o", "type=oci,dest=-")
    assert length_of(archive) == len(archive)
    index, blobs = archived(archive)
    assert [manifest["digest"] for manifest in index["manifests"]] == [(tmp_path / "id").read_text()]
    inner = json.loads(blobs[index["manifests"][0]["digest"][7:]])
    assert [manifest["platform"]["architecture"] for manifest in inner["manifests"]] == ["amd64", "arm64"]
    assert all(hashlib.sha256(blob).hexdigest() == name for name, blob in blobs.items())
    if face in ("no face", "quiet"):  # the ids, as ever, but not there
        assert said.split() == [json.loads(blobs[manifest["digest"][7:]])["config"]["digest"] for manifest in inner["manifests"]]
    # one platform: the image, or its files; beside it another output, and a push
    for output, member in (("type=oci,dest=-", "oci-layout"), ("type=docker,dest=-", "manifest.json"), ("type=tar,dest=-", "machine"), ("-", "machine")):
        archive, _ = run("-t", f"{registry.host}/stdout/made:1", "-o", output, "-o", f"type=local,dest={tmp_path}/files", "--push")
        assert length_of(archive) == len(archive)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            assert member in tar.getnames()
    # where it fails nothing goes there
    for arguments, text in (([*both, "-o", "type=tar,dest=-"], "several platforms make no single tar of files"), ([*both, "-o", "type=docker,dest=-"], "exporting manifest lists"),
                            (["-o", "type=tar,dest=-", "-o", "-"], "only one output can go to stdout"), (["-o", "-", "--target", "none"], "failed to reach build target none")):
        out, said = run(*arguments, status=1)
        assert out == b"" and text in said, (arguments, out[:1000], said)


@pytest.mark.parametrize("flags", [["--push"], ["--output", "type=image,push=true"], ["--output", "type=registry"]])
def test_push_of_what_was_built(engine, registry, platforms, emulator, tmp_path, flags):
    name = f"{registry.host}/built:{len(flags)}{flags[-1][-3:]}"
    build(engine, platforms, "-t", name, "--metadata-file", tmp_path / "meta", "--iidfile", tmp_path / "id", *flags)
    repository, tag = name.split("/", 1)[1].split(":")
    body, kind = registry.manifest(repository, tag)
    meta = json.loads((tmp_path / "meta").read_text())
    assert meta["containerimage.digest"] == "sha256:" + hashlib.sha256(body).hexdigest() == (tmp_path / "id").read_text()
    assert meta["containerimage.config.digest"] == json.loads(body)["config"]["digest"] == inspect(engine, name)["Id"]
    assert meta["containerimage.descriptor"]["size"] == len(body) and meta["containerimage.descriptor"]["mediaType"] == kind and meta["image.name"] == name
    # several platforms: a list under the name
    build(engine, platforms, "-t", name, "--platform", "linux/amd64,linux/arm64", "--metadata-file", tmp_path / "meta", "--iidfile", tmp_path / "id", *flags)
    body, kind = registry.manifest(repository, tag)
    found = json.loads(body)
    assert kind == found["mediaType"] and [entry["platform"]["architecture"] for entry in found["manifests"]] == ["amd64", "arm64"]
    assert json.loads((tmp_path / "meta").read_text())["containerimage.digest"] == "sha256:" + hashlib.sha256(body).hexdigest() == (tmp_path / "id").read_text()
    tags = f"{registry.directory}/store/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/index/sha256"
    assert len(os.listdir(tags)) == 2, "the one image of before, and the list: no platform had the name in between"
    assert inspect(engine, name)["Architecture"] == "amd64"
    raw = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--override-arch", "arm64", "--config", f"docker://{name}"], check=True, capture_output=True).stdout
    assert json.loads(raw)["architecture"] == "arm64"


def test_push_without_a_name(engine, platforms):
    assert "tag is needed when pushing to registry" in build(engine, platforms, "--push", check=False).stderr


# ---- caches in registries and directories ----


@pytest.mark.parametrize("way", ["registry", "inline", "local"])
def test_caches_that_travel_without_an_image(engine, registry, tmp_path, way):
    """Another engine, which has the base alone, takes the steps over."""
    name = f"{registry.host}/cache:{way}"
    context = write(tmp_path / "context", Dockerfile="FROM bb:1\nARG a=1\nRUN cat /proc/sys/kernel/random/uuid > /random\nCOPY f /f\nENV x=y\nRUN cat /f >> /random\n", f=way)
    to, source = {"registry": ([f"type=registry,ref={name},mode=max"], f"type=registry,ref={name}"), "inline": (["type=inline"], name),
                  "local": ([f"type=local,dest={tmp_path}/cache"], f"type=local,src={tmp_path}/cache")}[way]
    build(engine, context, "-t", name if way == "inline" else "travel:1", "--cache-to", *to, *(["--push"] if way == "inline" else []))
    names = engine.tare("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert (name in names) == (way == "inline"), "a cache's name stays no image's"
    random = engine.tare("run", "--rm", "--network", "none", name if way == "inline" else "travel:1", "cat", "/random").stdout
    engine.tare("save", "-o", str(tmp_path / "base.tar"), "bb:1")
    other = make_engine().start()
    try:
        other.tare("load", "-i", str(tmp_path / "base.tar"))
        out = build(other, context, "-t", "mine:1", "--cache-from", source).stdout
        assert out.count("Using cache") == 5 and "Running in" not in out, out
        assert other.tare("run", "--rm", "--network", "none", "mine:1", "cat", "/random").stdout == random
        write(context, f="changed")
        assert build(other, context, "--cache-from", source).stdout.count("Using cache") == 2
    finally:
        finish(other)
    for bad, text in (("type=nosuch", "unknown cache exporter"), ("type=local", "unknown cache exporter")):
        assert text in build(engine, context, "--cache-to", bad, check=False).stderr


STAGES = """FROM bb:1 AS one
COPY f /f
RUN cat /proc/sys/kernel/random/uuid > /one
FROM bb:1 AS two
RUN cat /proc/sys/kernel/random/uuid > /two
FROM bb:1 AS unused
RUN false
FROM bb:1
COPY --from=one /one /
COPY --from=two /two /
"""


@pytest.mark.parametrize("way", ["registry", "local"])
def test_a_cache_of_all_stages(engine, registry, tmp_path, way):
    """mode=max brings the steps of every stage to another engine, also from a quiet build; mode=min those of the result."""
    context = write(tmp_path / "context", Dockerfile=STAGES, f=way)
    to, source = {"registry": (f"type=registry,ref={registry.host}/stages:{{}},mode={{}}", f"type=registry,ref={registry.host}/stages:{{}}"),
                  "local": (f"type=local,dest={tmp_path}/{{}},mode={{}}", f"type=local,src={tmp_path}/{{}}")}[way]
    out = build(engine, context, "-q", "-t", f"stages:{way}", "--cache-to", to.format("max", "max"), "--cache-to", to.format("min", "min")).stdout
    assert out.strip() == inspect(engine, f"stages:{way}")["Id"]
    wanted = engine.tare("run", "--rm", "--network", "none", f"stages:{way}", "cat", "/one", "/two").stdout
    engine.tare("save", "-o", str(tmp_path / "base.tar"), "bb:1")
    for mode, steps in (("min", 0), ("max", 3)):
        other = make_engine().start()
        try:
            other.tare("load", "-i", str(tmp_path / "base.tar"))
            out = build(other, context, "-t", "mine:1", "--cache-from", source.format(mode)).stdout
            assert out.count("Using cache") == steps and (mode == "min") == ("Running in" in out), out
            assert (other.tare("run", "--rm", "--network", "none", "mine:1", "cat", "/one", "/two").stdout == wanted) == (mode == "max")
        finally:
            finish(other)
    if way == "registry":  # as an image the cache is the result
        engine.tare("pull", "-q", f"{registry.host}/stages:max")
        assert inspect(engine, f"{registry.host}/stages:max")["Id"] == inspect(engine, f"stages:{way}")["Id"]
    assert "unknown cache mode most" in build(engine, context, "--cache-to", to.format("most", "most"), check=False).stderr


def test_cache_mounts_travel_by_name(engine, tmp_path):
    """What RUN --mount=type=cache gathered goes to another engine's cache of the same name; no stranger's path leads out of it."""
    context = write(tmp_path / "context", Dockerfile="FROM bb:1\nARG n\nRUN --mount=type=cache,id=gathered,target=/c mkdir -p /c/d && echo $n >> /c/d/list && ln -sf d/list /c/link && chmod 700 /c/d && "
                    "chown 5:6 /c/d/list && cp /c/link /seen && stat -c '%a %u:%g' /c/d/list /c/d > /modes\n")
    file = tmp_path / "gathered.tar"
    build(engine, context, "--build-arg", "n=first", "--cache-to", f"type=mount,id=gathered,dest={file}")
    with tarfile.open(file) as tar:
        assert {"d", "d/list", "link"} <= {name.strip("./") for name in tar.getnames()}
    other = make_engine().start()
    try:
        other.tare("import", str(busybox_root()), "bb:1")
        build(other, context, "-t", "seen:1", "--build-arg", "n=second", "--cache-from", f"type=mount,id=gathered,src={file}", "--cache-from", f"type=mount,id=none,src={tmp_path}/nothing")
        assert other.tare("run", "--rm", "--network", "none", "seen:1", "cat", "/seen", "/modes").stdout == "first\nsecond\n644 5:6\n700 0:0\n"
        # hostile: a link that leads out, and something below it
        with tarfile.open(file, "w") as tar:
            out = tarfile.TarInfo("out")
            out.type, out.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(out)
            tar.addfile(tarfile.TarInfo("out/escaped"))
        other.api("POST", "/build/caches?id=gathered", file.read_bytes())
        assert not (tmp_path / "escaped").exists()
        assert other.api("POST", "/build/caches?id=gathered", b"no tar" * 1000).status == 400
        assert other.api("GET", "/build/caches?id=nosuch").status == 404 and other.api("GET", "/build/caches").status == 400
        other.tare("builder", "prune", "-a", "-f")
    finally:
        finish(other)
