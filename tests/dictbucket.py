"""A bucket in a dictionary, which counts what is asked of it and can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from reflow.blob import Bucket, Observe
from reflow.blob.asserting import assertions_about
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.repository.blobrepo import BlobRepository

WHEN = datetime(2024, 3, 1, 12, 34, 56, tzinfo=UTC)


class Stored(NamedTuple):
    data: bytes
    content_hash: Digest | None
    when: datetime = WHEN


class DictBucket:
    def __init__(self, name: str = "b", now: Callable[[], datetime] = lambda: WHEN) -> None:
        self.now = now
        self.location = f"s3://{name}/"
        self.objects: dict[str, Stored] = {}
        self.calls: Counter[str] = Counter()
        self.is_down = False

    def _note(self, call: str) -> None:
        self.calls[call] += 1
        if self.is_down:
            raise ReflowError(Kind.UNAVAILABLE, call, self.location)

    def _find(self, key: str) -> Stored:
        if key not in self.objects:
            raise ReflowError(Kind.NOT_EXIST, "blob", self.location + key)
        return self.objects[key]

    def _describe(self, key: str) -> File:
        data, content_hash, when = self._find(key)
        etag = f'"{md5(data, usedforsecurity=False).hexdigest()}"'
        return File(None, len(data), self.location + key, etag, when, content_hash)

    async def file(self, key: str) -> File:
        self._note("file")
        return self._describe(key)

    async def scan(self, prefix: str, *, has_metadata: bool = False) -> AsyncIterator[tuple[str, File]]:
        self._note("scan")
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield key, self._describe(key)

    async def read(self, key: str, *, etag: str = "") -> bytes:
        self._note("read")
        return self._find(key).data

    async def get(self, key: str, *, etag: str = "") -> AsyncIterator[bytes]:
        self._note("get")
        data = self._find(key).data
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    async def download(
        self, key: str, path: str, *, size: int, etag: str = "", observe: Observe | None = None
    ) -> Digest:
        self._note("download")
        data = self._find(key).data
        Path(path).write_bytes(data)
        return Digest(sha256(data).digest())

    async def put(
        self, key: str, data: bytes, *, content_hash: Digest | None = None, if_absent: bool = False
    ) -> None:
        self._note("put")
        self.objects[key] = Stored(data, content_hash, self.now())

    async def upload(
        self, key: str, path: str, *, content_hash: Digest | None = None, observe: Observe | None = None
    ) -> None:
        self._note("upload")
        self.objects[key] = Stored(Path(path).read_bytes(), content_hash, self.now())

    async def copy_from(
        self, source: Bucket, source_key: str, key: str, *, content_hash: Digest | None = None
    ) -> None:
        self._note("copy")
        data, promised, _ = cast("DictBucket", source)._find(source_key)
        self.objects[key] = Stored(data, promised or content_hash, self.now())

    async def delete(self, keys: Collection[str]) -> None:
        self._note("delete")
        for key in keys:
            self.objects.pop(key, None)

    async def snapshot(self, prefix: str) -> Fileset:
        self._note("snapshot")
        if prefix and not prefix.endswith("/"):
            found = {".": self._describe(prefix)}
        else:
            found = {
                key.removeprefix(prefix): self._describe(key)
                for key in self.objects
                if key.startswith(prefix)
            }
        return Fileset(
            {path: file.with_assertions(assertions_about(file.source, file)) for path, file in found.items()}
        )


def blob_repository(bucket: DictBucket) -> BlobRepository:
    """A repository in such a bucket."""

    async def opened() -> Bucket:
        return bucket

    return BlobRepository(bucket.location, opened)


if TYPE_CHECKING:
    _: type[Bucket] = DictBucket
