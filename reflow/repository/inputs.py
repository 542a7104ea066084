"""Local input files: hashed before evaluation, remembered between runs, found again by digest.

A file is read once, in threads, unless it was read before and has not changed since: digests are
remembered by device, inode, size and times. A record is made only when both times lay well before the
reading began, because a change right after it might leave them as they were.

Whoever runs an exec asks `LocalInputs.locate` where contents are, and afterwards `check_unchanged` whether
they still are what was hashed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.signature import Signature
from reflow.disk.database import Database
from reflow.disk.filesystem import is_network, translate_error
from reflow.repository.filerepo import FileRepository
from reflow.repository.hashing import HashProgress, InputFile, hash_in_threads, hash_inline
from reflow.repository.localstate import signed
from reflow.repository.objectfile import OBJECT_TIME_NS, hash_file

VERIFY = "inputs.verify"
"""The operation of errors that tell of a corrupt object, which was set aside."""

_MARGIN_NS = 2 * 10**9
_FOREIGN_CLOCK_NS = 600 * 10**9
"""How far the clock of a network file system that we do not write to may be off."""

_SLICE = 500
_INLINE_BYTES = 4 << 20
_INLINE_FILES = 2000


class LocalInputs:
    """The user's files of one run, and the repository's objects.

    ``trouble``: why nothing could be remembered, if so. It costs time only, so it is no error.
    """

    def __init__(self, state: Database, repository: FileRepository) -> None:
        self.state = state
        self.repository = repository
        self.trouble: ReflowError | None = None
        self._users: dict[Digest, dict[InputFile, None]] = {}
        self._given: dict[Digest, dict[InputFile, None]] = {}
        self._sizes: dict[Digest, int] = {}
        self._network: dict[int, bool] = {}

    async def hash_all(self, files: Sequence[InputFile], progress: HashProgress | None = None) -> None:
        """Give every file its digests; read those that are not remembered. Raises ReflowError naming one.

        When this is cancelled, reading stops within a piece of 1 MiB; what was read is remembered.
        """
        distinct = await self._recall(files)
        unknown = [same[0] for same in distinct.values() if not same[0].is_hashed]
        if unknown:
            clocks = self._clocks(unknown)
            try:
                await self._read(unknown, progress)
            finally:
                self._remember([file for file in unknown if file.is_hashed], clocks)
        for first, *others in distinct.values():
            for other in others:
                other.supply(first.digest, first.data_digest, first.signature)
        self.adopt(files)

    def adopt(self, files: Iterable[InputFile]) -> None:
        """Let `locate` find files that have their digests already."""
        for file in files:
            self._users.setdefault(file.digest, {})[file] = None

    async def _recall(self, files: Sequence[InputFile]) -> dict[tuple[int, int] | str, list[InputFile]]:
        """Supply remembered digests; return the files by identity."""
        distinct: dict[tuple[int, int] | str, list[InputFile]] = {}
        unknown: dict[tuple[int, int], Signature] = {}
        for index, file in enumerate(files):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            identity: tuple[int, int] | str = file.path
            try:
                signature = Signature.of(os.stat(file.path))
                identity = (signature.device, signature.inode)
                if not file.is_hashed:
                    unknown[identity] = signature
            except OSError:
                pass  # reading it will tell why
            distinct.setdefault(identity, []).append(file)
        if unknown and self._is_state_there():
            await self._supply(unknown, distinct)
        return distinct

    def _is_state_there(self) -> bool:
        """Whether there is anything to remember: looking must not make an empty file."""
        return os.path.exists(self.state.path)

    async def _supply(
        self,
        wanted: dict[tuple[int, int], Signature],
        distinct: dict[tuple[int, int] | str, list[InputFile]],
    ) -> None:
        try:
            rows = await self.state.perform(lambda connection: _select(connection, wanted))
        except ReflowError as err:
            self.trouble = err
            return
        for identity, (times, file_digest, data_digest) in rows.items():
            signature = wanted[identity]
            if signature[2:] != times:
                continue
            for file in distinct[identity]:
                file.supply(file_digest, data_digest, signature)

    async def _read(self, files: list[InputFile], progress: HashProgress | None) -> None:
        size = sum(file.size for file in files)
        remote = any(self._is_network(file) for file in files)
        if size <= _INLINE_BYTES and len(files) <= _INLINE_FILES and not remote:
            await hash_inline(files, progress)
        else:
            await hash_in_threads(files, progress, is_remote=remote)

    def _is_network(self, file: InputFile) -> bool:
        device = file.signature.device
        known = self._network.get(device)
        if known is None:
            known = self._network[device] = is_network(os.path.dirname(os.path.abspath(file.path)))
        return known

    def _clocks(self, files: Iterable[InputFile]) -> dict[int, int]:
        """Device -> the time there, just now, in nanoseconds; early rather than late."""
        clocks = {}
        for file in files:
            device = file.signature.device
            if device not in clocks:
                clocks[device] = self._clock_ns(device, remote=self._is_network(file))
        return clocks

    def _clock_ns(self, device: int, *, remote: bool) -> int:
        directory = os.path.dirname(self.state.path)
        try:
            os.makedirs(directory, exist_ok=True)
            if os.stat(directory).st_dev == device:
                return _touch_ns(directory)
        except OSError as err:
            self.trouble = translate_error(err, "inputs", directory)
        return time.time_ns() - (_FOREIGN_CLOCK_NS if remote else 0)

    def _remember(self, files: list[InputFile], clocks: dict[int, int]) -> None:
        rows = []
        for file in files:
            signature = file.signature
            limit_ns = clocks.get(signature.device, 0) - _MARGIN_NS
            if signature.mtime_ns < limit_ns and signature.ctime_ns < limit_ns:
                rows.append((*map(signed, signature), file.digest, file.data_digest))
        if not rows:
            return
        statement = "INSERT OR REPLACE INTO hashed VALUES (?, ?, ?, ?, ?, ?, ?)"
        try:
            self.state.call(self.state.transact(lambda connection: connection.executemany(statement, rows)))
        except ReflowError as err:
            self.trouble = err

    # Contents for execs. These block, and may be called from threads.

    def locate(self, digest: Digest) -> tuple[str, bool]:
        """Return a path with these contents, and whether it is a user's own file. Raises NOT_EXIST."""
        path = self.repository.path(digest)
        try:
            status = os.stat(path)
            if status.st_mtime_ns == OBJECT_TIME_NS or self.repository.directory.verify(digest):
                self._sizes[digest] = status.st_size
                return path, False
        except FileNotFoundError:
            pass
        except OSError as err:
            raise translate_error(err, "inputs.locate", path) from err
        users = self._users.get(digest)
        if not users:
            raise ReflowError(Kind.NOT_EXIST, "inputs.locate", digest, cause=f"not in {self.repository.url}")
        for file in users:
            if _difference(file) is None:
                self._given.setdefault(digest, {})[file] = None
                return os.path.abspath(file.path), True
        raise _changed_error(next(iter(users)))

    def check_unchanged(self, digest: Digest) -> None:
        """Check what `locate` found. INVALID names a user's file, INTEGRITY an altered object."""
        path = self.repository.path(digest)
        size = self._sizes.get(digest)
        if size is not None:
            self._check_object(digest, path, size)
        for file in self._given.get(digest, ()):
            if _difference(file) is not None:
                raise _changed_error(file)

    def keep(self, digest: Digest) -> str:
        """Return an object's path; of a user's file, a copy is stored first. Raises as `locate`.

        INVALID names a file that is no longer what was hashed.
        """
        path, is_users = self.locate(digest)
        if not is_users:
            return path
        if self.repository.copy_in(path).id != digest:
            cause = "changed since it was read, though its size and times did not; run again"
            raise ReflowError(Kind.INVALID, "file", path, cause=cause)
        return self.repository.path(digest)

    @property
    def epoch(self) -> int | None:
        """How many objects were set aside; see `reflow.pool.InputLocator`."""
        return self.repository.directory.set_aside_count

    def check_contents(self, digest: Digest) -> None:
        """Hash what `locate` found once more, whatever its size and times say.

        INVALID names a user's file. INTEGRITY (operation `VERIFY`) names an object, which is set aside: it
        was corrupt before any command had it, so computing it again is of use.
        """
        path, is_users = self.locate(digest)
        try:
            found = hash_file(path).digest
        except OSError as err:
            raise translate_error(err, VERIFY, path) from err
        if found == digest:
            return
        if is_users:
            cause = "its contents changed since it was read, though its size and times did not; run again"
            raise ReflowError(Kind.INVALID, "file", path, cause=cause)
        self._sizes.pop(digest, None)
        aside = self.repository.directory.set_aside(digest)
        cause = f"its contents are those of {found}, though its size and time are right; set aside as {aside}"
        raise ReflowError(Kind.INTEGRITY, VERIFY, path, cause=cause)

    def _check_object(self, digest: Digest, path: str, size: int) -> None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            cause = "removed while a command had it as input"
            raise ReflowError(Kind.INTEGRITY, "inputs", path, cause=cause) from None
        except OSError as err:
            raise translate_error(err, "inputs", path) from err
        if status.st_size == size and status.st_mtime_ns == OBJECT_TIME_NS:
            return
        # Its time changed; when its contents did not, nothing happened.
        if not self.repository.directory.verify(digest):
            del self._sizes[digest]
            cause = (
                "altered while a command had it as input (commands must not write to /arg);"
                f" set aside in {self.repository.root}/damaged"
            )
            raise ReflowError(Kind.INTEGRITY, "inputs", path, cause=cause)


def _select(
    connection: sqlite3.Connection, wanted: dict[tuple[int, int], Signature]
) -> dict[tuple[int, int], tuple[tuple[int, int, int], Digest, Digest]]:
    """Remembered (size, mtime, ctime), file digest and data digest, by device and inode."""
    by_device: dict[int, list[int]] = {}
    for device, inode in wanted:
        by_device.setdefault(device, []).append(inode)
    found = {}
    for device, inodes in by_device.items():
        for start in range(0, len(inodes), _SLICE):
            part = inodes[start : start + _SLICE]
            marks = ",".join("?" * len(part))
            query = f"SELECT * FROM hashed WHERE device = ? AND inode IN ({marks})"
            for row in connection.execute(query, (signed(device), *map(signed, part))):
                inode, size, mtime_ns, ctime_ns, file_digest, data_digest = row[1:]
                identity = (device, inode & ((1 << 64) - 1))
                found[identity] = ((size, mtime_ns, ctime_ns), Digest(file_digest), Digest(data_digest))
    return found


def _touch_ns(directory: str) -> int:
    """The file system's own time, read off a new file. Raises OSError."""
    path = f"{directory}/.clock-{os.getpid()}-{os.urandom(4).hex()}"
    stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        return os.fstat(stream).st_mtime_ns
    finally:
        os.close(stream)
        os.unlink(path)


def _difference(file: InputFile) -> str | None:
    """How a user's file differs from what was hashed; None when it does not."""
    try:
        now = Signature.of(os.stat(file.path))
    except OSError as err:
        return err.strerror or str(err)
    then = file.signature
    if now == then:
        return None
    if now.size != then.size:
        return f"it had {then.size} bytes and has {now.size}"
    return "it was replaced" if now[:2] != then[:2] else "its time of change is another"


def _changed_error(file: InputFile) -> ReflowError:
    cause = f"changed since it was read: {_difference(file) or 'for a moment'}; run again"
    return ReflowError(Kind.INVALID, "file", file.path, cause=cause)
