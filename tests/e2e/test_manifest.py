"""manifest inspect, create, annotate, push and rm, beside docker's on the same files and the same registry; imagetools inspect."""

import json
import os
import subprocess

import pytest

from conftest import newer_client, program_directory
from inputs import busybox_root
from local_registry import Registry

TARE = os.path.join(program_directory(), "tare")
DOCKER = next(path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if os.path.exists(path))


@pytest.fixture(scope="module")
def registry(tmp_path_factory, engine):
    """plain: an image as Docker describes it; oci: the same as OCI does."""
    running = Registry(tmp_path_factory.mktemp("registry"))
    engine.tare("import", str(busybox_root()), f"{running.host}/plain:1")
    engine.tare("push", "-q", f"{running.host}/plain:1")
    archive = os.path.join(engine.directory, "image.tar")
    engine.tare("save", "-o", archive, f"{running.host}/plain:1")
    subprocess.run(["skopeo", "copy", "-q", "-f", "oci", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{running.host}/oci:1"], check=True, capture_output=True, timeout=60)
    os.unlink(archive)
    yield running
    running.stop()


def both(engine, tmp_path, *words):
    """The same by both clients, each with a configuration of its own."""
    results = [engine.client(program, "manifest", *words, check=False, env={"DOCKER_CONFIG": str(tmp_path / name)}) for name, program in (("tare", TARE), ("docker", DOCKER))]
    return [(result.returncode, result.stdout, result.stderr) for result in results]


@newer_client
def test_like_docker(engine, registry, tmp_path):
    host = registry.host
    known = [
        ("inspect", "--insecure", f"{host}/plain:1"),
        ("inspect", "--insecure", f"{host}/oci:1"),
        ("inspect", "--insecure", "-v", f"{host}/plain:1"),
        ("inspect", "--insecure", "-v", f"{host}/oci:1"),
        ("inspect", "--insecure", f"{host}/absent:1"),
        ("create", "--insecure", f"{host}/list:1", f"{host}/oci:1", f"{host}/plain:1"),
        ("create", "--insecure", f"{host}/list:1", f"{host}/plain:1"),
        ("create", "--insecure", "--amend", f"{host}/list:1", f"{host}/plain:1"),
        ("annotate", "--arch", "arm64", "--os", "linux", "--variant", "v8", "--os-features", "a", "--os-version", "5", f"{host}/list:1", f"{host}/oci:1"),
        ("annotate", "--arch", "none", f"{host}/list:1", f"{host}/oci:1"),
        ("annotate", f"{host}/list:1", f"{host}/absent:1"),
        ("inspect", f"{host}/list:1"),
        ("inspect", "-v", f"{host}/list:1"),
        ("inspect", f"{host}/list:1", f"{host}/oci:1"),
        ("inspect", f"{host}/list:1", f"{host}/absent:1"),
        ("push", "--insecure", "--purge", f"{host}/list:1"),
        ("rm", f"{host}/list:1"),
        ("push", f"{host}/list:1"),
        ("inspect", "--insecure", f"{host}/list:1"),
        ("inspect", "--insecure", "-v", f"{host}/list:1"),
        ("create", f"{host}/list:2", f"{host}/BAD"),
        ("create", f"other.example/list:2", f"{host}/plain:1", "--insecure"),
        ("push", "other.example/list:2"),
        ("rm", "other.example/list:2", f"{host}/list:9"),
    ]
    for words in known:
        ours, theirs = both(engine, tmp_path, *words)
        assert ours == theirs, words
        if words[:1] == ("annotate",) and ours[0] == 0:
            files = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("tare", "docker")]
            assert files[0] == files[1] and len(files[0]) == 2
            for path in files[0]:
                assert json.loads((tmp_path / "tare" / path).read_text(encoding="utf-8")) == json.loads((tmp_path / "docker" / path).read_text(encoding="utf-8"))


def test_blobs_are_brought(engine, registry, tmp_path):
    """A list in a repository that has none of what it names: pulled there afterwards."""
    host = registry.host
    env = {"DOCKER_CONFIG": str(tmp_path)}
    engine.tare("manifest", "create", f"{host}/fresh/list:1", f"{host}/plain:1", env=env)
    pushed = engine.tare("manifest", "push", f"{host}/fresh/list:1", env=env).stdout.splitlines()
    digest = json.loads(engine.tare("manifest", "inspect", "-v", f"{host}/plain:1", env=env).stdout)["Descriptor"]["digest"]
    assert pushed[0] == f"Pushed ref {host}/fresh/list@{digest} with digest: {digest}" and len(pushed) == 2
    engine.tare("rmi", f"{host}/plain:1")
    engine.tare("pull", "-q", f"{host}/fresh/list:1")
    shown = engine.tare("buildx", "imagetools", "inspect", f"{host}/fresh/list:1").stdout
    assert shown == (
        f"Name:      {host}/fresh/list:1\nMediaType: application/vnd.docker.distribution.manifest.list.v2+json\nDigest:    {pushed[1]}\n           \nManifests: \n"
        f"  Name:      {host}/fresh/list:1@{digest}\n  MediaType: application/vnd.docker.distribution.manifest.v2+json\n  Platform:  linux/amd64\n")
    raw = engine.tare("buildx", "imagetools", "inspect", "--raw", f"{host}/fresh/list:1").stdout
    assert raw.encode() == registry.manifest("fresh/list", "1")[0]
    assert engine.tare("buildx", "imagetools", "inspect", "--format", "{{.Name}} {{.Manifest.digest}}", f"{host}/fresh/list:1").stdout == f"{host}/fresh/list:1 {pushed[1]}\n"
    engine.tare("tag", f"{host}/fresh/list:1", f"{host}/plain:1")
