"""The same for POST /build and for exec: every query parameter and every field has an effect that is looked at, or is refused, or stands here with the reason why it has none."""

import io
import json
import os
import re
import socket
import tarfile
import urllib.parse

import pytest

from conftest import TOP, finish, make_engine
from inputs import busybox_root
from test_recovery import wait_until

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    running.tare("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    yield running
    finish(running)


def context(dockerfile, name="Dockerfile", **files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text in {name: dockerfile, **files}.items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def build(engine, query, dockerfile="FROM busybox\n", version="v1.41", **options):
    text = urllib.parse.urlencode({key: json.dumps(value) if isinstance(value, (dict, list)) and key != "t" else value for key, value in query.items()}, doseq=True)
    return engine.api("POST", f"/{version}/build?{text}", context(dockerfile, **options), {"Content-Type": "application/x-tar"})


def printed(answer):
    return "".join(message.get("stream", "") for message in answer.messages)


def built(answer):
    return [message["aux"]["ID"] for message in answer.messages if "aux" in message][-1]


def failure(answer):
    return answer.message if answer.status != 200 else next((message["error"] for message in answer.messages if "error" in message), "")


def limit(v1, v2):
    return "cat /sys/fs/cgroup/" + (v2 if V2 else v1)


# ---- limits and surroundings of the steps: parameter → (the query, what runs, what it prints) ----

STEPS = {
    "memory": ({"memory": 32 << 20}, limit("memory/memory.limit_in_bytes", "memory.max"), f"{32 << 20}"),
    "memswap": ({"memory": 32 << 20, "memswap": 48 << 20}, limit("memory/memory.memsw.limit_in_bytes", "memory.swap.max"), f"{(16 if V2 else 48) << 20}"),
    "pidslimit": ({"pidslimit": 77}, limit("pids/pids.max", "pids.max"), "77"),
    "cpushares": ({"cpushares": 512}, limit("cpu/cpu.shares", "cpu.weight"), "20" if V2 else "512"),
    "cpuperiod": ({"cpuperiod": 50000}, limit("cpu/cpu.cfs_period_us", "cpu.max"), "max 50000" if V2 else "50000"),
    "cpuquota": ({"cpuquota": 20000}, limit("cpu/cpu.cfs_quota_us", "cpu.max"), "20000 100000" if V2 else "20000"),
    "cpusetcpus": ({"cpusetcpus": "0"}, limit("cpuset/cpuset.cpus", "cpuset.cpus"), "0"),
    "cpusetmems": ({"cpusetmems": "0"}, limit("cpuset/cpuset.mems", "cpuset.mems"), "0"),
    "cgroupparent": ({"cgroupparent": "/given-to-build"}, "cat /proc/self/cgroup | head -n 1", r"\d+:.*" + (":/" if V2 else ":/given-to-build/.*")),
    "shmsize": ({"shmsize": 2 << 20}, "grep ' /dev/shm ' /proc/mounts", ".*size=2048k.*"),
    "ulimits": ({"ulimits": [{"Name": "nofile", "Soft": 123, "Hard": 456}]}, "echo $(ulimit -Sn) $(ulimit -Hn)", "123 456"),
    "extrahosts": ({"extrahosts": "given:10.9.8.7"}, "grep given /etc/hosts", r"10\.9\.8\.7\s+given"),
    "networkmode": ({"networkmode": "none"}, "echo $(ls /sys/class/net)", "lo"),
    "buildargs": ({"buildargs": {"A": "given"}}, "echo $A", "given"),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_have_what_was_asked_for(engine, name):
    query, command, wanted = STEPS[name]
    answer = build(engine, {"networkmode": "none", "nocache": 1, **query}, f"FROM busybox\nARG A\nRUN echo said; {command}\n")
    assert re.search(rf"^said\n{wanted}\n", printed(answer), re.M), (printed(answer), failure(answer))
    engine.docker("image", "rm", built(answer))


def test_a_step_goes_no_further_than_its_limits(engine):
    """Not only what the kernel is told: what a step does beyond it fails, and the build with it."""
    hungry = build(engine, {"networkmode": "none", "memory": 16 << 20, "memswap": 16 << 20}, "FROM busybox\nRUN head -c 64m /dev/zero | tail > /dev/null\n")
    assert "non-zero code: 137" in failure(hungry), printed(hungry)
    forking = build(engine, {"networkmode": "none", "pidslimit": 12}, "FROM busybox\nRUN for i in $(seq 40); do sleep 5 & done\n")
    assert "can't fork" in printed(forking) and "non-zero code: 2" in failure(forking), printed(forking)


def test_pids_limit_of_the_command(engine, tmp_path):
    """So many processes a step, its shell among them, and no more; each step anew. Without the flag, and with -1, there are as many as it likes."""
    dockerfile = "FROM busybox\n" + "RUN for i in $(seq 40); do sleep 1000 & echo started $i; done\n" * 2
    (tmp_path / "Dockerfile").write_text(dockerfile, encoding="utf-8")

    def run(*flags):
        ran = engine.tare("build", "--no-cache", "--network", "none", *flags, str(tmp_path), check=False)
        return ran.returncode, [int(number) for number in re.findall(r"^started (\d+)$", ran.stdout, re.M)], ran.stdout + ran.stderr

    for flags in ([], ["--pids-limit", "-1"], ["--pids-limit", "41"]):
        status, started, said = run(*flags)
        assert status == 0 and started == [*range(1, 41)] * 2, said
    for most in (12, 30):
        status, started, said = run("--pids-limit", str(most))
        assert status == 2 and started == [*range(1, most)], said
        assert "can't fork" in said and "returned a non-zero code: 2" in said
    status, started, said = run("--pids-limit", "many")
    assert (status, started) == (125, []) and 'invalid argument "many" for "--pids-limit" flag' in said
    engine.tare("image", "prune", "-f")


def test_a_dockerfile_has_so_many_instructions_and_no_more(engine):
    """Stages are instructions, too."""
    for line in ("ENV a=b\n", "FROM scratch\n"):
        assert "more than 10000 instructions" in failure(build(engine, {}, "FROM busybox\n" + line * 10001))
    assert "larger than 4194304 bytes" in failure(build(engine, {}, "FROM busybox\n" + "# nothing\n" * 450000))


# ---- the rest: parameter → a function that looks ----


def look_dockerfile(engine):
    assert "FROM busybox\n" in printed(build(engine, {"dockerfile": "sub/Other"}, name="sub/Other"))
    assert failure(build(engine, {"dockerfile": "None"})) == "Cannot locate specified Dockerfile: None"
    assert failure(build(engine, {"dockerfile": "../x"})).lower().startswith("forbidden path outside the build context: ../x")


def look_tags(engine):
    answer = build(engine, {"t": ["one:1", "two:2"]}, "FROM busybox\nENV t=1\n")
    assert "Successfully tagged one:1\nSuccessfully tagged two:2\n" in printed(answer)
    assert engine.docker("image", "rm", "one:1", "two:2").stdout.startswith("Untagged: one:1\nUntagged: two:2\n")
    assert "invalid reference format" in failure(build(engine, {"t": "UPPER"}))


def look_remote(engine):
    assert failure(engine.api("POST", "/v1.41/build?remote=nonsense")) != ""
    assert "127.0.0.1:1" in failure(engine.api("POST", "/v1.41/build?remote=http://127.0.0.1:1/x.tar"))


def look_quiet(engine):
    answer = build(engine, {"q": 1}, "FROM busybox\nENV q=1\n")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", printed(answer))
    engine.docker("image", "rm", printed(answer).strip())
    assert "Step 2/2 : RUN false" in printed(build(engine, {"q": 1, "networkmode": "none"}, "FROM busybox\nRUN false\n")), "of a failure all is told"


def look_nocache(engine):
    dockerfile = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
    first, cached, fresh = (build(engine, query, dockerfile) for query in ({}, {}, {"nocache": 1}))
    assert "---> Using cache" in printed(cached) and built(cached) == built(first)
    assert "---> Using cache" not in printed(fresh) and built(fresh) != built(first)
    engine.docker("image", "rm", built(first), built(fresh))


def look_cachefrom(engine):
    dockerfile = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
    first = build(engine, {"t": "cache:1"}, dockerfile)
    again = build(engine, {"cachefrom": ["cache:1"]}, dockerfile)
    assert "---> Using cache" in printed(again) and built(again) == built(first)
    assert failure(engine.api("POST", "/v1.41/build?cachefrom=x", context(dockerfile))).startswith("error reading cache-from")
    engine.docker("image", "rm", "cache:1")


def look_pull(engine):
    assert failure(build(engine, {})) == ""
    assert "127.0.0.1:1" in failure(build(engine, {"pull": 1})), "asks the registry although the image is here"


def look_rm(engine):
    dockerfile = "FROM busybox\nRUN true\n"
    count = lambda: len(engine.api("GET", "/containers/json?all=1").json)
    for query, kept in (({}, 0), ({"rm": 1}, 0), ({"rm": 0}, 1)):
        before = count()
        answer = build(engine, {"nocache": 1, "networkmode": "none", **query}, dockerfile)
        assert ("Removing intermediate container" in printed(answer)) == (kept == 0)
        assert count() - before == kept
        for container in engine.api("GET", "/containers/json?all=1").json[: count() - before]:
            engine.docker("rm", container["Id"])
        engine.docker("image", "rm", "-f", built(answer))


def look_forcerm(engine):
    count = lambda: len(engine.api("GET", "/containers/json?all=1").json)
    for query, kept in (({}, 1), ({"forcerm": 1}, 0)):
        before = count()
        assert "returned a non-zero code: 3" in failure(build(engine, {"networkmode": "none", **query}, "FROM busybox\nRUN exit 3\n"))
        assert count() - before == kept
        for container in engine.api("GET", "/containers/json?all=1").json[: count() - before]:
            engine.docker("rm", container["Id"])


def look_labels(engine):
    answer = build(engine, {"labels": {"given": "label"}})
    assert engine.api("GET", f"/images/{built(answer)}/json").json["Config"]["Labels"] == {"given": "label"}
    engine.docker("image", "rm", built(answer))
    assert failure(engine.api("POST", "/v1.41/build?labels=x", context("FROM busybox\n"))).startswith("error reading labels")


def look_target(engine):
    answer = build(engine, {"target": "first"}, "FROM busybox AS first\nENV first=1\nFROM busybox\nENV second=1\n")
    assert "first=1" in engine.api("GET", f"/images/{built(answer)}/json").json["Config"]["Env"]
    engine.docker("image", "rm", built(answer))
    assert failure(build(engine, {"target": "none"})) == "failed to reach build target none in Dockerfile"


def look_platform(engine):
    assert failure(build(engine, {"platform": "linux/amd64"})) == ""
    assert '"bogus/a/b/c": cannot parse platform specifier: invalid argument' in failure(build(engine, {"platform": "bogus/a/b/c"}))
    assert failure(build(engine, {"platform": "linux/s390x"})) != "", "no such busybox is here, and none can be had"


def look_nocachefilter(engine):
    dockerfile = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM one AS two\nRUN true\n"
    first, again, fresh = (build(engine, {"networkmode": "none", **query}, dockerfile) for query in ({}, {}, {"nocachefilter": ["one"]}))
    assert built(again) == built(first) != built(fresh)
    engine.docker("image", "rm", built(first), built(fresh))


def look_squash(engine):
    dockerfile = "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n"
    layers = lambda image: engine.api("GET", f"/images/{image}/json").json["RootFS"]["Layers"]
    plain, squashed = (built(build(engine, {"networkmode": "none", **query}, dockerfile)) for query in ({}, {"squash": 1}))
    base = layers("busybox")
    assert (len(layers(plain)), len(layers(squashed))) == (len(base) + 2, len(base) + 1)
    assert layers(squashed)[: len(base)] == base
    engine.docker("image", "rm", plain, squashed)


LOOKED_AT = {
    "dockerfile": look_dockerfile, "t": look_tags, "remote": look_remote, "q": look_quiet, "nocache": look_nocache, "cachefrom": look_cachefrom, "pull": look_pull, "rm": look_rm,
    "forcerm": look_forcerm, "labels": look_labels, "target": look_target, "platform": look_platform, "squash": look_squash, "nocachefilter": look_nocachefilter,
}  # fmt: skip

# parameter → (the query, status, the text)
REFUSED = {
    "securityopt": ({"securityopt": ["x"]}, 400, "The daemon on this platform does not support setting security options on build"),
    "isolation": ({"isolation": "hyperv"}, 400, 'unsupported isolation: "hyperv"'),
    "outputs": ({"outputs": [{"Type": "local"}]}, 501, "build outputs need BuildKit, which is not supported yet by this engine"),
    "version": ({"version": "2"}, 501, "BuildKit is not supported yet by this engine: set DOCKER_BUILDKIT=0 to build"),
}

ELSEWHERE = {
    "session": "of BuildKit: without version=2 dockerd has no use for it either", "buildid": "of BuildKit: names a build that could be cancelled",
    "check": "test_dockerfile_language: --check", "progress": "our client's: test_build_faces", "tellfailed": "our client's: test_build_faces", "tellstages": "our client's: test_build_exports (mode=max)", "excerpts": "our client's: test_dockerfile_language",
    "context": "our client's: test_build_contexts", "contexts": "our client's: test_build_contexts", "allow": "our client's: test_build_graph (entitlements)",
}  # fmt: skip

# What dockerd's API 1.41 documents, and what its router reads besides.
DOCUMENTED = "dockerfile t extrahosts remote q nocache cachefrom pull rm forcerm memory memswap cpushares cpusetcpus cpuperiod cpuquota buildargs shmsize squash labels networkmode platform target outputs"
UNDOCUMENTED = "version session buildid ulimits cgroupparent cpusetmems securityopt isolation"


def test_every_parameter_of_build_is_in_a_table():
    with open(os.path.join(TOP, "src", "api", "builds.c"), encoding="utf-8") as file:
        text = file.read().split("/* ---- contexts beforehand")[0]
    read = set(re.findall(r'(?:api_query|api_query_bool|query_json|http_request_query_all)\([^;"]*?"(\w+)"', text))
    read |= set(re.findall(r'\{ "(\w+)", "\w+", LIMIT_', text))
    known = {*STEPS, *LOOKED_AT, *REFUSED, *ELSEWHERE}
    assert len(read) > 30
    assert sorted((read | set(DOCUMENTED.split()) | set(UNDOCUMENTED.split())) - known) == []
    assert sorted(known - read - {"session", "buildid"}) == []


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_parameter_has_its_effect(engine, name):
    LOOKED_AT[name](engine)


@pytest.mark.parametrize("name", REFUSED)
def test_a_parameter_is_refused(engine, name):
    query, status, text = REFUSED[name]
    answer = build(engine, query)
    assert (answer.status, answer.message) == (status, text)
    harmless = {"isolation": "default", "version": "1"}
    if name in harmless:
        assert failure(build(engine, {name: harmless[name]})) == ""


# ---- exec ----

EXEC_FIELDS = "AttachStdin AttachStdout AttachStderr DetachKeys Tty Env Cmd Privileged User WorkingDir ConsoleSize"  # of API 1.51
EXEC_START = "Detach Tty ConsoleSize"


def exec_create(engine, command, version="v1.51", **fields):
    answer = engine.api("POST", f"/{version}/containers/other/exec", {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", command], **fields})
    assert answer.status == 201, answer.body
    return answer.json["Id"]


class Session:
    """A started exec on a connection of its own, as clients take it over."""

    def __init__(self, engine, identifier, version="v1.51", **fields):
        body = json.dumps(fields).encode()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(engine.socket)
        self.socket.sendall(b"POST /%s/exec/%s/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (version.encode(), identifier.encode(), len(body), body))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.socket.recv(1)
            assert piece, head
            head += piece
        assert b" 101 " in head.splitlines()[0], head

    def rest(self):
        return b"".join(iter(lambda: self.socket.recv(65536), b""))

    def frames(self):
        data, found = self.rest(), {1: b"", 2: b""}
        while data:
            length = int.from_bytes(data[4:8], "big")
            found[data[0]] += data[8 : 8 + length]
            data = data[8 + length :]
        return found[1], found[2]


def state(engine, identifier):
    return engine.api("GET", f"/exec/{identifier}/json").json


EXEC_EFFECTS = {
    "Env": ({"Env": ["A=given", "PATH=/bin:/given"]}, "echo $A $PATH", (b"given /bin:/given\n", b"")),
    "WorkingDir": ({"WorkingDir": "/tmp"}, "pwd", (b"/tmp\n", b"")),
    "User": ({"User": "user:extra"}, "echo $(id -u) $(id -g) $(id -G)", (b"1000 2000 2000\n", b"")),
    "Privileged": ({"Privileged": True}, "echo $((0x$(grep CapEff /proc/self/status | tail -c 17) > 0x1f00000000))", (b"1\n", b"")),
    "AttachStdout": ({"AttachStdout": False}, "echo out; echo err >&2", (b"", b"err\n")),
    "AttachStderr": ({"AttachStderr": False}, "echo out; echo err >&2", (b"out\n", b"")),
    "Cmd": ({"Cmd": ["echo", "a b", ""]}, "", (b"a b \n", b"")),
}


def test_every_field_of_exec_is_looked_at():
    with open(os.path.join(TOP, "src", "container", "exec.c"), encoding="utf-8") as file:
        text = re.search(r"static json_t \*canonical\(.*?\n\}\n", file.read(), re.S).group(0)
    assert set(re.findall(r'"(\w+)"', text)) - {""} == {*EXEC_FIELDS.split(), "Detach"}
    assert {*EXEC_FIELDS.split()} == {*EXEC_EFFECTS, "AttachStdin", "DetachKeys", "Tty", "ConsoleSize"}


@pytest.mark.parametrize("field", EXEC_EFFECTS)
def test_a_field_of_exec_has_its_effect(engine, field):
    fields, command, wanted = EXEC_EFFECTS[field]
    identifier = exec_create(engine, command, **fields)
    assert Session(engine, identifier).frames() == wanted
    assert state(engine, identifier)["ExitCode"] == 0
    shown = state(engine, identifier)
    for key, name in (("AttachStdout", "OpenStdout"), ("AttachStderr", "OpenStderr")):
        assert shown[name] == fields.get(key, True)
    if field in ("User", "Privileged"):
        assert shown["ProcessConfig"][field.lower()] == fields[field]


def test_what_exec_takes_in(engine):
    identifier = exec_create(engine, "cat; echo end", AttachStdin=True)
    session = Session(engine, identifier)
    session.socket.sendall(b"given\n")
    session.socket.shutdown(socket.SHUT_WR)
    assert session.frames() == (b"given\nend\n", b"")
    assert state(engine, identifier)["OpenStdin"]
    assert Session(engine, exec_create(engine, "cat; echo end")).frames() == (b"end\n", b""), "without it the input is empty"


def test_terminals_of_exec(engine):
    size = lambda version, create, start, tty=True: Session(engine, exec_create(engine, "stty size; test -t 0 && echo $TERM", version, Tty=tty, **create), version, Tty=tty, **start).rest()
    assert size("v1.51", {}, {"ConsoleSize": [33, 77]}) == b"33 77\r\nxterm\r\n"
    assert size("v1.51", {"ConsoleSize": [44, 88]}, {}) == b"44 88\r\nxterm\r\n"
    assert size("v1.51", {"ConsoleSize": [44, 88]}, {"ConsoleSize": [33, 77]}) == b"33 77\r\nxterm\r\n"
    assert size("v1.41", {"ConsoleSize": [44, 88]}, {"ConsoleSize": [33, 77]}) .endswith(b"stty: standard input\r\nxterm\r\n"), "before 1.42 there was no such field"
    for number, wrong in enumerate(([0, 0], [1], "x", [-1, 5], [70000, 5], {"a": 1})):
        answer = engine.api("POST", f"/exec/{exec_create(engine, 'true', Tty=True)}/start", {"Detach": True, "Tty": True, "ConsoleSize": wrong})
        assert answer.status in (200, 400), (number, answer.body)
    assert b"xterm" not in size("v1.51", {}, {}, tty=False)


@pytest.mark.parametrize("keys, sent", [("ctrl-a", b"\x01"), ("a,b", b"ab"), ("", b"\x10\x11")])
def test_detach_keys_of_exec(engine, keys, sent):
    identifier = exec_create(engine, "stty raw -echo; cat > /dev/null", Tty=True, AttachStdin=True, DetachKeys=keys)
    session = Session(engine, identifier, Tty=True)
    wait_until(lambda: state(engine, identifier)["Running"], lambda: state(engine, identifier), 10)
    session.socket.sendall(b"x" + sent)
    session.rest()  # ends
    shown = state(engine, identifier)
    assert (shown["Running"], shown["DetachKeys"]) == (True, keys)
    os.kill(shown["Pid"], 9)
    wait_until(lambda: not state(engine, identifier)["Running"], lambda: state(engine, identifier), 10)


def test_detached_exec(engine):
    identifier = exec_create(engine, "echo x; exit 7")
    answer = engine.api("POST", f"/exec/{identifier}/start", {"Detach": True})
    assert (answer.status, answer.body) == (200, b"")
    wait_until(lambda: state(engine, identifier)["ExitCode"] == 7, lambda: state(engine, identifier), 10)
    again = engine.api("POST", f"/exec/{identifier}/start", {"Detach": True})
    assert (again.status, again.message) == (409, f"Error: Exec command {identifier} has already run")
