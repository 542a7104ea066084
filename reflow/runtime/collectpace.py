"""How fast a collection goes, how much it takes at once, and that it says how far it is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from reflow.runtime.log import Log

_BATCH = 1000
_TOLD_EVERY_S = 30.0
_T = TypeVar("_T")


class Pace:
    """No more than ``rate`` things a second, on the whole."""

    def __init__(
        self,
        rate: float,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._sleep = sleep
        self._clock = clock
        self._free_s = 0.0

    async def take(self, count: int) -> None:
        """Wait until so many may be done."""
        now_s = self._clock()
        begins_s = max(now_s, self._free_s)
        self._free_s = begins_s + count / self._rate
        if begins_s > now_s:
            await self._sleep(begins_s - now_s)


class Progress:
    """Tells from time to time, when something takes long."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told_s = clock()

    def tell(self, text: str) -> None:
        """Say how far it is, unless that was just said."""
        now_s = self._clock()
        if now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            self._log.info(text)


async def batches(items: AsyncIterator[_T]) -> AsyncIterator[list[_T]]:
    """Some items at once."""
    batch: list[_T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
