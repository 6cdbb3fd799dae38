"""The transcripts that people learn images from: each command of the chapter, and what it prints, line by line. Ids, sizes and ages differ; bases are made
from the local busybox, names that a registry would serve come from one on loopback."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading

import pytest

from conftest import finish, make_engine, program_directory
from inputs import busybox_root
from registries import DockerRegistry
from secure_shell import SecureShell

CLIENTS = {"tare": os.path.join(program_directory(), "tare"), "docker": "docker"}


def normal(text):
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "LONG", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\b\d[\d.]* ?[kMG]?B\b", "SIZE", text)
    text = re.sub(r"(\d+|About a|About an|Less than a) (second|minute|hour|day|week|month)s?( ago)?", "AGE", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines() if line.strip()]


class Shell:
    """A user at his prompt, in a directory of his own."""

    def __init__(self, name, engine, directory):
        self.engine, self.directory = engine, str(directory)
        programs = os.path.join(self.directory, "bin")
        os.mkdir(programs)
        os.symlink(shutil.which(CLIENTS[name]), os.path.join(programs, "docker"))
        self.env = {**os.environ, "PATH": programs + ":" + os.environ["PATH"], "DOCKER_HOST": engine.host, "TARE_HOST": engine.host, "DOCKER_BUILDKIT": "0", "HOME": self.directory, "DOCKER_CLI_HINTS": "false"}

    def run(self, command, check=True):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=self.env, cwd=self.directory, timeout=120, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def transcript(self, text):
        """Lines that begin with "$ " are typed, the others are what must come."""
        for part in re.split(r"^\$ ", text.strip(), flags=re.MULTILINE)[1:]:
            command, _, wanted = part.partition("\n")
            while command.endswith("\\"):
                more, _, wanted = wanted.partition("\n")
                command = command[:-1] + more
            assert normal(self.run(command)) == normal(wanted), command


@pytest.fixture(scope="module", params=["tare", "docker"])
def shell(request, tmp_path_factory):
    engine = make_engine().start()
    directory = tmp_path_factory.mktemp("tutorial")
    shutil.copy(busybox_root(), directory / "root.tar")
    there = SecureShell(tmp_path_factory.mktemp("there"), {"docker": shutil.which(CLIENTS[request.param])}, DOCKER_HOST=engine.host, TARE_HOST=engine.host, DOCKER_CLI_HINTS="false")
    one = Shell(request.param, engine, directory)
    one.env.update(PATH=f"{there.clients}:{one.env['PATH']}", THERE=f"-p {there.port} {there.user}@127.0.0.1")
    yield one
    there.close()
    finish(engine)


@pytest.fixture
def images(shell):
    """The list of the chapter: the oldest first, since lists begin with the newest."""
    def make(name, label=""):
        shell.run(f"printf 'FROM scratch\\nADD root.tar /\\nLABEL n={name}{label}\\nCMD [\"sh\"]\\n' | tee Dockerfile >/dev/null; docker build -q -t {name} . 2>/dev/null")

    make("ubuntu:18.04", " com.example.version=0.1")
    shell.run("docker tag ubuntu:18.04 ubuntu:bionic")
    make("mongo:3.2")
    make("mongo:3.2", " newer=1")
    make("nginx:latest")
    make("redis:latest")
    yield
    shell.run("docker rm -f $(docker ps -aq) 2>/dev/null; docker image prune -af", check=False)


def test_list(shell, images):
    shell.transcript(r"""
$ docker image ls
REPOSITORY           TAG                 IMAGE ID            CREATED             SIZE
redis                latest              5f515359c7f8        5 days ago          183 MB
nginx                latest              05a60462f8ba        5 days ago          181 MB
mongo                3.2                 fe9198c04d62        5 days ago          342 MB
<none>               <none>              00285df0df87        5 days ago          342 MB
ubuntu               18.04               329ed837d508        3 days ago          63.3MB
ubuntu               bionic              329ed837d508        3 days ago          63.3MB
$ docker system df | grep -v Build | sed 's/ \(24\|5\) / 24 /'
TYPE                TOTAL               ACTIVE              SIZE                RECLAIMABLE
Images              24                  0                   1.992GB             1.992GB (100%)
Containers          0                   0                   0B                  0B
Local Volumes       0                   0                   0B                  0B
$ docker image ls -f dangling=true
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
<none>              <none>              00285df0df87        5 days ago          342 MB
$ docker image ls ubuntu
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
ubuntu              18.04               329ed837d508        3 days ago          63.3MB
ubuntu              bionic              329ed837d508        3 days ago          63.3MB
$ docker image ls ubuntu:18.04
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
ubuntu              18.04               329ed837d508        3 days ago          63.3MB
$ docker image ls -f since=mongo:3.2
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
redis               latest              5f515359c7f8        5 days ago          183 MB
nginx               latest              05a60462f8ba        5 days ago          181 MB
$ docker image ls -f label=com.example.version=0.1
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
ubuntu              18.04               329ed837d508        3 days ago          63.3MB
ubuntu              bionic              329ed837d508        3 days ago          63.3MB
$ docker image ls -q
5f515359c7f8
05a60462f8ba
fe9198c04d62
00285df0df87
329ed837d508
329ed837d508
$ docker image ls --format "{{.ID}}: {{.Repository}}"
5f515359c7f8: redis
05a60462f8ba: nginx
fe9198c04d62: mongo
00285df0df87: <none>
329ed837d508: ubuntu
329ed837d508: ubuntu
$ docker image ls --format "table {{.ID}}\t{{.Repository}}\t{{.Tag}}"
IMAGE ID            REPOSITORY          TAG
5f515359c7f8        redis               latest
05a60462f8ba        nginx               latest
fe9198c04d62        mongo               3.2
00285df0df87        <none>              <none>
329ed837d508        ubuntu              18.04
329ed837d508        ubuntu              bionic
""")
    everything = shell.run("docker image ls -a -q").split()
    assert len(everything) > len(shell.run("docker image ls -q").split()), "steps of builds are shown with -a"
    assert len(set(shell.run("docker image ls -q ubuntu").split())) == 1


def test_prune_and_remove(shell, images):
    shell.transcript(r"""
$ echo y | docker image prune | grep -v 'deleted: '
WARNING! This will remove all dangling images.
Are you sure you want to continue? [y/N] Deleted Images:
Total reclaimed space: 0B
$ docker image ls -f dangling=true -q
$ docker image rm $(docker image ls -q redis) | grep -v Deleted
Untagged: redis:latest
$ ! docker image rm $(docker image ls -q -f before=mongo:3.2 | uniq) 2>&1
Error response from daemon: conflict: unable to delete 329ed837d508 (must be forced) - image is referenced in multiple repositories
""")
    before = shell.run("docker image inspect -f '{{.Id}}' nginx").strip()
    removed = normal(shell.run(f"docker image rm {before[7:13]}"))
    assert removed[0] == "Untagged: nginx:latest" and set(removed[1:]) == {"Deleted: DIGEST"}
    assert normal(shell.run("docker image rm mongo:3.2"))[0] == "Untagged: mongo:3.2"
    assert normal(shell.run("docker image rm ubuntu:bionic")) == ["Untagged: ubuntu:bionic"]
    assert shell.run("docker image ls -q").split() == shell.run("docker image ls -q ubuntu:18.04").split()


def test_registry(shell, images):
    """Getting images, and removing them by their digests."""
    registry = DockerRegistry()
    host = registry.host
    shell.run(f"docker tag ubuntu:18.04 {host}/library/ubuntu:18.04; docker push -q {host}/library/ubuntu:18.04; docker image rm {host}/library/ubuntu:18.04 ubuntu:18.04 ubuntu:bionic; docker image prune -af")
    shell.transcript(f"""
$ docker pull {host}/library/ubuntu:18.04 | grep -v -e 'fs layer' -e Verifying -e Extracting -e Downloading -e 'Download complete'
18.04: Pulling from library/ubuntu
92dc2a97ff99: Pull complete
Digest: sha256:4bc3ae6596938cb0d9e5ac51a1152ec9dcac2a1c50829c74abd9c4361e321b26
Status: Downloaded newer image for {host}/library/ubuntu:18.04
{host}/library/ubuntu:18.04
$ docker image ls --digests
REPOSITORY                  TAG                 DIGEST                                                                    IMAGE ID            CREATED             SIZE
{host}/library/ubuntu   18.04   sha256:b4f0e0bdeb578043c1ea6862f0d40cc4afe32a4a582f3be235a3b164422be228   6e0c4c8e3913        3 weeks ago         214 MB
""")
    digest = shell.run("docker image ls --digests --format '{{.Digest}}'").strip()
    shell.transcript(f"""
$ docker image rm {host}/library/ubuntu@{digest}
Untagged: {host}/library/ubuntu@{digest}
$ docker pull -q {host}/library/ubuntu:18.04
{host}/library/ubuntu:18.04
$ docker image rm $(docker image ls -q)
Untagged: {host}/library/ubuntu:18.04
Untagged: {host}/library/ubuntu@{digest}
Deleted: {digest}
Deleted: {digest}
""")
    registry.close()


def test_commit(shell, images):
    """The web server whose page is changed."""
    shell.run("printf 'FROM nginx\nRUN mkdir -p /usr/share/nginx/html && echo Welcome > /usr/share/nginx/html/index.html\nEXPOSE 80/tcp\nCMD [\"httpd\", \"-f\", \"-h\", \"/usr/share/nginx/html\"]\n' | docker build -q --network none -t nginx - 2>/dev/null")
    shell.transcript(r"""
$ docker run --name webserver -d --network none nginx
3729b97e822677c44ba0a9ed0cd12f1d0a66ad8d2ecb6b1a8bd7ba1b4e5d2e1c
$ docker exec webserver sh -c "echo '<h1>Hello, Docker!</h1>' > /usr/share/nginx/html/index.html"
$ docker exec webserver wget -q -O - http://127.0.0.1/
<h1>Hello, Docker!</h1>
$ docker diff webserver
C /usr
C /usr/share
C /usr/share/nginx
C /usr/share/nginx/html
C /usr/share/nginx/html/index.html
$ docker commit \
    --author "Tao Wang <twang2218@gmail.com>" \
    --message "修改了默认网页" \
    webserver \
    nginx:v2
sha256:07e33465974800ce65751acc279adc6ed2dc5ed4e0838f8b86f0c87aa1795214
$ docker image ls nginx
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
nginx               v2                  07e334659748        9 seconds ago       181.5 MB
nginx               latest              e43d811ce2f4        4 weeks ago         181.5 MB
$ docker history nginx:v2 | head -5
IMAGE               CREATED             CREATED BY                                      SIZE                COMMENT
07e334659748        54 seconds ago      httpd -f -h /usr/share/nginx/html               95 B                修改了默认网页
e43d811ce2f4        4 weeks ago         /bin/sh -c #(nop)  CMD ["httpd" "-f" "-h" "/…   0 B
e43d811ce2f4        4 weeks ago         /bin/sh -c #(nop)  EXPOSE 80/tcp        0 B
e43d811ce2f4        4 weeks ago         /bin/sh -c mkdir -p /usr/share/nginx/html &&…   22 B
$ docker run --name web2 -d --network none nginx:v2
9cdc27646c7b44aa4490ce2c9cdc27646c7b44aa4490ce2c9cdc27646c7b44aa
$ docker exec web2 wget -q -O - http://127.0.0.1/
<h1>Hello, Docker!</h1>
""")
    assert re.fullmatch(r"[0-9a-f]{64}", shell.run("docker inspect -f '{{.Id}}' web2").strip())


def test_build(shell, images):
    shell.transcript(r"""
$ mkdir -p mynginx && printf "FROM nginx\nRUN echo '<h1>Hello, Docker!</h1>' > /index.html\n" > mynginx/Dockerfile
$ cd mynginx && docker build --network none -t nginx:v3 . 2>/dev/null | sed -e 's/[Ss]ending build context.*//'
Step 1/2 : FROM nginx
 ---> e43d811ce2f4
Step 2/2 : RUN echo '<h1>Hello, Docker!</h1>' > /index.html
 ---> Running in 9cdc27646c7b
Removing intermediate container 9cdc27646c7b
 ---> 44aa4490ce2c
Successfully built 44aa4490ce2c
Successfully tagged nginx:v3
$ docker build --network none - < mynginx/Dockerfile 2>/dev/null | tail -1
Successfully built 44aa4490ce2c
$ cat mynginx/Dockerfile | docker build --network none - 2>/dev/null | tail -1
Successfully built 44aa4490ce2c
$ tar -czf context.tar.gz -C mynginx . && docker build --network none - < context.tar.gz 2>/dev/null | tail -1
Successfully built 44aa4490ce2c
$ tar -cJf context.tar.xz -C mynginx . && docker build --network none - < context.tar.xz 2>/dev/null | tail -1
Successfully built 44aa4490ce2c
""")


class GitServer(http.server.SimpleHTTPRequestHandler):
    """Repositories over the smart protocol: git's own CGI program. All else is a file."""

    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def serve(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.directory, "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query,
                       "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1", "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                       "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        answer = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=False).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((int(value.split()[0]) for name, value in lines if name == "Status"), 200)
        self.send_response(status)
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.serve() if ".git/" in self.path else super().do_GET()

    def do_POST(self):
        self.serve()


def test_build_from_elsewhere(shell):
    """From a repository, at a branch and in a directory of it, and from a tar that a server has."""
    shell.run(r"""
mkdir -p work/amd64/hello-world && cd work && cp $(which busybox) amd64/hello-world/hello && printf 'FROM scratch\nCOPY hello /\nCMD ["/hello"]\n' > amd64/hello-world/Dockerfile
git init -q -b master . && git add . && git -c user.name=a -c user.email=a@b commit -q -m one && git init -q --bare ../hello-world.git && git push -q ../hello-world.git master
tar -czf ../remote.tar.gz -C amd64/hello-world .""")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(GitServer, directory=shell.directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    shell.transcript(f"""
$ docker build -t hello-world {url}/hello-world.git#master:amd64/hello-world 2>/dev/null | sed -e 's/[Ss]ending build context.*//'
Step 1/3 : FROM scratch
 --->
Step 2/3 : COPY hello /
 ---> ac779757d46e
Step 3/3 : CMD ["/hello"]
 ---> Running in d2a513a760ed
Removing intermediate container d2a513a760ed
 ---> 038ad4142d2b
Successfully built 038ad4142d2b
Successfully tagged hello-world:latest
$ docker run --rm --network none hello-world 2>&1 | head -1
hello: applet not found
$ docker build {url}/remote.tar.gz 2>/dev/null | tail -1
Successfully built 038ad4142d2b
""")
    server.shutdown()
    server.server_close()
    shell.run("docker image prune -af")


def test_import_save_load(shell, images):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=shell.directory)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/root.tar.gz"
    shell.run("gzip -kf root.tar")
    printed = normal(shell.run(f"docker import {url} openvz/ubuntu:16.04 | cat"))
    assert printed[0] == f"Downloading from {normal(url)[0]}" and printed[-1] == "DIGEST"
    server.shutdown()
    shell.transcript(f"""
$ docker image ls openvz/ubuntu
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
openvz/ubuntu       16.04               412b8fc3e3f7        55 seconds ago      505MB
$ docker history openvz/ubuntu:16.04
IMAGE               CREATED              CREATED BY          SIZE                COMMENT
f477a6e18e98        About a minute ago                       214.9 MB            Imported from {url}
$ docker tag openvz/ubuntu:16.04 alpine; docker image rm openvz/ubuntu:16.04
Untagged: openvz/ubuntu:16.04
$ docker image ls alpine
REPOSITORY          TAG                 IMAGE ID            CREATED             SIZE
alpine              latest              baa5d63471ea        5 weeks ago         4.803 MB
$ docker save alpine -o filename
$ file filename
filename: POSIX tar archive
$ docker save alpine | gzip > alpine-latest.tar.gz
$ docker image rm alpine | grep -v Deleted
Untagged: alpine:latest
$ docker load -i alpine-latest.tar.gz
Loaded image: alpine:latest
$ docker save alpine | bzip2 | pv -q | ssh $THERE 'cat | docker load'
Loaded image: alpine:latest
""")
