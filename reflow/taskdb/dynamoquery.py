"""What of the items that DynamoDB answers with is wanted, where it cannot tell by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from reflow.aws.dynamodb import Item
from reflow.taskdb import Run, RunQuery, TaskQuery
from reflow.taskdb.dynamorow import text_of

_R = TypeVar("_R")


async def first(items: AsyncIterator[Item], limit: int | None) -> list[Item]:
    """The first items."""
    found: list[Item] = []
    async for item in items:
        if limit is not None and len(found) >= limit:
            break
        found.append(item)
    return found


def readable(items: Iterable[Item], kind: str, read: Callable[[Item], _R]) -> list[_R]:
    """Rows of a kind; those that are damaged are left out, as the original does."""
    found: list[_R] = []
    for item in items:
        if text_of(item, "Type") == kind:
            try:
                found.append(read(item))
            except (ValueError, KeyError, TypeError):
                continue
    return found


def matches_run(run: Run, query: RunQuery) -> bool:
    """Whether a run is what was asked for."""
    active = run.end or run.keepalive or run.start
    return query.user in (None, run.user) and (query.since is None or active >= query.since)


def matches_task(item: Item, query: TaskQuery) -> bool:
    """Whether a task's row is what was asked for."""
    wanted = {"RunID": query.run_id, "ImgCmdID": query.image_cmd_id, "Ident": query.ident}
    return all(text_of(item, name) == str(value) for name, value in wanted.items() if value is not None)
