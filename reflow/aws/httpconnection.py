"""Kept HTTP/1.1 connections whose bodies come from files and go to them, for requests that we sign.

All calls block, for as long as the timeouts say. Errors are OSErrors: TimeoutError, `CutError` for answers
that end early or are not HTTP, and what the socket raises. `Connection.stop` is for other threads.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ssl import SSLContext

CHUNK = 256 << 10
_MOST_HEAD = 64 << 10


class CutError(OSError):
    """An answer ended early, or is not HTTP."""


class Origin(NamedTuple):
    """Where requests go. ``tls``: None for plain HTTP."""

    host: str
    port: int
    tls: SSLContext | None


class Answer(NamedTuple):
    """The head of an answer; names of headers are lower-case. ``size`` in bytes, -1 when it is not known."""

    status: int
    headers: dict[str, str]
    size: int
    is_chunked: bool
    is_last: bool


class Connection:
    """One connection, which carries one request at a time; connects at once."""

    def __init__(self, origin: Origin, connect_timeout_s: float, timeout_s: float) -> None:
        self.was_used = False
        self.is_answered = False
        self._is_sent = False
        self._is_received = False
        self._rest = bytearray()
        self._buffer: memoryview | None = None
        self._is_plain = origin.tls is None
        self._socket = socket.create_connection((origin.host, origin.port), connect_timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if origin.tls is not None:
                self._socket = origin.tls.wrap_socket(self._socket, server_hostname=origin.host)
                self._socket.settimeout(timeout_s)
            else:
                self._limit_waiting(timeout_s)
        except BaseException:
            self._socket.close()
            raise

    def _limit_waiting(self, timeout_s: float) -> None:
        """Let the kernel time calls, which spares a call of poll before each of them."""
        self._socket.settimeout(None)
        limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def is_stale(self) -> bool:
        """Whether the other side has closed it, or sent what nobody asked for."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(self._rest or waiting.poll(0))

    def stop(self) -> None:
        """Let calls that wait fail. The connection is of no use afterwards."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self._socket.close()

    # Asking.

    @property
    def is_idle(self) -> bool:
        """Whether a request was sent whole, its answer received whole, and another one may follow."""
        return self._is_sent and self._is_received

    def begin(self, data: bytes) -> None:
        """Send a request, or what it begins with; `finish` says that it is sent."""
        self._is_sent = self._is_received = self.is_answered = False
        try:
            self._socket.sendall(data)
        except BlockingIOError as err:
            raise TimeoutError("timed out while sending") from err

    def finish(self) -> None:
        """Say that nothing more of the request follows."""
        self._is_sent = True

    def send_file(self, descriptor: int, offset: int, size: int) -> bool:
        """Send bytes of a file; whether they were all there."""
        end = offset + size
        while offset < end:
            if self._is_plain:
                try:
                    sent = os.sendfile(self._socket.fileno(), descriptor, offset, end - offset)
                except BlockingIOError as err:
                    raise TimeoutError("timed out while sending") from err
            else:
                data = os.pread(descriptor, min(CHUNK, end - offset), offset)
                self._socket.sendall(data)
                sent = len(data)
            if not sent:
                return False
            offset += sent
        return True

    # Answers.

    def answer(self, method: str) -> Answer:
        """Wait for an answer's head. Raises CutError when nothing, or no head, came."""
        while True:
            end = self._rest.find(b"\r\n\r\n")
            if end >= 0:
                head = bytes(self._rest[:end])
                del self._rest[: end + 4]
                answer = _parsed(head, method)
                if answer.status >= 200:
                    self._is_received = answer.size == 0 and not answer.is_last
                    return answer
                continue
            if len(self._rest) > _MOST_HEAD:
                raise CutError("the answer's head has no end")
            data = self._receive(_MOST_HEAD)
            if not data:
                raise CutError(
                    "the connection was closed " + ("in an answer" if self._rest else "unanswered")
                )
            self.is_answered = True
            self._rest += data

    def _receive(self, most: int) -> bytes:
        try:
            return self._socket.recv(most)
        except BlockingIOError as err:
            raise TimeoutError("timed out while waiting for an answer") from err

    def chunks(self, answer: Answer) -> Iterator[memoryview]:
        """The body piece by piece; each is only good until the next. It may end early: compare sizes."""
        if answer.is_chunked:
            for chunk in self._chunked():
                yield memoryview(chunk)
            self._is_received = not answer.is_last
            return
        left = answer.size if answer.size >= 0 else 1 << 62
        if left and self._rest:
            first = bytes(self._rest[:left])
            del self._rest[:left]
            left -= len(first)
            yield memoryview(first)
        if left and self._buffer is None:
            self._buffer = memoryview(bytearray(CHUNK))
        while left and (size := self._receive_into(min(CHUNK, left))):
            left -= size
            assert self._buffer is not None
            yield self._buffer[:size]
        self._is_received = not left and not answer.is_last

    def _receive_into(self, wanted: int) -> int:
        """Fill the buffer, as far as the body goes."""
        assert self._buffer is not None
        try:
            if self._is_plain:
                return self._socket.recv_into(self._buffer, wanted, socket.MSG_WAITALL)
            return self._fill(self._buffer[:wanted])
        except BlockingIOError as err:
            raise TimeoutError("timed out in an answer") from err

    def _fill(self, buffer: memoryview) -> int:
        """Receive until the buffer is full: TLS gives no more than 16 KiB at once."""
        size = 0
        while size < len(buffer) and (more := self._socket.recv_into(buffer[size:])):
            size += more
        return size

    def _chunked(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError as err:
                raise CutError("a chunk of the answer has no size") from err
            if size == 0:
                while self._line():
                    pass  # trailers say nothing to us
                return
            while len(self._rest) < size + 2:
                self._more()
            yield bytes(self._rest[:size])
            del self._rest[: size + 2]

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self._rest[:end])
        del self._rest[: end + 2]
        return line

    def _more(self) -> None:
        data = self._receive(_MOST_HEAD)
        if not data:
            raise CutError("the connection was closed in an answer")
        self._rest += data


def _parsed(head: bytes, method: str) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
        raise CutError("the answer is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status = int(words[1])
    is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    length = headers.get("content-length", "")
    if method == "HEAD" or status in (204, 304) or status < 200:
        size, is_chunked = 0, False
    else:
        size = int(length) if length.isdecimal() and not is_chunked else -1
    is_open = words[0] != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
    return Answer(status, headers, size, is_chunked, not is_open or (size < 0 and not is_chunked))


class Pool:
    """Idle connections to one origin, the last used first. May be used from threads."""

    def __init__(self, origin: Origin, connect_timeout_s: float, timeout_s: float) -> None:
        self.origin = origin
        self._timeouts = (connect_timeout_s, timeout_s)
        self._idle: deque[Connection] = deque()
        self._is_closed = False
        self._lock = threading.Lock()

    def take(self, *, fresh: bool = False) -> Connection:
        """An idle connection that is alive, or a new one."""
        while not fresh:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.is_stale():
                return connection
            connection.close()
        return Connection(self.origin, *self._timeouts)

    def give(self, connection: Connection) -> None:
        """Take back a connection; it is closed unless it is idle."""
        with self._lock:
            if connection.is_idle and not self._is_closed:
                connection.was_used = True
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close those that are idle, and those that are given back later."""
        with self._lock:
            self._is_closed = True
        while self._idle:
            self._idle.pop().close()
