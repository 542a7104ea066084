"""A number of things at the same time, divided among those that want some in equal shares."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class Shares:
    """At most ``most`` at the same time, in all. Whoever is alone may have them all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._shares: list[Share] = []

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Take part."""
        share = Share(self)
        self._shares.append(share)
        try:
            yield share
        finally:
            self._shares.remove(share)
            self.deal()

    def deal(self, given_back: int = 0) -> None:
        """Give what is free to those that have the fewest, nobody more than a share.

        With more of them than there are things, those that came first are done first.
        """
        self._free += given_back
        while self._free:
            most = -(-self._most // max(1, len(self._shares)))
            able = [share for share in self._shares if share.is_waiting() and share.held < most]
            if not able:
                return
            chosen = min(able, key=lambda share: share.held)
            self._free -= 1
            chosen.turn()


class Share:
    """What one of them has: a context for each of the things that it does at the same time."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def is_waiting(self) -> bool:
        """Whether it wants another one."""
        while self._waiting and self._waiting[0].cancelled():
            self._waiting.popleft()
        return bool(self._waiting)

    def turn(self) -> None:
        """Give it one; it is waiting."""
        self.held += 1
        self._waiting.popleft().set_result(None)

    async def __aenter__(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._shares.deal()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self.held -= 1
        self._shares.deal(1)
