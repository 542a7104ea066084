"""Collecting shared stores: what goes, what stays, and that it may be interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.runtime.collect import CollectRequest
from reflow.runtime.collectpace import Pace, Progress
from reflow.runtime.collectstate import CollectState
from reflow.runtime.log import LEVELS, Log
from tests.collectworld import DAY_S, KEYS, NOW_S, World, fileset_of, key_of, nothing, set_clock
from tests.turns import Turns

OLD, NEW = b"old", b"new"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch)


def world_at(path: Path) -> World:
    return World(Turns(lambda names: 0), str(path / "state"))


async def collect(world: World, days: float = 10, **changes: Any) -> None:
    request = CollectRequest(NOW_S - days * DAY_S, nothing, nothing, dry_run=False, rate=10**9)
    work = asyncio.ensure_future(world.collect(request._replace(**changes)))
    await world.turns.drive([work])


async def test_what_was_not_used_goes_with_its_objects(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [OLD, b"shared"], 40)
    world.add_result(KEYS[1], [NEW, b"shared"], 5)
    alone, young = world.add(b"nobody's", 40), world.add(b"an upload of now", 0.5)
    await collect(world)
    assert list(world.dynamo.items) == [str(KEYS[1])]
    assert world.is_whole(Digest.of(fileset_of([NEW, b"shared"])))
    gone = [Digest.of(OLD), Digest.of(fileset_of([OLD, b"shared"])), alone]
    assert not any(world.is_there(each) for each in gone)
    assert world.is_there(young)
    assert world.is_there(world.recorded)
    counts, objects = world.collector.entries, world.collector.objects
    assert (counts.scanned, counts.removed, counts.live, counts.live_objects) == (2, 1, 1, 2)
    assert (objects.objects, objects.removed, objects.recorded) == (7, 3, 1)


async def test_a_dry_run_changes_nothing_and_counts_the_same(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [OLD], 40)
    world.add_result(KEYS[1], [NEW], 1)
    before = dict(world.dynamo.items), dict(world.bucket.objects)
    await collect(world, days=0, dry_run=True)
    assert (world.dynamo.items, world.bucket.objects) == before
    counts, objects = world.collector.entries, world.collector.objects
    assert (counts.removed, counts.held, objects.removed, objects.held) == (1, 1, 2, 2)
    assert set(world.dynamo.calls) == {"Scan"}


async def test_labels_do_not_take_what_was_used_within_the_last_day(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    for number, days in enumerate((0.5, 1.5, 3)):
        world.add_result(KEYS[number], [b"%d" % number], days)
    await collect(world, days=100, is_dead=lambda labels: True)
    assert set(world.dynamo.items) == {str(KEYS[0]), str(KEYS[1])}
    counts = world.collector.entries
    assert (counts.matched, counts.held_matched) == (1, 2)
    assert not world.is_there(Digest.of(b"2"))


async def test_what_was_stored_within_the_last_day_stays_whatever_the_threshold(tmp_path: Path) -> None:
    """Somebody may be about to write an entry for it."""
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [NEW], 1)
    young, old = world.add(b"an upload of now", 0.5), world.add(OLD, 3)
    await collect(world, days=0)
    assert (world.is_there(young), world.is_there(old)) == (True, False)
    objects = world.collector.objects
    assert (objects.removed, objects.held) == (1, 3)
    await collect(world, days=-1)
    assert world.is_there(young)


async def test_rows_without_values_or_times_go(tmp_path: Path) -> None:
    """The original leaves them, and the objects of the latter are no garbage to whoever looks them up."""
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [OLD], 40)
    del world.dynamo.items[str(KEYS[0])]["LastAccessTime"]
    for number, days in ((1, 40.0), (2, 0.1)):
        world.add_entry(KEYS[number], b"", days)
        del world.dynamo.items[str(KEYS[number])]["ValueV2"]
    await collect(world)
    assert list(world.dynamo.items) == [str(KEYS[2])]


async def test_an_entry_in_use_that_somebody_else_removed_keeps_all_objects(tmp_path: Path) -> None:
    """Only who removed it knows what it referred to."""
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [NEW], 5)
    old = world.add(OLD, 40)
    world.add_entry(KEYS[1], b"", 0)
    del world.dynamo.items[str(KEYS[1])]["ValueV2"]
    with pytest.raises(ReflowError, match="1 entries in use were removed by somebody else") as caught:
        await collect(world)
    assert caught.value.kind is ErrorKind.PRECONDITION
    assert world.is_there(old)


async def test_broken_rows_stay(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.add_result(KEYS[1], [NEW], 5)
    world.add_entry(KEYS[0], b"", 40)
    world.dynamo.items[str(KEYS[0])]["ValueV2"] = {"S": "sha256:12"}
    await collect(world)
    assert set(world.dynamo.items) == {str(KEYS[0]), str(KEYS[1])}


async def test_an_index_that_does_not_belong_to_the_objects_removes_none(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.add(OLD, 40)
    objects = dict(world.bucket.objects)
    with pytest.raises(ReflowError, match="the index has no entries: no object is removed"):
        await collect(world)
    for number in range(3):
        world.add_entry(KEYS[number], b"elsewhere %d" % number, 5)
    with pytest.raises(ReflowError, match="of 3 value objects 3 are not in the repository"):
        await collect(world)
    world.dynamo.items.clear()
    world.add_entry(KEYS[3], b"elsewhere", 50)
    with pytest.raises(ReflowError, match="of 1 value objects 1 are not in the repository"):
        await collect(world)
    assert world.bucket.objects == objects
    await collect(world, dry_run=True)
    assert world.collector.objects.removed == 1


async def test_a_repository_that_fails_keeps_all_objects(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [OLD], 40)
    world.add_result(KEYS[1], [NEW], 5)
    world.bucket.is_down = True
    objects = dict(world.bucket.objects)
    with pytest.raises(ReflowError) as caught:
        await collect(world)
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert world.bucket.objects == objects


async def test_what_a_killed_one_read_is_not_read_again(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    for number in range(4):
        world.add_result(KEYS[number], [b"%d" % number], 5)
    await collect(world)
    assert world.bucket.calls["read"] == 4
    world.state.close(is_done=False)
    world.state = CollectState(str(tmp_path / "state"))
    world.add_result(KEYS[4], [NEW], 5)
    await collect(world)
    assert world.bucket.calls["read"] == 5
    assert len(world.dynamo.items) == 5
    assert all(world.is_whole(Digest.of(fileset_of([b"%d" % number]))) for number in range(4))
    world.state.close(is_done=True)
    assert not (tmp_path / "state").exists()


async def test_it_may_be_killed_at_any_time(tmp_path: Path) -> None:
    def filled(path: Path) -> World:
        world = world_at(path)
        for number in range(5):
            world.add_result(KEYS[number], [b"%d" % number, b"shared"], 40 if number % 2 else 5)
        return world

    undisturbed = filled(tmp_path / "undisturbed")
    await collect(undisturbed)
    for moment in itertools.count():
        world = filled(tmp_path / str(moment))
        turns = itertools.count()
        work: list[asyncio.Task[None]] = []

        def kill(names: object, turns: Any = turns, work: Any = work, moment: int = moment) -> int:
            if next(turns) == moment:
                work[0].cancel()
            return 0

        world.turns._pick = kill
        request = CollectRequest(NOW_S - 10 * DAY_S, nothing, nothing, dry_run=False, rate=10**9)
        work.append(asyncio.ensure_future(world.collect(request)))
        with contextlib.suppress(asyncio.CancelledError):
            await world.turns.drive(work)
            break
        for item in world.dynamo.items.values():
            assert world.is_whole(Digest.parse(item["ValueV2"]["S"]))
        world.turns = Turns(lambda names: 0)
        world.bucket._turns = world.turns
        world.dynamo._turn = world.turns.take
        world.state.close(is_done=False)
        world.state = CollectState(str(tmp_path / str(moment) / "state"))
        await collect(world)
        assert world.dynamo.items == undisturbed.dynamo.items
        assert world.bucket.objects == undisturbed.bucket.objects
    assert moment > 20


async def test_stores_are_collected_by_one_at_a_time(tmp_path: Path) -> None:
    state = CollectState(str(tmp_path / "state"))
    with pytest.raises(ReflowError, match="another collect of these stores is under way"):
        CollectState(str(tmp_path / "state"))
    state.close(is_done=True)
    CollectState(str(tmp_path / "state")).close(is_done=True)


async def test_an_object_stored_again_while_it_is_removed_stays(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    old = world.add(OLD, 40)
    world.add_result(KEYS[0], [NEW], 5)
    scan = world.bucket.scan

    async def late_scan(prefix: str, *, has_metadata: bool = False) -> Any:
        async for key, file in scan(prefix):
            if key == key_of(old):
                world.add(OLD, 0)
            yield key, file

    world.bucket.scan = late_scan  # type: ignore[method-assign]
    await collect(world)
    assert world.is_there(old)
    assert world.collector.objects.removed == 0


async def test_uploads_that_nobody_finished_go(tmp_path: Path) -> None:
    world = world_at(tmp_path)
    world.add_result(KEYS[0], [NEW], 5)
    for name, days in (("a", 40), ("b", 0.5)):
        world.add(OLD, days)
        world.bucket.store_at(f"uploads/{name}", OLD, world.time(days))
    world.bucket.store_at("objects/sha256:ab/readme", OLD, world.time(40))
    await collect(world)
    objects: Any = world.collector._scope.place

    async def collect_uploads() -> None:
        for dry_run in (True, False):
            found = await objects.collect_uploads(world.collector.limit_s, dry_run=dry_run)
            assert found == (2, 1, 3)

    await world.turns.drive([asyncio.ensure_future(collect_uploads())])
    assert "uploads/a" not in world.bucket.objects
    assert "uploads/b" in world.bucket.objects
    assert "objects/sha256:ab/readme" in world.bucket.objects
    assert objects.strangers == 1


async def test_a_pace_is_kept() -> None:
    now_s = [0.0]

    async def sleep(duration_s: float) -> None:
        now_s[0] += duration_s

    pace = Pace(100, sleep, lambda: now_s[0])
    for _ in range(10):
        await pace.take(50)
    assert now_s == [4.5]


def test_progress_is_told_now_and_then() -> None:
    now_s, lines = [0.0], []
    progress = Progress(Log(LEVELS["info"], lines.append), lambda: now_s[0])
    for moment in range(0, 100, 10):
        now_s[0] = moment
        progress.tell(f"at {moment}")
    assert len(lines) == 3
