"""Waiting for what sets no event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_LIMIT_S = 120.0
_PAUSE_S = 0.001
_LONG_PAUSE_S = 0.02


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so, which may come of another thread or of the kernel."""
    async with asyncio.timeout(_LIMIT_S):
        while not condition():  # noqa: ASYNC110  (what is waited for sets no event)
            await asyncio.sleep(_PAUSE_S)


def wait_until(condition: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
    """Wait for something that other processes or threads do."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(_LONG_PAUSE_S)
