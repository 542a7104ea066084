"""Files of objects: how they are hashed, read, written under a temporary name, and dressed.

Readers and writers may be closed while a thread that nobody waits for any more still uses them: a lock
keeps the descriptor from being used after it was closed (and given to another file).
"""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.disk.filesystem import translate_error

OBJECT_MODE = 0o444
OBJECT_TIME_NS = 946_684_800 * 10**9
"""Every object's time of change: the start of the year 2000. Archives cannot hold times before 1980."""

_CHUNK_BYTES = 1 << 20
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Hashed(NamedTuple):
    """What was read: its digest and its bytes."""

    digest: Digest
    size: int


def hash_file(file: str | int) -> Hashed:
    """Hash a file: a path, or an open file from where it stands. Blocks; raises OSError."""
    stream = os.open(file, _READ_FLAGS) if isinstance(file, str) else file
    try:
        digest, size = sha256(), 0
        buffer = memoryview(bytearray(min(_CHUNK_BYTES, os.fstat(stream).st_size + 1)))
        while count := os.readv(stream, [buffer]):
            digest.update(buffer[:count])
            size += count
    finally:
        if isinstance(file, str):
            os.close(stream)
    return Hashed(Digest(digest.digest()), size)


class ObjectReader:
    """Reads an object from its beginning. Blocks; raises OSError."""

    def __init__(self, path: str) -> None:
        self._stream = os.open(path, _READ_FLAGS)
        self._lock = threading.Lock()

    def read(self, limit: int) -> bytes:
        """The next bytes; nothing at the end, or after `close`."""
        with self._lock:
            return os.read(self._stream, limit) if self._stream >= 0 else b""

    def read_all(self, limit: int | None) -> bytes | None:
        """Everything; None when there is more than ``limit``."""
        size = os.fstat(self._stream).st_size
        if limit is not None and size > limit:
            return None
        data = os.read(self._stream, size + 1)
        if len(data) == size:
            return data
        parts = [data]
        while part := os.read(self._stream, _CHUNK_BYTES):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            stream, self._stream = self._stream, -1
            os.close(stream)


class ObjectWriter:
    """Writes a temporary file, hashing what goes through. `discard` it in any case, at the end.

    ``is_there``: whether the temporary file is still at ``path``. Methods block, and raise ReflowError:
    RESOURCES_EXHAUSTED naming path and free space when the disk is full.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.is_there = False
        self._digest = sha256()
        self._known: Digest | None = None
        self._stream = -1
        self._is_closed = False
        self._lock = threading.Lock()

    def write(self, chunk: bytes) -> None:
        """Add a piece."""
        self._digest.update(chunk)
        self._write(chunk)

    def write_only(self, data: bytes, digest: Digest) -> None:
        """Write everything at once, when its digest is known."""
        self._known = digest
        self._write(data)

    def _write(self, chunk: bytes) -> None:
        with self._lock:
            self._check_open()
            try:
                if self._stream < 0:
                    self._stream = _create(self.path)
                    self.is_there = True
                count = os.write(self._stream, chunk)
                while count < len(chunk):
                    count += os.write(self._stream, memoryview(chunk)[count:])
            except OSError as err:
                raise translate_error(err, "repository.put", self.path) from err
            self.size += len(chunk)

    def close(self) -> tuple[Digest, int]:
        """Give the file its mode and time, and close it; its digest and size."""
        if self._stream < 0:
            self._write(b"")
        with self._lock:
            self._check_open()
            self._is_closed = True
            stream, self._stream = self._stream, -1
            try:
                try:
                    os.fchmod(stream, OBJECT_MODE)
                    os.utime(stream, ns=(OBJECT_TIME_NS, OBJECT_TIME_NS))
                finally:
                    os.close(stream)  # network file systems report a full disk here
            except OSError as err:
                raise translate_error(err, "repository.put", self.path) from err
        return self._known or Digest(self._digest.digest()), self.size

    def _check_open(self) -> None:
        if self._is_closed:
            raise ReflowError(Kind.CANCELED, "repository.put", self.path)

    def discard(self) -> None:
        """Close and delete the temporary file, if it is still there."""
        with self._lock:
            self._is_closed = True
            if self._stream >= 0:
                os.close(self._stream)
                self._stream = -1
        if self.is_there:
            self.is_there = False
            try:
                os.unlink(self.path)
            except OSError:
                return


def _create(path: str) -> int:
    try:
        return os.open(path, _WRITE_FLAGS, OBJECT_MODE)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, _WRITE_FLAGS, OBJECT_MODE)
