"""Debian's docker-registry on loopback: plain, with htpasswd, with TLS, or behind a token server of the tests' own."""

import base64
import http.server
import json
import os
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
import warnings

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


class TokenServer:
    """Gives tokens for what is asked (anybody may pull; users may push), signed with openssl; remembers what it was asked."""

    def __init__(self, directory, users, life=60, identity_token=None):
        self.directory = str(directory)
        os.makedirs(self.directory, exist_ok=True)
        make_certificate(self.directory, "token")
        self.certificate = self.directory + "/token.crt"
        self.asked = []
        server = self
        with open(self.certificate, encoding="utf-8") as file:
            der = "".join(line.strip() for line in file if "-----" not in line)

        def encode(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                header = self.headers.get("Authorization", "")
                user = base64.b64decode(header[6:]).decode() if header.startswith("Basic ") else None
                self.answer(query.get("scope", []), user)

            def do_POST(self):
                query = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                user = f"{query['username'][0]}:{query['password'][0]}" if "password" in query else None
                if query.get("refresh_token", [None])[0] == identity_token and identity_token:
                    user = f"{next(iter(users))}:{users[next(iter(users))]}"
                self.answer(" ".join(query.get("scope", [])).split(), user)

            def answer(self, scopes, user):
                server.asked.append((list(scopes), user))
                name, _, password = (user or "").partition(":")
                known = users.get(name) == password and bool(name)
                if user and not known:
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                access = []
                for scope in [one for many in scopes for one in many.split()]:
                    kind, _, rest = scope.partition(":")
                    target, _, actions = rest.rpartition(":")
                    allowed = [action for action in actions.split(",") if action == "pull" or known]
                    access.append({"type": kind, "name": target, "actions": allowed})
                now = int(time.time())
                claims = {"iss": "tests", "sub": name, "aud": "tests", "exp": now + life, "nbf": now - 10, "iat": now, "jti": str(now), "access": access}
                head = encode(json.dumps({"typ": "JWT", "alg": "RS256", "x5c": [der]}).encode())
                signed = (head + "." + encode(json.dumps(claims).encode())).encode()
                signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", server.directory + "/token.key"], input=signed, check=True, capture_output=True).stdout
                token = signed.decode() + "." + encode(signature)
                body = {"token": token, "access_token": token, "expires_in": life}
                if identity_token and known:
                    body["refresh_token"] = identity_token
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
