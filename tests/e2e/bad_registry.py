"""A registry of the tests' own: serves what it is given, remembers what it was asked, and misbehaves on request."""

import gzip
import hashlib
import http.server
import io
import json
import re
import socket
import struct
import tarfile
import threading
import time

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
        self.port = handler.server.server_address[1]


class Registry:
    """manifests: (repository, tag or digest) → (media type, bytes); blobs: digest → bytes. A fault is a function (handler, request) that
    returns True where it has answered."""

    def __init__(self, address="127.0.0.1"):
        self.blobs = {}
        self.manifests = {}
        self.faults = []
        self.requests = []
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                request = Request(self)
                registry.requests.append(request)
                for fault in list(registry.faults):
                    if fault(self, request):
                        return
                registry.serve(self, request)

            do_GET = do_HEAD = do_POST = answer

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # clients that go away are what this is for

        self.server = Server((address, 0), Handler)
        self.port = self.server.server_address[1]
        self.host = f"{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

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

    def error(self, handler, status, code, message, headers=None):
        self.send(handler, status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), "application/json", headers)

    def send(self, handler, status, body, media_type, headers=None):
        handler.send_response(status)
        handler.send_header("Content-Type", media_type)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

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


def stall(seconds=30):
    time.sleep(seconds)
