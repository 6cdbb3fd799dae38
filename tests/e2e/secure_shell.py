"""A local sshd for the tests, and the client that reaches it."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time

from registries import free_port


class SecureShell:
    """An sshd on loopback with keys of its own. Who comes in has first what lies in directory/bin in his PATH, and the environment given."""

    def __init__(self, directory, programs, **environment):
        """programs: name → what it is a link to."""
        self.directory = top = str(directory)
        os.chmod(top, 0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{top}/{name}"], check=True)
        shutil.copy(f"{top}/user.pub", f"{top}/authorized_keys")
        os.mkdir(f"{top}/bin")
        for name, target in programs.items():
            os.symlink(target, f"{top}/bin/{name}")
        self.port = free_port()
        given = " ".join(f"{name}={value}" for name, value in {"PATH": f"{top}/bin:/usr/bin:/bin", **environment}.items())
        self.write("config", f"ListenAddress 127.0.0.1:{self.port}\nHostKey {top}/host\nPidFile {top}/pid\nAuthorizedKeysFile {top}/authorized_keys\nStrictModes no\nUsePAM no\n"
                   f"PasswordAuthentication no\nPermitRootLogin yes\nSetEnv {given}\n")
        with contextlib.suppress(FileExistsError):
            os.mkdir("/run/sshd", 0o755)
        self.log = open(f"{top}/log", "wb")
        self.server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", f"{top}/config"], stdin=subprocess.DEVNULL, stderr=self.log)
        # ssh reads the configuration of the account, not of HOME: a wrapper in PATH names ours.
        self.clients = f"{top}/client"
        os.mkdir(self.clients)
        self.write("client/ssh", f'#!/bin/sh\nexec /usr/bin/ssh -F {top}/client/config "$@"\n')
        os.chmod(f"{top}/client/ssh", 0o755)
        self.write("client/config", f"Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  IdentityFile {top}/user\n  LogLevel ERROR\n")
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                assert self.server.poll() is None and time.monotonic() < deadline, open(f"{top}/log", encoding="utf-8").read()
                time.sleep(0.05)

    @property
    def user(self):
        return getpass.getuser()

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
            file.write(text)

    def close(self):
        self.server.terminate()
        self.server.wait(timeout=10)
        self.log.close()
