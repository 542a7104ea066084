"""Collecting stores that others use: in every order in which what they do can fall."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from reflow.core.digest import Digest
from reflow.runtime.collect import CollectRequest
from tests.collectworld import DAY_S, KEYS, NOW_S, World, fileset_of, nothing, set_clock
from tests.turns import ACTOR, Turns

CONTENTS = [b"file %d" % number for number in range(5)]
ages = st.sampled_from([0.5, 1.5, 3, 3, 40, 40])
entries = st.tuples(ages, st.sets(st.sampled_from(CONTENTS), min_size=1, max_size=2))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(entries, min_size=1, max_size=5),
    object_ages=st.lists(st.sampled_from([0.5, 3, 40, 40]), min_size=5, max_size=5),
    readers=st.lists(st.integers(0, 4), max_size=2),
    originals=st.lists(st.integers(0, 4), max_size=2),
    writers=st.lists(st.sets(st.sampled_from(CONTENTS), min_size=1, max_size=2), max_size=3),
    has_another=st.booleans(),
    threshold_days=st.sampled_from([0, 2, 2, 30]),
    speeds=st.lists(st.sampled_from([1, 4, 16]), min_size=10, max_size=10),
    seed=st.integers(0, 2**32),
)
def test_nothing_that_is_used_meanwhile_goes(
    rows: list[tuple[float, set[bytes]]],
    object_ages: list[float],
    readers: list[int],
    originals: list[int],
    writers: list[set[bytes]],
    has_another: bool,
    threshold_days: int,
    speeds: list[int],
    seed: int,
) -> None:
    rng = random.Random(seed)

    def pick(names: Sequence[str]) -> int:
        weights = [speeds[int(name)] for name in names]
        return rng.choices(range(len(names)), weights)[0]

    directory = tempfile.mkdtemp(prefix="collect-test-")
    world = World(Turns(pick), f"{directory}/state")
    try:
        for data, days in zip(CONTENTS, object_ages, strict=True):
            world.add(data, days)
        for number, (days, contents) in enumerate(rows):
            value = fileset_of(sorted(contents))
            world.add(value, max(days, 3))
            world.add_entry(KEYS[number], value, days)
        request = CollectRequest(NOW_S - threshold_days * DAY_S, nothing, nothing, dry_run=False, rate=10**9)
        work = [
            world.collect_together(request, is_another=False) if has_another else world.collect(request),
            *[world.read(KEYS[number]) for number in readers],
            *[world.read_as_original(KEYS[number]) for number in originals],
            *[world.write(KEYS[5 + n], sorted(contents)) for n, contents in enumerate(writers)],
            *([world.collect_together(request, is_another=True)] if has_another else []),
        ]

        run_together(world, work)
        check(world, rows)
    finally:
        world.close()
        shutil.rmtree(directory)


def run_together(world: World, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do several things at once; the first has the name 0."""

    async def all_of_them() -> None:
        tasks = []
        for number, each in enumerate(work):
            ACTOR.set(str(number))
            tasks.append(asyncio.ensure_future(each))
        await world.turns.drive(tasks)

    asyncio.run(all_of_them())


def check(world: World, rows: list[tuple[float, set[bytes]]]) -> None:
    """What must hold in the end."""
    for outcome, count in world.outcomes.items():
        event(outcome, count)
    counts = world.collector.entries
    event(f"removed {bool(counts.removed)}, revived {counts.revived}, undone {counts.undone}")
    assert world.is_there(world.recorded)
    for number, (days, contents) in enumerate(rows):
        if days < 2:
            assert str(KEYS[number]) in world.dynamo.items
            assert world.is_whole(Digest.of(fileset_of(sorted(contents))))
    for id, item in world.dynamo.items.items():
        if "ValueV2" in item and id not in world.late:
            assert world.is_whole(Digest.parse(item["ValueV2"]["S"])), f"{id} points to nothing"


def test_an_original_that_renews_behind_its_look_up_is_waited_for() -> None:
    revived = hits = 0
    for seed in range(20):
        rng = random.Random(seed)
        directory = tempfile.mkdtemp(prefix="collect-test-")

        def pick(names: Sequence[str], rng: random.Random = rng) -> int:
            return rng.choices(range(len(names)), [30 if name == "0" else 1 for name in names])[0]

        world = World(Turns(pick), f"{directory}/state")
        try:
            world.add_result(KEYS[0], [b"old"], 40)
            request = CollectRequest(NOW_S - 30 * DAY_S, nothing, nothing, dry_run=False, rate=10**9)
            run_together(world, [world.collect(request), world.read_as_original(KEYS[0])])
        finally:
            world.close()
            shutil.rmtree(directory)
        revived += world.collector.entries.revived
        hits += world.outcomes["original: hit"]
    assert revived > 3
    assert hits >= revived


def first(name: str, names: Sequence[str]) -> int:
    """Whose turn it is; anybody's if that one does not wait for any."""
    return names.index(name) if name in names else 0


@pytest.mark.parametrize("others", [0, 1])
def test_an_entry_that_went_between_look_up_and_renewal_is_put_back(tmp_path: Path, others: int) -> None:
    """Also by somebody else: who has removed nothing himself waits as well."""

    def pick(names: Sequence[str]) -> int:
        if not world.outcomes["ours: hit"]:
            return len(names) - 1 - first("1", names[::-1])  # the renewal waits before it
        busy = [name for name in ("0", "2")[: 1 + others] if name not in world.settling]
        return first(busy[0] if busy else "1", names)

    world = World(Turns(pick), str(tmp_path / "state"))
    world.add_result(KEYS[0], [b"old"], 40)
    world.add_result(KEYS[1], [b"new"], 5)
    request = CollectRequest(NOW_S - 30 * DAY_S, nothing, nothing, dry_run=False, rate=10**9)
    work = [world.collect(request), world.read(KEYS[0])]
    if others:
        work.append(world.collect_together(request, is_another=True))
    run_together(world, work)
    assert world.collector.entries.removed == 1
    assert world.dynamo.items[str(KEYS[0])] == {
        "ID": {"S": str(KEYS[0])},
        "ID4": {"S": KEYS[0].short},
        "ValueV2": {"S": str(Digest.of(fileset_of([b"old"])))},
        "LastAccessTime": {"N": str(int(NOW_S))},
        "Labels": {"SS": ["user=jo"]},
    }
    assert world.is_whole(Digest.of(fileset_of([b"old"])))
