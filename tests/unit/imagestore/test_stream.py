"""Layers as streams: decompressed, digested, read as tars."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random

import pytest
import zstandard

from reflow.core.errors import Kind
from reflow.imagestore.failure import ImageError
from reflow.imagestore.manifest import digest_of
from reflow.imagestore.stream import DigestReader, Reader, TarStream, decompressed

DATA = random.Random(1).randbytes(300_000) + b"\0" * 3_000_000 + b"end"


class Dribble:
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


def everything(reader: Reader, size: int = 100_000) -> bytes:
    parts = []
    while chunk := reader.read(size):
        assert len(chunk) <= size
        parts.append(chunk)
    return b"".join(parts)


def frames(*parts: bytes) -> bytes:
    return b"".join([zstandard.ZstdCompressor().compress(part) for part in parts])


@pytest.mark.parametrize("size", [3, 70_000, 1 << 22])
@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(DATA[:400_000]),
        gzip.compress(DATA[:200_000]) + gzip.compress(b"") + gzip.compress(DATA[200_000:400_000]),
        gzip.compress(DATA[:400_000]) + b"\0" * 1000,
        frames(DATA[:400_000]),
        frames(DATA[:200_000], b"", DATA[200_000:400_000]),
        frames(DATA[:400_000]) + b"\x50\x2a\x4d\x18\x08\0\0\0skipped!",
        b"\x50\x2a\x4d\x18\x08\0\0\0skipped!" + frames(DATA[:400_000]),
        DATA[:400_000],
    ],
    ids=["gzip", "gzip-members", "gzip-zeros", "zstd", "zstd-frames", "zstd-skip", "skip-zstd", "plain"],
)
def test_compression_is_taken_off(packed: bytes, size: int) -> None:
    assert everything(decompressed(Dribble(packed, size))) == DATA[:400_000]


def test_what_grows_much_needs_little_memory() -> None:
    packed = gzip.compress(b"\0" * (64 << 20))
    reader = decompressed(io.BytesIO(packed))
    assert sum(len(reader.read(1000)) for _ in range(100)) == 100_000


@pytest.mark.parametrize("cut", [5, 12, 1000, -9, -1])
def test_gzip_that_ends_early_is_damaged(cut: int) -> None:
    with pytest.raises(ImageError, match="ends early") as caught:
        everything(decompressed(io.BytesIO(gzip.compress(DATA)[:cut])))
    assert caught.value.kind is Kind.INTEGRITY


@pytest.mark.parametrize("spoil", [100, -6])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress])
def test_spoilt_bytes_are_noticed(pack: object, spoil: int) -> None:
    assert callable(pack)
    packed = bytearray(pack(os.urandom(10_000)))
    packed[spoil] ^= 0xFF
    with pytest.raises(ImageError, match="damaged"):
        everything(decompressed(io.BytesIO(bytes(packed))))


def test_garbage_behind_gzip_is_damage() -> None:
    with pytest.raises(ImageError, match="damaged"):
        everything(decompressed(io.BytesIO(gzip.compress(b"x") + b"garbage")))


@pytest.mark.parametrize(("packed", "name"), [(bz2.compress(b"x"), "bzip2"), (lzma.compress(b"x"), "xz")])
def test_other_compression_is_named(packed: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=f"compressed by {name}, want gzip, zstd or nothing") as caught:
        decompressed(io.BytesIO(packed))
    assert caught.value.kind is Kind.NOT_SUPPORTED


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f", b"abcdef"])
def test_short_streams_pass(data: bytes) -> None:
    assert everything(decompressed(io.BytesIO(data))) == data


def test_digests_are_made_on_the_way() -> None:
    counts: list[int] = []
    reader = DigestReader(io.BytesIO(DATA), counts.append)
    assert reader.read(10) == DATA[:10]
    reader.drain()
    assert (reader.digest, reader.count, sum(counts)) == (digest_of(DATA), len(DATA), len(DATA))


def test_a_tar_stream_reads_exactly_and_skips() -> None:
    stream = TarStream(Dribble(DATA, 7))
    assert stream.read(100) == DATA[:100]
    assert stream.seek(200) == 200
    assert stream.read(512) == DATA[200:712]
    assert stream.tell() == 712
    assert not stream.was_block_empty
    stream.seek(299_990)
    assert stream.read(20) == DATA[299_990:300_010]


def test_a_tar_stream_ends() -> None:
    stream = TarStream(io.BytesIO(b"abc"))
    assert not stream.is_at_end
    assert stream.read(512) == b"abc"
    assert stream.is_at_end
    assert stream.read(1) == b""
    assert stream.seek(100) == 3


def test_a_tar_stream_does_not_go_back() -> None:
    stream = TarStream(io.BytesIO(DATA))
    stream.read(100)
    with pytest.raises(ImageError, match="backwards"):
        stream.seek(50)
