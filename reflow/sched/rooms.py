"""Room on this machine for the commands of tasks, shared with the other runs of this machine.

A task has room while its command runs, not while its inputs are brought in or its outputs are taken: so the
machine is busy all the time. A few tasks get ready while they wait, in the order in which they are to start.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reflow.core.errors import Kind, ReflowError
from reflow.sched.admission import Admission, Waiting

if TYPE_CHECKING:
    from reflow.pool import Room as AnyRoom
    from reflow.sched.ledger import Ledger
    from reflow.sched.telling import Telling

POLL_S = 0.2
"""How often a run with tasks that wait looks whether other runs have left some room."""

POLL_ALONE_S = 1.0
"""How often it looks whether others have come."""

AHEAD = 4
"""How many tasks may get ready while they wait for room."""


class Room:
    """What one task wants, and has from `enter` to `leave`. ``telling`` is told whether it waits."""

    def __init__(
        self,
        rooms: Rooms,
        name: str,
        wanted: Mapping[str, float],
        priority: int,
        telling: Telling | None = None,
    ) -> None:
        self.name = name
        self.telling = telling
        self.is_held = False
        self._rooms = rooms
        self._wanted = wanted
        self._priority = priority
        self._waiting: Waiting | None = None
        self._called: asyncio.Future[None] | None = None
        self._is_ahead = False

    @property
    def may_get_ready(self) -> bool:
        """Whether its task may prepare all that its command needs."""
        return self.is_held or self._is_ahead

    async def approach(self) -> None:
        """Ask for room; return when the task may get ready, with room or before there is any.

        Raises CANCELED when there will be none any more.
        """
        self._ask()
        if not self.may_get_ready:
            self._rooms.queue_up(self)
        while not self.may_get_ready:
            await self._call()
        self._rooms.check_open(self)

    async def enter(self) -> None:
        """Return when there is room. Raises CANCELED when there will be none any more."""
        self._rooms.check_open(self)
        self._ask()
        if not self.is_held and self.telling is not None:
            self.telling.is_ready()
        while not self.is_held:
            await self._call()
        self._rooms.check_open(self)

    def leave(self) -> None:
        """Give the room back, or want it no more."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        was_held, self.is_held = self.is_held, False
        self._tell(is_waiting=False)
        self._stay_behind()
        self._rooms.give_up(waiting, was_held=was_held)

    def _ask(self) -> None:
        if self._waiting is None:
            self._waiting = self._rooms.ask(self, self._wanted, self._priority)
            self._tell(is_waiting=True)
            self._rooms.let_in_also(self._waiting)

    def _tell(self, *, is_waiting: bool) -> None:
        if self.telling is not None:
            self.telling.waits(is_waiting)

    async def _call(self) -> None:
        self._called = asyncio.get_running_loop().create_future()
        await self._called

    def _wake(self) -> None:
        if self._called is not None and not self._called.done():
            self._called.set_result(None)

    def _stay_behind(self) -> None:
        if self._is_ahead:
            self._is_ahead = False
            self._rooms.step_back()

    # For the machine's rooms.

    @property
    def order(self) -> tuple[int, int] | None:
        """Its place among those that wait for somebody to call them; None when it does not."""
        is_waiting = self._waiting is not None and not self.may_get_ready
        return self._waiting.order if self._waiting is not None and is_waiting else None

    def go_ahead(self) -> None:
        """Its task may get ready."""
        self._is_ahead = True
        self._wake()

    def let_in(self) -> None:
        """There is room for it, and it has that from now on, whether it knows yet or not."""
        self.is_held = True
        self._tell(is_waiting=False)
        self._stay_behind()
        self._wake()


class Rooms:
    """All of this machine. With a ``ledger`` (open; closed with this) other runs are taken into account."""

    def __init__(self, admission: Admission, clock: Callable[[], float], ledger: Ledger | None) -> None:
        self.admission = admission
        self._clock = clock
        self._ledger = ledger
        self._asking: dict[Waiting, Room] = {}
        self._line: list[tuple[tuple[int, int], Room]] = []
        self._ahead = 0
        self._poll: asyncio.TimerHandle | None = None
        self._is_closed = False

    def check_open(self, room: Room) -> None:
        """Raise CANCELED when nothing may start any more."""
        if self._is_closed:
            raise ReflowError(Kind.CANCELED, "exec", room.name)

    def ask(self, room: Room, wanted: Mapping[str, float], priority: int) -> Waiting:
        """Want room. `let_in` decides."""
        waiting = self.admission.ask(wanted, priority, self._clock())
        self._asking[waiting] = room
        return waiting

    def give_up(self, waiting: Waiting, *, was_held: bool) -> None:
        """Give room back, or want none any more."""
        if was_held:
            self.admission.release(waiting)
        else:
            del self._asking[waiting]
            self.admission.withdraw(waiting)
        self.let_in()

    def let_in(self) -> None:
        """Give room to all that may have it now."""
        for waiting in self._admit():
            self._asking.pop(waiting).let_in()

    def let_in_also(self, waiting: Waiting) -> None:
        """Give room to one that has just asked. Others know already that we wait, if we do."""
        if len(self._asking) == 1 or self.admission.may_fit(waiting):
            self.let_in()

    def queue_up(self, room: Room) -> None:
        """Wait to be called, to get ready."""
        assert room.order is not None
        heapq.heappush(self._line, (room.order, room))
        self._call()

    def step_back(self) -> None:
        """One that was called has room, or wants none."""
        self._ahead -= 1
        self._call()

    def _call(self) -> None:
        while self._line and self._ahead < AHEAD:
            order, room = heapq.heappop(self._line)
            if room.order == order:
                self._ahead += 1
                room.go_ahead()

    def _admit(self) -> list[Waiting]:
        """Decide who starts now, together with the other runs if there are any."""
        now, ledger = self._clock(), self._ledger
        if ledger is None:
            return self.admission.admit(now)
        try:
            with ledger.turn(now) as others:
                if others is None:
                    self._look_again(POLL_S)
                    return []
                admitted = self.admission.admit(now, others, ledger.name)
                ledger.write(self.admission.held, self.admission.oldest(ledger.name), now)
        except OSError:
            # Its directory is gone, or the disk is broken: from now on this run is on its own.
            self._leave_ledger()
            return self.admission.admit(now)
        if len(self._asking) > len(admitted):
            is_alone = not others.count and not others.orphaned
            self._look_again(POLL_ALONE_S if is_alone else POLL_S)
        return admitted

    def _look_again(self, delay_s: float) -> None:
        if self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._poll = None
        self.let_in()

    def _leave_ledger(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def close(self) -> None:
        """Let nobody in any more. What has room keeps it."""
        self._is_closed = True

    def forget(self) -> None:
        """Leave the other runs: nothing of ours runs any more."""
        self._leave_ledger()


if TYPE_CHECKING:
    _: type[AnyRoom] = Room
