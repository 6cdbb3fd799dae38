"""The engine's half of the flag walk: every field of a create request has its effect in the container, or is refused or warned of with a reason, or is named here with where its effect is tested."""

import json
import os
import re

import pytest

from conftest import TOP, finish, make_engine
from inputs import busybox_root

V1 = "cat /sys/fs/cgroup/"


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    running.tare("run", "-d", "--name", "other", "--ipc", "shareable", "-v", "/shared", "busybox", "sh", "-c", "echo shared > /shared/file; sleep 1000")
    yield running
    finish(running)


def host(kind):
    return os.readlink(f"/proc/self/ns/{kind}") + "\n"


def block_device():
    """Any disk of the machine: its path and its numbers."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}") and os.path.exists(f"/sys/block/{name}/dev"):
            with open(f"/sys/block/{name}/dev", encoding="utf-8") as file:
                return f"/dev/{name}", file.read().strip()
    raise AssertionError("no block device")


DISK, NUMBERS = block_device()
LIMIT = [{"Path": DISK, "Rate": 1048576}]

# field: (its value, other fields of the body, what runs, what it prints); a function looks at the output
EFFECTS = {
    "Config": {
        "Hostname": ("given", {}, "hostname", "given\n"),
        "Domainname": ("example.org", {}, "cat /proc/sys/kernel/domainname", "example.org\n"),
        "User": ("user:extra", {}, "id -u; id -g", "1000\n2000\n"),
        "ExposedPorts": ({"7/tcp": {}}, {"HostConfig": {"PublishAllPorts": True}}, "true", ""),
        "Tty": (True, {}, "test -t 1 && echo terminal", "terminal\n"),
        "OpenStdin": (True, {}, "readlink /proc/self/fd/0", lambda out: out.startswith("pipe:")),
        "Env": (["A=given", "PATH=/bin"], {}, "echo $A $PATH", "given /bin\n"),
        "Cmd": (["echo", "given"], {}, None, "given\n"),
        "Volumes": ({"/anonymous": {}}, {}, "grep -c ' /anonymous ' /proc/mounts", "1\n"),
        "WorkingDir": ("/made/here", {}, "pwd", "/made/here\n"),
        "Entrypoint": (["echo", "entered"], {"Cmd": ["with"]}, None, "entered with\n"),
        "NetworkDisabled": (True, {}, "ls /sys/class/net", "lo\n"),
        "MacAddress": ("02:42:ac:11:00:42", {"HostConfig": {"NetworkMode": "bridge"}}, "cat /sys/class/net/eth0/address", "02:42:ac:11:00:42\n"),
        "Image": ("busybox", {}, "echo here", "here\n"),
    },
    "HostConfig": {
        "Binds": (["/etc/hostname:/bound:ro"], {}, "cat /bound; echo x > /bound", open("/etc/hostname", encoding="utf-8").read() + "sh: can't create /bound: Read-only file system\n"),
        "NetworkMode": ("host", {}, "readlink /proc/self/ns/net", host("net")),
        "PortBindings": ({"7/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, {"HostConfig": {"NetworkMode": "bridge"}}, "sleep 0.5", ""),
        "PublishAllPorts": (True, {"ExposedPorts": {"7/tcp": {}}, "HostConfig": {"NetworkMode": "bridge"}}, "sleep 0.5", ""),
        "VolumesFrom": (["other"], {}, "cat /shared/file", "shared\n"),
        "ConsoleSize": ([33, 77], {"Tty": True}, "stty size", "33 77\n"),
        "CapAdd": (["NET_ADMIN"], {}, "grep CapEff /proc/self/status", "CapEff:\t00000000a80435fb\n"),
        "CapDrop": (["ALL"], {}, "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
        "CgroupnsMode": ("private", {}, "readlink /proc/self/ns/cgroup", lambda out: out != host("cgroup")),
        "Dns": (["10.9.8.7"], {}, "cat /etc/resolv.conf", lambda out: "nameserver 10.9.8.7\n" in out),
        "DnsOptions": (["ndots:3"], {}, "cat /etc/resolv.conf", lambda out: "options ndots:3" in out),
        "DnsSearch": (["given.example"], {}, "cat /etc/resolv.conf", lambda out: "search given.example\n" in out),
        "ExtraHosts": (["given:10.9.8.7"], {}, "cat /etc/hosts", lambda out: re.search(r"^10\.9\.8\.7\s+given$", out, re.M)),
        "GroupAdd": (["extra", "3000"], {}, "id -G", "0 2000 3000\n"),
        "IpcMode": ("container:other", {}, "readlink /proc/self/ns/ipc", lambda out: out != host("ipc")),
        "OomScoreAdj": (321, {}, "cat /proc/self/oom_score_adj", "321\n"),
        "PidMode": ("host", {}, "readlink /proc/self/ns/pid", host("pid")),
        "Privileged": (True, {}, "grep CapEff /proc/self/status", lambda out: int(out.split()[1], 16) > 0x1F00000000),
        "ReadonlyRootfs": (True, {}, "touch /x", "touch: /x: Read-only file system\n"),
        "SecurityOpt": (["no-new-privileges"], {}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        "Tmpfs": ({"/scratch": "size=1m"}, {}, "grep ' /scratch ' /proc/mounts", lambda out: out.startswith("tmpfs /scratch tmpfs") and "size=1024k" in out),
        "UTSMode": ("host", {}, "readlink /proc/self/ns/uts", host("uts")),
        "ShmSize": (2 << 20, {}, "grep ' /dev/shm ' /proc/mounts", lambda out: "size=2048k" in out),
        "Sysctls": ({"net.ipv4.ip_forward": "0", "kernel.shmmax": "12345678"}, {}, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax", "0\n12345678\n"),
        "CpuShares": (512, {}, V1 + "cpu/cpu.shares", "512\n"),
        "Memory": (32 << 20, {}, V1 + "memory/memory.limit_in_bytes", f"{32 << 20}\n"),
        "MemoryReservation": (16 << 20, {}, V1 + "memory/memory.soft_limit_in_bytes", f"{16 << 20}\n"),
        "MemorySwap": (48 << 20, {"HostConfig": {"Memory": 32 << 20}}, V1 + "memory/memory.memsw.limit_in_bytes", f"{48 << 20}\n"),
        "MemorySwappiness": (17, {}, V1 + "memory/memory.swappiness", "17\n"),
        "OomKillDisable": (True, {"HostConfig": {"Memory": 32 << 20}}, V1 + "memory/memory.oom_control", lambda out: out.startswith("oom_kill_disable 1\n")),
        "KernelMemoryTCP": (16 << 20, {}, V1 + "memory/memory.kmem.tcp.limit_in_bytes", f"{16 << 20}\n"),
        "NanoCpus": (500000000, {}, V1 + "cpu/cpu.cfs_quota_us", "50000\n"),
        "CpuPeriod": (50000, {}, V1 + "cpu/cpu.cfs_period_us", "50000\n"),
        "CpuQuota": (20000, {}, V1 + "cpu/cpu.cfs_quota_us", "20000\n"),
        "CpusetCpus": ("0", {}, V1 + "cpuset/cpuset.cpus", "0\n"),
        "CpusetMems": ("0", {}, V1 + "cpuset/cpuset.mems", "0\n"),
        "BlkioDeviceReadBps": (LIMIT, {}, V1 + "blkio/blkio.throttle.read_bps_device", f"{NUMBERS} 1048576\n"),
        "BlkioDeviceWriteBps": (LIMIT, {}, V1 + "blkio/blkio.throttle.write_bps_device", f"{NUMBERS} 1048576\n"),
        "BlkioDeviceReadIOps": (LIMIT, {}, V1 + "blkio/blkio.throttle.read_iops_device", f"{NUMBERS} 1048576\n"),
        "BlkioDeviceWriteIOps": (LIMIT, {}, V1 + "blkio/blkio.throttle.write_iops_device", f"{NUMBERS} 1048576\n"),
        "PidsLimit": (23, {}, V1 + "pids/pids.max", "23\n"),
        "Ulimits": ([{"Name": "nofile", "Soft": 123, "Hard": 456}], {}, "ulimit -Sn; ulimit -Hn", "123\n456\n"),
        "Devices": ([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/given", "CgroupPermissions": "rwm"}], {}, "ls -l /dev/given", lambda out: re.search(r"^crw.* 1, +3 ", out)),
        "DeviceCgroupRules": (["c 10:229 r"], {}, V1 + "devices/devices.list", lambda out: "c 10:229 r\n" in out),
        "Mounts": ([{"Type": "bind", "Source": "/etc", "Target": "/mounted", "ReadOnly": True}], {}, "test -e /mounted/passwd && touch /mounted/x", "touch: /mounted/x: Read-only file system\n"),
        "MaskedPaths": (["/proc/version"], {}, "cat /proc/version", ""),
        "ReadonlyPaths": (["/tmp"], {}, "touch /tmp/x", "touch: /tmp/x: Read-only file system\n"),
        "Init": (True, {}, "tr '\\0' ' ' < /proc/1/cmdline", lambda out: "init" in out),
        "CgroupParent": ("/given", {}, "cat /proc/self/cgroup", lambda out: ":/given/" in out),
    },
}

# field: (body, the text of the refusal), by create or by start
REFUSED = {
    "VolumeDriver": ({"HostConfig": {"VolumeDriver": "nope", "Binds": ["named:/x"]}}, 'create named: error looking up volume plugin nope: plugin "nope" not found'),
    "Links": ({"HostConfig": {"Links": ["other:x"]}}, "links between containers of the default network are not supported: use a user-defined network, where containers find each other by name"),
    "StorageOpt": ({"HostConfig": {"StorageOpt": {"size": "1G"}}}, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
    "Runtime": ({"HostConfig": {"Runtime": "nope"}}, "Unknown runtime specified nope"),
    "Isolation": ({"HostConfig": {"Isolation": "hyperv"}}, "invalid isolation 'hyperv' on linux"),
    "DeviceRequests": ({"HostConfig": {"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]}}, 'could not select device driver "" with capabilities: [[gpu]]'),
    "UsernsMode": ({"HostConfig": {"UsernsMode": "x"}}, "invalid userns mode: x"),
    "CpuRealtimePeriod": ({"HostConfig": {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000}}, "cpu real-time runtime cannot be higher than cpu real-time period"),
    "CpuRealtimeRuntime": ({"HostConfig": {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000}}, "cpu real-time runtime cannot be higher than cpu real-time period"),
    "IOMaximumIOps": ({"HostConfig": {"IOMaximumIOps": 1}}, "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
    "IOMaximumBandwidth": ({"HostConfig": {"IOMaximumBandwidth": 1}}, "Invalid QoS settings: linux does not support configuration of maximum bandwidth"),
    "KernelMemory": ({"HostConfig": {"KernelMemory": 1000}}, "Minimum kernel memory limit allowed is 6MB"),
    "BlkioWeightDevice": ({"HostConfig": {"BlkioWeightDevice": [{"Path": "/dev/absent", "Weight": 100}]}}, "stat /dev/absent: no such file or directory"),
    "BlkioWeight": ({"HostConfig": {"BlkioWeight": 5}}, "Range of blkio weight is from 10 to 1000"),
    "StopSignal": ({"StopSignal": "NOPE"}, "Invalid signal: NOPE"),
    "LogConfig": ({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"nope": "1"}}}}, "unknown log opt 'nope' for json-file log driver"),
    "AutoRemove": ({"HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}, "can't create 'AutoRemove' container with restart policy"),
    "RestartPolicy": ({"HostConfig": {"RestartPolicy": {"Name": "x"}}}, "invalid restart policy 'x'"),
    "Healthcheck": ({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 1}}, "Interval in Healthcheck cannot be less than 1ms"),
}

WARNED = {
    "CpuCount": ({"HostConfig": {"CpuCount": 1}}, "linux does not support CPU count. Count discarded."),
    "CpuPercent": ({"HostConfig": {"CpuPercent": 10}}, "linux does not support CPU percent. Percent discarded."),
}

# Fields whose whole meaning is to be shown, or that mean something to clients or to another system alone.
SHOWN = {
    "AttachStdin": "the client's own choice", "AttachStdout": "the client's own choice", "AttachStderr": "the client's own choice", "StdinOnce": "test_container_api: the end of a client's input",
    "ArgsEscaped": "of Windows", "OnBuild": "of images: a container has none", "Labels": "shown", "StopTimeout": "test_run: stop", "Shell": "test_health: the shell of probes",
    "ContainerIDFile": "the client's file", "Annotations": "shown, and given to the runtime", "Cgroup": "dockerd has no use for it either",
}  # fmt: skip


def fields(table):
    with open(os.path.join(TOP, "src", "container", "request.c"), encoding="utf-8") as file:
        text = re.search(r"struct field " + table + r"\[\] = \{(.*?)\n\};", file.read(), re.S).group(1)
    return re.findall(r'\{ "(\w+)",', text)


def merge(into, extra):
    for key, value in extra.items():
        into[key] = {**into.get(key, {}), **value} if isinstance(value, dict) and isinstance(into.get(key), dict) else value
    return into


def test_every_field_is_in_a_table():
    known = {*EFFECTS["Config"], *EFFECTS["HostConfig"], *REFUSED, *WARNED, *SHOWN}
    every = fields("config_fields") + fields("host_config_fields")
    assert len(every) > 80
    assert sorted(set(every) - known) == []
    assert sorted(known - set(every)) == []


@pytest.mark.parametrize("where, field", [(where, field) for where in EFFECTS for field in EFFECTS[where]], ids=lambda text: text)
def test_a_field_has_its_effect(engine, where, field):
    value, extra, script, wanted = EFFECTS[where][field]
    body = {"Image": "busybox", "HostConfig": {"NetworkMode": "none"}}
    if script is not None:
        body["Cmd"] = ["sh", "-c", script + " 2>&1" if " && " not in script and ";" not in script else "exec 2>&1; " + script]
    merge(body, extra)
    if where == "Config":
        body[field] = value
    else:
        body["HostConfig"][field] = value
    created = engine.api("POST", "/containers/create", body)
    assert created.status == 201, created.body
    name = created.json["Id"]
    started = engine.api("POST", f"/containers/{name}/start")
    shown = engine.api("GET", f"/v1.41/containers/{name}/json").json
    ports = shown["NetworkSettings"]["Ports"]
    try:
        assert started.status == 204, started.body
        engine.api("POST", f"/containers/{name}/wait")
        out = engine.tare("logs", name).stdout
        assert wanted(out) if callable(wanted) else out == wanted, out
        part = shown["Config"] if where == "Config" else shown["HostConfig"]
        assert part[field] == value or field in ("Binds", "IpcMode", "VolumesFrom", "Image"), part[field]
        if field in ("PortBindings", "PublishAllPorts"):
            assert int(ports["7/tcp"][0]["HostPort"]) > 0
    finally:
        engine.api("DELETE", f"/containers/{name}?force=1&v=1")


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_is_refused(engine, field):
    body, text = REFUSED[field]
    before = len(engine.api("GET", "/containers/json?all=1").json)
    body = merge({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}, body)
    answer = engine.api("POST", "/v1.41/containers/create", body)
    if answer.status == 201:
        name = answer.json["Id"]
        answer = engine.api("POST", f"/containers/{name}/start")
        engine.api("DELETE", f"/containers/{name}?force=1&v=1")
    assert (answer.status // 100, answer.message) == (4, text)
    assert len(engine.api("GET", "/containers/json?all=1").json) == before
    assert engine.api("GET", "/volumes").json["Volumes"] in (None, []) or field != "VolumeDriver" or all(volume["Name"] != "named" for volume in engine.api("GET", "/volumes").json["Volumes"])


@pytest.mark.parametrize("field", WARNED)
def test_a_field_is_warned_of(engine, field):
    body, text = WARNED[field]
    answer = engine.api("POST", "/containers/create", merge({"Image": "busybox", "Cmd": ["true"]}, body))
    assert (answer.status, answer.json["Warnings"]) == (201, [text])
    engine.api("DELETE", f"/containers/{answer.json['Id']}")


def test_query_parameters_and_the_rest_of_create(engine):
    create = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
    for platform, status, text in [
        ("linux/foo", 404, "image with reference busybox was found but does not match the specified platform: wanted linux/foo, actual: linux/amd64"),
        ("arm64", 404, "image with reference busybox was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64"),
        ("bogus/a/b/c", 400, '"bogus/a/b/c": cannot parse platform specifier: invalid argument'),
    ]:
        answer = engine.api("POST", f"/containers/create?platform={platform}", create)
        assert (answer.status, answer.message) == (status, text)
    for platform in ("linux", "linux/amd64", "amd64", "linux/x86_64"):
        answer = engine.api("POST", f"/containers/create?platform={platform}", create)
        assert answer.status == 201, answer.body
        engine.api("DELETE", f"/containers/{answer.json['Id']}")
    for networking, version, text in [
        ({"none": {"IPAMConfig": {"IPv4Address": "10.1.2.3"}}}, "v1.41", "user specified IP address is supported on user defined networks only"),
        ({"bridge": {"IPAMConfig": {"IPv4Address": "x"}}}, "v1.41", "invalid IPv4 address: x"),
        ({"bridge": {"IPAMConfig": {"IPv6Address": "x"}}}, "v1.41", "invalid IPv6 address: x"),
        ({"bridge": {"Aliases": ["x"]}}, "v1.41", "network-scoped alias is supported only for containers in user defined networks"),
        ({"none": {}, "bridge": {}}, "v1.41", "Container cannot be connected to network endpoints: none, bridge"),
    ]:
        answer = engine.api("POST", f"/{version}/containers/create", {**create, "NetworkingConfig": {"EndpointsConfig": networking}})
        assert (answer.status, answer.message) == (400, text)
    for path, body, text in [
        ("/containers/other/attach?stream=1&stdout=1&detachKeys=ctrl-", None, "Invalid detach keys (ctrl-) provided"),
        ("/containers/other/exec", {"Cmd": ["true"], "DetachKeys": "ctrl-"}, "Invalid escape keys (ctrl-) provided"),
        ("/containers/other/start?checkpoint=x", None, "checkpoints are not supported by this engine"),
    ]:
        answer = engine.api("POST", path, body)
        assert (answer.status // 100 in (4, 5), answer.message) == (True, text), path


def test_exec_fields_have_their_effect(engine):
    for field, value, script, wanted in [
        ("User", "1000:2000", "id -u; id -g", "1000\n2000\n"), ("Env", ["A=given"], "echo $A", "given\n"), ("WorkingDir", "/tmp", "pwd", "/tmp\n"),
        ("Tty", True, "test -t 1 && echo terminal", "terminal\r\n"), ("Privileged", True, "test $(printf %d 0x$(grep CapEff /proc/self/status | tail -c 17)) -gt 100000000000 && echo all", "all\n"), ("AttachStdout", False, "echo x", ""),
    ]:  # fmt: skip
        command = ["/bin/busybox", "sh", "-c", script]
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": command, field: value}
        created = engine.api("POST", "/containers/other/exec", body)
        name = created.json["Id"]
        answer = engine.api("POST", f"/exec/{name}/start", {"Detach": False, "Tty": field == "Tty"})
        out = answer.body if field == "Tty" else b"".join(piece for _, piece in frames(answer.body))
        assert out.decode() == wanted, (field, answer.body)


def frames(data):
    while data:
        length = int.from_bytes(data[4:8], "big")
        yield data[0], data[8 : 8 + length]
        data = data[8 + length :]


def test_log_options_have_their_effect(engine):
    body = {"Image": "busybox", "Cmd": ["echo", "line"], "Env": ["ABLE=1", "BAKER=2"], "Labels": {"alpha": "a", "beta": "b", "gamma": "g"},
            "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "json-file", "Config": {"labels": "alpha", "labels-regex": "^be", "env-regex": "ABL", "tag": "{{.Name}}/{{.ImageName}}"}}}}
    created = engine.api("POST", "/containers/create?name=tagged", body)
    assert created.status == 201, created.body
    engine.api("POST", "/containers/tagged/start")
    engine.api("POST", "/containers/tagged/wait")
    with open(engine.api("GET", "/containers/tagged/json").json["LogPath"], encoding="utf-8") as file:
        entry = json.loads(file.readline())
    assert entry["attrs"] == {"alpha": "a", "beta": "b", "ABLE": "1", "tag": "tagged/busybox"}
    engine.api("DELETE", "/containers/tagged")
