"""import: from files, stdin and URLs, by both clients and beside dockerd; every instruction of -c, every compression, platforms, names and texts."""

import bz2
import fcntl
import functools
import gzip
import http.server
import json
import lzma
import os
import pty
import re
import select
import ssl
import subprocess
import struct
import subprocess
import termios
import threading
import urllib.parse

import pytest

from conftest import UnixConnection, finish, make_engine, newer_client, program_directory
from dockerd import running_dockerd
from inputs import busybox_root
from registries import Authority

CLIENTS = {"tare": os.path.join(program_directory(), "tare"), "docker": "docker"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, and what else servers do."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        status, _, rest = self.path.lstrip("/").partition("/")
        if status == "status":
            body = b"\n the server's own words \n"
            self.send_response(int(rest))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        elif status == "moved":
            self.send_response(302)
            self.send_header("Location", "/" + rest)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif status == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif status in ("cut", "endless"):
            with open(os.path.join(self.directory, rest), "rb") as file:
                data = file.read()
            self.send_response(200)
            if status == "cut":
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
            else:  # of no length that is said
                self.end_headers()
                self.wfile.write(data)
            self.close_connection = True
        else:
            super().do_GET()


def serve(directory, certificate=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a root file system in every form, and servers before it: the engines know the authority of one of them."""
    top = str(tmp_path_factory.mktemp("import"))
    with open(busybox_root(), "rb") as file:
        root = file.read()
    forms = {"root.tar": root, "root.tar.gz": gzip.compress(root, 1), "root.tar.bz2": bz2.compress(root, 1), "root.tar.xz": lzma.compress(root, preset=0)}
    forms["root.tar.zst"] = subprocess.run(["zstd", "-c"], input=root, capture_output=True, check=True).stdout
    forms["small.tar"] = bytes(1024)
    for name, data in forms.items():
        with open(os.path.join(top, name), "wb") as file:
            file.write(data)
    known, unknown = Authority(), Authority()
    # tare under the name that the texts have
    os.mkdir(os.path.join(top, "programs"))
    os.symlink(CLIENTS["tare"], os.path.join(top, "programs", "docker"))
    place.top = top
    servers = {"http": serve(top), "https": serve(top, known.issue("known", "IP:127.0.0.1")), "strange": serve(top, unknown.issue("strange", "IP:127.0.0.1")), "other": serve(top, known.issue("other", "DNS:elsewhere.example"))}
    place.urls = {name: f"{'http' if name == 'http' else 'https'}://127.0.0.1:{server.server_port}" for name, server in servers.items()}
    place.authority = known.path
    yield place
    for server in servers.values():
        server.shutdown()
        server.server_close()
    known.close()
    unknown.close()


@pytest.fixture(scope="module")
def engine(place):
    running = make_engine()
    running.prefix = ["env", f"SSL_CERT_FILE={place.authority}"]
    yield running.start()
    finish(running)


@pytest.fixture(scope="module")
def reference(place):
    os.environ["SSL_CERT_FILE"] = place.authority
    try:
        with running_dockerd() as running:
            yield running
    finally:
        del os.environ["SSL_CERT_FILE"]


def call(place, host, program, command):
    environment = {**os.environ, "DOCKER_HOST": host, "TARE_HOST": host, "DOCKER_BUILDKIT": "0", "HOME": place.top, "DOCKER_CLI_HINTS": "false"}
    done = subprocess.run(["bash", "-c", command.replace("DOCKER", program)], capture_output=True, text=True, env=environment, cwd=place.top, timeout=120, check=False, stdin=subprocess.DEVNULL)
    text = [re.sub(r"\b[0-9a-f]{64}\b", "ID", one) for one in (done.stdout, done.stderr)]
    text[1] = text[1].replace("tls: failed to verify certificate: ", "")  # which newer Go puts before
    text[1] = re.sub(r" \(possibly because of .*\)", "", text[1])  # Go's guess, since the two authorities have one name
    text[1] = text[1].replace("[A-Za-z0-9_.-]", "[A-Za-z0-9_-]")  # newer ones allow the dot
    for name, url in place.urls.items():
        text = [one.replace(url, name).replace(url.partition("//")[2], name) for one in text]
    return [done.returncode, *text]


def everywhere(place, engine, reference, command):
    """By both clients on ours, and by docker on dockerd: all the same."""
    results = {"dockerd": call(place, reference.host, "docker", command)} if reference else {}
    results["docker"] = call(place, engine.host, "docker", command)
    results["tare"] = call(place, engine.host, os.path.join(place.top, "programs", "docker"), command)
    first = next(iter(results.values()))
    assert all(one == first for one in results.values()), "\n".join([command, *(f"{name}: {one}" for name, one in results.items())])
    return first


# Accepted or refused: dockerd's config and dockerd's words decide.
CHANGES = r"""
CMD ["a","b"]|CMD a b|CMD|CMD ["a", 1]|cmd ["lower"]|ENTRYPOINT ["x"]|ENTRYPOINT x y|ENTRYPOINT []|ENTRYPOINT ["a"]\nCMD ["b"]
ENV A=b C="d e"|ENV A b c|ENV|ENV A|ENV =x|ENV A="|ENV A=1\nENV B=$A|ENV PATH=/x|ENV A=\\\n b
EXPOSE 80|EXPOSE 80/tcp 53/udp 8000-8002|EXPOSE x|EXPOSE 70000|EXPOSE 80/foo|EXPOSE $X|EXPOSE
HEALTHCHECK --interval=5s --timeout=3s --retries=2 --start-period=1m CMD true|HEALTHCHECK NONE|HEALTHCHECK CMD ["a"]|HEALTHCHECK x|HEALTHCHECK --interval=x CMD x|HEALTHCHECK
HEALTHCHECK --foo CMD x|HEALTHCHECK --retries=-1 CMD x|HEALTHCHECK --interval=1us CMD x|HEALTHCHECK NONE x|HEALTHCHECK CMD
LABEL a=b c="d e"|LABEL a|LABEL a b|LABEL =x|LABEL a="b|LABEL "x y"=中文|ONBUILD RUN x|ONBUILD FROM x|ONBUILD ONBUILD RUN x|ONBUILD
USER u:g|USER|USER a b|USER $FOO|VOLUME /a /b|VOLUME ["/a b"]|VOLUME|VOLUME ""|WORKDIR /x|WORKDIR rel|WORKDIR|WORKDIR /a\nWORKDIR b
RUN x|COPY a b|ADD a b|FROM x|ARG a|MAINTAINER x|SHELL ["a"]|FOO bar|foo|# comment
""".strip().replace("\n", "|").split("|")


def ask(path, method, target, body=None):
    connection = UnixConnection(path)
    connection.request(method, target, body=body)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, [json.loads(line) for line in data.splitlines() if line.strip()]


def changed(path, change):
    """The config that a change makes, or the refusal."""
    status, answer = ask(path, "POST", "/v1.41/images/create?" + urllib.parse.urlencode({"fromSrc": "-", "repo": "changed", "tag": "1", "changes": change}), bytes(1024))
    if status != 200 or "error" in answer[-1]:
        return status, answer[-1].get("message") or answer[-1]["error"]
    config = ask(path, "GET", "/v1.41/images/changed:1/json")[1][0]["Config"]
    ask(path, "DELETE", "/v1.41/images/changed:1?force=1")
    return status, config


def test_every_change(engine, reference):
    """Each leaves what it leaves in dockerd, or is refused in the same words."""
    accepted = set()
    for change in CHANGES:
        theirs = changed(reference.host[7:], change.replace("\\n", "\n"))
        assert changed(engine.socket, change.replace("\\n", "\n")) == theirs, change
        if theirs[0] == 200:
            accepted.add(change.split()[0].upper())
    assert accepted == {"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "USER", "VOLUME", "WORKDIR"}


@newer_client
def test_changes_by_clients(place, engine, reference):
    """All that are accepted at once, one that is not, and one that is wrong."""
    changes = ["ENV A=1", "env B=$A", "CMD [\"sh\", \"-c\", \"echo $A $B\"]", "WORKDIR /tmp", "LABEL x=y", "USER root:extra", "VOLUME /v", "EXPOSE 80", "ONBUILD RUN true", "ENTRYPOINT []", "HEALTHCHECK CMD true"]
    given = " ".join(f"-c '{change}'" for change in changes)
    everywhere(place, engine, reference, f"DOCKER import {given} root.tar several && DOCKER image inspect -f '{{{{json .Config}}}}' several; DOCKER import -c 'RUN x' small.tar; DOCKER import --change 'EXPOSE x' small.tar")
    shown = everywhere(place, engine, None, "DOCKER run --rm --network none several sh -c 'echo $A $B; pwd; id -g'")
    assert shown == [0, "1 1\n/tmp\n2000\n", ""]
    # all are looked at before anything is read
    assert everywhere(place, engine, reference, "DOCKER import -c 'LABEL a=b' -c 'RUN x' root.tar several:2; DOCKER image inspect several:2")[0] == 1


def test_stop_signals(place, engine):
    """Accepted by dockerd since 25, so not in the comparison."""
    for value, kept in (("SIGKILL", "SIGKILL"), ("9", "9"), ("RTMIN+3", "RTMIN+3")):
        assert everywhere(place, engine, None, f"DOCKER import -c 'STOPSIGNAL {value}' small.tar s && DOCKER image inspect -f '{{{{.Config.StopSignal}}}}' s")[1].splitlines()[1] == kept
    assert everywhere(place, engine, None, "DOCKER import -c 'STOPSIGNAL foo' small.tar") == [1, "", "Error response from daemon: Invalid signal: foo\n"]


SOURCES = r"""
DOCKER import root.tar from:file; DOCKER import - from:stdin <root.tar; cat root.tar | DOCKER import - from:pipe
DOCKER history --format '{{.Comment}}|{{.CreatedBy}}|{{.Size}}' from:file; DOCKER history --format '{{.Comment}}|{{.CreatedBy}}|{{.Size}}' from:stdin
DOCKER import HTTP/root.tar from:http | tail -1; DOCKER history from:http --no-trunc --format '{{.Comment}}'
DOCKER import HTTPS/root.tar.gz from:https | sed -n '1p;$p'; DOCKER history from:https --no-trunc --format '{{.Comment}}'
DOCKER import HTTP/moved/root.tar.xz from:moved | sed -n '1p;$p'; DOCKER history from:moved --no-trunc --format '{{.Comment}}'
DOCKER import HTTP/endless/root.tar from:endless | sed -n '1p;$p'
DOCKER import -m 'a note 中文' root.tar noted; DOCKER history --format '{{.Comment}}' noted; DOCKER image inspect -f '{{.Comment}}' noted
DOCKER import --message= root.tar noted:2; DOCKER history --format '{{.Comment}}' noted:2
DOCKER import nosuch; DOCKER import nosuch.tar x:1; DOCKER import /dev/null x
DOCKER import; DOCKER import --nosuch x; DOCKER import ftp://x/y
DOCKER import HTTP/nosuch.tar | sed 's/<.*//'; DOCKER import HTTP/status/404; DOCKER import HTTP/status/403; DOCKER import HTTP/status/500; DOCKER import HTTP/status/400; DOCKER import HTTP/status/401
DOCKER import http://127.0.0.1:1/x; DOCKER import https://127.0.0.1:1/x; DOCKER import http://nosuch.invalid/x 2>&1 | sed 's/no such host.*/no such host/;s/lookup nosuch.invalid.*:/lookup nosuch.invalid:/;s/lookup nosuch.invalid on.*/lookup nosuch.invalid: no such host/'
DOCKER import STRANGE/root.tar; DOCKER image ls -q -f reference=strange
DOCKER import root.tar Bad; DOCKER import root.tar a:b:c; DOCKER import root.tar x@sha256:ce114e4501d2f4e2dcea3e17b546f339bad6c5b1b1b3b1b1b1b1b1b1b1b1b1b1; DOCKER import root.tar -x; DOCKER import small.tar 'x:y z'
DOCKER import --platform linux/a/b/c root.tar; DOCKER import --platform nonsense root.tar; DOCKER import --platform windows/amd64 root.tar; DOCKER import --platform 'linux/*' root.tar; DOCKER import --platform windows root.tar
DOCKER run --rm from:file; DOCKER create from:file; DOCKER run --rm --entrypoint '' from:file
DOCKER import root.tar from:file/x; DOCKER import root.tar from:file; DOCKER image ls from --format '{{.Repository}}:{{.Tag}}' | sort
""".strip().splitlines()


@newer_client
def test_sources_names_and_texts(place, engine, reference):
    for line in SOURCES:
        for name, url in place.urls.items():
            line = line.replace(name.upper() + "/", url + "/")
        everywhere(place, engine, reference, line)


PLATFORMS = {
    "linux/arm64": "linux/arm64/", "linux/arm64/v8": "linux/arm64/v8", "linux/arm/v7": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/arm": "linux/arm/", "Linux/X86_64": "linux/amd64/", "s390x": "linux/s390x/",
    "linux/armhf": "linux/arm/", "linux/amd64/v2": "linux/amd64/v2", "aarch64": "linux/arm64/",
}


def test_platforms(place, engine, reference):
    """What the image says of itself (dockerd 20.10 always says its own), and what is no platform."""
    for given, kept in PLATFORMS.items():
        shown = everywhere(place, engine, None, f"DOCKER import --platform {given} small.tar p:1 && DOCKER image inspect -f '{{{{.Os}}}}/{{{{.Architecture}}}}/{{{{.Variant}}}}' p:1")
        assert shown == [0, f"sha256:ID\n{kept}\n", ""], (given, shown)
    for program in CLIENTS.values():
        engine.client(program, "import", os.path.join(place.top, "small.tar"), "p:env", env={"DOCKER_DEFAULT_PLATFORM": "linux/ppc64le"})
        assert engine.api("GET", "/images/p:env/json").json["Architecture"] == "ppc64le"
    engine.api("POST", "/v1.31/images/create?fromSrc=-&repo=p&tag=old&platform=linux/s390x", body=bytes(1024))
    assert engine.api("GET", "/images/p:old/json").json["Architecture"] == engine.api("GET", "/version").json["Arch"]
    everywhere(place, engine, reference, "for p in linux/a/b/c nonsense windows/amd64 'linux/*' windows linux/ /; do DOCKER import --platform $p small.tar; done")


def test_ends_of_a_download(place, engine):
    for url, text in ((f"{place.urls['http']}/cut/root.tar", "unexpected EOF"), (f"{place.urls['http']}/loop", "stopped after 10 redirects"), (f"{place.urls['other']}/root.tar", "x509: certificate is not valid for 127.0.0.1")):
        status, _, error = everywhere(place, engine, None, f"DOCKER import {url} never:1")
        assert status == 1 and text in error, error
    assert engine.api("GET", "/images/never:1/json").status == 404


@pytest.mark.parametrize("form", ["root.tar", "root.tar.gz", "root.tar.bz2", "root.tar.xz", "root.tar.zst"])
def test_compressions(place, engine, reference, form):
    """Each is the same layer, and the file system works."""
    command = f"DOCKER import {form} c && DOCKER image inspect -f '{{{{.RootFS.Layers}}}} {{{{.Size}}}}' c"
    assert everywhere(place, engine, None if form.endswith("zst") else reference, command)[0] == 0
    for client in (engine.tare, engine.docker):
        with open(os.path.join(place.top, form), "rb") as file:
            client("import", "-", "c:2", input=file.read())
        one, two = (json.loads(client("image", "inspect", name).stdout)[0] for name in ("c", "c:2"))
        assert one["RootFS"] == two["RootFS"]
        assert client("run", "--rm", "--network", "none", "c:2", "echo", "works").stdout == "works\n"
    with open(os.path.join(place.top, form), "rb") as file:
        damaged = bytearray(file.read())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 64] = b"!" * 64
    if form != "root.tar":
        for client in (engine.tare, engine.docker):
            broken = client("import", "-", "broken", input=bytes(damaged), check=False)
            assert broken.returncode == 1 and b"Error response from daemon: imported layer: " in broken.stderr, broken
        assert engine.api("GET", "/images/broken/json").status == 404


@newer_client
def test_nameless_dangles(place, engine):
    for program in CLIENTS.values():
        printed = engine.client(program, "import", os.path.join(place.top, "root.tar")).stdout
        assert re.fullmatch("sha256:[0-9a-f]{64}\n", printed)
        listed = engine.client(program, "image", "ls", "--no-trunc", "-f", "dangling=true", "--format", "{{.Repository}} {{.Tag}} {{.ID}}").stdout
        assert f"<none> <none> {printed}" in listed
        assert engine.client(program, "run", "--rm", "--network", "none", printed.strip(), "echo", "runs").stdout == "runs\n"
        bare = engine.client(program, "run", "--rm", printed.strip(), check=False)
        text = "Error response from daemon: No command specified"
        assert bare.returncode == 125 and text in bare.stderr and bare.stderr.endswith("--help' for more information\n"), bare
        engine.client(program, "image", "rm", printed.strip())


def screen(program, engine, *arguments):
    """What a terminal shows, and the status."""
    environment = {**os.environ, "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "HOME": engine.directory, "TERM": "xterm", "COLUMNS": "200"}
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        os.execvpe(program, [program, *arguments], environment)
    shown = b""
    while True:
        try:
            ready, _, _ = select.select([terminal], [], [], 60)
            piece = os.read(terminal, 65536) if ready else b""
        except OSError:
            piece = b""
        if not piece:
            break
        shown += piece
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("name", CLIENTS)
def test_progress(place, engine, name):
    """A terminal sees bars, the engine tells how far it is, and the last line is the whole id."""
    url = f"{place.urls['http']}/root.tar"
    shown, status = screen(CLIENTS[name], engine, "import", url, "shown:1")
    assert status == 0 and f"Downloading from {url}" in shown
    assert re.search(r"Importing +\[=+>? *\]", shown), shown
    assert re.search(r"sha256:[0-9a-f]{64}\s*$", shown), shown
    size = os.path.getsize(os.path.join(place.top, "root.tar"))
    messages = engine.api("POST", f"/images/create?fromSrc={url}&repo=shown&tag=2").messages
    assert messages[0] == {"status": f"Downloading from {url}"}
    progress = [message["progressDetail"] for message in messages[1:-1]]
    assert progress and all(detail["total"] == size for detail in progress) and progress[-1]["current"] == size
    assert [detail["current"] for detail in progress] == sorted(detail["current"] for detail in progress)
    assert re.fullmatch("sha256:[0-9a-f]{64}", messages[-1]["status"])
    quiet = [message for message in engine.api("POST", f"/images/create?fromSrc={place.urls['http']}/endless/root.tar&repo=shown&tag=3").messages if "progressDetail" in message]
    assert all("total" not in message["progressDetail"] for message in quiet)


def test_sdk(place, engine):
    import docker

    client = docker.APIClient(base_url=engine.host, version="1.41")
    path = os.path.join(place.top, "root.tar.gz")
    answer = client.import_image_from_file(path, repository="sdk", tag="file", changes=["CMD [\"echo\", \"sdk\"]"])
    assert re.search("sha256:[0-9a-f]{64}", answer)
    client.import_image_from_url(f"{place.urls['https']}/root.tar", repository="sdk", tag="url")
    client.import_image(src=path, repository="sdk", tag="auto")
    assert client.inspect_image("sdk:url")["Comment"] == f"Imported from {place.urls['https']}/root.tar"
    assert engine.docker("run", "--rm", "--network", "none", "sdk:file").stdout == "sdk\n"
    with pytest.raises(docker.errors.NotFound, match="failed to GET .* with status 404"):
        list(client.import_image_from_url(f"{place.urls['http']}/nosuch", repository="sdk", tag="never").splitlines())
