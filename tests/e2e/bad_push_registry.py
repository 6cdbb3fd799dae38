"""A registry that takes uploads, and misbehaves on request."""

import hashlib
import http.server
import re
import socket
import struct
import threading
import time


class Registry:
    """A fault is a function (handler, method, path) that returns True where it has answered; `body` may be called by it."""

    def __init__(self):
        self.blobs, self.manifests, self.uploads, self.faults, self.requests = {}, {}, {}, [], []
        self.lock = threading.Lock()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                registry.requests.append((self.command, self.path, dict(self.headers)))
                for fault in list(registry.faults):
                    if fault(self, self.command, self.path):
                        return
                registry.serve(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def send(self, handler, status, body=b"", **headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        return True

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

    def reset(self, handler):
        """The connection ends as if the machine had been switched off."""
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True
        return True

    def serve(self, handler):
        path, _, query = handler.path.partition("?")
        method = handler.command
        blob = re.search(r"/blobs/(sha256:[0-9a-f]{64})$", path)
        manifest = re.search(r"/manifests/([^/]+)$", path)
        if blob:
            found = self.blobs.get(blob[1])
            return self.send(handler, 200, found) if found is not None else self.send(handler, 404)
        if manifest and method == "PUT":
            body = self.body(handler)
            self.manifests[manifest[1]] = body
            return self.send(handler, 201, Docker_Content_Digest="sha256:" + hashlib.sha256(body).hexdigest())
        if path.endswith("/blobs/uploads/") and method == "POST":
            self.body(handler)
            with self.lock:
                name = str(len(self.uploads))
                self.uploads[name] = b""
            return self.send(handler, 202, Location=f"{path}{name}?state=x")
        upload = re.search(r"/uploads/(\d+)$", path)
        if upload and upload[1] in self.uploads:
            name = upload[1]
            if method == "GET":
                return self.send(handler, 204, Location=handler.path, Range=f"0-{max(len(self.uploads[name]) - 1, 0)}")
            data = self.body(handler)
            self.uploads[name] += data
            if method == "PATCH":
                return self.send(handler, 202, Location=handler.path, Range=f"0-{len(self.uploads[name]) - 1}")
            digest = re.search(r"digest=sha256(?:%3A|:)([0-9a-f]{64})", query)[1]
            if hashlib.sha256(self.uploads[name]).hexdigest() != digest:
                return self.send(handler, 400, b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}')
            self.blobs["sha256:" + digest] = self.uploads.pop(name)
            return self.send(handler, 201, Docker_Content_Digest="sha256:" + digest)
        return self.send(handler, 200, b"{}") if path == "/v2/" else self.send(handler, 404)


def once(condition, action):
    """A fault for the first request that fits."""
    done = []

    def fault(handler, method, path):
        if done or not condition(method, path):
            return False
        done.append(True)
        return action(handler)

    return fault


def slow(seconds):
    def fault(handler, method, path):
        time.sleep(seconds)
        return False

    return fault
