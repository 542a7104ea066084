"""Removing objects that nothing refers to."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.repository import objectdir
from reflow.repository.filerepo import FileRepository
from reflow.repository.maintenance import (
    Collected,
    FileObjects,
    ObjectLimits,
    Standing,
    collect_objects,
    prune,
)

DAY_S = 86400.0
NAMES = {"one": b"one", "two": b"two!", "three": b"three"}


async def three(tmp_path: Path) -> tuple[FileRepository, list[Digest]]:
    repository = FileRepository(str(tmp_path / "objects"))
    return repository, await repository.put_bytes_many([b"one", b"two!", b"three"])


async def collect(
    repository: FileRepository, limits: ObjectLimits, *, dry_run: bool = False, **standings: Standing
) -> Collected:
    """Collect; ``standings`` by the names of `three`."""
    marks = {Digest.of(NAMES[name]): int(mark) for name, mark in standings.items()}
    found = Collected()
    await collect_objects(
        FileObjects(repository.directory),
        lambda number: {digest: mark for digest, mark in marks.items() if digest[0] == number},
        limits,
        found,
        dry_run=dry_run,
        progress=lambda: None,
    )
    return found


async def test_what_may_be_in_use_stays(tmp_path: Path) -> None:
    repository, _ = await three(tmp_path)
    limits = ObjectLimits(time.time() + DAY_S, time.time() - DAY_S)
    found = await collect(repository, limits, one=Standing.DEAD)
    assert found == Collected(3, 0, 0, 3, 12)


async def test_what_is_neither_live_nor_new_goes(tmp_path: Path) -> None:
    repository, objects = await three(tmp_path)
    later_s, earlier_s = time.time() + DAY_S, time.time() - DAY_S
    live = {"one": Standing.LIVE}
    now, old = ObjectLimits(later_s, later_s), ObjectLimits(earlier_s, later_s)
    assert await collect(repository, now, dry_run=True, **live) == Collected(3, 2, 9)
    assert await repository.missing(objects) == set()
    assert await collect(repository, old, **live) == Collected(3, 0, 0)
    assert await collect(repository, now, **live, two=Standing.HELD, three=Standing.HELD) == Collected(
        3, 0, 0, 2, 9
    )
    assert await collect(repository, old, **live, two=Standing.DEAD) == Collected(3, 1, 4)
    assert await repository.missing(objects) == {objects[1]}
    assert await collect(repository, now, **live) == Collected(2, 1, 5)
    assert await repository.missing(objects) == set(objects[1:])


async def test_an_object_that_was_used_since_it_was_listed_stays(tmp_path: Path) -> None:
    repository, objects = await three(tmp_path)
    place = FileObjects(repository.directory)
    (listed,) = [each async for each in place.objects(objects[0][0])]
    assert await place.remove([listed._replace(changed_s=listed.changed_s - 1)]) == []
    assert await place.remove([listed]) == [listed]
    assert await place.remove([listed]) == []


async def test_one_bin_that_fails_ends_the_others(tmp_path: Path) -> None:
    repository, _ = await three(tmp_path)

    def standings(number: int) -> dict[Digest, int]:
        raise ReflowError(Kind.RESOURCES_EXHAUSTED, "digests.load", cause="no space")

    with pytest.raises(ReflowError, match="no space"):
        await collect_objects(
            FileObjects(repository.directory),
            standings,
            ObjectLimits(0, 0),
            Collected(),
            dry_run=True,
            progress=lambda: None,
        )


async def test_empty_directories_of_objects_go_and_come_again(tmp_path: Path) -> None:
    repository, objects = await three(tmp_path)
    (tmp_path / "objects" / "tmp").mkdir(exist_ok=True)
    repository.directory.remove(objects[1])
    prune(repository.directory)
    left = {name for name in os.listdir(tmp_path / "objects") if len(name) == 2}
    assert left == {objects[0].hex()[:2], objects[2].hex()[:2]}
    assert await repository.put_bytes_many([b"two!"]) == [objects[1]]
    assert await repository.missing(objects) == set()


async def test_storing_again_counts_as_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, objects = await three(tmp_path)
    path = repository.path(objects[0])
    before_ns = os.stat(path).st_ctime_ns
    await repository.put_bytes_many([b"one"])
    assert os.stat(path).st_ctime_ns == before_ns  # it is new enough
    await asyncio.sleep(0.02)  # the file system's clock goes in steps
    monkeypatch.setattr(objectdir, "_FRESH_S", 0.0)
    await repository.put_bytes_many([b"one"])
    assert os.stat(path).st_ctime_ns > before_ns
    assert os.stat(path).st_mode & 0o777 == 0o444
