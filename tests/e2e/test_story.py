"""The main job, as a person does it: a Debian root, a Dockerfile that installs packages, a server that runs, is looked into, changed, stopped and removed."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.request

import docker as sdk
import pytest

from conftest import make_engine, finish, program_directory
from inputs import debian_root

# What an engine without images has: its database, its lock, and the mount points that every container finds.
OWN = ("tare.db", "tared.lock", "init/")

DOCKERFILE = """FROM debian:12
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light python3 && rm -rf /var/lib/apt/lists/*
RUN echo '<h1>Hello, tare!</h1>' > /var/www/html/index.html
EXPOSE 80
CMD ["nginx","-g","daemon off;"]
"""


@pytest.fixture(scope="module")
def story():
    running = make_engine().start()
    running.tare("import", str(debian_root()), "debian:12")
    yield running
    finish(running)


@pytest.fixture
def context(tmp_path):
    (tmp_path / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    return str(tmp_path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, wanted):
    """The page, once it says what is wanted."""
    deadline = time.monotonic() + 20
    while True:
        try:
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
            if wanted in page:
                return page
        except OSError:
            page = None
        assert time.monotonic() < deadline, f"the page says {page!r}"
        time.sleep(0.05)


class Terminal:
    """A real terminal: tmux on a socket of its own."""

    def __init__(self, engine, command):
        self.socket = os.path.join(engine.directory, f"tmux{time.monotonic_ns()}")  # one that ends may still answer
        self.environment = {**os.environ, "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "HOME": engine.directory}
        self.tmux("new-session", "-d", "-x", "100", "-y", "30", command)

    def tmux(self, *arguments):
        done = subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=20)
        return done.stdout

    def type(self, keys):
        self.tmux("send-keys", keys, "Enter")

    def wait_for(self, text):
        deadline = time.monotonic() + 15
        while text not in (screen := self.tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"no {text!r} on the screen:\n{screen}"
            time.sleep(0.05)
        return screen

    def close(self):
        self.tmux("kill-server")


# What nginx makes when it starts, what bash leaves, and the page.
CHANGES = """C /root
A /root/.bash_history
C /run
A /run/nginx.pid
C /var
C /var/lib
C /var/lib/nginx
A /var/lib/nginx/body
A /var/lib/nginx/fastcgi
A /var/lib/nginx/proxy
A /var/lib/nginx/scgi
A /var/lib/nginx/uwsgi
C /var/log
C /var/log/nginx
C /var/log/nginx/access.log
C /var/www
C /var/www/html
C /var/www/html/index.html
"""


def commit_it(run, port, page):
    """The tutorial's story: the running server's changes become an image, and those of that image's container another one."""
    assert sorted(run("diff", "server").stdout.splitlines()) == sorted(CHANGES.splitlines())
    first = run("commit", "--author", "Tao Wang <twang2218@gmail.com>", "--message", "修改了默认网页", "server", "web:v2").stdout
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", first)
    history = run("history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Comment}}", "web:v2").stdout.splitlines()
    assert history[0] == f"{first.strip()}|nginx -g daemon off;|修改了默认网页"
    assert history[1].startswith(run("inspect", "-f", "{{.Id}}", "web").stdout.strip() + "|")
    assert run("inspect", "-f", "{{.Author}}|{{.Comment}}", "web:v2").stdout == "Tao Wang <twang2218@gmail.com>|修改了默认网页\n"
    other = free_port()
    run("run", "-d", "--name", "web2", "-p", f"{other}:80", "web:v2")
    assert fetch(other, "edited in") == page == fetch(port, "edited in")
    run("exec", "web2", "sh", "-c", "echo third > /var/www/html/index.html")
    run("commit", "web2", "web:v3")
    layers = [json.loads(run("inspect", "-f", "{{json .RootFS.Layers}}", image).stdout) for image in ("web", "web:v2", "web:v3")]
    assert layers[1][:-1] == layers[0] and layers[2][:-1] == layers[1]
    run("rm", "-f", "web2")
    run("image", "rm", "web:v3", "web:v2")


def client_program(name):
    return os.path.join(program_directory(), "tare") if name == "tare" else name


@pytest.mark.parametrize("name", ["tare", *(path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if os.path.exists(path))])
def test_build_run_edit_stop_remove(story, context, name):
    if not os.path.exists(client_program(name)):
        name = "docker"
    run = lambda *arguments, **options: story.client(client_program(name), *arguments, **options)
    built = run("build", "--no-cache", "-t", "web", context, timeout=300)
    assert "Step 5/5 : CMD [\"nginx\",\"-g\",\"daemon off;\"]" in built.stdout
    assert built.stdout.rstrip().endswith("Successfully tagged web:latest")
    port = free_port()
    identifier = run("run", "-d", "--name", "server", "-p", f"{port}:80", "web").stdout.strip()
    assert len(identifier) == 64
    fetch(port, "<h1>Hello, tare!</h1>")
    listed = run("ps", "--format", "{{.Names}} {{.Image}} {{.Ports}}").stdout
    assert f"server web 0.0.0.0:{port}->80/tcp" in listed

    terminal = Terminal(story, f"{client_program(name)} exec -it server bash")
    terminal.wait_for(f"root@{identifier[:12]}:/#")
    terminal.type("echo \"<h1>edited in $(hostname), $(tput cols 2>/dev/null || stty size)</h1>\" > /var/www/html/index.html; tty")
    terminal.wait_for("/dev/pts/")
    terminal.type("exit")
    page = fetch(port, "edited in")
    terminal.close()
    assert identifier[:12] in page
    commit_it(run, port, page)

    begin = time.monotonic()
    run("stop", "server")
    assert time.monotonic() - begin < 9, "nginx ends at SIGTERM, within its grace time"
    assert run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "server").stdout == "exited 0\n"
    run("rm", "server")
    removed = run("image", "rm", "web").stdout
    assert removed.startswith("Untagged: web:latest\nDeleted: sha256:")


def test_the_python_sdk_does_it_too(story, context):
    client = sdk.DockerClient(base_url=story.host, version="auto")
    image, _ = client.images.build(path=context, tag="sdk-web", rm=True)
    assert "sdk-web:latest" in image.tags
    container = client.containers.run("sdk-web", detach=True, ports={"80/tcp": None}, name="sdk-server")
    container.reload()
    port = int(container.ports["80/tcp"][0]["HostPort"])
    fetch(port, "<h1>Hello, tare!</h1>")
    status, output = container.exec_run(["sh", "-c", "echo from the sdk > /var/www/html/index.html; cat /var/www/html/index.html"])
    assert (status, output) == (0, b"from the sdk\n")
    fetch(port, "from the sdk")
    assert container.diff() is not None
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 0
    container.remove()
    client.images.remove("sdk-web")
    client.close()


def test_nothing_remains_in_the_data_root(story):
    for line in story.tare("image", "ls", "-aq").stdout.split():
        story.tare("image", "rm", "-f", line, check=False)
    assert story.tare("image", "ls", "-aq").stdout == ""
    deadline = time.monotonic() + 5
    while True:  # files of removed layers go in the background
        files = [os.path.join(folder, name) for folder, _, names in os.walk(story.data_root) for name in names]
        files = [file for file in files if not os.path.relpath(file, story.data_root).startswith(OWN)]
        if not files or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert files == []
    assert os.listdir(os.path.join(story.data_root, "containers")) == []
