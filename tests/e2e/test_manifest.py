"""manifest inspect, create, annotate, push and rm, beside docker's on the same files and the same registry; imagetools inspect; search."""

import http.server
import json
import os
import subprocess
import threading

import pytest

from conftest import program_directory
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


class Hub(http.server.BaseHTTPRequestHandler):
    """The first protocol's search, as a registry may offer it."""

    def do_GET(self):
        self.server.asked.append(self.path)
        results = [{"name": f"library/tool{i}", "description": "a description that is rather longer than the column", "star_count": 50 - i, "is_official": i == 0, "is_automated": False} for i in range(3)]
        body = json.dumps({"num_results": 3, "query": "tool", "results": results}).encode() if self.path.startswith("/v1/search?") else b"not found"
        self.send_response(200 if self.path.startswith("/v1/") else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_search(engine, registry):
    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    hub.asked = []
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        term = f"127.0.0.1:{hub.server_address[1]}/tool"
        for program in (TARE, DOCKER):
            rows = engine.client(program, "search", term).stdout.splitlines()
            assert rows[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"] and len(rows) == 4, program
            assert "a description that is rather longer than the…" in rows[1] and rows[1].split()[-2:] == ["50", "[OK]"]
            assert "the column" in engine.client(program, "search", "--no-trunc", term).stdout
            assert engine.client(program, "search", "--format", "{{.StarCount}}", term).stdout == "50\n49\n48\n"
            assert engine.client(program, "search", "--filter", "stars=50", "--format", "{{.Name}}", term).stdout.count("tool") == 1
            assert engine.client(program, "search", "--filter", "is-official=false", "--format", "{{.Name}}", term).stdout.count("tool") == 2
            engine.client(program, "search", "--limit", "7", term)
            assert "n=7" in hub.asked[-1]
    finally:
        hub.shutdown()
        hub.server_close()
    failed = engine.tare("search", f"{registry.host}/tool", check=False)
    assert failed.returncode == 1 and registry.host in failed.stderr, failed.stderr
