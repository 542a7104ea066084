"""Does the Docker daemon still answer? Asked now and then while containers run, and after trouble.

A daemon may hang: it accepts connections, and never answers. And it may go away and come back, and its
containers with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reflow.core.errors import Kind, ReflowError
from reflow.executor import docker_socket

T = TypeVar("T")

INTERVAL_S = 10.0
"""How often a daemon is asked that somebody waits for, and how long an answer may take."""

SILENCE_S = 120.0
"""How long it may not answer before it counts as hanging."""

HURRY_S = 5.0
"""How long an answer may take when all is to end, and somebody waits for that."""

ENDING_S = 20.0
"""How long a call may take then: there are daemons that answer when they are asked, and do nothing else."""

RETURN_S = 30.0
"""How long one that is away has to come back."""

_PAUSE_S = 0.5
_LOOK_S = 1.0


def _never() -> bool:
    return False


class Pulse:
    """That of the daemon at ``path``. ``is_hurried`` tells whether all is to end now."""

    def __init__(self, path: str, is_hurried: Callable[[], bool] = _never) -> None:
        self._path = path
        self._is_hurried = is_hurried
        self._trouble = ""
        self._asked_s = float("-inf")
        self._answered_s = time.monotonic()
        self._asking = asyncio.Lock()

    @property
    def is_weak(self) -> bool:
        """Whether it did not answer when it was asked last."""
        return bool(self._trouble)

    async def ask(self) -> None:
        """Raise UNAVAILABLE when the daemon does not answer just now; in a hurry, when it lately did not."""
        await self._ask(INTERVAL_S if self._trouble and self._is_hurried() else 0.0)
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

    async def answered(self, call: Awaitable[T]) -> T:
        """Await an answer that takes seconds. Raises TimeoutError when all is to end, and the daemon hangs.

        The call may be carried out all the same, later.
        """
        task = asyncio.ensure_future(call)
        hurried_s: float | None = None
        try:
            while not (await asyncio.wait([task], timeout=_LOOK_S))[0]:
                if not self._is_hurried():
                    continue
                hurried_s = hurried_s or time.monotonic()
                await self._ask(_LOOK_S)
                if self._trouble:
                    raise TimeoutError(self._trouble)
                if time.monotonic() - hurried_s > ENDING_S:
                    raise TimeoutError(f"no answer to a call within {ENDING_S:g} s at {self._path}")
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
            patience_s = HURRY_S if self._is_hurried() else INTERVAL_S
            self._trouble = await docker_socket.ping(self._path, patience_s)
            self._asked_s = time.monotonic()
            if not self._trouble:
                self._answered_s = self._asked_s

    def _error(self) -> ReflowError:
        detail = f"the docker daemon does not answer: {self._trouble}"
        return ReflowError(Kind.UNAVAILABLE, "docker", cause=detail)
