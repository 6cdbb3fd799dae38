"""What broke other builders, each by its name; secrets and ssh agents; build --check; Dockerfiles meant to do harm."""

import base64
import json
import os
import socket
import subprocess
import threading

import pytest

from conftest import UnixConnection

SECRET = "sesame-4711-open"


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


def build(engine, text, directory=None, *flags, client="tare", check=True, env=None, **options):
    where = ["-"] if directory is None else ["-f", "-", str(directory)]
    return getattr(engine, client)("build", "--network", "none", "-t", "harm", *flags, *where, input=text, check=check,
                                   env={"DOCKER_BUILDKIT": "0", **(env or {})}, **options)


def cat(engine, *paths, tag="harm"):
    return engine.tare("run", "--rm", "--network", "none", tag, "cat", *paths).stdout


def said(result):
    return result.stdout + result.stderr


def state_has(engine, text):
    """Does a file of the engine's, or its log, have this text?"""
    found = subprocess.run(["grep", "-rlaF", "--devices=skip", text, engine.directory], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


# ---- secrets and agents ----

SECRETS = """FROM bb:1
RUN --mount=type=secret,id=key,mode=0440,uid=7,gid=8 stat -c '%a %u:%g' /run/secrets/key > /mode && wc -c < /run/secrets/key > /size
RUN --mount=type=secret,id=key,target=/etc/key --mount=type=secret,id=var,env=PASSPHRASE sh -c '[ "$(cat /etc/key)" = "$PASSPHRASE" ]' && echo same > /same
RUN --mount=type=secret,id=absent [ ! -e /run/secrets/absent ] && [ ! -e /etc/key ] && ! ls /run/secrets/key
"""


def test_secrets_reach_no_layer_history_key_record_or_log(engine, tmp_path):
    (tmp_path / "key").write_text(SECRET)
    flags = ["--secret", f"id=key,src={tmp_path}/key", "--secret", "id=var,env=MY_VARIABLE"]
    build(engine, SECRETS, None, *flags, env={"MY_VARIABLE": SECRET})
    assert cat(engine, "/mode", "/size", "/same") == f"440 7:8\n{len(SECRET)}\nsame\n"
    assert not state_has(engine, SECRET) and not state_has(engine, base64.b64encode(SECRET.encode()).decode())
    assert SECRET not in json.dumps(engine.api("GET", "/images/harm/history").json) + json.dumps(engine.api("GET", "/images/harm/json").json)
    other = {"MY_VARIABLE": "another"}
    (tmp_path / "key").write_text("another")
    assert build(engine, SECRETS, None, *flags, env=other).stdout.count("Using cache") == 3  # it is no part of the key
    failed = build(engine, "FROM bb:1\nRUN --mount=type=secret,id=var,env=PASSPHRASE false\n", None, "--rm=false", *flags, env={"MY_VARIABLE": SECRET}, check=False)
    assert failed.returncode == 1
    for container in engine.api("GET", "/containers/json?all=1").json:
        assert SECRET not in json.dumps(engine.api("GET", f"/containers/{container['Id']}/json").json)
    assert not state_has(engine, SECRET)
    engine.clear()


def test_an_id_of_secrets_is_good_for_one_build(engine):
    body = {"secrets": {"key": base64.b64encode(b"x").decode()}, "ssh": []}
    lent = engine.api("POST", "/v1.51/build/secrets", body)
    assert lent.status == 201
    headers = {"X-Tare-Secrets": lent.json["Id"], "Content-Type": "application/x-tar"}
    text = "FROM bb:1\nRUN --mount=type=secret,id=key,required cat /run/secrets/key\n"
    first = engine.api("POST", "/v1.51/build?networkmode=none", text, headers)
    assert first.status == 200 and "error" not in first.messages[-1]
    for stale in (lent.json["Id"], "0" * 64):
        answer = engine.api("POST", "/v1.51/build", text, {**headers, "X-Tare-Secrets": stale})
        assert answer.status == 404 and answer.message == "no secrets wait for this build"
    big = engine.api("POST", "/v1.51/build/secrets", {"secrets": {"key": base64.b64encode(bytes(600 << 10)).decode()}})
    assert big.status >= 400 and big.message == f"secret key: larger than {500 << 10} bytes"


def test_missing_secrets(engine):
    result = build(engine, "FROM bb:1\nRUN true\n", None, "--secret", "id=key,src=/nonexistent", check=False)
    assert result.returncode == 1 and "/nonexistent" in result.stderr
    result = build(engine, "FROM bb:1\nRUN true\n", None, "--secret", "src=/x", check=False)
    assert "a secret needs an id" in result.stderr


class Agent:
    """A program behind SSH_AUTH_SOCK: answers each line."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(8)
        self.path, self.asked = path, []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection):
        with connection, connection.makefile("rwb") as stream:
            for line in stream:
                self.asked.append(line)
                stream.write(b"signed " + line)
                stream.flush()


def test_ssh_agent(engine, tmp_path):
    agent = Agent(str(tmp_path / "agent"))
    work = tmp_path / "context"
    work.mkdir()
    (work / "ask.c").write_text(r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char buffer[256];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(a.sun_path, getenv("SSH_AUTH_SOCK"), sizeof a.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 || write(fd, argv[1], strlen(argv[1])) < 0 || write(fd, "\n", 1) < 0)
        return 1;
    ssize_t n = read(fd, buffer, sizeof buffer);
    return n > 0 && fwrite(buffer, 1, n, stdout) == (size_t)n ? 0 : 1;
}
""")
    subprocess.run(["cc", "-static", "-o", str(work / "ask"), str(work / "ask.c")], check=True, capture_output=True)
    text = """FROM bb:1
COPY ask /bin/
RUN --mount=type=ssh ask one > /one && ask two > /two && echo $SSH_AUTH_SOCK > /where && stat -c '%a %u:%g' $SSH_AUTH_SOCK > /mode
RUN --mount=type=ssh,id=other,target=/agent,mode=0666,uid=5,gid=6 ask three > /three && stat -c '%a %u:%g' /agent >> /mode
RUN [ -z "$SSH_AUTH_SOCK" ] && [ ! -e /run/buildkit ] && [ ! -e /agent ]
"""
    build(engine, text, work, "--ssh", "default", "--ssh", f"other={agent.path}", env={"SSH_AUTH_SOCK": agent.path})
    assert cat(engine, "/one", "/two", "/three", "/where", "/mode") == \
        "signed one\nsigned two\nsigned three\n/run/buildkit/ssh_agent.0\n600 0:0\n666 5:6\n"
    assert sorted(agent.asked) == [b"one\n", b"three\n", b"two\n"]
    env = engine.api("GET", "/images/harm/json").json["Config"]["Env"]
    assert not any(item.startswith("SSH_AUTH_SOCK") for item in env)
    agent.listener.close()
    result = build(engine, text, work, "--ssh", "default", env={"SSH_AUTH_SOCK": str(work / "ask.c")}, check=False)
    assert "failed to read the ssh key" in result.stderr


def test_ssh_key_files(engine, tmp_path):
    """--ssh default=KEY: an agent of the build's own has them, and none is left."""
    work = tmp_path / "context"
    work.mkdir()
    for name, passphrase in (("one", ""), ("two", ""), ("locked", "secret")):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", tmp_path / name, "-C", name], check=True)
    (work / "count.c").write_text(r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    unsigned char buffer[4096] = { 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(a.sun_path, getenv("SSH_AUTH_SOCK"), sizeof a.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 || write(fd, "\0\0\0\1\13", 5) != 5 || read(fd, buffer, sizeof buffer) < 9)
        return 1;
    return !printf("%d keys\n", buffer[8]);
}
""")
    subprocess.run(["cc", "-static", "-o", str(work / "count"), str(work / "count.c")], check=True, capture_output=True)
    text = "FROM bb:1\nCOPY count /bin/\nRUN --mount=type=ssh count > /out\n"
    build(engine, text, work, "--ssh", f"default={tmp_path}/one,{tmp_path}/two", env={"TMPDIR": str(tmp_path)})
    assert cat(engine, "/out") == "2 keys\n"
    refused = build(engine, text, work, "--no-cache", "--ssh", f"default={tmp_path}/locked", env={"TMPDIR": str(tmp_path)}, check=False)
    assert refused.returncode == 1 and "failed to read the ssh key" in refused.stderr
    assert "failed to stat /nowhere: " in build(engine, text, work, "--ssh", "default=/nowhere", check=False).stderr
    assert not [name for name in os.listdir(tmp_path) if name.startswith("tare-keys")]


# ---- build --check ----


def test_check(engine, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / ".dockerignore").write_text("tmp\n")
    result = build(engine, "FROM bb:1 AS Upper\nWORKDIR app\nCOPY tmp/x /\nCMD start $now\n", context, "--check", check=False)
    assert result.returncode == 1
    assert result.stdout.endswith("""Check complete, 4 warnings have been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'Upper' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM bb:1 AS Upper
   2 |     WORKDIR app
   3 |     COPY tmp/x /
--------------------


WARNING: WorkdirRelativePath - https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/
Relative workdir "app" can have unexpected results if the base image changes
Dockerfile:2
--------------------
   1 |     FROM bb:1 AS Upper
   2 | >>> WORKDIR app
   3 |     COPY tmp/x /
   4 |     CMD start $now
--------------------


WARNING: CopyIgnoredFile - https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/
Attempting to Copy file "tmp/x" that is excluded by .dockerignore
Dockerfile:3
--------------------
   1 |     FROM bb:1 AS Upper
   2 |     WORKDIR app
   3 | >>> COPY tmp/x /
   4 |     CMD start $now
--------------------


WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:4
--------------------
   2 |     WORKDIR app
   3 |     COPY tmp/x /
   4 | >>> CMD start $now
--------------------

""".replace("Dockerfile:", result.stdout.split("--------------------")[0].splitlines()[-1].split(":")[0] + ":"))
    assert engine.api("GET", "/images/harm-check/json").status == 404
    clean = build(engine, "FROM bb:1\nCMD [\"x\"]\n", None, "--check")
    assert clean.stdout.endswith("Check complete, no warnings found.\n")
    result = build(engine, "FROM bb:1\nNOSUCH x\n", None, "--check", check=False)
    assert result.returncode == 1 and "unknown instruction: NOSUCH" in result.stderr


def test_check_error_true_lets_no_warning_pass(engine):
    result = build(engine, "# check=error=true\nFROM bb:1 AS Upper\nMAINTAINER me\n", check=False)
    assert result.returncode == 1 and "lint violation found for rules: StageNameCasing, MaintainerDeprecated" in said(result)
    build(engine, "# check=error=true;skip=StageNameCasing\nFROM bb:1 AS Upper\n")


def test_errors_show_their_lines(engine):
    env = {"DOCKER_BUILDKIT": ""}
    result = build(engine, "FROM bb:1\nRUN echo a \\\n  b\n\nNOSUCH x\n", env=env, check=False)
    assert "Dockerfile:5\n--------------------\n   3 |       b\n   4 |     \n   5 | >>> NOSUCH x\n--------------------\n" in said(result)
    assert "dockerfile parse error line 5: unknown instruction: NOSUCH" in said(result)
    result = build(engine, "FROM bb:1\nRUN <<EOF\nexit 3\nEOF\n", env=env, check=False)
    assert result.returncode == 3
    assert "   1 |     FROM bb:1\n   2 | >>> RUN <<EOF\n   3 | >>> exit 3\n   4 | >>> EOF\n" in said(result)
    classic = build(engine, "FROM bb:1\nNOSUCH x\n", check=False)
    assert ">>>" not in said(classic)


# ---- incidents ----


def test_cve_2024_9407_bind_source_stays_inside(engine, tmp_path):
    """buildah: a link or .. in the source of a bind mount led to the host."""
    (tmp_path / "host").write_text("of the host\n")
    context = tmp_path / "context"
    context.mkdir()
    (context / "link").symlink_to("/etc")
    (context / "up").symlink_to(f"../../../../../../../..{tmp_path}/host")
    for source in ("link", "up", "../host", str(tmp_path / "host")):
        result = build(engine, f"FROM bb:1\nRUN --mount=type=bind,source={source},target=/m ls -la /m; cat /m; cat /m/hostname\n", context, check=False)
        assert result.returncode != 0 and "of the host" not in said(result) and os.uname().nodename + "\n" not in said(result)
    text = f"FROM bb:1 AS evil\nRUN ln -s / /root-link && ln -s {tmp_path} /host-link\nFROM bb:1\nRUN --mount=from=evil,source=/%s,target=/m ls /m\n"
    out = build(engine, text % "root-link", check=False)
    assert out.returncode == 0 and "host-link" in out.stdout  # its own root
    assert build(engine, text % "host-link", check=False).returncode != 0


def test_cve_2024_9675_cache_mount_stays_inside(engine, tmp_path):
    """buildah: the id of a cache mount was a path of the host; source and target with .. as well."""
    canary = tmp_path / "canary"
    canary.mkdir()
    for id in (f"../../../../../../../..{canary}", str(canary), "..", "a/../../.."):
        build(engine, f"FROM bb:1\nRUN --mount=type=cache,id={id},target=/c touch /c/{os.getpid()}\n")
    assert os.listdir(canary) == []
    assert len(os.listdir(os.path.join(engine.data_root, "build", "caches"))) >= 4
    result = build(engine, "FROM bb:1\nRUN --mount=type=cache,id=x,source=../..,target=/c ls /c\n", check=False)
    assert result.returncode == 1 and "source of a cache mount" in said(result)


def test_cve_2024_11218_a_stage_is_read_when_it_is_done(engine):
    """buildah with --jobs: a mount from a stage that was still being written to could be led out of it by a race."""
    text = """FROM bb:1 AS evil
RUN mkdir -p /d/sub && for i in $(seq 100); do mv /d /e; ln -s / /d; rm /d; mv /e /d; done; rm -r /d && ln -s ../../../../.. /d
FROM bb:1
RUN --mount=from=evil,source=/d,target=/m,rw ls /m > /out && touch /m/written
RUN [ ! -e /written ]
"""
    before = set(os.listdir("/"))
    build(engine, text)
    assert "bin" in cat(engine, "/out").split() and set(os.listdir("/")) == before


def test_cve_2024_23651_two_builds_race_one_cache_mount(engine):
    """BuildKit: a build swapped a directory of a shared cache for a link while another mounted a path below it."""
    base = "FROM bb:1 AS base\nRUN mkdir -p /seed/dir && echo inner > /seed/dir/f\nFROM bb:1\n"
    swap = base + "RUN --mount=type=cache,id=raced,from=base,source=/seed,target=/c cd /c; for i in $(seq 300); do mv dir d2; ln -s /etc dir; rm dir; mv d2 dir; done\n"
    use = base + "RUN --mount=type=cache,id=raced,from=base,source=/seed/dir,target=/c ls /c > /out; ! [ -e /c/passwd ]\n"
    results = []
    threads = [threading.Thread(target=lambda t=text: results.append(build(engine, t, None, "--no-cache", check=False))) for text in (swap, use, use)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [0, 0, 0], [said(result) for result in results]


def test_cve_2024_23652_stubs_of_mounts(engine):
    """BuildKit: cleaning a mount point up after a step followed links to the host; ours is by fd, in the layer, and only what is empty."""
    build(engine, """FROM bb:1
RUN mkdir -p /kept && ln -s / /loop
RUN --mount=type=tmpfs,target=/kept --mount=type=cache,target=/new/deep/cache --mount=type=tmpfs,target=/loop/made true
RUN --mount=type=tmpfs,target=/full/tmp touch /full/file
RUN --mount=type=tmpfs,target=/gone/a rm -rf /gone 2>/dev/null; ln -s /etc /swapped; true
RUN ls -d /kept /new /made /full /full/tmp /gone /etc/passwd > /out 2>/dev/null; true
""")
    assert cat(engine, "/out") == "/etc/passwd\n/full\n/kept\n"


def test_cve_2024_23653_entitlements_are_not_skipped(engine):
    """BuildKit: privileges came without having been allowed."""
    for step in ("RUN --security=insecure true", "RUN --network=host true"):
        result = build(engine, f"FROM bb:1\n{step}\n", check=False)
        assert result.returncode == 1 and "is not allowed" in said(result)
        onbuild = build(engine, f"FROM bb:1\nONBUILD {step}\n", check=False)
        assert onbuild.returncode == 0
        result = build(engine, "FROM harm\n", check=False)
        assert result.returncode == 1 and "is not allowed" in said(result)
    build(engine, "FROM bb:1\nRUN grep CapEff /proc/self/status > /caps\nRUN --security=insecure grep CapEff /proc/self/status >> /caps\n", None, "--allow", "security.insecure")
    plain, insecure = [int(line.split()[1], 16) for line in cat(engine, "/caps").splitlines()]
    assert plain == 0xa80425fb and insecure > plain
    build(engine, "FROM bb:1\nRUN --network=host true\n", None, "--allow", "network.host")


def test_ghsa_7236_3392_c5c6_no_frontend_of_others(engine):
    """BuildKit: an image named by # syntax= ran as frontend and switched seccomp off. Ours is never fetched, and steps are confined."""
    build(engine, "# syntax=evil.example/frontend:1\nFROM bb:1\nRUN grep Seccomp: /proc/self/status > /out\n")
    assert cat(engine, "/out").split() == ["Seccomp:", "2"]


def test_cve_2026_33747_no_frontend_by_argument_or_session(engine):
    """BuildKit: a frontend of a stranger's could write outside of the daemon's state. None is taken, however it is named."""
    build(engine, "FROM bb:1\nRUN echo ours > /out\n", None, "--build-arg", "BUILDKIT_SYNTAX=evil.example/frontend:1")
    assert cat(engine, "/out") == "ours\n"
    assert engine.api("POST", "/grpc").status == 501 and engine.api("POST", "/session").status == 501
    assert engine.api("POST", "/v1.41/build?version=2", b"").status == 501


def test_buildkit_4a31f5603_indices_are_checked(engine):
    """BuildKit: numbers outside the list of stages ended the daemon."""
    for index in ("1", "99", "18446744073709551616", "-1"):
        result = build(engine, f"FROM bb:1\nCOPY --from={index} /x /y\n", check=False)
        assert result.returncode == 1
        result = build(engine, f"FROM bb:1\nRUN --mount=from={index},target=/m true\n", check=False)
        assert result.returncode == 1
    assert engine.answers()


def test_cve_2024_21626_workdir_of_the_engines_fds(engine):
    for number in range(0, 64, 3):
        result = build(engine, f"FROM bb:1\nWORKDIR /proc/self/fd/{number}\nRUN ls ../../../../ && cat ../../../../etc/hostname\n", check=False)
        assert os.uname().nodename not in result.stdout


def test_cve_2019_14271_no_program_of_the_image_is_run(engine, tmp_path):
    """Names of --chown are read from the image's files by the engine alone."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "f").write_text("x")
    build(engine, "FROM bb:1\nRUN mkfifo /tmp/p && rm -f /etc/passwd && ln -s /tmp/p /etc/passwd && mkdir -p /lib && echo broken > /lib/libnss_files.so.2\n")
    result = build(engine, "FROM harm\nCOPY --chown=someone f /\n", context, check=False)
    assert result.returncode == 1 and "can't find uid for user someone" in said(result)


HOSTILE = {
    "deep expansion": "FROM bb:1\nENV a=" + "${x:-" * 2000 + "}" * 2000 + "\n",
    "growing value": "FROM bb:1\nENV a=aaaaaaaaaaaaaaaa\n" + "ENV a=$a$a$a$a$a$a$a$a\n" * 12,
    "slow pattern": "FROM bb:1\nENV v=" + "a" * 30000 + "\nENV w=${v//" + "*a?" * 2000 + "b/x}\n",
    "many steps": "FROM bb:1\n" + "LABEL a=1\n" * 10001,
    "endless line": "FROM bb:1\nRUN " + "x" * 70000 + "\n",
    "NUL": "FROM bb:1\nRUN a\0b\n",
    "heredocs without end": "FROM bb:1\nRUN " + "<<A " * 200 + "\n",
    "onbuild of onbuild": "FROM bb:1\n" + "ONBUILD " * 50 + "RUN x\n",
    "stage of itself": "FROM a AS a\nRUN x\n",
    "copy from itself": "FROM bb:1 AS a\nCOPY --from=a /x /y\n",
    "no base": "FROM $nothing\n",
    "heredoc name": "FROM bb:1\nCOPY <<../../x /\nx\n../../x\n",
    "heredoc name absolute": "FROM bb:1\nADD <<\"/etc/x\" /\nx\n/etc/x\n",
    "mount on everything": "FROM bb:1\nRUN --mount=type=tmpfs,target=/ true\n",
    "mount above": "FROM bb:1\nRUN --mount=type=tmpfs,target=/x/.. true\n",
    "target without path": "FROM bb:1\nRUN --mount=type=cache,target= true\n",
    "id out of range": "FROM bb:1\nRUN --mount=type=cache,target=/x,uid=4294967295 true\n",
    "same cache twice": "FROM bb:1\nRUN --mount=type=cache,id=a,target=/x,sharing=locked --mount=type=cache,id=a,target=/y,sharing=locked true\n",
    "port range": "FROM bb:1\nEXPOSE 1-99999\n",
    "url of another kind": "FROM bb:1\nADD file:///etc/passwd /\n",
    "broken escape": "# escape=\\\\\nFROM bb:1\n",
    "options as image": "FROM --help\n",
    "control characters": "FROM bb:1\n\x01\x02\x7f\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_dockerfile(engine, name):
    connection = UnixConnection(engine.socket)
    connection.request("POST", "/v1.51/build?networkmode=none&rm=1&forcerm=1", body=HOSTILE[name].encode(), headers={"Content-Type": "application/x-tar"})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status in (400, 404, 413, 500, 501) or b'"error"' in answer, (response.status, answer[-500:])
    assert engine.answers() and engine.process.poll() is None
