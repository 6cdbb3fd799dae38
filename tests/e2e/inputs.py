"""Real input for the tests: made once, kept under build/inputs, the same for both builds."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
INPUTS = TOP / "build" / "inputs"


def debian_mirror():
    """The host's own package mirror, from its apt configuration."""
    folder = pathlib.Path("/etc/apt")
    for file in [*folder.glob("sources.list.d/*.sources"), *folder.glob("sources.list.d/*.list"), folder / "sources.list"]:
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            words = line.split()
            if words[:1] == ["URIs:"]:
                return words[1]
            if words[:1] == ["deb"]:
                return next(word for word in words[1:] if "://" in word)
    raise AssertionError("no package mirror in the host's apt configuration")


def publish(make, name):
    """build/inputs/name, made by make(path) when it is missing; never half, and once where both builds' tests ask at the same time."""
    INPUTS.mkdir(parents=True, exist_ok=True)
    path = INPUTS / name
    if not path.exists():
        with open(INPUTS / ".lock", "w", encoding="utf-8") as lock, tempfile.TemporaryDirectory(dir=INPUTS) as part:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make(pathlib.Path(part) / name)
                os.rename(pathlib.Path(part) / name, path)
    return path


@contextlib.contextmanager
def debootstrapped():
    """A minimal Debian from the package mirror, which may be out of reach for a moment."""
    for pause in (5, 20, 60, 0):
        with tempfile.TemporaryDirectory() as root:
            made = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root, debian_mirror()], capture_output=True, text=True, errors="replace", check=False)
            if made.returncode == 0:
                yield root
                return
        print(f"debootstrap: status {made.returncode}\n{made.stdout[-2000:]}\n{made.stderr[-2000:]}", file=sys.stderr)
        time.sleep(pause)
    raise AssertionError("no Debian root could be made")


def debian_root():
    """A Debian root as a tar: about 200 MB, 7,000 files, device nodes and capabilities included."""

    def make(path):
        with debootstrapped() as root:
            subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-C", root, "--numeric-owner", "-cf", path, "."], check=True)

    return publish(make, "debian.tar")


def busybox_root():
    """Debian's static busybox with its links: the smallest root that runs a shell."""

    def make(path):
        with tempfile.TemporaryDirectory() as root:
            for name in ("bin", "etc", "tmp", "root"):
                os.mkdir(f"{root}/{name}")
            os.chmod(f"{root}/tmp", 0o1777)
            shutil.copy("/bin/busybox", f"{root}/bin/busybox")
            for applet in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
                if applet != "busybox":
                    os.symlink("busybox", f"{root}/bin/{applet}")
            pathlib.Path(f"{root}/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", encoding="utf-8")
            pathlib.Path(f"{root}/etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n", encoding="utf-8")
            subprocess.run(["tar", "-C", root, "--owner=0", "--group=0", "-cf", path, "."], check=True)

    return publish(make, "busybox.tar")


def arm_busybox_root():
    """The same root for arm64, of which only the one program differs."""

    def make(path):
        with tempfile.TemporaryDirectory() as work:
            for name in ("lists/partial", "cache/archives/partial", "root"):
                os.makedirs(f"{work}/{name}")
            open(f"{work}/status", "w", encoding="utf-8").close()
            settings = {"APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": work, "Dir::State::status": f"{work}/status", "Dir::Cache": f"{work}/cache", "APT::Sandbox::User": "root"}
            apt = ["apt-get", "-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
            subprocess.run([*apt, "update"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([*apt, "download", "busybox-static"], check=True, stdout=subprocess.DEVNULL, cwd=work)
            subprocess.run(["tar", "-C", f"{work}/root", "-xf", busybox_root()], check=True)
            package = next(name for name in os.listdir(work) if name.endswith(".deb"))
            subprocess.run(["dpkg-deb", "-x", package, "unpacked"], check=True, cwd=work)
            shutil.copy(f"{work}/unpacked/bin/busybox", f"{work}/root/bin/busybox")
            subprocess.run(["tar", "-C", f"{work}/root", "--owner=0", "--group=0", "-cf", path, "."], check=True)

    return publish(make, "busybox-arm64.tar")


if __name__ == "__main__":  # before the tests, for those who ask from two places at once and from a network of their own
    debian_root()
    busybox_root()
    arm_busybox_root()
