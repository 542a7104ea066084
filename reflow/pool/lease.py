"""Leases: an alloc lives for as long as somebody says that it is needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from reflow.core.backoff import Backoff
from reflow.core.errors import Kind, ReflowError, kind_of
from reflow.pool import Alloc

INTERVAL_S = 120.0
"""What is asked for; a fresh alloc has as much."""

MAX_INTERVAL_S = 300.0
"""The most that is granted."""

EARLY_S = 30.0
"""A lease is renewed this long before it ends. All retries together take less."""

CALL_TIMEOUT_S = 10.0
RETRIES = Backoff(initial_s=2.0, longest_s=EARLY_S, factor=1.5, retries=5, jitter=0.2)

_GONE = frozenset({Kind.FATAL, Kind.NOT_EXIST, Kind.NOT_SUPPORTED})
"""Answers of an alloc that was ended (or of an agent that knows nothing of it): it will not come back."""


class LeaseKeeper:
    """Keeps one alloc. ``sleep`` and ``chance`` (a number in [0, 1)) are for tests.

    ``complain`` is told of renewals that failed and are tried again.
    """

    def __init__(
        self,
        alloc: Alloc,
        complain: Callable[[str], None],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._alloc = alloc
        self._complain = complain
        self._sleep = sleep
        self._chance = chance

    async def keep(self) -> ReflowError:
        """Renew the lease until that cannot be done any more; why not."""
        while True:
            granted = await self._renew()
            if isinstance(granted, ReflowError):
                return granted
            await self._sleep(max(0.0, min(granted - EARLY_S, MAX_INTERVAL_S)))

    async def _renew(self) -> float | ReflowError:
        """Renew it once, with retries; the seconds granted."""
        retry = 0
        while True:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    return await self._alloc.keepalive(INTERVAL_S)
            except TimeoutError:
                error = ReflowError(Kind.TIMEOUT, "keepalive", self._alloc.id)
            except ReflowError as err:
                if kind_of(err) in _GONE:
                    return err
                error = err
            if retry >= RETRIES.retries:
                return ReflowError(Kind.TOO_MANY_TRIES, "keepalive", self._alloc.id, cause=error)
            self._complain(
                f"keepalive {self._alloc.id}: try {retry + 1}/{RETRIES.retries + 1} failed: {error}"
            )
            await self._sleep(RETRIES.wait_s(retry, self._chance()))
            retry += 1


def granted_s(asked_s: float) -> float:
    """How long an alloc's lease is extended when somebody asks for so much."""
    return min(asked_s, MAX_INTERVAL_S)
