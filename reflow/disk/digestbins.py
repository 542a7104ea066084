"""Sets of digests that are larger than memory: marked, in files by their first byte.

A million of them take 33 MB of disk, and a 256th of that in memory, one bin at a time. They are exact.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from reflow.core.digest import Digest
from reflow.disk.filesystem import translate_error

BINS = 256
BUFFERED_BYTES = 8 << 20
_SIZE = 32
_RECORD = _SIZE + 1


class DigestBins:
    """Digests with marks (0 to 255), of which the highest counts; below a directory of its own.

    What is there of an earlier time is removed. Not for several threads. Raises ReflowError when the disk
    does not take it.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._buffers = [bytearray() for _ in range(BINS)]
        self._buffered = 0
        try:
            os.makedirs(directory, exist_ok=True)
            for name in os.listdir(directory):
                os.unlink(f"{directory}/{name}")
        except OSError as err:
            raise translate_error(err, "digests.open", directory) from err

    def add(self, digests: Iterable[bytes], mark: int) -> None:
        """Add digests; those that are there already get the higher of both marks."""
        for digest in digests:
            buffer = self._buffers[digest[0]]
            buffer += digest
            buffer.append(mark)
            self._buffered += _RECORD
        if self._buffered >= BUFFERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        for number, buffer in enumerate(self._buffers):
            if not buffer:
                continue
            path = self._path(number)
            try:
                with open(path, "ab") as stream:
                    stream.write(buffer)
            except OSError as err:
                raise translate_error(err, "digests.add", path) from err
            buffer.clear()
        self._buffered = 0

    def load(self, number: int) -> dict[Digest, int]:
        """The marks of all digests that begin with this byte."""
        path = self._path(number)
        data = bytes(self._buffers[number])
        try:
            with open(path, "rb") as stream:
                data = stream.read() + data
        except FileNotFoundError:
            pass
        except OSError as err:
            raise translate_error(err, "digests.load", path) from err
        marks: dict[Digest, int] = {}
        for start in range(0, len(data), _RECORD):
            digest, mark = Digest(data[start : start + _SIZE]), data[start + _SIZE]
            if mark > marks.get(digest, -1):
                marks[digest] = mark
        return marks

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number:02x}"
