"""Whether spot instances can be had."""

from __future__ import annotations

import asyncio

import pytest

from reflow.ec2cluster.spot import InstanceLimitError, SpotProber


class Cloud:
    """Has capacity for ``most`` instances; ``error`` is what it says beyond."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self.most = most
        self.error = error
        self.asked: list[int] = []
        self.now = 0.0
        self.prober = SpotProber(self.ask, 8, 60.0, lambda: self.now)

    async def ask(self, type_name: str, number: int) -> bool:
        self.asked.append(number)
        await asyncio.sleep(0)
        if number > self.most and self.error is not None:
            raise self.error
        return number <= self.most


async def test_a_yes_is_good_for_as_many_launches() -> None:
    cloud = Cloud(100)
    assert all([await cloud.prober.has_capacity("m5.large") for _ in range(9)])
    assert cloud.asked == [8, 8]


async def test_fewer_are_asked_for_when_so_many_cannot_be_had() -> None:
    for error in (None, InstanceLimitError("limit")):
        cloud = Cloud(2, error)
        assert await cloud.prober.has_capacity("m5.large")
        assert cloud.asked == [8, 4, 2]


async def test_a_no_is_remembered_for_a_time() -> None:
    cloud = Cloud(0)
    assert not await cloud.prober.has_capacity("m5.large")
    cloud.most = 100
    assert not await cloud.prober.has_capacity("m5.large")
    assert await cloud.prober.has_capacity("c5.large")
    cloud.now = 61.0
    assert await cloud.prober.has_capacity("m5.large")


async def test_an_error_is_told_once_and_counts_as_a_no() -> None:
    cloud = Cloud(0, RuntimeError("boom"))
    with pytest.raises(RuntimeError, match="boom"):
        await cloud.prober.has_capacity("m5.large")
    assert not await cloud.prober.has_capacity("m5.large")
    assert cloud.asked == [8]


async def test_many_who_ask_at_once_cause_one_question() -> None:
    cloud = Cloud(100)
    answers = await asyncio.gather(*[cloud.prober.has_capacity("m5.large") for _ in range(8)])
    assert all(answers)
    assert cloud.asked == [8]
