"""A Docker daemon of the tests' own: to be restarted, killed and frozen, as the machine's must never be."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

IMAGE = "ubuntu:latest"
_PATIENCE_S = 60.0


class OwnDaemon:
    """A dockerd with a socket, a state and images of its own. `start` first; `destroy` in the end.

    With ``live_restore`` containers outlive it, else they are killed when it ends or starts again.
    """

    def __init__(self, *, live_restore: bool = False) -> None:
        self.root = Path(
            tempfile.mkdtemp(prefix="dockerd-", dir="/tmp")
        )  # the path of a socket must be short
        self._live_restore = live_restore
        self._bridge = f"rf{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.root / "s"

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` is set to."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # With a bridge of its own: one without any deletes docker0, which is another one's.
        self._make_bridge()
        words = [
            shutil.which("dockerd") or "/usr/sbin/dockerd",
            *("-H", self.host, "--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec"),
            *(
                "--pidfile",
                f"{self.root}/pid",
                f"--bridge={self._bridge}",
                "--iptables=false",
                "--ip-masq=false",
            ),
            *(("--live-restore",) if self._live_restore else ()),
        ]
        with open(self.root / "log", "ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _PATIENCE_S
        while self.docker("version").returncode:
            log_end = (self.root / "log").read_text()[-2000:]
            assert self._process.poll() is None, log_end
            assert time.monotonic() < deadline, log_end
            time.sleep(0.1)

    def _make_bridge(self) -> None:
        if Path("/sys/class/net", self._bridge).exists():
            return
        address = f"10.{secrets.randbelow(50) + 200}.{secrets.randbelow(255)}.1/24"
        for words in (
            ("link", "add", self._bridge, "type", "bridge"),
            ("addr", "add", address, "dev", self._bridge),
        ):
            subprocess.run(["ip", *words], check=True, capture_output=True)

    def docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line client against it."""
        return subprocess.run(
            ["docker", "-H", self.host, *words], capture_output=True, text=True, check=False, timeout=120
        )

    def load(self) -> None:
        """Have the machine's own `IMAGE`, unless it is there already."""
        if self.docker("image", "inspect", IMAGE).returncode:
            tar = self.root / "image.tar"
            subprocess.run(["docker", "save", "-o", str(tar), IMAGE], check=True)
            done = self.docker("load", "-i", str(tar))
            assert done.returncode == 0, done.stderr
            tar.unlink()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: STOP makes it hang (it is connected to, but never answers), CONT goes on."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(timeout=_PATIENCE_S)
            self._process = None
            self._end_containerd()

    def _end_containerd(self) -> None:
        """One that outlives its dockerd for a moment keeps the next one from starting."""
        for path in self.root.glob("exec/containerd/*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)
            path.unlink(missing_ok=True)

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and start it again."""
        self.end(number)
        self.start()

    def containers(self) -> list[str]:
        """Ids of all containers that there are."""
        return self.docker("ps", "-aq").stdout.split()

    def destroy(self) -> None:
        """End it, all its containers and its containerd, and delete everything."""
        if self._process is None:
            self.start()
        ids = self.containers()
        if ids:
            self.docker("rm", "-f", *ids)
        self.end()
        for line in Path("/proc/mounts").read_text().splitlines():
            if line.split()[1].startswith(str(self.root)):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)
