"""Renewing times of use behind look-ups.

A hit is handed out at once, and its time is renewed behind it, before a collection of garbage can have
removed what it refers to: that one waits, after its last deletion of an entry, for longer than
`PUT_BACK_S`, and then looks again at what is used (decision 0014). So an entry that it took between the
look-up and the renewal is put back; when that is too late, this is told, and nothing is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

from reflow.assoc.dynamoitem import changed, renewed, written_back
from reflow.aws.dynamodb import DynamoDB, Item
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError

AT_ONCE = 16
WAITING_MAX = 4096
"""How many renewals may wait, not counting those of look-ups that have begun."""

HURRY_S = 3.0
"""When a renewal has waited for so long, look-ups wait, too."""

PUT_BACK_S = 10.0
"""How long after a look-up its entry may be put back. Collections wait for at least twice as long."""

CLOSE_S = 30.0
STALLED_S = 10.0
"""How long renewals may take at the end, and how long none of them may be done."""


class Renewal:
    """The renewal of an entry that was looked up at ``read_s`` (by the clock of its `Renewals`) or later.

    It was asked for at ``since_s`` (Unix seconds).
    """

    __slots__ = ("id", "is_lost", "is_used", "read_s", "since_s", "values")

    def __init__(self, id: str, values: Item, read_s: float) -> None:
        self.id = id
        self.values = values
        self.read_s = read_s
        self.since_s = time.time()
        self.is_used = False
        """Its value was handed out."""
        self.is_lost = False
        """The entry has gone, or has another value."""


class Renewals:
    """Those of one table, in the order of the look-ups; ``labels`` are put on what is put back."""

    def __init__(
        self,
        database: DynamoDB,
        table: str,
        labels: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = 0
        """How many entries went after their values were handed out, and could not be put back."""
        self.undone = 0
        """How many times were not renewed for other reasons."""
        self.trouble: ReflowError | None = None
        """The reason for which none is renewed any more."""
        self._database = database
        self._table = table
        self._labels = labels
        self._clock = clock
        self._pending: dict[str, Renewal] = {}
        self._waiting: deque[Renewal] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._landed = asyncio.Event()

    async def admit(self) -> float:
        """Wait until renewals are not far behind; return the time, from which a look-up counts."""
        while self._is_behind():
            self._landed.clear()
            await self._landed.wait()
        return self._clock()

    def _is_behind(self) -> bool:
        for oldest in self._pending.values():
            return len(self._pending) >= WAITING_MAX or self._clock() - oldest.read_s > HURRY_S
        return False

    def add(self, id: str, values: Item, read_s: float) -> Renewal:
        """Renew an entry soon that has such columns of values; it is not being renewed yet."""
        renewal = Renewal(id, values, read_s)
        if self.trouble is not None:
            self.undone += 1
            return renewal
        self._pending[id] = renewal
        self._waiting.append(renewal)
        if len(self._workers) < AT_ONCE:
            self._workers.add(asyncio.create_task(self._work()))
        return renewal

    async def _work(self) -> None:
        try:
            while self._waiting:
                renewal = self._waiting.popleft()
                try:
                    await self._renew(renewal)
                except ReflowError as err:
                    self._stop(err)
                finally:
                    self._pending.pop(renewal.id, None)
                    renewal.values = {}
                    self._landed.set()
        finally:
            worker = asyncio.current_task()
            assert worker is not None
            self._workers.discard(worker)  # at once: what is added now needs another one

    async def _renew(self, renewal: Renewal) -> None:
        request = renewed(self._table, renewal.id, renewal.values)
        if await changed(self._database, "UpdateItem", request) or await self._put_back(renewal):
            return
        renewal.is_lost = True
        self.lost += renewal.is_used

    async def _put_back(self, renewal: Renewal) -> bool:
        """Write an entry again that has gone, unless it is too late."""
        until_s = renewal.read_s + PUT_BACK_S
        if self._clock() > until_s:
            return False
        request = written_back(self._table, renewal.id, renewal.values, self._labels)
        try:
            return await changed(self._database, "UpdateItem", request, until_s=until_s)
        except ReflowError as err:
            if err.kind is ErrorKind.TIMEOUT:
                return False
            raise

    def _stop(self, trouble: ReflowError) -> None:
        """Renew no more: it is not allowed, or the table cannot be reached."""
        self.trouble = self.trouble or trouble
        self.undone += 1 + len(self._waiting)
        for renewal in self._waiting:
            del self._pending[renewal.id]
        self._waiting.clear()

    async def finish(self) -> None:
        """Wait for all; when that takes too long they are given up, and count as undone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._workers:
                    self._landed.clear()
                    async with asyncio.timeout(STALLED_S):
                        await self._landed.wait()
        self.undone += len(self._pending)
        self._pending.clear()
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
