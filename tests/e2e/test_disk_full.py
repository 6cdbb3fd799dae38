"""A data root on a small file system that fills up: whoever fills it is told so at once, what is there can be removed, and the space comes back."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time

import pytest

from conftest import finish, make_engine, program_directory
from inputs import busybox_root

NO_SPACE = "no space left on device"
CLIENTS = ["docker", "tare"]


class Disk:
    """An engine whose data root is a file system of its own."""

    def __init__(self, megabytes):
        self.engine = make_engine()
        self.image = os.path.join(self.engine.directory, "disk")
        # Not below the engine's directory: what any other process copies of the mount is no trace of the engine.
        self.root = self.engine.data_root = tempfile.mkdtemp(prefix="tare-disk-")
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.root], check=True)
        self.engine.start()
        self.engine.tare("import", str(busybox_root()), "bb")

    @property
    def free(self):
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def client(self, name, *arguments, **options):
        """What a client says, which must be soon."""
        program = os.path.join(program_directory(), "tare") if name == "tare" else name
        return self.engine.client(program, *arguments, check=False, **{"timeout": 30, **options})

    def files(self):
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.root) for name in names if not name.startswith("tare.db"))

    def files_at_rest(self):
        """The same, once shims and the engine's background work have left nothing transient among them."""
        deadline = time.monotonic() + 10
        seen, since = self.files(), time.monotonic()
        while time.monotonic() - since < 0.1:
            assert time.monotonic() < deadline, "the data root does not come to rest"
            time.sleep(0.02)
            now = self.files()
            if now != seen:
                seen, since = now, time.monotonic()
        return seen

    def fill(self):
        """To the last byte. A file that is there already grows: there may be no block for a new one."""
        with open(os.path.join(self.root, "filler"), "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def settle(self, free, files):
        """All is as it was; what is removed after the answer has a moment for it."""
        deadline = time.monotonic() + 10
        while self.free < free - (256 << 10) or self.files() != files:
            assert time.monotonic() < deadline, f"{self.free} bytes are free, {free} were; {set(self.files()) ^ set(files)}"
            time.sleep(0.02)

    def close(self):
        self.engine.clear()
        self.engine.stop()
        deadline = time.monotonic() + 10
        while subprocess.run(["umount", self.root], capture_output=True, check=False).returncode:  # shims unmount after they have reported
            assert time.monotonic() < deadline, "the small disk stays busy"
            time.sleep(0.05)
        os.unlink(self.image)
        finish(self.engine)
        shutil.rmtree(self.root)


@pytest.fixture(scope="module", params=[64, 24], ids=["64MB", "24MB"])
def disk(request):
    small = Disk(request.param)
    yield small
    small.close()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A directory with 100 MB that nothing compresses: as a file, in a tar, in an image archive, in a build context."""
    directory = tmp_path_factory.mktemp("big")
    data = os.urandom(1 << 20) * 100
    (directory / "context").mkdir()
    (directory / "context" / "Dockerfile").write_text("FROM bb\nCOPY big /\n", encoding="utf-8")
    (directory / "context" / "big").write_bytes(data)
    with tarfile.open(directory / "big.tar", "w") as tar:
        tar.add(directory / "context" / "big", "big")
    layer = (directory / "big.tar").read_bytes()
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
    manifest = [{"Config": "c.json", "RepoTags": ["big:1"], "Layers": ["l/layer.tar"]}]
    with tarfile.open(directory / "image.tar", "w") as tar:
        for name, content in (("manifest.json", json.dumps(manifest).encode()), ("c.json", json.dumps(config).encode()), ("l/layer.tar", layer)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return directory


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    "verb, message",
    [
        ("import", "Error response from daemon: imported layer: write: " + NO_SPACE),
        ("import -", "Error response from daemon: imported layer: write: " + NO_SPACE),
        ("load", "Error response from daemon: image archive: write: " + NO_SPACE),
        ("load -", "Error response from daemon: image archive: write: " + NO_SPACE),
        ("build", "Error response from daemon: build context: write: " + NO_SPACE),
    ],
)
def test_upload_that_does_not_fit(disk, big, name, verb, message):
    files, free = disk.files_at_rest(), disk.free
    arguments = {
        "import": ["import", str(big / "big.tar"), "x"], "import -": ["import", "-", "x"], "load": ["load", "-i", str(big / "image.tar")], "load -": ["load"],
        "build": ["build", str(big / "context")],
    }[verb]
    stdin = {"import -": "big.tar", "load -": "image.tar"}.get(verb)
    begun = time.monotonic()
    result = disk.client(name, *arguments, input=(big / stdin).read_bytes() if stdin else None)
    error = result.stderr.decode() if stdin else result.stderr
    assert result.returncode == 1, error
    assert message in error.splitlines(), error
    assert "pipe" not in error.replace("io: read/write on closed pipe", "")  # what 28.2 logs of its own tar writer
    assert time.monotonic() - begun < 15
    disk.settle(free, files)


@pytest.mark.parametrize("name", CLIENTS)
def test_run_step_that_fills_it(disk, name):
    files, free = disk.files_at_rest(), disk.free
    result = disk.client(name, "build", "--no-cache", "--force-rm", "-", input="FROM bb\nRUN dd if=/dev/urandom of=/x bs=1M count=200\n")
    assert result.returncode == 1
    assert "No space left on device" in result.stdout
    assert result.stderr.endswith("The command '/bin/sh -c dd if=/dev/urandom of=/x bs=1M count=200' returned a non-zero code: 1\n")
    assert disk.client(name, "ps", "-aq").stdout == ""
    disk.settle(free, files)


@pytest.mark.parametrize("name", CLIENTS)
def test_copy_step_that_does_not_fit(disk, tmp_path, name):
    files, free = disk.files_at_rest(), disk.free
    (tmp_path / "Dockerfile").write_text("FROM bb\nCOPY big /\n", encoding="utf-8")
    (tmp_path / "big").write_bytes(os.urandom(1 << 20) * (int(free * 0.6) >> 20))
    result = disk.client(name, "build", "--no-cache", str(tmp_path))
    assert result.returncode == 1
    assert result.stdout.endswith("Step 2/2 : COPY big /\n")
    assert result.stderr.endswith(f"\nwrite: {NO_SPACE}\n") or result.stderr == f"write: {NO_SPACE}\n"
    disk.settle(free, files)


def test_builds_that_find_it_full_at_random_instants(disk, tmp_path):
    """A build of two stages with less and less room: it fails with the disk's reason or is whole, and what it left is valid cache."""
    chance = random.Random(5)
    (tmp_path / "Dockerfile").write_text("FROM bb AS one\nRUN dd if=/dev/urandom of=/one bs=64k count=24 2> /dev/null; md5sum /one > /sum\nCOPY f /f\nFROM bb AS two\nRUN seq 1 100000 > /seq; test $(wc -l < /seq) -eq 100000\n"
                                         "FROM bb\nCOPY --from=one /one /sum /\nCOPY --from=two /seq /\nCOPY . /all/\nCMD md5sum -c /sum && wc -l < /seq\n", encoding="utf-8")
    free, files = disk.free, disk.files_at_rest()
    failed = 0
    for _ in range(int(os.environ.get("TARE_TEST_ROUNDS", "6"))):
        (tmp_path / "f").write_bytes(chance.randbytes(300000))
        room = chance.randrange(8 << 20)
        with open(os.path.join(disk.root, "filler"), "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(disk.free - room, 1))
        done = disk.client("tare", "build", "--network", "none", "-t", "full", str(tmp_path))
        failed += done.returncode != 0
        said = (done.stderr + done.stdout).lower()  # a program may only end with a code
        assert done.returncode == 0 or any(text in said for text in ("no space left on device", "disk is full", "returned a non-zero code")), said
        os.unlink(os.path.join(disk.root, "filler"))
        again = disk.client("tare", "build", "--network", "none", "-t", "full", str(tmp_path))
        assert again.returncode == 0, again.stderr
        assert disk.client("tare", "run", "--rm", "--network", "none", "full").stdout == "/one: OK\n100000\n"
        for verb in ("container", "prune", "-f"), ("rmi", "-f", "full"), ("builder", "prune", "-a", "-f"), ("image", "prune", "-f"):
            disk.client("tare", *verb)
        disk.settle(free, files)
    assert failed, "none of them found it full"


@pytest.mark.parametrize("name", CLIENTS)
def test_container_that_fills_it(disk, name):
    files, free = disk.files_at_rest(), disk.free
    result = disk.client(name, "run", "--rm", "bb", "dd", "if=/dev/urandom", "of=/x", "bs=1M", "count=200")
    assert result.returncode == 1
    assert "dd: error writing '/x': No space left on device" in result.stderr
    assert disk.client(name, "ps", "-aq").stdout == ""
    disk.settle(free, files)


@pytest.mark.parametrize("name", CLIENTS)
def test_commit_that_does_not_fit(disk, name):
    files, free = disk.files_at_rest(), disk.free
    megabytes = int(free * 0.6) >> 20
    assert disk.client(name, "run", "--name", "much", "bb", "dd", "if=/dev/urandom", "of=/x", "bs=1M", f"count={megabytes}").returncode == 0
    images = disk.client(name, "image", "ls", "-aq").stdout
    with_container = disk.files_at_rest()
    result = disk.client(name, "commit", "much", "committed")
    assert result.returncode == 1
    assert result.stderr == f"Error response from daemon: write: {NO_SPACE}\n"
    assert disk.client(name, "image", "ls", "-aq").stdout == images
    disk.settle(free - (megabytes + 2 << 20), with_container)
    assert disk.client(name, "rm", "much").stdout == "much\n"
    disk.settle(free, files)


def test_log_that_fills_it(disk):
    """The container goes on and ends; what fitted is there to be read, in whole lines."""
    files, free = disk.files_at_rest(), disk.free
    script = "i=0; while [ $i -lt 1400 ]; do dd if=/dev/zero bs=64k count=1 2>/dev/null | tr '\\0' x; echo; i=$((i+1)); done; exit 5"
    disk.client("docker", "run", "-d", "--name", "talks", "bb", "sh", "-c", script)
    assert disk.client("docker", "wait", "talks", timeout=120).stdout == "5\n"
    logs = disk.client("docker", "logs", "talks")
    assert logs.returncode == 0
    assert len(logs.stdout) > free / 2
    assert set(logs.stdout) == {"x", "\n"}
    assert disk.client("docker", "rm", "talks").returncode == 0
    disk.settle(free, files)


def test_full_disk_can_be_emptied(disk):
    """To the last byte, and again after each step, as a container that writes would do it."""
    engine, free = disk.engine, disk.free
    for name in ("old", "other"):
        engine.docker("run", "--name", name, "bb", "true")
    running = engine.docker("run", "-d", "--name", "running", "bb", "sleep", "1000").stdout.strip()
    engine.docker("volume", "create", "kept")
    engine.docker("build", "-t", "built", "-", input="FROM bb\nRUN echo x > /x\n")
    engine.docker("tag", "built", "again")
    disk.fill()
    for name in CLIENTS:
        for arguments in (["import", str(busybox_root()), "x"], ["build", "-", "-t", "y"], ["run", "--rm", "bb", "true"], ["volume", "create"]):
            disk.fill()  # what failed may have given a block back
            result = disk.client(name, *arguments, input="FROM bb\nRUN true\n")
            assert result.returncode in (1, 125), arguments
            assert NO_SPACE in result.stderr, (arguments, result.stderr)
        assert disk.client(name, "ps", "-aq").stdout.count("\n") == 3
    disk.fill()
    engine.restart(hard=True)
    disk.fill()
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "running").stdout == "running\n"
    assert engine.docker("exec", "running", "echo", "hi").stdout == "hi\n"
    assert engine.docker("rm", "old").stdout == "old\n"
    disk.fill()
    engine.docker("kill", "running")
    assert engine.docker("wait", "running").stdout == "137\n"
    disk.fill()
    engine.restart()
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "running").stdout == "137\n"
    disk.fill()
    pruned = engine.docker("container", "prune", "-f").stdout
    assert running in pruned
    disk.fill()
    assert engine.docker("volume", "rm", "kept").stdout == "kept\n"
    disk.fill()
    assert engine.tare("image", "rm", "again").stdout == "Untagged: again:latest\n"
    disk.fill()
    assert "Untagged: built:latest\nDeleted: sha256:" in engine.docker("image", "rm", "built").stdout
    disk.fill()
    assert "untagged: bb:latest" in engine.docker("image", "prune", "-af").stdout
    assert engine.docker("system", "prune", "-f").stdout.endswith("Total reclaimed space: 0B\n")
    assert engine.docker("image", "ls", "-aq").stdout == ""
    os.unlink(os.path.join(disk.root, "filler"))
    deadline = time.monotonic() + 10
    while disk.free < free:
        assert time.monotonic() < deadline, f"{disk.free} bytes are free, {free} were, with an image more"
        time.sleep(0.05)
    engine.tare("import", str(busybox_root()), "bb")
    assert engine.docker("run", "--rm", "bb", "echo", "works").stdout == "works\n"


def test_full_disk_loses_no_end(disk):
    """A disk that is full to the last byte, and again after each step, whatever the database's log and file had to take before: ends of containers are recorded."""
    engine = disk.engine
    for number in range(60):
        engine.docker("volume", "create", f"v{number}")
    for number in range(8):
        engine.docker("run", "-d", "--name", f"c{number}", "bb", "sleep", "1000")
    for number in range(0, 8, 2):
        disk.fill()
        assert engine.docker("volume", "rm", f"v{number}").stdout == f"v{number}\n"
        disk.fill()
        engine.docker("kill", f"c{number}")
        assert engine.docker("wait", f"c{number}").stdout == "137\n"
        alone = int(engine.docker("inspect", "-f", "{{.State.Pid}}", f"c{number + 1}").stdout)
        disk.fill()
        engine.kill() if number % 4 else engine.stop()
        os.kill(alone, signal.SIGKILL)
        disk.fill()
        engine.start()
        for one in (number, number + 1):
            assert engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", f"c{one}").stdout == "exited 137\n"
    engine.clear()
    os.unlink(os.path.join(disk.root, "filler"))
    engine.tare("volume", "prune", "-af")
