"""The calls that move an object's bytes, as one contract for every way to make them.

Each is tried once: whoever calls tries again (`reflow.aws.retry`), and compares what came with its ETag. Keys
are used as they are written. Raised are ReflowErrors of the kinds that `reflow.blob` names (`refusal` of
`reflow.aws.error` makes them of answers), TEMPORARY for what was cut or is not as long as it should be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from reflow.aws.session import AwsSession
from reflow.blob.s3part import Part
from reflow.disk.blocking import Blocking

__all__ = ["Body", "DataPath", "FilePart", "OpenDataPath", "Place", "Received", "Target", "Write", "payer"]


class Target(NamedTuple):
    """An object. ``etag`` is the version that is wanted, with its quotes; empty: any."""

    bucket: str
    key: str
    etag: str = ""

    @property
    def url(self) -> str:
        """``s3://bucket/key``, for errors."""
        return f"s3://{self.bucket}/{self.key}"


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


Write = Callable[[memoryview, int], None]
"""Takes bytes of an object, and where in it they begin, in the thread of the call, in order.

The bytes are only good until it returns. It raises nothing but ReflowErrors.
"""


class DataPath(Protocol):
    """The calls about one bucket; all methods may be called at the same time."""

    async def region(self) -> str:
        """Where the bucket says that it is; empty when it does not say, as to who may not use it.

        Raises NOT_EXIST.
        """
        ...

    async def head(self, target: Target) -> Received:
        """What is known of an object."""
        ...

    async def read(self, target: Target, part: Part | None = None) -> tuple[bytes, Received]:
        """An object, or a part of it, in memory; whole, or an error."""
        ...

    async def read_into(
        self, target: Target, begin: Callable[[Received], Write], part: Part | None = None
    ) -> Received:
        """Hand on an object, or a part of it, as it comes, to what ``begin`` returns.

        ``begin`` is called in the same thread as that, when there is an answer that says yes; the size in it
        is -1 when it is not known. Once the call returns or raises, also by cancellation, neither is called.
        """
        ...

    async def put(self, target: Target, body: Body, headers: dict[str, str]) -> str:
        """Store an object whole or not at all; its ETag. ``headers`` are sent as they are, lower case.

        Here and in `put_part` the server is told a sum of what it must get, so that it refuses what was
        damaged. Once the call returns or raises, also by cancellation, nothing is sent any more and nothing
        that was sent is still to be carried out: whoever has sent all of it waits for the answer, ours for
        10 s at most.
        """
        ...

    async def put_file(self, target: Target, path: str, headers: dict[str, str], *, most: int) -> int:
        """Store a file as `put` does if it has at most ``most`` bytes; its size. A larger one is not sent."""
        ...

    async def put_part(self, target: Target, upload: str, number: int, body: Body) -> str:
        """Store one part of a multipart upload; its ETag."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Place(NamedTuple):
    """What a data path is for: a bucket, in its region, by threads that it shares with other calls."""

    session: AwsSession
    region: str
    bucket: str
    blocking: Blocking


OpenDataPath = Callable[[Place], DataPath]
"""Opens a data path. It may block: it is called in a thread."""


def payer() -> str:
    """What ``x-amz-request-payer`` is to be in every request; empty: the header is not sent."""
    return os.environ.get("AWS_REQUEST_PAYER", "")
