"""A file made of bytes as they come, in any order and from several threads, which are summed in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from reflow.blob.datapath import Received, Write
from reflow.blob.etag import Sums
from reflow.core.digest import Digest
from reflow.disk.filesystem import translate_error

_CHUNK = 256 << 10
_OP = "s3.get_object"


class Incoming:
    """The file at ``path``, which `begin` makes.

    Bytes that were summed are never written again, also not by another try of their part, which may bring
    others: the sums are those of the file. What comes next in order is summed while it is still in the
    processor's cache; what came too early is read again, by whichever thread brings what was missing.
    """

    def __init__(self, path: str, url: str) -> None:
        self._path = path
        self._url = url
        self._descriptor = -1
        self._sums: Sums | None = None
        self._lock = threading.Lock()
        self._is_summing = False
        self._summed = 0
        """Up to here bytes are summed, or some thread is about to."""
        self._ahead: dict[int, int] = {}
        """What is written and not summed: where it begins, where it ends."""

    def begin(self, about: Received) -> None:
        """Begin, or begin again with nothing; ``about`` is what the bytes have to be. Blocks."""
        try:
            if self._descriptor < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o644)
            else:
                os.ftruncate(self._descriptor, 0)
        except OSError as err:
            raise translate_error(err, _OP, self._path) from err
        self._sums = Sums(about, digest=True)
        self._summed = 0
        self._ahead.clear()

    def whole(self, about: Received) -> Write:
        """Begin with an answer that has all of the object; what writes it."""
        self.begin(about)
        return self.part()(about)

    def part(self) -> Callable[[Received], Write]:
        """What begins each try of a part, after `begin`. A part's tries follow each other."""
        return _Piece(self).begin

    def digest(self, size: int) -> Digest:
        """The SHA-256, once all bytes are there. Raises INTEGRITY when they are not what they should be."""
        assert self._sums is not None
        assert self._summed == size
        self._sums.check(_OP, self._url)
        return self._sums.digest()

    def close(self, *, is_good: bool) -> None:
        """Let go of the file, and remove it unless it is good."""
        if self._descriptor >= 0:
            if not is_good:
                os.unlink(self._path)
            os.close(self._descriptor)

    # For the pieces, in their threads.

    def forget(self, start: int) -> None:
        """Let go of bytes that are written and not summed."""
        with self._lock:
            self._ahead.pop(start, None)

    def write(self, start: int, data: memoryview, offset: int) -> int:
        """Write bytes that follow those from ``start``; where those begin that are not summed."""
        with self._lock:
            surplus = self._summed - offset
        if surplus > 0:
            data, offset = data[surplus:], offset + surplus
        if not data:
            return start
        try:
            _write(self._descriptor, data, offset)
            with self._lock:
                if start not in self._ahead:
                    start = offset
                self._ahead[start] = offset + len(data)
            while self._sum(data, offset):
                pass
        except OSError as err:
            raise translate_error(err, _OP, self._path) from err
        return start

    def _sum(self, data: memoryview, offset: int) -> bool:
        """Sum what comes next in order, if it is there and nobody is at it. ``data`` was just written."""
        with self._lock:
            start = self._summed
            if self._is_summing or start not in self._ahead:
                return False
            end = self._summed = self._ahead.pop(start)
            self._is_summing = True
        assert self._sums is not None
        try:
            if (start, end) == (offset, offset + len(data)):
                self._sums.update(data)
                return True
            buffer = memoryview(bytearray(min(_CHUNK, end - start)))
            while start < end:
                size = os.preadv(self._descriptor, [buffer[: end - start]], start)
                if not size:
                    raise OSError("the file was cut off by somebody else")
                self._sums.update(buffer[:size])
                start += size
        finally:
            with self._lock:
                self._is_summing = False
        return True


class _Piece:
    """One part, as far as it is there."""

    def __init__(self, file: Incoming) -> None:
        self._file = file
        self._start = -1

    def begin(self, _about: Received) -> Write:
        """Begin another try."""
        self._file.forget(self._start)
        return self._write

    def _write(self, data: memoryview, offset: int) -> None:
        self._start = self._file.write(self._start, data, offset)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        size = os.pwrite(descriptor, data, offset)
        data, offset = data[size:], offset + size
