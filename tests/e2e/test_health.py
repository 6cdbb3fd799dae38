"""Health probes: what inspect, ps and events show of them, by both clients, and while no engine is there."""

import json
import time

import pytest

from conftest import finish, make_engine, newer_client
from inputs import busybox_root
from test_recovery import wait_until

SECOND = 1000000000


@pytest.fixture(scope="module")
def engine():
    running = make_engine().start()
    running.tare("import", str(busybox_root()), "busybox")
    yield running
    finish(running)


def health(engine, name):
    return engine.api("GET", f"/containers/{name}/json").json["State"].get("Health")


def status(engine, name):
    return (health(engine, name) or {}).get("Status")


def actions(engine, name, since):
    filters = json.dumps({"container": [name], "event": ["health_status"]}).replace('"', "%22").replace(" ", "")
    answer = engine.api("GET", f"/events?since={since:.6f}&until={time.time():.6f}&filters={filters}")
    return [message["Action"] for message in answer.messages]


def test_a_container_becomes_healthy_and_unhealthy(client, engine):
    since = time.time()
    client("run", "-d", "--name", "probed", "-w", "/tmp", "-e", "WORD=seen", "--health-cmd", "pwd; id -un; echo $WORD >&2; test -e ready", "--health-interval", "500ms",
           "--health-retries", "2", "--health-timeout", "5s", "busybox", "sleep", "1000")
    first = health(engine, "probed")
    assert first["Status"] == "starting"
    assert engine.api("GET", "/containers/probed/json").json["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "pwd; id -un; echo $WORD >&2; test -e ready"], "Interval": SECOND // 2, "Timeout": 5 * SECOND, "Retries": 2}
    assert client("ps", "--format", "{{.Status}}").stdout.strip().endswith("(health: starting)")
    wait_until(lambda: status(engine, "probed") == "unhealthy", "two probes fail")
    assert client("ps", "--filter", "health=unhealthy", "--format", "{{.Names}} {{.Status}}").stdout.strip().endswith("(unhealthy)")
    client("exec", "probed", "touch", "/tmp/ready")
    wait_until(lambda: status(engine, "probed") == "healthy", "a probe succeeds")
    shown = health(engine, "probed")
    assert shown["FailingStreak"] == 0
    assert 1 <= len(shown["Log"]) <= 5
    assert set(shown["Log"][-1]) == {"Start", "End", "ExitCode", "Output"}
    assert (shown["Log"][-1]["ExitCode"], shown["Log"][-1]["Output"]) == (0, "/tmp\nroot\nseen\n")
    assert client("ps", "--format", "{{.Status}}").stdout.strip().endswith("(healthy)")
    assert client("inspect", "--format", "{{.State.Health.Status}}", "probed").stdout == "healthy\n"
    client("exec", "probed", "rm", "/tmp/ready")
    wait_until(lambda: status(engine, "probed") == "unhealthy", "probes fail again")
    assert health(engine, "probed")["FailingStreak"] >= 2
    wait_until(lambda: len(health(engine, "probed")["Log"]) == 5, "the log is full")
    assert actions(engine, "probed", since) == ["health_status: unhealthy", "health_status: healthy", "health_status: unhealthy"]
    # paused, nothing is probed
    client("exec", "probed", "touch", "/tmp/ready")
    wait_until(lambda: status(engine, "probed") == "healthy", "a probe succeeds")
    client("pause", "probed")
    before = health(engine, "probed")
    assert before["Status"] == "unhealthy"
    time.sleep(0.3)
    assert health(engine, "probed") == before
    client("unpause", "probed")
    wait_until(lambda: status(engine, "probed") == "healthy", "it is probed again")
    # ended, it is unhealthy and keeps its log; another start begins anew
    client("stop", "-t", "0", "probed")
    ended = health(engine, "probed")
    assert (ended["Status"], len(ended["Log"])) == ("unhealthy", 5)
    client("start", "probed")
    assert health(engine, "probed")["Status"] == "starting"


def test_probes_that_go_wrong(client, engine):
    common = ["--health-interval", "50ms", "--health-retries", "1"]
    client("run", "-d", "--name", "late", *common, "--health-timeout", "200ms", "--health-cmd", "echo begun; sleep 100", "busybox", "sleep", "1000")
    client("run", "-d", "--name", "loud", *common, "--health-cmd", "i=0; while test $i -lt 2000; do echo 12345678; i=$((i+1)); done; exit 3", "busybox", "sleep", "1000")
    client("run", "-d", "--name", "holder", *common, "--health-cmd", "sleep 1000 & echo left; exit 1", "busybox", "sleep", "1000")
    client("run", "-d", "--name", "host", "--pid", "host", *common, "--health-cmd", "true", "busybox", "sleep", "1000")
    engine.api("POST", "/containers/create?name=absent", {"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["CMD", "absent"], "Interval": SECOND // 20, "Retries": 1}})
    client("start", "absent")
    for name, code, output in [
        ("late", -1, "Health check exceeded timeout (200ms): begun\n"),
        ("loud", 3, "12345678\n" * 455 + "1..."),
        ("holder", 1, "left\n"),
        ("absent", -1, 'OCI runtime exec failed: exec failed: unable to start container process: exec: "absent": executable file not found in $PATH: unknown'),
    ]:
        wait_until(lambda: status(engine, name) == "unhealthy", f"{name} is unhealthy")
        result = health(engine, name)["Log"][0]
        assert (result["ExitCode"], result["Output"]) == (code, output), name
    wait_until(lambda: status(engine, "host") == "healthy", "a container in the host's pid namespace")
    # each can be stopped, with a probe under way
    client("rm", "-f", "late", "loud", "holder", "host", "absent")


@newer_client
def test_what_the_image_says_and_what_undoes_it(client, engine):
    dockerfile = 'FROM busybox\nSTOPSIGNAL SIGKILL\nHEALTHCHECK --interval=50ms --timeout=3s --start-period=1m --retries=1 CMD false\nCMD ["sleep", "1000"]\n'
    client("build", "-q", "-t", "probed", "-", input=dockerfile)
    client("run", "-d", "--name", "starts", "probed")
    client("run", "-d", "--name", "never", "--no-healthcheck", "probed")
    client("run", "-d", "--name", "other", "--health-cmd", "exit 0", "--health-start-period", "0s", "probed")
    client("run", "-d", "--name", "often", "--health-interval", "1h", "--health-cmd", "true", "--health-start-interval", "50ms", "probed")
    wait_until(lambda: status(engine, "other") == "healthy", "the user's command with the image's interval")
    wait_until(lambda: status(engine, "often") == "healthy", "within the start period the start interval counts")
    assert health(engine, "never") is None
    assert "(" not in client("ps", "--filter", "name=never", "--format", "{{.Status}}").stdout
    assert health(engine, "starts")["Status"] == "starting"
    assert engine.api("GET", "/containers/starts/json").json["Config"]["StopSignal"] == "SIGKILL"
    assert engine.api("GET", "/containers/starts/json").json["Config"]["Healthcheck"]["StartPeriod"] == 60 * SECOND
    assert client("ps", "--filter", "health=none", "--format", "{{.Names}}").stdout == "never\n"
    for field, value, text in [("Interval", 1000, "Interval in Healthcheck cannot be less than 1ms"), ("Retries", -1, "Retries in Healthcheck cannot be negative")]:
        refused = engine.api("POST", "/containers/create", {"Image": "busybox", "Healthcheck": {"Test": ["CMD", "true"], field: value}})
        assert (refused.status, refused.message) == (400, text)


@pytest.mark.parametrize("hard", [True, False], ids=["kill", "term"])
def test_probes_while_no_engine_is_there(engine, hard):
    probe = ["--health-interval", "50ms", "--health-retries", "1"]
    engine.tare("run", "-d", "--name", "turns", *probe, "--health-cmd", "test -e /ready", "busybox", "sh", "-c", "sleep 0.4; touch /ready; sleep 1000")
    engine.tare("run", "-d", "--name", "ends", *probe, "--health-cmd", "echo fine", "busybox", "sh", "-c", "sleep 0.6")
    engine.tare("run", "-d", "--name", "returns", "--restart", "always", *probe, "--health-cmd", "test -e /none", "busybox", "sh", "-c", "sleep 0.3")
    wait_until(lambda: status(engine, "ends") == "healthy", "it is healthy")
    engine.kill() if hard else engine.stop()
    time.sleep(1)
    engine.start()
    assert health(engine, "turns")["Status"] == "healthy"
    assert len(health(engine, "turns")["Log"]) == 5
    ended = health(engine, "ends")
    assert (ended["Status"], ended["Log"][-1]["Output"]) == ("unhealthy", "fine\n")
    assert health(engine, "returns")["FailingStreak"] >= 0
    engine.restart(hard)
    assert health(engine, "ends") == ended, "it is in the record"
    last = health(engine, "turns")["Log"][-1]["End"]
    wait_until(lambda: health(engine, "turns")["Log"][-1]["End"] > last, "probes are heard of again")
    engine.clear()
