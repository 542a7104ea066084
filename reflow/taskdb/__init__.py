"""The task database: what ran, when, with what outcome.

A run has tasks; each row is kept alive while its process lives (``keepalive``), so that rows of a
process that died are recognised. Times are aware datetimes. Implementations: `sqlite`, `memory`, and
`dynamodb`, which is shared with others: it also has rows of machines (`Clusters`), and keeps of a row what
the original has a place for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import ReflowError
from reflow.core.resources import NO_RESOURCES, Resources

__all__ = [
    "Alloc",
    "Clusters",
    "ObjectKeeper",
    "Pool",
    "Run",
    "RunQuery",
    "Task",
    "TaskDB",
    "TaskQuery",
    "in_order",
    "is_alive",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One ``reflow run``. ``args`` are the words after the program, ``bundle`` is an object."""

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
    bundle: Digest | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One attempt at one exec, intern or extern.

    ``inspect`` is what the executor told at the end (the JSON of an ExecInspect). ``stdout``, ``stderr``:
    paths while it runs, digests of objects or paths afterwards, as text. ``result_id``: the exec.
    ``error`` is a text, ``failure`` the error as JSON, when it was one of ours. ``alloc_id``: the row of
    the alloc.
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
    failure: Mapping[str, Any] | None = None
    stdout: str = ""
    stderr: str = ""
    inspect: Mapping[str, Any] | None = field(default=None)
    alloc_id: Digest | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alloc:
    """A part of a machine that was given to a run. ``pool_id`` is the pool's row, ``alloc_id`` a name."""

    id: Digest
    alloc_id: str
    pool_id: Digest | None = None
    resources: Resources = NO_RESOURCES
    start: datetime | None = None
    keepalive: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A machine. ``pool_id`` is its name (of an EC2 instance its id), ``pool_type`` its type."""

    id: Digest
    pool_id: str
    pool_type: str = ""
    cluster_name: str = ""
    user: str = ""
    reflow_version: str = ""
    uri: str = ""
    resources: Resources = NO_RESOURCES
    start: datetime | None = None
    keepalive: datetime | None = None
    end: datetime | None = None


def is_alive(row: Run | Task | Alloc | Pool, now: datetime) -> bool:
    """Tell whether a row's process lives, as far as is known: not ended, and kept alive until now."""
    return row.end is None and row.keepalive is not None and row.keepalive >= now


def in_order(task: Task) -> tuple[datetime, bytes]:
    """A key that sorts tasks of a run as they began. Times are whole seconds in some databases."""
    return task.start, task.id.turn + task.id


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs: by id or abbreviation, user, and activity since a time."""

    id: DigestPrefix | None = None
    user: str | None = None
    since: datetime | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks: by id or abbreviation, run, ident, image and command; newest first.

    By ident, or image and command, without a run: shared databases find only those that have ended.
    """

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


@runtime_checkable
class ObjectKeeper(Protocol):
    """A task database that has a place for what is large and belongs to its rows."""

    async def put_objects(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store objects; their digests in order."""
        ...

    async def read_objects(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read objects; one that cannot be read has its error instead."""
        ...


@runtime_checkable
class Clusters(Protocol):
    """A task database that has rows of machines too."""

    async def allocs(self, ids: Collection[Digest]) -> list[Alloc]:
        """Allocs by their rows' ids; unknown ones are left out."""
        ...

    async def pools(self, ids: Collection[Digest]) -> list[Pool]:
        """Pools by their rows' ids; unknown ones are left out."""
        ...

    async def pools_since(self, since: datetime) -> list[Pool]:
        """Pools that were alive after a time."""
        ...
