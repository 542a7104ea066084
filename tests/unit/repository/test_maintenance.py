"""Removing objects that nothing refers to."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.repository import objectdir
from reflow.repository.filerepo import FileRepository
from reflow.repository.maintenance import GRACE_S, Collected, collect_objects, prune

if TYPE_CHECKING:
    import pytest

DAY_S = 86400.0


async def three(tmp_path: Path) -> tuple[FileRepository, list[Digest]]:
    repository = FileRepository(str(tmp_path / "objects"))
    return repository, await repository.put_bytes_many([b"one", b"two!", b"three"])


async def test_nothing_of_the_last_day_goes(tmp_path: Path) -> None:
    repository, objects = await three(tmp_path)
    now_s = time.time() + GRACE_S / 2
    found = collect_objects(
        repository.directory, set(), set(objects), now_s + DAY_S, now_s=now_s, dry_run=False
    )
    assert found == Collected(3, 0, 0)


async def test_what_is_neither_live_nor_new_goes(tmp_path: Path) -> None:
    repository, objects = await three(tmp_path)
    now_s = time.time() + 3 * DAY_S

    def collect(*, dry_run: bool, before_s: float = now_s, dead: set[Digest] | None = None) -> Collected:
        return collect_objects(
            repository.directory, {objects[0]}, dead or set(), before_s, now_s=now_s, dry_run=dry_run
        )

    assert collect(dry_run=True) == Collected(3, 2, 9)
    assert await repository.missing(objects) == set()
    assert collect(dry_run=False, before_s=time.time() - DAY_S) == Collected(3, 0, 0)
    assert collect(dry_run=False, before_s=0, dead={objects[0], objects[1]}) == Collected(3, 1, 4)
    assert await repository.missing(objects) == {objects[1]}
    assert collect(dry_run=False) == Collected(2, 1, 5)
    assert await repository.missing(objects) == set(objects[1:])


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
