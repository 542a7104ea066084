"""Blocking calls in a bounded number of threads.

The threads are daemons: a call that hangs (a pull, a dead disk) does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["_Landing", "asyncio.Future[Any]", Callable[[], Any]]


class Blocking:
    """Runs blocking calls in at most ``limit`` threads, which start when they are needed.

    Cancelling an awaited call does not stop the thread behind it, only the waiting.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._landing: _Landing | None = None

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``function`` returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._busy += 1
        if self._busy > self._threads and self._threads < self._limit:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        if self._landing is None or self._landing.loop is not loop:
            self._landing = _Landing(loop)
        self._jobs.put((self._landing, future, partial(function, *args, **kwargs)))
        try:
            return await future
        finally:
            self._busy -= 1

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            landing, future, call = job
            if future.cancelled():
                continue
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as err:  # noqa: BLE001  (it is raised where the call was awaited)
                error = err
            landing.bring(future, result, error)
            del job, landing, future, call, result, error


async def to_the_end(work: Coroutine[Any, Any, T], stop: Callable[[], None] | None = None) -> T:
    """Await some work; when cancelled meanwhile, ``stop`` it and wait for its end all the same.

    For work in threads that must not go on behind the back of whoever cleans up.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


class _Landing:
    """Brings results to a loop; those that come before it looks wake it once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._come: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []

    def bring(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Settle a future of the loop; from any thread."""
        with self._lock:
            self._come.append((future, result, error))
            is_first = len(self._come) == 1
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.loop.call_soon_threadsafe(self._land)

    def _land(self) -> None:
        with self._lock:
            come, self._come = self._come, []
        for future, result, error in come:
            _settle(future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
