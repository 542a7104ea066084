"""Collecting garbage on this machine: entries of the cache that were not used, and what only they refer to.

Live are entries that were used since the threshold (or that are to be kept), the objects of their results,
and the objects that the record of later runs refers to. What was of use within the last day always stays, and
so does what a run that is under way may use: everything since a day before it began.

Others may use the stores meanwhile. A run refreshes an entry before it uses it (`reflow.assoc.Collectable`),
an entry that was refreshed is not removed, and objects are removed last, by what then remains.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from reflow.assoc import Assoc, AssocEntry, Collectable, Kind
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError, kind_of
from reflow.core.fileset import Fileset
from reflow.core.filesetcodec import decode_fileset, encode_fileset
from reflow.executor.execdir import FAILED, adopt
from reflow.repository.filerepo import FileRepository
from reflow.repository.maintenance import GRACE_S, Collected, collect_objects
from reflow.runtime.livework import LiveRun, exec_dirs
from reflow.runtime.log import Log
from reflow.taskdb import RunQuery, TaskDB, TaskQuery

_BATCH = 1000

Matcher = Callable[[frozenset[str]], bool]
"""Tells by the labels of an entry."""


class CollectRequest(NamedTuple):
    """What goes: entries not used since ``threshold_s`` (Unix seconds), and those whose labels are ``dead``.

    Entries whose labels are to be kept stay in any case. ``migrations`` bounds the entries of the old format
    that are written anew (-1: no bound).
    """

    threshold_s: float
    is_kept: Matcher
    is_dead: Matcher
    dry_run: bool
    migrations: int = 0


class ScanCounts:
    """What was found in the index."""

    def __init__(self) -> None:
        self.scanned = 0
        self.live = 0
        self.live_objects = 0
        self.missing = 0
        self.migrated = 0


class EntriesCollected(NamedTuple):
    """How many entries there were, how many were, or would be, removed, and how many matched by labels."""

    entries: int
    removed: int
    matched: int


class Collector:
    """Collects garbage once, at ``now_s`` (Unix seconds). ``live`` are the runs that are under way."""

    def __init__(
        self,
        request: CollectRequest,
        repository: FileRepository,
        assoc: Assoc | None,
        taskdb: TaskDB | None,
        live: Sequence[LiveRun],
        log: Log,
        now_s: float,
    ) -> None:
        self.counts = ScanCounts()
        self._request = request
        self._repository = repository
        self._assoc = assoc
        self._taskdb = taskdb
        self._log = log
        self._now_s = now_s
        self._in_use_since_s = _in_use_since(live)
        self.limit_s = min(request.threshold_s, now_s - GRACE_S, self._in_use_since_s)
        """What was used after this stays."""
        self._live: set[Digest] = set()
        self._dead: set[Digest] = set()
        self._going: list[AssocEntry] = []
        self._matched = 0

    async def scan(self) -> None:
        """Find out what is live. Raises ReflowError: nothing may be removed then."""
        if self._assoc is not None:
            async for entries in _batches(self._assoc.scan()):
                await self._sort(entries)
        if self._taskdb is not None:
            await self._spare_records(self._taskdb)

    async def _sort(self, entries: Sequence[AssocEntry]) -> None:
        """Tell live entries from others, and note what they refer to."""
        request = self._request
        live, dead = [], []
        for entry in entries:
            self.counts.scanned += 1
            if request.is_kept(entry.labels):
                live.append(entry)
            elif request.is_dead(entry.labels) and entry.last_access_s <= self._in_use_since_s:
                dead.append(entry)
            elif entry.last_access_s > self.limit_s:
                live.append(entry)
            else:
                self._going.append(entry)
        self.counts.live += len(live)
        self.counts.live_objects += await self._note(live, self._live)
        await self._note(dead, self._dead)
        self._matched += len(dead)
        self._going += dead

    async def _note(self, entries: Sequence[AssocEntry], objects: set[Digest]) -> int:
        """Add the objects that entries refer to; how many files their results have."""
        filesets = await self._filesets(entries)
        files = 0
        for entry in entries:
            objects.update(entry.values.values())
        for fileset in filesets.values():
            for file in fileset.all_files():
                if file.id is not None:
                    objects.add(file.id)
                    files += 1
        if objects is self._live and not self._request.dry_run:
            await self._migrate(entries, filesets)
        return files

    async def _filesets(self, entries: Sequence[AssocEntry]) -> dict[tuple[Kind, Digest], Fileset]:
        wanted = {(kind, value) for entry in entries for kind, value in entry.values.items()}
        objects = await self._repository.read_many({value for _, value in wanted})
        found = {}
        for kind, value in wanted:
            data = objects[value]
            if isinstance(data, bytes):
                try:
                    found[kind, value] = decode_fileset(data, kind)
                except ReflowError as err:
                    self._log.error(f"{kind} {value}: {err}")
            elif kind_of(data) is ErrorKind.NOT_EXIST:
                self.counts.missing += 1
            elif kind_of(data) is ErrorKind.INTEGRITY:
                self._log.error(f"{kind} {value}: {data}")
            else:
                raise data
        return found

    async def _migrate(
        self, entries: Sequence[AssocEntry], filesets: dict[tuple[Kind, Digest], Fileset]
    ) -> None:
        """Give entries that only have a value of the old format one of the new."""
        assert self._assoc is not None
        for entry in entries:
            if Kind.FILESET_V2 in entry.values or self.counts.migrated == self._request.migrations:
                continue
            fileset = filesets.get((Kind.FILESET, entry.values[Kind.FILESET]))
            if fileset is not None:
                (value,) = await self._repository.put_bytes_many([encode_fileset(fileset)])
                await self._assoc.put_many({(Kind.FILESET_V2, entry.key): value})
                self._live.add(value)
                self.counts.migrated += 1

    async def _spare_records(self, taskdb: TaskDB) -> None:
        """Logs, graphs and outputs that the record of runs since the limit refers to are live."""
        for run in await taskdb.runs(RunQuery()):
            if max(run.start, run.end or run.start).timestamp() <= self.limit_s and run.end is not None:
                continue
            self._live.update([each for each in (run.runlog, run.evalgraph) if each is not None])
            for task in await taskdb.tasks(TaskQuery(run_id=run.id)):
                for place in (task.stdout, task.stderr):
                    if place.startswith("sha256:"):
                        self._live.add(Digest.parse(place))

    async def collect_entries(self) -> EntriesCollected:
        """Remove entries that are not live; those that are used again by now stay."""
        if self._request.dry_run or self._assoc is None or not self._going:
            removed = len(self._going)
        else:
            if not isinstance(self._assoc, Collectable):
                raise ReflowError(ErrorKind.NOT_SUPPORTED, "collect", cause="this index cannot be collected")
            removed = await self._assoc.delete_unused(self._going)
            await self._spare_fresh(self._assoc)
        return EntriesCollected(self.counts.scanned, removed, self._matched)

    async def _spare_fresh(self, assoc: Assoc) -> None:
        """What entries refer to that were made or used since we began is live."""
        async for entries in _batches(assoc.scan()):
            await self._note([each for each in entries if each.last_access_s >= int(self._now_s)], self._live)

    async def collect_objects(self) -> Collected:
        """Remove objects that nothing live refers to."""
        return await asyncio.to_thread(
            collect_objects,
            self._repository.directory,
            self._live,
            self._dead,
            self.limit_s,
            now_s=self._now_s,
            dry_run=self._request.dry_run,
        )


def _in_use_since(live: Sequence[LiveRun]) -> float:
    """A run that is under way may use what was of use within the day before it began, and later."""
    return min([each.run.start.timestamp() for each in live], default=float("inf")) - GRACE_S


async def _batches(entries: AsyncIterator[AssocEntry]) -> AsyncIterator[list[AssocEntry]]:
    batch: list[AssocEntry] = []
    async for entry in entries:
        batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


# What execs left.


class LeftoversCollected(NamedTuple):
    """How many directories of failed execs, and files with the output of execs, and their bytes."""

    directories: int
    outputs: int
    size: int


def collect_leftovers(directory: str, before_s: float, *, dry_run: bool) -> LeftoversCollected:
    """Remove from a local directory what execs left that ended before a time. Blocks."""
    directories = outputs = size = 0
    for each in exec_dirs(directory):
        if not each.is_running and _changed_s(f"{each.path}/{FAILED}") < before_s:
            directories += 1
            size += _tree_bytes(each.path)
            if not dry_run and (locked := adopt(each.path)) is not None:
                locked.remove()
    for place, _, names in os.walk(f"{directory}/logs"):
        for name in names:
            path = f"{place}/{name}"
            if _changed_s(path) < before_s:
                outputs += 1
                size += os.lstat(path).st_size
                if not dry_run:
                    os.unlink(path)
    return LeftoversCollected(directories, outputs, size)


def _changed_s(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return time.time()


def _tree_bytes(path: str) -> int:
    return sum([os.lstat(f"{place}/{name}").st_size for place, _, names in os.walk(path) for name in names])
