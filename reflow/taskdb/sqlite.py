"""The task database in an SQLite file: the record of what ran on this machine.

Writes are collected and committed at most every 100 ms, so that a row costs microseconds where it is put; a
process that is killed loses no more than that. A row that is replaced before it was written is written once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import ReflowError
from reflow.disk.database import Database, Schema
from reflow.taskdb import Run, RunQuery, Task, TaskDB, TaskQuery
from reflow.taskdb.sqliterow import (
    RUN_COLUMNS,
    TASK_COLUMNS,
    Row,
    micros,
    run_of,
    run_row,
    task_of,
    task_row,
    text_cell,
)

SCHEMA = Schema(
    name="taskdb",
    application_id=0x52464C54,
    version=2,
    create=(
        """CREATE TABLE runs (
            id BLOB PRIMARY KEY, user, program, args BLOB, start_us INTEGER NOT NULL, keepalive_us INTEGER,
            end_us INTEGER, error, result, executor, runlog BLOB, evalgraph BLOB, bundle BLOB, labels BLOB
        )""",
        """CREATE TABLE tasks (
            id BLOB PRIMARY KEY, run_id BLOB NOT NULL, flow_id BLOB NOT NULL, image_cmd_id BLOB, ident,
            attempt INTEGER NOT NULL, resources BLOB, uri, result_id BLOB, start_us INTEGER NOT NULL,
            keepalive_us INTEGER, end_us INTEGER, error, stdout, stderr, inspect BLOB, failure BLOB,
            alloc_id BLOB, labels BLOB
        )""",
        "CREATE INDEX runs_start ON runs (start_us)",
        "CREATE INDEX tasks_run ON tasks (run_id, start_us)",
        "CREATE INDEX tasks_ident ON tasks (ident, start_us)",
        "CREATE INDEX tasks_image_cmd ON tasks (image_cmd_id, start_us)",
    ),
    migrations={
        1: (
            "ALTER TABLE runs ADD COLUMN bundle BLOB",
            "ALTER TABLE runs ADD COLUMN labels BLOB",
            "ALTER TABLE tasks ADD COLUMN failure BLOB",
            "ALTER TABLE tasks ADD COLUMN alloc_id BLOB",
            "ALTER TABLE tasks ADD COLUMN labels BLOB",
        ),
    },
    loss="the record of earlier runs stays in the file that was set aside",
)

COMMIT_INTERVAL_S = 0.1
_RETRY_S = 1.0


class _Batch(NamedTuple):
    """Rows that were put and not written yet, and times until which runs live."""

    runs: dict[Digest, Run]
    tasks: dict[Digest, Task]
    keepalives: dict[Digest, datetime]


class SqliteTaskDB:
    """The record in the file at ``path``."""

    def __init__(self, path: str) -> None:
        self._database = Database(path, SCHEMA)
        self._pending = _Batch({}, {}, {})
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[bool] | None = None

    # Writing.

    async def open(self) -> None:
        """Open the file now, and make or migrate it."""
        await self._database.perform(_nothing)

    def put_run(self, run: Run) -> None:
        """Insert or replace a run's row."""
        self._pending.runs[run.id] = run
        self._schedule(COMMIT_INTERVAL_S)

    def put_task(self, task: Task) -> None:
        """Insert or replace a task's row."""
        self._pending.tasks[task.id] = task
        self._schedule(COMMIT_INTERVAL_S)

    def keepalive(self, run_id: Digest, until: datetime) -> None:
        """Say until when a run and its unfinished tasks live."""
        self._pending.keepalives[run_id] = until
        self._schedule(COMMIT_INTERVAL_S)

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None or self._writing is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # whoever has no loop calls flush
        self._timer = loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        """Write what is pending, if that can be done at once; else try again soon."""
        self._timer = None
        batch = self._take()
        work = self._database.transact(lambda connection: _write(connection, batch))
        if self._database.is_remote:
            self._writing = self._database.start(work)
            self._writing.add_done_callback(lambda done: self._written(batch, done.exception()))
            return
        try:
            is_done = self._database.try_now(work)
        except ReflowError:
            self._put_back(batch)
            self._schedule(_RETRY_S)
            return
        if not is_done:
            self._put_back(batch)
            self._schedule(COMMIT_INTERVAL_S)

    def _written(self, batch: _Batch, error: BaseException | None) -> None:
        self._writing = None
        if error is not None:
            self._put_back(batch)
        if any(self._pending):
            self._schedule(_RETRY_S if error is not None else COMMIT_INTERVAL_S)

    def _take(self) -> _Batch:
        batch, self._pending = self._pending, _Batch({}, {}, {})
        return batch

    def _put_back(self, batch: _Batch) -> None:
        """Make a batch pending again, behind what was put since."""
        newer = self._pending
        self._pending = _Batch(
            {**batch.runs, **newer.runs},
            {**batch.tasks, **newer.tasks},
            {**batch.keepalives, **newer.keepalives},
        )

    async def flush(self) -> None:
        """Write everything now. Raises what keeps it from being written; the rows stay pending."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # its callback puts back what failed
        if not any(self._pending):
            return
        batch = self._take()
        work = self._database.transact(lambda connection: _write(connection, batch))
        try:
            await self._database.perform(work)
        except BaseException:
            self._put_back(batch)
            raise

    async def close(self) -> None:
        """Write everything and close the file."""
        try:
            await self.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._database.close()

    # Reading.

    async def runs(self, query: RunQuery) -> list[Run]:
        """Matching runs, newest first."""
        terms = _Terms()
        terms.add_prefix(query.id)
        terms.add("user = ?", query.user)
        if query.since is not None:
            terms.add("coalesce(end_us, keepalive_us, start_us) >= ?", micros(query.since))
        return [run_of(row) for row in await self._select("runs", RUN_COLUMNS, terms, query.limit)]

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Matching tasks, newest first."""
        terms = _Terms()
        terms.add_prefix(query.id)
        terms.add("run_id = ?", query.run_id)
        terms.add("ident = ?", query.ident)
        terms.add("image_cmd_id = ?", query.image_cmd_id)
        return [task_of(row) for row in await self._select("tasks", TASK_COLUMNS, terms, query.limit)]

    async def _select(self, table: str, columns: list[str], terms: _Terms, limit: int | None) -> list[Row]:
        await self.flush()
        sql = (
            f"SELECT {', '.join(columns)} FROM {table} {terms.where()}"
            f" ORDER BY start_us DESC, rowid DESC LIMIT {-1 if limit is None else limit}"
        )
        return await self._database.perform(
            lambda connection: connection.execute(sql, terms.values).fetchall()
        )


class _Terms:
    """The conditions of a query, and their values."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.values: list[object] = []

    def add(self, text: str, value: object | None) -> None:
        if value is not None:
            self.texts.append(text)
            self.values.append(text_cell(value) if type(value) is str else value)

    def add_prefix(self, prefix: DigestPrefix | None) -> None:
        if prefix is not None:
            self.texts.append("id BETWEEN ? AND ?")
            self.values += [prefix.raw, prefix.raw.ljust(33, b"\xff")]

    def where(self) -> str:
        return f"WHERE {' AND '.join(self.texts)}" if self.texts else ""


def _upsert(table: str, columns: list[str]) -> str:
    """Insert, or replace every column; a keepalive never goes back."""
    changes = [f"{name} = excluded.{name}" for name in columns[1:] if name != "keepalive_us"]
    kept = "max(coalesce(excluded.keepalive_us, keepalive_us), coalesce(keepalive_us, excluded.keepalive_us))"
    changes.append(f"keepalive_us = {kept}")
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        f" ON CONFLICT (id) DO UPDATE SET {', '.join(changes)}"
    )


_PUT_RUN = _upsert("runs", RUN_COLUMNS)
_PUT_TASK = _upsert("tasks", TASK_COLUMNS)
_KEEP_RUN = "UPDATE runs SET keepalive_us = max(coalesce(keepalive_us, 0), ?) WHERE id = ?"
_KEEP_TASKS = (
    "UPDATE tasks SET keepalive_us = max(coalesce(keepalive_us, 0), ?) WHERE run_id = ? AND end_us IS NULL"
)


def _write(connection: sqlite3.Connection, batch: _Batch) -> bool:
    connection.executemany(_PUT_RUN, map(run_row, batch.runs.values()))
    connection.executemany(_PUT_TASK, map(task_row, batch.tasks.values()))
    for run_id, until in batch.keepalives.items():
        connection.execute(_KEEP_RUN, (micros(until), run_id))
        connection.execute(_KEEP_TASKS, (micros(until), run_id))
    return True


def _nothing(connection: sqlite3.Connection) -> None:
    """Opening the file was all that was wanted."""


if TYPE_CHECKING:
    _: type[TaskDB] = SqliteTaskDB
