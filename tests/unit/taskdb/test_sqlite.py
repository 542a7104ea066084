import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.disk import database as database_module
from reflow.taskdb import Run, RunQuery, Task, TaskQuery
from reflow.taskdb import sqlite as module
from reflow.taskdb.sqlite import SqliteTaskDB

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RUN = Run(id=Digest.of(b"run"), user="jo", program="a.rf", start=NOW)


def task(number: int) -> Task:
    return Task(id=Digest.of(b"%d" % number), run_id=RUN.id, flow_id=Digest.of(b"f"), ident="x", start=NOW)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "taskdb.db")


def count(path: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])
    finally:
        connection.close()


async def test_rows_are_written_soon_without_being_asked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_INTERVAL_S", 0.01)
    taskdb = SqliteTaskDB(path)
    for number in range(100):
        taskdb.put_task(task(number))
    await asyncio.sleep(0.1)
    assert count(path) == 100
    await taskdb.close()


async def test_a_run_without_tasks_writes_once(path: str) -> None:
    taskdb = SqliteTaskDB(path)
    taskdb.put_run(RUN)
    taskdb.put_run(RUN)
    assert not Path(path).exists()
    await taskdb.close()
    assert count(path) == 0
    assert await SqliteTaskDB(path).runs(RunQuery()) == [RUN]


async def test_a_locked_file_keeps_nobody_waiting(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_INTERVAL_S", 0.01)
    taskdb = SqliteTaskDB(path)
    taskdb.put_run(RUN)
    await taskdb.flush()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    taskdb.put_task(task(1))
    await asyncio.sleep(0.05)
    taskdb.put_task(task(2))
    assert count(path) == 0
    other.execute("COMMIT")
    other.close()
    await asyncio.sleep(0.05)
    assert count(path) == 2
    await taskdb.close()


async def test_what_cannot_be_written_is_told_and_kept(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_INTERVAL_S", 0.01)
    monkeypatch.setattr(database_module, "BUSY_LIMIT_S", 0.02)
    taskdb = SqliteTaskDB(path)
    taskdb.put_run(RUN)
    await taskdb.flush()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    taskdb.put_task(task(1))
    with pytest.raises(ReflowError) as caught:
        await taskdb.flush()
    assert caught.value.kind is Kind.UNAVAILABLE
    other.execute("COMMIT")
    other.close()
    assert await taskdb.tasks(TaskQuery()) == [task(1)]
    await taskdb.close()


async def test_on_a_network_file_system_a_thread_writes(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "is_network", lambda directory: True)
    monkeypatch.setattr(module, "COMMIT_INTERVAL_S", 0.01)
    writers: set[threading.Thread] = set()
    real = module._write

    def write(connection: sqlite3.Connection, batch: module._Batch) -> bool:
        writers.add(threading.current_thread())
        return real(connection, batch)

    monkeypatch.setattr(module, "_write", write)
    taskdb = SqliteTaskDB(path)
    for number in range(20):
        taskdb.put_task(task(number))
        await asyncio.sleep(0.005)
    await taskdb.flush()
    assert count(path) == 20
    assert threading.main_thread() not in writers
    await taskdb.close()


def test_rows_may_be_put_without_a_loop(path: str) -> None:
    taskdb = SqliteTaskDB(path)
    taskdb.put_task(task(1))
    asyncio.run(taskdb.close())
    assert count(path) == 1


WRITER = """
import asyncio, sys
from tests.unit.taskdb.test_sqlite import task
from reflow.taskdb.sqlite import SqliteTaskDB
async def main():
    taskdb = SqliteTaskDB(sys.argv[1])
    first, length = int(sys.argv[2]), int(sys.argv[3])
    for number in range(first, first + length):
        taskdb.put_task(task(number))
        if number % 10 == 9:
            await taskdb.flush()
            print(number + 1, flush=True)
    await taskdb.close()
asyncio.run(main())
"""


def start_writer(path: str, first: int, length: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, path, str(first), str(length)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)


def test_processes_may_write_at_once(path: str) -> None:
    writers = [start_writer(path, first, 100) for first in (0, 100, 200)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert count(path) == 300


def test_what_was_flushed_survives_a_kill(path: str) -> None:
    writer = start_writer(path, 0, 10_000_000)
    assert writer.stdout is not None
    for _ in range(5):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    said = int(rest[-1]) if rest else 50
    assert said <= count(path) <= said + 10


VERSION_1 = """
CREATE TABLE runs (
    id BLOB PRIMARY KEY, user, program, args BLOB, start_us INTEGER NOT NULL, keepalive_us INTEGER,
    end_us INTEGER, error, result, executor, runlog BLOB, evalgraph BLOB
);
CREATE TABLE tasks (
    id BLOB PRIMARY KEY, run_id BLOB NOT NULL, flow_id BLOB NOT NULL, image_cmd_id BLOB, ident,
    attempt INTEGER NOT NULL, resources BLOB, uri, result_id BLOB, start_us INTEGER NOT NULL,
    keepalive_us INTEGER, end_us INTEGER, error, stdout, stderr, inspect BLOB
);
PRAGMA user_version = 1;
"""


async def test_a_record_of_the_first_version_is_migrated_and_backed_up(path: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1 + f"PRAGMA application_id = {module.SCHEMA.application_id};")
    row = (RUN.id, "jo", "a.rf", b"[]", 0, "", "", "")
    connection.execute(
        "INSERT INTO runs (id, user, program, args, start_us, error, result, executor)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    connection.commit()
    connection.close()
    taskdb = SqliteTaskDB(path)
    (found,) = await taskdb.runs(RunQuery())
    assert (found.id, found.bundle, found.labels) == (RUN.id, None, frozenset())
    taskdb.put_run(replace(found, bundle=Digest.of(b"b"), labels=frozenset({"a=b"})))
    (changed,) = await taskdb.runs(RunQuery())
    assert (changed.bundle, changed.labels) == (Digest.of(b"b"), frozenset({"a=b"}))
    await taskdb.close()
    backups = [each for each in Path(path).parent.iterdir() if each.name not in ("taskdb.db",)]
    assert len(backups) == 1
