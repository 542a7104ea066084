"""Tries again, a bounded number of times, what may succeed a moment later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reflow.aws.error import is_passing
from reflow.core.backoff import Backoff
from reflow.core.errors import Kind, ReflowError

T = TypeVar("T")

CALLS = Backoff(0.1, 10.0, 2.0, 8, jitter=1.0)
"""Some 25 s in all, half of that on average."""

FIRST = Backoff(0.1, 1.0, 2.0, 3, jitter=1.0)
"""For the first call to a service, which tells whether it is there at all."""


async def retrying(call: Callable[[], Awaitable[T]], policy: Backoff = CALLS) -> T:
    """Return what ``call`` returns; raise its last error, or its first one that will not pass."""
    for retry in range(policy.retries + 1):
        try:
            return await call()
        except ReflowError as err:
            if retry == policy.retries or not is_passing(err):
                raise
        await asyncio.sleep(policy.wait_s(retry, random.random()))
    raise ReflowError(Kind.TOO_MANY_TRIES)
