"""Debian's docker-registry and what stands in front of it, on loopback, for the tests."""

import crypt
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, address="127.0.0.1"):
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)


class DockerRegistry:
    """A running docker-registry. users: {"name": "password"} for htpasswd; proxy: a URL that it caches."""

    def __init__(self, users=None, certificate=None, proxy=None, address="127.0.0.1"):
        self.directory = tempfile.mkdtemp(prefix="tare-registry-")
        self.address, self.port = address, free_port()
        self.host = f"{address}:{self.port}"
        config = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": os.path.join(self.directory, "data")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": "of the tests"},
        }
        if users:
            path = os.path.join(self.directory, "htpasswd")
            with open(path, "w", encoding="utf-8") as file:
                for name, password in users.items():
                    file.write(f"{name}:{crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n".replace("$2b$", "$2y$"))
            config["auth"] = {"htpasswd": {"realm": "tests", "path": path}}
        if certificate:
            config["http"]["tls"] = {"certificate": certificate[0], "key": certificate[1]}
        if proxy:
            config["proxy"] = {"remoteurl": proxy}
        path = os.path.join(self.directory, "config.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)  # JSON is YAML
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", path], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for(self.port, self.process, address)

    def requests(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8", errors="replace") as file:
            return [line for line in file if '"GET /v2/' in line or '"HEAD /v2/' in line]

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.directory)


class Nginx:
    """nginx with one `server` block."""

    def __init__(self, server, http=""):
        self.directory = tempfile.mkdtemp(prefix="tare-nginx-")
        path = os.path.join(self.directory, "nginx.conf")
        temporary = "".join(f"{kind}_temp_path {self.directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"user root; daemon off; pid {self.directory}/pid; error_log {self.directory}/error.log; events {{}}\n")
            file.write(f"http {{ access_log {self.directory}/access.log; {temporary} client_max_body_size 0; {http.replace('DIR', self.directory)}\nserver {{ {server} }} }}\n")
        self.process = subprocess.Popen(["nginx", "-c", path, "-e", f"{self.directory}/error.log"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def access(self):
        with open(os.path.join(self.directory, "access.log"), encoding="utf-8") as file:
            return file.read()

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.directory)


class Authority:
    """A private CA, and certificates of it."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="tare-ca-")
        self.path = os.path.join(self.directory, "ca.crt")
        self.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tare tests", "-keyout", self.file("ca.key"), "-out", self.path)

    def file(self, name):
        return os.path.join(self.directory, name)

    @staticmethod
    def run(*arguments):
        subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def issue(self, name, alternative):
        """→ (certificate, key)"""
        key, request, certificate, extensions = (self.file(f"{name}.{end}") for end in ("key", "csr", "crt", "ext"))
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={alternative}\n")
        self.run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self.run("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.file("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)
        return certificate, key

    def close(self):
        shutil.rmtree(self.directory)


def skopeo(*arguments):
    subprocess.run(["skopeo", "--insecure-policy", *arguments], check=True, stdout=subprocess.DEVNULL, timeout=120)


def place(layout, registry, name, *options):
    """Copies oci:DIRECTORY:TAG into a registry."""
    skopeo("copy", "-q", *options, "--dest-tls-verify=false", f"oci:{layout}", f"docker://{registry.host}/{name}")

