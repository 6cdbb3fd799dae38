"""Debian's docker-registry on loopback: plain, with htpasswd, with TLS, or behind a token server of the tests' own."""

import base64
import json
import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request
import warnings

import http_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypt


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(directory, name):
    """A key and a certificate for 127.0.0.1 that is its own authority."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.crt", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)


class Registry:
    def __init__(self, directory, user=None, password=None, tls=False, token_realm=None):
        self.directory = str(directory)
        os.makedirs(self.directory, exist_ok=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.scheme = "https" if tls else "http"
        config = {"version": "0.1", "log": {"level": "warn"}, "storage": {"filesystem": {"rootdirectory": self.directory + "/store"}, "delete": {"enabled": True}}, "http": {"addr": self.host}}
        if user:
            line = user + ":" + crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
            with open(self.directory + "/htpasswd", "w", encoding="utf-8") as file:
                file.write(line + "\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": self.directory + "/htpasswd"}}
        if token_realm:
            config["auth"] = {"token": {"realm": token_realm.url, "service": "tests", "issuer": "tests", "rootcertbundle": token_realm.certificate}}
        if tls:
            make_certificate(self.directory, "ca")
            config["http"]["tls"] = {"certificate": self.directory + "/ca.crt", "key": self.directory + "/ca.key"}
        with open(self.directory + "/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(["docker-registry", "serve", self.directory + "/config.json"], stdin=subprocess.DEVNULL, stdout=open(self.directory + "/log", "ab"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, open(self.directory + "/log", encoding="utf-8").read()
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)

    def manifest(self, name, reference):
        """(bytes, media type) as they are stored; plain registries alone."""
        request = urllib.request.Request(f"http://{self.host}/v2/{name}/manifests/{reference}")
        kinds = ("docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2", "oci.image.manifest.v1", "oci.image.index.v1")
        request.add_header("Accept", ", ".join(f"application/vnd.{kind}+json" for kind in kinds))
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read(), answer.headers["Content-Type"]


class TokenHandler(http_server.Handler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        header = self.headers.get("Authorization", "")
        self.answer(query, query.get("scope", []), base64.b64decode(header[6:]).decode() if header.startswith("Basic ") else None)

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        server, user = self.server.owner, None
        if form["grant_type"] == ["password"]:
            user = f"{form['username'][0]}:{form['password'][0]}"
        if form["grant_type"] == ["refresh_token"]:
            name = next(iter(server.users))
            user = f"{name}:{server.users[name]}" if form["refresh_token"][0] == server.identity_token else "nobody:knows"
        self.answer(form, " ".join(form.get("scope", [])).split(), user)

    def answer(self, query, scopes, user):
        server = self.server.owner
        server.asked.append((list(scopes), user))
        server.forms.append({"method": self.command, **{name: values[0] for name, values in query.items()}})
        name, _, password = (user or "").partition(":")
        known = server.users.get(name) == password and bool(name)
        if user and not known:
            self.reply(401)
            return
        body = server.token(name, known, [one for many in scopes for one in many.split()])
        self.reply(200, json.dumps(body).encode(), Content_Type="application/json")


class TokenServer(http_server.Server):
    """Gives tokens for what is asked (anybody may pull, unless private; users may push), signed with openssl; remembers what it was asked.
    identity_token: what a log-in gets, and what then does for a password; rotates: once each."""

    def __init__(self, directory, users, life=60, identity_token=None, private=False, rotates=False):
        self.directory = str(directory)
        os.makedirs(self.directory, exist_ok=True)
        make_certificate(self.directory, "token")
        self.certificate = self.directory + "/token.crt"
        self.users, self.life, self.identity_token, self.private, self.rotates = users, life, identity_token, private, rotates
        self.asked, self.forms = [], []
        with open(self.certificate, encoding="utf-8") as file:
            self.der = "".join(line.strip() for line in file if "-----" not in line)
        super().__init__(TokenHandler)
        self.url = f"http://{self.host}/token"
        self.stop = self.close

    def token(self, name, known, scopes):
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            target, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": target, "actions": [action for action in actions.split(",") if known or (action == "pull" and not self.private)]})
        now = int(time.time())
        claims = {"iss": "tests", "sub": name, "aud": "tests", "exp": now + self.life, "nbf": now - 10, "iat": now, "jti": str(now), "access": access}
        signed = (encode(json.dumps({"typ": "JWT", "alg": "RS256", "x5c": [self.der]}).encode()) + "." + encode(json.dumps(claims).encode())).encode()
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.directory + "/token.key"], input=signed, check=True, capture_output=True).stdout
        token = signed.decode() + "." + encode(signature)
        if self.identity_token and self.rotates:
            self.identity_token += "+"
        more = {"refresh_token": self.identity_token} if self.identity_token and known else {}
        return {"token": token, "access_token": token, "expires_in": self.life, **more}


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
