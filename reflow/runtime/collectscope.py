"""Which stores are collected together: those that are shared, and those of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.repository.maintenance import GRACE_S, FileObjects, prune
from reflow.runtime.collect import CollectRequest, Scope
from reflow.runtime.collectstate import CollectState
from reflow.runtime.config import Config, ConfigError
from reflow.runtime.home import home
from reflow.runtime.livework import LiveRun, live_runs
from reflow.runtime.wiring import (
    bucket_repository,
    has_assoc,
    has_taskdb,
    local_repository,
    open_assoc,
    open_taskdb,
    recorded_objects,
    required,
    without_sharing,
)
from reflow.taskdb import RunQuery, TaskDB, TaskQuery

if TYPE_CHECKING:
    from reflow.repository.blobmaintenance import BlobObjects

SETTLE_S = 20.0
"""How long renewals of times of use, made behind look-ups, may take; ours: half of it (`assoc.renewal`)."""

_SILENT = timedelta(hours=1)
"""How long a run's process may say nothing and yet live."""


def is_shared(config: Config) -> bool:
    """Whether objects are in a bucket."""
    return config.provider("repository") == "s3"


def check_shared(config: Config) -> None:
    """Check that garbage in the bucket can be told from what others need. Raises ConfigError."""
    provider = config.provider("assoc")
    if provider != "dynamodbassoc":
        index = f"the index (assoc: {provider}) is of this machine" if provider else "no index is configured"
        raise ConfigError(
            f"collect: objects are in a shared bucket, but {index}: what entries of others refer to would"
            " count as garbage; configure assoc: dynamodbassoc,table=NAME, or collect where it is configured"
        )


@contextlib.asynccontextmanager
async def shared_scope(
    config: Config, request: CollectRequest, now_s: float
) -> AsyncIterator[tuple[Scope, BlobObjects]]:
    """The bucket and the table, with what the shared record of runs refers to."""
    check_shared(config)
    repository = bucket_repository(required(config, "repository", "bucket"))
    from reflow.repository.blobmaintenance import BlobObjects

    assoc = open_assoc(config)
    assert assoc is not None
    try:
        await repository.bucket()
        await assoc.open()
        stores = (repository.url, required(config, "assoc", "table"))
        with _state(*stores, is_kept=request.dry_run) as state:
            objects = BlobObjects(repository)
            scope = Scope(
                repository,
                objects,
                assoc,
                state,
                recorded_objects(config),
                await _shared_use_since(config, now_s),
                is_shared=True,
                settle_s=SETTLE_S,
            )
            yield scope, objects
    finally:
        await assoc.close()


async def _shared_use_since(config: Config, now_s: float) -> float:
    """What runs that the shared record knows to be under way may use."""
    if config.provider("taskdb") != "dynamodbtask":
        return float("inf")
    taskdb = open_taskdb(config)
    assert taskdb is not None
    try:
        silent_since = datetime.fromtimestamp(now_s, UTC) - _SILENT
        runs = await taskdb.runs(RunQuery(since=silent_since))
    finally:
        await taskdb.close()
    return _in_use_since([run.start for run in runs if run.end is None])


@contextlib.asynccontextmanager
async def local_scope(
    config: Config, live: Collection[LiveRun], request: CollectRequest, now_s: float
) -> AsyncIterator[Scope]:
    """The objects of this machine; with the index and record of this machine if objects are in a bucket."""
    if is_shared(config):
        config = without_sharing(config)
    repository = local_repository(config)
    assoc = open_assoc(config) if has_assoc(config) else None
    taskdb = open_taskdb(config) if has_taskdb(config) else None
    has_table = config.provider("assoc") == "dynamodbassoc"
    try:
        if taskdb is not None:
            live = [*live, *await live_runs(taskdb)]
        since_s = _in_use_since([each.run.start for each in live])
        records = recorded_objects(config)
        if records is None and taskdb is not None:
            records = _recorded(taskdb, min(request.threshold_s, now_s - GRACE_S, since_s))
        with _state(repository.url, config.provider("assoc")) as state:
            yield Scope(
                repository,
                FileObjects(repository.directory),
                assoc,
                state,
                records,
                since_s,
                is_shared=has_table,
                settle_s=SETTLE_S if has_table else 0.0,
            )
        if not request.dry_run:
            prune(repository.directory)
    finally:
        await repository.close()
        for each in (assoc, taskdb):
            if each is not None:
                await each.close()


@contextlib.contextmanager
def _state(*stores: str, is_kept: bool = False) -> Iterator[CollectState]:
    """State of these stores; ``is_kept``: what was read is of use to the collection that follows."""
    name = Digest.of_text("\n".join(stores)).short
    state = CollectState(os.path.join(home(), "collect", name))
    is_done = False
    try:
        yield state
        is_done = not is_kept
    finally:
        state.close(is_done=is_done)


def _in_use_since(starts: Collection[datetime]) -> float:
    """A run that is under way may use what was of use within the day before it began, and later."""
    return min([start.timestamp() for start in starts], default=float("inf")) - GRACE_S


async def _recorded(taskdb: TaskDB, limit_s: float) -> AsyncIterator[Digest]:
    """Logs, graphs and outputs that the record of runs since the limit refers to."""
    for run in await taskdb.runs(RunQuery()):
        if max(run.start, run.end or run.start).timestamp() <= limit_s and run.end is not None:
            continue
        for digest in (run.runlog, run.evalgraph):
            if digest is not None:
                yield digest
        for task in await taskdb.tasks(TaskQuery(run_id=run.id)):
            for place in (task.stdout, task.stderr):
                if place.startswith("sha256:"):
                    yield Digest.parse(place)
