"""Names of cached results: a key of the cache, or the id of its flow; abbreviated or not.

Results of this machine's own tools are stored under keys of their own (`reflow.runtime.localcluster`), but
people know them by the keys that the log shows.
"""

from __future__ import annotations

from typing import NamedTuple

from reflow.assoc import Assoc
from reflow.cli.app import App
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind, ReflowError
from reflow.runtime.localcluster import process_key

_RECENT_TASKS = 10_000


class CacheKey(NamedTuple):
    """The key as people know it, and the one that the index has."""

    shown: Digest
    stored: Digest


async def cache_keys_of(app: App, assoc: Assoc, prefix: DigestPrefix) -> list[CacheKey]:
    """What a name may stand for, in the order to be tried; only of the first it is certain that it is there.

    Raises INVALID when more than one key begins so.
    """
    keys = await assoc.expand(prefix)
    if len(keys) > 1:
        raise ReflowError(Kind.INVALID, "", str(prefix), cause="more than one key matched")
    if keys:
        return [CacheKey(keys[0], keys[0])]
    if prefix.full is not None:
        return [CacheKey(prefix.full, process_key(prefix.full))]
    return [CacheKey(flow, process_key(flow)) for flow in await _recorded_flows(app, prefix)]


async def _recorded_flows(app: App, prefix: DigestPrefix) -> list[Digest]:
    """Flows of recent tasks whose ids begin so."""
    from reflow.runtime.wiring import has_taskdb, open_taskdb
    from reflow.taskdb import TaskQuery

    taskdb = open_taskdb(app.config) if has_taskdb(app.config) else None
    if taskdb is None:
        return []
    try:
        tasks = await taskdb.tasks(TaskQuery(limit=_RECENT_TASKS))
    finally:
        await taskdb.close()
    return list({task.flow_id: None for task in tasks if prefix.expands_to(task.flow_id)})
