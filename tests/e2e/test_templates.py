"""Go templates: docker and tare over one engine print the same, errors included."""

import json
import os

import pytest

from conftest import TOP, newer_client, program_directory
from inputs import busybox_root

TARE = os.path.join(program_directory(), "tare")
ADDRESS = "0xc0"

# Command, templates (~ stands for their own |), object.
COMMANDS = [
    (["container", "inspect", "-f"], r"""{{.Id}}|{{.ID}}|{{.State.Health}}|{{if .State.Health}}x{{end}}|{{.State.Health.Status}}|{{json .Config}}|{{json .HostConfig}}|{{json .State}}
{{.HostConfig.NetworkMode}}|{{upper .HostConfig.NetworkMode}}|{{.HostConfig.PortBindings}}|{{(index .HostConfig.PortBindings "80/tcp" 0).HostPort}}|{{(index (index .HostConfig.PortBindings "80/tcp") 0).HostPort}}
{{range $p, $b := .HostConfig.PortBindings}}{{$p}}{{range $b}}{{.HostPort}}{{end}}{{end}}|{{.HostConfig.OomKillDisable}}|{{.HostConfig.ConsoleSize}}|{{.HostConfig.CPUShares}}|{{.HostConfig.CpuShares}}|{{.HostConfig.Dns}}
{{.HostConfig.Resources.Memory}}|{{.NetworkSettings.Networks.none.NetworkID}}|{{.NetworkSettings.Networks.nope.IPAddress}}|{{.SizeRw}}|{{.Config.Healthcheck.Test}}|{{printf "%T" .HostConfig}}|{{join .Config.Cmd " "}}
{{eq .HostConfig.NetworkMode "none"}}|{{index (split .Name "/") 1}}|{{.ContainerJSONBase.Name}}|{{range .Mounts}}{{.Type}} {{.Destination}}{{end}}|{{.Nope}}""", "tc"),
    (["inspect", "-f"], "{{.Id}}|{{.Nope}}|{{.Config.Nope}}|{{.Name}}", "tc"),
    (["volume", "inspect", "-f"], "{{.}}|{{.Labels.a}}|{{.Labels.x}}|{{.Status}}|{{.UsageData}}|{{json .}}|{{.Nope}}", "vv"),
    (["network", "inspect", "-f"], "{{.}}|{{.ID}}|{{.Id}}|{{json .}}|{{(index .IPAM.Config 0).Subnet}}|{{.Nope}}|{{range .IPAM.Config}}{{.Gateway}}{{end}}", "none"),
    (["version", "-f"], "{{.Server.Version}}|{{.Server.APIVersion}}|{{.Server.ApiVersion}}|{{json .Server}}|{{.Nope}}|{{.Server.Nope}}|{{range .Server.Components}}{{.Name}} {{end}}|{{.Server.Platform.Name}}|{{.X", None),
    (["info", "-f"], "{{.ID}}|{{.DriverStatus}}|{{json .Plugins}}|{{json .RegistryConfig}}|{{json .Runtimes}}|{{.Swarm.LocalNodeState}}|{{.Nope}}|{{.SecurityOptions}}|{{.InitCommit.ID}}|{{.ClientInfo.Debug}}|{{.FirewallBackend}}", None),
    (["images", "--format"], r"""{{.ID}}: {{.Repository}}|{{.Nope}}|{{json .}}|{{.Size}} {{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}} {{.Containers}}|table {{.ID}}\t{{.Repository}}\t{{.Tag}}|table {{.ID}}\t{{.Nope}}|table {{json .ID}}|table {{upper .ID}}
table {{pad .ID 2 3}}x|table {{join .ID ","}}|table {{len .ID}}|table|table |json|raw|{{.ID ~ upper}}|{{.ID "x"}}|{{index .ID 0}}|{{range .ID}}{{end}}|{{.Label "a"}}|{{.|table {{.Digest}}\t{{.ID}}|{{join (split .Tag "") "-"}}|table {{.ID}}{{"\t"}}{{.Tag}}""", None),
    (["ps", "-a", "--format"], r"""{{.ID}}|{{.Label "l"}}|{{.Label "x"}}|{{.Label}}|{{.Label 1}}|{{.Label "a" "b"}}|{{"l" ~ .Label}}|table {{.Label "l"}}|table {{.Names}}\t{{.Label "com.x-y"}}|{{.Nope}}|{{json .}}|{{.RunningFor}}|{{.Platform}}
{{.Names "x"}}|table {{.Nope}}|{{.X|json|raw|{{.Networks}} {{.Mounts}} {{.LocalVolumes}}""", None),
    (["history", "--format"], r"{{.ID}}|{{json .}}|{{.Nope}}|table {{.ID}}\t{{.Size}}|json", "bb:1"),
    (["network", "ls", "--format"], r'{{.Name}}|{{.Nope}}|{{.Label "a"}}|table {{.Name}}\t{{.Label "a"}}', None),
    (["volume", "ls", "--format"], r'{{.Name}}|{{json .}}|{{.Nope}}|{{.Label "a"}}|table {{.Name}}\t{{.Label "a"}}', None),
    (["system", "df", "--format"], r"{{.Type}}|{{json .}}|{{.Nope}}|table {{.Type}}\t{{.Reclaimable}}|json|raw", None),
    (["system", "df", "-v", "--format"], "json|{{json .}}|{{range .Images}}{{.ID}}{{end}}|{{.Nope}}|{{json .Containers}}", None),
    (["context", "inspect", "-f"], "{{.Name}}|{{.Nope}}|{{.Endpoints}}|{{.Metadata}}", None),
]


@pytest.fixture(scope="module")
def engine(engine):
    engine.tare("import", "-c", 'CMD ["/bin/sh","-c","x y"]', "-c", 'LABEL a=1 b="x <y>" zz=中文', "-c", "ENV A=b C=d", "-c", "EXPOSE 80/tcp 53/udp", "-c", "HEALTHCHECK --interval=5s CMD true", str(busybox_root()), "bb:1")
    engine.tare("create", "--name", "tc", "--network", "none", "-p", "81:80", "--label", "l=1", "-e", "X=1", "-v", "vv:/data", "bb:1", "true")
    engine.tare("volume", "create", "--label", "a=b", "vw")
    yield engine
    engine.tare("rm", "-f", "tc")
    engine.tare("volume", "rm", "vv", "vw")


def same(engine, words):
    for _ in range(3):  # a second may pass between the two
        ours, theirs = (engine.client(program, *words, check=False) for program in (TARE, "docker"))
        results = [(one.returncode, one.stdout, one.stderr) for one in (ours, theirs)]
        if results[0] == results[1] or ADDRESS in theirs.stdout:
            return
    assert results[0] == results[1], words


@newer_client
@pytest.mark.parametrize("command, templates, name", COMMANDS, ids=[" ".join(one[0]) for one in COMMANDS])
def test_command(engine, command, templates, name):
    for template in templates.replace("\n", "|").split("|"):
        same(engine, [*command, template.replace("~", "|"), *([name] if name else [])])


@newer_client
@pytest.mark.parametrize("part", range(3))
def test_language(engine, part):
    """Every third of the unit test's table (which has what docker prints), over the engine."""
    with open(os.path.join(TOP, "tests", "unit", "data", "template", "templates.json"), encoding="utf-8") as file:
        table = [template for template, *_ in json.load(file)]
    for template in table[part::9]:
        same(engine, ["image", "inspect", "-f", template, "bb:1"])
