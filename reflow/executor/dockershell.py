"""Containers of execs, looked into from outside of their runs: to find, kill or enter them. It blocks."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import requests.exceptions

from reflow.core.errors import Kind, ReflowError
from reflow.executor.docker_labels import ID_LABEL
from reflow.executor.terminal import raw_terminal
from reflow.imagestore.host import UnsupportedHostError, socket_path

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 60


class DockerShell:
    """A connection to the daemon. Methods raise ReflowError."""

    def __init__(self) -> None:
        try:
            path = socket_path()
        except UnsupportedHostError as err:
            raise ReflowError(Kind.NOT_SUPPORTED, "docker", cause=str(err)) from err
        with _translated("docker", path):
            self._client: Any = docker.APIClient(
                base_url=f"unix://{path}", version="auto", timeout=_TIMEOUT_S
            )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def find(self, id: str) -> str | None:
        """The running container of an exec (64 digits), if there is one."""
        with _translated("docker ps", id[:8]):
            rows = self._client.containers(filters={"label": [f"{ID_LABEL}={id}"], "status": "running"})
        return str(rows[0]["Id"]) if rows else None

    def kill(self, container: str) -> None:
        """End a container."""
        with _translated("docker kill", container[:12]):
            self._client.kill(container)

    def shell(self, container: str) -> int:
        """Connect stdin and stdout to bash in a container until it ends; its exit status.

        On a terminal, that is put into raw mode; else lines are passed on until there are no more.
        """
        is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        with _translated("docker exec", container[:12]):
            made = self._client.exec_create(container, ["/bin/bash"], stdin=True, tty=is_terminal)
            stream = self._client.exec_start(made["Id"], tty=is_terminal, socket=True)
            connection: socket.socket = getattr(stream, "_sock", stream)
            with raw_terminal(0) if is_terminal else contextlib.nullcontext():
                if is_terminal:
                    size = os.get_terminal_size()
                    self._client.exec_resize(made["Id"], height=size.lines, width=size.columns)
                _pump(connection, has_frames=not is_terminal)
            return int(self._client.exec_inspect(made["Id"]).get("ExitCode") or 0)


@contextlib.contextmanager
def _translated(op: str, subject: str) -> Iterator[None]:
    try:
        yield
    except docker.errors.NotFound as err:
        raise ReflowError(Kind.NOT_EXIST, op, subject, cause=str(err.explanation or err)) from err
    except (docker.errors.DockerException, requests.exceptions.RequestException) as err:
        raise ReflowError(Kind.UNAVAILABLE, op, subject, cause=str(err)) from err


def _pump(connection: socket.socket, *, has_frames: bool) -> None:
    """Pass on what comes from either side, until the other side has no more to say."""
    source, output = sys.stdin.fileno(), _Output(has_frames)
    readers: list[Any] = [connection, source]
    while True:
        ready, _, _ = select.select(readers, [], [])
        if connection in ready:
            data = connection.recv(_CHUNK_BYTES)
            if not data:
                return
            output.take(data)
        if source in ready:
            data = os.read(source, _CHUNK_BYTES)
            if data:
                connection.sendall(data)
            else:
                readers.remove(source)
                connection.shutdown(socket.SHUT_WR)


class _Output:
    """Writes what the daemon sends: as it is, or taken out of its frames of stdout and stderr."""

    def __init__(self, has_frames: bool) -> None:
        self._has_frames = has_frames
        self._waiting = b""

    def take(self, data: bytes) -> None:
        if not self._has_frames:
            _write(1, data)
            return
        self._waiting += data
        while len(self._waiting) >= 8:
            end = 8 + int.from_bytes(self._waiting[4:8], "big")
            if len(self._waiting) < end:
                return
            _write(2 if self._waiting[0] == 2 else 1, self._waiting[8:end])
            self._waiting = self._waiting[end:]


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
