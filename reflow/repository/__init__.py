"""Repositories hold objects (bytes) under their SHA-256.

`Repository` is what everybody may count on; `LocalFiles` is the further power of a repository whose
objects are files of this machine. Objects never change. Implementations: `filerepo`, `memory`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Protocol, runtime_checkable

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.fileset import File

__all__ = ["LocalFiles", "Repository"]


class Repository(Protocol):
    """A store of immutable objects. All methods may be called at the same time."""

    @property
    def url(self) -> str:
        """Names the repository in messages and logs."""
        ...

    async def stat(self, digest: Digest) -> File:
        """Return id and size (bytes) of an object; does not read it. Raises NOT_EXIST."""
        ...

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of ``digests`` that are not here.

        Given a mapping of digest -> size in bytes, an object of another size counts as missing too.
        """
        ...

    def get(self, digest: Digest) -> AsyncIterator[bytes]:
        """Stream an object in chunks of at most 1 MiB. Raises NOT_EXIST."""
        ...

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read small objects whole; an object that cannot be read has its error instead."""
        ...

    async def put(self, chunks: AsyncIterator[bytes]) -> Digest:
        """Store a stream; idempotent, atomic, and never half-written."""
        ...

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store small objects; their digests in order."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of resources."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """A repository whose objects are files here. These methods block; call them from threads."""

    def path(self, digest: Digest) -> str:
        """Where the object is, or would be; an absolute path. Does not look."""
        ...

    def install(self, path: str, *, keep: bool = False) -> File:
        """Hash a file and take it over into the repository; ``path`` is gone afterwards.

        With ``keep`` it stays, as another name of the object where the file system has such. Atomic. The
        stored object has mode 0444 and one fixed modification time. Raises INVALID naming the path, or
        RESOURCES_EXHAUSTED when the disk is full.
        """
        ...
