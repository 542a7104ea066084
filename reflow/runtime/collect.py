"""Collecting garbage: entries of the cache that were not used, and what only they refer to.

Live are entries that were used since the threshold (or that are to be kept), the objects of their results,
and the objects that the record of runs refers to. What may be in use always stays: what was of use within the
last day, and with runs under way everything since a day before the oldest began.

Others may use the stores meanwhile (decision 0014). A run renews an entry's time of use soon after it has
taken its value, and an entry whose time was renewed is not removed; one that was removed in between is put
back. Entries go before objects; between the two, after a pause for renewals, what is used or written by then
is looked at again; afterwards what was written against an object that went is taken out, so that no entry
points to nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from reflow.assoc import Assoc, AssocEntry, Collectable, Kind, Revivable
from reflow.core.digest import Digest
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError, kind_of
from reflow.core.fileset import File
from reflow.core.filesetcodec import decode_fileset, encode_fileset
from reflow.repository.maintenance import (
    GRACE_S,
    Collected,
    Fate,
    ObjectLimits,
    ObjectPlace,
    Standing,
    collect_objects,
)
from reflow.runtime.collectpace import Pace, Progress, batches
from reflow.runtime.collectstate import CollectState
from reflow.runtime.log import Log

ENTRY_GRACE_S = 2 * GRACE_S
"""An entry of use within the last day: its time of use is renewed once a day at most."""

CLOCKS_DIFFER_S = 3600
_READ_AT_ONCE = 64
_REMOVED_AT_ONCE = 200
_SAMPLE = 20

Matcher = Callable[[frozenset[str]], bool]
"""Tells by the labels of an entry."""


class CollectRequest(NamedTuple):
    """What goes: entries not used since ``threshold_s`` (Unix seconds), and those whose labels are ``dead``.

    Entries whose labels are to be kept stay in any case. ``migrations`` bounds the entries of the old format
    that are written anew (-1: no bound), ``rate`` is that of writes to the index in a second.
    """

    threshold_s: float
    is_kept: Matcher
    is_dead: Matcher
    dry_run: bool
    migrations: int = 0
    rate: int = 300


class Values(Protocol):
    """The repository whose objects entries refer to."""

    async def stat(self, digest: Digest) -> File:
        """Id and size of an object. Raises NOT_EXIST."""
        ...

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        """Read objects; one that cannot be read has its error instead."""
        ...

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        """Store objects."""
        ...


class Scope(NamedTuple):
    """Stores that are collected together.

    ``records`` are objects that something besides the index refers to. Runs under way may use what was of use
    since ``in_use_since_s`` (Unix seconds; infinite when there is none). With ``is_shared`` there may be runs
    that nobody knows of; ``settle_s`` is longer than they take to renew times of use.
    """

    repository: Values
    place: ObjectPlace
    assoc: Assoc | None
    state: CollectState
    records: AsyncIterator[Digest] | None = None
    in_use_since_s: float = float("inf")
    is_shared: bool = False
    settle_s: float = 0.0


@dataclass(slots=True)
class EntryCounts:
    """What was found in the index. ``live_objects`` are files of live entries, ``missing`` value objects.

    ``matched`` went by their labels. ``held`` would go, but may be in use (``held_matched`` by their labels).
    ``revived`` were used by an original program while they were removed, ``undone`` written by somebody who
    relied on an object that went.
    """

    scanned: int = 0
    live: int = 0
    live_objects: int = 0
    missing: int = 0
    removed: int = 0
    matched: int = 0
    held: int = 0
    held_matched: int = 0
    migrated: int = 0
    revived: int = 0
    undone: int = 0


class Collector:
    """Collects garbage once, at ``now_s`` (Unix seconds): `scan`, then `collect_objects`."""

    def __init__(
        self,
        request: CollectRequest,
        scope: Scope,
        log: Log,
        now_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.entries = EntryCounts()
        self.objects = Collected()
        self._request = request
        self._scope = scope
        self._state = scope.state
        self._log = log
        self._now_s = now_s
        self._sleep = sleep
        self._pace = Pace(request.rate if scope.is_shared else math.inf, sleep)
        self._progress = Progress(log)
        self._fresh_s = int(now_s) - CLOCKS_DIFFER_S
        self._found = self._lost = 0
        """Value objects that are there, and that are not, as far as was looked."""

    @property
    def limit_s(self) -> float:
        """What was used after this stays."""
        return min(self._request.threshold_s, self._now_s - GRACE_S, self._scope.in_use_since_s)

    # Entries.

    async def scan(self) -> None:
        """Remove entries that go, and find out what is live.

        Raises ReflowError: no object may be removed then.
        """
        await self._state.open()
        if self._scope.records is not None:
            async for digests in batches(self._scope.records):
                self._state.references.add(digests, Standing.RECORDED)
        if self._scope.assoc is None:
            return
        rows = self._collectable
        async for entries in batches(rows.rows()):
            await self._sort(rows, entries)
            self._progress.tell(
                f"{self.entries.scanned} associations scanned, {self.entries.removed} removed"
            )
        if not self._request.dry_run:
            await self._spare_fresh(rows)

    @property
    def _collectable(self) -> Collectable:
        if not isinstance(self._scope.assoc, Collectable):
            raise ReflowError(ErrorKind.NOT_SUPPORTED, "collect", cause="this index cannot be collected")
        return self._scope.assoc

    async def _sort(self, rows: Collectable, entries: Sequence[AssocEntry]) -> None:
        """Tell live entries from others, note what they refer to, and remove those that go."""
        counts = self.entries
        counts.scanned += len(entries)
        fates: dict[Fate, list[AssocEntry]] = {fate: [] for fate in Fate}
        dead: list[AssocEntry] = []
        for entry in entries:
            fate, is_dead = self._fate(entry)
            (dead if is_dead and fate is Fate.GOES else fates[fate]).append(entry)
            counts.held_matched += is_dead and fate is Fate.HELD
        counts.live += len(fates[Fate.STAYS])
        counts.held += len(fates[Fate.HELD])
        counts.live_objects += await self._note(fates[Fate.STAYS], Standing.LIVE)
        await self._note(fates[Fate.HELD], Standing.HELD)
        await self._note(dead, Standing.DEAD)
        await self._migrate(fates[Fate.STAYS])
        if counts.scanned == len(entries):
            await self._sample([*dead, *fates[Fate.GOES]])
        counts.matched += await self._remove(rows, dead)
        await self._remove(rows, fates[Fate.GOES])

    def _fate(self, entry: AssocEntry) -> tuple[Fate, bool]:
        """What becomes of an entry, and whether its labels say so."""
        request, used_s = self._request, entry.last_access_s
        if request.is_kept(entry.labels):
            return Fate.STAYS, False
        is_dead = request.is_dead(entry.labels)
        if used_s > request.threshold_s and not is_dead:
            return Fate.STAYS, False
        in_use_s = self._scope.in_use_since_s
        if self._scope.is_shared or not is_dead:
            in_use_s = min(in_use_s, self._now_s - ENTRY_GRACE_S)
        return (Fate.HELD if used_s > in_use_s else Fate.GOES), is_dead

    async def _remove(self, rows: Collectable, entries: Sequence[AssocEntry]) -> int:
        """Remove entries that were not used meanwhile, no faster than is allowed; how many."""
        if self._request.dry_run:
            self.entries.removed += len(entries)
            return len(entries)
        removed = 0
        size = max(1, min(_REMOVED_AT_ONCE, self._request.rate))
        for start in range(0, len(entries), size):
            part = entries[start : start + size]
            await self._pace.take(len(part))
            if isinstance(rows, Revivable):
                await self._state.add_removed([entry for entry in part if entry.values])
            removed += await rows.delete_unused(part)
        self.entries.removed += removed
        return removed

    async def _note(self, entries: Sequence[AssocEntry], mark: Standing) -> int:
        """Note what entries refer to; how many files their values have that were not noted so before."""
        values = {value: kind for entry in entries for kind, value in entry.values.items()}
        noted = await self._state.notes(values)
        wanted = [value for value in values if noted.get(value, 0) < mark]
        count = 0
        for start in range(0, len(wanted), _READ_AT_ONCE):
            part = wanted[start : start + _READ_AT_ONCE]
            known = await self._state.files(part)
            unread = {value: values[value] for value in part if value not in known}
            if unread:
                known |= await self._read(unread)
            self._state.references.add(unread, mark)
            await self._state.note(known, mark)
            self._found += len(known)
            count += sum([len(files) for files in known.values()])
        return count

    async def _sample(self, entries: Sequence[AssocEntry]) -> None:
        """See of some entries that go whether the repository is theirs."""
        values = [value for entry in entries for value in entry.values.values()]
        for value in values[:_SAMPLE]:
            try:
                await self._scope.repository.stat(value)
                self._found += 1
            except ReflowError as err:
                if kind_of(err) is not ErrorKind.NOT_EXIST:
                    raise
                self._lost += 1

    async def _read(self, values: Mapping[Digest, Kind]) -> dict[Digest, list[Digest]]:
        """The files that value objects name; those that are not there, or damaged, are told."""
        found = {}
        for value, data in (await self._scope.repository.read_many(values)).items():
            if isinstance(data, bytes):
                try:
                    fileset = decode_fileset(data, values[value])
                except ReflowError as err:
                    self._log.error(f"{values[value]} {value}: {err}")
                else:
                    found[value] = [file.id for file in fileset.all_files() if file.id is not None]
            elif kind_of(data) is ErrorKind.NOT_EXIST:
                self.entries.missing += 1
                self._lost += 1
            elif kind_of(data) is ErrorKind.INTEGRITY:
                self._log.error(f"{values[value]} {value}: {data}")
            else:
                raise data
        return found

    async def _migrate(self, entries: Sequence[AssocEntry]) -> None:
        """Give entries that only have a value of the old format one of the new."""
        assoc, request = self._scope.assoc, self._request
        assert assoc is not None
        for entry in entries:
            old = entry.values.get(Kind.FILESET)
            if request.dry_run or old is None or Kind.FILESET_V2 in entry.values:
                continue
            if self.entries.migrated == request.migrations:
                return
            data = (await self._scope.repository.read_many([old]))[old]
            if not isinstance(data, bytes):
                continue
            try:
                contents = encode_fileset(decode_fileset(data, Kind.FILESET))
            except ReflowError:
                continue  # `_read` has said so
            (value,) = await self._scope.repository.put_bytes_many([contents])
            self._state.references.add([value], Standing.LIVE)
            await self._pace.take(1)
            await assoc.put_many({(Kind.FILESET_V2, entry.key): value})
            self.entries.migrated += 1

    async def _spare_fresh(self, rows: Collectable) -> None:
        """What entries refer to that were made or used since we began is live."""
        await self._settle()  # whoever removed an entry: others collect, too
        async for entries in batches(rows.rows(self._fresh_s)):
            if isinstance(rows, Revivable):
                entries += await self._revive(rows, [entry.key for entry in entries if not entry.values])
            await self._note(entries, Standing.LIVE)

    async def _revive(self, rows: Revivable, keys: Sequence[Digest]) -> list[AssocEntry]:
        """Give entries back that an original program has looked up while we removed them."""
        lost = await self._state.removed(keys)
        if len(lost) < len(keys):
            cause = (
                f"{len(keys) - len(lost)} entries in use were removed by somebody else, what they refer to"
                " is not known: no object is removed; collect again after an hour"
            )
            raise ReflowError(ErrorKind.PRECONDITION, "collect", cause=cause)
        self.entries.revived += await rows.revive(lost)
        return lost

    async def _settle(self) -> None:
        """Let what others have begun become visible."""
        if self._scope.settle_s:
            await self._sleep(self._scope.settle_s)

    # Objects.

    async def collect_objects(self) -> None:
        """Remove objects that nothing live refers to, after `scan`.

        Raises PRECONDITION when it seems that the index is not that of these objects.
        """
        if self._scope.is_shared and not self._request.dry_run:
            self._check_belonging()
        limits = ObjectLimits(
            self._request.threshold_s, min(self._scope.in_use_since_s, self._now_s - GRACE_S)
        )
        await collect_objects(
            self._scope.place,
            self._state.references.load,
            limits,
            self.objects,
            dry_run=self._request.dry_run,
            progress=lambda: self._progress.tell(
                f"{self.objects.objects} objects looked at, {self.objects.removed} removed"
            ),
        )
        if self.objects.removed and self._scope.assoc is not None and not self._request.dry_run:
            await self._settle()
            await self._undo(self._collectable)

    def _check_belonging(self) -> None:
        """With a wrong table all would be garbage."""
        counts = self.entries
        if not counts.scanned:
            doubt = "the index has no entries"
        elif self._lost > self._found:
            doubt = f"of {self._lost + self._found} value objects {self._lost} are not in the repository"
        else:
            return
        cause = (
            f"{doubt}: no object is removed; see that assoc and repository belong together"
            " (a dry run tells what it would be)"
        )
        raise ReflowError(ErrorKind.PRECONDITION, "collect", cause=cause)

    async def _undo(self, rows: Collectable) -> None:
        """Take out what was written meanwhile, on the strength of an object that has gone."""
        async for entries in batches(rows.rows(self._fresh_s)):
            noted = await self._state.notes({each for entry in entries for each in entry.values.values()})
            for entry in entries:
                doubtful = {
                    value: kind for kind, value in entry.values.items() if noted.get(value, 0) < Standing.HELD
                }
                if doubtful and not await self._is_whole(doubtful):
                    self.entries.undone += await rows.delete_unused([entry])

    async def _is_whole(self, values: Mapping[Digest, Kind]) -> bool:
        """Whether the objects of an entry are there."""
        files = await self._read(values)
        if len(files) < len(values):
            return False
        try:
            for digest in {each for found in files.values() for each in found}:
                await self._scope.repository.stat(digest)
        except ReflowError as err:
            if kind_of(err) is not ErrorKind.NOT_EXIST:
                raise
            return False
        return True
