"""Clients on a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

from conftest import program_directory


def on_a_terminal(engine, program, *words):
    """What a client shows on a terminal of 160 columns."""
    path = os.path.join(program_directory(), "tare") if program == "tare" else program
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    client = subprocess.Popen([path, *words], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "DOCKER_HOST": engine.host, "HOME": engine.directory})
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65536):
            seen += piece
    except OSError:
        pass  # the other end is closed
    os.close(master)
    assert client.wait(30) == 0, seen
    return seen.decode()
