"""Every flag of every verb that the stock clients know: tare has it in the same spelling, and either does something with it that can be seen, or refuses it with a reason."""

import hashlib
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import newer_client, program_directory
from fake_engine import DOCUMENT, MANIFEST, FakeEngine, tar_with
from help_pages import run, walk
from inputs import busybox_root

TARE = os.path.join(program_directory(), "tare")
CLIENTS = [path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if os.path.exists(path)]

# ---- spelling ----

# A value that the flag's type takes.
OF_TYPE = {
    "bytes": "64m", "decimal": "1.5", "duration": "3s", "filter": "label=x", "float": "0.5", "int": "7", "list": "x=y", "map": "k=v", "mount": "type=tmpfs,target=/m",
    "network": "none", "port": "80", "string": "text", "strings": "text", "stringToString": "host=unix:///x", "uint": "7", "uint32": "4789", "uint16": "70", "ulimit": "nofile=10:20",
    "gpu-request": "all", "secret": "s", "config": "c", "credential-spec": "file://x", "pref": "spread=node.labels.x", "command": "sh", "external-ca": "protocol=cfssl,url=https://x",
    "node-addr": "1.2.3.4", "pem-file": "/dev/null", "ipNet": "10.0.0.0/24", "ipNetSlice": "10.0.0.0/24", "ip": "10.0.0.1",
}


def value_of(words, flag, kind):
    """A value that the flag takes when its command is only parsed."""
    special = {
        "publish": "80", "expose": "80", "blkio-weight-device": "/dev/null:20", "device-read-bps": "/dev/null:1m", "device-write-bps": "/dev/null:1m", "device-read-iops": "/dev/null:9",
        "device-write-iops": "/dev/null:9", "device": "/dev/null", "add-host": "h:1.2.3.4", "host": "h:1.2.3.4", "attach": "stdout", "dns": "1.2.3.4", "link": "a:b", "volume": "/v", "tmpfs": "/t", "aux-address": "a=1.2.3.4",
        "gateway": "1.2.3.4", "env": "A=b", "publish-add": "80", "storage-opt": "size=1g", "sysctl": "net.a=1", "generic-resource": "gpu=1", "generic-resource-add": "gpu=1",
    }
    if flag == "host" and not words:
        return "unix:///tare-no-engine"
    if flag == "log-level":
        return "warn"
    if kind == "node-addr":
        return "1.2.3.4"
    return special.get(flag, OF_TYPE.get(kind, "text"))


def arguments_of(words, page):
    """As many arguments as the usage line asks for."""
    usage = re.search(r"Usage:\s+(.*)", page)[1]
    wanted = re.sub(r"\[.*?\](\.\.\.)?|\.\.\.|\]", " ", usage).replace(" OPTIONS ", " ").split()
    return [f"arg{i}" for i in range(len(wanted) - 1 - len(words))]


@pytest.mark.parametrize("client", CLIENTS)
def test_every_command_is_known(client):
    mine = walk(TARE)
    assert [" ".join(words) for words in walk(client) if words not in mine] == []


@pytest.mark.parametrize("client", CLIENTS)
def test_every_flag_is_known_in_its_spelling(client):
    """--help behind a flag: the flag is parsed, nothing runs."""
    wrong = []
    n = 0
    for words, flags in walk(client).items():
        mine = walk(TARE)[words]
        for flag, (letter, kind) in flags.items():
            n += 1
            if flag in mine and mine[flag] == (letter, kind):
                continue
            # Not on the page, or differently: hidden flags must be taken all the same, in both spellings.
            value = [] if not kind else [value_of(words, flag, kind)]
            for spelling in [f"--{flag}"] + ([f"-{letter}"] if letter else []):
                result = run(TARE, *words, spelling, *value, "--help")
                if f"{spelling} is not supported: " not in result.stderr and (result.returncode != 0 or "unknown" in result.stderr):
                    wrong.append(f"{' '.join(words)} {spelling} {' '.join(value)}: {result.stderr.splitlines()[:1]}")
    assert n > 1000, "the walk found fewer flags than the clients have"
    assert wrong == []


@newer_client
def test_help_pages_are_those_of_docker():
    """The whole page, line by line, for every verb: names replaced, nothing else."""
    client = CLIENTS[0]
    wrong = []
    for words in walk(client):
        if not words:
            continue
        theirs, ours = (re.sub(r" +\n", "\n", re.sub(r"\bdocker\b", "tare", run(program, *words, "--help").stdout)) for program in (client, TARE))
        # What is experimental there is not announced here.
        theirs = re.sub(r"EXPERIMENTAL:\n(  .*\n)+\n?", "", theirs)
        # Without an engine docker shows what only Windows engines know.
        theirs = re.sub(r"      --(cpu-count|cpu-percent|io-maxbandwidth|io-maxiops) .*\n( {20,}.*\n)*", "", theirs)
        if words[-1] == "build":  # the classic builder's page, and what only BuildKit's client has there
            known = set(re.findall(r"--([a-z-]+)", theirs))
            ours = "".join(row for row in ours.splitlines(True) if not (flag := re.match(r" +(?:-., )?--([a-z-]+)", row)) or flag[1] in known)
        ours = re.sub(r"\nOnly in tare:\n( +.*\n)+", "", ours)
        if ours.rstrip() != theirs.rstrip():
            wrong.append(" ".join(words))
    assert wrong == []


# ---- what a flag does ----

CONTEXT = {"Name": "mine", "Metadata": {"Description": "old"}, "Endpoints": {"docker": {"Host": "unix:///old", "SkipTLSVerify": False}}}


class Scene:
    """Runs tare against an engine that only writes down, in a directory that is new each time, and says all that could be seen of it."""

    def __init__(self, top):
        self.top = top
        self.number = 0
        self.engine = FakeEngine(str(top / "s"))
        self.before = {}

    def observe(self, words, on_terminal=False, timeout=30, input="y\n"):
        self.number += 1
        here = self.top / "here"  # the same name each time: it may be seen
        if here.exists():
            shutil.rmtree(here)
        self.prepare(here)
        environment = {"PATH": os.environ["PATH"], "HOME": str(here / "home"), "DOCKER_HOST": f"unix://{self.top}/s", "FROM_ENVIRONMENT": "1", "LC_ALL": "C.UTF-8"}
        if words[0] == "context":
            environment.pop("DOCKER_HOST")
        master, slave = pty.openpty() if on_terminal else (None, subprocess.PIPE)
        process = subprocess.Popen([TARE, *words], cwd=here, env=environment, stdin=subprocess.PIPE, stdout=slave, stderr=slave)
        if on_terminal:
            os.close(slave)
            process.communicate(input.encode(), timeout=timeout)
            output = (read_all(master), b"")
        else:
            try:
                output = process.communicate(input.encode(), timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                output = process.communicate()
        asked = sorted(map(repr, self.engine.take()))
        return {"asked": asked, "output": output, "status": process.returncode, "files": files_in(here)}

    def prepare(self, here):
        for name in ("home/.docker", "context/sub"):
            (here / name).mkdir(parents=True)
        for name, text in {
            "context/Dockerfile": "FROM busybox\n", "context/other": "FROM scratch\n", "env": "A=b\n", "labels": "l=m\n", "file": "12345", "home/.docker/config.json": "{}",
            f"home/.docker/contexts/meta/{hashlib.sha256(b'mine').hexdigest()}/meta.json": json.dumps(CONTEXT),
            "home/.docker/manifests/docker.io_library_list-1/docker.io_library_image-1": json.dumps({"Ref": "docker.io/library/image:1", **MANIFEST, "SchemaV2Manifest": DOCUMENT}),
        }.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_text(text, encoding="utf-8")
        (here / "link").symlink_to("file")
        (here / "image.tar").write_bytes(tar_with("manifest.json", b"[]"))
        for path in [here, *here.rglob("*")]:
            os.utime(path, (1600000000, 1600000000), follow_symlinks=False)


def read_all(fd):
    text = b""
    try:
        while piece := os.read(fd, 65536):
            text += piece
    except OSError:
        pass  # the other end is gone
    os.close(fd)
    return text


def files_in(directory):
    found = {}
    for path in sorted(directory.rglob("*")):
        st = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (oct(st.st_mode), st.st_uid, content)
    return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(pathlib.Path(tmp_path_factory.mktemp("f")))
    yield made
    made.engine.stop()


# What is given to each command. {} is the place of the flag; without it the flag comes first.
BASE = {
    "builder prune": "", "buildx imagetools inspect": "image:9", "manifest annotate": "list:1 image:1", "manifest create": "new:1 image:9", "manifest inspect": "image:9", "manifest push": "list:1", "container attach": "web", "container commit": "web new:1", "container cp": "web:/file out", "container create": "{} busybox sh",
    "container exec": "{} web sh", "container export": "web", "container inspect": "web", "container kill": "web", "container logs": "web", "container ls": "", "container prune": "",
    "container restart": "web", "container rm": "web", "container run": "{} busybox sh", "container start": "web", "container stats": "--no-stream", "container stop": "web",
    "container update": "web", "context create": "new", "context inspect": "default", "context ls": "", "context rm": "mine", "context update": "mine", "image build": "context",
    "image history": "busybox", "image import": "image.tar new:1", "image inspect": "busybox", "image load": "--input image.tar", "image ls": "", "image prune": "",
    "image pull": "busybox", "image push": "busybox", "image rm": "busybox", "image save": "busybox", "inspect": "web", "login": "reg.example -u me -p secret", "network connect": "bridge web",
    "network create": "net", "network disconnect": "bridge web", "network inspect": "bridge", "network ls": "", "network prune": "", "network rm": "bridge", "search": "busybox",
    "system df": "", "system events": "", "system info": "", "system prune": "", "version": "", "volume create": "data", "volume inspect": "data", "volume ls": "", "volume prune": "", "volume rm": "data",
}
# Where a flag shows only among others: the command line with and without it, {} being its place.
BESIDE = {
    ("manifest create", "amend"): "{} list:1 image:9",
    ("container run", "detach-keys"): "{} -i busybox sh",
    ("container run", "quiet"): "{} --pull always busybox sh",
    ("container create", "quiet"): "{} --pull always busybox sh",
    ("container start", "detach-keys"): "{} -a web",
    ("container start", "interactive"): "{} -a web",
    ("container rm", "link"): "{} other/link",
    ("container stats", "no-stream"): "{}",
    ("container cp", "archive"): "{} web:/file out",
    ("container cp", "follow-link"): "{} link web:/tmp",
    ("image load", "input"): "{}",
    ("login", "password"): "{} reg.example -u me",
    ("login", "username"): "{} reg.example -p secret",
    ("login", "password-stdin"): "{} reg.example -u me",
    ("network create", "subnet"): "{} net", ("network create", "gateway"): "--subnet 10.9.0.0/16 {} net", ("network create", "ip-range"): "--subnet 10.9.0.0/16 {} net",
    ("network create", "aux-address"): "--subnet 10.9.0.0/16 {} net",
    ("context create", "from"): "{} new", ("context rm", "force"): "{} absent", ("network rm", "force"): "{} absent",
    ("container create", "health-retries"): "{} --health-cmd true busybox sh",
    ("container run", "network-alias"): "--network net {} busybox sh", ("container create", "network-alias"): "--network net {} busybox sh",
    ("container run", "net-alias"): "--network net {} busybox sh", ("container create", "net-alias"): "--network net {} busybox sh",
    ("container run", "rm"): "{} -d busybox sh",
    ("container run", "log-opt"): "{} busybox sh",
}
# The value that is given, where the type's own (OF_TYPE) would not show or is not taken.
VALUES = {
    "add-host": "h:1.2.3.4", "attach": "stdout", "archive": "", "blkio-weight-device": "/dev/null:20", "build-arg": "A=b", "change": "CMD x", "cgroupns": "host", "cidfile": "id", "device": "/dev/null", "device-cgroup-rule": "c 1:3 r",
    "detach-keys": "ctrl-a", "device-read-bps": "/dev/null:1m", "device-write-bps": "/dev/null:1m", "device-read-iops": "/dev/null:9", "device-write-iops": "/dev/null:9",
    "disable-content-trust": "false", "dns": "1.2.3.4", "env": "A=b", "env-file": "env", "expose": "80", "file": "context/other", "format": "{{json .}}", "health-interval": "3s", "human": "false",
    "iidfile": "id", "input": "image.tar", "ip": "10.9.0.3", "ip6": "2001:db8::33", "ipc": "host", "isolation": "default", "label-file": "labels", "link": "a:b", "log-driver": "none", "mac-address": "92:d0:c6:0a:29:33",
    "net": "host", "network": "host", "output": "written", "pause": "false", "pid": "host", "platform": "linux/arm64", "publish": "80", "pull": "always", "restart": "always", "rm": "false", "runtime": "runc",
    "security-opt": "no-new-privileges", "sig-proxy": "false", "signal": "HUP", "since": "2020-01-01T00:00:00Z", "stop-signal": "HUP", "storage-opt": "size=1g", "subnet": "10.8.0.0/16", "gateway": "10.9.0.1",
    "ip-range": "10.9.1.0/24", "aux-address": "a=10.9.0.9", "until": "2021-01-01T00:00:00Z", "user": "me", "userns": "host", "uts": "host", "volume": "/v", "volumes-from": "web", "tail": "3", "tmpfs": "/t", "workdir": "/w",
    ("manifest annotate", "arch"): "arm64", ("manifest annotate", "os"): "darwin", ("container run", "rm"): "true", ("container create", "rm"): "true", ("container run", "tmpfs"): "/t", ("inspect", "type"): "image", ("container run", "network"): "none",
    ("container commit", "author"): "me", ("login", "username"): "you", ("network create", "scope"): "swarm", ("container create", "pull"): "always", ("image build", "pull"): "true",
    ("container kill", "signal"): "HUP", ("container ls", "format"): "{{.ID}}", ("container inspect", "format"): "{{.Id}}", ("container update", "restart"): "always",
    ("network create", "config-from"): "bridge", ("container ls", "last"): "3", ("image build", "label"): "a=b", ("volume create", "driver"): "local2", ("network connect", "link"): "a:b",
    ("container rm", "link"): "true", ("context create", "docker"): "host=unix:///x", ("context create", "from"): "mine", ("container start", "attach"): "true", "sysctl": "net.ipv4.ip_forward=1", "tag": "new:2", ("image inspect", "platform"): "linux/arm64",
    ("image build", "cgroup-parent"): "parent", ("image build", "no-cache"): "true", ("image build", "build-context"): "x=docker-image://y", ("image build", "output"): "written",
    ("image build", "progress"): "plain", ("image build", "secret"): "id=x,env=PATH", ("image build", "no-cache-filter"): "stage", ("image build", "cache-to"): "type=local,dest=written", ("builder prune", "filter"): "until=24h", ("image pull", "disable-content-trust"): "false",
}
ON_TERMINAL = {("container cp", "quiet"), ("image load", "quiet")}
STOPPED = {("container stats", "no-stream")}
# What cannot be seen from an engine that does nothing, and the test of this file that shows it.
SHOWN_BY = {("container run", "sig-proxy"): "test_sig_proxy", ("container attach", "sig-proxy"): "test_sig_proxy"}


def first_spelling(words):
    """A command has one flag table, whatever it is called by."""
    page = run(TARE, *words, "--help").stdout
    aliases = re.search(r"Aliases:\n  (.*)\n", page)
    return tuple(aliases[1].split(", ")[0].split(" ")[1:]) if aliases else words


def flags_of_commands():
    """{first spelling: {flag: (letter, type)}}: what tare's page shows, and what it hides and the stock clients show."""
    found = {}
    pages = walk(TARE)
    for words, flags in pages.items():
        if not words or any(len(other) > len(words) and other[: len(words)] == words for other in pages):
            continue  # a group
        known = found.setdefault(" ".join(first_spelling(words)), {})
        for source in [flags] + [walk(client).get(words, {}) for client in CLIENTS]:
            for flag, shape in source.items():
                known.setdefault(flag, shape)
    return found


COMMANDS = flags_of_commands()


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - set(BASE)))
def test_other_commands_have_no_flags_or_are_refused(command):
    """A verb whose issue is still open says so, whatever flags it gets."""
    words = command.split(" ")
    page = run(TARE, *words, "--help").stdout
    arguments = ["v"] if command == "volume update" else arguments_of(words, page)
    for flag, (letter, kind) in {**COMMANDS[command], "": ("", "")}.items():
        given = [f"--{flag}"] + ([value_of(words, flag, kind)] if kind else []) if flag else []
        result = run(TARE, *words, *given, *arguments)
        if result.stderr.startswith(f"--{flag} is not supported: ") and result.returncode == 125:
            continue
        if flag or "is not supported" in result.stderr:
            assert (result.returncode, result.stdout) == (1, ""), (given, result.stderr)
            assert re.search(rf"^tare: 'tare {command}' is not supported: .+", result.stderr), (given, result.stderr)


def given_flag(command, flag, kind):
    value = VALUES.get((command, flag), VALUES.get(flag))
    if not kind:
        return [f"--{flag}={value}" if value else f"--{flag}"]
    return [f"--{flag}", value if value is not None else OF_TYPE[kind]]


def line(command, flag, given):
    base = BESIDE.get((command, flag), BASE[command]).split(" ")
    base = base if base != [""] else []
    if "{}" not in base:
        base = ["{}", *base]
    at = base.index("{}")
    return [*command.split(" "), *base[:at], *given, *base[at + 1 :]]


@pytest.mark.parametrize("command", sorted(BASE))
def test_every_flag_does_something_or_is_refused(scene, command):
    """Without and with the flag: something that is asked of the engine, printed, written or returned differs."""
    ignored, broken = [], []
    for flag, (_, kind) in sorted(COMMANDS[command].items()):
        if flag == "help" or (command, flag) in SHOWN_BY:
            continue
        how = {"on_terminal": (command, flag) in ON_TERMINAL, "timeout": 1 if (command, flag) in STOPPED else 30}
        without = scene.observe(line(command, flag, []), **how)
        given = given_flag(command, flag, kind)
        seen = scene.observe(line(command, flag, given), **how)
        text = seen["output"][1].decode()
        if seen["status"] in (1, 125) and f"--{flag} is not supported: " in text:
            continue
        if seen == without:
            ignored.append(" ".join(given))
        elif seen["status"] != 0 and flag not in FAILS:
            broken.append((" ".join(given), seen["status"], text.splitlines()[:1]))
    assert (ignored, broken) == ([], [])


# Flags whose effect here is an error of their own: no terminal to speak of, a device that is not there, what contradicts.
FAILS = {"tty", "output", "push", "metadata-file", "cache-to", "check", "secret", "ssh"}  # and what needs an image that this engine does not make


@pytest.mark.parametrize("verb", ["run", "attach"])
@pytest.mark.parametrize("forward", [True, False])
def test_sig_proxy(engine, verb, forward):
    """A signal that the client gets reaches the container, or ends the client alone."""
    if not engine.api("GET", "/images/busybox/json").status == 200:
        engine.tare("import", str(busybox_root()), "busybox")
    script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    name = f"{verb}-{forward}"
    flag = f"--sig-proxy={str(forward).lower()}"
    start = ["run", "--name", name, flag, "busybox", "sh", "-c", script]
    if verb == "attach":
        engine.tare("run", "-d", "--name", name, "busybox", "sh", "-c", script.replace("echo ready;", "").replace("while :; do", "while :; do echo ready;"))
        start = ["attach", flag, name]
    client = subprocess.Popen([TARE, *start], env={**os.environ, "DOCKER_HOST": engine.host}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline() == b"ready\n"
    time.sleep(0.2)  # the last request of its start is an answer away
    client.send_signal(signal.SIGTERM)
    output, _ = client.communicate(timeout=20)
    running = engine.tare("inspect", "-f", "{{.State.Running}}", name).stdout.strip()
    if forward:
        assert (b"got it" in output, client.returncode, running) == (True, 7, "false")
    else:
        assert (b"got it" in output, running) == (False, "true")
        assert client.returncode in (-signal.SIGTERM, 143)


def test_shown_elsewhere_is_shown():
    for name in SHOWN_BY.values():
        assert callable(globals()[name])
