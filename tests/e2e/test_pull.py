"""Pulling from real registries: Debian's docker-registry, bare, with passwords, behind TLS and behind mirrors, with images that skopeo placed;
with tare, both docker clients and the Python SDK."""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile

import docker
import pytest

import inputs
from conftest import finish, make_engine, newer_client
from registries import DockerRegistry, Nginx, free_port, place, skopeo, wait_for

OTHER_CLIENT = "/usr/bin/docker"
ADDRESS = "198.18.77.1"  # for tests: loopback is always an insecure registry


def write_layout(directory, platforms=("linux/amd64",)):
    """An OCI layout of a busybox image, or an index of one for each platform."""
    blobs = os.path.join(directory, "blobs", "sha256")
    os.makedirs(blobs)

    def put(data, media_type, **more):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data), **more}

    entries = []
    root = inputs.busybox_root().read_bytes()
    for platform in platforms:
        system, architecture, *variant = platform.split("/")
        layer = put(root, "application/vnd.oci.image.layer.v1.tar")
        config = {"os": system, "architecture": architecture, "config": {"Cmd": ["sh"], "Labels": {"platform": platform}}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
        config.update({"variant": variant[0]} if variant else {})
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"), "layers": [layer]}
        described = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        entries.append(put(json.dumps(manifest).encode(), manifest["mediaType"], platform=described))
    if len(entries) > 1:
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
        entries = [put(json.dumps(index).encode(), index["mediaType"])]
    entries[0]["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    with open(os.path.join(directory, "index.json"), "w", encoding="utf-8") as file:
        json.dump({"schemaVersion": 2, "manifests": entries}, file)
    with open(os.path.join(directory, "oci-layout"), "w", encoding="utf-8") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    return directory + ":1"


@pytest.fixture(scope="module")
def layouts():
    directory = tempfile.mkdtemp(prefix="tare-layouts-")
    yield {
        "one": write_layout(os.path.join(directory, "one")),
        "many": write_layout(os.path.join(directory, "many"), ("linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6")),
    }
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def registry(layouts):
    running = DockerRegistry()
    place(layouts["one"], running, "bb:1")
    place(layouts["one"], running, "bb:2", "--format", "v2s2")
    place(layouts["one"], running, "zstd:1", "--dest-compress-format", "zstd", "--dest-compress")
    place(layouts["one"], running, "library/official:1")
    place(layouts["many"], running, "many:1", "--all")
    yield running
    running.close()


@pytest.fixture(scope="module")
def address():
    """An address of this machine that is not in 127.0.0.0/8."""
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    yield ADDRESS
    subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


def empty(engine):
    for image in engine.api("GET", "/images/json?all=1").json:
        engine.api("DELETE", f"/images/{image['Id']}?force=1")
    assert os.listdir(os.path.join(engine.data_root, "layers", "sha256")) == []


CLIENTS = {
    "tare": lambda engine, *arguments, **options: engine.tare(*arguments, **options),
    "docker": lambda engine, *arguments, **options: engine.docker(*arguments, **options),
    "docker 20.10": lambda engine, *arguments, **options: engine.client(OTHER_CLIENT, *arguments, **options),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_pull_as_the_tutorials_show_it(engine, registry, name):
    run = CLIENTS[name]
    empty(engine)
    lines = run(engine, "pull", f"{registry.host}/bb:1").stdout.splitlines()
    manifest = [line for line in lines if line.startswith("Digest: ")][0][8:]
    layer = lines[1].split(":")[0]
    assert lines[0] == "1: Pulling from bb" and len(layer) == 12
    assert [line for line in lines[1:] if layer in line] == [f"{layer}: Pulling fs layer", f"{layer}: Verifying Checksum", f"{layer}: Download complete", f"{layer}: Pull complete"]
    assert lines[-3:] == [f"Digest: {manifest}", f"Status: Downloaded newer image for {registry.host}/bb:1", f"{registry.host}/bb:1"]
    again = run(engine, "pull", f"{registry.host}/bb:1").stdout.splitlines()
    assert again == ["1: Pulling from bb", f"Digest: {manifest}", f"Status: Image is up to date for {registry.host}/bb:1", f"{registry.host}/bb:1"]
    assert run(engine, "pull", "-q", f"{registry.host}/bb:2").stdout == f"{registry.host}/bb:2\n"
    assert run(engine, "run", "--rm", f"{registry.host}/bb@{manifest}", "echo", "hello").stdout == "hello\n"
    assert f"1 {manifest}\n" in run(engine, "images", "--digests", "--format", "{{.Tag}} {{.Digest}}").stdout
    missing = run(engine, "pull", f"{registry.host}/bb:nope", check=False)
    assert (missing.returncode, missing.stderr.strip()) == (1, f"Error response from daemon: manifest for {registry.host}/bb:nope not found: manifest unknown: manifest unknown")
    default = run(engine, "pull", f"{registry.host}/bb", check=False)
    assert default.stdout.startswith("Using default tag: latest") and default.returncode == 1
    reserved = run(engine, "pull", "scratch", check=False)
    assert reserved.stderr.strip() == "Error response from daemon: 'scratch' is a reserved name"
    both = run(engine, "pull", "-a", f"{registry.host}/bb:1", check=False)
    assert "tag can't be used with --all-tags/-a" in both.stderr


@newer_client
def test_references(engine, registry):
    """Names that are none are refused by both clients in the same words; those with port, tag and digest mean what they say."""
    digest = engine.api("GET", f"/distribution/{registry.host}/bb:1/json").json["Descriptor"]["digest"]
    for name in ("UPPER", "a:b:c", "a@sha256:short", "a//b", "a/", ":1", "x:" + "t" * 129, "a" * 64, "f" * 64, "a..b", "host:port/x", f"{registry.host}/Bb:1", f"{registry.host}/bb:1@sha256:zz", "http://x/y", ""):
        results = [run(engine, "pull", name, check=False) for run in (CLIENTS["tare"], CLIENTS["docker"])]
        ours, theirs = ((result.returncode, result.stdout, result.stderr) for result in results)
        assert ours == theirs and ours[0] == 1, name
    for name in ("tare", "docker"):
        run = CLIENTS[name]
        empty(engine)
        both = run(engine, "pull", f"{registry.host}/bb:1@{digest}").stdout.splitlines()
        assert both[0] == f"{registry.host}/bb@{digest}: Pulling from bb" or both[0] == f"{digest}: Pulling from bb"
        assert both[-1] == f"{registry.host}/bb:1@{digest}"
        assert run(engine, "run", "--rm", "--pull", "always", "-q", f"{registry.host}/bb:1", "echo", "x").stdout == "x\n"


def test_a_digest_alone_has_no_tag(engine, registry):
    empty(engine)
    digest = engine.api("GET", f"/distribution/{registry.host}/bb:1/json").json["Descriptor"]["digest"]
    engine.docker("pull", f"{registry.host}/bb@{digest}")
    assert engine.docker("images", "--format", "{{.Repository}} {{.Tag}}").stdout == f"{registry.host}/bb <none>\n"
    engine.docker("pull", f"{registry.host}/bb:2@{digest}", check=False)
    assert engine.docker("images", "--format", "{{.Tag}}").stdout == "<none>\n"


def test_all_tags(engine, registry):
    empty(engine)
    lines = engine.tare("pull", "-a", f"{registry.host}/bb").stdout.splitlines()
    assert "1: Pulling from bb" in lines and "2: Pulling from bb" in lines and lines[-2:] == [f"Status: Downloaded newer image for {registry.host}/bb", f"{registry.host}/bb"]
    assert sum("Already exists" in line for line in lines) <= 1
    assert sorted(engine.docker("images", "--format", "{{.Tag}}", f"{registry.host}/bb").stdout.split()) == ["1", "2"]


def test_formats(engine, registry):
    empty(engine)
    for name in ("bb:2", "zstd:1"):
        engine.tare("pull", f"{registry.host}/{name}")
        assert engine.tare("run", "--rm", f"{registry.host}/{name}", "echo", "x").stdout == "x\n"
    described = engine.api("GET", f"/distribution/{registry.host}/zstd:1/json").json
    assert described["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


def test_platforms(engine, registry):
    empty(engine)
    for platform, label in (("linux/amd64", "linux/amd64"), ("linux/arm64", "linux/arm64/v8"), ("linux/arm/v6", "linux/arm/v6"), ("linux/arm", "linux/arm/v7")):
        engine.tare("pull", "--platform", platform, f"{registry.host}/many:1")
        image = engine.api("GET", f"/images/{registry.host}/many:1/json").json
        assert image["Config"]["Labels"] == {"platform": label}
    for run in (engine.tare, engine.docker):  # run and create ask for it, too
        empty(engine)
        created = run("create", "--platform", "linux/arm64", f"{registry.host}/many:1", "true").stdout.strip()
        assert engine.api("GET", f"/images/{registry.host}/many:1/json").json["Config"]["Labels"] == {"platform": "linux/arm64/v8"}
        run("rm", created)
    missing = engine.docker("pull", "--platform", "linux/s390x", f"{registry.host}/many:1", check=False)
    assert "no matching manifest for linux/s390x in the manifest list entries" in missing.stderr
    warned = engine.tare("pull", "--platform", "linux/arm64", f"{registry.host}/bb:1").stdout
    assert f"WARNING: image with reference {registry.host}/bb:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64" in warned


def test_the_sdk(engine, registry):
    empty(engine)
    client = docker.DockerClient(base_url=engine.host)
    image = client.images.pull(f"{registry.host}/bb", tag="1")
    assert image.tags == [f"{registry.host}/bb:1"]
    data = client.images.get_registry_data(f"{registry.host}/many:1")
    assert data.has_platform("linux/arm64/v8") and not data.has_platform("windows/amd64")
    assert sorted(tag for one in client.images.pull(f"{registry.host}/bb", all_tags=True) for tag in one.tags) == [f"{registry.host}/bb:1", f"{registry.host}/bb:2"]
    with pytest.raises(docker.errors.NotFound):
        client.images.pull(f"{registry.host}/none", tag="1")
    client.close()


@pytest.mark.parametrize("name", CLIENTS)
def test_run_pulls_what_is_missing(engine, registry, name):
    run = CLIENTS[name]
    empty(engine)
    image = f"{registry.host}/bb:1"
    never = run(engine, "run", "--rm", "--pull", "never", image, "true", check=False)
    assert never.returncode == 125 and f"No such image: {image}" in never.stderr
    first = run(engine, "run", "--rm", image, "echo", "hi")
    assert first.stdout == "hi\n" and first.stderr.startswith(f"Unable to find image '{image}' locally\n1: Pulling from bb\n") and "Status: Downloaded newer image" in first.stderr
    always = run(engine, "run", "--rm", "--pull", "always", image, "true")
    assert f"Status: Image is up to date for {image}" in always.stderr
    empty(engine)
    created = run(engine, "create", image, "true")
    assert len(created.stdout.strip()) == 64 and "Pull complete" in created.stderr
    run(engine, "rm", created.stdout.strip())


def test_build_pulls_its_base(engine, registry):
    empty(engine)
    context = f"FROM {registry.host}/bb:1\nRUN echo built > /built\n"
    built = engine.docker("build", "-t", "built", "-", input=context)
    assert "1: Pulling from bb" in built.stdout and "Status: Downloaded newer image" in built.stdout and "Successfully tagged built:latest" in built.stdout
    quiet = engine.docker("build", "-t", "built", "-", input=context).stdout
    assert "Pulling" not in quiet and "Using cache" in quiet
    fresh = engine.docker("build", "--pull", "-t", "built", "-", input=context).stdout
    assert f"Status: Image is up to date for {registry.host}/bb:1" in fresh and "Using cache" in fresh


def auth_header(user, password, host):
    return base64.urlsafe_b64encode(json.dumps({"username": user, "password": password, "serveraddress": host}).encode()).decode()


def test_passwords(engine, layouts):
    registry = DockerRegistry(users={"ann": "secret"})
    try:
        place(layouts["one"], registry, "bb:1", "--dest-creds", "ann:secret")
        path = f"/images/create?fromImage={registry.host}/bb&tag=1"
        anonymous = engine.api("POST", path)
        assert (anonymous.status, anonymous.message) == (500, f'Get "http://{registry.host}/v2/bb/manifests/1": no basic auth credentials')
        wrong = engine.api("POST", path, headers={"X-Registry-Auth": auth_header("ann", "wrong", registry.host)})
        assert wrong.status == 500 and wrong.message == f"{registry.host}/bb: unauthorized: authentication required"
        right = engine.api("POST", path, headers={"X-Registry-Auth": auth_header("ann", "secret", registry.host)})
        assert "Downloaded newer image" in right.messages[-1]["status"]
        body = {"username": "ann", "password": "secret", "serveraddress": registry.host}
        assert engine.api("POST", "/auth", body=body).json == {"IdentityToken": "", "Status": "Login Succeeded"}
        refused = engine.api("POST", "/auth", body={**body, "password": "x"})
        assert (refused.status, refused.message) == (401, f"login attempt to http://{registry.host}/v2/ failed with status: 401 Unauthorized")
        empty(engine)
        auths = base64.urlsafe_b64encode(json.dumps({registry.host: body}).encode()).decode()
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            data = f"FROM {registry.host}/bb:1\nLABEL a=b\n".encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        built = engine.api("POST", "/build", body=context.getvalue(), headers={"X-Registry-Config": auths, "Content-Type": "application/x-tar"})
        assert "Successfully built" in built.messages[-1]["stream"]
    finally:
        registry.close()


# ---- TLS and mirrors ----

def test_certificates_of_private_authorities(registry, authority, address):
    """nginx asks for a client's certificate and speaks for the registry behind it."""
    certificate, key = authority.issue("server", f"IP:{address}")
    client, client_key = authority.issue("client", "DNS:client")
    port = free_port()
    nginx = Nginx(f"listen {address}:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_client_certificate {authority.path}; ssl_verify_client on;"
                  f"location / {{ proxy_pass http://{registry.host}; proxy_set_header Host $http_host; }}")
    wait_for(port, nginx.process, address)
    host = f"{address}:{port}"
    certs = tempfile.mkdtemp(prefix="tare-certs-")
    engine = make_engine("--registry-config-path", certs).start()
    try:
        unknown = engine.docker("pull", f"{host}/bb:1", check=False)
        assert f'Get "https://{host}/v2/": tls: failed to verify certificate: x509: ' in unknown.stderr
        os.mkdir(os.path.join(certs, host))
        shutil.copy(authority.path, os.path.join(certs, host, "ca.crt"))
        nameless = engine.docker("pull", f"{host}/bb:1", check=False)
        assert nameless.returncode == 1 and "400" in nameless.stderr
        shutil.copy(client, os.path.join(certs, host, "client.cert"))
        keyless = engine.docker("pull", f"{host}/bb:1", check=False)
        assert "missing key client.key for client certificate client.cert" in keyless.stderr
        shutil.copy(client_key, os.path.join(certs, host, "client.key"))
        assert "Downloaded newer image" in engine.docker("pull", f"{host}/bb:1").stdout
        insecure = engine.restart  # the same engine, told not to verify, needs no authority
        os.unlink(os.path.join(certs, host, "ca.crt"))
        engine.flags += ["--insecure-registry", f"{address}/32"]
        insecure()
        assert "up to date" in engine.docker("pull", f"{host}/bb:1").stdout
    finally:
        finish(engine)
        nginx.close()
        shutil.rmtree(certs)


def test_mirrors_of_the_hub(registry):
    """In their order, falling through; names stay the Hub's."""
    empty_registry = DockerRegistry()
    engine = make_engine("--registry-mirror", "http://127.0.0.1:1", "--registry-mirror", f"http://{empty_registry.host}/", "--registry-mirror", f"http://{registry.host}").start()
    try:
        pulled = engine.tare("pull", "official:1").stdout.splitlines()
        assert pulled[0] == "1: Pulling from library/official" and pulled[-2:] == ["Status: Downloaded newer image for official:1", "docker.io/library/official:1"]
        assert engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout == "official:1\n"
        assert any("library/official/manifests/1" in line for line in empty_registry.requests())
        assert engine.docker("info", "--format", "{{json .RegistryConfig.Mirrors}}").stdout.strip() == json.dumps(["http://127.0.0.1:1", f"http://{empty_registry.host}/", f"http://{registry.host}"], separators=(",", ":"))
    finally:
        finish(engine)
        empty_registry.close()


def test_mirrors_of_any_registry(registry, layouts):
    """containerd's hosts.toml, with a caching mirror of nginx under a path of its own."""
    port = free_port()
    nginx = Nginx(f"listen 127.0.0.1:{port}; location /v2/cache/ {{ proxy_pass http://{registry.host}/v2/; proxy_cache blobs; proxy_cache_valid 200 206 1m; proxy_set_header Accept $http_accept; }}",
                  "proxy_cache_path DIR/cache keys_zone=blobs:1m;")
    wait_for(port, nginx.process)
    configs = tempfile.mkdtemp(prefix="tare-hosts-")
    os.mkdir(os.path.join(configs, "registry.invalid"))
    with open(os.path.join(configs, "registry.invalid", "hosts.toml"), "w", encoding="utf-8") as file:
        file.write(f'server = "http://{registry.host}"\n[host."http://127.0.0.1:1"]\n[host."http://127.0.0.1:{port}/v2/cache"]\n  capabilities = ["pull"]\n  override_path = true\n')
        file.write(f'[host."http://127.0.0.1:{port}/v2/cache".header]\n  X-From = "hosts.toml"\n')
    engine = make_engine("--registry-config-path", configs).start()
    try:
        assert "Downloaded newer image for registry.invalid/bb:1" in engine.docker("pull", "registry.invalid/bb:1").stdout
        access = nginx.access()
        assert "/v2/cache/bb/blobs/" in access and "manifests/1" not in access  # it may not resolve tags
        assert engine.docker("images", "--format", "{{.Repository}}").stdout == "registry.invalid/bb\n"
        nginx.close()
        empty(engine)
        assert "Downloaded newer image" in engine.docker("pull", "registry.invalid/bb:1").stdout  # falls through to the registry
        with open(os.path.join(configs, "registry.invalid", "hosts.toml"), "a", encoding="utf-8") as file:
            file.write("capabilities = 1\n")
        broken = engine.docker("pull", "registry.invalid/bb:1", check=False)
        assert f"{configs}/registry.invalid/hosts.toml: line 8: " in broken.stderr
    finally:
        finish(engine)
        shutil.rmtree(configs)
