"""The calls that move an object's bytes, as one contract for every way to make them.

Each is tried once: whoever calls tries again (`reflow.aws.retry`). Keys are used as they are written. Raised
are ReflowErrors of the kinds that `reflow.blob` names, TEMPORARY for what was cut or came damaged.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from reflow.blob.s3part import Part

__all__ = ["Body", "DataPath", "FilePart", "Received", "Target"]


class Target(NamedTuple):
    """An object. ``etag`` is the version that is wanted, with its quotes; empty: any."""

    bucket: str
    key: str
    etag: str = ""


class FilePart(NamedTuple):
    """Bytes of a local file: what is sent need not be in memory first."""

    path: str
    offset: int
    size: int


Body = bytes | FilePart


class Received(NamedTuple):
    """What came with an answer: the object's ETag with its quotes, its headers by lower-case names.

    ``size`` is that of the bytes received, or of the object for `DataPath.head`.
    """

    size: int
    etag: str
    headers: dict[str, str]


class DataPath(Protocol):
    """One bucket's region; all methods may be called at the same time."""

    async def head(self, target: Target) -> Received:
        """What is known of an object."""
        ...

    async def read(self, target: Target, part: Part | None = None) -> tuple[bytes, Received]:
        """An object, or a part of it, in memory; whole, or an error."""
        ...

    async def read_into(self, target: Target, descriptor: int, part: Part | None = None) -> Received:
        """Write an object, or a part of it, to a file at ``part.offset`` (else 0).

        Once it returns or raises, also by cancellation, nothing writes to the descriptor any more.
        """
        ...

    async def put(self, target: Target, body: Body, headers: dict[str, str]) -> str:
        """Store an object whole or not at all; its ETag. ``headers`` are sent as they are, lower case."""
        ...

    async def put_part(self, target: Target, upload: str, number: int, body: Body) -> str:
        """Store one part of a multipart upload; its ETag."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
