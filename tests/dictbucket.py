"""A bucket in memory, which counts what is asked of it and can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reflow.blob import Bucket
from reflow.blob.memory import MemoryBucket, Stored
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.repository.blobrepo import BlobRepository

__all__ = ["DictBucket", "Stored", "blob_repository"]

WHEN = datetime(2024, 3, 1, 12, 34, 56, tzinfo=UTC)


class DictBucket(MemoryBucket):
    def __init__(self, name: str = "b", now: Callable[[], datetime] = lambda: WHEN) -> None:
        super().__init__(name, scheme="s3", since=WHEN)
        self.now = now
        self.calls: Counter[str] = Counter()
        self.is_down = False

    def _note(self, call: str) -> None:
        self.calls[call] += 1
        if self.is_down:
            raise ReflowError(Kind.UNAVAILABLE, call, self.location)

    def store_at(self, key: str, data: bytes, when: datetime) -> None:
        """Have an object that was stored at some time."""
        self.objects[key] = Stored(data)
        self._changed[key] = when

    def _store(self, key: str, data: bytes, content_hash: Digest | None) -> None:
        super()._store(key, data, content_hash)
        self._changed[key] = self.now()

    async def file(self, key: str) -> File:
        self._note("file")
        return await super().file(key)

    async def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        self._note("scan")
        async for found in super().scan(prefix, has_metadata=has_metadata):
            yield found

    async def read(self, key: str, **arguments: Any) -> bytes:
        self._note("read")
        return await super().read(key, **arguments)

    async def get(self, key: str, *, etag: str = "") -> AsyncIterator[bytes]:
        self._note("get")
        async for chunk in super().get(key, etag=etag):
            yield chunk

    async def download(self, key: str, path: str, **arguments: Any) -> Digest:
        self._note("download")
        return await super().download(key, path, **arguments)

    async def put(self, key: str, data: bytes, **arguments: Any) -> None:
        self._note("put")
        await super().put(key, data, **arguments)

    async def upload(self, key: str, path: str, **arguments: Any) -> None:
        self._note("upload")
        await super().upload(key, path, **arguments)

    async def copy_from(self, source: Bucket, source_key: str, key: str, **arguments: Any) -> None:
        self._note("copy")
        await super().copy_from(source, source_key, key, **arguments)

    async def delete(self, keys: Collection[str]) -> None:
        self._note("delete")
        await super().delete(keys)

    async def snapshot(self, prefix: str) -> Fileset:
        self._note("snapshot")
        return await super().snapshot(prefix)


def blob_repository(bucket: DictBucket) -> BlobRepository:
    """A repository in such a bucket."""

    async def opened() -> Bucket:
        return bucket

    return BlobRepository(bucket.location, opened)


if TYPE_CHECKING:
    _: type[Bucket] = DictBucket
