"""--security-opt apparmor=, label= and --runtime as dockerd takes them: with AppArmor in the kernel (scripts/in-vm) confined, without it accepted and without meaning."""

import json
import os
import re
import subprocess

import pytest

from test_limits import engine  # noqa: F401 a fixture


def has_apparmor():
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="utf-8") as file:
            return file.read() == "Y\n"
    except OSError:
        return False


APPARMOR = has_apparmor()
CURRENT = "cat /proc/self/attr/current 2>/dev/null || echo none"


def confined(text):
    return text + "\n" if APPARMOR else "none\n"


@pytest.mark.parametrize("flags, profile", [([], "docker-default (enforce)"), (["--privileged"], "unconfined"), (["--security-opt", "apparmor=unconfined"], "unconfined"), (["--security-opt", "apparmor:docker-default"], "docker-default (enforce)")], ids=str)
def test_profiles(client, flags, profile):
    client("run", "-d", "--name", "confined", *flags, "busybox", "sh", "-c", CURRENT + "; sleep 1000")
    shown = client("inspect", "-f", "{{.AppArmorProfile}}", "confined").stdout
    assert shown == (profile.split()[0] if APPARMOR else "") + "\n"
    assert client("exec", "confined", "sh", "-c", CURRENT).stdout == confined(profile)
    assert client("exec", "--privileged", "confined", "sh", "-c", CURRENT).stdout == confined(profile), "as in docker"
    assert client("logs", "confined").stdout == confined(profile)
    client("rm", "-f", "confined")


def test_what_the_default_profile_forbids(client):
    script = "mount -t tmpfs x /tmp && echo mounted; echo x 2>/dev/null > /proc/sys/kernel/domainname || echo refused"
    flags = ("--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined")
    assert client("run", "--rm", *flags, "busybox", "sh", "-c", script).stdout == ("refused\n" if APPARMOR else "mounted\n")
    assert "mounted\n" in client("run", "--rm", *flags, "--security-opt", "apparmor=unconfined", "busybox", "sh", "-c", script).stdout
    client("run", "-d", "--init", "--name", "signalled", "busybox", "sleep", "1000")
    assert client("exec", "signalled", "sh", "-c", "kill -0 1 && echo may").stdout == "may\n"
    assert client("stop", "-t", "20", "signalled").stdout == "signalled\n"
    assert client("inspect", "-f", "{{.State.ExitCode}}", "signalled").stdout == "143\n", "the engine's signals arrive"
    client("rm", "signalled")


def test_a_profile_that_nobody_has_loaded(client):
    result = client("run", "--rm", "--security-opt", "apparmor=nobodys", "busybox", "true", check=False)
    if not APPARMOR:
        assert (result.returncode, result.stderr) == (0, "")
        return
    assert result.returncode == 127, "as the client takes any message about a missing file"
    assert "OCI runtime create failed: runc create failed: unable to start container process: error during container init: " in result.stderr
    assert "apparmor" in result.stderr and "no such file or directory" in result.stderr


@pytest.mark.parametrize("option", ["label=disable", "label=type:anything", "label:level:s0", "label=anything"])
def test_labels_mean_nothing_without_selinux(client, option):
    assert not os.path.exists("/sys/fs/selinux/enforce")
    identifier = client("create", "--security-opt", option, "busybox", "true").stdout.strip()
    assert client("start", "-a", identifier).stdout == ""
    assert json.loads(client("inspect", "-f", "{{json .HostConfig.SecurityOpt}}", identifier).stdout) == [option]
    assert client("inspect", "-f", "{{.ProcessLabel}}|{{.MountLabel}}", identifier).stdout == "|\n"
    client("rm", identifier)


def test_runtimes(engine, client):
    for name in ("runc", "io.containerd.runc.v2", "tare", ""):
        assert client("run", "--rm", "--runtime", name, "busybox", "echo", "ok").stdout == "ok\n"
    for name in ("nope", "crun", "kata"):
        refused = client("run", "--rm", "--runtime", name, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert re.search(rf"Error response from daemon: Unknown runtime specified {name}\.?\n", refused.stderr), "older clients add a full stop"
    info = engine.api("GET", "/info").json
    assert {"tare", "runc", "io.containerd.runc.v2"} <= set(info["Runtimes"]) and info["DefaultRuntime"] == "tare"
    assert {"tare", "runc", "io.containerd.runc.v2"} <= set(re.search(r"^ Runtimes: (.*)$", client("info").stdout, re.M).group(1).split())
    assert ("name=apparmor" in info["SecurityOptions"]) == APPARMOR
