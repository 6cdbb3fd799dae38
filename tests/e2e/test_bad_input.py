"""Bad input: each with its exact message and status, through both clients and as bytes on the socket, and nothing of it left behind.

The texts are the client's of docker 28.2 and the engine's as Debian's dockerd 20.10 sends them, but where a comment says otherwise."""

import bz2
import gzip
import io
import lzma
import os
import random
import re
import socket
import subprocess
import tarfile
import time

import pytest

from conftest import NEWER_DOCKER, UnixConnection, newer_client, program_directory
from inputs import busybox_root
from test_recovery import wait_until

CLIENTS = ["docker", "tare"]
SEED = 2  # of which the damaged archives are damaged, not cut
START = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def bb(engine):
    engine.tare("import", str(busybox_root()), "bb")
    engine.docker("run", "--rm", "bb", "true")  # what a first start makes once
    containers = os.path.join(engine.data_root, "containers")
    wait_until(lambda: not os.listdir(containers), lambda: os.listdir(containers), 30)  # its directory goes when its shim has


def left(engine):
    """Containers, images, volumes, and all files of the data root but the database's."""
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(engine.data_root) for name in names if not name.startswith("tare.db"))
    lists = [engine.api("GET", path).json for path in ("/containers/json?all=1", "/images/json?all=1", "/volumes")]
    return files, sorted(one["Id"] for one in lists[0]), sorted(one["Id"] for one in lists[1]), lists[2]["Volumes"]


def settled(engine):
    """left() once it stays the same: what the test before removed has gone."""
    last = None
    while (now := left(engine)) != last:
        last = now
        time.sleep(0.01)
    return now


@pytest.fixture
def nothing_left(engine, bb):
    before = settled(engine)
    yield
    deadline = time.monotonic() + 5  # files go after the answer
    while (now := left(engine)) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert now == before


def run_client(engine, name, *arguments, **options):
    program = os.path.join(program_directory(), "tare") if name == "tare" else name
    return engine.client(program, *arguments, check=False, **options)


def error_of(name, result):
    """What the client says, without its own name and its hint at --help."""
    text = re.sub(r"^DEPRECATED: The legacy builder.*?\n\n", "", result.stderr, flags=re.S)
    text = re.sub(r"\n\n(Usage:  |Run '(docker|tare) ).*", "", text, flags=re.S)
    text = re.sub(r"\.?\nSee 'docker \w+ --help'\.\n", "", text)  # as 20.10 has it
    text = re.sub(r"^time=.*\n", "", text, flags=re.M)  # its remarks beside
    return as_said(name, re.sub(rf"^{name}: ", "", text.rstrip("\n")))


def as_said(name, message):
    """An older client has capitals and full stops of its own: without what differs."""
    if NEWER_DOCKER or name != "docker":
        return message
    message = message.replace("(library/UPPER) ", "").removesuffix(".")
    return message[:1].lower() + message[1:]


# ---- builds ----

CONTAINER_STEP = "The command '{0}' returned a non-zero code: {1}"

# name → (Dockerfile, what the client says). Those that fail before the first step come with "Error response from daemon: ".
BUILDS = {
    "empty": ("", "Error response from daemon: the Dockerfile (Dockerfile) cannot be empty"),
    "only comments": ("# x\n\n", "Error response from daemon: failed to parse Dockerfile: file with no instructions"),
    "no FROM": ("RUN x\n", "Error response from daemon: no build stage in current context"),
    "only ARG": ("ARG x\n", "Error response from daemon: no build stage in current context"),  # dockerd 20.10 panics
    "unknown instruction": ("FROM bb\nFOO bar\n", "Error response from daemon: dockerfile parse error line 2: unknown instruction: FOO"),
    "FROM without a name": ("FROM\n", "Error response from daemon: dockerfile parse error line 1: FROM requires either one or three arguments"),
    "bad JSON form": ("FROM bb\nSHELL [\"a\", b]\n", "Error response from daemon: dockerfile parse error line 2: SHELL requires the arguments to be in JSON form"),
    "COPY of one": ("FROM bb\nCOPY x\n", "Error response from daemon: dockerfile parse error line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
    "NUL": ("FROM bb\nRUN echo \0\n", "Error response from daemon: failed to parse Dockerfile: line 2 has a NUL byte"),  # dockerd passes it on
    "COPY from outside": ("FROM bb\nCOPY ../x /\n", "COPY failed: forbidden path outside the build context: ../x ()"),
    "COPY of a missing file": ("FROM bb\nCOPY nope /\n", "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"),
    "ADD of a missing file": ("FROM bb\nADD nope /\n", "ADD failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"),
    "unknown image": ("FROM 127.0.0.1:1/nosuch:1\n", 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'),
    "bad image": ("FROM UPPER\n", "invalid reference format: repository name (library/UPPER) must be lowercase"),
    "unknown user": ("FROM bb\nUSER nobodyhere\nRUN true\n", "unable to find user nobodyhere: no matching entries in passwd file"),
    "unknown command": ("FROM bb\nRUN nosuch\n", CONTAINER_STEP.format("/bin/sh -c nosuch", 127)),
    "missing executable": ("FROM bb\nRUN [\"/nope\"]\n", START + "exec: \"/nope\": stat /nope: no such file or directory: unknown"),
    "file that is no executable": ("FROM bb\nRUN [\"/etc/passwd\"]\n", START + "exec: \"/etc/passwd\": permission denied: unknown"),
    "directory": ("FROM bb\nRUN [\"/etc\"]\n", START + "exec: \"/etc\": permission denied: unknown"),
    "bad port": ("FROM bb\nEXPOSE 99999\n", "Invalid containerPort: 99999"),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("case", BUILDS)
def test_build(engine, nothing_left, tmp_path, name, case):
    dockerfile, message = BUILDS[case]
    (tmp_path / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    (tmp_path / "x").write_text("", encoding="utf-8")
    images = engine.docker("image", "ls", "-aq").stdout
    result = run_client(engine, name, "build", "--no-cache", "--force-rm", "--network", "none", str(tmp_path))
    assert error_of(name, result) == as_said(name, message)
    assert result.returncode == (127 if "non-zero code" in message else 1)
    for new in set(engine.docker("image", "ls", "-aq").stdout.split()) - set(images.split()):
        engine.docker("image", "rm", "-f", new)  # the steps before the one that failed


# ---- run ----

# arguments after `run --rm` → (status, what the client says)
RUNS = [
    (["127.0.0.1:1/nosuch", "x"], 125, "Unable to find image '127.0.0.1:1/nosuch:latest' locally\nNAME: Error response from daemon: Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"),
    (["UPPER"], 125, "invalid reference format: repository name (library/UPPER) must be lowercase"),
    (["bb"], 125, "Error response from daemon: No command specified"),
    (["-u", "nobodyhere", "bb", "true"], 125, "Error response from daemon: unable to find user nobodyhere: no matching entries in passwd file"),
    (["-u", "0:nogroup1", "bb", "true"], 125, "Error response from daemon: unable to find group nogroup1: no matching entries in group file"),
    (["-u", "9999999999", "bb", "true"], 125, "Error response from daemon: uids and gids must be in range 0-2147483647"),
    (["bb", "nope"], 127, "Error response from daemon: " + START + 'exec: "nope": executable file not found in $PATH: unknown'),
    (["bb", "/nope"], 127, "Error response from daemon: " + START + 'exec: "/nope": stat /nope: no such file or directory: unknown'),
    (["bb", ""], 127, "Error response from daemon: " + START + 'exec: "": executable file not found in $PATH: unknown'),
    (["bb", "/etc/passwd"], 126, "Error response from daemon: " + START + 'exec: "/etc/passwd": permission denied: unknown'),
    (["bb", "/etc"], 126, "Error response from daemon: " + START + 'exec: "/etc": permission denied: unknown'),
    (["-w", "rel", "bb", "true"], 125, "Error response from daemon: the working directory 'rel' is invalid, it needs to be an absolute path"),
    (["-w", "/etc/passwd", "bb", "true"], 125, "Error response from daemon: Cannot mkdir: /etc/passwd is not a directory"),
    (["-p", "x", "bb", "true"], 125, "invalid containerPort: x"),
    (["-p", "99999:80", "bb", "true"], 125, "invalid hostPort: 99999"),
    (["-p", "80:80/xyz", "bb", "true"], 125, "invalid proto: xyz"),
    (["-p", "80:", "bb", "true"], 125, "no port specified: 80:<empty>"),
    (["--name", "a/b", "bb", "true"], 125, "Error response from daemon: Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    (["--name", "-x", "bb", "true"], 125, "Error response from daemon: Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    (["--name", "x", "bb", "true"], 125, "Error response from daemon: Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    (["-v", "/a:rel", "bb", "true"], 125, "Error response from daemon: invalid volume specification: '/a:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute"),
    (["-v", "/a:/b:zz", "bb", "true"], 125, "Error response from daemon: invalid mode: zz"),
    (["-v", "/tmp:/x:ro,rw", "bb", "true"], 125, "Error response from daemon: invalid mode: ro,rw"),
    (["-v", "/tmp:/x:rshared,private", "bb", "true"], 125, "Error response from daemon: invalid mode: rshared,private"),
    (["--mount", "type=bind,source=/nonexistent,target=/x", "bb", "true"], 125, 'Error response from daemon: invalid mount config for type "bind": bind source path does not exist: /nonexistent'),
    (["--mount", "type=foo,target=/x", "bb", "true"], 125, 'Error response from daemon: invalid mount config for type "foo": mount type unknown'),
    (["--mount", "foo=bar", "bb", "true"], 125, "invalid argument \"foo=bar\" for \"--mount\" flag: unexpected key 'foo' in 'foo=bar'"),
    (["--mount", "foo", "bb", "true"], 125, "invalid argument \"foo\" for \"--mount\" flag: invalid field 'foo' must be a key=value pair"),
    (["--mount", "type=tmpfs,target=/x,tmpfs-size=abc", "bb", "true"], 125, 'invalid argument "type=tmpfs,target=/x,tmpfs-size=abc" for "--mount" flag: invalid value for tmpfs-size: abc'),
    (["--mount", "type=volume,target=/x,bind-propagation=rprivate", "bb", "true"], 125,
     "invalid argument \"type=volume,target=/x,bind-propagation=rprivate\" for \"--mount\" flag: cannot mix 'bind-*' options with mount type 'volume'"),
    (["--tmpfs", "rel", "bb", "true"], 125, "Error response from daemon: invalid mount path: 'rel' mount path must be absolute"),
    (["--tmpfs", "", "bb", "true"], 125, "Error response from daemon: invalid mount path: '' mount path must be absolute"),
    (["--tmpfs", "/x:foo", "bb", "true"], 125, 'Error response from daemon: invalid tmpfs option ["foo"]'),
    (["--tmpfs", "/", "bb", "true"], 125, "Error response from daemon: invalid specification: destination can't be '/'"),
    (["-m", "x", "bb", "true"], 125, "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
    (["-m", "1k", "bb", "true"], 125, "Error response from daemon: Minimum memory limit allowed is 6MB"),
    (["--memory-swap", "1m", "-m", "10m", "bb", "true"], 125, "Error response from daemon: Minimum memoryswap limit should be larger than memory limit, see usage"),
    (["--cpus", "x", "bb", "true"], 125, 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
    (["--cpus", "-1", "bb", "true"], 125, f"Error response from daemon: Range of CPUs is from 0.01 to {os.cpu_count()}.00, as there are only {os.cpu_count()} CPUs available"),
    (["--cpus", "999", "bb", "true"], 125, f"Error response from daemon: Range of CPUs is from 0.01 to {os.cpu_count()}.00, as there are only {os.cpu_count()} CPUs available"),
    (["--cpus", "0.0000000001", "bb", "true"], 125, 'invalid argument "0.0000000001" for "--cpus" flag: value is too precise'),
    (["--network", "container:nope", "bb", "true"], 125, "Error response from daemon: No such container: nope"),
    (["--pid", "container:nope", "bb", "true"], 125, "Error response from daemon: No such container: nope"),
    (["--volumes-from", "nope", "bb", "true"], 125, "Error response from daemon: No such container: nope"),
]


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("arguments, status, message", RUNS, ids=[" ".join(run[0]) for run in RUNS])
def test_run(engine, nothing_left, name, arguments, status, message):
    result = run_client(engine, name, "run", "--rm", *arguments)
    assert (result.returncode, error_of(name, result)) == (status, as_said(name, message.replace("NAME", name)))


@pytest.mark.parametrize("name", CLIENTS)
def test_name_and_port_in_use(engine, nothing_left, name):
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        result = run_client(engine, name, "run", "--rm", "--name", "wants", "-p", f"{port}:80", "bb", "true")
        assert result.returncode == 125
        assert re.fullmatch(rf"Error response from daemon: driver failed programming external connectivity on endpoint wants \([0-9a-f]{{64}}\): "
                            rf"Error starting userland proxy: listen tcp4 0\.0\.0\.0:{port}: bind: address already in use", error_of(name, result), re.I)
    first = engine.docker("run", "-d", "--name", "first", "-p", f"{port}:80", "bb", "sleep", "1000").stdout.strip()
    result = run_client(engine, name, "run", "--rm", "--name", "second", "-p", f"{port}:80", "bb", "true")
    assert result.returncode == 125
    assert re.fullmatch(rf"Error response from daemon: driver failed programming external connectivity on endpoint second \([0-9a-f]{{64}}\): "
                        rf"Bind for 0\.0\.0\.0:{port} failed: port is already allocated", error_of(name, result), re.I)
    result = run_client(engine, name, "run", "--rm", "--name", "first", "bb", "true")
    assert (result.returncode, error_of(name, result)) == (
        125, as_said(name, f'Error response from daemon: Conflict. The container name "/first" is already in use by container "{first}". You have to remove (or rename) that container to be able to reuse that name.'))
    engine.docker("rm", "-f", "first")


def test_the_same_volume_twice_is_no_mistake(engine, nothing_left):
    for name in CLIENTS:
        assert run_client(engine, name, "run", "--rm", "-v", "/tmp:/x", "-v", "/tmp:/x", "bb", "true").returncode == 0


@pytest.mark.parametrize("name", [pytest.param("docker", marks=newer_client), "tare"])
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["image", "rm", "UPPER"], "Error response from daemon: invalid reference format: repository name (library/UPPER) must be lowercase"),
        (["image", "rm", "nope"], "Error response from daemon: No such image: nope:latest"),
        (["image", "rm", "f" * 64], "Error response from daemon: No such image: " + "f" * 64),
        (["tag", "nope", "x"], "Error response from daemon: No such image: nope:latest"),
        (["tag", "bb", "sha256:" + "a" * 64], "Error response from daemon: refusing to create an ambiguous tag using digest algorithm as name"),
        (["rm", "nope"], "Error response from daemon: No such container: nope"),
        (["logs", "nope"], "Error response from daemon: No such container: nope"),
        (["ps", "-f", "foo=bar"], "Error response from daemon: Invalid filter 'foo'"),
        (["volume", "create", "a/b"], 'Error response from daemon: create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'),
    ],
)
def test_other_verbs(engine, nothing_left, name, arguments, message):
    result = run_client(engine, name, *arguments)
    assert (result.returncode, error_of(name, result).replace("invalid filter", "Invalid filter")) == (1, message)


# ---- the API ----

CREATE = "/v1.41/containers/create"


@pytest.mark.parametrize(
    "body, status, message",
    [
        # a dockerd answers 500 to JSON that it cannot read; that is the client's mistake
        (b'{"Image":"bb"', 400, "invalid JSON: '}' expected near end of file (line 1, column 13)"),
        (b"", 400, "config cannot be empty in order to create a container"),
        (b"null", 400, "config cannot be empty in order to create a container"),
        (b"[]", 400, "invalid JSON: an object was expected"),
        (b'{"Image":1}', 400, "json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Image of type string"),
        (b'{"Image":"bb","Cmd":{}}', 400, "json: cannot unmarshal object into Go struct field ContainerConfigWrapper.Cmd of type []string"),
        (b'{"Image":"bb","Env":"x"}', 400, "json: cannot unmarshal string into Go struct field ContainerConfigWrapper.Env of type []string"),
        (b'{"Image":"bb","HostConfig":[]}', 400, "json: cannot unmarshal array into Go struct field ContainerConfigWrapper.HostConfig of type container.HostConfig"),
        (b'{"Image":"bb","Cmd":["true"],"HostConfig":{"Memory":"x"}}', 400, "json: cannot unmarshal string into Go struct field HostConfig.Memory of type int64"),
        (b'{"Image":"bb","Cmd":["true"],"HostConfig":{"Memory":1.5}}', 400, "json: cannot unmarshal number into Go struct field HostConfig.Memory of type int64"),
        # two values for one name are read differently by different readers: refused
        (b'{"Image":"bb","Image":"bb2"}', 400, "invalid JSON: duplicate object key near '\"Image\"' (line 1, column 21)"),
        (b"[" * 20000, 400, "invalid JSON: maximum parsing depth reached near '[' (line 1, column 2049)"),
        (b'{"a":' * 100000, 400, "invalid JSON: maximum parsing depth reached near '{' (line 1, column 10241)"),
        (b'{"Image":"bb\xff"}', 400, "invalid JSON: unable to decode byte 0xff near '\"bb' (line 1, column 12)"),
        (b'{"Image":"bb","Cmd":["true"]}{}', 400, "invalid JSON: end of file expected near '{' (line 1, column 30)"),
        (b"\0", 400, "invalid JSON: invalid token near end of file (line 1, column 1)"),
    ],
)
def test_create_request(engine, nothing_left, body, status, message):
    answer = engine.api("POST", CREATE, body, JSON)
    assert (answer.status, answer.message) == (status, message)


def test_body_that_is_too_large(engine, nothing_left):
    """Refused by its announced length, before it is sent, and where it has none, when it passes the limit."""
    connection = UnixConnection(engine.socket)
    connection.putrequest("POST", CREATE)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert response.read() == b'{"message":"request body is larger than 4194304 bytes"}\n'
    connection.close()
    connection = UnixConnection(engine.socket)
    try:
        connection.request("POST", CREATE, body=(b" " * (1 << 20) for _ in range(64)), headers=JSON, encode_chunked=True)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it did not wait for the rest
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    "method, path, status, message",
    [
        ("GET", "/v1.41/nope", 404, "page not found"),
        ("GET", "/v1.41/containers/json?filters=x", 400, "invalid filter"),
        ("GET", "/v1.41/containers/json?filters=%7B%22foo%22%3A%5B%22x%22%5D%7D", 400, "invalid filter 'foo'"),
        ("GET", "/v1.41/images/json?filters=%7B%22foo%22%3A%5B%22x%22%5D%7D", 400, "invalid filter 'foo'"),
        ("POST", "/v1.41/containers/nope/start", 404, "No such container: nope"),
        ("POST", "/v1.41/containers/nope/kill?signal=FOO", 400, "Invalid signal: FOO"),
        ("POST", "/v1.41/containers/nope/stop?t=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("GET", "/v1.41/images/nope/json", 404, "no such image: nope: No such image: nope:latest"),
        ("POST", "/v1.41/build?version=5", 400, 'invalid version "5"'),
    ],
)
def test_paths_and_parameters(engine, nothing_left, method, path, status, message):
    answer = engine.api(method, path)
    assert (answer.status, answer.message.replace("Invalid filter", "invalid filter")) == (status, message)


# ---- archives ----


def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (("Dockerfile", b"FROM bb\n"), ("x", random.Random(SEED).randbytes(50000))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def damaged(data):
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 200]) + data[middle + 200 :]


TAR = archive()
ARCHIVES = {
    "garbage": (b"\x07\x93" * 1000, "tar header at offset 0: bad checksum"),
    "text": (b"hello world\n" * 100, "tar header at offset 0: bad checksum"),
    "tar cut in a file": (TAR[:30000], 'the archive ends within "x"'),
    "tar cut in a header": (TAR[:300], "unexpected end of tar archive at offset 300"),
    "gzip cut": (gzip.compress(TAR)[:20000], "unexpected end of gzip stream"),
    "gzip damaged": (damaged(gzip.compress(TAR)), "invalid gzip data: checksum does not match"),
    "gzip header only": (gzip.compress(TAR)[:5], "unexpected end of gzip stream"),
    "gzip of no tar": (gzip.compress(b"hello" * 1000), "tar header at offset 0: bad checksum"),
    "gzip and more": (gzip.compress(TAR) + b"junkjunk", "unexpected data after the end of the gzip stream"),
    "bzip2 cut": (bz2.compress(TAR)[:20000], "unexpected end of bzip2 stream"),
    "bzip2 damaged": (damaged(bz2.compress(TAR)), "invalid bzip2 data: damaged"),
    "xz cut": (lzma.compress(TAR)[:20000], "unexpected end of xz stream"),
    "xz damaged": (damaged(lzma.compress(TAR)), "invalid xz data: damaged"),
    "zstd cut": (zstd(TAR)[:20000], "unexpected end of zstd stream"),
    "zstd damaged": (damaged(zstd(TAR)), "invalid zstd data: restored data doesn't match checksum"),
}

# A context whose first bytes are no tar is a Dockerfile, as in docker.
AS_DOCKERFILE = {"garbage": "unknown instruction: ", "text": "unknown instruction: HELLO", "tar cut in a header": "line 1 has a NUL byte"}


@pytest.mark.parametrize("what, path", [("imported layer", "/images/create?fromSrc=-&repo=bad"), ("image archive", "/images/load"), ("build context", "/build")])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_archive(engine, nothing_left, what, path, kind):
    data, message = ARCHIVES[kind]
    answer = engine.api("POST", path, data, {"Content-Type": "application/x-tar"})
    assert answer.status == 400
    if what == "build context" and kind in AS_DOCKERFILE:
        assert AS_DOCKERFILE[kind] in answer.message
    else:
        assert answer.message == f"{what}: {message}"


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_show_what_is_wrong_with_an_archive(engine, nothing_left, tmp_path, name):
    (tmp_path / "cut.tgz").write_bytes(ARCHIVES["gzip cut"][0])
    for arguments, what in ((["import", str(tmp_path / "cut.tgz"), "bad"], "imported layer"), (["load", "-i", str(tmp_path / "cut.tgz")], "image archive")):
        result = run_client(engine, name, *arguments)
        assert (result.returncode, result.stderr) == (1, f"Error response from daemon: {what}: unexpected end of gzip stream\n")
