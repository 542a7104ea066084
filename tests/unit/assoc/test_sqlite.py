import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow.assoc import Kind
from reflow.assoc.sqlite import ACCESS_INTERVAL_S, SCHEMA, SqliteAssoc
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

A, B, V = (Digest.of(name) for name in (b"a", b"b", b"v"))
NEW = Kind.FILESET_V2


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "assoc.db")


@pytest.fixture
async def assoc(path: str) -> AsyncIterator[SqliteAssoc]:
    assoc = SqliteAssoc(path, ["user=jo"])
    yield assoc
    await assoc.close()


def rows(path: str, columns: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT {columns} FROM assoc ORDER BY key").fetchall()
    finally:
        connection.close()


def change(path: str, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


async def test_entries_outlive_the_process(assoc: SqliteAssoc, path: str) -> None:
    await assoc.put_many({(NEW, A): V})
    other = SqliteAssoc(path)
    assert await other.get_many([(NEW, A)]) == {(NEW, A): V}
    await other.close()


async def test_looking_up_does_not_write(assoc: SqliteAssoc, path: str) -> None:
    await assoc.put_many({(NEW, A): V})
    before = rows(path, "last_access_s, access_count")
    for _ in range(3):
        await assoc.get_many([(NEW, A)])
    await assoc.close()
    assert rows(path, "last_access_s, access_count") == before == [(before[0][0], 1)]


async def test_access_is_noted_once_a_day(assoc: SqliteAssoc, path: str) -> None:
    await assoc.put_many({(NEW, A): V, (NEW, B): V})
    now_s = int(time.time())
    change(path, "UPDATE assoc SET last_access_s = ? WHERE key = ?", now_s - ACCESS_INTERVAL_S - 5, A)
    change(path, "UPDATE assoc SET last_access_s = ? WHERE key = ?", now_s - ACCESS_INTERVAL_S + 60, B)
    await assoc.get_many([(NEW, A), (NEW, B)])
    await assoc.get_many([(NEW, A), (NEW, B)])
    await assoc.close()
    times = {key: (time_s, count) for key, time_s, count in rows(path, "key, last_access_s, access_count")}
    assert times[B] == (now_s - ACCESS_INTERVAL_S + 60, 1)
    assert times[A][1] == 2
    assert times[A][0] >= now_s  # type: ignore[operator]


async def test_labels_only_grow(assoc: SqliteAssoc, path: str) -> None:
    await assoc.put_many({(NEW, A): V})
    other = SqliteAssoc(path, ["user=mia", "project=x"])
    await other.put_many({(NEW, A): V})
    await assoc.put_many({(NEW, A): V})
    (entry,) = [entry async for entry in other.scan()]
    assert entry.labels == {"user=jo", "user=mia", "project=x"}
    await other.close()


async def test_a_broken_value_has_an_error_of_its_own(assoc: SqliteAssoc, path: str) -> None:
    await assoc.put_many({(NEW, A): V, (NEW, B): V})
    change(path, "UPDATE assoc SET value_v2 = x'00' WHERE key = ?", A)
    found = await assoc.get_many([(NEW, A), (NEW, B)])
    broken = found[NEW, A]
    assert isinstance(broken, ReflowError)
    assert (broken.kind, found[NEW, B]) == (ErrorKind.INVALID, V)


async def test_a_damaged_file_says_what_is_lost(path: str) -> None:
    Path(path).write_bytes(b"\0" * 5000)
    assoc = SqliteAssoc(path)
    with pytest.raises(ReflowError, match="run again: an empty file is made, and results are computed again"):
        await assoc.get_many([(NEW, A)])
    await assoc.put_many({(NEW, A): V})
    assert await assoc.get_many([(NEW, A)]) == {(NEW, A): V}
    await assoc.close()


async def test_a_newer_file_is_refused_by_name(path: str) -> None:
    assoc = SqliteAssoc(path)
    await assoc.put_many({(NEW, A): V})
    await assoc.close()
    change(path, f"PRAGMA user_version = {SCHEMA.version + 1}")
    with pytest.raises(
        ReflowError, match=f"assoc {path}: operation not supported: written by a newer reflow"
    ):
        await assoc.get_many([(NEW, A)])


WRITER = """
import asyncio, sys
from reflow.assoc import Kind
from reflow.assoc.sqlite import SqliteAssoc
from reflow.core.digest import Digest
async def main():
    assoc = SqliteAssoc(sys.argv[1], [sys.argv[2]])
    for number in range(60):
        key = (Kind.FILESET_V2, Digest.of(b"%d" % number))
        await assoc.put_many({key: Digest.of(b"v")})
        assert (await assoc.get_many([key]))[key] == Digest.of(b"v")
    await assoc.close()
asyncio.run(main())
"""


def start_writer(path: str, label: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, path, label], cwd=Path(__file__).parents[3])


async def test_processes_may_write_at_once(path: str) -> None:
    names = ["user=a", "user=b", "user=c"]
    writers = [start_writer(path, name) for name in names]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assoc = SqliteAssoc(path)
    entries = [entry async for entry in assoc.scan()]
    assert len(entries) == 60
    assert all(entry.labels == set(names) for entry in entries)
    await assoc.close()
    assert not os.path.exists(f"{path}-wal")
