"""The stock client's words, one line after another, to our engine and to Debian's dockerd: status, output and errors are the same."""

import concurrent.futures
import os
import re
import select
import subprocess

import pytest

from conftest import finish, make_engine
from dockerd import running_dockerd
from inputs import busybox_root

# In this order, for later lines stand on what earlier ones made. Most of them fail, which is where engines differ.
LINES = """
run --rm -w rel bb true
run --rm -u nobody --network none bb id
run --rm --network none bb nosuch
run --rm --network none bb /etc
run --rm --network none -w /bin/busybox bb true
run --rm -v relative:/x:foo bb true
run --rm -v /tmp:relative bb true
run --rm --mount type=bind,src=/nonexistent,dst=/q bb true
run --rm --memory 1k bb true
run --rm --cpus 1000 bb true
run --rm --ulimit nofile=10:5 bb true
run --rm --cap-add NOPE bb true
run --rm --security-opt nope=1 bb true
run --rm --network none --device /dev/nonexistent bb true
run --rm --network nope bb true
run --rm --restart always bb true
run --rm --restart nope bb true
run -d --restart on-failure:x bb true
run --rm -p 99999:80 bb true
run --rm -p 80:80:80:80 bb true
run --rm --log-driver nope bb true
run --rm --log-opt nope=1 bb true
run --rm --log-driver local --log-opt labels=x bb true
run --rm --log-opt max-size=x bb true
run --rm --network none --log-driver none --log-opt a=b bb true
create --name lo --log-opt max-size=1k bb true
inspect -f {{json .HostConfig.LogConfig}} lo
create --name lo bb true
rm lo
create --name lo --log-driver none bb true
inspect -f {{json .HostConfig.LogConfig}} lo
rm lo
create --name lo --log-driver local --log-opt max-file=3 bb true
inspect -f {{json .HostConfig.LogConfig}} lo
rm lo
run --rm --network none -v v1:/etc bb sh -c 'cat /etc/hosts; ls /etc'
run --rm --network none -v v1:/etc:ro bb sh -c 'wc -l < /etc/hostname; ls /etc'
run --rm --network none -v v2:/etc:ro bb sh -c 'wc -l < /etc/hostname; ls -l /etc | cut -c1-10'
run --rm --network none --tmpfs /etc bb sh -c 'wc -l < /etc/hostname; ls /etc'
run --rm --network none -v v4:/root -v v5:/root/sub bb sh -c 'ls -d /root/sub; grep -c root/sub /proc/mounts'
run --rm --network none -v v5:/root/sub -v v4:/root bb sh -c 'ls -d /root/sub; grep -c root/sub /proc/mounts'
volume ls -q
run --rm --network none --mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1770 bb sh -c 'grep " /t " /proc/mounts; stat -c %a /t'
run --rm --network none --mount type=tmpfs,dst=/t,foo=1 bb true
run --rm --network none --mount type=nope,dst=/t bb true
run --rm --network none --mount type=bind,dst=/q bb true
run --rm --network none -v /tmp:/ bb true
run --rm --network none -v bad/name:/a bb true
run --rm --network none -v v3:/a -v v3:/a bb true
run --rm --stop-signal NOPE bb true
run --rm --userns nope bb true
run --rm --oom-score-adj 5000 bb true
run --rm --network none --group-add nope bb id
run --rm --label-file /nonexistent bb true
run --rm --env-file /nonexistent bb true
run --rm --name a/b bb true
run --rm --cpuset-cpus 99 bb true
run --rm --cpuset-cpus x bb true
run --rm --cpuset-mems x bb true
run --rm --runtime nope bb true
run --rm --mac-address zz bb true
run --rm --volumes-from nope bb true
run --rm --health-interval 1us bb true
run --rm --memory-swap 1m --memory 8m bb true
run --rm --memory-reservation 20m --memory 8m bb true
run --rm --memory-swappiness 101 bb true
run --rm --expose 80-70 bb true
run --rm --expose x bb true
run -d --name c1 --network none bb sleep 1000
run -d --name c1 --network none bb sleep 1000
exec -e A=1 -w /tmp -u 1 c1 sh -c 'echo $A; pwd; id -u'
exec c1 nosuch
exec c1 /etc
exec -w /nope c1 true
exec -u nope c1 true
exec nope true
port c1
port c1 80
rename c1 c2
rename c1 c2
rename c2 c1
pause c1
exec c1 true
pause c1
unpause c1
unpause c1
stop -t 1 nope
update --cpus 2 c1
update --restart always c1
update --restart no c1
kill -s NOPE c1
kill -s 0 c1
diff c1
cp c1:/nope /tmp
cp /nonexistent c1:/
cp /etc/hostname c1:/nodir/x
cp c1:/etc c1:/x
logs nope
logs --tail x c1
wait nope
attach nope
start nope
start c1
rm c1
rmi bb
image inspect nope
inspect nope
inspect --type volume nope
volume inspect nope
volume create vol
volume create vol
volume rm vol nope
volume create --driver nope v
volume create 'a b'
volume ls -f nope=1
network inspect nope
restart -t 0 c1
stop -t 0 c1
inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' c1
kill c1
exec c1 true
pause c1
export nope
commit nope x
commit -c 'FOO x' c1 x
commit -c 'CMD ["a"]' c1 BAD/Name
commit -c 'CMD ["a"]' -c 'ENV q=1' -m msg -a me c1 good:1
history good:1 --format '{{.CreatedBy}}|{{.Comment}}' --no-trunc
tag good:1 x:y:z
tag nope x
tag good:1 other/name:2
images nope
images -f nope=1
images -f dangling=x
rmi good:1 other/name:2
rmi nope
search
pull BAD
pull a@sha256:12
load -i /nonexistent
save nope
save bb nope
ps -a --format '{{.Names}} {{.Image}} {{.Command}}'
ps -f status=nope
ps -f nope=1
ps -n x
rm -f c1 nope
create --name cr --network none bb echo created
start -a cr
logs cr
start -a cr cr
rm cr
events --since 0 --until 1 --filter nope=1
"""


@pytest.fixture(scope="module")
def engines():
    ours = make_engine().start()
    with running_dockerd() as theirs:
        for one in (ours, theirs):
            one.docker("import", str(busybox_root()), "bb")
        yield ours, theirs
    finish(ours)


def said(host, directory, line):
    done = subprocess.run(["sh", "-c", "exec docker " + line], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "DOCKER_HOST": host, "HOME": directory, "DOCKER_BUILDKIT": "0"})
    return done.returncode, *(re.sub(r"(sha256:)?\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID", text) for text in (done.stdout, done.stderr))


def test_every_line_says_the_same(engines):
    lines = [re.sub(r"-f (\{\{.*\}\})", r"-f '\1'", line) for line in LINES.splitlines() if line]
    with concurrent.futures.ThreadPoolExecutor() as both:
        mine, expected = both.map(lambda one: [said(one.host, one.directory, line) for line in lines], engines)
    different = [f"docker {line}\n  ours     {ours}\n  dockerd  {theirs}" for line, ours, theirs in zip(lines, mine, expected) if ours != theirs]
    assert not different, "\n".join(different)


def test_no_signal_is_ignored_or_blocked(engines):
    """Also not the C library's own two, which its posix_spawn leaves ignored."""
    shown = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    assert engines[0].tare("run", "--rm", "--network", "none", "bb", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status").stdout == shown


def test_a_working_directory_that_is_a_file(engines, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM bb\nWORKDIR /bin/busybox\n")
    mine, expected = (said(one.host, one.directory, f"build {tmp_path}") for one in engines)
    assert mine == expected and "Cannot mkdir: /bin/busybox is not a directory" in mine[2]


def test_a_hardware_address_by_either_way(engines):
    """Clients of API 1.44 send it with the network, "default" where none is named; older ones with the configuration."""
    ours = engines[0]
    shown = "cat /sys/class/net/eth0/address"
    for client in (ours.tare, ours.docker):
        for network in ((), ("--network", "bridge"), ("--network", "default")):
            assert client("run", "--rm", *network, "--mac-address", "02:42:ac:11:77:99", "bb", "sh", "-c", shown).stdout == "02:42:ac:11:77:99\n"
    for body in ({"MacAddress": "02:42:ac:11:77:98"}, {"NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": "02:42:ac:11:77:98"}}}}):
        created = ours.api("POST", "/containers/create?name=mac", {"Image": "bb", "Cmd": ["sleep", "1000"], **body})
        assert created.status == 201, created.body
        ours.api("POST", "/containers/mac/start")
        assert ours.api("GET", "/containers/mac/json").json["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == "02:42:ac:11:77:98"
        ours.tare("rm", "-f", "mac")


def test_log_options_without_a_driver_are_the_default_drivers():
    with_options = make_engine("--log-opt", "max-file=4", "--log-opt", "max-size=2k")
    with_options.start()
    try:
        with_options.tare("import", str(busybox_root()), "bb")
        for words, expected in ((["--log-opt", "max-size=1k"], {"Type": "json-file", "Config": {"max-file": "4", "max-size": "1k"}}),
                                ([], {"Type": "json-file", "Config": {"max-file": "4", "max-size": "2k"}}),
                                (["--log-driver", "none"], {"Type": "none", "Config": {}})):
            for client in (with_options.tare, with_options.docker):
                name = client("create", *words, "bb", "true").stdout.strip()
                assert with_options.api("GET", f"/containers/{name}/json").json["HostConfig"]["LogConfig"] == expected
                client("rm", name)
        with_options.tare("run", "--name", "big", "--network", "none", "--log-opt", "max-size=1k", "bb", "seq", "1", "500")
        path = with_options.api("GET", "/containers/big/json").json["LogPath"]
        assert sorted(name for name in os.listdir(os.path.dirname(path)) if name.startswith(os.path.basename(path))) == [os.path.basename(path) + end for end in ("", ".1", ".2", ".3")]
        with_options.tare("rm", "big")
    finally:
        finish(with_options)


def test_nothing_is_mounted_over_proc(engines, tmp_path):
    ours = engines[0]
    (tmp_path / "Dockerfile").write_text("FROM bb\nRUN ln -s /proc/self /link\n")
    ours.tare("build", "-t", "linked", str(tmp_path))
    (tmp_path / "file").write_text("ours\n")
    inside, over = '"{}" cannot be mounted because it is inside /proc: unknown', '"{}" cannot be mounted because it is not of type proc: unknown'
    for source, where, text in (("vol1", "/proc", over), (tmp_path, "/proc", over), ("vol1", "/proc/foo", inside), ("vol1", "/proc/sys", inside), (tmp_path / "file", "/proc/version", inside), ("vol1", "/link/attr", inside)):
        refused = ours.tare("run", "--rm", "-v", f"{source}:{where}", "linked", "true", check=False)
        assert refused.returncode == 125 and text.format(where) in refused.stderr, refused.stderr
    assert ours.tare("run", "--rm", "-v", f"{tmp_path}/file:/proc/meminfo:ro", "bb", "cat", "/proc/meminfo").stdout == "ours\n"
    assert ours.tare("run", "--rm", "-v", "/proc:/proc", "--pid", "host", "bb", "cat", "/proc/1/comm").returncode == 0
    ours.tare("volume", "rm", "vol1")


def test_the_events_of_a_life(engines):
    """Those of networks and volumes among them, in order: other programs wait for them."""
    script = """docker run -d --name ev --network none --label l=1 -v evv:/v bb sleep 1000
                docker stop -t 0 ev; docker start ev; docker restart -t 0 ev; docker pause ev; docker unpause ev; docker rename ev ew; docker kill ew; docker start ew
                docker commit --pause=false ew lived; docker rm -f ew; docker run --rm --name ex --network host -v evv:/w:ro bb true; docker volume rm evv
                docker tag lived lived:two; docker rmi lived:two lived"""
    told = []
    for one in engines:
        environment = {**os.environ, "DOCKER_HOST": one.host, "HOME": one.directory}
        form = "{{.Actor.ID}} {{.Type}} {{.Action}} {{.Scope}} {{json .Actor.Attributes}}"
        with subprocess.Popen(["docker", "events", "--format", form], stdout=subprocess.PIPE, text=True, env=environment) as listener:
            for number in range(100):  # until it listens
                subprocess.run(["docker", "volume", "create", f"first{number}"], check=True, capture_output=True, env=environment)
                if select.select([listener.stdout], [], [], 0.1)[0]:
                    break
            subprocess.run(["sh", "-c", script], check=True, capture_output=True, timeout=60, env=environment)
            subprocess.run(["docker", "volume", "create", "last"], check=True, capture_output=True, env=environment)
            lines = []
            for line in listener.stdout:
                name, what = line.split(" ", 1)
                if name == "last":
                    break
                if not what.startswith("volume create"):  # dockerd tells of it again with each container that uses it
                    lines.append(re.sub(r"(sha256:)?\b[0-9a-f]{64}\b", "ID", what))
            listener.terminate()
        told.append(lines)
    assert len(told[0]) > 40
    assert told[0] == told[1]
