"""What a build shows and what it gives: progress in its forms, --output, times of sources, caches that travel, pruning."""

import json
import os
import pathlib
import subprocess
import tarfile

import pytest

from conftest import finish, make_engine, program_directory
from inputs import busybox_root
from test_build_contexts import write

DOCKERFILE = "FROM bb:1 AS one\nRUN echo said one; echo x > /x\nFROM bb:1\nWORKDIR /w\nCOPY --from=one /x /x\nENV a=b\n"


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


@pytest.fixture
def context(tmp_path):
    return write(tmp_path / "context", {"Dockerfile": DOCKERFILE, "f": "f"})


def build(engine, *arguments, **options):
    return engine.tare("build", "--network", "none", *map(str, arguments), **options)


# ---- progress ----


def test_plain_progress(engine, context):
    shown = build(engine, "--progress", "plain", "--no-cache", "-t", "plain", context).stderr
    for text in ("[one 1/2] FROM bb:1 AS one\n", "[one 2/2] RUN echo said one; echo x > /x\n", "[stage-1 2/3] WORKDIR /w\n", "[stage-1 3/3] COPY --from=one /x /x\n", " said one\n",
                 "exporting to image\n", "naming to plain:latest done\n"):
        assert text in shown, (text, shown)
    assert shown.count(" DONE ") == 7 and "ENV" not in shown
    again = build(engine, "--progress", "plain", context).stderr
    assert again.count(" CACHED\n") == 3
    failed = build(engine, "--progress", "plain", "-", input="FROM bb:1\nRUN echo last words; exit 9\n", check=False)
    assert failed.returncode == 9
    assert "ERROR: " in failed.stderr and "------\n > [2/2] RUN echo last words; exit 9:\nlast words\n------\n" in failed.stderr
    assert json.loads(engine.api("GET", "/containers/json?all=1").body) == []


def test_raw_progress_is_buildkits(engine, context):
    lines = [json.loads(line) for line in build(engine, "--progress", "rawjson", "--no-cache", context).stderr.splitlines()]
    vertices = {vertex["digest"]: vertex for line in lines for vertex in line.get("vertexes", [])}
    assert {vertex["name"] for vertex in vertices.values()} >= {"[one 2/2] RUN echo said one; echo x > /x", "exporting to image"}
    assert all(vertex["completed"] >= vertex["started"] for vertex in vertices.values())
    logs = [log for line in lines for log in line.get("logs", [])]
    assert logs and all(log["vertex"] in vertices for log in logs)


def test_quiet_and_classic(engine, context):
    done = build(engine, "--progress", "quiet", context)
    assert done.stdout.startswith("sha256:") and done.stderr == ""
    assert build(engine, context).stdout.startswith("Sending build context to Docker daemon")
    failed = build(engine, "--progress", "fancy", context, check=False)
    assert "invalid progress mode fancy" in failed.stderr


def on_terminal(engine, *arguments, env=None):
    command = " ".join(f"'{word}'" for word in [os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "none", *map(str, arguments)])
    environment = {"PATH": os.environ["PATH"], "HOME": engine.directory, "TERM": "xterm", **(env or {})}
    return subprocess.run(["script", "-qec", command, "/dev/null"], env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False).stdout


def test_a_terminal_shows_the_steps_live(engine, context):
    shown = on_terminal(engine, "--no-cache", context)
    assert "[+] Building " in shown and "FINISHED" in shown and " => [one 2/2] RUN" in shown and "Step 1/" not in shown
    shown = on_terminal(engine, context, env={"DOCKER_BUILDKIT": "0"})
    assert "[+] Building " not in shown and "Step 1/6 : FROM bb:1 AS one" in shown


def test_a_shell_in_the_failed_step(engine):
    dockerfile = engine.directory + "/failing"
    write(engine.directory, {"failing": "FROM bb:1\nRUN echo evidence > /left; exit 4\n", "empty/x": ""})
    failed = build(engine, "--shell-on-failure", "-f", dockerfile, engine.directory + "/empty", input="cat /left; exit\n", check=False)
    assert failed.returncode == 4 and "evidence\n" in failed.stdout
    assert json.loads(engine.api("GET", "/containers/json?all=1").body) == []


# ---- results ----


def test_outputs(engine, context, tmp_path):
    for value in (tmp_path / "local", f"type=local,dest={tmp_path}/local2"):
        build(engine, "-o", value, context)
    for name in ("local", "local2"):
        assert (tmp_path / name / "x").read_text() == "x\n" and (tmp_path / name / "w").is_dir()
        assert sorted(os.listdir(tmp_path / name)) == ["bin", "etc", "root", "tmp", "w", "x"]
    build(engine, "-o", f"type=tar,dest={tmp_path}/t.tar", context)
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert {"x", "w", "bin/busybox"} <= {name.rstrip("/") for name in tar.getnames()}
    command = [os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "none", "-o", "-", str(context)]
    with tarfile.open(fileobj=__import__("io").BytesIO(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)) as tar:
        assert tar.extractfile("x").read() == b"x\n"
    for kind in ("oci", "docker"):
        build(engine, "-t", "out:1", "-o", f"type={kind},dest={tmp_path}/{kind}.tar", context)
        with tarfile.open(tmp_path / f"{kind}.tar") as tar:
            assert {"index.json", "oci-layout", "manifest.json"} <= set(tar.getnames())
    build(engine, "-o", "type=image,name=named:2", "--metadata-file", tmp_path / "meta", "--iidfile", tmp_path / "id", "-t", "a", "-t", "b:3", context)
    identity = (tmp_path / "id").read_text()
    assert json.loads((tmp_path / "meta").read_text()) == {"containerimage.config.digest": identity, "containerimage.digest": identity, "image.name": "a,b:3"}
    for name in ("named:2", "a", "b:3"):
        assert engine.tare("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == identity
    for bad, message in (("type=nosuch", "unknown output type nosuch"), ("dest=x", "type is required for output"), ("type=local", "dest is required for local output")):
        assert message in build(engine, "-o", bad, context, check=False).stderr


def test_the_same_sources_give_the_same_image(engine, context):
    other = make_engine().start()
    try:
        other.tare("import", str(busybox_root()), "bb:1")
        base = engine.tare("image", "save", "-o", engine.directory + "/base.tar", "bb:1")
        assert base.returncode == 0
        other.tare("rmi", "bb:1")
        other.tare("load", "-i", engine.directory + "/base.tar")
        write(context, {"Dockerfile": "FROM bb:1\nCOPY . /c\nWORKDIR /made/here\nENV x=y\nLABEL l=m\n", "d/e": "e"})
        ids = [one.tare("build", "-q", str(context)).stdout for one in (engine, other)]
        assert ids[0] == ids[1]
        # what RUN makes has the given time as well
        write(context, {"Dockerfile": "FROM bb:1\nRUN date > /dev/null; echo x > /made; mkdir /dir\nCOPY . /c\n"})
        ids = [one.tare("build", "-q", "--network", "none", "--build-arg", "SOURCE_DATE_EPOCH=1600000000", str(context)).stdout for one in (engine, other)]
        assert ids[0] == ids[1]
        ids = [one.tare("build", "-q", "--network", "none", str(context), env={"SOURCE_DATE_EPOCH": "1600000000"}).stdout for one in (engine, other)]
        assert ids[0] == ids[1]
        created = engine.tare("image", "inspect", "-f", "{{.Created}}", ids[0].strip()).stdout
        assert created.startswith("2020-09-13T12:26:40")
    finally:
        finish(other)


# ---- the cache ----


def test_a_stage_is_built_anew_by_name(engine, context):
    build(engine, context)
    again = build(engine, "--no-cache-filter", "one", context).stdout
    assert "\nsaid one\n" in again
    assert "\nsaid one\n" not in build(engine, "--no-cache-filter", "nosuch", context).stdout


def test_pruning(engine, context):
    write(context, {"big": os.urandom(600000), "Dockerfile": "FROM bb:1\nCOPY big /big\nCOPY f /f\n"})
    build(engine, "-t", "kept:1", context)
    df = json.loads(engine.api("GET", "/v1.42/system/df").body)["BuildCache"]
    kinds = {record["Type"] for record in df}
    assert kinds == {"source.local", "regular"}
    assert sum(record["Size"] for record in df if record["Type"] == "source.local") > 600000
    row = [line for line in engine.tare("system", "df").stdout.splitlines() if line.startswith("Build Cache")][0]
    assert "0B" != row.split()[4]
    nothing = json.loads(engine.api("POST", "/v1.41/build/prune?filters=%7B%22until%22%3A%7B%2224h%22%3Atrue%7D%7D").body)
    assert nothing["CachesDeleted"] == []
    roomy = json.loads(engine.api("POST", "/v1.41/build/prune?keep-storage=100000000000").body)
    assert roomy["CachesDeleted"] == []
    for client in (engine.tare, engine.docker):
        assert client("builder", "prune", "-a", "-f", "--keep-storage", "100GB").stdout.strip() == "Total reclaimed space: 0B"
    pruned = json.loads(engine.api("POST", "/v1.41/build/prune").body)
    assert pruned["SpaceReclaimed"] > 600000
    assert "Using cache" in build(engine, "-t", "kept:1", context).stdout  # a named image's steps stay
    engine.tare("builder", "prune", "-a", "-f")
    assert "Using cache" not in build(engine, "-t", "kept:1", context).stdout
    assert engine.api("POST", "/v1.41/build/prune?filters=%7B%22nosuch%22%3A%7B%22x%22%3Atrue%7D%7D").status == 400


@pytest.mark.parametrize("way", ["image", "local"])
def test_caches_that_travel(engine, context, tmp_path, way):
    """Another engine takes the steps over from an image, or from a directory."""
    write(context, {"Dockerfile": "FROM bb:1\nARG a=1\nRUN echo $a > /random; cat /proc/sys/kernel/random/uuid >> /random\nCOPY f /f\nENV x=y\nRUN cat /f >> /random\nCMD x\n"})
    directory = tmp_path / "cache"
    build(engine, "-t", "travel:1", "--cache-to", "type=inline", "--cache-to", f"type=local,dest={directory}", context)
    other = make_engine().start()
    try:
        engine.tare("save", "-o", engine.directory + "/base.tar", "bb:1", *(["travel:1"] if way == "image" else []))
        other.tare("load", "-i", engine.directory + "/base.tar")
        source = "travel:1" if way == "image" else f"type=local,src={directory}"
        out = build(other, "-t", "mine:1", "--cache-from", source, context).stdout
        assert out.count("Using cache") == 6 and "Running in" not in out, out
        same = [one.tare("run", "--rm", "--network", "none", name, "cat", "/random").stdout for one, name in ((engine, "travel:1"), (other, "mine:1"))]
        assert same[0] == same[1]
        write(context, {"f": "changed"})
        out = build(other, "-t", "mine:1", "--cache-from", source, context).stdout
        assert out.count("Using cache") == 2
        out = build(other, "-t", "mine:1", "--cache-from", source, "--build-arg", "a=2", context).stdout
        assert out.count("Using cache") == 1
    finally:
        finish(other)


# ---- the rules in an ordinary build ----


def test_warnings_of_the_rules(engine, tmp_path):
    """The progress ends with what docker's ends with; the classic output says nothing of it."""
    context = tmp_path / "context"
    write(context, {"Dockerfile": "FROM bb:1 as one\nCMD echo x\nCMD echo $nothing\n"})
    plain = build(engine, "--progress", "plain", context).stderr
    assert plain.endswith("""
 4 warnings found (use docker --debug to expand):
 - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)
 - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)
 - MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)
 - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)
"""), plain
    write(context, {"Dockerfile": "FROM bb:1 as one\n"})
    assert "\n 1 warning found (use docker --debug to expand):\n - FromAsCasing: " in build(engine, "--progress", "plain", context).stderr
    raw = [json.loads(line) for line in build(engine, "--progress", "rawjson", context).stderr.splitlines()]
    assert sum(len(status.get("warnings", [])) for status in raw) == 1
    for said in (build(engine, context), build(engine, "-q", context), build(engine, "--progress", "quiet", context), engine.docker("build", "--network", "none", str(context))):
        assert "FromAsCasing" not in said.stdout + said.stderr


# ---- clients that insist on BuildKit ----


def test_buildkit_is_refused_with_a_reason(engine, tmp_path):
    """docker 20.10 opens a session first; a newer one wants its plug-in, and never asks us."""
    write(tmp_path / "context", {"Dockerfile": "FROM bb:1\n"})
    for _ in range(8):  # its session may begin before its build is refused or after
        refused = engine.client("/usr/bin/docker", "build", str(tmp_path / "context"), check=False, timeout=30, env={"DOCKER_BUILDKIT": "1"})
        assert refused.returncode == 1
        assert "BuildKit is not supported yet by this engine: set DOCKER_BUILDKIT=0 to build" in refused.stderr, refused.stderr
