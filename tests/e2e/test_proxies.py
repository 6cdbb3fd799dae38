"""Registries behind a proxy: the environment's, daemon.json's and the flags' settings, with a proxy that alone knows the registry's name."""

import json
import os
import shutil

import pytest

from conftest import finish, make_engine
from inputs import busybox_root
from proxy import Proxy
from registries import Authority, DockerRegistry

HOST = "secure.invalid"  # no name of this machine's resolver


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """A registry with TLS under HOST, and the directory that makes its authority known."""
    authority = Authority()
    running = DockerRegistry(certificate=authority.issue("server", f"DNS:{HOST}"))
    directory = tmp_path_factory.mktemp("certs")
    os.makedirs(directory / HOST)
    shutil.copy(authority.path, directory / HOST / "ca.crt")
    yield str(directory), running
    running.close()
    authority.close()


@pytest.fixture
def proxy(certs, registry):
    running = Proxy({f"{HOST}:443": certs[1].host, "plain.invalid:80": registry.host}, users={"me": "pass word"})
    yield running
    running.close()


SILENT = {name: None for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")}


def configured(certs, monkeypatch, environment=None, file=None, flags=()):
    """A running engine with settings of these three kinds; the environment is its own alone."""
    for name, value in {**SILENT, **(environment or {})}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    engine = make_engine("--registry-config-path", certs[0], "--insecure-registry", "plain.invalid", *flags)
    with open(os.path.join(engine.directory, "daemon.json"), "w", encoding="utf-8") as to:
        json.dump(file or {}, to)
    engine.start()
    monkeypatch.undo()
    return engine


def settings(how, url, except_for):
    if how == "environment":
        return {"environment": {"HTTP_PROXY": url, "https_proxy": url, "NO_PROXY": except_for}}
    if how == "file":
        return {"file": {"proxies": {"http-proxy": url, "https-proxy": url, "no-proxy": except_for}}, "environment": {"HTTPS_PROXY": "http://127.0.0.1:1"}}
    return {"flags": ("--http-proxy", url, f"--https-proxy={url}", "--no-proxy", except_for)}


@pytest.mark.parametrize("how", ["environment", "file", "flags"])
def test_through_the_proxy(certs, registry, proxy, monkeypatch, how):
    """Both clients push and pull through it: with TLS by CONNECT, without by whole URLs; the password is shown nowhere."""
    url = f"http://me:pass%20word@{proxy.host}"
    engine = configured(certs, monkeypatch, **settings(how, url, "direct.invalid,.example.com"))
    try:
        for number, call in enumerate((engine.tare, engine.docker)):
            name = f"{HOST}/{how}{number}:1"
            call("import", str(busybox_root()), name)
            assert "digest: sha256:" in call("push", name).stdout
            call("rmi", name)
            assert f"Status: Downloaded newer image for {name}" in call("pull", name).stdout
            assert call("run", "--rm", name, "echo", "there").stdout == "there\n"
            shown = call("info").stdout
            assert f"HTTP Proxy: http://xxxxx:xxxxx@{proxy.host}\n" in shown and f"HTTPS Proxy: http://xxxxx:xxxxx@{proxy.host}\n" in shown and "No Proxy: direct.invalid,.example.com\n" in shown
            excepted = call("pull", "direct.invalid/x", check=False)
            assert excepted.returncode == 1 and 'Get "https://direct.invalid/v2/": dial tcp: lookup direct.invalid: no such host' in excepted.stderr
        assert f"CONNECT {HOST}:443" in proxy.asked and not any("direct.invalid" in line for line in proxy.asked)
        engine.tare("tag", name, "plain.invalid/app:1")
        engine.tare("push", "-q", "plain.invalid/app:1")
        assert registry.manifest("app", "1") and "PUT http://plain.invalid/v2/app/manifests/1" in proxy.asked
        seen = len(proxy.asked)
        engine.docker("pull", f"{registry.host}/app:1")
        assert len(proxy.asked) == seen  # never for this machine itself
        assert "pass%20word" not in engine.log and "pass word" not in engine.log
    finally:
        finish(engine)


@pytest.mark.parametrize("program", ["tare", "docker"])
def test_a_proxy_that_does_not(certs, proxy, monkeypatch, program):
    engine = configured(certs, monkeypatch, file={"proxies": {"https-proxy": f"http://me:wrong@{proxy.host}"}})
    try:
        failed = getattr(engine, program)("pull", f"{HOST}/app:1", check=False)
        assert failed.stderr == f'Error response from daemon: Get "https://{HOST}/v2/": the proxy http://xxxxx:xxxxx@{proxy.host} refuses the connection: 407 Proxy Authentication Required\n'
        failed = getattr(engine, program)("pull", "unknown.invalid/app:1", check=False)
        assert "refuses the connection: 407" in failed.stderr
        proxy.users = None
        failed = getattr(engine, program)("pull", "unknown.invalid/app:1", check=False)
        assert f"the proxy http://xxxxx:xxxxx@{proxy.host} refuses the connection: 502 Bad Gateway" in failed.stderr
        proxy.close()
        failed = getattr(engine, program)("pull", f"{HOST}/app:1", check=False)
        assert failed.stderr == f'Error response from daemon: Get "https://{HOST}/v2/": proxyconnect tcp: dial tcp {proxy.host}: connect: connection refused\n'
    finally:
        finish(engine)


def test_urls_of_builds_and_imports(engine, proxy, monkeypatch, certs):
    """What the engine fetches beside registries goes the same way."""
    proxy.users = None
    ours = configured(certs, monkeypatch, flags=("--http-proxy", f"http://{proxy.host}"))
    try:
        failed = ours.tare("import", "http://plain.invalid/nothing.tar", check=False)
        assert failed.returncode == 1 and "404" in failed.stderr and "GET http://plain.invalid/nothing.tar" in proxy.asked
        ours.docker("import", str(busybox_root()), "bb:1")
        built = ours.docker("build", "-", input="FROM bb:1\nADD http://plain.invalid/v2/ /answer\n")
        assert "Successfully built" in built.stdout and "GET http://plain.invalid/v2/" in proxy.asked
    finally:
        finish(ours)


def test_refusals(new_engine):
    for file, flags, message in [
        ({"proxies": {"http-proxy": "http://a:secret@b:1"}}, ["--http-proxy", "http://c:secret@d:1"], "http-proxy: (from flag: http://xxxxx:xxxxx@d:1, from file: http://xxxxx:xxxxx@b:1)"),
        ({"proxies": {"ftp-proxy": "x"}}, [], "the following directives don't match any configuration option: proxies.ftp-proxy"),
        ({"http-proxy": "http://a"}, [], "the following directives don't match any configuration option: http-proxy"),
        ({"proxies": []}, [], '"proxies" must be an object'),
        ({"proxies": {"http-proxy": 1}}, [], '"http-proxy" must be a string'),
        ({}, ["--https-proxy", "gopher://x"], 'invalid proxy "gopher://x": unsupported scheme "gopher"'),
        ({}, ["--https-proxy", "http://:1"], 'invalid proxy "http://:1": it has no host'),
    ]:
        engine = new_engine(*flags)
        with open(os.path.join(engine.directory, "daemon.json"), "w", encoding="utf-8") as to:
            json.dump(file, to)
        engine.start(expect_ready=False)
        assert engine.wait() == 1 and message in engine.log, engine.log
        os.unlink(engine.log_path)  # it never was one
        assert "secret" not in message
