"""Things at the same time, in equal shares."""

from __future__ import annotations

import asyncio

import pytest

from reflow.blob.shares import Share, Shares


class Work:
    """Things that one share does until they are told to end."""

    def __init__(self, share: Share, count: int) -> None:
        self._share = share
        self._gates = [asyncio.Event() for _ in range(count)]
        self.tasks = [asyncio.ensure_future(self._do(gate)) for gate in self._gates]
        self.running: list[asyncio.Event] = []

    async def _do(self, gate: asyncio.Event) -> None:
        async with self._share:
            self.running.append(gate)
            try:
                await gate.wait()
            finally:
                self.running.remove(gate)

    async def end(self, count: int) -> None:
        """Let some of what runs end."""
        for gate in self.running[:count]:
            gate.set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_alone_has_all() -> None:
    shares = Shares(4)
    with shares.share() as share:
        work = Work(share, 6)
        await settle()
        assert len(work.running) == 4
        await work.end(6)
        await work.end(6)
        await asyncio.gather(*work.tasks)


async def test_those_that_come_later_get_as_many() -> None:
    shares = Shares(4)
    with shares.share() as one, shares.share() as two:
        first = Work(one, 9)
        await settle()
        assert len(first.running) == 2  # the other's half waits for it
        second = Work(two, 9)
        await settle()
        assert (len(first.running), len(second.running)) == (2, 2)
        await first.end(2)
        assert (len(first.running), len(second.running)) == (2, 2)
        for work in (first, second):
            for task in work.tasks:
                task.cancel()
        await settle()


async def test_what_the_first_has_goes_to_who_has_less() -> None:
    shares = Shares(4)
    with shares.share() as one:
        first = Work(one, 9)
        await settle()
        assert len(first.running) == 4
        with shares.share() as two:
            second = Work(two, 9)
            await settle()
            assert (len(first.running), len(second.running)) == (4, 0)
            await first.end(3)
            assert (len(first.running), len(second.running)) == (2, 2)
            for task in second.tasks:
                task.cancel()
            await settle()
        await settle()
        assert len(first.running) == 4  # alone again
        for task in first.tasks:
            task.cancel()
        await settle()


async def test_with_more_shares_than_things_the_first_are_done_first() -> None:
    shares = Shares(2)
    with shares.share() as one, shares.share() as two, shares.share() as three:
        works = [Work(share, 2) for share in (one, two, three)]
        await settle()
        assert [len(work.running) for work in works] == [1, 1, 0]
        await works[0].end(1)
        assert [len(work.running) for work in works] == [1, 1, 0]
        await works[0].end(1)
        assert [len(work.running) for work in works] == [0, 1, 1]
        for _ in range(3):
            for work in works:
                await work.end(1)
        await asyncio.gather(*(task for work in works for task in work.tasks))


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_one_that_is_cancelled_gives_back(is_waiting: bool) -> None:
    shares = Shares(1)
    with shares.share() as share:
        work = Work(share, 3)
        await settle()
        work.tasks[1 if is_waiting else 0].cancel()
        await settle()
        await work.end(1)
        await work.end(1)
        await settle()
        assert [task.done() for task in work.tasks] == [True, True, True]


async def test_one_that_is_cancelled_when_its_turn_comes_gives_back() -> None:
    shares = Shares(1)
    with shares.share() as share:
        work = Work(share, 3)
        await settle()
        work.tasks[1].cancel()
        next(iter(work.running)).set()  # both before the loop looks again
        await settle()
        assert len(work.running) == 1
        await work.end(1)
        assert all(task.done() for task in work.tasks)
