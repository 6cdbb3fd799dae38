"""Debian's dockerd as the reference: a private one, without any network."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time

from conftest import UnixConnection


class Dockerd:
    def __init__(self, directory):
        self.directory = directory
        self.host = f"unix://{directory}/s"
        self.log = open(os.path.join(directory, "log"), "wb")
        self.process = subprocess.Popen(
            ["/usr/sbin/dockerd", "--data-root", directory + "/d", "--exec-root", directory + "/e", "-H", self.host, "--pidfile", directory + "/p", "--bridge=none", "--iptables=false", "--ip6tables=false"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def answers(self):
        try:
            connection = UnixConnection(self.directory + "/s")
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def docker(self, *arguments, check=True, **options):
        environment = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0", "HOME": self.directory}
        done = subprocess.run(["docker", *arguments], capture_output=True, env=environment, timeout=120, check=False, **options)
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
        return done

    def export(self, image):
        """The tar of a container of the image."""
        container = self.docker("create", image, "x").stdout.decode().strip()
        tar = self.docker("export", container).stdout
        self.docker("rm", container)
        return tar


@contextlib.contextmanager
def running_dockerd():
    directory = tempfile.mkdtemp(prefix="tare-dockerd-")
    reference = Dockerd(directory)
    try:
        deadline = time.monotonic() + 60
        while not reference.answers():
            assert reference.process.poll() is None and time.monotonic() < deadline, open(directory + "/log", encoding="utf-8", errors="replace").read()[-4000:]
            time.sleep(0.1)
        yield reference
    finally:
        reference.process.terminate()
        reference.process.wait(timeout=60)
        reference.log.close()
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            mine = [line.split()[4] for line in mounts if directory in line]
        for mount in reversed(mine):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(directory)
