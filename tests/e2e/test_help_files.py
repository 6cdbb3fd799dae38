"""`make install` brings a manual page for every spelling of every command, and a completion that knows them all."""

import glob
import os
import shutil
import subprocess

import pytest

from conftest import program_directory
from help_pages import walk

TARE = os.path.join(program_directory(), "tare")
BUILD = os.path.dirname(os.path.dirname(os.path.realpath(program_directory())))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    target = str(tmp_path_factory.mktemp("installed"))
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", target], check=True, capture_output=True)
    return target


def leaves():
    pages = walk(TARE)
    return [words for words in pages if words and not any(len(other) > len(words) and other[: len(words)] == words for other in pages)]


def test_every_command_has_a_page(installed):
    found = {os.path.basename(path): path for path in glob.glob(f"{installed}/**/man1/*.1", recursive=True)}
    for words in leaves():
        with open(found[f"tare-{'-'.join(words)}.1"], encoding="utf-8") as file:
            text = file.read()
        assert text.startswith(".TH TARE\\-") and "\n.SH NAME\n" in text and "\n.SH SYNOPSIS\n" in text
        for flag in walk(TARE)[words]:
            assert "\\-\\-" + flag.replace("-", "\\-") in text or flag == "help", (words, flag)
    formatter = shutil.which("groff")
    if formatter:
        shown = subprocess.run([formatter, "-man", "-Tutf8", "-ww", found["tare-run.1"]], capture_output=True, text=True, check=True)
        assert shown.stderr == "" and "Publish a container" in shown.stdout


def complete(script, *words):
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = f"source '{script}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _tare; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return set(subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split())


def test_completion(installed):
    script = glob.glob(f"{installed}/**/bash-completion/completions/*", recursive=True)
    assert [os.path.basename(path) for path in script] == ["tare.bash"]
    assert {"run", "ps", "image", "system", "builder"} <= complete(script[0], "tare", "")
    assert complete(script[0], "tare", "image", "h") == {"history"}
    assert {"ls", "prune", "rm", "tag"} <= complete(script[0], "tare", "image", "")
    assert complete(script[0], "tare", "run", "--pub") == {"--publish", "--publish-all"}
    for words in leaves():
        offered = complete(script[0], "tare", *words, "--")
        assert {f"--{flag}" for flag in walk(TARE)[words]} <= offered, words
