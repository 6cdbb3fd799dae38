"""A registry of the tests' own: serves what it is given, takes what is pushed, remembers what it was asked, and misbehaves on request."""

import gzip
import hashlib
import io
import json
import re
import socket
import struct
import tarfile
import threading

import http_server

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class Request:
    def __init__(self, handler):
        self.method = handler.command
        self.path = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}


class Asked(http_server.Handler):
    def answer(self):
        registry, request = self.server.owner, Request(self)
        registry.requests.append(request)
        for fault in list(registry.faults):
            if fault(self, request):
                return
        registry.serve(self, request)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer


class Registry(http_server.Server):
    """manifests: (repository, tag or digest) → (media type, bytes); blobs: digest → bytes. A fault is a function (handler, request) that
    returns True where it has answered; it may call body() for what is sent."""

    def __init__(self, address="127.0.0.1"):
        self.blobs = {}
        self.manifests = {}
        self.uploads = {}
        self.faults = []
        self.requests = []
        self.lock = threading.Lock()
        super().__init__(Asked, address)

    # ---- contents ----

    def blob(self, data):
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def image(self, name, tars, tag="1", compress=gzip.compress, manifest_type=OCI_MANIFEST, layer_type=OCI_LAYER, config=None, change=None):
        """An image of these uncompressed tars. change(manifest) may spoil it. Returns its manifest's digest."""
        config_type = DOCKER_CONFIG if manifest_type == DOCKER_MANIFEST else OCI_CONFIG
        document = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}}
        document.update(config or {})
        text = json.dumps(document).encode()
        layers = []
        for tar in tars:
            data = compress(tar)
            layers.append({"mediaType": layer_type, "digest": self.blob(data), "size": len(data)})
        manifest = {"schemaVersion": 2, "mediaType": manifest_type, "config": {"mediaType": config_type, "digest": self.blob(text), "size": len(text)}, "layers": layers}
        if change:
            change(manifest)
        return self.manifest(name, tag, manifest_type, json.dumps(manifest).encode())

    def manifest(self, name, tag, media_type, body):
        digest = digest_of(body)
        self.manifests[name, tag] = self.manifests[name, digest] = (media_type, body)
        return digest

    # ---- answers ----

    def serve(self, handler, request):
        path, _, query = request.path.partition("?")
        if request.method not in ("GET", "HEAD") or "/blobs/uploads/" in path:
            return self.take(handler, request, path, query)
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags)/([^?]+)(\?.*)?", request.path)
        if not found:
            return self.send(handler, 200 if request.path == "/v2/" else 404, b"{}", "application/json")
        name, kind, reference = found.groups()[:3]
        if kind == "tags":
            tags = [tag for repository, tag in self.manifests if repository == name and not tag.startswith("sha256:")]
            return self.send(handler, 200, json.dumps({"name": name, "tags": tags}).encode(), "application/json")
        if kind == "manifests":
            media_type, body = self.manifests.get((name, reference), (None, None))
            if body is None:
                return self.error(handler, 404, "MANIFEST_UNKNOWN", "manifest unknown")
            return self.send(handler, 200, body, media_type)
        data = self.blobs.get(reference)
        if data is None:
            return self.error(handler, 404, "BLOB_UNKNOWN", "blob unknown to registry")
        return self.send_blob(handler, request, data)

    def take(self, handler, request, path, query):
        """What a push sends."""
        manifest = re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path)
        upload = re.fullmatch(r"/v2/(.+)/blobs/uploads/(\d*)", path)
        if manifest and request.method == "PUT":
            digest = self.manifest(*manifest.groups(), request.headers["content-type"], self.body(handler))
            return handler.reply(201, Docker_Content_Digest=digest)
        if upload and not upload[2] and request.method == "POST":
            self.body(handler)
            with self.lock:
                name = str(len(self.uploads))
                self.uploads[name] = b""
            return handler.reply(202, Location=f"{path}{name}?state=x")
        if not upload or upload[2] not in self.uploads:
            return handler.reply(404)
        name = upload[2]
        if request.method == "GET":
            return handler.reply(204, Location=handler.path, Range=f"0-{max(len(self.uploads[name]) - 1, 0)}")
        self.uploads[name] += self.body(handler)
        if request.method == "PATCH":
            return handler.reply(202, Location=handler.path, Range=f"0-{len(self.uploads[name]) - 1}")
        digest = re.search(r"digest=sha256(?:%3A|:)([0-9a-f]{64})", query)[1]
        if hashlib.sha256(self.uploads[name]).hexdigest() != digest:
            return self.error(handler, 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs["sha256:" + digest] = self.uploads.pop(name)
        return handler.reply(201, Docker_Content_Digest="sha256:" + digest)

    def body(self, handler, limit=None):
        """The request's body; the first limit bytes of it, and no more is read."""
        data = b""
        if handler.headers.get("Transfer-Encoding") == "chunked":
            while size := int(handler.rfile.readline(), 16):
                data += handler.rfile.read(size)
                handler.rfile.readline()
                if limit is not None and len(data) >= limit:
                    return data[:limit]
            handler.rfile.readline()
        else:
            length = int(handler.headers.get("Content-Length") or 0)
            data = handler.rfile.read(length if limit is None else min(length, limit))
        return data

    def error(self, handler, status, code, message, headers=None):
        self.send(handler, status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), "application/json", headers)

    def send(self, handler, status, body, media_type, headers=None):
        handler.reply(status, body, Content_Type=media_type, **(headers or {}))

    def send_blob(self, handler, request, data, ranges=True, pace=None, stop_at=None, reset=False):
        """pace(sent) is called between pieces; the connection ends after stop_at bytes of this answer."""
        first, last = 0, len(data) - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if ranges else None
        if wanted:
            first = int(wanted[1])
            last = min(last, int(wanted[2] or last))
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Length", str(last + 1 - first))
        if wanted:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        handler.end_headers()
        at = first
        while at <= last:
            end = min(at + 65536, last + 1, first + stop_at if stop_at is not None else last + 1)
            handler.wfile.write(data[at:end])
            at = end
            if stop_at is not None and at - first >= stop_at:
                cut(handler, reset)
                return
            if pace:
                pace(at - first)

    def asked(self, part, method="GET"):
        return [request for request in self.requests if part in request.path and request.method == method]


def cut(handler, reset=False):
    if reset:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.wfile.flush()
    handler.close_connection = True
    if reset:
        handler.connection.close()
    else:
        handler.connection.shutdown(socket.SHUT_RDWR)


def once(condition, action):
    """A fault for the first request that fits."""
    done = []

    def fault(handler, request):
        if done or not condition(request):
            return False
        done.append(True)
        action(handler)
        return True

    return fault
