"""Several at once, in an order that a test chooses: each waits for its turn before it does something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar

ACTOR = ContextVar("ACTOR", default="")
"""Who acts; tasks that he starts act for him."""

_QUIET = 12


class Turns:
    """``pick`` says whose turn it is, given the names of those who wait."""

    def __init__(self, pick: Callable[[Sequence[str]], int]) -> None:
        self._pick = pick
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    async def take(self) -> None:
        """Wait for a turn."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((ACTOR.get(), future))
        await future

    async def drive(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Give turns until all have ended; raise what one of them did."""
        while not all(task.done() for task in tasks):
            await self._come_to_rest()
            if self._waiting:
                chosen = self._pick([name for name, _ in self._waiting])
                _, future = self._waiting.pop(chosen)
                if not future.done():  # else he was cancelled
                    future.set_result(None)
        for task in tasks:
            task.result()

    async def _come_to_rest(self) -> None:
        """Let everybody go on until he waits for a turn, or for somebody else."""
        count, quiet = -1, 0
        while quiet < _QUIET:
            await asyncio.sleep(0)
            quiet = quiet + 1 if count == len(self._waiting) else 0
            count = len(self._waiting)
