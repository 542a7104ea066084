"""Things done at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from reflow.core.errors import ReflowError

MOVED_AT_ONCE = 64
"""Objects that are moved at the same time (decision 0011)."""

T = TypeVar("T")
Thing = TypeVar("Thing")


async def gather(work: Callable[[Thing], Coroutine[Any, Any, T]], things: Iterable[Thing]) -> list[T]:
    """All results in order; the first error ends the others, and is raised when they have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(thing)) for thing in things]
    except* ReflowError as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from errors
    return [task.result() for task in tasks]


async def call_off(task: asyncio.Task[T]) -> None:
    """Cancel a task and wait for its end, however it ends."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
