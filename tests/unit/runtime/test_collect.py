"""What garbage is, decided on real stores at times of our choice."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reflow.assoc import AssocEntry, Kind
from reflow.assoc.sqlite import SqliteAssoc
from reflow.core.digest import Digest
from reflow.core.fileset import File, Fileset
from reflow.core.filesetcodec import encode_fileset
from reflow.executor.execdir import FAILED, Tenant, acquire
from reflow.repository.filerepo import FileRepository
from reflow.repository.maintenance import FileObjects
from reflow.runtime.collect import Collector, CollectRequest, Scope
from reflow.runtime.collectscope import _in_use_since, _recorded
from reflow.runtime.collectstate import CollectState
from reflow.runtime.leftovers import LeftoversCollected, collect_leftovers
from reflow.runtime.livework import LiveRun
from reflow.runtime.log import LEVELS, Log
from reflow.taskdb import Run
from reflow.taskdb.sqlite import SqliteTaskDB

DAY_S = 86400.0
V1, V2 = Kind.FILESET, Kind.FILESET_V2


def nothing(labels: frozenset[str]) -> bool:
    return False


def everything(labels: frozenset[str]) -> bool:
    return True


class Stores:
    """Real stores with results in them, and collections as if days had passed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = FileRepository(str(root / "objects"))
        self.assoc = SqliteAssoc(str(root / "assoc.db"), ["user=jo"])
        self.taskdb = SqliteTaskDB(str(root / "taskdb.db"))
        self.lines: list[str] = []
        self.now_s = time.time() + 10 * DAY_S

    async def add(self, name: str, *contents: bytes, days: float = 9) -> Digest:
        """A cached result, last used so many days ago."""
        files = await self.repository.put_bytes_many(contents)
        sizes = [len(content) for content in contents]
        fileset = Fileset({str(n): File(file, sizes[n]) for n, file in enumerate(files)})
        (value,) = await self.repository.put_bytes_many([encode_fileset(fileset)])
        key = Digest.of_text(name)
        await self.assoc.put_many({(V2, key): value})
        connection = sqlite3.connect(self.root / "assoc.db")
        with connection:
            used_s = int(self.now_s - days * DAY_S)
            connection.execute("UPDATE assoc SET last_access_s = ? WHERE key = ?", (used_s, key))
        connection.close()
        return key

    def scope(self, limit_s: float, live: tuple[LiveRun, ...] = ()) -> Scope:
        self.state = CollectState(str(self.root / "collect"))
        return Scope(
            self.repository,
            FileObjects(self.repository.directory),
            self.assoc,
            self.state,
            _recorded(self.taskdb, limit_s),
            _in_use_since([each.run.start for each in live]),
        )

    async def collect(self, days: float, *, live: tuple[LiveRun, ...] = (), **changes: object) -> Collector:
        """Collect what was not used for so many days."""
        threshold_s = self.now_s - days * DAY_S
        request = CollectRequest(threshold_s, nothing, nothing, dry_run=False)
        log = Log(LEVELS["debug"], self.lines.append)
        collector = Collector(
            request._replace(**changes),  # type: ignore[arg-type]
            self.scope(min(threshold_s, self.now_s - DAY_S), live),
            log,
            self.now_s,
        )
        try:
            await collector.scan()
            await collector.collect_objects()
        finally:
            self.state.close(is_done=True)
        return collector

    async def has(self, content: bytes) -> bool:
        return not await self.repository.missing([Digest.of(content)])

    async def keys(self) -> set[Digest]:
        return {entry.key async for entry in self.assoc.scan()}


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(tmp_path)
    yield made
    await made.assoc.close()
    await made.taskdb.close()
    await made.repository.close()


async def test_what_was_not_used_since_the_threshold_goes(stores: Stores) -> None:
    await stores.add("old", b"old", b"shared", days=9)
    new = await stores.add("new", b"new", b"shared", days=2)
    collector = await stores.collect(5)
    assert await stores.keys() == {new}
    assert [await stores.has(each) for each in (b"old", b"new", b"shared")] == [False, True, True]
    entries, objects = collector.entries, collector.objects
    assert (entries.scanned, entries.removed, entries.matched, entries.held) == (2, 1, 0, 0)
    assert (objects.objects, objects.removed) == (5, 2)
    assert (entries.live, entries.live_objects) == (1, 2)


async def test_a_dry_run_changes_nothing(stores: Stores) -> None:
    await stores.add("old", b"old", days=9)
    collector = await stores.collect(5, dry_run=True)
    assert (collector.entries.removed, collector.objects.removed) == (1, 2)
    assert len(await stores.keys()) == 1
    assert await stores.has(b"old")


@pytest.mark.parametrize("days", [0.9, 1.9])  # a time of use may be a day old
async def test_what_was_used_within_the_last_day_stays(stores: Stores, days: float) -> None:
    key = await stores.add("today", b"today", days=days)
    collector = await stores.collect(0)
    assert (collector.entries.held, collector.entries.live, collector.entries.removed) == (1, 0, 0)
    assert collector.objects.held == 2
    assert await stores.keys() == {key}
    assert await stores.has(b"today")


async def test_new_objects_stay_whoever_refers_to_them(stores: Stores) -> None:
    await stores.add("old", b"old", days=9)
    stores.now_s = time.time() + 60
    await stores.collect(-9, is_dead=everything)
    assert await stores.keys() == set()
    assert await stores.has(b"old")


async def test_labels_that_are_kept_win(stores: Stores) -> None:
    key = await stores.add("old", b"old", days=9)
    await stores.collect(5, is_kept=lambda labels: "user=jo" in labels, is_dead=everything)
    assert await stores.keys() == {key}
    assert await stores.has(b"old")


async def test_dead_labels_win_over_age(stores: Stores) -> None:
    await stores.add("new", b"new", days=0.1)
    collector = await stores.collect(9, is_dead=lambda labels: "user=jo" in labels)
    assert await stores.keys() == set()
    assert collector.entries.matched == 1
    assert not await stores.has(b"new")


async def test_what_a_live_run_may_use_stays(stores: Stores) -> None:
    began = datetime.fromtimestamp(stores.now_s - 7 * DAY_S, UTC)
    live = (LiveRun(Run(id=Digest.of_text("run"), user="jo", program="p.rf", start=began), []),)
    await stores.add("before", b"before", days=9)
    kept = await stores.add("hit", b"hit", days=7.5)
    await stores.collect(1, live=live)
    assert await stores.keys() == {kept}
    await stores.collect(1, live=live, is_dead=everything)
    assert await stores.keys() == {kept}
    assert await stores.has(b"hit")


async def test_an_entry_that_is_used_while_we_collect_keeps_its_objects(stores: Stores) -> None:
    key = await stores.add("old", b"old", days=40)
    delete_unused = stores.assoc.delete_unused

    async def late(entries: Sequence[AssocEntry]) -> int:
        connection = sqlite3.connect(stores.root / "assoc.db")
        with connection:
            connection.execute("UPDATE assoc SET last_access_s = ?", (int(stores.now_s) + 1,))
        connection.close()
        return await delete_unused(entries)

    stores.assoc.delete_unused = late  # type: ignore[method-assign]
    collector = await stores.collect(5)
    assert (collector.entries.removed, collector.objects.removed) == (0, 0)
    assert await stores.keys() == {key}
    assert await stores.has(b"old")


async def test_logs_of_later_runs_stay(stores: Stores) -> None:
    old, new = await stores.repository.put_bytes_many([b"old log", b"new log"])
    for name, log, days in (("old", old, 9.0), ("new", new, 2.0)):
        when = datetime.fromtimestamp(stores.now_s - days * DAY_S, UTC)
        stores.taskdb.put_run(
            Run(
                id=Digest.of_text(name),
                user="jo",
                program="p.rf",
                start=when,
                end=when + timedelta(1 / 24),
                runlog=log,
            )
        )
    await stores.collect(5)
    assert (await stores.has(b"old log"), await stores.has(b"new log")) == (False, True)


async def test_a_missing_object_is_counted(stores: Stores) -> None:
    await stores.add("new", b"new", days=2)
    stores.repository.directory.remove(next(iter([e.values[V2] async for e in stores.assoc.scan()])))
    collector = await stores.collect(5)
    assert collector.entries.missing == 1
    assert len(await stores.keys()) == 1


async def test_live_entries_of_the_old_format_are_written_anew(stores: Stores) -> None:
    (file,) = await stores.repository.put_bytes_many([b"x"])
    text = json.dumps({"Fileset": {".": {"ID": str(file), "Size": 1}}})
    (value,) = await stores.repository.put_bytes_many([text.encode()])
    key = Digest.of_text("v1")
    await stores.assoc.put_many({(V1, key): value})
    stores.now_s = time.time() + 60
    assert (await stores.collect(5, migrations=0)).entries.migrated == 0
    assert (await stores.collect(5, migrations=1, dry_run=True)).entries.migrated == 0
    assert (await stores.collect(5, migrations=1)).entries.migrated == 1
    assert (V2, key) in await stores.assoc.get_many([(V2, key)])
    assert (await stores.collect(5, migrations=1)).entries.migrated == 0


def test_leftovers(tmp_path: Path) -> None:
    for name, days in (("old", 20), ("new", 1)):
        directory = acquire(str(tmp_path / "execs" / name))
        assert directory is not None
        directory.note(Tenant(Digest.of_text(name).hex(), 1, "process", 0))
        directory.keep("failed", "false")
        log = tmp_path / "logs" / name[0] / f"{name}.stderr"
        log.parent.mkdir(parents=True)
        log.write_text("0123456789")
        then_s = time.time() - days * DAY_S
        for path in (log, tmp_path / "execs" / name / FAILED):
            os.utime(path, (then_s, then_s))
    running = acquire(str(tmp_path / "execs" / "runs"))
    assert running is not None
    running.note(Tenant(Digest.of_text("runs").hex(), 1, "process", 0))
    before_s = time.time() - 10 * DAY_S
    found = collect_leftovers(str(tmp_path), before_s, dry_run=True)
    assert (found.directories, found.outputs) == (1, 1)
    assert found.size > 10
    assert collect_leftovers(str(tmp_path), before_s, dry_run=False) == found
    assert sorted(os.listdir(tmp_path / "execs")) == ["new", "runs"]
    assert not (tmp_path / "logs" / "o" / "old.stderr").exists()
    assert (tmp_path / "logs" / "n" / "new.stderr").exists()
    assert collect_leftovers(str(tmp_path), before_s, dry_run=False) == LeftoversCollected(0, 0, 0)
    running.release()
