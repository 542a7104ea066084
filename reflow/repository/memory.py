"""A repository in memory: for tests, and for runs that leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File
from reflow.repository import Repository

_CHUNK_BYTES = 1 << 20


class MemoryRepository:
    """Objects in a dictionary."""

    def __init__(self) -> None:
        self._objects: dict[Digest, bytes] = {}

    @property
    def url(self) -> str:
        """``memory:``."""
        return "memory:"

    async def stat(self, digest: Digest) -> File:
        """Return id and size. Raises NOT_EXIST."""
        data = self._objects.get(digest)
        if data is None:
            raise ReflowError(Kind.NOT_EXIST, "repository.stat", digest)
        return File(digest, len(data))

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those that are not here; given digest -> size, also those of another size."""
        sizes = digests if isinstance(digests, Mapping) else {}
        return {digest for digest in digests if not self._is_here(digest, sizes.get(digest))}

    def _is_here(self, digest: Digest, size: int | None) -> bool:
        data = self._objects.get(digest)
        return data is not None and size in (None, len(data))

    async def get(self, digest: Digest) -> AsyncIterator[bytes]:
        """Stream an object. Raises NOT_EXIST."""
        data = self._objects.get(digest)
        if data is None:
            raise ReflowError(Kind.NOT_EXIST, "repository.get", digest)
        for start in range(0, len(data), _CHUNK_BYTES):
            yield data[start : start + _CHUNK_BYTES]

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read objects whole."""
        absent = ReflowError(Kind.NOT_EXIST, "repository.get")
        return {digest: self._objects.get(digest, absent) for digest in digests}

    async def put(self, chunks: AsyncIterator[bytes]) -> Digest:
        """Store a stream."""
        return self._store(b"".join([chunk async for chunk in chunks]))

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store objects."""
        return [self._store(data) for data in objects]

    def _store(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self._objects.setdefault(digest, bytes(data))
        return digest

    async def find(self, prefix: DigestPrefix) -> list[Digest]:
        """Objects that an abbreviated digest may stand for."""
        return sorted(filter(prefix.expands_to, self._objects))

    async def close(self) -> None:
        """Keep the objects: whoever holds this may go on."""


if TYPE_CHECKING:
    _: type[Repository] = MemoryRepository
