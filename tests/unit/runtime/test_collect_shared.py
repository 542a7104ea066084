"""Garbage of a shared repository, ten days after its objects were stored."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reflow.assoc import Kind
from reflow.assoc.memory import MemoryAssoc
from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import encode_fileset
from reflow.repository.filerepo import FileRepository
from reflow.repository.layered import LayeredRepository
from reflow.runtime.collect import Collector, CollectRequest
from reflow.runtime.log import LEVELS, Log
from reflow.taskdb import Run, Task
from reflow.taskdb.memory import MemoryTaskDB
from tests.dictbucket import DictBucket, blob_repository

DAY_S = 86400.0
NOW_S = time.time() + 10 * DAY_S


def nothing(labels: frozenset[str]) -> bool:
    return False


class Shared:
    """What machines share, and this machine's copies."""

    def __init__(self, root: Path) -> None:
        self.bucket = DictBucket("cache")
        self.assoc = MemoryAssoc()
        self.taskdb = MemoryTaskDB()
        self.repository = LayeredRepository(FileRepository(str(root)), blob_repository(self.bucket))

    async def add(self, content: bytes) -> Digest:
        """A cached result, of a machine that is not this one."""
        (file,) = await self.repository.shared.put_bytes_many([content])
        fileset = encode_fileset(Fileset.of_file(File(file, len(content))))
        (value,) = await self.repository.shared.put_bytes_many([fileset])
        await self.assoc.put_many({(Kind.FILESET_V2, Digest.of_text("key")): value})
        return file

    async def collect(self, days: float, **changes: object) -> Collector:
        request = CollectRequest(NOW_S - days * DAY_S, nothing, nothing, dry_run=False)
        collector = Collector(
            request._replace(**changes),  # type: ignore[arg-type]
            self.repository,
            self.assoc,
            self.taskdb,
            (),
            Log(LEVELS["off"], print),
            NOW_S,
        )
        await collector.scan()
        self.entries = await collector.collect_entries()
        self.objects = await collector.collect_objects()
        self.copies = await collector.collect_copies()
        return collector


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    made = Shared(tmp_path)
    yield made
    await made.repository.close()


async def test_objects_that_nobody_refers_to_go_when_they_are_old(shared: Shared) -> None:
    kept = await shared.add(b"kept")
    await shared.bucket.put(f"objects/{Digest.of(b'lost')}", b"lost")
    await shared.bucket.put("objects/no-digest", b"")
    await shared.collect(5, is_kept=lambda labels: True)
    assert (shared.objects.objects, shared.objects.removed, shared.objects.removed_bytes) == (3, 1, 4)
    assert await shared.repository.shared.missing([kept, Digest.of(b"lost")]) == {Digest.of(b"lost")}
    assert "objects/no-digest" in shared.bucket.objects


async def test_objects_that_are_younger_than_the_threshold_stay(shared: Shared) -> None:
    await shared.bucket.put(f"objects/{Digest.of(b'lost')}", b"lost")
    await shared.collect(11)
    assert (shared.objects.objects, shared.objects.removed) == (1, 0)


async def test_nothing_is_fetched_to_find_out(shared: Shared) -> None:
    await shared.add(b"kept")
    collector = await shared.collect(5, is_kept=lambda labels: True)
    assert collector.counts.live_objects == 1
    assert await shared.repository.local.missing([Digest.of(b"kept")]) == {Digest.of(b"kept")}
    assert shared.copies is not None
    assert shared.copies.objects == 0


async def test_a_threshold_in_the_future_means_everything(shared: Shared) -> None:
    await shared.add(b"old")
    collector = await shared.collect(-1, dry_run=True)
    assert collector.is_everything
    assert (shared.entries.removed, shared.objects.removed, shared.objects.objects) == (1, 2, 2)
    assert len(shared.bucket.objects) == 2
    await shared.collect(-1)
    assert shared.bucket.objects == {}


async def test_what_the_record_of_later_runs_refers_to_stays(shared: Shared) -> None:
    names = await shared.repository.shared.put_bytes_many([b"log", b"graph", b"bundle", b"inspect", b"said"])
    log, graph, bundle, inspect, said = names
    start = datetime.fromtimestamp(NOW_S - DAY_S, UTC)
    run = Run(
        id=Digest.of(b"r"), user="jo", program="", start=start, runlog=log, evalgraph=graph, bundle=bundle
    )
    shared.taskdb.put_run(run)
    task = Task(
        id=Digest.of(b"t"),
        run_id=run.id,
        flow_id=run.id,
        start=start,
        inspect_id=inspect,
        stderr=str(said),
    )
    shared.taskdb.put_task(task)
    await shared.collect(5)
    assert (shared.objects.objects, shared.objects.removed) == (5, 0)
