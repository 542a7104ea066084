"""The task database in memory: for tests, and for runs that leave no record."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from reflow.core.digest import Digest
from reflow.taskdb import Run, RunQuery, Task, TaskDB, TaskQuery

_Row = TypeVar("_Row", Run, Task)


class MemoryTaskDB:
    """The record in dictionaries."""

    def __init__(self) -> None:
        self._runs: dict[Digest, Run] = {}
        self._tasks: dict[Digest, Task] = {}

    async def open(self) -> None:
        """It is always there."""

    def put_run(self, run: Run) -> None:
        """Insert or replace a run's row."""
        _put(self._runs, run)

    def put_task(self, task: Task) -> None:
        """Insert or replace a task's row."""
        _put(self._tasks, task)

    def keepalive(self, run_id: Digest, until: datetime) -> None:
        """Say until when a run and its unfinished tasks live."""
        run = self._runs.get(run_id)
        if run is not None:
            _put(self._runs, replace(run, keepalive=until))
        for task in list(self._tasks.values()):
            if task.run_id == run_id and task.end is None:
                _put(self._tasks, replace(task, keepalive=until))

    async def runs(self, query: RunQuery) -> list[Run]:
        """Matching runs, newest first."""
        found = [
            run
            for run in _newest_first(self._runs)
            if (query.id is None or query.id.expands_to(run.id))
            and query.user in (None, run.user)
            and (query.since is None or (run.end or run.keepalive or run.start) >= query.since)
        ]
        return found[: query.limit]

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Matching tasks, newest first."""
        found = [
            task
            for task in _newest_first(self._tasks)
            if (query.id is None or query.id.expands_to(task.id))
            and query.run_id in (None, task.run_id)
            and query.ident in (None, task.ident)
            and query.image_cmd_id in (None, task.image_cmd_id)
        ]
        return found[: query.limit]

    async def flush(self) -> None:
        """Nothing is ever pending."""

    async def close(self) -> None:
        """Keep the rows: whoever holds this may go on."""


def _put(rows: dict[Digest, _Row], row: _Row) -> None:
    """Insert or replace in place; a keepalive never goes back."""
    known = rows.get(row.id)
    times = [each.keepalive for each in (known, row) if each is not None and each.keepalive is not None]
    rows[row.id] = replace(row, keepalive=max(times, default=None))


def _newest_first(rows: dict[Digest, _Row]) -> list[_Row]:
    # Of equal times the later insertion comes first: sorting is stable.
    return sorted(reversed(rows.values()), key=lambda row: row.start, reverse=True)


if TYPE_CHECKING:
    _: type[TaskDB] = MemoryTaskDB
