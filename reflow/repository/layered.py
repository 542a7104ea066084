"""A shared repository with the objects of this machine in front of it.

Execs work with the files of this machine: what they need is fetched first (`fetch`), what they wrote stays
here until somebody asks whether it is `missing` (the cache does, before it writes an entry) and is uploaded
then. So no entry is ever written whose objects are not in the shared repository, and a result that could not
be uploaded is kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from reflow.blob.gather import MOVED_AT_ONCE
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.core.fileset import File
from reflow.disk.filesystem import copy_file, translate_error
from reflow.repository import LocalFiles, Repository
from reflow.repository.blobrepo import BlobRepository
from reflow.repository.filerepo import FileRepository
from reflow.repository.gather import gather_all
from reflow.repository.inputs import VERIFY
from reflow.repository.objectfile import hash_file


class LayeredRepository:
    """``shared`` is what counts, ``local`` is where execs find their files."""

    def __init__(self, local: FileRepository, shared: BlobRepository) -> None:
        self.local = local
        self.shared = shared
        self.root = local.root
        self.is_private = False
        self.may_upload = True
        self._slots = asyncio.Semaphore(MOVED_AT_ONCE)
        self._fetching: dict[Digest, asyncio.Task[None]] = {}
        self._damaged: set[Digest] = set()
        """Objects of the shared repository that are not what they are called: who makes one replaces it."""

    @property
    def url(self) -> str:
        """That of the repository that counts."""
        return self.local.url if self.is_private else self.shared.url

    def keep_private(self) -> None:
        """Use this machine's objects alone from now on: what follows is not for others."""
        self.is_private = True

    def path(self, digest: Digest) -> str:
        """Where the object is on this machine, or would be."""
        return self.local.path(digest)

    def install(self, path: str, *, keep: bool = False) -> File:
        """Take a file over into the objects of this machine. Blocks."""
        return self.local.install(path, keep=keep)

    # Looking.

    async def stat(self, digest: Digest) -> File:
        """Return id and size, from wherever it is. Raises NOT_EXIST."""
        try:
            return await self.local.stat(digest)
        except ReflowError as err:
            if self.is_private or kind_of(err) is not Kind.NOT_EXIST:
                raise
        return await self.shared.stat(digest)

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return what others cannot have, after uploading what only this machine had."""
        if self.is_private:
            return await self.local.missing(digests)
        absent = await self.shared.missing(digests) | self._damaged.intersection(digests)
        if not absent:
            return absent
        sizes = digests if isinstance(digests, Mapping) else {}
        wanted = {digest: sizes[digest] for digest in absent} if sizes else absent
        nowhere = await self.local.missing(wanted)
        if self.may_upload:
            await gather_all([self._upload(digest) for digest in sorted(absent - nowhere)])
        return nowhere

    async def _upload(self, digest: Digest) -> None:
        async with self._slots:
            # What is damaged here must not become everybody's.
            if not await asyncio.to_thread(self.local.directory.verify, digest):
                cause = "the object of this machine is damaged; it was set aside"
                raise ReflowError(Kind.INTEGRITY, "repository.upload", digest, cause=cause)
            await self.shared.upload(await self.local.stat(digest), self.local.path(digest))
            self._damaged.discard(digest)

    async def share(self, paths: Mapping[Digest, str], sizes: Mapping[Digest, int]) -> None:
        """Upload files of a user, by their digests, as far as others do not have them.

        A copy is uploaded whose contents were seen to be right. Raises INVALID for a file that has changed.
        """
        absent = await self.shared.missing(sizes)
        await gather_all(
            [self._share(File(digest, sizes[digest]), paths[digest]) for digest in sorted(absent)]
        )

    async def _share(self, file: File, path: str) -> None:
        async with self._slots:
            copy = f"{self.root}/tmp/share-{Digest.random().short}-{os.getpid()}"
            try:
                found = await asyncio.to_thread(_copy, path, copy)
                if found != file.id:
                    raise ReflowError(
                        Kind.INVALID, "file", path, cause="changed since it was read; run again"
                    )
                await self.shared.upload(file, copy)
            except OSError as err:
                raise translate_error(err, "file", path) from err
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(copy)

    async def find(self, prefix: DigestPrefix) -> list[Digest]:
        """Objects that an abbreviated digest may stand for."""
        found = set(await self.local.find(prefix))
        if not self.is_private:
            found.update(await self.shared.find(prefix))
        return sorted(found)

    # Reading.

    async def fetch(self, files: Iterable[File]) -> None:
        """Bring objects to this machine, as far as the shared repository has them; each is checked.

        What neither has is no error here: it may be a user's own file.
        """
        sizes = {file.id: file.size for file in files if file.id is not None}
        if self.is_private or not sizes:
            return
        absent = await self.local.missing(sizes)
        absent -= await self.shared.missing({digest: sizes[digest] for digest in absent})
        await gather_all([self._fetch_once(File(digest, sizes[digest])) for digest in sorted(absent)])

    async def _fetch_once(self, file: File) -> None:
        """Fetch an object, once for all who want it."""
        assert file.id is not None
        task = self._fetching.get(file.id)
        if task is None:
            task = self._fetching[file.id] = asyncio.create_task(self._fetch(file))
            task.add_done_callback(partial(self._fetched, file.id))
        await asyncio.shield(task)

    def _fetched(self, digest: Digest, task: asyncio.Task[None]) -> None:
        self._fetching.pop(digest, None)
        if not task.cancelled():
            task.exception()  # seen: whoever waited may be gone

    async def _fetch(self, file: File) -> None:
        """Fetch an object. INTEGRITY (operation `VERIFY`) names one that is damaged."""
        assert file.id is not None
        async with self._slots:
            path = f"{self.root}/tmp/download-{Digest.random().short}-{os.getpid()}"
            await asyncio.to_thread(os.makedirs, f"{self.root}/tmp", exist_ok=True)
            try:
                await self.shared.download(file, path)
            except ReflowError as err:
                if kind_of(err) is not Kind.INTEGRITY:
                    raise
                self._damaged.add(file.id)
                cause = f"{err.cause}; it is computed again, and replaced"
                raise ReflowError(Kind.INTEGRITY, VERIFY, file.id, cause=cause) from err
            await asyncio.to_thread(self.local.install, path)

    async def get(self, digest: Digest) -> AsyncIterator[bytes]:
        """Stream an object from wherever it is. Raises NOT_EXIST."""
        is_here = self.is_private or not await self.local.missing([digest])
        source: Repository = self.local if is_here else self.shared
        async for chunk in source.get(digest):
            yield chunk

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read small objects whole; those that had to be fetched are here afterwards."""
        found = dict(await self.local.read_many(digests))
        absent = [digest for digest, data in found.items() if isinstance(data, ReflowError)]
        if self.is_private or not absent:
            return found
        fetched = await self.shared.read_many(absent)
        for each, data in fetched.items():
            if isinstance(data, ReflowError) and kind_of(data) is Kind.INTEGRITY:
                self._damaged.add(each)
        await self.local.put_bytes_many([data for data in fetched.values() if isinstance(data, bytes)])
        return {**found, **fetched}

    # Writing.

    async def put(self, chunks: AsyncIterator[bytes]) -> Digest:
        """Store a stream, here and for all."""
        digest = await self.local.put(chunks)
        if not self.is_private:
            await self.shared.put(self.local.get(digest))
        return digest

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store small objects, here and for all."""
        contents = list(objects)
        digests = await self.local.put_bytes_many(contents)
        if not self.is_private:
            await self.shared.put_bytes_many(contents)
            await gather_all([self._upload(digest) for digest in self._damaged.intersection(digests)])
        return digests

    async def close(self) -> None:
        """Finish what is under way and let go of resources."""
        for task in list(self._fetching.values()):
            task.cancel()
        await self.shared.close()
        await self.local.close()


def _copy(path: str, target: str) -> Digest:
    """Copy a file; the digest of the copy. Raises OSError."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    copy_file(path, target)
    return hash_file(target).digest


if TYPE_CHECKING:
    _repository: type[Repository] = LayeredRepository
    _local: type[LocalFiles] = LayeredRepository
