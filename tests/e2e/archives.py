"""Layers and image archives made byte by byte, as no packer would make them."""

import hashlib
import io
import json
import tarfile

MTIME = 1500000000


def entry(name, data=None, kind=None, mode=None, owner=(0, 0), mtime=MTIME, link="", device=(0, 0), pax=None):
    """A member: (TarInfo, content). Without data and kind a directory."""
    info = tarfile.TarInfo(name)
    info.type = kind or (tarfile.DIRTYPE if data is None else tarfile.REGTYPE)
    info.mode = mode if mode is not None else 0o755 if info.type == tarfile.DIRTYPE else 0o644
    info.uid, info.gid = owner
    info.mtime, info.linkname = mtime, link
    info.devmajor, info.devminor = device
    info.pax_headers = dict(pax or {})
    data = data.encode() if isinstance(data, str) else data
    info.size = len(data) if data is not None else 0
    return info, data


def layer(*entries):
    """Only these entries: parents that are not named are not there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(layers, platform=None, **run_config):
    return json.dumps({"architecture": "amd64", "os": "linux", **(platform or {}), "created": "2020-01-01T00:00:00Z", "config": {"Cmd": ["sh"], **run_config},
                       "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]}, "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "test"} for _ in layers]}).encode()


def docker_archive(images, compress=lambda layer: layer, extra=(), platforms=None):
    """images: tag → its layers. Equal layers are stored once. platforms: tag → what its config says of the machine."""
    manifest, members = [], {}
    for tag, layers in images.items():
        document = config(layers, (platforms or {}).get(tag))
        name = hashlib.sha256(document).hexdigest() + ".json"
        members[name] = document
        paths = [digest(one)[7:] + "/layer.tar" for one in layers]
        members.update({path: compress(one) for path, one in zip(paths, layers)})
        manifest.append({"Config": name, "RepoTags": [tag], "Layers": paths})
    members["manifest.json"] = json.dumps(manifest).encode()
    return layer(*extra, *(entry(name, data) for name, data in members.items()))
