"""10,000 images over 2,000 layers: an archive that has them, and what is timed over it."""
import hashlib
import http.client
import io
import json
import socket
import tarfile
import time

IMAGES, LAYERS = 10_000, 2_000


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def make_layer(i):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as layer:
        add(layer, f"file{i}", f"{i}\n".encode() * 10)
    return data.getvalue()


def config(n, diff_ids):
    return json.dumps({
        "architecture": "amd64", "os": "linux", "created": f"2024-01-{1 + n % 28:02d}T{n % 24:02d}:{n // 24 % 60:02d}:00Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"n": str(n)}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"step {i}"} for i in range(len(diff_ids))],
    }).encode()


def write_archive(path):
    """A docker-archive; every second image has a name, so that the other 5,000 dangle."""
    with tarfile.open(path, "w") as archive:
        layers = [make_layer(i) for i in range(LAYERS)]
        for i, data in enumerate(layers):
            add(archive, f"layer{i}.tar", data)
        diff_ids = ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]
        manifest = []
        for n in range(IMAGES):
            stack = list(dict.fromkeys([n % 20, 20 + n % 200] + [220 + (n * 7 + k * 13) % (LAYERS - 220) for k in range(4)]))
            text = config(n, [diff_ids[i] for i in stack])
            name = hashlib.sha256(text).hexdigest() + ".json"
            add(archive, name, text)
            manifest.append({"Config": name, "RepoTags": [f"repo{n % 500}:t{n}"] if n % 2 == 0 else None, "Layers": [f"layer{i}.tar" for i in stack]})
        add(archive, "manifest.json", json.dumps(manifest).encode())


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def call(socket_path, method, path):
    """Seconds for one call, and the bytes of its answer."""
    connection = Connection(socket_path)
    begin = time.monotonic()
    connection.request(method, path)
    length = len(connection.getresponse().read())
    seconds = time.monotonic() - begin
    connection.close()
    return seconds, length
