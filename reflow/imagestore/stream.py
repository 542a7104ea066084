"""Layers as streams of bytes: digested while they pass, decompressed, and read as a tar without seeking."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError

CHUNK_BYTES = 1 << 20

MAX_HEADER_BYTES = 8 << 20
"""No header of a tar is longer: whoever says so wants our memory."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte: a frame of zstd without data
_KNOWN_ELSE = {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_HEAD_BYTES = 6
_GZIP_WINDOW = 31
_BLOCK_BYTES = 512


class Reader(Protocol):
    """Anything that gives at most ``size`` bytes at a time, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        ...


class DigestReader:
    """Passes bytes on and digests them; ``observe`` is told how many each time."""

    def __init__(self, source: Reader, observe: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self._source = source
        self._observe = observe
        self._sha = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The digest of what has passed, as ``sha256:…``."""
        return f"sha256:{self._sha.hexdigest()}"

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        chunk = self._source.read(size)
        self._sha.update(chunk)
        self.count += len(chunk)
        if self._observe is not None:
            self._observe(len(chunk))
        return chunk

    def drain(self) -> None:
        """Let the rest pass."""
        while self.read(CHUNK_BYTES):
            pass


def decompressed(source: Reader) -> Reader:
    """What a stream says when gzip or zstd is taken off; what begins like neither passes as it is.

    It raises ImageError INTEGRITY where the stream is damaged, and may end early where that is cut off.
    """
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := source.read(_HEAD_BYTES - len(head))):
        head += chunk
    rest = _Pushed(head, source)
    if head.startswith(_GZIP):
        return _Gunzip(rest)
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F):
        return _Unzstd(rest)
    for magic, name in _KNOWN_ELSE.items():
        if head.startswith(magic):
            raise ImageError(Kind.NOT_SUPPORTED, f"compressed by {name}, want gzip, zstd or nothing")
    return rest


class _Pushed:
    """A stream with some bytes put back in front."""

    def __init__(self, head: bytes, source: Reader) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        return self._source.read(size)


class _Gunzip:
    """Decompresses gzip, with several members (as pigz makes them) and zeros at the end."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        self._input = b""
        self._has_ended = False

    def read(self, size: int, /) -> bytes:
        while not self._has_ended:
            if not self._input:
                self._input = self._source.read(CHUNK_BYTES)
            is_last = not self._input
            try:
                data = self._inflate.decompress(self._input, size)
            except zlib.error as err:
                raise ImageError(Kind.INTEGRITY, f"damaged: {err}") from err
            self._input = self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._next_member(self._inflate.unused_data)
            if data:
                return data
            if is_last and not self._has_ended:
                raise ImageError(Kind.INTEGRITY, "damaged: its gzip ends early")
        return b""

    def _next_member(self, rest: bytes) -> None:
        while not (rest := rest.lstrip(b"\0")):
            rest = self._source.read(CHUNK_BYTES)
            if not rest:
                self._has_ended = True
                return
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        self._input = rest


class _Unzstd:
    """Decompresses zstd, with several frames (as zstd:chunked makes them)."""

    def __init__(self, source: Reader) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor()
        # The library asks a file for `read` only.
        file = cast("IO[bytes]", _Sized(source))
        self._stream = decompressor.stream_reader(file, read_size=CHUNK_BYTES, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._error as err:
            raise ImageError(Kind.INTEGRITY, f"damaged: {err}") from err


class _Sized:
    """What the library asks of a stream."""

    def __init__(self, source: Reader) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._source.read(CHUNK_BYTES if size < 0 else size)


class TarStream:
    """What `tarfile` takes for a file: reads exactly, seeks forward only."""

    name = ""
    mode = "rb"

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._buffer = b""
        self._at = 0
        self._position = 0
        self._last_block = b""

    @property
    def is_at_end(self) -> bool:
        """Tell whether nothing is left."""
        return not self._fill()

    @property
    def was_block_empty(self) -> bool:
        """Tell whether the block that was read last has zeros only, as the end of a tar does."""
        return not self._last_block.strip(b"\0")

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Skip. Raises ImageError INVALID for the way back, which only a malformed tar wants to go."""
        if whence != 0 or position < self._position:
            raise ImageError(Kind.INVALID, "malformed: a tar that leads backwards")
        while self._position < position and self.some(position - self._position):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        """Exactly that many bytes, fewer at the end only; meant for headers."""
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ImageError(Kind.INVALID, f"malformed: a header of {size} bytes")
        parts: list[bytes] = []
        left = size
        while left and (chunk := self.some(left)):
            parts.append(chunk)
            left -= len(chunk)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if size == _BLOCK_BYTES:
            self._last_block = data
        return data

    def some(self, size: int) -> bytes:
        """At least one byte and at most that many; none at the end."""
        if not self._fill():
            return b""
        at, end = self._at, min(self._at + size, len(self._buffer))
        self._at = end
        self._position += end - at
        return self._buffer if end - at == len(self._buffer) else self._buffer[at:end]

    def _fill(self) -> bool:
        if self._at == len(self._buffer):
            self._buffer, self._at = self._source.read(CHUNK_BYTES), 0
        return bool(self._buffer)
