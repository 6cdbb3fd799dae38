"""What `run` and `exec` promise, by tare's command and by the stock client."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import finish, make_engine, program_directory
from inputs import busybox_root
from test_recovery import read_until, wait_until
from test_story import Terminal

IMAGE = """FROM busybox
ENV FROM_IMAGE=image BOTH=image
RUN mkdir -p /content/deep && echo original > /content/file && echo x > /content/deep/x && chown -R user:user /content && chmod 750 /content
RUN mkdir -p /home/user && chown user:user /home/user
"""


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    with open(f"{running.directory}/Dockerfile", "w", encoding="utf-8") as file:
        file.write(IMAGE)
    context = f"{running.directory}/empty"
    os.mkdir(context)
    running.tare("build", "-q", "-t", "image", "-f", f"{running.directory}/Dockerfile", context)
    yield running
    finish(running)


@pytest.fixture(params=["tare", "docker"])
def client(request, engine):
    """A function that runs a client's command; what it leaves running is removed."""
    name = os.path.join(program_directory(), "tare") if request.param == "tare" else "docker"

    def run(*arguments, **options):
        return engine.client(name, *arguments, **options)

    run.program = name
    run.spawn = lambda *arguments, **options: subprocess.Popen(
        [name, *arguments], env={**os.environ, "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "HOME": engine.directory}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    yield run
    engine.clear()


def out(client, *arguments, **options):
    return client("run", "--rm", *arguments, **options).stdout


def status_of(client, *arguments, **options):
    return client("run", "--rm", *arguments, check=False, **options)


def volumes(engine):
    return [volume["Name"] for volume in engine.api("GET", "/volumes").json["Volumes"] or []]


# ---- environment, place, user ----


def test_hostname_and_environment(client):
    identifier = client("run", "-d", "-e", "BOTH=run", "-e", "GIVEN", "-e", "ABSENT_HERE", "image", "sleep", "1000", env={"GIVEN": "from the client"}).stdout.strip()
    inside = dict(line.split("=", 1) for line in client("exec", identifier, "env").stdout.splitlines())
    assert inside["HOSTNAME"] == identifier[:12]
    assert client("exec", identifier, "hostname").stdout == identifier[:12] + "\n"
    assert inside["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert inside["HOME"] == "/root"
    assert (inside["FROM_IMAGE"], inside["BOTH"], inside["GIVEN"]) == ("image", "run", "from the client")
    assert "TERM" not in inside and "ABSENT_HERE" not in inside
    # exec: its own -e wins over the container's; another user has another HOME
    assert client("exec", "-e", "BOTH=exec", identifier, "sh", "-c", "echo $BOTH").stdout == "exec\n"
    assert client("exec", "-u", "user", identifier, "sh", "-c", "echo $HOME").stdout == "/home/user\n"
    assert client("exec", "-t", identifier, "sh", "-c", "echo $TERM").stdout == "xterm\n"
    assert out(client, "-t", "image", "sh", "-c", "echo $TERM") == "xterm\n"
    assert out(client, "--hostname", "named", "image", "sh", "-c", "hostname; echo $HOSTNAME; grep -c named /etc/hosts; cat /etc/hostname") == "named\nnamed\n1\nnamed\n"


def test_environment_file(client, tmp_path):
    (tmp_path / "env").write_text("# comment\nONE=1\nBOTH=file\nQUOTED=\"kept\"\nPASSED\n  \nSPACED=a b  c\n", encoding="utf-8")
    text = out(client, "--env-file", str(tmp_path / "env"), "-e", "BOTH=flag", "image", "sh", "-c", 'echo "$ONE|$BOTH|$QUOTED|$PASSED|$SPACED"', env={"PASSED": "through"})
    assert text == '1|flag|"kept"|through|a b  c\n'
    (tmp_path / "bad").write_text("has space=1\n", encoding="utf-8")
    refused = status_of(client, "--env-file", str(tmp_path / "bad"), "image", "true")
    assert refused.returncode == 125
    assert "variable 'has space' contains whitespaces" in refused.stderr


def test_working_directory(client):
    assert out(client, "-w", "/made/when/missing", "image", "pwd") == "/made/when/missing\n"
    assert out(client, "-w", "/content", "image", "cat", "file") == "original\n"
    refused = status_of(client, "-w", "relative", "image", "pwd")
    assert refused.returncode == 125
    assert "the working directory 'relative' is invalid, it needs to be an absolute path" in refused.stderr


@pytest.mark.parametrize("user, identity", [
    ("user", "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)"),
    ("1000", "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)"),
    ("user:extra", "uid=1000(user) gid=2000(extra) groups=2000(extra)"),
    ("4711", "uid=4711 gid=0(root) groups=0(root)"),
    ("4711:815", "uid=4711 gid=815 groups=815"),
])
def test_user(client, user, identity):
    assert out(client, "-u", user, "image", "id") == identity + "\n"


def test_additional_groups_and_unknown_users(client):
    assert out(client, "-u", "4711:815", "--group-add", "extra", "--group-add", "3000", "image", "id", "-G") == "815 2000 3000\n"
    for unknown, message in (("nobody-here", "unable to find user nobody-here: no matching entries in passwd file"), ("user:nogroup-here", "unable to find group nogroup-here: no matching entries in group file")):
        refused = status_of(client, "-u", unknown, "image", "id")
        assert refused.returncode == 125 or refused.returncode == 126
        assert message in refused.stderr


# ---- privileges ----


def effective(client, *arguments):
    return int(out(client, *arguments, "image", "grep", "CapEff", "/proc/self/status").split()[1], 16)


def test_capabilities(client):
    assert effective(client) == 0xA80425FB
    assert effective(client, "--cap-drop", "ALL") == 0
    assert effective(client, "--cap-drop", "all", "--cap-add", "NET_ADMIN") == 1 << 12
    assert effective(client, "--cap-add", "CAP_SYS_TIME", "--cap-drop", "chown") == (0xA80425FB | 1 << 25) & ~1
    with open("/proc/self/status", encoding="utf-8") as file:  # a host may have fewer than all
        all_of_host = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))
    assert effective(client, "--cap-add", "ALL") == effective(client, "--privileged") == all_of_host
    assert effective(client, "-u", "user") == 0
    assert 'invalid CapAdd: unknown capability: "CAP_NONSENSE"' in status_of(client, "--cap-add", "NONSENSE", "image", "true").stderr


def test_privileged_and_not(client):
    look = "touch /proc/sys/net/ipv4/ip_forward 2>/dev/null; (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo writes; ls /dev | wc -l; grep Seccomp: /proc/self/status; grep NoNewPrivs /proc/self/status"
    plain, privileged = out(client, "image", "sh", "-c", look).split(), out(client, "--privileged", "image", "sh", "-c", look).split()
    assert "writes" not in plain and "writes" in privileged
    assert int(plain[0]) < 25 < int(privileged[1])
    assert plain[1:3] == ["Seccomp:", "2"] and privileged[2:4] == ["Seccomp:", "0"]
    assert out(client, "--security-opt", "no-new-privileges", "image", "grep", "NoNewPrivs", "/proc/self/status") == "NoNewPrivs:\t1\n"
    assert out(client, "--security-opt", "seccomp=unconfined", "image", "grep", "Seccomp:", "/proc/self/status") == "Seccomp:\t0\n"


# ---- file systems ----


def test_read_only_and_tmpfs(client):
    refused = status_of(client, "--read-only", "image", "touch", "/x")
    assert (refused.returncode, refused.stderr) == (1, "touch: /x: Read-only file system\n")
    assert out(client, "--read-only", "--tmpfs", "/scratch:size=1m,mode=700", "image", "sh", "-c", "touch /scratch/x && stat -c %a /scratch; df -k /scratch | tail -1 | awk '{print $2}'") == "700\n1024\n"
    assert "noexec" in out(client, "--tmpfs", "/scratch", "image", "grep", " /scratch ", "/proc/mounts")


def test_host_directories(client, tmp_path):
    os.chmod(tmp_path, 0o755)
    (tmp_path / "given").write_text("from the host\n", encoding="utf-8")
    assert out(client, "-v", f"{tmp_path}:/host", "image", "sh", "-c", "cat /host/given; echo back > /host/made") == "from the host\n"
    assert (tmp_path / "made").read_text(encoding="utf-8") == "back\n"
    refused = status_of(client, "-v", f"{tmp_path}:/host:ro", "image", "touch", "/host/x")
    assert (refused.returncode, refused.stderr) == (1, "touch: /host/x: Read-only file system\n")
    assert out(client, "-v", f"{tmp_path}/given:/one", "image", "cat", "/one") == "from the host\n"
    assert out(client, "--mount", f"type=bind,src={tmp_path},dst=/host,readonly", "image", "cat", "/host/given") == "from the host\n"
    out(client, "-v", f"{tmp_path}/new/dir:/host", "image", "true")
    assert (tmp_path / "new" / "dir").is_dir(), "-v makes what is missing"
    refused = status_of(client, "--mount", f"type=bind,src={tmp_path}/absent,dst=/host", "image", "true")
    assert refused.returncode == 125
    assert f"bind source path does not exist: {tmp_path}/absent" in refused.stderr


def test_volumes_copy_up(client, engine):
    look = "cat /content/file /content/deep/x; stat -c '%a %U' /content"
    assert out(client, "-v", "copied:/content", "image", "sh", "-c", look + "; echo changed > /content/file") == "original\nx\n750 user\n"
    assert out(client, "-v", "copied:/content", "image", "cat", "/content/file") == "changed\n"
    assert out(client, "-v", "/content", "image", "sh", "-c", look) == "original\nx\n750 user\n"
    assert out(client, "--mount", "type=volume,src=bare,dst=/content,volume-nocopy", "image", "ls", "/content") == ""
    refused = status_of(client, "-v", "copied:/content:ro", "image", "touch", "/content/new")
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert out(client, "--mount", "type=tmpfs,dst=/scratch,tmpfs-size=1m", "image", "grep", "-c", " /scratch tmpfs ", "/proc/mounts") == "1\n"
    client("volume", "rm", "copied", "bare")


def test_rm_drops_anonymous_volumes_only(client, engine):
    assert volumes(engine) == []
    out(client, "-v", "/anonymous", "-v", "named:/named", "image", "true")
    assert volumes(engine) == ["named"]
    client("run", "--name", "kept", "-v", "/anonymous", "image", "true")
    assert len(volumes(engine)) == 2
    client("rm", "kept")
    left = volumes(engine)
    assert len(left) == 2, "rm without -v keeps it"
    client("volume", "rm", *left)


# ---- limits ----


def test_limits_are_in_the_cgroup(client):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpuset/cpuset.cpus"
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight /sys/fs/cgroup/cpuset.cpus"
    lines = out(client, "--memory", "32m", "--pids-limit", "30", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "image", "sh", "-c", script).splitlines()
    assert lines[:2] == ["33554432", "30"]
    assert lines[2] in ("50000", "50000 100000")
    assert lines[4] == "0"
    assert out(client, "--ulimit", "nofile=100:200", "--ulimit", "core=0", "image", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c") == "100\n200\n0\n"
    forks = out(client, "--pids-limit", "5", "image", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done 2>&1; wait; echo over", check=False)
    assert "can't fork" in forks or "over" not in forks


def test_out_of_memory(client):
    ended = client("run", "--name", "hungry", "--memory", "16m", "--memory-swap", "16m", "image", "sh", "-c", "tail /dev/zero; exit $?", check=False)
    assert ended.returncode == 137
    assert client("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry").stdout == "true 137\n"


def test_init(client, engine):
    assert out(client, "image", "cat", "/proc/1/comm") == "cat\n"
    identifier = client("run", "-d", "--init", "image", "sh", "-c", "(sleep 0.1 &) ; exec sleep 1000").stdout.strip()
    assert client("exec", identifier, "cat", "/proc/1/cmdline").stdout.split("\0")[0].endswith("docker-init")
    time.sleep(0.4)
    assert " Z " not in client("exec", identifier, "ps", "-o", "stat,comm").stdout.replace("Z\n", " Z ")
    assert "[sleep]" not in client("exec", identifier, "ps").stdout
    begun = time.monotonic()
    client("stop", identifier)
    assert time.monotonic() - begun < 5, "init passes SIGTERM on, and sleep ends"


# ---- networks ----


def test_networks(client, engine):
    assert out(client, "--network", "none", "image", "ls", "/sys/class/net") == "lo\n"
    assert sorted(out(client, "image", "ls", "/sys/class/net").split()) == ["eth0", "lo"]
    host = out(client, "--network", "host", "image", "sh", "-c", "readlink /proc/self/ns/net; hostname").split()
    assert host == [os.readlink("/proc/self/ns/net"), socket.gethostname()]
    identifier = client("run", "-d", "--name", "owner", "image", "sleep", "1000").stdout.strip()
    theirs = client("exec", "owner", "sh", "-c", "readlink /proc/self/ns/net; hostname -i; hostname").stdout
    assert out(client, "--network", "container:owner", "image", "sh", "-c", "readlink /proc/self/ns/net; hostname -i; hostname") == theirs
    assert identifier[:12] in theirs
    refused = status_of(client, "--network", "container:owner", "-p", "80:80", "image", "true")
    assert refused.returncode == 125
    assert "conflicting options: port publishing and the container type network mode" in refused.stderr


# ---- names, entry points, status ----


def test_entrypoint_and_labels(client, tmp_path):
    assert out(client, "--entrypoint", "echo", "image", "a", "b") == "a b\n"
    assert out(client, "--entrypoint", "", "image", "echo", "c") == "c\n"
    (tmp_path / "labels").write_text("three=3\n", encoding="utf-8")
    identifier = client("run", "-d", "--label", "one=1", "-l", "two", "--label-file", str(tmp_path / "labels"), "image", "sleep", "1000").stdout.strip()
    assert json.loads(client("inspect", "-f", "{{json .Config.Labels}}", identifier).stdout) == {"one": "1", "two": "", "three": "3"}
    assert client("ps", "-q", "--no-trunc", "--filter", "label=one=1").stdout.split() == [identifier]


@pytest.mark.parametrize("command, status, text", [
    (["sh", "-c", "exit 7"], 7, ""),
    (["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], 143, ""),
    (["no-such-program"], 127, 'exec: "no-such-program": executable file not found in $PATH'),
    (["/no/such/program"], 127, "no such file or directory"),
    (["/etc/passwd"], 126, "permission denied"),
    (["/etc"], 126, "is a directory|permission denied"),
])
def test_statuses(client, command, status, text):
    ended = status_of(client, "image", *command)
    assert ended.returncode == status, ended.stderr
    assert any(part in ended.stderr for part in text.split("|")), ended.stderr
    identifier = client("run", "-d", "image", "sleep", "1000").stdout.strip()
    executed = client("exec", identifier, *command, check=False)
    # What cannot be started is 126 in exec, whatever hinders it, as Debian's dockerd has it.
    assert executed.returncode == (126 if text else status), executed.stderr


def test_status_125(client):
    assert status_of(client, "--memory", "nonsense", "image", "true").returncode == 125
    assert status_of(client, "no-such-image-here:1", "true").returncode == 125
    client("run", "-d", "--name", "taken", "image", "sleep", "1000")
    refused = client("run", "--name", "taken", "image", "true", check=False)
    assert refused.returncode == 125
    assert 'Conflict. The container name "/taken" is already in use by container' in refused.stderr


def test_restart_policy(client, engine):
    client("run", "-d", "--name", "again", "--restart", "on-failure:2", "image", "sh", "-c", "echo life; exit 3")
    assert client("wait", "again").stdout in ("3\n",)
    wait_until(lambda: client("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "again").stdout == "exited 2\n", "two restarts, and no more")
    assert client("logs", "again").stdout == "life\n" * 3
    client("run", "-d", "--name", "ever", "--restart", "always", "image", "sh", "-c", "sleep 0.2")
    wait_until(lambda: int(client("inspect", "-f", "{{.RestartCount}}", "ever").stdout) >= 2, "it starts again and again")
    client("stop", "ever")
    assert client("inspect", "-f", "{{.State.Running}} {{.State.Restarting}}", "ever").stdout == "false false\n"
    assert status_of(client, "--restart", "always", "image", "true").returncode == 125


# ---- streams ----


def test_stdin(client):
    assert client("run", "--rm", "-i", "image", "cat", input="x\n").stdout == "x\n"
    assert client("run", "--rm", "image", "cat", input="x\n").stdout == "", "without -i there is no input"
    both = client("run", "--rm", "-i", "image", "sh", "-c", "read line; echo out $line; echo err $line >&2", input="hello\n")
    assert (both.stdout, both.stderr) == ("out hello\n", "err hello\n")


def test_large_streams_are_intact(client):
    block = os.urandom(1 << 20)
    data = block * 100
    passed = client("run", "--rm", "-i", "image", "cat", input=data, timeout=120)
    assert len(passed.stdout) == len(data)
    assert hashlib.sha256(passed.stdout).digest() == hashlib.sha256(data).digest()


def test_streams_are_kept_apart_byte_by_byte(client):
    everything = bytes(range(256)) * 64
    both = client("run", "--rm", "-i", "image", "sh", "-c", "tee /dev/stderr", input=everything)
    assert both.stdout == everything
    assert both.stderr == everything


def test_attach_some_streams_only(client):
    both = "echo out; echo err >&2; cat"
    only_out = client("run", "--rm", "-a", "stdout", "image", "sh", "-c", both)
    assert (only_out.stdout, only_out.stderr) == ("out\n", "")
    only_err = client("run", "--rm", "-a", "stderr", "image", "sh", "-c", both)
    assert (only_err.stdout, only_err.stderr) == ("", "err\n")
    piped = client("run", "--rm", "-i", "-a", "stdin", "-a", "stdout", "image", "cat", input="in\n")
    assert piped.stdout == "in\n"


# ---- signals and terminals ----


def test_signals_are_forwarded(client):
    running = client.spawn("run", "--rm", "--name", "trapped", "image", "sh", "-c", "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while true; do sleep 0.05; done")
    read_until(running.stdout, b"ready")
    running.send_signal(signal.SIGUSR1)
    read_until(running.stdout, b"usr1")
    running.send_signal(signal.SIGTERM)
    read_until(running.stdout, b"term")
    assert running.wait(10) == 9
    running.communicate()
    ended = client.spawn("run", "--rm", "image", "sh", "-c", "trap 'exit 3' INT; echo ready; while true; do sleep 0.05; done")
    read_until(ended.stdout, b"ready")
    ended.send_signal(signal.SIGINT)
    assert ended.wait(10) == 3
    ended.communicate()


def test_kill_signals_by_name_and_number(client):
    client("run", "-d", "--name", "killed", "image", "sh", "-c", "trap 'echo hup' HUP; trap 'echo usr2' USR2; echo ready; while true; do sleep 0.05; done")
    wait_until(lambda: "ready" in client("logs", "killed").stdout, "it runs")
    for name in ("HUP", "SIGUSR2", "12"):
        client("kill", "-s", name, "killed")
        time.sleep(0.2)
    assert client("logs", "killed").stdout == "ready\nhup\nusr2\nusr2\n"
    client("kill", "killed")
    assert client("wait", "killed").stdout == "137\n"


def test_terminal_detach_and_resize(client, engine):
    terminal = Terminal(engine, f"{client.program} run -it --name term image sh")
    try:
        terminal.wait_for("/ #")
        terminal.type("stty size; tty; echo $TERM")
        assert "30 100" in terminal.wait_for("/dev/pts/0")
        terminal.tmux("resize-window", "-x", "120", "-y", "40")
        time.sleep(0.5)
        terminal.type("clear; stty size")
        terminal.wait_for("40 120")
        terminal.type("stty -echo; sleep 0; echo de''tached")
        terminal.wait_for("detached")
        terminal.tmux("send-keys", "C-p", "C-q")
        wait_until(lambda: "C" not in terminal.tmux("list-sessions"), "the client ends")
        assert client("inspect", "-f", "{{.State.Running}}", "term").stdout == "true\n"
    finally:
        terminal.close()
    again = Terminal(engine, f"{client.program} attach term")
    try:
        again.type("stty echo; echo at''tached")
        again.wait_for("attached")
        again.type("exit 5")
        wait_until(lambda: client("inspect", "-f", "{{.State.Running}}", "term").stdout == "false\n", "the shell ends")
        assert client("inspect", "-f", "{{.State.ExitCode}}", "term").stdout == "5\n"
    finally:
        again.close()


def test_interrupt_goes_through_the_terminal(client, engine):
    terminal = Terminal(engine, f"{client.program} run --rm -it image sh -c \"trap 'echo caught; exit 4' INT; echo ready; while true; do sleep 0.05; done\"; echo status $?; sleep 30")
    try:
        terminal.wait_for("ready")
        terminal.tmux("send-keys", "C-c")
        assert "caught" in terminal.wait_for("status 4")
    finally:
        terminal.close()


def test_of_a_range_of_host_ports_the_first_free_one_is_taken(client, engine):
    def published(name):
        return [int(line.rpartition(":")[2]) for line in client("port", name).stdout.splitlines() if "0.0.0.0" in line]

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        first = taken.getsockname()[1]
        span = f"{first}-{first + 2}"
        names = ["one", "two"]
        for name in names:
            client("run", "-d", "--name", name, "-p", f"{span}:7", "image", "sleep", "1000")
        assert [published(name) for name in names] == [[first + 1], [first + 2]]
        full = client("run", "-d", "--name", "full", "-p", f"{span}:7", "image", "true", check=False)
        assert full.returncode == 125 and "all ports are allocated" in full.stderr
        in_use = client("run", "-d", "--name", "used", "-p", f"{first}:7", "image", "true", check=False)
        assert in_use.returncode == 125 and f"listen tcp4 0.0.0.0:{first}: bind: address already in use" in in_use.stderr
        ours = client("run", "-d", "--name", "ours", "-p", f"{first + 1}:7", "image", "true", check=False)
        assert ours.returncode == 125 and f"Bind for 0.0.0.0:{first + 1} failed: port is already allocated" in ours.stderr
    # several of a range for several of a container's
    client("run", "-d", "--name", "three", "-p", "127.0.0.1:0:7", "-p", f"{first}:8", "image", "sleep", "1000")
    client("rm", "-f", "one", "two", "three", "full", "used", "ours")
