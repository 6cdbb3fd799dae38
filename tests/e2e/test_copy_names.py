"""docker cp into a container: names that would be whiteouts in a layer are names like all others, as in dockerd."""

import io
import os
import tarfile

import pytest

import trees
from archives import entry, layer
from conftest import UnixConnection
from dockerd import running_dockerd
from inputs import busybox_root

BEFORE = layer(entry("there"), entry("there/kept", "kept"), entry("there/sub"), entry("there/sub/deep", "deep"), entry("linked", "1"))
UPLOADS = {
    "files that would hide": (entry("there"), entry("there/.wh.kept", "content"), entry(".wh.linked", ""), entry("there/sub/.wh.deep", "x")),
    "an opaque mark": (entry("there"), entry("there/.wh..wh..opq", "")),
    "without its directories": (entry("there/sub/.wh.deep", "x"), entry("there/sub/.wh..wh..opq", ""), entry("new/made/.wh.x", "y")),
    "names that are no whiteouts either": (entry(".wh.", "1"), entry(".wh..", "2"), entry(".wh...", "3"), entry("there/.wh.", "4")),
    "directories": (entry(".wh.there"), entry(".wh.there/inside", "1"), entry("there/.wh.sub", mode=0o700), entry("there/.wh.sub/.wh.more", "2")),
    "aufs records": (entry(".wh..wh.plnk"), entry(".wh..wh.plnk/1.2", "x"), entry(".wh..wh.aufs", "")),
    "links": (entry(".wh.a", "same"), entry("b", kind=tarfile.LNKTYPE, link=".wh.a"), entry(".wh.c", kind=tarfile.LNKTYPE, link=".wh.a"), entry(".wh.d", kind=tarfile.SYMTYPE, link="/there")),
    "twice": (entry(".wh.linked", "first"), entry("linked", "second"), entry(".wh.linked", "third")),
    "a directory and what hides it": (entry("there"), entry("there/sub", mode=0o711), entry("there/.wh.sub", "")),
}


@pytest.fixture(scope="module")
def reference():
    with running_dockerd() as running:
        with open(busybox_root(), "rb") as file:
            running.docker("import", "-", "bb", input=file.read())
        yield running


def ask(path, method, target, body=None):
    connection = UnixConnection(path)
    connection.request(method, target, body=body, headers={"Content-Type": "application/json" if body and body[:1] == b"{" else "application/x-tar"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def after(path, upload):
    """The directory after the upload, and the container's changes."""
    status, data = ask(path, "POST", "/v1.41/containers/create", b'{"Image":"bb","Cmd":["sleep","100"],"HostConfig":{"NetworkMode":"none"}}')
    assert status == 201, data
    container = data.decode().split('"Id":"')[1][:64]
    assert ask(path, "PUT", f"/v1.41/containers/{container}/archive?path=/tmp", BEFORE)[0] == 200
    put = ask(path, "PUT", f"/v1.41/containers/{container}/archive?path=/tmp", upload)
    tree = trees.from_tar(ask(path, "GET", f"/v1.41/containers/{container}/archive?path=/tmp/.")[1])
    changes = ask(path, "GET", f"/v1.41/containers/{container}/changes")[1]
    assert ask(path, "DELETE", f"/v1.41/containers/{container}?force=1")[0] == 204
    return put[0], tree, sorted(changes.decode().split("},{"))


@pytest.fixture(scope="module")
def bb(engine):
    engine.tare("import", str(busybox_root()), "bb")
    return engine


@pytest.mark.parametrize("name", UPLOADS)
def test_names_are_names(bb, reference, name):
    upload = layer(*UPLOADS[name])
    mine, theirs = after(bb.socket, upload), after(reference.host[7:], upload)
    assert mine[0] == theirs[0] == 200
    assert trees.differences(mine[1], theirs[1], "kind", "mode", "owner", "content", "target", "linked") == ""
    assert len(mine[2]) == len(theirs[2])


def test_the_same_bytes_as_a_layer(bb):
    """One archive is an image's layer and an upload, whichever came first: each means what it means there."""
    for first, content in (("layer", "1"), ("upload", "2")):
        data = layer(entry("bin"), entry("bin/.wh.vi", content), entry(".wh.etc", ""))

        def as_layer():
            assert bb.tare("import", "-", "hides", input=data).returncode == 0
            layer_id = bb.api("GET", "/images/hides/json").json["RootFS"]["Layers"][0]
            assert "DAMAGED" not in bb.tare("image", "verify", "hides").stdout and os.path.exists(f"{bb.data_root}/layers/sha256/{layer_id[7:]}.tar")
            container = bb.tare("create", "hides", "x").stdout.strip()
            names = set(tarfile.open(fileobj=io.BytesIO(bb.tare("export", container, input=b"").stdout)).getnames())
            assert not [name for name in names if ".wh." in name]
            bb.tare("rm", container)

        def as_upload():
            container = bb.tare("create", "bb", "x").stdout.strip()
            bb.tare("cp", "-", f"{container}:/", input=data)
            kept = {name: bb.tare("cp", f"{container}:{name}", "-", input=b"").stdout for name in ("/bin/.wh.vi", "/.wh.etc", "/bin/vi", "/etc")}
            assert all(kept.values())
            # a commit of it cannot keep such names, and deletes nothing by them
            bb.tare("commit", container, "committed")
            assert bb.tare("run", "--rm", "--network", "none", "committed", "ls", "-d", "/bin/vi", "/etc").stdout == "/bin/vi\n/etc\n"
            bb.tare("rm", container)
            bb.tare("image", "rm", "committed")

        for step in (as_layer, as_upload) if first == "layer" else (as_upload, as_layer):
            step()
        bb.tare("image", "rm", "hides")


@pytest.mark.parametrize("program", ["docker", "tare"])
def test_by_clients(bb, program, tmp_path):
    client = bb.docker if program == "docker" else bb.tare
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".wh.vi").write_text("mine", encoding="utf-8")
    (tmp_path / "d" / ".wh..wh..opq").write_text("", encoding="utf-8")
    running = client("run", "-d", "--network", "none", "bb", "sleep", "1000").stdout.strip()
    client("cp", f"{tmp_path}/d/.", f"{running}:/bin")
    assert client("exec", running, "sh", "-c", "cat /bin/.wh.vi; ls -a /bin | grep -c '^.wh'; ls /bin/vi").stdout == "mine2\n/bin/vi\n"
    client("cp", f"{running}:/bin/.wh.vi", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text(encoding="utf-8") == "mine"
    client("rm", "-f", running)
    # nothing of an upload stays in the store
    kept = {one[7:] for image in bb.api("GET", "/images/json?all=1").json for one in bb.api("GET", f"/images/{image['Id']}/json").json["RootFS"]["Layers"]}
    assert {name.split(".")[0] for name in os.listdir(f"{bb.data_root}/layers/sha256")} == kept
