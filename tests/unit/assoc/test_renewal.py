"""Times of use that are renewed behind look-ups: bounded, in time, or told."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from reflow.assoc import Kind, renewal
from reflow.assoc.dynamodb import DynamoAssoc
from reflow.aws.dynamodb import DynamoDB, error_of
from reflow.aws.dynamohttp import CallError
from reflow.aws.session import AwsSession
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.runtime.collectscope import SETTLE_S
from tests.dictdynamo import DictDynamo

NEW = Kind.FILESET_V2
KEYS = [(NEW, Digest.of(b"key %d" % number)) for number in range(300)]
VALUE, OTHER = Digest.of(b"value"), Digest.of(b"another value")


class Table(DictDynamo):
    """A table whose updates wait for a gate, which is open until it is cleared."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = self.most = 0
        self.refusal = ""
        self.limits_s: list[float] = []
        """When updates are to be sent at the latest, of those that must not be late."""
        for _, key in KEYS[:count]:
            item = {"ID": {"S": str(key)}, "ValueV2": {"S": str(VALUE)}, "LastAccessTime": {"N": "5"}}
            self.items[str(key)] = item

    async def call(self, operation: str, request: Any, **options: Any) -> dict[str, Any]:
        if operation != "UpdateItem":
            return await super().call(operation, request, **options)
        self.limits_s += options.values()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            if self.refusal:
                raise error_of(operation, "t", CallError(self.refusal, "no", 400))
            return await super().call(operation, request, **options)
        finally:
            self.under_way -= 1

    def item(self, number: int) -> dict[str, Any]:
        return self.items[str(KEYS[number][1])]

    def remove(self, number: int) -> None:
        del self.items[str(KEYS[number][1])]

    def is_renewed(self, number: int) -> bool:
        return int(self.item(number)["LastAccessTime"]["N"]) > time.time() - 3600


class Place:
    """An index over a table, with a clock that a test sets."""

    def __init__(self, count: int) -> None:
        self.table = Table(count)
        self.warnings: list[str] = []
        self.now_s = 0.0
        self.assoc = DynamoAssoc(AwsSession(), "t", ["user=jo"], warn=self.warnings.append)
        self.assoc._database.close()
        self.assoc._database = self.assoc._rows._database = self.table
        self.assoc._renewals._database = self.table
        self.assoc._renewals._clock = lambda: self.now_s

    async def look_up(self, *numbers: int) -> set[int]:
        """The numbers of the keys that are found."""
        found = await self.assoc.get_many([KEYS[number] for number in numbers])
        assert set(found.values()) <= {VALUE}
        return {number for number in numbers if KEYS[number] in found}

    async def pause(self) -> None:
        """Let all that can go on do so."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.table.gate.set()
        await self.assoc.close()


async def test_a_hit_does_not_wait_for_its_renewal() -> None:
    place = Place(3)
    place.table.gate.clear()
    assert await place.look_up(0, 1, 2) == {0, 1, 2}
    assert not any(place.table.is_renewed(number) for number in range(3))
    closing = asyncio.ensure_future(place.assoc.close())
    await place.pause()
    assert not closing.done()
    place.table.gate.set()
    await closing
    assert all(place.table.is_renewed(number) for number in range(3))
    assert place.warnings == []


async def test_no_more_are_renewed_at_once_than_is_allowed() -> None:
    place = Place(300)
    place.table.gate.clear()
    await place.look_up(*range(300))
    await place.pause()
    assert place.table.under_way == renewal.AT_ONCE
    await place.close()
    assert place.table.most == renewal.AT_ONCE
    assert place.table.calls["UpdateItem"] == 300


async def test_those_that_come_later_are_renewed_too() -> None:
    place = Place(40)
    for number in range(40):
        await place.look_up(number)
        await place.pause()
        assert place.table.is_renewed(number)
    await place.close()


async def test_look_ups_of_one_entry_share_its_renewal() -> None:
    place = Place(1)
    place.table.gate.clear()
    await asyncio.gather(*[place.look_up(0) for _ in range(5)])
    await place.close()
    assert place.table.item(0)["AccessCount"] == {"N": "1"}


@pytest.mark.parametrize(("after_s", "waits"), [(renewal.HURRY_S, False), (renewal.HURRY_S + 1, True)])
async def test_look_ups_wait_for_a_renewal_that_is_late(after_s: float, waits: bool) -> None:
    place = Place(2)
    place.table.gate.clear()
    await place.look_up(0)
    place.now_s = after_s
    looking_up = asyncio.ensure_future(place.look_up(1))
    await place.pause()
    assert looking_up.done() is not waits
    place.table.gate.set()
    assert await looking_up == {1}
    await place.close()


async def test_look_ups_wait_for_a_queue_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "WAITING_MAX", 20)
    place = Place(40)
    place.table.gate.clear()
    await place.look_up(*range(20))
    looking_up = asyncio.ensure_future(place.look_up(*range(20, 40)))
    await place.pause()
    assert not looking_up.done()
    assert len(place.assoc._renewals._pending) == 20
    place.table.gate.set()
    assert await looking_up == set(range(20, 40))
    await place.close()


async def test_an_entry_that_went_is_put_back_as_it_was_handed_out() -> None:
    place = Place(1)
    old = {"L": [{"S": str(OTHER)}, {"S": "x"}]}
    place.table.item(0)["Value"] = old
    place.table.gate.clear()
    assert await place.look_up(0) == {0}
    place.table.remove(0)
    place.now_s = renewal.PUT_BACK_S
    await place.close()
    item = place.table.item(0)
    assert (item["ValueV2"], item["Value"], item["Labels"]) == (
        {"S": str(VALUE)},
        old,
        {"SS": ["user=jo"]},
    )
    assert item["ID4"] == {"S": KEYS[0][1].short}
    assert place.table.is_renewed(0)
    assert sorted(place.table.limits_s) == [renewal.PUT_BACK_S, math.inf]
    assert place.warnings == []


async def test_an_item_with_only_a_time_gets_its_value_back() -> None:
    place = Place(1)
    place.table.gate.clear()
    await place.look_up(0)
    del place.table.item(0)["ValueV2"]
    await place.close()
    assert place.table.item(0)["ValueV2"] == {"S": str(VALUE)}


async def test_an_entry_that_went_too_long_ago_is_not_put_back() -> None:
    place = Place(2)
    place.table.gate.clear()
    assert await place.look_up(0, 1) == {0, 1}
    place.table.remove(0)
    place.now_s = renewal.PUT_BACK_S + 1
    await place.close()
    assert list(place.table.items) == [str(KEYS[1][1])]
    assert place.table.is_renewed(1)
    (warning,) = place.warnings
    assert warning.startswith("1 cached results that were used have left the index meanwhile")


async def test_a_value_that_somebody_else_wrote_meanwhile_stays() -> None:
    place = Place(1)
    place.table.gate.clear()
    await place.look_up(0)
    place.table.item(0)["ValueV2"] = {"S": str(OTHER)}
    before = dict(place.table.item(0))
    await place.close()
    assert place.table.item(0) == before
    assert len(place.warnings) == 1


async def test_an_entry_that_is_lost_before_it_is_handed_out_is_a_miss() -> None:
    place = Place(200)
    read = place.table.batch_get

    async def slow_read(table: str, ids: list[str], **options: Any) -> Any:
        if str(KEYS[0][1]) not in ids:
            await slow.wait()
        async for item in read(table, ids, **options):
            yield item

    slow = asyncio.Event()
    place.table.batch_get = slow_read  # type: ignore[method-assign]
    place.table.gate.clear()
    looking_up = asyncio.ensure_future(place.look_up(*range(200)))
    await place.pause()
    place.table.remove(0)
    place.now_s = renewal.PUT_BACK_S + 1
    place.table.gate.set()
    await place.pause()
    slow.set()
    assert await looking_up == set(range(1, 200))
    await place.close()
    assert place.warnings == []


async def test_a_lost_entry_that_is_computed_again_is_renewed_like_any_other() -> None:
    place = Place(1)
    place.table.gate.clear()
    await place.look_up(0)
    item = place.table.items.pop(str(KEYS[0][1]))
    place.now_s = renewal.PUT_BACK_S + 1
    place.table.gate.set()
    await place.pause()
    place.table.items[str(KEYS[0][1])] = item
    assert await place.look_up(0) == {0}
    await place.close()
    assert place.table.is_renewed(0)


async def test_who_may_not_write_is_told_once() -> None:
    place = Place(300)
    place.table.refusal = "AccessDeniedException"
    assert await place.look_up(*range(200)) == set(range(200))
    await place.pause()
    assert await place.look_up(*range(150, 300)) == set(range(150, 300))
    await place.close()
    assert place.table.calls["UpdateItem"] == 0
    assert place.table.most <= renewal.AT_ONCE
    (warning,) = place.warnings
    assert warning.startswith("300 times of use in the cache's index were not renewed: ")
    assert "no" in warning


@pytest.mark.parametrize(("bound", "other"), [("CLOSE_S", "STALLED_S"), ("STALLED_S", "CLOSE_S")])
async def test_closing_is_bounded_and_tells_what_was_not_done(
    bound: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, bound, 0.01)
    monkeypatch.setattr(renewal, other, 600.0)
    place = Place(30)
    place.table.gate.clear()
    await place.look_up(*range(30))
    async with asyncio.timeout(60):
        await place.assoc.close()
    (warning,) = place.warnings
    assert warning.startswith("30 times of use in the cache's index were not renewed: the table did not take")
    place.table.gate.set()
    await place.pause()
    assert not any(place.table.is_renewed(number) for number in range(30))


async def test_a_run_that_is_interrupted_finishes_its_renewals() -> None:
    place = Place(2)
    place.table.gate.clear()

    async def run() -> None:
        try:
            await place.look_up(0)
            place.now_s = renewal.HURRY_S + 1
            await place.look_up(1)
        finally:
            place.table.gate.set()
            await place.assoc.close()

    running = asyncio.ensure_future(run())
    await place.pause()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (place.table.is_renewed(0), place.table.is_renewed(1)) == (True, False)


class Answers:
    """A transport that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def send(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(operation)
        return {}

    def close(self) -> None:
        pass


async def test_a_call_that_waited_too_long_for_a_thread_is_not_sent() -> None:
    database, answers = DynamoDB(AwsSession()), Answers()
    database._transport = answers
    await database.call("UpdateItem", {"TableName": "t"}, until_s=time.monotonic() + 600)
    with pytest.raises(ReflowError) as caught:
        await database.call("UpdateItem", {"TableName": "t"}, until_s=time.monotonic() - 1)
    assert caught.value.kind is ErrorKind.TIMEOUT
    assert answers.asked == ["UpdateItem"]
    database.close()


def test_collections_wait_for_twice_as_long_as_an_entry_may_be_put_back() -> None:
    assert 2 * renewal.PUT_BACK_S <= SETTLE_S
    assert 2 * renewal.HURRY_S < renewal.PUT_BACK_S
