"""Builds by the classic builder: the same contexts go to our engine and to Debian's dockerd, and what comes back must be the same but for ids and times."""

import concurrent.futures
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.parse

import pytest

from conftest import UnixConnection

MTIME = 1600000000


def context(files):
    """files: name → text or bytes, None for a directory, (target,) for a link, {"mode": …, "data": …, "uid": …} for more."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.mtime = MTIME
            info.mode = 0o644
            data = None
            if value is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(value, tuple):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, value[0], 0o777
            elif isinstance(value, dict):
                info.mode, info.uid, info.gid = value.get("mode", 0o644), value.get("uid", 0), value.get("uid", 0)
                info.type = value.get("type", tarfile.REGTYPE)
                info.linkname = value.get("link", "")
                data = value.get("data", b"") if info.type == tarfile.REGTYPE else None
            else:
                data = value.encode() if isinstance(value, str) else value
            if data is not None:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def small_root():
    """busybox and two files of users, as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev"):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755, MTIME
            tar.addfile(info)
        tar.add(shutil.which("busybox"), "bin/busybox")
        for applet in "sh ls cat echo env id true false mkdir touch sleep stat sort pwd printf rm ln chmod chown find".split():
            info = tarfile.TarInfo("bin/" + applet)
            info.type, info.linkname, info.mtime = tarfile.SYMTYPE, "busybox", MTIME
            tar.addfile(info)
        for name, text in (("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n"), ("etc/group", "root:x:0:\ndaemon:x:1:\ngrp:x:44:\n")):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text), MTIME
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class Api:
    """A Docker API at a socket: theirs or ours."""

    def __init__(self, path):
        self.path = path

    def __call__(self, method, path, body=None, headers=None):
        connection = UnixConnection(self.path)
        try:
            connection.request(method, "/v1.41" + path, body=body, headers=headers or {})
        except BrokenPipeError:
            pass  # refused before all of the body was read
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, data

    def build(self, text, files=None, **query):
        files = dict(files or {})
        if text is not None:
            files["Dockerfile"] = text
        query.setdefault("networkmode", "none")
        query.setdefault("rm", "1")
        status, data = self("POST", "/build?" + urllib.parse.urlencode(query), context(files), {"Content-Type": "application/x-tar"})
        if status != 200:
            return status, json.loads(data)
        return status, [json.loads(line) for line in data.splitlines() if line.strip()]

    def image(self, name):
        return json.loads(self("GET", f"/images/{name}/json")[1])

    def history(self, name):
        return json.loads(self("GET", f"/images/{name}/history")[1])

    def files(self, image):
        """What a container of the image has: path → (mode, uid, gid, type, link, content, mtime)."""
        status, data = self("POST", "/containers/create", json.dumps({"Image": image, "Cmd": ["x"]}), {"Content-Type": "application/json"})
        assert status == 201, data
        container = json.loads(data)["Id"]
        _, tree = self("GET", f"/containers/{container}/export")
        self("DELETE", f"/containers/{container}")
        found = {}
        with tarfile.open(fileobj=io.BytesIO(tree)) as tar:
            for info in tar:
                content = tar.extractfile(info).read() if info.isreg() else b""
                found[info.name.strip("/")] = (info.mode & 0o7777, info.uid, info.gid, info.type, info.linkname, content, int(info.mtime))
        return found


@pytest.fixture(scope="module")
def theirs():
    """A dockerd of our own, without any network."""
    directory = tempfile.mkdtemp(prefix="tare-dockerd-")
    path = os.path.join(directory, "s")
    log = open(os.path.join(directory, "log"), "wb")
    process = subprocess.Popen(
        ["/usr/sbin/dockerd", "--data-root", directory + "/d", "--exec-root", directory + "/e", "-H", "unix://" + path, "--pidfile", directory + "/p",
         "--bridge=none", "--iptables=false", "--ip6tables=false"], stdout=log, stderr=log)
    api = Api(path)
    deadline = time.monotonic() + 60
    while True:
        try:
            if api("GET", "/_ping")[0] == 200:
                break
        except OSError:
            pass
        assert process.poll() is None and time.monotonic() < deadline, open(directory + "/log", encoding="utf-8").read()
        time.sleep(0.1)
    assert api("POST", "/images/create?fromSrc=-&repo=bb&tag=1", small_root())[0] == 200
    yield api
    process.terminate()
    process.wait(timeout=60)
    log.close()
    subprocess.run(f"umount -q {directory}/d/* {directory}/e/* 2>/dev/null; rm -rf {directory}", shell=True, check=False)


@pytest.fixture(scope="module")
def ours(engine):
    api = Api(engine.socket)
    assert api("POST", "/images/create?fromSrc=-&repo=bb&tag=1", small_root())[0] == 200
    return api


def normal(text):
    """Ids and digests by the order in which they come; COPY's digests are of the engine's own making."""
    seen = {}
    text = re.sub(r"(file|dir|multi):[0-9a-f]{64}", r"\1:DIGEST", text)
    # dockerd 20.10 names unused build-args in any order
    text = re.sub(r"build-args \[(.*?)\]", lambda match: "build-args " + str(sorted(match.group(1).split())), text)
    # and forgets the blank after --chown=…
    text = re.sub(r"(--chown=\S+?) ?((?:file|dir|multi):DIGEST)", r"\1 \2", text)
    return re.sub(r"\b(?:sha256:)?([0-9a-f]{12})(?:[0-9a-f]{52})?\b", lambda match: f"<{seen.setdefault(match.group(1), len(seen) + 1)}>", text)


def stream(result):
    """Status and all messages as one text: how RUN's output is cut into messages is a matter of time."""
    status, messages = result
    if status != 200:
        return status, messages
    text = ""
    for message in messages:
        if "stream" in message:
            text += message["stream"]
        else:
            text += "\n" + json.dumps(message, sort_keys=True) + "\n"
    return status, normal(text.replace("\x1b[0m\x1b[91m", ""))


METADATA = """FROM bb:1
ENV a=1 b="x y" c=a\\ b
ENV old style value
LABEL x=1 "y z"="w v"
MAINTAINER me <x@y>
EXPOSE 90 80/udp 7000-7002
VOLUME /data /x
VOLUME ["/j son"]
USER daemon:grp
WORKDIR /wd
WORKDIR sub
CMD echo "hi" $a
CMD ["a","b \\"q\\""]
ENTRYPOINT ["e"]
ENTRYPOINT foo bar
STOPSIGNAL SIGUSR1
STOPSIGNAL 9
SHELL ["/bin/sh","-ec"]
HEALTHCHECK --interval=5s --timeout=90s --retries=3 --start-period=1m CMD echo hi
HEALTHCHECK CMD ["a","b"]
HEALTHCHECK NONE
ONBUILD RUN echo $a
ONBUILD   COPY   x   /onbuild
ARG foo=bar
ARG v
USER 0
RUN echo $foo $v; printf nonl
COPY Dockerfile /d/
COPY --chown=daemon:grp x y /d/
ADD x /zz
RUN ["/bin/echo","a b"]
"""

STAGES = """ARG base=bb:1
FROM $base AS one
ARG base
RUN echo $base > /f; mkdir -p /dd; chown 5:6 /f
FROM scratch
COPY --from=one /f /dd /q/
COPY --from=0 /f /
FROM one
COPY --from=1 /q /q
RUN cat /f
"""

# name → (Dockerfile, files, query)
BUILDS = {
    "metadata": (METADATA, {"x": "1", "y": "2"}, {"buildargs": '{"v":"V","unused":"1","u2":"2"}', "labels": '{"z":"1","b":"q r"}'}),
    "stages": (STAGES, {}, {}),
    "target": ("FROM bb:1 AS x\nRUN echo 1\nFROM bb:1\nRUN echo 2\n", {}, {"target": "X"}),
    "keep containers": ("FROM bb:1\nRUN true\nCMD x\n", {}, {"rm": "0", "nocache": "1"}),
    "empty forms": ("FROM bb:1\nCMD\nENTRYPOINT\nCMD []\nENTRYPOINT []\n", {}, {}),
    "empty continuation": ("FROM bb:1\nLABEL a=1 \\\n\n b=2\n", {}, {}),
    "lower case": ("from bb:1\nrun echo hi\n", {}, {}),
    "proxy": ("FROM bb:1\nRUN echo $HTTP_PROXY\n", {}, {"buildargs": '{"HTTP_PROXY":"http://p"}'}),
    "stderr": ("FROM bb:1\nRUN echo err >&2\n", {}, {}),
    "scratch metadata": ("FROM scratch\nCMD [\"x\"]\n", {}, {}),
    "wildcards": ("FROM bb:1\nCOPY d* Dockerfile* /z/\nRUN ls /z\n", {"d1": "1", "d0": None, "d0/x": "1"}, {}),
    "ignored Dockerfile": ("FROM bb:1\nCOPY . /c\nRUN ls -a /c\n", {".dockerignore": "x\nDockerfile\n.dockerignore\n", "x": "1"}, {}),
    "lower-case name": (None, {"dockerfile": "FROM bb:1\nCMD x\n"}, {}),
    "health": ("FROM bb:1\nHEALTHCHECK --interval=7s CMD x\nHEALTHCHECK CMD y\n", {}, {}),
}


@pytest.mark.parametrize("name", BUILDS)
def test_same_stream_history_and_config(ours, theirs, name):
    dockerfile, files, query = BUILDS[name]
    query = {**query, "t": "same:1"}
    assert stream(ours.build(dockerfile, files, **query)) == stream(theirs.build(dockerfile, files, **query))
    again = {key: value for key, value in query.items() if key not in ("nocache", "rm")}
    if "nocache" not in query:
        cached = stream(ours.build(dockerfile, files, **again))
        assert cached == stream(theirs.build(dockerfile, files, **again))
        assert "Running in" not in cached[1]

    def rows(api):
        return [(normal(row["CreatedBy"]), row["Comment"]) for row in api.history("same:1")]

    assert rows(ours) == rows(theirs)
    mine, other = ours.image("same:1"), theirs.image("same:1")
    for config in (mine["Config"], other["Config"]):
        config.pop("Image")
    assert mine["Config"] == other["Config"]
    assert mine["Author"] == other["Author"]
    assert bool(mine["Parent"]) == bool(other["Parent"])


def test_onbuild_triggers(ours, theirs):
    for api in (ours, theirs):
        assert api.build(METADATA, {"x": "1", "y": "2"}, t="trigger:1")[0] == 200
    assert stream(ours.build("FROM trigger:1\nRUN echo x\n", {"x": "1"})) == stream(theirs.build("FROM trigger:1\nRUN echo x\n", {"x": "1"}))


REFUSALS = [
    "FROM bb:1\n\nFOO bar\n", "", "# hi\n\n", "RUN x\n", "ARG x\nRUN y\n", "FROM bb:1\nCOPY --foo=1 a b\n", "FROM bb:1\nARG\n", "FROM bb:1\nENV a\n",
    "FROM bb:1\nENV a=1 b\n", "FROM bb:1\nENV =1\n", "FROM bb:1\nCOPY a\n", "FROM bb:1 x\n", "FROM bb:1 AS 1x\n", "FROM\n", "FROM bb:1\nWORKDIR\n",
    "FROM bb:1\nVOLUME [\"\"]\n", "FROM bb:1\nSHELL foo\n", "FROM bb:1\nHEALTHCHECK FOO x\n", "FROM bb:1\nHEALTHCHECK --interval=1us CMD a\n",
    "FROM bb:1\nONBUILD ONBUILD x\n", "FROM bb:1\nONBUILD FROM x\n", "FROM bb:1\nLABEL a\n", "FROM bb:1\nCMD [\"a\", 1]\n", "# escape=x\nFROM bb:1\n",
    "FROM bb:1\nCOPY --chown=1 --chown=2 a b\n", "FROM bb:1\nCOPY --chown a b\n",
    # these fail in a step
    "FROM bb:1\nEXPOSE foo\n", "FROM bb:1\nEXPOSE 80/foo\n", "FROM bb:1\nSTOPSIGNAL FOO\n", "ARG x\nFROM ${x}\n", "FROM scratch\n",
    "FROM bb:1 AS a\nFROM bb:1 AS a\n", "FROM bb:1\nENV a=${x\n", "FROM bb:1\nENV a=${x?err}\n", "FROM bb:1\nENV a=\"x\n", 
    "FROM --platform=foo/bar/baz/x bb:1\n", "FROM bb:1\nRUN []\n", "FROM bb:1\nRUN exit 3\n", "FROM bb:1\nRUN nosuch\n", "FROM bb:1\nUSER foo\nRUN true\n",
    "FROM bb:1\nCOPY opt/x /\n", "FROM bb:1\nCOPY ../a /\n", "FROM bb:1\nCOPY x nosuch /\n", "FROM bb:1\nCOPY x y /foo\n", "FROM bb:1\nCOPY z* /\n", "FROM bb:1\nCOPY [ /\n",
    "FROM bb:1\nCOPY http://x/y /\n", "FROM bb:1\nCOPY --chown=nouser x /\n", "FROM bb:1\nCOPY --chown=1:nogrp x /\n", "FROM bb:1\nCOPY --chown=a:b:c x /\n",
    "FROM bb:1\nCOPY --from=0 x /\n", "FROM bb:1\nCOPY --from=5 x /\n", "FROM bb:1\nCOPY --from=bb:1 /nosuch /\n",
]


@pytest.mark.parametrize("dockerfile", REFUSALS)
def test_same_refusal(ours, theirs, dockerfile):
    files = {"x": "1", "y": "2"}
    assert stream(ours.build(dockerfile, files)) == stream(theirs.build(dockerfile, files))


def test_only_arg_before_from(ours):
    # dockerd 20.10 panics on this one
    assert ours.build("ARG x=1\n") == (400, {"message": "no build stage in current context"})


def test_missing_dockerfile_and_target(ours):
    assert ours.build(None, {"x": "1"})[1]["message"] == "Cannot locate specified Dockerfile: Dockerfile"
    assert ours.build(None, {"x": "1"}, dockerfile="foo")[1]["message"] == "Cannot locate specified Dockerfile: foo"
    assert ours.build(None, {"x": "1"}, dockerfile="../foo")[1]["message"] == "forbidden path outside the build context: ../foo ()"
    assert ours.build("FROM bb:1\n", target="zz") == (400, {"message": "failed to reach build target zz in Dockerfile"})


def archive():
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        info = tarfile.TarInfo("in/f")
        info.mode, info.uid, info.size, info.mtime = 0o4755, 9, 1, 1400000000
        tar.addfile(info, io.BytesIO(b"q"))
        info = tarfile.TarInfo("tmp/only")
        info.mtime = 1400000000
        tar.addfile(info)
    return inner.getvalue()


def copied_trees_are_the_same(ours, theirs):
    files = {
        "suid": {"mode": 0o4755, "uid": 7, "data": b"x"}, "d": {"mode": 0o750, "uid": 7, "type": tarfile.DIRTYPE},
        "d/sub": {"mode": 0o700, "uid": 7, "type": tarfile.DIRTYPE}, "d/f": {"mode": 0o640, "uid": 7, "data": b"ff"}, "d/lnk": ("f",), "dl": ("d/f",), "l": ("suid",),
        "d/h1": "hh", "d/h2": {"type": tarfile.LNKTYPE, "link": "d/h1"}, "a.tgz": archive(), "not.gz": b"\x1f\x8b\x08not really",
    }
    dockerfile = ("FROM bb:1\nCOPY suid dl /one/\nCOPY d /two\nCOPY d /bin/\nCOPY l /three\nADD a.tgz /four/x\nADD a.tgz /\nADD not.gz /nine/\nCOPY d/sub/../f /five/\n"
                  "COPY --chown=5 suid /six/s/\nWORKDIR /seven/eight\nCOPY d/f .\nRUN ln -s /seven /link\nCOPY suid /link/through\nFROM bb:1\nCOPY --from=0 /six /four /all/\n")
    trees = []
    for api in (ours, theirs):
        status, messages = api.build(dockerfile, files, t="trees:1")
        assert status == 200 and "error" not in messages[-1], messages
        trees.append(api.files("trees:1"))
    _compare(*trees)
    first = dockerfile[: dockerfile.rindex("FROM")]
    trees = []
    for api in (ours, theirs):
        status, messages = api.build(first, files, t="trees:2")
        assert status == 200 and "error" not in messages[-1], messages
        trees.append(api.files("trees:2"))
    _compare(*trees)


def test_copied_trees_are_the_same(ours, theirs):
    """Modes, owners, links, contents, and the times that come from the context."""
    copied_trees_are_the_same(ours, theirs)


def test_copied_trees_are_the_same_unpacked(new_engine, theirs):
    api = Api(new_engine("--storage-backend", "unpacked").start().socket)
    assert api("POST", "/images/create?fromSrc=-&repo=bb&tag=1", small_root())[0] == 200
    copied_trees_are_the_same(api, theirs)


def _compare(mine, other):
    skipped = ("dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab", ".dockerenv")
    mine, other = ({path: entry for path, entry in tree.items() if not path.startswith(skipped)} for tree in (mine, other))
    assert sorted(mine) == sorted(other)
    for path, entry in other.items():
        if entry[3] == tarfile.LNKTYPE or mine[path][3] == tarfile.LNKTYPE:
            assert mine[path][3] == entry[3], path
            continue
        assert mine[path][:6] == entry[:6], path
        if entry[3] == tarfile.REGTYPE and entry[6] < 1700000000:
            assert mine[path][6] == entry[6], path


def test_same_input_gives_same_layers(ours):
    files = {"d": None, "d/a": "1", "d/b": ("a",), "x": "2"}
    dockerfile = "FROM bb:1\nWORKDIR /new/dir\nCOPY d x /to/\nCOPY x /y/\n"
    layers = []
    for _ in range(2):
        assert ours.build(dockerfile, files, nocache="1", t="det:1")[0] == 200
        layers.append(ours.image("det:1")["RootFS"]["Layers"])
        time.sleep(1.1)
    assert layers[0] == layers[1] and len(layers[0]) == 4


def test_cache_follows_content_not_times(ours):
    assert ours.build("FROM bb:1\nCOPY x /\nRUN echo 1\n", {"x": "1"}, t="c:1")[0] == 200
    touched = context({"x": "1", "Dockerfile": "FROM bb:1\nCOPY x /\nRUN echo 1\n"})
    status, data = ours("POST", "/build?networkmode=none", touched.replace(b"13727301000", b"13727301001"))
    assert status == 200
    text = stream(ours.build("FROM bb:1\nCOPY x /\nRUN echo 1\n", {"x": "1"}))[1]
    assert text.count("Using cache") == 2
    changed = stream(ours.build("FROM bb:1\nCOPY x /\nRUN echo 1\n", {"x": "2"}))[1]
    assert "Using cache" not in changed
    # a removed image is no cache
    first = ours.image("c:1")["Id"]
    ours("DELETE", "/images/c:1")
    rebuilt = stream(ours.build("FROM bb:1\nCOPY x /\nRUN echo 1\n", {"x": "1"}, t="c:2"))[1]
    assert "Using cache" not in rebuilt or ours.image("c:2")["Id"] != first


def test_quiet(ours):
    status, messages = ours.build("FROM bb:1\nRUN echo hi\n", q="1")
    assert status == 200 and len(messages) == 1 and re.fullmatch(r"sha256:[0-9a-f]{64}\n", messages[0]["stream"])
    status, messages = ours.build("FROM bb:1\nRUN echo hi; exit 4\n", q="1")
    assert status == 200 and messages[0] == {"stream": "Step 1/2 : FROM bb:1"} and messages[-1]["errorDetail"]["code"] == 4


def containers(api):
    return json.loads(api("GET", "/containers/json?all=1")[1])


def test_failed_step_keeps_its_container(ours):
    before = len(containers(ours))
    ours.build("FROM bb:1\nRUN exit 3\n")
    assert len(containers(ours)) == before + 1
    ours.build("FROM bb:1\nRUN exit 3\n", forcerm="1")
    assert len(containers(ours)) == before + 1


def test_context_leaves_nothing(engine, ours):
    layers = os.path.join(engine.data_root, "layers", "sha256")
    before = sorted(os.listdir(layers))
    assert ours.build("FROM bb:1\nCMD unique-for-this-test\n", {"big": "x" * 100000})[0] == 200
    assert ours.build("FROM bb:1\nFOO\n", {"big": "y" * 100000})[0] == 400
    assert ours.build("FROM bb:1\nCOPY nosuch /\n", {"big": "z" * 100000})[0] == 200
    assert sorted(os.listdir(layers)) == before


def test_import_with_changes(ours):
    for change, message in (("RUN x", "run is not a valid change command"), ("ENV a", "ENV must have two arguments"), ("USER", "USER requires exactly one argument")):
        status, data = ours("POST", "/images/create?" + urllib.parse.urlencode({"fromSrc": "-", "repo": "x", "changes": change}), small_root())
        assert (status, json.loads(data)["message"]) == (400, message)
    status, _ = ours("POST", "/images/create?" + urllib.parse.urlencode({"fromSrc": "-", "repo": "x", "changes": 'CMD ["a"]'}), small_root())
    assert status == 200 and ours.image("x")["Config"]["Cmd"] == ["a"]


def test_client_that_goes_away_stops_the_step(ours):
    body = context({"Dockerfile": "FROM bb:1\nRUN echo started; sleep 300\n"})
    connection = UnixConnection(ours.path)
    connection.request("POST", "/v1.41/build?networkmode=none&nocache=1", body=body)
    response = connection.getresponse()
    seen = b""
    while seen.count(b"started") < 2:
        seen += response.read1(4096)
    running = re.search(rb"Running in ([0-9a-f]{12})", seen).group(1).decode()
    assert any(one["Id"].startswith(running) and one["State"] == "running" for one in containers(ours))
    response.close()
    connection.close()
    deadline = time.monotonic() + 15
    while any(one["Id"].startswith(running) and one["State"] == "running" for one in containers(ours)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_same_context_many_times_at_once(engine, ours):
    """Builds that end let go of the context's layer while others just begin to use it."""
    dockerfile = "FROM bb:1\nCOPY d /d\nRUN cat /d/x\nADD a.tgz /q/\nWORKDIR /n\nFROM scratch\nCOPY --from=0 /d /q /\n"
    files = {"d": None, "d/x": "many", "a.tgz": archive()}

    def build(number):
        return ours.build(dockerfile, files, nocache=str(number % 2))

    layers = os.path.join(engine.data_root, "layers", "sha256")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for status, messages in pool.map(build, range(24)):
            assert status == 200 and "error" not in messages[-1], messages
    ids = {image["Id"] for image in json.loads(ours("GET", "/images/json?all=1")[1])}
    used = {layer.split(":")[1] for one in ids for layer in ours.image(one)["RootFS"].get("Layers") or []}
    held = {name.split(".")[0] for name in os.listdir(layers)}
    assert held <= used


def test_stock_client_builds(engine, ours):
    directory = tempfile.mkdtemp(prefix="tare-build-")
    with open(os.path.join(directory, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write("FROM bb:1\nCOPY hello /hello\nRUN cat /hello\n")
    with open(os.path.join(directory, "hello"), "w", encoding="utf-8") as file:
        file.write("hi there\n")
    result = engine.docker("build", "--network", "none", "-t", "client:1", directory)
    assert "Step 3/3 : RUN cat /hello\n" in result.stdout and "\nhi there\n" in result.stdout and result.stdout.endswith("Successfully tagged client:1\n")
    failed = engine.docker("build", "--network", "none", "--no-cache", "-f", "-", directory, input="FROM bb:1\nRUN exit 7\n", check=False)
    assert failed.returncode == 7 and "The command '/bin/sh -c exit 7' returned a non-zero code: 7" in failed.stderr
    shutil.rmtree(directory)
