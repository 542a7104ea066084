"""What containers print, read from the daemon's socket as it comes; and their end by force. It blocks."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

from reflow.executor.docker_socket import Answer

_FRAME_BYTES = 8
_CHUNK_BYTES = 1 << 20


def logs(path: str, container: str, *, follow: bool = False) -> Iterator[tuple[str, bytes]]:
    """What a container printed: (stdout or stderr, some bytes). Blocks; raises OSError."""
    target = f"/containers/{container}/logs?stdout=1&stderr=1&follow={int(follow)}"
    with closing(_Connection(path)) as connection, _translated():
        connection.request("GET", target)
        answer = connection.getresponse()
        if answer.status != 200:
            raise ConnectionError(Answer(answer.status, answer.read()).message)
        while len(head := answer.read(_FRAME_BYTES)) == _FRAME_BYTES:
            stream = "stderr" if head[0] == 2 else "stdout"
            left = int.from_bytes(head[4:], "big")
            while left:
                chunk = answer.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    return
                left -= len(chunk)
                yield stream, chunk


def running(path: str, label: str, timeout_s: float) -> list[dict[str, Any]]:
    """The containers with a label that run, as the daemon lists them. Blocks; raises OSError, ValueError."""
    filters = quote(json.dumps({"label": [label], "status": ["running", "paused"]}))
    with closing(_Connection(path, timeout_s)) as connection, _translated():
        connection.request("GET", f"/containers/json?filters={filters}")
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise ConnectionError(Answer(answer.status, body).message)
    rows: list[dict[str, Any]] = json.loads(body)
    return rows


def kill(path: str, container: str, timeout_s: float) -> None:
    """Kill and remove a container. Blocks; raises OSError."""
    with closing(_Connection(path, timeout_s)) as connection, _translated():
        connection.request("DELETE", f"/containers/{container}?force=1&v=1")
        connection.getresponse().read()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise ConnectionError when there is no daemon (any more), or it says what is no HTTP."""
    try:
        yield
    except FileNotFoundError as err:
        raise ConnectionRefusedError(err.errno, err.strerror) from err
    except http.client.HTTPException as err:
        raise ConnectionError(str(err)) from err


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float | None = None) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
