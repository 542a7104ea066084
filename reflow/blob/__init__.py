"""Blob stores: buckets of named objects, as S3 has them.

A `Store` opens buckets by name, a `Bucket` moves whole objects. Keys are used as they are written: nothing is
escaped or unescaped on the way. `File.source` of what a bucket tells is ``<scheme>://<bucket>/<key>``.
Implementations: `s3`, `memory`.

Errors, of all methods: NOT_EXIST for a missing bucket or key, NOT_ALLOWED, INVALID for what can be no key,
PRECONDITION when an ETag that was asked for is no longer the object's, INTEGRITY when bytes are not what they
should be, and after bounded retries UNAVAILABLE, TEMPORARY, TIMEOUT, NET or RESOURCES_EXHAUSTED.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Protocol

from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset

__all__ = ["Bucket", "Observe", "Store"]

Observe = Callable[[int], None]
"""Told the bytes of each piece that was moved."""


class Bucket(Protocol):
    """Named objects. All methods may be called at the same time."""

    @property
    def location(self) -> str:
        """``s3://name/``: what every object's source begins with."""
        ...

    async def file(self, key: str) -> File:
        """Source, size in bytes, ETag, time of change, and the content hash if its metadata have one."""
        ...

    def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        """Every key with that prefix in the order of UTF-8 bytes, with its file.

        Content hashes are known only with ``has_metadata``, which costs a request for each object.
        """
        ...

    async def read(self, key: str, *, etag: str = "") -> bytes:
        """Return a small object whole, compared with its ETag or content hash where that is possible."""
        ...

    def get(self, key: str, *, etag: str = "") -> AsyncIterator[bytes]:
        """Stream an object in chunks of at most 1 MiB; a cut connection goes on where it was cut.

        INTEGRITY at the end of what was damaged, as far as that can be seen.
        """
        ...

    async def download(
        self, key: str, path: str, *, size: int, etag: str = "", observe: Observe | None = None
    ) -> Digest:
        """Write an object to a new file, in parallel ranges when it is large; its SHA-256.

        ``size`` is in bytes, and decides only how it is fetched. Whoever gives an ETag gets that version
        whole, or an error. INTEGRITY when the bytes are not those of the ETag, or of the content hash in the
        metadata. Nothing is left at ``path`` after an error or cancellation; a file that was there stays.
        """
        ...

    async def put(
        self, key: str, data: bytes, *, content_hash: Digest | None = None, if_absent: bool = False
    ) -> None:
        """Store a small object whole or not at all; PRECONDITION when ``if_absent`` and it exists.

        When an answer was lost and the call was made again, an object with the same bytes counts as ours.
        """
        ...

    async def upload(
        self, key: str, path: str, *, content_hash: Digest | None = None, observe: Observe | None = None
    ) -> None:
        """Store a file, in parallel parts when it is large.

        An upload that fails or is cancelled leaves nothing behind; ``path`` may be changed once it has ended.
        """
        ...

    async def copy_from(
        self, source: Bucket, source_key: str, key: str, *, content_hash: Digest | None = None
    ) -> None:
        """Copy an object of a bucket of the same kind without moving its bytes through here.

        Up to 256 MiB the copy has the metadata of the source, and ``content_hash`` is ignored, as in the
        original; a larger one has the source's content hash if there is one, else the one given.
        """
        ...

    async def delete(self, keys: Collection[str]) -> None:
        """Delete objects; absent ones are no error. After an error some may be gone."""
        ...

    async def snapshot(self, prefix: str) -> Fileset:
        """References to what is there, with assertions, without reading it.

        A prefix that is empty or ends in ``/`` stands for all objects below it (path -> File, relative to it;
        without keys that end in ``/``); any other is one object (path ``.``).
        Source: blob/s3blob/s3blob.go, (*Bucket).Snapshot; blob/mux.go, Mux.Snapshot.
        """
        ...


class Store(Protocol):
    """Buckets by name."""

    async def bucket(self, name: str) -> Bucket:
        """A bucket, wherever it is. Raises NOT_EXIST or NOT_ALLOWED."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
