"""Pulling, for bench/run: a docker-registry on loopback with images made once, and the parts that pull them.

The image is a Debian root, three layers of apt, a layer as of a COPY and one of 5,000 small files; beside it one layer of 1 GB, and 100 small layers."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

PORT = 5987
HOST = f"127.0.0.1:{PORT}"
SLOW_HOST = f"127.0.0.1:{PORT + 1}"  # the same registry behind nginx, which gives each connection 20 MB/s: a network, not a processor
SLOW_CONFIG = """user root; daemon off; pid DIR/nginx.pid; error_log DIR/nginx.log; events {}
http { access_log off; proxy_temp_path DIR/nginx-proxy; client_body_temp_path DIR/nginx-body; fastcgi_temp_path DIR/nginx-f; uwsgi_temp_path DIR/nginx-u; scgi_temp_path DIR/nginx-s;
server { listen SLOW_HOST; limit_rate 20m; location / { proxy_pass http://HOST; proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_buffering off; } } }
"""
APT_LAYERS = (("build-essential",), ("git", "python3-dev"), ("vim", "openssh-server", "nginx-light"))
GZIP_LEVEL = 6  # docker's


class Registry:
    def __init__(self, storage):
        self.storage, self.process, self.slow = storage, None, None

    def start(self):
        config = {"version": 0.1, "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": str(self.storage)}}, "http": {"addr": HOST, "secret": "bench"}}
        path = self.storage.parent / "registry.yml"
        path.write_text(json.dumps(config))
        self.process = subprocess.Popen(["docker-registry", "serve", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(f"http://{HOST}/v2/", timeout=5).close()
                return self.start_slow()
            except OSError:
                if self.process.poll() is not None:
                    sys.exit("docker-registry did not start")
                time.sleep(0.05)

    def start_slow(self):
        path = self.storage.parent / "nginx.conf"
        path.write_text(SLOW_CONFIG.replace("DIR", str(self.storage.parent)).replace("SLOW_HOST", SLOW_HOST).replace("HOST", HOST))
        self.slow = subprocess.Popen(["nginx", "-c", str(path), "-e", str(self.storage.parent / "nginx.log")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.slow:
            self.slow.terminate()
            self.slow.wait(20)
            self.slow = None
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


# ---- images ----


def give_apt(root):
    """A Debian root in which the host's mirror can be installed from, and no service starts."""
    for folder in ("sources.list", "sources.list.d", "trusted.gpg.d", "apt.conf.d"):
        source, target = pathlib.Path("/etc/apt") / folder, root / "etc/apt" / folder
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)


def apt_layers(root):
    """What apt adds to a Debian root, a tar for each of APT_LAYERS."""
    give_apt(root)
    marker = root / "var/lib/bench-marker"
    run = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    subprocess.run(["chroot", str(root), "apt-get", "update"], **run)
    for packages in APT_LAYERS:
        marker.write_text("")
        time.sleep(1.1)  # file times, to find what is newer
        subprocess.run(["chroot", str(root), "apt-get", "install", "-y", "--no-install-recommends", *packages], **run)
        subprocess.run(["chroot", str(root), "apt-get", "clean"], **run)
        listed = subprocess.run(["find", ".", "-xdev", "-cnewer", "var/lib/bench-marker", "!", "-type", "d", "-print0"], cwd=root, check=True, stdout=subprocess.PIPE).stdout
        yield subprocess.run(["tar", "-C", str(root), "--numeric-owner", "--null", "-T", "-", "-cf", "-"], input=listed, check=True, stdout=subprocess.PIPE).stdout


def files_tar(prefix, count, size, seed):
    dice, out = random.Random(seed), io.BytesIO()
    words = [dice.randbytes(dice.randint(3, 12)).hex().encode() for _ in range(2000)]
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(count):
            data = b" ".join(dice.choices(words, k=size // 16 + 1))[:size]
            entry = tarfile.TarInfo(f"{prefix}/{number // 100}/{number}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def write_layout(directory, tars):
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    layers, diff_ids = [], []
    for tar in tars:
        diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        layers.append(put(gzip.compress(tar, GZIP_LEVEL, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip"))
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers}
    manifest["config"] = put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    entry = put(json.dumps(manifest).encode(), manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def place(registry, name, tars):
    with tempfile.TemporaryDirectory() as directory:
        write_layout(pathlib.Path(directory) / "layout", tars)
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{directory}/layout:1", f"docker://{HOST}/{name}:1"]
        subprocess.run(copy, check=True, stdout=subprocess.DEVNULL)
    (registry.storage / f"{name}.made").write_text("")


def make_images(registry, debian_tar):
    """Those that the registry does not have yet."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory) / "root"
        apt = None
        if not (registry.storage / "six.made").exists() or not (registry.storage / "fat.made").exists():
            print("making images for the registry (once) …", file=sys.stderr)
            root.mkdir()
            subprocess.run(["tar", "-C", str(root), "-xpf", str(debian_tar)], check=True)
            apt = list(apt_layers(root))
        if not (registry.storage / "six.made").exists():
            place(registry, "six", [debian_tar.read_bytes(), *apt, files_tar("copied", 200, 400000, 1), files_tar("small", 5000, 1000, 2)])
        if not (registry.storage / "fat.made").exists():
            whole = subprocess.run(["tar", "-C", str(root), "--numeric-owner", "-cf", "-", "."], check=True, stdout=subprocess.PIPE).stdout
            rest = files_tar("more", max(1, ((1 << 30) - len(whole)) // 400000), 400000, 3)
            place(registry, "fat", [joined(whole, rest)])
        if not (registry.storage / "many.made").exists():
            place(registry, "many", [files_tar(f"d{number}", 20, 5000, number) for number in range(100)])


def joined(first, second):
    """Two tars as one: without the zeros at the end of the first."""
    end = len(first)
    while first[end - 512 : end] == bytes(512):
        end -= 512
    return first[:end] + second


# ---- what is measured ----


def pull_command(engine, name, host=HOST):
    more = ["--tls-verify=false"] if engine.name == "podman" else []
    return ["pull", "-q", *more, f"{host}/{name}:1"]


def pull(name, host=HOST):
    def part(engine, work):
        for one in (HOST, SLOW_HOST):
            engine.command("rmi", "-f", f"{one}/{name}:1", check=False)
        begin = time.monotonic()
        engine.command(*pull_command(engine, name, host))
        return time.monotonic() - begin

    return part


def pull_again(engine, work):
    begin = time.monotonic()
    engine.command(*pull_command(engine, "six"))
    return time.monotonic() - begin


def have(engine, name):
    if not engine.output("images", "-q", f"{HOST}/{name}:1"):
        engine.command(*pull_command(engine, name))


def save_six(engine, work):
    have(engine, "six")
    path = work / f"{engine.name}-six.tar"
    path.unlink(missing_ok=True)  # podman refuses to write over it
    begin = time.monotonic()
    engine.command("save", "-o", str(path), f"{HOST}/six:1")
    return time.monotonic() - begin


def load_six(engine, work):
    if not (work / f"{engine.name}-six.tar").exists():
        save_six(engine, work)
    engine.command("rmi", "-f", f"{HOST}/six:1", check=False)
    begin = time.monotonic()
    engine.command("load", "-q", "-i", str(work / f"{engine.name}-six.tar"))
    return time.monotonic() - begin


def remove_six(engine, work):
    have(engine, "six")
    begin = time.monotonic()
    engine.command("rmi", f"{HOST}/six:1")
    return time.monotonic() - begin


PARTS = [
    ("pull of six layers", pull("six"), 3, "1/5"),
    ("pull of it, all there", pull_again, 5, "≤ 20 ms"),
    ("save of six layers", save_six, 3, "1/12"),
    ("load of six layers", load_six, 3, "1/8"),
    ("rmi of six layers, the answer", remove_six, 3, "1/20"),
    ("pull of one layer of 1 GB", pull("fat"), 3, "1/5"),
    ("pull of it, 20 MB/s a connection", pull("fat", SLOW_HOST), 1, "ranges"),
    ("pull of 100 small layers", pull("many"), 3, "1/5"),
]


def floor(registry, cache, work, runs):
    """The bare program: its seconds (the least of several), and those of inflating, hashing and writing alone."""
    source, program = pathlib.Path(__file__).parent / "pull_floor.c", cache / "pull_floor"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", str(source), "-o", str(program), "-lisal", "-lcrypto", "-lpthread"], check=True)
    with urllib.request.urlopen(urllib.request.Request(f"http://{HOST}/v2/six/manifests/1", headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"})) as answer:
        digests = [layer["digest"] for layer in json.load(answer)["layers"]]
    command = [str(program), "127.0.0.1", str(PORT), str(work), "six", *digests]
    seconds = [float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) for _ in range(runs)]
    blobs = [str(registry.storage / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data") for digest in digests]
    parts = subprocess.run([str(program), "parts", str(work), *blobs], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return sorted(seconds)[len(seconds) // 2], [float(part) for part in parts]


class Memory:
    """The peak of an engine's and of its workers' memory while something runs: VmHWM of the engine, the largest RSS of a worker seen."""

    @staticmethod
    def reset(pid):
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")

    @staticmethod
    def peak(pid):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None


def measure_memory(engine, descendants, work):
    """MB of tared, and of its largest worker, while it pulls the six layers."""
    engine.command("rmi", "-f", f"{HOST}/six:1", check=False)
    Memory.reset(engine.process.pid)
    client = subprocess.Popen([*engine.base, *pull_command(engine, "six")], env=engine.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    worker = 0.0
    while client.poll() is None:
        for pid in descendants(engine.process.pid):
            try:
                worker = max(worker, Memory.peak(pid) or 0)
            except OSError:
                pass
        time.sleep(0.02)
    return Memory.peak(engine.process.pid), worker
