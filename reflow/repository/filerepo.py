"""A repository in a directory of this machine (or of a network file system).

An object appears whole or not at all: it is written under a temporary name and renamed. It has mode 0444
and one fixed modification time (gzip embeds times, and a changed one tells that somebody wrote to it).
Several processes, also on several machines, may use one root: equal names mean equal contents, so whoever
renames last does no harm.

Objects are not forced to the disk one by one: that would cost milliseconds each, and a killed process
loses nothing by it. After a power failure an object may be short. That is noticed where it matters:
`missing` counts an object of another size (or empty) as absent, small objects are hashed whenever they are
read, and objects with another time are hashed before they are believed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.core.fileset import File
from reflow.disk.filesystem import is_network, translate_error
from reflow.repository import LocalFiles, Repository
from reflow.repository.objectdir import ObjectDirectory
from reflow.repository.objectfile import (
    OBJECT_MODE,
    OBJECT_TIME_NS,
    ObjectReader,
    ObjectWriter,
    hash_file,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_T = TypeVar("_T")

CHUNK_BYTES = 1 << 20
_THREADS = 4
_NETWORK_THREADS = 16
_SLICE = 1000
"""How many small pieces of work are done before others get their turn."""
_NETWORK_SLICE = 64
_STALE_S = 86400


class FileRepository:
    """Objects below ``root``. ``directory`` has what blocks: paths, housekeeping, verification."""

    def __init__(self, root: str) -> None:
        self.directory = ObjectDirectory(root)
        self.root = self.directory.root
        self._threads: ThreadPoolExecutor | None = None

    @property
    def url(self) -> str:
        """``file://`` and the root."""
        return f"file://{self.root}"

    def path(self, digest: Digest) -> str:
        """Where the object is, or would be."""
        return self.directory.path(digest)

    # Looking.

    async def stat(self, digest: Digest) -> File:
        """Return id and size. Raises NOT_EXIST."""
        path = self.path(digest)
        try:
            return File(digest, os.stat(path).st_size)
        except OSError as err:
            raise translate_error(err, "repository.stat", path) from err

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those that are not here; given digest -> size, also those of another size."""
        sizes = digests if isinstance(digests, Mapping) else {}
        sort_out = self.directory.sort_out
        if is_network(self.root):
            slices = [list(part) for part in _slices(digests, _NETWORK_SLICE)]
            found = await asyncio.gather(*[self._in_thread(sort_out, part, sizes) for part in slices])
        else:
            found = []
            for part in _slices(digests, _SLICE):
                if found:
                    await asyncio.sleep(0)
                found.append(sort_out(part, sizes))
        absent = {digest for each, _ in found for digest in each}
        for digest in [digest for _, doubtful in found for digest in doubtful]:
            if not await self._in_thread(self.directory.verify, digest):
                absent.add(digest)
        return absent

    async def find(self, prefix: DigestPrefix) -> list[Digest]:
        """Objects that an abbreviated digest may stand for."""
        return await self._in_thread(self.directory.find, prefix)

    # Reading.

    async def get(self, digest: Digest) -> AsyncIterator[bytes]:
        """Stream an object. Raises NOT_EXIST."""
        path = self.path(digest)
        try:
            reader = ObjectReader(path)
            try:
                while chunk := await self._in_thread(reader.read, CHUNK_BYTES):
                    yield chunk
            finally:
                reader.close()
        except OSError as err:
            raise translate_error(err, "repository.get", path) from err

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read small objects whole, and check them."""
        if is_network(self.root):
            work = [self._in_thread(self._read, digest) for digest in digests]
            return dict(zip(digests, await asyncio.gather(*work), strict=True))
        found: dict[Digest, bytes | ReflowError] = {}
        for part in _slices(digests, _SLICE):
            if found:
                await asyncio.sleep(0)
            for digest in part:
                data = self._read_small(digest, CHUNK_BYTES)
                found[digest] = await self._in_thread(self._read, digest) if data is None else data
        return found

    def _read(self, digest: Digest) -> bytes | ReflowError:
        data = self._read_small(digest, None)
        assert data is not None
        return data

    def _read_small(self, digest: Digest, limit: int | None) -> bytes | ReflowError | None:
        """The bytes, or the error; None when there are more than ``limit``."""
        path = self.path(digest)
        try:
            reader = ObjectReader(path)
            try:
                data = reader.read_all(limit)
            finally:
                reader.close()
        except OSError as err:
            return translate_error(err, "repository.get", path)
        if data is None or sha256(data).digest() == digest:
            return data
        aside = self.directory.set_aside(digest)
        cause = f"contents do not have this digest; set aside as {aside}"
        return ReflowError(Kind.INTEGRITY, "repository.get", path, cause=cause)

    # Writing.

    async def put(self, chunks: AsyncIterator[bytes]) -> Digest:
        """Store a stream."""
        first: list[bytes] = []
        size = 0
        async for chunk in chunks:
            first.append(chunk)
            size += len(chunk)
            if size > CHUNK_BYTES:
                return await self._put_large(first, chunks)
        (digest,) = await self.put_bytes_many([b"".join(first)])
        return digest

    async def _put_large(self, first: list[bytes], rest: AsyncIterator[bytes]) -> Digest:
        writer = self.directory.writer()
        try:
            for chunk in first:
                await self._in_thread(writer.write, chunk)
            first.clear()
            async for chunk in rest:
                await self._in_thread(writer.write, chunk)
            return await self._in_thread(self._finish, writer)
        finally:
            writer.discard()

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store small objects."""
        digests = []
        remote = is_network(self.root)
        for data in objects:
            if remote or len(data) > CHUNK_BYTES:
                digests.append(await self._in_thread(self._put_bytes, data))
            else:
                digests.append(self._put_bytes(data))
            if not len(digests) % _SLICE:
                await asyncio.sleep(0)
        return digests

    def _put_bytes(self, data: bytes) -> Digest:
        digest = Digest(sha256(data).digest())
        if self.directory.is_intact(digest, len(data)):
            return digest
        writer = self.directory.writer()
        try:
            writer.write_only(data, digest)
            return self._finish(writer)
        finally:
            writer.discard()

    def _finish(self, writer: ObjectWriter) -> Digest:
        """Close what was written, and give it its name."""
        digest, size = writer.close()
        if not self.directory.is_intact(digest, size):
            self.directory.move_in(writer.path, digest)
            writer.is_there = False
        return digest

    def install(self, path: str, *, keep: bool = False) -> File:
        """Hash a file and take it over; with ``keep`` it stays there as well. Blocks.

        It is moved (or linked) when it can be; a file with further names (hard links), of another owner, or
        of another device is copied. Raises INVALID for what is no regular file, or changed while it was read.
        """
        try:
            stream = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            if os.path.islink(path):
                raise _refusal(path, "is a symbolic link, want a regular file") from err
            raise translate_error(err, "repository.install", path) from err
        try:
            return self._install(path, stream, keep)
        except OSError as err:
            raise translate_error(err, "repository.install", path) from err
        finally:
            os.close(stream)

    def copy_in(self, path: str) -> File:
        """Store a copy of a file (of what a link leads to); it stays as it is. Blocks. Raises ReflowError."""
        try:
            stream = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            raise translate_error(err, "repository.copy_in", path) from err
        try:
            if not stat.S_ISREG(os.fstat(stream).st_mode):
                raise _refusal(path, "is no regular file")
            return File(*self._copy(path, stream))
        except OSError as err:
            raise translate_error(err, "repository.copy_in", path) from err
        finally:
            os.close(stream)

    def _install(self, path: str, stream: int, keep: bool) -> File:
        before = os.fstat(stream)
        if not stat.S_ISREG(before.st_mode):
            raise _refusal(path, "is no regular file")
        is_movable = before.st_nlink == 1 and before.st_dev == self.directory.device()
        digest, size = hash_file(stream) if is_movable else self._copy(path, stream)
        after = os.fstat(stream)
        if (before.st_size, before.st_mtime_ns) != (
            after.st_size,
            after.st_mtime_ns,
        ) or size != after.st_size:
            raise _refusal(path, "changed while it was read")
        if is_movable and not self.directory.is_intact(digest, size):
            if _is_dressed(stream):
                if not keep:
                    self.directory.move_in(path, digest)
                    return File(digest, size)
                if self.directory.link_in(path, digest):
                    return File(digest, size)
            os.lseek(stream, 0, os.SEEK_SET)
            if self._copy(path, stream) != (digest, size):
                raise _refusal(path, "changed while it was read")
        if not keep:
            os.unlink(path)
        return File(digest, size)

    def _copy(self, path: str, stream: int) -> tuple[Digest, int]:
        """Copy an open file into the repository, hashing what is written."""
        writer = self.directory.writer()
        try:
            while chunk := os.read(stream, CHUNK_BYTES):
                writer.write(chunk)
            return self._finish(writer), writer.size
        except ReflowError as err:
            raise ReflowError(err.kind, "repository.install", path, cause=err) from err
        finally:
            writer.discard()

    async def close(self) -> None:
        """End the threads, and delete what killed processes left half-written long ago."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        self.directory.sweep(time.time() - _STALE_S)

    def _in_thread(self, work: Callable[..., _T], *args: object) -> asyncio.Future[_T]:
        if self._threads is None:
            # Imported on use: a cached run moves no large objects.
            from concurrent.futures import ThreadPoolExecutor

            count = _NETWORK_THREADS if is_network(self.root) else _THREADS
            self._threads = ThreadPoolExecutor(count, "repository")
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _refusal(path: str, cause: str) -> ReflowError:
    return ReflowError(Kind.INVALID, "repository.install", path, cause=cause)


def _is_dressed(stream: int) -> bool:
    """Give an open file an object's mode and time; False when it is another user's."""
    try:
        os.fchmod(stream, OBJECT_MODE)
        os.utime(stream, ns=(OBJECT_TIME_NS, OBJECT_TIME_NS))
    except PermissionError:
        return False
    return True


def _slices(items: Collection[Digest], length: int) -> Iterator[Iterable[Digest]]:
    if len(items) <= length:
        yield items
        return
    rest = iter(items)
    while part := list(itertools.islice(rest, length)):
        yield part


if TYPE_CHECKING:
    _repository: type[Repository] = FileRepository
    _local: type[LocalFiles] = FileRepository
