"""Looking at images, removing and pruning them: with docker and tare side by side, and beside dockerd."""

import json
import os
import re
import shutil
import subprocess
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

import fake_engine
from archives import docker_archive, entry, layer
from conftest import finish, make_engine, newer_client, program_directory
from dockerd import running_dockerd
from inputs import busybox_root

TARE = os.path.join(program_directory(), "tare")
DOCKER = "docker"


def normal(text):
    """Without what differs from engine to engine and from second to second."""
    text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"(\d+ (seconds?|minutes?) ago|Less than a second ago|About a minute ago)", "AGE", text)
    return re.sub(r" +", " ", text)


def settled(command, text):
    """docker lists the names of an image, and dockerd images of one second, in any order."""
    lines = [line for line in normal(text).splitlines() if not line.startswith("Build Cache")]  # what each builder keeps is its own
    return sorted(lines) if "images" in command or "image ls" in command else lines


def play(host, program, command, directory):
    environment = {**os.environ, "DOCKER_HOST": host, "TARE_HOST": host, "DOCKER_BUILDKIT": "0", "DOCKER_API_VERSION": "1.41", "HOME": directory, "DOCKER_CLI_HINTS": "false"}
    done = subprocess.run(["bash", "-c", command.replace("DOCKER", program)], capture_output=True, text=True, env=environment, cwd=directory, timeout=120, check=False)
    errors = "" if "build" in command else done.stderr  # docker has notes on its builder there
    return [done.returncode, settled(command, done.stdout), settled(command, errors)]


# Each line is a shell command; the next ones build on it. No name of an image alone may be the beginning of an id.
SCRIPT = r"""
DOCKER import -c 'CMD ["/bin/sh"]' -c 'LABEL a=1 b="x y"' -c 'ENV A=b' -c 'EXPOSE 80/tcp' -c 'VOLUME /v' bb.tar bb:1 | sed 's/.*/OK/'
DOCKER tag bb:1 bb:2; DOCKER tag bb:1 other/bb:2; DOCKER tag bb:1 registry.example:5000/bb:3
DOCKER images
DOCKER images -q --no-trunc bb
DOCKER images 'b*'; DOCKER images 'other/*:2'; DOCKER images '*/*'; DOCKER images nothere; DOCKER images bb:2
DOCKER images -f foo=bar
DOCKER images -f dangling=x
DOCKER images -f before=nothere; DOCKER images -f since=nothere:1
DOCKER images -f label=a=1; DOCKER images -f label=a=2; DOCKER images -f label=b; DOCKER images -f reference='bb:*' -f label=a
DOCKER images -f before=bb:1; DOCKER images -f since=bb:1; DOCKER images -f dangling=true; DOCKER images -f dangling=false
DOCKER images --format '{{.Repository}} {{.Tag}} {{.Size}}'
DOCKER image inspect bb:1 -f '{{.RepoTags}} {{.Size}} {{.Comment}} {{.Os}} {{.Architecture}} {{json .Config.Labels}} {{.RootFS.Layers}}'
DOCKER image inspect nothere; DOCKER inspect nothere; DOCKER history nothere
DOCKER tag nothere x; DOCKER tag bb:1 X; DOCKER tag bb:1 sha256:aaa
DOCKER history bb:1; DOCKER history --no-trunc bb:1; DOCKER history -q bb:1; DOCKER history -H=false --format '{{.Size}} {{.Comment}}' bb:1
DOCKER image rm $(DOCKER images -q bb:1)
DOCKER image rm bb:1 bb:1 nothere
DOCKER image rm -f $(DOCKER images -q bb:2)
DOCKER images
printf 'FROM scratch\nADD bb.tar /\nRUN echo hi >/f\nENV X=1\nLABEL l=中文\nCMD ["sh"]\n' >Dockerfile; DOCKER build --network none -q -t q1 . | sed 's/.*/OK/'
DOCKER images -a; DOCKER images -aq | wc -l; DOCKER images -q | wc -l
DOCKER history q1 | sed 's/file:[0-9a-f]*…/FILE/'
DOCKER image rm $(DOCKER inspect -f '{{.Parent}}' q1); DOCKER image rm -f $(DOCKER inspect -f '{{.Parent}}' q1)
printf 'FROM q1\nRUN echo again >/g\n' | DOCKER build --network none -q -t q2 - | sed 's/.*/OK/'
DOCKER image rm q1; DOCKER images -a
DOCKER create --name c1 --network none q2 | sed 's/.*/OK/'
DOCKER image rm q2; DOCKER image rm $(DOCKER images -q q2)
DOCKER tag q2 q3; DOCKER image rm q3; DOCKER tag q2 q3; DOCKER image rm $(DOCKER images -q q3)
DOCKER image rm q3; DOCKER image rm -f q2; DOCKER images -a; DOCKER system df
DOCKER image prune -f; DOCKER rm c1
DOCKER import bb.tar base:1 >/dev/null; DOCKER run -d --name c2 --network none base:1 sleep 100 | sed 's/.*/OK/'
DOCKER image rm base:1; DOCKER image rm -f base:1; DOCKER image prune -af; DOCKER rm -f c2
printf 'FROM base:1\nLABEL a=b\n' | DOCKER build -q -t kid - >/dev/null; DOCKER image rm base:1; DOCKER image rm kid
DOCKER import bb.tar base:1 >/dev/null; printf 'FROM base:1\nRUN touch /x\n' | DOCKER build --network none -q -t kid - >/dev/null; printf 'FROM base:1\nRUN touch /y\n' | DOCKER build --network none -q -t kid - >/dev/null
DOCKER images -f dangling=true | wc -l; DOCKER image prune -f | grep -c deleted; DOCKER images | wc -l
printf 'FROM base:1\nRUN touch /z\nLABEL a=b\n' | DOCKER build --network none -q -t kid - >/dev/null; DOCKER image rm --no-prune kid; DOCKER images -aq | wc -l; DOCKER image prune -f
DOCKER image prune -f --filter until=xx; DOCKER image prune -f --filter foo=xx; DOCKER image prune -f --filter label=a --filter until=1h --filter until=2h
DOCKER image prune -af --filter until=1h; DOCKER image prune -af --filter label=no; DOCKER image prune -af --filter label!=no | sort; DOCKER images -a
DOCKER builder prune -af >/dev/null; DOCKER system prune -f; DOCKER builder prune -f; DOCKER volume prune -f; DOCKER container prune -f; DOCKER system df
DOCKER image prune </dev/null; echo n | DOCKER image prune; DOCKER system prune </dev/null; echo y | DOCKER image prune -a; echo y | DOCKER volume prune
DOCKER image rm 'bad name'; DOCKER image rm a:b:c; DOCKER image rm @; DOCKER image rm sha256:; DOCKER image rm abc; DOCKER image rm -f nothere
for i in 1 2 3; do DOCKER import -c "LABEL n=$i" -c "LABEL all=x" bb.tar f:$i >/dev/null; sleep 1.05; done
DOCKER images -f since=$(DOCKER images -q f:1) --format '{{.Tag}}'; DOCKER images -f before=$(DOCKER images -q --no-trunc f:2) --format '{{.Tag}}'; DOCKER images -f since=f:1 -f before=f:3 --format '{{.Tag}}'
DOCKER images -f reference=f:1 -f reference='f:3' --format '{{.Tag}}'; DOCKER images -f reference='?:[12]' --format '{{.Tag}}'; DOCKER images -f label=n=1 -f label=n=2 --format '{{.Tag}}'; DOCKER images -f label=all=x -f dangling=false --format '{{.Tag}}'
DOCKER images -f =x; DOCKER images label; DOCKER images 'f:['; DOCKER images 'f:[]'; DOCKER images 'f:[a-]'; DOCKER images 'f:\'; DOCKER images 'f:[^12]' -q | wc -l; DOCKER images 'f:[1-2]' -q | wc -l; DOCKER images F
DOCKER images --format json f:1 | sed 's/"CreatedAt":"[^"]*"//;s/"CreatedSince":"[^"]*"//'; DOCKER images --format 'table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Size}}' f; DOCKER images --digests f; DOCKER images --digests --no-trunc f:1
DOCKER image rm $(DOCKER images -q --no-trunc f:1); DOCKER image rm $(DOCKER images -q --no-trunc f:2 | cut -c8-); DOCKER tag f:3 g:1; DOCKER image rm $(DOCKER images -q f:3); DOCKER image rm -f $(DOCKER images -q f:3); DOCKER images
DOCKER import bb.tar h:1 >/dev/null; DOCKER tag h:1 h:2; DOCKER tag h:1 h:3; DOCKER image rm $(DOCKER images -q h); DOCKER images h; DOCKER image rm nothere h:1 alsonot
DOCKER tag h:2 h@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; DOCKER tag h:2 x/y/z:1; DOCKER images 'x/*/*'; DOCKER image rm h:1@sha256:zz
DOCKER history --format json h:2 | sed 's/"CreatedAt":"[^"]*"//;s/"CreatedSince":"[^"]*"//'; DOCKER history -q --no-trunc h:2
DOCKER run --name c1 --network none h:2 sh -c 'echo 1 >/a'; DOCKER commit -a 'A B' -m '信息' -c 'ENV X=1' -c 'CMD ["sh"]' c1 j:1; DOCKER commit -p=false c1; DOCKER commit --pause c1 j:2; DOCKER commit nothere; DOCKER commit c1 J; DOCKER commit -c 'RUN x' c1; DOCKER history j:1
DOCKER image inspect j:1 -f '{{.Author}}|{{.Comment}}|{{.Config.Env}}|{{.Config.Cmd}}|{{.Config.Labels}}'; DOCKER diff c1; DOCKER diff nothere; DOCKER export nothere; DOCKER export c1 | tar -t | grep -c .; DOCKER rm c1
DOCKER system prune -af --filter label=zz; DOCKER system prune --volumes --filter until=1h -f; echo n | DOCKER system prune -a; DOCKER image prune -af | sort
""".strip().splitlines()


@pytest.fixture
def engine(engine):
    """Each test begins without images."""
    yield engine
    engine.clear()
    engine.tare("image", "prune", "-af")


@pytest.fixture(scope="module")
def reference():
    with running_dockerd() as running:
        yield running


def play_both(hosts, programs, folder):
    """Each command at the same time in both places, which are alike and know nothing of each other."""
    directories = [folder / "first", folder / "second"]
    for directory in directories:
        directory.mkdir()
        shutil.copy(busybox_root(), directory / "bb.tar")
    with ThreadPoolExecutor(2) as pool:
        for command in SCRIPT:
            first, second = pool.map(lambda host, program, directory: play(host, program, command, str(directory)), hosts, programs, directories)
            assert second == first, command


def test_beside_dockerd(engine, reference, tmp_path):
    """The same commands, by the same client, to both engines."""
    play_both((reference.host, engine.host), (DOCKER, DOCKER), tmp_path)


@newer_client
def test_both_clients(tmp_path):
    """The same commands, by both clients, to an engine each."""
    engines = [make_engine().start(), make_engine().start()]
    play_both([one.host for one in engines], (DOCKER, TARE), tmp_path)
    for one in engines:
        finish(one)


# ---- what only we have, and what is checked against the file system ----


def disk_bytes(path):
    return int(subprocess.check_output(["du", "-s", "--block-size=1", path], text=True).split()[0])


@newer_client
def test_figures(engine, tmp_path):
    """SIZE is the sum of the layers, df counts each once, and the bytes on disk are what du says."""
    engine.tare("import", str(busybox_root()), "figures:base")
    (tmp_path / "Dockerfile").write_text(f"FROM figures:base\nCOPY big /big\nRUN ln -s {'x' * 100} /link\n", encoding="utf-8")
    (tmp_path / "big").write_bytes(os.urandom(300000))
    engine.tare("build", "--network", "none", "-q", "-t", "figures:1", str(tmp_path))
    engine.tare("volume", "create", "fv")
    container = engine.tare("create", "-v", "fv:/fv", "--network", "none", "figures:1", "sh", "-c", "head -c 5000 /dev/zero >/own; head -c 7000 /dev/zero >/fv/f; ln /fv/f /fv/g; ln -s abc /fv/h").stdout.strip()
    engine.tare("start", "-a", container)
    usage = engine.api("GET", "/v1.41/system/df?on-disk=1").json
    sizes = {name: image["Size"] for image in usage["Images"] for name in image["RepoTags"]}
    shared = {name: image["SharedSize"] for image in usage["Images"] for name in image["RepoTags"]}
    assert sizes["figures:1"] == sizes["figures:base"] + 300000 + 100
    assert usage["LayersSize"] == sizes["figures:1"] < sum(sizes.values())
    assert shared["figures:1"] == shared["figures:base"] == sizes["figures:base"]
    own = next(one for one in usage["Containers"] if one["Id"] == container)
    assert (own["SizeRw"], own["SizeRootFs"]) == (5000, 5000 + sizes["figures:1"])
    volume = next(one for one in usage["Volumes"] if one["Name"] == "fv")
    assert volume["UsageData"] == {"RefCount": 1, "Size": 7000 + 3}
    root = engine.data_root
    assert usage["OnDisk"] == {"Images": disk_bytes(root + "/layers"), "Containers": disk_bytes(root + "/containers"), "Volumes": disk_bytes(root + "/volumes"), "BuildCache": 0}
    shown = engine.tare("system", "df", "--on-disk").stdout.splitlines()
    assert shown[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE", "ON", "DISK"] and shown[1].startswith("Images")
    for program in (DOCKER, TARE):
        lines = engine.client(program, "system", "df", "-v").stdout
        assert normal(lines) == normal(engine.client(DOCKER, "system", "df", "-v").stdout) and "figures" in lines
    freed = engine.api("POST", "/v1.41/containers/prune").json["SpaceReclaimed"]
    assert freed == 5000
    before = disk_bytes(root + "/layers")
    answer = engine.api("POST", "/v1.41/images/prune?filters=" + '{"dangling":["false"]}').json
    assert answer["SpaceReclaimed"] == sizes["figures:1"] and before - disk_bytes(root + "/layers") > 2000000
    engine.tare("volume", "rm", "fv")


@newer_client
def test_ambiguous_id(engine, tmp_path):
    """A prefix that two images share names neither; one digit more does."""
    ids = []
    while len({one[:1] for one in ids}) == len(ids):
        (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL n={len(ids)}\n", encoding="utf-8")
        ids.append(engine.tare("build", "-q", str(tmp_path)).stdout.strip().removeprefix("sha256:"))
    twins = [one for one in ids if one[0] == ids[-1][0]]
    prefix = os.path.commonprefix(twins)
    for program in (DOCKER, TARE):
        refused = engine.client(program, "image", "rm", prefix, check=False)
        assert (refused.returncode, refused.stderr) == (1, f"Error response from daemon: No such image: {prefix}:latest\n")
    for one, program in zip(ids, (DOCKER, TARE) * 20):
        assert engine.client(program, "image", "rm", one[: len(prefix) + 2 if one in twins else 12]).stdout.startswith(f"Deleted: sha256:{one}\n")


@newer_client
def test_tree(engine):
    engine.tare("import", str(busybox_root()), "tree:1")
    engine.tare("tag", "tree:1", "a.longer/name/of:tree")
    for flags in ([], ["-a"], ["-q"], ["--no-trunc"], ["--digests"], ["--format", "x"], ["-f", "reference=tree"]):
        results = [engine.client(program, "image", "ls", "--tree", *flags, check=False) for program in (DOCKER, TARE)]
        assert results[0].stdout == results[1].stdout and results[0].stderr == results[1].stderr and results[0].returncode == results[1].returncode
    engine.tare("image", "rm", "-f", "tree:1", "a.longer/name/of:tree")


def test_wide_text_is_aligned(engine, tmp_path):
    """Wide characters take two columns, combining ones none."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL n=修改了默认网页\nLABEL m=e\u0301e\u0301\n", encoding="utf-8")
    engine.tare("build", "-q", "-t", "wide:1", str(tmp_path))
    for arguments in (["history", "wide:1"], ["history", "--format", "table {{.CreatedBy}}\t{{.Size}}", "wide:1"], ["history", "--no-trunc", "--format", "{{.CreatedBy}}|", "wide:1"]):
        assert normal(engine.tare(*arguments).stdout) == normal(engine.docker(*arguments).stdout)
    line = next(one for one in engine.tare("history", "wide:1").stdout.splitlines() if "修" in one)
    head = engine.tare("history", "wide:1").stdout.splitlines()[0]
    assert len(line.split("0B")[0]) + len("修改了默认网页") == head.index("SIZE")
    engine.tare("image", "rm", "wide:1")


def columns(text):
    """How many columns of a terminal a text takes."""
    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def test_wide_text_of_image_ls(engine):
    """What a format says besides: columns stand below their heads."""
    data = docker_archive({"wide:1": [layer(entry("f", "1"))], "a/much/longer/name:2": [layer(entry("f", "2"))]})
    engine.tare("load", input=data)
    for form, texts in (
        ("table 仓库 {{.Repository}}\t{{.Tag}}", ("TAG", "1", "2")), ("table {{.Repository}}({{.Tag}}) 的大小\t是 {{.Size}}\t完", ("是 SIZE", "是 1B", "是 1B")),
        ("table 名：{{.Repository}}{{if eq .Tag \"1\"}}一个网页e\u0301{{end}}\t|{{.Tag}}", ("|TAG", "|1", "|2")),
    ):
        lines = engine.tare("image", "ls", "--format", form).stdout.splitlines()
        assert len(lines) == 3, lines
        (place,) = {next(columns(line.rpartition(text)[0]) for text in texts if text in line) for line in lines}
        assert place >= columns(lines[0].split(texts[0])[0].rstrip()) + 3
    engine.tare("image", "rm", "wide:1", "a/much/longer/name:2")


def test_wide_text_of_a_tree(monkeypatch, tmp_path):
    """Platforms are what an engine that keeps several of an image says they are."""
    platforms = [("linux", "amd64", ""), ("linux", "龍芯處理器架構", "é二"), ("操作系统", "arm", "e\u0301")]
    manifests = [{"ID": f"sha256:{number}{'a' * 63}", "Kind": "image", "Available": True, "Size": {"Total": 5, "Content": 4}, "ImageData": {"Platform": {"os": os, "architecture": machine, "variant": variant}}}
                 for number, (os, machine, variant) in enumerate(platforms)]
    image = {**fake_engine.IMAGES[0], "RepoTags": ["wide:1"], "Manifests": manifests}
    monkeypatch.setattr(fake_engine, "ROUTES", [(r"GET /images/json", 200, fake_engine.JSON, [image]), *fake_engine.ROUTES])
    engine = fake_engine.FakeEngine(str(tmp_path / "s"))
    tree = re.sub("\x1b\\[[0-9;]*m", "", subprocess.run([TARE, "-H", f"unix://{engine.path}", "image", "ls", "--tree"], capture_output=True, text=True, check=True).stdout).splitlines()
    engine.stop()
    rows = [line for line in tree if line.startswith(("wide:1", "├─ ", "└─ "))]
    ids = [image["Id"][7:19], *(one["ID"][7:19] for one in manifests)]
    (place,) = {columns(row.split(one)[0]) for row, one in zip(rows, ids, strict=True)}
    (head,) = (line for line in tree if line.startswith("IMAGE"))
    assert place == head.index("ID") and rows[2].startswith("├─ linux/龍芯處理器架構/é二 ")


def test_127_layers(engine, tmp_path):
    """As many as overlayfs takes; one more is refused."""
    lines = ["FROM scratch", "COPY busybox /bin/sh"] + [f"COPY f{i} /f{i}" for i in range(126)]
    subprocess.run(["cp", "/bin/busybox", tmp_path / "busybox"], check=True)
    for i in range(127):
        (tmp_path / f"f{i}").write_text(f"{i}\n", encoding="utf-8")
    (tmp_path / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    engine.tare("build", "-q", "-t", "deep:127", str(tmp_path))
    assert len(engine.api("GET", "/images/deep:127/json").json["RootFS"]["Layers"]) == 127
    assert engine.tare("run", "--rm", "--network", "none", "deep:127", "sh", "-c", "read x </f0; read y </f125; echo $x $y").stdout == "0 125\n"
    (tmp_path / "Dockerfile").write_text("FROM deep:127\nCOPY f126 /f126\n", encoding="utf-8")
    for program in (DOCKER, TARE):
        refused = engine.client(program, "build", "-t", "deep:128", str(tmp_path), check=False)
        assert refused.returncode == 1 and "max depth exceeded" in refused.stderr + refused.stdout
    deleted = engine.tare("image", "rm", "deep:127").stdout.splitlines()
    assert len([line for line in deleted if line.startswith("Deleted: ")]) == 127 * 2
    assert engine.api("GET", "/images/json?all=1").json == []


def test_sdk(engine):
    """python3-docker's image API."""
    import docker

    client = docker.DockerClient(base_url=engine.host, version="1.41")
    with open(busybox_root(), "rb") as file:
        client.api.import_image_from_data(file.read(), repository="sdk", tag="1")
    image = client.images.get("sdk:1")
    assert image.tags == ["sdk:1"] and image.short_id.startswith("sha256:") and image.labels == {}
    assert image.tag("sdk", "2") and sorted(client.images.get("sdk:1").tags) == ["sdk:1", "sdk:2"]
    assert [one.id for one in client.images.list("sdk")] == [image.id] and client.images.list(filters={"dangling": True}) == []
    assert image.history()[0]["Comment"] == "Imported from -" and image.attrs["VirtualSize"] == image.attrs["Size"]
    client.images.remove("sdk:1")
    with pytest.raises(docker.errors.ImageNotFound, match="No such image: sdk:1"):
        client.images.remove("sdk:1")
    assert client.images.prune({"dangling": False})["SpaceReclaimed"] == image.attrs["Size"]


@pytest.mark.parametrize("version", [24, 41, 43, 44, 45, 51])
def test_fields_by_version(engine, version):
    """What a version added or dropped follows the version in the path."""
    engine.tare("import", "-m", "note", str(busybox_root()), "fields:1")
    image = engine.api("GET", f"/v1.{version}/images/fields:1/json").json
    dropped = {"VirtualSize": 44, "Container": 45, "ContainerConfig": 45}
    assert {name: name in image for name in dropped} == {name: version < limit for name, limit in dropped.items()}
    always = {"Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "DockerVersion", "Author", "Config", "Architecture", "Os", "Size", "GraphDriver", "RootFS", "Metadata"}
    assert set(image) - set(dropped) == always and image["Comment"] == "note"
    listed = engine.api("GET", f"/v1.{version}/images/json?shared-size=1").json[0]
    assert ("VirtualSize" in listed) == (version < 44) and listed["SharedSize"] == (0 if version >= 42 else -1)
    engine.tare("image", "rm", "fields:1")
    (dangling,) = engine.api("GET", f"/v1.{version}/images/json").json if engine.tare("import", str(busybox_root())) else []
    none = version < 43
    assert dangling["RepoTags"] == (["<none>:<none>"] if none else []) and dangling["RepoDigests"] == (["<none>@<none>"] if none else [])
    assert json.loads(engine.tare("image", "prune", "-f", "--filter", "label!=x").stdout.count("deleted: sha256:").__str__()) == 2


def test_until(engine):
    """Of `images -f`, which Debian's dockerd has not."""
    moments = []
    for number in (1, 2):
        engine.tare("import", "-c", f"LABEL n={number}", str(busybox_root()), f"u:{number}")
        time.sleep(0.05)
        moments.append(f"{time.time():.3f}")
        time.sleep(0.05)
    for program in (TARE, DOCKER):
        tags = [engine.client(program, "images", "-f", f"until={moment}", "--format", "{{.Tag}}").stdout.split() for moment in (*moments, "1h")]
        assert tags == [["1"], ["2", "1"], []], program
        assert engine.client(program, "images", "-f", "until=1h", "-f", "label=n", "-q").stdout == ""
        for first in ("0", "1970-01-01", "2020-02-02T02:02", "2020-02-02T02:02:02.5-07:00"):  # and none is pruned that is younger
            assert engine.client(program, "images", "-f", f"until={first}", "-q").stdout == ""
            assert engine.client(program, "image", "prune", "-af", "--filter", f"until={first}").stdout == "Total reclaimed space: 0B\n"
        refused = engine.client(program, "images", "-f", "until=yesterday", check=False)
        assert (refused.returncode, refused.stdout) == (1, "") and "yesterday" in refused.stderr, refused
