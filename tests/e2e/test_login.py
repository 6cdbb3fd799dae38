"""login and logout in the command: the file that docker shares, credential helpers, and what is sent with pull, push and build. Against an engine that says yes to everything."""

import base64
import json
import os
import pathlib
import pty
import subprocess
import time
import urllib.parse

import pytest

from conftest import newer_client, program_directory
from fake_engine import FakeEngine

TARE = os.path.join(program_directory(), "tare")
DOCKER = next(path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if os.path.exists(path))

HELPER = """#!/usr/bin/python3
import json, os, sys
path = os.environ["HELPER_STORE"]
known = json.load(open(path)) if os.path.exists(path) else {}
action, given = sys.argv[1], sys.stdin.read().strip()
if action == "store":
    one = json.loads(given)
    known[one["ServerURL"]] = one
elif action == "erase":
    known.pop(given, None)
elif action == "list":
    print(json.dumps({server: one["Username"] for server, one in known.items()}))
elif given == "locked.example":
    print("the keychain is locked")
    sys.exit(1)
elif given not in known:
    print("credentials not found in native keychain")
    sys.exit(1)
else:
    print(json.dumps(known[given]))
json.dump(known, open(path, "w"))
"""


@pytest.fixture
def fake(tmp_path):
    engine = FakeEngine(str(tmp_path / "engine.sock"))
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    helper = bin_directory / "docker-credential-test"
    helper.write_text(HELPER, encoding="utf-8")
    helper.chmod(0o755)
    seen = []

    def call(program, *words, input=None, **more):
        environment = {"PATH": f"{bin_directory}:/usr/bin:/bin", "HOME": str(tmp_path), "DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(tmp_path / "config"), "HELPER_STORE": str(tmp_path / "store"), "DOCKER_BUILDKIT": "0", **more}
        result = subprocess.run([program, *words], env=environment, input=input, capture_output=True, text=True, check=False, timeout=60)
        seen.extend(engine.take())
        return result

    engine.host = "unix://" + engine.path
    engine.call = call
    engine.seen = seen
    engine.config = tmp_path / "config" / "config.json"
    yield engine
    engine.stop()


def sent(fake, path, header):
    """The last header of that name that a request for path carried."""
    found = [headers[header] for method, target, headers, body in fake.seen if urllib.parse.unquote(target).startswith(path) and header in headers]
    return json.loads(base64.urlsafe_b64decode(found[-1]))


@newer_client
@pytest.mark.parametrize("program", [TARE, DOCKER])
def test_file(fake, program):
    result = fake.call(program, "login", "-u", "me", "--password-stdin", "reg.example:5000", input="p:w d\n")
    assert (result.returncode, result.stdout) == (0, "Login Succeeded\n")
    assert result.stderr == f"\nWARNING! Your credentials are stored unencrypted in '{fake.config}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n"
    assert fake.config.read_text(encoding="utf-8") == '{\n\t"auths": {\n\t\t"reg.example:5000": {\n\t\t\t"auth": "' + base64.b64encode(b"me:p:w d").decode() + '"\n\t\t}\n\t}\n}'
    assert fake.config.stat().st_mode & 0o777 == 0o600
    bodies = [json.loads(body) for method, target, headers, body in fake.seen if target.startswith("/auth")]
    assert bodies[-1] == {"username": "me", "password": "p:w d", "serveraddress": "reg.example:5000"}
    # What one writes the other reads; unchanged credentials are no news.
    for reader in (TARE, DOCKER):
        assert fake.call(reader, "push", "reg.example:5000/app").returncode == 0
        auth = sent(fake, "/images/reg.example:5000/app/push", "X-Registry-Auth")
        assert (auth["username"], auth["password"], auth["serveraddress"]) == ("me", "p:w d", "reg.example:5000")
    again = fake.call(program, "login", "-u", "me", "--password-stdin", "reg.example:5000", input="p:w d")
    assert (again.returncode, again.stderr) == (0, "")
    assert fake.call(program, "login", "-u", "hub", "-p", "x").stderr.startswith("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    assert list(json.loads(fake.config.read_text(encoding="utf-8"))["auths"]) == ["https://index.docker.io/v1/", "reg.example:5000"] or program == TARE
    assert fake.call(TARE, "pull", "-q", "debian").returncode == 0
    assert sent(fake, "/images/create", "X-Registry-Auth")["username"] == "hub"
    assert fake.call(TARE, "pull", "-q", "other.example/debian").returncode == 0
    assert sent(fake, "/images/create", "X-Registry-Auth") == {}
    assert fake.call(TARE, "build", "-q", "-", input="FROM scratch").returncode == 0
    everything = sent(fake, "/build", "X-Registry-Config")
    assert {server: one["username"] for server, one in everything.items()} == {"https://index.docker.io/v1/": "hub", "reg.example:5000": "me"}
    for server, told in (("https://reg.example:5000/v2/", "reg.example:5000"), ("", "https://index.docker.io/v1/"), ("nowhere.example", "nowhere.example")):
        result = fake.call(program, "logout", *filter(None, [server]))
        assert (result.returncode, result.stdout, result.stderr) == (0, f"Removing login credentials for {told}\n", "")
    assert json.loads(fake.config.read_text(encoding="utf-8")).get("auths", {}) == {}


@newer_client
@pytest.mark.parametrize("program", [TARE, DOCKER])
def test_refusals(fake, program):
    for words, text in [
        (("-u", "me", "-p", "x", "--password-stdin"), "conflicting options: cannot specify both --password and --password-stdin"),
        (("--password-stdin",), "the --password-stdin option requires --username to be set"),
        (("-u", ""), "username is empty"),
        (("-u", "me", "-p", ""), "password is empty"),
        (("-u", "me"), "Error: Cannot perform an interactive login from a non TTY device"),
        (("-u", "me", "--password-stdin"), "Error: Cannot perform an interactive login from a non TTY device"),
    ]:
        result = fake.call(program, "login", *words, "reg.example", input="")
        assert (result.returncode, result.stdout, result.stderr) == (1, "", text + "\n"), words
    assert not fake.config.exists()


@pytest.mark.parametrize("program", [TARE, DOCKER])
def test_helpers(fake, program, tmp_path):
    fake.config.parent.mkdir()
    fake.config.write_text(json.dumps({"credsStore": "none-such", "credHelpers": {"reg.example": "test", "locked.example": "test", "gone.example": "absent"}, "unknown": [1]}), encoding="utf-8")
    result = fake.call(program, "login", "-u", "me", "--password-stdin", "reg.example", input="secret")
    assert (result.returncode, result.stdout, result.stderr) == (0, "Login Succeeded\n", "")
    assert json.loads((tmp_path / "store").read_text(encoding="utf-8"))["reg.example"] == {"ServerURL": "reg.example", "Username": "me", "Secret": "secret"}
    assert json.loads(fake.config.read_text(encoding="utf-8"))["auths"] == {"reg.example": {}}
    assert fake.call(program, "push", "reg.example/app").returncode == 0
    assert sent(fake, "/images/reg.example/app/push", "X-Registry-Auth")["password"] == "secret"
    # An identity token is what a helper has under <token>.
    (tmp_path / "store").write_text(json.dumps({"reg.example": {"ServerURL": "reg.example", "Username": "<token>", "Secret": "refresh"}}), encoding="utf-8")
    assert fake.call(program, "push", "reg.example/app").returncode == 0
    assert sent(fake, "/images/reg.example/app/push", "X-Registry-Auth")["identitytoken"] == "refresh"
    result = fake.call(program, "login", "-u", "me", "--password-stdin", "gone.example", input="x")
    assert result.returncode == 1
    assert result.stderr == 'error storing credentials - err: exec: "docker-credential-absent": executable file not found in $PATH, out: ``\n' or program == DOCKER, result.stderr
    result = fake.call(TARE, "pull", "-q", "locked.example/app")
    assert (result.returncode, result.stderr) == (0, "WARNING: error getting credentials - err: exit status 1, out: `the keychain is locked`\n")
    assert fake.call(program, "logout", "reg.example").returncode == 0
    assert json.loads((tmp_path / "store").read_text(encoding="utf-8")) == {}
    after = json.loads(fake.config.read_text(encoding="utf-8"))
    assert after.get("auths", {}) == {} and (program == DOCKER or after["unknown"] == [1])


def test_default_store(fake, tmp_path):
    """A keychain that is there is used, as docker does, until the file says something else."""
    os.rename(tmp_path / "bin" / "docker-credential-test", tmp_path / "bin" / "docker-credential-secretservice")
    assert fake.call(TARE, "login", "-u", "me", "--password-stdin", "reg.example", input="secret").returncode == 0
    assert json.loads(fake.config.read_text(encoding="utf-8")) == {"credsStore": "secretservice", "auths": {"reg.example": {}}}
    assert fake.call(TARE, "build", "-q", "-", input="FROM scratch").returncode == 0
    assert sent(fake, "/build", "X-Registry-Config") == {"reg.example": {"username": "me", "password": "secret", "serveraddress": "reg.example"}}


def test_environment_and_link(fake, tmp_path):
    """What DOCKER_AUTH_CONFIG says wins; a file that is a link stays one, with the mode that its owner chose."""
    given = json.dumps({"auths": {"reg.example": {"auth": base64.b64encode(b"env:there").decode()}}})
    assert fake.call(TARE, "push", "reg.example/app", DOCKER_AUTH_CONFIG=given).returncode == 0
    assert sent(fake, "/images/reg.example/app/push", "X-Registry-Auth")["username"] == "env"
    real = tmp_path / "elsewhere.json"
    real.write_text('{"psFormat": "x"}', encoding="utf-8")
    real.chmod(0o640)
    fake.config.parent.mkdir()
    fake.config.symlink_to(real)
    assert fake.call(TARE, "login", "-u", "me", "--password-stdin", "reg.example", input="secret").returncode == 0
    assert fake.config.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert list(json.loads(real.read_text(encoding="utf-8"))) == ["psFormat", "auths"]


def dialogue(fake, tmp_path, answers, *words):
    """Runs tare on a terminal, and answers each question with the next line."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(HOME=str(tmp_path), DOCKER_HOST=fake.host, DOCKER_CONFIG=str(tmp_path / "config"))
        os.execv(TARE, [TARE, *words])
    seen = b""
    for question, answer in answers:
        deadline = time.monotonic() + 20
        while not seen.rstrip(b" ").endswith(question):
            assert time.monotonic() < deadline, seen
            seen += os.read(terminal, 4096)
        os.write(terminal, answer + b"\n")
    try:
        while piece := os.read(terminal, 4096):
            seen += piece
    except OSError:
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode().replace("\r", "")


def test_questions(fake, tmp_path):
    status, seen = dialogue(fake, tmp_path, [(b"Username:", b" me "), (b"Password:", b"secret")], "login", "reg.example")
    assert status == 0 and seen.startswith("Username:  me \nPassword: \n") and seen.endswith("Login Succeeded\n"), seen
    assert "secret" not in seen
    assert json.loads(pathlib.Path(fake.config).read_text(encoding="utf-8"))["auths"]["reg.example"]["auth"] == base64.b64encode(b"me:secret").decode()
    status, seen = dialogue(fake, tmp_path, [], "login", "reg.example")
    assert status == 0 and seen.startswith("Authenticating with existing credentials... [Username: me]\n") and seen.endswith("Login Succeeded\n"), seen
    status, seen = dialogue(fake, tmp_path, [(b"Username:", b"")], "login", "new.example")
    assert status == 1 and seen.endswith("Error: Non-null Username Required\n")
    status, seen = dialogue(fake, tmp_path, [(b"Password:", b"")], "login", "-u", "x", "new.example")
    assert status == 1 and seen.endswith("Error: Password Required\n")
