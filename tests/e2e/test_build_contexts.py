"""Where a build's files come from: directories, stdin, URLs, git repositories, named contexts, and what .dockerignore leaves of them."""

import bz2
import functools
import gzip
import http.server
import io
import json
import lzma
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tarfile
import threading

import pytest

from conftest import finish, make_engine, newer_client, program_directory
from test_recovery import wait_until

CLASSIC = {"DOCKER_BUILDKIT": "0"}


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


def write(folder, files):
    for name, text in files.items():
        path = pathlib.Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def build(engine, *arguments, client="tare", check=True, **options):
    options["env"] = {**CLASSIC, **options.get("env", {})}
    return getattr(engine, client)("build", "--network", "none", *map(str, arguments), check=check, **options)


def listing(engine, image="ctx"):
    """All files of an image that lie in /c."""
    out = engine.tare("run", "--rm", "--network", "none", image, "find", "/c", "-mindepth", "1").stdout
    return sorted(line[3:] for line in out.split())


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


# ---- stdin ----

COMPRESSIONS = {
    "plain": lambda data: data, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
    "zstd": lambda data: subprocess.run(["zstd", "-q"], input=data, stdout=subprocess.PIPE, check=True).stdout,
}


ARCHIVES = [(compression, client) for compression in COMPRESSIONS for client in ("tare", "docker")]


@pytest.mark.parametrize("compression, client", [pytest.param(*both, marks=[newer_client] if both == ("zstd", "docker") else []) for both in ARCHIVES])
def test_an_archive_on_stdin(engine, compression, client):
    data = COMPRESSIONS[compression](tar_of({"Dockerfile": "FROM bb:1\nCOPY a /c/a\n", "a": compression, "other/Dockerfile": "FROM bb:1\nCOPY other /c\n"}))
    command = [shutil.which("docker") if client == "docker" else os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "none", "-t", "ctx"]
    environment = {**os.environ, **CLASSIC}
    subprocess.run([*command, "-"], input=data, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert listing(engine) == ["a"]
    subprocess.run([*command, "-f", "other/Dockerfile", "-"], input=data, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert listing(engine) == ["Dockerfile"]


@pytest.mark.parametrize("client", ["tare", "docker"])
def test_a_dockerfile_on_stdin(engine, tmp_path, client):
    build(engine, "-t", "ctx", "-", client=client, input="FROM bb:1\nRUN mkdir -p /c && echo x > /c/x\n")
    assert listing(engine) == ["x"]
    write(tmp_path, {"a": "1", "Dockerfile": "FROM nosuch:1\n"})
    build(engine, "-t", "ctx", "-f", "-", tmp_path, client=client, input="FROM bb:1\nCOPY . /c\n")
    assert listing(engine) == ["Dockerfile", "a"] or listing(engine) == [".dockerignore", "Dockerfile", "a"]
    failed = build(engine, "-f", "-", "-", client=client, check=False, input="FROM bb:1\n")
    assert "can't use stdin for both build context and dockerfile" in failed.stderr
    failed = build(engine, "-", client=client, check=False, input="FROM bb:1\nCOPY a /\n")
    assert failed.returncode == 1


# ---- the Dockerfile's place ----


@pytest.mark.parametrize("client", ["tare", "docker"])
def test_the_dockerfile_may_lie_anywhere(engine, tmp_path, client):
    context = write(tmp_path / "context", {"a": "1", "Dockerfile": "FROM bb:1\nCOPY a /c/default\n", "sub/File": "FROM bb:1\nCOPY a /c/sub\n"})
    write(tmp_path, {"outside": "FROM bb:1\nCOPY a /c/outside\n", "elsewhere/Dockerfile": "FROM nosuch:1\n"})
    for flags, found in (((), "default"), (("-f", context / "sub/File"), "sub"), (("-f", tmp_path / "outside"), "outside")):
        build(engine, "-t", "ctx", *flags, context, client=client)
        assert listing(engine) == [found]
    # never the caller's own directory
    here = os.getcwd()
    os.chdir(tmp_path / "elsewhere")
    try:
        build(engine, "-t", "ctx", context, client=client)
    finally:
        os.chdir(here)
    assert listing(engine) == ["default"]


def test_the_small_name_comes_second(engine, tmp_path):
    write(tmp_path, {"dockerfile": "FROM bb:1\nCOPY dockerfile /c/small\n"})
    build(engine, "-t", "ctx", tmp_path)
    assert listing(engine) == ["small"]


@pytest.mark.parametrize("source,message", [("../a", "forbidden path outside the build context: ../a ()"),
                                            ("opt/x", "file not found in build context or excluded by .dockerignore: stat opt/x: file does not exist")])
def test_sources_come_from_the_contexts_root(engine, tmp_path, source, message):
    write(tmp_path, {"a": "1", "context/Dockerfile": f"FROM bb:1\nCOPY {source} /\n"})
    failed = build(engine, tmp_path / "context", check=False)
    assert failed.returncode == 1 and message in failed.stderr


# ---- .dockerignore ----


def test_a_dockerfile_may_have_rules_of_its_own(engine, tmp_path):
    write(tmp_path, {".dockerignore": "a\n", "one.Dockerfile": "FROM bb:1\nCOPY . /c\n", "one.Dockerfile.dockerignore": "b\none*\n.docker*\n", "two.Dockerfile": "FROM bb:1\nCOPY . /c\n",
                     "a": "1", "b": "2"})
    build(engine, "-t", "ctx", "-f", tmp_path / "one.Dockerfile", tmp_path)
    assert listing(engine) == ["a", "two.Dockerfile"]
    build(engine, "-t", "ctx", "-f", tmp_path / "two.Dockerfile", tmp_path)
    assert listing(engine) == [".dockerignore", "b", "one.Dockerfile", "one.Dockerfile.dockerignore", "two.Dockerfile"]


class Recorder(http.server.BaseHTTPRequestHandler):
    """An engine that only looks at what a client sends."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def do_POST(self):
        data = b""
        while length := int(self.rfile.readline(), 16):
            data += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        found = 404 if "/build/context" in self.path else 200
        if found == 200:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                self.server.names = sorted(info.name.rstrip("/") for info in tar)
        self.send_response(found)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_rules_leave_out_what_docker_leaves_out(tmp_path):
    """Random rules over a small tree: the names in the archive that docker sends, and in ours."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chance = random.Random(5)
    context = write(tmp_path / "context", {f"{folder}{name}": "x" for folder in ("", "a/", "a/b/", "ab/", "b/a/", "b/.d/") for name in ("f", "b.c", "abc", "[x]", ".e", "é")})
    write(context, {"Dockerfile": "FROM scratch\n"})
    pieces = ["a", "b", "ab", "f", "b.c", "*", "**", "?", "[a-b]", "[^a]", "*.c", "a*", ".d", ".*", "\\[x]", "..", ".", "é", "Dockerfile"]
    try:
        for _ in range(int(os.environ.get("TARE_TEST_ROUNDS", "6"))):
            rules = []
            for _ in range(chance.randint(1, 5)):
                rule = "/".join(chance.choice(pieces) for _ in range(chance.randint(1, 3)))
                rules.append(chance.choice(["", "", "!", "/", " ", "! "]) + rule + chance.choice(["", "", "/", " "]))
            (context / ".dockerignore").write_text("\n".join(rules) + "\n", encoding="utf-8")
            names = {}
            for program in (shutil.which("docker"), os.path.join(program_directory(), "tare")):
                server.names = None
                subprocess.run([program, "-H", f"tcp://127.0.0.1:{server.server_port}", "build", str(context)], env={**os.environ, **CLASSIC}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                names[os.path.basename(program)] = server.names
            assert names["tare"] == names["docker"], rules
    finally:
        server.shutdown()
        server.server_close()


# ---- what is sent ----


def test_only_changes_are_sent(engine, tmp_path):
    """A large context goes over once; the build after a change sees exactly the directory as it is."""
    files = {f"d{i % 7}/f{i}": os.urandom(3000) for i in range(300)}
    write(tmp_path, {**files, "Dockerfile": "FROM bb:1\nCOPY . /c\nRUN find /c -type f | sort | while read f; do md5sum \"$f\"; done > /sums\n"})
    os.symlink("d1", tmp_path / "link")

    def same():
        build(engine, "-t", "ctx", tmp_path)
        inside = engine.tare("run", "--rm", "--network", "none", "ctx", "cat", "/sums").stdout
        outside = subprocess.run("find . -type f | sort | while read f; do md5sum \"$f\"; done", shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout
        assert inside == outside.replace("  ./", "  /c/")

    settle = 1500000000
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            os.utime(os.path.join(folder, name), (settle, settle), follow_symlinks=False)
    same()
    write(tmp_path, {"d1/f1": "changed", "new/file": "new"})
    same()
    shutil.rmtree(tmp_path / "d2")
    os.unlink(tmp_path / "d3/f3")
    same()
    write(tmp_path, {"d2": "now a file"})
    shutil.rmtree(tmp_path / "d4")
    os.symlink("d5", tmp_path / "d4")
    same()
    os.unlink(tmp_path / "d2")
    write(tmp_path, {"d2/again": "a directory"})
    same()
    # the same size and the same times, as a careless tool leaves them
    before = os.stat(tmp_path / "d1/f8")
    (tmp_path / "d1/f8").write_bytes(os.urandom(3000))
    os.utime(tmp_path / "d1/f8", ns=(before.st_atime_ns, before.st_mtime_ns))
    same()
    assert "Using cache" in build(engine, tmp_path).stdout
    engine.restart(hard=True)
    assert "Using cache" in build(engine, tmp_path).stdout
    same()


class Counter:
    """A socket before the engine's that counts what a client sends."""

    def __init__(self, engine, folder):
        self.path, self.sent, self.engine = str(folder / "counted.sock"), 0, engine
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        """First the thread, so that it accepts on no other socket of the same number."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.engine.socket)
            for source, target, counts in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.copy, args=(source, target, counts), daemon=True).start()

    def copy(self, source, target, counts):
        try:
            while data := source.recv(65536):
                self.sent += len(data) if counts else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def counted(engine, folder, *arguments, **options):
    """A quiet build: what the client sent, and the image's id."""
    counter = Counter(engine, folder)
    try:
        out = build(engine, "-q", *arguments, env={"DOCKER_HOST": "unix://" + counter.path, "TARE_HOST": "unix://" + counter.path}, **options).stdout
    finally:
        counter.close()
        os.unlink(counter.path)
    return counter.sent, out.strip()


@pytest.mark.parametrize("client", ["tare", "docker"])
def test_a_context_travels_compressed(engine, tmp_path, client):
    """With --compress, and becomes the same image; of a context that the engine has, tare still sends only what has changed."""
    size = 4 << 20
    folder = write(tmp_path / "context", {"Dockerfile": "FROM bb:1\nCOPY . /c/\n", "text": "x" * size, "noise": os.urandom(size // 4)})
    compressed, image = counted(engine, tmp_path, "--compress", folder, client=client)
    assert size // 4 < compressed < size // 2
    plain, same = counted(engine, tmp_path, "--no-cache", folder, client="docker")
    assert plain > size and same == image
    if client == "tare":
        again = lambda: counted(engine, tmp_path, "--compress", folder)[0]
        wait_until(lambda: again() < size // 16, again, 10)  # young files count as changed
    write(folder, {"text": "y" * size})
    changed, image = counted(engine, tmp_path, "--compress", folder, client=client)
    assert changed < (size // 8 if client == "tare" else size // 2)
    assert counted(engine, tmp_path, "--no-cache", folder, client="docker")[1] == image


@pytest.mark.parametrize("client", ["tare", "docker"])
def test_an_archive_travels_compressed(engine, tmp_path, client):
    """What is compressed already is not once more by tare; docker's does so, and no engine reads that."""
    plain = tar_of({"Dockerfile": "FROM bb:1\nCOPY text /c/\n", "text": "x" * (1 << 20)})
    layers = lambda image: engine.api("GET", f"/images/{image}/json").json["RootFS"]["Layers"]
    sent, image = counted(engine, tmp_path, "-", input=plain, client=client)
    assert sent > len(plain)
    for data in (plain, gzip.compress(plain)) if client == "tare" else (plain,):
        sent, same = counted(engine, tmp_path, "--compress", "--no-cache", "-", input=data, client=client)
        assert sent < len(plain) // 10 and layers(same.decode()) == layers(image.decode())
    text = b"FROM bb:1\nLABEL text=" + b"x" * 20000 + b"\n"
    (sent, image), (least, same) = (counted(engine, tmp_path, *flags, "-", input=text, client=client) for flags in ([], ["--compress"]))
    assert least < 10000 < sent and image == same


USED = {  # Dockerfile after FROM bb:1 → how many of the parts (300 kB each) it can use; flags
    "nothing": ("RUN true", 0, []),
    "a directory": ("COPY one /c/", 1, []),
    "a path with dots": ('COPY ["./two/../one/", "/c/"]', 1, []),
    "wildcards at the top": ("COPY *.txt o[n]? /c/", 2, []),
    "wildcards below": ("COPY two/*/x.* /c/", 0, []),
    "parents": ("COPY --parents ./two/**/x.c /c/", 0, []),
    "add and a heredoc": ("ADD one <<EOF /c/\nx\nEOF", 1, []),
    "a bind mount": ("RUN --mount=type=bind,source=two,target=/m cp -r /m /c", 1, []),
    "the root as a mount": ("RUN --mount=target=/m cp -r /m /c", 5, []),
    "a variable": ("ARG which=one\nCOPY $which /c/", 5, []),
    "a link on the way": ("COPY link/sub /c/", 5, []),
    "a link elsewhere": ("COPY two/sub /c/", 0, []),
    "a trigger of the base": ("FROM trigger:1", 2, []),
    "a stage that is not needed": ("COPY . /all\nFROM bb:1 AS wanted\nCOPY one /c/", 1, []),
    "an earlier target": ("FROM bb:1 AS t\nCOPY two /c/\nFROM bb:1\nCOPY . /c/", 1, ["--target", "t"]),
    "what is ignored": ("COPY . /c/", 3, []),
}


@pytest.mark.parametrize("name", USED)
def test_only_what_the_plan_can_use_is_sent(engine, tmp_path, name):
    dockerfile, parts, flags = USED[name]
    folder = tmp_path / "context"
    folder.mkdir()
    part = 300000
    write(folder, {"one/data": os.urandom(part), "two/data": os.urandom(part), "two/sub/x.c": name, "three.txt": os.urandom(part), "sub/ignored": os.urandom(part), "four/data": os.urandom(part),
                   "Dockerfile": "FROM bb:1\n" + dockerfile + "\n", ".dockerignore": "sub\n" if name == "what is ignored" else ""})
    os.symlink("two", folder / "link")
    with open(folder / "four/huge", "wb") as file:
        file.truncate((1 << 30) if parts < 5 and name != "what is ignored" else 1)
    if name == "what is ignored":
        shutil.rmtree(folder / "four")
    if "trigger" in name:
        build(engine, "-t", "trigger:1", "-", input="FROM bb:1\nONBUILD COPY one two /c/\n")
    sent, image = counted(engine, tmp_path, *flags, folder)
    least = 0 if parts >= 5 else parts * part
    assert least <= sent < (parts + 1) * part + 500000, sent
    # and the same comes out as where all is sent
    if parts < 5 and (folder / "four/huge").exists():
        os.truncate(folder / "four/huge", 1)
    theirs = build(engine, "-q", "--no-cache", *flags, folder, client="docker").stdout.strip()
    ids = [engine.tare("image", "inspect", "-f", "{{json .RootFS.Layers}}", one).stdout for one in (image, theirs)]
    assert json.loads(ids[0])[-1:] == json.loads(ids[1])[-1:] or "RUN" in dockerfile


def test_a_huge_context_is_met_with_a_warning(engine, tmp_path):
    write(tmp_path, {"Dockerfile": "FROM bb:1\n", "small": "x"})
    for name, size in (("large/a", 900 << 20), ("middle", 300 << 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    process = subprocess.Popen([os.path.join(program_directory(), "tare"), "-H", engine.host, "build", str(tmp_path)], env={**os.environ, **CLASSIC}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    process.send_signal(2)
    process.communicate()
    assert "WARNING: The build context has 1.26GB. Its largest entries: large (944MB), middle (315MB), " in line and ".dockerignore" in line


# ---- URLs ----


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    write(folder, {"plain": "FROM bb:1\nRUN mkdir /c; echo url > /c/url\n", "ctx.tar.gz": gzip.compress(tar_of({"Dockerfile": "FROM bb:1\nCOPY a /c/a\n", "a": "1"}))})

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/ctx.tar.gz")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("client", ["tare", "docker"])
def test_urls_by_the_client(engine, web, client):
    url, _ = web
    out = build(engine, "-t", "ctx", url + "/plain", client=client).stdout
    assert out.startswith(f"Downloading build context from remote url: {url}/plain [==================================================>]      42B/42B")
    assert listing(engine) == ["url"]
    for name in ("/ctx.tar.gz", "/moved"):
        build(engine, "-t", "ctx", url + name, client=client)
        assert listing(engine) == ["a"]
    failed = build(engine, url + "/nosuch", client=client, check=False)
    assert failed.returncode == 1 and f"unable to prepare context: unable to download remote context {url}/nosuch: failed to GET {url}/nosuch with status 404" in failed.stderr


def test_urls_by_the_api(engine, web):
    url, _ = web
    for name, found in (("/plain", "url"), ("/ctx.tar.gz", "a")):
        answer = engine.api("POST", f"/v1.41/build?networkmode=none&t=ctx&remote={url}{name}")
        assert answer.status == 200 and "Successfully tagged" in answer.body.decode()
        assert listing(engine) == [found]


# ---- git ----


def git(folder, *arguments, date="@1400000000 +0000"):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    return subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment).stdout.strip()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """main.git with a branch, a tag, a subdirectory and a submodule, served by git daemon and, as plain files, by a web server."""
    top = tmp_path_factory.mktemp("git")
    for name in ("module", "main"):
        git(top, "init", "-q", "-b", "master", name)
    write(top / "module", {"inner": "module"})
    git(top / "module", "add", ".")
    git(top / "module", "commit", "-qm", "x")
    write(top / "main", {"Dockerfile": "FROM bb:1\nCOPY . /c\n", "f": "first", "sub/Dockerfile": "FROM bb:1\nCOPY . /c\n", "sub/g": "g"})
    os.symlink("/etc", top / "main" / "outside")
    git(top / "main", "add", ".")
    git(top / "main", "commit", "-qm", "first")
    first = git(top / "main", "rev-parse", "HEAD")
    git(top / "main", "tag", "v1")
    write(top / "main", {"f": "second", "h": "h"})
    git(top / "main", "add", ".")
    git(top / "main", "commit", "-qm", "second")
    git(top / "main", "checkout", "-qb", "dev")
    server = None
    port = 0
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"git://127.0.0.1:{port}"
    server = subprocess.Popen(["/usr/lib/git-core/git-daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={top}", str(top)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert server.poll() is None
    git(top / "main", "submodule", "add", "-q", url + "/module/.git", "mod")
    git(top / "main", "commit", "-qm", "module")
    git(top / "main", "checkout", "-q", "master")
    git(top / "main", "update-server-info")
    yield top, url, first
    server.terminate()
    server.wait()


@pytest.mark.parametrize("face", ["tare", "api"])
def test_git_contexts(engine, repositories, face):
    _, url, first = repositories
    main = url + "/main/.git"
    expected = {"": ["Dockerfile", "f", "h", "outside", "sub", "sub/Dockerfile", "sub/g"], "#v1": ["Dockerfile", "f", "outside", "sub", "sub/Dockerfile", "sub/g"],
                "#dev": [".gitmodules", "Dockerfile", "f", "h", "mod", "mod/.git", "mod/inner", "outside", "sub", "sub/Dockerfile", "sub/g"], "#:sub": ["Dockerfile", "g"],
                "#" + first: ["Dockerfile", "f", "outside", "sub", "sub/Dockerfile", "sub/g"], "#" + first[:9] + ":sub": ["Dockerfile", "g"]}
    for fragment, names in expected.items():
        if face == "tare":
            build(engine, "-t", "ctx", main + fragment)
        else:
            answer = engine.api("POST", "/v1.41/build?networkmode=none&t=ctx&remote=" + (main + fragment).replace("#", "%23"))
            assert answer.status == 200 and b"Successfully tagged" in answer.body, answer.body
        assert listing(engine) == names, fragment


@pytest.mark.parametrize("incident", ["cve_2026_33748_subdir", "buildkit_f83dedd8d_options", "what is not there"])
def test_git_contexts_that_are_refused(engine, repositories, incident):
    """BuildKit: a subdirectory led outside of the checkout; what stood for a branch was taken for an option of git's."""
    _, url, _ = repositories
    main = url + "/main/.git"
    for bad in {"cve": ("#:../..", "#:outside", "#:sub/../../.."), "bui": ("#--upload-pack=touch", "#-c:x"), "wha": ("#nosuch", "#:nosuch")}[incident[:3]]:
        assert build(engine, main + bad, check=False).returncode == 1
        answer = engine.api("POST", "/v1.41/build?remote=" + (main + bad).replace("#", "%23"))
        assert answer.status in (400, 404, 500), (bad, answer.body)
    assert engine.api("POST", "/v1.41/build?remote=git@-oProxyCommand=touch:x").status == 400
    assert os.listdir(os.path.join(engine.data_root, "build", "tmp")) == []


def test_a_private_repository_over_ssh(engine, repositories, tmp_path):
    """A real sshd with a key that only the user has."""
    top, _, _ = repositories
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host"], check=True)
    shutil.copy(tmp_path / "key.pub", tmp_path / "authorized")
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write(tmp_path, {"config": f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nPidFile {tmp_path}/pid\nStrictModes no\nUsePAM no\n"})
    os.makedirs("/run/sshd", exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", tmp_path / "config"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert server.poll() is None
        command = f"ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i {tmp_path}/key"
        url = f"ssh://root@127.0.0.1:{port}{top}/main/.git#v1:sub"
        build(engine, "-t", "ctx", url, env={"GIT_SSH_COMMAND": command})
        assert listing(engine) == ["Dockerfile", "g"]
        assert build(engine, url, check=False, env={"GIT_SSH_COMMAND": command.replace("/key", "/nokey")}).returncode == 1
    finally:
        server.terminate()
        server.wait()


# ---- how large ----

LIMIT = 8 << 20
TOO_LARGE = f"build context: uncompressed data is larger than {LIMIT} bytes"
FITS = LIMIT - 20480  # with headers, and what an archive ends with


@pytest.fixture(scope="module")
def bounded():
    running = make_engine("--max-layer-size", "8m").start()
    yield running
    finish(running)


def kept(engine):
    """The names of all that is in the data root, and what the engine says of its size."""
    found = [os.path.join(folder, name) for folder, directories, files in os.walk(engine.data_root) for name in directories + files]
    return sorted(found), engine.api("GET", "/system/df").json


def offer(way, size, folder, web, repositories):
    """What a client is given for a context with a file of so many bytes, and its input."""
    files = {"Dockerfile": "FROM scratch\nCOPY data /c/\n", "data": "\0" * size}
    if way == "directory":
        return write(folder / str(size), files), None
    if way == "git":
        top, url, _ = repositories
        name = f"{folder.name}-{size}"
        git(top, "init", "-q", name)
        git(write(top / name, files), "add", ".")
        git(top / name, "commit", "-qm", "x")
        return f"{url}/{name}/.git", None
    data = tar_of(files) if way.startswith("plain") else gzip.compress(tar_of(files))
    if way.endswith("stdin"):
        return "-", data
    (web[1] / f"{size}.tar").write_bytes(data)
    return f"{web[0]}/{size}.tar", None


@pytest.mark.parametrize("way, client", [(way, client) for way in ("directory", "plain stdin", "gzip stdin", "plain url", "gzip url", "git") for client in ("tare", "docker", "api")
                                         if (way, client) not in (("directory", "api"), ("git", "docker"))])
def test_a_context_has_a_limit(bounded, tmp_path, web, repositories, way, client):
    """One that fits is built; of a larger one nothing stays, and it does not matter how small it was on its way."""
    def attempt(size):
        given, data = offer(way, size, tmp_path, web, repositories)
        if client != "api":
            ran = build(bounded, "-t", "fits:1", given, client=client, input=data, check=False)
            return ran.returncode, ran.stderr if data is None else ran.stderr.decode()
        answer = bounded.api("POST", "/v1.41/build?t=fits:1" + ("" if data else f"&remote={given}"), data)
        return answer.status, "" if answer.status == 200 else answer.message

    before = kept(bounded)
    for size in (LIMIT, 8 * LIMIT):
        status, said = attempt(size)
        assert status == (413 if client == "api" else 1) and TOO_LARGE in said, (size, status, said)
        assert client == "api" or said.splitlines()[-1] == f"Error response from daemon: {TOO_LARGE}"
        assert kept(bounded) == before
    assert attempt(FITS)[0] == (200 if client == "api" else 0)
    assert json.loads(bounded.tare("image", "inspect", "fits:1").stdout)[0]["Size"] == FITS
    bounded.tare("image", "rm", "fits:1")


@pytest.mark.parametrize("named", [False, True])
def test_a_context_does_not_grow_past_the_limit(bounded, tmp_path, named):
    """What the engine has of it from the last build counts, though less than the limit would be sent."""
    folder = write(tmp_path / "context", {"Dockerfile": "FROM scratch\nCOPY . /c/\n", "a": os.urandom(LIMIT // 2)})
    main = write(tmp_path / "main", {"Dockerfile": "FROM scratch\nCOPY --from=files . /c/\n"})
    arguments = ["-t", "grown:1", *(["--build-context", f"files={folder}", main] if named else [folder])]
    again = lambda: counted(bounded, tmp_path, *arguments)[0]
    wait_until(lambda: again() < LIMIT // 4, again, 10)  # the engine has it, and the file is no longer young
    before = kept(bounded)
    write(folder, {"b": os.urandom(LIMIT // 3), "c": os.urandom(LIMIT // 3)})
    refused = build(bounded, *arguments, check=False)
    assert refused.returncode == 1 and refused.stderr.endswith(f"Error response from daemon: {TOO_LARGE}\n"), refused
    assert kept(bounded) == before
    os.unlink(folder / "b")
    os.unlink(folder / "c")
    os.link(folder / "a", folder / "b")
    build(bounded, *arguments)
    write(folder, {"c": os.urandom(LIMIT // 2 - 20480)})
    build(bounded, *arguments)
    listed = bounded.api("POST", "/build/context?key=x", b"100644 %d 1\0a\0" % LIMIT)
    assert (listed.status, listed.message) == (413, TOO_LARGE)
    bounded.tare("image", "rm", "grown:1")


# ---- named contexts ----


def test_named_contexts(engine, tmp_path, web, repositories):
    url, _ = web
    _, repository, _ = repositories
    write(tmp_path, {"main/Dockerfile": "FROM base\nCOPY --from=files a /c/a\nCOPY --from=large /big /c/\nCOPY --from=archive a /c/archive\nCOPY --from=repo f /c/f\nCOPY --from=other bin/busybox /c/image\n",
                     "files/a": "a", "files/ignored": "x", "files/.dockerignore": "ignored\n", "large/big": os.urandom(400000)})
    flags = [f"files={tmp_path}/files", f"large={tmp_path}/large", f"archive={url}/ctx.tar.gz", f"repo={repository}/main/.git#v1", "other=docker-image://bb:1", "base=docker-image://bb:1"]
    contexts = [word for flag in flags for word in ("--build-context", flag)]
    build(engine, "-t", "ctx", *contexts, tmp_path / "main")
    assert listing(engine) == ["a", "archive", "big", "f", "image"]
    assert build(engine, *contexts, tmp_path / "main").stdout.count("Using cache") == 5
    write(tmp_path, {"files/a": "changed"})
    assert build(engine, *contexts, tmp_path / "main").stdout.count("Using cache") == 0
    write(tmp_path, {"main/Dockerfile": "FROM files\nCOPY --from=files a /b\n"})
    build(engine, "-t", "ctx", *contexts, tmp_path / "main")
    failed = build(engine, "--build-context", "nothing", tmp_path / "main", check=False)
    assert "invalid context value: nothing, expected key=value" in failed.stderr
