"""Two hundred containers at once: all run, starts do not get slower, each weighs little, and nothing remains of them."""

import concurrent.futures
import os
import statistics
import subprocess
import time

import pytest

from conftest import program_directory
from inputs import busybox_root
from test_recovery import made_up, published, shims_of, wait_until

MANY = 200
AT_ONCE = 20


@pytest.fixture
def many(new_engine):
    running = new_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    return running


def proportional_kilobytes(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def time_of_starts(engine, rounds=15):
    """The median time of a container's start alone, in milliseconds: create is not in it, the client is not in it."""
    taken = []
    for _ in range(rounds):
        identifier = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["sleep", "1000"]}).json["Id"]
        begun = time.monotonic()
        assert engine.api("POST", f"/containers/{identifier}/start").status == 204
        taken.append((time.monotonic() - begun) * 1000)
        assert engine.api("DELETE", f"/containers/{identifier}?force=1").status == 204
    return statistics.median(taken)


def counts(engine):
    """What the machine holds for an engine's containers."""
    mark = engine.mark
    groups = [root for root in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory", "/sys/fs/cgroup") if os.path.isdir(f"{root}/tare-{mark}")][0]
    listed = subprocess.run(["ip", "-o", "link", "show", "master", f"tare-{mark}"], capture_output=True, text=True, check=True).stdout
    return {
        "shims": len(shims_of(engine)),
        "cgroups": len([name for name in os.listdir(f"{groups}/tare-{mark}") if len(name) == 64]),
        "veths": len(listed.splitlines()),
        "nft elements": len(published(engine)),
        "run directories": len([name for name in os.listdir(f"{engine.run_root}/containers") if len(name) == 64]),
    }


def test_two_hundred_containers(many, capsys):
    alone = time_of_starts(many)
    before = proportional_kilobytes(many.process.pid)
    empty = counts(many)

    def start(number):
        body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}}
        created = many.api("POST", f"/containers/create?name=many{number}", body)
        assert created.status == 201, created.body
        begun = time.monotonic()
        started = many.api("POST", f"/containers/{created.json['Id']}/start")
        assert started.status == 204, started.body
        return (time.monotonic() - begun) * 1000

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        times = list(pool.map(start, range(MANY)))
    all_took = time.monotonic() - begun
    listed = many.api("GET", "/containers/json").json
    assert len(listed) == MANY
    assert {container["State"] for container in listed} == {"running"}
    assert len({container["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for container in listed}) == MANY
    assert len({container["Ports"][0]["PublicPort"] for container in listed}) == MANY
    for number in (0, MANY // 2, MANY - 1):
        assert many.tare("exec", f"many{number}", "cat", "/proc/1/cmdline").stdout == "sleep\0" + "1000\0"
    full = counts(many)
    assert full["shims"] == full["cgroups"] == full["run directories"] == MANY
    shims = statistics.mean(proportional_kilobytes(pid) for pid in shims_of(many).values())
    growth = (proportional_kilobytes(many.process.pid) - before) / MANY
    crowded = time_of_starts(many)

    begun = time.monotonic()
    removed = many.tare("rm", "-f", *[f"many{number}" for number in range(MANY)], timeout=120)
    removal = time.monotonic() - begun
    assert len(removed.stdout.split()) == MANY
    wait_until(lambda: not made_up(many), lambda: made_up(many), 10)
    wait_until(lambda: counts(many)["shims"] == 0, lambda: counts(many), 10)
    after = counts(many)
    assert after["cgroups"] == after["nft elements"] == after["run directories"] == 0, after
    # besides the pool's no veth remains; the kernel ends namespaces in its own time
    wait_until(lambda: counts(many)["veths"] <= max(empty["veths"], 8), lambda: counts(many), 10)
    with capsys.disabled():
        build = "release" if "release" in program_directory() else program_directory()
        print(f"\n  {build}: start {alone:.1f} ms alone, {crowded:.1f} ms beside {MANY} (ratio {crowded / alone:.2f}); {MANY} by {AT_ONCE} in {all_took:.2f} s, median {statistics.median(times):.0f} ms;"
              f" PSS {shims:.0f} KB a shim, {growth:.0f} KB of tared a container; rm -f of all {removal:.2f} s")


def test_two_hundred_by_the_command(many):
    """The same by the command, as a script does it, and removed at once by twenty clients."""
    run = lambda number: many.tare("run", "-d", "--name", f"cmd{number}", "busybox", "sleep", "1000").stdout.strip()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        identifiers = list(pool.map(run, range(MANY)))
    assert sorted(many.tare("ps", "-q", "--no-trunc").stdout.split()) == sorted(identifiers)
    many.restart(hard=True)
    assert sorted(many.tare("ps", "-q", "--no-trunc").stdout.split()) == sorted(identifiers)
    groups = [identifiers[i::AT_ONCE] for i in range(AT_ONCE)]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda group: many.tare("rm", "-f", *group), groups))
    wait_until(lambda: not made_up(many), lambda: made_up(many), 10)
    assert many.tare("ps", "-aq").stdout == ""
