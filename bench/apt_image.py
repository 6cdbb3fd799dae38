"""The Debian + nginx + compiler image, for bench/run: the same commands as RUN steps and in a plain chroot.

The base has the packages' archives already, so that what is measured is the installation and not the mirror."""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from pulls import give_apt

COMMANDS = ("apt-get install -y --no-install-recommends nginx-light", "apt-get install -y --no-install-recommends gcc libc6-dev")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
QUIET = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def in_root(root, command):
    subprocess.run(["chroot", str(root), "/bin/sh", "-c", command], check=True, env={"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"}, **QUIET)


def unpack(tar, root):
    root.mkdir()
    subprocess.run(["tar", "-C", str(root), "-xpf", str(tar)], check=True)


def base(cache, debian_tar):
    """The root with the host's mirror in it and the archives fetched, made once."""
    path = cache / "apt-base.tar"
    if path.exists():
        return path
    print("fetching packages for the apt image (once) …", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory) / "root"
        unpack(debian_tar, root)
        give_apt(root)
        for file in (root / "etc/apt/apt.conf.d").iterdir():  # those of images remove the archives after each installation
            if "Post-Invoke" in file.read_text():
                file.unlink()
        in_root(root, "apt-get update")
        for command in COMMANDS:
            in_root(root, command.replace(" install ", " install -d "))
        subprocess.run(["tar", "-C", str(root), "--numeric-owner", "-cf", f"{path}.part", "."], check=True)
        os.rename(f"{path}.part", path)
    return path


def built(engine, work):
    context = work / "apt-context"
    if not context.exists():
        context.mkdir()
        (context / "Dockerfile").write_text("FROM bench-apt\nENV DEBIAN_FRONTEND=noninteractive\n" + "".join(f"RUN {command}\n" for command in COMMANDS))
    begin = time.monotonic()
    engine.command("build", "--no-cache", "--network", "none", "-t", "bench-apt-built", str(context))
    return time.monotonic() - begin


def in_chroot(tar, work):
    root = work / "apt-root"
    unpack(tar, root)
    begin = time.monotonic()
    for command in COMMANDS:
        in_root(root, command)
    seconds = time.monotonic() - begin
    shutil.rmtree(root)
    return seconds


def measure(engine, cache, debian_tar, work, runs):
    """Of tare, and the chroot as its floor, in turns."""
    tar = base(cache, debian_tar)
    engine.command("import", str(tar), "bench-apt")
    samples = [], []
    for _ in range(runs):
        for function, values in ((lambda: built(engine, work), samples[0]), (lambda: in_chroot(tar, work), samples[1])):
            subprocess.run(["sync"], check=True)
            values.append(function() * 1000)
    engine.command("rmi", "-f", "bench-apt-built", "bench-apt", check=False)
    mine, chroot = (statistics.median(values) for values in samples)
    return {"name": "apt: nginx and gcc, built", "unit": "ms", "target": "≤ 1×", "tare": mine, "spread": f"{min(samples[0]):.0f}–{max(samples[0]):.0f}; in a chroot {chroot:.0f} ms: {mine / chroot:.2f}×"}
