"""Layers and archives as nobody's packer makes them: what they mean is what dockerd says; what is hostile is refused or harmless, and leaves nothing."""

import bz2
import gzip
import lzma
import os
import subprocess
import tarfile

import pytest

import trees
from archives import digest, docker_archive, entry, layer
from conftest import finish, make_engine
from dockerd import running_dockerd
from inputs import busybox_root

BACKENDS = ("detached", "attached", "loop", "unpacked")
BUSYBOX = busybox_root().read_bytes()


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request):
    running = make_engine("--storage-backend", request.param).start()
    yield running
    finish(running)


@pytest.fixture(scope="module")
def reference():
    with running_dockerd() as running:
        yield running


def run(engine, image, script, *flags, check=True):
    return engine.tare("run", "--rm", "--network", "none", *flags, image, "sh", "-c", script, check=check)


def export(engine, image):
    container = engine.tare("create", image, "x").stdout.strip()
    data = engine.tare("export", container, input=b"").stdout
    engine.tare("rm", container)
    return trees.from_tar(data)


def stored(engine):
    return sorted(os.listdir(os.path.join(engine.data_root, "layers", "sha256")))


# ---- what images of several layers mean ----

BASE_A = layer(entry("shared", mode=0o700, owner=(1, 2), mtime=1400000001), entry("shared/dir", mode=0o2711, owner=(3, 4), mtime=1400000002, pax={"SCHILY.xattr.user.base": "a"}), entry("shared/old", "a"),
               entry("target", "linked from above, a"))
BASE_B = layer(entry("shared", mode=0o1777, owner=(5, 6), mtime=1400000003), entry("shared/dir", mode=0o500, mtime=1400000004), entry("shared/old", "b"), entry("target", "linked from above, b"))
# Carries neither /shared nor /shared/dir, and links to a file of whatever stands below.
IMPLIED = layer(entry("shared/dir/file", "x"), entry("shared/link", kind=tarfile.LNKTYPE, link="target"), entry("none/below/f", "y"))
# The rest carries its parents: dockerd gives implied directories 0755 and root, whatever is below.
FULL = layer(entry("shared", mode=0o711), entry("shared/dir", owner=(9, 9)), entry("shared/dir/file", "x"))
ONLY_HIDES = layer(entry(".wh.shared", ""), entry(".wh.nothing", ""))
HIDES = layer(entry(".wh.shared", ""), entry("shared", mode=0o750), entry("shared/dir", mode=0o751), entry("shared/dir/new", "after whiteout"))
OPAQUE = layer(entry("shared", mode=0o752), entry("shared/.wh..wh..opq", ""), entry("shared/dir", mode=0o753), entry("shared/dir/file2", "x"))
TWICE = layer(entry("twice"), entry("twice/f", "1"), entry("twice/.wh.g", ""), entry("twice/h", "1"))
BETWEEN = layer(entry("twice", mode=0o700), entry("twice/.wh.f", ""), entry("twice/g", "2"), entry("twice/h", "2"))
MIXED = layer(entry("bin"), entry("bin/.wh.vi", ""), entry("etc"), entry("etc/passwd"), entry("etc/passwd/now"), entry("etc/passwd/now/inside", "x"), entry("root", "now a file"), entry("tmp", kind=tarfile.SYMTYPE, link="/etc"))

IMPLIED_IMAGES = {"a:1": [BUSYBOX, BASE_A, IMPLIED], "b:1": [BUSYBOX, BASE_B, IMPLIED], "none:1": [BUSYBOX, layer(entry("target", "t")), IMPLIED], "both:1": [BUSYBOX, BASE_A, IMPLIED, BASE_B],
                  "renewed:1": [BUSYBOX, BASE_A, HIDES], "renewed:2": [BUSYBOX, BASE_A, HIDES, IMPLIED, HIDES]}
IMAGES = {
    "full:1": [BUSYBOX, BASE_A, FULL, BASE_B], "hides:1": [BUSYBOX, BASE_A, ONLY_HIDES], "hides:2": [BUSYBOX, BASE_A, ONLY_HIDES, FULL], "opaque:1": [BUSYBOX, BASE_B, OPAQUE], "opaque:2": [BUSYBOX, BASE_A, OPAQUE, FULL],
    "twice:1": [BUSYBOX, TWICE, BETWEEN, TWICE], "twice:2": [BUSYBOX, BETWEEN, TWICE, BETWEEN], "twice:3": [BUSYBOX, TWICE, TWICE], "mixed:1": [BUSYBOX, MIXED], "mixed:2": [BUSYBOX, layer(entry(".wh.etc/", "")), FULL],
}


@pytest.fixture(scope="module")
def expected(reference):
    reference.docker("load", input=docker_archive(IMAGES))
    return {tag: trees.from_tar(reference.export(tag)) for tag in IMAGES}


@pytest.fixture(scope="module")
def loaded(engine):
    answer = engine.tare("load", input=docker_archive({**IMAGES, **IMPLIED_IMAGES})).stdout.decode()
    assert sorted(line for line in answer.splitlines() if "Loaded" in line) == sorted(f"Loaded image: {tag}" for tag in [*IMAGES, *IMPLIED_IMAGES])
    return engine


@pytest.mark.parametrize("tag", IMAGES)
def test_layers_mean_what_dockerd_says(loaded, expected, tag):
    fields = ("kind", "mode", "owner", "mtime", "content", "target", "device", "linked")  # docker export leaves user.* out
    assert trees.differences(export(loaded, tag), expected[tag], *fields) == ""


def test_one_layer_shows_the_attributes_of_each_base(loaded):
    script = "stat -c '%a %u:%g %Y' /shared /shared/dir; cat /shared/link; stat -c %h /target"
    assert run(loaded, "a:1", script).stdout == "700 1:2 1400000001\n2711 3:4 1400000002\nlinked from above, a2\n"
    assert run(loaded, "b:1", script).stdout == "1777 5:6 1400000003\n500 0:0 1400000004\nlinked from above, b2\n"
    assert run(loaded, "none:1", script).stdout == "755 0:0 0\n755 0:0 0\nt2\n"
    assert run(loaded, "both:1", script).stdout == "1777 5:6 1400000003\n500 0:0 1400000004\nlinked from above, a1\n"
    shown = export(loaded, "a:1")
    assert shown["/shared/dir"]["xattrs"] == {"user.base": b"a"} and shown["/shared/link"]["linked"] == ["/shared/link", "/target"]


def test_a_whiteout_hides_lower_layers_alone_in_any_order(loaded):
    """So says the image specification; dockerd lets what comes behind the whiteout show what was below."""
    for tag in ("renewed:1", "renewed:2"):
        assert run(loaded, tag, "cd /shared; find . | sort; stat -c '%a %Y' . dir").stdout == f".\n./dir\n./dir/new\n750 1500000000\n751 1500000000\n"


def test_127_layers_and_one_more(engine):
    many = [BUSYBOX] + [layer(entry(f"many/{number}", str(number))) for number in range(127)]
    engine.tare("load", input=docker_archive({"many:127": many[:127]}))
    assert run(engine, "many:127", "ls /many | wc -l; cat /many/0 /many/125").stdout == "126\n0125"
    before = stored(engine)
    failed = engine.tare("load", input=docker_archive({"many:128": many}), check=False)
    assert failed.returncode == 1 and failed.stderr == b"Error response from daemon: max depth exceeded\n"
    assert stored(engine) == before
    failed = engine.tare("build", "--network", "none", "-", input="FROM many:127\nRUN touch /one-more\n", check=False)
    assert failed.returncode == 1 and "max depth exceeded" in failed.stderr
    container = engine.tare("run", "-d", "--network", "none", "many:127", "touch", "/x").stdout.strip()
    failed = engine.tare("commit", container, check=False)
    assert failed.returncode == 1 and failed.stderr == "Error response from daemon: max depth exceeded\n"
    engine.tare("rm", "-f", container)
    engine.clear()
    assert stored(engine) == before


# ---- compression ----

def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


SKIPPABLE = b"\x50\x2a\x4d\x18\x05\0\0\0hello"
HALF = len(BUSYBOX) // 1024 * 512
KINDS = {
    "tar": lambda data: data, "gzip": gzip.compress, "zstd": zstd, "xz": lzma.compress, "bzip2": bz2.compress,
    "gzip members": lambda data: gzip.compress(data[:HALF]) + gzip.compress(b"") + gzip.compress(data[HALF:]) + bytes(1000),
    "zstd frames": lambda data: SKIPPABLE + zstd(data[:HALF]) + SKIPPABLE + zstd(data[HALF:]),
    "xz streams": lambda data: lzma.compress(data[:HALF]) + bytes(8) + lzma.compress(data[HALF:]),
    "bzip2 streams": lambda data: bz2.compress(data[:HALF]) + bz2.compress(data[HALF:]),
}


@pytest.fixture(scope="module")
def plain():
    """An engine of the default backend, for what does not depend on it."""
    running = make_engine().start()
    running.tare("import", "-", "bb:1", input=BUSYBOX)
    yield running
    finish(running)


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_import_load_and_context(plain, kind):
    compress = KINDS[kind]
    image = plain.tare("import", "-", input=compress(BUSYBOX)).stdout.decode().strip()
    assert plain.tare("image", "inspect", "-f", "{{index .RootFS.Layers 0}}", image).stdout.strip() == digest(BUSYBOX)
    archive = docker_archive({"compressed:1": [BUSYBOX, FULL]})
    assert b"Loaded image: compressed:1" in plain.tare("load", input=compress(archive)).stdout
    plain.tare("image", "rm", "compressed:1")
    assert b"Loaded image: compressed:1" in plain.tare("load", input=docker_archive({"compressed:1": [BUSYBOX, FULL]}, compress)).stdout
    plain.tare("image", "rm", "compressed:1", image)
    context = layer(entry("Dockerfile", "FROM bb:1\nADD inner.tar /inner/\nCOPY file /\n"), entry("file", "from the context"), entry("inner.tar", compress(FULL + bytes(len(BUSYBOX)))))
    plain.tare("build", "--network", "none", "-t", "context:1", "-", input=compress(context))
    assert run(plain, "context:1", "cat /file; stat -c %a /inner/shared; cat /inner/shared/dir/file").stdout == "from the context711\nx"
