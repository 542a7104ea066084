"""The making available of one image: a thread's work, that can be stopped and that tells how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from reflow.core.errors import Kind
from reflow.imagestore.failure import PASSING, ImageError, StoppedError
from reflow.pool import Progress

T = TypeVar("T")

_REPORT_S = 0.2
_STOP_S = 5.0


class Limits(NamedTuple):
    """How long to be patient with the other side; times in seconds.

    A try ends when there was no connection within ``connect_s``, or no byte for ``stall_s``. Between tries
    there are pauses from ``pause_s`` to ``longest_pause_s``. ``daemon_s`` is how long a daemon may take to
    begin its answer: it makes a copy of the image first.
    """

    tries: int = 5
    unreachable_tries: int = 2
    pause_s: float = 1.0
    pause_growth: float = 1.5
    longest_pause_s: float = 10.0
    connect_s: float = 10.0
    stall_s: float = 30.0
    daemon_s: float = 900.0


class Job:
    """Used from several threads. Once it is stopped every call but `detach` raises StoppedError."""

    def __init__(self, observe: Progress | None = None) -> None:
        self._observe = observe
        self._stopped = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._told_s = 0.0
        self._told = ""

    def stop(self) -> None:
        """End the work soon: what waits for a socket wakes up. May be called from anywhere."""
        self._stopped.set()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise StoppedError if the work is no longer wanted."""
        if self._stopped.is_set():
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Wait."""
        if self._stopped.wait(seconds):
            raise StoppedError

    def attach(self, connection: socket.socket) -> None:
        """Let `stop` end a connection."""
        with self._lock:
            self._sockets.add(connection)
        self.check()

    def detach(self, connection: socket.socket) -> None:
        """The connection is closed."""
        with self._lock:
            self._sockets.discard(connection)

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say how far it is (bytes), a few times a second at most; a new text is told at once."""
        self.check()
        now_s = time.monotonic()
        if self._observe is None or (what == self._told and now_s - self._told_s < _REPORT_S):
            return
        self._told, self._told_s = what, now_s
        self._observe(what, done, total)

    def persist(self, limits: Limits, action: Callable[[], T]) -> T:
        """Do something until it works, or fails in a way that will not pass, or all tries are used up."""
        pause_s = limits.pause_s
        for number in range(1, limits.tries + 1):
            try:
                return action()
            except ImageError as err:
                self.check()
                if err.kind not in PASSING:
                    raise
                if err.is_unreachable and number >= limits.unreachable_tries:
                    raise ImageError(Kind.NOT_EXIST, str(err)) from err
                if number == limits.tries:
                    raise err.after(number) from err
                wait_s = min(max(pause_s, err.wait_s), limits.longest_pause_s)
            self.pause(wait_s)
            pause_s = min(pause_s * limits.pause_growth, limits.longest_pause_s)
        raise AssertionError("the last try returns or raises")


async def run_in_thread(work: Callable[[Job], T], progress: Progress | None) -> T:
    """Do work in a thread of its own; cancelling stops the work first.

    The thread is a daemon: where nothing can wake it (a name server that is silent) it does not keep the
    program from ending.
    """
    loop = asyncio.get_running_loop()

    def observe(what: str, done: int, total: int) -> None:
        if progress is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody looks any more
                loop.call_soon_threadsafe(progress, what, done, total)

    job = Job(observe)
    done: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=_work, args=(loop, done, work, job), name="image", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        job.stop()
        await asyncio.wait([done], timeout=_STOP_S)
        if done.done() and not done.cancelled():
            done.exception()  # nobody wants to know
        raise


def _work(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], work: Callable[[Job], T], job: Job
) -> None:
    result: list[T] = []
    error: BaseException | None = None
    try:
        result.append(work(job))
    except BaseException as err:  # noqa: BLE001  (it is raised where the work is awaited)
        error = err

    def settle() -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result[0])

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
