"""The assoc in an SQLite file: the cache index of this machine.

One row per key, with a column per kind. Times of access are written at most once a day per key, before the
value is handed out: whoever collects garbage meanwhile sees that it is used. Otherwise looking up does not
write.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from reflow.assoc import Assoc, AssocEntry, Collectable, Key, Kind
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.disk.database import Database, Schema

SCHEMA = Schema(
    name="assoc",
    application_id=0x52464C41,
    version=1,
    create=(
        """CREATE TABLE assoc (
            key BLOB PRIMARY KEY,
            value BLOB,
            value_v2 BLOB,
            last_access_s INTEGER NOT NULL,
            access_count INTEGER NOT NULL,
            labels TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
    loss="results are computed again",
)

ACCESS_INTERVAL_S = 86400
_CHUNK = 500
_TURN = 10 * _CHUNK
"""How many keys are looked up before others get their turn."""
_PAGE = 1000
_COLUMNS = {Kind.FILESET: "value", Kind.FILESET_V2: "value_v2"}

_Row = tuple[bytes, bytes | None, bytes | None, int]
_FullRow = tuple[bytes, bytes | None, bytes | None, int, int, str]


class SqliteAssoc:
    """An index in the file at ``path``. ``labels`` (``key=value``) are put on what is written here."""

    def __init__(self, path: str, labels: Collection[str] = ()) -> None:
        self._database = Database(path, SCHEMA)
        self._labels = "\n".join(sorted(labels))
        self._accessed: set[bytes] = set()

    async def open(self) -> None:
        """Open the file now, and make or migrate it."""
        await self._database.perform(_nothing)

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        """Look keys up."""
        rows = await self._rows(list({digest for _, digest in keys}))
        oldest_s = int(time.time()) - ACCESS_INTERVAL_S
        found: dict[Key, Digest | ReflowError] = {}
        stale: set[bytes] = set()
        for key in keys:
            row = rows.get(key[1])
            if row is None:
                continue
            value = row[1] if key[0] is Kind.FILESET else row[2]
            if value is None:
                continue
            found[key] = Digest(value) if len(value) == 32 else _broken(key, value)
            if row[3] < oldest_s and key[1] not in self._accessed:
                stale.add(key[1])
        if not stale:
            return found
        gone = await self._refresh(stale)
        return {key: value for key, value in found.items() if key[1] not in gone} if gone else found

    async def _refresh(self, keys: set[bytes]) -> set[bytes]:
        """Write that rows are used; return the keys of those that have gone meanwhile."""
        now_s = int(time.time())

        def work(connection: sqlite3.Connection) -> set[bytes]:
            if _refresh(connection, keys, now_s) == len(keys):
                return set()
            query = "SELECT 1 FROM assoc WHERE key = ?"
            return {key for key in keys if connection.execute(query, (key,)).fetchone() is None}

        try:
            return await self._database.perform(self._database.transact(work))
        except ReflowError:
            self._accessed |= keys  # it may be possible later, and only collecting garbage looks at it
            return set()

    async def _rows(self, digests: list[Digest]) -> dict[bytes, _Row]:
        rows: dict[bytes, _Row] = {}
        for start in range(0, len(digests), _CHUNK):
            if start and not start % _TURN:
                await asyncio.sleep(0)
            part = digests[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, value, value_v2, last_access_s FROM assoc WHERE key IN ({marks})"
            for row in await self._query(query, part):
                rows[row[0]] = row
        return rows

    async def _query(self, query: str, parameters: Sequence[bytes | int]) -> list[Any]:
        return await self._database.perform(
            lambda connection: connection.execute(query, parameters).fetchall()
        )

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        """Store entries in one transaction."""
        now_s = int(time.time())
        rows: dict[Kind, list[tuple[bytes, bytes, int, str]]] = {}
        for (kind, key), value in entries.items():
            rows.setdefault(kind, []).append((key, value, now_s, self._labels))
        accessed, self._accessed = self._accessed, set()

        def work(connection: sqlite3.Connection) -> None:
            connection.create_function("join_labels", 2, _join_labels, deterministic=True)
            for kind, values in rows.items():
                connection.executemany(_upsert(_COLUMNS[kind]), values)
            _refresh(connection, accessed, now_s)

        try:
            await self._database.perform(self._database.transact(work))
        except BaseException:
            self._accessed |= accessed
            raise

    async def expand(self, prefix: DigestPrefix) -> list[Digest]:
        """Keys that start with some bytes."""
        query = "SELECT key FROM assoc WHERE key BETWEEN ? AND ? ORDER BY key"
        rows = await self._query(query, (prefix.raw, prefix.raw.ljust(33, b"\xff")))
        return [Digest(key) for (key,) in rows]

    async def delete(self, key: Digest) -> None:
        """Remove a key. Raises NOT_EXIST."""
        count = await self._database.perform(
            lambda connection: connection.execute("DELETE FROM assoc WHERE key = ?", (key,)).rowcount
        )
        if not count:
            raise ReflowError(ErrorKind.NOT_EXIST, "assoc.delete", cause=f"key {key} not found")

    async def delete_unused(self, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used since they were scanned; how many were removed."""
        count = 0
        for start in range(0, len(entries), _CHUNK):
            rows = [(entry.key, entry.last_access_s) for entry in entries[start : start + _CHUNK]]
            count += await self._database.perform(self._database.transact(partial(_delete_unused, rows)))
            await asyncio.sleep(0)
        return count

    def scan(self) -> AsyncIterator[AssocEntry]:
        """Every row, by key; rows that come or go meanwhile may be missed."""
        return self.rows()

    async def rows(self, used_since_s: int = 0) -> AsyncIterator[AssocEntry]:
        """Every row, or those used since a time; by key."""
        last = b""
        query = f"SELECT * FROM assoc WHERE key > ? AND last_access_s >= ? ORDER BY key LIMIT {_PAGE}"
        while True:
            rows: list[_FullRow] = await self._query(query, (last, used_since_s))
            for row in rows:
                yield _entry(row)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    async def count(self) -> int:
        """Number of rows."""
        ((number,),) = await self._query("SELECT count(*) FROM assoc", ())
        return int(number)

    async def close(self) -> None:
        """Write times of access, if that is possible, and close the file."""
        try:
            if self._accessed:
                await self.put_many({})
        except ReflowError:
            return  # only collecting garbage looks at these times
        finally:
            self._database.close()


def _upsert(column: str) -> str:
    """The statement that stores one kind of value: every entry counts as an access, labels only grow."""
    return (
        f"INSERT INTO assoc (key, {column}, last_access_s, access_count, labels) VALUES (?, ?, ?, 1, ?)"
        f" ON CONFLICT (key) DO UPDATE SET {column} = excluded.{column},"
        " last_access_s = excluded.last_access_s, access_count = access_count + 1,"
        " labels = CASE labels WHEN excluded.labels THEN labels ELSE join_labels(labels, excluded.labels) END"
    )


def _join_labels(old: str, new: str) -> str:
    return "\n".join(sorted({*old.split("\n"), *new.split("\n")} - {""}))


def _refresh(connection: sqlite3.Connection, keys: Iterable[bytes], now_s: int) -> int:
    """Set the time of access; how many of the keys there are."""
    statement = "UPDATE assoc SET last_access_s = ?, access_count = access_count + 1 WHERE key = ?"
    return connection.executemany(statement, [(now_s, key) for key in keys]).rowcount


def _delete_unused(rows: Sequence[tuple[bytes, int]], connection: sqlite3.Connection) -> int:
    statement = "DELETE FROM assoc WHERE key = ? AND last_access_s = ?"
    return connection.executemany(statement, rows).rowcount


def _broken(key: Key, value: bytes) -> ReflowError:
    cause = f"value has {len(value)} bytes, want 32"
    return ReflowError(ErrorKind.INVALID, "assoc.get", f"{key[1]}:{key[0]}", cause=cause)


def _entry(row: _FullRow) -> AssocEntry:
    key, value, value_v2, last_access_s, _, labels = row
    values = {Kind.FILESET: value, Kind.FILESET_V2: value_v2}
    return AssocEntry(
        Digest(key),
        {kind: Digest(each) for kind, each in values.items() if each is not None},
        last_access_s,
        frozenset(labels.split("\n")) - {""},
    )


def _nothing(connection: sqlite3.Connection) -> None:
    """Opening the file was all that was wanted."""


if TYPE_CHECKING:
    _: type[Assoc] = SqliteAssoc
    _collectable: type[Collectable] = SqliteAssoc
