"""Stages as a graph: what the target does not need is not built, independent stages run at the same time, the same work is done once."""

import http.server
import json
import os
import subprocess
import threading

import pytest

from conftest import program_directory


pytestmark = pytest.mark.usefixtures("bb")  # an image bb:1 in the module's engine


class Meeting:
    """An HTTP server that RUN steps ask over the host's network: what it answers is up to the test, in a thread a request."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = answer(self.path).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.server.shutdown()
        self.server.server_close()


def build(engine, dockerfile, *flags, check=True, **options):
    options.setdefault("env", {"DOCKER_BUILDKIT": "0"})
    return engine.tare("build", "--network", "host", *flags, "-", input=dockerfile, check=check, **options)


def test_what_the_target_does_not_need_is_not_built(engine):
    text = "FROM bb:1 AS a\nRUN echo a > /a\nFROM nosuch:1 AS unneeded\nRUN false\nFROM bb:1 AS also\nRUN false\nFROM bb:1\nCOPY --from=a /a /\n"
    out = build(engine, text, "-t", "graph").stdout
    assert "Step 4/4 : COPY --from=a /a /" in out and "RUN false" not in out
    out = build(engine, text, "--target", "a").stdout
    assert "Step 2/2" in out
    assert build(engine, text, "--target", "also", check=False).returncode == 1


def test_independent_stages_run_at_the_same_time(engine):
    """Each step waits for the other: one after the other they would wait for ever."""
    barrier = threading.Barrier(3)
    with Meeting(lambda path: str(barrier.wait(60))) as meeting:
        stages = "".join(f"FROM bb:1 AS s{i}\nRUN wget -q -O /got {meeting.url}/{i} && echo said {i}\n" for i in range(3))
        copies = "".join(f"COPY --from=s{i} /got /got{i}\n" for i in range(3))
        out = build(engine, stages + "FROM bb:1\n" + copies + "RUN cat /got*\n").stdout
    # and still the stream is in the order of the Dockerfile
    assert [line for line in out.splitlines() if line.startswith("said")] == ["said 0", "said 1", "said 2"]
    steps = [int(line.split()[1].split("/")[0]) for line in out.splitlines() if line.startswith("Step ")]
    assert steps == list(range(1, 12))


def test_a_stage_waits_only_where_it_needs_the_other(engine):
    """The second stage's first step runs beside the first stage, whose file it copies afterwards."""
    barrier = threading.Barrier(2)
    with Meeting(lambda path: str(barrier.wait(60))) as meeting:
        out = build(engine, f"FROM bb:1 AS one\nRUN wget -q -O /got {meeting.url}/1\nFROM bb:1\nRUN wget -q -O /mine {meeting.url}/2\nCOPY --from=one /got /\nRUN ls /got /mine\n").stdout
    assert "/got\n/mine\n" in out


def test_the_same_step_of_two_stages_is_done_once(engine):
    asked = []
    with Meeting(lambda path: asked.append(path) or "x") as meeting:
        text = f"FROM bb:1 AS one\nRUN wget -q -O /got {meeting.url}/same\nFROM bb:1 AS two\nRUN wget -q -O /got {meeting.url}/same\nFROM bb:1\nCOPY --from=one /got /1\nCOPY --from=two /got /2\n"
        build(engine, text)
        assert asked == ["/same"]
        build(engine, text, "--no-cache")
        assert asked == ["/same"] * 2


def test_the_same_step_of_two_builds_is_done_once(engine):
    asked, outputs, threads = [], [], []

    def second():
        process = subprocess.Popen([os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "host", "-"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"], "HOME": engine.directory, "DOCKER_BUILDKIT": "0"})
        process.stdin.write(text)
        process.stdin.close()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Step 2/"):
                arrived.set()
        outputs.append("".join(lines))
        process.wait()

    def answer(path):
        asked.append(path)
        threads.append(threading.Thread(target=second))
        threads[-1].start()
        assert arrived.wait(60)
        return "x"

    arrived = threading.Event()
    with Meeting(answer) as meeting:
        text = f"FROM bb:1\nRUN wget -q -O /got {meeting.url}/both\n"
        first = build(engine, text).stdout
        threads[0].join(60)
    assert asked == ["/both"]
    assert "Using cache" in outputs[0]
    assert first.splitlines()[-1] == outputs[0].splitlines()[-1]


def test_the_first_failure_in_the_order_of_the_file_is_told(engine):
    """A later stage fails first; what it needs not to run ends, and earlier ones have their say."""
    failed = threading.Event()
    with Meeting(lambda path: str(failed.set() if path == "/fail" else failed.wait(60))) as meeting:
        text = (f"FROM bb:1 AS one\nRUN wget -q -O /got {meeting.url}/wait; echo first\nFROM bb:1 AS two\nRUN wget -q -O /got {meeting.url}/fail; echo second; exit 7\n"
                "FROM bb:1 AS three\nRUN sleep 1000\nFROM bb:1\nCOPY --from=one /got /1\nCOPY --from=two /got /2\nCOPY --from=three /x /\n")
        done = build(engine, text, check=False)
    assert done.returncode == 7
    assert done.stdout.index("first\n") < done.stdout.index("second\n") and "sleep 1000\n --->" not in done.stdout
    assert "returned a non-zero code: 7" in done.stderr
    assert json.loads(engine.api("GET", "/containers/json?all=1&limit=10").body) is not None


def test_a_trigger_may_need_a_stage_that_nothing_else_names(engine):
    build(engine, "FROM bb:1\nONBUILD COPY --from=tools /tool /tool\n", "-t", "trigger:1")
    out = build(engine, "FROM bb:1 AS tools\nRUN echo here > /tool\nFROM trigger:1\nRUN cat /tool\n").stdout
    assert "\nhere\n" in out


def test_a_build_of_many_stages_ends_with_its_client(engine):
    with Meeting(lambda path: asked.set() or "x") as meeting:
        asked = threading.Event()
        text = "".join(f"FROM bb:1 AS s{i}\nRUN wget -q -O - {meeting.url}/{i}; sleep 1000 # {i}\n" for i in range(3)) + "FROM bb:1\n" + "".join(f"COPY --from=s{i} /x /\n" for i in range(3))
        process = subprocess.Popen([os.path.join(program_directory(), "tare"), "-H", engine.host, "build", "--network", "host", "-"], stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env={"PATH": os.environ["PATH"], "HOME": engine.directory})
        process.stdin.write(text)
        process.stdin.close()
        assert asked.wait(60)
        process.kill()
        process.wait()
