"""A repository in a bucket, laid out as the original's: caches are shared with it.

Objects are at ``<prefix>objects/sha256:<hex>``. Files that execs wrote have the metadata ``content-sha256``,
streams and small objects have none. An object is stored whole or not at all. What was seen to be there is not
asked for again while this lives.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from reflow.blob import Bucket, Observe
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.fileset import File
from reflow.repository import Repository

CONCURRENCY = 64
_SPOOLED_BYTES = 8 << 20
_OBJECTS = "objects/"

_ABSENT = Digest(bytes(32))
"""Nothing has this digest."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class BlobRepository:
    """Objects below ``prefix`` (empty, or ending in ``/``) of a bucket, which is opened on first use."""

    def __init__(self, location: str, open_bucket: Callable[[], Awaitable[Bucket]], prefix: str = "") -> None:
        self._location = location
        self._open_bucket = open_bucket
        self._prefix = prefix
        self._bucket: Bucket | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._sizes: dict[Digest, int] = {}

    @property
    def url(self) -> str:
        """``s3://bucket/`` and the prefix."""
        return f"{self._location}{self._prefix}"

    def key(self, digest: Digest) -> str:
        """Where an object is, or would be."""
        return f"{self._prefix}{_OBJECTS}{digest}"

    async def open(self) -> None:
        """See whether it can be reached, and read. Raises NOT_EXIST, NOT_ALLOWED, and the like."""
        bucket = await self.bucket()
        try:
            await bucket.file(self.key(_ABSENT))
        except ReflowError as err:
            if kind_of(err) is Kind.NOT_EXIST:
                return
            if kind_of(err) is not Kind.NOT_ALLOWED:
                raise
            cause = "these credentials may not read it (that takes s3:GetObject and s3:ListBucket)"
            raise ReflowError(Kind.NOT_ALLOWED, "repository", self.url, cause=cause) from err

    async def bucket(self) -> Bucket:
        """The bucket. Raises NOT_EXIST, NOT_ALLOWED, or that it cannot be reached."""
        if self._bucket is None:
            async with self._opening:
                if self._bucket is None:
                    self._bucket = await self._open_bucket()
        return self._bucket

    # Looking.

    async def stat(self, digest: Digest) -> File:
        """Id, size and what the bucket knows besides. Raises NOT_EXIST."""
        bucket = await self.bucket()
        async with self._slots:
            found = await bucket.file(self.key(digest))
        self._sizes[digest] = found.size
        return File(digest, found.size, found.source, found.etag, found.last_modified, found.content_hash)

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those that are not there; given digest -> size, also those of another size."""
        sizes = digests if isinstance(digests, Mapping) else {}
        unknown = [digest for digest in dict.fromkeys(digests) if digest not in self._sizes]
        await _each(self._look, unknown)
        return {digest for digest in digests if not self._is_right(digest, sizes.get(digest))}

    async def _look(self, digest: Digest) -> None:
        try:
            await self.stat(digest)
        except ReflowError as err:
            if kind_of(err) is not Kind.NOT_EXIST:
                raise

    def _is_right(self, digest: Digest, size: int | None) -> bool:
        return digest in self._sizes and size in (None, self._sizes[digest])

    async def find(self, prefix: DigestPrefix) -> list[Digest]:
        """Objects that an abbreviated digest may stand for."""
        bucket = await self.bucket()
        start = f"{self._prefix}{_OBJECTS}"
        found = bucket.scan(f"{start}sha256:{prefix}")
        return [Digest.parse(key.removeprefix(start)) async for key, _ in found]

    # Reading.

    async def get(self, digest: Digest) -> AsyncIterator[bytes]:
        """Stream an object; INTEGRITY at its end when it was not what its name says."""
        bucket = await self.bucket()
        found = sha256()
        async for chunk in bucket.get(self.key(digest)):
            found.update(chunk)
            yield chunk
        if found.digest() != digest:
            raise self._wrong(digest, Digest(found.digest()))

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read small objects whole, and check them."""
        wanted = list(dict.fromkeys(digests))
        return dict(zip(wanted, await _each(self._read, wanted), strict=True))

    async def _read(self, digest: Digest) -> bytes | ReflowError:
        try:
            bucket = await self.bucket()
            async with self._slots:
                data = await bucket.read(self.key(digest))
        except ReflowError as err:
            return err
        found = Digest(sha256(data).digest())
        return data if found == digest else self._wrong(digest, found)

    async def download(self, file: File, path: str, observe: Observe | None = None) -> None:
        """Write an object to a new file. Raises INTEGRITY when it is not what its name says."""
        assert file.id is not None
        bucket = await self.bucket()
        found = await bucket.download(self.key(file.id), path, size=file.size, observe=observe)
        if found != file.id:
            await asyncio.to_thread(os.unlink, path)
            raise self._wrong(file.id, found)

    def _wrong(self, digest: Digest, found: Digest) -> ReflowError:
        cause = f"the contents of {self.url}{_OBJECTS}{digest} are those of {found}"
        return ReflowError(Kind.INTEGRITY, "repository.get", digest, cause=cause)

    # Writing.

    async def put(self, chunks: AsyncIterator[bytes]) -> Digest:
        """Store a stream. It is kept in a temporary file until its digest is known."""
        import tempfile

        found = sha256()
        with tempfile.NamedTemporaryFile(prefix="reflow-put-", buffering=_SPOOLED_BYTES) as spool:
            async for chunk in chunks:
                found.update(chunk)
                await asyncio.to_thread(spool.write, chunk)
            await asyncio.to_thread(spool.flush)
            digest, size = Digest(found.digest()), spool.tell()
            if await self.missing({digest: size}):
                await (await self.bucket()).upload(self.key(digest), spool.name)
        self._sizes[digest] = size
        return digest

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store small objects."""
        return await _each(self._put_bytes, list(objects))

    async def _put_bytes(self, data: bytes) -> Digest:
        digest = Digest(sha256(data).digest())
        if self._sizes.get(digest) != len(data):
            bucket = await self.bucket()
            async with self._slots:
                await bucket.put(self.key(digest), data)
            self._sizes[digest] = len(data)
        return digest

    async def upload(self, file: File, path: str, observe: Observe | None = None) -> None:
        """Store a file whose digest is known, and which is `missing`."""
        assert file.id is not None
        bucket = await self.bucket()
        await bucket.upload(self.key(file.id), path, content_hash=file.id, observe=observe)
        self._sizes[file.id] = file.size

    async def close(self) -> None:
        """Connections are those of the store of buckets, which lives as long as the process."""


async def _each(work: Callable[[_Item], Awaitable[_Result]], items: Collection[_Item]) -> list[_Result]:
    """All results in order; the first error ends the others. At most `CONCURRENCY` at a time."""
    rest = iter(list(enumerate(items)))
    results: dict[int, _Result] = {}

    async def some() -> None:
        for number, item in rest:
            results[number] = await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(CONCURRENCY, len(items))):
                tasks.create_task(some())
    except* ReflowError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
    return [results[number] for number in range(len(items))]


if TYPE_CHECKING:
    _: type[Repository] = BlobRepository
