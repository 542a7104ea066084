"""What a collection knows, on disk: it may be more than memory holds, and some of it helps the next one.

In a directory for each pair of stores: which objects are referred to (`DigestBins`), which files each value
object names, and which entries were removed. Values never change: what was read of them by a collection that
was killed is not read again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from reflow.assoc import AssocEntry, Kind
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.disk.database import Database, Schema
from reflow.disk.digestbins import DigestBins

_SCHEMA = Schema(
    name="collect",
    application_id=0x52464C43,
    version=1,
    create=(
        "CREATE TABLE value (digest BLOB PRIMARY KEY, files BLOB NOT NULL, noted INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE removed (key BLOB PRIMARY KEY, value BLOB, value_v2 BLOB, labels TEXT NOT NULL)"
        " WITHOUT ROWID",
    ),
    loss="values are read again",
)
_CHUNK = 500
_MARKS = 8
"""More than there are marks."""


class CollectState:
    """The state of one collection at ``directory``, which nobody else uses meanwhile (UNAVAILABLE)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = _lock(directory)
        self.references = DigestBins(f"{directory}/references")
        self._database = Database(f"{directory}/collect.db", _SCHEMA)
        self._epoch = 0

    async def open(self) -> None:
        """Begin: nothing is noted, nothing was removed, but values that were read are known."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM removed")
            (last,) = connection.execute("SELECT coalesce(max(noted), 0) FROM value").fetchone()
            return int(last) // _MARKS + 1

        await self._database.perform(_hurry)
        self._epoch = await self._database.perform(self._database.transact(work))

    # Values.

    async def notes(self, values: Collection[Digest]) -> dict[Digest, int]:
        """The marks with which values, and the files that they name, were noted in this collection."""
        rows = await self._chosen("SELECT digest, noted FROM value WHERE digest IN", values)
        return {Digest(row[0]): row[1] % _MARKS for row in rows if row[1] // _MARKS == self._epoch}

    async def files(self, values: Collection[Digest]) -> dict[Digest, list[Digest]]:
        """The files that values name, of those that were read."""
        rows = await self._chosen("SELECT digest, files FROM value WHERE digest IN", values)
        return {Digest(row[0]): _split(row[1]) for row in rows}

    async def _chosen(self, query: str, digests: Collection[Digest]) -> list[Any]:
        wanted, rows = list(digests), []
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            text = f"{query} ({','.join('?' * len(part))})"
            rows += await self._query(text, part)
        return rows

    async def _query(self, text: str, parameters: Sequence[bytes]) -> list[Any]:
        return await self._database.perform(
            lambda connection: connection.execute(text, parameters).fetchall()
        )

    async def note(self, values: Mapping[Digest, Collection[Digest]], mark: int) -> None:
        """Note values and the files that they name as referred to."""
        if not values:
            return
        for value, files in values.items():
            self.references.add((value, *files), mark)
        noted = self._epoch * _MARKS + mark
        rows = [(value, b"".join(files), noted) for value, files in values.items()]
        statement = (
            "INSERT INTO value (digest, files, noted) VALUES (?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET noted = max(noted, excluded.noted)"
        )
        await self._change(statement, rows)

    async def _change(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, rows)

        await self._database.perform(self._database.transact(work))

    # Entries.

    async def add_removed(self, entries: Iterable[AssocEntry]) -> None:
        """Remember entries that are removed."""
        rows = [
            (entry.key, *[entry.values.get(kind) for kind in Kind], "\n".join(sorted(entry.labels)))
            for entry in entries
        ]
        await self._change("INSERT OR REPLACE INTO removed VALUES (?, ?, ?, ?)", rows)

    async def removed(self, keys: Collection[Digest]) -> list[AssocEntry]:
        """Of these keys, the entries that were removed, as they were."""
        rows = await self._chosen("SELECT * FROM removed WHERE key IN", keys)
        return [_entry(row) for row in rows]

    def close(self, *, is_done: bool) -> None:
        """Let go; with ``is_done`` nothing is kept."""
        self._database.close()
        try:
            if is_done:
                shutil.rmtree(self._directory, ignore_errors=True)
        finally:
            os.close(self._lock)


def _hurry(connection: sqlite3.Connection) -> None:
    """Wait for no disk: what a power failure takes is read again."""
    connection.execute("PRAGMA synchronous = OFF")


def _lock(directory: str) -> int:
    try:
        os.makedirs(directory, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        cause = f"{err.strerror}; set REFLOW_HOME to a directory that can be written"
        raise ReflowError(ErrorKind.NOT_ALLOWED, "collect", directory, cause=cause) from err
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        os.close(descriptor)
        cause = "another collect of these stores is under way: wait for its end"
        raise ReflowError(ErrorKind.UNAVAILABLE, "collect", directory, cause=cause) from err
    except OSError:
        pass  # a file system without locks: then there is none
    return descriptor


def _split(files: bytes) -> list[Digest]:
    return [Digest(files[start : start + 32]) for start in range(0, len(files), 32)]


def _entry(row: Sequence[Any]) -> AssocEntry:
    key, value, value_v2, labels = row
    values: Iterator[tuple[Kind, bytes | None]] = zip(Kind, (value, value_v2), strict=True)
    return AssocEntry(
        Digest(key),
        {kind: Digest(each) for kind, each in values if each is not None},
        0,
        frozenset(labels.split("\n")) - {""},
    )
