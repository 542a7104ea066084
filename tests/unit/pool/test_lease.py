"""Leases are renewed in time, with retries, until the alloc is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflow.core.errors import Kind, ReflowError
from reflow.core.resources import Resources
from reflow.pool import AllocMeta
from reflow.pool.lease import EARLY_S, RETRIES, LeaseKeeper, granted_s
from reflow.repository.memory import MemoryRepository
from tests.fakes import Shell
from tests.pools import MemoryAlloc, MemoryPool

NET = ReflowError(Kind.NET, "test")


class Clock:
    """Notes how long is slept; the end comes when it was asked for ``limit`` times."""

    def __init__(self, limit: int = 100) -> None:
        self.slept: list[float] = []
        self.limit = limit

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) >= self.limit:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


async def an_alloc() -> MemoryAlloc:
    pool = MemoryPool("m0", Shell, {"memory:": MemoryRepository()})
    alloc = await pool.make(AllocMeta(want=Resources(mem=1.0, cpu=1.0, disk=1.0)))
    assert isinstance(alloc, MemoryAlloc)
    return alloc


def keeper(alloc: Any, clock: Clock, said: list[str]) -> LeaseKeeper:
    return LeaseKeeper(alloc, said.append, sleep=clock.sleep, chance=lambda: 0.0)


async def test_a_lease_is_renewed_half_a_minute_early() -> None:
    alloc, clock = await an_alloc(), Clock(3)
    with pytest.raises(asyncio.CancelledError):
        await keeper(alloc, clock, []).keep()
    assert clock.slept == [90.0] * 3


async def test_a_renewal_that_fails_is_tried_again() -> None:
    alloc, clock, said = await an_alloc(), Clock(4), []
    alloc.faults["keepalive"] = [NET, NET]
    with pytest.raises(asyncio.CancelledError):
        await keeper(alloc, clock, said).keep()
    assert clock.slept == [2.0, 3.0, 90.0, 90.0]
    assert len(said) == 2


async def test_after_some_tries_the_alloc_is_lost() -> None:
    alloc, clock = await an_alloc(), Clock()
    alloc.die()
    error = await keeper(alloc, clock, []).keep()
    assert error.kind is Kind.TOO_MANY_TRIES
    assert clock.slept == [2.0, 3.0, 4.5, 6.75, 10.125]


@pytest.mark.parametrize("kind", [Kind.FATAL, Kind.NOT_EXIST, Kind.NOT_SUPPORTED])
async def test_an_alloc_that_says_it_is_gone_is_lost_at_once(kind: Kind) -> None:
    alloc, clock = await an_alloc(), Clock()
    alloc.faults["keepalive"] = [ReflowError(kind, "alloc")]
    assert (await keeper(alloc, clock, []).keep()).kind is kind
    assert clock.slept == []


def test_all_retries_together_are_over_before_the_lease_is() -> None:
    assert sum(RETRIES.waits_s()) < EARLY_S


def test_a_lease_is_granted_for_five_minutes_at_most() -> None:
    assert [granted_s(asked) for asked in (-1.0, 60.0, 300.0, 301.0)] == [-1.0, 60.0, 300.0, 300.0]
