"""The engine's death, at any instant: containers run on, their ends are known, images are whole or absent, and nothing half-made remains."""

import contextlib
import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from archives import docker_archive, entry, layer
from conftest import program_directory
from inputs import busybox_root

TICKER = "i=0; while true; do echo line$i; i=$((i+1)); sleep 0.1; done"


@pytest.fixture
def one(new_engine):
    running = new_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    return running


def wait_until(holds, what, seconds=15):
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = holds()
        except OSError:
            value = None
        if value:
            return value
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.03)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def state(engine, name):
    return engine.api("GET", f"/containers/{name}/json").json["State"]


def inspect(engine, name, template):
    return engine.tare("inspect", "-f", template, name).stdout.rstrip("\n")


def ask(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.makefile("rb").readline()


def spawn(engine, *arguments, **options):
    environment = {**os.environ, "TARE_HOST": engine.host, "DOCKER_HOST": engine.host, "HOME": engine.directory}
    return subprocess.Popen([os.path.join(program_directory(), "tare"), *arguments], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def read_until(file, wanted, seconds=10):
    """Reads from a pipe or terminal until it has said what is wanted."""
    descriptor = file if isinstance(file, int) else file.fileno()
    received = b""
    deadline = time.monotonic() + seconds
    while wanted not in received:
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{received!r} instead of {wanted!r}"
        piece = os.read(descriptor, 65536)
        assert piece, f"the end after {received!r} instead of {wanted!r}"
        received += piece
    return received


def shims_of(engine):
    """The supervisors of an engine's containers: container id → pid."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0] == "tare-shim" and os.path.isdir(f"{engine.data_root}/containers/{words[1]}"):
            found[words[1]] = int(pid)
    return found


# ---- running containers ----


@pytest.mark.parametrize("hard", [True, False], ids=["kill", "term"])
def test_running_containers_run_on(one, hard):
    port = free_port()
    one.tare("run", "-d", "--name", "plain", "busybox", "sh", "-c", TICKER)
    one.tare("run", "-dt", "--name", "tty", "busybox", "sh")
    one.tare("run", "-di", "--name", "open", "busybox", "cat")
    one.tare("run", "-d", "--name", "port", "-p", f"{port}:7", "busybox", "nc", "-ll", "-p", "7", "-e", "hostname")
    one.tare("run", "-d", "--name", "vol", "-v", "data:/data", "busybox", "sh", "-c", "while true; do date >> /data/log; sleep 0.1; done")
    one.tare("run", "-d", "--rm", "--name", "auto", "busybox", "sleep", "1000")
    one.tare("run", "-d", "--name", "limits", "-m", "64m", "--pids-limit", "20", "busybox", "sleep", "1000")
    one.tare("run", "-d", "--name", "frozen", "busybox", "sh", "-c", TICKER)
    one.tare("pause", "frozen")
    one.tare("run", "-d", "--name", "host", "--network", "host", "busybox", "sleep", "1000")
    one.tare("run", "-d", "--name", "none", "--network", "none", "busybox", "sleep", "1000")
    names = ["plain", "tty", "open", "port", "vol", "auto", "limits", "frozen", "host", "none"]
    wait_until(lambda: ask(port), "the port answers")
    pids = {name: state(one, name)["Pid"] for name in names}
    before = {name: one.api("GET", f"/containers/{name}/json").json for name in names}
    execs = spawn(one, "exec", "-i", "plain", "sh", "-c", "echo begun; cat; exit 9")
    attached = spawn(one, "attach", "open")
    read_until(execs.stdout, b"begun")
    attached.stdin.write(b"attached\n")  # both sessions stand before the engine goes
    attached.stdin.flush()
    read_until(attached.stdout, b"attached")

    def leave():
        one.kill() if hard else one.stop()

    leave()
    time.sleep(0.5)
    last = len(open(f"{one.data_root}/volumes/data/_data/log", encoding="utf-8").read().splitlines())
    assert ask(port) == (before["port"]["Id"][:12] + "\n").encode(), "a published port answers without the engine"
    # terminals on the unix socket are the shim's: they go on
    execs.stdin.write(b"across\n")
    execs.stdin.flush()
    read_until(execs.stdout, b"across")
    attached.stdin.write(b"hello from before\n")
    attached.stdin.flush()
    read_until(attached.stdout, b"hello from before")
    one.start()

    assert {name: state(one, name)["Pid"] for name in names} == pids
    for name in names:
        now = one.api("GET", f"/containers/{name}/json").json
        for part in ("State", "NetworkSettings", "Config", "HostConfig", "Mounts", "Name", "Image"):
            assert now[part] == before[name][part], (name, part)
    assert sorted(one.tare("ps", "--format", "{{.Names}}").stdout.split()) == sorted(names)
    assert "(Paused)" in one.tare("ps", "--filter", "name=frozen", "--format", "{{.Status}}").stdout
    # logs, also of what was written meanwhile: no line is missing
    lines = one.tare("logs", "plain").stdout.splitlines()
    assert len(lines) >= 5
    assert lines == [f"line{i}" for i in range(len(lines))]
    follow = spawn(one, "logs", "-f", "--tail", "1", "plain")
    read_until(follow.stdout, f"line{len(lines) + 3}".encode())
    follow.terminate()
    follow.wait(10)
    # exec, in all of them
    for name in names:
        if name != "frozen":
            assert one.tare("exec", name, "sh", "-c", "echo in; exit 3", check=False).returncode == 3, name
    assert one.tare("exec", "limits", "id", "-u").stdout == "0\n"
    refused = one.tare("exec", "frozen", "true", check=False)
    assert refused.returncode == 1
    assert "is paused, unpause the container before exec" in refused.stderr
    # the sessions of before still work
    execs.stdin.write(b"still\n")
    execs.stdin.close()
    read_until(execs.stdout, b"still")
    assert execs.wait(10) == 9, execs.stderr.read()
    attached.stdin.write(b"to cat\n")
    attached.stdin.flush()
    read_until(attached.stdout, b"to cat")
    # a new attach
    again = spawn(one, "attach", "--no-stdin", "plain")
    read_until(again.stdout, b"line")
    again.kill()
    again.wait()
    assert ask(port)
    assert one.tare("port", "port").stdout.splitlines()[0] == f"7/tcp -> 0.0.0.0:{port}"
    wait_until(lambda: len(open(f"{one.data_root}/volumes/data/_data/log", encoding="utf-8").read().splitlines()) > last, "the volume is written")
    assert "sleep 1000" in one.tare("top", "limits").stdout
    assert one.api("GET", "/containers/limits/stats?stream=0").json["memory_stats"]["limit"] == 64 << 20
    attached.stdin.close()
    assert state(one, "open")["Running"], "started without a client, it keeps its input open"
    # unpause, stop, kill, wait, rm
    one.tare("unpause", "frozen")
    assert state(one, "frozen")["Status"] == "running"
    waiting = spawn(one, "wait", "limits")
    time.sleep(0.2)
    one.tare("kill", "limits")
    assert waiting.communicate(timeout=10)[0] == b"137\n"
    one.tare("stop", "-t", "0", "plain", "port", "vol", "frozen", "host", "none", "auto")
    wait_until(lambda: one.api("GET", "/containers/auto/json").status == 404, "--rm removes")
    with pytest.raises(OSError):
        ask(port)
    one.tare("start", "port")
    wait_until(lambda: ask(port), "it can be started again")
    assert attached.poll() is None, "its input has ended, and it waits for the end of the container"
    one.tare("rm", "-f", "port", "plain", "tty", "open", "vol", "limits", "frozen", "host", "none")
    assert attached.wait(10) == 137
    assert one.tare("ps", "-aq").stdout == ""
    one.tare("volume", "rm", "data")


@pytest.mark.parametrize("hard", [True, False], ids=["kill", "term"])
def test_a_terminal_is_attached_again(one, hard):
    one.tare("run", "-dit", "--name", "tty", "busybox", "sh")
    one.kill() if hard else one.stop()
    one.start()
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TARE_HOST": one.host}
    client = subprocess.Popen([os.path.join(program_directory(), "tare"), "attach", "tty"], env=environment, stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True)
    os.write(primary, b"echo $((6*7))answer\n")
    read_until(primary, b"42answer")
    os.write(primary, b"\x10\x11")  # Ctrl-P Ctrl-Q
    read_until(primary, b"read escape sequence")
    assert client.wait(10) == 1
    assert state(one, "tty")["Running"]
    os.close(primary)
    os.close(secondary)


@pytest.mark.parametrize("hard", [True, False], ids=["kill", "term"])
def test_the_status_of_a_run_that_outlived_its_engine(one, hard):
    """run, start -a, exec and wait give the real exit status, whether the end came while no engine was there or after."""
    script = "echo begun; read how; echo $how; exit 7"
    one.tare("create", "-i", "--name", "again", "busybox", "sh", "-c", script)
    one.tare("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    begin = {
        "run": ["run", "-i", "--name", "kept", "busybox", "sh", "-c", script],
        "run --rm": ["run", "-i", "--rm", "--name", "gone", "busybox", "sh", "-c", script],
        "run --rm, later": ["run", "-i", "--rm", "busybox", "sh", "-c", script],
        "run, later": ["run", "-i", "busybox", "sh", "-c", script],
        "start": ["start", "-ai", "again"],
        "exec": ["exec", "-i", "host", "sh", "-c", script],
    }
    clients = {what: spawn(one, *arguments) for what, arguments in begin.items()}
    for client in clients.values():
        read_until(client.stdout, b"begun")
    waiting = spawn(one, "wait", "kept", "host")
    time.sleep(0.2)
    one.kill() if hard else one.stop()
    for what, client in clients.items():
        if "later" not in what:
            client.stdin.write(b"away\n")
            client.stdin.flush()
            read_until(client.stdout, b"away")
    time.sleep(0.3)
    assert all(client.poll() is None for client in clients.values()), "they wait for an engine"
    one.start()
    for what, client in clients.items():
        if "later" in what:
            client.stdin.write(b"back\n")
            client.stdin.flush()
            read_until(client.stdout, b"back")
    for what, client in clients.items():
        assert (client.wait(15), client.stderr.read()) == (7, b""), what
    one.tare("kill", "host")
    assert waiting.communicate(timeout=15)[0] == b"7\n137\n"
    assert one.api("GET", "/containers/gone/json").status == 404
    # an engine that does not come back, and a person who does not wait for it
    client = spawn(one, "run", "-i", "--rm", "busybox", "sh", "-c", script)
    read_until(client.stdout, b"begun")
    one.kill()
    client.stdin.close()
    time.sleep(0.3)
    client.send_signal(signal.SIGINT)
    assert client.wait(15) == -signal.SIGINT
    one.start()


@pytest.mark.parametrize("hard", [True, False], ids=["kill", "term"])
def test_ends_that_nobody_saw_are_known(one, hard, tmp_path):
    """Containers that wait for a file on the host, and end while no engine is there."""
    go = tmp_path / "go"
    until = "while [ ! -e /host/go ]; do sleep 0.05; done; "
    run = lambda name, command, *flags: one.tare("run", "-d", "--name", name, "-v", f"{tmp_path}:/host", *flags, "busybox", "sh", "-c", command)
    run("seven", until + "echo last words; exit 7")
    run("zero", until)
    run("term", until + "kill -9 $$; sleep 5", "--init")
    run("auto", until + "exit 4", "--rm", "-v", "/anonymous")
    run("always", until + "echo life; sleep 0.3; exit 1", "--restart", "always")
    run("failing", until + "echo life; exit 6", "--restart", "on-failure:2")
    run("clean", until + "exit 0", "--restart", "on-failure")
    run("unless", until + "echo life; sleep 1", "--restart", "unless-stopped")
    run("oom", until + "tail /dev/zero", "-m", "20m", "--memory-swap", "20m")
    time.sleep(0.2)
    first = {name: state(one, name)["StartedAt"] for name in ("seven", "always", "failing")}
    one.kill() if hard else one.stop()
    gone = time.time()
    go.touch()
    time.sleep(2.5)
    back = time.time()
    one.start()

    def ended(name):
        value = state(one, name)
        assert not value["Running"], value
        return value

    def seconds(stamp):
        whole, fraction = stamp.rstrip("Z").split(".")
        return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone + float("0." + fraction)

    for name, code in (("seven", 7), ("zero", 0), ("term", 137), ("oom", 137), ("failing", 6), ("clean", 0)):
        value = ended(name)
        assert (value["ExitCode"], value["Status"]) == (code, "exited"), (name, value)
        assert gone <= seconds(value["FinishedAt"]) < back, (name, value["FinishedAt"])
        assert one.tare("wait", name).stdout == f"{code}\n"
    assert ended("oom")["OOMKilled"] is True
    assert ended("seven")["OOMKilled"] is False
    assert ended("seven")["StartedAt"] == first["seven"]
    assert one.tare("logs", "seven").stdout == "last words\n"
    assert one.tare("logs", "failing").stdout == "life\n" * 3
    assert re.match(r"Exited \(7\) ", one.tare("ps", "-a", "--filter", "name=seven", "--format", "{{.Status}}").stdout)
    assert one.api("GET", "/containers/auto/json").status == 404
    assert one.api("GET", "/volumes").json["Volumes"] in ([], None)
    assert one.api("GET", "/containers/failing/json").json["RestartCount"] == 2
    assert one.api("GET", "/containers/clean/json").json["RestartCount"] == 0
    count = one.api("GET", "/containers/always/json").json["RestartCount"]
    assert count >= 2
    assert state(one, "always")["Status"] in ("running", "restarting")
    assert one.api("GET", "/containers/unless/json").json["RestartCount"] >= 1
    assert state(one, "always")["StartedAt"] > first["always"]
    wait_until(lambda: one.api("GET", "/containers/always/json").json["RestartCount"] > count, "restarts go on")
    one.tare("stop", "-t", "0", "always", "unless")
    count = one.api("GET", "/containers/always/json").json["RestartCount"]
    time.sleep(0.5)
    assert state(one, "always")["Status"] == "exited"
    one.tare("rm", "seven", "zero", "term", "oom", "failing", "clean", "always", "unless")


def test_a_killed_shim_is_a_dead_container(one):
    one.tare("run", "-d", "--name", "watched", "busybox", "sleep", "1000")
    one.tare("run", "-d", "--name", "unseen", "busybox", "sleep", "1000")
    one.tare("run", "-d", "--rm", "--name", "auto", "busybox", "sleep", "1000")
    one.tare("run", "-d", "--restart", "always", "--name", "always", "busybox", "sleep", "1000")
    pids = {name: state(one, name)["Pid"] for name in ("watched", "unseen", "auto", "always")}
    ids = {name: one.api("GET", f"/containers/{name}/json").json["Id"] for name in pids}
    shims = shims_of(one)
    assert sorted(shims) == sorted(ids.values())
    os.kill(shims[ids["watched"]], signal.SIGKILL)
    wait_until(lambda: state(one, "watched")["Status"] == "exited", "the end is noticed")
    assert state(one, "watched")["ExitCode"] == 137
    os.kill(shims[ids["auto"]], signal.SIGKILL)
    wait_until(lambda: one.api("GET", "/containers/auto/json").status == 404, "--rm holds")
    one.kill()
    os.kill(shims[ids["unseen"]], signal.SIGKILL)
    time.sleep(0.3)
    one.start()
    value = state(one, "unseen")
    assert (value["Status"], value["ExitCode"]) == ("exited", 137), value
    for name in ("watched", "unseen", "auto"):
        wait_until(lambda: not os.path.exists(f"/proc/{pids[name]}"), f"{name}'s process ends with its shim")
    assert state(one, "always")["Pid"] == pids["always"]
    one.tare("start", "watched", "unseen")
    assert one.tare("exec", "watched", "echo", "alive").stdout == "alive\n"
    one.tare("rm", "-f", "watched", "unseen", "always")


def test_restart_of_the_machine(one):
    """Simulated: the engine and all its shims die, and what lives in memory alone is gone."""
    flags = {"always": ["--restart", "always"], "unless": ["--restart", "unless-stopped"], "stopped": ["--restart", "unless-stopped"], "failing": ["--restart", "on-failure"], "none": [], "auto": ["--rm"]}
    for name, more in flags.items():
        one.tare("run", "-d", "--name", name, *more, "busybox", "sleep", "1000")
    one.tare("exec", "always", "sh", "-c", "echo kept > /kept")
    one.tare("create", "--name", "created", "--restart", "always", "busybox", "sleep", "1000")
    one.tare("stop", "-t", "0", "stopped")
    shims = shims_of(one)
    one.kill()
    for pid in shims.values():
        with contextlib.suppress(ProcessLookupError):  # that of the stopped one may just have gone
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    subprocess.run(["nft", "delete", "table", "ip", f"tare_{one.mark}"], check=False, capture_output=True)
    subprocess.run(["nft", "delete", "table", "inet", f"tare_{one.mark}"], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", f"tare-{one.mark}"], check=False, capture_output=True)
    subprocess.run(["umount", "-R", one.run_root], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", one.run_root], check=True)
    one.start()
    wait_until(lambda: state(one, "always")["Running"] and state(one, "unless")["Running"], lambda: one.tare("ps", "-a").stdout + one.log[-3000:])
    assert one.tare("exec", "always", "cat", "/kept").stdout == "kept\n"
    assert state(one, "none")["Status"] == "exited"
    assert state(one, "stopped")["Status"] == "exited"
    assert state(one, "created")["Status"] == "created"
    assert one.api("GET", "/containers/auto/json").status == 404
    one.tare("start", "none")
    assert one.tare("exec", "none", "echo", "again").stdout == "again\n"


# ---- the engine beside others ----


def verdict(engine):
    return dict(engine.api("GET", "/info").json["DriverStatus"])["Verdict"]


def test_what_an_orderly_end_spares_the_next_start(one):
    """Nothing is swept and no mount is tried after it; all is, after any other end, and where another way to mount is asked for."""
    tried = verdict(one)
    debris = [f"{one.data_root}/layers/sha256/{'0' * 64}.tar", f"{one.data_root}/layers/sha256/{'1' * 64}.erofs", f"{one.data_root}/layers/.tmp-x"]

    def leave_debris():
        for path in debris:
            with open(path, "wb"):
                pass

    leave_debris()
    one.restart()
    assert "as before: the machine is still up" in verdict(one) and all(map(os.path.exists, debris))
    one.restart(hard=True)
    assert verdict(one) == tried and not any(map(os.path.exists, debris))
    one.stop()
    one.flags = ["--storage-backend", "unpacked"]
    leave_debris()
    one.start()
    assert "unpacked" in verdict(one) and not any(map(os.path.exists, debris))
    one.flags = []
    one.restart()
    assert verdict(one) == tried
    one.restart()
    assert "as before" in verdict(one)
    one.tare("import", str(busybox_root()), "still")
    assert one.docker("run", "--rm", "still", "echo", "works").stdout == "works\n"


def test_a_second_engine_on_the_same_root_is_refused(one):
    bin_directory = program_directory()
    for run_root in (one.run_root, one.directory + "/other-run"):
        second = subprocess.run([f"{bin_directory}/tared", "--data-root", one.data_root, "--run-root", run_root, "-H", f"unix://{one.directory}/other.sock"], capture_output=True, text=True, timeout=20, check=False)
        assert second.returncode == 1
        assert second.stderr.rstrip().splitlines()[-1] == f"tared: another tared uses {one.data_root}"
    assert one.tare("run", "--rm", "busybox", "echo", "unharmed").stdout == "unharmed\n"


def test_two_engines_do_not_touch_each_other(one, new_engine):
    other = new_engine().start()
    other.tare("import", str(busybox_root()), "busybox")
    port, other_port = free_port(), free_port()
    for engine, number in ((one, port), (other, other_port)):
        engine.tare("run", "-d", "--name", "same", "-p", f"{number}:7", "busybox", "nc", "-ll", "-p", "7", "-e", "hostname")
    names = {number: inspect(engine, "same", "{{.Config.Hostname}}").encode() + b"\n" for engine, number in ((one, port), (other, other_port))}
    wait_until(lambda: ask(port) and ask(other_port), "both answer")
    taken = other.tare("run", "-d", "--name", "clash", "-p", f"{port}:7", "busybox", "sleep", "1", check=False)
    assert taken.returncode == 125
    assert "port is already allocated" in taken.stderr or "address already in use" in taken.stderr
    one.kill()
    assert ask(other_port) == names[other_port]
    other.restart(hard=True)
    assert ask(port) == names[port]
    one.start()
    one.tare("rm", "-f", "same")
    assert ask(other_port) == names[other_port]
    assert other.tare("exec", "same", "echo", "here").stdout == "here\n"


# ---- kill -9 at random instants ----

DOCKERFILE = """FROM busybox
VOLUME /kept
RUN i=0; while [ $i -lt 40 ]; do echo $i > /made$i; i=$((i+1)); done
COPY Dockerfile payload /
RUN cat /payload > /copied
CMD ["true"]
"""
SEED = 20260801
INSTANTS = int(os.environ.get("TARE_TEST_ROUNDS") or os.environ.get("TARE_TEST_INSTANTS", "6"))  # for each operation


def prepare_container(engine):
    engine.tare("run", "-d", "--name", "it", "-v", "/anonymous", "-p", "127.0.0.1::80", "busybox", "sh", "-c", "head -c 4000000 /dev/urandom > /big; mkdir /many; for i in $(seq 100); do echo $i > /many/$i; done; touch /ready; sleep 1000")
    wait_until(lambda: engine.tare("exec", "it", "test", "-e", "/ready", check=False).returncode == 0, "the container has written")


def prepare_image(engine):
    engine.tare("build", "-q", "-t", "built", os.path.join(engine.directory, "context"))


def prepare_archive(engine):
    path = os.path.join(engine.directory, "archive.tar")
    if not os.path.exists(path):
        with open(busybox_root(), "rb") as file:
            base = file.read()
        below, above = (layer(entry(name, random.Random(name).randbytes(2_000_000))) for name in ("payload", "copied"))
        with open(path, "wb") as file:
            file.write(docker_archive({"loaded:1": [base, below], "loaded:2": [base, below, above]}))


def prepare_unused(engine):
    for number in range(3):
        engine.tare("import", "-c", f"LABEL unused={number}", os.path.join(engine.directory, "payload.tar.gz"), f"unused{number}")


# What a command that has succeeded made, or took away: also after a death right behind its answer.
MADE = {"import": "imported", "commit": "committed", "load": "loaded"}
TAKEN = {"image-rm": "built", "image-rm-many": "unused0", "prune": "unused0"}

OPERATIONS = {
    "run": (None, ["run", "-d", "--name", "it", "-p", "127.0.0.1::80", "-v", "named:/v", "-v", "/anonymous", "busybox", "sleep", "1000"]),
    "run-rm": (None, ["run", "--rm", "-v", "/anonymous", "busybox", "sh", "-c", "echo hello; sleep 0.05"]),
    "build": (None, ["build", "--no-cache", "-t", "built", "context"]),
    "import": (None, ["import", "payload.tar.gz", "imported"]),
    "image-rm": (prepare_image, ["image", "rm", "built"]),
    "image-rm-many": (prepare_unused, ["image", "rm", "unused0", "unused1", "unused2"]),
    "rm": (prepare_container, ["rm", "-fv", "it"]),
    "commit": (prepare_container, ["commit", "it", "committed"]),
    "load": (prepare_archive, ["load", "-i", "archive.tar"]),
    "prune": (prepare_unused, ["image", "prune", "-af", "--filter", "label=unused"]),
}


def made_up(engine):
    """What of the data root and run root belongs to nothing that the engine knows."""
    images = [engine.api("GET", f"/images/{line}/json").json for line in engine.tare("image", "ls", "-aq", "--no-trunc").stdout.split()]
    layers = {one.split(":")[1] for image in images for one in image["RootFS"]["Layers"]}
    containers = {container["Id"]: container for container in engine.api("GET", "/containers/json?all=1").json}
    running = {key for key, container in containers.items() if container["State"] not in ("exited", "created")}
    volumes = {volume["Name"] for volume in engine.api("GET", "/volumes").json["Volumes"] or []}
    expected = {f"{one}.{suffix}" for one in layers for suffix in ("tar", "erofs", "facts")}
    found = set(os.listdir(f"{engine.data_root}/layers/sha256"))
    wrong = [f"layers/sha256/{name} is {'extra' if name in found else 'missing'}" for name in found ^ expected]
    known = {"layers", "containers", "volumes", "init", "tare.db", "tare.db-wal", "tared.lock", "blobs", "downloads", "build"}
    wrong += [f"data/{name}" for name in set(os.listdir(engine.data_root)) - known]
    wrong += [f"layers/{name}" for name in set(os.listdir(f"{engine.data_root}/layers")) - {"sha256", "fixups"}]
    wrong += [f"layers/fixups/{name}" for name in os.listdir(f"{engine.data_root}/layers/fixups")]
    wrong += [f"containers/{name}" for name in set(os.listdir(f"{engine.data_root}/containers")) ^ set(containers)]
    wrong += [f"volumes/{name}" for name in set(os.listdir(f"{engine.data_root}/volumes")) ^ volumes]
    wrong += [f"run/containers/{name}" for name in set(os.listdir(f"{engine.run_root}/containers")) - set(containers)]
    wrong += [f"shim of {name}" for name in set(shims_of(engine)) ^ running]
    parents = [f"/sys/fs/cgroup/{name}" for name in ("pids", "memory", "unified", "") if os.path.isdir(f"/sys/fs/cgroup/{name}/tare-{engine.mark}")]
    wrong += [f"cgroup {parent} {name}" for parent in parents for name in os.listdir(f"{parent}/tare-{engine.mark}") if len(name) == 64 and name not in running]
    return wrong


def published(engine):
    rules = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    elements = []
    for part in json.loads(rules)["nftables"]:
        for kind in ("map", "set"):
            if kind in part and part[kind]["table"] == f"tare_{engine.mark}":
                elements += part[kind].get("elem", [])
    return elements


def check_whole(engine, what):
    engine.tare("builder", "prune", "-af")  # the context that is kept for the next build
    wait_until(lambda: not made_up(engine), lambda: f"{what}: {made_up(engine)}\n{engine.log[-6000:]}", 10)
    for name in os.listdir(f"{engine.data_root}/layers/sha256"):
        if name.endswith(".tar"):
            with open(f"{engine.data_root}/layers/sha256/{name}", "rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == name[:64], (what, name)
    for name in engine.tare("image", "ls", "--filter", "dangling=false", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
        name = name.removesuffix(":latest")
        command = {"imported": ["/payload.sh"], "built": ["cmp", "/payload", "/copied"], "committed": ["test", "-e", "/many/100"]}.get(name, ["true"])
        engine.tare("run", "--rm", "--network", "none", name, *command)


@pytest.mark.parametrize("name", OPERATIONS)
def test_death_at_any_instant(one, name):
    prepare, command = OPERATIONS[name]
    context = os.path.join(one.directory, "context")
    os.mkdir(context)
    random_source = random.Random(f"{SEED} {name}")
    with open(f"{context}/payload", "wb") as file:
        file.write(random_source.randbytes(3_000_000))
    with open(f"{context}/Dockerfile", "w", encoding="utf-8") as file:
        file.write(DOCKERFILE)
    subprocess.run("mkdir root && tar -C root -xf '%s' && cp context/payload root/ && printf '#!/bin/sh\\ntest -s /payload\\n' > root/payload.sh && chmod 755 root/payload.sh && tar -C root -czf payload.tar.gz ." % busybox_root(), shell=True, cwd=one.directory, check=True)

    def clean():
        for line in one.tare("ps", "-aq").stdout.split():
            one.tare("rm", "-fv", line)
        for line in one.tare("volume", "ls", "-q").stdout.split():
            one.tare("volume", "rm", line)
        for line in one.tare("image", "ls", "--filter", "dangling=false", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
            if line != "busybox:latest":
                one.tare("image", "rm", line)
        for line in one.tare("image", "ls", "-aq", "-f", "dangling=true").stdout.split():
            one.tare("image", "rm", "-f", line, check=False)

    def begin():
        return spawn(one, *command, cwd=one.directory)

    if prepare:
        prepare(one)
    begun = time.monotonic()
    assert begin().wait(60) == 0
    took = time.monotonic() - begun
    clean()
    check_whole(one, f"{name}, unharmed")
    assert published(one) == []
    for instant in range(INSTANTS):
        if prepare:
            prepare(one)
        delay = took * (instant + random_source.random()) / INSTANTS
        client = begin()
        time.sleep(delay)
        one.kill()
        one.start()
        client.communicate(timeout=20)
        what = f"{name}, killed after {delay * 1000:.0f} of {took * 1000:.0f} ms (seed {SEED})"
        images = one.tare("image", "ls", "--format", "{{.Repository}}").stdout.split()
        assert client.returncode != 0 or ((name not in MADE or MADE[name] in images) and TAKEN.get(name) not in images), what
        check_whole(one, what)
        clean()
        check_whole(one, f"{what}, cleaned")
        assert published(one) == [], what
        assert os.listdir(f"{one.data_root}/volumes") == [], what
    assert one.tare("image", "ls", "-q").stdout.count("\n") == 1
