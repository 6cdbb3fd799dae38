"""A shim by itself, with the real runtime: what tared relies on, spoken directly on the shim's socket."""

import array
import fcntl
import functools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from conftest import program_directory

PATIENCE = 20
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"]


def send_frame(connection, value, fds=()):
    data = json.dumps(value).encode()
    data = struct.pack("<I", len(data)) + data
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = connection.sendmsg([data], ancillary)
    if sent < len(data):  # an empty send fails where the shim has answered and ended meanwhile
        connection.sendall(data[sent:])


def receive_frame(connection):
    """The value, and the fds that came with it."""
    data, fds = b"", []
    while len(data) < 4 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
        want = 4 - len(data) if len(data) < 4 else 4 + struct.unpack("<I", data[:4])[0] - len(data)
        piece, more, _, _ = socket.recv_fds(connection, want, 200)
        assert piece, "the shim closed the connection"
        data += piece
        fds += more
    return json.loads(data[4:]), fds


@functools.lru_cache(None)
def program_in_memory():
    """One copy for all shims, as tared has it."""
    program = os.memfd_create("tare-shim", os.MFD_CLOEXEC)
    with open(os.path.join(program_directory(), "tare-shim"), "rb") as file:
        os.write(program, file.read())
    read_only = os.open(f"/proc/self/fd/{program}", os.O_RDONLY)
    os.close(program)
    return read_only


class ShimError(Exception):
    pass


class Shim:
    def __init__(self, directory, root):
        self.directory = str(directory)
        self.root = root
        self.id = "tare-test-" + os.urandom(6).hex()
        self.path = os.path.join(self.directory, "shim.sock")
        self.log_path = os.path.join(self.directory, "log")
        self.pid = None
        self.events = None

    def spec(self, *args, terminal=False, **extra):
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "args": list(args), "cwd": "/", "terminal": terminal, "env": ["PATH=/bin", "TERM=xterm"], "user": {"uid": 0, "gid": 0},
                "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")},
            },
            "root": {"path": self.root},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")], "cgroupsPath": "/" + self.id,
                      "resources": {}},
        }
        for key, value in extra.items():
            spec["linux"][key] = value
        return spec

    def start_program(self, spec, overlay=None, in_child=False, **config):
        """Starts the program from a sealed memfd, as tared does. in_child: from a process that is killed at once afterwards."""
        fds = {}
        config = {"id": self.id, "state_dir": self.directory, "run_dir": self.directory, "spec": spec,
                  "log": {"driver": "json-file", "path": self.log_path}, **config}
        passed, lower = [], None
        if overlay is not None:
            lower = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
            for name in ("upper", "work"):
                os.makedirs(os.path.join(self.directory, name), exist_ok=True)
                overlay[name] = os.path.join(self.directory, name)
            config["overlay"] = overlay
            fds["lowers"] = [6]
            passed.append((lower, 6))
        config["fds"] = fds
        memory = os.memfd_create("config", os.MFD_CLOEXEC)
        os.write(memory, json.dumps(config).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen()
        ready, ready_end = os.pipe()
        passed += [(memory, 3), (listener.fileno(), 4), (ready_end, 5)]
        high = [(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100), number) for fd, number in passed]
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in high]
        arguments = (f"/proc/{os.getpid()}/fd/{program_in_memory()}", ["tare-shim", self.id], {"PATH": "/usr/bin:/bin"})
        if in_child:
            child = os.fork()
            if child == 0:
                os.posix_spawn(*arguments, file_actions=actions, setsid=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
        else:
            self.pid = os.posix_spawn(*arguments, file_actions=actions, setsid=True)
        os.close(ready_end)
        for fd, _ in high:
            os.close(fd)
        header = os.read(ready, 4)
        assert len(header) == 4, "the shim ended before it was ready"
        answer = json.loads(os.read(ready, struct.unpack("<I", header)[0]))
        os.close(ready)
        listener.close()
        os.close(memory)
        if lower is not None:
            os.close(lower)
        assert answer == {"ok": True}, answer
        if in_child:
            with open(os.path.join(self.directory, "shim.json"), encoding="utf-8") as file:
                self.pid = json.load(file)["shim_pid"]
        return self

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect(self.path)
        return connection

    def call(self, op, fds=(), **members):
        with self.connect() as connection:
            send_frame(connection, {"op": op, **members}, fds)
            reply, received = receive_frame(connection)
        if not reply.get("ok"):
            raise ShimError(reply["error"]["message"])
        reply["fds"] = received
        return reply

    def subscribe(self):
        self.events = self.connect()
        send_frame(self.events, {"op": "subscribe"})
        receive_frame(self.events)
        return self

    def event(self, name):
        value, _ = receive_frame(self.events)
        assert value["event"] == name, value
        return value

    def attach(self, **members):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self.call("attach", [theirs.fileno()], **{"stdin": True, "stdout": True, "stderr": True, **members})
        theirs.close()
        return ours

    def exec(self, exec_id, *args, terminal=False, **process):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        process = {"args": list(args), "cwd": "/", "terminal": terminal, "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **process}
        self.call("exec", [theirs.fileno()], exec_id=exec_id, process=process, stdin=True, stdout=True, stderr=True)
        theirs.close()
        return ours

    def run(self):
        self.call("create")
        return self.call("start")

    def end(self):
        if self.events:
            self.events.close()
        if not self.pid:
            return
        deadline = time.monotonic() + PATIENCE
        while os.path.exists(f"/proc/{self.pid}/exe"):
            assert time.monotonic() < deadline, "the shim does not end"
            time.sleep(0.005)
        try:
            _, status = os.waitpid(self.pid, 0)
            assert status == 0
        except ChildProcessError:
            pass


def read_all(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
    connection.close()
    return data


def read_until(connection, wanted):
    data = b""
    while wanted not in data:
        piece = connection.recv(1)
        assert piece, data
        data += piece
    return data


def leftover_cgroups(name):
    found = subprocess.run(["find", "/sys/fs/cgroup", "-type", "d", "-name", name], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("root")
    directory.chmod(0o755)
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp"):
        (directory / name).mkdir()
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    for applet in ("sh", "cat", "echo", "sleep", "ls", "stty", "id", "true", "tail", "hostname", "head", "grep", "wc", "kill", "dd"):
        os.symlink("busybox", directory / "bin" / applet)
    (directory / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nbob:x:1234:100::/home/bob:/bin/sh\n")
    (directory / "etc" / "group").write_text("root:x:0:\nusers:x:100:\nextra:x:777:bob\n")
    return str(directory)


@pytest.fixture
def shim(tmp_path, root):
    made = Shim(tmp_path, root)
    yield made
    if made.pid and os.path.exists(f"/proc/{made.pid}/exe"):
        try:
            made.call("signal", signal=9)
        except (ShimError, OSError):
            pass
        try:
            made.call("quit")
        except (ShimError, OSError):
            pass
    made.end()
    assert leftover_cgroups(made.id) == []
    with open("/proc/mounts", encoding="utf-8") as file:
        assert [line for line in file if made.directory in line or root in line] == []


def test_streams_and_exit_code(shim):
    shim.start_program(shim.spec("sh", "-c", "hostname; echo out; echo err >&2; exit 3")).subscribe()
    client = shim.attach()
    shim.run()
    shim.event("start")
    event = shim.event("exit")
    assert (event["exit_code"], event["will_restart"], event["oom_killed"]) == (3, False, False)
    shim.event("die-final")
    assert read_all(client) == b"box\nout\nerr\n"
    with open(os.path.join(shim.directory, "exit.json"), encoding="utf-8") as file:
        assert json.load(file)["exit_code"] == 3
    with open(shim.log_path, encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    assert [(entry["log"], entry["stream"]) for entry in entries] == [("box\n", "stdout"), ("out\n", "stdout"), ("err\n", "stderr")]


def test_what_the_process_inherits(shim):
    """No fd of the shim's but the three streams, no signal ignored or blocked, and not its name or session."""
    shim.start_program(shim.spec("sh", "-c", "ls /proc/self/fd | wc -l; grep -E '^Sig(Blk|Ign)' /proc/self/status; echo $$"))
    client = shim.attach(stdin=False)
    shim.run()
    fds, blocked, ignored, pid = read_all(client).decode().splitlines()
    assert (fds, pid) == ("4", "1")  # ls itself opens the directory
    assert int(blocked.split()[1], 16) == 0
    # Signals 32 and 33 are the C library's own; nobody can set them back.
    assert int(ignored.split()[1], 16) & ~(3 << 31) == 0


def test_missing_program(shim):
    shim.start_program(shim.spec("/bin/nothing"))
    with pytest.raises(ShimError) as raised:
        shim.call("create")
    assert "no such file or directory" in str(raised.value)
    shim.call("quit")


@pytest.mark.parametrize("volatile", [False, True])
def test_overlay(shim, volatile):
    shim.start_program(shim.spec("sh", "-c", "echo new > /etc/new; echo data > /tmp/x; cat /etc/passwd > /dev/null; exit 5"),
                       overlay={"volatile": volatile}).subscribe()
    shim.run()
    shim.event("start")
    assert shim.event("exit")["exit_code"] == 5
    shim.event("die-final")
    shim.call("quit")
    with open(os.path.join(shim.directory, "upper", "etc", "new"), encoding="utf-8") as file:
        assert file.read() == "new\n"
    assert not os.path.exists(os.path.join(shim.root, "etc", "new"))


def test_restart_keeps_the_upper_directory(shim):
    script = "echo x >> /tmp/count; n=$(cat /tmp/count | wc -l); echo life $n; test $n = 3"
    shim.start_program(shim.spec("sh", "-c", script), overlay={}, restart={"name": "on-failure", "maximum_retry": 10}).subscribe()
    shim.run()
    for again in (True, True, False):
        shim.event("start")
        assert shim.event("exit")["will_restart"] is again
    shim.event("die-final")
    with open(shim.log_path, encoding="utf-8") as file:
        assert [json.loads(line)["log"] for line in file] == ["life 1\n", "life 2\n", "life 3\n"]
    assert shim.call("status")["restart_count"] == 2


def test_terminal_with_size_before_the_start(shim):
    shim.start_program(shim.spec("sh", "-c", "stty size; read x; echo got $x; sleep 60", terminal=True), open_stdin=True, stdin_once=True).subscribe()
    client = shim.attach()
    shim.call("resize", rows=33, cols=111)
    shim.run()
    read_until(client, b"33 111\r\n")
    client.sendall(b"hello\n")
    read_until(client, b"got hello\r\n")
    client.sendall(b"\x10\x11")
    assert read_all(client) == b""
    shim.event("start")
    shim.event("detach")
    assert shim.call("status")["state"] == "running"
    shim.call("signal", signal=9)
    assert shim.event("exit")["exit_code"] == 137


def test_exec(shim):
    shim.start_program(shim.spec("sleep", "60")).subscribe()
    shim.run()
    shim.event("start")
    first = shim.exec("e1", "cat")
    assert read_all(shim.exec("e2", "sh", "-c", "id -u; id -g; exit 4", user={"username": "bob"})) == b"1234\n100\n"
    assert shim.event("exec-exit") == {"event": "exec-exit", "exec_id": "e2", "exit_code": 4}
    terminal = shim.exec("e3", "sh", "-c", "read x; stty size; exit 9", terminal=True)
    shim.call("resize", exec_id="e3", rows=7, cols=8)
    terminal.sendall(b"\n")
    assert read_all(terminal).endswith(b"7 8\r\n")
    assert shim.event("exec-exit")["exit_code"] == 9
    with pytest.raises(ShimError) as raised:
        shim.exec("e4", "nothing")
    assert "executable file not found in $PATH" in str(raised.value)
    first.sendall(b"still here")
    first.shutdown(socket.SHUT_WR)
    assert read_all(first) == b"still here"
    assert shim.event("exec-exit")["exit_code"] == 0
    # A session whose container ends under it.
    last = shim.exec("e5", "sleep", "60")
    shim.call("signal", signal=9)
    assert read_all(last) == b""
    events = {}
    while "die-final" not in events:
        value, _ = receive_frame(shim.events)
        events[value["event"]] = value
    assert events["exec-exit"]["exit_code"] == 137
    assert events["exit"]["exit_code"] == 137


def test_stop_of_a_first_process_that_ignores_the_signal(shim):
    shim.start_program(shim.spec("sleep", "60"), restart={"name": "always"}).subscribe()
    shim.run()
    begun = time.monotonic()
    assert shim.call("stop", signal=15, timeout_ms=200)["exit_code"] == 137
    assert 0.2 <= time.monotonic() - begun < 3
    shim.event("start")
    assert shim.event("kill")["signal"] == 9
    assert shim.event("exit")["will_restart"] is False


def test_pause_stats_pids_root(shim):
    pid = shim.start_program(shim.spec("sleep", "60")).run()["pid"]
    shim.call("pause")
    assert shim.call("status")["state"] == "paused"
    shim.call("resume")
    assert shim.call("pids")["pids"] == [pid]
    assert "memory_stats" in shim.call("stats")["stats"]
    (fd,) = shim.call("root")["fds"]
    with open(os.open("etc/group", os.O_RDONLY, dir_fd=fd), encoding="utf-8") as file:
        assert "users" in file.read()
    os.close(fd)
    shim.call("pause")
    assert shim.call("stop", signal=9, timeout_ms=5000)["exit_code"] == 137


def test_out_of_memory(shim):
    resources = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    shim.start_program(shim.spec("sh", "-c", "tail /dev/zero; exit 1", resources=resources)).subscribe()
    spec_client = shim.attach(stdin=False)
    shim.run()
    shim.event("start")
    shim.event("oom")
    event = shim.event("exit")
    assert event["oom_killed"] is True
    read_all(spec_client)


def test_the_death_of_who_started_it(shim):
    shim.start_program(shim.spec("sh", "-c", "read x; echo $x; exit 6"), in_child=True, open_stdin=True, stdin_once=False)
    shim.run()
    assert os.getsid(shim.pid) == shim.pid
    asking = os.fork()
    if asking == 0:
        connection = shim.connect()
        send_frame(connection, {"op": "stop", "signal": 1000})
        send_frame(connection, {"op": "subscribe"})
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(asking, 0)
    shim.subscribe()
    client = shim.attach()
    client.sendall(b"on\n")
    assert read_until(client, b"on\n") == b"on\n"
    assert shim.event("exit")["exit_code"] == 6
    client.close()
