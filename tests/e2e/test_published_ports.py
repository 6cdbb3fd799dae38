"""Published ports where a server of the container's own answers: TCP and UDP, over IPv4 and IPv6, from the host, from other containers and from itself; and the network's namespace under its name."""

import os
import re
import socket
import subprocess

import pytest

from conftest import finish, make_engine
from inputs import busybox_root
from test_recovery import free_port, wait_until

KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    yield running
    finish(running)


ECHO = """
import socket, sys, threading
def streams():
    while True:
        one, _ = tcp.accept()
        threading.Thread(target=lambda one=one: [one.sendall(b"echo " + data) for data in iter(lambda: one.recv(65536), b"")] and one.shutdown(socket.SHUT_WR)).start()
tcp = socket.create_server(("0.0.0.0", 9000))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 9000))
threading.Thread(target=streams, daemon=True).start()
print("ready", flush=True)
while True:
    data, peer = udp.recvfrom(65535)
    udp.sendto(b"echo " + data, peer)
"""


def run_server(engine, name, *ports):
    """A container, and in its network and beside its processes a server: the machine's python, since busybox has none for datagrams."""
    arguments = [word for port in ports for word in ("-p", port)]
    engine.tare("run", "-d", "--name", name, *arguments, "busybox", "sleep", "1000")
    pid = engine.api("GET", f"/containers/{name}/json").json["State"]["Pid"]
    server = subprocess.Popen(["nsenter", f"--target={pid}", "--net", "--pid", "--ipc", "python3", "-c", ECHO], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    return server


def ask(protocol, address, port, data=b"hello", family=None):
    family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
    with socket.socket(family, KIND[protocol]) as client:
        client.settimeout(10)
        client.connect((address, port))
        client.sendall(data)
        if protocol == "udp":
            return client.recv(65535)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


ASK = "import socket, sys; s = socket.socket(socket.AF_INET, int(sys.argv[1])); s.settimeout(10); s.connect((sys.argv[2], int(sys.argv[3]))); s.sendall(b'hello'); print(s.recv(100).decode())"


def ask_from(engine, name, protocol, address, port):
    """The same from a container's network."""
    pid = engine.api("GET", f"/containers/{name}/json").json["State"]["Pid"]
    result = subprocess.run(["nsenter", f"--target={pid}", "--net", "python3", "-c", ASK, str(int(KIND[protocol])), address, str(port)], capture_output=True, text=True, timeout=20, check=False)
    return result.stdout.strip()


@pytest.fixture(scope="module")
def served(engine):
    """The ports of one container: on all addresses, on the loopback ones of IPv4 and of IPv6, by both protocols."""
    ports = {}
    for name, host in (("all", ""), ("four", "127.0.0.1:"), ("six", "[::1]:")):
        for protocol in KIND:
            ports[name, protocol] = free_port(KIND[protocol])
    words = [f"{host}{ports[name, protocol]}:9000/{protocol}" for name, host in (("all", ""), ("four", "127.0.0.1:"), ("six", "[::1]:")) for protocol in KIND]
    server = run_server(engine, "server", *words)
    engine.tare("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    yield ports
    server.kill()
    server.wait()
    engine.tare("rm", "-f", "server", "other")


@pytest.mark.parametrize("protocol", KIND)
def test_every_way_to_a_published_port(engine, served, protocol):
    everywhere, four, six = (served[name, protocol] for name in ("all", "four", "six"))
    gateway = engine.api("GET", "/containers/server/json").json["NetworkSettings"]["Gateway"]
    address = engine.api("GET", "/containers/server/json").json["NetworkSettings"]["IPAddress"]
    for where, port in (("127.0.0.1", everywhere), (gateway, everywhere), ("::1", everywhere), ("127.0.0.1", four), ("::1", six), (address, 9000)):
        assert ask(protocol, where, port) == b"echo hello", (where, port)
    for name in ("server", "other"):
        assert ask_from(engine, name, protocol, gateway, everywhere) == "echo hello", "from a container by its host's address"
        assert ask_from(engine, name, protocol, address, 9000) == "echo hello"
        assert ask_from(engine, name, protocol, gateway, four) == "", "what is published on the loopback address is nowhere else"
    with pytest.raises(OSError):
        ask(protocol, "127.0.0.1", six)
    expected = sorted([f"0.0.0.0:{everywhere}", f"[::]:{everywhere}", f"127.0.0.1:{four}", f"[::1]:{six}"])
    shown = engine.docker("port", "server", f"9000/{protocol}").stdout.splitlines()
    assert sorted(re.sub(r"^(::1?):(\d+)$", r"[\1]:\2", line) for line in shown) == expected, "older clients write no brackets"
    assert sorted(engine.tare("port", "server", f"9000/{protocol}").stdout.splitlines()) == expected


def test_much_and_many_over_ipv6(engine, served):
    port = served["all", "tcp"]
    data = os.urandom(3 << 20)
    clients = []
    for number in range(40):  # at once, and each has its own answers
        client = socket.create_connection(("::1", port), timeout=10)
        client.sendall(b"%d" % number)
        clients.append(client)
    assert [client.recv(100) for client in clients] == [b"echo %d" % number for number in range(40)]
    for client in clients:
        client.close()
    with socket.create_connection(("::1", port), timeout=20) as client:
        received = bytearray()
        sent = 0
        client.setblocking(False)
        while sent < len(data):  # reads while it writes, or both sides wait
            try:
                sent += client.send(data[sent : sent + 65536])
            except BlockingIOError:
                pass
            try:
                received += client.recv(1 << 20)
            except BlockingIOError:
                pass
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        for piece in iter(lambda: client.recv(1 << 20), b""):
            received += piece
    assert bytes(received).replace(b"echo ", b"") == data.replace(b"echo ", b"")
    assert ask("udp", "::1", served["all", "udp"], b"x" * 60000) == b"echo " + b"x" * 60000
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two:
        for client, word in ((one, b"one"), (two, b"two"), (one, b"three")):
            client.settimeout(10)
            client.connect(("::1", served["all", "udp"]))
            client.send(word)
            assert client.recv(100) == b"echo " + word


def test_ports_over_ipv6_outlive_the_engine(engine, served):
    engine.kill()
    for protocol in KIND:
        assert ask(protocol, "::1", served["all", protocol]) == b"echo hello"
    engine.start()
    for protocol in KIND:
        assert ask(protocol, "::1", served["six", protocol]) == b"echo hello"


def test_a_port_of_ipv6_is_taken_once_and_freed(engine):
    port = free_port(KIND["tcp"])
    engine.tare("run", "-d", "--name", "first", "-p", f"[::1]:{port}:80", "busybox", "sleep", "1000")
    for client in (engine.tare, engine.docker):
        refused = client("run", "--rm", "-p", f"[::1]:{port}:80", "busybox", "true", check=False)
        assert refused.returncode == 125 and re.search(r"\[?::1\]?:%d" % port, refused.stderr), refused.stderr
    # Nobody listens inside: the connection is taken and closed, as by docker's proxy.
    with socket.create_connection(("::1", port), timeout=10) as client:
        assert client.recv(10) == b""
    engine.tare("rm", "-f", "first")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", port), timeout=10)
    assert engine.tare("run", "--rm", "-p", f"[::1]:{port}:80", "busybox", "echo", "free").stdout == "free\n"


def test_the_bridge_keeps_its_hardware_address(engine):
    """Whoever comes or goes: at another one, its neighbours would send to where nobody is."""
    gateway = engine.api("GET", "/networks/bridge").json["IPAM"]["Config"][0]["Gateway"]
    bridge = subprocess.run(["ip", "-br", "address", "show", "to", gateway], capture_output=True, text=True, check=True).stdout.split()[0]

    def address():
        return subprocess.run(["cat", f"/sys/class/net/{bridge}/address"], capture_output=True, text=True, check=True).stdout.strip()

    names = [f"passing{number}" for number in range(4)]
    expected = "02:42:" + ":".join(f"{int(part):02x}" for part in gateway.split("."))
    assert address() == expected
    for name in names:
        engine.tare("run", "-d", "--name", name, "busybox", "sleep", "1000")
        assert address() == expected
    engine.kill()  # and with it what it kept in stock
    assert address() == expected
    engine.start()
    engine.tare("rm", "-f", *names)
    assert address() == expected


def test_the_sandbox_has_a_name(engine):
    shown = lambda name: engine.api("GET", f"/containers/{name}/json").json["NetworkSettings"]
    inside = lambda key: subprocess.run(["nsenter", f"--net={key}", "readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True).stdout.strip()
    for network, restart in (("bridge", "no"), ("none", "no"), ("host", "no"), ("bridge", "always")):
        engine.tare("run", "-d", "--name", "named", "--network", network, "--restart", restart, "busybox", "sleep", "1000")
        theirs = engine.tare("exec", "named", "readlink", "/proc/self/ns/net").stdout.strip()
        settings = shown("named")
        assert re.fullmatch("[0-9a-f]{64}", settings["SandboxID"])
        assert inside(settings["SandboxKey"]) == theirs
        if restart == "always":  # started again by its shim
            before = engine.tare("inspect", "-f", "{{.State.Pid}}", "named").stdout
            os.kill(int(before), 9)
            wait_until(lambda: engine.tare("inspect", "-f", "{{.State.Pid}}", "named").stdout not in (before, "0\n"), lambda: "", 10)
            assert inside(shown("named")["SandboxKey"]) == engine.tare("exec", "named", "readlink", "/proc/self/ns/net").stdout.strip()
        engine.tare("rm", "-f", "named")
        assert not os.path.lexists(settings["SandboxKey"])
    engine.tare("create", "--name", "named", "busybox", "true")
    assert (shown("named")["SandboxID"], shown("named")["SandboxKey"]) == ("", "")
    engine.tare("rm", "named")
