"""save and load as people use them: through pipes to another machine, into files of any name, at a terminal, for one platform."""

import gzip
import json
import os
import pty
import select
import shutil
import subprocess
import tarfile
import urllib.parse

import pytest

from archives import docker_archive, entry, layer
from conftest import NEWER_DOCKER, finish, make_engine, newer_client, program_directory
from inputs import busybox_root
from secure_shell import SecureShell

CLIENTS = {"tare": os.path.join(program_directory(), "tare"), "docker": shutil.which("docker")}
UPPER = layer(entry("file", b"of the upper layer\n" * 20000))


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    with open(busybox_root(), "rb") as file:
        base = file.read()
    running.tare("load", input=docker_archive({"base:1": [base], "carried:1": [base, UPPER]}))
    running.tare("tag", "carried:1", "example.org:5000/carried:2")
    yield running
    finish(running)


@pytest.fixture(scope="module")
def far():
    running = make_engine().start()
    yield running
    finish(running)


@pytest.fixture(scope="module", params=CLIENTS)
def shell(request, engine, far, tmp_path_factory):
    """A user here, with one of the clients, and the same client at the other end of an sshd."""
    program = CLIENTS[request.param]
    server = SecureShell(tmp_path_factory.mktemp("ssh"), {"docker": program}, DOCKER_HOST=far.host, TARE_HOST=far.host, DOCKER_CLI_HINTS="false")
    here = tmp_path_factory.mktemp("here")
    (here / "docker").symlink_to(program)

    def run(command, check=True):
        environment = {"PATH": f"{here}:{server.clients}:{os.environ['PATH']}", "HOME": str(here), "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "THERE": f"-p {server.port} {server.user}@127.0.0.1"}
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=environment, cwd=here, timeout=120, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    run.directory = here
    yield run
    server.close()


def ids(engine, *names):
    found = [engine.api("GET", f"/images/{name}/json").json for name in names]
    return [(one["Id"], one["RootFS"]["Layers"]) for one in found]


def clean(engine):
    engine.api("POST", '/images/prune?filters={"dangling":["false"]}')
    assert engine.api("GET", "/images/json?all=1").json == []


def test_to_another_machine(shell, engine, far):
    """save | bzip2 | pv | ssh: the same images there, each layer once, and they run."""
    pipes = ("bzip2 | pv -q | ssh $THERE 'bunzip2 | docker load'", "bzip2 | pv -f 2>progress | ssh $THERE 'cat | docker load'", "gzip | ssh $THERE docker load", "ssh $THERE docker load -q")
    for pipe in pipes:
        done = shell(f"docker save carried:1 base:1 | {pipe}")
        assert sorted(done.stdout.splitlines()) == ["Loaded image: base:1", "Loaded image: carried:1"], done
        assert ids(far, "carried:1", "base:1") == ids(engine, "carried:1", "base:1")
        clean(far)
    assert "iB" in (shell.directory / "progress").read_text(encoding="utf-8"), "pv saw bytes go by"
    shell("docker save $(docker image ls -q --no-trunc carried:1) example.org:5000/carried | ssh $THERE 'cat | docker load'")
    assert shell("ssh $THERE docker run --rm --network none example.org:5000/carried:2 head -1 /file").stdout == "of the upper layer\n"
    clean(far)
    # one that fails on the way leaves nothing, and says so
    cut = shell("docker save carried:1 | head -c 100000 | ssh $THERE docker load", check=False)
    assert cut.returncode != 0 and "Error response from daemon: image archive: " in cut.stderr + cut.stdout, cut
    missing = shell("docker save nosuch | bzip2 | ssh $THERE 'cat | docker load'", check=False)
    assert missing.returncode != 0 and "No such image: nosuch" in missing.stderr, missing
    clean(far)


def test_files_of_any_name(shell, engine, far):
    for name in ("filename", "a.zip", "a.tar.gz", "名字.docker", "a b"):
        shell(f"echo before > '{name}'; docker save -o '{name}' carried:1")
        assert shell(f"file -b '{name}'").stdout.startswith("POSIX tar archive"), name
        assert os.stat(shell.directory / name).st_mode & 0o777 == 0o600
    archives = {(shell.directory / name).read_bytes() for name in ("filename", "a.zip", "a.tar.gz")}
    archives.add(subprocess.run(["bash", "-c", f"cd {shell.directory}; DOCKER_HOST={engine.host} TARE_HOST={engine.host} ./docker save carried:1"], capture_output=True, check=True).stdout)
    assert len(archives) == 1, "the same images make the same bytes"
    # a failing save leaves what was there
    for arguments in ("nosuch:1", "carried:1 nosuch:1"):
        failed = shell(f"docker save -o filename {arguments}", check=False)
        assert failed.returncode == 1 and failed.stderr.startswith("Error response from daemon: ") and "nosuch" in failed.stderr
        assert (shell.directory / "filename").read_bytes() in archives
    assert not [name for name in os.listdir(shell.directory) if "tmp" in name]
    shell("ln -s filename link")
    is_older = not NEWER_DOCKER and (shell.directory / "docker").resolve().name == "docker"  # which looks for other mistakes
    for path, text in ((("nosuch/x", "invalid output path: stat nosuch: no such file or directory"), (".", "cannot write to a directory"), ("link", "cannot write to a symbolic link directly"), ("a.zip/x", "invalid output path: stat a.zip: not a directory")) if not is_older else ()):
        assert shell(f"docker save -o {path} carried:1", check=False).stderr == f"failed to save image: {text}\n"
    # by id there are no names, and it says the id
    identifier = ids(engine, "carried:1")[0][0]
    for given in (identifier, identifier[7:], identifier[7:19]):
        shell(f"docker save -o filename {given}")
        with tarfile.open(shell.directory / "filename") as archive:
            assert json.load(archive.extractfile("manifest.json"))[0]["RepoTags"] is None
    assert shell("ssh $THERE docker load < filename").stdout == f"Loaded image ID: {identifier}\n"
    assert far.api("GET", "/images/json").json[0]["RepoTags"] == []
    clean(far)


@pytest.mark.parametrize("name", CLIENTS)
def test_where_it_does_not_fit(engine, name, tmp_path):
    """A disk that is full: it is said, and what was there is there as it was."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        (tmp_path / "x").write_text("before", encoding="utf-8")
        failed = engine.client(CLIENTS[name], "save", "-o", str(tmp_path / "x"), "carried:1", check=False)
        assert failed.returncode == 1 and "no space left on device" in failed.stderr, failed
        assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_text(encoding="utf-8") == "before"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def at_terminal(program, engine, *arguments):
    environment = {**os.environ, "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "HOME": engine.directory}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(program, ["docker", *arguments], environment)
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("name", CLIENTS)
def test_at_a_terminal(engine, name):
    """A tar is not for the eyes, and nobody types one."""
    for arguments in (["save", "carried:1"], ["image", "save", "carried:1", "base:1"]):
        assert at_terminal(CLIENTS[name], engine, *arguments) == ("cowardly refusing to save to a terminal. Use the -o flag or redirect\n", 1)
    for arguments in (["load"], ["image", "load", "-q"]):
        assert at_terminal(CLIENTS[name], engine, *arguments) == ("requested load from stdin, but stdin is empty\n", 1)


# ---- platforms ----


def for_platform(name, architecture, variant=None):
    """An image archive as docker writes it, for another machine."""
    platform = {"architecture": architecture, **({"variant": variant} if variant else {})}
    return docker_archive({name: [layer(entry("for", architecture))]}, platforms={name: platform})


def both(engine, *arguments, **options):
    """What both clients say, which is the same."""
    results = []
    for program in CLIENTS.values():
        done = engine.client(program, *arguments, check=False, **options)
        results.append((done.returncode, *(one.decode() if isinstance(one, bytes) else one for one in (done.stdout, done.stderr))))
    assert results[0] == results[1], (arguments, results)
    return results[0]


@newer_client
def test_platforms(engine, tmp_path):
    here = {"amd64": "linux/amd64"}.get(engine.api("GET", "/version").json["Arch"], "linux/" + engine.api("GET", "/version").json["Arch"])
    foreign = for_platform("foreign:1", "arm64", "v8")
    for given in ("linux/arm64", "linux/arm64/v8", "arm64", "linux/aarch64"):
        assert both(engine, "load", "--platform", given, input=foreign) == (0, "Loaded image: foreign:1\n", "")
    assert engine.api("GET", "/images/foreign:1/json").json["Variant"] == "v8"
    for given in ("linux/s390x", here, "linux/arm/v7", "linux/arm64/v9"):
        shown = {"linux/arm64/v9": "linux/arm64/v9"}.get(given, given)
        assert both(engine, "load", "--platform", given, input=foreign) == (1, "", f"Error response from daemon: no images providing the requested platform(s) found: [{shown}]\n"), given
    # one archive with two images for two machines
    two = docker_archive({"two:arm": [UPPER], "two:here": [UPPER]}, platforms={"two:arm": {"architecture": "arm64"}, "two:here": {}})
    assert both(engine, "load", "--platform", "linux/arm64", input=two) == (0, "Loaded image: two:arm\n", "")
    assert engine.api("GET", "/images/two:here/json").status == 404
    bad = both(engine, "load", "--platform", "nonsense", input=two)
    assert bad == (1, "", 'invalid platform: "nonsense": unknown operating system or architecture: invalid argument\n')
    # what there is, asked for another platform
    mismatch = "image with reference foreign:1 was found but its platform (linux/arm64/v8) does not match the specified platform (linux/s390x)"
    assert both(engine, "image", "inspect", "--platform", "linux/s390x", "foreign:1") == (1, "[]\n", f"Error response from daemon: {mismatch}\n")
    assert both(engine, "history", "--platform", "linux/s390x", "foreign:1") == (1, "", f"Error response from daemon: {mismatch}\n")
    assert both(engine, "image", "rm", "--platform", "linux/s390x", "foreign:1") == (1, "", f"Error response from daemon: {mismatch}\n")
    assert both(engine, "save", "--platform", "linux/s390x", "foreign:1", input="") == (1, "", "Error response from daemon: no suitable export target found for platform linux/s390x\n")
    assert both(engine, "save", "--platform", "linux/arm64", "-o", str(tmp_path / "x"), "foreign:1", "carried:1") == (1, "", "Error response from daemon: no suitable export target found for platform linux/arm64\n")
    assert not (tmp_path / "x").exists()
    for command in (("image", "inspect", "-f", "{{.Architecture}}"), ("history", "-q"), ("save", "-o", str(tmp_path / "y"))):
        assert both(engine, *command, "--platform", "linux/arm64", "foreign:1")[0] == 0
        status, _, text = both(engine, *command, "--platform", "linux/a/b/c", "foreign:1")
        assert status == 1 and text.endswith('"linux/a/b/c": cannot parse platform specifier: invalid argument\n'), text
    engine.tare("tag", "foreign:1", "foreign:2")
    for program, name in zip(CLIENTS.values(), ("foreign:1", "foreign:2")):
        assert f"Untagged: {name}\n" in engine.client(program, "image", "rm", "--platform", "linux/arm64", name).stdout


def test_platforms_of_the_api(engine):
    """As newer versions take them; older ones know no such parameter."""
    answers = {
        '{"os":"linux"}': "both OS and Architecture must be provided", '{"variant":"v8"}': "optional platform fields provided, but OS and Architecture are missing",
        "{}": "both OS and Architecture must be provided",
    }
    for given, text in answers.items():
        for method, path in (("GET", "/v1.48/images/carried:1/get"), ("POST", "/v1.48/images/load"), ("GET", "/v1.49/images/carried:1/json"), ("GET", "/v1.48/images/carried:1/history")):
            answer = engine.api(method, path + "?" + urllib.parse.urlencode({"platform": given}))
            assert (answer.status, answer.message) == (400, text), (path, answer.body)
    assert "failed to parse platform" in engine.api("GET", "/v1.48/images/carried:1/get?platform=linux").message
    assert engine.api("GET", "/v1.47/images/carried:1/history?platform=linux").status == 200
    assert engine.api("GET", "/v1.48/images/carried:1/json?platform=linux").status == 200
    answer = engine.api("GET", "/v1.49/images/carried:1/json?manifests=1&platform=%7B%22os%22:%22linux%22,%22architecture%22:%22amd64%22%7D")
    assert (answer.status, answer.message) == (400, "conflicting options: manifests and platform options cannot both be set")


def test_streams_at_once(engine, tmp_path):
    """The first bytes are there before the last are made: whoever reads slowly holds all up, and nothing is kept anywhere."""
    for program in CLIENTS.values():
        environment = {**os.environ, "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "HOME": str(tmp_path)}
        saving = subprocess.Popen([program, "save", "carried:1", "base:1"], stdout=subprocess.PIPE, env=environment)
        first = saving.stdout.read(512)
        assert first[257:262] == b"ustar" and saving.poll() is None
        assert len(first + saving.stdout.read()) > 2_000_000 and saving.wait() == 0


def test_sdk(engine, far):
    import docker

    ours, theirs = (docker.DockerClient(base_url=one.host, version="1.41") for one in (engine, far))
    data = b"".join(ours.images.get("carried:1").save(named=True))
    (loaded,) = theirs.images.load(data)
    assert loaded.tags == ["carried:1"] and loaded.id == ours.images.get("carried:1").id
    assert [one.tags for one in theirs.images.load(gzip.compress(data))] == [["carried:1"]]
    clean(far)
