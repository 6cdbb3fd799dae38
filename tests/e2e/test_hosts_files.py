"""containerd's hosts.toml, each of its settings, before nginx with TLS: a private authority, client's certificates, headers, paths."""

import os
import shutil
import subprocess

import pytest

from conftest import finish, make_engine
from inputs import busybox_root
from local_registry import Registry
from registries import Nginx, free_port, wait_for

ADDRESS = "198.18.77.2"  # not of 127.0.0.0/8, which is insecure anyway
NAME = "registry.invalid"


@pytest.fixture(scope="module")
def address():
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    yield ADDRESS
    subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory, engine):
    running = Registry(tmp_path_factory.mktemp("registry"))
    engine.tare("import", str(busybox_root()), f"{running.host}/app:1")
    engine.tare("push", "-q", f"{running.host}/app:1")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def front(address, origin, authority):
    """nginx, which speaks to those alone who have a certificate of the authority, and below /strict/ to those who say a word."""
    certificate, key = authority.issue("front", f"IP:{address}")
    port = free_port()
    forward = f"proxy_pass http://{origin.host}"
    keep = "proxy_set_header Host $http_host; proxy_set_header Accept $http_accept; proxy_request_buffering off; proxy_http_version 1.1;"
    running = Nginx(
        f"listen {address}:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_client_certificate {authority.path}; ssl_verify_client on; {keep}"
        f"location /v2/ {{ {forward}; }} location /deep/v2/ {{ {forward}/v2/; }} location /as/it/is/ {{ {forward}/v2/; }}"
        f'location /strict/v2/ {{ if ($http_x_word != "open sesame") {{ return 403; }} {forward}/v2/; }}')
    wait_for(port, running.process, address)
    running.url = f"https://{address}:{port}"
    running.host = f"{address}:{port}"
    yield running
    running.close()


@pytest.fixture(scope="module")
def configs(tmp_path_factory, authority):
    """The directories of NAME: certificates in it, hosts.toml by each test."""
    directory = tmp_path_factory.mktemp("hosts")
    (directory / NAME).mkdir()
    certificate, key = authority.issue("client", "DNS:client")
    for source, name in ((authority.path, "ca.pem"), (certificate, "client.pem"), (key, "client.key")):
        shutil.copy(source, directory / NAME / name)
    (directory / NAME / "both.pem").write_bytes((directory / NAME / "client.pem").read_bytes() + (directory / NAME / "client.key").read_bytes())
    return directory


@pytest.fixture(scope="module")
def reader(configs):
    running = make_engine("--registry-config-path", str(configs)).start()
    yield running
    finish(running)


TLS = 'ca = "ca.pem"\nclient = [["client.pem", "client.key"]]\n'


def write(configs, text, name=NAME):
    (configs / name).mkdir(exist_ok=True)
    (configs / name / "hosts.toml").write_text(text, encoding="utf-8")


def pull(engine, program="tare", check=True, name=f"{NAME}/app:1"):
    engine.tare("rmi", name, check=False)
    return getattr(engine, program)("pull", name, check=check)


SPELLINGS = {
    "pairs": TLS,
    "a file with both": 'ca = ["ca.pem"]\nclient = "both.pem"\n',
    "a list of files": 'ca = ["ca.pem"]\nclient = ["both.pem"]\n',
    "a path": 'ca = "CONFIGS/ca.pem"\nclient = [["CONFIGS/client.pem", "CONFIGS/client.key"]]\n',
    "no authority": 'skip_verify = true\nclient = "both.pem"\n',
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_certificates_of_a_host(reader, configs, front, spelling):
    """The mirror needs both; without either there is a clear no."""
    text = SPELLINGS[spelling].replace("CONFIGS", str(configs / NAME))
    write(configs, f'server = "https://{NAME}"\n[host."{front.url}"]\n{text}')
    for program in ("tare", "docker"):
        assert f"Downloaded newer image for {NAME}/app:1" in pull(reader, program).stdout
    assert f"/v2/app/manifests/1?ns={NAME}" in front.access()


def test_what_is_missing_is_named(reader, configs, front):
    for program in ("tare", "docker"):
        for text, message in [
            ('client = "both.pem"\n', f'Get "{front.url}/v2/": tls: failed to verify certificate: x509: '),
            ('ca = "ca.pem"\n', f"{front.host}/app: GET manifest 1: received unexpected HTTP status: 400 Bad Request"),
            ('ca = "none.pem"\n', f"{configs}/{NAME}/hosts.toml: "),
            ('ca = "ca.pem"\nclient = [["client.pem", "none.key"]]\n', f'Get "{front.url}/v2/": '),
        ]:
            write(configs, f'server = "{front.url}"\n{text}')
            failed = pull(reader, program, check=False)
            assert failed.returncode == 1 and (message in failed.stderr or message.replace(front.host, NAME) in failed.stderr), failed.stderr
            assert "none.pem" not in text or "none.pem" in failed.stderr


def test_the_server_and_its_settings(reader, configs, front, origin):
    """server, with settings at the top: push and pull; and the registry itself where no server is named."""
    write(configs, f'server = "{front.url}"\n{TLS}')
    write(configs, "".join(line.replace('"c', f'"{configs}/{NAME}/c') + "\n" for line in TLS.splitlines()), front.host)
    reader.tare("import", str(busybox_root()), "bb")
    for name in (NAME, front.host):
        for number, call in enumerate((reader.tare, reader.docker)):
            call("tag", "bb", f"{name}/own{number}:1")
            assert "digest: sha256:" in call("push", f"{name}/own{number}:1").stdout
            assert origin.manifest(f"own{number}", "1")
            call("rmi", f"{name}/own{number}:1")
            assert f"newer image for {name}/own{number}:1" in call("pull", f"{name}/own{number}:1").stdout
    shutil.rmtree(configs / front.host)


def test_headers_and_paths(reader, configs, front):
    """A path with and without /v2, one that stands as it is, and headers, which a host gets that has them in its table."""
    for path, more, seen in [
        ("/deep", "", "/deep/v2/app/manifests/1"),
        ("/deep/v2", "", "/deep/v2/app/manifests/1"),
        ("/as/it/is", "override_path = true\n", "/as/it/is/app/manifests/1"),
        ("/strict", f'[host."{front.url}/strict".header]\nX-Word = "open sesame"\nX-More = ["a", "b"]\n', "/strict/v2/app/manifests/1"),
    ]:
        before = front.access().count(f'"GET {seen}?ns={NAME} HTTP/1.1" 200')
        write(configs, f'server = "http://127.0.0.1:1"\n[host."{front.url}{path}"]\n{TLS}{more}')
        for program in ("tare", "docker"):
            pull(reader, program)
        assert front.access().count(f'"GET {seen}?ns={NAME} HTTP/1.1" 200') == before + 2, path
    write(configs, f'server = "{front.url}/strict"\n{TLS}[header]\nx-word = "open sesame"\n')
    pull(reader)
    write(configs, f'server = "{front.url}/strict"\n{TLS}[header]\nx-word = "abracadabra"\n')
    assert "403 Forbidden" in pull(reader, check=False).stderr or "denied" in pull(reader, check=False).stderr


def test_capabilities(reader, configs, front, origin):
    """Tags are asked of those that may resolve, blobs of those that may pull, pushes go to those that may push."""
    write(configs, f'server = "http://{origin.host}"\n[host."{front.url}/deep"]\n{TLS}capabilities = ["pull"]\n')
    for program in ("tare", "docker"):
        before = front.access()
        pull(reader, program)
        new = front.access()[len(before):]
        assert "/deep/v2/app/blobs/" in new and "/manifests/1" not in new
    write(configs, f'server = "http://{origin.host}"\n[host."{front.url}/deep"]\n{TLS}capabilities = ["resolve"]\n')
    before = front.access()
    pull(reader)
    new = front.access()[len(before):]
    assert "/blobs/" not in new and "/deep/v2/app/manifests/1" in new
    write(configs, f'server = "http://127.0.0.1:1"\n[host."{front.url}"]\n{TLS}capabilities = ["push"]\n')
    reader.tare("tag", f"{NAME}/app:1", f"{NAME}/pushed:1")
    assert "digest: sha256:" in reader.tare("push", f"{NAME}/pushed:1").stdout and origin.manifest("pushed", "1")
    assert "connection refused" in pull(reader, check=False, name=f"{NAME}/pushed:1").stderr
    write(configs, f'server = "{front.url}"\n{TLS}capabilities = ["resolve"]\n[host."{front.url}"]\n{TLS}capabilities = ["pull"]\n')
    reader.tare("import", str(busybox_root()), f"{NAME}/none:1")
    failed = reader.docker("push", f"{NAME}/none:1", check=False)
    assert failed.returncode == 1 and f"no host of registry {NAME} allows this ({configs}/{NAME}/hosts.toml)" in failed.stderr


def test_fall_through(reader, configs, front, origin):
    """A host that is down, one that does not have it, one whose certificate is unknown: the next one, and at last the server."""
    write(configs, f'server = "http://{origin.host}"\n[host."http://127.0.0.1:1"]\n[host."{front.url}"]\n[host."{front.url}/nowhere"]\n{TLS}')
    for program in ("tare", "docker"):
        assert "Downloaded newer image" in pull(reader, program).stdout
    write(configs, f'[host."http://127.0.0.1:1"]\n')
    failed = pull(reader, check=False)
    assert f'Get "https://{NAME}/v2/": dial tcp: lookup {NAME}: no such host' in failed.stderr
