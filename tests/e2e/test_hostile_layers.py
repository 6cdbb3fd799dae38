"""Hostile layers through every door: load, import, build context. Each is refused with its reason or does no harm, never reaches outside, and leaves nothing."""

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import time

import pytest

from archives import config, digest, docker_archive, entry, layer
from conftest import finish, make_engine, program_directory
from inputs import busybox_root

BUSYBOX = busybox_root().read_bytes()
OUTSIDE = "/tmp/tare-hostile-canary"
LNK, SYM, CHR, BLK, FIFO = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE


def header(name="f", size=0, **fields):
    """One header block with fields of its own and a right checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = fields.pop("raw_size", b"%011o\0" % size)
    for at, value in fields.pop("raw", {}).items():
        block[at:at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records, size=None):
    return header("x", len(records) if size is None else size, raw={156: b"x"}) + records + bytes(-len(records) % 512)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


END = bytes(1024)

# What is refused, and by which words.
REFUSED = {
    "parent": (layer(entry("../../" + OUTSIDE, "x")), '".."'),
    "parent inside": (layer(entry("a/../../x", "x")), '".."'),
    "parent at the end": (layer(entry("a/..", "x")), '".."'),
    "hard link outside": (layer(entry("l", kind=LNK, link="../../etc/passwd")), '".."'),
    "whiteout of nothing": (layer(entry(".wh.", "")), "whiteout"),
    "whiteout of itself": (layer(entry("d/.wh..", "")), "whiteout"),
    "whiteout of the parent": (layer(entry("d/.wh...", "")), "whiteout"),
    "file as directory": (layer(entry("f", "x"), entry("f/below", "x")), "directory"),
    "links in a circle": (layer(entry("a", kind=SYM, link="b"), entry("b", kind=SYM, link="a"), entry("a/f", "x")), "directory"),
    "name too long": (layer(entry("n" * 256, "x")), "name"),
    "path too long": (layer(entry("/".join(["p" * 200] * 400), "x")), "path"),
    "pax header too big": (pax(record(b"comment", b"x" * (9 << 20))) + header() + END, "extended tar header"),
    "pax header of a terabyte": (pax(b"", 1 << 32) + header() + END, ""),
    "pax record that lies": (pax(b"999 path=x\n") + header() + END, "pax"),
    "pax attribute too big": (pax(record(b"SCHILY.xattr.user.x", b"x" * 70000)) + header() + END, "attribute"),
    "negative size": (header(raw_size=b"\xff" * 12) + END, "size"),
    "size beyond all": (header(raw_size=b"\x80" + b"\x7f" * 11) + END, "size"),
    "wrong checksum": (b"f" + bytes(147) + b"0000000\0" + bytes(356) + END, "checksum"),
    "unknown type": (header(raw={156: b"Q"}) + END, "type"),
    "cut in a header": (layer(entry("a", "x"))[:700 + 512], ""),
    "cut in a content": (layer(entry("a", "x" * 10000))[:4000], ""),
    "cut in gzip": (gzip.compress(os.urandom(100000))[:50000], ""),
    "damaged gzip": (gzip.compress(BUSYBOX)[:-8] + bytes(8), ""),
    "not a tar": (b"Hello, world! " * 100, ""),
    "sparse file of an exabyte": (pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") + record(b"GNU.sparse.realsize", b"1152921504606846976") + record(b"GNU.sparse.name", b"s")) + header("s", 512) + b"0\n" + bytes(510) + END, ""),
    "device numbers": (layer(entry("d", kind=CHR, device=(5000, 1))), "device"),
}


def evil(**values):
    return {"SCHILY.xattr." + name.replace("__", "."): value for name, value in values.items()}


# What is taken, and what a container of busybox and it prints, or (in a list) why there cannot be one.
HARMLESS = {
    "absolute": (layer(entry("/" + OUTSIDE.lstrip("/") + "/x", "in")), f"cat {OUTSIDE}/x", "in"),
    "through a link": (layer(entry("l", kind=SYM, link=OUTSIDE), entry("l/x", "in")), f"cat {OUTSIDE}/x", "in"),
    "through a link upwards": (layer(entry("d"), entry("d/l", kind=SYM, link="../../../.." + OUTSIDE), entry("d/l/x", "in")), f"cat {OUTSIDE}/x", "in"),
    "through a link to /proc": (layer(entry("l", kind=SYM, link="/proc/self/root" + OUTSIDE), entry("l/x", "in")), "ls -d /l/x /proc/self/root" + OUTSIDE + " 2>&1 | wc -l", "2\n"),
    "link, then a directory": (layer(entry("l", kind=SYM, link=OUTSIDE), entry("l"), entry("l/x", "in")), "cat /l/x; test -L /l || echo directory", "indirectory\n"),
    "hard link, then a file": (layer(entry("h", kind=LNK, link="etc/passwd"), entry("h", "mine")), "cat /h; grep -c root /etc/passwd", "mine1\n"),
    "hard link to a link": (layer(entry("l", kind=SYM, link="/etc/passwd"), entry("h", kind=LNK, link="l")), "readlink /h", "/etc/passwd\n"),
    "commands to overlayfs": (layer(entry("etc", pax=evil(trusted__overlay__opaque="y", user__overlay__opaque="y")), entry("bin", pax=evil(trusted__overlay__redirect="/etc")),
                                    entry("m", "", pax=evil(trusted__overlay__metacopy="", trusted__overlay__redirect="/etc/passwd", user__overlay__redirect="/x"))), "wc -c < /m; grep -c root /etc/passwd; ls /bin/sh", "0\n1\n/bin/sh\n"),
    "device 0:0": (layer(entry("etc/passwd", kind=CHR), entry("free", kind=CHR), entry("dir"), entry("dir/dev", kind=BLK)), "ls /etc/passwd /free 2>&1; ls /dir; stat -c %t:%T:%F /dir/dev",
                   "ls: /etc/passwd: No such file or directory\nls: /free: No such file or directory\ndev\n0:0:block special file\n"),
    "fifo as passwd": (layer(entry("etc/passwd", kind=FIFO)), "true", ["/etc/passwd: not a regular file"]),
    "files that are mount points": (layer(entry("proc", kind=SYM, link=OUTSIDE), entry("etc/hosts", kind=SYM, link=OUTSIDE + "/hosts"), entry("etc/resolv.conf", kind=FIFO)), "echo runs", ["/proc"]),
    "aufs records": (layer(entry(".wh..wh.plnk"), entry(".wh..wh.plnk/1", "x"), entry(".wh..wh.aufs", "")), "ls -a / | grep -c wh; true", "0\n"),
    "entries behind the end": (layer(entry("first", "1")) + layer(entry("second", "2")), "ls /second 2>&1; true", "ls: /second: No such file or directory\n"),
}


@pytest.fixture(scope="module", params=("detached", "unpacked"))
def engine(request):
    running = make_engine("--storage-backend", request.param).start()
    running.tare("load", input=docker_archive({"bb:1": [BUSYBOX]}))
    running.tare("run", "--rm", "--network", "none", "bb:1", "true")
    yield running
    finish(running)


@pytest.fixture(autouse=True)
def outside():
    """A place of the host that must stay as it is."""
    shutil.rmtree(OUTSIDE, ignore_errors=True)
    os.mkdir(OUTSIDE)
    yield
    assert os.listdir(OUTSIDE) == []
    os.rmdir(OUTSIDE)


def stored(engine):
    """All that is below the engine's layers, and how many images it has."""
    found = []
    for folder, directories, files in os.walk(os.path.join(engine.data_root, "layers")):
        found += [os.path.join(folder, name) for name in files]
        if folder.endswith("/unpacked"):
            found += [os.path.join(folder, name) for name in directories if name != "empty"]
            directories[:] = []
    return sorted(found), len(engine.api("GET", "/images/json?all=1").json)


def build(engine, context, tag="hostile"):
    answer = engine.api("POST", f"/build?networkmode=none&t={tag}", context, {"Content-Type": "application/x-tar"})
    if answer.status != 200:
        return answer.message
    return answer.messages[-1].get("error", "")


def with_dockerfile(data):
    """The layer as a build context: behind a Dockerfile, in one tar."""
    return layer(entry("Dockerfile", "FROM bb:1\nCOPY . /copied/\n"))[:1024] + data


@pytest.mark.parametrize("name", REFUSED)
def test_refused(engine, name):
    data, words = REFUSED[name]
    before = stored(engine)
    loaded = engine.tare("load", input=docker_archive({"hostile:1": [BUSYBOX, data]}), check=False)
    imported = engine.tare("import", "-", "hostile:2", input=data, check=False)
    for failed, what in ((loaded, f"layer {digest(data)}"), (imported, "imported layer")):
        assert failed.returncode == 1 and failed.stdout == b"", failed
        message = failed.stderr.decode()
        assert message.startswith(f"Error response from daemon: {what}: ") and words in message and message.count("\n") == 1, message
    if not data.startswith(b"\x1f\x8b"):
        message = build(engine, with_dockerfile(data))
        assert message and words in message, message
    assert stored(engine) == before


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(engine, name):
    data, script, output = HARMLESS[name]
    before = stored(engine)
    engine.tare("load", input=docker_archive({"hostile:1": [BUSYBOX, data]}))
    shown = engine.tare("run", "--rm", "--network", "none", "hostile:1", "sh", "-c", script, check=not isinstance(output, list))
    if isinstance(output, list):
        assert shown.returncode == 125 and output[0] in shown.stderr
    else:
        assert shown.stdout == output
    engine.tare("export", engine.tare("create", "hostile:1").stdout.strip(), input=b"")
    engine.clear()
    engine.tare("image", "rm", "hostile:1")
    engine.tare("import", "-", "hostile:2", input=data)
    assert build(engine, with_dockerfile(data), "hostile:3") == ""
    assert os.listdir(OUTSIDE) == []
    engine.tare("image", "rm", "-f", "hostile:2", "hostile:3")
    assert stored(engine) == before


def test_a_hard_link_to_nothing_is_refused(engine):
    data = layer(entry("h", kind=LNK, link="no/such"))
    before = stored(engine)
    message = 'hard link "h" to "no/such", which no layer below has'
    for failed in (engine.tare("load", input=docker_archive({"hostile:1": [BUSYBOX, data]}), check=False), engine.tare("import", "-", input=data, check=False)):
        assert (failed.returncode, failed.stderr.decode()) == (1, f"Error response from daemon: {message}\n")
    assert build(engine, with_dockerfile(data)) != ""
    assert stored(engine) == before


# ---- archives that point elsewhere ----

def pointing(**members):
    document = config([BUSYBOX])
    manifest = [{"Config": members.pop("config", "config.json"), "RepoTags": members.pop("tags", ["pointing:1"]), "Layers": [members.pop("layer", "layer.tar")]}]
    found = {"config.json": entry("config.json", document), "manifest.json": entry("manifest.json", json.dumps(manifest)), "layer.tar": entry("layer.tar", BUSYBOX), **members}
    return layer(*(value for value in found.values() if value))


ARCHIVES = {
    "config through a link": (pointing(config="c", c=entry("c", kind=SYM, link="/etc/passwd")), "open c: "),
    "config upwards": (pointing(config="../../../../etc/passwd"), "etc/passwd"),
    "layer that is a fifo": (pointing(layer="p", p=entry("p", kind=FIFO)), "not a regular file"),
    "layer that is a device": (pointing(layer="p", p=entry("p", kind=CHR, device=(1, 5))), ""),
    "layer that is a directory": (pointing(layer="p", p=entry("p")), "not a regular file"),
    "layer in a loop of links": (pointing(layer="p", p=entry("p", kind=SYM, link="p")), "p: "),
    "another layer than promised": (pointing(layer="p", p=entry("p", layer(entry("evil", "x")))), "its content has the digest"),
    "no manifest": (layer(entry("x", "y")), "manifest.json"),
    "manifest that is a link": (layer(entry("manifest.json", kind=SYM, link="/proc/self/environ")), "manifest.json"),
    "manifest that is a fifo": (layer(entry("manifest.json", kind=FIFO)), "manifest.json"),
    "manifest that is no JSON": (layer(entry("manifest.json", "{")), "manifest.json"),
    "deep JSON": (layer(entry("manifest.json", "[" * 100000)), "manifest.json"),
    "bad tag": (pointing(tags=["UPPER/../x"]), "invalid reference format"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_point_elsewhere(engine, name):
    data, words = ARCHIVES[name]
    engine.tare("image", "rm", "bb:1")
    before = stored(engine)
    failed = engine.tare("load", input=data, check=False)
    after = stored(engine)
    engine.tare("load", input=docker_archive({"bb:1": [BUSYBOX]}))
    assert failed.returncode == 1 and words in failed.stderr.decode() and failed.stderr.startswith(b"Error response from daemon: "), failed
    assert after == before


# ---- a decoder that lies ----

def liar(path, text):
    """An ingest program that gives another archive than it was given, and reports success as the real one does."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"""#!/bin/bash
if [ "$1" = decode ]; then cat {text}; cat > /dev/null; printf 'PERT\\0\\0\\0\\0' >&5; head -c 552 /dev/zero >&5; exit 0; fi
exec {program_directory()}/tare-ingest "$@"
""")
    os.chmod(path, 0o755)


def test_a_lying_decoder_cannot_change_a_shared_layer(new_engine, tmp_path):
    shared, other, lie = layer(entry("shared", "true")), layer(entry("other", "true")), layer(entry("shared", "LIE"), entry("other", "LIE"), entry("bin"))
    honest, text = tmp_path / "honest", tmp_path / "text"
    os.symlink(os.path.join(program_directory(), "tare-ingest"), tmp_path / "ingest")
    engine = new_engine("--ingest-path", str(tmp_path / "ingest")).start()
    honest.write_bytes(docker_archive({"shared:1": [BUSYBOX, shared]}))
    engine.tare("load", "-i", str(honest))
    layers = engine.tare("image", "inspect", "-f", "{{.RootFS.Layers}}", "shared:1").stdout
    os.unlink(tmp_path / "ingest")
    liar(tmp_path / "ingest", text)
    engine.restart()
    show = ("run", "--rm", "--network", "none", "shared:1", "cat", "/shared")
    # the layers of an honest archive are decoded into lies
    text.write_bytes(lie)
    failed = engine.tare("load", input=docker_archive({"shared:2": [BUSYBOX, shared, other]}, gzip.compress), check=False)
    assert failed.returncode == 1 and f"layer {digest(other)}: its content has the digest {digest(lie)} and not {digest(other)}" in failed.stderr.decode()
    # the archive itself is decoded into one that promises the shared layers and brings others
    text.write_bytes(docker_archive({"shared:1": [BUSYBOX, shared]}).replace(b"true", b"evil"))
    engine.tare("load", input=gzip.compress(honest.read_bytes()), check=False)
    # an import of what nobody promised is only ever what its own digest says
    text.write_bytes(lie)
    image = engine.tare("import", "-", "imported:1", input=gzip.compress(BUSYBOX)).stdout.decode().strip()
    assert engine.tare("image", "inspect", "-f", "{{index .RootFS.Layers 0}}", image).stdout.strip() == digest(lie)
    assert engine.tare("image", "inspect", "-f", "{{.RootFS.Layers}}", "shared:1").stdout == layers
    assert engine.tare(*show).stdout == "true"
    saved = engine.tare("save", "shared:1", input=b"").stdout
    assert shared in saved and BUSYBOX in saved


@pytest.mark.parametrize("behaviour", ("exit 0", "exit 1", "kill -9 $$", "head -c 100000 /dev/urandom >&4; head -c 100000 /dev/urandom >&5; exit 0"))
def test_an_indexer_that_fails_or_lies(new_engine, tmp_path, behaviour):
    program = tmp_path / "ingest"
    program.write_text(f"#!/bin/bash\nif [ $1 = index ]; then {behaviour}; fi\nexec {program_directory()}/tare-ingest \"$@\"\n", encoding="utf-8")
    program.chmod(0o755)
    engine = new_engine("--ingest-path", str(program)).start()
    failed = engine.tare("import", "-", "x:1", input=BUSYBOX, check=False)
    assert failed.returncode == 1 and failed.stderr.startswith(b"Error response from daemon: imported layer: "), failed
    assert stored(engine) == ([], 0)


# ---- bombs, and workers that hang ----


def test_bombs_end_at_the_limit(new_engine, tmp_path):
    engine = new_engine("--max-layer-size", "8m").start()
    bomb = gzip.compress(bytes(64 << 20))
    text = "uncompressed data is larger than 8388608 bytes"
    archive = docker_archive({"bomb:1": [layer(entry("zero", "x" * (9 << 20)))]}, gzip.compress)
    refused = [
        ("imported layer: ", ("import", "-", "bomb:1"), bomb),
        ("imported layer: ", ("import", "-", "bomb:1"), bytes(9 << 20)),
        ("layer sha256:", ("load",), archive),
        ("image archive: ", ("load",), gzip.compress(bytes(64 << 20))),
        ("build context: ", ("build", "-t", "bomb:1", "-"), gzip.compress(layer(entry("Dockerfile", "FROM scratch\nCOPY zero /\n"), entry("zero", "x" * (9 << 20))))),
    ]
    for client in (engine.tare, engine.docker):
        for where, arguments, data in refused:
            failed = client(*arguments, input=data, check=False)
            said = failed.stderr.decode() + failed.stdout.decode()
            assert failed.returncode == 1 and text in said and where in said, (arguments, said)
            assert stored(engine) == ([], 0), arguments
            assert not [name for name in os.listdir(f"{engine.data_root}/layers/sha256") if "tmp" in name]
    engine.tare("import", "-", "fits:1", input=gzip.compress(BUSYBOX))
    for value in ("x", "0", "-1"):
        wrong = subprocess.run([f"{program_directory()}/tared", "--validate", "--max-layer-size", value], capture_output=True, text=True, check=False)
        assert wrong.returncode == 1 and f'invalid argument "{value}" for "--max-layer-size" flag' in wrong.stderr


def test_workers_are_confined(new_engine):
    engine = new_engine().start()
    data = gzip.compress(os.urandom(4 << 20))
    slow = subprocess.Popen([f"{program_directory()}/tare", "import", "-"], env={**os.environ, "TARE_HOST": engine.host}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    slow.stdin.write(data[: 3 << 20])
    slow.stdin.flush()

    def workers():
        listed = subprocess.run(["pgrep", "-P", str(engine.process.pid), "-f", "tare-ingest"], capture_output=True, text=True, check=False).stdout.split()
        found = [dict(line.split(":", 1) for line in open(f"/proc/{pid}/status", encoding="utf-8")) | {"Pid": pid} for pid in listed]
        return [each for each in found if each["Seccomp"].strip() == "2"]

    deadline = time.monotonic() + 20
    while not workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in workers():
        assert int(worker["CapEff"], 16) == int(worker["CapPrm"], 16) == 0 and worker["NoNewPrivs"].strip() == "1"
        assert set(worker["Uid"].split()) == set(worker["Gid"].split()) == {"65534"} and worker["Groups"].strip() == ""
        assert os.listdir(f"/proc/{worker['Pid']}/root") == []
        limits = open(f"/proc/{worker['Pid']}/limits", encoding="utf-8").read()
        for name in ("open files", "processes", "core file size"):
            assert re.search(rf"^Max {name} +0 +0 ", limits, re.M), limits
        bounded = re.search(r"^Max data size +\d+ +\d+ ", limits, re.M)
        assert bounded or os.environ.get("TARE_BUILD") == "debug", "the sanitizer's shadow memory is terabytes"
    assert workers()
    slow.kill()
    slow.wait()


@pytest.mark.parametrize("kind, text", [("decode", "the decoder stood still for 1 seconds"), ("index", "the indexer does not answer")])
def test_a_worker_that_hangs_is_ended(new_engine, tmp_path, kind, text):
    program = tmp_path / "ingest"
    program.write_text(f"#!/bin/bash\nif [ $1 = {kind} ]; then exec sleep 1000; fi\nexec {program_directory()}/tare-ingest \"$@\"\n", encoding="utf-8")
    program.chmod(0o755)
    engine = new_engine("--ingest-path", str(program), "--ingest-timeout", "1").start()
    failed = engine.tare("import", "-", "x:1", input=gzip.compress(BUSYBOX), check=False)
    assert (failed.returncode, failed.stderr.decode()) == (1, f"Error response from daemon: imported layer: {text}\n")
    assert stored(engine) == ([], 0)
    # a client that sends slowly is not the worker's fault
    program.write_text(f"#!/bin/bash\nexec {program_directory()}/tare-ingest \"$@\"\n", encoding="utf-8")
    slow = subprocess.Popen([f"{program_directory()}/tare", "import", "-", "slow:1"], env={**os.environ, "TARE_HOST": engine.host}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    data = gzip.compress(BUSYBOX)
    slow.stdin.write(data[: len(data) // 2])
    slow.stdin.flush()
    time.sleep(1.5)
    slow.communicate(data[len(data) // 2 :])
    assert slow.returncode == 0
