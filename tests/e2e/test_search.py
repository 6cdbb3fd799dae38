"""search, by both clients, against registries that offer it (the first protocol's /v1/search) and those that do not."""

import base64
import json
import os
import urllib.parse

import pytest

import http_server
from conftest import newer_client, program_directory
from registries import DockerRegistry

TARE = os.path.join(program_directory(), "tare")
DOCKER = next(path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if os.path.exists(path))


class Asked(http_server.Handler):
    def do_GET(self):
        index = self.server.owner
        index.asked.append(self.path)
        path, _, query = self.path.partition("?")
        user = base64.b64decode(self.headers.get("Authorization", "Basic ")[6:]).decode()
        if index.user and user != index.user:
            self.reply(401, b"", WWW_Authenticate='Basic realm="index"')
        elif path == "/v1/search":
            values = urllib.parse.parse_qs(query)
            results = [result for result in index.results if values["q"][0] in result["name"]][: int(values["n"][0])]
            self.reply(200, json.dumps({"num_results": len(results), "query": values["q"][0], "results": results}).encode(), Content_Type="application/json")
        else:
            self.reply(404, b"not found")


class Index(http_server.Server):
    def __init__(self):
        self.asked, self.user = [], None
        text = "a description that is rather longer than the column\nand has lines"
        self.results = [{"name": f"library/tool{i}", "description": text if i < 2 else "", "star_count": 50 - i, "is_official": i == 0, "is_automated": i == 3} for i in range(30)]
        super().__init__(Asked)


@pytest.fixture(scope="module")
def index():
    running = Index()
    yield running
    running.close()


def both(engine, *words):
    ours, theirs = (engine.client(program, "search", *words, check=False) for program in (TARE, DOCKER))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr), words
    return ours


@newer_client
def test_like_docker(engine, index):
    term = f"{index.host}/tool"
    rows = both(engine, term).stdout.splitlines()
    assert rows[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"] and len(rows) == 26  # 25 is the default
    assert "a description that is rather longer than the…" in rows[1] and rows[1].split()[-2:] == ["50", "[OK]"]
    assert "the column and has lines" in both(engine, "--no-trunc", term).stdout
    assert both(engine, "--limit", "2", "--format", "{{.Name}} {{.StarCount}}", term).stdout == "library/tool0 50\nlibrary/tool1 49\n"
    assert "n=2&" in index.asked[-1] and "q=tool" in index.asked[-1]
    assert both(engine, "--limit", "100", "--format", "{{.Name}}", term).stdout.count("tool") == 30
    assert both(engine, "--filter", "stars=49", "--format", "{{.Name}}", term).stdout == "library/tool0\nlibrary/tool1\n"
    assert both(engine, "-f", "is-official=true", "-f", "stars=3", "--format", "{{.Name}}{{.IsOfficial}}", term).stdout == "library/tool0[OK]\n"
    assert both(engine, "--filter", "is-official=false", "--limit", "3", "--format", "{{.Name}}", term).stdout.count("tool") == 2
    assert both(engine, "--format", "table {{.Name}}\t{{.StarCount}}", "--limit", "4", term).stdout.splitlines()[-1].split() == ["library/tool3", "47"]
    assert both(engine, "--format", "{{.Nothing}}", term).returncode == 1
    assert json.loads(both(engine, "--format", "json", "--limit", "1", term).stdout)["Name"] == "library/tool0"
    assert both(engine, f"{index.host}/nothing").stdout.split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert both(engine, "--limit", "-1", "--format", "{{.Name}}", term).stdout.count("tool") == 25
    for words in (("--limit", "101", term), ("--filter", "stars=many", term), ("--filter", "color=red", term), ("--filter", "is-official=perhaps", term), ("http://x/y",)):
        assert both(engine, *words).returncode == 1


def test_with_credentials(engine, index):
    index.user = "me:secret"
    try:
        for number, program in enumerate((TARE, DOCKER)):
            env = {"DOCKER_CONFIG": os.path.join(engine.directory, f"search{number}")}
            os.mkdir(env["DOCKER_CONFIG"])
            with open(os.path.join(env["DOCKER_CONFIG"], "config.json"), "w", encoding="utf-8") as file:
                json.dump({"auths": {index.host: {"auth": base64.b64encode(b"me:secret").decode()}}}, file)
            assert engine.client(program, "search", "--limit", "1", "--format", "{{.Name}}", f"{index.host}/tool", env=env).stdout == "library/tool0\n"
        refused = both(engine, f"{index.host}/tool")
        assert refused.returncode == 1 and index.host in refused.stderr
    finally:
        index.user = None


def test_where_none_offers_it(engine):
    """Today's registries have no search, and say 404."""
    registry = DockerRegistry()
    try:
        failed = both(engine, f"{registry.host}/tool")
        assert failed.stderr == f"Error response from daemon: Unexpected status code 404 from http://{registry.host}/v1/search?n=25&q=tool: this registry offers no search\n"
    finally:
        registry.close()
    gone = both(engine, f"{registry.host}/tool")
    assert registry.host in gone.stderr and "connection refused" in gone.stderr
