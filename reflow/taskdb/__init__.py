"""The task database: what ran, when, with what outcome.

A run has tasks; each row is kept alive while its process lives (``keepalive``), so that rows of a
process that died are recognised. Times are aware datetimes. Implementations: `sqlite`, `memory`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.resources import NO_RESOURCES, Resources

__all__ = ["Run", "RunQuery", "Task", "TaskDB", "TaskQuery", "is_alive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One ``reflow run``. ``args`` are the module's parameters as ``-name=value``."""

    id: Digest
    user: str
    program: str
    args: Sequence[str] = ()
    start: datetime
    keepalive: datetime | None = None
    end: datetime | None = None
    error: str = ""
    result: str = ""
    executor: str = ""
    runlog: Digest | None = None
    evalgraph: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One attempt at one exec, intern or extern.

    ``inspect`` is what the executor told at the end (the JSON of an ExecInspect). ``stdout``, ``stderr``:
    paths while it runs, digests of objects or paths afterwards, as text. ``result_id``: the exec's id.
    """

    id: Digest
    run_id: Digest
    flow_id: Digest
    image_cmd_id: Digest | None = None
    ident: str = ""
    attempt: int = 0
    resources: Resources = NO_RESOURCES
    uri: str = ""
    result_id: Digest | None = None
    start: datetime
    keepalive: datetime | None = None
    end: datetime | None = None
    error: str = ""
    stdout: str = ""
    stderr: str = ""
    inspect: Mapping[str, Any] | None = field(default=None)


def is_alive(row: Run | Task, now: datetime) -> bool:
    """Tell whether a row's process lives, as far as is known: not ended, and kept alive until now."""
    return row.end is None and row.keepalive is not None and row.keepalive >= now


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs: by id or abbreviation, user, and activity since a time."""

    id: DigestPrefix | None = None
    user: str | None = None
    since: datetime | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks: by id or abbreviation, run, ident, image and command; newest first."""

    id: DigestPrefix | None = None
    run_id: Digest | None = None
    ident: str | None = None
    image_cmd_id: Digest | None = None
    limit: int | None = None


class TaskDB(Protocol):
    """The record. Writes may be buffered for a moment; `flush` and `close` make them durable."""

    async def open(self) -> None:
        """Make sure that it can be used. Raises what is wrong with it: newer, damaged, not readable."""
        ...

    def put_run(self, run: Run) -> None:
        """Insert or replace a run's row; its keepalive never goes back."""
        ...

    def put_task(self, task: Task) -> None:
        """Insert or replace a task's row; its keepalive never goes back."""
        ...

    def keepalive(self, run_id: Digest, until: datetime) -> None:
        """Say that a run and its unfinished tasks live until then at least."""
        ...

    async def runs(self, query: RunQuery) -> list[Run]:
        """Matching runs, newest first."""
        ...

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Matching tasks, newest first."""
        ...

    async def flush(self) -> None:
        """Make all writes so far durable."""
        ...

    async def close(self) -> None:
        """Flush and let go of resources."""
        ...
