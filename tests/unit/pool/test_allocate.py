"""Allocs out of the offers of a pool."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Requirements, Resources
from reflow.pool import Alloc, AllocMeta, Offer
from reflow.pool.allocate import MAX_ROUNDS, allocate
from reflow.repository.memory import MemoryRepository
from tests.fakes import Shell
from tests.pools import GIB, MACHINE, MemoryPool

SMALL = Requirements(Resources(mem=GIB, cpu=1.0, disk=GIB))


def a_pool() -> MemoryPool:
    return MemoryPool("m0", Shell, {"memory:": MemoryRepository()})


class Contested(MemoryPool):
    """A pool where somebody else is faster, ``times`` times, or where something is the matter."""

    def __init__(self, times: int, error: ReflowError) -> None:
        super().__init__("m0", Shell, {"memory:": MemoryRepository()})
        self.times = times
        self.error = error
        self.rounds = 0

    async def offers(self) -> Sequence[Offer]:
        self.rounds += 1
        return await super().offers()

    async def make(self, meta: AllocMeta) -> Alloc:
        if self.times:
            self.times -= 1
            raise self.error
        return await super().make(meta)


EXPIRED = ReflowError(Kind.NOT_EXIST, "alloc", cause="offer expired")


async def test_owner_and_labels_go_with_the_request() -> None:
    pool = a_pool()
    alloc = await allocate(pool, SMALL, owner="Ann <ann>", labels={"Name": "x"})
    assert alloc.resources == SMALL.minimum
    assert pool.made[0].meta.owner == "Ann <ann>"
    assert pool.made[0].meta.labels == {"Name": "x"}


async def test_the_whole_machine_is_taken_when_little_would_be_left() -> None:
    alloc = await allocate(a_pool(), Requirements(Resources(mem=GIB, cpu=4.0, disk=GIB)))
    assert alloc.resources == MACHINE


async def test_one_looks_again_when_somebody_was_faster() -> None:
    pool = Contested(3, EXPIRED)
    assert await allocate(pool, SMALL)
    assert pool.rounds == 4


async def test_one_does_not_look_for_ever() -> None:
    pool = Contested(100, EXPIRED)
    with pytest.raises(ReflowError, match="too many tries") as caught:
        await allocate(pool, SMALL)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert pool.rounds == MAX_ROUNDS


async def test_other_trouble_ends_it() -> None:
    pool = Contested(1, ReflowError(Kind.NET, "accept"))
    with pytest.raises(ReflowError) as caught:
        await allocate(pool, SMALL)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert pool.rounds == 1


async def test_expired_allocs_make_room() -> None:
    pool = a_pool()
    whole = Requirements(MACHINE)
    first = await allocate(pool, whole)
    with pytest.raises(ReflowError):
        await allocate(pool, whole)
    await first.keepalive(-1.0)
    second = await allocate(pool, whole)
    assert pool.made[0].is_freed
    assert second is pool.made[1]
