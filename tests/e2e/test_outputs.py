"""What reads is printed byte for byte as docker 28.2 prints it, from the same engine."""

import os
import re

import pytest

from conftest import NEWER_DOCKER, newer_client, program_directory
from inputs import busybox_root

TARE = os.path.join(program_directory(), "tare")
DOCKER = NEWER_DOCKER or "/usr/bin/docker"


@pytest.fixture(scope="module", autouse=True)
def scene(engine, tmp_path_factory):
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text('FROM busybox\nENV A=b\nRUN echo hello > /hello\nEXPOSE 80 53/udp\nVOLUME /data\nLABEL kind="a test" b=c\nCMD ["sleep", "1000"]\n', encoding="utf-8")
    engine.tare("import", "--message", "a root", str(busybox_root()), "busybox")
    engine.tare("build", "-t", "app:1", "-t", "registry.example:5000/team/app:latest", str(context))
    engine.tare("volume", "create", "--label", "a=b", "named")
    engine.tare("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", "-v", "named:/named", "--label", "x=y", "--stop-signal", "KILL", "--memory", "64m", "app:1")
    engine.tare("run", "--name", "done", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    engine.tare("create", "--name", "new", "-it", "--network", "host", "busybox", "sh", "-c", "a long command that is cut where it is shown in a table")
    engine.tare("exec", "web", "sh", "-c", "echo x > /added; rm /hello; echo y >> /etc/passwd")
    engine.tare("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
    engine.tare("pause", "paused")
    yield
    engine.tare("unpause", "paused")


LINES = """
ps
ps -a
ps -a --no-trunc
ps -aq
ps -aq --no-trunc
ps -l
ps -n 2
ps -as
ps -a --filter status=exited
ps -a --filter name=we --filter label=x
ps -a --filter ancestor=app:1
ps -a --filter exited=3
ps -a --format {{.ID}}|{{.Image}}|{{.Command}}|{{.RunningFor}}|{{.Status}}|{{.Names}}|{{.Ports}}|{{.Networks}}|{{.Mounts}}|{{.LocalVolumes}}|{{.State}}|{{.Size}}
ps -a --format json
ps -a --format {{json .}}
ps -a --format table {{.Names}}\t{{.Ports}}\t{{.Label "x"}}
ps -a --format raw
ps -aq --format raw
images
images -a
images --digests
images --no-trunc
images -q
images -q --no-trunc
images app
images app:1
images registry.example:5000/*/*
images --filter dangling=true
images --filter label=b
images --filter reference=app:*
images --format {{json .}}
images --format json
images --format {{.Repository}}:{{.Tag}} {{.CreatedSince}} {{.Size}}
images --format raw
images --format table {{.ID}}\t{{.Tag}}
inspect web
inspect done new paused
inspect -s web
inspect app:1
inspect busybox app:1
inspect named
inspect bridge
inspect --type image app:1
inspect -f {{.Name}} {{.State.Status}} {{.Config.Image}} web done
inspect -f {{json .Config}} web
inspect -f {{json .HostConfig}} web
inspect -f {{range $p, $c := .NetworkSettings.Ports}}{{$p}}={{(index $c 0).HostIp}} {{end}} web
inspect -f {{.Config.Labels}} web
inspect -f {{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}} {{end}} web
inspect -f {{len .Mounts}} {{.HostConfig.Memory}} {{.RestartCount}} web
inspect --format json web
image inspect app:1
image inspect -f {{.Config.ExposedPorts}} {{.Config.Volumes}} app:1
container inspect web
history app:1
history --no-trunc app:1
history -q app:1
history -H=false app:1
history --format {{.CreatedBy}}|{{.Size}}|{{.Comment}}|{{.CreatedAt}} app:1
history --format json app:1
info --format {{.OSType}} {{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}} {{.Images}} {{.Driver}}
info --format {{json .SecurityOptions}}
info --format {{.LoggingDriver}} {{.CgroupDriver}} {{.CgroupVersion}} {{.NCPU}} {{.MemTotal}} {{.Name}} {{.KernelVersion}}
version --format {{.Server.Version}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}} {{.Server.Arch}}
version --format {{json .Server}}
events --since 1 --until {now}
events --since 1 --until {now} --filter type=container --filter event=die
events --since 1 --until {now} --format {{json .}}
events --since 1 --until {now} --format {{.Type}} {{.Action}} {{.Actor.ID}} {{.TimeNano}}
system df
system df -v
system df --format {{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}
system df --format json
volume ls
volume ls -q
volume ls --filter name=nam
volume ls --format {{json .}}
volume ls --format raw
volume inspect named
volume inspect -f {{.Mountpoint}} {{.Labels}} named
network ls
network ls -q --no-trunc
network ls --filter driver=bridge
network ls --format {{json .}}
network ls --format raw
network inspect bridge
network inspect -f {{.Driver}} {{.Scope}} {{json .IPAM}} bridge none host
top web
top web -o pid,comm
port web
port web 80
port web 80/tcp
port web 53/udp
diff web
stats --no-stream --no-trunc --format {{.Name}}|{{.ID}}|{{.Container}} web paused
stats --no-stream --format {{.Name}}|{{.MemPerc}}|{{.PIDs}} paused
logs done
logs --timestamps done
logs --tail 1 done
logs --since 2020-01-01 done
logs --until 2020-01-01 done
logs --details done
wait done
""".strip().splitlines()


def split(line):
    """Words; a template is one, up to what looks like the name of an object."""
    match = re.match(r"(.*? (?:--format|-f)) ((?:table )?.*\{\{.*\}\}\S*)((?: [a-z0-9:]+)*)$", line)
    return [*match[1].split(" "), match[2], *match[3].split()] if match else line.split(" ")


@newer_client
@pytest.mark.parametrize("line", LINES)
def test_output(engine, line):
    now = engine.tare("info", "--format", "{{.SystemTime}}").stdout.strip()
    words = [word.replace("{now}", now).replace("\\t", "\t") for word in split(line)]
    for _ in range(4):  # a second may pass between the two
        ours, theirs = (engine.client(program, *words, check=False) for program in (TARE, DOCKER))
        # With digests docker lists the names of one image in an order that changes from call to call.
        settle = sorted if line.startswith("images") and ("json" in line or "digests" in line) else str
        results = [(one.returncode, settle(one.stdout), one.stderr) for one in (ours, theirs)]
        if results[0] == results[1]:
            break
    assert results[0] == results[1]
    assert ours.returncode == 0 and (ours.stdout or ours.stderr or "dangling" in line or "until 2020" in line)
