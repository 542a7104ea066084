"""Buckets in memory: for tests, and for what nobody keeps."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from reflow.blob import Bucket, Observe, Store
from reflow.blob.asserting import snapshot_of
from reflow.blob.key import check_key, check_prefix
from reflow.blob.s3part import COPIED_WHOLE
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.disk.blocking import to_the_end
from reflow.disk.filesystem import translate_error

_CHUNK = 1 << 20
_EPOCH = datetime.fromtimestamp(0, UTC)


class Stored(NamedTuple):
    """An object: its bytes, and the content hash in its metadata."""

    data: bytes
    content_hash: Digest | None = None

    @property
    def etag(self) -> str:
        """MD5, in quotes."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class MemoryStore(Store):
    """Buckets that are there from the beginning."""

    def __init__(self, names: Iterable[str], *, copied_whole: int = COPIED_WHOLE) -> None:
        self._buckets = {name: MemoryBucket(name, copied_whole=copied_whole) for name in names}

    async def bucket(self, name: str) -> Bucket:
        """A bucket. Raises NOT_EXIST."""
        if name not in self._buckets:
            raise ReflowError(Kind.NOT_EXIST, "memory.bucket", name)
        return self._buckets[name]

    async def close(self) -> None:
        """Forget all buckets."""
        self._buckets.clear()


class MemoryBucket(Bucket):
    """Objects in a dictionary, ``objects``.

    ``copied_whole``: up to which size, in bytes, a copy has its source's metadata. ``since``: the time of
    change of objects that are put into the dictionary itself.
    """

    def __init__(
        self,
        name: str,
        *,
        scheme: str = "memory",
        copied_whole: int = COPIED_WHOLE,
        since: datetime = _EPOCH,
    ) -> None:
        self._location = f"{scheme}://{name}/"
        self._copied_whole = copied_whole
        self._since = since
        self._changed: dict[str, datetime] = {}
        self.objects: dict[str, Stored] = {}

    @property
    def location(self) -> str:
        """``memory://name/``."""
        return self._location

    # Looking.

    async def file(self, key: str) -> File:
        """What is known of an object."""
        return self._file(key, self._find(key))

    def _find(self, key: str, etag: str = "") -> Stored:
        check_key(self.location + key, key)
        found = self.objects.get(key)
        if found is None:
            raise ReflowError(Kind.NOT_EXIST, "memory.get", self.location + key)
        if etag and etag != found.etag:
            cause = f"its ETag is {found.etag}, want {etag}"
            raise ReflowError(Kind.PRECONDITION, "memory.get", self.location + key, cause=cause)
        return found

    def _file(self, key: str, found: Stored, *, has_metadata: bool = True) -> File:
        when = self._changed.get(key, self._since)
        promised = found.content_hash if has_metadata else None
        return File(None, len(found.data), self.location + key, found.etag, when, promised)

    async def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        """Every key with that prefix; objects that are made or deleted meanwhile may be missing or not."""
        check_prefix(self.location + prefix, prefix)
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix) and key in self.objects:
                yield key, self._file(key, self.objects[key], has_metadata=has_metadata)

    async def snapshot(self, prefix: str) -> Fileset:
        """References to what is there; see `reflow.blob.Bucket.snapshot`."""
        return await snapshot_of(self, prefix)

    # Reading.

    async def read(self, key: str, *, etag: str = "") -> bytes:
        """Return an object."""
        return self._checked(key, etag)

    def _checked(self, key: str, etag: str) -> bytes:
        data, promised = self._find(key, etag)
        if promised is not None and Digest.of(data) != promised:
            cause = f"got {Digest.of(data)}, want {promised}, as its metadata say"
            raise ReflowError(Kind.INTEGRITY, "memory.get", self.location + key, cause=cause)
        return data

    async def get(self, key: str, *, etag: str = "") -> AsyncIterator[bytes]:
        """Stream an object."""
        data = self._find(key, etag).data
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]

    async def download(
        self, key: str, path: str, *, size: int, etag: str = "", observe: Observe | None = None
    ) -> Digest:
        """Write an object to a new file."""
        data = self._checked(key, etag)
        try:
            await to_the_end(asyncio.to_thread(_write_new, path, data))
        except asyncio.CancelledError:
            os.unlink(path)
            raise
        if observe is not None:
            observe(len(data))
        return Digest.of(data)

    # Writing.

    async def put(
        self, key: str, data: bytes, *, content_hash: Digest | None = None, if_absent: bool = False
    ) -> None:
        """Store an object."""
        check_key(self.location + key, key)
        if if_absent and key in self.objects:
            raise ReflowError(Kind.PRECONDITION, "memory.put", self.location + key, cause="it exists")
        self._store(key, data, content_hash)

    def _store(self, key: str, data: bytes, content_hash: Digest | None) -> None:
        check_key(self.location + key, key)
        self.objects[key] = Stored(data, content_hash)
        self._changed[key] = datetime.now(UTC)

    async def upload(
        self, key: str, path: str, *, content_hash: Digest | None = None, observe: Observe | None = None
    ) -> None:
        """Store a file."""
        data = await asyncio.to_thread(_read, path)
        self._store(key, data, content_hash)
        if observe is not None:
            observe(len(data))

    async def copy_from(
        self, source: Bucket, source_key: str, key: str, *, content_hash: Digest | None = None
    ) -> None:
        """Copy between buckets in memory; see `reflow.blob.Bucket.copy_from`."""
        assert isinstance(source, MemoryBucket)
        data, promised = source._find(source_key)
        is_whole = len(data) <= self._copied_whole
        self._store(key, data, promised if is_whole else promised or content_hash)

    async def delete(self, keys: Collection[str]) -> None:
        """Delete objects."""
        for key in keys:
            check_key(self.location + key, key)
            self.objects.pop(key, None)


def _write_new(path: str, data: bytes) -> None:
    """Write a new file; one that cannot be written whole is removed."""
    try:
        with open(path, "xb") as stream:
            try:
                stream.write(data)
                stream.flush()
            except OSError:
                os.unlink(path)
                raise
    except OSError as err:
        raise translate_error(err, "memory.get", path) from err


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as err:
        raise translate_error(err, "memory.put", path) from err


if TYPE_CHECKING:
    _: type[Store] = MemoryStore
    __: type[Bucket] = MemoryBucket
