"""Removing objects that nothing refers to: the decision, and what a place of objects must be able to do.

Objects are looked at in 256 bins by the first byte of their digests, so that what refers to them need not be
in memory all at once. What was of use lately is never removed, whatever refers to it: somebody may be about
to.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.disk.digestbins import BINS
from reflow.repository.gather import first_of
from reflow.repository.objectdir import ObjectDirectory, StoredObject

GRACE_S = 86400.0
"""How long everything stays that was of use."""

_BINS_AT_ONCE = 8
_REMOVED_AT_ONCE = 1000


class Standing(enum.IntEnum):
    """What refers to an object; the highest counts."""

    DEAD = 1
    """Entries that go whatever their age."""
    HELD = 2
    """Entries that would go, but may be in use."""
    LIVE = 3
    RECORDED = 4
    """The record of runs: these are none of the cache's."""


class Fate(enum.Enum):
    """What is to become of an object."""

    STAYS = enum.auto()
    HELD = enum.auto()
    GOES = enum.auto()


@dataclass(frozen=True, slots=True)
class ObjectLimits:
    """Times of last use (Unix seconds): objects go up to ``threshold_s``, dead ones whenever that was.

    None goes that was of use after ``in_use_s``.
    """

    threshold_s: float
    in_use_s: float

    def decide(self, each: StoredObject, standing: int) -> Fate:
        """What becomes of an object."""
        if standing >= Standing.LIVE or (each.changed_s > self.threshold_s and standing != Standing.DEAD):
            return Fate.STAYS
        if standing == Standing.HELD or each.changed_s > self.in_use_s:
            return Fate.HELD
        return Fate.GOES


@dataclass(slots=True)
class Collected:
    """How many objects there were, and how many of them (and bytes) were, or would be, removed.

    ``held`` are those that would go, but may be in use. ``recorded`` are of the record of runs: they are
    not counted as ``objects``.
    """

    objects: int = 0
    removed: int = 0
    removed_bytes: int = 0
    held: int = 0
    held_bytes: int = 0
    recorded: int = 0


class ObjectPlace(Protocol):
    """Where objects are that may be collected."""

    def objects(self, number: int) -> AsyncIterator[StoredObject]:
        """The objects whose digests begin with a byte, with the time at which they were last of use."""
        ...

    async def remove(self, objects: Sequence[StoredObject]) -> Sequence[StoredObject]:
        """Remove objects that nobody needs; those that were, and not used again since they were listed."""
        ...


async def collect_objects(
    place: ObjectPlace,
    standings: Callable[[int], Mapping[Digest, int]],
    limits: ObjectLimits,
    found: Collected,
    *,
    dry_run: bool,
    progress: Callable[[], None],
) -> None:
    """Remove what `ObjectLimits` says; ``standings`` gives those of a bin. Counts in ``found`` as it goes.

    May run while others use the place, and again after it was interrupted.
    """
    numbers = iter(range(BINS))

    async def some() -> None:
        for number in numbers:
            await _collect_bin(place, number, standings(number), limits, found, dry_run=dry_run)
            progress()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_BINS_AT_ONCE):
                group.create_task(some())
    except* ReflowError as errors:
        raise first_of(errors) from errors


async def _collect_bin(
    place: ObjectPlace,
    number: int,
    standings: Mapping[Digest, int],
    limits: ObjectLimits,
    found: Collected,
    *,
    dry_run: bool,
) -> None:
    going: list[StoredObject] = []

    async def remove() -> None:
        removed = going if dry_run else await place.remove(going)
        found.removed += len(removed)
        found.removed_bytes += sum([each.size for each in removed])
        going.clear()

    async for each in place.objects(number):
        standing = standings.get(each.digest, 0)
        if standing == Standing.RECORDED:
            found.recorded += 1
            continue
        found.objects += 1
        match limits.decide(each, standing):
            case Fate.GOES:
                going.append(each)
                if len(going) == _REMOVED_AT_ONCE:
                    await remove()
            case Fate.HELD:
                found.held += 1
                found.held_bytes += each.size
            case Fate.STAYS:
                pass
    if going:
        await remove()


class FileObjects:
    """The objects of a directory.

    An object's time of change of state (ctime) tells when it was last of use: it is set when the object is
    made, linked into an exec's directory, or stored again (`ObjectDirectory.is_intact`).
    """

    def __init__(self, directory: ObjectDirectory) -> None:
        self._directory = directory

    async def objects(self, number: int) -> AsyncIterator[StoredObject]:
        """The objects whose digests begin with a byte."""
        for each in await asyncio.to_thread(lambda: list(self._directory.objects_in(f"{number:02x}"))):
            yield each

    async def remove(self, objects: Sequence[StoredObject]) -> Sequence[StoredObject]:
        """Remove objects that were not of use since."""
        return await asyncio.to_thread(lambda: [each for each in objects if self._remove_unused(each)])

    def _remove_unused(self, each: StoredObject) -> bool:
        try:
            if os.stat(self._directory.path(each.digest)).st_ctime > each.changed_s:
                return False
        except FileNotFoundError:
            return False
        return self._directory.remove(each.digest)


def prune(directory: ObjectDirectory) -> None:
    """Remove the directories of objects that are empty. One that is needed again is made again."""
    for first in range(256):
        with contextlib.suppress(OSError):
            os.rmdir(f"{directory.root}/{first:02x}")
