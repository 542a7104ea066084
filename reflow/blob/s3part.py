"""How large objects are cut: sizes of parts and ranges, in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MIB = 1 << 20
SMALLEST_PART = 5 * MIB
_MOST_PARTS = 10_000
_LARGE = 50_000 * MIB
COPIED_WHOLE = 256 * MIB
COPIED_PART = 128 * MIB
READ_WHOLE = 16 * MIB
READ_PART = 8 * MIB


class Part(NamedTuple):
    """One part of an object; numbers begin with 1."""

    number: int
    offset: int
    size: int

    @property
    def range(self) -> str:
        """As requests have it; of a part that is not empty."""
        return f"bytes={self.offset}-{self.offset + self.size - 1}"


def upload_part_size(size: int) -> int:
    """The original's: the ETag of an object that was uploaded in parts depends on it.

    Source: blob/s3blob/s3blob.go, s3TransferParams.
    """
    if size <= _LARGE:
        return SMALLEST_PART
    return (size // _MOST_PARTS + SMALLEST_PART) // MIB * MIB


def parts(size: int, part_size: int) -> Iterator[Part]:
    """All parts of an object."""
    for number, offset in enumerate(range(0, size, part_size), start=1):
        yield Part(number, offset, min(part_size, size - offset))
