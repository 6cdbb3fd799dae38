"""An engine whose root is not that of its mount namespace: a chroot on a rescue system, a build farm's, an installer's."""

import pytest

from conftest import finish, make_engine
from inputs import busybox_root

# The machine's own tree, seen through a chroot: the programs are there, and only the root differs.
CHROOT = 'mkdir -p "$1" && mount --rbind / "$1" && directory=$1 && shift && exec chroot "$directory" "$@"'


@pytest.fixture(scope="module")
def engine():
    running = make_engine()
    running.prefix = ["unshare", "--mount", "sh", "-c", CHROOT, "sh", running.directory + "/root"]
    running.start()
    running.tare("import", str(busybox_root()), "bb")
    yield running
    finish(running)


def test_exec_comes_out_in_the_container(engine):
    engine.tare("run", "-d", "--name", "one", "bb", "sh", "-c", "echo here > /mark; sleep 1000")
    for _ in range(2):
        assert engine.docker("exec", "one", "cat", "/mark").stdout == "here\n"
        engine.restart(hard=True)
    listed = engine.tare("exec", "one", "ls", "/").stdout.split()
    assert listed == engine.tare("run", "--rm", "bb", "sh", "-c", ": > /mark; ls /").stdout.split()
    engine.tare("rm", "-f", "one")


def test_nothing_of_the_machine_stays_mounted(engine):
    mounts = engine.tare("run", "--rm", "bb", "cat", "/proc/self/mountinfo").stdout.splitlines()
    roots = [line.split()[4] for line in mounts]
    assert roots.count("/") == 1
    assert not [point for point in roots if engine.directory in point]


def test_build_and_volume(engine, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM bb\nRUN echo built > /built\nCOPY Dockerfile /\n", encoding="utf-8")
    engine.tare("build", "-t", "built", str(tmp_path))
    assert engine.tare("run", "--rm", "-v", f"{tmp_path}:/mnt", "built", "sh", "-c", "cat /built /mnt/Dockerfile").stdout.startswith("built\nFROM")
