"""tare-runtime as its users see it: a bundle made by hand, and the verbs of an OCI runtime on it."""

import array
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import time
import uuid

import pytest

from conftest import TOP, program_directory

UNIQUE = uuid.uuid4().hex[:8]  # the cgroups are the machine's, also where the processes are not
GROUP = "tare-e2e-oci-" + UNIQUE

APPLETS = ["sh", "cat", "echo", "env", "id", "kill", "ls", "pwd", "sleep", "stty", "tty", "true"]


class Runtime:
    def __init__(self, directory, name):
        self.root = os.path.join(directory, "state")
        self.bundle = os.path.join(directory, "bundle")
        self.name = name
        rootfs = os.path.join(self.bundle, "rootfs")
        os.makedirs(os.path.join(rootfs, "bin"))
        os.makedirs(os.path.join(rootfs, "etc"))
        subprocess.run(["cp", "/bin/busybox", os.path.join(rootfs, "bin")], check=True)
        for applet in APPLETS:
            os.symlink("busybox", os.path.join(rootfs, "bin", applet))
        with open(os.path.join(rootfs, "etc", "passwd"), "w", encoding="ascii") as file:
            file.write("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        with open(os.path.join(TOP, "tests", "unit", "data", "runtime", "docker.json"), encoding="utf-8") as file:
            self.spec = json.load(file)
        self.spec["root"]["path"] = "rootfs"
        self.spec["linux"]["cgroupsPath"] = f"/{GROUP}/" + name

    def write(self, *args, **process):
        self.spec["process"]["args"] = list(args)
        self.spec["process"].update(process)
        with open(os.path.join(self.bundle, "config.json"), "w", encoding="utf-8") as file:
            json.dump(self.spec, file)

    def command(self, *args):
        return [os.path.join(program_directory(), "tare-runtime"), "--root", self.root, *args]

    def __call__(self, *args, check=True, stdin=subprocess.DEVNULL):
        # A container keeps the streams that it is given: files, so that nobody waits for their end.
        done = subprocess.run(self.command(*args), capture_output=True, text=True, timeout=60, check=False, stdin=stdin)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def detached(self, *args):
        """For create: with streams that do not hold us up."""
        with open(os.path.join(self.bundle, "output"), "w+", encoding="utf-8") as file:
            done = subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=60, check=False)
            file.seek(0)
            assert done.returncode == 0, file.read()

    @property
    def output(self):
        with open(os.path.join(self.bundle, "output"), encoding="utf-8") as file:
            return file.read()

    @property
    def state(self):
        return json.loads(self("state", self.name).stdout)

    def until(self, status):
        for _ in range(500):
            if self.state["status"] == status:
                return
            time.sleep(0.01)
        raise AssertionError(f"never became {status}: {self.state}")


@pytest.fixture
def runtime(tmp_path):
    name = "c" + UNIQUE
    made = Runtime(str(tmp_path), name)
    yield made
    made("delete", "-f", name)
    assert os.listdir(made.root) == []
    for controller in os.listdir("/sys/fs/cgroup"):
        group = os.path.join("/sys/fs/cgroup", controller, GROUP)
        if os.path.isdir(group):
            os.rmdir(group)


def test_run(runtime):
    runtime.write("sh", "-c", "echo out; echo err >&2; id -u; cat; exit 7")
    done = subprocess.run(runtime.command("run", "-b", runtime.bundle, runtime.name), input="in\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n0\nin\n", "err\n")
    runtime.write("sh", "-c", "kill -KILL $$; exit 3")  # the first of a pid namespace does not hear it from inside
    assert runtime("run", "-b", runtime.bundle, runtime.name, check=False).returncode == 3
    runtime.write("no-such-program")
    done = runtime("run", "-b", runtime.bundle, runtime.name, check=False)
    assert (done.returncode, done.stderr) == (1, 'tare-runtime: exec: "no-such-program": executable file not found in $PATH\n')
    assert os.listdir(runtime.root) == []


def test_life(runtime):
    runtime.write("sh", "-c", "echo started; sleep 1000")
    pid_file = os.path.join(runtime.bundle, "pid")
    runtime.detached("create", "-b", runtime.bundle, "--pid-file", pid_file, runtime.name)
    state = runtime.state
    assert state["status"] == "created" and state["id"] == runtime.name and state["bundle"] == runtime.bundle
    with open(pid_file, encoding="ascii") as file:
        assert int(file.read()) == state["pid"]
    assert runtime.output == ""
    assert runtime("create", "-b", runtime.bundle, runtime.name, check=False).stderr == "tare-runtime: container with given ID already exists\n"
    runtime("start", runtime.name)
    assert runtime.state["status"] == "running"
    assert runtime("start", runtime.name, check=False).returncode == 1
    assert runtime("exec", "-u", "user", "-e", "A=b", runtime.name, "sh", "-c", "id -u; echo $A $HOME").stdout == "1000\nb /home/user\n"
    done = runtime("exec", runtime.name, "sh", "-c", "exit 9", check=False)
    assert done.returncode == 9
    done = runtime("exec", runtime.name, "/nowhere", check=False)
    assert (done.returncode, done.stderr) == (1, 'tare-runtime: exec: "/nowhere": stat /nowhere: no such file or directory\n')
    assert str(state["pid"]) in runtime("ps", runtime.name).stdout.split()
    assert state["pid"] in json.loads(runtime("ps", "-f", "json", runtime.name).stdout)
    runtime("pause", runtime.name)
    runtime("resume", runtime.name)
    assert "not stopped" in runtime("delete", runtime.name, check=False).stderr
    runtime("kill", runtime.name, "KILL")
    runtime.until("stopped")
    assert runtime.output == "started\n"
    assert runtime("kill", runtime.name, "TERM", check=False).returncode == 1
    runtime("delete", runtime.name)
    assert runtime("state", runtime.name, check=False).stderr == "tare-runtime: container does not exist\n"


def test_delete_of_one_that_never_started(runtime):
    runtime.write("true")
    runtime.detached("create", "-b", runtime.bundle, runtime.name)
    pid = runtime.state["pid"]
    runtime("delete", runtime.name)
    for _ in range(500):
        if not os.path.exists(f"/proc/{pid}"):
            break
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}") or b"State:\tZ" in open(f"/proc/{pid}/status", "rb").read()


def test_the_program_on_the_host_is_out_of_reach(runtime):
    """CVE-2019-5736: what runs inside before exec, and what joins it, is a sealed copy."""
    runtime.write("sleep", "1000")
    runtime.detached("create", "-b", runtime.bundle, runtime.name)
    assert os.readlink(f"/proc/{runtime.state['pid']}/exe").startswith("/memfd:tare-runtime")
    with pytest.raises(OSError):
        with open(f"/proc/{runtime.state['pid']}/exe", "r+b"):
            pass


def test_console_socket(runtime, tmp_path):
    runtime.write("sh", "-c", "tty; stty size", terminal=True, consoleSize={"height": 40, "width": 90})
    path = str(tmp_path / "console")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(1)
    runtime.detached("create", "-b", runtime.bundle, "--console-socket", path, runtime.name)
    connection, _ = server.accept()
    _, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_LEN(4))
    master = array.array("i", ancillary[0][2])[0]
    assert stat.S_ISCHR(os.fstat(master).st_mode)
    runtime("start", runtime.name)
    text = b""
    try:
        while True:
            text += os.read(master, 100)
    except OSError:  # EIO: the other side is closed
        pass
    assert text == b"/dev/pts/0\r\n40 90\r\n"
    os.close(master)
    connection.close()
    server.close()


def test_terminal_in_the_foreground(runtime):
    runtime.write("sh", "-c", "tty; stty size; exit 4", terminal=True)
    pid, master = pty.fork()
    if pid == 0:
        command = runtime.command("run", "-b", runtime.bundle, runtime.name)
        os.execv(command[0], command)
    text = b""
    try:
        while True:
            text += os.read(master, 100)
    except OSError:
        pass
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert text.startswith(b"/dev/pts/0\r\n")


def test_signals_are_forwarded(runtime):
    runtime.write("sh", "-c", "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    with subprocess.Popen(runtime.command("run", "-b", runtime.bundle, runtime.name), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "got it\n"
        assert process.returncode == 5


def test_wrong_calls(runtime):
    assert runtime(check=False).returncode == 1
    assert "unknown command" in runtime("frobnicate", check=False).stderr
    assert "Usage: tare-runtime start ID" in runtime("start", check=False).stderr
    assert "invalid container ID format" in runtime("state", "../x", check=False).stderr
    runtime.write("true")
    runtime.spec["linux"]["namespaces"].append({"type": "shape"})
    runtime.write("true")
    done = runtime("run", "-b", runtime.bundle, runtime.name, check=False)
    assert done.stderr == 'tare-runtime: linux.namespaces[5].type: unknown namespace "shape"\n'
    os.makedirs(runtime.root, exist_ok=True)
