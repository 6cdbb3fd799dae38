"""The Dockerfile language beyond the classic builder's: here-documents, mounts of RUN, the flags of COPY and ADD, expansion."""

import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading

import docker
import pytest


CLIENTS = ["tare", "docker"]


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


@pytest.fixture
def context(tmp_path):
    def make(**files):
        for name, text in files.items():
            put(tmp_path / "context", name, text)
        return tmp_path / "context"

    return make


def put(directory, name, text):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def build(engine, text, directory=None, *flags, client="tare", check=True, tag="lang", **options):
    """A build without a network, by default of a Dockerfile alone."""
    where = ["-"] if directory is None else ["-f", "-", str(directory)]
    options.setdefault("env", {})
    options["env"]["DOCKER_BUILDKIT"] = "0"
    run = getattr(engine, client)
    return run("build", "--network", "none", "-t", tag, *flags, *where, input=text, check=check, **options)


def cat(engine, *paths, tag="lang"):
    return engine.tare("run", "--rm", "--network", "none", tag, "cat", *paths).stdout


def sh(engine, script, tag="lang"):
    return engine.tare("run", "--rm", "--network", "none", tag, "sh", "-c", script).stdout


def layers(engine, tag="lang"):
    return engine.api("GET", f"/images/{tag}/json").json["RootFS"]["Layers"]


# ---- here-documents ----

HEREDOCS = r"""FROM bb:1
ARG who=world
RUN <<EOF
echo "one $who" > /run-one
  echo two >> /run-one
EOF
RUN cat <<first > /run-several && cat <<-'second' >> /run-several && cat 3<<third <&3 > /run-third
first $who
first
	second $who
	second
last
third
RUN <<-EOF
	#!/bin/sh
	echo "script $0 $who" > /run-script
	EOF
COPY <<plain.txt <<'raw.txt' /copied/
hello $who "quoted" \$who \\ ${who%ld}
plain.txt
hello $who \$who
raw.txt
COPY --chmod=755 --chown=1:2 <<EOF /copied/named
#!/bin/sh
EOF
ADD <<-added /copied/added
		tabs are gone
	added
"""


@pytest.mark.parametrize("client", CLIENTS)
def test_heredocs(engine, client):
    out = build(engine, HEREDOCS, client=client, tag="heredoc").stdout
    assert 'Step 3/8 : RUN <<EOF (echo "one $who" > /run-one...)\n' in out
    assert cat(engine, "/run-one", "/run-several", "/run-third", "/run-script", tag="heredoc") == \
        "one world\ntwo\nfirst world\nsecond $who\nlast\nscript /dev/pipes/EOF world\n"
    assert cat(engine, "/copied/plain.txt", "/copied/raw.txt", "/copied/added", tag="heredoc") == \
        'hello world "quoted" $who \\ wor\nhello $who \\$who\ntabs are gone\n'
    assert sh(engine, "stat -c '%a %u:%g' /copied/named /copied/plain.txt", tag="heredoc") == "755 1:2\n644 0:0\n"
    again = build(engine, HEREDOCS, client=client, tag="heredoc").stdout
    assert again.count("Using cache") == 7
    changed = build(engine, HEREDOCS.replace("tabs are", "for " + client), client=client, tag="heredoc").stdout
    assert changed.count("Using cache") == 6
    changed = build(engine, HEREDOCS.replace('echo "script', f'echo "{client}'), client=client, tag="heredoc").stdout
    assert changed.count("Using cache") == 3


def test_heredocs_by_the_python_sdk(engine):
    client = docker.DockerClient(base_url=engine.host)
    image, log = client.images.build(fileobj=io.BytesIO(b"FROM bb:1\nCOPY <<a /a\ntext\na\nRUN <<b\ncat /a > /b\nb\n"), network_mode="none", rm=True, tag="sdk")
    assert client.containers.run(image.id, ["cat", "/b"], remove=True, network_mode="none") == b"text\n"
    assert any("RUN <<b (cat /a > /b)" in line.get("stream", "") for line in log)
    client.close()


def test_heredoc_in_onbuild(engine):
    build(engine, "FROM bb:1\nONBUILD RUN <<EOF\necho triggered > /t\nEOF\n", tag="onbuild-heredoc")
    build(engine, "FROM onbuild-heredoc\n")
    assert cat(engine, "/t") == "triggered\n"


def test_heredoc_without_its_end(engine):
    result = build(engine, "FROM bb:1\nRUN <<EOF\nfalse\n", check=False)
    assert result.returncode == 1 and "unterminated heredoc" in result.stderr


# ---- RUN --mount ----


@pytest.mark.parametrize("client", CLIENTS)
def test_mount_bind(engine, context, client):
    directory = context(**{"src/a": "from context\n", "other": "x"})
    text = """FROM bb:1 AS first
RUN mkdir /made && echo "from stage" > /made/file && ln -s /etc/passwd /made/link
FROM bb:1
RUN --mount=type=bind,source=src,target=/mnt/context --mount=from=first,source=/made,target=made,rw \\
    --mount=from=bb:1,target=/image cat /mnt/context/a > /out && cat /made/file >> /out && echo lost > /made/file && \\
    ls /image/bin/busybox >> /out && ! touch /mnt/context/new 2>/dev/null && touch /made/new
RUN ls -d /mnt /made /image 2>&1 | sort >> /out
"""
    build(engine, text, directory, client=client)
    out = cat(engine, "/out")
    assert out.startswith("from context\nfrom stage\n/image/bin/busybox\n")
    assert out.count("No such file") == 3  # mount points that were made for the step went with it
    assert "Using cache" in build(engine, text, directory).stdout
    put(directory, "other", "y")
    assert build(engine, text, directory).stdout.count("Using cache") == 3
    put(directory, "src/a", "changed\n")
    build(engine, text, directory)
    assert cat(engine, "/out").startswith("changed\n")


def test_mount_cache(engine):
    step = "RUN --mount=type=cache,id=packages,target=/var/cache/x{} echo {} >> /var/cache/x/list && cat /var/cache/x/list > /out; stat -c '%a %u:%g' /var/cache/x > /mode\n"
    build(engine, "FROM bb:1\n" + step.format(",mode=0770,uid=5,gid=6", "one"))
    assert cat(engine, "/out", "/mode") == "one\n770 5:6\n"
    build(engine, "FROM bb:1\n" + step.format(",sharing=locked", "two"))
    assert cat(engine, "/out") == "one\ntwo\n"
    build(engine, "FROM bb:1\n" + step.format("", "three").replace(">> /var/cache/x/list", "").replace("type=cache", "type=cache,readonly"))
    assert cat(engine, "/out") == "one\ntwo\n"
    assert sh(engine, "ls /var/cache 2>&1 || true").endswith("No such file or directory\n")
    build(engine, "FROM bb:1 AS base\nRUN mkdir /seed && echo seed > /seed/f\nFROM bb:1\n"
          "RUN --mount=type=cache,id=seeded,from=base,source=/seed,target=/c cat /c/f > /out; echo more >> /c/f\n"
          "RUN --mount=type=cache,id=seeded,from=base,source=/seed,target=/c cat /c/f >> /out\n")
    assert cat(engine, "/out") == "seed\nseed\nmore\n"
    engine.restart(hard=True)
    build(engine, "FROM bb:1\n" + step.format("", "four"))
    assert cat(engine, "/out") == "one\ntwo\nfour\n"


def test_private_and_shared_caches_at_the_same_time(engine):
    """Two stages in one cache each: shared, both see what the other writes; private, each has its own."""
    meet = "FROM bb:1 AS {name}\nRUN --mount=type=cache,id={id},sharing={sharing},target=/c touch /c/{name}; for i in $(seq 50); do [ -e /c/{other} ] && break; sleep 0.1; done; ls /c > /out\n"

    def both(id, sharing):
        return meet.format(name="aa", other="bb", id=id, sharing=sharing) + meet.format(name="bb", other="aa", id=id, sharing=sharing) + \
            "FROM bb:1\nCOPY --from=aa /out /a\nCOPY --from=bb /out /b\n"

    build(engine, both("met", "shared"))
    assert cat(engine, "/a", "/b") == "aa\nbb\naa\nbb\n"
    build(engine, both("apart", "private").replace("seq 50", "seq 3"))
    assert cat(engine, "/a", "/b") == "aa\nbb\n"


def test_mount_tmpfs(engine):
    build(engine, "FROM bb:1\nRUN --mount=type=tmpfs,target=/t,size=8m df -k /t | tail -n 1 > /out; echo x > /t/x\nRUN [ ! -e /t ]\n")
    assert cat(engine, "/out").split()[1] == "8192"


REFUSED = [
    ("RUN --mount=type=nosuch,target=/x true", 'unsupported mount type "nosuch"'),
    ("RUN --mount=type=cache true", 'invalid mount target ""'),
    ("RUN --mount=target=/ true", 'invalid mount target "/"'),
    ("RUN --mount=target=/x,mode=0644 true", 'mode not allowed for "bind" type mounts'),
    ("RUN --mount=target=/x,from=nosuch:1 true", "nosuch:1"),
    ("RUN --mount=target=/x,source=nosuch true", "stat nosuch: file does not exist"),
    ("RUN --mount=type=secret,id=key,required true", "secret key: not found"),
    ("RUN --mount=type=ssh,required true", "ssh agent default: not given to the build"),
    ("RUN --mount=type=cache,target=/x,sharing=some true", 'unsupported sharing value "some"'),
    ("RUN --mount=type=tmpfs,target=/x,what=1 true", "unexpected key 'what' in 'what=1'"),
    ("RUN --device=/dev/kvm true", "devices of the host are not given to builds"),
    ("RUN --network=host true", "network.host is not allowed"),
    ("RUN --security=insecure true", "security.insecure is not allowed"),
    ("COPY --chmod=u=rwx+q a /", "invalid chmod parameter"),
    ("COPY --parents ../a /", "forbidden path outside the build context"),
]


@pytest.mark.parametrize("step, message", REFUSED)
def test_refused(engine, context, step, message):
    result = build(engine, f"FROM bb:1\n{step}\n", context(a="1"), check=False)
    assert result.returncode == 1 and message in result.stderr + result.stdout


def test_network_of_one_step(engine):
    build(engine, "FROM bb:1\nRUN --network=none ls /sys/class/net > /out\n")
    assert cat(engine, "/out") == "lo\n"


# ---- COPY and ADD ----


def tree(engine, path="/", tag="lang"):
    return sh(engine, f"cd {path} && find . -mindepth 1 | sort | xargs stat -c '%n %a %u:%g'", tag=tag)


def test_copy_exclude_and_parents(engine, context):
    directory = context(**{"x/a.txt": "1", "x/b.md": "2", "x/deep/c.txt": "3", "x/deep/d.md": "4", "y/a.txt": "5", "top.md": "6", "top.txt": "7"})
    os.chmod(directory / "x", 0o750)
    text = """FROM bb:1
COPY --exclude=*.md --exclude=deep/c.txt x /excluded/
COPY --exclude=*.md top* /files/
COPY --parents x/a.txt y/a.txt /parents/
COPY --parents ./x/./deep/*.txt /pivot/
COPY --parents **/*.md /stars/
COPY --parents x /whole
"""
    build(engine, text, directory)
    assert tree(engine, "/excluded") == "./a.txt 644 0:0\n./deep 755 0:0\n./deep/d.md 644 0:0\n"
    assert tree(engine, "/files") == "./top.txt 644 0:0\n"
    assert tree(engine, "/parents") == "./x 750 0:0\n./x/a.txt 644 0:0\n./y 755 0:0\n./y/a.txt 644 0:0\n"
    assert tree(engine, "/pivot") == "./deep 755 0:0\n./deep/c.txt 644 0:0\n"
    assert tree(engine, "/stars") == "./top.md 644 0:0\n./x 750 0:0\n./x/b.md 644 0:0\n./x/deep 755 0:0\n./x/deep/d.md 644 0:0\n"
    assert tree(engine, "/whole").splitlines()[0] == "./x 750 0:0" and len(tree(engine, "/whole").splitlines()) == 6
    put(directory, "x/b.md", "changed, and left out")
    assert build(engine, text, directory).stdout.count("Using cache") == 4  # up to the first that copies it


def test_copy_link_and_chmod(engine, context):
    directory = context(f="1", **{"d/x": "2"})
    os.chmod(directory / "f", 0o640)
    build(engine, """FROM bb:1
RUN mkdir -p /real /tmp && chmod 1777 /tmp && ln -s real /link
COPY --link f /tmp/
COPY --link f /link/
COPY --chmod=u+x,g=,o=r f /modes/
COPY --chmod=a=rX,u+w d /modes/d/
COPY --chmod=4711 f /modes/octal
""", directory)
    assert tree(engine, "/modes") == "./d 755 0:0\n./d/x 644 0:0\n./f 704 0:0\n./octal 4711 0:0\n"
    assert sh(engine, "stat -c '%a' /tmp; [ -L /link ] || echo replaced; ls /real") == "1777\nreplaced\n"


def test_add_of_archives(engine, context):
    directory = context(plain="x")
    (directory / "a.tgz").write_bytes(archive())
    build(engine, """FROM bb:1
ADD a.tgz /taken-apart/
ADD --unpack=false a.tgz /kept/
ADD --chown=3:4 a.tgz plain /both/
ADD --link --chmod=600 plain /linked/
""", directory)
    assert sh(engine, "cat /taken-apart/in/file; ls /kept /both; stat -c '%u:%g' /both/plain; stat -c %a /linked/plain") == \
        "x\n/both:\nin\nplain\n\n/kept:\na.tgz\n3:4\n600\n"


def test_old_and_new_forms(engine):
    build(engine, """FROM bb:1
ENV old form with  blanks
ENV new="quoted value" and=another\\ one
SHELL ["/bin/sh", "-ec"]
STOPSIGNAL SIGRTMIN+3
MAINTAINER someone <a@b>
VOLUME /data [not-json
USER 5:6
WORKDIR relative
WORKDIR /absolute/../w
LABEL one=1 "two words"='single $old'
""")
    image = engine.api("GET", "/images/lang/json").json
    config = image["Config"]
    assert config["Env"][-3:] == ["old=form with  blanks", "new=quoted value", "and=another one"]
    assert (config["Shell"], config["StopSignal"], config["User"], config["WorkingDir"]) == (["/bin/sh", "-ec"], "SIGRTMIN+3", "5:6", "/w")
    assert image["Author"] == "someone <a@b>" and config["Labels"] == {"one": "1", "two words": "single $old"}
    assert sorted(config["Volumes"]) == ['/data', '[not-json']


def test_expansion_of_all_kinds(engine, context):
    directory = context(**{"v1.2/file": "found\n"})
    build(engine, """ARG version=1.2.3
FROM bb:1
ARG version
ENV path=/a/b/c.tar.gz
ENV major=${version%%.*} minor=${version%.*} file=${path##*/} dir=${path%/*} dashed=${version//./-} first=${version/./_}
LABEL m=${path#/a/}
WORKDIR /w/${dashed}
COPY v${minor}/file ./${file%.gz}
EXPOSE ${major}80
""", directory)
    config = engine.api("GET", "/images/lang/json").json["Config"]
    env = dict(item.split("=", 1) for item in config["Env"])
    assert {key: env[key] for key in ("major", "minor", "file", "dir", "dashed", "first")} == \
        {"major": "1", "minor": "1.2", "file": "c.tar.gz", "dir": "/a/b", "dashed": "1-2-3", "first": "1_2.3"}
    assert config["Labels"]["m"] == "b/c.tar.gz" and config["WorkingDir"] == "/w/1-2-3" and list(config["ExposedPorts"]) == ["180/tcp"]
    assert cat(engine, "/w/1-2-3/c.tar") == "found\n"


def test_predefined_args(engine):
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    text = """ARG variant=${TARGETARCH}
FROM bb:1 AS for-amd64
RUN echo for-amd64 > /base
FROM bb:1 AS for-arm64
RUN echo for-arm64 > /base
FROM for-${variant} AS last
ARG TARGETPLATFORM
ARG BUILDARCH
ARG TARGETSTAGE
ARG TARGETOS=other
RUN echo $TARGETPLATFORM $BUILDARCH $TARGETSTAGE $TARGETOS [$TARGETARCH] > /out
"""
    build(engine, text)
    assert cat(engine, "/base", "/out") == f"for-{machine}\nlinux/{machine} {machine} default other []\n"
    build(engine, text, None, "--target", "last")
    assert cat(engine, "/out").split()[2] == "last"


def test_args_of_the_stage_below(engine):
    text = "FROM bb:1 AS base\nARG NAME=joe\nFROM base AS child\nRUN echo hello $NAME > /out\nFROM child\nARG NAME=own\nRUN echo $NAME >> /out\n"
    build(engine, text)
    assert cat(engine, "/out") == "hello joe\nown\n"
    build(engine, text, None, "--build-arg", "NAME=given")
    assert cat(engine, "/out") == "hello given\ngiven\n"
    history = engine.api("GET", "/images/lang/history").json
    assert history[2]["CreatedBy"] == "/bin/sh -c echo hello $NAME > /out"


# ---- ADD of what is elsewhere ----


@pytest.fixture(scope="module")
def server():
    """Files over HTTP, with a page for each: what was asked for is counted."""
    files = {"/f.txt": b"over http\n", "/a.tgz": archive()}
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/f.txt")
                self.end_headers()
                return
            if self.path == "/to-file":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
                return
            path = os.path.join(Handler.directory, self.path.split("?")[0].strip("/"))
            body = files.get(self.path) or (open(path, "rb").read() if os.path.isfile(path) else None)
            self.send_response(200 if body is not None else 404)
            if self.path == "/f.txt":
                self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    Handler.directory = "/nonexistent"
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    running.url, running.asked, running.handler = f"http://127.0.0.1:{running.server_port}", asked, Handler
    yield running
    running.shutdown()
    running.server_close()


def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("in/file")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"x\n"))
    return out.getvalue()


@pytest.mark.parametrize("client", CLIENTS)
def test_add_url(engine, server, client):
    checksum = "sha256:" + hashlib.sha256(b"over http\n").hexdigest()
    text = f"""FROM bb:1
ADD {server.url}/f.txt {server.url}/a.tgz /d/
ADD --unpack {server.url}/a.tgz /u/
ADD --checksum={checksum} --chmod=644 {server.url}/f.txt /named
ADD {server.url}/moved /d/
"""
    build(engine, text, client=client, tag="urls")
    assert tree(engine, "/d", tag="urls") == "./a.tgz 600 0:0\n./f.txt 600 0:0\n./moved 600 0:0\n"
    assert sh(engine, "cat /named /u/in/file; stat -c '%a %Y' /named /d/f.txt; stat -c %Y /d/a.tgz", tag="urls") == \
        "over http\nx\n644 1445412480\n600 1445412480\n0\n"
    assert build(engine, text, client=client, tag="urls").stdout.count("Using cache") == 4


URLS_REFUSED = [
    ("ADD --checksum=sha256:" + "0" * 64 + " {url}/f.txt /", "digest mismatch sha256:"),
    ("ADD --checksum=nothing {url}/f.txt /", "invalid checksum digest format"),
    ("ADD --checksum=sha256:" + "0" * 64 + " a /", "checksum requires HTTP(S) or Git sources"),
    ("ADD {url}/nosuch /", "status 404"),
    ("ADD {url}/to-file /f", "Get "),
    ("ADD {url}/ /d/", "cannot determine filename from url"),
    ("COPY {url}/f.txt /", "source can't be a URL for COPY"),
    ("COPY {url}/x.git /", "source can't be a git ref for COPY"),
    ("ADD {url}/nosuch.git /", "git fetch"),
    ("ADD git@--upload-pack=x:y /", "git"),
    ("ADD {url}/x.git#--upload-pack=/bin/false /", "git"),
]


@pytest.mark.parametrize("step, message", URLS_REFUSED)
def test_refused_sources(engine, server, context, step, message):
    result = build(engine, "FROM bb:1\n" + step.format(url=server.url) + "\n", context(a="1"), check=False)
    assert result.returncode == 1 and message in result.stderr + result.stdout, result.stderr + result.stdout


def git(*arguments, directory):
    environment = {**os.environ, "GIT_AUTHOR_DATE": "1600000000 +0000", "GIT_COMMITTER_DATE": "1600000000 +0000"}
    return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=directory, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_add_git(engine, server, tmp_path):
    work = tmp_path / "work"
    put(work, "top", "one\n")
    put(work, "sub/inner", "two\n")
    (work / "sub" / "link").symlink_to("/etc")
    (work / "out").symlink_to("/etc")
    git("init", "-q", "-b", "main", directory=work)
    git("add", ".", directory=work)
    git("commit", "-qm", "first", directory=work)
    first = git("rev-parse", "HEAD", directory=work)
    git("tag", "v1", directory=work)
    put(work, "top", "changed\n")
    git("commit", "-qam", "second", directory=work)
    git("clone", "-q", "--bare", str(work), str(tmp_path / "served" / "r.git"), directory=tmp_path)
    git("update-server-info", directory=tmp_path / "served" / "r.git")
    server.handler.directory = str(tmp_path / "served")
    url = server.url + "/r.git"
    text = f"""FROM bb:1
ADD {url} /head
ADD {url}#v1 /tag
ADD --checksum={first} {url}#{first}:sub /commit
ADD --keep-git-dir {url}#main /kept
"""
    build(engine, text)
    assert cat(engine, "/head/top", "/tag/top", "/commit/inner") == "changed\none\ntwo\n"
    assert sh(engine, "ls -A /head /commit; ls -d /kept/.git; readlink /commit/link; stat -c %Y /head/top") == \
        "/commit:\ninner\nlink\n\n/head:\nout\nsub\ntop\n/kept/.git\n/etc\n1600000000\n"
    assert build(engine, text).stdout.count("Using cache") == 4
    put(work, "Dockerfile", "FROM bb:1\nRUN --mount=source=sub,target=/m cat /m/inner > /out\nRUN --mount=target=/m,rw touch /m/new && cat /m/top >> /out\n")
    git("add", ".", directory=work)
    git("commit", "-qm", "third", directory=work)
    git("push", "-q", str(tmp_path / "served" / "r.git"), "main", directory=work)
    git("update-server-info", directory=tmp_path / "served" / "r.git")
    engine.tare("build", "--network", "none", "-t", "from-git", url)  # a context that is a directory of the engine's
    assert cat(engine, "/out", tag="from-git") == "two\nchanged\n"
    # CVE-2026-33748: a subdirectory that is a link to elsewhere is one of the checkout's
    result = build(engine, f"FROM bb:1\nADD {url}#main:out /o\n", check=False)
    assert result.returncode == 1 and "of the git repository" in result.stdout + result.stderr
    # an option where a ref is expected is no option (buildkit f83dedd8d)
    result = build(engine, f"FROM bb:1\nADD {url}#--output=/tmp/x /o\n", check=False)
    assert "git" in result.stdout + result.stderr
    result = build(engine, f"FROM bb:1\nADD --checksum={'0' * 40} {url} /o\n", check=False)
    assert "expected checksum to match" in result.stdout + result.stderr


def test_healthcheck_start_interval(engine):
    build(engine, "FROM bb:1\nHEALTHCHECK --start-interval=2s --interval=10s --timeout=3s --start-period=1m --retries=4 CMD true\n")
    health = engine.api("GET", "/v1.51/images/lang/json").json["Config"]["Healthcheck"]
    assert health == {"Test": ["CMD-SHELL", "true"], "Interval": 10**10, "Timeout": 3 * 10**9, "StartPeriod": 6 * 10**10, "StartInterval": 2 * 10**9, "Retries": 4}


def test_same_sources_same_layers(engine, context):
    """Two builds without a cache of the same Dockerfile have the same layers where RUN itself makes no difference."""
    text = "FROM bb:1\nCOPY f /d/\nCOPY <<EOF /here/f\nx\nEOF\nCOPY --link --parents f /p/\nWORKDIR /w\n"
    directory = context(f="1", Dockerfile=text)
    for tag in ("once", "twice"):
        engine.tare("build", "--network", "none", "--no-cache", "-t", tag, str(directory))
    assert layers(engine, "once") == layers(engine, "twice")
