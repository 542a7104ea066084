"""What a request sends: bytes in memory, or of a file: summed first, then sent without a copy."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator

from reflow.aws.httpconnection import Connection
from reflow.blob.datapath import Body, FilePart
from reflow.core.errors import Kind, ReflowError
from reflow.disk.filesystem import translate_error

_HELD = 1 << 20
_CHUNK = 256 << 10


def size_of(path: str) -> int:
    """A file's size, in bytes."""
    try:
        return os.stat(path).st_size
    except OSError as err:
        raise translate_error(err, "s3.upload", path) from err


class Outgoing:
    """A body that is open. ``data`` is all of it, or else it is sent from the descriptor."""

    def __init__(self, data: bytes | None, descriptor: int, part: FilePart) -> None:
        self._data = data
        self._descriptor = descriptor
        self._part = part

    @property
    def size(self) -> int:
        """In bytes."""
        return self._part.size

    def md5(self) -> str:
        """Its MD5, as Content-MD5 has it. Raises INTEGRITY for a file that is too short."""
        total = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks():
            total.update(chunk)
        return base64.b64encode(total.digest()).decode()

    def sha256(self) -> str:
        """Its SHA-256 in hex. Raises INTEGRITY for a file that is too short."""
        total = hashlib.sha256()
        for chunk in self._chunks():
            total.update(chunk)
        return total.hexdigest()

    def send(self, connection: Connection, head: bytes, commit: Callable[[], None]) -> None:
        """Send it after a request's head; ``commit`` is called before the server can have all of it."""
        if self._data is not None:
            commit()
            connection.begin(head + self._data)
        else:
            connection.begin(head)
            last = self._part.offset + self._part.size - 1
            if not connection.send_file(self._descriptor, self._part.offset, self._part.size - 1):
                raise self._is_short()
            commit()
            if not connection.send_file(self._descriptor, last, 1):
                raise self._is_short()
        connection.finish()

    def held(self) -> Outgoing:
        """The same in memory. Raises INTEGRITY for a file that is too short."""
        path, offset, size = self._part
        try:
            data = os.pread(self._descriptor, size, offset)
        except OSError as err:
            raise translate_error(err, "s3.upload", path) from err
        if len(data) != size:
            data = b"".join(map(bytes, self._chunks()))
        return Outgoing(data, -1, self._part)

    def _chunks(self) -> Iterator[bytes | memoryview]:
        if self._data is not None:
            yield self._data
            return
        buffer = memoryview(bytearray(_CHUNK))
        offset, end = self._part.offset, self._part.offset + self._part.size
        while offset < end:
            try:
                size = os.preadv(self._descriptor, [buffer[: end - offset]], offset)
            except OSError as err:
                raise translate_error(err, "s3.upload", self._part.path) from err
            if not size:
                raise self._is_short()
            yield buffer[:size]
            offset += size

    def _is_short(self) -> ReflowError:
        cause = "it has become shorter while it was read"
        return ReflowError(Kind.INTEGRITY, "s3.upload", self._part.path, cause=cause)


@contextlib.contextmanager
def opened(body: Body) -> Iterator[Outgoing]:
    """A body that can be sent; small parts of files are read at once."""
    if isinstance(body, bytes):
        yield Outgoing(body, -1, FilePart("", 0, len(body)))
        return
    try:
        descriptor = os.open(body.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise translate_error(err, "s3.upload", body.path) from err
    try:
        outgoing = Outgoing(None, descriptor, body)
        yield outgoing.held() if body.size <= _HELD else outgoing
    finally:
        os.close(descriptor)
