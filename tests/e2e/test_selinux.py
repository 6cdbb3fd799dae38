"""SELinux as dockerd uses it. Where the kernel runs it (scripts/in-vm --selinux) each container is confined and apart from the others; elsewhere all the options are accepted, and mean nothing."""

import io
import json
import os
import re
import tarfile

import pytest

from conftest import finish, make_engine
from inputs import busybox_root
from test_recovery import wait_until

SELINUX = os.path.exists("/sys/fs/selinux/enforce")
PROCESS = "system_u:system_r:container_t:s0:c"
FILE = "system_u:object_r:container_file_t:s0:c"
CURRENT = "{ cat /proc/self/attr/current 2>/dev/null || printf none; }; echo"


@pytest.fixture(scope="module")
def engine():
    running = make_engine("--selinux-enabled").start()
    running.tare("import", str(busybox_root()), "busybox")
    yield running
    finish(running)


def output(client, name):
    """The first line of a container that goes on."""
    return wait_until(lambda: client("logs", name).stdout.strip("\0\r\n"), "no output")


@pytest.fixture
def enforcing(engine):
    """The kernel refuses what it else only notes, once it has the modules that a network needs: a machine whose files have no labels loads none then."""
    if SELINUX:
        engine.tare("run", "--rm", "busybox", "true")
        set_enforcing("1")
    yield
    if SELINUX:
        set_enforcing("0")


def set_enforcing(value):
    with open("/sys/fs/selinux/enforce", "w", encoding="ascii") as file:
        file.write(value)


def label_of(path):
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode()
    except OSError:
        return None


def labels(client, name):
    return client("inspect", "-f", "{{.ProcessLabel}}|{{.MountLabel}}", name).stdout.strip().split("|")


def shown(text):
    """What a process says of itself: of its context, or that there is none."""
    return text if SELINUX else "none"


def test_info(engine):
    found = engine.api("GET", "/info").json["SecurityOptions"]
    assert ("name=selinux" in found) == SELINUX
    assert ("SELinux cannot be enabled" in engine.log) != SELINUX


def test_every_process_has_the_containers_label(engine, client):
    client("run", "-d", "--name", "one", "busybox", "sh", "-c", CURRENT + "; sleep 1000")
    client("run", "-d", "--name", "two", "--init", "--health-cmd", CURRENT, "--health-interval", "100ms", "busybox", "sleep", "1000")
    process, mount = labels(client, "one")
    if SELINUX:
        assert re.fullmatch(PROCESS + r"\d+,c\d+", process) and mount == process.replace("system_r:container_t", "object_r:container_file_t")
        assert labels(client, "two")[0] != process and labels(client, "two")[0].startswith(PROCESS)
    else:
        assert (process, mount) == ("", "") == tuple(labels(client, "two"))
    assert output(client, "one") == shown(process)
    for flags in ((), ("--privileged",), ("-t",), ("-u", "12:34")):
        assert client("exec", *flags, "one", "sh", "-c", CURRENT).stdout.strip("\0\r\n") == shown(process)
    engine.restart(hard=True)
    assert labels(client, "one") == [process, mount]
    assert client("exec", "one", "sh", "-c", CURRENT).stdout.strip("\0\n") == shown(process)
    client("restart", "-t", "0", "one")
    assert client("exec", "one", "sh", "-c", CURRENT).stdout.strip("\0\n") == shown(process), "the same for all its life"
    probes = wait_until(lambda: engine.api("GET", "/containers/two/json").json["State"]["Health"]["Log"], "no probe")
    assert {probe["Output"].strip("\0\n") for probe in probes} == {shown(labels(client, "two")[0])}
    client("rm", "-f", "one", "two")


def test_files_have_the_containers_label(client):
    client("run", "-d", "--name", "files", "-t", "--tmpfs", "/tmpfs", "busybox", "sh", "-c", "echo x > /new; echo x > /tmpfs/new; chmod 700 /bin/busybox; echo ready; sleep 1000")
    assert output(client, "files") == "ready"
    root = f"/proc/{client('inspect', '-f', '{{.State.Pid}}', 'files').stdout.strip()}/root/"
    upper = client("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "files").stdout.strip()
    labelled = ["", "bin/busybox", "new", "tmpfs", "tmpfs/new", "etc/hosts", "etc/hostname", "etc/resolv.conf"]
    labelled += ["dev", "dev/null", "dev/console", "dev/pts", "dev/pts/0", "dev/shm", "dev/mqueue", "proc/acpi"]
    assert {path: label_of(root + path) for path in labelled} == dict.fromkeys(labelled, labels(client, "files")[1] if SELINUX else None)
    client("rm", "-f", "files")


OPTIONS = [
    ((), "system_u:system_r:container_t:s0:cX", "system_u:object_r:container_file_t:s0:cX"),
    (("label=disable",), "", "system_u:object_r:container_file_t:s0:c1022,c1023"),
    (("label:disable",), "", "system_u:object_r:container_file_t:s0:c1022,c1023"),
    (("label=type:spc_t",), "system_u:system_r:spc_t:s0:cX", "system_u:object_r:container_file_t:s0:cX"),
    (("label=level:s0:c100,c200",), "system_u:system_r:container_t:s0:c100,c200", "system_u:object_r:container_file_t:s0:c100,c200"),
    (("label=level:s0",), "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0"),
    (("label=filetype:container_ro_file_t",), "system_u:system_r:container_t:s0:cX", "system_u:object_r:container_ro_file_t:s0:cX"),
    (("label=user:system_u", "label=role:system_r"), "system_u:system_r:container_t:s0:cX", "system_u:object_r:container_file_t:s0:cX"),
]


@pytest.mark.parametrize("options, process, mount", OPTIONS, ids=str)
def test_options(client, options, process, mount):
    flags = [word for option in options for word in ("--security-opt", option)]
    client("run", "-d", "--name", "opted", *flags, "busybox", "sh", "-c", CURRENT + "; sleep 1000")
    found = [re.sub(r":c\d+,c\d+$", ":cX", label) if "cX" in wanted else label for label, wanted in zip(labels(client, "opted"), (process, mount))]
    assert found == ([process, mount] if SELINUX else ["", ""])
    assert (json.loads(client("inspect", "-f", "{{json .HostConfig.SecurityOpt}}", "opted").stdout) or None) == (list(options) or None)
    said, wanted = output(client, "opted"), labels(client, "opted")[0]
    assert said == shown(wanted) if wanted or not SELINUX else ":container_t:" not in said, "without a label it is the policy's affair, by the engine's own"
    client("rm", "-f", "opted")


@pytest.mark.parametrize(
    "option, message",
    [
        ("label=anything", "Bad label option \"anything\", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"),
        ("label=color:red", "Bad label option \"color\", valid options 'disable, user, role, level, type, filetype'"),
        ("label:level", "Bad label option \"level\", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"),
    ],
)
def test_wrong_options(client, option, message):
    result = client("create", "--name", "wrong", "--security-opt", option, "busybox", "true", check=False)
    if SELINUX:
        assert result.returncode == 1 and f"Error response from daemon: {message}\n" in result.stderr
        assert client("ps", "-aq").stdout == ""
        return
    assert (result.returncode, result.stderr) == (0, ""), "without SELinux nobody looks at it"
    assert client("start", "-a", "wrong").stdout == ""
    client("rm", "wrong")


def test_a_type_that_the_policy_does_not_know(client):
    result = client("run", "--rm", "--security-opt", "label=type:nobodys_t", "busybox", "true", check=False)
    if not SELINUX:
        assert (result.returncode, result.stderr) == (0, "")
        return
    assert result.returncode == 126 or result.returncode == 125
    assert "OCI runtime create failed: runc create failed: unable to start container process: error during container init: " in result.stderr
    assert "selinux" in result.stderr and "invalid argument" in result.stderr


@pytest.mark.parametrize("flags", [("--privileged",), ("--pid", "host"), ("--ipc", "host")], ids=str)
def test_what_shares_the_host_is_not_confined(client, flags):
    client("run", "-d", "--name", "shares", *flags, "busybox", "sh", "-c", CURRENT + "; sleep 1000")
    assert json.loads(client("inspect", "-f", "{{json .HostConfig.SecurityOpt}}", "shares").stdout) == ["label=disable"]
    assert labels(client, "shares") == (["", FILE + "1022,c1023"] if SELINUX else ["", ""])
    assert "container_t" not in client("exec", "shares", "sh", "-c", CURRENT).stdout
    client("rm", "-f", "shares")
    client("run", "-d", "--name", "shares", *flags, "--security-opt", "label=type:container_t", "busybox", "sleep", "1000")
    assert (labels(client, "shares")[0].startswith(PROCESS)) == SELINUX
    client("rm", "-f", "shares")


def test_who_joins_a_namespace_has_its_label(client):
    client("run", "-d", "--name", "first", "--ipc", "shareable", "busybox", "sh", "-c", "echo x > /dev/shm/file; sleep 1000")
    client("run", "-d", "--name", "other", "--ipc", "shareable", "busybox", "sleep", "1000")
    process, mount = labels(client, "first")
    for flags in (("--pid", "container:first"), ("--ipc", "container:first"), ("--pid", "container:first", "--ipc", "container:first")):
        client("run", "-d", "--name", "joined", *flags, "busybox", "sleep", "1000")
        assert labels(client, "joined") == [process, mount]
        assert client("exec", "joined", "sh", "-c", CURRENT).stdout.strip("\0\n") == shown(process)
        client("rm", "-f", "joined")
    result = client("create", "--name", "torn", "--pid", "container:first", "--ipc", "container:other", "busybox", "true", check=False)
    if SELINUX:
        assert result.returncode == 1 and "Error response from daemon: --ipc and --pid containers SELinux labels aren't the same\n" in result.stderr
    else:
        assert result.returncode == 0
        client("rm", "torn")
    client("run", "-d", "--name", "net", "--network", "container:first", "busybox", "sleep", "1000")
    assert label_of(client("inspect", "-f", "{{.HostsPath}}", "first").stdout.strip()) == ("system_u:object_r:container_file_t:s0" if SELINUX else None)
    client("rm", "-f", "first", "other", "net")


@pytest.fixture
def tree(tmp_path):
    """A directory with what can have a label."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("content", encoding="utf-8")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "d" / "fifo")
    return tmp_path


def tree_labels(tree):
    return {label_of(path) for path in (tree, tree / "d", tree / "d" / "file", tree / "d" / "fifo", tree / "link")}


def test_relabelling(client, tree):
    before, passwd = tree_labels(tree), label_of("/etc/passwd")
    client("run", "--rm", "-v", f"{tree}:/x:ro", "busybox", "true")
    assert tree_labels(tree) == before, "only who asks for it"
    client("run", "--name", "private", "-v", f"{tree}:/x:Z", "busybox", "ls", "/x")
    assert tree_labels(tree) == ({labels(client, "private")[1]} if SELINUX else before)
    client("run", "--name", "common", "-v", f"{tree}:/x:ro,z", "busybox", "ls", "/x")
    assert tree_labels(tree) == ({"system_u:object_r:container_file_t:s0"} if SELINUX else before)
    assert label_of("/etc/passwd") == passwd, "no link is followed"
    client("run", "--name", "one-file", "-v", f"{tree}/d/file:/f:Z", "busybox", "cat", "/f")
    assert label_of(tree / "d" / "file") == (labels(client, "one-file")[1] if SELINUX else None)
    client("rm", "private", "common", "one-file")
    for path in ("/usr", "/etc/", "/../tmp"):
        result = client("run", "--rm", "-v", f"{path}:/x:Z", "busybox", "true", check=False)
        if SELINUX:
            clean = os.path.normpath(path)
            assert result.returncode == 125 and f"error setting label on mount source '{clean}': SELinux relabeling of {clean} is not allowed" in result.stderr
        else:
            assert (result.returncode, result.stderr) == (0, "")


def test_volumes_belong_to_all_containers(client):
    shared = "system_u:object_r:container_file_t:s0" if SELINUX else None
    for name, flags in (("named", ("-v", "vol:/v")), ("mounted", ("--mount", "type=volume,source=vol2,target=/v")), ("anonymous", ("-v", "/v"))):
        client("run", "--name", name, *flags, "busybox", "sh", "-c", "echo x > /v/f")
        place = json.loads(client("inspect", "-f", "{{json .Mounts}}", name).stdout)[0]["Source"]
        assert label_of(place) == shared, name
        assert (label_of(os.path.join(place, "f")) or "").startswith(shared or ""), name
        client("rm", "-v", name)
    client("volume", "rm", "vol", "vol2")


def test_no_label_leaves_the_machine(engine, client):
    client("run", "--name", "source", "busybox", "sh", "-c", "mkdir /d && echo x > /d/f && ln -s f /d/l && echo y >> /etc/passwd")
    assert "A /d/f\n" in client("diff", "source").stdout
    client("commit", "source", "committed")
    exported = engine.tare("export", "source", input=b"").stdout
    copied = engine.tare("cp", "source:/d", "-", input=b"").stdout
    saved = engine.tare("save", "committed", input=b"").stdout
    archives = [exported, copied]
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        archives += [archive.extractfile(member).read() for member in archive if member.isfile()]
    seen = 0
    for content in archives:
        if content[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                members = list(archive)
                seen += any(member.name.rstrip("/").split("/")[-1] == "f" for member in members)
                assert [member.name for member in members if any("selinux" in key for key in member.pax_headers)] == []
    assert seen == 3
    assert client("run", "--rm", "committed", "cat", "/d/l").stdout == "x\n"
    engine.tare("cp", "-", "source:/", input=exported_file("late"))
    assert client("start", "source").returncode == 0 and client("wait", "source").stdout == "1\n"
    client("rm", "source")
    client("image", "rm", "committed")


def exported_file(name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 5
        archive.addfile(member, io.BytesIO(b"late\n"))
    return out.getvalue()


def test_what_the_kernel_refuses(client, tree, enforcing):
    """A file of the host, and one of another container, are closed to a container, unless they have been given it."""
    read = ("busybox", "cat", "/x/d/file")
    closed = client("run", "--rm", "-v", f"{tree}:/x", *read, check=False)
    assert (closed.stdout, closed.returncode) == (("", 1) if SELINUX else ("content", 0))
    assert ("Permission denied" in closed.stderr) == SELINUX
    assert client("run", "--rm", "--security-opt", "label=disable", "-v", f"{tree}:/x", *read).stdout == "content"
    assert client("run", "--rm", "--privileged", "-v", f"{tree}:/x", *read).stdout == "content"
    assert client("run", "--rm", "-v", f"{tree}:/x:Z", *read).stdout == "content"
    others = client("run", "--rm", "-v", f"{tree}:/x", *read, check=False)
    assert (others.stdout, others.returncode) == (("", 1) if SELINUX else ("content", 0)), "it was the other container's alone"
    assert client("run", "--rm", "-v", f"{tree}:/x:z", *read).stdout == "content"
    assert client("run", "--rm", "-v", f"{tree}:/x", *read).stdout == "content", "all containers' now"


def test_life_under_enforcement(engine, client, enforcing):
    client("run", "-d", "--name", "living", "-v", "kept:/v", "busybox", "sh", "-c", "echo out; echo err >&2; mkdir /made; echo x > /v/f; while :; do sleep 0.1; done")
    wait_until(lambda: client("exec", "living", "test", "-s", "/v/f", check=False).returncode == 0, lambda: client("logs", "living"))
    assert client("exec", "living", "sh", "-c", "ls -d /made; cat /v/f; cat /etc/hostname | wc -c; ls /dev/mqueue; echo x > /dev/shm/f").stdout == "/made\nx\n13\n"
    assert client("exec", "-i", "living", "cat", input="through\n").stdout == "through\n"
    assert client("exec", "-t", "living", "tty").stdout.startswith("/dev/pts/")
    assert (client("logs", "living").stdout, client("logs", "living").stderr) == ("out\n", "err\n")
    assert client("stop", "-t", "0", "living").returncode == 0
    client("rm", "living")
    client("volume", "rm", "kept")
    assert client("run", "--rm", "-i", "busybox", "cat", input="in and out\n").stdout == "in and out\n"


def test_a_build(engine, client, tmp_path, enforcing):
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nCOPY Dockerfile /copied\nRUN ({CURRENT}) > /label && cat /copied > /run-file\nRUN cat /run-file\n", encoding="utf-8")
    client("build", "-t", "built", str(tmp_path))
    written = client("run", "--rm", "built", "cat", "/label").stdout.strip("\0\n")
    assert written.startswith(PROCESS) if SELINUX else written == "none"
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=cache,target=/c echo kept > /c/f && cat /c/f > /from-cache\n", encoding="utf-8")
    engine.tare("build", "-t", "cached", str(tmp_path))
    assert client("run", "--rm", "cached", "cat", "/from-cache").stdout == "kept\n"
    client("image", "rm", "built", "cached")


def test_unpacked_layers(new_engine, enforcing):
    running = new_engine("--selinux-enabled", "--storage-backend", "unpacked").start()
    running.tare("import", str(busybox_root()), "busybox")
    assert running.tare("run", "--rm", "busybox", "sh", "-c", CURRENT).stdout.startswith(PROCESS if SELINUX else "none")
    layers = os.path.join(running.data_root, "layers", "unpacked")
    found = {label_of(os.path.join(layers, name, "bin", "busybox")) for name in os.listdir(layers)}
    assert found == {"system_u:object_r:container_ro_file_t:s0" if SELINUX else None}
    running.tare("run", "-d", "--name", "confined", "busybox", "sleep", "1000")
    running.flags = [flag for flag in running.flags if flag != "--selinux-enabled"]
    running.restart()
    assert running.tare("exec", "confined", "sh", "-c", CURRENT).stdout.startswith(PROCESS if SELINUX else "none"), "also when it has been turned off"


def test_it_is_not_on_by_itself_and_the_file_turns_it_on(new_engine):
    running = new_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    running.tare("create", "--name", "plain", "--security-opt", "label=type:container_t", "busybox", "true")
    assert labels(running.tare, "plain") == ["", ""]
    assert "name=selinux" not in running.api("GET", "/info").json["SecurityOptions"]
    configuration = os.path.join(running.directory, "daemon.json")
    with open(configuration, encoding="utf-8") as file:
        content = json.load(file)
    with open(configuration, "w", encoding="utf-8") as file:
        json.dump({**content, "selinux-enabled": True}, file)
    running.restart()
    assert labels(running.tare, "plain") == ["", ""], "what was made without has none"
    assert ("name=selinux" in running.api("GET", "/info").json["SecurityOptions"]) == SELINUX
    running.tare("create", "--name", "labelled", "busybox", "true")
    assert labels(running.tare, "labelled")[0].startswith(PROCESS) == SELINUX
