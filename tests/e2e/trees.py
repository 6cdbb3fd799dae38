"""Trees as tables, path → what is there, from a tar and from inside a container, so that they can be compared entry by entry."""

import hashlib
import io
import tarfile

KINDS = {tarfile.REGTYPE: "f", tarfile.AREGTYPE: "f", tarfile.GNUTYPE_SPARSE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b"}
# What both engines put into every container themselves.
OWN = ("/.dockerenv", "/dev", "/proc", "/sys", "/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab", "/")
OWN_BELOW = ("/dev/console", "/dev/pts", "/dev/shm", "/proc/", "/sys/")
SEPARATOR = b"\n====\n"

# Runs in a Debian root with getfattr at /opt/tools; names may be any bytes.
WALK = r"""
find / -xdev -printf '%p\0%y\0%m\0%U\0%G\0%T@\0%n\0%i\0%D\0%s\0%l\0'
printf '\n====\n'
find / -xdev -type f -print0 | xargs -0 sha256sum -z
printf '\n====\n'
find / -xdev \( -type b -o -type c \) -print0 | xargs -0 -r stat --printf '%n\0%t\0%T\0'
printf '\n====\n'
find / -xdev -print0 | xargs -0 /opt/tools/getfattr -h -d -m - -e hex --absolute-names
"""


def is_own(path):
    return path in OWN or path.startswith(OWN_BELOW)


def absolute(name):
    return "/" + name.strip("/").removeprefix("./") if name.strip("/") != "." else "/"


def from_tar(data):
    """Of the bytes or the file of a tar: path → dict. Names are str with surrogates, as Python has file names."""
    found, links = {}, {}
    with tarfile.open(fileobj=io.BytesIO(data) if isinstance(data, bytes) else data, errors="surrogateescape") as tar:
        for info in tar:
            path = absolute(info.name)
            if info.islnk():
                first = absolute(info.linkname)
                links[path] = links.get(first, first)
                continue
            entry = {"kind": KINDS[info.type], "mode": info.mode & 0o7777, "owner": (info.uid, info.gid), "mtime": int(info.mtime // 1)}
            if info.isreg():
                entry["content"] = hashlib.sha256(tar.extractfile(info).read()).hexdigest()
            elif info.issym():
                entry["target"] = info.linkname
            elif info.ischr() or info.isblk():
                entry["device"] = (info.devmajor, info.devminor)
            entry["xattrs"] = {name[len("SCHILY.xattr."):].replace("%3D", "=").replace("%25", "%"): value.encode(errors="surrogateescape") for name, value in info.pax_headers.items() if name.startswith("SCHILY.xattr.")}
            found[path] = entry
    for path, first in links.items():
        found[path] = dict(found[first])
    groups = {}
    for path, first in links.items():
        groups.setdefault(first, {first}).add(path)
    for names in groups.values():
        for path in names:
            found[path]["linked"] = sorted(names)
    return {path: entry for path, entry in found.items() if not is_own(path)}


def unescape(text):
    """getfattr writes what is not printable as \\ooo."""
    out, at = bytearray(), 0
    while at < len(text):
        if text[at] == 0x5C:
            out.append(int(text[at + 1:at + 4], 8))
            at += 4
        else:
            out.append(text[at])
            at += 1
    return bytes(out)


def decode(name):
    return name.decode("utf-8", "surrogateescape")


def from_walk(output):
    """Of what WALK printed."""
    entries, sums, devices, xattrs = output.split(SEPARATOR)
    found, inodes, device_of_all = {}, {}, set()
    fields = entries.split(b"\0")
    for at in range(0, len(fields) - 1, 11):
        path, kind, mode, uid, gid, mtime, n_links, inode, device, _, target = fields[at:at + 11]
        path = decode(path)
        entry = {"kind": kind.decode(), "mode": int(mode, 8), "owner": (int(uid), int(gid)), "mtime": int(float(mtime) // 1), "xattrs": {}, "inode": int(inode), "links": int(n_links)}
        if kind == b"l":
            entry["target"] = decode(target)
        found[path] = entry
        if not is_own(path):
            device_of_all.add(device)
            if kind != b"d":
                inodes.setdefault(int(inode), []).append(path)
    for record in sums.split(b"\0"):
        if record:
            found[decode(record[66:])]["content"] = record[:64].decode()
    fields = devices.split(b"\0")
    for at in range(0, len(fields) - 1, 3):
        found[decode(fields[at])]["device"] = (int(fields[at + 1], 16), int(fields[at + 2], 16))
    for block in xattrs.split(b"\n\n"):
        lines = block.strip(b"\n").split(b"\n")
        if lines[0].startswith(b"# file: "):
            values = dict(line.split(b"=0x", 1) if b"=0x" in line else (line.removesuffix(b"=\"\""), b"") for line in lines[1:])
            found[decode(unescape(lines[0][8:]))]["xattrs"] = {decode(unescape(name)): bytes.fromhex(value.decode()) for name, value in values.items()}
    for names in inodes.values():
        for path in names:
            if len(names) > 1:
                found[path]["linked"] = sorted(names)
    assert len(device_of_all) == 1, "one st_dev for the whole tree"
    return {path: entry for path, entry in found.items() if not is_own(path)}


def without_devices(table):
    """Without what an image has below /dev: a container does not see it."""
    return {path: entry for path, entry in table.items() if not path.startswith("/dev/")}


def differences(mine, other, *fields):
    """What differs, as a short text for an assertion: fields as given, else all but inode numbers and counts of links."""
    fields = fields or ("kind", "mode", "owner", "mtime", "content", "target", "device", "xattrs", "linked")
    lines = [f"only there: {path!r}" for path in sorted(other.keys() - mine.keys())] + [f"only here: {path!r}" for path in sorted(mine.keys() - other.keys())]
    for path in sorted(mine.keys() & other.keys()):
        lines += [f"{path!r} {field}: {mine[path].get(field)!r} there {other[path].get(field)!r}" for field in fields if mine[path].get(field) != other[path].get(field)]
    return "\n".join(lines[:40])
