"""Does the Docker daemon still answer? Asked now and then while containers run, and after trouble.

A daemon may hang: it accepts connections, and never answers. And it may go away and come back, and its
containers with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from reflow.core.errors import Kind, ReflowError
from reflow.executor import docker_socket

T = TypeVar("T")

INTERVAL_S = 10.0
"""How often a daemon is asked that somebody waits for, and how long an answer may take."""

SILENCE_S = 120.0
"""How long it may not answer before it counts as hanging."""

RETURN_S = 30.0
"""How long one that is away has to come back."""

_PAUSE_S = 0.5


class Pulse:
    """That of the daemon at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._trouble = ""
        self._asked_s = float("-inf")
        self._answered_s = time.monotonic()
        self._asking = asyncio.Lock()

    @property
    def is_weak(self) -> bool:
        """Whether it did not answer when it was asked last."""
        return bool(self._trouble)

    async def ask(self) -> None:
        """Raise UNAVAILABLE when the daemon does not answer just now."""
        await self._ask(0.0)
        if self._trouble:
            raise self._error()

    async def watched(self, work: Awaitable[T]) -> T:
        """Await an answer that may take hours. Raises OSError when the daemon is gone, or hangs."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=INTERVAL_S)
                if not task.done():
                    await self._ask(INTERVAL_S)
                    silence_s = time.monotonic() - self._answered_s
                    if self._trouble and silence_s > SILENCE_S:
                        raise TimeoutError(f"no answer for {silence_s:.0f} s")
            return task.result()
        finally:
            task.cancel()

    async def back(self) -> None:
        """Return when the daemon answers (again). Raises UNAVAILABLE when it does not within `RETURN_S`."""
        deadline_s = time.monotonic() + RETURN_S
        while True:
            await self._ask(_PAUSE_S)
            if not self._trouble:
                return
            if time.monotonic() > deadline_s:
                raise self._error()
            await asyncio.sleep(_PAUSE_S)

    async def _ask(self, age_s: float) -> None:
        """Ask, unless somebody has just now."""
        began_s = time.monotonic()
        async with self._asking:
            if self._asked_s > began_s - age_s:
                return
            self._trouble = await docker_socket.ping(self._path, INTERVAL_S)
            self._asked_s = time.monotonic()
            if not self._trouble:
                self._answered_s = self._asked_s

    def _error(self) -> ReflowError:
        detail = f"the docker daemon does not answer: {self._trouble}"
        return ReflowError(Kind.UNAVAILABLE, "docker", cause=detail)
