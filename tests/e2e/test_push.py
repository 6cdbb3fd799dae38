"""push, and what others then pull: image id, layers and manifest digest are the same everywhere; and everything that can go wrong on the way."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess

import docker
import pytest

from conftest import finish, make_engine
from dockerd import running_dockerd
from inputs import busybox_root
from local_registry import Registry, TokenServer


@pytest.fixture(scope="module")
def second_registry(tmp_path_factory):
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def other():
    """A second engine."""
    running = make_engine().start()
    yield running
    finish(running)


@pytest.fixture(scope="module")
def built(engine, tmp_path_factory):
    """An image of three layers of its own; its id."""
    engine.tare("import", str(busybox_root()), "base")
    context = tmp_path_factory.mktemp("context")
    (context / "file").write_text("content\n" * 1000, encoding="utf-8")
    (context / "Dockerfile").write_text("FROM base\nCOPY file /file\nRUN echo made > /made && ln -s made /link\nLABEL a=b\nCMD [\"cat\", \"/made\"]\n", encoding="utf-8")
    engine.tare("build", "-q", "-t", "built", str(context))
    return engine.tare("image", "inspect", "-f", "{{.Id}}", "built").stdout.strip()


def push(engine, name, program="tare", *flags):
    return engine.client(program, "push", *flags, name) if program != "tare" else engine.tare("push", *flags, name)


def digest_line(output):
    return re.search(r"digest: (sha256:[0-9a-f]{64}) size: (\d+)", output).groups()


def diff_ids(engine, name):
    return json.loads(engine.tare("image", "inspect", "-f", "{{json .RootFS.Layers}}", name).stdout)


def test_first_push(engine, registry, built):
    name = f"{registry.host}/first"
    engine.tare("tag", "built", name)
    output = push(engine, name).stdout
    ids = [layer[7:19] for layer in reversed(diff_ids(engine, "built"))]
    lines = output.splitlines()
    assert lines[:2] == ["Using default tag: latest", f"The push refers to repository [{name}]"]
    assert lines[2:5] == [f"{one}: Preparing" for one in ids]
    assert sorted(lines[5:8]) == sorted(f"{one}: Pushed" for one in ids)
    digest, size = digest_line(lines[8])
    assert len(lines) == 9 and lines[8].startswith("latest: digest: ")
    body, media_type = registry.manifest("first", "latest")
    assert "sha256:" + hashlib.sha256(body).hexdigest() == digest and len(body) == int(size)
    assert media_type == "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.loads(body)
    assert manifest["config"]["digest"] == built
    assert body.decode() == json.dumps(manifest, indent=3)
    assert engine.tare("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}", name).stdout == f"{name} latest {digest}\n"
    assert f"{name}@{digest}" in engine.tare("image", "inspect", "-f", "{{.RepoDigests}}", name).stdout
    # Once more: nothing is sent. And to a repository beside it: nothing but names.
    for program in ("tare", "/usr/local/bin/docker", "/usr/bin/docker"):
        if program == "tare" or os.path.exists(program):
            again = push(engine, name, program).stdout.splitlines()
            assert sorted(again[5:8]) == sorted(f"{one}: Layer already exists" for one in ids), program
            assert again[8] == lines[8]
    engine.tare("tag", name, f"{registry.host}/group/beside:2")
    beside = push(engine, f"{registry.host}/group/beside:2").stdout.splitlines()
    assert sorted(line for line in beside if "Mounted" in line) == sorted(f"{one}: Mounted from first" for one in ids)
    assert digest_line(beside[-1]) == (digest, size)
    # What a client of the API gets.
    client = docker.DockerClient(base_url=engine.host)
    messages = list(client.images.push(name, tag="latest", stream=True, decode=True))
    client.close()
    assert messages[-2] == {"status": lines[8]}
    assert messages[-1] == {"progressDetail": {}, "aux": {"Tag": "latest", "Digest": digest, "Size": int(size)}}
    assert messages[1] == {"status": "Preparing", "progressDetail": {}, "id": ids[0]}


def test_others_pull_it(engine, other, registry, built):
    name = f"{registry.host}/everywhere:1"
    engine.tare("tag", "built", name)
    digest, _ = digest_line(push(engine, name).stdout)
    layers = diff_ids(engine, "built")
    other.tare("pull", "-q", name)
    assert other.tare("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == built and diff_ids(other, name) == layers
    assert other.tare("run", "--rm", name).stdout == "made\n"
    # skopeo: verifies every digest, and knows the same.
    inspected = json.loads(subprocess.run(["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"], check=True, capture_output=True, timeout=60).stdout)
    assert inspected["Digest"] == digest
    copy = os.path.join(engine.directory, "copy")
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{copy}"], check=True, timeout=60)
    for layer, diff_id in zip(inspected["Layers"], layers):
        tar = subprocess.run(["gzip", "-dc"], stdin=open(f"{copy}/{layer[7:]}", "rb"), check=True, capture_output=True).stdout
        assert "sha256:" + hashlib.sha256(tar).hexdigest() == diff_id
    with running_dockerd() as reference:
        reference.docker("pull", "-q", name)
        assert reference.docker("image", "inspect", "-f", "{{.Id}} {{json .RootFS.Layers}}", name).stdout.decode().split(" ", 1) == [built, json.dumps(layers, separators=(",", ":")) + "\n"]
        assert digest in reference.docker("image", "inspect", "-f", "{{.RepoDigests}}", name).stdout.decode()
        # What dockerd pushes in its turn is the same manifest: its text is ours.
        reference.docker("tag", name, f"{registry.host}/again:1")
        assert digest_line(reference.docker("push", f"{registry.host}/again:1").stdout.decode())[0] == digest
    podman = ["podman", "--root", f"{engine.directory}/podman", "--runroot", f"{engine.directory}/pr", "--storage-driver", "vfs"]
    subprocess.run([*podman, "pull", "-q", "--tls-verify=false", name], check=True, capture_output=True, timeout=120)
    shown = json.loads(subprocess.run([*podman, "image", "inspect", name], check=True, capture_output=True, timeout=60).stdout)[0]
    assert "sha256:" + shown["Id"] == built and shown["Digest"] == digest and shown["RootFS"]["Layers"] == layers
    subprocess.run([*podman, "rmi", "-a", "-f"], check=True, capture_output=True, timeout=60)
    subprocess.run(["podman", "unshare", "true"], check=False, capture_output=True, timeout=60)
    for leftover in ("podman", "pr", "copy"):
        shutil.rmtree(f"{engine.directory}/{leftover}", ignore_errors=True)


@pytest.mark.parametrize("kind", ["v2s2", "oci", "zstd"])
def test_unchanged_images_keep_their_manifest(engine, second_registry, built, kind, tmp_path):
    """Compressed by others, in another way than ours: the very blobs go on, from where they came."""
    origin, third = Registry(tmp_path / "origin"), Registry(tmp_path / "third")
    reader = make_engine().start()
    try:
        archive = tmp_path / "built.tar"
        engine.tare("save", "-o", str(archive), "built")
        source = f"{origin.host}/foreign:1"
        flags = ["--dest-compress-format", "zstd", "-f", "oci"] if kind == "zstd" else ["--dest-compress-level", "9", "-f", kind]
        subprocess.run(["skopeo", "copy", "-q", *flags, "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{source}"], check=True, capture_output=True, timeout=60)
        body, media_type = origin.manifest("foreign", "1")
        assert (b"tar+zstd" in body) == (kind == "zstd")
        reader.tare("pull", "-q", source)
        # Another repository of the registry, and another registry.
        for server, name, said in ((origin, "near", "Mounted from foreign"), (second_registry, f"far-{kind}", "Pushed")):
            reader.tare("tag", source, f"{server.host}/{name}:1")
            output = push(reader, f"{server.host}/{name}:1").stdout
            assert server.manifest(name, "1") == (body, media_type) and output.count(said) == 3, output
        # Where nobody has them any more, there are new ones of the same image.
        origin.stop()
        second_registry.stop()
        reader.tare("tag", source, f"{third.host}/alone:1")
        push(reader, f"{third.host}/alone:1")
        made = json.loads(third.manifest("alone", "1")[0])
        assert made["config"]["digest"] == json.loads(body)["config"]["digest"] and made["layers"] != json.loads(body)["layers"]
    finally:
        if second_registry.process.poll() is not None:
            second_registry.start()
        origin.stop()
        third.stop()
        finish(reader)


def test_zstd(engine, other, registry, built):
    name = f"{registry.host}/dense:1"
    engine.tare("tag", "built", name)
    engine.tare("push", "--compression", "zstd", name)
    body, media_type = registry.manifest("dense", "1")
    assert media_type == "application/vnd.oci.image.manifest.v1+json"
    assert {layer["mediaType"] for layer in json.loads(body)["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    other.tare("rmi", f"{registry.host}/everywhere:1", check=False)
    other.tare("pull", "-q", name)
    assert other.tare("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == built
    failed = engine.tare("push", "--compression", "brotli", name, check=False)
    assert (failed.returncode, failed.stderr) == (1, 'Error response from daemon: invalid compression "brotli": gzip or zstd\n')


def test_all_tags_and_quiet(engine, registry, built):
    name = f"{registry.host}/many"
    for tag in ("one", "three", "two"):
        engine.tare("tag", "built", f"{name}:{tag}")
    output = push(engine, name, "tare", "-a").stdout
    assert [line.split(":")[0] for line in output.splitlines() if "digest: " in line] == ["one", "three", "two"]
    assert len({digest_line(line) for line in output.splitlines() if "digest: " in line}) == 1
    assert output.count("The push refers to") == 1
    result = push(engine, f"{name}:two", "tare", "-q")
    assert (result.stdout, result.stderr) == (f"{name}:two\n", "")


def test_refusals(engine, registry, built):
    host = registry.host
    for words, text in [
        ((f"{host}/absent",), f"An image does not exist locally with the tag: {host}/absent\n"),
        ((f"{host}/many:absent",), f"tag does not exist: {host}/many:absent\n"),
        (("-a", f"{host}/many:two"), "tag can't be used with --all-tags/-a\n"),
    ]:
        failed = engine.tare("push", *words, check=False)
        assert (failed.returncode, failed.stderr) == (1, text)
    failed = engine.api("POST", f"/images/{host}%2Fmany@sha256:{'0' * 64}/push")
    assert (failed.status, failed.message) == (400, "cannot push a digest reference")
    failed = engine.tare("push", "--platform", "linux/arm64", f"{host}/many:two", check=False)
    assert failed.returncode == 1 and "does not match the specified platform (linux/arm64)" in failed.stderr
    assert push(engine, f"{host}/many:two", "tare", "--platform", "linux/amd64").returncode == 0


def test_event_and_layers_that_are_held(engine, registry, built):
    name = f"{registry.host}/events:1"
    engine.tare("tag", "built", name)
    since = engine.tare("info", "-f", "{{.SystemTime}}").stdout.strip()
    push(engine, name)
    until = engine.tare("info", "-f", "{{.SystemTime}}").stdout.strip()
    events = engine.tare("events", "--since", since, "--until", until, "--filter", "event=push", "--format", "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}").stdout
    assert events == f"image push {name} {registry.host}/events\n"


def login(engine, host, user, password, **env):
    return engine.tare("login", "-u", user, "--password-stdin", host, input=password, check=False, env=env)


def test_htpasswd(engine, built, tmp_path):
    guarded = Registry(tmp_path, user="me", password="s:ecret")
    try:
        name = f"{guarded.host}/app:1"
        engine.tare("tag", "built", name)
        env = {"DOCKER_CONFIG": str(tmp_path / "client")}
        failed = engine.tare("push", name, check=False, env=env)
        assert failed.returncode == 1 and "no basic auth credentials" in failed.stderr and "Retrying" not in failed.stdout, failed.stderr
        failed = login(engine, guarded.host, "me", "wrong", **env)
        assert failed.returncode == 1 and failed.stderr == f"Error response from daemon: login attempt to http://{guarded.host}/v2/ failed with status: 401 Unauthorized\n"
        assert not (tmp_path / "client" / "config.json").exists()
        assert login(engine, guarded.host, "me", "s:ecret", **env).stdout == "Login Succeeded\n"
        for program in ("tare", "docker"):
            call = engine.tare if program == "tare" else engine.docker
            assert "digest: sha256:" in call("push", name, env=env).stdout
            assert call("pull", "-q", name, env=env).stdout == name + "\n"
            engine.tare("rmi", "-f", name)  # a build pulls its base with the same credentials (X-Registry-Config)
            assert "Successfully built" in call("build", "--pull", "-", input=f"FROM {name}\nLABEL by={program}\n", env=env).stdout
        engine.tare("tag", "built", name)
        assert engine.tare("logout", guarded.host, env=env).returncode == 0
        assert engine.tare("push", name, check=False, env=env).returncode == 1
    finally:
        guarded.stop()


def test_tls(new_engine, built, tmp_path):
    """A private authority in the usual directories; without it a clear no."""
    secure = Registry(tmp_path / "registry", tls=True)
    try:
        engine = new_engine()
        os.makedirs(engine.directory, exist_ok=True)
        with open(os.path.join(engine.directory, "daemon.json"), "w", encoding="utf-8") as file:
            json.dump({"registry-config-path": [str(tmp_path / "certs.d")]}, file)
        engine.start()
        engine.tare("import", str(busybox_root()), f"{secure.host}/app:1")
        os.makedirs(tmp_path / "certs.d" / secure.host)
        shutil.copy(tmp_path / "registry" / "ca.crt", tmp_path / "certs.d" / secure.host / "ca.crt")
        assert "digest: sha256:" in push(engine, f"{secure.host}/app:1").stdout
    finally:
        secure.stop()


def test_tokens(engine, built, tmp_path):
    """Scopes are asked for as they are needed, also for mounts; an identity token does for a password."""
    tokens = TokenServer(tmp_path / "tokens", {"me": "secret"}, identity_token="refresh-me")
    guarded = Registry(tmp_path / "registry", token_realm=tokens)
    env = {"DOCKER_CONFIG": str(tmp_path / "client")}
    try:
        name = f"{guarded.host}/team/app:1"
        engine.tare("tag", "built", name)
        failed = engine.tare("push", name, check=False, env=env)
        assert failed.returncode == 1 and "denied" in failed.stderr or "unauthorized" in failed.stderr, failed.stderr
        assert login(engine, guarded.host, "me", "secret", **env).stdout == "Login Succeeded\n"
        entry = json.loads((tmp_path / "client" / "config.json").read_text(encoding="utf-8"))["auths"][guarded.host]
        assert entry["identitytoken"] == "refresh-me" and base64.b64decode(entry["auth"]) == b"me:"
        tokens.asked.clear()
        assert "Pushed" in engine.tare("push", name, env=env).stdout
        assert any("repository:team/app:pull,push" in scope or "repository:team/app:push,pull" in scope for scopes, _ in tokens.asked for scope in scopes)
        engine.tare("tag", name, f"{guarded.host}/team/other:1")
        assert "Mounted from team/app" in engine.tare("push", f"{guarded.host}/team/other:1", env=env).stdout
        assert any("repository:team/app:pull" in scope for scopes, _ in tokens.asked for scope in scopes)
    finally:
        guarded.stop()
        tokens.stop()


@pytest.mark.parametrize("program", ["tare", "docker"])
def test_identity_tokens(engine, built, tmp_path, program):
    """A log-in that yields one is kept without its password, as docker keeps it; pull and push exchange it for tokens by OAuth2's POST."""
    tokens = TokenServer(tmp_path / "tokens", {"me": "secret"}, identity_token="refresh-me", private=True)
    guarded = Registry(tmp_path / "registry", token_realm=tokens)
    call = getattr(engine, program)
    env = {"DOCKER_CONFIG": str(tmp_path / "client")}
    name = f"{guarded.host}/team/app:1"
    try:
        engine.tare("tag", "built", name)
        call("login", "-u", "me", "--password-stdin", guarded.host, input="secret", env=env)
        assert tokens.forms[-1]["offline_token"] == "true" and tokens.forms[-1]["account"] == "me" and tokens.forms[-1]["service"] == "tests"
        kept = json.loads((tmp_path / "client" / "config.json").read_text(encoding="utf-8"))
        assert kept == {"auths": {guarded.host: {"auth": base64.b64encode(b"me:").decode(), "identitytoken": "refresh-me"}}}
        tokens.forms.clear()
        assert "digest: sha256:" in call("push", name, env=env).stdout
        engine.tare("rmi", name)
        assert f"newer image for {name}" in call("pull", name, env=env).stdout
        assert {form["method"] for form in tokens.forms} == {"POST"}
        for form in tokens.forms:
            assert (form["grant_type"], form["refresh_token"], form["service"], form["client_id"]) == ("refresh_token", "refresh-me", "tests", "docker")
        assert {"repository:team/app:pull,push", "repository:team/app:pull"} <= {form["scope"] for form in tokens.forms}
        assert call("pull", name, env={"DOCKER_CONFIG": str(tmp_path)}, check=False).returncode == 1  # without it nothing
        tokens.identity_token = "another"
        revoked = call("pull", name, env=env, check=False)
        assert revoked.returncode == 1 and f'Post "{tokens.url}": unauthorized: ' in revoked.stderr and f"{guarded.host}/team/app" in revoked.stderr
    finally:
        engine.tare("rmi", name, check=False)
        guarded.stop()
        tokens.stop()


def test_identity_tokens_by_the_api(engine, built, tmp_path):
    """X-Registry-Auth with nothing but the token; a server that gives a new one each time; the SDK."""
    tokens = TokenServer(tmp_path / "tokens", {"me": "secret"}, identity_token="one", private=True, rotates=True)
    guarded = Registry(tmp_path / "registry", token_realm=tokens)
    try:
        for name in ("first", "second"):  # the second is mounted from the first, which takes another scope and so another token
            engine.tare("tag", "built", f"{guarded.host}/{name}:1")
            header = base64.urlsafe_b64encode(json.dumps({"identitytoken": tokens.identity_token}).encode()).decode()
            answer = engine.api("POST", f"/images/{guarded.host}/{name}/push?tag=1", headers={"X-Registry-Auth": header})
            assert "aux" in answer.messages[-1], answer.messages
        assert len({form["refresh_token"] for form in tokens.forms}) == len(tokens.forms) >= 3
        client = docker.DockerClient(base_url=engine.host)
        assert client.images.pull(f"{guarded.host}/first", tag="1", auth_config={"identitytoken": tokens.identity_token}).tags
        client.close()
        body = {"serveraddress": guarded.host, "identitytoken": tokens.identity_token}
        assert engine.api("POST", "/auth", body=body).json == {"Status": "Login Succeeded", "IdentityToken": tokens.identity_token}
    finally:
        guarded.stop()
        tokens.stop()


def test_blobs_from_a_guarded_source(engine, built, registry, tmp_path):
    """What was pulled with credentials goes to another registry as it came: tare knows those of the source; docker has no way to say them, and
    what it pushes is made anew."""
    source = Registry(tmp_path / "source", user="me", password="secret")
    reader = make_engine().start()
    env = {"DOCKER_CONFIG": str(tmp_path / "client")}
    try:
        archive = tmp_path / "built.tar"
        engine.tare("save", "-o", str(archive), "built")
        name = f"{source.host}/private/app:1"
        subprocess.run(["skopeo", "copy", "-q", "--dest-compress-level", "9", "-f", "oci", "--dest-tls-verify=false", "--dest-creds", "me:secret", f"docker-archive:{archive}", f"docker://{name}"],
                       check=True, capture_output=True, timeout=60)
        login(reader, source.host, "me", "secret", **env)
        reader.tare("pull", "-q", name, env=env)
        digest = reader.tare("image", "inspect", "-f", "{{index .RepoDigests 0}}", name).stdout.strip().split("@")[1]
        for program, target in (("docker", "anew"), ("tare", "as-it-came")):
            reader.tare("tag", name, f"{registry.host}/{target}:1")
            pushed = digest_line(getattr(reader, program)("push", f"{registry.host}/{target}:1", env=env).stdout)[0]
            assert (pushed == digest) == (program == "tare")
        reader.tare("tag", name, f"{registry.host}/stranger:1")
        beside = reader.docker("push", "-a", f"{registry.host}/stranger").stdout  # the registry has them now
        assert digest_line(beside)[0] == digest and beside.count("Mounted from as-it-came") == 3
    finally:
        source.stop()
        finish(reader)
