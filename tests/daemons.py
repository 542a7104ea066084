"""A stand-in for the socket of the Docker daemon, which can be cut and come back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Protocol

from tests.command import Workspace

DAEMON = "/var/run/docker.sock"


class DaemonProxy:
    """Passes connections at ``path`` on to the real daemon, until it is `cut`; `restore` opens it again.

    It can `freeze`, as a daemon that is stopped: it takes connections, and nothing comes back.
    """

    def __init__(self, path: Path, daemon: str = DAEMON) -> None:
        self.path = path
        self._daemon = daemon
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._trigger = b""
        self.frozen = threading.Event()
        self._thawed = threading.Event()
        self.restore()

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` is set to."""
        return f"unix://{self.path}"

    def restore(self) -> None:
        """Listen, from now on."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Vanish, with all connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            os.unlink(self.path)
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for each in list(self._open):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def freeze(self, request: bytes) -> None:
        """Freeze when a request with these words comes, which is not passed on before `thaw`."""
        self._thawed.clear()
        self._trigger = request

    def thaw(self) -> None:
        """Go on."""
        self._trigger = b""
        self.frozen.clear()
        self._thawed.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._daemon)
            except OSError:
                client.close()
                server.close()
                continue
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            upwards = threading.Thread(target=self._copy, args=(client, server), daemon=True)
            upwards.start()
            self._copy(server, client)
            upwards.join()
            with self._lock:
                self._open -= {client, server}

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._trigger and self._trigger in data:
                    self.frozen.set()
                if self.frozen.is_set():
                    self._thawed.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class Gate:
    """What execs connect to when they start; they go on when they are told to.

    Containers share this host's network. ``most`` is the greatest number of execs that ran at the same time,
    ``count`` how many began.
    """

    def __init__(self) -> None:
        self.count = self.most = self._now = 0
        self._changed = threading.Condition()
        self._execs: list[socket.socket] = []
        self._is_open = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def command(self) -> str:
        """What an exec does to wait here."""
        port = self._listener.getsockname()[1]
        return f"exec 9<>/dev/tcp/127.0.0.1/{port}; read -r go <&9"

    @property
    def running(self) -> int:
        """How many execs run now."""
        with self._changed:
            return self._now

    def wait_for(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many execs have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, timeout_s), f"{self.count} execs began"

    def open(self) -> None:
        """Let all go on, those that come later too."""
        with self._changed:
            self._is_open = True
            for each in self._execs:
                self._let_go(each)

    def close(self) -> None:
        """Listen no longer."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _let_go(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"go\n")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.count += 1
                self._now += 1
                self.most = max(self.most, self._now)
                self._execs.append(connection)
                if self._is_open:
                    self._let_go(connection)
                self._changed.notify_all()
            threading.Thread(target=self._watch, args=(connection,), daemon=True).start()

    def _watch(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(100):
                pass
        with self._changed:
            self._now -= 1
            self._changed.notify_all()


class Daemon(Protocol):
    """A Docker daemon, or what stands in for one."""

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` is set to."""
        ...


def gated(root: Path, gate: Gate) -> Workspace:
    """A place with a program whose exec waits at the gate."""
    made = Workspace(root)
    script = f"{gate.command}; echo end > {{{{out}}}}"
    made.write("p.rf", f'val Main = exec(image := "ubuntu", cpu := 1) (out file) {{" {script} "}}\n')
    return made


def begin(work: Workspace, daemon: Daemon) -> subprocess.Popen[str]:
    """Start a run of it on a daemon."""
    return work.start("run", "-executor", "docker", "-json", "p.rf", DOCKER_HOST=daemon.host)
