"""Resource limits at the kernel's controllers, on cgroup v1 (hybrid) as on v2 alone: what the kernel was told, and that it does it."""

import os
import re
import subprocess
import time

import pytest

from conftest import finish, make_engine
from inputs import busybox_root
from test_recovery import wait_until

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    yield running
    finish(running)


def group(engine, name, controller):
    """The container's directory of a controller, on the machine."""
    pid = engine.api("GET", f"/containers/{name}/json").json["State"]["Pid"]
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        lines = [line.strip().split(":", 2) for line in file]
    if V2:
        return "/sys/fs/cgroup" + next(path for number, _, path in lines if number == "0")
    return f"/sys/fs/cgroup/{controller}" + next(path for _, names, path in lines if controller in names.split(","))


def setting(engine, name, controller, v1, v2):
    with open(os.path.join(group(engine, name, controller), v2 if V2 else v1), encoding="utf-8") as file:
        return file.read().strip()


# controller, file of v1, file of v2: the values of v1 and v2 after create, and after update
SETTINGS = [
    ("memory", "memory.limit_in_bytes", "memory.max", ("67108864", "67108864"), ("33554432", "33554432")),
    ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", ("100663296", "33554432"), ("50331648", "16777216")),
    ("memory", "memory.soft_limit_in_bytes", "memory.low", ("16777216", "16777216"), ("8388608", "8388608")),
    ("cpu", "cpu.cfs_quota_us", "cpu.max", ("50000", "50000 100000"), ("25000", "25000 100000")),
    ("cpu", "cpu.shares", "cpu.weight", ("512", "20"), ("2048", "79")),
    ("pids", "pids.max", "pids.max", ("50", "50"), ("60", "60")),
    ("cpuset", "cpuset.cpus", "cpuset.cpus", ("0", "0"), ("1", "1")),
]  # fmt: skip


def test_what_the_kernel_is_told(engine, client):
    client("run", "-d", "--name", "told", "--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "16m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "50", "--cpuset-cpus", "0", "busybox", "sleep", "1000")
    for controller, v1, v2, created, _ in SETTINGS:
        assert setting(engine, "told", controller, v1, v2) == created[V2], v2
    client("update", "--memory", "32m", "--memory-swap", "48m", "--memory-reservation", "8m", "--cpus", "0.25", "--cpu-shares", "2048", "--pids-limit", "60", "--cpuset-cpus", "1", "told")
    for controller, v1, v2, _, updated in SETTINGS:
        assert setting(engine, "told", controller, v1, v2) == updated[V2], v2
    engine.restart(hard=True)
    assert setting(engine, "told", "memory", "memory.limit_in_bytes", "memory.max") == "33554432"
    client("rm", "-f", "told")


def test_memory_is_not_exceeded(engine, client):
    ended = client("run", "--name", "hungry", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero; exit $?", check=False)
    assert ended.returncode == 137
    assert client("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry").stdout == "true 137\n"
    client("rm", "hungry")
    # one of its processes, while it lives on: noticed at once
    begun = str(time.time())
    client("run", "-d", "--name", "survivor", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero; sleep 1000")
    told = lambda: client("events", "--since", begun, "--until", str(time.time()), "--filter", "event=oom", "--format", "{{.Action}}").stdout
    wait_until(lambda: told().startswith("oom\n"), told, 20)
    assert client("inspect", "-f", "{{.State.Status}}", "survivor").stdout == "running\n"
    client("rm", "-f", "survivor")


def test_processes_are_not_exceeded(engine, client):
    said = client("run", "--rm", "--pids-limit", "6", "busybox", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait", check=False)
    assert "can't fork" in said.stderr


def test_processor_time_is_not_exceeded(engine, client):
    client("run", "-d", "--name", "busy", "--cpus", "0.1", "busybox", "sh", "-c", "while :; do :; done")

    def throttled():
        return int(re.search(r"^nr_throttled (\d+)$", setting(engine, "busy", "cpu", "cpu.stat", "cpu.stat"), re.M).group(1))

    wait_until(lambda: throttled() > 2, throttled, 20)
    sample = engine.api("GET", "/containers/busy/stats?stream=0").json
    assert sample["cpu_stats"]["throttling_data"]["throttled_periods"] > 2 and sample["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert sample["memory_stats"]["usage"] > 0 and sample["pids_stats"]["current"] == 1
    client("rm", "-f", "busy")


def test_devices(engine, client):
    run = lambda *flags: client("run", "--rm", *flags, "busybox", "sh", "-c", "mknod /x c 10 229 && head -c 0 < /x && echo open; mknod /z c 1 5 && head -c 3 /z | wc -c", check=False)
    refused = run()
    assert refused.stdout == "3\n" and "/x: Operation not permitted" in refused.stderr.replace("can't open ", ""), refused.stderr
    for allowed in (run("--device-cgroup-rule", "c 10:229 rwm"), run("--privileged")):
        assert allowed.stdout in ("open\n3\n", "3\n") and "Operation not permitted" not in allowed.stderr, allowed.stderr  # the driver may be absent


def test_freeze_and_kill(engine, client):
    client("run", "-d", "--name", "forks", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done")
    count = lambda: client("exec", "forks", "cat", "/count").stdout
    wait_until(lambda: count() != "", count, 10)
    client("pause", "forks")
    assert client("inspect", "-f", "{{.State.Status}}", "forks").stdout == "paused\n"
    upper = engine.api("GET", "/containers/forks/json").json["GraphDriver"]["Data"]["UpperDir"]
    before = open(f"{upper}/count", encoding="utf-8").read()
    time.sleep(0.3)
    assert open(f"{upper}/count", encoding="utf-8").read() == before
    client("unpause", "forks")
    wait_until(lambda: open(f"{upper}/count", encoding="utf-8").read() not in (before, ""), lambda: before, 10)
    client("pause", "forks")
    client("rm", "-f", "forks")  # also frozen
    # a container of the host's processes is ended with all that it has started
    client("run", "-d", "--name", "many", "--pid", "host", "busybox", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 4321 & done; wait")
    alive = lambda: subprocess.run(["pgrep", "-fx", "sleep 4321"], capture_output=True, text=True, check=False).stdout.split()
    wait_until(lambda: len(alive()) == 8, alive, 10)
    client("kill", "many")
    wait_until(lambda: alive() == [], alive, 10)
    client("rm", "-f", "many")
