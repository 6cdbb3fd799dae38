"""Reads the --help pages of a client: which commands there are, and which flags each has."""

import functools
import os
import re
import subprocess
import tempfile


def run(program, *words, **options):
    """A client that finds no engine and no configuration."""
    environment = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir() + "/tare-no-home", "DOCKER_HOST": "unix:///tare-no-engine", "DOCKER_CLI_HINTS": "false"}
    return subprocess.run([program, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False, env=environment, **options)


def parse(text):
    """(names of subcommands, {flag: (letter or "", type or "")}) of one page."""
    commands, flags, section = [], {}, ""
    for line in text.splitlines():
        heading = re.fullmatch(r"([A-Z][\w ]*):\s*", line)
        if heading:
            section = heading[1]
        elif line and not line.startswith(" "):
            section = ""
        elif "Command" in section:
            found = re.match(r"  ([a-z][\w-]*)\*?\s+\S", line)
            commands += [found[1]] if found else []
        elif "Options" in section:
            found = re.match(r" {2,6}(?:-(\w), )?--([\w-]+)(?: ([\w:/\[\]<>=-]+))?(?:\s\s.*|\s*)$", line)
            if found and re.match(r" {2,6}(-\w|    --)", line):
                flags[found[2]] = (found[1] or "", found[3] or "")
    return [name for name in commands if name not in ("help", "completion")], flags


@functools.cache
def walk(program):
    """{words of a command: its flags}, groups and the program itself included."""
    pages = {}

    def visit(words):
        page = run(program, *words, "--help")
        commands, pages[words] = parse(page.stdout + page.stderr)
        for name in commands:
            visit((*words, name))

    visit(())
    return pages
