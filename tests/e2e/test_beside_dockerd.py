"""Published ports and the way outside while a dockerd with its firewall rules runs on the same machine, started before us or after."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import finish, make_engine
from inputs import busybox_root
from test_recovery import free_port, wait_until

BRIDGE = "tare-dockerd0"  # the other engine's, so that its rules can be told from those of any other
OUTSIDE = "tare-outside"  # a network namespace that plays the rest of the world
NEAR, FAR = "198.18.77.1", "198.18.77.2"

# Says who asks: what arrives, and from where.
SERVER = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
listener = socket.socket(socket.AF_INET, kind)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_STREAM:
    listener.listen()
print("ready", flush=True)
while True:
    if kind == socket.SOCK_DGRAM:
        data, peer = listener.recvfrom(100)
        listener.sendto(peer[0].encode(), peer)
    else:
        connection, peer = listener.accept()
        connection.sendall(peer[0].encode())
        connection.close()
"""

ASK = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
connection = socket.socket(socket.AF_INET, kind)
connection.settimeout(5)
connection.connect((sys.argv[2], int(sys.argv[3])))
if kind == socket.SOCK_DGRAM:
    connection.send(b"x")
print(connection.recv(100).decode())
"""


def command(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20, **options).stdout


def forward_policy():
    return next((line for line in command("iptables", "-S", "FORWARD").splitlines() if line.startswith("-P FORWARD")), "")


@pytest.fixture(scope="module")
def outside():
    subprocess.run(["ip", "netns", "delete", OUTSIDE], check=False, capture_output=True)  # of a run that was ended in the middle
    subprocess.run(["ip", "link", "delete", "tare-near"], check=False, capture_output=True)
    command("ip", "netns", "add", OUTSIDE)
    command("ip", "link", "add", "tare-near", "type", "veth", "peer", "name", "tare-far", "netns", OUTSIDE)
    command("ip", "address", "add", f"{NEAR}/24", "dev", "tare-near")
    command("ip", "link", "set", "tare-near", "up")
    for words in (["address", "add", f"{FAR}/24", "dev", "tare-far"], ["link", "set", "tare-far", "up"], ["link", "set", "lo", "up"]):
        command("ip", "-n", OUTSIDE, *words)
    servers = [subprocess.Popen(["ip", "netns", "exec", OUTSIDE, "python3", "-c", SERVER, kind, FAR, "7000"], stdout=subprocess.PIPE) for kind in ("tcp", "udp")]
    for server in servers:
        assert server.stdout.readline() == b"ready\n"
    yield lambda *words: command("ip", "netns", "exec", OUTSIDE, *words)
    for server in servers:
        server.kill()
        server.wait()
    command("ip", "link", "delete", "tare-near")
    command("ip", "netns", "delete", OUTSIDE)


class Dockerd:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="tare-dockerd-")
        self.policy = forward_policy()
        self.process = None

    def start(self):
        directory = self.directory
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)  # of a run that was ended in the middle
        command("ip", "link", "add", BRIDGE, "type", "bridge")
        command("ip", "address", "add", "198.18.66.1/24", "dev", BRIDGE)
        with open(f"{directory}/log", "wb") as log:
            self.process = subprocess.Popen(
                ["/usr/sbin/dockerd", "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "-H", f"unix://{directory}/sock", "--pidfile", f"{directory}/pid", "--bridge", BRIDGE],
                stdout=log, stderr=log)

        def answers():
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(f"{directory}/sock")
                probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b"OK" in probe.recv(4096) + probe.recv(4096)

        wait_until(answers, lambda: open(f"{directory}/log", encoding="utf-8", errors="replace").read()[-2000:], 40)
        # What makes it hard. Where forwarding was on already, dockerd leaves the policy alone; on a fresh machine it does this.
        command("iptables", "-P", "FORWARD", "DROP")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(40)
        command("iptables", "-P", "FORWARD", self.policy.split()[-1])
        for table in ("filter", "nat"):  # dockerd leaves its rules
            for rule in command("iptables", "-t", table, "-S").splitlines():
                if BRIDGE in rule:
                    command("iptables", "-t", table, "-D", *rule.split()[1:])
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
        subprocess.run(["umount", "-R", f"{self.directory}/data"], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module", params=["dockerd first", "tared first"])
def engine(request, outside):
    dockerd = Dockerd()
    running = make_engine()
    try:
        for one in [dockerd, running] if request.param == "dockerd first" else [running, dockerd]:
            one.start()
        running.tare("import", str(busybox_root()), "busybox")
        yield running
    finally:
        dockerd.stop()
        finish(running)


def ask(kind, address, port):
    """The peer's address as a server in a container sees it."""
    return command("python3", "-c", ASK, kind, address, str(port)).strip()


def inside(engine, *words):
    return engine.tare("run", "--rm", "busybox", *words, timeout=30).stdout


def test_the_way_outside(engine):
    peer = inside(engine, "sh", "-c", f"nc -w 5 {FAR} 7000 < /dev/null")
    assert peer == NEAR, "as the host's, by NAT"
    # Busybox sends no datagrams of its own: the machine's python does, in a container's network.
    pid = engine.api("GET", f"/containers/{engine.tare('run', '-d', '--name', 'asker', 'busybox', 'sleep', '1000').stdout.strip()}/json").json["State"]["Pid"]
    for kind in ("udp", "tcp"):
        assert command("nsenter", f"--net=/proc/{pid}/ns/net", "python3", "-c", ASK, kind, FAR, "7000").strip() == NEAR
    engine.tare("rm", "-f", "asker")
    assert "1 packets received" in inside(engine, "ping", "-c", "1", "-W", "5", FAR)


def echo_server(engine, name, port, protocol):
    """A server that prints who asks, from the host's python in a container's network: busybox has none for datagrams."""
    engine.tare("run", "-d", "--name", name, "-p", f"{port}:9000/{protocol}", "busybox", "sleep", "1000")
    state = engine.api("GET", f"/containers/{name}/json").json
    server = subprocess.Popen(["nsenter", "--net=/proc/%d/ns/net" % state["State"]["Pid"], "python3", "-c", SERVER, protocol, "0.0.0.0", "9000"], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    return server, state["NetworkSettings"]["IPAddress"], state["NetworkSettings"]["Gateway"]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_published_ports(engine, outside, protocol):
    port = free_port(socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    server, address, gateway = echo_server(engine, f"server-{protocol}", port, protocol)
    try:
        from_outside = lambda: outside("python3", "-c", ASK, protocol, NEAR, str(port)).strip()
        assert from_outside() == FAR, "the client's own address"
        assert ask(protocol, NEAR, port), "from the host, by its address"
        assert ask(protocol, "127.0.0.1", port), "from the host, by its loopback"
        assert ask(protocol, address, 9000), "from the host, by the container's address"
        # from another container: by the bridge's address and by the host's
        engine.tare("run", "-d", "--name", f"other-{protocol}", "busybox", "sleep", "1000")
        pid = engine.api("GET", f"/containers/other-{protocol}/json").json["State"]["Pid"]
        for target in (gateway, NEAR):
            assert command("nsenter", f"--net=/proc/{pid}/ns/net", "python3", "-c", ASK, protocol, target, str(port)).strip(), target
        # from the container itself, over its host
        own = engine.api("GET", f"/containers/server-{protocol}/json").json["State"]["Pid"]
        assert command("nsenter", f"--net=/proc/{own}/ns/net", "python3", "-c", ASK, protocol, NEAR, str(port)).strip(), "to itself"
        # all of it after the engine's death too
        engine.kill()
        assert from_outside() == FAR
        engine.start()
        assert from_outside() == FAR
    finally:
        server.kill()
        server.wait()
        engine.tare("rm", "-f", f"server-{protocol}")
        engine.tare("rm", "-f", f"other-{protocol}", check=False)
    refused = subprocess.run(["ip", "netns", "exec", OUTSIDE, "python3", "-c", ASK, protocol, NEAR, str(port)], capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 1, "a removed container's port answers nobody"
