"""An engine that does nothing: it writes down what it is asked and gives answers that never change, so that the effect of one flag can be seen."""

import base64
import http.server
import io
import json
import re
import socketserver
import struct
import tarfile
import threading

CONTAINER = "c0ffee" + "1" * 58
IMAGE = "sha256:" + "ab" * 32
LABELS = {"color": "green and rather long for a table, so that it is cut where tables cut: 0123456789012345678901234567890123456789"}


def tar_with(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.uid, entry.mode = len(content), 1600000000, 1234, 0o4755
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def frame(stream, content):
    return struct.pack(">BxxxI", stream, len(content)) + content


def messages(*objects):
    return "".join(json.dumps(one) + "\r\n" for one in objects).encode()


LISTED = {
    "Id": CONTAINER, "Names": ["/web", "/other/link"], "Image": "busybox:1", "ImageID": IMAGE, "Command": "sh -c 'a command that is longer than its column'",
    "Created": 1600000000, "Ports": [], "SizeRw": 1234, "SizeRootFs": 5678, "Labels": LABELS, "State": "running", "Status": "Up 2 hours",
    "HostConfig": {"NetworkMode": "bridge"}, "NetworkSettings": {"Networks": {"bridge": {}}}, "Mounts": [{"Type": "volume", "Name": "v" * 64, "Source": "", "Destination": "/v"}],
}
CONFIG = {"Image": "busybox:1", "Cmd": ["sh"], "Env": ["A=b"], "Labels": LABELS, "Tty": False, "OpenStdin": True, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
INSPECTED = {
    "Id": CONTAINER, "Created": "2020-09-13T12:26:40Z", "Path": "sh", "Args": [], "Name": "/web", "Image": IMAGE, "Config": CONFIG,
    "State": {"Status": "running", "Running": True, "Paused": False, "ExitCode": 0, "Pid": 1, "StartedAt": "2020-09-13T12:26:40Z", "FinishedAt": "0001-01-01T00:00:00Z"},
    "HostConfig": {"NetworkMode": "bridge", "AutoRemove": False}, "Mounts": [],
    "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}, "Networks": {}},
}
IMAGES = [{"Id": IMAGE, "ParentId": "", "RepoTags": ["busybox:1"], "RepoDigests": ["busybox@sha256:" + "cd" * 32], "Created": 1600000000, "Size": 4567890, "SharedSize": -1, "VirtualSize": 4567890, "Labels": LABELS, "Containers": -1}]
HISTORY = [{"Id": IMAGE, "Created": 1600000000, "CreatedBy": "/bin/sh -c #(nop) a command that is much longer than its column may ever be", "Tags": ["busybox:1"], "Size": 4567890, "Comment": "hello"}]
NETWORK = {"Name": "bridge", "Id": "ef" * 32, "Created": "2020-09-13T12:26:40Z", "Scope": "local", "Driver": "bridge", "EnableIPv6": False, "Internal": False, "Labels": LABELS, "IPAM": {"Driver": "default", "Config": []}, "Containers": {}, "Options": {}}
VOLUME = {"Name": "data", "Driver": "local", "Mountpoint": "/v", "Scope": "local", "CreatedAt": "2020-09-13T12:26:40Z", "Labels": LABELS, "Options": {}, "UsageData": {"Size": 12, "RefCount": 0}}
INFO = {"ID": "AA", "Containers": 1, "ServerVersion": "28.2.2", "OSType": "linux", "Architecture": "x86_64", "Name": "host", "IndexServerAddress": "https://index.docker.io/v1/", "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": []}, "Swarm": {"LocalNodeState": "inactive"}}
VERSION = {"Version": "28.2.2", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "GitCommit": "abc", "GoVersion": "", "Os": "linux", "Arch": "amd64", "Platform": {"Name": "fake"}, "Components": []}
CPU = {"cpu_usage": {"total_usage": 2000, "percpu_usage": [2000]}, "system_cpu_usage": 4000, "online_cpus": 1}
STATS = {"id": CONTAINER, "name": "/web", "read": "2020-09-13T12:26:40Z", "cpu_stats": CPU, "precpu_stats": CPU, "memory_stats": {"usage": 1000, "limit": 2000, "stats": {}}, "pids_stats": {"current": 3}, "blkio_stats": {}, "networks": {}}
DISK = {"LayersSize": 4567890, "Images": [{**IMAGES[0], "Containers": 1, "SharedSize": 0}], "Containers": [LISTED], "Volumes": [VOLUME], "BuildCache": []}
EVENT = {"Type": "container", "Action": "start", "Actor": {"ID": CONTAINER, "Attributes": {"name": "web"}}, "time": 1600000000, "timeNano": 1600000000000000000, "scope": "local", "status": "start", "id": CONTAINER, "from": "busybox:1"}
DELETED = {"ContainersDeleted": [CONTAINER], "NetworksDeleted": ["n"], "VolumesDeleted": ["v"], "ImagesDeleted": [{"Deleted": IMAGE}], "CachesDeleted": ["c"], "SpaceReclaimed": 1000}
SUMMARY = {"Name": "file", "size": 5, "mode": 420, "mtime": "2020-09-13T12:26:40Z", "linkTarget": ""}

DOCUMENT = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": IMAGE}, "layers": []}
MANIFEST = {"Descriptor": {"mediaType": DOCUMENT["mediaType"], "digest": "sha256:" + "ee" * 32, "size": 5, "platform": {"architecture": "amd64", "os": "linux"}}, "Raw": base64.b64encode(json.dumps(DOCUMENT).encode()).decode()}

JSON, RAW, STREAM = "application/json", "application/octet-stream", "application/vnd.docker.multiplexed-stream"
# Method and path (without version) → status, type, body. The first that matches counts.
ROUTES = [
    (r"(GET|HEAD) /_ping", 200, "text/plain", b"OK"),
    (r"GET /version", 200, JSON, VERSION),
    (r"GET /info", 200, JSON, INFO),
    (r"GET /system/df", 200, JSON, DISK),
    (r"GET /events", 200, JSON, messages(EVENT)),
    (r"POST /auth", 200, JSON, {"Status": "Login Succeeded", "IdentityToken": ""}),
    (r"GET /containers/json", 200, JSON, [LISTED]),
    (r"POST /containers/create", 201, JSON, {"Id": CONTAINER, "Warnings": []}),
    (r"POST /containers/[^/]+/wait", 200, JSON, {"StatusCode": 0}),
    (r"POST /containers/[^/]+/exec", 201, JSON, {"Id": "e" * 64}),
    (r"POST /containers/[^/]+/update", 200, JSON, {"Warnings": []}),
    (r"GET /containers/[^/]+/json", 200, JSON, INSPECTED),
    (r"GET /containers/[^/]+/logs", 200, STREAM, frame(1, b"out\n") + frame(2, b"err\n")),
    (r"GET /containers/[^/]+/stats", 200, JSON, STATS),
    (r"GET /containers/[^/]+/top", 200, JSON, {"Titles": ["PID", "CMD"], "Processes": [["1", "sh"]]}),
    (r"GET /containers/[^/]+/changes", 200, JSON, [{"Path": "/etc", "Kind": 0}]),
    (r"GET /containers/[^/]+/export", 200, RAW, tar_with("file", b"12345")),
    (r"(GET|HEAD) /containers/[^/]+/archive", 200, "application/x-tar", tar_with("file", b"12345")),
    (r"PUT /containers/[^/]+/archive", 200, JSON, b""),
    (r"POST /exec/[^/]+/start", 200, RAW, b""),
    (r"GET /exec/[^/]+/json", 200, JSON, {"ID": "e" * 64, "Running": False, "ExitCode": 0, "Pid": 1}),
    (r"POST /containers/prune|POST /images/prune|POST /networks/prune|POST /volumes/prune|POST /build/prune", 200, JSON, DELETED),
    (r"POST /build", 200, JSON, messages({"stream": "Step 1/1 : FROM busybox\n"}, {"aux": {"ID": IMAGE}}, {"stream": "Successfully built abababababab\n"})),
    (r"POST /commit", 201, JSON, {"Id": IMAGE}),
    (r"POST /images/create", 200, JSON, messages({"status": "Pulling from busybox", "id": "1"}, {"status": "Digest: sha256:" + "cd" * 32}, {"status": "Status: Image is up to date"})),
    (r"POST /images/load", 200, JSON, messages({"stream": "Loaded image: busybox:1\n"})),
    (r"POST /images/.+/push", 200, JSON, messages({"status": "The push refers to repository [busybox]"}, {"status": "1: digest: sha256:" + "cd" * 32 + " size: 5"})),
    (r"GET /images/json", 200, JSON, IMAGES),
    (r"GET /images/search", 200, JSON, [{"name": "busybox", "description": "a description that is longer than the column has room for it", "star_count": 3, "is_official": True}]),
    (r"GET /images/get|GET /images/.+/get", 200, RAW, tar_with("manifest.json", b"[]")),
    (r"GET /images/.+/history", 200, JSON, HISTORY),
    (r"GET /images/.+/json", 200, JSON, {"Id": IMAGE, "RepoTags": ["busybox:1"], "RepoDigests": [], "Created": "2020-09-13T12:26:40Z", "Size": 4567890, "Config": CONFIG, "Os": "linux", "Architecture": "amd64", "RootFS": {"Type": "layers", "Layers": []}}),
    (r"DELETE /images/.+", 200, JSON, [{"Untagged": "busybox:1"}, {"Deleted": IMAGE}]),
    (r"GET /distribution/.+/manifest", 200, JSON, MANIFEST),
    (r"PUT /distribution/.+/manifest", 201, JSON, {"Digest": "sha256:" + "ee" * 32}),
    (r"DELETE /networks/absent", 404, JSON, {"message": "network absent not found"}),
    (r"GET /networks", 200, JSON, [NETWORK]),
    (r"POST /networks/create", 201, JSON, {"Id": "ef" * 32, "Warning": ""}),
    (r"GET /networks/[^/]+", 200, JSON, NETWORK),
    (r"POST /networks/[^/]+/(dis)?connect", 200, JSON, b""),
    (r"GET /volumes", 200, JSON, {"Volumes": [VOLUME], "Warnings": None}),
    (r"POST /volumes/create", 201, JSON, VOLUME),
    (r"GET /volumes/[^/]+", 200, JSON, VOLUME),
    (r"(POST|DELETE) /.*", 204, None, b""),
]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status, kind, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = re.sub(r"^/v1\.\d+", "", self.path.split("?")[0])
        body = self.read_body()
        if path != "/_ping":
            own = {name: value for name, value in self.headers.items() if name.startswith("X-") or name == "Content-Encoding"}
            self.server.seen.append((self.command, re.sub(r"^/v1\.\d+", "", self.path), own, body))
        if self.headers.get("Upgrade"):
            self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: " + STREAM.encode() + b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + frame(1, b"hello\n"))
            self.close_connection = True
            return
        extra = [("Api-Version", "1.51"), ("Ostype", "linux"), ("Builder-Version", "1")]
        if path.endswith("/archive"):
            extra.append(("X-Docker-Container-Path-Stat", base64.b64encode(json.dumps(SUMMARY).encode()).decode()))
        for pattern, status, kind, answer in ROUTES:
            if re.fullmatch(pattern, f"{self.command} {path}"):
                self.send(status, kind, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), extra)
                return
        self.send(404, JSON, b'{"message":"page not found"}', extra)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def address_string(self):
        return "client"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients go when they have what they want."""


class FakeEngine:
    def __init__(self, path):
        self.path = path
        self.server = Server(path, Handler)
        self.server.seen = []
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self):
        """What was asked since the last call."""
        seen, self.server.seen = self.server.seen, []
        return seen

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
