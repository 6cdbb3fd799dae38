"""A cache that is never wrong: contexts and Dockerfiles change at random, and a build with the cache gives what a fresh one gives; also after the engine was
killed in the middle."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import io

import pytest

from conftest import finish, make_engine, program_directory
from inputs import busybox_root

ROUNDS = int(os.environ.get("TARE_TEST_ROUNDS", "6"))


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


def files_of(engine, image):
    """What the image has, without times: path → what stat and the content say."""
    answer = engine.api("GET", f"/build/files?image={image}")
    assert answer.status == 200, answer.body
    found = {}
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        for info in tar:
            content = tar.extractfile(info).read() if info.isreg() else b""
            found[info.name] = (info.type, info.mode, info.uid, info.gid, info.linkname, content)
    return found


NAMES = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/f", "x.c", "y.c"]


def change(chance, context):
    """One thing in the context that a build may or may not see."""
    path = context / chance.choice(NAMES)
    kind = chance.choice(["write", "write", "write", "write", "remove", "mode", "link", "touch", "same size", "rename", "ignore"])
    if kind == "ignore":
        (context / ".dockerignore").write_text(chance.choice(["", "d\n", "*.c\n", "**/a\n!d/a\n"]))
    elif kind == "remove" and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif kind == "remove":
        path.unlink(missing_ok=True)
    elif kind == "rename" and path.exists():
        other = context / chance.choice(NAMES)
        if other.parent.is_dir() and not other.is_symlink() and not other.is_dir() and not path.is_dir():
            os.rename(path, other)
    elif path.is_dir() and not path.is_symlink():
        os.chmod(path, chance.choice([0o755, 0o700]))
    elif path.parent.is_dir() or (not path.parent.exists() and not path.parent.is_symlink() and path.parent.parent.is_dir()):
        path.parent.mkdir(exist_ok=True)
        if kind == "link":
            path.unlink(missing_ok=True)
            os.symlink(chance.choice(["a", "b", "nowhere"]), path)
        elif kind == "mode" and path.is_file():
            os.chmod(path, chance.choice([0o644, 0o755, 0o600]))
        elif kind == "touch" and path.is_file():
            os.utime(path, (1, chance.randint(1, 10**9)))
        elif not path.is_symlink():
            before = os.stat(path) if path.is_file() else None
            path.write_text(str(chance.randint(1000, 1009)))
            if kind == "same size" and before:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def plant(context):
    """All names that the steps may copy."""
    for name in NAMES:
        if name not in ("d", "d/e"):
            for folder in reversed((context / name).relative_to(context).parents):
                if folder.name and not (context / folder).is_dir():
                    (context / folder).unlink(missing_ok=True)
                    (context / folder).mkdir()
            if not (context / name).exists():
                (context / name).unlink(missing_ok=True)
                (context / name).write_text(name)


def dockerfile(chance):
    """Stages that copy from the context and from each other."""
    steps = ["COPY . /all/", "COPY d /dir/", "COPY d /dir2", "COPY *.c /src/", "COPY a b /two/", "COPY --chown=7:8 d /owned/", "COPY --chmod=600 a /mode", "ADD a /added/", "WORKDIR /w", "COPY a .",
             "ENV v=1", "ENV v=2", "RUN cat /all/a > /ran 2> /dev/null || true", "RUN echo $v > /v", "ARG x=1", "RUN echo ${x:-none} > /x", "USER 5", "RUN id -u > /tmp/who", "USER 0", "COPY --exclude=*.c . /not/",
             "COPY --parents d/e /p/", "COPY --parents d /p2/", "LABEL l=1"]
    text = []
    for stage in ("one", "two"):
        text += [f"FROM bb:1 AS {stage}", *(chance.choice(steps) for _ in range(chance.randint(1, 5)))]
    text += ["FROM bb:1", *(chance.choice(steps) for _ in range(chance.randint(1, 4))), "COPY --from=one / /from1/", f"COPY --from=two {chance.choice(['/etc', '/bin'])} /from2/"]
    return "\n".join(text) + "\n"


def outcome(engine, context, *flags):
    done = engine.tare("build", "-q", "--network", "none", *flags, str(context), check=False)
    return (done.returncode, files_of(engine, done.stdout.strip()) if done.returncode == 0 else None)


@pytest.mark.parametrize("large", [False, True])
def test_a_cached_build_gives_what_a_fresh_one_gives(engine, tmp_path, large):
    """large: the context is one that is announced, and sent by what has changed."""
    chance = random.Random(large)
    context = tmp_path / "context"
    context.mkdir()
    plant(context)
    if large:
        (context / "padding").write_bytes(os.urandom(300000))
        os.utime(context / "padding", (1, 1))
    good = 0
    for _ in range(ROUNDS):
        if chance.random() < 0.4 or not (context / "Dockerfile").exists():
            (context / "Dockerfile").write_text(dockerfile(chance))
        for _ in range(chance.randint(1, 4)):
            try:
                change(chance, context)
            except OSError:
                pass  # a name in the way of another: no change then
        cached = outcome(engine, context)
        fresh = outcome(engine, context, "--no-cache")
        assert cached == fresh, (context / "Dockerfile").read_text()
        good += cached[0] == 0
        if cached[0] != 0:
            (context / ".dockerignore").unlink(missing_ok=True)
            (context / "Dockerfile").unlink()
            plant(context)
    assert good > ROUNDS / 5, "hardly any of these builds worked"


def test_a_build_that_is_killed_leaves_a_valid_cache_and_nothing_else(tmp_path):
    """kill -9 of the engine, or of the client, at random instants of a build with two stages and a large context."""
    engine = make_engine().start()
    chance = random.Random(3)
    try:
        engine.tare("import", str(busybox_root()), "bb:1")
        context = tmp_path / "context"
        context.mkdir()
        for i in range(40):
            (context / f"f{i}").write_bytes(os.urandom(20000))
        (context / "Dockerfile").write_text("FROM bb:1 AS one\nCOPY . /c/\nRUN cat /c/f* | md5sum > /sum\nFROM bb:1 AS two\nRUN seq 1 20000 > /seq\nCOPY f0 /\nFROM bb:1\nCOPY --from=one /sum /\nCOPY --from=two /seq /\nCOPY . /all/\n")
        for round_number in range(max(4, ROUNDS // 3)):
            (context / f"f{round_number % 40}").write_bytes(os.urandom(20000))
            process = subprocess.Popen([os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "none", str(context)],
                                       env={"PATH": os.environ["PATH"], "HOME": engine.directory}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(chance.random() * 0.4)
            except subprocess.TimeoutExpired:
                pass
            if round_number % 2:
                engine.restart(hard=True)
                process.wait(60)
            else:
                process.kill()
                process.wait()
            cached = outcome(engine, context)
            assert cached[0] == 0
            assert cached == outcome(engine, context, "--no-cache")
        assert json.loads(engine.api("GET", "/containers/json?all=1").body) == []
        assert os.listdir(os.path.join(engine.data_root, "build", "tmp")) == []
        engine.tare("builder", "prune", "-a", "-f")
        engine.tare("image", "prune", "-a", "-f")
        assert [name for name in os.listdir(os.path.join(engine.data_root, "layers", "sha256")) if name.endswith(".tar")] == []
    finally:
        finish(engine)
