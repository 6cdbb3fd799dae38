"""Inode numbers, devices and links in containers are as on a plain file system, through copy-up, restarts and the removal of the image."""

import os
import shutil
import tarfile
import time

import pytest

from archives import docker_archive, entry, layer
from conftest import finish, make_engine
from inputs import debian_root

BACKENDS = ("detached", "attached", "loop", "unpacked")
LOWER = layer(entry("opt/t", mode=0o755), entry("opt/t/a", "first"), entry("opt/t/b", kind=tarfile.LNKTYPE, link="opt/t/a"), entry("opt/t/c", "big" * 100000), entry("opt/t/dir/below/f", "x"), entry("opt/t/dir/g", "y"),
              entry("opt/t/link", kind=tarfile.SYMTYPE, link="a"), entry("opt/t/fifo", kind=tarfile.FIFOTYPE), entry("opt/t/app", kind=tarfile.SYMTYPE, link="/opt/t/true"))
UPPER = layer(entry("opt/t/d", kind=tarfile.LNKTYPE, link="opt/t/c"), entry("opt/t/e", "other layer"))


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request):
    running = make_engine("--storage-backend", request.param).start()
    running.tare("load", input=docker_archive({"inodes:1": [debian_root().read_bytes(), LOWER, UPPER]}))
    yield running
    finish(running)


@pytest.fixture
def container(engine):
    identifier = engine.tare("run", "-d", "--network", "none", "inodes:1", "sleep", "1000").stdout.strip()
    yield identifier
    engine.tare("rm", "-f", identifier, check=False)


def sh(engine, container, script, check=True):
    return engine.tare("exec", container, "sh", "-ec", script, check=check).stdout


def numbers(engine, container):
    return dict(reversed(line.split(" ", 1)) for line in sh(engine, container, "cd /opt/t; find . /etc/passwd /etc /usr/bin/env /opt -xdev -printf '%i %p\\n'").splitlines())


def test_one_device_and_du_stays_on_it(engine, container):
    assert sh(engine, container, "find / -xdev -not -path /dev -not -path /proc -not -path /sys -not -path '/etc/hos*' -not -path /etc/resolv.conf -printf '%D\\n' | sort -u | wc -l") == "1\n"
    whole, here = (int(sh(engine, container, f"du -s{flag} --apparent-size -B1 --exclude=/proc --exclude=/sys --exclude=/dev /").split()[0]) for flag in ("", "x"))
    assert here > 100 << 20 and whole - here < 100 << 10
    sh(engine, container, "echo more >> /opt/t/c; echo new > /opt/t/new")
    assert sh(engine, container, "stat -c %d / /usr /opt/t/a /opt/t/c /opt/t/new /opt/t/dir | sort -u | wc -l") == "1\n"


def test_hard_links_are_found(engine, container):
    assert sh(engine, container, "cd /opt/t; find . -samefile a | sort; find . -samefile c | sort; stat -c %h a b c d; cmp c d") == "./a\n./b\n./c\n./d\n2\n2\n2\n2\n"
    listed = sh(engine, container, "tar -C /opt -cf - t 2>/dev/null | tar -tvf - | grep -c 'link to'; tar -C /usr/bin -cf - perl perl5.36.0 gunzip uncompress | tar -tvf - | grep 'link to' | wc -l")
    assert listed == "2\n2\n"
    assert sh(engine, container, "cd /opt/t; du -B1 --apparent-size c d e | wc -l; ln c new; find . -samefile new | sort | tr '\\n' ' '; stat -c %h new").split("\n")[0] == "2"


def test_numbers_stay_after_copy_up_and_restarts(engine, container):
    before = numbers(engine, container)
    # a hard link of a lower layer that is written becomes a file of its own, as overlayfs does: the others keep their number
    sh(engine, container, "cd /opt/t; echo x >> e; chmod 700 dir; touch -h link fifo dir/g; echo y > new; chown 5 /etc/passwd; chmod 755 /usr/bin/env; echo z >> dir/below/f")
    after = numbers(engine, container)
    new = {after["./new"], after["/opt/t/new"]}
    assert {path: number for path, number in after.items() if not path.endswith("/new")} == before and len(new) == 1 and not new & set(before.values())
    engine.tare("restart", "-t", "0", container)
    assert numbers(engine, container) == after
    engine.restart(hard=True)
    assert numbers(engine, container) == after
    engine.tare("stop", "-t", "0", container)
    engine.restart()
    engine.tare("start", container)
    assert numbers(engine, container) == after


def test_the_same_numbers_in_two_containers(engine, container):
    other = engine.tare("run", "-d", "--network", "none", "inodes:1", "sleep", "1000").stdout.strip()
    assert numbers(engine, container) == numbers(engine, other)
    engine.tare("rm", "-f", other)


def test_copied_up_files_run_and_map(engine, container):
    sh(engine, container, "cp -a /usr/bin/true /opt/t/true; /opt/t/app; touch /usr/bin/true /usr/bin/env /lib/x86_64-linux-gnu/libc.so.6; /usr/bin/true; env true")
    # what was opened for writing is the copy: what is added later by others shows in it
    script = "open F, '+<', '/opt/t/c' or die; binmode F; read F, $x, 3; open G, '>>', '/opt/t/c'; print G 'tail'; close G; seek F, 0, 0; read F, $y, 3; print \"$x $y \"; open H, '<', '/opt/t/c'; seek H, -4, 2; read H, $z, 4; print $z"
    assert engine.tare("exec", container, "perl", "-e", script).stdout == "big big tail"
    assert sh(engine, container, "cat /opt/t/d | tail -c 3") == "big"


def test_directories_of_lower_layers_are_renamed(engine, container):
    # rename(2) itself says EXDEV, and mv copies
    assert sh(engine, container, "perl -e 'print rename(\"/opt/t/dir\", \"/opt/t/moved\") ? \"done\" : $!'") == "Invalid cross-device link"
    assert sh(engine, container, "cd /opt/t; mv dir moved; find moved | sort | tr '\\n' ' '; test ! -e dir; mkdir own; mv own own2; mv a a2; cat b a2; mv moved dir; cat dir/g") == "moved moved/below moved/below/f moved/g firstfirsty"


def test_a_container_outlives_its_image(engine):
    tag = "gone:1"
    image = engine.tare("import", "-", tag, input=layer(*(entry(name) for name in ("bin", "proc", "sys", "dev", "etc", "tmp")), entry("bin/busybox", open(shutil.which("busybox"), "rb").read(), mode=0o755), entry("data", "still here"))).stdout.decode().strip()
    container = engine.tare("run", "-d", "--network", "none", tag, "/bin/busybox", "sleep", "1000").stdout.strip()
    layers = os.path.join(engine.data_root, "layers", "sha256")
    refused = engine.tare("image", "rm", tag, check=False)
    assert refused.returncode == 1 and "container" in refused.stderr
    engine.tare("image", "rm", "-f", tag, check=False)
    assert engine.tare("exec", container, "/bin/busybox", "cat", "/data").stdout == "still here"
    engine.restart(hard=True)
    assert engine.tare("exec", container, "/bin/busybox", "cat", "/data").stdout == "still here"
    engine.tare("restart", "-t", "0", container)
    assert engine.tare("exec", container, "/bin/busybox", "cat", "/data").stdout == "still here"
    engine.tare("rm", "-f", container)
    engine.tare("image", "rm", image)
    deadline = time.monotonic() + 5
    while len([name for name in os.listdir(layers) if name.endswith(".tar")]) != 3:
        assert time.monotonic() < deadline, os.listdir(layers)
        time.sleep(0.05)
