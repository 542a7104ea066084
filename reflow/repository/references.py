"""Things in buckets that programs name by URL: looked at without reading them, fetched, written.

URLs are used as they are written: nothing in them is escaped or unescaped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reflow.blob import Bucket
from reflow.blob.asserting import assertions_about
from reflow.core.assertion import BLOB_NAMESPACE, AssertionKey, Assertions
from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.fileset import File, Fileset
from reflow.repository.gather import gather_all
from reflow.repository.layered import LayeredRepository

if TYPE_CHECKING:
    from reflow.repository.filerepo import FileRepository

MOVED_AT_ONCE = 64
BucketOpener = Callable[[str, str], Awaitable[Bucket]]
"""Scheme and name to a bucket. Raises NOT_SUPPORTED for a scheme that is none of buckets."""


class Place(NamedTuple):
    """A URL taken apart; the key is whatever follows the bucket."""

    scheme: str
    bucket: str
    key: str


def parse_url(url: str) -> Place:
    """Take a URL apart."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return Place(scheme, bucket, key)


class Contents(Protocol):
    """Where contents are on this machine: objects, and files of users. Both methods block."""

    def locate(self, digest: Digest) -> tuple[str, bool]:
        """A path with these contents, and whether it is a user's own file. Raises NOT_EXIST."""
        ...

    def check_unchanged(self, digest: Digest) -> None:
        """Check what `locate` found. Raises INVALID, INTEGRITY."""
        ...


class References:
    """Finds, fetches and writes what URLs name; ``repository`` takes what is fetched."""

    def __init__(
        self, open_bucket: BucketOpener, repository: FileRepository | LayeredRepository, contents: Contents
    ) -> None:
        self._open_bucket = open_bucket
        self._repository = repository
        self._contents = contents
        self._slots = asyncio.Semaphore(MOVED_AT_ONCE)
        self._writes = asyncio.Semaphore(MOVED_AT_ONCE)
        self._resolving: dict[tuple[str, str], asyncio.Task[File]] = {}

    async def _at(self, url: str) -> tuple[Bucket, str]:
        place = parse_url(url)
        return await self._open_bucket(place.scheme, place.bucket), place.key

    # Looking.

    async def snapshot(self, url: str) -> Fileset:
        """References to what is at a URL. Raises NOT_SUPPORTED for other schemes, NOT_EXIST."""
        bucket, key = await self._at(url)
        return await bucket.snapshot(key)

    async def assertions(self, key: AssertionKey) -> Assertions:
        """What is true now of something that was asserted about. Raises NOT_SUPPORTED, NOT_EXIST."""
        if key.namespace != BLOB_NAMESPACE:
            cause = f"no generator for namespace {key.namespace}"
            raise ReflowError(Kind.NOT_SUPPORTED, "assert", key.subject, cause=cause)
        bucket, name = await self._at(key.subject)
        async with self._slots:
            return assertions_about(key.subject, await bucket.file(name))

    # Fetching.

    async def resolve(self, fileset: Fileset) -> Fileset:
        """The same fileset with contents in the place of references; they are on this machine then."""
        wanted = {file.digest: file for file in fileset.all_files() if file.id is None}
        if not wanted:
            return fileset
        found = await gather_all([self._resolve_once(file) for file in wanted.values()])
        return fileset.map_files(dict(zip(wanted, found, strict=True)))

    async def _resolve_once(self, file: File) -> File:
        name = (file.source, file.etag)
        task = self._resolving.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._resolving[name] = asyncio.create_task(self._resolve(file))
        return _resolved(file, (await asyncio.shield(task)).id, file.size)

    async def _resolve(self, file: File) -> File:
        promised = file.content_hash
        if promised is not None:
            known = File(promised, file.size)
            if isinstance(self._repository, LayeredRepository):
                await self._repository.fetch([known])
            local = self._local()
            if not await local.missing({promised: file.size}):
                return _resolved(file, promised, file.size)
        async with self._slots:
            return await self._download(file)

    def _local(self) -> FileRepository:
        repository = self._repository
        return repository.local if isinstance(repository, LayeredRepository) else repository

    async def _download(self, file: File) -> File:
        bucket, key = await self._at(file.source)
        local = self._local()
        path = f"{local.root}/tmp/intern-{Digest.random().short}-{os.getpid()}"
        await asyncio.to_thread(os.makedirs, f"{local.root}/tmp", exist_ok=True)
        await bucket.download(key, path, size=file.size, etag=file.etag)
        stored = await asyncio.to_thread(local.install, path)
        if stored.size != file.size or file.content_hash not in (None, stored.id):
            want = f"{file.size} bytes" + (f" of {file.content_hash}" if file.content_hash else "")
            cause = f"got {stored.size} bytes of {stored.id}, want {want}"
            raise ReflowError(Kind.INTEGRITY, "intern", file.source, cause=cause)
        return _resolved(file, stored.id, stored.size)

    async def intern(self, url: str) -> Fileset:
        """Bring what is at a URL into the repository; empty objects too, which have no snapshot.

        As in the original nothing is known afterwards of where the files came from.
        """
        bucket, key = await self._at(url)
        if key and not key.endswith("/"):
            files = {".": await bucket.file(key)}
        else:
            found = bucket.scan(key, has_metadata=True)
            files = {name.removeprefix(key): file async for name, file in found if not name.endswith("/")}
        resolved = await self.resolve(Fileset(files))
        return Fileset({path: File(file.id, file.size) for path, file in resolved.files.items()})

    # Writing.

    async def extern(self, url: str, fileset: Fileset) -> Fileset:
        """Write the files of ``fileset`` to a URL, except those that are there already."""
        target, prefix = await self._at(url.removesuffix("/"))
        files = fileset.pullup().files
        there = await _listed(target, prefix, is_file=set(files) == {"."})

        async def write(path: str, file: File) -> None:
            key = prefix if path == "." else f"{prefix}/{path}".removeprefix("/")
            async with self._writes:
                await self._write(target, key, file, there.get(key))

        await gather_all([write(path, file) for path, file in files.items()])
        return fileset.pullup()

    async def _write(self, target: Bucket, key: str, file: File, there: File | None) -> None:
        source = await self._source(file)
        if there is not None and not await _differs(target, key, there, source or file):
            return
        if source is not None:
            place = parse_url(source.source)
            if target.location.startswith(f"{place.scheme}://"):
                bucket = await self._open_bucket(place.scheme, place.bucket)
                await target.copy_from(bucket, place.key, key, content_hash=source.content_hash or source.id)
                return
        stored = file if file.id is not None else await self._resolve_once(file)
        assert stored.id is not None
        if isinstance(self._repository, LayeredRepository):
            await self._repository.fetch([stored])
        path, _ = await asyncio.to_thread(self._contents.locate, stored.id)
        await target.upload(key, path, content_hash=stored.id)
        await asyncio.to_thread(self._contents.check_unchanged, stored.id)

    async def _source(self, file: File) -> File | None:
        """Where a bucket has these contents already."""
        if file.id is None:
            return file
        if not isinstance(self._repository, LayeredRepository) or self._repository.is_private:
            return None
        if await self._repository.missing({file.id: file.size}):
            return None
        found = await self._repository.shared.stat(file.id)
        return File(file.id, found.size, found.source, found.etag, None, found.content_hash or file.id)


async def _listed(bucket: Bucket, prefix: str, *, is_file: bool) -> Mapping[str, File]:
    """What is at the target now: one object, or all below it."""
    if is_file:
        try:
            return {prefix: await bucket.file(prefix)}
        except ReflowError as err:
            if kind_of(err) is not Kind.NOT_EXIST:
                raise
            return {}
    return {key: file async for key, file in bucket.scan(f"{prefix}/" if prefix else "")}


async def _differs(bucket: Bucket, key: str, there: File, file: File) -> bool:
    """Whether an object is to be written. Source: blob/mux.go, Mux.NeedTransfer."""
    if there.size and file.size and there.size != file.size:
        return True
    if there.etag and there.etag == file.etag:
        return False
    wanted = file.content_hash or file.id
    if wanted is None:
        return True
    found = there.content_hash or (await bucket.file(key)).content_hash
    return found != wanted


def _resolved(file: File, id: Digest | None, size: int) -> File:
    """A reference with its contents; what was promised of them is no longer of interest."""
    return File(id, size, file.source, file.etag, file.last_modified, None, file.assertions)
