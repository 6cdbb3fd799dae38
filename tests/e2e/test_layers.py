"""Layers as a user sees them: an image with everything that layers can hold, on every storage backend, against what Debian's dockerd makes of the same image."""

import json
import os
import time
import shutil

import pytest

import trees
from conftest import finish, make_engine
from dockerd import running_dockerd
from inputs import debian_root

# Kernels before 6.12 mount no layer from a file: loop devices are the best that they have.
IN_FILES = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 12)
BACKENDS = {name: ("--storage-backend", name) for name in ("detached", "attached", "loop", "unpacked")[0 if IN_FILES else 2 :]}
BACKENDS["no-openat2"] = ("--no-openat2",)
BEST = next(iter(BACKENDS))

# Each step changes what lower layers have in another way. What it made gets a fixed time at its end, so that every engine makes the same layers.
SETTLE = r"find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf \) -prune -o -newermt @{} -exec touch -h -d @1600000001.5 {{}} +"
STEPS = [
    # deletions, directories opaque and renamed, a kind that becomes another
    """rm -rf /usr/share/doc /var/lib/dpkg/info; rm /etc/motd; mv /usr/share/perl5 /usr/share/perl-renamed; mv /etc/apt /etc/apt.d;
       rm /etc/issue; mkdir /etc/issue; echo in > /etc/issue/file; rm -rf /usr/share/bug; echo file > /usr/share/bug;
       rm -rf /etc/cron.daily; mkdir -m 750 /etc/cron.daily; echo new > /etc/cron.daily/only; ln -sfn /nowhere /usr/share/bug-link; rm -rf /opt/gone""",
    # hard links across layers, and into them
    """ln /etc/passwd /etc/passwd.link; ln /usr/bin/gunzip /opt/gunzip.link; chmod 700 /usr/bin/perl5.36.0; mkdir /opt/l; echo one > /opt/l/a; ln /opt/l/a /opt/l/b; ln /opt/l/a /opt/c;
       mkfifo /opt/l/fifo; ln /opt/l/fifo /opt/l/fifo2""",
    """ln /opt/l/a /opt/l/d; echo two >> /opt/l/b; rm /opt/c; ln -s a /opt/l/s; ln /opt/l/s /opt/l/s2""",
    # modes, owners, capabilities, attributes
    """chmod 4711 /usr/bin/env; chown 12:345678 /usr/bin/env; chmod 1777 /opt; chown -h 7:8 /opt/l/s; mkdir -m 2751 /etc/other.d; cp /usr/bin/true /opt/ping;
       /opt/tools/setcap cap_net_raw,cap_setuid+ep /opt/ping; /opt/tools/setfattr -n user.text -v words /opt/ping; /opt/tools/setfattr -n user.binary -v 0x00ff0a3d25 /opt/l;
       /opt/tools/setfattr -n 'user.=%' -v 0x00 /etc/passwd; /opt/tools/setfattr -n user.empty /etc/group; chmod 0 /opt/l/b; chown 4294967294:2147483648 /opt/l/b""",
    # sparse files, devices
    """truncate -s 40M /opt/hole; echo data | dd of=/opt/sparse bs=1 seek=30000001 status=none; truncate -s 40000003 /opt/sparse; dd if=/dev/zero of=/opt/zeros bs=64k count=1 status=none; : > /opt/empty;
       mkdir /opt/d; mknod /opt/d/null c 1 3; mknod -m 600 /opt/d/loop b 7 200; mknod /opt/d/big c 4095 1048575; mkfifo -m 622 /opt/d/fifo; chown 3:4 /opt/d/null""",
    # names
    """mkdir /opt/n; cd /opt/n; perl -e 'for (1..255) { next if $_ == 46 || $_ == 47; open F, ">", chr($_); print F $_; } for (1..255) { next if $_ == 47; mkdir "d".chr($_)."\\n"; }';
       perl -e 'open F, ">", "n" x 255; print F 255; symlink("t" x 4095, "long"); open F, ">", "w" x 99; open F, ">", "w" x 100; open F, ">", "w" x 101; open F, ">", " .wh"; open F, ">", "-rf"';
       perl -e 'my $p = "/opt/deep"; mkdir $p; for (1..38) { $p .= "/" . ("x" x 99); mkdir $p or die $!; } open F, ">", "$p/end"; print F "deep"; ' """,
    # once more over what was made here: hidden, replaced, made anew
    """rm -rf /opt/d; mkdir /opt/d; mknod /opt/d/null c 1 5; rm -rf /opt/n/d* /opt/n/nnn*; mv /opt/deep/* /opt/n/; rm -rf /opt/l; echo l > /opt/l; rm -rf /etc/issue; echo issue > /etc/issue; rm -rf /etc/cron.daily;
       mkdir /usr/share/doc; echo again > /usr/share/doc/one; rm /opt/hole; ln /opt/sparse /opt/sparse2""",
]
TOOLS = ("setcap", "setfattr", "getfattr")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    (folder / "tools").mkdir()
    for tool in TOOLS:
        shutil.copy2(shutil.which(tool), folder / "tools" / tool)
    (folder / "gone").write_text("gone", encoding="utf-8")
    for path in (folder / "gone", folder / "tools"):
        os.utime(path, (1600000000, 1600000000))
    made = int(os.path.getmtime(debian_root())) + 1
    time.sleep(max(0, made + 1 - time.time()))  # what the steps write must be newer than the root, also when that was made just now
    settle = SETTLE.format(made)
    steps = "".join("RUN set -e; " + " ".join(step.split("\n")) + "; " + settle + "\n" for step in STEPS)
    (folder / "Dockerfile").write_text("FROM debian:12\nCOPY tools /opt/tools\nCOPY gone /opt/gone/\n" + steps + "CMD [\"sh\"]\n", encoding="utf-8")
    return str(folder)


class Made:
    """The image on one backend, seen in three ways: its layers, its export, and what a container has."""

    def __init__(self, engine, context):
        self.engine = engine
        engine.tare("import", str(debian_root()), "debian:12")
        engine.tare("build", "--network", "none", "-t", "all", context)
        self.layers = json.loads(engine.tare("image", "inspect", "all").stdout)[0]["RootFS"]["Layers"]
        self.export = export(engine, "all")
        self.walk = walk(engine, "all")


def export(engine, image):
    container = engine.tare("create", image, "x").stdout.strip()
    table = trees.from_tar(engine.tare("export", container, input=b"").stdout)
    engine.tare("rm", container)
    return table


def walk(engine, image, *flags):
    return trees.from_walk(engine.tare("run", "--rm", "--network", "none", *flags, image, "sh", "-c", trees.WALK, input=b"").stdout)


@pytest.fixture(scope="module")
def original(context):
    running = make_engine("--storage-backend", BEST).start()
    yield Made(running, context)
    finish(running)


@pytest.fixture(scope="module", params=BACKENDS)
def made(request, original, context):
    if request.param == BEST:
        yield original
        return
    running = make_engine(*BACKENDS[request.param]).start()
    yield Made(running, context)
    finish(running)


@pytest.fixture(scope="module")
def reference():
    with running_dockerd() as running:
        yield running


@pytest.fixture(scope="module")
def archive(original, tmp_path_factory):
    """The image as `tare save` gives it."""
    path = str(tmp_path_factory.mktemp("archive") / "all.tar")
    original.engine.tare("save", "-o", path, "all")
    return path


@pytest.fixture(scope="module")
def expected(reference, archive):
    """What dockerd makes of the same image."""
    reference.docker("load", "-i", archive)
    return trees.from_tar(reference.export("all"))


def without(table, *prefixes):
    """Without attributes that docker export leaves out."""
    return {path: {**entry, "xattrs": {name: value for name, value in entry["xattrs"].items() if not name.startswith(prefixes)}} for path, entry in table.items()}


def test_export_is_what_dockerd_exports(made, expected):
    assert len(expected) > 5000
    assert trees.differences(without(made.export, "user."), expected) == ""


def test_a_container_sees_what_is_exported(made):
    assert trees.differences(made.walk, trees.without_devices(made.export)) == ""
    assert made.walk["/opt/ping"]["xattrs"].keys() == {"security.capability", "user.text"}
    assert made.walk["/etc/passwd"]["xattrs"] == {"user.=%": b"\0"}
    assert made.walk["/etc/group"]["xattrs"] == {"user.empty": b""}
    assert sum(path.startswith("/opt/n/") and path.count("/") == 3 for path in made.walk) == 259
    assert made.walk["/opt/n/" + "/".join(["x" * 99] * 38) + "/end"]["mtime"] == 1600000001
    assert made.walk["/opt/sparse"]["linked"] == ["/opt/sparse", "/opt/sparse2"]


def test_layers_are_the_same_on_every_backend(made, original):
    assert made.layers == original.layers and len(made.layers) == 3 + len(STEPS)
