"""The Docker daemon as a place that has images: looked up, and copied out as ``docker save`` does.

Its API is spoken over its socket, without the SDK (podman's daemon has the same). All of it blocks.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.host import UnsupportedHostError, socket_path
from reflow.imagestore.job import Job, Limits
from reflow.imagestore.platform import Platform
from reflow.imagestore.stream import CHUNK_BYTES
from reflow.imagestore.transport import Reply, Transport

_MAX_BYTES = 16 << 20
_CONNECT_S = 1.0
_ANSWER_S = 10.0


class Found(NamedTuple):
    """An image of the daemon's. ``id`` is the digest of its configuration, or of its manifest or index."""

    id: str
    platform: Platform
    repo_digests: tuple[str, ...]
    size_bytes: int


class Daemon:
    """The daemon of this machine, asked once whether it is there at all."""

    def __init__(self, job: Job, limits: Limits) -> None:
        self._job = job
        self._path = ""
        self._trouble: str | None = None
        quick = limits._replace(connect_s=_CONNECT_S, stall_s=_ANSWER_S)
        slow = limits._replace(connect_s=_CONNECT_S, stall_s=limits.daemon_s)
        self._asking = Transport(job, quick, connect=self._connection)
        self._copying = Transport(job, slow, connect=self._connection)

    @property
    def trouble(self) -> str:
        """Why there is no daemon to ask; empty when there is one."""
        if self._trouble is None:
            self._trouble = self._find_trouble()
        return self._trouble

    def find(self, name: str) -> Found | None:
        """An image by name or id. Raises ImageError."""
        with self._get(self._asking, f"/images/{quote(name, safe='/:@')}/json") as reply:
            if reply.status == 404:
                return None
            row = _checked(reply)
        try:
            platform = Platform(str(row.get("Os") or ""), str(row.get("Architecture") or ""))
            digests = tuple([str(each) for each in row.get("RepoDigests") or ()])
            return Found(str(row["Id"]), platform, digests, int(row.get("Size") or 0))
        except (KeyError, TypeError, ValueError) as err:
            raise ImageError(
                Kind.INVALID, f"docker daemon: its answer is not as it should be: {err}"
            ) from err

    def export(self, found: Found, file: int, what: str) -> None:
        """Write an image's archive to an open file, telling how far it is. Raises ImageError, OSError."""
        done = 0
        self._job.tell(what, 0, found.size_bytes)
        with self._get(self._copying, f"/images/{quote(found.id, safe=':')}/get") as reply:
            if reply.status != 200:
                _checked(reply)
            while chunk := reply.read(CHUNK_BYTES):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(file, view) :]
                done += len(chunk)
                self._job.tell(what, min(done, found.size_bytes), found.size_bytes)

    def _find_trouble(self) -> str:
        try:
            self._path = socket_path()
        except UnsupportedHostError as err:
            return str(err)
        if not os.path.exists(self._path):
            return f"no daemon at {self._path}"
        try:
            with self._get(self._asking, "/_ping") as reply:
                return "" if reply.status == 200 else f"the daemon at {self._path} answers {reply.status}"
        except ImageError as err:
            return f"no daemon at {self._path} ({err})"

    @contextmanager
    def _get(self, transport: Transport, target: str) -> Iterator[Reply]:
        with transport.open("GET", f"http://docker{target}") as reply:
            yield reply

    def _connection(self, parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
        return _SocketConnection(self._path, timeout_s)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._timeout_s)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _checked(reply: Reply) -> dict[str, Any]:
    """The object that a daemon answers with. Raises ImageError with what it says instead."""
    body = reply.read_all(_MAX_BYTES)
    try:
        row = json.loads(body)
    except ValueError:
        row = None
    if reply.status == 200 and isinstance(row, dict):
        return row
    said = row.get("message") if isinstance(row, dict) else body[:200].decode("utf-8", "replace").strip()
    kind = Kind.NOT_EXIST if reply.status == 404 else Kind.UNAVAILABLE
    raise ImageError(kind, f"docker daemon: {said or f'status {reply.status}'}")
