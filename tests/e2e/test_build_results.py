"""What a build gives: the same layers wherever it runs, a cache that follows contents, and images of which each can be run."""

import gzip
import json
import os
import re
import shutil
import time

import pytest

from archives import entry, layer
from conftest import program_directory
from inputs import busybox_root

SETTLE = "touch -h -d @1600000000 $(find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -newer /etc/mark -print)"
DOCKERFILE = f"""FROM bb:1 AS first
ARG WORD=default
COPY --chown=user:extra data /data
ADD archive.tar.gz /unpacked/
RUN touch -d @1590000000 /etc/mark; echo $WORD > /word; rm /bin/vi /bin/wget; mkdir -p /x/y; ln /word /x/word; mknod /x/null c 1 3; {SETTLE}
WORKDIR /work/dir
ENV A=b
FROM bb:1
COPY --from=first /word /unpacked /from/
COPY --from=0 --chown=7:8 /x /x/
"""


@pytest.fixture
def context(tmp_path):
    archive = gzip.compress(layer(entry("in", mode=0o700, owner=(3, 4)), entry("in/file", "packed", mode=0o4755, owner=(5, 6))), mtime=0)
    files = {"Dockerfile": DOCKERFILE, "data/file": "content", "data/sub/other": "other", "data/ignored.log": "log", "archive.tar.gz": archive, ".dockerignore": "**/*.log\n"}
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    os.symlink("file", tmp_path / "data" / "link")
    set_times(tmp_path, 1500000000)
    return tmp_path


def set_times(path, when):
    for folder, directories, files in os.walk(path, topdown=False):
        for name in [*directories, *files]:
            os.utime(os.path.join(folder, name), (when, when), follow_symlinks=False)


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


def build(engine, context, *flags, check=True, tag="result", **options):
    return engine.tare("build", "--network", "none", "-t", tag, *flags, str(context), check=check, **options)


def layers(engine, image="result"):
    return json.loads(engine.tare("image", "inspect", image).stdout)[0]["RootFS"]["Layers"]


def run(engine, image, *command):
    return engine.tare("run", "--rm", "--network", "none", image, *command).stdout


def test_same_context_same_layers_on_every_engine(engine, new_engine, context):
    build(engine, context)
    build(engine, context, "--target", "first", tag="stage")
    expected = [layers(engine), layers(engine, "stage")]
    for flags in (("--storage-backend", "unpacked"), ("--storage-backend", "attached"), ("--no-openat2",)):
        other = new_engine(*flags).start()
        other.tare("import", str(busybox_root()), "bb:1")
        other.client("docker" if "attached" in flags else os.path.join(program_directory(), "tare"), "build", "--network", "none", "-t", "result", str(context))
        build(other, context, "--target", "first", tag="stage")
        assert [layers(other), layers(other, "stage")] == expected
    build(engine, context, "--no-cache")
    assert layers(engine) == expected[0]
    shown = run(engine, "result", "sh", "-c", "cat /from/word /from/in/file; stat -c '%n %a %u:%g' /from/in /from/in/file /x /x/null /x/word; stat -c '%t:%T' /x/null; stat -c %h /x/word")
    assert shown == "default\npacked/from/in 700 3:4\n/from/in/file 4755 5:6\n/x 755 7:8\n/x/null 644 7:8\n/x/word 644 7:8\n1:3\n1\n"
    assert run(engine, "stage", "sh", "-c", "cd /data; find . | sort; stat -c %U:%G . file sub link; cat link; pwd") == ".\n./file\n./link\n./sub\n./sub/other\n" + "user:extra\n" * 4 + "content/data\n"


def cached(output):
    return output.count("\n ---> Using cache\n")


def test_the_cache_follows_contents_modes_and_owners(engine, context):
    (context / "Dockerfile").write_text("FROM bb:1\nCOPY data /data\nRUN echo ran >> /ran\nCMD cat /ran\n", encoding="utf-8")
    steps = lambda *flags: cached(build(engine, context, *flags).stdout)
    assert steps() == 0 and steps() == 3
    set_times(context, 1400000000)
    assert steps() == 3, "times are no contents"
    (context / "data" / "ignored.log").write_text("changed", encoding="utf-8")
    (context / "unused").write_text("new", encoding="utf-8")
    assert steps() == 3, "neither is what COPY does not take"
    os.chmod(context / "data" / "file", 0o600)
    assert steps() == 0 and steps() == 3
    (context / "data" / "file").write_text("CONTENT", encoding="utf-8")
    assert steps() == 0 and steps() == 3
    os.rename(context / "data" / "file", context / "data" / "renamed")
    assert steps() == 0 and steps() == 3
    assert steps("--no-cache") == 0
    assert run(engine, "result") == "ran\n"


def test_owners_of_the_context_count_for_add_of_archives_only(engine, context):
    """The client sends all as root; what another client says of owners is not taken by COPY, and not by the cache."""
    (context / "Dockerfile").write_text("FROM bb:1\nCOPY data/file /f\n", encoding="utf-8")
    build(engine, context)
    os.chown(context / "data" / "file", 5, 6)
    assert cached(build(engine, context).stdout) == 1
    assert run(engine, "result", "stat", "-c", "%u:%g", "/f") == "0:0\n"


def test_build_arguments_and_the_cache(engine, context):
    (context / "Dockerfile").write_text("FROM bb:1\nARG WORD=one\nARG UNUSED\nRUN echo $WORD-$UNUSED > /word\n", encoding="utf-8")
    for flags, word, hits in (((), "one-", 0), ((), "one-", 3), (("--build-arg", "WORD=two"), "two-", 2), (("--build-arg", "WORD=two"), "two-", 3), (("--build-arg", "UNUSED=x"), "one-x", 2), ((), "one-", 3)):
        assert cached(build(engine, context, *flags).stdout) == hits, flags
        assert run(engine, "result", "cat", "/word") == word + "\n"
    warned = build(engine, context, "--build-arg", "NOBODY=1").stdout
    assert "[Warning] One or more build-args [NOBODY] were not consumed\n" in warned


def test_every_step_is_an_image(engine, context):
    output = build(engine, context, "--no-cache").stdout
    steps = re.findall(r"^ ---> ([0-9a-f]{12})$", output, re.MULTILINE)
    assert len(steps) == 10
    for number, image in enumerate(steps):
        assert run(engine, image, "sh", "-c", "echo runs") == "runs\n"
        engine.tare("tag", image, f"step:{number}")
    assert run(engine, "step:1", "ls", "/").split() == run(engine, "bb:1", "ls", "/").split()
    assert run(engine, "step:4", "cat", "/word") == "default\n"
    assert engine.tare("image", "inspect", "-f", "{{.Config.WorkingDir}}", "step:5").stdout == "/work/dir\n"


def test_failed_steps(engine, context):
    (context / "Dockerfile").write_text("FROM bb:1\nRUN echo left > /left; exit 9\n", encoding="utf-8")
    before = set(engine.tare("ps", "-aq").stdout.split())
    failed = build(engine, context, check=False)
    assert failed.returncode == 9 and failed.stderr.endswith("The command '/bin/sh -c echo left > /left; exit 9' returned a non-zero code: 9\n")
    kept = set(engine.tare("ps", "-aq").stdout.split()) - before
    assert len(kept) == 1 and f" ---> Running in {min(kept)}\n" in failed.stdout
    image = engine.tare("commit", min(kept)).stdout.strip()
    assert engine.tare("run", "--rm", "--network", "none", image, "cat", "/left").stdout == "left\n"
    engine.tare("rm", *kept)
    assert build(engine, context, "--force-rm", check=False).returncode == 9
    assert set(engine.tare("ps", "-aq").stdout.split()) == before


def test_who_changes_nothing_adds_no_layer(engine, context):
    before = len(engine.api("GET", "/images/bb:1/json").json["RootFS"]["Layers"])
    (context / "Dockerfile").write_text("FROM bb:1\nRUN true\nRUN cat /etc/passwd > /dev/null\n", encoding="utf-8")
    build(engine, context)
    assert len(layers(engine)) == before
    assert [entry["Size"] for entry in engine.api("GET", "/images/result/history").json[:2]] == [0, 0]
    engine.tare("run", "--name", "idle", "--network", "none", "result", "true")
    engine.docker("commit", "idle", "committed")
    engine.tare("rm", "idle")
    assert len(engine.api("GET", "/images/committed/json").json["RootFS"]["Layers"]) == before
    assert engine.tare("save", "-o", str(context / "saved.tar"), "committed").returncode == 0
    engine.docker("image", "rm", "committed")
    assert engine.tare("load", "-i", str(context / "saved.tar")).stdout == "Loaded image: committed:latest\n"
    engine.docker("image", "rm", "committed")


def test_from_scratch(engine, context):
    shutil.copy(shutil.which("busybox"), context / "busybox")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/\nCMD [\"/bin/busybox\", \"ls\", \"/bin\"]\n", encoding="utf-8")
    build(engine, context)
    assert run(engine, "result") == "busybox\n"
    assert len(layers(engine)) == 1
    root = engine.tare("run", "--rm", "--network", "none", "result", "/bin/busybox", "stat", "-c", "%a %u %Y", "/").stdout.split()
    assert root[:2] == ["755", "0"] and int(root[2]) > time.time() - 3600, "no layer carries the root: it is as old as the container"
    (context / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    failed = build(engine, context, check=False)
    assert (failed.returncode, failed.stderr) == (1, "No image was generated. Is your Dockerfile empty?\n")
    (context / "Dockerfile").write_text("", encoding="utf-8")
    failed = build(engine, context, check=False)
    assert failed.returncode == 1 and failed.stderr == "Error response from daemon: the Dockerfile (Dockerfile) cannot be empty\n"


def test_ignored_files(engine, context):
    """Negations, comments, wildcards of directories, and the two files that can be ignored but are read."""
    for name in ("a.md", "README.md", "sub/deep/x.tmp", "sub/deep/keep.tmp", "node_modules/m/index.js", "sp ace", "-dash"):
        path = context / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    (context / ".dockerignore").write_text("# comment\n*/*.md\n!tree/README.md\n**/*.tmp\n!**/keep.tmp\n**/node_modules\nDockerfile\n.dockerignore\n\n /data/ \n", encoding="utf-8")
    (context / "Dockerfile").write_text("FROM bb:1\nCOPY . /c/\nRUN cd /c; find . -type f | sort\n", encoding="utf-8")
    output = build(engine, context, "--no-cache").stdout
    assert "./archive.tar.gz\n./tree/-dash\n./tree/README.md\n./tree/sp ace\n./tree/sub/deep/keep.tmp\nRemoving" in output
