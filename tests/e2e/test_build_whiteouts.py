"""Files of a build's context, and of archives that ADD unpacks, whose names are those of whiteouts."""

import os
import shutil
import subprocess

import pytest

from test_build_contexts import CLASSIC, build, listing, tar_of, write

pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine

WHITEOUTS = {
    "Dockerfile": "FROM bb:1\nRUN mkdir -p /c/d /c/unpacked && touch /c/alone /c/d/old /c/d/r /c/unpacked/z\nCOPY d /c/d/\nCOPY .wh.alone x .wh.x /c/\n"
                  "COPY d/.wh.q /c/renamed\nADD a.tar /c/unpacked/\nRUN cat /c/x /c/renamed > /c/said\n",
    "x": "plain ", ".wh.x": "no x", ".wh.alone": "", "d/.wh.q": "content of a name", "d/r": "", "d/.wh..wh..opq": "",
    "a.tar": tar_of({"y": "", ".wh.y": "", ".wh.z": ""}),
}


@pytest.mark.parametrize("client", ["tare", "docker", "stdin", "kept"])
def test_a_whiteouts_name_in_a_context(engine, tmp_path, client):
    """Seen at dockerd: in a context, and in an archive that ADD unpacks, ".wh.x" is a file like any other, also for COPY; in the layer
    that it is copied to it takes away what is there under the name, but nothing that came with it."""
    files = {**WHITEOUTS, "large": os.urandom(400000)} if client == "kept" else WHITEOUTS  # large enough to be announced
    write(tmp_path, files)
    if client == "stdin":
        data = subprocess.run(["tar", "-C", str(tmp_path), "-c", "."], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run([shutil.which("docker"), "-H", engine.host, "build", "--network", "none", "-t", "ctx", "-"], input=data, check=True,
                       env={**os.environ, **CLASSIC}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        build(engine, "-t", "ctx", tmp_path, client="docker" if client == "docker" else "tare")
    assert listing(engine) == ["d", "d/r", "renamed", "said", "unpacked", "unpacked/y", "x"]
    assert engine.tare("run", "--rm", "--network", "none", "ctx", "cat", "/c/said").stdout == "plain content of a name"
    if client == "kept":  # and one that goes is not there the next time
        os.unlink(tmp_path / "d/.wh.q")
        assert "file not found in build context" in build(engine, tmp_path, check=False).stderr
        write(tmp_path, {"d/.wh.q": "another", "d/s": ""})
        build(engine, "-t", "ctx", tmp_path)
        assert engine.tare("run", "--rm", "--network", "none", "ctx", "cat", "/c/said").stdout == "plain another"
