"""Conventions of the command line: what docker 28.2 says and returns, tare says and returns, whatever way leads to the engine."""

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import time

import pytest

from conftest import NEWER_DOCKER, newer_client, program_directory
from inputs import busybox_root
from secure_shell import SecureShell
from test_story import Terminal

TARE = os.path.join(program_directory(), "tare")
DOCKER = NEWER_DOCKER or "/usr/bin/docker"
NO_ENGINE = "Cannot connect to the Docker daemon at {}. Is the docker daemon running?\n"


@pytest.fixture(scope="module", autouse=True)
def scene(engine):
    """An image, a container that runs and one that ran."""
    engine.tare("import", str(busybox_root()), "busybox")
    engine.tare("run", "-d", "--name", "web", "--label", "a=b", "busybox", "sleep", "1000")
    engine.tare("run", "--name", "done", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    return engine


@pytest.fixture(scope="module")
def named_docker(tmp_path_factory):
    """tare under docker's name: then every text is to be the same, letter by letter."""
    link = tmp_path_factory.mktemp("named") / "docker"
    link.symlink_to(TARE)
    return str(link)


def settled(text):
    """Without what only the stock client says: that its own builder is deprecated, and a slip of its typist."""
    return re.sub(r"DEPRECATED: The legacy builder(.*\n)*?\n", "", text).replace("\n\nSRun 'docker ", "\n\nRun 'docker ")


def ageless(text):
    """Without how long ago things were, which goes on while commands run, and what engines count of themselves."""
    text = re.sub(r"Less than a second|\d+ seconds?|About a minute|\d+ minutes?", "AGE", text)
    return re.sub(r"  +", "  ", re.sub(r"System Time: .*|Goroutines.*|File Descriptors: .*", "", text))


def both(engine, named_docker, *words, **options):
    ours, theirs = (engine.client(program, *words, check=False, **options) for program in (named_docker, DOCKER))
    return (ours.returncode, ours.stdout, ours.stderr), (theirs.returncode, theirs.stdout, settled(theirs.stderr))


# ---- spelling of commands and flags ----


@pytest.mark.parametrize(
    "spellings",
    [
        ["ps", "container ls", "container list", "container ps"],
        ["images", "image ls", "image list"],
        ["inspect web --type container", "container inspect web"],
        ["logs done", "container logs done", "container logs -- done", "logs done --tail=all", "logs --tail all done", "logs -nall done", "logs -n=all done"],
        ["history busybox", "image history busybox", "image history busybox -H=true"],
        ["version", "version"], ["info", "system info"], ["network ls", "network list"], ["volume ls", "volume list"],
        ["port web", "container port web"], ["top web", "container top web"], ["diff web", "container diff web"],
        ["ps -aq --no-trunc", "ps -a -q --no-trunc=true", "ps --all --quiet --no-trunc", "ps -qa --no-trunc --", "container ls -aq --no-trunc --size=false", "ps -qf status=running -aq --filter=status=exited --no-trunc"],
        ["run --rm -i busybox cat", "run --rm --interactive=true busybox cat", "container run -i --rm busybox cat", "run --rm=true -i=1 -- busybox cat"],
        ["run --rm busybox echo -n --rm -- x", "container run --rm -- busybox echo -n --rm -- x"],
        ["exec web sh -c exit\\ 4", "container exec web sh -c exit\\ 4", "exec -e A=b -eC=d --env=E=f web sh -c exit\\ 4"],
    ],
    ids=lambda spellings: spellings[0],
)
def test_spellings_are_one(engine, spellings):
    def words(text):
        return [word.replace("\x00", " ") for word in text.replace("\\ ", "\x00").split(" ")]

    seen = [engine.tare(*words(spelling), input="text", check=False) for spelling in spellings]
    results = [(one.returncode, ageless(one.stdout), one.stderr) for one in seen]
    assert results[0][0] in (0, 4), results[0]
    assert results == [results[0]] * len(results) or "ps -qf" in spellings[-1] and results[:-1] == [results[0]] * (len(results) - 1)


def test_filters_add_up(engine):
    assert len(engine.tare("ps", "-qf", "status=running", "-a", "--filter=status=exited").stdout.split()) == 2


@pytest.mark.parametrize("build", [["build"], ["image", "build"], ["builder", "build"]])
def test_build_by_three_names(engine, build, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nLABEL made=yes\n", encoding="utf-8")
    output = engine.tare(*build, str(tmp_path), "-t", "built", "--rm=false").stdout
    assert output.endswith("Successfully tagged built:latest\n")


@pytest.mark.parametrize("remove", [["rmi"], ["image", "rm"], ["image", "remove"]])
def test_image_removal_by_three_names(engine, remove):
    engine.tare("tag", "busybox", "other:1")
    assert engine.tare(*remove, "other:1").stdout == "Untagged: other:1\n"


@pytest.mark.parametrize("remove", [["rm"], ["container", "rm"], ["container", "remove"]])
def test_container_removal_by_three_names(engine, remove):
    engine.tare("create", "--name", "short", "busybox", "sh")
    assert engine.tare(*remove, "short", "-f").stdout == "short\n"


def test_flags_stop_at_the_image(engine):
    assert engine.tare("run", "--rm", "busybox", "echo", "--name", "x", "-it").stdout == "--name x -it\n"
    name = engine.tare("create", "busybox", "echo", "--name", "x").stdout.strip()
    assert engine.api("GET", f"/containers/{name}/json").json["Args"] == ["--name", "x"]
    engine.tare("rm", name)
    assert engine.tare("exec", "web", "echo", "x", "-e", "--privileged").stdout == "x -e --privileged\n"


def test_ports_stuck_to_their_letter(engine):
    name = engine.tare("create", "-p80:80", "-p=81:81", "-itP=true", "busybox", "sh").stdout.strip()
    created = engine.api("GET", f"/containers/{name}/json").json
    assert sorted(created["HostConfig"]["PortBindings"]) == ["80/tcp", "81/tcp"]
    assert created["Config"]["Tty"] and created["Config"]["OpenStdin"] and created["HostConfig"]["PublishAllPorts"]
    engine.tare("rm", name)


# ---- what is wrong, in docker's words ----

WRONG = """
run
run --rm
run --nope busybox
run -Z busybox
run -itZ busybox
run --name
run -p
run --rm=perhaps busybox
run --memory lots busybox
run --cpus many busybox
run -p 99999:80 busybox
run -p a:b:c:d busybox
run --network busybox
run --restart sometimes busybox
run --restart always --rm busybox
run -d -a stdout busybox
run --ulimit nofile busybox
run --mount type=bind busybox
run --mount nonsense busybox
run --pull sometimes busybox
run --device /dev/nothing/there:rw:x:y busybox
run --health-cmd x --no-healthcheck busybox
run --no-healthcheck --health-interval 1s busybox
run --stop-timeout x busybox
run --env-file /nothing/there busybox
run --label-file /nothing/there busybox
run --add-host nonsense busybox
run --attach nowhere busybox
run --pid nobody busybox
run --uts nobody busybox
run --memory-swappiness 200 busybox
run --log-driver none --log-opt a=b busybox
run --storage-opt x busybox
run --expose 99999 busybox
run --security-opt nonsense:x busybox
run --volume a:b:c:d busybox
run --entrypoint nothing-there --rm busybox
run --rm busybox nothing-there
run --rm busybox /etc/passwd
run --rm -w /etc/passwd busybox true
run --rm -u nobody-there busybox true
run --name web busybox
run UPPER
run busybox:
run --cidfile /etc/passwd busybox
create
create --nope
create --name web busybox
exec
exec web
exec --nope web sh
exec nobody sh
exec done sh
exec -d web nothing-there
exec web nothing-there
exec -u nobody-there web sh
exec -w /nothing web sh
start
start nobody
start -a web done
stop
stop nobody web2
stop -t x web
stop --time 1 --timeout 2 web
restart nobody
kill nobody
kill done
kill -s NOPE web
pause done
pause nobody
unpause web
rm
rm web
rm nobody
rename web
rename nobody other
rename web done
rename web web
logs
logs nobody
logs --tail x web
logs --since yesterday web
attach
attach done
attach nobody
cp web:/etc/passwd
cp web:/nothing /tmp/
cp nobody:/x /tmp/
cp web:/a done:/b
cp a b
diff nobody
top nobody
top done
port nobody
port web 80
port web 80/x/y
export nobody
wait nobody
update
update nobody
update --memory lots web
commit nobody
commit web UPPER
inspect
inspect nobody
inspect --type image web
inspect --type nonsense web
inspect -f {{.Nope}} web
inspect -f {{.Nope web
inspect -f {{nope}} web
ps extra
ps --nope
ps --filter nonsense=x
ps --filter x
ps --format {{.Nope}}
ps --format {{.ID
ps -n x
images a b
images --filter nonsense=x
images UPPER
history
history nobody
rmi
rmi nobody
rmi busybox
tag
tag busybox
tag nobody x
tag busybox UPPER
save
save nobody
load extra
load -i /nothing/there
import
import /nothing/there
build
build a b
build /nothing/there
build --nope .
build -t UPPER /tmp
builder
builder nonsense
version extra
version --format {{.Nope}}
version --nope
info extra
info --format {{.Nope}}
events extra
events --since yesterday
stats nobody --no-stream
stats --nope
network
network nonsense
network create
network inspect nobody
network rm nobody
network connect bridge
volume inspect nobody
volume rm nobody
volume create a b
system
system nonsense
system df extra
system df --format {{.Nope}}
container
container nonsense
container ls extra
container prune extra
image nonsense
image
nonsense
--nope
-Z
--nope ps
-H
ps -H x
--log-level nonsense ps
--context nobody ps
-H unix:///a -H unix:///b ps
--context x -H unix:///a ps
-H nonsense://x ps
-H tcp:// ps
-H ssh:// ps
help nonsense
context
context nonsense
context use
context use nobody
context inspect nobody
context rm nobody
context rm default
context create
context create default
context create UPPER/x
context create x --docker nonsense
""".strip().splitlines()


@pytest.mark.parametrize("line", WRONG)
def test_wrong_calls_are_answered_as_docker_does(engine, named_docker, line):
    ours, theirs = both(engine, named_docker, *line.split(" "), input="")
    assert ours == theirs


HELP = ["", "run", "container", "image ls", "system df", "context create", "builder", "ps"]


@pytest.mark.parametrize("topic", HELP)
def test_three_ways_to_help(engine, topic):
    words = topic.split()
    texts = [engine.tare(*given).stdout for given in ([*words, "--help"], ["help", *words])]
    assert texts[0] == texts[1] and texts[0].lstrip().startswith("Usage:  tare")


def test_the_name_is_the_only_difference(engine, named_docker):
    for words in (["ps", "-a", "--no-trunc"], ["nonsense"], ["run"], ["image", "--help"], ["run", "--nope"], ["inspect", "nobody"], ["history"]):
        mine, named = (engine.client(program, *words, check=False) for program in (TARE, named_docker))
        texts = [re.sub(r"\bdocker(?=[:' ])", "tare", text) for text in (ageless(named.stdout), named.stderr)]
        shown = re.sub(r"\nOnly in tare:\n( +.*\n)+", "", mine.stdout)
        assert (named.returncode, *texts) == (mine.returncode, ageless(shown), mine.stderr)


# ---- where the engine is ----


def plain(engine, *words, check=True, home=None, **environment):
    """tare with nothing in its environment but what is given."""
    result = subprocess.run([TARE, *words], env={"PATH": os.environ["PATH"], "HOME": home or engine.directory, **environment}, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert not check or result.returncode == 0, result.stderr
    return result


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return str(tmp_path / "home")


def test_order_of_the_hosts(engine, home):
    right, wrong = engine.host, "unix:///nothing/there"
    assert plain(engine, "-H", right, "ps", "-q", home=home, TARE_HOST=wrong, DOCKER_HOST=wrong).returncode == 0
    assert plain(engine, "ps", "-q", home=home, TARE_HOST=right, DOCKER_HOST=wrong).returncode == 0
    assert plain(engine, "ps", "-q", home=home, DOCKER_HOST=right, DOCKER_CONTEXT="nobody").returncode == 0
    plain(engine, "context", "create", "right", "--docker", f"host={right}", home=home)
    plain(engine, "context", "create", "wrong", "--docker", f"host={wrong}", home=home)
    plain(engine, "context", "use", "wrong", home=home)
    assert plain(engine, "ps", "-q", home=home, DOCKER_HOST=right).returncode == 0
    assert plain(engine, "ps", "-q", home=home, DOCKER_CONTEXT="right").returncode == 0
    assert plain(engine, "--context", "right", "ps", "-q", home=home, DOCKER_HOST=wrong).returncode == 0
    assert plain(engine, "-c=right", "ps", "-q", home=home, DOCKER_CONTEXT="wrong").returncode == 0
    assert plain(engine, "-Hunix:///other", "ps", check=False, home=home).stderr == NO_ENGINE.format("unix:///other")
    failed = plain(engine, "ps", check=False, home=home)
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", NO_ENGINE.format(wrong))
    plain(engine, "context", "use", "default", home=home)
    # In mounts of its own: this machine may have an engine at the default place.
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$0" ps', TARE]
    failed = subprocess.run(alone, env={"PATH": os.environ["PATH"], "HOME": home}, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", NO_ENGINE.format("unix:///run/tare/tare.sock"))


@pytest.mark.parametrize("words", [["ps"], ["run", "busybox"], ["create", "busybox"], ["exec", "web", "sh"], ["images"], ["build", "."], ["info"], ["version"], ["inspect", "x"], ["rm", "x"], ["stop", "x"], ["logs", "x"], ["events"], ["pull", "x"], ["system", "df"]])
@pytest.mark.parametrize("host", ["unix:///nothing/there", "tcp://127.0.0.1:1", "tcp://localhost:1"])
def test_no_engine(engine, named_docker, tmp_path, words, host):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    results = []
    for program in (named_docker, DOCKER):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
        result = subprocess.run([program, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
        results.append((result.returncode, settled(result.stderr)))
    if words[0] not in ("info", "version"):
        assert NO_ENGINE.format(host).strip() in results[0][1]
    # Its threads speak of the context that they cannot send any more, in the order in which they notice.
    assert results[0] == (results[1][0], re.sub(r'time="[^"]*" level=error .*\n', "", results[1][1]))


def test_contexts_are_dockers(engine, named_docker, home):
    """What one client writes, the other reads; the texts are the same."""
    environment = {"PATH": os.environ["PATH"], "HOME": home}

    def call(program, *words):
        result = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout, result.stderr

    for n, (maker, reader) in enumerate([(named_docker, DOCKER), (DOCKER, named_docker)]):
        name = f"c{n}"
        assert call(maker, "context", "create", name, "--docker", f"host={engine.host}", "--description", "some words") == (0, f"{name}\n", f'Successfully created context "{name}"\n')
        assert call(reader, "context", "use", name) == (0, f"{name}\n", f'Current context is now "{name}"\n')
        assert call(reader, "ps", "-q")[0] == 0
        shown = [call(program, "context", "inspect", name) for program in (named_docker, DOCKER)]
        assert shown[0] == shown[1] and json.loads(shown[0][1])[0]["Endpoints"]["docker"]["Host"] == engine.host
        for words in (["ls", "-q"], ["show"], ["inspect", "--format", "{{.Name}}", name], ["rm", name], ["create", name], ["use", "nobody"], ["rm", "nobody"]):
            results = [call(program, "context", *words) for program in (named_docker, DOCKER)]
            assert results[0] == results[1], words
        listed = [re.sub(r"unix:///(var/run/docker|run/tare/tare).sock +", "SOCKET ", call(program, "context", "ls")[1]) for program in (named_docker, DOCKER)]
        assert re.sub(" +", " ", listed[0]) == re.sub(" +", " ", listed[1])
    assert call(named_docker, "context", "rm", "-f", "c0", "c1") == (0, "c0\nc1\n", "") and call(DOCKER, "context", "ls", "-q")[1] == "default\n"


def test_config_debug_level_version(engine, home, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"psFormat": "{{.Names}}!"}), encoding="utf-8")
    assert engine.tare("--config", str(tmp_path), "ps").stdout == "web!\n"
    assert engine.tare("ps", env={"DOCKER_CONFIG": str(tmp_path)}).stdout == "web!\n"
    assert engine.tare("-D", "-l", "debug", "--log-level=error", "ps", "-q").stdout.strip()
    assert re.fullmatch(r"tare version \d+\.\d+\.\d+\S*\n", engine.tare("-v").stdout)
    assert engine.tare("--version", "ps").stdout == engine.tare("-v").stdout


# ---- TLS ----


def openssl(*words, cwd):
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities; a server's and a client's pair by the first, a client's pair by the second."""
    top = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}", "-keyout", f"{authority}-key.pem", "-out", f"{authority}.pem", cwd=top)
    for folder, authority, use in (("server", "ca", "serverAuth"), ("client", "ca", "clientAuth"), ("stranger", "other", "clientAuth")):
        (top / folder).mkdir()
        (top / folder / "ext").write_text(f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={use}\n", encoding="utf-8")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={folder}", "-keyout", "key.pem", "-out", "request", cwd=top / folder)
        openssl("x509", "-req", "-in", "request", "-CA", f"../{authority}.pem", "-CAkey", f"../{authority}-key.pem", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", "cert.pem", cwd=top / folder)
        shutil.copy(top / "ca.pem", top / folder / "ca.pem")
    (top / "bare").mkdir()
    shutil.copy(top / "ca.pem", top / "bare" / "ca.pem")
    return top


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def tls_engine(new_engine, certificates):
    port = free_port()
    server = certificates / "server"
    made = new_engine("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(server / "ca.pem"), "--tlscert", str(server / "cert.pem"), "--tlskey", str(server / "key.pem"))
    made.flags += ["-H", made.host]
    made.start()
    made.address = f"tcp://127.0.0.1:{port}"
    made.tare("import", str(busybox_root()), "busybox")
    return made


def test_tls(tls_engine, certificates, tmp_path):
    client = certificates / "client"
    files = ["--tlscacert", str(client / "ca.pem"), "--tlscert", str(client / "cert.pem"), "--tlskey", str(client / "key.pem")]
    for program in (TARE, DOCKER):
        def call(*words, program=program, input=None, **environment):
            given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment}
            return subprocess.run([program, *words], env=given, capture_output=True, input=input, timeout=120, check=False)

        at = ["-H", tls_engine.address]
        assert call(*at, "--tlsverify", *files, "images", "-q").stdout.strip()
        assert call(*at, "--tls", *files, "images", "-q").stdout.strip()
        assert call("images", "-q", DOCKER_HOST=tls_engine.address, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(client)).stdout.strip()
        if program == TARE:
            assert call("images", "-q", TARE_HOST=tls_engine.address, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(client)).stdout.strip()
        for folder in ("bare", "stranger"):
            failed = call(*at, "images", DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(certificates / folder))
            assert failed.returncode == 1 and failed.stdout == b"" and re.search(b"certificate|unknown ca", failed.stderr), failed
        wrong_authority = call(*at, "--tlsverify", *files[2:], "--tlscacert", str(certificates / "other.pem"), "images")
        assert wrong_authority.returncode == 1 and b"certificate" in wrong_authority.stderr
        assert call(*at, "images").returncode == 1
        missing = call(*at, "--tlsverify", "--tlscacert", "/nothing/ca.pem", "images")
        assert missing.returncode == 1 and b"open /nothing/ca.pem: no such file or directory" in missing.stderr
        # A context carries the files.
        assert call("context", "create", "far", "--docker", f"host={tls_engine.address},ca={client}/ca.pem,cert={client}/cert.pem,key={client}/key.pem").returncode == 0
        assert call("--context", "far", "images", "-q").stdout.strip()
        assert call("context", "rm", "far").returncode == 0
        # The raw connection, 50 MB there and back, with both ends closing.
        big = os.urandom(1 << 20) * 50
        sums = call(*at, "--tlsverify", *files, "run", "--rm", "-i", "busybox", "sha256sum", input=big)
        expected = subprocess.run(["sha256sum"], input=big, capture_output=True, check=True).stdout
        assert sums.stdout == expected, (program, sums.stderr)
        name = call(*at, "--tlsverify", *files, "run", "-d", "busybox", "sleep", "1000").stdout.decode().strip()
        assert call(*at, "--tlsverify", *files, "exec", "-i", name, "cat", input=big).stdout == big
        assert call(*at, "--tlsverify", *files, "rm", "-f", name).returncode == 0


@pytest.mark.parametrize("program", [TARE, DOCKER], ids=["tare", "docker"])
def test_a_terminal_over_tls(tls_engine, certificates, program):
    """run -it, exec -it and attach: echo, window size, signals of the keyboard, detaching and exit statuses, over an encrypted connection."""
    client = certificates / "client"
    call = f"{program} -H {tls_engine.address} --tlsverify --tlscacert {client}/ca.pem --tlscert {client}/cert.pem --tlskey {client}/key.pem"
    terminal = Terminal(tls_engine, "sh")
    try:
        terminal.tmux("resize-window", "-x", "100", "-y", "30")
        terminal.type(f"PS1='host> '; clear; {call} run -it --name inner busybox sh; echo left $?")
        terminal.wait_for("/ #")
        terminal.type("echo $((6*7))answer; stty size")
        terminal.wait_for("42answer")
        terminal.wait_for("30 100")
        terminal.tmux("resize-window", "-x", "90", "-y", "25")
        time.sleep(0.3)
        terminal.type("clear; stty size")
        terminal.wait_for("25 90")
        terminal.type("sleep 1000; echo ended $?")
        time.sleep(0.3)
        terminal.tmux("send-keys", "C-c")
        terminal.wait_for("/ #")
        terminal.type("clear; seq 1 20000 | tail -n 1; echo through")
        terminal.wait_for("20000\nthrough")
        terminal.tmux("send-keys", "C-p", "C-q")
        terminal.wait_for("host>")
        assert tls_engine.api("GET", "/containers/inner/json").json["State"]["Running"]
        size = 'until stty size 2>/dev/null | grep "25 90"; do sleep 0.1; done'  # older clients say it after the start
        terminal.type(f"clear; {call} exec -it inner sh -c 'tty; {size}; exec sh'; echo left $?")
        terminal.wait_for("/dev/pts/")
        terminal.wait_for("25 90")
        terminal.type("exit 5")
        terminal.wait_for("left 5")
        terminal.type(f"clear; {call} attach inner; echo left $?")
        time.sleep(0.5)
        terminal.type("")
        terminal.wait_for("/ #")
        terminal.type("exit 3")
        terminal.wait_for("left 3")
    finally:
        terminal.close()


def test_tcp_without_tls_needs_a_word(new_engine, tmp_path):
    port = free_port()
    refused = new_engine("-H", f"tcp://127.0.0.1:{port}")
    refused.start(expect_ready=False)
    assert refused.process.wait(timeout=20) != 0
    assert "without verified clients" in refused.log
    refused.process = None
    refused.flags = []
    allowed = new_engine("-H", f"tcp://127.0.0.1:{port}", "--tls=false")
    allowed.flags += ["-H", allowed.host]
    allowed.start()
    assert "anybody who reaches this address is root" in allowed.log
    for program in (TARE, DOCKER):
        given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": f"tcp://127.0.0.1:{port}"}
        assert subprocess.run([program, "ps", "-q"], env=given, capture_output=True, check=False).returncode == 0


# ---- ssh ----


@pytest.fixture(scope="module")
def ssh(tmp_path_factory, engine):
    """A server of the test's own on loopback; a directory in front of its PATH has tare under the name docker."""
    server = SecureShell(tmp_path_factory.mktemp("ssh"), {"docker": TARE, "tare": TARE}, DOCKER_HOST=engine.host)

    def call(program, *words, input=None, host=f"ssh://{server.user}@127.0.0.1:{server.port}"):
        environment = {"PATH": f"{server.clients}:{os.environ['PATH']}", "HOME": server.directory, "DOCKER_HOST": host}
        return subprocess.run([program, *words], env=environment, capture_output=True, input=input, timeout=120, check=False)

    call.port = server.port
    yield call
    server.close()


@pytest.mark.parametrize("program", [TARE, DOCKER])
def test_ssh(ssh, program):
    listed = ssh(program, "ps", "--format", "{{.Names}}")
    assert (listed.returncode, listed.stdout) == (0, b"web\n"), listed.stderr
    big = os.urandom(1 << 20) * 20
    back = ssh(program, "exec", "-i", "web", "cat", input=big)
    assert back.stdout == big, back.stderr
    assert ssh(program, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 5", input=b"hello").stdout == b"hello"
    assert ssh(program, "run", "--rm", "busybox", "sh", "-c", "exit 5").returncode == 5


@newer_client
def test_ssh_that_fails(ssh):
    ours, theirs = (ssh(program, "ps", host="ssh://nobody-there@127.0.0.1:1") for program in (TARE, DOCKER))
    assert ours.returncode == theirs.returncode == 1
    assert b"Connection refused" in ours.stderr


# ---- images between hosts ----


def test_images_between_engines(ssh, engine, new_engine, tmp_path):
    """Two engines and a local sshd, no registry: what the other side has is not sent again."""
    far = new_engine()
    far.start()
    host = f"ssh://{getpass.getuser()}@127.0.0.1:{ssh.port}{far.socket}"

    def call(*words):
        return ssh(TARE, *words, host=engine.host)

    payload = os.urandom(1 << 20)
    (tmp_path / "payload").write_bytes(payload)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY payload /payload\n", encoding="utf-8")
    engine.tare("build", "-q", "-t", "carried:1", str(tmp_path))
    (tmp_path / "Dockerfile").write_text("FROM carried:1\nRUN echo more > /more\n", encoding="utf-8")
    engine.tare("build", "-q", "-t", "carried:2", str(tmp_path))
    layers = [layer[7:19] for layer in json.loads(engine.tare("image", "inspect", "-f", "{{json .RootFS.Layers}}", "carried:2").stdout)]
    first = call("image", "push-to", host, "carried:1")
    assert (first.returncode, first.stdout, first.stderr) == (0, b"Loaded image: carried:1\n", b"")
    second = call("image", "push-to", host, "carried:2", "carried:1")
    assert second.returncode == 0 and second.stdout.decode().splitlines() == [f"{layer}: Already exists" for layer in layers[:2]] + ["Loaded image: carried:2", "Loaded image: carried:1"], second
    for tag in ("1", "2"):
        ids = {one.tare("image", "inspect", "-f", "{{.Id}}", f"carried:{tag}").stdout for one in (engine, far)}
        assert len(ids) == 1
    assert far.tare("run", "--rm", "carried:2", "cat", "/more").stdout == "more\n"
    # The archive that went over had the one layer alone.
    whole, rest = (len(engine.api("GET", "/images/get?names=carried:2" + "".join(f"&without={layer}" for layer in without)).body) for without in ([], json.loads(engine.tare("image", "inspect", "-f", "{{json .RootFS.Layers}}", "carried:1").stdout)))
    assert rest < 40000 < len(payload) < whole
    # And back.
    far.tare("tag", "carried:2", "returned:3")
    engine.tare("rmi", "carried:2")
    back = call("image", "pull-from", "-q", host, "returned:3")
    assert (back.returncode, back.stdout, back.stderr) == (0, b"", b"")
    assert engine.tare("run", "--rm", "returned:3", "cat", "/more").stdout == "more\n"
    missing = call("image", "pull-from", host, "absent")
    assert (missing.returncode, missing.stderr) == (1, b"Error response from daemon: no such image: absent: No such image: absent:latest\n")
    nobody = call("image", "push-to", f"ssh://{getpass.getuser()}@127.0.0.1:1", "carried:1")
    assert nobody.returncode == 1 and b"Connection refused" in nobody.stderr
    engine.tare("rmi", "returned:3", "carried:1")
