"""Room for commands: who may get ready, who has it, and that it is given back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Resources
from reflow.sched.admission import Admission
from reflow.sched.rooms import AHEAD, Room, Rooms

MACHINE = Resources(cpu=2.0)


class House:
    """Rooms of a machine of two processors, and a clock that stands."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rooms = Rooms(Admission(MACHINE), lambda: self.now_s, None)

    def room(self, cpu: float = 1, priority: int = 0, name: str = "a") -> Room:
        return Room(self.rooms, name, {"cpu": cpu}, priority)

    @property
    def free(self) -> int:
        return self.rooms.admission.free["cpu"]


@pytest.fixture
def house() -> House:
    return House()


async def begun(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(coroutine)
    await turn()
    return task


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_approaches_a_free_machine_has_room_at_once(house: House) -> None:
    room = house.room()
    await room.approach()
    assert room.is_held
    await room.enter()
    assert house.free == 1000
    room.leave()
    room.leave()
    assert house.free == 2000


async def test_a_few_get_ready_while_they_wait_and_then_others(house: House) -> None:
    first = house.room(cpu=2)
    await first.approach()
    rooms = [house.room(cpu=2, name=str(number)) for number in range(AHEAD + 2)]
    approaching = [await begun(room.approach()) for room in rooms]
    assert [each.done() for each in approaching] == [True] * AHEAD + [False] * 2
    entering = await begun(rooms[0].enter())
    assert not entering.done()
    first.leave()
    await turn()
    assert entering.done()
    assert [each.done() for each in approaching] == [True] * (AHEAD + 1) + [False]


async def test_the_next_to_get_ready_is_the_one_that_goes_first(house: House) -> None:
    first = house.room(cpu=2)
    await first.approach()
    ahead = [house.room(cpu=2) for _ in range(AHEAD)]
    for room in ahead:
        await room.approach()
    late, early = house.room(cpu=2, priority=1), house.room(cpu=2, priority=0)
    approaching = [await begun(late.approach()), await begun(early.approach())]
    ahead[0].leave()
    await turn()
    assert [each.done() for each in approaching] == [False, True]


async def test_who_is_small_passes_those_that_are_ready_but_do_not_fit(house: House) -> None:
    first = house.room()
    await first.approach()
    for _ in range(AHEAD):
        await house.room(cpu=2).approach()
    small = house.room()
    await asyncio.wait_for(small.approach(), 1)
    assert small.is_held


async def test_room_that_was_left_is_asked_for_again(house: House) -> None:
    room, other = house.room(cpu=2), house.room(cpu=2)
    await room.approach()
    await other.approach()
    assert not other.is_held
    room.leave()
    assert other.is_held
    again = await begun(room.enter())
    assert not again.done()
    other.leave()
    await asyncio.wait_for(again, 1)
    assert room.is_held


async def test_one_that_stops_waiting_wants_nothing_any_more(house: House) -> None:
    first = house.room(cpu=2)
    await first.approach()
    for await_what in ("approach", "enter"):
        room = house.room(cpu=2)
        task = await begun(getattr(room, await_what)())
        task.cancel()
        await asyncio.wait([task])
        room.leave()
    first.leave()
    assert house.free == 2000
    assert house.rooms.admission.oldest("x") is None


async def test_who_waits_when_the_machine_is_closed_is_told(house: House) -> None:
    first, second = house.room(cpu=2), house.room(cpu=2, name="align")
    await first.approach()
    await second.approach()
    entering = await begun(second.enter())
    house.rooms.close()
    first.leave()
    with pytest.raises(ReflowError, match="align") as caught:
        await entering
    assert caught.value.kind is Kind.CANCELED
    second.leave()
    assert house.free == 2000
    with pytest.raises(ReflowError):
        await house.room().approach()


async def test_whatever_they_do_all_get_their_turn_and_nothing_is_lost(house: House) -> None:
    rng = random.Random(3)
    inside = 0
    served = 0

    async def visit(number: int) -> None:
        nonlocal inside, served
        cpu = rng.choice([1, 1, 2])
        room = house.room(cpu=cpu, priority=rng.randrange(2), name=str(number))
        try:
            await room.approach()
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
                if rng.random() < 0.3:
                    room.leave()
                await room.enter()
                inside += cpu
                try:
                    assert inside <= 2
                    await asyncio.sleep(0)
                finally:
                    inside -= cpu
            served += 1
        finally:
            room.leave()

    visits = [asyncio.ensure_future(visit(number)) for number in range(400)]
    for each in rng.sample(visits, 60):
        await asyncio.sleep(0)
        each.cancel()
    done = await asyncio.wait_for(asyncio.gather(*visits, return_exceptions=True), 30)
    assert [each for each in done if isinstance(each, Exception)] == []
    assert served >= 300
    assert house.free == 2000
