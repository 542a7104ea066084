"""Removing old entries of an index that others use."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from reflow.assoc import AssocEntry, Kind
from reflow.assoc.memory import MemoryAssoc
from reflow.assoc.sqlite import ACCESS_INTERVAL_S, SqliteAssoc
from reflow.core.digest import Digest

A, B, V = (Digest.of(name) for name in (b"a", b"b", b"v"))
NEW = Kind.FILESET_V2


def age(path: str) -> None:
    """Have every entry used two days ago."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE assoc SET last_access_s = ?", (int(time.time()) - 2 * ACCESS_INTERVAL_S,))
    connection.close()


async def scanned(assoc: SqliteAssoc | MemoryAssoc) -> list[AssocEntry]:
    return [entry async for entry in assoc.scan()]


async def test_entries_that_were_not_used_go(tmp_path: Path) -> None:
    assoc = SqliteAssoc(str(tmp_path / "assoc.db"))
    await assoc.put_many({(NEW, Digest.of(b"%d" % number)): V for number in range(1200)})
    assert await assoc.delete_unused(await scanned(assoc)) == 1200
    assert await assoc.count() == 0
    await assoc.close()


async def test_an_entry_that_is_looked_up_meanwhile_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "assoc.db")
    assoc, other = SqliteAssoc(path), SqliteAssoc(path)
    await assoc.put_many({(NEW, A): V, (NEW, B): V})
    age(path)
    old = await scanned(assoc)
    assert await other.get_many([(NEW, A)]) == {(NEW, A): V}
    assert await assoc.delete_unused(old) == 1
    assert [entry.key for entry in await scanned(assoc)] == [A]
    await other.close()
    await assoc.close()


async def test_an_entry_that_goes_while_it_is_looked_up_is_a_miss(tmp_path: Path) -> None:
    path = str(tmp_path / "assoc.db")
    assoc = SqliteAssoc(path)
    await assoc.put_many({(NEW, A): V, (NEW, B): V})
    age(path)
    read = assoc._rows

    async def slow_read(digests: list[Digest]) -> object:
        found = await read(digests)
        other = SqliteAssoc(path)
        await other.delete(A)
        await other.close()
        return found

    assoc._rows = slow_read  # type: ignore[method-assign,assignment]
    assert await assoc.get_many([(NEW, A), (NEW, B)]) == {(NEW, B): V}
    await assoc.close()


async def test_an_index_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    path = str(tmp_path / "assoc.db")
    assoc = SqliteAssoc(path)
    await assoc.put_many({(NEW, A): V})
    age(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TRIGGER no BEFORE UPDATE ON assoc BEGIN SELECT RAISE(ABORT, 'no'); END")
    connection.close()
    assert await assoc.get_many([(NEW, A)]) == {(NEW, A): V}
    await assoc.close()


async def test_in_memory(tmp_path: Path) -> None:
    assoc = MemoryAssoc()
    await assoc.put_many({(NEW, A): V, (NEW, B): V})
    old = await scanned(assoc)
    await assoc.put_many({(NEW, A): B})
    assert await assoc.delete_unused(old) == 1
    assert [entry.key for entry in await scanned(assoc)] == [A]
