"""SQLite files, opened and used as all of Reflow's are.

A `Database` is opened on first use. Several processes may use one file at once: whoever finds it locked
tries again, up to a minute. On a local file system the file has a write-ahead log, and work runs where it
is called, because it takes microseconds; on a network file system it has a rollback journal (a log needs
shared memory), and work runs in a thread. What was committed survives the death of the process; after a
power failure the last moments may be missing, but the file is whole.

The schema's number is in ``user_version``, its kind in ``application_id``. An older file is backed up and
migrated in one transaction, a newer one is refused. A damaged file is set aside, and the error says so.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from reflow.core.errors import Kind, ReflowError
from reflow.disk.filesystem import disk_space, is_network

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_T = TypeVar("_T")

BUSY_LIMIT_S = 60.0
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.1

# SQLite's primary result codes.
_PERM, _BUSY, _LOCKED, _READONLY, _IOERR = 3, 5, 6, 8, 10
_CORRUPT, _FULL, _CANTOPEN, _PROTOCOL, _NOTADB = 11, 13, 14, 15, 26
_IS_BUSY = frozenset({_BUSY, _LOCKED, _PROTOCOL})
_IS_DAMAGED = frozenset({_CORRUPT, _NOTADB})
_SUFFIXES = ("", "-wal", "-shm", "-journal")
_LITTLE_SPACE_BYTES = 128 << 10


class Schema(NamedTuple):
    """What is in a file: its name in messages, the statements that make it, and how to get there.

    ``migrations``: version -> statements that lead to the next one. ``loss`` completes the sentence "run
    again: an empty file is made, and …" about a damaged file. ``is_expendable``: nothing is waited for until
    it is on the disk, so that a power failure may damage the file (which is found, and set aside).
    """

    name: str
    application_id: int
    version: int
    create: Sequence[str]
    loss: str
    migrations: Mapping[int, Sequence[str]] = {}
    is_expendable: bool = False


class Database:
    """One SQLite file. May be used from several threads; calls do not overlap."""

    def __init__(self, path: str, schema: Schema) -> None:
        self.path = os.path.abspath(path)
        self.schema = schema
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file was used yet."""
        return self._connection is not None

    @property
    def is_remote(self) -> bool:
        """Whether the file is on a network file system."""
        return is_network(os.path.dirname(self.path))

    def call(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` with the connection, again while the file is locked. Blocks; raises ReflowError.

        ``work`` must be whole in itself: it may be run several times.
        """
        for pause_s in _pauses():
            try:
                return self._attempt(work)
            except _BusyError:
                time.sleep(pause_s)
        raise self._locked_error()

    async def perform(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` as `call` does, without holding up the event loop while it waits."""
        if self.is_remote:
            return await self.start(work)
        for pause_s in _pauses():
            try:
                return self._attempt(work)
            except _BusyError:
                await asyncio.sleep(pause_s)
        raise self._locked_error()

    def try_now(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Run ``work`` once, where it is called; None when the file is locked just now."""
        try:
            return self._attempt(work)
        except _BusyError:
            return None

    def start(self, work: Callable[[sqlite3.Connection], _T]) -> asyncio.Future[_T]:
        """Run ``work`` as `call` does, in a thread, where the file is slow."""
        return asyncio.get_running_loop().run_in_executor(self._pool(), self.call, work)

    def transact(self, work: Callable[[sqlite3.Connection], _T]) -> Callable[[sqlite3.Connection], _T]:
        """``work`` as one transaction that holds the right to write from its beginning."""

        def run(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return run

    def close(self) -> None:
        """Let go of the file; it is opened again when it is used again."""
        with self._lock:
            self._disconnect()
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            # Imported on use: few have their files on a network.
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(1, f"sqlite-{self.schema.name}")
        return self._threads

    def _attempt(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                return work(self._connection)
            except sqlite3.Error as err:
                raise self._translate(err) from err

    # Opening.

    def _open(self) -> sqlite3.Connection:
        try:
            connection = self._connect()
        except sqlite3.OperationalError:
            self._make_directory()
            connection = self._connect()
        try:
            self._prepare(connection)
        except sqlite3.Error as err:
            connection.close()
            if _code(err) in _IS_DAMAGED:
                raise self._set_aside(err) from err
            raise
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Python's own transactions are off (isolation_level), and so is waiting inside SQLite (timeout).
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._inode = os.stat(self.path).st_ino
        except OSError:
            self._inode = 0
        return connection

    def _make_directory(self) -> None:
        directory = os.path.dirname(self.path)
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as err:
            cause = f"{err.strerror}; set REFLOW_HOME to a directory that can be written"
            raise ReflowError(Kind.NOT_ALLOWED, self.schema.name, self.path, cause=cause) from err

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = _pragma(connection, "user_version")
        if version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._check_kind(_pragma(connection, "application_id"))
        if version > self.schema.version:
            raise self._newer_error(version)
        if self.is_remote:
            # The file may have been made elsewhere, with a log.
            connection.execute("PRAGMA journal_mode = DELETE")
        else:
            connection.execute(f"PRAGMA synchronous = {'OFF' if self.schema.is_expendable else 'NORMAL'}")
        if version == 0:
            self._create(connection)
        if 0 < version < self.schema.version:
            self._migrate(connection)

    def _check_kind(self, application_id: int) -> None:
        if application_id != self.schema.application_id:
            cause = f"this file holds something else, no {self.schema.name}; name another file"
            raise ReflowError(Kind.INVALID, self.schema.name, self.path, cause=cause)

    def _newer_error(self, version: int) -> ReflowError:
        cause = (
            f"written by a newer reflow: its schema has version {version}, this program knows"
            f" {self.schema.version}; use the newer reflow, or name another file"
        )
        return ReflowError(Kind.NOT_SUPPORTED, self.schema.name, self.path, cause=cause)

    def _create(self, connection: sqlite3.Connection) -> None:
        if not self.is_remote:
            connection.execute("PRAGMA journal_mode = WAL")

        def work(connection: sqlite3.Connection) -> None:
            if _pragma(connection, "user_version"):
                return  # another process was faster
            for statement in self.schema.create:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self.schema.application_id}")
            connection.execute(f"PRAGMA user_version = {self.schema.version}")

        self.transact(work)(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        def work(connection: sqlite3.Connection) -> None:
            version = _pragma(connection, "user_version")
            if version >= self.schema.version:
                return  # another process was faster
            self._back_up(version)
            for step in range(version, self.schema.version):
                for statement in self.schema.migrations[step]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {self.schema.version}")

        self.transact(work)(connection)

    def _back_up(self, version: int) -> None:
        """Copy the file as it is, while this process holds the right to write, beside it."""
        target = f"{self.path}.v{version}.bak"
        source = sqlite3.connect(self.path)
        copy = sqlite3.connect(f"{target}.part")
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()
        os.replace(f"{target}.part", target)

    # Errors.

    def _translate(self, err: sqlite3.Error) -> Exception:
        code = _code(err)
        if code in _IS_BUSY:
            return _BusyError()
        if code in _IS_DAMAGED:
            self._disconnect()
            return self._set_aside(err)
        name, path = self.schema.name, self.path
        if code == _FULL or (code == _IOERR and self._is_nearly_full()):
            free, total = disk_space(path)
            cause = f"no space left on device: {free} of {total} bytes are free"
            return ReflowError(Kind.RESOURCES_EXHAUSTED, name, path, cause=cause)
        if code in (_READONLY, _PERM, _CANTOPEN):
            cause = f"{err}: this needs to write there; set REFLOW_HOME to a directory that can be written"
            return ReflowError(Kind.NOT_ALLOWED, name, path, cause=cause)
        return ReflowError(Kind.OTHER, name, path, cause=err)

    def _is_nearly_full(self) -> bool:
        return disk_space(self.path)[0] < _LITTLE_SPACE_BYTES

    def _locked_error(self) -> ReflowError:
        cause = f"locked by another process for {BUSY_LIMIT_S:.0f} seconds; end it, or try again later"
        return ReflowError(Kind.UNAVAILABLE, self.schema.name, self.path, cause=cause)

    def _set_aside(self, err: sqlite3.Error) -> ReflowError:
        """Rename the damaged file, unless another process has done so and a new one is in its place."""
        aside = f"{self.path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        try:
            if os.stat(self.path).st_ino == self._inode:
                for suffix in _SUFFIXES:
                    _rename_if_there(self.path + suffix, aside + suffix)
            where = f"set aside as {aside}"
        except OSError as trouble:
            where = f"and it cannot be set aside ({trouble.strerror}): remove it"
        cause = f"damaged ({err}), {where}; run again: an empty file is made, and {self.schema.loss}"
        return ReflowError(Kind.INTEGRITY, self.schema.name, self.path, cause=cause)


class _BusyError(Exception):
    """The file is locked by another process just now."""


def _pauses() -> Iterator[float]:
    """Seconds to wait after each try that failed, for as long as is tried."""
    pause_s = _FIRST_PAUSE_S
    yield pause_s
    deadline = time.monotonic() + BUSY_LIMIT_S
    while time.monotonic() <= deadline:
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        yield pause_s
    yield 0.0  # a last try: this process may have been stopped all the time


def _code(err: sqlite3.Error) -> int:
    """The primary result code; 0 when there is none."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        return
